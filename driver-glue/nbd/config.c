/* SPDX-License-Identifier: Apache-2.0 */
#include "driver-glue/nbd/config.h"

#include <errno.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "driver-glue/nbd/messages.h"

/* One file being read. The first complaint stays, everything after it is silent. */
struct reader {
    const char *path;
    char *text;
    bool failed;
};

__attribute__((format(printf, 5, 6))) static void complain(struct reader *r, const char *id,
                                                           const config_setting_t *at,
                                                           const char *key, const char *format, ...)
{
    va_list ap;
    int n;

    if (r->failed)
        return;
    r->failed = true;
    n = snprintf(r->text, HK_NBD_TEXT_BYTES, "%s %s:%u: %s: ", id, r->path,
                 at ? config_setting_source_line(at) : 0, key);
    if (n < 0 || n >= HK_NBD_TEXT_BYTES)
        return;
    va_start(ap, format);
    vsnprintf(r->text + n, (size_t)(HK_NBD_TEXT_BYTES - n), format, ap);
    va_end(ap);
}

static const char *get_string(struct reader *r, config_setting_t *s, const char *key,
                              size_t bytes_max)
{
    config_setting_t *m = s ? config_setting_get_member(s, key) : NULL;
    const char *value = m ? config_setting_get_string(m) : NULL;

    if (!m)
        complain(r, HK_MSG_CONF_MISSING, s, key, "missing; expected a string");
    else if (!value)
        complain(r, HK_MSG_CONF_TYPE, m, key, "expected a string in double quotes");
    else if (!*value || strlen(value) >= bytes_max)
        complain(r, HK_MSG_CONF_VALUE, m, key, "expected 1 to %zu characters", bytes_max - 1);
    return r->failed ? NULL : value;
}

static void copy_string(struct reader *r, config_setting_t *s, const char *key, char *ret,
                        size_t bytes_max)
{
    const char *value = get_string(r, s, key, bytes_max);

    if (value)
        memcpy(ret, value, strlen(value) + 1);
}

static uint64_t get_number(struct reader *r, config_setting_t *s, const char *key, bool required,
                           uint64_t fallback, uint64_t min, uint64_t max)
{
    config_setting_t *m = s ? config_setting_get_member(s, key) : NULL;
    long long value;

    if (!m) {
        if (required)
            complain(r, HK_MSG_CONF_MISSING, s, key, "missing; expected a whole number");
        return fallback;
    }
    if (config_setting_type(m) != CONFIG_TYPE_INT && config_setting_type(m) != CONFIG_TYPE_INT64) {
        complain(r, HK_MSG_CONF_TYPE, m, key, "expected a whole number");
        return fallback;
    }
    value = config_setting_get_int64(m);
    if (value < 0 || (uint64_t)value < min || (uint64_t)value > max) {
        complain(r, HK_MSG_CONF_VALUE, m, key, "%lld is out of range; expected %llu to %llu", value,
                 (unsigned long long)min, (unsigned long long)max);
        return fallback;
    }
    return (uint64_t)value;
}

static void get_uuid(struct reader *r, config_setting_t *s, const char *key, struct hk_uuid *ret)
{
    const char *value = get_string(r, s, key, HK_UUID_TEXT);

    if (value && (hk_uuid_parse(value, ret) || hk_uuid_is_nil(ret)))
        complain(r, HK_MSG_CONF_VALUE, config_setting_get_member(s, key), key,
                 "\"%s\": expected a UUID (8-4-4-4-12 hexadecimal digits, not all zero)", value);
}

static void get_name(struct reader *r, config_setting_t *s, const char *key,
                     char ret[HK_NAME_BYTES])
{
    copy_string(r, s, key, ret, HK_NAME_BYTES);
    if (!r->failed && !hk_mark_name_ok(ret))
        complain(r, HK_MSG_CONF_VALUE, config_setting_get_member(s, key), key,
                 "\"%s\": expected letters, digits, '.', '_' and '-'", ret);
}

struct word {
    const char *text;
    int value;
};

static int get_word(struct reader *r, config_setting_t *s, const char *key,
                    const struct word *words, const char *expected)
{
    const char *value = get_string(r, s, key, HK_NAME_BYTES);

    if (!value)
        return 0;
    for (; words->text; words++) {
        if (strcmp(words->text, value) == 0)
            return words->value;
    }
    complain(r, HK_MSG_CONF_VALUE, config_setting_get_member(s, key), key, "\"%s\": expected %s",
             value, expected);
    return 0;
}

