# SPDX-License-Identifier: Apache-2.0
"""A promoted side serves over the map that the promotion left it.

Goal: after a failover the capture side of the promoted site takes writes at once, under `block`
too, over a dirty map of its own that says stale everywhere; also after it was killed and its ring
lost. The lost site comes back as a standby, is compared as a whole, and both are equal and in sync.
Method: the primary site is killed, osaka promoted, a plugin started over its replicas and
core-primary.md; times are measured, contents read back, the map judged offline.
"""
import json
import os
import time

import pytest

from harness import MIB, run, tool, wait_until
from test_verbs import SMALL, write_some


def dump(cluster):
    out = run(tool('hikae'), 'dump', '--check', '--json',
              cluster.osaka.dir / 'core-primary.md').stdout
    return json.loads(out[out.index('{'):])


def serve(cluster):
    """A plugin over osaka's replicas, as hikae-failover(8) says."""
    ring = f'/dev/shm/hikae-e2e-{cluster.tag}-b.ring'
    origins = ', '.join(f'{{ volume = "{n}"; path = "{cluster.osaka.dir}/{n}.img"; }}'
                        for n, _ in cluster.volumes)
    conf = cluster.work / 'osaka-capture.conf'
    conf.write_text(cluster.osaka.conf.read_text() + (
        f'capture = {{ socket = "{cluster.work}/osaka.cap"; ring = "{ring}"; ring-slots = 4096; '
        f'ring-payload = {4 * MIB}L; metadata = "{cluster.osaka.dir}/core-primary.md"; '
        f'origins = ( {origins} ); }};\n'))
    cluster.plugin = cluster._process(cluster.osaka, 'nbdkit-osaka', 'nbdkit', '-f', '-U',
                                      cluster.nbd_socket, '-t', '24',
                                      tool('nbdkit-hikae-plugin.so'),
                                      f'group={cluster.group_conf}', f'site={conf}')
    return ring


@pytest.mark.parametrize('policy', ['block', 'continue'])
def test_promoted_side_writes_at_once(cluster_of, policy):
    cluster = cluster_of(mode='sync', policy=policy, region_bytes=65536, contact_timeout_ms=8000,
                         **SMALL).start()
    write_some(cluster, 2)
    cluster.kill_site()
    cluster.hikae(cluster.osaka, 'failover', '--yes')
    before = dump(cluster)
    assert before['dirty_map']['verdict'].startswith('sound'), before
    ring = serve(cluster)
    try:
        cluster.start_plugin()
        for life in range(2):
            began = time.monotonic()
            write_some(cluster, 6)  # more than the ring holds
            took = time.monotonic() - began
            assert took < 6, f'life {life}: {took:.1f} s, T is 8 s: it waited for a standby'
            written = (cluster.work / f'random-{6 * MIB}').read_bytes()
            cluster.plugin.kill()
            os.unlink(ring)
            with open(cluster.osaka.dir / 'data.img', 'rb') as f:
                assert f.read(len(written)) == written
            now = dump(cluster)['dirty_map']
            assert now['verdict'].startswith('sound'), now
            assert now['stale'] == now['regions'] > 0 and now['clean'] == 0, now
            cluster.start_plugin()
        assert 'HKE3064E' not in cluster.plugin.tail(200)  # barred
    finally:
        cluster.plugin.kill()
        if os.path.exists(ring):
            os.unlink(ring)
    wait_until('the daemon', lambda: cluster.status(cluster.osaka)['promoted'], 5)


def change_sides(cluster):
    """Site configurations with the roles exchanged; tokyo's metadata as a standby is new."""
    ring = f'/dev/shm/hikae-e2e-{cluster.tag}-b.ring'

    def paths(key, site):
        rows = ', '.join(f'{{ volume = "{n}"; path = "{site.dir}/{n}.img"; }}'
                         for n, _ in cluster.volumes)
        return f'{key} = ( {rows} );'

    for site, role in ((cluster.osaka, 'primary'), (cluster.tokyo, 'standby')):
        text = site.conf.read_text()
        begin = text.index('capture = {' if 'capture = {' in text else 'standby = {')
        head = text[:begin].replace('role = "primary"', 'role = "?"').replace(
            'role = "standby"', 'role = "?"').replace('role = "?"', f'role = "{role}"')
        link = text[text.index('link = {'):]
        if role == 'primary':
            part = (f'capture = {{ socket = "{cluster.work}/osaka.cap"; ring = "{ring}"; '
                    f'ring-slots = 4096; ring-payload = {4 * MIB}L; '
                    f'metadata = "{site.dir}/core-primary.md"; {paths("origins", site)} }};\n')
        else:
            (site.dir / 'journal').mkdir()
            part = (f'standby = {{ metadata = "{site.dir}/standby.md"; '
                    f'primary-metadata = "{site.dir}/standby-primary.md"; '
                    f'journal = "{site.dir}/journal"; journal-mib = 96; segment-mib = 16; '
                    f'window-mib = 32; apply-mib = 16; {paths("replicas", site)} }};\n')
        site.conf.write_text(head + part + link)
    return ring


@pytest.mark.parametrize('policy', ['block', 'continue'])
def test_new_standby_of_a_promoted_side(cluster_of, policy):
    """The site that was lost comes back empty-handed, as a standby: compared as a whole, equal."""
    cluster = cluster_of(mode='sync', policy=policy, region_bytes=65536, **SMALL).start()
    write_some(cluster, 2)
    cluster.kill_site()
    cluster.hikae(cluster.osaka, 'failover', '--yes')
    cluster.standby.kill(sig=15)
    ring = change_sides(cluster)
    cluster.hikae(cluster.tokyo, 'create-md')
    cluster.plugin = cluster._process(cluster.osaka, 'nbdkit-osaka', 'nbdkit', '-f', '-U',
                                      cluster.nbd_socket, '-t', '24',
                                      tool('nbdkit-hikae-plugin.so'),
                                      f'group={cluster.group_conf}', f'site={cluster.osaka.conf}')
    try:
        cluster.start_plugin()
        write_some(cluster, 3)
        cluster.primary.start()  # tokyo's daemon, a standby now
        cluster.standby.start()
        cluster.wait_status(cluster.osaka, 60, session='up', in_sync=True, role='primary')
        write_some(cluster, 1)
        wait_until('everything applied', lambda: (lambda s: s['applied'] == s['produced'])(
            cluster.status(cluster.osaka)), 30)
        for p in (cluster.plugin, cluster.primary, cluster.standby):
            p.kill(sig=15)
        for a, b in zip(cluster.images(cluster.osaka), cluster.images(cluster.tokyo)):
            assert a.read_bytes() == b.read_bytes(), a.name
        assert dump(cluster)['dirty_map']['stale'] == 0
    finally:
        cluster.plugin.kill()
        if os.path.exists(ring):
            os.unlink(ring)
