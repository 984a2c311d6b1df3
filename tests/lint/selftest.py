# SPDX-License-Identifier: Apache-2.0
"""Each check is seen failing: a small tree that is in order, and for every check ways to break it.

CASES: check, what is broken, the file, the text in it (None: the file is removed), and a word that
the complaint has to contain. A check that complains about the sound tree fails here too.
"""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import parts  # noqa: E402
import style  # noqa: E402
import tree as trees  # noqa: E402

APACHE = '/* SPDX-License-Identifier: Apache-2.0 */\n'
DUAL = '/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */\n'
MESSAGE = 'HK_MSG({id},\n       "text {{a}}", "cause", "does", "do",\n       {ja})\n'
JA = '"文 {a}", "因", "動", "応"'

SOUND = {
    'LICENSE': 'text\n',
    'LICENSES/Apache-2.0.txt': 'text\n',
    'LICENSES/GPL-2.0-only.txt': 'text\n',
    'proto/lsn.h': DUAL + '#include <stdint.h>\n',
    'proto/hash.c': DUAL + '#include "proto/lsn.h"\n\n#include <xxhash.h>\n',
    'driver-glue/capture/capture.c': DUAL + '#include "proto/lsn.h"\n',
    'replicator/core/sender.c': APACHE + '#include "proto/lsn.h"\n/* malloc(1), float */\n',
    'replicator/group/group.c': APACHE + '#include "replicator/core/sender.h"\n\n'
                                '/* model: a.pml, STEP_TAKEN, STEP_DONE */\n',
    'tests/model/a.pml': APACHE + 'end:\n    :: d_step { x ->\n    STEP_TAKEN: /* so: */\n'
                         '    :: d_step { x -> STEP_DONE: y }\n    env_crash:\n',
    'replicator/io/link.c': APACHE + '#include <liburing.h>\n#include <rte_ethdev.h>\n',
    'replicator/daemon/main.c': APACHE + 'const char *id = "HKE1001E";\n',
    'replicator/messages/def/config.def': APACHE + MESSAGE.format(id='HKE1001E', ja=JA),
    'tests/run.sh': '#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\ntrue\n',
    'tests/seeds/LEDGER.tsv': '\t'.join(style.TABLES['tests/seeds/LEDGER.tsv']) + '\n',
    'perf/BASELINE.tsv': '\t'.join(style.TABLES['perf/BASELINE.tsv']) + '\n',
    'ctl/main.c': APACHE + '#include "replicator/daemon/rpc/rpc.h"\n\n'
                  'verb v[] = {{"dump", "FILE", 1, 1, HK_OPT_JSON, "show", run}};\n'
                  'opt o[] = {{HK_OPT_JSON, {"json", no_argument, NULL, 1}},\n'
                  '           {HK_OPT_YES, {"yes", no_argument, NULL, 2}},\n'
                  '           {0, {"site", required_argument, NULL, 3}}};\n',
    'ctl/man/hikae-dump.8.scd': 'hikae-dump(8)\n\n# SYNOPSIS\n\n*hikae dump*\n\n# OPTIONS\n\n'
                                '*--json*\n\ttext\n\n*--site*=_FILE_\n\ttext\n',
}


def add(path, text):
    return path, SOUND.get(path, APACHE) + text


def swap(path, old, new):
    assert old in SOUND[path], (path, old)
    return path, SOUND[path].replace(old, new)


