/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the independent journal reader notice damage?
 *
 * Goal: hk-replay's silence must mean that the journal is whole. Method: the golden segment (made
 * by a program that shares no code with reader or product) must be read to its end with every
 * record type; then every single byte that has a meaning is damaged, one after the other, and not
 * one of these journals may pass as clean and complete. Damage below the durable stamp must be
 * called corrupt, damage above it must not; cut files end as the specification says (SPEC.md §7.4).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tools/journal_walk.h"

enum { SEGMENT_BYTES = 32768, STREAM_END = 10752, SECOND_BATCH_LSN = 8960 };
static const char golden_name[] =
    "0000000001-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000000001000.seg";

static uint8_t golden[SEGMENT_BYTES];
static char directory[] = "/tmp/hk-replay-XXXXXX";
static char path[256];

static void store(const uint8_t *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static bool count_visit(void *user, const struct hk_walk_record *r)
{
    ++*(unsigned *)user;
    return false;
}

/* 0 if the directory could not be opened as a journal. */
static bool walk(struct hk_walk *w, unsigned *ret_records)
{
    FILE *null = fopen("/dev/null", "w");
    bool opened;

    assert_non_null(null);
    *w = (struct hk_walk){.report = null};
    *ret_records = 0;
    opened = hk_walk_open(w, directory) == 0;
    if (opened)
        hk_walk_run(w, count_visit, ret_records);
    hk_walk_close(w);
    fclose(null);
    return opened;
}

static void test_golden(void **state)
{
    struct hk_walk w;
    unsigned records;

    store(golden, sizeof(golden));
    assert_true(walk(&w, &records));
    assert_int_equal(w.verdict, HK_WALK_CLEAN);
    assert_int_equal(w.end, STREAM_END);
    assert_int_equal(records, 15);
    assert_int_equal(w.batches, 2);
    assert_int_equal(w.stamped, SECOND_BATCH_LSN);
    assert_int_equal(w.padding_faults + w.time_faults + w.bad_segments, 0);
}

/* Bytes of the file that carry meaning: header, batch headers, and the stream inside the pages. */
static bool meaningful(size_t at)
{
    size_t first_pages = 8192, second = first_pages + 8192, second_pages = second + 4096;

    if (at < first_pages)
        return true;
    if (at < second) /* stream from LSN 4096 to the cut */
        return at - first_pages < SECOND_BATCH_LSN - 4096;
    if (at < second_pages)
        return true;
    return at >= second_pages + SECOND_BATCH_LSN % 4096 &&
           at < second_pages + SECOND_BATCH_LSN % 4096 + (STREAM_END - SECOND_BATCH_LSN);
}

static void test_every_byte(void **state)
{
    unsigned damaged = 0, corrupt = 0, torn = 0, refused = 0, records;
    struct hk_walk w;

    for (size_t at = 0; at < SEGMENT_BYTES; at++) {
        uint8_t copy[SEGMENT_BYTES];

        if (!meaningful(at))
            continue;
        memcpy(copy, golden, sizeof(copy));
        copy[at] ^= (uint8_t)(1u << (at % 8));
        store(copy, sizeof(copy));
        damaged++;
        if (!walk(&w, &records)) {
            assert_int_equal(records, 0);
            refused++;
            continue;
        }
        assert_true(records < 15);
        /* What no longer claims to be the next batch, above the stamp, is as good as nothing. */
        if (at >= 16384 + 16 && at < 16384 + 40) {
            assert_int_equal(w.verdict, HK_WALK_CLEAN);
            assert_int_equal(w.end, SECOND_BATCH_LSN);
            continue;
        }
        assert_int_not_equal(w.verdict, HK_WALK_CLEAN);
        if (w.verdict == HK_WALK_CORRUPT)
            corrupt++;
        else
            torn++;
        /* The second batch's stamp says that the first had been reported durable. */
        if (at >= 4096 && at < 8192 + (SECOND_BATCH_LSN - 4096))
            assert_int_equal(w.verdict, HK_WALK_CORRUPT);
        if (at >= 16384)
            assert_int_equal(w.verdict, HK_WALK_TORN);
    }
    print_message("replay: %u damaged journals: %u segments refused, %u corrupt, %u torn; 0 passed "
                  "as whole\n",
                  damaged, refused, corrupt, torn);
    assert_int_equal(refused, 4096);
    assert_true(corrupt > 4096 && torn > 4096);
}

/* A journal that ends after the first batch, cleanly; and one whose superblock knows of more. */
static void test_ends(void **state)
{
    uint8_t copy[SEGMENT_BYTES];
    struct hk_walk w = {.report = stderr, .applied = STREAM_END};
    unsigned records = 0;

    memcpy(copy, golden, sizeof(copy));
    memset(copy + 16384, 0, sizeof(copy) - 16384);
    store(copy, sizeof(copy));
    assert_int_equal(hk_walk_open(&w, directory), 0);
    hk_walk_run(&w, count_visit, &records);
    assert_int_equal(w.verdict, HK_WALK_CORRUPT); /* applied lies beyond what is there */
    hk_walk_close(&w);
    assert_true(walk(&w, &records));
    assert_int_equal(w.verdict, HK_WALK_CLEAN);
    assert_int_equal(w.end, SECOND_BATCH_LSN);
    assert_int_equal(records, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_ends),
    };
    const char *source = getenv("HK_GOLDEN");
    char from[4096];
    FILE *f;
    int r;

    snprintf(from, sizeof(from), "%s/segment.bin", source ? source : "tests/golden");
    f = fopen(from, "rb");
    if (f == NULL || fread(golden, 1, sizeof(golden), f) != sizeof(golden)) {
        fprintf(stderr, "%s: cannot be read (HK_GOLDEN)\n", from);
        return 1;
    }
    fclose(f);
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(path, sizeof(path), "%s/%s", directory, golden_name);
    r = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    rmdir(directory);
    return r;
}
