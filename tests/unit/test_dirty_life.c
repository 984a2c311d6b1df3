/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random lives of a primary with a dirty map against a naive world: an origin with a volatile
 * cache, a standby, a metadata file whose writes can be torn, kills, power cuts, failing I/O.
 * Oracles: at each origin write its region is marked in what is durable (I1); after a power cut
 * every region whose possible content differs from the standby's is marked or stale (I2).
 */
#include "tests/unit/dirty_rig.h"

enum { OPS = 8, LOG_MAX = 1 << 14, LIVES = 100, STEPS = 800 };

/* A region is one value: writes cover all that is ever looked at of it. */
struct cell {
    uint32_t cur;     /* in the cache */
    uint32_t old[64]; /* what a power cut may bring back instead */
    uint32_t old_count;
};

struct logged {
    uint64_t lsn, end;
    uint32_t region, value;
    bool published;
};

struct slot {
    struct hk_op op;
    enum { EMPTY, WAITS, COPIES, WRITES } stage;
    uint32_t value, region;
    struct hk_capture_stale heal; /* bytes 0: none */
};

struct world {
    struct rig r;
    uint64_t seed;
    struct slot slot[OPS];
    struct cell cell[DIRTY_REGIONS];
    struct logged log[LOG_MAX];
    uint32_t log_count, value;
    uint32_t base[DIRTY_REGIONS]; /* the standby's, before the log begins */
    uint64_t reported;            /* durable, as the core was told */
    struct hk_capture_meta meta;
    bool meta_out, flush_out, dead;
    uint32_t flush_snap[DIRTY_REGIONS];
    uint32_t heals, cuts, uncaptured;
    uint8_t epoch_tag;
};

static uint32_t pick(struct world *w, uint32_t n)
{
    return (uint32_t)(unit_random(&w->seed) % n);
}

static uint16_t volume_of(uint32_t region)
{
    return region >= DIRTY_REGIONS / 2;
}

/* ---- the origin ---- */

static void origin_write(struct world *w, uint32_t region, uint32_t value)
{
    struct cell *c = &w->cell[region];

    assert_true(c->old_count < 64);
    c->old[c->old_count++] = c->cur;
    c->cur = value;
}

/*
 * What stood in the cache when the flush began is stable now. If it failed, some of it is gone, and
 * no later flush brings it back: whoever reads the medium sees that.
 */
static void origin_flushed(struct world *w, uint16_t volume, const uint32_t *then, bool good)
{
    for (uint32_t i = 0; i < DIRTY_REGIONS; i++) {
        struct cell *c = &w->cell[i];

        if (volume_of(i) != volume || c->old_count == 0)
            continue;
        if (!good && pick(w, 2)) {
            c->cur = c->old[pick(w, c->old_count)];
            c->old_count = 0;
        } else if (good && then[i] == c->cur) {
            c->old_count = 0;
        }
    }
}

static void snap(const struct world *w, uint32_t *ret)
{
    for (uint32_t i = 0; i < DIRTY_REGIONS; i++)
        ret[i] = w->cell[i].cur;
}

/* ---- the standby ---- */

static uint32_t standby(const struct world *w, uint32_t region, uint64_t durable)
{
    uint32_t v = w->base[region];

    for (uint32_t i = 0; i < w->log_count; i++) {
        if (w->log[i].region == region && w->log[i].end <= durable)
            v = w->log[i].value;
    }
    return v;
}

static void log_insert(struct world *w, const struct hk_op *op, uint32_t region, uint32_t value)
{
    uint32_t at = w->log_count++;

    assert_true(w->log_count < LOG_MAX);
    for (; at > 0 && w->log[at - 1].lsn > op->lsn.v; at--)
        w->log[at] = w->log[at - 1];
    w->log[at] = (struct logged){op->lsn.v, op->end.v, region, value, false};
}

static void log_published(struct world *w, uint64_t lsn)
{
    for (uint32_t i = 0; i < w->log_count; i++) {
        if (w->log[i].lsn == lsn)
            w->log[i].published = true;
    }
}

/* A record that was never published is void: it carries nothing. */
static void log_void(struct world *w)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < w->log_count; i++) {
        if (w->log[i].published)
            w->log[kept++] = w->log[i];
    }
    w->log_count = kept;
}

/* The log up to here is all there will ever be of it. */
static void log_cut(struct world *w, uint64_t durable)
{
    for (uint32_t i = 0; i < DIRTY_REGIONS; i++)
        w->base[i] = standby(w, i, durable);
    w->log_count = 0;
}

/* ---- ops ---- */

static void step_op(struct world *w, struct slot *s, enum hk_step step);

static void pump(struct world *w)
{
    enum hk_step step;
    struct hk_op *op;

    while ((op = hk_capture_next(w->r.c, &step, &w->r.now)))
        step_op(w, op->cookie, step);
}

