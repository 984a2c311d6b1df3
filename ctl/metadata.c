/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new metadata file, or a device used as one. The dirty map is written and flushed first, the
 * superblock last: what was cut off in its making has no superblock, and is nobody's metadata.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "proto/dmap.h"
#include "proto/super.h"

static uint64_t regions_of(const struct hk_super *s)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < s->volume_count; i++)
        end = hk_max_u64(end, s->volume[i].first_region +
                                  hk_dmap_regions(s->volume[i].bytes, s->region_shift));
    return end;
}

static int put(int fd, const void *bytes, size_t count, uint64_t offset)
{
    ssize_t n = pwrite(fd, bytes, count, (off_t)offset);

    if (n >= 0 && (size_t)n != count)
        errno = ENOSPC;
    return n < 0 || (size_t)n != count;
}

/* The whole ring of empty transactions, and every page of the map: clean, or all of it stale. */
static int put_map(int fd, const struct hk_super *s, uint8_t *page)
{
    struct hk_dmap_id id = hk_dmap_id(&s->replica_id, &s->peer_replica_id);
    uint8_t packed[HK_DMAP_PAGE_STATES] = {0};
    struct hk_dmap_stamp stamp = {0};
    uint64_t left = regions_of(s);

    HK_ASSERT(s->dmap_sequence == HK_DMAP_LOG_PAGES);
    for (stamp.sequence = 1; stamp.sequence <= s->dmap_sequence; stamp.sequence++) {
        hk_dmap_log_fill(&id, &stamp, page);
        if (put(fd, page, HK_DMAP_PAGE_BYTES, hk_dmap_log_offset(stamp.sequence)))
            return 1;
    }
    for (uint32_t place = 0; place < hk_dmap_map_pages(regions_of(s)); place++) {
        uint64_t here = hk_min_u64(left, HK_DMAP_PAGE_REGIONS);

        memset(packed, 0, sizeof(packed));
        for (uint64_t r = 0; r < here && (s->flags & HK_SF_FULL_COMPARE); r++)
            hk_dmap_state_set(packed, r, HK_DMAP_STALE);
        left -= here;
        stamp.sequence = place + 1;
        hk_dmap_map_build(&id, &stamp, place, packed, page);
        if (put(fd, page, HK_DMAP_PAGE_BYTES, hk_dmap_map_offset(place)))
            return 1;
    }
    return 0;
}

static bool is_device(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
}

/* Both slots blank: an older superblock must not win over the new one, nor stand beside it. */
static bool slots_blank(int fd)
{
    uint8_t page[HK_PAGE_BYTES];

    for (uint64_t at = 0; at < 2 * HK_SUPER_BYTES; at += sizeof(page)) {
        if (pread(fd, page, sizeof(page), (off_t)at) != (ssize_t)sizeof(page))
            return false;
        if (page[0] != 0 || memcmp(page, page + 1, sizeof(page) - 1) != 0)
            return false;
    }
    return true;
}

bool hk_metadata_there(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool there;

    if (fd < 0)
        return errno != ENOENT;
    there = !is_device(fd) || !slots_blank(fd);
    close(fd);
    return there;
}

/* Room for it all, and no superblock, durably. */
static int make_room(int fd, uint64_t bytes)
{
    static const uint8_t zero[2 * HK_SUPER_BYTES];
    off_t end;

    if (!is_device(fd))
        return ftruncate(fd, 0) || ftruncate(fd, (off_t)bytes) ||
               posix_fallocate(fd, 0, (off_t)bytes) || fsync(fd);
    end = lseek(fd, 0, SEEK_END);
    if (end < 0 || (uint64_t)end < bytes) {
        errno = ENOSPC;
        return 1;
    }
    return put(fd, zero, sizeof(zero), 0) || fsync(fd);
}

int hk_metadata_write(const char *path, struct hk_super *super)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r = 1;
    uint8_t *slot = calloc(1, HK_SUPER_BYTES);
    uint64_t bytes = 2 * HK_SUPER_BYTES + HK_DMAP_RESERVED_BYTES;

    if (super->region_shift)
        bytes = hk_max_u64(bytes, hk_dmap_file_bytes(regions_of(super)));
    if (fd < 0 || !slot) {
        r = hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", path, strerror(errno));
        goto out;
    }
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        r = hk_complain(HK_EXIT_REFUSED, "HKE1042E %s is in use; stop what uses it first", path);
        goto out;
    }
    if (make_room(fd, bytes) || (super->region_shift && (put_map(fd, super, slot) || fsync(fd)))) {
        r = hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", path, strerror(errno));
        goto out;
    }
    hk_super_encode(super, slot);
    if (put(fd, slot, HK_SUPER_BYTES, (super->sequence & 1) * HK_SUPER_BYTES) || fsync(fd)) {
        r = hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", path, strerror(errno));
        goto out;
    }
    r = 0;
out:
    free(slot);
    if (fd >= 0)
        close(fd);
    return r;
}
