# SPDX-License-Identifier: Apache-2.0
"""kill -9 of everything, at random moments, under load, in all three modes.

Goal: whatever dies, nothing that was promised is lost and the order of writes is kept, across
volumes.
Method: a client with a full queue writes to both volumes; one process (or the whole primary site)
is killed with SIGKILL at a random moment; hk-replay rebuilds the standby's image from its journal
and hk-check judges it by the client's record alone:

  sync      every write acknowledged before the kill was judged is in the image (and order)
  semisync  the same if the standby lived: what it had in memory it must still have; else order
            only. Also order only if the machine was so slow that the group went degraded
            (on-link-loss = continue), as its metadata says; half of the rounds must have been
            judged in full
  async     order only: some prefix of the log

Every round says how many operations were in flight at the kill; at least 80 % of the rounds must
have had some. Each mode ends with the loss of the primary site and a promotion, after which
replicas, journal and origins are judged.
"""
import json
import time

import pytest

from harness import QUICK, judge, figure, wait_until

VICTIMS = ['primary', 'standby', 'plugin', 'site']
ROUNDS = 4 if QUICK else 12  # and one more: the promotion


def promise(cluster, victim):
    """What hk-check may demand of the standby's journal for all that was acknowledged until now."""
    if cluster.mode == 'sync':
        return 'sync'
    if cluster.mode == 'semisync' and victim != 'standby' and not cluster.degraded():
        return 'sync'
    return 'async'


def burst(stamper, rng):
    """A full queue for a random time, so that a random moment finds writes in flight."""
    stamper.rate(0)
    time.sleep(rng.uniform(0.05, 0.4))


def kill(cluster, victim):
    if victim == 'site':
        cluster.kill_site()
    else:
        getattr(cluster, victim).kill()


def bring_back(cluster, victim):
    if victim in ('plugin', 'site'):
        cluster.start_plugin()
    if victim in ('primary', 'site'):
        cluster.primary.start()
    if victim == 'standby':
        cluster.standby.start()


def settled(cluster):
    """The standby lives and has what it had taken into memory on its disk."""
    def same():
        s = cluster.status(cluster.osaka)
        assert s['durable'] == s['acked'], f'durable {s["durable"]} of {s["acked"]}'
        return s
    return wait_until('durable to reach acked', same, 10)


def one_round(cluster, stamper, number, victim, rng):
    """Kill, judge what the standby has, bring back.

    Returns what was in flight and how it was judged.
    """
    burst(stamper, rng)
    in_flight = stamper.note(f'k{number}')
    kill(cluster, victim)
    time.sleep(rng.uniform(0, 0.2))
    stamper.note(f'j{number}')
    mode = promise(cluster, victim)
    stamper.rate(200)  # or the ring is full before the standby is back
    if victim == 'standby':
        images, _ = cluster.replay()  # its journal lies still
    else:
        if cluster.mode == 'semisync' and victim in ('plugin', 'site', 'primary'):
            settled(cluster)
        images, _ = cluster.live_replay()
    log = stamper.copy(f'round{number}.log')
    options = ['--mode', mode] + (['--at-least', f'j{number}'] if mode == 'sync' else [])
    out = judge(log, images, *options)
    log.unlink()
    for image in images:
        image.unlink()
    bring_back(cluster, victim)
    cluster.wait_healthy()
    stamper.wait_progress()
    print(f'round {cluster.mode} {number}: {victim} killed, {in_flight} in flight, '
          f'{figure(out, "([0-9]+) promised durable")} promised, consistent')
    return in_flight, mode


def nothing_lost(cluster, stamper):
    """In every mode: what came back lost nothing, so once the standby has caught up it has all."""
    stamper.rate(1)
    cluster.wait_caught_up()
    stamper.note('quiet')
    images, _ = cluster.live_replay()
    out = judge(stamper.copy('quiet.log'), images, '--mode', 'sync', '--at-least', 'quiet')
    print(f'{cluster.mode}: after all returns nothing is lost, '
          f'{figure(out, "([0-9]+) promised durable")} promised')


