/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log is broken off and goes on: behind, a lost ring, a damaged copy, a standby that is
 * somewhere else. Each story is played on a core with a dirty map over a metadata file in memory;
 * what is looked at are the records in the ring and what a restart would read.
 */
#include "tests/unit/map_steps.h"

/* ---- steps ---- */

/* The ring fills up, nobody takes anything out, and T passes: writes pass uncaptured. */
static struct hk_op full_op[RIG_SLOTS];

static void go_behind(void)
{
    unsigned n = 0;

    for (; n < RIG_SLOTS; n++) {
        full_op[n] = rig_write(1, n * 4096, 4096);
        if (!submit(&full_op[n]))
            break;
        rig_written(&r, &full_op[n], 0);
    }
    assert_true(n < RIG_SLOTS);
    for (int i = 0; i < 8; i++) {
        rig_pass(&r, RIG_PATIENCE);
        settle();
    }
    assert_true(rig_status(&r).passing && rig_status(&r).closed);
    for (unsigned k = 0; k <= n; k++) {
        enum hk_step step;
        struct hk_op *op = hk_capture_next(r.c, &step, &r.now);

        if (!op)
            break;
        if (step == HK_SUBMIT)
            rig_written(&r, op, 0);
    }
    settle();
}

/* Everything stale is compared and equal. Returns how many regions that were. */
static unsigned heal_all(void)
{
    struct hk_capture_stale s;
    uint16_t volume = 0;
    uint64_t offset = 0;
    unsigned n = 0;

    hk_capture_tick(r.c, &r.now);
    while (hk_capture_stale_next(r.c, volume, offset, &s) == 0) {
        assert_int_equal(hk_capture_heal(r.c, r.lease, s.volume, s.offset, s.event,
                                         rig_status(&r).produced, &r.now),
                         0);
        volume = s.volume;
        offset = s.offset + s.bytes;
        n++;
    }
    return n;
}

/* ---- stories ---- */

