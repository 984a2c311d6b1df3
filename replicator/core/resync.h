/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's engine of a resync: takes up stale regions one after another, has both sides hash
 * them, has what is unequal put into the log as block records, and says when a region is healed.
 * Pure: it is told what happened and asked for the next step; the group carries it out.
 *
 * Invariants
 * - A region is healed only when every block of it was hashed on both sides after it was taken up,
 *   in this session, and each unequal one is in the log (or bad-range is). The heal names the event
 *   count that the region was taken up with and the end of its newest block record.
 * - What is lost with a session (hk_resync_stop) is what was under compare; those regions are still
 *   stale for the capture side and come round again.
 * - At most HK_COMPARE_ASKS_MAX questions are open, and a slot is not used again before the reader
 *   of this side has answered: its memory is bounded, here and there.
 * - New questions wait for the bucket (pace.h), for the standby's applier, and for log that is not
 *   durable yet; what was begun is finished.
 *
 * Owned by the primary's group; one thread. Integers only.
 */
#ifndef HK_CORE_RESYNC_H
#define HK_CORE_RESYNC_H

#include "replicator/core/compare.h"
#include "replicator/core/pace.h"

enum {
    HK_RESYNC_REGIONS = 4,       /* under compare at once */
    HK_RESYNC_BLOCKS = 8,        /* block records asked for, without an answer */
    HK_RESYNC_RATE_SECONDS = 32, /* over which the rate is measured */
};
#define HK_RESYNC_RETRY_NS      20000000ull /* the ring had no room for a block */
#define HK_RESYNC_LOOK_NS       50000000ull /* no stale region could be had: asked again after … */
#define HK_RESYNC_LAG_BYTES     (4ull << 20) /* log not durable: no new question, or a 1/16 s … */
#define HK_RESYNC_BACKLOG_BYTES (64ull << 20) /* durable, not applied */

struct hk_resync_status {
    bool running;              /* a compare is under way */
    bool paused;               /* by verb */
    uint64_t stale_bytes;      /* left; exact, as the capture side says */
    uint64_t total_bytes;      /* stale at most since it began */
    uint64_t compared_bytes;   /* both sides hashed */
    uint64_t unequal_blocks;   /* of HK_COMPARE_BLOCK_BYTES */
    uint64_t sent_bytes;       /* in block records */
    uint64_t unreadable_bytes; /* of the origin: bad-range */
    uint64_t repeated;         /* regions that became stale again meanwhile */
    uint64_t rate_bytes_s;     /* healed, measured over the last half minute; 0: not known */
    uint64_t limit_bytes_s;    /* what the bucket gives now */
    uint64_t throttle_bytes_s; /* by verb, 0 none */
    uint64_t eta_ns;           /* 0: not known */
    uint64_t begun_ns;         /* monotonic, 0: none since the start */
};

enum hk_resync_region_state { HK_RS_FREE = 0, HK_RS_COMPARING, HK_RS_HEAL, HK_RS_HEALING };

struct hk_resync_region {
    enum hk_resync_region_state state;
    uint32_t volume, pass;
    uint64_t offset, bytes, event, after;
    uint64_t asked;   /* bytes of it that questions were put for */
    uint32_t open;    /* questions with something left to do */
    uint64_t end;     /* of its newest block record; 0: none */
    uint64_t request; /* HEALING */
};

struct hk_resync_ask {
    bool used;
    bool reading; /* HASH is out on this side: the slot waits for it, whatever else happened */
    bool hash_due, ask_due; /* steps still to be pulled */
    bool have_local, have_remote;
    uint32_t region;
    struct hk_hash_ask ask;
    struct hk_hashes local, remote;
    uint32_t unequal; /* a bit a block: a block record is due */
    uint32_t asked;   /* … asked for, no answer */
    uint64_t request[HK_COMPARE_BLOCKS_MAX];
    uint64_t retry_ns;
};

enum hk_resync_step_kind {
    HK_RSTEP_STALE_ASK = 1,
    HK_RSTEP_HASH, /* here */
    HK_RSTEP_ASK,  /* there */
    HK_RSTEP_BLOCK,
    HK_RSTEP_HEAL,
};

struct hk_resync_step {
    enum hk_resync_step_kind kind;
    struct hk_hash_ask ask; /* HASH, ASK */
    uint64_t request;       /* BLOCK, HEAL */
    uint32_t volume;        /* the others */
    uint64_t offset, event, end;
    uint32_t bytes;
};

/* What it is paced by, as of now. */
struct hk_resync_load {
    uint64_t produced, durable, applied, stale_bytes;
};

struct hk_resync {
    bool running, paused;
    uint64_t request;
    uint32_t pass;
    struct hk_resync_load load;
    struct hk_pace pace;
    struct hk_resync_region region[HK_RESYNC_REGIONS];
    struct hk_resync_ask ask[HK_COMPARE_ASKS_MAX];
    /* the sweep over what is stale */
    bool looking;       /* STALE_ASK is out */
    uint32_t forgotten; /* answers to STALE_ASKs of an earlier session that are still to come */
    uint32_t volume;
    uint64_t offset;
    uint64_t look_ns; /* not before */
    /* figures */
    uint64_t total_bytes, begun_ns, compared_bytes, healed_bytes, unequal_blocks, sent_bytes;
    uint64_t unreadable_bytes, repeated, healed_regions;
    struct {
        uint64_t second, bytes;
    } healed[HK_RESYNC_RATE_SECONDS];
};

void hk_resync_init(struct hk_resync *r, uint64_t now_ns);
/* A session stands in which regions may be compared. */
void hk_resync_start(struct hk_resync *r, uint64_t now_ns);
/* It ended, or control messages are lost. capture_gone: nothing asked of it will be answered. */
void hk_resync_stop(struct hk_resync *r, bool capture_gone);
/* Nothing is stale any more: the next one counts from zero. */
void hk_resync_over(struct hk_resync *r);

void hk_resync_load(struct hk_resync *r, const struct hk_resync_load *l, uint64_t now_ns);
void hk_resync_pause(struct hk_resync *r, bool paused);
void hk_resync_throttle(struct hk_resync *r, uint64_t bytes_s);

/* Answers. found false: none from where it was asked. */
void hk_resync_stale(struct hk_resync *r, bool found, uint32_t volume, uint64_t offset,
                     uint64_t bytes, uint64_t event, uint64_t after, uint64_t now_ns);
void hk_resync_hashed(struct hk_resync *r, const struct hk_hashes *h); /* on this side */
/* 0; -EINVAL: an answer that cannot be (the other site is not to be trusted). */
int hk_resync_answered(struct hk_resync *r, const struct hk_hashes *h);
void hk_resync_block_done(struct hk_resync *r, uint64_t request, int error, uint64_t end,
                          uint64_t now_ns);
void hk_resync_healed(struct hk_resync *r, uint64_t request, int error, uint64_t now_ns);

/* The next thing to do; false: nothing now. */
bool hk_resync_next(struct hk_resync *r, uint64_t now_ns, struct hk_resync_step *ret);
uint64_t hk_resync_deadline_ns(const struct hk_resync *r); /* UINT64_MAX: none */
void hk_resync_status(const struct hk_resync *r, uint64_t now_ns, struct hk_resync_status *ret);

#endif
