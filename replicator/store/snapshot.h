/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of the replica, copy on write: per snapshot an index (proto/snapmap.h) and per volume
 * one sparse file with the volume's own geometry. A chunk of 4 KiB that is about to be overwritten
 * is first stored in the newest snapshot, once. The pin of a resync is a snapshot.
 *
 * Invariants
 * - A byte of the replica is overwritten only after the before-image of its chunk is durable, and
 *   after that the bit that says so. One flush for all before-images of a batch, one for all bits.
 * - A chunk whose bit is set is never copied again, also on replay: what the replica holds by then
 *   is no before-image any more.
 * - A snapshot reads as: from its own to the newest, the first that has the chunk; else the
 *   replica. The replica is read first and the bits are tested then.
 * - A snapshot counts when its index is durable and the superblock's snapshot_next is above its id;
 *   a pin only while the superblock says PINNED at just that position. What does not count at the
 *   start is given back.
 * - Damage of an index is found (hash and place in each sector): the snapshot is BROKEN and gives
 *   nothing any more, nor does any older one. Never a wrong byte.
 * - Everything found at the start is flushed before it counts: a bit in the cache of a process that
 *   was killed must not be relied on while a power cut could still take it back.
 * - No room for a before-image: ordinary snapshots end, oldest first (their index says so, durably,
 *   before anything is overwritten); a pin never: the applier stands until there is room.
 * - A failed write or flush in the snapshots' files is final: nothing is overwritten any more by
 *   this process (save: STUCK for good).
 *
 * The files exist always, each at its full size, of holes. "Unlinked" means: the header is zeroed
 * durably, then the files are punched whole. Unlike a directory that needs no room and no second
 * kind of durability.
 *
 * Owned by one reactor thread; called by the group and by apply. Nothing is called back.
 */
#ifndef HK_STORE_SNAPSHOT_H
#define HK_STORE_SNAPSHOT_H

#include "proto/snapmap.h"
#include "replicator/store/disk.h"

enum {
    /* Operations in flight. A copy is a read and a write into a hole, so that the applier's own
     * depth would leave a device idle while the file system finds room. */
    HK_SNAPSHOT_DEPTH = 96,
    HK_SNAPSHOT_RUN_BYTES = 32 * 1024, /* neighbouring chunks that are copied as one */
    HK_SNAPSHOT_RUN_CHUNKS = HK_SNAPSHOT_RUN_BYTES / HK_SNAP_CHUNK_BYTES,
};

enum hk_snapshot_state {
    HK_SNAPSHOT_FREE = 0,
    HK_SNAPSHOT_LIVE,
    HK_SNAPSHOT_DYING,  /* it is being deleted: gives nothing itself, older ones go on through it */
    HK_SNAPSHOT_BROKEN, /* fault or error says why */
};

struct hk_snapshot {
    enum hk_snapshot_state state;
    struct hk_snap_header header; /* LIVE, DYING; BROKEN: id 0 when not even that could be read */
    uint64_t chunks;              /* kept in it; known when it is or was the newest in this life */
    enum hk_snap_fault fault;
    int error;
    uint32_t leases;
};

struct hk_snapshots_cfg {
    struct hk_disk *disk;
    struct hk_uuid group_id;
    uint32_t slot_count;  /* ≤ HK_SNAPSHOTS_MAX; 0: no area, no snapshot can be made */
    uint64_t space_bytes; /* of before-images, all snapshots together; 0: whatever the disk gives */
    uint32_t volume_count;
    uint64_t volume_bytes[HK_VOLUMES_MAX];
};

/* What the superblock says. */
struct hk_snapshots_known {
    struct hk_uuid replica_id;
    uint32_t next; /* ids from here on were never used */
    bool pinned;
    uint64_t pin_lsn;
    uint32_t pin_ordinal;
};

struct hk_snapshot_ask {
    enum hk_snap_kind kind;
    uint32_t id; /* the superblock's snapshot_next, to be stored one higher afterwards */
    uint32_t epoch_ordinal;
    uint64_t lsn, time_ns;
    char name[HK_NAME_BYTES]; /* MARK */
};

/* One thing at a time beside the saving. */
enum hk_snapshots_job {
    HK_SNAPSHOTS_IDLE = 0,
    HK_SNAPSHOTS_STARTING,
    HK_SNAPSHOTS_MAKING,
    HK_SNAPSHOTS_LOADING, /* the index of what is the newest now */
    HK_SNAPSHOTS_DROPPING,
    HK_SNAPSHOTS_ROLLING_BACK,
    HK_SNAPSHOTS_READING,
};

enum hk_save_state {
    HK_SAVE_NONE = 0,       /* nothing is being saved */
    HK_SAVE_COPYING,        /* takes ranges; before-images are on their way */
    HK_SAVE_FLUSHING,       /* of the before-images */
    HK_SAVE_MARKING,        /* bits are on their way */
    HK_SAVE_SEALING,        /* of the bits */
    HK_SAVE_DONE,           /* what was given may be overwritten */
    HK_SAVE_REPLICA_FAILED, /* final: the replica could not be read: save_volume, save_error */
};

struct hk_snapshot_op {
    struct hk_diskop op;
    uint8_t *buffer; /* HK_SNAPSHOT_RUN_BYTES */
    uint32_t volume, slot, count;
    uint64_t chunk;
    uint8_t use; /* internal */
    bool busy, waits_for_room;
};

