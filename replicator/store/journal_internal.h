/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal's own files share. Nobody else includes this. */
#ifndef HK_STORE_JOURNAL_INTERNAL_H
#define HK_STORE_JOURNAL_INTERNAL_H

#include "replicator/store/journal.h"

#define HK_NO_SEGMENT UINT32_MAX

enum hk_journal_tag {
    HK_TAG_BATCH = 0, /* + index of the slot */
    HK_TAG_HEADER = 16,
    HK_TAG_RENAME,
    HK_TAG_SYNC_DIR,
    HK_TAG_RECOVERY,
    HK_TAG_READER = 32, /* + index of the reader */
};

size_t hk_journal_recovery_memory(void);
int hk_journal_recovery_init(struct hk_journal *j, struct hk_arena *arena);
void hk_journal_recovery_done(struct hk_journal *j, struct hk_diskop *op);
void hk_journal_reader_done(struct hk_journal *j, struct hk_journal_reader *r);

void hk_journal_fail(struct hk_journal *j, int error);
void hk_journal_submit_name(struct hk_journal *j, uint32_t segment, uint32_t tag);
void hk_journal_submit_sync_dir(struct hk_journal *j, uint32_t tag);
/* A batch at `offset` begins with `lsn`: remembered if it is the first in its part of the segment.
 */
void hk_journal_checkpoint(struct hk_journal *j, struct hk_journal_segment *s, uint64_t lsn,
                           uint64_t offset);
static inline uint32_t hk_journal_file(const struct hk_journal *j, uint32_t segment)
{
    return (j->cfg.spool ? HK_FILE_SPOOL_SEGMENT0 : HK_FILE_SEGMENT0) + segment;
}

static inline uint8_t hk_journal_owner(const struct hk_journal *j)
{
    return j->cfg.spool ? HK_OWNER_SPOOL : HK_OWNER_JOURNAL;
}

/* Bytes a batch takes in its file. */
static inline uint64_t hk_batch_file_bytes(uint64_t first_lsn, uint64_t bytes)
{
    return HK_BATCH_HEADER_BYTES + hk_batch_page_bytes(first_lsn, bytes);
}

/* Where stream byte `first` lies in a batch whose header is at `batch`. */
static inline const uint8_t *hk_batch_data(const uint8_t *batch, uint64_t first_lsn)
{
    return batch + HK_BATCH_HEADER_BYTES + first_lsn % HK_PAGE_BYTES;
}

#endif
