/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capture core's steps, one story a test; its policies are in test_capture_policy.c, the
 * stories that random order brings to light in test_capture_model.c, those of a dead producer in
 * test_ring.c.
 */
#include "tests/unit/capture_rig.h"

static void test_async_completes_locally(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 4096, 8192);

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    /* The mode record opens the log. */
    assert_int_equal(op.lsn.v, HK_LSN_FIRST + 128);
    assert_int_equal(op.end.v, op.lsn.v + 64 + 8192);
    assert_int_equal((uintptr_t)op.payload % 4096, 0);
    rig_copy(&r, &op, 7);
    assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
    assert_int_equal(op.result, 0);
    assert_int_equal(rig_status(&r).produced.v, op.end.v);
    assert_int_equal(rig_status(&r).state, HK_STATE_REPLICATING);
    assert_false(rig_status(&r).in_sync);
    rig_free(&r);
}

static void test_sync_waits_for_durable(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), flush = rig_flush(1), fua = rig_write(1, 0, 512);

    rig_live(&r);
    assert_true(rig_status(&r).in_sync);
    fua.flags = HK_REC_FUA;
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    assert_int_equal(rig_run(&r, &flush), HK_WAIT);
    assert_int_equal(rig_run(&r, &fua), HK_WAIT);
    assert_int_equal(rig_status(&r).held, 3);
    /* Acked is not durable. */
    assert_int_equal(rig_report(&r, 0, fua.end.v, 0), 0);
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_report(&r, 0, fua.end.v, op.end.v), 0);
    rig_expect_next(&r, &op, HK_DONE);
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_report(&r, 0, fua.end.v, fua.end.v), 0);
    rig_expect_next(&r, &flush, HK_DONE);
    rig_expect_next(&r, &fua, HK_DONE);
    assert_int_equal(rig_slot(&r, fua.slot)->flags, HK_REC_FUA);
    rig_free(&r);
}

static void test_sync_ack_before_origin(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    rig_copy(&r, &op, 1);
    rig_drain(&r);
    /*
     * Durable over there, but the origin has not written it yet: not done, and its slot not free.
     */
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_status(&r).slots_used, 1);
    assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
    assert_int_equal(rig_status(&r).slots_used, 0);
    rig_free(&r);
}

static void test_semisync_waits_for_acked(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    r.cfg.mode = HK_MODE_SEMISYNC;
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    assert_int_equal(rig_report(&r, 0, op.end.v, 0), 0);
    rig_expect_next(&r, &op, HK_DONE);
    rig_free(&r);
}

static void test_nothing_before_metadata(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    /* CLEAN still stands on disk and no LSN may be used yet. */
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    assert_int_equal(rig_producer(&r)->head, 0);
    assert_true(rig_meta_once(&r, -EIO));
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_producer(&r)->head, 0);
    assert_false(rig_meta_once(&r, 0)); /* backing off */
    rig_pass(&r, RIG_SECOND);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_CLEAN);
    assert_int_equal(r.super.ceiling, HK_LSN_FIRST + HK_CEILING_STEP_BYTES);
    assert_int_equal(r.super.mode, HK_MODE_SYNC);
    rig_expect_next(&r, &op, HK_COPY);
    assert_int_equal(rig_slot(&r, 0)->type, HK_REC_MODE);
    rig_free(&r);
}

static void test_ranges_serialise(void **state)
{
    struct rig r;
    struct hk_op a = rig_write(0, 4096, 8192), b = rig_write(0, 8192, 8192),
                 c = rig_write(0, 12288, 4096), other = rig_write(1, 4096, 8192),
                 far = rig_write(0, 65536, 512), z = rig_write(0, 4096, 512);

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    z.type = HK_REC_ZEROES;
    assert_int_equal(rig_begin(&r, &a), HK_COPY);
    assert_int_equal(rig_begin(&r, &b), HK_WAIT);     /* overlaps a */
    assert_int_equal(rig_begin(&r, &c), HK_WAIT);     /* overlaps b, which waits */
    assert_int_equal(rig_begin(&r, &other), HK_COPY); /* another volume */
    assert_int_equal(rig_begin(&r, &far), HK_COPY);   /* no overlap: passes those who wait */
    assert_int_equal(rig_begin(&r, &z), HK_WAIT);
    rig_copy(&r, &a, 1);
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_written(&r, &a, 0), HK_DONE);
    rig_expect_next(&r, &b, HK_COPY);
    rig_expect_next(&r, &z, HK_COPY);
    rig_expect_next(&r, NULL, 0);
    assert_true(b.lsn.v > far.lsn.v);
    rig_copy(&r, &b, 2);
    assert_int_equal(rig_written(&r, &b, 0), HK_DONE);
    rig_expect_next(&r, &c, HK_COPY);
    rig_free(&r);
}

