/* SPDX-License-Identifier: Apache-2.0 */
/* What strikes from outside: crashes, cuts, pauses, clock steps, and the operator's verbs. */
#include <string.h>

#include "tests/sim/world.h"

static void strike(struct sim *s, uint64_t kind, void *p);

static void next_strike(struct sim *s, enum sim_fault kind)
{
    if (s->o.mean_ns[kind])
        sim_at(s, s->now + 1 + rng_around(&s->rng_fault, s->o.mean_ns[kind]), NULL, strike, kind,
               NULL);
}

static void kill_proc(struct sim *s, struct sim_proc *p)
{
    if (p == &s->cap.proc)
        cap_kill(s);
    else if (p == &s->rep.proc)
        rep_kill(s);
    else
        sby_kill(s);
}

/* Called between any two actions of a process. */
void oper_maybe_die(struct sim *s, struct sim_proc *p)
{
    if (p->kill_in == 0 || --p->kill_in > 0)
        return;
    sim_struck(s, F_MID_ACTION);
    kill_proc(s, p);
}

static void kill_later(struct sim *s, uint64_t life, void *p)
{
    struct sim_proc *proc = p;

    if (proc->up && proc->life == life)
        kill_proc(s, proc);
}

/* A process has just started: perhaps it will not live to end its recovery. */
void oper_started(struct sim *s, struct sim_proc *p)
{
    if (!p->up || !s->faults_on || !rng_ppm(&s->rng_fault, s->o.ppm[F_NESTED]))
        return;
    sim_struck(s, F_NESTED);
    if (rng_below(&s->rng_fault, 2))
        p->kill_in = (uint32_t)rng_range(&s->rng_fault, 1, 20);
    else
        sim_at(s, s->now + rng_below(&s->rng_fault, 20 * NS_MS), NULL, kill_later, p->life, p);
}

static void kill_some(struct sim *s, enum sim_fault kind, struct sim_proc *p)
{
    if (!p->up)
        return;
    sim_struck(s, kind);
    if (rng_below(&s->rng_fault, 2))
        p->kill_in = (uint32_t)rng_range(&s->rng_fault, 1, 12);
    else
        kill_proc(s, p);
}

static void pause_some(struct sim *s, enum sim_fault kind, struct sim_proc *p)
{
    uint64_t until = s->now + NS_MS + rng_around(&s->rng_fault, s->o.contact_ns / 2);

    if (!p->up)
        return;
    sim_struck(s, kind);
    if (until > p->paused_until)
        p->paused_until = until;
    if (p == &s->cap.proc)
        s->cap.stood_ns = until;
    if (p == &s->rep.proc)
        s->sby.heard_late = hk_max_u64(s->sby.heard_late, until);
    sim_trace(s, "paus fault %llu until %llu us", kind, p->paused_until / NS_US, 0);
}

static void cut(struct sim *s, enum sim_fault kind)
{
    uint64_t for_ns = rng_around(&s->rng_fault, s->o.contact_ns);

    sim_struck(s, kind);
    if (kind != F_PARTITION_BACK)
        link_cut(s, 0, for_ns);
    if (kind != F_PARTITION_OUT)
        link_cut(s, 1, for_ns);
    if (rng_below(&s->rng_fault, 2))
        conn_break(s);
}

static void power_primary(struct sim *s)
{
    if (!s->cap.proc.up && !s->cap.ring_there)
        return;
    sim_struck(s, F_POWER_PRIMARY);
    cap_power(s);
    s->primary_dead = true;
    if (!s->o.primary_returns) {
        s->primary_gone = true;
        return;
    }
    sim_at(s, s->now + NS_MS + rng_around(&s->rng_fault, NS_S), NULL, cap_start, 0, NULL);
    sim_at(s, s->now + NS_MS + rng_around(&s->rng_fault, NS_S), NULL, rep_start, 0, NULL);
}

/* Both sites at the same moment, in a resync: processes, or the whole node. */
static void kill_both(struct sim *s)
{
    if (!s->ref.resync || !s->cap.proc.up || !s->sby.proc.up || s->sby.promoted)
        return;
    sim_struck(s, F_KILL_BOTH);
    if (s->o.primary_returns && rng_below(&s->rng_fault, 3) == 0) {
        power_primary(s);
    } else {
        cap_kill(s);
        rep_kill(s);
    }
    if (rng_below(&s->rng_fault, 2))
        sby_kill(s);
    else
        sby_power(s);
}

