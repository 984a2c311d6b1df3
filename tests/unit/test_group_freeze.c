/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a frozen image is the log's prefix at its mark, exactly, for as long as it stands; it ends
 * declared and durable (I14); one at a time; it survives a restart. Method: the rig; while frozen,
 * the log goes on and the replica is compared with the prefix again and again.
 */
#include "tests/unit/unit.h"

#include "tests/unit/group_rig.h"

#include <errno.h>
#include <string.h>

static bool all_durable(struct rig *r)
{
    return r->reported_durable == r->log.next;
}

static bool all_applied(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, true, &st);
    return st.mark.applied.v == r->log.next;
}

static bool frozen(struct rig *r)
{
    struct hk_group_status st;

    rig_status(r, true, &st);
    return st.frozen;
}

static bool not_frozen(struct rig *r)
{
    return !frozen(r);
}

static bool is_done(struct rig *r)
{
    return r->done;
}

static struct rig *begin(uint64_t seed)
{
    struct rig *r = rig_new(seed);

    r->super.mode = HK_MODE_SYNC;
    r->super.on_link_loss = HK_LINK_LOSS_BLOCK;
    logmaker_mode(&r->log, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, RIG_T);
    rig_start_standby(r);
    rig_start_primary(r);
    rig_write(r, 50);
    assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
    rig_run(r, 5 * RIG_MS);
    return r;
}

static struct hk_verb verb(enum hk_verb_kind kind, uint64_t op, const char *name)
{
    struct hk_verb v = {.kind = kind, .op_id = op};

    strncpy(v.name, name, sizeof(v.name) - 1);
    return v;
}

static void ask(struct rig *r, bool at_standby, enum hk_verb_kind kind, const char *name)
{
    struct hk_verb v = verb(kind, 77, name);

    rig_verb(r, at_standby, &v);
}

/* From either site, with the log going on behind the mark. */
static void stands_exactly_at_its_mark(void **state)
{
    (void)state;
    for (int at_standby = 0; at_standby < 2; at_standby++) {
        struct rig *r = begin(40 + (uint64_t)at_standby);
        struct hk_super super;
        uint64_t end;

        ask(r, at_standby, HK_VERB_FREEZE, "nightly");
        rig_write(r, 30);
        assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        assert_int_equal(r->verb_done.verb_done.error, 0);
        assert_int_equal(r->verb_done.verb_done.op_id, 77);
        assert_int_equal(r->verb_done.verb_done.arg[3], 2);
        end = r->verb_done.verb_done.arg[1];
        assert_int_equal(r->verb_done.verb_done.arg[0], end - 192);
        assert_true(r->verb_done.verb_done.arg[2] > 0);
        assert_true(frozen(r));
        rig_durable_super(r, HK_FILE_SUPER, &super);
        assert_int_equal(super.applied, end);
        assert_int_equal(super.freeze_lsn, end);
        assert_string_equal(super.freeze_name, "nightly");
        for (int i = 0; i < 10; i++) {
            rig_write(r, 20);
            rig_run(r, 50 * RIG_MS);
            rig_check_replica(r, end, false);
            rig_check_replica(r, end, true);
        }
        assert_true(all_durable(r)); /* receiving goes on behind it */
        assert_true(r->reported_flags & HK_ACK_FROZEN);
        /* A second one is refused, a wrong name ends nothing. */
        ask(r, at_standby, HK_VERB_FREEZE, "second");
        rig_run(r, 50 * RIG_MS);
        assert_true(r->done);
        assert_int_equal(r->verb_done.verb_done.error, -EBUSY);
        ask(r, true, HK_VERB_FREEZE_END, "second");
        rig_settle(r);
        assert_int_equal(r->verb_done.verb_done.error, -ENOENT);
        assert_true(frozen(r));
        ask(r, true, HK_VERB_FREEZE_END, "nightly");
        assert_true(rig_until(r, is_done, 1000 * RIG_MS));
        assert_int_equal(r->verb_done.verb_done.error, 0);
        assert_int_equal(rig_find_note(r, true, HK_NOTE_FREEZE_ENDED)->arg[0], HK_FREEZE_RELEASED);
        assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
        rig_check_replica(r, r->log.next, true);
        /* And the next one is possible, once the primary has heard. */
        rig_run(r, 10 * RIG_MS);
        ask(r, at_standby, HK_VERB_FREEZE, "third");
        assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        assert_int_equal(r->verb_done.verb_done.error, 0);
        rig_free(r);
    }
}

