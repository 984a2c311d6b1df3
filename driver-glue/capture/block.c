/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Block records: what the origin holds, for a standby that may hold other bytes. A block gets its
 * slot, its payload and its part of the log set aside first, then its range; it is read under the
 * range lock and gets its LSN before that is released. So it stands in the log where its content
 * is right: behind every write that it shows, before every one that it does not.
 *
 * The application goes first: a block takes no room that a write has waited for, never the control
 * records' part, and only few are under way at once. But one that waits is not overtaken for ever.
 */
#include "driver-glue/capture/internal.h"

#include <errno.h>

enum {
    BLOCK_BYTES_MAX = 64 << 10,
    BLOCKS_OUT_MAX = 4, /* with a credit */
    BLOCKS_MAX = 64,    /* waiting */
    BLOCK_PATIENCE_NS = 100000000,
};

int hk_block_check(const struct hk_capture *c, const struct hk_op *op)
{
    uint64_t bytes = c->cfg.volume_bytes[op->volume];

    if (op->flags || !op->buffer || op->length == 0 || op->length > BLOCK_BYTES_MAX)
        return -EINVAL;
    if ((op->offset | op->length) % 512 != 0)
        return -EINVAL;
    return op->offset <= bytes && op->length <= bytes - op->offset ? 0 : -EINVAL;
}

/* A piece may have to begin anew at the ring's start, once for all that are under way. */
static struct hk_credit credit_of(const struct hk_capture *c, const struct hk_op *op)
{
    uint64_t piece = hk_round_up(op->length, HK_PAGE_BYTES);

    return (struct hk_credit){.slots = c->credit.slots + 1,
                              .payload_bytes = c->credit.payload_bytes + piece +
                                               (c->blocks_out ? 0 : BLOCK_BYTES_MAX),
                              .log_bytes = c->credit.log_bytes + hk_record_bytes(op->length)};
}

static void take_credit(struct hk_capture *c, struct hk_op *op)
{
    c->credit = credit_of(c, op);
    c->blocks_out++;
    op->credited = true;
}

static void return_credit(struct hk_capture *c, struct hk_op *op)
{
    uint64_t piece = hk_round_up(op->length, HK_PAGE_BYTES);

    HK_ASSERT(op->credited && c->blocks_out > 0 && c->credit.slots > 0);
    c->blocks_out--;
    c->credit.slots--;
    c->credit.payload_bytes -= piece + (c->blocks_out ? 0 : BLOCK_BYTES_MAX);
    c->credit.log_bytes -= hk_record_bytes(op->length);
    HK_ASSERT(c->blocks_out || (!c->credit.payload_bytes && !c->credit.log_bytes));
    op->credited = false;
}

/* Beside everything that is set aside already, and what a write may not take either. */
static bool has_room(const struct hk_capture *c, const struct hk_op *op)
{
    struct hk_credit credit = credit_of(c, op);
    uint64_t used = c->payload_head - c->payload_tail;

    if (c->head - c->tail + credit.slots + HK_CAPTURE_CONTROL_SLOTS > c->slot_count)
        return false;
    return used + credit.payload_bytes + HK_CAPTURE_CONTROL_BYTES <= c->payload_bytes;
}

static bool below_ceiling(struct hk_capture *c, const struct hk_op *op)
{
    uint64_t bytes = credit_of(c, op).log_bytes;

    if (c->next_lsn + bytes <= c->super.ceiling)
        return true;
    c->ceiling_need = (uint32_t)hk_max_u64(c->ceiling_need, bytes + HK_RECORD_BYTES_MAX);
    hk_meta_plan_ceiling(c);
    return false;
}

/* A write waits for the ring, and came first. */
static bool application_first(const struct hk_capture *c, const struct hk_op *op)
{
    return c->stall == HK_STALL_ROOM && c->waiting.first &&
           c->waiting.first->since_ns <= op->since_ns;
}

bool hk_block_turn(const struct hk_capture *c, const struct hk_op *op)
{
    const struct hk_op *first = c->blocks.first;

    while (first && first->credited)
        first = first->link.next;
    return c->blocks_short && first && op->since_ns > first->since_ns + BLOCK_PATIENCE_NS;
}

bool hk_block_queued(const struct hk_capture *c, const struct hk_op *op)
{
    for (const struct hk_op *b = c->blocks.first; b && b->credited; b = b->link.next) {
        if (b != op && b->since_ns <= op->since_ns && hk_op_overlaps(b, op))
            return true;
    }
    return false;
}

static void leave(struct hk_capture *c, struct hk_op *op, enum hk_op_stage stage)
{
    hk_op_list_remove(&c->blocks, op);
    op->stage = (uint8_t)stage;
    hk_op_list_push(&c->ready, op);
}