static void test_cancel_lets_the_next_pass(void **state)
{
    struct rig r;
    struct hk_op a = rig_write(0, 0, 4096), b = rig_write(0, 0, 8192), c = rig_write(0, 4096, 4096);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &a), HK_COPY);
    assert_int_equal(rig_begin(&r, &b), HK_WAIT);
    assert_int_equal(rig_begin(&r, &c), HK_WAIT);
    assert_false(hk_capture_cancel(r.c, &a));
    assert_true(hk_capture_cancel(r.c, &b));
    assert_false(hk_capture_cancel(r.c, &b));
    rig_expect_next(&r, &c, HK_COPY);
    rig_free(&r);
}

/* Each life says the sizes of volumes that can grow first. (Seeded bug size_not_said_again.) */
static void test_sizes_are_said_first(void **state)
{
    struct hk_capture_status st;
    struct rig r;

    rig_alloc(&r);
    rig_new_ring(&r, 9);
    rig_create(&r);
    r.super.volume[0].room_bytes = r.cfg.volume_room[0] = 2 * RIG_VOLUME_BYTES;
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    rig_meta(&r);
    hk_capture_status(r.c, &st);
    assert_int_equal(st.produced.v, HK_LSN_FIRST + hk_record_bytes(sizeof(struct hk_mode_change)) +
                                        hk_record_bytes(sizeof(struct hk_resize)));
    rig_free(&r);
}

/* A full ring stops the queue even for those who would fit: nobody starves. */
static void test_room_is_fair(void **state)
{
    struct rig r;
    struct hk_op op[24];
    unsigned admitted = 0;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    rig_drain(&r);
    for (unsigned i = 0; i < 24; i++) {
        op[i] = rig_write(0, i * 4096, 4096);
        if (rig_begin(&r, &op[i]) == HK_COPY) {
            rig_copy(&r, &op[i], 1);
            assert_int_equal(rig_written(&r, &op[i], 0), HK_DONE);
            assert_int_equal(admitted++, i);
        }
    }
    assert_int_equal(admitted, RIG_SLOTS - 5); /* the rest is kept for control records */
    assert_int_equal(rig_status(&r).state, HK_STATE_PACING);
    assert_int_equal(rig_report(&r, op[1].end.v, 0, 0), 0);
    rig_expect_next(&r, &op[admitted], HK_COPY);
    rig_expect_next(&r, &op[admitted + 1], HK_COPY);
    rig_expect_next(&r, NULL, 0);
    rig_free(&r);
}

static void test_payload_never_wraps(void **state)
{
    struct rig r;
    const uint8_t *end;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    end = (const uint8_t *)r.ring + r.ring_bytes;
    for (unsigned i = 0; i < 200; i++) {
        struct hk_op op = rig_write(0, 0, 512 * (1 + i * 37 % 2048));

        assert_int_equal(rig_run(&r, &op), HK_DONE);
        assert_true((const uint8_t *)op.payload + op.length <= end);
        assert_int_equal((uintptr_t)op.payload % 4096, 0);
        rig_drain(&r);
        assert_int_equal(rig_status(&r).payload_used, 0);
    }
    rig_free(&r);
}

