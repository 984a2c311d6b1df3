/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Litmus tests of the ring: several producers that reserve under a lock and copy and publish
 * without one, and two readers without a lock; on the smallest ring, where every slot and byte is
 * used again all the time, and on a larger one, where many records are on their way at once. At the
 * named steps (proto/at.h) time goes by now and then.
 *
 *   message passing   who sees an LSN sees the whole header and every word of the payload: each
 *                     word follows from its LSN, so another record's word cannot pass for it
 *   torn header       a reader never gets a header whose hash is wrong, or one of another LSN
 *   reuse             until both readers have released a record nothing of it changes; until the
 *                     origin's write has ended nothing of its payload does
 *   wrap-around       both rings wrap; the pieces stay whole
 *   crash             (not under the thread sanitizer) the same in a process that is killed with
 *                     SIGKILL at a random moment: the ring is sound; no LSN is given again; what
 *                     was published is in the log; after redo the origin is what the log says, so
 *                     no done bit was set too soon
 *
 * Under ThreadSanitizer, which sees the order that was asked for and not only the one x86 gives.
 * Seen failing on lsn_first, slot_too_soon, done_early; lsn_relaxed and reader_relaxed
 * under ThreadSanitizer.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "driver-glue/capture/capture.h"
#include "driver-glue/client/ring_reader.h"
#include "proto/at.h"
#include "tests/races/tsan.h"
#include "tests/races/verdict.h"

enum {
    PRODUCERS = 4,
    READERS = 2,

    VOLUME = 1 << 20,
    LENGTH_MAX = 128 << 10,
};

/* In memory that outlives a killed child. */
struct shared {
    uint64_t at[READERS];          /* each reader has seen everything below; release-stored */
    uint64_t released;             /* below this the ring may forget */
    uint64_t given;                /* largest end of an LSN a producer got, under the lock */
    uint64_t published[PRODUCERS]; /* each one's newest record */
    uint64_t records;
};

static struct world {
    pthread_mutex_t lock;
    struct hk_capture *c;
    void *ring;
    uint64_t ring_bytes, lease;
    uint32_t slots;
    uint64_t payload_bytes;
    struct hk_super super;
    struct shared *shared;
    unsigned running;
    bool end;
    uint8_t *origin, *replica; /* the second is made of the log, by the first reader */
} w;

struct request {
    struct hk_op op;
    pthread_cond_t cond;
    enum hk_step step;
    bool ready;
};

/*
 * At every named step, now and then, some time goes by: a little, so that another processor gets in
 * between, or a turn of the scheduler.
 */
void hk_at(enum hk_at step)
{
    static _Thread_local uint64_t seed;
    uint64_t draw;

    seed = seed * 6364136223846793005u + 1442695040888963407u + (uintptr_t)&draw;
    draw = seed >> 40;
    if (draw % 256 == 0)
        sched_yield();
    for (volatile unsigned i = 0; draw % 16 == 1 && i < draw / 16 % 256; i++)
        continue;
}

/* An assertion of the product is as good as a CHECK. */
void hk_assert_fail(const char *expr, const char *file, int line)
{
    verdict("assertion failed: %s (%s:%d)", expr, file, line);
}

static struct hk_now now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (struct hk_now){.mono_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
                           .real_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec};
}

