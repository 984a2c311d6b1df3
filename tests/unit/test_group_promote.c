/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a failover promotes exactly what was durable or acknowledged, states no better class than
 * is proven (I18), refuses the old primary afterwards (I13), and is finished by itself after a
 * crash at any point. Method: the rig; the power is cut after each single disk operation of a
 * promotion.
 */
#include "tests/unit/unit.h"

#include "proto/dmap.h"
#include "tests/unit/group_rig.h"

#include <errno.h>
#include <string.h>

static bool all_durable(struct rig *r)
{
    return r->reported_durable == r->log.next;
}

static bool is_done(struct rig *r)
{
    return r->done;
}

static bool is_promoted(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, true, &st);
    return st.promoted;
}

static struct rig *begin_with(uint64_t seed, enum hk_mode mode, enum hk_link_loss policy,
                              uint32_t region_shift)
{
    struct rig *r = rig_new(seed);

    r->region_shift = region_shift;
    r->super.mode = mode;
    r->super.on_link_loss = policy;
    logmaker_mode(&r->log, mode, policy, RIG_T);
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 40);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_run(r, 300 * RIG_MS);
    return r;
}

static struct rig *begin(uint64_t seed, enum hk_mode mode, enum hk_link_loss policy)
{
    return begin_with(seed, mode, policy, 0);
}

static void ask(struct rig *r, uint32_t fence, uint64_t fence_time_ns)
{
    struct hk_verb v = {.kind = HK_VERB_FAILOVER,
                        .op_id = 9,
                        .fence = fence,
                        .fence_time_ns = fence_time_ns,
                        .new_epoch = {{0xe2}}};

    rig_verb(r, true, &v);
}

/* The capture side's map: a sound one, and everything in it stale; the superblock says where. */
static void check_map(struct rig *r, const struct hk_super *p)
{
    const uint8_t *file = memdisk_file(&r->disk, HK_FILE_PRIMARY_MD)->durable;
    static uint8_t page[HK_DMAP_LOG_BYTES] __attribute__((aligned(8)));
    uint8_t packed[HK_DMAP_PAGE_STATES];
    struct hk_dmap_id id = hk_dmap_id(&p->replica_id, &p->peer_replica_id);
    static struct hk_dmap_load load;
    uint64_t regions = 0;

    if (!r->region_shift) {
        assert_int_equal(p->region_shift, 0);
        return;
    }
    assert_int_equal(p->region_shift, r->region_shift);
    for (uint32_t v = 0; v < p->volume_count; v++) {
        assert_int_equal(p->volume[v].first_region, regions);
        regions += hk_dmap_regions(p->volume[v].bytes, r->region_shift);
    }
    memcpy(page, file + HK_DMAP_LOG_AT, HK_DMAP_LOG_BYTES);
    hk_dmap_load_log(page, &id, p->dmap_sequence, &load);
    memcpy(page, file + HK_DMAP_MAP_AT, HK_DMAP_PAGE_BYTES);
    assert_int_equal(hk_dmap_load_map(page, &id, 0, &load, packed), HK_DMAP_PAGE_WHOLE);
    assert_int_equal(hk_dmap_load_end(&load), HK_DMAP_SOUND);
    assert_int_equal(load.marks, 0);
    for (uint64_t i = 0; i < HK_DMAP_PAGE_REGIONS; i++)
        assert_int_equal(hk_dmap_state_get(packed, i), i < regions ? HK_DMAP_STALE : HK_DMAP_CLEAN);
}