CASES = [
    ('models', *add('replicator/group/group.c', '/* model: a.pml, MISSED */\n'), 'MISSED'),
    ('models', *add('replicator/core/sender.c', '/* model: b.pml, STEP_DONE */\n'), 'b.pml'),
    ('models', *add('replicator/core/sender.c', '/* model: STEP_DONE */\n'), 'not "model'),
    ('models', *add('tests/model/a.pml', '    UNNAMED:\n'), 'UNNAMED'),
    ('models', *add('tests/model/a.pml', '    lower:\n'), 'lower'),
    ('models', *swap('replicator/group/group.c', ', STEP_DONE', ''), 'STEP_DONE'),
    ('fences', *add('proto/lsn.h', '#include "replicator/core/sender.h"\n'), 'may not include'),
    ('fences', *add('driver-glue/capture/capture.c', '#include "driver-glue/nbd/x.h"\n'), 'may'),
    ('fences', *add('replicator/core/sender.c', '#include "replicator/store/x.h"\n'), 'may not'),
    ('fences', *add('replicator/store/x.c', '#include "replicator/core/sender.h"\n'), 'may not'),
    ('fences', *add('replicator/group/group.c', '#include "replicator/io/link.h"\n'), 'may not'),
    ('fences', *add('replicator/image/x.c', '#include "replicator/core/sender.h"\n'), 'may not'),
    ('fences', *add('ctl/main.c', '#include "replicator/daemon/node.h"\n'), 'may not include'),
    ('fences', *add('tests/sim/x.c', '#include "replicator/io/link.h"\n'), 'may not include'),
    ('fences', *add('tests/tools/x.c', '#include "proto/lsn.h"\n'), 'may not include'),
    ('fences', *add('replicator/core/x.c', '# include "../store/journal.h"\n'), 'climbs'),
    ('libraries', *add('replicator/daemon/main.c', '#include <liburing.h>\n'), 'belongs to'),
    ('libraries', *add('driver-glue/client/x.c', '#include <rte_mbuf.h>\n'), 'belongs to'),
    ('libraries', *add('replicator/group/group.c', '#include <sys/socket.h>\n'), 'belongs to'),
    ('libraries', *add('replicator/core/sender.c', '#include <sys/mman.h>\n'), 'belongs to'),
    ('libraries', *add('replicator/group/group.c', '#include "control.pb-c.h"\n'), 'belongs to'),
    ('pure', *add('proto/lsn.h', '#include <stdio.h>\n'), 'stdio.h'),
    ('pure', *add('proto/lsn.h', '#include <xxhash.h>\n'), 'xxhash.h'),
    ('pure', *add('replicator/core/sender.c', 'void f(void) { free(p); }\n'), 'free()'),
    ('pure', *add('replicator/store/x.c', 'int f(void) { clock_gettime(0, &t); }\n'), 'clock'),
    ('pure', *add('driver-glue/capture/capture.c', 'static double d;\n'), 'double'),
    ('sizes', *add('replicator/core/sender.c', 'int a;\n' * 800), 'lines'),
    ('sizes', *add('replicator/core/sender.c', '/* ' + 'x' * 98 + ' */\n'), 'columns'),
    ('sizes', *add('replicator/messages/def/config.def', '/* ' + '文' * 49 + ' */\n'), 'columns'),
    ('whitespace', *add('replicator/core/sender.c', 'int a;  \n'), 'blanks'),
    ('whitespace', *add('replicator/core/sender.c', '\tint a;\n'), 'tab'),
    ('whitespace', *add('replicator/core/sender.c', 'int a;'), 'no end'),
    ('format', *add('replicator/core/sender.c', 'int  f( void ){return 0;}\n'), 'sender.c'),
    ('licences', 'replicator/core/sender.c', 'int a;\n', 'names no licence'),
    ('licences', *swap('proto/lsn.h', DUAL, APACHE), 'expected Apache-2.0 OR GPL'),
    ('licences', *swap('replicator/io/link.c', APACHE, DUAL), 'expected Apache-2.0'),
    ('licences', 'driver-glue/kmod/x.c', APACHE, 'expected GPL-2.0-only'),
    ('licences', 'tests/run.sh', '#!/bin/bash\ntrue\n', 'names no licence'),
    ('licences', 'LICENSES/GPL-2.0-only.txt', None, 'missing'),
    ('scripts', *swap('tests/run.sh', 'true', 'if true; then'), 'run.sh'),
    ('scripts', 'tests/x.py', 'def f(:\n', 'x.py'),
    ('words', *add('replicator/core/sender.c', '/* see ../sha' + 'red/x */\n'), 'outside'),
    ('words', *add('tests/run.sh', 'cd /wo' + 'rk/main\n'), 'one machine'),
    ('words', 'README.md', 'as des' + 'ign.md says\n', 'not in the repository'),
    ('tables', 'tests/seeds/LEDGER.tsv', 'commit\tkind\n', 'header'),
    ('tables', *add('tests/seeds/LEDGER.tsv', 'abc\tguess\tt\t1\t1\t0\t1.0\n'), 'kind guess'),
    ('tables', *add('perf/BASELINE.tsv', 'abc\tlink\n'), '2 fields'),
    ('tables', 'perf/BASELINE.tsv', None, 'missing'),
    ('message-table', *add('replicator/messages/def/link.def',
                           MESSAGE.format(id='HKE1001W', ja=JA)), 'taken'),
    ('message-table', *add('replicator/messages/def/link.def',
                           MESSAGE.format(id='HKE2001E', ja='"文", "因", "動"')), '8 fields'),
    ('message-table', *swap('replicator/messages/def/config.def', '"cause"', '""'), 'empty'),
    ('message-table', *swap('replicator/messages/def/config.def', 'HKE1001E', 'HKE10E'),
     'no message id'),
    ('message-table', *swap('replicator/messages/def/config.def', '"応")', '"応'),
     'cannot be read'),
    ('message-table', 'replicator/messages/def/config.def', None, 'no message'),
    ('messages-known', *add('ctl/main.c', 'const char *x = "HKE9999E no";\n'), 'HKE9999E'),
    ('messages-used', *swap('replicator/daemon/main.c', '"HKE1001E"', 'NULL; /* HKE1001E */'),
     'said nowhere'),
    ('manual-pages', 'ctl/man/hikae-dump.8.scd', 'no preamble\n', 'dump'),
    ('verb-pages', 'ctl/man/hikae-dump.8.scd', None, 'missing'),
    ('verb-pages', *swap('ctl/man/hikae-dump.8.scd', '*--json*', '*--yaml*'), '--json is missing'),
    ('verb-pages', *swap('ctl/man/hikae-dump.8.scd', '*--json*', '*--yes*'), '--yes is no option'),
    ('verb-pages', *swap('ctl/man/hikae-dump.8.scd', '=_FILE_', ''), '--site with a value'),
    ('verb-pages', *swap('ctl/main.c', '"dump"', '"drop"'), 'hikae-drop.8.scd is missing'),
    ('verb-pages', *swap('ctl/main.c', '{"dump"', '{dump'), 'cannot be read'),
]

