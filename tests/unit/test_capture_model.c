/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capture core against a naive model, in random order, one thread, one seed a run.
 *
 * Around the core stand: clients with up to OPS changes in flight, each step of each delayed at
 * will; an origin of bytes; a replicator that reads the ring, keeps the whole log, and reports what
 * it likes when it likes, or goes away; a metadata file whose writes take time and fail; a clock
 * that creeps or jumps. The producer is killed at any point and starts over on the same ring; at
 * times the ring is lost with it. The model knows nothing of the core's insides. It checks, at
 * every step: LSNs below the durable ceiling and only after the durable CLEAN flag went (SPEC.md
 * §6); order (I3); no overlap in flight (I4); no acknowledgement that the mode forbids unless the
 * durable superblock says degraded, never under block (I9); nothing uncaptured before the durable
 * full-compare flag (I1); one unbroken chain of records; a deadline that lies ahead. And in the
 * end: every wait came to an end, and origin and log say the same.
 */
#include "tests/unit/capture_rig.h"

#include <stdio.h>

#include "driver-glue/client/ring_reader.h"

enum { OPS = 20, VOLUME = 1 << 16, STEPS = 1200, SEEDS = 16, LOG_MAX = 1 << 26 };

enum stage { IDLE = 0, WAITING, COPY, PUBLISHED, SUBMIT };

struct request {
    struct hk_op op;
    enum stage stage;
    uint64_t floor; /* largest LSN completed before it began */
    uint8_t data[8192];
};

struct model {
    struct rig r;
    uint64_t seed;
    struct request rq[OPS];
    uint8_t origin[2][VOLUME], replay[2][VOLUME];
    uint64_t completed; /* largest LSN of a completed op */
    /* replicator */
    struct hk_ring_reader reader;
    bool reads;
    uint64_t log_start, seen, acked, durable, released;
    uint64_t last_time_ns, last_bytes;
    /* metadata */
    struct hk_capture_meta meta;
    bool meta_out;
    bool origin_error, lost;
    unsigned kills, done, degraded_done, uncaptured, redone, voids, losses;
};

static uint64_t pick(struct model *m, uint64_t n)
{
    return unit_random(&m->seed) % n;
}

static bool in_flight(const struct request *q)
{
    return q->stage == COPY || q->stage == PUBLISHED || q->stage == SUBMIT;
}

static bool overlap(const struct hk_op *a, const struct hk_op *b)
{
    return a->volume == b->volume && a->offset < b->offset + b->length &&
           b->offset < a->offset + a->length;
}

static void check_admitted(struct model *m, struct request *q)
{
    rig_read_super(&m->r);
    for (unsigned i = 0; i < OPS; i++) {
        if (&m->rq[i] != q && in_flight(&m->rq[i]))
            assert_false(overlap(&m->rq[i].op, &q->op));
    }
    assert_false(m->r.super.flags & HK_SF_CLEAN);
    if (q->op.lsn.v == 0) {
        assert_true(m->r.super.flags & HK_SF_FULL_COMPARE);
        m->uncaptured++;
        return;
    }
    assert_true(q->op.end.v <= m->r.super.ceiling);
    assert_true(q->op.lsn.v > q->floor);
}

static void check_done(struct model *m, struct request *q)
{
    const struct hk_op *op = &q->op;
    uint64_t needed = m->r.cfg.mode == HK_MODE_SYNC ? m->durable : m->acked;

    q->stage = IDLE;
    if (op->result != 0)
        return;
    m->done++;
    m->completed = op->lsn.v > m->completed ? op->lsn.v : m->completed;
    if (m->r.cfg.mode == HK_MODE_ASYNC || (op->lsn.v && needed >= op->end.v))
        return;
    /* Acknowledged without the standby. */
    assert_int_equal(m->r.cfg.on_link_loss, HK_LINK_LOSS_CONTINUE);
    rig_read_super(&m->r);
    assert_true(m->r.super.flags & HK_SF_DEGRADED);
    m->degraded_done++;
}

static void take_step(struct model *m, struct request *q, enum hk_step step)
{
    switch (step) {
    case HK_WAIT:
        if (q->stage == IDLE)
            q->stage = WAITING;
        break;
    case HK_COPY:
        q->stage = COPY;
        check_admitted(m, q);
        break;
    case HK_SUBMIT:
        q->stage = SUBMIT;
        check_admitted(m, q);
        break;
    case HK_DONE:
    case HK_FAIL: check_done(m, q); break;
    case HK_META:
    case HK_READ: fail();
    }
}

