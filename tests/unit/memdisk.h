/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An hk_disk in memory for tests: files with a volatile cache of 512-byte sectors, completion order
 * and failures under the test's control, power cuts that lose or tear whatever was not flushed.
 *
 * Ops take effect when they complete, not when they are submitted. A FLUSH makes durable only what
 * had completed before it was submitted; a WRITE_DSYNC only its own sectors.
 */
#ifndef HK_TESTS_MEMDISK_H
#define HK_TESTS_MEMDISK_H

#include "proto/segment.h"
#include "replicator/store/disk.h"

enum { MEMDISK_SECTOR = 512, MEMDISK_FILES = 80, MEMDISK_PENDING = 512 };

struct memdisk_file {
    uint32_t file;
    uint64_t bytes;
    uint8_t *cached;  /* what a read sees */
    uint8_t *durable; /* what is left after a power cut */
    uint64_t *dirty;  /* a sector: write count when it was last written, 0: cached == durable */
    char name[HK_SEGMENT_NAME_BYTES], name_durable[HK_SEGMENT_NAME_BYTES];
};

struct memdisk {
    struct hk_disk disk;
    struct memdisk_file file[MEMDISK_FILES];
    uint32_t file_count;
    struct hk_diskop *pending[MEMDISK_PENDING];
    uint32_t pending_count;
    uint64_t random;
    uint64_t write_count;
    bool shuffle;        /* complete in random order; else first in, first out */
    uint64_t done_count; /* ops completed, failed ones included */
    uint64_t fail_at;    /* this op (from 1, in order of completion) fails; 0: none does */
    bool fail_forever;   /* and so do all after it */
    uint64_t failed_count, failed_reads;
    uint64_t read_count, written_bytes, flush_count, punch_count;
};

void memdisk_init(struct memdisk *d, uint64_t seed);
void memdisk_free(struct memdisk *d);
void memdisk_add(struct memdisk *d, uint32_t file, uint64_t bytes); /* of zeroes */
struct memdisk_file *memdisk_file(struct memdisk *d, uint32_t file);
/* Completes one pending op: the caller hands it to its owner. NULL: none is pending. */
struct hk_diskop *memdisk_step(struct memdisk *d);
/* Bit rot: what is cached and what is durable both change. */
void memdisk_poke(struct memdisk *d, uint32_t file, uint64_t offset, const void *data,
                  size_t bytes);
/* The power fails: any subset of sectors that are pending or not flushed is there afterwards. */
void memdisk_power_cut(struct memdisk *d);
/* The process dies, the machine lives: each pending op either happened or did not. */
void memdisk_kill(struct memdisk *d);

#endif
