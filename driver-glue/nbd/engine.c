/* SPDX-License-Identifier: Apache-2.0 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "driver-glue/nbd/engine.h"
#include "driver-glue/nbd/messages.h"
#include "driver-glue/nbd/open.h"
#include "driver-glue/nbd/service.h"
#include "proto/at.h"
#include "proto/bug.h"
#include "proto/dmap.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define SECOND_NS      1000000000ull
#define PACING_SAID_NS (10 * SECOND_NS)

/* A request in the core's hands; lives on the stack of the nbdkit thread that waits for it. */
struct request {
    struct hk_op op;
    pthread_cond_t cond;
    enum hk_step step;
    bool ready;
};

void hk_engine_now(struct hk_now *ret_now)
{
    struct timespec mono, real;

    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &real);
    ret_now->mono_ns = (uint64_t)mono.tv_sec * SECOND_NS + (uint64_t)mono.tv_nsec;
    ret_now->real_ns = (uint64_t)real.tv_sec * SECOND_NS + (uint64_t)real.tv_nsec;
}

static void monotonic_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void hk_engine_kick(const struct hk_engine *e)
{
    const uint64_t one = 1;

    if (write(e->kick_fd, &one, sizeof(one)) < 0)
        return; /* full: it is awake anyway */
}

/* A ring at its limit goes in and out of pacing many times a second: said once in a while. */
static bool worth_saying(struct hk_engine *e, enum hk_group_state state, uint64_t mono_ns)
{
    if (state == HK_STATE_REPLICATING && (!e->printed || e->printed == state))
        return false;
    if (state == HK_STATE_PACING && e->pacing_ns && mono_ns - e->pacing_ns < PACING_SAID_NS)
        return false;
    if (state == HK_STATE_PACING)
        e->pacing_ns = mono_ns;
    return true;
}

/* With a dirty map it is known which regions, without one it may be everything. */
static const char *what_heals(const struct hk_engine *e)
{
    return e->cfg.region_shift ? "the regions concerned are marked and will be resynchronised"
                               : "a full compare is required";
}

static void say_state(struct hk_engine *e, const struct hk_now *now)
{
    struct hk_capture_status s;
    const char *group = e->conf.group_name;
    enum hk_group_state before = e->said;

    e->said = hk_capture_state(e->capture);
    if (e->said == before)
        return;
    if (e->said != HK_STATE_PACING && before != HK_STATE_PACING)
        hk_engine_kick(e); /* the replicator hears of it at once */
    if (!worth_saying(e, e->said, now->mono_ns))
        return;
    hk_capture_status(e->capture, &s);
    switch (s.state) {
    case HK_STATE_PACING:
        nbdkit_error(HK_MSG_PACING " group %s: writes wait for the link or the standby; nothing is "
                                   "lost; see `hikae status`",
                     group);
        break;
    case HK_STATE_BLOCKED:
        nbdkit_error("%s group %s: APPLICATION I/O STOPPED BY POLICY; reads go on; repair link or "
                     "standby",
                     e->conf.on_link_loss == HK_LINK_LOSS_BLOCK ? HK_MSG_BLOCKED : HK_MSG_FULL,
                     group);
        break;
    case HK_STATE_DEGRADED:
        nbdkit_error(HK_MSG_DEGRADED " group %s: writes are acknowledged without the standby since "
                                     "LSN %#llx; repair link or standby",
                     group, (unsigned long long)s.super.degraded_lsn);
        break;
    case HK_STATE_BEHIND:
        nbdkit_error(HK_MSG_BEHIND " group %s: writes are not captured any more; %s; the standby "
                                   "stays consistent at its last position",
                     group, what_heals(e));
        break;
    case HK_STATE_ORIGIN_FAILED:
        nbdkit_error(HK_MSG_ORIGIN_FAILED
                     " group %s: an origin refused an operation; %s; examine the disk",
                     group, what_heals(e));
        break;
    case HK_STATE_REPLICATING:
        nbdkit_error(HK_MSG_REPLICATING " group %s: replicating", group);
        break;
    case HK_STATE_RESYNC:
        nbdkit_error(HK_MSG_RESYNC " group %s: %llu bytes of regions are compared with the standby "
                                   "and sent where they differ; until then it can only take over "
                                   "at its last consistent position",
                     group, (unsigned long long)s.stale_bytes);
        break;
    case HK_STATE_INITIAL:
    case HK_STATE_SPOOLING:
    case HK_STATE_DETACHED: return;
    }
    e->printed = s.state;
}

