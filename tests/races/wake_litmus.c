/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No wake-up is lost: one producer publishes one record at a time and goes on only when it was
 * seen; one reader wishes to be woken, looks again and sleeps. A wish that is overlooked leaves
 * both standing, and nobody else is there to help. With the words and inlines of uapi/ring.h, as
 * engine and client use them. Seen failing on wish_loaded, after some 100,000 sleeps on x86, for a
 * load is done before the store that precedes it is seen.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>

#include "driver-glue/uapi/ring.h"
#include "tests/races/tsan.h"
#include "tests/races/verdict.h"

enum { SPIN_MAX = 64, LOST_MS = 2000 };

static struct {
    uint64_t lsn __attribute__((aligned(64))); /* of the slot */
    struct hk_ring_hint hint __attribute__((aligned(64)));
    uint64_t seen __attribute__((aligned(64))); /* by the reader */
    bool end;
    int event_fd;
    uint64_t sleeps, wakes;
} w;

void hk_assert_fail(const char *expr, const char *file, int line)
{
    verdict("assertion failed: %s (%s:%d)", expr, file, line);
}

static void spin(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    for (volatile unsigned i = 0; i < (*seed >> 40) % SPIN_MAX; i++)
        continue;
}

static void wake(void)
{
    const uint64_t one = 1;

    CHECK(write(w.event_fd, &one, sizeof(one)) == sizeof(one), "no wake-up can be given");
}

static void *produce(void *arg)
{
    uint64_t seed = 7, lsn = 0;

    while (!__atomic_load_n(&w.end, __ATOMIC_RELAXED)) {
        hk_ring_store_release(&w.lsn, ++lsn);
        if (hk_ring_hint_take(&w.hint)) {
            w.wakes++;
            wake();
        }
        while (hk_ring_load_acquire(&w.seen) != lsn && !__atomic_load_n(&w.end, __ATOMIC_RELAXED))
            continue;
        spin(&seed);
    }
    return NULL;
}

/* As the replicator's reactor does it: arm, look, sleep, disarm. */
static void sleep_once(uint64_t next)
{
    struct pollfd p = {.fd = w.event_fd, .events = POLLIN};
    uint64_t count;

    hk_ring_hint_wish(&w.hint);
    if (hk_ring_load_acquire(&w.lsn) != next) {
        w.sleeps++;
        CHECK(poll(&p, 1, LOST_MS) == 1 || hk_ring_load_acquire(&w.lsn) != next,
              "a wake-up was lost after %llu sleeps", (unsigned long long)w.sleeps);
    }
    hk_ring_hint_unwish(&w.hint);
    if (poll(&p, 1, 0) == 1)
        CHECK(read(w.event_fd, &count, sizeof(count)) == sizeof(count), "no counter");
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
    uint64_t end_ms = now_ms() + (argc > 1 ? strtoull(argv[1], NULL, 0) : 3000);
    uint64_t next = 1, seed = 3;
    pthread_t thread;

    setvbuf(stdout, NULL, _IOLBF, 0);
    w.event_fd = eventfd(0, EFD_NONBLOCK);
    CHECK(w.event_fd >= 0, "no eventfd");
    CHECK(pthread_create(&thread, NULL, produce, NULL) == 0, "no thread");
    while (now_ms() < end_ms) {
        sleep_once(next);
        if (hk_ring_load_acquire(&w.lsn) != next)
            continue;
        spin(&seed);
        hk_ring_store_release(&w.seen, next++);
    }
    __atomic_store_n(&w.end, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    printf("# %llu records, %llu sleeps, %llu wake-ups\n", (unsigned long long)next - 1,
           (unsigned long long)w.sleeps, (unsigned long long)w.wakes);
    CHECK(VERDICT_BUG || w.wakes > 10, "hardly anybody slept");
    return verdict_end("wake_litmus");
}