static void behind_and_back(void **state)
{
    struct hk_op passed = rig_write(0, 3 * REGION, 4096), late = rig_write(0, 0, 4096);
    struct hk_uuid nil = {{0}}, known = rig_uuid(4), id = rig_uuid(7), other = rig_uuid(8);
    uint64_t end, ceiling;
    struct hk_capture_stale s;
    struct hk_mark mark = {.name = "noon"};

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    assert_int_equal(go_back(rig_status(&r).produced.v), -EALREADY);
    go_behind();
    end = rig_status(&r).produced.v;
    ceiling = rig_status(&r).ceiling.v;
    assert_true(submit(&passed)); /* uncaptured, and slow */
    assert_false(passed.captured);
    assert_int_equal(rig_status(&r).state, HK_STATE_BEHIND);
    assert_int_equal(hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, sizeof(mark), &r.now,
                                       &(struct hk_lsn){0}, &(struct hk_lsn){0}),
                     -ESHUTDOWN);

    /* The standby lacks the tail: nothing else than its end will do, and not before it has it. */
    assert_int_equal(hk_capture_return(r.c, r.lease + 1, HK_LSN(end), &r.now), -ESTALE);
    assert_int_equal(go_back(end), -ERANGE);
    assert_int_equal(go_back(rig_status(&r).durable.v), -ERANGE);
    rig_drain(&r);
    assert_int_equal(go_back(end - 64), -ERANGE);
    assert_int_equal(go_back(end + 64), -ERANGE);
    assert_int_equal(go_back(end + 1), -ERANGE);
    assert_int_equal(go_back(end), -EAGAIN); /* no id is kept */
    assert_int_equal(hk_capture_offer_epoch(r.c, &nil), -EINVAL);
    assert_int_equal(hk_capture_offer_epoch(r.c, &known), -EINVAL);
    offer(7);
    assert_int_equal(hk_capture_offer_epoch(r.c, &other), -EEXIST);
    assert_int_equal(go_back(end), 0);
    assert_int_equal(go_back(end), 0);
    assert_true(rig_status(&r).closed); /* not before it is durable */
    settle();

    assert_true(hk_uuid_equal(&epoch_now()->id, &id));
    assert_int_equal(epoch_now()->reason, HK_EPOCH_GAP_BEHIND);
    assert_int_equal(epoch_now()->parent_end, end);
    assert_int_equal(epoch_now()->first_lsn, ceiling);
    assert_int_equal(r.super.ring_first_lsn, ceiling);
    assert_false(rig_status(&r).closed || rig_status(&r).passing);
    assert_int_equal(rig_status(&r).state, HK_STATE_RESYNC);
    assert_int_equal(newest(0).type, HK_REC_GAP);
    assert_int_equal(newest(0).lsn, ceiling);
    assert_int_equal(newest(0).epoch, 2);
    assert_int_equal(newest(0).prev_bytes, 0);
    assert_int_equal(rig_producer(&r)->closed, 0);
    assert_int_equal(rig_producer(&r)->epoch_ordinal, 2);

    /* Captured again, but no compare before the last uncaptured write has ended. */
    run(&late);
    assert_true(late.captured && late.lsn.v > ceiling);
    settle();
    assert_int_equal(rig_status(&r).uncaptured_in_flight, 1);
    assert_int_equal(newest(0).type, HK_REC_WRITE);
    assert_int_equal(hk_capture_stale_next(r.c, 0, 0, &s), -EAGAIN);
    rig_written(&r, &passed, 0);
    settle();
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    assert_int_equal(rig_status(&r).resync_at.v, newest(0).lsn + 128);

    /* Both regions that were written uncaptured, nothing else. */
    assert_int_equal(hk_capture_stale_next(r.c, 0, 0, &s), 0);
    assert_int_equal(s.offset, 3 * REGION);
    assert_int_equal(s.bytes, REGION);
    assert_true(s.after.v >= rig_status(&r).resync_at.v);
    assert_int_equal(hk_capture_heal(r.c, r.lease + 1, 0, s.offset, s.event, s.after, &r.now),
                     -ESTALE);
    assert_int_equal(
        hk_capture_heal(r.c, r.lease, 0, s.offset, s.event + 1, rig_status(&r).produced, &r.now),
        -EAGAIN);
    assert_int_equal(hk_capture_heal(r.c, r.lease, 0, s.offset, s.event,
                                     HK_LSN(rig_status(&r).produced.v + 64), &r.now),
                     -ERANGE);
    assert_int_equal(
        hk_capture_heal(r.c, r.lease, 0, s.offset, s.event, HK_LSN(s.after.v - 64), &r.now),
        -ERANGE);
    assert_int_equal(hk_capture_heal(r.c, r.lease, 9, 0, s.event, s.after, &r.now), -EINVAL);
    assert_int_equal(heal_all(), 2);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN); /* what heals is not durable yet */
    drain();
    assert_int_equal(rig_status(&r).stale_bytes, 0);
    assert_false(rig_status(&r).resync);
    assert_false(rig_status(&r).super.flags & (HK_SF_STALE | HK_SF_FULL_COMPARE));
    rig_pass(&r, 1);
    drain();
    assert_int_equal(newest(0).type, HK_REC_MODE);
    assert_int_equal(newest(1).type, HK_REC_RESYNC_END);
    assert_true(rig_status(&r).in_sync);
    assert_int_equal(rig_status(&r).state, HK_STATE_REPLICATING);
    assert_false(r.super.flags & HK_SF_DEGRADED);
}

/* The ring is gone: only the standby knows where it stands, from what is known to the ceiling. */
static void lost_ring(void **state)
{
    struct hk_op op = rig_write(0, 0, 4096), passed = rig_write(1, 0, 4096);
    uint64_t known, ceiling;

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    run(&op);
    rig_drain(&r);
    known = r.super.durable_known;
    ceiling = r.super.ceiling;
    rig_new_ring(&r, 10);
    up(HK_START_NEW_RING);
    assert_true(rig_status(&r).closed && rig_status(&r).passing && rig_status(&r).resync);
    assert_true(r.super.flags & HK_SF_STALE);
    assert_false(r.super.flags & HK_SF_FULL_COMPARE);
    assert_int_equal(rig_status(&r).stale_bytes, REGION); /* the one that was hot */
    rig_pass(&r, RIG_PATIENCE);
    run(&passed);
    assert_false(passed.captured);
    assert_int_equal(rig_status(&r).stale_bytes, 2 * REGION);
    offer(7);
    assert_int_equal(go_back(known - 64), -ERANGE);
    assert_int_equal(go_back(ceiling + 64), -ERANGE);
    assert_int_equal(go_back(known + 640), 0);
    settle();
    assert_int_equal(epoch_now()->reason, HK_EPOCH_GAP_CRASH);
    assert_int_equal(epoch_now()->parent_end, known + 640);
    assert_true(epoch_now()->first_lsn >= ceiling);
    assert_int_equal(newest(1).type, HK_REC_GAP);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    assert_int_equal(heal_all(), 2);
    drain();
    rig_pass(&r, 1);
    drain();
    assert_true(rig_status(&r).in_sync);
}

