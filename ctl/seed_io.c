/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/seed_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/super.h"

#define MANIFEST_BYTES_MAX (4ull << 30)

int hk_seed_read(const char *dir, const char *file, bool partial, struct hk_seed *ret_seed,
                 struct hk_seed_fault *fault)
{
    char path[PATH_MAX];
    struct stat st;
    char *text = NULL;
    int fd, r;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE3210E %s can't be opened: %s; an export that was not finished has "
                           "no manifest",
                           path, strerror(errno));
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size < MANIFEST_BYTES_MAX)
        text = malloc((size_t)st.st_size + 1);
    if (!text || hk_seed_read_at(fd, text, (uint64_t)st.st_size, 0)) {
        free(text);
        close(fd);
        return hk_complain(HK_EXIT_FAILED, "HKE3210E %s can't be read: %s", path, strerror(errno));
    }
    close(fd);
    r = hk_seed_parse(text, (size_t)st.st_size, partial, ret_seed, fault);
    free(text);
    if (r == -ENOMEM)
        return hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    return r ? hk_complain(HK_EXIT_REFUSED, "HKE3211E %s, line %u %s", path, fault->line,
                           fault->text)
             : 0;
}

FILE *hk_seed_create(int dir_fd, const char *file)
{
    int fd = openat(dir_fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? NULL : fdopen(fd, "w");
}

int hk_seed_close(FILE *f)
{
    int bad = ferror(f) || fflush(f) || fsync(fileno(f));

    return fclose(f) || bad ? -1 : 0;
}

int hk_seed_cut(int dir_fd, const char *file, uint64_t bytes)
{
    int fd = openat(dir_fd, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), r = -1;

    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && fsync(fd) == 0)
        r = 0;
    if (fd >= 0)
        close(fd);
    return r;
}

int hk_seed_open(const char *path, int flags, bool exclusive)
{
    struct stat st;
    int fd;

    if (stat(path, &st))
        return -1;
    if (exclusive && S_ISBLK(st.st_mode))
        flags |= O_EXCL;
    fd = open(path, flags | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL)
        fd = open(path, flags | O_CLOEXEC);
    if (fd >= 0 && exclusive && !S_ISBLK(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB)) {
        close(fd);
        errno = EBUSY;
        return -1;
    }
    return fd;
}

/* The tail that is smaller than a page: O_DIRECT may not take it. */
static int without_direct(int fd, bool off)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, off ? flags & ~O_DIRECT : flags | O_DIRECT);
}

static int transfer(int fd, uint8_t *in, const uint8_t *out, uint64_t bytes, uint64_t offset)
{
    while (bytes > 0) {
        ssize_t n =
            in ? pread(fd, in, bytes, (off_t)offset) : pwrite(fd, out, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = in ? ENODATA : ENOSPC;
        if (n <= 0)
            return -1;
        in = in ? in + n : NULL;
        out = out ? out + n : NULL;
        bytes -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int in_two(int fd, uint8_t *in, const uint8_t *out, uint64_t bytes, uint64_t offset)
{
    uint64_t whole = bytes / 4096 * 4096;
    int flags = fcntl(fd, F_GETFL), r;

    if (flags < 0 || !(flags & O_DIRECT) || whole == bytes)
        return transfer(fd, in, out, bytes, offset);
    r = transfer(fd, in, out, whole, offset);
    if (r || without_direct(fd, true))
        return -1;
    r = transfer(fd, in ? in + whole : NULL, out ? out + whole : NULL, bytes - whole,
                 offset + whole);
    return without_direct(fd, false) ? -1 : r;
}

int hk_seed_read_at(int fd, void *data, uint64_t bytes, uint64_t offset)
{
    return in_two(fd, data, NULL, bytes, offset);
}

int hk_seed_write_at(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
    return in_two(fd, NULL, data, bytes, offset);
}

void hk_seed_progress(const struct hk_options *o, const struct timespec *begun, const char *what,
                      uint64_t done, uint64_t before, const struct hk_seed *s)
{
    uint64_t step = hk_max_u64(s->pieces / 20, 1);
    struct timespec now;
    double t;

    if (o->json || (done % step && done != s->pieces))
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    t = (double)(now.tv_sec - begun->tv_sec) + (double)(now.tv_nsec - begun->tv_nsec) / 1e9;
    fprintf(stderr, "  %3d %% %s", (int)(done * 100 / s->pieces), what);
    if (done > before && t > 0)
        fprintf(stderr, "  %.0f MB/s  about %.0f s left",
                (double)(done - before) * (double)s->piece_bytes / t / 1e6,
                t * (double)(s->pieces - done) / (double)(done - before));
    fputc('\n', stderr);
}

int hk_seed_super(const struct hk_metadata_place *p, int flags, int *ret_fd, struct hk_super *ret)
{
    const char *path = p->path;
    static uint8_t slots[2 * HK_SUPER_BYTES] __attribute__((aligned(8)));
    int fd = open(path, flags | O_CLOEXEC), rc;

    if (fd < 0)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE3205E %s can't be opened: %s; make it with `hikae "
                           "create-md`",
                           path, strerror(errno));
    if (ret_fd && flock(fd, LOCK_EX | LOCK_NB)) {
        close(fd);
        return hk_complain(HK_EXIT_REFUSED, "HKE1042E %s is in use; stop what uses it first", path);
    }
    rc = pread(fd, slots, sizeof(slots), (off_t)hk_metadata_slots_at(fd, p->at_end)) ==
                 (ssize_t)sizeof(slots)
             ? hk_super_pick(slots, slots + HK_SUPER_BYTES, ret, NULL)
             : -EIO;
    if (rc == 0 && ret_fd) {
        *ret_fd = fd;
        return 0;
    }
    close(fd);
    return rc ? hk_complain(HK_EXIT_FAILED,
                            "HKE3205E %s holds no sound superblock; look with "
                            "`hikae dump`",
                            path)
              : 0;
}
