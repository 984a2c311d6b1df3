# SPDX-License-Identifier: Apache-2.0
"""Rounds of everything at random: mode, sizes, writers, faults; in the end two equal copies.

Goal: whatever happens, in whatever order, when it is over both replicas are equal by hash and hold
what was acknowledged; and at no moment in between is an acknowledged write missing at the standby
that status had not declared at risk (I1, I9, I10, I18). Method: each round is a cluster of its own
over DPDK, drawn from one seed that is printed. Writers of several shapes go on while up to three
faults strike; after each the claims of both sites are read, the image that a failover would show is
built from the journal by the independent reader, and hk-check judges it by the clients' records:
with all that was acknowledged before the claim where no loss was claimed, else by order alone.

Fifty rounds with HK_TEST_MODE=whole; a sample else. HK_SEED=N repeats a run, HK_ROUND=K one round.
"""
import hashlib
import os
import random
import time

import pytest

from harness import MIB, WHOLE, judge, run, tool, wait_until
from test_full import more_room

ROUNDS = 50 if WHOLE else 6
SEED = int(os.environ.get('HK_SEED', 20261123 if not WHOLE else
                          random.SystemRandom().randrange(1 << 32)))
CHOSEN = [int(os.environ['HK_ROUND'])] if 'HK_ROUND' in os.environ else range(ROUNDS)
FAULTS = ['cut', 'long-cut', 'black-hole', 'plugin', 'primary', 'standby', 'site', 'machine',
          'both']
judged = {'zero': 0, 'order': 0, 'not': 0}


