/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The dirty map: which regions of the origins may differ from the standby's replica (I1, I2).
 * Inside the capture core, under the group's lock; the bytes are proto/dmap's.
 *
 * A region may be
 *   hot     a mark of it is durable (or on its way) in the activity log; it has one of
 *           hot_regions_max slots. Every captured write needs its regions hot, durably, before it
 *           goes to the origin (hk_dirty_ready). A slot is emptied, or given to another region,
 *           only when nothing of its region is in flight, the standby's durable has passed the
 *           newest record, the origin was flushed behind the last write, and the region is not
 *           stale without the map saying so. On disk that happens lazily: the mark of a quiet
 *           region stays until somebody needs the slot or the group is idle.
 *   stale   it may differ for a reason that the log does not mend; only a compare after `since`
 *           without another event clears it. In memory first, then in the map (HK_SF_STALE says
 *           that there is one). An uncaptured write needs the stale bits of its regions durable in
 *           the map before it goes to the origin.
 *
 * What a crash must not lose: with the ring gone every hot region is stale. With the ring there hot
 * regions are active up to its end; that some are stale and the map does not know it yet, the
 * producer's page remembers (`lied`, one bit a volume: then every hot region of it is).
 *
 * Writes of the log, of the map and of the superblock go out one at a time, so what was decided
 * first is durable first. A log transaction that failed is repeated with the same bytes.
 *
 * Without a map (region_shift 0) every function here does nothing and says yes: FULL_COMPARE in the
 * superblock is all there is.
 */
#ifndef HK_CAPTURE_DIRTY_H
#define HK_CAPTURE_DIRTY_H

#include "driver-glue/capture/capture.h"

#define HK_DIRTY_NONE (~0u)
enum {
    HK_DIRTY_HEALS_MAX = 256, /* healed regions whose clear waits for durable and a flush */
};

enum hk_dirty_answer {
    HK_DIRTY_READY = 1,
    HK_DIRTY_ASKED, /* the mark is on its way: wait for it */
    HK_DIRTY_FULL,  /* no slot can be had until durable moves or an origin is flushed */
};

struct hk_dirty_status {
    bool on;
    uint32_t region_shift, regions, hot_max;
    uint32_t hot;    /* slots in use, quiet ones too: what a crash would make stale */
    uint32_t active; /* of these, with something in flight, not durable, or not flushed */
    uint32_t stale;  /* regions */
    uint32_t spooled;
    uint64_t stale_bytes;
    uint64_t log_writes, map_writes; /* metadata writes of this life */
    uint64_t events;                 /* staleness events */
};

bool hk_dirty_on(const struct hk_capture *c);

/* Inside hk_capture_init, once the ring's positions are known. -EINVAL: what does not fit. */
int hk_dirty_init(struct hk_capture *c, bool ring_lost);

/* Is each region of the op durably marked (captured) or durably stale (passing)? Else asks. The op
 * keeps its regions' slots until hk_dirty_done or hk_dirty_drop. */
enum hk_dirty_answer hk_dirty_ready(struct hk_capture *c, struct hk_op *op);
/* The op was admitted: it has its LSN, or (op->captured false) goes uncaptured. */
void hk_dirty_took(struct hk_capture *c, struct hk_op *op);
/* The origin's I/O has ended. An error makes its regions stale, a FLUSH's error the volume's. */
void hk_dirty_done(struct hk_capture *c, struct hk_op *op, int result);
/* A record of an earlier life could not be redone. */
void hk_dirty_redo_failed(struct hk_capture *c, const struct hk_record *r);
/* The op will not be admitted (cancelled, failed). */
void hk_dirty_drop(struct hk_capture *c, struct hk_op *op);
/* Is what the failed op made stale durable in the map, so that its error may be told? */
bool hk_dirty_told(const struct hk_capture *c, const struct hk_op *op);

/* A flush of the caller's own: hk_dirty_wants_flush takes note that it starts now. */
bool hk_dirty_wants_flush(struct hk_capture *c, const struct hk_now *now);
void hk_dirty_flushed(struct hk_capture *c, int result);

