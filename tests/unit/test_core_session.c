/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every reason to refuse a session is found, alone and by its own name (I12, I13), and a
 * sound handshake is taken. Method: one sound situation; each row of the tables spoils one thing in
 * it.
 */
#include "tests/unit/unit.h"

#include "proto/record.h"
#include "replicator/core/contact.h"
#include "replicator/core/lag.h"
#include "replicator/core/session.h"
#include "tests/unit/session_scene.h"

static struct hk_session_verdict judge(struct scene *s)
{
    struct hk_session_verdict v;

    hk_session_judge_hello(&s->me, &s->h, &v);
    assert_true(v.refusal == HK_REFUSE_NONE || !v.adopt);
    return v;
}

static void v_new(struct scene *s)
{
    s->h.version_min = 2;
}
static void v_old(struct scene *s)
{
    s->h.version_max = 0, s->h.version_min = 0;
}
static void group(struct scene *s)
{
    s->h.group_id = id(8);
}
static void config(struct scene *s)
{
    s->h.config_hash++;
}
static void volumes(struct scene *s)
{
    s->h.volume_count = 1;
}
static void sizes(struct scene *s)
{
    s->h.volume_bytes[1]++;
}
static void not_ready(struct scene *s)
{
    s->me.ready = false;
}
static void role(struct scene *s)
{
    s->super.role = HK_ROLE_PRIMARY;
}
static void chain(struct scene *s)
{
    s->h.history.epoch[0].ordinal = 2;
}
static void epoch_not_last(struct scene *s)
{
    s->h.epoch.first_lsn += 64;
}
static void no_history(struct scene *s)
{
    s->h.history.count = 0;
}
static void durable_over_acked(struct scene *s)
{
    s->h.acked = 64;
}
static void acked_over_produced(struct scene *s)
{
    s->h.acked = s->h.produced + 64;
}
static void over_ceiling(struct scene *s)
{
    s->h.ceiling = 65536;
}
static void bad_mode(struct scene *s)
{
    s->h.mode = 9;
}
static void bad_policy(struct scene *s)
{
    s->h.on_link_loss = 3;
}
static void other_primary(struct scene *s)
{
    s->h.replica_id = id(7);
}
static void other_standby(struct scene *s)
{
    s->h.peer_replica_id = id(7);
}
static void ourselves(struct scene *s)
{
    s->h.replica_id = id(2);
    s->super.peer_replica_id = (struct hk_uuid){{0}};
}
static void older(struct scene *s)
{
    history_of(&s->super.history, 2);
}
static void diverged(struct scene *s)
{
    history_of(&s->super.history, 2);
    hello_epochs(&s->h, 2);
    s->h.history.epoch[1].id = id(60);
    s->h.epoch = s->h.history.epoch[1];
}
static void strangers(struct scene *s)
{
    s->h.history.epoch[0].id = id(60);
    s->h.epoch = s->h.history.epoch[0];
}
static void promoted(struct scene *s)
{
    s->super.flags |= HK_SF_PROMOTED;
}
static void promoting(struct scene *s)
{
    s->super.flags |= HK_SF_PROMOTING;
}
static void no_lease(struct scene *s)
{
    s->h.lease = 0;
}
static void older_lease(struct scene *s)
{
    s->me.alive = true;
    s->me.alive_host = id(5);
    s->me.alive_lease = 4;
}
static void older_lease_dead(struct scene *s)
{
    older_lease(s);
    s->me.alive = false;
}
static void younger_lease(struct scene *s)
{
    older_lease(s);
    s->me.alive_lease = 2;
}
static void other_host(struct scene *s)
{
    younger_lease(s);
    s->me.alive_host = id(6);
}
static void compare_theirs(struct scene *s)
{
    s->h.super_flags = HK_SF_FULL_COMPARE;
}
static void compare_ours(struct scene *s)
{
    s->super.flags = HK_SF_FULL_COMPARE;
}
static void lost_durable(struct scene *s)
{
    s->me.durable -= 64;
}
static void ring(struct scene *s)
{
    s->h.released += 64;
}
static void ahead(struct scene *s)
{
    s->me.acked = s->h.produced + 64;
}
/* A primary that was set back begins a ring below what the standby has, and has caught up since. */
static void other_ring_below(struct scene *s)
{
    s->super.ring_id = id(7);
    s->h.ring_id = id(8);
    s->h.ring_first_lsn = s->me.acked - 64;
}
static void other_ring_here(struct scene *s)
{
    other_ring_below(s);
    s->h.ring_first_lsn = s->me.acked;
}
static void same_ring(struct scene *s)
{
    other_ring_below(s);
    s->h.ring_id = s->super.ring_id;
}
static void fresh(struct scene *s)
{
    history_of(&s->super.history, 0);
    s->me.acked = s->me.durable = 0;
    s->super.flags = HK_SF_ASSUMED_EQUAL;
    s->super.peer_replica_id = s->h.peer_replica_id = (struct hk_uuid){{0}};
    s->h.durable = s->h.acked = s->h.released = 0;
}
static void fresh_not_equal(struct scene *s)
{
    fresh(s);
    s->super.flags = 0;
}
static void fresh_late(struct scene *s)
{
    fresh(s);
    s->h.released = 65536;
}
static void fresh_lost(struct scene *s)
{
    fresh(s);
    s->h.durable = s->h.acked = s->h.released = 65536;
}
/* The very beginning is no loss: the primary was told of nothing else yet. */
static void fresh_compare(struct scene *s)
{
    fresh(s);
    s->h.super_flags = HK_SF_FULL_COMPARE;
    s->h.durable = s->h.acked = s->h.released = s->h.epoch.first_lsn;
}
static void fresh_compare_lost(struct scene *s)
{
    fresh_lost(s);
    s->h.super_flags = HK_SF_FULL_COMPARE;
}
static void fresh_old_group(struct scene *s)
{
    fresh(s);
    hello_epochs(&s->h, 2);
    s->h.produced = 2 << 20;
}
static void next_epoch(struct scene *s)
{
    hello_epochs(&s->h, 2);
    s->h.produced = 2 << 20;
}
static void next_epoch_behind(struct scene *s)
{
    next_epoch(s);
    s->me.durable = s->me.acked = 65536 - 64;
}
static void next_epoch_ahead(struct scene *s)
{
    next_epoch(s);
    s->me.acked = 65536 + 64;
}
static void nobody(struct scene *s)
{
    s->h.replica_id = (struct hk_uuid){{0}};
}
static void next_epoch_durable_ahead(struct scene *s)
{
    next_epoch(s);
    s->me.durable = s->me.acked = 65536 + 64;
}
static void two_epochs(struct scene *s)
{
    hello_epochs(&s->h, 3);
    s->h.produced = 3 << 20;
}

