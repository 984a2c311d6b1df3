/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a standby that can't go on from where it stands names its gap instead of refusing, when the
 * primary has a dirty map; and it crosses a hole in the log only behind an "all stale". Method: one
 * sound situation; each case spoils one thing in it, with a map and without.
 */
#include "tests/unit/unit.h"

#include "proto/record.h"
#include "replicator/core/session.h"
#include "tests/unit/session_scene.h"

static void judge_gap(struct scene *s, enum hk_refusal gap, bool noted)
{
    struct hk_session_verdict v;

    s->h.map = true;
    hk_session_judge_hello(&s->me, &s->h, &v);
    assert_int_equal(v.refusal, HK_REFUSE_NONE);
    assert_int_equal(v.gap, gap);
    assert_int_equal(v.full_compare, noted);
    assert_false(gap && v.adopt);
}

static void gaps_are_named(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s);
    judge_gap(&s, HK_REFUSE_NONE, false);
    scene_init(&s); /* the primary's own flag is its own affair */
    s.h.super_flags |= HK_SF_FULL_COMPARE;
    judge_gap(&s, HK_REFUSE_NONE, false);
    scene_init(&s);
    s.super.flags |= HK_SF_FULL_COMPARE;
    judge_gap(&s, HK_REFUSE_FULL_COMPARE, false);
    scene_init(&s);
    s.me.durable = s.me.acked = 4096 + 64;
    judge_gap(&s, HK_REFUSE_LOST_DURABLE, true);
    scene_init(&s);
    s.me.acked = s.h.produced + 64;
    judge_gap(&s, HK_REFUSE_AHEAD, false);
    scene_init(&s);
    s.h.durable = 4096;
    s.me.durable = s.me.acked = 8192;
    judge_gap(&s, HK_REFUSE_RING, false);
    scene_init(&s); /* a blank standby, and a group that is not at its beginning */
    memset(&s.super.history, 0, sizeof(s.super.history));
    s.me.acked = s.me.durable = 0;
    judge_gap(&s, HK_REFUSE_FULL_COMPARE, false);
    scene_init(&s); /* version 1 can keep no pin */
    s.super.version = HK_SUPER_VERSION_OLD;
    s.super.flags |= HK_SF_FULL_COMPARE;
    s.h.map = true;
    {
        struct hk_session_verdict v;

        hk_session_judge_hello(&s.me, &s.h, &v);
        assert_int_equal(v.refusal, HK_REFUSE_FULL_COMPARE);
        assert_int_equal(v.gap, HK_REFUSE_NONE);
    }
}

/* Nothing of it was ever healed: the very first standby may begin without a new epoch. */
static void first_standby(void **state)
{
    struct hk_session_verdict v;
    struct scene s;

    (void)state;
    for (int met = 0; met < 2; met++) {
        scene_init(&s);
        memset(&s.super.history, 0, sizeof(s.super.history));
        s.super.flags = HK_SF_FULL_COMPARE;
        s.super.peer_replica_id = (struct hk_uuid){{0}};
        s.me.acked = s.me.durable = 0;
        s.h.released = s.h.acked = s.h.durable = HK_LSN_FIRST;
        s.h.super_flags = HK_SF_FULL_COMPARE;
        s.h.map = true;
        if (!met)
            s.h.peer_replica_id = (struct hk_uuid){{0}};
        hk_session_judge_hello(&s.me, &s.h, &v);
        assert_int_equal(v.refusal, HK_REFUSE_NONE);
        assert_int_equal(v.gap, met ? HK_REFUSE_FULL_COMPARE : HK_REFUSE_NONE);
        assert_int_equal(v.adopt, !met);
        assert_false(v.rebase);
    }
}

