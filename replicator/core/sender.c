/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/sender.h"

#include "proto/bug.h"

#include <errno.h>

size_t hk_sender_memory(const struct hk_sender_cfg *cfg)
{
    return hk_ranges_memory(HK_SENDER_LOST_RANGES) + cfg->path_count * hk_recovery_memory();
}

int hk_sender_init(struct hk_sender *s, const struct hk_sender_cfg *cfg, struct hk_arena *arena,
                   uint64_t now_ns)
{
    int err;

    HK_ASSERT(cfg->path_count >= 1 && cfg->path_count <= HK_PATHS_MAX);
    HK_ASSERT(cfg->ping_interval_ns > 0);
    *s = (struct hk_sender){.cfg = *cfg};
    err = hk_ranges_init(&s->lost, HK_SENDER_LOST_RANGES, arena);
    for (uint32_t i = 0; i < cfg->path_count && !err; i++) {
        err = hk_recovery_init(&s->path[i].recovery, arena);
        hk_controller_init(&s->path[i].controller, cfg->rate_max_bytes_s, now_ns);
        s->path[i].body_max = cfg->frame_body_max[i];
        s->path[i].up = true;
    }
    return err;
}

void hk_sender_start(struct hk_sender *s, uint32_t session, uint64_t acked, uint64_t durable,
                     uint64_t applied, uint64_t window, uint64_t now_ns)
{
    HK_ASSERT(session != 0);
    HK_ASSERT(durable <= acked && applied <= durable);
    s->running = true;
    s->session = session;
    s->next = s->acked = acked;
    s->durable = durable;
    s->applied = applied;
    s->window = window;
    s->contact_ns = 0;
    s->standby_flags = 0;
    hk_ranges_reset(&s->lost);
    for (uint32_t i = 0; i < s->cfg.path_count; i++) {
        struct hk_sender_path *p = &s->path[i];

        hk_recovery_reset(&p->recovery);
        hk_controller_init(&p->controller, s->cfg.rate_max_bytes_s, now_ns);
        p->ack_seen = 0;
        p->ping_now = true;
        p->probe = false;
    }
}

void hk_sender_stop(struct hk_sender *s)
{
    s->running = false;
    s->session = 0;
    hk_ranges_reset(&s->lost);
    for (uint32_t i = 0; i < s->cfg.path_count; i++)
        hk_recovery_reset(&s->path[i].recovery);
}

void hk_sender_produced(struct hk_sender *s, uint64_t produced)
{
    s->produced = hk_max_u64(s->produced, produced);
}

void hk_sender_held(struct hk_sender *s, uint64_t ring_from, uint64_t spool_from, uint64_t spool_to)
{
    HK_ASSERT(spool_from <= spool_to);
    s->ring_from = ring_from;
    s->spool_from = spool_from;
    s->spool_to = spool_to;
}

/* Of log from lsn on: how much can be taken in one piece. */
static uint64_t held_from(const struct hk_sender *s, uint64_t lsn)
{
    if (lsn >= s->ring_from)
        return UINT64_MAX - lsn;
    return lsn >= s->spool_from && lsn < s->spool_to ? s->spool_to - lsn : 0;
}

/* Lost packets become ranges to send again, as far as the standby does not have them already. */
static void queue_lost(struct hk_sender *s, struct hk_sender_path *p)
{
    struct hk_sent lost;

    while (hk_recovery_next_lost(&p->recovery, &lost)) {
        uint64_t first = hk_max_u64(lost.lsn, s->acked), end = lost.lsn + lost.span;

        if (first < end && !HK_BUG(loss_forgotten))
            hk_ranges_add_cover(&s->lost, first, end);
    }
}

void hk_sender_link(struct hk_sender *s, uint8_t path, bool up, uint32_t body_max, uint64_t now_ns)
{
    struct hk_sender_path *p = &s->path[path];

    HK_ASSERT(path < s->cfg.path_count);
    if (body_max && !HK_BUG(mtu_ignored))
        p->body_max = body_max;
    if (p->up == up)
        return;
    p->up = up;
    if (up) {
        hk_controller_init(&p->controller, s->cfg.rate_max_bytes_s, now_ns);
        p->ping_now = true;
    } else {
        hk_recovery_abandon(&p->recovery);
        queue_lost(s, p);
    }
}

