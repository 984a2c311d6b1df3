/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/uring_disk.h"

#include "proto/state.h"
#include "replicator/io/clock.h"
#include "replicator/io/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OPS_DEFAULT = 512,
    FILES_DEFAULT = 4096,
    NAME_BYTES = 256,
    ZERO_BYTES = 1 << 20, /* one piece of a PUNCH that has to be written */
    REPEATS_MAX = 1000,
};

/* How a file takes zeroes: the first way it accepted, never tried back. */
enum punch_way { PUNCH_HOLE = 0, PUNCH_ZERO_RANGE, PUNCH_WRITE };

struct disk_file {
    int fd; /* -1: not bound */
    enum hk_disk_file_type type;
    enum punch_way punch;
    bool renaming;
    char name[NAME_BYTES];
};

struct disk_req {
    struct hk_completion completion;
    struct hk_uring_disk *disk;
    struct hk_diskop *op;
    struct disk_req *next; /* free list */
    uint64_t done_bytes;
    uint32_t repeats;
    struct iovec iov[HK_ARRAY_SIZE(((struct hk_diskop *)0)->iov)];
};

/* Ops linked through disk_private. */
struct op_list {
    struct hk_diskop *head, *tail;
};

struct hk_uring_disk {
    struct hk_disk iface;
    struct hk_reactor *reactor;
    struct disk_file *files;
    uint32_t files_max;
    struct disk_req *reqs, *free_reqs;
    struct op_list waiting, finished;
    uint32_t in_flight;
    uint8_t *zeroes;
    struct hk_uring_disk_stats stats;
};

static void list_push(struct op_list *l, struct hk_diskop *op)
{
    op->disk_private = NULL;
    if (l->tail != NULL)
        l->tail->disk_private = op;
    else
        l->head = op;
    l->tail = op;
}

static struct hk_diskop *list_pop(struct op_list *l)
{
    struct hk_diskop *op = l->head;

    if (op == NULL)
        return NULL;
    l->head = op->disk_private;
    if (l->head == NULL)
        l->tail = NULL;
    op->disk_private = NULL;
    return op;
}

static bool is_transfer(const struct hk_diskop *op)
{
    return op->kind == HK_DISK_READ || op->kind == HK_DISK_WRITE || op->kind == HK_DISK_WRITE_DSYNC;
}

/* ---- one request: (re)issue ---- */

/* What is left of the op's pieces after done_bytes. */
static uint32_t rest_of_iov(struct disk_req *q)
{
    const struct hk_diskop *op = q->op;
    uint64_t skip = q->done_bytes;
    uint32_t n = 0;

    for (uint32_t i = 0; i < op->iov_count; i++) {
        uint64_t bytes = op->iov[i].bytes;

        if (skip >= bytes) {
            skip -= bytes;
            continue;
        }
        q->iov[n].iov_base = (uint8_t *)op->iov[i].base + skip;
        q->iov[n].iov_len = bytes - skip;
        skip = 0;
        n++;
    }
    HK_ASSERT(n > 0);
    return n;
}

static void prep_transfer(struct disk_req *q, struct io_uring_sqe *sqe, int fd)
{
    const struct hk_diskop *op = q->op;
    uint64_t at = op->offset + q->done_bytes;
    uint32_t n = rest_of_iov(q);

    if (op->kind == HK_DISK_READ)
        io_uring_prep_readv(sqe, fd, q->iov, n, at);
    else
        io_uring_prep_writev2(sqe, fd, q->iov, n, at,
                              op->kind == HK_DISK_WRITE_DSYNC ? RWF_DSYNC : 0);
}

