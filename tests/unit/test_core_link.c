/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: sender and receiver together carry a log whole and in order over a link that loses,
 * duplicates and reorders, without ever writing over what the journal still needs, and one bad bit
 * in a valid frame ends the session. Method: a log of random records goes through both, frame by
 * frame; after each step the window is compared with the log, and the floor trails behind.
 */
#include "tests/unit/unit.h"

#include "replicator/core/receiver.h"
#include "replicator/core/sender.h"
#include "tests/unit/logmaker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MS     1000000ull
#define WINDOW (8ull << 20)

enum { FLIGHT = 4096 };

struct packet {
    uint64_t at;
    struct hk_frame f;
    struct hk_ack ack;
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX];
    bool used;
};

struct pair {
    struct hk_sender s;
    struct hk_receiver r;
    struct logmaker m;
    void *memory[3];
    struct packet *to, *from;
    uint64_t now, rnd, durable, journalled;
    unsigned loss, dup, reorder;
    uint64_t delivered, sent_data;
    uint32_t boundary; /* index into m.end of acked */
    bool corrupt;      /* flip a bit of the next data frame's copy */
};

static const struct hk_epoch epoch1 = {
    .id = {{1, 2, 3}}, .first_lsn = HK_LSN_FIRST, .ordinal = 1, .reason = HK_EPOCH_CREATE};

static void arena(struct hk_arena *a, void **keep, size_t bytes)
{
    *keep = calloc(1, bytes);
    *a = (struct hk_arena){.base = *keep, .bytes = bytes};
}

static void pair_init(struct pair *p, uint64_t seed, uint64_t log_bytes)
{
    struct hk_sender_cfg sc = {
        .path_count = 2, .frame_body_max = {1400, 16000}, .ping_interval_ns = 200 * MS};
    struct hk_receiver_cfg rc = {.window_bytes = WINDOW,
                                 .path_count = 2,
                                 .volume_count = 2,
                                 .volume_bytes = {1 << 30, 1 << 30}};
    struct hk_arena a;

    memset(p, 0, sizeof(*p));
    p->rnd = seed;
    p->memory[0] = aligned_alloc(4096, WINDOW);
    memset(p->memory[0], 0xee, WINDOW);
    rc.window = p->memory[0];
    arena(&a, &p->memory[1], hk_receiver_memory(&rc));
    assert_int_equal(hk_receiver_init(&p->r, &rc, &a), 0);
    arena(&a, &p->memory[2], hk_sender_memory(&sc));
    assert_int_equal(hk_sender_init(&p->s, &sc, &a, 0), 0);
    logmaker_init(&p->m, &epoch1, log_bytes);
    p->to = calloc(FLIGHT, sizeof(*p->to));
    p->from = calloc(FLIGHT, sizeof(*p->from));
    p->now = 1000 * MS;
    hk_receiver_rebase(&p->r, HK_LSN_FIRST, 0);
    p->durable = p->journalled = HK_LSN_FIRST;
}

static void pair_session(struct pair *p, uint32_t id)
{
    memset(p->to, 0, FLIGHT * sizeof(*p->to));
    memset(p->from, 0, FLIGHT * sizeof(*p->from));
    hk_receiver_start(&p->r, id, &epoch1);
    hk_sender_start(&p->s, id, p->r.acked, p->durable, p->durable, hk_receiver_edge(&p->r), p->now);
}

static void pair_free(struct pair *p)
{
    for (int i = 0; i < 3; i++)
        free(p->memory[i]);
    free(p->to);
    free(p->from);
    logmaker_free(&p->m);
}

static void random_log(struct pair *p, uint64_t bytes)
{
    while (p->m.next - p->m.first + HK_RECORD_BYTES_MAX < bytes) {
        uint64_t r = unit_random(&p->rnd);

        switch (r % 16) {
        case 0: logmaker_add(&p->m, HK_REC_FLUSH, 0, 0, 0, NULL, 0); break;
        case 1: logmaker_add(&p->m, HK_REC_ZEROES, 1, 4096, 512, NULL, 0); break;
        case 2: logmaker_write(&p->m, 0, 0, HK_PAYLOAD_BYTES_MAX, &p->rnd); break;
        case 3: logmaker_mark(&p->m, "m", HK_MARK_PLAIN); break;
        default: logmaker_write(&p->m, r >> 8 & 1, 0, 512 * (1 + (r >> 16) % 64), &p->rnd); break;
        }
    }
}

