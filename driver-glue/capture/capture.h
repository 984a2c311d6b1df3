/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The capture core: bookkeeping of one group's log production. Compiled into the NBD plugin, the
 * simulator and (later) the kernel module.
 *
 * It never sleeps, copies user data, calls out, reads a clock or allocates. The caller takes the
 * group's lock around each call (except hk_capture_publish) and drops it to copy, hash, submit and
 * wait. Ops are embedded in the caller's requests; between begin and the step HK_DONE or HK_FAIL
 * the core owns their private fields.
 *
 * Order of resources, always (SPEC.md, Appendix "capturing one write"): slot and credit → range
 * lock → dirty mark → {LSN, descriptor} → copy and hash → publish → submit to the origin. The range
 * lock ends at local completion, not at the standby's ack.
 *
 * One write, as the caller sees it:
 *
 *   step = begin(op)             under the lock
 *     HK_WAIT    queued; next() will hand it back with HK_COPY (or HK_SUBMIT, HK_FAIL)
 *     HK_COPY    copy op->length bytes to op->payload (if any), then publish(op), copied(op)
 *     HK_SUBMIT  write origin: from op->payload, or (NULL: capture is passing) the caller's data
 *     HK_FAIL    complete with op->result
 *   publish(op)                  without the lock: hashes, bytes 8–63, then lsn with release
 *   step = copied(op)            under the lock; HK_SUBMIT
 *   step = written(op, result)   under the lock, after the origin I/O (FUA as asked) ended
 *     HK_DONE    complete with op->result
 *     HK_WAIT    sync or semisync: next() hands it back with HK_DONE
 *   while ((op = next(&step)))   under the lock, after every call that may free something
 *   if (meta(&m))                after every call, begin too: write m.bytes of m.data at m.offset
 *                                durably (FUA or write + flush), then meta_done()
 *   if (wants_flush())           after every call: flush every origin, then origins_flushed()
 *
 * A block record (HK_REC_BLOCK) carries what the origin holds, for a standby that may hold other
 * bytes. Its slot is set aside before its range is locked; it gets its LSN after it was read:
 *   begin(op)        HK_READ: read op->length bytes of the origin into op->buffer, then
 *                    read_done(op, result); HK_WAIT as above; HK_FAIL
 *   read_done        HK_COPY as above (from op->buffer); HK_DONE: unreadable, the log says so with
 *                    a bad-range record, op->result is the error; HK_FAIL: capture passes meanwhile
 *   copied(op)       HK_DONE: op->end is the end of the record
 *
 * Between the steps HK_COPY and written the op's range is locked; between begin and written it must
 * not be given up. Reads go to the origin once hk_capture_serving() says so.
 */
#ifndef HK_CAPTURE_CAPTURE_H
#define HK_CAPTURE_CAPTURE_H

#include "driver-glue/uapi/ring.h"
#include "proto/state.h"
#include "proto/super.h"

enum hk_step { HK_COPY = 1, HK_SUBMIT, HK_META, HK_DONE, HK_WAIT, HK_FAIL, HK_READ };

struct hk_op_link {
    struct hk_op *next, *prev;
};

struct hk_op {
    /* set by the caller before begin */
    uint8_t type;  /* HK_REC_WRITE, ZEROES, DISCARD, FLUSH, BLOCK */
    uint8_t flags; /* HK_REC_FUA */
    uint16_t volume;
    uint64_t offset; /* multiple of 512 */
    uint32_t length; /* multiple of 512; WRITE ≤ HK_PAYLOAD_BYTES_MAX; 0 for FLUSH */
    void *cookie;    /* the caller's */
    void *buffer;    /* BLOCK: what the caller reads the origin into, length bytes */
    /* set by the core */
    struct hk_lsn lsn, end;
    uint64_t slot; /* index */
    void *payload; /* in the ring; NULL: none */
    int result;    /* 0 or -errno, valid at HK_DONE and HK_FAIL */
    /* private */
    uint8_t stage;
    bool captured;
    bool owed;          /* of a closed epoch: held until the standby has the end of the resync */
    bool credited;      /* a block: its slot is set aside */
    bool pinned;        /* holds slots of the dirty map */
    uint64_t mark_wait; /* looked at again after so many writes of the dirty map */
    uint64_t flush;     /* FLUSH: number among its origin's */
    uint64_t since_ns;
    struct hk_op_link link;  /* the wait, hold or ready queue it stands in */
    struct hk_op_link range; /* in-flight range list */
};

