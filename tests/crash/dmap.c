/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a mark that was durable is never lost. Whatever a power cut leaves of a page of the
 * activity log or of the map, and whatever damage is done to the area, each region of which
 * something was durably said reads as that or as worse; and a power cut alone costs nothing but
 * what was under way (proto/SPEC.md §6.8 to §6.12).
 *
 * Method: a writer lives by the rules of proto/dmap.h on an area in memory: it marks, clears,
 * checkpoints and voids by chance, for more than one lap of the ring. Beside it stands a model that
 * knows of no page: one word a region, what must be readable of it now. It grows weaker when the
 * writer decides so and stronger when the write that says so is complete. While a write is under
 * way its byte prefixes and sector subsets are laid out, and those of a second, different write on
 * top of the first one's remains; between writes bits are flipped, sectors blanked and swapped,
 * writes sent astray, and log, map and superblock set back against one another.
 */
#include "tests/crash/crash.h"

#include "proto/dmap.h"
#include "proto/hash.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAP_PAGES = 2,
    PAGES = HK_DMAP_LOG_PAGES + MAP_PAGES,
    AREA_BYTES = PAGES * HK_DMAP_PAGE_BYTES,
    REGIONS = MAP_PAGES * HK_DMAP_PAGE_REGIONS,
    PLAY = 96, /* regions that anything happens to */
    LIFE = 420,
};

/* What must be readable of a region. */
enum need { NONE, SPOOLED, HOT, STALE };

/* A page on its way. */
struct write {
    uint8_t page[HK_DMAP_PAGE_BYTES] __attribute__((aligned(8)));
    uint32_t at; /* page of the area */
    bool is_map;
    enum need grown[PLAY]; /* what must be readable once it is complete */
    uint32_t slot_after[HK_DMAP_SLOTS];
    uint8_t packed_after[HK_DMAP_PAGE_STATES];
};

struct life {
    uint8_t area[AREA_BYTES] __attribute__((aligned(8)));
    uint32_t slot[HK_DMAP_SLOTS];
    uint8_t packed[MAP_PAGES][HK_DMAP_PAGE_STATES]; /* as the last complete write has it */
    uint64_t sequence, map_sequence, void_to, relied;
    enum need need[PLAY];
    uint64_t random;
};

static struct life w;
static struct write now;
static const struct hk_dmap_id id = {.own = 0x1122334455667788ull, .base = 0x99aabbccddeeff00ull};

/* The regions in play: some share a sector, some a page, the first and the last are among them. */
static uint32_t region_of(unsigned i)
{
    return i < PLAY / 2 ? i * (REGIONS / PLAY) : REGIONS - 1 - (i - PLAY / 2) * 37;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(crash_random(&w.random) % n);
}

static unsigned slot_holding(uint32_t region)
{
    unsigned i = 0;

    while (i < HK_DMAP_SLOTS && (w.slot[i] == 0 || hk_dmap_entry_region(w.slot[i]) != region))
        i++;
    return i;
}

static uint8_t *map_of(uint32_t region)
{
    return w.packed[region / HK_DMAP_PAGE_REGIONS];
}

/* --- The writer --- */

static void put(unsigned slot, uint32_t entry, struct hk_dmap_update *update, uint32_t *count)
{
    now.slot_after[slot] = entry;
    update[(*count)++] = (struct hk_dmap_update){.slot = slot, .entry = entry};
}

/* A slot is given up: the region is durable on both sides, or the map has what is left to say. */
static enum need without_slot(enum need need, enum need covered)
{
    if (need == STALE)
        return covered;
    return covered == SPOOLED ? SPOOLED : NONE;
}

