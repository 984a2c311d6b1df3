/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: how far does the journal reach, and is what is missing allowed to be missing. The
 * argument is in journal.h. Phases: LOOK at the head of every file, SEARCH those whose header is
 * damaged; sort; SCAN the chain from `applied` on; TAIL: search behind its end; FLUSH what was
 * relied on; NAME the newest segment.
 */
#include "proto/bug.h"
#include "proto/hash.h"
#include "replicator/store/journal_internal.h"
#include "replicator/store/line.h"

#include <errno.h>

enum phase { LOOK, SEARCH, SCAN, TAIL, FLUSH, NAME, SYNC };

struct hk_journal_recovery {
    enum phase phase;
    struct hk_history history;
    uint64_t applied;    /* a position of the line, never in a hole */
    bool applied_seen;   /* it is a record boundary of the chain */
    uint32_t epoch;      /* index into history: of the next byte */
    uint64_t at;         /* next LSN of the chain */
    uint32_t prev_bytes; /* of the record that ends there; HK_PREV_UNKNOWN */
    uint64_t turn_lsn;
    uint8_t turn_type;
    uint32_t first_order, order; /* scanned from, scanning: indices into j->order */
    uint64_t offset;             /* in the segment, of the next batch or page */
    uint64_t limit;              /* LSN the segment being scanned must reach, since a later one or
                                   a later epoch proves that it was durable; UINT64_MAX: the last */
    uint64_t piece_offset, piece_bytes; /* what of the segment is in the buffer */
    uint64_t far_end;                   /* end of the farthest batch of which anything was seen */
    uint64_t stray_end;  /* the same of batches in files whose own header is damaged */
    uint64_t shadow_lsn; /* first LSN of the newest batch under a header not its own */
    uint32_t shadow_slot;
    uint32_t slot; /* LOOK, SEARCH: file; FLUSH: index into order */
};

size_t hk_journal_recovery_memory(void)
{
    return sizeof(struct hk_journal_recovery) + 64;
}

int hk_journal_recovery_init(struct hk_journal *j, struct hk_arena *arena)
{
    j->recovery = hk_arena_take(arena, sizeof(*j->recovery), 64);
    return j->recovery ? 0 : -ENOMEM;
}

static void submit(struct hk_journal *j, enum hk_disk_kind kind, uint32_t segment, uint64_t offset,
                   uint8_t *buffer, uint64_t bytes)
{
    j->op = (struct hk_diskop){.kind = kind,
                               .file = hk_journal_file(j, segment),
                               .owner = hk_journal_owner(j),
                               .tag = HK_TAG_RECOVERY};
    if (kind == HK_DISK_READ) {
        j->op.offset = offset;
        j->op.bytes = bytes;
        j->op.iov[0] = (struct hk_iovec){.base = buffer, .bytes = bytes};
        j->op.iov_count = 1;
    }
    j->cfg.disk->submit(j->cfg.disk, &j->op);
}

static void stop(struct hk_journal *j, enum hk_journal_verdict verdict, int error)
{
    j->result.verdict = verdict;
    j->result.error = error;
    hk_journal_fail(j, error);
}

static void corrupt(struct hk_journal *j, uint64_t lsn, uint32_t slot)
{
    j->result.bad_lsn = lsn;
    j->result.bad_slot = slot;
    stop(j, HK_JOURNAL_CORRUPT, -EUCLEAN);
}

static void foreign(struct hk_journal *j, uint32_t slot)
{
    j->result.bad_slot = slot;
    stop(j, HK_JOURNAL_FOREIGN, -EMEDIUMTYPE);
}

/* --- LOOK --- */

static void look_at(struct hk_journal *j, uint32_t slot)
{
    j->recovery->phase = LOOK;
    j->recovery->slot = slot;
    submit(j, HK_DISK_READ, slot, 0, j->page, HK_SEGMENT_HEADER_BYTES + HK_BATCH_HEADER_BYTES);
}

void hk_journal_recover(struct hk_journal *j, const struct hk_history *history, uint64_t applied)
{
    struct hk_journal_recovery *v = j->recovery;

    HK_ASSERT(j->state == HK_JOURNAL_NEW);
    HK_ASSERT(!hk_uuid_is_nil(&j->cfg.replica_id));
    HK_ASSERT(hk_history_check(history) == 0);
    j->state = HK_JOURNAL_RECOVERING;
    v->history = *history;
    v->applied = applied;
    if (history->count > 0 && !j->cfg.spool && !hk_history_reaches(history, applied)) {
        foreign(j, HK_NO_SEGMENT); /* what is to be applied lies in an epoch nobody knows */
        return;
    }
    look_at(j, 0);
}

