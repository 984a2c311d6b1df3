/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each stage of the pipeline alone, on one thread, in CPU seconds per byte of log: the sum gives the
 * series limit that `pipeline` is compared with (cores ÷ Σ). Prints one JSON object a stage.
 *
 *   hk-stages --mtu 1500|9000 [--megabytes N] --journal FILE
 *
 *   capture   copy into the ring's slot and XXH64 of the payload
 *   frame     gather into a frame and seal
 *   wire      the kernel's UDP over loopback with frames of this size, both ends
 *   receive   open, place in the window, XXH64 of the payload again
 *   journal   XXH64 of the batch and its O_DIRECT write with RWF_DSYNC (CPU time only; wall apart)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/hash.h"

enum { MIB = 1 << 20, RECORD = 64 << 10, BATCH = 1 << 20 };

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
    uint32_t stride = (uint32_t)hk_round_up(body_len + 48u, 64), count = 64 * MIB / stride;
    struct meter m;
    uint64_t at, i = 0;

    begin(&m, "frame");
    for (at = 0; at < total; at += body_len, i++)
        seal_one(frames + (uint64_t)(i % count) * stride, ring + at % (63 * MIB), body_len, at);
    end(&m, total);
}

static void stage_receive(uint8_t *window, const uint8_t *frames, uint16_t body_len, uint64_t total)
{
    uint32_t stride = (uint32_t)hk_round_up(body_len + 48u, 64), count = 64 * MIB / stride;
    uint64_t at, i = 0, hashed = 0;
    struct meter m;
    struct hk_frame h;

    begin(&m, "receive");
    for (at = 0; at < total; at += body_len, i++) {
        const uint8_t *frame = frames + (uint64_t)(i % count) * stride;

        HK_ASSERT(hk_frame_open_plain(frame, body_len + 48u) == HK_FRAME_OK);
        HK_ASSERT(hk_frame_decode(frame, body_len + 48u, &h) == HK_FRAME_OK);
        memcpy(window + at % (63 * MIB), frame + HK_FRAME_HEADER_BYTES, body_len);
        for (; hashed + RECORD <= at; hashed += RECORD)
            sink += hk_xxh64(window + hashed % (62 * MIB), RECORD, 0);
    }
    end(&m, total);
}

static int udp_pair(int fd[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int i;

    for (i = 0; i < 2; i++) {
        fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd[i] < 0)
            return -errno;
    }
    if (bind(fd[1], (struct sockaddr *)&a, sizeof(a)) ||
        getsockname(fd[1], (struct sockaddr *)&a, &len) ||
        connect(fd[0], (struct sockaddr *)&a, sizeof(a)))
        return -errno;
    return 0;
}

/* One datagram out and in again: what the kernel costs both ends, without waiting for anybody. */
static int stage_wire(const uint8_t *frames, uint8_t *in, uint16_t body_len, uint64_t total)
{
    uint32_t stride = (uint32_t)hk_round_up(body_len + 48u, 64), count = 64 * MIB / stride;
    size_t bytes = body_len + 48u;
    struct meter m;
    uint64_t at, i = 0;
    int fd[2] = { -1, -1 };

    if (udp_pair(fd))
        return 1;
    begin(&m, "wire");
    for (at = 0; at < total; at += body_len, i++)
        if (send(fd[0], frames + (uint64_t)(i % count) * stride, bytes, 0) != (ssize_t)bytes ||
            recv(fd[1], in, 16384, 0) != (ssize_t)bytes)
            return 1;
    end(&m, total);
    close(fd[0]);
    close(fd[1]);
    return 0;
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

int main(int argc, char **argv)
{
    static const struct option options[] = {{"mtu", 1, NULL, 'm'},
                                            {"megabytes", 1, NULL, 'n'},
                                            {"journal", 1, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    uint64_t total = 256ull * MIB;
    const char *journal = NULL;
    uint8_t *a, *b, *c;
    uint16_t body_len;
    uint32_t mtu = 1500;
    int k;

    while ((k = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (k == 'm')
            mtu = (uint32_t)atoi(optarg);
        else if (k == 'n')
            total = (uint64_t)atoi(optarg) * MIB;
        else if (k == 'j')
            journal = optarg;
        else
            return 1;
    }
    if (!journal || mtu < 576 || mtu > 9600) {
        fprintf(stderr, "usage: hk-stages --mtu 576..9600 --journal FILE [--megabytes N]\n");
        return 1;
    }
    body_len = (uint16_t)(mtu - 28 - 48);
    a = aligned_alloc(4096, 64 * MIB);
    b = aligned_alloc(4096, 64 * MIB + 65536);
    c = aligned_alloc(4096, 64 * MIB);
    if (!a || !b || !c)
        return 1;
    memset(a, 0x5a, 64 * MIB);
    memset(b, 0, 64 * MIB + 65536);
    memset(c, 0x33, 64 * MIB);
    stage_capture(a, c, total);
    stage_frame(b, a, body_len, total);
    if (stage_wire(b, c, body_len, total)) {
        fprintf(stderr, "hk-stages: wire: %s\n", strerror(errno));
        return 1;
    }
    stage_receive(c, b, body_len, 60ull * MIB);
    if (stage_journal(journal, c, total)) {
        fprintf(stderr, "hk-stages: %s: %s\n", journal, strerror(errno));
        return 1;
    }
    free(a);
    free(b);
    free(c);
    return sink == 42;
}
