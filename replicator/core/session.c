/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/session.h"

#include "proto/bug.h"
#include "proto/record.h"

bool hk_hello_ok(const struct hk_hello *h)
{
    const struct hk_epoch *last;

    if (h->history.count == 0 || hk_history_check(&h->history) != 0)
        return false;
    last = hk_history_last(&h->history);
    if (__builtin_memcmp(last, &h->epoch, sizeof(*last)) != 0)
        return false;
    if (h->durable > h->acked || h->acked > h->produced || h->released > h->produced ||
        h->produced > h->ceiling)
        return false;
    if ((h->durable | h->acked | h->produced | h->released) % HK_RECORD_ALIGN != 0)
        return false;
    /* Mode, policy and T are 0 until the first mode record has been stored. */
    return h->mode <= HK_MODE_SYNC && h->on_link_loss <= HK_LINK_LOSS_BLOCK &&
           h->volume_count <= HK_VOLUMES_MAX;
}

/* Who is calling, and with which configuration? */
static enum hk_refusal judge_identity(const struct hk_session_standby *me, const struct hk_hello *h)
{
    const struct hk_super *s = me->super;

    if (h->version_min > HK_CTL_VERSION_MAX || h->version_max < HK_CTL_VERSION_MIN)
        return HK_REFUSE_VERSION;
    if (!hk_uuid_equal(&h->group_id, &me->group_id))
        return HK_REFUSE_GROUP;
    if (h->config_hash != me->config_hash)
        return HK_REFUSE_CONFIG;
    if (h->volume_count != me->volume_count)
        return HK_REFUSE_VOLUMES;
    for (uint32_t i = 0; i < h->volume_count && i < HK_VOLUMES_MAX; i++) {
        uint64_t max = me->volume_max ? me->volume_max[i] : 0;

        if (max == 0 ? h->volume_bytes[i] != me->volume_bytes[i]
                     : h->volume_bytes[i] < me->volume_bytes[i] || h->volume_bytes[i] > max)
            return HK_REFUSE_VOLUMES;
    }
    if (!me->ready)
        return HK_REFUSE_NOT_READY;
    if (s->role != HK_ROLE_STANDBY)
        return HK_REFUSE_ROLE;
    if (!hk_hello_ok(h))
        return HK_REFUSE_MALFORMED;
    if (hk_uuid_is_nil(&h->replica_id) || hk_uuid_equal(&h->replica_id, &s->replica_id))
        return HK_REFUSE_REPLICA;
    if (!hk_uuid_is_nil(&s->peer_replica_id) && !hk_uuid_equal(&s->peer_replica_id, &h->replica_id))
        return HK_REFUSE_REPLICA;
    if (!hk_uuid_is_nil(&h->peer_replica_id) && !hk_uuid_equal(&h->peer_replica_id, &s->replica_id))
        return HK_REFUSE_REPLICA;
    return HK_REFUSE_NONE;
}

/* model: promote.pml, RETURNS */
static enum hk_refusal judge_kinship(const struct hk_session_standby *me, const struct hk_hello *h,
                                     uint64_t detail[2])
{
    const struct hk_history *mine = &me->super->history;
    uint32_t common;

    detail[0] = hk_history_epochs(mine);
    detail[1] = hk_history_epochs(&h->history);
    switch (hk_history_compare(&h->history, mine, &common)) {
    case HK_KIN_EQUAL:
    case HK_KIN_AHEAD: break;
    case HK_KIN_BEHIND: return HK_REFUSE_OLDER_EPOCH;
    case HK_KIN_DIVERGED: return HK_REFUSE_DIVERGED;
    case HK_KIN_STRANGERS: return HK_REFUSE_STRANGERS;
    }
    detail[0] = detail[1] = 0;
    return HK_REFUSE_NONE;
}

/* One primary process at a time; of two on one host the younger lease wins. */
static enum hk_refusal judge_lease(const struct hk_session_standby *me, const struct hk_hello *h)
{
    if (h->lease == 0)
        return HK_REFUSE_LEASE;
    if (!me->alive)
        return HK_REFUSE_NONE;
    if (!hk_uuid_equal(&me->alive_host, &h->host_id))
        return HK_REFUSE_BUSY;
    return h->lease < me->alive_lease && !HK_BUG(older_lease) ? HK_REFUSE_LEASE : HK_REFUSE_NONE;
}

