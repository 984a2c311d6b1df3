/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the dirty map knows, and what its own files share. Arrays lie in the caller's memory; per
 * region 24 bytes and six bits, per slot 36 bytes.
 *
 * Where a slot of the activity log stands, by its list:
 *   FREE    empty, on disk too
 *   IDLE    marked durably, nothing under way: may be given away, longest idle first
 *   ACTIVE  its region has records; in the order of their ends
 *   QUEUE   the mark is to be written; an op holds it
 *   LOOSE   neither: in the transaction under way, or held by an op that has no LSN yet
 */
#ifndef HK_CAPTURE_DIRTY_STATE_H
#define HK_CAPTURE_DIRTY_STATE_H

#include "driver-glue/capture/dirty.h"
#include "proto/dmap.h"

struct hk_region {
    uint64_t since;      /* LSN of the newest staleness event */
    uint32_t event;      /* staleness events of this life */
    uint32_t uncaptured; /* writes in flight without a record */
    uint16_t slot;       /* plus one; 0: none */
};

enum hk_hot_list {
    HK_HOT_FREE = 0,
    HK_HOT_IDLE,
    HK_HOT_ACTIVE,
    HK_HOT_QUEUE,
    HK_HOT_LOOSE,
    HK_HOT_LISTS
};

struct hk_hot {
    uint64_t end;  /* of the newest record; 0: none since it was clear */
    uint64_t need; /* number of the flush that makes its last write stable */
    uint32_t region;
    uint32_t pins;       /* ops that hold it: waiting for the mark, or in flight to the origin */
    uint16_t prev, next; /* plus one */
    uint16_t volume;
    uint8_t list;
    bool durable; /* the mark is */
};

struct hk_hot_ends {
    uint16_t first, last; /* plus one */
    uint32_t count;
};

/* Flushes of one origin, numbered by their start. */
struct hk_flushes {
    uint64_t started, good; /* newest that succeeded */
    uint64_t flushed;       /* all up to this one ended, and it succeeded */
    uint64_t own;           /* the caller's own under way; 0: none */
};

struct hk_heal {
    uint64_t end, need;
    uint32_t region;
    uint16_t volume;
};

enum { HK_DIRTY_PAGE_WORDS = HK_DMAP_PAGE_REGIONS / 64 };
HK_STATIC_ASSERT(HK_DMAP_PAGE_REGIONS % 64 == 0, "a page of the map is whole words");

struct hk_dirty {
    bool on;
    struct hk_dmap_id id;                   /* as read at the start */
    uint32_t shift, regions, hot_max, span; /* span: regions an op may cover */
    uint32_t map_pages;
    uint32_t first_region[HK_VOLUMES_MAX + 1];
    struct hk_flushes flush[HK_VOLUMES_MAX];

    struct hk_region *region;
    uint64_t *stale;     /* bits */
    uint64_t *kept;      /* bits: stale in the map whatever becomes of the write under way */
    uint64_t *healing;   /* bits */
    uint64_t *spooled;   /* bits: the spool has what the standby lacks of it */
    uint64_t *sheltered; /* bits: the map says spooled or stale, whatever becomes of … */
    uint64_t *page_end;  /* per page of the map: its spooled bits rest on log up to here */
    uint64_t spool_to;   /* durable in the spool; 0: none */
    uint64_t spool_next; /* least of page_end */
    uint64_t spool_seen;
    uint32_t spooled_count;
    uint64_t *pages;           /* bits: pages of the map to be written */
    uint64_t *damaged;         /* bits: of these, the ones that were found torn or rotten */
    struct hk_hot *hot;        /* HK_DMAP_SLOTS */
    uint32_t *table;           /* the slots as the newest transaction built says */
    uint64_t *issued;          /* stale bits of the page under way */
    uint64_t *issued_spooled;  /* … and those that it says are spooled or stale */
    uint8_t *packed;           /* states of one page */
    struct hk_dmap_load *load; /* only during init */
    uint8_t *log_page, *map_page;
    struct hk_hot_ends list[HK_HOT_LISTS];

    uint32_t stale_count, pages_count, damaged_count, cursor, heal_count;
    uint64_t stale_bytes, events;
    struct hk_heal heal[HK_DIRTY_HEALS_MAX];

    /* Writes: log_out or map_out is on its way, never both; a failed one is repeated. */
    uint64_t sequence, map_sequence; /* newest built */
    uint64_t map_named;              /* newest map write that a transaction may name */
    uint64_t writes_done, log_writes, map_writes;
    uint64_t relied; /* durable position that the clears so far rest on */
    struct hk_dmap_update update[HK_DMAP_PAGE_UPDATES]; /* of the transaction under way */
    uint32_t update_count;
    bool log_out, map_out, log_last;
    uint32_t map_place;
    uint32_t fill_left;    /* pages of a log that is begun anew */
    bool everything_stale; /* FULL_COMPARE was turned into stale bits */

    uint64_t takes, takes_seen, busy_ns, flushed_ns;
    bool flush_out, want_flush, trim;
};

static inline bool hk_bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}
static inline void hk_bit_set(uint64_t *bits, uint32_t i)
{
    bits[i / 64] |= 1ull << i % 64;
}
static inline void hk_bit_clear(uint64_t *bits, uint32_t i)
{
    bits[i / 64] &= ~(1ull << i % 64);
}

/* dirty.c, for the others */
void hk_hot_move(struct hk_dirty *d, uint32_t slot, enum hk_hot_list to);
void hk_dirty_stale_region(struct hk_capture *c, uint32_t region);
bool hk_dirty_may_give_away(const struct hk_dirty *d, uint32_t slot);
void hk_dirty_page_dirty(struct hk_dirty *d, uint32_t page);
uint16_t hk_dirty_volume_of(const struct hk_dirty *d, uint32_t region);
uint64_t hk_dirty_region_bytes(const struct hk_capture *c, uint32_t region);

#endif
