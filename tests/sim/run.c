/* SPDX-License-Identifier: Apache-2.0 */
/* One seed from its first event to its verdict. */
#include <string.h>

#include "tests/sim/world.h"

static struct sim *running;

/* The product's own assertions are oracles too. */
void hk_assert_fail(const char *expr, const char *file, int line)
{
    const char *base = strrchr(file, '/');

    sim_fail(running, "assert", "%s:%d: %s", base ? base + 1 : file, line, expr);
}

static void draw_uuid(struct sim *s, struct hk_uuid *u)
{
    for (int i = 0; i < 16; i++)
        u->b[i] = (uint8_t)(rng_next(&s->rng) | (i == 0));
}

/* What `hikae create-md` writes at the standby. */
void sim_standby_super(struct sim *s, struct hk_super *super)
{
    memset(super, 0, sizeof(*super));
    super->magic = HK_SUPER_MAGIC;
    super->version = HK_SUPER_VERSION;
    super->role = HK_ROLE_STANDBY;
    super->sequence = 1;
    super->flags = s->o.initial ? 0 : HK_SF_ASSUMED_EQUAL;
    super->group_id = s->group_id;
    super->site_id = s->site_id[1];
    super->replica_id = s->replica_id[1];
    strcpy(super->group_name, "core");
    super->volume_count = SIM_VOLUMES;
    for (int v = 0; v < SIM_VOLUMES; v++) {
        snprintf(super->volume[v].name, sizeof(super->volume[v].name), "vol%d", v);
        super->volume[v].bytes = (uint64_t)s->o.sectors * SIM_SECTOR;
    }
}

static void setup(struct sim *s)
{
    rng_seed(&s->rng, s->seed, 2);
    rng_seed(&s->rng_fault, s->seed, 3);
    rng_seed(&s->rng_work, s->seed, 4);
    rng_seed(&s->rng_link, s->seed, 5);
    rng_seed(&s->rng_disk, s->seed, 6);
    rng_seed(&s->rng_world, s->seed, 10);
    promoted_setup(s);
    image_setup(s);
    s->now = NS_S;
    draw_uuid(s, &s->group_id);
    draw_uuid(s, &s->epoch_id);
    for (int i = 0; i < 2; i++) {
        draw_uuid(s, &s->site_id[i]);
        draw_uuid(s, &s->host_id[i]);
        draw_uuid(s, &s->replica_id[i]);
    }
    clk_setup(s);
    s->body_max = s->o.body_max;
    s->scratch = sim_pages(s, 2 * HK_FRAME_BODY_MAX);
    s->faults_on = true;
    grow_setup(s);
    sim_disk_setup(s);
    ref_reset(s);
    naive_reset(s);
    link_reset(s);
    cap_setup(s);
    resync_setup(s);
    rep_setup(s);
    sby_setup(s);
    app_setup(s);
    oper_setup(s);
    sim_at(s, s->now, NULL, sby_start, 0, NULL);
    sim_at(s, s->now, NULL, cap_start, 0, NULL);
    sim_at(s, s->now + NS_MS, NULL, rep_start, 0, NULL);
}

static void run_until(struct sim *s, uint64_t end)
{
    while (!s->over && sim_next_at(s) <= end && sim_step(s)) {
        check_after_event(s);
        SIM_CHECK(s, "I16", s->events < 30000000, "the run does not end");
    }
    s->now = end;
}

static void run(struct sim *s)
{
    setup(s);
    run_until(s, s->now + s->o.run_ns);
    oper_stop_faults(s);
    run_until(s, s->now + NS_S);
    s->quiet = true;
    run_until(s, s->now + 30 * NS_S);
    check_end(s);
}

/* True: no violation. Everything but statistics and the reference's memory is new for each seed. */
bool sim_run(struct sim *s, uint64_t seed, bool verbose)
{
    volatile bool ok = true;

    running = s;
    sim_forget_run(s);
    s->seed = seed;
    s->verbose = verbose;
    sim_opts_draw(s);
    if (setjmp(s->fail_to) == 0)
        run(s);
    else
        ok = false;
    s->st.seeds++;
    s->st.events += s->events;
    s->st.sim_ns += s->now;
    sim_disk_forget(s);
    link_reset(s);
    sim_free_all(s);
    return ok;
}
