/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Races: several producers take turns in begin, copy and publish at once, and finish under the
 * lock; one reader, without the lock, follows the published prefix, checks header and payload of
 * every record, and reports, which frees the slots it has just read. Made for the thread sanitizer
 * (suite tsan), and worth something without: a record seen too early or overwritten too soon fails
 * its hash.
 */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver-glue/capture/capture.h"
#include "driver-glue/client/ring_reader.h"

enum { PRODUCERS = 4, WRITES = 3000, SLOTS = 32, PAYLOAD = 2 << 20, VOLUME = 1 << 20 };

struct world {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct hk_capture *c;
    void *ring;
    uint64_t ring_bytes, lease;
    struct hk_super super;
    unsigned running;
    uint64_t seen, completed;
};

struct request {
    struct hk_op op;
    enum hk_step step;
    bool ready;
};

static struct hk_now now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (struct hk_now){.mono_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
                           .real_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec};
}

/* Under the lock. */
static void pump(struct world *w)
{
    struct hk_now t = now();
    struct hk_capture_meta m;
    enum hk_step step;
    struct hk_op *op;

    while (hk_capture_meta(w->c, &m))
        hk_capture_meta_done(w->c, 0, &t);
    while ((op = hk_capture_next(w->c, &step, &t))) {
        struct request *rq = HK_CONTAINER_OF(op, struct request, op);

        rq->step = step;
        rq->ready = true;
    }
    pthread_cond_broadcast(&w->cond);
}

static enum hk_step wait_step(struct world *w, struct request *rq, enum hk_step step)
{
    if (step != HK_WAIT)
        return step;
    while (!rq->ready)
        pthread_cond_wait(&w->cond, &w->lock);
    rq->ready = false;
    return rq->step;
}

static void one_write(struct world *w, uint64_t *seed, uint8_t *origin)
{
    struct request rq = {.op = {.type = HK_REC_WRITE, .volume = 0}};
    struct hk_now t = now();
    enum hk_step step;

    rq.op.length = 512 * (1 + (uint32_t)(unit_random(seed) % 32));
    rq.op.offset = unit_random(seed) % ((VOLUME - rq.op.length) / 512) * 512;
    pthread_mutex_lock(&w->lock);
    step = hk_capture_begin(w->c, &rq.op, &t);
    pump(w);
    step = wait_step(w, &rq, step);
    assert_int_equal(step, HK_COPY);
    pthread_mutex_unlock(&w->lock);
    unit_random_bytes(seed, rq.op.payload, 64);
    memset((uint8_t *)rq.op.payload + 64, (int)(*seed & 0xff), rq.op.length - 64);
    hk_capture_publish(w->c, &rq.op);
    pthread_mutex_lock(&w->lock);
    assert_int_equal(hk_capture_copied(w->c, &rq.op), HK_SUBMIT);
    pthread_mutex_unlock(&w->lock);
    /* Without a lock: overlapping writes in flight would be a race here (I4). */
    memcpy(origin + rq.op.offset, rq.op.payload, rq.op.length);
    t = now();
    pthread_mutex_lock(&w->lock);
    step = hk_capture_written(w->c, &rq.op, 0, &t);
    pump(w);
    step = wait_step(w, &rq, step);
    assert_int_equal(step, HK_DONE);
    w->completed++;
    pthread_mutex_unlock(&w->lock);
}

struct producer {
    struct world *w;
    uint8_t *origin;
    uint64_t seed;
};

static void *produce(void *arg)
{
    struct producer *p = arg;

    for (unsigned i = 0; i < WRITES; i++)
        one_write(p->w, &p->seed, p->origin);
    pthread_mutex_lock(&p->w->lock);
    p->w->running--;
    pthread_mutex_unlock(&p->w->lock);
    return NULL;
}

static bool all_ended(struct world *w)
{
    bool ended;

    pthread_mutex_lock(&w->lock);
    ended = w->running == 0;
    pthread_mutex_unlock(&w->lock);
    return ended;
}