static void put(struct pair *p, struct packet *queue, const struct packet *pkt)
{
    unsigned copies = unit_random(&p->rnd) % 100 < p->loss ? 0 : 1;

    if (unit_random(&p->rnd) % 100 < p->dup)
        copies++;
    while (copies-- > 0) {
        uint32_t i = 0;

        while (i < FLIGHT && queue[i].used)
            i++;
        if (i == FLIGHT)
            return;
        queue[i] = *pkt;
        queue[i].used = true;
        queue[i].at = p->now + 5 * MS;
        if (unit_random(&p->rnd) % 100 < p->reorder)
            queue[i].at += unit_random(&p->rnd) % (10 * MS);
    }
}

static void deliver_data(struct pair *p, const struct packet *pkt)
{
    uint8_t *copy = NULL;
    int err;

    if (pkt->f.session != p->r.session)
        return;
    if (pkt->f.type == HK_FRAME_DATA) {
        copy = malloc(pkt->f.span);
        memcpy(copy, logmaker_at(&p->m, pkt->f.lsn), pkt->f.span);
        if (p->corrupt && pkt->f.lsn >= p->r.acked)
            copy[pkt->f.span / 2] ^= 1;
    }
    err = hk_receiver_frame(&p->r, &pkt->f, copy, p->now);
    assert_true(err == 0 || err == -EEXIST || err == -ERANGE || err == -ENOSPC);
    p->delivered += err == 0;
    free(copy);
}

static void check_record(struct pair *p, const struct hk_received *rec)
{
    uint64_t end = hk_record_end(&rec->record).v;

    assert_int_equal(end, p->m.end[p->boundary]);
    p->boundary++;
    assert_int_equal(p->r.acked, end);
    if (rec->payload)
        assert_memory_equal(rec->payload, logmaker_at(&p->m, rec->record.lsn + 64),
                            rec->record.payload_len);
}

/* What lies in the window from the page of `durable` on must be the log. */
static void check_window(struct pair *p)
{
    uint8_t *w = p->memory[0];
    uint64_t from = hk_max_u64(hk_round_down(p->durable, 4096), p->m.first);

    assert_true(hk_receiver_intact_from(&p->r) <= from);
    from = hk_round_up(hk_receiver_intact_from(&p->r), 64);

    for (uint64_t lsn = from; lsn < p->r.acked; lsn += 64)
        assert_memory_equal(w + (lsn & (WINDOW - 1)), logmaker_at(&p->m, lsn), 64);
}

static void step(struct pair *p)
{
    struct packet pkt = {.used = false};
    struct hk_received rec;

    p->now += MS / 4;
    for (uint32_t i = 0; i < FLIGHT; i++) {
        if (p->to[i].used && p->to[i].at <= p->now) {
            p->to[i].used = false;
            deliver_data(p, &p->to[i]);
        }
        if (p->from[i].used && p->from[i].at <= p->now) {
            struct packet *a = &p->from[i];

            a->used = false;
            if (a->f.session == p->s.session)
                assert_int_not_equal(hk_sender_on_ack(&p->s, a->f.path, a->f.packet_number, 100,
                                                      &a->ack, a->ranges, p->now),
                                     -EINVAL);
        }
    }
    while (hk_receiver_next_record(&p->r, &rec))
        check_record(p, &rec);
    if (unit_random(&p->rnd) % 4 == 0) { /* the journal gets ahead, at a record boundary */
        uint64_t limit = p->durable + unit_random(&p->rnd) % (3 << 20);

        p->durable = hk_receiver_boundary(&p->r, p->durable, limit);
        hk_receiver_set_floor(&p->r, p->durable);
        hk_receiver_ack_now(&p->r);
    }
    while (hk_receiver_next_ack(&p->r, p->now, &pkt.f, &pkt.ack, pkt.ranges)) {
        pkt.ack.durable = pkt.ack.applied = p->durable;
        put(p, p->from, &pkt);
    }
    hk_sender_tick(&p->s, p->now);
    while (hk_sender_next(&p->s, p->now, &pkt.f)) {
        assert_true(pkt.f.lsn + pkt.f.span <= hk_min_u64(p->s.produced, p->s.window));
        p->sent_data += pkt.f.span;
        put(p, p->to, &pkt);
    }
}

