# SPDX-License-Identifier: Apache-2.0
"""A standby made from images that travelled.

Goal: after `seed export` beside a writing application and `seed import`, both copies become equal
though far fewer bytes than the volumes hold crossed the line; an export that was cut off goes on
where it was; a seed that is cut off, changed, or of another group is refused by name, and nothing
is lost by trying. Method: the real daemons; random content; the line's own counters; images by
hash.
"""
import hashlib
import json
import os
import random
import shutil
import threading

import pytest

from harness import MIB, run, tool, wait_until
from test_equal_again import dirty_map
from test_verbs import uri

PIECE = 16 * MIB


def fill(cluster):
    """Random bytes; every third piece is nothing but zeroes."""
    rng = random.Random(5)
    for path in cluster.images(cluster.tokyo):
        with open(path, 'r+b') as f:
            for at in range(0, path.stat().st_size, MIB):
                f.write(bytes(MIB) if at // PIECE % 3 == 1 else rng.randbytes(MIB))


def prepare(cluster):
    """Metadata: the primary's relative to a seed, the standby's blank."""
    cluster.create(assume_equal=False)
    cluster.hikae(cluster.tokyo, 'create-md', '--seed', '--force')


def seed(cluster, site, what, where, expect=0):
    r = run(tool('hikae'), 'seed', what, str(where), '--json', '--group', cluster.group_conf,
            '--site', site.conf, check=False, timeout=120)
    assert r.returncode == expect, f'seed {what}: exit {r.returncode}: {r.stdout}'
    return json.loads(r.stdout[r.stdout.index('{'):]) if expect == 0 else r.stdout


def hashes(cluster, site):
    return [hashlib.sha256(p.read_bytes()).hexdigest() for p in cluster.images(site)]


def received(cluster):
    out = run('ip', '-n', cluster.osaka.ns, '-s', '-j', 'link', 'show', 'wan0').stdout
    return json.loads(out)[0]['stats64']['rx']['bytes']


class Writer:
    """Writes random bytes to the volume's beginning until it is stopped."""

    def __init__(self, cluster, mib=2):
        self.cluster, self.mib, self.rounds = cluster, mib, 0
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        source = self.cluster.work / 'writer'
        while not self.end.is_set():
            source.write_bytes(os.urandom(self.mib * MIB))
            run('nbdcopy', '--flush', source, uri(self.cluster, 'data'))
            self.rounds += 1

    def stop(self):
        self.end.set()
        self.thread.join()


@pytest.mark.parametrize('lost_ring', [False, True])
def test_seeded_standby(cluster_of, lost_ring):
    """Export beside a writer, behind and all; import; only what was written crosses the line."""
    cluster = cluster_of(mode='sync', policy='continue', data_mib=96, wal_mib=16,
                         ring_payload_mib=4, region_bytes=65536)
    fill(cluster)
    prepare(cluster)
    medium = cluster.work / 'medium'
    cluster.start_plugin()
    writer = Writer(cluster)
    wait_until('a first round of writes', lambda: writer.rounds > 0, 30)
    out = seed(cluster, cluster.tokyo, 'export', medium)
    rounds = writer.rounds
    wait_until('more writes after the export', lambda: writer.rounds > rounds + 2, 60)
    writer.stop()
    if lost_ring:  # the machine went down on the seed's journey: what was marked is stale
        cluster.plugin.kill()
        os.unlink(cluster.ring)
        cluster.start_plugin()
        writer = Writer(cluster, mib=1)
        wait_until('writes after the reboot', lambda: writer.rounds > 1, 60)
        writer.stop()
    assert out['state'] == 'exported' and out['resumed_pieces'] == 0
    assert out['zero_bytes'] == 2 * PIECE
    assert out['tracked_from_lsn'] <= out['begin_lsn'] <= out['end_lsn']
    took = seed(cluster, cluster.osaka, 'import', medium)
    assert took['written_bytes'] + took['kept_bytes'] == 112 * MIB
    again = seed(cluster, cluster.osaka, 'import', medium, expect=2)
    assert 'HKE3216E' in again, again
    # What is left to be looked at is what was written, not the volumes.
    left = dirty_map(cluster)
    assert 0 < left['stale'] + left['hot'] < left['regions'] // 8, left
    before = received(cluster)
    cluster.start(create=False, wait=False, plugin=False)
    cluster.wait_healthy(90)
    cluster.wait_caught_up(60)
    shipped = received(cluster) - before
    assert shipped < 24 * MIB, f'{shipped} bytes crossed the line'
    cluster.assert_nobody_died()
    assert 'HKE3106W' not in cluster.events(cluster.tokyo)  # no compare of everything
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15)
    assert hashes(cluster, cluster.tokyo) == hashes(cluster, cluster.osaka)
    print(f'{shipped} bytes for volumes of {112 * MIB}')


