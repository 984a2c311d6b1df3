/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/reactor.h"

#include "proto/state.h"
#include "replicator/io/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    ENTRIES_DEFAULT = 1024,
    CQ_FACTOR = 8, /* multishot receives complete many times per entry */
    SPIN_TURNS_DEFAULT = 8,
    AWAKE_NS_DEFAULT = 50 * 1000,
    SLEEP_NS_DEFAULT = 200 * 1000,
    REAP_BATCH = 128,
};

enum watch_state { WATCH_FREE = 0, WATCH_ARMED, WATCH_CANCELLED };

struct watch {
    struct hk_completion completion; /* first: user data of the poll request */
    struct hk_reactor *reactor;
    enum watch_state state;
    int fd;
    bool drain;
    void (*ready)(void *arg);
    void *arg;
};

struct hk_reactor {
    struct io_uring ring;
    struct hk_reactor_cfg cfg;
    struct hk_poller *pollers[HK_REACTOR_POLLERS_MAX];
    uint32_t poller_count;
    struct watch watches[HK_REACTOR_FDS_MAX];
    struct hk_completion ignore; /* for requests whose result nobody needs (cancels) */
    struct hk_now now;
    int wake_fd;
    bool claimed;
    pid_t owner; /* thread that claimed */
    uint16_t buffer_groups;
    uint64_t work_ns;    /* when there last was something to do */
    uint32_t idle_turns; /* in a row */
    uint32_t idle_sleeps;
    struct hk_reactor_stats stats;
    /*
     * The pair that keeps a wake from being lost: the waker stores wake_pending, then reads
     * sleeping; the reactor stores sleeping, then reads wake_pending. Both sequentially consistent,
     * so at least one sees the other.
     */
    atomic_bool wake_pending, sleeping;
    atomic_bool stop;
};

/* ---- the ring ---- */

/* The thread that does this owns the ring from now on (SINGLE_ISSUER). */
static void claim(struct hk_reactor *r)
{
    r->claimed = true;
    r->owner = gettid();
    if (r->ring.flags & IORING_SETUP_R_DISABLED) {
        /* liburing 2.3 declares io_uring_enable_rings and does not export it. */
        long ret =
            syscall(__NR_io_uring_register, r->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

        HK_ASSERT(ret == 0);
    }
}

bool hk_reactor_is_ours(const struct hk_reactor *r)
{
    return !r->claimed || r->owner == gettid();
}

static void submit(struct hk_reactor *r)
{
    if (!r->claimed)
        claim(r);
    if (io_uring_sq_ready(&r->ring) == 0)
        return;
    r->stats.submits++;
    /* What is not taken now (-EBUSY, -EAGAIN) stays queued and goes with the next turn. */
    (void)io_uring_submit_and_get_events(&r->ring);
}

struct io_uring_sqe *hk_reactor_sqe(struct hk_reactor *r, struct hk_completion *c)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

    for (int i = 0; sqe == NULL && i < 1000; i++) {
        submit(r);
        sqe = io_uring_get_sqe(&r->ring);
    }
    HK_ASSERT(sqe != NULL);
    io_uring_sqe_set_data(sqe, c);
    return sqe;
}

struct io_uring *hk_reactor_ring(struct hk_reactor *r)
{
    return &r->ring;
}

static uint32_t reap(struct hk_reactor *r)
{
    struct io_uring_cqe *cqes[REAP_BATCH];
    uint32_t n = io_uring_peek_batch_cqe(&r->ring, cqes, REAP_BATCH);

    for (uint32_t i = 0; i < n; i++) {
        struct hk_completion *c = io_uring_cqe_get_data(cqes[i]);

        HK_ASSERT(c != NULL);
        c->done(c, cqes[i]->res, cqes[i]->flags);
    }
    io_uring_cq_advance(&r->ring, n);
    r->stats.completions += n;
    return n;
}

uint16_t hk_reactor_buffer_group(struct hk_reactor *r)
{
    return r->buffer_groups++;
}

void hk_reactor_settle(struct hk_reactor *r, bool (*settled)(const void *arg), const void *arg)
{
    struct __kernel_timespec ts = {.tv_nsec = 10 * 1000 * 1000};
    struct io_uring_cqe *cqe;

    if (!r->claimed)
        claim(r);
    for (int i = 0; !settled(arg); i++) {
        HK_ASSERT(i < 1000);
        (void)io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &ts, NULL);
        reap(r);
    }
}

