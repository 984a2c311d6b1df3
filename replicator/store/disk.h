/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small asynchronous disk interface of the pure side. submit() only queues: completion comes
 * back as an event (HK_EV_DISK_DONE), never inside submit. An op is embedded in its owner and stays
 * untouched by it from submit until done. Buffers of READ and WRITE are 4096-aligned in memory and
 * in the file unless the file is a volume (then 512 in the file, 4096 in memory).
 */
#ifndef HK_STORE_DISK_H
#define HK_STORE_DISK_H

#include "proto/base.h"
#include "proto/limits.h"

enum hk_disk_kind {
    HK_DISK_READ = 1,
    HK_DISK_WRITE,
    HK_DISK_WRITE_DSYNC, /* durable when done */
    HK_DISK_FLUSH, /* everything completed on this file before the submit is durable when done */
    HK_DISK_CREATE,
    HK_DISK_ALLOC,
    HK_DISK_PUNCH,  /* [offset, offset + bytes) reads as zeroes afterwards */
    HK_DISK_RENAME, /* the file is called `name` afterwards (durable after SYNC_DIR) */
    HK_DISK_UNLINK,
    HK_DISK_SYNC_DIR,
};

/* File numbers: the daemon and the simulator map them to what they stand for. */
enum {
    HK_FILE_SUPER = 0,      /* the standby's metadata: two superblock slots */
    HK_FILE_PRIMARY_MD = 1, /* this site's primary metadata, written by a promotion */
    HK_FILE_JOURNAL_DIR = 2,
    HK_FILE_SNAP_DIR = 3,
    HK_FILE_VOLUME0 = 16, /* + index of the volume */
    /* + slot * HK_FILES_A_SNAPSHOT: its index, then one sparse file a volume. They exist always; a
     * snapshot that is gone is holes. */
    HK_FILE_SNAPSHOT0 = 256,
    HK_FILES_A_SNAPSHOT = 1 + HK_VOLUMES_MAX,
    HK_SNAPSHOTS_MAX = 8,
    HK_FILE_SEGMENT0 = 1024, /* + segment slot; preallocated and already written */
    /* A primary's own: its spool and a standby's journal never meet. */
    HK_FILE_SPOOL_DIR = 4,
    HK_FILE_SPOOL_SEGMENT0 = 1 << 16,
};

struct hk_iovec {
    void *base;
    size_t bytes;
};

enum hk_disk_owner {
    HK_OWNER_SUPER = 1,
    HK_OWNER_JOURNAL,
    HK_OWNER_APPLY,
    HK_OWNER_GROUP,
    HK_OWNER_SNAPSHOT,
    HK_OWNER_SPOOL,
};

struct hk_diskop {
    enum hk_disk_kind kind;
    uint32_t file;
    uint64_t offset, bytes;
    struct hk_iovec iov[4]; /* READ, WRITE, WRITE_DSYNC: their bytes sum up to `bytes` */
    uint32_t iov_count;
    uint8_t owner;    /* enum hk_disk_owner: who gets the completion */
    uint32_t tag;     /* the owner's */
    const char *name; /* RENAME; stable until done */
    int result;       /* 0 or -errno; a short transfer is -EIO */
    /* for the disk's own bookkeeping */
    void *disk_private;
    uint64_t submit_ns;
};

struct hk_disk {
    void (*submit)(struct hk_disk *, struct hk_diskop *);
};

#endif
