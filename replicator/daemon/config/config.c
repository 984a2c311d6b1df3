/* SPDX-License-Identifier: Apache-2.0 */
/* The reader behind config.h: a cursor over libconfig that says precisely what is wrong. */
#include "replicator/daemon/config/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/hash.h"

/* One file being read. The first error stays; everything after it is silent. */
struct reader {
    const char *path;
    char *error;
    bool failed;
};

static void complain(struct reader *r, const char *id, const config_setting_t *at, const char *key,
                     const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void complain(struct reader *r, const char *id, const config_setting_t *at, const char *key,
                     const char *fmt, ...)
{
    va_list ap;
    int n;

    if (r->failed)
        return;
    r->failed = true;
    n = snprintf(r->error, HK_CONFIG_ERROR_BYTES, "%s %s:%u: %s%s", id, r->path,
                 at ? config_setting_source_line(at) : 0, key, *key ? ": " : "");
    va_start(ap, fmt);
    vsnprintf(r->error + n, (size_t)(HK_CONFIG_ERROR_BYTES - n), fmt, ap);
    va_end(ap);
}

/* The line of the member when it is there, of its parent when it is missing. */
static config_setting_t *member(struct reader *r, config_setting_t *s, const char *key,
                                bool required, const char *expected)
{
    config_setting_t *m = s ? config_setting_get_member(s, key) : NULL;

    if (!m && required)
        complain(r, "HKE1003E", s, key, "missing; expected %s", expected);
    return m;
}

static bool get_string(struct reader *r, config_setting_t *s, const char *key, bool required,
                       const char *expected, char *out, size_t max)
{
    config_setting_t *m = member(r, s, key, required, expected);
    const char *v;

    if (!m)
        return false;
    if (config_setting_type(m) != CONFIG_TYPE_STRING) {
        complain(r, "HKE1004E", m, key, "expected %s, in double quotes", expected);
        return false;
    }
    v = config_setting_get_string(m);
    if (strlen(v) >= max || !*v) {
        complain(r, "HKE1005E", m, key, "\"%.40s%s\": expected %s of 1 to %zu characters", v,
                 strlen(v) > 40 ? "…" : "", expected, max - 1);
        return false;
    }
    strcpy(out, v);
    return true;
}

static uint64_t get_number(struct reader *r, config_setting_t *s, const char *key,
                           uint64_t fallback, uint64_t min, uint64_t max, const char *unit)
{
    config_setting_t *m = s ? config_setting_get_member(s, key) : NULL;
    long long v;

    if (!m)
        return fallback;
    if (config_setting_type(m) != CONFIG_TYPE_INT && config_setting_type(m) != CONFIG_TYPE_INT64) {
        complain(r, "HKE1004E", m, key, "expected a whole number of %s", unit);
        return fallback;
    }
    v = config_setting_get_int64(m);
    if (v < 0 || (uint64_t)v < min || (uint64_t)v > max) {
        complain(r, "HKE1005E", m, key, "%lld is out of range; expected %llu to %llu %s", v,
                 (unsigned long long)min, (unsigned long long)max, unit);
        return fallback;
    }
    return (uint64_t)v;
}

static bool get_bool(struct reader *r, config_setting_t *s, const char *key, bool fallback)
{
    config_setting_t *m = s ? config_setting_get_member(s, key) : NULL;

    if (!m)
        return fallback;
    if (config_setting_type(m) != CONFIG_TYPE_BOOL) {
        complain(r, "HKE1004E", m, key, "expected true or false");
        return fallback;
    }
    return config_setting_get_bool(m);
}

struct word {
    const char *text;
    int value;
};

static int get_word(struct reader *r, config_setting_t *s, const char *key,
                    const struct word *words, int fallback, const char *expected)
{
    char text[HK_NAME_BYTES];

    if (!get_string(r, s, key, fallback == 0, expected, text, sizeof(text)))
        return fallback;
    for (; words->text; words++)
        if (strcmp(words->text, text) == 0)
            return words->value;
    complain(r, "HKE1005E", config_setting_get_member(s, key), key, "\"%s\": expected %s", text,
             expected);
    return fallback;
}

static void get_uuid(struct reader *r, config_setting_t *s, const char *key, bool required,
                     struct hk_uuid *out)
{
    char text[HK_NAME_BYTES];

    if (!get_string(r, s, key, required, "a UUID (8-4-4-4-12 hexadecimal digits)", text,
                    sizeof(text)))
        return;
    if (hk_uuid_parse(text, out) || hk_uuid_is_nil(out))
        complain(r, "HKE1005E", config_setting_get_member(s, key), key,
                 "\"%s\": expected a UUID (8-4-4-4-12 hexadecimal digits, not all zero)", text);
}

static void get_name(struct reader *r, config_setting_t *s, const char *key,
                     char out[HK_NAME_BYTES])
{
    memset(out, 0, HK_NAME_BYTES);
    if (get_string(r, s, key, true, "a name", out, HK_NAME_BYTES) && !hk_mark_name_ok(out))
        complain(r, "HKE1005E", config_setting_get_member(s, key), key,
                 "\"%s\": expected a name of letters, digits, '.', '_' and '-'", out);
}

/* Refuses keys nobody reads: a typing error must not silently mean the default. */
static void known_keys(struct reader *r, config_setting_t *s, const char *const *keys)
{
    int i, n = s ? config_setting_length(s) : 0;

    for (i = 0; i < n; i++) {
        config_setting_t *m = config_setting_get_elem(s, (unsigned)i);
        const char *const *k = keys;

        while (*k && strcmp(*k, config_setting_name(m)))
            k++;
        if (!*k) {
            complain(r, "HKE1006E", m, config_setting_name(m),
                     "unknown key; see hikae-group.conf(5) and hikae-site.conf(5)");
            return;
        }
    }
}

int hk_address_split(const char *text, char *ret_host, size_t host_bytes, uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    char *end;
    unsigned long port;
    struct in_addr in;
    size_t n;

    if (!colon || colon == text || (size_t)(colon - text) >= host_bytes)
        return -EINVAL;
    port = strtoul(colon + 1, &end, 10);
    if (*end || !*(colon + 1) || port == 0 || port > 65535)
        return -EINVAL;
    n = (size_t)(colon - text);
    memmove(ret_host, text, n);
    ret_host[n] = 0;
    if (inet_pton(AF_INET, ret_host, &in) != 1)
        return -EINVAL;
    *ret_port = (uint16_t)port;
    return 0;
}

static void check_address(struct reader *r, config_setting_t *at, const char *key, const char *text)
{
    char host[HK_ADDRESS_BYTES];
    uint16_t port;

    if (!r->failed && hk_address_split(text, host, sizeof(host), &port))
        complain(r, "HKE1005E", at, key,
                 "\"%s\": expected an IPv4 address and port, such as "
                 "\"10.0.0.1:7700\"",
                 text);
}

/* Optional; equal to the size it means nothing. */
static void read_max_size(struct reader *r, config_setting_t *v, struct hk_volume_conf *volume)
{
    uint64_t max = get_number(r, v, "max-size", volume->bytes, 0, 1ULL << 50, "bytes");

    if (!r->failed && (max % 4096 || max < volume->bytes))
        complain(r, "HKE1005E", v, "max-size",
                 "%llu: expected a multiple of 4096 bytes, not below size",
                 (unsigned long long)max);
    volume->max_bytes = max == volume->bytes ? 0 : max;
}

static void read_volumes(struct reader *r, config_setting_t *root, struct hk_group_conf *g)
{
    static const char *const keys[] = {"name", "size", "max-size", NULL};
    config_setting_t *list = member(r, root, "volumes", true, "a list of { name; size; }");
    int i, j, n = list ? config_setting_length(list) : 0;

    if (list && (!config_setting_is_list(list) || n < 1 || n > HK_VOLUMES_MAX)) {
        complain(r, "HKE1005E", list, "volumes", "expected a list ( … ) of 1 to %d volumes",
                 HK_VOLUMES_MAX);
        return;
    }
    for (i = 0; i < n && !r->failed; i++) {
        config_setting_t *v = config_setting_get_elem(list, (unsigned)i);

        known_keys(r, v, keys);
        get_name(r, v, "name", g->volume[i].name);
        if (!config_setting_get_member(v, "size"))
            complain(r, "HKE1003E", v, "size", "missing; expected bytes, a multiple of 4096");
        g->volume[i].bytes = get_number(r, v, "size", 0, 4096, 1ULL << 50, "bytes");
        if (!r->failed && g->volume[i].bytes % 4096)
            complain(r, "HKE1005E", v, "size", "%llu: expected a multiple of 4096 bytes",
                     (unsigned long long)g->volume[i].bytes);
        read_max_size(r, v, &g->volume[i]);
        for (j = 0; j < i; j++)
            if (!r->failed && !strcmp(g->volume[i].name, g->volume[j].name))
                complain(r, "HKE1007E", v, "name", "volume \"%s\" appears twice",
                         g->volume[i].name);
    }
    g->volume_count = (uint32_t)n;
}

static void read_site(struct reader *r, config_setting_t *s, struct hk_site_conf *site)
{
    static const char *const keys[] = {"name", "site-id", "control", "paths", NULL};
    config_setting_t *paths;
    int i, n;

    known_keys(r, s, keys);
    get_name(r, s, "name", site->name);
    get_uuid(r, s, "site-id", true, &site->id);
    if (get_string(r, s, "control", true, "an IPv4 address and port", site->control,
                   HK_ADDRESS_BYTES))
        check_address(r, config_setting_get_member(s, "control"), "control", site->control);
    paths = member(r, s, "paths", true, "a list of addresses with ports");
    n = paths ? config_setting_length(paths) : 0;
    if (paths && (config_setting_type(paths) != CONFIG_TYPE_LIST || n < 1 || n > HK_PATHS_MAX)) {
        complain(r, "HKE1005E", paths, "paths", "expected a list ( … ) of 1 to %d addresses",
                 HK_PATHS_MAX);
        return;
    }
    for (i = 0; i < n && !r->failed; i++) {
        const char *text = config_setting_get_string_elem(paths, i);

        if (!text || strlen(text) >= HK_ADDRESS_BYTES) {
            complain(r, "HKE1004E", paths, "paths", "element %d: expected an address in quotes",
                     i + 1);
            return;
        }
        strcpy(site->path[i], text);
        check_address(r, paths, "paths", text);
    }
    site->path_count = (uint32_t)n;
}

static void read_sites(struct reader *r, config_setting_t *root, struct hk_group_conf *g)
{
    config_setting_t *list = member(r, root, "sites", true, "a list of two sites");
    int i, n = list ? config_setting_length(list) : 0;

    if (!list)
        return;
    if (!config_setting_is_list(list) || n != HK_CONFIG_SITES_MAX) {
        complain(r, "HKE1005E", list, "sites", "expected a list ( … ) of exactly two sites");
        return;
    }
    for (i = 0; i < n && !r->failed; i++)
        read_site(r, config_setting_get_elem(list, (unsigned)i), &g->site[i]);
    g->site_count = (uint32_t)n;
    if (!r->failed && (!strcmp(g->site[0].name, g->site[1].name) ||
                       hk_uuid_equal(&g->site[0].id, &g->site[1].id)))
        complain(r, "HKE1007E", list, "sites", "both sites have the same name or site-id");
    if (!r->failed && g->site[0].path_count != g->site[1].path_count)
        complain(r, "HKE1008E", list, "paths", "the sites have different numbers of paths");
}

/*
 * Over the meaning, not the text, and over a text of its own, not a structure's layout: two
 * releases must agree on it. Its form is part of the handshake (proto/SPEC.md, control messages).
 */
static uint64_t meaning_hash(const struct hk_group_conf *g)
{
    char text[32768], id[HK_UUID_TEXT];
    size_t n = 0, room = sizeof(text);
    uint32_t i, k;

    hk_uuid_format(&g->id, id);
    n += (size_t)snprintf(text, room, "1|%s|%s|%d|%d|%llu|%llu|%d", g->name, id, (int)g->mode,
                          (int)g->on_link_loss, (unsigned long long)g->contact_timeout_ns,
                          (unsigned long long)g->pace_bound_ns, g->lab_unencrypted);
    /* What it is by default is left out, so that a site that does not know the key agrees. */
    if (g->on_overflow != HK_OVERFLOW_PACE)
        n += (size_t)snprintf(text + n, room - n, "|o:%d", (int)g->on_overflow);
    for (i = 0; i < g->volume_count; i++) {
        n += (size_t)snprintf(text + n, room - n, "|v:%s:%llu", g->volume[i].name,
                              (unsigned long long)g->volume[i].bytes);
        if (g->volume[i].max_bytes)
            n += (size_t)snprintf(text + n, room - n, ":%llu",
                                  (unsigned long long)g->volume[i].max_bytes);
    }
    for (i = 0; i < g->site_count; i++) {
        hk_uuid_format(&g->site[i].id, id);
        n += (size_t)snprintf(text + n, room - n, "|s:%s:%s:%s", g->site[i].name, id,
                              g->site[i].control);
        for (k = 0; k < g->site[i].path_count; k++)
            n += (size_t)snprintf(text + n, room - n, ":%s", g->site[i].path[k]);
    }
    HK_ASSERT(n < room); /* 64 volumes and two sites need less than 8 KiB */
    return hk_xxh64(text, n, 1);
}

enum { CONFIG_FILE_MAX = 1 << 20, CONFIG_VERSION = 1 };

/* Files carry the version of their keys' meaning; without one it is the first. */
static void check_version(struct reader *r, config_setting_t *root)
{
    uint64_t v = get_number(r, root, "version", CONFIG_VERSION, 0, UINT32_MAX, "");

    if (!r->failed && v != CONFIG_VERSION)
        complain(r, "HKE1013E", config_setting_get_member(root, "version"), "version",
                 "%llu; this release reads version %d", (unsigned long long)v, CONFIG_VERSION);
}

static int open_config(const char *path, config_t *c, char *error)
{
    struct stat st;

    if (stat(path, &st) == 0 && st.st_size > CONFIG_FILE_MAX) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE1012E %s: %lld bytes; expected at most %d", path,
                 (long long)st.st_size, CONFIG_FILE_MAX);
        return 1;
    }
    config_init(c);
    config_set_options(c, config_get_options(c) & ~CONFIG_OPTION_AUTOCONVERT);
    if (config_read_file(c, path))
        return 0;
    if (config_error_type(c) == CONFIG_ERR_FILE_IO)
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE1001E %s: cannot be read: %s", path,
                 errno ? strerror(errno) : "I/O error");
    else
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE1002E %s:%d: %s; expected `key = value;`", path,
                 config_error_line(c), config_error_text(c));
    config_destroy(c);
    return 1;
}