struct hk_snapshots {
    enum hk_snapshots_job job;
    int result; /* of the job that ended last: 0 or -errno */
    struct hk_snapshot slot[HK_SNAPSHOTS_MAX];
    uint32_t newest; /* slot that takes before-images; UINT32_MAX: none */
    enum hk_save_state save;
    int stuck; /* saving stands: -ENOSPC until hk_snapshots_retry() finds room; else for good */
    uint32_t save_volume;
    int save_error;
    uint64_t saved_chunks, skipped_chunks, ended_count; /* since the start */
    uint64_t rolled_back, rollback_total;               /* bytes */
    /* private */
    struct hk_snapshots_cfg cfg;
    struct hk_snapshots_known known;
    uint8_t *image; /* pages of the newest's index, as they are on disk */
    uint64_t page_count, page0[HK_VOLUMES_MAX];
    uint64_t *dirty; /* bit a page */
    uint64_t volumes_touched;
    uint32_t run; /* op that still grows; UINT32_MAX: none */
    bool save_all;
    struct hk_snapshot_op op[HK_SNAPSHOT_DEPTH + 1]; /* the last is the job's own */
    uint32_t busy_save, busy_job;
    uint8_t *page; /* a header; two pages of an index */
    struct {
        unsigned step, then; /* then: step after the slot is free */
        uint32_t slot, other, volume;
        uint64_t at, run;
        struct hk_snapshot_ask ask;
        int result; /* what the job will have come to */
        uint8_t *to;
        uint64_t offset, bytes;
        uint32_t found; /* chunks of the range that are settled: bit a chunk */
        bool copied, loaded;
    } j;
};

size_t hk_snapshots_memory(const struct hk_snapshots_cfg *cfg); /* arena bytes */
/* -EINVAL, -ENOMEM. */
int hk_snapshots_init(struct hk_snapshots *s, const struct hk_snapshots_cfg *cfg,
                      struct hk_arena *arena);
/* Reads what is there: STARTING, then IDLE. */
void hk_snapshots_start(struct hk_snapshots *s, const struct hk_snapshots_known *known);
/* For every completed op with owner HK_OWNER_SNAPSHOT. */
void hk_snapshots_disk_done(struct hk_snapshots *s, struct hk_diskop *op);
bool hk_snapshots_idle(const struct hk_snapshots *s);  /* no job */
bool hk_snapshots_quiet(const struct hk_snapshots *s); /* nothing of its own is in flight */

/* ---- making and deleting; nothing of apply may be in flight ---- */

/*
 * An empty snapshot of the replica as it is. 0: begun, `result` when idle again. -EBUSY: a job or a
 * save is under way; -ENOSPC: no free slot; -EEXIST: the id is not above all others.
 */
int hk_snapshots_make(struct hk_snapshots *s, const struct hk_snapshot_ask *ask);
/* Slot of a snapshot, LIVE or DYING; -ENOENT. */
int hk_snapshots_find(const struct hk_snapshots *s, uint32_t id);
/* Of the pin that the superblock names; -ENOENT none, -EUCLEAN it is broken. */
int hk_snapshots_pin(const struct hk_snapshots *s);
/*
 * Deletes one; what older ones need of it is handed to the next older one first, durably. 0: begun;
 * -EBUSY: a job, a save, or a reader lease; -ENOENT. A hand-over that finds no room ends with
 * -ENOSPC, nothing lost; ask again.
 */
int hk_snapshots_drop(struct hk_snapshots *s, uint32_t id);
/*
 * The newest snapshot is given up although before-images can't be stored (`stuck`): its header is
 * zeroed durably, then saving is done without them. False: not now.
 */
bool hk_snapshots_give_up(struct hk_snapshots *s);
/* The superblock says PINNED durably, or says so no longer: then it may be dropped. */
void hk_snapshots_unpinned(struct hk_snapshots *s);
void hk_snapshots_pinned(struct hk_snapshots *s, uint64_t lsn, uint32_t ordinal, uint32_t next);

/* ---- before-images ---- */

/* Is there a snapshot that wants them? */
bool hk_snapshots_wants(const struct hk_snapshots *s);
/* NONE → COPYING. */
void hk_snapshots_save_begin(struct hk_snapshots *s);
/*
 * The chunks of [offset, offset + bytes) will be overwritten. Returns how many bytes from the start
 * of the range are dealt with; less than asked for: go on there after the next completion.
 */
uint64_t hk_snapshots_save(struct hk_snapshots *s, uint32_t volume, uint64_t offset,
                           uint64_t bytes);
/* No more ranges: flush, mark, flush; then DONE. */
void hk_snapshots_save_all(struct hk_snapshots *s);
/* DONE → NONE. */
void hk_snapshots_save_end(struct hk_snapshots *s);
/* There may be room now. */
void hk_snapshots_retry(struct hk_snapshots *s);

/* ---- going back, reading ---- */

/*
 * Writes every before-image of the newest snapshot back into the replica and flushes it. May be cut
 * off and begun again: the snapshot does not change by it. The applier never runs again.
 */
int hk_snapshots_rollback(struct hk_snapshots *s, uint32_t id);
int hk_snapshots_lease(struct hk_snapshots *s, uint32_t id);
void hk_snapshots_release(struct hk_snapshots *s, uint32_t id);
/*
 * A range as the snapshot saw it, whole chunks (the volume's end cut), ≤ HK_SNAPSHOT_RUN_BYTES,
 * within one index page (120 MiB), `to` page-aligned. 0: begun. result -EUCLEAN: an
 * index is damaged; -ESTALE: it has ended.
 */
int hk_snapshots_read(struct hk_snapshots *s, uint32_t id, uint32_t volume, uint64_t offset,
                      uint32_t bytes, uint8_t *to);

/* ---- space ---- */

uint64_t hk_snapshots_used(const struct hk_snapshots *s); /* bytes of before-images */
/* What the bound leaves; UINT64_MAX without one. */
uint64_t hk_snapshots_room(const struct hk_snapshots *s);
/* Bytes that a rollback would write now. */
uint64_t hk_snapshots_rollback_bytes(const struct hk_snapshots *s);

#endif
