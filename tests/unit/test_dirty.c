/* SPDX-License-Identifier: Apache-2.0 */
/* The dirty map inside the capture core: marks, clears, staleness, starts. */
#include "tests/unit/dirty_rig.h"

#include "driver-glue/capture/internal.h"

static void test_a_write_waits_for_its_mark(void **state)
{
    struct hk_op op, again;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 3);
    assert_false(dirty_marked(&r, 0, op.offset));
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    rig_expect_next(&r, NULL, 0);
    assert_true(rig_meta_once(&r, 0));
    assert_true(dirty_marked(&r, 0, op.offset));
    rig_expect_next(&r, &op, HK_COPY);
    rig_copy(&r, &op, 1);
    assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
    /* Hot: never again as long as it is. */
    again = dirty_write(0, 3);
    assert_int_equal(rig_run(&r, &again), HK_DONE);
    assert_int_equal(rig_status(&r).regions_hot, 1);
    assert_int_equal(rig_status(&r).regions_active, 1);
    dirty_free(&r);
}

static void test_marks_that_meet_a_transaction_form_the_next(void **state)
{
    struct hk_capture_meta m;
    struct hk_op op[9];
    struct rig r;

    (void)state;
    dirty_live(&r);
    r.meta_writes = 0;
    for (unsigned i = 0; i < 9; i++) {
        op[i] = dirty_write(i % 2, i);
        assert_int_equal(rig_begin(&r, &op[i]), HK_WAIT);
        if (i == 0)
            assert_true(hk_capture_meta(r.c, &m));
        assert_false(i > 0 && hk_capture_meta(r.c, &m));
    }
    memcpy(r.metadata + m.offset, m.data, m.bytes);
    hk_capture_meta_done(r.c, 0, &r.now);
    rig_expect_next(&r, &op[0], HK_COPY);
    rig_expect_next(&r, NULL, 0);
    assert_true(rig_meta_once(&r, 0));
    assert_false(rig_meta_once(&r, 0));
    for (unsigned i = 1; i < 9; i++) {
        assert_true(dirty_marked(&r, op[i].volume, op[i].offset));
        rig_expect_next(&r, &op[i], HK_COPY);
    }
    dirty_free(&r);
}

static void test_a_hot_region_passes_one_that_waits(void **state)
{
    struct hk_op hot, cold, again;
    struct rig r;

    (void)state;
    dirty_live(&r);
    hot = dirty_write(0, 1);
    dirty_run(&r, &hot);
    cold = dirty_write(0, 2);
    assert_int_equal(rig_begin(&r, &cold), HK_WAIT);
    again = dirty_write(0, 1);
    assert_int_equal(rig_begin(&r, &again), HK_COPY);
    rig_meta(&r);
    rig_expect_next(&r, &cold, HK_COPY);
    dirty_free(&r);
}

static void test_a_mark_in_doubt_is_repeated_unchanged(void **state)
{
    struct hk_capture_meta first, m;
    struct hk_op op, other;
    uint8_t page[4096];
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 1);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    assert_true(hk_capture_meta(r.c, &first));
    memcpy(page, first.data, 4096);
    other = dirty_write(0, 2);
    assert_int_equal(rig_begin(&r, &other), HK_WAIT);
    hk_capture_meta_done(r.c, -EIO, &r.now);
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, RIG_SECOND);
    assert_true(hk_capture_meta(r.c, &m));
    assert_int_equal(m.offset, first.offset);
    assert_memory_equal(m.data, page, 4096);
    memcpy(r.metadata + m.offset, m.data, m.bytes);
    hk_capture_meta_done(r.c, 0, &r.now);
    rig_expect_next(&r, &op, HK_COPY);
    rig_expect_next(&r, NULL, 0);
    dirty_free(&r);
}

/* Fills all slots with regions 0.. of both volumes that the standby lacks. */
static uint64_t fill_hot(struct rig *r)
{
    uint64_t durable = rig_status(r).durable.v;

    for (unsigned i = 0; i < DIRTY_HOT; i++) {
        struct hk_op op = dirty_write(i % 2, i / 2);

        dirty_run(r, &op);
        dirty_read_to(r, durable);
    }
    assert_int_equal(rig_status(r).regions_active, DIRTY_HOT);
    return durable;
}