/* An epoch that fell out of the bounded history: nothing may need its segments any more. */
static bool is_forgotten(const struct hk_history *h, uint32_t ordinal)
{
    return h->count > 0 && ordinal < h->epoch[0].ordinal;
}

/* Takes a valid segment header in; false: recovery has ended. */
static bool take_in(struct hk_journal *j, const struct hk_segment_header *h, uint32_t slot)
{
    const struct hk_history *history = &j->recovery->history;
    struct hk_journal_segment *s = &j->segment[slot];
    const struct hk_epoch *e;

    if (!hk_uuid_equal(&h->group_id, &j->cfg.group_id) ||
        !hk_uuid_equal(&h->replica_id, &j->cfg.replica_id) ||
        h->segment_bytes != j->cfg.segment_bytes) {
        foreign(j, slot);
        return false;
    }
    if (is_forgotten(history, h->epoch_ordinal))
        return true;
    e = hk_history_find(history, &h->epoch_id);
    if (!e || e->ordinal != h->epoch_ordinal) {
        foreign(j, slot);
        return false;
    }
    /* A spool's parent epochs ended where the standby was, which has all of them that counts. */
    if (j->cfg.spool && e != hk_history_last(history))
        return true;
    if (h->first_lsn < e->first_lsn ||
        h->first_lsn > hk_line_epoch_end(history, (uint32_t)(e - history->epoch))) {
        corrupt(j, h->first_lsn, slot);
        return false;
    }
    s->live = true;
    s->begins = h->flags & HK_SEGMENT_BEGINS;
    s->ordinal = h->epoch_ordinal;
    s->epoch_id = h->epoch_id;
    s->first_lsn = h->first_lsn;
    j->order[j->live_count++] = slot;
    return true;
}

static void sort_and_scan(struct hk_journal *j);
static bool have(const struct hk_journal_recovery *v, uint64_t bytes);

static void look_on(struct hk_journal *j)
{
    if (j->recovery->slot + 1 < j->cfg.segment_count)
        look_at(j, j->recovery->slot + 1);
    else
        sort_and_scan(j);
}

/*
 * A file whose header is neither whole nor blank: cut off while the file was taken (then it holds
 * an older life, all of it below `applied`), or damaged, and then it holds a piece of the log that
 * the chain will miss. Its batches tell: a stamp is never a lie.
 */
static void search(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;

    v->phase = SEARCH;
    for (; v->offset + HK_PAGE_BYTES <= j->cfg.segment_bytes; v->offset += HK_PAGE_BYTES) {
        const struct hk_batch_header *b;

        if (!have(v, HK_PAGE_BYTES)) {
            v->piece_offset = v->offset;
            v->piece_bytes =
                hk_min_u64(HK_JOURNAL_READ_BYTES, j->cfg.segment_bytes - v->piece_offset);
            submit(j, HK_DISK_READ, v->slot, v->piece_offset, j->scan, v->piece_bytes);
            return;
        }
        b = (const void *)(j->scan + (v->offset - v->piece_offset));
        if (hk_batch_header_check(b, NULL, 0) != HK_SEGMENT_OK ||
            !hk_history_find(&v->history, &b->epoch_id))
            continue;
        j->result.stamp = hk_max_u64(j->result.stamp, b->durable);
        if (hk_uuid_equal(&b->epoch_id, &hk_history_last(&v->history)->id))
            v->stray_end = hk_max_u64(v->stray_end, b->first_lsn + b->bytes);
    }
    v->piece_bytes = 0;
    look_on(j);
}

static bool is_blank(const uint8_t *page)
{
    uint8_t any = 0;

    for (size_t i = 0; i < HK_PAGE_BYTES; i++)
        any |= page[i];
    return any == 0;
}