#define ROW(name, why, adopts)               \
    {                                        \
#name, name, HK_REFUSE_##why, adopts \
    }
static void sound(struct scene *s)
{
    (void)s;
}

static const struct {
    const char *name;
    void (*spoil)(struct scene *);
    enum hk_refusal why;
    bool adopt;
} hello_table[] = {
    ROW(sound, NONE, false),
    ROW(v_new, VERSION, false),
    ROW(v_old, VERSION, false),
    ROW(group, GROUP, false),
    ROW(config, CONFIG, false),
    ROW(volumes, VOLUMES, false),
    ROW(sizes, VOLUMES, false),
    ROW(not_ready, NOT_READY, false),
    ROW(role, ROLE, false),
    ROW(chain, MALFORMED, false),
    ROW(epoch_not_last, MALFORMED, false),
    ROW(no_history, MALFORMED, false),
    ROW(durable_over_acked, MALFORMED, false),
    ROW(acked_over_produced, MALFORMED, false),
    ROW(over_ceiling, MALFORMED, false),
    ROW(bad_mode, MALFORMED, false),
    ROW(bad_policy, MALFORMED, false),
    ROW(other_primary, REPLICA, false),
    ROW(other_standby, REPLICA, false),
    ROW(ourselves, REPLICA, false),
    ROW(nobody, REPLICA, false),
    ROW(older, OLDER_EPOCH, false),
    ROW(diverged, DIVERGED, false),
    ROW(strangers, STRANGERS, false),
    ROW(promoted, PROMOTED, false),
    ROW(promoting, PROMOTED, false),
    ROW(no_lease, LEASE, false),
    ROW(older_lease, LEASE, false),
    ROW(older_lease_dead, NONE, false),
    ROW(younger_lease, NONE, false),
    ROW(other_host, BUSY, false),
    ROW(compare_theirs, FULL_COMPARE, false),
    ROW(compare_ours, FULL_COMPARE, false),
    ROW(lost_durable, LOST_DURABLE, false),
    ROW(ring, RING, false),
    ROW(ahead, AHEAD, false),
    ROW(other_ring_below, AHEAD, false),
    ROW(other_ring_here, NONE, false),
    ROW(same_ring, NONE, false),
    ROW(fresh, NONE, true),
    ROW(fresh_not_equal, FULL_COMPARE, false),
    ROW(fresh_late, RING, false),
    ROW(fresh_lost, LOST_DURABLE, false),
    ROW(fresh_old_group, FULL_COMPARE, false),
    ROW(fresh_compare, FULL_COMPARE, false),
    ROW(fresh_compare_lost, LOST_DURABLE, false),
    ROW(next_epoch, NONE, true),
    ROW(next_epoch_behind, RING, false),
    ROW(next_epoch_ahead, AHEAD, false),
    ROW(next_epoch_durable_ahead, AHEAD, false),
    ROW(two_epochs, RING, false),
};