/* One region's part in a transaction: a new mark, a worse one, or none any more. */
static void touch(unsigned i, struct hk_dmap_update *update, uint32_t *count)
{
    uint32_t region = region_of(i);
    unsigned slot = slot_holding(region);
    enum hk_dmap_state map = hk_dmap_state_get(map_of(region), region % HK_DMAP_PAGE_REGIONS);
    enum need covered = map == HK_DMAP_STALE ? STALE : map == HK_DMAP_SPOOLED ? SPOOLED : NONE;

    if (slot == HK_DMAP_SLOTS) {
        enum need mark = below(3) ? HOT : STALE;

        slot = below(HK_DMAP_SLOTS);
        while (w.slot[slot] != 0 || now.slot_after[slot] != 0)
            slot = below(HK_DMAP_SLOTS);
        if (mark > w.need[i])
            now.grown[i] = mark;
        put(slot, hk_dmap_entry_make(region, mark == HOT ? HK_DMAP_MARK_HOT : HK_DMAP_MARK_STALE),
            update, count);
    } else if (hk_dmap_entry_mark(w.slot[slot]) == HK_DMAP_MARK_HOT && below(2)) {
        now.grown[i] = STALE;
        put(slot, hk_dmap_entry_make(region, HK_DMAP_MARK_STALE), update, count);
    } else if (w.need[i] != STALE || covered == STALE) {
        w.need[i] = without_slot(w.need[i], covered);
        now.grown[i] = w.need[i];
        w.relied += 64;
        put(slot, 0, update, count);
    }
}

static void plan_log(uint32_t most)
{
    struct hk_dmap_update update[HK_DMAP_PAGE_UPDATES];
    uint32_t count = 0;
    unsigned i = below(PLAY);

    now.is_map = false;
    memcpy(now.grown, w.need, sizeof(now.grown));
    memcpy(now.slot_after, w.slot, sizeof(now.slot_after));
    for (uint32_t n = below(most + 1); n > 0; n--, i = (i + 5) % PLAY)
        touch(i, update, &count);
    now.at = (uint32_t)((w.sequence + 1) % HK_DMAP_LOG_PAGES);
    hk_dmap_log_build(
        &id,
        &(struct hk_dmap_stamp){
            .sequence = w.sequence + 1, .relied = w.relied, .other = w.map_sequence, .ordinal = 1},
        now.slot_after, update, count, now.page);
}

static void plan_map(void)
{
    uint32_t page = below(MAP_PAGES);

    now.is_map = true;
    now.at = HK_DMAP_LOG_PAGES + page;
    memcpy(now.grown, w.need, sizeof(now.grown));
    memcpy(now.packed_after, w.packed[page], HK_DMAP_PAGE_STATES);
    for (unsigned i = 0; i < PLAY; i++) {
        uint32_t region = region_of(i), at = region % HK_DMAP_PAGE_REGIONS;
        unsigned slot = slot_holding(region);
        bool marked = slot < HK_DMAP_SLOTS;

        if (region / HK_DMAP_PAGE_REGIONS != page || below(3) == 0)
            continue;
        if (w.need[i] == STALE && !marked && below(4) == 0)
            w.need[i] = now.grown[i] = NONE; /* healed */
        if (w.need[i] == SPOOLED && below(4) == 0)
            w.need[i] = now.grown[i] = NONE; /* durable there */
        hk_dmap_state_set(now.packed_after, at,
                          w.need[i] == STALE || (w.need[i] == NONE && below(8) == 0) ? HK_DMAP_STALE
                          : w.need[i] == SPOOLED || (w.need[i] == HOT && below(2)) ? HK_DMAP_SPOOLED
                                                                                   : HK_DMAP_CLEAN);
        if (w.need[i] == NONE && hk_dmap_state_get(now.packed_after, at) == HK_DMAP_STALE)
            now.grown[i] = STALE;
    }
    hk_dmap_map_build(
        &id,
        &(struct hk_dmap_stamp){
            .sequence = w.map_sequence + 1, .relied = w.relied, .other = w.sequence, .ordinal = 1},
        page, now.packed_after, now.page);
}

static void complete(void)
{
    memcpy(w.area + (size_t)now.at * HK_DMAP_PAGE_BYTES, now.page, HK_DMAP_PAGE_BYTES);
    memcpy(w.need, now.grown, sizeof(w.need));
    if (now.is_map) {
        memcpy(w.packed[now.at - HK_DMAP_LOG_PAGES], now.packed_after, HK_DMAP_PAGE_STATES);
        w.map_sequence++;
    } else {
        memcpy(w.slot, now.slot_after, sizeof(w.slot));
        w.sequence++;
    }
}

