/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The group in this process: the capture core behind one mutex, the ring, the metadata file, the
 * origins. Request threads of nbdkit call request() and read(); a metadata thread writes
 * superblocks and the dirty map, a flush thread flushes origins that no client flushes, a service
 * thread (service.h) serves the replicator and moves time, block threads (blocks.h) read origins
 * for a resync.
 *
 * A request waits on its own condition variable, never with the mutex held, and copies, hashes and
 * does its origin I/O without it.
 */
#ifndef HK_NBD_ENGINE_H
#define HK_NBD_ENGINE_H

#include <pthread.h>

#include "driver-glue/nbd/blocks.h"
#include "driver-glue/nbd/company.h"
#include "driver-glue/nbd/config.h"
#include "driver-glue/nbd/grow.h"
#include "driver-glue/nbd/origin.h"

struct hk_service;

struct hk_engine {
    struct hk_nbd_conf conf;
    struct hk_origin origin[HK_VOLUMES_MAX];
    pthread_mutex_t lock;
    struct hk_capture *capture;
    bool stopping;               /* under lock: no more waiting beyond stop_ns */
    uint64_t stop_ns;            /* monotonic */
    bool serving;                /* atomic; once true it stays */
    enum hk_group_state said;    /* last state seen */
    enum hk_group_state printed; /* last state a message was written about; 0: none */
    uint64_t pacing_ns;          /* when pacing was last said */
    uint64_t controls;           /* control records that a sleeping reader was woken for */

    int metadata_fd;
    uint64_t slots_at,
        map_shift;       /* of the metadata: where it lies at the end of an origin; else 0 */
    bool super_in_doubt; /* one of its two superblocks was damaged at the start */
    /* Under lock: the metadata thread sleeps until there is something to write (0), or until so
     * many marks are there (company). */
    bool meta_asleep, meta_end;
    uint32_t meta_wanted;
    struct hk_company company;
    pthread_cond_t meta_cond; /* by the monotonic clock */
    pthread_t meta_thread;
    uint64_t meta_errors;

    void *dirty_memory; /* the core's dirty map */
    struct hk_capture_cfg cfg;
    /* Origins are flushed now and then although no client asks: under lock, too. */
    bool flush_pending, flush_end;
    pthread_cond_t flush_cond;
    pthread_t flush_thread;
    struct hk_blocks blocks;
    struct hk_grow_job grow;

    void *ring;
    uint64_t ring_bytes;
    struct hk_uuid ring_id;
    int ring_fd, ring_read_fd; /* the second is what a replicator gets */
    int event_fd, hint_fd, kick_fd;
    struct hk_ring_hint *hint;

    struct hk_service *service;
    pthread_t quit_thread;
    bool started;
};

/* Opens, locks, checks, takes over the ring, redoes. Says why not and returns -1. */
int hk_engine_open(const struct hk_nbd_conf *conf, struct hk_engine **ret_engine);
/* Threads: after the process has forked for the last time. */
int hk_engine_start(struct hk_engine *e);
/* Bounded drain, clean superblock if all is with the standby; ends the threads. */
void hk_engine_stop(struct hk_engine *e);
void hk_engine_free(struct hk_engine *e);

/* One record's worth: WRITE ≤ 1 MiB with data, ZEROES, DISCARD, FLUSH. 0 or -errno. */
int hk_engine_request(struct hk_engine *e, uint16_t volume, uint8_t type, uint8_t flags,
                      uint64_t offset, uint32_t length, const void *data);
int hk_engine_read(struct hk_engine *e, uint16_t volume, void *data, uint32_t length,
                   uint64_t offset);
/* Today's size of the volume. */
uint64_t hk_engine_size(struct hk_engine *e, uint16_t volume);
/* Requests that wait for room or for the standby. */
uint32_t hk_engine_waiting(struct hk_engine *e);
/* May this volume be opened? false: it has said why. */
bool hk_engine_admits(struct hk_engine *e);

/* How much of the volume from offset on one request may cover. */
uint32_t hk_engine_request_max(const struct hk_engine *e, uint64_t offset);

/* The metadata lie behind the first volume, on its origin (open.c). */
bool hk_engine_metadata_at_end(const struct hk_engine *e);

/* For the service and the block threads: */
/* A block record of this range. 0; -EIO: unreadable, the log says so; -errno: no record. */
int hk_engine_block(struct hk_engine *e, uint16_t volume, uint64_t offset, uint32_t length,
                    void *buffer, uint64_t *ret_end);
void hk_engine_kick(const struct hk_engine *e); /* wakes the service thread */
void hk_engine_now(struct hk_now *ret_now);
/* Under lock, after every call of the core: hands back ops, passes metadata writes on. */
void hk_engine_pump(struct hk_engine *e, const struct hk_now *now);

#endif