/* Same epoch, or one adopted: have both sides the same past up to where the standby stands? */
static enum hk_refusal judge_positions(uint64_t acked, uint64_t durable, uint64_t known_durable,
                                       uint64_t released, uint64_t produced, uint64_t ceiling,
                                       uint64_t detail[2])
{
    detail[0] = durable;
    if (durable < known_durable && !HK_BUG(lost_durable_accepted)) {
        detail[1] = known_durable;
        return HK_REFUSE_LOST_DURABLE;
    }
    if (durable < released) {
        detail[1] = released;
        return HK_REFUSE_RING;
    }
    detail[0] = acked;
    detail[1] = hk_min_u64(produced, ceiling);
    if (acked > detail[1])
        return HK_REFUSE_AHEAD;
    detail[0] = detail[1] = 0;
    return HK_REFUSE_NONE;
}

/* Can what is stale be healed? The primary has a map, this side can keep a pin (SPEC.md §12.3). */
static bool can_resync(const struct hk_session_standby *me, const struct hk_hello *h)
{
    return h->map && hk_super_is_current(me->super);
}

/*
 * May a standby that has never had any log begin here? Equal by declaration; or the primary has
 * never met a standby, so that nothing it calls stale has been healed since all of it was.
 */
static bool equal_or_stale(const struct hk_session_standby *me, const struct hk_hello *h)
{
    if (me->super->history.count > 0)
        return false;
    return (me->super->flags & HK_SF_ASSUMED_EQUAL) ||
           (can_resync(me, h) && (h->super_flags & HK_SF_FULL_COMPARE) &&
            hk_uuid_is_nil(&h->peer_replica_id));
}

/* Is there log behind `durable`, before the last epoch? That can't be sent any more. */
static bool leaves_a_hole(const struct hk_history *h, uint32_t mine, uint64_t durable)
{
    for (uint32_t i = mine + 1; i <= hk_history_epochs(h); i++) {
        const struct hk_epoch *e = hk_history_at(h, i);

        if (!e || durable < e->parent_end)
            return true;
        durable = e->first_lsn;
    }
    return false;
}

static bool goes_on_exactly(const struct hk_session_standby *me, const struct hk_hello *h)
{
    uint32_t mine = hk_history_epochs(&me->super->history);
    const struct hk_epoch *next = hk_history_at(&h->history, mine + 1);

    return next && me->acked <= next->parent_end && !leaves_a_hole(&h->history, mine, me->durable);
}

/*
 * The primary's history goes on where ours ends, and the log is here to the parent's end; epochs in
 * between may only be empty (SPEC.md §10).
 */
static enum hk_refusal judge_adoption(const struct hk_session_standby *me, const struct hk_hello *h,
                                      struct hk_session_verdict *v)
{
    uint32_t mine = hk_history_epochs(&me->super->history);
    const struct hk_epoch *next = hk_history_at(&h->history, mine + 1);

    v->adopt = true;
    v->start_lsn = h->epoch.first_lsn;
    if (mine == 0)
        /* A fresh standby: at the group's very beginning, equal by declaration or all stale. */
        return hk_history_epochs(&h->history) == 1 && equal_or_stale(me, h)
                   ? HK_REFUSE_NONE
                   : HK_REFUSE_FULL_COMPARE;
    v->detail[0] = me->durable;
    if (!next)
        return HK_REFUSE_RING; /* so far ahead that its history has dropped our next epoch */
    /* What is still to be applied, or rolled back to, must stay in an epoch that is known. */
    if (!hk_history_reaches(&h->history, me->super->applied) ||
        ((me->super->flags & HK_SF_PINNED) && me->super->pin_ordinal <= h->history.dropped))
        return HK_REFUSE_NOT_READY;
    v->detail[1] = next->parent_end;
    if (me->durable > v->detail[1] || me->acked > v->detail[1])
        return HK_REFUSE_AHEAD;
    if (leaves_a_hole(&h->history, mine, me->durable))
        return HK_REFUSE_RING;
    v->detail[0] = v->detail[1] = 0;
    return HK_REFUSE_NONE;
}

/*
 * Its ring was lost and it has given no LSN since: it wants to know where this side stands. A log
 * that was closed for another reason is there, and has an end.
 */
static bool only_asks(const struct hk_hello *h)
{
    return h->closed && h->produced <= h->ring_first_lsn;
}

/*
 * Another ring than at the last welcome begins where a clean stop ended, and there all was durable
 * here. Having more means that the primary's metadata is from before what we have (SPEC.md §10.4).
 */
