# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks run on: two network namespaces, a pair of hikaed, NBD servers, fio, hk-gen.

Everything started here is in `Rig.processes`, killed by its own pid when the rig closes, and dies
with this process in any case. Namespaces and shared memory are removed. No wait is unbounded.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import uuid

MIB = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
NICE = -12
CLOCK_TICK = os.sysconf('SC_CLK_TCK')


class Failed(Exception):
    """A benchmark that could not be made; the text says why."""


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*argv, timeout=30, check=True):
    try:
        r = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, text=True, check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                           preexec_fn=die_with_parent)
    except subprocess.TimeoutExpired as e:
        raise Failed(f'{argv[0]} took more than {timeout} s') from e
    if check and r.returncode != 0:
        raise Failed(f'{" ".join(map(str, argv))}: exit {r.returncode}\n{r.stdout}{r.stderr}')
    return r.stdout


def wait_until(what, condition, timeout):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= end:
            raise Failed(f'{what} did not happen within {timeout} s')
        time.sleep(0.05)


def busy_s():
    """CPU seconds the whole machine has spent on anything but idling."""
    with open('/proc/stat', encoding='ascii') as f:
        v = [int(x) for x in f.readline().split()[1:]]
    return (sum(v[:3]) + sum(v[5:8])) / CLOCK_TICK


def cpu_of(pid):
    with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as f:
        v = f.read().rsplit(')', 1)[1].split()
    return (int(v[11]) + int(v[12])) / CLOCK_TICK


@contextlib.contextmanager
def priority():
    """Whatever else runs here disturbs less: nice, for the session's scheduling group too."""
    group = pathlib.Path('/proc/self/autogroup')
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    try:
        before = re.search(r'nice (-?\d+)', group.read_text(encoding='ascii')).group(1)
        group.write_text(str(NICE), encoding='ascii')
    except (OSError, AttributeError):
        before = None
    try:
        yield
    finally:
        if before is not None:
            group.write_text(before, encoding='ascii')
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def processor():
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='ascii', errors='replace')
    f = {k: re.search(rf'^{k}\s*: (.*)$', text, re.M) for k in ('model name', 'model')}
    name = f['model name'].group(1) if f['model name'] else os.uname().machine
    model = f' model {f["model"].group(1)}' if f['model'] else ''
    return f'{name}{model}, {os.cpu_count()} cores'


class Build:
    def __init__(self, top):
        self.top = pathlib.Path(top)

    def tool(self, name):
        found = sorted((p for p in self.top.rglob(name) if p.is_file()), key=lambda p: len(str(p)))
        if not found:
            raise Failed(f'{name} is not built in {self.top}: run ./dev build')
        return str(found[0])


class Rig:
    """A directory, two namespaces (tokyo, osaka) and whatever was started in them."""
    counter = 0

    def __init__(self, build, mtu=1500):
        Rig.counter += 1
        self.build, self.mtu = build, mtu
        self.tag = f'{os.getpid() % 100000}x{Rig.counter}'
        self.work = pathlib.Path(tempfile.mkdtemp(prefix='hikae-bench-', dir='/var/tmp'))
        self.netns = [f'hkp{self.tag}{s}' for s in 'ab']
        self.address = ['10.79.0.1', '10.79.0.2']
        self.processes, self.in_memory = [], []
        try:
            self._network()
        except BaseException:
            self.close()
            raise

    def _network(self):
        veth = [f'hk{self.tag}{s}' for s in 'ab']
        for n in self.netns:
            run('ip', 'netns', 'add', n)
        run('ip', 'link', 'add', veth[0], 'netns', self.netns[0], 'type', 'veth', 'peer', 'name',
            veth[1], 'netns', self.netns[1])
        for n, v, a in zip(self.netns, veth, self.address):
            run('ip', '-n', n, 'link', 'set', v, 'name', 'wan0')
            run('ip', '-n', n, 'addr', 'add', f'{a}/24', 'dev', 'wan0')
            run('ip', '-n', n, 'link', 'set', 'wan0', 'mtu', self.mtu, 'up')
            run('ip', '-n', n, 'link', 'set', 'lo', 'up')
        wait_until('the veth pair', lambda: 'state UP' in run(
            'ip', '-n', self.netns[1], 'link', 'show', 'wan0'), 5)

    def start(self, name, *argv, side=None):
        inside = ['ip', 'netns', 'exec', self.netns[side]] if side is not None else []
        argv = [*inside, *map(str, argv)]
        with open(self.work / f'{name}.log', 'ab') as log:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 preexec_fn=die_with_parent)
        p.name = name
        self.processes.append(p)
        return p

    def stop(self, p, how=signal.SIGTERM):
        if p.poll() is None:
            p.send_signal(how)
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait(5)
        self.processes.remove(p)

    def check_alive(self):
        for p in self.processes:
            if p.poll() is not None:
                raise Failed(f'{p.name} ended by itself ({p.returncode}):\n{self.log(p.name)}')

    def log(self, name):
        try:
            return (self.work / f'{name}.log').read_text(errors='replace')[-2000:]
        except OSError:
            return ''

    def logs(self):
        return '\n'.join(f'--- {f.name}\n{self.log(f.stem)}' for f in self.work.glob('*.log'))

    def ping_us(self):
        """Median round trip of the bare line."""
        out = run('ip', 'netns', 'exec', self.netns[0], 'ping', '-n', '-c', '40', '-i', '0.005',
                  self.address[1])
        return statistics.median(float(x) for x in re.findall(r'time=([\d.]+) ms', out)) * 1000

    def wire_bytes(self):
        """Sent and received by the primary's end of the line so far."""
        text = run('ip', '-n', self.netns[0], '-s', '-j', 'link', 'show', 'wan0')
        stats = json.loads(text)[0]['stats64']
        return stats['rx']['bytes'] + stats['tx']['bytes']

    def close(self):
        for p in list(self.processes):
            try:
                self.stop(p, signal.SIGKILL)
            except (OSError, subprocess.SubprocessError):
                pass
        for n in self.netns:
            run('ip', 'netns', 'del', n, check=False)
        for r in self.in_memory:
            pathlib.Path(r).unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind and issubclass(kind, Failed):
            value.args = (f'{value}\n{self.logs()}',)
        self.close()


