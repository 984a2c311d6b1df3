/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts from outside: ids, segment file names, names of groups, volumes and marks. Oracle: what
 * parses prints as the same text (ids: in lower case), what does not leaves the output untouched,
 * and a name has only the characters that are harmless in a path or on a screen.
 */
#include "fuzz.h"

#include "proto/record.h"
#include "proto/segment.h"

#include <string.h>

static void check_uuid(const char *text)
{
    struct hk_uuid u = {{0x5a, 0x5a}}, untouched = u;
    char again[HK_UUID_TEXT];

    if (hk_uuid_parse(text, &u) != 0) {
        HK_ASSERT(hk_uuid_equal(&u, &untouched));
        return;
    }
    hk_uuid_format(&u, again);
    HK_ASSERT(strlen(text) == HK_UUID_TEXT - 1);
    for (int i = 0; i < HK_UUID_TEXT; i++)
        HK_ASSERT(again[i] == (text[i] >= 'A' && text[i] <= 'F' ? text[i] + 32 : text[i]));
}

static void check_segment_name(const char *text)
{
    struct hk_uuid id = {{0x5a}};
    uint32_t ordinal = 0x5a;
    uint64_t lsn = 0x5a;
    char again[HK_SEGMENT_NAME_BYTES];

    if (hk_segment_name_parse(text, &ordinal, &id, &lsn) != 0) {
        HK_ASSERT(ordinal == 0x5a && lsn == 0x5a && id.b[0] == 0x5a && id.b[1] == 0);
        return;
    }
    HK_ASSERT(ordinal > 0 && lsn > 0 && lsn % 64 == 0 && !hk_uuid_is_nil(&id));
    hk_segment_name(ordinal, &id, lsn, again);
    HK_ASSERT(strcmp(text, again) == 0);
}

static void check_name(const uint8_t *data, size_t size)
{
    static const char harmless[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    char name[HK_NAME_BYTES] = {0};
    bool ok = true;
    size_t len;

    memcpy(name, data, hk_min_u64(size, sizeof(name)));
    len = strnlen(name, sizeof(name));
    for (size_t i = 0; i < sizeof(name); i++) {
        if (i < len ? !strchr(harmless, name[i]) : name[i] != 0)
            ok = false;
    }
    if (name[0] == '.' || name[0] == '-')
        ok = false;
    HK_ASSERT(hk_mark_name_ok(name) == (ok && len > 0 && len < sizeof(name)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[4096];

    if (size >= sizeof(text))
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_uuid(text);
    check_segment_name(text);
    check_name(data, size);
    return 0;
}
