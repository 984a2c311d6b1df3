/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The inside of the capture core. Everything here is called under the group's lock, except
 * hk_capture_publish, which only reads what is fixed at init (ring addresses, epoch) and writes the
 * one slot its op owns.
 *
 * Invariants, checked by asserts where they are used:
 *   tail ≤ unreleased ≤ published ≤ head ≤ tail + slot_count
 *   payload_tail ≤ payload_head ≤ payload_tail + bytes
 *   durable ≤ acked ≤ produced ≤ next_lsn ≤ ceiling of the durable super, and released ≤ produced
 *   an op stands in at most one of waiting, held, failed, ready; and in a range list exactly from
 *   admission to written()
 */
#ifndef HK_CAPTURE_INTERNAL_H
#define HK_CAPTURE_INTERNAL_H

#include "driver-glue/capture/capture.h"
#include "driver-glue/capture/dirty.h"
#include "driver-glue/capture/dirty_state.h"

/* Marks a replicator may have in the ring at once; it must not be able to fill it (I6). */
enum { HK_CAPTURE_MARKS_MAX = 16 };
/* Kept free of writes, so that gap, mode, sizes and mark records find room in a full ring. */
enum { HK_CAPTURE_CONTROL_SLOTS = 5, HK_CAPTURE_CONTROL_BYTES = 5 * HK_PAGE_BYTES };

enum hk_op_stage {
    HK_OP_IDLE = 0,
    HK_OP_WAITING,   /* for range, room, ceiling or metadata */
    HK_OP_COPYING,   /* reserved; the caller copies and publishes */
    HK_OP_SUBMITTED, /* the caller writes the origin */
    HK_OP_HELD,      /* locally complete; the standby's ack is awaited */
    HK_OP_FAILED,    /* origin error; the durable flag is awaited */
    HK_OP_BLOCK,     /* a block: for room, then for its range */
    HK_OP_READING,   /* a block: the caller reads the origin */
    HK_OP_READY_READ,
    HK_OP_READY_COPY,
    HK_OP_READY_SUBMIT,
    HK_OP_READY_DONE,
    HK_OP_READY_FAIL,
};

/* Why the waiting queue's scan stopped. */
enum hk_stall {
    HK_STALL_NONE = 0, /* it did not: whoever still waits, waits for a range */
    HK_STALL_GATE,     /* metadata, redo or the opening records come first */
    HK_STALL_CEILING,
    HK_STALL_ROOM,
    HK_STALL_MARK, /* its regions' marks are on their way; who comes behind may go before */
    HK_STALL_HOT,  /* no region can be marked before others are clear */
};

/* How completions are honoured in mode sync and semisync. */
enum hk_sync_stage {
    HK_SYNC_WAITING,   /* every completion waits for the standby */
    HK_SYNC_DEGRADING, /* the flag is on its way to the metadata; completions still wait */
    HK_SYNC_DEGRADED,  /* the flag is durable; completions are local */
    HK_SYNC_REJOIN,    /* from the new mode record on every completion waits; flag still durable */
};

struct hk_op_list {
    struct hk_op *first, *last;
    uint32_t count;
};

/* Set aside for blocks that have no LSN yet. */
struct hk_credit {
    uint32_t slots;
    uint64_t payload_bytes; /* with what a wrap may skip */
    uint64_t log_bytes;
};

struct hk_capture {
    struct hk_capture_cfg cfg;
    /* What holds until the standby has stored the mode record: the stricter of old and new. */
    enum hk_mode mode;
    enum hk_link_loss on_link_loss;
    uint64_t contact_timeout_ns;

    /* The ring: addresses and sizes are fixed at init. */
    struct hk_ring_header *header;
    struct hk_ring_producer *producer;
    struct hk_record *slots;
    struct hk_ring_side *sides;
    uint8_t *payload;
    uint64_t slot_mask;
    uint64_t slot_count;
    uint64_t payload_bytes;
    uint64_t epoch_seed;
    uint32_t epoch_ordinal;

    /* Own copies of the positions; the ring's words are written, never read back. */
    uint64_t head, tail, published; /* slot indexes */
    uint64_t epoch_head;            /* slot index of the epoch's first record */
    uint64_t unreleased; /* slot index: oldest the replicator did not release; ≥ tail */
    uint64_t next_lsn;
    uint64_t produced; /* end of the published prefix */
    uint64_t released, acked, durable;
    uint64_t payload_head, payload_tail;
    uint64_t last_time_ns;
    uint32_t prev_bytes;
    uint32_t marks;    /* mark records in the ring */
    uint64_t controls; /* control records published by this life */

    uint64_t redo_next, redo_end; /* slot indexes; equal: no redo left */
    bool redo_out;                /* one handed out, redo_done awaited */
    uint64_t serve_lsn;           /* what an earlier life produced */

    struct hk_op_list waiting, held, failed, ready;
    struct hk_op *range[HK_VOLUMES_MAX];
    uint32_t in_flight; /* between admission and written() */
    enum hk_stall stall;
    uint32_t ceiling_need; /* 0 until a record met the ceiling, then the largest */
    bool rescan;           /* a waiter was cancelled */