static void test_slots_need_ack_and_flush(void **state)
{
    struct hk_op op, flush;
    struct rig r;

    (void)state;
    dirty_live(&r);
    fill_hot(&r);
    op = dirty_write(0, 40);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    assert_false(rig_meta_once(&r, 0));
    /* The standby lacks them: a flush alone would be for nothing. */
    assert_false(dirty_flush(&r, 0));
    rig_drain(&r);
    assert_false(rig_meta_once(&r, 0));
    assert_int_equal(rig_status(&r).regions_active, DIRTY_HOT);
    /* Now only the origins' caches are in the way. One flush of all, not one after the other. */
    assert_true(hk_capture_wants_flush(r.c, &r.now));
    assert_false(hk_capture_wants_flush(r.c, &r.now));
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_int_equal(rig_status(&r).regions_active, 1);
    rig_meta(&r);
    rig_expect_next(&r, &op, HK_COPY);
    rig_copy(&r, &op, 1);
    assert_true(dirty_marked(&r, 0, op.offset));
    assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
    /* The application's own flush does it too, for its volume. */
    rig_drain(&r);
    flush = rig_flush(0);
    assert_int_equal(rig_begin(&r, &flush), HK_COPY);
    rig_copy(&r, &flush, 0);
    assert_int_equal(rig_status(&r).regions_active, 1);
    rig_written(&r, &flush, 0);
    assert_int_equal(rig_status(&r).regions_active, 0);
    dirty_free(&r);
}

static void test_a_flush_covers_only_what_had_ended(void **state)
{
    struct hk_op op, flush;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 1);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    rig_meta(&r);
    rig_expect_next(&r, &op, HK_COPY);
    rig_copy(&r, &op, 1);
    flush = rig_flush(0);
    assert_int_equal(rig_begin(&r, &flush), HK_COPY);
    rig_copy(&r, &flush, 0);
    rig_written(&r, &op, 0);
    rig_written(&r, &flush, 0);
    rig_drain(&r);
    assert_int_equal(rig_status(&r).regions_active, 1);
    dirty_free(&r);
}

static void test_idle_marks_are_taken_off_the_disk(void **state)
{
    struct dirty_seen seen;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    for (unsigned i = 0; i < 10; i++) {
        op = dirty_write(0, i);
        dirty_run(&r, &op);
        rig_drain(&r);
    }
    rig_drain(&r);
    assert_false(dirty_flush(&r, 0));
    assert_true(hk_capture_deadline_ns(r.c) <= r.now.mono_ns + 2 * RIG_SECOND);
    rig_pass(&r, 2 * RIG_SECOND);
    rig_drain(&r);
    assert_true(dirty_flush(&r, 0));
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_int_equal(seen.load.marks, 0);
    assert_int_equal(rig_status(&r).regions_hot, 0);
    /* What the clears rest on is known to the next start. */
    assert_true(seen.load.relied >= rig_status(&r).durable.v);
    assert_int_equal(dirty_init(&r, HK_START_OLD_RING), 0);
    assert_true(rig_status(&r).super.durable_known >= seen.load.relied);
    dirty_free(&r);
}

/* A write that meets the clear of its own region asks for a mark of its own. */
static void test_a_mark_being_cleared_is_none(void **state)
{
    struct hk_capture_meta m;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 7);
    dirty_run(&r, &op);
    rig_drain(&r);
    rig_pass(&r, 2 * RIG_SECOND);
    rig_drain(&r);
    assert_true(dirty_flush(&r, 0));
    assert_true(hk_capture_meta(r.c, &m));
    assert_true(m.offset >= HK_DMAP_LOG_AT);
    op = dirty_write(0, 7);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    memcpy(r.metadata + m.offset, m.data, m.bytes);
    hk_capture_meta_done(r.c, 0, &r.now);
    assert_false(dirty_marked(&r, 0, op.offset));
    rig_expect_next(&r, NULL, 0);
    assert_true(rig_meta_once(&r, 0));
    assert_true(dirty_marked(&r, 0, op.offset));
    rig_expect_next(&r, &op, HK_COPY);
    dirty_free(&r);
}

