# SPDX-License-Identifier: Apache-2.0
"""The line between the sites misbehaves.

Goal: a bad line costs time, never data (I15); the client sees no error (I9); what is said about
loss is never better than the truth (I18). Method: cut and heal the line, swallow everything
silently, and let the link's own seeded impairment lose, duplicate, reorder and corrupt frames, all
under load; then judge the standby by hk-replay and hk-check.
"""
import time

import pytest

from harness import QUICK, judge, figure

BACKENDS = ['udp'] if QUICK else ['udp', 'dpdk']
CUTS = [('sync', 'cut')] if QUICK else [(m, h) for m in ('sync', 'async')
                                         for h in ('cut', 'black_hole')]


def finish(cluster, stamper):
    """Ends in order; both sides and the journal must be the same, and legal."""
    summary = stamper.stop(60)
    assert summary['errors'] == 0 and summary['disconnects'] == 0
    cluster.wait_caught_up(60)
    cluster.assert_nobody_died()
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15)
    out = judge(stamper.log, cluster.images(cluster.osaka), '--mode', 'sync')
    cluster.replay(compare=cluster.images(cluster.osaka), name='standby')
    cluster.replay(compare=cluster.images(cluster.tokyo), name='origin')
    return figure(out, r'(\d+) promised durable')


@pytest.mark.parametrize('mode,how', CUTS)
def test_short_cut(cluster_of, stamper_of, rng, mode, how):
    """Shorter than the contact timeout, and longer: with `block` the writes wait and then go on."""
    cluster = cluster_of(mode=mode, policy='block').start()
    stamper = stamper_of(cluster.uris(), rate=400, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    for number, seconds in enumerate([0.4, cluster.contact_timeout_ms / 1000 * 1.6]):
        stamper.note(f'c{number}')
        getattr(cluster, how)()
        time.sleep(seconds)
        # What the standby has now, cut off from the primary.
        stamper.note(f'd{number}')
        images, _ = cluster.live_replay()
        log = stamper.copy(f'cut{number}.log')
        options = ['--at-least', f'd{number}'] if mode == 'sync' else []
        judge(log, images, '--mode', mode, *options)
        if seconds > 1:
            assert cluster.status(cluster.osaka)['in_sync'] is False
            assert cluster.status(cluster.tokyo)['in_sync'] is False
        cluster.heal() if how == 'cut' else cluster.black_hole_end()
        cluster.wait_healthy()
        stamper.wait_progress()
    print(f'{mode} {how}: {finish(cluster, stamper)} promised operations judged')


def test_continue_degrades(cluster_of, stamper_of, rng):
    """on-link-loss = continue: after T the application goes on alone, and everybody says so."""
    cluster = cluster_of(mode='sync', policy='continue').start()
    stamper = stamper_of(cluster.uris(), rate=200, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.cut()
    cluster.wait_status(cluster.tokyo, state='degraded', in_sync=False)
    stamper.wait_progress()  # writes are acknowledged again, unreplicated
    standby = cluster.wait_status(cluster.osaka, contact=False, in_sync=False)
    assert standby['lose_known'] is False
    cluster.heal()
    cluster.wait_healthy()
    stamper.wait_progress()
    print(f'continue: {finish(cluster, stamper)} promised operations judged')


@pytest.mark.parametrize('backend', BACKENDS)
def test_impaired(cluster_of, stamper_of, rng, backend):
    """Frames lost, duplicated, reordered and corrupted in both directions."""
    impair = {'loss-ppm': 20000, 'dup-ppm': 20000, 'reorder-ppm': 20000, 'corrupt-ppm': 10000,
              'seed': rng.randrange(1, 1 << 30)}
    cluster = cluster_of(mode='sync', policy='block', backend=backend, impair=impair,
                         journal_mib=1024 if QUICK else 3072).start()
    stamper = stamper_of(cluster.uris(), rate=0, block_max=65536, seed=rng.randrange(1 << 30))
    time.sleep(3 if QUICK else 12)
    stamper.rate(100)
    primary, standby = cluster.status(cluster.tokyo), cluster.status(cluster.osaka)
    bad = sum(sum(p['bad_frames'].values()) for p in standby['paths'])
    again = sum(p['retransmitted'] for p in primary['paths'])
    promised = finish(cluster, stamper)
    print(f'{backend}: {promised} promised operations judged; {bad} bad frames refused, '
          f'{again} retransmitted')
    assert bad > 0 and again > 0
    assert promised > 200


@pytest.mark.parametrize('backend', BACKENDS)
def test_bad_line(cluster_of, stamper_of, rng, backend):
    """The same from outside: hk-wire carries every frame, control connection included, with delay,
    loss, duplicates, reordering, and payloads corrupted behind a checksum that seems right."""
    wire = {'loss-ppm': 10000, 'dup-ppm': 10000, 'reorder-ppm': 20000, 'corrupt-ppm': 5000,
            'delay-us': 500, 'jitter-us': 200, 'seed': rng.randrange(1, 1 << 30)}
    cluster = cluster_of(mode='sync', policy='block', backend=backend, wire=wire,
                         journal_mib=1024 if QUICK else 3072).start()
    stamper = stamper_of(cluster.uris(), rate=0, seed=rng.randrange(1 << 30))
    time.sleep(3 if QUICK else 10)
    stamper.rate(100)
    bad = sum(sum(p['bad_frames'].values()) for p in cluster.status(cluster.osaka)['paths'])
    promised = finish(cluster, stamper)
    cluster.wire.kill(sig=15)
    print(f'{backend}: {promised} promised operations judged; {bad} bad frames refused; '
          f'wire {cluster.wire.tail(1)}')
    assert bad > 0
    assert promised > 100
