/* SPDX-License-Identifier: Apache-2.0 */
/* What the two sites say of loss, lag and sync, held against the truth of that moment (I18). */
#include <string.h>

#include "tests/sim/world.h"

#define ULL(x)         ((unsigned long long)(x))
#define CLAIM_GRACE_NS (20 * NS_MS) /* for news to get from one process to the other */

/* Standby's realtime as the simulator's time. */
static uint64_t from_real(const struct sim *s, uint64_t real_ns)
{
    return clk_true_time(s, 1, real_ns);
}

/* When the oldest acknowledgement was given that the standby still lacks; UINT64_MAX: none. */
static uint64_t oldest_lack(const struct sim *s)
{
    for (uint32_t i = 0; i < s->lost_count; i++)
        if (s->lost[i].end > ref_floor(s, s->nj.durable))
            return s->lost[i].at;
    return UINT64_MAX;
}

/*
 * `known`: how far this side can have seen the log. A claim is held to what its maker could know:
 * the ring is read, and states are told, a moment after the fact.
 */
static void check_lose(struct sim *s, const struct hk_group_status *st, uint64_t known,
                       const char *who)
{
    uint64_t safe = ref_floor(s, s->nj.durable), all = ref_bytes(s, safe, s->acked_end);
    uint64_t end = s->acked_end < known ? s->acked_end : known;
    uint64_t truth = ref_bytes(s, safe, end);
    bool passed =
        s->passing_acked && s->passing_end > safe && s->now - s->passing_since_ns > CLAIM_GRACE_NS;

    SIM_CHECK(s, "I18",
              !s->forked || !st->in_sync || st->role != HK_ROLE_PRIMARY ||
                  s->welcome_acked <= s->fork_lsn, /* nobody has what it has forgotten */
              "%s is in sync, but it had been rolled back", who);
    if (s->standby_suspect || s->sby.promoted || s->sby.promoting || s->loss_found || s->forked)
        return;
    if (st->in_sync) {
        SIM_CHECK(s, "I18", s->o.mode == HK_MODE_SYNC, "%s is \"in sync\" without mode sync", who);
        SIM_CHECK(s, "I18", s->now < CLAIM_GRACE_NS || oldest_lack(s) > s->now - CLAIM_GRACE_NS,
                  "%s says in sync; %llu acknowledged bytes are not on the standby", who, ULL(all));
    }
    if (!st->lose_known)
        return;
    SIM_CHECK(s, "I18", !passed,
              "%s says that %llu bytes would be lost; uncaptured writes are not counted", who,
              ULL(st->lose_bytes));
    SIM_CHECK(s, "I18", st->lose_bytes >= truth, "%s says %llu bytes would be lost, it is %llu",
              who, ULL(st->lose_bytes), ULL(truth));
}

/* Reported lag ≥ true lag, in bytes and in seconds, whatever was done to the clocks. */
static void check_lag(struct sim *s, const struct hk_group_status *st)
{
    uint64_t truth = ref_bytes(s, s->nj.durable, s->ref.produced), age;
    const struct ref_rec *oldest;

    if (s->standby_suspect || s->loss_found || s->forked || !st->ready || !st->lose_known ||
        !s->cap.ring_there || s->ghost.rep.proc.up)
        return;
    SIM_CHECK(s, "I18", st->lag_bytes >= truth, "the primary shows a lag of %llu bytes, it is %llu",
              ULL(st->lag_bytes), ULL(truth));
    SIM_CHECK(s, "I18", st->lag_records >= ref_records(s, s->nj.durable, s->ref.produced),
              "the primary shows a lag of %llu records, it is %llu", ULL(st->lag_records),
              ULL(ref_records(s, s->nj.durable, s->ref.produced)));
    oldest = truth ? ref_find(s, s->nj.durable) : NULL;
    /* A clock that stands, or has lost time, can't tell. */
    if (!oldest || clk_stands(s, 0) || s->clk[0].keeps_loss || s->clk[0].lost_ns)
        return;
    age = s->now - oldest->at;
    /* Nobody is woken for the capture side's own records; a replicator that was started after the
     * clock had been set does not know how old what it finds is. Nor is it seen before it is
     * published, which takes longer where the capture process stands still. */
    if (oldest->control || s->now < oldest->published_at + CLAIM_GRACE_NS ||
        oldest->at < s->rep.proc.started_ns + CLAIM_GRACE_NS)
        return;
    SIM_CHECK(s, "I18", st->lag_ns + age / 500 + CLAIM_GRACE_NS >= age,
              "the primary shows a lag of %llu us, the record at %llu has waited for %llu us",
              ULL(st->lag_ns / NS_US), ULL(oldest->lsn), ULL(age / NS_US));
}

