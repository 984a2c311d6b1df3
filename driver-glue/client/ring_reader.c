/* SPDX-License-Identifier: Apache-2.0 */
#include "driver-glue/client/ring_reader.h"

#include <errno.h>

#include "proto/bug.h"

static const uint8_t zero_line[HK_RECORD_ALIGN];

int hk_ring_reader_init(struct hk_ring_reader *r, const void *ring, uint64_t mapped_bytes,
                        const struct hk_uuid *group_id, const struct hk_epoch *epoch, uint64_t tail,
                        uint64_t tail_lsn)
{
    const struct hk_ring_header *h = ring;
    const uint8_t *base = ring;

    if (!hk_ring_header_ok(h, mapped_bytes))
        return -EUCLEAN;
    if (!hk_uuid_equal(&h->group_id, group_id))
        return -ESTALE;
    *r = (struct hk_ring_reader){.header = h,
                                 .slots = (const void *)(base + h->slots_offset),
                                 .sides = (const void *)(base + h->sides_offset),
                                 .payload = base + h->payload_offset,
                                 .slot_mask = h->slot_count - 1,
                                 .payload_bytes = h->payload_bytes,
                                 .epoch_ordinal = epoch->ordinal,
                                 .epoch_seed = hk_epoch_seed(&epoch->id),
                                 .tail = tail,
                                 .next = tail,
                                 .tail_lsn = tail_lsn,
                                 .next_lsn = tail_lsn,
                                 .hint = tail};
    return 0;
}

/* NULL: the piece does not lie within the payload ring. */
static const uint8_t *payload_of(const struct hk_ring_reader *r, uint64_t index, uint32_t bytes)
{
    uint64_t place = r->sides[index & r->slot_mask].payload_pos % r->payload_bytes;

    if (bytes > HK_PAYLOAD_BYTES_MAX || place + bytes > r->payload_bytes)
        return NULL;
    return r->payload + place;
}

static const struct hk_record *slot_at(const struct hk_ring_reader *r, uint64_t index)
{
    return &r->slots[index & r->slot_mask];
}

int hk_ring_reader_poll(struct hk_ring_reader *r, uint32_t records_max, struct hk_lsn *ret_produced)
{
    uint32_t seen = 0;

    while (seen < records_max && r->next - r->tail <= r->slot_mask) {
        const struct hk_record *slot = slot_at(r, r->next);
        struct hk_record header;

        /* Pairs with publish: who sees the LSN sees header and payload. Any other value is an older
         * record, or one still being copied: LSNs are never reused. */
        if ((HK_BUG(reader_relaxed) ? hk_ring_load_relaxed(&slot->lsn)
                                    : hk_ring_load_acquire(&slot->lsn)) != r->next_lsn)
            break;
        header = *slot;
        if (hk_record_check(&header, HK_LSN(r->next_lsn), r->epoch_ordinal, r->epoch_seed) !=
                HK_RECORD_OK ||
            !payload_of(r, r->next, header.payload_len))
            return -EUCLEAN;
        r->next_lsn += hk_record_bytes(header.payload_len);
        r->next++;
        seen++;
    }
    *ret_produced = HK_LSN(r->next_lsn);
    return (int)seen;
}

/* Index of the record that covers lsn; the caller has checked tail_lsn ≤ lsn < next_lsn. */
static uint64_t find(const struct hk_ring_reader *r, uint64_t lsn)
{
    uint64_t low = r->tail, high = r->next;

    if (r->hint >= low && r->hint < high && slot_at(r, r->hint)->lsn <= lsn) {
        low = r->hint;
        /* Nearly always here or the one after. */
        for (uint32_t i = 0; i < 4 && low + 1 < high; i++) {
            if (slot_at(r, low + 1)->lsn > lsn)
                return low;
            low++;
        }
    }
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;

        if (slot_at(r, middle)->lsn <= lsn)
            low = middle;
        else
            high = middle;
    }
    return low;
}

struct pieces {
    struct iovec *iov;
    int count, max;
};

static int add(struct pieces *p, const void *base, uint64_t bytes)
{
    union {
        const void *in;
        void *out;
    } u = {.in = base};

    if (p->count == p->max)
        return -ENOSPC;
    p->iov[p->count].iov_base = u.out; /* iovec knows no const; the mapping is read-only */
    p->iov[p->count].iov_len = bytes;
    p->count++;
    return 0;
}

