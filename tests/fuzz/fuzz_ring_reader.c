/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicator's reader over a ring that a hostile producer writes, also while it is being read.
 * Input: mode byte, then a sequence of damage (ring_base.h) and reads. Mode bit 0: tail and its LSN
 * come from the input too.
 *
 * Oracle: every piece handed out lies within the mapping (or is padding), pieces cover exactly what
 * was asked for, positions never go back, and without damage every byte is the log's.
 */
#include "fuzz.h"

#include "driver-glue/client/ring_reader.h"
#include "tests/fuzz/ring_base.h"

HK_FUZZ_LARGE_MEMORY

enum { OPS_MAX = 200, IOV_MAX_HERE = 40 };
enum op { DAMAGE, POLL, GATHER, HEADER_AT, TIME_AT, RELEASE, RESTORE, OPS };

static struct ring_base base;
static struct hk_ring_reader r;

static void check_piece(const struct iovec *v)
{
    const uint8_t *p = v->iov_base;

    HK_ASSERT(v->iov_len > 0);
    if (p >= base.bytes && p < base.bytes + base.size)
        HK_ASSERT(v->iov_len <= (size_t)(base.bytes + base.size - p));
    else
        HK_ASSERT(v->iov_len < HK_RECORD_ALIGN); /* the line of zeroes */
}

static void gather(uint64_t lsn, uint32_t bytes, int most)
{
    static struct iovec iov[IOV_MAX_HERE];
    uint64_t sum = 0;
    int n = hk_ring_reader_gather(&r, HK_LSN(lsn), bytes, iov, most);

    HK_ASSERT(n >= 0 || n == -ERANGE || n == -ENOSPC || n == -EUCLEAN);
    if (n < 0)
        return;
    HK_ASSERT(n <= most && lsn >= r.tail_lsn && lsn + bytes <= r.next_lsn);
    for (int i = 0; i < n; i++) {
        check_piece(&iov[i]);
        sum += iov[i].iov_len;
    }
    HK_ASSERT(sum == bytes);
}

static void step(struct script *s)
{
    uint64_t tail_lsn = r.tail_lsn, next_lsn = r.next_lsn, lsn;
    struct hk_lsn produced = HK_LSN(0);
    struct hk_record header;
    uint32_t bytes;
    int rc;

    switch ((enum op)(script_u8(s) % OPS)) {
    case DAMAGE: ring_base_damage(&base, s); break;
    case POLL:
        rc = hk_ring_reader_poll(&r, script_u8(s), &produced);
        HK_ASSERT(rc == -EUCLEAN || (rc >= 0 && produced.v == r.next_lsn));
        break;
    case GATHER:
        lsn = r.tail_lsn + script_u16(s) * 16u;
        lsn = script_near(s, lsn, 16);
        bytes = script_u16(s);
        bytes <<= script_u8(s) % 8;
        gather(lsn, bytes, script_u8(s) % (IOV_MAX_HERE + 1));
        break;
    case HEADER_AT:
        lsn = script_near(s, r.tail_lsn, 256);
        rc = hk_ring_reader_header_at(&r, HK_LSN(lsn), &header);
        HK_ASSERT(rc == 0 || rc == -ERANGE);
        break;
    case TIME_AT: hk_ring_reader_time_at(&r, HK_LSN(script_near(s, r.tail_lsn, 256))); break;
    case RELEASE: hk_ring_reader_release(&r, HK_LSN(script_near(s, r.tail_lsn, 256))); break;
    case RESTORE: ring_base_restore(&base); break;
    case OPS: break;
    }
    HK_ASSERT(r.tail <= r.next && r.tail_lsn >= tail_lsn && r.next_lsn >= next_lsn);
}

/* The log of a sound ring, in pieces of any size, is records one after the other. */
static void check_sound(uint32_t piece)
{
    static uint8_t log[2 << 20];
    struct iovec iov[IOV_MAX_HERE];
    struct hk_lsn produced;
    uint64_t at, total = 0;

    HK_ASSERT(hk_ring_reader_poll(&r, UINT32_MAX, &produced) > 0);
    for (at = r.tail_lsn; at < produced.v; at += piece) {
        uint32_t some = (uint32_t)hk_min_u64(piece, produced.v - at);
        int n = hk_ring_reader_gather(&r, HK_LSN(at), some, iov, IOV_MAX_HERE);

        HK_ASSERT(n > 0);
        for (int i = 0; i < n; i++) {
            memcpy(log + total, iov[i].iov_base, iov[i].iov_len);
            total += iov[i].iov_len;
        }
    }
    HK_ASSERT(total == produced.v - r.tail_lsn);
    for (at = 0; at < total;) {
        struct hk_record h;

        memcpy(&h, log + at, sizeof(h));
        HK_ASSERT(hk_record_check(&h, HK_LSN(r.tail_lsn + at), r.epoch_ordinal, r.epoch_seed) ==
                  HK_RECORD_OK);
        HK_ASSERT(hk_record_payload_ok(&h, log + at + sizeof(h)));
        at += hk_record_bytes(h.payload_len);
    }
    HK_ASSERT(at == total);
}

static void where_it_begins(uint64_t *ret_tail, uint64_t *ret_lsn)
{
    const struct hk_ring_header *h = (const void *)base.bytes;
    const struct hk_ring_producer *p = (const void *)(base.bytes + HK_PAGE_BYTES);
    const struct hk_ring_side *sides = (const void *)(base.bytes + h->sides_offset);

    *ret_tail = p->tail;
    *ret_lsn = sides[p->tail % RIG_SLOTS].lsn;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script s = {data, data + size};
    struct hk_uuid group = rig_uuid(1);
    uint64_t tail, tail_lsn;
    uint8_t mode = script_u8(&s);
    int rc;

    if (!base.size)
        ring_base_make(&base);
    ring_base_restore(&base);
    where_it_begins(&tail, &tail_lsn);
    if (mode & 1) {
        tail = script_near(&s, tail, 1);
        tail_lsn = script_near(&s, tail_lsn, 64);
    }
    for (unsigned i = mode >> 1 & 7; i > 0; i--)
        ring_base_damage(&base, &s);
    rc = hk_ring_reader_init(&r, base.bytes, mode & 128 ? base.size - 4096 : base.size, &group,
                             hk_history_last(&base.super.history), tail, tail_lsn);
    HK_ASSERT(rc == 0 || rc == -EUCLEAN || rc == -ESTALE);
    if (rc)
        return 0;
    if (!(mode & 15))
        check_sound(512 + script_u16(&s));
    for (unsigned i = 0; script_left(&s) && i < OPS_MAX; i++)
        step(&s);
    return 0;
}
