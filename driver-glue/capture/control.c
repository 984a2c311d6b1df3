/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Records that carry no user data. gap and mode are the core's own: they open the log of this life
 * before any write, and lead back from degraded. Marks come from the replicator, few at a time.
 */
#include "driver-glue/capture/dirty.h"
#include "driver-glue/capture/internal.h"
#include "proto/hash.h"

#include <errno.h>

static bool fits(const struct hk_capture *c, uint32_t bytes)
{
    return c->next_lsn + hk_record_bytes(bytes) + c->credit.log_bytes <= c->super.ceiling &&
           hk_capture_room(c, bytes, true);
}

/* Reserved, filled, published and done in one go: nobody ever waits for a control record. */
static void put(struct hk_capture *c, uint8_t type, const void *payload, uint32_t bytes,
                const struct hk_now *now, struct hk_reserved *ret)
{
    struct hk_reserve r = {.type = type, .payload_len = bytes};
    bool was_idle = hk_policy_watermark(c) >= c->next_lsn;
    bool was_drained = c->released >= c->next_lsn;

    hk_capture_reserve(c, &r, now->real_ns, ret);
    __builtin_memcpy(ret->payload, payload, bytes);
    hk_capture_publish_slot(c, ret->slot, ret->lsn, ret->payload);
    c->controls++;
    hk_capture_mark_done(c, ret->slot);
    hk_capture_advance_published(c);
    if (was_idle)
        c->hold_stall_ns = now->mono_ns;
    if (was_drained)
        c->drain_stall_ns = now->mono_ns;
    hk_meta_plan_ceiling(c);
}

void hk_control_gap_payload(const struct hk_capture *c, uint64_t lsn, struct hk_gap *ret)
{
    const struct hk_epoch *epoch = hk_history_last(&c->super.history);

    *ret = (struct hk_gap){.from_epoch = epoch->parent,
                           .last_durable = epoch->parent_end,
                           .new_start = lsn,
                           .reason = epoch->reason};
}

/* model: contact.pml, REJOIN_PUT */
static bool put_mode(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_mode_change mode = {.mode = c->cfg.mode,
                                  .on_link_loss = c->cfg.on_link_loss,
                                  .contact_timeout_ns = c->cfg.contact_timeout_ns};
    struct hk_reserved r;

    if (!fits(c, sizeof(mode)))
        return false;
    put(c, HK_REC_MODE, &mode, sizeof(mode), now, &r);
    c->mode_end = r.end;
    return true;
}

static void put_sizes(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_resize sizes = {{0}};
    struct hk_reserved r;

    if (!hk_resize_may_say(c) || !fits(c, sizeof(sizes)))
        return;
    for (uint32_t v = 0; v < c->cfg.volume_count; v++)
        sizes.bytes[v] = c->super.volume[v].bytes;
    put(c, HK_REC_RESIZE, &sizes, sizeof(sizes), now, &r);
    hk_resize_said(c);
}

static uint32_t resync_reason(const struct hk_capture *c)
{
    const struct hk_epoch *epoch = hk_history_last(&c->super.history);

    if (c->want.flags & HK_SF_ORIGIN_FAILED)
        return HK_RESYNC_ORIGIN;
    if (epoch->reason >= HK_EPOCH_GAP_BEHIND)
        return HK_RESYNC_GAP;
    return c->want.flags & HK_SF_FULL_COMPARE ? HK_RESYNC_ASKED : HK_RESYNC_ORIGIN;
}

/* Opens and closes a resync, as the regions have it. */
static void resync_records(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_reserved r;

    if (hk_epoch_wants_begin(c) && fits(c, sizeof(struct hk_resync_begin))) {
        struct hk_resync_begin begin = {.pass = c->next_lsn / HK_RECORD_ALIGN,
                                        .stale_bytes = hk_dirty_stale_bytes(c),
                                        .reason = resync_reason(c)};

        put(c, HK_REC_RESYNC_BEGIN, &begin, sizeof(begin), now, &r);
        hk_epoch_begun(c, &r);
    }
    if (hk_epoch_wants_end(c) && fits(c, sizeof(struct hk_resync_end))) {
        struct hk_resync_end end = {.pass = c->resync_pass, .begin_lsn = c->resync_lsn};

        put(c, HK_REC_RESYNC_END, &end, sizeof(end), now, &r);
        hk_epoch_ended(c, &r);
    }
}

void hk_control_step(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_reserved r;
    struct hk_gap gap;

    if (c->closed || c->stopped || c->redo_next < c->redo_end || !hk_meta_started(c))
        return;
    if (c->pending_gap && fits(c, sizeof(gap))) {
        hk_control_gap_payload(c, c->next_lsn, &gap);
        c->prev_bytes = 0;
        put(c, HK_REC_GAP, &gap, sizeof(gap), now, &r);
        c->pending_gap = false;
    }
    if (c->pending_mode && !c->pending_gap && put_mode(c, now))
        c->pending_mode = false;
    if (!c->pending_gap && !c->pending_mode && c->pending_sizes)
        put_sizes(c, now);
    if (!c->pending_gap && !c->pending_mode && !c->pending_sizes)
        resync_records(c, now);
    if (c->pending_rejoin && put_mode(c, now)) {
        c->pending_rejoin = false;
        c->stage = HK_SYNC_REJOIN;
        c->hold_stall_ns = now->mono_ns;
    }
}

int hk_capture_insert(struct hk_capture *c, uint64_t lease, uint8_t type, const void *payload,
                      uint32_t bytes, const struct hk_now *now, struct hk_lsn *ret_lsn,
                      struct hk_lsn *ret_end)
{
    struct hk_record as_record = {.type = type, .payload_len = bytes};
    struct hk_reserved r;

    if (!c->attached || lease != c->lease)
        return -ESTALE;
    if (type != HK_REC_MARK || bytes != sizeof(struct hk_mark))
        return -EINVAL;
    as_record.payload_hash = hk_xxh64(payload, bytes, 0);
    if (hk_record_check_payload(&as_record, payload) != HK_RECORD_OK)
        return -EINVAL;
    if (c->closed || c->barred || c->behind_wanted || c->copy_lost || c->stopping)
        return -ESHUTDOWN;
    if (!hk_policy_gate_open(c) || c->marks >= HK_CAPTURE_MARKS_MAX || !fits(c, bytes))
        return -EAGAIN;
    put(c, type, payload, bytes, now, &r);
    c->marks++;
    *ret_lsn = HK_LSN(r.lsn);
    *ret_end = HK_LSN(r.end);
    hk_capture_settle(c, now);
    return 0;
}