static void test_an_origin_error_makes_stale_and_acks_do_not_mend(void **state)
{
    struct hk_stale stale;
    struct dirty_seen seen;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(1, 5);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    rig_meta(&r);
    rig_expect_next(&r, &op, HK_COPY);
    rig_copy(&r, &op, 1);
    assert_int_equal(rig_written(&r, &op, -EIO), HK_WAIT);
    rig_expect_next(&r, NULL, 0);
    assert_true(rig_producer(&r)->lied == 2);
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_true(dirty_seen_stale(&seen, dirty_region(1, op.offset)));
    assert_true(seen.super.flags & HK_SF_STALE);
    assert_false(seen.super.flags & HK_SF_FULL_COMPARE);
    rig_expect_next(&r, &op, HK_DONE);
    assert_int_equal(op.result, -EIO);
    assert_true(rig_producer(&r)->lied == 0);
    rig_drain(&r);
    rig_pass(&r, 2 * RIG_SECOND);
    rig_drain(&r);
    dirty_flush(&r, 0);
    rig_meta(&r);
    assert_int_equal(rig_status(&r).regions_stale, 1);
    assert_int_equal(rig_status(&r).stale_bytes, DIRTY_BYTES);
    assert_true(hk_dirty_next(r.c, 0, 0, &stale));
    assert_int_equal(stale.volume, 1);
    assert_int_equal(stale.offset, op.offset);
    assert_false(hk_dirty_next(r.c, 1, op.offset + 1, &stale));
    dirty_free(&r);
}

static void test_heal(void **state)
{
    struct hk_stale stale;
    struct dirty_seen seen;
    struct hk_op op;
    struct rig r;
    uint64_t end;

    (void)state;
    dirty_live(&r);
    hk_dirty_stale_range(r.c, 0, DIRTY_BYTES, 1);
    rig_meta(&r);
    assert_true(hk_dirty_next(r.c, 0, 0, &stale));
    assert_int_equal(hk_dirty_heal(r.c, 0, stale.offset, stale.event + 1, 0), -EAGAIN);
    op = dirty_write(0, 9);
    dirty_run(&r, &op);
    end = rig_status(&r).produced.v;
    /* An event after the heal voids it. */
    assert_int_equal(hk_dirty_heal(r.c, 0, stale.offset, stale.event, end), 0);
    assert_false(hk_dirty_next(r.c, 0, 0, &stale));
    hk_dirty_stale_range(r.c, 0, DIRTY_BYTES, 1);
    assert_true(hk_dirty_next(r.c, 0, 0, &stale));
    assert_int_equal(hk_dirty_heal(r.c, 0, stale.offset, stale.event, end), 0);
    /* Not before the standby has it, and not before it is stable here. */
    rig_pass(&r, RIG_MS);
    assert_false(dirty_flush(&r, 0));
    rig_drain(&r);
    assert_int_equal(rig_status(&r).regions_stale, 1);
    rig_pass(&r, RIG_SECOND);
    assert_true(dirty_flush(&r, 0));
    assert_int_equal(rig_status(&r).regions_stale, 0);
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_false(dirty_seen_stale(&seen, 1));
    assert_true(seen.load.relied >= end);
    dirty_free(&r);
}

