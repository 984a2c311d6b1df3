/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the capture core does when the standby does not answer, the ring is full, the metadata fails
 * or the ring was lost: pace, block, degrade, behind, and the way back. One story a test.
 */
#include "tests/unit/capture_rig.h"

static void test_degrade_is_durable_first(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), later = rig_write(0, 4096, 4096);

    rig_live(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_pass(&r, RIG_PATIENCE - 1);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_DEGRADED);
    rig_pass(&r, 1);
    rig_expect_next(&r, NULL, 0); /* T is over, the flag is not durable */
    assert_true(rig_meta_once(&r, -EIO));
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, RIG_SECOND);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_DEGRADED);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    assert_int_equal(r.super.degraded_lsn, HK_LSN_FIRST + 128);
    rig_expect_next(&r, &op, HK_DONE);
    assert_int_equal(op.result, 0);
    assert_int_equal(rig_status(&r).state, HK_STATE_DEGRADED);
    /* Still captured, completed locally. */
    assert_int_equal(rig_run(&r, &later), HK_DONE);
    assert_true(later.lsn.v > 0);
    assert_false(rig_status(&r).in_sync);
    rig_free(&r);
}

/* Damages the payload of a record in the ring. */
static void flip_payload(struct rig *r, uint64_t slot)
{
    const struct hk_ring_header *h = r->ring;
    const struct hk_ring_side *side =
        (const void *)((const uint8_t *)r->ring + h->sides_offset + slot * sizeof(*side));

    ((uint8_t *)r->ring)[h->payload_offset + side->payload_pos] ^= 1;
}

/* The standby refuses a record: only a copy that is really damaged has consequences. */
static void test_copy_is_damaged(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), later = rig_write(0, 4096, 4096);
    uint64_t lease;

    rig_live(&r);
    lease = r.lease;
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    assert_int_equal(hk_capture_check_copy(r.c, lease, op.lsn, &r.now), 0);
    assert_int_equal(hk_capture_check_copy(r.c, lease, op.end, &r.now), -ERANGE);
    assert_int_equal(hk_capture_check_copy(r.c, lease + 1, op.lsn, &r.now), -ESTALE);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    flip_payload(&r, op.slot);
    assert_int_equal(hk_capture_check_copy(r.c, lease, op.lsn, &r.now), -EUCLEAN);
    assert_false(rig_status(&r).in_sync);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    assert_int_equal(rig_status(&r).copies_lost, 1);
    /* The standby counts on T: nothing is acknowledged alone before. */
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, RIG_PATIENCE - 1);
    rig_meta(&r);
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, 1);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_DEGRADED);
    rig_expect_next(&r, &op, HK_DONE);
    rig_meta(&r);
    assert_int_equal(rig_status(&r).state, HK_STATE_BEHIND);
    assert_int_equal(rig_begin(&r, &later), HK_SUBMIT);
    assert_null(later.payload);
    rig_written(&r, &later, 0);
    rig_free(&r);
}

/* Under `block` writes wait, for ever if need be. */
static void test_copy_is_damaged_block(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
    rig_up(&r);
    rig_drain(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    flip_payload(&r, op.slot);
    assert_int_equal(hk_capture_check_copy(r.c, r.lease, op.lsn, &r.now), -EUCLEAN);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    rig_pass(&r, 100 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, NULL, 0);
    assert_false(r.super.flags & HK_SF_DEGRADED);
    rig_free(&r);
}

/* Two threads, one read the clock earlier and got the lock later: not an eternity has passed. */
static void test_clock_read_before_the_lock(void **state)
{
    struct rig r;
    struct hk_op a = rig_write(0, 0, 4096), b = rig_write(0, 4096, 4096);

    rig_live(&r);
    assert_int_equal(rig_begin(&r, &a), HK_COPY);
    rig_copy(&r, &a, 1);
    r.now.mono_ns -= 1000;
    assert_int_equal(rig_written(&r, &a, 0), HK_WAIT);
    assert_int_equal(rig_run(&r, &b), HK_WAIT);
    hk_capture_tick(r.c, &r.now);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_DEGRADED);
    rig_expect_next(&r, NULL, 0);
    rig_free(&r);
}