static void run(unsigned loss, unsigned dup, unsigned reorder, uint64_t seed, bool new_sessions)
{
    struct pair p;
    uint64_t log = 24 << 20;
    uint32_t session = 1;

    pair_init(&p, seed, log);
    random_log(&p, log);
    p.loss = loss;
    p.dup = dup;
    p.reorder = reorder;
    hk_sender_produced(&p.s, p.m.next);
    pair_session(&p, session);
    for (int i = 0; p.durable < p.m.next; i++) {
        assert_true(i < 200000);
        step(&p);
        if (i % 64 == 0)
            check_window(&p);
        if (new_sessions && unit_random(&p.rnd) % 400 == 0)
            pair_session(&p, ++session);
    }
    assert_int_equal(p.r.acked, p.m.next);
    assert_int_equal(p.boundary, p.m.count);
    if (loss == 0 && dup == 0 && reorder == 0 && !new_sessions)
        assert_int_equal(p.sent_data, p.m.next - p.m.first); /* nothing was sent twice */
    for (int i = 0; i < 400 && p.s.acked < p.m.next; i++)
        step(&p);
    assert_int_equal(p.s.acked, p.m.next);
    pair_free(&p);
}

static void perfect_link(void **state)
{
    (void)state;
    run(0, 0, 0, 1, false);
}

static void bad_link(void **state)
{
    (void)state;
    run(3, 5, 20, 2, false);
    run(30, 30, 50, 3, false);
}

static void sessions_break(void **state)
{
    (void)state;
    run(3, 2, 10, 4, true);
}

static void path_goes_away(void **state)
{
    struct pair p;

    (void)state;
    pair_init(&p, 9, 8 << 20);
    random_log(&p, 8 << 20);
    hk_sender_produced(&p.s, p.m.next);
    pair_session(&p, 1);
    for (int i = 0; i < 8; i++)
        step(&p);
    memset(p.to, 0, FLIGHT * sizeof(*p.to)); /* all of it is gone */
    hk_sender_link(&p.s, 1, false, 0, p.now);
    for (int i = 0; i < 40000 && p.s.acked < p.m.next; i++)
        step(&p);
    assert_int_equal(p.s.acked, p.m.next);
    assert_true(p.s.path[0].retransmitted > 0);
    pair_free(&p);
}

static void bad_payload_is_a_fault(void **state)
{
    struct pair p;
    struct hk_received rec;
    uint64_t acked;

    (void)state;
    pair_init(&p, 5, 4 << 20);
    random_log(&p, 4 << 20);
    hk_sender_produced(&p.s, p.m.next);
    pair_session(&p, 1);
    for (int i = 0; i < 30; i++)
        step(&p);
    p.corrupt = true;
    for (int i = 0; i < 4000 && p.r.fault == HK_RECORD_OK; i++)
        step(&p);
    assert_true(p.r.fault != HK_RECORD_OK);
    acked = p.r.acked;
    assert_false(hk_receiver_next_record(&p.r, &rec));
    /* A new session, no more damage: it goes on from what was good. */
    p.corrupt = false;
    pair_session(&p, 2);
    assert_int_equal(p.r.acked, acked);
    for (int i = 0; i < 40000 && p.s.acked < p.m.next; i++)
        step(&p);
    assert_int_equal(p.s.acked, p.m.next);
    pair_free(&p);
}

