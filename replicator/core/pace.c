/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/pace.h"

#define NS_PER_S 1000000000ull

enum { BURST_PART = 20 }; /* the bucket holds a twentieth of a second */

void hk_pace_init(struct hk_pace *p, uint64_t now_ns)
{
    *p = (struct hk_pace){
        .rate_bytes_s = HK_PACE_RATE_START,
        .token_ns = now_ns,
        .interval_ns = now_ns,
        .window_ns = now_ns,
        .least_ns = {UINT64_MAX, UINT64_MAX},
    };
}

uint64_t hk_pace_rate(const struct hk_pace *p)
{
    return p->cap_bytes_s ? hk_min_u64(p->rate_bytes_s, p->cap_bytes_s) : p->rate_bytes_s;
}

void hk_pace_cap(struct hk_pace *p, uint64_t bytes_s)
{
    p->cap_bytes_s = bytes_s;
}

void hk_pace_forget(struct hk_pace *p)
{
    p->probe_lsn = p->probe_ns = 0;
    p->sum_ns = p->count = 0;
}

static uint64_t least(const struct hk_pace *p)
{
    return hk_min_u64(p->least_ns[0], p->least_ns[1]);
}

/* Above what it takes anyway: what a wide line varies by itself is no reason. */
static uint64_t bound(const struct hk_pace *p)
{
    return least(p) + hk_max_u64(HK_PACE_DELAY_NS, least(p) / 4);
}

static void change_rate(struct hk_pace *p, uint64_t now_ns)
{
    uint64_t mean_ns = p->count ? p->sum_ns / p->count : 0;

    if (p->count)
        p->least_ns[0] = hk_min_u64(p->least_ns[0], mean_ns);
    if (p->probe_lsn)
        mean_ns = hk_max_u64(mean_ns, now_ns - p->probe_ns);
    if (least(p) != UINT64_MAX && mean_ns > bound(p)) {
        p->rate_bytes_s = hk_max_u64(p->rate_bytes_s - p->rate_bytes_s / 4, HK_PACE_RATE_MIN);
        p->slowed++;
        p->opened = true;
    } else if (p->limited && !p->opened) {
        if (p->count > 0 || !p->probe_lsn)
            p->rate_bytes_s = hk_min_u64(p->rate_bytes_s * 2, HK_PACE_RATE_MAX);
    } else if (p->limited) {
        p->rate_bytes_s = hk_min_u64(p->rate_bytes_s + p->rate_bytes_s / 8, HK_PACE_RATE_MAX);
    }
}

static void turn_interval(struct hk_pace *p, uint64_t now_ns)
{
    if (now_ns >= p->window_ns + HK_PACE_WINDOW_NS) {
        p->least_ns[1] = p->least_ns[0];
        p->least_ns[0] = UINT64_MAX;
        p->window_ns = now_ns;
    }
    if (now_ns < p->interval_ns + (p->opened ? HK_PACE_INTERVAL_NS : HK_PACE_OPENING_NS))
        return;
    change_rate(p, now_ns);
    p->interval_ns = now_ns;
    p->limited = false;
    p->sum_ns = p->count = 0;
}

void hk_pace_observe(struct hk_pace *p, uint64_t produced, uint64_t durable, uint64_t now_ns)
{
    if (p->probe_lsn && durable >= p->probe_lsn) {
        p->sum_ns += now_ns - p->probe_ns;
        p->count++;
        p->probe_lsn = 0;
    }
    if (p->probe_lsn == 0 && produced > durable) {
        p->probe_lsn = produced;
        p->probe_ns = now_ns;
    }
    turn_interval(p, now_ns);
}

static void refill(struct hk_pace *p, uint64_t now_ns)
{
    uint64_t rate = hk_pace_rate(p), dt = now_ns - hk_min_u64(now_ns, p->token_ns), whole;
    int64_t burst = (int64_t)(rate / BURST_PART);
    unsigned __int128 add = (unsigned __int128)rate * dt + p->token_fraction;

    p->token_ns = now_ns;
    whole = add / NS_PER_S > UINT32_MAX ? UINT32_MAX : (uint64_t)(add / NS_PER_S);
    p->token_fraction = (uint64_t)(add % NS_PER_S);
    p->tokens += (int64_t)whole;
    if (p->tokens > burst)
        p->tokens = burst;
}

bool hk_pace_take(struct hk_pace *p, uint64_t bytes, uint64_t now_ns)
{
    refill(p, now_ns);
    if (p->tokens < 0) {
        p->limited = true;
        return false;
    }
    hk_pace_charge(p, bytes);
    return true;
}

void hk_pace_charge(struct hk_pace *p, uint64_t bytes)
{
    HK_ASSERT(bytes < UINT32_MAX);
    p->tokens -= (int64_t)bytes;
}

uint64_t hk_pace_ready_ns(const struct hk_pace *p)
{
    uint64_t lacking = p->tokens < 0 ? (uint64_t)-p->tokens : 0;

    if (lacking == 0)
        return p->token_ns;
    return p->token_ns + (uint64_t)((unsigned __int128)lacking * NS_PER_S / hk_pace_rate(p)) + 1;
}