/* What must be true of every finished promotion. */
static void check_promoted(struct rig *r, uint64_t position, enum hk_loss_class class)
{
    struct hk_super s, p;
    const struct hk_epoch *e;

    rig_durable_super(r, HK_FILE_SUPER, &s);
    rig_durable_super(r, HK_FILE_PRIMARY_MD, &p);
    assert_true(s.flags & HK_SF_PROMOTED);
    assert_false(s.flags & (HK_SF_PROMOTING | HK_SF_FROZEN));
    assert_int_equal(s.promote_lsn, position);
    assert_int_equal(s.loss_class, class);
    assert_int_equal(s.history.count, 2);
    e = &s.history.epoch[1];
    assert_int_equal(e->id.b[0], 0xe2);
    assert_int_equal(e->parent_end, position);
    assert_int_equal(e->reason, HK_EPOCH_PROMOTE);
    assert_int_equal(e->first_lsn % HK_CEILING_STEP_BYTES, 0);
    assert_true(e->first_lsn >= r->super.ceiling);
    assert_int_equal(p.role, HK_ROLE_PRIMARY);
    assert_int_equal(p.flags, HK_SF_DEGRADED | HK_SF_FULL_COMPARE);
    assert_memory_equal(&p.history, &s.history, sizeof(p.history));
    assert_memory_equal(&p.replica_id, &s.replica_id, 16);
    assert_int_equal(p.ceiling, e->first_lsn);
    check_map(r, &p);
    assert_int_equal(s.interval[0].to, position);
    assert_int_equal(s.interval[1].from, e->first_lsn);
    rig_check_replica(r, position, false);
    rig_check_replica(r, position, true);
}

static void promotes_what_is_durable(void **state)
{
    struct rig *r = begin(50, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    struct hk_group_status st;
    uint64_t position = r->log.next;

    (void)state;
    ask(r, HK_FENCE_NONE, 0);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.error, 0);
    assert_int_equal(r->verb_done.verb_done.arg[0], position);
    assert_int_equal(r->verb_done.verb_done.arg[1], HK_LOSS_ZERO_PROVEN);
    assert_true(r->verb_done.verb_done.arg[3] > 0);
    check_promoted(r, position, HK_LOSS_ZERO_PROVEN);
    assert_int_equal(rig_find_note(r, true, HK_NOTE_PROMOTED)->arg[0], position);
    /* The old primary is alive and is told that it belongs to an older epoch. */
    rig_run(r, 100 * RIG_MS);
    rig_status(r, false, &st);
    assert_int_equal(st.last_refusal, HK_REFUSE_OLDER_EPOCH);
    assert_int_equal(st.role_lost, HK_REFUSE_OLDER_EPOCH);
    assert_false(st.lose_known);
    assert_non_null(rig_find_note(r, false, HK_NOTE_ROLE_LOST));
    assert_int_not_equal(st.session, HK_SESSION_UP);
    assert_false(st.in_sync);
    /* Asked again, and after a restart: the same answer. */
    ask(r, HK_FENCE_NONE, 0);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.arg[0], position);
    rig_kill_standby(r, true);
    rig_start_standby(r);
    rig_run(r, 100 * RIG_MS);
    assert_true(is_promoted(r));
    ask(r, HK_FENCE_NONE, 0);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, 0);
    assert_int_equal(r->verb_done.verb_done.arg[1], HK_LOSS_ZERO_PROVEN);
    rig_status(r, false, &st);
    assert_int_equal(st.last_refusal, HK_REFUSE_OLDER_EPOCH);
    check_promoted(r, position, HK_LOSS_ZERO_PROVEN);
    rig_free(r);
}

static void states_no_better_class_than_is_proven(void **state)
{
    static const struct {
        enum hk_mode mode;
        enum hk_link_loss policy;
        uint32_t fence;
        int64_t fence_after_t0_ns;
        enum hk_loss_class class;
    } table[] = {
        {HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, HK_FENCE_FAILED, 0, HK_LOSS_ZERO_PROVEN},
        {HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE, HK_FENCE_OK, 0, HK_LOSS_ZERO_IF_FENCED},
        {HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE, HK_FENCE_OK, RIG_T - 1, HK_LOSS_ZERO_IF_FENCED},
        {HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE, HK_FENCE_OK, RIG_T, HK_LOSS_UNKNOWN},
        {HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE, HK_FENCE_NONE, 0, HK_LOSS_UNKNOWN},
        {HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE, HK_FENCE_FAILED, 0, HK_LOSS_UNKNOWN},
        {HK_MODE_SEMISYNC, HK_LINK_LOSS_BLOCK, HK_FENCE_OK, 0, HK_LOSS_UNKNOWN},
        {HK_MODE_ASYNC, HK_LINK_LOSS_BLOCK, HK_FENCE_OK, 0, HK_LOSS_UNKNOWN},
    };

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
        for (int restarted = 0; restarted < 2; restarted++) {
            struct rig *r = begin(60 + i, table[i].mode, table[i].policy);
            enum hk_loss_class class = table[i].class;
            struct hk_group_status st;

            rig_kill_primary(r);
            rig_run(r, 3000 * RIG_MS);
            if (restarted) {
                rig_kill_standby(r, false);
                rig_start_standby(r);
                rig_run(r, 100 * RIG_MS);
                /* The wall clock may have been set while nobody watched it. */
                if (class == HK_LOSS_ZERO_IF_FENCED)
                    class = HK_LOSS_UNKNOWN;
            }
            rig_status(r, true, &st);
            ask(r, table[i].fence, st.contact_real_ns + (uint64_t)table[i].fence_after_t0_ns);
            assert_true(rig_until(r, is_done, 5000 * RIG_MS));
            assert_int_equal(r->verb_done.verb_done.arg[1], class);
            assert_int_equal(r->verb_done.verb_done.arg[3], st.contact_real_ns);
            check_promoted(r, r->log.next, class);
            rig_free(r);
        }
    }
}

