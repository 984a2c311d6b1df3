/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the independent checker (tests/tools) accept what is true and refuse what is not?
 *
 * Goal: an oracle counts only once it has been seen failing, and one that refuses legal images is
 * no better. (test_checker_exact.c compares it with brute force.) Method:
 *
 *   1. Random histories from a model that knows the truth (it gives every operation its point,
 * keeps a log in that order, loses a legal suffix): the true image must be accepted.
 *   2. Doctored images of those histories, each provably illegal by a naive rule that shares no
 *      code with the judge: lost acknowledged write, lost write on another volume, older content
 *      (A-B-A), torn operation, foreign bytes. All must be refused.
 *   3. Reads: legal ones accepted, stale ones refused, and what a read has seen binds what follows.
 *
 * The sequence is fixed by a seed; HK_SEED changes it and is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checker_rng.h"

#include "../tools/content.h"
#include "../tools/history.h"
#include "../tools/judge.h"

/* ---- 1 and 2: a model that knows the truth ---- */

enum { TAGS = 4 };

static const uint64_t few_contents[TAGS] = {
    0,
    (uint64_t)HK_CONTENT_FILL << 56 | 0xaa,
    (uint64_t)HK_CONTENT_FILL << 56 | 0x55,
    (uint64_t)HK_CONTENT_MIX << 56 | 7,
};

enum {
    BIG_VOLUMES = 3,
    BIG_SECTORS = 96,
    BIG_OPS_MAX = 400,
    BIG_DEPTH_MAX = 12,
    BIG_EVENTS_MAX = 16 * BIG_OPS_MAX
};

struct live {
    bool used, placed;
    unsigned op; /* id */
    struct hk_stamp_event submit;
};

/* Truth: the stamp log a client would have kept, and the log order the storage gave. */
struct model {
    struct hk_stamplog log;
    struct hk_stamp_event events[BIG_EVENTS_MAX];
    struct live live[BIG_DEPTH_MAX];
    unsigned depth, op_count;
    unsigned order[BIG_OPS_MAX]; /* ids of changing operations in the storage's order */
    unsigned order_count;
    struct hk_stamp_event submits[BIG_OPS_MAX]; /* by id */
    bool answered[BIG_OPS_MAX];
    int64_t begin[BIG_OPS_MAX], end[BIG_OPS_MAX]; /* by id; end HK_JUDGE_NEVER if unanswered */
    uint64_t now[BIG_VOLUMES][BIG_SECTORS];
};

typedef uint64_t big_image[BIG_VOLUMES][BIG_SECTORS];

static int64_t emit(struct model *m, struct hk_stamp_event e)
{
    assert_true(m->log.event_count < BIG_EVENTS_MAX);
    m->events[m->log.event_count] = e;
    return (int64_t)m->log.event_count++;
}

static void big_apply(const struct hk_stamp_event *e, big_image image)
{
    for (uint32_t i = 0; i < e->length / HK_SECTOR_BYTES; i++) {
        uint64_t s = e->offset / HK_SECTOR_BYTES + i;

        image[e->volume][s] =
            e->op == HK_STAMP_WRITE ? hk_content_tag(e->content, e->volume, s) : 0;
    }
}

static bool changing(const struct hk_stamp_event *e)
{
    return e->op == HK_STAMP_WRITE || e->op == HK_STAMP_ZERO || e->op == HK_STAMP_TRIM;
}

static void model_submit(struct model *m, struct live *l)
{
    struct hk_stamp_event *e = &l->submit;
    unsigned id = m->op_count++;
    unsigned kind = below(100);

    *e = (struct hk_stamp_event){.kind = HK_STAMP_SUBMIT, .id = id};
    e->volume = (uint16_t)below(BIG_VOLUMES);
    e->op = kind < 72   ? HK_STAMP_WRITE
            : kind < 80 ? HK_STAMP_ZERO
            : kind < 85 ? HK_STAMP_TRIM
            : kind < 90 ? HK_STAMP_FLUSH
                        : HK_STAMP_READ;
    e->flags = e->op == HK_STAMP_WRITE && below(8) == 0 ? HK_STAMP_FUA : 0;
    if (e->op != HK_STAMP_FLUSH) {
        uint64_t first = below(3) == 0 ? below(8) : below(BIG_SECTORS);
        uint64_t count = 1 + below(below(3) == 0 ? 16 : 4);

        if (first + count > BIG_SECTORS)
            count = BIG_SECTORS - first;
        e->offset = first * HK_SECTOR_BYTES;
        e->length = (uint32_t)count * HK_SECTOR_BYTES;
    }
    if (e->op == HK_STAMP_WRITE)
        e->content = below(3) == 0 ? hk_content_id(HK_CONTENT_UNIQUE, id + 1)
                                   : hk_content_id(HK_CONTENT_MIX, below(3));
    if (e->op == HK_STAMP_WRITE && below(3) == 0)
        e->content = few_contents[below(3)];
    m->submits[id] = *e;
    m->end[id] = HK_JUDGE_NEVER;
    m->begin[id] = emit(m, *e);
    *l = (struct live){.used = true, .op = id, .submit = *e};
}

