#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The demo with both daemons under ThreadSanitizer (HK_HIKAED): reactor and control thread with all
# they say to each other, and, while traffic runs, verbs from several clients at once at both sites:
# status, events, images, plans, freezes and their ends, clients that hang up in the middle or say
# rubbish. Everything else is the ordinary build. A report of a race is a failure.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
logs=$(mktemp -d "${TMPDIR:-/var/tmp}/hikae-races.XXXXXX")
mkdir "$logs/tsan" "$logs/site"
trap 'rm -rf "$logs"' EXIT
if [ ! -x "$top/build/ctl/hikae" ]; then
    echo "the ordinary build is not there (./dev build)"
    exit 77
fi
hikae=$top/build/ctl/hikae

TSAN_OPTIONS="log_path=$logs/tsan/report" HK_DEMO_BACKEND=udp HK_DEMO_SECONDS=6 \
    TMPDIR="$logs/site" HK_BUILD="$top/build" "$top/tests/demo/demo.sh" >"$logs/demo.out" 2>&1 &
demo=$!

reached() { grep -q "$1" "$logs/demo.out"; }
verb() { # verb SITE VERB...: counted if the daemon answered
    local site=$1 name=$2
    shift 2
    timeout 10 "$hikae" "$name" --group "$dir/group.conf" --site "$dir/$site.conf" "$@" \
        >/dev/null 2>&1
    [ $? -lt 124 ] && echo "$name" >>"$logs/asked"
}
rude() { # half a request, rubbish, or nothing, and gone
    timeout 2 /usr/bin/python3 - "$dir/$1.sock" <<'END' 2>/dev/null
import random, socket, sys
for n in (0, 3, 4, 40, 5000):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(random.randbytes(n))
    s.close()
END
    echo rude >>"$logs/asked"
}
ask() { # until the demo ends: one client of one site
    local site=$1
    while kill -0 $demo 2>/dev/null; do
        verb "$site" status --json
        verb "$site" events
        verb "$site" images
        rude "$site"
    done
}
# Freezes come and go while the files are copied; the demo's own comes later.
freezes() {
    while kill -0 $demo 2>/dev/null && ! reached 'load for'; do
        reached 'real input' || { sleep 0.2; continue; }
        verb tokyo freeze storm --change CHG-9
        verb osaka failover --plan
        verb osaka freeze storm --end
    done
}

askers=()
for _ in $(seq 100); do
    dir=$(echo "$logs"/site/hikae-demo.*)
    [ -S "$dir/tokyo.sock" ] && [ -S "$dir/osaka.sock" ] && break
    sleep 0.1
done
if [ -S "$dir/tokyo.sock" ]; then
    for site in tokyo tokyo osaka osaka; do
        ask $site &
        askers+=($!)
    done
    freezes &
    askers+=($!)
fi
wait $demo
failed=$?
wait "${askers[@]}"
if [ $failed -ne 0 ]; then
    tail -n 40 "$logs/demo.out"
    exit 1
fi
if [ -n "$(ls "$logs/tsan")" ]; then
    cat "$logs"/tsan/report*
    exit 1
fi
sort "$logs/asked" | uniq -c | tr '\n' ';'
echo
for name in status events images freeze failover rude; do
    if ! grep -qx $name "$logs/asked"; then
        echo "nobody came to ask: $name"
        exit 1
    fi
done
echo "no race reported"
