/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: segments are taken, batches go out, their completed prefix is durable. */
#include "replicator/store/journal.h"

#include "proto/bug.h"
#include "proto/hash.h"
#include "replicator/store/journal_internal.h"

#include <errno.h>

HK_STATIC_ASSERT((int)HK_JOURNAL_INFLIGHT <= (int)HK_TAG_HEADER, "tags do not overlap");

enum { SLOT_PAGES = 3 };

uint64_t hk_journal_segment_bytes_min(void)
{
    return HK_SEGMENT_HEADER_BYTES + HK_BATCH_HEADER_BYTES +
           hk_round_up(HK_RECORD_BYTES_MAX, HK_PAGE_BYTES) + HK_PAGE_BYTES;
}

size_t hk_journal_memory(const struct hk_journal_cfg *cfg)
{
    size_t per_segment = sizeof(struct hk_journal_segment) + sizeof(uint32_t);

    return cfg->segment_count * per_segment + 2 * 64 +
           (size_t)(HK_JOURNAL_INFLIGHT * SLOT_PAGES + 2 + 2) * HK_PAGE_BYTES +
           HK_JOURNAL_READ_BYTES + hk_journal_recovery_memory();
}

static bool cfg_ok(const struct hk_journal_cfg *c)
{
    if (!c->disk || !c->window || hk_uuid_is_nil(&c->group_id))
        return false;
    if (c->window_bytes & (c->window_bytes - 1))
        return false;
    if (c->window_bytes < hk_round_up(HK_RECORD_BYTES_MAX, HK_PAGE_BYTES))
        return false;
    if (c->segment_bytes % HK_PAGE_BYTES || c->segment_bytes < hk_journal_segment_bytes_min())
        return false;
    if (!c->spool && c->segment_count > HK_FILE_SPOOL_SEGMENT0 - HK_FILE_SEGMENT0)
        return false;
    return c->segment_count >= 2 && c->segment_count < UINT32_MAX - HK_FILE_SPOOL_SEGMENT0;
}

int hk_journal_init(struct hk_journal *j, const struct hk_journal_cfg *cfg, struct hk_arena *arena)
{
    uint8_t *pages;

    if (!cfg_ok(cfg))
        return -EINVAL;
    __builtin_memset(j, 0, sizeof(*j));
    j->cfg = *cfg;
    j->current = HK_NO_SEGMENT;
    j->taken = HK_NO_SEGMENT;
    j->segment = hk_arena_take(arena, cfg->segment_count * sizeof(*j->segment), 64);
    j->order = hk_arena_take(arena, cfg->segment_count * sizeof(*j->order), 64);
    pages =
        hk_arena_take(arena, (HK_JOURNAL_INFLIGHT * SLOT_PAGES + 2) * HK_PAGE_BYTES, HK_PAGE_BYTES);
    j->scan = hk_arena_take(arena, HK_JOURNAL_READ_BYTES, HK_PAGE_BYTES);
    if (!j->segment || !j->order || !pages || !j->scan)
        return -ENOMEM;
    for (uint32_t i = 0; i < HK_JOURNAL_INFLIGHT; i++)
        j->slot[i].page = pages + (size_t)i * SLOT_PAGES * HK_PAGE_BYTES;
    j->page = pages + (size_t)HK_JOURNAL_INFLIGHT * SLOT_PAGES * HK_PAGE_BYTES;
    return hk_journal_recovery_init(j, arena);
}

void hk_journal_fail(struct hk_journal *j, int error)
{
    HK_ASSERT(error < 0);
    if (j->state == HK_JOURNAL_FAILED)
        return;
    j->state = HK_JOURNAL_FAILED;
    j->error = error;
}

void hk_journal_checkpoint(struct hk_journal *j, struct hk_journal_segment *s, uint64_t lsn,
                           uint64_t offset)
{
    uint64_t i = offset / (j->cfg.segment_bytes / HK_JOURNAL_CHECKPOINTS + 1);

    HK_ASSERT(i < HK_JOURNAL_CHECKPOINTS);
    if (s->checkpoint_lsn[i] != 0)
        return;
    s->checkpoint_lsn[i] = lsn;
    s->checkpoint_offset[i] = offset;
}