static void test_rejoin(void **state)
{
    struct rig r;
    struct hk_op a = rig_write(0, 0, 4096), b = rig_write(0, 4096, 4096);
    uint64_t s_end;

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &a), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &a, HK_DONE);
    rig_drain(&r); /* contact, and everything is there: S is inserted */
    hk_capture_tick(r.c, &r.now);
    s_end = rig_status(&r).mode_end.v;
    assert_true(s_end > a.end.v);
    assert_int_equal(rig_run(&r, &b), HK_WAIT); /* from S on every completion waits */
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_DEGRADED); /* until S is durable over there */
    assert_false(rig_status(&r).in_sync);
    assert_int_equal(rig_report(&r, s_end, s_end, s_end), 0);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_DEGRADED);
    assert_true(rig_status(&r).in_sync);
    rig_expect_next(&r, NULL, 0);
    rig_drain(&r);
    rig_expect_next(&r, &b, HK_DONE);
    rig_free(&r);
}

/* The link is lost again between S and its ack: local completion goes on, the flag never went. */
static void test_rejoin_fails(void **state)
{
    struct rig r;
    struct hk_op a = rig_write(0, 0, 4096), b = rig_write(0, 4096, 4096);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &a), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &a, HK_DONE);
    rig_drain(&r);
    hk_capture_tick(r.c, &r.now);
    assert_int_equal(rig_run(&r, &b), HK_WAIT);
    rig_pass(&r, 4 * RIG_SECOND);
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, RIG_PATIENCE - 4 * RIG_SECOND);
    rig_expect_next(&r, &b, HK_DONE);
    rig_read_super(&r);
    assert_true(r.super.flags & HK_SF_DEGRADED);
    rig_free(&r);
}

/* While the clearing write is under way nothing may count on the flag. */
static void test_degrade_again_during_clear(void **state)
{
    struct rig r;
    struct hk_capture_meta m;
    struct hk_op a = rig_write(0, 0, 4096), b = rig_write(0, 4096, 4096);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &a), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &a, HK_DONE);
    rig_drain(&r);
    hk_capture_tick(r.c, &r.now);
    rig_drain(&r);
    assert_true(hk_capture_meta(r.c, &m)); /* clears DEGRADED */
    assert_int_equal(rig_run(&r, &b), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_expect_next(&r, NULL, 0);
    memcpy(r.metadata + m.offset, m.data, m.bytes);
    hk_capture_meta_done(r.c, 0, &r.now);
    rig_expect_next(&r, NULL, 0);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_DEGRADED);
    rig_expect_next(&r, &b, HK_DONE);
    rig_free(&r);
}

/* Under a load that never pauses "everything durable" never holds: rounds that shrink do. */
static void test_rejoin_under_load(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), prev;

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &op, HK_DONE);
    for (unsigned i = 0; i < 20 && rig_status(&r).mode_end.v < op.end.v; i++) {
        prev = op;
        op = rig_write(0, 0, 4096);
        rig_pass(&r, 10 * RIG_MS);
        assert_int_equal(rig_run(&r, &op), HK_DONE);
        assert_int_equal(rig_report(&r, prev.end.v, prev.end.v, prev.end.v), 0);
    }
    assert_true(rig_status(&r).mode_end.v > op.end.v);
    rig_free(&r);
}

static void test_degraded_then_behind(void **state)
{
    struct rig r;
    struct hk_op op[20], after = rig_write(0, 0, 4096);
    unsigned i = 0;

    rig_start(&r);
    rig_up(&r);
    op[0] = rig_write(0, 0, 4096);
    assert_int_equal(rig_run(&r, &op[0]), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &op[0], HK_DONE);
    for (i = 1; i < 20; i++) {
        op[i] = rig_write(0, i * 4096, 4096);
        if (rig_begin(&r, &op[i]) == HK_WAIT)
            break;
        rig_copy(&r, &op[i], 1);
        assert_int_equal(rig_written(&r, &op[i], 0), HK_DONE);
    }
    assert_true(i < 20);
    /* The ring is full while degraded: the flag first, then the write, uncaptured. */
    rig_expect_next(&r, NULL, 0);
    rig_meta(&r);
    assert_int_equal(r.super.flags & (HK_SF_FULL_COMPARE | HK_SF_DEGRADED),
                     HK_SF_FULL_COMPARE | HK_SF_DEGRADED);
    rig_expect_next(&r, &op[i], HK_SUBMIT);
    assert_null(op[i].payload);
    assert_int_equal(op[i].lsn.v, 0);
    assert_int_equal(rig_written(&r, &op[i], 0), HK_DONE);
    assert_int_equal(rig_status(&r).state, HK_STATE_BEHIND);
    rig_drain(&r);
    assert_int_equal(rig_begin(&r, &after), HK_SUBMIT);
    assert_int_equal(rig_status(&r).uncaptured, 2);
    assert_int_equal(rig_written(&r, &after, 0), HK_DONE);
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_CLEAN);
    rig_free(&r);
}

