/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/daemon/latency.h"

#include <string.h>

/* 16 buckets to each power of two. */
uint32_t hk_histogram_bucket(uint64_t value)
{
    uint32_t msb;

    if (value < 16)
        return (uint32_t)value;
    msb = 63 - (uint32_t)__builtin_clzll(value);
    return (msb - 3) * 16 + (uint32_t)(value >> (msb - 4) & 15);
}

uint64_t hk_histogram_edge(uint32_t bucket)
{
    if (bucket < 16)
        return bucket;
    return ((uint64_t)(16 + bucket % 16 + 1) << (bucket / 16 - 1)) - 1;
}

/* Which of the halves still count. */
static bool counts(const struct hk_histogram *h, uint32_t half, uint64_t now_ns)
{
    uint64_t age = now_ns > h->began_ns ? now_ns - h->began_ns : 0;

    return age < (half == h->present ? 2 : 1) * HK_HISTOGRAM_HALF_NS;
}

void hk_histogram_add(struct hk_histogram *h, uint64_t value, uint64_t now_ns)
{
    uint32_t bucket = hk_histogram_bucket(value);

    HK_ASSERT(bucket < HK_HISTOGRAM_BUCKETS);
    if (now_ns >= h->began_ns + HK_HISTOGRAM_HALF_NS) {
        /* After a pause the other half is as old as the one that ends. */
        if (!counts(h, h->present, now_ns))
            memset(&h->half[h->present], 0, sizeof(h->half[0]));
        h->present = !h->present;
        memset(&h->half[h->present], 0, sizeof(h->half[0]));
        h->began_ns = now_ns;
    }
    h->half[h->present].count[bucket]++;
    h->half[h->present].total++;
}

uint64_t hk_histogram_at(const struct hk_histogram *h, uint32_t per_mille, uint64_t now_ns)
{
    bool in[2] = {counts(h, 0, now_ns), counts(h, 1, now_ns)};
    uint64_t total = (in[0] ? h->half[0].total : 0) + (in[1] ? h->half[1].total : 0);
    uint64_t want = (total * per_mille + 999) / 1000, seen = 0;

    HK_ASSERT(per_mille >= 1 && per_mille <= 1000);
    for (uint32_t i = 0; total > 0 && i < HK_HISTOGRAM_BUCKETS; i++) {
        seen += (in[0] ? h->half[0].count[i] : 0) + (in[1] ? h->half[1].count[i] : 0);
        if (seen >= want)
            return hk_max_u64(hk_histogram_edge(i), 1);
    }
    return 0;
}

void hk_latency_captured(struct hk_latency *l, uint64_t end, uint64_t began_ns)
{
    uint64_t tail = hk_min_u64(l->tail[HK_LATENCY_ACKED], l->tail[HK_LATENCY_DURABLE]);

    if (l->head - tail == HK_LATENCY_SAMPLES)
        return;
    l->sample[l->head % HK_LATENCY_SAMPLES].end = end;
    l->sample[l->head % HK_LATENCY_SAMPLES].began_ns = began_ns;
    l->head++;
}

void hk_latency_reached(struct hk_latency *l, enum hk_latency_stage stage, uint64_t lsn,
                        uint64_t now_ns)
{
    while (l->tail[stage] < l->head) {
        uint64_t i = l->tail[stage] % HK_LATENCY_SAMPLES, began_ns = l->sample[i].began_ns;

        if (l->sample[i].end > lsn)
            return;
        hk_histogram_add(&l->stage[stage], now_ns > began_ns ? now_ns - began_ns : 0, now_ns);
        l->tail[stage]++;
    }
}

void hk_latency_forget(struct hk_latency *l)
{
    for (uint32_t i = 0; i < HK_LATENCY_STAGES; i++)
        l->tail[i] = l->head;
}
