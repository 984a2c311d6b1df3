/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nbdkit plugin as a process, with real clients (libnbd) and a replicator without a link
 * (cap_consumer) that keeps an image of each volume.
 *
 * The oracle is the client's own record: for each block the version acknowledged last, and the one
 * in flight when something was killed. Whatever died: a block holds one of the two, on the origin
 * and (mode sync) in the image; and in the end images and origins are equal byte for byte.
 */
#include "tests/unit/nbd_site.h"

/* What one volume's client knows. */
struct ledger {
    uint32_t acked[BLOCKS], flying[BLOCKS]; /* versions; flying 0: none */
    uint32_t version;
};

/* Every fifth version is zeroes, so that equal contents come again and again. */
static void fill(uint32_t version, uint8_t block[BLOCK])
{
    uint64_t word = version % 5 == 0 ? 0 : version * 0x9e3779b97f4a7c15ull;

    for (unsigned i = 0; i < BLOCK; i += 8)
        memcpy(block + i, &word, 8);
}

static bool holds(const uint8_t block[BLOCK], uint32_t version)
{
    uint8_t expected[BLOCK];

    fill(version, expected);
    return memcmp(block, expected, BLOCK) == 0;
}

/* acked or flying, nothing else; with `settle` what is found is from now on what is known. */
static void judge(struct ledger *l, const uint8_t *image, bool settle)
{
    for (unsigned b = 0; b < BLOCKS; b++) {
        const uint8_t *block = image + (size_t)b * BLOCK;
        bool new = l->flying[b] && holds(block, l->flying[b]);

        assert_true(new || holds(block, l->acked[b]));
        if (!settle)
            continue;
        if (new)
            l->acked[b] = l->flying[b];
        l->flying[b] = 0;
    }
}

static void judge_file(struct ledger *l, const char *path)
{
    uint8_t *image = malloc(VOLUME_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_int_equal(read(fd, image, VOLUME_BYTES), VOLUME_BYTES);
    judge(l, image, false);
    close(fd);
    free(image);
}

static void judge_served(struct ledger *l, struct nbd_handle *h)
{
    uint8_t *image = malloc(VOLUME_BYTES);

    for (uint64_t at = 0; at < VOLUME_BYTES; at += 1 << 20)
        assert_int_equal(nbd_pread(h, image + at, 1 << 20, at, 0), 0);
    judge(l, image, true);
    free(image);
}

static void assert_equal_files(const char *a, const char *b)
{
    uint8_t *x = malloc(VOLUME_BYTES), *y = malloc(VOLUME_BYTES);
    int fx = open(a, O_RDONLY | O_CLOEXEC), fy = open(b, O_RDONLY | O_CLOEXEC);

    assert_int_equal(read(fx, x, VOLUME_BYTES), VOLUME_BYTES);
    assert_int_equal(read(fy, y, VOLUME_BYTES), VOLUME_BYTES);
    assert_int_equal(memcmp(x, y, VOLUME_BYTES), 0);
    close(fx);
    close(fy);
    free(x);
    free(y);
}

/* Up to DEPTH random changes in flight at once. */
struct writer {
    struct nbd_handle *h;
    struct ledger *l;
    uint64_t seed, done;
    struct {
        int64_t cookie; /* 0: free */
        unsigned block;
        uint8_t data[BLOCK];
    } slot[DEPTH];
};

static void issue(struct writer *w, unsigned i)
{
    unsigned b = (unsigned)(unit_random(&w->seed) % BLOCKS);
    uint32_t flags = unit_random(&w->seed) % 8 == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
    uint64_t offset = (uint64_t)b * BLOCK;
    uint32_t version = ++w->l->version;

    if (w->l->flying[b])
        return;
    if (version % 5 == 0 && version % 2) {
        w->slot[i].cookie = nbd_aio_zero(w->h, BLOCK, offset, NBD_NULL_COMPLETION, flags);
    } else if (version % 5 == 0 && version % 4 == 0) {
        w->slot[i].cookie = nbd_aio_trim(w->h, BLOCK, offset, NBD_NULL_COMPLETION, flags);
    } else {
        fill(version, w->slot[i].data);
        w->slot[i].cookie =
            nbd_aio_pwrite(w->h, w->slot[i].data, BLOCK, offset, NBD_NULL_COMPLETION, flags);
    }
    if (w->slot[i].cookie <= 0) {
        w->slot[i].cookie = 0;
        w->l->flying[b] = version; /* may have left */
        return;
    }
    w->l->flying[b] = version;
    w->slot[i].block = b;
}

/* false: the connection is gone. Commands that failed stay "flying": nobody knows. */
static bool reap(struct writer *w, int timeout_ms)
{
    bool alive = nbd_poll(w->h, timeout_ms) >= 0;

    for (unsigned i = 0; i < DEPTH; i++) {
        int rc;

        if (!w->slot[i].cookie)
            continue;
        rc = nbd_aio_command_completed(w->h, (uint64_t)w->slot[i].cookie);
        if (rc == 0)
            continue;
        if (rc > 0) {
            w->l->acked[w->slot[i].block] = w->l->flying[w->slot[i].block];
            w->l->flying[w->slot[i].block] = 0;
            w->done++;
        }
        alive = alive && rc > 0;
        w->slot[i].cookie = 0;
    }
    return alive && !nbd_aio_is_dead(w->h) && !nbd_aio_is_closed(w->h);
}

static unsigned in_flight(const struct writer *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < DEPTH; i++)
        n += w->slot[i].cookie != 0;
    return n;
}