/* The batch at the head of a file: is it the one that its segment header announces? */
static void look_at_first(struct hk_journal *j, const struct hk_batch_header *b)
{
    struct hk_journal_recovery *v = j->recovery;
    const struct hk_journal_segment *s = &j->segment[v->slot];
    bool own = s->live && hk_uuid_equal(&s->epoch_id, &b->epoch_id) && s->first_lsn == b->first_lsn;

    if (hk_batch_header_check(b, NULL, 0) != HK_SEGMENT_OK ||
        !hk_history_find(&v->history, &b->epoch_id))
        return;
    j->result.stamp = hk_max_u64(j->result.stamp, b->durable);
    if (!own && b->first_lsn > v->shadow_lsn) {
        v->shadow_lsn = b->first_lsn;
        v->shadow_slot = v->slot;
    }
}

static void look_done(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;
    const struct hk_segment_header *h = (const void *)j->page;
    bool whole = hk_segment_header_check(h) == HK_SEGMENT_OK;

    if (whole && !take_in(j, h, v->slot))
        return;
    look_at_first(j, (const void *)(j->page + HK_SEGMENT_HEADER_BYTES));
    if (whole || is_blank(j->page) || HK_BUG(stray_unsearched)) {
        look_on(j);
        return;
    }
    v->offset = 0;
    v->piece_bytes = 0;
    search(j);
}

static bool precedes(const struct hk_journal *j, uint32_t a, uint32_t b)
{
    const struct hk_journal_segment *sa = &j->segment[a], *sb = &j->segment[b];

    if (sa->ordinal != sb->ordinal)
        return sa->ordinal < sb->ordinal;
    return sa->first_lsn < sb->first_lsn;
}

/* Shell sort: there may be thousands of segments, and no memory for more. */
static void sort_segments(struct hk_journal *j)
{
    for (uint32_t gap = j->live_count / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < j->live_count; i++) {
            uint32_t slot = j->order[i], k = i;

            for (; k >= gap && precedes(j, slot, j->order[k - gap]); k -= gap)
                j->order[k] = j->order[k - gap];
            j->order[k] = slot;
        }
    }
}

/* Ends as far as the headers tell; the scan learns the true end of the last one. */
static bool set_ends(struct hk_journal *j)
{
    const struct hk_history *history = &j->recovery->history;

    for (uint32_t i = 0; i < j->live_count; i++) {
        struct hk_journal_segment *s = &j->segment[j->order[i]];
        const struct hk_journal_segment *next =
            i + 1 < j->live_count ? &j->segment[j->order[i + 1]] : NULL;
        const struct hk_epoch *e = hk_history_find(history, &s->epoch_id);

        s->end_lsn = hk_line_epoch_end(history, (uint32_t)(e - history->epoch));
        if (next && next->ordinal == s->ordinal) {
            if (next->first_lsn == s->first_lsn) {
                corrupt(j, s->first_lsn, j->order[i + 1]);
                return false;
            }
            s->end_lsn = next->first_lsn;
        }
    }
    return true;
}

/* --- SCAN --- */

static void finish(struct hk_journal *j);
static void scan(struct hk_journal *j);

static struct hk_journal_segment *scanned(struct hk_journal *j)
{
    return &j->segment[j->order[j->recovery->order]];
}

/*
 * The chain stands at v->at, at the end of all segments before v->order. Goes on in the next one,
 * which must begin exactly here; without one this is the end.
 */
static void next_segment(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;
    const struct hk_epoch *e;
    struct hk_journal_segment *s;

    v->epoch = (uint32_t)hk_line_seek(&v->history, v->at, &v->at);
    e = &v->history.epoch[v->epoch];
    if (v->at == v->applied)
        v->applied_seen = true;
    if (v->at == e->first_lsn)
        v->prev_bytes = 0;
    /* One taken at the very end of its epoch, which then got no more bytes. */
    while (v->order < j->live_count && scanned(j)->ordinal < e->ordinal &&
           scanned(j)->first_lsn == scanned(j)->end_lsn)
        v->order++;
    if (v->order == j->live_count) {
        /* A later epoch was begun only when all of this one was durable here. */
        if (v->epoch + 1 < v->history.count)
            corrupt(j, v->at, HK_NO_SEGMENT);
        else
            finish(j);
        return;
    }
    s = scanned(j);
    if (s->ordinal != e->ordinal || s->first_lsn != v->at) {
        corrupt(j, v->at, j->order[v->order]);
        return;
    }
    v->offset = HK_SEGMENT_HEADER_BYTES;
    v->piece_bytes = 0;
    v->limit = s->end_lsn;
    j->current = j->order[v->order];
    scan(j);
}