class Round:
    def __init__(self, number, cluster_of, stamper_of):
        self.number = number
        self.rng = rng = random.Random(f'{SEED}-{number}')
        self.mode = ('sync', 'semisync', 'async')[number % 3]
        self.small = rng.choice(('', '', 'journal', 'spool', 'pin'))
        self.options = dict(
            mode=self.mode, policy='block' if rng.random() < 0.25 else 'continue', backend='dpdk',
            ring_payload_mib=4, data_mib=rng.choice((24, 48)),
            region_bytes=rng.choice((None, 65536, MIB)), segment_mib=8,
            journal_mib=48 if self.small == 'journal' else 384,
            snapshot_mib=1 if self.small == 'pin' else 0,
            spool_segments=2 if self.small == 'spool' else rng.choice((0, 8)))
        self.faults = rng.sample(FAULTS, rng.choice((1, 2, 3)))
        if self.small in ('spool', 'pin') and 'long-cut' not in self.faults:
            self.faults[0] = 'long-cut'
        self.cluster = cluster_of(**self.options).start()
        self.stampers = self.writers(stamper_of)
        self.notes = 0
        self.torn = False
        self.told = []

    def writers(self, stamper_of):
        """One or two clients, each with a range of its own on both volumes."""
        rng, made = self.rng, []
        half = 8 * MIB
        for k in range(rng.choice((1, 2))):
            made.append(stamper_of(
                self.cluster.uris(), '--range', f'{k * half}+{half}', '--overlap',
                str(rng.choice((0, 20, 60))), '--unique', str(rng.choice((5, 25, 90))),
                depth=rng.choice((1, 8, 32)), block_max=rng.choice((4096, 16384, 131072)),
                rate=rng.choice((100, 300, 600)), seed=rng.randrange(1 << 30), reconnect=120))
            made[-1].bounds = (k * half, half)
        return made

    # ---- claims ----

    def claim(self):
        """What both sites say of a loss, and the image that a failover would lead to."""
        self.notes += 1
        note = f'n{self.notes}'
        for s in self.stampers:
            s.note(note)
        said = []
        for site in (self.cluster.tokyo, self.cluster.osaka):
            try:
                said.append(self.cluster.status(site))
            except (AssertionError, OSError, ValueError):
                pass  # it was killed, or has only just been started: it claims nothing
        here = [s for s in said if s['role'] == 'standby']
        if not here or not here[0]['ready']:
            return
        zero = any(s['in_sync'] or (s['lose_known'] and s['lose_bytes'] == 0)
                   or (s['role'] == 'standby' and s['loss_class'] == '0, proven') for s in said)
        self.judge(note, here[0], zero and self.mode == 'sync')

    def judge(self, note, standby, zero):
        if standby['inconsistent'] and not standby['pinned']:
            return
        lsn = standby['pin_lsn'] if standby['inconsistent'] else standby['durable']
        try:
            images, _ = self.cluster.replay(f'--to-lsn {lsn}')
        except AssertionError as e:
            # A small journal keeps no more than it needs: there is nothing to build it from.
            assert 'the journal begins at LSN' in str(e) or 'base' in str(e), e
            judged['not'] += 1
            return
        options = ['--mode', 'sync', '--at-least', note] if zero else ['--mode', 'async']
        self.check(images, options)
        for image in images:
            image.unlink()
        judged['zero' if zero else 'order'] += 1
        self.told.append('0' if zero else '?')

    def check(self, images, options):
        # Who is killed may tear the write it was doing; if the ring does not have it, nobody redoes
        # it, and what a resync then makes equal is the torn one.
        if self.torn:
            options = options + ['--torn-ok']
        for k, s in enumerate(self.stampers):
            at, length = s.bounds
            log = s.copy(f'judged{k}.log')
            argv = [a for n, image in enumerate(images)
                    for a in ('--volume', f'{n}={image}:{at}:{length}')]
            judge(log, [], *options, *argv)
            log.unlink()

    # ---- faults ----

    def is_behind(self):
        try:
            return self.cluster.status(self.cluster.tokyo)['state'] == 'behind'
        except (AssertionError, OSError, ValueError):
            return True

    def strike(self, fault):
        c, rng = self.cluster, self.rng
        time.sleep(rng.uniform(0.1, 0.6))
        if rng.random() < 0.5:
            for s in self.stampers:
                s.rate(0)
        time.sleep(rng.uniform(0.05, 0.3))
        if fault == 'machine' or fault in ('plugin', 'site', 'both') and self.is_behind():
            self.torn = True
        if fault in ('cut', 'long-cut'):
            c.cut()
        elif fault == 'black-hole':
            c.black_hole()
        elif fault in ('plugin', 'primary', 'standby'):
            getattr(c, fault).kill()
        else:
            c.kill_site()
            if fault == 'both':
                c.standby.kill()
            if fault == 'machine':
                os.unlink(c.ring)
        if fault == 'long-cut' and self.options['policy'] == 'continue':
            for s in self.stampers:
                s.rate(0)
            wait_until('behind', lambda: c.status(c.tokyo)['state'] == 'behind', 90)
        else:
            time.sleep(rng.uniform(0, 2.5))

    def mend(self, fault):
        c = self.cluster
        for s in self.stampers:
            s.rate(self.rng.choice((50, 200)))
        if fault in ('cut', 'long-cut'):
            c.heal()
        elif fault == 'black-hole':
            c.black_hole_end()
        if not c.standby.running():
            c.standby.start()
        if not c.plugin.running():
            c.start_plugin()
        if not c.primary.running():
            c.primary.start()

    def healthy(self):
        """Healed by itself, but for the room that only people can give."""
        c = self.cluster
        for _ in range(2):
            def healed_or_stuck():
                if any(x.startswith('HKE4042E') for x in c.status(c.osaka)['cause']):
                    return 'stuck'
                c.wait_healthy(0.1)
                return 'healed'
            if wait_until(f'round {self.number} healed', healed_or_stuck, 150, 0.1) == 'healed':
                return
            assert self.small == 'pin', 'no room although there is no bound'
            more_room(c, 'snapshot-mib = 1;', 'snapshot-mib = 0;')
            wait_until('room', lambda: not any(x.startswith('HKE4042E')
                                               for x in c.status(c.osaka)['cause']), 60)
        raise AssertionError('stuck twice')

    # ---- the end ----

    def hashes(self, site):
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in self.cluster.images(site)]

    def end(self):
        c = self.cluster
        self.healthy()
        for s in self.stampers:
            s.wait_progress(4)
        for s in self.stampers:
            summary = s.stop(90)
            assert summary['errors'] == 0 and summary['exit'] == 0, summary
        c.wait_caught_up(90)
        s = c.status(c.osaka)
        assert not s['pinned'] and not s['inconsistent'], s
        c.assert_nobody_died()
        for p in (c.plugin, c.primary, c.standby):
            p.kill(sig=15, timeout=30)
        assert self.hashes(c.tokyo) == self.hashes(c.osaka), 'the copies differ'
        self.check(c.images(c.osaka), ['--mode', 'sync'])
        out = run(tool('hikae'), 'dump', '--check', c.tokyo.dir / 'core.md').stdout
        assert 'stale: 0 ' in out, out


@pytest.mark.parametrize('number', CHOSEN)
def test_round(cluster_of, stamper_of, number):
    began = time.monotonic()
    print(f'HK_SEED={SEED} HK_ROUND={number}')
    r = Round(number, cluster_of, stamper_of)
    print(f'  {r.mode} {r.options["policy"]}, small: {r.small or "nothing"}, '
          f'{len(r.stampers)} writers, faults {" ".join(r.faults)}')
    for s in r.stampers:
        s.wait_progress(16)
    for fault in r.faults:
        r.strike(fault)
        r.claim()
        r.mend(fault)
        if r.rng.random() < 0.6:  # else the next one strikes while it heals
            r.healthy()
        r.claim()
    r.end()
    print(f'  equal; claims judged {"".join(r.told)}; {time.monotonic() - began:.1f} s')


def test_claims_were_judged():
    """The rounds above are worth what was looked at in them."""
    if len(CHOSEN) < 2:
        return
    print(f'claims: {judged}')
    assert judged['zero'] > 0 and judged['order'] > 0
    assert judged['zero'] + judged['order'] >= judged['not'], judged
