/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults of a network, put in on purpose: what happens to one frame is drawn from a seeded
 * generator, so that a test that failed can be repeated. Decides only; the link carries it out.
 */
#ifndef HK_IO_IMPAIR_H
#define HK_IO_IMPAIR_H

#include "replicator/io/link.h"

enum { HK_IMPAIR_HOLD_FRAMES_MAX = 8 };

struct hk_impair {
    struct hk_impair_cfg cfg;
    uint64_t state;
};

struct hk_impair_verdict {
    bool lose, duplicate;
    uint32_t hold_frames; /* held back until so many others have gone: 0 to …_MAX */
    bool corrupt;
    uint32_t corrupt_bit; /* below `bits` */
};

void hk_impair_init(struct hk_impair *m, const struct hk_impair_cfg *cfg);
bool hk_impair_active(const struct hk_impair *m);
/* Draws the same number of random values whatever the verdict, so that traces stay comparable. */
void hk_impair_draw(struct hk_impair *m, uint32_t bits, struct hk_impair_verdict *ret);

#endif