# Checks that look at files of the disk get the doctored tree as a directory.
ON_DISK = {'format': style.check_format, 'scripts': style.check_scripts}


def run(name, check, tree):
    if name not in ON_DISK:
        return list(check(tree))
    with tempfile.TemporaryDirectory() as top:
        for path, text in dict(tree, **{'.clang-format': FORMAT}).items():
            full = os.path.join(top, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, 'w', encoding='utf-8') as f:
                f.write(text)
            os.chmod(full, 0o755)
        return list(ON_DISK[name](tree, top))


with open(os.path.join(trees.TOP, '.clang-format'), encoding='utf-8') as _f:
    FORMAT = _f.read()


# What a test program printed, meson's verdict, and what has to be counted: passed, failed, skipped.
COUNTS = [
    ('1..2\nok 1 - a\nok 2 - b\n', 'OK', (2, 0, 0)),
    ('1..3\nok 1 - a\nnot ok 2 - b\nok 3 - c\n', 'FAIL', (2, 1, 0)),
    ('1..3\nok 1 - a\n', 'FAIL', (1, 2, 0)),  # it crashed in the second
    ('1..2\nok 1 - a\n1..1\nok 1 - b\n', 'OK', (2, 1, 0)),
    ('1..2\nok 1 - a\nnot ok 2 # SKIP b\n', 'OK', (1, 0, 1)),
    ('1..1\nok 1 - a\n', 'FAIL', (1, 1, 0)),  # all cases fine, then a leak
    ('1..1\nnot ok 1 - a\n', 'OK', (0, 1, 0)),
    ('', 'OK', (1, 0, 0)),
    ('', 'TIMEOUT', (0, 1, 0)),
    ('no kernel here', 'SKIP', (0, 0, 1)),
    ('[==========] Running 3 test(s).\n[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\nno disk\n'
     '[  SKIPPED ] b\n[ RUN      ] c\n[  FAILED  ] c\n[==========] 3 test(s) run.\n'
     '[  PASSED  ] 1 test(s).\n[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] b\n',
     'FAIL', (1, 1, 1)),
]


def count_problems():
    for text, verdict, expected in COUNTS:
        r = parts.count_one({'name': 't', 'result': verdict, 'stdout': text, 'returncode': 1})
        if (r.passed, r.failed, r.skipped) != expected:
            yield f'{text!r}, {verdict}: counted {(r.passed, r.failed, r.skipped)}, not {expected}'
        if r.skipped and not [n for n in r.notes if n.startswith('SKIPPED')]:
            yield f'{text!r}: the skip has no reason'


def problems(checks):
    by_name = {name: check for name, _, check in checks}
    for name, check in by_name.items():
        for complaint in run(name, check, SOUND):
            yield f'{name} complains about the sound tree: {complaint}'
        if name not in {case[0] for case in CASES}:
            yield f'{name} has no case here'
    for name, path, text, word in CASES:
        doctored = dict(SOUND)
        if text is None:
            del doctored[path]
        else:
            doctored[path] = text
        found = run(name, by_name[name], doctored)
        if not [line for line in found if word in line]:
            yield f'{name} does not see {path} broken ("{word}"): {found[:2]}'
    yield from count_problems()
