#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job on one machine: two network namespaces as two data centres with DPDK between them; a
# group of two volumes (a database's data and its log) in sync mode; a real filesystem, fio and our
# own stamped writer; a frozen image leaves the standby; then the primary site is killed without
# warning and the standby promoted. Every claim is checked afterwards by tools that know nothing of
# Hikae. Bounded: under five minutes; leaves no process and no namespace behind.
set -u
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
build=${HK_BUILD:-$top/build}
seconds=${HK_DEMO_SECONDS:-12}
backend=${HK_DEMO_BACKEND:-dpdk}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/hikae-demo.XXXXXX")
a=hkda$$ b=hkdb$$
step="setting up"
pids=()
failed=0
began=$(date +%s)

say() { printf '%s\n' "$*"; }
title() { step=$1; printf '\n[%3d s] %s\n' $(($(date +%s) - began)) "$1"; }
cleanup() {
    local p
    for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null; done
    wait 2>/dev/null
    rm -f "/dev/shm/hikae-demo-$$.ring"
    ip netns del $a 2>/dev/null
    ip netns del $b 2>/dev/null
    if [ $failed -ne 0 ] || [ -n "${HK_DEMO_KEEP:-}" ]; then
        say "files and logs are kept in $work"
    else
        rm -rf "$work"
    fi
}
trap cleanup EXIT
die() {
    failed=1
    printf '\nDEMO FAILED at step "%s": %s\n' "$step" "$*" >&2
    local f
    for f in "$work"/*.log; do
        [ -s "$f" ] && { printf -- '--- last lines of %s\n' "${f##*/}" >&2; tail -n 8 "$f" >&2; }
    done
    exit 1
}
check() { # check "what" command...: one line, ok or the reason
    local what=$1 out
    shift
    if out=$("$@" 2>&1); then
        printf '  ok    %s\n' "$what"
    else
        printf '%s\n' "$out" | tail -n 12
        die "$what"
    fi
}
[ "$(id -u)" = 0 ] || die "network namespaces need root"
hikaed=${HK_HIKAED:-$build/replicator/daemon/hikaed}
hikae_bin=$build/ctl/hikae
plugin=$build/driver-glue/nbd/nbdkit-hikae-plugin.so
stamp=$build/tests/tools/hk-stamp
checker=$build/tests/tools/hk-check
replay=$build/tests/tools/hk-replay
for t in "$hikaed" "$hikae_bin" "$plugin" "$stamp" "$checker" "$replay"; do
    [ -e "$t" ] || die "$t is not built"
done

MIB=$((1 << 20))
data_mib=512 wal_mib=128 fs_mib=192
# data: [0, 192) filesystem · [192, 352) fio · [352, 512) stamped writer
# wal:  [0, 64) fio · [64, 128) stamped writer

