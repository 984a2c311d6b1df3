/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Queues of ops, and the ranges in flight: overlapping changes of a volume are serialised (I4). */
#include "driver-glue/capture/internal.h"
#include "proto/bug.h"

void hk_op_list_push(struct hk_op_list *l, struct hk_op *op)
{
    op->link.next = NULL;
    op->link.prev = l->last;
    if (l->last)
        l->last->link.next = op;
    else
        l->first = op;
    l->last = op;
    l->count++;
}

/* Ops complete nearly in LSN order, so the place is found near the end. */
void hk_op_list_push_by_end(struct hk_op_list *l, struct hk_op *op)
{
    struct hk_op *before = l->last;

    while (before && before->end.v > op->end.v)
        before = before->link.prev;
    op->link.prev = before;
    op->link.next = before ? before->link.next : l->first;
    if (op->link.next)
        op->link.next->link.prev = op;
    else
        l->last = op;
    if (before)
        before->link.next = op;
    else
        l->first = op;
    l->count++;
}

void hk_op_list_remove(struct hk_op_list *l, struct hk_op *op)
{
    HK_ASSERT(l->count > 0);
    if (op->link.prev)
        op->link.prev->link.next = op->link.next;
    else
        l->first = op->link.next;
    if (op->link.next)
        op->link.next->link.prev = op->link.prev;
    else
        l->last = op->link.prev;
    op->link.next = op->link.prev = NULL;
    l->count--;
    HK_ASSERT((l->count == 0) == (l->first == NULL));
}

bool hk_op_overlaps(const struct hk_op *a, const struct hk_op *b)
{
    if (a->volume != b->volume || a->length == 0 || b->length == 0)
        return false;
    return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

bool hk_range_busy(const struct hk_capture *c, const struct hk_op *op)
{
    for (const struct hk_op *o = c->range[op->volume]; o; o = o->range.next) {
        if (hk_op_overlaps(o, op))
            return !HK_BUG(overlap);
    }
    return false;
}

bool hk_range_queued(const struct hk_capture *c, const struct hk_op *op)
{
    for (const struct hk_op *o = c->waiting.first; o && o != op; o = o->link.next) {
        if (hk_op_overlaps(o, op))
            return true;
    }
    return hk_block_queued(c, op);
}

void hk_range_lock(struct hk_capture *c, struct hk_op *op)
{
    struct hk_op *first = c->range[op->volume];

    op->range.prev = NULL;
    op->range.next = first;
    if (first)
        first->range.prev = op;
    c->range[op->volume] = op;
    c->in_flight++;
}

void hk_range_unlock(struct hk_capture *c, struct hk_op *op)
{
    HK_ASSERT(c->in_flight > 0);
    if (op->range.prev)
        op->range.prev->range.next = op->range.next;
    else
        c->range[op->volume] = op->range.next;
    if (op->range.next)
        op->range.next->range.prev = op->range.prev;
    op->range.next = op->range.prev = NULL;
    c->in_flight--;
}
