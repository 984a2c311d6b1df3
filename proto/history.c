/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/history.h"

#include <errno.h>

static bool first_entry_ok(const struct hk_epoch *e)
{
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

int hk_history_check(const struct hk_history *h)
{
    if (h->count > HK_HISTORY_EPOCHS_MAX)
        return -E2BIG;
    if (h->reserved != 0)
        return -EINVAL;
    for (uint32_t i = 0; i < h->count; i++) {
        const struct hk_epoch *e = &h->epoch[i];

        if (hk_uuid_is_nil(&e->id) || is_known(h, i, &e->id))
            return -EINVAL;
        if (e->first_lsn == 0 || e->first_lsn % HK_RECORD_ALIGN != 0 ||
            e->parent_end % HK_RECORD_ALIGN != 0)
            return -EINVAL;
        if (i == 0 ? !first_entry_ok(e) : !next_entry_ok(e, e - 1))
            return -EINVAL;
    }
    return 0;
}

int hk_history_append(struct hk_history *h, const struct hk_uuid *id, uint64_t first_lsn,
                      uint64_t parent_end, enum hk_epoch_reason reason, uint64_t time_ns)
{
    const struct hk_epoch *last = hk_history_last(h);
    struct hk_epoch *e;
    int err;

    HK_ASSERT(h->count <= HK_HISTORY_EPOCHS_MAX);
    if (h->count == HK_HISTORY_EPOCHS_MAX)
        return -ENOSPC;
    e = &h->epoch[h->count];
    *e = (struct hk_epoch){
        .id = *id,
        .first_lsn = first_lsn,
        .parent_end = parent_end,
        .time_ns = time_ns,
        .ordinal = last ? last->ordinal + 1 : 1,
        .reason = (uint32_t)reason,
    };
    if (last)
        e->parent = last->id;
    h->count++;
    err = hk_history_check(h);
    if (err) {
        h->count--;
        *e = (struct hk_epoch){.ordinal = 0};
    }
    return err;
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
enum hk_kinship hk_history_compare(const struct hk_history *a, const struct hk_history *b,
                                   uint32_t *ret_common)
{
    uint32_t common = 0;

    HK_ASSERT(a->count <= HK_HISTORY_EPOCHS_MAX);
    HK_ASSERT(b->count <= HK_HISTORY_EPOCHS_MAX);
    while (common < a->count && common < b->count &&
           __builtin_memcmp(&a->epoch[common], &b->epoch[common], sizeof(a->epoch[0])) == 0)
        common++;
    *ret_common = common;
    if (common == a->count && common == b->count)
        return HK_KIN_EQUAL;
    if (common == a->count)
        return HK_KIN_BEHIND;
    if (common == b->count)
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