hikae() { # hikae tokyo|osaka VERB ...
    local site=$1 verb=$2
    shift 2
    "$hikae_bin" "$verb" --group "$work/group.conf" --site "$work/$site.conf" "$@"
}
field() { /usr/bin/python3 -c 'import json,sys; v=json.load(sys.stdin)
for k in sys.argv[1].split("."): v=v[k]
print(str(v).lower() if isinstance(v,bool) else v)' "$1"; }
wait_for() { # wait_for SECONDS "what" command...
    local n=$(($1 * 10)) what=$2
    shift 2
    while ! "$@" >/dev/null 2>&1; do
        n=$((n - 1))
        [ $n -gt 0 ] || die "$what did not happen in time"
        sleep 0.1
    done
}
status_is() { # status_is site key value
    [ "$(hikae "$1" status --json 2>/dev/null | field "$2" 2>/dev/null)" = "$3" ]
}

title "two data centres: namespaces $a (tokyo) and $b (osaka), $backend between them"
mkdir -p "$work"/{tokyo,osaka,osaka/journal}
ip netns add $a && ip netns add $b || die "no network namespaces"
ip link add hka$$ netns $a type veth peer name hkb$$ netns $b || die "no veth pair"
ip -n $a link set hka$$ name wan0 && ip -n $b link set hkb$$ name wan0
ip -n $a addr add 10.77.0.1/24 dev wan0
ip -n $b addr add 10.77.0.2/24 dev wan0
for n in $a $b; do ip -n $n link set wan0 up; ip -n $n link set lo up; done
pa=10.77.0.1:7701 pb=10.77.0.2:7701
[ "$backend" = dpdk ] && pa=10.77.0.11:7701 pb=10.77.0.12:7701
id() { cat /proc/sys/kernel/random/uuid; }
cat >"$work/group.conf" <<CONF
name = "core";
group-id = "$(id)";
mode = "sync";
on-link-loss = "block";
contact-timeout-ms = 2000;
lab-unencrypted = true;
volumes = ( { name = "data"; size = $((data_mib * MIB))L; },
            { name = "wal"; size = $((wal_mib * MIB))L; } );
sites = (
  { name = "tokyo"; site-id = "$(id)"; control = "10.77.0.1:7700"; paths = ( "$pa" ); },
  { name = "osaka"; site-id = "$(id)"; control = "10.77.0.2:7700"; paths = ( "$pb" ); }
);
CONF
cat >"$work/tokyo.conf" <<CONF
site = "tokyo";
role = "primary";
socket = "$work/tokyo.sock";
state-dir = "$work/tokyo";
capture = {
  socket = "$work/tokyo.cap";
  ring = "/dev/shm/hikae-demo-$$.ring";
  ring-slots = 16384;
  ring-payload = 67108864L;
  metadata = "$work/tokyo/core.md";
  origins = ( { volume = "data"; path = "$work/tokyo/data.img"; },
              { volume = "wal"; path = "$work/tokyo/wal.img"; } );
};
link = { backend = "$backend"; interfaces = ( "wan0" ); mtu = 1500; };
CONF
cat >"$work/osaka.conf" <<CONF
site = "osaka";
role = "standby";
socket = "$work/osaka.sock";
state-dir = "$work/osaka";
standby = {
  metadata = "$work/osaka/core.md";
  primary-metadata = "$work/osaka/core-primary.md";
  journal = "$work/osaka/journal";
  journal-mib = 2048;
  segment-mib = 64;
  window-mib = 64;
  apply-mib = 16;
  replicas = ( { volume = "data"; path = "$work/osaka/data.img"; },
               { volume = "wal"; path = "$work/osaka/wal.img"; } );
};
link = { backend = "$backend"; interfaces = ( "wan0" ); mtu = 1500; };
CONF
for s in tokyo osaka; do
    truncate -s ${data_mib}M "$work/$s/data.img"
    truncate -s ${wal_mib}M "$work/$s/wal.img"
    check "configuration of $s is sound" hikae $s check-config
    check "metadata of $s (volumes declared equal: both are empty)" \
        hikae $s create-md --assume-equal
done

title "start: standby, capture, primary"
ip netns exec $b "$hikaed" -g "$work/group.conf" -s "$work/osaka.conf" \
    >"$work/osaka.log" 2>&1 &
pids+=($!) osaka_pid=$!
ip netns exec $a nbdkit -f -U "$work/nbd.sock" -t 24 "$plugin" \
    group="$work/group.conf" site="$work/tokyo.conf" >"$work/nbdkit.log" 2>&1 &
pids+=($!) nbdkit_pid=$!
ip netns exec $a "$hikaed" -g "$work/group.conf" -s "$work/tokyo.conf" \
    >"$work/tokyo.log" 2>&1 &
pids+=($!) tokyo_pid=$!
wait_for 60 "IN SYNC" status_is tokyo in_sync true
hikae tokyo status

title "real input: an ext4 filesystem full of real files, copied onto the first $fs_mib MiB of data"
mkdir "$work/files"
cp -r "$top"/{proto,replicator,driver-glue,ctl,tests} "$work/files/" 2>/dev/null
cp -r /usr/share/doc/{nbdkit,fio,meson*,dpdk*} /usr/share/common-licenses "$work/files/" 2>/dev/null
mke2fs -q -t ext4 -d "$work/files" "$work/fs.img" ${fs_mib}M || die "mke2fs"
nbd="nbd+unix:///data?socket=$work/nbd.sock" nbdw="nbd+unix:///wal?socket=$work/nbd.sock"
t0=$(date +%s%N)
nbdcopy --flush "$work/fs.img" "$nbd" 2>"$work/nbdcopy.log" ||
    die "nbdcopy: $(cat "$work/nbdcopy.log")"
t1=$(date +%s%N)
files=$(find "$work/files" -type f | wc -l)
say "  $files files, $fs_mib MiB image in $(((t1 - t0) / 1000000)) ms, all acknowledged by osaka"

title "load for $seconds s: fio with verification on data and wal, stamped writer on both"
cat >"$work/load.fio" <<FIO
[global]
ioengine=nbd
rw=randwrite
bs=4k
iodepth=8
verify=crc32c
verify_state_save=1
do_verify=0
time_based=0
[data]
uri=$nbd
offset=${fs_mib}m
size=160m
rate_iops=1000
[wal]
uri=$nbdw
offset=0
size=64m
bs=8k
fsync=32
rate_iops=200
FIO
cat >"$work/kill.sh" <<KILL
#!/bin/bash
kill -9 $nbdkit_pid $tokyo_pid
for p in \$(ip netns pids $a); do
    case \$(cat /proc/\$p/comm) in nbdkit*|hikaed*) kill -9 \$p;; esac
done
date +%s%N >"$work/killed"
KILL
chmod +x "$work/kill.sh"
(cd "$work" && exec fio --output="$work/fio.out" --aux-path="$work" --trigger-file="$work/trigger" \
    --trigger="$work/kill.sh" "$work/load.fio") >"$work/fio.log" 2>&1 &
pids+=($!) fio_pid=$!
"$stamp" --log "$work/stamp.log" --range "0:$((352 * MIB))+$((160 * MIB))" \
    --range "1:$((64 * MIB))+$((64 * MIB))" --depth 8 --seconds $((seconds + 60)) --seed 7 \
    "$nbd" "$nbdw" \
    >"$work/stamp.out" 2>&1 &
