/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A promotion that can't end where the log ends, because the log ends inside a resync: it goes back
 * to the pin. What is durable of the log and not applied yet is applied first if a record in it may
 * end the resync, since the newest consistent position is the one that loses least.
 *
 * One superblock write cuts the history to the pin's epoch, forks off it at the pin and says
 * ROLLING_BACK: from there on the journal counts for nothing, also after a restart. Before-images
 * are copied back (the same each time) and flushed; then PINNED and RESYNC go, applied is the
 * pin's, and the promotion goes on as ever. ROLLING_BACK goes with PROMOTING.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"
#include "replicator/store/line.h"

#include <errno.h>

static bool caught_up(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;
    uint64_t flushed = hk_apply_flushed(&s->apply), next = flushed;

    /* It stands for want of room: where it stands is as good as a pin, or there is one. */
    if (hk_pin_stands(g))
        return true;
    if (s->barrier != HK_BARRIER_NONE || s->apply.state != HK_APPLY_IDLE ||
        !hk_apply_quiet(&s->apply) || s->applied < flushed)
        return false;
    hk_line_seek(&hk_standby_super(g)->history, flushed, &next);
    return next >= s->reported;
}

/* Is there log whose meaning must be known before anything is decided? */
bool hk_rollback_must_look(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;
    uint64_t turn = hk_min_u64(hk_max_u64(s->turn_lsn, s->mode_unsure_until), s->reported);

    return s->applied < turn && !caught_up(g);
}

/* 0: the log ends in a consistent state; 1: it goes back; -ENODATA: there never was one. */
int hk_rollback_decide(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);

    if (s->barrier == HK_BARRIER_PINNING) {
        s->rollback_lsn = s->pin_ask.lsn;
        s->rollback_ordinal = s->pin_ask.epoch_ordinal;
    } else if (!(super->flags & HK_SF_RESYNC)) {
        const struct hk_interval *v;

        if (super->interval_count == 0)
            return -ENODATA;
        v = &super->interval[super->interval_count - 1];
        if (v->to == 0)
            return 0;
        /* Log is missing behind it: it ended where the applier stood, and nothing was applied. */
        s->rollback_lsn = v->to;
        s->rollback_ordinal = v->epoch_ordinal;
    } else if (!(super->flags & HK_SF_PINNED)) {
        return -ENODATA;
    } else {
        s->rollback_lsn = super->pin_lsn;
        s->rollback_ordinal = super->pin_ordinal;
        if (hk_snapshots_pin(&s->snapshots) < 0)
            return -EUCLEAN;
    }
    if (!hk_super_is_current(super))
        return -EOPNOTSUPP;
    if (!hk_history_at(&super->history, s->rollback_ordinal))
        return -EUCLEAN;
    s->going_back = true;
    hk_apply_stop(&s->apply);
    return 1;
}

/* The line of history ends with the pin's epoch; the caller appends the new one and puts. */
void hk_rollback_fork(struct hk_group *g)
{
    struct hk_super *super = hk_standby_super(g);
    struct hk_history *h = &super->history;
    uint32_t keep = g->standby->rollback_ordinal - h->dropped;

    HK_ASSERT(hk_history_at(h, g->standby->rollback_ordinal) && keep <= h->count);
    __builtin_memset(&h->epoch[keep], 0, (h->count - keep) * sizeof(h->epoch[0]));
    h->count = keep;
    super->flags |= HK_SF_ROLLING_BACK;
}

static int begin(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    int slot = hk_snapshots_pin(&s->snapshots), r;
    uint64_t bytes = hk_snapshots_rollback_bytes(&s->snapshots);

    if (slot < 0)
        return -EUCLEAN;
    r = hk_snapshots_rollback(&s->snapshots, s->snapshots.slot[slot].header.id);
    if (r == -EBUSY)
        return -EINPROGRESS;
    if (r != 0)
        return r;
    s->rollback_begun = true;
    s->rollback_ns = g->now.mono_ns;
    hk_group_notify(g, HK_NOTE_ROLLBACK, s->rollback_lsn, bytes, 0, NULL);
    return -EINPROGRESS;
}

static void rolled_back(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);

    super->flags &= ~(uint32_t)(HK_SF_PINNED | HK_SF_RESYNC);
    super->pin_lsn = 0;
    super->pin_ordinal = 0;
    hk_grow_back_to_pin(super);
    super->applied = s->rollback_lsn;
    s->applied = s->applied_put = s->reported = s->rollback_lsn;
    hk_standby_close_interval(super, s->rollback_lsn);
    s->promotion_ticket = hk_standby_put(g);
    if (s->rollback_begun)
        hk_group_notify(g, HK_NOTE_ROLLED_BACK, s->rollback_lsn, s->snapshots.rolled_back,
                        g->now.mono_ns - s->rollback_ns, NULL);
}

/* 0: done, its end is being stored; -EINPROGRESS; else why it can't be done. */
int hk_rollback_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!hk_apply_quiet(&s->apply))
        return -EINPROGRESS;
    if (!s->rollback_begun) {
        if (!hk_snapshots_quiet(&s->snapshots) || !hk_pin_started(g))
            return -EINPROGRESS;
        if (hk_standby_super(g)->flags & HK_SF_PINNED)
            return begin(g);
    } else {
        if (!hk_snapshots_idle(&s->snapshots))
            return -EINPROGRESS;
        if (s->snapshots.result != 0)
            return s->snapshots.result;
    }
    rolled_back(g);
    return 0;
}

/* The life before was on its way back: neither its journal nor its applier is needed. */
void hk_rollback_resume(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);

    s->going_back = true;
    s->rollback_lsn = super->promote_lsn;
    s->rollback_ordinal = hk_history_epochs(&super->history) - 1;
    s->reported = super->promote_lsn;
    s->stage = HK_STAGE_ROLLBACK;
    hk_promote_resume(g);
    s->promotion = HK_PROMOTION_ROLLBACK;
}