static void test_ceiling_is_durable_first(void **state)
{
    struct rig r;
    struct hk_op op[40];
    unsigned waited = 0;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    r.cfg.ceiling_step_bytes = 1 << 20;
    rig_up(&r);
    for (unsigned i = 0; i < 40; i++) {
        enum hk_step step;

        op[i] = rig_write(0, 0, 256 << 10);
        step = rig_begin(&r, &op[i]);
        if (step == HK_WAIT) {
            waited++;
            rig_read_super(&r);
            assert_true(rig_status(&r).produced.v + 64 + op[i].length > r.super.ceiling);
            rig_meta(&r);
            rig_expect_next(&r, &op[i], HK_COPY);
        }
        rig_read_super(&r);
        assert_true(op[i].end.v <= r.super.ceiling);
        rig_copy(&r, &op[i], 1);
        assert_int_equal(rig_written(&r, &op[i], 0), HK_DONE);
        rig_drain(&r);
    }
    assert_true(waited >= 3);
    rig_free(&r);
}

static void test_ceiling_asked_for_at_half(void **state)
{
    struct rig r;
    uint64_t writes;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    r.cfg.ceiling_step_bytes = 16 << 20;
    rig_up(&r);
    writes = r.meta_writes;
    for (unsigned i = 0; i < 64; i++) {
        struct hk_op op = rig_write(0, 0, 512 << 10);

        /* Written as soon as it is asked for, so nobody ever waits. */
        assert_int_equal(rig_run(&r, &op), HK_DONE);
        rig_meta(&r);
        rig_drain(&r);
    }
    assert_in_range(r.meta_writes - writes, 2, 4);
    rig_free(&r);
}

static void test_capture_time_rises(void **state)
{
    struct rig r;
    uint64_t last = 0;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    for (unsigned i = 0; i < 10; i++) {
        struct hk_op op = rig_write(0, 0, 512);

        r.now.real_ns -= 1000; /* the clock is set back all the time */
        assert_int_equal(rig_run(&r, &op), HK_DONE);
        assert_true(rig_slot(&r, op.slot)->time_ns > last);
        last = rig_slot(&r, op.slot)->time_ns;
        rig_drain(&r);
    }
    rig_free(&r);
}

static void test_reports_are_checked(void **state)
{
    struct rig r;
    struct hk_op a = rig_write(0, 0, 512), b = rig_write(0, 4096, 512);
    uint64_t end;

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &a), HK_WAIT);
    assert_int_equal(rig_begin(&r, &b), HK_COPY);
    end = a.end.v;
    /* b is reserved but not published: nobody can have seen it. */
    assert_int_equal(rig_report(&r, b.end.v, 0, 0), -ERANGE);
    assert_int_equal(rig_report(&r, 0, b.end.v, 0), -ERANGE);
    assert_int_equal(rig_report(&r, 0, b.end.v, b.end.v), -ERANGE);
    assert_int_equal(rig_report(&r, 0, 4160, end), -ERANGE);
    assert_int_equal(rig_report(&r, 4097, 0, 0), -ERANGE);
    assert_int_equal(hk_capture_report(r.c, r.lease + 1, a.end, a.end, a.end, 0, &r.now), -ESTALE);
    assert_int_equal(hk_capture_report(r.c, 0, a.end, a.end, a.end, 0, &r.now), -ESTALE);
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_report(&r, end, end, end), 0);
    rig_expect_next(&r, &a, HK_DONE);
    /* Nothing moves back. */
    assert_int_equal(rig_report(&r, 0, 0, 0), 0);
    assert_int_equal(rig_status(&r).durable.v, end);
    assert_int_equal(rig_status(&r).released.v, end);
    /* A contact in the future is none. */
    assert_int_equal(hk_capture_report(r.c, r.lease, a.end, a.end, a.end, UINT64_MAX, &r.now), 0);
    rig_copy(&r, &b, 1);
    assert_int_equal(rig_written(&r, &b, 0), HK_WAIT);
    rig_pass(&r, RIG_PATIENCE);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_DEGRADED);
    rig_free(&r);
}

