/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: from the first byte of a resync to its end a promotion means the state before it (I10),
 * whatever crashes; the pin outlives interruptions and is given up only when the replica is
 * consistent again; want of room stops the applier, never the pin. Method: the rig, with a log that
 * holds resync records made by hand; disks stop after each single operation of resync and rollback.
 */
#include "tests/unit/unit.h"

#include "proto/snapmap.h"
#include "tests/unit/group_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool all_durable(struct rig *r)
{
    return r->reported_durable == r->log.next;
}

static bool is_done(struct rig *r)
{
    return r->done;
}

static struct hk_super super;

static bool all_applied(struct rig *r)
{
    rig_durable_super(r, HK_FILE_SUPER, &super);
    return super.applied == r->log.next;
}

static struct rig *begin(uint64_t seed)
{
    struct rig *r = rig_new(seed);

    r->super.mode = HK_MODE_SYNC;
    r->super.on_link_loss = HK_LINK_LOSS_BLOCK;
    logmaker_mode(&r->log, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, RIG_T);
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 30);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    return r;
}

/* Returns where the record stands: the last consistent position. */
static uint64_t resync_begins(struct rig *r, uint64_t pass)
{
    struct hk_resync_begin b = {.pass = pass, .stale_bytes = 65536, .reason = HK_RESYNC_ORIGIN};
    uint64_t lsn = r->log.next;

    logmaker_add(&r->log, HK_REC_RESYNC_BEGIN, 0, 0, 0, &b, sizeof(b));
    rig_produced(r);
    return lsn;
}

static void blocks(struct rig *r, unsigned count)
{
    static uint8_t data[16384];

    while (count--) {
        uint64_t at = unit_random(&r->rnd) % (RIG_VOLUME_BYTES / 512 - 32) * 512;

        unit_random_bytes(&r->rnd, data, sizeof(data));
        logmaker_add(&r->log, HK_REC_BLOCK, count & 1, at, sizeof(data), data, sizeof(data));
        rig_write(r, 1);
    }
    logmaker_add(&r->log, HK_REC_BAD_RANGE, 1, 4096, 4096, NULL, 0);
    rig_produced(r);
}

static void resync_ends(struct rig *r, uint64_t pass, uint64_t begun)
{
    struct hk_resync_end e = {.pass = pass, .begin_lsn = begun};

    logmaker_add(&r->log, HK_REC_RESYNC_END, 0, 0, 0, &e, sizeof(e));
    rig_produced(r);
}

static void ask(struct rig *r)
{
    struct hk_verb v = {.kind = HK_VERB_FAILOVER, .op_id = 9, .new_epoch = {{0xe2}}};

    rig_verb(r, true, &v);
}

static void check_promoted(struct rig *r, uint64_t position)
{
    struct hk_super p;
    const struct hk_epoch *e;

    rig_durable_super(r, HK_FILE_SUPER, &super);
    rig_durable_super(r, HK_FILE_PRIMARY_MD, &p);
    assert_true(super.flags & HK_SF_PROMOTED);
    assert_false(super.flags &
                 (HK_SF_PROMOTING | HK_SF_RESYNC | HK_SF_PINNED | HK_SF_ROLLING_BACK));
    assert_int_equal(super.promote_lsn, position);
    assert_int_equal(super.history.count, 2);
    e = &super.history.epoch[1];
    assert_int_equal(e->parent_end, position);
    assert_true(e->first_lsn >= r->super.ceiling && e->first_lsn >= r->reported_durable);
    assert_int_equal(super.interval[super.interval_count - 2].to, position);
    assert_memory_equal(&p.history, &super.history, sizeof(p.history));
    assert_int_equal(p.pin_lsn, 0);
    rig_check_replica(r, position, false);
    rig_check_replica(r, position, true);
}

