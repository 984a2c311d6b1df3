/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/recovery.h"

#include <errno.h>

HK_STATIC_ASSERT((HK_RECOVERY_PACKETS & (HK_RECOVERY_PACKETS - 1)) == 0, "a power of two");

static struct hk_sent *slot(const struct hk_recovery *r, uint64_t pn)
{
    return &r->sent[pn & (HK_RECOVERY_PACKETS - 1)];
}

int hk_recovery_init(struct hk_recovery *r, struct hk_arena *arena)
{
    struct hk_sent *sent =
        hk_arena_take(arena, HK_RECOVERY_PACKETS * sizeof(*sent), _Alignof(struct hk_sent));

    if (!sent)
        return -ENOMEM;
    *r = (struct hk_recovery){.sent = sent};
    hk_recovery_reset(r);
    return 0;
}

void hk_recovery_reset(struct hk_recovery *r)
{
    /* Entries are only ever looked at in [oldest, next_pn) and [lost_cursor, next_pn). */
    r->next_pn = r->oldest = r->lost_cursor = 1;
    r->largest_acked = r->in_flight_bytes = r->last_sent_ns = r->loss_time_ns = 0;
    r->untaken_count = 0;
    r->pto_count = 0;
}

bool hk_recovery_room(const struct hk_recovery *r)
{
    return r->next_pn - r->oldest < HK_RECOVERY_PACKETS - HK_RECOVERY_RESERVE &&
           r->next_pn - r->lost_cursor < HK_RECOVERY_PACKETS - HK_RECOVERY_RESERVE;
}

static void settle(struct hk_recovery *r, struct hk_sent *p, enum hk_sent_state state)
{
    HK_ASSERT(p->state == HK_SENT_IN_FLIGHT);
    HK_ASSERT(r->in_flight_bytes >= p->bytes);
    r->in_flight_bytes -= p->bytes;
    p->state = (uint8_t)state;
}

static void lose(struct hk_recovery *r, struct hk_sent *p)
{
    settle(r, p, HK_SENT_LOST);
    r->packets_lost++;
    if (p->span > 0) {
        p->untaken = true;
        r->untaken_count++;
        r->lost_cursor = hk_min_u64(r->lost_cursor, p->packet_number);
    }
}

static void advance(struct hk_recovery *r)
{
    while (r->oldest < r->next_pn && slot(r, r->oldest)->state != HK_SENT_IN_FLIGHT)
        r->oldest++;
    if (r->untaken_count == 0)
        r->lost_cursor = r->oldest;
}

void hk_recovery_make_room(struct hk_recovery *r)
{
    if (r->next_pn - r->oldest < HK_RECOVERY_PACKETS - 1)
        return;
    lose(r, slot(r, r->oldest));
    advance(r);
}

uint64_t hk_recovery_sent(struct hk_recovery *r, uint64_t lsn, uint32_t span, uint32_t bytes,
                          uint64_t now_ns)
{
    struct hk_sent *p = slot(r, r->next_pn);

    HK_ASSERT(r->next_pn - r->oldest < HK_RECOVERY_PACKETS);
    HK_ASSERT(r->next_pn - r->lost_cursor < HK_RECOVERY_PACKETS);
    *p = (struct hk_sent){
        .packet_number = r->next_pn,
        .lsn = lsn,
        .sent_ns = now_ns,
        .span = span,
        .bytes = bytes,
        .state = HK_SENT_IN_FLIGHT,
    };
    r->in_flight_bytes += bytes;
    r->last_sent_ns = now_ns;
    return r->next_pn++;
}

static void sample_rtt(struct hk_recovery *r, uint64_t rtt_ns, uint64_t delay_ns)
{
    uint64_t d;

    r->latest_rtt_ns = rtt_ns;
    if (r->min_rtt_ns == 0 || rtt_ns < r->min_rtt_ns)
        r->min_rtt_ns = hk_max_u64(rtt_ns, 1);
    /* RFC 9002 §5.3: the peer's delay counts only as far as it does not undercut the minimum. */
    if (rtt_ns >= r->min_rtt_ns + delay_ns)
        rtt_ns -= delay_ns;
    rtt_ns = hk_max_u64(rtt_ns, 1);
    if (r->srtt_ns == 0) {
        r->srtt_ns = rtt_ns;
        r->rttvar_ns = rtt_ns / 2;
        return;
    }
    d = r->srtt_ns > rtt_ns ? r->srtt_ns - rtt_ns : rtt_ns - r->srtt_ns;
    r->rttvar_ns = (3 * r->rttvar_ns + d) / 4;
    r->srtt_ns = hk_max_u64((7 * r->srtt_ns + rtt_ns) / 8, 1);
}

