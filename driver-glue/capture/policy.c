/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What happens when the standby does not answer or the ring is full: pace, block, degrade, behind.
 * Each step that makes an unreplicated acknowledgement possible is durable before it takes effect
 * (I9), and none ever becomes an I/O error.
 */
#include "driver-glue/capture/dirty.h"
#include "driver-glue/capture/internal.h"
#include "proto/at.h"
#include "proto/bug.h"

#include <errno.h>

enum { PACE_CALM_RINGS = 4 };

bool hk_policy_waits(const struct hk_capture *c)
{
    return c->mode != HK_MODE_ASYNC;
}

uint64_t hk_policy_watermark(const struct hk_capture *c)
{
    return c->mode == HK_MODE_SEMISYNC || HK_BUG(sync_waits_for_acked) ? c->acked : c->durable;
}

/* model: contact.pml, WRITE_COMPLETED_ALONE */
bool hk_policy_may_complete(const struct hk_capture *c, const struct hk_op *op)
{
    if (!op->captured || !hk_policy_waits(c) || c->passing || c->stage == HK_SYNC_DEGRADED)
        return true;
    return !op->owed && hk_policy_watermark(c) >= op->end.v;
}

uint32_t hk_policy_passing_flags(const struct hk_capture *c)
{
    return (hk_dirty_on(c) ? HK_SF_STALE : HK_SF_FULL_COMPARE) |
           (hk_policy_waits(c) ? HK_SF_DEGRADED : 0);
}

/* model: sync.pml, PASSING; contact.pml, PASSED_ALONE */
bool hk_policy_gate_open(const struct hk_capture *c)
{
    if (c->barred || c->redo_next < c->redo_end || !hk_meta_started(c))
        return false;
    if (c->passing)
        return !c->pass_held && hk_meta_surely_set(c, hk_policy_passing_flags(c));
    /* The new life's opening records precede its first write. */
    return !c->pending_gap && !c->pending_mode && !c->pending_sizes && !c->begin_first;
}

bool hk_capture_serving(const struct hk_capture *c)
{
    if (c->barred || c->redo_next < c->redo_end)
        return false;
    if (c->on_link_loss == HK_LINK_LOSS_CONTINUE || !hk_policy_waits(c) || c->passing)
        return true;
    return hk_policy_watermark(c) >= c->serve_lsn;
}

/*
 * The standby counts on us for T by its own clock, and that one may be the slower. So whatever lets
 * writes be acknowledged without it waits for T by any clock.
 */
uint64_t hk_policy_patience_ns(const struct hk_capture *c)
{
    return c->contact_timeout_ns + c->contact_timeout_ns / HK_CLOCK_DRIFT_PART + 1;
}

/*
 * A promoted side that has not met a standby since: who ordered the promotion consented to run
 * without one, so `block`, which protects a standby's copy, has nothing to forbid.
 */
bool hk_policy_continues(const struct hk_capture *c)
{
    return c->on_link_loss == HK_LINK_LOSS_CONTINUE || hk_policy_alone_by_order(c);
}

/* model: promote.pml, FIRST_WRITE */
bool hk_policy_alone_by_order(const struct hk_capture *c)
{
    return hk_history_last(&c->super.history)->reason == HK_EPOCH_PROMOTE &&
           hk_uuid_is_nil(&c->super.peer_replica_id);
}

bool hk_policy_forbids(const struct hk_capture *c)
{
    return hk_policy_waits(c) && !hk_policy_continues(c) && !hk_policy_alone_by_order(c);
}

/*
 * The standby is known to be out of reach for T. A replicator that itself went quiet tells nothing
 * about the standby; then only missing progress counts.
 */
static bool no_contact(const struct hk_capture *c, uint64_t mono_ns)
{
    uint64_t limit = hk_policy_patience_ns(c);

    if (hk_elapsed_ns(mono_ns, c->contact_ns) < limit)
        return false;
    if (!c->attached)
        return hk_elapsed_ns(mono_ns, c->detached_since_ns) >= limit;
    return hk_elapsed_ns(mono_ns, c->report_ns) < limit;
}

static void want_degraded(struct hk_capture *c, const struct hk_now *now)
{
    if (!(c->want.flags & HK_SF_DEGRADED)) {
        c->want.degraded_time_ns = now->real_ns;
        c->want.degraded_lsn = c->durable;
    }
    hk_meta_set(c, HK_SF_DEGRADED);
}