static void *consume(void *arg)
{
    struct world *w = arg;
    struct hk_ring_reader reader;
    struct hk_lsn produced, at = HK_LSN(HK_LSN_FIRST);
    struct hk_record r;
    struct iovec iov[2];

    assert_int_equal(hk_ring_reader_init(&reader, w->ring, w->ring_bytes, &w->super.group_id,
                                         hk_history_last(&w->super.history), 0, HK_LSN_FIRST),
                     0);
    while (!all_ended(w) || hk_ring_reader_poll(&reader, 1, &produced) > 0) {
        assert_true(hk_ring_reader_poll(&reader, UINT32_MAX, &produced) >= 0);
        while (at.v < produced.v) {
            assert_int_equal(hk_ring_reader_header_at(&reader, at, &r), 0);
            if (r.payload_len) {
                assert_int_equal(
                    hk_ring_reader_gather(&reader, HK_LSN(at.v + 64), r.payload_len, iov, 2), 1);
                assert_true(hk_record_payload_ok(&r, iov[0].iov_base));
            }
            at.v += hk_record_bytes(r.payload_len);
            w->seen += r.type == HK_REC_WRITE;
        }
        hk_ring_reader_release(&reader, at);
        struct hk_now t = now();
        pthread_mutex_lock(&w->lock);
        assert_int_equal(hk_capture_report(w->c, w->lease, at, at, at, t.mono_ns, &t), 0);
        pump(w);
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static void setup(struct world *w)
{
    struct hk_super_create create = {.group_name = "g",
                                     .volume_count = 1,
                                     .volume = {{.name = "v", .bytes = VOLUME}},
                                     .assume_equal = true};
    struct hk_capture_cfg cfg = {.mode = HK_MODE_SYNC,
                                 .on_link_loss = HK_LINK_LOSS_BLOCK,
                                 .contact_timeout_ns = 60000000000,
                                 .pace_bound_ns = 60000000000,
                                 .volume_count = 1,
                                 .volume_bytes = {VOLUME}};
    struct hk_now t = now();

    memset(&create.group_id, 1, 16);
    memset(&create.site_id, 2, 16);
    memset(&create.replica_id, 3, 16);
    memset(&create.epoch_id, 4, 16);
    assert_int_equal(hk_super_create(&create, &w->super), 0);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
    w->ring_bytes = hk_ring_total_bytes(SLOTS, PAYLOAD);
    w->ring = aligned_alloc(4096, w->ring_bytes);
    memset(w->ring, 0, w->ring_bytes);
    w->c = aligned_alloc(4096, hk_round_up(hk_capture_bytes(), 4096));
    assert_int_equal(
        hk_ring_format(w->ring, w->ring_bytes, SLOTS, PAYLOAD, &create.group_id, &create.epoch_id),
        0);
    assert_int_equal(hk_capture_init(w->c, &cfg, w->ring, HK_START_NEW_RING, &w->super, &t), 0);
    w->lease = hk_capture_attach(w->c, &t);
    pump(w);
}

static void test_producers_and_reader(void **state)
{
    static struct world w;
    struct producer p[PRODUCERS];
    pthread_t thread[PRODUCERS], reader;
    uint8_t *origin = calloc(1, VOLUME);

    setup(&w);
    w.running = PRODUCERS;
    assert_int_equal(pthread_create(&reader, NULL, consume, &w), 0);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        p[i] = (struct producer){.w = &w, .origin = origin, .seed = i + 1};
        assert_int_equal(pthread_create(&thread[i], NULL, produce, &p[i]), 0);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(thread[i], NULL);
    pthread_join(reader, NULL);
    assert_int_equal(w.completed, PRODUCERS * WRITES);
    assert_int_equal(w.seen, PRODUCERS * WRITES);
    free(origin);
    free(w.ring);
    free(w.c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_producers_and_reader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
