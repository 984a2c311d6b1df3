/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The dirty map on disk: pages of the activity log and pages of the map, behind the superblocks of
 * a primary. SPEC.md §6.8 to §6.12. Bytes only; what a region's life is: capture/dirty.
 *
 * A page is 8 sectors of 512 bytes, written as one. Every sector carries its own hash and knows its
 * place, so that a page torn by a power cut (all sectors whole, of different writes) is told from
 * one that is rotten (a sector's hash fails: facts that were relied on may be gone).
 *
 * The activity log is a ring of HK_DMAP_LOG_PAGES pages; transaction s stands in page s mod that.
 * It is about HK_HOT_REGIONS_MAX slots, each empty or holding a marked region. A transaction holds
 * its updates (slot, entry) and an eighth of all slots as they are then, in turn, so that the
 * newest HK_DMAP_WINDOW transactions define every slot, and nobody ever reads further back.
 * The map has two bits a region.
 *
 * What a writer must keep (the reader's verdicts rest on it):
 *  1. Transactions are numbered without holes; one is in flight at a time; the next is submitted
 *     only when the one before is durable. Map pages have a numbering of their own, of the same
 *     kind. A transaction may be in flight beside a map page.
 *  2. While a write is in flight or has failed, what it adds does not count as durable, and what it
 *     takes away (a slot emptied or given to another region, a stale bit cleared) does not either:
 *     a region counts as marked only if it is marked before *and* after.
 *  3. A slot of a region that must stay stale or spooled is emptied only when the map page that
 *     says so is durable.
 *  4. After a start: what was read is flushed before it is believed; a map page that was torn or
 *     rotten is written anew before a transaction names a map write as new as its newest sector.
 *  5. The log is made void (dmap_sequence) only when nothing in it is needed: the map has it all,
 *     or FULL_COMPARE goes into the same superblock. Another base goes with both.
 *  6. A log that is lost is filled again (hk_dmap_log_fill) under a durable FULL_COMPARE.
 */
#ifndef HK_PROTO_DMAP_H
#define HK_PROTO_DMAP_H

#include "proto/limits.h"
#include "proto/lsn.h"

enum {
    HK_DMAP_SECTOR_BYTES = 512,
    HK_DMAP_PAGE_BYTES = 4096,
    HK_DMAP_PAGE_SECTORS = HK_DMAP_PAGE_BYTES / HK_DMAP_SECTOR_BYTES,
    HK_DMAP_LOG_AT = 2 * HK_SUPER_BYTES, /* offset in the metadata file */
    HK_DMAP_LOG_PAGES = 256,
    HK_DMAP_LOG_BYTES = HK_DMAP_LOG_PAGES * HK_DMAP_PAGE_BYTES,
    HK_DMAP_MAP_AT = HK_DMAP_LOG_AT + HK_DMAP_LOG_BYTES,
    HK_DMAP_SLICE = 64,   /* slots that a sector shows as they are */
    HK_DMAP_UPDATES = 24, /* of a sector */
    HK_DMAP_PAGE_UPDATES = HK_DMAP_UPDATES * HK_DMAP_PAGE_SECTORS,
    HK_DMAP_SLOTS = HK_HOT_REGIONS_MAX,
    HK_DMAP_WINDOW = HK_DMAP_SLOTS / (HK_DMAP_SLICE * HK_DMAP_PAGE_SECTORS),
    HK_DMAP_SECTOR_STATES = 448, /* bytes of a map sector's states, 4 regions each */
    HK_DMAP_SECTOR_REGIONS = HK_DMAP_SECTOR_STATES * 4,
    HK_DMAP_PAGE_STATES = HK_DMAP_SECTOR_STATES * HK_DMAP_PAGE_SECTORS,
    HK_DMAP_PAGE_REGIONS = HK_DMAP_SECTOR_REGIONS * HK_DMAP_PAGE_SECTORS,
};
#define HK_DMAP_REGIONS_MAX  ((1ULL << 30) - 1)
#define HK_DMAP_SEQUENCE_MAX (1ULL << 62) /* never reached; a larger one is damage */

enum hk_dmap_kind { HK_DMAP_LOG = 1, HK_DMAP_MAP = 2 };

/* A region in the map. */
enum hk_dmap_state { HK_DMAP_CLEAN = 0, HK_DMAP_STALE = 1, HK_DMAP_SPOOLED = 2 };

/* A slot of the activity log: region in the low 30 bits, this in the high two; 0: empty. */
enum hk_dmap_entry { HK_DMAP_EMPTY = 0, HK_DMAP_MARK_HOT = 1, HK_DMAP_MARK_STALE = 2 };

static inline uint32_t hk_dmap_entry_make(uint32_t region, enum hk_dmap_entry mark)
{
    HK_ASSERT(region < HK_DMAP_REGIONS_MAX);
    return mark == HK_DMAP_EMPTY ? 0 : region | (uint32_t)mark << 30;
}
static inline uint32_t hk_dmap_entry_region(uint32_t entry)
{
    return entry & ((1u << 30) - 1);
}
static inline enum hk_dmap_entry hk_dmap_entry_mark(uint32_t entry)
{
    return (enum hk_dmap_entry)(entry >> 30);
}

struct hk_dmap_update {
    uint32_t slot;
    uint32_t entry;
};

struct hk_dmap_sector {
    uint64_t hash;      /* XXH64 of bytes 8–511, seed: first 8 bytes of the own replica id */
    uint64_t page_hash; /* of all 8 sectors: one page, one write (SPEC.md §6.8) */
    uint64_t sequence;  /* log: number of the transaction; map: number of the map write */
    uint64_t relied;    /* newest durable position on the base that a clear so far rests on */
    uint64_t base;      /* first 8 bytes of that replica's id; 0: no clear rests on any yet */
    uint64_t other;     /* log: newest map write, map: newest transaction, durable before */
    uint32_t place;     /* log: page of the ring; map: page of the map */
    uint32_t ordinal;   /* epoch of `relied` */
    uint8_t index;      /* sector of the page */
    uint8_t kind;       /* enum hk_dmap_kind */
    uint16_t count;     /* log: updates in this sector; map: 0 */
    uint32_t reserved;
    union {
        struct {
            uint32_t slot[HK_DMAP_SLICE]; /* from hk_dmap_slice(sequence, index) on */
            struct hk_dmap_update update[HK_DMAP_UPDATES];
        } log;
        uint8_t state[HK_DMAP_SECTOR_STATES]; /* map: 2 bits a region, lowest bits first */
    };
};
struct hk_dmap_page {
    struct hk_dmap_sector sector[HK_DMAP_PAGE_SECTORS];
};

HK_STATIC_ASSERT(sizeof(struct hk_dmap_sector) == HK_DMAP_SECTOR_BYTES, "sector is 512 bytes");
HK_STATIC_ASSERT(offsetof(struct hk_dmap_sector, sequence) == 16, "sequence at 16");
HK_STATIC_ASSERT(offsetof(struct hk_dmap_sector, place) == 48, "place at 48");
HK_STATIC_ASSERT(offsetof(struct hk_dmap_sector, count) == 58, "count at 58");
HK_STATIC_ASSERT(offsetof(struct hk_dmap_sector, state) == 64, "content at 64");
HK_STATIC_ASSERT(sizeof(struct hk_dmap_page) == HK_DMAP_PAGE_BYTES, "page is 4096 bytes");
HK_STATIC_ASSERT(HK_DMAP_WINDOW == 8, "an eighth of the slots in a transaction");
HK_STATIC_ASSERT(HK_DMAP_WINDOW * 4 < HK_DMAP_LOG_PAGES, "the window never meets its own tail");
HK_STATIC_ASSERT(HK_DMAP_LOG_AT == 32768, "log at 32 KiB");

/* Whose map, relative to which copy. Nil peer: not met yet. */
struct hk_dmap_id {
    uint64_t own, base;
};
struct hk_dmap_id hk_dmap_id(const struct hk_uuid *own_replica, const struct hk_uuid *peer_replica);

/* ---- geometry ---- */

static inline uint64_t hk_dmap_regions(uint64_t bytes, uint32_t shift)
{
    return (bytes >> shift) + ((bytes & ((1ULL << shift) - 1)) != 0);
}
static inline uint32_t hk_dmap_map_pages(uint64_t regions)
{
    return (uint32_t)((regions + HK_DMAP_PAGE_REGIONS - 1) / HK_DMAP_PAGE_REGIONS);
}
static inline uint64_t hk_dmap_log_offset(uint64_t sequence)
{
    return HK_DMAP_LOG_AT + sequence % HK_DMAP_LOG_PAGES * HK_DMAP_PAGE_BYTES;
}
static inline uint64_t hk_dmap_map_offset(uint32_t page)
{
    return HK_DMAP_MAP_AT + (uint64_t)page * HK_DMAP_PAGE_BYTES;
}
/* Size of a metadata file that holds a map of so many regions. */
static inline uint64_t hk_dmap_file_bytes(uint64_t regions)
{
    return hk_dmap_map_offset(hk_dmap_map_pages(regions));
}
/* The first of the HK_DMAP_SLICE slots that sector `index` of transaction `sequence` shows. */
static inline uint32_t hk_dmap_slice(uint64_t sequence, uint32_t index)
{
    return (uint32_t)(sequence % HK_DMAP_WINDOW * HK_DMAP_PAGE_SECTORS + index) * HK_DMAP_SLICE;
}

/* States packed as on disk, 2 bits a region; region 0 is the array's first. */
static inline enum hk_dmap_state hk_dmap_state_get(const uint8_t *packed, uint64_t region)
{
    return (enum hk_dmap_state)(packed[region / 4] >> region % 4 * 2 & 3);
}
static inline void hk_dmap_state_set(uint8_t *packed, uint64_t region, enum hk_dmap_state state)
{
    unsigned at = region % 4 * 2;

    packed[region / 4] = (uint8_t)((packed[region / 4] & ~(3u << at)) | (unsigned)state << at);
}

/*
 * HK_DMAP_PAGE_REGIONS regions from bit 0 of `stale` and `spooled` on (either may be NULL), packed.
 * A region that is both is stale.
 */
void hk_dmap_pack(const uint64_t *stale, const uint64_t *spooled, uint8_t *packed);
/* The way back: sets and clears every bit of the page's regions. */
void hk_dmap_unpack(const uint8_t *packed, uint64_t *stale, uint64_t *spooled);

/* ---- writing ---- */

/* What every sector of a page says. */
struct hk_dmap_stamp {
    uint64_t sequence, relied, other;
    uint32_t ordinal;
};

/*
 * The page of transaction stamp->sequence. `slot` is the whole table as it is *after* the updates;
 * at most HK_DMAP_PAGE_UPDATES of them. `page` is HK_DMAP_PAGE_BYTES, aligned to 8. Goes to
 * hk_dmap_log_offset(sequence).
 */
void hk_dmap_log_build(const struct hk_dmap_id *id, const struct hk_dmap_stamp *stamp,
                       const uint32_t slot[HK_DMAP_SLOTS], const struct hk_dmap_update *update,
                       uint32_t count, void *page);
/*
 * A transaction that says every slot is empty: a new log is HK_DMAP_LOG_PAGES of them, with
 * sequences first .. first + HK_DMAP_LOG_PAGES - 1, and dmap_sequence is the last of these. So a
 * page that is blank later on, or holds any other sequence than it should, is damage.
 */
void hk_dmap_log_fill(const struct hk_dmap_id *id, const struct hk_dmap_stamp *stamp, void *page);
/* Page `place` of the map; `packed` holds its HK_DMAP_PAGE_STATES bytes (clean behind the end). */
void hk_dmap_map_build(const struct hk_dmap_id *id, const struct hk_dmap_stamp *stamp,
                       uint32_t place, const uint8_t *packed, void *page);

/* ---- reading ---- */

enum hk_dmap_fault {
    HK_DMAP_SECTOR_WHOLE = 0,
    HK_DMAP_SECTOR_BLANK,     /* all zero */
    HK_DMAP_SECTOR_BAD_HASH,  /* rotten, or of another replica's file */
    HK_DMAP_SECTOR_BAD_PLACE, /* whole, but of another place: a write went astray */
    HK_DMAP_SECTOR_BAD_FIELD, /* whole, and means nothing to this version */
    HK_DMAP_SECTOR_FAULTS
};
/* Sector `index` of page `place` of the log's ring or of the map. */
enum hk_dmap_fault hk_dmap_sector_check(const void *sector, const struct hk_dmap_id *id,
                                        enum hk_dmap_kind kind, uint32_t place, uint32_t index);
const char *hk_dmap_fault_text(enum hk_dmap_fault f);

enum hk_dmap_page_verdict {
    HK_DMAP_PAGE_WHOLE = 0,
    HK_DMAP_PAGE_TORN,   /* whole sectors of more than one write */
    HK_DMAP_PAGE_ROTTEN, /* a sector that is not whole; a blank one, too */
    HK_DMAP_PAGE_ASTRAY, /* a whole sector that belongs elsewhere */
};
enum hk_dmap_page_verdict hk_dmap_page_check(const void *page, const struct hk_dmap_id *id,
                                             enum hk_dmap_kind kind, uint32_t place);

/* What may be believed. From HK_DMAP_LOST on nothing: every region is stale. */
enum hk_dmap_verdict {
    HK_DMAP_SOUND = 0,
    HK_DMAP_TORN,        /* sound; a power cut interrupted a write that nothing relied on */
    HK_DMAP_PARTLY,      /* some sectors of the map are damaged: their regions are stale */
    HK_DMAP_LOST,        /* a page of the log that is needed is damaged, or may be */
    HK_DMAP_LOST_BLANK,  /* there is no log */
    HK_DMAP_LOST_ASTRAY, /* a write of log or map went to a wrong place: the right one lacks it */
    HK_DMAP_LOST_OLDER,  /* superblock, log and map are not of one time: one was set back */
    HK_DMAP_LOST_BASE,   /* relative to another copy */
    HK_DMAP_VERDICTS
};
static inline bool hk_dmap_is_lost(enum hk_dmap_verdict v)
{
    return v >= HK_DMAP_LOST;
}
const char *hk_dmap_verdict_text(enum hk_dmap_verdict v);

/* What was read. Of a lost log only `seen` and `relied` mean anything. */
struct hk_dmap_load {
    enum hk_dmap_verdict verdict;
    uint64_t seen;         /* newest transaction of which any whole sector was seen */
    uint64_t sequence;     /* newest whole transaction; the next one is this + 1 */
    uint64_t map_seen;     /* newest map write of which any whole sector was seen */
    uint64_t map_sequence; /* newest map write that the newest transaction knows to be durable */
    uint64_t relied;       /* the newest durable position that any clear here rests on */
    uint32_t ordinal;      /* its epoch */
    uint32_t log_torn;     /* 1: the transaction behind `sequence` was torn */
    uint32_t map_torn;     /* pages; they are to be written anew (rule 4) */
    uint32_t map_rotten;   /* sectors whose regions were made stale; pages to be written anew */
    uint32_t marks;        /* slots that are not empty */
    uint32_t slot[HK_DMAP_SLOTS];
};

/*
 * Reads the whole activity log (HK_DMAP_LOG_BYTES, aligned to 8). `void_to`: the superblock's
 * dmap_sequence. Sets everything in *ret but what the map says.
 */
void hk_dmap_load_log(const void *log, const struct hk_dmap_id *id, uint64_t void_to,
                      struct hk_dmap_load *ret);
/*
 * Then every page of the map, in any order, each once: its states go to `packed`
 * (HK_DMAP_PAGE_STATES bytes; rotten sectors as stale). Tells the page's verdict; what is
 * not WHOLE is to be written anew.
 */
enum hk_dmap_page_verdict hk_dmap_load_map(const void *page, const struct hk_dmap_id *id,
                                           uint32_t place, struct hk_dmap_load *l, uint8_t *packed);
/*
 * Then the verdict over both. What is lost is lost as a whole: the caller takes every region for
 * stale (`packed` keeps what was read) and no slot counts.
 */
enum hk_dmap_verdict hk_dmap_load_end(struct hk_dmap_load *l);

#endif
