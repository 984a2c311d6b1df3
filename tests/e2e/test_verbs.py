# SPDX-License-Identifier: Apache-2.0
"""The operator's verbs, as the person at three in the morning uses them.

Goal: every sentence on a screen is true at the moment it is shown, every refusal has its id and
exit code, and no verb does more than it says. Method: real daemons in two namespaces, small
volumes; the line is cut by a black hole (nobody is told), sites are killed; what the product says
is compared with what was done to it.
"""
import json
import os
import re
import signal
import subprocess
import time

import pytest

from harness import MIB, Process, die_with_parent, judge, run, tool, wait_until

SMALL = dict(data_mib=8, wal_mib=8, journal_mib=96)

STATUS_KEYS = {
    'schema', 'group', 'group_id', 'site', 'host', 'peer_site', 'role', 'state', 'mode',
    'on_link_loss', 'session', 'epoch_id', 'loss_class', 'last_refusal', 'freeze_name', 'in_sync',
    'ready', 'contact', 'lose_known', 'promoted', 'capture_attached', 'config_equal', 'frozen',
    'take_over_known', 'epoch', 'session_id', 'produced', 'sent', 'acked', 'durable', 'applied',
    'ceiling', 'lose_bytes', 'lose_ns', 'take_over_bytes', 'take_over_ns', 'state_since_ns',
    'now_ns', 'contact_age_ns', 'contact_real_ns', 'contact_timeout_ns', 'ring_used', 'ring_total',
    'journal_used', 'journal_total', 'journal_held', 'waiting', 'held', 'writes', 'bytes',
    'uncaptured', 'origin_errors', 'freeze_lsn', 'freeze_time_ns', 'bad_record', 'out_of_window',
    'other_session', 'control_bad', 'alarms', 'paths', 'volumes', 'flags', 'cause', 'next', 'do',
    'config', 'lag_bytes', 'lag_ns', 'learnt_known', 'learnt_age_ns', 'rate_known', 'rate_produced',
    'rate_acked', 'rate_durable', 'rate_applied', 'contact_lost_ns', 'stopped_since_ns',
    'fenced_before_ns', 'local_bad', 'strangers', 'bad_chain',
    'own_copy_bad', 'own_copy_good', 'role_lost',
    'ladder', 'stalled', 'spool_state', 'spool_used', 'spool_total',
    'acked_p50_ns', 'acked_p99_ns', 'durable_p50_ns', 'durable_p99_ns',
    'dirty_known', 'dirty_bytes', 'inconsistent', 'pinned', 'pin_lsn', 'pin_epoch', 'pin_time_ns',
    'pin_bytes', 'resync', 'lag_records', 'lag_records_bound', 'on_overflow'}


def ask(cluster, site, verb, *argv, code=0):
    r = cluster.hikae(site, verb, *argv, check=False)
    assert r.returncode == code, f'{verb} {argv}: exit {r.returncode}, expected {code}\n{r.stdout}'
    return r.stdout


def ask_json(cluster, site, verb, *argv):
    out = ask(cluster, site, verb, *argv, '--json')
    return json.loads(out[out.index('{'):])


def screen(cluster, site):
    return cluster.hikae(site, 'status', check=False).stdout


def events(cluster, site, *argv):
    out = ask(cluster, site, 'events', '--json', *argv)
    return [json.loads(line) for line in out.splitlines()]


def wait_event(cluster, site, name, timeout=20):
    def found():
        hits = [e for e in events(cluster, site) if e['id'] == name]
        assert hits, f'no {name} at {site.name}'
        return hits[-1]
    return wait_until(f'{name} at {site.name}', found, timeout)


