# SPDX-License-Identifier: Apache-2.0
"""Equal again by itself: the initial synchronisation, and a primary that lost its ring.

Goal: two sites whose volumes differ, by their past or because nobody knows what the last writes
reached, become equal without anybody's help while the application writes. Method: random content in
tokyo's images, other content in osaka's, metadata without --assume-equal; or the ring deleted
behind a killed primary. Afterwards the images are compared byte by byte, and the map must be clean.
(Behind and back: test_resync.py.)
"""
import json
import os
import random

from harness import run, tool
from test_verbs import SMALL, events, write_some


def differ(cluster, rng):
    """Tokyo full of random bytes; osaka has some of them, some others, and zeroes."""
    for name, size in cluster.volumes:
        with open(cluster.tokyo.dir / f'{name}.img', 'r+b') as a, \
                open(cluster.osaka.dir / f'{name}.img', 'r+b') as b:
            for _ in range(0, size, 1 << 20):
                block = rng.randbytes(1 << 20)
                a.write(block)
                how = rng.randrange(3)
                b.write(block if how == 0 else rng.randbytes(1 << 20) if how == 1
                        else bytes(1 << 20))


def assert_equal(cluster):
    cluster.wait_caught_up()
    for name, _ in cluster.volumes:
        a = (cluster.tokyo.dir / f'{name}.img').read_bytes()
        b = (cluster.osaka.dir / f'{name}.img').read_bytes()
        at = next((i for i in range(0, len(a), 4096) if a[i:i + 4096] != b[i:i + 4096]), None)
        assert at is None and len(a) == len(b), f'{name} differs at {at}'
    d = run(tool('hikae'), 'dump', '--check', cluster.tokyo.dir / 'core.md').stdout
    assert 'stale: 0 ' in d, d


def test_initial_sync(cluster_of):
    cluster = cluster_of(**SMALL)
    differ(cluster, random.Random(7))
    cluster.create(assume_equal=False)
    cluster.start(wait=False, create=False)
    write_some(cluster, 3)
    cluster.wait_healthy(timeout=90)
    write_some(cluster, 3)
    assert_equal(cluster)
    cluster.assert_nobody_died()


def dirty_map(cluster):
    out = run(tool('hikae'), 'dump', '--check', '--json', cluster.tokyo.dir / 'core.md').stdout
    return json.loads(out[out.index('{'):])['dirty_map']


def test_primary_lost_its_ring(cluster_of, stamper_of):
    """The machine went down: the ring is gone. What was marked is compared, and no more."""
    cluster = cluster_of(policy='continue', region_bytes=65536, **SMALL).start()
    stamper = stamper_of(cluster.uris(), rate=50)
    stamper.wait_progress()
    cluster.kill_site()
    os.unlink(cluster.ring)
    left = dirty_map(cluster)
    assert left['verdict'].startswith('sound') and left['hot'] > 0 and left['stale'] == 0, left
    cluster.start_plugin()
    now = dirty_map(cluster)
    # Nothing that was marked is forgotten; what was not stays clean.
    assert now['stale'] + now['hot'] >= left['hot'] and now['clean'] > now['regions'] // 4, now
    cluster.primary.start()
    cluster.wait_healthy(timeout=90)
    stamper.stop()
    assert_equal(cluster)
    epochs = [e for e in events(cluster, cluster.osaka) if e['id'] == 'HKE4030I']
    assert 'gap-crash' in epochs[-1]['text'], epochs