/* Wakes the replicator if it asked for it. After a publication, by the publisher; lock-free. */
static void wake_reader(const struct hk_engine *e)
{
    const uint64_t one = 1;

    if (hk_ring_hint_take(e->hint) && write(e->event_fd, &one, sizeof(one)) < 0)
        return; /* a counter at its limit is readable as well */
}

/* An id for the next epoch, kept ready: the core has no randomness of its own. */
static void offer_epoch(const struct hk_engine *e)
{
    struct hk_uuid id;

    if (!hk_capture_wants_epoch(e->capture))
        return;
    if (getrandom(id.b, sizeof(id.b), GRND_NONBLOCK) == (ssize_t)sizeof(id.b))
        hk_capture_offer_epoch(e->capture, &id);
}

static void wake_meta(struct hk_engine *e)
{
    struct hk_capture_meta_queue q = hk_capture_meta_queue(e->capture);

    hk_company_seen(&e->company, q.ops);
    if (!e->meta_asleep || q.marks <= e->meta_wanted)
        return;
    e->meta_asleep = false;
    pthread_cond_signal(&e->meta_cond);
}

void hk_engine_pump(struct hk_engine *e, const struct hk_now *now)
{
    enum hk_step step;
    struct hk_op *op;
    uint64_t controls;

    while ((op = hk_capture_next(e->capture, &step, now))) {
        struct request *rq = HK_CONTAINER_OF(op, struct request, op);

        rq->step = step;
        rq->ready = true;
        pthread_cond_signal(&rq->cond);
    }
    wake_meta(e);
    if (!e->flush_pending && hk_capture_wants_flush(e->capture, now)) {
        e->flush_pending = true;
        pthread_cond_broadcast(&e->flush_cond);
    }
    offer_epoch(e);
    controls = hk_capture_controls(e->capture);
    if (controls != e->controls && !HK_BUG(controls_unsaid))
        wake_reader(e);
    e->controls = controls;
    if (!__atomic_load_n(&e->serving, __ATOMIC_RELAXED) && hk_capture_serving(e->capture))
        __atomic_store_n(&e->serving, true, __ATOMIC_RELEASE);
    say_state(e, now);
}

int hk_engine_write_meta(const struct hk_engine *e, const struct hk_capture_meta *m)
{
    const uint8_t *at = m->data;
    size_t left = m->bytes;
    off_t offset = (off_t)(m->offset + (m->offset < HK_DMAP_LOG_AT ? e->slots_at : e->map_shift));

    HK_AT(meta_writing);
    while (left > 0) {
        ssize_t n = pwrite(e->metadata_fd, at, left, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        left -= (size_t)n;
        offset += n;
    }
    HK_AT(meta_written);
    if (fdatasync(e->metadata_fd) < 0)
        return -errno;
    HK_AT(meta_flushed);
    return 0;
}

/* Until more than so many marks wait, or something that does not; or until then. */
static void sleep_for_meta(struct hk_engine *e, uint32_t wanted, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / SECOND_NS),
                             .tv_nsec = (long)(until_ns % SECOND_NS)};

    e->meta_wanted = wanted;
    e->meta_asleep = true;
    while (e->meta_asleep && !e->meta_end) {
        if (until_ns == UINT64_MAX)
            pthread_cond_wait(&e->meta_cond, &e->lock);
        else if (pthread_cond_timedwait(&e->meta_cond, &e->lock, &until) == ETIMEDOUT)
            break;
    }
    e->meta_asleep = false;
}

