/* SPDX-License-Identifier: Apache-2.0 */
#include "driver-glue/nbd/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "proto/record.h"

enum { ZERO_BYTES = 1 << 20, SECTOR_BYTES = 512, PAGE_BYTES = 4096, DROP_BYTES = 4 << 20 };

static uint32_t sector_bytes(int fd, bool is_device)
{
    int bytes = 0;

    if (!is_device || ioctl(fd, BLKSSZGET, &bytes) < 0 || bytes <= 0)
        return SECTOR_BYTES;
    return (uint32_t)bytes;
}

uint32_t (*hk_origin_sector_bytes)(int fd, bool is_device) = sector_bytes;

bool hk_origin_holds(const struct hk_origin *o, uint64_t volume_bytes)
{
    return volume_bytes % o->sector == 0;
}

int hk_origin_open(const char *path, struct hk_origin *ret_origin)
{
    struct hk_origin o = {.fd = -1, .direct = -1};
    struct stat st;
    int rc;

    if (stat(path, &st) < 0)
        return -errno;
    o.is_device = S_ISBLK(st.st_mode);
    if (!o.is_device && !S_ISREG(st.st_mode))
        return -ENOTBLK;
    o.fd = open(path, O_RDWR | O_CLOEXEC | (o.is_device ? O_EXCL : 0));
    if (o.fd < 0)
        return -errno;
    rc = -EBUSY;
    if (!o.is_device && flock(o.fd, LOCK_EX | LOCK_NB) < 0)
        goto err_close;
    if (o.is_device) {
        rc = ioctl(o.fd, BLKGETSIZE64, &o.bytes) < 0 ? -errno : 0;
    } else {
        rc = fstat(o.fd, &st) < 0 ? -errno : 0;
        o.bytes = (uint64_t)st.st_size;
    }
    if (rc)
        goto err_close;
    o.sector = hk_origin_sector_bytes(o.fd, o.is_device);
    o.direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    *ret_origin = o;
    return 0;
err_close:
    close(o.fd);
    return rc;
}

void hk_origin_close(struct hk_origin *o)
{
    if (o->fd >= 0)
        close(o->fd);
    if (o->direct >= 0)
        close(o->direct);
    o->fd = o->direct = -1;
}

