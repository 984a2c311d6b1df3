/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/frame.h"

#include "proto/hash.h"

#include <errno.h>

/* Frame bytes come from anywhere in a packet, so nothing here may assume alignment. */

enum {
    HK_FRAME_OVERHEAD = HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES,
    HK_ACK_FLAGS_KNOWN = HK_ACK_NOT_PROMOTABLE | HK_ACK_JOURNAL_FULL | HK_ACK_FROZEN,
};

HK_STATIC_ASSERT(sizeof(struct hk_hash128) == HK_FRAME_TAG_BYTES, "cipher 0's tag is XXH3-128");
HK_STATIC_ASSERT(sizeof(struct hk_ack) + HK_ACK_RANGES_MAX * sizeof(struct hk_pn_range) <=
                     HK_FRAME_BODY_MAX,
                 "the largest ack fits one frame");

enum hk_frame_fault hk_frame_check_clear(const void *bytes, size_t len)
{
    if (len < HK_FRAME_OVERHEAD)
        return HK_FRAME_SHORT;
    if (len > HK_FRAME_OVERHEAD + HK_FRAME_BODY_MAX)
        return HK_FRAME_BAD_LENGTH;
    if (((const uint8_t *)bytes)[offsetof(struct hk_frame, version)] != HK_FRAME_VERSION)
        return HK_FRAME_BAD_VERSION;
    return HK_FRAME_OK;
}

/* An ack's body says itself how long it is. */
static bool ack_length_ok(const uint8_t *body, size_t len)
{
    struct hk_ack a;

    if (len < sizeof(a))
        return false;
    __builtin_memcpy(&a, body, sizeof(a));
    return a.range_count <= HK_ACK_RANGES_MAX &&
           len == sizeof(a) + a.range_count * sizeof(struct hk_pn_range);
}

static bool lengths_ok(const struct hk_frame *f, const uint8_t *body)
{
    switch ((enum hk_frame_type)f->type) {
    case HK_FRAME_DATA:
        return f->lsn > 0 && f->body_len > 0 && f->span == f->body_len &&
               f->lsn <= UINT64_MAX - f->span;
    case HK_FRAME_ACK: return f->lsn == 0 && f->span == 0 && ack_length_ok(body, f->body_len);
    case HK_FRAME_PING: return f->lsn == 0 && f->span == 0 && f->body_len == sizeof(struct hk_ping);
    }
    return false;
}

enum hk_frame_fault hk_frame_decode(const void *bytes, size_t len, struct hk_frame *ret_f)
{
    enum hk_frame_fault fault = hk_frame_check_clear(bytes, len);
    struct hk_frame f;

    if (fault != HK_FRAME_OK)
        return fault;
    __builtin_memcpy(&f, bytes, sizeof(f));
    if (f.type < HK_FRAME_DATA || f.type > HK_FRAME_PING)
        return HK_FRAME_BAD_TYPE;
    if (len != (size_t)HK_FRAME_OVERHEAD + f.body_len)
        return HK_FRAME_BAD_LENGTH;
    if (!lengths_ok(&f, (const uint8_t *)bytes + HK_FRAME_HEADER_BYTES))
        return HK_FRAME_BAD_LENGTH;
    if (f.packet_number == 0 || f.path >= HK_PATHS_MAX || f.flags != 0)
        return HK_FRAME_BAD_FIELD;
    *ret_f = f;
    return HK_FRAME_OK;
}

static uint16_t read_body_len(const void *bytes)
{
    uint16_t body_len;

    __builtin_memcpy(&body_len, (const uint8_t *)bytes + offsetof(struct hk_frame, body_len),
                     sizeof(body_len));
    return body_len;
}

void hk_frame_seal_plain(void *bytes, uint16_t body_len)
{
    struct hk_hash128 tag;

    HK_ASSERT(body_len <= HK_FRAME_BODY_MAX);
    HK_ASSERT(read_body_len(bytes) == body_len);
    tag = hk_xxh3_128(bytes, (size_t)HK_FRAME_HEADER_BYTES + body_len);
    __builtin_memcpy((uint8_t *)bytes + HK_FRAME_HEADER_BYTES + body_len, &tag, sizeof(tag));
}