static void a_resync_from_begin_to_end(void **state)
{
    struct rig *r = begin(1);
    struct hk_group_status st;
    uint64_t pin;

    (void)state;
    pin = resync_begins(r, 1);
    blocks(r, 8);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    assert_true((super.flags & HK_SF_RESYNC) && (super.flags & HK_SF_PINNED));
    assert_int_equal(super.pin_lsn, pin);
    assert_int_equal(super.pin_ordinal, 1);
    assert_int_equal(super.interval[0].to, pin);
    assert_int_equal(rig_find_note(r, true, HK_NOTE_PINNED)->arg[0], pin);
    rig_check_replica(r, r->log.next, false);
    rig_status(r, true, &st);
    assert_true(st.inconsistent && st.pinned && !st.in_sync);
    assert_int_equal(st.pin_lsn.v, pin);
    assert_true(st.rollback_bytes > 0 && st.snapshot_used == st.rollback_bytes);
    assert_int_equal(st.bad_ranges, 1);
    assert_int_equal(st.loss_class, HK_LOSS_UNKNOWN);
    /* An interrupted resync keeps the first pin. */
    resync_begins(r, 2);
    blocks(r, 4);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    assert_int_equal(super.pin_lsn, pin);
    resync_ends(r, 2, pin);
    rig_write(r, 10);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    assert_false(super.flags & (HK_SF_RESYNC | HK_SF_PINNED));
    assert_int_equal(super.interval_count, 2);
    assert_int_equal(super.interval[1].to, 0);
    rig_run(r, 100 * RIG_MS);
    rig_status(r, true, &st);
    assert_false(st.inconsistent || st.pinned);
    assert_int_equal(st.snapshot_used, 0);
    assert_non_null(rig_find_note(r, true, HK_NOTE_PIN_FREED));
    rig_kill_primary(r);
    ask(r);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.error, 0);
    check_promoted(r, r->log.next);
    rig_free(r);
}

/* What the log that is durable promises: the end of it, or what was before the resync. */
static uint64_t best_position(const struct rig *r, uint64_t durable, uint64_t pin, uint64_t end)
{
    (void)r;
    if (durable <= pin || (end && durable >= end))
        return durable;
    return pin;
}

/*
 * The disks stop after `step` operations somewhere in the resync; then this side is promoted, and
 * the power goes in the middle of that as well.
 */
static bool one_crash(uint64_t seed, unsigned step, unsigned second, bool to_its_end)
{
    struct rig *r = begin(seed);
    uint64_t pin, end = 0, position, durable;
    struct hk_group_status st;
    bool over;

    r->disk_steps_left = step;
    pin = resync_begins(r, 1);
    blocks(r, 4);
    resync_begins(r, 2); /* interrupted, and begun again */
    blocks(r, 2);
    if (to_its_end) {
        resync_ends(r, 2, pin);
        end = r->log.next;
        rig_write(r, 3);
    }
    rig_run(r, 500 * RIG_MS);
    over = r->disk_steps_left != 1;
    durable = r->reported_durable;
    rig_kill_primary(r);
    rig_kill_standby(r, seed & 1);
    r->disk_steps_left = 0;
    rig_durable_super(r, HK_FILE_SUPER, &super);
    if (super.flags & HK_SF_RESYNC)
        assert_true(super.flags & HK_SF_PINNED);
    rig_start_standby(r);
    rig_run(r, 200 * RIG_MS);
    rig_status(r, true, &st);
    assert_true(st.mark.durable.v >= durable);
    durable = st.mark.durable.v;
    position = best_position(r, durable, pin, end);
    r->disk_steps_left = second;
    ask(r);
    rig_run(r, 100 * RIG_MS);
    if (!r->done) {
        rig_kill_standby(r, seed & 2);
        r->disk_steps_left = 0;
        rig_durable_super(r, HK_FILE_SUPER, &super);
        rig_start_standby(r);
        rig_run(r, 200 * RIG_MS);
        if (!(super.flags & (HK_SF_PROMOTING | HK_SF_PROMOTED))) {
            ask(r);
            assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        }
    }
    check_promoted(r, position);
    if (durable > position)
        assert_int_equal(super.loss_class, HK_LOSS_UNKNOWN);
    rig_free(r);
    return over;
}

static void promotion_at_every_step_of_a_resync(void **state)
{
    unsigned step = 2;

    (void)state;
    while (!one_crash(step, step, 2 + step % 23, false))
        step++;
    print_message("# %u steps of a resync\n", step);
    assert_true(step > 40);
    for (step = 2; !one_crash(1000 + step, step, 0, true); step += 3)
        ;
}

