/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hk-wire: a bad line. Carries Ethernet frames between two interfaces and loses, duplicates,
 * delays, reorders and corrupts them on the way, seeded, so that no kernel module (netem) is
 * needed.
 *
 * One thread, one heap of frames by due time. Frames cross with their virtio header, so checksums
 * left to the hardware and large segments stay what they were; therefore a corrupted UDP payload
 * arrives as if its checksum were right, which is what the product's own tag has to find. Only UDP
 * is corrupted: TCP has nothing but that checksum. Ends on SIGTERM and prints what it did.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 70000, HEAP_MAX = 1 << 16, IP_PROTO_AT = 23, UDP_PAYLOAD_AT = 42 };
#define SECOND_NS UINT64_C(1000000000)

static const char usage[] =
    "usage: hk-wire --between IF,IF [options]\n"
    "  --loss-ppm N --dup-ppm N --reorder-ppm N --corrupt-ppm N\n"
    "  --delay-us N      one way                --jitter-us N   added, uniform\n"
    "  --rate-mbit N     each direction         --queue-ms N    then frames are dropped (100)\n"
    "  --seed N\n";

struct frame {
    uint64_t due_ns, number;
    size_t len;
    int to;
    unsigned char *bytes; /* virtio header, then the frame */
};

struct wire {
    int fd[2];
    struct frame heap[HEAP_MAX];
    size_t count;
    uint64_t number, rng, free_ns[2];
    uint64_t loss, dup, reorder, corrupt, delay_ns, jitter_ns, rate_mbit, queue_ns;
    uint64_t carried, lost, duplicated, reordered, corrupted, overflowed, failed;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    stop = sig;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

static uint64_t rng(struct wire *w)
{
    uint64_t x = (w->rng += 0x9e3779b97f4a7c15u);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool happens(struct wire *w, uint64_t ppm)
{
    return rng(w) % 1000000 < ppm;
}

/* ---- the heap ---- */

static bool before(const struct frame *a, const struct frame *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void push(struct wire *w, struct frame f)
{
    size_t i = w->count++;

    while (i > 0 && before(&f, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = f;
}

static struct frame pop(struct wire *w)
{
    struct frame top = w->heap[0];
    struct frame last = w->heap[--w->count];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= w->count)
            break;
        if (child + 1 < w->count && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* ---- frames ---- */

static bool is_udp(const unsigned char *frame, size_t len)
{
    return len > UDP_PAYLOAD_AT && frame[12] == 0x08 && frame[13] == 0x00 &&
           frame[IP_PROTO_AT] == 17;
}

static void carry(struct wire *w, int to, const unsigned char *bytes, size_t len, uint64_t at_ns)
{
    struct frame f = {.number = w->number++, .len = len, .to = to};

    if (w->count == HEAP_MAX) {
        w->overflowed++;
        return;
    }
    f.bytes = malloc(len);
    if (f.bytes == NULL)
        abort();
    memcpy(f.bytes, bytes, len);
    f.due_ns = at_ns + w->delay_ns + (w->jitter_ns ? rng(w) % w->jitter_ns : 0);
    if (happens(w, w->reorder)) {
        w->reordered++;
        f.due_ns += 200000 + rng(w) % 3000000;
    }
    push(w, f);
}

static void take(struct wire *w, int from)
{
    static unsigned char bytes[FRAME_MAX];
    const size_t header = sizeof(struct virtio_net_hdr);
    struct sockaddr_ll source;
    socklen_t source_len = sizeof(source);
    ssize_t n =
        recvfrom(w->fd[from], bytes, sizeof(bytes), 0, (struct sockaddr *)&source, &source_len);
    uint64_t at = now_ns();
    int to = 1 - from;

    if (n <= (ssize_t)header || source.sll_pkttype == PACKET_OUTGOING)
        return;
    if (happens(w, w->loss)) {
        w->lost++;
        return;
    }
    if (w->rate_mbit > 0) {
        if (w->free_ns[to] > at + w->queue_ns) {
            w->overflowed++;
            return;
        }
        at = w->free_ns[to] > at ? w->free_ns[to] : at;
        at += (uint64_t)n * 8000 / w->rate_mbit;
        w->free_ns[to] = at;
    }
    if (is_udp(bytes + header, (size_t)n - header) && happens(w, w->corrupt)) {
        size_t start = header + UDP_PAYLOAD_AT;

        bytes[start + rng(w) % ((size_t)n - start)] ^= (unsigned char)(1 + rng(w) % 255);
        w->corrupted++;
    }
    carry(w, to, bytes, (size_t)n, at);
    if (happens(w, w->dup)) {
        w->duplicated++;
        carry(w, to, bytes, (size_t)n, at);
    }
}

static void deliver(struct wire *w)
{
    while (w->count > 0 && w->heap[0].due_ns <= now_ns()) {
        struct frame f = pop(w);

        if (send(w->fd[f.to], f.bytes, f.len, 0) < 0)
            w->failed++;
        else
            w->carried++;
        free(f.bytes);
    }
}

static int open_interface(const char *name)
{
    struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct packet_mreq promiscuous = {.mr_type = PACKET_MR_PROMISC};
    int on = 1, buffer = 16 << 20;

    a.sll_ifindex = (int)if_nametoindex(name);
    promiscuous.mr_ifindex = a.sll_ifindex;
    if (fd < 0 || a.sll_ifindex == 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous)) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        fprintf(stderr, "hk-wire: %s: %s\n", name, strerror(errno));
        exit(2);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
    return fd;
}

static const struct option options[] = {
    {"between", required_argument, NULL, 'b'},
    {"loss-ppm", required_argument, NULL, 'l'},
    {"dup-ppm", required_argument, NULL, 'd'},
    {"reorder-ppm", required_argument, NULL, 'r'},
    {"corrupt-ppm", required_argument, NULL, 'c'},
    {"delay-us", required_argument, NULL, 'D'},
    {"jitter-us", required_argument, NULL, 'j'},
    {"rate-mbit", required_argument, NULL, 'R'},
    {"queue-ms", required_argument, NULL, 'q'},
    {"seed", required_argument, NULL, 's'},
    {0},
};

static void parse(struct wire *w, int argc, char **argv)
{
    char *comma;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t n = c != 'b' && optarg != NULL ? strtoull(optarg, NULL, 0) : 0;

        switch (c) {
        case 'b':
            comma = strchr(optarg, ',');
            if (comma == NULL)
                break;
            *comma = 0;
            w->fd[0] = open_interface(optarg);
            w->fd[1] = open_interface(comma + 1);
            continue;
        case 'l': w->loss = n; continue;
        case 'd': w->dup = n; continue;
        case 'r': w->reorder = n; continue;
        case 'c': w->corrupt = n; continue;
        case 'D': w->delay_ns = n * 1000; continue;
        case 'j': w->jitter_ns = n * 1000; continue;
        case 'R': w->rate_mbit = n; continue;
        case 'q': w->queue_ns = n * 1000000; continue;
        case 's': w->rng = n; continue;
        }
        fputs(usage, stderr);
        exit(2);
    }
    if (w->fd[0] < 0 || optind != argc) {
        fputs(usage, stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct wire w = {.fd = {-1, -1}, .queue_ns = 100000000, .rng = 1};
    struct sigaction action = {.sa_handler = on_signal};

    parse(&w, argc, argv);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    printf("ready\n");
    fflush(stdout);
    while (!stop) {
        struct pollfd fds[2] = {{.fd = w.fd[0], .events = POLLIN},
                                {.fd = w.fd[1], .events = POLLIN}};
        uint64_t now = now_ns();
        uint64_t wait = w.count == 0             ? SECOND_NS
                        : w.heap[0].due_ns > now ? w.heap[0].due_ns - now
                                                 : 0;
        struct timespec ts = {.tv_sec = (time_t)(wait / SECOND_NS),
                              .tv_nsec = (long)(wait % SECOND_NS)};

        if (ppoll(fds, 2, &ts, NULL) < 0 && errno != EINTR)
            break;
        for (int i = 0; i < 2; i++) {
            for (int burst = 0; burst < 32 && (fds[i].revents & POLLIN); burst++)
                take(&w, i);
        }
        deliver(&w);
    }
    while (w.count > 0)
        free(pop(&w).bytes);
    printf("carried %" PRIu64 " lost %" PRIu64 " duplicated %" PRIu64 " reordered %" PRIu64
           " corrupted %" PRIu64 " overflowed %" PRIu64 " failed %" PRIu64 "\n",
           w.carried, w.lost, w.duplicated, w.reordered, w.corrupted, w.overflowed, w.failed);
    return 0;
}