static void step_op(struct world *w, struct slot *s, enum hk_step step)
{
    switch (step) {
    case HK_COPY:
        s->stage = COPIES;
        log_insert(w, &s->op, s->region, s->value);
        return;
    case HK_SUBMIT:
        s->stage = WRITES;
        w->uncaptured++;
        return;
    case HK_DONE:
        if (s->heal.bytes && s->op.result == 0 && s->op.captured)
            w->heals += hk_capture_heal(w->r.c, w->r.lease, s->heal.volume, s->heal.offset,
                                        s->heal.event, s->op.end, &w->r.now) == 0;
        s->stage = EMPTY;
        return;
    case HK_FAIL: s->stage = EMPTY; return;
    case HK_WAIT: return;
    case HK_META:
    case HK_READ: break;
    }
    assert_true(false);
}

static void begin(struct world *w, uint32_t region, const struct hk_capture_stale *heal)
{
    struct slot *s = &w->slot[0];
    enum hk_step step;

    while (s < w->slot + OPS && s->stage != EMPTY)
        s++;
    if (s == w->slot + OPS)
        return;
    *s = (struct slot){.value = ++w->value, .region = region, .stage = WAITS};
    if (heal)
        s->heal = *heal;
    s->op = dirty_write(volume_of(region), region % (DIRTY_REGIONS / 2));
    s->op.cookie = s;
    step = hk_capture_begin(w->r.c, &s->op, &w->r.now);
    step_op(w, s, step);
    pump(w);
}

static void advance(struct world *w, struct slot *s)
{
    enum hk_step step;

    if (s->stage == COPIES) {
        memcpy(s->op.payload, &s->value, sizeof(s->value));
        hk_capture_publish(w->r.c, &s->op);
        log_published(w, s->op.lsn.v);
        step = hk_capture_copied(w->r.c, &s->op);
        assert_int_equal(step, HK_SUBMIT);
        s->stage = WRITES;
    } else if (s->stage == WRITES) {
        int result = pick(w, 40) == 0 ? -EIO : 0;

        assert_true(dirty_marked(&w->r, s->op.volume, s->op.offset));
        if (result == 0 || pick(w, 2))
            origin_write(w, s->region, s->value);
        s->stage = WAITS;
        step = hk_capture_written(w->r.c, &s->op, result, &w->r.now);
        step_op(w, s, step);
        pump(w);
    }
}

static void app_flush(struct world *w)
{
    uint16_t volume = (uint16_t)pick(w, 2);
    struct hk_op op = rig_flush(volume);
    int result = pick(w, 12) == 0 ? -EIO : 0;
    enum hk_step step = rig_begin(&w->r, &op);
    uint32_t then[DIRTY_REGIONS];
    struct hk_op *back;
    enum hk_step ready;

    snap(w, then);
    if (step == HK_WAIT) {
        while ((back = hk_capture_next(w->r.c, &ready, &w->r.now))) {
            if (back == &op)
                step = ready;
            else
                step_op(w, back->cookie, ready);
        }
    }
    if (step == HK_WAIT) {
        assert_true(hk_capture_cancel(w->r.c, &op));
        pump(w);
        return;
    }
    if (step == HK_COPY)
        rig_copy(&w->r, &op, 0);
    step = hk_capture_written(w->r.c, &op, result, &w->r.now);
    origin_flushed(w, volume, then, result == 0);
    if (step == HK_WAIT) {
        bool told = false;

        /* The failed flush stays queued until the map knows; then it is handed back. */
        for (unsigned i = 0; i < 8 && !told; i++) {
            if (w->meta_out) {
                memcpy(w->r.metadata + w->meta.offset, w->meta.data, w->meta.bytes);
                w->meta_out = false;
                hk_capture_meta_done(w->r.c, 0, &w->r.now);
            }
            rig_pass(&w->r, RIG_SECOND);
            rig_meta_once(&w->r, 0);
            while ((back = hk_capture_next(w->r.c, &step, &w->r.now))) {
                if (back == &op)
                    told = true;
                else
                    step_op(w, back->cookie, step);
            }
        }
        assert_true(told);
    }
    pump(w);
}

/* ---- metadata ---- */

static void meta_apply(struct world *w, bool torn)
{
    const uint8_t *from = w->meta.data;

    for (uint32_t at = 0; at < w->meta.bytes; at += 512) {
        if (!torn || pick(w, 2))
            memcpy(w->r.metadata + w->meta.offset + at, from + at, 512);
    }
}

