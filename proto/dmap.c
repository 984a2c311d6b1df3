/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Pages of the dirty map: building them, and judging one by itself. Whole areas: dmap_load.c. */
#include "proto/dmap.h"

#include "proto/bug.h"
#include "proto/hash.h"

enum {
    HASHED_FROM = offsetof(struct hk_dmap_sector, page_hash),
    PAGE_HASHED_FROM = offsetof(struct hk_dmap_sector, sequence),
};

struct hk_dmap_id hk_dmap_id(const struct hk_uuid *own_replica, const struct hk_uuid *peer_replica)
{
    struct hk_dmap_id id;

    __builtin_memcpy(&id.own, own_replica->b, 8);
    __builtin_memcpy(&id.base, peer_replica->b, 8);
    return id;
}

/* Bit i of the low half goes to bit 2i: the map keeps two bits a region, bitmaps one. */
static uint64_t spread(uint64_t half)
{
    half = (half | half << 16) & 0x0000ffff0000ffffull;
    half = (half | half << 8) & 0x00ff00ff00ff00ffull;
    half = (half | half << 4) & 0x0f0f0f0f0f0f0f0full;
    half = (half | half << 2) & 0x3333333333333333ull;
    return (half | half << 1) & 0x5555555555555555ull;
}

static uint64_t gather(uint64_t even)
{
    even &= 0x5555555555555555ull;
    even = (even | even >> 1) & 0x3333333333333333ull;
    even = (even | even >> 2) & 0x0f0f0f0f0f0f0f0full;
    even = (even | even >> 4) & 0x00ff00ff00ff00ffull;
    even = (even | even >> 8) & 0x0000ffff0000ffffull;
    return (even | even >> 16) & 0xffffffffull;
}

void hk_dmap_pack(const uint64_t *stale, const uint64_t *spooled, uint8_t *packed)
{
    for (unsigned i = 0; i < HK_DMAP_PAGE_REGIONS / 64; i++) {
        uint64_t bad = stale ? stale[i] : 0, late = (spooled ? spooled[i] : 0) & ~bad;
        uint64_t out[2] = {spread(bad & 0xffffffffu) | spread(late & 0xffffffffu) << 1,
                           spread(bad >> 32) | spread(late >> 32) << 1};

        __builtin_memcpy(packed + (size_t)i * sizeof(out), out, sizeof(out));
    }
}

void hk_dmap_unpack(const uint8_t *packed, uint64_t *stale, uint64_t *spooled)
{
    for (unsigned i = 0; i < HK_DMAP_PAGE_REGIONS / 64; i++) {
        uint64_t in[2];

        __builtin_memcpy(in, packed + (size_t)i * sizeof(in), sizeof(in));
        if (stale)
            stale[i] = gather(in[0]) | gather(in[1]) << 32;
        if (spooled)
            spooled[i] = gather(in[0] >> 1) | gather(in[1] >> 1) << 32;
    }
}

static uint64_t sector_hash(const struct hk_dmap_sector *s, const struct hk_dmap_id *id)
{
    return hk_xxh64((const uint8_t *)s + HASHED_FROM, HK_DMAP_SECTOR_BYTES - HASHED_FROM, id->own);
}

/* One sector after the other, each seeded with what came before it. */
static uint64_t page_hash(const struct hk_dmap_page *p, const struct hk_dmap_id *id)
{
    uint64_t hash = id->own;

    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++)
        hash = hk_xxh64((const uint8_t *)&p->sector[i] + PAGE_HASHED_FROM,
                        HK_DMAP_SECTOR_BYTES - PAGE_HASHED_FROM, hash);
    return hash;
}

static void seal(struct hk_dmap_page *p, const struct hk_dmap_id *id)
{
    uint64_t hash = page_hash(p, id);

    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
        p->sector[i].page_hash = hash;
        p->sector[i].hash = sector_hash(&p->sector[i], id);
    }
}

