/* SPDX-License-Identifier: Apache-2.0 */
#include "driver-glue/nbd/blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver-glue/nbd/engine.h"

static void push(struct hk_block_queue *q, const struct hk_block_job *job)
{
    HK_ASSERT(q->count < HK_BLOCKS_MAX);
    q->job[(q->first + q->count) % HK_BLOCKS_MAX] = *job;
    q->count++;
}

static struct hk_block_job pop(struct hk_block_queue *q)
{
    struct hk_block_job job = q->job[q->first];

    HK_ASSERT(q->count > 0);
    q->first = (q->first + 1) % HK_BLOCKS_MAX;
    q->count--;
    return job;
}

static void *blocks_main(void *arg)
{
    struct hk_blocks *b = arg;
    struct hk_engine *e = b->e;
    struct hk_block_job job;
    uint8_t *buffer;

    pthread_setname_np(pthread_self(), "hk-blocks");
    pthread_mutex_lock(&e->lock);
    buffer = b->buffer + (size_t)b->threads++ * HK_CAP_IPC_BLOCK_BYTES_MAX;
    for (;;) {
        while (!b->asked.count && !b->end)
            pthread_cond_wait(&b->cond, &e->lock);
        if (b->end)
            break;
        job = pop(&b->asked);
        b->running++;
        pthread_mutex_unlock(&e->lock);
        job.error = hk_engine_block(e, job.volume, job.offset, job.bytes, buffer, &job.end);
        pthread_mutex_lock(&e->lock);
        b->running--;
        push(&b->done, &job);
        hk_engine_kick(e);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

int hk_blocks_open(struct hk_blocks *b, struct hk_engine *e)
{
    memset(b, 0, sizeof(*b));
    b->e = e;
    b->buffer = aligned_alloc(HK_PAGE_BYTES, HK_BLOCK_THREADS * HK_CAP_IPC_BLOCK_BYTES_MAX);
    if (!b->buffer)
        return -ENOMEM;
    memset(b->buffer, 0, HK_BLOCK_THREADS * HK_CAP_IPC_BLOCK_BYTES_MAX);
    pthread_cond_init(&b->cond, NULL);
    return 0;
}

int hk_blocks_start(struct hk_blocks *b)
{
    int rc = 0;

    for (unsigned i = 0; i < HK_BLOCK_THREADS && rc == 0; i++)
        rc = -pthread_create(&b->thread[i], NULL, blocks_main, b);
    return rc;
}

void hk_blocks_stop(struct hk_blocks *b)
{
    pthread_mutex_lock(&b->e->lock);
    b->end = true;
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->e->lock);
    for (unsigned i = 0; i < HK_BLOCK_THREADS; i++)
        pthread_join(b->thread[i], NULL);
}

void hk_blocks_free(struct hk_blocks *b)
{
    if (!b->buffer)
        return;
    pthread_cond_destroy(&b->cond);
    free(b->buffer);
    b->buffer = NULL;
}

int hk_blocks_ask(struct hk_blocks *b, const struct hk_block_job *job)
{
    if (job->bytes == 0 || job->bytes > HK_CAP_IPC_BLOCK_BYTES_MAX)
        return -EINVAL;
    if (b->end || b->asked.count + b->running + b->done.count >= HK_BLOCKS_MAX)
        return -EAGAIN;
    push(&b->asked, job);
    pthread_cond_signal(&b->cond);
    return 0;
}

const struct hk_block_job *hk_blocks_answer(const struct hk_blocks *b)
{
    return b->done.count ? &b->done.job[b->done.first] : NULL;
}

void hk_blocks_told(struct hk_blocks *b)
{
    (void)pop(&b->done);
}
