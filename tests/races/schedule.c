/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the order in which threads go on, the ring and the plugin's engine keep what they
 * promise.
 *
 * Method: the plugin's own engine, its service and metadata threads, clients and a replicator run
 * as fibers (fiber.h); a seed draws the world (mode, policy, T, clients, requests) and every switch
 * from one to another: at each named step (proto/at.h), each lock, wake-up and half of a copy. The
 * replicator delays, falls silent, comes anew, takes its own lease away. Every other seed has a
 * crash after a random step: everybody is forgotten where he stood, and a successor takes over. At
 * the end and after a crash:
 *
 *   the log       whole, chained, each write's content as it was given, none twice (standby.c)
 *   order         a write that began after another had ended has the larger LSN (I3); overlapping
 *                 ones reached the origin in the log's order, for origin and standby are equal (I4)
 *   sync          when a write is acknowledged the standby has it, or the superblock on the disk
 *                 says degraded or full compare required (I9)
 *   counters      requests, records and the core's own counts agree; the ring is empty
 *   progress      nobody waits for ever, and whoever sleeps is woken
 *
 *   schedule [--seeds N] [--first F] [--seconds S] [--seed X]
 *
 * The same seed gives the same schedule: every hundredth runs twice, and the hash of who ran when
 * must be equal. Seen failing on overlap, slot_too_soon, lsn_first, head_first, done_early,
 * submit_first, degraded_early, controls_unsaid.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "tests/races/engine_fibers.h"
#include "tests/races/fiber.h"
#include "tests/races/nbdkit_shim.h"
#include "tests/races/standby.h"
#include "tests/races/verdict.h"

enum {
    SEEDS_MIN = 1000,
    CLIENTS_MAX = 5,
    REQUESTS_MAX = 12,
    NOTES = 2 * CLIENTS_MAX * REQUESTS_MAX
};

struct note {              /* of a write; its content is its index */
    uint64_t begun, ended; /* steps; 0: not yet */
};

static struct run {
    uint64_t seed;
    struct life_site site;
    struct standby standby;
    struct hk_engine *engine;
    bool own_degrade; /* T is short, and the replicator falls silent for longer */
    unsigned clients, requests;
    unsigned working; /* clients that are not done */
    bool ended;       /* the life has stopped in order */
    bool crashes;
    uint64_t crash_step;
    uint64_t data, bytes; /* of the requests of this life */
    struct note note[NOTES + 1];
    unsigned notes;
} run;

static struct {
    unsigned seeds, crashes, lives, requests, lost, degraded, dozes;
    uint64_t steps;
} total;

#define WANT(condition, what) CHECK(condition, "seed %llu: %s", (unsigned long long)run.seed, what)

void hk_assert_fail(const char *expr, const char *file, int line)
{
    verdict("seed %llu: assertion failed: %s (%s:%d)", (unsigned long long)run.seed, expr, file,
            line);
}

static uint64_t draw(uint64_t n)
{
    return fiber_random() % n;
}

static void sleep_us(unsigned us)
{
    const struct timespec pause = {.tv_nsec = us * 1000};

    __wrap_nanosleep(&pause, NULL);
}

/* ---- clients ---- */

/* Of the superblock on the disk. */
static uint32_t durable_flags(void)
{
    static uint8_t slots[2 * HK_SUPER_BYTES];
    static struct hk_super super;
    int fd = open(run.site.conf.metadata, O_RDONLY | O_CLOEXEC);

    WANT(fd >= 0 && pread(fd, slots, sizeof(slots), 0) == sizeof(slots), "no metadata");
    close(fd);
    WANT(hk_super_pick(slots, slots + HK_SUPER_BYTES, &super, NULL) == 0, "no whole superblock");
    return super.flags;
}

static void acknowledged(unsigned version)
{
    if (run.site.conf.mode == HK_MODE_ASYNC || run.standby.seen[version] == 1)
        return;
    WANT(durable_flags() & (HK_SF_DEGRADED | HK_SF_FULL_COMPARE),
         "acknowledged, but the standby does not have it");
    total.degraded++;
}

