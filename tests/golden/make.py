#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden vectors, written from proto/SPEC.md alone.

This program shares no code with the product: layouts are typed in from the tables of SPEC.md, XXH64
is implemented here, XXH3-128 comes from the system's libxxhash. `--check DIR` compares the files in
DIR with what the text demands and fails on any difference, missing or surplus file; `--write DIR`
makes them (for a new version of a format: released vectors never change, SPEC.md §12.5).
"""
import ctypes
import os
import struct
import sys

M64 = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
                      0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def rotl(x, r):
    return ((x << r) | (x >> (64 - r))) & M64


def xxh64(data, seed=0):
    def rnd(acc, lane):
        return (rotl((acc + lane * P2) & M64, 31) * P1) & M64

    n, at = len(data), 0
    if n >= 32:
        acc = [(seed + P1 + P2) & M64, (seed + P2) & M64, seed, (seed - P1) & M64]
        while at + 32 <= n:
            lanes = struct.unpack_from("<4Q", data, at)
            acc = [rnd(a, lane) for a, lane in zip(acc, lanes)]
            at += 32
        h = sum(rotl(a, r) for a, r in zip(acc, (1, 7, 12, 18))) & M64
        for a in acc:
            h = ((h ^ rnd(0, a)) * P1 + P4) & M64
    else:
        h = (seed + P5) & M64
    h = (h + n) & M64
    while at + 8 <= n:
        h ^= rnd(0, struct.unpack_from("<Q", data, at)[0])
        h = (rotl(h, 27) * P1 + P4) & M64
        at += 8
    if at + 4 <= n:
        h ^= (struct.unpack_from("<I", data, at)[0] * P1) & M64
        h = (rotl(h, 23) * P2 + P3) & M64
        at += 4
    for byte in data[at:]:
        h ^= (byte * P5) & M64
        h = (rotl(h, 11) * P1) & M64
    h = ((h ^ (h >> 33)) * P2) & M64
    h = ((h ^ (h >> 29)) * P3) & M64
    return h ^ (h >> 32)


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


LIB = ctypes.CDLL("libxxhash.so.0")
LIB.XXH3_128bits.restype = Hash128
LIB.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3_tag(data):
    h = LIB.XXH3_128bits(data, len(data))
    return struct.pack("<QQ", h.low, h.high)


def ident(n):
    return bytes(n << 4 | i for i in range(16))


def seed_of(epoch_id):
    return struct.unpack("<Q", epoch_id[:8])[0]


def fill(count, first):
    return bytes((first + i * 7 + i // 251) & 255 for i in range(count))


def name(text):
    return text.encode().ljust(64, b"\0")


GROUP, EPOCH3, EPOCH1, EPOCH2 = ident(1), ident(9), ident(10), ident(11)
PRIMARY, STANDBY, SITE, RING, NIL = ident(12), ident(13), ident(14), ident(15), bytes(16)
TIME, STEP, FIRST = 1700000000000000000, 16 << 30, 4096
TYPES = {"write": 1, "zeroes": 2, "discard": 3, "flush": 4, "mark": 5, "gap": 6, "void": 7,
         "resync-begin": 8, "block": 9, "bad-range": 10, "resync-end": 11, "mode": 12, "join": 13,
         "leave": 14, "resize": 15}


def record(kind, lsn, index, ordinal, epoch_id, prev, payload=b"", length=0, flags=0):
    """SPEC.md §3.1; the volume and offset of the examples follow from their index."""
    on_volume = length > 0
    head = struct.pack("<QQQIIIHBBII", lsn, TIME + index * 1000, index * 4096 if on_volume else 0,
                       length, len(payload), ordinal,
                       index & 1 if on_volume or kind == "flush" else 0, TYPES[kind], flags,
                       0x31524B48, prev)
    head += struct.pack("<Q", xxh64(payload) if payload else 0)
    head += struct.pack("<Q", xxh64(head, seed_of(epoch_id)))
    assert len(head) == 64
    return (head + payload).ljust((64 + len(payload) + 63) // 64 * 64, b"\0")


def mark(text, kind):
    return name(text) + struct.pack("<QII48x", 0x1122334455667788, kind, 0)


def stream_epoch1():
    plan = [("mode", struct.pack("<IIQ48x", 3, 2, 5000000000), 0),
            ("write", fill(4096, 1), 4096), ("zeroes", b"", 65536), ("discard", b"", 1 << 20),
            ("flush", b"", 0), ("mark", mark("m", 0), 0),
            ("mark", mark("nightly-2026.11.23", 1), 0),
            ("void", fill(100, 7), 512),
            ("resync-begin", struct.pack("<QQI44x", 3, 1 << 24, 3), 0),
            ("block", fill(512, 9), 512),
            ("bad-range", b"", 4096), ("resync-end", struct.pack("<QQ48x", 3, FIRST), 0),
            ("join", b"", 0), ("leave", b"", 0),
            ("resize", struct.pack("<QQ496x", 1 << 40, 1 << 30), 0)]
    out, lsn, prev = [], FIRST, 0
    for i, (kind, payload, length) in enumerate(plan):
        r = record(kind, lsn, i, 1, EPOCH1, prev, payload, length)
        out.append((kind, r))
        lsn, prev = lsn + len(r), len(r)
    return out


def stream_epoch2():
    gap = EPOCH1 + struct.pack("<QQI28x", 8960, STEP, 2)
    first = record("gap", STEP, 0, 2, EPOCH2, 0, gap)
    second = record("write", STEP + len(first), 1, 2, EPOCH2, len(first), fill(512, 1), 512, 1)
    return [("gap", first), ("write", second)]


def frame(kind, lsn, body):
    """SPEC.md §4.1 and §4.3."""
    head = struct.pack("<BBBBIQQIHH", 1, kind, 0, 1, 0xCAFE1234, 0x0102030405060708, lsn,
                       len(body) if kind == 1 else 0, len(body), 0)
    assert len(head) == 32
    return head + body + xxh3_tag(head + body)


def ack(ranges):
    body = struct.pack("<QQQQQIHH", 10112, 8960, FIRST, 1 << 28, 77, 250, ranges, 4)
    for i in range(ranges):
        body += struct.pack("<QQ", 1000 - 10 * i, 1005 - 10 * i)
    return body


def ping():
    return struct.pack("<QQQQQII", 10112, TIME + 7000, TIME + 1000000000, 41, STEP, 2, 0)


def history(dropped=0):
    def entry(eid, parent, first, parent_end, time, ordinal, reason):
        return eid + parent + struct.pack("<QQQII", first, parent_end, time, ordinal, reason)

    entries = (entry(EPOCH1, NIL, FIRST, 0, TIME, 1, 1)
               + entry(EPOCH2, EPOCH1, STEP, 10112, TIME + 1, 2, 2)
               + entry(EPOCH3, EPOCH2, 2 * STEP, STEP + 704, TIME + 2, 3, 5))
    if dropped:  # §5.1: the oldest went, the next one is still told
        return struct.pack("<II", 2, 1) + entries[64:].ljust(64 * 64, b"\0")
    return struct.pack("<II", 3, 0) + entries.ljust(64 * 64, b"\0")


def superblock(role, sequence, flags, replica, peer, **f):
    """SPEC.md §6.2, field by field."""
    get = f.get
    out = b"HAKISUP1" + struct.pack("<IIQII", get("version", 1), role, sequence, flags, 2)
    out += GROUP + replica + SITE + peer + name("core")
    out += struct.pack("<QQQQQQQ", get("ceiling", 0), get("clean_lsn", 0), get("durable_known", 0),
                       get("applied", 0), 0, 0, get("mode_lsn", 0))
    out += struct.pack("<IIQQ", 3, 2, 5000000000, get("contact_time", 0))
    out += struct.pack("<QQ", get("freeze_lsn", 0), get("freeze_time", 0))
    out += name(get("freeze_name", ""))
    intervals = get("intervals", [])
    out += struct.pack("<IIQQ", get("loss_class", 0), len(intervals), get("promote_lsn", 0),
                       get("promote_time", 0))
    out += struct.pack("<QII", get("clean_time", 0), get("clean_prev", 0),
                       get("region_shift", 0)) + get("ring", NIL)
    out += struct.pack("<QQIIQ", 0, get("pin_lsn", 0), get("pin_ordinal", 0),
                       get("snapshot_next", 0), get("dmap_sequence", 0))
    assert len(out) == 408
    out += b"".join(struct.pack("<QQII", *i, 0) for i in intervals).ljust(1536, b"\0")
    assert len(out) == 1944
    out += history(get("dropped", 0))
    assert len(out) == 6048
    grown = ((0, 0), (get("room", 0), get("prior", 0)))
    for (vol, size), first, more in zip((("data", 1 << 40), ("wal", 256 << 20)),
                                        get("regions", (0, 0)), grown):
        out += name(vol) + struct.pack("<QQQQ", size, first, *more)
    out = out.ljust(16376, b"\0")
    return out + struct.pack("<Q", xxh64(out))


def dmap_page(kind, place, sequence, other, contents):
    """SPEC.md §6.8: 8 sectors; `contents` are (count, 448 bytes) each."""
    own, base = seed_of(PRIMARY), seed_of(STANDBY)
    rest = [struct.pack("<QQQQIIBBHI", sequence, STEP + 704, base, other, place, 2, i, kind, count,
                        0) + content for i, (count, content) in enumerate(contents)]
    page_hash = own
    for r in rest:
        assert len(r) == 496
        page_hash = xxh64(r, page_hash)
    out = b""
    for r in rest:
        body = struct.pack("<Q", page_hash) + r
        out += struct.pack("<Q", xxh64(body, own)) + body
    return out


def dmap_log():
    """§6.9: transaction 1003 of a table in which slot k holds region 3k, every fifth stale, every
    seventh empty; its 30 updates are those of the slots 5, 10, 15 and so on."""
    def slot(k):
        return 0 if k % 7 == 0 else 3 * k | (2 if k % 5 == 0 else 1) << 30

    sequence, updates = 1003, [(5 * n, slot(5 * n)) for n in range(1, 31)]
    contents = []
    for i in range(8):
        first = 64 * (8 * (sequence % 8) + i)
        mine = updates[24 * i:24 * i + 24]
        content = b"".join(struct.pack("<I", slot(first + n)) for n in range(64))
        content += b"".join(struct.pack("<II", *u) for u in mine).ljust(192, b"\0")
        contents.append((len(mine), content))
    return dmap_page(1, sequence % 256, sequence, 77, contents)


def dmap_map():
    """§6.10: page 2; region n of the page is stale when n is a multiple of 11, else spooled when it
    is one of 6."""
    def state(n):
        return 1 if n % 11 == 0 else 2 if n % 6 == 0 else 0

    packed = bytes(sum(state(4 * b + k) << 2 * k for k in range(4)) for b in range(3584))
    return dmap_page(2, 2, 78, 1003, [(0, packed[448 * i:448 * i + 448]) for i in range(8)])


def snap_header():
    """§8.7: the pin of the standby, its sixth snapshot, which is being deleted."""
    volumes = b"".join(struct.pack("<Q", size) for size in (1 << 40, 256 << 20))
    out = (b"HAKSNP1\0" + struct.pack("<IIIIQQ", 1, 1, 6, 2, STEP + 704, TIME + 5) + GROUP +
           STANDBY + bytes(64) + struct.pack("<IIQ", 2, 1, xxh64(volumes)))
    out = out.ljust(504, b"\0")
    return out + struct.pack("<Q", xxh64(out))


def snap_page():
    """§8.7: page 1 of volume 1; of its sectors each third chunk of the first and the last one."""
    out = b""
    for i in range(8):
        bits = bytearray(480)
        for chunk in range(0, 3840, 3) if i == 0 else (3839,) if i == 7 else ():
            bits[chunk // 8] |= 1 << chunk % 8
        rest = struct.pack("<IIQQ", 6, 1, 8 + i, 0) + bytes(bits)
        out += struct.pack("<Q", xxh64(rest, seed_of(STANDBY))) + rest
    return out


def sealed_page(head, epoch_id):
    page = head.ljust(4088, b"\0")
    return page + struct.pack("<Q", xxh64(page, seed_of(epoch_id)))


def batch(stream, first, end, durable):
    """SPEC.md §7.2: `stream` begins at LSN 4096; whole pages follow the header."""
    data = stream[first - FIRST:end - FIRST]
    head = b"HAKIBAT1" + struct.pack("<II", 1, 1) + EPOCH1
    head += struct.pack("<QQQQ", first, end - first, durable, xxh64(data, seed_of(EPOCH1)))
    start, stop = first // 4096 * 4096, (end + 4095) // 4096 * 4096
    # What lies behind the end in the last page has no meaning; here it is zero.
    pages = stream[start - FIRST:end - FIRST].ljust(stop - start, b"\0")
    return sealed_page(head, EPOCH1) + pages


def segment():
    records = stream_epoch1()
    stream = b"".join(r for _, r in records)
    cut = FIRST + sum(len(r) for _, r in records[:7])
    head = b"HAKISEG1" + struct.pack("<II", 1, 1) + GROUP + EPOCH1 + STANDBY
    head += struct.pack("<QQ", FIRST, 32768)
    out = sealed_page(head, EPOCH1)
    out += batch(stream, FIRST, cut, 0)
    out += batch(stream, cut, FIRST + len(stream), cut)
    return out.ljust(32768, b"\0")


def vectors():
    out = {}
    for epoch, records in ((1, stream_epoch1()), (2, stream_epoch2())):
        for i, (kind, data) in enumerate(records):
            out[f"record_{epoch}_{i:02d}_{kind}.bin"] = data
    stream = b"".join(r for _, r in stream_epoch1())
    # Sizes on purpose: one frame per length class of XXH3, beginning and ending inside records.
    for lsn, count in ((4100, 1), (4096, 200), (4200, 1000), (4224, 4160)):
        out[f"frame_data_{count}.bin"] = frame(1, lsn, stream[lsn - FIRST:lsn - FIRST + count])
    for ranges in (0, 1, 32):
        out[f"frame_ack_{ranges}.bin"] = frame(2, 0, ack(ranges))
    out["frame_ping.bin"] = frame(3, 0, ping())
    out["history.bin"] = history()
    out["segment.bin"] = segment()
    out["super_primary.bin"] = superblock(
        1, 6, 1 | 128, PRIMARY, STANDBY, ceiling=3 * STEP, clean_lsn=2 * STEP + 4224,
        durable_known=2 * STEP + 128, clean_time=TIME + 9, clean_prev=4160, ring=RING)
    out["super_standby.bin"] = superblock(
        2, 7, 16 | 64, STANDBY, PRIMARY, ceiling=3 * STEP, applied=2 * STEP + 128, mode_lsn=FIRST,
        contact_time=TIME + 3, freeze_lsn=8960, freeze_time=TIME + 6000,
        freeze_name="nightly-2026.11.23", loss_class=2, promote_lsn=10112, promote_time=TIME + 4,
        intervals=[(FIRST, 10112, 1), (STEP, 0, 2)])
    # Version 2: a dirty map of 4 MiB regions; a pin in a resync; a history that forgot an epoch.
    out["super_primary_2.bin"] = superblock(
        1, 8, 2 | 1024, PRIMARY, STANDBY, version=2, ceiling=3 * STEP, durable_known=2 * STEP + 128,
        ring=RING, region_shift=22, dmap_sequence=995, regions=(0, 262144))
    out["super_standby_2.bin"] = superblock(
        2, 9, 2048 | 4096, STANDBY, PRIMARY, version=2, ceiling=3 * STEP, applied=2 * STEP + 128,
        mode_lsn=FIRST, pin_lsn=STEP + 704, pin_ordinal=2, snapshot_next=5, dropped=1,
        intervals=[(STEP, STEP + 704, 2)])
    # Version 3: a volume that may grow; one that has grown since the pin.
    out["super_primary_3.bin"] = superblock(
        1, 10, 2 | 1024, PRIMARY, STANDBY, version=3, ceiling=3 * STEP,
        durable_known=2 * STEP + 128, ring=RING, region_shift=22, dmap_sequence=995,
        regions=(0, 262144), room=1 << 30)
    out["super_standby_3.bin"] = superblock(
        2, 11, 2048 | 4096, STANDBY, PRIMARY, version=3, ceiling=3 * STEP, applied=2 * STEP + 128,
        mode_lsn=FIRST, pin_lsn=STEP + 704, pin_ordinal=2, snapshot_next=5, dropped=1,
        intervals=[(STEP, STEP + 704, 2)], room=1 << 30, prior=128 << 20)
    out["history_dropped.bin"] = history(1)
    out["dmap_log.bin"], out["dmap_map.bin"] = dmap_log(), dmap_map()
    out["snap_header.bin"], out["snap_page.bin"] = snap_header(), snap_page()
    return out


def self_test():
    """The published values of XXH64, so that no wrong hash agrees with another."""
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("--check", "--write"):
        sys.exit("usage: make.py --check DIR | --write DIR")
    self_test()
    want, folder = vectors(), sys.argv[2]
    if sys.argv[1] == "--write":
        for file, data in want.items():
            with open(os.path.join(folder, file), "wb") as f:
                f.write(data)
        return
    have = {f for f in os.listdir(folder) if f.endswith(".bin")}
    bad = sorted(have ^ set(want))
    for file in sorted(have & set(want)):
        with open(os.path.join(folder, file), "rb") as f:
            if f.read() != want[file]:
                bad.append(file)
    if bad:
        sys.exit("golden vectors differ from SPEC.md: " + " ".join(bad))
    print(f"{len(want)} golden vectors agree with SPEC.md")


if __name__ == "__main__":
    main()