/* Where the chain of a spool begins; what an older epoch left is not needed. */
static uint64_t spool_begin(const struct hk_journal *j)
{
    const struct hk_epoch *e = hk_history_last(&j->recovery->history);
    uint64_t begin = 0;

    for (uint32_t i = 0; i < j->live_count; i++) {
        const struct hk_journal_segment *s = &j->segment[j->order[i]];

        if (s->ordinal == e->ordinal && (begin == 0 || s->begins))
            begin = s->first_lsn;
    }
    return begin ? begin : e->first_lsn;
}

static void sort_and_scan(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;
    const struct hk_epoch *e;
    int epoch;

    if (v->history.count == 0) {
        /* No segment was taken in, for want of a known epoch. */
        HK_ASSERT(j->live_count == 0);
        finish(j);
        return;
    }
    sort_segments(j);
    if (!set_ends(j))
        return;
    if (j->cfg.spool)
        v->applied = j->result.begin = spool_begin(j);
    epoch = hk_line_seek(&v->history, v->applied, &v->applied);
    e = &v->history.epoch[epoch];
    v->order = j->live_count;
    while (v->order > 0) {
        const struct hk_journal_segment *s = &j->segment[j->order[v->order - 1]];

        if (s->ordinal < e->ordinal)
            break;
        v->order--;
        if (s->ordinal == e->ordinal && s->first_lsn <= v->applied)
            break;
    }
    v->first_order = v->order;
    v->prev_bytes = HK_PREV_UNKNOWN;
    /* Either that segment holds `applied`, or the epoch has yet to write its first one. */
    v->at = e->first_lsn;
    if (v->order < j->live_count && scanned(j)->ordinal == e->ordinal)
        v->at = scanned(j)->first_lsn;
    if (v->at > v->applied)
        corrupt(j, v->applied, HK_NO_SEGMENT);
    else
        next_segment(j);
}

/* Fetches the segment from v->offset on. */
static void fetch(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;

    HK_ASSERT(v->offset < j->cfg.segment_bytes);
    v->piece_offset = v->offset;
    v->piece_bytes = hk_min_u64(HK_JOURNAL_READ_BYTES, j->cfg.segment_bytes - v->offset);
    j->result.scanned_bytes += v->piece_bytes;
    submit(j, HK_DISK_READ, j->current, v->piece_offset, j->scan, v->piece_bytes);
}

static bool have(const struct hk_journal_recovery *v, uint64_t bytes)
{
    return v->offset >= v->piece_offset && v->offset + bytes <= v->piece_offset + v->piece_bytes;
}

/* Every record of a batch whose hashes were right. A fault here was hashed in, or forged. */
static enum hk_record_fault walk(struct hk_journal *j, const struct hk_batch_header *h,
                                 const uint8_t *data)
{
    struct hk_journal_recovery *v = j->recovery;
    uint64_t at = h->first_lsn, end = h->first_lsn + h->bytes;
    uint64_t seed = hk_epoch_seed(&h->epoch_id);
    uint32_t prev_bytes = v->prev_bytes;
    uint64_t turn_lsn = v->turn_lsn;
    uint8_t turn_type = v->turn_type;

    while (at < end) {
        const struct hk_record *r = (const void *)(data + (at - h->first_lsn));
        enum hk_record_fault fault = hk_record_check(r, HK_LSN(at), h->epoch_ordinal, seed);

        if (fault == HK_RECORD_OK)
            fault = hk_record_follows(r, prev_bytes);
        if (fault != HK_RECORD_OK)
            return fault;
        if (hk_record_end(r).v > end)
            return HK_RECORD_BAD_LENGTH;
        fault = hk_record_check_payload(r, r + 1);
        if (fault != HK_RECORD_OK)
            return fault;
        if (at == v->applied)
            v->applied_seen = true;
        at = hk_record_end(r).v;
        if (r->type == HK_REC_GAP || r->type == HK_REC_RESYNC_BEGIN ||
            r->type == HK_REC_RESYNC_END) {
            turn_lsn = at;
            turn_type = r->type;
        }
        prev_bytes = hk_record_bytes(r->payload_len);
    }
    if (at == v->applied)
        v->applied_seen = true;
    v->prev_bytes = prev_bytes;
    v->turn_lsn = turn_lsn;
    v->turn_type = turn_type;
    return HK_RECORD_OK;
}

static void tail(struct hk_journal *j);

