/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/store/apply.h"

#include "proto/bug.h"
#include "replicator/store/line.h"

#include <errno.h>

enum {
    VOLUME_ALIGN = 512, /* what a volume's operations are multiples of */
    BOUNCE_PAGES = HK_ARRAY_SIZE(((struct hk_diskop *)0)->iov),
};

/* How a step of loading ended. */
enum load { LOAD_MORE, LOAD_WAIT, LOAD_FULL, LOAD_FAILED };

static uint32_t records_max(const struct hk_apply_cfg *cfg)
{
    return (uint32_t)hk_min_u64(cfg->apply_bytes / VOLUME_ALIGN, HK_APPLY_RECORDS_MAX);
}

size_t hk_apply_memory(const struct hk_apply_cfg *cfg)
{
    return cfg->apply_bytes + 2 * HK_PAGE_BYTES +
           (size_t)HK_APPLY_DEPTH * BOUNCE_PAGES * HK_PAGE_BYTES +
           hk_extents_memory(records_max(cfg));
}

static bool cfg_ok(const struct hk_apply_cfg *c)
{
    if (!c->disk || !c->journal || !c->history || !c->window)
        return false;
    if (c->window_bytes & (c->window_bytes - 1) || c->window_bytes < HK_PAGE_BYTES)
        return false;
    if (c->apply_bytes < HK_APPLY_BYTES_MIN || c->apply_bytes % HK_PAGE_BYTES)
        return false;
    return c->volume_count <= HK_VOLUMES_MAX;
}

int hk_apply_init(struct hk_apply *a, const struct hk_apply_cfg *cfg, struct hk_arena *arena)
{
    uint8_t *bounce;
    int r;

    if (!cfg_ok(cfg))
        return -EINVAL;
    __builtin_memset(a, 0, sizeof(*a));
    a->cfg = *cfg;
    a->memory = hk_arena_take(arena, cfg->apply_bytes, HK_PAGE_BYTES);
    bounce =
        hk_arena_take(arena, (size_t)HK_APPLY_DEPTH * BOUNCE_PAGES * HK_PAGE_BYTES, HK_PAGE_BYTES);
    if (!a->memory || !bounce)
        return -ENOMEM;
    for (uint32_t i = 0; i < HK_APPLY_DEPTH; i++)
        a->op[i].bounce = bounce + (size_t)i * BOUNCE_PAGES * HK_PAGE_BYTES;
    r = hk_extents_init(&a->extents, records_max(cfg), arena);
    if (r != 0)
        return r;
    return hk_journal_reader_init(cfg->journal, &a->reader, arena);
}

void hk_apply_start(struct hk_apply *a, uint64_t applied)
{
    HK_ASSERT(a->state == HK_APPLY_NEW);
    HK_ASSERT(a->cfg.journal->state == HK_JOURNAL_RUNNING);
    a->state = HK_APPLY_IDLE;
    a->position = applied;
    a->flushed = applied;
    a->stored = applied;
}

static enum load corrupt(struct hk_apply *a, enum hk_record_fault fault, int error)
{
    HK_ASSERT(error < 0);
    a->state = HK_APPLY_CORRUPT;
    a->bad_lsn = a->position;
    a->record_fault = fault;
    a->error = error;
    return LOAD_FAILED;
}

/* --- Loading a batch --- */

static const uint8_t *window_at(const struct hk_apply *a, uint64_t lsn)
{
    return a->cfg.window + (lsn & (a->cfg.window_bytes - 1));
}

/*
 * Log bytes at a->position: their address if they are in the window or in the reader's buffer.
 * LOAD_MORE: there; LOAD_WAIT: a read of the journal is under way.
 */
static enum load locate(struct hk_apply *a, uint64_t window_from, const uint8_t **ret)
{
    struct hk_journal_reader *r = &a->reader;
    int error;

