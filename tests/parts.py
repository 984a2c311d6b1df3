#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev test: runs the parts of tests/TESTING.md one after the other and counts honestly.

Every part has a time budget and runs in a process group of its own; what overruns is killed and
counts as failed, and so does a part that is missing, crashed, or left processes behind. Output goes
to build-logs/<part>.log; what is printed here is progress, the reason of every skip and the tail of
what failed. The last line is always "N passed, N failed, N skipped"; nothing else looks like it.
"""
import collections
import ctypes
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(TOP, 'build-logs')
HEARTBEAT_S = 30
TOTAL_LINE = re.compile(r'^\s*(\d+) passed, (\d+) failed, (\d+) skipped\s*$')
# Suites that have a part of their own, or are no tests of correctness.
OTHER_SUITES = ['lint', 'fuzz', 'crash', 'e2e', 'demo', 'bench']

# name, budget in seconds (quick, full), what it is. 0: not in this mode. The quick budgets add up
# to under 15 minutes and the full ones to under 75; main() checks it.
PARTS = [
    ('lint', 30, 60, 'fences, sizes, layout, message ids, manual pages'),
    ('build', 150, 300, 'gcc, warnings are errors'),
    ('unit', 380, 690, 'unit tests, gcc, ASan and UBSan'),
    ('clang', 0, 300, 'clang, warnings are errors'),
    ('tsan', 0, 400, 'threaded unit tests under TSan'),
    ('sim', 75, 660, 'simulator'),
    ('fuzz', 30, 180, 'fuzz corpora replayed, ASan and UBSan'),
    ('crash', 20, 380, 'crash enumeration'),
    ('model', 0, 200, 'SPIN: every state of the models, every mutant of them'),
    ('e2e', 210, 900, 'real daemons'),
    ('demo', 0, 420, 'the demo'),
]
LIMIT_S = {'quick': 15 * 60, 'full': 75 * 60}


class Result:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.notes = []

    def fail(self, why, count=1):
        self.failed += count
        self.notes.append('FAILED ' + why)

    def skip(self, why, count=1):
        self.skipped += count
        self.notes.append('SKIPPED ' + why)

    def merge(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.notes += other.notes


class Interrupted(Exception):
    pass


def on_signal(signum, _frame):
    # Once is enough: a second one must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise Interrupted(signal.Signals(signum).name)


def parents():
    """pid -> (parent, name) of every process that is not a zombie."""
    table = {}
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            with open(f'/proc/{entry}/stat', encoding='utf-8', errors='replace') as f:
                text = f.read()
        except OSError:
            continue
        name = text[text.index('(') + 1:text.rindex(')')]
        state, parent = text[text.rindex(')') + 2:].split()[:2]
        if state != 'Z':
            table[int(entry)] = (int(parent), name)
    return table


def descendants():
    """Everything we started, also what has left our process group: we are its subreaper."""
    table = parents()
    children = collections.defaultdict(list)
    for pid, (parent, _) in table.items():
        children[parent].append(pid)
    found, todo = [], [os.getpid()]
    while todo:
        for pid in children[todo.pop()]:
            found.append((pid, table[pid][1]))
            todo.append(pid)
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def kill_leftovers():
    """Returns the names of what was still running two seconds after its part had ended."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        reap()
        if not descendants():
            return []
        time.sleep(0.1)
    names = [name for _, name in descendants()]
    for sig in (signal.SIGTERM, signal.SIGKILL):
        for pid, _ in descendants():
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
        time.sleep(1)
        reap()
    return names


