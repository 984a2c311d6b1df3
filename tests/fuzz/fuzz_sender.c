/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sender under acks that say anything. Input: a sequence of: more log, time, frames to be
 * pulled, an ack (near the truth or not), a path that goes or changes its size, a new session.
 *
 * Oracle: durable and applied never exceed acked, acked never exceeds what was sent, nothing goes
 * back; a frame lies within the log and the window, fits its path, has a new packet number; an ack
 * that says what can't be changes nothing; who has nothing to send may sleep; once acks are true
 * again all of the log is acknowledged.
 */
#include "fuzz.h"

#include "replicator/core/sender.h"
#include "tests/fuzz/script.h"

#include <errno.h>
#include <stdlib.h>

enum { PATHS = 2, OPS_MAX = 400, FIRST = 1 << 20 };
enum op { PRODUCE, TIME, PULL, TRUE_ACK, ACK, LINK, SESSION, HOLD, NUDGE, OPS };

struct world {
    struct hk_sender s;
    uint64_t now_ns, pn[PATHS], ack_pn[PATHS];
    uint32_t session;
};

static struct hk_sender_cfg cfg = {
    .path_count = PATHS, .frame_body_max = {1376, 8800}, .ping_interval_ns = 100000000};

static void start(struct world *w, uint64_t acked, uint64_t window)
{
    hk_sender_start(&w->s, ++w->session, acked, acked, acked, window, w->now_ns);
    memset(w->pn, 0, sizeof(w->pn));
    memset(w->ack_pn, 0, sizeof(w->ack_pn));
}

static void setup(struct world *w, uint8_t mode)
{
    static uint8_t *memory;
    size_t bytes = hk_sender_memory(&cfg) + 4096;
    struct hk_arena arena;

    if (!memory)
        memory = malloc(bytes);
    HK_ASSERT(memory);
    arena = (struct hk_arena){.base = memory, .bytes = bytes};
    memset(w, 0, sizeof(*w));
    w->now_ns = 1000000000;
    cfg.rate_max_bytes_s = mode & 1 ? 1 << 20 : 0;
    HK_ASSERT(hk_sender_init(&w->s, &cfg, &arena, w->now_ns) == 0);
    for (uint8_t i = 0; i < PATHS; i++)
        hk_sender_link(&w->s, i, true, cfg.frame_body_max[i], w->now_ns);
    start(w, FIRST, FIRST + (1 << 20));
}

static void pull(struct world *w, unsigned most)
{
    struct hk_frame f;

    unsigned i;

    hk_sender_tick(&w->s, w->now_ns);
    for (i = 0; i < most && hk_sender_next(&w->s, w->now_ns, &f); i++) {
        HK_ASSERT(f.path < PATHS && w->s.path[f.path].up && f.session == w->session);
        HK_ASSERT(f.packet_number > w->pn[f.path]);
        w->pn[f.path] = f.packet_number;
        if (f.type == HK_FRAME_PING)
            continue;
        HK_ASSERT(f.type == HK_FRAME_DATA && !w->s.held);
        HK_ASSERT(f.span > 0 && f.span <= w->s.path[f.path].body_max);
        HK_ASSERT(f.lsn >= FIRST && f.lsn + f.span <= w->s.next);
        HK_ASSERT(f.lsn + f.span <= w->s.produced && f.lsn + f.span <= w->s.window);
    }
    /* Nothing to send now means nothing to do now: else its owner would never sleep. */
    if (i < most)
        HK_ASSERT(hk_sender_deadline_ns(&w->s) > w->now_ns);
}

static void check(const struct world *w)
{
    const struct hk_sender *s = &w->s;

    HK_ASSERT(s->applied <= s->durable && s->durable <= s->acked && s->acked <= s->next);
    HK_ASSERT(s->next <= s->produced || s->next == FIRST);
}

static int give(struct world *w, uint8_t path, uint64_t pn, const struct hk_ack *a,
                const struct hk_pn_range *ranges)
{
    uint64_t acked = w->s.acked, durable = w->s.durable, applied = w->s.applied;
    uint64_t window = w->s.window;
    int rc = hk_sender_on_ack(&w->s, path, pn, 100, a, ranges, w->now_ns);

    HK_ASSERT(rc == 0 || rc == -EALREADY || rc == -EINVAL);
    HK_ASSERT(w->s.acked >= acked && w->s.durable >= durable && w->s.applied >= applied);
    HK_ASSERT(w->s.window >= window);
    if (rc == -EINVAL)
        HK_ASSERT(w->s.acked == acked && w->s.durable == durable && w->s.applied == applied);
    return rc;
}

