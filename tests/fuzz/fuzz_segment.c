/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment and batch headers, as recovery reads them. Input: mode byte, then the page (what is
 * missing is zero). Mode bit 0: magic, version and hash are made good; bit 1: a batch header.
 * Oracle: sealing an accepted header changes nothing, its lengths are within bounds, its name leads
 * back to it, and a changed byte is noticed.
 */
#include "fuzz.h"

#include "proto/record.h"
#include "proto/segment.h"
#include "tests/fuzz/seal_page.h"

#include <string.h>

static void check_segment(struct hk_segment_header *h, unsigned flip)
{
    struct hk_segment_header again = *h;
    char name[HK_SEGMENT_NAME_BYTES];
    struct hk_uuid id;
    uint32_t ordinal;
    uint64_t lsn;

    if (hk_segment_header_check(h) != HK_SEGMENT_OK)
        return;
    hk_segment_header_seal(&again);
    HK_ASSERT(memcmp(&again, h, sizeof(again)) == 0);
    HK_ASSERT(h->segment_bytes >= 12288 && h->segment_bytes % 4096 == 0);
    hk_segment_name(h->epoch_ordinal, &h->epoch_id, h->first_lsn, name);
    HK_ASSERT(hk_segment_name_parse(name, &ordinal, &id, &lsn) == 0);
    HK_ASSERT(ordinal == h->epoch_ordinal && lsn == h->first_lsn &&
              hk_uuid_equal(&id, &h->epoch_id));
    ((uint8_t *)h)[flip % 4096] ^= 2;
    HK_ASSERT(hk_segment_header_check(h) != HK_SEGMENT_OK);
}

static void check_batch(struct hk_batch_header *h, unsigned flip)
{
    struct hk_batch_header again = *h;
    struct hk_uuid other = h->epoch_id;
    uint64_t pages;

    if (hk_batch_header_check(h, NULL, 0) != HK_SEGMENT_OK)
        return;
    hk_batch_header_seal(&again);
    HK_ASSERT(memcmp(&again, h, sizeof(again)) == 0);
    HK_ASSERT(h->bytes > 0 && h->bytes <= HK_BATCH_BYTES_MAX);
    HK_ASSERT(h->durable <= h->first_lsn);
    pages = hk_batch_page_bytes(h->first_lsn, h->bytes);
    HK_ASSERT(pages % 4096 == 0 && pages >= h->bytes && pages < h->bytes + 2 * 4096);
    HK_ASSERT(hk_batch_header_check(h, &h->epoch_id, h->first_lsn) == HK_SEGMENT_OK);
    HK_ASSERT(hk_batch_header_check(h, NULL, h->first_lsn + 64) == HK_SEGMENT_FOREIGN);
    other.b[flip % 16] ^= 1;
    HK_ASSERT(hk_batch_header_check(h, &other, 0) == HK_SEGMENT_FOREIGN);
    ((uint8_t *)h)[flip % 4096] ^= 2;
    HK_ASSERT(hk_batch_header_check(h, NULL, 0) != HK_SEGMENT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static union {
        uint8_t page[4096];
        struct hk_segment_header segment;
        struct hk_batch_header batch;
    } u;
    unsigned flip = 0;

    if (size < 1)
        return 0;
    memset(&u, 0, sizeof(u));
    memcpy(u.page, data + 1, hk_min_u64(size - 1, sizeof(u.page)));
    for (size_t i = 0; i < size; i++)
        flip = flip * 31 + data[i];
    if (data[0] & 1)
        seal_page(u.page, data[0] & 2 ? HK_BATCH_MAGIC : HK_SEGMENT_MAGIC,
                  data[0] & 2 ? offsetof(struct hk_batch_header, epoch_id)
                              : offsetof(struct hk_segment_header, epoch_id));
    if (data[0] & 2)
        check_batch(&u.batch, flip);
    else
        check_segment(&u.segment, flip);
    return 0;
}
