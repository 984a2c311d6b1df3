/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the engine of a resync makes two copies equal, whatever order answers come in, with writes
 * that go on, regions that become stale again, blocks that can't be read or find no room, and
 * sessions that break; it stays within its bounds; its pace gives way to the application.
 * Method: a world of one volume on two sides with a log between them (records are applied at the
 * other side in order, late), a capture side that knows which regions are stale, and random moments
 * at which each answer comes. At the end both copies must be equal, and never is a region healed
 * whose copies the log would not make equal.
 */
#include "tests/unit/unit.h"

#include "replicator/core/resync.h"

#include <errno.h>
#include <string.h>

#define MS 1000000ull

enum {
    BLOCKS = 96, /* of 64 KiB, each only one number here */
    REGION_BLOCKS = 24,
    REGIONS = BLOCKS / REGION_BLOCKS,
    LOG = 1 << 16,
    PENDING = 64,
};

struct record {
    uint32_t block;
    uint32_t value;
};

struct world {
    struct hk_resync r;
    uint64_t rnd, now;
    uint32_t here[BLOCKS], there[BLOCKS];
    struct record log[LOG]; /* LSN n is log[n] */
    uint64_t produced, durable, applied;
    bool stale[REGIONS];
    uint64_t event[REGIONS], since[REGIONS];
    bool unreadable[BLOCKS];
    struct hk_resync_step pending[PENDING];
    bool orphan[PENDING]; /* of a session that ended: an answer from the other side is lost */
    uint32_t pending_count, reads, asks;
    uint64_t heals, healed, blocks, interrupted;
    bool forget_event; /* the capture side of this world is broken: heals whatever comes */
};

static uint32_t below(struct world *w, uint32_t n)
{
    return (uint32_t)(unit_random(&w->rnd) % n);
}

static void put(struct world *w, uint32_t block, uint32_t value)
{
    assert_true(w->produced < LOG);
    w->log[w->produced++] = (struct record){block, value};
}

/* A captured write. */
static void write_one(struct world *w)
{
    uint32_t block = below(w, BLOCKS), value = below(w, 3);

    put(w, block, value);
    w->here[block] = value;
}

/* One that passes by, which makes its region stale. */
static void pass_one(struct world *w)
{
    uint32_t block = below(w, BLOCKS);

    w->here[block] = below(w, 3);
    w->stale[block / REGION_BLOCKS] = true;
    w->event[block / REGION_BLOCKS]++;
    w->since[block / REGION_BLOCKS] = w->produced;
}

static void log_goes_on(struct world *w)
{
    if (w->durable < w->produced && below(w, 2))
        w->durable++;
    while (w->applied < w->durable && below(w, 3)) {
        w->there[w->log[w->applied].block] = w->log[w->applied].value;
        w->applied++;
    }
}

static uint64_t stale_bytes(const struct world *w)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < REGIONS; i++)
        n += w->stale[i] ? REGION_BLOCKS * HK_COMPARE_BLOCK_BYTES : 0;
    return n;
}

static void load(struct world *w)
{
    struct hk_resync_load l = {w->produced, w->durable, w->applied, stale_bytes(w)};

    hk_resync_load(&w->r, &l, w->now);
}

static void hash(const struct hk_hash_ask *a, const uint32_t *copy, struct hk_hashes *ret)
{
    *ret = (struct hk_hashes){.request = a->request, .count = hk_compare_blocks(a->bytes)};
    for (uint32_t i = 0; i < ret->count; i++)
        memcpy(ret->hash[i], &copy[a->offset / HK_COMPARE_BLOCK_BYTES + i], 4);
}

static void answer_stale(struct world *w, const struct hk_resync_step *s)
{
    for (uint32_t i = 0; i < REGIONS; i++) {
        uint64_t at = (uint64_t)i * REGION_BLOCKS * HK_COMPARE_BLOCK_BYTES;

        if (!w->stale[i] || at < s->offset)
            continue;
        hk_resync_stale(&w->r, true, 0, at, REGION_BLOCKS * HK_COMPARE_BLOCK_BYTES, w->event[i],
                        hk_max_u64(w->since[i], 1), w->now);
        return;
    }
    hk_resync_stale(&w->r, false, 0, 0, 0, 0, 0, w->now);
}

