/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: each single condition decides alone in what the dirty map, the way back and a resync are
 * asked (I6): geometries that contradict the superblock or its memory, leases that are not the
 * one, regions that are none, blocks beyond every bound, ops given up while they wait.
 * Method: one sound situation each; one thing is spoilt at a time, and then the sound one works.
 */
#include "tests/unit/map_rig.h"

/* A write whose origin failed: one stale region, a resync that has begun. */
static void open_resync(void)
{
    struct hk_op op = rig_write(0, 5 * REGION, 4096);

    live(HK_LINK_LOSS_CONTINUE);
    assert_int_equal(rig_begin(&r, &op), HK_WAIT);
    settle();
    rig_expect_next(&r, &op, HK_COPY);
    rig_copy(&r, &op, 0x5a);
    rig_written(&r, &op, -EIO);
    settle();
    rig_expect_next(&r, &op, HK_DONE);
    rig_drain(&r);
}

static int init_with(const struct hk_capture_cfg *cfg, const struct hk_super *super)
{
    return hk_capture_init(r.c, cfg, r.ring, HK_START_NEW_RING, super, &r.now);
}

static void geometries(void **state)
{
    struct hk_capture_cfg cfg;
    struct hk_super super;

    (void)state;
    create(HK_LINK_LOSS_CONTINUE);
    assert_true(hk_capture_dirty_bytes(&r.cfg) > 0);
#define SPOILT(change)                                      \
    do {                                                    \
        cfg = r.cfg;                                        \
        super = r.super;                                    \
        change;                                             \
        assert_int_equal(init_with(&cfg, &super), -EINVAL); \
    } while (0)
    SPOILT(super.version = 1);
    SPOILT(cfg.region_shift = SHIFT + 1);
    SPOILT(cfg.region_shift = super.region_shift = HK_REGION_SHIFT_MIN - 1);
    SPOILT(cfg.region_shift = super.region_shift = HK_REGION_SHIFT_MAX + 1);
    SPOILT(cfg.dirty_memory = NULL);
    SPOILT(cfg.dirty_pages = NULL);
    SPOILT(cfg.dirty_pages_bytes -= HK_DMAP_PAGE_BYTES);
    SPOILT(cfg.hot_regions_max = HK_HOT_REGIONS_MAX + 1);
    SPOILT(super.volume[1].first_region++);
#undef SPOILT
    cfg = r.cfg;
    cfg.region_shift = HK_REGION_SHIFT_MAX + 1;
    assert_int_equal(hk_capture_dirty_bytes(&cfg), 0);
    cfg.region_shift = 0; /* no map: nothing to keep, and ops may be as long as they like */
    assert_int_equal(hk_capture_dirty_bytes(&cfg), 0);
    assert_int_equal(hk_capture_op_bytes_max(&cfg, 12345), UINT32_MAX & ~511u);
    up(HK_START_NEW_RING);
}

/* What comes with another lease than the one that is attached changes nothing. */
static void leases(void **state)
{
    struct hk_capture_stale s;
    uint64_t end;

    (void)state;
    open_resync();
    end = rig_status(&r).produced.v;
    assert_int_equal(hk_capture_stale_next(r.c, 0, 0, &s), 0);
    for (int gone = 0; gone < 2; gone++) {
        uint64_t lease = gone ? r.lease : r.lease + 1;

        if (gone)
            hk_capture_detach(r.c, r.lease, &r.now);
        assert_int_equal(hk_capture_return(r.c, lease, HK_LSN(end), &r.now), -ESTALE);
        assert_int_equal(hk_capture_stale_all(r.c, lease, &r.now), -ESTALE);
        assert_int_equal(hk_capture_heal(r.c, lease, s.volume, s.offset, s.event,
                                         rig_status(&r).produced, &r.now),
                         -ESTALE);
    }
    assert_int_equal(rig_status(&r).stale_bytes, REGION);
    assert_false(rig_status(&r).closed);
}

static int heal(const struct hk_capture_stale *s, uint64_t end)
{
    return hk_capture_heal(r.c, r.lease, s->volume, s->offset, s->event, HK_LSN(end), &r.now);
}

