/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and preparing files, at start: synchronous, with words for people. */
#include "proto/limits.h"
#include "replicator/io/uring_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { WRITE_PIECE_BYTES = 4 << 20, LOCK_TRIES = 100, SECTOR_BYTES = 512 };

static const char temp_suffix[] = ".new";
static const char segment_suffix[] = ".seg";

static bool ends_with(const char *s, const char *suffix)
{
    size_t a = strlen(s), b = strlen(suffix);

    return a > b && strcmp(s + a - b, suffix) == 0;
}

/*
 * A process that was killed may have left requests with the kernel. They hold the file, and with it
 * the lock, until they have ended: so whoever has the lock knows that nothing older will be written
 * behind his back. They end soon, or the storage is in trouble.
 */
static int lock_file(int fd, const char *path, struct hk_io_error *err)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK)
            break;
        nanosleep(&pause, NULL);
    }
    if (errno == EWOULDBLOCK)
        return hk_io_fail(err, -EBUSY,
                          "%s is in use by another process: stop that one first "
                          "(fuser -v %s names it)",
                          path, path);
    return hk_io_fail(err, -errno, "cannot lock %s: %s", path, strerror(errno));
}

static int size_of(int fd, const struct stat *st, uint64_t *ret_bytes)
{
    if (S_ISBLK(st->st_mode))
        return ioctl(fd, BLKGETSIZE64, ret_bytes) == 0 ? 0 : -errno;
    *ret_bytes = (uint64_t)st->st_size;
    return 0;
}

static int open_fail(const char *path, bool block, int error, struct hk_io_error *err)
{
    if (error == -EBUSY && block)
        return hk_io_fail(err, error,
                          "%s is in use (mounted, or held by another device): it must "
                          "be Hikae's alone",
                          path);
    if (error == -EINVAL)
        return hk_io_fail(err, error,
                          "cannot open %s with O_DIRECT: its file system does not "
                          "support it; choose another place",
                          path);
    return hk_io_fail(err, error, "cannot open %s: %s", path, strerror(-error));
}

/* A file system does not say it, but refuses what is too small: tried with a read. */
static uint32_t sector_bytes(int fd, bool block)
{
    int bytes = SECTOR_BYTES;
    uint8_t *at;
    ssize_t n;

    if (block)
        return ioctl(fd, BLKSSZGET, &bytes) == 0 && bytes > 0 ? (uint32_t)bytes : SECTOR_BYTES;
    at = aligned_alloc(HK_PAGE_BYTES, HK_PAGE_BYTES);
    if (at == NULL)
        return SECTOR_BYTES;
    n = pread(fd, at, SECTOR_BYTES, SECTOR_BYTES);
    bytes = n < 0 && errno == EINVAL ? HK_PAGE_BYTES : SECTOR_BYTES;
    free(at);
    return (uint32_t)bytes;
}

uint32_t (*hk_disk_sector_bytes)(int fd, bool block) = sector_bytes;

/* What the volume is may change between stat and open; what was opened decides. */
int hk_disk_open_volume(const char *path, uint64_t bytes, bool writable, int *ret_fd,
                        uint64_t *ret_bytes, struct hk_io_error *err)
{
    int flags = (writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC, fd, ret;
    uint64_t size = 0;
    uint32_t sector;
    struct stat st;
    bool block;

    if (stat(path, &st) != 0)
        return open_fail(path, false, -errno, err);
    block = S_ISBLK(st.st_mode);
    if (!block && !S_ISREG(st.st_mode))
        return hk_io_fail(err, -EINVAL, "%s is neither a block device nor a regular file", path);
    fd = open(path, block ? flags | O_EXCL : flags);
    if (fd < 0)
        return open_fail(path, block, -errno, err);
    if (fstat(fd, &st) != 0 || S_ISBLK(st.st_mode) != block || (!block && !S_ISREG(st.st_mode))) {
        ret = hk_io_fail(err, -EIO, "%s changed while it was opened", path);
        goto err_close;
    }
    ret = block ? 0 : lock_file(fd, path, err);
    if (ret < 0)
        goto err_close;
    ret = size_of(fd, &st, &size);
    if (ret < 0) {
        hk_io_fail(err, ret, "cannot tell the size of %s: %s", path, strerror(-ret));
        goto err_close;
    }
    if (bytes != 0 && size != bytes) {
        ret = hk_io_fail(err, size > bytes ? -EFBIG : -EOVERFLOW,
                         "%s has %llu bytes, the group says %llu: sizes must be equal", path,
                         (unsigned long long)size, (unsigned long long)bytes);
        goto err_close;
    }
    sector = hk_disk_sector_bytes(fd, block);
    if (size % sector != 0) {
        ret = hk_io_fail(err, -EOPNOTSUPP,
                         "%s takes whole sectors of %u bytes, and a volume of %llu bytes ends "
                         "inside one: its last %llu bytes could never be written; choose a device "
                         "with sectors of 512 bytes, or a size that is a multiple of %u",
                         path, sector, (unsigned long long)size,
                         (unsigned long long)(size % sector), sector);
        goto err_close;
    }
    *ret_fd = fd;
    if (ret_bytes != NULL)
        *ret_bytes = size;
    return 0;

err_close:
    close(fd);
    return ret;
}

int hk_disk_open_beside(const char *path, int *ret_fd, bool *ret_direct)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    bool direct = fd >= 0;

    if (fd < 0 && errno == EINVAL)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    *ret_direct = direct;
    return 0;
}

