# SPDX-License-Identifier: Apache-2.0
"""Every story ends with equal copies.

Goal: a line that is cut for longer than the ring holds, and a standby killed while it comes back,
end with two equal copies and a group that is in sync again, by a compare of what was written
meanwhile; the application sees no error; the standby was consistent throughout. Method: the real
daemons under load; images compared byte by byte at the end, and by the client's own record.
"""
import time

from harness import MIB, figure, judge, wait_until


def equal(cluster):
    for a, b in zip(cluster.images(cluster.tokyo), cluster.images(cluster.osaka)):
        with open(a, 'rb') as x, open(b, 'rb') as y:
            at = 0
            while True:
                p, q = x.read(MIB), y.read(MIB)
                assert p == q, f'{a.name} differs in the MiB at {at}'
                if not p:
                    break
                at += MIB


def stopped_equal(cluster, stamper):
    """Both sites end with the same bytes, and those are what the client's record demands."""
    cluster.wait_caught_up(60)
    cluster.assert_nobody_died()
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15)
    equal(cluster)
    out = judge(stamper.log, cluster.images(cluster.osaka), '--mode', 'sync')
    return figure(out, r'(\d+) promised durable')


def finish(cluster, stamper):
    summary = stamper.stop(60)
    assert summary['errors'] == 0 and summary['disconnects'] == 0
    return stopped_equal(cluster, stamper)


def test_cut_longer_than_the_ring(cluster_of, stamper_of, rng):
    """Behind, then back by a compare of what was written meanwhile; in sync again."""
    cluster = cluster_of(mode='sync', policy='continue', ring_payload_mib=4, data_mib=64).start()
    stamper = stamper_of(cluster.uris(), rate=800, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.cut()
    cluster.wait_status(cluster.tokyo, 60, state='behind', in_sync=False)
    behind = cluster.status(cluster.tokyo)
    assert behind['lose_known'] is False
    stamper.wait_progress()  # nobody waits for the standby
    # The standby stands where it stood: consistent, and it says that it is not in sync.
    assert cluster.status(cluster.osaka)['in_sync'] is False
    cluster.heal()
    cluster.wait_healthy(120)
    stamper.wait_progress()
    events = cluster.events(cluster.tokyo)
    assert 'HKE3101I' in events and 'HKE3104I' in events, events[-2000:]
    print(f'cut: {finish(cluster, stamper)} promised operations judged')


def test_standby_killed_during_resync(cluster_of, stamper_of, rng):
    """The compare goes on where it stood; the first pin is kept until the end."""
    cluster = cluster_of(mode='sync', policy='continue', ring_payload_mib=4, data_mib=96).start()
    stamper = stamper_of(cluster.uris(), rate=800, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.cut()
    cluster.wait_status(cluster.tokyo, 60, state='behind')
    time.sleep(rng.uniform(0.5, 2))
    cluster.hikae(cluster.tokyo, 'resync', '--limit', '2M')
    cluster.heal()
    cluster.wait_status(cluster.tokyo, 60, state='resync', session='up')
    for _ in range(2):
        time.sleep(rng.uniform(0.2, 1.5))
        cluster.standby.kill()
        cluster.standby.start()
        wait_until('the session', lambda: cluster.status(cluster.tokyo)['session'] == 'up', 30)
    cluster.hikae(cluster.tokyo, 'resync', '--limit', '0')
    cluster.wait_healthy(120)
    stamper.wait_progress()
    print(f'killed: {finish(cluster, stamper)} promised operations judged')
