# SPDX-License-Identifier: Apache-2.0
"""The repository's files as the checks see them, and what all checks share.

A Tree is a mapping from path to text, so that the self-test can hand a check a doctored one.
"""
import os
import re
import subprocess
import unicodedata

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
C_FILES = ('.c', '.h')
CODE_FILES = ('.c', '.h', '.def', '.py', '.sh', '.build', '.proto', '.pml')


class Skip(Exception):
    """A check that cannot be made, with the reason; it is counted and printed, never passed."""


def list_files():
    """What is in git or could be added to it; without git, everything but build directories."""
    done = subprocess.run(['git', '-c', 'safe.directory=' + TOP, 'ls-files', '-z', '--cached',
                           '--others', '--exclude-standard'], cwd=TOP, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60, check=False)
    if done.returncode == 0:
        paths = done.stdout.decode().split('\0')
    else:
        paths = []
        for root, dirs, names in os.walk(TOP):
            dirs[:] = [d for d in dirs if d not in ('.git', '__pycache__', '.pytest_cache')
                       and not (root == TOP and d.startswith('build'))]
            paths += [os.path.relpath(os.path.join(root, n), TOP) for n in names]
    return sorted(p for p in set(paths) if p and os.path.isfile(os.path.join(TOP, p)))


def load():
    tree = {}
    for path in list_files():
        with open(os.path.join(TOP, path), 'rb') as f:
            data = f.read()
        if b'\0' not in data:  # golden vectors and corpora are bytes, not text
            tree[path] = data.decode(errors='replace')
    return tree


def is_script(text):
    return re.match(r'#!.*\b(bash|sh|python3)\b', text) is not None


def is_shell(path, text):
    return path.endswith('.sh') or re.match(r'#!.*\b(bash|sh)\b', text) is not None


def is_code(path, text):
    return path.endswith(CODE_FILES) or is_script(text)


def columns(line):
    return sum(2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in line.expandtabs(8)
               if not unicodedata.combining(c))


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def strip_c(text, keep_strings=False):
    """C without comments (and strings), with the same line numbers."""
    def blank(match):
        s = match[0]
        if s[0] in '"\'':
            return s if keep_strings else s[0] * 2
        return ' ' + '\n' * s.count('\n')
    return TOKEN.sub(blank, text)


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def includes(text):
    """[(line, whether it is <system>, name)], without those in comments."""
    found = []
    code = strip_c(text, keep_strings=True)
    for match in INCLUDE.finditer(code):
        line = code.count('\n', 0, match.start()) + 1
        found.append((line, match[1] == '<', match[2]))
    return found