static bool work(struct writer *w, unsigned ms)
{
    uint64_t until = now_ms() + ms;
    bool alive = true;

    while (alive && now_ms() < until) {
        for (unsigned i = 0; i < DEPTH; i++) {
            if (!w->slot[i].cookie)
                issue(w, i);
        }
        alive = reap(w, 20);
    }
    return alive;
}

static void settle(struct writer *w)
{
    uint64_t until = now_ms() + 20000;

    while (in_flight(w) && now_ms() < until)
        assert_true(reap(w, 100));
    assert_int_equal(in_flight(w), 0);
}

/* Goal: an ordinary client finds what it expects of a device. */
static void test_serves(void **state)
{
    struct site s;
    struct nbd_handle *h, *wal;
    struct ledger *l = calloc(2, sizeof(*l));
    struct writer w = {.l = l, .seed = 1};
    uint8_t *big = malloc(VOLUME_BYTES), *back = malloc(VOLUME_BYTES);
    uint64_t seed = 5;

    make(&s, "sync", "continue", 3000);
    start_plugin(&s);
    start_consumer(&s, NULL, NULL);
    h = connect_to(&s, "data");
    assert_null(try_connect(&s, "nothing"));
    assert_int_equal(nbd_get_size(h), VOLUME_BYTES);
    assert_int_equal(nbd_can_fua(h), 1);
    assert_int_equal(nbd_can_multi_conn(h), 1);
    assert_int_equal(nbd_can_zero(h), 1);
    assert_int_equal(nbd_can_trim(h), 1);
    assert_int_equal(nbd_can_fast_zero(h), 0);
    assert_int_equal(nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM), 512);
    assert_int_equal(nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM), 1 << 20);
    w.h = h;
    assert_true(work(&w, 500));
    settle(&w);
    assert_true(w.done > 100);
    judge_served(l, h);
    /* Larger than a record may be, not aligned to pages, ends and middles. */
    wal = connect_to(&s, "wal");
    unit_random_bytes(&seed, big, VOLUME_BYTES);
    assert_int_equal(nbd_set_strict_mode(wal, 0), 0);
    assert_int_equal(nbd_pwrite(wal, big, VOLUME_BYTES, 0, 0), 0);
    assert_int_equal(nbd_zero(wal, 512 * 7, 512 * 3, 0), 0);
    memset(big + 512 * 3, 0, 512 * 7);
    assert_int_equal(nbd_trim(wal, 1 << 20, 512 * 1001, LIBNBD_CMD_FLAG_FUA), 0);
    memset(big + 512 * 1001, 0, 1 << 20);
    assert_int_equal(nbd_flush(wal, 0), 0);
    assert_int_equal(nbd_pwrite(wal, big, 100, 0, 0), -1); /* below the block size */
    assert_int_equal(nbd_pread(wal, back, VOLUME_BYTES, 0, 0), 0);
    assert_memory_equal(back, big, VOLUME_BYTES);
    nbd_close(h);
    nbd_close(wal);
    end(&s.plugin, SIGTERM);
    assert_true(logged(&s, "plugin.log", "HKE3058I"));
    end(&s.consumer, SIGTERM);
    assert_equal_files(in_dir(&s, "o0"), in_dir(&s, "r0"));
    assert_equal_files(in_dir(&s, "o1"), in_dir(&s, "r1"));
    destroy(&s);
    free(l);
    free(big);
    free(back);
}

