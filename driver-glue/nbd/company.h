/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the next metadata write goes out. A mark that finds others on their way waits a moment for
 * them, since a write costs the disk the same with one mark or with thirty: until half of the ops
 * that were under way lately have asked, and never longer than the write before it took. A lone
 * writer never waits, and what is no mark (superblock, map) never does.
 *
 * Without this a transaction holds what came while the one before it was written: on a fast disk
 * that is little, and the metadata is written for every ninth write, by a processor that is short.
 *
 * Pure; owned by whoever holds the engine's lock.
 */
#ifndef HK_NBD_COMPANY_H
#define HK_NBD_COMPANY_H

#include "driver-glue/capture/capture.h"

#define HK_COMPANY_NS_MAX 1000000ull

struct hk_company {
    uint32_t ops, ops_before; /* most under way since the last write began, and the one before */
    uint64_t took_ns;         /* of the last write */
};

/* After every call of the core. */
static inline void hk_company_seen(struct hk_company *c, uint32_t ops)
{
    if (ops > c->ops)
        c->ops = ops;
}

/* How many marks are enough to go at once. */
static inline uint32_t hk_company_wanted(const struct hk_company *c)
{
    return (c->ops > c->ops_before ? c->ops : c->ops_before) / 2;
}

/* How long the oldest of these marks may wait; 0: not at all. */
static inline uint64_t hk_company_wait_ns(const struct hk_company *c, uint32_t marks)
{
    if (marks == 0 || marks >= hk_company_wanted(c))
        return 0;
    return hk_min_u64(c->took_ns, HK_COMPANY_NS_MAX);
}

static inline void hk_company_begins(struct hk_company *c, uint32_t ops)
{
    c->ops_before = c->ops;
    c->ops = ops;
}

static inline void hk_company_ended(struct hk_company *c, uint64_t took_ns)
{
    c->took_ns = took_ns;
}

#endif