static uint64_t random_word(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* The word a record at this LSN holds at this place. */
static uint64_t word_of(uint64_t lsn, uint64_t place)
{
    return lsn * 0x9e3779b97f4a7c15ull + place;
}

static bool payload_is(const void *payload, uint32_t length, uint64_t lsn)
{
    for (uint32_t i = 0; i < length; i += 8) {
        uint64_t word;

        memcpy(&word, (const uint8_t *)payload + i, 8);
        if (word != word_of(lsn, i))
            return false;
    }
    return true;
}

/* ---- producers ---- */

/* Under the lock. */
static void pump(void)
{
    struct hk_now t = now();
    struct hk_capture_meta m;
    enum hk_step step;
    struct hk_op *op;

    while (hk_capture_meta(w.c, &m))
        hk_capture_meta_done(w.c, 0, &t);
    while ((op = hk_capture_next(w.c, &step, &t))) {
        struct request *rq = HK_CONTAINER_OF(op, struct request, op);

        rq->step = step;
        rq->ready = true;
        pthread_cond_signal(&rq->cond);
    }
}

static enum hk_step awaited(struct request *rq, enum hk_step step)
{
    if (step != HK_WAIT)
        return step;
    while (!rq->ready)
        pthread_cond_wait(&rq->cond, &w.lock);
    rq->ready = false;
    return rq->step;
}

static void reserve(struct request *rq)
{
    struct hk_now t = now();
    enum hk_step step;

    pthread_mutex_lock(&w.lock);
    step = hk_capture_begin(w.c, &rq->op, &t);
    pump();
    step = awaited(rq, step);
    CHECK(step == HK_COPY, "a request was not to be copied (step %d)", step);
    w.shared->given = hk_max_u64(w.shared->given, rq->op.end.v);
    pthread_mutex_unlock(&w.lock);
}

/* From the ring's copy, in two halves: a slot used again too soon shows. */
static void write_origin(const struct request *rq, uint64_t *seed)
{
    const struct hk_op *op = &rq->op;
    uint8_t *to = w.origin + op->offset;
    uint32_t half = op->length / 2;

    memcpy(to, op->payload, half);
    if (random_word(seed) % 4 == 0)
        sched_yield();
    memcpy(to + half, (const uint8_t *)op->payload + half, op->length - half);
    CHECK(payload_is(to, op->length, op->lsn.v),
          "a payload changed, or two overlapping writes ran, before the origin's write had ended");
}

static void one_write(uint64_t *published, uint64_t *seed)
{
    struct request rq = {.op = {.type = HK_REC_WRITE, .volume = 0},
                         .cond = PTHREAD_COND_INITIALIZER};
    struct hk_now t;
    enum hk_step step;
    uint64_t word;

    rq.op.length = 512 * (1 + (uint32_t)(random_word(seed) % 3));
    if (random_word(seed) % 512 == 0)
        rq.op.length = LENGTH_MAX;
    rq.op.offset = random_word(seed) % ((VOLUME - rq.op.length) / 512) * 512;
    reserve(&rq);
    for (uint32_t i = 0; i < rq.op.length; i += 8) {
        word = word_of(rq.op.lsn.v, i);
        memcpy((uint8_t *)rq.op.payload + i, &word, 8);
    }
    hk_capture_publish(w.c, &rq.op);
    __atomic_store_n(published, rq.op.lsn.v, __ATOMIC_RELEASE);
    pthread_mutex_lock(&w.lock);
    step = hk_capture_copied(w.c, &rq.op);
    CHECK(step == HK_SUBMIT, "a copied request is not to be submitted");
    pthread_mutex_unlock(&w.lock);
    write_origin(&rq, seed);
    t = now();
    pthread_mutex_lock(&w.lock);
    step = hk_capture_written(w.c, &rq.op, 0, &t);
    pump();
    step = awaited(&rq, step);
    CHECK(step == HK_DONE && rq.op.result == 0, "a request failed");
    pthread_mutex_unlock(&w.lock);
}

static void *produce(void *arg)
{
    unsigned index = *(const unsigned *)arg;
    uint64_t seed = 0x1234 + index + now().real_ns;

    while (!__atomic_load_n(&w.end, __ATOMIC_RELAXED))
        one_write(&w.shared->published[index], &seed);
    pthread_mutex_lock(&w.lock);
    w.running--;
    pthread_mutex_unlock(&w.lock);
    return NULL;
}

/* ---- readers ---- */

/* One record, in full; all of it lies below the published end. Returns where the next one is. */
static uint64_t check_record(struct hk_ring_reader *r, uint64_t lsn, uint8_t *replica)
{
    struct hk_record h;
    struct iovec iov[2];
    int n;

    CHECK(hk_ring_reader_header_at(r, HK_LSN(lsn), &h) == 0 && h.lsn == lsn,
          "there is no record at LSN %llu", (unsigned long long)lsn);
    CHECK(hk_record_check(&h, HK_LSN(lsn), r->epoch_ordinal, r->epoch_seed) == HK_RECORD_OK,
          "a torn header at LSN %llu", (unsigned long long)lsn);
    if (h.type == HK_REC_WRITE) {
        n = hk_ring_reader_gather(r, HK_LSN(lsn + HK_RECORD_HEADER_BYTES), h.payload_len, iov, 2);
        CHECK(n == 1 && payload_is(iov[0].iov_base, h.payload_len, lsn),
              "an LSN was seen before its payload, or its slot was used again too soon");
        CHECK(hk_record_payload_ok(&h, iov[0].iov_base), "a payload that is not what was hashed");
        if (replica)
            memcpy(replica + h.offset, iov[0].iov_base, h.length);
    }
    return lsn + hk_record_bytes(h.payload_len);
}

static bool all_ended(void)
{
    bool ended;

    pthread_mutex_lock(&w.lock);
    ended = w.running == 0;
    pthread_mutex_unlock(&w.lock);
    return ended;
}

static void release(struct hk_ring_reader *r)
{
    uint64_t lsn = UINT64_MAX;
    struct hk_now t;
    int rc;

    for (unsigned i = 0; i < READERS; i++)
        lsn = hk_min_u64(lsn, __atomic_load_n(&w.shared->at[i], __ATOMIC_ACQUIRE));
    if (lsn <= r->tail_lsn)
        return;
    check_record(r, r->tail_lsn, NULL); /* once more, at the last moment */
    hk_ring_reader_release(r, HK_LSN(lsn));
    t = now();
    pthread_mutex_lock(&w.lock);
    __atomic_store_n(&w.shared->released, lsn, __ATOMIC_RELEASE);
    rc = hk_capture_report(w.c, w.lease, HK_LSN(lsn), HK_LSN(lsn), HK_LSN(lsn), t.mono_ns, &t);
    CHECK(rc == 0, "a true report was refused (%d)", rc);
    pump();
    pthread_mutex_unlock(&w.lock);
}

static void start_reader(struct hk_ring_reader *r)
{
    struct hk_capture_status s;

    pthread_mutex_lock(&w.lock);
    hk_capture_status(w.c, &s);
    pthread_mutex_unlock(&w.lock);
    CHECK(hk_ring_reader_init(r, w.ring, w.ring_bytes, &w.super.group_id,
                              hk_history_last(&w.super.history), s.tail, s.tail_lsn.v) == 0,
          "the ring is not one of ours");
}

/* Each reader reads alone; the first also releases what both have seen. */
static void *read_on(void *arg)
{
    unsigned index = *(const unsigned *)arg;
    struct hk_ring_reader r;
    struct hk_lsn produced;
    const struct timespec pause = {.tv_nsec = 20000};
    bool last = false;
    unsigned idle = 0;
    uint64_t at;
    int n;

    start_reader(&r);
    at = r.tail_lsn;
    while (!last) {
        last = idle % 64 == 63 && all_ended();
        n = hk_ring_reader_poll(&r, UINT32_MAX, &produced);
        CHECK(n >= 0, "a record that cannot be, after LSN %llu", (unsigned long long)at);
        while (at < produced.v) {
            at = check_record(&r, at, index == 0 ? w.replica : NULL);
            if (index == 0)
                __atomic_store_n(&w.shared->records, w.shared->records + 1, __ATOMIC_RELAXED);
        }
        /* Its own, before anybody may report it: what was reported is the producers' again. */
        if (index > 0)
            hk_ring_reader_release(&r, HK_LSN(at));
        __atomic_store_n(&w.shared->at[index], at, __ATOMIC_RELEASE);
        if (index == 0)
            release(&r);
        idle = n > 0 ? 0 : idle + 1;
        if (idle > 200) /* a while of looking without a pause, for that is where races are */
            nanosleep(&pause, NULL);
    }
    return NULL;
}

/* ---- the world ---- */

static void *shared_memory(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(at != MAP_FAILED, "no memory");
    return at;
}

static void take_over(enum hk_start start)
{
    const struct hk_capture_cfg cfg = {.mode = HK_MODE_ASYNC,
                                       .on_link_loss = HK_LINK_LOSS_BLOCK,
                                       .contact_timeout_ns = 600000000000,
                                       .pace_bound_ns = 600000000000,
                                       .volume_count = 1,
                                       .volume_bytes = {VOLUME}};
    struct hk_capture_meta m;
    struct hk_now t = now();
    struct hk_capture_status s;
    int rc = hk_capture_init(w.c, &cfg, w.ring, start, &w.super, &t);

    CHECK(rc == 0, "a ring that was left behind is not sound (%d)", rc);
    while (hk_capture_meta(w.c, &m)) {
        CHECK(hk_super_decode(m.data, &w.super) == HK_SUPER_OK, "no superblock");
        hk_capture_meta_done(w.c, 0, &t);
    }
    w.lease = hk_capture_attach(w.c, &t);
    hk_capture_status(w.c, &s);
    for (unsigned i = 0; i < READERS; i++)
        w.shared->at[i] = hk_max_u64(w.shared->at[i], s.tail_lsn.v);
}

static void unmake_world(void)
{
    munmap(w.ring, w.ring_bytes);
    munmap(w.shared, sizeof(*w.shared));
    munmap(w.origin, VOLUME);
    munmap(w.replica, VOLUME);
    pthread_mutex_destroy(&w.lock);
    free(w.c);
}

static void make_world(uint32_t slots)
{
    struct hk_super_create create = {.group_name = "g",
                                     .volume_count = 1,
                                     .volume = {{.name = "v", .bytes = VOLUME}},
                                     .assume_equal = true};

    memset(&create.group_id, 1, 16);
    memset(&create.site_id, 2, 16);
    memset(&create.replica_id, 3, 16);
    memset(&create.epoch_id, 4, 16);
    CHECK(hk_super_create(&create, &w.super) == 0, "no superblock");
    pthread_mutex_init(&w.lock, NULL);
    w.slots = slots;
    w.payload_bytes = HK_RING_PAYLOAD_MIN + (uint64_t)slots * HK_PAGE_BYTES;
    w.ring_bytes = hk_ring_total_bytes(slots, w.payload_bytes);
    w.ring = shared_memory(w.ring_bytes);
    w.shared = shared_memory(sizeof(*w.shared));
    w.origin = shared_memory(VOLUME);
    w.replica = shared_memory(VOLUME);
    w.c = aligned_alloc(4096, hk_round_up(hk_capture_bytes(), 4096));
    CHECK(hk_ring_format(w.ring, w.ring_bytes, slots, w.payload_bytes, &create.group_id,
                         &create.epoch_id) == 0,
          "no ring");
}

static uint64_t ms_of(struct hk_now t)
{
    return t.mono_ns / 1000000;
}

/* For so long, and until so many records went through, but not for ever. */
static void run(unsigned ms, uint64_t records)
{
    static const unsigned index[PRODUCERS] = {0, 1, 2, 3};
    pthread_t producer[PRODUCERS], reader[READERS];
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t began = ms_of(now());
    union {
        const unsigned *in;
        void *out;
    } u;

    w.running = PRODUCERS;
    w.end = false;
    for (unsigned i = 0; i < PRODUCERS + READERS; i++) {
        pthread_t *t = i < PRODUCERS ? &producer[i] : &reader[i - PRODUCERS];

        u.in = &index[i < PRODUCERS ? i : i - PRODUCERS];
        CHECK(pthread_create(t, NULL, i < PRODUCERS ? produce : read_on, u.out) == 0, "no thread");
    }
    while (ms_of(now()) < began + 30000 &&
           (ms_of(now()) < began + ms ||
            __atomic_load_n(&w.shared->records, __ATOMIC_RELAXED) < records))
        nanosleep(&pause, NULL);
    __atomic_store_n(&w.end, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(producer[i], NULL);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(reader[i], NULL);
}

static void test_threads(unsigned ms, uint32_t slots)
{
    struct hk_capture_status s;

    make_world(slots);
    take_over(HK_START_NEW_RING);
    run(ms, 4ull * slots);
    hk_capture_status(w.c, &s);
    CHECK(s.produced.v == w.shared->at[0] && w.shared->at[0] == w.shared->at[1],
          "the readers did not see everything");
    CHECK(memcmp(w.origin, w.replica, VOLUME) == 0, "the origin is not what the log says");
    CHECK(w.shared->records >= s.writes, "%llu writes, %llu records seen",
          (unsigned long long)s.writes, (unsigned long long)w.shared->records);
    printf("# %u slots: %llu records, every slot used %llu times, the payload ring %llu times\n",
           slots, (unsigned long long)w.shared->records,
           (unsigned long long)w.shared->records / slots,
           (unsigned long long)s.bytes / w.payload_bytes);
    CHECK(VERDICT_BUG || w.shared->records >= 4ull * slots, "hardly anything happened");
    unmake_world();
}

/* ---- crash ---- */

/* Takes over, redoes. Returns how many records. */
static unsigned succeed(void)
{
    struct hk_capture_status s;
    struct hk_now t = now();
    struct hk_redo redo;
    unsigned redone = 0;

    take_over(HK_START_OLD_RING);
    while (hk_capture_redo_next(w.c, &redo)) {
        CHECK(payload_is(redo.payload, redo.record.payload_len, redo.record.lsn),
              "a record to be redone is not what was published");
        memcpy(w.origin + redo.record.offset, redo.payload, redo.record.payload_len);
        hk_capture_redo_done(w.c, 0, &t);
        redone++;
    }
    hk_capture_tick(w.c, &t);
    hk_capture_status(w.c, &s);
    CHECK(s.produced.v >= w.shared->given, "an LSN that was given out would be given again");
    return redone;
}

/* The rest of the log, from where the first reader stood. Returns how many records are void. */
static unsigned judge_log(void)
{
    struct hk_ring_reader r;
    struct hk_record h;
    struct hk_lsn produced;
    unsigned voids = 0;
    uint64_t at;

    start_reader(&r);
    CHECK(hk_ring_reader_poll(&r, UINT32_MAX, &produced) >= 0, "a record that cannot be");
    for (unsigned i = 0; i < READERS; i++)
        CHECK(w.shared->at[i] <= produced.v, "a reader had seen more than there is");
    for (unsigned i = 0; i < PRODUCERS; i++) {
        uint64_t lsn = w.shared->published[i];

        CHECK(lsn < r.tail_lsn || (hk_ring_reader_header_at(&r, HK_LSN(lsn), &h) == 0 &&
                                   h.lsn == lsn && h.type == HK_REC_WRITE),
              "a published write is not in the log any more");
    }
    for (at = w.shared->at[0]; at < produced.v; w.shared->records++) {
        CHECK(hk_ring_reader_header_at(&r, HK_LSN(at), &h) == 0, "a hole in the log");
        voids += h.type == HK_REC_VOID;
        at = check_record(&r, at, w.replica);
    }
    CHECK(memcmp(w.origin, w.replica, VOLUME) == 0, "the origin is not what the log says");
    for (unsigned i = 0; i < READERS; i++)
        w.shared->at[i] = produced.v;
    release(&r);
    return voids;
}

static void test_crash(unsigned ms)
{
    uint64_t seed = 77, until = ms_of(now()) + ms;
    unsigned crashes = 0, redone = 0, voids = 0;

    make_world(HK_RING_SLOTS_MIN);
    take_over(HK_START_NEW_RING);
    while (ms_of(now()) < until) {
        struct timespec life = {.tv_nsec = (long)(random_word(&seed) % 1500000)};
        int status;
        pid_t pid = fork();

        CHECK(pid >= 0, "no child");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run(10000, 0);
            _exit(0);
        }
        nanosleep(&life, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        if (WIFEXITED(status)) /* it has said why */
            _exit(WEXITSTATUS(status));
        redone += succeed();
        voids += judge_log();
        crashes++;
    }
    printf("# %u crashes, %u records redone, %u void, %llu in all\n", crashes, redone, voids,
           (unsigned long long)w.shared->records);
    CHECK(VERDICT_BUG || (crashes > 20 && redone > 0 && voids > 0), "hardly anything happened");
    unmake_world();
}

int main(int argc, char **argv)
{
    unsigned ms = argc > 1 ? (unsigned)atoi(argv[1]) : 4000;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!UNDER_TSAN)
        test_crash(ms);
    test_threads(ms / 2, HK_RING_SLOTS_MIN);
    test_threads(ms, 256 * HK_RING_SLOTS_MIN);
    return verdict_end("ring_litmus");
}
