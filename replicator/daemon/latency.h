/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long acknowledgements take, as the primary sees it: from the capture time of a record to the
 * moment the capture side is told that it is acked, and durable (in sync that is when the write
 * completes). One record of each batch found in the ring is followed, the one that has waited
 * longest. Histograms of whole numbers over the last 30 to 60 seconds; a figure is the upper edge
 * of its bucket, at most 1/16 above the truth.
 *
 * Reactor thread only. No memory is taken after it was zeroed.
 */
#ifndef HK_DAEMON_LATENCY_H
#define HK_DAEMON_LATENCY_H

#include "proto/base.h"

enum { HK_HISTOGRAM_BUCKETS = 61 * 16, HK_LATENCY_SAMPLES = 4096 };
#define HK_HISTOGRAM_HALF_NS 30000000000ull

struct hk_histogram {
    struct {
        uint64_t total;
        uint32_t count[HK_HISTOGRAM_BUCKETS];
    } half[2]; /* the present 30 seconds and those before */
    uint32_t present;
    uint64_t began_ns; /* the present half, monotonic */
};

/* Which bucket counts a value, and the largest value that it counts. */
uint32_t hk_histogram_bucket(uint64_t value);
uint64_t hk_histogram_edge(uint32_t bucket);
void hk_histogram_add(struct hk_histogram *h, uint64_t value, uint64_t now_ns);
/* The value that so many of a thousand do not exceed; 0: nothing was measured lately. */
uint64_t hk_histogram_at(const struct hk_histogram *h, uint32_t per_mille, uint64_t now_ns);

enum hk_latency_stage { HK_LATENCY_ACKED = 0, HK_LATENCY_DURABLE, HK_LATENCY_STAGES };

struct hk_latency {
    struct hk_histogram stage[HK_LATENCY_STAGES];
    struct {
        uint64_t end, began_ns; /* a record's end; monotonic */
    } sample[HK_LATENCY_SAMPLES];
    uint64_t head, tail[HK_LATENCY_STAGES]; /* samples taken; and how many each stage is through */
};

/* A record that ends there was captured then. With no room it is not followed. */
void hk_latency_captured(struct hk_latency *l, uint64_t end, uint64_t began_ns);
void hk_latency_reached(struct hk_latency *l, enum hk_latency_stage stage, uint64_t lsn,
                        uint64_t now_ns);
/* Another ring: nothing that was followed will be heard of. */
void hk_latency_forget(struct hk_latency *l);

#endif