static void prep_punch(struct disk_req *q, struct io_uring_sqe *sqe, struct disk_file *f)
{
    const struct hk_diskop *op = q->op;
    uint64_t at = op->offset + q->done_bytes, left = op->bytes - q->done_bytes;

    switch (f->punch) {
    case PUNCH_HOLE:
        io_uring_prep_fallocate(sqe, f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                                (off_t)left);
        return;
    case PUNCH_ZERO_RANGE:
        io_uring_prep_fallocate(sqe, f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                                (off_t)left);
        return;
    case PUNCH_WRITE:
        q->iov[0] = (struct iovec){q->disk->zeroes, hk_min_u64(left, ZERO_BYTES)};
        io_uring_prep_writev(sqe, f->fd, q->iov, 1, at);
        return;
    }
}

/* Of a segment of the journal, or of the spool. */
static struct disk_file *segment_dir(struct hk_uring_disk *d, uint32_t file)
{
    return &d->files[file >= HK_FILE_SPOOL_SEGMENT0 ? HK_FILE_SPOOL_DIR : HK_FILE_JOURNAL_DIR];
}

static void issue(struct disk_req *q)
{
    struct hk_uring_disk *d = q->disk;
    struct hk_diskop *op = q->op;
    struct disk_file *f = &d->files[op->file];
    struct io_uring_sqe *sqe = hk_reactor_sqe(d->reactor, &q->completion);

    switch (op->kind) {
    case HK_DISK_READ:
    case HK_DISK_WRITE:
    case HK_DISK_WRITE_DSYNC: prep_transfer(q, sqe, f->fd); return;
    case HK_DISK_FLUSH: io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC); return;
    case HK_DISK_SYNC_DIR: io_uring_prep_fsync(sqe, f->fd, 0); return;
    case HK_DISK_PUNCH: prep_punch(q, sqe, f); return;
    case HK_DISK_ALLOC:
        io_uring_prep_fallocate(sqe, f->fd, 0, (off_t)op->offset, (off_t)op->bytes);
        return;
    case HK_DISK_CREATE:
        io_uring_prep_openat(sqe, segment_dir(d, op->file)->fd, op->name,
                             O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC | O_NOFOLLOW, 0600);
        return;
    case HK_DISK_RENAME:
        io_uring_prep_renameat(sqe, segment_dir(d, op->file)->fd, f->name,
                               segment_dir(d, op->file)->fd, op->name, RENAME_NOREPLACE);
        return;
    case HK_DISK_UNLINK:
        io_uring_prep_unlinkat(sqe, segment_dir(d, op->file)->fd, f->name, 0);
        return;
    }
}

/* ---- one request: its end ---- */

static void count(struct hk_uring_disk *d, const struct hk_diskop *op)
{
    uint64_t took = hk_clock_mono_ns() - op->submit_ns;

    d->stats.errors += op->result < 0;
    switch (op->kind) {
    case HK_DISK_READ:
        d->stats.reads++;
        d->stats.read_bytes += op->bytes;
        d->stats.read_ns_max = hk_max_u64(d->stats.read_ns_max, took);
        return;
    case HK_DISK_WRITE:
    case HK_DISK_WRITE_DSYNC:
        d->stats.writes += op->kind == HK_DISK_WRITE;
        d->stats.dsyncs += op->kind == HK_DISK_WRITE_DSYNC;
        d->stats.write_bytes += op->bytes;
        d->stats.write_ns_max = hk_max_u64(d->stats.write_ns_max, took);
        return;
    case HK_DISK_FLUSH:
        d->stats.flushes++;
        d->stats.flush_ns_max = hk_max_u64(d->stats.flush_ns_max, took);
        return;
    case HK_DISK_CREATE:
    case HK_DISK_ALLOC:
    case HK_DISK_PUNCH:
    case HK_DISK_RENAME:
    case HK_DISK_UNLINK:
    case HK_DISK_SYNC_DIR: d->stats.others++; return;
    }
}

static void finish_op(struct hk_uring_disk *d, struct hk_diskop *op, int result)
{
    op->result = result;
    count(d, op);
    list_push(&d->finished, op);
}

static void start(struct hk_uring_disk *d, struct hk_diskop *op);