static struct hk_frame data(uint32_t session, uint64_t pn, uint64_t lsn, uint32_t span)
{
    return (struct hk_frame){.version = HK_FRAME_VERSION,
                             .type = HK_FRAME_DATA,
                             .session = session,
                             .packet_number = pn,
                             .lsn = lsn,
                             .span = span,
                             .body_len = (uint16_t)span};
}

static void beyond_the_window(void **state)
{
    struct pair p;
    uint8_t body[128] = {0};
    struct hk_frame f;
    struct hk_ack ack;
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX];
    uint64_t edge;

    (void)state;
    pair_init(&p, 5, 4 << 20);
    pair_session(&p, 1);
    edge = hk_receiver_edge(&p.r);
    assert_int_equal(edge, HK_LSN_FIRST + WINDOW);
    f = data(1, 1, edge - 64, 65);
    assert_int_equal(hk_receiver_frame(&p.r, &f, body, p.now), -ERANGE);
    assert_int_equal(p.r.out_of_window, 1);
    f = data(1, 2, 64, 64); /* before the epoch */
    assert_int_equal(hk_receiver_frame(&p.r, &f, body, p.now), -EINVAL);
    f = data(1, 3, UINT64_MAX - 63, 64);
    assert_int_equal(hk_receiver_frame(&p.r, &f, body, p.now), -EINVAL);
    f = data(1, 4, edge - 64, 64);
    assert_int_equal(hk_receiver_frame(&p.r, &f, body, p.now), 0);
    assert_int_equal(hk_receiver_frame(&p.r, &f, body, p.now), -EEXIST);
    /* Only what was placed is acknowledged, after the delay. */
    assert_false(hk_receiver_next_ack(&p.r, p.now, &f, &ack, ranges));
    assert_int_equal(hk_receiver_deadline_ns(&p.r), p.now + HK_ACK_DELAY_MAX_NS);
    assert_true(hk_receiver_next_ack(&p.r, p.now + HK_ACK_DELAY_MAX_NS, &f, &ack, ranges));
    assert_int_equal(ack.range_count, 1);
    assert_int_equal(ranges[0].first, 4);
    assert_int_equal(ranges[0].last, 4);
    assert_int_equal(ack.acked, HK_LSN_FIRST);
    assert_int_equal(ack.delay_us, 1000);
    assert_false(hk_receiver_ack_due(&p.r, p.now + 10 * MS));
    pair_free(&p);
}

/* A piece for each 64 bytes with a hole behind it: the table fills, nothing breaks. */
static void too_many_pieces(void **state)
{
    struct pair p;
    int full = 0;

    (void)state;
    pair_init(&p, 5, 4 << 20);
    random_log(&p, 4 << 20);
    pair_session(&p, 1);
    for (uint32_t i = 0; i < HK_RECEIVER_RANGES + 100; i++) {
        struct hk_frame f = data(1, i + 1, HK_LSN_FIRST + 128 * i + 64, 64);

        full += hk_receiver_frame(&p.r, &f, logmaker_at(&p.m, f.lsn), p.now) == -ENOSPC;
    }
    assert_int_equal(full, 100);
    assert_int_equal(p.r.no_room, 100);
    pair_free(&p);
}