/* The moment at which the operation takes its place in the storage's order. */
static void model_place(struct model *m, struct live *l)
{
    const struct hk_stamp_event *e = &l->submit;

    l->placed = true;
    if (changing(e)) {
        m->order[m->order_count++] = l->op;
        big_apply(e, m->now);
    }
    if (e->op == HK_STAMP_READ) {
        for (uint32_t i = 0; i < e->length / HK_SECTOR_BYTES; i++) {
            struct hk_stamp_event run = {.kind = HK_STAMP_READ_RUN,
                                         .volume = e->volume,
                                         .id = e->id,
                                         .offset = e->offset + i * HK_SECTOR_BYTES,
                                         .length = HK_SECTOR_BYTES};

            run.content = m->now[e->volume][run.offset / HK_SECTOR_BYTES];
            emit(m, run);
        }
    }
}

static void model_complete(struct model *m, struct live *l)
{
    m->answered[l->op] = true;
    m->end[l->op] = emit(m, (struct hk_stamp_event){.kind = HK_STAMP_COMPLETE, .id = l->op});
    l->used = false;
}

/* The server is killed: some of what was in flight has happened; nobody was told. */
static void model_disconnect(struct model *m)
{
    for (unsigned i = 0; i < m->depth; i++) {
        struct live *l = &m->live[i];

        if (!l->used)
            continue;
        if (!l->placed && below(2) && l->submit.op != HK_STAMP_READ)
            model_place(m, l);
        l->used = false;
    }
    for (uint16_t v = 0; v < BIG_VOLUMES; v++) {
        emit(m, (struct hk_stamp_event){.kind = HK_STAMP_DISCONNECT, .volume = v});
        emit(m, (struct hk_stamp_event){.kind = HK_STAMP_CONNECT, .volume = v});
    }
}

static void model_run(struct model *m, unsigned ops)
{
    memset(m, 0, sizeof(*m));
    m->log.events = m->events;
    m->log.header.volume_count = BIG_VOLUMES;
    for (unsigned v = 0; v < BIG_VOLUMES; v++) {
        m->log.header.volume[v].size_bytes = BIG_SECTORS * HK_SECTOR_BYTES;
        m->log.header.volume[v].range_length = BIG_SECTORS * HK_SECTOR_BYTES;
    }
    m->depth = 1 + below(BIG_DEPTH_MAX);
    while (m->op_count < ops) {
        struct live *l = &m->live[below(m->depth)];

        if (!l->used)
            model_submit(m, l);
        else if (!l->placed)
            model_place(m, l);
        else
            model_complete(m, l);
        if (below(200) == 0)
            model_disconnect(m);
    }
    /* Some of the last ones get no place before the crash. */
    for (unsigned i = 0; i < m->depth; i++) {
        if (m->live[i].used && !m->live[i].placed && below(2) &&
            m->live[i].submit.op != HK_STAMP_READ)
            model_place(m, &m->live[i]);
    }
}

/* The image of the first `count` operations of the storage's order. */
static void model_image(const struct model *m, unsigned count, big_image ret)
{
    memset(ret, 0, sizeof(big_image));
    for (unsigned i = 0; i < count; i++)
        big_apply(&m->submits[m->order[i]], ret);
}

