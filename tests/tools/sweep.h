/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sweep over all cuts of a history (judge.h, "Why this can be decided").
 *
 * Keeps, for every judged sector, the operations that can still be its last writer at the current
 * cut: contained ones that no other contained one certainly overwrote, and ones in flight. Both
 * kinds leave the list for good once a contained operation began after their end. `bad_count` is
 * the number of sectors whose content none of those (nor the base) can explain.
 *
 * Used by judge.c and explain.c only; single-threaded.
 */
#ifndef HK_TOOLS_SWEEP_H
#define HK_TOOLS_SWEEP_H

#include "judge.h"

enum hk_sweep_state { HK_SWEEP_UNSEEN, HK_SWEEP_FLYING, HK_SWEEP_CONTAINED };

struct hk_sweep_sector {
    uint64_t actual;
    uint64_t base;
    int64_t covered_begin; /* largest begin of a contained operation here; -1: none */
    int32_t head;          /* node list, newest submission first */
    int32_t contested_at;  /* index in `contested`, -1 if there is at most one possibility */
    bool excluded;
    bool bad;
};

struct hk_sweep_node {
    uint32_t op;
    int32_t next;
};

struct hk_sweep {
    const struct hk_judge_case *c;
    struct hk_sweep_sector *sectors;
    size_t sector_count;
    size_t *volume_start; /* index of each volume's first judged sector, plus the end */
    struct hk_sweep_node *nodes;
    int32_t node_count, node_room, node_free;
    uint8_t *state; /* per operation, enum hk_sweep_state */
    uint32_t *ends; /* operations that become contained at their end, ascending */
    size_t end_count, end_next, begin_next;
    uint32_t *contested;
    uint32_t contested_count;
    uint64_t bad_count;
    uint64_t contained_count, acked_count, acked_bytes;
    bool submitted_since; /* the cut tested last */
    bool done;
};

void hk_sweep_init(struct hk_sweep *s, const struct hk_judge_case *c);
void hk_sweep_free(struct hk_sweep *s);

/* Moves to the next cut worth testing; false if there is none. */
bool hk_sweep_next(struct hk_sweep *s, int64_t *ret_cut);

/* Which volume and which of its sectors an index stands for. */
void hk_sweep_locate(const struct hk_sweep *s, size_t index, uint32_t *ret_volume,
                     uint64_t *ret_sector);

uint64_t hk_sweep_op_tag(const struct hk_sweep *s, uint32_t op, size_t index);

#endif
