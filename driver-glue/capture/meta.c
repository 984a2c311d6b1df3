/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The primary's metadata as the core wants it, and what is known to be durable of it. One write is
 * in flight at a time; a write that failed may or may not have reached the disk, so until the next
 * one succeeds nothing is believed that any of them would contradict.
 */
#include "driver-glue/capture/internal.h"
#include "proto/at.h"
#include "proto/bug.h"

#include <errno.h>

enum { META_RETRY_NS = 100000000, META_RETRY_NS_MAX = 1000000000 };

bool hk_meta_surely_set(const struct hk_capture *c, uint32_t flags)
{
    return (c->super.flags & c->issued_and & flags) == flags;
}

bool hk_meta_surely_clear(const struct hk_capture *c, uint32_t flags)
{
    return ((c->super.flags | c->issued_or) & flags) == 0;
}

/*
 * Both slots: a start that was cut off while the first of them was written leaves one that says
 * clean, beside a torn one that nothing relied on, and costs nothing.
 */
bool hk_meta_started(const struct hk_capture *c)
{
    return c->meta_slots >= (HK_BUG(started_once) ? 1 : 2) && hk_meta_surely_clear(c, HK_SF_CLEAN);
}

void hk_meta_set(struct hk_capture *c, uint32_t flags)
{
    if ((c->want.flags & flags) == flags)
        return;
    c->want.flags |= flags;
    c->meta_dirty = true;
}

void hk_meta_clear(struct hk_capture *c, uint32_t flags)
{
    if (!(c->want.flags & flags))
        return;
    c->want.flags &= ~flags;
    c->meta_dirty = true;
}

/* model: sync.pml, CEILING_ISSUED */
void hk_meta_plan_ceiling(struct hk_capture *c)
{
    uint64_t step = c->cfg.ceiling_step_bytes;
    uint64_t margin = hk_max_u64(step / 2, c->ceiling_need + HK_CAPTURE_CONTROL_BYTES);

    if (c->closed || c->stopped || c->want.ceiling - c->next_lsn >= margin)
        return;
    while (c->want.ceiling - c->next_lsn < margin)
        c->want.ceiling += step;
    c->meta_dirty = true;
}

bool hk_meta_dead(const struct hk_capture *c, uint64_t mono_ns)
{
    return c->meta_failed_since_ns &&
           hk_elapsed_ns(mono_ns, c->meta_failed_since_ns) >= c->cfg.pace_bound_ns;
}

/* model: contact.pml, META_ISSUED */
bool hk_capture_meta(struct hk_capture *c, struct hk_capture_meta *ret)
{
    if (c->meta_in_flight || c->meta_backoff)
        return false;
    if (!c->meta_dirty) {
        c->meta_is_dirty = c->meta_in_flight = hk_dirty_meta(c, ret);
        return c->meta_in_flight;
    }
    c->meta_is_dirty = false;
    c->want.durable_known = hk_max_u64(c->want.durable_known, c->durable);
    c->want.sequence = c->super.sequence + 1;
    c->issued = c->want;
    c->issued_or |= c->want.flags;
    c->issued_and &= c->want.flags;
    c->meta_dirty = false;
    c->meta_in_flight = true;
    hk_super_encode(&c->issued, c->meta_slot);
    if (HK_BUG(ceiling_early))
        c->super.ceiling = c->issued.ceiling;
    ret->data = c->meta_slot;
    ret->bytes = HK_SUPER_BYTES;
    ret->offset = (c->issued.sequence & 1) * HK_SUPER_BYTES;
    return true;
}

struct hk_capture_meta_queue hk_capture_meta_queue(const struct hk_capture *c)
{
    struct hk_capture_meta_queue q = {.ops = c->waiting.count + c->ready.count + c->in_flight};

    if (!c->meta_in_flight && !c->meta_backoff)
        q.marks = c->meta_dirty ? UINT32_MAX : hk_dirty_meta_marks(c);
    return q;
}

static void super_durable(struct hk_capture *c)
{
    c->super = c->issued;
    hk_resize_durable(c);
    /* Before anything relies on it. */
    hk_ring_store_relaxed(&c->producer->super_sequence, c->super.sequence);
    HK_AT(meta_known);
    c->issued_or = 0;
    c->issued_and = ~0u;
    if (c->meta_slots < 2 && ++c->meta_slots < 2)
        c->meta_dirty = true;
}

static void back_off(struct hk_capture *c, const struct hk_now *now)
{
    uint64_t wait_ns = (uint64_t)META_RETRY_NS << (c->meta_failures < 4 ? c->meta_failures : 4);

    if (c->meta_failures < 4)
        c->meta_failures++;
    if (!c->meta_failed_since_ns)
        c->meta_failed_since_ns = hk_max_u64(now->mono_ns, 1);
    c->meta_backoff = true;
    c->meta_retry_ns = now->mono_ns + hk_min_u64(wait_ns, META_RETRY_NS_MAX);
}

/* model: sync.pml, CEILING_DURABLE, CLEAN_CLEARED; contact.pml, META_DURABLE */
void hk_capture_meta_done(struct hk_capture *c, int result, const struct hk_now *now)
{
    HK_ASSERT(c->meta_in_flight);
    HK_ASSERT(result <= 0);
    c->meta_in_flight = false;
    c->meta_bad[c->meta_is_dirty] = result < 0;
    c->meta_writes += result == 0;
    /* One of the two kinds that succeeds does not make up for the other. */
    if (!c->meta_bad[0] && !c->meta_bad[1])
        c->meta_failed_since_ns = c->meta_failures = 0;
    if (result < 0)
        back_off(c, now);
    if (c->meta_is_dirty)
        hk_dirty_meta_done(c, result);
    else if (result == 0)
        super_durable(c);
    else
        c->meta_dirty = true; /* the same slot: the other one holds the last good superblock */
    hk_capture_settle(c, now);
}

int hk_capture_bind_peer(struct hk_capture *c, uint64_t lease, const struct hk_uuid *replica_id)
{
    if (!c->attached || lease != c->lease)
        return -ESTALE;
    if (hk_uuid_is_nil(replica_id))
        return -EINVAL;
    if (hk_uuid_equal(&c->want.peer_replica_id, replica_id))
        return 0;
    if (!hk_uuid_is_nil(&c->want.peer_replica_id))
        return -EEXIST;
    c->want.peer_replica_id = *replica_id;
    c->meta_dirty = true;
    return 0;
}