/* Goal: no acknowledged byte is lost, however often plugin and consumer are killed. */
static void test_kill_nine(void **state)
{
    struct site s;
    struct ledger *l = calloc(VOLUMES, sizeof(*l));
    static const char *const volume[VOLUMES] = {"data", "wal"};
    uint64_t seed = 11, done = 0;
    unsigned flying = 0, rounds_flying = 0;

    make(&s, "sync", "block", 1000);
    start_consumer(&s, NULL, NULL);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct writer *w = calloc(VOLUMES, sizeof(*w));
        unsigned ms = 30 + (unsigned)(unit_random(&seed) % 250);

        start_plugin(&s);
        for (unsigned v = 0; v < VOLUMES; v++) {
            w[v].h = connect_to(&s, volume[v]);
            w[v].l = &l[v];
            w[v].seed = unit_random(&seed);
            judge_served(&l[v], w[v].h);
        }
        for (uint64_t until = now_ms() + ms; now_ms() < until;) {
            for (unsigned v = 0; v < VOLUMES; v++)
                assert_true(work(&w[v], 4));
        }
        if (round % 3 == 2) {
            /* The replicator too, first or last, goes and comes back unnoticed. */
            end(&s.consumer, SIGKILL);
            for (unsigned v = 0; v < VOLUMES; v++)
                assert_true(work(&w[v], 10));
        }
        for (unsigned v = 0; v < VOLUMES; v++)
            flying += in_flight(&w[v]);
        rounds_flying += in_flight(&w[0]) + in_flight(&w[1]) > 0;
        end(&s.plugin, SIGKILL);
        for (unsigned v = 0; v < VOLUMES; v++) {
            while (in_flight(&w[v]) && reap(&w[v], 100))
                continue;
            done += w[v].done;
            nbd_close(w[v].h);
        }
        /* Sync: what was acknowledged is in the image already, whatever else happens. */
        judge_file(&l[0], in_dir(&s, "r0"));
        judge_file(&l[1], in_dir(&s, "r1"));
        if (!s.consumer)
            start_consumer(&s, NULL, NULL);
        free(w);
    }
    printf("# %u kills, %u writes in flight at them (%u rounds), %llu acknowledged\n", ROUNDS,
           flying, rounds_flying, (unsigned long long)done);
    assert_true(rounds_flying * 10 >= ROUNDS * 8);
    assert_true(logged(&s, "plugin.log", "HKE3056I")); /* something was redone */
    assert_false(logged(&s, "plugin.log", "HKE3031E"));
    assert_false(logged(&s, "plugin.log", "HKE3030E"));
    start_plugin(&s);
    struct nbd_handle *h = connect_to(&s, "data");
    judge_served(&l[0], h);
    nbd_close(h);
    end(&s.plugin, SIGTERM);
    assert_true(logged(&s, "plugin.log", "HKE3058I"));
    end(&s.consumer, SIGTERM);
    assert_equal_files(in_dir(&s, "o0"), in_dir(&s, "r0"));
    assert_equal_files(in_dir(&s, "o1"), in_dir(&s, "r1"));
    destroy(&s);
    free(l);
}

/* A site that serves, with a replicator that takes everything, and a writer on volume data. */
static void begin(struct site *s, struct writer *w, const char *policy, unsigned timeout_ms,
                  const char *consumer_option, const char *value)
{
    w->l = calloc(1, sizeof(*w->l));
    make(s, "sync", policy, timeout_ms);
    start_plugin(s);
    start_consumer(s, consumer_option, value);
    w->h = connect_to(s, "data");
}

