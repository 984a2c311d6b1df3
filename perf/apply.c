/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The applier alone, in front of a real replica: how many random 4 KiB writes a second it carries
 * out of the window, without a snapshot and with a pin whose before-images have to be kept. Prints
 * one JSON object a case.
 *
 *   hk-apply --dir DIR [--megabytes N] [--records N]
 *
 *   device         the same writes on the replica's file, always 32 in flight, one flush a batch
 *   snap0          the applier, no snapshot
 *   snap1-uniform  with a pin; the writes are spread evenly, so nearly each is a first touch
 *   snap1-zipf     with a pin; 80 % of them go to 20 % of a fifth of the volume
 *
 * Beside the time of all, that of each phase. The log is made before the clock runs. All of it is
 * read from the window, as behind a fast link.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "proto/hash.h"
#include "replicator/io/reactor.h"
#include "replicator/io/uring_disk.h"
#include "replicator/store/apply.h"

enum { WINDOW = 64 << 20, APPLY_BYTES = 64 << 20, BLOCK = 4096, ROUND = 12000, PINS = 2 };

enum phase {
    PHASE_LOAD,
    PHASE_COPY,
    PHASE_COPY_FLUSH,
    PHASE_BITS,
    PHASE_WRITE,
    PHASE_FLUSH,
    PHASES
};
static const char *const phase_text[PHASES] = {"load", "copy",  "copy_flush",
                                               "bits", "write", "flush"};

static struct {
    const char *dir;
    uint64_t volume_bytes, records;
    struct hk_reactor *reactor;
    struct hk_uring_disk *disk;
    struct hk_snapshots snapshots;
    struct hk_apply apply;
    struct hk_journal journal;
    struct hk_history history;
    uint8_t *window;
    uint64_t end, time_ns, random;
    uint32_t prev_bytes;
    struct hk_diskop write[HK_APPLY_DEPTH]; /* of the device alone */
    uint64_t in_flight, sent, round_left, phase_ns[PHASES];
} b;

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "hk-apply: %s: %s\n", what, why);
    exit(1);
}

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t draw(void)
{
    uint64_t z = b.random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t next_offset(bool zipf)
{
    uint64_t blocks = b.volume_bytes / BLOCK, hot = blocks / 25;

    if (!zipf)
        return draw() % blocks * BLOCK;
    return (draw() % 5 ? draw() % hot : draw() % (blocks / 5)) * BLOCK;
}

/* ---- the log ---- */

static void put(uint64_t lsn, const void *bytes, uint64_t count)
{
    uint64_t at = lsn & (WINDOW - 1), first = hk_min_u64(count, WINDOW - at);

    memcpy(b.window + at, bytes, first);
    memcpy(b.window, (const uint8_t *)bytes + first, count - first);
}

static void add_write(uint64_t offset)
{
    static uint64_t payload[BLOCK / 8];
    const struct hk_epoch *e = &b.history.epoch[0];
    struct hk_record r = {.lsn = b.end,
                          .time_ns = ++b.time_ns,
                          .offset = offset,
                          .length = BLOCK,
                          .payload_len = BLOCK,
                          .epoch = 1,
                          .type = HK_REC_WRITE,
                          .magic = HK_RECORD_MAGIC,
                          .prev_bytes = b.prev_bytes};

    payload[0] = payload[511] = draw();
    r.payload_hash = hk_xxh64(payload, BLOCK, 0);
    r.header_hash = hk_record_header_hash(&r, hk_epoch_seed(&e->id));
    put(b.end, &r, sizeof(r));
    put(b.end + sizeof(r), payload, BLOCK);
    b.prev_bytes = hk_record_bytes(BLOCK);
    b.end += b.prev_bytes;
}

/* ---- disks ---- */

static void submit(struct hk_diskop *op, enum hk_disk_kind kind, uint64_t offset, void *bytes)
{
    *op = (struct hk_diskop){
        .kind = kind, .file = HK_FILE_VOLUME0, .offset = offset, .owner = HK_OWNER_GROUP};
    if (bytes) {
        op->bytes = BLOCK;
        op->iov[0] = (struct hk_iovec){bytes, BLOCK};
        op->iov_count = 1;
    }
    b.in_flight++;
    hk_uring_disk_iface(b.disk)->submit(hk_uring_disk_iface(b.disk), op);
}

static void send_write(struct hk_diskop *op)
{
    static uint8_t block[BLOCK] __attribute__((aligned(4096)));

    b.round_left--;
    b.sent++;
    submit(op, HK_DISK_WRITE, next_offset(false), block);
}

static void done(void *arg, struct hk_diskop *op)
{
    (void)arg;
    if (op->result != 0)
        die("an operation failed", strerror(-op->result));
    if (op->owner == HK_OWNER_SNAPSHOT) {
        hk_snapshots_disk_done(&b.snapshots, op);
        hk_apply_saving(&b.apply);
    } else if (op->owner == HK_OWNER_APPLY) {
        hk_apply_disk_done(&b.apply, op);
    } else {
        b.in_flight--;
        if (op->kind == HK_DISK_WRITE && b.round_left > 0)
            send_write(op);
    }
}

static void turn(void)
{
    hk_reactor_turn(b.reactor, 1000000);
    hk_uring_disk_poll(b.disk, done, NULL, 256);
}

static void bind_sparse(uint32_t file, const char *name, uint64_t bytes)
{
    struct hk_io_error err;
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", b.dir, name);
    if (hk_disk_open_sparse(path, bytes, &fd, &err))
        die(path, err.text);
    if (hk_uring_disk_bind(b.disk, file, fd, NULL))
        die(path, "can't be bound");
}

/* A slot a pin: the space of the one before need not be given back while the clock runs. */
static void bind_snapshots(void)
{
    char name[32];

    for (uint32_t slot = 0; slot < PINS; slot++) {
        uint32_t file = HK_FILE_SNAPSHOT0 + slot * HK_FILES_A_SNAPSHOT;

        snprintf(name, sizeof(name), "%u-index", slot);
        bind_sparse(file, name, (1 + hk_snap_pages(b.volume_bytes)) * HK_PAGE_BYTES);
        snprintf(name, sizeof(name), "%u-data", slot);
        bind_sparse(file + 1, name, b.volume_bytes);
    }
}

/* Written once, so that the device's own first touch is not what is measured. */
static void write_replica(void)
{
    static uint8_t zero[1 << 20] __attribute__((aligned(4096)));
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/replica", b.dir);
    fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)b.volume_bytes))
        die(path, strerror(errno));
    memset(zero, 1, sizeof(zero));
    for (uint64_t at = 0; at < b.volume_bytes; at += sizeof(zero))
        if (pwrite(fd, zero, sizeof(zero), (off_t)at) != (ssize_t)sizeof(zero))
            die(path, strerror(errno));
    if (fsync(fd))
        die(path, strerror(errno));
    if (hk_uring_disk_bind(b.disk, HK_FILE_VOLUME0, fd, NULL))
        die(path, "can't be bound");
}