static void rollback_cut_off_at_every_step(void **state)
{
    (void)state;
    for (unsigned second = 2; second < 70; second++)
        one_crash(100 + second, 100000, second, false);
}

/* No room: the applier stands, the log is still taken; a failover means the pin. */
static void want_of_room_stops_the_applier(void **state)
{
    struct rig *r = rig_new(5);
    struct hk_group_status st;
    uint64_t pin, stood;

    (void)state;
    r->snapshot_bytes = 8 * 4096;
    r->super.mode = HK_MODE_SYNC;
    r->super.on_link_loss = HK_LINK_LOSS_BLOCK;
    logmaker_mode(&r->log, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, RIG_T);
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 30);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    pin = resync_begins(r, 1);
    blocks(r, 8);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_run(r, 3000 * RIG_MS);
    rig_status(r, true, &st);
    assert_int_equal(st.pin_stands, -ENOSPC);
    assert_int_equal((int64_t)rig_find_note(r, true, HK_NOTE_PIN_SPACE)->arg[0], -ENOSPC);
    assert_int_equal(rig_find_note(r, true, HK_NOTE_PIN_TIGHT)->arg[0], 65536);
    assert_int_equal(rig_find_note(r, true, HK_NOTE_PIN_TIGHT)->arg[1], 8 * 4096);
    stood = st.mark.applied.v;
    assert_true(stood < r->log.next);
    /* Nothing that is not kept was overwritten. */
    rig_kill_standby(r, true);
    rig_start_standby(r);
    rig_run(r, 3000 * RIG_MS);
    rig_status(r, true, &st);
    assert_int_equal(st.mark.applied.v, stood);
    rig_kill_primary(r);
    ask(r);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.error, 0);
    check_promoted(r, pin);
    rig_free(r);
}

/*
 * No room, but the end of the resync is durable: what was promised behind it is promoted, without
 * before-images, and whoever is cut off in that goes on to it.
 */
static void the_end_is_here_although_there_is_no_room(void **state)
{
    (void)state;
    for (unsigned step = 0; step < 40; step++) {
        struct rig *r = rig_new(20 + step);
        struct hk_group_status st;
        uint64_t pin;

        r->snapshot_bytes = step % 2 ? 8 * 4096 : 2 * 4096;
        r->super.mode = HK_MODE_SYNC;
        r->super.on_link_loss = HK_LINK_LOSS_BLOCK;
        logmaker_mode(&r->log, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, RIG_T);
        rig_start_standby(r);
        rig_start_primary(r);
        rig_write(r, 30);
        assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
        pin = resync_begins(r, 1);
        blocks(r, 8);
        resync_ends(r, 1, pin);
        rig_write(r, 5);
        assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
        rig_run(r, 1000 * RIG_MS);
        rig_status(r, true, &st);
        assert_int_equal(st.pin_stands, -ENOSPC);
        rig_kill_primary(r);
        if (step % 3 == 0) {
            rig_kill_standby(r, step & 1);
            rig_start_standby(r);
            rig_run(r, 1000 * RIG_MS);
        }
        r->disk_steps_left = step ? 1 + step : 0;
        ask(r);
        rig_run(r, 500 * RIG_MS);
        if (!r->done) {
            rig_kill_standby(r, step & 2);
            r->disk_steps_left = 0;
            rig_durable_super(r, HK_FILE_SUPER, &super);
            rig_start_standby(r);
            rig_run(r, 500 * RIG_MS);
            if (!(super.flags & (HK_SF_PROMOTING | HK_SF_PROMOTED))) {
                ask(r);
                assert_true(rig_until(r, is_done, 5000 * RIG_MS));
            }
        }
        check_promoted(r, r->log.next);
        rig_free(r);
    }
}

/* Nothing is frozen inside a resync. */
static void no_freeze_inside(void **state)
{
    struct rig *r = begin(6);
    struct hk_group_status st;

    (void)state;
    resync_begins(r, 1);
    blocks(r, 2);
    logmaker_mark(&r->log, "night", HK_MARK_FREEZE);
    blocks(r, 2);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_status(r, true, &st);
    assert_false(st.frozen);
    assert_null(rig_find_note(r, true, HK_NOTE_FROZEN));
    rig_free(r);
}

