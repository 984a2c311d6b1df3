# SPDX-License-Identifier: Apache-2.0
"""The judge itself, end to end, with no Hikae in sight.

Goal: the writer, its record and the checker tell the truth about a real NBD server that is killed.
Method: nbdkit over plain files is killed with SIGKILL several times while the writer has a full
queue and reconnects. Files keep what was written before the kill, so every verdict must be
CONSISTENT; then the images are doctored in ways that lose, tear, age or invent data, and each must
be refused.
"""
import os
import random
import time

from harness import MIB, Process, judge, figure, wait_until

BLOCK = 4096


def start(server, socket):
    socket.unlink(missing_ok=True)
    server.start()
    wait_until('nbdkit', socket.exists, 10)


def test_kill_and_doctored(work, stamper_of, rng):
    images = [work / 'v0', work / 'v1']
    (work / 'dir').mkdir()
    for i in images:
        with open(i, 'wb') as f:
            f.truncate(8 * MIB)
        os.link(i, work / 'dir' / i.name)
    socket = work / 's'
    server = Process('nbdkit', ['nbdkit', '-f', '-U', socket, 'file', f'dir={work}/dir'],
                     work / 'nbdkit.log')
    start(server, socket)
    try:
        stamper = stamper_of([f'nbd+unix:///{i.name}?socket={socket}' for i in images], depth=32,
                             rate=4000, seed=rng.randrange(1 << 30))
        for _ in range(4):
            time.sleep(rng.uniform(0.2, 0.6))
            server.kill()
            start(server, socket)
            stamper.wait_progress()
        stamper.note('almost')
        summary = stamper.stop()
    finally:
        server.kill()
    assert summary['errors'] == 0
    assert summary['disconnects'] >= 4
    out = judge(stamper.log, images, '--mode', 'sync')
    promised = figure(out, r'(\d+) promised durable')
    assert promised > 500
    judge(stamper.log, images, '--mode', 'async')
    judge(stamper.log, images, '--acked', 'flushed', '--unknown-end', 'connect')
    refused = doctor(work, stamper, images, rng)
    print(f'{promised} promised operations judged; {refused} doctored images refused')


def doctor(work, stamper, images, rng):
    """Damages single blocks: each kind must be refused, in both modes where both can tell."""
    refused = 0
    whole = images[0].read_bytes()
    used = [i for i in range(0, len(whole), BLOCK) if any(whole[i:i + BLOCK])]
    for kind in ('foreign', 'swapped', 'lost', 'bit'):
        for _ in range(5):
            image = bytearray(whole)
            at = rng.choice(used)
            if kind == 'foreign':
                image[at:at + BLOCK] = random.Random(at).randbytes(BLOCK)
            elif kind == 'bit':
                image[at + rng.randrange(BLOCK)] ^= 1 << rng.randrange(8)
            elif kind == 'lost':  # the last thing written anywhere near is forgotten
                image[at:at + BLOCK] = b'\xee' * BLOCK
            else:
                other = rng.choice([u for u in used if whole[u:u + BLOCK] != whole[at:at + BLOCK]])
                image[at:at + BLOCK] = whole[other:other + BLOCK]
            path = work / 'doctored'
            path.write_bytes(image)
            out = judge(stamper.log, [path, images[1]], '--mode', 'sync', expect=1) \
                if kind != 'swapped' else None
            # Repeating contents may make an exchange legal: it must be noticed mostly.
            if out is None:
                try:
                    judge(stamper.log, [path, images[1]], '--mode', 'sync', expect=1)
                except AssertionError:
                    continue
            refused += 1
    # The whole image of an earlier moment: acknowledged writes are gone.
    path = work / 'doctored'
    path.write_bytes(bytes(len(whole)))
    judge(stamper.log, [path, images[1]], '--mode', 'sync', expect=1)
    judge(stamper.log, [path, images[1]], '--mode', 'async', expect=1)  # the other volume is new
    path2 = work / 'doctored2'
    path2.write_bytes(bytes(len(whole)))
    judge(stamper.log, [path, path2], '--mode', 'sync', expect=1)
    judge(stamper.log, [path, path2], '--mode', 'async', expect=0)  # nothing at all is a prefix
    judge(stamper.log, [path, path2], '--mode', 'async', '--at-least', 'almost', expect=1)
    assert refused >= 15
    return refused + 4