def promote(cluster, stamper, rng):
    """The primary site is lost for good in full flight; the standby takes over."""
    burst(stamper, rng)
    in_flight = stamper.note('lost')
    cluster.kill_site()
    stamper_mode = promise(cluster, 'site')
    stamper.command('stop', 'stopping')
    summary = stamper.wait(60)
    cluster.wait_status(cluster.osaka, contact=False)
    began = time.monotonic()
    r = cluster.hikae(cluster.osaka, 'failover', '--json', '--yes', check=False)
    took = time.monotonic() - began
    assert r.returncode == 0, f'failover: exit {r.returncode}: {r.stdout}'
    status = cluster.status(cluster.osaka)
    assert status['promoted'] is True
    # Its capture side finds a map of its own, in which everything is stale towards everyone.
    dump = cluster.hikae(cluster.osaka, 'dump', '--check', '--json',
                         cluster.osaka.dir / 'core-primary.md').stdout
    found = json.loads(dump[dump.index('{'):])['dirty_map']
    assert found['verdict'].startswith('sound') and found['hot'] == found['clean'] == 0, found
    assert found['stale'] == found['regions'] > 0, found
    if cluster.mode == 'sync' and cluster.policy == 'block':
        assert status['loss_class'] == '0, proven'
    else:
        assert not status['loss_class'].startswith('0, proven'), status['loss_class']
    cluster.standby.kill(sig=15)
    out = judge(stamper.log, cluster.images(cluster.osaka), '--mode', stamper_mode)
    cluster.replay(compare=cluster.images(cluster.osaka), name='end')
    # The origins: acknowledged writes are there; what was in flight may be torn (no redo was run).
    judge(stamper.log, cluster.images(cluster.tokyo), '--mode', 'sync', '--torn-ok')
    print(f'round {cluster.mode} end: site lost, {in_flight} in flight, promoted in {took:.2f} s, '
          f'loss class "{status["loss_class"]}", consistent')
    assert summary['errors'] == 0, 'an I/O error reached the client'
    return in_flight


@pytest.mark.parametrize('mode,policy', [('sync', 'block'), ('semisync', 'continue'),
                                         ('async', 'continue')])
def test_kill(cluster_of, stamper_of, rng, mode, policy):
    cluster = cluster_of(mode=mode, policy=policy, journal_mib=768 if QUICK else 2048).start()
    stamper = stamper_of(cluster.uris(), depth=16, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    victims = VICTIMS * (ROUNDS // len(VICTIMS))
    rng.shuffle(victims)
    flights, judged = [], []
    for number, victim in enumerate(victims):
        disconnects = len(stamper.disconnects())
        in_flight, how = one_round(cluster, stamper, number, victim, rng)
        flights.append(in_flight)
        judged.append(how)
        if victim in ('primary', 'standby'):  # I7: the client noticed nothing but a pause
            assert len(stamper.disconnects()) == disconnects
        cluster.assert_nobody_died()
    nothing_lost(cluster, stamper)
    flights.append(promote(cluster, stamper, rng))
    busy = sum(1 for f in flights if f > 0)
    print(f'{mode}: {len(flights)} rounds, writes in flight in {busy} '
          f'({100 * busy // len(flights)} %)')
    assert busy >= 0.8 * len(flights)
    full = {'sync': 1, 'semisync': 0.5, 'async': 0}[mode]
    assert judged.count('sync') >= full * len(judged), judged


def test_all_return(cluster_of, stamper_of, rng):
    """Primary site and standby are all killed at once and come back: nothing acknowledged is lost,
    the client goes on, and in the end both sides and the journal are the same."""
    cluster = cluster_of(mode='sync', policy='block').start()
    stamper = stamper_of(cluster.uris(), seed=rng.randrange(1 << 30))
    for number in range(1 if QUICK else 3):
        burst(stamper, rng)
        stamper.note(f'a{number}')
        cluster.kill_site()
        cluster.standby.kill()
        stamper.rate(200)
        time.sleep(rng.uniform(0, 0.3))
        cluster.standby.start()
        cluster.start_plugin()
        cluster.primary.start()
        cluster.wait_healthy()
        stamper.wait_progress()
    summary = stamper.stop()
    assert summary['errors'] == 0 and summary['exit'] == 0
    cluster.wait_caught_up()
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15)
    judge(stamper.log, cluster.images(cluster.tokyo), '--mode', 'sync')
    judge(stamper.log, cluster.images(cluster.osaka), '--mode', 'sync')
    cluster.replay(compare=cluster.images(cluster.osaka), name='standby')
    cluster.replay(compare=cluster.images(cluster.tokyo), name='origin')
