# SPDX-License-Identifier: Apache-2.0
"""A resync that everything happens to.

Goal: whatever dies while regions are stale, the group ends equal and in sync again, the first pin
is kept until then, and a promotion in the middle of it is exactly the pinned state, also when the
standby is killed on its way back to it (I10). Method: the real daemons over DPDK under load; a cut
link makes the group go behind, a limit keeps the resync from ending before its hour; kills at
moments that the superblock on disk tells. The pinned state is built from the journal alone, by the
independent reader, and judged by the client's own record.
"""
import json
import os
import struct
import subprocess
import time

from harness import MIB, die_with_parent, judge, tool, wait_until
from test_resync import stopped_equal

STORY = dict(mode='sync', policy='continue', ring_payload_mib=4, data_mib=64, backend='dpdk',
             group_lines='pace-bound-ms = 2000;\n')
SLOT = 16384
ROLLING_BACK = 1 << 13


def flags_on_disk(site):
    """Of the newer superblock, as it lies on the disk."""
    best = (0, 0)
    with open(site.dir / 'core.md', 'rb') as f:
        for slot in range(2):
            f.seek(slot * SLOT + 16)
            best = max(best, struct.unpack('<QI', f.read(12)))
    return best[1]


def go_behind(cluster, stamper, mib):
    """The link is cut until so much may differ, by regions, and most of it does."""
    cluster.cut()
    cluster.wait_status(cluster.tokyo, 90, state='behind', in_sync=False)
    stamper.rate(0)

    def stale():
        s = cluster.status(cluster.tokyo)
        assert s['dirty_bytes'] >= mib * MIB, f'{s["dirty_bytes"]} stale'
        return s
    wait_until(f'{mib} MiB stale', stale, 90)
    stamper.wait_progress(64 * mib, 90)  # two events an operation, 32 KiB a write
    stamper.rate(200)


def begin_resync(cluster, limit='4M'):
    """Back in contact; the compare is slow enough to be met at it."""
    cluster.hikae(cluster.tokyo, 'resync', '--limit', limit)
    cluster.heal()
    cluster.wait_status(cluster.tokyo, 90, state='resync', session='up')

    def beyond_the_gap():
        # The tail of the old epoch may hold a resync of its own that ends at once.
        s = cluster.status(cluster.osaka)
        assert s['pinned'] and s['inconsistent'] and s['applied'] - s['pin_lsn'] > 1 << 30, s
        return s
    return wait_until('the pin', beyond_the_gap, 90)


def pinned(cluster, bytes=1):
    """In the middle of it: before-images of so many bytes are kept."""
    def enough():
        s = cluster.status(cluster.osaka)
        assert s['pinned'] and s['pin_bytes'] >= bytes, f'{s["pinned"]} {s["pin_bytes"]}'
        return s
    return wait_until(f'{bytes} bytes of before-images', enough, 90)


def session_up(cluster):
    wait_until('the session', lambda: cluster.status(cluster.tokyo)['session'] == 'up', 60)


def end_equal(cluster, stamper):
    """Healed and in sync; then stopped, compared, and judged by the client's record."""
    cluster.hikae(cluster.tokyo, 'resync', '--limit', '0')
    cluster.wait_healthy(180)
    stamper.wait_progress()
    s = cluster.wait_status(cluster.osaka, 30, pinned=False, inconsistent=False)
    assert s['pin_bytes'] == 0, s
    summary = stamper.stop(60)
    assert summary['errors'] == 0, summary
    return stopped_equal(cluster, stamper)