/* Metadata of version 1 can't say any of it: the applier stands, and nothing else is said. */
/* A volume grew behind the pin: who goes back to the pin has the size of then. */
static void a_pin_keeps_its_size(void **state)
{
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(64)));
    const uint64_t small = RIG_VOLUME_BYTES - 65536;
    struct hk_resize sizes = {.bytes = {RIG_VOLUME_BYTES, RIG_VOLUME_BYTES}};
    struct rig *r = rig_new(14);
    uint64_t pin;

    (void)state;
    rig_durable_super(r, HK_FILE_SUPER, &super);
    r->grows_bytes = 65536;
    super.volume[0].bytes = small;
    super.volume[0].room_bytes = RIG_VOLUME_BYTES;
    hk_super_encode(&super, slot);
    memdisk_poke(&r->disk, HK_FILE_SUPER, 0, slot, sizeof(slot));
    r->super.mode = HK_MODE_SYNC;
    r->super.on_link_loss = HK_LINK_LOSS_BLOCK;
    logmaker_mode(&r->log, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, RIG_T);
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 10);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    pin = resync_begins(r, 1);
    blocks(r, 4);
    for (int twice = 0; twice < 2; twice++) {
        logmaker_add(&r->log, HK_REC_RESIZE, 0, 0, 0, &sizes, sizeof(sizes));
        rig_produced(r);
        blocks(r, 2);
    }
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    assert_true(super.flags & HK_SF_PINNED);
    assert_int_equal(super.volume[0].bytes, RIG_VOLUME_BYTES);
    assert_int_equal(super.volume[0].prior_bytes, small);
    assert_int_equal(super.volume[1].prior_bytes, 0);
    rig_kill_primary(r);
    ask(r);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    check_promoted(r, pin);
    assert_int_equal(super.volume[0].bytes, small);
    assert_int_equal(super.volume[0].prior_bytes, 0);
    assert_int_equal(super.volume[1].bytes, RIG_VOLUME_BYTES);
    rig_free(r);
}

static void version_1_stands(void **state)
{
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(64)));
    struct rig *r = rig_new(10);
    struct hk_group_status st;
    uint64_t pin;

    (void)state;
    rig_durable_super(r, HK_FILE_SUPER, &super);
    super.version = HK_SUPER_VERSION_OLD;
    hk_super_encode(&super, slot);
    memdisk_poke(&r->disk, HK_FILE_SUPER, 0, slot, sizeof(slot));
    r->super.mode = HK_MODE_ASYNC;
    r->super.on_link_loss = HK_LINK_LOSS_CONTINUE;
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 20);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    pin = resync_begins(r, 1);
    blocks(r, 2);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_run(r, 3000 * RIG_MS);
    rig_status(r, true, &st);
    assert_int_equal(st.pin_stands, -EOPNOTSUPP);
    assert_int_equal(st.mark.applied.v, pin);
    assert_int_equal((int64_t)rig_find_note(r, true, HK_NOTE_PIN_SPACE)->arg[0], -EOPNOTSUPP);
    rig_durable_super(r, HK_FILE_SUPER, &super);
    assert_int_equal(super.version, HK_SUPER_VERSION_OLD);
    ask(r);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EOPNOTSUPP);
    rig_check_replica(r, pin, true);
    rig_free(r);
}

/* A freeze asked for meanwhile waits for the end of the resync, and gives up in the end. */
static void a_freeze_waits(void **state)
{
    struct hk_verb v = {.kind = HK_VERB_FREEZE, .op_id = 3, .name = "image"};
    struct rig *r = begin(8);
    uint64_t pin;

    (void)state;
    rig_capture(r, HK_STATE_RESYNC);
    pin = resync_begins(r, 1);
    blocks(r, 2);
    rig_verb(r, false, &v);
    rig_run(r, 2000 * RIG_MS);
    assert_false(r->done);
    assert_int_equal(r->insert.insert.request, 0);
    resync_ends(r, 1, pin);
    rig_capture(r, HK_STATE_REPLICATING);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.error, 0);
    assert_non_null(rig_find_note(r, true, HK_NOTE_FROZEN));
    rig_free(r);

    r = begin(9);
    rig_capture(r, HK_STATE_BEHIND);
    rig_verb(r, false, &v);
    rig_run(r, 61000 * RIG_MS);
    assert_true(r->done);
    assert_int_equal(r->verb_done.verb_done.error, -ETIMEDOUT);
    rig_free(r);
}

