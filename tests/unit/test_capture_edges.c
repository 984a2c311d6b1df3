/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: each single condition of the capture core's checks decides alone: configurations and
 * superblocks that contradict themselves, ops and leases, what stands in the way of a mark, of a
 * clean stop, of a ring taken over. Method: one sound situation each; one thing is spoilt at a
 * time.
 */
#include "tests/unit/capture_rig.h"

#include "proto/hash.h"

static int init_with(struct rig *r, const struct hk_capture_cfg *cfg, const struct hk_super *super)
{
    return hk_capture_init(r->c, cfg, r->ring, HK_START_NEW_RING, super, &r->now);
}

static void test_configurations(void **state)
{
    struct hk_capture_cfg cfg;
    struct rig r;

    (void)state;
    rig_start(&r);
#define SPOILT(change)                                            \
    do {                                                          \
        cfg = r.cfg;                                              \
        change;                                                   \
        assert_int_equal(init_with(&r, &cfg, &r.super), -EINVAL); \
    } while (0)
    SPOILT(cfg.mode = (enum hk_mode)0);
    SPOILT(cfg.mode = (enum hk_mode)4);
    SPOILT(cfg.on_link_loss = (enum hk_link_loss)3);
    SPOILT(cfg.volume_count = 0);
    SPOILT(cfg.ceiling_step_bytes = 100);
#undef SPOILT
    rig_free(&r);
}

static void test_superblocks(void **state)
{
    struct hk_super super;
    struct rig r;

    (void)state;
    rig_start(&r);
#define SPOILT(change)                                            \
    do {                                                          \
        super = r.super;                                          \
        change;                                                   \
        assert_int_equal(init_with(&r, &r.cfg, &super), -EINVAL); \
    } while (0)
    SPOILT(super.history.count = 0);
    SPOILT(super.history.epoch[0].ordinal = 0);
    SPOILT(super.clean_lsn = 64);
#undef SPOILT
    rig_free(&r);
}

static void test_rings(void **state)
{
    const struct hk_uuid id = rig_uuid(1);
    struct hk_super empty;
    struct hk_record *slot;
    struct hk_op op = rig_write(1, 0, 4096);
    struct hk_uuid epoch = rig_uuid(4);
    struct rig r;

    (void)state;
    rig_start(&r);
    assert_int_equal(hk_ring_format(r.ring, 0, RIG_SLOTS, 1ull << 62, &id, &id), -EINVAL);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_meta(&r);
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &id, &r.super), 0);
    empty = r.super;
    empty.history.count = 0;
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &id, &empty), -EUCLEAN);
    /* Whole, and not of this group's volumes. */
    slot = (struct hk_record *)(uintptr_t)rig_slot(&r, op.slot);
    slot->volume = 2;
    slot->header_hash = hk_record_header_hash(slot, hk_epoch_seed(&epoch));
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &id, &r.super), -EUCLEAN);
    slot->volume = 1;
    slot->offset = RIG_VOLUME_BYTES - 512;
    slot->header_hash = hk_record_header_hash(slot, hk_epoch_seed(&epoch));
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &id, &r.super), -EUCLEAN);
    slot->offset = RIG_VOLUME_BYTES + 512;
    slot->header_hash = hk_record_header_hash(slot, hk_epoch_seed(&epoch));
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &id, &r.super), -EUCLEAN);
    assert_int_equal(hk_capture_init(r.c, &r.cfg, r.ring, HK_START_OLD_RING, &r.super, &r.now),
                     -EUCLEAN);
    rig_free(&r);
}

/* Positions that are no record boundaries would make a superblock that nothing can read. */
static void test_ring_positions(void **state)
{
    const struct hk_uuid id = rig_uuid(1);
    struct hk_ring_producer *p, sound;
    struct hk_op op = rig_write(1, 0, 4096);
    struct rig r;

    (void)state;
    rig_start(&r);
    rig_up(&r);
    rig_drain(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    rig_drain(&r);
    rig_meta(&r);
    p = (void *)((uint8_t *)r.ring + HK_PAGE_BYTES);
    sound = *p;
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &id, &r.super), 0);
#define SPOILT(change)                                                                  \
    do {                                                                                \
        *p = sound;                                                                     \
        change;                                                                         \
        assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &id, &r.super), -EUCLEAN); \
    } while (0)
    SPOILT(p->released -= 8);
    SPOILT(p->acked -= 8; p->durable -= 64);
    SPOILT(p->durable -= 8);
    SPOILT(p->prev_bytes = 100);
    SPOILT(p->prev_bytes = HK_RECORD_BYTES_MAX + 64);
    SPOILT(p->released += 64);
    SPOILT(p->acked += 64);
    SPOILT(p->acked -= 64);
    SPOILT(p->tail = p->head + 1);
    SPOILT(p->head += RIG_SLOTS + 1);
    SPOILT(p->lease = UINT64_MAX);
