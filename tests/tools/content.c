/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { WORDS = HK_SECTOR_BYTES / 8 };

static uint64_t mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static enum hk_content_kind kind_of(uint64_t id)
{
    return (enum hk_content_kind)(id >> 56);
}

static uint64_t value_of(uint64_t id)
{
    return id & (((uint64_t)1 << 56) - 1);
}

uint64_t hk_content_id(enum hk_content_kind kind, uint64_t value)
{
    if (kind == HK_CONTENT_ZERO || (kind == HK_CONTENT_FILL && (value & 0xff) == 0))
        return 0; /* one id, one content: a fill with zero bytes is zero */
    if (kind == HK_CONTENT_FILL)
        value &= 0xff;
    return ((uint64_t)kind << 56) | value_of(value);
}

uint64_t hk_content_tag(uint64_t id, uint32_t volume, uint64_t sector)
{
    if (kind_of(id) != HK_CONTENT_MIX)
        return id;
    /* The place of the sector inside the seed's pattern, not the operation's start, decides:
     * so two operations with one seed agree where they overlap. */
    switch (mix64(value_of(id) ^ mix64(sector ^ ((uint64_t)volume << 48))) & 3) {
    case 0: return 0;
    case 1: return hk_content_id(HK_CONTENT_FILL, 0xaa);
    case 2: return hk_content_id(HK_CONTENT_FILL, 0x55);
    }
    return hk_content_id(HK_CONTENT_PLACE, 1);
}

/* The first word tells the kind, the second the place; the rest can be rebuilt from both. */
static void fill_words(uint64_t tag, uint32_t volume, uint64_t sector, uint64_t *ret_words)
{
    uint64_t place = ((uint64_t)volume << 48) ^ sector;
    uint64_t state = mix64(tag ^ mix64(place));

    ret_words[0] = tag;
    ret_words[1] = place;
    for (int i = 2; i < WORDS; i++) {
        state += 0x9e3779b97f4a7c15u;
        ret_words[i] = mix64(state);
    }
}

void hk_content_fill(uint64_t tag, uint32_t volume, uint64_t sector, void *ret_sector)
{
    switch (kind_of(tag)) {
    case HK_CONTENT_ZERO: memset(ret_sector, 0, HK_SECTOR_BYTES); return;
    case HK_CONTENT_FILL: memset(ret_sector, (int)(tag & 0xff), HK_SECTOR_BYTES); return;
    case HK_CONTENT_PLACE:
    case HK_CONTENT_UNIQUE: {
        uint64_t words[WORDS];

        fill_words(tag, volume, sector, words);
        memcpy(ret_sector, words, sizeof(words));
        return;
    }
    case HK_CONTENT_MIX:
    case HK_CONTENT_OTHER: break;
    }
    fprintf(stderr, "content: 0x%" PRIx64 " is not the content of a sector\n", tag);
    abort();
}

uint64_t hk_content_recognise(const void *bytes, uint32_t volume, uint64_t sector)
{
    const unsigned char *b = bytes;
    uint64_t words[WORDS];
    uint64_t tag;

    if (memcmp(b, b + 1, HK_SECTOR_BYTES - 1) == 0)
        return hk_content_id(HK_CONTENT_FILL, b[0]);
    memcpy(&tag, b, sizeof(tag));
    if (kind_of(tag) == HK_CONTENT_PLACE || kind_of(tag) == HK_CONTENT_UNIQUE) {
        fill_words(tag, volume, sector, words);
        if (memcmp(words, b, sizeof(words)) == 0)
            return tag;
    }
    return ((uint64_t)HK_CONTENT_OTHER << 56) | value_of(XXH3_64bits(b, HK_SECTOR_BYTES));
}

void hk_content_describe(uint64_t tag, char *buf, size_t buf_size)
{
    uint64_t value = value_of(tag);

    switch (kind_of(tag)) {
    case HK_CONTENT_ZERO: snprintf(buf, buf_size, "zeros"); return;
    case HK_CONTENT_FILL: snprintf(buf, buf_size, "bytes 0x%02" PRIx64, value); return;
    case HK_CONTENT_PLACE: snprintf(buf, buf_size, "place pattern %" PRIu64, value); return;
    case HK_CONTENT_UNIQUE: snprintf(buf, buf_size, "unique stamp %" PRIu64, value); return;
    case HK_CONTENT_MIX: snprintf(buf, buf_size, "mix %" PRIu64, value); return;
    case HK_CONTENT_OTHER: break;
    }
    snprintf(buf, buf_size, "foreign bytes (hash %014" PRIx64 ")", value);
}
