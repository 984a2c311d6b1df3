/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * A volume that grows. What is new lies behind its end, so nobody writes or reads it before it
 * belongs to the volume: it is zeroed on both sides and flushed, outside the log, and is equal.
 * Then, in this order: the size is durable in both superblocks; a resize record says it; writes
 * beyond the old end are taken. A life that ends in between is followed by one that says all sizes
 * again before its first write, and so is an epoch.
 */
#include "driver-glue/capture/internal.h"
#include "proto/bug.h"

#include <errno.h>

static bool differs(const struct hk_capture *c, const struct hk_super *super)
{
    for (uint32_t v = 0; v < c->cfg.volume_count; v++) {
        if (super->volume[v].bytes != c->cfg.volume_bytes[v])
            return true;
    }
    return false;
}

void hk_resize_say_all(struct hk_capture *c)
{
    c->pending_sizes = false;
    for (uint32_t v = 0; v < c->cfg.volume_count && !HK_BUG(size_not_said_again); v++)
        c->pending_sizes = c->pending_sizes || c->super.volume[v].room_bytes;
}

/* Both slots: else one that is damaged takes a size back that was relied on. */
void hk_resize_durable(struct hk_capture *c)
{
    if (!differs(c, &c->super))
        return;
    if (++c->resize_slots < 2)
        c->meta_dirty = true;
    else
        c->pending_sizes = true;
}

bool hk_resize_may_say(const struct hk_capture *c)
{
    return !differs(c, &c->super) || c->resize_slots >= 2;
}

void hk_resize_said(struct hk_capture *c)
{
    c->pending_sizes = false;
    c->resize_slots = 0;
    for (uint16_t v = 0; v < c->cfg.volume_count; v++)
        hk_dirty_grown(c, v, c->super.volume[v].bytes);
}

uint64_t hk_capture_volume_bytes(const struct hk_capture *c, uint16_t volume)
{
    HK_ASSERT(volume < c->cfg.volume_count);
    return c->cfg.volume_bytes[volume];
}

int hk_capture_may_resize(const struct hk_capture *c, uint64_t lease, uint16_t volume,
                          uint64_t bytes)
{
    if (!c->attached || lease != c->lease)
        return -ESTALE;
    if (volume >= c->cfg.volume_count || bytes == 0 || bytes % HK_PAGE_BYTES != 0)
        return -EINVAL;
    if (bytes < c->want.volume[volume].bytes)
        return -EPERM;
    if (bytes > hk_max_u64(c->cfg.volume_room[volume], c->cfg.volume_bytes[volume]))
        return -EFBIG;
    if (bytes == c->want.volume[volume].bytes)
        return -EALREADY;
    if (differs(c, &c->want))
        return -EBUSY;
    if (c->closed || c->passing || c->barred || c->behind_wanted || c->copy_lost || c->stopping ||
        hk_epoch_resync(c) || !hk_meta_started(c))
        return -EAGAIN;
    return 0;
}

int hk_capture_resize(struct hk_capture *c, uint64_t lease, uint16_t volume, uint64_t bytes,
                      const struct hk_now *now)
{
    int rc = hk_capture_may_resize(c, lease, volume, bytes);

    if (rc)
        return rc == -EALREADY ? 0 : rc;
    c->want.volume[volume].bytes = bytes;
    c->meta_dirty = true;
    if (HK_BUG(size_admitted_early))
        hk_dirty_grown(c, volume, bytes);
    hk_capture_settle(c, now);
    return 0;
}
