/* SPDX-License-Identifier: Apache-2.0 */
/* What the snapshots' own files share. Nobody else includes this. */
#ifndef HK_STORE_SNAPSHOT_INTERNAL_H
#define HK_STORE_SNAPSHOT_INTERNAL_H

#include "replicator/store/snapshot.h"

#define HK_NO_SLOT UINT32_MAX

/* What an operation is for; the low half belongs to the saving, the rest to the job. */
enum hk_snapshot_use {
    HK_USE_NONE = 0,
    HK_USE_BEFORE_READ,
    HK_USE_BEFORE_WRITE,
    HK_USE_BEFORE_FLUSH,
    HK_USE_BIT_WRITE,
    HK_USE_BIT_FLUSH,
    HK_USE_JOB,
};

static inline uint32_t hk_snap_index_file(uint32_t slot)
{
    return HK_FILE_SNAPSHOT0 + slot * HK_FILES_A_SNAPSHOT;
}

static inline uint32_t hk_snap_data_file(uint32_t slot, uint32_t volume)
{
    return hk_snap_index_file(slot) + 1 + volume;
}

/* Of a volume as it lies in a sparse file: whole chunks. */
static inline uint64_t hk_snap_file_bytes(const struct hk_snapshots *s, uint32_t volume)
{
    return hk_snap_chunks(s->cfg.volume_bytes[volume]) * HK_SNAP_CHUNK_BYTES;
}

struct hk_snap_place hk_snap_place(const struct hk_snapshots *s, uint32_t id, uint64_t page);
/* The page of all volumes' pages that holds a chunk's bit, and the sector in the newest's image. */
uint64_t hk_snap_page_of(const struct hk_snapshots *s, uint32_t volume, uint64_t chunk);
struct hk_snap_sector *hk_snap_image_sector(const struct hk_snapshots *s, uint32_t volume,
                                            uint64_t chunk);
bool hk_snap_kept(const struct hk_snapshots *s, uint32_t volume, uint64_t chunk);

/* NULL: none is free. Accounted to the saving or to the job when submitted. */
struct hk_snapshot_op *hk_snap_take_op(struct hk_snapshots *s);
void hk_snap_submit(struct hk_snapshots *s, struct hk_snapshot_op *o, enum hk_snapshot_use use,
                    enum hk_disk_kind kind, uint32_t file, uint64_t offset, uint64_t bytes,
                    void *buffer);
/* The same for the job, with an op that is surely free while nothing else of it is in flight. */
void hk_snap_job_io(struct hk_snapshots *s, enum hk_disk_kind kind, uint32_t file, uint64_t offset,
                    uint64_t bytes, void *buffer);
void hk_snap_job_ends(struct hk_snapshots *s, int result);
void hk_snap_begin_load(struct hk_snapshots *s, int result);
uint32_t hk_snap_newest(const struct hk_snapshots *s);
/* LIVE or DYING with an id above / below that of a slot, the nearest; HK_NO_SLOT. */
uint32_t hk_snap_newer(const struct hk_snapshots *s, uint32_t slot);
uint32_t hk_snap_older(const struct hk_snapshots *s, uint32_t slot);
void hk_snap_broken(struct hk_snapshots *s, uint32_t slot, enum hk_snap_fault fault, int error);

/* One completed operation of theirs. */
void hk_snap_save_done(struct hk_snapshots *s, struct hk_snapshot_op *o);
void hk_snap_drop_step(struct hk_snapshots *s, struct hk_snapshot_op *o, int result);
void hk_snap_rollback_step(struct hk_snapshots *s, struct hk_snapshot_op *o, int result);
void hk_snap_read_step(struct hk_snapshots *s, struct hk_snapshot_op *o, int result);
void hk_snap_rollback_loaded(struct hk_snapshots *s, int result);
/* Ends the oldest ordinary snapshot for want of room; false: there is none. */
bool hk_snap_end_oldest(struct hk_snapshots *s);

#endif
