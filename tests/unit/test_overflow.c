/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: at a full ring (and spool) each policy does what it says and nothing else: `pace` waits for
 * a bounded time, `block` without bound, `behind` not at all, and none of them flaps. Method: the
 * capture core on a ring of memory and a clock that moves when told to; for ten minutes also with
 * the ladder of the replicator beside it and a model of a spool of bounded size and of a link that
 * takes just what the application writes.
 */
#include "tests/unit/capture_rig.h"

#include "replicator/core/ladder.h"

#define SECOND RIG_SECOND
#define MS     1000000ull

/* Two large ones beside the small: no slot is what the third waits for, but payload. */
enum { SMALL = 9, BIG = 384 << 10 };

static struct rig r;
static struct hk_op small[SMALL], big[64], last;

static void start(enum hk_mode mode, enum hk_link_loss loss, enum hk_overflow overflow)
{
    rig_start(&r);
    r.cfg.mode = mode;
    r.cfg.on_link_loss = loss;
    r.cfg.on_overflow = overflow;
    rig_up(&r);
    rig_drain(&r);
}

/* Small records first, so that the standby can make progress that lets no large one in. */
static void fill(void)
{
    unsigned i = 0;

    for (unsigned k = 0; k < SMALL; k++) {
        small[k] = rig_write(1, k * 4096, 4096);
        assert_int_equal(rig_begin(&r, &small[k]), HK_COPY);
        rig_copy(&r, &small[k], 1);
        rig_written(&r, &small[k], 0);
    }
    for (;; i++) {
        big[i] = rig_write(0, (uint64_t)i * BIG, BIG);
        if (rig_begin(&r, &big[i]) == HK_WAIT)
            break;
        rig_copy(&r, &big[i], 1);
        rig_written(&r, &big[i], 0);
    }
    last = big[i];
    assert_true(hk_capture_cancel(r.c, &big[i]));
    hk_capture_tick(r.c, &r.now);
}

static void wait_for_room(void)
{
    last = rig_write(0, RIG_VOLUME_BYTES - 2 * BIG, 2 * BIG);
    assert_int_equal(rig_begin(&r, &last), HK_WAIT);
}

static int spool_says(bool room)
{
    struct hk_capture_spool spool = {.room = room};

    return hk_capture_spool(r.c, r.lease, &spool, &r.now);
}

/* One more small record is released each 3 s: something drains, but no room for what waits. */
static void crawl(unsigned from, unsigned to)
{
    for (unsigned k = from; k < to; k++) {
        rig_pass(&r, 3 * SECOND);
        assert_int_equal(rig_report(&r, small[k].end.v, small[k].end.v, small[k].end.v), 0);
        rig_meta(&r);
    }
}

static void pace_waits_for_a_bounded_time(void **state)
{
    start(HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_PACE);
    fill();
    wait_for_room();
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    crawl(0, SMALL);
    rig_pass(&r, 2 * SECOND);
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    rig_expect_next(&r, NULL, 0);
    assert_true(hk_capture_deadline_ns(r.c) <= r.now.mono_ns + SECOND);
    rig_pass(&r, SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &last, HK_SUBMIT);
    assert_int_equal(rig_status(&r).state, HK_STATE_BEHIND);
    rig_free(&r);
}

static void block_waits_without_bound(void **state)
{
    start(HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_BLOCK);
    fill();
    wait_for_room();
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    assert_true(hk_capture_deadline_ns(r.c) == r.now.mono_ns + 30 * SECOND);
    rig_pass(&r, 30 * SECOND);
    assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
    for (unsigned i = 0; i < 100; i++) {
        rig_pass(&r, 60 * SECOND);
        rig_meta(&r);
        rig_expect_next(&r, NULL, 0);
        assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
    }
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    rig_drain(&r);
    rig_expect_next(&r, &last, HK_COPY);
    rig_copy(&r, &last, 1);
    assert_int_equal(rig_written(&r, &last, 0), HK_DONE);
    rig_drain(&r);
    /* Back when there has been headroom for a while. */
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    assert_true(hk_capture_deadline_ns(r.c) == r.now.mono_ns + RIG_T);
    rig_pass(&r, RIG_T);
    assert_int_equal(rig_status(&r).state, HK_STATE_REPLICATING);
    rig_free(&r);
}

/* In sync it goes on degraded while there is room, and no further. */
static void block_holds_a_degraded_group(void **state)
{
    struct hk_op held = rig_write(0, 0, 4096);

    start(HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_BLOCK);
    assert_int_equal(rig_run(&r, &held), HK_WAIT);
    rig_pass(&r, RIG_PATIENCE);
    rig_meta(&r);
    rig_expect_next(&r, &held, HK_DONE);
    assert_int_equal(rig_status(&r).state, HK_STATE_DEGRADED);
    fill();
    wait_for_room();
    rig_pass(&r, 31 * SECOND);
    rig_meta(&r);
    assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    rig_expect_next(&r, NULL, 0);
    rig_free(&r);
}

