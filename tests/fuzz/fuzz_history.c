/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories, as a peer tells them. Input: how many sound epochs to begin with, then patches {which
 * history, offset u16, byte} on two equal histories; more than 64
 * epochs: the oldest are forgotten. Oracle: an accepted history obeys the rules of
 * SPEC.md §5.2 restated pairwise; kinship is mirrored when the sides are swapped and agrees with a
 * naive comparison; append either keeps a history sound or leaves it alone.
 */
#include "fuzz.h"

#include "proto/history.h"

#include <errno.h>
#include <string.h>

static struct hk_history side[2], before;

/* Always the same line, told to another end each time. */
static void build(struct hk_history *h, uint32_t count)
{
    memset(h, 0, sizeof(*h));
    for (uint32_t i = 0; i < count; i++) {
        struct hk_uuid id = {{(uint8_t)(i + 1), 7}};
        int err = hk_history_append(h, &id, 4096 * (i + 1), i ? 4096 * i + 64 : 0,
                                    i ? HK_EPOCH_PROMOTE + i % 5 : HK_EPOCH_CREATE, i);

        HK_ASSERT(err == 0);
    }
}

static void check_sound(const struct hk_history *h)
{
    for (uint32_t i = 0; i < h->count; i++) {
        const struct hk_epoch *e = &h->epoch[i];

        HK_ASSERT(e->ordinal == h->dropped + i + 1 && !hk_uuid_is_nil(&e->id));
        HK_ASSERT((e->reason == HK_EPOCH_CREATE) == (e->ordinal == 1) && e->reason <= 6);
        HK_ASSERT(hk_history_at(h, e->ordinal) == e);
        HK_ASSERT(e->first_lsn > 0 && (e->first_lsn | e->parent_end) % 64 == 0);
        HK_ASSERT(hk_history_find(h, &e->id) == e);
        for (uint32_t k = 0; k < i; k++) /* LSNs never fall along a line */
            HK_ASSERT(h->epoch[k].first_lsn <= e->parent_end && e->parent_end <= e->first_lsn);
    }
}

static void check_append(struct hk_history *h, const uint8_t *data, size_t size)
{
    struct hk_uuid id = {{0xee}};
    uint64_t first = 0, end = 0;
    int err;

    memcpy(&first, data, hk_min_u64(size, 8));
    memcpy(&end, data + size / 2, hk_min_u64(size - size / 2, 8));
    before = *h;
    err = hk_history_append(h, &id, first, end, size % 8, 5);
    if (err) {
        HK_ASSERT(err == -EINVAL);
        HK_ASSERT(h->count == before.count);
        HK_ASSERT(memcmp(h->epoch, before.epoch, h->count * sizeof(h->epoch[0])) == 0);
    } else {
        bool full = before.count == HK_HISTORY_EPOCHS_MAX;

        HK_ASSERT(hk_history_check(h) == 0 && h->count == before.count + !full);
        HK_ASSERT(h->dropped == before.dropped + full);
        HK_ASSERT(hk_history_last(h)->first_lsn == first);
        check_sound(h);
    }
}

static void check_kinship(const struct hk_history *a, const struct hk_history *b)
{
    static const enum hk_kinship mirror[] = {
        [HK_KIN_EQUAL] = HK_KIN_EQUAL,         [HK_KIN_BEHIND] = HK_KIN_AHEAD,
        [HK_KIN_AHEAD] = HK_KIN_BEHIND,        [HK_KIN_DIVERGED] = HK_KIN_DIVERGED,
        [HK_KIN_STRANGERS] = HK_KIN_STRANGERS,
    };
    uint32_t common, common_back;
    uint32_t ends[2] = {hk_history_epochs(a), hk_history_epochs(b)};
    enum hk_kinship kin = hk_history_compare(a, b, &common);

    HK_ASSERT(hk_history_compare(b, a, &common_back) == mirror[kin] && common == common_back);
    HK_ASSERT(common <= ends[0] && common <= ends[1]);
    /* All that both keep of what is called common is the same. */
    for (uint32_t n = 1; n <= common; n++) {
        const struct hk_epoch *x = hk_history_at(a, n), *y = hk_history_at(b, n);

        HK_ASSERT(!x || !y || memcmp(x, y, sizeof(*x)) == 0);
    }
    HK_ASSERT((kin == HK_KIN_DIVERGED || kin == HK_KIN_STRANGERS) ==
              (common < ends[0] && common < ends[1]));
    HK_ASSERT((kin == HK_KIN_EQUAL) == (common == ends[0] && common == ends[1]));
    HK_ASSERT((kin == HK_KIN_STRANGERS) == (common == 0 && ends[0] > 0 && ends[1] > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool is_sound[2];

    if (size < 2)
        return 0;
    build(&side[0], data[0] % 200);
    build(&side[1], data[1] % 200);
    for (size_t i = 2; i + 4 <= size; i += 4) {
        size_t at = (size_t)(data[i + 1] | data[i + 2] << 8) % sizeof(side[0]);

        ((uint8_t *)&side[data[i] & 1])[at] = data[i + 3];
    }
    for (int i = 0; i < 2; i++) {
        int err = hk_history_check(&side[i]);

        HK_ASSERT(err == 0 || err == -EINVAL || err == -E2BIG);
        HK_ASSERT((err == -E2BIG) == (side[i].count > HK_HISTORY_EPOCHS_MAX));
        is_sound[i] = err == 0;
        if (is_sound[i])
            check_sound(&side[i]);
    }
    if (is_sound[0] && is_sound[1]) {
        check_kinship(&side[0], &side[1]);
        check_append(&side[0], data, size);
    }
    return 0;
}
