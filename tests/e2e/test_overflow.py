# SPDX-License-Identifier: Apache-2.0
"""What happens when ring and spool are full: on-overflow = pace, block or behind.

Goal: each does what group.conf says, and the operator sees it in state, screen, JSON and events; no
write is left out. Method: a ring of 4 MiB, a spool of two small segments, a cut link, and more
written than both hold.
"""
from harness import wait_until
from test_resync import finish

FULL = dict(mode='async', policy='continue', ring_payload_mib=4, data_mib=64, spool_segments=2)


def overflowing(cluster_of, stamper_of, rng, overflow):
    cluster = cluster_of(group_lines=f'on-overflow = "{overflow}"; pace-bound-ms = 3000;\n',
                         **FULL).start()
    stamper = stamper_of(cluster.uris(), rate=1500, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    assert cluster.status(cluster.tokyo)['on_overflow'] == overflow
    cluster.cut()
    return cluster, stamper


def test_block_waits(cluster_of, stamper_of, rng):
    cluster, stamper = overflowing(cluster_of, stamper_of, rng, 'block')
    wait_until('blocked', lambda: cluster.status(cluster.tokyo)['state'] == 'blocked', 120)
    s = cluster.status(cluster.tokyo)
    assert s['ladder'] == 'pace' and s['waiting'] > 0 and s['uncaptured'] == 0, s
    screen = cluster.hikae(cluster.tokyo, 'status', check=False).stdout
    assert 'STOPPED BY POLICY' in screen and 'HKE3012E' in screen, screen
    cluster.heal()
    cluster.wait_healthy(120)
    stamper.wait_progress()
    events = cluster.events(cluster.tokyo)
    assert 'HKE3012E' in events and 'HKE3030E' not in events, events[-2000:]
    print(f'block: {finish(cluster, stamper)} promised operations judged')


def test_behind_goes_on(cluster_of, stamper_of, rng):
    cluster, stamper = overflowing(cluster_of, stamper_of, rng, 'behind')
    wait_until('behind', lambda: cluster.status(cluster.tokyo)['state'] == 'behind', 120)
    stamper.wait_progress()
    assert cluster.status(cluster.tokyo)['ladder'] == 'behind'
    wait_until('uncaptured writes are told',
               lambda: cluster.status(cluster.tokyo)['uncaptured'] > 0, 20)
    cluster.heal()
    cluster.wait_healthy(120)
    events = cluster.events(cluster.tokyo)
    assert 'HKE3030E' in events and 'HKE3011E' not in events and 'HKE3012E' not in events
    print(f'behind: {finish(cluster, stamper)} promised operations judged')


def test_more_regions_than_slots(cluster_of, stamper_of, rng):
    """With regions of 4 KiB an outage touches more than the map has slots for: nobody waits, and
    nothing is compared afterwards.
    """
    cluster = cluster_of(mode='async', policy='continue', ring_payload_mib=4, data_mib=64,
                         spool_segments=16, region_bytes=4096).start()
    stamper = stamper_of(cluster.uris(), rate=1500, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.cut()
    wait_until('many records', lambda: cluster.status(cluster.tokyo)['lag_records'] > 9000, 90)
    s = cluster.status(cluster.tokyo)
    assert s['lag_records'] <= s['lag_bytes'] // 64 and s['state'] != 'behind', s
    screen = cluster.hikae(cluster.tokyo, 'status', check=False).stdout
    assert s['lag_records_bound'] or ' records' in screen, screen
    stamper.wait_progress()
    cluster.heal()
    cluster.wait_healthy(120)
    events = cluster.events(cluster.tokyo)
    assert 'HKE3030E' not in events and 'HKE3101I' not in events, events[-2000:]
    s = cluster.status(cluster.tokyo)
    assert s['uncaptured'] == 0, s
    print(f'regions: {finish(cluster, stamper)} promised operations judged')
