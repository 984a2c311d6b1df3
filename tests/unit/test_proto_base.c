/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the ground under all formats: the text form of ids, rounding, LSN order, the arena.
 * Method: known pairs, every way in which a text can be wrong, and seeded random round trips.
 */
#include "unit.h"

#include "proto/base.h"
#include "proto/lsn.h"

#include <errno.h>
#include <string.h>

static const char sample_text[] = "00112233-4455-6677-8899-aabbccddeeff";
static const struct hk_uuid sample = {{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99,
                                       0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}};

static void test_uuid_known_pair(void **state)
{
    char text[HK_UUID_TEXT];
    struct hk_uuid u;

    hk_uuid_format(&sample, text);
    assert_string_equal(text, sample_text);
    assert_int_equal(hk_uuid_parse(sample_text, &u), 0);
    assert_true(hk_uuid_equal(&u, &sample));
    assert_int_equal(hk_uuid_parse("00112233-4455-6677-8899-AABBCCDDEEFF", &u), 0);
    assert_true(hk_uuid_equal(&u, &sample));
}

static void test_uuid_every_position_is_checked(void **state)
{
    struct hk_uuid u = sample;
    char text[HK_UUID_TEXT + 1];

    for (int at = 0; at < HK_UUID_TEXT - 1; at++) {
        /* Neighbours of the digit ranges in ASCII, a dash where a digit belongs, a short text. */
        for (const char *bad = "/:@G`g- \x7f\xff"; *bad; bad++) {
            memcpy(text, sample_text, sizeof(sample_text));
            if (text[at] == *bad)
                continue;
            text[at] = *bad;
            assert_int_equal(hk_uuid_parse(text, &u), -EINVAL);
        }
        memcpy(text, sample_text, sizeof(sample_text));
        text[at] = '\0';
        assert_int_equal(hk_uuid_parse(text, &u), -EINVAL);
        if (sample_text[at] == '-') {
            text[at] = '0';
            assert_int_equal(hk_uuid_parse(text, &u), -EINVAL);
        }
    }
    memcpy(text, sample_text, sizeof(sample_text));
    memcpy(text + HK_UUID_TEXT - 1, "0", 2);
    assert_int_equal(hk_uuid_parse(text, &u), -EINVAL);
    assert_true(hk_uuid_equal(&u, &sample)); /* untouched by all of these */
}

static void test_uuid_random_round_trip(void **state)
{
    uint64_t seed = 1;

    for (int i = 0; i < 2000; i++) {
        struct hk_uuid u, v;
        char text[HK_UUID_TEXT];

        unit_random_bytes(&seed, &u, sizeof(u));
        hk_uuid_format(&u, text);
        assert_int_equal(strlen(text), HK_UUID_TEXT - 1);
        assert_int_equal(hk_uuid_parse(text, &v), 0);
        assert_memory_equal(&u, &v, sizeof(u));
    }
}

static void test_uuid_nil_and_equal(void **state)
{
    struct hk_uuid u = {{0}};

    assert_true(hk_uuid_is_nil(&u));
    for (int i = 0; i < 16; i++) {
        u = (struct hk_uuid){{0}};
        u.b[i] = 1;
        assert_false(hk_uuid_is_nil(&u));
        u = sample;
        u.b[i] ^= 0x80;
        assert_false(hk_uuid_equal(&u, &sample));
    }
}

static void test_rounding(void **state)
{
    assert_int_equal(hk_round_up(0, 64), 0);
    assert_int_equal(hk_round_up(1, 64), 64);
    assert_int_equal(hk_round_up(64, 64), 64);
    assert_int_equal(hk_round_up(65, 64), 128);
    assert_int_equal(hk_round_down(63, 64), 0);
    assert_int_equal(hk_round_down(64, 64), 64);
    assert_int_equal(hk_round_down(127, 64), 64);
    assert_true(hk_round_up(0xffffffffffffffc0ull, 64) == 0xffffffffffffffc0ull);
    assert_int_equal(hk_min_u64(1, 2), 1);
    assert_int_equal(hk_min_u64(2, 1), 1);
    assert_int_equal(hk_max_u64(1, 2), 2);
    assert_int_equal(hk_max_u64(2, 1), 2);
}

static void test_lsn_order(void **state)
{
    assert_int_equal(hk_lsn_cmp(HK_LSN(1), HK_LSN(2)), -1);
    assert_int_equal(hk_lsn_cmp(HK_LSN(2), HK_LSN(1)), 1);
    assert_int_equal(hk_lsn_cmp(HK_LSN(UINT64_MAX), HK_LSN(UINT64_MAX)), 0);
    assert_int_equal(hk_lsn_cmp(HK_LSN(0), HK_LSN(UINT64_MAX)), -1);
    assert_int_equal(hk_lsn_max(HK_LSN(3), HK_LSN(5)).v, 5);
    assert_int_equal(hk_lsn_max(HK_LSN(5), HK_LSN(3)).v, 5);
    assert_int_equal(hk_lsn_min(HK_LSN(3), HK_LSN(5)).v, 3);
    assert_int_equal(hk_lsn_min(HK_LSN(5), HK_LSN(3)).v, 3);
}

static void test_arena(void **state)
{
    static uint8_t memory[256] __attribute__((aligned(64)));
    struct hk_arena a = {.base = memory, .bytes = sizeof(memory)};

    assert_ptr_equal(hk_arena_take(&a, 1, 1), memory);
    assert_ptr_equal(hk_arena_take(&a, 8, 8), memory + 8);
    assert_ptr_equal(hk_arena_take(&a, 64, 64), memory + 64);
    assert_null(hk_arena_take(&a, 129, 1));
    assert_int_equal(a.used, 128); /* a refusal takes nothing */
    assert_null(hk_arena_take(&a, SIZE_MAX, 1));
    assert_ptr_equal(hk_arena_take(&a, 128, 1), memory + 128);
    assert_null(hk_arena_take(&a, 1, 1));
    assert_ptr_equal(hk_arena_take(&a, 0, 1), memory + 256);
}

static void test_arena_unaligned_base(void **state)
{
    static uint8_t memory[64] __attribute__((aligned(64)));
    struct hk_arena a = {.base = memory + 3, .bytes = 29};

    assert_ptr_equal(hk_arena_take(&a, 8, 16), memory + 16);
    assert_null(hk_arena_take(&a, 1, 64)); /* the next multiple of 64 lies behind the end */
    assert_ptr_equal(hk_arena_take(&a, 8, 8), memory + 24);
    assert_null(hk_arena_take(&a, 1, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uuid_known_pair),
        cmocka_unit_test(test_uuid_every_position_is_checked),
        cmocka_unit_test(test_uuid_random_round_trip),
        cmocka_unit_test(test_uuid_nil_and_equal),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_lsn_order),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_unaligned_base),
    };

    return cmocka_run_group_tests_name("proto_base", tests, NULL, NULL);
}
