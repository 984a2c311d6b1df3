#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The lint runner: one line a check, what is wrong below it, the counts at the end.

Names given on the command line select checks. Every check has been seen failing: selftest.py hands
each a doctored tree, and runs here as the last check.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import fences  # noqa: E402
import models  # noqa: E402
import selftest  # noqa: E402
import style  # noqa: E402
import texts  # noqa: E402
import tree as trees  # noqa: E402

SHOWN_MAX = 20
CHECKS = [
    ('fences', 'includes stay within the fences', fences.check_fences),
    ('libraries', 'each library has its owner', fences.check_libraries),
    ('pure', 'no I/O, time, memory or floating point in the pure part', fences.check_pure),
    ('sizes', 'files of 800 lines, lines of 100 columns', style.check_sizes),
    ('whitespace', 'no tabs, no blanks at line ends', style.check_whitespace),
    ('format', 'every .c and .h as .clang-format has it', style.check_format),
    ('licences', 'the right SPDX line everywhere', style.check_licences),
    ('scripts', 'shell and python can be parsed', style.check_scripts),
    ('words', 'no word that does not belong here', style.check_words),
    ('tables', 'ledger and baseline have their columns', style.check_tables),
    ('models', 'models and code name one another', models.check_models),
    ('message-table', 'message ids unique, every field there', texts.check_message_table),
    ('messages-known', 'every id in the code is in the table', texts.check_messages_known),
    ('messages-used', 'every id in the table is said somewhere', texts.check_messages_used),
    ('manual-pages', 'every manual page can be made', texts.check_manual_pages),
    ('verb-pages', 'every verb has its page, with its options', texts.check_verb_pages),
]


def main(argv):
    tree = trees.load()
    count = {'passed': 0, 'failed': 0, 'skipped': 0}
    checks = CHECKS + [('selftest', 'each check fails on a doctored tree',
                        lambda _: selftest.problems(CHECKS))]
    unknown = set(argv) - {name for name, _, _ in checks}
    if unknown:
        print(f'no check is called {", ".join(sorted(unknown))}; there are '
              f'{" ".join(name for name, _, _ in checks)}')
        return 2
    for name, what, check in checks:
        if argv and name not in argv:
            continue
        try:
            found = list(check(tree))
        except trees.Skip as e:
            print(f'SKIP {name}: {e}')
            count['skipped'] += 1
            continue
        except Exception as e:  # A check that breaks has not passed, and the others still run.
            found = [f'the check itself broke: {e!r}']
        print(f'{"FAIL" if found else "ok  "} {name}: {what}' +
              (f' ({len(found)} places)' if found else ''))
        for line in found[:SHOWN_MAX]:
            print('     ' + line)
        if len(found) > SHOWN_MAX:
            print(f'     … and {len(found) - SHOWN_MAX} more')
        count['failed' if found else 'passed'] += 1
    print(f'{count["passed"]} passed, {count["failed"]} failed, {count["skipped"]} skipped')
    return 1 if count['failed'] or not count['passed'] else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