static void hello(void **state)
{
    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(hello_table); i++) {
        struct scene s;
        struct hk_session_verdict v;

        scene_init(&s);
        hello_table[i].spoil(&s);
        v = judge(&s);
        if (v.refusal != hello_table[i].why || v.adopt != hello_table[i].adopt)
            fail_msg("%s: %s, expected %s", hello_table[i].name, hk_refusal_text(v.refusal),
                     hk_refusal_text(hello_table[i].why));
        /* Only a primary of ours may make us write "full compare" down. */
        assert_int_equal(v.full_compare, hello_table[i].spoil == compare_theirs ||
                                             hello_table[i].spoil == compare_ours ||
                                             hello_table[i].spoil == fresh_compare ||
                                             hello_table[i].why == HK_REFUSE_LOST_DURABLE);
    }
}

static void adoption_starts_at_the_epoch(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s);
    next_epoch(&s);
    assert_int_equal(judge(&s).start_lsn, 1 << 20);
    scene_init(&s);
    fresh(&s);
    assert_int_equal(judge(&s).start_lsn, HK_LSN_FIRST);
}

/* `epochs` of them, each empty but the first, which ends at 65536. */
static void long_line(struct hk_history *h, uint32_t epochs)
{
    memset(h, 0, sizeof(*h));
    for (uint32_t i = 0; i < epochs; i++) {
        struct hk_uuid e = id(40);

        e.b[2] = (uint8_t)i;
        assert_int_equal(hk_history_append(h, &e, i ? 65536 : HK_LSN_FIRST, i ? 65536 : 0,
                                           i ? HK_EPOCH_GAP_CRASH : HK_EPOCH_CREATE, i),
                         0);
    }
}