/* A clean stop: the map holds all that is still needed, then the log is void. */
static void make_void(void)
{
    for (unsigned i = 0; i < PLAY; i++) {
        uint32_t region = region_of(i);

        if (slot_holding(region) < HK_DMAP_SLOTS && w.need[i] == STALE &&
            hk_dmap_state_get(map_of(region), region % HK_DMAP_PAGE_REGIONS) != HK_DMAP_STALE)
            return;
    }
    for (unsigned i = 0; i < PLAY; i++) {
        uint32_t region = region_of(i);
        enum hk_dmap_state map = hk_dmap_state_get(map_of(region), region % HK_DMAP_PAGE_REGIONS);
        enum need covered = map == HK_DMAP_STALE ? STALE : map == HK_DMAP_SPOOLED ? SPOOLED : NONE;

        if (slot_holding(region) < HK_DMAP_SLOTS)
            w.need[i] = without_slot(w.need[i], covered);
    }
    memset(w.slot, 0, sizeof(w.slot));
    w.void_to = w.sequence;
}

static void create(uint64_t seed)
{
    memset(&w, 0, sizeof(w));
    w.random = seed;
    w.sequence = w.void_to = HK_DMAP_LOG_PAGES;
    for (uint64_t s = 1; s <= HK_DMAP_LOG_PAGES; s++)
        hk_dmap_log_fill(&id, &(struct hk_dmap_stamp){.sequence = s},
                         w.area + s % HK_DMAP_LOG_PAGES * HK_DMAP_PAGE_BYTES);
    for (uint32_t p = 0; p < MAP_PAGES; p++)
        hk_dmap_map_build(&id, &(struct hk_dmap_stamp){.sequence = ++w.map_sequence}, p,
                          w.packed[p],
                          w.area + (size_t)(HK_DMAP_LOG_PAGES + p) * HK_DMAP_PAGE_BYTES);
}

/* Between transactions: a region that is durably marked is written again, or fails, at once. */
static void use_marks(void)
{
    for (unsigned i = 0; i < PLAY; i++) {
        unsigned slot = slot_holding(region_of(i));
        enum need mark;

        if (slot == HK_DMAP_SLOTS || below(3) == 0)
            continue;
        mark = hk_dmap_entry_mark(w.slot[slot]) == HK_DMAP_MARK_STALE ? STALE : HOT;
        if (mark > w.need[i])
            w.need[i] = mark;
    }
}

static void plan(void)
{
    use_marks();
    if (below(3) == 0)
        plan_map();
    else
        plan_log(40);
}

/* --- The reader, and the judge --- */

static struct {
    struct hk_dmap_load load;
    uint8_t packed[MAP_PAGES][HK_DMAP_PAGE_STATES];
    enum hk_dmap_page_verdict page[MAP_PAGES];
} got;

static void read_back(void)
{
    hk_dmap_load_log(w.area, &id, w.void_to, &got.load);
    for (uint32_t p = 0; p < MAP_PAGES; p++)
        got.page[p] =
            hk_dmap_load_map(w.area + (size_t)(HK_DMAP_LOG_PAGES + p) * HK_DMAP_PAGE_BYTES, &id, p,
                             &got.load, got.packed[p]);
    hk_dmap_load_end(&got.load);
}

/* The worst mark that the slots hold of each region in play. */
static void read_slots(enum need ret[PLAY])
{
    static uint8_t in_play[REGIONS];

    if (in_play[region_of(0)] == 0) {
        for (unsigned i = 0; i < PLAY; i++)
            in_play[region_of(i)] = (uint8_t)(i + 1);
    }
    memset(ret, 0, PLAY * sizeof(ret[0]));
    for (unsigned s = 0; s < HK_DMAP_SLOTS; s++) {
        uint32_t entry = got.load.slot[s];
        enum need mark = hk_dmap_entry_mark(entry) == HK_DMAP_MARK_STALE ? STALE : HOT;
        unsigned i;

        if (entry == 0)
            continue;
        CRASH_CHECK(hk_dmap_entry_region(entry) < REGIONS, "a mark of no region");
        i = in_play[hk_dmap_entry_region(entry)];
        CRASH_CHECK(i > 0, "a region that was never marked");
        if (mark > ret[i - 1])
            ret[i - 1] = mark;
    }
}