/* The fence came too late; a clock that was set in between must not make it look in time. */
static void a_clock_that_was_set_proves_nothing(void **state)
{
    (void)state;
    for (int back = 0; back < 3; back++) {
        struct rig *r = begin(69, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);
        struct hk_group_status st;
        uint64_t fence;

        rig_kill_primary(r);
        rig_run(r, 3000 * RIG_MS);
        rig_status(r, true, &st);
        if (back == 1)
            r->now.real_ns -= 2500 * RIG_MS; /* fenced now, dated 500 ms after t0 */
        fence = r->now.real_ns;
        if (back == 2) {
            fence = st.contact_real_ns + 500 * RIG_MS;
            r->now.real_ns += 2000 * RIG_MS; /* dated 1500 ms before t0, by what it says now */
        }
        if (back == 0) {
            fence = st.contact_real_ns + 500 * RIG_MS;
            r->now.real_ns -= 60000 * RIG_MS; /* dated in the future */
        }
        ask(r, HK_FENCE_OK, fence);
        assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        assert_int_equal(r->verb_done.verb_done.arg[1], HK_LOSS_UNKNOWN);
        rig_free(r);
    }
}

/* The fence is dated by another thread: a moment ahead of this one's clock, it still counts. */
static void a_fence_dated_a_moment_ahead_counts(void **state)
{
    struct rig *r = begin(71, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);

    (void)state;
    rig_kill_primary(r);
    rig_run(r, 100 * RIG_MS);
    ask(r, HK_FENCE_OK, r->now.real_ns + 5 * RIG_MS);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.arg[1], HK_LOSS_ZERO_IF_FENCED);
    rig_free(r);
}

/* Semisync acknowledged what was only in memory here: it must not be dropped. */
static void takes_what_was_only_in_memory(void **state)
{
    struct rig *r = begin(70, HK_MODE_SEMISYNC, HK_LINK_LOSS_CONTINUE);
    uint64_t acked;

    (void)state;
    r->disk_stuck = true;
    rig_write(r, 200);
    rig_run(r, 300 * RIG_MS);
    acked = r->reported_acked;
    assert_int_equal(acked, r->log.next);
    assert_true(r->reported_durable < acked);
    rig_kill_primary(r);
    ask(r, HK_FENCE_NONE, 0);
    rig_run(r, 50 * RIG_MS);
    assert_false(r->done);
    r->disk_stuck = false;
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    check_promoted(r, acked, HK_LOSS_UNKNOWN);
    rig_free(r);
}