/* Only the very region, with the very event, by something that has been read or copied since. */
static void heals(void **state)
{
    struct hk_capture_stale s, bad;
    uint64_t end;

    (void)state;
    open_resync();
    end = rig_status(&r).produced.v;
    assert_int_equal(hk_capture_stale_next(r.c, 0, 0, &s), 0);
    assert_int_equal(s.offset, 5 * REGION);
    assert_int_equal(hk_capture_stale_next(r.c, 2, 0, &bad), -ENOENT);
    assert_int_equal(hk_capture_stale_next(r.c, 1, 0, &bad), -ENOENT);
    assert_int_equal(hk_capture_stale_next(r.c, 0, 6 * REGION, &bad), -ENOENT);
    assert_int_equal(hk_capture_stale_next(r.c, 0, UINT64_MAX, &bad), -ENOENT);
#define SPOILT(change, want)                                  \
    do {                                                      \
        uint64_t at = end;                                    \
                                                              \
        bad = s;                                              \
        change;                                               \
        assert_int_equal(heal(&bad, at), want);               \
        assert_int_equal(rig_status(&r).stale_bytes, REGION); \
    } while (0)
    SPOILT(bad.volume = 2, -EINVAL);
    SPOILT(bad.offset = RIG_VOLUME_BYTES, -EINVAL);
    SPOILT(bad.volume = 1, -EAGAIN);
    SPOILT(bad.offset = 4 * REGION, -EAGAIN);
    SPOILT(bad.offset = 6 * REGION, -EAGAIN);
    SPOILT(bad.offset += 4096, -EAGAIN);
    SPOILT(bad.event++, -EAGAIN);
    SPOILT(bad.event += 1ull << 32, -EAGAIN);
    SPOILT(at = end + 64, -ERANGE);       /* of the future */
    SPOILT(at = s.after.v - 64, -ERANGE); /* of before it became stale */
    SPOILT((bad.event++, at = s.after.v - 64), -EAGAIN);
#undef SPOILT
    assert_int_equal(heal(&s, end), 0);
    assert_int_equal(heal(&s, end), -EAGAIN); /* it is being healed: no stale region stands there */
    rig_drain(&r);
    settle();
    assert_int_equal(rig_status(&r).stale_bytes, 0);
}

/* Before the resync has begun nobody hashes, and so nothing can be healed. */
static void too_early(void **state)
{
    struct hk_capture_stale s = {.volume = 0, .offset = 0, .event = 1};

    (void)state;
    live(HK_LINK_LOSS_CONTINUE);
    assert_int_equal(hk_capture_stale_next(r.c, 0, 0, &s), -EAGAIN);
    assert_int_equal(heal(&s, rig_status(&r).produced.v), -EAGAIN);
    assert_int_equal(hk_capture_return(r.c, r.lease, rig_status(&r).produced, &r.now), -EALREADY);
}

static void blocks(void **state)
{
    static struct hk_op op[70];
    struct hk_op b, w = rig_write(0, 9 * REGION, 4096);
    unsigned reading = 0;

    (void)state;
    open_resync();
#define SPOILT(change)                                \
    do {                                              \
        b = a_block(0);                               \
        change;                                       \
        assert_int_equal(rig_begin(&r, &b), HK_FAIL); \
        assert_int_equal(b.result, -EINVAL);          \
    } while (0)
    SPOILT(b.flags = 1);
    SPOILT(b.length = 0);
    SPOILT(b.offset = RIG_VOLUME_BYTES + 512);
    SPOILT(b.offset = RIG_VOLUME_BYTES - 512);
    SPOILT(b.length = 1000);
#undef SPOILT
    /* The volume's very last block is one. */
    b = a_block(RIG_VOLUME_BYTES - sizeof(buffer));
    assert_int_equal(rig_begin(&r, &b), HK_READ);
    assert_int_equal(hk_capture_read_done(r.c, &b, 0, &r.now), HK_COPY);
    memcpy(b.payload, buffer, b.length);
    hk_capture_publish(r.c, &b);
    assert_int_equal(hk_capture_copied(r.c, &b), HK_DONE);
    rig_drain(&r);

    /* One that waits for its range has its room set aside; given up, it gives that back. */
    assert_int_equal(rig_begin(&r, &w), HK_WAIT);
    settle();
    rig_expect_next(&r, &w, HK_COPY);
    rig_copy(&r, &w, 1);
    b = a_block(9 * REGION);
    assert_int_equal(rig_begin(&r, &b), HK_WAIT);
    assert_int_equal(rig_status(&r).blocks_in_flight, 1);
    assert_true(hk_capture_cancel(r.c, &b));
    assert_int_equal(rig_status(&r).blocks_in_flight, 0);
    assert_false(hk_capture_cancel(r.c, &b));
    assert_int_equal(rig_written(&r, &w, 0), HK_WAIT);
    rig_drain(&r);
    rig_expect_next(&r, &w, HK_DONE);

    /* 64 may wait, no more. */
    for (unsigned i = 0; i < HK_ARRAY_SIZE(op); i++) {
        enum hk_step step;

        op[i] = a_block(i % 64 * (uint64_t)REGION);
        step = rig_begin(&r, &op[i]);
        reading += step == HK_READ;
        if (step == HK_FAIL) {
            assert_int_equal(op[i].result, -EAGAIN);
            assert_int_equal(i, reading + 64);
            break;
        }
    }
    assert_int_equal(reading, 4);
    assert_true(hk_capture_cancel(r.c, &op[30])); /* one without a credit */
    /* The log closes: those that wait are told, those being read are told when they were. */
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0); /* twice says nothing more */
    for (unsigned told = 0; told < 63; told++) {
        enum hk_step step;
        struct hk_op *gone = hk_capture_next(r.c, &step, &r.now);

        assert_non_null(gone);
        assert_int_equal(step, HK_FAIL);
        assert_int_equal(gone->result, -ESHUTDOWN);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(hk_capture_read_done(r.c, &op[i], 0, &r.now), HK_FAIL);
    assert_int_equal(rig_status(&r).blocks_in_flight, 0);
}

