# SPDX-License-Identifier: Apache-2.0
"""What is wrong before, and beside, a running group: configuration files and on-disk structures.

Goal: a wrong setting is named with its file, line and key, by check-config and by hikaed alike;
sites that disagree refuse each other and say so; `dump` shows every structure and names its damage
by the right id, without touching it; a daemon that is not there is told with what to do.
"""
import json
import pathlib
import re
import shutil
import socket
import struct

import pytest

from harness import run, tool
from test_verbs import SMALL, ask, events, screen, wait_event, write_some

# What is changed (file, pattern, replacement), and what must be said: id, key, line is checked too.
WRONG = [
    ('group', r'mode = "sync"', 'mode = "synch"', 'HKE1005E', 'mode'),
    ('group', r'mode = "sync";', '', 'HKE1003E', 'mode'),
    ('group', r'contact-timeout-ms = \d+', 'contact-timeout-ms = "soon"', 'HKE1004E',
     'contact-timeout-ms'),
    ('group', r'contact-timeout-ms = \d+', 'contact-timeout-ms = 1', 'HKE1005E',
     'contact-timeout-ms'),
    ('group', r'lab-unencrypted = true', 'lab-unencrypted = false', 'HKE1009E', 'lab-unencrypted'),
    ('group', r'name = "wal"', 'name = "data"', 'HKE1007E', 'name'),
    ('group', r'group-id = "[^"]+"', 'group-id = "42"', 'HKE1005E', 'group-id'),
    ('group', r'on-link-loss', 'on-link-lost', 'HKE1006E', 'on-link-lost'),
    ('group', r'on-link-loss = "[a-z]+"', 'on-link-loss = "block"; on-overflow = "behind"',
     'HKE1014E', 'on-overflow'),
    ('group', r'lab-unencrypted', 'on-overflow = "drop"; lab-unencrypted', 'HKE1005E',
     'on-overflow'),
    ('group', r'volumes = \(', 'volumes = ', 'HKE1002E', None),
    ('site', r'role = "standby"', 'role = "slave"', 'HKE1005E', 'role'),
    ('site', r'site = "osaka"', 'site = "kyoto"', 'HKE1005E', 'site'),
    ('site', r'volume = "wal"', 'volume = "log"', 'HKE10', 'volume'),
    ('site', r'segment-mib = \d+', 'segment-mib = 3', 'HKE1005E', 'segment-mib'),
    ('site', r'backend = "udp"', 'backend = "tcp"', 'HKE1005E', 'backend'),
]


def test_wrong_files(cluster_of):
    """Each mistake: one precise line with file, line and key, the same from check-config and
    hikaed.
    """
    cluster = cluster_of(**SMALL)
    for which, old, new, name, key in WRONG:
        group, site = cluster.work / 'wrong-group.conf', cluster.work / 'wrong-site.conf'
        texts = {'group': cluster.group_conf.read_text(), 'site': cluster.osaka.conf.read_text()}
        texts[which], n = re.subn(old, new, texts[which], count=1)
        assert n == 1, old
        group.write_text(texts['group'])
        site.write_text(texts['site'])
        wrong = {'group': group, 'site': site}[which]
        argv = ('--group', group, '--site', site)
        for r in (run(tool('hikae'), 'check-config', *argv, check=False),
                  run(tool('hikaed'), *argv, check=False, timeout=20)):
            lines = r.stdout.strip().splitlines()
            assert r.returncode == 1 and len(lines) == 1, f'{new}: exit {r.returncode}: {r.stdout}'
            assert name in lines[0], f'{new}: {lines[0]}, expected {name}'
            assert re.search(rf'{re.escape(str(wrong))}:\d+: ', lines[0]), lines[0]
            assert key is None or key in lines[0], lines[0]
    r = run(tool('hikae'), 'check-config', '--group', '/nowhere', '--site', '/nowhere', check=False)
    assert r.returncode == 1 and 'HKE1001E' in r.stdout and '/nowhere' in r.stdout


def test_config_differs(cluster_of):
    """Sites that read different group.conf: refused by both, said by both, healed by the same
    file.
    """
    cluster = cluster_of(**SMALL)
    good = cluster.group_conf.read_text()
    cluster.start()
    cluster.primary.kill(sig=15)
    cluster.group_conf.write_text(re.sub(r'contact-timeout-ms = \d+', 'contact-timeout-ms = 1700',
                                         good))
    cluster.primary.start()
    for site in (cluster.tokyo, cluster.osaka):
        wait_event(cluster, site, 'HKE2015E')
        s = cluster.wait_status(site, config='differs', config_equal=False, in_sync=False)
        assert any('HKE2015E' in c for c in s['cause']) and s['do'], s
        assert 'CONFIG DIFFERS' in screen(cluster, site)
    assert sum(e['id'] == 'HKE2015E' for e in events(cluster, cluster.osaka)) == 1
    cluster.primary.kill(sig=15)
    cluster.group_conf.write_text(good)
    cluster.primary.start()
    for site in (cluster.tokyo, cluster.osaka):
        s = cluster.wait_status(site, in_sync=True, config='equal')
        assert s['last_refusal'] == '' and s['cause'] == []


