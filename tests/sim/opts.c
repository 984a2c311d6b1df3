/* SPDX-License-Identifier: Apache-2.0 */
/* Each seed draws its configuration and its swarm: a subset of the faults, each with a rate. */
#include "tests/sim/sim.h"

#include "replicator/store/journal.h"

const char *const sim_fault_name[F_FAULTS] = {
    [F_LOSS] = "frame-loss",
    [F_DUP] = "frame-dup",
    [F_REORDER] = "frame-reorder",
    [F_CORRUPT] = "frame-corrupt",
    [F_REPLAY_OLD] = "old-frame",
    [F_PARTITION_OUT] = "cut-out",
    [F_PARTITION_BACK] = "cut-back",
    [F_PARTITION_BOTH] = "cut-both",
    [F_CONTROL_BREAK] = "control-break",
    [F_TRUNCATE] = "frame-truncated",
    [F_CLOG] = "clog",
    [F_MTU] = "mtu",
    [F_REPLAY_SESSION] = "old-session",
    [F_RATE_COLLAPSE] = "rate-collapse",
    [F_KILL_REP] = "kill-replicator",
    [F_KILL_CAP] = "kill-capture",
    [F_KILL_SBY] = "kill-standby",
    [F_POWER_PRIMARY] = "power-primary",
    [F_POWER_SBY] = "power-standby",
    [F_NESTED] = "kill-in-recovery",
    [F_MID_ACTION] = "kill-mid-action",
    [F_TORN_BEGIN] = "torn-begin",
    [F_TORN_PUBLISH] = "torn-publish",
    [F_PAUSE_REP] = "pause-replicator",
    [F_SUPERSEDED] = "superseded",
    [F_STALE_WORD] = "stale-word",
    [F_PAUSE_CAP] = "pause-capture",
    [F_PAUSE_SBY] = "pause-standby",
    [F_DISK_SLOW] = "disk-slow",
    [F_LOST_SECTORS] = "sector-lost",
    [F_TORN_WRITE] = "write-torn",
    [F_EIO_JOURNAL] = "eio-journal",
    [F_EIO_REPLICA] = "eio-replica",
    [F_EIO_SUPER] = "eio-super",
    [F_EIO_MD] = "eio-metadata",
    [F_EIO_ORIGIN] = "eio-origin",
    [F_CLOCK_STEP] = "clock-step",
    [F_CLOCK_DRIFT] = "clock-drift",
    [F_CLOCK_FREEZE] = "clock-freeze",
    [F_CLEAN_STOP] = "clean-stop",
    [F_RMW] = "read-modify-write",
    [F_PROMOTED_WRITES] = "promoted-writes",
    [F_KILL_PROMOTED] = "kill-promoted",
    [F_OLD_RETURNS] = "old-returns",
    [F_FREEZE] = "freeze",
    [F_FREEZE_END] = "freeze-end",
    [F_VERB_TWICE] = "verb-twice",
    [F_RESTORED] = "image-restored",
    [F_STOP_VERB] = "stop-verb",
    [F_FAILOVER] = "failover",
    [F_MEM_FRAME] = "memory-frame",
    [F_MEM_RELINK] = "memory-relink",
    [F_EIO_STICKY] = "eio-sticky",
    [F_ENOSPC] = "no-space",
    [F_JOURNAL_FULL] = "journal-full",
    [F_SHORT_WRITE] = "short-write",
    [F_SHORT_READ] = "short-read",
    [F_LATENT] = "latent-sector",
    [F_ROT_JOURNAL] = "rot-journal",
    [F_ROT_SUPER] = "rot-super",
    [F_ROT_MD] = "rot-metadata",
    [F_ROT_REPLICA] = "rot-replica",
    [F_ROT_ORIGIN] = "rot-origin",
    [F_MISDIRECTED] = "write-astray",
    [F_LYING_FLUSH] = "lying-flush",
    [F_SLOT_ONE] = "slot-damaged",
    [F_SLOT_BOTH] = "both-slots",
    [F_REORDERED] = "sectors-reordered",
    [F_TORN_4096] = "page-torn",
    [F_ROLLBACK_SBY] = "rollback-standby",
    [F_ROLLBACK_PRIMARY] = "rollback-primary",
    [F_ROLLBACK_MD] = "rollback-metadata",
    [F_ROLLBACK_ORIGIN] = "rollback-origins",
    [F_PIN_FULL] = "pin-full",
    [F_PINNED] = "pinned",
    [F_PIN_IS_IMAGE] = "pin-is-image",
    [F_BACK_TO_PIN] = "back-to-pin",
    [F_BEHIND] = "gap",
    [F_EIO_SPOOL] = "eio-spool",
    [F_SHELTERED] = "spooled-region",
    [F_SPOOLED] = "spooled",
    [F_RESIZE] = "resized",
    [F_PIN_NOSPC] = "pin-no-space",
    [F_EIO_SNAPSHOT] = "eio-snapshot",
    [F_SHORT_SNAPSHOT] = "short-snapshot",
    [F_SHORT_SPOOL] = "short-spool",
    [F_ROT_SPOOL] = "rot-spool",
    [F_KILL_BOTH] = "kill-both",
    [F_INITIAL] = "initial",
    [F_MEM_RING] = "memory-ring",
};