/* A history that dropped the epoch this side applies in, or is pinned in, is not taken over. */
static void a_forgotten_epoch_is_still_needed(void **state)
{
    struct hk_session_verdict v;
    struct scene s;

    for (int pinned = 0; pinned < 3; pinned++) {
        scene_init(&s);
        long_line(&s.super.history, 64);
        long_line(&s.h.history, 65);
        s.h.epoch = *hk_history_last(&s.h.history);
        s.super.applied = pinned ? 65536 : 65472;
        s.super.flags = pinned ? HK_SF_PINNED : 0;
        s.super.pin_ordinal = pinned == 1 ? 1 : 2;
        v = judge(&s);
        assert_int_equal(v.refusal, pinned == 2 ? HK_REFUSE_NONE : HK_REFUSE_NOT_READY);
        assert_int_equal(v.adopt, pinned == 2);
        /* With all of it to be compared the rest of the old epoch may be left out. */
        s.h.map = s.h.all_stale = true;
        v = judge(&s);
        assert_int_equal(v.refusal, HK_REFUSE_NONE);
        assert_true(v.adopt);
        assert_int_equal(v.rebase, !pinned);
    }
}

static void refused_for_two_reasons_names_the_first(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s);
    older(&s);
    promoted(&s);
    assert_int_equal(judge(&s).refusal, HK_REFUSE_OLDER_EPOCH);
    group(&s);
    assert_int_equal(judge(&s).refusal, HK_REFUSE_GROUP);
    /* A stranger's FULL_COMPARE is not written down. */
    compare_theirs(&s);
    assert_false(judge(&s).full_compare);
}

struct welcome_scene {
    struct hk_hello h;
    struct hk_welcome w;
    uint64_t produced;
};

static void w_sound(struct welcome_scene *s)
{
    (void)s;
}
static void w_version(struct welcome_scene *s)
{
    s->w.version = 2;
}
static void w_config(struct welcome_scene *s)
{
    s->w.config_hash++;
}
static void w_session(struct welcome_scene *s)
{
    s->w.session = 0;
}
static void w_order(struct welcome_scene *s)
{
    s->w.applied = s->w.durable + 64;
}
static void w_window(struct welcome_scene *s)
{
    s->w.window = 64;
}
static void w_align(struct welcome_scene *s)
{
    s->w.applied = 3;
}
static void w_self(struct welcome_scene *s)
{
    s->w.replica_id = id(1);
    s->h.peer_replica_id = (struct hk_uuid){{0}};
}
static void w_nobody(struct welcome_scene *s)
{
    s->w.replica_id = (struct hk_uuid){{0}};
}
static void w_applied(struct welcome_scene *s)
{
    s->w.applied = s->w.durable + 64;
}
static void w_bad_nowhere(struct welcome_scene *s)
{
    s->w.bad_count = 1;
    s->w.bad_lsn = 0;
}
static void w_bad_align(struct welcome_scene *s)
{
    s->w.bad_count = 1;
    s->w.bad_lsn = 4100;
}
static void w_diverged(struct welcome_scene *s)
{
    history_of(&s->h.history, 2);
    s->h.epoch = *hk_history_last(&s->h.history);
    s->w.history = s->h.history;
    s->w.history.epoch[1].id = id(60);
}
static void w_other(struct welcome_scene *s)
{
    s->w.replica_id = id(3);
}
static void w_newer(struct welcome_scene *s)
{
    history_of(&s->w.history, 2);
}
static void w_empty(struct welcome_scene *s)
{
    history_of(&s->w.history, 0);
}
static void w_stranger(struct welcome_scene *s)
{
    s->w.history.epoch[0].id = id(60);
}
static void w_promoted(struct welcome_scene *s)
{
    s->w.super_flags = HK_SF_PROMOTED;
}
static void w_compare(struct welcome_scene *s)
{
    s->w.super_flags = HK_SF_FULL_COMPARE;
}
static void w_lost(struct welcome_scene *s)
{
    s->w.durable = s->w.applied = 65536 - 64;
}
static void w_ring(struct welcome_scene *s)
{
    s->h.released += 64;
}
static void w_ahead(struct welcome_scene *s)
{
    s->w.acked = s->produced + 64;
}

