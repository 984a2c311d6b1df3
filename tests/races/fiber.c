/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/races/fiber.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum { STACK_BYTES = 256 << 10 };

/* How the next one is chosen; each seed draws one. */
enum taste {
    ANY = 0, /* any of those who can */
    STICKY,  /* the same one again, mostly */
    RANKED,  /* the first in an order that changes now and then */
    TASTES
};

struct fiber {
    ucontext_t context;
    void *stack;
    void *(*body)(void *);
    void *arg;
    bool used, done;
    bool (*ready)(void *); /* NULL: it can run */
    void *ready_arg;
    uint64_t until_ns;
    uint32_t rank;
};

static struct fiber fiber[FIBERS_MAX];
static ucontext_t outside;
static const void *outside_stack;
static size_t outside_bytes;
static int current = -1;
static uint64_t now_ns, random_state, steps, trace;
static enum taste taste;
static unsigned stickiness;

uint64_t fiber_random(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

void fiber_reset(uint64_t seed)
{
    for (int i = 0; i < FIBERS_MAX; i++)
        fiber[i].used = false;
    random_state = seed;
    current = -1;
    now_ns = 1000000000000ull;
    steps = 0;
    trace = seed;
    taste = (enum taste)(fiber_random() % TASTES);
    stickiness = 1u << (fiber_random() % 6);
}

uint64_t fiber_now_ns(void)
{
    return ++now_ns;
}

uint64_t fiber_steps(void)
{
    return steps;
}

uint64_t fiber_trace(void)
{
    return trace;
}

int fiber_self(void)
{
    return current;
}

bool fiber_done(int f)
{
    return fiber[f].done;
}

/* ---- changing stacks, and telling the address sanitizer ---- */

static void leave(void **ret_fake, const void *stack, size_t bytes)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(ret_fake, stack, bytes);
#else
    (void)ret_fake;
    (void)stack;
    (void)bytes;
#endif
}

static void arrive(void *fake, const void **ret_stack, size_t *ret_bytes)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, ret_stack, ret_bytes);
#else
    (void)fake;
    (void)ret_stack;
    (void)ret_bytes;
#endif
}

static void go_outside(bool for_good)
{
    struct fiber *me = &fiber[current];
    void *fake = NULL;

    leave(for_good ? NULL : &fake, outside_stack, outside_bytes);
    swapcontext(&me->context, &outside);
    arrive(fake, &outside_stack, &outside_bytes);
}

static void go_on(int f)
{
    void *fake = NULL;

    current = f;
    leave(&fake, fiber[f].stack, STACK_BYTES);
    swapcontext(&outside, &fiber[f].context);
    arrive(fake, NULL, NULL);
    current = -1;
}

static void begin(void)
{
    struct fiber *me;

    arrive(NULL, &outside_stack, &outside_bytes);
    me = &fiber[current];
    me->body(me->arg);
    me->done = true;
    go_outside(true);
    abort();
}

static void make_context(struct fiber *f)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, begin, 0);
}

int fiber_spawn(void *(*body)(void *), void *arg)
{
    int f = 0;

    while (f < FIBERS_MAX && fiber[f].used)
        f++;
    if (f == FIBERS_MAX)
        return -1;
    if (!fiber[f].stack) {
        fiber[f].stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fiber[f].stack == MAP_FAILED)
            abort();
    }
    fiber[f].body = body;
    fiber[f].arg = arg;
    fiber[f].used = true;
    fiber[f].done = false;
    fiber[f].ready = NULL;
    fiber[f].rank = (uint32_t)fiber_random();
    make_context(&fiber[f]);
    return f;
}

/* ---- choosing ---- */

static bool can_run(struct fiber *f)
{
    if (!f->used || f->done)
        return false;
    if (!f->ready || f->ready(f->ready_arg))
        return true;
    return now_ns >= f->until_ns;
}

static int choose(const int *able, int count, int last)
{
    int first = 0;

    for (int i = 0; i < count && taste == STICKY; i++) {
        if (able[i] == last && fiber_random() % stickiness != 0)
            return last;
    }
    if (taste != RANKED)
        return able[fiber_random() % (uint64_t)count];
    for (int i = 1; i < count; i++) {
        if (fiber[able[i]].rank < fiber[able[first]].rank)
            first = i;
    }
    if (fiber_random() % (4 * stickiness) == 0)
        fiber[able[first]].rank = (uint32_t)fiber_random();
    return able[first];
}

/* Everybody waits: until the first of them waits no more. */
static bool pass_time(void)
{
    uint64_t at = UINT64_MAX;

    for (int i = 0; i < FIBERS_MAX; i++) {
        if (fiber[i].used && !fiber[i].done && fiber[i].until_ns < at)
            at = fiber[i].until_ns;
    }
    if (at == UINT64_MAX)
        return false;
    if (at > now_ns)
        now_ns = at;
    return true;
}

bool fiber_run(bool (*over)(void))
{
    int able[FIBERS_MAX], count, last = -1;

    while (!over()) {
        count = 0;
        for (int i = 0; i < FIBERS_MAX; i++) {
            if (can_run(&fiber[i]))
                able[count++] = i;
        }
        if (count == 0) {
            if (!pass_time())
                return false;
            continue;
        }
        last = choose(able, count, last);
        steps++;
        trace = (trace ^ (uint64_t)last) * 0x100000001b3ull;
        go_on(last);
    }
    return true;
}

void fiber_yield(void)
{
    if (current < 0)
        return;
    fiber[current].ready = NULL;
    go_outside(false);
}

bool fiber_wait(bool (*ready)(void *), void *arg, uint64_t until_ns)
{
    struct fiber *me = &fiber[current];

    me->ready = ready;
    me->ready_arg = arg;
    me->until_ns = until_ns;
    go_outside(false);
    me->ready = NULL;
    return ready(arg);
}