/* Everything written is served, both processes end in order, and the replica is the origin. */
static void end_in_order(struct site *s, struct writer *w)
{
    judge_served(w->l, w->h);
    nbd_close(w->h);
    end(&s->plugin, SIGTERM);
    end(&s->consumer, SIGTERM);
    assert_equal_files(in_dir(s, "o0"), in_dir(s, "r0"));
}

static void forget(struct site *s, struct writer *w)
{
    destroy(s);
    free(w->l);
}

/* Goal: a replicator that is killed and comes back within T costs no error and no state. */
static void test_consumer_restart(void **state)
{
    struct site s;
    struct writer w = {.seed = 3};

    begin(&s, &w, "continue", 5000, "--delay-us", "2000");
    for (unsigned i = 0; i < 6; i++) {
        assert_true(work(&w, 150));
        end(&s.consumer, SIGKILL);
        assert_true(work(&w, 30));
        start_consumer(&s, "--delay-us", "2000");
    }
    assert_true(work(&w, 100));
    settle(&w);
    end_in_order(&s, &w);
    assert_false(logged(&s, "plugin.log", "HKE3020E"));
    assert_true(logged(&s, "plugin.log", "HKE3058I"));
    forget(&s, &w);
}

/*
 * Goal: started again as async, it is sync until the standby has stored that; the replicator hears
 * when it is over, else it would go on calling the group in sync.
 */
static void test_weaker_mode_is_told(void **state)
{
    struct site s;
    struct writer w = {.seed = 9};

    begin(&s, &w, "continue", 5000, NULL, NULL);
    assert_true(work(&w, 20));
    settle(&w);
    nbd_close(w.h);
    end(&s.plugin, SIGKILL);
    s.mode = "async";
    conf(&s);
    start_plugin(&s);
    assert_true(wait_logged(&s, "consumer.log", "super mode 1 policy 1"));
    forget(&s, &w);
}

/* Goal: a blocked link, twelve writers of a connection's sixteen threads held: reads are served. */
static void test_blocked_still_reads(void **state)
{
    struct site s;
    struct writer w = {.seed = 4};
    struct nbd_handle *other;
    uint8_t block[BLOCK];
    uint64_t begun;

    begin(&s, &w, "block", 300, NULL, NULL);
    assert_true(work(&w, 100));
    settle(&w);
    end(&s.consumer, SIGKILL);
    start_consumer(&s, "--no-ack", NULL);
    assert_true(work(&w, 200));
    assert_int_equal(in_flight(&w), DEPTH); /* none is acknowledged */
    begun = now_ms();
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(nbd_pread(w.h, block, BLOCK, (uint64_t)(i % BLOCKS) * BLOCK, 0), 0);
    other = connect_to(&s, "wal");
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(nbd_pread(other, block, BLOCK, (uint64_t)(i % BLOCKS) * BLOCK, 0), 0);
    assert_true(now_ms() - begun < 5000);
    assert_int_equal(in_flight(&w), DEPTH);
    assert_true(reap(&w, 0));
    assert_int_equal(in_flight(&w), DEPTH);
    /* T and the pace bound go by: still no acknowledgement, and it says so. */
    assert_true(wait_logged(&s, "plugin.log", "HKE3010W"));
    assert_true(wait_logged(&s, "plugin.log", "HKE3011E"));
    end(&s.consumer, SIGKILL);
    start_consumer(&s, NULL, NULL);
    settle(&w);
    nbd_close(other);
    end_in_order(&s, &w);
    forget(&s, &w);
}

/* Goal: nobody there: after T writes go on and the metadata says so, and the way back is found. */
static void test_degrade_and_return(void **state)
{
    struct site s;
    struct writer w = {.seed = 6};

    begin(&s, &w, "continue", 1500, NULL, NULL);
    assert_true(work(&w, 100));
    settle(&w);
    end(&s.consumer, SIGKILL);
    assert_true(work(&w, 100));
    assert_int_equal(in_flight(&w), DEPTH); /* held */
    settle(&w);                             /* T later they are let go */
    assert_true(logged(&s, "plugin.log", "HKE3020E"));
    start_consumer(&s, NULL, NULL);
    assert_true(work(&w, 300));
    settle(&w);
    assert_true(wait_logged(&s, "plugin.log", "HKE3021I"));
    end_in_order(&s, &w);
    assert_true(logged(&s, "plugin.log", "HKE3058I"));
    forget(&s, &w);
}