static void begin(const struct hk_dmap_id *id, const struct hk_dmap_stamp *stamp,
                  enum hk_dmap_kind kind, uint32_t place, struct hk_dmap_page *p)
{
    HK_ASSERT((uintptr_t)p % _Alignof(struct hk_dmap_page) == 0);
    HK_ASSERT(stamp->sequence > 0);
    HK_ASSERT(stamp->sequence <= HK_DMAP_SEQUENCE_MAX && stamp->other <= HK_DMAP_SEQUENCE_MAX);
    HK_ASSERT(stamp->relied % HK_RECORD_ALIGN == 0);
    __builtin_memset(p, 0, sizeof(*p));
    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
        struct hk_dmap_sector *s = &p->sector[i];

        s->sequence = stamp->sequence;
        s->relied = stamp->relied;
        s->base = id->base;
        s->other = stamp->other;
        s->place = place;
        s->ordinal = stamp->ordinal;
        s->index = (uint8_t)i;
        s->kind = (uint8_t)kind;
    }
}

static bool entry_ok(uint32_t entry)
{
    switch (hk_dmap_entry_mark(entry)) {
    case HK_DMAP_EMPTY: return entry == 0;
    case HK_DMAP_MARK_HOT:
    case HK_DMAP_MARK_STALE: return hk_dmap_entry_region(entry) < HK_DMAP_REGIONS_MAX;
    }
    return false;
}

void hk_dmap_log_build(const struct hk_dmap_id *id, const struct hk_dmap_stamp *stamp,
                       const uint32_t slot[HK_DMAP_SLOTS], const struct hk_dmap_update *update,
                       uint32_t count, void *page)
{
    struct hk_dmap_page *p = page;

    HK_ASSERT(count <= HK_DMAP_PAGE_UPDATES);
    begin(id, stamp, HK_DMAP_LOG, (uint32_t)(stamp->sequence % HK_DMAP_LOG_PAGES), p);
    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++)
        __builtin_memcpy(p->sector[i].log.slot, &slot[hk_dmap_slice(stamp->sequence, i)],
                         sizeof(p->sector[i].log.slot));
    for (uint32_t i = 0; i < count; i++) {
        struct hk_dmap_sector *s = &p->sector[i / HK_DMAP_UPDATES];

        HK_ASSERT(update[i].slot < HK_DMAP_SLOTS && entry_ok(update[i].entry));
        HK_ASSERT(slot[update[i].slot] == update[i].entry);
        s->log.update[s->count++] = update[i];
    }
    seal(p, id);
}

void hk_dmap_log_fill(const struct hk_dmap_id *id, const struct hk_dmap_stamp *stamp, void *page)
{
    begin(id, stamp, HK_DMAP_LOG, (uint32_t)(stamp->sequence % HK_DMAP_LOG_PAGES), page);
    seal(page, id);
}

void hk_dmap_map_build(const struct hk_dmap_id *id, const struct hk_dmap_stamp *stamp,
                       uint32_t place, const uint8_t *packed, void *page)
{
    struct hk_dmap_page *p = page;

    begin(id, stamp, HK_DMAP_MAP, place, p);
    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++)
        __builtin_memcpy(p->sector[i].state, packed + (size_t)i * HK_DMAP_SECTOR_STATES,
                         HK_DMAP_SECTOR_STATES);
    seal(p, id);
}

static bool all_zero(const void *bytes, size_t count)
{
    const uint8_t *b = bytes;
    uint8_t any = 0;

    for (size_t i = 0; i < count; i++)
        any |= b[i];
    return any == 0;
}

static bool log_content_ok(const struct hk_dmap_sector *s)
{
    if (s->count > HK_DMAP_UPDATES)
        return false;
    for (unsigned i = 0; i < HK_DMAP_SLICE; i++) {
        if (!entry_ok(s->log.slot[i]))
            return false;
    }
    for (unsigned i = 0; i < s->count; i++) {
        if (s->log.update[i].slot >= HK_DMAP_SLOTS || !entry_ok(s->log.update[i].entry))
            return false;
    }
    return all_zero(&s->log.update[s->count],
                    (HK_DMAP_UPDATES - s->count) * sizeof(s->log.update[0]));
}

static bool map_content_ok(const struct hk_dmap_sector *s)
{
    uint8_t both = 0;

    for (unsigned i = 0; i < HK_DMAP_SECTOR_STATES; i++)
        both |= s->state[i] & s->state[i] >> 1 & 0x55;
    return both == 0 && s->count == 0;
}

