/* SPDX-License-Identifier: Apache-2.0 */
/* Taking hold of a group: metadata, origins, ring; then redo, before anybody may read. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver-glue/nbd/engine.h"
#include "driver-glue/nbd/messages.h"
#include "driver-glue/nbd/open.h"
#include "proto/at.h"
#include "proto/dmap.h"
#include "proto/hash.h"

/*
 * A ring that outlived its host's memory (on a disk, by mistake) is older than it looks. So the
 * second half of a ring's id names the boot it was made in.
 */
static uint64_t boot_tag(void)
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (read(fd, text, sizeof(text) - 1) < 0)
            text[0] = '\0';
        close(fd);
    }
    return hk_xxh64(text, strlen(text), 1);
}

static int make_ring_id(struct hk_uuid *ret_id)
{
    uint64_t tag = boot_tag();

    if (getrandom(ret_id->b, 8, 0) != 8)
        return -EIO;
    memcpy(ret_id->b + 8, &tag, 8);
    return 0;
}

static bool of_this_boot(const struct hk_uuid *ring_id)
{
    uint64_t tag = boot_tag();

    /* A boot that can't be named is none that a ring could be of. */
    return tag != hk_xxh64("", 0, 1) && memcmp(ring_id->b + 8, &tag, 8) == 0;
}

/* `metadata = "end"`: behind the first volume, at the end of its origin (SPEC.md §6.15). */
bool hk_engine_metadata_at_end(const struct hk_engine *e)
{
    return strcmp(e->conf.metadata, "end") == 0;
}

static const char *metadata_path(const struct hk_engine *e)
{
    return hk_engine_metadata_at_end(e) ? e->conf.volume[0].origin : e->conf.metadata;
}

/* The two slots stand last, so that they are found by the origin's size alone. */
static void find_slots(struct hk_engine *e)
{
    if (hk_engine_metadata_at_end(e) && e->origin[0].bytes >= 2 * HK_SUPER_BYTES)
        e->slots_at = e->origin[0].bytes / HK_PAGE_BYTES * HK_PAGE_BYTES - 2 * HK_SUPER_BYTES;
}

/* Log and map before them, as many pages as the superblock says. */
static int find_map(struct hk_engine *e, const struct hk_super *s)
{
    uint64_t regions = 0, bytes = HK_DMAP_LOG_AT;

    if (!hk_engine_metadata_at_end(e))
        return 0;
    for (uint32_t i = 0; s->region_shift && i < s->volume_count; i++)
        regions += hk_dmap_regions(s->volume[i].bytes, s->region_shift);
    if (s->region_shift)
        bytes = hk_dmap_file_bytes(regions);
    e->map_shift = e->slots_at - bytes;
    if (e->slots_at >= bytes && s->volume[0].bytes <= e->map_shift + HK_DMAP_LOG_AT)
        return 0;
    nbdkit_error(HK_MSG_METADATA " %s: the volume reaches into the metadata at its origin's end; "
                                 "nothing is served; was the origin made smaller?",
                 metadata_path(e));
    return -1;
}

/*
 * The lock on the metadata file is the right to be the group's one capture process. At the end of
 * an origin that is the origin's own, taken before.
 */
static int open_metadata(struct hk_engine *e, struct hk_super *ret_super)
{
    const char *path = metadata_path(e);
    uint8_t *slots = aligned_alloc(HK_PAGE_BYTES, 2 * HK_SUPER_BYTES);
    ssize_t n;
    int rc;

    if (!slots)
        return -1;
    e->metadata_fd = open(path, O_RDWR | O_CLOEXEC);
    if (e->metadata_fd < 0) {
        nbdkit_error(HK_MSG_METADATA " %s: cannot be opened: %m; the group %s cannot be served "
                                     "without its metadata; was `hikae create-md` run?",
                     path, e->conf.group_name);
        goto fail;
    }
    if (!hk_engine_metadata_at_end(e) && flock(e->metadata_fd, LOCK_EX | LOCK_NB) < 0) {
        nbdkit_error(HK_MSG_GROUP_BUSY " %s: another process holds the group %s; only one may "
                                       "capture a group: stop it first",
                     path, e->conf.group_name);
        goto fail;
    }
    n = pread(e->metadata_fd, slots, 2 * HK_SUPER_BYTES, (off_t)e->slots_at);
    /* What a killed process wrote last may not be on the disk yet; a power cut must not take back
     * what is believed from here on. */
    if (n >= 0 && fdatasync(e->metadata_fd) < 0)
        n = -1;
    rc = n == 2 * HK_SUPER_BYTES ? hk_super_pick(slots, slots + HK_SUPER_BYTES, ret_super, NULL)
                                 : -EUCLEAN;
    e->super_in_doubt = rc == 0 && hk_super_in_doubt(slots, slots + HK_SUPER_BYTES);
    if (rc) {
        nbdkit_error(HK_MSG_METADATA
                     " %s: %s; what is on the volumes is not touched; restore the file or create "
                     "the group anew over equal volumes",
                     path,
                     rc == -ENODATA ? "no superblock was ever written"
                                    : "both superblocks are damaged");
        goto fail;
    }
    free(slots);
    return 0;
fail:
    free(slots);
    return -1;
}

