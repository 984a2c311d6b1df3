#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: each value beside a peer or a limit that was measured in the same run.

usage: run.py [NAME...] [--build DIR] [--record] [--runs N] [--verbose]

  capture    IOPS of 4 KiB random writes by fio through nbdkit with the Hikae plugin, beside nbdkit
             with its own `file` plugin over the same file ("capture off"). null: a replicator that
             only releases; full: both daemons, mode async, DPDK on af_packet
  pipeline   Gbit/s from the ring to durable at the standby, writes of 128 KiB, mode async, beside
             the series limit: cores / sum of CPU seconds per byte of the stages alone, or, if it is
             lower, what the standby's disk can do with journal and replica both on it
  resync     seconds until two copies of 8 GiB, of which 1 % differs in one piece or in blocks of
             64 KiB anywhere, are equal again, beside reading the regions concerned at both sides
  resync-bytes  what passed over the wire meanwhile, beside the blocks that differed
  rto        seconds that a failover takes with 1 GiB of log that is not applied yet, in records of
             128 KiB, beside writing as much in such pieces to the replica's file
  sync       p50 of one writer's 4 KiB writes in mode sync, beside round trip + standby's flush +
             what the same write costs in mode async; rtt2 and rtt10 need a longer line: not there

  dmap       metadata writes per data write: 4 KiB to random places of a sparse 4 TiB volume, 32 at
             a time, 4096 hot regions, clearing at steady state; beside the most that is allowed
  apply      IOPS of random 4 KiB writes out of the window into a replica of 512 MiB, beside
             as many writes to the replica's file alone, 32 in flight: without a snapshot, and
             with one that wants the before-images (uniform: nearly each write is a first touch)