def test_daemon_not_there(cluster_of):
    cluster = cluster_of(**SMALL).start()
    cluster.standby.kill()
    for verb in (('status',), ('events',), ('failover',), ('images',)):
        out = ask(cluster, cluster.osaka, *verb, code=1)
        assert 'HKE1037E' in out and 'start hikaed' in out and 'data is not affected' in out
    cluster.standby.start()
    cluster.wait_status(cluster.osaka, in_sync=True)
    assert cluster.primary.kill(sig=15) == 0, 'an orderly stop is no failure'
    cluster.primary.start()
    cluster.wait_status(cluster.osaka, in_sync=True)
    second = run('ip', 'netns', 'exec', cluster.osaka.ns, tool('hikaed'), '-g', cluster.group_conf,
                 '-s', cluster.osaka.conf, check=False, timeout=30)
    assert second.returncode == 1 and re.search(r'hikaed: HKE\d{4}E', second.stdout), second.stdout
    cluster.wait_status(cluster.osaka, in_sync=True)
    cluster.assert_nobody_died()


def dump(path, code, *options):
    before = path.read_bytes()
    r = run(tool('hikae'), 'dump', path, '--json', *options, check=False)
    assert r.returncode == code, (f'dump {path.name}: exit {r.returncode}, expected {code}\n'
                                  f'{r.stdout[-800:]}')
    assert path.read_bytes() == before
    words = run(tool('hikae'), 'dump', path, check=False)
    assert words.returncode == code
    return r.stdout


def parsed(out):
    return json.loads('\n'.join(line for line in out.splitlines()
                                if not line.startswith('hikae: ')))


def damaged(path, to, at=None, data=b'', cut=None):
    shutil.copyfile(path, to)
    with open(to, 'r+b') as f:
        if at is not None:
            f.seek(at)
            f.write(data)
        if cut is not None:
            f.truncate(cut)
    return to


@pytest.fixture
def stopped(cluster_of):
    cluster = cluster_of(**SMALL).start()
    ask(cluster, cluster.tokyo, 'freeze', 'n1')
    write_some(cluster, 3)
    cluster.standby.kill(sig=15)
    return cluster


def test_dump_metadata(stopped):
    to = stopped.work / 'damaged.md'
    for site, role in ((stopped.tokyo, 'primary'), (stopped.osaka, 'standby')):
        path = site.dir / 'core.md'
        d = parsed(dump(path, 0))
        s = d['super']
        assert d['structure'] == 'superblocks' and s['role'] == role and s['group'] == 'core'
        assert ([v['name'] for v in s['volumes']] == ['data', 'wal']
                and s['history'][0]['ordinal'] == 1)
        if role == 'standby':
            assert s['freeze_name'] == 'n1' and 'frozen' in s['flags']
        newest = (s['sequence'] & 1) * 16384
        out = dump(damaged(path, to, newest + 200, b'\xff\x55'), 2)
        assert 'HKE7032E' in out and 'the other slot is valid' in out
        assert parsed(out)['super']['sequence'] < s['sequence']
        data = bytearray(path.read_bytes())
        for slot in (0, 16384):
            data[slot + 300] ^= 1
        to.write_bytes(data)
        assert 'HKE7032E' in dump(to, 2)
        for slot in (0, 16384):
            data[slot + 300] ^= 1
            data[slot + 8] = 9
        to.write_bytes(data)
        assert 'HKE7031E' in dump(to, 2)
        assert 'HKE1048E' in dump(damaged(path, to, cut=1000), 1)
        assert 'HKE1049E' in dump(damaged(path, to, 0, bytes(32768)), 2)