/* group.conf has the size when the group was created, and what it may become; a promoted side's
 * volumes stay as they are. */
static bool size_ok(const struct hk_super_volume *s, const struct hk_nbd_volume *v)
{
    if (!v->max_bytes)
        return s->bytes == v->bytes && s->room_bytes == 0;
    return s->bytes >= v->bytes && s->bytes <= v->max_bytes &&
           (s->room_bytes == v->max_bytes || s->room_bytes == 0);
}

static int check_super(struct hk_engine *e, const struct hk_super *s)
{
    struct hk_nbd_conf *c = &e->conf;
    const char *what = NULL;

    if (!hk_uuid_equal(&s->group_id, &c->group_id))
        what = "it belongs to another group";
    else if (s->role != HK_ROLE_PRIMARY)
        what = "it is not a primary's";
    else if (s->volume_count != c->volume_count)
        what = "it was created for another number of volumes";
    for (uint32_t i = 0; !what && i < c->volume_count; i++) {
        if (strcmp(s->volume[i].name, c->volume[i].name) != 0 ||
            !size_ok(&s->volume[i], &c->volume[i]))
            what = "names or sizes of its volumes are not those of group.conf";
    }
    for (uint32_t i = 0; !what && i < c->volume_count; i++)
        c->volume[i].bytes = s->volume[i].bytes;
    if (!what)
        return 0;
    nbdkit_error(HK_MSG_METADATA " %s: %s; nothing is served; correct site.conf or group.conf",
                 c->metadata, what);
    return -1;
}

static int open_origins(struct hk_engine *e)
{
    for (uint32_t i = 0; i < e->conf.volume_count; i++) {
        const struct hk_nbd_volume *v = &e->conf.volume[i];
        int rc = hk_origin_open(v->origin, &e->origin[i]);

        if (rc) {
            nbdkit_error(HK_MSG_ORIGIN_OPEN
                         " %s: the origin of volume %s cannot be opened exclusively: %s; nothing "
                         "is served; see what uses it, or correct origins in site.conf",
                         v->origin, v->name, strerror(-rc));
            return -1;
        }
        if (e->origin[i].bytes < v->bytes) {
            nbdkit_error(HK_MSG_ORIGIN_SIZE
                         " %s: the origin of volume %s has %llu bytes, group.conf says %llu; "
                         "nothing is served; correct one of them",
                         v->origin, v->name, (unsigned long long)e->origin[i].bytes,
                         (unsigned long long)v->bytes);
            return -1;
        }
        if (!hk_origin_holds(&e->origin[i], v->bytes)) {
            nbdkit_error(HK_MSG_ORIGIN_SECTOR
                         " %s: the origin of volume %s takes whole sectors of %u bytes, and %llu "
                         "bytes end inside one; nothing is served; choose a device with sectors of "
                         "512 bytes, or a size that is a multiple of %u",
                         v->origin, v->name, e->origin[i].sector, (unsigned long long)v->bytes,
                         e->origin[i].sector);
            return -1;
        }
    }
    return 0;
}

static int map_ring(struct hk_engine *e, uint64_t bytes)
{
    void *ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, e->ring_fd, 0);

    if (ring == MAP_FAILED)
        return -errno;
    e->ring = ring;
    e->ring_bytes = bytes;
    return 0;
}

static void unmap_ring(struct hk_engine *e)
{
    if (e->ring)
        munmap(e->ring, e->ring_bytes);
    if (e->ring_fd >= 0)
        close(e->ring_fd);
    e->ring = NULL;
    e->ring_fd = -1;
}