def test_resync_verb(cluster_of):
    """Nothing to compare is said; pause, limit, resume are held and shown; the standby refuses."""
    cluster = cluster_of(mode='sync', policy='continue', **SMALL).start()
    assert 'nothing to compare' in ask(cluster, cluster.tokyo, 'resync')
    ask(cluster, cluster.tokyo, 'resync', '--limit', '20M')
    r = ask_json(cluster, cluster.tokyo, 'resync')
    assert r['throttle_bytes_s'] == 20 * MIB and not r['paused'] and r['stale_bytes'] == 0
    ask(cluster, cluster.tokyo, 'resync', '--pause')
    assert ask_json(cluster, cluster.tokyo, 'resync')['paused']
    ask(cluster, cluster.tokyo, 'resync', '--resume')
    ask(cluster, cluster.tokyo, 'resync', '--limit', '0')
    r = ask_json(cluster, cluster.tokyo, 'resync')
    assert not r['paused'] and r['throttle_bytes_s'] == 0
    wait_event(cluster, cluster.tokyo, 'HKE3108I')
    assert 'HKE3109W' in ask(cluster, cluster.osaka, 'resync', '--pause', code=2)
    assert 'HKE1030E' in ask(cluster, cluster.tokyo, 'resync', '--limit', 'much', code=1)
    assert 'PLAN' in ask(cluster, cluster.tokyo, 'resync', '--pause', '--plan')
    cluster.assert_nobody_died()


def uri(cluster, volume):
    return f'nbd+unix:///{volume}?socket={cluster.nbd_socket}'


def write_some(cluster, mib=4, volume='data'):
    """Random bytes, again and again over the volume; they are acknowledged when this returns."""
    size = min(mib * MIB, dict(cluster.volumes)[volume])
    source = cluster.work / f'random-{size}'
    source.write_bytes(os.urandom(size))
    for _ in range(0, mib * MIB, size):
        run('nbdcopy', '--flush', source, uri(cluster, volume))


def test_status_screen(cluster_of, stamper_of):
    """Green, then cut: each side says since when, how old its knowledge is, and what to do."""
    cluster = cluster_of(mode='sync', policy='block', **SMALL).start()
    stamper = stamper_of(cluster.uris(), rate=200)
    stamper.wait_progress(200)
    for site in (cluster.tokyo, cluster.osaka):
        s = cluster.wait_status(site, in_sync=True, rate_known=True)
        assert set(s) == STATUS_KEYS, set(s) ^ STATUS_KEYS
        assert s['schema'] == 1 and s['config'] == 'equal' and s['alarms'] == 0
        assert s['lose_bytes'] == 0 and s['lose_known'] and s['learnt_known']
        assert s['cause'] == s['next'] == s['do'] == []
        out = screen(cluster, site)
        assert re.match(r'core  IN SYNC  since \d\d-\d\d \d\d:\d\d:\d\d \(', out), out
        assert 'LOSE NOW 0 B / 0.000 s (if tokyo failed at this moment)   TAKE OVER NOW' in out
        assert 'config equal' in out and 'told' in out and 'NEXT' not in out and 'DO ' not in out
    s = cluster.status(cluster.osaka)
    assert s['journal_held'] >= s['journal_used'] and s['journal_held'] > 0
    assert re.search(r'LINKS +a up  rtt [\d.]+ (ms|us)', screen(cluster, cluster.tokyo))
    # Measured where writes wait; the standby can't know it, and what is not built is no good value.
    out = screen(cluster, cluster.tokyo)
    figures = re.search(r' durable +\S+ +\S+ \w+ +\d+\.\d{3} +(\d+\.\d\d) +(\d+\.\d\d) +\d+',
                        out)
    assert figures and 0 < float(figures[1]) <= float(figures[2]) < 10000, out
    s = cluster.status(cluster.tokyo)
    assert 0 < s['acked_p50_ns'] <= s['acked_p99_ns'] and s['durable_p50_ns'] >= s['acked_p50_ns']
    assert s['durable_p50_ns'] <= s['durable_p99_ns'] < 10e9
    assert re.search(r' durable .* - +- +\d+\.\d\n', screen(cluster, cluster.osaka))
    assert 'GO BACK   not built yet' in out and 'OFFLINE   not built yet' in out, out
    assert re.search(r' data +8\.0 MiB +0 B +- +- +- +\w+', out), out

    cluster.black_hole()
    s = cluster.wait_status(cluster.osaka, state='no-contact', in_sync=False)
    assert not s['lose_known'] and 0 < s['contact_lost_ns'] < s['now_ns']
    out = screen(cluster, cluster.osaka)
    assert re.match(r'core  NOT IN SYNC  no contact since \d\d-\d\d \d\d:\d\d:\d\d \(\d+ s\)',
                    out), out
    assert re.search(r'LOSE NOW UNKNOWN: in sync until \d\d:\d\d:\d\d\.\d{3}, '
                     r'tokyo may have continued',
                     out), out
    assert 'CAUSE     HKE2041E' in out and '`hikae failover core`' in out and '0, proven' in out
    assert re.search(r'produced as tokyo told [\d.]+ (ms|s) ago', out), out
    wait_until('stopped by policy', lambda: 'APPLICATION I/O STOPPED BY POLICY since'
               in screen(cluster, cluster.tokyo), 20)
    s = cluster.status(cluster.tokyo)
    assert s['held'] > 0 and s['stopped_since_ns'] and not s['in_sync'] and s['lag_ns'] > 0
    out = screen(cluster, cluster.tokyo)
    assert 'do NOT fail over unless tokyo is lost' in out and 'NOT IN SYNC' in out
    cluster.black_hole_end()
    cluster.wait_healthy()
    stamper.wait_progress()
    assert cluster.status(cluster.tokyo)['stopped_since_ns'] == 0
    assert cluster.status(cluster.osaka)['contact_lost_ns'] == 0
    # The past hour as each side knew it: osaka could not know for a while, tokyo always could.
    mine = json.loads(ask(cluster, cluster.tokyo, 'history', 'rpo', '--json'))
    theirs = json.loads(ask(cluster, cluster.osaka, 'history', 'rpo', '--json'))
    assert sum(h['measured_ms'] for h in mine['hours']) >= 2000 and mine['damaged_lines'] == 0
    assert sum(h['unknown_ms'] for h in theirs['days']) > 1000, theirs
    assert sum(h['unknown_ms'] for h in mine['days']) <= 1000, mine
    assert re.search(r' DAY +p50 s +p95 s', ask(cluster, cluster.osaka, 'history', 'rpo'))