void hk_policy_declare_alone(struct hk_capture *c, const struct hk_now *now)
{
    if (hk_policy_waits(c) && hk_policy_continues(c))
        want_degraded(c, now);
}

bool hk_policy_declared_alone(const struct hk_capture *c)
{
    if (!hk_policy_waits(c) || !hk_policy_continues(c))
        return true;
    return hk_meta_surely_set(c, HK_SF_DEGRADED);
}

/* A record is about to follow: if nothing was under way, waiting for the standby begins now. */
void hk_policy_note_record(struct hk_capture *c, const struct hk_now *now)
{
    if (hk_policy_watermark(c) >= c->next_lsn)
        c->hold_stall_ns = now->mono_ns;
    if (c->released >= c->next_lsn)
        c->drain_stall_ns = now->mono_ns;
}

/*
 * What a closed epoch owes waits for the end of a resync, and that may take long. From the moment
 * it was closed the standby was not told "replicating" any more, so T counts from there.
 */
static bool owes_too_long(const struct hk_capture *c, uint64_t mono_ns)
{
    return hk_epoch_owes(c) && hk_elapsed_ns(mono_ns, c->closed_ns) >= hk_policy_patience_ns(c);
}

/* Something waits for the standby: records, or whoever finds the log closed. */
static bool is_outstanding(const struct hk_capture *c)
{
    return hk_policy_watermark(c) < c->next_lsn || (c->closed && c->waiting.first);
}

/* WAITING or REJOIN → DEGRADING → DEGRADED. */
/* model: contact.pml, DEGRADE_DECIDED, DEGRADED_DURABLE */
static void degrade_step(struct hk_capture *c, const struct hk_now *now)
{
    bool outstanding = is_outstanding(c);
    bool stalled = hk_elapsed_ns(now->mono_ns, c->hold_stall_ns) >= hk_policy_patience_ns(c);

    if (!hk_policy_waits(c) || !hk_policy_continues(c) || c->barred)
        return;
    if (c->stage == HK_SYNC_WAITING || c->stage == HK_SYNC_REJOIN) {
        bool late = outstanding && (stalled || no_contact(c, now->mono_ns));

        if (!late && !owes_too_long(c, now->mono_ns))
            return;
        want_degraded(c, now);
        c->stage = HK_SYNC_DEGRADING;
    }
    if (c->stage == HK_SYNC_DEGRADING &&
        (HK_BUG(degraded_early) || hk_meta_surely_set(c, HK_SF_DEGRADED))) {
        c->stage = HK_SYNC_DEGRADED;
        c->rejoin_target = 0;
        c->pending_rejoin = false;
    }
}

/* Writers wait for room, and it is not the origin that keeps the oldest slot. */
static bool room_waits_for_replicator(const struct hk_capture *c)
{
    if (c->stall == HK_STALL_HOT)
        return hk_dirty_waits_for_standby(c);
    return c->stall == HK_STALL_ROOM && c->waiting.first && c->tail < c->head &&
           c->sides[c->tail & c->slot_mask].done;
}

/* The ladder ends with waiting: what a full ring can't take must not pass by. */
static bool overflow_waits(const struct hk_capture *c)
{
    if (hk_policy_alone_by_order(c))
        return false; /* nobody would ever make room */
    return !hk_policy_continues(c) ||
           (c->cfg.on_overflow == HK_OVERFLOW_BLOCK && !HK_BUG(overflow_ignored));
}

static bool is_full(const struct hk_capture *c)
{
    return (c->stall == HK_STALL_ROOM || c->stall == HK_STALL_HOT) && c->waiting.first;
}

/*
 * How long a writer may wait for room. With `behind` for what the spool is just taking, or in a
 * mode that waits until the standby, which counts on us for T, can't do so any more.
 */
static uint64_t pace_limit_ns(const struct hk_capture *c)
{
    if (c->cfg.on_overflow != HK_OVERFLOW_BEHIND || c->spool_room)
        return c->cfg.pace_bound_ns;
    return hk_policy_waits(c) ? hk_policy_patience_ns(c) : 0;
}

/*
 * The ladder's last step is open. In sync mode nothing is acknowledged unreplicated before
 * degraded, which waits for T.
 */
