/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clocks of the two sites. Their rates differ, the wall clocks are set, and all clocks of a
 * site may stand still for a while (a paused machine, a broken clock source): afterwards they jump
 * to where they would be, or go on from where they stood.
 */
#include "tests/sim/sim.h"

/* Time of the oscillator: true time at its own rate, without what it stood still for good. */
static uint64_t ticks(const struct sim *s, unsigned site, uint64_t at)
{
    const struct sim_clk *c = &s->clk[site];

    if (at > c->stopped_at && at < c->stopped_until)
        at = c->stopped_at;
    else if (c->keeps_loss && at >= c->stopped_until)
        at -= c->stopped_until - c->stopped_at;
    at -= c->lost_ns;
    return at + (uint64_t)((int64_t)(at / 1000) * c->ppm / 1000);
}

bool clk_stands(const struct sim *s, unsigned site)
{
    return s->now < s->clk[site].stopped_until;
}

/*
 * What a site's clock shows is no measure of T: it stands, or it has lost time since the contact
 * that a claim goes back to. No program could notice, so claims that rest on it are not judged.
 */
bool clk_unfit(const struct sim *s, unsigned site)
{
    const struct sim_clk *c = &s->clk[site];

    return clk_stands(s, site) ||
           (c->keeps_loss && s->now < c->stopped_until + 2 * s->o.contact_ns) ||
           s->now < c->unfit_until;
}

static uint64_t jump_forgotten_at(const struct sim *s, const struct sim_clk *c)
{
    return c->stopped_until + s->o.contact_ns + s->o.contact_ns / 128;
}

/*
 * A clock that stood and then jumped on ran faster than any bound on drift. A contact of that time
 * is dated too early, and T of it is over too soon, as long as there has been no later one: then
 * the primary may acknowledge alone before the standby's t0 + T. 0: that is not so now.
 */
uint64_t clk_rash_until(const struct sim *s, unsigned site)
{
    const struct sim_clk *c = &s->clk[site];
    uint64_t until = c->rash_until;

    if (c->stopped_until && !c->keeps_loss && s->now >= c->stopped_until)
        until = hk_max_u64(until, jump_forgotten_at(s, c));
    return s->now < until ? until : 0;
}

bool clk_ever_stood(const struct sim *s, unsigned site)
{
    return s->clk[site].ever_stood;
}

static int64_t wall_base(const struct sim_clk *c)
{
    return c->wall[(c->wall_count - 1) % SIM_WALL_STEPS].base;
}

struct hk_now sim_clock(const struct sim *s, unsigned site)
{
    uint64_t t = ticks(s, site, s->now);
    struct hk_now n = {t + s->clk[site].mono_base,
                       (uint64_t)((int64_t)t + wall_base(&s->clk[site]))};

    return n;
}

/* When a timer for mono_ns rings: never before the clock shows it, and always later than now. */
uint64_t clk_wake_at(const struct sim *s, unsigned site, uint64_t mono_ns)
{
    const struct sim_clk *c = &s->clk[site];
    uint64_t t = mono_ns > c->mono_base ? mono_ns - c->mono_base : 0, now = ticks(s, site, s->now);
    uint64_t wait = t > now ? t - now : 0, at;

    wait += (uint64_t)((int64_t)(wait / 1000) * -c->ppm / 1000);
    at = s->now + wait;
    /* The rounding of the two conversions. */
    if (wait && !clk_stands(s, site))
        while (ticks(s, site, at) < t)
            at += 1 + wait / 1000000;
    if (clk_stands(s, site) && wait)
        at = c->stopped_until + (c->keeps_loss ? wait : 0);
    return at > s->now ? at : s->now + 1;
}

static uint64_t from_ticks(const struct sim *s, unsigned site, int64_t t)
{
    const struct sim_clk *c = &s->clk[site];
    uint64_t at;

    if (t < 0)
        return 0;
    at = (uint64_t)(t - t / 1000 * c->ppm / 1000);
    return at + c->lost_ns;
}