static uint32_t chance(struct sim_rng *r, uint32_t percent_of_seeds, uint32_t ppm_max)
{
    uint32_t ppm;

    if (rng_below(r, 100) >= percent_of_seeds)
        return 0;
    /* Rates over three decades: rare ones find other things than frequent ones. */
    ppm = (uint32_t)rng_range(r, 1, ppm_max);
    return ppm >> (2 * rng_below(r, 5));
}

static uint64_t every(struct sim_rng *r, uint32_t percent_of_seeds, uint64_t lo, uint64_t hi)
{
    if (rng_below(r, 100) >= percent_of_seeds)
        return 0;
    return rng_range(r, lo, hi);
}

static void draw_link(struct sim_opts *o, struct sim_rng *r)
{
    static const uint32_t body[] = {192, 600, 1200, 1376, 4096, 8800, HK_FRAME_BODY_MAX};

    o->body_max = body[rng_below(r, HK_ARRAY_SIZE(body))];
    o->paths = rng_below(r, 4) == 0 ? 2 : 1;
    o->real_bytes = rng_below(r, 5) == 0;
    o->delay_ns = rng_scaled(r, 20, 1000, 5) * NS_US;
    o->jitter_ns = rng_below(r, 2) ? 0 : rng_below(r, 2 * o->delay_ns);
    o->byte_ps = rng_range(r, 4, 400) << 20;
    o->ppm[F_LOSS] = chance(r, 60, 300000);
    o->ppm[F_DUP] = chance(r, 50, 300000);
    o->ppm[F_REORDER] = chance(r, 50, 300000);
    o->ppm[F_CORRUPT] = chance(r, 40, 100000);
    o->ppm[F_REPLAY_OLD] = chance(r, 40, 50000);
    o->mean_ns[F_PARTITION_OUT] = every(r, 25, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_PARTITION_BACK] = every(r, 25, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_PARTITION_BOTH] = every(r, 35, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_CONTROL_BREAK] = every(r, 40, NS_S / 4, 3 * NS_S);
    o->ppm[F_TRUNCATE] = chance(r, 30, 100000);
    o->mean_ns[F_CLOG] = every(r, 25, NS_S / 4, 3 * NS_S);
    o->mean_ns[F_MTU] = every(r, 20, NS_S / 2, 3 * NS_S);
    o->mean_ns[F_REPLAY_SESSION] = every(r, 25, NS_S / 4, 2 * NS_S);
    o->mean_ns[F_RATE_COLLAPSE] = every(r, 15, NS_S / 2, 4 * NS_S);
}

static void draw_clocks(struct sim_opts *o, struct sim_rng *r)
{
    o->mean_ns[F_CLOCK_STEP] = every(r, 25, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_CLOCK_FREEZE] = every(r, 15, NS_S / 2, 4 * NS_S);
    /* Each up to the 500 ppm by which a kernel slews, and what a crystal adds. */
    for (int i = 0; i < 2; i++)
        o->drift_ppm[i] = rng_below(r, 3) ? 0 : (int32_t)rng_below(r, 1201) - 600;
}

