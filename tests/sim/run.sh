#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The simulator: builds it and runs seeds. The last lines are counts that ./dev test takes over.
#   --seeds N           that many seeds, from 1 (or --first X)
#   --budget SECONDS    every seeded bug must be found (from 120 s on), then seeds, old and new
#   --seed X [--verbose]  one seed again
#   --mutants           every seeded bug, with the number of seeds it took
#   --compilers         the same seeds give the same trace under gcc -O3 and clang -O0
set -euo pipefail
cd "$(dirname "$0")/../.."

BUILD=${HK_BUILD:-build}
MUTANT_SEEDS=${HK_MUTANT_SEEDS:-10000}
mode=run budget=0 args=()
first=0
while [ $# -gt 0 ]; do
    case $1 in
    --budget) budget=$2; shift 2 ;;
    --mutants) mode=mutants; shift ;;
    --compilers) mode=compilers; shift ;;
    --first) first=$2; args+=("$1" "$2"); shift 2 ;;
    --seeds | --seed | --lines | --max-failures) args+=("$1" "$2"); shift 2 ;;
    --verbose | --twice) args+=("$1"); shift ;;
    *) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done

if [ ! -f "$BUILD/build.ninja" ]; then
    meson setup "$BUILD" --buildtype=debugoptimized >/dev/null
fi
SIM=$BUILD/tests/sim/hk-sim
targets=(tests/sim/hk-sim)
if [ "$mode" = mutants ] || [ "$budget" -ge 120 ]; then
    targets+=(sim-mutants)
fi
mkdir -p build-logs
if ! ninja -C "$BUILD" "${targets[@]}" >build-logs/sim-build.log 2>&1; then
    tail -n 20 build-logs/sim-build.log
    echo "sim: the build failed; the whole story is in build-logs/sim-build.log"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

passed=0 failed=0

# Adds the counts of a run's last line.
count() {
    local line
    line=$(grep -E '^sim: [0-9]+ passed, [0-9]+ failed$' "$1" | tail -n 1 || true)
    if [ -z "$line" ]; then
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + $(cut -d' ' -f2 <<<"$line")))
    failed=$((failed + $(cut -d' ' -f4 <<<"$line")))
}

# Every seeded bug must be noticed: a simulator that finds nothing proves nothing. Two at a time.
one_mutant() {
    local left=$(($2 - SECONDS))
    [ "$left" -gt 1 ] || left=1
    timeout "$left" "$1" --until-found --seeds "$MUTANT_SEEDS" >"$3" 2>&1 ||
        echo "NOT FOUND: $(tail -n 1 "$3")" >>"$3"
}

mutants() {
    local deadline=$((SECONDS + $1)) bin out=build-logs/sim-mutants name line
    rm -rf "$out"
    mkdir -p "$out"
    for bin in "$BUILD"/tests/sim/hk-sim-*; do
        [ -f "$bin" ] && [ -x "$bin" ] || continue
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
            wait -n || true
        done
        one_mutant "$bin" "$deadline" "$out/${bin##*/hk-sim-}" &
    done
    wait
    printf '%-26s %s\n' 'seeded bug' 'verdict'
    for line in "$out"/*; do
        name=${line##*/}
        printf '%-26s %s\n' "$name" "$(tail -n 1 "$line")"
        if grep -q '^found after' <<<"$(tail -n 1 "$line")"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    done
}

# The options of the two builds differ in everything a compiler may do; the traces must not.
compilers() {
    local dir hash=() cc opt
    for cc in gcc:3 clang:0; do
        opt=${cc#*:} cc=${cc%:*}
        dir=build-logs/sim-$cc
        if [ ! -f "$dir/build.ninja" ]; then
            CC=$cc meson setup "$dir" --buildtype=plain --optimization="$opt" >/dev/null
        fi
        ninja -C "$dir" tests/sim/hk-sim >>build-logs/sim-build.log 2>&1
        hash+=("$("$dir/tests/sim/hk-sim" --seeds 100 | grep '^trace hash')")
        echo "$cc -O$opt: ${hash[-1]}"
    done
    if [ "${hash[0]}" = "${hash[1]}" ] && [ -n "${hash[0]}" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
}

log=build-logs/sim-run.log
case $mode in
mutants) mutants 3600 ;;
compilers) compilers ;;
run)
    if [ "$budget" -gt 0 ]; then
        began=$SECONDS
        if [ "$budget" -ge 120 ]; then
            mutants $((budget * 2 / 3))
        else
            echo "seeded bugs: only in runs of 120 s and more"
        fi
        # The first seeds; outside CI as long again on seeds never seen before: what those find is a
        # finding to look into, and no verdict on the change that happens to be tested.
        rest=$((budget - (SECONDS - began)))
        [ "$rest" -ge 20 ] || rest=20
        [ "$first" -gt 0 ] || first=$(($(date +%s) * 1000))
        froms=(1)
        [ -n "${CI:-}" ] || { froms+=("$first"); rest=$((rest / 2)); }
        for from in "${froms[@]}"; do
            "$SIM" --budget "$rest" --first "$from" 2>&1 | tee "$log" || true
            count "$log"
        done
    else
        "$SIM" "${args[@]}" 2>&1 | tee "$log" || true
        count "$log"
    fi
    ;;
esac
echo "sim: $passed passed, $failed failed"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