/* The next write, fetched as late as can be: whoever asked meanwhile is in it. False: the end. */
static bool next_meta(struct hk_engine *e, struct hk_capture_meta *ret, struct hk_now *ret_now)
{
    uint64_t wait_ns = hk_company_wait_ns(&e->company, hk_capture_meta_queue(e->capture).marks);

    hk_engine_now(ret_now);
    if (wait_ns > 0 && !e->meta_end) {
        sleep_for_meta(e, hk_company_wanted(&e->company) - 1, ret_now->mono_ns + wait_ns);
        hk_engine_now(ret_now);
    }
    while (!hk_capture_meta(e->capture, ret)) {
        if (e->meta_end)
            return false;
        sleep_for_meta(e, 0, UINT64_MAX);
        hk_engine_now(ret_now);
    }
    hk_company_begins(&e->company, hk_capture_meta_queue(e->capture).ops);
    return true;
}

static void *meta_main(void *arg)
{
    struct hk_engine *e = arg;
    struct hk_capture_meta m;
    struct hk_now now, began;
    int rc;

    pthread_setname_np(pthread_self(), "hk-meta");
    pthread_mutex_lock(&e->lock);
    while (next_meta(e, &m, &began)) {
        pthread_mutex_unlock(&e->lock);
        rc = hk_engine_write_meta(e, &m);
        if (rc)
            nbdkit_error(HK_MSG_METADATA_WRITE
                         " %s: cannot be written: %s; what needs it waits, then fails; it is tried "
                         "again; examine the disk",
                         e->conf.metadata, strerror(-rc));
        hk_engine_now(&now);
        pthread_mutex_lock(&e->lock);
        e->meta_errors += rc != 0;
        hk_company_ended(&e->company, now.mono_ns - began.mono_ns);
        hk_capture_meta_done(e->capture, rc, &now);
        hk_engine_pump(e, &now);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static int flush_all(struct hk_engine *e)
{
    int error = 0;

    for (uint32_t i = 0; i < e->conf.volume_count; i++) {
        int rc = hk_origin_flush(&e->origin[i]);

        error = rc ? rc : error;
    }
    return error;
}

/* Until a region's last write is stable it can't be cleared, and clients need not ever flush. */
static void *flush_main(void *arg)
{
    struct hk_engine *e = arg;
    struct hk_now now;
    int rc;

    pthread_setname_np(pthread_self(), "hk-flush");
    pthread_mutex_lock(&e->lock);
    for (;;) {
        while (!e->flush_pending && !e->flush_end)
            pthread_cond_wait(&e->flush_cond, &e->lock);
        if (!e->flush_pending)
            break;
        pthread_mutex_unlock(&e->lock);
        rc = flush_all(e);
        hk_engine_now(&now);
        pthread_mutex_lock(&e->lock);
        e->flush_pending = false;
        pthread_cond_broadcast(&e->flush_cond);
        hk_capture_origins_flushed(e->capture, rc, &now);
        hk_engine_pump(e, &now);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* Stands until nbdkit is told to end: only it knows, and only a sleep of its own hears of it. */
static void *quit_main(void *arg)
{
    struct hk_engine *e = arg;
    struct hk_now now;

    pthread_setname_np(pthread_self(), "hk-quit");
    while (nbdkit_nanosleep(3600, 0) == 0)
        continue;
    hk_engine_now(&now);
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    e->stop_ns = now.mono_ns + e->conf.contact_timeout_ns + SECOND_NS;
    pthread_mutex_unlock(&e->lock);
    hk_engine_kick(e);
    return NULL;
}

/* Until the core hands the request back, or the process is to end and has waited long enough. */
static enum hk_step wait_ready(struct hk_engine *e, struct request *rq)
{
    struct timespec until;
    struct hk_now now;

    while (!rq->ready) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&rq->cond, &e->lock, &until);
        if (rq->ready || !e->stopping)
            continue;
        hk_engine_now(&now);
        if (now.mono_ns >= e->stop_ns && hk_capture_cancel(e->capture, &rq->op)) {
            /* Not acknowledged: whatever became of it, the client was not told it is safe. */
            rq->op.result = -ESHUTDOWN;
            hk_engine_pump(e, &now);
            return HK_FAIL;
        }
    }
    rq->ready = false;
    return rq->step;
}

static int origin_io(struct hk_engine *e, const struct hk_op *op, const void *data)
{
    const struct hk_origin *o = &e->origin[op->volume];
    const void *from = op->payload ? op->payload : data;

    return hk_origin_record(o, op->type, from, op->length, op->offset, op->flags & HK_REC_FUA);
}

/* One step of a request that is the caller's to do; called and returns with the lock held. */
static enum hk_step do_step(struct hk_engine *e, struct request *rq, enum hk_step step,
                            const void *data)
{
    struct hk_now now;
    int rc;

    if (step == HK_READ) {
        pthread_mutex_unlock(&e->lock);
        rc = hk_origin_read_medium(&e->origin[rq->op.volume], rq->op.buffer, rq->op.length,
                                   rq->op.offset);
        hk_engine_now(&now);
        pthread_mutex_lock(&e->lock);
        step = hk_capture_read_done(e->capture, &rq->op, rc, &now);
        hk_engine_pump(e, &now);
        return step;
    }
    if (step == HK_COPY) {
        pthread_mutex_unlock(&e->lock);
        HK_AT(copying);
        if (rq->op.payload)
            memcpy(rq->op.payload, data, rq->op.length);
        HK_AT(copied);
        if (HK_BUG(submit_first) && origin_io(e, &rq->op, data) == 0)
            HK_AT(written);
        hk_capture_publish(e->capture, &rq->op);
        wake_reader(e);
        pthread_mutex_lock(&e->lock);
        step = hk_capture_copied(e->capture, &rq->op);
    }
    if (step == HK_DONE) { /* a block: the origin has it */
        hk_engine_now(&now);
        hk_engine_pump(e, &now);
        return step;
    }
    HK_ASSERT(step == HK_SUBMIT);
    pthread_mutex_unlock(&e->lock);
    HK_AT(submitting);
    rc = origin_io(e, &rq->op, data);
    HK_AT(written);
    hk_engine_now(&now);
    pthread_mutex_lock(&e->lock);
    step = hk_capture_written(e->capture, &rq->op, rc, &now);
    hk_engine_pump(e, &now);
    return step;
}

static void run(struct hk_engine *e, struct request *rq, const void *data)
{
    enum hk_step step;
    struct hk_now now;

    monotonic_cond(&rq->cond);
    hk_engine_now(&now);
    pthread_mutex_lock(&e->lock);
    step = hk_capture_begin(e->capture, &rq->op, &now);
    hk_engine_pump(e, &now);
    while (step != HK_DONE && step != HK_FAIL)
        step = step == HK_WAIT ? wait_ready(e, rq) : do_step(e, rq, step, data);
    pthread_mutex_unlock(&e->lock);
    pthread_cond_destroy(&rq->cond);
}

int hk_engine_request(struct hk_engine *e, uint16_t volume, uint8_t type, uint8_t flags,
                      uint64_t offset, uint32_t length, const void *data)
{
    struct request rq = {.op = {.type = type,
                                .flags = flags,
                                .volume = volume,
                                .offset = offset,
                                .length = length,
                                .cookie = e}};

    run(e, &rq, data);
    HK_AT(completing);
    return rq.op.result;
}

uint32_t hk_engine_request_max(const struct hk_engine *e, uint64_t offset)
{
    return hk_capture_op_bytes_max(&e->cfg, offset);
}

int hk_engine_block(struct hk_engine *e, uint16_t volume, uint64_t offset, uint32_t length,
                    void *buffer, uint64_t *ret_end)
{
    struct request rq = {.op = {.type = HK_REC_BLOCK,
                                .volume = volume,
                                .offset = offset,
                                .length = length,
                                .buffer = buffer,
                                .cookie = e}};

    run(e, &rq, buffer);
    *ret_end = rq.op.end.v;
    return rq.op.result;
}

/* Not before redo, and under `block` not before the standby has what an earlier life left. */
static int wait_serving(struct hk_engine *e)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    bool stopping = false;

    while (!__atomic_load_n(&e->serving, __ATOMIC_ACQUIRE) && !stopping) {
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&e->lock);
        stopping = e->stopping;
        pthread_mutex_unlock(&e->lock);
    }
    return stopping ? -ESHUTDOWN : 0;
}

