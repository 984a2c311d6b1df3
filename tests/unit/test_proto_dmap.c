/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: each rule of SPEC.md §6.8 to §6.11 has its verdict, and no other; superblocks of version 2
 * hold only what version 2 allows. Method: a sound area and a sound superblock, one thing changed,
 * hashes made good again. (What damage does to durable marks: tests/crash/dmap.c.)
 */
#include "unit.h"

#include "proto_samples.h"

#include <errno.h>

enum { LAST = 300 };

static uint8_t log_area[HK_DMAP_LOG_BYTES] __attribute__((aligned(8)));
static uint8_t map_page[HK_DMAP_PAGE_BYTES] __attribute__((aligned(8)));
static uint8_t packed[HK_DMAP_PAGE_STATES], back[HK_DMAP_PAGE_STATES];
static uint32_t slots[HK_DMAP_SLOTS];
static struct hk_dmap_load load;
static const struct hk_dmap_id id = {.own = 5, .base = 6};

static uint8_t *log_page(uint64_t sequence)
{
    return log_area + sequence % HK_DMAP_LOG_PAGES * HK_DMAP_PAGE_BYTES;
}

static void put(uint64_t sequence, uint32_t slot, uint32_t entry)
{
    struct hk_dmap_update u = {.slot = slot, .entry = entry};

    slots[slot] = entry;
    hk_dmap_log_build(
        &id, &(struct hk_dmap_stamp){.sequence = sequence, .relied = 64, .other = 7, .ordinal = 1},
        slots, &u, 1, log_page(sequence));
}

static void make(void)
{
    memset(slots, 0, sizeof(slots));
    memset(packed, 0, sizeof(packed));
    for (uint64_t s = 1; s <= LAST; s++)
        put(s, (uint32_t)s, hk_dmap_entry_make((uint32_t)s, HK_DMAP_MARK_HOT));
    hk_dmap_state_set(packed, 9, HK_DMAP_STALE);
    hk_dmap_map_build(
        &id, &(struct hk_dmap_stamp){.sequence = 7, .relied = 128, .other = LAST, .ordinal = 1}, 0,
        packed, map_page);
}

static enum hk_dmap_verdict verdict(uint64_t void_to)
{
    hk_dmap_load_log(log_area, &id, void_to, &load);
    hk_dmap_load_map(map_page, &id, 0, &load, back);
    return hk_dmap_load_end(&load);
}

static void reseal(uint8_t *page)
{
    struct hk_dmap_page *p = (void *)page;
    uint64_t hash = id.own;

    for (unsigned i = 0; i < 8; i++)
        hash = hk_xxh64((uint8_t *)&p->sector[i] + 16, 496, hash);
    for (unsigned i = 0; i < 8; i++) {
        p->sector[i].page_hash = hash;
        p->sector[i].hash = hk_xxh64((uint8_t *)&p->sector[i] + 8, 504, id.own);
    }
}

static void test_sound(void **state)
{
    make();
    assert_int_equal(verdict(0), HK_DMAP_SOUND);
    assert_int_equal(load.sequence, LAST);
    assert_int_equal(load.marks, LAST);
    assert_memory_equal(load.slot, slots, sizeof(slots));
    assert_memory_equal(back, packed, sizeof(packed));
    assert_int_equal(load.relied, 128);
    assert_int_equal(load.map_sequence, 7);
    /* Void: what those transactions did is gone, slices of later ones still show it. */
    assert_int_equal(verdict(LAST), HK_DMAP_SOUND);
    assert_int_equal(load.marks, 0);
    assert_int_equal(verdict(LAST + 1), HK_DMAP_LOST_OLDER);
}

static void test_torn(void **state)
{
    static uint8_t old[HK_DMAP_PAGE_BYTES], fresh[HK_DMAP_PAGE_BYTES];

    make();
    memcpy(old, log_page(LAST + 1), sizeof(old));
    put(LAST + 1, 4000, hk_dmap_entry_make(77, HK_DMAP_MARK_STALE));
    slots[4000] = 0;
    memcpy(fresh, log_page(LAST + 1), sizeof(fresh));
    memcpy(log_page(LAST + 1), old, 512);
    assert_int_equal(verdict(0), HK_DMAP_TORN);
    assert_int_equal(load.sequence, LAST);
    assert_int_equal(load.seen, LAST + 1);
    assert_memory_equal(load.slot, slots, sizeof(slots));
    /* A sector from a lap ahead: the laps between are not there, so nothing fits any more. */
    memcpy(log_page(LAST + 1), fresh, sizeof(fresh));
    ((struct hk_dmap_sector *)(void *)log_page(LAST + 1))->sequence = LAST + 1 + HK_DMAP_LOG_PAGES;
    ((struct hk_dmap_sector *)(void *)log_page(LAST + 1))->hash =
        hk_xxh64(log_page(LAST + 1) + 8, 504, id.own);
    assert_int_equal(verdict(0), HK_DMAP_LOST);
}

