/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/controller.h"

#define NS_PER_S 1000000000ull

/* a × b / c without overflow on the way; saturates. */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
    unsigned __int128 v = (unsigned __int128)a * b / c;

    return v > UINT64_MAX ? UINT64_MAX : (uint64_t)v;
}

static uint64_t bucket_bytes(const struct hk_controller *c)
{
    /* A millisecond's worth: a reactor that sleeps that long still fills the line. */
    return hk_max_u64(c->rate_bytes_s / 1000, 4 * (HK_FRAME_BODY_MAX + 128));
}

void hk_controller_init(struct hk_controller *c, uint64_t rate_max_bytes_s, uint64_t now_ns)
{
    *c = (struct hk_controller){
        .window_bytes = HK_WINDOW_BYTES_INITIAL,
        .slow_start = true,
        .rate_max_bytes_s = rate_max_bytes_s,
        .rate_bytes_s = rate_max_bytes_s,
        .token_ns = now_ns,
        .round_start_ns = now_ns,
    };
    c->tokens = bucket_bytes(c);
}

static void refill(struct hk_controller *c, uint64_t now_ns)
{
    uint64_t dt = now_ns > c->token_ns ? now_ns - c->token_ns : 0;
    unsigned __int128 add;
    uint64_t whole;

    /* Every frame of a burst asks at the same time, and wide divisions are slow. */
    if (dt == 0) {
        c->tokens = hk_min_u64(c->tokens, bucket_bytes(c));
        return;
    }
    add = (unsigned __int128)c->rate_bytes_s * dt + c->token_fraction;
    if (add <= UINT64_MAX) {
        whole = (uint64_t)add / NS_PER_S;
        c->token_fraction = (uint64_t)add % NS_PER_S;
    } else {
        whole = (uint64_t)(add / NS_PER_S);
        c->token_fraction = (uint64_t)(add % NS_PER_S);
    }
    c->token_ns = now_ns;
    c->tokens = hk_min_u64(c->tokens + hk_min_u64(whole, UINT32_MAX), bucket_bytes(c));
}

bool hk_controller_may_send(struct hk_controller *c, uint64_t in_flight_bytes, uint32_t bytes,
                            uint64_t now_ns)
{
    if (in_flight_bytes + bytes > c->window_bytes) {
        c->round_limited = true;
        return false;
    }
    if (c->rate_bytes_s == 0)
        return true;
    refill(c, now_ns);
    return c->tokens >= bytes;
}

void hk_controller_sent(struct hk_controller *c, uint32_t bytes)
{
    c->tokens -= hk_min_u64(c->tokens, bytes);
}

static void set_rate(struct hk_controller *c, const struct hk_recovery *r)
{
    uint64_t gain =
        c->slow_start ? 8 : 5; /* quarters: twice, and five quarters, of window per RTT */
    uint64_t rate;

    if (r->srtt_ns == 0)
        return;
    rate = mul_div(c->window_bytes * gain / 4, NS_PER_S, r->srtt_ns);
    if (c->rate_max_bytes_s)
        rate = hk_min_u64(rate, c->rate_max_bytes_s);
    c->rate_bytes_s = hk_max_u64(rate, 1);
}

static void end_round(struct hk_controller *c, const struct hk_recovery *r, uint64_t now_ns)
{
    uint64_t dt = hk_max_u64(now_ns - hk_min_u64(now_ns, c->round_start_ns), 1);
    uint64_t total = c->round_acked_bytes + c->round_lost_bytes;
    /* A standing queue: the round trip is twice its minimum and well above timer noise. */
    bool queueing = r->srtt_ns > 2 * r->min_rtt_ns + 5000000;
    uint64_t floor;

    c->delivered_bytes_s = mul_div(c->round_acked_bytes, NS_PER_S, dt);
    floor = hk_min_u64(mul_div(c->delivered_bytes_s, r->min_rtt_ns, NS_PER_S), c->window_bytes);
    if (c->round_lost_bytes * 100 > total * HK_LOSS_TOLERATED_PERCENT) {
        c->slow_start = false;
        c->window_bytes = hk_max_u64(c->window_bytes - c->window_bytes / 8, floor);
    } else if (queueing) {
        c->slow_start = false;
        c->window_bytes = hk_max_u64(c->window_bytes - c->window_bytes / 16, floor);
    } else if (c->round_limited && !c->slow_start) {
        c->window_bytes += c->window_bytes / 8;
    }
    c->window_bytes = hk_max_u64(c->window_bytes, HK_WINDOW_BYTES_MIN);
    c->window_bytes = hk_min_u64(c->window_bytes, HK_WINDOW_BYTES_MAX);
    c->round_end_pn = r->next_pn;
    c->round_start_ns = now_ns;
    c->round_acked_bytes = c->round_lost_bytes = 0;
    c->round_limited = false;
}

void hk_controller_on_ack(struct hk_controller *c, const struct hk_recovery *r,
                          const struct hk_ack_result *res, uint64_t now_ns)
{
    c->round_acked_bytes += res->acked_bytes;
    c->round_lost_bytes += res->lost_bytes;
    if (c->slow_start && c->round_limited)
        c->window_bytes = hk_min_u64(c->window_bytes + res->acked_bytes, HK_WINDOW_BYTES_MAX);
    if (r->largest_acked >= c->round_end_pn && res->newest_acked > 0)
        end_round(c, r, now_ns);
    set_rate(c, r);
}

uint64_t hk_controller_ready_ns(const struct hk_controller *c, uint32_t bytes)
{
    if (c->rate_bytes_s == 0 || c->tokens >= bytes)
        return 0;
    return c->token_ns + mul_div(bytes - c->tokens, NS_PER_S, c->rate_bytes_s) + 1;
}