/* Under `block` the application waits, and the records that end its waiting do not. */
static void barred_until_resynced(void **state)
{
    struct hk_op op = rig_write(0, 0, 4096), waits = rig_write(0, 4 * REGION, 4096);
    struct hk_op block = {.type = HK_REC_BLOCK, .length = sizeof(buffer), .buffer = buffer};
    enum hk_step step;

    (void)state;
    live(HK_LINK_LOSS_BLOCK);
    run(&op);
    rig_new_ring(&r, 10);
    up(HK_START_NEW_RING);
    assert_true(rig_status(&r).barred && rig_status(&r).closed && !rig_status(&r).passing);
    assert_false(hk_capture_serving(r.c));
    assert_false(submit(&waits));
    assert_int_equal(rig_begin(&r, &block), HK_FAIL);
    offer(7);
    assert_int_equal(go_back(rig_status(&r).ceiling.v), 0);
    settle();
    assert_true(rig_status(&r).barred && !rig_status(&r).closed);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    rig_expect_next(&r, NULL, 0);

    assert_int_equal(rig_begin(&r, &block), HK_READ);
    memset(buffer, 0x77, sizeof(buffer));
    assert_int_equal(hk_capture_read_done(r.c, &block, 0, &r.now), HK_COPY);
    memcpy(block.payload, buffer, sizeof(buffer));
    hk_capture_publish(r.c, &block);
    assert_int_equal(hk_capture_copied(r.c, &block), HK_DONE);
    assert_int_equal(newest(0).type, HK_REC_BLOCK);
    assert_int_equal(heal_all(), 1);
    rig_pass(&r, 100 * RIG_SECOND);
    rig_expect_next(&r, NULL, 0);
    for (int i = 0; i < 4; i++) {
        rig_drain(&r);
        settle();
    }
    assert_false(rig_status(&r).barred);
    assert_true(hk_capture_serving(r.c));
    assert_ptr_equal(hk_capture_next(r.c, &step, &r.now), &waits);
    assert_int_equal(step, HK_COPY);
    rig_copy(&r, &waits, 1);
    assert_int_equal(rig_written(&r, &waits, 0), HK_WAIT);
    rig_drain(&r);
    rig_expect_next(&r, &waits, HK_DONE);
    assert_true(rig_status(&r).in_sync);
}

/* Goes on in the ring it finds, but not in an epoch that was broken off. */
static void behind_and_killed(void **state)
{
    uint64_t end;

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    go_behind();
    end = rig_status(&r).produced.v;
    up(HK_START_OLD_RING);
    assert_true(rig_status(&r).closed && rig_status(&r).passing);
    assert_int_equal(rig_status(&r).produced.v, end);
    rig_drain(&r);
    offer(7);
    assert_int_equal(go_back(end - 64), -ERANGE);
    assert_int_equal(go_back(end), 0);
    settle();
    assert_int_equal(epoch_now()->reason, HK_EPOCH_GAP_BEHIND);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
}

/* Killed between the superblock that names the new epoch and the ring that begins it. */
static void killed_before_the_gap(void **state)
{
    struct hk_uuid group = rig_uuid(1);
    uint64_t end;

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    go_behind();
    end = rig_status(&r).produced.v;
    rig_drain(&r);
    offer(7);
    assert_int_equal(go_back(end), 0);
    {
        struct hk_capture_meta m;

        while (hk_capture_meta(r.c, &m)) {
            memcpy(r.metadata + m.offset, m.data, m.bytes);
            rig_read_super(&r);
            if (epoch_now()->ordinal == 2)
                break;
            hk_capture_meta_done(r.c, 0, &r.now);
        }
    }
    assert_int_equal(epoch_now()->ordinal, 2);
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &group, &r.super), -ESTALE);
    rig_new_ring(&r, 11);
    up(HK_START_NEW_RING);
    /* No LSN of the new epoch was given, so nothing is lost with the ring. */
    assert_false(rig_status(&r).closed || rig_status(&r).passing);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    assert_int_equal(rig_slot(&r, 0)->type, HK_REC_GAP);
    assert_int_equal(rig_slot(&r, 0)->lsn, epoch_now()->first_lsn);

    /* And one that was begun is found again, empty or not. */
    rig_drain(&r);
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &group, &r.super), 0);
    up(HK_START_OLD_RING);
    assert_false(rig_status(&r).closed);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
}