static void meta_step(struct world *w)
{
    if (!w->meta_out) {
        w->meta_out = hk_capture_meta(w->r.c, &w->meta);
        return;
    }
    w->meta_out = false;
    if (pick(w, 15) == 0) {
        if (pick(w, 2))
            meta_apply(w, true);
        hk_capture_meta_done(w->r.c, -EIO, &w->r.now);
    } else {
        meta_apply(w, false);
        hk_capture_meta_done(w->r.c, 0, &w->r.now);
    }
    pump(w);
}

/* ---- the rest of the world ---- */

static void report(struct world *w)
{
    struct hk_capture_status s;

    hk_capture_tick(w->r.c, &w->r.now);
    s = rig_status(&w->r);
    if (s.closed || s.produced.v < w->reported)
        w->reported = s.durable.v;
    if (pick(w, 3) && !s.closed) {
        uint64_t span = (s.produced.v - w->reported) / HK_RECORD_ALIGN;

        if (span > 0)
            w->reported += (1 + unit_random(&w->seed) % span) * HK_RECORD_ALIGN;
    }
    w->reported = hk_max_u64(w->reported, s.durable.v);
    assert_int_equal(rig_report(&w->r, s.produced.v, w->reported, w->reported), 0);
    pump(w);
}

static void own_flush(struct world *w)
{
    if (!w->flush_out) {
        w->flush_out = hk_capture_wants_flush(w->r.c, &w->r.now);
        if (w->flush_out)
            snap(w, w->flush_snap);
        return;
    }
    w->flush_out = false;
    if (pick(w, 12) == 0) {
        origin_flushed(w, 0, w->flush_snap, false);
        origin_flushed(w, 1, w->flush_snap, false);
        hk_capture_origins_flushed(w->r.c, -EIO, &w->r.now);
    } else {
        origin_flushed(w, 0, w->flush_snap, true);
        origin_flushed(w, 1, w->flush_snap, true);
        hk_capture_origins_flushed(w->r.c, 0, &w->r.now);
    }
    pump(w);
}

static void resync(struct world *w)
{
    uint32_t from = pick(w, DIRTY_REGIONS), region;
    struct hk_capture_stale s;

    if (hk_capture_stale_next(w->r.c, volume_of(from),
                              (uint64_t)(from % (DIRTY_REGIONS / 2)) << DIRTY_SHIFT, &s))
        return;
    region = dirty_region(s.volume, s.offset);
    if (w->reported < s.after.v)
        return;
    if (w->cell[region].cur == standby(w, region, w->reported)) {
        w->heals += hk_capture_heal(w->r.c, w->r.lease, s.volume, s.offset, s.event, s.after,
                                    &w->r.now) == 0;
        pump(w);
        return;
    }
    /* What a block record does: both sides have the same afterwards. */
    begin(w, region, &s);
}

static void maybe_return(struct world *w)
{
    struct hk_capture_status s = rig_status(&w->r);
    struct hk_uuid id = rig_uuid(++w->epoch_tag);

    if (!s.closed || w->meta_out)
        return;
    hk_capture_offer_epoch(w->r.c, &id);
    if (hk_capture_return(w->r.c, w->r.lease, s.durable, &w->r.now) == 0) {
        log_cut(w, s.durable.v);
        w->reported = 0;
    }
    pump(w);
}

/* Nobody may rely on equality of what differs. `durable`: what the standby really has. */
static void check_cut(const struct world *w, uint64_t durable)
{
    struct dirty_seen seen;

    dirty_look(&w->r, &seen);
    for (uint32_t i = 0; i < DIRTY_REGIONS; i++) {
        uint32_t there = standby(w, i, durable);
        bool differs = w->cell[i].cur != there;

        for (uint32_t k = 0; k < w->cell[i].old_count; k++)
            differs = differs || w->cell[i].old[k] != there;
        if (differs && !dirty_seen_stale(&seen, i) && !dirty_seen_hot(&seen, i))
            fail_msg("region %u differs and is not marked", i);
    }
}

static void forget_ops(struct world *w)
{
    memset(w->slot, 0, sizeof(w->slot));
    w->flush_out = false;
    if (w->meta_out && pick(w, 2))
        meta_apply(w, pick(w, 2));
    w->meta_out = false;
}

/* The standby has the log up to here, and there will never be more of it. */
static void ring_lost(struct world *w, uint64_t has)
{
    log_cut(w, has);
    w->reported = 0;
    w->cuts++;
    rig_new_ring(&w->r, (uint8_t)(10 + pick(w, 200)));
    assert_int_equal(dirty_init(&w->r, HK_START_NEW_RING), 0);
    rig_attach(&w->r);
}