static void pump(struct model *m)
{
    enum hk_step step;
    struct hk_op *op;

    while ((op = hk_capture_next(m->r.c, &step, &m->r.now)))
        take_step(m, HK_CONTAINER_OF(op, struct request, op), step);
    if (!m->meta_out)
        m->meta_out = hk_capture_meta(m->r.c, &m->meta);
}

static void begin(struct model *m, struct request *q)
{
    static const uint8_t types[] = {HK_REC_WRITE,  HK_REC_WRITE,   HK_REC_WRITE,
                                    HK_REC_ZEROES, HK_REC_DISCARD, HK_REC_FLUSH};
    uint8_t fill = (uint8_t)pick(m, 3);

    q->op = (struct hk_op){.type = types[pick(m, 6)], .volume = (uint16_t)pick(m, 2)};
    if (q->op.type != HK_REC_FLUSH) {
        q->op.length = (uint32_t)(512 * (1 + pick(m, 16)));
        q->op.offset = 512 * pick(m, (VOLUME - q->op.length) / 512 + 1);
    }
    /* Few contents, zeroes among them, so that equal bytes prove nothing by themselves. */
    memset(q->data, fill, sizeof(q->data));
    q->floor = m->completed;
    take_step(m, q, rig_begin(&m->r, &q->op));
}

static void write_origin(struct model *m, const struct request *q)
{
    uint8_t *to = m->origin[q->op.volume] + q->op.offset;

    if (q->op.type == HK_REC_WRITE)
        memcpy(to, q->op.payload ? q->op.payload : (const void *)q->data, q->op.length);
    else if (q->op.type != HK_REC_FLUSH)
        memset(to, 0, q->op.length);
}

static void advance(struct model *m, struct request *q)
{
    int result = 0;

    switch (q->stage) {
    case IDLE: begin(m, q); break;
    case WAITING:
        if (pick(m, 200) == 0 && hk_capture_cancel(m->r.c, &q->op))
            q->stage = IDLE;
        break;
    case COPY:
        if (q->op.payload)
            memcpy(q->op.payload, q->data, q->op.length);
        hk_capture_publish(m->r.c, &q->op);
        q->stage = PUBLISHED;
        break;
    case PUBLISHED:
        assert_int_equal(hk_capture_copied(m->r.c, &q->op), HK_SUBMIT);
        q->stage = SUBMIT;
        break;
    case SUBMIT:
        if (m->origin_error && pick(m, 100) == 0)
            result = -EIO;
        else
            write_origin(m, q);
        q->stage = WAITING;
        take_step(m, q, rig_written(&m->r, &q->op, result));
        break;
    }
}

/* The log as a standby would keep it: checked link by link, applied to the replay at once. */
static void read_log(struct model *m)
{
    struct hk_lsn produced;
    struct hk_record h;
    struct iovec iov[2];

    if (!m->reads)
        return;
    assert_true(hk_ring_reader_poll(&m->reader, 1 + (uint32_t)pick(m, 6), &produced) >= 0);
    while (m->seen < produced.v) {
        assert_int_equal(hk_ring_reader_header_at(&m->reader, HK_LSN(m->seen), &h), 0);
        assert_int_equal(h.lsn, m->seen);
        assert_true(h.time_ns > m->last_time_ns);
        if (m->last_bytes)
            assert_int_equal(h.prev_bytes, m->last_bytes);
        m->last_time_ns = h.time_ns;
        m->last_bytes = hk_record_bytes(h.payload_len);
        if (h.payload_len) {
            assert_int_equal(
                hk_ring_reader_gather(&m->reader, HK_LSN(m->seen + 64), h.payload_len, iov, 2), 1);
            assert_int_equal(hk_record_check_payload(&h, iov[0].iov_base), HK_RECORD_OK);
        }
        if (h.type == HK_REC_WRITE)
            memcpy(m->replay[h.volume] + h.offset, iov[0].iov_base, h.length);
        else if (h.type == HK_REC_ZEROES || h.type == HK_REC_DISCARD)
            memset(m->replay[h.volume] + h.offset, 0, h.length);
        m->voids += h.type == HK_REC_VOID;
        m->seen += m->last_bytes;
    }
}