static void behind_does_not_wait(void **state)
{
    start(HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_BEHIND);
    fill();
    wait_for_room();
    rig_meta(&r);
    rig_expect_next(&r, &last, HK_SUBMIT);
    assert_int_equal(rig_status(&r).state, HK_STATE_BEHIND);
    rig_free(&r);
}

/* What the spool is just taking is no overflow; once it is full there is nothing to wait for. */
static void behind_waits_for_the_spool(void **state)
{
    start(HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_BEHIND);
    assert_int_equal(spool_says(true), 0);
    fill();
    wait_for_room();
    rig_meta(&r);
    rig_expect_next(&r, NULL, 0);
    crawl(0, 4);
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    assert_int_equal(spool_says(false), 0);
    rig_meta(&r);
    rig_expect_next(&r, &last, HK_SUBMIT);
    rig_free(&r);
}

/* A replicator that says there is room, and is wrong or gone, holds nobody longer than `pace`. */
static void the_spools_word_is_bounded(void **state)
{
    start(HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_BEHIND);
    assert_int_equal(spool_says(true), 0);
    fill();
    wait_for_room();
    crawl(0, SMALL);
    rig_pass(&r, 3 * SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &last, HK_SUBMIT);
    rig_free(&r);

    start(HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_BEHIND);
    assert_int_equal(spool_says(true), 0);
    hk_capture_detach(r.c, r.lease, &r.now);
    assert_int_equal(spool_says(true), -ESTALE);
    fill();
    wait_for_room();
    rig_meta(&r);
    rig_expect_next(&r, &last, HK_SUBMIT);
    rig_free(&r);
}

/* The standby counts on semisync for T: until then nothing is acknowledged without it. */
static void behind_keeps_what_semisync_promised(void **state)
{
    start(HK_MODE_SEMISYNC, HK_LINK_LOSS_CONTINUE, HK_OVERFLOW_BEHIND);
    fill();
    wait_for_room();
    for (unsigned k = 0; k < 4; k++) {
        rig_pass(&r, SECOND);
        assert_int_equal(rig_report(&r, small[k].end.v, small[k].end.v, small[k].end.v), 0);
        rig_meta(&r);
        assert_false(r.super.flags & (HK_SF_DEGRADED | HK_SF_FULL_COMPARE));
    }
    rig_pass(&r, RIG_PATIENCE - 4 * SECOND);
    rig_meta(&r);
    assert_int_equal(rig_status(&r).state, HK_STATE_BEHIND);
    rig_free(&r);
}

/* Allowed: all of them with continue; with block only what ends with waiting, and it does. */
static void what_block_allows(void **state)
{
    static const enum hk_overflow overflow[] = {HK_OVERFLOW_PACE, HK_OVERFLOW_BLOCK};

    rig_start(&r);
    r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
    r.cfg.on_overflow = HK_OVERFLOW_BEHIND;
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), -EINVAL);
    r.cfg.on_overflow = HK_OVERFLOW_BEHIND + 1;
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), -EINVAL);
    rig_free(&r);
    for (unsigned i = 0; i < HK_ARRAY_SIZE(overflow); i++) {
        start(HK_MODE_ASYNC, HK_LINK_LOSS_BLOCK, overflow[i]);
        fill();
        wait_for_room();
        rig_pass(&r, 3600 * SECOND);
        rig_meta(&r);
        assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
        assert_false(r.super.flags & HK_SF_FULL_COMPARE);
        rig_expect_next(&r, NULL, 0);
        rig_free(&r);
    }
}

/* ---- ten minutes ---- */

enum { SLOTS = 256, SPOOL_RECORDS = 200, RECORD = 64 + 4096 };

struct world {
    struct hk_ladder ladder;
    struct hk_op op;
    bool waits;
    enum hk_group_state state;
    enum hk_ladder_step step;
    unsigned changes, steps;
    uint64_t durable, released, random;
};

static void big_ring(void)
{
    struct hk_uuid group = rig_uuid(1), id = rig_uuid(9);

    free(r.ring);
    r.ring_bytes = hk_ring_total_bytes(SLOTS, HK_RING_PAYLOAD_MIN);
    r.ring = aligned_alloc(4096, r.ring_bytes);
    assert_non_null(r.ring);
    memset(r.ring, 0, r.ring_bytes);
    assert_int_equal(hk_ring_format(r.ring, r.ring_bytes, SLOTS, HK_RING_PAYLOAD_MIN, &group, &id),
                     0);
}