/* Ranges stay serialised from captured to uncaptured. */
static void test_behind_keeps_ranges(void **state)
{
    struct rig r;
    struct hk_op slow = rig_write(0, 0, 4096), op[20], again = rig_write(0, 0, 512);
    unsigned i;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    for (i = 0; i < 20; i++) {
        op[i] = rig_write(1, i * 4096, 4096);
        if (rig_begin(&r, &op[i]) == HK_WAIT)
            break;
        rig_copy(&r, &op[i], 1);
        assert_int_equal(rig_written(&r, &op[i], 0), HK_DONE);
        if (i == 3) {
            assert_int_equal(rig_begin(&r, &slow), HK_COPY);
            rig_copy(&r, &slow, 1);
        }
    }
    assert_int_equal(rig_begin(&r, &again), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    rig_expect_next(&r, &op[i], HK_SUBMIT);
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_written(&r, &slow, 0), HK_DONE);
    rig_expect_next(&r, &again, HK_SUBMIT);
    rig_free(&r);
}

/* A full ring that drains, if slowly, only paces. */
static void test_progress_only_paces(void **state)
{
    struct rig r;
    struct hk_op op[20];
    unsigned i;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    i = rig_fill(&r, op, 20);
    for (unsigned k = 0; k < 20; k++) {
        rig_pass(&r, 4 * RIG_SECOND);
        assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
        assert_int_equal(rig_report(&r, HK_LSN_FIRST + 128 + (uint64_t)k * 4160, 0, 0), 0);
        rig_expect_next(&r, &op[i], HK_COPY);
        rig_copy(&r, &op[i], 1);
        assert_int_equal(rig_written(&r, &op[i], 0), HK_DONE);
        op[i] = rig_write(0, 0, 4096);
        assert_int_equal(rig_begin(&r, &op[i]), HK_WAIT);
        rig_meta(&r);
        assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    }
    /* It stops draining: T later the ladder goes on. */
    rig_pass(&r, RIG_PATIENCE);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    rig_expect_next(&r, &op[i], HK_SUBMIT);
    rig_free(&r);
}

static void test_block_never_degrades(void **state)
{
    struct rig r;
    struct hk_op held = rig_write(0, 0, 4096);

    rig_start(&r);
    r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
    rig_up(&r);
    rig_drain(&r);
    assert_int_equal(rig_run(&r, &held), HK_WAIT);
    rig_pass(&r, RIG_PATIENCE);
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    rig_pass(&r, 30 * RIG_SECOND);
    assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
    hk_capture_detach(r.c, r.lease, &r.now);
    rig_pass(&r, 100000 * RIG_SECOND);
    rig_meta(&r);
    assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
    assert_false(r.super.flags & (HK_SF_DEGRADED | HK_SF_FULL_COMPARE));
    rig_expect_next(&r, NULL, 0);
    rig_attach(&r);
    rig_drain(&r);
    rig_expect_next(&r, &held, HK_DONE);
    assert_int_equal(rig_status(&r).state, HK_STATE_REPLICATING);
    assert_true(rig_status(&r).in_sync);
    rig_free(&r);
}

static void test_block_full_ring(void **state)
{
    struct rig r;
    struct hk_op op[20];
    unsigned i;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
    rig_up(&r);
    i = rig_fill(&r, op, 20);
    rig_pass(&r, 29 * RIG_SECOND);
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    assert_int_equal(hk_capture_deadline_ns(r.c), r.now.mono_ns + RIG_SECOND);
    rig_pass(&r, RIG_SECOND);
    assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
    rig_pass(&r, 100000 * RIG_SECOND);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    rig_drain(&r);
    rig_expect_next(&r, &op[i], HK_COPY);
    rig_free(&r);
}