static void report(struct model *m, bool all)
{
    /* Record boundaries are not asked for, multiples of 64 are. */
    m->acked += all ? m->seen - m->acked : pick(m, (m->seen - m->acked) / 64 + 1) * 64;
    m->durable += all ? m->acked - m->durable : pick(m, (m->acked - m->durable) / 64 + 1) * 64;
    m->released +=
        all ? m->durable - m->released : pick(m, (m->durable - m->released) / 64 + 1) * 64;
    hk_ring_reader_release(&m->reader, HK_LSN(m->released));
    assert_int_equal(rig_report(&m->r, m->released, m->acked, m->durable), 0);
}

static void attach(struct model *m)
{
    struct hk_capture_status s = rig_status(&m->r);

    rig_attach(&m->r);
    assert_int_equal(hk_ring_reader_init(&m->reader, m->r.ring, m->r.ring_bytes,
                                         &m->r.super.group_id, hk_history_last(&m->r.super.history),
                                         s.tail, s.tail_lsn.v),
                     0);
    if (!m->seen || m->lost) {
        m->seen = m->acked = m->durable = m->released = s.tail_lsn.v;
        m->last_bytes = 0;
    }
    m->reads = true;
    /* What it has already must be skipped, not read twice. */
    while (m->reader.next_lsn < m->seen) {
        struct hk_lsn produced;

        assert_true(hk_ring_reader_poll(&m->reader, 1, &produced) == 1);
    }
    assert_int_equal(m->reader.next_lsn, m->seen);
}

static void meta_ends(struct model *m, int result)
{
    if (!m->meta_out)
        return;
    /* A write that failed may have reached the disk all the same. */
    if (result == 0 || pick(m, 2))
        memcpy(m->r.metadata + m->meta.offset, m->meta.data, m->meta.bytes);
    m->meta_out = false;
    hk_capture_meta_done(m->r.c, result, &m->r.now);
}

static void redo(struct model *m)
{
    struct hk_redo redo;
    uint64_t last = 0;

    while (hk_capture_redo_next(m->r.c, &redo)) {
        const struct hk_record *h = &redo.record;

        assert_true(h->lsn > last);
        last = h->lsn;
        if (h->type == HK_REC_WRITE)
            memcpy(m->origin[h->volume] + h->offset, redo.payload, h->length);
        else if (h->type != HK_REC_FLUSH)
            memset(m->origin[h->volume] + h->offset, 0, h->length);
        hk_capture_redo_done(m->r.c, 0, &m->r.now);
        m->redone++;
    }
}

/*
 * Everything the process had in its hands is gone; its origin writes happened, or did not, or half.
 */
static void kill_producer(struct model *m, bool lose_ring)
{
    for (unsigned i = 0; i < OPS; i++) {
        struct request *q = &m->rq[i];

        if (q->stage == SUBMIT && q->op.type == HK_REC_WRITE && pick(m, 3) == 0) {
            q->op.length = q->op.length / 1024 * 512;
            write_origin(m, q);
        }
        q->stage = IDLE;
    }
    if (m->meta_out && pick(m, 2))
        memcpy(m->r.metadata + m->meta.offset, m->meta.data, m->meta.bytes);
    m->meta_out = m->reads = false;
    memset(m->r.c, 0xdd, hk_capture_bytes());
    if (lose_ring) {
        m->lost = true;
        m->losses++;
        rig_new_ring(&m->r, (uint8_t)(10 + m->losses));
    }
    m->kills++;
    assert_int_equal(rig_init(&m->r, lose_ring ? HK_START_NEW_RING : HK_START_OLD_RING), 0);
    redo(m);
}

static void pass_time(struct model *m)
{
    uint64_t ns = pick(m, 40) == 0 ? pick(m, 7 * RIG_SECOND) : pick(m, 20 * RIG_MS);

    m->r.now.mono_ns += ns;
    m->r.now.real_ns += pick(m, 20) == 0 ? 0 : ns;
    hk_capture_tick(m->r.c, &m->r.now);
    assert_true(hk_capture_deadline_ns(m->r.c) > m->r.now.mono_ns);
}

static void check_status(struct model *m)
{
    struct hk_capture_status s = rig_status(&m->r);

    assert_true(s.durable.v <= s.acked.v);
    assert_true(s.slots_used <= s.slots_total);
    assert_true(s.payload_used <= s.payload_total);
    if (s.passing || m->lost)
        return;
    assert_true(s.produced.v <= s.ceiling.v);
    if (s.in_sync) {
        rig_read_super(&m->r);
        assert_false(m->r.super.flags & (HK_SF_DEGRADED | HK_SF_FULL_COMPARE));
    }
}