static int open_ring(struct hk_reactor *r, struct hk_io_error *err)
{
    static const uint32_t flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
            IORING_SETUP_R_DISABLED,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int ret = -EINVAL;

    for (size_t i = 0; i < HK_ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
        struct io_uring_params p = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
            .cq_entries = r->cfg.entries * CQ_FACTOR,
        };

        ret = io_uring_queue_init_params(r->cfg.entries, &r->ring, &p);
        if (ret == 0 && !(p.features & IORING_FEAT_EXT_ARG)) {
            io_uring_queue_exit(&r->ring);
            ret = -ENOSYS;
        }
    }
    if (ret == -EPERM || ret == -EACCES)
        return hk_io_fail(err, ret,
                          "io_uring is not permitted here: %s; see the sysctl "
                          "kernel.io_uring_disabled (0 allows it)",
                          strerror(-ret));
    if (ret < 0)
        return hk_io_fail(err, ret,
                          "cannot set up io_uring with %u entries: %s; Linux 6.1 or "
                          "newer is needed",
                          r->cfg.entries, strerror(-ret));
    return 0;
}

/* ---- watched descriptors ---- */

static void watch_arm(struct watch *w)
{
    struct io_uring_sqe *sqe = hk_reactor_sqe(w->reactor, &w->completion);

    io_uring_prep_poll_multishot(sqe, w->fd, POLLIN);
}

static void watch_done(struct hk_completion *c, int32_t result, uint32_t cqe_flags)
{
    struct watch *w = HK_CONTAINER_OF(c, struct watch, completion);
    bool more = cqe_flags & IORING_CQE_F_MORE;
    uint64_t count;

    if (w->state == WATCH_CANCELLED) {
        if (!more)
            w->state = WATCH_FREE;
        return;
    }
    HK_ASSERT(w->state == WATCH_ARMED);
    if (w->drain)
        while (read(w->fd, &count, sizeof(count)) < 0 && errno == EINTR)
            ;
    /* Re-armed before the call: `ready` may unwatch. A descriptor that went bad stays silent. */
    if (!more && result >= 0)
        watch_arm(w);
    else if (!more)
        w->state = WATCH_FREE;
    if (w->ready != NULL)
        w->ready(w->arg);
}

void hk_completion_ignore(struct hk_completion *c, int32_t result, uint32_t cqe_flags) {}

int hk_reactor_watch(struct hk_reactor *r, int fd, bool drain, void (*ready)(void *arg), void *arg)
{
    int flags = fcntl(fd, F_GETFL);
    struct watch *w = NULL;

    if (flags < 0)
        return -EBADF;
    for (size_t i = 0; i < HK_ARRAY_SIZE(r->watches) && w == NULL; i++)
        if (r->watches[i].state == WATCH_FREE)
            w = &r->watches[i];
    if (w == NULL)
        return -ENOSPC;
    /* A poll may report readiness that is gone by the time of the read: that must not block. */
    if (drain && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    *w = (struct watch){
        .completion = {watch_done},
        .reactor = r,
        .state = WATCH_ARMED,
        .fd = fd,
        .drain = drain,
        .ready = ready,
        .arg = arg,
    };
    watch_arm(w);
    return 0;
}

void hk_reactor_unwatch(struct hk_reactor *r, int fd)
{
    for (size_t i = 0; i < HK_ARRAY_SIZE(r->watches); i++) {
        struct watch *w = &r->watches[i];
        struct io_uring_sqe *sqe;

        if (w->state != WATCH_ARMED || w->fd != fd)
            continue;
        w->state = WATCH_CANCELLED;
        if (!hk_reactor_is_ours(r))
            continue; /* nobody turns it any more; the poll ends with the ring */
        sqe = hk_reactor_sqe(r, &r->ignore);
        io_uring_prep_poll_remove(sqe, (uint64_t)(uintptr_t)&w->completion);
        /* Submitted at once: the caller may close the descriptor and reuse its number. */
        submit(r);
    }
}

/* ---- life ---- */

int hk_reactor_create(const struct hk_reactor_cfg *cfg, struct hk_reactor **ret_reactor,
                      struct hk_io_error *err)
{
    struct hk_reactor *r = calloc(1, sizeof(*r));
    int ret;

    if (r == NULL)
        return hk_io_fail(err, -ENOMEM, "no memory for the reactor");
    r->cfg = *cfg;
    r->cfg.entries = cfg->entries ? cfg->entries : ENTRIES_DEFAULT;
    r->cfg.spin_turns = cfg->spin_turns ? cfg->spin_turns : SPIN_TURNS_DEFAULT;
    r->cfg.awake_ns = cfg->awake_ns ? cfg->awake_ns : AWAKE_NS_DEFAULT;
    r->cfg.sleep_ns_max = cfg->sleep_ns_max ? cfg->sleep_ns_max : SLEEP_NS_DEFAULT;
    r->ignore.done = hk_completion_ignore;
    hk_clock_now(&r->now);
    ret = open_ring(r, err);
    if (ret < 0)
        goto err_free;
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake_fd < 0) {
        ret = hk_io_fail(err, -errno, "cannot make an eventfd: %s", strerror(errno));
        goto err_ring;
    }
    ret = hk_reactor_watch(r, r->wake_fd, true, NULL, NULL);
    HK_ASSERT(ret == 0);
    *ret_reactor = r;
    return 0;

err_ring:
    io_uring_queue_exit(&r->ring);
err_free:
    free(r);
    return ret;
}