pids+=($!) stamp_pid=$!
for i in 1 2 3; do
    sleep $((seconds / 4))
    hikae tokyo status | head -n 2
done

title "a frozen image leaves the standby while replication goes on"
before=$(hikae tokyo status --json | field writes)
check "freeze nightly" hikae tokyo freeze nightly --change CHG-1
wait_for 30 "the standby at the mark" status_is osaka frozen true
hikae osaka images
check "restore data of nightly to a file" \
    hikae osaka restore nightly --volume data --to "$work/nightly-data.img" --json
check "restore wal of nightly to a file" \
    hikae osaka restore nightly --volume wal --to "$work/nightly-wal.img" --json
after=$(hikae tokyo status --json | field writes)
say "  $((after - before)) writes were replicated meanwhile"
[ $((after - before)) -gt 0 ] || die "replication stood still during the freeze"
check "release the image" hikae osaka freeze nightly --end
sleep $((seconds / 4))

title "disaster: everything at tokyo is killed without warning, in full flight"
kill -0 $fio_pid 2>/dev/null || die "fio ended before the disaster: $(tail -n 5 "$work/fio.out")"
inflight=$(hikae tokyo status --json | field held)
wb=$(hikae tokyo status --json | field bytes)
: >"$work/trigger"
wait_for 20 "the kill" test -s "$work/killed"
wait_for 30 "fio's end" sh -c "! kill -0 $fio_pid 2>/dev/null"
wait_for 30 "the writer's end" sh -c "! kill -0 $stamp_pid 2>/dev/null"
say "  $inflight writes waited for osaka a moment before; $(tail -n 1 "$work/stamp.out")"
wait_for 20 "osaka noticing" status_is osaka contact false
hikae osaka status
t0=$(date +%s%N)
hikae osaka failover --json --change CHG-2 >"$work/failover.json" ||
    die "failover: $(cat "$work/failover.json")"
t1=$(date +%s%N)

title "checks, by tools that know nothing of Hikae's insides"
class=$(field loss_class <"$work/failover.json")
[ "$class" = "0, proven" ] || die "loss class is \"$class\", expected \"0, proven\""
say "  ok    loss class: $class"
kill -TERM $osaka_pid
wait $osaka_pid 2>/dev/null
dd if="$work/osaka/data.img" of="$work/fs-after.img" bs=1M count=$fs_mib status=none
check "e2fsck -fn: the filesystem on the standby is clean" e2fsck -fn "$work/fs-after.img"
check "the filesystem is byte for byte what was copied" cmp "$work/fs.img" "$work/fs-after.img"
sed -e 's/rw=randwrite/rw=randread/' -e 's/ioengine=nbd/ioengine=sync/' -e 's/^fsync=.*//' \
    -e 's/verify_state_save=1/verify_state_load=1/' -e 's/do_verify=0/do_verify=1/' \
    -e "s|^uri=$nbd\$|filename=$work/osaka/data.img|" \
    -e "s|^uri=$nbdw\$|filename=$work/osaka/wal.img|" \
    "$work/load.fio" >"$work/verify.fio"
fio_verifies() { # no error, no bad block, and it has read something
    (cd "$work" && fio --aux-path="$work" "$work/verify.fio") >"$work/fio-verify.log" 2>&1 &&
        ! grep -q 'verify: bad' "$work/fio-verify.log" &&
        grep -Eq 'READ: bw=.*io=[1-9]' "$work/fio-verify.log"
}
check "fio verifies everything it had acknowledged" fio_verifies
check "the independent checker: every acknowledged write is there, in a legal order" \
    "$checker" --log "$work/stamp.log" --mode sync "$work/osaka/data.img" "$work/osaka/wal.img"
check "the standby equals its journal's prefix, replayed independently" \
    "$replay" --journal "$work/osaka/journal" --to-end \
    --volume "0=$((data_mib * MIB)):$work/replay-data.img" \
    --volume "1=$((wal_mib * MIB)):$work/replay-wal.img" \
    --compare "0=$work/osaka/data.img" --compare "1=$work/osaka/wal.img"
check "the restored image equals the state at its mark, replayed independently" \
    "$replay" --journal "$work/osaka/journal" --to-mark nightly \
    --volume "0=$((data_mib * MIB)):$work/mark-data.img" \
    --volume "1=$((wal_mib * MIB)):$work/mark-wal.img" \
    --compare "0=$work/nightly-data.img" --compare "1=$work/nightly-wal.img"

title "result"
say "  LOST            $class"
took=$(field took_ns <"$work/failover.json" | awk '{printf "%.3f s", $1 / 1e9}')
say "  TOOK OVER IN    $took (the verb: $(((t1 - t0) / 1000000)) ms)"
say "  REPLICATED      $((wb / MIB)) MiB over $backend, in sync"
image_bytes=$(stat -c %s "$work/nightly-data.img")
say "  IMAGE           $work/nightly-data.img, $image_bytes bytes (HK_DEMO_KEEP=1 keeps it)"
say "  DURATION        $(($(date +%s) - began)) s"
say "DEMO OK"
