#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what `hikae VERB --help` really prints against the manual page of the verb; TAP.

Lint compares the pages with the table in the source; this runs the program, so a table that is not
what is printed is found too. Usage: help.py HIKAE FOLDER-OF-PAGES
"""
import os
import re
import subprocess
import sys


def ask(*argv):
    return subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=20).stdout


def main(hikae, folder):
    verbs = re.findall(r'^  ([a-z-]+) ', ask(hikae, '--help'), re.M)
    print(f'1..{len(verbs) + 1}')
    print(f'{"ok" if verbs else "not ok"} 1 - verbs are listed')
    bad = not verbs
    for number, verb in enumerate(verbs, 2):
        printed = ask(hikae, verb, '--help')
        options = set(re.findall(r'^  --([a-z-]+)(?:=(\S+))?', printed, re.M))
        page = ''
        path = os.path.join(folder, f'hikae-{verb}.8.scd')
        if os.path.exists(path):
            with open(path, encoding='utf-8') as f:
                page = f.read()
        shown = set(re.findall(r'^\*--([a-z-]+)\*(?:=_(\w+)_)?', page, re.M))
        wrong = sorted(options ^ shown)
        fine = options and not wrong
        bad = bad or not fine
        print(f'{"ok" if fine else "not ok"} {number} - {verb}')
        for name, value in wrong:
            where = 'printed, not in the page' if (name, value) in options else 'only in the page'
            print(f'# --{name}{"=" + value if value else ""}: {where}')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