static void test_lost(void **state)
{
    make();
    memset(log_area, 0, sizeof(log_area));
    assert_int_equal(verdict(0), HK_DMAP_LOST_BLANK);
    memset(log_area, 1, sizeof(log_area));
    assert_int_equal(verdict(0), HK_DMAP_LOST);
    make();
    memset(log_page(LAST - 3), 0, 512);
    assert_int_equal(verdict(0), HK_DMAP_LOST);
    make();
    memset(log_page(LAST - 8), 0, 512); /* outside the window: nobody needs it */
    assert_int_equal(verdict(0), HK_DMAP_SOUND);
    make();
    memset(log_page(LAST + 1), 0, HK_DMAP_PAGE_BYTES);
    assert_int_equal(verdict(0), HK_DMAP_LOST);
    make();
    memcpy(log_page(LAST - 20), log_page(LAST), HK_DMAP_PAGE_BYTES);
    assert_int_equal(verdict(0), HK_DMAP_LOST_ASTRAY);
    make();
    memcpy(map_page, log_page(LAST), 512);
    assert_int_equal(verdict(0), HK_DMAP_LOST_ASTRAY);
    make();
    ((struct hk_dmap_sector *)(void *)log_page(LAST))->base = 99;
    for (int i = 0; i < 8; i++)
        ((struct hk_dmap_page *)(void *)log_page(LAST))->sector[i].base = 99;
    reseal(log_page(LAST));
    assert_int_equal(verdict(0), HK_DMAP_LOST_BASE);
    make();
    for (int i = 0; i < 8; i++)
        ((struct hk_dmap_page *)(void *)map_page)->sector[i].other = LAST + 1;
    reseal(map_page);
    assert_int_equal(verdict(0), HK_DMAP_LOST_OLDER);
    make();
    for (int i = 0; i < 8; i++)
        ((struct hk_dmap_page *)(void *)map_page)->sector[i].sequence = 6;
    reseal(map_page);
    assert_int_equal(verdict(0), HK_DMAP_LOST_OLDER);
    for (int v = 0; v < HK_DMAP_VERDICTS; v++)
        assert_true(strlen(hk_dmap_verdict_text((enum hk_dmap_verdict)v)) > 4);
}

/* A log that is younger than one lap was never filled: it can't be one. */
static void test_short_log(void **state)
{
    memset(log_area, 0, sizeof(log_area));
    memset(slots, 0, sizeof(slots));
    for (uint64_t s = 1; s <= 20; s++)
        put(s, 1, hk_dmap_entry_make(1, HK_DMAP_MARK_HOT));
    assert_int_equal(verdict(0), HK_DMAP_LOST);
}

struct sector_row {
    const char *what;
    size_t at, bytes;
    uint64_t value;
    enum hk_dmap_fault fault;
};
#define AT(field) \
    offsetof(struct hk_dmap_sector, field), sizeof(((struct hk_dmap_sector *)0)->field)