enum hk_frame_fault hk_frame_open_plain(const void *bytes, size_t len)
{
    struct hk_hash128 tag;
    size_t body_len;

    if (len < HK_FRAME_OVERHEAD)
        return HK_FRAME_SHORT;
    body_len = read_body_len(bytes);
    if (body_len > HK_FRAME_BODY_MAX || len != HK_FRAME_OVERHEAD + body_len)
        return HK_FRAME_BAD_LENGTH;
    tag = hk_xxh3_128(bytes, HK_FRAME_HEADER_BYTES + body_len);
    if (__builtin_memcmp((const uint8_t *)bytes + HK_FRAME_HEADER_BYTES + body_len, &tag,
                         sizeof(tag)) != 0)
        return HK_FRAME_BAD_TAG;
    return HK_FRAME_OK;
}

/* What both ends demand of an ack (SPEC.md §4.4). */
static bool ack_ok(const struct hk_ack *a)
{
    if (a->range_count > HK_ACK_RANGES_MAX || (a->flags & ~HK_ACK_FLAGS_KNOWN))
        return false;
    return a->applied <= a->durable && a->durable <= a->acked;
}

static bool ranges_ok(const struct hk_pn_range *r, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        if (r[i].first == 0 || r[i].first > r[i].last)
            return false;
        if (i > 0 && r[i].last >= r[i - 1].first)
            return false;
    }
    return true;
}

int hk_ack_encode(const struct hk_ack *a, const struct hk_pn_range *ranges, void *body, size_t max)
{
    size_t bytes;

    if (!ack_ok(a) || !ranges_ok(ranges, a->range_count))
        return -EINVAL;
    bytes = sizeof(*a) + a->range_count * sizeof(*ranges);
    if (bytes > max)
        return -EINVAL;
    __builtin_memcpy(body, a, sizeof(*a));
    if (a->range_count > 0)
        __builtin_memcpy((uint8_t *)body + sizeof(*a), ranges, bytes - sizeof(*a));
    return (int)bytes;
}

int hk_ack_decode(const void *body, size_t len, struct hk_ack *ret_a,
                  struct hk_pn_range ret_ranges[HK_ACK_RANGES_MAX])
{
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX];
    struct hk_ack a;

    if (!ack_length_ok(body, len))
        return -EINVAL;
    __builtin_memcpy(&a, body, sizeof(a));
    __builtin_memcpy(ranges, (const uint8_t *)body + sizeof(a), len - sizeof(a));
    if (!ack_ok(&a) || !ranges_ok(ranges, a.range_count))
        return -EINVAL;
    *ret_a = a;
    __builtin_memcpy(ret_ranges, ranges, len - sizeof(a));
    return 0;
}

/* LSNs at or above the ceiling may not have been handed out (SPEC.md §6.3). */
static bool ping_ok(const struct hk_ping *p)
{
    return p->produced <= p->ceiling;
}

int hk_ping_encode(const struct hk_ping *p, void *body, size_t max)
{
    if (sizeof(*p) > max || !ping_ok(p))
        return -EINVAL;
    __builtin_memcpy(body, p, sizeof(*p));
    return (int)sizeof(*p);
}

int hk_ping_decode(const void *body, size_t len, struct hk_ping *ret_p)
{
    struct hk_ping p;

    if (len != sizeof(p))
        return -EINVAL;
    __builtin_memcpy(&p, body, sizeof(p));
    if (!ping_ok(&p))
        return -EINVAL;
    *ret_p = p;
    return 0;
}

const char *hk_frame_fault_text(enum hk_frame_fault f)
{
    switch (f) {
    case HK_FRAME_OK: return "ok";
    case HK_FRAME_SHORT: return "shorter than header and tag";
    case HK_FRAME_BAD_VERSION: return "unknown frame version";
    case HK_FRAME_BAD_TYPE: return "unknown frame type";
    case HK_FRAME_BAD_LENGTH: return "lengths do not agree with the bytes received";
    case HK_FRAME_BAD_TAG: return "tag does not match";
    case HK_FRAME_BAD_SESSION: return "frame of another session";
    case HK_FRAME_BAD_FIELD: return "packet number, path or flags out of range";
    case HK_FRAME_FAULTS: break;
    }
    return "unknown fault";
}
