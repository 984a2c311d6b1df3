/* SPDX-License-Identifier: Apache-2.0 */
/* Event heap, trace, failure. Ties in time are broken by the seed, so no order is relied upon. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/sim/sim.h"

/* What is moved about is small; what an event does stays where it is. */
struct sim_due {
    uint64_t at, tie;
    uint32_t event;
};

struct sim_event {
    sim_fn fn;
    struct sim_proc *proc;
    uint64_t a;
    void *p;
    uint32_t life;
};

static bool before(const struct sim_due *x, const struct sim_due *y)
{
    return x->at != y->at ? x->at < y->at : x->tie < y->tie;
}

static void sift_up(struct sim *s, uint32_t i)
{
    struct sim_due e = s->heap[i];

    while (i > 0) {
        uint32_t up = (i - 1) / 2;

        if (!before(&e, &s->heap[up]))
            break;
        s->heap[i] = s->heap[up];
        i = up;
    }
    s->heap[i] = e;
}

static void sift_down(struct sim *s, uint32_t i)
{
    struct sim_due e = s->heap[i];

    for (;;) {
        uint32_t c = 2 * i + 1;

        if (c >= s->heap_count)
            break;
        if (c + 1 < s->heap_count && before(&s->heap[c + 1], &s->heap[c]))
            c++;
        if (!before(&s->heap[c], &e))
            break;
        s->heap[i] = s->heap[c];
        i = c;
    }
    s->heap[i] = e;
}

static void more_room(struct sim *s)
{
    uint32_t room = s->heap_room ? 2 * s->heap_room : 1024;

    s->heap = realloc(s->heap, room * sizeof(*s->heap));
    s->event = realloc(s->event, room * sizeof(*s->event));
    if (!s->heap || !s->event)
        abort();
    s->heap_room = room;
}

/* Entries before heap_used have been used in this run; the heap's tail behind heap_count holds the
 * numbers of those that are free again. */
void sim_at(struct sim *s, uint64_t at, struct sim_proc *proc, sim_fn fn, uint64_t a, void *p)
{
    struct sim_due *due;

    if (s->heap_count == s->heap_room)
        more_room(s);
    due = &s->heap[s->heap_count];
    if (s->heap_count == s->heap_used)
        due->event = s->heap_used++;
    due->at = at < s->now ? s->now : at;
    due->tie = rng_next(&s->rng);
    s->event[due->event] =
        (struct sim_event){.fn = fn, .proc = proc, .a = a, .p = p, .life = proc ? proc->life : 0};
    sift_up(s, s->heap_count++);
}

uint64_t sim_next_at(const struct sim *s)
{
    return s->heap_count ? s->heap[0].at : UINT64_MAX;
}

void sim_forget_run(struct sim *s)
{
    memset(s, 0, offsetof(struct sim, st));
}

/* Runs the next event; false when there is none. */
bool sim_step(struct sim *s)
{
    struct sim_due due;
    struct sim_event e;

    if (s->heap_count == 0)
        return false;
    due = s->heap[0];
    e = s->event[due.event];
    s->heap[0] = s->heap[--s->heap_count];
    if (s->heap_count)
        sift_down(s, 0);
    s->heap[s->heap_count].event = due.event;
    s->now = due.at;
    if (e.proc) {
        if (e.life != e.proc->life)
            return true;
        if (e.proc->paused_until > s->now) {
            sim_at(s, e.proc->paused_until, e.proc, e.fn, e.a, e.p);
            return true;
        }
    }
    s->events++;
    e.fn(s, e.a, e.p);
    return true;
}

/* The texts are all in this program; the compiler just can't see which one it is. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
void sim_trace_print(const struct sim_trace *t)
{
    printf("%14llu us ", (unsigned long long)(t->at / NS_US));
    printf(t->fmt, (unsigned long long)t->a, (unsigned long long)t->b, (unsigned long long)t->c);
    putchar('\n');
}
#pragma GCC diagnostic pop

void sim_trace(struct sim *s, const char *fmt, uint64_t a, uint64_t b, uint64_t c)
{
    struct sim_trace *t = &s->trace[s->trace_at++ % SIM_TRACE_KEEP];

    *t = (struct sim_trace){s->now, fmt, a, b, c};
    /* The text's first bytes stand for the kind: addresses would differ from build to build. */
    s->trace_hash = rng_mix(s->trace_hash ^ s->now) ^ rng_mix(a + 3 * b + 7 * c) ^
                    ((uint64_t)(uint8_t)fmt[0] << 8 | (uint8_t)fmt[4]);
    if (s->verbose)
        sim_trace_print(t);
}