/* The chain ends inside the segment being scanned, for this reason. */
static void chain_ends(struct hk_journal *j, enum hk_segment_fault why, enum hk_record_fault record)
{
    struct hk_journal_recovery *v = j->recovery;

    j->result.segment_fault = why;
    j->result.record_fault = record;
    if (v->limit != UINT64_MAX) {
        corrupt(j, v->at, j->current);
        return;
    }
    v->far_end = v->at;
    v->phase = TAIL;
    tail(j);
}

static void segment_ends(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;
    struct hk_journal_segment *s = scanned(j);

    s->end_lsn = v->at;
    s->end_offset = v->offset;
    v->order++;
    next_segment(j);
}

/* One batch whose header is in the buffer and valid. 1: go on, 0: a read or another phase began. */
static int take_batch(struct hk_journal *j, const struct hk_batch_header *h)
{
    struct hk_journal_recovery *v = j->recovery;
    uint64_t bytes = hk_batch_file_bytes(h->first_lsn, h->bytes);
    const uint8_t *data = hk_batch_data((const uint8_t *)h, h->first_lsn);
    enum hk_record_fault fault;

    if (h->epoch_ordinal != scanned(j)->ordinal || v->offset + bytes > j->cfg.segment_bytes) {
        chain_ends(j, HK_SEGMENT_BAD_FIELD, HK_RECORD_OK);
        return 0;
    }
    if (!have(v, bytes)) {
        fetch(j);
        return 0;
    }
    if (h->data_hash != hk_xxh64(data, h->bytes, hk_epoch_seed(&h->epoch_id))) {
        chain_ends(j, HK_SEGMENT_BAD_HASH, HK_RECORD_OK);
        return 0;
    }
    fault = walk(j, h, data);
    if (fault != HK_RECORD_OK) {
        chain_ends(j, HK_SEGMENT_OK, fault);
        return 0;
    }
    if (h->bytes > v->limit - v->at) {
        corrupt(j, v->limit, j->current);
        return 0;
    }
    j->result.stamp = hk_max_u64(j->result.stamp, h->durable);
    hk_journal_checkpoint(j, scanned(j), v->at, v->offset);
    if (j->cfg.found)
        j->cfg.found(j->cfg.found_arg, v->at,
                     ((const struct hk_record *)(const void *)data)->time_ns);
    v->at += h->bytes;
    v->offset += bytes;
    return 1;
}

static void scan(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;

    v->phase = SCAN;
    for (;;) {
        const struct hk_batch_header *h;
        enum hk_segment_fault fault;

        if (v->at == v->limit) {
            segment_ends(j);
            return;
        }
        if (v->offset + HK_BATCH_HEADER_BYTES > j->cfg.segment_bytes) {
            chain_ends(j, HK_SEGMENT_OK, HK_RECORD_OK);
            return;
        }
        if (!have(v, HK_BATCH_HEADER_BYTES)) {
            fetch(j);
            return;
        }
        h = (const void *)(j->scan + (v->offset - v->piece_offset));
        fault = hk_batch_header_check(h, &scanned(j)->epoch_id, v->at);
        if (fault != HK_SEGMENT_OK) {
            chain_ends(j, fault, HK_RECORD_OK);
            return;
        }
        if (!take_batch(j, h))
            return;
    }
}

/* --- TAIL --- */

/* Of a header that is damaged: its `bytes` as far as they make sense. At least a record. */
static uint64_t believed(uint64_t bytes)
{
    return bytes > 0 && bytes <= HK_BATCH_BYTES_MAX && bytes % HK_RECORD_ALIGN == 0
               ? bytes
               : HK_RECORD_ALIGN;
}

/* What a page behind the end of the chain tells. `at_end`: it is where the next batch would be. */
static void look_behind(struct hk_journal *j, const struct hk_batch_header *h, bool at_end)
{
    struct hk_journal_recovery *v = j->recovery;

    if (hk_batch_header_check(h, NULL, 0) == HK_SEGMENT_OK) {
        if (!hk_history_find(&v->history, &h->epoch_id))
            return;
        j->result.stamp = hk_max_u64(j->result.stamp, h->durable);
        if (hk_uuid_equal(&h->epoch_id, &scanned(j)->epoch_id) && h->first_lsn >= v->at)
            v->far_end = hk_max_u64(v->far_end, h->first_lsn + h->bytes);
        return;
    }
    /* A header of the batch expected here, of which not all arrived or remained, be it the magic:
     * nothing but this batch puts these 24 bytes here. */
    if (at_end && h->first_lsn == v->at && hk_uuid_equal(&h->epoch_id, &scanned(j)->epoch_id))
        v->far_end = hk_max_u64(v->far_end, v->at + believed(h->bytes));
}