static void give_up(struct hk_capture *c, struct hk_op *op, int result)
{
    if (op->credited)
        return_credit(c, op);
    op->result = result;
    leave(c, op, HK_OP_READY_FAIL);
}

/* Credits in the order of arrival, then ranges as they come free. */
void hk_block_step(struct hk_capture *c)
{
    struct hk_op *op, *next;

    c->blocks_short = false;
    for (op = c->blocks.first; op; op = next) {
        next = op->link.next;
        if (c->closed || c->stopping) {
            give_up(c, op, -ESHUTDOWN);
            continue;
        }
        if (!op->credited) {
            if (c->blocks_out >= BLOCKS_OUT_MAX || application_first(c, op))
                break;
            c->blocks_short = !has_room(c, op);
            if (c->blocks_short || !below_ceiling(c, op))
                break;
            take_credit(c, op);
        }
        if (hk_range_busy(c, op))
            continue;
        hk_range_lock(c, op);
        leave(c, op, HK_OP_READY_READ);
    }
}

enum hk_step hk_block_begin(struct hk_capture *c, struct hk_op *op, const struct hk_now *now)
{
    op->credited = false;
    op->stage = HK_OP_IDLE;
    if (c->closed || !c->resync_at)
        op->result = -ESHUTDOWN;
    else if (c->blocks.count >= BLOCKS_MAX)
        op->result = -EAGAIN;
    if (op->result)
        return HK_FAIL;
    op->stage = HK_OP_BLOCK;
    hk_op_list_push(&c->blocks, op);
    hk_capture_settle(c, now);
    if (op->stage != HK_OP_READY_READ)
        return HK_WAIT;
    hk_op_list_remove(&c->ready, op);
    op->stage = HK_OP_READING;
    return HK_READ;
}

/* The log itself says what could not be read: a resync ends, and nothing is hidden. */
static void put_bad_range(struct hk_capture *c, struct hk_op *op, const struct hk_now *now)
{
    struct hk_reserve r = {
        .type = HK_REC_BAD_RANGE, .volume = op->volume, .offset = op->offset, .length = op->length};
    struct hk_reserved at;

    hk_capture_reserve(c, &r, now->real_ns, &at);
    hk_capture_publish_slot(c, at.slot, at.lsn, NULL);
    hk_capture_mark_done(c, at.slot);
    hk_capture_advance_published(c);
    c->controls++;
    c->bad_ranges++;
    c->resync_bad = true;
    op->lsn = HK_LSN(at.lsn);
    op->end = HK_LSN(at.end);
    hk_meta_set(c, HK_SF_ORIGIN_FAILED | HK_SF_UNREADABLE);
}

static enum hk_step end_unread(struct hk_capture *c, struct hk_op *op, int result,
                               const struct hk_now *now)
{
    bool said = !c->closed;

    if (said)
        put_bad_range(c, op, now);
    hk_range_unlock(c, op);
    op->stage = HK_OP_IDLE;
    op->result = said ? result : -ESHUTDOWN;
    hk_capture_settle(c, now);
    return said ? HK_DONE : HK_FAIL;
}

/* model: resync.pml, BLOCK_HEALED */
enum hk_step hk_capture_read_done(struct hk_capture *c, struct hk_op *op, int result,
                                  const struct hk_now *now)
{
    struct hk_reserve r = {.type = HK_REC_BLOCK,
                           .volume = op->volume,
                           .offset = op->offset,
                           .length = op->length,
                           .payload_len = op->length};
    struct hk_reserved at;

    HK_ASSERT(op->stage == HK_OP_READING && op->credited);
    HK_ASSERT(result <= 0);
    return_credit(c, op);
    if (result < 0 || c->closed)
        return end_unread(c, op, result, now);
    hk_policy_note_record(c, now);
    hk_capture_reserve(c, &r, now->real_ns, &at);
    op->captured = true;
    op->lsn = HK_LSN(at.lsn);
    op->end = HK_LSN(at.end);
    op->slot = at.slot;
    op->payload = at.payload;
    op->stage = HK_OP_COPYING;
    hk_meta_plan_ceiling(c);
    return HK_COPY;
}

enum hk_step hk_block_copied(struct hk_capture *c, struct hk_op *op)
{
    hk_capture_mark_done(c, op->slot);
    hk_range_unlock(c, op);
    hk_capture_advance_published(c);
    op->stage = HK_OP_IDLE;
    op->result = 0;
    c->rescan = true;
    return HK_DONE;
}

void hk_block_cancel(struct hk_capture *c, struct hk_op *op)
{
    if (op->credited)
        return_credit(c, op);
    hk_op_list_remove(&c->blocks, op);
}

void hk_block_drop(struct hk_capture *c)
{
    while (c->blocks.first)
        give_up(c, c->blocks.first, -ESTALE);
}
