# SPDX-License-Identifier: Apache-2.0
"""The initial synchronisation, with real daemons.

Goal: two sites whose volumes hold different bytes become equal by themselves, while the application
writes, and no promotion is had before that. Method: random content in tokyo's images, other content
in osaka's; metadata without --assume-equal; afterwards the images are compared byte by byte.
"""
import random

from harness import run, tool
from test_verbs import SMALL, write_some


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


def test_initial_sync(cluster_of):
    cluster = cluster_of(**SMALL)
    differ(cluster, random.Random(7))
    cluster.create(assume_equal=False)
    cluster.start(wait=False, create=False)
    write_some(cluster, 3)
    cluster.wait_healthy(timeout=90)
    write_some(cluster, 3)
    cluster.wait_caught_up()
    for name, _ in cluster.volumes:
        a = (cluster.tokyo.dir / f'{name}.img').read_bytes()
        b = (cluster.osaka.dir / f'{name}.img').read_bytes()
        at = next((i for i in range(0, len(a), 4096) if a[i:i + 4096] != b[i:i + 4096]), None)
        assert at is None and len(a) == len(b), f'{name} differs at {at}'
    d = run(tool('hikae'), 'dump', '--check', cluster.tokyo.dir / 'core.md').stdout
    assert 'stale: 0 ' in d, d
    cluster.assert_nobody_died()