/* Zeroes, so that later writes need no block allocation and no metadata: then made durable. */
static int write_whole(int fd, const char *what, uint64_t bytes, uint64_t base, uint64_t total,
                       const struct hk_disk_progress *progress)
{
    uint8_t *zeroes =
        mmap(NULL, WRITE_PIECE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ret = 0;

    if (zeroes == MAP_FAILED)
        return -ENOMEM;
    if (fallocate(fd, 0, 0, (off_t)bytes) != 0 && errno != EOPNOTSUPP)
        ret = -errno;
    for (uint64_t at = 0; at < bytes && ret == 0;) {
        size_t piece = hk_min_u64(bytes - at, WRITE_PIECE_BYTES);
        ssize_t n = pwrite(fd, zeroes, piece, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            ret = n < 0 ? -errno : -EIO;
        else
            at += (uint64_t)n;
        if (ret == 0 && progress != NULL && progress->step != NULL)
            progress->step(progress->arg, what, base + at, total);
    }
    munmap(zeroes, WRITE_PIECE_BYTES);
    if (ret == 0 && fsync(fd) != 0)
        ret = -errno;
    return ret;
}

/* Creates `name` in dir whole or not at all: written and synced under another name first. */
static int create_whole(int dir_fd, const char *name, uint64_t bytes, uint64_t base, uint64_t total,
                        const struct hk_disk_progress *progress, int *ret_fd)
{
    char temp[300];
    int fd, ret;

    snprintf(temp, sizeof(temp), "%s%s", name, temp_suffix);
    fd = openat(dir_fd, temp, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    ret = write_whole(fd, name, bytes, base, total, progress);
    if (ret == 0 && renameat2(dir_fd, temp, dir_fd, name, RENAME_NOREPLACE) != 0)
        ret = -errno;
    if (ret == 0 && fsync(dir_fd) != 0)
        ret = -errno;
    if (ret < 0) {
        unlinkat(dir_fd, temp, 0);
        close(fd);
        return ret;
    }
    *ret_fd = fd;
    return 0;
}

static int create_meta(const char *path, uint64_t bytes, int *ret_fd, struct hk_io_error *err)
{
    const char *slash = strrchr(path, '/');
    char dir[4096] = ".";
    int dir_fd, ret;

    if (slash != NULL)
        snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return hk_io_fail(err, -errno, "cannot open the directory %s: %s", dir, strerror(errno));
    ret = create_whole(dir_fd, slash != NULL ? slash + 1 : path, bytes, 0, bytes, NULL, ret_fd);
    close(dir_fd);
    if (ret == -EEXIST)
        return hk_io_fail(err, ret,
                          "%s exists: it may hold the metadata of a group; it is not "
                          "overwritten",
                          path);
    if (ret < 0)
        return hk_io_fail(err, ret, "cannot create %s (%llu bytes): %s", path,
                          (unsigned long long)bytes, strerror(-ret));
    return 0;
}

/* A file of one hole, and its name, durably. */
static int create_sparse(const char *path, uint64_t bytes, struct hk_io_error *err)
{
    const char *slash = strrchr(path, '/');
    char dir[4096] = ".";
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600), dir_fd, ret = 0;

    if (fd < 0)
        return errno == EEXIST
                   ? 0
                   : hk_io_fail(err, -errno, "cannot create %s: %s", path, strerror(errno));
    if (slash != NULL)
        snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 || ftruncate(fd, (off_t)bytes) || fsync(fd) || fsync(dir_fd))
        ret = hk_io_fail(err, -errno, "cannot create %s (%llu bytes, sparse): %s", path,
                         (unsigned long long)bytes, strerror(errno));
    if (dir_fd >= 0)
        close(dir_fd);
    close(fd);
    if (ret)
        unlink(path);
    return ret;
}

int hk_disk_open_sparse(const char *path, uint64_t bytes, int *ret_fd, struct hk_io_error *err)
{
    int ret = create_sparse(path, bytes, err);

    return ret ? ret : hk_disk_open_volume(path, bytes, true, ret_fd, NULL, err);
}

int hk_disk_open_meta(const char *path, uint64_t bytes, bool create, int *ret_fd,
                      struct hk_io_error *err)
{
    int fd, ret;

    if (!create)
        return hk_disk_open_volume(path, bytes, true, ret_fd, NULL, err);
    ret = create_meta(path, bytes, &fd, err);
    if (ret < 0)
        return ret;
    ret = lock_file(fd, path, err);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- segments ---- */

struct segment_dir {
    const char *path;
    int fd;
    uint64_t bytes;
    uint32_t count, found;
    struct hk_segment_file *files;
};

static int open_segment(struct segment_dir *s, const char *name, struct hk_io_error *err)
{
    struct hk_segment_file *f = &s->files[s->found];
    struct stat st;
    int ret;

    if (s->found == s->count)
        return hk_io_fail(err, -E2BIG,
                          "%s holds more than the %u segment files that are "
                          "configured: raise the journal size, segments are never thrown away",
                          s->path, s->count);
    f->fd = openat(s->fd, name, O_RDWR | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
    if (f->fd < 0)
        return hk_io_fail(err, -errno, "cannot open %s/%s: %s", s->path, name, strerror(errno));
    snprintf(f->name, sizeof(f->name), "%s", name);
    s->found++; /* from here it is closed with the others */
    ret = lock_file(f->fd, name, err);
    if (ret < 0)
        return ret;
    if (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return hk_io_fail(err, -EINVAL, "%s/%s is no regular file", s->path, name);
    if ((uint64_t)st.st_size != s->bytes)
        return hk_io_fail(err, -EFBIG,
                          "%s/%s has %lld bytes, segments have %llu here: the "
                          "segment size of a journal does not change",
                          s->path, name, (long long)st.st_size, (unsigned long long)s->bytes);
    return 0;
}

static int scan_segments(struct segment_dir *s, struct hk_io_error *err)
{
    DIR *dir = fdopendir(openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *e;
    int ret = 0;

    if (dir == NULL)
        return hk_io_fail(err, -errno, "cannot read %s: %s", s->path, strerror(errno));
    while (ret == 0 && (errno = 0, e = readdir(dir)) != NULL) {
        /* Left over from a creation that a crash cut short: it never held anything. */
        if (ends_with(e->d_name, ".seg.new"))
            unlinkat(s->fd, e->d_name, 0);
        else if (ends_with(e->d_name, segment_suffix))
            ret = open_segment(s, e->d_name, err);
    }
    if (ret == 0 && errno != 0)
        ret = hk_io_fail(err, -errno, "cannot read %s: %s", s->path, strerror(errno));
    closedir(dir);
    return ret;
}

static int check_space(const struct segment_dir *s, struct hk_io_error *err)
{
    uint64_t need = (uint64_t)(s->count - s->found) * s->bytes, have;
    struct statvfs v;

    if (need == 0 || fstatvfs(s->fd, &v) != 0)
        return 0;
    have = (uint64_t)v.f_bavail * v.f_frsize;
    if (need > have)
        return hk_io_fail(err, -ENOSPC,
                          "%s needs %llu MiB more for the journal, %llu MiB are "
                          "free: make room or configure a smaller journal",
                          s->path, (unsigned long long)(need >> 20),
                          (unsigned long long)(have >> 20));
    return 0;
}

static int create_segments(struct segment_dir *s, const struct hk_disk_progress *progress,
                           struct hk_io_error *err)
{
    uint64_t total = (uint64_t)(s->count - s->found) * s->bytes, base = 0;
    int ret;

    for (uint32_t number = 0; s->found < s->count; number++) {
        struct hk_segment_file *f = &s->files[s->found];

        snprintf(f->name, sizeof(f->name), "free-%08u%s", number, segment_suffix);
        if (faccessat(s->fd, f->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        ret = create_whole(s->fd, f->name, s->bytes, base, total, progress, &f->fd);
        if (ret < 0)
            return hk_io_fail(err, ret, "cannot create %s/%s: %s", s->path, f->name,
                              strerror(-ret));
        s->found++;
        base += s->bytes;
        ret = lock_file(f->fd, f->name, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct hk_segment_file *x = a, *y = b;

    return strcmp(x->name, y->name);
}

int hk_disk_open_segments(const char *dir, uint64_t bytes, uint32_t count,
                          const struct hk_disk_progress *progress, int *ret_dir_fd,
                          struct hk_segment_file *ret_files, struct hk_io_error *err)
{
    struct segment_dir s = {.path = dir, .bytes = bytes, .count = count};
    int ret;

    if (bytes == 0 || bytes % 4096 != 0)
        return hk_io_fail(err, -EINVAL, "a segment of %llu bytes is no multiple of 4096",
                          (unsigned long long)bytes);
    s.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.fd < 0)
        return hk_io_fail(err, -errno, "cannot open the journal directory %s: %s", dir,
                          strerror(errno));
    s.files = calloc(count, sizeof(*s.files));
    if (s.files == NULL) {
        ret = hk_io_fail(err, -ENOMEM, "no memory for %u segment files", count);
        goto err_close;
    }
    ret = lock_file(s.fd, dir, err);
    if (ret == 0)
        ret = scan_segments(&s, err);
    if (ret == 0)
        ret = check_space(&s, err);
    if (ret == 0)
        ret = create_segments(&s, progress, err);
    if (ret < 0)
        goto err_files;
    qsort(s.files, count, sizeof(*s.files), by_name);
    memcpy(ret_files, s.files, count * sizeof(*s.files));
    free(s.files);
    *ret_dir_fd = s.fd;
    return 0;

err_files:
    for (uint32_t i = 0; i < s.found; i++)
        close(s.files[i].fd);
    free(s.files);
err_close:
    close(s.fd);
    return ret;
}
