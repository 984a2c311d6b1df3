/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failover: this standby becomes a primary. In this order, each step durable before the next:
 *
 *   UNFREEZE       a standing freeze is ended, declared
 *   JOURNAL        everything that was acknowledged, if only in memory, goes into the journal
 *   CATCH_UP       if the log that is not applied yet may begin or end a resync, it is applied
 *   EPOCH          PROMOTING, the new epoch, where its parent ended, the loss class
 *   DRAIN          the replica becomes exactly the log up to there
 *   ROLLBACK       or, when that is no consistent state, the pin (rollback.c)
 *   PRIMARY_…      a dirty map (primary_map.c) and a primary's superblock for this site's capture
 *                  side, the superblock last
 *   FINISH         PROMOTED
 *
 * From the verb on no session is taken. A daemon killed before EPOCH is durable has promoted
 * nothing; after it, it finishes the promotion by itself when it starts again.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"
#include "replicator/store/line.h"

#include <errno.h>

static const struct hk_epoch *new_epoch(const struct hk_group *g)
{
    return hk_history_last(&hk_standby_super(g)->history);
}

/*
 * Was the fence in force before t0 + T? It is dated by the wall clock, which may have been set
 * since: so it is carried over to the monotonic clock twice, by what the wall clock said at t0 and
 * by what it says now, and both must be in time. A fence from before t0 contradicts the contact at
 * t0. A daemon that was started after t0 has its date from the wall clock alone, and nothing tells
 * how long ago that was: then nothing is proven.
 */
static bool fenced_in_time(const struct hk_group *g, uint64_t fence_ns, uint64_t timeout_ns)
{
    const struct hk_standby *s = g->standby;
    uint64_t stored = hk_super_store_durable(&s->super)->contact_time_ns;
    uint64_t ago_ns;

    if (s->t0.mono_ns == 0)
        return HK_BUG(fence_by_stored_t0) && stored != 0 && fence_ns >= stored &&
               fence_ns < stored + timeout_ns;
    if (fence_ns < s->t0.real_ns || fence_ns >= s->t0.real_ns + timeout_ns)
        return false;
    /* Dated by another thread, a moment after this turn's clock was read; or the clock was set. */
    if (fence_ns > g->now.real_ns)
        return g->now.mono_ns + (fence_ns - g->now.real_ns) < s->t0.mono_ns + timeout_ns;
    ago_ns = g->now.real_ns - fence_ns;
    if (ago_ns > g->now.mono_ns || g->now.mono_ns - ago_ns < s->t0.mono_ns)
        return false;
    return g->now.mono_ns - ago_ns < s->t0.mono_ns + timeout_ns;
}

/*
 * The history names an epoch whose gap is not applied yet: what is stale at the primary may be what
 * this side has lost, and had once reported.
 */
static bool gap_ahead(const struct hk_group *g)
{
    const struct hk_epoch *e = new_epoch(g);

    return e && e->reason >= HK_EPOCH_GAP_BEHIND && g->standby->applied <= e->first_lsn;
}

/* SPEC.md §9: never better than what is proven (I18). */
enum hk_loss_class hk_promote_class(const struct hk_group *g, const struct hk_verb *v)
{
    const struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_super_store_durable(&s->super);
    uint32_t flags = super->flags | hk_standby_super(g)->flags;

    if (super->mode != HK_MODE_SYNC || (flags & (HK_SF_FULL_COMPARE | HK_SF_RESYNC)))
        return HK_LOSS_UNKNOWN;
    if (s->going_back)
        return HK_LOSS_UNKNOWN;
    /* What is gone of metadata or journal may have been relied on. */
    if ((flags & HK_SF_IN_DOUBT) || s->log_in_doubt)
        return HK_LOSS_UNKNOWN;
    /* Recovered log that was not read yet may hold the record that ended mode sync. */
    if (s->applied < s->mode_unsure_until)
        return HK_LOSS_UNKNOWN;
    /* A gap or resync-begin that is not applied yet: it may come to the pin. */
    if (s->applied < s->turn_lsn || gap_ahead(g))
        return HK_LOSS_UNKNOWN;
    if (super->on_link_loss == HK_LINK_LOSS_BLOCK)
        return HK_LOSS_ZERO_PROVEN;
    if (v->fence == HK_FENCE_OK && fenced_in_time(g, v->fence_time_ns, super->contact_timeout_ns))
        return HK_LOSS_ZERO_IF_FENCED;
    return HK_LOSS_UNKNOWN;
}