/*
 * Not in the hash: the unit of a primary's own map is nobody else's business, and what exists keeps
 * the one it was made with.
 */
static uint32_t get_region_shift(struct reader *r, config_setting_t *root)
{
    uint64_t bytes = get_number(r, root, "region-bytes", 1ULL << HK_REGION_SHIFT_DEFAULT, 0,
                                1ULL << HK_REGION_SHIFT_MAX, "bytes");
    uint32_t shift = 0;

    if (bytes == 0)
        return 0;
    while ((1ULL << shift) < bytes)
        shift++;
    if (!r->failed && (bytes != 1ULL << shift || shift < HK_REGION_SHIFT_MIN))
        complain(r, "HKE1005E", config_setting_get_member(root, "region-bytes"), "region-bytes",
                 "%llu: expected a power of two from 4096 to 1073741824, or 0 for no dirty map",
                 (unsigned long long)bytes);
    return shift;
}

static enum hk_overflow get_overflow(struct reader *r, config_setting_t *root,
                                     enum hk_link_loss on_link_loss)
{
    static const struct word words[] = {{"pace", HK_OVERFLOW_PACE},
                                        {"block", HK_OVERFLOW_BLOCK},
                                        {"behind", HK_OVERFLOW_BEHIND},
                                        {NULL, 0}};
    int value = get_word(r, root, "on-overflow", words, HK_OVERFLOW_PACE,
                         "\"pace\", \"block\" or \"behind\"");

