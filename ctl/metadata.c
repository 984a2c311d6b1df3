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
#include "ctl/metadata.h"
#include "proto/dmap.h"
#include "proto/super.h"

static uint64_t regions_of(const struct hk_super *s)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < s->volume_count; i++)
        end = hk_max_u64(end, s->volume[i].first_region +
                                  hk_dmap_regions(hk_super_room(&s->volume[i]), s->region_shift));
    return end;
}

/* Where the parts of the metadata lie in what is open: in a file of its own, both are 0. */
struct target {
    int fd;
    uint64_t slots_at, map_shift;
};

static int put(const struct target *t, const void *bytes, size_t count, uint64_t offset)
{
    uint64_t at = offset + (offset < HK_DMAP_LOG_AT ? t->slots_at : t->map_shift);
    ssize_t n = pwrite(t->fd, bytes, count, (off_t)at);

    if (n >= 0 && (size_t)n != count)
        errno = ENOSPC;
    return n < 0 || (size_t)n != count;
}

/* The whole ring of empty transactions, and every page of the map: clean, or all of it stale. */
static int put_map(const struct target *t, const struct hk_super *s, uint8_t *page)
{
    struct hk_dmap_id id = hk_dmap_id(&s->replica_id, &s->peer_replica_id);
    uint8_t packed[HK_DMAP_PAGE_STATES] = {0};
    struct hk_dmap_stamp stamp = {0};
    uint64_t left = regions_of(s);

    HK_ASSERT(s->dmap_sequence == HK_DMAP_LOG_PAGES);
    for (stamp.sequence = 1; stamp.sequence <= s->dmap_sequence; stamp.sequence++) {
        hk_dmap_log_fill(&id, &stamp, page);
        if (put(t, page, HK_DMAP_PAGE_BYTES, hk_dmap_log_offset(stamp.sequence)))
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
        if (put(t, page, HK_DMAP_PAGE_BYTES, hk_dmap_map_offset(place)))
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

/* At an origin's end anything may stand: only a whole superblock is metadata. */
static bool slot_is_whole(int fd)
{
    uint8_t *slots = malloc(2 * HK_SUPER_BYTES);
    struct hk_super *super = malloc(sizeof(*super));
    bool whole = slots && super &&
                 pread(fd, slots, 2 * HK_SUPER_BYTES, (off_t)hk_metadata_slots_at(fd, true)) ==
                     2 * HK_SUPER_BYTES &&
                 hk_super_pick(slots, slots + HK_SUPER_BYTES, super, NULL) == 0;

    free(slots);
    free(super);
    return whole;
}

bool hk_metadata_there(const struct hk_metadata_place *p)
{
    int fd = open(p->path, O_RDONLY | O_CLOEXEC);
    bool there;

    if (fd < 0)
        return errno != ENOENT;
    there = p->at_end ? slot_is_whole(fd) : !is_device(fd) || !slots_blank(fd);
    close(fd);
    return there;
}

/* Room for it all, and no superblock, durably. */
static int make_room(const struct target *t, const struct hk_metadata_place *p, uint64_t bytes)
{
    static const uint8_t zero[2 * HK_SUPER_BYTES];
    off_t end;

    if (p->at_end)
        return put(t, zero, sizeof(zero), 0) || fsync(t->fd);
    if (!is_device(t->fd))
        return ftruncate(t->fd, 0) || ftruncate(t->fd, (off_t)bytes) ||
               posix_fallocate(t->fd, 0, (off_t)bytes) || fsync(t->fd);
    end = lseek(t->fd, 0, SEEK_END);
    if (end < 0 || (uint64_t)end < bytes) {
        errno = ENOSPC;
        return 1;
    }
    return put(t, zero, sizeof(zero), 0) || fsync(t->fd);
}

static int write_all(const struct target *t, const struct hk_metadata_place *p, uint64_t bytes,
                     const struct hk_super *super)
{
    uint8_t *slot = calloc(1, HK_SUPER_BYTES);
    int bad = !slot || make_room(t, p, bytes) ||
              (super->region_shift && (put_map(t, super, slot) || fsync(t->fd)));

    if (!bad) {
        hk_super_encode(super, slot);
        bad = put(t, slot, HK_SUPER_BYTES, (super->sequence & 1) * HK_SUPER_BYTES) || fsync(t->fd);
    }
    free(slot);
    return bad ? hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", p->path,
                             strerror(errno))
               : 0;
}

static int open_exclusive(const struct hk_metadata_place *p)
{
    struct stat st;
    int flags = O_RDWR | O_CLOEXEC | (p->at_end ? 0 : O_CREAT);

    if (p->at_end && stat(p->path, &st) == 0 && S_ISBLK(st.st_mode))
        flags |= O_EXCL;
    return open(p->path, flags, 0600);
}

int hk_metadata_write(const struct hk_metadata_place *p, struct hk_super *super, bool force)
{
    struct target t = {.fd = open_exclusive(p)};
    uint64_t bytes = p->at_end ? 2 * HK_SUPER_BYTES : 2 * HK_SUPER_BYTES + HK_DMAP_RESERVED_BYTES;
    int r = 0;

    if (super->region_shift)
        bytes = hk_max_u64(bytes, hk_dmap_file_bytes(regions_of(super)));
    if (t.fd < 0)
        return errno == EBUSY ? hk_complain(HK_EXIT_REFUSED,
                                            "HKE1042E %s is in use; stop what "
                                            "uses it first",
                                            p->path)
                              : hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s",
                                            p->path, strerror(errno));
    if (flock(t.fd, LOCK_EX | LOCK_NB))
        r = hk_complain(HK_EXIT_REFUSED, "HKE1042E %s is in use; stop what uses it first", p->path);
    if (!r && p->at_end) {
        r = hk_metadata_end_judge(p, t.fd, super, bytes, force);
        t.slots_at = hk_metadata_slots_at(t.fd, true);
        t.map_shift = t.slots_at - bytes;
    }
    if (!r)
        r = write_all(&t, p, bytes, super);
    close(t.fd);
    return r;
}

/*
 * The map first, then one slot after the other: an older release finds what it knew, or nothing it
 * knows; the newer one finds the newest slot whole at every moment.
 */
int hk_metadata_rewrite(const struct hk_metadata_place *p, int fd, struct hk_super *super)
{
    struct target t = {.fd = fd};
    uint64_t bytes = super->region_shift ? hk_dmap_file_bytes(regions_of(super)) : 0;
    uint8_t *slot = calloc(1, HK_SUPER_BYTES);
    off_t end = lseek(fd, 0, SEEK_END);
    int bad = !slot || end < 0;

    HK_ASSERT(!p->at_end);
    if (!bad && (uint64_t)end < bytes) {
        bad = is_device(fd) || posix_fallocate(fd, 0, (off_t)bytes);
        errno = bad ? ENOSPC : errno;
    }
    bad = bad || (super->region_shift && (put_map(&t, super, slot) || fsync(fd)));
    for (int i = 0; i < 2 && !bad; i++) {
        super->sequence++;
        hk_super_encode(super, slot);
        bad = put(&t, slot, HK_SUPER_BYTES, (super->sequence & 1) * HK_SUPER_BYTES) || fsync(fd);
    }
    free(slot);
    return bad ? hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", p->path,
                             strerror(errno))
               : 0;
}