/* What the metadata says. */
static uint32_t state_bits(const struct site *s)
{
    static uint8_t slots[2 * HK_SUPER_BYTES];
    static struct hk_super super;
    int fd = open(in_dir(s, "md"), O_RDONLY | O_CLOEXEC);

    assert_int_equal(pread(fd, slots, sizeof(slots), 0), sizeof(slots));
    close(fd);
    /* One of the two may be on its way. */
    return hk_super_pick(slots, slots + HK_SUPER_BYTES, &super, NULL) ? ~0u : super.flags;
}

/* Goal: a reboot after a clean stop costs nothing; after an unclean one it is admitted. */
static void test_ring_gone(void **state)
{
    struct site s;
    struct ledger *l = calloc(1, sizeof(*l));
    struct writer w = {.l = l, .seed = 8};

    make(&s, "sync", "continue", 1000);
    start_consumer(&s, NULL, NULL);
    for (unsigned round = 0; round < 2; round++) {
        start_plugin(&s);
        w.h = connect_to(&s, "data");
        judge_served(l, w.h);
        assert_true(work(&w, 100));
        settle(&w);
        nbd_close(w.h);
        assert_false(logged(&s, "plugin.log", "HKE3031E"));
        assert_false(logged(&s, "plugin.log", "HKE3020E")); /* acknowledged by the standby */
        assert_int_equal(logged(&s, "consumer.log", "ring lost"), round);
        if (round == 0)
            end(&s.plugin, SIGTERM);
        else
            end(&s.plugin, SIGKILL);
        assert_int_equal(unlink(s.ring), 0);
    }
    start_plugin(&s);
    w.h = connect_to(&s, "data");
    assert_true(logged(&s, "plugin.log", "HKE3031E"));
    judge_served(l, w.h);
    assert_true(work(&w, 100)); /* the application goes on */
    settle(&w);
    nbd_close(w.h);
    end(&s.plugin, SIGTERM);
    /* The same under block: no write can be promised, so none is taken. */
    s.policy = "block";
    conf(&s);
    start_plugin(&s);
    assert_true(wait_logged(&s, "plugin.log", "HKE3064E"));
    assert_null(try_connect(&s, "data"));
    destroy(&s);
    free(l);
}

static bool wait_state(const struct site *s, const char *what)
{
    for (unsigned i = 0; i < 20; i++) {
        if (wait_logged(s, "plugin.log", what))
            return true;
    }
    return false;
}

/*
 * Goal: with a dirty map the way back is found. The ring is lost with the host, and later fills up
 * while nobody takes anything out of it; each time the log goes on in a new epoch, in the same ring
 * and the same connection, and blocks read from the origin make the replica equal.
 */
