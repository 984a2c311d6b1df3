/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue between reactor and control thread (daemon/queue.h), with exactly the two threads it is
 * for: every item arrives once, whole, in order; it is never taken when empty nor filled when full;
 * and the room that the putter is told of is there. Two queues, one each way, so that each thread
 * is putter and taker; small, so that they are full and empty all the time. Seen failing on
 * queue_one_too_many, and under ThreadSanitizer on queue_relaxed.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "replicator/daemon/queue.h"
#include "tests/races/tsan.h"
#include "tests/races/verdict.h"

enum { SLOTS = 8, WORDS = 16, ITEMS = UNDER_TSAN ? 200000 : 1500000 };

struct item {
    uint64_t word[WORDS];
};

static struct hk_queue there, back;

void hk_assert_fail(const char *expr, const char *file, int line)
{
    verdict("assertion failed: %s (%s:%d)", expr, file, line);
}

static bool put(struct hk_queue *q, uint64_t number)
{
    uint32_t room = hk_queue_room(q);
    struct item *item = hk_queue_space(q);

    CHECK(room <= SLOTS, "there is more room than the queue has");
    CHECK(item || room == 0, "room was promised, and there is none");
    if (!item)
        return false;
    for (unsigned i = 0; i < WORDS; i++)
        item->word[i] = number * WORDS + i;
    hk_queue_put(q);
    return true;
}

static bool take(struct hk_queue *q, uint64_t number)
{
    const struct item *item = hk_queue_peek(q);

    if (!item)
        return false;
    for (unsigned i = 0; i < WORDS; i++)
        CHECK(item->word[i] == number * WORDS + i, "item %llu is torn, lost or out of order",
              (unsigned long long)number);
    hk_queue_take(q);
    return true;
}

/* Puts into one, takes from the other, until all went both ways. */
static void run(struct hk_queue *out, struct hk_queue *in)
{
    uint64_t sent = 0, got = 0;

    while (sent < ITEMS || got < ITEMS) {
        bool moved = false;

        for (unsigned i = 0; i < 3 && sent < ITEMS && put(out, sent); i++, sent++)
            moved = true;
        for (unsigned i = 0; i < 5 && got < ITEMS && take(in, got); i++, got++)
            moved = true;
        if (!moved)
            sched_yield();
    }
}

static void *other(void *arg)
{
    run(&back, &there);
    return NULL;
}

int main(void)
{
    pthread_t thread;

    setvbuf(stdout, NULL, _IOLBF, 0);
    CHECK(hk_queue_init(&there, SLOTS, sizeof(struct item)) == 0 &&
              hk_queue_init(&back, SLOTS, sizeof(struct item)) == 0,
          "no queue");
    CHECK(pthread_create(&thread, NULL, other, NULL) == 0, "no thread");
    run(&there, &back);
    pthread_join(thread, NULL);
    CHECK(!hk_queue_peek(&there) && !hk_queue_peek(&back), "something is left");
    hk_queue_fini(&there);
    hk_queue_fini(&back);
    printf("# %d items each way\n", ITEMS);
    return verdict_end("queue_litmus");
}