static void answer_block(struct world *w, const struct hk_resync_step *s)
{
    uint32_t block = (uint32_t)(s->offset / HK_COMPARE_BLOCK_BYTES);

    if (below(w, 8) == 0) {
        hk_resync_block_done(&w->r, s->request, -EAGAIN, 0, w->now);
        return;
    }
    w->blocks++;
    if (w->unreadable[block]) {
        hk_resync_block_done(&w->r, s->request, -EIO, w->produced, w->now);
        return;
    }
    put(w, block, w->here[block]);
    hk_resync_block_done(&w->r, s->request, 0, w->produced, w->now);
}

/* What the log will have made of the other copy once all of it is applied. */
static uint32_t will_be(const struct world *w, uint32_t block)
{
    uint32_t value = w->there[block];

    for (uint64_t i = w->applied; i < w->produced; i++) {
        if (w->log[i].block == block)
            value = w->log[i].value;
    }
    return value;
}

static void answer_heal(struct world *w, const struct hk_resync_step *s)
{
    uint32_t region = (uint32_t)(s->offset / HK_COMPARE_BLOCK_BYTES / REGION_BLOCKS);

    w->heals++;
    if (!w->stale[region] || (s->event != w->event[region] && !w->forget_event)) {
        hk_resync_healed(&w->r, s->request, -EAGAIN, w->now);
        return;
    }
    assert_true(s->end <= w->produced && s->end >= w->since[region]);
    for (uint32_t b = region * REGION_BLOCKS; b < (region + 1) * REGION_BLOCKS; b++)
        assert_true(w->unreadable[b] || w->here[b] == will_be(w, b));
    w->stale[region] = false;
    w->healed++;
    hk_resync_healed(&w->r, s->request, 0, w->now);
}

/* Only what the standby may answer now: everything up to `after` is applied there. */
static bool may_answer(const struct world *w, uint32_t i)
{
    const struct hk_resync_step *s = &w->pending[i];

    return s->kind != HK_RSTEP_ASK || w->applied >= s->ask.after;
}

static void answer(struct world *w, uint32_t i)
{
    struct hk_resync_step s = w->pending[i];
    bool orphan = w->orphan[i];
    struct hk_hashes h;

    w->pending_count--;
    w->pending[i] = w->pending[w->pending_count];
    w->orphan[i] = w->orphan[w->pending_count];
    switch (s.kind) {
    case HK_RSTEP_STALE_ASK: answer_stale(w, &s); break;
    case HK_RSTEP_HASH:
        w->reads--;
        hash(&s.ask, w->here, &h);
        hk_resync_hashed(&w->r, &h);
        break;
    case HK_RSTEP_ASK:
        w->asks -= !orphan;
        hash(&s.ask, w->there, &h);
        if (!orphan)
            assert_int_equal(hk_resync_answered(&w->r, &h), 0);
        break;
    case HK_RSTEP_BLOCK: answer_block(w, &s); break;
    case HK_RSTEP_HEAL: answer_heal(w, &s); break;
    }
}

static void pull(struct world *w)
{
    struct hk_resync_step s;

    load(w);
    while (w->pending_count < PENDING && hk_resync_next(&w->r, w->now, &s)) {
        w->orphan[w->pending_count] = false;
        w->pending[w->pending_count++] = s;
        w->reads += s.kind == HK_RSTEP_HASH;
        w->asks += s.kind == HK_RSTEP_ASK;
        assert_true(w->reads <= HK_COMPARE_ASKS_MAX && w->asks <= HK_COMPARE_ASKS_MAX);
    }
}

static void break_session(struct world *w)
{
    hk_resync_stop(&w->r, false);
    for (uint32_t i = 0; i < w->pending_count; i++)
        w->orphan[i] = true;
    w->asks = 0;
    w->interrupted++;
    hk_resync_start(&w->r, w->now);
}

static void begin(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->rnd = seed;
    w->now = 5000 * MS;
    hk_resync_init(&w->r, w->now);
    put(w, 0, 0);
    w->applied = w->durable = w->produced;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        w->here[i] = below(w, 3);
        w->there[i] = below(w, 3);
        w->unreadable[i] = below(w, 40) == 0;
    }
    for (uint32_t i = 0; i < REGIONS; i++)
        w->stale[i] = true;
    w->since[0] = 1;
    hk_resync_start(&w->r, w->now);
}