ratio is value/ref or ref/value, whichever is larger when Hikae is better; spread is (max - min) /
median of the ratio. `others` is how many cores were busy with something else meanwhile: a figure
taken beside 0.3 or more of them says little. --record appends to perf/BASELINE.tsv.
"""
import argparse
import concurrent.futures
import contextlib
import functools
import json
import mmap
import os
import pathlib
import random
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import rig as rigs  # noqa: E402
from rig import MIB, Failed, Group, NbdServer, Rig, run  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parents[1]
BASELINE = TOP / 'perf' / 'BASELINE.tsv'
BUDGET_S = 360  # of one benchmark
RUNS_MIN = 5
SPREAD_MAX = 1.0  # beyond it nobody knows the ratio within a factor of two
VOLUME_MIB = 256
RECORD_BYTES = 128 << 10
WRITERS = 4
READERS = 8


# Seconds; those that copy gigabytes may take longer.
BUDGET = {'resync': 1500, 'resync-bytes': 1500}


class Case:
    """Pairs of (value, ref) of one case, and what belongs to them."""

    def __init__(self, bench, case, unit, ref_name, larger_is_better=True):
        self.bench, self.case, self.unit, self.ref_name = bench, case, unit, ref_name
        self.larger = larger_is_better
        self.pairs, self.others, self.notes = [], [], []

    def add(self, value, ref, others, note):
        self.pairs.append((value, ref))
        self.others.append(others)
        self.notes.append(note)

    def ratios(self):
        return [v / r if self.larger else r / v for v, r in self.pairs]

    def row(self):
        ratio = statistics.median(self.ratios())
        return {'bench': self.bench, 'case': self.case,
                'value': f'{statistics.median(v for v, _ in self.pairs):.4g}', 'unit': self.unit,
                'ref_name': self.ref_name,
                'ref_value': f'{statistics.median(r for _, r in self.pairs):.4g}',
                'ratio': f'{ratio:.3f}',
                'spread': f'{(max(self.ratios()) - min(self.ratios())) / ratio:.3f}',
                'runs': str(len(self.pairs))}


class Meter:
    """How many cores were busy with what is not ours, from now on."""

    def __init__(self, rig):
        self.rig = rig
        self.at, self.busy, self.ours = time.monotonic(), rigs.busy_s(), self.own_s()

    def own_s(self):
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (ended.ru_utime + ended.ru_stime + time.process_time()
                + sum(rigs.cpu_of(p.pid) for p in self.rig.processes))

    def others(self):
        busy = rigs.busy_s() - self.busy - (self.own_s() - self.ours)
        return max(0.0, busy / (time.monotonic() - self.at))


# ---- capture ----

def compare_servers(cases, ours, off, seconds, runs):
    for case, depth in cases:
        for _ in range(runs):
            meter = Meter(off.rig)
            ref = off.fio(depth, seconds, VOLUME_MIB)
            value = ours.fio(depth, seconds, VOLUME_MIB)
            case.add(value[0], ref[0], meter.others(),
                     f'p50 {value[1]:.0f} us, off {ref[1]:.0f} us')


def bench_capture(build, runs, seconds=1.2):
    def cases(kind):
        return [(Case('capture', f'{kind}-4k-qd{d}', 'IOPS', 'nbdkit file plugin'), d)
                for d in (1, 16)]

    null, full = cases('null'), cases('full')
    with Rig(build) as rig:
        group = Group(rig, 'null', 'async', 'udp', VOLUME_MIB)
        plugin = group.start_plugin()
        group.start_consumer()
        off = NbdServer(rig, 'off', '', 'file', group.image(0))
        compare_servers(null, plugin, off, seconds, runs)
    with Rig(build) as rig:
        group = Group(rig, 'full', 'async', 'dpdk', VOLUME_MIB)
        plugin = group.start_plugin()
        group.start_daemons()
        rigs.wait_until('replication', lambda: group.status(0).get('state') == 'replicating', 30)
        off = NbdServer(rig, 'off', '', 'file', group.image(0))
        compare_servers(full, plugin, off, seconds, runs)
    return [c for c, _ in null + full]


# ---- dirty map ----

def metadata_writes(path):
    """By the numbers that the newest superblock, transaction and page of the map carry."""
    with open(path, 'rb') as f:
        raw = f.read()

    def newest(first, end, step):
        return max(struct.unpack_from('<Q', raw, at + 16)[0] for at in range(first, end, step))

    log, pages = 32 << 10, (32 << 10) + (1 << 20)
    return newest(0, log, 16 << 10) + newest(log, pages, 4096) + newest(pages, len(raw), 4096)


def bench_dmap(build, runs, seconds=4):
    case = Case('dmap', 'cold-4k-qd32', 'metadata writes per data write', 'limit', False)
    with Rig(build) as rig:
        group = Group(rig, 'dmap', 'async', 'udp', 4 << 20, sparse=True)
        plugin = group.start_plugin(threads=32)
        group.start_consumer()
        plugin.fio(32, 2, 4 << 20, ramp=0)   # until every slot has been taken once
        for _ in range(runs):
            meter = Meter(rig)
            before = metadata_writes(group.dir / 'tokyo/md')
            iops, _ = plugin.fio(32, seconds, 4 << 20, ramp=0)
            wrote = metadata_writes(group.dir / 'tokyo/md') - before
            case.add(wrote / plugin.writes, 0.1, meter.others(),
                     f'{wrote} for {plugin.writes}, {iops:.0f} IOPS')
    return [case]


# ---- apply ----

def bench_apply(build, runs, records=30000):
    names = ('snap0', 'snap1-uniform', 'snap1-zipf')
    cases = {n: Case('apply', n, 'IOPS', 'replica device alone') for n in names}
    with Rig(build) as rig:
        for _ in range(runs):
            # Its own directory each time: a snapshot's files are of holes at the start.
            work = rig.work / 'apply'
            work.mkdir()
            meter = Meter(rig)
            out = run(build.tool('hk-apply'), '--dir', work, '--megabytes', 512,
                      '--records', records, timeout=120)
            others = meter.others()
            shutil.rmtree(work)
            got = {c['case']: c for c in map(json.loads, out.splitlines())}
            for n in names:
                phases = ' '.join(f'{k[:-3]} {v}' for k, v in got[n].items() if k.endswith('_ms'))
                cases[n].add(got[n]['iops'], got['device']['iops'], others,
                             f'{got[n]["iops"] / got["snap0"]["iops"]:.2f} of snap0; ms: {phases}')
    return list(cases.values())


# ---- resync ----

REGION = 4 * MIB
BLOCK = 64 << 10
GIB = 1 << 30
RESYNC_MIB = 8192
CHANGED = RESYNC_MIB * MIB // BLOCK // 100  # one per cent of the volume


class Resync:
    """Two copies of a volume that differ in some blocks, and the primary has lost its ring.

    The blocks are written while no replicator is there, then the capture process is killed and its
    ring removed: what it had marked hot is stale, nothing else, and no log is left to be sent.
    """

    def __init__(self, rig):
        self.rig, self.random = rig, random.Random(1)
        self.group = Group(rig, 'resync', 'async', 'dpdk', RESYNC_MIB, journal_mib=2048,
                           policy='continue', origin_on_disk=True)
        self.plugin = self.group.start_plugin()
        self.group.start_daemons()
        self.settle()

    def told(self):
        """When a resync was last said to have begun, and to have ended."""
        return [self.group.event(0, m) for m in ('HKE3101I', 'HKE3104I')]

    def settle(self):
        def settled():
            self.rig.check_alive()
            s = self.group.status(0)
            return s.get('state') == 'replicating' and not s.get('resync', {}).get('stale_bytes')

        rigs.wait_until('the end of the resync', settled, 300)

    def blocks(self, scattered):
        every = RESYNC_MIB * MIB // BLOCK
        if scattered:
            return sorted(self.random.sample(range(every), CHANGED))
        first = self.random.randrange(every - CHANGED)
        return list(range(first, first + CHANGED))

    def diverge(self, blocks):
        self.before = self.told()
        self.group.stop_daemons()
        self.plugin.write([(b * BLOCK, self.random.randbytes(BLOCK)) for b in blocks])
        self.rig.stop(self.plugin.process, signal.SIGKILL)
        pathlib.Path(self.group.ring).unlink()

    def read_both_s(self, blocks):
        """Reading the regions of these blocks once at both sides, both at a time, O_DIRECT."""
        regions = sorted({b * BLOCK // REGION * REGION for b in blocks})
        fds = [os.open(self.group.image(i), os.O_RDONLY | os.O_DIRECT) for i in range(2)]
        jobs = [(fd, at + k * MIB) for at in regions for k in range(REGION // MIB) for fd in fds]

        def read(lane):
            with mmap.mmap(-1, MIB) as m:
                for fd, at in jobs[lane::READERS]:
                    os.preadv(fd, [m], at)

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            list(pool.map(read, range(READERS)))
        for fd in fds:
            os.close(fd)
        return time.monotonic() - began, len(regions)

    def heal(self):
        """Seconds from the begin to the end of the resync, and bytes on the wire meanwhile."""
        wire = self.rig.wire_bytes()
        self.plugin = self.group.start_plugin()
        self.group.start_daemons()

        def ended():
            self.rig.check_alive()
            began, end = self.told()
            return began > self.before[0] and end > began and (began, end)

        rigs.wait_until('the resync', ended, 300)
        began, end = ended()
        wire = self.rig.wire_bytes() - wire
        self.settle()
        return (end - began) / 1e9, wire


@functools.cache
def measure_resync(build, runs):
    names = ('1pct-8g', 'scattered-8g')
    times = {n: Case('resync', n, 's', 'reading both sides once', False) for n in names}
    wires = {n: Case('resync-bytes', n, 'bytes', 'changed blocks', False) for n in names}
    with Rig(build) as rig:
        r = Resync(rig)
        for _ in range(runs):
            for n in names:
                meter = Meter(rig)
                blocks = r.blocks(n.startswith('scattered'))
                r.diverge(blocks)
                limit, regions = r.read_both_s(blocks)
                took, wire = r.heal()
                others = meter.others()
                times[n].add(took, limit, others, f'{regions} regions')
                wires[n].add(wire, CHANGED * BLOCK, others, f'{regions} regions, {took:.2f} s')
    return list(times.values()), list(wires.values())


def bench_resync(build, runs):
    return measure_resync(build, runs)[0]


def bench_resync_bytes(build, runs):
    return measure_resync(build, runs)[1]


# ---- recovery time ----

def write_backlog_s(path):
    """As many bytes in pieces as large, to random places of the replica's file, then a flush."""
    out = run('fio', '--output-format=json', '--name=w', f'--filename={path}', '--rw=randwrite',
              f'--bs={RECORD_BYTES}', '--size=2g', f'--io_size={GIB}', '--ioengine=io_uring',
              '--iodepth=32', '--direct=1', '--overwrite=1', '--end_fsync=1', timeout=120)
    return json.loads(out[out.index('{'):])['jobs'][0]['job_runtime'] / 1000


