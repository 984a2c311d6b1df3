/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/store/extent.h"

#include <errno.h>

size_t hk_extents_memory(uint32_t count_max)
{
    return (size_t)count_max * (sizeof(struct hk_extent) + 2 * sizeof(uint32_t)) + 3 * 64;
}

int hk_extents_init(struct hk_extents *x, uint32_t count_max, struct hk_arena *arena)
{
    __builtin_memset(x, 0, sizeof(*x));
    x->extent = hk_arena_take(arena, count_max * sizeof(*x->extent), 64);
    x->sorted = hk_arena_take(arena, count_max * sizeof(*x->sorted), 64);
    x->heap = hk_arena_take(arena, count_max * sizeof(*x->heap), 64);
    if (!x->extent || !x->sorted || !x->heap)
        return -ENOMEM;
    x->count_max = count_max;
    return 0;
}

void hk_extents_reset(struct hk_extents *x)
{
    x->count = 0;
    x->heap_count = 0;
    x->sorted_at = 0;
    x->at = 0;
    x->volume = 0;
}

void hk_extents_add(struct hk_extents *x, uint32_t volume, uint64_t offset, uint64_t bytes,
                    uint8_t *data)
{
    HK_ASSERT(x->count < x->count_max);
    HK_ASSERT(bytes > 0);
    HK_ASSERT(offset <= UINT64_MAX - bytes);
    x->extent[x->count++] =
        (struct hk_extent){.offset = offset, .bytes = bytes, .data = data, .volume = volume};
}

static bool starts_after(const struct hk_extents *x, uint32_t a, uint32_t b)
{
    const struct hk_extent *ea = &x->extent[a], *eb = &x->extent[b];

    if (ea->volume != eb->volume)
        return ea->volume > eb->volume;
    return ea->offset > eb->offset;
}

/* Merges the sorted runs from[lo, mid) and from[mid, hi) into to[lo, hi). Stable. */
static void merge(const struct hk_extents *x, const uint32_t *from, uint32_t *to, uint32_t lo,
                  uint32_t mid, uint32_t hi)
{
    uint32_t a = lo, b = mid;

    for (uint32_t i = lo; i < hi; i++) {
        if (a < mid && (b >= hi || !starts_after(x, from[a], from[b])))
            to[i] = from[a++];
        else
            to[i] = from[b++];
    }
}

/* Bottom-up merge sort by (volume, offset); the heap's memory is its second array. */
void hk_extents_sort(struct hk_extents *x)
{
    uint32_t *from = x->sorted, *to = x->heap, *swap;

    for (uint32_t i = 0; i < x->count; i++)
        from[i] = i;
    for (uint32_t run = 1; run < x->count; run *= 2) {
        for (uint32_t lo = 0; lo < x->count; lo += 2 * run) {
            uint32_t mid = (uint32_t)hk_min_u64((uint64_t)lo + run, x->count);
            uint32_t hi = (uint32_t)hk_min_u64((uint64_t)lo + 2 * (uint64_t)run, x->count);

            merge(x, from, to, lo, mid, hi);
        }
        swap = from;
        from = to;
        to = swap;
    }
    x->sorted = from;
    x->heap = to;
    x->heap_count = 0;
    x->sorted_at = 0;
}

void hk_extents_rewind(struct hk_extents *x)
{
    x->heap_count = 0;
    x->sorted_at = 0;
    x->at = 0;
    x->volume = 0;
}

static void heap_push(struct hk_extents *x, uint32_t index)
{
    uint32_t i = x->heap_count++;

    while (i > 0 && x->heap[(i - 1) / 2] < index) {
        x->heap[i] = x->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    x->heap[i] = index;
}

static void heap_pop(struct hk_extents *x)
{
    uint32_t last = x->heap[--x->heap_count], i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= x->heap_count)
            break;
        if (child + 1 < x->heap_count && x->heap[child + 1] > x->heap[child])
            child++;
        if (x->heap[child] <= last)
            break;
        x->heap[i] = x->heap[child];
        i = child;
    }
    x->heap[i] = last;
}

static const struct hk_extent *next_to_begin(const struct hk_extents *x)
{
    return x->sorted_at < x->count ? &x->extent[x->sorted[x->sorted_at]] : NULL;
}

/* Drops extents that ended at or before `at`, then takes in those that begin exactly there. */
static void settle(struct hk_extents *x)
{
    const struct hk_extent *e;

    for (;;) {
        while (x->heap_count > 0) {
            e = &x->extent[x->heap[0]];
            if (e->offset + e->bytes > x->at)
                break;
            heap_pop(x);
        }
        e = next_to_begin(x);
        if (!e)
            return;
        if (x->heap_count == 0 && (e->volume != x->volume || e->offset > x->at)) {
            x->volume = e->volume;
            x->at = e->offset;
        }
        if (e->volume != x->volume || e->offset > x->at)
            return;
        heap_push(x, x->sorted[x->sorted_at++]);
    }
}

bool hk_extents_next(struct hk_extents *x, struct hk_extent_piece *ret)
{
    const struct hk_extent *top, *e;
    uint64_t end;

    settle(x);
    if (x->heap_count == 0)
        return false;
    top = &x->extent[x->heap[0]];
    HK_ASSERT(top->volume == x->volume && top->offset <= x->at);
    end = top->offset + top->bytes;
    /* Only what is newer cuts it short; older ones that begin meanwhile stay beneath. */
    while ((e = next_to_begin(x)) && e->volume == x->volume && e->offset < end) {
        if (x->sorted[x->sorted_at] > x->heap[0]) {
            end = e->offset;
            break;
        }
        heap_push(x, x->sorted[x->sorted_at++]);
    }
    HK_ASSERT(end > x->at);
    ret->volume = x->volume;
    ret->offset = x->at;
    ret->bytes = end - x->at;
    ret->data = top->data ? top->data + (x->at - top->offset) : NULL;
    x->at = end;
    return true;
}
