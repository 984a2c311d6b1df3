/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Epochs: how the log ends before its time and goes on in a new one, and what opens and closes a
 * resync. A closed log gives no LSNs; what the application writes meanwhile waits, or goes to the
 * origin uncaptured (policy.c). Only the standby's position leads on: hk_capture_return.
 */
#include "driver-glue/capture/dirty.h"
#include "driver-glue/capture/internal.h"
#include "proto/bug.h"

#include <errno.h>

/* No group writes so much in its life; it keeps what a stranger says from exhausting the LSNs. */
#define LSN_SANE_MAX (1ull << 60)

bool hk_epoch_unequal(const struct hk_capture *c)
{
    return (c->want.flags & HK_SF_FULL_COMPARE) || hk_dirty_stale(c) > 0;
}

bool hk_epoch_resync(const struct hk_capture *c)
{
    return hk_epoch_unequal(c) || (c->want.flags & HK_SF_STALE);
}

/* model: resync.pml, WENT_BEHIND */
void hk_epoch_close(struct hk_capture *c, const struct hk_now *now)
{
    if (c->closed)
        return;
    c->closed = true;
    c->closed_ns = now->mono_ns;
    c->begin_first = c->pending_gap = c->pending_mode = c->pending_rejoin = false;
    c->resync_at = c->resync_end = 0;
    if (hk_policy_watermark(c) >= c->next_lsn)
        c->hold_stall_ns = now->mono_ns;
    /* A successor that finds this ring must not go on in it either. */
    __atomic_store_n(&c->producer->closed, 1, __ATOMIC_RELEASE);
}

int hk_capture_offer_epoch(struct hk_capture *c, const struct hk_uuid *id)
{
    if (hk_uuid_is_nil(id) || hk_history_find(&c->want.history, id))
        return -EINVAL;
    if (!hk_uuid_is_nil(&c->next_epoch))
        return -EEXIST;
    c->next_epoch = *id;
    return 0;
}

bool hk_capture_wants_epoch(const struct hk_capture *c)
{
    return hk_uuid_is_nil(&c->next_epoch);
}

/*
 * Can the standby be there? A whole ring was sent to its end; of a lost one only the standby knows
 * how far it came; a damaged record is where a log ends that was whole before.
 */
static bool may_end_at(const struct hk_capture *c, uint64_t end)
{
    uint64_t first = hk_history_last(&c->want.history)->first_lsn;

    if (end % HK_RECORD_ALIGN != 0 || end >= LSN_SANE_MAX)
        return false;
    if (c->all_stale)
        return true;
    if (end < hk_max_u64(c->durable, first))
        return false;
    if (c->ring_lost)
        return end <= c->want.ceiling;
    if (c->copy_lost)
        return end <= c->broken_lsn;
    return (end == c->next_lsn && c->durable >= c->next_lsn) || HK_BUG(gap_before_tail);
}

static enum hk_epoch_reason reason_of(const struct hk_capture *c)
{
    if (c->all_stale)
        return HK_EPOCH_GAP_ROLLBACK;
    return c->ring_lost ? HK_EPOCH_GAP_CRASH : HK_EPOCH_GAP_BEHIND;
}

/* Above every LSN that was ever given out, and above what a standby has that knows more than we. */
static uint64_t first_lsn_behind(const struct hk_capture *c, uint64_t end)
{
    uint64_t first = HK_BUG(lsn_reuse_after_ring_loss) ? c->next_lsn : c->want.ceiling;

    if (end <= first)
        return first;
    return first + (end - first + c->cfg.ceiling_step_bytes - 1) / c->cfg.ceiling_step_bytes *
                       c->cfg.ceiling_step_bytes;
}

/* model: resync.pml, RETURNED */
int hk_capture_return(struct hk_capture *c, uint64_t lease, struct hk_lsn parent_end,
                      const struct hk_now *now)
{
    uint64_t end, first;
    int rc;

    if (!c->attached || lease != c->lease)
        return -ESTALE;
    if (!c->closed)
        return -EALREADY;
    if (c->returning)
        return 0;
    if (!hk_dirty_on(c))
        return -EOPNOTSUPP;
    hk_capture_advance_published(c);
    if (!may_end_at(c, parent_end.v))
        return -ERANGE;
    if (hk_uuid_is_nil(&c->next_epoch) || c->stopping || c->redo_next < c->redo_end)
        return -EAGAIN;
    end = hk_max_u64(parent_end.v, hk_history_last(&c->want.history)->first_lsn);
    first = first_lsn_behind(c, end);
    rc = hk_super_append_epoch(&c->want, &c->next_epoch, first, end, reason_of(c), now->real_ns);
    if (rc)
        return rc;
    /* In the same write: no bit of an older epoch counts for anything but stale from then on. */
    hk_dirty_spool_end(c, parent_end.v);
    c->want.ceiling = first;
    c->want.ring_first_lsn = first; /* of this log, in whatever ring */
    c->next_epoch = (struct hk_uuid){{0}};
    c->returning = true;
    /* From gap on the standby is in no consistent state until resync-end: what is acknowledged may
     * be lost with a promotion, though it waited for the standby. */
    hk_policy_declare_alone(c, now);
    c->meta_dirty = true;
    hk_capture_settle(c, now);
    return 0;
}

