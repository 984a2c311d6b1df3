/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbdkit plugin: the volumes of one group as NBD exports. One process per group.
 *
 *   nbdkit -t 64 nbdkit-hikae-plugin.so group=/etc/hikae/group.conf site=/etc/hikae/site.conf
 *
 * Threads: nbdkit gives each connection a fixed number (-t, 16 if not said). A write that waits for
 * the standby keeps its thread. So that reads and flushes always find one, a client should have at
 * most threads − 4 writes in flight on a connection; one that has more is told of in the log.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver-glue/nbd/engine.h"
#include "driver-glue/nbd/messages.h"
#include "driver-glue/uapi/capture_ipc.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* A zeroes or discard record covers at most this: the range is locked while the origin does it. */
enum { RANGE_BYTES_MAX = 256 << 20, THREADS_DEFAULT = 16, THREADS_KEPT = 4 };

static char *group_path, *site_path;
static struct hk_nbd_conf conf;
static struct hk_engine *engine;
static unsigned threads = THREADS_DEFAULT;

struct handle {
    uint16_t volume;
    unsigned writing; /* atomic: writes of this connection in progress */
};

void hk_assert_fail(const char *expr, const char *file, int line)
{
    nbdkit_error("HKE8001E assertion failed: %s (%s:%d); the process ends; nothing acknowledged is "
                 "lost: the ring stays; start it again",
                 expr, file, line);
    abort();
}

static void hikae_unload(void)
{
    hk_engine_free(engine);
    free(group_path);
    free(site_path);
}

static int hikae_config(const char *key, const char *value)
{
    char **to = strcmp(key, "group") == 0  ? &group_path
                : strcmp(key, "site") == 0 ? &site_path
                                           : NULL;

    if (!to) {
        nbdkit_error("HKE1006E unknown parameter \"%s\"; expected group=FILE and site=FILE", key);
        return -1;
    }
    free(*to);
    *to = nbdkit_absolute_path(value);
    return *to ? 0 : -1;
}

/* How many threads nbdkit gives a connection: only its command line tells. */
static unsigned count_threads(void)
{
    char line[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : 0;
    unsigned found = THREADS_DEFAULT;

    if (fd >= 0)
        close(fd);
    line[n > 0 ? n : 0] = '\0';
    for (const char *at = line; n > 0 && at < line + n; at += strlen(at) + 1) {
        const char *value = NULL;

        if (strcmp(at, "-t") == 0 || strcmp(at, "--threads") == 0)
            value = at + strlen(at) + 1;
        else if (strncmp(at, "--threads=", 10) == 0)
            value = at + 10;
        else if (strncmp(at, "-t", 2) == 0)
            value = at + 2;
        if (value && value < line + n && atoi(value) > 0)
            found = (unsigned)atoi(value);
    }
    return found;
}

static int hikae_config_complete(void)
{
    char text[HK_NBD_TEXT_BYTES];

    if (!group_path || !site_path) {
        nbdkit_error("HKE1003E group=FILE and site=FILE are both needed");
        return -1;
    }
    if (hk_nbd_conf_read(group_path, site_path, &conf, text)) {
        nbdkit_error("%s", text);
        return -1;
    }
    return 0;
}

static int hikae_get_ready(void)
{
    threads = count_threads();
    return hk_engine_open(&conf, &engine);
}

static int hikae_after_fork(void)
{
    return hk_engine_start(engine);
}

static void hikae_cleanup(void)
{
    if (engine)
        hk_engine_stop(engine);
}

static void hikae_dump_plugin(void)
{
    printf("hikae_record_version=1\n");
    printf("hikae_ring_version=%d\n", HK_RING_VERSION);
    printf("hikae_super_version=%d\n", HK_SUPER_VERSION);
    printf("hikae_ipc_version=%d\n", HK_CAP_IPC_VERSION);
    printf("hikae_payload_bytes_max=%d\n", HK_PAYLOAD_BYTES_MAX);
    printf("hikae_volumes_max=%d\n", HK_VOLUMES_MAX);
}

static int hikae_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    for (uint32_t i = 0; i < conf.volume_count; i++) {
        if (nbdkit_add_export(exports, conf.volume[i].name, conf.group_name) < 0)
            return -1;
    }
    return 0;
}

static const char *hikae_default_export(int readonly, int is_tls)
{
    return conf.volume[0].name;
}

static void *hikae_open(int readonly)
{
    const char *name = nbdkit_export_name();
    struct handle *h;

    for (uint32_t i = 0; name && i < conf.volume_count; i++) {
        if (strcmp(conf.volume[i].name, name) != 0)
            continue;
        if (!hk_engine_admits(engine))
            return NULL;
        h = calloc(1, sizeof(*h));
        if (h)
            h->volume = (uint16_t)i;
        return h;
    }
    nbdkit_error(HK_MSG_NO_EXPORT " \"%s\" is no volume of group %s", name ? name : "",
                 conf.group_name);
    return NULL;
}