static void test_resync(void **state)
{
    struct site s;
    struct ledger *l = calloc(1, sizeof(*l));
    struct writer w = {.l = l, .seed = 12};

    make_with(&s, "sync", "continue", 400, "--map");
    start_plugin(&s);
    start_consumer(&s, "--resync", NULL);
    w.h = connect_to(&s, "data");
    assert_true(work(&w, 200));
    settle(&w);
    nbd_close(w.h);
    end(&s.plugin, SIGKILL);
    assert_int_equal(unlink(s.ring), 0);
    start_plugin(&s);
    w.h = connect_to(&s, "data");
    assert_true(work(&w, 200));
    settle(&w);
    assert_true(wait_state(&s, "HKE3032W")); /* resync */
    assert_true(wait_state(&s, "HKE3021I")); /* replicating */
    assert_int_equal(state_bits(&s) & HK_SF_STALE, 0);
    assert_true(logged(&s, "consumer.log", "epoch 2"));

    end(&s.consumer, SIGKILL);
    start_consumer(&s, "--no-ack", NULL);
    for (unsigned i = 0; i < 100 && !(state_bits(&s) & HK_SF_STALE); i++)
        assert_true(work(&w, 200));
    assert_true(state_bits(&s) & HK_SF_STALE); /* behind */
    assert_true(work(&w, 200));
    settle(&w);
    end(&s.consumer, SIGKILL);
    start_consumer(&s, "--resync", NULL);
    assert_true(wait_logged(&s, "consumer.log", "epoch 3"));
    assert_true(work(&w, 200));
    settle(&w);
    for (unsigned i = 0; i < 500 && state_bits(&s) & (HK_SF_STALE | HK_SF_DEGRADED); i++)
        pause_ms(20);
    assert_int_equal(state_bits(&s) & (HK_SF_STALE | HK_SF_DEGRADED | HK_SF_FULL_COMPARE), 0);
    end_in_order(&s, &w);
    assert_true(logged(&s, "plugin.log", "HKE3058I"));
    destroy(&s);
    free(l);
}

/* Goal: under block the client waits, through the loss of the ring and the resync, and goes on. */
static void test_resync_blocked(void **state)
{
    struct site s;
    struct ledger *l = calloc(1, sizeof(*l));
    struct writer w = {.l = l, .seed = 13};

    make_with(&s, "sync", "block", 400, "--map");
    start_plugin(&s);
    start_consumer(&s, NULL, NULL);
    w.h = connect_to(&s, "data");
    assert_true(work(&w, 200));
    settle(&w);
    nbd_close(w.h);
    end(&s.plugin, SIGKILL);
    assert_int_equal(unlink(s.ring), 0);
    start_plugin(&s);
    w.h = connect_to(&s, "data");
    for (unsigned i = 0; i < 20; i++)
        assert_true(work(&w, 20));
    assert_int_equal(in_flight(&w), DEPTH);
    end(&s.consumer, SIGKILL);
    start_consumer(&s, "--resync", NULL);
    settle(&w);
    assert_int_equal(state_bits(&s) & (HK_SF_STALE | HK_SF_FULL_COMPARE), 0);
    end_in_order(&s, &w);
    destroy(&s);
    free(l);
}

static int raw_connect(const struct site *s)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = 5};

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/cap", s->dir);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void receive(int fd, struct hk_cap_ipc *ret)
{
    ssize_t n = recv(fd, ret, sizeof(*ret), 0);

    assert_true(n > 0);
    assert_int_equal(n, hk_cap_ipc_bytes(ret->type));
}