static void *arena_memory(uint64_t bytes)
{
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (m == MAP_FAILED)
        die("memory", strerror(errno));
    return m;
}

/* ---- cases ---- */

static void print(const char *name, uint64_t records, uint64_t ns)
{
    printf("{\"case\": \"%s\", \"records\": %" PRIu64 ", \"seconds\": %.3f, \"iops\": %.0f, "
           "\"saved_chunks\": %" PRIu64,
           name, records, (double)ns / 1e9, (double)records * 1e9 / (double)ns,
           b.snapshots.saved_chunks);
    for (int i = 0; i < PHASES; i++)
        printf(", \"%s_ms\": %" PRIu64, phase_text[i], b.phase_ns[i] / 1000000);
    printf("}\n");
    fflush(stdout);
}

/* Always 32 in flight: whoever ends goes out again with the next write. */
static void device(void)
{
    static struct hk_diskop flush;
    uint64_t begun = clock_ns();

    while (b.sent < b.records) {
        b.round_left = hk_min_u64(ROUND, b.records - b.sent);
        for (uint32_t k = 0; k < HK_APPLY_DEPTH && b.round_left > 0; k++)
            send_write(&b.write[k]);
        while (b.in_flight > 0)
            turn();
        submit(&flush, HK_DISK_FLUSH, 0, NULL);
        while (b.in_flight > 0)
            turn();
    }
    print("device", b.records, clock_ns() - begun);
}

/* What the applier is at: its state, or where the before-images are. */
static enum phase phase(void)
{
    switch (b.apply.state) {
    case HK_APPLY_SAVING:
        if (b.snapshots.save == HK_SAVE_COPYING)
            return PHASE_COPY;
        return b.snapshots.save == HK_SAVE_FLUSHING ? PHASE_COPY_FLUSH : PHASE_BITS;
    case HK_APPLY_WRITING: return PHASE_WRITE;
    case HK_APPLY_FLUSHING: return PHASE_FLUSH;
    case HK_APPLY_NEW:
    case HK_APPLY_IDLE:
    case HK_APPLY_LOADING:
    case HK_APPLY_STORING:
    case HK_APPLY_BARRIER:
    case HK_APPLY_REPLICA_FAILED:
    case HK_APPLY_CORRUPT: break;
    }
    return PHASE_LOAD;
}

