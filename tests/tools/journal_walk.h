/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An independent reader of a journal (or spool) directory, written from proto/SPEC.md §3 and §7
 * alone: shares no line and no header with the product, so that agreement between both means
 * something. Verifies every hash and every rule it passes.
 *
 * Segments are mapped read-only; a record's payload points into the map and is valid during the
 * call. Functions return 0 or -errno.
 */
#ifndef HK_TOOLS_JOURNAL_WALK_H
#define HK_TOOLS_JOURNAL_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum hk_walk_type {
    HK_WALK_WRITE = 1,
    HK_WALK_ZEROES = 2,
    HK_WALK_DISCARD = 3,
    HK_WALK_FLUSH = 4,
    HK_WALK_MARK = 5,
    HK_WALK_GAP = 6,
    HK_WALK_VOID = 7,
    HK_WALK_RESYNC_BEGIN = 8,
    HK_WALK_BLOCK = 9,
    HK_WALK_BAD_RANGE = 10,
    HK_WALK_RESYNC_END = 11,
    HK_WALK_MODE = 12,
    HK_WALK_JOIN = 13,
    HK_WALK_LEAVE = 14,
    HK_WALK_RESIZE = 15,
    HK_WALK_TYPES = 16,
};

struct hk_walk_record {
    uint64_t lsn, end, time_ns, offset, payload_hash;
    uint32_t length, payload_len, epoch, prev_bytes;
    uint16_t volume;
    uint8_t type, flags;
    const uint8_t *payload;
};

enum hk_walk_verdict { HK_WALK_CLEAN, HK_WALK_TORN, HK_WALK_CORRUPT };

struct hk_walk_segment {
    char name[96];
    const uint8_t *map;
    uint64_t map_bytes;
    uint32_t ordinal;
    uint8_t epoch_id[16];
    uint64_t first_lsn;
    bool walked;
};

struct hk_walk {
    struct hk_walk_segment *segments;
    size_t segment_count;
    uint64_t applied; /* from a superblock, if the caller has one; else 0 */
    FILE *report;     /* what does not check out is told here */
    /* results */
    uint64_t begin;      /* first LSN in the journal */
    uint64_t end;        /* E of SPEC §7.4 */
    uint64_t stamped;    /* S of SPEC §7.4 */
    uint64_t torn_bytes; /* N of SPEC §7.4 */
    uint32_t ordinal;    /* epoch at the end */
    uint64_t records[HK_WALK_TYPES];
    uint64_t batches, epochs;
    uint64_t bad_segments;   /* named like one, but not whole */
    uint64_t time_faults;    /* records whose time is not after the one before */
    uint64_t padding_faults; /* records followed by bytes that should be zero and are not */
    bool stopped;            /* by the visitor: no verdict about the end was sought */
    enum hk_walk_verdict verdict;
};

/* -ENOENT: no segment there. */
int hk_walk_open(struct hk_walk *w, const char *directory);
void hk_walk_close(struct hk_walk *w);

/* Visits all records in log order until `visit` returns true (stop here). */
void hk_walk_run(struct hk_walk *w, bool (*visit)(void *user, const struct hk_walk_record *r),
                 void *user);

const char *hk_walk_type_text(uint8_t type);

#endif
