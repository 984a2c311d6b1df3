/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a reactor that sleeps is woken by everything that must wake it, at once, and one that has
 * nothing to do costs little. Method: real time, with bounds wide enough for a busy machine: what
 * is excluded is a lost wake-up (which would last seconds here), not a slow one.
 */
#include "tests/unit/unit.h"

#include "driver-glue/capture/capture.h"
#include "replicator/io/clock.h"
#include "replicator/io/reactor.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull

static struct hk_reactor *make(void)
{
    struct hk_io_error err = {0};
    struct hk_reactor *r = NULL;

    assert_int_equal(hk_reactor_create(&(struct hk_reactor_cfg){.cpu = -1}, &r, &err), 0);
    return r;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Turns with long sleeps until the time is over or the counter reached the value. */
static void turn_until(struct hk_reactor *r, const uint32_t *counter, uint32_t value, uint64_t ms)
{
    uint64_t end = hk_clock_mono_ns() + ms * MS;

    while (*counter < value && hk_clock_mono_ns() < end)
        hk_reactor_turn(r, 5000 * MS);
}

struct counting {
    uint32_t polls, before, after;
    uint64_t deadline, called_at;
    bool refuse_sleep;
};

static uint32_t count_poll(void *arg, const struct hk_now *now)
{
    struct counting *c = arg;

    c->polls++;
    if (c->deadline != 0 && now->mono_ns >= c->deadline) {
        c->called_at = now->mono_ns;
        c->deadline = 0;
        return 1;
    }
    return 0;
}

static uint64_t count_deadline(void *arg)
{
    struct counting *c = arg;

    return c->deadline ? c->deadline : UINT64_MAX;
}

static bool count_before(void *arg)
{
    struct counting *c = arg;

    c->before++;
    return c->refuse_sleep;
}

static void count_after(void *arg)
{
    struct counting *c = arg;

    c->after++;
}

static void test_deadline_ends_sleep(void **state)
{
    struct hk_reactor *r = make();
    struct counting c = {0};
    struct hk_poller p = {
        .name = "count", .arg = &c, .poll = count_poll, .deadline_ns = count_deadline};
    uint64_t wanted;

    assert_int_equal(hk_reactor_add(r, &p), 0);
    wanted = c.deadline = hk_clock_mono_ns() + 5 * MS;
    while (c.called_at == 0)
        hk_reactor_turn(r, 5000 * MS);
    assert_true(c.called_at >= wanted);
    assert_true(c.called_at < wanted + 500 * MS);
    hk_reactor_remove(r, &p);
    hk_reactor_free(r);
}

static void *wake_later(void *arg)
{
    usleep(20000);
    hk_reactor_wake(arg);
    return NULL;
}

static void test_wake_ends_sleep(void **state)
{
    struct hk_reactor *r = make();
    struct hk_reactor_stats s = {0};
    uint64_t start = hk_clock_mono_ns();
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, wake_later, r), 0);
    while (s.wakes == 0 && hk_clock_mono_ns() < start + 4000 * MS) {
        hk_reactor_turn(r, 5000 * MS);
        hk_reactor_stats(r, &s);
    }
    assert_int_equal(s.wakes, 1);
    assert_true(hk_clock_mono_ns() - start < 2000 * MS);
    assert_true(s.sleeps >= 1);
    pthread_join(t, NULL);
    hk_reactor_free(r);
}

/* A token goes to and fro; each hop leaves the reactor in any stage of falling asleep. */
struct token {
    struct hk_reactor *reactor;
    atomic_uint at; /* even: the other thread's turn */
    uint32_t hops;
};

enum { HOPS = 4000 };

static uint32_t token_poll(void *arg, const struct hk_now *now)
{
    struct token *t = arg;

    if (atomic_load(&t->at) % 2 == 0)
        return 0;
    t->hops++;
    atomic_fetch_add(&t->at, 1);
    return 1;
}

static void *token_thread(void *arg)
{
    struct token *t = arg;
    uint64_t seed = 7;

    for (uint32_t i = 0; i < HOPS; i++) {
        while (atomic_load(&t->at) % 2 == 1)
            sched_yield();
        for (uint64_t spin = unit_random(&seed) % 20000; spin > 0; spin--)
            __asm__ volatile("");
        atomic_fetch_add(&t->at, 1);
        hk_reactor_wake(t->reactor);
    }
    return NULL;
}

static void test_no_wake_is_lost(void **state)
{
    struct token t = {.reactor = make()};
    struct hk_poller p = {.name = "token", .arg = &t, .poll = token_poll};
    uint64_t start = hk_clock_mono_ns();
    pthread_t thread;

    assert_int_equal(hk_reactor_add(t.reactor, &p), 0);
    assert_int_equal(pthread_create(&thread, NULL, token_thread, &t), 0);
    turn_until(t.reactor, &t.hops, HOPS, 60000);
    pthread_join(thread, NULL);
    assert_int_equal(t.hops, HOPS);
    /* A single lost one would have slept five seconds. */
    assert_true(hk_clock_mono_ns() - start < 30000 * MS);
    hk_reactor_remove(t.reactor, &p);
    hk_reactor_free(t.reactor);
}