    if (a->position >= window_from) {
        *ret = window_at(a, a->position);
        return LOAD_MORE;
    }
    if (a->position < r->first || a->position >= r->end) {
        error = hk_journal_read(a->cfg.journal, r, a->position);
        if (error == -EINPROGRESS)
            return LOAD_WAIT;
        if (error != 0)
            return corrupt(a, HK_RECORD_OK, error);
    }
    *ret = r->data + (a->position - r->first);
    return LOAD_MORE;
}

/* `bytes` of log behind a record's header, out of a window that may wrap. */
static void copy_payload(const struct hk_apply *a, const struct hk_record *r, const uint8_t *header,
                         bool from_window, uint8_t *to)
{
    uint64_t at = r->lsn + sizeof(*r), to_wrap;

    if (!from_window) {
        __builtin_memcpy(to, header + sizeof(*r), r->payload_len);
        return;
    }
    to_wrap = a->cfg.window_bytes - (at & (a->cfg.window_bytes - 1));
    to_wrap = hk_min_u64(to_wrap, r->payload_len);
    __builtin_memcpy(to, window_at(a, at), to_wrap);
    __builtin_memcpy(to + to_wrap, a->cfg.window, r->payload_len - to_wrap);
}

/* What only this side can judge: does the range lie on the volume, whole sectors of it? */
static enum hk_record_fault check_range(const struct hk_apply *a, const struct hk_record *r)
{
    if (r->volume >= a->cfg.volume_count)
        return HK_RECORD_BAD_VOLUME;
    if (r->offset > a->cfg.volume_bytes[r->volume] ||
        r->length > a->cfg.volume_bytes[r->volume] - r->offset)
        return HK_RECORD_BAD_LENGTH;
    if (r->offset % VOLUME_ALIGN || r->length % VOLUME_ALIGN)
        return HK_RECORD_BAD_LENGTH;
    return HK_RECORD_OK;
}

/* Memory for a payload, as far into a page as its offset is on the volume. NULL: no room. */
static uint8_t *place(struct hk_apply *a, const struct hk_record *r)
{
    uint64_t at = a->memory_used + ((r->offset - a->memory_used) & (HK_PAGE_BYTES - 1));

    if (at + r->payload_len > a->cfg.apply_bytes)
        return NULL;
    a->memory_used = at + r->payload_len;
    return a->memory + at;
}

static enum load load_write(struct hk_apply *a, const struct hk_record *r, const uint8_t *header,
                            bool from_window)
{
    enum hk_record_fault fault = check_range(a, r);
    uint8_t *data = NULL;

    if (fault != HK_RECORD_OK)
        return corrupt(a, fault, -EUCLEAN);
    if (a->extents.count == a->extents.count_max)
        return LOAD_FULL;
    if (r->payload_len > 0) {
        data = place(a, r);
        if (!data)
            return LOAD_FULL;
        copy_payload(a, r, header, from_window, data);
        /* Of the copy: these are the bytes that will be written. */
        fault = hk_record_check_payload(r, data);
        if (fault != HK_RECORD_OK)
            return corrupt(a, fault, -EUCLEAN);
    }
    hk_extents_add(&a->extents, r->volume, r->offset, r->length, data);
    return LOAD_MORE;
}

/* Size of the record before the one at `position`, as far as this walk knows it. */
static uint32_t size_before(const struct hk_apply *a, const struct hk_epoch *e)
{
    if (a->position == e->first_lsn)
        return 0;
    return a->position == a->chain_end ? a->prev_bytes : HK_PREV_UNKNOWN;
}

static void walked(struct hk_apply *a, const struct hk_record *r)
{
    a->chain_end = hk_record_end(r).v;
    a->prev_bytes = hk_record_bytes(r->payload_len);
}

static enum load load_barrier(struct hk_apply *a, const struct hk_record *r, const uint8_t *header,
                              bool from_window)
{
    enum hk_record_fault fault;

    if (r->payload_len > sizeof(a->barrier_payload))
        return corrupt(a, HK_RECORD_BAD_LENGTH, -EUCLEAN);
    a->barrier = *r;
    copy_payload(a, r, header, from_window, a->barrier_payload);
    fault = hk_record_check_payload(r, a->barrier_payload);
    if (fault != HK_RECORD_OK)
        return corrupt(a, fault, -EUCLEAN);
    a->barrier_ahead = true;
    walked(a, r);
    return LOAD_FULL;
}