static void hikae_close(void *handle)
{
    free(handle);
}

static int64_t hikae_get_size(void *handle)
{
    const struct handle *h = handle;

    return (int64_t)hk_engine_size(engine, h->volume);
}

static int hikae_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    *minimum = 512;
    *preferred = HK_PAGE_BYTES;
    *maximum = HK_PAYLOAD_BYTES_MAX;
    return 0;
}

static int yes(void *handle)
{
    return 1;
}

static int no(void *handle)
{
    return 0;
}

static int hikae_can_fua(void *handle)
{
    return NBDKIT_FUA_NATIVE;
}

static int hikae_can_cache(void *handle)
{
    return NBDKIT_CACHE_NONE;
}

static int result(int rc)
{
    if (rc == 0)
        return 0;
    nbdkit_set_error(-rc);
    return -1;
}

static int hikae_pread(void *handle, void *data, uint32_t count, uint64_t offset, uint32_t flags)
{
    const struct handle *h = handle;

    return result(hk_engine_read(engine, h->volume, data, count, offset));
}

/* Once: that many writes of a connection in flight, and they do wait. */
static void say_threads(const struct handle *h, unsigned writing)
{
    static bool told;

    if (__atomic_load_n(&told, __ATOMIC_RELAXED) ||
        hk_engine_waiting(engine) + THREADS_KEPT <= threads ||
        __atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
        return;
    nbdkit_error(HK_MSG_THREADS
                 " volume %s: a client has %u writes in flight on a connection of %u threads, and "
                 "they wait: its reads wait behind them; start nbdkit with -t %u or more",
                 conf.volume[h->volume].name, writing, threads, 2 * threads);
}

/* In pieces a record may have, one after the other: a failed piece ends it. */
static int change(struct handle *h, uint8_t type, const void *data, uint32_t count, uint64_t offset,
                  uint32_t flags, uint32_t piece_max)
{
    const uint8_t *at = data;
    uint8_t fua = flags & NBDKIT_FLAG_FUA ? HK_REC_FUA : 0;
    unsigned writing = __atomic_add_fetch(&h->writing, 1, __ATOMIC_RELAXED);
    int rc = 0;

    if (writing + THREADS_KEPT > threads)
        say_threads(h, writing);
    while (count > 0 && rc == 0) {
        uint32_t regions_max = hk_engine_request_max(engine, offset);
        uint32_t some = count < piece_max ? count : piece_max;

        some = some < regions_max ? some : regions_max;
        rc = hk_engine_request(engine, h->volume, type, fua, offset, some, at);
        at = at ? at + some : NULL;
        offset += some;
        count -= some;
    }
    __atomic_sub_fetch(&h->writing, 1, __ATOMIC_RELAXED);
    return result(rc);
}

static int hikae_pwrite(void *handle, const void *data, uint32_t count, uint64_t offset,
                        uint32_t flags)
{
    return change(handle, HK_REC_WRITE, data, count, offset, flags, HK_PAYLOAD_BYTES_MAX);
}

static int hikae_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    uint8_t type = flags & NBDKIT_FLAG_MAY_TRIM ? HK_REC_DISCARD : HK_REC_ZEROES;

    return change(handle, type, NULL, count, offset, flags, RANGE_BYTES_MAX);
}

static int hikae_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return change(handle, HK_REC_DISCARD, NULL, count, offset, flags, RANGE_BYTES_MAX);
}

static int hikae_flush(void *handle, uint32_t flags)
{
    const struct handle *h = handle;

    return result(hk_engine_request(engine, h->volume, HK_REC_FLUSH, 0, 0, 0, NULL));
}

/* What nbdkit looks for; its macro defines it without having declared it. */
struct nbdkit_plugin *plugin_init(void);

static struct nbdkit_plugin plugin = {
    .name = "hikae",
    .longname = "Hikae capture",
    .version = "0.1.0",
    .description = "Real-time replication of block volumes to a disaster-recovery site",
    .magic_config_key = NULL,
    .unload = hikae_unload,
    .config = hikae_config,
    .config_complete = hikae_config_complete,
    .config_help = "group=FILE  (required) group.conf\n"
                   "site=FILE   (required) site.conf",
    .get_ready = hikae_get_ready,
    .after_fork = hikae_after_fork,
    .cleanup = hikae_cleanup,
    .dump_plugin = hikae_dump_plugin,
    .list_exports = hikae_list_exports,
    .default_export = hikae_default_export,
    .open = hikae_open,
    .close = hikae_close,
    .get_size = hikae_get_size,
    .block_size = hikae_block_size,
    .can_write = yes,
    .can_flush = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_fast_zero = no,
    .can_multi_conn = yes,
    .can_fua = hikae_can_fua,
    .can_cache = hikae_can_cache,
    .pread = hikae_pread,
    .pwrite = hikae_pwrite,
    .flush = hikae_flush,
    .trim = hikae_trim,
    .zero = hikae_zero,
};

NBDKIT_REGISTER_PLUGIN(plugin)
