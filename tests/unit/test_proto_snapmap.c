/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the index of a snapshot is the bytes of SPEC.md §8.7, and nothing else is taken for one.
 * Method: golden vectors made from SPEC.md by a program that shares no code; tables of damage, a
 * field a row, with and without the hash made anew; volumes whose last sector is not full.
 */
#include "unit.h"

#include "proto/hash.h"
#include "proto/snapmap.h"
#include "proto_faults.h"
#include "proto_samples.h"

#include <stdio.h>
#include <stdlib.h>

enum { POINTS_MIN = 30 };

/* Chunks of the volume in the golden page: it ends in the middle of the page's last sector. */
#define VOLUME_CHUNKS (16ull * HK_SNAP_SECTOR_CHUNKS)
#define VOLUME_BYTES  (VOLUME_CHUNKS * HK_SNAP_CHUNK_BYTES)

static uint32_t faults_seen;

static void read_golden(const char *name, void *bytes, size_t count)
{
    char path[4096];
    FILE *f;

    assert_non_null(getenv("HK_TESTS_DIR"));
    snprintf(path, sizeof(path), "%s/golden/%s", getenv("HK_TESTS_DIR"), name);
    f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, count, f), count);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
}

static struct hk_snap_header sample_header(void)
{
    const uint64_t sizes[2] = {1ull << 40, 256ull << 20};

    return (struct hk_snap_header){.kind = HK_SNAP_PIN,
                                   .id = 6,
                                   .epoch_ordinal = 2,
                                   .lsn = HK_CEILING_STEP_BYTES + 704,
                                   .time_ns = SAMPLE_TIME_NS + 5,
                                   .group_id = sample_uuid(ID_GROUP),
                                   .replica_id = sample_uuid(ID_STANDBY),
                                   .volume_count = 2,
                                   .dying = 1,
                                   .volumes_hash = hk_xxh64(sizes, sizeof(sizes), 0)};
}

static void test_header_golden(void **state)
{
    struct hk_snap_header h = sample_header(), golden;

    hk_snap_header_seal(&h);
    read_golden("snap_header.bin", &golden, sizeof(golden));
    assert_memory_equal(&h, &golden, sizeof(h));
    assert_int_equal(hk_snap_header_check(&golden), HK_SNAP_OK);
}

#define HEAD(field)    FIELD(struct hk_snap_header, field)
#define BYTE(field, i) offsetof(struct hk_snap_header, field) + (i), 1

static const struct fault_row header_rows[] = {
    {"magic", HEAD(magic), HK_SEGMENT_MAGIC, true, HK_SNAP_BAD_MAGIC},
    {"version 0", HEAD(version), 0, true, HK_SNAP_BAD_VERSION},
    {"version 2", HEAD(version), 2, true, HK_SNAP_BAD_VERSION},
    {"hash", HEAD(hash), 1, false, HK_SNAP_BAD_HASH},
    {"position without hash", HEAD(lsn), 64, false, HK_SNAP_BAD_HASH},
    {"last reserved byte without hash", BYTE(reserved, 351), 1, false, HK_SNAP_BAD_HASH},
    {"kind 0", HEAD(kind), 0, true, HK_SNAP_BAD_FIELD},
    {"kind 3", HEAD(kind), 3, true, HK_SNAP_BAD_FIELD},
    {"a mark without a name", HEAD(kind), HK_SNAP_MARK, true, HK_SNAP_BAD_FIELD},
    {"a pin with a name", BYTE(name, 0), 'n', true, HK_SNAP_BAD_FIELD},
    {"id 0", HEAD(id), 0, true, HK_SNAP_BAD_FIELD},
    {"ordinal 0", HEAD(epoch_ordinal), 0, true, HK_SNAP_BAD_FIELD},
    {"position 0", HEAD(lsn), 0, true, HK_SNAP_BAD_FIELD},
    {"position unaligned", HEAD(lsn), 4097, true, HK_SNAP_BAD_FIELD},
    {"no volume", HEAD(volume_count), 0, true, HK_SNAP_BAD_FIELD},
    {"too many volumes", HEAD(volume_count), HK_VOLUMES_MAX + 1, true, HK_SNAP_BAD_FIELD},
    {"dying 2", HEAD(dying), 2, true, HK_SNAP_BAD_FIELD},
    {"reserved first", BYTE(reserved, 0), 1, true, HK_SNAP_BAD_FIELD},
    {"reserved last", BYTE(reserved, 351), 1, true, HK_SNAP_BAD_FIELD},
};