static void test_insert(void **state)
{
    struct rig r;
    struct hk_mark mark = {.name = "nightly", .op_id = 7, .kind = HK_MARK_FREEZE};
    struct hk_lsn lsn = HK_LSN(1), end = HK_LSN(1);
    struct hk_gap gap = {.new_start = 1};
    unsigned i;

    rig_start(&r);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    rig_attach(&r);
    assert_int_equal(
        hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, sizeof(mark), &r.now, &lsn, &end),
        -EAGAIN);
    rig_meta(&r);
    assert_int_equal(
        hk_capture_insert(r.c, 1, HK_REC_MARK, &mark, sizeof(mark), &r.now, &lsn, &end), -ESTALE);
    assert_int_equal(
        hk_capture_insert(r.c, r.lease, HK_REC_GAP, &gap, sizeof(gap), &r.now, &lsn, &end),
        -EINVAL);
    assert_int_equal(hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, 4, &r.now, &lsn, &end),
                     -EINVAL);
    mark.name[0] = '/';
    assert_int_equal(
        hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, sizeof(mark), &r.now, &lsn, &end),
        -EINVAL);
    mark.name[0] = 'N';
    assert_int_equal(lsn.v, 1);
    assert_int_equal(
        hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, sizeof(mark), &r.now, &lsn, &end), 0);
    assert_int_equal(end.v, lsn.v + 192);
    assert_int_equal(rig_status(&r).produced.v, end.v);
    rig_drain(&r);
    /* However many it asks for, the ring is not its own. */
    for (i = 0; i < 100; i++) {
        if (hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, sizeof(mark), &r.now, &lsn, &end))
            break;
    }
    assert_int_equal(i, 16);
    rig_free(&r);
}

static void test_insert_into_full_ring(void **state)
{
    struct rig r;
    struct hk_op op[20];
    struct hk_mark mark = {.name = "m"};
    struct hk_lsn lsn, end;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    assert_true(rig_fill(&r, op, 20) < 20);
    assert_int_equal(
        hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, sizeof(mark), &r.now, &lsn, &end), 0);
    rig_free(&r);
}

static void test_origin_error_is_durable_first(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), next = rig_write(0, 0, 4096);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    rig_copy(&r, &op, 1);
    assert_int_equal(rig_written(&r, &op, -EIO), HK_WAIT);
    rig_expect_next(&r, NULL, 0);
    rig_meta(&r);
    assert_int_equal(r.super.flags & (HK_SF_ORIGIN_FAILED | HK_SF_FULL_COMPARE),
                     HK_SF_ORIGIN_FAILED | HK_SF_FULL_COMPARE);
    rig_expect_next(&r, &op, HK_DONE);
    assert_int_equal(op.result, -EIO);
    assert_int_equal(rig_status(&r).state, HK_STATE_ORIGIN_FAILED);
    assert_int_equal(rig_status(&r).origin_errors, 1);
    assert_false(rig_status(&r).in_sync);
    /* Its slot is not stuck, and capture goes on. */
    rig_drain(&r);
    assert_int_equal(rig_status(&r).slots_used, 0);
    assert_int_equal(rig_run(&r, &next), HK_WAIT);
    rig_free(&r);
}

static void test_origin_error_and_metadata_error(void **state)
{
    struct rig r;
    struct hk_op op = rig_flush(0);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    rig_copy(&r, &op, 1);
    assert_int_equal(rig_written(&r, &op, -ENOSPC), HK_WAIT);
    assert_true(rig_meta_once(&r, -EIO));
    rig_expect_next(&r, &op, HK_DONE);
    assert_int_equal(op.result, -ENOSPC);
    rig_free(&r);
}

static void test_bad_ops_fail(void **state)
{
    struct rig r;
    struct hk_op bad[] = {
        rig_write(2, 0, 512),
        rig_write(0, 0, 0),
        rig_write(0, 100, 512),
        rig_write(0, 0, 100),
        rig_write(0, RIG_VOLUME_BYTES, 512),
        rig_write(0, RIG_VOLUME_BYTES - 512, 1024),
        rig_write(0, 0, (1 << 20) + 512),
        {.type = HK_REC_MARK},
        {.type = HK_REC_FLUSH, .length = 512},
    };

    rig_start(&r);
    rig_up(&r);
    for (unsigned i = 0; i < HK_ARRAY_SIZE(bad); i++) {
        assert_int_equal(rig_begin(&r, &bad[i]), HK_FAIL);
        assert_true(bad[i].result < 0);
    }
    assert_int_equal(rig_status(&r).slots_used, 1);
    rig_free(&r);
}

static void test_held_max(void **state)
{
    struct rig r;
    struct hk_op a = rig_write(0, 0, 512), b = a, c = a;

    rig_start(&r);
    r.cfg.held_max = 1;
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &a), HK_COPY);
    assert_int_equal(rig_begin(&r, &b), HK_WAIT);
    assert_int_equal(rig_begin(&r, &c), HK_FAIL);
    assert_int_equal(c.result, -EAGAIN);
    rig_free(&r);
}