static void test_a_failed_flush_is_not_redeemed(void **state)
{
    struct hk_op op, first, second;
    struct dirty_seen seen;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 4);
    dirty_run(&r, &op);
    op = dirty_write(1, 4);
    dirty_run(&r, &op);
    first = rig_flush(0);
    second = rig_flush(0);
    assert_int_equal(rig_begin(&r, &first), HK_COPY);
    rig_copy(&r, &first, 0);
    assert_int_equal(rig_begin(&r, &second), HK_COPY);
    rig_copy(&r, &second, 0);
    rig_drain(&r);
    /* The later one is done first, and counts for nothing before the other has ended. */
    rig_written(&r, &second, 0);
    assert_int_equal(rig_status(&r).regions_active, 2);
    assert_int_equal(rig_written(&r, &first, -EIO), HK_WAIT);
    rig_meta(&r);
    rig_expect_next(&r, &first, HK_DONE);
    first = rig_flush(0);
    assert_int_equal(rig_begin(&r, &first), HK_COPY);
    rig_copy(&r, &first, 0);
    rig_written(&r, &first, 0);
    rig_drain(&r);
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_true(dirty_seen_stale(&seen, 4));
    assert_false(dirty_seen_stale(&seen, dirty_region(1, 4 * DIRTY_BYTES)));
    assert_int_equal(rig_status(&r).regions_stale, 1);
    dirty_free(&r);
}

static void test_ring_gone_hot_is_stale(void **state)
{
    struct dirty_seen seen;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    for (unsigned i = 0; i < 5; i++) {
        op = dirty_write(0, 2 * i);
        dirty_run(&r, &op);
    }
    rig_new_ring(&r, 10);
    dirty_up(&r, HK_START_NEW_RING);
    assert_int_equal(rig_status(&r).regions_stale, 5);
    assert_true(rig_status(&r).passing);
    dirty_look(&r, &seen);
    assert_true(seen.super.flags & HK_SF_STALE);
    assert_false(seen.super.flags & HK_SF_FULL_COMPARE);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(dirty_seen_stale(&seen, i), i % 2 == 0);
    /* Quiet marks go, since the map has it all. */
    rig_pass(&r, 2 * RIG_SECOND);
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_int_equal(seen.load.marks, 0);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(dirty_seen_stale(&seen, i), i % 2 == 0);
    dirty_free(&r);
}

static void test_ring_there_hot_is_active(void **state)
{
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    for (unsigned i = 0; i < 5; i++) {
        op = dirty_write(0, 2 * i);
        dirty_run(&r, &op);
    }
    dirty_up(&r, HK_START_OLD_RING);
    assert_int_equal(rig_status(&r).regions_stale, 0);
    assert_int_equal(rig_status(&r).regions_active, 5);
    assert_false(rig_status(&r).passing);
    rig_drain(&r);
    assert_int_equal(rig_status(&r).regions_active, 5);
    rig_pass(&r, 2 * RIG_SECOND);
    rig_drain(&r);
    assert_true(dirty_flush(&r, 0));
    rig_meta(&r);
    assert_int_equal(rig_status(&r).regions_hot, 0);
    dirty_free(&r);
}

/* The process dies between an origin's error and the map that says so. */
static void test_a_lie_outlives_the_process(void **state)
{
    struct hk_op op, other;
    struct rig r;

    (void)state;
    dirty_live(&r);
    other = dirty_write(1, 8);
    dirty_run(&r, &other);
    op = dirty_write(0, 8);
    dirty_run(&r, &op);
    op = rig_flush(0);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    rig_copy(&r, &op, 0);
    assert_int_equal(rig_written(&r, &op, -EIO), HK_WAIT);
    dirty_up(&r, HK_START_OLD_RING);
    assert_int_equal(rig_status(&r).regions_stale, 1);
    assert_true(dirty_marked(&r, 0, 8 * DIRTY_BYTES));
    dirty_free(&r);
}

/* FUA may be a flush behind the write: when that fails, what it took along is lost, too. */
static void test_a_failed_fua_is_a_failed_flush(void **state)
{
    struct hk_op other, op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    other = dirty_write(0, 20);
    dirty_run(&r, &other);
    op = dirty_write(0, 8);
    op.flags = HK_REC_FUA;
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    rig_meta(&r);
    rig_expect_next(&r, &op, HK_COPY);
    rig_copy(&r, &op, 0x5a);
    assert_int_equal(rig_written(&r, &op, -EIO), HK_WAIT);
    assert_int_equal(rig_status(&r).regions_stale, 2);
    dirty_free(&r);
}