static config_setting_t *get_list(struct reader *r, config_setting_t *s, const char *key)
{
    config_setting_t *m = s ? config_setting_get_member(s, key) : NULL;

    if (!m)
        complain(r, HK_MSG_CONF_MISSING, s, key, "missing; expected a list ( { … }, … )");
    else if (!config_setting_is_list(m) || config_setting_length(m) < 1 ||
             config_setting_length(m) > HK_VOLUMES_MAX)
        complain(r, HK_MSG_CONF_VALUE, m, key, "expected a list ( { … }, … ) of 1 to %d entries",
                 HK_VOLUMES_MAX);
    return r->failed ? NULL : m;
}

static struct hk_nbd_volume *find_volume(struct hk_nbd_conf *c, const char *name)
{
    for (uint32_t i = 0; i < c->volume_count; i++) {
        if (strcmp(c->volume[i].name, name) == 0)
            return &c->volume[i];
    }
    return NULL;
}

static void read_group(struct reader *r, config_setting_t *root, struct hk_nbd_conf *c)
{
    static const struct word modes[] = {{"async", HK_MODE_ASYNC},
                                        {"semisync", HK_MODE_SEMISYNC},
                                        {"sync", HK_MODE_SYNC},
                                        {NULL, 0}};
    static const struct word losses[] = {
        {"continue", HK_LINK_LOSS_CONTINUE}, {"block", HK_LINK_LOSS_BLOCK}, {NULL, 0}};
    static const struct word overflows[] = {{"pace", HK_OVERFLOW_PACE},
                                            {"block", HK_OVERFLOW_BLOCK},
                                            {"behind", HK_OVERFLOW_BEHIND},
                                            {NULL, 0}};
    config_setting_t *list;

    get_name(r, root, "name", c->group_name);
    get_uuid(r, root, "group-id", &c->group_id);
    c->mode = (enum hk_mode)get_word(r, root, "mode", modes, "\"async\", \"semisync\" or \"sync\"");
    c->on_link_loss =
        (enum hk_link_loss)get_word(r, root, "on-link-loss", losses, "\"continue\" or \"block\"");
    c->contact_timeout_ns =
        get_number(r, root, "contact-timeout-ms", false, 5000, 100, 600000) * 1000000;
    c->pace_bound_ns = get_number(r, root, "pace-bound-ms", false, 30000, 0, 600000) * 1000000;
    if (config_setting_get_member(root, "on-overflow"))
        c->on_overflow = (enum hk_overflow)get_word(r, root, "on-overflow", overflows,
                                                    "\"pace\", \"block\" or \"behind\"");
    if (!r->failed && c->on_overflow == HK_OVERFLOW_BEHIND && c->on_link_loss == HK_LINK_LOSS_BLOCK)
        complain(r, HK_MSG_CONF_OVERFLOW, config_setting_get_member(root, "on-overflow"),
                 "on-overflow",
                 "\"behind\" with on-link-loss = \"block\": behind lets writes by that the standby "
                 "lacks, block forbids just that; expected \"pace\" or \"block\"");
    list = get_list(r, root, "volumes");
    for (int i = 0; !r->failed && i < config_setting_length(list); i++) {
        config_setting_t *v = config_setting_get_elem(list, (unsigned)i);
        struct hk_nbd_volume volume = {.name = ""};

        get_name(r, v, "name", volume.name);
        volume.bytes = get_number(r, v, "size", true, 0, 512, 1ull << 60);
        if (!r->failed && volume.bytes % 512 != 0)
            complain(r, HK_MSG_CONF_VALUE, v, "size", "expected a multiple of 512 bytes");
        volume.max_bytes =
            get_number(r, v, "max-size", false, volume.bytes, volume.bytes, 1ull << 60);
        if (!r->failed && volume.max_bytes % HK_PAGE_BYTES != 0 && volume.max_bytes != volume.bytes)
            complain(r, HK_MSG_CONF_VALUE, v, "max-size", "expected a multiple of 4096 bytes");
        if (volume.max_bytes == volume.bytes)
            volume.max_bytes = 0;
        if (!r->failed && find_volume(c, volume.name))
            complain(r, HK_MSG_CONF_TWICE, v, "name", "volume \"%s\" appears twice", volume.name);
        c->volume[c->volume_count++] = volume;
    }
}