/* The standby can't have a record whose copy is damaged: its regions are stale, the log ends. */
static void damage(bool heals)
{
    struct hk_op good = rig_write(0, 0, 4096), bad = rig_write(0, REGION, 4096);
    struct hk_op behind = rig_write(0, 2 * REGION, 4096), waits = rig_write(0, 3 * REGION, 4096);
    struct hk_op *op;
    enum hk_step step;

    live(HK_LINK_LOSS_CONTINUE);
    run(&good);
    run(&bad);
    run(&behind);
    ((uint8_t *)bad.payload)[7] ^= 1;
    assert_int_equal(rig_report(&r, good.end.v, good.end.v, good.end.v), 0);
    rig_expect_next(&r, &good, HK_DONE);
    assert_int_equal(hk_capture_check_copy(r.c, r.lease, good.lsn, &r.now), -ERANGE);
    assert_int_equal(hk_capture_check_copy(r.c, r.lease, bad.lsn, &r.now), -EUCLEAN);
    settle();
    assert_true(rig_status(&r).closed && !rig_status(&r).passing);
    assert_false(submit(&waits));
    offer(7);
    assert_int_equal(go_back(behind.lsn.v), -ERANGE);
    assert_int_equal(go_back(bad.lsn.v), 0);
    settle();
    assert_int_equal(epoch_now()->parent_end, bad.lsn.v);
    assert_true(r.super.flags & HK_SF_DEGRADED); /* declared before anything is acknowledged */
    rig_expect_next(&r, &waits, HK_COPY);
    rig_copy(&r, &waits, 1);
    rig_written(&r, &waits, 0);
    rig_drain(&r);
    rig_expect_next(&r, &waits, HK_DONE);
    /* The two whose records went down with the epoch: not before the standby is equal. */
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(rig_status(&r).held, 2);
    if (!heals) {
        /* A resync may take hours: not longer than for a standby that is gone. */
        for (int i = 0; i < 8; i++) {
            rig_pass(&r, RIG_T / 8);
            rig_drain(&r);
        }
        rig_expect_next(&r, NULL, 0);
        rig_pass(&r, RIG_PATIENCE - RIG_T);
        rig_expect_next(&r, &bad, HK_DONE);
        rig_expect_next(&r, &behind, HK_DONE);
        return;
    }
    assert_true(heal_all() >= 2);
    for (int i = 0; i < 3; i++) {
        settle();
        rig_drain(&r);
    }
    for (int i = 0; i < 2; i++) {
        op = hk_capture_next(r.c, &step, &r.now);
        assert_true(op == &bad || op == &behind);
        assert_int_equal(step, HK_DONE);
    }
    drain();
    rig_pass(&r, 1);
    drain();
    assert_true(rig_status(&r).in_sync);
}

static void damaged_copy(void **state)
{
    (void)state;
    damage(true);
}

static void damaged_and_slow(void **state)
{
    (void)state;
    damage(false);
}

/* The standby is at a place that we do not know of, below or above. */
static void standby_elsewhere(void **state)
{
    struct hk_op op = rig_write(0, 0, 4096);
    uint64_t ceiling;

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    run(&op);
    drain();
    ceiling = rig_status(&r).ceiling.v;
    assert_int_equal(hk_capture_stale_all(r.c, r.lease + 1, &r.now), -ESTALE);
    assert_false(rig_status(&r).closed);
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    assert_false(hk_capture_all_stale(r.c));
    settle();
    assert_true(hk_capture_all_stale(r.c));
    assert_int_equal(rig_status(&r).stale_bytes, 2 * RIG_VOLUME_BYTES);
    offer(7);
    assert_int_equal(go_back(1ull << 61), -ERANGE);
    assert_int_equal(go_back(ceiling + (64ull << 30)), 0);
    settle();
    assert_int_equal(epoch_now()->reason, HK_EPOCH_GAP_ROLLBACK);
    assert_true(epoch_now()->first_lsn >= ceiling + (64ull << 30));
    assert_int_equal(heal_all(), REGIONS);

    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    settle();
    offer(8);
    assert_int_equal(go_back(4096), 0); /* before the epoch began: clamped */
    settle();
    assert_int_equal(epoch_now()->parent_end, (epoch_now() - 1)->first_lsn);
    assert_int_equal(rig_status(&r).stale_bytes, 2 * RIG_VOLUME_BYTES);
}