static void draw_crashes(struct sim_opts *o, struct sim_rng *r)
{
    o->mean_ns[F_KILL_REP] = every(r, 50, NS_S / 5, 3 * NS_S);
    o->mean_ns[F_KILL_CAP] = every(r, 50, NS_S / 5, 3 * NS_S);
    o->mean_ns[F_KILL_SBY] = every(r, 50, NS_S / 5, 3 * NS_S);
    o->mean_ns[F_POWER_SBY] = every(r, 50, NS_S / 4, 3 * NS_S);
    o->mean_ns[F_POWER_PRIMARY] = every(r, 20, 2 * NS_S, 10 * NS_S);
    o->mean_ns[F_PAUSE_REP] = every(r, 20, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_SUPERSEDED] = every(r, 25, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_PAUSE_CAP] = every(r, 20, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_PAUSE_SBY] = every(r, 20, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_CLEAN_STOP] = every(r, 15, 2 * NS_S, 6 * NS_S);
    o->ppm[F_NESTED] = chance(r, 50, 600000);
    o->ppm[F_TORN_BEGIN] = chance(r, 25, 30000);
    o->ppm[F_TORN_PUBLISH] = chance(r, 25, 30000);
}

/* Errors are rare per seed: most of what they do is done once. */
static void draw_errors(struct sim_opts *o, struct sim_rng *r)
{
    static const enum sim_fault kind[] = {F_EIO_ORIGIN, F_EIO_MD, F_EIO_SUPER, F_EIO_JOURNAL,
                                          F_EIO_REPLICA}; /* in the order of enum sim_class */
    uint32_t c = (uint32_t)rng_below(r, HK_ARRAY_SIZE(kind)), ppm;

    if (rng_below(r, 4) != 0)
        return;
    if (rng_below(r, 4) == 0)
        c = C_JOURNAL;
    ppm = (uint32_t)rng_range(r, 200, 6000);
    if (c == C_MD || c == C_SUPER)
        ppm *= 30; /* few operations go there */
    if (c == C_JOURNAL)
        ppm *= 4; /* few per seed, and the first one ends it */
    o->damage_classes = 1u << c;
    o->sticky_pct = rng_below(r, 3) ? 0 : (uint32_t)rng_below(r, 50);
    o->short_pct = rng_below(r, 4) == 0 ? 0 : (uint32_t)rng_range(r, 30, 100);
    if (rng_below(r, 4) == 0)
        o->ppm[F_ENOSPC] = ppm;
    if (!o->ppm[F_ENOSPC] || rng_below(r, 2))
        o->ppm[kind[c]] = ppm;
}

/* One kind of file, and what happens to it. Budget: budget.c. */
static void draw_damage(struct sim_opts *o, struct sim_rng *r)
{
    static const enum sim_fault rot[] = {F_ROT_ORIGIN, F_ROT_MD, F_ROT_SUPER, F_ROT_JOURNAL,
                                         F_ROT_REPLICA};
    static const enum sim_class classes[] = {C_JOURNAL, C_JOURNAL, C_JOURNAL, C_SUPER, C_SUPER,
                                             C_MD,      C_MD,      C_REPLICA, C_ORIGIN};
    enum sim_class c = classes[rng_below(r, HK_ARRAY_SIZE(classes))];
    bool super = c == C_MD || c == C_SUPER;

    o->damage = true;
    o->damage_classes = 1u << c;
    switch (rng_below(r, super ? 6 : 4)) {
    case 0: o->mean_ns[rot[c]] = rng_range(r, NS_S / 5, 3 * NS_S); break;
    case 1: o->mean_ns[F_LATENT] = rng_range(r, NS_S / 5, 3 * NS_S); break;
    case 2: o->ppm[F_MISDIRECTED] = (uint32_t)rng_range(r, 20, 3000) * (super ? 20 : 1); break;
    case 3: o->ppm[F_LYING_FLUSH] = rng_below(r, 2) ? SIM_ALL_PPM : 20000; break;
    case 4: o->ppm[F_SLOT_ONE] = 400000; break;
    default: o->ppm[F_SLOT_BOTH] = 400000; break;
    }
    /* Damage is found when somebody reads: by those that start again. */
    if (c == C_MD)
        o->mean_ns[F_POWER_PRIMARY] = rng_range(r, NS_S, 4 * NS_S);
    if (c == C_MD && rng_below(r, 2))
        o->mean_ns[F_CLEAN_STOP] = rng_range(r, NS_S / 2, 2 * NS_S);
    if (c == C_MD || c == C_ORIGIN)
        o->mean_ns[F_KILL_CAP] = rng_range(r, NS_S / 4, 2 * NS_S);
    if (c == C_SUPER || c == C_JOURNAL || c == C_REPLICA)
        o->mean_ns[F_POWER_SBY] = rng_range(r, NS_S / 4, 2 * NS_S);
}

