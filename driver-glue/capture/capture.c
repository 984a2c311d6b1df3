/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The steps of an op through capture, and what an earlier life of the producer left to do. */
#include "driver-glue/capture/internal.h"
#include "proto/at.h"
#include "proto/bug.h"

#include <errno.h>

size_t hk_capture_bytes(void)
{
    return sizeof(struct hk_capture);
}

static bool cfg_ok(const struct hk_capture_cfg *cfg, const struct hk_super *super)
{
    if (cfg->mode < HK_MODE_ASYNC || cfg->mode > HK_MODE_SYNC)
        return false;
    if (cfg->on_link_loss != HK_LINK_LOSS_CONTINUE && cfg->on_link_loss != HK_LINK_LOSS_BLOCK)
        return false;
    if (cfg->on_overflow > HK_OVERFLOW_BEHIND)
        return false;
    /* What must not be written without the standby must not be let by because a ring is full. */
    if (cfg->on_overflow == HK_OVERFLOW_BEHIND && cfg->on_link_loss == HK_LINK_LOSS_BLOCK)
        return false;
    if (cfg->contact_timeout_ns == 0)
        return false;
    if (cfg->volume_count == 0 || cfg->volume_count != super->volume_count)
        return false;
    for (uint32_t i = 0; i < cfg->volume_count; i++) {
        if (cfg->volume_bytes[i] != super->volume[i].bytes ||
            cfg->volume_room[i] != super->volume[i].room_bytes)
            return false;
    }
    return cfg->ceiling_step_bytes % HK_RECORD_ALIGN == 0;
}

static bool super_ok(const struct hk_super *super)
{
    const struct hk_epoch *epoch;

    if (super->role != HK_ROLE_PRIMARY || hk_history_check(&super->history) != 0)
        return false;
    epoch = hk_history_last(&super->history);
    if (!epoch)
        return false;
    if (!(super->flags & HK_SF_CLEAN))
        return true;
    return super->clean_lsn >= epoch->first_lsn &&
           super->clean_lsn <= hk_max_u64(super->ceiling, epoch->first_lsn);
}

/* What the standby may rely on is the stricter of what it was told and what is asked for now. */
static void init_mode(struct hk_capture *c)
{
    c->mode = c->cfg.mode;
    c->on_link_loss = c->cfg.on_link_loss;
    c->contact_timeout_ns = c->cfg.contact_timeout_ns;
    if (c->super.mode) {
        if (c->super.mode > c->mode)
            c->mode = c->super.mode;
        if (c->super.on_link_loss == HK_LINK_LOSS_BLOCK)
            c->on_link_loss = HK_LINK_LOSS_BLOCK;
        c->contact_timeout_ns = hk_max_u64(c->contact_timeout_ns, c->super.contact_timeout_ns);
    }
    c->want.mode = c->mode;
    c->want.on_link_loss = c->on_link_loss;
    c->want.contact_timeout_ns = c->contact_timeout_ns;
}

/* model: sync.pml, STARTED_CLEAN, RING_LOST_NOTED; session.pml, STARTED_CLEAN, RING_LOST */
static void init_new_ring(struct hk_capture *c, const struct hk_epoch *epoch, bool doubt)
{
    const struct hk_super *s = &c->super;
    bool clean = (s->flags & HK_SF_CLEAN) && !doubt;
    bool fresh = s->ceiling <= epoch->first_lsn && !doubt;
    uint64_t start = epoch->first_lsn;

    if (clean) {
        start = s->clean_lsn;
        c->prev_bytes = s->clean_prev_bytes;
        c->last_time_ns = s->clean_time_ns;
    } else if (!fresh) {
        /*
         * The ring is gone and with it the knowledge of what was written: regions may differ.
         */
        start = hk_max_u64(s->durable_known, epoch->first_lsn);
        /* With a map only those regions may that it holds for marked. */
        hk_meta_set(c, c->cfg.region_shift ? HK_SF_STALE : HK_SF_FULL_COMPARE);
        c->closed = c->ring_lost = true;
    }
    c->next_lsn = c->produced = c->released = c->acked = c->durable = start;
}

/*
 * The slot that is gone may have said that the group was started again, degraded, behind, or had a
 * higher ceiling. A ring that lived through it knows whether such a write ever counted.
 */