static bool readable(unsigned i, enum need mark)
{
    uint32_t region = region_of(i);
    enum hk_dmap_state map =
        hk_dmap_state_get(got.packed[region / HK_DMAP_PAGE_REGIONS], region % HK_DMAP_PAGE_REGIONS);

    switch (w.need[i]) {
    case NONE: return true;
    case SPOOLED: return map != HK_DMAP_CLEAN || mark != NONE;
    case HOT: return map == HK_DMAP_STALE || mark != NONE;
    case STALE: return map == HK_DMAP_STALE || mark == STALE;
    }
    return false;
}

/* I1, I2: nothing that had to be readable is missing. */
static void judge(void)
{
    enum need mark[PLAY];

    read_back();
    if (hk_dmap_is_lost(got.load.verdict))
        return; /* everything is stale */
    read_slots(mark);
    for (unsigned i = 0; i < PLAY; i++)
        CRASH_CHECK(readable(i, mark[i]), "region %u must read as %d and does not (%s)",
                    region_of(i), w.need[i], hk_dmap_verdict_text(got.load.verdict));
    CRASH_CHECK(got.load.relied <= w.relied, "relied on %llu, and the newest was %llu",
                ULL(got.load.relied), ULL(w.relied));
}

static uint8_t *under_way(void)
{
    return w.area + (size_t)now.at * HK_DMAP_PAGE_BYTES;
}

/*
 * A power cut that left the sectors of `mask`: never lost, never a region too many, and the log as
 * it was before or after.
 */
static void judge_cut(unsigned mask)
{
    judge();
    CRASH_CHECK(!hk_dmap_is_lost(got.load.verdict) && got.load.map_rotten == 0,
                "a power cut alone, and the verdict is: %s",
                hk_dmap_verdict_text(got.load.verdict));
    CRASH_CHECK((got.load.verdict == HK_DMAP_TORN) == (mask != 0 && mask != 0xff),
                "sectors %02x reached the disk, and the verdict is: %s", mask,
                hk_dmap_verdict_text(got.load.verdict));
    CRASH_CHECK(memcmp(got.load.slot, !now.is_map && mask == 0xff ? now.slot_after : w.slot,
                       sizeof(w.slot)) == 0,
                "the slots are neither those before nor those after");
    for (uint32_t p = 0; p < MAP_PAGES; p++) {
        for (unsigned s = 0; s < HK_DMAP_PAGE_SECTORS; s++) {
            bool fresh = now.is_map && now.at == HK_DMAP_LOG_PAGES + p && (mask >> s & 1);
            const uint8_t *want = fresh ? now.packed_after : w.packed[p];

            CRASH_CHECK(memcmp(got.packed[p] + (size_t)s * HK_DMAP_SECTOR_STATES,
                               want + (size_t)s * HK_DMAP_SECTOR_STATES,
                               HK_DMAP_SECTOR_STATES) == 0,
                        "sector %u of page %u of the map reads as something else", s, p);
        }
    }
}

static void lay(uint8_t *page, const uint8_t *from, unsigned mask)
{
    for (unsigned s = 0; s < HK_DMAP_PAGE_SECTORS; s++) {
        if (mask >> s & 1)
            memcpy(page + (size_t)s * HK_DMAP_SECTOR_BYTES, from + (size_t)s * HK_DMAP_SECTOR_BYTES,
                   HK_DMAP_SECTOR_BYTES);
    }
}

/* At every `stride`-th write: `look` while it is under way, `after` when it is complete. */
static void live(uint64_t seed, uint32_t stride, void (*look)(uint32_t), void (*after)(uint32_t))
{
    create(seed);
    for (uint32_t step = 0; step < LIFE; step++) {
        plan();
        if (look && step % stride == stride - 1)
            look(step);
        complete();
        if (step % 97 == 96)
            make_void();
        if (after && step % stride == stride - 1)
            after(step);
    }
}

/* --- Kinds --- */

static uint8_t kept[HK_DMAP_PAGE_BYTES];

static void subsets(uint32_t step)
{
    memcpy(kept, under_way(), sizeof(kept));
    for (unsigned mask = 0; mask < 256; mask++) {
        crash_case("step, sectors", step, mask, 0);
        lay(under_way(), now.page, mask);
        judge_cut(mask);
        memcpy(under_way(), kept, sizeof(kept));
    }
}

