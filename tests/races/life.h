/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One life of the capture process: a child with the plugin's own engine over a ring file, origins
 * and metadata, driven by worker threads as nbdkit's would, killed with SIGKILL at a named step.
 *
 * The ledger lies in memory that the child shares with its parent, so what the child was told when
 * it died is known afterwards: for each block the content acknowledged last and the one in flight.
 */
#ifndef HK_RACES_LIFE_H
#define HK_RACES_LIFE_H

#include <stdio.h>
#include <sys/types.h>

#include "driver-glue/nbd/engine.h"
#include "proto/at.h"

enum {
    WORKERS = 3,     /* the first is the subject */
    AREA_BLOCKS = 8, /* each worker's own, of each volume */
    BLOCKS = WORKERS * AREA_BLOCKS,
    BLOCK = 4096,
    VOLUMES = 2,
    VERSIONS = 1 << 14,
};
#define VOLUME_BYTES ((uint64_t)BLOCKS * BLOCK)

/* Steps of the product, and those that only a system call cut short can show. */
enum step {
    STEP_NONE = -1,
    STEP_COPY_HALF = HK_AT_STEP_COUNT, /* half of the payload is in the ring */
    STEP_ORIGIN_HALF,                  /* half of the range has reached the origin */
    STEP_META_HALF,                    /* a superblock is half new, half old */
    STEP_COUNT
};
const char *step_name(int step);

/* When the child is to die. */
struct strike {
    int step;
    unsigned hit; /* 1: the first time */
    enum {
        ANYWHERE = 0, /* from the first instruction, any thread */
        SUBJECT,      /* by the subject's one request of `kind` */
        SERVING,      /* any thread, once the workers run */
        STOPPING,     /* any thread, once the clean stop has begun */
    } where;
};

enum kind { WRITE, WRITE_FUA, ZEROES, ZEROES_FUA, DISCARD, DISCARD_FUA, FLUSH, KINDS };
extern const char *const kind_name[KINDS];

struct life_plan {
    struct strike strike;
    enum kind kind;        /* of the subject's request */
    bool others;           /* the other workers have requests in flight */
    bool mute;             /* the replicator takes and reports nothing */
    bool settle;           /* it stops when the standby says that the group is well again */
    bool lose_ring;        /* the ring is gone after it */
    unsigned warm_up;      /* requests of the subject before */
    unsigned after;        /* and after it, if it lives */
    uint32_t timeout_ms;   /* T; 0: 5 s */
    uint32_t pace_ms;      /* 0: 5 s */
    uint32_t linger_ms;    /* at the step, before it dies: others go on */
    uint64_t ceiling_step; /* 0: the product's */
    uint64_t seed;
};

/* Of one block: contents are 64-bit words repeated, 0 for zeroes. */
struct block_ledger {
    uint64_t acked, flying;
    bool in_flight;
};

struct ledger {
    struct block_ledger block[VOLUMES][BLOCKS];
    uint8_t acked_version[VERSIONS]; /* a write of that content was acknowledged */
    uint64_t version;                /* atomic: contents given out */
    unsigned serving, stopping, done, well;
    unsigned requests, failed;
    int strikes; /* left before it dies; atomic */
};

struct life_site {
    char dir[64];
    struct hk_nbd_conf conf;
    struct ledger *ledger; /* shared */
};

void site_make(struct life_site *s);
void site_destroy(struct life_site *s);

/* Starts the child; `plan` must outlive it. */
pid_t life_start(struct life_site *s, const struct life_plan *plan);

/* The content of a block that begins with `word`. */
bool block_is(const uint8_t *block, uint64_t word);

#endif
