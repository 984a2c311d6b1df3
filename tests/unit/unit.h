/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka with what it wants to be included before it, in the order it wants it. */
#ifndef HK_TESTS_UNIT_H
#define HK_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

/* HK_CASE=name: that case alone. Weak: helpers of tests are linked without cmocka, too. */
#pragma weak cmocka_set_test_filter
__attribute__((constructor)) static void unit_one_case(void)
{
    const char *only = getenv("HK_CASE");

    if (only && cmocka_set_test_filter)
        cmocka_set_test_filter(only);
}

/* splitmix64: seeded, so that a failure repeats. */
static inline uint64_t unit_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static inline void unit_random_bytes(uint64_t *state, void *bytes, size_t count)
{
    uint8_t *b = bytes;

    for (size_t i = 0; i < count; i++)
        b[i] = (uint8_t)unit_random(state);
}

#endif
