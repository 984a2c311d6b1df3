# SPDX-License-Identifier: Apache-2.0
"""Metadata at the end of the origin.

Goal: with `metadata = "end"` a group lives as with a file of its own, over kills and a lost ring,
and never a byte of the volume's own is touched; whoever else needs the origin's end is named and
keeps it. Method: the real daemons over images that are larger than their volumes; file systems
made by their own tools and checked by them afterwards.
"""
import json
import os

from harness import MIB, run, wait_until
from test_verbs import write_some

ROOM = 2 * MIB


def at_end(cluster, room=ROOM):
    conf = cluster.tokyo.conf
    text = conf.read_text()
    conf.write_text(text.replace(f'metadata = "{cluster.tokyo.dir}/core.md"', 'metadata = "end"'))
    name, size = cluster.volumes[0]
    image = cluster.tokyo.dir / f'{name}.img'
    os.truncate(image, size + room)
    return image, size


def dump(cluster):
    out = cluster.hikae(cluster.tokyo, 'dump', '--check', '--json', 'end').stdout
    return json.loads(out[out.index('{'):])['dirty_map']


def test_lives_at_the_end(cluster_of, stamper_of):
    cluster = cluster_of(mode='sync', policy='continue', data_mib=16, wal_mib=8, region_bytes=65536)
    image, size = at_end(cluster)
    cluster.start()
    stamper = stamper_of(cluster.uris(), rate=100)
    stamper.wait_progress()
    cluster.kill_site()
    os.unlink(cluster.ring)  # what was marked is all that tells what to compare
    left = dump(cluster)
    assert left['verdict'].startswith('sound') and left['hot'] > 0, left
    cluster.start_plugin()
    cluster.primary.start()
    cluster.wait_healthy(90)
    stamper.stop()
    # To the volume's very last byte, and not beyond.
    write_some(cluster, size // MIB)
    cluster.wait_caught_up(60)
    cluster.assert_nobody_died()
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15)
    with open(image, 'rb') as a, open(cluster.osaka.dir / 'data.img', 'rb') as b:
        assert a.read(size) == b.read()
    now = dump(cluster)
    assert now['verdict'].startswith('sound') and now['stale'] == 0, now
    # The origin is made smaller than its volume and the metadata need: said, and nothing served.
    os.truncate(image, size)
    cluster.nbd_socket.unlink(missing_ok=True)
    cluster.plugin.start()
    wait_until('the plugin to give up', lambda: cluster.plugin.died(), 20)
    assert 'HKE3053E' in cluster.plugin.tail()


def blank(image, size):
    os.truncate(image, 0)
    os.truncate(image, size)


def create(cluster, *options):
    r = cluster.hikae(cluster.tokyo, 'create-md', *options, check=False)
    return r.returncode, r.stdout


def test_who_else_is_there(cluster_of):
    cluster = cluster_of(data_mib=320, wal_mib=8)
    image, size = at_end(cluster, 0)
    code, out = create(cluster, '--force')
    assert code == 2 and 'HKE1046E' in out and 'at most' in out, out
    os.truncate(image, size + ROOM)

    blocks = (size + ROOM) // 4096
    begin = None
    for mkfs, small, check in (
            (['mkfs.ext4', '-q', '-F', '-b', '4096', image], [str(size // 4096)],
             ['e2fsck', '-fn', image]),
            (['mkfs.xfs', '-q', '-f', image], ['-d', f'size={size}'], ['xfs_repair', '-n', image]),
            (['mkfs.btrfs', '-q', '-f', image], ['-b', str(size)],
             ['btrfs', 'check', '--readonly', image])):
        blank(image, size + ROOM)
        run(*mkfs)
        for options in ([], ['--force']):
            code, out = create(cluster, *options)
            assert code == 2 and 'HKE1046E' in out and 'file system that ends at' in out, out
        begin = int(out.split('would begin at ')[1].split(';')[0])
        run(*check)
        # One that ends before the metadata begins keeps every byte.
        blank(image, size + ROOM)
        run(*mkfs, *small)
        code, out = create(cluster)
        assert code == 0 and 'at its end' in out, out
        run(*check)
        code, out = create(cluster)
        assert code == 2 and 'HKE1040E' in out, out
    assert begin and size <= begin < blocks * 4096

    blank(image, size + ROOM)
    with open(image, 'r+b') as f:
        f.seek(size + ROOM - 5000)
        f.write(b'somebody')
    code, out = create(cluster)
    assert code == 2 and 'nothing tells whose' in out, out
    with open(image, 'rb') as f:
        f.seek(size + ROOM - 5000)
        assert f.read(8) == b'somebody'
    assert create(cluster, '--force')[0] == 0
    for magic, name in ((b'EFI PART', 'GPT'), (b'\xfc\x4e\x2b\xa9', 'MD array')):
        blank(image, size + ROOM)
        with open(image, 'r+b') as f:
            f.seek(size + ROOM - (512 if name == 'GPT' else 8192))
            f.write(magic)
        code, out = create(cluster, '--force')
        assert code == 2 and name in out, out
