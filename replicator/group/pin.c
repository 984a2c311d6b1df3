/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pin: at the record that ends a consistent interval (a gap, or resync-begin) the standby's
 * state is kept as a snapshot, and {interval closed, RESYNC, PINNED, applied} goes into one
 * superblock write before any later byte reaches a replica. An interrupted resync keeps the first
 * pin. At resync-end the next interval opens in the same write that clears both flags; then the
 * pin's room is given back. Until the first synchronisation has ended there is nothing to pin.
 *
 * A pin needs no log: it is the state itself. Room for before-images that runs out stops the
 * applier, with an alarm; it goes on when there is room. Dropping a pin for it needs people.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"

#include <errno.h>

#define RETRY_NS 1000000000ull

struct hk_snapshots_cfg hk_pin_snapshots_cfg(const struct hk_group_cfg *cfg)
{
    struct hk_snapshots_cfg c = {
        .disk = cfg->disk,
        .group_id = cfg->group_id,
        .slot_count = cfg->snapshot_slots,
        .space_bytes = cfg->snapshot_bytes,
        .volume_count = cfg->volume_count,
    };

    for (uint32_t v = 0; v < cfg->volume_count; v++)
        c.volume_bytes[v] = hk_grow_max(cfg, v);
    return c;
}

void hk_pin_start(struct hk_group *g)
{
    const struct hk_super *super = hk_standby_super(g);
    struct hk_snapshots_known known = {
        .replica_id = super->replica_id,
        .next = super->snapshot_next ? super->snapshot_next : 1,
        .pinned = super->flags & HK_SF_PINNED,
        .pin_lsn = super->pin_lsn,
        .pin_ordinal = super->pin_ordinal,
    };

    hk_snapshots_start(&g->standby->snapshots, &known);
}

/* True when the snapshots of the life before are known. */
bool hk_pin_started(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!hk_snapshots_idle(&s->snapshots))
        return false;
    if ((hk_standby_super(g)->flags & HK_SF_PINNED) && hk_snapshots_pin(&s->snapshots) < 0 &&
        !s->pin_broken) {
        s->pin_broken = true;
        hk_group_notify(g, HK_NOTE_PIN_BROKEN, hk_standby_super(g)->pin_lsn, 0, 0, NULL);
    }
    return true;
}

/* ---- what the records mean ---- */

/* Is there a consistent state here, or a pin of one? */
bool hk_pin_ever_consistent(const struct hk_super *super)
{
    if (super->flags & HK_SF_RESYNC)
        return super->flags & HK_SF_PINNED;
    return super->interval_count > 0;
}

/* Does this record end a consistent interval, and is what it ends to be kept? */
bool hk_pin_wanted(const struct hk_group *g, const struct hk_record *r, const void *payload)
{
    const struct hk_super *super = hk_standby_super(g);
    struct hk_gap gap;

    if (r->type == HK_REC_GAP) {
        __builtin_memcpy(&gap, payload, sizeof(gap));
        if (gap.reason == HK_EPOCH_PROMOTE || gap.reason == HK_EPOCH_SWITCHOVER)
            return false;
    } else if (r->type != HK_REC_RESYNC_BEGIN) {
        return false;
    }
    if (g->standby->pin_given_up)
        return false;
    /* Version 1 can't say it (SPEC.md §12.3): the applier stands there, and says so. */
    if (!hk_super_is_current(super))
        return true;
    if ((super->flags & HK_SF_RESYNC) && !HK_BUG(repin_while_inconsistent))
        return false;
    return super->interval_count > 0;
}

/*
 * The last consistent position before that record, and its epoch. An interval that is closed
 * already was closed because log is missing behind it (hk_standby_apply_rebase). An interval never
 * goes beyond its epoch.
 */
static void consistent_before(const struct hk_group *g, const struct hk_record *r,
                              uint64_t *ret_lsn, uint32_t *ret_ordinal)
{
    const struct hk_super *super = hk_standby_super(g);
    const struct hk_interval *v;
    const struct hk_epoch *next;

    HK_ASSERT(super->interval_count > 0);
    v = &super->interval[super->interval_count - 1];
    next = hk_history_at(&super->history, v->epoch_ordinal + 1);
    *ret_ordinal = v->epoch_ordinal;
    *ret_lsn = v->to ? v->to : r->lsn;
    if (v->to == 0 && r->type == HK_REC_GAP && next)
        *ret_lsn = next->parent_end;
    *ret_lsn = hk_max_u64(*ret_lsn, v->from);
    if (HK_BUG(repin_while_inconsistent) && (super->flags & HK_SF_RESYNC))
        *ret_lsn = r->lsn;
}