/* The origin could not be read there: what the replica holds is the last that was known. */
static void bad_range(struct hk_apply *a, const struct hk_record *r)
{
    a->bad_range_count++;
    a->bad_range_bytes += r->length;
}

/* One record into the batch; LOAD_MORE: done, the position is behind it. */
static enum load load_record(struct hk_apply *a, const struct hk_epoch *e, uint64_t limit,
                             uint64_t window_from)
{
    bool from_window = a->position >= window_from;
    enum hk_record_fault fault;
    const uint8_t *header;
    struct hk_record r;
    enum load l = locate(a, window_from, &header);

    if (l != LOAD_MORE)
        return l;
    __builtin_memcpy(&r, header, sizeof(r));
    fault = hk_record_check(&r, HK_LSN(a->position), e->ordinal, hk_epoch_seed(&e->id));
    if (fault == HK_RECORD_OK)
        fault = hk_record_follows(&r, size_before(a, e));
    if (fault != HK_RECORD_OK)
        return corrupt(a, fault, -EUCLEAN);
    if (!from_window && hk_record_end(&r).v > a->reader.end)
        return corrupt(a, HK_RECORD_BAD_LENGTH, -EUCLEAN);
    if (hk_record_end(&r).v > limit)
        return LOAD_FULL;
    if (hk_record_is_barrier(r.type))
        return load_barrier(a, &r, header, from_window);
    switch ((enum hk_record_type)r.type) {
    case HK_REC_WRITE:
    case HK_REC_BLOCK:
    case HK_REC_ZEROES:
    case HK_REC_DISCARD: l = load_write(a, &r, header, from_window); break;
    /* Nothing to write: order alone, no content, or a range that could not be read. */
    case HK_REC_FLUSH:
    case HK_REC_VOID: break;
    case HK_REC_BAD_RANGE: bad_range(a, &r); break;
    case HK_REC_MARK:
    case HK_REC_GAP:
    case HK_REC_RESYNC_BEGIN:
    case HK_REC_RESYNC_END:
    case HK_REC_MODE:
    case HK_REC_JOIN:
    case HK_REC_LEAVE:
    case HK_REC_RESIZE: HK_ASSERT(!"barriers were dealt with"); break;
    }
    if (l == LOAD_MORE) {
        walked(a, &r);
        a->position = a->chain_end;
    }
    return l;
}

/* Records up to the limit, a barrier, the end of memory, or the end of this step's share. */
static enum load load(struct hk_apply *a, uint64_t limit, uint64_t window_from)
{
    uint64_t start = a->position;

    while (a->position - start < HK_APPLY_STEP_BYTES) {
        uint64_t lsn;
        int epoch = hk_line_seek(a->cfg.history, a->position, &lsn);
        enum load l;

        /* A hole is crossed only towards work: its far side may lie beyond what is durable. */
        if (epoch < 0 || lsn >= limit)
            return LOAD_FULL;
        a->position = lsn;
        /* A hole was crossed: it is no work. */
        start = hk_max_u64(start, a->cfg.history->epoch[epoch].first_lsn);
        l = load_record(a, &a->cfg.history->epoch[epoch], limit, window_from);
        if (l != LOAD_MORE)
            return l;
    }
    return LOAD_MORE;
}

/* --- Writing it --- */

static struct hk_apply_op *free_op(struct hk_apply *a)
{
    for (uint32_t i = 0; i < HK_APPLY_DEPTH; i++) {
        if (!a->op[i].busy)
            return &a->op[i];
    }
    return NULL;
}

static void begin_op(struct hk_apply *a, struct hk_apply_op *o, enum hk_disk_kind kind,
                     uint32_t volume, uint64_t offset)
{
    o->op = (struct hk_diskop){.kind = kind,
                               .file = HK_FILE_VOLUME0 + volume,
                               .offset = offset,
                               .owner = HK_OWNER_APPLY,
                               .tag = (uint32_t)(o - a->op)};
}