static void all_stale_crosses_a_hole(void **state)
{
    static const struct {
        uint64_t durable;
        unsigned mine;
        bool all_stale, rebase;
        enum hk_refusal gap;
    } row[] = {
        {65536, 1, true, false, HK_REFUSE_NONE},  /* exactly to the parent's end */
        {65536, 1, false, false, HK_REFUSE_NONE}, /* that needs no compare of everything */
        {65472, 1, true, true, HK_REFUSE_NONE},   /* log is missing */
        {65472, 1, false, false, HK_REFUSE_RING},
        {65600, 1, true, true, HK_REFUSE_NONE}, /* more than the new line has */
        {65600, 1, false, false, HK_REFUSE_AHEAD},
        {0, 0, true, true, HK_REFUSE_NONE}, /* blank */
    };
    struct hk_session_verdict v;
    struct scene s;

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(row); i++) {
        scene_init(&s);
        history_of(&s.super.history, row[i].mine);
        hello_epochs(&s.h, 2);
        s.h.released = s.h.acked = s.h.durable = s.h.produced = s.h.epoch.first_lsn;
        s.me.acked = s.me.durable = row[i].durable;
        s.super.flags = row[i].all_stale ? HK_SF_FULL_COMPARE : 0;
        s.h.map = true;
        s.h.all_stale = row[i].all_stale;
        hk_session_judge_hello(&s.me, &s.h, &v);
        assert_int_equal(v.refusal, HK_REFUSE_NONE);
        assert_int_equal(v.gap, row[i].gap);
        assert_int_equal(v.adopt, row[i].gap == HK_REFUSE_NONE);
        assert_int_equal(v.gap ? 0 : v.rebase, row[i].rebase);
    }
}

/* A replicator that was superseded since this side asked: its word is of before that. */
static void an_older_lease_is_not_believed(void **state)
{
    struct hk_session_verdict v;
    struct scene s;

    (void)state;
    for (int older = 0; older < 2; older++) {
        scene_init(&s);
        history_of(&s.super.history, 0);
        hello_epochs(&s.h, 2);
        s.h.released = s.h.acked = s.h.durable = s.h.produced = s.h.epoch.first_lsn;
        s.me.acked = s.me.durable = 0;
        s.me.gap_lease = s.h.lease + (uint64_t)older;
        s.h.map = s.h.all_stale = true;
        hk_session_judge_hello(&s.me, &s.h, &v);
        assert_int_equal(v.refusal, HK_REFUSE_NONE);
        assert_int_equal(v.gap, older ? HK_REFUSE_FULL_COMPARE : HK_REFUSE_NONE);
        assert_int_equal(v.adopt, !older);
    }
}

static void welcome_names_a_gap(void **state)
{
    struct scene s;
    struct hk_welcome w = {.version = 1, .replica_id = id(2), .config_hash = 77};
    uint64_t detail[2];

    (void)state;
    scene_init(&s);
    w.history = s.super.history;
    w.acked = w.durable = 4096; /* less than was durable */
    w.window = 1 << 20;
    w.gap = HK_REFUSE_LOST_DURABLE;
    s.h.map = true;
    assert_int_equal(hk_session_judge_welcome(&s.h, &w, s.h.produced, detail), HK_REFUSE_NONE);
    s.h.map = false; /* what was not offered can't be taken */
    assert_int_equal(hk_session_judge_welcome(&s.h, &w, s.h.produced, detail),
                     HK_REFUSE_FULL_COMPARE);
    s.h.map = true;
    w.session = 5; /* a session or a gap, not both */
    assert_int_equal(hk_session_judge_welcome(&s.h, &w, s.h.produced, detail), HK_REFUSE_MALFORMED);
    w.session = w.gap = 0;
    assert_int_equal(hk_session_judge_welcome(&s.h, &w, s.h.produced, detail), HK_REFUSE_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_named),
        cmocka_unit_test(first_standby),
        cmocka_unit_test(all_stale_crosses_a_hole),
        cmocka_unit_test(an_older_lease_is_not_believed),
        cmocka_unit_test(welcome_names_a_gap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
