/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's spool: when the standby is away or slow, log goes from the ring to files, in order,
 * so that the ring gets room; it is sent from there. A journal of its own (store/journal.h, the
 * same format, HK_FILE_SPOOL_*) with two windows of memory: one the writer fills from the ring, one
 * the sender reads from.
 *
 * What it holds is one contiguous piece [first, durable) of the last epoch, and first is at or
 * below what the standby had durable when the piece began. So [standby's durable, durable) is
 * always here, and what is below `durable` may be released from the ring. When the standby has
 * caught up, the writer may stop; when it writes again further on, the log in between is left out
 * (hk_journal_skip) and everything older is void.
 *
 * The reading window holds [read_first, read_end), checked record by record: what failed a hash is
 * never in it. It begins at what the standby acknowledged, so that whatever was sent from it and is
 * lost can be sent again.
 *
 * - A write that failed is final: nothing more is written, what is durable can still be read.
 * - A record that can't be read back whole: bad_lsn. Nothing from there on comes into the window.
 * - A new epoch: all is void (its parent ended where the standby was).
 *
 * Owned by the primary's group; one thread; no clock. Completions with HK_OWNER_SPOOL come here.
 */
#ifndef HK_STORE_SPOOL_H
#define HK_STORE_SPOOL_H

#include "replicator/store/journal.h"

enum {
    HK_SPOOL_TIMES = 64,              /* known capture times of what is held */
    HK_SPOOL_WINDOW_BYTES = 2 << 20,  /* each of the two, at least */
    HK_SPOOL_EAGER = 2,               /* batches written at once whatever their size … */
    HK_SPOOL_BATCH_BYTES = 256 << 10, /* … beyond them only from this size on */
};

enum hk_spool_state {
    HK_SPOOL_NONE = 0,   /* not configured */
    HK_SPOOL_NEW,        /* the history is not known yet */
    HK_SPOOL_RECOVERING, /* nobody may be told yet what can be sent */
    HK_SPOOL_RUNNING,
    HK_SPOOL_READ_ONLY, /* a write failed: what is durable is sent, nothing more comes to it */
    HK_SPOOL_FAILED,    /* nothing can be read: recovery found damage or another's files */
};

struct hk_spool_cfg {
    struct hk_disk *disk;
    struct hk_uuid group_id;
    uint8_t *window;       /* window_bytes, 4096-aligned: the writer's half, then the reader's */
    uint64_t window_bytes; /* a power of two, ≥ 2 × HK_SPOOL_WINDOW_BYTES */
    uint64_t segment_bytes;
    uint32_t segment_count; /* 0: no spool */
    /* Pieces of published log in the ring, as hk_source.gather. */
    int (*gather)(void *arg, uint64_t lsn, uint32_t bytes, struct hk_iovec *iov, int max);
    void *gather_arg;
};

struct hk_spool {
    enum hk_spool_state state;
    int error;             /* READ_ONLY, FAILED */
    bool full;             /* the last append found no segment to recycle */
    uint64_t bad_lsn;      /* a record that could not be read back; 0: none */
    uint64_t copy_bad_lsn; /* a record whose copy in the ring is damaged: not taken; 0: none */
    /* private */
    struct hk_spool_cfg cfg;
    struct hk_journal journal;
    struct hk_journal_reader reader;
    uint64_t half_bytes;
    uint64_t first;  /* the piece begins here; 0: nothing is held */
    uint64_t copied; /* writer's window: end of what was copied */
    uint64_t read_first, read_end;
    uint32_t read_errors;
    struct hk_epoch epoch;
    bool epoch_due; /* it is to be begun in the journal, once nothing is in flight */
    struct {
        uint64_t lsn, time_ns; /* records at and above lsn are no older */
    } time[HK_SPOOL_TIMES];
    uint32_t time_count;
};

size_t hk_spool_memory(const struct hk_spool_cfg *cfg);
/* segment_count 0: state NONE, all calls are harmless. -EINVAL, -ENOMEM. */
int hk_spool_init(struct hk_spool *sp, const struct hk_spool_cfg *cfg, struct hk_arena *arena);

/* The capture side told the history: recovery begins (NEW), or another epoch does. */
void hk_spool_start(struct hk_spool *sp, const struct hk_history *history,
                    const struct hk_uuid *replica_id);
void hk_spool_disk_done(struct hk_spool *sp, struct hk_diskop *op);
/* All that is held is void: it is not of this log. Nothing is written before the next epoch. */
void hk_spool_forget(struct hk_spool *sp);

/* May be asked what it holds (NONE and FAILED hold nothing). */
bool hk_spool_ready(const struct hk_spool *sp);
bool hk_spool_writable(const struct hk_spool *sp);
/* Durable here and contiguous: [first, end). Both 0: nothing is held. */
uint64_t hk_spool_first(const struct hk_spool *sp);
uint64_t hk_spool_end(const struct hk_spool *sp);
/* End of what was given to be written. */
uint64_t hk_spool_appended(const struct hk_spool *sp);
uint64_t hk_spool_used(const struct hk_spool *sp);
uint64_t hk_spool_total(const struct hk_spool *sp);

/* The standby has all below lsn durably: files may be recycled. */
void hk_spool_durable(struct hk_spool *sp, uint64_t lsn);
/*
 * Writes on, up to `to` (end of what the ring holds); the ring holds all from `ring_from` on, and
 * the standby has all below `standby`. Begins a new piece at `standby` when the old one lies below.
 */
void hk_spool_write(struct hk_spool *sp, uint64_t standby, uint64_t ring_from, uint64_t to);
/* Fetches what the sender will need: from `acked` on, as far as the ring does not have it. */
void hk_spool_prefetch(struct hk_spool *sp, uint64_t acked, uint64_t ring_from);
/* Pieces of [lsn, lsn + bytes) in the reading window; -ERANGE. */
int hk_spool_gather(const struct hk_spool *sp, uint64_t lsn, uint32_t bytes, struct hk_iovec *iov,
                    int max);
/* Capture time that the first record which ends above lsn is no older than; 0: not known. */
uint64_t hk_spool_time_at(const struct hk_spool *sp, uint64_t lsn);

#endif