/* A sector that is cut off in its middle is damage: nothing durable may be missing. */
static void prefixes(uint32_t step)
{
    uint64_t stride = crash_stride(29);

    memcpy(kept, under_way(), sizeof(kept));
    for (uint32_t n = 0; n <= HK_DMAP_PAGE_BYTES; n++) {
        if (n % stride != 0 && n % HK_DMAP_SECTOR_BYTES != 0)
            continue;
        crash_case("step, bytes", step, n, 0);
        memcpy(under_way(), now.page, n);
        judge();
        if (n % HK_DMAP_SECTOR_BYTES == 0)
            judge_cut((1u << n / HK_DMAP_SECTOR_BYTES) - 1);
        memcpy(under_way(), kept, sizeof(kept));
    }
}

/* What the next process holds for true, and what it writes anew before anything else. */
static void restart(void)
{
    read_back();
    CRASH_CHECK(!hk_dmap_is_lost(got.load.verdict), "lost after a power cut alone: %s",
                hk_dmap_verdict_text(got.load.verdict));
    w.sequence = got.load.sequence;
    memcpy(w.slot, got.load.slot, sizeof(w.slot));
    memcpy(w.packed, got.packed, sizeof(w.packed));
    w.map_sequence = hk_max_u64(got.load.map_seen, got.load.map_sequence);
    for (uint32_t p = 0; p < MAP_PAGES; p++) {
        if (got.page[p] == HK_DMAP_PAGE_WHOLE)
            continue;
        hk_dmap_map_build(&id,
                          &(struct hk_dmap_stamp){.sequence = ++w.map_sequence,
                                                  .relied = w.relied,
                                                  .other = w.sequence,
                                                  .ordinal = 1},
                          p, w.packed[p],
                          w.area + (size_t)(HK_DMAP_LOG_PAGES + p) * HK_DMAP_PAGE_BYTES);
    }
}

/* A second write with the number of the first, and other contents: never are both taken for one. */
static void twice(uint32_t step)
{
    static struct life before;
    static struct write first;
    uint32_t rounds = crash_full() ? 100 : 24;

    before = w;
    first = now;
    for (uint32_t n = 0; n < rounds; n++) {
        unsigned one = 1 + n * 7919u % 254, two;

        w = before;
        now = first;
        w.random += n;
        lay(under_way(), now.page, one);
        restart();
        plan();
        two = n % 3 ? below(256) : ~one & 0xff;
        crash_case("step, sectors, then", step, one, two);
        lay(under_way(), now.page, two);
        judge();
        restart();
    }
    w = before;
    now = first;
}

/* Whole lives with a power cut now and then, each recovery going on from what the last one read. */
static void lives(void)
{
    for (uint64_t seed = 1; seed <= (crash_full() ? 60 : 6); seed++) {
        create(seed);
        for (uint32_t step = 0; step < LIFE; step++) {
            plan();
            if (below(4) != 0) {
                complete();
                continue;
            }
            crash_case("seed, step", seed, step, 0);
            lay(under_way(), now.page, below(256));
            judge();
            restart();
            if (below(9) == 0)
                make_void();
        }
    }
}

/*
 * Every how manieth bit of a page is tried. All of the pages where one decides: the newest, the
 * oldest of the window, the one behind the newest, one of the map. Some of the others that matter,
 * and of one that does not.
 */
static uint64_t flip_stride(uint32_t page)
{
    uint32_t behind = (uint32_t)((w.sequence + 1 - page) % HK_DMAP_LOG_PAGES);

    if (page == HK_DMAP_LOG_PAGES ||
        (page < HK_DMAP_LOG_PAGES && (behind <= 1 || behind == HK_DMAP_WINDOW)))
        return crash_stride(499);
    return page >= HK_DMAP_LOG_PAGES || behind < HK_DMAP_WINDOW || behind == 100
               ? crash_full() ? 5 : 997
               : 0;
}