/* A node whose disks go back to an older state: a restored VM, a LUN's snapshot. */
static void draw_rollback(struct sim_opts *o, struct sim_rng *r)
{
    static const enum sim_fault kind[] = {F_ROLLBACK_SBY, F_ROLLBACK_SBY, F_ROLLBACK_PRIMARY,
                                          F_ROLLBACK_MD, F_ROLLBACK_ORIGIN};
    enum sim_fault f = kind[rng_below(r, HK_ARRAY_SIZE(kind))];

    o->mean_ns[f] = rng_range(r, NS_S / 4, o->run_ns / 2);
    if (f != F_ROLLBACK_SBY) /* dangerous is what was stopped cleanly */
        o->mean_ns[F_CLEAN_STOP] = rng_range(r, NS_S / 3, 2 * NS_S);
}

static void draw_disks(struct sim_opts *o, struct sim_rng *r)
{
    o->disk_ns[0] = rng_range(r, 5, 400) * NS_US;
    o->disk_ns[1] = rng_scaled(r, 5, 400, 4) * NS_US;
    o->md_ns = rng_below(r, 5) ? o->disk_ns[0] : rng_range(r, 10, 400) * NS_MS;
    o->tear4k = rng_below(r, 3) == 0;
    o->ppm[F_DISK_SLOW] = chance(r, 30, 3000);
    o->flush_eio_dooms = rng_below(r, 2) == 0;
    draw_errors(o, r);
    if (rng_below(r, 4) == 0)
        draw_damage(o, r);
    else if (rng_below(r, 12) == 0)
        draw_rollback(o, r);
}

static void draw_sizes(struct sim_opts *o, struct sim_rng *r)
{
    o->sectors = (uint32_t)rng_range(r, 2, SIM_SECTORS_MAX / 8) * 8;
    o->ring_slots = 16u << rng_below(r, 6);
    o->ring_payload = HK_RING_PAYLOAD_MIN + rng_below(r, 8) * HK_PAGE_BYTES;
    o->ceiling_step = 65536ull << rng_below(r, 8);
    o->segment_bytes = hk_round_up(hk_journal_segment_bytes_min(), 4096) + 4096 * rng_below(r, 64);
    o->segment_count = (uint32_t)rng_range(r, 3, 6);
    o->window_bytes = 8ull << 20;
    o->apply_bytes = (2ull << 20) + (65536ull << rng_below(r, 4));
    o->apply_lag_bytes = rng_below(r, 2) ? 1ull << 30 : (128ull << 10) << rng_below(r, 5);
    o->retain_bytes = rng_below(r, 2) ? UINT64_MAX : rng_below(r, 4 << 20);
    o->rate_max = rng_below(r, 3) ? 0 : rng_range(r, 1, 64) << 20;
}

/* A primary that goes behind again and again with much to compare, and a failover meanwhile. */
static void draw_resyncs(struct sim_opts *o, struct sim_rng *r)
{
    o->region_shift = HK_REGION_SHIFT_MIN;
    o->sectors = SIM_SECTORS_MAX;
    o->ring_slots = 32;
    o->policy = HK_LINK_LOSS_CONTINUE;
    o->contact_ns = rng_range(r, 100, 400) * NS_MS;
    o->pace_ns = rng_range(r, 50, 200) * NS_MS;
    o->run_ns = 6 * NS_S;
    o->primary_returns = true;
    o->mean_ns[F_PARTITION_BOTH] = rng_range(r, 600, 1500) * NS_MS;
    o->mean_ns[F_FAILOVER] = 0;
    o->mean_ns[F_FREEZE] = 0;
    if (rng_below(r, 2))
        o->ppm[F_NESTED] = 500000;
}

