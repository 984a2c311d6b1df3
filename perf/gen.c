/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for the benchmarks: the capture side's engine in this process, without NBD in the way, with
 * THREADS writers. Prints one JSON object: bytes, seconds, CPU seconds, latency percentiles.
 *
 *   hk-gen --group FILE --site FILE [--threads N] [--bytes SIZE] [--seconds S] [--warmup S]
 * [--total B]
 *
 * The clock starts after the warm-up and stops when everything written is durable at the standby
 * (`durable` of the ring's producer page), so throughput is ring → durable, not ring alone.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <nbdkit-plugin.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "driver-glue/nbd/engine.h"

enum { THREADS_MAX = 64, SAMPLES_MAX = 1 << 20 };

/* The engine says things through nbdkit; here they go to standard error. */
void nbdkit_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void nbdkit_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "hk-gen: ");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void nbdkit_debug(const char *fmt, ...) {}

/* The engine's way to hear that the process is to end: here, once the measurement is over. */
static pthread_mutex_t quit_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t quit_cond = PTHREAD_COND_INITIALIZER;
static bool quit;

int nbdkit_nanosleep(unsigned seconds, unsigned nanoseconds)
{
    pthread_mutex_lock(&quit_lock);
    while (!quit)
        pthread_cond_wait(&quit_cond, &quit_lock);
    pthread_mutex_unlock(&quit_lock);
    return -1;
}

static void tell_quit(void)
{
    pthread_mutex_lock(&quit_lock);
    quit = true;
    pthread_cond_signal(&quit_cond);
    pthread_mutex_unlock(&quit_lock);
}

struct gen {
    struct hk_engine *engine;
    uint32_t threads, bytes, volume_blocks;
    uint64_t total;
    double seconds, warmup;
    _Atomic bool stop, measuring;
    _Atomic uint64_t ops;
    uint32_t *sample_us;
    _Atomic uint32_t samples;
};

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void *writer(void *arg)
{
    struct gen *g = arg;
    static _Atomic uint64_t seeds = 88172645463325252u;
    uint64_t rng = atomic_fetch_add(&seeds, 0x9e3779b97f4a7c15u) | 1, t0, us;
    uint8_t *data = aligned_alloc(4096, g->bytes);
    uint32_t i, at;

    if (!data)
        return NULL;
    for (i = 0; i + 8 <= g->bytes; i += 8)
        memcpy(data + i, &(uint64_t){next_random(&rng)}, 8);
    while (!atomic_load_explicit(&g->stop, memory_order_relaxed)) {
        t0 = now_ns();
        if (hk_engine_request(g->engine, 0, HK_REC_WRITE, 0,
                              next_random(&rng) % g->volume_blocks * g->bytes, g->bytes, data)) {
            fprintf(stderr, "hk-gen: a write failed\n");
            atomic_store(&g->stop, true);
            break;
        }
        us = (now_ns() - t0) / 1000;
        if (!atomic_load_explicit(&g->measuring, memory_order_relaxed))
            continue;
        atomic_fetch_add_explicit(&g->ops, 1, memory_order_relaxed);
        at = atomic_fetch_add_explicit(&g->samples, 1, memory_order_relaxed);
        if (at < SAMPLES_MAX)
            g->sample_us[at] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    }
    free(data);
    return NULL;
}

static const struct hk_ring_producer *producer_page(const struct gen *g)
{
    return (const void *)((const uint8_t *)g->engine->ring + HK_PAGE_BYTES);
}

static uint64_t durable_of(const struct gen *g)
{
    return __atomic_load_n(&producer_page(g)->durable, __ATOMIC_ACQUIRE);
}

