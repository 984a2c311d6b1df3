/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers of the checker's tests, which know nothing of the product. The same each run. */
#ifndef HK_TESTS_CHECKER_RNG_H
#define HK_TESTS_CHECKER_RNG_H

#include <stdint.h>

static uint64_t rng_state = 0x48696b6165u;

static uint64_t rng(void)
{
    uint64_t x = (rng_state += 0x9e3779b97f4a7c15u);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static unsigned below(unsigned n)
{
    return (unsigned)(rng() % n);
}

#endif