static void flips(uint32_t step)
{
    uint64_t n = step;
    uint64_t lost = 0, sound = 0;

    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t stride = flip_stride(page) * crash_sample(5);

        for (uint32_t bit = 0; stride > 0 && bit < HK_DMAP_PAGE_BYTES * 8; bit++) {
            uint8_t *at = w.area + (size_t)page * HK_DMAP_PAGE_BYTES + bit / 8;

            if (n++ % stride != 0)
                continue;
            crash_case("step, page, bit", step, page, bit);
            *at ^= (uint8_t)(1u << bit % 8);
            judge();
            lost += hk_dmap_is_lost(got.load.verdict);
            sound += got.load.verdict == HK_DMAP_SOUND;
            CRASH_CHECK(page < HK_DMAP_LOG_PAGES || got.load.verdict == HK_DMAP_PARTLY,
                        "one bit of the map, and the verdict is: %s",
                        hk_dmap_verdict_text(got.load.verdict));
            CRASH_CHECK(page < HK_DMAP_LOG_PAGES || got.load.map_rotten == 1,
                        "one bit of the map, and %u sectors are rotten", got.load.map_rotten);
            *at ^= (uint8_t)(1u << bit % 8);
        }
    }
    CRASH_CHECK(lost > 0 && sound > 0, "no flip was fatal, or none was harmless");
}

static void swap(uint8_t *a, uint8_t *b, size_t bytes)
{
    static uint8_t hold[HK_DMAP_PAGE_BYTES];

    memcpy(hold, a, bytes);
    memcpy(a, b, bytes);
    memcpy(b, hold, bytes);
}

/* Whole pages that are gone: also the newest, of which then nothing tells any more. */
static void pages(uint32_t step)
{
    for (uint32_t page = 0; page < PAGES; page++) {
        uint8_t *at = w.area + (size_t)page * HK_DMAP_PAGE_BYTES;

        memcpy(kept, at, sizeof(kept));
        for (unsigned value = 0; value < 256; value += 165) {
            crash_case("step, page, filled with", step, page, value);
            memset(at, (int)value, HK_DMAP_PAGE_BYTES);
            judge();
            memcpy(at, kept, sizeof(kept));
        }
    }
}

/* Sectors blanked, and sectors that changed places. */
static void sectors(uint32_t step)
{
    enum { COUNT = AREA_BYTES / HK_DMAP_SECTOR_BYTES };
    static uint8_t hold[HK_DMAP_SECTOR_BYTES];
    uint64_t stride = crash_stride(7);

    for (uint32_t s = step % stride; s < COUNT; s += (uint32_t)stride) {
        uint8_t *at = w.area + (size_t)s * HK_DMAP_SECTOR_BYTES;
        uint8_t *other = w.area + (size_t)((s * 7919u + step) % COUNT) * HK_DMAP_SECTOR_BYTES;

        crash_case("step, blank", step, s, 0);
        memcpy(hold, at, sizeof(hold));
        memset(at, 0, sizeof(hold));
        judge();
        memcpy(at, hold, sizeof(hold));
        if (at == other)
            continue;
        crash_case("step, swap", step, s, (uint64_t)(other - w.area) / HK_DMAP_SECTOR_BYTES);
        swap(at, other, HK_DMAP_SECTOR_BYTES);
        judge();
        CRASH_CHECK(hk_dmap_is_lost(got.load.verdict), "sectors changed places, and it is sound");
        swap(at, other, HK_DMAP_SECTOR_BYTES);
    }
}

/* The write was said to be durable, and went elsewhere. */
static void astray(uint32_t step)
{
    static struct life before;
    static struct write hold;
    uint32_t stride = (uint32_t)crash_stride(5);

    before = w;
    hold = now;
    for (uint32_t page = step % stride; page < PAGES; page += stride) {
        if (page == now.at)
            continue;
        crash_case("step, to page", step, page, 0);
        memcpy(kept, under_way(), sizeof(kept));
        complete();
        memcpy(under_way(), kept, sizeof(kept));
        memcpy(w.area + (size_t)page * HK_DMAP_PAGE_BYTES, now.page, HK_DMAP_PAGE_BYTES);
        judge();
        CRASH_CHECK(got.load.verdict == HK_DMAP_LOST_ASTRAY, "a write went astray: %s",
                    hk_dmap_verdict_text(got.load.verdict));
        w = before;
        now = hold;
    }
}