static void step(struct world *w, bool calm)
{
    uint32_t i;

    w->now += below(w, 4) * MS;
    pull(w);
    log_goes_on(w);
    if (!calm && below(w, 4) == 0)
        write_one(w);
    if (!calm && below(w, 200) == 0)
        pass_one(w);
    if (!calm && below(w, 500) == 0)
        break_session(w);
    if (w->pending_count == 0)
        return;
    i = below(w, w->pending_count);
    if (may_answer(w, i))
        answer(w, i);
}

static void copies_become_equal(void **state)
{
    uint64_t interrupted = 0, repeated = 0, blocks = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static struct world w;

        begin(&w, seed);
        for (uint32_t n = 0; n < 6000; n++)
            step(&w, false);
        for (uint32_t n = 0; n < 200000 && (stale_bytes(&w) || w.applied < w.produced); n++)
            step(&w, true);
        assert_int_equal(stale_bytes(&w), 0);
        for (uint32_t b = 0; b < BLOCKS; b++)
            assert_true(w.unreadable[b] || w.here[b] == w.there[b]);
        interrupted += w.interrupted;
        repeated += w.r.repeated;
        blocks += w.blocks;
    }
    /* Everything that this test is about did happen. */
    assert_true(interrupted > 100 && repeated > 10 && blocks > 1000);
}

/* Slots: a read of this side that is still out keeps its slot over the end of a session. */
static void reads_out_are_bounded(void **state)
{
    static struct world w;
    struct hk_resync_step s;
    uint32_t reads = 0;

    (void)state;
    begin(&w, 7);
    for (int session = 0; session < 5; session++) {
        for (int i = 0; i < 100; i++) {
            w.now += 100 * MS;
            load(&w);
            while (hk_resync_next(&w.r, w.now, &s)) {
                if (s.kind == HK_RSTEP_STALE_ASK)
                    answer_stale(&w, &s);
                reads += s.kind == HK_RSTEP_HASH;
            }
        }
        hk_resync_stop(&w.r, false);
        hk_resync_start(&w.r, w.now);
    }
    assert_int_equal(reads, HK_COMPARE_ASKS_MAX);
}

static void answers_that_cannot_be(void **state)
{
    static struct world w;
    struct hk_hashes h = {.count = 3};
    struct hk_resync_step s = {0};

    (void)state;
    begin(&w, 8);
    load(&w);
    while (s.kind != HK_RSTEP_ASK) {
        w.now += 10 * MS;
        if (hk_resync_next(&w.r, w.now, &s) && s.kind == HK_RSTEP_STALE_ASK)
            answer_stale(&w, &s);
    }
    h.request = s.ask.request;
    assert_int_equal(hk_resync_answered(&w.r, &h), -EINVAL);
    h.request = 12345;
    assert_int_equal(hk_resync_answered(&w.r, &h), 0); /* of another session: dropped */
    h.request = s.ask.request;
    h.error = -EIO;
    h.count = 0;
    assert_int_equal(hk_resync_answered(&w.r, &h), 0);
    assert_int_equal(hk_resync_answered(&w.r, &h), 0); /* twice: the second is dropped */
}

static void pause_and_throttle(void **state)
{
    static struct world w;
    struct hk_resync_status st;
    uint64_t before;

    (void)state;
    begin(&w, 9);
    hk_resync_pause(&w.r, true);
    for (int i = 0; i < 1000; i++)
        step(&w, true);
    assert_int_equal(w.r.compared_bytes, 0);
    hk_resync_pause(&w.r, false);
    hk_resync_throttle(&w.r, 1 << 20);
    before = w.now;
    while (stale_bytes(&w))
        step(&w, true);
    /* 6 MiB compared at 1 MiB a second, and what was unequal on top; one question in advance. */
    assert_true(w.now - before > 5000 * MS);
    hk_resync_status(&w.r, w.now, &st);
    assert_int_equal(st.throttle_bytes_s, 1 << 20);
    assert_true(st.rate_bytes_s > 0 && st.rate_bytes_s <= 1 << 20);
}

