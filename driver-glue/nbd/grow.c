/* SPDX-License-Identifier: Apache-2.0 */
#include "driver-glue/nbd/grow.h"

#include <errno.h>
#include <string.h>

#include "driver-glue/nbd/engine.h"

#define PIECE_BYTES (64ull << 20) /* between two looks at whether the process is to end */

static bool is_over(struct hk_engine *e)
{
    bool over;

    pthread_mutex_lock(&e->lock);
    over = e->grow.end || e->stopping;
    pthread_mutex_unlock(&e->lock);
    return over;
}

/* Nobody reads or writes behind the volume's end, so no range is locked. */
static int zero(struct hk_engine *e, struct hk_origin *o, uint64_t from, uint64_t to)
{
    int rc = hk_origin_grow(o, to);

    for (uint64_t at = from; at < to && !rc; at += PIECE_BYTES) {
        rc = is_over(e) ? -ECANCELED : 0;
        if (!rc)
            rc = hk_origin_zero(o, hk_min_u64(to - at, PIECE_BYTES), at, false, false);
    }
    return rc ? rc : hk_origin_flush(o);
}

static void *grow_main(void *arg)
{
    struct hk_engine *e = arg;
    struct hk_grow_job *j = &e->grow;
    uint64_t from, to;
    uint16_t volume;
    struct hk_now now;
    int rc;

    pthread_setname_np(pthread_self(), "hk-grow");
    pthread_mutex_lock(&e->lock);
    volume = j->volume;
    to = j->bytes;
    from = hk_capture_volume_bytes(e->capture, volume);
    pthread_mutex_unlock(&e->lock);
    rc = zero(e, &e->origin[volume], from, to);
    hk_engine_now(&now);
    pthread_mutex_lock(&e->lock);
    if (!rc)
        rc = hk_capture_resize(e->capture, j->lease, volume, to, &now);
    hk_engine_pump(e, &now);
    j->error = rc;
    j->done = true;
    hk_engine_kick(e);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

int hk_grow_begin(struct hk_engine *e, uint64_t lease, uint16_t volume, uint64_t bytes)
{
    int rc = hk_capture_may_resize(e->capture, lease, volume, bytes);

    if (rc)
        return rc;
    if (e->grow.busy || e->grow.end)
        return -EBUSY;
    if (volume == 0 && hk_engine_metadata_at_end(e))
        return -EOPNOTSUPP; /* they lie where it would grow to */
    if (!hk_origin_holds(&e->origin[volume], bytes))
        return -EINVAL;
    e->grow = (struct hk_grow_job){
        .busy = true, .e = e, .lease = lease, .volume = volume, .bytes = bytes};
    rc = -pthread_create(&e->grow.thread, NULL, grow_main, e);
    e->grow.busy = rc == 0;
    return rc;
}

bool hk_grow_answer(struct hk_engine *e, struct hk_grow_job *ret)
{
    if (!e->grow.busy || !e->grow.done)
        return false;
    /* It has given up the lock for good, or is about to. */
    pthread_detach(e->grow.thread);
    *ret = e->grow;
    e->grow.busy = e->grow.done = false;
    return true;
}

void hk_grow_stop(struct hk_engine *e)
{
    bool busy;

    pthread_mutex_lock(&e->lock);
    e->grow.end = true;
    busy = e->grow.busy;
    pthread_mutex_unlock(&e->lock);
    if (busy)
        pthread_join(e->grow.thread, NULL);
}
