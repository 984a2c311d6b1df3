/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a primary and a standby do the main job together: the log becomes durable and is applied,
 * through losses, kills, power cuts and silence; nothing is reported durable that a power cut would
 * take. Method: the rig (group_rig.h) with real core, store and group between two played ends.
 */
#include "tests/unit/unit.h"

#include "tests/unit/group_rig.h"

#include <errno.h>
#include <string.h>

static bool all_durable(struct rig *r)
{
    return r->reported_durable == r->log.next;
}

/* Random records, and the primary knows that the standby has them on disk. */
static void write_durably(struct rig *r, unsigned count)
{
    rig_write(r, count);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
}

static bool all_applied(struct rig *r)
{
    struct hk_group_status st;

    if (!r->s)
        return false;
    rig_status(r, true, &st);
    return st.mark.applied.v == r->log.next;
}

static struct rig *begin(uint64_t seed, enum hk_mode mode, enum hk_link_loss policy)
{
    struct rig *r = rig_new(seed);

    r->super.mode = mode;
    r->super.on_link_loss = policy;
    logmaker_mode(&r->log, mode, policy, RIG_T);
    rig_start_standby(r);
    rig_start_primary(r);
    return r;
}

static void carries_the_log(void **state)
{
    struct rig *r = begin(1, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    struct hk_group_status p, s;
    struct hk_super super;

    (void)state;
    write_durably(r, 400);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_check_replica(r, r->log.next, false);
    rig_check_replica(r, r->log.next, true);
    assert_int_equal(r->bound.b[0], 2);
    rig_run(r, 400 * RIG_MS);
    rig_status(r, false, &p);
    rig_status(r, true, &s);
    assert_int_equal(p.session, HK_SESSION_UP);
    assert_int_equal(p.session_id, s.session_id);
    assert_true(p.in_sync && s.in_sync);
    assert_true(p.lose_known && s.lose_known);
    assert_int_equal(p.lose_bytes, 0);
    assert_int_equal(s.lose_bytes, 0);
    assert_int_equal(s.loss_class, HK_LOSS_ZERO_PROVEN);
    assert_int_equal(p.mark.applied.v, r->log.next);
    rig_durable_super(r, HK_FILE_SUPER, &super);
    assert_int_equal(super.mode, HK_MODE_SYNC);
    assert_int_equal(super.applied, r->log.next);
    assert_int_equal(super.peer_replica_id.b[0], 1);
    assert_int_equal(super.history.count, 1);
    assert_int_equal(super.interval[0].from, HK_LSN_FIRST);
    assert_non_null(rig_find_note(r, true, HK_NOTE_MODE));
    rig_free(r);
}

/* More than the window and the journal hold at once, over a line that loses. */
static void long_log_over_a_bad_line(void **state)
{
    struct rig *r = begin(2, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE);

    (void)state;
    r->loss = 2;
    r->disk.shuffle = true;
    for (int i = 0; i < 40; i++) {
        rig_write(r, 100);
        rig_run(r, 20 * RIG_MS);
    }
    assert_true(r->log.next > RIG_SEGMENTS * RIG_SEGMENT_BYTES * 3 / 2);
    assert_true(rig_until(r, all_durable, 60000 * RIG_MS));
    assert_true(rig_until(r, all_applied, 10000 * RIG_MS));
    rig_check_replica(r, r->log.next, true);
    rig_free(r);
}

static void kills_and_power_cuts(void **state)
{
    for (uint64_t seed = 10; seed < 30; seed++) {
        struct rig *r = begin(seed, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
        uint64_t said = 0;

        r->disk.shuffle = seed & 1;
        r->loss = seed % 3;
        for (int i = 0; i < 12; i++) {
            rig_write(r, unit_random(&r->rnd) % 60);
            rig_run(r, unit_random(&r->rnd) % (30 * RIG_MS));
            assert_true(r->reported_durable >= said);
            said = r->reported_durable;
            switch (unit_random(&r->rnd) % 4) {
            case 0:
                rig_kill_standby(r, false);
                rig_start_standby(r);
                break;
            case 1:
                rig_kill_standby(r, true);
                rig_start_standby(r);
                break;
            case 2:
                rig_kill_primary(r);
                rig_start_primary(r);
                break;
            default: break;
            }
        }
        assert_true(rig_until(r, all_durable, 30000 * RIG_MS));
        assert_true(rig_until(r, all_applied, 10000 * RIG_MS));
        assert_int_equal(r->fatal, 0);
        rig_check_replica(r, r->log.next, true);
        rig_free(r);
    }
    (void)state;
}

static bool session_up(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, false, &st);
    return st.session == HK_SESSION_UP && st.contact;
}

static void silence_is_never_in_sync(void **state)
{
    struct rig *r = begin(3, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status p, s;

    (void)state;
    write_durably(r, 10);
    rig_run(r, 300 * RIG_MS);
    rig_status(r, true, &s);
    assert_true(s.in_sync);
    assert_int_equal(s.loss_class, HK_LOSS_ZERO_IF_FENCED);
    r->cut = true;
    rig_run(r, 1100 * RIG_MS);
    rig_status(r, true, &s);
    rig_status(r, false, &p);
    assert_false(s.in_sync || p.in_sync || s.lose_known || s.contact || p.contact);
    assert_int_equal(s.loss_class, HK_LOSS_UNKNOWN);
    assert_true(s.contact_real_ns + 1000 * RIG_MS < r->now.real_ns);
    assert_non_null(rig_find_note(r, true, HK_NOTE_CONTACT_LOST));
    assert_non_null(rig_find_note(r, false, HK_NOTE_CONTACT_LOST));
    /* The line heals: it goes on by itself. */
    rig_write(r, 10);
    rig_status(r, false, &p);
    assert_true(p.lose_bytes > 0 && p.lose_ns > 0);
    r->cut = false;
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    assert_true(rig_until(r, session_up, 5000 * RIG_MS));
    rig_run(r, 300 * RIG_MS);
    rig_status(r, true, &s);
    assert_true(s.in_sync);
    rig_free(r);
}

/* A short cut of frames and control: the old session goes on when only frames come back. */
static void session_outlives_its_control(void **state)
{
    struct rig *r = begin(4, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    uint32_t session;

    (void)state;
    write_durably(r, 10);
    rig_status(r, true, &st);
    session = st.session_id;
    r->control_off = r->cut = true;
    rig_run(r, 3000 * RIG_MS);
    rig_write(r, 10);
    r->cut = false;
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_status(r, true, &st);
    assert_int_equal(st.session_id, session);
    assert_non_null(rig_find_note(r, true, HK_NOTE_CONTACT_BACK));
    rig_free(r);
}

/*
 * The primary went on alone: t0 must not move until all of that is here, although there is contact,
 * and although the standby only ever hears good news afterwards.
 */
static bool is_bound(struct rig *r)
{
    return r->bound.b[0] != 0;
}

/* The capture side was killed before the standby it was told of was on disk: it is told again. */
static void binds_again(void **state)
{
    struct rig *r = begin(6, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);

    (void)state;
    write_durably(r, 10);
    assert_true(is_bound(r));
    memset(&r->bound, 0, sizeof(r->bound));
    memset(&r->super.peer_replica_id, 0, sizeof(r->super.peer_replica_id));
    rig_capture(r, HK_STATE_REPLICATING); /* the same life: it is under way */
    rig_run(r, 500 * RIG_MS);
    assert_false(is_bound(r));
    r->lease++;
    rig_capture(r, HK_STATE_REPLICATING);
    assert_true(rig_until(r, is_bound, 5000 * RIG_MS));
    write_durably(r, 10);
    rig_free(r);
}

static void degraded_is_not_covered_by_contact(void **state)
{
    struct rig *r = begin(5, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    uint64_t t0;

    (void)state;
    write_durably(r, 10);
    rig_run(r, 300 * RIG_MS);
    rig_status(r, true, &st);
    t0 = st.contact_real_ns;
    assert_true(t0 > 0);
    rig_capture(r, HK_STATE_DEGRADED);
    r->disk_stuck = true; /* contact, but nothing becomes durable */
    rig_write(r, 10);
    rig_run(r, 900 * RIG_MS);
    rig_status(r, true, &st);
    assert_true(st.contact);
    assert_false(st.in_sync);
    assert_true(st.contact_real_ns <= t0 + 250 * RIG_MS);
    t0 = st.contact_real_ns;
    rig_capture(r, HK_STATE_REPLICATING); /* says the primary, too early */
    rig_run(r, 900 * RIG_MS);
    rig_status(r, true, &st);
    assert_false(st.in_sync);
    assert_int_equal(st.contact_real_ns, t0);
    r->disk_stuck = false;
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_run(r, 300 * RIG_MS);
    rig_status(r, true, &st);
    assert_true(st.in_sync && st.contact_real_ns > t0);
    rig_free(r);
}

/* The disk hangs with writes outstanding: pings alone do not move t0 (the primary degrades anyway).
 */
static void a_stall_does_not_move_t0(void **state)
{
    struct rig *r = begin(6, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    uint64_t stuck;

    (void)state;
    write_durably(r, 10);
    rig_run(r, 300 * RIG_MS);
    r->disk_stuck = true;
    rig_write(r, 1);
    rig_settle(r);
    stuck = r->now.real_ns;
    rig_run(r, 1500 * RIG_MS);
    rig_status(r, true, &st);
    assert_true(st.contact);
    assert_true(st.contact_real_ns <= stuck + 10 * RIG_MS);
    assert_false(st.in_sync);
    rig_free(r);
}

/* With a capture side that echoes, an ack is only called seen once capture has taken its contact.
 */
static void seen_means_capture_knows(void **state)
{
    struct rig *r = begin(7, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    uint64_t t0;

    (void)state;
    write_durably(r, 10);
    rig_run(r, 500 * RIG_MS);
    rig_status(r, true, &st);
    assert_true(st.in_sync);
    r->takes_reports = false; /* they lie in its socket */
    rig_run(r, 200 * RIG_MS);
    rig_status(r, true, &st);
    t0 = st.contact_real_ns;
    rig_run(r, 1200 * RIG_MS);
    rig_status(r, true, &st);
    assert_true(st.contact && !st.in_sync);
    assert_true(st.contact_real_ns <= t0 + 300 * RIG_MS);
    rig_free(r);
}

/* A weaker mode is not reported durable before the superblock knows it. */
static void a_mode_is_stored_before_it_is_reported(void **state)
{
    struct rig *r = begin(8, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    struct hk_super super;
    uint64_t lsn;
    int checked = 0;

    (void)state;
    write_durably(r, 5);
    lsn = r->log.next;
    logmaker_mode(&r->log, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE, RIG_T);
    rig_produced(r);
    for (int i = 0; i < 2000 && r->reported_durable <= lsn; i++) {
        rig_run(r, RIG_MS / 4);
        rig_durable_super(r, HK_FILE_SUPER, &super);
        if (r->reported_durable > lsn) {
            assert_int_equal(super.mode, HK_MODE_ASYNC);
            checked++;
        }
    }
    assert_int_equal(checked, 1);
    rig_free(r);
}

static bool all_acked(struct rig *r)
{
    return r->reported_acked == r->log.next;
}

/* In semisync a write waits for the ack of its record: it leaves at once, not after a delay. */
static void semisync_is_acknowledged_at_once(void **state)
{
    struct rig *r = begin(36, HK_MODE_SEMISYNC, HK_LINK_LOSS_CONTINUE);
    uint64_t begun;

    (void)state;
    write_durably(r, 5);
    rig_run(r, 50 * RIG_MS);
    r->disk_stuck = true;
    begun = r->now.mono_ns;
    logmaker_write(&r->log, 0, 0, 512, &r->rnd);
    rig_produced(r);
    assert_true(rig_until(r, all_acked, 100 * RIG_MS));
    assert_true(r->now.mono_ns - begun < 2 * RIG_MS + RIG_MS / 10); /* the line, there and back */
    assert_true(r->reported_durable < r->log.next);
    rig_free(r);
}

static void bad_record_ends_the_session(void **state)
{
    struct rig *r = begin(9, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    uint32_t session;

    (void)state;
    write_durably(r, 5);
    rig_status(r, true, &st);
    session = st.session_id;
    r->flip_lsn = r->log.next + 100;
    logmaker_write(&r->log, 0, 0, 4096, &r->rnd);
    rig_produced(r);
    rig_run(r, 50 * RIG_MS);
    assert_non_null(rig_find_note(r, true, HK_NOTE_BAD_RECORD));
    assert_non_null(rig_find_note(r, false, HK_NOTE_SESSION_DOWN));
    assert_true(r->reported_durable < r->log.next);
    r->flip_lsn = 0;
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_status(r, true, &st);
    assert_int_not_equal(st.session_id, session);
    assert_true(st.data_bad_record > 0);
    rig_free(r);
}

static bool copy_checked(struct rig *r)
{
    return r->checked_lsn != 0;
}

static bool path_suspected(struct rig *r)
{
    return rig_find_note(r, false, HK_NOTE_PATH_SUSPECT) != NULL;
}

/* Refused twice, and the own copy is damaged: it is said, and nothing more is sent. */
static void own_copy_is_bad(void **state)
{
    struct rig *r = begin(9, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE);
    const struct rig_note *note;
    struct hk_group_status st;
    uint64_t lsn;

    (void)state;
    write_durably(r, 5);
    lsn = r->log.next;
    logmaker_write(&r->log, 0, 0, 4096, &r->rnd);
    r->log.bytes[lsn - r->log.first + 100] ^= 1;
    rig_produced(r);
    assert_true(rig_until(r, copy_checked, 5000 * RIG_MS));
    assert_int_equal(r->checked_lsn, lsn);
    note = rig_find_note(r, false, HK_NOTE_REFUSED);
    assert_non_null(note);
    assert_int_equal(note->arg[0], HK_REFUSE_COPY);
    assert_int_equal(note->arg[1], lsn);
    assert_null(rig_find_note(r, false, HK_NOTE_PATH_SUSPECT));
    rig_status(r, true, &st);
    assert_int_equal(st.data_bad_record, 2); /* not before the second time, not after it */
    rig_run(r, 200 * RIG_MS);
    rig_status(r, true, &st);
    assert_int_equal(st.data_bad_record, 2);
    rig_status(r, false, &st);
    assert_int_equal(st.own_copy_bad, 1);
    assert_int_not_equal(st.session, HK_SESSION_UP);
    assert_int_equal(r->reported_durable, lsn);
    rig_free(r);
}

/* Refused twice, and the own copy is whole: somewhere on the way bytes change. */
static void own_copy_is_good(void **state)
{
    struct rig *r = begin(9, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    uint64_t lsn;

    (void)state;
    write_durably(r, 5);
    lsn = r->log.next;
    logmaker_write(&r->log, 0, 0, 4096, &r->rnd);
    r->flip_lsn = lsn + 100;
    rig_produced(r);
    assert_true(rig_until(r, path_suspected, 5000 * RIG_MS));
    assert_int_equal(rig_find_note(r, false, HK_NOTE_PATH_SUSPECT)->arg[0], lsn);
    assert_int_equal(rig_find_note(r, false, HK_NOTE_PATH_SUSPECT)->arg[1], 2);
    assert_int_equal(r->checked_lsn, 0);
    r->flip_lsn = 0;
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_status(r, false, &st);
    assert_true(st.own_copy_good > 0);
    assert_int_equal(st.own_copy_bad, 0);
    rig_free(r);
}

/* The same for a record that is whole but was not written behind the one before it. */
static void bad_chain_ends_the_session(void **state)
{
    struct rig *r = begin(9, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE);
    const struct rig_note *note;
    struct hk_group_status st;
    struct hk_record *rec;
    uint64_t lsn;

    (void)state;
    write_durably(r, 5);
    lsn = r->log.next;
    rec = (struct hk_record *)(void *)(r->log.bytes + (lsn - r->log.first));
    logmaker_write(&r->log, 0, 0, 4096, &r->rnd);
    rec->prev_bytes += 64;
    rec->header_hash = hk_record_header_hash(rec, hk_epoch_seed(&r->log.epoch.id));
    rig_produced(r);
    rig_run(r, 50 * RIG_MS);
    note = rig_find_note(r, true, HK_NOTE_BAD_RECORD);
    assert_non_null(note);
    assert_int_equal(note->arg[0], lsn);
    assert_int_equal(note->arg[1], HK_RECORD_BAD_PREV);
    assert_int_equal(r->reported_acked, lsn);
    assert_int_equal(r->reported_durable, lsn);
    rec->prev_bytes -= 64;
    rec->header_hash = hk_record_header_hash(rec, hk_epoch_seed(&r->log.epoch.id));
    /* Also across a restart: recovery knows the size of the last record. */
    rig_kill_standby(r, false);
    rig_start_standby(r);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_status(r, true, &st);
    assert_int_equal(st.data_bad_chain, 0);
    rig_free(r);
}

static void refusals(void **state)
{
    struct rig *r = begin(31, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    struct hk_super super;

    (void)state;
    write_durably(r, 5);
    /* Full compare: refused on both sides, and the standby writes it down. */
    rig_kill_primary(r);
    r->super.flags |= HK_SF_FULL_COMPARE;
    rig_start_primary(r);
    rig_run(r, 50 * RIG_MS);
    rig_status(r, false, &st);
    assert_int_equal(st.last_refusal, HK_REFUSE_FULL_COMPARE);
    assert_int_not_equal(st.session, HK_SESSION_UP);
    assert_false(st.lose_known);
    rig_durable_super(r, HK_FILE_SUPER, &super);
    assert_true(super.flags & HK_SF_FULL_COMPARE);
    rig_free(r);
}

static void behind_is_written_down(void **state)
{
    struct rig *r = begin(32, HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    struct hk_super super;

    (void)state;
    write_durably(r, 5);
    rig_capture(r, HK_STATE_BEHIND);
    rig_run(r, 300 * RIG_MS);
    rig_durable_super(r, HK_FILE_SUPER, &super);
    assert_true(super.flags & HK_SF_FULL_COMPARE);
    rig_status(r, true, &st);
    assert_int_equal(st.loss_class, HK_LOSS_UNKNOWN);
    rig_free(r);
}

static void standby_that_lost_its_journal_is_found_out(void **state)
{
    struct rig *r = begin(33, HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE);
    struct hk_group_status st;
    struct hk_uuid bound;

    (void)state;
    write_durably(r, 5);
    rig_kill_standby(r, false);
    for (uint32_t i = 0; i < RIG_SEGMENTS; i++) {
        struct memdisk_file *f = memdisk_file(&r->disk, HK_FILE_SEGMENT0 + i);

        memset(f->cached, 0, f->bytes);
        memset(f->durable, 0, f->bytes);
        f->name[0] = f->name_durable[0] = 0;
    }
    bound = r->super.peer_replica_id;
    rig_format(r);
    r->super.peer_replica_id = bound;
    rig_start_standby(r);
    rig_run(r, 50 * RIG_MS);
    rig_status(r, false, &st);
    assert_int_equal(st.last_refusal, HK_REFUSE_LOST_DURABLE);
    assert_int_not_equal(st.session, HK_SESSION_UP);
    rig_status(r, true, &st);
    assert_false(st.lose_known);
    rig_free(r);
}

static void journal_failure_is_final(void **state)
{
    struct rig *r = begin(34, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    uint64_t durable;

    (void)state;
    rig_write(r, 5);
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_run(r, 20 * RIG_MS);
    durable = r->reported_durable;
    r->disk.fail_at = r->disk.done_count + 1;
    rig_write(r, 5);
    rig_run(r, 100 * RIG_MS);
    assert_true(r->fatal != 0);
    assert_int_equal(r->reported_durable, durable);
    rig_free(r);
}

static void stop_is_orderly(void **state)
{
    struct rig *r = begin(35, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK);
    struct hk_verb v = {.kind = HK_VERB_STOP, .op_id = 5};
    struct hk_group_status st;

    (void)state;
    rig_write(r, 50);
    rig_run(r, 3 * RIG_MS);
    rig_verb(r, true, &v);
    rig_run(r, 20 * RIG_MS);
    assert_true(r->done);
    assert_int_equal(r->verb_done.verb_done.op_id, 5);
    rig_status(r, false, &st);
    assert_true(rig_find_note(r, false, HK_NOTE_SESSION_DOWN) != NULL);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_the_log),
        cmocka_unit_test(long_log_over_a_bad_line),
        cmocka_unit_test(kills_and_power_cuts),
        cmocka_unit_test(silence_is_never_in_sync),
        cmocka_unit_test(session_outlives_its_control),
        cmocka_unit_test(degraded_is_not_covered_by_contact),
        cmocka_unit_test(a_stall_does_not_move_t0),
        cmocka_unit_test(seen_means_capture_knows),
        cmocka_unit_test(a_mode_is_stored_before_it_is_reported),
        cmocka_unit_test(semisync_is_acknowledged_at_once),
        cmocka_unit_test(bad_record_ends_the_session),
        cmocka_unit_test(own_copy_is_bad),
        cmocka_unit_test(own_copy_is_good),
        cmocka_unit_test(bad_chain_ends_the_session),
        cmocka_unit_test(refusals),
        cmocka_unit_test(binds_again),
        cmocka_unit_test(behind_is_written_down),
        cmocka_unit_test(standby_that_lost_its_journal_is_found_out),
        cmocka_unit_test(journal_failure_is_final),
        cmocka_unit_test(stop_is_orderly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