static void tail(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;
    struct hk_journal_segment *s = scanned(j);

    if (s->end_offset == 0) {
        s->end_lsn = v->at;
        s->end_offset = v->offset;
    }
    for (; v->offset + HK_PAGE_BYTES <= j->cfg.segment_bytes && !HK_BUG(tail_unsearched);
         v->offset += HK_PAGE_BYTES) {
        if (!have(v, HK_PAGE_BYTES)) {
            fetch(j);
            return;
        }
        look_behind(j, (const void *)(j->scan + (v->offset - v->piece_offset)),
                    v->offset == s->end_offset);
    }
    v->order++;
    finish(j);
}

/* --- The verdict, and making durable what it rests on --- */

static void flush_next(struct hk_journal *j);
static void start_running(struct hk_journal *j);

static void finish(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;
    const struct hk_epoch *e = hk_history_last(&v->history);

    if (e && !v->applied_seen) {
        corrupt(j, v->applied, j->current);
        return;
    }
    if (j->result.stamp > v->at && !HK_BUG(stamp_ignored)) {
        corrupt(j, v->at, j->current);
        return;
    }
    if (v->shadow_lsn != 0 && v->shadow_lsn >= v->at) {
        corrupt(j, v->shadow_lsn, v->shadow_slot);
        return;
    }
    v->far_end = hk_max_u64(v->far_end, v->stray_end);
    if (v->far_end > v->at) {
        j->result.verdict = HK_JOURNAL_TORN;
        j->result.lost_bytes = v->far_end - v->at;
    }
    j->result.end = v->at;
    j->result.prev_bytes = v->prev_bytes;
    j->result.turn_lsn = v->turn_lsn;
    j->result.turn_type = v->turn_type;
    /* Nothing of the last epoch yet: what was scanned last is full, whatever room it has. */
    if (j->current != HK_NO_SEGMENT && j->segment[j->current].ordinal != e->ordinal)
        j->current = HK_NO_SEGMENT;
    v->phase = FLUSH;
    v->slot = HK_BUG(recovery_trusts_cache) ? j->live_count : v->first_order;
    flush_next(j);
}

/* model: sync.pml, JOURNAL_RECOVERED */
static void flush_next(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;

    if (v->slot < j->live_count) {
        submit(j, HK_DISK_FLUSH, j->order[v->slot], 0, NULL, 0);
    } else if (j->current != HK_NO_SEGMENT) {
        v->phase = NAME;
        hk_journal_submit_name(j, j->current, HK_TAG_RECOVERY);
    } else {
        start_running(j);
    }
}

static void start_running(struct hk_journal *j)
{
    struct hk_journal_recovery *v = j->recovery;
    const struct hk_epoch *e = hk_history_last(&v->history);

    if (e) {
        j->ordinal = e->ordinal;
        j->epoch_id = e->id;
        HK_ASSERT(v->at >= e->first_lsn);
    }
    j->end = v->at;
    j->durable = v->at;
    j->applied = v->applied;
    j->want_segment = j->current == HK_NO_SEGMENT;
    j->named = true;
    if (!j->want_segment) {
        j->offset = j->segment[j->current].end_offset;
        HK_ASSERT(j->segment[j->current].end_lsn == j->end);
    }
    j->state = HK_JOURNAL_RUNNING;
}

void hk_journal_recovery_done(struct hk_journal *j, struct hk_diskop *op)
{
    HK_ASSERT(j->state == HK_JOURNAL_RECOVERING);
    HK_ASSERT(op == &j->op);
    if (op->result != 0) {
        stop(j, HK_JOURNAL_UNREADABLE, op->result < 0 ? op->result : -EIO);
        return;
    }
    switch (j->recovery->phase) {
    case LOOK: look_done(j); return;
    case SEARCH: search(j); return;
    case SCAN: scan(j); return;
    case TAIL: tail(j); return;
    case FLUSH:
        j->recovery->slot++;
        flush_next(j);
        return;
    case NAME:
        j->recovery->phase = SYNC;
        hk_journal_submit_sync_dir(j, HK_TAG_RECOVERY);
        return;
    case SYNC: start_running(j); return;
    }
}