/* --- Taking a segment --- */

static bool recyclable(const struct hk_journal *j, const struct hk_journal_segment *s)
{
    return s->live && s->end_lsn <= j->applied && s->readers == 0;
}

static uint32_t find_free(const struct hk_journal *j)
{
    for (uint32_t i = 0; i < j->cfg.segment_count; i++) {
        if (!j->segment[i].live)
            return i;
    }
    return HK_NO_SEGMENT;
}

/* Which file to take next: what retention is done with, a free one, then what it still wants. */
static uint32_t choose(struct hk_journal *j)
{
    uint32_t oldest = j->live_count > 0 ? j->order[0] : HK_NO_SEGMENT;
    uint32_t i;

    if (oldest != HK_NO_SEGMENT && (oldest == j->current || !recyclable(j, &j->segment[oldest])))
        oldest = HK_NO_SEGMENT;
    if (oldest != HK_NO_SEGMENT && j->segment[oldest].end_lsn <= j->retain)
        return oldest;
    i = find_free(j);
    if (i != HK_NO_SEGMENT || oldest == HK_NO_SEGMENT)
        return i;
    j->retention_cut_count++;
    return oldest;
}

static void forget(struct hk_journal *j, uint32_t i)
{
    HK_ASSERT(j->live_count > 0 && j->order[0] == i);
    HK_ASSERT(j->segment[i].end_lsn <= j->applied && j->segment[i].readers == 0);
    j->live_count--;
    __builtin_memmove(j->order, j->order + 1, j->live_count * sizeof(*j->order));
    j->recycled_count++;
}

static void submit_header(struct hk_journal *j, uint32_t i)
{
    struct hk_segment_header *h = (struct hk_segment_header *)(void *)j->page;

    __builtin_memset(h, 0, sizeof(*h));
    h->epoch_ordinal = j->ordinal;
    h->group_id = j->cfg.group_id;
    h->epoch_id = j->epoch_id;
    h->replica_id = j->cfg.replica_id;
    h->first_lsn = j->end;
    h->segment_bytes = j->cfg.segment_bytes;
    h->flags = j->begins ? HK_SEGMENT_BEGINS : 0;
    hk_segment_header_seal(h);
    j->op = (struct hk_diskop){.kind = HK_BUG(header_plain) ? HK_DISK_WRITE : HK_DISK_WRITE_DSYNC,
                               .file = hk_journal_file(j, i),
                               .bytes = sizeof(*h),
                               .iov = {{.base = h, .bytes = sizeof(*h)}},
                               .iov_count = 1,
                               .owner = hk_journal_owner(j),
                               .tag = HK_TAG_HEADER};
    j->cfg.disk->submit(j->cfg.disk, &j->op);
}

/*
 * Begins to take a segment, once all that was appended is durable: its header then proves that
 * everything below its first LSN was. -EAGAIN: begun, or not yet possible; -ENOSPC.
 */
static int take_segment(struct hk_journal *j)
{
    uint32_t i;

    HK_ASSERT(j->want_segment);
    if (j->slot_count > 0 || j->taking != HK_JOURNAL_OPEN)
        return -EAGAIN;
    HK_ASSERT(j->durable == j->end);
    i = choose(j);
    if (i == HK_NO_SEGMENT)
        return -ENOSPC;
    if (j->segment[i].live)
        forget(j, i);
    __builtin_memset(&j->segment[i], 0, sizeof(j->segment[i]));
    j->taking = HK_JOURNAL_HEADER;
    j->taken = i;
    submit_header(j, i);
    return -EAGAIN;
}