static void try_to_make(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    int r;

    if (s->pin_making || g->now.mono_ns < s->pin_retry_ns)
        return;
    r = hk_super_is_current(hk_standby_super(g)) ? hk_snapshots_make(&s->snapshots, &s->pin_ask)
                                                 : -EOPNOTSUPP;
    if (r == -EBUSY)
        return; /* a deletion is under way: its end is an event */
    if (r == 0)
        s->pin_making = true;
    else
        hk_pin_failed(g, r);
}

void hk_pin_begin(struct hk_group *g, const struct hk_record *r)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);

    s->pin_ask = (struct hk_snapshot_ask){
        .kind = HK_SNAP_PIN,
        .id = super->snapshot_next ? super->snapshot_next : 1,
        .time_ns = g->now.real_ns,
    };
    if (super->interval_count > 0)
        consistent_before(g, r, &s->pin_ask.lsn, &s->pin_ask.epoch_ordinal);
    s->pin_retry_ns = 0;
    s->pin_error = 0;
    s->barrier = HK_BARRIER_PINNING;
    if (HK_BUG(pin_after_first_block))
        s->pin_late = hk_record_end(r).v;
    else
        try_to_make(g);
}

void hk_pin_failed(struct hk_group *g, int error)
{
    struct hk_standby *s = g->standby;

    s->pin_retry_ns = g->now.mono_ns + RETRY_NS;
    if (s->pin_error != error)
        hk_group_notify(g, HK_NOTE_PIN_SPACE, (uint64_t)(int64_t)error,
                        hk_snapshots_used(&s->snapshots), g->cfg.snapshot_bytes, NULL);
    s->pin_error = error;
}

/* Into the superblock, together with what the record says. */
/* model: resync.pml, PINNED */
void hk_pin_take(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);

    super->flags |= HK_SF_PINNED;
    hk_grow_forget_pin(super);
    super->pin_lsn = s->pin_ask.lsn;
    super->pin_ordinal = s->pin_ask.epoch_ordinal;
    super->snapshot_next = s->pin_ask.id + 1;
    hk_snapshots_pinned(&s->snapshots, super->pin_lsn, super->pin_ordinal, super->snapshot_next);
    s->pin_broken = false;
    s->pin_error = 0;
}

/* The interval that ends here, whether it is pinned or was never one. */
void hk_pin_resync_begins(struct hk_group *g, const struct hk_record *r)
{
    struct hk_super *super = hk_standby_super(g);
    uint32_t ordinal;
    uint64_t lsn;

    if (super->interval_count > 0) {
        consistent_before(g, r, &lsn, &ordinal);
        hk_standby_close_interval(super, lsn);
    }
    super->flags |= HK_SF_RESYNC;
    /* All that it asked for is stale at the primary by now, or this record had not come. */
    super->flags &= ~(uint32_t)HK_SF_FULL_COMPARE;
}

/* model: resync.pml, INTERVAL_OPENED */
void hk_pin_resync_ends(struct hk_group *g, const struct hk_record *r)
{
    struct hk_super *super = hk_standby_super(g);

    super->flags &= ~(uint32_t)(HK_SF_RESYNC | HK_SF_PINNED);
    super->pin_lsn = 0;
    super->pin_ordinal = 0;
    hk_grow_forget_pin(super);
    hk_standby_open_interval(super, hk_record_end(r).v, r->epoch);
}

/* Is there room for what is stale? Said when it begins, while there is time to make some. */
void hk_pin_preflight(struct hk_group *g, const void *payload)
{
    struct hk_standby *s = g->standby;
    uint64_t room = hk_snapshots_room(&s->snapshots);
    struct hk_resync_begin b;

    __builtin_memcpy(&b, payload, sizeof(b));
    if ((hk_standby_super(g)->flags & HK_SF_PINNED) && b.stale_bytes > room)
        hk_group_notify(g, HK_NOTE_PIN_TIGHT, b.stale_bytes, room, 0, NULL);
}