class Part:
    def __init__(self, name, budget_s, mode):
        self.name = name
        self.mode = mode
        self.budget_s = budget_s
        self.start = time.monotonic()
        self.deadline = self.start + budget_s
        self.result = Result()
        self.log_path = os.path.join(LOGS, name + '.log')
        self.log = open(self.log_path, 'wb')
        self.beat = self.start + HEARTBEAT_S

    def left_s(self):
        return max(0.0, self.deadline - time.monotonic())

    def last_line(self):
        with open(self.log_path, 'rb') as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - 4096))
            lines = f.read().decode(errors='replace').split('\n')
        lines = [line.strip() for line in lines if line.strip()]
        return lines[-1][:80] if lines else ''

    def tail(self, count=30):
        with open(self.log_path, encoding='utf-8', errors='replace') as f:
            return list(collections.deque(f, maxlen=count))

    def run(self, argv, extra_env=None):
        """Returns the exit status, or None when the budget ran out (then it has been killed)."""
        self.log.write(('$ ' + shlex.join(argv) + '\n').encode())
        self.log.flush()
        env = dict(os.environ, HK_TEST_MODE=self.mode, HK_TEST_BUDGET=str(int(self.left_s())),
                   HK_BUILD=os.path.join(TOP, 'build'), PYTHONDONTWRITEBYTECODE='1',
                   ASAN_OPTIONS='halt_on_error=1:abort_on_error=1:detect_leaks=1',
                   UBSAN_OPTIONS='halt_on_error=1:print_stacktrace=1',
                   TSAN_OPTIONS='halt_on_error=1')
        env.update(extra_env or {})
        child = subprocess.Popen(argv, cwd=TOP, env=env, stdin=subprocess.DEVNULL, stdout=self.log,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        try:
            while True:
                try:
                    return child.wait(timeout=min(1.0, self.left_s() + 0.01))
                except subprocess.TimeoutExpired:
                    pass
                now = time.monotonic()
                if now >= self.deadline:
                    self.stop(child)
                    return None
                if now >= self.beat:
                    self.beat = now + HEARTBEAT_S
                    print(f'       … {self.name} {now - self.start:.0f} s of {self.budget_s} s: '
                          f'{self.last_line()}', flush=True)
        except Interrupted:
            self.stop(child)
            raise

    def stop(self, child):
        for sig, grace_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.killpg(child.pid, sig)
            except ProcessLookupError:
                pass
            try:
                child.wait(timeout=grace_s)
                break
            except subprocess.TimeoutExpired:
                pass

    def expect(self, argv, what, extra_env=None):
        """Runs a step that has to succeed; False when it did not, and then it is counted."""
        status = self.run(argv, extra_env)
        if status is None:
            self.result.fail(f'{what}: not done within the budget of {self.budget_s} s')
        elif status != 0:
            self.result.fail(f'{what}: {describe(status)}')
        return status == 0


def describe(status):
    if status < 0:
        return f'killed by {signal.Signals(-status).name}'
    return f'exit status {status}'


def count_cmocka(text):
    """Counts the cases of cmocka's standard output; None when it is not that.

    The summary repeats the names of failed and skipped cases, so only what stands between a group's
    "Running" and its "run." is counted. A case that began and never ended has failed.
    """
    result, began, inside, before = Result(), 0, False, ''
    for line in text.splitlines():
        if re.match(r'\[={10}\] .*Running \d+ test', line):
            inside = True
        elif re.match(r'\[={10}\] .*\d+ test\(s\) run', line):
            inside = False
        elif inside and line.startswith('[ RUN      ]'):
            began += 1
        elif inside and line.startswith('[       OK ]'):
            result.passed += 1
        elif inside and line.startswith('[  SKIPPED ]'):
            result.skip(line[12:].strip() + ': ' + (before or 'it gave no reason'))
        elif inside:
            before = line.strip()
            continue
        before = ''
    if began == 0:
        return None
    missing = began - result.passed - result.skipped
    if missing > 0:
        result.fail(f'{missing} of {began} cases', missing)
    return result


def count_tap(text):
    """Counts TAP; None when there is no plan in it."""
    # One plan a group of tests.
    plans = re.findall(r'^1\.\.(\d+)', text, re.M)
    if not plans:
        return None
    result = Result()
    for line in text.splitlines():
        match = re.match(r'(not )?ok\b\s*\d*\s*(.*)', line)
        if not match:
            continue
        if re.search(r'# *skip', match[2], re.I):
            result.skip(match[2])
        elif match[1]:
            result.fail(match[2])
        else:
            result.passed += 1
    missing = sum(map(int, plans)) - result.passed - result.failed - result.skipped
    if missing > 0:
        result.fail(f'{missing} cases of the plan never ran', missing)
    return result


def count_one(entry):
    """One line of meson's testlog.json. The program's verdict rules over the cases it printed."""
    name, verdict = entry['name'], entry['result']
    text = (entry.get('stdout') or '') + '\n' + (entry.get('stderr') or '')
    if verdict == 'SKIP':
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        result = Result()
        result.skip(f'{name}: ' + (lines[-1] if lines else 'it gave no reason'))
        return result
    cases = count_cmocka(text) or count_tap(text)
    result = Result()
    if cases:
        result.passed, result.failed, result.skipped = cases.passed, cases.failed, cases.skipped
        result.notes = [re.sub(r'^(FAILED|SKIPPED) ', rf'\1 {name}: ', n) for n in cases.notes]
    if verdict in ('OK', 'EXPECTEDFAIL'):
        if not cases:
            result.passed = 1
    elif result.failed == 0:
        result.fail(f'{name}: {verdict.lower()}, {describe(entry.get("returncode") or 0)}')
    return result


def introspect(build_dir, what):
    done = subprocess.run(['meson', 'introspect', what, build_dir], cwd=TOP, check=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return json.loads(done.stdout)


def meson_tests(build_dir):
    # meson writes a suite as "project:suite", and a test without one as "project".
    return [(t['name'], {s.split(':')[-1] for s in t['suite']})
            for t in introspect(build_dir, '--tests')]


def needs_of(build_dir, suite):
    """The files that the tests of a suite depend on, as ninja names them."""
    top = os.path.join(TOP, build_dir)
    files = {t['id']: t['filename'] for t in introspect(build_dir, '--targets')}
    return sorted({os.path.relpath(f, top) for t in introspect(build_dir, '--tests')
                   if f'hikae:{suite}' in t['suite'] for d in t['depends'] for f in files[d]})


def run_meson(part, build_dir, want, without=(), extra_env=None, only_needed=False):
    """Builds, runs the tests of suite `want` (None: all but `without`) and counts them."""
    build = ['./dev', 'build', build_dir]
    if only_needed:
        # The directory is set up before anybody can ask what its tests need.
        if not part.expect(build + ['build.ninja'], f'setting {build_dir} up'):
            return
        build += needs_of(build_dir, want)
    if not part.expect(build, f'building {build_dir}'):
        return
    if want:
        names = [n for n, suites in meson_tests(build_dir) if want in suites]
        select = ['--suite', want]
    else:
        names = [n for n, suites in meson_tests(build_dir) if not suites & set(without)]
        select = [a for suite in without for a in ('--no-suite', suite)]
    if not names:
        if part.name == 'tsan':
            part.result.skip('tsan: no test is in the suite "tsan"')
        else:
            part.result.fail(f'{part.name}: meson knows no test for it')
        return
    log = os.path.join(TOP, build_dir, 'meson-logs', 'testlog.json')
    if os.path.exists(log):
        os.unlink(log)
    argv = ['meson', 'test', '-C', build_dir, '--no-rebuild', '--print-errorlogs',
            '--num-processes', str(os.cpu_count() or 1), '--timeout-multiplier', '2'] + select
    status = part.run(argv, extra_env)
    seen = []
    if os.path.exists(log):
        with open(log, encoding='utf-8', errors='replace') as f:
            for line in f:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # Killed in the middle of a line; the test is missed below.
                # A test's name may be "project:suite / name" or just the name.
                seen.append(entry['name'].split(' / ')[-1])
                part.result.merge(count_one(entry))
    for name, count in (collections.Counter(names) - collections.Counter(seen)).items():
        why = ' (the budget ran out)' if status is None else ''
        part.result.fail(f'{name}: has no result{why}', count)
    if status is None and part.result.failed == 0:
        part.result.fail(f'{part.name}: not done within the budget of {part.budget_s} s')
    elif status and part.result.failed == 0:
        part.result.fail(f'{part.name}: meson test ended with {describe(status)}')


def run_counted(part, argv):
    """A program whose last such line is its count; without one it counts as a single test."""
    status = part.run(argv)
    found = None
    for line in part.tail(2000):
        found = TOTAL_LINE.match(line) or found
        if line.startswith('SKIP'):
            part.result.notes.append('SKIPPED ' + line[4:].strip(' :\n'))
        elif line.startswith('FAIL '):
            part.result.notes.append('FAILED ' + line[5:].strip())
    if status is None:
        part.result.fail(f'{part.name}: not done within the budget of {part.budget_s} s')
    elif status == 77:
        part.result.skip(f'{part.name}: {part.last_line()}')
    elif found:
        part.result.passed += int(found[1])
        part.result.failed += int(found[2])
        part.result.skipped += int(found[3])
        if status != 0 and part.result.failed == 0:
            part.result.fail(f'{part.name}: {describe(status)}')
        if not any(int(n) for n in found.groups()):
            part.result.fail(f'{part.name}: it counted no test at all')
    elif status == 0:
        part.result.passed += 1
    else:
        part.result.fail(f'{part.name}: {describe(status)}')


def run_lint(part):
    run_counted(part, ['/usr/bin/python3', 'tests/lint/run.py'])


def run_build(part):
    if part.expect(['./dev', 'build', 'build'], 'gcc build'):
        part.result.passed += 1


def run_clang(part):
    if part.expect(['./dev', 'build', 'build-clang'], 'clang build'):
        part.result.passed += 1


def run_unit(part):
    run_meson(part, 'build-asan', None, OTHER_SUITES)


def run_fuzz(part):
    run_meson(part, 'build-asan', 'fuzz')


def run_model(part):
    run_counted(part, ['/usr/bin/python3', 'tests/model/run.py'])


def run_crash(part):
    # All of it at full speed, a sample of it under the sanitizers.
    if part.mode == 'full':
        run_meson(part, 'build', 'crash')
    run_meson(part, 'build-asan', 'crash', extra_env={'HK_TEST_MODE': 'quick'})


def run_tsan(part):
    # Looking costs little; a whole TSan build for no test would not.
    if os.path.isdir(os.path.join(TOP, 'build')):
        try:
            if not [n for n, suites in meson_tests('build') if 'tsan' in suites]:
                part.result.skip('tsan: no test is in the suite "tsan"')
                return
        except (subprocess.SubprocessError, ValueError):
            pass
    run_meson(part, 'build-tsan', 'tsan', only_needed=True)


def run_sim(part):
    if not os.access(os.path.join(TOP, 'tests/sim/run.sh'), os.X_OK):
        part.result.fail('sim: tests/sim/run.sh is missing')
        return
    # The rest of the part's time is for building it.
    budget = 30 if part.mode == 'quick' else 480
    run_counted(part, ['tests/sim/run.sh', '--budget', str(budget)])


def run_e2e(part):
    if not os.path.isfile(os.path.join(TOP, 'build/build.ninja')):
        part.result.fail('e2e: there is no build to test')
        return
    report = os.path.join(LOGS, 'e2e.xml')
    if os.path.exists(report):
        os.unlink(report)
    status = part.run(['/usr/bin/python3', '-m', 'pytest', 'tests/e2e', '-q', '-p',
                       'no:cacheprovider', '--junitxml', report])
    if os.path.exists(report):
        count_junit(part.result, report)
    if status is None:
        part.result.fail(f'e2e: not done within the budget of {part.budget_s} s')
    elif status != 0 and part.result.failed == 0:
        part.result.fail(f'e2e: pytest ended with {describe(status)}')
    elif part.result.passed + part.result.failed + part.result.skipped == 0:
        part.result.fail('e2e: pytest ran no test')


def count_junit(result, report):
    try:
        cases = list(xml.etree.ElementTree.parse(report).iter('testcase'))
    except xml.etree.ElementTree.ParseError as e:
        result.fail(f'e2e: the report cannot be read: {e}')
        return
    for case in cases:
        name = f'{case.get("classname")}.{case.get("name")}'
        skipped = case.find('skipped')
        if case.find('failure') is not None or case.find('error') is not None:
            result.fail(name)
        elif skipped is not None:
            result.skip(f'{name}: {skipped.get("message") or "it gave no reason"}')
        else:
            result.passed += 1


def run_demo(part):
    if not os.access(os.path.join(TOP, 'tests/demo/demo.sh'), os.X_OK):
        part.result.fail('demo: tests/demo/demo.sh is missing')
        return
    run_counted(part, ['tests/demo/demo.sh'])


RUN = {'lint': run_lint, 'build': run_build, 'unit': run_unit, 'clang': run_clang, 'tsan': run_tsan,
       'sim': run_sim, 'fuzz': run_fuzz, 'crash': run_crash, 'model': run_model, 'e2e': run_e2e,
       'demo': run_demo}


def run_part(name, budget_s, mode):
    part = Part(name, budget_s, mode)
    try:
        try:
            RUN[name](part)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
            part.result.fail(f'{name}: its runner broke: {e!r}')
        left = kill_leftovers()
        if left:
            part.result.fail(f'{name}: left processes running (killed now): {", ".join(left)}')
    except Interrupted as e:
        kill_leftovers()
        part.result.fail(f'{name}: interrupted by {e}')
        return part, True
    finally:
        part.log.close()
    if part.result.passed + part.result.failed + part.result.skipped == 0:
        part.result.fail(f'{name}: counted nothing')
    return part, False


def report(part, taken_s, elapsed_s):
    r = part.result
    verdict = 'FAILED' if r.failed else 'ok'
    print(f'       {verdict}: {r.passed} ok, {r.failed} bad, {r.skipped} not run; {taken_s:.1f} s '
          f'(elapsed {elapsed_s / 60:.1f} min)', flush=True)
    for note in r.notes:
        print('       ' + note)
    if r.failed:
        for line in part.tail():
            print('         | ' + line.rstrip('\n'))
        print(f'         the whole log: {os.path.relpath(part.log_path, TOP)}', flush=True)


def main(argv):
    mode = 'quick' if 'quick' in argv else 'full'
    chosen = [a for a in argv if a not in ('quick', 'full')]
    if chosen == ['list']:
        for name, quick_s, full_s, what in PARTS:
            print(f'{name:6} quick {quick_s:4} s  full {full_s:4} s  {what}')
        return 0
    total = Result()
    plan = [(n, q if mode == 'quick' else f, what) for n, q, f, what in PARTS]
    assert sum(budget for _, budget, _ in plan) <= LIMIT_S[mode]
    unknown = set(chosen) - {n for n, _, _ in plan}
    for name in sorted(unknown):
        total.fail(f'no part is called {name}')
        print(f'no part is called {name}')
    plan = [p for p in plan if (p[1] > 0 and not chosen) or p[0] in chosen]
    # A part asked for by name runs with its full budget where this mode has none for it.
    full = {n: f for n, _, f, _ in PARTS}
    plan = [(n, budget or full[n], what) for n, budget, what in plan]
    os.makedirs(LOGS, exist_ok=True)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    start = time.monotonic()
    interrupted = False
    try:
        for i, (name, budget_s, what) in enumerate(plan, 1):
            print(f'[{i}/{len(plan)}] {name}: {what} (budget {budget_s} s)', flush=True)
            if interrupted:
                total.fail(f'{name}: never ran')
                print('       FAILED: never ran')
                continue
            began = time.monotonic()
            part, interrupted = run_part(name, budget_s, mode)
            report(part, time.monotonic() - began, time.monotonic() - start)
            total.merge(part.result)
    except Interrupted as e:
        total.fail(f'interrupted by {e}')
    except Exception as e:  # The promise of the last line holds for our own bugs too.
        total.fail('runner')
        print(f'the test runner itself broke: {e!r}')
    if total.passed + total.failed == 0:
        total.fail('nothing ran')
        print('nothing ran, which is a failure')
    print(f'{total.passed} passed, {total.failed} failed, {total.skipped} skipped', flush=True)
    return 1 if total.failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