static void submit(struct hk_apply *a, struct hk_apply_op *o)
{
    HK_ASSERT(!o->busy);
    o->busy = true;
    a->op_busy_count++;
    a->cfg.disk->submit(a->cfg.disk, &o->op);
}

/* Does the next piece go on where the operation ends? */
static bool next_piece_joins(struct hk_apply *a, const struct hk_diskop *op, uint32_t volume,
                             bool zeroes)
{
    if (!a->piece_valid)
        a->piece_valid = hk_extents_next(&a->extents, &a->piece);
    return a->piece_valid && a->piece.volume == volume && !a->piece.data == zeroes &&
           a->piece.offset == op->offset + op->bytes;
}

static void consume(struct hk_apply *a, struct hk_diskop *op, uint64_t bytes)
{
    HK_ASSERT(a->piece_valid && bytes > 0 && bytes <= a->piece.bytes);
    op->bytes += bytes;
    a->piece.offset += bytes;
    a->piece.bytes -= bytes;
    if (a->piece.data)
        a->piece.data += bytes;
    a->piece_valid = a->piece.bytes > 0;
}

/*
 * Adds from the piece to the operation; false when it takes no more. Memory has the piece's own
 * place in its page, so only what begins inside a page (and is not in line with the iovec before)
 * goes through a bounce page: at most a page of it.
 */
static bool add_to_write(struct hk_apply *a, struct hk_apply_op *o)
{
    struct hk_diskop *op = &o->op;
    struct hk_iovec *last = op->iov_count > 0 ? &op->iov[op->iov_count - 1] : NULL;
    uint64_t bytes = hk_min_u64(a->piece.bytes, HK_APPLY_OP_BYTES_MAX - op->bytes);
    uint64_t in_page = (uintptr_t)a->piece.data % HK_PAGE_BYTES;
    uint8_t *base = a->piece.data;

    if (bytes == 0)
        return false;
    if (last && (uint8_t *)last->base + last->bytes == a->piece.data) {
        last->bytes += bytes;
        consume(a, op, bytes);
        return true;
    }
    if (op->iov_count == HK_ARRAY_SIZE(op->iov))
        return false;
    if (in_page != 0) {
        bytes = hk_min_u64(bytes, HK_PAGE_BYTES - in_page);
        base = o->bounce + op->iov_count * HK_PAGE_BYTES;
        __builtin_memcpy(base, a->piece.data, bytes);
    }
    op->iov[op->iov_count++] = (struct hk_iovec){.base = base, .bytes = bytes};
    consume(a, op, bytes);
    return true;
}

/* model: promote.pml, APPLIED; freeze.pml, APPLIED; resync.pml, REPLICA_WRITTEN */
static void write_pieces(struct hk_apply *a)
{
    struct hk_apply_op *o;

    while (!a->stopped && (o = free_op(a))) {
        uint32_t volume;
        bool zeroes;

        if (!a->piece_valid)
            a->piece_valid = hk_extents_next(&a->extents, &a->piece);
        if (!a->piece_valid)
            return;
        volume = a->piece.volume;
        zeroes = !a->piece.data;
        begin_op(a, o, zeroes ? HK_DISK_PUNCH : HK_DISK_WRITE, volume, a->piece.offset);
        while (next_piece_joins(a, &o->op, volume, zeroes)) {
            if (zeroes)
                consume(a, &o->op, a->piece.bytes);
            else if (!add_to_write(a, o))
                break;
        }
        HK_ASSERT(o->op.bytes > 0 && o->op.offset + o->op.bytes <= a->cfg.volume_bytes[volume]);
        if (zeroes)
            a->punched_bytes += o->op.bytes;
        else
            a->written_bytes += o->op.bytes;
        a->volumes_touched |= 1ull << volume;
        submit(a, o);
    }
}

