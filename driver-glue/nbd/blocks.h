/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block records for a resync: the replicator asks for a range, a worker thread reads the origin
 * under the core's range lock and puts what it read into the ring. A few threads of their own, so
 * that neither the service nor a client's thread ever waits for an origin that is slow.
 *
 * Everything here is under the engine's lock; at most HK_BLOCKS_MAX are asked for, under way or
 * answered but not yet fetched.
 */
#ifndef HK_NBD_BLOCKS_H
#define HK_NBD_BLOCKS_H

#include <pthread.h>

#include "driver-glue/uapi/capture_ipc.h"

enum { HK_BLOCKS_MAX = 64, HK_BLOCK_THREADS = 4 };

struct hk_engine;

struct hk_block_job {
    uint64_t request, lease; /* the replicator's */
    uint64_t offset, end;    /* end: of the record, if there is one */
    uint32_t bytes;
    uint16_t volume;
    int error;
};

struct hk_block_queue {
    struct hk_block_job job[HK_BLOCKS_MAX];
    unsigned first, count;
};

struct hk_blocks {
    struct hk_engine *e;
    pthread_t thread[HK_BLOCK_THREADS];
    pthread_cond_t cond;
    struct hk_block_queue asked, done;
    uint8_t *buffer;           /* one a thread */
    unsigned running, threads; /* threads: that have taken their buffer */
    bool end;
};

/* All of its memory. 0 or -ENOMEM; hk_blocks_free then has nothing to do. */
int hk_blocks_open(struct hk_blocks *b, struct hk_engine *e);
/* Its threads. 0 or -errno. */
int hk_blocks_start(struct hk_blocks *b);
/* Waits for those under way. */
void hk_blocks_stop(struct hk_blocks *b);
/* After hk_blocks_stop, or if it was never started. */
void hk_blocks_free(struct hk_blocks *b);
/* -EAGAIN: too many; -EINVAL. */
int hk_blocks_ask(struct hk_blocks *b, const struct hk_block_job *job);
/* The oldest that is done; NULL: none. It stays until hk_blocks_told. */
const struct hk_block_job *hk_blocks_answer(const struct hk_blocks *b);
void hk_blocks_told(struct hk_blocks *b);

#endif