class Group:
    """One replicated volume `data`: configuration, metadata, and its processes within a rig.

    The origin lies in memory: two sites have two disks, and here both would take turns at one
    (origin_on_disk: then they do). Journal, replica and all metadata lie on the disk.
    """

    def __init__(self, rig, name, mode, backend, volume_mib=256, port=7700, journal_mib=1024,
                 sparse=False, policy='block', origin_on_disk=False, apply_lag_mib=None):
        self.rig, self.name, self.mib = rig, name, volume_mib
        self.dir = rig.work / name
        self.id = str(uuid.uuid4())
        self.sites = ['tokyo', 'osaka']
        for s in self.sites:
            (self.dir / s).mkdir(parents=True)
        (self.dir / 'osaka' / 'journal').mkdir()
        self.group_conf = self.dir / 'group.conf'
        self.conf = [self.dir / f'{s}.conf' for s in self.sites]
        self.ring = f'/dev/shm/hikae-bench-{rig.tag}-{name}.ring'
        self.images = [f'/dev/shm/hikae-bench-{rig.tag}-{name}.img',
                       self.dir / 'osaka' / 'data.img']
        rig.in_memory += [self.ring, self.images[0]]
        if origin_on_disk:
            self.images[0] = self.dir / 'tokyo' / 'data.img'
        self.capture = self.dir / 'capture.sock'
        # A DPDK port has an address of its own beside the kernel's.
        shift = 10 if backend == 'dpdk' else 0
        paths = [re.sub(r'\d+$', lambda m: str(int(m.group()) + shift), a) for a in rig.address]
        sites = ',\n  '.join(
            f'{{ name = "{s}"; site-id = "{uuid.uuid4()}"; control = "{a}:{port}"; '
            f'paths = ( "{p}:{port + 1}" ); }}'
            for s, a, p in zip(self.sites, rig.address, paths))
        self.group_conf.write_text(
            f'name = "{name}";\ngroup-id = "{self.id}";\nmode = "{mode}";\n'
            f'on-link-loss = "{policy}";\ncontact-timeout-ms = 5000;\nlab-unencrypted = true;\n'
            f'volumes = ( {{ name = "data"; size = {volume_mib * MIB}L; }} );\n'
            f'sites = (\n  {sites}\n);\n')
        link = f'link = {{ backend = "{backend}"; interfaces = ( "wan0" ); mtu = {rig.mtu}; }};\n'
        self.conf[0].write_text(self._head(0) + (
            f'capture = {{ socket = "{self.capture}"; ring = "{self.ring}"; ring-slots = 16384; '
            f'ring-payload = {128 * MIB}L; metadata = "{self.dir}/tokyo/md"; '
            f'origins = ( {{ volume = "data"; path = "{self.image(0)}"; }} ); }};\n') + link)
        self.conf[1].write_text(self._head(1) + (
            f'standby = {{ metadata = "{self.dir}/osaka/md"; '
            f'primary-metadata = "{self.dir}/osaka/primary-md"; '
            f'journal = "{self.dir}/osaka/journal"; journal-mib = {journal_mib}; segment-mib = 64; '
            f'window-mib = 128; apply-mib = 32; '
            f'apply-lag-mib = {apply_lag_mib or journal_mib // 2}; '
            f'replicas = ( {{ volume = "data"; path = "{self.image(1)}"; }} ); }};\n') + link)
        for i in range(2):
            # Written once, like a volume in use: allocating blocks is no part of replication.
            with open(self.image(i), 'wb') as f:
                if sparse:
                    f.truncate(volume_mib * MIB)
                    continue
                for _ in range(volume_mib):
                    f.write(bytes(MIB))
                os.fsync(f.fileno())
        for i in range(2):
            self.hikae(i, 'create-md', '--assume-equal')

    def _head(self, i):
        s = self.sites[i]
        return (f'site = "{s}";\nrole = "{["primary", "standby"][i]}";\n'
                f'socket = "{self.dir}/{s}.sock";\nstate-dir = "{self.dir}/{s}";\n')

    def image(self, i):
        return self.images[i]

    def hikae(self, side, verb, *argv, **kw):
        return run(self.rig.build.tool('hikae'), verb, '--group', self.group_conf, '--site',
                   self.conf[side], *argv, **kw)

    def status(self, side):
        text = self.hikae(side, 'status', '--json', check=False, timeout=10)
        return json.loads(text[text.index('{'):]) if '{' in text else {}

    def start_daemons(self):
        hikaed = self.rig.build.tool('hikaed')
        self.daemons = [self.rig.start(f'{self.name}-{self.sites[i]}', hikaed, '-g',
                                       self.group_conf, '-s', self.conf[i], side=i)
                        for i in (1, 0)]
        wait_until('the standby', lambda: self.rig.check_alive() or self.status(1), 30)

    def stop_daemons(self, how=signal.SIGTERM):
        for d in self.daemons:
            self.rig.stop(d, how)
        self.daemons = []

    def event(self, side, message):
        """When it was last said, in nanoseconds; 0: never."""
        found = 0
        for line in self.hikae(side, 'events', '--json', check=False).splitlines():
            if line.startswith('{'):
                e = json.loads(line)
                found = e['time_ns'] if e.get('id') == message else found
        return found

    def start_consumer(self):
        return self.rig.start(f'{self.name}-consumer', self.rig.build.tool('cap_consumer'),
                              '--socket', self.capture, '--group', self.id)

    def start_plugin(self, threads=20):
        nbd = NbdServer(self.rig, f'{self.name}-nbdkit', 'data',
                        self.rig.build.tool('nbdkit-hikae-plugin.so'),
                        f'group={self.group_conf}', f'site={self.conf[0]}', threads=threads)
        return nbd

    def gen(self, seconds, threads, size, warmup=0.5):
        out = run('ip', 'netns', 'exec', self.rig.netns[0], self.rig.build.tool('hk-gen'),
                  '--group', self.group_conf, '--site', self.conf[0], '--threads', threads,
                  '--bytes', size, '--seconds', seconds, '--warmup', warmup,
                  timeout=seconds + 75)
        self.rig.check_alive()
        return json.loads(out)

    def daemon_cpu(self):
        return [cpu_of(p.pid) for p in reversed(self.daemons)]


