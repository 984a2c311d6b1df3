/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* States of regions: marks, slots, staleness. */
#include "driver-glue/capture/dirty.h"
#include "driver-glue/capture/internal.h"

#include <errno.h>

size_t hk_capture_dirty_bytes(const struct hk_capture_cfg *cfg)
{
    (void)cfg;
    return 0;
}

uint32_t hk_capture_op_bytes_max(const struct hk_capture_cfg *cfg, uint64_t offset)
{
    (void)cfg;
    (void)offset;
    return UINT32_MAX & ~511u;
}

bool hk_capture_wants_flush(struct hk_capture *c, const struct hk_now *now)
{
    return hk_dirty_wants_flush(c, now);
}

bool hk_dirty_on(const struct hk_capture *c)
{
    (void)c;
    return false;
}

int hk_dirty_init(struct hk_capture *c, bool ring_lost, bool doubt)
{
    (void)c;
    (void)ring_lost;
    (void)doubt;
    return 0;
}

enum hk_dirty_answer hk_dirty_ready(struct hk_capture *c, struct hk_op *op)
{
    (void)c;
    (void)op;
    return HK_DIRTY_READY;
}

void hk_dirty_took(struct hk_capture *c, struct hk_op *op)
{
    (void)c;
    (void)op;
}

void hk_dirty_done(struct hk_capture *c, struct hk_op *op, int result)
{
    (void)c;
    (void)op;
    (void)result;
}

void hk_dirty_drop(struct hk_capture *c, struct hk_op *op)
{
    (void)c;
    (void)op;
}

bool hk_dirty_told(const struct hk_capture *c, const struct hk_op *op)
{
    (void)c;
    (void)op;
    return true;
}

bool hk_dirty_wants_flush(struct hk_capture *c, const struct hk_now *now)
{
    (void)c;
    (void)now;
    return false;
}

void hk_dirty_flushed(struct hk_capture *c, int result)
{
    (void)c;
    (void)result;
}

void hk_dirty_step(struct hk_capture *c, const struct hk_now *now)
{
    (void)c;
    (void)now;
}

uint64_t hk_dirty_deadline_ns(const struct hk_capture *c)
{
    (void)c;
    return UINT64_MAX;
}

bool hk_dirty_meta(struct hk_capture *c, struct hk_capture_meta *ret)
{
    (void)c;
    (void)ret;
    return false;
}

void hk_dirty_meta_done(struct hk_capture *c, int result)
{
    (void)c;
    (void)result;
}

void hk_dirty_stale_range(struct hk_capture *c, uint16_t volume, uint64_t offset, uint64_t bytes)
{
    (void)c;
    (void)volume;
    (void)offset;
    (void)bytes;
}

void hk_dirty_stale_hot(struct hk_capture *c)
{
    (void)c;
}

void hk_dirty_stale_all(struct hk_capture *c)
{
    (void)c;
}

uint32_t hk_dirty_stale(const struct hk_capture *c)
{
    (void)c;
    return 0;
}

uint64_t hk_dirty_stale_bytes(const struct hk_capture *c)
{
    (void)c;
    return 0;
}

bool hk_dirty_settled(const struct hk_capture *c)
{
    (void)c;
    return true;
}

bool hk_dirty_quiet(const struct hk_capture *c)
{
    (void)c;
    return true;
}

uint64_t hk_dirty_sequence(const struct hk_capture *c)
{
    (void)c;
    return 0;
}

bool hk_dirty_next(const struct hk_capture *c, uint16_t volume, uint64_t offset,
                   struct hk_stale *ret)
{
    (void)c;
    (void)volume;
    (void)offset;
    (void)ret;
    return false;
}

int hk_dirty_heal(struct hk_capture *c, uint16_t volume, uint64_t offset, uint32_t event,
                  uint64_t end)
{
    (void)c;
    (void)volume;
    (void)offset;
    (void)event;
    (void)end;
    return -EINVAL;
}

void hk_dirty_status(const struct hk_capture *c, struct hk_dirty_status *ret)
{
    (void)c;
    __builtin_memset(ret, 0, sizeof(*ret));
}