static bool newer_facts_lost(const struct hk_capture_cfg *cfg, const void *ring,
                             enum hk_start start, const struct hk_super *super)
{
    const struct hk_ring_producer *p = (const void *)((const uint8_t *)ring + HK_PAGE_BYTES);

    if (!cfg->super_in_doubt || HK_BUG(ring_doubted))
        return false;
    /* What is relied on stands in both slots: one that still says clean, or that was the first
     * there ever was, shows that nothing has been since. */
    if ((super->flags & HK_SF_CLEAN) || super->sequence == 1)
        return false;
    return start != HK_START_OLD_RING || p->super_sequence != super->sequence;
}

/* Written in this order: the ordinal, last, makes the page valid for hk_ring_check. */
void hk_capture_write_producer(struct hk_capture *c, const struct hk_epoch *epoch)
{
    struct hk_ring_producer *p = c->producer;

    p->epoch_first_lsn = epoch->first_lsn;
    p->epoch_head = c->epoch_head;
    p->head = c->head;
    p->tail = c->tail;
    p->next_lsn = c->next_lsn;
    p->payload_head = c->payload_head;
    p->last_time_ns = c->last_time_ns;
    p->acked = c->acked;
    p->durable = c->durable;
    p->released = c->released;
    p->prev_bytes = c->prev_bytes;
    p->super_sequence = c->super.sequence;
    p->closed = c->closed;
    p->epoch_id = epoch->id;
    HK_AT(taken_over);
    __atomic_store_n(&p->epoch_ordinal, epoch->ordinal, __ATOMIC_RELEASE);
}

/* model: contact.pml, CAPTURE_RESTARTED, RING_LOST */
static void init_policy(struct hk_capture *c, const struct hk_now *now)
{
    const struct hk_epoch *epoch = hk_history_last(&c->super.history);
    bool opens = c->head == c->epoch_head && c->next_lsn == epoch->first_lsn;

    c->contact_ns = c->report_ns = c->detached_since_ns = now->mono_ns;
    c->hold_stall_ns = c->drain_stall_ns = now->mono_ns;
    c->serve_lsn = c->next_lsn;
    c->stage = HK_SYNC_WAITING;
    if (c->closed) {
        /* Under `block` nothing is acknowledged that the standby lacks: then not even this. */
        c->barred = hk_policy_forbids(c);
        c->passing = !c->barred;
        /* The standby may have been in contact a moment ago and counts on T; clocks that may have
         * been set don't tell how long ago an earlier life degraded, so each life waits. */
        c->pass_held = c->passing && hk_policy_waits(c) && !hk_policy_alone_by_order(c);
        c->pass_from_ns = now->mono_ns + hk_policy_patience_ns(c);
        if (c->passing && hk_policy_waits(c) && !(c->want.flags & HK_SF_DEGRADED)) {
            c->want.degraded_time_ns = now->real_ns;
            c->want.degraded_lsn = c->durable;
            hk_meta_set(c, HK_SF_DEGRADED);
        }
        return;
    }
    /* With a resync the flag was set before its first record, not T after the last contact: what
     * waited in the life before waits on. A promoted side has nobody to wait for. */
    if ((c->super.flags & HK_SF_DEGRADED) && hk_policy_waits(c) && hk_policy_continues(c) &&
        (!(hk_dirty_on(c) && hk_epoch_resync(c)) || hk_policy_alone_by_order(c)))
        c->stage = HK_SYNC_DEGRADED;
    c->pending_gap = opens && !hk_uuid_is_nil(&epoch->parent);
    if (opens)
        c->prev_bytes = 0;
    c->pending_mode = c->stage == HK_SYNC_WAITING;
    hk_resize_say_all(c);
    /* What an earlier life passed uncaptured, the standby does not know of: before any write it
     * learns that it is in no consistent state. */
    c->begin_first = hk_dirty_on(c) && hk_epoch_resync(c);
}

/* Done already, or nothing an origin would know of (control records, void). */
static void redo_skip(struct hk_capture *c)
{
    c->redo_next = hk_max_u64(c->redo_next, c->tail);
    for (; c->redo_next < c->redo_end; c->redo_next++) {
        uint8_t type = c->slots[c->redo_next & c->slot_mask].type;

        if (c->sides[c->redo_next & c->slot_mask].done)
            continue;
        if (!HK_BUG(redo_forgotten) && (type == HK_REC_WRITE || type == HK_REC_ZEROES ||
                                        type == HK_REC_DISCARD || type == HK_REC_FLUSH))
            return;
        hk_capture_mark_done(c, c->redo_next);
    }
}