    /*
     * Metadata: what should be durable, what is, and what a failed or running write may have made.
     */
    struct hk_super want, super;
    bool meta_dirty, meta_in_flight, meta_backoff;
    uint32_t meta_slots; /* written in this life, 2 at most: nothing is relied on before */
    uint32_t issued_or, issued_and; /* flags of every write issued since the last success */
    struct hk_super issued;
    uint64_t meta_failed_since_ns; /* 0: the last one succeeded */
    uint64_t meta_retry_ns;
    uint32_t meta_failures;
    bool meta_is_dirty; /* the write under way is the dirty map's */
    bool meta_bad[2];   /* the last one failed, of the superblock and of the dirty map */
    uint64_t meta_writes;
    struct hk_dirty dirty; /* its own part */

    /* Policy. */
    enum hk_sync_stage stage;
    bool closed; /* no LSNs any more in this epoch: the log has a hole, or its end is lost */
    bool passing, barred, behind_wanted;
    bool pass_held;        /* passing, but nothing may be acknowledged before … */
    uint64_t pass_from_ns; /* … then: T after the standby may have heard of an earlier life */
    bool copy_lost;        /* the log has a hole: a copy in the ring is damaged */
    uint64_t copies_lost;
    bool pending_gap, pending_mode, pending_rejoin;
    bool pending_sizes;    /* the log does not say them yet, or not in this life or epoch */
    uint32_t resize_slots; /* superblocks that have a size which the log does not say: 2 needed */
    uint64_t mode_end;
    uint64_t rejoin_target, rejoin_since_ns;
    bool stopping, stopped;
    bool origins_flushed; /* since the last origin operation ended */

    /* Epochs and resync (epoch.c). */
    struct hk_uuid next_epoch; /* kept ready by the caller; nil: one is wanted */
    bool returning;            /* `want` has the next one; it begins when that is durable */
    bool over; /* …, and it is durable: what is left of the old one is done with */
    uint64_t closed_ns;
    bool ring_lost;      /* only the standby knows how much of the log it has */
    bool all_stale;      /* the standby may be anywhere */
    uint64_t broken_lsn; /* with copy_lost: the first record that can't be sent */
    bool begin_first;    /* resync-begin precedes the first write of this life */
    uint64_t resync_lsn, resync_at, resync_end; /* begin, end of begin (0: not open), end of end */
    uint64_t resync_pass;
    bool resync_whole; /* everything was stale at the last resync-begin of this life … */
    bool resync_bad;   /* … and something could not be read since */
    uint32_t uncaptured_in_flight;

    /* Blocks (block.c). */
    struct hk_op_list blocks; /* waiting */
    struct hk_credit credit;
    uint32_t blocks_out; /* with a credit, or being copied */
    bool blocks_short;   /* the first without a credit waits for room */
    uint64_t bad_ranges;

    uint64_t lease;
    bool attached;
    uint64_t contact_ns, report_ns, detached_since_ns;
    uint64_t hold_stall_ns;  /* since when the awaited watermark has not moved */
    uint64_t drain_stall_ns; /* since when nothing was released */
    uint64_t room_since_ns;  /* since when writers wait for room */
    bool spool_room;         /* the replicator's spool takes what the ring can't hold */
    bool paced;              /* writers waited for room, and there was no lasting headroom since */
    bool calm;               /* there is headroom, since … */
    uint64_t calm_ns, calm_tail;
    bool overflow_blocked; /* by policy they wait without bound, and have waited for long */

    enum hk_group_state state;
    uint64_t state_since_ns; /* realtime */
    uint64_t pace_since_ns;  /* monotonic start of pacing */
    uint64_t writes, bytes, uncaptured, origin_errors;

    /* A slot as it goes to the metadata; aligned for direct I/O. */
    uint8_t meta_slot[HK_SUPER_BYTES] __attribute__((aligned(4096)));
};

/*
 * Callers read the clock before they take the lock, so a call may be a little older than the one
 * before it. That is no time passed, not an eternity.
 */
static inline uint64_t hk_elapsed_ns(uint64_t now_ns, uint64_t since_ns)
{
    return now_ns > since_ns ? now_ns - since_ns : 0;
}

/* ring.c */
struct hk_reserve {
    uint8_t type, flags;
    uint16_t volume;
    uint64_t offset;
    uint32_t length, payload_len;
};
struct hk_reserved {
    uint64_t slot, lsn, end;
    void *payload;
};
void hk_capture_map_ring(struct hk_capture *c, void *ring);
bool hk_capture_room(const struct hk_capture *c, uint32_t payload_len, bool control);
void hk_capture_reserve(struct hk_capture *c, const struct hk_reserve *r, uint64_t real_ns,
                        struct hk_reserved *ret);
void hk_capture_publish_slot(const struct hk_capture *c, uint64_t slot, uint64_t lsn,
                             const void *payload);
void hk_capture_mark_done(struct hk_capture *c, uint64_t slot);
void hk_capture_advance_published(struct hk_capture *c);
void hk_capture_advance_tail(struct hk_capture *c);
/* Takes over the positions of a ring that hk_ring_check has passed; voids what was unpublished. */
void hk_capture_load_ring(struct hk_capture *c);