static bool may_go_behind(const struct hk_capture *c)
{
    if (!hk_policy_continues(c))
        return false;
    /* Nothing will ever come of the log: no room to wait for, but what was promised holds for T. */
    if (c->closed && !c->waiting.first)
        return false;
    if (c->copy_lost || c->closed)
        return !hk_policy_waits(c) || c->stage == HK_SYNC_DEGRADED;
    if (overflow_waits(c) || !room_waits_for_replicator(c))
        return false;
    return c->mode != HK_MODE_SYNC || c->stage == HK_SYNC_DEGRADED;
}

/* The ring is full and nothing drains it, or writers have been paced for as long as is allowed. */
static void behind_step(struct hk_capture *c, const struct hk_now *now)
{
    bool drained = hk_elapsed_ns(now->mono_ns, c->drain_stall_ns) < c->contact_timeout_ns;
    uint64_t paced_ns;

    if (c->passing || c->barred)
        return;
    if (!c->behind_wanted) {
        if (!may_go_behind(c))
            return;
        paced_ns = hk_elapsed_ns(now->mono_ns, c->room_since_ns);
        if (!c->copy_lost && drained && paced_ns < pace_limit_ns(c) && !hk_policy_alone_by_order(c))
            return;
        if (hk_policy_waits(c))
            want_degraded(c, now);
        hk_meta_set(c, hk_policy_passing_flags(c));
        c->behind_wanted = true;
    }
    if (hk_meta_surely_set(c, hk_policy_passing_flags(c))) {
        c->passing = true;
        hk_epoch_close(c, now);
    }
}

/*
 * Back from degraded: not by a timer but by a drain rate above the arrival rate. Either nothing is
 * outstanding, or what was outstanding a moment ago became durable in a quarter of T.
 */
static void rejoin_step(struct hk_capture *c, const struct hk_now *now)
{
    uint64_t reached = hk_policy_watermark(c);

    if (c->stage != HK_SYNC_DEGRADED || c->passing || c->behind_wanted || c->stopping ||
        c->pending_rejoin || c->closed || hk_epoch_resync(c))
        return;
    if (!c->attached || hk_elapsed_ns(now->mono_ns, c->contact_ns) >= c->contact_timeout_ns) {
        c->rejoin_target = 0;
        return;
    }
    if (reached >= c->next_lsn) {
        c->pending_rejoin = true;
        return;
    }
    if (c->rejoin_target && reached < c->rejoin_target)
        return;
    if (c->rejoin_target &&
        hk_elapsed_ns(now->mono_ns, c->rejoin_since_ns) <= c->contact_timeout_ns / 4) {
        c->pending_rejoin = true;
        return;
    }
    c->rejoin_target = c->next_lsn;
    c->rejoin_since_ns = now->mono_ns;
}

/* The standby has stored the newest mode record: what it says holds, and what it ends is over. */
/* model: contact.pml, REJOIN_STORED */
static void mode_step(struct hk_capture *c)
{
    if (!c->mode_end || c->durable < c->mode_end || c->passing || c->pending_rejoin ||
        c->pending_mode)
        return;
    if (c->want.mode != c->cfg.mode || c->want.on_link_loss != c->cfg.on_link_loss ||
        c->want.contact_timeout_ns != c->cfg.contact_timeout_ns) {
        c->want.mode = c->mode = c->cfg.mode;
        c->want.on_link_loss = c->on_link_loss = c->cfg.on_link_loss;
        c->want.contact_timeout_ns = c->contact_timeout_ns = c->cfg.contact_timeout_ns;
        c->meta_dirty = true;
    }
    if (c->stage == HK_SYNC_REJOIN)
        c->stage = HK_SYNC_WAITING;
    if (c->stage == HK_SYNC_WAITING && !hk_epoch_resync(c))
        hk_meta_clear(c, HK_SF_DEGRADED);
}

void hk_policy_step(struct hk_capture *c, const struct hk_now *now)
{
    if (c->pass_held && now->mono_ns >= c->pass_from_ns)
        c->pass_held = false;
    mode_step(c);
    degrade_step(c, now);
    behind_step(c, now);
    rejoin_step(c, now);
}

/* Since when writers wait for replication without an end in sight; 0: they do not. */
static uint64_t paced_since(const struct hk_capture *c, uint64_t mono_ns)
{
    if (is_full(c))
        return c->room_since_ns;
    if (!hk_policy_continues(c) && c->held.count > 0 &&
        hk_elapsed_ns(mono_ns, c->hold_stall_ns) >= c->contact_timeout_ns)
        return hk_max_u64(c->hold_stall_ns, 1);
    return 0;
}

