/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's applier: runs behind `durable`, never in the way of receiving. `applied` is stored
 * after the replicas were flushed. At a barrier the record's meaning and applied = its end go into
 * one superblock write; then the applier goes on, or stands (freeze).
 */
#include "proto/bug.h"
#include "replicator/group/private.h"
#include "replicator/store/line.h"

#include <errno.h>

uint64_t hk_standby_lag_bytes(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;
    const struct hk_history *h = &hk_standby_super(g)->history;
    uint64_t applied = s->applied;

    if (h->count == 0)
        return 0;
    return hk_lag_bytes(h, hk_max_u64(applied, h->epoch[0].first_lsn), s->reported);
}

/* model: resync.pml, APPLIED_STORED */
static void applied_is_stored(struct hk_group *g, uint64_t lsn)
{
    struct hk_standby *s = g->standby;

    if (lsn <= s->applied)
        return;
    s->applied = lsn;
    hk_journal_applied(&s->journal, lsn);
    /* What may be looked back on is counted in log: the hole before an epoch holds none. */
    hk_journal_retain(&s->journal, hk_lag_before(&hk_standby_super(g)->history, lsn,
                                                 g->cfg.journal_retain_bytes));
}

bool hk_standby_drained(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;
    uint64_t lsn;

    if (s->apply.state != HK_APPLY_IDLE || s->barrier != HK_BARRIER_NONE || s->applied_ticket)
        return false;
    return hk_line_seek(&hk_standby_super(g)->history, hk_apply_flushed(&s->apply), &lsn) < 0 ||
           lsn >= s->reported;
}

void hk_standby_apply_rebase(struct hk_group *g, uint64_t lsn)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);

    HK_ASSERT(hk_standby_drained(g) && lsn >= super->applied);
    /* What is here ends where it stands: that is the state a pin will keep. */
    hk_standby_close_interval(super, super->applied);
    super->applied = lsn;
    s->applied_put = lsn;
    hk_apply_rebase(&s->apply, lsn);
}

/* ---- barriers ---- */

/* model: freeze.pml, MARK_REACHED */
static void freeze_begins(struct hk_group *g, const struct hk_record *r, const struct hk_mark *m)
{
    struct hk_super *super = hk_standby_super(g);

    super->flags |= HK_SF_FROZEN;
    super->freeze_lsn = hk_record_end(r).v;
    super->freeze_time_ns = r->time_ns;
    __builtin_memcpy(super->freeze_name, m->name, HK_NAME_BYTES);
}

static void open_interval(struct hk_super *super, uint64_t from, uint32_t ordinal)
{
    if (super->interval_count == HK_INTERVALS_MAX) {
        super->interval_count--;
        __builtin_memmove(&super->interval[0], &super->interval[1],
                          super->interval_count * sizeof(super->interval[0]));
    }
    super->interval[super->interval_count++] =
        (struct hk_interval){.from = from, .epoch_ordinal = ordinal};
}

void hk_standby_close_interval(struct hk_super *super, uint64_t to)
{
    struct hk_interval *v =
        super->interval_count ? &super->interval[super->interval_count - 1] : NULL;

    if (v && v->to == 0)
        v->to = hk_max_u64(to, v->from);
}

void hk_standby_open_interval(struct hk_super *super, uint64_t from, uint32_t ordinal)
{
    hk_standby_close_interval(super, from);
    open_interval(super, from, ordinal);
}

/* After promote and switchover a new epoch is consistent at once; else not until a resync ended. */
static void epoch_opens(struct hk_group *g, const struct hk_record *r)
{
    struct hk_super *super = hk_standby_super(g);
    const struct hk_epoch *e = hk_history_at(&super->history, r->epoch);
    struct hk_gap gap;

    __builtin_memcpy(&gap, g->standby->apply.barrier_payload, sizeof(gap));
    if (gap.reason != HK_EPOCH_PROMOTE && gap.reason != HK_EPOCH_SWITCHOVER) {
        hk_pin_resync_begins(g, r);
        return;
    }
    if (e)
        hk_standby_close_interval(super, e->parent_end);
    if (!(super->flags & HK_SF_RESYNC))
        hk_standby_open_interval(super, hk_record_end(r).v, r->epoch);
}