static void finish(struct disk_req *q, int result)
{
    struct hk_uring_disk *d = q->disk;
    struct hk_diskop *op = q->op, *next;

    if (op->kind == HK_DISK_RENAME || op->kind == HK_DISK_UNLINK)
        d->files[op->file].renaming = false;
    q->op = NULL;
    q->next = d->free_reqs;
    d->free_reqs = q;
    finish_op(d, op, result);
    next = list_pop(&d->waiting);
    if (next != NULL)
        start(d, next);
}

/* A range that could not be zeroed this way is tried the next way, down to writing zeroes. */
static void punch_done(struct disk_req *q, int32_t result)
{
    struct disk_file *f = &q->disk->files[q->op->file];

    if (f->punch != PUNCH_WRITE) {
        if (result != -EOPNOTSUPP && result != -ENOSYS && result != -ENODEV) {
            finish(q, result);
            return;
        }
        f->punch = f->punch == PUNCH_HOLE ? PUNCH_ZERO_RANGE : PUNCH_WRITE;
        issue(q);
        return;
    }
    if (result <= 0) {
        finish(q, result < 0 ? result : -EIO);
        return;
    }
    q->done_bytes += (uint32_t)result;
    q->disk->stats.punch_written += (uint32_t)result;
    if (q->done_bytes == q->op->bytes)
        finish(q, 0);
    else
        issue(q);
}

static void transfer_done(struct disk_req *q, int32_t result)
{
    uint64_t left = q->op->bytes - q->done_bytes;

    if (result <= 0) {
        finish(q, result < 0 ? result : -EIO);
        return;
    }
    HK_ASSERT((uint64_t)result <= left);
    q->done_bytes += (uint32_t)result;
    if ((uint64_t)result == left) {
        finish(q, 0);
        return;
    }
    q->disk->stats.continued++;
    issue(q);
}

static void named_done(struct disk_req *q, int32_t result)
{
    struct hk_diskop *op = q->op;
    struct disk_file *f = &q->disk->files[op->file];

    if (result < 0) {
        finish(q, result);
        return;
    }
    if (op->kind == HK_DISK_UNLINK) {
        close(f->fd);
        f->fd = -1;
        f->name[0] = '\0';
    } else {
        snprintf(f->name, sizeof(f->name), "%s", op->name);
    }
    if (op->kind == HK_DISK_CREATE) {
        f->fd = result;
        f->type = HK_DISK_FILE;
        f->punch = PUNCH_HOLE;
    }
    finish(q, 0);
}

static void req_done(struct hk_completion *c, int32_t result, uint32_t cqe_flags)
{
    struct disk_req *q = HK_CONTAINER_OF(c, struct disk_req, completion);

    HK_ASSERT(q->op != NULL);
    /* Not an answer of the storage: the request was never carried out. A flush is not repeated even
     * then: the first attempt may have swallowed the error of an earlier write. */
    if ((result == -EINTR || result == -EAGAIN) && q->repeats < REPEATS_MAX &&
        q->op->kind != HK_DISK_FLUSH && q->op->kind != HK_DISK_SYNC_DIR) {
        q->repeats++;
        q->disk->stats.repeated++;
        issue(q);
        return;
    }
    switch (q->op->kind) {
    case HK_DISK_READ:
    case HK_DISK_WRITE:
    case HK_DISK_WRITE_DSYNC: transfer_done(q, result); return;
    case HK_DISK_PUNCH: punch_done(q, result); return;
    case HK_DISK_CREATE:
    case HK_DISK_RENAME:
    case HK_DISK_UNLINK: named_done(q, result); return;
    case HK_DISK_FLUSH:
    case HK_DISK_ALLOC:
    case HK_DISK_SYNC_DIR: finish(q, result); return;
    }
}

/* ---- submit ---- */

static int check_name(const char *name)
{
    HK_ASSERT(name != NULL);
    if (strlen(name) >= NAME_BYTES)
        return -ENAMETOOLONG;
    return name[0] == '\0' || strchr(name, '/') != NULL ? -EINVAL : 0;
}

