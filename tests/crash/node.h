/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole standby (the daemon's objects) on a logged disk, and a primary that is nothing but a log
 * and a HELLO. Small: one volume, small journal, so that it can be started many thousand times.
 */
#ifndef HK_TESTS_CRASH_NODE_H
#define HK_TESTS_CRASH_NODE_H

#include "replicator/group/group.h"
#include "tests/crash/disk.h"
#include "tests/unit/test_store_log.h"

enum {
    NODE_VOLUME_BYTES = 16 << 10,
    NODE_SEGMENTS = 2,
    NODE_WINDOW_BYTES = 8 << 20,
    NODE_NAME = 16,
};

/* What it has said, and everything a person or the primary may now rely on. */
struct node_said {
    uint64_t reported;   /* durable, in an ack or a status */
    uint64_t frozen_lsn; /* FROZEN was said and no end of it; 0: not frozen */
    uint64_t ended_lsn;  /* of the image whose end was said last */
    bool in_doubt;       /* an image was ended for doubt */
    uint32_t ordinal;    /* newest epoch it has welcomed a session in */
    bool promoting, promoted;
    uint32_t verdict; /* of the recovery of its journal */
};

struct node_large {
    uint8_t *base;
    size_t bytes;
};

struct node {
    struct cdisk *disk;
    struct hk_group *g;
    uint8_t *memory;
    size_t memory_bytes;
    struct node_large large[5];
    uint8_t *window;
    struct hk_now now;
    struct node_said said;
    uint32_t session;
    uint64_t packet;
    int fatal; /* -errno; 0: none */
    uint32_t refused;
    uint64_t ops;
};

void node_init(struct node *n, struct cdisk *disk);
void node_free(struct node *n);
/* The files of a fresh standby. */
void node_format(struct cdisk *disk);
/* A process begins; what an earlier one said is forgotten here. */
void node_boot(struct node *n);
/* One disk completion and what follows; false: nothing is under way. */
bool node_step(struct node *n);
void node_settle(struct node *n);
/* A session in the last epoch of the log's history, if it lets us. */
void node_greet(struct node *n, const struct store_log *log, uint64_t known_durable);
void node_deliver(struct node *n, const struct store_log *log, uint64_t from, uint64_t to);
void node_verb(struct node *n, enum hk_verb_kind kind, const char *name);
void node_status(struct node *n, struct hk_group_status *ret);

#endif
