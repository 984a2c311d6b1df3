/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiver under a sequence of frames whose tags were right: pieces of a log in any order and
 * cut, the same with a changed byte, bodies that are the input, pings, new sessions, moving floors.
 *
 * Oracle: a record comes out only where the log goes on, as it was written, and `acked` is its end;
 * the window's edge and acked never go back; an ack names only packets that were taken, encodes and
 * decodes to itself; once the link is sound and a new session begins, the whole log arrives.
 */
#include "fuzz.h"

#include "replicator/core/receiver.h"
#include "tests/fuzz/script.h"
#include "tests/unit/logmaker.h"

#include <errno.h>
#include <stdlib.h>

HK_FUZZ_LARGE_MEMORY

enum { WINDOW_BYTES = 8 << 20, VOLUME_BYTES = 1 << 21, OPS_MAX = 400, PN_MAX = 4096 };
enum op { DATA, DATA_DAMAGED, DATA_RAW, BULK, PING, PULL, ACK, FLOOR, SESSION, TIME, OPS };

struct world {
    struct hk_receiver r;
    struct logmaker *log;
    uint32_t session;
    uint64_t now_ns, next_pn[HK_PATHS_MAX];
    bool taken[HK_PATHS_MAX][PN_MAX];
    uint64_t edge;
};

static uint8_t window[WINDOW_BYTES], *memory;
static size_t memory_bytes;
static struct logmaker logs[2]; /* of a first epoch, and of one that a gap record opens */

static void make_log(struct logmaker *m, unsigned which)
{
    struct hk_epoch e = {.id = {{7, 1}}, .ordinal = 1 + which, .reason = HK_EPOCH_CREATE};
    struct hk_uuid parent = {{6, 1}};
    uint64_t random = 5;

    /* Soon it wraps around the window's end, in a header, a payload and a large record. */
    e.first_lsn = WINDOW_BYTES - (which ? 640 : 9600);
    logmaker_init(m, &e, 2 << 20);
    if (which)
        logmaker_gap(m, &parent, 4096);
    logmaker_mode(m, HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, 5);
    for (unsigned i = 0; i < 24; i++)
        logmaker_write(m, i % 2, 512 * i, 512 * (1 + i % 5), &random);
    logmaker_mark(m, "night", HK_MARK_FREEZE);
    logmaker_add(m, HK_REC_ZEROES, 0, 4096, 65536, NULL, 0);
    logmaker_write(m, 1, 0, HK_PAYLOAD_BYTES_MAX, &random);
    logmaker_add(m, HK_REC_FLUSH, 1, 0, 0, NULL, 0);
}

static void start(struct world *w)
{
    hk_receiver_start(&w->r, ++w->session, &w->log->epoch);
    memset(w->next_pn, 0, sizeof(w->next_pn));
    memset(w->taken, 0, sizeof(w->taken));
}

static void setup(struct world *w, uint8_t mode)
{
    struct hk_receiver_cfg cfg = {.window = window,
                                  .window_bytes = WINDOW_BYTES,
                                  .path_count = 2,
                                  .volume_count = 2,
                                  .volume_bytes = {VOLUME_BYTES, VOLUME_BYTES}};
    struct hk_arena arena;

    if (!memory) {
        make_log(&logs[0], 0);
        make_log(&logs[1], 1);
        memory_bytes = hk_receiver_memory(&cfg) + 4096;
        memory = malloc(memory_bytes);
        HK_ASSERT(memory);
    }
    arena = (struct hk_arena){.base = memory, .bytes = memory_bytes};
    memset(w, 0, sizeof(*w));
    w->log = &logs[mode & 1];
    HK_ASSERT(hk_receiver_init(&w->r, &cfg, &arena) == 0);
    hk_receiver_rebase(&w->r, w->log->first, 0);
    w->now_ns = 1000000000;
    start(w);
    w->edge = hk_receiver_edge(&w->r);
}

static int give(struct world *w, struct hk_frame *f, const uint8_t *body)
{
    int rc;

    f->session = w->session;
    rc = hk_receiver_frame(&w->r, f, body, w->now_ns);
    HK_ASSERT(rc == 0 || rc == -EEXIST || rc == -ERANGE || rc == -ENOSPC || rc == -EINVAL);
    if (rc == 0 && f->packet_number < PN_MAX) {
        HK_ASSERT(!w->taken[f->path][f->packet_number]);
        w->taken[f->path][f->packet_number] = true;
    }
    return rc;
}

static struct hk_frame header(struct world *w, struct script *s, uint8_t type)
{
    struct hk_frame f = {.version = HK_FRAME_VERSION, .type = type};
    uint8_t how = script_u8(s);

    f.path = how >> 6;
    if (how & 1)
        f.packet_number = script_u16(s);
    else
        f.packet_number = ++w->next_pn[f.path];
    return f;
}

/* A piece of the log that begins where it was, next to acked, or somewhere. */
static void data(struct world *w, struct script *s, enum op op)
{
    static uint8_t body[HK_FRAME_BODY_MAX];
    struct hk_frame f = header(w, s, HK_FRAME_DATA);
    uint8_t how = script_u8(s);
    uint16_t flip;

    f.lsn = how & 1 ? w->r.acked + script_u8(s) * (how & 2 ? 1 : 64)
                    : w->log->first + script_u32(s) % (w->log->next - w->log->first);
    f.span = 1 + script_u16(s) % HK_FRAME_BODY_MAX;
    if (op == DATA_RAW) {
        if (how & 4)
            f.lsn = script_u64(s);
        script_bytes(s, body, f.span);
    } else {
        if (f.lsn >= w->log->next)
            return;
        f.span = (uint32_t)hk_min_u64(f.span, w->log->next - f.lsn);
        memcpy(body, logmaker_at(w->log, f.lsn), f.span);
        flip = script_u16(s);
        if (op == DATA_DAMAGED)
            body[flip % f.span] ^= (uint8_t)(1 << (flip >> 8) % 8);
    }
    f.body_len = (uint16_t)f.span;
    give(w, &f, body);
}