static uint32_t ordinal_told(void)
{
    struct hk_capture_status st = rig_status(&r);

    return hk_history_last(&st.super.history)->ordinal;
}

/*
 * The new epoch is durable, and a write of the old one is still on its way to the origin: its slot
 * is where the ring's reader would look for the gap. The epoch is told when it has begun there.
 */
static void told_when_begun(void **state)
{
    struct hk_op op = rig_write(0, 0, 4096);
    uint32_t ordinal;

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    assert_true(submit(&op));
    ordinal = epoch_now()->ordinal;
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    settle();
    offer(7);
    assert_int_equal(go_back(rig_status(&r).produced.v), 0);
    settle();
    assert_int_equal(epoch_now()->ordinal, ordinal + 1);
    assert_int_equal(ordinal_told(), ordinal);
    assert_true(rig_status(&r).tail_lsn.v < epoch_now()->first_lsn);
    rig_written(&r, &op, 0);
    settle();
    assert_int_equal(ordinal_told(), ordinal + 1);
    assert_int_equal(rig_status(&r).tail_lsn.v, epoch_now()->first_lsn);
}

/*
 * `degraded` is durable before a resync's first record, and so before T: a producer that is killed
 * and comes back in a resync goes on waiting for the standby, which may still count on it.
 */
static void killed_in_a_resync(void **state)
{
    struct hk_op op = rig_write(0, 5 * REGION, 4096), late = rig_write(0, 0, 4096);

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    assert_true(submit(&op));
    rig_written(&r, &op, -EIO);
    settle();
    rig_expect_next(&r, &op, HK_DONE);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    assert_true(r.super.flags & HK_SF_DEGRADED);
    up(HK_START_OLD_RING);
    assert_int_equal(rig_status(&r).state, HK_STATE_ORIGIN_FAILED);
    assert_true(submit(&late));
    assert_int_equal(rig_written(&r, &late, 0), HK_WAIT);
    rig_pass(&r, RIG_T);
    rig_expect_next(&r, NULL, 0);
    rig_pass(&r, RIG_PATIENCE - RIG_T);
    rig_expect_next(&r, &late, HK_DONE);
}

/* Closed, and nobody writes: no step of the ladder is due, however long it takes. */
static void closed_and_idle(void **state)
{
    (void)state;
    create(HK_LINK_LOSS_CONTINUE);
    r.cfg.mode = HK_MODE_ASYNC;
    up(HK_START_NEW_RING);
    rig_drain(&r);
    settle();
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    for (int i = 0; i < 20; i++) {
        rig_pass(&r, RIG_T);
        settle();
        assert_true(hk_capture_deadline_ns(r.c) > r.now.mono_ns);
    }
    assert_true(rig_status(&r).closed && !rig_status(&r).passing);
}

