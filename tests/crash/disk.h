/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An hk_disk in memory that remembers: every write is logged, and what a power cut may leave is
 * known sector by sector, so that it can be enumerated instead of drawn.
 *
 * Ops take effect when they complete. A sector that was written but is neither flushed nor part of
 * a completed WRITE_DSYNC is loose: after a cut it holds any of its loose versions, or what was
 * durable. So do the sectors of writes that are still pending. A FLUSH settles what had completed
 * before it was submitted.
 *
 * cdisk_mark() remembers the state, cdisk_reset() goes back to it; both cost what was touched.
 */
#ifndef HK_TESTS_CRASH_DISK_H
#define HK_TESTS_CRASH_DISK_H

#include "replicator/store/disk.h"

enum { CDISK_SECTOR = 512, CDISK_FILES = 16, CDISK_PENDING = 64, CDISK_CHOICES = 4096 };

struct cdisk_file {
    uint32_t file;
    uint64_t bytes;
    uint8_t *cur; /* what a read sees */
    uint8_t *dur; /* what a power cut leaves for sure */
    uint8_t *mark_cur, *mark_dur;
    uint8_t *touched; /* a page: 1 when it differs from the mark */
    uint32_t *touched_page;
    uint32_t touched_count;
    uint64_t used, mark_used; /* bytes from here on are zero */
};

/* A version of a sector that a cut may leave. */
struct cdisk_loose {
    uint16_t file; /* index */
    uint32_t sector;
    uint64_t sequence;
    uint8_t data[CDISK_SECTOR];
};

/* A write as it was submitted. */
struct cdisk_write {
    uint32_t file;
    enum hk_disk_kind kind;
    uint64_t offset, bytes;
    uint8_t *data;
};

struct cdisk {
    struct hk_disk disk;
    struct cdisk_file file[CDISK_FILES];
    uint32_t file_count;
    struct hk_diskop *pending[CDISK_PENDING];
    uint32_t pending_count;
    uint64_t sequence;
    struct cdisk_loose *loose;
    uint32_t loose_count, loose_room;
    bool cached;     /* completed writes stay loose until flushed; else they are durable at once */
    bool logged;     /* keep every write */
    bool last_first; /* complete the newest first; else the oldest */
    struct cdisk_write *write;
    uint32_t write_count, write_room;
    uint64_t done_count, read_count, flush_count;
    uint64_t fail_at;     /* this completion (from 1) fails; 0: none does */
    bool fail_forever;    /* and so do all after it */
    uint32_t failed_file; /* whose operation failed last */
    /* the last big read: its buffer is known to be zero behind what it got */
    const void *read_base;
    uint64_t read_bytes, read_used;
};

void cdisk_init(struct cdisk *d);
void cdisk_free(struct cdisk *d);
void cdisk_add(struct cdisk *d, uint32_t file, uint64_t bytes);
struct cdisk_file *cdisk_file(struct cdisk *d, uint32_t file);
/* Completes one pending op; NULL: none. */
struct hk_diskop *cdisk_step(struct cdisk *d);
/* Durable at once. */
void cdisk_poke(struct cdisk *d, uint32_t file, uint64_t offset, const void *data, uint64_t bytes);
void cdisk_flip(struct cdisk *d, uint32_t file, uint64_t offset, uint8_t bits);

void cdisk_mark(struct cdisk *d);
void cdisk_reset(struct cdisk *d);
/*
 * `img`, reset, marked when both were the same, becomes what is durable on `from`, mark included.
 * start_over: what `from` was when it was marked. Costs what was touched on `from` since.
 */
void cdisk_follow(struct cdisk *img, const struct cdisk *from, bool start_over);
/* A second disk with the same contents, nothing pending, loose versions included. */
void cdisk_copy(struct cdisk *to, const struct cdisk *from);
/* `img`, never used or used before, becomes what is durable on `from`: cached and marked. */
void cdisk_photograph(struct cdisk *img, const struct cdisk *from);

/*
 * What a crash may leave. Collected from the pending writes and the loose sectors: for each sector
 * the versions it may hold beside the durable one, those that are equal to it left out.
 */
struct cdisk_choice {
    uint16_t file;
    uint32_t sector;
    uint32_t version_count;
    uint32_t version; /* first index into data */
};
struct cdisk_choices {
    uint32_t count;
    struct cdisk_choice choice[CDISK_CHOICES];
    uint32_t data_count;
    uint8_t (*data)[CDISK_SECTOR]; /* CDISK_CHOICES of them */
};
void cdisk_choices_init(struct cdisk_choices *c);
void cdisk_choices_free(struct cdisk_choices *c);
void cdisk_collect(const struct cdisk *d, struct cdisk_choices *ret);
/* Number of states, UINT64_MAX when there are more than 2^62. */
uint64_t cdisk_states(const struct cdisk_choices *c);
/* Lays state `n` of them over `to`, whose contents are the durable ones. */
void cdisk_lay(struct cdisk *to, const struct cdisk_choices *c, uint64_t n);
/* The same with one pick a choice: 0 durable, i the i-th version. */
void cdisk_lay_picks(struct cdisk *to, const struct cdisk_choices *c, const uint8_t *pick);

/* --- A process dies, the machine lives --- */

/*
 * `to` (reset, with the durable contents of `from`) becomes what the next process finds: completed
 * writes in the cache, and of the pending ones those whose bit is set in `mask`.
 */
void cdisk_die(struct cdisk *to, const struct cdisk *from, uint64_t mask);
/* Power goes on a disk with loose sectors: state `n` of cdisk_collect(d) is left. */
void cdisk_cut(struct cdisk *d, const struct cdisk_choices *c, uint64_t n);

#endif
