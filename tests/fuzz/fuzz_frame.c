/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames as they come from the network. Input: mode byte, then the datagram. Mode bit 0: version,
 * body length and tag are made good first. Oracle: an accepted frame has exactly the size it
 * claims, its header comes back byte for byte, it is not accepted one byte shorter or with one byte
 * changed, and outputs of a refused one are untouched.
 */
#include "fuzz.h"

#include "proto/frame.h"

#include <string.h>

enum { OVERHEAD = HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES };

static void make_good(uint8_t *bytes, size_t size)
{
    uint16_t body_len = (uint16_t)(size - OVERHEAD);

    bytes[0] = HK_FRAME_VERSION;
    memcpy(bytes + offsetof(struct hk_frame, body_len), &body_len, sizeof(body_len));
    hk_frame_seal_plain(bytes, body_len);
}

static void check_body(const struct hk_frame *f, const uint8_t *body)
{
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX];
    struct hk_ping p;
    struct hk_ack a;

    switch ((enum hk_frame_type)f->type) {
    case HK_FRAME_DATA:
        HK_ASSERT(f->span == f->body_len && f->lsn > 0 && f->lsn + f->span > f->lsn);
        break;
    case HK_FRAME_ACK:
        HK_ASSERT(f->lsn == 0 && f->span == 0);
        if (hk_ack_decode(body, f->body_len, &a, ranges) == 0)
            HK_ASSERT(f->body_len == 48 + 16 * a.range_count);
        break;
    case HK_FRAME_PING:
        HK_ASSERT(f->lsn == 0 && f->span == 0 && f->body_len == 48);
        if (hk_ping_decode(body, f->body_len, &p) == 0)
            HK_ASSERT(p.produced <= p.ceiling);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[65536 + OVERHEAD];
    struct hk_frame f, untouched;
    enum hk_frame_fault clear, open, decoded;
    size_t len;

    if (size < 1 || size - 1 > sizeof(bytes))
        return 0;
    len = size - 1;
    memcpy(bytes, data + 1, len);
    if ((data[0] & 1) && len >= OVERHEAD && len - OVERHEAD <= HK_FRAME_BODY_MAX)
        make_good(bytes, len);
    memset(&f, 0x5a, sizeof(f));
    untouched = f;
    clear = hk_frame_check_clear(bytes, len);
    open = hk_frame_open_plain(bytes, len);
    decoded = hk_frame_decode(bytes, len, &f);
    HK_ASSERT(clear == HK_FRAME_OK || decoded == clear);
    HK_ASSERT(hk_frame_fault_text(decoded)[0]);
    if (decoded != HK_FRAME_OK) {
        HK_ASSERT(memcmp(&f, &untouched, sizeof(f)) == 0);
    } else {
        HK_ASSERT(memcmp(&f, bytes, sizeof(f)) == 0);
        HK_ASSERT(len == (size_t)OVERHEAD + f.body_len);
        HK_ASSERT(f.packet_number > 0 && f.path < HK_PATHS_MAX && f.flags == 0);
        HK_ASSERT(hk_frame_decode(bytes, len - 1, &f) != HK_FRAME_OK);
        check_body(&f, bytes + HK_FRAME_HEADER_BYTES);
    }
    if (open == HK_FRAME_OK) {
        HK_ASSERT(hk_frame_open_plain(bytes, len - 1) != HK_FRAME_OK);
        bytes[(data[0] >> 1) % len] ^= 4;
        HK_ASSERT(hk_frame_open_plain(bytes, len) != HK_FRAME_OK);
    }
    return 0;
}