int hk_capture_init(struct hk_capture *c, const struct hk_capture_cfg *cfg, void *ring,
                    enum hk_start start, const struct hk_super *super, const struct hk_now *now)
{
    const struct hk_ring_header *header = ring;
    const struct hk_epoch *epoch;
    bool doubt;
    int rc;

    if (!cfg_ok(cfg, super) || !super_ok(super))
        return -EINVAL;
    if (start == HK_START_OLD_RING) {
        rc = hk_ring_check(ring, header->total_bytes, &super->group_id, super);
        if (rc)
            return rc;
    }
    doubt = newer_facts_lost(cfg, ring, start, super);
    __builtin_memset(c, 0, sizeof(*c));
    c->cfg = *cfg;
    if (!c->cfg.ceiling_step_bytes)
        c->cfg.ceiling_step_bytes = HK_CEILING_STEP_BYTES;
    c->super = c->want = *super;
    c->issued_and = ~0u;
    epoch = hk_history_last(&c->super.history);
    c->epoch_ordinal = epoch->ordinal;
    c->epoch_seed = hk_epoch_seed(&epoch->id);
    c->want.ceiling = hk_max_u64(super->ceiling, epoch->first_lsn);
    hk_capture_map_ring(c, ring);
    init_mode(c);
    if (start == HK_START_OLD_RING) {
        hk_capture_load_ring(c);
        redo_skip(c);
    } else {
        init_new_ring(c, epoch, doubt);
    }
    if (doubt) {
        hk_meta_set(c, HK_SF_FULL_COMPARE);
        c->want.ceiling += c->cfg.ceiling_step_bytes;
    }
    rc = hk_dirty_init(c, start != HK_START_OLD_RING);
    if (rc)
        return rc;
    /* Clears may rest on more than the superblock knew: a standby without it is found out. */
    if (c->ring_lost && c->super.durable_known > c->durable)
        c->next_lsn = c->produced = c->released = c->acked = c->durable = c->super.durable_known;
    if ((c->want.flags & HK_SF_FULL_COMPARE) || (start == HK_START_OLD_RING && c->producer->closed))
        c->closed = true;
    hk_capture_write_producer(c, epoch);
    init_policy(c, now);
    /* A ring that the metadata does not name yet has not given any LSN. */
    if (start != HK_START_OLD_RING || !hk_uuid_equal(&super->ring_id, &c->header->ring_id))
        c->want.ring_first_lsn = c->next_lsn;
    c->want.ring_id = c->header->ring_id;
    c->want.flags &= ~(uint32_t)HK_SF_CLEAN;
    c->want.clean_lsn = c->want.clean_time_ns = c->want.clean_prev_bytes = 0;
    c->meta_dirty = true;
    hk_capture_settle(c, now);
    return 0;
}

static int op_check(const struct hk_capture *c, const struct hk_op *op)
{
    uint64_t bytes;

    if (op->volume >= c->cfg.volume_count || (op->flags & ~HK_REC_FUA))
        return -EINVAL;
    if (op->type == HK_REC_BLOCK)
        return hk_block_check(c, op);
    if (op->type == HK_REC_FLUSH)
        return op->length == 0 && op->offset == 0 ? 0 : -EINVAL;
    if (op->type != HK_REC_WRITE && op->type != HK_REC_ZEROES && op->type != HK_REC_DISCARD)
        return -EINVAL;
    bytes = c->cfg.volume_bytes[op->volume];
    if (op->length == 0 || (op->offset | op->length) % 512 != 0)
        return -EINVAL;
    if (op->type == HK_REC_WRITE && op->length > HK_PAYLOAD_BYTES_MAX)
        return -EINVAL;
    if (c->dirty.on && op->length > hk_capture_op_bytes_max(&c->cfg, op->offset))
        return -EINVAL;
    return op->offset <= bytes && op->length <= bytes - op->offset ? 0 : -ENOSPC;
}

