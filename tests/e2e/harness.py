# SPDX-License-Identifier: Apache-2.0
"""Two sites on one machine, for the end-to-end tests.

A Cluster is two network namespaces joined by one veth pair, the configuration files, and the real
daemons: hikaed at both sites and nbdkit with the Hikae plugin at the primary. A Stamper is the
client (tests/tools/stamp.c). Everything is started with a deadline on each wait, killed by its own
pid, dies with this process, and the namespaces are deleted whatever happens.

Judgement never comes from the product: hk-replay rebuilds images from the standby's journal by the
text of proto/SPEC.md, hk-check judges images by the client's own record.
"""
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('HK_BUILD', TOP / 'build'))
QUICK = os.environ.get('HK_TEST_MODE', 'full') == 'quick'
WHOLE = os.environ.get('HK_TEST_MODE', 'full') == 'whole'
MIB = 1 << 20

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def tool(name):
    found = sorted(BUILD.rglob(name), key=lambda p: len(str(p)))
    found = [p for p in found if p.is_file()]
    if not found:
        raise FileNotFoundError(f'{name} is not built in {BUILD}')
    return str(found[0])


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*argv, timeout=60, check=True, **kw):
    """A short command; its output is in the exception if it fails."""
    r = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=timeout, text=True, stdin=subprocess.DEVNULL, check=False,
                       preexec_fn=die_with_parent, **kw)
    if check and r.returncode != 0:
        raise AssertionError(f'{" ".join(map(str, argv))}: exit {r.returncode}\n{r.stdout}')
    return r


def wait_until(what, condition, timeout=20.0, pause=0.05):
    """Returns the condition's first true value; the last reason it gave is in the exception."""
    end = time.monotonic() + timeout
    why = ''
    while True:
        try:
            value = condition()
            if value:
                return value
            why = repr(value)
        except (AssertionError, OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
            why = str(e)
        if time.monotonic() >= end:
            raise AssertionError(f'{what} did not happen within {timeout} s: {why[-2000:]}')
        time.sleep(pause)


class Process:
    """One daemon: its log outlives its restarts."""

    def __init__(self, name, argv, log):
        self.name, self.argv, self.log = name, [str(a) for a in argv], log
        self.child = None

    def start(self):
        assert not self.running(), f'{self.name} runs already'
        with open(self.log, 'ab') as f:
            f.write(f'--- start at {time.time():.3f}: {" ".join(self.argv)}\n'.encode())
            f.flush()
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                          preexec_fn=die_with_parent)

    def running(self):
        return self.child is not None and self.child.poll() is None

    def send(self, sig):
        self.child.send_signal(sig)

    def kill(self, sig=signal.SIGKILL, timeout=15):
        """Ends it and waits; returns its exit status (negative: the signal)."""
        if self.child is None:
            return None
        if self.running():
            self.child.send_signal(sig)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(5)
            raise AssertionError(f'{self.name} did not end within {timeout} s after signal {sig}')

    def died(self):
        """Ended by itself?"""
        return self.child is not None and self.child.poll() is not None

    def tail(self, lines=40):
        try:
            text = pathlib.Path(self.log).read_text(errors='replace').splitlines()
        except OSError:
            return ''
        return '\n'.join(text[-lines:])


class Site:
    def __init__(self, name, ns, address, work):
        self.name, self.ns, self.address = name, ns, address
        self.dir = work / name
        self.conf = work / f'{name}.conf'
        self.dir.mkdir()