/* The state that the pin keeps, read as a restore reads it, put in the place of the replicas. */
static void check_pin_image(struct rig *r, uint64_t lsn)
{
    uint8_t *was[RIG_VOLUMES];
    struct hk_group_status st;
    uint64_t page = 1, kept = 0;
    uint32_t file;

    rig_status(r, true, &st);
    assert_true(st.pin_slot >= 0);
    file = HK_FILE_SNAPSHOT0 + (uint32_t)st.pin_slot * HK_FILES_A_SNAPSHOT;
    for (uint32_t v = 0; v < RIG_VOLUMES; v++) {
        struct memdisk_file *replica = memdisk_file(&r->disk, HK_FILE_VOLUME0 + v);
        const struct memdisk_file *before = memdisk_file(&r->disk, file + 1 + v);
        const uint8_t *index = memdisk_file(&r->disk, file)->durable + page * HK_PAGE_BYTES;

        was[v] = malloc(RIG_VOLUME_BYTES);
        memcpy(was[v], replica->cached, RIG_VOLUME_BYTES);
        for (uint64_t c = 0; c < RIG_VOLUME_BYTES / HK_SNAP_CHUNK_BYTES; c++) {
            struct hk_snap_sector sector;

            memcpy(&sector, index + hk_snap_sector_of(c) * HK_SNAP_SECTOR_BYTES, sizeof(sector));
            if (!hk_snap_bit(&sector, c))
                continue;
            memcpy(replica->cached + c * HK_SNAP_CHUNK_BYTES,
                   before->durable + c * HK_SNAP_CHUNK_BYTES, HK_SNAP_CHUNK_BYTES);
            kept++;
        }
        page += hk_snap_pages(RIG_VOLUME_BYTES);
    }
    assert_true(kept > 0);
    rig_check_replica(r, lsn, false);
    for (uint32_t v = 0; v < RIG_VOLUMES; v++) {
        memcpy(memdisk_file(&r->disk, HK_FILE_VOLUME0 + v)->cached, was[v], RIG_VOLUME_BYTES);
        free(was[v]);
    }
}

/*
 * Asked for with or_pin the pin is the image once the time is up: the resync goes on under it, its
 * end is not applied until it is released, also by a daemon that was started again.
 */
static void the_pin_is_the_image(void **state)
{
    struct hk_verb v = {.kind = HK_VERB_FREEZE,
                        .op_id = 3,
                        .name = "image",
                        .or_pin = true,
                        .wait_ns = 1000 * RIG_MS};
    struct hk_verb end = {.kind = HK_VERB_FREEZE_END, .op_id = 4, .name = "image"};

    (void)state;
    for (int restarts = 0; restarts < 3; restarts++) {
        struct rig *r = begin(20 + (uint64_t)restarts);
        struct hk_group_status st;
        uint64_t pin, last;

        rig_capture(r, HK_STATE_RESYNC);
        pin = resync_begins(r, 1);
        blocks(r, 4);
        assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
        rig_verb(r, true, &v);
        rig_run(r, 900 * RIG_MS);
        assert_false(r->done);
        assert_true(rig_until(r, is_done, 300 * RIG_MS));
        assert_int_equal(r->verb_done.verb_done.error, 0);
        assert_int_equal(r->verb_done.verb_done.arg[0], pin);
        assert_int_equal(r->verb_done.verb_done.arg[3], HK_FREEZE_SAW_PIN);
        assert_int_equal(rig_find_note(r, true, HK_NOTE_PIN_YIELDED)->arg[0], pin);
        assert_true(rig_find_note(r, true, HK_NOTE_PIN_YIELDED)->arg[1] >= 900 * RIG_MS);
        rig_status(r, true, &st);
        assert_true(st.frozen && st.freeze_of_pin && st.pinned && !st.in_sync);
        assert_int_equal(st.freeze_lsn.v, pin);
        assert_int_equal(st.loss_class, HK_LOSS_UNKNOWN);
        /* The resync goes on under it; a second image is refused. */
        blocks(r, 4);
        assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
        check_pin_image(r, pin);
        r->done = false;
        v.op_id = 5;
        rig_verb(r, true, &v);
        rig_settle(r);
        assert_int_equal(r->verb_done.verb_done.error, -EBUSY);
        v.op_id = 3;
        last = r->log.next;
        resync_ends(r, 1, pin);
        rig_write(r, 10);
        assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
        rig_run(r, 500 * RIG_MS);
        if (restarts) { /* killed, then with a power cut */
            rig_kill_standby(r, restarts == 2);
            rig_forget_notes(r);
            rig_start_standby(r);
            rig_run(r, 500 * RIG_MS);
            assert_int_equal(rig_find_note(r, true, HK_NOTE_PIN_YIELDED)->arg[0], pin);
            assert_null(rig_find_note(r, true, HK_NOTE_FROZEN));
        }
        rig_status(r, true, &st);
        assert_int_equal(st.mark.applied.v, last);
        assert_true(st.frozen && st.freeze_of_pin && st.pinned && st.inconsistent);
        check_pin_image(r, pin);
        r->done = false;
        rig_verb(r, true, &end);
        assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        assert_int_equal(r->verb_done.verb_done.error, 0);
        assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
        rig_status(r, true, &st);
        assert_false(st.frozen || st.pinned || st.inconsistent);
        rig_check_replica(r, r->log.next, false);
        rig_free(r);
    }
}

