#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""noticed.py BUG CASE PROGRAM: a unit test whose product file has a seeded bug compiled in. Passes
only if CASE of it fails: a test that does not notice the bug proves nothing about it."""
import os
import re
import subprocess
import sys

bug, case, program = sys.argv[1:]
done = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=100,
                      stderr=subprocess.STDOUT, text=True, errors='replace', check=False,
                      env=dict(os.environ, HK_CASE=case))
noticed = re.search(rf'^not ok \d+ - {case}\b', done.stdout, re.M) is not None
if not noticed:
    print('\n'.join('# ' + line for line in done.stdout.splitlines()[-20:]))
print('1..1')
print(f'{"ok" if noticed else "not ok"} 1 - {bug} makes {case} fail')
sys.exit(not noticed)
