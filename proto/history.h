/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * A group's history: the chain of epochs. SPEC.md §5. A fork is two epochs with the same parent.
 * Entries are kept oldest first, each entry's parent is the entry before it (one line of history).
 * The newest HK_HISTORY_EPOCHS_MAX are kept; `dropped` counts the older ones, so that ordinals, not
 * indices, name an epoch.
 */
#ifndef HK_PROTO_HISTORY_H
#define HK_PROTO_HISTORY_H

#include "proto/limits.h"
#include "proto/lsn.h"

enum hk_epoch_reason {
    HK_EPOCH_CREATE = 1,
    HK_EPOCH_PROMOTE = 2,
    HK_EPOCH_SWITCHOVER = 3,
    HK_EPOCH_GAP_BEHIND = 4,
    HK_EPOCH_GAP_CRASH = 5,
    HK_EPOCH_GAP_ROLLBACK = 6,
};

struct hk_epoch {
    struct hk_uuid id;
    struct hk_uuid parent; /* nil for the first */
    uint64_t first_lsn;
    uint64_t parent_end; /* last LSN of the parent that will ever be sent; 0 for the first */
    uint64_t time_ns;    /* realtime */
    uint32_t ordinal;    /* from 1 */
    uint32_t reason;     /* enum hk_epoch_reason */
};
HK_STATIC_ASSERT(sizeof(struct hk_epoch) == 64, "epoch entry is 64 bytes");

struct hk_history {
    uint32_t count;
    uint32_t dropped; /* older epochs that are not kept any more */
    struct hk_epoch epoch[HK_HISTORY_EPOCHS_MAX];
};

/* 0, -EINVAL (chain broken, ordinals not rising, LSNs falling, bad reason), -E2BIG. */
int hk_history_check(const struct hk_history *h);
/*
 * 0, -EINVAL if the chain would break hk_history_check (h is then unchanged). Fills ordinal and
 * parent from the last entry. parent_end lies in [parent first_lsn, first_lsn]. A full history
 * drops its oldest entry. (Superblocks: hk_super_append_epoch, which knows of version 1.)
 */
int hk_history_append(struct hk_history *h, const struct hk_uuid *id, uint64_t first_lsn,
                      uint64_t parent_end, enum hk_epoch_reason reason, uint64_t time_ns);
const struct hk_epoch *hk_history_last(const struct hk_history *h); /* NULL when empty */
const struct hk_epoch *hk_history_find(const struct hk_history *h, const struct hk_uuid *id);

/* Epochs of the whole line, kept or not: the ordinal of the last; 0 when empty. */
static inline uint32_t hk_history_epochs(const struct hk_history *h)
{
    return h->dropped + h->count;
}
/* The entry with this ordinal; NULL: dropped, or not there yet. */
const struct hk_epoch *hk_history_at(const struct hk_history *h, uint32_t ordinal);
/*
 * Does it still tell where the log goes on from `lsn`? Not if that lies in an epoch that was
 * dropped. Whoever applies or keeps a state there must not take this history over.
 */
static inline bool hk_history_reaches(const struct hk_history *h, uint64_t lsn)
{
    return h->dropped == 0 || lsn >= h->epoch[0].parent_end;
}

enum hk_kinship {
    HK_KIN_EQUAL,     /* same entries */
    HK_KIN_BEHIND,    /* a is a proper prefix of b */
    HK_KIN_AHEAD,     /* b is a proper prefix of a */
    HK_KIN_DIVERGED,  /* common ancestor, then different epochs */
    HK_KIN_STRANGERS, /* no common epoch (and both non-empty) */
};
/*
 * ret_common = ordinal of the last epoch shared. An empty history is a prefix of any. Entries that
 * both kept are compared; where one has dropped all that the other has, the parent of its oldest
 * entry must be the other's last, else they are strangers: nobody can tell any more.
 */
enum hk_kinship hk_history_compare(const struct hk_history *a, const struct hk_history *b,
                                   uint32_t *ret_common);
const char *hk_epoch_reason_text(uint32_t reason);

#endif