static void primary_status(struct sim *s)
{
    struct hk_group_status *st = &s->status;
    struct hk_now now = sim_clock(s, 0);

    hk_group_status(s->rep.g, &now, st);
    check_lose(s, st, s->rep.read_lsn, "the primary");
    SIM_CHECK(s, "I18", !st->role_lost || !(st->lose_known || st->in_sync),
              "the primary knows that it lost its role (%d), and says what would be lost",
              st->role_lost);
    /* Metadata that lost an epoch, set back or read from the older slot, are an old primary's. */
    SIM_CHECK(s, "I18",
              !st->role_lost || s->sby.promoted || s->sby.failover_wanted || s->forked ||
                  s->vanished & (1u << C_SUPER | 1u << C_MD) || s->damaged[0] & 1u << C_MD,
              "the primary says that it lost its role (%d), and nobody has taken it",
              st->role_lost);
    SIM_CHECK(s, "I18", !s->rep.copy_unknown || !(st->lose_known || st->in_sync),
              "the primary was refused since the copies may differ, and says that %llu bytes would "
              "be lost",
              ULL(st->lose_bytes));
    check_lag(s, st);
    SIM_CHECK(s, "I13",
              !st->in_sync || !sby_knows_promoted(s) || clk_ever_stood(s, 0) ||
                  s->now < hk_max_u64(s->sby.promoted_at, s->sby.heard_late) +
                               s->o.contact_ns * 51 / 50 + 25 * (s->o.delay_ns + NS_MS) +
                               CLAIM_GRACE_NS,
              "the old primary says in sync %llu us after the other side was promoted",
              ULL((s->now - s->sby.promoted_at) / NS_US));
    SIM_CHECK(s, "I18",
              s->standby_suspect || ref_norm(s, st->mark.durable.v) <= budget_durable(s) ||
                  st->mark.durable.v <= HK_LSN_FIRST,
              "the primary shows durable %llu, truly durable is %llu", ULL(st->mark.durable.v),
              ULL(s->nj.durable));
}

static void hold_to_class(struct sim *s, const struct hk_group_status *st)
{
    uint64_t limit = from_real(s, st->contact_real_ns) + s->o.contact_ns;

    check_class(s, s->nj.durable, st->loss_class, limit, "standby's status");
    if (st->loss_class == HK_LOSS_ZERO_IF_FENCED && limit > s->sby.claim_limit &&
        !clk_ever_stood(s, 1))
        s->sby.claim_limit = limit;
}

static void standby_status(struct sim *s)
{
    struct hk_group_status *st = &s->status;
    struct hk_now now = sim_clock(s, 1);

    hk_group_status(s->sby.g, &now, st);
    SIM_CHECK(s, "I13", !st->promoted || !st->in_sync, "a promoted side says in sync");
    if (!st->ready || st->promoted || (st->super.flags & HK_SF_PROMOTING))
        return;
    if (!clk_unfit(s, 1) && s->now >= s->rash_until)
        check_lose(s, st, UINT64_MAX, "the standby");
    if (s->standby_suspect)
        return;
    SIM_CHECK(s, "I11",
              ref_norm(s, st->mark.durable.v) <= s->nj.durable ||
                  st->mark.durable.v <= HK_LSN_FIRST,
              "the standby shows durable %llu, truly durable is %llu", ULL(st->mark.durable.v),
              ULL(s->nj.durable));
    if (st->loss_class == HK_LOSS_ZERO_IF_FENCED || st->loss_class == HK_LOSS_ZERO_PROVEN)
        hold_to_class(s, st);
}

void check_status(struct sim *s)
{
    s->st.status_checks++;
    /* One that stands still shows nothing; one that stood still takes its mail in first. */
    if (s->rep.proc.up && s->rep.proc.paused_until < s->now)
        primary_status(s);
    if (s->sby.proc.up && s->sby.proc.paused_until < s->now)
        standby_status(s);
}