static void test_clean_stop_and_restart(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), refused = op, next = op;
    struct hk_record last;

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    assert_false(hk_capture_stop(r.c, &r.now));
    assert_int_equal(rig_begin(&r, &refused), HK_FAIL);
    assert_int_equal(refused.result, -ESHUTDOWN);
    rig_drain(&r);
    rig_expect_next(&r, &op, HK_DONE);
    /* The standby has it, the origin's cache may still lose it: that is not clean. */
    assert_false(hk_capture_stop(r.c, &r.now));
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_CLEAN);
    assert_int_equal(r.super.clean_lsn, op.end.v);
    last = *rig_slot(&r, op.slot);
    /* The machine rebooted: the ring is gone, nothing else. The clock is set back. */
    r.now.real_ns = 7;
    rig_new_ring(&r, 10);
    rig_up(&r);
    assert_false(r.super.flags & (HK_SF_CLEAN | HK_SF_FULL_COMPARE));
    assert_true(hk_capture_serving(r.c));
    assert_int_equal(rig_slot(&r, 0)->lsn, op.end.v);
    assert_int_equal(rig_slot(&r, 0)->prev_bytes, hk_record_bytes(last.payload_len));
    assert_int_equal(rig_slot(&r, 0)->time_ns, last.time_ns + 1);
    assert_int_equal(rig_run(&r, &next), HK_WAIT);
    rig_free(&r);
}

/* The slot that holds the newest superblock does not come back from the disk. */
static void lose_newest_slot(struct rig *r)
{
    rig_read_super(r);
    memset(r->metadata + (r->super.sequence & 1) * HK_SUPER_BYTES, 0xff, HK_SUPER_BYTES);
}

/* "Started again" was in the slot that is gone: what is left says clean, and would reuse LSNs. */
static void test_damaged_sibling_of_a_clean_one(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), more = op;
    uint64_t ceiling;

    rig_start(&r);
    rig_up(&r);
    rig_run(&r, &op);
    rig_drain(&r);
    rig_expect_next(&r, &op, HK_DONE);
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_CLEAN);
    rig_new_ring(&r, 10);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    assert_true(rig_meta_once(&r, 0));
    /* One slot still says clean: nothing begins, and the loss of the other costs nothing. */
    rig_attach(&r);
    assert_int_equal(rig_begin(&r, &more), HK_WAIT);
    lose_newest_slot(&r);
    rig_read_super(&r);
    assert_true(r.super.flags & HK_SF_CLEAN);
    rig_new_ring(&r, 12);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    assert_true(r.cfg.super_in_doubt);
    rig_meta(&r);
    assert_int_equal(r.super.flags & (HK_SF_CLEAN | HK_SF_FULL_COMPARE), 0);
    rig_attach(&r);
    rig_run(&r, &more);
    assert_int_equal(more.lsn.v, op.end.v + 128); /* behind the mode record */
    lose_newest_slot(&r);
    rig_read_super(&r);
    assert_false(r.super.flags & HK_SF_CLEAN);
    ceiling = r.super.ceiling;
    rig_new_ring(&r, 11);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    rig_meta(&r);
    assert_int_equal(r.super.flags & (HK_SF_CLEAN | HK_SF_FULL_COMPARE), HK_SF_FULL_COMPARE);
    assert_int_equal(r.super.ceiling, ceiling + HK_CEILING_STEP_BYTES);
    assert_true(rig_status(&r).passing);
    rig_free(&r);
}

/* The very first superblock has a blank one beside it; a damaged one beside it is damage. */
static void test_damaged_sibling_of_the_first_one(void **state)
{
    struct rig r;

    rig_start(&r);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    assert_false(r.cfg.super_in_doubt);
    assert_true(rig_meta_once(&r, 0));
    lose_newest_slot(&r);
    rig_new_ring(&r, 10);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    assert_true(r.cfg.super_in_doubt);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE); /* the first one is still there */
    lose_newest_slot(&r);
    rig_new_ring(&r, 11);
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), 0);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    rig_free(&r);
}