/*
 * When the site's wall clock showed real_ns. It may have shown it more than once: then the earliest
 * time, since claims end later by the others.
 */
uint64_t clk_true_time(const struct sim *s, unsigned site, uint64_t real_ns)
{
    const struct sim_clk *c = &s->clk[site];
    uint32_t first = c->wall_count > SIM_WALL_STEPS ? c->wall_count - SIM_WALL_STEPS : 0;

    for (uint32_t i = first; i < c->wall_count; i++) {
        const struct sim_wall *w = &c->wall[i % SIM_WALL_STEPS];
        uint64_t until = i + 1 < c->wall_count ? c->wall[(i + 1) % SIM_WALL_STEPS].from : s->now;
        uint64_t at = from_ticks(s, site, (int64_t)real_ns - w->base);

        if (at >= w->from && at <= until + NS_US)
            return at;
    }
    return from_ticks(s, site, (int64_t)real_ns - wall_base(c));
}

void clk_step(struct sim *s, unsigned site, int64_t by_ns)
{
    struct sim_clk *c = &s->clk[site];
    int64_t base = wall_base(c) + by_ns;

    c->wall[c->wall_count++ % SIM_WALL_STEPS] = (struct sim_wall){s->now, base};
    sim_trace(s, "step of the wall clock of site %llu by %lld us", site,
              (uint64_t)(by_ns / (int64_t)NS_US), 0);
}

/* What is over counts for good, so that one stop at a time has to be known. */
static void settle(struct sim *s, unsigned site)
{
    struct sim_clk *c = &s->clk[site];

    if (c->keeps_loss && s->now >= c->stopped_until) {
        c->lost_ns += c->stopped_until - c->stopped_at;
        c->unfit_until = c->stopped_until + 2 * s->o.contact_ns;
    }
    if (c->stopped_until && !c->keeps_loss)
        c->rash_until = jump_forgotten_at(s, c);
    c->stopped_at = c->stopped_until = 0;
    c->keeps_loss = false;
}

void clk_stop(struct sim *s, unsigned site, uint64_t for_ns, bool keeps_loss)
{
    struct sim_clk *c = &s->clk[site];

    if (clk_stands(s, site))
        return;
    settle(s, site);
    c->stopped_at = s->now;
    c->stopped_until = s->now + for_ns;
    c->keeps_loss = keeps_loss;
    c->ever_stood = true;
    sim_trace(s, "stop of the clocks of site %llu for %llu us (kept: %llu)", site, for_ns / NS_US,
              keeps_loss);
}

/* Faults end: whatever stands goes on now. */
void clk_heal(struct sim *s)
{
    for (unsigned site = 0; site < 2; site++)
        if (clk_stands(s, site))
            s->clk[site].stopped_until = s->now;
}

/* Another boot: the monotonic clock begins anew. */
void clk_reboot(struct sim *s, unsigned site, uint64_t floor)
{
    s->clk[site].mono_base = rng_below(&s->rng, NS_S) - ticks(s, site, s->now) + floor;
}

void clk_setup(struct sim *s)
{
    for (unsigned site = 0; site < 2; site++) {
        struct sim_clk *c = &s->clk[site];

        c->ppm = s->o.drift_ppm[site];
        c->mono_base = rng_below(&s->rng, 1000 * NS_S);
        c->wall_count = 1;
        c->wall[0].base = (int64_t)(1800000000ull * NS_S + rng_below(&s->rng, 3 * NS_S));
    }
    if (s->o.drift_ppm[0] != s->o.drift_ppm[1])
        sim_struck(s, F_CLOCK_DRIFT);
}

/* A process's own timer: one that is due earlier makes a later one needless. */
void clk_set_timer(struct sim *s, struct sim_proc *p, uint64_t at, sim_fn fn)
{
    if (p->timer_at > s->now && p->timer_at <= at)
        return;
    p->timer_at = at;
    sim_at(s, at, p, fn, at, NULL);
}

bool clk_timer_is_due(struct sim_proc *p, uint64_t at)
{
    if (at != p->timer_at)
        return false;
    p->timer_at = 0;
    return true;
}