/* Goal: nothing a replicator says can hurt the plugin, and the newest lease is the only one. */
static void test_bad_replicators(void **state)
{
    static struct hk_cap_ipc m, answer;
    struct site s;
    struct ledger *l = calloc(1, sizeof(*l));
    struct writer w = {.l = l, .seed = 9};
    struct hk_uuid group;
    uint64_t lease;
    int fd, second;

    make(&s, "sync", "continue", 5000);
    start_plugin(&s);
    w.h = connect_to(&s, "data");
    fd = raw_connect(&s); /* rubbish */
    assert_int_equal(send(fd, "rubbish", 7, 0), 7);
    assert_int_equal(recv(fd, &answer, sizeof(answer), 0), 0);
    close(fd);
    fd = raw_connect(&s); /* a report without a lease */
    m = (struct hk_cap_ipc){.magic = HK_CAP_IPC_MAGIC, .type = HK_IPC_REPORT, .lease = 1};
    m.report.durable = m.report.acked = 4096 + 128;
    assert_int_equal(send(fd, &m, hk_cap_ipc_bytes(m.type), 0), hk_cap_ipc_bytes(m.type));
    receive(fd, &answer);
    assert_int_equal(answer.type, HK_IPC_REFUSED);
    assert_int_equal(recv(fd, &answer, sizeof(answer), 0), 0);
    close(fd);
    fd = raw_connect(&s); /* another group */
    m = (struct hk_cap_ipc){.magic = HK_CAP_IPC_MAGIC, .type = HK_IPC_ATTACH};
    m.attach.version = HK_CAP_IPC_VERSION;
    assert_int_equal(send(fd, &m, hk_cap_ipc_bytes(m.type), 0), hk_cap_ipc_bytes(m.type));
    receive(fd, &answer);
    assert_int_equal(answer.refused.reason, HK_CAP_REFUSE_GROUP);
    close(fd);
    assert_int_equal(hk_uuid_parse(GROUP, &group), 0);
    m.attach.group_id = group;
    fd = raw_connect(&s);
    assert_int_equal(send(fd, &m, hk_cap_ipc_bytes(m.type), 0), hk_cap_ipc_bytes(m.type));
    receive(fd, &answer);
    assert_int_equal(answer.type, HK_IPC_ATTACHED);
    lease = answer.lease;
    second = raw_connect(&s); /* takes the lease: the first is cut off */
    assert_int_equal(send(second, &m, hk_cap_ipc_bytes(m.type), 0), hk_cap_ipc_bytes(m.type));
    receive(second, &answer);
    assert_true(answer.lease > lease);
    lease = answer.lease;
    do {
        receive(fd, &answer);
    } while (answer.type == HK_IPC_STATE);
    assert_int_equal(answer.type, HK_IPC_REFUSED);
    assert_int_equal(recv(fd, &answer, sizeof(answer), 0), 0);
    close(fd);
    /* More durable than was ever produced. */
    m = (struct hk_cap_ipc){.magic = HK_CAP_IPC_MAGIC, .type = HK_IPC_REPORT, .lease = lease};
    m.report.durable = m.report.acked = m.report.released = 1ull << 40;
    assert_int_equal(send(second, &m, hk_cap_ipc_bytes(m.type), 0), hk_cap_ipc_bytes(m.type));
    do {
        receive(second, &answer);
    } while (answer.type == HK_IPC_STATE);
    assert_int_equal(answer.refused.reason, HK_CAP_REFUSE_RANGE);
    close(second);
    assert_true(work(&w, 50));
    assert_int_equal(w.done, 0);
    start_consumer(&s, "--mark", "nightly");
    settle(&w);
    assert_true(wait_logged(&s, "consumer.log", "inserted 0 lsn"));
    judge_served(l, w.h);
    nbd_close(w.h);
    destroy(&s);
    free(l);
}

/* Goal: a start that must not happen does not, and says which file and why. */
static void test_refuses_to_start(void **state)
{
    struct site s, t;

    make(&s, "sync", "continue", 1000);
    start_plugin(&s);
    nbd_close(connect_to(&s, "data"));
    t = s; /* a second plugin over the same group */
    t.plugin = 0;
    start_plugin(&t);
    assert_true(wait_logged(&s, "plugin.log", "HKE3052E"));
    end(&t.plugin, SIGTERM);
    end(&s.plugin, SIGTERM);
    assert_int_equal(truncate(in_dir(&s, "o1"), BLOCK), 0);
    start_plugin(&s);
    assert_true(wait_logged(&s, "plugin.log", "HKE3051E"));
    end(&s.plugin, SIGTERM);
    assert_int_equal(truncate(in_dir(&s, "md"), 0), 0);
    start_plugin(&s);
    assert_true(wait_logged(&s, "plugin.log", "HKE3053E"));
    end(&s.plugin, SIGTERM);
    write_file(in_dir(&s, "group.conf"), "name = \"core\";\ngroup-id = \"x\";\n");
    start_plugin(&s);
    assert_true(wait_logged(&s, "plugin.log", "group.conf:2: group-id"));
    destroy(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serves),
        cmocka_unit_test(test_kill_nine),
        cmocka_unit_test(test_consumer_restart),
        cmocka_unit_test(test_weaker_mode_is_told),
        cmocka_unit_test(test_blocked_still_reads),
        cmocka_unit_test(test_degrade_and_return),
        cmocka_unit_test(test_ring_gone),
        cmocka_unit_test(test_resync),
        cmocka_unit_test(test_resync_blocked),
        cmocka_unit_test(test_bad_replicators),
        cmocka_unit_test(test_refuses_to_start),
    };

    signal(SIGPIPE, SIG_IGN);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
