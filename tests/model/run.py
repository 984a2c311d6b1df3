#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev model: SPIN searches every state of the models of tests/model, and must find each mutant.

One line a search: states, depth, seconds. A search has passed when pan went through all states
without an error and reached every transition, but for those that say `unreached: WHY`. A mutant has
passed when the assertion that it is meant for is the one that fails. The last line is the count.

  --large    larger configurations with bitstate hashing, for the ledger
  --record   with --large: notes the sum in tests/seeds/LEDGER.tsv
  NAME...    only these searches or mutants
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(os.environ.get('HK_BUILD') or os.path.join(TOP, 'build'), 'model')
# What the figures of the ledger are about: the last commit that changed what decides about data.
JUDGED = ['proto', 'driver-glue/capture', 'replicator/core', 'replicator/store', 'replicator/group']
DEPTH = 2000000
HASH_BITS = 24
MEMORY_MB = 3000  # two at a time
SEARCH_S = 150

RESYNC = ['WRITES=1', 'PASSES=1', 'BEHINDS=1', 'CRASHES=0']

# name, model, definitions. Every one is searched to its end.
SEARCHES = [
    ('sync', 'sync', ['N=3', 'STANDBY_FAULTS=2', 'PRIMARY_FAULTS=2']),
    ('contact', 'contact', ['T=1', 'DRIFT=1', 'N=2', 'LIVES=2']),
    ('contact-rejoin', 'contact', ['T=2', 'DRIFT=0', 'N=3', 'LIVES=1']),
    ('session', 'session', ['N=2', 'LEASES=3', 'SESSIONS=2']),
    ('promote', 'promote', ['N=3', 'CRASHES=3']),
    ('freeze', 'freeze', ['CRASHES=4', 'DAMAGES=2']),
    ('resync', 'resync', RESYNC + ['BEHINDS=2', 'CRASHES=1']),
    ('resync-loss', 'resync', RESYNC + ['WRITES=2', 'BEHINDS=0', 'RING_LOSSES=1']),
    ('resync-error', 'resync', RESYNC + ['WRITES=2', 'PASSES=0', 'BEHINDS=0', 'ERRORS=1',
                                         'BREAKS=1', 'CRASHES=1']),
]

# What is searched for cycles in which nothing ever gets better, under weak fairness.
LIVENESS = [
    ('sync-progress', 'sync', ['N=2', 'STANDBY_FAULTS=1', 'PRIMARY_FAULTS=1', 'LOSSES=1']),
    ('promote-progress', 'promote', ['N=2', 'CRASHES=1']),
    ('freeze-progress', 'freeze', ['CRASHES=2', 'DAMAGES=1']),
]

# … and one where such a cycle must be found: the link loses for ever.
ENDLESS = [
    ('sync-endless-loss', 'sync', ['N=2', 'STANDBY_FAULTS=0', 'PRIMARY_FAULTS=0']),
]

CONTACT = ['T=2', 'DRIFT=0', 'N=2', 'LIVES=1']
SYNC = ['N=2', 'STANDBY_FAULTS=1', 'PRIMARY_FAULTS=2']
SESSION = ['N=2', 'LEASES=2', 'SESSIONS=2']
LOSS = RESYNC + ['RING_LOSSES=1']

