/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/daemon/queue.h"

#include <errno.h>
#include <stdlib.h>

int hk_queue_init(struct hk_queue *q, uint32_t slots, size_t item_bytes)
{
    if (!slots || (slots & (slots - 1)) || !item_bytes)
        return -EINVAL;
    q->items = calloc(slots, item_bytes);
    if (!q->items)
        return -ENOMEM;
    q->item_bytes = item_bytes;
    q->slots = slots;
    atomic_init(&q->head, 0);
    atomic_init(&q->tail, 0);
    return 0;
}

void hk_queue_fini(struct hk_queue *q)
{
    free(q->items);
    q->items = NULL;
}
