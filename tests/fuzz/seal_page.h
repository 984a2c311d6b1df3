/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Magic, version and hash of a segment's or a batch's header renewed, whatever its fields hold: the
 * product's own sealing refuses fields that cannot be. id_at: where the page keeps its epoch id.
 */
#ifndef HK_TESTS_FUZZ_SEAL_PAGE_H
#define HK_TESTS_FUZZ_SEAL_PAGE_H

#include "proto/hash.h"
#include "proto/segment.h"

#include <string.h>

static inline void seal_page(uint8_t *page, uint64_t magic, size_t id_at)
{
    uint32_t version = HK_SEGMENT_VERSION;
    uint64_t seed, hash;

    memcpy(page, &magic, 8);
    memcpy(page + 8, &version, 4);
    memcpy(&seed, page + id_at, 8);
    hash = hk_xxh64(page, 4088, seed);
    memcpy(page + 4088, &hash, 8);
}

#endif