/* A write cut off by kill -9: the ring knows that nothing relied on it. And knows when it did. */
static void test_damaged_sibling_with_the_ring(void **state)
{
    struct hk_capture_meta m;
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    r.cfg.ceiling_step_bytes = 1 << 20;
    rig_up(&r);
    for (unsigned i = 0; !hk_capture_meta(r.c, &m); i++) {
        assert_true(i < 500);
        rig_run(&r, &op);
        rig_drain(&r);
        rig_expect_next(&r, &op, HK_DONE);
    }
    memset(r.metadata + m.offset, 0xff, HK_SUPER_BYTES);
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    assert_true(r.cfg.super_in_doubt);
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    assert_false(rig_status(&r).passing);

    lose_newest_slot(&r);
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    assert_true(rig_status(&r).passing);
    rig_free(&r);
}

static void test_stop_without_standby_is_not_clean(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_pass(&r, 6 * RIG_SECOND);
    rig_meta(&r);
    rig_expect_next(&r, &op, HK_DONE);
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_CLEAN);
    /* The ring survives: all is well. */
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &r.super.group_id, &r.super), 0);
    /* It does not: nobody knows what was written. */
    rig_new_ring(&r, 10);
    rig_up(&r);
    assert_true(r.super.flags & HK_SF_FULL_COMPARE);
    rig_free(&r);
}

/* The first LSN of a promoted side is a gap record, then the mode. */
static void test_promoted_epoch_opens_with_gap(void **state)
{
    struct rig r;
    struct hk_uuid id = rig_uuid(5);
    struct hk_gap gap;
    const struct hk_ring_header *h;

    rig_start(&r);
    assert_int_equal(hk_history_append(&r.super.history, &id, 1 << 20, 8192, HK_EPOCH_PROMOTE, 2),
                     0);
    r.super.ceiling = 1 << 20;
    r.super.flags = 0;
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    rig_up(&r);
    h = r.ring;
    memcpy(&gap, (const uint8_t *)r.ring + h->payload_offset, sizeof(gap));
    assert_int_equal(rig_slot(&r, 0)->type, HK_REC_GAP);
    assert_int_equal(rig_slot(&r, 0)->lsn, 1 << 20);
    assert_int_equal(rig_slot(&r, 0)->prev_bytes, 0);
    assert_int_equal(rig_slot(&r, 0)->epoch, 2);
    assert_true(hk_uuid_equal(&gap.from_epoch, &r.super.history.epoch[0].id));
    assert_int_equal(gap.last_durable, 8192);
    assert_int_equal(gap.new_start, 1 << 20);
    assert_int_equal(gap.reason, HK_EPOCH_PROMOTE);
    assert_int_equal(hk_record_check_payload(rig_slot(&r, 0), &gap), HK_RECORD_OK);
    assert_int_equal(rig_slot(&r, 1)->type, HK_REC_MODE);
    assert_int_equal(rig_slot(&r, 1)->prev_bytes, 128);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    rig_free(&r);
}

static void test_peer_is_bound_once(void **state)
{
    struct rig r;
    struct hk_uuid a = rig_uuid(20), b = rig_uuid(21), nil = {{0}};

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(hk_capture_bind_peer(r.c, r.lease + 1, &a), -ESTALE);
    assert_int_equal(hk_capture_bind_peer(r.c, r.lease, &nil), -EINVAL);
    assert_int_equal(hk_capture_bind_peer(r.c, r.lease, &a), 0);
    assert_int_equal(hk_capture_bind_peer(r.c, r.lease, &a), 0);
    assert_int_equal(hk_capture_bind_peer(r.c, r.lease, &b), -EEXIST);
    rig_meta(&r);
    assert_true(hk_uuid_equal(&r.super.peer_replica_id, &a));
    rig_free(&r);
}