static const struct {
    const char *name;
    void (*spoil)(struct welcome_scene *);
    enum hk_refusal why;
} welcome_table[] = {
    {"sound", w_sound, HK_REFUSE_NONE},           {"version", w_version, HK_REFUSE_VERSION},
    {"config", w_config, HK_REFUSE_CONFIG},       {"session", w_session, HK_REFUSE_MALFORMED},
    {"order", w_order, HK_REFUSE_MALFORMED},      {"window", w_window, HK_REFUSE_MALFORMED},
    {"align", w_align, HK_REFUSE_MALFORMED},      {"self", w_self, HK_REFUSE_REPLICA},
    {"other", w_other, HK_REFUSE_REPLICA},        {"newer", w_newer, HK_REFUSE_OLDER_EPOCH},
    {"empty", w_empty, HK_REFUSE_NONE},           {"stranger", w_stranger, HK_REFUSE_STRANGERS},
    {"promoted", w_promoted, HK_REFUSE_PROMOTED}, {"compare", w_compare, HK_REFUSE_FULL_COMPARE},
    {"lost", w_lost, HK_REFUSE_LOST_DURABLE},     {"ring", w_ring, HK_REFUSE_RING},
    {"ahead", w_ahead, HK_REFUSE_AHEAD},          {"nobody", w_nobody, HK_REFUSE_REPLICA},
    {"applied", w_applied, HK_REFUSE_MALFORMED},  {"bad", w_bad_nowhere, HK_REFUSE_MALFORMED},
    {"bad", w_bad_align, HK_REFUSE_MALFORMED},    {"diverged", w_diverged, HK_REFUSE_DIVERGED},
};

static void welcome(void **state)
{
    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(welcome_table); i++) {
        struct scene scene;
        struct welcome_scene s = {.produced = 131072};
        uint64_t detail[2];
        enum hk_refusal why;

        scene_init(&scene);
        s.h = scene.h;
        s.w = (struct hk_welcome){.version = 1,
                                  .session = 5,
                                  .replica_id = id(2),
                                  .config_hash = 77,
                                  .acked = 65536,
                                  .durable = 65536,
                                  .applied = 8192,
                                  .window = 1 << 24};
        history_of(&s.w.history, 1);
        welcome_table[i].spoil(&s);
        why = hk_session_judge_welcome(&s.h, &s.w, s.produced, detail);
        if (why != welcome_table[i].why)
            fail_msg("%s: %s", welcome_table[i].name, hk_refusal_text(why));
    }
}

static void every_refusal_has_its_text(void **state)
{
    (void)state;
    for (int i = 0; i < HK_REFUSALS; i++) {
        assert_string_not_equal(hk_refusal_text(i), "unknown reason");
        for (int k = 0; k < i; k++)
            assert_string_not_equal(hk_refusal_text(i), hk_refusal_text(k));
    }
}

static void lag_does_not_count_the_hole(void **state)
{
    struct hk_history h;

    (void)state;
    history_of(&h, 3); /* holes [65536, 1 MiB) and [1 MiB + 64, 2 MiB) */
    assert_int_equal(hk_lag_bytes(&h, 4096, 65536), 65536 - 4096);
    assert_int_equal(hk_lag_bytes(&h, 65536, 1 << 20), 0);
    assert_int_equal(hk_lag_bytes(&h, 65536 - 64, (1 << 20) + 64), 128);
    assert_int_equal(hk_lag_bytes(&h, 65536 - 64, (2 << 20) + 128), 64 + 64 + 128);
    assert_int_equal(hk_lag_bytes(&h, 8192, 8192), 0);
    assert_int_equal(hk_lag_bytes(&h, 8192, 4096), 0);
}

