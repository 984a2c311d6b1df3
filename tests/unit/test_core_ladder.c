/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the ladder does not flap, and a stage that stands still is named. Method: ten simulated
 * minutes over a model of ring and spool, with arrival equal to the link's rate and bursts around
 * it; each stage stopped in turn.
 */
#include <string.h>

#include "replicator/core/ladder.h"
#include "unit.h"

#define MS 1000000ull

struct model {
    struct hk_ladder ladder;
    uint64_t produced, released, durable, ring_bytes, random, now;
};

/* One step of 10 ms: so much arrives, so much becomes durable at the standby. */
static void step(struct model *m, uint64_t arrives, uint64_t drains, bool away)
{
    struct hk_ladder_input in = {.spool = true, .away = away, .ring_bytes = m->ring_bytes};

    m->produced += hk_min_u64(arrives, m->ring_bytes - (m->produced - m->released));
    m->durable = hk_min_u64(m->produced, m->durable + (away ? 0 : drains));
    m->released = hk_max_u64(m->released, m->durable);
    in.fill_permille = (uint32_t)((m->produced - m->released) * 1000 / m->ring_bytes);
    in.produced = m->produced;
    in.durable = m->durable;
    in.mono_ns = m->now += 10 * MS;
    hk_ladder_update(&m->ladder, &in);
    /* The spool writes faster than that; it releases what makes the ring more than half full. */
    if (m->ladder.spooling && in.fill_permille >= HK_LADDER_ON_PERMILLE)
        m->released = m->produced;
}

static void equal_rates_do_not_flap(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct model m = {.ring_bytes = 64 << 20, .random = seed};

        uint64_t left = 0;

        /* What a second brings is what the link takes in it, in bursts. Half of the seeds begin
         * with a backlog from a cut, at every height of the ring. */
        for (int i = 0; i < 60000; i++) {
            uint64_t burst = unit_random(&m.random) % 4000000;

            left = i % 100 ? left : 100 * 1000000;
            burst = i % 100 == 99 ? left : hk_min_u64(burst, left);
            left -= burst;
            step(&m, burst, 1000000, i < (int)seed * 12 && seed % 2);
        }
        assert_true(m.ladder.changes <= 2);
    }
}

static void comes_back_with_headroom(void **state)
{
    struct model m = {.ring_bytes = 64 << 20};
    uint64_t lag;

    for (int i = 0; i < 300; i++)
        step(&m, 1000000, 0, true);
    assert_int_equal(m.ladder.step, HK_LADDER_SPOOL);
    while (m.ladder.spooling)
        step(&m, 1000000, 1200000, false);
    lag = m.produced - m.durable;
    assert_true(lag < m.ring_bytes / 4);
    assert_int_equal(m.ladder.changes, 2);
    assert_int_equal(m.ladder.step, HK_LADDER_RING);
}

static void says_the_last_steps(void **state)
{
    struct hk_ladder l = {.step = HK_LADDER_RING};
    struct hk_ladder_input in = {.paced = true, .ring_bytes = 1000, .produced = 5};

    hk_ladder_update(&l, &in);
    assert_int_equal(l.step, HK_LADDER_PACE);
    in.behind = true;
    hk_ladder_update(&l, &in);
    assert_int_equal(l.step, HK_LADDER_BEHIND);
    in.behind = in.paced = false;
    hk_ladder_update(&l, &in);
    assert_int_equal(l.step, HK_LADDER_RING);
}