static uint32_t payload_of(const struct hk_op *op)
{
    return op->type == HK_REC_WRITE ? op->length : 0;
}

/* What keeps an op from being admitted, its range aside. */
static enum hk_stall stall_of(struct hk_capture *c, struct hk_op *op)
{
    if (!hk_policy_gate_open(c))
        return HK_STALL_GATE;
    if (!c->passing) {
        if (c->closed || c->behind_wanted || hk_block_turn(c, op))
            return HK_STALL_ROOM;
        if (c->next_lsn + hk_record_bytes(payload_of(op)) + c->credit.log_bytes > c->super.ceiling)
            return HK_STALL_CEILING;
        if (!hk_capture_room(c, payload_of(op), false))
            return HK_STALL_ROOM;
    }
    /* Last of all: a mark that nobody comes to use would only be in the way. */
    switch (hk_dirty_ready(c, op)) {
    case HK_DIRTY_READY: return HK_STALL_NONE;
    case HK_DIRTY_ASKED: return HK_STALL_MARK;
    case HK_DIRTY_FULL: return HK_STALL_HOT;
    }
    HK_ASSERT(!"an answer of the dirty map");
    return HK_STALL_HOT;
}

/* Takes the range, and unless capture is passing the LSN and the slot. */
/* model: sync.pml, LSN_RESERVED; contact.pml, WRITE_RESERVED; session.pml, RECORD_PRODUCED;
 * resync.pml, WRITE_CAPTURED, WRITE_PASSED */
static enum hk_step admit(struct hk_capture *c, struct hk_op *op, const struct hk_now *now)
{
    struct hk_reserve r = {.type = op->type,
                           .flags = op->flags,
                           .volume = op->volume,
                           .offset = op->offset,
                           .length = op->length,
                           .payload_len = payload_of(op)};
    struct hk_reserved reserved;

    hk_range_lock(c, op);
    if (c->passing) {
        c->uncaptured += op->type != HK_REC_FLUSH;
        c->uncaptured_in_flight++;
        hk_dirty_took(c, op);
        return HK_SUBMIT;
    }
    hk_policy_note_record(c, now);
    hk_capture_reserve(c, &r, now->real_ns, &reserved);
    op->captured = true;
    op->lsn = HK_LSN(reserved.lsn);
    op->end = HK_LSN(reserved.end);
    op->slot = reserved.slot;
    op->payload = reserved.payload;
    c->writes += op->type != HK_REC_FLUSH;
    c->bytes += op->length;
    hk_dirty_took(c, op);
    hk_meta_plan_ceiling(c);
    return HK_COPY;
}

static void set_stall(struct hk_capture *c, enum hk_stall stall, const struct hk_now *now)
{
    bool full = stall == HK_STALL_ROOM || stall == HK_STALL_HOT;

    if (full && c->stall != HK_STALL_ROOM && c->stall != HK_STALL_HOT)
        c->room_since_ns = hk_max_u64(now->mono_ns, 1);
    c->stall = stall;
}

static enum hk_step fail(struct hk_op *op, int result)
{
    op->stage = HK_OP_IDLE;
    op->result = result;
    return HK_FAIL;
}

enum hk_step hk_capture_begin(struct hk_capture *c, struct hk_op *op, const struct hk_now *now)
{
    enum hk_stall stall = HK_STALL_NONE;
    enum hk_step step;
    int rc = op_check(c, op);

    op->captured = op->pinned = op->owed = false;
    op->mark_wait = op->flush = 0;
    op->payload = NULL;
    op->lsn = op->end = HK_LSN(0);
    op->result = 0;
    op->since_ns = now->mono_ns;
    if (rc)
        return fail(op, rc);
    if (c->stopping)
        return fail(op, -ESHUTDOWN);
    if (c->rescan)
        hk_capture_settle(c, now);
    if (op->type == HK_REC_BLOCK)
        return hk_block_begin(c, op, now);
    if (c->stall == HK_STALL_NONE && !hk_range_busy(c, op) && !hk_range_queued(c, op)) {
        stall = stall_of(c, op);
        if (stall == HK_STALL_NONE) {
            step = admit(c, op, now);
            op->stage = step == HK_COPY ? HK_OP_COPYING : HK_OP_SUBMITTED;
            return step;
        }
    }
    if (c->cfg.held_max && c->waiting.count >= c->cfg.held_max) {
        hk_dirty_drop(c, op);
        return fail(op, -EAGAIN);
    }
    op->stage = HK_OP_WAITING;
    hk_op_list_push(&c->waiting, op);
    if (c->stall == HK_STALL_NONE && stall != HK_STALL_MARK)
        set_stall(c, stall, now);
    hk_capture_settle(c, now);
    return HK_WAIT;
}

