/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each stage of the pipeline alone, on one thread, in CPU seconds per byte of log: the sum gives
 * the series limit that `pipeline` is compared with (cores ÷ Σ). Prints one JSON object a stage.
 *
 *   hk-stages --mtu 1500|9000 [--megabytes N] [--wire udp|af_packet --netns A,B --address A,B]
 *             --journal FILE
 *   hk-stages --flush --journal FILE     a standby's smallest write, alone: its wall time
 *
 *   capture   copy into the ring's slot and XXH64 of the payload
 *   frame     gather into a frame and seal
 *   wire      the kernel's part of the link with frames of this size, both ends: UDP with
 *             segmentation offload or AF_PACKET rings between two namespaces, or UDP over loopback
 *   receive   open, place in the window, XXH64 of the payload again
 *   journal   XXH64 of the batch and its O_DIRECT write with RWF_DSYNC (CPU time only; wall apart)
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "perf/wire.h"
#include "proto/frame.h"
#include "proto/hash.h"

enum {
    MIB = 1 << 20,
    RECORD = 64 << 10,
    BATCH = 1 << 20,
    HK_FRAME_OVERHEAD = HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES,
    FLUSHES = 400,
    FLUSH_BYTES = 8192, /* a batch header and a 4 KiB write */
};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct meter {
    const char *name;
    uint64_t cpu, wall;
};

static void begin(struct meter *m, const char *name)
{
    m->name = name;
    m->cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    m->wall = clock_ns(CLOCK_MONOTONIC);
}

static void end(const struct meter *m, uint64_t bytes)
{
    printf("{\"stage\": \"%s\", \"cpu_ns_per_kib\": %.3f, \"wall_ns_per_kib\": %.3f}\n", m->name,
           (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - m->cpu) * 1024 / (double)bytes,
           (double)(clock_ns(CLOCK_MONOTONIC) - m->wall) * 1024 / (double)bytes);
    fflush(stdout);
}

static uint64_t sink;

static void stage_capture(uint8_t *ring, const uint8_t *user, uint64_t total)
{
    struct meter m;
    uint64_t at;

    begin(&m, "capture");
    for (at = 0; at < total; at += RECORD) {
        uint8_t *slot = ring + at % (64 * MIB);

        memcpy(slot, user + at % (16 * MIB), RECORD);
        sink += hk_xxh64(slot, RECORD, 0);
    }
    end(&m, total);
}

static void seal_one(uint8_t *frame, const uint8_t *body, uint16_t body_len, uint64_t lsn)
{
    struct hk_frame h = {.version = HK_FRAME_VERSION,
                         .type = HK_FRAME_DATA,
                         .session = 1,
                         .packet_number = lsn + 1,
                         .lsn = lsn + 64,
                         .span = body_len,
                         .body_len = body_len};

    memcpy(frame, &h, sizeof(h));
    memcpy(frame + HK_FRAME_HEADER_BYTES, body, body_len);
    hk_frame_seal_plain(frame, body_len);
}

static void stage_frame(uint8_t *frames, const uint8_t *ring, uint16_t body_len, uint64_t total)
{
    uint32_t stride = (uint32_t)hk_round_up(body_len + (uint32_t)HK_FRAME_OVERHEAD, 64),
             count = 64 * MIB / stride;
    struct meter m;
    uint64_t at, i = 0;

    begin(&m, "frame");
    for (at = 0; at < total; at += body_len, i++)
        seal_one(frames + (uint64_t)(i % count) * stride, ring + at % (63 * MIB), body_len, at);
    end(&m, total);
}

static void stage_receive(uint8_t *window, const uint8_t *frames, uint16_t body_len, uint64_t total)
{
    uint32_t stride = (uint32_t)hk_round_up(body_len + (uint32_t)HK_FRAME_OVERHEAD, 64),
             count = 64 * MIB / stride;
    uint64_t at, i = 0, hashed = 0;
    struct meter m;
    struct hk_frame h;

    begin(&m, "receive");
    for (at = 0; at < total; at += body_len, i++) {
        const uint8_t *frame = frames + (uint64_t)(i % count) * stride;

        HK_ASSERT(hk_frame_open_plain(frame, body_len + (uint32_t)HK_FRAME_OVERHEAD) ==
                  HK_FRAME_OK);
        HK_ASSERT(hk_frame_decode(frame, body_len + (uint32_t)HK_FRAME_OVERHEAD, &h) ==
                  HK_FRAME_OK);
        memcpy(window + at % (63 * MIB), frame + HK_FRAME_HEADER_BYTES, body_len);
        for (; hashed + RECORD <= at; hashed += RECORD)
            sink += hk_xxh64(window + hashed % (62 * MIB), RECORD, 0);
    }
    end(&m, total);
}

/* Bursts out and in again: what the kernel costs both ends. */
static int stage_wire(const struct hk_wire *cfg, const uint8_t *frames, uint64_t total)
{
    uint32_t stride = (uint32_t)hk_round_up(cfg->frame_bytes, 64), i = 0;
    uint32_t bursts = 64 * MIB / stride / HK_WIRE_BURST;
    uint32_t body_len = cfg->frame_bytes - HK_FRAME_OVERHEAD;
    struct hk_wire_pair *pair;
    struct meter m;
    uint64_t at;
    int r = hk_wire_open(cfg, &pair);

    if (r)
        return r;
    begin(&m, "wire");
    for (at = 0; at < total && !r; at += (uint64_t)body_len * HK_WIRE_BURST, i++)
        r = hk_wire_burst(pair, frames + (uint64_t)(i % bursts) * HK_WIRE_BURST * stride, stride,
                          HK_WIRE_BURST);
    if (!r)
        end(&m, at);
    hk_wire_close(pair);
    return r;
}