/* model: promote.pml, REPLICA_FLUSHED; freeze.pml, REPLICA_FLUSHED */
static void flush_volumes(struct hk_apply *a)
{
    struct hk_apply_op *o;

    while (a->volumes_to_flush != 0 && (o = free_op(a))) {
        uint32_t volume = (uint32_t)__builtin_ctzll(a->volumes_to_flush);

        a->volumes_to_flush &= a->volumes_to_flush - 1;
        begin_op(a, o, HK_DISK_FLUSH, volume, 0);
        submit(a, o);
    }
}

/* --- The course of a batch --- */

static void batch_begins(struct hk_apply *a)
{
    HK_ASSERT(a->op_busy_count == 0 && !a->barrier_ahead);
    hk_extents_reset(&a->extents);
    a->memory_used = 0;
    a->volumes_touched = 0;
    a->piece_valid = false;
    a->batch_start = a->position;
    a->state = HK_APPLY_LOADING;
}

static void at_barrier(struct hk_apply *a)
{
    HK_ASSERT(a->barrier_ahead && a->flushed == a->barrier.lsn);
    a->state = a->stored >= a->flushed ? HK_APPLY_BARRIER : HK_APPLY_STORING;
}

static void batch_ends(struct hk_apply *a)
{
    HK_ASSERT(a->op_busy_count == 0 && a->position >= a->flushed);
    a->flushed = a->position;
    a->state = HK_APPLY_IDLE;
    if (a->barrier_ahead)
        at_barrier(a);
}

static void read_failed(struct hk_apply *a)
{
    a->state = HK_APPLY_REPLICA_FAILED;
    a->failed_volume = a->cfg.snapshots->save_volume;
    a->error = a->cfg.snapshots->save_error;
}

/* Gives the snapshots what the batch will overwrite, as fast as they take it; then it is written.
 */
static void save_pieces(struct hk_apply *a)
{
    struct hk_snapshots *s = a->cfg.snapshots;

    while (!s->save_all && (a->piece_valid || hk_extents_next(&a->extents, &a->piece))) {
        uint64_t n = hk_snapshots_save(s, a->piece.volume, a->piece.offset, a->piece.bytes);

        a->piece.offset += n;
        a->piece.bytes -= n;
        a->piece_valid = a->piece.bytes > 0;
        if (a->piece_valid)
            break;
    }
    if (s->save == HK_SAVE_REPLICA_FAILED) {
        read_failed(a);
        return;
    }
    if (!a->piece_valid && !s->save_all)
        hk_snapshots_save_all(s);
    if (s->save != HK_SAVE_DONE || s->busy_save > 0)
        return;
    hk_snapshots_save_end(s);
    hk_extents_rewind(&a->extents);
    a->piece_valid = false;
    a->state = HK_APPLY_WRITING;
    write_pieces(a);
}

void hk_apply_saving(struct hk_apply *a)
{
    if (a->state == HK_APPLY_SAVING && !a->stopped)
        save_pieces(a);
}

/* All of the batch is known to be good: now it may be written. */
static void batch_is_loaded(struct hk_apply *a)
{
    if (a->extents.count == 0) {
        batch_ends(a);
        return;
    }
    a->batch_count++;
    hk_extents_sort(&a->extents);
    if (a->cfg.snapshots && hk_snapshots_wants(a->cfg.snapshots)) {
        a->state = HK_APPLY_SAVING;
        hk_snapshots_save_begin(a->cfg.snapshots);
        save_pieces(a);
        return;
    }
    a->state = HK_APPLY_WRITING;
    write_pieces(a);
}

static bool has_work(const struct hk_apply *a, uint64_t limit)
{
    uint64_t lsn;

    return hk_line_seek(a->cfg.history, a->position, &lsn) >= 0 && lsn < limit;
}

