/* SPDX-License-Identifier: Apache-2.0 */
/* The standby's half of a node: its files, its window. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/dmap.h"
#include "proto/snapmap.h"
#include "replicator/daemon/node_private.h"

static int bind_file(struct hk_node *n, uint32_t file, int fd, const char *name, char *error)
{
    int r = hk_uring_disk_bind(n->disk, file, fd, name);

    if (r) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE4001E file number %u can't be used: %s", file,
                 strerror(-r));
        close(fd);
    }
    return r ? 1 : 0;
}

static int failed(char *error, const char *id, const struct hk_io_error *err)
{
    snprintf(error, HK_CONFIG_ERROR_BYTES, "%s %s", id, err->text);
    return 1;
}

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    int *last = arg;
    int percent = total ? (int)(done * 100 / total) : 100;

    if (percent / 10 != *last / 10)
        fprintf(stderr, "hikaed: %s %d %%\n", what, percent);
    *last = percent;
}

static int open_journal(struct hk_node *n, char *error)
{
    const char *dir = n->local->standby.journal;
    uint32_t i,
        count = (uint32_t)(n->local->standby.journal_bytes / n->local->standby.segment_bytes);
    struct hk_segment_file *files = calloc(count, sizeof(*files));
    int last = 0, dir_fd, r = 1;
    struct hk_disk_progress progress = {show_progress, &last};
    struct hk_io_error err;

    if (!files) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8002E out of memory");
        return 1;
    }
    if (hk_disk_open_segments(dir, n->local->standby.segment_bytes, count, &progress, &dir_fd,
                              files, &err)) {
        r = failed(error, "HKE4002E", &err);
        goto out;
    }
    if (bind_file(n, HK_FILE_JOURNAL_DIR, dir_fd, NULL, error))
        goto out;
    for (i = 0; i < count; i++)
        if (bind_file(n, HK_FILE_SEGMENT0 + i, files[i].fd, files[i].name, error))
            goto out;
    n->cfg.segment_bytes = n->local->standby.segment_bytes;
    n->cfg.segment_count = count;
    r = 0;
out:
    free(files);
    return r;
}

/* Before anything is opened for writing; NULL: there is none that can be read. */
static struct hk_super *read_super(const char *path)
{
    uint8_t *slots = malloc(2 * HK_SUPER_BYTES);
    struct hk_super *super = malloc(sizeof(*super));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && slots && super &&
                pread(fd, slots, 2 * HK_SUPER_BYTES, 0) == 2 * HK_SUPER_BYTES &&
                hk_super_pick(slots, slots + HK_SUPER_BYTES, super, NULL) == 0;

    if (fd >= 0)
        close(fd);
    free(slots);
    if (good)
        return super;
    free(super);
    return NULL;
}

/* Large sectors: what the group takes and this replica can't write is known now, not at night. */
static void warn_of_sectors(const char *path, int fd)
{
    struct stat st;
    uint32_t sector;

    if (fstat(fd, &st))
        return;
    sector = hk_disk_sector_bytes(fd, S_ISBLK(st.st_mode));
    if (sector > 512)
        fprintf(stderr,
                "hikaed: HKE4007W %s takes whole sectors of %u bytes: a smaller write of the "
                "application would make this standby not promotable; if there are any, use a "
                "device with sectors of 512 bytes\n",
                path, sector);
}

/* Of a volume that can grow the replica may be larger, but holds what the superblock says. */
static int open_replica(struct hk_node *n, uint32_t i, int *ret_fd, struct hk_io_error *err)
{
    const struct hk_volume_conf *v = &n->conf->volume[i];
    const char *path = n->local->standby.replica[i];
    uint64_t bytes = v->bytes, there = 0;
    struct hk_super *super;
    int r;

    if (!v->max_bytes)
        return hk_disk_open_volume(path, v->bytes, true, ret_fd, NULL, err);
    super = read_super(n->local->standby.metadata);
    if (super && i < super->volume_count)
        bytes = hk_max_u64(bytes, hk_super_room(&super->volume[i]));
    free(super);
    r = hk_disk_open_volume(path, 0, true, ret_fd, &there, err);
    if (r || there >= bytes)
        return r;
    close(*ret_fd);
    return hk_io_fail(err, -EOVERFLOW,
                      "%s has %llu bytes, the volume needs %llu: make it larger, or restore it",
                      path, (unsigned long long)there, (unsigned long long)bytes);
}

static int open_replicas(struct hk_node *n, char *error)
{
    struct hk_io_error err;
    uint32_t i;
    int fd, r;

    for (i = 0; i < n->conf->volume_count; i++) {
        r = open_replica(n, i, &fd, &err);
        if (r)
            return failed(error, r == -EOPNOTSUPP ? "HKE4006E" : "HKE4003E", &err);
        warn_of_sectors(n->local->standby.replica[i], fd);
        if (bind_file(n, HK_FILE_VOLUME0 + i, fd, NULL, error))
            return 1;
    }
    return 0;
}

static int open_meta(struct hk_node *n, const char *path, bool create, uint32_t file, char *error)
{
    struct hk_io_error err;
    int fd;

    if (hk_disk_open_meta(path, 2 * HK_SUPER_BYTES + HK_DMAP_RESERVED_BYTES, create, &fd, &err))
        return failed(error, "HKE4004E", &err);
    return bind_file(n, file, fd, NULL, error);
}

/* Promoted in an earlier life: a capture side may hold the replicas, and nothing here needs them.
 */