/* Sectors of a write that was said to be durable never came; the next transaction did. */
static void dropped(uint32_t step)
{
    static struct life before;
    static struct write hold;
    bool is_map = now.is_map;

    before = w;
    hold = now;
    for (unsigned mask = 0; mask < 255; mask++) {
        crash_case("step, sectors", step, mask, 0);
        memcpy(kept, under_way(), sizeof(kept));
        complete();
        memcpy(under_way(), kept, sizeof(kept));
        lay(under_way(), now.page, mask);
        plan_log(3);
        complete();
        judge();
        CRASH_CHECK(is_map ? mask == 0 || got.load.verdict == HK_DMAP_PARTLY
                           : hk_dmap_is_lost(got.load.verdict),
                    "sectors %02x of a complete write are there: %s", mask,
                    hk_dmap_verdict_text(got.load.verdict));
        w = before;
        now = hold;
    }
}

/* Log, map or superblock from an earlier day, the others from today. */
static void set_back(void)
{
    static struct life old, today;

    for (uint64_t seed = 1; seed <= (crash_full() ? 200 : 40); seed++) {
        create(seed);
        for (uint32_t step = below(300); step > 0; step--) {
            plan();
            complete();
        }
        old = w;
        plan_log(10);
        complete();
        plan_map();
        complete();
        plan_log(10);
        complete();
        if (seed % 2)
            make_void();
        today = w;
        crash_case("seed, log set back", seed, 0, 0);
        memcpy(w.area, old.area, HK_DMAP_LOG_BYTES);
        judge();
        CRASH_CHECK(got.load.verdict == HK_DMAP_LOST_OLDER, "the log is from yesterday: %s",
                    hk_dmap_verdict_text(got.load.verdict));
        w = today;
        crash_case("seed, map set back", seed, 0, 0);
        memcpy(w.area + HK_DMAP_LOG_BYTES, old.area + HK_DMAP_LOG_BYTES,
               AREA_BYTES - HK_DMAP_LOG_BYTES);
        judge();
        CRASH_CHECK(got.load.verdict == HK_DMAP_LOST_OLDER, "the map is from yesterday: %s",
                    hk_dmap_verdict_text(got.load.verdict));
        w = today;
        crash_case("seed, superblock set back", seed, 0, 0);
        w.void_to = old.void_to;
        judge();
        w = today;
        crash_case("seed, another replica's", seed, 0, 0);
        hk_dmap_load_log(w.area, &(struct hk_dmap_id){.own = id.own + 1, .base = id.base},
                         w.void_to, &got.load);
        CRASH_CHECK(hk_dmap_is_lost(got.load.verdict), "another replica's log passes");
        w.void_to = old.void_to;
        hk_dmap_load_log(w.area, &(struct hk_dmap_id){.own = id.own, .base = id.base + 1},
                         w.void_to, &got.load);
        CRASH_CHECK(got.load.verdict == HK_DMAP_LOST_BASE, "relative to another copy: %s",
                    hk_dmap_verdict_text(got.load.verdict));
    }
}

static void kind(const char *name, void (*look)(uint32_t), void (*after)(uint32_t), uint32_t stride)
{
    if (!crash_wanted(name))
        return;
    crash_begin(name);
    live(1, stride, look, after);
    crash_end();
}

static void whole(const char *name, void (*run)(void))
{
    if (!crash_wanted(name))
        return;
    crash_begin(name);
    run();
    crash_end();
}

int main(int argc, char **argv)
{
    crash_arguments(argc, argv);
    kind("dmap_subsets", subsets, NULL, crash_full() ? 9 : 59);
    kind("dmap_prefix", prefixes, NULL, crash_full() ? 61 : 83);
    kind("dmap_twice", twice, NULL, crash_full() ? 7 : 13);
    kind("dmap_flips", NULL, flips, crash_full() ? 419 : 209);
    kind("dmap_pages", NULL, pages, crash_full() ? 53 : 209);
    kind("dmap_sectors", NULL, sectors, crash_full() ? 53 : 139);
    kind("dmap_astray", astray, NULL, crash_full() ? 23 : 83);
    kind("dmap_dropped", dropped, NULL, crash_full() ? 13 : 59);
    whole("dmap_lives", lives);
    whole("dmap_set_back", set_back);
    return crash_finish();
}
