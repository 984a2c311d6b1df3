# SPDX-License-Identifier: Apache-2.0
"""The spool: a cut that is longer than the ring, and nothing is left out.

Goal: while the other site is away, more is written than the ring holds and less than the spool;
after the cut heals everything arrives in order, without going behind and without a resync, also
when the replicator is killed meanwhile. Method: a ring of 4 MiB, a spool of 128; a cut link.
"""
from harness import MIB, wait_until
from test_resync import finish


def lag(cluster):
    return cluster.status(cluster.tokyo)['lag_bytes']


def spooled(cluster, bytes):
    s = cluster.status(cluster.tokyo)
    assert s['state'] != 'behind', s
    return s['ladder'] == 'spool' and s['lag_bytes'] > bytes


def nothing_left_out(cluster):
    events = cluster.events(cluster.tokyo)
    assert 'HKE4053W' in events, events[-2000:]
    assert 'HKE3101I' not in events and 'HKE3106W' not in events, events[-2000:]


def test_cut_longer_than_the_ring(cluster_of, stamper_of, rng):
    cluster = cluster_of(mode='sync', policy='continue', ring_payload_mib=4, data_mib=64,
                         spool_segments=16).start()
    stamper = stamper_of(cluster.uris(), rate=800, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.cut()
    wait_until('three times the ring in the spool', lambda: spooled(cluster, 12 * MIB), 90)
    s = cluster.status(cluster.tokyo)
    assert s['spool_state'] == 'running' and s['spool_used'] > 8 * MIB and s['lag_ns'] > 0, s
    assert 'spool' in cluster.hikae(cluster.tokyo, 'status', check=False).stdout
    cluster.heal()
    cluster.wait_healthy(120)
    stamper.wait_progress()
    nothing_left_out(cluster)
    print(f'spool: {finish(cluster, stamper)} promised operations judged')


def test_replicator_killed_while_spooling(cluster_of, stamper_of, rng):
    cluster = cluster_of(mode='async', policy='continue', ring_payload_mib=4, data_mib=64,
                         spool_segments=16).start()
    stamper = stamper_of(cluster.uris(), rate=800, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.cut()
    wait_until('twice the ring in the spool', lambda: spooled(cluster, 8 * MIB), 90)
    cluster.primary.kill()
    cluster.primary.start()
    wait_until('the spool again', lambda: spooled(cluster, 10 * MIB), 90)
    cluster.heal()
    cluster.wait_healthy(120)
    stamper.wait_progress()
    nothing_left_out(cluster)
    print(f'spool: {finish(cluster, stamper)} promised operations judged')