/* 1: nothing to be done, complete with 0. 0: issue. Else -errno. */
static int check(struct hk_uring_disk *d, const struct hk_diskop *op)
{
    struct disk_file *f;
    uint64_t bytes = 0;
    int ret;

    if (op->file >= d->files_max)
        return -EBADF;
    f = &d->files[op->file];
    if (op->kind == HK_DISK_CREATE ? f->fd >= 0 : f->fd < 0)
        return op->kind == HK_DISK_CREATE ? -EEXIST : -EBADF;
    if (is_transfer(op)) {
        HK_ASSERT(op->iov_count <= HK_ARRAY_SIZE(op->iov));
        for (uint32_t i = 0; i < op->iov_count; i++)
            bytes += op->iov[i].bytes;
        HK_ASSERT(bytes == op->bytes);
    }
    if ((is_transfer(op) || op->kind == HK_DISK_PUNCH) && op->bytes == 0)
        return 1;
    if (op->kind == HK_DISK_CREATE || op->kind == HK_DISK_RENAME || op->kind == HK_DISK_UNLINK) {
        if (segment_dir(d, op->file)->fd < 0)
            return -EBADF;
        if (f->renaming)
            return -EBUSY;
    }
    if (op->kind == HK_DISK_CREATE || op->kind == HK_DISK_RENAME) {
        ret = check_name(op->name);
        if (ret < 0)
            return ret;
    }
    if ((op->kind == HK_DISK_RENAME || op->kind == HK_DISK_UNLINK) && f->name[0] == '\0')
        return -EINVAL;
    return op->kind == HK_DISK_RENAME && strcmp(op->name, f->name) == 0;
}

/* A device has the room that it has, a file takes it. 1: it is there. */
static int device_room(const struct disk_file *f, const struct hk_diskop *op)
{
    uint64_t bytes = 0;

    if (ioctl(f->fd, BLKGETSIZE64, &bytes) < 0)
        return -errno;
    return op->offset <= bytes && op->bytes <= bytes - op->offset ? 1 : -ENOSPC;
}

static void start(struct hk_uring_disk *d, struct hk_diskop *op)
{
    int ret = check(d, op);
    struct disk_req *q;

    if (ret == 0 && op->kind == HK_DISK_ALLOC && d->files[op->file].type == HK_DISK_BLOCK_DEVICE)
        ret = device_room(&d->files[op->file], op);
    if (ret != 0) {
        finish_op(d, op, ret < 0 ? ret : 0);
        return;
    }
    q = d->free_reqs;
    if (q == NULL) {
        list_push(&d->waiting, op);
        return;
    }
    d->free_reqs = q->next;
    q->op = op;
    q->done_bytes = 0;
    q->repeats = 0;
    if (op->kind == HK_DISK_RENAME || op->kind == HK_DISK_UNLINK)
        d->files[op->file].renaming = true;
    issue(q);
}

static void disk_submit(struct hk_disk *iface, struct hk_diskop *op)
{
    struct hk_uring_disk *d = HK_CONTAINER_OF(iface, struct hk_uring_disk, iface);

    HK_ASSERT(op->kind >= HK_DISK_READ && op->kind <= HK_DISK_SYNC_DIR);
    op->submit_ns = hk_reactor_now(d->reactor)->mono_ns;
    d->in_flight++;
    start(d, op);
}

uint32_t hk_uring_disk_poll(struct hk_uring_disk *d, void (*done)(void *arg, struct hk_diskop *op),
                            void *arg, uint32_t budget)
{
    uint32_t n = 0;

    for (; n < budget; n++) {
        struct hk_diskop *op = list_pop(&d->finished);

        if (op == NULL)
            break;
        d->in_flight--;
        done(arg, op);
    }
    return n;
}

uint32_t hk_uring_disk_in_flight(const struct hk_uring_disk *d)
{
    return d->in_flight;
}

/* ---- files ---- */