static enum hk_verdict big_judge(const struct model *m, enum hk_promise promise,
                                 const big_image image, uint64_t *ret_read_violations)
{
    static const uint64_t zeros[BIG_SECTORS];
    struct hk_history_options o = {
        .promise = promise, .check_reads = true, .unknown_ends = m->op_count % 2 == 0};
    struct hk_judge_volume v[BIG_VOLUMES];
    struct hk_judge_case c = {.volumes = v, .volume_count = BIG_VOLUMES, .cut_max = HK_JUDGE_NEVER};
    struct hk_judge_result r;
    struct hk_history h;
    FILE *null = fopen("/dev/null", "w"); /* the explanation must survive every case, too */

    assert_non_null(null);
    for (unsigned i = 0; i < BIG_VOLUMES; i++)
        v[i] = (struct hk_judge_volume){
            .sector_count = BIG_SECTORS, .actual = image[i], .base = zeros};
    assert_int_equal(hk_history_build(&m->log, v, &o, &h, null), 0);
    c.ops = h.ops;
    c.op_count = h.op_count;
    hk_judge(&c, &r, null);
    *ret_read_violations = h.read_violations;
    hk_history_free(&h);
    fclose(null);
    return r.verdict;
}

/* The number of operations that the promise makes the storage keep. */
static unsigned keep_min(const struct model *m, enum hk_promise promise)
{
    unsigned keep = 0;

    for (unsigned i = 0; i < m->order_count && promise == HK_PROMISE_DURABLE; i++) {
        if (m->answered[m->order[i]])
            keep = i + 1;
    }
    return keep;
}

/*
 * The naive rule: with operation `w` certainly contained, can sector s of volume v hold `tag`?
 * Only if some operation leaves it there and was not over before w began; if `w` covers the sector
 * itself or not makes no difference to the operations that were over before `x` (the last contained
 * one on the sector that had certainly come before w ended).
 */
static bool possible_with(const struct model *m, unsigned w, uint16_t v, uint64_t s, uint64_t tag)
{
    bool covered = false;
    int64_t latest = -1; /* largest begin of those on the sector that are contained if w is */

    for (unsigned id = 0; id < m->op_count; id++) {
        const struct hk_stamp_event *e = &m->submits[id];

        if (!changing(e) || e->volume != v || s < e->offset / HK_SECTOR_BYTES ||
            s >= (e->offset + e->length) / HK_SECTOR_BYTES)
            continue;
        if ((id == w || m->end[id] < m->begin[w])) {
            covered = true;
            latest = m->begin[id] > latest ? m->begin[id] : latest;
        }
    }
    if (!covered && tag == 0)
        return true;
    for (unsigned id = 0; id < m->op_count; id++) {
        const struct hk_stamp_event *e = &m->submits[id];

        if (!changing(e) || e->volume != v || s < e->offset / HK_SECTOR_BYTES ||
            s >= (e->offset + e->length) / HK_SECTOR_BYTES || m->end[id] < latest)
            continue;
        if ((e->op == HK_STAMP_WRITE ? hk_content_tag(e->content, v, s) : 0) == tag)
            return true;
    }
    return false;
}

enum doctoring { LOST_ACKED, LOST_ELSEWHERE, STALE, TORN, FOREIGN, DOCTORINGS };
static const char *const doctoring_names[DOCTORINGS] = {
    "lost acknowledged write", "lost write on another volume", "older content (A-B-A)",
    "torn operation", "foreign bytes"};

/* A contained operation whose unique stamp is still to be seen at (*v, *s). */
static bool find_witness(const struct model *m, unsigned kept, const big_image image,
                         unsigned *ret_id, uint64_t *ret_sector)
{
    for (unsigned tries = 0; tries < 200 && kept > 0; tries++) {
        unsigned id = m->order[below(kept)];
        const struct hk_stamp_event *e = &m->submits[id];
        uint64_t s = e->offset / HK_SECTOR_BYTES + below(e->length / HK_SECTOR_BYTES);

        if (e->op == HK_STAMP_WRITE && e->content >> 56 == HK_CONTENT_UNIQUE &&
            image[e->volume][s] == e->content) {
            *ret_id = id;
            *ret_sector = s;
            return true;
        }
    }
    return false;
}

/* The content that the sector would have without operation `id`. */
static uint64_t without(const struct model *m, unsigned kept, unsigned id, uint16_t v, uint64_t s)
{
    uint64_t tag = 0;

    for (unsigned i = 0; i < kept; i++) {
        const struct hk_stamp_event *e = &m->submits[m->order[i]];

        if (m->order[i] != id && e->volume == v && s >= e->offset / HK_SECTOR_BYTES &&
            s < (e->offset + e->length) / HK_SECTOR_BYTES)
            tag = e->op == HK_STAMP_WRITE ? hk_content_tag(e->content, v, s) : 0;
    }
    return tag;
}

