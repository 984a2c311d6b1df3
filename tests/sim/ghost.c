/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replicator that stands still is taken for dead: another one is started, which gets a newer
 * attach lease. Later the old one wakes up and goes on where it stood: it takes the acks that have
 * come meanwhile, reports, inserts marks, sends frames of its session, connects again. Nobody may
 * listen to it (I6), and nothing it does may cost data (I7, I13).
 *
 * It runs by changing places with s->rep for the length of one call, since its group keeps pointers
 * into that place.
 */
#include <string.h>

#include "tests/sim/sim.h"

static void change_places(struct sim *s)
{
    struct sim_rep was = s->rep;

    s->rep = s->ghost.rep;
    s->ghost.rep = was;
    s->ghost.runs = !s->ghost.runs;
}

/* Its mapping is of a ring that may be gone: then it reads nothing any more. */
static void look_at_ring(struct sim *s)
{
    const struct hk_ring_header *h = (const void *)s->cap.ring;

    if (!s->cap.ring_there || !hk_uuid_equal(&h->ring_id, &s->ghost.ring_id))
        s->ghost.rep.attached = false;
}

static void as_ghost(struct sim *s, const struct hk_event *e, struct sim_frame *f)
{
    look_at_ring(s);
    change_places(s);
    if (f)
        rep_take_frame(s, f);
    else
        rep_event(s, e);
    change_places(s);
}

void ghost_gone(struct sim *s)
{
    struct sim_ghost *g = &s->ghost;
    struct ipc_msg closed = {.conn = g->rep.proc.life};

    if (!g->rep.proc.up)
        return;
    if (s->conn.by_ghost) {
        g->runs = true;
        conn_died(s, 0, false);
        g->runs = false;
        s->conn.by_ghost = false;
    }
    sim_trace(s, "ghst the superseded replicator is gone", 0, 0, 0);
    if (s->cap.proc.up)
        fifo_push(s, &s->r2c, s->o.ipc_ns, &s->cap.proc, cap_ipc, IPC_CLOSED, &closed,
                  sizeof(closed));
    g->rep.proc.up = g->awake = false;
    sim_pages_forget(g->rep.memory, g->rep.memory_bytes);
}

static void ghost_ends(struct sim *s, uint64_t life, void *p)
{
    (void)p;
    if (s->ghost.rep.proc.life == life)
        ghost_gone(s);
}

static void ghost_turn(struct sim *s, uint64_t life, void *p)
{
    struct hk_event e = {.type = HK_EV_TIMER};

    (void)p;
    if (!s->ghost.rep.proc.up || s->ghost.rep.proc.life != life)
        return;
    as_ghost(s, &e, NULL);
    if (rng_below(&s->rng_fault, 3) == 0 && !s->conn.by_ghost)
        conn_by_ghost(s);
    sim_at(s, s->now + rng_below(&s->rng_fault, 20 * NS_MS), NULL, ghost_turn, life, NULL);
}

static void wake(struct sim *s, uint64_t life, void *p)
{
    struct hk_event freeze = {.type = HK_EV_VERB}, down = {.type = HK_EV_CONTROL_DOWN};

    (void)p;
    if (!s->ghost.rep.proc.up || s->ghost.rep.proc.life != life)
        return;
    sim_trace(s, "ghst the superseded replicator wakes up, lease %llu of %llu", s->ghost.rep.lease,
              s->cap.lease, 0);
    s->ghost.awake = true;
    sim_at(s, s->now + NS_MS + rng_around(&s->rng_fault, s->o.contact_ns), NULL, ghost_ends, life,
           NULL);
    if (rng_below(&s->rng_fault, 2)) { /* somebody had asked it for a mark */
        freeze.verb.kind = HK_VERB_FREEZE;
        freeze.verb.op_id = ++s->op_ids;
        strcpy(freeze.verb.name, "ghost");
        as_ghost(s, &freeze, NULL);
    }
    if (rng_below(&s->rng_fault, 2))
        as_ghost(s, &down, NULL);
    ghost_turn(s, life, NULL);
}

/* Frames of its own session, whether it is awake or they wait for it. */
bool ghost_frame(struct sim *s, struct sim_frame *f)
{
    if (!s->ghost.rep.proc.up || f->hdr.session != s->ghost.session || s->ghost.session == 0)
        return false;
    if (s->ghost.awake)
        as_ghost(s, NULL, f);
    return true;
}

void ghost_control(struct sim *s, const struct hk_event *e)
{
    if (e->type == HK_EV_CONTROL_IN && e->control->type == HK_CTL_WELCOME)
        s->ghost.session = e->control->welcome.session;
    if (s->ghost.rep.proc.up)
        as_ghost(s, e, NULL);
}

void ghost_begin(struct sim *s)
{
    struct sim_ghost *g = &s->ghost;
    uint64_t sleep = NS_MS + rng_around(&s->rng_fault, s->o.contact_ns / 4);

    if (g->rep.proc.up || !s->rep.proc.up || !s->rep.attached)
        return;
    sim_struck(s, F_SUPERSEDED);
    hk_group_status(s->rep.g, &(struct hk_now){1, 1}, &s->status);
    conn_died(s, 0, rng_below(&s->rng_fault, 2));
    g->session = s->status.session_id;
    resync_hashes_gone(s, 0);
    g->ring_id = s->rep.ring_id;
    g->awake = g->runs = false;
    g->rep = s->rep;
    g->rep.proc.timer_at = 0;
    g->rep.proc.kill_in = 0;
    g->rep.proc.paused_until = 0;
    sim_trace(s, "ghst replicator with lease %llu is superseded", g->rep.lease, 0, 0);
    s->rep.proc.life++;
    s->rep.proc.up = false;
    s->rep.proc.paused_until = 0;
    s->rep.proc.kill_in = 0;
    s->rep.attached = s->rep.attaching = false;
    s->rep.memory_bytes = 0;
    fifo_clear(s, &s->c2r);
    sim_at(s, s->now + rng_below(&s->rng_fault, sleep), NULL, rep_start, 0, NULL);
    sim_at(s, s->now + sleep, NULL, wake, g->rep.proc.life, NULL);
}
