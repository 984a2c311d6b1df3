/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct hk_disk over the reactor's io_uring. File numbers (HK_FILE_*) are bound to descriptors
 * before use. submit() queues; the reactor submits once per turn; completions wait in a list until
 * hk_uring_disk_poll hands them out, so nothing is ever completed inside submit.
 *
 * Short transfers are continued; no progress is -EIO. EINTR and EAGAIN (never carried out) are
 * repeated, but not for FLUSH and SYNC_DIR: whatever they return is final (I11).
 *
 * Data files are O_DIRECT, preallocated and already written, so that no write needs memory or
 * metadata of a file system. Owned by the reactor's thread.
 */
#ifndef HK_IO_URING_DISK_H
#define HK_IO_URING_DISK_H

#include "replicator/io/error.h"
#include "replicator/store/disk.h"

struct hk_reactor;
struct hk_uring_disk;

struct hk_uring_disk_cfg {
    uint32_t ops_max;   /* requests in flight; more wait inside in order; 0: 512 */
    uint32_t files_max; /* highest file number + 1; 0: 4096 */
};

/* What a file number stands for; decides how PUNCH and RENAME are done. */
enum hk_disk_file_type { HK_DISK_FILE = 1, HK_DISK_BLOCK_DEVICE, HK_DISK_DIRECTORY };

int hk_uring_disk_create(struct hk_reactor *r, const struct hk_uring_disk_cfg *cfg,
                         struct hk_uring_disk **ret_disk, struct hk_io_error *err);
/* Nothing may be in flight. Closes every bound descriptor. Accepts NULL. */
void hk_uring_disk_free(struct hk_uring_disk *d);
struct hk_disk *hk_uring_disk_iface(struct hk_uring_disk *d);

/*
 * Takes fd over. `name`: for segments, their name in the journal directory (copied, < 256 bytes);
 * else NULL. -ENOSPC (number ≥ files_max), -EEXIST, -EINVAL (neither file, block device nor
 * directory).
 */
int hk_uring_disk_bind(struct hk_uring_disk *d, uint32_t file, int fd, const char *name);
/* Closes the file, with its lock. Nothing may be in flight on it. Not bound: nothing happens. */
void hk_uring_disk_release(struct hk_uring_disk *d, uint32_t file);
/* Its descriptor, for reading beside; -EBADF: not bound. */
int hk_uring_disk_fd(const struct hk_uring_disk *d, uint32_t file);
/* Name of a segment now, "" if none. */
const char *hk_uring_disk_name(const struct hk_uring_disk *d, uint32_t file);

/* Hands out up to `budget` finished ops; `done` may submit again. Returns how many. */
uint32_t hk_uring_disk_poll(struct hk_uring_disk *d, void (*done)(void *arg, struct hk_diskop *op),
                            void *arg, uint32_t budget);
uint32_t hk_uring_disk_in_flight(const struct hk_uring_disk *d); /* submitted, not handed out */

struct hk_uring_disk_stats {
    uint64_t reads, writes, dsyncs, flushes, others;
    uint64_t read_bytes, write_bytes, errors, continued, repeated, punch_written;
    uint64_t flush_ns_max, write_ns_max, read_ns_max;
};
void hk_uring_disk_stats(const struct hk_uring_disk *d, struct hk_uring_disk_stats *ret);

/* Opening, at start, before the data path runs: synchronous, may take long, may allocate. */

struct hk_disk_progress {
    void (*step)(void *arg, const char *what, uint64_t done_bytes, uint64_t total_bytes);
    void *arg;
};

/*
 * Smallest piece that O_DIRECT takes, as the device or the file system says. A variable, so that a
 * test can play a device that is not there.
 */
extern uint32_t (*hk_disk_sector_bytes)(int fd, bool block);

/*
 * A volume (replica or origin): O_DIRECT; O_EXCL for a block device, an exclusive flock for a file.
 * -EBUSY somebody has it; -EFBIG or -EOVERFLOW its size differs from `bytes` (the text says both);
 * bytes 0: any size. -EOPNOTSUPP: it ends in a piece smaller than its sectors, which nobody could
 * ever write. ret_bytes may be NULL.
 */
int hk_disk_open_volume(const char *path, uint64_t bytes, bool writable, int *ret_fd,
                        uint64_t *ret_bytes, struct hk_io_error *err);
/*
 * For reading beside whoever writes it: O_DIRECT, no lock. -EINVAL there (no O_DIRECT): opened
 * through the page cache, *ret_direct is false.
 */
int hk_disk_open_beside(const char *path, int *ret_fd, bool *ret_direct);
/* A metadata file of exactly `bytes`, O_DIRECT, flocked; created and written if `create`. */
int hk_disk_open_meta(const char *path, uint64_t bytes, bool create, int *ret_fd,
                      struct hk_io_error *err);

/*
 * A sparse file of exactly `bytes`, O_DIRECT, flocked; made, as one hole, if it is not there. Its
 * directory is synced when it was made. -EFBIG (another size), -EBUSY.
 */
int hk_disk_open_sparse(const char *path, uint64_t bytes, int *ret_fd, struct hk_io_error *err);

struct hk_segment_file {
    int fd;
    char name[256];
};
/*
 * Opens every segment file (*.seg) of the journal directory and creates, writes and syncs what is
 * missing up to `count` files of `bytes` each (new ones are called free-<n>.seg). One process owns
 * the directory (flock). Files are returned sorted by name. -EBUSY, -EFBIG (a file of another
 * size), -ENOSPC (the text says how much is missing), -E2BIG (more than `count` files are there).
 */
int hk_disk_open_segments(const char *dir, uint64_t bytes, uint32_t count,
                          const struct hk_disk_progress *progress, int *ret_dir_fd,
                          struct hk_segment_file *ret_files, struct hk_io_error *err);

#endif