static void detect_lost(struct hk_recovery *r, uint64_t now_ns, struct hk_ack_result *ret)
{
    uint64_t rtt = hk_max_u64(hk_recovery_rtt_ns(r), r->latest_rtt_ns);
    uint64_t patience = hk_max_u64(rtt + rtt / 8, HK_RECOVERY_GRANULARITY_NS);

    r->loss_time_ns = 0;
    for (uint64_t pn = r->oldest; pn < r->largest_acked; pn++) {
        struct hk_sent *p = slot(r, pn);

        if (p->state != HK_SENT_IN_FLIGHT)
            continue;
        if (pn + HK_RECOVERY_PACKET_THRESHOLD <= r->largest_acked ||
            p->sent_ns + patience <= now_ns) {
            ret->lost_bytes += p->bytes;
            ret->lost_packets++;
            lose(r, p);
        } else if (r->loss_time_ns == 0 || p->sent_ns + patience < r->loss_time_ns) {
            r->loss_time_ns = p->sent_ns + patience;
        }
    }
    advance(r);
}

static void ack_range(struct hk_recovery *r, const struct hk_pn_range *range,
                      struct hk_ack_result *ret)
{
    for (uint64_t pn = hk_max_u64(range->first, r->oldest); pn <= range->last; pn++) {
        struct hk_sent *p = slot(r, pn);

        HK_ASSERT(p->packet_number == pn);
        if (p->state != HK_SENT_IN_FLIGHT)
            continue;
        settle(r, p, HK_SENT_ACKED);
        r->packets_acked++;
        ret->acked_bytes += p->bytes;
        ret->acked_packets++;
        ret->newest_acked = hk_max_u64(ret->newest_acked, pn);
    }
}

int hk_recovery_on_ack(struct hk_recovery *r, const struct hk_pn_range *ranges, uint32_t count,
                       uint64_t delay_ns, uint64_t now_ns, struct hk_ack_result *ret)
{
    struct hk_ack_result res = {0};

    for (uint32_t i = 0; i < count; i++) {
        if (ranges[i].last >= r->next_pn || ranges[i].first > ranges[i].last)
            return -EINVAL;
    }
    for (uint32_t i = 0; i < count; i++)
        ack_range(r, &ranges[i], &res);
    if (res.newest_acked > 0) {
        const struct hk_sent *p = slot(r, res.newest_acked);

        /* Only the newest of all gives a sample: what the peer's delay speaks of. */
        if (res.newest_acked == ranges[0].last && now_ns >= p->sent_ns) {
            sample_rtt(r, now_ns - p->sent_ns, delay_ns);
            res.rtt_sampled = true;
        }
        r->largest_acked = hk_max_u64(r->largest_acked, res.newest_acked);
        r->pto_count = 0;
    }
    detect_lost(r, now_ns, &res);
    *ret = res;
    return 0;
}

uint64_t hk_recovery_deadline_ns(const struct hk_recovery *r)
{
    uint64_t rtt = hk_recovery_rtt_ns(r);
    uint64_t var = r->srtt_ns ? r->rttvar_ns : HK_RECOVERY_RTT_INITIAL_NS / 2;
    uint64_t pto;

    if (r->loss_time_ns)
        return r->loss_time_ns;
    if (r->oldest == r->next_pn)
        return UINT64_MAX;
    pto = rtt + hk_max_u64(4 * var, HK_RECOVERY_GRANULARITY_NS) + HK_RECOVERY_ACK_DELAY_NS;
    return r->last_sent_ns + (pto << r->pto_count);
}

bool hk_recovery_on_timeout(struct hk_recovery *r, uint64_t now_ns, struct hk_ack_result *ret)
{
    *ret = (struct hk_ack_result){0};
    if (hk_recovery_deadline_ns(r) > now_ns)
        return false;
    if (r->loss_time_ns) {
        detect_lost(r, now_ns, ret);
        return false;
    }
    if (r->pto_count < HK_RECOVERY_PTO_SHIFT_MAX)
        r->pto_count++;
    return true;
}

void hk_recovery_abandon(struct hk_recovery *r)
{
    for (uint64_t pn = r->oldest; pn < r->next_pn; pn++) {
        if (slot(r, pn)->state == HK_SENT_IN_FLIGHT)
            lose(r, slot(r, pn));
    }
    r->loss_time_ns = 0;
    advance(r);
}

bool hk_recovery_next_lost(struct hk_recovery *r, struct hk_sent *ret)
{
    while (r->untaken_count > 0) {
        struct hk_sent *p = slot(r, r->lost_cursor);

        HK_ASSERT(r->lost_cursor < r->next_pn);
        r->lost_cursor++;
        if (!p->untaken)
            continue;
        p->untaken = false;
        r->untaken_count--;
        *ret = *p;
        advance(r);
        return true;
    }
    return false;
}