int hk_engine_read(struct hk_engine *e, uint16_t volume, void *data, uint32_t length,
                   uint64_t offset)
{
    if (!__atomic_load_n(&e->serving, __ATOMIC_ACQUIRE)) {
        int rc = wait_serving(e);

        if (rc)
            return rc;
    }
    return hk_origin_read(&e->origin[volume], data, length, offset);
}

uint64_t hk_engine_size(struct hk_engine *e, uint16_t volume)
{
    uint64_t bytes;

    pthread_mutex_lock(&e->lock);
    bytes = hk_capture_volume_bytes(e->capture, volume);
    pthread_mutex_unlock(&e->lock);
    return bytes;
}

uint32_t hk_engine_waiting(struct hk_engine *e)
{
    struct hk_capture_status s;

    pthread_mutex_lock(&e->lock);
    hk_capture_status(e->capture, &s);
    pthread_mutex_unlock(&e->lock);
    return s.waiting + s.held;
}

bool hk_engine_admits(struct hk_engine *e)
{
    struct hk_capture_status s;

    if (!HK_BUG(admits_unlocked))
        pthread_mutex_lock(&e->lock);
    hk_capture_status(e->capture, &s);
    if (!HK_BUG(admits_unlocked))
        pthread_mutex_unlock(&e->lock);
    /* With a map a resync ends it: who comes waits for that. */
    if (s.barred && e->cfg.region_shift)
        return true;
    if (s.barred)
        nbdkit_error(HK_MSG_BARRED " group %s: a full compare is required and on-link-loss = block "
                                   "forbids writing without the standby; no volume is served",
                     e->conf.group_name);
    return !s.barred;
}