def test_watch(cluster_of):
    cluster = cluster_of(**SMALL).start()
    child = subprocess.Popen([tool('hikae'), 'status', '--watch', '--group',
                              str(cluster.group_conf), '--site', str(cluster.tokyo.conf)],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             preexec_fn=die_with_parent)
    try:
        verdicts = 0
        for line in child.stdout:
            verdicts += line.startswith('core  ')
            if verdicts == 3:
                break
        assert verdicts == 3
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_degraded_and_behind(cluster_of, stamper_of):
    """continue: degraded says so at both sites; without a dirty map a full ring ends in "full
    compare required".
    """
    cluster = cluster_of(policy='continue', ring_payload_mib=16, region_bytes=0, **SMALL).start()
    stamper = stamper_of(cluster.uris(), rate=100)
    stamper.wait_progress()
    cluster.black_hole()
    s = cluster.wait_status(cluster.tokyo, state='degraded', in_sync=False)
    assert 'HKE3020E' in ' '.join(s['cause']) and not s['stopped_since_ns']
    out = screen(cluster, cluster.tokyo)
    assert 'NOT IN SYNC  degraded since' in out and '(rising)' in out
    assert 'The application is NOT stopped.' in out
    wait_until('seconds of loss in the history', lambda: json.loads(ask(
        cluster, cluster.tokyo, 'history', 'rpo', '--json'))['hours'][0]['max_ns'] > 2e9, 20)
    stamper.rate(0)
    s = cluster.wait_status(cluster.tokyo, timeout=40, state='behind', lose_known=False)
    assert 'full-compare-required' in s['flags'] and 'HKE3030E' in ' '.join(s['cause'])
    assert {v['state'] for v in s['volumes']} == {'may differ'}
    out = screen(cluster, cluster.tokyo)
    assert 'LOSE NOW UNKNOWN: writes pass uncaptured' in out and 'create-md --assume-equal' in out
    wait_event(cluster, cluster.tokyo, 'HKE3030E')
    stamper.rate(50)
    cluster.black_hole_end()
    s = cluster.wait_status(cluster.osaka, last_refusal='full compare required')
    assert 'full-compare-required' in s['flags']
    assert 'HKE2023E' in ' '.join(s['cause']), s['cause']
    refused = [e for e in events(cluster, cluster.osaka) if e['id'] == 'HKE2023E']
    assert len(refused) == 1, 'said once, however often it is tried'