/* Loses one whole contained operation; true if that is provably illegal because w is contained. */
static bool lose(const struct model *m, unsigned kept, unsigned id, unsigned w, big_image image)
{
    const struct hk_stamp_event *e = &m->submits[id];
    bool illegal = false;

    for (uint32_t i = 0; i < e->length / HK_SECTOR_BYTES; i++) {
        uint64_t s = e->offset / HK_SECTOR_BYTES + i;
        uint64_t tag = without(m, kept, id, e->volume, s);

        if (image[e->volume][s] != tag && !possible_with(m, w, e->volume, s, tag))
            illegal = true;
        image[e->volume][s] = tag;
    }
    return illegal;
}

static bool still_seen(const struct model *m, unsigned w, const big_image image)
{
    const struct hk_stamp_event *e = &m->submits[w];

    for (uint32_t i = 0; i < e->length / HK_SECTOR_BYTES; i++) {
        if (image[e->volume][e->offset / HK_SECTOR_BYTES + i] == e->content)
            return true;
    }
    return false;
}

/* Changes the image in the way asked for; false if this history gives no chance for a case that is
 * illegal beyond doubt. */
static bool doctor(const struct model *m, enum doctoring how, unsigned kept, big_image image)
{
    unsigned id, w;
    uint64_t s, tag;
    uint16_t v;

    if (kept == 0)
        return false;
    switch (how) {
    case LOST_ACKED: /* judged with the promise: the operation is its own witness */
        id = m->order[below(kept)];
        return m->answered[id] && lose(m, kept, id, id, image);
    case LOST_ELSEWHERE:
        if (!find_witness(m, kept, image, &w, &s))
            return false;
        id = m->order[below(kept)];
        return m->end[id] < m->begin[w] && m->submits[id].volume != m->submits[w].volume &&
               lose(m, kept, id, w, image);
    case STALE:
        if (!find_witness(m, kept, image, &w, &s))
            return false;
        id = m->order[below(kept)];
        v = m->submits[id].volume;
        s = m->submits[id].offset / HK_SECTOR_BYTES;
        tag =
            m->submits[id].op == HK_STAMP_WRITE ? hk_content_tag(m->submits[id].content, v, s) : 0;
        if (image[v][s] == tag || possible_with(m, w, v, s, tag))
            return false;
        image[v][s] = tag;
        return still_seen(m, w, image);
    case TORN:
        if (!find_witness(m, kept, image, &w, &s))
            return false;
        v = m->submits[w].volume;
        tag = without(m, kept, w, v, s);
        if (possible_with(m, w, v, s, tag))
            return false;
        image[v][s] = tag;
        return still_seen(m, w, image);
    case FOREIGN:
        image[below(BIG_VOLUMES)][below(BIG_SECTORS)] =
            below(2) ? (uint64_t)HK_CONTENT_OTHER << 56 | 1
                     : hk_content_id(HK_CONTENT_UNIQUE, BIG_OPS_MAX + 99);
        return true;
    case DOCTORINGS: break;
    }
    return false;
}

static void test_model(void **state)
{
    enum { HISTORIES = 2500, DOCTORED_EACH = 6 };
    static struct model m;
    uint64_t refused[DOCTORINGS] = {0};
    uint64_t accepted = 0, read_violations;

    for (unsigned n = 0; n < HISTORIES; n++) {
        enum hk_promise promise = n % 2 ? HK_PROMISE_DURABLE : HK_PROMISE_NONE;
        unsigned kept;
        big_image image;

        model_run(&m, n % 10 ? 10 + below(60) : 100 + below(BIG_OPS_MAX - 100));
        kept = keep_min(&m, promise);
        kept += below(m.order_count - kept + 1);
        model_image(&m, kept, image);
        assert_int_equal(big_judge(&m, promise, image, &read_violations), HK_VERDICT_CONSISTENT);
        assert_int_equal(read_violations, 0);
        accepted++;
        for (unsigned i = 0; i < DOCTORED_EACH * DOCTORINGS; i++) {
            enum doctoring how = (enum doctoring)(i % DOCTORINGS);
            big_image doctored;

            memcpy(doctored, image, sizeof(image));
            if ((how == LOST_ACKED && promise != HK_PROMISE_DURABLE) ||
                !doctor(&m, how, kept, doctored))
                continue;
            assert_int_equal(big_judge(&m, promise, doctored, &read_violations),
                             HK_VERDICT_VIOLATION);
            refused[how]++;
        }
    }
    print_message("model: %llu true images of random histories accepted\n",
                  (unsigned long long)accepted);
    for (unsigned i = 0; i < DOCTORINGS; i++) {
        print_message("model: %llu doctored images refused: %s\n", (unsigned long long)refused[i],
                      doctoring_names[i]);
        assert_true(refused[i] > 200);
    }
}