/* range.c */
void hk_op_list_push(struct hk_op_list *l, struct hk_op *op);
void hk_op_list_push_by_end(struct hk_op_list *l, struct hk_op *op);
void hk_op_list_remove(struct hk_op_list *l, struct hk_op *op);
bool hk_op_overlaps(const struct hk_op *a, const struct hk_op *b);
bool hk_range_busy(const struct hk_capture *c, const struct hk_op *op);
/* Does an op that waits before `op` (all of them, if op is not queued) overlap it? */
bool hk_range_queued(const struct hk_capture *c, const struct hk_op *op);
void hk_range_lock(struct hk_capture *c, struct hk_op *op);
void hk_range_unlock(struct hk_capture *c, struct hk_op *op);

/* meta.c */
bool hk_meta_surely_set(const struct hk_capture *c, uint32_t flags);
bool hk_meta_surely_clear(const struct hk_capture *c, uint32_t flags);
/* Neither slot says "clean" any more, durably: from here on LSNs may be handed out. */
bool hk_meta_started(const struct hk_capture *c);
void hk_meta_set(struct hk_capture *c, uint32_t flags);
void hk_meta_clear(struct hk_capture *c, uint32_t flags);
void hk_meta_plan_ceiling(struct hk_capture *c);
/* Metadata has been failing for longer than the pace bound: who waits for it must fail. */
bool hk_meta_dead(const struct hk_capture *c, uint64_t mono_ns);

/* ring.c: where the epoch stands, for a successor */
void hk_capture_write_producer(struct hk_capture *c, const struct hk_epoch *epoch);

/* epoch.c */
bool hk_epoch_unequal(const struct hk_capture *c); /* some region may differ */
bool hk_epoch_resync(const struct hk_capture *c);  /* …, or resync-end is not durable yet */
/* Acknowledgements of a closed epoch are held until the resync has ended. */
bool hk_epoch_owes(const struct hk_capture *c);
void hk_epoch_close(struct hk_capture *c, const struct hk_now *now);
void hk_epoch_step(struct hk_capture *c, const struct hk_now *now);
bool hk_epoch_wants_begin(const struct hk_capture *c);
void hk_epoch_begun(struct hk_capture *c, const struct hk_reserved *r);
bool hk_epoch_wants_end(const struct hk_capture *c);
void hk_epoch_ended(struct hk_capture *c, const struct hk_reserved *r);

/* block.c */
int hk_block_check(const struct hk_capture *c, const struct hk_op *op); /* 0 or -EINVAL */
enum hk_step hk_block_begin(struct hk_capture *c, struct hk_op *op, const struct hk_now *now);
void hk_block_step(struct hk_capture *c);
enum hk_step hk_block_copied(struct hk_capture *c, struct hk_op *op);
void hk_block_cancel(struct hk_capture *c, struct hk_op *op);
/* Whoever asked for those that wait is gone. */
void hk_block_drop(struct hk_capture *c);
/* A block that waits for room came well before this op: it is its turn. */
bool hk_block_turn(const struct hk_capture *c, const struct hk_op *op);
/* An older block that has all but its range overlaps it. */
bool hk_block_queued(const struct hk_capture *c, const struct hk_op *op);

/* resize.c */
/* Each life and each epoch says the sizes of volumes that can grow, before any write. */
void hk_resize_say_all(struct hk_capture *c);
void hk_resize_durable(struct hk_capture *c);
bool hk_resize_may_say(const struct hk_capture *c);
void hk_resize_said(struct hk_capture *c);

/* control.c */
void hk_control_step(struct hk_capture *c, const struct hk_now *now);
void hk_control_gap_payload(const struct hk_capture *c, uint64_t lsn, struct hk_gap *ret);

/* policy.c */
bool hk_policy_waits(const struct hk_capture *c);         /* mode sync or semisync */
uint64_t hk_policy_watermark(const struct hk_capture *c); /* what completions wait for */
bool hk_policy_may_complete(const struct hk_capture *c, const struct hk_op *op);
uint32_t hk_policy_passing_flags(const struct hk_capture *c);
void hk_policy_note_record(struct hk_capture *c, const struct hk_now *now);
bool hk_policy_continues(const struct hk_capture *c);
bool hk_policy_alone_by_order(const struct hk_capture *c);
/* Nothing may be acknowledged that the standby could lose. */
bool hk_policy_forbids(const struct hk_capture *c);
/* Acknowledgements may be lost from here on: `degraded`, if it is for a mode that waits. */
void hk_policy_declare_alone(struct hk_capture *c, const struct hk_now *now);
bool hk_policy_declared_alone(const struct hk_capture *c); /* …, and that is durable */
uint64_t hk_policy_patience_ns(const struct hk_capture *c);
bool hk_policy_gate_open(const struct hk_capture *c);
void hk_policy_step(struct hk_capture *c, const struct hk_now *now);
void hk_policy_state(struct hk_capture *c, const struct hk_now *now);

/* capture.c: everything that follows from a change, in order. */
void hk_capture_settle(struct hk_capture *c, const struct hk_now *now);

#endif