int hk_uring_disk_bind(struct hk_uring_disk *d, uint32_t file, int fd, const char *name)
{
    struct disk_file *f;
    struct stat st;
    int ret;

    if (file >= d->files_max)
        return -ENOSPC;
    f = &d->files[file];
    if (f->fd >= 0)
        return -EEXIST;
    if (fstat(fd, &st) != 0)
        return -errno;
    ret = name != NULL ? check_name(name) : 0;
    if (ret < 0)
        return ret;
    if (S_ISREG(st.st_mode))
        f->type = HK_DISK_FILE;
    else if (S_ISBLK(st.st_mode))
        f->type = HK_DISK_BLOCK_DEVICE;
    else if (S_ISDIR(st.st_mode))
        f->type = HK_DISK_DIRECTORY;
    else
        return -EINVAL;
    f->fd = fd;
    f->punch = PUNCH_HOLE;
    snprintf(f->name, sizeof(f->name), "%s", name != NULL ? name : "");
    return 0;
}

void hk_uring_disk_release(struct hk_uring_disk *d, uint32_t file)
{
    if (file >= d->files_max || d->files[file].fd < 0)
        return;
    close(d->files[file].fd);
    d->files[file].fd = -1;
}

int hk_uring_disk_fd(const struct hk_uring_disk *d, uint32_t file)
{
    return file < d->files_max && d->files[file].fd >= 0 ? d->files[file].fd : -EBADF;
}

const char *hk_uring_disk_name(const struct hk_uring_disk *d, uint32_t file)
{
    return file < d->files_max ? d->files[file].name : "";
}

int hk_uring_disk_create(struct hk_reactor *r, const struct hk_uring_disk_cfg *cfg,
                         struct hk_uring_disk **ret_disk, struct hk_io_error *err)
{
    struct hk_uring_disk *d = calloc(1, sizeof(*d));
    uint32_t ops = cfg->ops_max ? cfg->ops_max : OPS_DEFAULT;

    if (d == NULL)
        goto err_memory;
    d->iface.submit = disk_submit;
    d->reactor = r;
    d->files_max = cfg->files_max ? cfg->files_max : FILES_DEFAULT;
    if (d->files_max <= HK_FILE_SPOOL_DIR)
        d->files_max = HK_FILE_SPOOL_DIR + 1;
    d->files = calloc(d->files_max, sizeof(*d->files));
    d->reqs = calloc(ops, sizeof(*d->reqs));
    d->zeroes = mmap(NULL, ZERO_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (d->files == NULL || d->reqs == NULL || d->zeroes == MAP_FAILED)
        goto err_free;
    for (uint32_t i = 0; i < d->files_max; i++)
        d->files[i].fd = -1;
    for (uint32_t i = ops; i-- > 0;) {
        d->reqs[i] = (struct disk_req){.completion = {req_done}, .disk = d, .next = d->free_reqs};
        d->free_reqs = &d->reqs[i];
    }
    *ret_disk = d;
    return 0;

err_free:
    if (d->zeroes != MAP_FAILED)
        munmap(d->zeroes, ZERO_BYTES);
    free(d->reqs);
    free(d->files);
    free(d);
err_memory:
    return hk_io_fail(err, -ENOMEM, "no memory for %u disk requests", ops);
}

void hk_uring_disk_free(struct hk_uring_disk *d)
{
    if (d == NULL)
        return;
    HK_ASSERT(d->in_flight == 0);
    for (uint32_t i = 0; i < d->files_max; i++)
        if (d->files[i].fd >= 0)
            close(d->files[i].fd);
    munmap(d->zeroes, ZERO_BYTES);
    free(d->reqs);
    free(d->files);
    free(d);
}

struct hk_disk *hk_uring_disk_iface(struct hk_uring_disk *d)
{
    return &d->iface;
}

void hk_uring_disk_stats(const struct hk_uring_disk *d, struct hk_uring_disk_stats *ret)
{
    *ret = d->stats;
}