/* Whose acknowledgement the old epoch still owes: the standby has it when the resync has ended. */
static void hold_until_healed(struct hk_capture *c)
{
    for (struct hk_op *op = c->held.first; op; op = op->link.next)
        op->owed = true;
}

static void begin_stage(struct hk_capture *c)
{
    if (!hk_policy_waits(c) || !hk_policy_continues(c))
        c->stage = HK_SYNC_WAITING;
    else if (c->passing && !c->pass_held)
        c->stage = HK_SYNC_DEGRADED;
    else if (c->stage == HK_SYNC_REJOIN)
        c->stage = HK_SYNC_WAITING;
    c->pending_mode = c->stage == HK_SYNC_WAITING;
}

static void begin_epoch(struct hk_capture *c, const struct hk_epoch *epoch,
                        const struct hk_now *now)
{
    HK_ASSERT(c->tail == c->head && c->published == c->head && c->marks == 0);
    HK_ASSERT(c->redo_next >= c->redo_end);
    hold_until_healed(c);
    begin_stage(c);
    c->epoch_ordinal = epoch->ordinal;
    c->epoch_seed = hk_epoch_seed(&epoch->id);
    c->epoch_head = c->head;
    c->unreleased = c->tail;
    c->next_lsn = c->produced = epoch->first_lsn;
    c->released = c->acked = c->durable = epoch->first_lsn;
    c->prev_bytes = 0;
    c->mode_end = c->serve_lsn = c->rejoin_target = 0;
    c->hold_stall_ns = c->drain_stall_ns = now->mono_ns;
    c->over = c->closed = c->returning = c->passing = c->pass_held = c->behind_wanted = false;
    c->copy_lost = c->ring_lost = c->all_stale = false;
    c->pending_gap = true;
    hk_resize_say_all(c);
    hk_capture_write_producer(c, epoch);
}

bool hk_epoch_owes(const struct hk_capture *c)
{
    /* By their ends: those of older epochs stand in front. */
    return c->held.first && c->held.first->owed;
}

/* The standby has resync-end: nothing differs any more, and it knows. */
static void resync_over(struct hk_capture *c)
{
    c->resync_end = 0;
    for (struct hk_op *op = c->held.first; op; op = op->link.next)
        op->owed = false;
    hk_meta_clear(c, HK_SF_STALE);
    /* Every region that an error had made stale was read and compared. What could not be read in an
     * earlier resync is known to be readable again only when all of it was compared. */
    if (c->resync_whole && !c->resync_bad)
        hk_meta_clear(c, HK_SF_UNREADABLE);
    if (!(c->want.flags & HK_SF_UNREADABLE))
        hk_meta_clear(c, HK_SF_ORIGIN_FAILED);
    /* What is said of sync before this point was said of a standby that would roll back. */
    if (hk_policy_waits(c) && c->stage == HK_SYNC_WAITING)
        c->pending_mode = true;
}

void hk_epoch_step(struct hk_capture *c, const struct hk_now *now)
{
    const struct hk_epoch *epoch = hk_history_last(&c->super.history);

    if (c->returning && epoch->ordinal != c->epoch_ordinal) {
        /* Nobody reads the old epoch any more: its slots wait for the origin alone. */
        c->over = true;
        hk_capture_advance_tail(c);
        if (c->tail == c->head)
            begin_epoch(c, epoch, now);
    }
    /* On the way to behind the flag is wanted for what comes. */
    if (c->resync_end && c->durable >= c->resync_end && !hk_epoch_unequal(c) && !c->behind_wanted)
        resync_over(c);
    if (!hk_dirty_on(c))
        return;
    /* Under `block` nothing is acknowledged that a promotion would roll back; nor by a promoted
     * side that met its first standby, before the mode record that makes it wait. */
    c->barred =
        hk_policy_forbids(c) && (c->closed || hk_epoch_resync(c) || c->stage == HK_SYNC_DEGRADED);
    if (!c->closed && hk_epoch_resync(c))
        hk_policy_declare_alone(c, now);
}

