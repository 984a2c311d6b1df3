/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Superblocks. Input: mode byte; mode 0: the slot itself (what is missing is zero); mode 1 and 2: a
 * list of patches {offset u16, byte} on a sound primary or standby superblock. Bit 2: the hash is
 * made good. Oracle: what decodes encodes to the same slot; what does not leaves the output
 * untouched; the choice between it and a sound sibling never picks what does not decode.
 */
#include "fuzz.h"

#include "proto/hash.h"
#include "proto/super.h"
#include "tests/unit/proto_samples.h"

#include <errno.h>
#include <string.h>

static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(8)));
static uint8_t again[HK_SUPER_BYTES] __attribute__((aligned(8)));
static uint8_t sibling[HK_SUPER_BYTES] __attribute__((aligned(8)));
static struct hk_super super, untouched, picked;

static void load(uint8_t mode, const uint8_t *data, size_t size)
{
    uint64_t hash;

    memset(slot, 0, sizeof(slot));
    if ((mode & 3) == 0) {
        if (size > 0)
            memcpy(slot, data, hk_min_u64(size, sizeof(slot)));
    } else {
        if ((mode & 3) == 1)
            sample_super_primary(&super);
        else
            sample_super_standby(&super);
        hk_super_encode(&super, slot);
        for (size_t i = 0; i + 3 <= size; i += 3)
            slot[(data[i] | data[i + 1] << 8) % HK_SUPER_BYTES] = data[i + 2];
    }
    if (mode & 4) {
        hash = hk_xxh64(slot, HK_SUPER_BYTES - 8, 0);
        memcpy(slot + HK_SUPER_BYTES - 8, &hash, 8);
    }
}

static void check_pick(enum hk_super_fault fault)
{
    enum hk_super_fault verdict[2];
    struct hk_super s;
    int err;

    sample_super_primary(&s); /* sequence 6: the even slot */
    hk_super_encode(&s, sibling);
    err = hk_super_pick(sibling, slot, &picked, verdict);
    HK_ASSERT(err == 0 && verdict[0] == HK_SUPER_OK);
    if (fault != HK_SUPER_OK || !(super.sequence & 1)) {
        HK_ASSERT(verdict[1] != HK_SUPER_OK && picked.sequence == 6);
    } else {
        HK_ASSERT(verdict[1] == HK_SUPER_OK);
        HK_ASSERT(picked.sequence == hk_max_u64(6, super.sequence));
    }
    memset(sibling, 0, sizeof(sibling));
    err = hk_super_pick(sibling, slot, &picked, verdict);
    HK_ASSERT(err == 0 || err == -ENODATA || err == -EUCLEAN);
    HK_ASSERT((err == 0) == (fault == HK_SUPER_OK && (super.sequence & 1)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum hk_super_fault fault;

    if (size < 1)
        return 0;
    load(data[0], data + 1, size - 1);
    memset(&super, 0x5a, sizeof(super));
    untouched = super;
    fault = hk_super_decode(slot, &super);
    HK_ASSERT(hk_super_fault_text(fault)[0]);
    if (fault != HK_SUPER_OK) {
        HK_ASSERT(memcmp(&super, &untouched, sizeof(super)) == 0);
    } else {
        HK_ASSERT(hk_history_check(&super.history) == 0);
        HK_ASSERT(super.volume_count <= HK_VOLUMES_MAX && super.interval_count <= HK_INTERVALS_MAX);
        memset(again, 0xff, sizeof(again));
        hk_super_encode(&super, again);
        HK_ASSERT(memcmp(again, slot, sizeof(slot)) == 0);
    }
    check_pick(fault);
    return 0;
}
