/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata at the end of the first volume's origin (SPEC.md §6.15): where it stands, and whether
 * somebody else needs those bytes. A file system that reaches there, or that keeps something at the
 * end of its device, is refused with its name and its end; so is anything that is not zero and that
 * nobody here knows, without --force.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/metadata.h"
#include "proto/dmap.h"
#include "proto/super.h"

enum { HEAD_BYTES = 72 << 10, TAIL_BYTES = 64 << 10 };

void hk_metadata_place(const struct hk_local_conf *l, struct hk_metadata_place *ret)
{
    ret->at_end = strcmp(l->capture.metadata, "end") == 0;
    ret->path = ret->at_end ? l->capture.origin[0] : l->capture.metadata;
}

uint64_t hk_metadata_slots_at(int fd, bool at_end)
{
    off_t end = at_end ? lseek(fd, 0, SEEK_END) : 0;

    return end < 2 * HK_SUPER_BYTES
               ? 0
               : (uint64_t)end / HK_PAGE_BYTES * HK_PAGE_BYTES - 2 * HK_SUPER_BYTES;
}

/* ---- who else is there ---- */

static uint64_t number(const uint8_t *p, unsigned bytes, bool big)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < bytes; i++)
        n = n << 8 | p[big ? i : bytes - 1 - i];
    return n;
}

struct tenant {
    const char *name;
    uint64_t end; /* UINT64_MAX: it keeps something at the end of whatever it is on */
};

static bool looks_like(const uint8_t *at, const char *magic)
{
    return memcmp(at, magic, strlen(magic)) == 0;
}

static struct tenant file_system(const uint8_t *head)
{
    const uint8_t *ext = head + 1024, *btrfs = head + 65536;

    if (number(ext + 56, 2, false) == 0xef53) {
        uint64_t blocks = number(ext + 4, 4, false);

        if (number(ext + 96, 4, false) & 0x80) /* 64-bit */
            blocks |= number(ext + 336, 4, false) << 32;
        return (struct tenant){"an ext file system",
                               blocks << (10 + number(ext + 24, 4, false) % 32)};
    }
    if (looks_like(head, "XFSB"))
        return (struct tenant){"an XFS file system",
                               number(head + 8, 8, true) * number(head + 4, 4, true)};
    if (looks_like(btrfs + 64, "_BHRfS_M"))
        return (struct tenant){"a btrfs file system", number(btrfs + 112, 8, false)};
    if (looks_like(head + 3, "NTFS    "))
        return (struct tenant){"an NTFS file system", UINT64_MAX};
    if (looks_like(head, "LUKS\xba\xbe"))
        return (struct tenant){"a LUKS container", UINT64_MAX};
    if (looks_like(head + 512, "LABELONE"))
        return (struct tenant){"an LVM physical volume", UINT64_MAX};
    if (looks_like(head + 4086, "SWAPSPACE2"))
        return (struct tenant){"swap", (number(head + 1028, 4, false) + 1) * 4096};
    if (looks_like(head + 512, "EFI PART") || looks_like(head + 4096, "EFI PART"))
        return (struct tenant){"a GPT partition table (its copy stands at the end)", UINT64_MAX};
    return (struct tenant){NULL, 0};
}

static struct tenant at_the_end(const uint8_t *tail, size_t bytes)
{
    for (size_t at = 0; at + 512 <= bytes; at += 512) {
        if (number(tail + at, 4, false) == 0xa92b4efc)
            return (struct tenant){"a member of an MD array", UINT64_MAX};
        if (looks_like(tail + at, "EFI PART"))
            return (struct tenant){"the copy of a GPT partition table", UINT64_MAX};
    }
    return (struct tenant){NULL, 0};
}

static bool is_zero(int fd, uint64_t from, uint64_t to)
{
    static uint8_t piece[1 << 20];

    while (from < to) {
        size_t n = (size_t)hk_min_u64(to - from, sizeof(piece));

        if (pread(fd, piece, n, (off_t)from) != (ssize_t)n || piece[0] ||
            memcmp(piece, piece + 1, n - 1) != 0)
            return false;
        from += n;
    }
    return true;
}