static void mark_reached(struct hk_group *g, const struct hk_record *r)
{
    const struct hk_standby *s = g->standby;
    struct hk_mark mark;

    __builtin_memcpy(&mark, s->apply.barrier_payload, sizeof(mark));
    /* A promotion under way passes marks by: the image would end before it began. Inside a resync
     * there is nothing that may be shown. */
    if (mark.kind == HK_MARK_FREEZE && s->promotion == HK_PROMOTION_NONE &&
        !(hk_standby_super(g)->flags & HK_SF_RESYNC))
        freeze_begins(g, r, &mark);
}

/* The record's meaning and applied = its end, in one write. */
static void store_barrier(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t end = hk_record_end(&s->apply.barrier).v;

    hk_standby_super(g)->applied = end;
    s->applied_put = end;
    s->barrier = HK_BARRIER_STORING;
    s->barrier_ticket = hk_standby_put(g);
}

static void take_barrier(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_record *r = &s->apply.barrier;
    uint64_t end = hk_record_end(r).v;
    struct hk_mode_change mode;

    switch ((enum hk_record_type)r->type) {
    case HK_REC_MARK: mark_reached(g, r); break;
    case HK_REC_MODE:
        __builtin_memcpy(&mode, s->apply.barrier_payload, sizeof(mode));
        hk_standby_mode_seen(g, end, &mode);
        break;
    case HK_REC_GAP: epoch_opens(g, r); break;
    case HK_REC_RESYNC_BEGIN:
        hk_pin_resync_begins(g, r);
        hk_pin_preflight(g, s->apply.barrier_payload);
        break;
    case HK_REC_RESYNC_END: hk_pin_resync_ends(g, r); break;
    case HK_REC_RESIZE: hk_grow_take(g, s->apply.barrier_payload); break;
    case HK_REC_JOIN:
    case HK_REC_LEAVE:
        /* Refused at receipt; in the journal it is another version's: not to be guessed at. */
        hk_group_notify(g, HK_NOTE_BAD_RECORD, r->lsn, HK_RECORD_BAD_TYPE, 0, NULL);
        hk_group_fatal(g, HK_NOTE_BAD_RECORD, -EUCLEAN);
        return;
    case HK_REC_WRITE:
    case HK_REC_ZEROES:
    case HK_REC_DISCARD:
    case HK_REC_FLUSH:
    case HK_REC_VOID:
    case HK_REC_BLOCK:
    case HK_REC_BAD_RANGE: HK_ASSERT(!"no barrier"); break;
    }
    store_barrier(g);
}

/* model: freeze.pml, FROZEN_DURABLE; promote.pml, MODE_STORED */
static void barrier_is_stored(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);
    uint64_t end = hk_record_end(&s->apply.barrier).v;

    applied_is_stored(g, end);
    if ((super->flags & HK_SF_FROZEN) && super->freeze_lsn == end) {
        s->barrier = HK_BARRIER_FROZEN;
        hk_receiver_ack_now(&s->receiver);
        hk_group_notify(g, HK_NOTE_FROZEN, end, 0, 0, super->freeze_name);
        hk_freeze_reached(g, end, super->freeze_name);
        if (!HK_BUG(apply_past_mark))
            return;
    }
    s->barrier = HK_BARRIER_NONE;
    if (!(super->flags & HK_SF_PINNED))
        hk_pin_let_go(g);
    hk_apply_resume(&s->apply);
}

/* ---- failures ---- */

static void replica_failed(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    s->replica_failed = true;
    hk_standby_super(g)->flags |= HK_SF_NOT_PROMOTABLE;
    hk_standby_put(g);
    hk_group_notify(g, HK_NOTE_REPLICA_FAILED, s->apply.failed_volume,
                    (uint64_t)(int64_t)s->apply.error, 0, NULL);
}

static void log_is_corrupt(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    hk_group_notify(g, HK_NOTE_BAD_RECORD, s->apply.bad_lsn, s->apply.record_fault, 0, NULL);
    hk_group_fatal(g, HK_NOTE_BAD_RECORD, s->apply.error);
}

