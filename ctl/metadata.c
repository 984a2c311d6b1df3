/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new metadata file. The dirty map is written and flushed first, the superblock last: a file
 * whose making was cut off has no superblock, and is nobody's metadata.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
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

int hk_metadata_write(const char *path, struct hk_super *super)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r = 1;
    uint8_t *slot = calloc(1, HK_SUPER_BYTES);
    uint64_t old = 2 * HK_SUPER_BYTES + HK_DMAP_RESERVED_BYTES;
    off_t size =
        (off_t)hk_max_u64(old, super->region_shift ? hk_dmap_file_bytes(regions_of(super)) : 0);

    if (fd < 0 || !slot) {
        r = hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", path, strerror(errno));
        goto out;
    }
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        r = hk_complain(HK_EXIT_REFUSED, "HKE1042E %s is in use; stop what uses it first", path);
        goto out;
    }
    /* Both slots are emptied first: an older superblock must not win over the new one. */
    if (ftruncate(fd, 0) || ftruncate(fd, size) || posix_fallocate(fd, 0, size) || fsync(fd) ||
        (super->region_shift && (put_map(fd, super, slot) || fsync(fd)))) {
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