static void bulk(struct world *w, uint64_t from, unsigned count)
{
    for (unsigned i = 0; i < count && from < w->log->next; i++) {
        struct hk_frame f = {.version = HK_FRAME_VERSION, .type = HK_FRAME_DATA, .lsn = from};

        f.span = (uint32_t)hk_min_u64(HK_FRAME_BODY_MAX, w->log->next - from);
        f.body_len = (uint16_t)f.span;
        f.packet_number = PN_MAX + ++w->next_pn[0];
        give(w, &f, logmaker_at(w->log, from));
        from += f.span;
    }
}

static void pull(struct world *w)
{
    struct hk_received got;
    uint64_t at = w->r.acked;

    while (hk_receiver_next_record(&w->r, &got)) {
        struct hk_record expected;

        HK_ASSERT(got.record.lsn == at && at < w->log->next);
        memcpy(&expected, logmaker_at(w->log, at), sizeof(expected));
        HK_ASSERT(memcmp(&got.record, &expected, sizeof(expected)) == 0);
        HK_ASSERT(!got.payload == (expected.payload_len == 0));
        if (got.payload)
            HK_ASSERT(memcmp(got.payload, logmaker_at(w->log, at + HK_RECORD_HEADER_BYTES),
                             expected.payload_len) == 0);
        at = hk_record_end(&expected).v;
        HK_ASSERT(w->r.acked == at);
    }
    HK_ASSERT(w->r.acked == at);
}

static void ack(struct world *w)
{
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX], again_ranges[HK_ACK_RANGES_MAX];
    struct hk_ack a, again;
    uint8_t body[48 + 16 * HK_ACK_RANGES_MAX];
    struct hk_frame f;
    int n;

    while (hk_receiver_next_ack(&w->r, w->now_ns, &f, &a, ranges)) {
        HK_ASSERT(a.acked == w->r.acked && f.session == w->session && f.packet_number > 0);
        n = hk_ack_encode(&a, ranges, body, sizeof(body));
        HK_ASSERT(n == 48 + 16 * a.range_count);
        HK_ASSERT(hk_ack_decode(body, (size_t)n, &again, again_ranges) == 0);
        HK_ASSERT(memcmp(&a, &again, sizeof(a)) == 0);
        HK_ASSERT(memcmp(ranges, again_ranges, sizeof(ranges[0]) * a.range_count) == 0);
        for (unsigned i = 0; i < a.range_count; i++) {
            for (uint64_t pn = ranges[i].first; pn <= ranges[i].last && pn < PN_MAX; pn++)
                HK_ASSERT(w->taken[f.path][pn]);
        }
    }
    HK_ASSERT(!hk_receiver_ack_due(&w->r, w->now_ns));
}

static void step(struct world *w, struct script *s)
{
    struct hk_frame f;
    uint64_t lsn;

    switch ((enum op)(script_u8(s) % OPS)) {
    case DATA: data(w, s, DATA); break;
    case DATA_DAMAGED: data(w, s, DATA_DAMAGED); break;
    case DATA_RAW: data(w, s, DATA_RAW); break;
    case BULK: bulk(w, w->r.acked, script_u8(s)); break;
    case PING:
        f = header(w, s, HK_FRAME_PING);
        give(w, &f, NULL);
        break;
    case PULL: pull(w); break;
    case ACK: ack(w); break;
    case FLOOR:
        lsn = w->r.floor + script_u16(s) * 64u;
        if (lsn < w->r.acked && w->r.floor >= hk_receiver_intact_from(&w->r))
            lsn = hk_receiver_boundary(&w->r, w->r.floor, lsn);
        hk_receiver_set_floor(&w->r, hk_min_u64(lsn, w->r.acked));
        break;
    case SESSION: start(w); break;
    case TIME: w->now_ns += script_u32(s); break;
    case OPS: break;
    }
    HK_ASSERT(hk_receiver_edge(&w->r) >= w->edge);
    w->edge = hk_receiver_edge(&w->r);
    HK_ASSERT(w->r.floor <= w->r.acked && w->r.acked <= w->edge);
}

static void sound_link(struct world *w)
{
    struct hk_frame ping = {.version = HK_FRAME_VERSION, .type = HK_FRAME_PING};

    start(w);
    while (w->r.acked < w->log->next) {
        uint64_t before = w->r.acked;

        hk_receiver_set_floor(&w->r, w->r.acked);
        bulk(w, w->r.acked, 100);
        pull(w);
        HK_ASSERT(w->r.acked > before);
    }
    ping.packet_number = 1;
    HK_ASSERT(give(w, &ping, NULL) == 0);
    HK_ASSERT(hk_receiver_ack_due(&w->r, w->now_ns));
    ack(w);
    HK_ASSERT(hk_receiver_deadline_ns(&w->r) == UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct world w;
    struct script s = {bytes, bytes + size};

    if (size < 1)
        return 0;
    setup(&w, script_u8(&s));
    for (unsigned i = 0; script_left(&s) && i < OPS_MAX; i++)
        step(&w, &s);
    pull(&w);
    sound_link(&w);
    return 0;
}