static void looking_back_does_not_count_the_hole(void **state)
{
    struct hk_history h;
    uint64_t to = (2 << 20) + 128;

    (void)state;
    history_of(&h, 3);
    assert_int_equal(hk_lag_before(&h, to, 128), to - 128);
    assert_int_equal(hk_lag_before(&h, to, 192), 1 << 20);
    assert_int_equal(hk_lag_before(&h, to, 256), 65536 - 64);
    assert_int_equal(hk_lag_before(&h, 1 << 20, 64), 65536 - 64);
    assert_int_equal(hk_lag_before(&h, to, 64 << 20), 0);
    assert_int_equal(hk_lag_before(&h, 65536, 4096), 65536 - 4096);
    for (uint64_t bytes = 64; bytes < 60000; bytes += 64)
        assert_int_equal(hk_lag_bytes(&h, hk_lag_before(&h, to, bytes), to), bytes);
}

static void age_survives_a_clock_step(void **state)
{
    struct hk_lag_age a = {0};

    (void)state;
    assert_int_equal(hk_lag_age_ns(&a, 50, 50), 0);
    hk_lag_age_set(&a, 1000, 10);
    assert_int_equal(hk_lag_age_ns(&a, 20, 1500), 500);
    assert_int_equal(hk_lag_age_ns(&a, 900, 400), 890); /* realtime stepped back */
    assert_int_equal(hk_lag_age_ns(&a, 10, 400), 1);    /* never 0 while something is not durable */
    hk_lag_age_set(&a, 1000, 800);                      /* still the same record */
    assert_int_equal(hk_lag_age_ns(&a, 900, 400), 890);
    hk_lag_age_set(&a, 0, 950);
    assert_int_equal(hk_lag_age_ns(&a, 960, 5000), 0);
    /* Stamped when the wall clock was 4040 ahead; it was set back before anybody looked. */
    hk_lag_age_clock(&a, 960, 5000);
    hk_lag_age_set(&a, 5010, 1200);
    assert_int_equal(hk_lag_age_ns(&a, 1200, 2000), 1200 + 4040 - 5010);
    /* But all that had been produced at 1000 was durable by 1100. */
    assert_true(hk_lag_age_wants(&a, 64));
    hk_lag_age_note(&a, 128, 0, 1000);
    assert_false(hk_lag_age_wants(&a, 64));
    assert_int_equal(hk_lag_age_ns(&a, 1200, 2000), 230); /* the note may be of this record */
    assert_true(hk_lag_age_wants(&a, 128));
    hk_lag_age_note(&a, 256, 0, 1100);
    assert_int_equal(hk_lag_age_ns(&a, 1200, 2000), 200);
    /* Stamps of the future, since the clock was set back before anybody looked, say nothing. */
    hk_lag_age_set(&a, 9000, 1250);
    assert_int_equal(hk_lag_age_ns(&a, 1300, 2100), 300);
    hk_lag_age_set(&a, 9001, 5290); /* the wall clock has caught up, but this may be as old */
    assert_int_equal(hk_lag_age_ns(&a, 5300, 9340), 4300);
}

/* The clock was set back before the start; it catches up before that stamp is of the oldest. */
static void age_knows_the_newest_stamp(void **state)
{
    struct hk_lag_age a = {0};

    (void)state;
    hk_lag_age_clock(&a, 1000, 5000);
    hk_lag_age_note(&a, 128, 9000, 1100);
    hk_lag_age_set(&a, 2000, 1100); /* found at the start, and older than it */
    assert_int_equal(hk_lag_age_ns(&a, 1200, 5200), 3200);
    hk_lag_age_set(&a, 9000, 5900);
    assert_int_equal(hk_lag_age_ns(&a, 6000, 10000), 5000);
    hk_lag_age_note(&a, 256, 9900, 6000);
    assert_int_equal(hk_lag_age_ns(&a, 6000, 10000), 4900); /* not there at 1100 */
}