class Cluster:
    """A group of two volumes: tokyo is the primary, osaka the standby."""

    counter = 0

    def __init__(self, work, mode='sync', policy='block', backend='udp', impair=None,
                 contact_timeout_ms=1500, data_mib=48, wal_mib=16, journal_mib=1024,
                 ring_payload_mib=64, wire=None, region_bytes=None, assume_equal=True,
                 spool_segments=0, snapshot_mib=0, segment_mib=16, ring_slots=16384,
                 group_lines='', max_mib=0):
        Cluster.counter += 1
        self.tag = f'{os.getpid() % 100000}x{Cluster.counter}'
        self.work = pathlib.Path(work)
        self.mode, self.policy, self.backend = mode, policy, backend
        self.impair, self.contact_timeout_ms = impair, contact_timeout_ms
        self.wire_options, self.wire_ns = wire, f'hke{self.tag}w'
        self.region_bytes = region_bytes
        self.spool_segments = spool_segments  # of 8 MiB; 0: no spool
        self.snapshot_mib = snapshot_mib      # room for before-images; 0: no bound
        self.segment_mib, self.ring_slots = segment_mib, ring_slots
        self.group_lines = group_lines  # more of group.conf
        self.max_mib = max_mib  # every volume may grow to so much; 0: none
        self.wire = None
        self.volumes = [('data', data_mib * MIB), ('wal', wal_mib * MIB)]
        self.journal_mib, self.ring_payload_mib = journal_mib, ring_payload_mib
        self.assume_equal = assume_equal
        self.ring = f'/dev/shm/hikae-e2e-{self.tag}.ring'
        self.tokyo = Site('tokyo', f'hke{self.tag}a', '10.78.0.1', self.work)
        self.osaka = Site('osaka', f'hke{self.tag}b', '10.78.0.2', self.work)
        self.nbd_socket = self.work / 'nbd.sock'
        self.processes = []
        self.replays = 0
        try:
            self._network()
            self._configure()
        except BaseException:
            self.close()
            raise

    # ---- making it ----

    def _network(self):
        """One veth pair; or, with a wire, two pairs and hk-wire between them in a third
        namespace.
        """
        ends = {self.tokyo: f'hk{self.tag}a', self.osaka: f'hk{self.tag}b'}
        run('ip', 'netns', 'add', self.tokyo.ns)
        run('ip', 'netns', 'add', self.osaka.ns)
        if self.wire_options is None:
            a, b = ends.values()
            run('ip', 'link', 'add', a, 'netns', self.tokyo.ns, 'type', 'veth', 'peer', 'name', b,
                'netns', self.osaka.ns)
        else:
            run('ip', 'netns', 'add', self.wire_ns)
        for site, name in ends.items():
            if self.wire_options is not None:
                run('ip', 'link', 'add', name, 'netns', site.ns, 'type', 'veth', 'peer', 'name',
                    site.name, 'netns', self.wire_ns)
                run('ip', '-n', self.wire_ns, 'link', 'set', site.name, 'up')
            run('ip', '-n', site.ns, 'link', 'set', name, 'name', 'wan0')
            run('ip', '-n', site.ns, 'addr', 'add', f'{site.address}/24', 'dev', 'wan0')
            run('ip', '-n', site.ns, 'link', 'set', 'wan0', 'up')
            run('ip', '-n', site.ns, 'link', 'set', 'lo', 'up')
        if self.wire_options is not None:
            options = [o for k, v in self.wire_options.items() for o in (f'--{k}', str(v))]
            self.wire = Process('wire', ['ip', 'netns', 'exec', self.wire_ns, tool('hk-wire'),
                                         '--between', 'tokyo,osaka', *options],
                                self.work / 'wire.log')
            self.processes.append(self.wire)
            self.wire.start()
            wait_until('hk-wire', lambda: 'ready' in self.wire.tail(), 5)

    def path_address(self, site):
        # A DPDK port has an address of its own, or the kernel would answer for it as well.
        last = int(site.address.rsplit('.', 1)[1]) + (10 if self.backend == 'dpdk' else 0)
        return f'10.78.0.{last}:7701'

    def _configure(self):
        most = f' max-size = {self.max_mib * MIB}L;' if self.max_mib else ''
        volumes = ', '.join(f'{{ name = "{n}"; size = {s}L;{most} }}' for n, s in self.volumes)
        sites = ',\n'.join(
            f'{{ name = "{s.name}"; site-id = "{uuid.uuid4()}"; control = "{s.address}:7700"; '
            f'paths = ( "{self.path_address(s)}" ); }}' for s in (self.tokyo, self.osaka))
        self.group_conf = self.work / 'group.conf'
        self.group_conf.write_text(
            f'name = "core";\ngroup-id = "{uuid.uuid4()}";\nmode = "{self.mode}";\n'
            f'on-link-loss = "{self.policy}";\ncontact-timeout-ms = {self.contact_timeout_ms};\n'
            f'{self._region_line()}{self.group_lines}lab-unencrypted = true;\n'
            f'volumes = ( {volumes} );\nsites = (\n{sites}\n);\n')
        self._site_conf(self.tokyo, 'primary')
        self._site_conf(self.osaka, 'standby')
        for site in (self.tokyo, self.osaka):
            for name, size in self.volumes:
                with open(site.dir / f'{name}.img', 'wb') as f:
                    f.truncate(size)
        (self.osaka.dir / 'journal').mkdir()
        (self.tokyo.dir / 'spool').mkdir()

    def _region_line(self):
        return '' if self.region_bytes is None else f'region-bytes = {self.region_bytes}L;\n'

    def _site_conf(self, site, role):
        def paths(key):
            rows = ', '.join(f'{{ volume = "{n}"; path = "{site.dir}/{n}.img"; }}'
                             for n, _ in self.volumes)
            return f'{key} = ( {rows} );'

        text = (f'site = "{site.name}";\nrole = "{role}";\n'
                f'socket = "{self.work}/{site.name}.sock";\n'
                f'state-dir = "{site.dir}";\n')
        if role == 'primary':
            text += (f'capture = {{ socket = "{self.work}/{site.name}.cap"; ring = "{self.ring}"; '
                     f'ring-slots = {self.ring_slots}; '
                     f'ring-payload = {self.ring_payload_mib * MIB}L; '
                     f'metadata = "{site.dir}/core.md"; {paths("origins")} }};\n')
            if self.spool_segments:
                text += (f'spool = {{ directory = "{site.dir}/spool"; segment-mib = 8; '
                         f'segments = {self.spool_segments}; }};\n')
        else:
            text += (f'standby = {{ metadata = "{site.dir}/core.md"; '
                     f'primary-metadata = "{site.dir}/core-primary.md"; '
                     f'journal = "{site.dir}/journal"; journal-mib = {self.journal_mib}; '
                     f'segment-mib = {self.segment_mib}; window-mib = 32; '
                     f'apply-mib = 16; '
                     f'snapshot-mib = {self.snapshot_mib}; '
                     f'{paths("replicas")} }};\n')
        impair = ''
        if self.impair:
            rows = ' '.join(f'{k} = {v};' for k, v in self.impair.items())
            impair = f' impair = {{ {rows} }};'
        text += (f'link = {{ backend = "{self.backend}"; interfaces = ( "wan0" ); mtu = 1500;'
                 f'{impair} }};\n')
        site.conf.write_text(text)

    def _process(self, site, name, *argv):
        p = Process(name, ['ip', 'netns', 'exec', site.ns, *argv], self.work / f'{name}.log')
        self.processes.append(p)
        return p

    def create(self, assume_equal=None):
        assume_equal = self.assume_equal if assume_equal is None else assume_equal
        for site in (self.tokyo, self.osaka):
            self.hikae(site, 'check-config')
            self.hikae(site, 'create-md', *(['--assume-equal'] if assume_equal else []))
        self.plugin = self._process(self.tokyo, 'nbdkit', 'nbdkit', '-f', '-U', self.nbd_socket,
                                    '-t', '24', tool('nbdkit-hikae-plugin.so'),
                                    f'group={self.group_conf}', f'site={self.tokyo.conf}')

    def start_plugin(self):
        self.nbd_socket.unlink(missing_ok=True)
        self.plugin.start()
        wait_until('the NBD server', lambda: self._nbd_answers(), 30)

    def _nbd_answers(self):
        assert not self.plugin.died(), f'nbdkit ended: {self.plugin.tail(8)}'
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(1)
            s.connect(str(self.nbd_socket))
            return s.recv(8) == b'NBDMAGIC'

    def start(self, wait=True, create=True, plugin=True):
        if create:
            self.create()
        hikaed = tool('hikaed')
        self.standby = self._process(self.osaka, 'osaka', hikaed, '-g', self.group_conf, '-s',
                                     self.osaka.conf)
        self.primary = self._process(self.tokyo, 'tokyo', hikaed, '-g', self.group_conf, '-s',
                                     self.tokyo.conf)
        self.standby.start()
        if plugin:
            self.start_plugin()
        self.primary.start()
        if wait:
            self.wait_healthy()
        return self

    # ---- asking ----

    def hikae(self, site, verb, *argv, timeout=60, check=True):
        return run(tool('hikae'), verb, '--group', self.group_conf, '--site', site.conf, *argv,
                   timeout=timeout, check=check)

    def hikae_again(self, site, verb, *argv, timeout=30):
        """A verb to a daemon that has only just been started."""
        return wait_until(f'{verb} at {site.name}',
                          lambda: self.hikae(site, verb, *argv, timeout=10), timeout)

    def status(self, site):
        # Exit 2 tells that there are alarms; the answer is as good.
        r = self.hikae(site, 'status', '--json', check=False, timeout=10)
        assert r.returncode in (0, 2), f'status of {site.name}: exit {r.returncode}: {r.stdout}'
        return json.loads(r.stdout[r.stdout.index('{'):])

    def events(self, site):
        r = self.hikae(site, 'events', '--json', check=False)
        return r.stdout

    def wait_status(self, site, timeout=30, **want):
        def matches():
            s = self.status(site)
            wrong = {k: s.get(k) for k, v in want.items() if s.get(k) != v}
            assert not wrong, f'{site.name}: {wrong}, expected {want}; cause {s.get("cause")}'
            return s
        return wait_until(f'{site.name}: {want}', matches, timeout)

    def wait_healthy(self, timeout=40):
        """Replicating; in sync where the mode can be.

        The standby is asked as well: a primary may go on with a dead session until the contact
        timeout, and would look healthy beside a standby that has only just been started again.
        """
        self.wait_status(self.osaka, timeout, session='up', contact=True)
        if self.mode == 'sync':
            return self.wait_status(self.tokyo, timeout, in_sync=True)
        return self.wait_status(self.tokyo, timeout, state='replicating', session='up',
                                contact=True)

    def wait_caught_up(self, timeout=30):
        """Nothing produced that is not applied; only meaningful when nobody writes."""
        def caught_up():
            p, s = self.status(self.tokyo), self.status(self.osaka)
            assert s['applied'] == p['produced'] == s['durable'], \
                f'produced {p["produced"]}, durable {s["durable"]}, applied {s["applied"]}'
            return s
        return wait_until('the standby catching up', caught_up, timeout)

    def degraded(self):
        """What the primary's metadata holds durably; it says so before the first acknowledgement
        that the standby has no part in."""
        r = self.hikae(self.tokyo, 'dump', '--json', f'{self.tokyo.dir}/core.md', check=False)
        assert r.returncode == 0, f'dump: exit {r.returncode}: {r.stdout}'
        return 'degraded' in json.loads(r.stdout[r.stdout.index('{'):])['super']['flags']

    # ---- doing harm ----

    def kill_site(self):
        """Everything at the primary at once, as far as a machine can."""
        for p in (self.plugin, self.primary):
            p.send(signal.SIGKILL)
        for p in (self.plugin, self.primary):
            p.kill()

    def cut(self):
        run('ip', '-n', self.osaka.ns, 'link', 'set', 'wan0', 'down')

    def heal(self):
        run('ip', '-n', self.osaka.ns, 'link', 'set', 'wan0', 'up')

    def black_hole(self):
        """Nothing arrives, but nobody is told: frames go to an address that nobody has."""
        for s, peer in ((self.tokyo, self.osaka), (self.osaka, self.tokyo)):
            run('ip', '-n', s.ns, 'neigh', 'replace', peer.address, 'lladdr', '02:00:00:00:00:77',
                'dev', 'wan0', 'nud', 'permanent')

    def black_hole_end(self):
        for s, peer in ((self.tokyo, self.osaka), (self.osaka, self.tokyo)):
            run('ip', '-n', s.ns, 'neigh', 'del', peer.address, 'dev', 'wan0')

    # ---- judging ----

    def uris(self):
        return [f'nbd+unix:///{n}?socket={self.nbd_socket}' for n, _ in self.volumes]

    def images(self, site):
        return [site.dir / f'{n}.img' for n, _ in self.volumes]

    def replay(self, to='--to-end', compare=None, name=None):
        """Images of the standby's journal, built by the independent reader."""
        self.replays += 1
        out = self.work / f'replay-{name or self.replays}'
        out.mkdir()
        argv = [tool('hk-replay'), '--journal', self.osaka.dir / 'journal', *to.split()]
        files = []
        for i, (n, size) in enumerate(self.volumes):
            files.append(out / f'{n}.img')
            argv += ['--volume', f'{i}={size}:{files[i]}']
            if compare:
                argv += ['--compare', f'{i}={compare[i]}']
        r = run(*argv, timeout=120)
        return files, r.stdout

    def live_replay(self):
        """The same while the standby lives: up to what it calls durable now."""
        durable = self.status(self.osaka)['durable']
        return self.replay(f'--to-lsn {durable}')

    def close(self):
        for p in getattr(self, 'processes', []):
            try:
                p.kill()
            except (AssertionError, OSError):
                pass
        for ns in (self.tokyo.ns, self.osaka.ns, self.wire_ns):
            run('ip', 'netns', 'del', ns, check=False)
        pathlib.Path(self.ring).unlink(missing_ok=True)

    def logs(self):
        """What a person wants to see first when a test has failed."""
        out = []
        for p in self.processes:
            state = 'running' if p.running() else f'ended: {p.child.poll() if p.child else None}'
            out.append(f'--- {p.name} ({state}), {p.log}\n{p.tail()}')
        for site in (self.tokyo, self.osaka):
            try:
                out.append(f'--- status of {site.name}\n'
                           f'{self.hikae(site, "status", check=False).stdout}')
                out.append(f'--- events of {site.name}\n{self.events(site)[-3000:]}')
            except (OSError, subprocess.SubprocessError, AssertionError) as e:
                out.append(f'--- status of {site.name}: {e}')
        return '\n'.join(out)

    def assert_nobody_died(self):
        """Nothing may have ended that nobody killed."""
        for p in self.processes:
            if p.child is not None and p.child.poll() is not None and p.child.returncode not in (
                    0, -signal.SIGKILL, -signal.SIGTERM):
                raise AssertionError(f'{p.name} ended by itself with {p.child.returncode}:\n'
                                     f'{p.tail()}')


