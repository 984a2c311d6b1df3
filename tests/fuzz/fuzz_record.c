/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records. Input: mode byte, then header and payload. Mode bit 0: magic and hashes are renewed, bit
 * 1: LSN and epoch are taken as expected. Oracle: a model of SPEC.md §3.2 and §3.3 written as a
 * table must agree with the parser about the verdict, and no changed byte of an accepted record may
 * be accepted too.
 */
#include "fuzz.h"

#include "proto/hash.h"
#include "proto/record.h"

#include <string.h>

/* payload_len of a type: a fixed size, at most a size, or the same as length. */
enum { FIXED, AT_MOST, AS_LENGTH };
static const struct {
    uint8_t rule;
    bool has_range, any_length;
    uint32_t size;
} model[16] = {
    [1] = {AS_LENGTH, true, false, 0},     [2] = {FIXED, true, false, 0},
    [3] = {FIXED, true, false, 0},         [4] = {FIXED, false, false, 0},
    [5] = {FIXED, false, false, 128},      [6] = {FIXED, false, false, 64},
    [7] = {AT_MOST, false, true, 1 << 20}, [8] = {FIXED, false, false, 64},
    [9] = {AS_LENGTH, true, false, 0},     [10] = {FIXED, true, false, 0},
    [11] = {FIXED, false, false, 64},      [12] = {FIXED, false, false, 64},
    [13] = {AT_MOST, false, false, 4096},  [14] = {AT_MOST, false, false, 4096},
    [15] = {FIXED, false, false, 512},
};

static bool model_lengths(const struct hk_record *r)
{
    uint64_t payload = r->payload_len, most = 1048576, prev = r->prev_bytes;

    if (model[r->type].rule == FIXED && payload != model[r->type].size)
        return false;
    if (model[r->type].rule == AT_MOST && payload > model[r->type].size)
        return false;
    if (model[r->type].rule == AS_LENGTH && payload != r->length)
        return false;
    if (!model[r->type].any_length && (r->length > 0) != model[r->type].has_range)
        return false;
    if (r->type == 15 && r->offset != 0)
        return false;
    if (payload > most || (unsigned __int128)r->offset + r->length >= (unsigned __int128)1 << 64)
        return false;
    return prev % 64 == 0 && prev <= most + 64 && prev <= r->lsn && (r->type != 6 || prev == 0);
}

static enum hk_record_fault model_check(const struct hk_record *r, uint64_t lsn, uint32_t epoch,
                                        uint64_t seed)
{
    if (memcmp(&r->magic, "HKR1", 4) != 0)
        return HK_RECORD_BAD_MAGIC;
    if (hk_xxh64(r, 56, seed) != r->header_hash)
        return HK_RECORD_BAD_HASH;
    if (r->lsn != lsn || lsn == 0 || lsn % 64 || lsn > UINT64_MAX - 1048640)
        return HK_RECORD_BAD_LSN;
    if (r->epoch != epoch || epoch == 0)
        return HK_RECORD_BAD_EPOCH;
    if (r->type == 0 || r->type > 15)
        return HK_RECORD_BAD_TYPE;
    if (r->flags > 1)
        return HK_RECORD_BAD_FLAGS;
    if (!model_lengths(r))
        return HK_RECORD_BAD_LENGTH;
    if (r->volume > 63)
        return HK_RECORD_BAD_VOLUME;
    if (r->payload_len == 0 && r->payload_hash != 0)
        return HK_RECORD_BAD_PAYLOAD;
    return HK_RECORD_OK;
}

static void check_payload(struct hk_record *r, const uint8_t *payload, size_t size, uint64_t seed,
                          bool renew)
{
    static uint8_t copy[HK_PAYLOAD_BYTES_MAX];
    enum hk_record_fault fault;

    /* What the input does not have is zero. */
    memset(copy, 0, r->payload_len);
    if (size > 0)
        memcpy(copy, payload, hk_min_u64(size, r->payload_len));
    if (renew && r->payload_len > 0) {
        r->payload_hash = hk_xxh64(copy, r->payload_len, 0);
        r->header_hash = hk_record_header_hash(r, seed);
    }
    fault = hk_record_check_payload(r, copy);
    HK_ASSERT(fault == HK_RECORD_OK || fault == HK_RECORD_BAD_PAYLOAD ||
              fault == HK_RECORD_BAD_CONTENT);
    HK_ASSERT((fault == HK_RECORD_BAD_PAYLOAD) == !hk_record_payload_ok(r, copy));
    if (fault != HK_RECORD_OK || r->payload_len == 0)
        return;
    if (r->type == HK_REC_MARK)
        HK_ASSERT(hk_mark_name_ok((const char *)copy) && copy[63] == 0);
    copy[r->lsn % r->payload_len] ^= 0x40;
    HK_ASSERT(hk_record_check_payload(r, copy) == HK_RECORD_BAD_PAYLOAD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t seed = 0x0123456789abcdef;
    uint64_t lsn = 4096;
    uint32_t epoch = 1;
    struct hk_record r;
    enum hk_record_fault fault;

    if (size < 1 + sizeof(r))
        return 0;
    memcpy(&r, data + 1, sizeof(r));
    if (data[0] & 1) {
        r.magic = HK_RECORD_MAGIC;
        r.header_hash = hk_record_header_hash(&r, seed);
    }
    if (data[0] & 2) {
        lsn = r.lsn;
        epoch = r.epoch;
    }
    fault = hk_record_check(&r, HK_LSN(lsn), epoch, seed);
    HK_ASSERT(fault == model_check(&r, lsn, epoch, seed));
    HK_ASSERT(hk_record_fault_text(fault)[0] && hk_record_type_text(r.type)[0]);
    if (fault != HK_RECORD_OK)
        return 0;
    HK_ASSERT(hk_record_end(&r).v > r.lsn && hk_record_end(&r).v % 64 == 0);
    HK_ASSERT(hk_record_end(&r).v - r.lsn <= HK_RECORD_BYTES_MAX);
    check_payload(&r, data + 1 + sizeof(r), size - 1 - sizeof(r), seed, data[0] & 1);
    HK_ASSERT(hk_record_check(&r, HK_LSN(lsn), epoch, seed) == HK_RECORD_OK || !(data[0] & 1));
    HK_ASSERT(hk_record_check(&r, HK_LSN(lsn), epoch, seed + 1) != HK_RECORD_OK);
    ((uint8_t *)&r)[data[0] / 4] ^= 1;
    HK_ASSERT(hk_record_check(&r, HK_LSN(lsn), epoch, seed) != HK_RECORD_OK);
    return 0;
}