static void answer(struct hk_group *g, int error)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);
    uint64_t arg[4] = {super->promote_lsn, super->loss_class, g->now.mono_ns - s->promotion_ns,
                       super->contact_time_ns};

    if (s->failover.op_id)
        hk_group_verb_done(g, s->failover.op_id, error, 0, error ? NULL : arg);
    s->failover.op_id = 0;
}

/* model: promote.pml, FAILOVER_ORDERED; resync.pml, PROMOTION_ORDERED */
void hk_promote_verb(struct hk_group *g, const struct hk_verb *v)
{
    struct hk_standby *s = g->standby;
    int error = 0;

    if (s->stage == HK_STAGE_PROMOTED) {
        /* Done before: the answer is what was done. */
        s->failover.op_id = v->op_id;
        s->promotion_ns = g->now.mono_ns;
        answer(g, 0);
        return;
    }
    if (s->promotion_resumed && s->failover.op_id == 0) {
        s->failover.op_id = v->op_id;
        return;
    }
    if (s->stage != HK_STAGE_READY)
        error = -EAGAIN;
    else if (s->promotion != HK_PROMOTION_NONE)
        error = -EBUSY;
    else if (s->replica_failed)
        error = -EIO;
    else if (new_epoch(g) == NULL)
        error = -ENODATA; /* never met a primary: there is nothing to take over */
    else if (!hk_rollback_must_look(g) && !hk_pin_ever_consistent(hk_standby_super(g)))
        error = -ENODATA; /* the first synchronisation has not ended */
    else if (hk_uuid_is_nil(&v->new_epoch) ||
             hk_history_find(&hk_standby_super(g)->history, &v->new_epoch))
        error = -EINVAL;
    else if (!hk_super_is_current(hk_standby_super(g)) &&
             hk_standby_super(g)->history.count == HK_HISTORY_EPOCHS_MAX)
        error = -ENOSPC;
    if (error) {
        hk_group_verb_done(g, v->op_id, error, 0, NULL);
        return;
    }
    s->failover = *v;
    s->promotion_ns = g->now.mono_ns;
    s->promotion = HK_PROMOTION_UNFREEZE;
    hk_standby_end_session(g, HK_REFUSE_PROMOTED);
}

void hk_promote_resume(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    s->promotion = HK_PROMOTION_DRAIN;
    s->promotion_resumed = true;
    s->promotion_ns = g->now.mono_ns;
    hk_group_notify(g, HK_NOTE_PROMOTION_STARTED, hk_standby_super(g)->promote_lsn,
                    hk_standby_super(g)->loss_class, 0, NULL);
}

static void unfreeze(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->barrier == HK_BARRIER_STORING)
        return; /* it may be a freeze that is just beginning */
    if ((hk_standby_super(g)->flags & HK_SF_FROZEN) && !s->freeze_ending)
        hk_freeze_end(g, HK_FREEZE_FAILOVER, 0);
    if (!hk_standby_frozen(g))
        s->promotion = HK_PROMOTION_JOURNAL;
}

/* Semisync acknowledged what is only in memory here: it is part of what must not be lost. */
/* model: promote.pml, EVERYTHING_JOURNALLED */
static void journal_all(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    /* Adopted a moment ago, and no record of it came yet: it is this epoch that ends here. */
    if (hk_standby_epoch_pending(g) && !hk_standby_begin_epoch(g))
        return;
    if (!HK_BUG(promotion_forgets_memory) &&
        (s->receiver.acked > hk_journal_end(&s->journal) || !hk_journal_idle(&s->journal) ||
         s->mode_count > 0 || s->reported != hk_journal_durable(&s->journal)))
        return;
    s->promotion = HK_PROMOTION_CATCH_UP;
}

static void catch_up(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    int error = s->replica_failed ? -EIO : 0;

    if (!error && (hk_rollback_must_look(g) || hk_pin_give_up(g)))
        return;
    if (!error)
        error = hk_rollback_decide(g);
    if (error < 0) {
        answer(g, error);
        s->promotion = HK_PROMOTION_NONE;
        return;
    }
    hk_freeze_promoting(g);
    s->promotion = HK_PROMOTION_EPOCH;
    s->promotion_ticket = 0;
}