static int stage_journal(const char *path, uint8_t *window, uint64_t total)
{
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600), pass;
    struct meter m;
    uint64_t at;

    if (fd < 0)
        return 1;
    for (pass = 0; pass < 2; pass++) { /* the first writes the file once: journals are prewritten */
        begin(&m, "journal");
        for (at = 0; at < total; at += BATCH) {
            struct iovec v = {window + at % (32 * MIB), BATCH};

            sink += hk_xxh64(v.iov_base, BATCH, 1);
            if (pwritev2(fd, &v, 1, (off_t)(at % (256 * MIB)), RWF_DSYNC) != BATCH) {
                close(fd);
                return 1;
            }
        }
        if (pass)
            end(&m, total);
    }
    close(fd);
    return unlink(path);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int measure_flush(const char *path, uint8_t *data)
{
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600), i, pass;
    static uint64_t ns[FLUSHES];

    for (pass = 0; fd >= 0 && pass < 2; pass++) {
        for (i = 0; i < FLUSHES; i++) {
            struct iovec v = {data, FLUSH_BYTES};

            ns[i] = clock_ns(CLOCK_MONOTONIC);
            if (pwritev2(fd, &v, 1, (off_t)i * FLUSH_BYTES, RWF_DSYNC) != FLUSH_BYTES)
                return 1;
            ns[i] = clock_ns(CLOCK_MONOTONIC) - ns[i];
        }
    }
    if (fd < 0)
        return 1;
    close(fd);
    qsort(ns, FLUSHES, sizeof(ns[0]), by_value);
    printf("{\"stage\": \"flush\", \"p10_us\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           (double)ns[FLUSHES / 10] / 1e3, (double)ns[FLUSHES / 2] / 1e3,
           (double)ns[FLUSHES * 99 / 100] / 1e3);
    return unlink(path);
}

struct arguments {
    uint32_t mtu;
    uint64_t total;
    const char *journal;
    bool flush;
    struct hk_wire wire;
};

/* "A,B" in place. */
static void split(char *text, const char *ret[2])
{
    ret[0] = strtok(text, ",");
    ret[1] = strtok(NULL, ",");
}

static bool parse(int argc, char **argv, struct arguments *a)
{
    static const struct option options[] = {
        {"mtu", 1, NULL, 'm'},   {"megabytes", 1, NULL, 'n'}, {"journal", 1, NULL, 'j'},
        {"wire", 1, NULL, 'w'},  {"netns", 1, NULL, 's'},     {"address", 1, NULL, 'a'},
        {"flush", 0, NULL, 'f'}, {NULL, 0, NULL, 0},
    };
    int k;

    while ((k = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (k) {
        case 'm': a->mtu = (uint32_t)atoi(optarg); break;
        case 'n': a->total = (uint64_t)atoi(optarg) * MIB; break;
        case 'j': a->journal = optarg; break;
        case 'w': a->wire.packet = strcmp(optarg, "af_packet") == 0; break;
        case 's': split(optarg, a->wire.netns); break;
        case 'a': split(optarg, a->wire.address); break;
        case 'f': a->flush = true; break;
        default: return false;
        }
    }
    return a->journal && a->mtu >= 576 && a->mtu <= 9600 && a->wire.address[1] &&
           (!a->wire.packet || a->wire.netns[1]);
}

static int run(const struct arguments *a, uint8_t *ring, uint8_t *frames, uint8_t *window)
{
    uint16_t body_len = (uint16_t)(a->mtu - 28 - HK_FRAME_OVERHEAD);
    int r;

    if (a->flush)
        return measure_flush(a->journal, ring);
    stage_capture(ring, window, a->total);
    stage_frame(frames, ring, body_len, a->total);
    r = stage_wire(&a->wire, frames, a->total);
    if (r) {
        fprintf(stderr, "hk-stages: wire: %s\n", strerror(-r));
        return 1;
    }
    stage_receive(window, frames, body_len, 60ull * MIB);
    return stage_journal(a->journal, window, a->total);
}

int main(int argc, char **argv)
{
    static struct arguments a = {
        .mtu = 1500, .total = 256ull * MIB, .wire.address = {"127.0.0.1", "127.0.0.1"}};
    uint8_t *m[3];
    int i, r;

    if (!parse(argc, argv, &a)) {
        fprintf(stderr, "usage: hk-stages --journal FILE [--flush] [--mtu 576..9600] "
                        "[--megabytes N] [--wire udp|af_packet --netns A,B --address A,B]\n");
        return 1;
    }
    a.wire.frame_bytes = a.mtu - 28;
    for (i = 0; i < 3; i++) {
        m[i] = aligned_alloc(4096, 64 * MIB + 65536);
        if (!m[i])
            return 1;
        memset(m[i], 0x33 + i, 64 * MIB + 65536);
    }
    errno = 0;
    r = run(&a, m[0], m[1], m[2]);
    if (r)
        fprintf(stderr, "hk-stages: %s: %s\n", a.journal, strerror(errno));
    for (i = 0; i < 3; i++)
        free(m[i]);
    return r || sink == 42;
}