static void one_step(struct model *m)
{
    switch (pick(m, 16)) {
    case 0: pass_time(m); break;
    case 1:
        if (m->reads)
            report(m, pick(m, 3) == 0);
        break;
    case 2:
    case 3: read_log(m); break;
    case 4: meta_ends(m, pick(m, 10) == 0 ? -EIO : 0); break;
    case 5:
        if (m->reads && pick(m, 20) == 0) {
            hk_capture_detach(m->r.c, m->r.lease, &m->r.now);
            m->reads = false;
        } else if (!m->reads && pick(m, 4) == 0) {
            attach(m);
        }
        break;
    case 6:
        if (pick(m, 30) == 0)
            kill_producer(m, pick(m, 12) == 0);
        break;
    default: advance(m, &m->rq[pick(m, OPS)]);
    }
    pump(m);
    check_status(m);
}

/* All faults end: nobody may be left waiting, except behind a door that is meant to be shut. */
static void quiesce(struct model *m)
{
    unsigned left = OPS;
    struct hk_capture_status s;

    for (unsigned round = 0; round < 4000 && left > 0; round++) {
        m->r.now.mono_ns += 30 * RIG_MS;
        m->r.now.real_ns += 30 * RIG_MS;
        hk_capture_tick(m->r.c, &m->r.now);
        meta_ends(m, 0);
        pump(m);
        if (!m->reads)
            attach(m);
        read_log(m);
        report(m, true);
        pump(m);
        left = 0;
        for (unsigned i = 0; i < OPS; i++) {
            if (m->rq[i].stage != IDLE) {
                left++;
                if (m->rq[i].stage != WAITING)
                    advance(m, &m->rq[i]);
            }
        }
        pump(m);
    }
    s = rig_status(&m->r);
    if (!s.barred)
        assert_int_equal(left, 0);
    while (m->seen < s.produced.v)
        read_log(m);
    if (m->uncaptured || m->origin_error || m->lost)
        return;
    for (unsigned v = 0; v < 2; v++)
        assert_memory_equal(m->origin[v], m->replay[v], VOLUME);
}

static void run(struct model *m, uint64_t seed, enum hk_mode mode, enum hk_link_loss policy)
{
    rig_alloc(&m->r);
    rig_create(&m->r);
    m->r.cfg.mode = mode;
    m->r.cfg.on_link_loss = policy;
    m->r.cfg.ceiling_step_bytes = 32 << 10;
    rig_new_ring(&m->r, 9);
    m->seed = seed;
    m->origin_error = pick(m, 5) == 0;
    assert_int_equal(rig_init(&m->r, HK_START_NEW_RING), 0);
    for (unsigned i = 0; i < STEPS; i++)
        one_step(m);
    quiesce(m);
    rig_free(&m->r);
}

static void test_random_order(void **state)
{
    static const enum hk_mode modes[] = {HK_MODE_ASYNC, HK_MODE_SEMISYNC, HK_MODE_SYNC};
    static const enum hk_link_loss policies[] = {HK_LINK_LOSS_CONTINUE, HK_LINK_LOSS_BLOCK};
    uint64_t first = getenv("HK_SEED") ? strtoull(getenv("HK_SEED"), NULL, 0) : 1;
    unsigned kills = 0, done = 0, degraded = 0, uncaptured = 0, redone = 0, voids = 0, losses = 0;

    for (uint64_t seed = first; seed < first + SEEDS; seed++) {
        for (unsigned k = 0; k < 6; k++) {
            struct model *m = calloc(1, sizeof(*m));

            if (getenv("HK_VERBOSE"))
                fprintf(stderr, "seed %llu mode %u policy %u\n", (unsigned long long)seed,
                        modes[k / 2], policies[k % 2]);
            run(m, seed, modes[k / 2], policies[k % 2]);
            kills += m->kills;
            done += m->done;
            degraded += m->degraded_done;
            uncaptured += m->uncaptured;
            redone += m->redone;
            voids += m->voids;
            losses += m->losses;
            free(m);
        }
    }
    printf("# %u done, %u of them degraded, %u uncaptured; %u kills, %u rings lost, %u redone, %u "
           "void records\n",
           done, degraded, uncaptured, kills, losses, redone, voids);
    /* What was to be seen was seen. */
    assert_true(done > 1000 && degraded > 20 && uncaptured > 20 && kills > 100 && redone > 50 &&
                voids > 20 && losses > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