    if (!r->failed && value == HK_OVERFLOW_BEHIND && on_link_loss == HK_LINK_LOSS_BLOCK)
        complain(r, "HKE1014E", config_setting_get_member(root, "on-overflow"), "on-overflow",
                 "\"behind\" with on-link-loss = \"block\": behind lets writes by that the standby "
                 "lacks, block forbids just that; expected \"pace\" or \"block\"");
    return (enum hk_overflow)value;
}

int hk_group_conf_read(const char *path, struct hk_group_conf *ret_conf,
                       char error[HK_CONFIG_ERROR_BYTES])
{
    static const char *const keys[] = {"version",
                                       "name",
                                       "group-id",
                                       "mode",
                                       "on-link-loss",
                                       "contact-timeout-ms",
                                       "pace-bound-ms",
                                       "on-overflow",
                                       "region-bytes",
                                       "lab-unencrypted",
                                       "volumes",
                                       "sites",
                                       NULL};
    static const struct word modes[] = {{"async", HK_MODE_ASYNC},
                                        {"semisync", HK_MODE_SEMISYNC},
                                        {"sync", HK_MODE_SYNC},
                                        {NULL, 0}};
    static const struct word losses[] = {
        {"continue", HK_LINK_LOSS_CONTINUE}, {"block", HK_LINK_LOSS_BLOCK}, {NULL, 0}};
    struct reader r = {path, error, false};
    struct hk_group_conf *g = calloc(1, sizeof(*g));
    config_setting_t *root;
    config_t c;
    int failed;

    if (!g || open_config(path, &c, error)) {
        free(g);
        return 1;
    }
    root = config_root_setting(&c);
    check_version(&r, root);
    known_keys(&r, root, keys);
    get_name(&r, root, "name", g->name);
    get_uuid(&r, root, "group-id", true, &g->id);
    g->mode =
        (enum hk_mode)get_word(&r, root, "mode", modes, 0, "\"async\", \"semisync\" or \"sync\"");
    g->on_link_loss = (enum hk_link_loss)get_word(&r, root, "on-link-loss", losses, 0,
                                                  "\"continue\" or \"block\"");
    g->contact_timeout_ns =
        get_number(&r, root, "contact-timeout-ms", 5000, 100, 600000, "milliseconds") * 1000000;
    g->pace_bound_ns =
        get_number(&r, root, "pace-bound-ms", 30000, 0, 600000, "milliseconds") * 1000000;
    g->on_overflow = get_overflow(&r, root, g->on_link_loss);
    g->region_shift = get_region_shift(&r, root);
    g->lab_unencrypted = get_bool(&r, root, "lab-unencrypted", false);
    read_volumes(&r, root, g);
    read_sites(&r, root, g);
    if (!r.failed && !g->lab_unencrypted)
        complain(&r, "HKE1009E", root, "lab-unencrypted",
                 "the link cannot be encrypted yet: say lab-unencrypted = true and use it only in "
                 "a laboratory, or wait for the version that encrypts");
    config_destroy(&c);
    failed = r.failed;
    if (!failed) {
        g->hash = meaning_hash(g);
        *ret_conf = *g;
    }
    free(g);
    return failed;
}