/* The dirty map and the snapshot store; small regions, so that much happens in few events. */
static void draw_map(struct sim_opts *o, uint64_t seed, uint32_t each_percent)
{
    const struct hk_capture_cfg probe = {.region_shift = HK_REGION_SHIFT_MIN,
                                         .volume_count = 1,
                                         .volume_bytes = {1u << HK_REGION_SHIFT_MIN}};
    struct sim_rng r;

    rng_seed(&r, seed, 11);
    o->snapshots = (uint32_t)rng_range(&r, 1, SIM_SNAPSHOTS_MAX);
    o->snapshot_bytes = rng_below(&r, 4) ? 0 : rng_range(&r, 1, 32) * HK_PAGE_BYTES;
    if (rng_below(&r, 6) == 0 || hk_capture_dirty_bytes(&probe) == 0)
        return;
    o->region_shift = HK_REGION_SHIFT_MIN + (uint32_t)rng_below(&r, 2);
    o->hot_max = rng_below(&r, 2) ? 0 : (uint32_t)rng_range(&r, 10, 32);
    rng_seed(&r, seed, 13);
    o->promote_pct = rng_below(&r, 16) ? 0 : (uint32_t)rng_range(&r, 1, 100);
    if (each_percent)
        o->promote_pct = each_percent;
    if (o->promote_pct)
        draw_resyncs(o, &r);
}

/* A replicator that stands still and was replaced would hold the files' locks: not both. */
static void draw_spool(struct sim_opts *o, uint64_t seed)
{
    struct sim_rng r;

    rng_seed(&r, seed, 12);
    if (rng_below(&r, 2) == 0 || o->mean_ns[F_SUPERSEDED] || o->mean_ns[F_ROLLBACK_PRIMARY] ||
        o->mean_ns[F_ROLLBACK_MD] || o->mean_ns[F_ROLLBACK_ORIGIN])
        return;
    o->spool_segments = (uint32_t)rng_range(&r, 2, 4);
    o->ppm[F_EIO_SPOOL] = rng_below(&r, 8) ? 0 : (uint32_t)rng_range(&r, 100, 5000);
}

static void draw_overflow(struct sim_opts *o, uint64_t seed)
{
    struct sim_rng r;

    rng_seed(&r, seed, 13);
    o->overflow = (enum hk_overflow)rng_range(&r, HK_OVERFLOW_PACE, HK_OVERFLOW_BEHIND);
    /* Under `block` nothing else is let by; and half of the runs stay with the default. */
    if (rng_below(&r, 2) || (o->policy == HK_LINK_LOSS_BLOCK && o->overflow == HK_OVERFLOW_BEHIND))
        o->overflow = HK_OVERFLOW_PACE;
}

/* A quarter of the seeds has volumes that can grow. */
static void draw_growth(struct sim_opts *o, uint64_t seed)
{
    uint32_t left = (SIM_SECTORS_MAX - o->sectors) / 8;
    struct sim_rng r;

    rng_seed(&r, seed, 14);
    if (rng_below(&r, 4) != 0 || left == 0)
        return;
    o->room_sectors = o->sectors + 8 * (uint32_t)rng_range(&r, 1, left);
    o->mean_ns[F_RESIZE] = rng_range(&r, NS_S / 10, NS_S);
}

enum { SIM_MORE_ODDS = 40 };

/* What may happen to the files of a resync, and in one; of a stream of its own. */
static void draw_more(struct sim_opts *o, uint64_t seed)
{
    struct sim_rng r;

    rng_seed(&r, seed, 16);
    if (o->region_shift == 0)
        return;
    if (rng_below(&r, SIM_MORE_ODDS) == 0)
        o->mean_ns[F_PIN_NOSPC] = rng_range(&r, 50, 500) * NS_MS;
    if (rng_below(&r, SIM_MORE_ODDS) == 0)
        o->mean_ns[F_KILL_BOTH] = rng_range(&r, 20, 200) * NS_MS;
    if (rng_below(&r, SIM_MORE_ODDS) == 0) {
        o->ppm[F_EIO_SNAPSHOT] = (uint32_t)rng_range(&r, 1000, 50000);
        o->ppm[F_SHORT_SNAPSHOT] = (uint32_t)rng_range(&r, 1000, 50000);
    }
    if (rng_below(&r, SIM_MORE_ODDS) == 0) /* where rot of the snapshots' files would stand */
        rng_next(&r);
    if (o->spool_segments && rng_below(&r, SIM_MORE_ODDS) == 0)
        o->ppm[F_SHORT_SPOOL] = (uint32_t)rng_range(&r, 500, 20000);
    if (o->spool_segments && rng_below(&r, SIM_MORE_ODDS) == 0 && !o->damage) {
        o->damage = true;
        o->mean_ns[F_ROT_SPOOL] = rng_range(&r, 20, 300) * NS_MS;
    }
    o->initial = rng_below(&r, SIM_MORE_ODDS) == 0;
}

