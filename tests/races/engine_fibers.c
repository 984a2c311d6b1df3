/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the plugin's engine asks of threads, locks, time and files, led to fibers by the linker
 * (-Wl,--wrap). A mutex is a word: taken or not. A condition wakes one of those who wait, any, and
 * now and then one for no reason, as POSIX allows. Each named step and each half of a copy or of an
 * origin's write is a place at which somebody else may go on.
 */
#include "tests/races/engine_fibers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "proto/at.h"
#include "tests/races/fiber.h"

#define FOR_EVER UINT64_MAX

uint64_t steps_at[HK_AT_STEP_COUNT];

void hk_at(enum hk_at step)
{
    steps_at[step]++;
    fiber_yield();
}

/* ---- threads ---- */

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*body)(void *),
                          void *arg)
{
    int f = fiber_spawn(body, arg);

    if (f < 0)
        return EAGAIN;
    *ret = (pthread_t)f;
    return 0;
}

static bool is_done(void *arg)
{
    return fiber_done((int)(intptr_t)arg);
}

int __wrap_pthread_join(pthread_t t, void **ret)
{
    fiber_wait(is_done, (void *)(intptr_t)t, FOR_EVER);
    return 0;
}

int __wrap_pthread_timedjoin_np(pthread_t t, void **ret, const struct timespec *until)
{
    return __wrap_pthread_join(t, ret);
}

int __wrap_pthread_setname_np(pthread_t t, const char *name)
{
    return 0;
}

/* ---- locks ---- */

struct lock {
    int taken; /* the first word of a pthread_mutex_t */
};

static bool is_free(void *arg)
{
    return !((const struct lock *)arg)->taken;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    struct lock *l = (void *)m;

    if (fiber_self() >= 0) {
        fiber_yield();
        while (l->taken)
            fiber_wait(is_free, l, FOR_EVER);
    }
    l->taken = 1;
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    ((struct lock *)(void *)m)->taken = 0;
    fiber_yield();
    return 0;
}

static struct waiter {
    const void *cond; /* NULL: he waits no more */
} waiter[FIBERS_MAX];

static bool is_woken(void *arg)
{
    return !((const struct waiter *)arg)->cond;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *until)
{
    struct waiter *w = &waiter[fiber_self()];
    uint64_t until_ns = (uint64_t)until->tv_sec * 1000000000u + (uint64_t)until->tv_nsec;
    bool woken;

    w->cond = fiber_random() % 16 == 0 ? NULL : c;
    __wrap_pthread_mutex_unlock(m);
    woken = fiber_wait(is_woken, w, until_ns);
    w->cond = NULL;
    __wrap_pthread_mutex_lock(m);
    return woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    const struct timespec never = {.tv_sec = 18000000000};

    return __wrap_pthread_cond_timedwait(c, m, &never);
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    unsigned first = (unsigned)(fiber_random() % FIBERS_MAX);

    for (unsigned i = 0; i < FIBERS_MAX; i++) {
        struct waiter *w = &waiter[(first + i) % FIBERS_MAX];

        if (w->cond != c)
            continue;
        w->cond = NULL;
        break;
    }
    fiber_yield();
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    for (unsigned i = 0; i < FIBERS_MAX; i++) {
        if (waiter[i].cond == c)
            waiter[i].cond = NULL;
    }
    fiber_yield();
    return 0;
}

void engine_fibers_reset(void)
{
    memset(waiter, 0, sizeof(waiter));
}

/* ---- time ---- */

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    uint64_t ns = fiber_now_ns() + (clock == CLOCK_REALTIME ? 1700000000000000000ull : 0);

    ret->tv_sec = (time_t)(ns / 1000000000u);
    ret->tv_nsec = (long)(ns % 1000000000u);
    return 0;
}

static bool never(void *arg)
{
    return false;
}

int __wrap_nanosleep(const struct timespec *pause, struct timespec *ret_left)
{
    if (fiber_self() >= 0)
        fiber_wait(never, NULL,
                   fiber_now_ns() + (uint64_t)pause->tv_sec * 1000000000u +
                       (uint64_t)pause->tv_nsec);
    return 0;
}

static bool is_readable(void *arg)
{
    struct epoll_event event;

    return __real_epoll_wait((int)(intptr_t)arg, &event, 1, 0) > 0;
}

int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
    fiber_wait(is_readable, (void *)(intptr_t)fd,
               timeout_ms < 0 ? FOR_EVER : fiber_now_ns() + (uint64_t)timeout_ms * 1000000u);
    return __real_epoll_wait(fd, events, max, 0);
}

/* ---- memory and files ---- */

void *__wrap_memcpy(void *to, const void *from, size_t bytes)
{
    size_t half = bytes / 2;

    if (bytes < 512 || fiber_self() < 0)
        return __real_memcpy(to, from, bytes);
    __real_memcpy(to, from, half);
    fiber_yield();
    __real_memcpy((uint8_t *)to + half, (const uint8_t *)from + half, bytes - half);
    return to;
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    struct iovec part = *iov;

    /* A short write, which the caller goes on with. */
    if (part.iov_len >= 1024 && fiber_random() % 2)
        part.iov_len = part.iov_len / 2 / 512 * 512;
    fiber_yield();
    return __real_pwritev64v2(fd, &part, 1, offset, flags);
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes)
{
    off_t half = bytes / 2 / 512 * 512;

    if (half && __real_fallocate64(fd, mode, offset, half) == 0)
        fiber_yield();
    return __real_fallocate64(fd, mode, offset, bytes);
}
