/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Going behind and the way back: a new epoch, gap, resync-begin, resync-end. */
#include "driver-glue/capture/internal.h"

#include <errno.h>

int hk_capture_offer_epoch(struct hk_capture *c, const struct hk_uuid *id)
{
    if (hk_uuid_is_nil(id) || hk_history_find(&c->want.history, id))
        return -EINVAL;
    if (!hk_uuid_is_nil(&c->next_epoch))
        return -EEXIST;
    c->next_epoch = *id;
    return 0;
}

bool hk_capture_wants_epoch(const struct hk_capture *c)
{
    return hk_uuid_is_nil(&c->next_epoch);
}

int hk_capture_return(struct hk_capture *c, uint64_t lease, struct hk_lsn parent_end,
                      const struct hk_now *now)
{
    (void)parent_end;
    (void)now;
    return !c->attached || lease != c->lease ? -ESTALE : -EAGAIN;
}

int hk_capture_stale_next(const struct hk_capture *c, uint16_t volume, uint64_t offset,
                          struct hk_capture_stale *ret)
{
    (void)c;
    (void)volume;
    (void)offset;
    (void)ret;
    return -EAGAIN;
}

int hk_capture_heal(struct hk_capture *c, uint64_t lease, uint16_t volume, uint64_t offset,
                    uint64_t event, struct hk_lsn end, const struct hk_now *now)
{
    (void)volume;
    (void)offset;
    (void)event;
    (void)end;
    (void)now;
    return !c->attached || lease != c->lease ? -ESTALE : -EAGAIN;
}

bool hk_capture_all_stale(const struct hk_capture *c)
{
    return hk_meta_surely_set(c, HK_SF_FULL_COMPARE);
}

int hk_capture_stale_all(struct hk_capture *c, uint64_t lease, const struct hk_now *now)
{
    if (!c->attached || lease != c->lease)
        return -ESTALE;
    hk_meta_set(c, HK_SF_FULL_COMPARE);
    hk_capture_settle(c, now);
    return 0;
}