def test_events(cluster_of):
    """Numbered without holes over restarts, complete, with operation ids and change references."""
    cluster = cluster_of(**SMALL).start()
    ask(cluster, cluster.tokyo, 'freeze', 'one', '--change', 'CHG-77', '--op-id', 'abc123')
    ask(cluster, cluster.osaka, 'freeze', 'one', '--end', '--change', 'CHG-78')
    mine = [e for e in events(cluster, cluster.tokyo) if e['operation'] == f'{0xabc123:016x}']
    assert [e['id'] for e in mine] == ['HKE1021I', 'HKE1025I'], mine
    assert {e['change'] for e in mine} == {'CHG-77'}
    assert 'freeze one' in mine[0]['text'] and '[CHG-77]' in ask(cluster, cluster.tokyo, 'events')
    before = events(cluster, cluster.osaka)
    follow = subprocess.Popen([tool('hikae'), 'events', '--follow', '--json', '--since',
                               str(before[-1]['number'] + 1), '--group', str(cluster.group_conf),
                               '--site', str(cluster.osaka.conf)], stdout=subprocess.PIPE,
                              text=True, preexec_fn=die_with_parent)
    try:
        ask(cluster, cluster.osaka, 'freeze', 'two', '--change', 'CHG-79')
        line = json.loads(follow.stdout.readline())
        assert line['number'] == before[-1]['number'] + 1 and line['change'] == 'CHG-79', line
    finally:
        follow.kill()
        follow.wait()
    before = events(cluster, cluster.osaka)
    for sig in (signal.SIGKILL, signal.SIGTERM):
        cluster.standby.kill(sig)
        cluster.standby.start()
        cluster.wait_status(cluster.osaka, in_sync=True)
    after = events(cluster, cluster.osaka)
    assert after[:len(before)] == before, 'the past does not change'
    assert [e['number'] for e in after] == list(range(1, len(after) + 1))
    assert events(cluster, cluster.osaka, '--since', '3')[0]['number'] == 3
    keys = {'schema', 'number', 'time_ns', 'id', 'group', 'epoch', 'lsn', 'operation', 'change',
            'text'}
    assert all(set(e) == keys for e in after)
    # More than memory holds: written as earlier lives would have, read back from the file.
    cluster.standby.kill()
    log = cluster.osaka.dir / 'events.log'
    line = json.loads(log.read_text().splitlines()[-1])
    first = line['number'] + 1
    with open(log, 'a', encoding='ascii') as f:
        for number in range(first, first + 3000):
            f.write(json.dumps({**line, 'number': number, 'text': f'old {number}'}) + '\n')
    cluster.standby.start()
    cluster.wait_status(cluster.osaka, in_sync=True)
    after = events(cluster, cluster.osaka)
    assert [e['number'] for e in after] == list(range(1, len(after) + 1))
    assert after[first - 1]['text'] == f'old {first}'


def lose_primary(cluster, stamper=None):
    """The whole site; the stamper is closed, or it would wait for its server."""
    cluster.kill_site()
    if stamper:
        stamper.close()
    return cluster.wait_status(cluster.osaka, contact=False)