static void one_request(void)
{
    static const uint8_t types[] = {HK_REC_WRITE,   HK_REC_WRITE, HK_REC_WRITE, HK_REC_WRITE,
                                    HK_REC_DISCARD, HK_REC_FLUSH, HK_REC_ZEROES};
    uint8_t type = types[draw(HK_ARRAY_SIZE(types))];
    uint32_t count = 1 + (uint32_t)draw(2);
    uint64_t offset = draw(6) * BLOCK, version = 0;
    uint16_t volume = (uint16_t)draw(VOLUMES);
    uint8_t data[2 * BLOCK];
    int rc;

    total.requests++;
    if (draw(8) == 0) {
        rc = hk_engine_read(run.engine, volume, data, count * BLOCK, offset);
        WANT(rc == 0, "a read failed");
        return;
    }
    if (type == HK_REC_FLUSH) {
        rc = hk_engine_request(run.engine, volume, type, 0, 0, 0, NULL);
        WANT(rc == 0, "a flush failed");
        return;
    }
    if (type == HK_REC_WRITE)
        version = ++run.notes;
    for (unsigned i = 0; i < count * BLOCK; i += 8)
        __real_memcpy(data + i, &version, 8);
    run.data++;
    run.bytes += count * BLOCK;
    run.note[version].begun = fiber_steps();
    rc = hk_engine_request(run.engine, volume, type, draw(4) ? 0 : HK_REC_FUA, offset,
                           count * BLOCK, type == HK_REC_WRITE ? data : NULL);
    WANT(rc == 0, "a request failed");
    run.note[version].ended = fiber_steps();
    if (version)
        acknowledged((unsigned)version);
}

static void *client_main(void *arg)
{
    for (unsigned i = 0; i < run.requests; i++)
        one_request();
    run.working--;
    return NULL;
}

static bool all_idle(void *arg)
{
    return run.working == 0;
}

/* ---- the replicator ---- */

static void must(const char *wrong)
{
    WANT(!wrong, wrong ? wrong : "");
}