/* That is durable: the pin is nobody's any more. */
void hk_pin_let_go(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!s->snapshots.known.pinned)
        return;
    hk_snapshots_unpinned(&s->snapshots);
    s->pin_broken = false;
    s->pin_release = true;
    hk_group_notify(g, HK_NOTE_PIN_FREED, hk_snapshots_used(&s->snapshots), 0, 0, NULL);
}

/* ---- the course of things ---- */

/* Whatever is of no use any more: the pin that was let go, what a deletion cut off left. */
/* model: resync.pml, PIN_FREED */
static void release(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!s->pin_release || s->snapshots.save != HK_SAVE_NONE || !hk_snapshots_idle(&s->snapshots))
        return;
    for (uint32_t i = 0; i < g->cfg.snapshot_slots; i++) {
        const struct hk_snapshot *x = &s->snapshots.slot[i];

        if (x->state == HK_SNAPSHOT_FREE || x->header.kind != HK_SNAP_PIN)
            continue;
        /* Neither the pin that stands nor what may be it, damaged: people want to look. */
        if (s->snapshots.known.pinned &&
            (hk_snapshots_pin(&s->snapshots) == (int)i || x->state == HK_SNAPSHOT_BROKEN))
            continue;
        if (hk_snapshots_drop(&s->snapshots, x->header.id) == 0)
            return;
    }
    s->pin_release = false;
}

static void watch_room(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->snapshots.stuck == 0) {
        if (s->pin_stuck)
            hk_group_notify(g, HK_NOTE_PIN_ROOM, hk_snapshots_used(&s->snapshots), 0, 0, NULL);
        s->pin_stuck = 0;
        return;
    }
    if (s->pin_stuck != s->snapshots.stuck)
        hk_pin_failed(g, s->snapshots.stuck);
    s->pin_stuck = s->snapshots.stuck;
    if (s->pin_stuck != -ENOSPC || g->now.mono_ns < s->pin_retry_ns)
        return;
    s->pin_retry_ns = g->now.mono_ns + RETRY_NS;
    hk_snapshots_retry(&s->snapshots);
    hk_apply_saving(&s->apply);
}

/* True: the pin that the barrier waits for is durable. */
bool hk_pin_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    release(g);
    watch_room(g);
    if (HK_BUG(pin_after_first_block) && s->pin_late) {
        if (s->barrier == HK_BARRIER_PINNING)
            return true;
        if (s->apply.state == HK_APPLY_IDLE && hk_apply_flushed(&s->apply) > s->pin_late &&
            hk_snapshots_make(&s->snapshots, &s->pin_ask) == 0)
            s->pin_late = 0;
        return false;
    }
    if (s->barrier != HK_BARRIER_PINNING)
        return false;
    if (!s->pin_making)
        try_to_make(g);
    if (!s->pin_making || !hk_snapshots_idle(&s->snapshots))
        return false;
    s->pin_making = false;
    if (s->snapshots.result == 0)
        return true;
    hk_pin_failed(g, s->snapshots.result);
    return false;
}

/* The applier stands, since no before-image or no pin can be stored: more log does not help. */
bool hk_pin_stands(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;

    return s->snapshots.stuck != 0 ||
           (s->barrier == HK_BARRIER_PINNING && !s->pin_making && s->pin_error != 0);
}

/*
 * A promotion whose log ends behind a resync-end needs no pin, and no room for one: what stands is
 * applied without before-images. Durably first: whoever starts in the middle of that finds no pin,
 * and goes on to the end as well.
 */
bool hk_pin_give_up(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!hk_pin_stands(g) || s->turn_type != HK_REC_RESYNC_END || s->applied >= s->turn_lsn ||
        s->turn_lsn > s->reported || !hk_super_is_current(hk_standby_super(g)))
        return false;
    if (s->snapshots.stuck != 0) {
        s->pin_broken = true;
        return hk_snapshots_give_up(&s->snapshots) || !hk_snapshots_idle(&s->snapshots) ||
               !hk_snapshots_quiet(&s->snapshots);
    }
    s->pin_given_up = true;
    s->pin_error = 0;
    s->barrier = HK_BARRIER_NONE;
    return true;
}

uint64_t hk_pin_deadline_ns(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;

    if (s->stage != HK_STAGE_REDO && s->stage != HK_STAGE_READY)
        return UINT64_MAX;
    if (s->snapshots.stuck == -ENOSPC ||
        (s->barrier == HK_BARRIER_PINNING && !s->pin_making && s->pin_error))
        return s->pin_retry_ns;
    return UINT64_MAX;
}
