#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev coverage: which branches of what decides about data were ever taken.

Runs unit tests, crash enumeration, fuzz corpora and simulator seeds of a build with --coverage,
adds up what gcov counted in every object made from a judged source, and prints lines and branches
per file. Branches of HK_ASSERT are left out: that they are never taken is their point. A branch of
proto, capture, core or store that nothing took has to be in tests/coverage/EXPLAINED.tsv with its
reason, or this fails; those of group are listed.

  --build DIR     (build-cov)          --no-run   only count what is there
  --seeds N       of the simulator (500)
  --list          every uncovered branch, explained or not
"""
import argparse
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JUDGED = ['proto', 'driver-glue/capture', 'replicator/core', 'replicator/store',
          'replicator/group']
# Reported, not yet explained branch by branch.
LISTED_ONLY = 'replicator/group'
EXPLAINED = os.path.join(TOP, 'tests/coverage/EXPLAINED.tsv')
PROGRAMS = re.compile(
    r'^(test_(bounds|proto_|store_|capture|dirty|ring$|core_|group_)(?!nbd|_nbd|litmus|_litmus)|'
    r'fuzz_(ack|dmap|snapmap|frame|history|record|segment|super|uuid_name|journal|handshake|'
    r'receiver|sender|ring_|ipc_|schedule)|crash-(?!bug)|hk-sim$)')
LIMIT_S = 1200


def programs(build):
    """Those that exercise judged code, and how each is run."""
    done = subprocess.run(['meson', 'introspect', '--targets', build], check=True, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True)
    return {t['name']: t['filename'][0] for t in json.loads(done.stdout)
            if t['type'] == 'executable' and PROGRAMS.match(t['name'])}


def command(name, path, seeds):
    if name == 'hk-sim':
        return [path, '--seeds', str(seeds)]
    if name.startswith('fuzz_'):
        return [path, os.path.join(TOP, 'tests/fuzz/corpus', name.removeprefix('fuzz_'))]
    return [path]


def run(name, path, seeds):
    env = dict(os.environ, HK_TESTS_DIR=os.path.join(TOP, 'tests'), CMOCKA_MESSAGE_OUTPUT='TAP',
               HK_CRASH_COUNTS=os.path.join(TOP, 'tests/crash/counts.tsv'))
    try:
        done = subprocess.run(command(name, path, seeds), timeout=LIMIT_S, env=env,
                              stdin=subprocess.DEVNULL, capture_output=True, cwd=TOP)
    except subprocess.TimeoutExpired:
        return f'{name}: not done within {LIMIT_S} s'
    if done.returncode == 0:
        return None
    tail = (done.stdout + done.stderr).decode(errors='replace').splitlines()[-5:]
    return f'{name}: exit status {done.returncode}\n  | ' + '\n  | '.join(tail)


def run_all(build, seeds):
    known = programs(build)
    targets = [os.path.relpath(path, build) for path in known.values()]
    subprocess.run(['ninja', '-C', build, '-j', str(os.cpu_count() or 1)] + targets, check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for folder, _, names in os.walk(build):
        for name in names:
            if name.endswith('.gcda'):
                os.unlink(os.path.join(folder, name))
    # Two at a time: gcov's counters of one program are added up by the program itself.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [pool.submit(run, name, path, seeds) for name, path in sorted(known.items())]
        bad = [job.result() for job in jobs if job.result()]
    print(f'{len(jobs) - len(bad)} of {len(jobs)} programs ran')
    for text in bad:
        print('FAILED ' + text)
    return not bad


def is_judged(name):
    return any(name.startswith(folder + '/') for folder in JUDGED) and 'assert_abort' not in name


def counted(build):
    """Objects of judged sources, by the names that meson gives them."""
    wanted = re.compile(r'(^|/)(\.\._)*(proto|driver-glue_capture|replicator_core|replicator_store|'
                        r'replicator_group)_\w+\.c\.gcda$|'
                        r'libhk_(proto|capture|core|store|group)\.a\.p/')
    found = []
    for folder, _, names in os.walk(build):
        found += [p for p in (os.path.join(folder, n) for n in names if n.endswith('.gcda'))
                  if wanted.search(os.path.relpath(p, build))]
    return found


class File:
    def __init__(self):
        self.lines = collections.Counter()
        self.functions = {}  # line: name
        self.branches = {}   # (line, function): [count, …]


def add(files, build, report):
    for entry in report['files']:
        name = os.path.relpath(os.path.join(build, entry['file']), TOP)
        if not is_judged(name):
            continue
        f = files[name]
        for line in entry['lines']:
            number, function = line['line_number'], line.get('function_name', '')
            f.lines[number] += line['count']
            if not line['branches']:
                continue
            counts = [b['count'] for b in line['branches']]
            old = f.branches.setdefault((number, function), [0] * len(counts))
            if len(old) == len(counts):
                f.branches[number, function] = [a + b for a, b in zip(old, counts)]


def gather(build):
    files = collections.defaultdict(File)

    def one(path):
        done = subprocess.run(['gcov', '--json-format', '--stdout', '--branch-probabilities', path],
                              check=True, stdin=subprocess.DEVNULL, capture_output=True, cwd=build,
                              timeout=300)
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for reports in pool.map(one, counted(build)):
            for report in reports:
                add(files, build, report)
    return files


def macro_lines(text):
    """Lines on which an assertion stands, all of them if it goes over several."""
    lines = set()
    for match in re.finditer(r'\bHK_(STATIC_)?ASSERT\(', text):
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {'(': 1, ')': -1}.get(text[at], 0)
            at += 1
        lines.update(range(text.count('\n', 0, match.start()) + 1, text.count('\n', 0, at) + 2))
    return lines


def explanations():
    table = {}
    with open(EXPLAINED, encoding='utf-8') as f:
        for line in f.read().splitlines()[1:]:
            name, function, source, reason = line.split('\t')
            table[name, function, source] = reason
    return table


def judge(files, listed):
    """Prints the report; returns how many branches are neither taken nor explained."""
    reasons, used, open_count = explanations(), set(), 0
    total = {folder: [0, 0, 0, 0, 0] for folder in JUDGED}
    print(f'{"file":44} {"lines":>14} {"branches":>16} explained')
    for name in sorted(files):
        with open(os.path.join(TOP, name), encoding='utf-8') as f:
            text = f.read()
        source, skip = text.splitlines(), macro_lines(text)
        sums = [sum(1 for c in files[name].lines.values() if c), len(files[name].lines), 0, 0, 0]
        for (line, function), counts in sorted(files[name].branches.items()):
            if line in skip:
                continue
            missed = counts.count(0)
            sums[2] += len(counts) - missed
            sums[3] += len(counts)
            if not missed:
                continue
            key = (name, function, source[line - 1].strip())
            used.add(key)
            if key in reasons:
                sums[4] += missed
            elif not name.startswith(LISTED_ONLY):
                open_count += missed
            if listed or (key not in reasons and not name.startswith(LISTED_ONLY)):
                which = ','.join(str(i) for i, c in enumerate(counts) if c == 0)
                print(f'  {name}:{line}: {function}: {missed} of {len(counts)} '
                      f'{"explained" if key in reasons else "NOT TAKEN"} [{which}]: {key[2]}')
        folder = next(v for v in JUDGED if name.startswith(v + '/'))
        total[folder] = [a + b for a, b in zip(total[folder], sums)]
        show(name, sums)
    for folder, sums in total.items():
        show(folder + '/', sums)
    show('all', [sum(v) for v in zip(*total.values())])
    for key in sorted(set(reasons) - used):
        print('no longer needed in EXPLAINED.tsv: ' + ' | '.join(key))
    return open_count


def show(name, sums):
    lines, all_lines, taken, branches, explained = sums
    print(f'{name:44} {lines:5}/{all_lines:<5}{percent(lines, all_lines)} '
          f'{taken:5}/{branches:<5}{percent(taken, branches)} {explained:5}')


def percent(part, whole):
    return f'{100 * part / whole:6.1f}%' if whole else '      -'


def main():
    args = argparse.ArgumentParser(prog='./dev coverage', description=__doc__.splitlines()[0])
    args.add_argument('--build', default=os.path.join(TOP, 'build-cov'))
    args.add_argument('--seeds', type=int, default=500)
    args.add_argument('--no-run', action='store_true')
    args.add_argument('--list', action='store_true')
    args = args.parse_args()
    build = os.path.abspath(args.build)
    ok = args.no_run or run_all(build, args.seeds)
    files = gather(build)
    if not files:
        sys.exit(f'{build} has counted nothing')
    missing = judge(files, args.list)
    print(f'{missing} branches are neither taken nor explained')
    return 0 if ok and missing == 0 else 1


if __name__ == '__main__':
    sys.exit(main())
