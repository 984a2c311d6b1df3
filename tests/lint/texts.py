# SPDX-License-Identifier: Apache-2.0
"""The message table against the code, and the table of verbs against the manual pages."""
import re
import shutil
import subprocess

from tree import Skip, strip_c

ID = r'HKE\d{4}[IWE]'
FIELDS = 9  # id, four in English, four in Japanese
CODE = ('replicator/', 'driver-glue/', 'ctl/', 'proto/')
TABLE = 'replicator/messages/'


def split_fields(body):
    """The arguments of one HK_MSG(…): a list of (is_string, value)."""
    fields, current, text = [], [], False
    for piece in re.findall(r'"(?:\\.|[^"\\])*"|,|[^",]+', body, re.S):
        if piece == ',':
            fields.append((text, ''.join(current).strip()))
            current, text = [], False
        elif piece[0] == '"':
            text = True
            current.append(piece[1:-1])
        elif piece.strip():
            current.append(piece.strip())
    fields.append((text, ''.join(current).strip()))
    return fields


def messages(tree):
    """[(path, line, fields)] of every HK_MSG in a .def file."""
    found = []
    for path, text in sorted(tree.items()):
        if path.startswith(TABLE) and path.endswith('.def'):
            code = strip_c(text, keep_strings=True)
            for match in re.finditer(r'^HK_MSG\(((?:"(?:\\.|[^"\\])*"|[^")])*)\)', code, re.M):
                line = code.count('\n', 0, match.start()) + 1
                found.append((path, line, split_fields(match[1])))
            if len(re.findall(r'^\s*HK_MSG\b', code, re.M)) != \
               len([f for f in found if f[0] == path]):
                found.append((path, 0, []))  # one that the pattern above cannot read
    return found


def check_message_table(tree):
    seen = {}
    table = messages(tree)
    if not table:
        yield f'{TABLE}: there is no message'
    for path, line, fields in table:
        if not fields:
            yield f'{path}: an HK_MSG cannot be read'
            continue
        name = fields[0][1]
        where = f'{path}:{line}: {name}'
        if not re.fullmatch(ID, name):
            yield f'{where}: no message id'
            continue
        if name[:7] in seen:
            yield f'{where}: the number is taken by {seen[name[:7]]}'
        seen[name[:7]] = f'{path}:{line}'
        if len(fields) != FIELDS:
            yield f'{where}: {len(fields)} fields, expected {FIELDS}'
        for number, (is_text, value) in enumerate(fields[1:], 1):
            if not is_text or not value:
                yield f'{where}: field {number} is empty or no text'


def used_ids(tree):
    """id: first place where product code says it. Comments do not count."""
    used = {}
    for path, text in sorted(tree.items()):
        if path.startswith(CODE) and path.endswith(('.c', '.h')) and not path.startswith(TABLE):
            code = strip_c(text, keep_strings=True)
            for match in re.finditer(ID, code):
                used.setdefault(match[0], f'{path}:{code.count(chr(10), 0, match.start()) + 1}')
    return used


def known_ids(tree):
    return {fields[0][1]: f'{path}:{line}' for path, line, fields in messages(tree) if fields}


def check_messages_known(tree):
    known = known_ids(tree)
    for name, place in sorted(used_ids(tree).items()):
        if name not in known:
            yield f'{place}: {name} is not in the message table'


def check_messages_used(tree):
    used = used_ids(tree)
    for name, place in sorted(known_ids(tree).items()):
        if name not in used:
            yield f'{place}: {name} is said nowhere'


def check_manual_pages(tree):
    """Every manual page can be made."""
    if not shutil.which('scdoc'):
        raise Skip('scdoc is not installed')
    pages = [p for p in sorted(tree) if p.endswith('.scd')]
    if not pages:
        raise Skip('there is no manual page yet')
    for path in pages:
        done = subprocess.run(['scdoc'], input=tree[path], text=True, capture_output=True,
                              timeout=10, check=False)
        if done.returncode:
            yield f'{path}: {done.stderr.strip()}'


VERB = re.compile(r'\{"([a-z-]+)",\s*"([^"]*)",\s*\d+,\s*\d+,\s*([A-Z0-9_|\s]+?),\s*"')
OPTION = re.compile(r'\{\s*(0|HK_OPT_\w+),\s*\{"([a-z-]+)",\s*(required|no)_argument')


def verb_table(tree):
    """(verbs {name: set of bits}, options [(bit, name, takes a value)]) from ctl/main.c."""
    code = strip_c(tree.get('ctl/main.c', ''), keep_strings=True)
    verbs = {m[1]: set(re.findall(r'HK_OPT_\w+', m[3])) for m in VERB.finditer(code)}
    options = [(m[1], m[2], m[3] == 'required') for m in OPTION.finditer(code)]
    return verbs, options


def check_verb_pages(tree):
    """--help is printed from the table of verbs, so the pages are held against that."""
    if not any(p.startswith('ctl/') and p.endswith('.c') for p in tree):
        raise Skip('there is no ctl/ yet')
    verbs, options = verb_table(tree)
    if not verbs or not options:
        yield 'ctl/main.c: the tables of verbs and options cannot be read'
        return
    for verb, bits in sorted(verbs.items()):
        path = f'ctl/man/hikae-{verb}.8.scd'
        page = tree.get(path)
        if page is None:
            yield f'{path} is missing'
            continue
        if f'*hikae {verb}*' not in page:
            yield f'{path}: the synopsis does not show *hikae {verb}*'
        expected = {(name, value) for bit, name, value in options if bit == '0' or bit in bits}
        shown = {(m[1], m[2] is not None)
                 for m in re.finditer(r'^\*--([a-z-]+)\*(=_\w+_)?', page, re.M)}
        for name, value in sorted(expected - shown):
            yield f'{path}: --{name}{" with a value" if value else ""} is missing'
        for name, value in sorted(shown - expected):
            yield f'{path}: --{name}{" with a value" if value else ""} is no option of this verb'
    for path in sorted(tree):
        match = re.fullmatch(r'ctl/man/hikae-([a-z-]+)\.8\.scd', path)
        if match and match[1] not in verbs:
            yield f'{path}: there is no verb {match[1]}'