/* Less than a quarter of the ring is in use: it drained faster than it was filled. */
static bool has_headroom(const struct hk_capture *c)
{
    return (c->head - c->tail) * 4 < c->slot_count &&
           (c->payload_head - c->payload_tail) * 4 < c->payload_bytes;
}

/*
 * Once writers had to wait it counts as pacing until there is headroom and stays, while some rings
 * of log drained or nothing came: else the word would flap with each slot that gets free.
 */
static bool is_paced(struct hk_capture *c, uint64_t mono_ns)
{
    bool calm = has_headroom(c) && !is_full(c);

    if (calm && !c->calm) {
        c->calm_ns = mono_ns;
        c->calm_tail = c->tail;
    }
    c->calm = calm;
    if (is_full(c))
        c->paced = true;
    else if (c->passing || (calm && (c->tail - c->calm_tail >= PACE_CALM_RINGS * c->slot_count ||
                                     hk_elapsed_ns(mono_ns, c->calm_ns) >= c->contact_timeout_ns)))
        c->paced = false;
    return c->paced;
}

/* By policy writers wait without bound, and have waited for as long as pacing may last. */
static bool overflow_blocks(const struct hk_capture *c, uint64_t mono_ns)
{
    return overflow_waits(c) && is_full(c) &&
           hk_elapsed_ns(mono_ns, c->room_since_ns) >= c->cfg.pace_bound_ns;
}

static enum hk_group_state state_of(struct hk_capture *c, uint64_t mono_ns)
{
    bool paced = is_paced(c, mono_ns);

    c->overflow_blocked = overflow_blocks(c, mono_ns);

    if (c->want.flags & HK_SF_ORIGIN_FAILED)
        return HK_STATE_ORIGIN_FAILED;
    if (c->passing)
        return HK_STATE_BEHIND;
    if (c->barred || c->overflow_blocked)
        return HK_STATE_BLOCKED;
    if (hk_dirty_on(c) && (c->closed || hk_epoch_resync(c)))
        return HK_STATE_RESYNC;
    /* DEGRADING too: what is decided is told, or the standby would date its contact by our word. */
    if (c->stage != HK_SYNC_WAITING)
        return HK_STATE_DEGRADED;
    /* Until it is durably over: the next life would go on acknowledging alone at once. */
    if (hk_policy_waits(c) && hk_policy_continues(c) && !hk_meta_surely_clear(c, HK_SF_DEGRADED))
        return HK_STATE_DEGRADED;
    c->pace_since_ns = paced_since(c, mono_ns);
    if (c->pace_since_ns && !hk_policy_continues(c) &&
        hk_elapsed_ns(mono_ns, c->pace_since_ns) >= c->cfg.pace_bound_ns)
        return HK_STATE_BLOCKED;
    if (c->pace_since_ns || paced)
        return HK_STATE_PACING;
    return c->attached ? HK_STATE_REPLICATING : HK_STATE_DETACHED;
}

void hk_policy_state(struct hk_capture *c, const struct hk_now *now)
{
    enum hk_group_state state = state_of(c, now->mono_ns);

    if (state == c->state)
        return;
    c->state = state;
    c->state_since_ns = now->real_ns;
    __atomic_store_n(&c->producer->state, (uint32_t)state, __ATOMIC_RELAXED);
}

/* model: session.pml, ATTACHED */
uint64_t hk_capture_attach(struct hk_capture *c, const struct hk_now *now)
{
    /*
     * Above anything an earlier life of the capture side gave out: the ring remembers it, since the
     * clock may have been set back meanwhile. With a new ring nothing of the old one is attached.
     */
    c->lease = hk_max_u64(HK_BUG(lease_by_clock) ? 0 : c->lease + 1, now->real_ns);
    c->producer->lease = c->lease;
    c->attached = true;
    c->spool_room = false;
    hk_block_drop(c);
    c->report_ns = now->mono_ns;
    hk_capture_settle(c, now);
    return c->lease;
}

void hk_capture_detach(struct hk_capture *c, uint64_t lease, const struct hk_now *now)
{
    if (!c->attached || lease != c->lease)
        return;
    c->attached = false;
    c->spool_room = false;
    hk_block_drop(c);
    c->detached_since_ns = now->mono_ns;
    hk_capture_settle(c, now);
}