static void kill(struct world *w)
{
    uint64_t has = hk_max_u64(w->reported, rig_status(&w->r).durable.v);
    struct hk_redo redo;
    int rc;

    log_void(w);
    forget_ops(w);
    rc = dirty_init(&w->r, HK_START_OLD_RING);
    if (rc == -ESTALE) {
        /* The new epoch is in the superblock, and the ring still of the one before. */
        ring_lost(w, has);
        return;
    }
    assert_int_equal(rc, 0);
    while (hk_capture_redo_next(w->r.c, &redo)) {
        uint32_t value;
        int result = pick(w, 20) == 0 ? -EIO : 0;

        if (redo.record.type == HK_REC_WRITE && result == 0) {
            memcpy(&value, redo.payload, sizeof(value));
            origin_write(w, dirty_region(redo.record.volume, redo.record.offset), value);
        }
        hk_capture_redo_done(w->r.c, result, &w->r.now);
    }
    rig_attach(&w->r);
}

static void power_cut(struct world *w)
{
    uint64_t produced = rig_status(&w->r).produced.v, has;

    /* It may have more than it could still say. */
    has = hk_max_u64(w->reported, rig_status(&w->r).durable.v);
    if (produced > has && pick(w, 2))
        has += unit_random(&w->seed) % (produced - has + 1) / HK_RECORD_ALIGN * HK_RECORD_ALIGN;
    log_void(w);
    forget_ops(w);
    check_cut(w, has);
    for (uint32_t i = 0; i < DIRTY_REGIONS; i++) {
        struct cell *c = &w->cell[i];

        if (c->old_count && pick(w, 2))
            c->cur = c->old[pick(w, c->old_count)];
        c->old_count = 0;
    }
    ring_lost(w, has);
}

/* A quiet minute: whatever may be taken off the disk is. */
static void quiet(struct world *w)
{
    for (uint32_t i = 0; i < 40; i++) {
        struct hk_capture_status s = rig_status(&w->r);

        for (uint32_t k = 0; k < OPS; k++)
            advance(w, &w->slot[k]);
        meta_step(w);
        own_flush(w);
        if (!s.closed && !w->meta_out) {
            w->reported = hk_max_u64(s.produced.v, s.durable.v);
            assert_int_equal(rig_report(&w->r, s.produced.v, w->reported, w->reported), 0);
        }
        rig_pass(&w->r, RIG_SECOND / 4);
        pump(w);
    }
}

static void step(struct world *w)
{
    uint32_t what = pick(w, 100);
    bool hot = w->seed & 1;

    if (what < 30)
        begin(w, pick(w, hot ? 20 : DIRTY_REGIONS), NULL);
    else if (what < 55)
        advance(w, &w->slot[pick(w, OPS)]);
    else if (what < 75)
        meta_step(w);
    else if (what < 82)
        report(w);
    else if (what < 87)
        own_flush(w);
    else if (what < 93)
        resync(w);
    else if (what < 95)
        maybe_return(w);
    else if (what < 97)
        rig_pass(&w->r, pick(w, 3) ? 10 * RIG_MS : 2 * RIG_SECOND);
    else if (what < 98)
        app_flush(w);
    else if (pick(w, 10) == 0)
        quiet(w);
    else if (pick(w, 10) == 0)
        kill(w);
    else if (pick(w, 10) == 0)
        power_cut(w);
    pump(w);
    w->r.now.mono_ns += RIG_MS;
    w->r.now.real_ns += RIG_MS;
}

static void live(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    /* Not the seed itself: neighbours would walk through the same numbers, one apart. */
    w->seed = unit_random(&seed);
    w->epoch_tag = 100;
    dirty_live(&w->r);
    w->reported = rig_status(&w->r).durable.v;
    for (uint32_t i = 0; i < STEPS; i++) {
        step(w);
        /* What is not on the disk yet would be dropped by the array above. */
        for (uint32_t k = 0; k < DIRTY_REGIONS; k++) {
            if (w->cell[k].old_count > 60) {
                w->cell[k].old[0] = w->cell[k].old[w->cell[k].old_count - 1];
                w->cell[k].old_count = 1;
            }
        }
    }
    if (pick(w, 2))
        quiet(w);
    power_cut(w);
    dirty_free(&w->r);
}

static void test_lives(void **state)
{
    static struct world w;
    const char *first = getenv("HK_DIRTY_SEED"), *lives = getenv("HK_DIRTY_LIVES");
    uint64_t from = first ? strtoull(first, NULL, 0) : 1;
    uint32_t heals = 0, cuts = 0, uncaptured = 0;

    (void)state;
    for (uint64_t i = from; i < from + (lives ? strtoull(lives, NULL, 0) : LIVES); i++) {
        if (first)
            print_message("seed %llu\n", (unsigned long long)i);
        live(&w, i);
        heals += w.heals;
        cuts += w.cuts;
        uncaptured += w.uncaptured;
    }
    print_message("heals %u, cuts %u, uncaptured %u\n", heals, cuts, uncaptured);
    /* It went where it was to go. */
    assert_true(first || (heals > 100 && cuts > LIVES && uncaptured > 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lives)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
