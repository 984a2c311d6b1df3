# SPDX-License-Identifier: Apache-2.0
"""No room: for before-images, in the journal; and a ring and a spool that are both too small.

Goal: nothing is lost and nothing is dropped by itself. Room for before-images that runs out stops
the applier with an alarm and keeps the pin; a journal that is full gives up what it keeps for
looking back first, then acknowledges no more, and the primary's ladder acts; all goes on when there
is room again, and ends equal. Method: the real daemons over DPDK with small areas; the room comes
back as an operator gives it, by the configuration and a restart.
"""
from harness import MIB, judge, wait_until
from test_resync_stories import STORY, begin_resync, end_equal, go_behind, session_up


def event_count(cluster, site, name):
    return cluster.events(site).count(f'"{name}"')


def said(cluster, site, name, timeout=90):
    wait_until(f'{name} at {site.name}', lambda: event_count(cluster, site, name), timeout)


def more_room(cluster, was, becomes):
    """What an operator does: the bound is raised, the standby's daemon started again."""
    text = cluster.osaka.conf.read_text()
    assert was in text
    cluster.osaka.conf.write_text(text.replace(was, becomes))
    cluster.standby.kill(sig=15)
    cluster.standby.start()


def pin_full(cluster, stamper, mib):
    """A resync that needs more room than there is: the applier stands."""
    stamper.wait_progress()
    go_behind(cluster, stamper, mib)
    first = begin_resync(cluster, '0')
    said(cluster, cluster.osaka, 'HKE4042E')
    said(cluster, cluster.osaka, 'HKE4047W')  # it was told before it happened
    s = cluster.status(cluster.osaka)
    assert s['pinned'] and s['pin_lsn'] == first['pin_lsn'] and s['alarms'] > 0, s
    assert any(c.startswith('HKE4042E') for c in s['cause']), s['cause']
    assert any('snapshot-mib' in d for d in s['do']), s['do']
    return first


def test_pin_full(cluster_of, stamper_of, rng):
    """The pin stays whatever happens to the daemons; what is written meanwhile is durable; a
    failover would still mean the pin; with room it goes on by itself."""
    cluster = cluster_of(**STORY, snapshot_mib=4, journal_mib=768).start()
    stamper = stamper_of(cluster.uris(), block_max=65536, seed=rng.randrange(1 << 30))
    first = pin_full(cluster, stamper, 24)
    applied = cluster.status(cluster.osaka)['applied']
    durable = cluster.status(cluster.osaka)['durable']
    stamper.rate(100)
    wait_until('the journal going on', lambda: cluster.status(cluster.osaka)['durable'] > durable)
    # Killed or stopped: nothing gives the pin up but people.
    cluster.standby.kill()
    cluster.standby.start()
    session_up(cluster)
    s = cluster.wait_status(cluster.osaka, 60, ready=True, pinned=True, pin_lsn=first['pin_lsn'])
    assert applied <= s['applied'] <= s['durable'], s
    assert s['in_sync'] is False and s['loss_class'].startswith('unknown'), s
    assert cluster.status(cluster.tokyo)['in_sync'] is False
    plan = cluster.hikae(cluster.osaka, 'failover', '--plan', check=False).stdout
    assert '0, proven' not in plan and 'unknown' in plan, plan
    more_room(cluster, 'snapshot-mib = 4;', 'snapshot-mib = 0;')
    session_up(cluster)
    print(f'pin full: {end_equal(cluster, stamper)} promised operations judged')


def test_journal_full(cluster_of, stamper_of, rng):
    """While the applier stands the journal fills: no more is acknowledged, the primary goes its
    ladder and says so; with room for before-images everything drains."""
    cluster = cluster_of(**STORY, snapshot_mib=4, journal_mib=64, segment_mib=8).start()
    stamper = stamper_of(cluster.uris(), block_max=65536, rate=0, seed=rng.randrange(1 << 30))
    # Retention yields first: several times the journal's size goes through it, nobody waits.
    wait_until('twice the journal', lambda: cluster.status(cluster.osaka)['durable']
               > 2 * 64 * MIB, 120)
    s = cluster.status(cluster.osaka)
    assert s['journal_held'] <= s['journal_total'] == 64 * MIB, s
    assert not event_count(cluster, cluster.osaka, 'HKE4020W')
    pin_full(cluster, stamper, 24)
    stamper.rate(0)
    said(cluster, cluster.osaka, 'HKE4020W', 120)
    # What it can't take is not acknowledged; the stage is named; the ladder acts.
    wait_until('the journal as the stage that stands',
               lambda: cluster.status(cluster.tokyo)['stalled'] == 'journal', 60)
    wait_until('the ladder', lambda: cluster.status(cluster.tokyo)['state'] in
               ('pacing', 'behind'), 90)
    s = cluster.status(cluster.osaka)
    assert s['journal_used'] <= s['journal_total'] and s['pinned'], s
    assert any(c.startswith('HKE4020W') for c in s['cause']), s['cause']
    assert s['in_sync'] is False and cluster.status(cluster.tokyo)['in_sync'] is False
    cluster.wait_status(cluster.tokyo, 90, state='behind')
    stamper.rate(200)
    stamper.wait_progress()  # the application goes on
    more_room(cluster, 'snapshot-mib = 4;', 'snapshot-mib = 0;')
    session_up(cluster)
    wait_until('room in the journal', lambda: not any(
        c.startswith(('HKE4020W', 'HKE4042E')) for c in cluster.status(cluster.osaka)['cause']), 60)
    print(f'journal full: {end_equal(cluster, stamper)} promised operations judged')


def test_cut_longer_than_ring_and_spool(cluster_of, stamper_of, rng):
    """The spool fills after the ring, then the group goes behind; what the spool holds goes first
    when the link is back, and what was not captured is compared."""
    cluster = cluster_of(**STORY, spool_segments=3).start()
    stamper = stamper_of(cluster.uris(), block_max=65536, rate=0, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    cluster.cut()
    said(cluster, cluster.tokyo, 'HKE4053W')
    said(cluster, cluster.tokyo, 'HKE4055W')
    s = cluster.wait_status(cluster.tokyo, 90, state='behind', lose_known=False)
    assert s['spool_used'] > 8 * MIB, s
    stamper.rate(200)
    stamper.wait_progress()
    durable, produced = cluster.status(cluster.osaka)['durable'], s['produced']
    assert produced > durable + 16 * MIB, (produced, durable)
    cluster.heal()
    said(cluster, cluster.tokyo, 'HKE3101I')
    # The tail came first, whole: the pin is where capture had ended.
    s = cluster.wait_status(cluster.osaka, 90, inconsistent=True)
    assert s['pinned'] and s['pin_lsn'] >= produced, (s['pin_lsn'], produced)
    print(f'ring and spool: {end_equal(cluster, stamper)} promised operations judged')
