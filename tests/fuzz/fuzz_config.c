/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files. Input: mode byte, then the text of a group.conf (mode 0) or of a site.conf
 * read under a sound group (mode 1). Oracle: a refused file leaves a text that begins with a
 * message id and an untouched output; an accepted one is within every bound it promises.
 */
#include "fuzz.h"

#include "proto/base.h"
#include "replicator/daemon/config/config.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* libconfig's scanner loses strings of files it refuses: its leaks, not ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig";
}

static const char sound_group[] =
    "name=\"core\";group-id=\"11111111-2222-3333-4444-555555555555\";mode=\"sync\";"
    "on-link-loss=\"block\";lab-unencrypted=true;volumes=({name=\"data\";size=16777216L;});"
    "sites=({name=\"a\";site-id=\"11111111-2222-3333-4444-555555555551\";control=\"127.0.0.1:1\";"
    "paths=(\"127.0.0.1:2\");},{name=\"b\";site-id=\"11111111-2222-3333-4444-555555555552\";"
    "control=\"127.0.0.2:1\";paths=(\"127.0.0.2:2\");});";

static int file = -1;
static char path[32] = "/proc/self/fd/";

static const char *put(const void *text, size_t bytes)
{
    if (file < 0) {
        file = memfd_create("config", 0);
        HK_ASSERT(file >= 0 && file < 100);
        path[14] = (char)('0' + file / 10);
        path[15] = (char)('0' + file % 10);
        if (file < 10)
            memmove(path + 14, path + 15, 2);
    }
    HK_ASSERT(ftruncate(file, 0) == 0);
    HK_ASSERT(pwrite(file, text, bytes, 0) == (ssize_t)bytes);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hk_group_conf group, sound;
    static struct hk_local_conf local;
    char error[HK_CONFIG_ERROR_BYTES];
    const void *at;

    if (size < 1 || size > 16384)
        return 0;
    /* @include would read files of this machine: not what is being tried here. */
    at = memmem(data, size, "@include", 8);
    if (at)
        return 0;
    if (!sound.volume_count)
        HK_ASSERT(hk_group_conf_read(put(sound_group, sizeof(sound_group) - 1), &sound, error) ==
                  0);
    group.volume_count = 0xffff;
    memset(error, 0, sizeof(error));
    if (data[0] & 1) {
        if (hk_local_conf_read(put(data + 1, size - 1), &sound, &local, error) == 0) {
            HK_ASSERT(local.site_index + local.peer_index == 1);
            HK_ASSERT(local.primary ? local.capture.present : local.standby.present);
            return 0;
        }
    } else if (hk_group_conf_read(put(data + 1, size - 1), &group, error) == 0) {
        HK_ASSERT(group.volume_count >= 1 && group.volume_count <= HK_VOLUMES_MAX);
        HK_ASSERT(group.site_count == 2 && group.lab_unencrypted);
        return 0;
    } else {
        HK_ASSERT(group.volume_count == 0xffff);
    }
    HK_ASSERT(memcmp(error, "HKE1", 4) == 0);
    return 0;
}
