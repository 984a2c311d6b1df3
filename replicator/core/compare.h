/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two sites say to each other when they compare stale regions: a question about a piece of a
 * volume, and the keyed hashes of its blocks. Fixed structs; replicator/group/control.h wraps them
 * into control messages, replicator/io hashes. SPEC.md §10.
 */
#ifndef HK_CORE_COMPARE_H
#define HK_CORE_COMPARE_H

#include "proto/base.h"
#include "proto/limits.h"

/* A piece of a volume to hash: whole compare blocks but for a volume's last one. */
struct hk_hash_ask {
    uint64_t request; /* rises within a session; names the question in its answer */
    uint32_t pass;    /* with volume and block the nonce: rises with every region taken up */
    uint32_t volume;
    uint64_t offset; /* multiple of HK_COMPARE_BLOCK_BYTES, or a region's begin */
    uint32_t bytes;  /* ≤ HK_COMPARE_BLOCKS_MAX blocks */
    uint32_t reserved;
    uint64_t after; /* LSN from which on both sides' bytes may be compared */
};

struct hk_hashes {
    uint64_t request;
    int32_t error; /* 0, or -errno: it could not be read */
    uint32_t count;
    uint8_t hash[HK_COMPARE_BLOCKS_MAX][HK_COMPARE_HASH_BYTES];
};

static inline uint32_t hk_compare_blocks(uint32_t bytes)
{
    return (bytes + HK_COMPARE_BLOCK_BYTES - 1) / HK_COMPARE_BLOCK_BYTES;
}

#endif