/* ( { volume = "data"; path = "…"; }, … ) → by the group's volume index; each volume exactly once.
 */
static void read_paths(struct reader *r, config_setting_t *s, const char *key,
                       const struct hk_group_conf *g, char out[HK_VOLUMES_MAX][PATH_MAX])
{
    static const char *const keys[] = {"volume", "path", NULL};
    config_setting_t *list = member(r, s, key, true, "a list of { volume; path; }");
    int i, n = list ? config_setting_length(list) : 0;
    char name[HK_NAME_BYTES];
    uint32_t v;

    if (list && !config_setting_is_list(list))
        complain(r, "HKE1004E", list, key, "expected a list ( { volume; path; }, … )");
    for (i = 0; i < n && !r->failed; i++) {
        config_setting_t *e = config_setting_get_elem(list, (unsigned)i);

        known_keys(r, e, keys);
        get_name(r, e, "volume", name);
        for (v = 0; v < g->volume_count && strcmp(name, g->volume[v].name); v++)
            ;
        if (v == g->volume_count)
            complain(r, "HKE1005E", e, "volume", "\"%s\" is no volume of group %s", name, g->name);
        else if (*out[v])
            complain(r, "HKE1007E", e, "volume", "\"%s\" appears twice", name);
        else
            get_string(r, e, "path", true, "a path", out[v], PATH_MAX);
    }
    for (v = 0; list && v < g->volume_count; v++)
        if (!r->failed && !*out[v])
            complain(r, "HKE1003E", list, key, "volume \"%s\" has no path", g->volume[v].name);
}