/* model: sync.pml, RECORD_PUBLISHED; promote.pml, RECORD_PRODUCED */
void hk_capture_publish(const struct hk_capture *c, struct hk_op *op)
{
    HK_ASSERT(op->stage == HK_OP_COPYING);
    hk_capture_publish_slot(c, op->slot, op->lsn.v, op->payload);
}

/* model: sync.pml, SUBMITTED_TO_ORIGIN */
enum hk_step hk_capture_copied(struct hk_capture *c, struct hk_op *op)
{
    HK_ASSERT(op->stage == HK_OP_COPYING && op->captured);
    HK_ASSERT(c->slots[op->slot & c->slot_mask].lsn == op->lsn.v);
    if (op->type == HK_REC_BLOCK)
        return hk_block_copied(c, op);
    op->stage = HK_OP_SUBMITTED;
    if (HK_BUG(done_early))
        hk_capture_mark_done(c, op->slot);
    hk_capture_advance_published(c);
    return HK_SUBMIT;
}

/* The dirty map knows which regions; without one it may be all of them. */
static uint32_t failed_flags(const struct hk_capture *c)
{
    return HK_SF_ORIGIN_FAILED | (hk_dirty_on(c) ? HK_SF_STALE : HK_SF_FULL_COMPARE);
}

static void origin_failed(struct hk_capture *c)
{
    c->origin_errors++;
    hk_meta_set(c, failed_flags(c));
}

/* model: sync.pml, ORIGIN_DONE; resync.pml, ORIGIN_WRITTEN */
enum hk_step hk_capture_written(struct hk_capture *c, struct hk_op *op, int result,
                                const struct hk_now *now)
{
    HK_ASSERT(op->stage == HK_OP_SUBMITTED);
    HK_ASSERT(result <= 0);
    hk_range_unlock(c, op);
    if (op->captured && !HK_BUG(done_early))
        hk_capture_mark_done(c, op->slot);
    if (!op->captured) {
        HK_ASSERT(c->uncaptured_in_flight > 0);
        c->uncaptured_in_flight--;
    }
    c->origins_flushed = false;
    hk_dirty_done(c, op, result);
    op->result = result;
    if (result < 0) {
        origin_failed(c);
        /* "The volumes differ" is durable before the application hears of the error. */
        op->stage = HK_OP_FAILED;
        hk_op_list_push(&c->failed, op);
    } else if (!hk_policy_may_complete(c, op)) {
        op->stage = HK_OP_HELD;
        hk_op_list_push_by_end(&c->held, op);
    } else {
        op->stage = HK_OP_IDLE;
    }
    hk_capture_settle(c, now);
    return op->stage == HK_OP_IDLE ? HK_DONE : HK_WAIT;
}

static void make_ready(struct hk_capture *c, struct hk_op_list *from, struct hk_op *op,
                       enum hk_op_stage stage)
{
    hk_op_list_remove(from, op);
    op->stage = (uint8_t)stage;
    hk_op_list_push(&c->ready, op);
}

static void release_failed(struct hk_capture *c)
{
    bool durable = hk_meta_surely_set(c, failed_flags(c));

    /* If the metadata fails too, the application is told anyway: an error is no acknowledgement. */
    while (c->failed.first &&
           ((durable && hk_dirty_told(c, c->failed.first)) || c->meta_failed_since_ns))
        make_ready(c, &c->failed, c->failed.first, HK_OP_READY_DONE);
}

/* model: sync.pml, WRITE_COMPLETED; contact.pml, WRITE_COMPLETED; promote.pml, WRITE_COMPLETED */
static void release_held(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_op *op, *next;
    bool dead = c->stage == HK_SYNC_DEGRADING && hk_meta_dead(c, now->mono_ns);

    for (op = c->held.first; op; op = next) {
        next = op->link.next;
        if (!hk_policy_may_complete(c, op)) {
            if (!dead && op->owed)
                continue;
            if (!dead)
                break;
            /* Neither replicated nor known to be unreplicated: the one error Hikae may cause. */
            op->result = -EIO;
        }
        make_ready(c, &c->held, op, HK_OP_READY_DONE);
    }
}

