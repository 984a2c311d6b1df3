/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of every story with a dirty map: 30 seconds after the faults have stopped the group is
 * replicating, nothing is stale, and the replicas are the origins, byte by byte. What is exempt is
 * what people have to act on first, or what nobody on either side could know.
 */
#include <string.h>

#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

/* A side that is gone, stands still for good, or was taken over from. */
static bool is_over(const struct sim *s)
{
    return s->sby.promoted || s->sby.promoting || s->sby.failover_wanted || s->primary_gone ||
           s->stood_still || s->standby_suspect || s->sby.not_promotable || s->forked;
}

static void check_sector(struct sim *s, unsigned vol, uint32_t sector)
{
    const struct sim_file *a = &s->origin[vol], *b = &s->replica[vol];
    uint64_t at = (uint64_t)sector * SIM_SECTOR;
    uint8_t here[8];
    int n = sim_disk_may_hold(a, sector, here, 8);

    if (damage_at(a, at, SIM_SECTOR) || damage_at(b, at, SIM_SECTOR) || ref_is_bad(s, vol, sector))
        return;
    SIM_CHECK(s, "I2", memcmp(b->good + at, b->cur + at, SIM_SECTOR) == 0 || b->head[sector],
              "volume %u sector %u of the replica reads otherwise than it is stored", vol, sector);
    SIM_CHECK(s, "I2",
              n > 1 || memcmp(a->good + at, b->good + at, SIM_SECTOR) == 0 ||
                  (a->head[sector] != NULL),
              "volume %u sector %u: the origin holds %d, the replica %d", vol, sector,
              (int8_t)here[0], pattern_identify(b->good + at, vol, sector));
    if (n > 1)
        SIM_CHECK(s, "I2", memcmp(a->cur + at, b->good + at, SIM_SECTOR) == 0,
                  "volume %u sector %u: the origin reads as %d, the replica holds %d", vol, sector,
                  (int8_t)here[1], pattern_identify(b->good + at, vol, sector));
}

/*
 * Its pin lies in an epoch that the primary has forgotten: 64 of them and no consistent moment. A
 * standby gives its pin up for nothing but one (SPEC.md 5.4): people have to create it anew.
 */
static bool pin_forgotten(struct sim *s)
{
    const struct hk_super *sby = sby_durable(s);

    return sby->flags & HK_SF_PINNED && sby->flags & HK_SF_RESYNC &&
           sby->pin_ordinal <= md_durable(s)->history.dropped;
}

/*
 * False: the standby refuses for good, and says so: the primary was set back to before an epoch
 * that it has, or has forgotten the one that its pin is in.
 */
static bool check_state(struct sim *s)
{
    struct hk_group_status *st = &s->status;
    struct hk_now now = sim_clock(s, 0);
    uint32_t flags = md_durable(s)->flags;

    hk_group_status(s->rep.g, &now, st);
    if (s->vanished & 1u << C_MD && st->last_refusal == HK_REFUSE_OLDER_EPOCH)
        return false;
    if (st->last_refusal == HK_REFUSE_NOT_READY && pin_forgotten(s))
        return false;
    SIM_CHECK(s, "liveness", s->cap.in_flight == 0, "%u ops never ended", s->cap.in_flight);
    SIM_CHECK(s, "liveness", st->session == HK_SESSION_UP, "no session at the end (refusal %d)",
              st->last_refusal);
    SIM_CHECK(s, "liveness", s->nj.durable == s->ref.produced,
              "30 s after the faults stopped durable is %llu, produced %llu", ULL(s->nj.durable),
              ULL(s->ref.produced));
    SIM_CHECK(s, "liveness", !dmap_any_stale(s),
              "30 s after the faults stopped regions are stale (%llu bytes, flags %x, state %d)",
              ULL(st->resync.stale_bytes), flags, st->state);
    SIM_CHECK(s, "liveness", !(flags & (HK_SF_FULL_COMPARE | HK_SF_STALE | HK_SF_DEGRADED)),
              "30 s after the faults stopped the primary's flags are %x", flags);
    SIM_CHECK(s, "liveness", ref_norm(s, sby_durable(s)->applied) == s->ref.produced,
              "30 s after the faults stopped applied is %llu, produced %llu",
              ULL(sby_durable(s)->applied), ULL(s->ref.produced));
    SIM_CHECK(s, "liveness",
              !(sby_durable(s)->flags & (HK_SF_RESYNC | HK_SF_PINNED | HK_SF_FULL_COMPARE)),
              "30 s after the faults stopped the standby's flags are %x", sby_durable(s)->flags);
    SIM_CHECK(s, "liveness", ref_is_consistent(s, s->ref.produced),
              "the log ends in no consistent interval");
    SIM_CHECK(s, "liveness",
              st->state == HK_STATE_REPLICATING || st->state == HK_STATE_ORIGIN_FAILED,
              "30 s after the faults stopped the state is %d", st->state);
    SIM_CHECK(s, "liveness",
              s->o.mode != HK_MODE_SYNC || st->in_sync || flags & HK_SF_ORIGIN_FAILED ||
                  s->status.state == HK_STATE_ORIGIN_FAILED,
              "mode sync, everything is durable, and the primary is not in sync");
    /* Whoever was healed is well again; what could not be read stays so until all was compared. */
    SIM_CHECK(s, "liveness", s->origin_unread || !(flags & HK_SF_ORIGIN_FAILED),
              "30 s after the faults stopped the origin is said to have failed (flags %x)", flags);
    return true;
}

void heal_check_end(struct sim *s)
{
    if (is_over(s))
        return;
    SIM_CHECK(s, "liveness", s->cap.proc.up && s->rep.proc.up && s->sby.proc.up,
              "a process is down at the end");
    if (!check_state(s))
        return;
    ref_check_image(s, "I10", s->replica, true, s->ref.produced);
    grow_check_standby(s, "at the end");
    for (unsigned v = 0; v < SIM_VOLUMES && !s->origin_void; v++)
        for (uint32_t i = 0; i < grow_at(s, v, s->ref.produced); i++)
            check_sector(s, v, i);
    s->st.converged++;
    if (s->o.initial)
        sim_struck(s, F_INITIAL);
    s->st.healed += s->ref.epoch_count > 1 || s->ref.interval_count > 1;
}