/* Blocks that wait for their range are told as well, and what was set aside for them is free. */
static void credited_and_closed(void **state)
{
    struct hk_op w = rig_write(0, 9 * REGION, 4096), b = a_block(9 * REGION);

    (void)state;
    open_resync();
    assert_int_equal(rig_begin(&r, &w), HK_WAIT);
    settle();
    rig_expect_next(&r, &w, HK_COPY);
    rig_copy(&r, &w, 1);
    assert_int_equal(rig_begin(&r, &b), HK_WAIT);
    assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
    rig_expect_next(&r, &b, HK_FAIL);
    assert_int_equal(b.result, -ESHUTDOWN);
    assert_int_equal(rig_status(&r).blocks_in_flight, 0);
    rig_written(&r, &w, 0);
}

/* One more transaction in the activity log, with these two marks; then a start. */
static void two_marks(uint32_t region0, uint32_t region1, uint32_t mark)
{
    static uint32_t slot[HK_DMAP_SLOTS];
    struct hk_dmap_id id;
    struct hk_dmap_stamp stamp = {.sequence = HK_DMAP_LOG_PAGES + 1, .other = 1};
    struct hk_dmap_update update[2];

    create(HK_LINK_LOSS_CONTINUE);
    id = hk_dmap_id(&r.super.replica_id, &r.super.peer_replica_id);
    r.super.dmap_sequence = 0;
    r.super.flags &= ~(uint32_t)HK_SF_CLEAN;
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    slot[0] = hk_dmap_entry_make(region0, mark);
    slot[1] = hk_dmap_entry_make(region1, mark);
    for (uint32_t i = 0; i < 2; i++)
        update[i] = (struct hk_dmap_update){.slot = i, .entry = slot[i]};
    hk_dmap_log_build(&id, &stamp, slot, update, 2,
                      r.metadata + hk_dmap_log_offset(stamp.sequence));
    assert_int_equal(start(HK_START_NEW_RING), 0);
}

/* Marks that contradict one another prove that something is wrong: everything may differ. */
static void marks_that_cannot_be(void **state)
{
    static const struct {
        uint32_t region[2];
        bool believed;
    } rows[] = {{{5, 9}, true},
                {{5, 5}, false},
                {{5, REGIONS}, false},
                {{REGIONS - 1, 0}, true},
                {{HK_DMAP_REGIONS_MAX - 1, 0}, false}};

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
        if (i > 0)
            teardown(NULL);
        two_marks(rows[i].region[0], rows[i].region[1], HK_DMAP_MARK_HOT);
        settle();
        assert_int_equal(rig_status(&r).stale_bytes,
                         rows[i].believed ? 2 * REGION : REGIONS * (uint64_t)REGION);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(geometries, teardown),
        cmocka_unit_test_teardown(leases, teardown),
        cmocka_unit_test_teardown(marks_that_cannot_be, teardown),
        cmocka_unit_test_teardown(heals, teardown),
        cmocka_unit_test_teardown(too_early, teardown),
        cmocka_unit_test_teardown(blocks, teardown),
        cmocka_unit_test_teardown(credited_and_closed, teardown),
    };

    return cmocka_run_group_tests_name("map_edges", tests, NULL, NULL);
}
