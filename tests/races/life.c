/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/races/life.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/races/nbdkit_shim.h"
#include "tests/races/wraps.h"

const char *const kind_name[KINDS] = {"write",   "write-fua",   "zeroes", "zeroes-fua",
                                      "discard", "discard-fua", "flush"};

static struct {
    struct life_site *site;
    const struct life_plan *plan;
    struct hk_engine *engine;
} own;                             /* the child's */
static _Thread_local bool subject; /* this thread is in the subject's one request */

const char *step_name(int step)
{
    static const char *const name[] = {
#define NAME(n) #n,
        HK_AT_STEPS(NAME)
#undef NAME
            "copy_half",
        "origin_half", "meta_half"};

    return step < 0 ? "none" : name[step];
}

/* ---- dying ---- */

static bool in_place(const struct strike *s)
{
    switch (s->where) {
    case ANYWHERE: return true;
    case SUBJECT: return subject;
    case SERVING: return __atomic_load_n(&own.site->ledger->serving, __ATOMIC_RELAXED);
    case STOPPING: return __atomic_load_n(&own.site->ledger->stopping, __ATOMIC_RELAXED);
    }
    return false;
}

static bool armed(int step)
{
    return own.plan && own.plan->strike.step == step && in_place(&own.plan->strike);
}