static void draw_work(struct sim_opts *o, struct sim_rng *r)
{
    o->clients = (uint32_t)rng_range(r, 1, SIM_CLIENTS_MAX);
    o->think_us = (uint32_t)rng_scaled(r, 100, 1500, 3) * o->clients;
    o->values = (uint32_t)rng_range(r, 2, SIM_VALUES);
    o->zero_pct = (uint32_t)rng_range(r, 10, 60);
    o->read_pct = (uint32_t)rng_below(r, 40);
    o->flush_pct = (uint32_t)rng_below(r, 15);
    o->big_pct = rng_below(r, 2) ? 0 : (uint32_t)rng_below(r, 20);
    o->align_pct = (uint32_t)rng_below(r, 101);
}

/* Of a stream of its own: what is added here leaves the other draws as they are. */
static void draw_world(struct sim_opts *o, uint64_t seed)
{
    struct sim_rng r;

    rng_seed(&r, seed, 9);
    if (rng_below(&r, 12) == 0) { /* a slow standby counts on more than a fast primary gives */
        o->drift_ppm[0] = 600;
        o->drift_ppm[1] = -600;
        o->delay_ns = rng_range(&r, 1, 100) * NS_US;
        o->jitter_ns = 0;
    }
    o->mean_ns[F_STOP_VERB] = every(&r, 20, NS_S / 2, 4 * NS_S);
    o->mean_ns[F_RESTORED] = o->mean_ns[F_FREEZE] ? rng_range(&r, 20, 300) * NS_MS : 0;
    o->ppm[F_VERB_TWICE] = chance(&r, 30, 500000);
    o->rmw_pct = rng_below(&r, 2) ? 0 : (uint32_t)rng_range(&r, 10, 100);
    if (rng_below(&r, 20) == 0) {
        o->deceived = true;
        o->mode = HK_MODE_SYNC;
        o->policy = HK_LINK_LOSS_CONTINUE;
        o->mean_ns[F_FAILOVER] = o->run_ns / 2;
    }
}

void sim_opts_draw(struct sim *s)
{
    struct sim_opts *o = &s->o;
    struct sim_rng r;

    rng_seed(&r, s->seed, 1);
    *o = (struct sim_opts){0};
    o->mode = (enum hk_mode)rng_range(&r, HK_MODE_ASYNC, HK_MODE_SYNC);
    if (rng_below(&r, 3) == 0)
        o->mode = HK_MODE_SYNC;
    o->policy = rng_below(&r, 2) ? HK_LINK_LOSS_BLOCK : HK_LINK_LOSS_CONTINUE;
    o->contact_ns = rng_range(&r, 100, 1500) * NS_MS;
    o->pace_ns = rng_range(&r, 100, 4000) * NS_MS;
    o->run_ns = rng_range(&r, 1, 6) * NS_S;
    o->ipc_ns = rng_range(&r, 1, 50) * NS_US;
    draw_link(o, &r);
    draw_crashes(o, &r);
    draw_clocks(o, &r);
    draw_disks(o, &r);
    draw_sizes(o, &r);
    draw_work(o, &r);
    o->mean_ns[F_FREEZE] = every(&r, 40, NS_S / 4, 3 * NS_S);
    o->mean_ns[F_FREEZE_END] = rng_range(&r, 20, 1500) * NS_MS;
    o->mean_ns[F_FAILOVER] = every(&r, 40, NS_S, 2 * o->run_ns);
    o->primary_returns = rng_below(&r, 2);
    /* Log that waits to be applied is what damage of the journal can take away. */
    if (o->damage && (o->damage_classes & 1u << C_JOURNAL) && rng_below(&r, 2)) {
        o->mean_ns[F_FREEZE] = rng_range(&r, 100, 800) * NS_MS;
        o->mean_ns[F_FREEZE_END] = rng_range(&r, 500, 3000) * NS_MS;
        if (rng_below(&r, 2))
            o->mean_ns[F_ROT_JOURNAL] = rng_range(&r, 100, 600) * NS_MS;
    }
    o->ppm[F_MEM_FRAME] = chance(&r, 12, 4000);
    o->mean_ns[F_MEM_RING] = every(&r, 6, NS_S / 2, 4 * NS_S);
    o->ppm[F_MEM_RELINK] = chance(&r, 12, 20000);
    draw_world(o, s->seed);
    draw_map(o, s->seed, s->each_percent);
    draw_spool(o, s->seed);
    draw_more(o, s->seed);
    draw_overflow(o, s->seed);
    draw_growth(o, s->seed);
#ifdef SIM_FED
    o->run_ns /= 8; /* for a fuzzer many short runs are better than few long ones */
#endif
}