/* Who waits for the metadata, and for nothing else, when it does not come back. */
static bool waits_for_meta(const struct hk_capture *c, enum hk_stall stall)
{
    if (c->barred || c->redo_next < c->redo_end)
        return false;
    return stall == HK_STALL_GATE || stall == HK_STALL_CEILING || stall == HK_STALL_MARK ||
           (stall == HK_STALL_ROOM && c->behind_wanted);
}

/* Looked at again when a write of the log or of the map has ended, or none ever will. */
static bool waits_for_mark(const struct hk_capture *c, const struct hk_op *op)
{
    return op->mark_wait > c->dirty.writes_done && !c->meta_failed_since_ns;
}

static void scan_waiting(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_op *op, *next;
    enum hk_stall stall = HK_STALL_NONE;
    bool full = false;

    for (op = c->waiting.first; op; op = next) {
        next = op->link.next;
        /* Behind one that waits for slots of the dirty map only those go on that hold some: they
         * are what it waits for. */
        if (full && !op->pinned)
            continue;
        if (waits_for_mark(c, op) || hk_range_busy(c, op) || hk_range_queued(c, op))
            continue;
        stall = stall_of(c, op);
        if (stall == HK_STALL_NONE) {
            enum hk_step step = admit(c, op, now);

            make_ready(c, &c->waiting, op, step == HK_COPY ? HK_OP_READY_COPY : HK_OP_READY_SUBMIT);
        } else if (hk_meta_dead(c, now->mono_ns) && waits_for_meta(c, stall)) {
            op->result = -EIO;
            hk_dirty_drop(c, op);
            make_ready(c, &c->waiting, op, HK_OP_READY_FAIL);
            stall = HK_STALL_NONE;
        } else if (stall == HK_STALL_MARK) {
            /* Whoever stands behind asks too: all of these marks go out as one. */
            stall = HK_STALL_NONE;
        } else if (stall == HK_STALL_HOT) {
            full = true;
            stall = HK_STALL_NONE;
        } else {
            break;
        }
    }
    if (full && stall == HK_STALL_NONE)
        stall = HK_STALL_HOT;
    set_stall(c, c->waiting.first ? stall : HK_STALL_NONE, now);
    if (c->stall == HK_STALL_CEILING) {
        /* Only with steps as small as tests make them: one step may be less than one record. */
        c->ceiling_need = (uint32_t)hk_max_u64(c->ceiling_need, HK_RECORD_BYTES_MAX);
        hk_meta_plan_ceiling(c);
    }
}

void hk_capture_settle(struct hk_capture *c, const struct hk_now *now)
{
    c->rescan = false;
    hk_capture_advance_tail(c);
    hk_policy_step(c, now);
    hk_epoch_step(c, now);
    hk_control_step(c, now);
    hk_meta_plan_ceiling(c);
    hk_dirty_step(c, now);
    release_failed(c);
    release_held(c, now);
    scan_waiting(c, now);
    hk_block_step(c);
    /* A scan may have found the ring full: the ladder's next step must not wait for a tick. */
    hk_policy_step(c, now);
    release_held(c, now);
    hk_policy_state(c, now);
}

struct hk_op *hk_capture_next(struct hk_capture *c, enum hk_step *ret_step,
                              const struct hk_now *now)
{
    struct hk_op *op;

    if (c->rescan)
        hk_capture_settle(c, now);
    op = c->ready.first;
    if (!op)
        return NULL;
    hk_op_list_remove(&c->ready, op);
    switch ((enum hk_op_stage)op->stage) {
    case HK_OP_READY_READ:
        op->stage = HK_OP_READING;
        *ret_step = HK_READ;
        return op;
    case HK_OP_READY_COPY:
        op->stage = HK_OP_COPYING;
        *ret_step = HK_COPY;
        return op;
    case HK_OP_READY_SUBMIT:
        op->stage = HK_OP_SUBMITTED;
        *ret_step = HK_SUBMIT;
        return op;
    case HK_OP_READY_DONE:
        op->stage = HK_OP_IDLE;
        *ret_step = HK_DONE;
        return op;
    case HK_OP_READY_FAIL:
        op->stage = HK_OP_IDLE;
        *ret_step = HK_FAIL;
        return op;
    case HK_OP_IDLE:
    case HK_OP_WAITING:
    case HK_OP_BLOCK:
    case HK_OP_READING:
    case HK_OP_COPYING:
    case HK_OP_SUBMITTED:
    case HK_OP_HELD:
    case HK_OP_FAILED: break;
    }
    HK_ASSERT(!"an op in the ready queue is ready");
    return NULL;
}

