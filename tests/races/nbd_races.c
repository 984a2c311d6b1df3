/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no data race in the plugin, whatever its clients and replicators do at the same time.
 *
 * Method: the plugin in nbdkit, built for and preloaded with the sanitizer of this build. Clients
 * on connections of their own read, write, zero, discard and flush, with FUA and without, and come
 * and go; meanwhile replicators attach, are killed, detach in order, take each other's lease,
 * insert marks, and for a while acknowledge nothing, so that writes are held, degrade and come
 * back. Each client finds what it wrote. A sanitizer's report in the plugin's log is a failure;
 * with HK_EXPECT_REPORT it must be there (a plugin that has a bug compiled in).
 */
#include "tests/unit/nbd_site.h"

#include <pthread.h>

enum { CLIENTS = 4, AREA = BLOCKS / CLIENTS, RUN_MS = 5000 };

struct client {
    pthread_t thread;
    const struct site *site;
    unsigned index;
    bool *end;
    uint64_t seed, done, opened;
    const char *wrong;
    uint64_t word[AREA]; /* what each of its blocks holds */
};

static bool holds(const uint8_t *block, uint64_t word)
{
    for (unsigned i = 0; i < BLOCK; i += 8) {
        if (memcmp(block + i, &word, 8) != 0)
            return false;
    }
    return true;
}

/* One request; -1: it failed, 0: what was read is wrong. */
static int one_request(struct client *c, struct nbd_handle *h)
{
    unsigned i = (unsigned)(unit_random(&c->seed) % AREA);
    uint64_t at = (uint64_t)(c->index * AREA + i) * BLOCK, word = unit_random(&c->seed);
    uint32_t fua = word % 4 == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
    uint8_t block[BLOCK];

    switch (word / 8 % 8) {
    case 0: return nbd_flush(h, 0) ? -1 : 1;
    case 1: c->word[i] = 0; return nbd_zero(h, BLOCK, at, fua) ? -1 : 1;
    case 2: c->word[i] = 0; return nbd_trim(h, BLOCK, at, fua) ? -1 : 1;
    case 3:
    case 4:
        if (nbd_pread(h, block, BLOCK, at, 0))
            return -1;
        return holds(block, c->word[i]);
    default: break;
    }
    for (unsigned b = 0; b < BLOCK; b += 8)
        memcpy(block + b, &word, 8);
    c->word[i] = word;
    return nbd_pwrite(h, block, BLOCK, at, fua) ? -1 : 1;
}

static void *client_main(void *arg)
{
    struct client *c = arg;

    while (!__atomic_load_n(c->end, __ATOMIC_RELAXED) && !c->wrong) {
        struct nbd_handle *h = connect_to(c->site, c->index % 2 ? "wal" : "data");
        unsigned turns = 200 + (unsigned)(unit_random(&c->seed) % 400);

        c->opened++;
        for (; turns && !__atomic_load_n(c->end, __ATOMIC_RELAXED) && !c->wrong; turns--) {
            int rc = one_request(c, h);

            if (rc < 0)
                c->wrong = "a request failed";
            if (rc == 0)
                c->wrong = "what was read is not what was written";
            c->done++;
        }
        nbd_close(h);
    }
    return NULL;
}

/* What happens to the replicators, again and again. */
static void replicators(struct site *s)
{
    struct site other = *s; /* the same group, another process */
    uint64_t until = now_ms() + RUN_MS;

    other.consumer = 0;
    for (unsigned turn = 0; now_ms() < until; turn++) {
        switch (turn % 5) {
        case 0: /* killed, and back */
            end(&s->consumer, SIGKILL);
            start_consumer(s, "--delay-us", "500");
            pause_ms(150);
            break;
        case 1: /* two of them take each other's lease */
            start_consumer(&other, NULL, NULL);
            pause_ms(250);
            end(&other.consumer, SIGTERM);
            break;
        case 2: /* detached in order, nobody there, another with a mark */
            end(&s->consumer, SIGTERM);
            pause_ms(100);
            start_consumer(s, "--mark", "nightly");
            pause_ms(150);
            break;
        case 3: /* attached, but it acknowledges nothing: held, degraded */
            end(&s->consumer, SIGKILL);
            start_consumer(s, "--no-ack", NULL);
            pause_ms(500);
            break;
        default:
            end(&s->consumer, SIGKILL);
            start_consumer(s, NULL, NULL);
            pause_ms(400);
        }
    }
    end(&s->consumer, SIGKILL);
    start_consumer(s, NULL, NULL);
}

static void test_everything_at_once(void **state)
{
    bool ended = false, reported;
    struct client *c = calloc(CLIENTS, sizeof(*c));
    struct site s;
    uint64_t done = 0, opened = 0;

    make(&s, "sync", "continue", 300);
    start_plugin(&s);
    start_consumer(&s, NULL, NULL);
    for (unsigned i = 0; i < CLIENTS; i++) {
        c[i].site = &s;
        c[i].index = i;
        c[i].end = &ended;
        c[i].seed = i + 1;
        assert_int_equal(pthread_create(&c[i].thread, NULL, client_main, &c[i]), 0);
    }
    replicators(&s);
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < CLIENTS; i++) {
        pthread_join(c[i].thread, NULL);
        if (c[i].wrong)
            fail_msg("client %u: %s", i, c[i].wrong);
        done += c[i].done;
        opened += c[i].opened;
    }
    end(&s.plugin, SIGTERM);
    printf("# %llu requests on %llu connections\n", (unsigned long long)done,
           (unsigned long long)opened);
    assert_true(done > 200);
    assert_true(logged(&s, "plugin.log", "HKE3020E")); /* it degraded */
    reported = logged(&s, "plugin.log", "ThreadSanitizer");
    if (getenv("HK_EXPECT_REPORT")) {
        assert_true(reported);
        write_file(in_dir(&s, "plugin.log"), "");
    }
    destroy(&s);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_at_once),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
