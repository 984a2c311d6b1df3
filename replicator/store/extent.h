/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlap resolution: ranges of volumes in log order go in, disjoint pieces sorted by (volume,
 * offset) come out, each the newest that covers it. Memory from the arena at init; O(n log n).
 *
 * Use: add in log order, then sort once, then next until it returns false (rewind: again),
 * then reset.
 */
#ifndef HK_STORE_EXTENT_H
#define HK_STORE_EXTENT_H

#include "proto/base.h"

struct hk_extent {
    uint64_t offset, bytes; /* on the volume */
    uint8_t *data;          /* NULL: reads as zeroes */
    uint32_t volume;
};

struct hk_extent_piece {
    uint32_t volume;
    uint64_t offset, bytes;
    uint8_t *data; /* of byte `offset`; NULL: zeroes */
};

struct hk_extents {
    uint32_t count, count_max;
    struct hk_extent *extent; /* in log order; a higher index is newer */
    /* private: the sweep */
    uint32_t *sorted, *heap; /* heap: indices of extents that began, newest on top */
    uint32_t heap_count, sorted_at;
    uint64_t at; /* the sweep stands here on `volume` */
    uint32_t volume;
};

size_t hk_extents_memory(uint32_t count_max);
int hk_extents_init(struct hk_extents *x, uint32_t count_max, struct hk_arena *arena); /* -ENOMEM */
void hk_extents_reset(struct hk_extents *x);
/* bytes > 0; offset + bytes does not overflow; count < count_max. */
void hk_extents_add(struct hk_extents *x, uint32_t volume, uint64_t offset, uint64_t bytes,
                    uint8_t *data);
void hk_extents_sort(struct hk_extents *x);
void hk_extents_rewind(struct hk_extents *x); /* sorted: the sweep begins again */
bool hk_extents_next(struct hk_extents *x, struct hk_extent_piece *ret);

#endif