/* Believed only as far as it can be true: known watermarks never move back. */
/* model: sync.pml, ACK_TAKEN; resync.pml, ACK_TAKEN */
static void take_watermarks(struct hk_capture *c, uint64_t released, uint64_t acked,
                            uint64_t durable, const struct hk_now *now)
{
    uint64_t before = hk_policy_watermark(c);

    c->acked = hk_max_u64(c->acked, acked);
    c->durable = hk_max_u64(c->durable, durable);
    if (released > c->released) {
        c->released = released;
        c->drain_stall_ns = now->mono_ns;
    }
    if (hk_policy_watermark(c) > before)
        c->hold_stall_ns = now->mono_ns;
    /* In this order: a successor demands durable ≤ acked. */
    hk_ring_store_release(&c->producer->acked, c->acked);
    HK_AT(acking);
    hk_ring_store_release(&c->producer->durable, c->durable);
    hk_ring_store_release(&c->producer->released, c->released);
    HK_AT(acked);
}

/* model: contact.pml, REPORT_TAKEN; session.pml, REPORT_TAKEN */
int hk_capture_report(struct hk_capture *c, uint64_t lease, struct hk_lsn released,
                      struct hk_lsn acked, struct hk_lsn durable, uint64_t contact_ns,
                      const struct hk_now *now)
{
    if (!c->attached || (lease != c->lease && !HK_BUG(stale_lease)))
        return -ESTALE;
    hk_capture_advance_published(c);
    if ((released.v | acked.v | durable.v) % HK_RECORD_ALIGN != 0)
        return -ERANGE;
    if (released.v > c->produced || acked.v > c->produced || durable.v > acked.v)
        return -ERANGE;
    c->report_ns = now->mono_ns;
    c->contact_ns = hk_max_u64(c->contact_ns, hk_min_u64(contact_ns, now->mono_ns));
    take_watermarks(c, released.v, acked.v, durable.v, now);
    hk_ring_store_release(&c->producer->contact_ns, c->contact_ns);
    hk_capture_settle(c, now);
    return 0;
}

int hk_capture_spool(struct hk_capture *c, uint64_t lease, const struct hk_capture_spool *spool,
                     const struct hk_now *now)
{
    if (!c->attached || lease != c->lease)
        return -ESTALE;
    c->spool_room = spool->room;
    hk_capture_advance_published(c);
    hk_dirty_spool_told(c, spool->first.v, spool->end.v);
    hk_capture_settle(c, now);
    return 0;
}

void hk_capture_tick(struct hk_capture *c, const struct hk_now *now)
{
    if (c->meta_backoff && now->mono_ns >= c->meta_retry_ns)
        c->meta_backoff = false;
    hk_capture_advance_published(c);
    hk_capture_settle(c, now);
}

uint64_t hk_capture_deadline_ns(const struct hk_capture *c)
{
    uint64_t at = UINT64_MAX;
    bool outstanding = is_outstanding(c);

    at = hk_dirty_deadline_ns(c);
    if (c->meta_backoff)
        at = hk_min_u64(at, c->meta_retry_ns);
    if (c->pass_held)
        at = hk_min_u64(at, c->pass_from_ns);
    if (c->passing || c->barred)
        return at;
    if (c->paced && c->calm)
        at = hk_min_u64(at, c->calm_ns + c->contact_timeout_ns);
    if (overflow_waits(c) && is_full(c) && !c->overflow_blocked)
        at = hk_min_u64(at, c->room_since_ns + c->cfg.pace_bound_ns);
    if (hk_policy_continues(c)) {
        bool waiting = c->stage == HK_SYNC_WAITING || c->stage == HK_SYNC_REJOIN;

        if (hk_policy_waits(c) && outstanding && waiting)
            at = hk_min_u64(at, c->hold_stall_ns + hk_policy_patience_ns(c));
        if (hk_epoch_owes(c) && waiting)
            at = hk_min_u64(at, c->closed_ns + hk_policy_patience_ns(c));
        if (may_go_behind(c) && !c->behind_wanted)
            at = hk_min_u64(at, hk_min_u64(c->drain_stall_ns + c->contact_timeout_ns,
                                           c->room_since_ns + pace_limit_ns(c)));
        return at;
    }
    if (c->state == HK_STATE_PACING && c->pace_since_ns)
        return hk_min_u64(at, c->pace_since_ns + c->cfg.pace_bound_ns);
    if ((c->state == HK_STATE_REPLICATING || c->state == HK_STATE_DETACHED) && c->held.count > 0)
        at = hk_min_u64(at, c->hold_stall_ns + c->contact_timeout_ns);
    return at;
}