def test_failover_asks_first(cluster_of, stamper_of):
    """In contact: approval. A plan binds. Lost under block: 0, proven. A second time: nothing
    new.
    """
    cluster = cluster_of(mode='sync', policy='block', **SMALL).start()
    stamper = stamper_of(cluster.uris(), rate=200)
    stamper.wait_progress()
    assert 'HKE6005W' in ask(cluster, cluster.osaka, 'failover', code=3)
    assert 'HKE6004W' in ask(cluster, cluster.tokyo, 'failover', code=2)
    plan = ask_json(cluster, cluster.osaka, 'failover', '--plan')
    assert 'IN CONTACT' in plan['effects'] and 'no fence command' in plan['effects']
    stamper.rate(20)
    lose_primary(cluster, stamper)
    assert 'HKE1020E' in ask(cluster, cluster.osaka, 'failover', '--plan-id', plan['plan_id'],
                             code=2)
    assert not cluster.status(cluster.osaka)['promoted']
    plan = ask_json(cluster, cluster.osaka, 'failover', '--plan')
    assert 'loss: 0, proven' in plan['effects'] and 'IN CONTACT' not in plan['effects']
    done = ask_json(cluster, cluster.osaka, 'failover', '--plan-id', plan['plan_id'],
                    '--change', 'CHG-1')
    assert done['loss_class'] == '0, proven' and done['state'] == 'promoted' and not done['already']
    assert done['position_epoch'] == 1 and done['fenced_before_ns'] == 0
    again = ask_json(cluster, cluster.osaka, 'failover')
    assert again['already'] and again['position'] == done['position']
    assert again['loss_class'] == done['loss_class']
    s = cluster.status(cluster.osaka)
    assert s['promoted'] and s['state'] == 'promoted' and s['epoch'] == 2 and s['alarms'] == 0
    out = screen(cluster, cluster.osaka)
    assert 'PROMOTED  since' in out and 'LOST AT FAILOVER 0, proven   TAKEN OVER' in out
    assert 'tokyo OLD PRIMARY --X-> osaka' in out
    cluster.standby.kill(sig=15)
    judge(stamper.log, cluster.images(cluster.osaka), '--mode', 'sync')


def test_old_primary_returns(cluster_of, stamper_of):
    """Refused on both sides, once in the events, told in both status; it never serves a write."""
    cluster = cluster_of(mode='sync', policy='block', **SMALL).start()
    stamper = stamper_of(cluster.uris(), rate=200)
    stamper.wait_progress()
    lose_primary(cluster, stamper)
    ask(cluster, cluster.osaka, 'failover')
    cluster.start_plugin()
    cluster.primary.start()
    for site in (cluster.tokyo, cluster.osaka):
        wait_event(cluster, site, 'HKE2019E')
    s = cluster.wait_status(cluster.tokyo, last_refusal="the caller's epoch is older than ours")
    assert not s['in_sync'] and any('OLD primary' in c for c in s['cause']), s['cause']
    assert s['role_lost'] and s['state'] == 'superseded' and not s['lose_known'], s
    out = screen(cluster, cluster.tokyo)
    assert 'keep every application stopped here: the group lives at osaka' in out
    assert 'NOT THE PRIMARY ANY MORE' in out and 'LOSE NOW: ask osaka' in out, out
    assert 'LOSE NOW 0 B' not in out and 'OLD PRIMARY' in out, out
    wait_event(cluster, cluster.tokyo, 'HKE6009E')
    out = screen(cluster, cluster.osaka)
    assert 'HKE2019E the old primary tokyo came back and was refused' in out, out
    tries = cluster.status(cluster.tokyo)['now_ns']
    wait_until('some more attempts',
               lambda: cluster.status(cluster.tokyo)['now_ns'] > tries + 2e9, 20)
    for site in (cluster.tokyo, cluster.osaka):
        assert sum(e['id'] == 'HKE2019E' for e in events(cluster, site)) == 1
    assert sum(e['id'] == 'HKE6009E' for e in events(cluster, cluster.tokyo)) == 1


def site_conf_of_promoted(cluster):
    """osaka's own capture side, over what were its replicas."""
    osaka = cluster.osaka
    origins = ', '.join(f'{{ volume = "{n}"; path = "{osaka.dir}/{n}.img"; }}'
                        for n, _ in cluster.volumes)
    conf = cluster.work / 'osaka-primary.conf'
    conf.write_text(osaka.conf.read_text() + (
        f'capture = {{ socket = "{cluster.work}/osaka.cap"; ring = "{cluster.ring}2"; '
        f'ring-slots = 4096; ring-payload = {16 * MIB}L; metadata = "{osaka.dir}/core-primary.md"; '
        f'origins = ( {origins} ); }};\n'))
    return conf