/* What a standby that got every frame would say. */
static void true_ack(struct world *w, uint8_t path)
{
    struct hk_ack a = {.acked = w->s.next, .durable = w->s.next, .applied = w->s.next};
    struct hk_pn_range all = {1, w->pn[path]};

    if (w->pn[path] == 0)
        return;
    a.window = hk_max_u64(w->s.window, w->s.next + (1 << 20));
    a.last_ping = w->pn[path];
    a.range_count = 1;
    give(w, path, ++w->ack_pn[path], &a, &all);
}

static void any_ack(struct world *w, struct script *s)
{
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX], decoded[HK_ACK_RANGES_MAX];
    uint8_t path = script_u8(s) % PATHS, body[48 + 16 * HK_ACK_RANGES_MAX];
    struct hk_ack a, b;
    uint64_t top, pn;
    int n;

    memset(&a, 0, sizeof(a));
    a.acked = script_near(s, w->s.next, 64);
    a.durable = script_near(s, a.acked, 64);
    a.applied = script_near(s, a.durable, 64);
    a.window = script_near(s, w->s.window, 4096);
    a.last_ping = script_near(s, w->pn[path], 1);
    a.delay_us = script_u16(s);
    a.flags = script_u8(s);
    a.range_count = script_u8(s) % (HK_ACK_RANGES_MAX + 1);
    top = script_near(s, w->pn[path], 1);
    for (unsigned i = 0; i < a.range_count; i++) {
        ranges[i].last = top;
        ranges[i].first = top -= script_u8(s) % 8;
        top -= 2 + script_u8(s) % 8;
    }
    pn = script_near(s, w->ack_pn[path], 1);
    /* Only what the codec lets through ever comes here. */
    n = hk_ack_encode(&a, ranges, body, sizeof(body));
    if (n < 0 || hk_ack_decode(body, (size_t)n, &b, decoded) != 0 || pn == 0)
        return;
    if (give(w, path, pn, &b, decoded) == 0)
        w->ack_pn[path] = hk_max_u64(w->ack_pn[path], pn);
}

static void link(struct world *w, struct script *s)
{
    static const uint32_t size[] = {192, 1376, 8800};
    uint8_t v = script_u8(s);

    hk_sender_link(&w->s, v % PATHS, v & 2, size[v / 4 % 3], w->now_ns);
}

static void step(struct world *w, struct script *s)
{
    uint64_t span;

    switch ((enum op)(script_u8(s) % OPS)) {
    case PRODUCE: hk_sender_produced(&w->s, w->s.produced + script_u16(s) * 64u); break;
    case TIME:
        span = script_u16(s);
        w->now_ns += span << script_u8(s) % 24;
        break;
    case PULL: pull(w, script_u8(s)); break;
    case TRUE_ACK: true_ack(w, script_u8(s) % PATHS); break;
    case ACK: any_ack(w, s); break;
    case LINK: link(w, s); break;
    case SESSION:
        hk_sender_stop(&w->s);
        start(w, w->s.acked, hk_max_u64(w->s.acked + 4096, w->s.window));
        break;
    case HOLD: w->s.held = script_u8(s) & 1; break;
    case NUDGE: hk_sender_ping(&w->s); break;
    case OPS: break;
    }
    check(w);
}

static void sound_link(struct world *w)
{
    uint64_t goal;

    w->s.held = false;
    hk_sender_stop(&w->s);
    start(w, w->s.acked, w->s.acked + (1 << 20));
    for (uint8_t i = 0; i < PATHS; i++)
        hk_sender_link(&w->s, i, true, cfg.frame_body_max[i], w->now_ns);
    hk_sender_produced(&w->s, w->s.produced);
    goal = w->s.produced;
    for (unsigned i = 0; i < 4000 && w->s.acked < goal; i++) {
        w->now_ns += 20000000;
        pull(w, 1000);
        for (uint8_t path = 0; path < PATHS; path++)
            true_ack(w, path);
        check(w);
    }
    HK_ASSERT(w->s.acked == goal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct script s = {data, data + size};

    if (size < 1)
        return 0;
    setup(&w, script_u8(&s));
    hk_sender_produced(&w.s, FIRST);
    for (unsigned i = 0; script_left(&s) && i < OPS_MAX; i++)
        step(&w, &s);
    sound_link(&w);
    return 0;
}