# mutant, model, definitions, the assertion that must fail.
MUTANTS = [
    ('SUBMITTED_UNPUBLISHED', 'sync', SYNC, 'I5_published_before_submitted'),
    ('COMPLETED_WHEN_PLACED', 'sync', SYNC, 'I9_completed_is_durable'),
    ('ACK_BEFORE_FLUSH', 'sync', SYNC, 'I11_reported_is_durable'),
    ('PLAIN_WRITE', 'sync', SYNC, 'I11_reported_is_durable'),
    ('JOURNAL_OUT_OF_ORDER', 'sync', SYNC, 'I3_journal_is_a_prefix'),
    ('DURABLE_GAP', 'sync', SYNC, 'I11_reported_is_durable'),
    ('RECOVERY_TRUSTS_CACHE', 'sync', SYNC, 'I11_reported_is_durable'),
    ('LOSS_FORGOTTEN', 'sync', SYNC, 'I16_everything_ends'),
    ('CEILING_EARLY', 'sync', ['N=3', 'STANDBY_FAULTS=0', 'PRIMARY_FAULTS=1'],
     'I12_below_the_ceiling'),
    ('CLEAN_KEPT', 'sync', SYNC, 'I12_lsn_given_once'),
    ('PASSED_UNNOTED', 'sync', SYNC, 'I1_never_missed'),
    ('REDO_FORGOTTEN', 'sync', SYNC, 'I7_redone_before_served'),
    ('DEGRADED_EARLY', 'contact', CONTACT, 'I9_degraded_before_alone'),
    ('STATE_TOLD_LATE', 'contact', CONTACT, 'I18_zero_if_fenced'),
    ('T0_BY_RECEIPT', 'contact', CONTACT, 'I18_zero_if_fenced'),
    ('CONFIRM_UNTAKEN', 'contact', CONTACT, 'I18_zero_if_fenced'),
    ('DATED_BY_SENDING', 'contact', CONTACT, 'I18_zero_if_fenced'),
    ('CLEARED_IN_MEMORY', 'contact', ['T=1', 'DRIFT=0', 'N=3', 'LIVES=2'], 'I18_zero_if_fenced'),
    ('PASSES_AT_ONCE', 'contact', ['T=1', 'DRIFT=0', 'N=2', 'LIVES=2'], 'I18_zero_if_fenced'),
    ('NO_DRIFT_MARGIN', 'contact', ['T=1', 'DRIFT=1', 'N=2', 'LIVES=1'], 'I18_zero_if_fenced'),
    ('ACK_OF_ANY_SESSION', 'session', SESSION, 'I12_loss_is_found_out'),
    ('STALE_LEASE', 'session', SESSION, 'I6_stale_lease_is_refused'),
    ('LOST_DURABLE_UNCHECKED', 'session', SESSION, 'I12_loss_is_found_out'),
    ('FULL_COMPARE_IGNORED', 'session', SESSION, 'I12_forks_never_merge'),
    ('RING_UNCHECKED', 'session', ['N=2', 'LEASES=3', 'SESSIONS=2'], 'I12_forks_never_merge'),
    ('KINSHIP_UNCHECKED', 'promote', ['N=2', 'CRASHES=1'], 'I13_older_epoch_is_refused'),
    ('HELLO_WHILE_PROMOTING', 'promote', ['N=2', 'CRASHES=1'], 'I13_older_epoch_is_refused'),
    ('SESSION_KEPT', 'promote', ['N=2', 'CRASHES=1'], 'I12_forks_never_merge'),
    ('MEMORY_FORGOTTEN', 'promote', ['N=2', 'CRASHES=1'], 'I9_acknowledged_is_taken_over'),
    ('EPOCH_NOT_AWAITED', 'promote', ['N=2', 'CRASHES=1'], 'I13_epoch_durable_before_write'),
    ('UNDRAINED', 'promote', ['N=2', 'CRASHES=1'], 'I10_replica_is_the_log'),
    ('APPLIED_NOT_STORED', 'promote', ['N=2', 'CRASHES=1'], 'I13_no_redo_over_the_new_epoch'),
    ('MODE_REPORTED_UNSTORED', 'promote', ['N=3', 'CRASHES=1'], 'I18_zero_proven'),
    ('APPLIED_PAST_MARK', 'freeze', [], 'I14_frozen_is_the_prefix'),
    ('ENDS_EARLY', 'freeze', [], 'I14_ended_before_the_fact'),
    ('FROZEN_UNFLUSHED', 'freeze', [], 'I10_redo_finds_what_it_needs'),
    ('DOUBT_IGNORED', 'freeze', [], 'I14_frozen_is_the_prefix'),
    ('DOUBT_SAID_FROZEN', 'freeze', [], 'I14_frozen_is_the_prefix'),
    ('WRITTEN_UNMARKED', 'resync', LOSS, 'I1_never_missed'),
    ('MARK_BEING_CLEARED', 'resync', LOSS, 'I1_never_missed'),
    ('ACK_CLEARS_STALE', 'resync', RESYNC, 'I2_clean_is_equal'),
    ('BEGUN_TOO_EARLY', 'resync', RESYNC, 'I2_clean_is_equal'),
    ('HASHED_EARLY', 'resync', RESYNC, 'I2_clean_is_equal'),
    ('EVENT_UNCHECKED', 'resync', RESYNC + ['ERRORS=1'], 'I2_clean_is_equal'),
    ('BLOCK_UNLOCKED', 'resync', RESYNC, 'I2_clean_is_equal'),
    ('ERROR_IGNORED', 'resync', RESYNC + ['ERRORS=1'], 'I2_clean_is_equal'),
    ('PINNED_AGAIN', 'resync', RESYNC + ['BEHINDS=2'], 'I10_pin_is_consistent'),
    ('OVERWRITTEN_UNSAVED', 'resync', RESYNC, 'I10_promoted_is_consistent'),
    ('OPENED_BEFORE_ROLLBACK', 'resync', RESYNC, 'I10_promoted_is_consistent'),
    ('RESYNC_PROMOTED', 'resync', RESYNC, 'I10_promoted_is_consistent'),
    ('DECIDED_EARLY', 'resync', RESYNC, 'I18_no_further_back'),
]

