/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/history.h"

#include <errno.h>

/* The oldest entry kept; once others were dropped it may be any but the group's first. */
static bool first_entry_ok(const struct hk_epoch *e, uint32_t dropped)
{
    if (dropped > 0)
        return dropped < UINT32_MAX - HK_HISTORY_EPOCHS_MAX && e->ordinal == dropped + 1 &&
               e->reason >= HK_EPOCH_PROMOTE && e->reason <= HK_EPOCH_GAP_ROLLBACK &&
               !hk_uuid_is_nil(&e->parent) && !hk_uuid_equal(&e->parent, &e->id) &&
               e->parent_end <= e->first_lsn;
    return e->ordinal == 1 && e->reason == HK_EPOCH_CREATE && hk_uuid_is_nil(&e->parent) &&
           e->parent_end == 0;
}

/* SPEC.md §5.2: no LSN of the parent may come again, and nothing is sent beyond its end. */
static bool next_entry_ok(const struct hk_epoch *e, const struct hk_epoch *parent)
{
    if (e->reason < HK_EPOCH_PROMOTE || e->reason > HK_EPOCH_GAP_ROLLBACK)
        return false;
    if (e->parent_end < parent->first_lsn || e->parent_end > e->first_lsn)
        return false;
    return e->ordinal == parent->ordinal + 1 && hk_uuid_equal(&e->parent, &parent->id);
}

static bool is_known(const struct hk_history *h, uint32_t count, const struct hk_uuid *id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (hk_uuid_equal(&h->epoch[i].id, id))
            return true;
    }
    return false;
}

/* Could `e` stand at index i, given the entries before it? */
static bool entry_ok(const struct hk_history *h, uint32_t i, const struct hk_epoch *e)
{
    if (hk_uuid_is_nil(&e->id) || is_known(h, i, &e->id))
        return false;
    if (e->first_lsn == 0 || e->first_lsn % HK_RECORD_ALIGN != 0 ||
        e->parent_end % HK_RECORD_ALIGN != 0)
        return false;
    return i == 0 ? first_entry_ok(e, h->dropped) : next_entry_ok(e, &h->epoch[i - 1]);
}

int hk_history_check(const struct hk_history *h)
{
    if (h->count > HK_HISTORY_EPOCHS_MAX)
        return -E2BIG;
    if (h->dropped != 0 && h->count == 0)
        return -EINVAL;
    for (uint32_t i = 0; i < h->count; i++) {
        if (!entry_ok(h, i, &h->epoch[i]))
            return -EINVAL;
    }
    return 0;
}

int hk_history_append(struct hk_history *h, const struct hk_uuid *id, uint64_t first_lsn,
                      uint64_t parent_end, enum hk_epoch_reason reason, uint64_t time_ns)
{
    const struct hk_epoch *last = hk_history_last(h);
    struct hk_epoch e = {
        .id = *id,
        .first_lsn = first_lsn,
        .parent_end = parent_end,
        .time_ns = time_ns,
        .ordinal = last ? last->ordinal + 1 : 1,
        .reason = (uint32_t)reason,
    };

    HK_ASSERT(h->count <= HK_HISTORY_EPOCHS_MAX);
    HK_ASSERT(hk_history_check(h) == 0);
    if (last)
        e.parent = last->id;
    if (!entry_ok(h, h->count, &e))
        return -EINVAL;
    if (h->count == HK_HISTORY_EPOCHS_MAX) {
        h->count--;
        h->dropped++;
        __builtin_memmove(&h->epoch[0], &h->epoch[1], h->count * sizeof(h->epoch[0]));
    }
    h->epoch[h->count++] = e;
    return 0;
}

const struct hk_epoch *hk_history_at(const struct hk_history *h, uint32_t ordinal)
{
    if (ordinal <= h->dropped || ordinal > hk_history_epochs(h))
        return NULL;
    return &h->epoch[ordinal - h->dropped - 1];
}

const struct hk_epoch *hk_history_last(const struct hk_history *h)
{
    return h->count > 0 ? &h->epoch[h->count - 1] : NULL;
}

const struct hk_epoch *hk_history_find(const struct hk_history *h, const struct hk_uuid *id)
{
    HK_ASSERT(h->count <= HK_HISTORY_EPOCHS_MAX);
    for (uint32_t i = 0; i < h->count; i++) {
        if (hk_uuid_equal(&h->epoch[i].id, id))
            return &h->epoch[i];
    }
    return NULL;
}

/*
 * Whole entries are compared, not only ids: two sides that tell one epoch differently must never be
 * taken for relatives (I12).
 */
static uint32_t common_epochs(const struct hk_history *a, const struct hk_history *b)
{
    uint32_t dropped = a->dropped > b->dropped ? a->dropped : b->dropped;
    const struct hk_history *shorter = a->dropped < b->dropped ? a : b;
    const struct hk_history *longer = shorter == a ? b : a;
    uint32_t ordinal = dropped + 1;

    /* All that the shorter one has was dropped by the longer one, but for its name as a parent. */
    if (dropped > 0 && hk_history_epochs(shorter) == dropped && shorter->count > 0)
        return hk_uuid_equal(&longer->epoch[0].parent, &hk_history_last(shorter)->id) ? dropped : 0;
    while (hk_history_at(a, ordinal) && hk_history_at(b, ordinal) &&
           __builtin_memcmp(hk_history_at(a, ordinal), hk_history_at(b, ordinal),
                            sizeof(a->epoch[0])) == 0)
        ordinal++;
    if (ordinal > dropped + 1)
        return ordinal - 1;
    /* Nothing kept is the same, but both may name one parent. */
    return dropped > 0 && hk_history_at(a, ordinal) && hk_history_at(b, ordinal) &&
                   hk_uuid_equal(&hk_history_at(a, ordinal)->parent,
                                 &hk_history_at(b, ordinal)->parent)
               ? dropped
               : 0;
}

enum hk_kinship hk_history_compare(const struct hk_history *a, const struct hk_history *b,
                                   uint32_t *ret_common)
{
    uint32_t common;

    HK_ASSERT(a->count <= HK_HISTORY_EPOCHS_MAX);
    HK_ASSERT(b->count <= HK_HISTORY_EPOCHS_MAX);
    common = common_epochs(a, b);
    *ret_common = common;
    if (common == hk_history_epochs(a) && common == hk_history_epochs(b))
        return HK_KIN_EQUAL;
    if (common == hk_history_epochs(a))
        return HK_KIN_BEHIND;
    if (common == hk_history_epochs(b))
        return HK_KIN_AHEAD;
    return common > 0 ? HK_KIN_DIVERGED : HK_KIN_STRANGERS;
}

const char *hk_epoch_reason_text(uint32_t reason)
{
    static const char *const text[] = {
        [HK_EPOCH_CREATE] = "create",         [HK_EPOCH_PROMOTE] = "promote",
        [HK_EPOCH_SWITCHOVER] = "switchover", [HK_EPOCH_GAP_BEHIND] = "gap-behind",
        [HK_EPOCH_GAP_CRASH] = "gap-crash",   [HK_EPOCH_GAP_ROLLBACK] = "gap-rollback",
    };

    if (reason >= HK_ARRAY_SIZE(text) || !text[reason])
        return "unknown";
    return text[reason];
}