/* 1: an old ring to go on with; 0: none, or none that can be used; -1: must not start. */
static int find_ring(struct hk_engine *e, const struct hk_super *super)
{
    const struct hk_ring_header *h;
    struct stat st;
    int rc = -EUCLEAN;

    e->ring_fd = open(e->conf.ring, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (e->ring_fd < 0 && errno == ENOENT)
        return 0;
    if (e->ring_fd < 0 || fstat(e->ring_fd, &st) < 0) {
        nbdkit_error(HK_MSG_RING_MAKE " %s: the ring cannot be opened: %m; nothing is served; "
                                      "correct ring in site.conf or its permissions",
                     e->conf.ring);
        return -1;
    }
    if (flock(e->ring_fd, LOCK_EX | LOCK_NB) < 0) {
        nbdkit_error(HK_MSG_RING_FOREIGN " %s: another process holds this ring; each group needs "
                                         "its own: correct ring in site.conf",
                     e->conf.ring);
        return -1;
    }
    if (st.st_size >= (off_t)(2 * HK_PAGE_BYTES) && map_ring(e, (uint64_t)st.st_size) == 0) {
        h = e->ring;
        if (h->magic == HK_RING_MAGIC && !hk_uuid_equal(&h->group_id, &e->conf.group_id)) {
            nbdkit_error(HK_MSG_RING_FOREIGN
                         " %s: this ring belongs to another group and may hold its only copy of "
                         "recent writes; nothing is served; correct ring in site.conf",
                         e->conf.ring);
            return -1;
        }
        if (of_this_boot(&h->ring_id))
            rc = hk_ring_check(e->ring, e->ring_bytes, &e->conf.group_id, super);
    }
    if (rc == 0)
        return 1;
    nbdkit_debug("%s: ring of an earlier time: %s", e->conf.ring, strerror(-rc));
    unmap_ring(e);
    return 0;
}

/* Made beside and renamed: whoever still maps the old file keeps it. The old one is kept aside. */
static int make_ring(struct hk_engine *e)
{
    const struct hk_nbd_conf *c = &e->conf;
    uint64_t bytes = hk_ring_total_bytes(c->ring_slots, c->ring_payload_bytes);
    char fresh[PATH_MAX], aside[PATH_MAX];
    int rc = 0;

    snprintf(fresh, sizeof(fresh), "%.*s.new", (int)(sizeof(fresh) - 8), c->ring);
    snprintf(aside, sizeof(aside), "%.*s.lost", (int)(sizeof(aside) - 8), c->ring);
    unlink(fresh);
    e->ring_fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (e->ring_fd < 0) {
        rc = -errno;
    } else {
        /* All of its memory now: a ring that meets ENOSPC later would be a SIGBUS. */
        rc = -posix_fallocate(e->ring_fd, 0, (off_t)bytes);
    }
    if (!rc && (fchmod(e->ring_fd, 0640) < 0 || flock(e->ring_fd, LOCK_EX | LOCK_NB) < 0))
        rc = -errno;
    if (!rc)
        rc = map_ring(e, bytes);
    if (!rc)
        rc = make_ring_id(&e->ring_id);
    if (!rc)
        rc = hk_ring_format(e->ring, bytes, c->ring_slots, c->ring_payload_bytes, &c->group_id,
                            &e->ring_id);
    HK_AT(ring_formatted);
    if (!rc && rename(c->ring, aside) < 0 && errno != ENOENT)
        rc = -errno;
    HK_AT(ring_aside);
    if (!rc && rename(fresh, c->ring) < 0)
        rc = -errno;
    HK_AT(ring_placed);
    if (!rc)
        return 0;
    nbdkit_error(HK_MSG_RING_MAKE
                 " %s: a ring of %llu bytes cannot be made: %s; nothing is served; "
                 "give it room, or make ring-payload smaller in site.conf",
                 c->ring, (unsigned long long)bytes, strerror(-rc));
    unlink(fresh);
    return -1;
}

/* Read-only for the replicator; the hint page cannot be cut short under our feet. */
static int make_shared(struct hk_engine *e)
{
    char self[64];
    void *page;

    snprintf(self, sizeof(self), "/proc/self/fd/%d", e->ring_fd);
    e->ring_read_fd = open(self, O_RDONLY | O_CLOEXEC);
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->hint_fd = memfd_create("hikae-hint", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (e->ring_read_fd < 0 || e->event_fd < 0 || e->kick_fd < 0 || e->hint_fd < 0)
        goto fail;
    if (ftruncate(e->hint_fd, HK_PAGE_BYTES) < 0 ||
        fcntl(e->hint_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        goto fail;
    page = mmap(NULL, HK_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, e->hint_fd, 0);
    if (page == MAP_FAILED)
        goto fail;
    e->hint = page;
    return 0;
fail:
    nbdkit_error(HK_MSG_RING_MAKE " %s: cannot be shared with a replicator: %m", e->conf.ring);
    return -1;
}

static int redo_one(const struct hk_engine *e, const struct hk_redo *redo)
{
    const struct hk_record *r = &redo->record;

    int rc;

    HK_AT(redoing);
    rc = hk_origin_record(&e->origin[r->volume], r->type, redo->payload, r->length, r->offset,
                          r->flags & HK_REC_FUA);
    HK_AT(redone);
    return rc;
}

static void redo_all(struct hk_engine *e)
{
    struct hk_redo redo;
    struct hk_now now;
    unsigned count = 0, failed = 0;

    while (hk_capture_redo_next(e->capture, &redo)) {
        int rc = redo_one(e, &redo);

        if (rc) {
            failed++;
            nbdkit_error(HK_MSG_REDO_FAILED
                         " %s: a write at %llu that was under way when the last process ended "
                         "cannot be repeated: %s; a full compare is required; examine the disk",
                         e->conf.volume[redo.record.volume].origin,
                         (unsigned long long)redo.record.offset, strerror(-rc));
        }
        hk_engine_now(&now);
        hk_capture_redo_done(e->capture, rc, &now);
        count++;
    }
    if (count)
        nbdkit_error(HK_MSG_REDO " group %s: the capture process before this one ended in flight; "
                                 "%u operations were repeated from its ring, %u failed; nothing "
                                 "acknowledged is lost",
                     e->conf.group_name, count, failed);
}

/* Everything the start decided is durable before the first client. */
static int write_metadata(struct hk_engine *e)
{
    struct hk_capture_meta m;
    struct hk_now now;

    while (hk_capture_meta(e->capture, &m)) {
        int rc = hk_engine_write_meta(e, &m);

        hk_engine_now(&now);
        hk_capture_meta_done(e->capture, rc, &now);
        if (rc) {
            nbdkit_error(HK_MSG_METADATA_WRITE " %s: cannot be written: %s; nothing is served, for "
                                               "nothing could be promised; examine the disk",
                         e->conf.metadata, strerror(-rc));
            return -1;
        }
    }
    return 0;
}

static void say_start(struct hk_engine *e, enum hk_start start, const struct hk_super *super)
{
    struct hk_capture_status s;
    const char *heals;

    hk_capture_status(e->capture, &s);
    if (e->super_in_doubt)
        nbdkit_error(HK_MSG_METADATA
                     " %s: one of the two superblocks is damaged, by a write cut off or by the "
                     "disk; %s",
                     e->conf.metadata,
                     s.super.flags & HK_SF_FULL_COMPARE
                         ? "what it held may have been relied on, so a full compare is required"
                         : "nothing relied on what it held; it is written anew");
    if (!s.closed)
        return;
    heals = super->region_shift ? "the regions concerned will be resynchronised"
                                : "create the group anew over equal volumes";
    if (start == HK_START_NEW_RING && !(super->flags & (HK_SF_FULL_COMPARE | HK_SF_STALE)))
        nbdkit_error(HK_MSG_RING_LOST
                     " group %s: the last stop was not clean and the ring %s is gone, and with it "
                     "what the standby lacks; %s",
                     e->conf.group_name, e->conf.ring, heals);
    if (s.barred)
        nbdkit_error(HK_MSG_BARRED
                     " group %s: the standby may differ, and on-link-loss = block forbids writing "
                     "without it; %s",
                     e->conf.group_name, heals);
    else
        nbdkit_error(HK_MSG_BEHIND " group %s: writes are not captured; %s", e->conf.group_name,
                     heals);
}

/* The dirty map, as far as the metadata has one: what is read must not be taken back either. */
static int read_map(struct hk_engine *e, const struct hk_super *super, void **ret_pages)
{
    struct hk_capture_cfg *cfg = &e->cfg;
    uint64_t regions = 0, left;
    uint8_t *at;

    if (!super->region_shift)
        return 0;
    cfg->region_shift = super->region_shift;
    for (uint32_t i = 0; i < cfg->volume_count; i++)
        regions += hk_dmap_regions(hk_super_room(&super->volume[i]), super->region_shift);
    cfg->dirty_pages_bytes = left = hk_dmap_file_bytes(regions) - HK_DMAP_LOG_AT;
    e->dirty_memory =
        aligned_alloc(HK_PAGE_BYTES, hk_round_up(hk_capture_dirty_bytes(cfg), HK_PAGE_BYTES));
    at = *ret_pages = aligned_alloc(HK_PAGE_BYTES, left);
    if (!e->dirty_memory || !at)
        return -1;
    cfg->dirty_memory = e->dirty_memory;
    cfg->dirty_pages = at;
    while (left > 0) {
        ssize_t n = pread(e->metadata_fd, at, left,
                          (off_t)(e->map_shift + HK_DMAP_LOG_AT + cfg->dirty_pages_bytes - left));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            nbdkit_error(HK_MSG_METADATA " %s: the dirty map cannot be read: %s; nothing is "
                                         "served; examine the disk, or restore the file",
                         e->conf.metadata, n < 0 ? strerror(errno) : "the file ends too soon");
            return -1;
        }
        at += n;
        left -= (uint64_t)n;
    }
    return fdatasync(e->metadata_fd);
}

static int start_capture(struct hk_engine *e, const struct hk_super *super, enum hk_start start)
{
    struct hk_capture_cfg *cfg = &e->cfg;
    void *pages = NULL;
    struct hk_now now;
    int rc;

    *cfg = (struct hk_capture_cfg){.mode = e->conf.mode,
                                   .on_link_loss = e->conf.on_link_loss,
                                   .on_overflow = e->conf.on_overflow,
                                   .contact_timeout_ns = e->conf.contact_timeout_ns,
                                   .pace_bound_ns = e->conf.pace_bound_ns,
                                   .volume_count = e->conf.volume_count,
                                   .super_in_doubt = e->super_in_doubt};
    for (uint32_t i = 0; i < cfg->volume_count; i++) {
        cfg->volume_bytes[i] = super->volume[i].bytes;
        cfg->volume_room[i] = super->volume[i].room_bytes;
    }
    e->capture = aligned_alloc(HK_PAGE_BYTES, hk_round_up(hk_capture_bytes(), HK_PAGE_BYTES));
    if (!e->capture || read_map(e, super, &pages)) {
        free(pages);
        return -1;
    }
    hk_engine_now(&now);
    rc = hk_capture_init(e->capture, cfg, e->ring, start, super, &now);
    free(pages);
    cfg->dirty_pages = NULL;
    if (rc) {
        nbdkit_error(HK_MSG_METADATA " %s: contradicts itself or the configuration: %s",
                     e->conf.metadata, strerror(-rc));
        return -1;
    }
    e->ring_id = ((const struct hk_ring_header *)e->ring)->ring_id;
    redo_all(e);
    if (write_metadata(e))
        return -1;
    say_start(e, start, super);
    return 0;
}

int hk_engine_take_hold(struct hk_engine *e)
{
    static struct hk_super super; /* 12 KiB; one thread, once */
    int found;

    if (hk_engine_metadata_at_end(e) && open_origins(e))
        return -1;
    find_slots(e);
    if (open_metadata(e, &super) || check_super(e, &super) || find_map(e, &super))
        return -1;
    if (!hk_engine_metadata_at_end(e) && open_origins(e))
        return -1;
    found = find_ring(e, &super);
    if (found < 0 || (found == 0 && make_ring(e)) || make_shared(e))
        return -1;
    return start_capture(e, &super, found ? HK_START_OLD_RING : HK_START_NEW_RING);
}

void hk_engine_let_go(struct hk_engine *e)
{
    const int fds[] = {e->metadata_fd, e->ring_read_fd, e->event_fd, e->hint_fd, e->kick_fd};

    unmap_ring(e);
    if (e->hint)
        munmap(e->hint, HK_PAGE_BYTES);
    for (unsigned i = 0; i < HK_ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    for (uint32_t i = 0; i < HK_VOLUMES_MAX; i++)
        hk_origin_close(&e->origin[i]);
    free(e->capture);
    free(e->dirty_memory);
}
