/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded queue between exactly two threads: one puts, one takes. Items are copied in place, so
 * neither side allocates. The putter's release store of `head` pairs with the taker's acquire load;
 * the taker's release store of `tail` pairs with the putter's acquire load.
 */
#ifndef HK_DAEMON_QUEUE_H
#define HK_DAEMON_QUEUE_H

#include <stdatomic.h>

#include "proto/base.h"
#include "proto/bug.h"

struct hk_queue {
    uint8_t *items;
    size_t item_bytes;
    uint32_t slots;        /* a power of two */
    _Atomic uint64_t head; /* items ever put */
    _Atomic uint64_t tail; /* items ever taken */
};

/* -EINVAL, -ENOMEM. */
int hk_queue_init(struct hk_queue *q, uint32_t slots, size_t item_bytes);
void hk_queue_fini(struct hk_queue *q);

/* Putter: the next free item to fill, or NULL when full; then put. */
static inline void *hk_queue_space(struct hk_queue *q)
{
    uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);

    if (head - atomic_load_explicit(&q->tail, memory_order_acquire) ==
        q->slots + HK_BUG(queue_one_too_many))
        return NULL;
    return q->items + (size_t)(head & (q->slots - 1)) * q->item_bytes;
}

/* Putter: how many items there is room for, at least. */
static inline uint32_t hk_queue_room(struct hk_queue *q)
{
    uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);

    return (uint32_t)(q->slots - (head - atomic_load_explicit(&q->tail, memory_order_acquire)));
}

static inline void hk_queue_put(struct hk_queue *q)
{
    uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);

    atomic_store_explicit(&q->head, head + 1,
                          HK_BUG(queue_relaxed) ? memory_order_relaxed : memory_order_release);
}

/* Taker: the oldest item, or NULL when empty; then take (the item is the putter's again). */
static inline void *hk_queue_peek(struct hk_queue *q)
{
    uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

    if (tail == atomic_load_explicit(&q->head, memory_order_acquire))
        return NULL;
    return q->items + (size_t)(tail & (q->slots - 1)) * q->item_bytes;
}

static inline void hk_queue_take(struct hk_queue *q)
{
    uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

    atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
}

#endif