static void read_capture(struct reader *r, config_setting_t *root, const struct hk_group_conf *g,
                         struct hk_local_conf *l)
{
    static const char *const keys[] = {"socket",   "ring",       "ring-slots", "ring-payload",
                                       "metadata", "reader-uid", "origins",    NULL};
    config_setting_t *s = config_setting_get_member(root, "capture");

    if (!s)
        return;
    l->capture.present = true;
    known_keys(r, s, keys);
    get_string(r, s, "socket", true, "a path", l->capture.socket, 108);
    get_string(r, s, "ring", true, "a path in shared memory", l->capture.ring, PATH_MAX);
    get_string(r, s, "metadata", true, "a path", l->capture.metadata, PATH_MAX);
    l->capture.ring_slots =
        (uint32_t)get_number(r, s, "ring-slots", 65536, 64, 1 << 24, "slots (a power of two)");
    l->capture.ring_payload =
        get_number(r, s, "ring-payload", 256 << 20, 4 << 20, 1ULL << 40, "bytes");
    l->capture.reader_uid = (int64_t)get_number(r, s, "reader-uid", 0, 0, 1ULL << 31, "(a uid)");
    if (!r->failed && (l->capture.ring_slots & (l->capture.ring_slots - 1)))
        complain(r, "HKE1005E", s, "ring-slots", "%u: expected a power of two",
                 l->capture.ring_slots);
    if (!r->failed && l->capture.ring_payload % 4096)
        complain(r, "HKE1005E", s, "ring-payload", "expected a multiple of 4096 bytes");
    read_paths(r, s, "origins", g, l->capture.origin);
}

