#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The simulator: builds it, runs seeds on all cores. The last line is what ./dev test takes over.

  --minutes N           new seeds for that long, then one line in tests/seeds/LEDGER.tsv
  --ledger              what the ledger adds up to
  --budget SECONDS      the run of ./dev test; from 120 s on with compilers and seeded bugs
  --seeds N [--first X] that many seeds; with --each-percent seed X has a failover when X percent
                        (1 to 100, in turn) of a resync are through
  --seed X [...]        one seed again, with the options of hk-sim (--verbose, --twice, --lines N)
  --mutants [NAME...]   every seeded bug, from seed 1; --record writes tests/sim/mutants.tsv anew
  --compilers           the same seeds give the same traces under gcc and clang, -O0 and -O3
"""
import argparse
import collections
import concurrent.futures
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LEDGER = os.path.join(TOP, 'tests/seeds/LEDGER.tsv')
MUTANTS = os.path.join(TOP, 'tests/sim/mutants.tsv')
TESTING = os.path.join(TOP, 'tests/TESTING.md')   # shows the table of mutants.tsv to people
# What decides about data; a line of the ledger speaks of the last commit that changed any of it.
JUDGED = ['proto', 'driver-glue/capture', 'replicator/core', 'replicator/store', 'replicator/group']
CHUNK = 50                # seeds a process
CHUNK_TIMEOUT_S = 600     # a seed that does not end is a finding
FAILURES_MAX = 5
SEEDS_MIN, EVENTS_MIN = 2000, 100_000_000   # of a run of ./dev test, or it has failed
CI_SEEDS = 8000   # the same ones in every run of ./dev test; new ones go into the ledger
MUTANT_SEEDS = int(os.environ.get('HK_MUTANT_SEEDS', '10000'))
MUTANT_NEAR = 4           # seeds tried around the one that found it last, before all from 1
MUTANT_SHARE = 0.4        # of a budget
COMPARE_SEEDS = 40
PERCENT_SEEDS = 200       # of a run of ./dev test: each percent of a resync twice
PERCENT_BACK_MIN = 60     # of them must have gone back to the pin, or they proved little
JOBS = os.cpu_count() or 1

children = set()
children_lock = threading.Lock()
stopping = threading.Event()


class Count:
    def __init__(self):
        self.passed = self.failed = 0

    def verdict(self, good):
        self.passed += bool(good)
        self.failed += not good


def run(argv, timeout=None):
    """Returns (exit status or None when it was stopped, output)."""
    with children_lock:
        if stopping.is_set():
            return None, ''
        child = subprocess.Popen(argv, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors='replace')
        children.add(child)
    try:
        out, _ = child.communicate(timeout=timeout)
        status = child.returncode
    except subprocess.TimeoutExpired:
        child.terminate()  # It says at which seed it was.
        try:
            out, _ = child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
        status = None
    finally:
        with children_lock:
            children.discard(child)
    return status, out


def stop_all():
    stopping.set()
    with children_lock:
        for child in children:
            child.kill()


def on_signal(signum, _frame):
    stop_all()
    sys.exit(f'ended by {signal.Signals(signum).name}')


def build(where, targets):
    """Builds targets of tests/sim in a build directory; False, having said why, when it fails."""
    directory, cc = where
    if not os.path.exists(os.path.join(TOP, directory, 'build.ninja')):
        argv = ['env', f'CC={cc}', 'meson', 'setup', directory, '--buildtype=debugoptimized']
        status, out = run(argv)
        if status != 0:
            print(out[-2000:])
            return False
    status, out = run(['ninja', '-C', directory, '-j', str(JOBS)] +
                      [f'tests/sim/{t}' for t in targets])
    if status != 0:
        print('\n'.join(out.splitlines()[-20:]))
        print(f'sim: building {" ".join(targets)} in {directory} failed')
    return status == 0


GCC = (os.environ.get('HK_BUILD', 'build'), 'gcc')
CLANG = (os.environ.get('HK_BUILD_CLANG', 'build-clang'), 'clang')


def program(where, name='hk-sim'):
    return os.path.join(where[0], 'tests/sim', name)


class Seeds:
    """Adds up what processes of CHUNK seeds each have found."""

    def __init__(self, first):
        self.next = self.first = first
        self.seeds = self.events = self.passed = self.failed = 0
        self.sums = collections.Counter()
        self.faults = collections.Counter()
        self.broken = []
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu = used.ru_utime + used.ru_stime
        self.start = self.shown = self.shown_faults = time.monotonic()

    def add(self, first, count, status, out):
        done = re.search(r'^sim: (\d+) passed, (\d+) failed$', out, re.M)
        if not done:
            self.failed += 1
            self.broken.append(f'seeds {first} to {first + count - 1}: no verdict, status {status}')
            print('\n'.join(out.splitlines()[-40:]), flush=True)
            return
        self.passed += int(done[1])
        self.failed += int(done[2])
        if int(done[2]):
            print(out[:out.index('\nseeds ')] if '\nseeds ' in out else out, flush=True)
        for line in out.splitlines():
            if line.startswith(('seeds ', 'crashes ')):
                for name, value in re.findall(r'([a-z][a-z ]*[a-z]) (\d+)', line):
                    self.sums[name] += int(value)
            elif line.startswith('faults: '):
                for name, value in re.findall(r'(\S+) (\d+)', line[8:]):
                    self.faults[name] += int(value)
        self.seeds = self.sums['seeds']
        self.events = self.sums['events']

    def rate(self):
        took = max(0.001, time.monotonic() - self.start)
        # Of finished processes: what one core does when it has nothing else to do.
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = max(0.001, used.ru_utime + used.ru_stime - self.cpu)
        return (f'{self.seeds} seeds, {self.events} events in {took:.0f} s '
                f'({self.events / took / 1e6:.2f} M/s, {self.events / cpu / 1e6:.2f} M per second '
                f'of a core), {self.failed} violations')

    def fault_text(self):
        return 'faults: ' + ' '.join(f'{n} {c}' for n, c in self.faults.items())

    def progress(self):
        now = time.monotonic()
        if now - self.shown >= 10:
            self.shown = now
            print(f'sim: {self.rate()}', flush=True)
        if now - self.shown_faults >= 60:
            self.shown_faults = now
            print(self.fault_text(), flush=True)

    def report(self):
        print(f'sim: {self.rate()}')
        print(', '.join(f'{name} {value}' for name, value in self.sums.items()
                        if name not in ('seeds', 'events')))
        print(self.fault_text())
        for text in self.broken:
            print(text)


def run_seeds(first, count=None, seconds=None, enough=lambda s: False, options=()):
    """`count` seeds from `first` on, or as many as begin within `seconds`, on every core."""
    total = Seeds(first)
    last = first + count if count is not None else 1 << 63
    deadline = time.monotonic() + seconds if seconds is not None else float('inf')
    running = {}
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        while True:
            while (len(running) < JOBS and total.next < last and total.failed < FAILURES_MAX and
                   time.monotonic() < deadline and not enough(total)):
                n = min(CHUNK, last - total.next)
                argv = [program(GCC), '--first', str(total.next), '--seeds', str(n),
                        '--lines', '20', *options]
                running[pool.submit(run, argv, CHUNK_TIMEOUT_S)] = (total.next, n)
                total.next += n
            if not running:
                break
            done, _ = concurrent.futures.wait(running, timeout=5, return_when='FIRST_COMPLETED')
            for future in done:
                total.add(*running.pop(future), *future.result())
            total.progress()
    total.report()
    return total


# ---- seeded bugs ----

def read_table(path):
    with open(path, encoding='utf-8') as f:
        rows = [line.split('\t') for line in f.read().rstrip('\n').split('\n')]
    return rows[0], rows[1:]


def write_tables(header, rows):
    with open(MUTANTS, 'w', encoding='utf-8') as f:
        for row in [header] + rows:
            f.write('\t'.join(row) + '\n')
    lines = [f'| `{row[0]}` | {row[1]} | {row[2]} | {row[3]} |\n' for row in rows]
    with open(TESTING, encoding='utf-8') as f:
        text = f.read()
    begin = text.index('| bug | what it does |')
    begin = text.index('\n', text.index('\n', begin) + 1) + 1
    end = text.index('\n\n', begin) + 1
    text = text[:begin] + ''.join(lines) + text[end:]
    text = re.sub(r'^\d+ of \d+ found; CI', f'{len(rows)} of {len(rows)} found; CI', text,
                  flags=re.M)
    with open(TESTING, 'w', encoding='utf-8') as f:
        f.write(text)


def passes(seed):
    """Without any bug; else it is no finding, and the seed fails on its own."""
    status, _ = run([program(GCC, 'hk-sim-bugs'), '--seed', str(seed)], CHUNK_TIMEOUT_S)
    return status == 0


def try_mutant(bug, seed, seconds, recount):
    """Returns (first seed that found it or None, seeds tried, how or why not, events)."""
    argv = [program(GCC, 'hk-sim-bugs'), '--bug', bug, '--until-found']
    spans = [(1, MUTANT_SEEDS)]
    # Where it was found last is a good place to look, while little has changed; else all of them.
    if seed.isdigit() and not recount:
        near = max(1, int(seed) - MUTANT_NEAR)
        spans.append((near, 2 * MUTANT_NEAR + 1))
    tried = events = 0
    deadline = time.monotonic() + seconds
    while spans:
        first, count = spans.pop()
        status, out = run(argv + ['--first', str(first), '--seeds', str(count)],
                          max(1, deadline - time.monotonic()))
        found = re.search(r'^found after (\d+) seeds \((\d+) events\): (.*)$', out, re.M)
        if found and status == 0:
            at = first + int(found[1]) - 1
            tried += int(found[1])
            events += int(found[2])
            if passes(at):
                return at, tried, found[3], events
            print(f'{bug}: seed {at} fails without any bug: {found[3]}', flush=True)
            if at + 1 < first + count:
                spans.append((at + 1, first + count - at - 1))
            continue
        tried += count
        if status is None:
            return None, tried, 'the time was up', events
        if status != 1:
            return None, tried, f'status {status}: {out.strip()[-200:]}', events
    return None, tried, f'not in {tried} seeds', events


def mutants(count, seconds, names=(), record=False, recount=False):
    """Every seeded bug must be noticed: a simulator that finds nothing proves nothing."""
    header, rows = read_table(MUTANTS)
    status, out = run([program(GCC, 'hk-sim-bugs'), '--bugs'], 60)
    known = set(out.split()) if status == 0 else set()
    listed = {row[0] for row in rows}
    for name in sorted(known - listed) if not names else []:
        # Some are for other tests, which then name them.
        where = git('grep', '-lw', name, '--', 'tests').splitlines()
        print(f'seeded bug {name}: {" ".join(where) or "NO TEST tries it"}')
        if not where:
            count.verdict(False)
    for name in sorted(listed - known):
        print(f'seeded bug {name}: in tests/sim/mutants.tsv, but nowhere in the sources')
        count.verdict(False)
    mine = [row for row in rows if row[0] in known and (not names or row[0] in names)]
    # The rare ones last: should the time not be enough, little is unknown.
    mine.sort(key=lambda row: int(row[3]) if row[3].isdigit() else MUTANT_SEEDS)
    deadline = time.monotonic() + seconds
    events = runs = missing = 0
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        futures = {row[0]: pool.submit(
            lambda r: try_mutant(r[0], r[3], deadline - time.monotonic(), recount), row)
            for row in mine}
        for row in sorted(mine):
            at, tried, how, n = futures[row[0]].result()
            count.verdict(at is not None)
            missing += at is None
            events += n
            runs += 1
            verdict = f'seed {at}, after {tried}: {how}' if at else f'NOT FOUND: {how}'
            print(f'{row[0]:26} {verdict}', flush=True)
            if at and recount:
                row[2], row[3] = re.split(r'[: ]', how)[0], str(at)
    took = time.monotonic() - began
    print(f'seeded bugs: {runs - missing} of {runs} found in {took:.0f} s; '
          f'{len(known - listed)} are for other tests')
    if record:
        write_tables(header, sorted(rows))
    return runs, events, missing, took


# ---- determinism ----

def build_all():
    # build-clang is there when ./dev test has built it; else it is made here.
    return (build(GCC, ['hk-sim', 'hk-sim-o0', 'hk-sim-bugs']) and
            build(CLANG, ['hk-sim', 'hk-sim-o0']))


def compilers(count):
    """Programs that differ in everything a compiler may do; the traces must not."""
    hashes = {}
    if not build_all():
        count.verdict(False)
        return
    jobs = [(where, name) for where in (GCC, CLANG) for name in ('hk-sim', 'hk-sim-o0')]
    jobs.append((GCC, 'hk-sim-bugs'))
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        outs = pool.map(lambda j: run([program(*j), '--seeds', str(COMPARE_SEEDS)], 300), jobs)
        for (where, name), (_, out) in zip(jobs, outs):
            found = re.search(r'^trace hash (\w+)$', out, re.M)
            hashes[(where[1], name)] = found[1] if found else 'none'
    for (cc, name), value in hashes.items():
        print(f'trace hash of {COMPARE_SEEDS} seeds, {cc:5} {name:12} {value}')
    good = len(set(hashes.values())) == 1 and 'none' not in hashes.values()
    if not good:
        print('sim: the traces differ from build to build')
    count.verdict(good)


# ---- ledger ----

def git(*args):
    done = subprocess.run(['git'] + list(args), cwd=TOP, check=args[0] != 'grep', text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return done.stdout.strip()


def next_seed():
    """Behind every seed that the ledger holds: a target seeds-from-X of N runs ends at X + N."""
    last = 1
    for row in read_table(LEDGER)[1]:
        found = re.fullmatch(r'seeds-from-(\d+)', row[2])
        if row[1] == 'sim' and found:
            last = max(last, int(found[1]) + int(row[3]))
    return last


def unrecordable():
    """Why this run says nothing about a commit; empty when it does."""
    dirty = git('status', '--porcelain', '--', *JUDGED, 'tests/sim', 'meson.build')
    return f'not committed: {" ".join(line[3:] for line in dirty.splitlines())}' if dirty else ''


def record(kind, target, runs, events, violations, seconds):
    commit = git('log', '-1', '--format=%h', '--', *JUDGED)
    line = f'{commit}\t{kind}\t{target}\t{runs}\t{events}\t{violations}\t{seconds / 60:.1f}'
    with open(LEDGER, 'a', encoding='utf-8') as f:
        f.write(line + '\n')
    print('ledger: ' + line.replace('\t', ' '))


def minutes(count, n):
    why = unrecordable()
    begun = time.monotonic()
    s = run_seeds(next_seed(), seconds=n * 60)
    count.passed += s.passed
    count.failed += s.failed
    if why or unrecordable():
        print(f'ledger: not recorded, {why or unrecordable()}')
    elif s.broken:
        print('ledger: not recorded, a process gave no verdict')
    elif s.seeds:
        record('sim', f'seeds-from-{s.first}', s.seeds, s.events, s.failed,
               time.monotonic() - begun)


def ledger():
    commit = git('log', '-1', '--format=%h', '--', *JUDGED)
    rows = [row for row in read_table(LEDGER)[1] if row[1] == 'sim']
    now = [row for row in rows if row[0].startswith(commit) or commit.startswith(row[0])]

    def total(which, column):
        return sum(int(row[column]) for row in which)
    print(f'all: {total(rows, 3)} seeds, {total(rows, 4)} events, {total(rows, 5)} violations')
    print(f'{commit} (the last to change what decides about data): {total(now, 3)} seeds, '
          f'{total(now, 4)} events, {total(now, 5)} violations')
    print(f'the next seed is {next_seed()}')


# ---- the run of ./dev test ----

def each_percent(count):
    """A promotion in the middle of a resync, at each percent of it."""
    print(f'sim: failovers at each percent of a resync, {PERCENT_SEEDS} seeds')
    s = run_seeds(1, PERCENT_SEEDS, options=['--each-percent'])
    count.passed += s.passed
    count.failed += s.failed
    back = s.faults['back-to-pin']
    print(f'sim: {back} promotions went back to the pin, of at least {PERCENT_BACK_MIN}')
    count.verdict(back >= PERCENT_BACK_MIN)


def budget(count, seconds):
    long = seconds >= 120
    if long:
        build_all()  # Not on the budget's time; what fails is said in compilers().
    began = time.monotonic()
    if long:
        compilers(count)
        each_percent(count)
        mutants(count, max(150.0, seconds * MUTANT_SHARE))
    else:
        print('compilers, seeded bugs: only in runs of 120 s and more')
    rest = max(20.0, seconds - (time.monotonic() - began))
    s = run_seeds(1, CI_SEEDS, seconds=rest)
    count.passed += s.passed
    count.failed += s.failed
    if not long:
        return
    enough = s.seeds >= SEEDS_MIN and s.events >= EVENTS_MIN
    print(f'sim: {s.seeds} seeds of at least {SEEDS_MIN}, {s.events} events of at least '
          f'{EVENTS_MIN}: {"enough" if enough else "TOO FEW"}')
    count.verdict(enough)
    never = [name for name, n in s.faults.items() if n == 0]
    if never or not s.faults:
        print(f'sim: faults that never struck: {" ".join(never) or "all"}')
    count.verdict(s.faults and not never)


def parse(argv):
    args = argparse.ArgumentParser(prog='./dev sim', description=__doc__.splitlines()[0],
                                   epilog=__doc__, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--minutes', type=float)
    args.add_argument('--budget', type=float)
    args.add_argument('--seeds', type=int)
    args.add_argument('--first', type=int, default=1)
    args.add_argument('--seed', type=int)
    args.add_argument('--mutants', nargs='*')
    args.add_argument('--record', action='store_true')
    args.add_argument('--compilers', action='store_true')
    args.add_argument('--each-percent', action='store_true')
    args.add_argument('--ledger', action='store_true')
    return args.parse_known_args(argv)


def main(argv):
    args, rest = parse(argv)
    count = Count()
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if args.ledger:
        ledger()
        return 0
    if rest and args.seed is None:
        sys.exit(f'./dev sim knows no {" ".join(rest)}; ./dev sim --help')
    wanted = ['hk-sim'] + (['hk-sim-bugs'] if args.mutants is not None or args.budget else [])
    if not build(GCC, wanted):
        print('0 passed, 1 failed, 0 skipped')
        return 1
    options = ['--each-percent'] if args.each_percent else []
    if args.seed is not None:
        return subprocess.run([program(GCC), '--seed', str(args.seed)] + options + rest, cwd=TOP,
                              check=False).returncode
    if args.compilers:
        compilers(count)
    elif args.mutants is not None:
        runs, events, missing, took = mutants(count, 3600, args.mutants, args.record, True)
        if args.record and not unrecordable():
            record('mutant', 'hk-sim-bugs', runs, events, missing, took)
    elif args.minutes:
        minutes(count, args.minutes)
    elif args.budget:
        budget(count, args.budget)
    else:
        s = run_seeds(args.first, args.seeds or 100, options=options)
        count.passed, count.failed = s.passed, s.failed
    print(f'{count.passed} passed, {count.failed} failed, 0 skipped')
    return 1 if count.failed or not count.passed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