/* The header is durable: batches may go out while the name follows. */
static void segment_taken(struct hk_journal *j)
{
    struct hk_journal_segment *s = &j->segment[j->taken];

    HK_ASSERT(j->taking == HK_JOURNAL_HEADER && !s->live);
    HK_ASSERT(j->live_count < j->cfg.segment_count);
    s->live = true;
    s->begins = j->begins;
    s->ordinal = j->ordinal;
    s->epoch_id = j->epoch_id;
    s->first_lsn = j->end;
    s->end_lsn = j->end;
    s->end_offset = HK_SEGMENT_HEADER_BYTES;
    j->order[j->live_count++] = j->taken;
    j->current = j->taken;
    j->taken = HK_NO_SEGMENT;
    j->offset = HK_SEGMENT_HEADER_BYTES;
    j->want_segment = j->begins = false;
    j->named = false;
    j->taking = HK_JOURNAL_RENAME;
    hk_journal_submit_name(j, j->current, HK_TAG_RENAME);
}

void hk_journal_submit_name(struct hk_journal *j, uint32_t segment, uint32_t tag)
{
    const struct hk_journal_segment *s = &j->segment[segment];

    hk_segment_name(s->ordinal, &s->epoch_id, s->first_lsn, j->name);
    j->op = (struct hk_diskop){.kind = HK_DISK_RENAME,
                               .file = hk_journal_file(j, segment),
                               .name = j->name,
                               .owner = hk_journal_owner(j),
                               .tag = tag};
    j->cfg.disk->submit(j->cfg.disk, &j->op);
}

void hk_journal_submit_sync_dir(struct hk_journal *j, uint32_t tag)
{
    j->op = (struct hk_diskop){.kind = HK_DISK_SYNC_DIR,
                               .file = j->cfg.spool ? HK_FILE_SPOOL_DIR : HK_FILE_JOURNAL_DIR,
                               .owner = hk_journal_owner(j),
                               .tag = tag};
    j->cfg.disk->submit(j->cfg.disk, &j->op);
}

/* --- Appending --- */

uint64_t hk_journal_batch_bytes_max(const struct hk_journal *j)
{
    uint64_t room =
        j->cfg.segment_bytes - HK_SEGMENT_HEADER_BYTES - HK_BATCH_HEADER_BYTES - HK_PAGE_BYTES;

    return hk_min_u64(hk_min_u64(HK_BATCH_BYTES_MAX, room), j->cfg.window_bytes);
}

static const uint8_t *window_at(const struct hk_journal *j, uint64_t lsn)
{
    return j->cfg.window + (lsn & (j->cfg.window_bytes - 1));
}

static uint64_t data_hash(const struct hk_journal *j, uint64_t first, uint64_t bytes)
{
    uint64_t to_wrap = j->cfg.window_bytes - (first & (j->cfg.window_bytes - 1));
    uint64_t seed = hk_epoch_seed(&j->epoch_id);

    if (bytes <= to_wrap)
        return hk_xxh64(window_at(j, first), bytes, seed);
    return hk_xxh64_2(window_at(j, first), to_wrap, j->cfg.window, bytes - to_wrap, seed);
}

static void seal_header(struct hk_journal *j, uint8_t *page, uint64_t first, uint64_t bytes)
{
    struct hk_batch_header *h = (struct hk_batch_header *)(void *)page;

    __builtin_memset(h, 0, sizeof(*h));
    h->epoch_ordinal = j->ordinal;
    h->epoch_id = j->epoch_id;
    h->first_lsn = first;
    h->bytes = bytes;
    h->durable = HK_BUG(stamp_ahead) ? first : j->durable;
    h->data_hash = data_hash(j, first, bytes);
    hk_batch_header_seal(h);
}

static void add_iov(struct hk_diskop *op, const void *base, uint64_t bytes)
{
    if (bytes == 0)
        return;
    HK_ASSERT(op->iov_count < HK_ARRAY_SIZE(op->iov));
    HK_ASSERT((uintptr_t)base % HK_PAGE_BYTES == 0 && bytes % HK_PAGE_BYTES == 0);
    op->iov[op->iov_count].base = (void *)(uintptr_t)base;
    op->iov[op->iov_count++].bytes = bytes;
    op->bytes += bytes;
}

