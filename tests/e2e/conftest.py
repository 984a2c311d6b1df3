# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests: a cluster that is always taken down, and its logs on
failure.
"""
import os
import pathlib
import random
import shutil
import signal
import tempfile

import pytest

from harness import QUICK, Cluster, Stamper

# Each of them takes longer than a quick run has.
LONG = ['test_full.py', 'test_freeze_pin.py', 'test_rounds.py', 'test_stalls.py']
collect_ignore = LONG if QUICK else []


def pytest_configure(config):
    # Killed by the runner's budget: still take the namespaces down.
    def on_term(_signum, _frame):
        raise KeyboardInterrupt('terminated')
    signal.signal(signal.SIGTERM, on_term)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, 'report_' + report.when, report)


@pytest.fixture
def work(request):
    """A directory outside of tmpfs, removed unless the test failed."""
    path = pathlib.Path(tempfile.mkdtemp(prefix='hikae-e2e-',
                                         dir=os.environ.get('TMPDIR', '/var/tmp')))
    yield path
    report = getattr(request.node, 'report_call', None)
    if report is not None and report.failed:
        # Images are large and can be rebuilt from the journal; logs and records are kept.
        for image in path.rglob('*.img'):
            image.unlink()
        print(f'files are kept in {path}')
    else:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def rng(request):
    """Random moments from a seed that is printed; HK_SEED repeats a run."""
    seed = int(os.environ.get('HK_SEED', random.SystemRandom().randrange(1 << 32)))
    print(f'HK_SEED={seed}')
    return random.Random(f'{seed}-{request.node.name}')


@pytest.fixture
def cluster_of(request, work):
    """Makes clusters; shows their logs if the test fails; leaves nothing behind."""
    made = []

    def make(**kw):
        directory = work / f'cluster{len(made)}'
        directory.mkdir()
        c = Cluster(directory, **kw)
        made.append(c)
        return c

    yield make
    report = getattr(request.node, 'report_call', None)
    for c in made:
        if report is not None and report.failed:
            print(c.logs())
        c.close()


@pytest.fixture
def stamper_of(work):
    made = []

    def make(uris, *options, **kw):
        directory = work / f'stamper{len(made)}'
        directory.mkdir()
        s = Stamper(directory, uris, *options, **kw)
        made.append(s)
        return s

    yield make
    for s in made:
        s.close()