static enum hk_refusal judge_ring(const struct hk_session_standby *me, const struct hk_hello *h,
                                  uint64_t acked, uint64_t detail[2])
{
    if (hk_uuid_is_nil(&me->super->ring_id) || hk_uuid_equal(&me->super->ring_id, &h->ring_id))
        return HK_REFUSE_NONE;
    if (only_asks(h))
        return HK_REFUSE_NONE;
    if (acked <= h->ring_first_lsn || HK_BUG(rolled_primary_accepted))
        return HK_REFUSE_NONE;
    detail[0] = acked;
    detail[1] = h->ring_first_lsn;
    return HK_REFUSE_AHEAD;
}

static enum hk_refusal judge(const struct hk_session_standby *me, const struct hk_hello *h,
                             struct hk_session_verdict *v)
{
    uint64_t acked = me->acked, durable = me->durable;
    enum hk_refusal why = judge_identity(me, h);
    /* A superseded replicator may have heard so, and regions were healed since. */
    bool all_stale = h->all_stale && h->lease >= me->gap_lease;
    bool adopts;

    if (why)
        return why;
    why = judge_kinship(me, h, v->detail);
    if (why)
        return why;
    if (me->super->flags & (HK_SF_PROMOTED | HK_SF_PROMOTING))
        return HK_REFUSE_PROMOTED;
    why = judge_lease(me, h);
    if (why)
        return why;
    adopts = hk_history_epochs(&h->history) > hk_history_epochs(&me->super->history);
    if (all_stale && can_resync(me, h) && adopts) {
        v->adopt = true;
        v->start_lsn = h->epoch.first_lsn;
        /* What is not applied of an epoch that is forgotten can't be any more: as if missing. */
        v->rebase = !goes_on_exactly(me, h) || !hk_history_reaches(&h->history, me->super->applied);
        return HK_REFUSE_NONE;
    }
    if (!can_resync(me, h) && ((h->super_flags | me->super->flags) & HK_SF_FULL_COMPARE)) {
        v->full_compare = true;
        /* Why it is required, as long as that can be seen. Who never had any log lost none of it as
         * long as the primary was told of none either: nobody accuses itself (seed 146600). */
        if (me->super->history.count == 0)
            durable = hk_max_u64(durable, h->epoch.first_lsn);
        if ((me->super->history.count == 0 ||
             hk_history_epochs(&me->super->history) == hk_history_epochs(&h->history)) &&
            durable < h->durable)
            return judge_positions(acked, durable, h->durable, 0, 0, 0, v->detail);
        return HK_REFUSE_FULL_COMPARE;
    }
    if ((me->super->flags & HK_SF_FULL_COMPARE) && !all_stale && !equal_or_stale(me, h))
        return HK_REFUSE_FULL_COMPARE;
    if (adopts) {
        why = judge_adoption(me, h, v);
        if (why)
            return why;
        acked = durable = v->start_lsn;
    }
    why = judge_ring(me, h, acked, v->detail);
    if (why)
        return why;
    why = judge_positions(acked, durable, h->durable, h->released,
                          only_asks(h) ? h->ceiling : h->produced, h->ceiling, v->detail);
    v->full_compare = why == HK_REFUSE_LOST_DURABLE && !HK_BUG(loss_not_noted);
    return why;
}

/* What a new epoch and a resync of everything heals is no refusal: this side says where it stands.
 */
static bool is_a_gap(const struct hk_session_standby *me, const struct hk_hello *h,
                     enum hk_refusal why)
{
    return can_resync(me, h) && (why == HK_REFUSE_FULL_COMPARE || why == HK_REFUSE_LOST_DURABLE ||
                                 why == HK_REFUSE_AHEAD || why == HK_REFUSE_RING);
}

/* model: session.pml, HELLO_JUDGED */
void hk_session_judge_hello(const struct hk_session_standby *me, const struct hk_hello *h,
                            struct hk_session_verdict *ret)
{
    struct hk_session_verdict v = {.refusal = HK_REFUSE_NONE};

    HK_ASSERT(me->durable <= me->acked);
    v.refusal = judge(me, h, &v);
    if (v.refusal != HK_REFUSE_NONE)
        v.adopt = false;
    if (is_a_gap(me, h, v.refusal)) {
        v.gap = v.refusal;
        v.refusal = HK_REFUSE_NONE;
    }
    *ret = v;
}