void sim_opts_print(const struct sim *s, FILE *out)
{
    static const char *const mode[] = {"?", "async", "semisync", "sync"};
    static const char *const overflow[] = {"?", "pace", "block", "behind"};
    const struct sim_opts *o = &s->o;

    fprintf(out,
            "  mode %s, on-link-loss %s, on-overflow %s, T %llu ms, pace %llu ms, run %llu s\n",
            mode[o->mode], o->policy == HK_LINK_LOSS_BLOCK ? "block" : "continue",
            overflow[o->overflow], (unsigned long long)(o->contact_ns / NS_MS),
            (unsigned long long)(o->pace_ns / NS_MS), (unsigned long long)(o->run_ns / NS_S));
    fprintf(out,
            "  clients %u think %u us values %u sectors %u | ring %u slots, ceiling step %llu | "
            "segments %u x %llu, apply %llu, lag bound %llu\n",
            o->clients, o->think_us, o->values, o->sectors, o->ring_slots,
            (unsigned long long)o->ceiling_step, o->segment_count,
            (unsigned long long)o->segment_bytes, (unsigned long long)o->apply_bytes,
            (unsigned long long)o->apply_lag_bytes);
    fprintf(out, "  link: %s, body %u, paths %u, delay %llu us, jitter %llu us, %llu MiB/s\n",
            o->real_bytes ? "real bytes" : "structs", o->body_max, o->paths,
            (unsigned long long)(o->delay_ns / NS_US), (unsigned long long)(o->jitter_ns / NS_US),
            (unsigned long long)(o->byte_ps >> 20));
    fprintf(out, "  regions of %u bytes, %u hot; %u snapshots, %llu bytes for them (0: any)\n",
            o->region_shift ? 1u << o->region_shift : 0, o->hot_max, o->snapshots,
            (unsigned long long)o->snapshot_bytes);
    if (o->room_sectors)
        fprintf(out, "  volumes may grow to %u sectors\n", o->room_sectors);
    fprintf(out, "  clocks: %+d ppm, %+d ppm\n", o->drift_ppm[0], o->drift_ppm[1]);
    fprintf(out, "  disks: %llu us / %llu us%s%s; the primary %s\n  faults:",
            (unsigned long long)(o->disk_ns[0] / NS_US),
            (unsigned long long)(o->disk_ns[1] / NS_US), o->tear4k ? ", tear at 4096" : "",
            o->flush_eio_dooms ? ", a failed flush loses data" : "",
            o->primary_returns ? "comes back after power loss" : "stays away after power loss");
    for (int i = 0; i < F_FAULTS; i++) {
        if (o->ppm[i])
            fprintf(out, " %s %u ppm", sim_fault_name[i], o->ppm[i]);
        if (o->mean_ns[i])
            fprintf(out, " %s each %llu ms", sim_fault_name[i],
                    (unsigned long long)(o->mean_ns[i] / NS_MS));
    }
    fputc('\n', out);
    budget_print(s, out);
}
