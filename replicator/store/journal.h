/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's journal: a chain of batches in segment files that were preallocated and written
 * before (proto/SPEC.md, segments). It makes log bytes durable, gives them back, and after a crash
 * says how far they reach.
 *
 * Writing. A batch (its header page and its stream pages) is one WRITE_DSYNC; up to
 * HK_JOURNAL_INFLIGHT are in flight; `durable` is the end of the contiguous prefix of completed
 * ones. A batch's header carries `durable` of that moment as its stamp. A segment is taken only
 * when all batches before it are durable: its header is written (durable), then it is renamed and
 * the directory synced, and no batch in it counts before that. A failed write is final (I11).
 *
 * Recovery. Starts at the newest segment that begins at or below `applied` and follows the chain:
 * each batch must be of the expected epoch, begin at the expected LSN, and pass header hash, data
 * hash and the walk through its records. Where the chain ends, the rest of the segment is searched
 * for what a lost batch may have left, and so are files whose own header is damaged. Everything
 * that was read is flushed before it counts, since it may still be in a volatile cache of a process
 * that was killed. Recovery writes nothing but the name of the newest segment, so it may be cut off
 * and started again at any point.
 *
 * Why nothing stale is ever taken for current
 * - Recycled files hold batches of earlier lives. A file is recycled only when all of it lies at or
 *   below `applied`, so whatever it held has LSNs below the first LSN of its new life. The chain
 * only accepts the expected LSN, which is not below that, and the expected epoch. LSNs are never
 * reused along a line of history.
 * - Behind a hole (several were in flight, an earlier one was lost) later batches may be whole. The
 *   chain stops at the hole. When the log is sent again it may be cut differently, and once the
 * hole is filled the chain may run into such an old batch: it is of this epoch, begins where the
 * chain stands and passes its hashes, and one (epoch, LSN) has one content, so it is the log. It
 * may be more than what was reported, never something else. Across a promotion the same holds
 * because the chain of an epoch never goes past the parent_end that history gives it: what lay
 * behind the hole at promotion is beyond that and stays unreachable.
 * - A segment whose header is old although its content is new can't be: no batch is submitted
 * before the header's write is durable. So a current batch under a header that is not its own
 * (blank, damaged, old) is damage, not a crash, and stops recovery.
 *
 * Verdicts. Damage below the last durable stamp seen anywhere, below the first LSN of a later
 * segment, below `applied` or below an epoch's end given by history is CORRUPT: fail-stop. A stamp
 * is never a lie, wherever it is found, so a stale one proves the same. Damage beyond all of them
 * is TORN: torn or corrupt, `lost_bytes`, can't tell. CLEAN means that nothing was seen beyond the
 * end; a batch of which nothing at all reached the disk leaves nothing to see. User bytes lie in
 * the files at page boundaries; what keeps a page of them from counting as a batch is the 128-bit
 * epoch id in its header and in the seed of its hash, which no writer of a volume is ever told.
 *
 * Room. Segments are recycled oldest first, only when wholly at or below `applied` (as durably
 * stored) and not being read. Retention is only a preference and yields first.
 *
 * Owned by one reactor thread; called by the group and by apply. Nothing is called back: the caller
 * looks at state, durable and room after hk_journal_disk_done().
 */
#ifndef HK_STORE_JOURNAL_H
#define HK_STORE_JOURNAL_H

#include "proto/history.h"
#include "proto/record.h"
#include "proto/segment.h"
#include "replicator/store/disk.h"

enum {
    HK_JOURNAL_INFLIGHT = 8,     /* batches being written at once */
    HK_JOURNAL_CHECKPOINTS = 64, /* known batch positions a segment, for reading from the middle */
    HK_JOURNAL_READERS = 2,
    /* Scan and read memory: any batch with its header fits, whatever wrote it. */
    HK_JOURNAL_READ_BYTES = HK_BATCH_HEADER_BYTES + HK_BATCH_BYTES_MAX + 2 * HK_PAGE_BYTES,
};

enum hk_journal_state {
    HK_JOURNAL_NEW = 0,
    HK_JOURNAL_RECOVERING,
    HK_JOURNAL_RUNNING,
    HK_JOURNAL_FAILED, /* final; see error and, from recovery, result.verdict */
};

enum hk_journal_verdict {
    HK_JOURNAL_CLEAN = 0,
    HK_JOURNAL_TORN,       /* "torn or corrupt, N bytes, can't tell"; the journal runs */
    HK_JOURNAL_CORRUPT,    /* below what had been reported durable: fail-stop */
    HK_JOURNAL_FOREIGN,    /* segments of another group or replica, or of an epoch that the
                                     superblock does not know: nothing here may be overwritten */
    HK_JOURNAL_UNREADABLE, /* an I/O error */
    HK_JOURNAL_VERDICTS
};

