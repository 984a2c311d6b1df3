# SPDX-License-Identifier: Apache-2.0
"""Bytes from strangers: refused, counted by kind, harmless.

Goal: truncated, oversized, wrong-version and wrong-hash frames and control messages are counted in
status under a name of their own and hurt nothing: replication goes on, the session stays, nothing
dies.
Method: datagrams and connections from inside the primary's namespace, made by hand from the text of
proto/SPEC.md §4 and §10, while a client writes.
"""
import ctypes
import json
import socket
import struct
import subprocess

import pytest

from harness import die_with_parent, judge, wait_until

SENDER = r'''
import json, socket, struct, sys
job = json.load(sys.stdin)

def datagram(data, number):
    # From the peer's own address and port, or the kernel drops it for the connected socket; in
    # fragments, because a raw socket cuts nothing.
    udp = struct.pack('>HHHH', 7701, job['port'], 8 + len(data), 0) + data
    for at in range(0, len(udp), 1480):
        part = udp[at:at + 1480]
        more = 0x2000 if at + 1480 < len(udp) else 0
        yield struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(part), number, more | at // 8, 64, 17,
                          0, socket.inet_aton(job['source']), socket.inet_aton(job['host'])) + part

if job['kind'] == 'udp':
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for number, d in enumerate(job['data']):
        for packet in datagram(bytes.fromhex(d), number + 1):
            s.sendto(packet, (job['host'], 0))
else:
    for d in job['data']:
        s = socket.create_connection((job['host'], job['port']), 5)
        s.sendall(bytes.fromhex(d))
        s.shutdown(socket.SHUT_WR)
        s.settimeout(5)
        try:
            while s.recv(65536):
                pass
        except OSError:
            pass
        s.close()
'''


class Hash128(ctypes.Structure):
    _fields_ = [('low', ctypes.c_uint64), ('high', ctypes.c_uint64)]


XXH = ctypes.CDLL('libxxhash.so.0')
XXH.XXH3_128bits.restype = Hash128
XXH.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def frame(version=1, kind=1, session=1, number=1, lsn=4096, body=b'x' * 64, span=None, tag=None,
          body_len=None):
    head = struct.pack('<BBBBIQQIHH', version, kind, 0, 0, session, number, lsn,
                       len(body) if span is None else span,
                       len(body) if body_len is None else body_len, 0)
    h = XXH.XXH3_128bits(head + body, len(head) + len(body))
    return head + body + (struct.pack('<QQ', h.low, h.high) if tag is None else tag)


def send(cluster, kind, host, port, data):
    job = {'kind': kind, 'host': host, 'port': port, 'source': cluster.tokyo.address,
           'data': [d.hex() for d in data]}
    subprocess.run(['ip', 'netns', 'exec', cluster.tokyo.ns, '/usr/bin/python3', '-c', SENDER],
                   input=json.dumps(job), text=True, timeout=60, check=True,
                   preexec_fn=die_with_parent)


def counts(cluster):
    s = cluster.status(cluster.osaka)
    total = dict(control=s['control_bad'], session=s['other_session'])
    for p in s['paths']:
        for k, v in p['bad_frames'].items():
            total[k] = total.get(k, 0) + v
    return total