#undef SPOILT
    rig_free(&r);
}

static void test_ops(void **state)
{
    struct hk_op bad[] = {
        {.type = HK_REC_WRITE, .flags = 0x80, .length = 512},
        {.type = HK_REC_FLUSH, .offset = 512},
        {.type = HK_REC_ZEROES, .offset = RIG_VOLUME_BYTES + 512ull, .length = 512},
        {.type = HK_REC_GAP, .length = 512},
    };
    struct rig r;

    (void)state;
    rig_start(&r);
    rig_up(&r);
    for (unsigned i = 0; i < HK_ARRAY_SIZE(bad); i++)
        assert_int_equal(rig_begin(&r, &bad[i]), HK_FAIL);
    rig_free(&r);
}

static int insert(struct rig *r, uint64_t lease)
{
    struct hk_mark mark = {.name = "night", .kind = HK_MARK_PLAIN};
    struct hk_lsn lsn, end;

    return hk_capture_insert(r->c, lease, HK_REC_MARK, &mark, sizeof(mark), &r->now, &lsn, &end);
}

/* The lease that holds, one that never was, and the same after it was given back. */
static void test_leases(void **state)
{
    const struct hk_uuid peer = rig_uuid(20);
    const struct hk_lsn zero = HK_LSN(0);
    struct rig r;

    (void)state;
    rig_start(&r);
    rig_up(&r);
    for (int given_back = 0; given_back < 2; given_back++) {
        uint64_t lease = r.lease + !given_back;

        assert_int_equal(insert(&r, lease), -ESTALE);
        assert_int_equal(hk_capture_bind_peer(r.c, lease, &peer), -ESTALE);
        assert_int_equal(hk_capture_check_copy(r.c, lease, zero, &r.now), -ESTALE);
        assert_int_equal(hk_capture_report(r.c, lease, zero, zero, zero, 0, &r.now), -ESTALE);
        hk_capture_detach(r.c, lease, &r.now);
        assert_int_equal(rig_status(&r).attached, !given_back);
        hk_capture_detach(r.c, r.lease, &r.now);
        assert_false(rig_status(&r).attached);
    }
    rig_free(&r);
}

/* Whatever ends the log, or is about to, refuses marks for good; whatever delays it, for now. */
static void test_marks(void **state)
{
    struct hk_op op = rig_write(0, 0, 4096);
    const struct hk_ring_header *h;
    struct rig r;

    (void)state;
    rig_start(&r);
    rig_up(&r);
    hk_capture_stop(r.c, &r.now);
    assert_int_equal(insert(&r, r.lease), -ESHUTDOWN);
    rig_free(&r);

    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    h = r.ring;
    ((uint8_t *)r.ring + h->payload_offset)[rig_slot(&r, 0)->payload_len ? 4096 : 0] ^= 1;
    if (hk_capture_check_copy(r.c, r.lease, op.lsn, &r.now) == -EUCLEAN)
        assert_int_equal(insert(&r, r.lease), -ESHUTDOWN);
    else
        fail_msg("the damage was not where it was meant to be");
    rig_free(&r);

    /* The ring is lost: passing, or barred. */
    for (int block = 0; block < 2; block++) {
        rig_start(&r);
        r.cfg.on_link_loss = block ? HK_LINK_LOSS_BLOCK : HK_LINK_LOSS_CONTINUE;
        rig_up(&r);
        op = rig_write(0, 0, 4096);
        assert_int_equal(rig_run(&r, &op), HK_WAIT);
        rig_new_ring(&r, 10);
        rig_up(&r);
        assert_int_equal(insert(&r, r.lease), -ESHUTDOWN);
        /* No record of this log is anywhere: nothing to look at, nothing to wait for. */
        assert_int_equal(hk_capture_check_copy(r.c, r.lease, op.lsn, &r.now), -ERANGE);
        assert_true(hk_capture_stop(r.c, &r.now));
        rig_meta(&r);
        assert_false(r.super.flags & HK_SF_CLEAN);
        rig_free(&r);
    }
}

