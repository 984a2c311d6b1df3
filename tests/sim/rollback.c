/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node that is set back to an older state of its disks: a restored VM, a LUN's snapshot. The
 * snapshot is what a power cut at its moment would have left; for the primary it is often taken
 * after a clean stop, since only then is it trusted without further questions. The other site does
 * not go back: it must find out (I12).
 */
#include <string.h>

#include "tests/sim/world.h"

enum {
    FILES_MAX = 4 + SIM_VOLUMES + SIM_SEGMENTS_MAX + SIM_SNAPSHOTS_MAX * (1 + SIM_VOLUMES),
};

struct sim_snap {
    uint32_t count;
    uint8_t *bytes[FILES_MAX];
    struct naive_journal nj;
    uint64_t hole_from;
};

static void keep(struct sim *s, struct sim_file *f)
{
    struct sim_snap *n = s->snap[f->site];

    n->bytes[n->count] = sim_alloc(s, f->bytes);
    memcpy(n->bytes[n->count++], f->dur, f->bytes);
}

static void take(struct sim *s, unsigned site)
{
    struct sim_snap *n = sim_alloc(s, sizeof(*n));

    s->snap[site] = n;
    sim_disk_each(s, site, keep);
    n->nj = s->nj;
    n->hole_from = s->sby.hole_from;
    n->nj.batch = sim_alloc(s, (s->nj.count + 1) * sizeof(*n->nj.batch));
    if (s->nj.count)
        memcpy(n->nj.batch, s->nj.batch, s->nj.count * sizeof(*n->nj.batch));
    sim_trace(s, "snap of site %llu, durable %llu", site, s->nj.durable, 0);
}

static void put_back(struct sim_file *f, const uint8_t *bytes)
{
    memcpy(f->dur, bytes, f->bytes);
    memcpy(f->cur, bytes, f->bytes);
    if (f->good != f->dur)
        memcpy(f->good, bytes, f->bytes);
    f->durable_changes++;
}

static void standby(struct sim *s)
{
    struct sim_snap *n = s->snap[1];
    struct naive_journal *j = &s->nj;
    uint32_t i = 0;

    if (s->sby.promoted || s->sby.promoting)
        return;
    sby_power(s);
    s->was_durable = hk_max_u64(s->was_durable, hk_max_u64(j->durable, s->sby.said_durable));
    put_back(&s->super, n->bytes[i++]);
    put_back(&s->pmd, n->bytes[i++]);
    put_back(&s->journal_dir, n->bytes[i++]);
    for (int v = 0; v < SIM_VOLUMES; v++)
        put_back(&s->replica[v], n->bytes[i++]);
    for (uint32_t k = 0; k < s->o.segment_count; k++)
        put_back(&s->segment[k], n->bytes[i++]);
    put_back(&s->snapshot_dir, n->bytes[i++]);
    for (uint32_t k = 0; k < s->o.snapshots; k++)
        for (int v = 0; v <= SIM_VOLUMES; v++)
            put_back(&s->snapshot[k][v], n->bytes[i++]);
    memcpy(j->batch, n->nj.batch, n->nj.count * sizeof(*j->batch));
    j->count = n->nj.count;
    j->durable = n->nj.durable;
    j->seg = n->nj.seg;
    j->at = n->nj.at;
    s->vanished |= 1u << C_JOURNAL;
    budget_lost(s, j->durable);
    s->sby.said_applied = hk_min_u64(s->sby.said_applied, sby_durable(s)->applied);
    s->sby.hole_from = n->hole_from;
    s->sby.gap_lsn =
        hk_min_u64(s->sby.gap_lsn, hk_max_u64(ref_norm(s, sby_durable(s)->applied), HK_LSN_FIRST));
    s->sby.frozen = false;
    sim_struck(s, F_ROLLBACK_SBY);
    sim_trace(s, "back standby to durable %llu", j->durable, 0, 0);
}

static void primary(struct sim *s, enum sim_fault kind)
{
    struct sim_snap *n = s->snap[0];

    if (s->primary_gone || s->forked)
        return;
    cap_power(s);
    s->primary_dead = true;
    for (int v = 0; v < SIM_VOLUMES && kind != F_ROLLBACK_MD; v++)
        put_back(&s->origin[v], n->bytes[v]);
    if (kind != F_ROLLBACK_ORIGIN) {
        put_back(&s->md, n->bytes[SIM_VOLUMES]);
        dmap_look_again(s);
        s->vanished |= 1u << C_MD;
    }
    s->origin_suspect = s->vol_void = s->origin_void = true;
    s->origin_back_lsn = s->ref.next_lsn;
    sim_struck(s, kind);
    sim_trace(s, "back primary, fault %llu", kind, 0, 0);
    sim_at(s, s->now + 50 * NS_MS + rng_below(&s->rng_fault, NS_S), NULL, cap_start, 0, NULL);
    sim_at(s, s->now + 50 * NS_MS + rng_below(&s->rng_fault, NS_S), NULL, rep_start, 0, NULL);
}

void rollback_strike(struct sim *s, enum sim_fault kind)
{
    unsigned site = kind == F_ROLLBACK_SBY;

    if (!s->snap[site])
        take(s, site);
    else if (site == 1)
        standby(s);
    else
        primary(s, kind);
}

/* The node is down after a clean stop: now is when people copy disks. */
void rollback_clean_stop(struct sim *s)
{
    bool drawn = s->o.mean_ns[F_ROLLBACK_PRIMARY] || s->o.mean_ns[F_ROLLBACK_MD] ||
                 s->o.mean_ns[F_ROLLBACK_ORIGIN];

    if (drawn && s->faults_on && rng_below(&s->rng_fault, 2))
        take(s, 0);
}