def test_dump_dirty_map(cluster_of):
    """What a killed primary leaves: marks that were durable before their writes; damage is found,
    and costs a compare of what it hit.
    """
    cluster = cluster_of(**SMALL).start()
    write_some(cluster, 5)
    cluster.plugin.kill()
    path, to = cluster.tokyo.dir / 'core.md', cluster.work / 'damaged.md'
    d = parsed(dump(path, 0))
    m = d['dirty_map']
    regions = sum(-(-size // m['region_bytes']) for _, size in cluster.volumes)
    assert m['verdict'] == 'sound' and m['regions'] == regions and m['hot'] > 0, m
    assert m['hot'] + m['clean'] == regions and m['stale'] == m['spooled'] == 0, m
    assert {r['state'] for r in d['ranges']} == {'hot'}
    assert all(r['offset'] % m['region_bytes'] == 0 for r in d['ranges'])
    short = parsed(dump(path, 0, '--check'))
    assert short['dirty_map'] == m and 'super' not in short and 'ranges' not in short
    log, the_map = 32768, 32768 + (1 << 20)
    newest = log + m['transaction'] % 256 * 4096
    out = dump(damaged(path, to, newest + 1000, b'\xa5'), 2)
    assert 'HKE7035E' in out and parsed(out)['dirty_map']['stale'] == regions
    out = dump(damaged(path, to, newest, path.read_bytes()[log:log + 4096]), 2, '--check')
    assert 'HKE7035E' in out and 'wrong place' in out
    out = dump(damaged(path, to, the_map + 100, b'\xa5'), 2)
    assert 'HKE7036E' in out and parsed(out)['dirty_map']['damaged_sectors'] == 1
    assert 'HKE7035E' in dump(damaged(path, to, cut=the_map), 2)
    # An old page of the ring, which nobody needs any more.
    old = log + (m['transaction'] - 40) % 256 * 4096
    assert parsed(dump(damaged(path, to, old + 9, b'\xa5'), 0))['dirty_map']['hot'] == m['hot']


def test_dump_segment(stopped):
    path = sorted(p for p in (stopped.osaka.dir / 'journal').glob('*.seg')
                  if not p.name.startswith('free'))[0]
    to = stopped.work / 'damaged.seg'
    out = dump(path, 0)
    d = parsed(out)
    records = [r for b in d['batches'] for r in b['records']]
    assert d['structure'] == 'segment' and {b['verdict'] for b in d['batches']} == {'ok'}
    assert [r['mark'] for r in records if r['type'] == 'mark'] == ['n1']
    assert sum(r['length'] for r in records if r['type'] == 'write') == 3 << 20
    assert '"payload":' not in out, "customers' data only on demand"
    assert '"payload":' in dump(path, 0, '--payload')
    batch = max(d['batches'], key=lambda b: b['bytes'])
    at, last = batch['at'], d['batches'][-1]['at']
    inside = at + 4096 + batch['first_lsn'] % 4096 + 2000
    out = dump(damaged(path, to, inside, b'\xa5\x5a\xa5'), 2)
    assert 'HKE7024E' in out and parsed(out)['end_lsn'] == batch['first_lsn']
    assert 'HKE7024E' in dump(damaged(path, to, last + 4096 + batch['first_lsn'] % 64,
                                      b'\xa5' * 4096), 2)
    assert 'HKE7024E' in dump(damaged(path, to, at + 60, b'\xa5'), 2)
    assert 'HKE7023E' in dump(damaged(path, to, 8, b'\x09'), 2)
    assert 'HKE7024E' in dump(damaged(path, to, 40, b'\x99\x88'), 2)
    for cut in (at + 4096 + 512, 8192, 100):
        assert 'HKE7021E' in dump(damaged(path, to, cut=cut), 2)
    assert 'HKE1049E' in dump(damaged(path, to, 0, bytes(4096)), 2)


def test_dump_ring(stopped):
    path = pathlib.Path(stopped.ring)
    to = stopped.work / 'damaged.ring'
    d = parsed(dump(path, 0))
    assert d['structure'] == 'ring' and d['epoch'] == 1 and d['durable'] <= d['next_lsn']
    assert 'HKE1047E' in dump(damaged(path, to, 24, b'\xa5\xa5'), 2)
    assert 'HKE1047E' in dump(damaged(path, to, cut=1 << 20), 2)
    assert 'HKE1049E' in dump(damaged(path, to, 0, bytes(8)), 2)
    nothing = stopped.work / 'nothing'
    r = run(tool('hikae'), 'dump', nothing, check=False)
    assert r.returncode == 1 and 'HKE1050E' in r.stdout
    nothing.touch()
    r = run(tool('hikae'), 'dump', nothing, check=False)
    assert r.returncode == 1 and 'empty' in r.stdout


def test_strangers_and_local_garbage(cluster_of):
    """The local socket and a foreign address: counted in status, named in events, nothing
    harmed.
    """
    cluster = cluster_of(**SMALL).start()
    path = f'{cluster.work}/osaka.sock'
    kinds = {'oversized': struct.pack('<I', 1 << 30) + b'z' * 64,
             'malformed': struct.pack('<I', 40) + b'\xff' * 40,
             'truncated': struct.pack('<I', 400) + b'short'}
    for number, (what, data) in enumerate(kinds.items(), 1):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(10)
            s.connect(path)
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            assert s.recv(100) == b''
        cluster.wait_status(cluster.osaka, local_bad=number)
        assert what in wait_event(cluster, cluster.osaka, 'HKE7011W')['text']
    r = run('ip', '-n', cluster.tokyo.ns, 'addr', 'add', '10.78.0.66/24', 'dev', 'wan0')
    assert r.returncode == 0
    for _ in range(3):
        run('ip', 'netns', 'exec', cluster.tokyo.ns, '/usr/bin/python3', '-c',
            'import socket; s = socket.socket(); s.bind(("10.78.0.66", 0)); s.settimeout(5); '
            's.connect(("10.78.0.2", 7700)); s.recv(1)', check=False, timeout=20)
    s = cluster.wait_status(cluster.osaka, strangers=3)
    assert '10.78.0.66' in wait_event(cluster, cluster.osaka, 'HKE7015W')['text']
    assert sum(e['id'] == 'HKE7015W' for e in events(cluster, cluster.osaka)) == 1
    assert s['session'] == 'up' and 'REFUSED' in screen(cluster, cluster.osaka)
    write_some(cluster, 2)
    cluster.wait_status(cluster.osaka, in_sync=True)
    cluster.assert_nobody_died()