def test_promoted_side_serves(cluster_of, stamper_of, request):
    """The application starts at the promoted site: reads what was there, and writes, at once."""
    cluster = cluster_of(mode='sync', policy='block', **SMALL).start()
    stamper = stamper_of(cluster.uris(), rate=200)
    stamper.wait_progress()
    lose_primary(cluster, stamper)
    ask(cluster, cluster.osaka, 'failover')
    replica = (cluster.osaka.dir / 'data.img').read_bytes()
    conf = site_conf_of_promoted(cluster)
    request.addfinalizer(lambda: [os.unlink(p) for p in (cluster.ring + '2',) if os.path.exists(p)])
    cluster.nbd_socket = cluster.work / 'osaka-nbd.sock'
    old, cluster.plugin = cluster.plugin, Process(
        'osaka-nbdkit', ['ip', 'netns', 'exec', cluster.osaka.ns, 'nbdkit', '-f', '-U',
                         cluster.nbd_socket, '-t', '24', tool('nbdkit-hikae-plugin.so'),
                         f'group={cluster.group_conf}', f'site={conf}'],
        cluster.work / 'osaka-nbdkit.log')
    cluster.processes.append(cluster.plugin)
    cluster.start_plugin()
    copy, page = cluster.work / 'copy', cluster.work / 'page'
    run('nbdcopy', uri(cluster, 'data'), copy)
    assert copy.read_bytes() == replica
    page.write_bytes(b'\x5a' * 4096)
    run('nbdcopy', '--flush', page, uri(cluster, 'data'))
    cluster.plugin.kill(sig=15)
    after = (cluster.osaka.dir / 'data.img').read_bytes()
    assert after == b'\x5a' * 4096 + replica[4096:]
    # The daemon lives beside it, also when it is started while the replicas are in use.
    cluster.start_plugin()
    cluster.standby.kill()
    cluster.standby.start()
    cluster.wait_status(cluster.osaka, promoted=True)
    cluster.plugin = old


def with_fence(cluster, command):
    conf = cluster.osaka.conf
    conf.write_text(conf.read_text() + f'fence-command = "{command}";\n')


@pytest.mark.parametrize('fence', ['none', 'ok', 'late', 'fails'])
def test_failover_states_no_more_than_proven(cluster_of, stamper_of, fence):
    """continue: without a fence unknown since t0; with one in time 0 if it held; a failing one
    asks.
    """
    cluster = cluster_of(mode='sync', policy='continue',
                         contact_timeout_ms=20000 if fence in ('none', 'ok') else 1500, **SMALL)
    if fence != 'none':
        with_fence(cluster, 'exit 3' if fence == 'fails' else f'echo x >> {cluster.work}/fenced')
    cluster.start()
    stamper = stamper_of(cluster.uris(), rate=200)
    stamper.wait_progress()
    t0_at_least = wait_until('a contact that the primary has confirmed', lambda: cluster.status(
        cluster.osaka)['in_sync'] and cluster.status(cluster.osaka)['contact_real_ns'], 30)
    cluster.kill_site()
    stamper.close()
    if fence == 'late':
        cluster.wait_status(cluster.osaka, contact=False)
        end = cluster.status(cluster.osaka)['contact_real_ns'] + 1600000000
        wait_until('t0 + T', lambda: time.time_ns() > end, 20)
    # Within T the primary still counts as in contact: consent is part of the order.
    argv = ['--json', '--change', 'CHG-5'] + ([] if fence in ('late', 'fails') else ['--yes'])
    if fence == 'fails':
        cluster.wait_status(cluster.osaka, timeout=40, contact=False)
        out = ask(cluster, cluster.osaka, 'failover', *argv, code=3)
        assert 'HKE6003E' in out and 'exit status 3' in out
        s = cluster.status(cluster.osaka)
        assert not s['promoted'] and s['epoch'] == 1
        ends = [e for e in events(cluster, cluster.osaka) if e['id'] == 'HKE1026W']
        assert ends and ends[-1]['change'] == 'CHG-5'
        argv += ['--yes']
    done = ask(cluster, cluster.osaka, 'failover', *argv)
    done = json.loads(done[done.index('{'):])
    assert done['t0_ns'] >= t0_at_least
    out = ask(cluster, cluster.osaka, 'failover')
    if fence == 'ok':
        assert done['loss_class'] == '0 if the primary was fenced before t0+T'
        assert done['fenced_before_ns'] == done['t0_ns'] + 20000 * 1000000
        assert re.search(r'0 if the primary was fenced before '
                         r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}', out)
        assert wait_event(cluster, cluster.osaka, 'HKE6007I')['change'] == 'CHG-5'
        assert (cluster.work / 'fenced').read_text() == 'x\n', 'once, not again for the second verb'
    else:
        assert done['loss_class'] == 'unknown since t0' and done['fenced_before_ns'] == 0
        assert re.search(r'unknown since t0 = \d{4}-', out), out
    s = cluster.status(cluster.osaka)
    assert s['loss_class'] == done['loss_class']