/* model: promote.pml, EPOCH_PUT */
static void begin_epoch(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);
    /* An epoch that was adopted, but of which nothing came, ends where it begins. */
    uint64_t end = hk_max_u64(s->reported, new_epoch(g)->first_lsn);
    uint64_t ceiling = hk_max_u64(super->ceiling, s->told_ceiling);
    uint64_t first = hk_round_up(hk_max_u64(end, ceiling), HK_CEILING_STEP_BYTES);
    uint64_t position = s->going_back ? s->rollback_lsn : end;
    enum hk_loss_class class = hk_promote_class(g, &s->failover);
    int err;

    if (s->going_back)
        hk_rollback_fork(g);
    err = hk_super_append_epoch(super, &s->failover.new_epoch, first, position, HK_EPOCH_PROMOTE,
                                g->now.real_ns);

    HK_ASSERT(err == 0); /* looked at when the verb came, and nothing has changed history since */
    super->flags |= HK_SF_PROMOTING;
    super->loss_class = class;
    super->promote_lsn = position;
    super->promote_time_ns = g->now.real_ns;
    s->promotion_ticket = hk_standby_put(g);
}

/* model: promote.pml, NEW_EPOCH_DURABLE; resync.pml, PROMOTION_DURABLE */
static void epoch_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->promotion_ticket == 0) {
        begin_epoch(g);
        return;
    }
    if (!hk_standby_stored(g, s->promotion_ticket) && !HK_BUG(epoch_early))
        return;
    hk_group_notify(g, HK_NOTE_PROMOTION_STARTED, hk_standby_super(g)->promote_lsn,
                    hk_standby_super(g)->loss_class, 0, NULL);
    s->promotion = s->going_back ? HK_PROMOTION_ROLLBACK : HK_PROMOTION_DRAIN;
}

static void roll_back(struct hk_group *g)
{
    int r = hk_rollback_step(g);

    if (r == 0)
        g->standby->promotion = HK_PROMOTION_ROLLED;
    else if (r != -EINPROGRESS)
        answer(g, r); /* it stays PROMOTING; the next start tries again */
}

static void rolled_back(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!hk_standby_stored(g, s->promotion_ticket))
        return;
    hk_pin_let_go(g);
    hk_super_store_start(&s->primary_md);
    s->promotion = HK_PROMOTION_PRIMARY_READ;
}

/* model: promote.pml, DRAINED */
static void drain(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t next = 0;

    if (s->replica_failed) {
        /* It stays PROMOTING: the epoch is durable, and no other copy may take its place quietly.
         */
        answer(g, -EIO);
        return;
    }
    if (!HK_BUG(promotion_undrained) &&
        (s->stage != HK_STAGE_READY || s->barrier != HK_BARRIER_NONE ||
         s->apply.state != HK_APPLY_IDLE || !hk_apply_quiet(&s->apply)))
        return;
    /* Stored, too: from the primary's superblock on its capture side may write the replica, and a
     * daemon that starts again must not redo older log over that. */
    if (s->applied < hk_apply_flushed(&s->apply) && !HK_BUG(promotion_undrained))
        return;
    /* An empty log ends where it begins: there may be nothing to apply at all. */
    hk_line_seek(&hk_standby_super(g)->history, hk_apply_flushed(&s->apply), &next);
    if (next < hk_standby_super(g)->promote_lsn && !HK_BUG(promotion_undrained))
        return;
    hk_super_store_start(&s->primary_md);
    s->promotion = HK_PROMOTION_PRIMARY_READ;
}

/* A superblock of this site's capture side. There is no standby, and no resync that could make one.
 */
static void fill_primary(const struct hk_super *standby, const struct hk_epoch *epoch,
                         struct hk_super *ret)
{
    uint64_t sequence = ret->sequence;

    *ret = *standby;
    ret->sequence = sequence;
    ret->role = HK_ROLE_PRIMARY;
    ret->flags = HK_SF_DEGRADED | HK_SF_FULL_COMPARE;
    ret->ceiling = epoch->first_lsn;
    ret->applied = 0;
    ret->degraded_time_ns = standby->promote_time_ns;
    ret->degraded_lsn = epoch->first_lsn;
    ret->contact_time_ns = 0;
    ret->ring_id = (struct hk_uuid){{0}};
    ret->peer_replica_id = (struct hk_uuid){{0}}; /* the old primary is no standby of ours */
    ret->loss_class = HK_LOSS_NONE;
    ret->promote_lsn = ret->promote_time_ns = 0;
    ret->pin_lsn = 0;
    ret->pin_ordinal = ret->snapshot_next = 0;
    ret->region_shift = 0; /* until there is a map */
    ret->dmap_sequence = 0;
    /* Nor can it grow: the map is made for what it has. */
    for (uint32_t i = 0; i < ret->volume_count; i++)
        ret->volume[i].first_region = ret->volume[i].room_bytes = ret->volume[i].prior_bytes = 0;
}

