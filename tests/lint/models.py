# SPDX-License-Identifier: Apache-2.0
"""The models of tests/model and the code that they are about name one another.

A transition of a model is labelled in capitals; what the world does to it (faults, time, readers)
is labelled env_…. Code says `model: FILE.pml, LABEL, LABEL; FILE.pml, LABEL` in a comment.
"""
import re

MODELS = 'tests/model/'
CODE = ('driver-glue/capture/', 'replicator/core/', 'replicator/store/', 'replicator/group/')
COMMENT = re.compile(r'/\*.*?\*/', re.S)
LABEL = re.compile(r'(?:^[ \t]*|-> )([A-Za-z_]\w*):(?![:=])', re.M)
NAMED = re.compile(r'/\*\s*model:(.*?)\*/', re.S)


def labels(text):
    return LABEL.findall(COMMENT.sub('', text))


def named(tree):
    """[(path, line, model, label)] of every comment; label None: the comment can't be read."""
    found = []
    for path, text in sorted(tree.items()):
        if not path.startswith(CODE) or not path.endswith(('.c', '.h')):
            continue
        for match in NAMED.finditer(text):
            line = text.count('\n', 0, match.start()) + 1
            words = re.sub(r'\n\s*\*', ' ', match[1])
            for group in words.split(';'):
                model, *names = [w.strip() for w in group.split(',')]
                if not re.fullmatch(r'\w+\.pml', model) or not names:
                    found.append((path, line, model, None))
                found += [(path, line, model, name) for name in names]
    return found


def check_models(tree):
    models = {path[len(MODELS):]: labels(text) for path, text in sorted(tree.items())
              if path.startswith(MODELS) and path.endswith('.pml')}
    used = set()
    for path, line, model, label in named(tree):
        used.add((model, label))
        if label is None:
            yield f'{path}:{line}: not "model: FILE.pml, LABEL": "{model}"'
        elif label not in models.get(model, []):
            yield f'{path}:{line}: {MODELS}{model} has no transition {label}'
    for model, found in models.items():
        for label in sorted(set(found)):
            if label == 'end' or label.startswith('env_'):
                continue
            if not re.fullmatch(r'[A-Z][A-Z0-9_]*', label):
                yield f'{MODELS}{model}: label {label}: in capitals, or env_… for the world'
            elif (model, label) not in used:
                yield f'{MODELS}{model}: no code names the transition {label}'
