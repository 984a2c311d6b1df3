/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: whole batches back out of the segments, their hashes checked. */
#include "proto/hash.h"
#include "replicator/store/journal_internal.h"

#include <errno.h>

HK_STATIC_ASSERT(HK_JOURNAL_READ_BYTES % HK_PAGE_BYTES == 0, "reads are whole pages");

size_t hk_journal_reader_memory(void)
{
    return HK_JOURNAL_READ_BYTES + HK_PAGE_BYTES;
}

int hk_journal_reader_init(struct hk_journal *j, struct hk_journal_reader *r,
                           struct hk_arena *arena)
{
    if (j->reader_count == HK_JOURNAL_READERS)
        return -ENOSPC;
    __builtin_memset(r, 0, sizeof(*r));
    r->segment = HK_NO_SEGMENT;
    /* Recovery is over before anybody reads, so the first reader has its buffer. */
    r->buffer =
        j->reader_count == 0 ? j->scan : hk_arena_take(arena, HK_JOURNAL_READ_BYTES, HK_PAGE_BYTES);
    if (!r->buffer)
        return -ENOMEM;
    j->reader[j->reader_count++] = r;
    return 0;
}

/* The live segment that holds `lsn`. HK_NO_SEGMENT: none does. */
static uint32_t find_segment(const struct hk_journal *j, uint64_t lsn)
{
    uint32_t lo = 0, hi = j->live_count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (j->segment[j->order[mid]].first_lsn <= lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0 || lsn >= j->segment[j->order[lo - 1]].end_lsn)
        return HK_NO_SEGMENT;
    return j->order[lo - 1];
}

/* The nearest known batch start at or below `lsn`. */
static void find_start(const struct hk_journal *j, const struct hk_journal_reader *r,
                       uint32_t segment, uint64_t lsn, uint64_t *ret_at, uint64_t *ret_offset)
{
    const struct hk_journal_segment *s = &j->segment[segment];

    *ret_at = s->first_lsn;
    *ret_offset = HK_SEGMENT_HEADER_BYTES;
    for (uint32_t i = 0; i < HK_JOURNAL_CHECKPOINTS; i++) {
        if (s->checkpoint_lsn[i] != 0 && s->checkpoint_lsn[i] <= lsn &&
            s->checkpoint_lsn[i] > *ret_at) {
            *ret_at = s->checkpoint_lsn[i];
            *ret_offset = s->checkpoint_offset[i];
        }
    }
    if (r->segment == segment && r->segment_first == s->first_lsn && r->batch_lsn <= lsn &&
        r->batch_lsn > *ret_at) {
        *ret_at = r->batch_lsn;
        *ret_offset = r->batch_offset;
    }
}

/* Where the readable part of a segment ends: what is in flight is not read. */
static uint64_t readable_end(const struct hk_journal *j, uint32_t segment)
{
    const struct hk_journal_segment *s = &j->segment[segment];

    return s->end_offset != 0 ? s->end_offset : j->cfg.segment_bytes;
}

static const uint8_t *in_buffer(const struct hk_journal_reader *r, uint64_t offset, uint64_t bytes)
{
    if (offset < r->offset || offset + bytes > r->offset + r->bytes)
        return NULL;
    return r->buffer + (offset - r->offset);
}

/*
 * Reads on from the batch that starts at `lsn` and `offset`. That start is remembered: from the
 * nearest checkpoint it may lie further away than a buffer reaches, and would never be found again.
 */
static int submit_read(struct hk_journal *j, struct hk_journal_reader *r, uint32_t segment,
                       uint64_t lsn, uint64_t offset)
{
    uint64_t end = readable_end(j, segment);
    uint32_t index = 0;

    if (offset >= end)
        return -EUCLEAN;
    while (j->reader[index] != r)
        index++;
    HK_ASSERT(index < j->reader_count);
    r->segment = segment;
    r->segment_first = j->segment[segment].first_lsn;
    r->offset = offset;
    r->bytes = hk_min_u64(HK_JOURNAL_READ_BYTES, end - offset);
    r->batch_lsn = lsn;
    r->batch_offset = offset;
    r->op = (struct hk_diskop){.kind = HK_DISK_READ,
                               .file = hk_journal_file(j, segment),
                               .offset = offset,
                               .bytes = r->bytes,
                               .iov = {{.base = r->buffer, .bytes = r->bytes}},
                               .iov_count = 1,
                               .owner = hk_journal_owner(j),
                               .tag = HK_TAG_READER + index};
    r->busy = true;
    j->segment[segment].readers++;
    j->cfg.disk->submit(j->cfg.disk, &r->op);
    return -EINPROGRESS;
}

void hk_journal_reader_done(struct hk_journal *j, struct hk_journal_reader *r)
{
    HK_ASSERT(r->busy && r->segment < j->cfg.segment_count);
    HK_ASSERT(j->segment[r->segment].readers > 0);
    j->segment[r->segment].readers--;
    r->busy = false;
    if (r->op.result == 0)
        return;
    r->error = r->op.result < 0 ? r->op.result : -EIO;
    r->segment = HK_NO_SEGMENT;
}

/* The batch at `offset` holds `lsn` and is in the buffer: check it and hand it out. */
static int give(struct hk_journal_reader *r, const struct hk_batch_header *h, uint64_t offset,
                uint64_t lsn)
{
    const uint8_t *data = hk_batch_data((const uint8_t *)h, h->first_lsn);

    if (h->data_hash != hk_xxh64(data, h->bytes, hk_epoch_seed(&h->epoch_id)))
        return -EUCLEAN;
    r->batch_offset = offset;
    r->batch_lsn = h->first_lsn;
    r->ordinal = h->epoch_ordinal;
    r->first = lsn;
    r->end = h->first_lsn + h->bytes;
    r->data = data + (lsn - h->first_lsn);
    return 0;
}

int hk_journal_read(struct hk_journal *j, struct hk_journal_reader *r, uint64_t lsn)
{
    uint64_t at, offset;
    uint32_t segment;
    int error = r->error;

    HK_ASSERT(j->state == HK_JOURNAL_RUNNING || j->state == HK_JOURNAL_FAILED);
    if (r->busy)
        return -EINPROGRESS;
    if (error == 0 && j->state == HK_JOURNAL_FAILED && !j->cfg.spool)
        error = j->error;
    r->error = 0;
    if (error != 0)
        return error;
    if (lsn >= j->durable)
        return -ENODATA;
    segment = find_segment(j, lsn);
    if (segment == HK_NO_SEGMENT)
        return -ERANGE;
    if (r->segment != segment || r->segment_first != j->segment[segment].first_lsn)
        r->bytes = 0;
    find_start(j, r, segment, lsn, &at, &offset);
    for (;;) {
        const struct hk_batch_header *h = (const void *)in_buffer(r, offset, HK_BATCH_HEADER_BYTES);
        uint64_t bytes;

        if (!h)
            return submit_read(j, r, segment, at, offset);
        if (hk_batch_header_check(h, &j->segment[segment].epoch_id, at) != HK_SEGMENT_OK)
            return -EUCLEAN;
        bytes = hk_batch_file_bytes(h->first_lsn, h->bytes);
        if (offset + bytes > readable_end(j, segment))
            return -EUCLEAN;
        if (lsn < at + h->bytes) {
            if (!in_buffer(r, offset, bytes))
                return submit_read(j, r, segment, at, offset);
            return give(r, h, offset, lsn);
        }
        at += h->bytes;
        offset += bytes;
        if (offset >= readable_end(j, segment))
            return -EUCLEAN;
    }
}