/* model: promote.pml, PRIMARY_MD_DURABLE */
static void primary_read(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_epoch *last;
    struct hk_super *md;

    switch (s->primary_md.state) {
    case HK_SUPER_STORE_NEW:
    case HK_SUPER_STORE_READING:
    case HK_SUPER_STORE_FAILED: return; /* a failure is seen by the pump */
    case HK_SUPER_STORE_INVALID:
        hk_group_notify(g, HK_NOTE_SUPER_FAILED, (uint64_t)(int64_t)-EUCLEAN, HK_FILE_PRIMARY_MD, 0,
                        NULL);
        hk_group_fatal(g, HK_NOTE_SUPER_FAILED, -EUCLEAN);
        return;
    case HK_SUPER_STORE_BLANK:
    case HK_SUPER_STORE_READY: break;
    }
    md = hk_super_store_get(&s->primary_md);
    last = hk_history_last(&md->history);
    s->promotion = HK_PROMOTION_PRIMARY_WRITE;
    s->promotion_ticket = 0;
    /* Written before the daemon was killed: a capture side may own it by now. */
    if (s->primary_md.state == HK_SUPER_STORE_READY && last &&
        hk_uuid_equal(&last->id, &new_epoch(g)->id))
        return;
    fill_primary(hk_standby_super(g), new_epoch(g), md);
    if (s->map_write.buffer && hk_super_is_current(md)) {
        hk_super_number_regions(md, g->cfg.region_shift);
        s->promotion = HK_PROMOTION_PRIMARY_MAP;
        return;
    }
    s->promotion_ticket = hk_super_store_put(&s->primary_md);
}

static void primary_map(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (hk_primary_map_step(g, hk_super_store_get(&s->primary_md)) != 0)
        return;
    s->promotion = HK_PROMOTION_PRIMARY_WRITE;
    s->promotion_ticket = hk_super_store_put(&s->primary_md);
}

/* model: promote.pml, PROMOTED_PUT */
static void finish(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);

    super->flags &= ~(uint32_t)(HK_SF_PROMOTING | HK_SF_ROLLING_BACK);
    super->flags |= HK_SF_PROMOTED;
    super->applied = hk_max_u64(super->applied, super->promote_lsn);
    hk_standby_close_interval(super, super->promote_lsn);
    hk_standby_open_interval(super, new_epoch(g)->first_lsn, new_epoch(g)->ordinal);
    s->promotion_ticket = hk_standby_put(g);
    s->promotion = HK_PROMOTION_FINISH;
}

/* model: promote.pml, PROMOTION_DONE; resync.pml, OPENED */
static void promoted(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);
    const struct hk_epoch *e = new_epoch(g);

    s->promotion = HK_PROMOTION_DONE;
    s->promotion_resumed = false;
    s->stage = HK_STAGE_PROMOTED;
    hk_group_notify(g, HK_NOTE_EPOCH, e->ordinal, e->first_lsn, e->reason, NULL);
    hk_group_notify(g, HK_NOTE_PROMOTED, super->promote_lsn, super->loss_class,
                    g->now.mono_ns - s->promotion_ns, NULL);
    answer(g, 0);
}

static void one_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    switch (s->promotion) {
    case HK_PROMOTION_NONE:
    case HK_PROMOTION_DONE: return;
    case HK_PROMOTION_UNFREEZE: unfreeze(g); return;
    case HK_PROMOTION_JOURNAL: journal_all(g); return;
    case HK_PROMOTION_CATCH_UP: catch_up(g); return;
    case HK_PROMOTION_EPOCH: epoch_step(g); return;
    case HK_PROMOTION_DRAIN: drain(g); return;
    case HK_PROMOTION_ROLLBACK: roll_back(g); return;
    case HK_PROMOTION_ROLLED: rolled_back(g); return;
    case HK_PROMOTION_PRIMARY_READ: primary_read(g); return;
    case HK_PROMOTION_PRIMARY_MAP: primary_map(g); return;
    case HK_PROMOTION_PRIMARY_WRITE:
        if (hk_super_store_stored(&s->primary_md) >= s->promotion_ticket)
            finish(g);
        return;
    case HK_PROMOTION_FINISH:
        if (hk_standby_stored(g, s->promotion_ticket))
            promoted(g);
        return;
    }
}

/* As far as it goes: a step that waits for nothing must not wait for the next event. */
void hk_promote_step(struct hk_group *g)
{
    enum hk_promotion before;

    do {
        before = g->standby->promotion;
        if (!g->failed)
            one_step(g);
    } while (g->standby->promotion != before);
}
