/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A primary that has met no standby yet: one whose map is relative to a seed, and a promoted side.
 * Method: a core with a dirty map over a metadata file in memory; the records in the ring and what
 * a restart would read are looked at.
 */
#include "tests/unit/map_steps.h"

/* As promote.c writes it, over a map in which everything is stale. */
static void promote(enum hk_link_loss policy)
{
    static uint8_t packed[HK_DMAP_PAGE_STATES];
    struct hk_uuid id = rig_uuid(0x55);
    struct hk_dmap_id own;

    create(policy);
    own = hk_dmap_id(&r.super.replica_id, &r.super.peer_replica_id);
    for (uint64_t i = 0; i < REGIONS; i++)
        hk_dmap_state_set(packed, i, HK_DMAP_STALE);
    hk_dmap_map_build(&own, &(struct hk_dmap_stamp){.sequence = 1}, 0, packed,
                      r.metadata + hk_dmap_map_offset(0));
    assert_int_equal(hk_history_append(&r.super.history, &id, 2 * HK_CEILING_STEP_BYTES,
                                       HK_LSN_FIRST, HK_EPOCH_PROMOTE, 1),
                     0);
    r.super.ceiling = 2 * HK_CEILING_STEP_BYTES;
    r.super.flags = HK_SF_DEGRADED | HK_SF_FULL_COMPARE;
    r.super.mode = HK_MODE_SYNC;
    r.super.on_link_loss = policy;
    r.super.contact_timeout_ns = RIG_SECOND;
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    assert_int_equal(start(HK_START_NEW_RING), 0);
    settle();
    settle();
}

static unsigned write_alone(struct hk_op *op, unsigned count)
{
    unsigned n;

    for (n = 0; n < count && !rig_status(&r).passing; n++) {
        op[n] = rig_write(0, 4096 * n, 4096);
        assert_true(submit(&op[n]));
        assert_int_equal(rig_written(&r, &op[n], 0), HK_DONE);
    }
    return n;
}

/*
 * A promoted side with a map of its own: writes go at once, uncaptured; after a reboot, since no
 * LSN was given, captured, and past the ring's end at once. From its first standby on `block` means
 * what it says, until the resync is over.
 */
static void promoted_with_a_map(void **state)
{
    static const enum hk_link_loss policy[] = {HK_LINK_LOSS_CONTINUE, HK_LINK_LOSS_BLOCK};
    struct hk_op op[RIG_SLOTS + 1], first = rig_write(1, 0, 4096), after = rig_write(0, 0, 4096);

    for (int i = 0; i < 2; i++) {
        promote(policy[i]);
        r.cfg.on_overflow = i ? HK_OVERFLOW_BLOCK : HK_OVERFLOW_PACE;
        assert_true(rig_status(&r).passing && hk_capture_serving(r.c));
        assert_false(r.super.flags & HK_SF_FULL_COMPARE); /* the map says it itself */
        assert_true(rig_status(&r).regions_stale == REGIONS);
        assert_true(submit(&first));
        assert_int_equal(rig_written(&r, &first, 0), HK_DONE);
        settle();
        rig_new_ring(&r, 10);
        assert_int_equal(start(HK_START_NEW_RING), 0);
        settle();
        assert_false(rig_status(&r).barred || rig_status(&r).closed || !hk_capture_serving(r.c));
        assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
        assert_true(write_alone(op, RIG_SLOTS + 1) > 4);
        assert_true(rig_status(&r).passing && rig_status(&r).closed);
        /* A standby comes: the way back, and under `block` nothing is written before its end. */
        rig_attach(&r);
        meet_standby();
        offer(7);
        assert_int_equal(hk_capture_stale_all(r.c, r.lease, &r.now), 0);
        settle();
        assert_int_equal(go_back(rig_status(&r).produced.v), 0);
        settle();
        assert_int_equal(rig_status(&r).barred, i);
        assert_int_equal(submit(&after), !i);
        if (!i)
            rig_written(&r, &after, 0);
        teardown(state);
    }
}

/* Made for a seed: the resync that makes its copy consistent ends with a standby, not before. */
static void seed_ends_with_a_standby(void **state)
{
    struct hk_op op = rig_write(0, 5 * REGION, 4096);
    uint64_t end;

    (void)state;
    create(HK_LINK_LOSS_CONTINUE);
    r.super.flags |= HK_SF_STALE;
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    up(HK_START_NEW_RING);
    assert_int_equal(newest(0).type, HK_REC_RESYNC_BEGIN);
    run(&op);
    for (int i = 0; i < 4; i++) {
        rig_pass(&r, RIG_PATIENCE);
        settle();
        hk_capture_tick(r.c, &r.now);
    }
    assert_int_equal(newest(0).type, HK_REC_WRITE);
    assert_true(rig_status(&r).resync && (r.super.flags & HK_SF_STALE));
    end = rig_status(&r).produced.v;
    meet_standby();
    hk_capture_tick(r.c, &r.now);
    settle();
    assert_int_equal(newest(0).type, HK_REC_RESYNC_END);
    assert_true(newest(0).lsn >= end);
    assert_true(rig_status(&r).resync);
    drain();
    assert_false(rig_status(&r).resync || (r.super.flags & HK_SF_STALE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promoted_with_a_map),
        cmocka_unit_test_teardown(seed_ends_with_a_standby, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