static void read_standby(struct reader *r, config_setting_t *root, const struct hk_group_conf *g,
                         struct hk_local_conf *l)
{
    static const char *const keys[] = {"metadata",    "journal",       "primary-metadata",
                                       "journal-mib", "segment-mib",   "window-mib",
                                       "apply-mib",   "apply-lag-mib", "replicas",
                                       "snapshots",   "snapshot-mib",  NULL};
    config_setting_t *s = config_setting_get_member(root, "standby");

    if (!s)
        return;
    l->standby.present = true;
    known_keys(r, s, keys);
    get_string(r, s, "metadata", true, "a path", l->standby.metadata, PATH_MAX);
    get_string(r, s, "journal", true, "a directory", l->standby.journal, PATH_MAX);
    get_string(r, s, "primary-metadata", true, "a path", l->standby.primary_metadata, PATH_MAX);
    get_string(r, s, "snapshots", false, "a directory", l->standby.snapshots, PATH_MAX);
    l->standby.snapshot_bytes =
        get_number(r, s, "snapshot-mib", 0, 0, 1 << 24, "MiB (0: what the disk gives)") << 20;
    l->standby.segment_bytes = get_number(r, s, "segment-mib", 64, 8, 4096, "MiB") << 20;
    l->standby.journal_bytes = get_number(r, s, "journal-mib", 4096, 32, 1 << 24, "MiB") << 20;
    l->standby.window_bytes = get_number(r, s, "window-mib", 256, 8, 4096, "MiB") << 20;
    l->standby.apply_bytes = get_number(r, s, "apply-mib", 64, 4, 1024, "MiB") << 20;
    l->standby.apply_lag_bytes = get_number(r, s, "apply-lag-mib", 1024, 16, 1 << 20, "MiB") << 20;
    if (!r->failed && (l->standby.window_bytes & (l->standby.window_bytes - 1)))
        complain(r, "HKE1005E", s, "window-mib", "expected a power of two");
    if (!r->failed && l->standby.journal_bytes < 3 * l->standby.segment_bytes)
        complain(r, "HKE1008E", s, "journal-mib", "expected at least three segments (%llu MiB)",
                 (unsigned long long)(3 * l->standby.segment_bytes >> 20));
    read_paths(r, s, "replicas", g, l->standby.replica);
}