static const struct sector_row log_rows[] = {
    {"kind", AT(kind), HK_DMAP_MAP, HK_DMAP_SECTOR_BAD_PLACE},
    {"place", AT(place), 1, HK_DMAP_SECTOR_BAD_PLACE},
    {"index", AT(index), 4, HK_DMAP_SECTOR_BAD_PLACE},
    {"sequence of another page", AT(sequence), LAST + 1, HK_DMAP_SECTOR_BAD_PLACE},
    {"sequence beyond the limit", AT(sequence), (1ull << 63) + LAST % 256,
     HK_DMAP_SECTOR_BAD_FIELD},
    {"relied unaligned", AT(relied), 65, HK_DMAP_SECTOR_BAD_FIELD},
    {"other beyond the limit", AT(other), 1ull << 63, HK_DMAP_SECTOR_BAD_FIELD},
    {"reserved", AT(reserved), 1, HK_DMAP_SECTOR_BAD_FIELD},
    {"count", AT(count), 25, HK_DMAP_SECTOR_BAD_FIELD},
    {"a region in an empty slot", AT(log.slot[0]), 5, HK_DMAP_SECTOR_BAD_FIELD},
    {"mark 3", AT(log.slot[63]), 3u << 30, HK_DMAP_SECTOR_BAD_FIELD},
    {"a region beyond the limit", AT(log.slot[1]), (1u << 30) | 0x3fffffff,
     HK_DMAP_SECTOR_BAD_FIELD},
    {"an update of no slot", AT(log.update[0].slot), 4096, HK_DMAP_SECTOR_BAD_FIELD},
    {"an update to mark 3", AT(log.update[0].entry), 3u << 30, HK_DMAP_SECTOR_BAD_FIELD},
    {"an update behind the count", AT(log.update[23].entry), 1u << 30, HK_DMAP_SECTOR_BAD_FIELD},
    {"another mark", AT(log.slot[1]), 1u << 30 | 8, HK_DMAP_SECTOR_WHOLE},
};
static const struct sector_row map_rows[] = {
    {"sequence 0", AT(sequence), 0, HK_DMAP_SECTOR_BAD_FIELD},
    {"count", AT(count), 1, HK_DMAP_SECTOR_BAD_FIELD},
    {"state 3 first", AT(state[0]), 3, HK_DMAP_SECTOR_BAD_FIELD},
    {"state 3 last", AT(state[447]), 0xc0, HK_DMAP_SECTOR_BAD_FIELD},
    {"kind", AT(kind), HK_DMAP_LOG, HK_DMAP_SECTOR_BAD_PLACE},
    {"place", AT(place), 1, HK_DMAP_SECTOR_BAD_PLACE},
    {"stale and spooled", AT(state[0]), 9, HK_DMAP_SECTOR_WHOLE},
};

static void check_row(const struct sector_row *row, const uint8_t *page, enum hk_dmap_kind kind)
{
    static struct hk_dmap_sector s;
    uint32_t place = kind == HK_DMAP_LOG ? LAST % HK_DMAP_LOG_PAGES : 0;
    enum hk_dmap_fault f;

    memcpy(&s, page, sizeof(s));
    assert_int_equal(hk_dmap_sector_check(&s, &id, kind, place, 0), HK_DMAP_SECTOR_WHOLE);
    memcpy((uint8_t *)&s + row->at, &row->value, row->bytes);
    assert_int_equal(hk_dmap_sector_check(&s, &id, kind, place, 0), HK_DMAP_SECTOR_BAD_HASH);
    s.hash = hk_xxh64((uint8_t *)&s + 8, 504, id.own);
    f = hk_dmap_sector_check(&s, &id, kind, place, 0);
    if (f != row->fault)
        fail_msg("%s: %s", row->what, hk_dmap_fault_text(f));
}

static void test_sector_faults(void **state)
{
    static const uint8_t zero[HK_DMAP_SECTOR_BYTES] __attribute__((aligned(8)));

    make();
    for (size_t i = 0; i < HK_ARRAY_SIZE(log_rows); i++)
        check_row(&log_rows[i], log_page(LAST), HK_DMAP_LOG);
    for (size_t i = 0; i < HK_ARRAY_SIZE(map_rows); i++)
        check_row(&map_rows[i], map_page, HK_DMAP_MAP);
    assert_int_equal(hk_dmap_sector_check(zero, &id, HK_DMAP_MAP, 0, 0), HK_DMAP_SECTOR_BLANK);
    for (int f = 0; f < HK_DMAP_SECTOR_FAULTS; f++)
        assert_true(strlen(hk_dmap_fault_text((enum hk_dmap_fault)f)) > 3);
}

static void test_geometry(void **state)
{
    assert_int_equal(hk_dmap_regions(1, 22), 1);
    assert_int_equal(hk_dmap_regions(1 << 22, 22), 1);
    assert_int_equal(hk_dmap_regions((1 << 22) + 1, 22), 2);
    assert_int_equal(hk_dmap_map_pages(14336), 1);
    assert_int_equal(hk_dmap_map_pages(14337), 2);
    assert_int_equal(hk_dmap_log_offset(256), 32768);
    assert_int_equal(hk_dmap_log_offset(1003), 32768 + 235 * 4096);
    assert_int_equal(hk_dmap_map_offset(1), 32768 + (1 << 20) + 4096);
    assert_int_equal(hk_dmap_file_bytes(1), 32768 + (1 << 20) + 4096);
    /* 1 PiB in regions of 4 MiB. */
    assert_true(hk_dmap_file_bytes(1ull << 28) < 80ull << 20);
}

/* ---- superblocks of version 2 ---- */

static uint8_t slot_bytes[HK_SUPER_BYTES] __attribute__((aligned(8)));

static enum hk_super_fault decode(const struct hk_super *sound, size_t at, size_t bytes, uint64_t v)
{
    static struct hk_super s;
    uint64_t hash;