/* Only one of mode, policy and T is another than what the standby was told last. */
static void test_each_of_the_mode(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) {
        struct rig r;

        rig_start(&r);
        r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
        rig_up(&r);
        rig_drain(&r);
        rig_meta(&r);
        if (which == 0)
            r.cfg.mode = HK_MODE_ASYNC;
        else if (which == 1)
            r.cfg.on_link_loss = HK_LINK_LOSS_CONTINUE;
        else
            r.cfg.contact_timeout_ns /= 2;
        assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
        rig_meta(&r);
        rig_attach(&r);
        /* The stricter of both holds until the standby has stored the new one. */
        assert_int_equal(r.super.mode, HK_MODE_SYNC);
        assert_int_equal(r.super.on_link_loss, HK_LINK_LOSS_BLOCK);
        assert_int_equal(r.super.contact_timeout_ns, 5 * RIG_SECOND);
        rig_drain(&r);
        rig_meta(&r);
        assert_int_equal(r.super.mode, r.cfg.mode);
        assert_int_equal(r.super.on_link_loss, r.cfg.on_link_loss);
        assert_int_equal(r.super.contact_timeout_ns, r.cfg.contact_timeout_ns);
        rig_free(&r);
    }
}

/* Degraded in an earlier life means nothing to who does not wait or never goes on alone. */
static void test_degraded_before(void **state)
{
    (void)state;
    for (int block = 0; block < 2; block++) {
        struct rig r;

        rig_start(&r);
        r.super.flags |= HK_SF_DEGRADED;
        r.super.degraded_time_ns = 5;
        hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
        if (block)
            r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
        else
            r.cfg.mode = HK_MODE_ASYNC;
        rig_up(&r);
        assert_int_not_equal(rig_status(&r).state, HK_STATE_DEGRADED);
        rig_drain(&r);
        rig_meta(&r);
        assert_false(r.super.flags & HK_SF_DEGRADED);
        rig_free(&r);
    }
}

/* A flush of the origins that failed, or that came while something was under way, is no flush. */
static void test_flush_before_the_stop(void **state)
{
    struct hk_op op = rig_write(0, 0, 4096);
    struct rig r;

    (void)state;
    rig_start(&r);
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    hk_capture_origins_flushed(r.c, 0, &r.now);
    rig_copy(&r, &op, 1);
    assert_int_equal(rig_written(&r, &op, 0), HK_WAIT);
    rig_drain(&r);
    rig_expect_next(&r, &op, HK_DONE);
    assert_false(hk_capture_stop(r.c, &r.now));
    hk_capture_origins_flushed(r.c, -EIO, &r.now);
    assert_int_equal(rig_status(&r).state, HK_STATE_ORIGIN_FAILED);
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_meta(&r);
    assert_false(r.super.flags & HK_SF_CLEAN);
    rig_free(&r);
}

/* Until what an earlier life published is on the origins nothing stops, and no flush counts. */
static void test_redo_before_the_stop(void **state)
{
    struct hk_op op = rig_write(0, 0, 4096);
    struct hk_redo redo;
    struct rig r;

    (void)state;
    rig_start(&r);
    rig_up(&r);
    rig_drain(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    rig_copy(&r, &op, 1);
    rig_meta(&r);
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    rig_meta(&r);
    rig_attach(&r);
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_false(hk_capture_stop(r.c, &r.now));
    assert_true(hk_capture_redo_next(r.c, &redo));
    hk_capture_redo_done(r.c, 0, &r.now);
    rig_drain(&r);
    assert_false(hk_capture_stop(r.c, &r.now));
    hk_capture_origins_flushed(r.c, 0, &r.now);
    assert_true(hk_capture_stop(r.c, &r.now));
    rig_free(&r);
}

/* A hand-over's gap record says that all of the parent is durable; any says why it is there. */
static void test_gap_reasons(void **state)
{
    static const enum hk_epoch_reason reason[] = {HK_EPOCH_PROMOTE, HK_EPOCH_SWITCHOVER,
                                                  HK_EPOCH_GAP_BEHIND};

    (void)state;
    for (unsigned i = 0; i < HK_ARRAY_SIZE(reason); i++) {
        const struct hk_uuid id = rig_uuid(5);
        const struct hk_ring_header *h;
        struct hk_gap gap;
        struct rig r;

        rig_start(&r);
        assert_int_equal(hk_history_append(&r.super.history, &id, 1 << 20, 8192, reason[i], 2), 0);
        r.super.ceiling = 1 << 20;
        r.super.flags = 0;
        hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
        rig_up(&r);
        h = r.ring;
        memcpy(&gap, (const uint8_t *)r.ring + h->payload_offset, sizeof(gap));
        if (i < 2)
            assert_int_equal(gap.last_durable, 8192);
        assert_int_equal(gap.reason, reason[i]);
        rig_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configurations),
        cmocka_unit_test(test_superblocks),
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_ring_positions),
        cmocka_unit_test(test_ops),
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_each_of_the_mode),
        cmocka_unit_test(test_flush_before_the_stop),
        cmocka_unit_test(test_redo_before_the_stop),
        cmocka_unit_test(test_gap_reasons),
        cmocka_unit_test(test_degraded_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