static uint64_t produced_of(const struct gen *g)
{
    return __atomic_load_n(&producer_page(g)->next_lsn, __ATOMIC_ACQUIRE);
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static int measure(struct gen *g)
{
    pthread_t t[THREADS_MAX];
    uint64_t begin, end, from, upto, deadline;
    double cpu;
    uint32_t i, n;

    for (i = 0; i < g->threads; i++)
        pthread_create(&t[i], NULL, writer, g);
    usleep((useconds_t)(g->warmup * 1e6));
    begin = now_ns();
    from = durable_of(g);
    cpu = cpu_s();
    atomic_store(&g->measuring, true);
    while (!atomic_load(&g->stop) && (double)(now_ns() - begin) < g->seconds * 1e9 &&
           (!g->total || produced_of(g) - from < g->total))
        usleep(1000);
    atomic_store(&g->stop, true);
    for (i = 0; i < g->threads; i++)
        pthread_join(t[i], NULL);
    upto = produced_of(g);
    deadline = now_ns() + 30000000000u;
    while (durable_of(g) < upto && now_ns() < deadline)
        usleep(200);
    end = now_ns();
    cpu = cpu_s() - cpu;
    if (durable_of(g) < upto) {
        fprintf(stderr, "hk-gen: the standby does not follow: durable %" PRIu64 " of %" PRIu64 "\n",
                durable_of(g), upto);
        return 1;
    }
    n = atomic_load(&g->samples);
    n = n > SAMPLES_MAX ? SAMPLES_MAX : n;
    qsort(g->sample_us, n, sizeof(*g->sample_us), by_value);
    printf("{\"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"ops\": %" PRIu64
           ", \"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u}\n",
           upto - from, (double)(end - begin) / 1e9, cpu, atomic_load(&g->ops),
           n ? g->sample_us[n / 2] : 0, n ? g->sample_us[(uint64_t)n * 99 / 100] : 0,
           n ? g->sample_us[(uint64_t)n * 999 / 1000] : 0);
    return 0;
}

/* Served, replicated, and nothing of an earlier life is left to send. */
static bool ready(const struct gen *g)
{
    struct hk_capture_status s;

    pthread_mutex_lock(&g->engine->lock);
    hk_capture_status(g->engine->capture, &s);
    pthread_mutex_unlock(&g->engine->lock);
    return !s.barred && s.attached && s.state == HK_STATE_REPLICATING && s.durable.v > 0 &&
           s.durable.v >= s.produced.v;
}

static int wait_for_standby(struct gen *g)
{
    uint64_t deadline = now_ns() + 30000000000u;

    while (!ready(g)) {
        if (now_ns() > deadline) {
            fprintf(stderr, "hk-gen: no standby within 30 s\n");
            return 1;
        }
        usleep(20000);
    }
    return 0;
}

static int run(struct gen *g, const char *group, const char *site)
{
    char text[HK_NBD_TEXT_BYTES];
    struct hk_nbd_conf *conf = calloc(1, sizeof(*conf));
    int r = 1;

    if (!conf || hk_nbd_conf_read(group, site, conf, text)) {
        fprintf(stderr, "hk-gen: %s\n", conf ? text : "out of memory");
        free(conf);
        return 1;
    }
    g->volume_blocks = (uint32_t)(conf->volume[0].bytes / g->bytes);
    g->sample_us = calloc(SAMPLES_MAX, sizeof(*g->sample_us));
    if (g->sample_us && !hk_engine_open(conf, &g->engine)) {
        if (!hk_engine_start(g->engine)) {
            r = wait_for_standby(g) || measure(g);
            tell_quit();
            hk_engine_stop(g->engine);
        }
        hk_engine_free(g->engine);
    }
    free(g->sample_us);
    free(conf);
    return r;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"group", 1, NULL, 'g'}, {"site", 1, NULL, 's'},    {"threads", 1, NULL, 't'},
        {"bytes", 1, NULL, 'b'}, {"seconds", 1, NULL, 'S'}, {"warmup", 1, NULL, 'w'},
        {"total", 1, NULL, 'T'}, {NULL, 0, NULL, 0},
    };
    static struct gen g = {.threads = 1, .bytes = 4096, .seconds = 3, .warmup = 0.5};
    const char *group = NULL, *site = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'g': group = optarg; break;
        case 's': site = optarg; break;
        case 't': g.threads = (uint32_t)atoi(optarg); break;
        case 'b': g.bytes = (uint32_t)atoi(optarg); break;
        case 'S': g.seconds = atof(optarg); break;
        case 'w': g.warmup = atof(optarg); break;
        case 'T': g.total = strtoull(optarg, NULL, 10); break;
        default: return 1;
        }
    }
    if (!group || !site || !g.threads || g.threads > THREADS_MAX || g.bytes < 512 ||
        g.bytes > HK_PAYLOAD_BYTES_MAX) {
        fprintf(stderr,
                "usage: hk-gen --group FILE --site FILE [--threads 1..%d] [--bytes B] "
                "[--seconds S] [--warmup S] [--total B]\n",
                THREADS_MAX);
        return 1;
    }
    return run(&g, group, site);
}