static void submit(struct world *w, enum hk_step step)
{
    if (step == HK_COPY)
        rig_copy(&r, &w->op, 1);
    assert_int_equal(rig_written(&r, &w->op, 0), HK_DONE);
}

/* As rig_meta, without reading the superblock back each time. */
static void metadata(void)
{
    while (rig_meta_once(&r, 0))
        continue;
}

/* The application writes until it has to wait, or has written what it has now. */
static unsigned writes(struct world *w, unsigned count)
{
    unsigned n = 0;
    enum hk_step step = HK_WAIT;
    struct hk_op *op = NULL;

    metadata();
    if (w->waits)
        op = hk_capture_next(r.c, &step, &r.now);
    if (w->waits && !op)
        return 0;
    if (op)
        submit(w, step);
    w->waits = false;
    for (; n < count && !w->waits; n++) {
        w->op = rig_write(0, unit_random(&w->random) % 64 * 4096, 4096);
        step = rig_begin(&r, &w->op);
        w->waits = step == HK_WAIT;
        if (!w->waits)
            submit(w, step);
        metadata();
    }
    return n;
}

/* What ladder and spool do of it: as group/spool_primary.c, in short. */
static void replicate(struct world *w, bool away, unsigned drains)
{
    uint64_t produced = rig_status(&r).produced.v;
    struct hk_capture_status st = rig_status(&r);
    struct hk_ladder_input in = {
        .spool = true,
        .away = away,
        .ring_bytes = (SLOTS - 4) * RECORD,
        .produced = produced,
        .paced = st.state == HK_STATE_PACING || st.state == HK_STATE_BLOCKED,
        .behind = st.state == HK_STATE_BEHIND,
        .mono_ns = r.now.mono_ns,
    };
    uint64_t room;

    if (!away)
        w->durable = hk_min_u64(produced, w->durable + drains * RECORD);
    w->released = hk_max_u64(w->released, w->durable);
    in.durable = w->durable;
    in.fill_permille = (uint32_t)((produced - w->released) * 1000 / in.ring_bytes);
    hk_ladder_update(&w->ladder, &in);
    room = w->durable + SPOOL_RECORDS * RECORD;
    if (w->ladder.spooling && in.fill_permille >= HK_LADDER_ON_PERMILLE)
        w->released = hk_max_u64(w->released, hk_min_u64(produced, room));
    assert_int_equal(rig_report(&r, w->released, w->durable, w->durable), 0);
    assert_int_equal(spool_says(produced < room), 0);
    metadata();
    st = rig_status(&r);
    w->changes += st.state != w->state;
    w->steps += w->ladder.step != w->step;
    w->state = st.state;
    w->step = w->ladder.step;
}

static void ten_minutes(enum hk_overflow overflow, uint64_t seed)
{
    struct world w = {.random = seed};
    unsigned left = 0;

    rig_start(&r);
    big_ring();
    r.cfg.mode = HK_MODE_ASYNC;
    r.cfg.on_overflow = overflow;
    rig_up(&r);
    rig_drain(&r);
    w.durable = w.released = rig_status(&r).produced.v;
    replicate(&w, false, 0);
    w.changes = w.steps = 0;
    /* What a second brings is what the link takes in it, in bursts; half of the seeds begin with a
     * cut, from a moment to long enough for ring and spool to be full. */
    for (unsigned i = 0; i < 60000; i++) {
        unsigned burst = (unsigned)(unit_random(&w.random) % 16);

        rig_pass(&r, 10 * MS);
        left = i % 100 ? left : 400;
        burst = i % 100 == 99 ? left : (unsigned)hk_min_u64(burst, left);
        left -= writes(&w, burst);
        replicate(&w, seed % 2 && i < seed * 20, 4);
    }
    assert_true(w.changes <= 2);
    assert_true(w.steps <= 4); /* ring, spool, pace, behind: each but once */
    if (overflow == HK_OVERFLOW_BLOCK)
        assert_true(w.state == HK_STATE_REPLICATING || w.state == HK_STATE_PACING);
    rig_free(&r);
}

static void no_policy_flaps(void **state)
{
    for (uint64_t seed = 2; seed <= 11; seed += 3) {
        ten_minutes(HK_OVERFLOW_PACE, seed);
        ten_minutes(HK_OVERFLOW_BLOCK, seed);
        ten_minutes(HK_OVERFLOW_BEHIND, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace_waits_for_a_bounded_time),
        cmocka_unit_test(block_waits_without_bound),
        cmocka_unit_test(block_holds_a_degraded_group),
        cmocka_unit_test(behind_does_not_wait),
        cmocka_unit_test(behind_waits_for_the_spool),
        cmocka_unit_test(the_spools_word_is_bounded),
        cmocka_unit_test(behind_keeps_what_semisync_promised),
        cmocka_unit_test(what_block_allows),
        cmocka_unit_test(no_policy_flaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