/* Behind: capture passes, and what is not captured is stale in the map before it is written. */
static void test_an_uncaptured_write_waits_for_the_map(void **state)
{
    struct hk_stale stale;
    struct dirty_seen seen;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    rig_new_ring(&r, 10);
    r.super.flags = 0;
    dirty_up(&r, HK_START_NEW_RING);
    assert_true(rig_status(&r).passing);
    op = dirty_write(0, 33);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    rig_expect_next(&r, NULL, 0);
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_true(dirty_seen_stale(&seen, 33));
    rig_expect_next(&r, &op, HK_SUBMIT);
    /* Under way: no compare of it would mean anything. */
    assert_false(hk_dirty_next(r.c, 0, 0, &stale));
    assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
    assert_true(hk_dirty_next(r.c, 0, 0, &stale));
    op = dirty_write(0, 33);
    assert_int_equal(rig_begin(&r, &op), HK_SUBMIT);
    assert_int_equal(hk_dirty_heal(r.c, 0, stale.offset, stale.event, 0), -EAGAIN);
    dirty_free(&r);
}

static void test_no_deadline_that_has_passed(void **state)
{
    struct hk_capture_meta m;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 1);
    dirty_run(&r, &op);
    op = dirty_write(0, 1);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    rig_copy(&r, &op, 1);
    /* Killed before the origin had it: until it is redone no flush is asked for. */
    assert_int_equal(dirty_init(&r, HK_START_OLD_RING), 0);
    rig_attach(&r);
    rig_drain(&r);
    rig_pass(&r, 2 * RIG_SECOND);
    rig_drain(&r);
    while (hk_capture_meta(r.c, &m))
        hk_capture_meta_done(r.c, 0, &r.now);
    assert_false(hk_capture_wants_flush(r.c, &r.now));
    assert_true(hk_capture_deadline_ns(r.c) > r.now.mono_ns);
    dirty_free(&r);
}

static void test_full_compare_becomes_stale_bits(void **state)
{
    struct dirty_seen seen;
    struct rig r;

    (void)state;
    dirty_create(&r);
    r.super.flags |= HK_SF_FULL_COMPARE;
    r.super.flags &= ~(uint32_t)HK_SF_ASSUMED_EQUAL;
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    dirty_up(&r, HK_START_NEW_RING);
    rig_pass(&r, RIG_MS);
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_false(seen.super.flags & HK_SF_FULL_COMPARE);
    assert_true(seen.super.flags & HK_SF_STALE);
    for (uint32_t i = 0; i < DIRTY_REGIONS; i++)
        assert_true(dirty_seen_stale(&seen, i));
    assert_int_equal(rig_status(&r).regions_stale, DIRTY_REGIONS);
    assert_int_equal(rig_status(&r).stale_bytes, 2ull * RIG_VOLUME_BYTES);
    dirty_free(&r);
}

static void test_clean_stop_leaves_nothing(void **state)
{
    struct dirty_seen seen;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 1);
    dirty_run(&r, &op);
    hk_dirty_stale_range(r.c, 1, 0, 1);
    rig_drain(&r);
    assert_false(hk_capture_stop(r.c, &r.now));
    hk_capture_origins_flushed(r.c, 0, &r.now);
    rig_meta(&r);
    rig_drain(&r); /* resync-begin comes when STALE is durable */
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_meta(&r);
    /* Nothing is to come: a time that has passed would keep its caller busy. */
    rig_pass(&r, 2 * RIG_SECOND);
    assert_true(hk_capture_deadline_ns(r.c) > r.now.mono_ns);
    dirty_look(&r, &seen);
    assert_true(seen.super.flags & HK_SF_CLEAN);
    assert_int_equal(seen.load.marks, 0);
    assert_true(dirty_seen_stale(&seen, DIRTY_REGIONS / 2));
    rig_new_ring(&r, 10);
    dirty_up(&r, HK_START_NEW_RING);
    assert_int_equal(rig_status(&r).regions_stale, 1);
    assert_false(rig_status(&r).passing);
    /* The log goes on behind what is void. */
    op = dirty_write(0, 2);
    dirty_run(&r, &op);
    dirty_free(&r);
}

