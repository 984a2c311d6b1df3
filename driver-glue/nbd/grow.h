/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume grows: what is new of its origin is zeroed and flushed by a thread of its own, since
 * that may take long, and then the core is asked (capture.h, hk_capture_resize). One at a time.
 * Everything here is under the engine's lock.
 */
#ifndef HK_NBD_GROW_H
#define HK_NBD_GROW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct hk_engine;

struct hk_grow_job {
    pthread_t thread;
    bool busy; /* from the begin until it was fetched */
    bool done, end;
    struct hk_engine *e;
    uint64_t lease, bytes; /* the replicator's */
    uint16_t volume;
    int error;
};

/* 0: under way, hk_grow_answer tells; -EALREADY: nothing to be done; -EBUSY; else as the core. */
int hk_grow_begin(struct hk_engine *e, uint64_t lease, uint16_t volume, uint64_t bytes);
/* True once when it has ended. */
bool hk_grow_answer(struct hk_engine *e, struct hk_grow_job *ret);
/* Without the lock: waits for the one under way, which gives up. */
void hk_grow_stop(struct hk_engine *e);

#endif
