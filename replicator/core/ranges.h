/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small set of half-open intervals over u64: packet numbers received, log bytes received out of
 * order, log bytes to be sent again.
 *
 * Invariants: ascending, disjoint, not touching, none empty; never more than `max` of them. What
 * happens when a set is full is the caller's choice, because it decides what is safe: refuse (the
 * bytes come again), forget the lowest (the peer takes them for lost), or cover (send too much).
 *
 * Owned by whatever embeds it; one thread.
 */
#ifndef HK_CORE_RANGES_H
#define HK_CORE_RANGES_H

#include "proto/base.h"

struct hk_range {
    uint64_t first, end;
};

struct hk_ranges {
    struct hk_range *r;
    uint32_t count, max;
};

static inline size_t hk_ranges_memory(uint32_t max)
{
    return max * sizeof(struct hk_range) + _Alignof(struct hk_range);
}

/* -ENOMEM. max ≥ 2. */
int hk_ranges_init(struct hk_ranges *s, uint32_t max, struct hk_arena *arena);
void hk_ranges_reset(struct hk_ranges *s);

/* 0; -ENOSPC when it would take one more interval than there is room for (nothing changed). */
int hk_ranges_add(struct hk_ranges *s, uint64_t first, uint64_t end);
/* When full, the lowest interval is given up; returns the end of what was forgotten, 0 if nothing.
 */
uint64_t hk_ranges_add_forget(struct hk_ranges *s, uint64_t first, uint64_t end);
/* When full, the two neighbours with the smallest gap become one: the set only ever covers more. */
void hk_ranges_add_cover(struct hk_ranges *s, uint64_t first, uint64_t end);

/* Everything below v leaves the set. */
void hk_ranges_trim_below(struct hk_ranges *s, uint64_t v);
/* Takes up to `max` from the lowest interval; false if the set is empty. */
bool hk_ranges_take_lowest(struct hk_ranges *s, uint64_t max, struct hk_range *ret);

bool hk_ranges_contains(const struct hk_ranges *s, uint64_t first, uint64_t end);
/* The first piece of [first, end) that is not in the set; false if there is none. */
bool hk_ranges_gap(const struct hk_ranges *s, uint64_t first, uint64_t end, struct hk_range *ret);
/* The end of the interval that holds v, or v when none does. */
uint64_t hk_ranges_end_at(const struct hk_ranges *s, uint64_t v);

#endif