struct hk_journal_result {
    enum hk_journal_verdict verdict;
    int error;           /* 0; -EUCLEAN, -EMEDIUMTYPE or the disk's -errno */
    uint64_t begin;      /* a spool: its chain begins here */
    uint64_t end;        /* next LSN expected, in the last epoch of the history */
    uint32_t prev_bytes; /* size of the record that ends there; 0 at the epoch's first LSN;
                            HK_PREV_UNKNOWN: it was not read */
    uint64_t turn_lsn;   /* end of the newest gap, resync-begin or resync-end; 0: none was seen */
    uint8_t turn_type;
    uint64_t lost_bytes; /* TORN: log bytes of which something was seen beyond the end */
    uint64_t stamp;      /* highest durable stamp seen, 0 if none */
    uint64_t bad_lsn;    /* CORRUPT: where the damage is */
    uint32_t bad_slot;   /* CORRUPT, FOREIGN: in which segment slot */
    enum hk_segment_fault
        segment_fault; /* why the chain ended, if not at something never written */
    enum hk_record_fault record_fault;
    uint64_t scanned_bytes;
};

struct hk_journal_cfg {
    struct hk_disk *disk;
    struct hk_uuid group_id, replica_id; /* replica_id: set before hk_journal_recover() */
    const uint8_t *window;               /* ring of log bytes addressed by LSN modulo its size */
    uint64_t window_bytes;  /* a power of two, ≥ HK_RECORD_BYTES_MAX rounded up to pages */
    uint64_t segment_bytes; /* multiple of 4096, ≥ hk_journal_segment_bytes_min() */
    uint32_t segment_count; /* ≥ 2 */
    /*
     * A primary's spool (store/spool.h): files and completions of its own; it may leave log out
     * that the standby has (hk_journal_skip); what was durable is read also after a failed write.
     */
    bool spool;
    /* Recovery found this batch whole; called inside hk_journal_disk_done. NULL: nobody asks. */
    void (*found)(void *arg, uint64_t first_lsn, uint64_t time_ns);
    void *found_arg;
};

struct hk_journal_segment {
    bool live;   /* part of the log; else free */
    bool begins; /* a spool's chain begins here (HK_SEGMENT_BEGINS) */
    uint32_t ordinal;
    uint32_t readers;
    struct hk_uuid epoch_id;
    uint64_t first_lsn, end_lsn; /* end_lsn: of what is durable */
    uint64_t end_offset;         /* where the next batch begins, 0 if not known (not scanned) */
    uint64_t checkpoint_lsn[HK_JOURNAL_CHECKPOINTS]; /* 0: not known */
    uint64_t checkpoint_offset[HK_JOURNAL_CHECKPOINTS];
};

struct hk_journal_slot { /* one batch in flight */
    struct hk_diskop op;
    uint8_t *page; /* header, copy of the first page, copy of the last page */
    uint64_t end_lsn, end_offset;
    uint32_t segment;
    bool done;
};

/*
 * Reads the journal in order. Embedded in its user. One read fetches as much as the buffer holds,
 * so small batches do not cost a read each.
 */
struct hk_journal_reader {
    /* valid after hk_journal_read() returned 0, until the next call with this reader */
    uint32_t ordinal;    /* epoch of these bytes */
    uint64_t first, end; /* log bytes [first, end): a whole batch, or its rest from `lsn` */
    const uint8_t *data; /* byte `first` */
    /* private */
    struct hk_diskop op;
    uint8_t *buffer;                  /* HK_JOURNAL_READ_BYTES, 4096-aligned */
    uint32_t segment;                 /* which the buffer holds a piece of; UINT32_MAX none */
    uint64_t segment_first;           /* its first LSN then, to notice recycling */
    uint64_t offset, bytes;           /* piece of the file in the buffer */
    uint64_t batch_offset, batch_lsn; /* a batch start in it: given last, or looked for */
    int error;
    bool busy;
};

struct hk_journal {
    enum hk_journal_state state;
    int error;                       /* FAILED: -errno */
    struct hk_journal_result result; /* of the recovery; valid when RUNNING, or FAILED by it */
    /* private */
    struct hk_journal_cfg cfg;
    struct hk_journal_segment *segment; /* segment_count */
    uint32_t *order;                    /* live ones, oldest first */
    uint32_t live_count;
    struct hk_uuid epoch_id;
    uint32_t ordinal; /* 0: no epoch yet */
    uint64_t end;     /* next LSN to append */
    uint64_t durable;
    uint64_t applied, retain;
    uint32_t current; /* segment being filled, UINT32_MAX none */
    uint64_t offset;  /* in it, for the next batch */
    enum { HK_JOURNAL_OPEN, HK_JOURNAL_HEADER, HK_JOURNAL_RENAME, HK_JOURNAL_SYNC } taking;
    uint32_t taken;    /* the segment being taken, until its header is durable */
    bool want_segment; /* the next batch does not fit, or an epoch begins */
    bool begins;       /* … and it is the first of a spool's chain */
    bool named;        /* current's name is durable */
    struct hk_journal_slot slot[HK_JOURNAL_INFLIGHT];
    uint32_t slot_head, slot_count; /* FIFO of those in flight */
    struct hk_diskop op;            /* header, rename, directory; recovery */
    uint8_t *page;                  /* two pages: segment header, recovery's look at a file */
    char name[HK_SEGMENT_NAME_BYTES];
    struct hk_journal_reader *reader[HK_JOURNAL_READERS];
    uint32_t reader_count;
    struct hk_journal_recovery *recovery;
    uint8_t *scan;                /* HK_JOURNAL_READ_BYTES: recovery's, then the first reader's */
    uint64_t recycled_count;      /* segments taken again that held log */
    uint64_t retention_cut_count; /* of them, those that retention would have liked to keep */
};