static void test_damaged_log_is_begun_anew(void **state)
{
    struct dirty_seen seen;
    struct hk_op op;
    struct rig r;

    (void)state;
    dirty_live(&r);
    op = dirty_write(0, 1);
    dirty_run(&r, &op);
    dirty_look(&r, &seen);
    r.metadata[hk_dmap_log_offset(seen.load.sequence) + 100] ^= 1;
    dirty_up(&r, HK_START_OLD_RING);
    rig_pass(&r, RIG_MS);
    rig_meta(&r);
    dirty_look(&r, &seen);
    assert_false(hk_dmap_is_lost(seen.verdict));
    assert_false(seen.super.flags & HK_SF_FULL_COMPARE);
    assert_int_equal(seen.super.dmap_sequence, seen.load.sequence);
    for (uint32_t i = 0; i < DIRTY_REGIONS; i++)
        assert_true(dirty_seen_stale(&seen, i));
    dirty_free(&r);
}

static void test_damaged_map_sector_is_stale(void **state)
{
    struct dirty_seen seen;
    struct rig r;

    (void)state;
    dirty_live(&r);
    r.metadata[hk_dmap_map_offset(0) + 100] ^= 1;
    dirty_up(&r, HK_START_OLD_RING);
    rig_meta(&r);
    assert_int_equal(rig_status(&r).regions_stale, DIRTY_REGIONS);
    dirty_look(&r, &seen);
    assert_int_equal(seen.verdict, HK_DMAP_SOUND);
    assert_true(dirty_seen_stale(&seen, 0));
    dirty_free(&r);
}

static void test_metadata_device_fails(void **state)
{
    struct hk_op hot, cold;
    struct rig r;

    (void)state;
    dirty_live(&r);
    hot = dirty_write(0, 1);
    dirty_run(&r, &hot);
    cold = dirty_write(0, 2);
    assert_int_equal(rig_begin(&r, &cold), HK_WAIT);
    for (unsigned i = 0; i < 29; i++) {
        rig_meta_once(&r, -EIO);
        rig_drain(&r);
        rig_pass(&r, RIG_SECOND);
        hot = dirty_write(0, 1);
        assert_int_equal(rig_run(&r, &hot), HK_DONE);
        rig_expect_next(&r, NULL, 0);
    }
    rig_meta_once(&r, -EIO);
    rig_pass(&r, 2 * RIG_SECOND);
    rig_expect_next(&r, &cold, HK_FAIL);
    assert_int_equal(cold.result, -EIO);
    rig_drain(&r);
    hot = dirty_write(0, 1);
    assert_int_equal(rig_run(&r, &hot), HK_DONE);
    dirty_free(&r);
}

static void test_a_waiter_given_up_gives_its_slot_back(void **state)
{
    struct hk_op op[DIRTY_HOT + 1];
    struct rig r;

    (void)state;
    dirty_live(&r);
    for (unsigned i = 0; i < DIRTY_HOT; i++) {
        op[i] = dirty_write(i % 2, i / 2);
        assert_int_equal(rig_begin(&r, &op[i]), HK_WAIT);
    }
    op[DIRTY_HOT] = dirty_write(0, 50);
    assert_int_equal(rig_begin(&r, &op[DIRTY_HOT]), HK_WAIT);
    for (unsigned i = 0; i < DIRTY_HOT; i++)
        assert_true(hk_capture_cancel(r.c, &op[i]));
    rig_meta(&r);
    rig_pass(&r, RIG_MS);
    rig_meta(&r);
    rig_expect_next(&r, &op[DIRTY_HOT], HK_COPY);
    assert_true(dirty_marked(&r, 0, op[DIRTY_HOT].offset));
    dirty_free(&r);
}