bool hk_capture_cancel(struct hk_capture *c, struct hk_op *op)
{
    if (op->stage == HK_OP_WAITING) {
        hk_op_list_remove(&c->waiting, op);
        hk_dirty_drop(c, op);
    } else if (op->stage == HK_OP_BLOCK) {
        hk_block_cancel(c, op);
    } else if (op->stage == HK_OP_HELD) {
        hk_op_list_remove(&c->held, op);
    } else {
        return false;
    }
    op->stage = HK_OP_IDLE;
    c->rescan = true;
    return true;
}

bool hk_capture_redo_next(struct hk_capture *c, struct hk_redo *ret)
{
    const struct hk_record *slot = &c->slots[c->redo_next & c->slot_mask];
    const struct hk_ring_side *side = &c->sides[c->redo_next & c->slot_mask];

    if (c->redo_next >= c->redo_end)
        return false;
    HK_ASSERT(!side->done && slot->lsn == side->lsn);
    ret->record = *slot;
    ret->payload = slot->payload_len ? c->payload + side->payload_pos % c->payload_bytes : NULL;
    c->redo_out = true;
    return true;
}

/* model: sync.pml, REDONE */
void hk_capture_redo_done(struct hk_capture *c, int result, const struct hk_now *now)
{
    HK_ASSERT(c->redo_out && c->redo_next < c->redo_end);
    HK_ASSERT(result <= 0);
    if (result < 0) {
        origin_failed(c);
        hk_dirty_redo_failed(c, &c->slots[c->redo_next & c->slot_mask]);
    }
    hk_capture_mark_done(c, c->redo_next);
    c->redo_next++;
    c->redo_out = false;
    redo_skip(c);
    hk_capture_settle(c, now);
}

/* model: sync.pml, STOPPED_CLEAN */
static void stop_clean(struct hk_capture *c)
{
    c->want.clean_lsn = c->next_lsn;
    c->want.clean_time_ns = c->last_time_ns;
    c->want.clean_prev_bytes = c->prev_bytes;
    c->want.durable_known = hk_max_u64(c->want.durable_known, c->durable);
    if (hk_dirty_on(c))
        c->want.dmap_sequence = hk_dirty_sequence(c);
    hk_meta_set(c, HK_SF_CLEAN);
}

void hk_capture_origins_flushed(struct hk_capture *c, int result, const struct hk_now *now)
{
    HK_ASSERT(result <= 0);
    hk_dirty_flushed(c, result);
    if (result < 0)
        origin_failed(c);
    else if (c->in_flight == 0 && c->redo_next >= c->redo_end)
        c->origins_flushed = true;
    hk_capture_settle(c, now);
}

bool hk_capture_wants_flush(struct hk_capture *c, const struct hk_now *now)
{
    return hk_dirty_wants_flush(c, now);
}

bool hk_capture_stop(struct hk_capture *c, const struct hk_now *now)
{
    bool stalled = hk_elapsed_ns(now->mono_ns, c->drain_stall_ns) >= c->contact_timeout_ns;

    c->stopping = true;
    if (c->stopped)
        return true;
    hk_capture_advance_published(c);
    hk_capture_settle(c, now);
    if (c->in_flight || c->waiting.count || c->held.count || c->failed.count || c->ready.count ||
        c->blocks.count || c->redo_next < c->redo_end)
        return false;
    if (c->closed || c->barred || (c->want.flags & HK_SF_FULL_COMPARE)) {
        c->stopped = true;
        return true;
    }
    if (c->durable >= c->next_lsn && !c->origins_flushed && !HK_BUG(clean_unflushed))
        return false;
    if (!hk_dirty_settled(c) || (c->durable >= c->next_lsn && !hk_dirty_quiet(c)))
        return false;
    if (c->durable >= c->next_lsn) {
        stop_clean(c);
        c->stopped = true;
        return true;
    }
    /* What the standby lacks is in the ring only. Not clean, then: the ring must be found again. */
    c->stopped =
        c->on_link_loss == HK_LINK_LOSS_CONTINUE && (stalled || c->stage == HK_SYNC_DEGRADED);
    return c->stopped;
}