static void reseal_header(void *bytes)
{
    struct hk_snap_header *h = bytes;

    h->hash = hk_xxh64(h, offsetof(struct hk_snap_header, hash), 0);
}

static void expect_header(const struct hk_snap_header *h, enum hk_snap_fault want)
{
    assert_int_equal(hk_snap_header_check(h), want);
    fault_points++;
}

static void test_header_faults(void **state)
{
    struct hk_snap_header sound = sample_header(), h;

    hk_snap_header_seal(&sound);
    for (size_t i = 0; i < HK_ARRAY_SIZE(header_rows); i++) {
        enum hk_snap_fault f;

        h = sound;
        fault_inject(&header_rows[i], &h, reseal_header);
        f = hk_snap_header_check(&h);
        faults_seen |= 1u << f;
        fault_expect(&header_rows[i], (int)f);
    }
    memset(&h, 0, sizeof(h));
    expect_header(&h, HK_SNAP_NONE);
    h = sound;
    memset(&h.group_id, 0, sizeof(h.group_id));
    reseal_header(&h);
    expect_header(&h, HK_SNAP_BAD_FIELD);
    h = sound;
    memset(&h.replica_id, 0, sizeof(h.replica_id));
    reseal_header(&h);
    expect_header(&h, HK_SNAP_BAD_FIELD);
    h = sound;
    h.kind = HK_SNAP_MARK;
    sample_name(h.name, "nightly-2026.11.23");
    h.volume_count = HK_VOLUMES_MAX;
    h.dying = 0;
    hk_snap_header_seal(&h);
    assert_int_equal(hk_snap_header_check(&h), HK_SNAP_OK);
}

static struct hk_snap_place sample_place(void)
{
    return (struct hk_snap_place){.id = 6,
                                  .volume = 1,
                                  .page = 1,
                                  .volume_bytes = VOLUME_BYTES,
                                  .replica_id = sample_uuid(ID_STANDBY)};
}

static struct hk_snap_sector *sector(void *page, uint64_t i)
{
    return (struct hk_snap_sector *)((uint8_t *)page + i * HK_SNAP_SECTOR_BYTES);
}

static void sample_page(void *page)
{
    struct hk_snap_place p = sample_place();
    const uint64_t first = HK_SNAP_PAGE_SECTORS * (uint64_t)HK_SNAP_SECTOR_CHUNKS;

    hk_snap_page_make(&p, page);
    for (uint64_t c = first; c < first + HK_SNAP_SECTOR_CHUNKS; c += 3) {
        hk_snap_bit_set(sector(page, 0), c);
        assert_true(hk_snap_bit(sector(page, 0), c));
        assert_int_equal(hk_snap_sector_of(c), HK_SNAP_PAGE_SECTORS);
    }
    hk_snap_bit_set(sector(page, 7), VOLUME_CHUNKS - 1);
    hk_snap_page_seal(&p, page);
}

static void test_page_golden(void **state)
{
    static uint8_t page[HK_PAGE_BYTES] __attribute__((aligned(8))), golden[HK_PAGE_BYTES];
    struct hk_snap_place p = sample_place();
    uint32_t chunks = 0;

    sample_page(page);
    read_golden("snap_page.bin", golden, sizeof(golden));
    assert_memory_equal(page, golden, sizeof(page));
    assert_int_equal(hk_snap_page_check(&p, page, &chunks), HK_SNAP_OK);
    assert_int_equal(chunks, HK_SNAP_SECTOR_CHUNKS / 3 + 1);
}

enum { SECTOR = 3 * HK_SNAP_SECTOR_BYTES }; /* the one that is damaged */

#define SECT(field) \
    SECTOR + offsetof(struct hk_snap_sector, field), sizeof(((struct hk_snap_sector *)0)->field)

static const struct fault_row page_rows[] = {
    {"hash", SECT(hash), 1, false, HK_SNAP_BAD_HASH},
    {"a bit without hash", SECTOR + 100, 1, 4, false, HK_SNAP_BAD_HASH},
    {"another snapshot's", SECT(id), 5, true, HK_SNAP_BAD_PLACE},
    {"another volume's", SECT(volume), 0, true, HK_SNAP_BAD_PLACE},
    {"another place's", SECT(index), 12, true, HK_SNAP_BAD_PLACE},
    {"reserved", SECT(reserved), 1, true, HK_SNAP_BAD_FIELD},
};

