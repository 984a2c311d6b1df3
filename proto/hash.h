/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The two hashes of the formats. SPEC.md §2. Only this file knows the library (or the kernel). */
#ifndef HK_PROTO_HASH_H
#define HK_PROTO_HASH_H

#include "proto/base.h"

struct hk_hash128 {
    uint64_t lo, hi;
};

/* XXH64, the hash of records and on-disk structures (the kernel has it too). */
uint64_t hk_xxh64(const void *data, size_t bytes, uint64_t seed);
/* The same over `a` followed by `b`: a range that wraps at the end of a window. */
uint64_t hk_xxh64_2(const void *a, size_t a_bytes, const void *b, size_t b_bytes, uint64_t seed);

/* XXH3-128 over one piece, or two in order; cipher id 0's frame tag and the images' hash. */
struct hk_hash128 hk_xxh3_128(const void *data, size_t bytes);
struct hk_hash128 hk_xxh3_128_2(const void *a, size_t a_bytes, const void *b, size_t b_bytes);

#endif