void hk_reactor_free(struct hk_reactor *r)
{
    if (r == NULL)
        return;
    HK_ASSERT(r->poller_count == 0);
    io_uring_queue_exit(&r->ring);
    close(r->wake_fd);
    free(r);
}

int hk_reactor_add(struct hk_reactor *r, struct hk_poller *p)
{
    HK_ASSERT(p->poll != NULL);
    if (r->poller_count == HK_REACTOR_POLLERS_MAX)
        return -ENOSPC;
    r->pollers[r->poller_count++] = p;
    return 0;
}

void hk_reactor_remove(struct hk_reactor *r, struct hk_poller *p)
{
    for (uint32_t i = 0; i < r->poller_count; i++) {
        if (r->pollers[i] != p)
            continue;
        r->poller_count--;
        memmove(&r->pollers[i], &r->pollers[i + 1], (r->poller_count - i) * sizeof(r->pollers[0]));
        return;
    }
}

/* ---- turning ---- */

/* Bound of the next sleep: until the nearest deadline, and short while somebody must be polled. */
static uint64_t sleep_bound_ns(struct hk_reactor *r, uint64_t max_ns)
{
    uint64_t until = UINT64_MAX, bound = max_ns;
    bool must_poll = false;

    for (uint32_t i = 0; i < r->poller_count; i++) {
        const struct hk_poller *p = r->pollers[i];

        must_poll |= p->must_poll;
        if (p->deadline_ns != NULL)
            until = hk_min_u64(until, p->deadline_ns(p->arg));
    }
    if (until <= r->now.mono_ns)
        return 0;
    bound = hk_min_u64(bound, until - r->now.mono_ns);
    if (must_poll) {
        uint64_t step = r->idle_sleeps < 16 ? 20000 : r->idle_sleeps < 64 ? 50000 : 200000;

        bound = hk_min_u64(bound, hk_min_u64(step, r->cfg.sleep_ns_max));
    }
    return bound;
}

/* true: nobody has anything; those asked are armed. Else all are disarmed again. */
static bool arm_pollers(struct hk_reactor *r)
{
    uint32_t i;

    for (i = 0; i < r->poller_count; i++) {
        const struct hk_poller *p = r->pollers[i];

        if (p->before_sleep != NULL && p->before_sleep(p->arg))
            break;
    }
    return i == r->poller_count;
}

static void disarm_pollers(struct hk_reactor *r)
{
    for (uint32_t i = 0; i < r->poller_count; i++)
        if (r->pollers[i]->after_sleep != NULL)
            r->pollers[i]->after_sleep(r->pollers[i]->arg);
}