def test_bad_frames_and_messages(cluster_of, stamper_of, rng):
    cluster = cluster_of(mode='sync', policy='block').start()
    stamper = stamper_of(cluster.uris(), rate=300, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    session = cluster.status(cluster.osaka)['session_id']
    whole = frame(session=session)
    kinds = {
        'truncated': [whole[:20], whole[:47], b''],
        'cut in its body': [whole[:-8]],
        'oversized': [frame(session=session, body=b'y' * 16321)],
        'wrong version': [frame(version=9, session=session)],
        'wrong hash': [frame(session=session, tag=bytes(16)), whole[:-1] + b'\x5a'],
        'unknown type': [frame(kind=77, session=session)],
        'another session': [frame(session=session ^ 0x55aa)],
        'lengths that disagree': [frame(session=session, span=17)],
        'noise': [rng.randbytes(rng.randrange(1, 1400)) for _ in range(200)],
    }
    first = counts(cluster)
    for what, data in kinds.items():
        before = counts(cluster)
        send(cluster, 'udp', cluster.osaka.address, 7701, data)

        def counted(before=before):
            now = counts(cluster)
            return {k: v - before.get(k, 0) for k, v in now.items() if v != before.get(k, 0)}
        print(f'{what}: {wait_until("a count for " + what, counted, 10)}')
    names = [k for k, v in counts(cluster).items() if v != first.get(k, 0)]
    assert len(names) >= 5, f'each kind has its own count: {names}'
    before = counts(cluster)['control']
    messages = [struct.pack('<I', 1 << 30) + b'z' * 100, struct.pack('<I', 40) + b'\xff' * 40,
                struct.pack('<I', 400) + b'short', b'GET / HTTP/1.0\r\n\r\n']
    send(cluster, 'tcp', cluster.osaka.address, 7700, messages)
    wait_until('the control messages counted',
               lambda: counts(cluster)['control'] >= before + len(messages) - 1, 10)
    assert cluster.status(cluster.osaka)['session_id'] == session, 'the session was disturbed'
    stamper.wait_progress()
    summary = stamper.stop()
    assert summary['errors'] == 0 and summary['disconnects'] == 0
    cluster.wait_caught_up()
    cluster.assert_nobody_died()
    for p in (cluster.plugin, cluster.primary, cluster.standby):
        p.kill(sig=15)
    judge(stamper.log, cluster.images(cluster.osaka), '--mode', 'sync')


@pytest.mark.parametrize('damage', ['flip', 'cut', 'version', 'hash'])
def test_damaged_journal(cluster_of, stamper_of, rng, damage):
    """A journal damaged below what was reported durable: told, never applied, never promoted over.
    Without anything left that could tell, promotion must at least print that verdict."""
    cluster = cluster_of(mode='sync', policy='block', data_mib=8, wal_mib=8).start()
    stamper = stamper_of(cluster.uris(), rate=300, seed=rng.randrange(1 << 30))
    # The applier is held, so that the damaged part is still needed.
    cluster.hikae(cluster.tokyo, 'freeze', 'hold')
    cluster.wait_status(cluster.osaka, frozen=True)
    frozen_at = cluster.status(cluster.osaka)['applied']
    stamper.wait_progress(1000)
    cluster.standby.kill()
    segment = sorted((cluster.osaka.dir / 'journal').glob('*.seg'))[0]
    data = bytearray(segment.read_bytes())
    at = find_batch_after(data, frozen_at)
    if damage == 'flip':
        first, length = struct.unpack_from('<QQ', data, at + 32)
        data[at + 4096 + first % 4096 + length // 2] ^= 1
    elif damage == 'cut':
        data[at + 4096:] = bytes(len(data) - at - 4096)
    elif damage == 'version':
        data[at + 8] = 9
    else:
        data[at + 4090] ^= 0xff
    segment.write_bytes(data)
    cluster.standby.start()

    def told():
        assert 'corrupt' in cluster.standby.tail().lower(), 'not told yet'
        return True
    wait_until('the damage being told', told, 20)
    r = cluster.hikae(cluster.osaka, 'failover', check=False)
    if damage == 'cut':
        # Every later stamp is gone with it: nobody can tell, and promotion says so (SPEC.md §7.4).
        assert r.returncode != 0 or 'torn or corrupt' in r.stdout, r.stdout
    else:
        assert r.returncode != 0, 'promoted over a corrupt journal without being asked twice'
    print(f'{damage}: exit {r.returncode}: {r.stdout.splitlines()[-1]}')


def find_batch_after(data, lsn):
    """The first whole batch header whose records all lie at or behind this LSN."""
    for at in range(4096, len(data), 4096):
        if data[at:at + 8] == b'HAKIBAT1' and struct.unpack_from('<Q', data, at + 32)[0] >= lsn:
            return at
    raise AssertionError('no batch behind the freeze in the first segment')