def test_both_killed_during_resync(cluster_of, stamper_of, rng):
    """Everything dies at one moment; the resync goes on, and the pin is still the first."""
    cluster = cluster_of(**STORY).start()
    stamper = stamper_of(cluster.uris(), block_max=65536, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    go_behind(cluster, stamper, 16)
    first = begin_resync(cluster)
    for number in range(2):
        pinned(cluster, (number + 1) * 256 * 1024)
        time.sleep(rng.uniform(0, 0.5))
        cluster.kill_site()
        cluster.standby.kill()
        cluster.standby.start()
        cluster.start_plugin()
        cluster.primary.start()
        cluster.hikae_again(cluster.tokyo, 'resync', '--limit', '4M')
        session_up(cluster)
        s = cluster.status(cluster.osaka)
        assert s['pin_lsn'] == first['pin_lsn'] and s['pin_epoch'] == first['pin_epoch'], s
        assert s['in_sync'] is False and s['loss_class'].startswith('unknown'), s
    print(f'both killed: {end_equal(cluster, stamper)} promised operations judged')


def test_primary_killed_during_resync(cluster_of, stamper_of, rng):
    """hikaed alone, the whole site, and the machine with its ring: an epoch by gap-crash."""
    cluster = cluster_of(**STORY).start()
    stamper = stamper_of(cluster.uris(), block_max=65536, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    go_behind(cluster, stamper, 16)
    first = begin_resync(cluster)
    for number, what in enumerate(('hikaed', 'site', 'machine')):
        pinned(cluster, (number + 1) * 256 * 1024)
        time.sleep(rng.uniform(0, 0.5))
        if what == 'hikaed':
            cluster.primary.kill()
        else:
            cluster.kill_site()
        if what == 'machine':
            os.unlink(cluster.ring)
        if what != 'hikaed':
            cluster.start_plugin()
        cluster.primary.start()
        cluster.hikae_again(cluster.tokyo, 'resync', '--limit', '4M')
        session_up(cluster)
        s = cluster.wait_status(cluster.osaka, 60, pinned=True, inconsistent=True)
        assert s['pin_lsn'] == first['pin_lsn'], (what, s['pin_lsn'], first['pin_lsn'])
    print(f'primary killed: {end_equal(cluster, stamper)} promised operations judged')
    events = cluster.work / 'osaka' / 'events.log'
    assert 'gap-crash' in events.read_text(), 'the lost ring began no epoch'


class Failover:
    """The verb in the background: its daemon is killed under it."""

    def __init__(self, cluster):
        self.child = subprocess.Popen(
            [tool('hikae'), 'failover', '--group', str(cluster.group_conf), '--site',
             str(cluster.osaka.conf), '--json', '--yes'], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=die_with_parent)

    def end(self):
        self.child.communicate(timeout=60)


def rollbacks(cluster):
    """How often a way back has begun."""
    log = cluster.osaka.dir / 'events.log'
    return log.read_text(errors='replace').count('HKE4045I')


def kill_rolling_back(cluster, when, rng):
    """Kills the standby on its way back to the pin; True: it had not arrived."""
    if when == 'durable':  # the moment it is on the disk
        happened = lambda: flags_on_disk(cluster.osaka) & ROLLING_BACK
    elif when == 'copying':
        before = rollbacks(cluster)
        happened = lambda: rollbacks(cluster) > before
    else:  # in the recovery of the life before
        happened = lambda: True
    wait_until(f'the way back ({when})',
               lambda: happened() or not flags_on_disk(cluster.osaka) & ROLLING_BACK
               and when != 'durable', 60, pause=0.0005)
    time.sleep({'durable': 0, 'copying': rng.uniform(0, 0.005)}.get(when, rng.uniform(0, 0.15)))
    cluster.standby.kill()
    return bool(flags_on_disk(cluster.osaka) & ROLLING_BACK)


def test_standby_killed_during_rollback(cluster_of, stamper_of, rng):
    """The primary is lost inside a resync, the failover is killed again and again on its way back
    to the pin, and what is promoted in the end is the pin, byte by byte."""
    cluster = cluster_of(**STORY).start()
    stamper = stamper_of(cluster.uris(), block_max=65536, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    go_behind(cluster, stamper, 48)
    begin_resync(cluster, '40M')
    pinned(cluster, 16 * MIB)
    cluster.kill_site()
    stamper.command('stop', 'stopping')
    stamper.wait(60)
    s = cluster.wait_status(cluster.osaka, 30, contact=False)
    assert s['pinned'] and s['loss_class'].startswith('unknown'), s
    plan = cluster.hikae(cluster.osaka, 'failover', '--plan').stdout
    assert 'unknown' in plan, plan
    images, _ = cluster.replay(f'--to-lsn {s["pin_lsn"]}', name='pin')
    judge(stamper.log, images, '--mode', 'async')
    met, verb = 0, Failover(cluster)
    for when in ('durable', 'start', 'copying', 'start', 'copying'):
        if not kill_rolling_back(cluster, when, rng):
            cluster.standby.start()
            break
        met += 1
        verb.end()
        cluster.standby.start()  # it goes on by itself: the promotion was durable
    done = cluster.wait_status(cluster.osaka, 60, promoted=True)
    assert met >= 2, f'only {met} kills met it on its way back'
    assert done['loss_class'].startswith('unknown') and not done['pinned'], done
    again = cluster.hikae(cluster.osaka, 'failover', '--json', '--yes').stdout
    again = json.loads(again[again.index('{'):])
    assert again['already'] and again['position'] == s['pin_lsn'], (again, s['pin_lsn'])
    assert again['loss_class'] == done['loss_class']
    cluster.assert_nobody_died()
    cluster.standby.kill(sig=15)
    for want, have in zip(images, cluster.images(cluster.osaka)):
        assert want.read_bytes() == have.read_bytes(), f'{have.name} is not the pinned state'
    out = judge(stamper.log, cluster.images(cluster.osaka), '--mode', 'async')
    print(f'rollback: killed {met} times on its way, the image is the pin at {s["pin_lsn"]:#x}; '
          f'{out.splitlines()[-1] if out else ""}')
