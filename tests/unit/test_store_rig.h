/* SPDX-License-Identifier: Apache-2.0 */
/* A standby's journal on a disk in memory, fed from a test log. What the store's tests share. */
#ifndef HK_TESTS_STORE_RIG_H
#define HK_TESTS_STORE_RIG_H

#include "memdisk.h"
#include "replicator/store/apply.h"
#include "test_store_log.h"

enum { RIG_SEGMENTS = 4, RIG_WINDOW_BYTES = 2 << 20 };

struct rig {
    struct memdisk disk;
    struct store_log log;
    struct hk_journal journal;
    struct hk_journal_reader reader;
    uint8_t *memory;
    struct hk_apply *apply; /* gets its completions, if there is one */
    uint64_t window_low;    /* what was received in this life, and is still in the window */
    uint64_t applied;       /* as the superblock would have it */
    uint64_t reported;      /* highest durable the journal ever said */
    uint64_t random;
    uint64_t segment_bytes;
};

void rig_init(struct rig *r, uint64_t seed, uint64_t segment_bytes);
void rig_free(struct rig *r);
/* A process starts on the disk as it is: recovery begins. */
void rig_start(struct rig *r);
void rig_start_at(struct rig *r, const struct hk_history *history, uint64_t applied);
bool rig_step(struct rig *r); /* one disk completion; false: none is pending */
void rig_drain(struct rig *r);
/* rig_start and rig_drain, then RUNNING. */
void rig_recover(struct rig *r);
/* Random records of all sorts, at least `bytes` of log. */
void rig_produce(struct rig *r, uint64_t bytes);
/* One batch of whole records, at most about `bytes`, at least one. What hk_journal_append says. */
int rig_append(struct rig *r, uint64_t bytes);
/* The same, waiting for room. */
int rig_append_wait(struct rig *r, uint64_t bytes);
/* Reads [from, durable) back and compares it with the log. 0 or the first error. */
int rig_read_back(struct rig *r, uint64_t from);

#endif
