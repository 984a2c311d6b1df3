/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Apply: carries durable log into the replicas, in batches. Within a batch every byte of a volume
 * is written once, in any order; batches follow one another in log order.
 *
 * Invariants
 * - Only what is durable in the journal is applied: replica + journal is always a state of the log.
 *   While a batch is being applied the replica alone is not; it may be opened only when idle.
 * - Every header and payload hash is checked on the way, and every range against its volume's size,
 *   before the first byte of its batch is written. A mismatch is never passed on: state CORRUPT.
 * - `flushed` moves to a batch's end only after all its writes have completed and then every volume
 *   it touched has been flushed. The owner stores it durably as `applied` when it pleases.
 * - No batch spans a barrier record. At one the replica holds exactly the log before it, the owner
 *   has stored that position, and nothing is written until it says hk_apply_resume().
 * - A failed write, punch or flush is final (I11): state REPLICA_FAILED, not promotable; nothing
 * more is submitted. The journal goes on without apply.
 * - Before a batch's first byte is written, the before-images of all its chunks are durable in the
 *   newest snapshot, if there is one (store/snapshot.h).
 * - Replay is idempotent: a batch cut off by a crash is written again from `applied`, cut as it may
 *   be, and ends in the same bytes.
 *
 * Log bytes come from the receive window while they are intact there, else from the journal; they
 * are copied once into apply memory, so the window is free again when hk_apply_run() returns.
 *
 * The owner's loop: hk_apply_run() until it returns false; whenever hk_apply_flushed() is above
 * what is stored, store it and say hk_apply_stored(); at state BARRIER deal with the record. Owned
 * by one reactor thread; called by the group only. Nothing is called back.
 */
#ifndef HK_STORE_APPLY_H
#define HK_STORE_APPLY_H

#include "proto/history.h"
#include "proto/record.h"
#include "replicator/store/disk.h"
#include "replicator/store/extent.h"
#include "replicator/store/journal.h"
#include "replicator/store/snapshot.h"

enum {
    HK_APPLY_DEPTH = 32, /* operations in flight */
    HK_APPLY_OP_BYTES_MAX = 1 << 20,
    HK_APPLY_STEP_BYTES = 1 << 20, /* copied and hashed in one hk_apply_run() */
    HK_APPLY_RECORDS_MAX = 16384,  /* writing records in a batch */
    HK_APPLY_BARRIER_PAYLOAD_MAX = 4096,
    HK_APPLY_BYTES_MIN = 2 << 20,
};

enum hk_apply_state {
    HK_APPLY_NEW = 0,
    HK_APPLY_IDLE,    /* nothing to do up to the limit */
    HK_APPLY_LOADING, /* collecting a batch; nothing of it has been written */
    HK_APPLY_SAVING,  /* before-images for the snapshots; nothing of it has been written */
    HK_APPLY_WRITING,
    HK_APPLY_FLUSHING,
    HK_APPLY_STORING, /* before a barrier: waits for hk_apply_stored() */
    HK_APPLY_BARRIER, /* waits for hk_apply_resume(); barrier and barrier_payload are valid */
    HK_APPLY_REPLICA_FAILED, /* final: failed_volume, error */
    HK_APPLY_CORRUPT,        /* final, fail-stop: bad_lsn, record_fault or error */
};

struct hk_apply_cfg {
    struct hk_disk *disk;
    struct hk_journal *journal;
    const struct hk_history *history; /* the owner's; read at each step, may grow */
    struct hk_snapshots *snapshots;   /* get the before-images; NULL: there are none */
    const uint8_t *window;
    uint64_t window_bytes; /* a power of two */
    uint64_t apply_bytes;  /* ≥ HK_APPLY_BYTES_MIN, multiple of 4096 */
    uint32_t volume_count;
    uint64_t volume_bytes[HK_VOLUMES_MAX];
};

struct hk_apply_op {
    struct hk_diskop op;
    uint8_t *bounce; /* one page per iovec, for pieces that don't align */
    bool busy;
};