/* The ETA is made of what was measured, and there is none when nothing comes nearer. */
static void eta_is_honest(void **state)
{
    struct hk_resync r;
    struct hk_resync_status st;
    struct hk_resync_load l = {.stale_bytes = 100 << 20};
    struct hk_resync_step s;
    uint64_t now = 1000 * MS;

    (void)state;
    hk_resync_init(&r, now);
    hk_resync_start(&r, now);
    hk_resync_load(&r, &l, now);
    hk_resync_status(&r, now, &st);
    assert_int_equal(st.eta_ns, 0);
    /* 1 MiB a second is healed for 20 seconds. */
    for (int i = 0; i < 20; i++) {
        now += 1000 * MS;
        assert_true(hk_resync_next(&r, now, &s) && s.kind == HK_RSTEP_STALE_ASK);
        hk_resync_stale(&r, true, 0, (uint64_t)i << 20, 1 << 20, 1, 64, now);
        r.region[0].state = HK_RS_HEAL;
        assert_true(hk_resync_next(&r, now, &s) && s.kind == HK_RSTEP_HEAL);
        assert_int_equal(s.end, 64);
        hk_resync_healed(&r, s.request, 0, now);
        l.stale_bytes -= 1 << 20;
        hk_resync_load(&r, &l, now);
    }
    hk_resync_status(&r, now, &st);
    assert_int_equal(st.rate_bytes_s, 1 << 20);
    assert_int_equal(st.eta_ns, 80000 * MS);
    assert_int_equal(st.total_bytes, 100 << 20);
    hk_resync_pause(&r, true);
    hk_resync_status(&r, now, &st);
    assert_int_equal(st.eta_ns, 0);
    hk_resync_pause(&r, false);
    now += 60000 * MS; /* a minute without anything healed */
    hk_resync_status(&r, now, &st);
    assert_int_equal(st.rate_bytes_s, 0);
    assert_int_equal(st.eta_ns, 0);
}

/* ---- pace ---- */

/* A standby that makes a record durable after base_ns, and one byte a resync adds delays it. */
static uint64_t added_ns(struct hk_pace *p, uint64_t capacity, uint64_t base_ns, uint64_t *ret_rate)
{
    uint64_t now = 1000 * MS, lsn = 64, worst = 0, queued = 0, done = 0, last = now;

    hk_pace_init(p, now);
    /* Before the resync: what it takes anyway is learnt. */
    for (int i = 0; i < 100; i++, lsn += 64) {
        hk_pace_observe(p, lsn, lsn - 64, now);
        now += base_ns;
        hk_pace_observe(p, lsn, lsn, now);
    }
    for (int i = 0; i < 40000; i++) {
        uint64_t drained = capacity * (now - last) / 1000000000ull, delay;

        last = now;
        queued -= hk_min_u64(queued, drained);
        if (hk_pace_take(p, 1 << 16, now)) {
            queued += 1 << 16;
            done += i > 20000 ? 1 << 16 : 0;
        }
        if (i % 8)
            goto on;
        delay = base_ns + queued * 1000000000ull / capacity;
        hk_pace_observe(p, lsn, lsn - 64, now);
        hk_pace_observe(p, lsn, lsn, now + delay);
        lsn += 64;
        if (i > 20000)
            worst = hk_max_u64(worst, delay - base_ns);
    on:
        now += MS / 4;
    }
    *ret_rate = done / 5; /* bytes a second over the second half */
    return worst;
}

static void application_comes_first(void **state)
{
    struct hk_pace p;
    uint64_t rate, worst;

    (void)state;
    for (uint64_t capacity = 20 << 20; capacity <= 200 << 20; capacity *= 3) {
        worst = added_ns(&p, capacity, MS, &rate);
        /* Bounded: what was asked for, and what one interval may overshoot. */
        assert_true(worst < 6 * HK_PACE_DELAY_NS);
        /* And the resync still gets most of what nobody else needs. */
        assert_true(rate > capacity / 2);
        assert_true(p.slowed > 0);
    }
}

