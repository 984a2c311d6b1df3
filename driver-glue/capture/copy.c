/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The ring is the only copy of what the standby lacks, and memory can go bad. When the standby has
 * refused one record twice the replicator asks for a look; nothing it says is believed, the hashes
 * of publication decide. A record whose copy is damaged can never be sent: the log has a hole. What
 * was released without being durable at the standby is in the replicator's spool; when that can't
 * give it back nobody can: then its word counts, since all it costs is a compare.
 */
#include "driver-glue/capture/dirty.h"
#include "driver-glue/capture/internal.h"

#include <errno.h>

/* The slot of a published record; false: none begins at lsn. */
static bool find(const struct hk_capture *c, uint64_t lsn, uint64_t *ret_slot)
{
    uint64_t lo = c->tail, hi = c->published;

    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;

        if (c->sides[mid & c->slot_mask].lsn < lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_slot = lo;
    return lo < c->published && c->sides[lo & c->slot_mask].lsn == lsn;
}

static bool copy_ok(const struct hk_capture *c, uint64_t index)
{
    const struct hk_record *slot = &c->slots[index & c->slot_mask];
    const struct hk_ring_side *side = &c->sides[index & c->slot_mask];
    struct hk_record r = *slot;

    if (hk_record_check(&r, HK_LSN(side->lsn), c->epoch_ordinal, c->epoch_seed) != HK_RECORD_OK)
        return false;
    return hk_record_payload_ok(&r, c->payload + side->payload_pos % c->payload_bytes);
}

static bool is_spooled(const struct hk_capture *c, uint64_t lsn)
{
    return !c->returning && lsn >= c->durable && lsn < c->released && lsn % HK_RECORD_ALIGN == 0;
}

int hk_capture_check_copy(struct hk_capture *c, uint64_t lease, struct hk_lsn lsn,
                          const struct hk_now *now)
{
    uint64_t slot;

    if (!c->attached || lease != c->lease)
        return -ESTALE;
    hk_capture_advance_published(c);
    if (!is_spooled(c, lsn.v)) {
        if (!find(c, lsn.v, &slot))
            return -ERANGE;
        if (copy_ok(c, slot))
            return 0;
    }
    c->copies_lost += !c->copy_lost;
    c->broken_lsn = c->copy_lost ? hk_min_u64(c->broken_lsn, lsn.v) : lsn.v;
    c->copy_lost = true;
    if (hk_dirty_on(c)) {
        /* The standby gets nothing from here on: what is on its way to it is stale instead. */
        hk_dirty_stale_hot(c);
        hk_dirty_stale_spooled(c, c->broken_lsn);
        hk_epoch_close(c, now);
    } else {
        hk_meta_set(c, HK_SF_FULL_COMPARE);
    }
    hk_capture_settle(c, now);
    return -EUCLEAN;
}