/* ---- 3: reads ---- */

static void test_read_doctored(void **state)
{
    enum { HISTORIES = 1500 };
    static struct model m;
    uint64_t refused = 0, violations;

    for (unsigned n = 0; n < HISTORIES; n++) {
        big_image image;

        model_run(&m, 40 + below(60));
        model_image(&m, m.order_count, image);
        for (size_t i = 0; i < m.log.event_count; i++) {
            struct hk_stamp_event *e = &m.events[i];
            unsigned seen = e->kind == HK_STAMP_READ_RUN ? (unsigned)e->id : 0;
            uint64_t s = e->offset / HK_SECTOR_BYTES;
            uint64_t was = e->content;

            if (e->kind != HK_STAMP_READ_RUN || !m.answered[seen] || below(4))
                continue;
            /* Another content that the naive rule excludes: nobody wrote it later than what had
             * certainly been written when the read began, up to the whole history. */
            e->content = below(2) ? hk_content_id(HK_CONTENT_UNIQUE, 1 + below(m.op_count)) : 0;
            if (e->content == was || possible_with(&m, seen, e->volume, s, e->content)) {
                e->content = was;
                continue;
            }
            big_judge(&m, HK_PROMISE_NONE, image, &violations);
            assert_true(violations > 0);
            refused++;
            e->content = was;
        }
        big_judge(&m, HK_PROMISE_NONE, image, &violations);
        assert_int_equal(violations, 0);
    }
    print_message("reads: %llu doctored reads refused\n", (unsigned long long)refused);
    assert_true(refused > 500);
}

/* Client: W unanswered; a read sees it; V is written because of that. V without W is illegal, and
 * legal if nobody had looked. */
static void test_read_binds(void **state)
{
    uint64_t unique = hk_content_id(HK_CONTENT_UNIQUE, 1);
    uint64_t other = hk_content_id(HK_CONTENT_UNIQUE, 2);
    struct hk_stamp_event script[] = {
        {.kind = HK_STAMP_SUBMIT, .op = HK_STAMP_WRITE, .id = 0, .length = 512, .content = unique},
        {.kind = HK_STAMP_SUBMIT, .op = HK_STAMP_READ, .id = 1, .length = 512},
        {.kind = HK_STAMP_READ_RUN, .id = 1, .length = 512, .content = unique},
        {.kind = HK_STAMP_COMPLETE, .id = 1},
        {.kind = HK_STAMP_SUBMIT,
         .op = HK_STAMP_WRITE,
         .volume = 1,
         .id = 2,
         .length = 512,
         .content = other},
        {.kind = HK_STAMP_COMPLETE, .id = 2},
    };
    static struct model m;
    big_image image = {{0}};
    uint64_t violations;

    for (int looked = 0; looked < 2; looked++) {
        memset(&m, 0, sizeof(m));
        m.log.events = m.events;
        m.log.header.volume_count = BIG_VOLUMES;
        for (unsigned v = 0; v < BIG_VOLUMES; v++)
            m.log.header.volume[v].range_length = BIG_SECTORS * HK_SECTOR_BYTES;
        for (size_t i = 0; i < sizeof(script) / sizeof(script[0]); i++) {
            if (looked || script[i].kind != HK_STAMP_READ_RUN)
                emit(&m, script[i]);
        }
        image[0][0] = 0;
        image[1][0] = other;
        assert_int_equal(big_judge(&m, HK_PROMISE_DURABLE, image, &violations),
                         looked ? HK_VERDICT_VIOLATION : HK_VERDICT_CONSISTENT);
        assert_int_equal(violations, 0);
        image[0][0] = unique;
        assert_int_equal(big_judge(&m, HK_PROMISE_DURABLE, image, &violations),
                         HK_VERDICT_CONSISTENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_binds),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_read_doctored),
    };

    if (getenv("HK_SEED") != NULL)
        rng_state = strtoull(getenv("HK_SEED"), NULL, 0);
    print_message("HK_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