static bool twice(struct sim *s)
{
    if (!s->faults_on || !rng_ppm(&s->rng_world, s->o.ppm[F_VERB_TWICE]))
        return false;
    sim_struck(s, F_VERB_TWICE);
    return true;
}

/* An orderly end: the daemon says goodbye, answers, and is started again. */
static void stop_daemon(struct sim *s)
{
    struct hk_event e = {.type = HK_EV_VERB};
    bool there = rng_below(&s->rng_world, 2);

    if (there ? !s->sby.proc.up || s->sby.promoting : !s->rep.proc.up)
        return;
    sim_struck(s, F_STOP_VERB);
    e.verb.kind = HK_VERB_STOP;
    e.verb.op_id = ++s->op_ids;
    if (there) {
        s->sby.stop_op = e.verb.op_id;
        sby_event(s, &e);
    } else {
        s->rep.stop_op = e.verb.op_id;
        rep_event(s, &e);
    }
}

static void freeze(struct sim *s)
{
    struct hk_event e = {.type = HK_EV_VERB};
    bool resync = s->sby.proc.up && !s->no_super[1] && (sby_durable(s)->flags & HK_SF_RESYNC);

    e.verb.kind = HK_VERB_FREEZE;
    e.verb.op_id = ++s->op_ids;
    /* Drawn from no stream: whatever else happens stays as it was. */
    e.verb.or_pin = resync || s->op_ids % 3 == 0;
    e.verb.wait_ns = s->op_ids % 4 * 20 * NS_MS;
    snprintf(e.verb.name, sizeof(e.verb.name), "f%llu", (unsigned long long)s->op_ids);
    sim_struck(s, F_FREEZE);
    sim_trace(s, "frez asked, op %llu", s->op_ids, 0, 0);
    if (rng_below(&s->rng_fault, 2) && !resync)
        rep_event(s, &e);
    else
        sby_event(s, &e);
    if (twice(s)) { /* by the same name or another, here or there */
        e.verb.op_id = ++s->op_ids;
        if (rng_below(&s->rng_world, 2))
            e.verb.name[0] = 'g';
        if (rng_below(&s->rng_world, 2))
            rep_event(s, &e);
        else
            sby_event(s, &e);
    }
}

/* Somebody wants last night's image although a resync runs. */
static void want_pin(struct sim *s, uint64_t a, void *p)
{
    struct hk_event e = {.type = HK_EV_VERB};

    (void)a;
    (void)p;
    if (!s->sby.proc.up || s->sby.promoted || s->stood_still || !s->faults_on)
        return;
    e.verb.kind = HK_VERB_FREEZE;
    e.verb.op_id = ++s->op_ids;
    snprintf(e.verb.name, sizeof(e.verb.name), "p%llu", (unsigned long long)s->op_ids);
    e.verb.or_pin = true;
    e.verb.wait_ns = s->seed % 16 / 4 * 20 * NS_MS;
    sby_event(s, &e);
}

/* In one seed of four; drawn from no stream, so that the others run as ever. */
void oper_pinned(struct sim *s)
{
    if (s->seed % 4 == 3)
        sim_at(s, s->now + 1 + s->seed / 4 % 8 * NS_MS, NULL, want_pin, 0, NULL);
}

static void freeze_end(struct sim *s)
{
    struct hk_event e = {.type = HK_EV_VERB};

    if (!s->sby.frozen || !s->sby.proc.up)
        return;
    check_frozen_image(s, "before its end");
    e.verb.kind = HK_VERB_FREEZE_END;
    e.verb.op_id = ++s->op_ids;
    memcpy(e.verb.name, s->sby.freeze_name, sizeof(e.verb.name));
    sim_struck(s, F_FREEZE_END);
    sby_event(s, &e);
    if (!twice(s))
        return;
    e.verb.op_id = ++s->op_ids;
    if (rng_below(&s->rng_world, 2))
        e.verb.name[0] = 'h';
    sby_event(s, &e);
}

/* ---- failover: somebody decides that the primary is lost, and may be wrong ---- */

