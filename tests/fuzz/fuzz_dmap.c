/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty map. Input: mode byte, then patches {page u16, offset u16, byte} on a sound area of an
 * activity log and two pages of map. Mode bit 0: each sector that was touched gets its hash made
 * good, bit 1: each page its page hash, too; bits 2-4: how far the log is void.
 *
 * Oracle: nothing out of bounds, and what is handed on is legal. Without a hash made good: a sector
 * of the map that was changed reads as stale, every other one as before; the slots are those
 * written, or everything is lost, and that only if a page of the log was changed.
 */
#include "fuzz.h"

#include "proto/dmap.h"
#include "proto/hash.h"

#include <string.h>

enum { MAP_PAGES = 2, PAGES = HK_DMAP_LOG_PAGES + MAP_PAGES, LAST = HK_DMAP_LOG_PAGES + 20 };

static uint8_t sound[PAGES * HK_DMAP_PAGE_BYTES] __attribute__((aligned(8)));
static uint8_t area[sizeof(sound)] __attribute__((aligned(8)));
static uint8_t packed[MAP_PAGES][HK_DMAP_PAGE_STATES], back[HK_DMAP_PAGE_STATES];
static uint32_t slot[HK_DMAP_SLOTS];
static struct hk_dmap_load load;
static const struct hk_dmap_id id = {.own = 77, .base = 88};

static uint8_t *page_at(uint8_t *in, uint32_t page)
{
    return in + (size_t)page * HK_DMAP_PAGE_BYTES;
}

static void make_sound(void)
{
    struct hk_dmap_stamp stamp = {.sequence = 1};

    for (uint32_t p = 0; p < MAP_PAGES; p++, stamp.sequence++) {
        for (uint32_t r = p; r < HK_DMAP_PAGE_REGIONS; r += 5)
            hk_dmap_state_set(packed[p], r, r % 2 ? HK_DMAP_STALE : HK_DMAP_SPOOLED);
        hk_dmap_map_build(&id, &stamp, p, packed[p], page_at(sound, HK_DMAP_LOG_PAGES + p));
    }
    stamp.other = MAP_PAGES;
    for (stamp.sequence = 1; stamp.sequence <= LAST; stamp.sequence++) {
        uint32_t k = (uint32_t)stamp.sequence * 151 % HK_DMAP_SLOTS;
        struct hk_dmap_update u = {.slot = k};

        stamp.relied = stamp.sequence * 64;
        slot[k] = u.entry = hk_dmap_entry_make(k, k % 3 ? HK_DMAP_MARK_HOT : HK_DMAP_MARK_STALE);
        hk_dmap_log_build(&id, &stamp, slot, &u, 1,
                          page_at(sound, (uint32_t)(stamp.sequence % HK_DMAP_LOG_PAGES)));
    }
}

static void seal(uint32_t page, bool whole_page)
{
    struct hk_dmap_page *p = (void *)page_at(area, page);
    uint64_t hash = id.own;

    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++)
        hash = hk_xxh64((uint8_t *)&p->sector[i] + 16, HK_DMAP_SECTOR_BYTES - 16, hash);
    for (unsigned i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
        if (whole_page)
            p->sector[i].page_hash = hash;
        p->sector[i].hash =
            hk_xxh64((uint8_t *)&p->sector[i] + 8, HK_DMAP_SECTOR_BYTES - 8, id.own);
    }
}

static bool changed(uint32_t page, uint32_t sector)
{
    size_t at = (size_t)page * HK_DMAP_PAGE_BYTES + (size_t)sector * HK_DMAP_SECTOR_BYTES;

    return memcmp(area + at, sound + at, HK_DMAP_SECTOR_BYTES) != 0;
}

static void check_slots(uint64_t void_to)
{
    uint32_t marks = 0;

    for (uint32_t i = 0; i < HK_DMAP_SLOTS; i++) {
        marks += load.slot[i] != 0;
        HK_ASSERT(load.slot[i] == 0 || hk_dmap_entry_region(load.slot[i]) < HK_DMAP_REGIONS_MAX);
    }
    if (hk_dmap_is_lost(load.verdict))
        return;
    HK_ASSERT(marks == load.marks);
    HK_ASSERT(load.sequence >= void_to);
    HK_ASSERT(load.seen == load.sequence + load.log_torn);
}

static void check_map(uint32_t p, bool sealed)
{
    for (uint32_t s = 0; s < HK_DMAP_PAGE_SECTORS; s++) {
        const uint8_t *got = back + (size_t)s * HK_DMAP_SECTOR_STATES;
        const uint8_t *had = packed[p] + (size_t)s * HK_DMAP_SECTOR_STATES;

        for (uint32_t i = 0; i < HK_DMAP_SECTOR_STATES; i++) {
            HK_ASSERT((got[i] & got[i] >> 1 & 0x55) == 0);
            if (!sealed)
                HK_ASSERT(got[i] == (changed(HK_DMAP_LOG_PAGES + p, s) ? 0x55 : had[i]));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t void_to[8] = {0, 1, 255, LAST - 9, LAST - 8, LAST - 3, LAST, LAST + 1};
    bool sealed, log_changed = false;
    uint64_t v;

    if (size < 1)
        return 0;
    if (slot[151] == 0)
        make_sound();
    memcpy(area, sound, sizeof(area));
    sealed = data[0] & 3;
    v = void_to[data[0] >> 2 & 7];
    for (size_t i = 1; i + 5 <= size; i += 5) {
        uint32_t page = (uint32_t)(data[i] | data[i + 1] << 8) % PAGES;

        page_at(area, page)[(data[i + 2] | data[i + 3] << 8) % HK_DMAP_PAGE_BYTES] = data[i + 4];
        if (sealed)
            seal(page, data[0] & 2);
        log_changed = log_changed || page < HK_DMAP_LOG_PAGES;
    }
    hk_dmap_load_log(area, &id, v, &load);
    for (uint32_t p = 0; p < MAP_PAGES; p++) {
        hk_dmap_load_map(page_at(area, HK_DMAP_LOG_PAGES + p), &id, p, &load, back);
        check_map(p, sealed);
    }
    HK_ASSERT(hk_dmap_load_end(&load) == load.verdict);
    HK_ASSERT(hk_dmap_verdict_text(load.verdict)[0] != 'u');
    check_slots(v);
    if (!sealed && !log_changed)
        HK_ASSERT(hk_dmap_is_lost(load.verdict) == (v > LAST));
    if (!sealed && !hk_dmap_is_lost(load.verdict) && v < LAST - 8)
        HK_ASSERT(load.sequence == LAST && memcmp(load.slot, slot, sizeof(slot)) == 0);
    return 0;
}
