/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the figures p50 and p99 of the status screen are those of the last minute. Method: random
 * values of all sizes go into the histogram and, in full, into an array that is sorted; samples
 * are followed over acks that lag, jump and never come.
 */
#include "tests/unit/unit.h"

#include "replicator/daemon/latency.h"

#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000ull

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void test_percentiles(void **state)
{
    static const uint32_t per_mille[] = {1, 10, 500, 900, 990, 999, 1000};
    static struct hk_histogram h;
    static uint64_t value[5000];
    uint64_t rnd = 7;

    (void)state;
    for (unsigned shape = 0; shape < 20; shape++) {
        memset(&h, 0, sizeof(h));
        assert_int_equal(hk_histogram_at(&h, 500, SECOND), 0);
        for (size_t i = 0; i < HK_ARRAY_SIZE(value); i++) {
            value[i] = unit_random(&rnd) >> unit_random(&rnd) % 64;
            if (shape % 2)
                value[i] = 100000 + value[i] % 5000000; /* as acknowledgements are */
            hk_histogram_add(&h, value[i], SECOND);
        }
        qsort(value, HK_ARRAY_SIZE(value), sizeof(value[0]), by_size);
        for (size_t i = 0; i < HK_ARRAY_SIZE(per_mille); i++) {
            size_t rank = (HK_ARRAY_SIZE(value) * per_mille[i] + 999) / 1000 - 1;
            uint64_t truth = value[rank] ? value[rank] : 1;
            uint64_t said = hk_histogram_at(&h, per_mille[i], SECOND);

            assert_true(said >= truth);
            assert_true(said - truth <= truth / 16);
        }
    }
}

/* What is older than a minute does not count; what is younger than half of one does. */
static void test_the_past_goes(void **state)
{
    static struct hk_histogram h;
    uint64_t now = 1000 * SECOND;

    (void)state;
    memset(&h, 0, sizeof(h));
    hk_histogram_add(&h, 5000000, now);
    now += 29 * SECOND;
    hk_histogram_add(&h, 1000, now);
    assert_true(hk_histogram_at(&h, 1000, now) >= 5000000);
    now += 2 * SECOND;
    hk_histogram_add(&h, 1000, now); /* a new half: the old one still counts */
    assert_true(hk_histogram_at(&h, 1000, now) >= 5000000);
    now += 30 * SECOND;
    assert_true(hk_histogram_at(&h, 1000, now) < 5000);
    hk_histogram_add(&h, 1000, now);
    assert_true(hk_histogram_at(&h, 1000, now) < 5000);
    now += 61 * SECOND;
    assert_int_equal(hk_histogram_at(&h, 500, now), 0);
    hk_histogram_add(&h, 70, now);
    assert_true(hk_histogram_at(&h, 500, now) < 80);
    assert_true(hk_histogram_at(&h, 1, now) >= 70); /* nothing of before the pause */
}

static void test_samples(void **state)
{
    static struct hk_latency l;
    uint64_t now = 1000 * SECOND;

    (void)state;
    memset(&l, 0, sizeof(l));
    hk_latency_reached(&l, HK_LATENCY_ACKED, 1 << 20, now);
    assert_int_equal(hk_histogram_at(&l.stage[HK_LATENCY_ACKED], 500, now), 0);
    for (uint64_t i = 0; i < 10; i++)
        hk_latency_captured(&l, 4096 + 64 * i, now);
    now += 1000000;
    hk_latency_reached(&l, HK_LATENCY_ACKED, 4096 + 64 * 4, now);
    assert_int_equal(l.stage[HK_LATENCY_ACKED].half[0].total + l.stage[0].half[1].total, 5);
    assert_int_equal(hk_histogram_at(&l.stage[HK_LATENCY_DURABLE], 500, now), 0);
    now += 3000000;
    hk_latency_reached(&l, HK_LATENCY_ACKED, 1 << 20, now);
    hk_latency_reached(&l, HK_LATENCY_DURABLE, 1 << 20, now);
    assert_in_range(hk_histogram_at(&l.stage[HK_LATENCY_ACKED], 500, now), 1000000, 1070000);
    assert_in_range(hk_histogram_at(&l.stage[HK_LATENCY_ACKED], 990, now), 4000000, 4260000);
    assert_in_range(hk_histogram_at(&l.stage[HK_LATENCY_DURABLE], 1, now), 4000000, 4260000);
    /* Nothing comes back for long: the oldest are kept, for theirs is the longest wait. */
    for (uint64_t i = 0; i < 2 * HK_LATENCY_SAMPLES; i++)
        hk_latency_captured(&l, (2 << 20) + 64 * i, now);
    hk_latency_reached(&l, HK_LATENCY_ACKED, UINT64_MAX, now + SECOND);
    hk_latency_reached(&l, HK_LATENCY_DURABLE, 2 << 20, now + SECOND);
    assert_int_equal(l.head - l.tail[HK_LATENCY_DURABLE], HK_LATENCY_SAMPLES - 1);
    hk_latency_forget(&l);
    hk_latency_captured(&l, 5 << 20, now + SECOND);
    assert_int_equal(l.head - l.tail[HK_LATENCY_DURABLE], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_the_past_goes),
        cmocka_unit_test(test_samples),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