def receive(s, count):
    data = bytearray()
    while len(data) < count:
        more = s.recv(count - len(data))
        if not more:
            raise Failed('the NBD server hung up')
        data += more
    return data


def answered(s):
    magic, error, _ = struct.unpack('>IIQ', receive(s, 16))
    if magic != 0x67446698 or error:
        raise Failed(f'an NBD write failed: error {error}')


class NbdServer:
    def __init__(self, rig, name, export, *plugin, threads=20):
        self.rig, self.socket = rig, rig.work / f'{name}.sock'
        self.uri = f'nbd+unix:///{export}?socket={self.socket}'
        self.socket.unlink(missing_ok=True)
        self.process = rig.start(name, 'nbdkit', '-f', '-U', self.socket, '-t', threads,
                                 *plugin)
        wait_until(f'{name} answering', self._answers, 30)

    def _answers(self):
        self.rig.check_alive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(1)
            try:
                s.connect(str(self.socket))
                return s.recv(8) == b'NBDMAGIC'
            except OSError:
                return False

    def write(self, pieces):
        """Pieces of (offset, bytes), 16 requests at a time, each answered without an error."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(30)
            s.connect(str(self.socket))
            name = self.uri.split('/')[3].split('?')[0].encode()
            receive(s, 18)
            s.sendall(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 1, len(name)) + name)
            receive(s, 10)
            for i, (offset, data) in enumerate(pieces):
                s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 1, i, offset, len(data)) + data)
                if i >= 16:
                    answered(s)
            for _ in range(min(16, len(pieces))):
                answered(s)
        self.rig.check_alive()

    def fio(self, depth, seconds, size_mib, ramp=0.3):
        # Negotiation waits until the group serves; the job's own size keeps fio from asking more.
        out = run('fio', '--name=w', '--ioengine=nbd', f'--uri={self.uri}', '--rw=randwrite',
                  '--bs=4k', f'--iodepth={depth}', f'--size={size_mib}m', '--time_based',
                  f'--runtime={seconds}s', f'--ramp_time={int(ramp * 1000)}ms', '--randrepeat=0',
                  '--output-format=json', timeout=seconds + 40)
        w = json.loads(out[out.index('{'):])['jobs'][0]['write']
        self.rig.check_alive()
        self.writes = w['total_ios']
        return w['iops'], w['clat_ns']['percentile']['50.000000'] / 1000