/* Nobody is disturbed: a third of a second later it goes as fast as two disks are read. */
static void pace_opens_quickly(void **state)
{
    uint64_t now = 1000 * MS, lsn = 64;
    struct hk_pace p;

    (void)state;
    hk_pace_init(&p, now);
    for (int i = 0; i < 1300; i++, now += MS / 4) {
        while (hk_pace_take(&p, 1 << 20, now))
            ;
        hk_pace_observe(&p, 64, 64, now);
    }
    assert_true(hk_pace_rate(&p) >= 2ull << 30);

    /* A record waits longer than an interval: until it is durable nobody knows what it costs. */
    hk_pace_init(&p, now);
    hk_pace_observe(&p, lsn + 64, lsn, now);
    for (int i = 0; i < 80; i++, now += MS) {
        hk_pace_take(&p, 1 << 20, now);
        hk_pace_take(&p, 1 << 20, now);
        hk_pace_observe(&p, lsn + 64, lsn, now);
    }
    assert_int_equal(hk_pace_rate(&p), HK_PACE_RATE_START);

    /* It has fallen once: by eighths from then on. */
    for (int i = 0; i < 2; i++, now += HK_PACE_OPENING_NS) {
        hk_pace_observe(&p, lsn + 64, lsn + 64, now);
        lsn += 64;
        hk_pace_observe(&p, lsn + 64, lsn, now);
        now += i ? 200 * MS : MS;
        hk_pace_observe(&p, lsn + 64, lsn + 64, now);
    }
    hk_pace_observe(&p, lsn + 64, lsn + 64, now);
    assert_true(p.slowed > 0);
    lsn = hk_pace_rate(&p);
    while (hk_pace_take(&p, 1 << 20, now))
        ;
    hk_pace_observe(&p, 0, 0, p.interval_ns + HK_PACE_INTERVAL_NS - 1);
    assert_int_equal(hk_pace_rate(&p), lsn);
    hk_pace_observe(&p, 0, 0, p.interval_ns + HK_PACE_INTERVAL_NS);
    assert_int_equal(hk_pace_rate(&p), lsn + lsn / 8);
}

static void pace_has_a_floor_and_a_cap(void **state)
{
    struct hk_pace p;
    uint64_t now = 1000 * MS, granted = 0;

    (void)state;
    hk_pace_init(&p, now);
    hk_pace_observe(&p, 128, 64, now);
    hk_pace_observe(&p, 128, 128, now + MS);
    hk_pace_observe(&p, 192, 128, now + MS); /* never durable: the standby stands still */
    for (int i = 0; i < 10000; i++) {
        now += 10 * MS;
        hk_pace_observe(&p, 192, 128, now);
    }
    assert_int_equal(hk_pace_rate(&p), HK_PACE_RATE_MIN);
    hk_pace_cap(&p, 1000);
    assert_int_equal(hk_pace_rate(&p), 1000);
    for (int i = 0; i < 10000; i++) {
        now += 10 * MS;
        granted += hk_pace_take(&p, 500, now) ? 500 : 0;
    }
    assert_true(granted > 95000 && granted <= 101000);
    assert_true(hk_pace_ready_ns(&p) <= now + 1000 * MS);
}

/* Both sides asked about one region of three blocks; each says nothing but zeroes, or an error. */
static uint64_t blocks_after(int here_error, int there_error)
{
    static struct world w;
    struct hk_resync_step s;
    struct hk_hashes h = {0};
    uint64_t blocks = 0;

    begin(&w, 11);
    w.r.load.stale_bytes = 3 * HK_COMPARE_BLOCK_BYTES;
    for (int i = 0; i < 100; i++) {
        w.now += 10 * MS;
        if (!hk_resync_next(&w.r, w.now, &s))
            continue;
        h.request = s.ask.request;
        switch (s.kind) {
        case HK_RSTEP_STALE_ASK:
            hk_resync_stale(&w.r, blocks == 0 && w.r.compared_bytes == 0, 0, 0,
                            3 * HK_COMPARE_BLOCK_BYTES, 1, 1, w.now);
            break;
        case HK_RSTEP_HASH:
            h.error = here_error;
            h.count = here_error ? 0 : 3;
            hk_resync_hashed(&w.r, &h);
            hk_resync_hashed(&w.r, &h); /* nobody waits for it any more */
            break;
        case HK_RSTEP_ASK:
            h.error = there_error;
            h.count = there_error ? 0 : 3;
            assert_int_equal(hk_resync_answered(&w.r, &h), 0);
            break;
        case HK_RSTEP_BLOCK:
            blocks++;
            hk_resync_block_done(&w.r, s.request, 0, 100, w.now);
            break;
        case HK_RSTEP_HEAL: hk_resync_healed(&w.r, s.request, 0, w.now); break;
        }
    }
    assert_int_equal(w.r.healed_regions, 1);
    return blocks;
}

