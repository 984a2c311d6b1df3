/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/segment.h"

#include "proto/hash.h"
#include "proto/record.h"

#include <errno.h>

static bool all_zero(const uint8_t *bytes, size_t count)
{
    uint8_t any = 0;

    for (size_t i = 0; i < count; i++)
        any |= bytes[i];
    return any == 0;
}

static bool lsn_ok(uint64_t lsn)
{
    return lsn != 0 && lsn % HK_RECORD_ALIGN == 0;
}

/* What both the writer and the reader demand of a segment header (SPEC.md §7.1). */
static bool segment_fields_ok(const struct hk_segment_header *h)
{
    if (h->epoch_ordinal == 0 || hk_uuid_is_nil(&h->group_id) || hk_uuid_is_nil(&h->epoch_id) ||
        hk_uuid_is_nil(&h->replica_id))
        return false;
    if (h->segment_bytes % HK_PAGE_BYTES != 0 ||
        h->segment_bytes < HK_SEGMENT_HEADER_BYTES + HK_BATCH_HEADER_BYTES + HK_PAGE_BYTES)
        return false;
    if (h->flags & ~(uint64_t)HK_SEGMENT_BEGINS)
        return false;
    return lsn_ok(h->first_lsn) && all_zero(h->reserved, sizeof(h->reserved));
}

static uint64_t segment_hash(const struct hk_segment_header *h)
{
    return hk_xxh64(h, offsetof(struct hk_segment_header, hash), hk_epoch_seed(&h->epoch_id));
}

void hk_segment_header_seal(struct hk_segment_header *h)
{
    HK_ASSERT(segment_fields_ok(h));
    h->magic = HK_SEGMENT_MAGIC;
    h->version = HK_SEGMENT_VERSION;
    h->hash = segment_hash(h);
}

enum hk_segment_fault hk_segment_header_check(const struct hk_segment_header *h)
{
    if (h->magic != HK_SEGMENT_MAGIC)
        return HK_SEGMENT_BAD_MAGIC;
    if (h->version != HK_SEGMENT_VERSION)
        return HK_SEGMENT_BAD_VERSION;
    if (h->hash != segment_hash(h))
        return HK_SEGMENT_BAD_HASH;
    if (!segment_fields_ok(h))
        return HK_SEGMENT_BAD_FIELD;
    return HK_SEGMENT_OK;
}

/* What both the writer and the reader demand of a batch header (SPEC.md §7.2). */
static bool batch_fields_ok(const struct hk_batch_header *h)
{
    if (h->epoch_ordinal == 0 || hk_uuid_is_nil(&h->epoch_id) || !lsn_ok(h->first_lsn))
        return false;
    if (h->bytes == 0 || h->bytes > HK_BATCH_BYTES_MAX || h->bytes % HK_RECORD_ALIGN != 0)
        return false;
    if (h->first_lsn > UINT64_MAX - HK_BATCH_BYTES_MAX - HK_PAGE_BYTES)
        return false;
    if (h->durable > h->first_lsn || h->durable % HK_RECORD_ALIGN != 0)
        return false;
    return all_zero(h->reserved, sizeof(h->reserved));
}

static uint64_t batch_hash(const struct hk_batch_header *h)
{
    return hk_xxh64(h, offsetof(struct hk_batch_header, hash), hk_epoch_seed(&h->epoch_id));
}

void hk_batch_header_seal(struct hk_batch_header *h)
{
    HK_ASSERT(batch_fields_ok(h));
    h->magic = HK_BATCH_MAGIC;
    h->version = HK_SEGMENT_VERSION;
    h->hash = batch_hash(h);
}

enum hk_segment_fault hk_batch_header_check(const struct hk_batch_header *h,
                                            const struct hk_uuid *epoch_id, uint64_t expected_first)
{
    if (h->magic != HK_BATCH_MAGIC)
        return HK_SEGMENT_BAD_MAGIC;
    if (h->version != HK_SEGMENT_VERSION)
        return HK_SEGMENT_BAD_VERSION;
    if (h->hash != batch_hash(h))
        return HK_SEGMENT_BAD_HASH;
    if (!batch_fields_ok(h))
        return HK_SEGMENT_BAD_FIELD;
    if (epoch_id && !hk_uuid_equal(epoch_id, &h->epoch_id))
        return HK_SEGMENT_FOREIGN;
    if (expected_first != 0 && h->first_lsn != expected_first)
        return HK_SEGMENT_FOREIGN;
    return HK_SEGMENT_OK;
}