struct hk_apply {
    enum hk_apply_state state;
    struct hk_record barrier; /* BARRIER */
    uint8_t barrier_payload[HK_APPLY_BARRIER_PAYLOAD_MAX];
    uint32_t failed_volume; /* REPLICA_FAILED */
    int error;              /* REPLICA_FAILED, CORRUPT: -errno */
    uint64_t bad_lsn;       /* CORRUPT */
    enum hk_record_fault
        record_fault; /* CORRUPT: HK_RECORD_OK if it was the journal's read (error) */
    uint64_t written_bytes, punched_bytes, batch_count; /* since start */
    uint64_t bad_range_count; /* ranges that the origin could not read, since start */
    uint64_t bad_range_bytes;
    /* private */
    struct hk_apply_cfg cfg;
    uint64_t batch_start;
    uint64_t position;   /* end of what the batch being built or written covers */
    uint64_t chain_end;  /* of the record that was walked last … */
    uint32_t prev_bytes; /* … and its size */
    uint64_t flushed, stored;
    uint64_t volumes_touched; /* bit a volume */
    uint64_t volumes_to_flush;
    uint8_t *memory;
    uint64_t memory_used;
    struct hk_extents extents;
    struct hk_extent_piece piece; /* next one to submit */
    bool piece_valid;
    bool barrier_ahead; /* the batch ends at a barrier */
    bool stopped;
    struct hk_apply_op op[HK_APPLY_DEPTH];
    uint32_t op_busy_count;
    struct hk_journal_reader reader;
};

size_t hk_apply_memory(const struct hk_apply_cfg *cfg); /* arena bytes needed, alignment included */
/* -EINVAL: cfg breaks a bound given above. -ENOMEM. */
int hk_apply_init(struct hk_apply *a, const struct hk_apply_cfg *cfg, struct hk_arena *arena);
/* NEW → IDLE. `applied` is as durably stored (0: nothing yet); the journal is RUNNING. */
void hk_apply_start(struct hk_apply *a, uint64_t applied);

/*
 * Does a bounded piece of work. limit: apply up to here (≤ hk_journal_durable; lower to stop
 * somewhere). window_from: the window holds [window_from, limit) intact; UINT64_MAX: nothing of it.
 * Returns true when there is more to do now; false: wait for disk_done, for a higher limit, or for
 * the owner (STORING, BARRIER, failed states).
 */
bool hk_apply_run(struct hk_apply *a, uint64_t limit, uint64_t window_from);
/*
 * For every completed op with owner HK_OWNER_APPLY. (The journal reads apply waits for are the
 * journal's own; call hk_apply_run() after hk_journal_disk_done(), too.)
 */
void hk_apply_disk_done(struct hk_apply *a, struct hk_diskop *op);

/* For every completed op of the snapshots, after hk_snapshots_disk_done(). */
void hk_apply_saving(struct hk_apply *a);
/*
 * Nothing more is submitted, ever: a roll back follows, and what is half done is part of what it
 * undoes. Quiet when what is in flight has ended.
 */
void hk_apply_stop(struct hk_apply *a);

/* In the replica and flushed. What the owner should store as `applied`. */
uint64_t hk_apply_flushed(const struct hk_apply *a);
/* `lsn` is durably stored as `applied`. STORING → BARRIER when it has caught up. */
void hk_apply_stored(struct hk_apply *a, uint64_t lsn);
/*
 * BARRIER → IDLE: the owner has stored durably applied = the barrier's end, together with whatever
 * the record meant (one superblock write, so that a crash repeats all of it or nothing).
 */
void hk_apply_resume(struct hk_apply *a);
/* IDLE: the log between is missing for good; what comes next stands at `lsn`, an epoch's first. */
void hk_apply_rebase(struct hk_apply *a, uint64_t lsn);
/* Nothing is in flight: no operation of apply touches a replica until the next hk_apply_run(). */
bool hk_apply_quiet(const struct hk_apply *a);

const char *hk_apply_state_text(enum hk_apply_state s);

#endif
