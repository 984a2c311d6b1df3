# SPDX-License-Identifier: Apache-2.0
"""Who may include what (replicator/ARCHITECTURE.md, "Folders and fences")."""
import posixpath
import re

from tree import C_FILES, includes, strip_c

# folder: the folders whose headers it may include besides its own. The longest match counts.
MAY_INCLUDE = {
    'proto': [],
    'driver-glue/uapi': ['proto'],
    # uapi lays out the ring that the capture core fills: structs, no code.
    'driver-glue/capture': ['driver-glue/uapi', 'proto'],
    'driver-glue/kmod': ['driver-glue/capture', 'driver-glue/uapi', 'proto'],
    'driver-glue/nbd': ['driver-glue/capture', 'driver-glue/uapi', 'proto'],
    'driver-glue/client': ['driver-glue/capture', 'driver-glue/uapi', 'proto'],
    'replicator/core': ['proto'],
    'replicator/store': ['proto'],
    'replicator/group': ['replicator/core', 'replicator/store', 'proto'],
    'replicator/messages': [],
    # io implements the interfaces that core and store name (link, disk).
    'replicator/io': ['replicator/core', 'replicator/store', 'proto'],
    'replicator/image': ['replicator/store', 'proto'],
    'replicator/daemon': ['proto', 'driver-glue', 'replicator'],
    # The command reads the same configuration and speaks the same control dialogue as the daemon;
    # those two parts of daemon/ are libraries of their own. `dump` shows the ring, hence uapi.
    'ctl': ['proto', 'driver-glue/client', 'driver-glue/uapi', 'replicator/messages',
            'replicator/daemon/config', 'replicator/daemon/rpc'],
    # The simulator replaces io, client and kmod, and nothing that decides about data is in daemon/.
    'tests/sim': ['proto', 'driver-glue/uapi', 'driver-glue/capture', 'replicator/core',
                  'replicator/store', 'replicator/group'],
    # The judges must not share an error with the product.
    'tests/tools': [],
}
PRODUCT = ('proto/', 'driver-glue/', 'replicator/', 'ctl/', 'tests/')

PURE = ['proto', 'driver-glue/uapi', 'driver-glue/capture', 'replicator/core', 'replicator/store',
        'replicator/group']
PURE_INCLUDES = {'stdint.h', 'stddef.h', 'stdbool.h', 'string.h', 'errno.h', 'limits.h',
                 'inttypes.h'}
# The hashes are a library's; what an assertion failure does is the environment's (a library apart).
PURE_EXCEPTIONS = {
    'proto/hash.c': {'xxhash.h', 'xxh_x86dispatch.h'},
    'proto/hash.h': {'xxhash.h'},
    'proto/assert_abort.c': {'stdio.h', 'stdlib.h'},
}
PURE_CALLS_ALLOWED = {'proto/assert_abort.c': {'abort', 'fprintf'}}
IMPURE = re.compile(
    r'(?<![\w.>])(malloc|calloc|realloc|free|alloca|mmap|munmap|strdup|asprintf|time|clock|'
    r'clock_gettime|gettimeofday|nanosleep|usleep|sleep|rand|random|getrandom|syscall|ioctl|open|'
    r'openat|close|pread|pwrite|fsync|fdatasync|printf|fprintf|perror|abort|exit|_exit|getenv|'
    r'pthread_\w+)\s*\(')
FLOATING = re.compile(r'\b(float|double)\b')

# library header: the folders that may include it.
CONTROL_SOCKETS = ['replicator/io', 'driver-glue/client', 'replicator/daemon', 'driver-glue/nbd',
                   'ctl']
LIBRARIES = [
    (r'liburing(/.*)?\.h$', ['replicator/io']),
    (r'rte_\w+\.h$', ['replicator/io']),
    (r'linux/(io_uring|if_packet|if_ether|udp|ip)\.h$|netinet/(udp|ip|if_ether)\.h$',
     ['replicator/io']),
    (r'net/.*|netpacket/.*', ['replicator/io']),
    # Sockets of the control plane: operators' and the other site's connections, the capture side's
    # reports. Data frames leave through io alone, which the lines above hold fast.
    (r'sys/(socket|un)\.h$|netinet/(in|tcp)\.h$|arpa/inet\.h$|netdb\.h$', CONTROL_SOCKETS),
    (r'netlink/.*|libnl.*|linux/(rtnetlink|netlink|genetlink)\.h$',
     ['replicator/io', 'driver-glue/client']),
    (r'sys/mman\.h$', ['replicator/io', 'driver-glue/client', 'driver-glue/nbd', 'ctl']),
    (r'openssl/.*', ['replicator/io', 'replicator/image']),
    (r'(zstd|sqlite3|curl/.*|archive)\.?.*h$', ['replicator/image']),
    (r'protobuf-c/.*|.*\.pb-c\.h$', ['replicator/daemon', 'ctl']),
    (r'libconfig\.h$', ['replicator/daemon/config', 'driver-glue/nbd']),
    (r'jansson\.h$', ['replicator/daemon', 'ctl']),
    (r'nbdkit-.*\.h$', ['driver-glue/nbd']),
    (r'libnbd\.h$', ['ctl']),
]


def within(path, folder):
    return path == folder or path.startswith(folder + '/')


def home(path):
    """The fenced folder a file lies in, or None."""
    fenced = [f for f in MAY_INCLUDE if within(path, f)]
    return max(fenced, key=len) if fenced else None


def c_files(tree):
    return [(p, t) for p, t in sorted(tree.items()) if p.endswith(C_FILES) or p.endswith('.def')]


def check_fences(tree):
    for path, text in c_files(tree):
        folder = home(path)
        if folder is None:
            continue
        for line, system, name in includes(text):
            if system:
                continue
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            if name not in tree and beside in tree:
                target = beside
            elif name.endswith('.pb-c.h'):
                continue  # generated; check_libraries says who may
            elif '..' in name.split('/'):
                yield f'{path}:{line}: "{name}" climbs out of its folder; name it from the top'
                continue
            else:
                target = name
            if not target.startswith(PRODUCT):
                yield f'{path}:{line}: "{name}" is no header of this tree'
            elif not any(within(target, f) for f in [folder] + MAY_INCLUDE[folder]):
                yield f'{path}:{line}: {folder} may not include {target}'


def check_libraries(tree):
    for path, text in c_files(tree):
        if not path.startswith(('proto/', 'driver-glue/', 'replicator/', 'ctl/')):
            continue
        for line, _, name in includes(text):
            for pattern, folders in LIBRARIES:
                if re.match(pattern, name) and not any(within(path, f) for f in folders):
                    yield f'{path}:{line}: <{name}> belongs to {", ".join(folders)}'


def check_pure(tree):
    for path, text in c_files(tree):
        if not any(within(path, f) for f in PURE):
            continue
        allowed = PURE_INCLUDES | PURE_EXCEPTIONS.get(path, set())
        for line, system, name in includes(text):
            if system and name not in allowed:
                yield f'{path}:{line}: <{name}> is not for code without I/O, time and memory'
        calls_allowed = PURE_CALLS_ALLOWED.get(path, set())
        for number, line in enumerate(strip_c(text).split('\n'), 1):
            for match in IMPURE.finditer(line):
                if match[1] not in calls_allowed:
                    yield (f'{path}:{number}: {match[1]}() is not for code without I/O, time '
                           'and memory')
            match = FLOATING.search(line)
            if match:
                yield f'{path}:{number}: no {match[1]} here'
