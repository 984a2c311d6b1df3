/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search inside one cut: who wrote each contested sector last, and is there one order of all?
 *
 * A problem is a list of classes. A class stands for all sectors that the same operations compete
 * for with the same contents matching; exactly one matching candidate (or the base) must be last.
 * An optional operation takes part only if it is last somewhere: in an order that needs it nowhere
 * it can be left out. Used by judge.c only.
 */
#ifndef HK_TOOLS_SOLVE_H
#define HK_TOOLS_SOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hk_solve_op {
    int64_t begin;
    int64_t end;
    bool in; /* contained in any case; otherwise the search decides */
    bool ret_in;
};

struct hk_solve_class {
    uint32_t first; /* into the member array */
    uint32_t count;
    bool base_matches; /* no contained operation covers it and the base has the content */
};

struct hk_solve_member {
    uint32_t op;
    bool matches;
};

struct hk_solve_problem {
    struct hk_solve_op *ops;
    uint32_t op_count;
    const struct hk_solve_class *classes;
    uint32_t class_count;
    const struct hk_solve_member *members;
    uint64_t budget;
};

enum hk_solved { HK_SOLVED_YES, HK_SOLVED_NO, HK_SOLVED_GAVE_UP };

/* On NO or GAVE_UP *ret_class is a class of the group that could not be satisfied. */
enum hk_solved hk_solve(struct hk_solve_problem *p, uint32_t *ret_class, uint32_t *ret_group_max);

#endif