bool hk_epoch_wants_begin(const struct hk_capture *c)
{
    if (c->resync_at || c->closed || !hk_dirty_on(c))
        return false;
    /* What is in flight uncaptured must not reach the origin behind a compare. */
    if (c->uncaptured_in_flight && !HK_BUG(begin_before_uncaptured_ended))
        return false;
    if (!hk_epoch_unequal(c) && (!(c->want.flags & HK_SF_STALE) || c->resync_end))
        return false;
    /* A life that finds resync-begin in the log must know that it owes the end, even where no
     * region is stale: a failed flush with nothing written before it. */
    if (!c->begin_first && (c->want.flags & HK_SF_STALE) && !hk_meta_surely_set(c, HK_SF_STALE))
        return false;
    return hk_policy_declared_alone(c);
}

/* model: resync.pml, RESYNC_BEGUN */
void hk_epoch_begun(struct hk_capture *c, const struct hk_reserved *r)
{
    c->resync_pass = r->lsn / HK_RECORD_ALIGN;
    c->resync_at = r->end;
    c->resync_lsn = r->lsn;
    c->resync_end = 0;
    c->resync_whole = hk_dirty_none_is_equal(c);
    c->resync_bad = false;
    c->begin_first = false;
}

/*
 * Not while no standby was ever met: nobody could have been equal yet, and the copy that a seed
 * becomes (SPEC.md §6.13) is of no one moment; the end of a resync is where it becomes consistent,
 * so it must come behind all that the seed holds.
 */
bool hk_epoch_wants_end(const struct hk_capture *c)
{
    if (!c->resync_at || c->closed)
        return false;
    if (hk_uuid_is_nil(&c->super.peer_replica_id))
        return false;
    return !hk_epoch_unequal(c) || (HK_BUG(resync_end_early) && hk_dirty_stale(c) <= 1);
}

/* model: resync.pml, RESYNC_ENDED */
void hk_epoch_ended(struct hk_capture *c, const struct hk_reserved *r)
{
    c->resync_at = 0;
    c->resync_end = r->end;
}

/* ---- which regions ---- */

static uint64_t good_from(const struct hk_capture *c, const struct hk_stale *s)
{
    return HK_BUG(hash_before_begin) ? s->after : hk_max_u64(s->after, c->resync_at);
}

int hk_capture_stale_next(const struct hk_capture *c, uint16_t volume, uint64_t offset,
                          struct hk_capture_stale *ret)
{
    struct hk_stale s;

    if (c->closed || (!c->resync_at && !HK_BUG(hash_before_begin)))
        return -EAGAIN;
    if (volume >= c->cfg.volume_count || !hk_dirty_next(c, volume, offset, &s))
        return -ENOENT;
    *ret = (struct hk_capture_stale){.volume = s.volume,
                                     .offset = s.offset,
                                     .bytes = s.bytes,
                                     .event = s.event,
                                     .after = HK_LSN(good_from(c, &s))};
    return 0;
}

int hk_capture_heal(struct hk_capture *c, uint64_t lease, uint16_t volume, uint64_t offset,
                    uint64_t event, struct hk_lsn end, const struct hk_now *now)
{
    struct hk_stale s;
    int rc;

    if (!c->attached || lease != c->lease)
        return -ESTALE;
    if (volume >= c->cfg.volume_count || offset >= c->cfg.volume_bytes[volume])
        return -EINVAL;
    if (c->closed || (!c->resync_at && !HK_BUG(hash_before_begin)))
        return -EAGAIN;
    hk_capture_advance_published(c);
    if (end.v > c->produced)
        return -ERANGE;
    if (event > UINT32_MAX || !hk_dirty_next(c, volume, offset, &s) || s.volume != volume ||
        s.offset != offset)
        return -EAGAIN;
    if (end.v < good_from(c, &s))
        return s.event == event ? -ERANGE : -EAGAIN;
    rc = hk_dirty_heal(c, volume, offset, (uint32_t)event, end.v);
    if (rc == 0)
        hk_capture_settle(c, now);
    return rc;
}

/* ---- the standby is somewhere else ---- */

bool hk_capture_all_stale(const struct hk_capture *c)
{
    if (!c->all_stale)
        return false;
    return hk_meta_surely_set(c, HK_SF_FULL_COMPARE) ||
           (hk_dirty_on(c) && hk_dirty_settled(c) && hk_meta_surely_set(c, HK_SF_STALE));
}

int hk_capture_stale_all(struct hk_capture *c, uint64_t lease, const struct hk_now *now)
{
    if (!c->attached || lease != c->lease)
        return -ESTALE;
    if (c->all_stale || c->returning)
        return 0;
    c->all_stale = true;
    hk_meta_set(c, HK_SF_FULL_COMPARE);
    if (hk_dirty_on(c)) {
        hk_dirty_stale_all(c);
        hk_epoch_close(c, now);
    }
    hk_capture_settle(c, now);
    return 0;
}
