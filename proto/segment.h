/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Journal and spool segments. SPEC.md §7. A segment file is a 4 KiB header, then batches. A batch
 * is a 4 KiB header, then the stream's pages as they are in the window: from round_down(first,
 * 4096) to round_up(first + bytes, 4096) — a partial last page is repeated at the head of the next
 * batch, never rewritten. A batch holds whole records. File name: <ordinal>-<epoch id>-<first lsn
 * hex>.seg
 */
#ifndef HK_PROTO_SEGMENT_H
#define HK_PROTO_SEGMENT_H

#include "proto/limits.h"
#include "proto/lsn.h"

#define HK_SEGMENT_MAGIC 0x31474553494b4148ull /* "HAKISEG1" */
#define HK_BATCH_MAGIC   0x31544142494b4148ull /* "HAKIBAT1" */
enum { HK_SEGMENT_VERSION = 1 };
#define HK_SEGMENT_NAME_BYTES 96

enum hk_segment_flags {
    /* A spool's: all below first_lsn was durable at the standby when it was taken. The chain begins
     * here; what older segments hold is not needed any more. */
    HK_SEGMENT_BEGINS = 1,
};

struct hk_segment_header {
    uint64_t magic;
    uint32_t version;
    uint32_t epoch_ordinal;
    struct hk_uuid group_id;
    struct hk_uuid epoch_id;
    struct hk_uuid replica_id; /* whose journal (or spool) this is */
    uint64_t first_lsn;        /* of the first batch */
    uint64_t segment_bytes;    /* size of the file, header included */
    uint64_t flags;            /* enum hk_segment_flags */
    uint8_t reserved[4096 - 88 - 8];
    uint64_t hash; /* XXH64 of all bytes before, seed = first 8 bytes of epoch_id */
};
HK_STATIC_ASSERT(sizeof(struct hk_segment_header) == HK_SEGMENT_HEADER_BYTES, "4 KiB");

struct hk_batch_header {
    uint64_t magic;
    uint32_t version;
    uint32_t epoch_ordinal;
    struct hk_uuid epoch_id;
    uint64_t first_lsn; /* a record boundary */
    uint64_t bytes;     /* stream bytes, whole records; > 0, ≤ HK_BATCH_BYTES_MAX */
    uint64_t durable;   /* durable stamp: what had been reported durable before this batch */
    uint64_t data_hash; /* XXH64 of stream bytes [first, first + bytes), seed = epoch seed */
    uint8_t reserved[4096 - 64 - 8];
    uint64_t hash; /* XXH64 of all bytes before, seed = epoch seed */
};
HK_STATIC_ASSERT(sizeof(struct hk_batch_header) == HK_BATCH_HEADER_BYTES, "4 KiB");

/* Pages that follow the batch header on disk. */
static inline uint64_t hk_batch_page_bytes(uint64_t first_lsn, uint64_t bytes)
{
    return hk_round_up(first_lsn + bytes, HK_PAGE_BYTES) - hk_round_down(first_lsn, HK_PAGE_BYTES);
}

enum hk_segment_fault {
    HK_SEGMENT_OK = 0,
    HK_SEGMENT_BAD_MAGIC,
    HK_SEGMENT_BAD_VERSION,
    HK_SEGMENT_BAD_HASH,
    HK_SEGMENT_BAD_FIELD, /* lengths out of bounds, LSN not aligned */
    HK_SEGMENT_FOREIGN,   /* whole, but of another group, replica, epoch or LSN than expected */
    HK_SEGMENT_FAULTS
};
const char *hk_segment_fault_text(enum hk_segment_fault f);

void hk_segment_header_seal(struct hk_segment_header *h); /* magic, version, hash */
enum hk_segment_fault hk_segment_header_check(const struct hk_segment_header *h);
void hk_batch_header_seal(struct hk_batch_header *h);
/* expected_first: the LSN the batch must start at, or 0 for any. epoch_id may be NULL for any. */
enum hk_segment_fault hk_batch_header_check(const struct hk_batch_header *h,
                                            const struct hk_uuid *epoch_id,
                                            uint64_t expected_first);
void hk_segment_name(uint32_t ordinal, const struct hk_uuid *epoch_id, uint64_t first_lsn,
                     char ret_name[HK_SEGMENT_NAME_BYTES]);
/* -EINVAL if the name is none of ours. */
int hk_segment_name_parse(const char *name, uint32_t *ret_ordinal, struct hk_uuid *ret_epoch_id,
                          uint64_t *ret_first_lsn);

#endif