static void wait_ring(struct hk_reactor *r, uint64_t bound_ns)
{
    struct __kernel_timespec ts = {
        .tv_sec = (int64_t)hk_min_u64(bound_ns / 1000000000u, 3600),
        .tv_nsec = (long long)(bound_ns % 1000000000u),
    };
    struct io_uring_cqe *cqe;
    uint64_t start = hk_clock_mono_ns();

    /* Also submits what is queued. Its errors (-ETIME, -EINTR, -EBUSY) all mean: look again. */
    (void)io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &ts, NULL);
    r->stats.sleeps++;
    r->stats.sleep_ns += hk_clock_mono_ns() - start;
}

static void sleep_until_work(struct hk_reactor *r, uint64_t max_ns)
{
    uint64_t bound;

    atomic_store(&r->sleeping, true); /* pairs with hk_reactor_wake */
    if (atomic_load(&r->wake_pending) || atomic_load(&r->stop))
        goto awake;
    if (arm_pollers(r)) {
        bound = sleep_bound_ns(r, max_ns);
        if (bound > 0) {
            wait_ring(r, bound);
            r->idle_sleeps += r->idle_sleeps < UINT32_MAX;
        } else {
            /* A deadline that is due and yet gave nothing to do must not starve the neighbour. */
            submit(r);
            sched_yield();
        }
    }
    disarm_pollers(r);
awake:
    atomic_store(&r->sleeping, false);
}

static void back_off(struct hk_reactor *r, uint64_t sleep_ns_max)
{
    r->stats.idle_turns++;
    r->idle_turns += r->idle_turns < UINT32_MAX;
    if (r->idle_turns <= r->cfg.spin_turns || sleep_ns_max == 0) {
        submit(r);
    } else if (r->now.mono_ns - r->work_ns < r->cfg.awake_ns) {
        submit(r);
        r->stats.yields++;
        sched_yield();
    } else {
        sleep_until_work(r, sleep_ns_max);
    }
}

uint32_t hk_reactor_turn(struct hk_reactor *r, uint64_t sleep_ns_max)
{
    uint32_t work;

    if (!r->claimed)
        claim(r);
    /* Cleared before the pollers look, so that what a waker left before is seen by them. */
    work = atomic_exchange(&r->wake_pending, false);
    r->stats.wakes += work;
    hk_clock_now(&r->now);
    work += reap(r);
    for (uint32_t i = 0; i < r->poller_count; i++)
        work += r->pollers[i]->poll(r->pollers[i]->arg, &r->now);
    r->stats.turns++;
    if (work == 0) {
        back_off(r, sleep_ns_max);
        return 0;
    }
    r->idle_turns = 0;
    r->idle_sleeps = 0;
    r->work_ns = r->now.mono_ns;
    submit(r);
    r->stats.turn_ns_max = hk_max_u64(r->stats.turn_ns_max, hk_clock_mono_ns() - r->now.mono_ns);
    return work;
}

static int settle_thread(struct hk_reactor *r)
{
    cpu_set_t cpus;

    if (r->cfg.name != NULL)
        (void)pthread_setname_np(pthread_self(), r->cfg.name);
    /* Sleeps of 20 µs must not become 70 µs. */
    (void)prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    if (r->cfg.cpu < 0)
        return 0;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)r->cfg.cpu, &cpus);
    return -pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

int hk_reactor_run(struct hk_reactor *r)
{
    int ret = settle_thread(r);

    if (ret < 0)
        return ret;
    while (!atomic_load_explicit(&r->stop, memory_order_relaxed))
        hk_reactor_turn(r, UINT64_MAX);
    return 0;
}

const struct hk_now *hk_reactor_now(const struct hk_reactor *r)
{
    return &r->now;
}

void hk_reactor_wake(struct hk_reactor *r)
{
    uint64_t one = 1;

    atomic_store(&r->wake_pending, true); /* pairs with sleep_until_work */
    if (!atomic_load(&r->sleeping))
        return;
    while (write(r->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void hk_reactor_stop(struct hk_reactor *r)
{
    atomic_store(&r->stop, true);
    hk_reactor_wake(r);
}

int hk_reactor_wake_fd(const struct hk_reactor *r)
{
    return r->wake_fd;
}

void hk_reactor_stats(const struct hk_reactor *r, struct hk_reactor_stats *ret)
{
    *ret = r->stats;
}
