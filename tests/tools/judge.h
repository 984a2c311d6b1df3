/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge: can this image be the result of a crash that kept the order of the writes?
 *
 * What is asked
 *   Each operation has an interval: it was submitted at one position of the client's event order
 *   and had its effect at the latest at another (its completion, or a read that saw it; never, if
 *   no answer came). A happened before B if A's interval ended before B's began. An image is legal
 *   if there is a set D of operations, closed downward under happened-before, and a total order of
 *   D that respects happened-before, such that applying whole operations in that order to the base
 *   gives exactly the image. With acknowledged writes declared durable, D must contain them.
 *
 * Why this can be decided
 *   Happened-before is an interval order. Let t be a position after the latest submission in D.
 *   Everything whose interval ended before that submission is in D; the rest was in flight. So the
 *   downward closed sets are exactly M(t) + X: M(t) = ended before t, X = any subset of what was in
 *   flight at t. M changes only where an interval ends, so it is enough to test the moment before
 *   each end, where X can be chosen from the most.
 *   An order of D respects happened-before exactly if every operation can be given a point inside
 *   its interval such that the points ascend. So it is enough to find points for those operations
 *   whose overlap matters: for each sector a last writer with the right content is chosen and every
 *   other included operation on that sector must have its point before. Groups of operations that
 *   share no sector cannot disturb each other: points inside intervals agree with happened-before
 *   by themselves. Within a group the choice is searched exhaustively (solve.c).
 *
 * What is treated as legal
 *   Operations are atomic (one record each, overlapping ones serialised by the range lock), unless
 *   torn_ok, which judges every sector by itself. Unanswered and failed operations may have
 *   happened, later than any completed one too, unless their end is bounded by the caller.
 *   Trim, like zero, leaves zeros.
 *
 * The answer is exact; when the search exceeds its budget the verdict is UNDECIDED, never a guess.
 * Single-threaded; allocation failure aborts.
 */
#ifndef HK_TOOLS_JUDGE_H
#define HK_TOOLS_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define HK_JUDGE_NEVER INT64_MAX

struct hk_judge_op {
    uint64_t id;
    uint64_t content; /* id, see content.h; 0 for zero and trim */
    uint64_t first_sector;
    uint32_t sector_count;
    uint16_t volume;
    bool optional; /* may never have happened: no answer, or an error */
    bool must;     /* promised durable: every legal image contains it */
    bool acked;    /* answered with success: for the loss figures only */
    int64_t begin; /* position of the submission */
    int64_t end;   /* position at which its effect has certainly happened */
};

/* The judged range of a volume; tags are indexed from first_sector. */
struct hk_judge_volume {
    uint64_t first_sector;
    uint64_t sector_count;
    const uint64_t *actual;
    const uint64_t *base;
    const bool *excluded; /* NULL: judge all */
};

struct hk_judge_case {
    const struct hk_judge_op *ops; /* ascending begin */
    size_t op_count;
    const struct hk_judge_volume *volumes;
    uint32_t volume_count;
    int64_t cut_min; /* everything that ended before is contained */
    int64_t cut_max; /* nothing submitted at or after is contained; HK_JUDGE_NEVER: no bound */
    bool torn_ok;
    uint64_t budget; /* search steps in one group of operations; 0: the default */
};

enum hk_verdict { HK_VERDICT_CONSISTENT, HK_VERDICT_VIOLATION, HK_VERDICT_UNDECIDED };

struct hk_judge_loss {
    uint64_t contained_count; /* operations contained */
    uint64_t acked_count;     /* acknowledged operations that are not contained, and their bytes */
    uint64_t acked_bytes;
};

struct hk_judge_result {
    enum hk_verdict verdict;
    int64_t cut_first; /* earliest and latest cut found to explain the image, if consistent */
    int64_t cut_last;
    struct hk_judge_loss loss_most;  /* at cut_first */
    struct hk_judge_loss loss_least; /* at cut_last */
    uint64_t acked_count;            /* of the whole history */
    uint64_t acked_bytes;
    uint64_t sectors_judged;
    uint64_t cuts_tested;
    uint64_t cuts_solved;   /* of those: passed the test of every sector by itself */
    uint64_t group_ops_max; /* operations in the largest group searched */
};

/* Explains a violation to `report` (may be NULL). */
void hk_judge(const struct hk_judge_case *c, struct hk_judge_result *ret_result, FILE *report);

#endif