/*
 * The pages of a batch: first and last as copies, those between straight from the window. The
 * copies are there because bytes next to the batch may be received while it is being written, and
 * devices that checksum blocks on the way want pages that stand still.
 */
static void set_pages(struct hk_journal *j, struct hk_journal_slot *slot, uint64_t first,
                      uint64_t bytes)
{
    uint64_t from = hk_round_down(first, HK_PAGE_BYTES), end = first + bytes;
    uint64_t to = hk_round_down(end, HK_PAGE_BYTES);
    uint64_t head = from == first ? 0 : HK_PAGE_BYTES;
    uint64_t middle, to_wrap;
    uint8_t *tail = slot->page + 2 * HK_PAGE_BYTES;

    if (head) {
        /* Bytes below `first` repeat the last batch's, those behind the end are nothing yet. */
        __builtin_memcpy(slot->page + HK_PAGE_BYTES, window_at(j, from), HK_PAGE_BYTES);
        if (end < from + HK_PAGE_BYTES)
            __builtin_memset(slot->page + HK_PAGE_BYTES + (end - from), 0,
                             from + HK_PAGE_BYTES - end);
        from += HK_PAGE_BYTES;
    }
    add_iov(&slot->op, slot->page, HK_BATCH_HEADER_BYTES + head);
    middle = to > from ? to - from : 0;
    to_wrap = j->cfg.window_bytes - (from & (j->cfg.window_bytes - 1));
    add_iov(&slot->op, window_at(j, from), hk_min_u64(middle, to_wrap));
    if (middle > to_wrap)
        add_iov(&slot->op, j->cfg.window, middle - to_wrap);
    if (end > to && to >= from) {
        __builtin_memcpy(tail, window_at(j, to), end - to);
        __builtin_memset(tail + (end - to), 0, HK_PAGE_BYTES - (end - to));
        add_iov(&slot->op, tail, HK_PAGE_BYTES);
    }
}

/* model: sync.pml, JOURNAL_SUBMITTED */
static void submit_batch(struct hk_journal *j, uint64_t first, uint64_t bytes)
{
    uint32_t i = (j->slot_head + j->slot_count++) % HK_JOURNAL_INFLIGHT;
    struct hk_journal_slot *slot = &j->slot[i];

    seal_header(j, slot->page, first, bytes);
    slot->op = (struct hk_diskop){.kind = HK_BUG(plain_write) ? HK_DISK_WRITE : HK_DISK_WRITE_DSYNC,
                                  .file = hk_journal_file(j, j->current),
                                  .offset = j->offset,
                                  .owner = hk_journal_owner(j),
                                  .tag = HK_TAG_BATCH + i};
    set_pages(j, slot, first, bytes);
    HK_ASSERT(slot->op.bytes == hk_batch_file_bytes(first, bytes));
    slot->segment = j->current;
    slot->done = false;
    slot->end_lsn = first + bytes;
    j->offset += slot->op.bytes;
    slot->end_offset = j->offset;
    j->end = slot->end_lsn;
    j->cfg.disk->submit(j->cfg.disk, &slot->op);
}

bool hk_journal_takes(const struct hk_journal *j)
{
    if (j->state != HK_JOURNAL_RUNNING)
        return true; /* the append says why not */
    if (j->want_segment)
        return j->slot_count == 0 && j->taking == HK_JOURNAL_OPEN;
    return j->slot_count < HK_JOURNAL_INFLIGHT && j->taking != HK_JOURNAL_HEADER;
}