static bool was_promoted(const char *path)
{
    struct hk_super *super = read_super(path);
    bool promoted = super && super->role == HK_ROLE_STANDBY && (super->flags & HK_SF_PROMOTED);

    free(super);
    return promoted;
}

void hk_node_standby_let_go(struct hk_node *n)
{
    uint32_t i;

    hk_uring_disk_release(n->disk, HK_FILE_PRIMARY_MD);
    for (i = 0; i < n->conf->volume_count; i++)
        hk_uring_disk_release(n->disk, HK_FILE_VOLUME0 + i);
}

/* A pin, and one more: what was let go is being deleted while the next one is made. */
enum { SNAPSHOT_SLOTS = 2 };

static uint64_t most_bytes(const struct hk_node *n, uint32_t v)
{
    return hk_max_u64(n->conf->volume[v].bytes, n->conf->volume[v].max_bytes);
}

static int open_snapshot(struct hk_node *n, const char *dir, uint32_t slot, char *error)
{
    uint32_t file = HK_FILE_SNAPSHOT0 + slot * HK_FILES_A_SNAPSHOT;
    uint64_t pages = 1;
    char path[PATH_MAX + 64];
    struct hk_io_error err;
    uint32_t v;
    int fd;

    for (v = 0; v < n->conf->volume_count; v++)
        pages += hk_snap_pages(most_bytes(n, v));
    snprintf(path, sizeof(path), "%s/%u-index", dir, slot);
    if (hk_disk_open_sparse(path, pages * HK_PAGE_BYTES, &fd, &err))
        return failed(error, "HKE4004E", &err);
    if (bind_file(n, file, fd, NULL, error))
        return 1;
    for (v = 0; v < n->conf->volume_count; v++) {
        snprintf(path, sizeof(path), "%s/%u-%s", dir, slot, n->conf->volume[v].name);
        if (hk_disk_open_sparse(path, hk_round_up(most_bytes(n, v), HK_PAGE_BYTES), &fd, &err))
            return failed(error, "HKE4004E", &err);
        if (bind_file(n, file + 1 + v, fd, NULL, error))
            return 1;
    }
    return 0;
}

/* Where the applier keeps before-images: the pin of a resync. */
static int open_snapshots(struct hk_node *n, char *error)
{
    char dir[PATH_MAX + 16];
    uint32_t i;
    int fd;

    if (*n->local->standby.snapshots)
        snprintf(dir, sizeof(dir), "%s", n->local->standby.snapshots);
    else
        snprintf(dir, sizeof(dir), "%s/snapshots", n->local->standby.journal);
    fd = mkdir(dir, 0700) && errno != EEXIST ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(error, HK_CONFIG_ERROR_BYTES,
                 "HKE4004E the directory of the snapshots, %.500s, can't be opened: %s", dir,
                 strerror(errno));
        return 1;
    }
    if (bind_file(n, HK_FILE_SNAP_DIR, fd, NULL, error))
        return 1;
    for (i = 0; i < SNAPSHOT_SLOTS; i++)
        if (open_snapshot(n, dir, i, error))
            return 1;
    n->cfg.snapshot_slots = SNAPSHOT_SLOTS;
    n->cfg.snapshot_bytes = n->local->standby.snapshot_bytes;
    return 0;
}

/* Does this site's metadata as a primary have the room for a map? It always had this size. */
static bool map_fits(const struct hk_group_conf *conf)
{
    uint64_t regions = 0;
    uint32_t i;

    if (!conf->region_shift)
        return false;
    for (i = 0; i < conf->volume_count; i++)
        regions += hk_dmap_regions(conf->volume[i].bytes, conf->region_shift);
    return hk_dmap_file_bytes(regions) <= 2 * HK_SUPER_BYTES + HK_DMAP_RESERVED_BYTES;
}

static int open_what_is_replicated(struct hk_node *n, char *error)
{
    const char *path = n->local->standby.primary_metadata;
    struct stat st;

    if (was_promoted(n->local->standby.metadata))
        return 0;
    return open_meta(n, path, stat(path, &st) != 0 && errno == ENOENT, HK_FILE_PRIMARY_MD, error) ||
           open_replicas(n, error) || open_snapshots(n, error);
}

int hk_node_standby_open(struct hk_node *n, char error[HK_CONFIG_ERROR_BYTES])
{
    struct hk_uring_disk_cfg cfg = {0};
    struct hk_io_error err;
    uint32_t segments =
        (uint32_t)(n->local->standby.journal_bytes / n->local->standby.segment_bytes);

    cfg.files_max = HK_FILE_SEGMENT0 + segments;
    if (hk_uring_disk_create(n->reactor, &cfg, &n->disk, &err))
        return failed(error, "HKE8003E", &err);
    if (open_meta(n, n->local->standby.metadata, false, HK_FILE_SUPER, error) ||
        open_journal(n, error) || open_what_is_replicated(n, error))
        return 1;
    if (hk_memory_arena(n->local->standby.window_bytes, &n->window, NULL, &err))
        return failed(error, "HKE8002E", &err);
    n->cfg.disk = hk_uring_disk_iface(n->disk);
    n->cfg.region_shift = map_fits(n->conf) ? n->conf->region_shift : 0;
    n->cfg.window = n->window.base;
    n->cfg.window_bytes = n->local->standby.window_bytes;
    n->cfg.apply_bytes = n->local->standby.apply_bytes;
    n->cfg.apply_lag_bytes_max = n->local->standby.apply_lag_bytes;
    n->cfg.journal_retain_bytes = n->local->standby.journal_bytes;
    return 0;
}