static bool welcome_ok(const struct hk_welcome *w)
{
    if ((w->session == 0) != (w->gap != HK_REFUSE_NONE) || w->gap >= HK_REFUSALS ||
        hk_history_check(&w->history) != 0)
        return false;
    if ((w->acked | w->durable | w->applied) % HK_RECORD_ALIGN != 0)
        return false;
    if (w->bad_count > 0 && (w->bad_lsn == 0 || w->bad_lsn % HK_RECORD_ALIGN != 0))
        return false;
    return w->applied <= w->durable && w->durable <= w->acked && w->acked <= w->window;
}

/* model: session.pml, WELCOME_JUDGED */
enum hk_refusal hk_session_judge_welcome(const struct hk_hello *hello, const struct hk_welcome *w,
                                         uint64_t produced, uint64_t ret_detail[2])
{
    uint32_t common;

    ret_detail[0] = ret_detail[1] = 0;
    if (w->version < HK_CTL_VERSION_MIN || w->version > HK_CTL_VERSION_MAX)
        return HK_REFUSE_VERSION;
    if (w->config_hash != hello->config_hash)
        return HK_REFUSE_CONFIG;
    if (!welcome_ok(w))
        return HK_REFUSE_MALFORMED;
    if (hk_uuid_is_nil(&w->replica_id) || hk_uuid_equal(&w->replica_id, &hello->replica_id))
        return HK_REFUSE_REPLICA;
    if (!hk_uuid_is_nil(&hello->peer_replica_id) &&
        !hk_uuid_equal(&hello->peer_replica_id, &w->replica_id))
        return HK_REFUSE_REPLICA;
    switch (hk_history_compare(&w->history, &hello->history, &common)) {
    case HK_KIN_EQUAL:
    case HK_KIN_BEHIND: break; /* an empty one is a prefix of any */
    case HK_KIN_AHEAD: return HK_REFUSE_OLDER_EPOCH;
    case HK_KIN_DIVERGED: return HK_REFUSE_DIVERGED;
    case HK_KIN_STRANGERS: return HK_REFUSE_STRANGERS;
    }
    if (w->super_flags & (HK_SF_PROMOTED | HK_SF_PROMOTING))
        return HK_REFUSE_PROMOTED;
    if (w->gap)
        return hello->map ? HK_REFUSE_NONE : HK_REFUSE_FULL_COMPARE;
    if ((w->super_flags & HK_SF_FULL_COMPARE) && !hello->map)
        return HK_REFUSE_FULL_COMPARE;
    return judge_positions(w->acked, w->durable, hello->durable, hello->released,
                           hello->closed ? hello->ceiling : produced, hello->ceiling, ret_detail);
}

const char *hk_refusal_text(enum hk_refusal r)
{
    switch (r) {
    case HK_REFUSE_NONE: return "none";
    case HK_REFUSE_VERSION: return "no common version";
    case HK_REFUSE_GROUP: return "another group";
    case HK_REFUSE_CONFIG: return "group.conf differs between the sites";
    case HK_REFUSE_VOLUMES: return "number or sizes of the volumes differ";
    case HK_REFUSE_REPLICA: return "another replica than this metadata is relative to";
    case HK_REFUSE_ROLE: return "both sides have the same role";
    case HK_REFUSE_OLDER_EPOCH: return "the caller's epoch is older than ours";
    case HK_REFUSE_DIVERGED: return "histories diverged: both sides wrote after a fork";
    case HK_REFUSE_STRANGERS: return "no common history";
    case HK_REFUSE_PROMOTED: return "this side was promoted";
    case HK_REFUSE_FULL_COMPARE: return "full compare required";
    case HK_REFUSE_LOST_DURABLE: return "the standby has less than it had reported durable";
    case HK_REFUSE_AHEAD: return "the standby has more than the primary produced";
    case HK_REFUSE_LEASE: return "another replicator holds the attach lease";
    case HK_REFUSE_RING: return "the ring no longer holds what the standby needs";
    case HK_REFUSE_BUSY: return "a session with another primary is alive";
    case HK_REFUSE_NOT_READY: return "recovery is still running";
    case HK_REFUSE_BAD_FRAME: return "a bad record inside a valid frame";
    case HK_REFUSE_MALFORMED: return "a control message out of place";
    case HK_REFUSE_COPY: return "the primary's own copy of the log is damaged";
    case HK_REFUSE_EPOCH: return "the log goes on in a new epoch";
    case HK_REFUSALS: break;
    }
    return "unknown reason";
}