static void names_what_stands(void **state)
{
    static const enum hk_stall_stage stages[] = {
        HK_STALLED_RING, HK_STALLED_LINK, HK_STALLED_JOURNAL, HK_STALLED_APPLY, HK_STALLED_ORIGIN};

    for (uint32_t k = 0; k < HK_ARRAY_SIZE(stages); k++) {
        struct hk_stall s;
        struct hk_stall_input in = {.attached = true, .session = true};
        uint64_t at, now = 1000 * MS, stopped = 0;

        memset(&s, 0, sizeof(s));
        for (uint64_t n = 1; now < 30000 * MS; n++, now += 250 * MS) {
            bool stop = now >= 10000 * MS;
            enum hk_stall_stage c = stages[k];

            at = n * 64;
            in.reserved = at + 64 * 6;
            in.origin_lsn = c == HK_STALLED_ORIGIN && stop ? in.origin_lsn : at;
            in.produced = c == HK_STALLED_RING && stop ? in.produced : at + 64 * 5;
            in.acked = c == HK_STALLED_LINK && stop ? in.acked : hk_min_u64(in.produced, at + 256);
            in.durable =
                c == HK_STALLED_JOURNAL && stop ? in.durable : hk_min_u64(in.acked, at + 128);
            in.applied = c == HK_STALLED_APPLY && stop ? in.applied : hk_min_u64(in.durable, at);
            hk_stall_update(&s, &in, now);
            if (hk_stall_which(&s, 5000 * MS, now) == HK_STALLED_NONE)
                continue;
            if (!stopped)
                stopped = now;
            assert_int_equal(hk_stall_which(&s, 5000 * MS, now), c);
        }
        /* T after it stopped, and a look's time. */
        assert_true(stopped >= 14000 * MS && stopped <= 15500 * MS);
    }
}

/* A capture process that is stopped in the middle of writes, or in none: it takes no report. */
static void a_capture_side_that_takes_no_report(void **state)
{
    for (int writes = 0; writes < 2; writes++) {
        struct hk_stall s = {0};
        struct hk_stall_input in = {.attached = true, .session = true};
        uint64_t stopped = 0;

        for (uint64_t now = 1000 * MS; now < 20000 * MS; now += 250 * MS) {
            in.reported_ns = now;
            if (now < 5000 * MS) {
                in.taken_ns = now - 100 * MS;
                in.origin_lsn = writes ? now : 0;
            }
            hk_stall_update(&s, &in, now);
            if (hk_stall_which(&s, 5000 * MS, now) == HK_STALLED_NONE)
                continue;
            if (!stopped)
                stopped = now;
            assert_int_equal(hk_stall_which(&s, 5000 * MS, now), HK_STALLED_RING);
        }
        assert_true(stopped >= 9500 * MS && stopped <= 10500 * MS);
    }
}

/* A site that is not heard any more, with everything acked, or not: not its journal's fault. */
static void a_silent_site_is_the_link(void **state)
{
    for (int acked = 0; acked < 2; acked++) {
        struct hk_stall s = {0};
        struct hk_stall_input in = {.attached = true, .session = true};
        uint64_t named = 0;

        in.reserved = in.produced = 640;
        in.acked = acked ? 640 : 576;
        in.durable = in.applied = 512;
        for (uint64_t now = 1000 * MS; now < 20000 * MS; now += 250 * MS) {
            in.session = now < 6000 * MS; /* contact is lost when nothing came for T */
            hk_stall_update(&s, &in, now);
            if (in.session || hk_stall_which(&s, 5000 * MS, now) == HK_STALLED_NONE)
                continue;
            if (!named)
                named = now;
            assert_int_equal(hk_stall_which(&s, 5000 * MS, now), HK_STALLED_LINK);
        }
        assert_true(named && named <= (acked ? 11500 : 6500) * MS);
    }
}

/* Nothing to do is not standing still. */
static void idle_is_no_stall(void **state)
{
    struct hk_stall s = {0};
    struct hk_stall_input in = {
        .attached = true, .session = true, .reserved = 640, .produced = 640};

    in.acked = in.durable = in.applied = 640;
    for (uint64_t now = 0; now < 60000 * MS; now += 1000 * MS) {
        hk_stall_update(&s, &in, now);
        assert_int_equal(hk_stall_which(&s, 1000 * MS, now), HK_STALLED_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_rates_do_not_flap),
        cmocka_unit_test(comes_back_with_headroom),
        cmocka_unit_test(says_the_last_steps),
        cmocka_unit_test(names_what_stands),
        cmocka_unit_test(a_silent_site_is_the_link),
        cmocka_unit_test(idle_is_no_stall),
        cmocka_unit_test(a_capture_side_that_takes_no_report),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