static void rate_counts_busy_time_only(void **state)
{
    struct hk_lag_rate r = {0};
    uint64_t s = 1000000000;

    (void)state;
    hk_lag_rate_update(&r, 0, true, s);
    hk_lag_rate_update(&r, 1000000, false, 2 * s);
    assert_int_equal(r.bytes_s, 1000000);
    hk_lag_rate_update(&r, 1000000, true, 100 * s); /* idle */
    assert_int_equal(r.bytes_s, 1000000);
    hk_lag_rate_update(&r, 6000000, false, 101 * s);
    assert_int_equal(r.bytes_s, 2000000); /* (3 × 1 + 5) / 4 */
}

static void acks_are_never_dated_late(void **state)
{
    static struct hk_contact c;
    uint64_t rnd = 4, mono = 1000, real = 77, at[2001] = {0};
    uint64_t patience = 5000000;
    struct hk_contact_time t;

    (void)state;
    hk_contact_reset(&c, 64, patience);
    assert_false(hk_contact_date(&c, 0, 1, 64, &t));
    for (uint64_t pn = 1; pn <= 2000; pn++) {
        mono += unit_random(&rnd) % 5000;
        at[pn] = mono;
        hk_contact_sent(&c, 0, pn, 64, mono, real + mono);
        for (uint64_t back = 0; back < 20 && back < pn; back++) {
            assert_true(hk_contact_date(&c, 0, pn - back, 64, &t));
            assert_true(t.mono_ns <= at[pn - back]);
            assert_true(at[pn - back] - t.mono_ns <= patience * 2 / HK_CONTACT_ENTRIES);
            assert_int_equal(t.real_ns, real + t.mono_ns);
        }
    }
}

/* Acks without progress do not keep the primary waiting, so they do not move t0 either. */
static void a_stalled_standby_is_no_contact(void **state)
{
    static struct hk_contact c;
    struct hk_contact_time t;

    (void)state;
    hk_contact_reset(&c, 64, 512);
    hk_contact_sent(&c, 0, 1, 64, 1000, 1000);
    assert_false(hk_contact_date(&c, 0, 1, 128, &t)); /* outstanding, and nothing told yet */
    hk_contact_sent(&c, 0, 2, 128, 2000, 2000);
    assert_true(hk_contact_date(&c, 0, 2, 256, &t));
    assert_int_equal(t.mono_ns, 2000);
    for (uint64_t pn = 3; pn < 10; pn++)
        hk_contact_sent(&c, 0, pn, 128, 1000 * pn, 1000 * pn);
    assert_true(hk_contact_date(&c, 0, 9, 256, &t));
    assert_int_equal(t.mono_ns, 2000);
    assert_true(hk_contact_date(&c, 0, 9, 128, &t)); /* nothing outstanding */
    assert_int_equal(t.mono_ns, 9000);
    assert_true(hk_contact_date(&c, 0, 1, 64, &t));
    assert_int_equal(t.mono_ns, 1000);
    /* What one path has told first is not news on the other. */
    hk_contact_sent(&c, 1, 1, 128, 10000, 10000);
    assert_true(hk_contact_date(&c, 1, 1, 256, &t));
    assert_int_equal(t.mono_ns, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello),
        cmocka_unit_test(adoption_starts_at_the_epoch),
        cmocka_unit_test(a_forgotten_epoch_is_still_needed),
        cmocka_unit_test(refused_for_two_reasons_names_the_first),
        cmocka_unit_test(welcome),
        cmocka_unit_test(every_refusal_has_its_text),
        cmocka_unit_test(lag_does_not_count_the_hole),
        cmocka_unit_test(looking_back_does_not_count_the_hole),
        cmocka_unit_test(age_survives_a_clock_step),
        cmocka_unit_test(age_knows_the_newest_stamp),
        cmocka_unit_test(rate_counts_busy_time_only),
        cmocka_unit_test(acks_are_never_dated_late),
        cmocka_unit_test(a_stalled_standby_is_no_contact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