int hk_engine_open(const struct hk_nbd_conf *conf, struct hk_engine **ret_engine)
{
    struct hk_engine *e = calloc(1, sizeof(*e));
    struct hk_now now;

    if (!e)
        return -1;
    e->conf = *conf;
    e->metadata_fd = e->ring_fd = e->ring_read_fd = e->event_fd = e->hint_fd = e->kick_fd = -1;
    for (uint32_t i = 0; i < HK_VOLUMES_MAX; i++)
        e->origin[i].fd = e->origin[i].direct = -1;
    pthread_mutex_init(&e->lock, NULL);
    monotonic_cond(&e->meta_cond);
    pthread_cond_init(&e->flush_cond, NULL);
    if (hk_blocks_open(&e->blocks, e) || hk_engine_take_hold(e) ||
        hk_service_open(e, &e->service)) {
        hk_engine_free(e);
        return -1;
    }
    hk_engine_now(&now);
    e->said = HK_STATE_DETACHED;
    e->serving = hk_capture_serving(e->capture);
    *ret_engine = e;
    return 0;
}

int hk_engine_start(struct hk_engine *e)
{
    sigset_t all, before;
    int rc;

    /* Best effort both: without the privileges it works, only not under memory pressure. */
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
        nbdkit_debug("PR_SET_IO_FLUSHER: %m");
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
        nbdkit_debug("mlockall: %m");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&e->meta_thread, NULL, meta_main, e);
    if (!rc)
        rc = pthread_create(&e->flush_thread, NULL, flush_main, e);
    if (!rc)
        rc = pthread_create(&e->quit_thread, NULL, quit_main, e);
    if (!rc)
        rc = -hk_blocks_start(&e->blocks);
    if (!rc)
        rc = -hk_service_start(e->service);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        nbdkit_error(HK_MSG_SERVICE " group %s: threads cannot be started: %s", e->conf.group_name,
                     strerror(rc));
        return -1;
    }
    e->started = true;
    return 0;
}