struct hk_capture_cfg {
    enum hk_mode mode;
    enum hk_link_loss on_link_loss;
    enum hk_overflow on_overflow; /* 0: pace; behind is refused with on_link_loss block */
    uint64_t contact_timeout_ns;  /* T */
    uint64_t pace_bound_ns;
    uint32_t volume_count;
    uint64_t volume_bytes[HK_VOLUMES_MAX];
    uint64_t volume_room[HK_VOLUMES_MAX]; /* it may grow to so many; 0: not at all */
    uint64_t ceiling_step_bytes;          /* 0: default */
    /* hk_super_in_doubt() of what `super` was picked from: facts that were relied on may be gone.
     */
    bool super_in_doubt;
    uint32_t held_max; /* begin fails with -EAGAIN beyond so many waiting; 0: no bound */
    /* The dirty map. What the metadata file holds behind the superblocks is only looked at by init;
     * the memory is the core's until the end. */
    uint32_t region_shift;    /* a region is 1 << region_shift bytes; 0: there is no map */
    uint32_t hot_regions_max; /* 0: default */
    void *dirty_memory;       /* hk_capture_dirty_bytes(), aligned to 4096 */
    const void *dirty_pages;  /* as read from HK_DMAP_LOG_OFFSET on, and flushed */
    uint64_t dirty_pages_bytes;
};

struct hk_capture;
size_t hk_capture_bytes(void); /* size of the opaque struct, for the caller's allocation */
/* Of cfg's volumes, region_shift and hot_regions_max; 0: no map. */
size_t hk_capture_dirty_bytes(const struct hk_capture_cfg *cfg);
/* How much of the volume from offset one op may cover at most (regions are bounded per op). */
uint32_t hk_capture_op_bytes_max(const struct hk_capture_cfg *cfg, uint64_t offset);

enum hk_start {
    HK_START_NEW_RING = 1, /* a ring just formatted */
    HK_START_OLD_RING,     /* a ring that survived its producer: redo before serving */
};

/* Formats a mapped, zeroed ring of total_bytes. -EINVAL for sizes that do not fit. */
int hk_ring_format(void *ring, uint64_t total_bytes, uint32_t slot_count, uint64_t payload_bytes,
                   const struct hk_uuid *group_id, const struct hk_uuid *ring_id);
/* 0 if a mapped ring is sound and belongs to the group and to the epoch of `super`; -EUCLEAN,
 * -ESTALE otherwise, with nothing changed. */
int hk_ring_check(const void *ring, uint64_t mapped_bytes, const struct hk_uuid *group_id,
                  const struct hk_super *super);

/*
 * `super` is what was read from the metadata (or made by create-md), and the metadata was flushed
 * after it was read: the last write of a killed process may lie in a volatile cache, and what is
 * believed here (degraded, the ceiling) must not be taken back by a power cut. With a new ring and
 * a super that was not stopped cleanly the ring was lost: full compare required, capture passes
 * (SPEC.md §6). The same holds when a superblock slot was damaged, unless the slot or the ring that
 * survived shows that nothing newer than `super` was relied on. -EINVAL on a configuration or super
 * that contradicts itself.
 */
int hk_capture_init(struct hk_capture *c, const struct hk_capture_cfg *cfg, void *ring,
                    enum hk_start start, const struct hk_super *super, const struct hk_now *now);

