/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What befalls a direction of the link for a while: it clogs, takes only small frames, becomes very
 * slow; or every frame of the session before is sent again.
 */
#include "tests/sim/sim.h"

static uint64_t a_while(struct sim *s)
{
    return NS_MS + rng_around(&s->rng_fault, s->o.contact_ns / 2);
}

static void clog_up(struct sim *s, unsigned dir)
{
    struct sim_dir *d = &s->dir[dir];

    d->clogged_until = s->now + a_while(s);
    s->sby.heard_late = hk_max_u64(s->sby.heard_late, d->clogged_until);
    sim_trace(s, "clog direction %llu until %llu us", dir, d->clogged_until / NS_US, 0);
}

static void tell_sizes(struct sim *s, uint32_t body_max)
{
    struct hk_event e = {.type = HK_EV_LINK};

    s->body_max = body_max;
    for (uint32_t i = 0; i < s->o.paths; i++) {
        e.link.path = (uint8_t)i;
        e.link.up = true;
        e.link.frame_body_max = s->path_max[i] = body_max;
        rep_event(s, &e);
        sby_event(s, &e);
    }
}

static void mtu_back(struct sim *s, uint64_t a, void *p)
{
    (void)a;
    (void)p;
    s->dir[0].mtu = s->dir[1].mtu = 0;
    if (s->body_max != s->o.body_max)
        tell_sizes(s, s->o.body_max);
}

/* Acks and pings are small; what a path takes at least is the smallest the options know. */
static void mtu(struct sim *s, unsigned dir)
{
    uint32_t to = (uint32_t)rng_range(&s->rng_fault, 192, s->o.body_max);

    if (s->dir[0].mtu || s->dir[1].mtu)
        return;
    s->dir[dir].mtu = to;
    sim_trace(s, "mtu. of direction %llu: bodies of %llu", dir, to, 0);
    sim_at(s, s->now + a_while(s), NULL, mtu_back, 0, NULL);
    if (s->rep.proc.paused_until <= s->now && rng_below(&s->rng_fault, 2))
        tell_sizes(s, to);
}

bool weather_fits(struct sim *s, unsigned dir, uint32_t body_len)
{
    if (s->dir[dir].mtu == 0 || body_len <= s->dir[dir].mtu)
        return true;
    sim_struck(s, F_MTU);
    return false;
}

static void collapse(struct sim *s, unsigned dir)
{
    struct sim_dir *d = &s->dir[dir];

    d->slow_by = 1u << rng_range(&s->rng_fault, 3, 12);
    d->slow_until = s->now + 4 * a_while(s);
    s->sby.heard_late = hk_max_u64(s->sby.heard_late, d->slow_until + NS_S);
    sim_trace(s, "slow direction %llu by %llu until %llu us", dir, d->slow_by,
              d->slow_until / NS_US);
}

void weather_keep_session(struct sim *s, unsigned dir, const struct sim_frame *f)
{
    struct sim_dir *d = &s->dir[dir];

    if (f->hdr.session != d->session) {
        for (uint32_t i = 0; i < d->session_count[1]; i++)
            link_forget(d->session_kept[1][i]);
        for (uint32_t i = 0; i < d->session_count[0]; i++)
            d->session_kept[1][i] = d->session_kept[0][i];
        d->session_count[1] = d->session_count[0];
        d->session_count[0] = 0;
        d->session = f->hdr.session;
    }
    if (d->session_count[0] < SIM_SESSION_KEPT)
        d->session_kept[0][d->session_count[0]++] = link_copy(f);
}

static void replay_session(struct sim *s, unsigned dir)
{
    struct sim_dir *d = &s->dir[dir];

    if (d->session_count[1] == 0)
        return;
    sim_struck(s, F_REPLAY_SESSION);
    sim_trace(s, "reps whole old session, direction %llu, %llu frames", dir, d->session_count[1],
              0);
    for (uint32_t i = 0; i < d->session_count[1]; i++)
        link_again(s, dir, d->session_kept[1][i]);
}

void weather_strike(struct sim *s, enum sim_fault kind)
{
    unsigned dir = (unsigned)rng_below(&s->rng_fault, 2);

    if (kind == F_REPLAY_SESSION) {
        replay_session(s, dir);
        return;
    }
    if (kind != F_MTU)
        sim_struck(s, kind);
    if (kind == F_CLOG)
        clog_up(s, dir);
    else if (kind == F_MTU)
        mtu(s, dir);
    else
        collapse(s, dir);
}

/* Nothing of it lasts, and what still waits for a slow wire goes out at its proper speed. */
void weather_heal(struct sim *s)
{
    mtu_back(s, 0, NULL);
    for (unsigned dir = 0; dir < 2; dir++) {
        struct sim_dir *d = &s->dir[dir];

        d->clogged_until = d->slow_until = 0;
        if (d->tx_free_at > s->now + 10 * NS_MS)
            d->tx_free_at = s->now + 10 * NS_MS;
    }
}