/* No requests come any more. What the origins still hold in volatile caches would make a lie of
 * "clean" if the power went after it. */
static void flush_origins(struct hk_engine *e)
{
    struct hk_now now;
    int error;

    pthread_mutex_lock(&e->lock);
    while (e->flush_pending)
        pthread_cond_wait(&e->flush_cond, &e->lock);
    pthread_mutex_unlock(&e->lock);
    error = flush_all(e);
    hk_engine_now(&now);
    pthread_mutex_lock(&e->lock);
    hk_capture_origins_flushed(e->capture, error, &now);
    hk_engine_pump(e, &now);
    pthread_mutex_unlock(&e->lock);
}

/* No requests come any more: wait for the standby, as long as there is hope and time. */
static bool drain(struct hk_engine *e)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    bool drained = false;
    struct hk_now now;
    uint64_t end_ns;

    hk_engine_now(&now);
    end_ns = now.mono_ns + e->conf.contact_timeout_ns + SECOND_NS;
    while (!drained && now.mono_ns < end_ns) {
        hk_engine_now(&now);
        pthread_mutex_lock(&e->lock);
        drained = hk_capture_stop(e->capture, &now);
        hk_engine_pump(e, &now);
        pthread_mutex_unlock(&e->lock);
        if (!drained)
            nanosleep(&pause, NULL);
    }
    return drained;
}

/* It ends by itself, unless nbdkit ends without having been told to (its client hung up). */
static void join_quit(struct hk_engine *e)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    if (pthread_timedjoin_np(e->quit_thread, NULL, &until) == 0)
        return;
    pthread_cancel(e->quit_thread); /* asleep in poll, holding nothing */
    pthread_join(e->quit_thread, NULL);
}

void hk_engine_stop(struct hk_engine *e)
{
    struct hk_capture_status s;
    struct hk_now now;

    if (!e->started)
        return;
    /* Who ends without having been told to (its client hung up) does not wait for room either. */
    pthread_mutex_lock(&e->lock);
    hk_engine_now(&now);
    if (!e->stopping)
        e->stop_ns = now.mono_ns;
    e->stopping = true;
    pthread_mutex_unlock(&e->lock);
    hk_blocks_stop(&e->blocks);
    flush_origins(e);
    drain(e);
    pthread_mutex_lock(&e->lock);
    e->flush_end = true; /* after what is pending */
    pthread_cond_broadcast(&e->flush_cond);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->flush_thread, NULL);
    pthread_mutex_lock(&e->lock);
    hk_engine_now(&now);
    hk_engine_pump(e, &now);
    e->meta_end = true; /* after what is pending */
    pthread_cond_signal(&e->meta_cond);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->meta_thread, NULL);
    join_quit(e);
    hk_service_stop(e->service);
    hk_grow_stop(e);
    e->started = false;
    hk_capture_status(e->capture, &s);
    if (s.super.flags & HK_SF_CLEAN)
        nbdkit_error(HK_MSG_STOP_CLEAN " group %s: stopped cleanly at LSN %#llx; the standby has "
                                       "everything",
                     e->conf.group_name, (unsigned long long)s.super.clean_lsn);
    else if (!(s.super.flags & HK_SF_FULL_COMPARE))
        nbdkit_error(
            HK_MSG_STOP_UNCLEAN
            " group %s: stopped while the standby lacks %llu bytes, which stand in the "
            "ring %s only: do not reboot this host before it was started again and drained",
            e->conf.group_name, (unsigned long long)(s.produced.v - s.durable.v), e->conf.ring);
}

void hk_engine_free(struct hk_engine *e)
{
    if (!e)
        return;
    hk_service_free(e->service);
    hk_blocks_free(&e->blocks);
    hk_engine_let_go(e);
    pthread_cond_destroy(&e->flush_cond);
    pthread_cond_destroy(&e->meta_cond);
    pthread_mutex_destroy(&e->lock);
    free(e);
}