static bool has_event(void *arg)
{
    struct pollfd p = {.fd = hk_capture_client_fd(run.standby.client), .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

/* As the replicator's reactor does: arm, look, sleep, disarm. */
static void doze(struct hk_capture_client *c)
{
    bool woken = true;

    if (!hk_capture_client_arm(c)) {
        woken = fiber_wait(has_event, NULL, fiber_now_ns() + 20000000);
        total.dozes++;
    }
    hk_capture_client_disarm(c);
    if (!woken)
        WANT(!hk_capture_client_arm(c), "a record was published, and the replicator not woken");
    hk_capture_client_disarm(c);
}

static void *replicator_main(void *arg)
{
    struct standby *b = &run.standby;
    unsigned silent = 0;

    must(standby_meet(b));
    for (;;) {
        b->mute = silent > 0;
        must(standby_poll(b));
        fiber_yield();
        if (silent > 0)
            silent = run.working ? silent - 1 : 0;
        else if (draw(40) == 0 && run.working)
            silent = run.own_degrade ? 120 : 10;
        if (draw(60) == 0)
            must(standby_meet(b)); /* killed, and another comes */
        if (silent > 0 && draw(2))
            sleep_us(1000);
        else if (draw(2))
            doze(b->client);
    }
    return NULL;
}

/* ---- a life ---- */

static void check_counters(void)
{
    struct hk_capture_status s;

    hk_capture_status(run.engine->capture, &s);
    WANT(s.writes + s.uncaptured == run.data, "requests were lost or counted twice");
    WANT(s.uncaptured > 0 || s.bytes == run.bytes, "the bytes were miscounted");
    WANT(s.waiting == 0 && s.held == 0 && s.origin_errors == 0, "somebody was left waiting");
    if (!(s.super.flags & HK_SF_FULL_COMPARE)) {
        WANT(s.super.flags & HK_SF_CLEAN, "it did not stop cleanly");
        WANT(s.produced.v == run.standby.lsn, "the standby does not have everything");
        WANT(s.slots_used == 0 || s.released.v < s.produced.v, "slots are kept for nobody");
    }
}

/* A degraded group stops without waiting for its standby; so it gets the time to come back. */
static bool is_well(void)
{
    struct hk_capture_status s;

    pthread_mutex_lock(&run.engine->lock);
    hk_capture_status(run.engine->capture, &s);
    pthread_mutex_unlock(&run.engine->lock);
    return s.super.flags & HK_SF_FULL_COMPARE ||
           (s.durable.v >= s.produced.v && s.state != HK_STATE_DEGRADED);
}

static void *life_main(void *arg)
{
    WANT(hk_engine_start(run.engine) == 0, "the engine did not start");
    run.working = run.clients;
    WANT(fiber_spawn(replicator_main, NULL) >= 0, "too many fibers");
    for (unsigned i = 0; i < run.clients; i++)
        WANT(fiber_spawn(client_main, NULL) >= 0, "too many fibers");
    fiber_wait(all_idle, NULL, UINT64_MAX);
    while (!is_well())
        sleep_us(500);
    shim_quit();
    hk_engine_stop(run.engine);
    check_counters();
    run.ended = true;
    return NULL;
}

static bool over(void)
{
    WANT(fiber_now_ns() < 1060000000000, "no end in sight");
    return run.ended || (run.crashes && fiber_steps() >= run.crash_step);
}

/* One capture process; true: it crashed. */
static bool live(uint64_t seed)
{
    struct hk_capture_status s;
    bool went_on;

    fiber_reset(seed);
    engine_fibers_reset();
    shim_again();
    run.engine = NULL;
    run.ended = false;
    run.data = run.bytes = 0;
    WANT(hk_engine_open(&run.site.conf, &run.engine) == 0, "a successor did not start");
    hk_capture_status(run.engine->capture, &s);
    WANT(run.own_degrade || !(s.super.flags & HK_SF_FULL_COMPARE),
         "full compare is required for no reason");
    WANT(fiber_spawn(life_main, NULL) >= 0, "no fiber");
    went_on = fiber_run(over);
    WANT(went_on, "everybody waits for ever");
    total.steps += fiber_steps();
    total.lives++;
    hk_engine_free(run.engine);
    must(standby_part(&run.standby));
    return !run.ended;
}

static void judge_order(void)
{
    const struct standby *b = &run.standby;

    for (unsigned i = 1; i <= run.notes; i++) {
        for (unsigned k = 1; k <= run.notes && run.note[i].ended && b->lsn_of[i]; k++) {
            if (run.note[k].begun > run.note[i].ended && b->lsn_of[k])
                WANT(b->lsn_of[k] > b->lsn_of[i], "a later write has the smaller LSN");
        }
    }
}

static void judge_equal(void)
{
    static uint8_t image[VOLUME_BYTES];
    const struct standby *b = &run.standby;

    for (unsigned i = 1; i <= run.notes; i++)
        WANT(!run.note[i].ended || b->seen[i] == 1, "an acknowledged write has no record");
    for (unsigned v = 0; v < VOLUMES; v++) {
        int fd = open(run.site.conf.volume[v].origin, O_RDONLY | O_CLOEXEC);

        WANT(fd >= 0 && pread(fd, image, VOLUME_BYTES, 0) == VOLUME_BYTES, "no origin");
        close(fd);
        WANT(memcmp(image, b->image[v], VOLUME_BYTES) == 0, "origin and standby differ");
    }
}

static void draw_world(uint64_t seed)
{
    struct hk_nbd_conf *c = &run.site.conf;

    fiber_reset(seed);
    run.seed = seed;
    run.notes = 0;
    memset(run.note, 0, sizeof(run.note));
    c->mode = (enum hk_mode)(HK_MODE_ASYNC + draw(3));
    run.own_degrade = draw(4) == 0;
    c->on_link_loss = run.own_degrade ? HK_LINK_LOSS_CONTINUE : HK_LINK_LOSS_BLOCK;
    c->contact_timeout_ns = run.own_degrade ? 30000000 : 5000000000;
    c->pace_bound_ns = 5000000000;
    run.clients = 2 + (unsigned)draw(CLIENTS_MAX - 1);
    run.requests = 3 + (unsigned)draw(REQUESTS_MAX - 2);
    run.crashes = draw(2);
    run.crash_step = 1 + draw(400 * run.clients);
}

/* Returns the hash of the schedule. */
static uint64_t run_seed(uint64_t seed)
{
    uint64_t trace;

    site_make(&run.site);
    standby_make(&run.standby, &run.site);
    draw_world(seed);
    if (live(seed ^ 1)) {
        total.crashes++;
        run.crashes = false;
        judge_order();
        /* Steps are counted anew; what had ended, ended before. */
        for (unsigned i = 0; i <= NOTES; i++) {
            run.note[i].begun = 0;
            run.note[i].ended = run.note[i].ended ? 1 : 0;
        }
        live(seed ^ 2);
    }
    trace = fiber_trace();
    judge_order();
    if (durable_flags() & HK_SF_FULL_COMPARE)
        total.lost++;
    else
        judge_equal();
    standby_free(&run.standby);
    site_destroy(&run.site);
    total.seeds++;
    return trace;
}

static void clean_up(void)
{
    if (run.site.ledger)
        site_destroy(&run.site);
}

static uint64_t real_ms(void)
{
    struct timespec t;

    __real_clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct plan {
    uint64_t first, seeds, only;
    uint64_t seconds;
};

static void parse(int argc, char **argv, struct plan *p)
{
    static const struct option options[] = {{"seeds", 1, NULL, 'n'},
                                            {"first", 1, NULL, 'f'},
                                            {"seconds", 1, NULL, 's'},
                                            {"seed", 1, NULL, 'x'},
                                            {NULL, 0, NULL, 0}};
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) > 0) {
        uint64_t value = strtoull(optarg ? optarg : "0", NULL, 0);

        switch (opt) {
        case 'n': p->seeds = value; break;
        case 'f': p->first = value; break;
        case 's': p->seconds = value; break;
        case 'x': p->only = value; break;
        default: exit(2);
        }
    }
}

static void say_totals(const struct plan *p)
{
    static const char *const name[] = {
#define NAME(n) #n,
        HK_AT_STEPS(NAME)
#undef NAME
    };

    printf("# seeds from %llu: %u schedules, %u crashes, %u lives, %u requests, %llu switches\n",
           (unsigned long long)p->first, total.seeds, total.crashes, total.lives, total.requests,
           (unsigned long long)total.steps);
    printf("# %u acknowledged degraded, %u ended with full compare required, %u dozes\n",
           total.degraded, total.lost, total.dozes);
    for (int i = 0; i < HK_AT_STEP_COUNT; i++) {
        printf("# %-15s %llu\n", name[i], (unsigned long long)steps_at[i]);
        CHECK(VERDICT_BUG || p->only || total.seeds < 200 || steps_at[i] > 0,
              "nobody ever came to %s", name[i]);
    }
}

int main(int argc, char **argv)
{
    struct plan p = {.first = 1, .seeds = 3000, .seconds = 15};
    uint64_t end_ms;

    setvbuf(stdout, NULL, _IOLBF, 0);
    verdict_clean_up = clean_up;
    parse(argc, argv, &p);
    end_ms = real_ms() + p.seconds * 1000;
    if (p.only) {
        printf("# seed %llu: schedule %016llx\n", (unsigned long long)p.only,
               (unsigned long long)run_seed(p.only));
        p.seeds = 0;
    }
    for (uint64_t i = 0; i < p.seeds && (i < SEEDS_MIN || real_ms() < end_ms); i++) {
        uint64_t trace = run_seed(p.first + i);

        if (i % 100 == 0)
            WANT(run_seed(p.first + i) == trace, "the same seed went another way");
    }
    say_totals(&p);
    return verdict_end("schedule");
}