static void records_out_of_place(void **state)
{
    static const struct {
        uint8_t type;
        uint16_t volume;
        uint64_t offset;
        uint32_t length, bytes;
        enum hk_record_fault fault;
    } table[] = {
        {HK_REC_WRITE, 0, 0, 512, 512, HK_RECORD_OK},
        {HK_REC_WRITE, 2, 0, 512, 512, HK_RECORD_BAD_VOLUME},
        {HK_REC_ZEROES, 1, (1 << 30) - 512, 512, 0, HK_RECORD_OK},
        {HK_REC_ZEROES, 1, (1 << 30) - 512, 513, 0, HK_RECORD_BAD_LENGTH},
        {HK_REC_DISCARD, 1, 1ull << 40, 512, 0, HK_RECORD_BAD_LENGTH},
        {HK_REC_WRITE, 0, 256, 512, 512, HK_RECORD_BAD_LENGTH},
        {HK_REC_ZEROES, 0, 0, 100, 0, HK_RECORD_BAD_LENGTH},
        {HK_REC_BLOCK, 0, 0, 512, 512, HK_RECORD_OK},
        {HK_REC_BLOCK, 2, 0, 512, 512, HK_RECORD_BAD_VOLUME},
        {HK_REC_BAD_RANGE, 0, 0, 512, 0, HK_RECORD_OK},
        {HK_REC_BAD_RANGE, 1, 1 << 30, 512, 0, HK_RECORD_BAD_LENGTH},
        {HK_REC_JOIN, 0, 0, 0, 0, HK_RECORD_BAD_TYPE},
        {HK_REC_VOID, 9, 1ull << 40, 512, 512, HK_RECORD_OK},
    };
    static uint8_t payload[512];

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
        struct pair p;
        struct hk_received rec;
        struct hk_frame f;

        pair_init(&p, 5, 4 << 20);
        logmaker_add(&p.m, table[i].type, table[i].volume, table[i].offset, table[i].length,
                     payload, table[i].bytes);
        pair_session(&p, 1);
        f = data(1, 1, p.m.first, (uint32_t)(p.m.next - p.m.first));
        assert_int_equal(hk_receiver_frame(&p.r, &f, logmaker_at(&p.m, f.lsn), p.now), 0);
        assert_int_equal(hk_receiver_next_record(&p.r, &rec), table[i].fault == HK_RECORD_OK);
        assert_int_equal(p.r.fault, table[i].fault);
        pair_free(&p);
    }
}

/* The record at `lsn` says that the one before had `prev_bytes`; its header is whole. */
static void relink(struct logmaker *m, uint64_t lsn, uint32_t prev_bytes)
{
    struct hk_record *r = (struct hk_record *)(void *)(m->bytes + (lsn - m->first));

    r->prev_bytes = prev_bytes;
    r->header_hash = hk_record_header_hash(r, hk_epoch_seed(&m->epoch.id));
}

/* What was not written behind the record before is not passed on, be it ever so whole. */
static void records_out_of_line(void **state)
{
    static const struct {
        uint32_t at, prev_bytes; /* which record; what it says */
        uint32_t known;          /* rebased there with this; 0 and at 0: the epoch's first */
        enum hk_record_fault fault;
    } table[] = {
        {0, 64, 0, HK_RECORD_BAD_PREV},    {1, 0, 0, HK_RECORD_BAD_PREV},
        {1, 128, 0, HK_RECORD_BAD_PREV},   {1, 64, 0, HK_RECORD_OK},
        {2, 64, 0, HK_RECORD_BAD_PREV},    {2, 64, 576, HK_RECORD_BAD_PREV},
        {2, 576, 576, HK_RECORD_OK},       {2, 64, HK_PREV_UNKNOWN, HK_RECORD_OK},
        {3, 128, 576, HK_RECORD_BAD_PREV},
    };
    static const uint8_t payload[512];

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
        struct hk_received rec;
        struct hk_frame f;
        struct pair p;
        uint64_t lsn[4], from;

        pair_init(&p, 5, 4 << 20);
        lsn[0] = p.m.first;
        lsn[1] = logmaker_add(&p.m, HK_REC_FLUSH, 0, 0, 0, NULL, 0);
        lsn[2] = logmaker_add(&p.m, HK_REC_WRITE, 0, 0, 512, payload, 512);
        lsn[3] = logmaker_add(&p.m, HK_REC_FLUSH, 0, 0, 0, NULL, 0);
        logmaker_add(&p.m, HK_REC_FLUSH, 0, 0, 0, NULL, 0);
        relink(&p.m, lsn[table[i].at], table[i].prev_bytes);
        from = table[i].known ? lsn[2] : lsn[0];
        hk_receiver_rebase(&p.r, from, table[i].known);
        p.durable = p.journalled = from;
        pair_session(&p, 1);
        f = data(1, 1, from, (uint32_t)(p.m.next - from));
        assert_int_equal(hk_receiver_frame(&p.r, &f, logmaker_at(&p.m, from), p.now), 0);
        while (hk_receiver_next_record(&p.r, &rec))
            ;
        assert_int_equal(p.r.fault, table[i].fault);
        assert_int_equal(p.r.bad_chain, table[i].fault == HK_RECORD_BAD_PREV);
        assert_int_equal(p.r.acked, table[i].fault ? lsn[table[i].at] : p.m.next);
        pair_free(&p);
    }
}