enum hk_dmap_fault hk_dmap_sector_check(const void *sector, const struct hk_dmap_id *id,
                                        enum hk_dmap_kind kind, uint32_t place, uint32_t index)
{
    const struct hk_dmap_sector *s = sector;

    HK_ASSERT((uintptr_t)sector % _Alignof(struct hk_dmap_sector) == 0);
    if (s->hash != sector_hash(s, id))
        return all_zero(s, sizeof(*s)) ? HK_DMAP_SECTOR_BLANK : HK_DMAP_SECTOR_BAD_HASH;
    if (s->kind != kind || s->place != place || s->index != index)
        return HK_DMAP_SECTOR_BAD_PLACE;
    if (kind == HK_DMAP_LOG && s->sequence % HK_DMAP_LOG_PAGES != place)
        return HK_DMAP_SECTOR_BAD_PLACE;
    if (s->sequence == 0 || s->sequence > HK_DMAP_SEQUENCE_MAX || s->reserved != 0 ||
        s->other > HK_DMAP_SEQUENCE_MAX || s->relied % HK_RECORD_ALIGN != 0)
        return HK_DMAP_SECTOR_BAD_FIELD;
    if (kind == HK_DMAP_LOG ? !log_content_ok(s) : !map_content_ok(s))
        return HK_DMAP_SECTOR_BAD_FIELD;
    return HK_DMAP_SECTOR_WHOLE;
}

enum hk_dmap_page_verdict hk_dmap_page_check(const void *page, const struct hk_dmap_id *id,
                                             enum hk_dmap_kind kind, uint32_t place)
{
    const struct hk_dmap_page *p = page;
    bool rotten = false, mixed = false;

    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
        enum hk_dmap_fault f = hk_dmap_sector_check(&p->sector[i], id, kind, place, i);

        if (f == HK_DMAP_SECTOR_BAD_PLACE)
            return HK_DMAP_PAGE_ASTRAY;
        rotten = rotten || f != HK_DMAP_SECTOR_WHOLE;
        mixed = mixed || p->sector[i].sequence != p->sector[0].sequence ||
                (p->sector[i].page_hash != p->sector[0].page_hash && !HK_BUG(dmap_mixture));
    }
    if (rotten)
        return HK_DMAP_PAGE_ROTTEN;
    if (mixed)
        return HK_DMAP_PAGE_TORN;
    /* Each sector is whole and says it belongs to this page's content: then it must. */
    if (p->sector[0].page_hash != page_hash(p, id) && !HK_BUG(dmap_mixture))
        return HK_DMAP_PAGE_ROTTEN;
    return HK_DMAP_PAGE_WHOLE;
}

const char *hk_dmap_fault_text(enum hk_dmap_fault f)
{
    switch (f) {
    case HK_DMAP_SECTOR_WHOLE: return "whole";
    case HK_DMAP_SECTOR_BLANK: return "blank";
    case HK_DMAP_SECTOR_BAD_HASH: return "hash does not match";
    case HK_DMAP_SECTOR_BAD_PLACE: return "belongs to another place";
    case HK_DMAP_SECTOR_BAD_FIELD: return "a field makes no sense";
    case HK_DMAP_SECTOR_FAULTS: break;
    }
    return "unknown fault";
}

const char *hk_dmap_verdict_text(enum hk_dmap_verdict v)
{
    switch (v) {
    case HK_DMAP_SOUND: return "sound";
    case HK_DMAP_TORN: return "sound, a write was cut off by a power cut";
    case HK_DMAP_PARTLY: return "sectors of the map are damaged: their regions are stale";
    case HK_DMAP_LOST: return "the activity log is damaged: every region is stale";
    case HK_DMAP_LOST_BLANK: return "there is no activity log: every region is stale";
    case HK_DMAP_LOST_ASTRAY: return "a write went to a wrong place: every region is stale";
    case HK_DMAP_LOST_OLDER:
        return "log, map and superblock are of different times: every region is stale";
    case HK_DMAP_LOST_BASE: return "relative to another replica: every region is stale";
    case HK_DMAP_VERDICTS: break;
    }
    return "unknown verdict";
}