/* What the standby claims must be possible: nothing was sent at or above `next`. */
static bool ack_possible(const struct hk_sender *s, const struct hk_ack *a)
{
    return a->acked <= s->next && a->durable <= a->acked && a->applied <= a->durable;
}

int hk_sender_on_ack(struct hk_sender *s, uint8_t path, uint64_t pn, uint32_t bytes,
                     const struct hk_ack *ack, const struct hk_pn_range *ranges, uint64_t now_ns)
{
    struct hk_sender_path *p = &s->path[path];
    struct hk_ack_result res;
    int err;

    HK_ASSERT(s->running && path < s->cfg.path_count);
    if (!ack_possible(s, ack)) {
        s->acks_refused++;
        return -EINVAL;
    }
    err = hk_recovery_on_ack(&p->recovery, ranges, ack->range_count, (uint64_t)ack->delay_us * 1000,
                             now_ns, &res);
    if (err) {
        s->acks_refused++;
        return err;
    }
    p->frames_rx++;
    p->bytes_rx += bytes;
    s->acked = hk_max_u64(s->acked, ack->acked);
    s->durable = hk_max_u64(s->durable, ack->durable);
    s->applied = hk_max_u64(s->applied, ack->applied);
    s->window = hk_max_u64(s->window, ack->window);
    hk_controller_on_ack(&p->controller, &p->recovery, &res, now_ns);
    queue_lost(s, p);
    hk_ranges_trim_below(&s->lost, s->acked);
    if (pn <= p->ack_seen)
        return -EALREADY;
    p->ack_seen = pn;
    s->standby_flags = ack->flags;
    s->contact_ns = now_ns;
    return 0;
}

/* A probe timeout: ask, and send the oldest log the standby lacks again, since the tail may be it.
 */
static void probe(struct hk_sender *s, struct hk_sender_path *p)
{
    uint64_t end = hk_min_u64(s->next, s->acked + p->body_max);

    p->ping_now = true;
    if (s->acked < end) {
        p->probe = true;
        hk_ranges_add_cover(&s->lost, s->acked, end);
    }
}

void hk_sender_tick(struct hk_sender *s, uint64_t now_ns)
{
    if (!s->running)
        return;
    for (uint32_t i = 0; i < s->cfg.path_count; i++) {
        struct hk_sender_path *p = &s->path[i];
        struct hk_ack_result res;

        if (!p->up || hk_recovery_deadline_ns(&p->recovery) > now_ns)
            continue;
        if (hk_recovery_on_timeout(&p->recovery, now_ns, &res))
            probe(s, p);
        else
            hk_controller_on_ack(&p->controller, &p->recovery, &res, now_ns);
        queue_lost(s, p);
    }
}

static uint64_t ping_due_ns(const struct hk_sender *s, const struct hk_sender_path *p)
{
    return p->ping_now ? 0 : p->pinged_ns + s->cfg.ping_interval_ns;
}

static void fill(struct hk_sender *s, struct hk_sender_path *p, uint8_t type, uint64_t lsn,
                 uint32_t span, uint16_t body_len, uint64_t now_ns, struct hk_frame *ret)
{
    uint32_t bytes = HK_FRAME_WIRE_BYTES + body_len;

    *ret = (struct hk_frame){
        .version = HK_FRAME_VERSION,
        .type = type,
        .path = (uint8_t)(p - s->path),
        .session = s->session,
        .packet_number = hk_recovery_sent(&p->recovery, lsn, span, bytes, now_ns),
        .lsn = lsn,
        .span = span,
        .body_len = body_len,
    };
    p->frames_tx++;
    p->bytes_tx += bytes;
}

