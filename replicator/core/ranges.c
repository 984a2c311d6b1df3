/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/ranges.h"

#include <errno.h>

int hk_ranges_init(struct hk_ranges *s, uint32_t max, struct hk_arena *arena)
{
    struct hk_range *r = hk_arena_take(arena, max * sizeof(*r), _Alignof(struct hk_range));

    HK_ASSERT(max >= 2);
    if (!r)
        return -ENOMEM;
    *s = (struct hk_ranges){.r = r, .max = max};
    return 0;
}

void hk_ranges_reset(struct hk_ranges *s)
{
    s->count = 0;
}

/* Index of the first interval whose end is at or above v: the only ones v can touch. */
static uint32_t lower(const struct hk_ranges *s, uint64_t v)
{
    uint32_t lo = 0, hi = s->count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (s->r[mid].end < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void close_up(struct hk_ranges *s, uint32_t at, uint32_t n)
{
    __builtin_memmove(&s->r[at], &s->r[at + n], (s->count - at - n) * sizeof(s->r[0]));
    s->count -= n;
}

/* Merges [first, end) with those it touches; false when it touches none. */
static bool merge(struct hk_ranges *s, uint32_t at, uint64_t first, uint64_t end)
{
    uint32_t n = 0;

    while (at + n < s->count && s->r[at + n].first <= end)
        n++;
    if (n == 0)
        return false;
    s->r[at].first = hk_min_u64(s->r[at].first, first);
    s->r[at].end = hk_max_u64(s->r[at + n - 1].end, end);
    if (n > 1)
        close_up(s, at + 1, n - 1);
    return true;
}

static void insert(struct hk_ranges *s, uint32_t at, uint64_t first, uint64_t end)
{
    HK_ASSERT(s->count < s->max);
    __builtin_memmove(&s->r[at + 1], &s->r[at], (s->count - at) * sizeof(s->r[0]));
    s->r[at] = (struct hk_range){first, end};
    s->count++;
}

int hk_ranges_add(struct hk_ranges *s, uint64_t first, uint64_t end)
{
    uint32_t at;

    HK_ASSERT(first < end);
    at = lower(s, first);
    if (merge(s, at, first, end))
        return 0;
    if (s->count == s->max)
        return -ENOSPC;
    insert(s, at, first, end);
    return 0;
}

uint64_t hk_ranges_add_forget(struct hk_ranges *s, uint64_t first, uint64_t end)
{
    uint64_t forgotten;

    if (hk_ranges_add(s, first, end) == 0)
        return 0;
    if (end < s->r[0].first)
        return end; /* it is the lowest itself */
    forgotten = s->r[0].end;
    close_up(s, 0, 1);
    insert(s, lower(s, first), first, end);
    return forgotten;
}

void hk_ranges_add_cover(struct hk_ranges *s, uint64_t first, uint64_t end)
{
    uint32_t at = lower(s, first), best = 0;
    uint64_t smallest = UINT64_MAX;
    int err;

    if (hk_ranges_add(s, first, end) == 0)
        return;
    for (uint32_t i = 0; i + 1 < s->count; i++) {
        uint64_t gap = s->r[i + 1].first - s->r[i].end;

        if (gap < smallest) {
            smallest = gap;
            best = i;
        }
    }
    /* The new one may itself be the closest neighbour of somebody. */
    if (at < s->count && s->r[at].first - end < smallest) {
        s->r[at].first = first;
        return;
    }
    if (at > 0 && first - s->r[at - 1].end < smallest) {
        s->r[at - 1].end = end;
        return;
    }
    s->r[best].end = s->r[best + 1].end;
    close_up(s, best + 1, 1);
    err = hk_ranges_add(s, first, end);
    HK_ASSERT(!err);
}

void hk_ranges_trim_below(struct hk_ranges *s, uint64_t v)
{
    uint32_t at = lower(s, v);

    if (at < s->count && s->r[at].end == v)
        at++;
    close_up(s, 0, at);
    if (s->count > 0 && s->r[0].first < v)
        s->r[0].first = v;
}

bool hk_ranges_take_lowest(struct hk_ranges *s, uint64_t max, struct hk_range *ret)
{
    HK_ASSERT(max > 0);
    if (s->count == 0)
        return false;
    ret->first = s->r[0].first;
    ret->end = hk_min_u64(s->r[0].end, s->r[0].first + max);
    if (ret->end == s->r[0].end)
        close_up(s, 0, 1);
    else
        s->r[0].first = ret->end;
    return true;
}

bool hk_ranges_contains(const struct hk_ranges *s, uint64_t first, uint64_t end)
{
    struct hk_range gap;

    return !hk_ranges_gap(s, first, end, &gap);
}

bool hk_ranges_gap(const struct hk_ranges *s, uint64_t first, uint64_t end, struct hk_range *ret)
{
    uint32_t at = lower(s, first);

    if (at < s->count && s->r[at].first <= first) {
        first = hk_max_u64(first, s->r[at].end);
        at++;
    }
    if (first >= end)
        return false;
    ret->first = first;
    ret->end = at < s->count ? hk_min_u64(end, s->r[at].first) : end;
    return true;
}

uint64_t hk_ranges_end_at(const struct hk_ranges *s, uint64_t v)
{
    uint32_t at = lower(s, v);

    if (at < s->count && s->r[at].first <= v)
        return hk_max_u64(v, s->r[at].end);
    return v;
}