enum hk_step hk_capture_begin(struct hk_capture *c, struct hk_op *op, const struct hk_now *now);
/* Lock-free; the op is in stage copy. Pure function of the slot and its payload. */
void hk_capture_publish(const struct hk_capture *c, struct hk_op *op);
enum hk_step hk_capture_copied(struct hk_capture *c, struct hk_op *op);
enum hk_step hk_capture_written(struct hk_capture *c, struct hk_op *op, int result,
                                const struct hk_now *now);
/* Next op whose wait is over, and what to do with it; NULL when none. */
struct hk_op *hk_capture_next(struct hk_capture *c, enum hk_step *ret_step,
                              const struct hk_now *now);
/* Under the lock, after the origin was read for a block. */
enum hk_step hk_capture_read_done(struct hk_capture *c, struct hk_op *op, int result,
                                  const struct hk_now *now);
/* Gives up a waiting op (client gone). false if it is not waiting any more. */
bool hk_capture_cancel(struct hk_capture *c, struct hk_op *op);

/* Metadata. One write in flight. */
struct hk_capture_meta {
    const void *data; /* stable until meta_done; aligned to 4096 */
    uint64_t offset;  /* in the metadata file */
    uint32_t bytes;
};
bool hk_capture_meta(struct hk_capture *c, struct hk_capture_meta *ret);
/*
 * What the next write would hold, for a caller who gives marks a moment for more to join them. ops:
 * how many are under way and may ask for one; those that only wait for the standby don't count.
 */
struct hk_capture_meta_queue {
    uint32_t marks; /* 0: there is nothing to fetch; UINT32_MAX: what must not wait */
    uint32_t ops;
};
struct hk_capture_meta_queue hk_capture_meta_queue(const struct hk_capture *c);
void hk_capture_meta_done(struct hk_capture *c, int result, const struct hk_now *now);

/* Redo after the producer died: unpublished slots become void at once (inside init); then each
 * published-but-not-done record, in LSN order, is written to the origin again. */
struct hk_redo {
    struct hk_record record;
    const void *payload; /* NULL for zeroes, discard */
};
bool hk_capture_redo_next(struct hk_capture *c, struct hk_redo *ret);
void hk_capture_redo_done(struct hk_capture *c, int result, const struct hk_now *now);

/* The replicator's side. A lease is taken by attach; the one before is stale from then on. */
uint64_t hk_capture_attach(struct hk_capture *c, const struct hk_now *now);
void hk_capture_detach(struct hk_capture *c, uint64_t lease, const struct hk_now *now);
/* contact_ns: monotonic time the standby was last heard, 0 never. Report at least each T / 4 while
 * there is contact, also when no watermark moved: an old contact counts as a lost one. */
/* -ESTALE lease; -ERANGE a watermark above produced or not in order (released ≤ produced,
 * durable ≤ acked ≤ produced); watermarks below what is known are ignored, never moved back. */
int hk_capture_report(struct hk_capture *c, uint64_t lease, struct hk_lsn released,
                      struct hk_lsn acked, struct hk_lsn durable, uint64_t contact_ns,
                      const struct hk_now *now);
/*
 * What the replicator's spool is good for just now: it takes what the ring can't hold, and what it
 * holds. The former is believed only as long as a wait is bounded anyway: with `behind` writers
 * wait for it as they would with `pace`. The latter is checked when it counts: regions that rest on
 * it are stale unless the standby has that log. -ESTALE.
 */
struct hk_capture_spool {
    bool room;                /* it is written to, and not full */
    struct hk_lsn first, end; /* durable in it, without a hole; both 0: nothing */
};
int hk_capture_spool(struct hk_capture *c, uint64_t lease, const struct hk_capture_spool *spool,
                     const struct hk_now *now);
/* Binds the standby's replica id durably on first contact; -EEXIST when another one is bound. */
int hk_capture_bind_peer(struct hk_capture *c, uint64_t lease, const struct hk_uuid *replica_id);
/*
 * The standby refused the record at lsn twice although its frames were good: is our own copy whole?
 * Hashed here, under the lock, since nothing the caller says is believed. 0: it is. -EUCLEAN: it is
 * not; the standby can never have it, so "full compare required" is made durable, and the policy
 * acts as on a standby that is gone: with `continue` writes pass uncaptured (not before T in sync
 * and semisync), with `block` they wait. -ERANGE: no published record begins there; -ESTALE.
 */
