/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/clock.h"

#include "proto/state.h"

#include <time.h>

static uint64_t read_ns(clockid_t id)
{
    struct timespec ts;

    /* Cannot fail for these two clocks. */
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void hk_clock_now(struct hk_now *ret_now)
{
    ret_now->mono_ns = read_ns(CLOCK_MONOTONIC);
    ret_now->real_ns = read_ns(CLOCK_REALTIME);
}

uint64_t hk_clock_mono_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}
