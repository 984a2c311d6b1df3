/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of acks and pings, as the input is. Oracle: what decodes encodes to the same bytes, its
 * watermarks are in order and its ranges newest first and disjoint; what does not decode leaves the
 * outputs untouched.
 */
#include "fuzz.h"

#include "proto/frame.h"

#include <string.h>

static void check_ack(const uint8_t *data, size_t size)
{
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX], untouched_ranges[HK_ACK_RANGES_MAX];
    uint8_t again[sizeof(struct hk_ack) + sizeof(ranges)];
    struct hk_ack a, untouched;

    memset(&a, 0x5a, sizeof(a));
    memset(ranges, 0x5a, sizeof(ranges));
    untouched = a;
    memcpy(untouched_ranges, ranges, sizeof(ranges));
    if (hk_ack_decode(data, size, &a, ranges) != 0) {
        HK_ASSERT(memcmp(&a, &untouched, sizeof(a)) == 0);
        HK_ASSERT(memcmp(ranges, untouched_ranges, sizeof(ranges)) == 0);
        return;
    }
    HK_ASSERT(hk_ack_encode(&a, ranges, again, sizeof(again)) == (int)size);
    HK_ASSERT(memcmp(again, data, size) == 0);
    HK_ASSERT(hk_ack_encode(&a, ranges, again, size - 1) < 0);
    HK_ASSERT(a.applied <= a.durable && a.durable <= a.acked);
    for (unsigned i = 0; i < a.range_count; i++) {
        HK_ASSERT(ranges[i].first >= 1 && ranges[i].first <= ranges[i].last);
        for (unsigned k = 0; k < i; k++)
            HK_ASSERT(ranges[i].last < ranges[k].first);
    }
}

static void check_ping(const uint8_t *data, size_t size)
{
    struct hk_ping p, untouched;
    uint8_t again[sizeof(p)];

    memset(&p, 0x5a, sizeof(p));
    untouched = p;
    if (hk_ping_decode(data, size, &p) != 0) {
        HK_ASSERT(memcmp(&p, &untouched, sizeof(p)) == 0);
        return;
    }
    HK_ASSERT(hk_ping_encode(&p, again, sizeof(again)) == (int)size);
    HK_ASSERT(memcmp(again, data, size) == 0);
    HK_ASSERT(p.produced <= p.ceiling);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_ack(data, size);
    check_ping(data, size);
    return 0;
}