int hk_journal_append(struct hk_journal *j, uint64_t first_lsn, uint64_t bytes)
{
    if (j->state == HK_JOURNAL_FAILED)
        return j->error;
    HK_ASSERT(j->state == HK_JOURNAL_RUNNING && j->ordinal != 0);
    HK_ASSERT(first_lsn == j->end);
    HK_ASSERT(bytes > 0 && bytes % HK_RECORD_ALIGN == 0);
    HK_ASSERT(bytes <= hk_journal_batch_bytes_max(j));
    if (j->taking == HK_JOURNAL_HEADER)
        return -EAGAIN;
    if (!j->want_segment)
        j->want_segment = j->offset + hk_batch_file_bytes(first_lsn, bytes) > j->cfg.segment_bytes;
    if (j->want_segment)
        return take_segment(j);
    if (j->slot_count == HK_JOURNAL_INFLIGHT)
        return -EAGAIN;
    submit_batch(j, first_lsn, bytes);
    return 0;
}

int hk_journal_begin_epoch(struct hk_journal *j, uint32_t ordinal, const struct hk_uuid *id,
                           uint64_t first_lsn)
{
    if (j->state == HK_JOURNAL_FAILED)
        return j->error;
    HK_ASSERT(j->state == HK_JOURNAL_RUNNING);
    if (ordinal == j->ordinal && hk_uuid_equal(id, &j->epoch_id))
        return 0;
    if (ordinal <= j->ordinal || hk_uuid_is_nil(id) || first_lsn < j->end || first_lsn == 0 ||
        first_lsn % HK_RECORD_ALIGN != 0)
        return -EINVAL;
    if (!hk_journal_idle(j))
        return -EAGAIN;
    j->ordinal = ordinal;
    j->epoch_id = *id;
    j->end = first_lsn;
    j->durable = first_lsn;
    j->want_segment = true;
    j->begins = j->cfg.spool;
    return 0;
}

int hk_journal_skip(struct hk_journal *j, uint64_t lsn)
{
    HK_ASSERT(j->cfg.spool && lsn % HK_RECORD_ALIGN == 0);
    if (j->state == HK_JOURNAL_FAILED)
        return j->error;
    HK_ASSERT(j->state == HK_JOURNAL_RUNNING && j->ordinal != 0 && lsn >= j->end);
    if (!hk_journal_idle(j))
        return -EAGAIN;
    j->end = j->durable = j->applied = lsn;
    j->want_segment = j->begins = true;
    return 0;
}

/* --- Completions --- */

/* The completed prefix becomes durable, as soon as its segment's name is. */
static void advance(struct hk_journal *j)
{
    while (j->slot_count > 0 && j->named) {
        struct hk_journal_slot *slot = &j->slot[j->slot_head];
        struct hk_journal_segment *s = &j->segment[slot->segment];

        if (!slot->done)
            break;
        HK_ASSERT(slot->segment == j->current && slot->end_lsn > j->durable);
        HK_ASSERT(s->end_lsn == j->durable && s->end_offset < slot->end_offset);
        hk_journal_checkpoint(j, s, s->end_lsn, s->end_offset);
        s->end_lsn = slot->end_lsn;
        s->end_offset = slot->end_offset;
        j->durable = slot->end_lsn;
        j->slot_head = (j->slot_head + 1) % HK_JOURNAL_INFLIGHT;
        j->slot_count--;
    }
    if (j->want_segment && hk_journal_idle(j))
        take_segment(j);
}

/* model: sync.pml, JOURNAL_WRITTEN; promote.pml, JOURNAL_DURABLE; resync.pml, RECORD_DURABLE */
static void running_done(struct hk_journal *j, struct hk_diskop *op)
{
    HK_ASSERT(j->state == HK_JOURNAL_RUNNING);
    if (op->tag < HK_TAG_BATCH + HK_JOURNAL_INFLIGHT) {
        HK_ASSERT(op == &j->slot[op->tag - HK_TAG_BATCH].op);
        j->slot[op->tag - HK_TAG_BATCH].done = true;
    } else if (op->tag == HK_TAG_HEADER) {
        segment_taken(j);
    } else if (op->tag == HK_TAG_RENAME) {
        j->taking = HK_JOURNAL_SYNC;
        hk_journal_submit_sync_dir(j, HK_TAG_SYNC_DIR);
    } else {
        HK_ASSERT(op->tag == HK_TAG_SYNC_DIR && j->taking == HK_JOURNAL_SYNC);
        j->taking = HK_JOURNAL_OPEN;
        j->named = true;
    }
    advance(j);
}

