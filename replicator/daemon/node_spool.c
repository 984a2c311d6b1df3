/* SPDX-License-Identifier: Apache-2.0 */
/* The primary's spool: its files, made and written beforehand as the journal's, and its memory. */
#include <stdio.h>
#include <stdlib.h>

#include "replicator/daemon/node_private.h"

static int failed(char *error, const char *id, const char *text)
{
    snprintf(error, HK_CONFIG_ERROR_BYTES, "%s %s", id, text);
    return 1;
}

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    int *last = arg;
    int percent = total ? (int)(done * 100 / total) : 100;

    if (percent / 10 != *last / 10)
        fprintf(stderr, "hikaed: spool: %s %d %%\n", what, percent);
    *last = percent;
}

static int open_files(struct hk_node *n, struct hk_segment_file *files, char *error)
{
    uint32_t count = n->local->spool.segments;
    int last = 0, dir_fd, r;
    struct hk_disk_progress progress = {show_progress, &last};
    struct hk_io_error err;

    if (hk_disk_open_segments(n->local->spool.directory, n->local->spool.segment_bytes, count,
                              &progress, &dir_fd, files, &err))
        return failed(error, "HKE4050E", err.text);
    r = hk_uring_disk_bind(n->disk, HK_FILE_SPOOL_DIR, dir_fd, NULL);
    for (uint32_t i = 0; i < count && !r; i++)
        r = hk_uring_disk_bind(n->disk, HK_FILE_SPOOL_SEGMENT0 + i, files[i].fd, files[i].name);
    return r ? failed(error, "HKE4050E", "its files can't be handed to the disk engine") : 0;
}

int hk_node_spool_open(struct hk_node *n, char error[HK_CONFIG_ERROR_BYTES])
{
    uint32_t count = n->local->spool.segments;
    struct hk_uring_disk_cfg cfg = {.files_max = HK_FILE_SPOOL_SEGMENT0 + count};
    struct hk_segment_file *files;
    struct hk_io_error err;
    int r;

    if (!n->local->spool.present)
        return 0;
    if (hk_uring_disk_create(n->reactor, &cfg, &n->disk, &err))
        return failed(error, "HKE8003E", err.text);
    if (hk_memory_arena(HK_NODE_SPOOL_WINDOW_BYTES, &n->window, NULL, &err))
        return failed(error, "HKE8002E", err.text);
    files = calloc(count, sizeof(*files));
    r = files ? open_files(n, files, error) : failed(error, "HKE8002E", "out of memory");
    free(files);
    if (r)
        return r;
    n->cfg.disk = hk_uring_disk_iface(n->disk);
    n->cfg.window = n->window.base;
    n->cfg.window_bytes = HK_NODE_SPOOL_WINDOW_BYTES;
    n->cfg.segment_bytes = n->local->spool.segment_bytes;
    n->cfg.segment_count = count;
    return 0;
}