static int refuse(const struct hk_metadata_place *p, const struct tenant *t, uint64_t begin)
{
    if (t->end == UINT64_MAX)
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE1046E %s holds %s, which needs the device's end; use a metadata "
                           "file or device of its own",
                           p->path, t->name);
    return hk_complain(HK_EXIT_REFUSED,
                       "HKE1046E %s holds %s that ends at byte %" PRIu64
                       ", and the metadata would begin at %" PRIu64
                       "; make it smaller first, by %" PRIu64 " bytes at least",
                       p->path, t->name, t->end, begin, t->end - begin);
}

int hk_metadata_end_judge(const struct hk_metadata_place *p, int fd, const struct hk_super *s,
                          uint64_t bytes, bool force)
{
    uint8_t *head = calloc(1, HEAD_BYTES), *tail = calloc(1, TAIL_BYTES);
    uint64_t slots = hk_metadata_slots_at(fd, true), begin, n;
    struct tenant t = {NULL, 0};
    bool known, ours = hk_metadata_there(p);
    int r = 0;

    if (slots + 2 * HK_SUPER_BYTES < bytes ||
        s->volume[0].bytes > slots + 2 * HK_SUPER_BYTES - bytes)
        r = hk_complain(HK_EXIT_REFUSED,
                        "HKE1046E %s: the metadata takes the last %" PRIu64
                        " bytes, and the volume %s of %" PRIu64
                        " bytes reaches into them; give it at most %" PRIu64 " in group.conf",
                        p->path, bytes, s->volume[0].name, s->volume[0].bytes,
                        slots + 2 * HK_SUPER_BYTES < bytes ? 0
                                                           : slots + 2 * HK_SUPER_BYTES - bytes);
    if (r || !head || !tail)
        goto out;
    begin = slots + 2 * HK_SUPER_BYTES - bytes;
    n = hk_min_u64(TAIL_BYTES, slots + 2 * HK_SUPER_BYTES);
    if (pread(fd, head, HEAD_BYTES, 0) < 0 ||
        pread(fd, tail, n, (off_t)(slots + 2 * HK_SUPER_BYTES - n)) < 0) {
        r = hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be read: %s", p->path, strerror(errno));
        goto out;
    }
    t = file_system(head);
    known = t.name && t.end <= begin;
    if (!ours && (!t.name || known))
        t = at_the_end(tail, n).name ? at_the_end(tail, n) : t;
    if (t.name && t.end > begin)
        r = refuse(p, &t, begin);
    else if (!known && !ours && !force && !is_zero(fd, begin, slots + 2 * HK_SUPER_BYTES))
        r = hk_complain(HK_EXIT_REFUSED,
                        "HKE1046E %s: what stands from byte %" PRIu64
                        " to its end is not zero, and nothing tells whose it is; use --force only "
                        "if it may be lost",
                        p->path, begin);
out:
    free(head);
    free(tail);
    return r;
}

/* ---- for dump: slots and map as they stand in a file of their own ---- */

int hk_metadata_end_load(const char *path, uint8_t **ret_bytes, uint64_t *ret_size)
{
    static struct hk_super s;
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = -1;
    uint64_t slots, bytes = HK_DMAP_LOG_AT, regions = 0;
    uint8_t *b = NULL, *more;

    if (fd < 0)
        return -errno;
    slots = hk_metadata_slots_at(fd, true);
    b = malloc(bytes);
    if (!b || pread(fd, b, bytes, (off_t)slots) != (ssize_t)bytes)
        goto out;
    if (hk_super_pick(b, b + HK_SUPER_BYTES, &s, NULL) == 0 && s.region_shift) {
        for (uint32_t i = 0; i < s.volume_count; i++)
            regions += hk_dmap_regions(s.volume[i].bytes, s.region_shift);
        bytes = hk_dmap_file_bytes(regions);
    }
    more = bytes <= slots ? realloc(b, bytes) : NULL;
    if (!more)
        goto out;
    b = more;
    if (pread(fd, b + HK_DMAP_LOG_AT, bytes - HK_DMAP_LOG_AT,
              (off_t)(slots - (bytes - HK_DMAP_LOG_AT))) != (ssize_t)(bytes - HK_DMAP_LOG_AT))
        goto out;
    *ret_bytes = b;
    *ret_size = bytes;
    b = NULL;
    r = 0;
out:
    free(b);
    close(fd);
    return r ? -EIO : 0;
}