def test_export_goes_on(cluster_of):
    """Cut off in the middle of a line of its manifest, it goes on behind the last whole one."""
    cluster = cluster_of(data_mib=96, wal_mib=16)
    fill(cluster)
    prepare(cluster)
    medium = cluster.work / 'medium'
    seed(cluster, cluster.tokyo, 'export', medium)
    manifest = (medium / 'manifest').read_text().splitlines(keepends=True)
    head = [line for line in manifest if not line[0].isdigit()][:-2]
    pieces = [line for line in manifest if line[0].isdigit()]
    assert len(pieces) == 7
    (medium / 'manifest').unlink()
    (medium / 'manifest.partial').write_text(''.join(head + pieces[:4]) + pieces[4][:5])
    # Left by the run that was cut off; the fifth piece is nothing but zeroes.
    for name, at in (('data.img', 64 * MIB), ('data.img', 80 * MIB), ('wal.img', 0)):
        with open(medium / name, 'r+b') as f:
            f.seek(at)
            f.write(b'\xaa' * MIB)
    out = seed(cluster, cluster.tokyo, 'export', medium)
    assert out['resumed_pieces'] == 4
    again = [x for x in (medium / 'manifest').read_text().splitlines(keepends=True)
             if x[0].isdigit()]
    assert again == pieces
    seed(cluster, cluster.osaka, 'import', medium)
    assert hashes(cluster, cluster.tokyo) == hashes(cluster, cluster.osaka)


def damage(path, at, data=b'\x5a'):
    with open(path, 'r+b') as f:
        f.seek(at)
        f.write(data)


def test_bad_seeds(cluster_of):
    """Each kind of bad input has its own message; the standby stays what it was."""
    cluster = cluster_of(data_mib=32, wal_mib=16)
    fill(cluster)
    cluster.create(assume_equal=True)
    good = cluster.work / 'good'
    assert 'HKE3201E' in seed(cluster, cluster.tokyo, 'export', good, expect=2)
    for site in (cluster.tokyo, cluster.osaka):
        cluster.hikae(site, 'create-md', '--force', *(
            ['--seed'] if site is cluster.tokyo else []))
    assert 'HKE1045E' in cluster.hikae(cluster.osaka, 'create-md', '--force', '--seed',
                                       check=False).stdout
    seed(cluster, cluster.tokyo, 'export', good)
    assert 'HKE3203E' in seed(cluster, cluster.tokyo, 'export', good, expect=2)
    metadata = (cluster.osaka.dir / 'core.md').read_bytes()

    def refused(name, message, change, expect=2):
        bad = cluster.work / name
        shutil.copytree(good, bad)
        change(bad)
        out = seed(cluster, cluster.osaka, 'import', bad, expect=expect)
        assert message in out, f'{name}: {out}'
        assert (cluster.osaka.dir / 'core.md').read_bytes() == metadata, name

    def cut(path, bytes_):
        os.truncate(path, path.stat().st_size - bytes_)

    refused('no-manifest', 'HKE3210E', lambda d: (d / 'manifest').unlink(), expect=1)
    refused('cut-manifest', 'HKE3211E', lambda d: cut(d / 'manifest', 60))
    refused('changed-manifest', 'HKE3211E', lambda d: damage(d / 'manifest', 300))
    refused('cut-image', 'HKE3214E', lambda d: cut(d / 'wal.img', 4096))
    refused('no-image', 'HKE3214E', lambda d: (d / 'wal.img').unlink(), expect=1)
    refused('changed-image', 'HKE3215E', lambda d: damage(d / 'data.img', 5 * MIB))
    # What the replica holds already is not read from the medium, zeroes no less.
    damage(cluster.osaka.dir / 'data.img', PIECE, b'old')
    refused('filled-hole', 'HKE3215E', lambda d: damage(d / 'data.img', PIECE + 12345))

    conf = cluster.group_conf.read_text()
    group = conf.split('group-id = "')[1].split('"')[0]
    other = group[:-1] + ('0' if group[-1] != '0' else '1')
    cluster.group_conf.write_text(conf.replace(group, other))
    refused('other-group', 'HKE3212E', lambda d: None)
    cluster.group_conf.write_text(conf.replace(f'{32 * MIB}L', f'{33 * MIB}L'))
    refused('other-size', 'HKE3213E', lambda d: None)
    cluster.group_conf.write_text(conf)
    # And after all that the good one is taken: nothing was lost.
    seed(cluster, cluster.osaka, 'import', good)
    assert hashes(cluster, cluster.tokyo) == hashes(cluster, cluster.osaka)