static void ask_failover(struct sim *s, uint64_t a, void *p)
{
    struct hk_event e = {.type = HK_EV_VERB};

    (void)a;
    (void)p;
    if (s->sby.promoted || s->stood_still)
        return;
    if (s->sby.proc.up && !s->sby.failover_op && !s->sby.promoting) {
        e.verb.kind = HK_VERB_FAILOVER;
        e.verb.op_id = s->sby.failover_op = ++s->op_ids;
        e.verb.fence = s->primary_gone ? HK_FENCE_OK : (uint32_t)rng_below(&s->rng_fault, 2) * 2;
        e.verb.fence_time_ns = e.verb.fence == HK_FENCE_OK ? s->primary_gone_real_ns : 0;
        for (int i = 0; i < 16; i++)
            e.verb.new_epoch.b[i] = (uint8_t)rng_next(&s->rng_fault);
        sim_trace(s, "fail over asked, op %llu fence %llu", s->op_ids, e.verb.fence, 0);
        sby_event(s, &e);
        if (twice(s)) {
            e.verb.op_id = s->sby.failover_again = ++s->op_ids;
            e.verb.new_epoch.b[3] ^= 0x55;
            sby_event(s, &e);
        }
    }
    sim_at(s, s->now + 300 * NS_MS, NULL, ask_failover, 0, NULL);
}

static void primary_lost(struct sim *s)
{
    cap_power(s);
    s->primary_dead = s->primary_gone = true;
    s->primary_gone_real_ns = sim_clock(s, 1).real_ns;
}

static void primary_lost_later(struct sim *s, uint64_t a, void *p)
{
    (void)a;
    (void)p;
    if (!s->primary_gone)
        primary_lost(s);
}

/*
 * Cut off for so long that the primary goes on alone, and dies later; meanwhile somebody sets the
 * standby's clock, perhaps so that the fence seems to have been in time, and restarts its daemon.
 */
static void lost_slowly(struct sim *s)
{
    uint64_t t = s->o.contact_ns, dies = t / 2 + rng_below(&s->rng_fault, 3 * t);

    link_cut(s, 0, 1000 * NS_S);
    link_cut(s, 1, 1000 * NS_S);
    conn_break(s);
    if (rng_below(&s->rng_fault, 2)) {
        sim_struck(s, F_CLOCK_STEP);
        clk_step(s, 1, -(int64_t)(dies - rng_below(&s->rng_fault, hk_min_u64(dies, t))));
    }
    if (rng_below(&s->rng_fault, 2))
        sby_kill(s);
    sim_at(s, s->now + dies, NULL, primary_lost_later, 0, NULL);
}

void oper_failover(struct sim *s)
{
    uint64_t delay;

    if (s->sby.failover_wanted)
        return;
    s->sby.failover_wanted = true;
    sim_struck(s, F_FAILOVER);
    switch (s->o.deceived ? 2 : rng_below(&s->rng_fault, 5)) {
    case 0: break; /* the primary lives and is in contact */
    case 1:
        link_cut(s, 0, 1000 * NS_S);
        link_cut(s, 1, 1000 * NS_S);
        conn_break(s);
        break;
    case 2: lost_slowly(s); break;
    default:
        if (!s->primary_gone)
            primary_lost(s);
        break;
    }
    /* At once, or after people have thought about it. */
    delay = rng_below(&s->rng_fault, 4 * s->o.contact_ns);
    sim_at(s, s->now + (rng_below(&s->rng_fault, 2) ? delay : 0), NULL, ask_failover, 0, NULL);
}

static void clock_step(struct sim *s)
{
    int64_t by = (int64_t)rng_range(&s->rng_fault, 1, 3600) * (int64_t)NS_S;

    sim_struck(s, F_CLOCK_STEP);
    if (rng_below(&s->rng_fault, 2)) /* small ones are the treacherous ones */
        by = (int64_t)rng_range(&s->rng_fault, 1, 2 * s->o.contact_ns);
    if (rng_below(&s->rng_fault, 2))
        by = -by;
    clk_step(s, (unsigned)rng_below(&s->rng_fault, 2), by);
}