static void read_origins(struct reader *r, config_setting_t *capture, struct hk_nbd_conf *c)
{
    config_setting_t *list = get_list(r, capture, "origins");

    for (int i = 0; !r->failed && i < config_setting_length(list); i++) {
        config_setting_t *o = config_setting_get_elem(list, (unsigned)i);
        const char *name = get_string(r, o, "volume", HK_NAME_BYTES);
        struct hk_nbd_volume *volume = name ? find_volume(c, name) : NULL;

        if (name && !volume)
            complain(r, HK_MSG_CONF_VALUE, o, "volume", "\"%s\" is no volume of group %s", name,
                     c->group_name);
        if (volume && *volume->origin)
            complain(r, HK_MSG_CONF_TWICE, o, "volume", "\"%s\" appears twice", name);
        if (!r->failed && volume)
            copy_string(r, o, "path", volume->origin, sizeof(volume->origin));
    }
    for (uint32_t i = 0; i < c->volume_count; i++) {
        if (!*c->volume[i].origin)
            complain(r, HK_MSG_CONF_MISSING, capture, "origins", "volume \"%s\" has no path",
                     c->volume[i].name);
    }
}

static void read_site(struct reader *r, config_setting_t *root, struct hk_nbd_conf *c)
{
    config_setting_t *s = config_setting_get_member(root, "capture");

    if (!s) {
        complain(r, HK_MSG_CONF_MISSING, root, "capture",
                 "missing; a primary needs { socket; ring; metadata; origins; }");
        return;
    }
    copy_string(r, s, "socket", c->socket, sizeof(c->socket));
    copy_string(r, s, "ring", c->ring, sizeof(c->ring) - 8);
    copy_string(r, s, "metadata", c->metadata, sizeof(c->metadata));
    c->ring_slots = (uint32_t)get_number(r, s, "ring-slots", false, HK_RING_SLOTS_DEFAULT,
                                         HK_RING_SLOTS_MIN, HK_RING_SLOTS_MAX);
    if (!r->failed && (c->ring_slots & (c->ring_slots - 1)) != 0)
        complain(r, HK_MSG_CONF_VALUE, config_setting_get_member(s, "ring-slots"), "ring-slots",
                 "%u: expected a power of two", c->ring_slots);
    c->ring_payload_bytes = get_number(r, s, "ring-payload", false, HK_RING_PAYLOAD_DEFAULT,
                                       HK_RING_PAYLOAD_MIN, 1ull << 40);
    if (!r->failed && c->ring_payload_bytes % HK_PAGE_BYTES != 0)
        complain(r, HK_MSG_CONF_VALUE, config_setting_get_member(s, "ring-payload"), "ring-payload",
                 "expected a multiple of 4096 bytes");
    c->reader_uid = (uint32_t)get_number(r, s, "reader-uid", false, 0, 0, UINT32_MAX - 1);
    read_origins(r, s, c);
}

static int read_file(const char *path, struct hk_nbd_conf *c, char *text,
                     void (*read)(struct reader *, config_setting_t *, struct hk_nbd_conf *))
{
    struct reader r = {.path = path, .text = text};
    config_t config;

    config_init(&config);
    errno = 0;
    if (config_read_file(&config, path)) {
        read(&r, config_root_setting(&config), c);
    } else if (config_error_type(&config) == CONFIG_ERR_FILE_IO) {
        r.failed = true;
        snprintf(text, HK_NBD_TEXT_BYTES, HK_MSG_CONF_READ " %s: cannot be read: %s", path,
                 errno ? strerror(errno) : "I/O error");
    } else {
        r.failed = true;
        snprintf(text, HK_NBD_TEXT_BYTES, HK_MSG_CONF_SYNTAX " %s:%d: %s; expected `key = value;`",
                 path, config_error_line(&config), config_error_text(&config));
    }
    config_destroy(&config);
    return r.failed ? -1 : 0;
}

int hk_nbd_conf_read(const char *group_path, const char *site_path, struct hk_nbd_conf *ret_conf,
                     char ret_text[HK_NBD_TEXT_BYTES])
{
    static struct hk_nbd_conf c; /* too large for a stack; read once, by one thread */

    memset(&c, 0, sizeof(c));
    if (read_file(group_path, &c, ret_text, read_group) ||
        read_file(site_path, &c, ret_text, read_site))
        return -1;
    *ret_conf = c;
    return 0;
}