def backlog_of(group):
    s = group.status(1)
    return s.get('durable', 0) - s.get('applied', 0)


def bench_rto(build, runs):
    """The applier stands at a freeze while the log comes in; then the primary is gone."""
    case = Case('rto', 'backlog-1g', 's', 'writing the backlog to disk', False)
    data, draw = bytes(RECORD_BYTES), random.Random(1)
    for _ in range(runs):
        with Rig(build) as rig:
            meter = Meter(rig)
            group = Group(rig, 'rto', 'async', 'dpdk', 2048, journal_mib=4096, apply_lag_mib=3072)
            plugin = group.start_plugin()
            group.start_daemons()
            rigs.wait_until('replication',
                            lambda: group.status(0).get('state') == 'replicating', 30)
            group.hikae(1, 'freeze', 'backlog')
            plugin.write([(draw.randrange(2 * GIB // RECORD_BYTES) * RECORD_BYTES, data)
                          for _ in range(GIB // RECORD_BYTES)])
            rigs.wait_until('the backlog', lambda: backlog_of(group) >= GIB, 60)
            backlog = backlog_of(group)
            rig.stop(group.daemons.pop(), signal.SIGKILL)
            rig.stop(plugin.process, signal.SIGKILL)
            began = time.monotonic()
            group.hikae(1, 'failover', '--yes', timeout=120)
            took = time.monotonic() - began
            rig.stop(group.daemons.pop())
            case.add(took, write_backlog_s(group.image(1)), meter.others(),
                     f'{backlog / MIB:.0f} MiB of log')
    return [case]


# ---- pipeline ----

def stages(rig, backend, megabytes=128):
    wire = 'af_packet' if backend == 'dpdk' else 'udp'
    out = run(rig.build.tool('hk-stages'), '--mtu', rig.mtu, '--wire', wire, '--netns',
              ','.join(rig.netns), '--address', ','.join(rig.address), '--megabytes', megabytes,
              '--journal', rig.work / 'stage.journal')
    return {s['stage']: s for s in map(json.loads, out.splitlines())}


def disk_gbit(rig):
    """What the standby's disk carries of a stream that it has to take twice, durably.

    The journal and the replica lie on one disk, and what becomes durable is applied at the same
    time: every byte is written once in order by durable writes of 1 MiB, four at a time, and once
    at random by records of the same size, both over written blocks. Half of the sum is the limit.
    """
    common = ('--size=256m', '--ioengine=io_uring', '--direct=1', '--overwrite=1', '--time_based',
              '--runtime=700ms')
    out = run('fio', '--output-format=json',
              '--name=journal', f'--filename={rig.work}/disk.journal', '--rw=write', '--bs=1m',
              '--iodepth=4', '--sync=dsync', *common,
              '--name=replica', f'--filename={rig.work}/disk.replica', '--rw=randwrite',
              f'--bs={RECORD_BYTES}', '--iodepth=32', *common)
    jobs = json.loads(out[out.index('{'):])['jobs']
    return sum(j['write']['bw_bytes'] for j in jobs) * 8 / 1e9 / 2


def pipeline_run(rig, group, backend, seconds, case):
    parts = stages(rig, backend)
    cpu_ns_per_kib = sum(s['cpu_ns_per_kib'] for s in parts.values())
    cpu_limit = os.cpu_count() * 1024 * 8 / cpu_ns_per_kib
    disk = disk_gbit(rig)
    before, meter = group.daemon_cpu(), Meter(rig)
    g = group.gen(seconds, WRITERS, RECORD_BYTES)
    cpu = [a - b for a, b in zip(group.daemon_cpu(), before)]
    gbit = g['bytes'] * 8 / g['seconds'] / 1e9
    kib = g['bytes'] / 1024
    case.add(gbit, min(cpu_limit, disk), meter.others(),
             f'cpu limit {cpu_limit:.1f}, disk {disk:.1f} Gbit/s; alone '
             + ' '.join(f'{k} {s["cpu_ns_per_kib"]:.0f}' for k, s in parts.items())
             + f' = {cpu_ns_per_kib:.0f} ns/KiB; used: writers {g["cpu_seconds"] * 1e9 / kib:.0f}'
             f' primary {cpu[0] * 1e9 / kib:.0f} standby {cpu[1] * 1e9 / kib:.0f}')


def bench_pipeline(build, runs, seconds=1.5):
    cases = []
    for mtu in (1500, 9000):
        for name, backend in (('udp', 'udp'), ('af_packet', 'dpdk')):
            case = Case('pipeline', f'{mtu}-{name}', 'Gbit/s', 'series limit, shared disk')
            with Rig(build, mtu) as rig:
                group = Group(rig, 'pipe', 'async', backend, VOLUME_MIB)
                group.start_daemons()
                for _ in range(runs):
                    pipeline_run(rig, group, backend, seconds, case)
            cases.append(case)
    return cases


# ---- sync ----

def flush_us(rig):
    """The standby's smallest durable write, alone.

    The tenth percentile, and the smaller of before and after: on a machine that does other things,
    too, whoever waits for the disk is woken a clock tick late, and that would flatter the ratio.
    """
    out = run(rig.build.tool('hk-stages'), '--flush', '--journal', rig.work / 'flush.test')
    return json.loads(out)['p10_us']


def bench_sync(build, runs, seconds=1.0):
    case = Case('sync', 'rtt0', 'us', 'RTT+flush+async p50', larger_is_better=False)
    with Rig(build) as rig:
        groups = [Group(rig, mode, mode, 'dpdk', 64, port, journal_mib=256)
                  for mode, port in (('async', 7700), ('sync', 7710))]
        for _ in range(runs):
            p50 = {}
            rtt = rig.ping_us()
            flush = flush_us(rig)
            for group in groups:
                group.start_daemons()
                meter = Meter(rig)
                p50[group.name] = group.gen(seconds, 1, 4096)
                others = meter.others()
                for d in group.daemons:
                    rig.stop(d, signal.SIGTERM)
            flush = min(flush, flush_us(rig))
            s, a = p50['sync'], p50['async']
            case.add(s['p50_us'], rtt + flush + a['p50_us'], others,
                     f'rtt {rtt:.0f} + flush {flush:.0f} + async {a["p50_us"]} us; '
                     f'sync p99 {s["p99_us"]}, p99.9 {s["p999_us"]} us')
    return [case]


# ---- the table ----

BENCHES = {'capture': bench_capture, 'dmap': bench_dmap, 'apply': bench_apply,
           'resync': bench_resync, 'resync-bytes': bench_resync_bytes, 'rto': bench_rto,
           'pipeline': bench_pipeline,
           'sync': bench_sync}
COLUMNS = ('bench', 'case', 'value', 'unit', 'ref_name', 'ref_value', 'ratio', 'spread', 'runs')


def show(cases, verbose):
    rows = [[*(c.row()[k] for k in COLUMNS), f'{statistics.median(c.others):.2f}']
            for c in cases]
    rows.insert(0, [*COLUMNS, 'others'])
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        print('  '.join(t.ljust(w) for t, w in zip(r, widths)).rstrip())
    for c in cases if verbose else []:
        for (value, ref), note in zip(c.pairs, c.notes):
            print(f'  {c.bench} {c.case}: {value:.4g} / {ref:.4g}  {note}')


def commit():
    out = run('git', '-C', TOP, 'rev-parse', '--short=10', 'HEAD', check=False).strip()
    return out or '-'


def record(cases):
    header = BASELINE.read_text(encoding='utf-8').splitlines()[0].split('\t')
    extra = {'commit': commit(), 'cpu': rigs.processor()}
    with BASELINE.open('a', encoding='utf-8') as f:
        for c in cases:
            f.write('\t'.join({**c.row(), **extra}[k] for k in header) + '\n')


def out_of_time(signal_number, frame):
    raise Failed('more than its time; what was measured is lost')


def main():
    p = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', choices=[*BENCHES, []], metavar='NAME')
    p.add_argument('--build', default=TOP / 'build')
    p.add_argument('--record', action='store_true')
    p.add_argument('--runs', type=int, default=RUNS_MIN)
    p.add_argument('--verbose', action='store_true')
    a = p.parse_args()
    if os.geteuid() != 0:
        print('bench: network namespaces need root', file=sys.stderr)
        return 1
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    build, done, failed = rigs.Build(a.build), [], 0
    for name in a.names or BENCHES:
        began = time.monotonic()
        signal.alarm(BUDGET.get(name, BUDGET_S))
        try:
            with rigs.priority():
                cases = BENCHES[name](build, a.runs)
        except (Failed, OSError, ValueError, subprocess.SubprocessError) as e:
            print(f'bench {name} failed: {e}', file=sys.stderr)
            failed += 1
            continue
        show(cases, a.verbose)
        print(f'({name}: {time.monotonic() - began:.0f} s)', flush=True)
        done += cases
    with contextlib.suppress(ValueError):
        signal.alarm(0)
    if a.record and a.runs < RUNS_MIN:
        print(f'bench: not recorded: fewer than {RUNS_MIN} runs', file=sys.stderr)
        return 1
    if a.record:
        for c in done:
            if float(c.row()['spread']) > SPREAD_MAX:
                print(f'bench: {c.bench} {c.case} not recorded: a spread above {SPREAD_MAX}')
        record([c for c in done if float(c.row()['spread']) <= SPREAD_MAX])
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
