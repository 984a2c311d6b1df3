# SPDX-License-Identifier: Apache-2.0
"""A damaged superblock of the standby: said when it is found, while it lasts, and when it matters.

Method: the group runs in sync under `block`, so a loss of 0 is proven; then the primary's site
goes, the standby is killed and the newer of its two superblocks overwritten. What it says from then
on is held against what it can still know; in the second round the primary comes back first.
"""
import json
import os
import struct

import pytest

from harness import wait_until

SMALL = dict(data_mib=8, wal_mib=8, journal_mib=96)
SLOT = 16384


def damage_newer_slot(path):
    with open(path, 'r+b') as f:
        sequence = []
        for slot in range(2):
            f.seek(slot * SLOT + 16)
            sequence.append(struct.unpack('<Q', f.read(8))[0])
        f.seek(sequence.index(max(sequence)) * SLOT + 100)
        f.write(b'\xff' * 4096)
        f.flush()
        os.fsync(f.fileno())


def said(cluster, message):
    assert message in cluster.events(cluster.osaka), f'{message} is in no event'
    return True


@pytest.mark.parametrize('primary', ['lost', 'returns'])
def test_standby_in_doubt(cluster_of, stamper_of, primary):
    cluster = cluster_of(mode='sync', policy='block', **SMALL).start()
    stamper = stamper_of(cluster.uris(), rate=200)
    stamper.wait_progress()
    cluster.wait_status(cluster.osaka, loss_class='0, proven')
    osaka = cluster.osaka
    if primary == 'lost':
        cluster.kill_site()
        stamper.close()
    else:
        cluster.black_hole()
    cluster.standby.kill()
    damage_newer_slot(osaka.dir / 'core.md')
    cluster.standby.start()
    wait_until('the doubt is said', lambda: said(cluster, 'HKE4025W'), 20)
    s = cluster.wait_status(osaka, ready=True)
    assert 'in-doubt' in s['flags'] and s['loss_class'] == 'unknown since t0', s
    assert any(c.startswith('HKE4025W') for c in s['cause']), s['cause']
    if primary == 'returns':
        cluster.black_hole_end()
        wait_until('the doubt is over', lambda: said(cluster, 'HKE4026I'), 40)
        s = cluster.wait_status(osaka, loss_class='0, proven')
        assert 'in-doubt' not in s['flags']
        return
    cluster.wait_status(osaka, contact=False)
    out = cluster.hikae(osaka, 'failover', '--plan').stdout
    assert 'HKE4025W' in out and 'unknown' in out, out
    done = cluster.hikae(osaka, 'failover', '--json').stdout
    done = json.loads(done[done.index('{'):])
    assert done['in_doubt'] and done['loss_class'] == 'unknown since t0', done
    out = cluster.hikae(osaka, 'failover').stdout
    assert 'a superblock was found damaged and no primary met since' in out, out