    hk_super_encode(sound, slot_bytes);
    assert_int_equal(hk_super_decode(slot_bytes, &s), HK_SUPER_OK);
    memcpy(slot_bytes + at, &v, bytes);
    hash = hk_xxh64(slot_bytes, HK_SUPER_BYTES - 8, 0);
    memcpy(slot_bytes + HK_SUPER_BYTES - 8, &hash, 8);
    return hk_super_decode(slot_bytes, &s);
}

#define SUP(field) offsetof(struct hk_super, field), sizeof(((struct hk_super *)0)->field)

static void test_super_fields(void **state)
{
    const struct row {
        bool primary, ok;
        size_t at, bytes;
        uint64_t v;
    } rows[] = {
        {true, false, SUP(region_shift), 11},
        {true, false, SUP(region_shift), 31},
        {true, false, SUP(region_shift), 0}, /* but regions are numbered */
        {true, true, SUP(region_shift), 23},
        {true, false, SUP(role), HK_ROLE_STANDBY},
        {true, false, SUP(volume[1].first_region), 262143}, /* overlaps the first volume's */
        {true, false, SUP(volume[0].first_region), 1},
        {true, true, SUP(volume[1].first_region), 262145},
        {true, false, SUP(volume[1].first_region), HK_DMAP_REGIONS_MAX},
        {true, false, SUP(volume[1].first_region), UINT64_MAX},
        {true, true, SUP(dmap_sequence), 7},
        {false, false, SUP(dmap_sequence), 7},
        {false, false, SUP(region_shift), 22},
        {false, false, SUP(pin_lsn), 0},
        {false, false, SUP(pin_lsn), 4097},
        {false, false, SUP(pin_ordinal), 0},
        {false, false, SUP(flags), HK_SF_RESYNC},
        {false, true, SUP(flags), HK_SF_PINNED},
        {false, false, SUP(flags), HK_SF_PINNED | HK_SF_ROLLING_BACK},
        {false, true, SUP(flags), HK_SF_PINNED | HK_SF_ROLLING_BACK | HK_SF_PROMOTING},
        {false, false, SUP(history.dropped), 0},
        {false, false, SUP(history.dropped), 2},
        {false, false, SUP(version), 1},
    };
    static struct hk_super primary, standby;

    sample_super_primary_2(&primary);
    sample_super_standby_2(&standby);
    for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
        const struct row *r = &rows[i];
        enum hk_super_fault f = decode(r->primary ? &primary : &standby, r->at, r->bytes, r->v);

        if (f != (r->ok ? HK_SUPER_OK : HK_SUPER_BAD_FIELD))
            fail_msg("row %zu: %s", i, hk_super_fault_text(f));
    }
}

static void test_super_create(void **state)
{
    static struct hk_super_create p;
    static struct hk_super s, untouched;

    p.group_id = sample_uuid(ID_GROUP);
    p.site_id = sample_uuid(ID_SITE);
    p.replica_id = sample_uuid(ID_PRIMARY);
    p.epoch_id = sample_uuid(ID_EPOCH1);
    sample_name(p.group_name, "core");
    p.volume_count = 3;
    for (int i = 0; i < 3; i++) {
        p.volume[i].name[0] = (char)('a' + i);
        p.volume[i].bytes = (4 << 20) * (i + 1ull) + 512;
    }
    p.region_shift = 22;
    assert_int_equal(hk_super_create(&p, &s), 0);
    assert_int_equal(s.volume[1].first_region, 2);
    assert_int_equal(s.volume[2].first_region, 5);
    assert_int_equal(s.dmap_sequence, HK_DMAP_LOG_PAGES);
    assert_true(s.flags & HK_SF_FULL_COMPARE);
    hk_super_encode(&s, slot_bytes);
    memset(&s, 0x5a, sizeof(s));
    untouched = s;
    p.region_shift = 11;
    assert_int_equal(hk_super_create(&p, &s), -EINVAL);
    p.region_shift = 31;
    assert_int_equal(hk_super_create(&p, &s), -EINVAL);
    p.region_shift = 12;
    p.volume[2].bytes = HK_DMAP_REGIONS_MAX << 12;
    assert_int_equal(hk_super_create(&p, &s), -E2BIG);
    assert_memory_equal(&s, &untouched, sizeof(s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),         cmocka_unit_test(test_torn),
        cmocka_unit_test(test_lost),          cmocka_unit_test(test_short_log),
        cmocka_unit_test(test_sector_faults), cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_super_fields),  cmocka_unit_test(test_super_create),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