/* With or_pin, and no resync: an ordinary mark. A failover ends the image first. */
static void or_pin_without_a_resync(void **state)
{
    struct hk_verb v = {.kind = HK_VERB_FREEZE, .op_id = 3, .name = "image", .or_pin = true};
    struct rig *r = begin(30);
    uint64_t pin;

    (void)state;
    rig_verb(r, true, &v);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.error, 0);
    assert_int_equal(r->verb_done.verb_done.arg[3], HK_FREEZE_SAW_FROZEN);
    rig_free(r);

    r = begin(31);
    rig_capture(r, HK_STATE_RESYNC);
    pin = resync_begins(r, 1);
    blocks(r, 4);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_verb(r, true, &v);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.arg[3], HK_FREEZE_SAW_PIN);
    rig_kill_primary(r);
    r->done = false;
    ask(r);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    assert_int_equal(rig_find_note(r, true, HK_NOTE_FREEZE_ENDED)->arg[0], HK_FREEZE_FAILOVER);
    check_promoted(r, pin);
    rig_free(r);
}

/* A pin that is damaged is said to be, a failover is refused, the end of the resync heals it. */
static void a_damaged_pin(void **state)
{
    struct rig *r = begin(7);
    struct hk_group_status st;
    uint8_t byte = 0x5a;
    uint64_t pin;

    (void)state;
    pin = resync_begins(r, 1);
    blocks(r, 6);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_kill_standby(r, false);
    memdisk_poke(&r->disk, HK_FILE_SNAPSHOT0, 4096 + 200, &byte, 1);
    rig_start_standby(r);
    rig_run(r, 300 * RIG_MS);
    assert_non_null(rig_find_note(r, true, HK_NOTE_PIN_BROKEN));
    rig_status(r, true, &st);
    assert_true(st.pin_broken && st.inconsistent);
    ask(r);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EUCLEAN);
    rig_run(r, 3000 * RIG_MS);
    blocks(r, 2);
    resync_ends(r, 1, pin);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_kill_primary(r);
    ask(r);
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    check_promoted(r, r->log.next);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resync_from_begin_to_end),
        cmocka_unit_test(promotion_at_every_step_of_a_resync),
        cmocka_unit_test(rollback_cut_off_at_every_step),
        cmocka_unit_test(want_of_room_stops_the_applier),
        cmocka_unit_test(the_end_is_here_although_there_is_no_room),
        cmocka_unit_test(no_freeze_inside),
        cmocka_unit_test(version_1_stands),
        cmocka_unit_test(a_pin_keeps_its_size),
        cmocka_unit_test(a_freeze_waits),
        cmocka_unit_test(a_damaged_pin),
        cmocka_unit_test(the_pin_is_the_image),
        cmocka_unit_test(or_pin_without_a_resync),
    };

    return cmocka_run_group_tests_name("group_pin", tests, NULL, NULL);
}