static void survives_a_restart(void **state)
{
    (void)state;
    for (int power = 0; power < 2; power++) {
        struct rig *r = begin(44);
        struct hk_group_status st;
        uint64_t end;

        ask(r, false, HK_VERB_FREEZE, "keep");
        assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        end = r->verb_done.verb_done.arg[1];
        rig_write(r, 30);
        assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
        rig_kill_standby(r, power);
        rig_forget_notes(r);
        rig_start_standby(r);
        rig_run(r, 300 * RIG_MS);
        assert_int_equal(rig_find_note(r, true, HK_NOTE_FROZEN)->arg[0], end); /* said again */
        rig_status(r, true, &st);
        assert_true(st.frozen && st.ready);
        assert_string_equal(st.freeze_name, "keep");
        assert_int_equal(st.freeze_lsn.v, end);
        /* What lies behind the mark was not read: it may say anything about the mode. */
        assert_int_equal(st.loss_class, HK_LOSS_UNKNOWN);
        rig_write(r, 30);
        assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
        rig_check_replica(r, end, true);
        ask(r, true, HK_VERB_FREEZE_END, "keep");
        assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
        rig_check_replica(r, r->log.next, true);
        rig_status(r, true, &st);
        assert_int_equal(st.loss_class, HK_LOSS_ZERO_PROVEN);
        rig_free(r);
    }
}

/* The journal fills behind the mark: at 80 % the freeze is ended, first, and nothing stops. */
static void yields_to_the_journal(void **state)
{
    struct rig *r = begin(45);
    struct hk_super super;
    uint64_t end;

    (void)state;
    ask(r, false, HK_VERB_FREEZE, "big");
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    end = r->verb_done.verb_done.arg[1];
    for (int i = 0; i < 300 && frozen(r); i++) {
        rig_check_replica(r, end, true);
        rig_write(r, 50);
        rig_run(r, 20 * RIG_MS);
    }
    assert_true(not_frozen(r));
    assert_int_equal(rig_find_note(r, true, HK_NOTE_FREEZE_ENDED)->arg[0], HK_FREEZE_JOURNAL_FULL);
    assert_string_equal(rig_find_note(r, true, HK_NOTE_FREEZE_ENDED)->name, "big");
    assert_null(rig_find_note(r, true, HK_NOTE_JOURNAL_FULL));
    rig_durable_super(r, HK_FILE_SUPER, &super);
    assert_false(super.flags & HK_SF_FROZEN);
    assert_true(rig_until(r, all_durable, 30000 * RIG_MS));
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_check_replica(r, r->log.next, true);
    rig_free(r);
}

static void yields_to_the_time_to_take_over(void **state)
{
    struct rig *r = begin(46);

    (void)state;
    rig_kill_standby(r, false);
    r->apply_lag_bytes_max = 3 << 20;
    rig_start_standby(r);
    rig_run(r, 100 * RIG_MS);
    ask(r, false, HK_VERB_FREEZE, "slow");
    assert_true(rig_until(r, is_done, 5000 * RIG_MS));
    rig_write(r, 600);
    assert_true(rig_until(r, not_frozen, 30000 * RIG_MS));
    assert_int_equal(rig_find_note(r, true, HK_NOTE_FREEZE_ENDED)->arg[0], HK_FREEZE_RTO_BOUND);
    assert_true(rig_until(r, all_durable, 30000 * RIG_MS));
    assert_true(rig_until(r, all_applied, 5000 * RIG_MS));
    rig_free(r);
}