static void reseal_page(void *bytes)
{
    struct hk_uuid own = sample_uuid(ID_STANDBY);

    for (unsigned i = 0; i < HK_SNAP_PAGE_SECTORS; i++) {
        struct hk_snap_sector *s = sector(bytes, i);

        s->hash = hk_xxh64((uint8_t *)s + 8, sizeof(*s) - 8, hk_epoch_seed(&own));
    }
}

static void test_page_faults(void **state)
{
    static uint8_t page[HK_PAGE_BYTES] __attribute__((aligned(8)));
    struct hk_snap_place p = sample_place();

    for (size_t i = 0; i < HK_ARRAY_SIZE(page_rows); i++) {
        uint32_t chunks = 77;
        enum hk_snap_fault f;

        sample_page(page);
        fault_inject(&page_rows[i], page, reseal_page);
        f = hk_snap_page_check(&p, page, &chunks);
        faults_seen |= 1u << f;
        fault_expect(&page_rows[i], (int)f);
        assert_int_equal(chunks, 77);
    }
    sample_page(page);
    memset(sector(page, 5), 0, HK_SNAP_SECTOR_BYTES);
    fault_points++;
    assert_int_equal(hk_snap_page_check(&p, page, &(uint32_t){0}), HK_SNAP_NONE);
    faults_seen |= 1u << HK_SNAP_NONE | 1u << HK_SNAP_OK;
}

/* Of a volume that is shorter by 1 to 17 chunks the page's last bit stands for nothing. */
static void test_bits_beyond_the_end(void **state)
{
    static uint8_t page[HK_PAGE_BYTES] __attribute__((aligned(8)));
    struct hk_snap_place p = sample_place();
    uint32_t chunks;

    sample_page(page);
    for (unsigned less = 1; less < 18; less++) {
        p.volume_bytes = VOLUME_BYTES - less * (uint64_t)HK_SNAP_CHUNK_BYTES;
        fault_points++;
        assert_int_equal(hk_snap_page_check(&p, page, &chunks), HK_SNAP_BAD_FIELD);
    }
    /* A chunk that is there in part counts. */
    p.volume_bytes = VOLUME_BYTES - HK_SNAP_CHUNK_BYTES + 512;
    assert_int_equal(hk_snap_page_check(&p, page, &chunks), HK_SNAP_OK);
}

static void test_geometry(void **state)
{
    const uint64_t page_bytes =
        (uint64_t)HK_SNAP_PAGE_SECTORS * HK_SNAP_SECTOR_CHUNKS * HK_SNAP_CHUNK_BYTES;

    assert_true(hk_snap_chunks(1) == 1 && hk_snap_chunks(4096) == 1 && hk_snap_chunks(4097) == 2);
    assert_true(hk_snap_pages(0) == 1 && hk_snap_pages(512) == 1);
    assert_true(hk_snap_pages(page_bytes) == 1 && hk_snap_pages(page_bytes + 1) == 2);
    assert_true(hk_snap_pages(VOLUME_BYTES) == 2);
}

static void test_texts_and_counts(void **state)
{
    for (unsigned i = 0; i < HK_SNAP_FAULTS; i++) {
        assert_string_not_equal(hk_snap_fault_text((enum hk_snap_fault)i), "unknown fault");
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(hk_snap_fault_text((enum hk_snap_fault)i),
                                    hk_snap_fault_text((enum hk_snap_fault)k));
    }
    assert_string_equal(hk_snap_fault_text(HK_SNAP_FAULTS), "unknown fault");
    assert_int_equal(faults_seen, (1u << HK_SNAP_FAULTS) - 1);
    assert_true(fault_points >= POINTS_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_golden),       cmocka_unit_test(test_header_faults),
        cmocka_unit_test(test_page_golden),         cmocka_unit_test(test_page_faults),
        cmocka_unit_test(test_bits_beyond_the_end), cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_texts_and_counts),
    };

    return cmocka_run_group_tests_name("proto_snapmap", tests, NULL, NULL);
}