static void read_spool(struct reader *r, config_setting_t *root, struct hk_local_conf *l)
{
    static const char *const keys[] = {"directory", "segments", "segment-mib", NULL};
    config_setting_t *s = config_setting_get_member(root, "spool");

    if (!s)
        return;
    l->spool.present = true;
    known_keys(r, s, keys);
    get_string(r, s, "directory", true, "a directory", l->spool.directory, PATH_MAX);
    l->spool.segments = (uint32_t)get_number(r, s, "segments", 64, 2, 65536, "(files)");
    l->spool.segment_bytes = get_number(r, s, "segment-mib", 64, 8, 4096, "MiB") << 20;
    if (!r->failed && l->standby.present && !strcmp(l->spool.directory, l->standby.journal))
        complain(r, "HKE1008E", s, "directory", "it is the journal's: a spool needs its own");
}

static void read_link(struct reader *r, config_setting_t *root, const struct hk_group_conf *g,
                      struct hk_local_conf *l)
{
    static const char *const keys[] = {"backend",   "interfaces", "mtu", "dpdk-memory-mib",
                                       "rate-mbit", "impair",     NULL};
    static const char *const impair_keys[] = {"loss-ppm",    "dup-ppm", "reorder-ppm",
                                              "corrupt-ppm", "seed",    NULL};
    static const struct word backends[] = {
        {"udp", HK_BACKEND_UDP}, {"dpdk", HK_BACKEND_DPDK}, {NULL, 0}};
    config_setting_t *s = config_setting_get_member(root, "link"), *m;
    int i, n;

