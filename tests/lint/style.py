# SPDX-License-Identifier: Apache-2.0
"""Sizes, layout, licences, scripts, and words that must not be there."""
import os
import re
import shutil
import subprocess

from tree import C_FILES, TOP, Skip, columns, is_code, is_script, is_shell

LINES_MAX = 800
COLUMNS_MAX = 100
FORMAT_FILES_AT_ONCE = 50

DUAL = ('proto/', 'driver-glue/uapi/', 'driver-glue/capture/')
KERNEL_ONLY = 'driver-glue/kmod/'
# Lie in a dual folder, but are for user space alone.
USER_SPACE = {'proto/assert_abort.c'}

# Pieced together, so that this file does not break its own rule.
WORDS = [
    (r'/wo' r'rk/', 'a path of one machine'),
    (r'/ro' r'ot/', 'a path of one machine'),
    (r'\.\./sha' r'red', 'a path outside the repository'),
    (r'\b(prot' r'ocol|des' r'ign|conv' r'entions|oper' r'ations|fig' r'ures|'
     r'requ' r'irements)\.md\b', 'not in the repository: cite proto/SPEC.md or ARCHITECTURE.md'),
    (r'\b(Cla' r'ude|Anth' r'ropic|Open' r'AI|Co' r'pilot|L' r'LM|AI ag' r'ent|sub-?ag' r'ent)s?\b',
     'the repository speaks of Hikae alone'),
]


def check_sizes(tree):
    for path, text in sorted(tree.items()):
        if not is_code(path, text):
            continue
        lines = text.split('\n')
        if len(lines) - 1 > LINES_MAX:
            yield f'{path}: {len(lines) - 1} lines, at most {LINES_MAX}'
        for number, line in enumerate(lines, 1):
            if columns(line) > COLUMNS_MAX:
                yield f'{path}:{number}: {columns(line)} columns, at most {COLUMNS_MAX}'


def check_whitespace(tree):
    for path, text in sorted(tree.items()):
        if not is_code(path, text):
            continue
        if text and not text.endswith('\n'):
            yield f'{path}: the last line has no end'
        for number, line in enumerate(text.split('\n'), 1):
            if line != line.rstrip():
                yield f'{path}:{number}: blanks at the end of the line'
            if '\t' in line:
                yield f'{path}:{number}: a tab'


def check_format(tree, top=TOP):
    if not shutil.which('clang-format'):
        raise Skip('clang-format is not installed')
    paths = sorted(p for p in tree if p.endswith(C_FILES))
    for i in range(0, len(paths), FORMAT_FILES_AT_ONCE):
        done = subprocess.run(['clang-format', '--dry-run', '-Werror', '--style=file']
                              + paths[i:i + FORMAT_FILES_AT_ONCE], cwd=top, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        places = re.findall(r'^(\S+?):(\d+):\d+: error', done.stderr, re.M)
        for path in sorted({p for p, _ in places}):
            lines = [n for p, n in places if p == path]
            yield f'{path}:{lines[0]}: not as .clang-format has it ({len(lines)} places)'
        if done.returncode and not places:
            yield 'clang-format: ' + done.stderr.strip()[:300]


def licence_of(path):
    if path.startswith(KERNEL_ONLY):
        return 'GPL-2.0-only'
    if path.startswith(DUAL) and path.endswith(C_FILES) and path not in USER_SPACE:
        return 'Apache-2.0 OR GPL-2.0-only'
    return 'Apache-2.0'


def check_licences(tree):
    for path, text in sorted(tree.items()):
        if path.endswith('.build') or not is_code(path, text):
            continue
        head = text.split('\n', 2)[1 if is_script(text) else 0:][0]
        match = re.search(r'SPDX-License-Identifier: (.+?)(?: \*/)?$', head)
        if not match:
            yield f'{path}: the first line (after #!) names no licence'
        elif match[1] != licence_of(path):
            yield f'{path}: licence {match[1]}, expected {licence_of(path)}'
    for name in ('LICENSE', 'LICENSES/Apache-2.0.txt', 'LICENSES/GPL-2.0-only.txt'):
        if name not in tree:
            yield f'{name} is missing'


def check_scripts(tree, top=TOP):
    for path, text in sorted(tree.items()):
        if path.endswith('.py') or re.match(r'#!.*python3', text):
            try:
                compile(text, path, 'exec')
            except SyntaxError as e:
                yield f'{path}:{e.lineno}: {e.msg}'
        elif is_shell(path, text):
            done = subprocess.run(['bash', '-n'], input=text, text=True, capture_output=True,
                                  timeout=10, check=False)
            if done.returncode:
                yield f'{path}: {done.stderr.strip()}'
            if not text.startswith('#!'):
                yield f'{path}: a shell script begins with #!'
            elif not os.access(os.path.join(top, path), os.X_OK):
                yield f'{path}: not executable'


def check_words(tree):
    for path, text in sorted(tree.items()):
        if path.startswith('LICENSES/'):
            continue
        for number, line in enumerate(text.split('\n'), 1):
            for pattern, why in WORDS:
                match = re.search(pattern, line)
                if match:
                    yield f'{path}:{number}: "{match[0]}": {why}'


TABLES = {
    'tests/seeds/LEDGER.tsv': 'commit kind target runs events violations minutes'.split(),
    'perf/BASELINE.tsv': ('commit bench case value unit ref_name ref_value ratio spread runs '
                          'cpu').split(),
}
KINDS = {'sim', 'fuzz', 'crash', 'model', 'vm', 'mutant', 'e2e'}


def check_tables(tree):
    for path, header in TABLES.items():
        if path not in tree:
            yield f'{path} is missing'
            continue
        rows = [line.split('\t') for line in tree[path].rstrip('\n').split('\n')]
        if rows[0] != header:
            yield f'{path}:1: the header is not {" ".join(header)}'
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(header):
                yield f'{path}:{number}: {len(row)} fields, expected {len(header)}'
            elif header[1] == 'kind' and row[1] not in KINDS:
                yield f'{path}:{number}: kind {row[1]}'