static void test_before_sleep_may_refuse(void **state)
{
    struct hk_reactor *r = make();
    struct counting c = {.refuse_sleep = true};
    struct hk_poller p = {.name = "count",
                          .arg = &c,
                          .poll = count_poll,
                          .before_sleep = count_before,
                          .after_sleep = count_after};
    struct hk_reactor_stats s;
    uint64_t start = hk_clock_mono_ns();

    assert_int_equal(hk_reactor_add(r, &p), 0);
    for (int i = 0; i < 500; i++)
        hk_reactor_turn(r, 1000 * MS);
    assert_true(hk_clock_mono_ns() - start < 900 * MS);
    hk_reactor_stats(r, &s);
    assert_int_equal(s.sleeps, 0);
    assert_true(c.before > 0);
    assert_int_equal(c.before, c.after);
    c.refuse_sleep = false;
    for (int i = 0; i < 200; i++)
        hk_reactor_turn(r, 1000);
    hk_reactor_stats(r, &s);
    assert_true(s.sleeps > 0);
    assert_int_equal(c.before, c.after);
    hk_reactor_remove(r, &p);
    hk_reactor_free(r);
}

/* Polled at least every few hundred microseconds, for much less than a whole processor. */
static void test_must_poll_backs_off(void **state)
{
    struct hk_reactor *r = make();
    struct counting c = {0};
    struct hk_poller p = {.name = "count", .arg = &c, .poll = count_poll, .must_poll = true};
    uint64_t start, cpu;
    struct hk_reactor_stats s;

    assert_int_equal(hk_reactor_add(r, &p), 0);
    for (int i = 0; i < 300; i++)
        hk_reactor_turn(r, UINT64_MAX);
    c.polls = 0;
    start = hk_clock_mono_ns();
    cpu = thread_cpu_ns();
    while (hk_clock_mono_ns() < start + 200 * MS)
        hk_reactor_turn(r, UINT64_MAX);
    cpu = thread_cpu_ns() - cpu;
    print_message("# idle with a poller: %u polls and %llu us of processor in 200 ms\n", c.polls,
                  (unsigned long long)cpu / 1000);
    assert_true(c.polls > 50);
    assert_true(c.polls < 20000);
    assert_true(cpu < 60 * MS);
    hk_reactor_stats(r, &s);
    assert_true(s.sleeps > 50);
    hk_reactor_remove(r, &p);
    hk_reactor_free(r);
}

static void test_idle_without_poller_sleeps(void **state)
{
    struct hk_reactor *r = make();
    uint64_t cpu, start = hk_clock_mono_ns();

    cpu = thread_cpu_ns();
    while (hk_clock_mono_ns() < start + 100 * MS)
        hk_reactor_turn(r, 50 * MS);
    cpu = thread_cpu_ns() - cpu;
    assert_true(cpu < 20 * MS);
    hk_reactor_free(r);
}

static void ready(void *arg)
{
    ++*(uint32_t *)arg;
}

static void test_watch_and_unwatch(void **state)
{
    struct hk_reactor *r = make();
    uint32_t seen = 0;
    uint64_t one = 1, left;

    /* More often than there are places: they are given back. */
    for (uint32_t i = 0; i < 3 * HK_REACTOR_FDS_MAX; i++) {
        int fd = eventfd(0, EFD_CLOEXEC);

        assert_int_equal(hk_reactor_watch(r, fd, true, ready, &seen), 0);
        assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
        turn_until(r, &seen, 2 * i + 1, 4000);
        assert_int_equal(seen, 2 * i + 1);
        assert_int_equal(read(fd, &left, sizeof(left)), -1); /* drained */
        assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
        turn_until(r, &seen, 2 * i + 2, 4000);
        assert_int_equal(seen, 2 * i + 2);
        hk_reactor_unwatch(r, fd);
        assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
        for (int k = 0; k < 10; k++)
            hk_reactor_turn(r, 0);
        assert_int_equal(seen, 2 * i + 2);
        close(fd);
    }
    assert_int_equal(hk_reactor_watch(r, 9999, false, ready, &seen), -EBADF);
    hk_reactor_free(r);
}

static void *run(void *arg)
{
    return (void *)(intptr_t)hk_reactor_run(arg);
}

static void test_stop(void **state)
{
    struct hk_reactor *r = make();
    void *ret = (void *)1;
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, run, r), 0);
    usleep(20000);
    hk_reactor_stop(r);
    pthread_join(t, &ret);
    assert_null(ret);
    hk_reactor_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline_ends_sleep),
        cmocka_unit_test(test_wake_ends_sleep),
        cmocka_unit_test(test_no_wake_is_lost),
        cmocka_unit_test(test_before_sleep_may_refuse),
        cmocka_unit_test(test_must_poll_backs_off),
        cmocka_unit_test(test_idle_without_poller_sleeps),
        cmocka_unit_test(test_watch_and_unwatch),
        cmocka_unit_test(test_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