bool hk_apply_run(struct hk_apply *a, uint64_t limit, uint64_t window_from)
{
    HK_ASSERT(a->state == HK_APPLY_NEW || limit <= hk_journal_durable(a->cfg.journal));
    if (a->stopped)
        return false;
    if (a->state == HK_APPLY_IDLE && has_work(a, limit))
        batch_begins(a);
    if (a->state != HK_APPLY_LOADING)
        return false;
    switch (load(a, limit, window_from)) {
    case LOAD_MORE: return true;
    case LOAD_WAIT:
    case LOAD_FAILED: return false;
    case LOAD_FULL: break;
    }
    batch_is_loaded(a);
    return a->state == HK_APPLY_IDLE && a->position > a->batch_start && has_work(a, limit);
}

static void replica_failed(struct hk_apply *a, const struct hk_diskop *op)
{
    if (a->state == HK_APPLY_REPLICA_FAILED)
        return;
    a->state = HK_APPLY_REPLICA_FAILED;
    a->failed_volume = op->file - HK_FILE_VOLUME0;
    a->error = op->result < 0 ? op->result : -EIO;
}

void hk_apply_disk_done(struct hk_apply *a, struct hk_diskop *op)
{
    HK_ASSERT(op->owner == HK_OWNER_APPLY && op->tag < HK_APPLY_DEPTH);
    HK_ASSERT(op == &a->op[op->tag].op && a->op[op->tag].busy && a->op_busy_count > 0);
    a->op[op->tag].busy = false;
    a->op_busy_count--;
    /* A write or flush that failed is final: what it carried is never written again (I11). */
    if (HK_BUG(flush_retried) && op->result != 0 && op->kind == HK_DISK_FLUSH) {
        submit(a, &a->op[op->tag]);
        return;
    }
    if (op->result != 0 && !HK_BUG(replica_error_swallowed))
        replica_failed(a, op);
    if (a->stopped)
        return;
    if (a->state == HK_APPLY_WRITING) {
        write_pieces(a);
        if (a->op_busy_count > 0)
            return;
        a->state = HK_APPLY_FLUSHING;
        a->volumes_to_flush = HK_BUG(apply_unflushed) ? 0 : a->volumes_touched;
    }
    if (a->state == HK_APPLY_FLUSHING) {
        flush_volumes(a);
        if (a->op_busy_count == 0)
            batch_ends(a);
    }
}

/* --- What the owner wants to know, and says --- */

uint64_t hk_apply_flushed(const struct hk_apply *a)
{
    return a->flushed;
}

void hk_apply_stored(struct hk_apply *a, uint64_t lsn)
{
    HK_ASSERT(lsn <= a->flushed);
    a->stored = hk_max_u64(a->stored, lsn);
    if (a->state == HK_APPLY_STORING)
        at_barrier(a);
}

void hk_apply_resume(struct hk_apply *a)
{
    HK_ASSERT(a->state == HK_APPLY_BARRIER && a->barrier_ahead);
    a->position = hk_record_end(&a->barrier).v;
    a->flushed = a->position;
    a->stored = a->position;
    a->barrier_ahead = false;
    a->state = HK_APPLY_IDLE;
}

void hk_apply_stop(struct hk_apply *a)
{
    a->stopped = true;
}

void hk_apply_rebase(struct hk_apply *a, uint64_t lsn)
{
    HK_ASSERT(a->state == HK_APPLY_IDLE && a->op_busy_count == 0);
    HK_ASSERT(lsn >= a->flushed);
    a->position = a->flushed = a->stored = lsn;
}

bool hk_apply_quiet(const struct hk_apply *a)
{
    return a->op_busy_count == 0;
}

const char *hk_apply_state_text(enum hk_apply_state s)
{
    switch (s) {
    case HK_APPLY_NEW: return "new";
    case HK_APPLY_IDLE: return "idle";
    case HK_APPLY_LOADING: return "loading";
    case HK_APPLY_SAVING: return "saving before-images";
    case HK_APPLY_WRITING: return "writing";
    case HK_APPLY_FLUSHING: return "flushing";
    case HK_APPLY_STORING: return "storing applied";
    case HK_APPLY_BARRIER: return "at a barrier";
    case HK_APPLY_REPLICA_FAILED: return "replica failed";
    case HK_APPLY_CORRUPT: return "corrupt log";
    }
    return "unknown state";
}