static void ends_a_freeze_first(void **state)
{
    struct rig *r = begin(71, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    struct hk_verb v = {.kind = HK_VERB_FREEZE, .op_id = 3, .name = "image"};

    (void)state;
    rig_verb(r, false, &v);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    /* Another mark lies in the log behind the first: it is passed by. */
    logmaker_mark(&r->log, "second", HK_MARK_FREEZE);
    rig_write(r, 40);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_forget_notes(r);
    rig_kill_primary(r);
    ask(r, HK_FENCE_NONE, 0);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(rig_find_note(r, true, HK_NOTE_FREEZE_ENDED)->arg[0], HK_FREEZE_FAILOVER);
    assert_null(rig_find_note(r, true, HK_NOTE_FROZEN));
    check_promoted(r, r->log.next, HK_LOSS_ZERO_PROVEN);
    rig_free(r);
}

/* The power goes after each disk operation in turn; whoever asks again gets one and the same epoch.
 */
static void crash_at_each_step(uint32_t region_shift)
{
    unsigned resumed = 0;

    for (unsigned step = 1; step < 60; step++) {
        struct rig *r = begin_with(72, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, region_shift);
        struct hk_super before;
        uint64_t position = r->log.next;
        bool was_done;

        rig_kill_primary(r);
        r->disk_steps_left = step;
        ask(r, HK_FENCE_NONE, 0);
        rig_run(r, 50 * RIG_MS);
        was_done = r->done;
        rig_kill_standby(r, step & 1);
        r->disk_steps_left = 0;
        rig_durable_super(r, HK_FILE_SUPER, &before);
        rig_start_standby(r);
        rig_run(r, 200 * RIG_MS);
        if (before.flags & (HK_SF_PROMOTING | HK_SF_PROMOTED)) {
            resumed += !(before.flags & HK_SF_PROMOTED);
            assert_true(is_promoted(r)); /* by itself */
        } else {
            assert_false(is_promoted(r));
            ask(r, HK_FENCE_NONE, 0);
            assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        }
        /* A superblock slot that was cut off may have held anything: then nothing is proven. */
        rig_durable_super(r, HK_FILE_SUPER, &before);
        if (!(step & 1))
            assert_int_equal(before.loss_class, HK_LOSS_ZERO_PROVEN);
        check_promoted(r, position, (enum hk_loss_class)before.loss_class);
        rig_free(r);
        if (was_done)
            break;
    }
    assert_true(resumed >= (region_shift ? 20 : 3));
}

static void finishes_after_any_crash(void **state)
{
    (void)state;
    crash_at_each_step(0);
    crash_at_each_step(16); /* in each write of the map, too */
}

static void refusals(void **state)
{
    struct rig *r = rig_new(73);
    struct hk_verb v = {.kind = HK_VERB_FAILOVER, .op_id = 1, .new_epoch = {{0xe2}}};

    (void)state;
    rig_start_standby(r);
    ask(r, HK_FENCE_NONE, 0); /* recovery is still running */
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EAGAIN);
    rig_run(r, 100 * RIG_MS);
    ask(r, HK_FENCE_NONE, 0); /* never met a primary */
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -ENODATA);
    rig_free(r);

    r = begin(74, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    v.new_epoch = (struct hk_uuid){{0xe1}}; /* an epoch that exists */
    rig_verb(r, true, &v);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EINVAL);
    v.new_epoch = (struct hk_uuid){{0}};
    rig_verb(r, true, &v);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EINVAL);
    rig_verb(r, false, &v); /* the primary is one already */
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EOPNOTSUPP);
    rig_free(r);
}

/* A replica that failed a write is never promoted; the journal goes on, also after a restart. */
static void a_failed_replica_is_not_promotable(void **state)
{
    struct rig *r = begin(75, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    struct hk_group_status st;
    struct hk_super super;

    (void)state;
    r->fail_file = HK_FILE_VOLUME0;
    rig_write(r, 40);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_run(r, 300 * RIG_MS);
    assert_non_null(rig_find_note(r, true, HK_NOTE_REPLICA_FAILED));
    assert_int_equal(r->fatal, 0);
    assert_true(r->reported_flags & HK_ACK_NOT_PROMOTABLE);
    rig_durable_super(r, HK_FILE_SUPER, &super);
    assert_true(super.flags & HK_SF_NOT_PROMOTABLE);
    rig_status(r, true, &st);
    assert_false(st.in_sync);
    rig_status(r, false, &st);
    assert_false(st.in_sync);
    r->fail_file = 0;
    rig_kill_standby(r, false);
    rig_start_standby(r);
    rig_write(r, 10);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    ask(r, HK_FENCE_NONE, 0);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EIO);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promotes_what_is_durable),
        cmocka_unit_test(states_no_better_class_than_is_proven),
        cmocka_unit_test(a_clock_that_was_set_proves_nothing),
        cmocka_unit_test(a_fence_dated_a_moment_ahead_counts),
        cmocka_unit_test(takes_what_was_only_in_memory),
        cmocka_unit_test(ends_a_freeze_first),
        cmocka_unit_test(finishes_after_any_crash),
        cmocka_unit_test(refusals),
        cmocka_unit_test(a_failed_replica_is_not_promotable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