/* In front one that lacks slots, behind it one that has its own and holds what is missing. */
static void test_who_has_its_slots_goes_on(void **state)
{
    struct hk_op first, wide = {.type = HK_REC_DISCARD, .length = RIG_VOLUME_BYTES}, own;
    struct hk_capture_meta m;
    struct rig r;

    (void)state;
    dirty_live(&r);
    first = dirty_write(0, 0);
    assert_int_equal(rig_begin(&r, &first), HK_WAIT);
    rig_meta(&r);
    rig_expect_next(&r, &first, HK_COPY);
    rig_copy(&r, &first, 1);
    assert_int_equal(rig_begin(&r, &wide), HK_WAIT);
    own = dirty_write(1, 1);
    assert_int_equal(rig_begin(&r, &own), HK_WAIT);
    assert_true(hk_capture_meta(r.c, &m));
    assert_int_equal(rig_written(&r, &first, 0), HK_DONE);
    memcpy(r.metadata + m.offset, m.data, m.bytes);
    hk_capture_meta_done(r.c, 0, &r.now);
    rig_expect_next(&r, &own, HK_COPY);
    rig_copy(&r, &own, 1);
    assert_int_equal(rig_written(&r, &own, 0), HK_DONE);
    rig_expect_next(&r, NULL, 0);
    rig_drain(&r);
    rig_pass(&r, RIG_SECOND + RIG_MS);
    assert_true(dirty_flush(&r, 0));
    rig_meta(&r);
    rig_expect_next(&r, &wide, HK_COPY);
    dirty_free(&r);
}

static void test_how_far_one_op_may_reach(void **state)
{
    struct hk_op op;
    struct rig r;
    uint32_t max;

    (void)state;
    dirty_live(&r);
    max = hk_capture_op_bytes_max(&r.cfg, 512);
    assert_int_equal(max, 64 * DIRTY_BYTES - 512);
    op = (struct hk_op){.type = HK_REC_DISCARD, .volume = 0, .length = RIG_VOLUME_BYTES};
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    rig_meta(&r);
    rig_expect_next(&r, &op, HK_COPY);
    assert_int_equal(rig_status(&r).regions_hot, 64);
    r.cfg.hot_regions_max = 0;
    r.cfg.region_shift = HK_REGION_SHIFT_MIN;
    assert_true(hk_capture_op_bytes_max(&r.cfg, 4095) >= HK_PAYLOAD_BYTES_MAX);
    r.cfg.region_shift = HK_REGION_SHIFT_MAX;
    assert_int_equal(hk_capture_op_bytes_max(&r.cfg, 0), UINT32_MAX & ~511u);
    dirty_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_waits_for_its_mark),
        cmocka_unit_test(test_marks_that_meet_a_transaction_form_the_next),
        cmocka_unit_test(test_a_hot_region_passes_one_that_waits),
        cmocka_unit_test(test_a_mark_in_doubt_is_repeated_unchanged),
        cmocka_unit_test(test_slots_need_ack_and_flush),
        cmocka_unit_test(test_a_flush_covers_only_what_had_ended),
        cmocka_unit_test(test_idle_marks_are_taken_off_the_disk),
        cmocka_unit_test(test_a_mark_being_cleared_is_none),
        cmocka_unit_test(test_an_origin_error_makes_stale_and_acks_do_not_mend),
        cmocka_unit_test(test_heal),
        cmocka_unit_test(test_a_failed_flush_is_not_redeemed),
        cmocka_unit_test(test_ring_gone_hot_is_stale),
        cmocka_unit_test(test_ring_there_hot_is_active),
        cmocka_unit_test(test_a_lie_outlives_the_process),
        cmocka_unit_test(test_a_failed_fua_is_a_failed_flush),
        cmocka_unit_test(test_an_uncaptured_write_waits_for_the_map),
        cmocka_unit_test(test_no_deadline_that_has_passed),
        cmocka_unit_test(test_full_compare_becomes_stale_bits),
        cmocka_unit_test(test_clean_stop_leaves_nothing),
        cmocka_unit_test(test_damaged_log_is_begun_anew),
        cmocka_unit_test(test_damaged_map_sector_is_stale),
        cmocka_unit_test(test_metadata_device_fails),
        cmocka_unit_test(test_a_waiter_given_up_gives_its_slot_back),
        cmocka_unit_test(test_who_has_its_slots_goes_on),
        cmocka_unit_test(test_how_far_one_op_may_reach),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