/* ---- the course of things ---- */

/* model: promote.pml, APPLIED_PUT; freeze.pml, APPLIED_PUT */
static void store_applied(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t flushed = hk_apply_flushed(&s->apply);

    if (s->applied_ticket && hk_standby_stored(g, s->applied_ticket)) {
        s->applied_ticket = 0;
        applied_is_stored(g, s->applied_put);
        hk_apply_stored(&s->apply, hk_min_u64(s->applied_put, flushed));
    }
    if (s->applied_ticket || s->barrier != HK_BARRIER_NONE || flushed <= s->applied_put)
        return;
    hk_standby_super(g)->applied = flushed;
    s->applied_put = flushed;
    s->applied_ticket = hk_standby_put(g);
    if (HK_BUG(applied_not_stored))
        applied_is_stored(g, flushed);
}

/*
 * Copying and hashing takes a while, and a frame that waits behind it waits for its ack. So frames
 * only note that there is work; it is done at other events, a bounded piece each time.
 */
static void run(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    bool more = true;

    if (s->barrier != HK_BARRIER_NONE || (hk_freeze_holds(g) && !HK_BUG(apply_past_mark))) {
        s->apply_more = false;
        return;
    }
    if (s->apply_budget == 0) {
        s->apply_more = s->apply_more || s->apply_looked_to < s->reported;
        return;
    }
    for (; more && s->apply_budget > 0; s->apply_budget--)
        more = hk_apply_run(&s->apply, s->reported, hk_receiver_intact_from(&s->receiver));
    s->apply_looked_to = s->reported;
    s->apply_more = more;
}

static void grow_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    int r;

    if (s->barrier == HK_BARRIER_NONE)
        s->grow.error = 0;
    r = hk_grow_barrier(g, s->apply.barrier_payload);

    if (r == -EINPROGRESS) {
        s->barrier = HK_BARRIER_GROWING;
        return;
    }
    s->barrier = HK_BARRIER_NONE;
    if (r == 0) {
        take_barrier(g);
        return;
    }
    s->apply.failed_volume = s->grow.volume;
    s->apply.error = r;
    replica_failed(g);
}

static void barrier_step(struct hk_group *g)
{
    const struct hk_standby *s = g->standby;

    if (s->barrier != HK_BARRIER_NONE || s->apply.state != HK_APPLY_BARRIER || s->applied_ticket)
        return;
    /* It gives the pin up: not while that is an image. */
    if (s->apply.barrier.type == HK_REC_RESYNC_END && hk_standby_frozen(g) &&
        !HK_BUG(resync_ends_under_image))
        return;
    if (hk_pin_wanted(g, &s->apply.barrier, s->apply.barrier_payload))
        hk_pin_begin(g, &s->apply.barrier);
    else if (s->apply.barrier.type == HK_REC_RESIZE)
        grow_step(g);
    else
        take_barrier(g);
}

static void pin_step(struct hk_group *g)
{
    if (!hk_pin_step(g))
        return;
    hk_pin_take(g);
    take_barrier(g);
    hk_group_notify(g, HK_NOTE_PINNED, hk_standby_super(g)->pin_lsn,
                    hk_standby_super(g)->pin_ordinal, 0, NULL);
}

void hk_standby_apply_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->replica_failed)
        return;
    pin_step(g);
    if (s->barrier == HK_BARRIER_STORING && hk_standby_stored(g, s->barrier_ticket))
        barrier_is_stored(g);
    store_applied(g);
    if (s->barrier == HK_BARRIER_GROWING)
        grow_step(g);
    barrier_step(g);
    run(g);
    store_applied(g);
    /* Two marks in a row: nothing is under way that would bring the next event. */
    barrier_step(g);
    if (s->apply.state == HK_APPLY_REPLICA_FAILED)
        replica_failed(g);
    else if (s->apply.state == HK_APPLY_CORRUPT)
        log_is_corrupt(g);
    hk_lag_rate_update(&s->apply_rate, hk_apply_flushed(&s->apply),
                       hk_apply_flushed(&s->apply) < s->reported && !hk_freeze_holds(g),
                       g->now.mono_ns);
}
