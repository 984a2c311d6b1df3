/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why an image is illegal, for a person: the first sector that nothing explains at the cut that
 * explains most, what is there, what could be, and a second sector that forbids the cuts at which
 * the first one would be legal. Used by judge.c only.
 */
#ifndef HK_TOOLS_EXPLAIN_H
#define HK_TOOLS_EXPLAIN_H

#include "judge.h"

struct hk_explain {
    int64_t best_cut;
    uint64_t best_bad_count;
    int64_t unsolved_cut;     /* only if best_bad_count is 0 */
    uint32_t unsolved_sector; /* index of the sweep */
};

void hk_explain(const struct hk_judge_case *c, const struct hk_explain *why, FILE *report);

#endif
