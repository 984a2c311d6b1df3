#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The demo with both daemons under ThreadSanitizer (HK_HIKAED): reactor and control thread with all
# they say to each other. Everything else is the ordinary build. A report of a race is a failure.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
logs=$(mktemp -d "${TMPDIR:-/var/tmp}/hikae-races.XXXXXX")
trap 'rm -rf "$logs"' EXIT
if [ ! -x "$top/build/ctl/hikae" ]; then
    echo "the ordinary build is not there (./dev build)"
    exit 77
fi
TSAN_OPTIONS="log_path=$logs/report" HK_DEMO_BACKEND=udp HK_DEMO_SECONDS=6 \
    HK_BUILD="$top/build" "$top/tests/demo/demo.sh" || exit 1
if [ -n "$(ls "$logs")" ]; then
    cat "$logs"/report*
    exit 1
fi
echo "no race reported"