/* Who could not read has said nothing: two silences are not equal. */
static void unread_is_unequal(void **state)
{
    (void)state;
    assert_int_equal(blocks_after(0, 0), 0);
    assert_int_equal(blocks_after(-EIO, 0), 3);
    assert_int_equal(blocks_after(0, -EIO), 3);
    assert_int_equal(blocks_after(-EIO, -EIO), 3);
}

static bool asks_anything(struct world *w, const struct hk_resync_load *l)
{
    struct hk_resync_step s;
    bool asked = false;

    for (int i = 0; i < 50; i++) {
        w->now += 100 * MS;
        hk_resync_load(&w->r, l, w->now);
        while (hk_resync_next(&w->r, w->now, &s)) {
            if (s.kind == HK_RSTEP_STALE_ASK)
                answer_stale(w, &s);
            asked = asked || s.kind == HK_RSTEP_ASK;
        }
    }
    return asked;
}

/* Log that is not durable, or durable and not applied: nothing is added to it. */
static void waits_for_the_standby(void **state)
{
    static struct world w;
    const struct hk_resync_load well = {1ull << 40, 1ull << 40, 1ull << 40, 1 << 20};
    struct hk_resync_load l = well;

    (void)state;
    begin(&w, 12);
    l.durable -= 1ull << 30;
    assert_false(asks_anything(&w, &l));
    assert_true(hk_resync_deadline_ns(&w.r) == UINT64_MAX);
    l = well;
    l.applied -= HK_RESYNC_BACKLOG_BYTES + 1;
    assert_false(asks_anything(&w, &l));
    l.applied++;
    assert_true(asks_anything(&w, &l));
    hk_resync_stop(&w.r, true);
    assert_true(hk_resync_deadline_ns(&w.r) == UINT64_MAX);
    assert_false(asks_anything(&w, &well));
}

/* A block that found no room comes again when its time has come, and the deadline says when. */
static void retry_has_a_deadline(void **state)
{
    static struct world w;
    struct hk_resync_step s = {0};
    struct hk_hashes h = {0};
    uint64_t tried;

    (void)state;
    begin(&w, 13);
    for (int i = 0; i < 100 && s.kind != HK_RSTEP_BLOCK; i++) {
        w.now += 10 * MS;
        load(&w);
        if (!hk_resync_next(&w.r, w.now, &s))
            continue;
        h.request = s.ask.request;
        h.error = -EIO;
        if (s.kind == HK_RSTEP_STALE_ASK)
            answer_stale(&w, &s);
        else if (s.kind == HK_RSTEP_HASH)
            hk_resync_hashed(&w.r, &h);
        else if (s.kind == HK_RSTEP_ASK)
            assert_int_equal(hk_resync_answered(&w.r, &h), 0);
    }
    assert_int_equal(s.kind, HK_RSTEP_BLOCK);
    tried = w.now;
    hk_resync_block_done(&w.r, s.request, -EAGAIN, 0, w.now);
    hk_resync_block_done(&w.r, s.request + 12345, 0, 0, w.now); /* nobody's */
    hk_resync_pause(&w.r, true);
    while (hk_resync_next(&w.r, w.now, &s))
        assert_int_not_equal(s.kind, HK_RSTEP_BLOCK);
    assert_true(hk_resync_deadline_ns(&w.r) == tried + HK_RESYNC_RETRY_NS);
    w.now = tried + HK_RESYNC_RETRY_NS;
    assert_true(hk_resync_next(&w.r, w.now, &s));
    assert_int_equal(s.kind, HK_RSTEP_BLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_become_equal),     cmocka_unit_test(reads_out_are_bounded),
        cmocka_unit_test(answers_that_cannot_be),  cmocka_unit_test(unread_is_unequal),
        cmocka_unit_test(waits_for_the_standby),   cmocka_unit_test(retry_has_a_deadline),
        cmocka_unit_test(pause_and_throttle),      cmocka_unit_test(eta_is_honest),
        cmocka_unit_test(application_comes_first), cmocka_unit_test(pace_opens_quickly),
        cmocka_unit_test(application_comes_first), cmocka_unit_test(pace_has_a_floor_and_a_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
