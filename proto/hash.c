/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/hash.h"

/* For the states on the stack: nothing here may allocate. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#ifdef __x86_64__
/* Picks SSE2, AVX2 or AVX512 at run time; the values are the same on every machine. */
#include <xxh_x86dispatch.h>
#endif

uint64_t hk_xxh64(const void *data, size_t bytes, uint64_t seed)
{
    return XXH64(data, bytes, seed);
}

uint64_t hk_xxh64_2(const void *a, size_t a_bytes, const void *b, size_t b_bytes, uint64_t seed)
{
    XXH64_state_t state;

    XXH64_reset(&state, seed);
    XXH64_update(&state, a, a_bytes);
    XXH64_update(&state, b, b_bytes);
    return XXH64_digest(&state);
}

struct hk_hash128 hk_xxh3_128(const void *data, size_t bytes)
{
    XXH128_hash_t h = XXH3_128bits(data, bytes);

    return (struct hk_hash128){.lo = h.low64, .hi = h.high64};
}

struct hk_hash128 hk_xxh3_128_2(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    XXH3_state_t state;
    XXH128_hash_t h;

    XXH3_INITSTATE(&state);
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, a, a_bytes);
    XXH3_128bits_update(&state, b, b_bytes);
    h = XXH3_128bits_digest(&state);
    return (struct hk_hash128){.lo = h.low64, .hi = h.high64};
}