void sim_fail(struct sim *s, const char *check, const char *fmt, ...)
{
    int n = snprintf(s->failure, sizeof(s->failure), "%s: ", check);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(s->failure + n, sizeof(s->failure) - (size_t)n, fmt, ap);
    va_end(ap);
    longjmp(s->fail_to, 1);
}

/* Memory of one run, all given back at its end however it ends. */
struct block {
    struct block *next, *prev;
};
static struct block blocks = {&blocks, &blocks};

/*
 * Large, page-aligned pieces are kept from run to run: mapping is dear. `any`: what it holds may be
 * left from anything before, and must not matter.
 */
struct pages {
    uint8_t *base;
    size_t bytes, touched;
    bool used, any;
};
static struct pages pages[256];

void *sim_alloc(struct sim *s, size_t bytes)
{
    struct block *b = calloc(1, sizeof(*b) + bytes);

    (void)s;
    if (!b)
        abort();
    b->next = blocks.next;
    b->prev = &blocks;
    b->next->prev = b;
    blocks.next = b;
    return b + 1;
}

void sim_free(struct sim *s, void *p)
{
    struct block *b;

    (void)s;
    if (!p)
        return;
    b = (struct block *)p - 1;
    b->next->prev = b->prev;
    b->prev->next = b->next;
    free(b);
}

void sim_pages_forget(uint8_t *p, size_t bytes)
{
    size_t whole = bytes & ~(size_t)4095;

    /* Pages that will be used again are cheaper to write than to map anew. */
    if (bytes <= 2 << 20) {
        memset(p, 0, bytes);
        return;
    }
    if (madvise(p, whole, MADV_DONTNEED))
        abort();
    memset(p + whole, 0, bytes - whole);
}

static struct pages *piece_of(size_t bytes, bool any)
{
    struct pages *best = NULL, *blank = NULL;

    for (size_t i = 0; i < HK_ARRAY_SIZE(pages); i++) {
        struct pages *p = &pages[i];

        if (!p->base)
            blank = blank ? blank : p;
        else if (!p->used && p->any == any && p->bytes >= bytes &&
                 (!best || p->bytes < best->bytes))
            best = p;
    }
    if (best)
        return best;
    if (!blank)
        abort();
    *blank = (struct pages){.bytes = bytes, .any = any};
    blank->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (blank->base == MAP_FAILED)
        abort();
    return blank;
}

uint8_t *sim_pages(struct sim *s, size_t bytes)
{
    struct pages *p = piece_of((bytes + 4095) & ~(size_t)4095, false);

    p->used = true;
    p->touched = p->bytes;
    for (size_t i = 0; s->strict && i < p->bytes; i += 8)
        if (*(const uint64_t *)(const void *)(p->base + i) != 0)
            abort();
    return p->base;
}

uint8_t *sim_pages_any(struct sim *s, size_t bytes)
{
    struct pages *p = piece_of((bytes + 4095) & ~(size_t)4095, true);

    p->used = true;
    if (s->strict)
        memset(p->base, 0xa5, p->bytes);
    return p->base;
}

void sim_pages_touched(const uint8_t *base, size_t bytes)
{
    for (size_t i = 0; i < HK_ARRAY_SIZE(pages); i++)
        if (pages[i].base == base)
            pages[i].touched = bytes < pages[i].bytes ? bytes : pages[i].bytes;
}

void sim_free_all(struct sim *s)
{
    while (blocks.next != &blocks)
        sim_free(s, blocks.next + 1);
    for (size_t i = 0; i < HK_ARRAY_SIZE(pages); i++) {
        if (pages[i].used && !pages[i].any)
            sim_pages_forget(pages[i].base, pages[i].touched);
        pages[i].used = false;
    }
}