    if (!s) {
        complain(r, "HKE1003E", root, "link", "missing; expected { backend; interfaces; … }");
        return;
    }
    known_keys(r, s, keys);
    l->link.backend =
        (enum hk_conf_backend)get_word(r, s, "backend", backends, 0, "\"udp\" or \"dpdk\"");
    l->link.mtu = (uint32_t)get_number(r, s, "mtu", 1500, 1280, 9600, "bytes");
    l->link.dpdk_memory_mib = (uint32_t)get_number(r, s, "dpdk-memory-mib", 256, 64, 65536, "MiB");
    l->link.rate_max_bytes_s =
        get_number(r, s, "rate-mbit", 0, 0, 1000000, "Mbit/s (0: no cap)") * 125000;
    m = config_setting_get_member(s, "interfaces");
    n = m ? config_setting_length(m) : 0;
    if (l->link.backend == HK_BACKEND_DPDK && (uint32_t)n != g->site[0].path_count)
        complain(r, "HKE1008E", s, "interfaces", "expected a list of %u interfaces, one a path",
                 g->site[0].path_count);
    for (i = 0; i < n && i < HK_PATHS_MAX && !r->failed; i++) {
        const char *text = config_setting_get_string_elem(m, i);

        if (!text || strlen(text) >= HK_NAME_BYTES)
            complain(r, "HKE1004E", m, "interfaces", "element %d: expected a name in quotes",
                     i + 1);
        else
            strcpy(l->link.interface[i], text);
    }
    l->link.interface_count = (uint32_t)n;
    m = config_setting_get_member(s, "impair");
    if (m)
        known_keys(r, m, impair_keys);
    l->link.loss_ppm = (uint32_t)get_number(r, m, "loss-ppm", 0, 0, 1000000, "per million");
    l->link.dup_ppm = (uint32_t)get_number(r, m, "dup-ppm", 0, 0, 1000000, "per million");
    l->link.reorder_ppm = (uint32_t)get_number(r, m, "reorder-ppm", 0, 0, 1000000, "per million");
    l->link.corrupt_ppm = (uint32_t)get_number(r, m, "corrupt-ppm", 0, 0, 1000000, "per million");
    l->link.impair_seed = get_number(r, m, "seed", 1, 0, INT64_MAX, "(a seed)");
}

int hk_local_conf_read(const char *path, const struct hk_group_conf *group,
                       struct hk_local_conf *ret_conf, char error[HK_CONFIG_ERROR_BYTES])
{
    static const char *const keys[] = {"version", "site",          "site-id", "host-id", "role",
                                       "socket",  "state-dir",     "capture", "standby", "spool",
                                       "link",    "fence-command", NULL};
    static const struct word roles[] = {{"primary", 1}, {"standby", 2}, {NULL, 0}};
    struct reader r = {path, error, false};
    struct hk_local_conf *l = calloc(1, sizeof(*l));
    config_setting_t *root;
    struct hk_uuid id;
    config_t c;
    int failed;

    if (!l || open_config(path, &c, error)) {
        free(l);
        return 1;
    }
    root = config_root_setting(&c);
    check_version(&r, root);
    known_keys(&r, root, keys);
    get_name(&r, root, "site", l->site);
    for (l->site_index = 0; l->site_index < group->site_count; l->site_index++)
        if (!strcmp(group->site[l->site_index].name, l->site))
            break;
    if (!r.failed && l->site_index == group->site_count)
        complain(&r, "HKE1005E", config_setting_get_member(root, "site"), "site",
                 "\"%s\" is no site of group %s", l->site, group->name);
    if (!r.failed)
        l->peer_index = 1 - l->site_index;
    memset(&id, 0, sizeof(id));
    get_uuid(&r, root, "site-id", false, &id);
    if (!r.failed && !hk_uuid_is_nil(&id) && !hk_uuid_equal(&id, &group->site[l->site_index].id))
        complain(&r, "HKE1008E", config_setting_get_member(root, "site-id"), "site-id",
                 "differs from the one that group.conf gives to site %s", l->site);
    get_uuid(&r, root, "host-id", false, &l->host_id);
    l->primary = get_word(&r, root, "role", roles, 0, "\"primary\" or \"standby\"") == 1;
    get_string(&r, root, "socket", true, "a path", l->socket, 108);
    get_string(&r, root, "state-dir", true, "a directory", l->state_dir, PATH_MAX);
    get_string(&r, root, "fence-command", false, "a command", l->fence_command, PATH_MAX);
    read_capture(&r, root, group, l);
    read_standby(&r, root, group, l);
    read_spool(&r, root, l);
    read_link(&r, root, group, l);
    if (!r.failed && l->primary && !l->capture.present)
        complain(&r, "HKE1003E", root, "capture", "missing; a primary needs it");
    if (!r.failed && !l->primary && !l->standby.present)
        complain(&r, "HKE1003E", root, "standby", "missing; a standby needs it");
    l->volume_count = group->volume_count;
    config_destroy(&c);
    failed = r.failed;
    if (!failed)
        *ret_conf = *l;
    free(l);
    return failed;
}