void hk_capture_status(const struct hk_capture *c, struct hk_capture_status *ret)
{
    struct hk_dirty_status dirty;

    __builtin_memset(ret, 0, sizeof(*ret));
    ret->state = c->state;
    ret->state_since_ns = c->state_since_ns;
    ret->super = c->super;
    /* What is decided is told: else "0 would be lost" is said until it is durable. */
    ret->super.flags |= c->want.flags & (HK_SF_FULL_COMPARE | HK_SF_ORIGIN_FAILED | HK_SF_STALE);
    /* What the log has not said yet does not hold yet. */
    for (uint32_t v = 0; v < c->cfg.volume_count; v++)
        ret->super.volume[v].bytes = c->cfg.volume_bytes[v];
    /* Told from the start: whoever is met must be able to tell one life from another. */
    ret->super.ring_id = c->want.ring_id;
    if (!c->returning)
        ret->super.ring_first_lsn = c->want.ring_first_lsn;
    /* An epoch that is durable has no place in the ring before the old one's slots are free: who
     * was told of it now would look for its first record where that still stands. */
    else if (hk_history_last(&c->super.history)->ordinal != c->epoch_ordinal)
        ret->super.history.count--;
    ret->produced = HK_LSN(c->produced);
    ret->released = HK_LSN(c->released);
    ret->acked = HK_LSN(c->acked);
    ret->durable = HK_LSN(c->durable);
    ret->ceiling = HK_LSN(c->super.ceiling);
    ret->tail = c->unreleased;
    ret->tail_lsn =
        HK_LSN(c->unreleased < c->head ? c->sides[c->unreleased & c->slot_mask].lsn : c->next_lsn);
    ret->slots_used = (uint32_t)(c->head - c->tail);
    ret->slots_total = (uint32_t)c->slot_count;
    ret->waiting = c->waiting.count;
    ret->held = c->held.count;
    ret->payload_used = c->payload_head - c->payload_tail;
    ret->payload_total = c->payload_bytes;
    ret->writes = c->writes;
    ret->bytes = c->bytes;
    ret->uncaptured = c->uncaptured;
    ret->origin_errors = c->origin_errors;
    ret->copies_lost = c->copies_lost;
    hk_dirty_status(c, &dirty);
    ret->regions_active = dirty.active;
    ret->regions_hot = dirty.hot;
    ret->regions_stale = dirty.stale;
    ret->regions_spooled = dirty.spooled;
    ret->stale_bytes = dirty.stale_bytes;
    ret->meta_writes = c->meta_writes;
    ret->attached = c->attached;
    ret->passing = c->passing;
    ret->barred = c->barred;
    ret->closed = c->closed;
    ret->resync = hk_epoch_resync(c);
    ret->resync_pass = c->resync_pass;
    ret->resync_at = HK_LSN(c->resync_at);
    ret->bad_ranges = c->bad_ranges;
    ret->uncaptured_in_flight = c->uncaptured_in_flight;
    ret->blocks_in_flight = c->blocks_out;
    ret->mode_end = HK_LSN(c->mode_end);
    ret->in_sync = c->mode == HK_MODE_SYNC && c->cfg.mode == HK_MODE_SYNC &&
                   c->stage == HK_SYNC_WAITING && !c->closed && !c->barred && c->mode_end &&
                   !c->pending_mode && c->durable >= c->mode_end && c->durable >= c->serve_lsn &&
                   !((c->super.flags | c->want.flags) &
                     (HK_SF_DEGRADED | HK_SF_FULL_COMPARE | HK_SF_CLEAN | HK_SF_STALE));
}

enum hk_group_state hk_capture_state(const struct hk_capture *c)
{
    return c->state;
}

uint64_t hk_capture_controls(const struct hk_capture *c)
{
    return c->controls;
}