static void clock_freeze(struct sim *s)
{
    unsigned site = (unsigned)rng_below(&s->rng_fault, 2);
    uint64_t for_ns = NS_MS + rng_around(&s->rng_fault, s->o.contact_ns / 2);

    sim_struck(s, F_CLOCK_FREEZE);
    clk_stop(s, site, for_ns, rng_below(&s->rng_fault, 2));
}

static void do_strike(struct sim *s, enum sim_fault kind)
{
    switch (kind) {
    case F_PARTITION_OUT:
    case F_PARTITION_BACK:
    case F_PARTITION_BOTH: cut(s, kind); break;
    case F_CONTROL_BREAK:
        sim_struck(s, kind);
        conn_break(s);
        break;
    case F_KILL_REP: kill_some(s, kind, &s->rep.proc); break;
    case F_KILL_CAP: kill_some(s, kind, &s->cap.proc); break;
    case F_KILL_SBY: kill_some(s, kind, &s->sby.proc); break;
    case F_POWER_PRIMARY: power_primary(s); break;
    case F_POWER_SBY:
        if (s->sby.proc.up) {
            sim_struck(s, kind);
            sby_power(s);
        }
        break;
    case F_PAUSE_REP: pause_some(s, kind, &s->rep.proc); break;
    case F_SUPERSEDED: ghost_begin(s); break;
    case F_PAUSE_CAP: pause_some(s, kind, &s->cap.proc); break;
    case F_PAUSE_SBY: pause_some(s, kind, &s->sby.proc); break;
    case F_CLOCK_STEP: clock_step(s); break;
    case F_CLOCK_FREEZE: clock_freeze(s); break;
    case F_CLOG:
    case F_MTU:
    case F_REPLAY_SESSION:
    case F_RATE_COLLAPSE: weather_strike(s, kind); break;
    case F_CLEAN_STOP: cap_clean_stop(s); break;
    case F_FREEZE: freeze(s); break;
    case F_STOP_VERB: stop_daemon(s); break;
    case F_RESTORED: image_strike(s); break;
    case F_FREEZE_END: freeze_end(s); break;
    case F_FAILOVER: oper_failover(s); break;
    case F_LATENT:
    case F_ROT_JOURNAL:
    case F_ROT_SUPER:
    case F_ROT_MD:
    case F_ROT_REPLICA:
    case F_ROT_ORIGIN: damage_strike(s, kind); break;
    case F_ROLLBACK_SBY:
    case F_ROLLBACK_PRIMARY:
    case F_ROLLBACK_MD:
    case F_ROLLBACK_ORIGIN: rollback_strike(s, kind); break;
    case F_MEM_RING: mem_ring(s); break;
    case F_RESIZE: grow_strike(s); break;
    case F_PIN_NOSPC:
    case F_ROT_SPOOL: damage_strike(s, kind); break;
    case F_KILL_BOTH: kill_both(s); break;
    default: break;
    }
}

static void strike(struct sim *s, uint64_t kind, void *p)
{
    (void)p;
    /* The end of a freeze is no fault: it goes on for ever. */
    if (!s->faults_on && kind != F_FREEZE_END)
        return;
    do_strike(s, (enum sim_fault)kind);
    if (kind != F_POWER_PRIMARY && kind != F_FAILOVER)
        next_strike(s, (enum sim_fault)kind);
}

/* From here on nothing strikes any more; a side that was declared lost stays lost. */
void oper_stop_faults(struct sim *s)
{
    s->faults_on = false;
    damage_stops(s);
    s->pin_nospc_until = 0;
    if (s->o.ppm[F_EIO_SNAPSHOT] || s->o.ppm[F_SHORT_SNAPSHOT]) /* final in that life */
        sby_kill(s);
    if (s->o.snapshot_bytes) { /* whoever is told that there is no room for the pin gives some */
        s->o.snapshot_bytes = 0;
        sby_kill(s);
    }
    s->cap.proc.kill_in = s->rep.proc.kill_in = s->sby.proc.kill_in = 0;
    s->dir[0].down_until = s->dir[1].down_until = s->now;
    weather_heal(s);
    clk_heal(s);
    sim_trace(s, "heal all faults stop", 0, 0, 0);
}

void oper_setup(struct sim *s)
{
    for (int i = 0; i < F_FAULTS; i++)
        next_strike(s, (enum sim_fault)i);
}