/* An origin that fails makes a region stale; no gap, a resync all the same. */
static void origin_error(void **state)
{
    struct hk_op op = rig_write(0, 5 * REGION, 4096);
    struct hk_op block = {
        .type = HK_REC_BLOCK, .offset = 5 * REGION, .length = sizeof(buffer), .buffer = buffer};

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    assert_true(submit(&op));
    assert_int_equal(rig_written(&r, &op, -EIO), HK_WAIT);
    settle();
    rig_expect_next(&r, &op, HK_DONE);
    assert_int_equal(op.result, -EIO);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    assert_int_equal(epoch_now()->ordinal, 1);
    assert_false(rig_status(&r).in_sync);
    assert_true(rig_status(&r).super.flags & HK_SF_ORIGIN_FAILED);

    /* What can't be read stands in the log as such, and the resync ends. */
    assert_int_equal(rig_begin(&r, &block), HK_READ);
    assert_int_equal(hk_capture_read_done(r.c, &block, -EIO, &r.now), HK_DONE);
    assert_int_equal(block.result, -EIO);
    assert_int_equal(newest(0).type, HK_REC_BAD_RANGE);
    assert_int_equal(newest(0).offset, 5 * REGION);
    assert_int_equal(newest(0).length, sizeof(buffer));
    assert_int_equal(block.end.v, newest(0).lsn + 64);
    assert_int_equal(rig_status(&r).bad_ranges, 1);
    assert_int_equal(heal_all(), 1);
    drain();
    assert_false(rig_status(&r).resync);
    assert_int_equal(rig_status(&r).state, HK_STATE_ORIGIN_FAILED);
    assert_true(r.super.flags & HK_SF_UNREADABLE);

    /* A resync of another region says nothing about that one; one of everything does. */
    op = rig_write(0, 7 * REGION, 4096);
    assert_true(submit(&op));
    rig_written(&r, &op, -EIO);
    settle();
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    assert_int_equal(heal_all(), 1);
    rig_pass(&r, RIG_T);
    drain();
    assert_int_equal(r.super.flags & (HK_SF_UNREADABLE | HK_SF_ORIGIN_FAILED | HK_SF_STALE),
                     HK_SF_UNREADABLE | HK_SF_ORIGIN_FAILED);
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    settle();
    offer(7);
    assert_int_equal(go_back(rig_status(&r).produced.v), 0);
    settle();
    assert_int_equal(heal_all(), REGIONS);
    rig_pass(&r, RIG_T);
    drain();
    assert_int_equal(r.super.flags & (HK_SF_UNREADABLE | HK_SF_ORIGIN_FAILED | HK_SF_STALE), 0);
}

/* An error before a kill: its successor's resync heals what it left, and says so. */
static void origin_error_before_a_kill(void **state)
{
    struct hk_op op = rig_write(0, 5 * REGION, 4096);

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    assert_true(submit(&op));
    rig_written(&r, &op, -EIO);
    settle();
    rig_expect_next(&r, &op, HK_DONE);
    up(HK_START_OLD_RING);
    assert_int_equal(rig_status(&r).state, HK_STATE_ORIGIN_FAILED);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    assert_int_equal(heal_all(), 1);
    drain();
    assert_int_equal(r.super.flags & (HK_SF_UNREADABLE | HK_SF_ORIGIN_FAILED | HK_SF_STALE), 0);
    assert_int_not_equal(rig_status(&r).state, HK_STATE_ORIGIN_FAILED);
}

/* ---- blocks and the application ---- */

static void open_resync(void)
{
    struct hk_op op = rig_write(0, 5 * REGION, 4096);

    live(HK_LINK_LOSS_CONTINUE);
    assert_true(submit(&op));
    rig_written(&r, &op, -EIO);
    settle();
    rig_expect_next(&r, &op, HK_DONE);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    rig_drain(&r);
}

static void block_takes_the_range(void **state)
{
    struct hk_op w = rig_write(0, REGION, 4096), behind = rig_write(0, REGION + 4096, 4096);
    struct hk_op b = a_block(REGION);

    (void)state;
    open_resync();
    assert_true(submit(&w));
    assert_int_equal(rig_begin(&r, &b), HK_WAIT); /* its range is being written */
    r.now.mono_ns++;
    assert_int_equal(rig_begin(&r, &behind), HK_WAIT); /* and it came first */
    rig_written(&r, &w, 0);
    rig_expect_next(&r, &b, HK_READ);
    settle();
    rig_expect_next(&r, NULL, 0);
    assert_int_equal(hk_capture_read_done(r.c, &b, 0, &r.now), HK_COPY);
    assert_true(b.lsn.v > w.lsn.v);
    rig_expect_next(&r, NULL, 0);
    memcpy(b.payload, buffer, b.length);
    hk_capture_publish(r.c, &b);
    assert_int_equal(hk_capture_copied(r.c, &b), HK_DONE);
    settle();
    rig_expect_next(&r, &behind, HK_COPY);
    assert_true(behind.lsn.v > b.lsn.v);
    rig_copy(&r, &behind, 1);
    rig_written(&r, &behind, 0);
}