static bool next_ping(struct hk_sender *s, struct hk_sender_path *p, uint64_t now_ns,
                      struct hk_frame *ret)
{
    if (now_ns < ping_due_ns(s, p))
        return false;
    hk_recovery_make_room(&p->recovery);
    queue_lost(s, p);
    p->ping_now = false;
    p->pinged_ns = now_ns;
    fill(s, p, HK_FRAME_PING, 0, 0, sizeof(struct hk_ping), now_ns, ret);
    return true;
}

/* How many bytes a data frame sent now would carry; 0: none is wanted. */
static uint32_t wanted(const struct hk_sender *s, const struct hk_sender_path *p)
{
    uint64_t first = s->next, end = hk_min_u64(s->produced, s->window);

    if (s->held)
        return 0;
    if (s->lost.count > 0) {
        first = s->lost.r[0].first;
        end = s->lost.r[0].end;
    }
    if (first >= end)
        return 0;
    return (uint32_t)hk_min_u64(p->body_max, hk_min_u64(end - first, held_from(s, first)));
}

/* model: sync.pml, SENT; session.pml, DATA_SENT */
static bool next_data(struct hk_sender *s, struct hk_sender_path *p, uint64_t now_ns,
                      struct hk_frame *ret)
{
    uint32_t bytes = wanted(s, p);
    struct hk_range r;

    if (bytes == 0 || !hk_recovery_room(&p->recovery))
        return false;
    if (!p->probe && !hk_controller_may_send(&p->controller, p->recovery.in_flight_bytes,
                                             bytes + HK_FRAME_WIRE_BYTES, now_ns))
        return false;
    p->probe = false;
    if (hk_ranges_take_lowest(&s->lost, bytes, &r)) {
        p->retransmitted++;
    } else {
        r = (struct hk_range){s->next, s->next + bytes};
        s->next += bytes;
    }
    HK_ASSERT(r.end - r.first == bytes && r.end <= s->next);
    fill(s, p, HK_FRAME_DATA, r.first, bytes, (uint16_t)bytes, now_ns, ret);
    hk_controller_sent(&p->controller, bytes + HK_FRAME_WIRE_BYTES);
    return true;
}

bool hk_sender_next(struct hk_sender *s, uint64_t now_ns, struct hk_frame *ret)
{
    if (!s->running)
        return false;
    for (uint32_t i = 0; i < s->cfg.path_count; i++) {
        if (s->path[i].up && next_ping(s, &s->path[i], now_ns, ret))
            return true;
    }
    for (uint32_t i = 0; i < s->cfg.path_count; i++) {
        uint32_t at = (s->turn + i) % s->cfg.path_count;

        if (s->path[at].up && next_data(s, &s->path[at], now_ns, ret)) {
            s->turn = (at + 1) % s->cfg.path_count;
            return true;
        }
    }
    return false;
}

uint64_t hk_sender_deadline_ns(const struct hk_sender *s)
{
    uint64_t at = UINT64_MAX;

    if (!s->running)
        return at;
    for (uint32_t i = 0; i < s->cfg.path_count; i++) {
        const struct hk_sender_path *p = &s->path[i];
        uint32_t bytes = wanted(s, p);
        uint64_t ready;

        if (!p->up)
            continue;
        at = hk_min_u64(at, ping_due_ns(s, p));
        at = hk_min_u64(at, hk_recovery_deadline_ns(&p->recovery));
        if (bytes == 0 || !hk_recovery_room(&p->recovery))
            continue;
        /* Only the token bucket fills with time; an exhausted window waits for an ack. */
        if (p->recovery.in_flight_bytes + bytes + HK_FRAME_WIRE_BYTES > p->controller.window_bytes)
            continue;
        ready = hk_controller_ready_ns(&p->controller, bytes + HK_FRAME_WIRE_BYTES);
        if (ready > 0)
            at = hk_min_u64(at, ready);
    }
    return at;
}

void hk_sender_ping(struct hk_sender *s)
{
    for (uint32_t i = 0; i < s->cfg.path_count; i++)
        s->path[i].ping_now = true;
}