static int read_all(int fd, void *data, size_t bytes, uint64_t offset)
{
    uint8_t *at = data;

    while (bytes > 0) {
        ssize_t n = pread(fd, at, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO; /* somebody made it shorter */
        at += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int hk_origin_read(const struct hk_origin *o, void *data, size_t bytes, uint64_t offset)
{
    return read_all(o->fd, data, bytes, offset);
}

int hk_origin_read_medium(const struct hk_origin *o, void *data, size_t bytes, uint64_t offset)
{
    uint8_t *at = data;
    size_t done = 0;

    while (o->direct >= 0 && done < bytes) {
        ssize_t n = pread(o->direct, at + done, hk_round_up(bytes - done, PAGE_BYTES),
                          (off_t)(offset + done));
        size_t whole = n > 0 ? (done + (size_t)n) / PAGE_BYTES * PAGE_BYTES : 0;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL)
            break; /* larger pieces only, or none at all after all */
        if (n < 0)
            return -errno;
        if (done + (size_t)n < bytes && whole <= done)
            return -EIO; /* somebody made it shorter */
        done = done + (size_t)n < bytes ? whole : bytes;
    }
    if (done >= bytes)
        return 0;
    /* A folio of the cache goes as a whole, or not at all. */
    posix_fadvise(o->fd, (off_t)(offset / DROP_BYTES * DROP_BYTES),
                  (off_t)(hk_round_up(bytes, DROP_BYTES) + DROP_BYTES), POSIX_FADV_DONTNEED);
    return read_all(o->fd, data, bytes, offset);
}

int hk_origin_write(const struct hk_origin *o, const void *data, size_t bytes, uint64_t offset,
                    bool durable)
{
    union {
        const void *in;
        uint8_t *out;
    } at = {.in = data};
    int flags = durable ? RWF_DSYNC : 0;
    bool flush_after = false;

    while (bytes > 0) {
        struct iovec iov = {at.out, bytes};
        ssize_t n = pwritev2(o->fd, &iov, 1, (off_t)offset, flags);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && flags && (errno == EOPNOTSUPP || errno == EINVAL)) {
            flags = 0;
            flush_after = true;
            continue;
        }
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        at.out += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return flush_after ? hk_origin_flush(o) : 0;
}

static int write_zeroes(const struct hk_origin *o, uint64_t bytes, uint64_t offset)
{
    static const uint8_t zeroes[ZERO_BYTES];

    while (bytes > 0) {
        uint64_t some = hk_min_u64(bytes, ZERO_BYTES);
        int rc = hk_origin_write(o, zeroes, some, offset, false);

        if (rc)
            return rc;
        bytes -= some;
        offset += some;
    }
    return 0;
}

static bool cannot(int error)
{
    return error == EOPNOTSUPP || error == ENOSYS || error == EINVAL || error == ENODEV;
}

int hk_origin_zero(const struct hk_origin *o, uint64_t bytes, uint64_t offset, bool unmap,
                   bool durable)
{
    const int modes[2] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    int rc = -EOPNOTSUPP;

    for (int i = unmap ? 0 : 1; i < 2 && rc == -EOPNOTSUPP; i++) {
        rc = 0;
        while (fallocate(o->fd, modes[i], (off_t)offset, (off_t)bytes) < 0) {
            if (errno == EINTR)
                continue;
            rc = cannot(errno) ? -EOPNOTSUPP : -errno;
            break;
        }
    }
    if (rc == -EOPNOTSUPP)
        rc = write_zeroes(o, bytes, offset);
    if (rc)
        return rc;
    return durable ? hk_origin_flush(o) : 0;
}

int hk_origin_grow(struct hk_origin *o, uint64_t bytes)
{
    uint64_t now = 0;
    struct stat st;

    if (o->is_device) {
        if (ioctl(o->fd, BLKGETSIZE64, &now) < 0)
            return -errno;
        if (now < bytes)
            return -ENOSPC;
        o->bytes = now;
        return 0;
    }
    if (fstat(o->fd, &st) < 0)
        return -errno;
    o->bytes = (uint64_t)st.st_size;
    if (o->bytes >= bytes)
        return 0;
    if (fallocate(o->fd, 0, (off_t)o->bytes, (off_t)(bytes - o->bytes)) < 0 &&
        (errno != EOPNOTSUPP || ftruncate(o->fd, (off_t)bytes) < 0))
        return -errno;
    o->bytes = bytes;
    return fsync(o->fd) < 0 ? -errno : 0;
}

int hk_origin_flush(const struct hk_origin *o)
{
    int error;

    if (fdatasync(o->fd) == 0)
        return 0;
    error = -errno;
    posix_fadvise(o->fd, 0, 0, POSIX_FADV_DONTNEED);
    return error;
}

int hk_origin_record(const struct hk_origin *o, uint8_t type, const void *data, uint32_t length,
                     uint64_t offset, bool durable)
{
    switch ((enum hk_record_type)type) {
    case HK_REC_WRITE: return hk_origin_write(o, data, length, offset, durable);
    case HK_REC_ZEROES: return hk_origin_zero(o, length, offset, false, durable);
    case HK_REC_DISCARD: return hk_origin_zero(o, length, offset, true, durable);
    case HK_REC_FLUSH: return hk_origin_flush(o);
    case HK_REC_MARK:
    case HK_REC_GAP:
    case HK_REC_VOID:
    case HK_REC_RESYNC_BEGIN:
    case HK_REC_BLOCK:
    case HK_REC_BAD_RANGE:
    case HK_REC_RESYNC_END:
    case HK_REC_MODE:
    case HK_REC_JOIN:
    case HK_REC_LEAVE:
    case HK_REC_RESIZE: break;
    }
    HK_ASSERT(!"no origin operation of this type");
    return -EINVAL;
}