/* A slot that the origin keeps is not replication's fault. */
static void test_slow_origin_is_not_behind(void **state)
{
    struct rig r;
    struct hk_op slow = rig_write(0, 0, 512), op[20];

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    rig_drain(&r);
    assert_int_equal(rig_begin(&r, &slow), HK_COPY);
    rig_copy(&r, &slow, 1);
    assert_true(rig_fill(&r, op, 20) < 20);
    rig_drain(&r);
    rig_pass(&r, 100 * RIG_SECOND);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    assert_int_equal(rig_written(&r, &slow, 0), HK_DONE);
    assert_int_equal(rig_status(&r).slots_used, 1);
    rig_free(&r);
}

static void test_no_replicator_for_t(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 512);

    rig_live(&r);
    hk_capture_detach(r.c, r.lease, &r.now);
    rig_pass(&r, 3600 * RIG_SECOND);
    assert_int_equal(rig_status(&r).state, HK_STATE_DETACHED);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_DEGRADED); /* nothing unreplicated yet */
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_meta(&r); /* it is known to be away for T: no second wait */
    assert_true(r.super.flags & HK_SF_DEGRADED);
    rig_expect_next(&r, &op, HK_DONE);
    rig_free(&r);
}

/* A replicator that was killed and came back in time goes unnoticed (I7). */
static void test_replicator_restart(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 512);
    uint64_t stale;

    rig_live(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    stale = r.lease;
    rig_pass(&r, 2 * RIG_SECOND);
    hk_capture_detach(r.c, r.lease, &r.now);
    rig_pass(&r, 2 * RIG_SECOND);
    rig_attach(&r);
    assert_int_equal(hk_capture_report(r.c, stale, HK_LSN(0), op.end, op.end, 0, &r.now), -ESTALE);
    rig_expect_next(&r, NULL, 0);
    rig_drain(&r);
    rig_expect_next(&r, &op, HK_DONE);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_DEGRADED);
    rig_free(&r);
}

/* The one I/O error replication may cause, and no earlier than the bound. */
static void test_metadata_dead(void **state)
{
    struct rig r;
    struct hk_op held = rig_write(0, 0, 4096);
    unsigned i;

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &held), HK_WAIT);
    rig_pass(&r, RIG_PATIENCE);
    for (i = 0; i < 29; i++) {
        assert_true(rig_meta_once(&r, -EIO));
        rig_expect_next(&r, NULL, 0);
        rig_pass(&r, RIG_SECOND);
    }
    rig_pass(&r, RIG_SECOND);
    rig_expect_next(&r, &held, HK_DONE);
    assert_int_equal(held.result, -EIO);
    rig_free(&r);
}

static void test_metadata_dead_at_start(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    assert_true(rig_meta_once(&r, -EIO));
    rig_pass(&r, 29 * RIG_SECOND);
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, RIG_SECOND);
    rig_expect_next(&r, &op, HK_FAIL);
    assert_int_equal(op.result, -EIO);
    rig_free(&r);
}

static void test_lost_ring_passes(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), next = rig_write(0, 4096, 512);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_new_ring(&r, 10);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    op = rig_write(0, 0, 4096);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT); /* the flag is not durable yet */
    rig_meta(&r);
    assert_int_equal(r.super.flags & (HK_SF_FULL_COMPARE | HK_SF_DEGRADED),
                     HK_SF_FULL_COMPARE | HK_SF_DEGRADED);
    /* Nor before T: the standby may have heard of the earlier life a moment ago. */
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, RIG_PATIENCE - 1);
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, 1);
    rig_expect_next(&r, &op, HK_SUBMIT);
    assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
    assert_int_equal(rig_status(&r).state, HK_STATE_BEHIND);
    /* And stays so over the next start, with the flag on disk from the beginning. */
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    assert_int_equal(rig_begin(&r, &next), HK_WAIT);
    rig_pass(&r, RIG_PATIENCE);
    rig_expect_next(&r, NULL, 0); /* nor before both slots are this life's */
    rig_meta(&r);
    rig_expect_next(&r, &next, HK_SUBMIT);
    assert_int_equal(rig_producer(&r)->head, 0);
    rig_free(&r);
}