/* The part [from, from + *bytes) of one record's bytes; *bytes comes back as what was covered. */
static int add_record(const struct hk_ring_reader *r, uint64_t index, uint64_t from,
                      uint64_t *bytes, struct pieces *p)
{
    const struct hk_record *slot = slot_at(r, index);
    uint32_t payload_len = slot->payload_len;
    const uint8_t *payload = payload_of(r, index, payload_len);
    const struct {
        const uint8_t *base;
        uint64_t bytes;
    } part[3] = {{(const uint8_t *)slot, HK_RECORD_HEADER_BYTES},
                 {payload, payload_len},
                 {zero_line, hk_record_bytes(payload_len) - HK_RECORD_HEADER_BYTES - payload_len}};
    uint64_t wanted = *bytes, taken = 0;
    int rc = 0;

    if (!payload)
        return -EUCLEAN;
    for (unsigned i = 0; i < 3 && taken < wanted && rc == 0; i++) {
        uint64_t some;

        if (from >= part[i].bytes) {
            from -= part[i].bytes;
            continue;
        }
        some = hk_min_u64(part[i].bytes - from, wanted - taken);
        rc = add(p, part[i].base + from, some);
        taken += some;
        from = 0;
    }
    *bytes = taken;
    return rc;
}

int hk_ring_reader_gather(struct hk_ring_reader *r, struct hk_lsn lsn, uint32_t bytes,
                          struct iovec *iov, int max)
{
    struct pieces p = {.iov = iov, .max = max};
    uint64_t at = lsn.v, left = bytes, index;

    if (at < r->tail_lsn || at >= r->next_lsn || left > r->next_lsn - at)
        return -ERANGE;
    for (index = find(r, at); left > 0; index++) {
        uint64_t some = left;
        uint64_t start = slot_at(r, index)->lsn;
        int rc;

        if (index >= r->next || start > at)
            return -EUCLEAN;
        rc = add_record(r, index, at - start, &some, &p);
        if (rc)
            return rc;
        if (some == 0)
            return -EUCLEAN;
        at += some;
        left -= some;
        r->hint = index;
    }
    return p.count;
}

int hk_ring_reader_header_at(const struct hk_ring_reader *r, struct hk_lsn lsn,
                             struct hk_record *ret_record)
{
    if (lsn.v < r->tail_lsn || lsn.v >= r->next_lsn)
        return -ERANGE;
    *ret_record = *slot_at(r, find(r, lsn.v));
    return 0;
}

uint64_t hk_ring_reader_index_at(const struct hk_ring_reader *r, struct hk_lsn lsn)
{
    if (lsn.v >= r->next_lsn || r->tail == r->next)
        return r->next;
    return lsn.v < r->tail_lsn ? r->tail : find(r, lsn.v);
}

uint64_t hk_ring_reader_time_at(const struct hk_ring_reader *r, struct hk_lsn lsn)
{
    if (lsn.v >= r->next_lsn || r->tail == r->next)
        return 0;
    if (lsn.v < r->tail_lsn)
        return slot_at(r, r->tail)->time_ns;
    return slot_at(r, find(r, lsn.v))->time_ns;
}

uint64_t hk_ring_reader_undone(struct hk_ring_reader *r, uint64_t tail, uint64_t head)
{
    uint64_t at = hk_max_u64(r->done, tail);

    head = hk_min_u64(head, at + r->slot_mask + 1);
    while (at < head && __atomic_load_n(&r->sides[at & r->slot_mask].done, __ATOMIC_ACQUIRE))
        at++;
    r->done = at;
    if (at >= head)
        return 0;
    /* Reserved, but not published: the origin can't have been asked yet. */
    tail = __atomic_load_n(&r->sides[at & r->slot_mask].lsn, __ATOMIC_RELAXED);
    return hk_ring_load_acquire(&slot_at(r, at)->lsn) == tail ? tail : 0;
}

void hk_ring_reader_release(struct hk_ring_reader *r, struct hk_lsn lsn)
{
    while (r->tail < r->next) {
        uint64_t end = r->tail_lsn + hk_record_bytes(slot_at(r, r->tail)->payload_len);

        if (end > lsn.v)
            break;
        r->tail++;
        r->tail_lsn = end;
    }
}