int hk_capture_check_copy(struct hk_capture *c, uint64_t lease, struct hk_lsn lsn,
                          const struct hk_now *now);
/*
 * A control record (marks only: mode and gap are the core's own). -EINVAL, -EAGAIN no room now,
 * -ESHUTDOWN capture is passing, -ESTALE. Published when it returns 0.
 */
int hk_capture_insert(struct hk_capture *c, uint64_t lease, uint8_t type, const void *payload,
                      uint32_t bytes, const struct hk_now *now, struct hk_lsn *ret_lsn,
                      struct hk_lsn *ret_end);

/*
 * The way back when the log was broken off (status.closed: no LSNs any more, because writes pass
 * uncaptured, the ring was lost, or a copy in it). The replicator has a session of the old epoch,
 * has sent all there is, and the standby's durable is parent_end. A new epoch is made durable, then
 * begun in the ring with gap; capture goes on in it, and resync-begin follows when the last
 * uncaptured I/O has ended. The caller keeps an id ready: random, never used before.
 */
/* 0; -EINVAL: nil, or of an epoch that is known; -EEXIST: one is kept already. */
int hk_capture_offer_epoch(struct hk_capture *c, const struct hk_uuid *id);
bool hk_capture_wants_epoch(const struct hk_capture *c);
/*
 * 0, also when it is under way already; -ESTALE lease; -EALREADY: the log goes on, there is nothing
 * to return from; -EAGAIN: not yet (no id, stopping); -ERANGE: the standby cannot be there. With a
 * whole ring only its end is good; with a lost one what is between durable_known and the ceiling;
 * when all is stale whatever is in or above the epoch.
 */
int hk_capture_return(struct hk_capture *c, uint64_t lease, struct hk_lsn parent_end,
                      const struct hk_now *now);

/* A stale region: a compare of it is good from LSN `after` on, as long as `event` stays. */
struct hk_capture_stale {
    uint64_t offset, bytes;
    uint64_t event;
    struct hk_lsn after;
    uint16_t volume;
};
/*
 * The first stale region at or behind (volume, offset) with nothing uncaptured in flight. 0;
 * -ENOENT: none; -EAGAIN: no resync is open now (resync-begin is not in the log).
 */
int hk_capture_stale_next(const struct hk_capture *c, uint16_t volume, uint64_t offset,
                          struct hk_capture_stale *ret);
/*
 * The region was compared after `after` and what differed is in the log, up to `end`. 0; -EAGAIN:
 * something happened to it since `event`, it comes round again; -ESTALE lease; -EINVAL: no such
 * region, -ERANGE: `end` is not in the log, or before the compare could be good.
 */
int hk_capture_heal(struct hk_capture *c, uint64_t lease, uint16_t volume, uint64_t offset,
                    uint64_t event, struct hk_lsn end, const struct hk_now *now);
/*
 * The standby may differ anywhere, and lacks what was released already or has what we do not know
 * of: the log can't go on. No LSNs any more; hk_capture_return() at the standby's position once
 * hk_capture_all_stale() says that it is durable. 0, -ESTALE.
 */
int hk_capture_stale_all(struct hk_capture *c, uint64_t lease, const struct hk_now *now);
bool hk_capture_all_stale(const struct hk_capture *c);

/*
 * The volume grows to `bytes`. The standby has answered durably that its replica has room, and the
 * caller has zeroed and flushed what is new of the origin, where nobody looks yet. The size is
 * durable in the metadata first, then a resize record says it in the log, and only then a write
 * beyond the old end is taken (status.super has the size that holds). 0, also when it is under way
 * or done; -ESTALE; -EINVAL no such volume, not a multiple of 4096; -EPERM it would shrink; -EFBIG
 * there is no room for it in the map; -EBUSY another volume grows; -EAGAIN not now: the log is
 * closed, or regions are stale.
 */