/* SIGKILL to oneself takes effect before kill() returns: nothing after the step is done. */
static void strike(int step)
{
    if (!armed(step) || __atomic_sub_fetch(&own.site->ledger->strikes, 1, __ATOMIC_RELAXED) != 0)
        return;
    if (own.plan->linger_ms)
        usleep(own.plan->linger_ms * 1000);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

void hk_at(enum hk_at step)
{
    strike((int)step);
}

/* The engine copies a request's payload: the only long memcpy of its folder. */
void *__wrap_memcpy(void *to, const void *from, size_t bytes)
{
    if (bytes < BLOCK || !armed(STEP_COPY_HALF))
        return __real_memcpy(to, from, bytes);
    __real_memcpy(to, from, bytes / 2);
    strike(STEP_COPY_HALF);
    return __real_memcpy((uint8_t *)to + bytes / 2, (const uint8_t *)from + bytes / 2,
                         bytes - bytes / 2);
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    struct iovec half = {iov->iov_base, iov->iov_len / 2 / 512 * 512};

    if (armed(STEP_ORIGIN_HALF) && half.iov_len) {
        __real_pwritev64v2(fd, &half, 1, offset, flags);
        strike(STEP_ORIGIN_HALF);
    }
    return __real_pwritev64v2(fd, iov, count, offset, flags);
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes)
{
    off_t half = bytes / 2 / 512 * 512;

    if (armed(STEP_ORIGIN_HALF) && half && __real_fallocate64(fd, mode, offset, half) == 0)
        strike(STEP_ORIGIN_HALF);
    return __real_fallocate64(fd, mode, offset, bytes);
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
    if (armed(STEP_META_HALF) && bytes == HK_SUPER_BYTES) {
        __real_pwrite64(fd, data, bytes / 4, offset);
        strike(STEP_META_HALF);
    }
    return __real_pwrite64(fd, data, bytes, offset);
}

int __wrap_hk_capture_init(struct hk_capture *c, const struct hk_capture_cfg *cfg, void *ring,
                           enum hk_start start, const struct hk_super *super,
                           const struct hk_now *now)
{
    struct hk_capture_cfg mine = *cfg;

    if (own.plan->ceiling_step)
        mine.ceiling_step_bytes = own.plan->ceiling_step;
    return __real_hk_capture_init(c, &mine, ring, start, super, now);
}

/* ---- the workers ---- */

static uint64_t random_word(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

struct request {
    enum kind kind;
    uint16_t volume;
    unsigned first, count; /* blocks */
    uint64_t word;
};

static void note_begin(struct ledger *l, const struct request *r)
{
    for (unsigned b = r->first; b < r->first + r->count; b++) {
        l->block[r->volume][b].flying = r->word;
        __atomic_store_n(&l->block[r->volume][b].in_flight, true, __ATOMIC_RELEASE);
    }
}

static void note_end(struct ledger *l, const struct request *r)
{
    for (unsigned b = r->first; b < r->first + r->count; b++) {
        l->block[r->volume][b].acked = r->word;
        __atomic_store_n(&l->block[r->volume][b].in_flight, false, __ATOMIC_RELEASE);
    }
    if (r->word)
        __atomic_store_n(&l->acked_version[r->word], 1, __ATOMIC_RELEASE);
}

static void perform(struct ledger *l, const struct request *r)
{
    static const uint8_t type[KINDS] = {HK_REC_WRITE,  HK_REC_WRITE,   HK_REC_ZEROES,
                                        HK_REC_ZEROES, HK_REC_DISCARD, HK_REC_DISCARD,
                                        HK_REC_FLUSH};
    uint8_t flags =
        r->kind == WRITE_FUA || r->kind == ZEROES_FUA || r->kind == DISCARD_FUA ? HK_REC_FUA : 0;
    uint8_t data[4 * BLOCK];
    int rc;

    for (unsigned i = 0; i < r->count * BLOCK; i += 8)
        memcpy(data + i, &r->word, 8);
    note_begin(l, r);
    rc = hk_engine_request(own.engine, r->volume, type[r->kind], flags, (uint64_t)r->first * BLOCK,
                           r->count * BLOCK, type[r->kind] == HK_REC_WRITE ? data : NULL);
    if (rc == 0)
        note_end(l, r);
    else
        __atomic_add_fetch(&l->failed, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&l->requests, 1, __ATOMIC_RELAXED);
}

static struct request make_request(struct ledger *l, unsigned worker, enum kind kind,
                                   uint64_t *seed)
{
    struct request r = {.kind = kind, .volume = (uint16_t)(random_word(seed) % VOLUMES)};

    if (kind == FLUSH)
        return r;
    r.count = 1 + (unsigned)(random_word(seed) % 4);
    r.first = worker * AREA_BLOCKS + (unsigned)(random_word(seed) % (AREA_BLOCKS - r.count + 1));
    if (kind == WRITE || kind == WRITE_FUA)
        r.word = __atomic_add_fetch(&l->version, 1, __ATOMIC_RELAXED) % VERSIONS;
    return r;
}

struct worker {
    pthread_t thread;
    unsigned index;
    uint64_t seed;
};

static void *other_main(void *arg)
{
    struct ledger *l = own.site->ledger;
    struct worker *w = arg;

    while (!__atomic_load_n(&l->done, __ATOMIC_ACQUIRE)) {
        struct request r =
            make_request(l, w->index, (enum kind)(random_word(&w->seed) % KINDS), &w->seed);

        perform(l, &r);
    }
    return NULL;
}

static void *subject_main(void *arg)
{
    const struct life_plan *p = own.plan;
    struct ledger *l = own.site->ledger;
    struct worker *w = arg;
    struct request r;

    for (unsigned i = 0; i < p->warm_up; i++) {
        r = make_request(l, 0, (enum kind)(random_word(&w->seed) % KINDS), &w->seed);
        perform(l, &r);
    }
    r = make_request(l, 0, p->kind, &w->seed);
    subject = true;
    perform(l, &r);
    subject = false;
    for (unsigned i = 0; i < p->after; i++) {
        r = make_request(l, 0, (enum kind)(random_word(&w->seed) % KINDS), &w->seed);
        perform(l, &r);
    }
    __atomic_store_n(&l->done, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* What is served must be what was acknowledged, or what was in flight when the last life ended. */
static bool served_right(struct ledger *l)
{
    uint8_t block[BLOCK];

    for (uint16_t v = 0; v < VOLUMES; v++) {
        for (unsigned b = 0; b < BLOCKS; b++) {
            struct block_ledger *e = &l->block[v][b];
            bool flew;

            if (hk_engine_read(own.engine, v, block, BLOCK, (uint64_t)b * BLOCK))
                return false;
            flew = e->in_flight && block_is(block, e->flying);
            if (!flew && !block_is(block, e->acked))
                return false;
            if (flew)
                e->acked = e->flying;
            e->in_flight = false;
        }
    }
    return true;
}

static void child_main(void)
{
    struct ledger *l = own.site->ledger;
    struct worker w[WORKERS];
    uint64_t seed = own.plan->seed;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(30);
    if (hk_engine_open(&own.site->conf, &own.engine))
        _exit(10);
    if (hk_engine_start(own.engine))
        _exit(11);
    __atomic_store_n(&l->serving, 1, __ATOMIC_RELEASE);
    if (!served_right(l))
        _exit(12);
    for (unsigned i = 0; i < WORKERS; i++) {
        w[i].index = i;
        w[i].seed = random_word(&seed);
        if (i > 0 && !own.plan->others)
            continue;
        if (pthread_create(&w[i].thread, NULL, i ? other_main : subject_main, &w[i]))
            _exit(13);
    }
    for (unsigned i = 0; i < (own.plan->others ? WORKERS : 1); i++)
        pthread_join(w[i].thread, NULL);
    while (own.plan->settle && !__atomic_load_n(&l->well, __ATOMIC_ACQUIRE))
        usleep(100);
    __atomic_store_n(&l->stopping, 1, __ATOMIC_RELEASE);
    shim_quit();
    hk_engine_stop(own.engine);
    hk_engine_free(own.engine);
    _exit(0);
}

pid_t life_start(struct life_site *s, const struct life_plan *plan)
{
    struct ledger *l = s->ledger;
    pid_t pid;

    l->serving = l->stopping = l->done = l->well = 0;
    l->strikes = (int)plan->strike.hit;
    s->conf.contact_timeout_ns = (plan->timeout_ms ? plan->timeout_ms : 5000) * 1000000ull;
    s->conf.pace_bound_ns = (plan->pace_ms ? plan->pace_ms : 5000) * 1000000ull;
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        own.site = s;
        own.plan = plan;
        child_main();
    }
    return pid;
}