/* A ring full of what waits for the standby: a block that was admitted still has its slot. */
static void blocks_are_few_and_sure(void **state)
{
    static struct hk_op blocks[6], writes[RIG_SLOTS];
    unsigned reading = 0, n = 0;
    struct hk_op *op;
    enum hk_step step;

    (void)state;
    open_resync();
    for (unsigned i = 0; i < 6; i++) {
        blocks[i] = a_block(i * REGION);
        reading += rig_begin(&r, &blocks[i]) == HK_READ;
    }
    assert_int_equal(reading, 4);
    assert_int_equal(rig_status(&r).blocks_in_flight, 4);
    for (; n < RIG_SLOTS; n++) {
        writes[n] = rig_write(1, n * 4096, 4096);
        if (!submit(&writes[n]))
            break;
        rig_written(&r, &writes[n], 0);
    }
    /* 16 slots: 4 for control records, 4 for blocks, and what opened the epoch is released. */
    assert_true(n > 0 && n <= RIG_SLOTS - 8);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(hk_capture_read_done(r.c, &blocks[i], 0, &r.now), HK_COPY);
        memcpy(blocks[i].payload, buffer, blocks[i].length);
        hk_capture_publish(r.c, &blocks[i]);
        assert_int_equal(hk_capture_copied(r.c, &blocks[i]), HK_DONE);
    }
    /* Full now: the next block has to wait, and the write that stood there before it goes first. */
    hk_capture_tick(r.c, &r.now);
    while ((op = hk_capture_next(r.c, &step, &r.now)))
        assert_int_not_equal(op->type, HK_REC_BLOCK);
    hk_capture_detach(r.c, r.lease, &r.now);
    for (unsigned i = 4; i < 6; i++) {
        rig_expect_next(&r, &blocks[i], HK_FAIL);
        assert_int_equal(blocks[i].result, -ESTALE);
    }
}

static void blocks_refused(void **state)
{
    struct hk_op b;

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    b = a_block(0);
    assert_int_equal(rig_begin(&r, &b), HK_FAIL); /* no resync is open */
    assert_int_equal(b.result, -ESHUTDOWN);
    teardown(NULL);
    open_resync();
    b = a_block(RIG_VOLUME_BYTES);
    assert_int_equal(rig_begin(&r, &b), HK_FAIL);
    b = a_block(0);
    b.length = 1 << 20;
    assert_int_equal(rig_begin(&r, &b), HK_FAIL);
    b = a_block(100);
    assert_int_equal(rig_begin(&r, &b), HK_FAIL);
    b = a_block(0);
    b.volume = 2;
    assert_int_equal(rig_begin(&r, &b), HK_FAIL);
    b = a_block(0);
    b.buffer = NULL;
    assert_int_equal(rig_begin(&r, &b), HK_FAIL);
    assert_int_equal(b.result, -EINVAL);

    /* The log is closed while a block is read: it is not put anywhere. */
    b = a_block(0);
    assert_int_equal(rig_begin(&r, &b), HK_READ);
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    assert_int_equal(hk_capture_read_done(r.c, &b, 0, &r.now), HK_FAIL);
    assert_int_equal(b.result, -ESHUTDOWN);
    assert_int_equal(rig_status(&r).blocks_in_flight, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(behind_and_back, teardown),
        cmocka_unit_test_teardown(lost_ring, teardown),
        cmocka_unit_test_teardown(barred_until_resynced, teardown),
        cmocka_unit_test_teardown(behind_and_killed, teardown),
        cmocka_unit_test_teardown(killed_before_the_gap, teardown),
        cmocka_unit_test_teardown(damaged_copy, teardown),
        cmocka_unit_test_teardown(damaged_and_slow, teardown),
        cmocka_unit_test_teardown(standby_elsewhere, teardown),
        cmocka_unit_test_teardown(closed_and_idle, teardown),
        cmocka_unit_test_teardown(told_when_begun, teardown),
        cmocka_unit_test_teardown(killed_in_a_resync, teardown),
        cmocka_unit_test_teardown(origin_error, teardown),
        cmocka_unit_test_teardown(origin_error_before_a_kill, teardown),
        cmocka_unit_test_teardown(block_takes_the_range, teardown),
        cmocka_unit_test_teardown(blocks_are_few_and_sure, teardown),
        cmocka_unit_test_teardown(blocks_refused, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
