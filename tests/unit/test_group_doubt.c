/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A standby that starts with one of its two superblock slots damaged, or with a torn journal: what
 * is gone may have been relied on, so it says less, and ends what it can no longer vouch for.
 */
#include "tests/unit/group_rig.h"

#include "tests/unit/unit.h"

#include <string.h>

static bool all_applied(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, true, &st);
    return st.mark.applied.v == r->log.next;
}

static bool is_ready(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, true, &st);
    return st.ready;
}

static bool is_frozen(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, true, &st);
    return st.frozen;
}

static bool is_promoted(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, true, &st);
    return st.promoted;
}

/* In sync under `block`: a loss of 0 is proven. */
static struct rig *begin_proven(uint64_t seed)
{
    struct rig *r = rig_new(seed);
    struct hk_group_status st;

    r->super.mode = HK_MODE_SYNC;
    r->super.on_link_loss = HK_LINK_LOSS_BLOCK;
    logmaker_mode(&r->log, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, 1000 * RIG_MS);
    rig_produced(r);
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 20);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_run(r, 1500 * RIG_MS);
    rig_status(r, true, &st);
    assert_int_equal(st.loss_class, HK_LOSS_ZERO_PROVEN);
    return r;
}

static uint32_t newest_slot(struct rig *r)
{
    struct hk_super super;

    rig_durable_super(r, HK_FILE_SUPER, &super);
    return super.sequence & 1;
}

static void damage(struct rig *r, uint32_t slot)
{
    struct memdisk_file *f = memdisk_file(&r->disk, HK_FILE_SUPER);

    memset(f->durable + (size_t)slot * HK_SUPER_BYTES + 100, 0xff, 4096);
    memset(f->cached + (size_t)slot * HK_SUPER_BYTES + 100, 0xff, 4096);
}

/* "Full compare required" may have been in it. Not forgotten by starting again. */
static void class_is_unknown_until_a_primary_is_met(void **state)
{
    struct rig *r = begin_proven(1);
    struct hk_group_status st;

    (void)state;
    r->control_off = r->cut = true;
    rig_kill_primary(r);
    rig_kill_standby(r, false);
    damage(r, newest_slot(r));
    rig_start_standby(r);
    assert_true(rig_until(r, is_ready, 5000 * RIG_MS));
    rig_run(r, 100 * RIG_MS);
    rig_status(r, true, &st);
    assert_int_equal(st.loss_class, HK_LOSS_UNKNOWN);
    assert_true(st.super.flags & HK_SF_IN_DOUBT);
    assert_non_null(rig_find_note(r, true, HK_NOTE_IN_DOUBT));
    assert_null(rig_find_note(r, true, HK_NOTE_DOUBT_OVER));
    rig_kill_standby(r, true);
    rig_start_standby(r);
    assert_true(rig_until(r, is_ready, 5000 * RIG_MS));
    rig_status(r, true, &st);
    assert_int_equal(st.loss_class, HK_LOSS_UNKNOWN);
    r->control_off = r->cut = false;
    rig_start_primary(r);
    rig_write(r, 5);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_status(r, true, &st);
    assert_false(st.super.flags & HK_SF_IN_DOUBT);
    assert_non_null(rig_find_note(r, true, HK_NOTE_DOUBT_OVER));
    assert_int_equal(st.loss_class, HK_LOSS_ZERO_PROVEN);
    rig_free(r);
}

/* The lost slot may have said that the freeze had ended, and the applier may have moved on. */
static void a_freeze_is_ended(void **state)
{
    struct rig *r = begin_proven(2);
    struct hk_verb v = {.kind = HK_VERB_FREEZE, .op_id = 7, .name = "night"};
    struct hk_group_status st;
    uint32_t frozen;

    (void)state;
    rig_verb(r, false, &v);
    assert_true(rig_until(r, is_frozen, 5000 * RIG_MS));
    frozen = newest_slot(r);
    v.kind = HK_VERB_FREEZE_END;
    rig_verb(r, true, &v);
    rig_write(r, 5);
    rig_settle(r);
    while (newest_slot(r) == frozen)
        rig_run(r, RIG_MS);
    rig_kill_standby(r, false);
    damage(r, !frozen);
    rig_forget_notes(r);
    rig_start_standby(r);
    /* At no moment, be it before the end is durable: whoever reads the image asks now. */
    for (int i = 0; i < 20; i++) {
        r->disk_steps_left = 2; /* one completion */
        rig_settle(r);
        rig_status(r, true, &st);
        assert_false(st.frozen);
    }
    r->disk_steps_left = 0;
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    assert_non_null(rig_find_note(r, true, HK_NOTE_FREEZE_ENDED));
    rig_check_replica(r, r->log.next, true);
    rig_free(r);
}

/*
 * Promoted, and the newest slot is gone: what is left promotes once more. By then the new primary
 * may have written the replica, so nothing older may be redone over it.
 */
static void redo_round(uint64_t seed)
{
    struct rig *r = begin_proven(seed);
    struct hk_verb v = {.kind = HK_VERB_FAILOVER, .op_id = 9, .new_epoch = {{0x77}}};
    struct memdisk_file *f;
    uint8_t mine[4096];

    r->disk.shuffle = true;
    rig_write(r, 60);
    rig_run(r, seed * RIG_MS / 4);
    rig_kill_primary(r);
    rig_verb(r, true, &v);
    assert_true(rig_until(r, is_promoted, 5000 * RIG_MS));
    rig_kill_standby(r, false);
    for (uint32_t i = 0; i < RIG_VOLUMES; i++) {
        f = memdisk_file(&r->disk, HK_FILE_VOLUME0 + i);
        memset(f->durable, 0xa7, RIG_VOLUME_BYTES);
        memset(f->cached, 0xa7, RIG_VOLUME_BYTES);
    }
    damage(r, newest_slot(r));
    rig_start_standby(r);
    assert_true(rig_until(r, is_promoted, 5000 * RIG_MS));
    memset(mine, 0xa7, sizeof(mine));
    for (uint32_t i = 0; i < RIG_VOLUMES; i++) {
        f = memdisk_file(&r->disk, HK_FILE_VOLUME0 + i);
        for (uint64_t at = 0; at < RIG_VOLUME_BYTES; at += sizeof(mine))
            assert_memory_equal(f->cached + at, mine, sizeof(mine));
    }
    rig_free(r);
}

static void nothing_is_redone_over_a_new_primary(void **state)
{
    (void)state;
    for (uint64_t seed = 3; seed < 40; seed++)
        redo_round(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(class_is_unknown_until_a_primary_is_met),
        cmocka_unit_test(a_freeze_is_ended),
        cmocka_unit_test(nothing_is_redone_over_a_new_primary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
