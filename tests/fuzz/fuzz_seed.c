/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a seed, as it comes from a medium. Oracle: what parses prints as the same bytes;
 * every piece lies in its volume; a changed byte is refused; what is refused names a line and
 * leaves the output untouched. The first byte chooses: the whole manifest, or the beginning of one
 * that is still being made.
 */
#include "fuzz.h"

#include "ctl/seed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void prints_the_same(const struct hk_seed *s, const char *text, size_t bytes, bool partial)
{
    char *again = NULL, *whole = NULL;
    size_t n = 0, m = 0;
    FILE *f = open_memstream(&again, &n), *g;

    HK_ASSERT(f);
    hk_seed_print_head(s, f);
    for (uint64_t i = 0; i < s->done; i++)
        hk_seed_print_piece(s, i, f);
    if (!partial)
        hk_seed_print_tail(s, f);
    fclose(f);
    g = open_memstream(&whole, &m);
    HK_ASSERT(g && fwrite(again, 1, n, g) == n);
    if (!partial)
        hk_seed_print_hash(again, n, g);
    fclose(g);
    if (partial)
        HK_ASSERT(s->text_bytes <= bytes && m == s->text_bytes);
    else
        HK_ASSERT(m == bytes);
    HK_ASSERT(memcmp(whole, text, m) == 0);
    free(again);
    free(whole);
}

static void lies_in_its_volume(const struct hk_seed *s)
{
    for (uint64_t i = 0; i < s->done; i++) {
        uint32_t v = hk_seed_volume_of(s, i);
        uint64_t offset = hk_seed_piece_offset(s, i), bytes = hk_seed_piece_bytes(s, i);

        HK_ASSERT(v < s->volume_count && bytes > 0 && bytes <= s->piece_bytes);
        HK_ASSERT(offset + bytes <= s->volume[v].bytes && offset % 4096 == 0);
    }
}

static void a_change_is_refused(const char *text, size_t bytes)
{
    struct hk_seed_fault fault = {0};
    struct hk_seed s;
    char *changed = malloc(bytes);

    HK_ASSERT(changed);
    memcpy(changed, text, bytes);
    changed[bytes / 2] ^= 1;
    HK_ASSERT(hk_seed_parse(changed, bytes, false, &s, &fault) < 0 && fault.line > 0);
    HK_ASSERT(hk_seed_parse(text, bytes - 1, false, &s, &fault) < 0);
    free(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hk_seed_fault fault = {0};
    struct hk_seed s, untouched;
    bool partial;
    char *text;
    int rc;

    if (size < 2)
        return 0;
    memset(&s, 0x5a, sizeof(s));
    memset(&untouched, 0x5a, sizeof(untouched));
    partial = data[0] & 1;
    text = malloc(size - 1);
    HK_ASSERT(text);
    memcpy(text, data + 1, size - 1);
    rc = hk_seed_parse(text, size - 1, partial, &s, &fault);
    if (rc) {
        HK_ASSERT(memcmp(&s, &untouched, sizeof(s)) == 0);
        HK_ASSERT(rc != -EINVAL || (fault.line > 0 && *fault.text));
    } else {
        lies_in_its_volume(&s);
        prints_the_same(&s, text, size - 1, partial);
        if (!partial)
            a_change_is_refused(text, size - 1);
        hk_seed_free(&s);
    }
    free(text);
    return 0;
}