/* Smallest segment that holds its header and one batch with the largest record. */
uint64_t hk_journal_segment_bytes_min(void);
size_t hk_journal_memory(const struct hk_journal_cfg *cfg); /* arena bytes, one reader included */
size_t hk_journal_reader_memory(void);                      /* for each further one */
/* -EINVAL: cfg breaks a bound given above. -ENOMEM: the arena is too small. */
int hk_journal_init(struct hk_journal *j, const struct hk_journal_cfg *cfg, struct hk_arena *arena);

/*
 * Starts recovery: NEW → RECOVERING → RUNNING or FAILED. `history` and `applied` are as durably
 * stored; an `applied` of 0 means "nothing yet" and counts as the first epoch's first LSN. The
 * history is copied. An empty one means that no epoch is known: the journal must then be empty.
 * Afterwards the journal stands at result.end in the history's last epoch.
 * A spool finds out by itself where its chain begins: at the newest segment that says so, else the
 * oldest, of the last epoch; `applied` is not looked at.
 */
void hk_journal_recover(struct hk_journal *j, const struct hk_history *history, uint64_t applied);
/* For every completed op with owner HK_OWNER_JOURNAL (HK_OWNER_SPOOL for a spool). */
void hk_journal_disk_done(struct hk_journal *j, struct hk_diskop *op);

/*
 * A new epoch: appends go on at first_lsn in a new segment. The caller has stored the history that
 * names it, and durable == the parent's end. 0, -EAGAIN (writes are in flight: ask again after
 * disk_done), -EINVAL (ordinal or LSN not above what is here), or error when FAILED.
 */
int hk_journal_begin_epoch(struct hk_journal *j, uint32_t ordinal, const struct hk_uuid *id,
                           uint64_t first_lsn);

/*
 * A spool leaves out log that is durable at the standby: appends go on at `lsn`, in a new segment.
 * Everything below may be recycled. 0, -EAGAIN (writes are in flight), or error when FAILED.
 */
int hk_journal_skip(struct hk_journal *j, uint64_t lsn);

/* Largest `bytes` an append may have; ≥ HK_RECORD_BYTES_MAX. */
uint64_t hk_journal_batch_bytes_max(const struct hk_journal *j);
/*
 * Writes whole records [first_lsn, first_lsn + bytes) of the window as one batch; first_lsn is
 * where the last append ended (hk_journal_end). These window bytes must not change until durable.
 * 0; -EAGAIN (all slots in flight, or a segment is being taken: ask again after disk_done);
 * -ENOSPC (no segment can be recycled until `applied` moves); or error when FAILED.
 */
int hk_journal_append(struct hk_journal *j, uint64_t first_lsn, uint64_t bytes);
/* false: hk_journal_append would certainly say -EAGAIN, whatever the batch; not worth preparing. */
bool hk_journal_takes(const struct hk_journal *j);

uint64_t hk_journal_end(const struct hk_journal *j);     /* appended so far */
uint64_t hk_journal_durable(const struct hk_journal *j); /* all below may be reported */
bool hk_journal_idle(const struct hk_journal *j);        /* nothing being written */

/* `applied` has been stored durably: segments wholly below may be recycled. Never goes back. */
void hk_journal_applied(struct hk_journal *j, uint64_t lsn);
/* Log from here on is wanted for looking back; below it segments are recycled before free ones. */
void hk_journal_retain(struct hk_journal *j, uint64_t lsn);

/* Bytes of files that hold log above `applied` (the current segment as far as it is filled). */
uint64_t hk_journal_used(const struct hk_journal *j);
/* Bytes of files that hold log at all, applied or not. */
uint64_t hk_journal_held(const struct hk_journal *j);
uint64_t hk_journal_total(const struct hk_journal *j);
/* Oldest LSN still held; `end` when nothing is. */
uint64_t hk_journal_oldest(const struct hk_journal *j);

/* -ENOMEM; -ENOSPC more than HK_JOURNAL_READERS. */
int hk_journal_reader_init(struct hk_journal *j, struct hk_journal_reader *r,
                           struct hk_arena *arena);
/*
 * Log bytes from `lsn` on (a record boundary of the line, below durable). Call it again after
 * disk_done as long as it says -EINPROGRESS. 0: r is filled in, hashes of batch header and data
 * checked; -ENODATA: at or above durable; -ERANGE: not held any more; -EUCLEAN: what is there is
 * not what had been made durable (fail-stop); or the disk's -errno.
 */
int hk_journal_read(struct hk_journal *j, struct hk_journal_reader *r, uint64_t lsn);

const char *hk_journal_verdict_text(enum hk_journal_verdict v);

#endif