static void applied(const char *name, bool zipf)
{
    uint64_t ns = 0;

    memset(b.phase_ns, 0, sizeof(b.phase_ns));

    for (uint64_t i = 0; i < b.records;) {
        uint64_t begun, at;

        for (uint32_t k = 0; k < ROUND && i < b.records; k++, i++)
            add_write(next_offset(zipf));
        b.journal.durable = b.end;
        at = begun = clock_ns();
        do {
            enum phase was = phase();
            uint64_t now;

            while (hk_apply_run(&b.apply, b.end, 0))
                ;
            if (b.apply.state != HK_APPLY_IDLE)
                turn();
            now = clock_ns();
            b.phase_ns[was] += now - at;
            at = now;
        } while (b.apply.state != HK_APPLY_IDLE || hk_apply_flushed(&b.apply) < b.end);
        ns += at - begun;
    }
    print(name, b.records, ns);
}

static void pin(uint32_t id)
{
    struct hk_snapshot_ask ask = {
        .kind = HK_SNAP_PIN, .id = id, .epoch_ordinal = 1, .lsn = hk_round_up(b.end, 64)};

    if (hk_snapshots_make(&b.snapshots, &ask))
        die("a pin", "can't be made");
    while (!hk_snapshots_idle(&b.snapshots))
        turn();
    b.snapshots.saved_chunks = 0;
}

static void set_up(void)
{
    struct hk_snapshots_cfg sc = {
        .group_id = {{1}}, .slot_count = PINS, .volume_count = 1, .volume_bytes = {b.volume_bytes}};
    struct hk_snapshots_known known = {.replica_id = {{2}}, .next = 1};
    struct hk_apply_cfg ac = {.window_bytes = WINDOW,
                              .apply_bytes = APPLY_BYTES,
                              .volume_count = 1,
                              .volume_bytes = {b.volume_bytes}};
    struct hk_uuid id = {{0xe1}};
    struct hk_arena arena;
    struct hk_io_error err;

    if (hk_reactor_create(&(struct hk_reactor_cfg){.cpu = -1}, &b.reactor, &err) ||
        hk_uring_disk_create(b.reactor, &(struct hk_uring_disk_cfg){0}, &b.disk, &err))
        die("io_uring", err.text);
    write_replica();
    bind_snapshots();
    b.window = arena_memory(WINDOW);
    b.end = HK_LSN_FIRST;
    if (hk_history_append(&b.history, &id, HK_LSN_FIRST, 0, HK_EPOCH_CREATE, 1))
        die("history", "no");
    b.journal.state = HK_JOURNAL_RUNNING;
    b.journal.durable = b.end;
    sc.disk = ac.disk = hk_uring_disk_iface(b.disk);
    ac.journal = &b.journal;
    ac.history = &b.history;
    ac.snapshots = &b.snapshots;
    ac.window = b.window;
    arena = (struct hk_arena){.bytes = hk_snapshots_memory(&sc) + hk_apply_memory(&ac) +
                                       hk_journal_reader_memory() + 65536};
    arena.base = arena_memory(arena.bytes);
    b.journal.scan = arena_memory(HK_JOURNAL_READ_BYTES);
    if (hk_snapshots_init(&b.snapshots, &sc, &arena) || hk_apply_init(&b.apply, &ac, &arena))
        die("store", "can't be set up");
    hk_snapshots_start(&b.snapshots, &known);
    while (!hk_snapshots_idle(&b.snapshots))
        turn();
    hk_apply_start(&b.apply, 0);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"megabytes", required_argument, NULL, 'm'},
                                            {"records", required_argument, NULL, 'r'},
                                            {0}};
    int c;

    b.volume_bytes = 1ull << 30;
    b.records = 60000;
    b.random = 1;
    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (c) {
        case 'd': b.dir = optarg; break;
        case 'm': b.volume_bytes = strtoull(optarg, NULL, 10) << 20; break;
        case 'r': b.records = strtoull(optarg, NULL, 10); break;
        default: return 2;
        }
    }
    if (!b.dir || b.volume_bytes < 64 << 20 || b.records == 0)
        die("usage", "--dir DIR [--megabytes N] [--records N]");
    set_up();
    device();
    applied("snap0", false);
    pin(1);
    applied("snap1-uniform", false);
    pin(2);
    applied("snap1-zipf", true);
    return 0;
}
