# SPDX-License-Identifier: Apache-2.0
"""Formats move by `upgrade commit` alone.

Goal: a group whose metadata is of the version before lives on in it, whatever is started over it;
after `upgrade commit` at both sites it has a dirty map, a loss of the ring costs a compare of what
was marked, and no byte is lost. It is refused while the metadata is in use, or after an unclean
stop. Method: the version before is made of the present one here, by SPEC.md §6 alone (the hash is
written anew, too), over real daemons.
"""
import json
import os
import struct

from test_equal_again import assert_equal, dirty_map
from test_verbs import SMALL, write_some

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
                      0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
SLOT, VOLUMES, DROPPED = 16384, 6048, 1948


def rotl(x, r):
    return (x << r | x >> (64 - r)) & MASK


def lane(acc, word):
    return rotl((acc + word * P2) & MASK, 31) * P1 & MASK


def xxh64(data):
    """Of whole 8-byte words, 32 bytes at least, seed 0."""
    v = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
    at = 0
    for at in range(0, len(data) - 31, 32):
        for i in range(4):
            v[i] = lane(v[i], struct.unpack_from('<Q', data, at + 8 * i)[0])
    at = len(data) // 32 * 32
    h = sum(rotl(x, r) for x, r in zip(v, (1, 7, 12, 18))) & MASK
    for x in v:
        h = ((h ^ lane(0, x)) * P1 + P4) & MASK
    h = (h + len(data)) & MASK
    for i in range(at, len(data), 8):
        h = (rotl(h ^ lane(0, struct.unpack_from('<Q', data, i)[0]), 27) * P1 + P4) & MASK
    for shift, prime in ((33, P2), (29, P3), (32, 1)):
        h = (h ^ h >> shift) * prime & MASK
    return h


def version_before(path):
    """Both slots as version 1, and zeroes where the map was."""
    with open(path, 'r+b') as f:
        for at in (0, SLOT):
            f.seek(at)
            slot = bytearray(f.read(SLOT))
            if not any(slot):
                continue
            assert xxh64(slot[:-8]) == struct.unpack('<Q', slot[-8:])[0], 'this hash is wrong'
            struct.pack_into('<I', slot, 8, 1)
            flags = struct.unpack_from('<I', slot, 24)[0]
            assert flags < 1024, f'flags {flags:#x} are none of version 1'
            struct.pack_into('<I', slot, 356, 0)
            struct.pack_into('<QIIQ', slot, 384, 0, 0, 0, 0)
            assert struct.unpack_from('<I', slot, DROPPED)[0] == 0
            for i in range(64):
                struct.pack_into('<Q', slot, VOLUMES + 96 * i + 72, 0)
            struct.pack_into('<Q', slot, SLOT - 8, xxh64(slot[:-8]))
            f.seek(at)
            f.write(slot)
        size = f.seek(0, os.SEEK_END)
        f.seek(2 * SLOT)
        f.write(bytes(size - 2 * SLOT))


def upgrade(cluster, site, what, expect=0):
    r = cluster.hikae(site, 'upgrade', what, '--json', check=False)
    assert r.returncode == expect, f'upgrade {what}: exit {r.returncode}: {r.stdout}'
    return json.loads(r.stdout[r.stdout.index('{'):])['files'] if expect == 0 else r.stdout


def stop_all(cluster):
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15, timeout=20)


def test_upgrade_commit(cluster_of):
    cluster = cluster_of(mode='sync', policy='continue', region_bytes=65536, **SMALL)
    cluster.create()
    for site in (cluster.tokyo, cluster.osaka):
        version_before(site.dir / 'core.md')
    cluster.start(create=False)
    write_some(cluster, 3)
    # Started over it, written to, stopped: it is still what it was.
    for site in (cluster.tokyo, cluster.osaka):
        files = upgrade(cluster, site, 'show')
        assert [f['version'] for f in files] == [1], files
        assert 'HKE1042E' in upgrade(cluster, site, 'commit', expect=2)
    cluster.plugin.kill()
    assert 'HKE1052E' in upgrade(cluster, cluster.tokyo, 'commit', expect=2)
    cluster.start_plugin()
    cluster.wait_healthy()
    write_some(cluster, 2)
    cluster.wait_caught_up()
    stop_all(cluster)
    for site in (cluster.tokyo, cluster.osaka):
        before = upgrade(cluster, site, 'commit')
        assert [f['before'] for f in before] == [1], before
        again = upgrade(cluster, site, 'commit')
        assert [(f['before'], f['version']) for f in again] == [(2, 2)], again
    found = dirty_map(cluster)
    assert found['verdict'].startswith('sound') and found['clean'] == found['regions'] > 0, found
    cluster.start(create=False)
    write_some(cluster, 3)
    # Now a lost ring costs a compare of what was marked, and no more.
    cluster.kill_site()
    os.unlink(cluster.ring)
    cluster.start_plugin()
    cluster.primary.start()
    cluster.wait_healthy(90)
    write_some(cluster, 1)
    assert_equal(cluster)
    cluster.assert_nobody_died()
