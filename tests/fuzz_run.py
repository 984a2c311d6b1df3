#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev fuzz: every libFuzzer target (executables called fuzz_*) for some minutes each.

Inputs kept in tests/fuzz/corpus/<target without fuzz_> seed the run, tests/fuzz/dict/<…>.dict gives
it words; what libFuzzer finds new stays in build-fuzz/corpus, a crash's input in
build-fuzz/crashes, to be looked at and then kept by hand. --merge puts what was found into the
tree, as few and as small inputs as reach the same edges.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, 'build-fuzz')
# Longest input; bounds of a corpus in the tree.
LENGTH, FILES_MAX, BYTES_MAX = 16640, 250, 280 * 1024
# The commit whose code the figures are about (the last one that changed what decides about data).
JUDGED = ['proto', 'driver-glue/capture', 'replicator/core', 'replicator/store', 'replicator/group']


def targets():
    done = subprocess.run(['meson', 'introspect', '--targets', BUILD], check=True, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True)
    return {t['name']: t['filename'][0] for t in json.loads(done.stdout)
            if t['type'] == 'executable' and t['name'].startswith('fuzz_')}


def fuzz(name, program, minutes):
    """Returns (inputs run, edges reached, crashes found)."""
    grown = os.path.join(BUILD, 'corpus', name)
    crashes = os.path.join(BUILD, 'crashes', name)
    kept = kept_dir(name)
    words = os.path.join(TOP, 'tests/fuzz/dict', name.removeprefix('fuzz_') + '.dict')
    os.makedirs(grown, exist_ok=True)
    os.makedirs(crashes, exist_ok=True)
    seconds = max(1, int(minutes * 60))
    argv = [program, grown] + ([kept] if os.path.isdir(kept) else [])
    argv += [f'-max_total_time={seconds}', '-print_final_stats=1', '-timeout=60',
             '-rss_limit_mb=3072', '-len_control=20', f'-max_len={LENGTH}',
             f'-artifact_prefix={crashes}/']
    if os.path.exists(words):
        argv.append('-dict=' + words)
    log_path = os.path.join(BUILD, name + '.log')
    with open(log_path, 'wb') as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 start_new_session=True)
        try:
            status = child.wait(timeout=seconds + 120)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            status = child.wait()
    with open(log_path, encoding='utf-8', errors='replace') as f:
        text = f.read()
    stats = re.search(r'^stat::number_of_executed_units:\s*(\d+)', text, re.M)
    runs = int(stats[1]) if stats else 0
    edges = max([int(n) for n in re.findall(r'\bcov: (\d+)', text)], default=0)
    if status != 0 or runs == 0:
        print(f'{name}: FAILED with status {status}, inputs in {os.path.relpath(crashes, TOP)}')
        for line in text.splitlines()[-20:]:
            print('  | ' + line)
        return runs, edges, 1
    print(f'{name}: {runs} inputs in {minutes:g} min, {edges} edges, nothing found', flush=True)
    return runs, edges, 0


def kept_dir(name):
    return os.path.join(TOP, 'tests/fuzz/corpus', name.removeprefix('fuzz_'))


def merge(name, program):
    """The corpus of the tree anew, from itself and what was found. Inputs named found_* stay."""
    kept, fresh = kept_dir(name), os.path.join(BUILD, 'merged', name)
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(fresh)
    os.makedirs(kept, exist_ok=True)
    argv = [program, '-merge=1', '-timeout=60', '-rss_limit_mb=3072', fresh, kept]
    grown = os.path.join(BUILD, 'corpus', name)
    subprocess.run(argv + ([grown] if os.path.isdir(grown) else []), check=True, timeout=3600,
                   stdin=subprocess.DEVNULL, capture_output=True)
    for old in os.listdir(kept):
        if not old.startswith('found_'):
            os.unlink(os.path.join(kept, old))
    best = sorted(os.listdir(fresh), key=lambda f: os.path.getsize(os.path.join(fresh, f)))
    # Beyond the bounds every n-th is as good as any other choice.
    every = -(-len(best) // FILES_MAX)
    left, count = BYTES_MAX, 0
    for f in best[::max(1, every)]:
        left -= os.path.getsize(os.path.join(fresh, f))
        if left < 0:
            break
        shutil.copy(os.path.join(fresh, f), os.path.join(kept, f[:12]))
        count += 1
    print(f'{name}: {count} of {len(best)} inputs kept', flush=True)


def main():
    args = argparse.ArgumentParser(prog='./dev fuzz', description=__doc__.splitlines()[0])
    args.add_argument('--minutes', type=float, default=1)
    args.add_argument('--record', action='store_true')
    args.add_argument('--merge', action='store_true')
    args.add_argument('target', nargs='*')
    args = args.parse_args()
    known = targets()
    for name in args.target:
        if name not in known:
            sys.exit(f'no fuzz target is called {name}; there are: {" ".join(sorted(known))}')
    chosen = args.target or sorted(known)
    if not chosen:
        sys.exit('there is no fuzz target')
    bad = 0
    for name in chosen:
        start = time.monotonic()
        runs, edges, found = fuzz(name, known[name], args.minutes)
        bad += found
        if args.merge:
            merge(name, known[name])
        if args.record:
            commit = subprocess.run(['git', 'log', '-1', '--format=%h', '--'] + JUDGED, cwd=TOP,
                                    check=True, capture_output=True, text=True).stdout.strip()
            took = (time.monotonic() - start) / 60
            with open(os.path.join(TOP, 'tests/seeds/LEDGER.tsv'), 'a', encoding='utf-8') as f:
                # One input is one event for a parser.
                what = f'{name.removeprefix("fuzz_")} ({edges} edges)'
                f.write(f'{commit}\tfuzz\t{what}\t1\t{runs}\t{found}\t{took:.1f}\n')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