/* Every epoch but the first opens with a gap, and a gap stands nowhere else. */
static void gap_opens_an_epoch(void **state)
{
    const struct hk_epoch second = {.id = {{7}},
                                    .parent = epoch1.id,
                                    .first_lsn = 1 << 20,
                                    .parent_end = 8192,
                                    .ordinal = 2,
                                    .reason = HK_EPOCH_PROMOTE};

    (void)state;
    for (int with_gap = 0; with_gap < 2; with_gap++) {
        struct pair p;
        struct logmaker m;
        struct hk_received rec;
        struct hk_frame f;

        pair_init(&p, 5, 4 << 20);
        hk_receiver_rebase(&p.r, second.first_lsn, 0);
        hk_receiver_start(&p.r, 1, &second);
        logmaker_init(&m, &second, 1 << 16);
        if (with_gap)
            logmaker_gap(&m, &epoch1.id, 8192);
        logmaker_add(&m, HK_REC_FLUSH, 0, 0, 0, NULL, 0);
        f = data(1, 1, m.first, (uint32_t)(m.next - m.first));
        assert_int_equal(hk_receiver_frame(&p.r, &f, m.bytes, p.now), 0);
        while (hk_receiver_next_record(&p.r, &rec))
            ;
        assert_int_equal(p.r.fault, with_gap ? HK_RECORD_OK : HK_RECORD_BAD_TYPE);
        assert_int_equal(p.r.acked, with_gap ? m.next : m.first);
        logmaker_free(&m);
        pair_free(&p);
    }
}

static void impossible_acks(void **state)
{
    struct pair p;
    struct hk_frame f;
    struct hk_ack a = {.acked = HK_LSN_FIRST + 64, .window = HK_LSN_FIRST + WINDOW};
    struct hk_pn_range none[1] = {{0}};

    (void)state;
    pair_init(&p, 5, 4 << 20);
    random_log(&p, 4 << 20);
    hk_sender_produced(&p.s, p.m.next);
    pair_session(&p, 1);
    /* More than was sent. */
    assert_int_equal(hk_sender_on_ack(&p.s, 0, 1, 100, &a, none, p.now), -EINVAL);
    assert_int_equal(p.s.contact_ns, 0);
    while (hk_sender_next(&p.s, p.now, &f))
        ;
    assert_int_equal(hk_sender_on_ack(&p.s, 0, 2, 100, &a, none, p.now), 0);
    assert_int_equal(p.s.contact_ns, p.now);
    /* An older one again: no contact. */
    assert_int_equal(hk_sender_on_ack(&p.s, 0, 1, 100, &a, none, p.now + 5), -EALREADY);
    assert_int_equal(hk_sender_on_ack(&p.s, 0, 2, 100, &a, none, p.now + 5), -EALREADY);
    assert_int_equal(p.s.contact_ns, p.now);
    assert_int_equal(p.s.acks_refused, 1);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perfect_link),           cmocka_unit_test(bad_link),
        cmocka_unit_test(sessions_break),         cmocka_unit_test(path_goes_away),
        cmocka_unit_test(bad_payload_is_a_fault), cmocka_unit_test(beyond_the_window),
        cmocka_unit_test(too_many_pieces),        cmocka_unit_test(records_out_of_place),
        cmocka_unit_test(records_out_of_line),    cmocka_unit_test(gap_opens_an_epoch),
        cmocka_unit_test(impossible_acks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