class Stamper:
    """hk-stamp in the background, told by its control FIFO."""

    def __init__(self, work, uris, *options, name='stamp', depth=16, reconnect=30, seconds=600,
                 block_max=16384, rate=300, seed=1):
        self.work = pathlib.Path(work)
        self.log = self.work / f'{name}.log'
        self.fifo = self.work / f'{name}.fifo'
        os.mkfifo(self.fifo)
        self.lines = []
        self.arrived = threading.Condition()
        self.child = subprocess.Popen(
            [tool('hk-stamp'), '--log', str(self.log), '--control', str(self.fifo), '--depth',
             str(depth), '--reconnect', str(reconnect), '--seconds', str(seconds), '--block-max',
             str(block_max), '--rate', str(rate), '--seed', str(seed), *options, *uris],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=die_with_parent)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._wait_line(r'seed \d+', 0)
        self.control = os.open(self.fifo, os.O_WRONLY)

    def _read(self):
        for line in self.child.stdout:
            with self.arrived:
                self.lines.append(line.rstrip('\n'))
                self.arrived.notify_all()
        with self.arrived:
            self.arrived.notify_all()

    def _wait_line(self, pattern, since, timeout=20):
        end = time.monotonic() + timeout
        with self.arrived:
            while True:
                for line in self.lines[since:]:
                    m = re.match(pattern, line)
                    if m:
                        return m
                left = end - time.monotonic()
                if left <= 0 or (self.child.poll() is not None and not self.reader.is_alive()):
                    raise AssertionError(f'hk-stamp did not say "{pattern}": {self.lines[-10:]}')
                self.arrived.wait(min(left, 0.2))

    def command(self, text, answer):
        since = len(self.lines)
        os.write(self.control, (text + '\n').encode())
        return self._wait_line(answer, since)

    def note(self, name):
        """Marks a moment in the client's record; returns how many operations were in flight."""
        return int(self.command(f'note {name}', rf'noted {re.escape(name)} in_flight (\d+)')[1])

    def rate(self, per_second):
        self.command(f'rate {per_second}', r'rate \d+')

    def disconnects(self):
        return [int(m[1]) for m in (re.match(r'disconnect volume \d+ in_flight (\d+)', line)
                                    for line in list(self.lines)) if m]

    def events(self):
        return (self.log.stat().st_size - 4096) // 48

    def wait_progress(self, events=64, timeout=30):
        """The client gets answers (again)."""
        n = self.events()
        wait_until('progress of the client', lambda: self.events() > n + events, timeout)

    def stop(self, timeout=30):
        """Ends in order: answers are waited for. Returns the summary as a dict."""
        if self.child.poll() is None:
            os.write(self.control, b'stop\n')
        return self.wait(timeout)

    def wait(self, timeout=30):
        try:
            code = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f'hk-stamp did not end: {self.lines[-5:]}')
        self.reader.join(5)
        words = ' '.join(self.lines[-2:]).split()
        summary = {k: float(v) for k, v in zip(words[::2], words[1::2])}
        summary['exit'] = code
        return summary

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        if hasattr(self, 'control'):
            os.close(self.control)
            del self.control

    def copy(self, name):
        """The record as it is now, for judging while the client goes on."""
        to = self.work / name
        shutil.copyfile(self.log, to)
        return to


def judge(log, images, *options, expect=0):
    """hk-check; returns what it printed, fails with all of it on another verdict."""
    r = run(tool('hk-check'), '--log', log, *options, *images, check=False, timeout=300)
    assert r.returncode == expect, f'hk-check: exit {r.returncode}, expected {expect}\n{r.stdout}'
    return r.stdout


def figure(output, pattern):
    return int(re.search(pattern, output)[1])
