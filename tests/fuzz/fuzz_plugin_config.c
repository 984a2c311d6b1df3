/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plugin's parameters and its reading of group.conf and site.conf. Input: mode byte, then mode
 * 0: a group.conf beside a sound site.conf, mode 1: the other way round, mode 2: parameters, each
 * "key=value" and a newline. The plugin's own code is included, its engine is not.
 *
 * Oracle: what is refused says why with a message id and leaves nothing behind; what is accepted is
 * within its bounds, every volume has an origin and no name is there twice.
 */
#include "driver-glue/nbd/plugin.c"
#include "fuzz.h"
#include "tests/fuzz/quiet.h"

/* libconfig's scanner loses strings of files it refuses: its leaks, not ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig";
}

static const char sound_group[] =
    "name=\"core\";group-id=\"11111111-2222-3333-4444-555555555555\";mode=\"sync\";"
    "on-link-loss=\"block\";volumes=({name=\"data\";size=16777216L;},{name=\"wal\";size=4096;});";
static const char sound_site[] =
    "capture={socket=\"/run/c.sock\";ring=\"/dev/shm/r\";metadata=\"/var/md\";ring-slots=1024;"
    "origins=({volume=\"data\";path=\"/dev/a\";},{volume=\"wal\";path=\"/dev/b\";});};";

void nbdkit_error(const char *format, ...)
{
    HK_ASSERT(format);
}

void nbdkit_debug(const char *format, ...)
{
    HK_ASSERT(format);
}

char *nbdkit_absolute_path(const char *path)
{
    return *path ? strdup(path) : NULL;
}

const char *nbdkit_export_name(void)
{
    return "";
}

int nbdkit_add_export(struct nbdkit_exports *exports, const char *name, const char *description)
{
    return 0;
}

void nbdkit_set_error(int error)
{
    HK_ASSERT(error);
}

int hk_engine_open(const struct hk_nbd_conf *c, struct hk_engine **ret_engine)
{
    return -1;
}

int hk_engine_start(struct hk_engine *e)
{
    return -1;
}

void hk_engine_stop(struct hk_engine *e) {}

void hk_engine_free(struct hk_engine *e) {}

int hk_engine_request(struct hk_engine *e, uint16_t volume, uint8_t type, uint8_t flags,
                      uint64_t offset, uint32_t length, const void *data)
{
    return -EIO;
}

int hk_engine_read(struct hk_engine *e, uint16_t volume, void *data, uint32_t length,
                   uint64_t offset)
{
    return -EIO;
}

uint64_t hk_engine_size(struct hk_engine *e, uint16_t volume)
{
    return 4096;
}

uint32_t hk_engine_request_max(const struct hk_engine *e, uint64_t offset)
{
    return UINT32_MAX;
}

uint32_t hk_engine_waiting(struct hk_engine *e)
{
    return 0;
}

bool hk_engine_admits(struct hk_engine *e)
{
    return false;
}

static void check(const struct hk_nbd_conf *c)
{
    HK_ASSERT(hk_mark_name_ok(c->group_name) && !hk_uuid_is_nil(&c->group_id));
    HK_ASSERT(c->mode >= HK_MODE_ASYNC && c->mode <= HK_MODE_SYNC);
    HK_ASSERT(c->on_link_loss == HK_LINK_LOSS_CONTINUE || c->on_link_loss == HK_LINK_LOSS_BLOCK);
    HK_ASSERT(c->contact_timeout_ns > 0 && c->volume_count >= 1);
    HK_ASSERT(c->volume_count <= HK_VOLUMES_MAX);
    for (uint32_t i = 0; i < c->volume_count; i++) {
        HK_ASSERT(hk_mark_name_ok(c->volume[i].name) && *c->volume[i].origin);
        HK_ASSERT(c->volume[i].bytes > 0 && c->volume[i].bytes % 512 == 0);
        for (uint32_t k = 0; k < i; k++)
            HK_ASSERT(strcmp(c->volume[i].name, c->volume[k].name) != 0);
    }
    HK_ASSERT(*c->socket && strlen(c->ring) < sizeof(c->ring) - 8 && *c->metadata);
    HK_ASSERT(c->ring_slots >= HK_RING_SLOTS_MIN && (c->ring_slots & (c->ring_slots - 1)) == 0);
    HK_ASSERT(c->ring_payload_bytes >= HK_RING_PAYLOAD_MIN && c->ring_payload_bytes % 4096 == 0);
}

static void files(const void *group, size_t group_bytes, const void *site, size_t site_bytes)
{
    static struct hk_nbd_conf c;
    char error[HK_NBD_TEXT_BYTES] = "";

    c.volume_count = 0xffff;
    if (hk_nbd_conf_read(quiet_file(0, group, group_bytes), quiet_file(1, site, site_bytes), &c,
                         error) == 0) {
        check(&c);
        return;
    }
    HK_ASSERT(c.volume_count == 0xffff && memcmp(error, "HKE1", 4) == 0);
    HK_ASSERT(memchr(error, 0, sizeof(error)));
}

static void parameters(char *text)
{
    char *end, *equals;
    int rc;

    for (; (end = strchr(text, '\n')); text = end + 1) {
        *end = '\0';
        equals = strchr(text, '=');
        if (equals)
            *equals++ = '\0';
        rc = hikae_config(text, equals ? equals : "");
        HK_ASSERT(rc == 0 || rc == -1);
        if (strcmp(text, "group") != 0 && strcmp(text, "site") != 0)
            HK_ASSERT(rc == -1);
    }
    if (!group_path || !site_path)
        HK_ASSERT(hikae_config_complete() == -1);
    hikae_unload();
    group_path = site_path = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[4096];

    if (size < 1 || size >= sizeof(text) || memmem(data, size, "@include", 8))
        return 0;
    if (data[0] % 3 == 0) {
        files(data + 1, size - 1, sound_site, sizeof(sound_site) - 1);
    } else if (data[0] % 3 == 1) {
        files(sound_group, sizeof(sound_group) - 1, data + 1, size - 1);
    } else {
        memset(text, 0, sizeof(text));
        memcpy(text, data + 1, size - 1);
        parameters(text);
    }
    return 0;
}