# name, model, definitions: for the ledger.
LARGE = [
    ('sync', 'sync', ['N=3', 'STANDBY_FAULTS=4', 'PRIMARY_FAULTS=4']),
    ('contact', 'contact', ['T=2', 'DRIFT=1', 'N=4', 'LIVES=3', 'ACK_DELAY']),
    ('session', 'session', ['N=3', 'LEASES=4', 'SESSIONS=5', 'ROLLBACKS=2', 'RESEEDS=2']),
]


class Search:
    """One pan: what it was made of, and what it said."""

    def __init__(self, name, model, defines, flags, options, limit_s=SEARCH_S):
        self.folder = os.path.join(BUILD, name)
        self.source = os.path.join(HERE, model + '.pml')
        self.defines = ['-D' + d for d in defines]
        self.error = None
        self.text = ''
        self.seconds = 0.0
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        try:
            said = self.call(['spin'] + self.defines + ['-a', self.source], 60)
            if 'rror' in said:
                raise subprocess.SubprocessError(said.strip()[:500])
            self.call(['gcc', '-w', '-DNOFAIR' if '-f' not in options else '-DNFAIR=3',
                       f'-DMEMLIM={MEMORY_MB}'] + flags + ['-o', 'pan', 'pan.c'], 120)
            start = time.monotonic()
            self.text = self.call(['./pan', f'-m{DEPTH}'] + options, limit_s, (0, 1))
            self.seconds = time.monotonic() - start
        except (OSError, subprocess.SubprocessError) as e:
            self.error = str(e)[:500]

    def call(self, argv, seconds, fine=(0,)):
        done = subprocess.run(argv, cwd=self.folder, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                              check=False)
        if done.returncode not in fine:
            raise subprocess.SubprocessError(f'{argv[0]} ended with {done.returncode}: '
                                             f'{done.stdout.strip()[-300:]}')
        return done.stdout

    def number(self, pattern):
        match = re.search(pattern, self.text)
        return int(float(match[1])) if match else 0

    def figures(self):
        depth = self.number(r'depth reached (\d+)')
        return f'{self.states()} states, depth {depth}, {self.seconds:.1f} s'

    def states(self):
        return self.number(r'([0-9.e+]+) states, stored')

    def failure(self):
        """What pan found: the name in a failed assertion, or its own words. None: nothing."""
        match = re.search(r'^pan:\d+: (.*?) \(at depth (\d+)\)', self.text, re.M)
        if not match:
            return None
        named = re.search(r'assertion violated .*?\b(I\d+_\w+)', match[1])
        return named[1] if named else match[1]

    def trace_steps(self):
        return self.number(r'\(at depth (\d+)\)')

    def unreached(self):
        """Transitions that were never reached and don't say why: (line, text)."""
        with open(self.source, encoding='utf-8') as f:
            source = f.read().split('\n')
        # No process ends, so that is never reached.
        return {(int(line), what)
                for line, what in re.findall(r'^\t\S+?:(\d+), state \d+, "(.*)"', self.text, re.M)
                if what != '-end-' and 'unreached:' not in source[int(line) - 1]}

    def lines(self):
        """Lines of the model that its definitions leave in it."""
        text = self.call(['gcc', '-E', '-x', 'c'] + self.defines + [self.source], 20)
        kept, at = set(), 0
        for line in text.split('\n'):
            mark = re.match(r'# (\d+) "', line)
            if mark:
                at = int(mark[1])
                continue
            if line.strip():
                kept.add(at)
            at += 1
        return kept

    def problems(self):
        """Why this is not an exhaustive search without an error."""
        if self.error:
            return [self.error]
        said = []
        if self.failure():
            said.append(f'{self.failure()} after {self.trace_steps()} steps '
                        f'(trail in {os.path.relpath(self.folder, TOP)})')
        if not re.search(r'errors: 0\b', self.text) and not said:
            said.append('pan gave no verdict')
        for mark in ('max search depth too small', 'Search not completed', 'aborting',
                     'out of memory'):
            if mark in self.text and not self.failure():
                said.append(mark)
        return said


def search(name, model, defines):
    done = Search(name, model, defines, ['-O2', '-DSAFETY'], [f'-w{HASH_BITS}'])
    return done, done.problems()


def liveness(name, model, defines):
    done = Search(name, model, defines, ['-O2', '-DNP'], [f'-w{HASH_BITS}', '-l', '-f'])
    return done, done.problems()