static void test_contradictions_are_refused(void **state)
{
    struct rig r;
    struct hk_super good;
    struct hk_capture_cfg cfg;

    rig_start(&r);
    good = r.super;
    cfg = r.cfg;
    r.cfg.volume_count = 1;
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), -EINVAL);
    r.cfg = cfg;
    r.cfg.volume_bytes[1] += 512;
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), -EINVAL);
    r.cfg = cfg;
    r.cfg.contact_timeout_ns = 0;
    assert_int_equal(rig_init(&r, HK_START_NEW_RING), -EINVAL);
    r.cfg = cfg;
    r.super.role = HK_ROLE_STANDBY;
    assert_int_equal(hk_capture_init(r.c, &cfg, r.ring, HK_START_NEW_RING, &r.super, &r.now),
                     -EINVAL);
    r.super = good;
    r.super.clean_lsn = good.ceiling + 64;
    assert_int_equal(hk_capture_init(r.c, &cfg, r.ring, HK_START_NEW_RING, &r.super, &r.now),
                     -EINVAL);
    rig_free(&r);
}

static void test_create_checks(void **state)
{
    struct hk_super_create p = {
        .group_id = rig_uuid(1),
        .site_id = rig_uuid(2),
        .replica_id = rig_uuid(3),
        .epoch_id = rig_uuid(4),
        .group_name = "core",
        .volume_count = 2,
        .volume = {{.name = "a", .bytes = 512}, {.name = "b", .bytes = 512}},
        .assume_equal = true};
    struct hk_super_create bad;
    struct hk_super *s = malloc(sizeof(*s));
    struct hk_super *back = malloc(sizeof(*back));
    void *slot = aligned_alloc(4096, HK_SUPER_BYTES);

    assert_int_equal(hk_super_create(&p, s), 0);
    assert_int_equal(s->flags, HK_SF_CLEAN | HK_SF_ASSUMED_EQUAL);
    hk_super_encode(s, slot);
    assert_int_equal(hk_super_decode(slot, back), HK_SUPER_OK);
    bad = p;
    bad.group_id = (struct hk_uuid){{0}};
    assert_int_equal(hk_super_create(&bad, s), -EINVAL);
    bad = p;
    bad.volume_count = 0;
    assert_int_equal(hk_super_create(&bad, s), -EINVAL);
    bad = p;
    bad.volume[1].name[0] = 'a';
    assert_int_equal(hk_super_create(&bad, s), -EINVAL);
    bad = p;
    bad.volume[1].bytes = 100;
    assert_int_equal(hk_super_create(&bad, s), -EINVAL);
    bad = p;
    bad.group_name[0] = '\0';
    assert_int_equal(hk_super_create(&bad, s), -EINVAL);
    p.assume_equal = false;
    assert_int_equal(hk_super_create(&p, s), 0);
    assert_true(s->flags & HK_SF_FULL_COMPARE);
    free(s);
    free(back);
    free(slot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_async_completes_locally),
        cmocka_unit_test(test_sync_waits_for_durable),
        cmocka_unit_test(test_sync_ack_before_origin),
        cmocka_unit_test(test_semisync_waits_for_acked),
        cmocka_unit_test(test_nothing_before_metadata),
        cmocka_unit_test(test_ranges_serialise),
        cmocka_unit_test(test_cancel_lets_the_next_pass),
        cmocka_unit_test(test_sizes_are_said_first),
        cmocka_unit_test(test_room_is_fair),
        cmocka_unit_test(test_payload_never_wraps),
        cmocka_unit_test(test_ceiling_is_durable_first),
        cmocka_unit_test(test_ceiling_asked_for_at_half),
        cmocka_unit_test(test_capture_time_rises),
        cmocka_unit_test(test_reports_are_checked),
        cmocka_unit_test(test_insert),
        cmocka_unit_test(test_insert_into_full_ring),
        cmocka_unit_test(test_origin_error_is_durable_first),
        cmocka_unit_test(test_origin_error_and_metadata_error),
        cmocka_unit_test(test_bad_ops_fail),
        cmocka_unit_test(test_held_max),
        cmocka_unit_test(test_clean_stop_and_restart),
        cmocka_unit_test(test_stop_without_standby_is_not_clean),
        cmocka_unit_test(test_damaged_sibling_of_a_clean_one),
        cmocka_unit_test(test_damaged_sibling_of_the_first_one),
        cmocka_unit_test(test_damaged_sibling_with_the_ring),
        cmocka_unit_test(test_promoted_epoch_opens_with_gap),
        cmocka_unit_test(test_peer_is_bound_once),
        cmocka_unit_test(test_contradictions_are_refused),
        cmocka_unit_test(test_create_checks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
