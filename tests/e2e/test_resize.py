# SPDX-License-Identifier: Apache-2.0
"""Volumes grow while they are in use.

Goal: `hikae resize` makes a volume larger at both sites, the replica first, without a write that
fails, without a compare, and with mode sync honoured throughout; what is new reads as zeroes on
both sides although both devices hold something else there; every size survives restarts; what can't
be done is refused with the reason. Method: the real daemons, replica and origin longer than the
volume from the start and full of junk, a client under load; images compared byte by byte and by the
client's own record at the end.
"""
import os
import signal
import subprocess
import time

from harness import MIB, judge, run, tool, wait_until


def junk(cluster, to_mib):
    """Both devices of `data` are larger than the volume and hold anything there."""
    for site in (cluster.tokyo, cluster.osaka):
        path = site.dir / 'data.img'
        with open(path, 'ab') as f:
            f.write(os.urandom(to_mib * MIB - path.stat().st_size))


def nbd_size(cluster, index=0):
    return int(run('nbdinfo', '--size', cluster.uris()[index]).stdout)


def volume_bytes(cluster, site, name='data'):
    return {v['name']: v['bytes'] for v in cluster.status(site)['volumes']}[name]


def refused(cluster, site, *argv):
    r = cluster.hikae(site, 'resize', *argv, check=False)
    assert r.returncode == 2, r.stdout
    return r.stdout


def finish(cluster, stamper, data_mib):
    summary = stamper.stop(60)
    assert summary['errors'] == 0 and summary['disconnects'] == 0
    cluster.wait_caught_up(60)
    cluster.assert_nobody_died()
    assert 'HKE3101I' not in cluster.events(cluster.tokyo), 'a compare was needed'
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15)
    for i, mib in enumerate((data_mib, 16)):
        a, b = (cluster.images(s)[i] for s in (cluster.tokyo, cluster.osaka))
        with open(a, 'rb') as x, open(b, 'rb') as y:
            assert x.read(mib * MIB) == y.read(mib * MIB), f'{a.name} differs'


def test_grows_under_load(cluster_of, stamper_of, rng):
    """Twice, the second time under load; refusals; restarts of everything keep the size."""
    cluster = cluster_of(mode='sync', policy='block', data_mib=16, wal_mib=16, max_mib=64)
    junk(cluster, 28)
    cluster.start()
    assert 'HKE3122W' in refused(cluster, cluster.osaka, 'data', '24M')
    assert 'never made smaller' in refused(cluster, cluster.tokyo, 'data', '8M')
    assert 'max-size' in refused(cluster, cluster.tokyo, 'data', '65M')
    assert 'multiple of 4096' in refused(cluster, cluster.tokyo, 'data', '17000000')
    assert 'PLAN' in cluster.hikae(cluster.tokyo, 'resize', '--plan', 'data', '24M').stdout
    assert nbd_size(cluster) == 16 * MIB
    out = cluster.hikae(cluster.tokyo, 'resize', '--json', 'data', '24M').stdout
    assert f'"bytes": {24 * MIB}' in out, out
    assert nbd_size(cluster) == 24 * MIB and nbd_size(cluster, 1) == 16 * MIB
    assert volume_bytes(cluster, cluster.tokyo) == 24 * MIB
    wait_until('the standby applying the size',
               lambda: volume_bytes(cluster, cluster.osaka) == 24 * MIB, 20)
    stamper = stamper_of(cluster.uris(), rate=600, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.hikae(cluster.tokyo, 'resize', 'data', '40M')
    assert cluster.status(cluster.tokyo)['in_sync'] is True
    stamper.wait_progress()
    assert nbd_size(cluster) == 40 * MIB
    for p in (cluster.standby, cluster.primary):
        p.kill()
        p.start()
    cluster.wait_healthy()
    assert volume_bytes(cluster, cluster.tokyo) == 40 * MIB
    wait_until('the standby keeping the size',
               lambda: volume_bytes(cluster, cluster.osaka) == 40 * MIB, 20)
    stamper.wait_progress()
    finish(cluster, stamper, 40)
    # The client knew 24 MiB of the volume.
    image = cluster.osaka.dir / 'data.img'
    with open(image, 'r+b') as f:
        f.truncate(24 * MIB)
    judge(stamper.log, cluster.images(cluster.osaka), '--mode', 'sync')


def test_no_standby_no_growth(cluster_of):
    """The replica grows first: without a session nothing does; no room there, and nothing here."""
    cluster = cluster_of(mode='sync', policy='continue', data_mib=16, wal_mib=16, max_mib=64)
    cluster.start()
    cluster.standby.kill()
    wait_until('the loss of contact',
               lambda: cluster.status(cluster.tokyo)['session'] != 'up' or
               not cluster.status(cluster.tokyo)['contact'], 20)
    assert 'no session' in refused(cluster, cluster.tokyo, 'data', '24M')
    assert nbd_size(cluster) == 16 * MIB
    cluster.standby.start()
    cluster.wait_healthy()
    cluster.hikae(cluster.tokyo, 'resize', 'data', '24M')
    assert nbd_size(cluster) == 24 * MIB


def test_killed_while_it_grows(cluster_of, rng):
    """Whoever is killed: the size is the old or the new one, both sites agree, a repeat ends it."""
    cluster = cluster_of(mode='sync', policy='continue', data_mib=16, wal_mib=16, max_mib=64)
    cluster.start()
    for mib in (20, 24, 28, 32):
        victim = rng.choice((cluster.plugin, cluster.standby, cluster.primary))
        verb = run_later(cluster, f'{mib}M')
        verb_killed(victim, rng)
        verb.wait(60)
        if victim is cluster.plugin:
            cluster.start_plugin()
        else:
            victim.start()
        cluster.wait_healthy(60)
        assert nbd_size(cluster) in ((mib - 4) * MIB, mib * MIB)

        def grown(mib=mib):
            r = cluster.hikae(cluster.tokyo, 'resize', 'data', f'{mib}M', check=False)
            assert r.returncode == 0, r.stdout
            return True
        wait_until(f'{mib} MiB', grown, 60)
        assert nbd_size(cluster) == mib * MIB
        wait_until('the standby following',
                   lambda mib=mib: volume_bytes(cluster, cluster.osaka) == mib * MIB, 20)
    cluster.assert_nobody_died()


def run_later(cluster, size):
    return subprocess.Popen([tool('hikae'), 'resize', '--group', str(cluster.group_conf), '--site',
                             str(cluster.tokyo.conf), 'data', size], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def verb_killed(victim, rng):
    time.sleep(rng.random() * 0.05)
    victim.kill(signal.SIGKILL)
