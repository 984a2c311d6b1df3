/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the two hashes are the published ones on every machine, whatever the library dispatches to.
 * Method: values of xxHash 0.8's scalar code (built with XXH_VECTOR 0) over the buffer of its own
 * sanity check, one per length class of XXH3; and pieces against the whole.
 */
#include "unit.h"

#include "proto/hash.h"

/* The sanity buffer of xxHash: a multiplicative generator, upper byte taken. */
static void fill_sanity(uint8_t *buffer, size_t bytes)
{
    uint64_t gen = 2654435761u;

    for (size_t i = 0; i < bytes; i++) {
        buffer[i] = (uint8_t)(gen >> 56);
        gen *= 11400714785074694797ull;
    }
}

static void test_xxh64_published(void **state)
{
    uint8_t b[222];

    fill_sanity(b, sizeof(b));
    assert_true(hk_xxh64(NULL, 0, 0) == 0xEF46DB3751D8E999ull);
    assert_true(hk_xxh64(NULL, 0, 2654435761u) == 0xAC75FDA2929B17EFull);
    assert_true(hk_xxh64(b, 1, 0) == 0xE934A84ADB052768ull);
    assert_true(hk_xxh64(b, 1, 2654435761u) == 0x5014607643A9B4C3ull);
    assert_true(hk_xxh64(b, 4, 0) == 0x9136A0DCA57457EEull);
    assert_true(hk_xxh64(b, 14, 0) == 0x8282DCC4994E35C8ull);
    assert_true(hk_xxh64(b, 14, 2654435761u) == 0xC3BD6BF63DEB6DF0ull);
    assert_true(hk_xxh64(b, 222, 0) == 0xB641AE8CB691C174ull);
    assert_true(hk_xxh64(b, 222, 2654435761u) == 0x20CB8AB7AE10C14Aull);
}

static void test_xxh3_128_published(void **state)
{
    static const struct {
        size_t bytes;
        uint64_t lo, hi;
    } known[] = {
        {0, 0x6001C324468D497Full, 0x99AA06D3014798D8ull},
        {1, 0xC44BDFF4074EECDBull, 0xA6CD5E9392000F6Aull},
        {6, 0x3E7039BDDA43CFC6ull, 0x082AFE0B8162D12Aull},
        {12, 0x061A192713F69AD9ull, 0x6E3EFD8FC7802B18ull},
        {24, 0x1E7044D28B1B901Dull, 0x0CE966E4678D3761ull},
        {48, 0xF942219AED80F67Bull, 0xA002AC4E5478227Eull},
        {81, 0x5E8BAFB9F95FB803ull, 0x4952F58181AB0042ull},
        {222, 0xF1AEBD597CEC6B3Aull, 0x337E09641B948717ull},
        {403, 0xCDEB804D65C6DEA4ull, 0x1B6DE21E332DD73Dull},
        {512, 0x617E49599013CB6Bull, 0x18D2D110DCC9BCA1ull},
        {2048, 0xDD59E2C3A5F038E0ull, 0xF736557FD47073A5ull},
        {2240, 0x6E73A90539CF2948ull, 0xCCB134FBFA7CE49Dull},
        {2367, 0xCB37AEB9E5D361EDull, 0xE89C0F6FF369B427ull},
    };
    static uint8_t b[2367];

    fill_sanity(b, sizeof(b));
    for (size_t i = 0; i < HK_ARRAY_SIZE(known); i++) {
        struct hk_hash128 h = hk_xxh3_128(b, known[i].bytes);

        assert_true(h.lo == known[i].lo);
        assert_true(h.hi == known[i].hi);
    }
}

static void test_pieces_equal_the_whole(void **state)
{
    static uint8_t b[4096 + 100];

    fill_sanity(b, sizeof(b));
    for (size_t cut = 0; cut <= sizeof(b); cut += cut < 300 || cut > 4000 ? 1 : 61) {
        struct hk_hash128 whole = hk_xxh3_128(b, sizeof(b));
        struct hk_hash128 parts = hk_xxh3_128_2(b, cut, b + cut, sizeof(b) - cut);

        assert_true(whole.lo == parts.lo && whole.hi == parts.hi);
        assert_true(hk_xxh64(b, sizeof(b), 7) == hk_xxh64_2(b, cut, b + cut, sizeof(b) - cut, 7));
    }
    for (size_t bytes = 0; bytes < 600; bytes++) {
        struct hk_hash128 whole = hk_xxh3_128(b, bytes);
        struct hk_hash128 parts = hk_xxh3_128_2(b, bytes / 3, b + bytes / 3, bytes - bytes / 3);

        assert_true(whole.lo == parts.lo && whole.hi == parts.hi);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xxh64_published),
        cmocka_unit_test(test_xxh3_128_published),
        cmocka_unit_test(test_pieces_equal_the_whole),
    };

    return cmocka_run_group_tests_name("proto_hash", tests, NULL, NULL);
}