/* What follows from newer watermarks and finished writes; part of settle. */
void hk_dirty_step(struct hk_capture *c, const struct hk_now *now);
uint64_t hk_dirty_deadline_ns(const struct hk_capture *c);

/* No slot can be had because the standby lacks what they stand for. */
bool hk_dirty_waits_for_standby(const struct hk_capture *c);

/* The next metadata write of the log or of the map, if there is one; then its end. */
bool hk_dirty_meta(struct hk_capture *c, struct hk_capture_meta *ret);
/* Marks it would hold; 0: there is none; UINT32_MAX: it is more than marks. */
uint32_t hk_dirty_meta_marks(const struct hk_capture *c);
void hk_dirty_meta_done(struct hk_capture *c, int result);

/* Staleness events. `since` becomes the next LSN. */
void hk_dirty_stale_range(struct hk_capture *c, uint16_t volume, uint64_t offset, uint64_t bytes);
void hk_dirty_stale_hot(struct hk_capture *c); /* whatever the log says may be under way */
void hk_dirty_stale_all(struct hk_capture *c);
void hk_dirty_grown(struct hk_capture *c, uint16_t volume, uint64_t bytes);

/* What the replicator says is durable in its spool: [first, end). Only what can be is taken. */
void hk_dirty_spool_told(struct hk_capture *c, uint64_t first, uint64_t end);
/* A spooled bit of an earlier life; whole: the page that says so need not be written anew. */
void hk_dirty_spool_found(struct hk_capture *c, uint32_t region, bool whole);
/* Up to where records are kept without the ring: at the standby or in the spool. */
uint64_t hk_dirty_kept_to(const struct hk_capture *c);
/* Part of a step; pressed: slots are wanted, or there is time. */
void hk_dirty_spool_step(struct hk_capture *c, bool pressed);
/* The epoch ended at the standby's position: what lies beyond it will not come from any spool. */
void hk_dirty_spool_end(struct hk_capture *c, uint64_t standby);
/* Log from here on can't be read back. */
void hk_dirty_stale_spooled(struct hk_capture *c, uint64_t from);

/* Regions and bytes that are stale, healed ones too until their clear counts. */
uint32_t hk_dirty_stale(const struct hk_capture *c);
uint64_t hk_dirty_stale_bytes(const struct hk_capture *c);
/* Every region is stale, and none has been compared: what begins now compares all of it. */
bool hk_dirty_none_is_equal(const struct hk_capture *c);
/* Is every stale bit durable in the map? (Also: FULL_COMPARE is not needed any more.) */
bool hk_dirty_settled(const struct hk_capture *c);
/* May the log be declared void: nothing active, nothing on its way? For a clean stop. */
bool hk_dirty_quiet(const struct hk_capture *c);
/* Sequence of the newest log transaction, for hk_super.dmap_sequence. */
uint64_t hk_dirty_sequence(const struct hk_capture *c);

/* One stale region to compare: nothing uncaptured in it is in flight, and it is not healed yet. */
struct hk_stale {
    uint16_t volume;
    uint64_t offset, bytes;
    uint32_t event; /* as it is now; a heal must name it */
    uint64_t after; /* a compare is good once everything up to this LSN is applied */
};
/* The first one at or behind (volume, offset); false: none up to the end of the last volume. */
bool hk_dirty_next(const struct hk_capture *c, uint16_t volume, uint64_t offset,
                   struct hk_stale *ret);
/*
 * The region is equal once everything up to `end` is durable on the standby. 0; -EAGAIN: another
 * staleness event meanwhile, or too many heals under way; -EINVAL: no region begins there.
 */
int hk_dirty_heal(struct hk_capture *c, uint16_t volume, uint64_t offset, uint32_t event,
                  uint64_t end);

void hk_dirty_status(const struct hk_capture *c, struct hk_dirty_status *ret);

#endif
