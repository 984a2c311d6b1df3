/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: while the standby is away or slow the log goes through the spool, and all of it arrives, in
 * order, without a gap; what was released is durable somewhere. Method: the rig with a spool and a
 * ring of 2 MiB; every frame that leaves is compared with the log, and nothing is ever asked for
 * that is neither in the ring nor in the spool's window.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/group_rig.h"
#include "tests/unit/unit.h"

static bool all_durable(struct rig *r)
{
    return r->reported_durable == r->log.next;
}

static bool has_room(struct rig *r)
{
    return r->log.next - r->reported_released < r->ring_bytes - (200 << 10);
}

static struct rig *begin(uint64_t seed)
{
    struct rig *r = rig_new(seed);

    r->spool = true;
    r->super.mode = HK_MODE_ASYNC;
    r->super.on_link_loss = HK_LINK_LOSS_CONTINUE;
    logmaker_mode(&r->log, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, RIG_T);
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 40);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    return r;
}

/* As the application would: it waits when the ring is full. */
static bool write_bytes(struct rig *r, uint64_t bytes)
{
    uint64_t to = r->log.next + bytes;

    while (r->log.next < to) {
        if (!rig_until(r, has_room, 2000 * RIG_MS))
            return false;
        rig_write(r, 4);
    }
    return true;
}

static void heal(struct rig *r)
{
    r->cut = r->control_off = false;
    assert_true(rig_until(r, all_durable, 60000 * RIG_MS));
    rig_check_replica(r, r->log.next, false);
}

static void cut_link(struct rig *r)
{
    r->cut = true;
    rig_run(r, 3 * RIG_T);
}

static void more_than_the_ring(void **state)
{
    struct rig *r = begin(1);
    struct hk_group_status st;

    cut_link(r);
    assert_true(write_bytes(r, 9 << 20));
    rig_run(r, 2 * RIG_T);
    rig_status(r, false, &st);
    assert_int_equal(st.ladder, HK_LADDER_SPOOL);
    assert_int_equal(st.state, HK_STATE_SPOOLING);
    assert_true(st.spool_lsn_bytes > (6 << 20) && st.spool_used > (6 << 20));
    assert_true(st.lag_bytes > (8 << 20));
    /* The oldest record is not in the ring any more: its age is still the true one. */
    assert_true(st.lag_ns >= 2 * RIG_T && st.lag_ns < 30 * RIG_T);
    heal(r);
    rig_run(r, HK_LADDER_CALM_NS + 3 * RIG_T);
    rig_status(r, false, &st);
    assert_int_equal(st.ladder, HK_LADDER_RING);
    assert_int_equal(st.state, HK_STATE_REPLICATING);
    assert_non_null(rig_find_note(r, false, HK_NOTE_SPOOLING));
    assert_non_null(rig_find_note(r, false, HK_NOTE_SPOOLING_OVER));
    assert_null(rig_find_note(r, false, HK_NOTE_SPOOL_FULL));
    rig_free(r);
}

/* Losses while it catches up, and writes go on: what is sent again may lie in either. */
static void catches_up_under_load(void **state)
{
    struct rig *r = begin(2);

    cut_link(r);
    assert_true(write_bytes(r, 6 << 20));
    r->cut = false;
    r->loss = 10;
    for (int i = 0; i < 40; i++) {
        assert_true(write_bytes(r, 200 << 10));
        rig_run(r, 3 * RIG_MS);
    }
    r->loss = 0;
    heal(r);
    rig_free(r);
}

static void replicator_restarts(void **state)
{
    struct rig *r = begin(3);

    cut_link(r);
    for (int i = 0; i < 4; i++) {
        assert_true(write_bytes(r, 2 << 20));
        rig_kill_primary(r);
        rig_start_primary(r);
    }
    assert_true(r->reported_released > r->reported_durable);
    heal(r);
    rig_free(r);
}

/* The ring is gone: what the spool has is sent, in the old epoch, then RETURN is asked there. */
static bool returns(struct rig *r)
{
    return r->returned != 0;
}

static bool session_up(struct rig *r)
{
    return rig_find_note(r, false, HK_NOTE_SESSION_UP) != NULL;
}

static void ring_is_lost(void **state)
{
    struct rig *r = begin(4);
    uint64_t released;

    cut_link(r);
    assert_true(write_bytes(r, 7 << 20));
    released = r->reported_released;
    rig_kill_primary(r);
    r->ring_lost = true;
    r->super.region_shift = 22;
    r->cut = false;
    /* The connection comes after recovery; then what was asked of the disk takes its time. */
    r->control_off = true;
    rig_start_primary(r);
    rig_run(r, 10 * RIG_MS);
    assert_non_null(rig_find_note(r, false, HK_NOTE_SPOOL_RECOVERED));
    r->spool_stuck = true;
    r->control_off = false;
    rig_forget_notes(r);
    assert_true(rig_until(r, session_up, 20000 * RIG_MS));
    rig_run(r, 5 * RIG_T);
    assert_int_equal(r->returned, 0);
    r->spool_stuck = false;
    assert_true(rig_until(r, returns, 20000 * RIG_MS));
    assert_true(r->returned >= released);
    rig_run(r, 2 * RIG_T);
    rig_check_replica(r, r->returned, false);
    rig_free(r);
}

/* Full: the ring fills, the application waits; with room again all goes on. */
static void full(void **state)
{
    struct rig *r = begin(5);

    cut_link(r);
    assert_false(write_bytes(r, 40 << 20));
    assert_non_null(rig_find_note(r, false, HK_NOTE_SPOOL_FULL));
    heal(r);
    assert_true(write_bytes(r, 1 << 20));
    heal(r);
    rig_free(r);
}

/* A write fails: the ring alone goes on, what was durable in the spool is sent. */
static void write_fails(void **state)
{
    struct rig *r = begin(6);

    cut_link(r);
    assert_true(write_bytes(r, 5 << 20));
    r->spool_disk.fail_at = r->spool_disk.done_count + 3;
    assert_false(write_bytes(r, 20 << 20));
    assert_non_null(rig_find_note(r, false, HK_NOTE_SPOOL_FAILED));
    assert_int_equal(rig_find_note(r, false, HK_NOTE_SPOOL_FAILED)->arg[1], 1);
    heal(r);
    assert_true(write_bytes(r, 3 << 20));
    heal(r);
    rig_free(r);
}

static bool checked(struct rig *r)
{
    return r->checked_lsn != 0;
}

/* It rots: the capture side is asked to look, nothing of it is sent, all before it is. */
static void rots(void **state)
{
    struct rig *r = begin(7);
    static uint8_t junk[4096];

    cut_link(r);
    assert_true(write_bytes(r, 8 << 20));
    memset(junk, 0x77, sizeof(junk));
    memdisk_poke(&r->spool_disk, HK_FILE_SPOOL_SEGMENT0 + 1, 1 << 20, junk, sizeof(junk));
    r->cut = false;
    assert_true(rig_until(r, checked, 60000 * RIG_MS));
    assert_true(r->checked_lsn < r->reported_released);
    assert_true(r->checked_lsn >= r->reported_durable);
    assert_non_null(rig_find_note(r, false, HK_NOTE_SPOOL_DAMAGED));
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_the_ring),
        cmocka_unit_test(catches_up_under_load),
        cmocka_unit_test(replicator_restarts),
        cmocka_unit_test(ring_is_lost),
        cmocka_unit_test(full),
        cmocka_unit_test(write_fails),
        cmocka_unit_test(rots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