/* The end of a freeze is durable before a single byte moves: cut the power at every disk step. */
static void ends_durably_before_the_applier_moves(void **state)
{
    (void)state;
    for (unsigned cut_at = 1; cut_at < 40; cut_at++) {
        struct rig *r = begin(47);
        struct hk_super super;
        uint64_t end;

        ask(r, false, HK_VERB_FREEZE, "image");
        assert_true(rig_until(r, is_done, 5000 * RIG_MS));
        end = r->verb_done.verb_done.arg[1];
        rig_write(r, 30);
        assert_true(rig_until(r, all_durable, 5000 * RIG_MS));
        r->disk_steps_left = cut_at;
        ask(r, true, HK_VERB_FREEZE_END, "image");
        rig_run(r, 20 * RIG_MS);
        rig_kill_standby(r, true);
        r->disk_steps_left = 0;
        rig_durable_super(r, HK_FILE_SUPER, &super);
        if (super.flags & HK_SF_FROZEN)
            rig_check_replica(r, end, true);
        rig_start_standby(r);
        rig_run(r, 50 * RIG_MS);
        if (frozen(r))
            rig_check_replica(r, end, true);
        rig_free(r);
    }
}

static void refusals(void **state)
{
    static const char *const bad[] = {"", "a b", "x/y"};
    struct rig *r = begin(48);

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++) {
        for (int at_standby = 0; at_standby < 2; at_standby++) {
            ask(r, at_standby, HK_VERB_FREEZE, bad[i]);
            rig_settle(r);
            assert_true(r->done);
            assert_int_equal(r->verb_done.verb_done.error, -EINVAL);
        }
    }
    ask(r, true, HK_VERB_FREEZE_END, "nothing");
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -ENOENT);
    ask(r, false, HK_VERB_FREEZE_END, "nothing");
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -EOPNOTSUPP);
    /* Nobody there. */
    rig_kill_standby(r, false);
    rig_kill_primary(r);
    rig_start_primary(r);
    ask(r, false, HK_VERB_FREEZE, "alone");
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -ENOTCONN);
    rig_free(r);
}

/* Capture has no room at first: asked again; asked in vain, the verb ends all the same. */
static void insertion_is_tried_again(void **state)
{
    struct rig *r = begin(49);
    struct hk_event e = {.type = HK_EV_INSERTED};

    (void)state;
    r->insert_now = false;
    ask(r, false, HK_VERB_FREEZE, "busy");
    rig_settle(r);
    e.inserted.request = r->insert.insert.request;
    e.inserted.error = -EAGAIN;
    hk_group_event(r->p, &e, &r->now);
    r->insert_now = true;
    assert_true(rig_until(r, is_done, 1000 * RIG_MS));
    assert_int_equal(r->verb_done.verb_done.error, 0);
    assert_true(r->insert.insert.request > e.inserted.request);
    ask(r, true, HK_VERB_FREEZE_END, "busy");
    assert_true(rig_until(r, not_frozen, 1000 * RIG_MS));
    rig_run(r, 10 * RIG_MS);
    r->insert_now = false;
    ask(r, false, HK_VERB_FREEZE, "never");
    rig_run(r, 61000 * RIG_MS);
    assert_true(r->done);
    assert_int_equal(r->verb_done.verb_done.error, -ETIMEDOUT);
    ask(r, false, HK_VERB_FREEZE, "passing");
    rig_settle(r);
    e.inserted.request = r->insert.insert.request;
    e.inserted.error = -ESHUTDOWN;
    hk_group_event(r->p, &e, &r->now);
    rig_settle(r);
    assert_int_equal(r->verb_done.verb_done.error, -ESHUTDOWN);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stands_exactly_at_its_mark),
        cmocka_unit_test(survives_a_restart),
        cmocka_unit_test(yields_to_the_journal),
        cmocka_unit_test(yields_to_the_time_to_take_over),
        cmocka_unit_test(ends_durably_before_the_applier_moves),
        cmocka_unit_test(refusals),
        cmocka_unit_test(insertion_is_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