void hk_journal_disk_done(struct hk_journal *j, struct hk_diskop *op)
{
    HK_ASSERT(op->owner == hk_journal_owner(j));
    if (op->tag >= HK_TAG_READER) {
        HK_ASSERT(op->tag - HK_TAG_READER < j->reader_count);
        hk_journal_reader_done(j, j->reader[op->tag - HK_TAG_READER]);
        return;
    }
    if (j->state == HK_JOURNAL_FAILED)
        return;
    if (op->tag == HK_TAG_RECOVERY) {
        hk_journal_recovery_done(j, op);
        return;
    }
    /* A write or flush that failed is final; what it carried is never written again (I11). */
    if ((op->result < 0 && !HK_BUG(journal_error_swallowed)) ||
        (op->result > 0 && !HK_BUG(short_write_whole)))
        hk_journal_fail(j, op->result < 0 ? op->result : -EIO);
    else
        running_done(j, op);
}

/* --- What the owner wants to know --- */

uint64_t hk_journal_end(const struct hk_journal *j)
{
    return j->end;
}

uint64_t hk_journal_durable(const struct hk_journal *j)
{
    if (HK_BUG(ack_before_flush))
        return j->end;
    for (uint32_t i = j->slot_count; HK_BUG(durable_gap) && i > 0; i--) {
        const struct hk_journal_slot *s = &j->slot[(j->slot_head + i - 1) % HK_JOURNAL_INFLIGHT];

        if (s->done)
            return s->end_lsn;
    }
    return j->durable;
}

bool hk_journal_idle(const struct hk_journal *j)
{
    return j->slot_count == 0 && j->taking == HK_JOURNAL_OPEN;
}

void hk_journal_applied(struct hk_journal *j, uint64_t lsn)
{
    HK_ASSERT(lsn <= j->durable);
    j->applied = hk_max_u64(j->applied, lsn);
}

void hk_journal_retain(struct hk_journal *j, uint64_t lsn)
{
    j->retain = lsn;
}

uint64_t hk_journal_used(const struct hk_journal *j)
{
    uint64_t used = 0;

    for (uint32_t i = 0; i < j->live_count; i++) {
        const struct hk_journal_segment *s = &j->segment[j->order[i]];

        bool current = j->order[i] == j->current;

        if (s->end_lsn <= j->applied && !(current && j->slot_count > 0))
            continue;
        used += current && !j->want_segment ? j->offset : j->cfg.segment_bytes;
    }
    return used;
}

uint64_t hk_journal_held(const struct hk_journal *j)
{
    uint64_t held = 0;

    for (uint32_t i = 0; i < j->live_count; i++) {
        bool filling = j->order[i] == j->current && !j->want_segment;

        held += filling ? j->offset : j->cfg.segment_bytes;
    }
    return held;
}

uint64_t hk_journal_total(const struct hk_journal *j)
{
    return j->cfg.segment_bytes * j->cfg.segment_count;
}

uint64_t hk_journal_oldest(const struct hk_journal *j)
{
    return j->live_count > 0 ? j->segment[j->order[0]].first_lsn : j->end;
}

const char *hk_journal_verdict_text(enum hk_journal_verdict v)
{
    switch (v) {
    case HK_JOURNAL_CLEAN: return "clean";
    case HK_JOURNAL_TORN: return "torn or corrupt beyond the last durable stamp, can't tell";
    case HK_JOURNAL_CORRUPT: return "corrupt below what had been reported durable";
    case HK_JOURNAL_FOREIGN: return "segments of another group, replica or line of history";
    case HK_JOURNAL_UNREADABLE: return "unreadable";
    case HK_JOURNAL_VERDICTS: break;
    }
    return "unknown verdict";
}