def test_promotion_survives_kill(cluster_of):
    """Killed between the durable epoch and the end: it finishes by itself, and the verb is
    idempotent.
    """
    cluster = cluster_of(mode='sync', policy='block', data_mib=16, wal_mib=8,
                         journal_mib=768).start()
    ask(cluster, cluster.tokyo, 'freeze', 'hold')
    write_some(cluster, mib=192)
    lose_primary(cluster)
    s = cluster.status(cluster.osaka)
    assert s['durable'] - s['applied'] > 150 * MIB
    verb = subprocess.Popen([tool('hikae'), 'failover', '--group', str(cluster.group_conf),
                             '--site', str(cluster.osaka.conf)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent)
    wait_until('the promotion beginning', lambda: 'HKE6001I' in cluster.standby.tail(5), 20,
               pause=0.002)
    cluster.standby.kill()
    out = verb.communicate(timeout=20)[0]
    inside = 'HKE6002I' not in cluster.standby.tail(5)
    print(f'killed inside the promotion: {inside}; the verb: exit {verb.returncode}')
    if inside:
        assert verb.returncode == 4 and 'HKE1036E' in out and 'hikae events' in out
    cluster.standby.start()
    s = cluster.wait_status(cluster.osaka, promoted=True)
    assert s['epoch'] == 2 and s['loss_class'] == '0, proven'
    done = ask_json(cluster, cluster.osaka, 'failover')
    assert done['already'] and done['loss_class'] == '0, proven'
    assert cluster.status(cluster.osaka)['epoch'] == 2
    cluster.standby.kill(sig=15)
    cluster.replay(compare=cluster.images(cluster.osaka), name='promoted')


def start_restore(cluster, name, to):
    """A restore that is stopped in its middle."""
    child = subprocess.Popen([tool('hikae'), 'restore', name, '--volume', 'data', '--to', str(to),
                              '--group', str(cluster.group_conf), '--site',
                              str(cluster.osaka.conf)],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             preexec_fn=die_with_parent)
    wait_until('the restore beginning', to.exists, 20, pause=0.001)
    child.send_signal(signal.SIGSTOP)
    assert child.poll() is None, 'the restore was too fast to be stopped'
    return child


def restore_fails(child, to):
    child.send_signal(signal.SIGCONT)
    out = child.communicate(timeout=30)[0]
    assert child.returncode == 2 and 'HKE5005E' in out, f'exit {child.returncode}: {out}'
    assert not to.exists(), 'half an image was left'


def test_freeze_refusals_and_forwarding(cluster_of):
    """One at a time; asked for at either site; it survives the standby's restart."""
    cluster = cluster_of(**SMALL).start()
    write_some(cluster, 2)
    assert 'HKE5014E' in ask(cluster, cluster.tokyo, 'freeze', 'a/b', code=2)
    plan = ask_json(cluster, cluster.osaka, 'freeze', 'n1', '--plan')
    assert not cluster.status(cluster.osaka)['frozen']
    first = ask_json(cluster, cluster.osaka, 'freeze', 'n1', '--plan-id', plan['plan_id'])
    s = cluster.wait_status(cluster.osaka, frozen=True, freeze_name='n1')
    assert s['freeze_lsn'] == first['mark_end'] == s['applied']
    for site in (cluster.osaka, cluster.tokyo):
        assert 'HKE5015W' in ask(cluster, site, 'freeze', 'n2', code=2)
    assert 'HKE5010W' in ask(cluster, cluster.tokyo, 'images', code=2)
    assert 'FROZEN    n1' in screen(cluster, cluster.osaka)
    cluster.wait_status(cluster.tokyo, frozen=True)
    write_some(cluster, 3)
    for sig in (signal.SIGKILL, signal.SIGTERM):
        cluster.standby.kill(sig)
        cluster.standby.start()
        # Not "in sync": what stands behind the mark has not been read since the restart.
        cluster.wait_status(cluster.osaka, session='up', contact=True, frozen=True)
        image, = ask_json(cluster, cluster.osaka, 'images')['images']
        assert image['name'] == 'n1' and image['lsn'] == first['mark_end']
    restored = []
    for volume, _ in cluster.volumes:
        to = cluster.work / f'{volume}.restored'
        r = ask_json(cluster, cluster.osaka, 'restore', 'n1', '--volume', volume, '--to', str(to))
        assert r['mark_end'] == first['mark_end'] and len(r['xxh3_128']) == 32
        restored.append(to)
        assert 'HKE5016E' in ask(cluster, cluster.osaka, 'restore', 'n1', '--volume', volume,
                                 '--to', str(to), code=1), 'an existing file is never overwritten'
    cluster.replay('--to-mark n1', compare=restored, name='n1')
    nowhere = cluster.work / 'nowhere'
    assert 'HKE5012E' in ask(cluster, cluster.osaka, 'restore', 'n1', '--volume', 'nix', '--to',
                             str(nowhere), code=2)
    assert 'HKE5011E' in ask(cluster, cluster.osaka, 'restore', 'n2', '--volume', 'data', '--to',
                             str(nowhere), code=2)
    assert not nowhere.exists()
    assert 'HKE5011E' in ask(cluster, cluster.osaka, 'freeze', 'n2', '--end', code=2)
    ask(cluster, cluster.osaka, 'freeze', 'n1', '--end')
    cluster.wait_status(cluster.osaka, frozen=False)
    cluster.wait_caught_up()
    cluster.assert_nobody_died()


def test_freeze_ends_before_the_journal_is_full(cluster_of):
    """80 %: the freeze is ended, durably, with its message; who reads the image fails with it."""
    cluster = cluster_of(data_mib=256, wal_mib=8, journal_mib=64).start()
    ask(cluster, cluster.tokyo, 'freeze', 'n1')
    cluster.wait_status(cluster.osaka, frozen=True)
    to = cluster.work / 'n1.img'
    child = start_restore(cluster, 'n1', to)
    write_some(cluster, 72)
    cluster.wait_status(cluster.osaka, frozen=False)
    e = wait_event(cluster, cluster.osaka, 'HKE5004W')
    assert 'n1' in e['text'] and '80 %' in e['text']
    restore_fails(child, to)
    assert ask_json(cluster, cluster.osaka, 'images')['images'] == []
    cluster.wait_caught_up()
    assert cluster.status(cluster.osaka)['journal_used'] < 52 * MIB


def test_failover_ends_a_freeze_first(cluster_of):
    cluster = cluster_of(data_mib=256, wal_mib=8, journal_mib=96).start()
    ask(cluster, cluster.tokyo, 'freeze', 'n1')
    cluster.wait_status(cluster.osaka, frozen=True)
    write_some(cluster, 8)
    to = cluster.work / 'n1.img'
    child = start_restore(cluster, 'n1', to)
    lose_primary(cluster)
    ask(cluster, cluster.osaka, 'failover')
    order = [e['id'] for e in events(cluster, cluster.osaka)]
    assert order.index('HKE5004W') < order.index('HKE6001I') < order.index('HKE6002I')
    restore_fails(child, to)
    s = cluster.status(cluster.osaka)
    assert not s['frozen'] and s['promoted']
    assert 'was promoted' in ask(cluster, cluster.osaka, 'freeze', 'n2', code=2)
    cluster.standby.kill(sig=15)
    cluster.replay(compare=cluster.images(cluster.osaka), name='end')