static void test_lost_ring_bars_under_block(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_new_ring(&r, 10);
    rig_up(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    op = rig_write(0, 0, 4096);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    rig_pass(&r, 1000 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, NULL, 0);
    assert_true(rig_status(&r).barred);
    assert_int_equal(rig_status(&r).state, HK_STATE_BLOCKED);
    assert_false(hk_capture_serving(r.c));
    rig_free(&r);
}

/* A promotion is the order to run without a standby: `block` does not bar its new primary. */
static void test_promoted_is_not_barred(void **state)
{
    struct hk_uuid peer = rig_uuid(7);
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);
    struct hk_uuid id = rig_uuid(0x55);
    const struct hk_epoch *last;
    int bound;

    for (bound = 0; bound < 2; bound++) {
        op = rig_write(0, 0, 4096);
        rig_start(&r);
        r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
        /* As promote.c writes it: the old group's mode and policy, a new epoch, no peer. */
        last = hk_history_last(&r.super.history);
        assert_int_equal(hk_history_append(&r.super.history, &id,
                                           last->first_lsn + HK_CEILING_STEP_BYTES, last->first_lsn,
                                           HK_EPOCH_PROMOTE, 1),
                         0);
        r.super.ceiling = hk_history_last(&r.super.history)->first_lsn;
        r.super.flags = HK_SF_DEGRADED | HK_SF_FULL_COMPARE;
        r.super.mode = HK_MODE_SYNC;
        r.super.on_link_loss = HK_LINK_LOSS_BLOCK;
        r.super.contact_timeout_ns = RIG_SECOND;
        r.super.peer_replica_id = bound ? peer : (struct hk_uuid){{0}};
        hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
        assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
        rig_meta(&r);
        assert_int_equal(rig_status(&r).barred, bound);
        assert_int_equal(hk_capture_serving(r.c), !bound);
        assert_int_equal(rig_begin(&r, &op), bound ? HK_WAIT : HK_SUBMIT);
        assert_true(r.super.flags & HK_SF_FULL_COMPARE);
        rig_free(&r);
    }
}

static void test_weaker_mode_waits_for_the_standby(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 512), b = rig_write(0, 0, 512);

    rig_start(&r);
    r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
    rig_up(&r);
    rig_drain(&r);
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_meta(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    r.cfg.on_link_loss = HK_LINK_LOSS_CONTINUE;
    r.cfg.contact_timeout_ns = RIG_SECOND;
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    rig_meta(&r);
    /* The standby still believes in sync and block. */
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_pass(&r, 100 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(r.super.mode, HK_MODE_SYNC);
    rig_attach(&r);
    rig_drain(&r);
    rig_expect_next(&r, &op, HK_DONE);
    rig_meta(&r);
    assert_int_equal(r.super.mode, HK_MODE_ASYNC);
    assert_int_equal(r.super.on_link_loss, HK_LINK_LOSS_CONTINUE);
    assert_int_equal(rig_run(&r, &b), HK_DONE);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_degrade_is_durable_first),
        cmocka_unit_test(test_copy_is_damaged),
        cmocka_unit_test(test_copy_is_damaged_block),
        cmocka_unit_test(test_clock_read_before_the_lock),
        cmocka_unit_test(test_rejoin),
        cmocka_unit_test(test_rejoin_fails),
        cmocka_unit_test(test_degrade_again_during_clear),
        cmocka_unit_test(test_rejoin_under_load),
        cmocka_unit_test(test_degraded_then_behind),
        cmocka_unit_test(test_behind_keeps_ranges),
        cmocka_unit_test(test_progress_only_paces),
        cmocka_unit_test(test_block_never_degrades),
        cmocka_unit_test(test_block_full_ring),
        cmocka_unit_test(test_slow_origin_is_not_behind),
        cmocka_unit_test(test_no_replicator_for_t),
        cmocka_unit_test(test_replicator_restart),
        cmocka_unit_test(test_metadata_dead),
        cmocka_unit_test(test_metadata_dead_at_start),
        cmocka_unit_test(test_lost_ring_passes),
        cmocka_unit_test(test_lost_ring_bars_under_block),
        cmocka_unit_test(test_promoted_is_not_barred),
        cmocka_unit_test(test_weaker_mode_waits_for_the_standby),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