const char *hk_segment_fault_text(enum hk_segment_fault f)
{
    switch (f) {
    case HK_SEGMENT_OK: return "ok";
    case HK_SEGMENT_BAD_MAGIC: return "no segment or batch magic";
    case HK_SEGMENT_BAD_VERSION: return "unknown segment version";
    case HK_SEGMENT_BAD_HASH: return "header hash does not match";
    case HK_SEGMENT_BAD_FIELD: return "a length or LSN is out of bounds";
    case HK_SEGMENT_FOREIGN: return "of another group, replica, epoch or LSN";
    case HK_SEGMENT_FAULTS: break;
    }
    return "unknown fault";
}

/* Layout of a name: ordinal (10 decimal digits) - epoch id (36) - first LSN (16 hex digits) .seg */
enum {
    NAME_ORDINAL_DIGITS = 10,
    NAME_ID_AT = NAME_ORDINAL_DIGITS + 1,
    NAME_LSN_AT = NAME_ID_AT + HK_UUID_TEXT,
    NAME_LSN_DIGITS = 16,
    NAME_SUFFIX_AT = NAME_LSN_AT + NAME_LSN_DIGITS,
    NAME_LEN = NAME_SUFFIX_AT + 4,
};
HK_STATIC_ASSERT(NAME_LEN < HK_SEGMENT_NAME_BYTES, "a name fits its buffer");

void hk_segment_name(uint32_t ordinal, const struct hk_uuid *epoch_id, uint64_t first_lsn,
                     char ret_name[HK_SEGMENT_NAME_BYTES])
{
    __builtin_memset(ret_name, 0, HK_SEGMENT_NAME_BYTES);
    for (int i = NAME_ORDINAL_DIGITS - 1; i >= 0; i--, ordinal /= 10)
        ret_name[i] = (char)('0' + ordinal % 10);
    HK_ASSERT(ordinal == 0);
    ret_name[NAME_ID_AT - 1] = '-';
    hk_uuid_format(epoch_id, ret_name + NAME_ID_AT);
    ret_name[NAME_LSN_AT - 1] = '-';
    for (int i = NAME_LSN_DIGITS - 1; i >= 0; i--, first_lsn >>= 4)
        ret_name[NAME_LSN_AT + i] = "0123456789abcdef"[first_lsn & 15];
    __builtin_memcpy(ret_name + NAME_SUFFIX_AT, ".seg", 4);
}

/* `digits` characters of base 10 or 16 at `text`; other characters count as what they are not. */
static uint64_t read_digits(const char *text, int digits, uint64_t base)
{
    uint64_t v = 0;

    for (int i = 0; i < digits; i++) {
        char c = text[i];

        v = v * base + (uint64_t)(c >= 'a' ? c - 'a' + 10 : c - '0');
    }
    return v;
}

int hk_segment_name_parse(const char *name, uint32_t *ret_ordinal, struct hk_uuid *ret_epoch_id,
                          uint64_t *ret_first_lsn)
{
    char id_text[HK_UUID_TEXT] = {0};
    char again[HK_SEGMENT_NAME_BYTES];
    struct hk_uuid id;
    uint64_t ordinal, lsn;

    if (__builtin_strlen(name) != NAME_LEN)
        return -EINVAL;
    __builtin_memcpy(id_text, name + NAME_ID_AT, HK_UUID_TEXT - 1);
    if (hk_uuid_parse(id_text, &id) != 0)
        return -EINVAL;
    ordinal = read_digits(name, NAME_ORDINAL_DIGITS, 10);
    lsn = read_digits(name + NAME_LSN_AT, NAME_LSN_DIGITS, 16);
    if (ordinal == 0 || ordinal > UINT32_MAX || hk_uuid_is_nil(&id) || !lsn_ok(lsn))
        return -EINVAL;
    /* There is one spelling of each name: whatever does not come out again is none of ours. */
    hk_segment_name((uint32_t)ordinal, &id, lsn, again);
    if (__builtin_memcmp(name, again, NAME_LEN) != 0)
        return -EINVAL;
    *ret_ordinal = (uint32_t)ordinal;
    *ret_epoch_id = id;
    *ret_first_lsn = lsn;
    return 0;
}