int hk_capture_resize(struct hk_capture *c, uint64_t lease, uint16_t volume, uint64_t bytes,
                      const struct hk_now *now);
/* That holds now. */
uint64_t hk_capture_volume_bytes(const struct hk_capture *c, uint16_t volume);
/* As far as the core is concerned; the same answers, nothing done; but -EALREADY when the volume
 * has that size, or is about to: then its new part must not be zeroed any more. */
int hk_capture_may_resize(const struct hk_capture *c, uint64_t lease, uint16_t volume,
                          uint64_t bytes);

/* Time: degradation after T without contact or progress, pacing bound, ceiling. */
void hk_capture_tick(struct hk_capture *c, const struct hk_now *now);
uint64_t hk_capture_deadline_ns(const struct hk_capture *c); /* monotonic; UINT64_MAX: none */

/* The core needs a flush of every origin, starting now; asked for once, until origins_flushed. */
bool hk_capture_wants_flush(struct hk_capture *c, const struct hk_now *now);
/*
 * Every origin was flushed, with this result: since wants_flush said so, or, unasked, after the
 * last origin operation had ended.
 */
void hk_capture_origins_flushed(struct hk_capture *c, int result, const struct hk_now *now);
/* Clean stop: no new ops; true once nothing is in flight and everything is durable (or the policy
 * says not to wait), after which one last meta write says clean. It says so only of flushed
 * origins: what is clean must still be equal after a power cut. */
bool hk_capture_stop(struct hk_capture *c, const struct hk_now *now);

struct hk_capture_status {
    enum hk_group_state state;
    uint64_t state_since_ns; /* realtime */
    struct hk_super super;   /* what is durable, and those flags that are to be set */
    struct hk_lsn produced, released, acked, durable, ceiling;
    /* The oldest record that is not released: where a reader may begin. What was released may be
     * overwritten at any moment, though its slot be still in use. */
    uint64_t tail; /* slot index */
    struct hk_lsn tail_lsn;
    uint32_t slots_used, slots_total, waiting, held;
    uint64_t payload_used, payload_total;
    uint64_t writes, bytes, uncaptured, origin_errors;
    uint32_t regions_active, regions_hot, regions_stale; /* of the dirty map */
    uint32_t regions_spooled;
    uint64_t stale_bytes;
    uint64_t meta_writes; /* of superblock, activity log and map */
    uint64_t copies_lost; /* records whose copy in the ring was found damaged */
    bool attached;
    bool in_sync; /* mode sync holds for every write acknowledged so far (I9, I18) */
    bool passing; /* writes are not captured */
    bool barred;  /* block policy, and the standby may differ: no write may complete until … */
    bool closed;  /* no LSNs any more in this epoch: hk_capture_return() is awaited */
    bool resync;  /* stale regions, or the resync-end that heals them is not durable */
    uint64_t resync_pass;    /* of the newest resync-begin; 0: none yet */
    struct hk_lsn resync_at; /* end of the newest resync-begin in the log; 0: none is open */
    uint64_t bad_ranges;     /* blocks that could not be read, in this life */
    uint32_t uncaptured_in_flight, blocks_in_flight;
    struct hk_lsn mode_end; /* end of the newest mode record; 0: none yet */
};
void hk_capture_status(const struct hk_capture *c, struct hk_capture_status *ret);
/* The state alone, for those who look often. */
enum hk_group_state hk_capture_state(const struct hk_capture *c);
/* How many control records were published inside calls of the core: when it has grown, a reader
 * that sleeps is to be woken, as after a publish. */
uint64_t hk_capture_controls(const struct hk_capture *c);

/*
 * May the volumes be served at all (reads too)? Not before redo is complete; under on-link-loss =
 * block not before everything an earlier life left behind is with the standby, else a client reads
 * a block that only the primary has. False for ever while `barred`.
 */
bool hk_capture_serving(const struct hk_capture *c);

#endif