def endless(name, model, defines):
    """Seen failing: a link that loses for ever is such a cycle."""
    done = Search(name, model, defines, ['-O1', '-DNP'], ['-w22', '-l', '-f'])
    if done.error or (done.failure() or '').startswith('non-progress cycle'):
        return done, [done.error] if done.error else []
    return done, [f'a cycle should have been found, but: {done.failure() or "nothing was"}']


def mutant(name, model, defines, wanted):
    # Breadth first: the shortest way to the failure.
    done = Search('BUG_' + name, model, defines + ['BUG_' + name], ['-O0', '-DSAFETY', '-DBFS'],
                  ['-w22'])
    if done.error:
        return done, [done.error]
    if done.failure() != wanted:
        return done, [f'{wanted} should have failed, but: {done.failure() or "nothing was found"}']
    return done, []


def never_reached(searches):
    """Per model: what none of its searches reached. A model is as good as what it tries."""
    for model in sorted({s.source for s in searches}):
        ours = [s for s in searches if s.source == model]
        missed = {place: s for s in ours for place in s.unreached()}
        for line, text in sorted(missed):
            if all((line, text) in s.unreached() or line not in s.lines() for s in ours):
                yield f'{os.path.basename(model)}:{line} {text}'


def run(selected):
    passed = failed = 0
    searches = []
    work = [(name, 'every state', search, args) for name, *args in SEARCHES]
    work += [(name, 'no cycle', liveness, args) for name, *args in LIVENESS]
    work += [(name, 'a cycle', endless, args) for name, *args in ENDLESS]
    work += [(name, 'mutant', mutant, args) for name, *args in MUTANTS]
    for name in set(selected) - {w[0] for w in work}:
        print(f'nothing here is called {name}; there are {" ".join(w[0] for w in work)}')
        failed += 1
    work = [w for w in work if not selected or w[0] in selected]
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda w: w[2](w[0], *w[3]), work)
        for (name, what, how, args), (done, wrong) in zip(work, results):
            if wrong:
                failed += 1
                print(f'FAIL {name} ({what}, {args[0]}.pml): {wrong[0]}')
                for line in wrong[1:20]:
                    print('     ' + line)
            else:
                passed += 1
                print(f'ok   {name} ({what}): ' + (f'{args[2]} fails after {done.trace_steps()} '
                                                   'steps; ' if how is mutant else '') +
                      done.figures())
            sys.stdout.flush()
            if how is search and not wrong:
                searches.append(done)
            elif not wrong:
                shutil.rmtree(done.folder, ignore_errors=True)
    if not selected:
        missed = list(never_reached(searches))
        passed, failed = (passed, failed + 1) if missed else (passed + 1, failed)
        print(f'{"FAIL" if missed else "ok  "} every transition was reached')
        for line in missed:
            print('     never reached: ' + line)
    print(f'{passed} passed, {failed} failed, 0 skipped')
    return 1 if failed or not passed else 0


def large(selected, record, minutes):
    states = bad = 0
    start = time.monotonic()
    chosen = [c for c in LARGE if not selected or c[0] in selected]
    for name, model, defines in chosen:
        share = max(1, int(minutes / len(chosen)))
        done = Search('large-' + name, model, defines, ['-O2', '-DSAFETY', '-DBITSTATE'],
                      ['-w33', '-k3', f'-Q{share}'], share * 60 + 120)
        wrong = done.error or done.failure()
        bad += bool(wrong)
        states += done.states()
        print(f'{"FAIL" if wrong else "ok  "} {name} (bitstate): {wrong or done.figures()}',
              flush=True)
    took = (time.monotonic() - start) / 60
    print(f'{len(chosen) - bad} passed, {bad} failed, 0 skipped')
    if record and chosen:
        commit = subprocess.run(['git', 'log', '-1', '--format=%h', '--'] + JUDGED, cwd=TOP,
                                check=True, capture_output=True, text=True).stdout.strip()
        with open(os.path.join(TOP, 'tests/seeds/LEDGER.tsv'), 'a', encoding='utf-8') as f:
            f.write(f'{commit}\tmodel\tbitstate\t{len(chosen)}\t{states}\t{bad}\t{took:.1f}\n')
    return 1 if bad or not chosen else 0


def main():
    args = argparse.ArgumentParser(prog='./dev model', description=__doc__.split('\n', 1)[0])
    args.add_argument('--large', action='store_true')
    args.add_argument('--minutes', type=float, default=15, help='of --large, in all')
    args.add_argument('--record', action='store_true')
    args.add_argument('name', nargs='*')
    args = args.parse_args()
    if not shutil.which('spin'):
        print('spin is not installed')
        print('0 passed, 1 failed, 0 skipped')
        return 1
    if args.large:
        return large(args.name, args.record, args.minutes)
    return run(args.name)


if __name__ == '__main__':
    sys.exit(main())
