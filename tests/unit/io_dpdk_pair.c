/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a DPDK link over a real kernel interface carries frames between two network stacks, gets on
 * with the kernel's own stack beside it, and survives what strangers send.
 * Method: two network namespaces joined by a veth pair, a process in each with its own EAL; both
 * vanish with the processes. Needs root or user namespaces; else it says so and exits with 77.
 *
 *   io_dpdk_pair                       all checks
 *   io_dpdk_pair bench udp|dpdk MTU    throughput, round trip and idle cost, printed
 */
#include "driver-glue/capture/capture.h"
#include "replicator/io/clock.h"
#include "replicator/io/link.h"
#include "replicator/io/reactor.h"
#include "tests/unit/io_frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SESSION_COUNT = 77, SESSION_ECHO = 78, SEEN_MAX = 1 << 16, SKIP = 77 };
#define MS 1000000ull

/* What the far end tells, through shared memory: no packet of the test itself is on the wire. */
struct far_state {
    int ready, quit, up;
    uint64_t good, wrong, cpu_ns, sleeps;
    struct hk_link_stats stats;
    char error[320];
    uint8_t seen[SEEN_MAX];
};

struct end {
    struct hk_reactor *reactor;
    struct hk_link *link;
    struct hk_poller poller;
    struct far_state *state; /* where it counts */
    uint64_t next_pn;
    uint64_t echoes, echo_pn;
    bool flushed;
};

static const char *scenario = "setup";
static pid_t holder; /* keeps the far namespace */

#define CHECK(e)                                                                  \
    do {                                                                          \
        if (!(e)) {                                                               \
            printf("not ok - %s: %s:%d: %s\n", scenario, __FILE__, __LINE__, #e); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
    char command[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(command, sizeof(command), format, ap);
    va_end(ap);
    return system(command);
}

static uint64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);

    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        perror(path);
    close(fd);
}

static void skip_all(const char *why)
{
    printf("1..0 # SKIP %s: %s\n", why, strerror(errno));
    exit(SKIP);
}

/* ---- one end of a link ---- */

static void got_frame(void *arg, const struct hk_frame *hdr, const uint8_t *body)
{
    struct end *e = arg;
    struct hk_frame h = *hdr;
    struct hk_iovec iov = {(void *)(uintptr_t)body, hdr->body_len};

    if (hdr->session == SESSION_ECHO) {
        e->echoes++;
        e->echo_pn = hdr->packet_number;
        if (e->state->ready == 2) { /* the far end answers */
            (void)hk_link_send(e->link, &h, &iov, 1);
            hk_link_flush(e->link);
        }
        return;
    }
    e->state->wrong += !io_frame_right(hdr, body);
    if (hdr->packet_number < SEEN_MAX)
        e->state->seen[hdr->packet_number]++;
    /* Last: the near end takes it as the sign that the rest is there. */
    __atomic_fetch_add(&e->state->good, 1, __ATOMIC_RELEASE);
}

static uint32_t end_poll(void *arg, const struct hk_now *now)
{
    struct end *e = arg;

    hk_link_flush(e->link);
    return hk_link_poll(e->link, now, got_frame, NULL, e, 256);
}

static uint64_t end_deadline_ns(void *arg)
{
    return hk_link_deadline_ns(((struct end *)arg)->link);
}

static int open_end(struct end *e, const struct hk_link_cfg *cfg, struct hk_io_error *err)
{
    int ret = hk_reactor_create(&(struct hk_reactor_cfg){.cpu = -1}, &e->reactor, err);

    if (ret < 0)
        return ret;
    ret = hk_link_create(cfg, e->reactor, &e->link, err);
    if (ret < 0) {
        hk_reactor_free(e->reactor);
        return ret;
    }
    e->next_pn = 1;
    e->poller = (struct hk_poller){
        .name = "end",
        .arg = e,
        .poll = end_poll,
        .deadline_ns = end_deadline_ns,
        .must_poll = hk_link_must_poll(e->link),
    };
    hk_reactor_add(e->reactor, &e->poller);
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    return 0;
}

static void close_end(struct end *e)
{
    hk_reactor_remove(e->reactor, &e->poller);
    hk_link_free(e->link);
    hk_reactor_free(e->reactor);
}

static int send_frame(struct end *e, uint32_t session, uint16_t body_len)
{
    static uint8_t body[HK_FRAME_BODY_MAX];
    struct hk_frame h = io_frame_header(0, e->next_pn, body_len);
    struct hk_iovec iov = {body, body_len};
    int ret;

    h.session = session;
    if (session == SESSION_COUNT)
        io_frame_fill(body, e->next_pn, body_len);
    ret = hk_link_send(e->link, &h, &iov, 1);
    e->next_pn += ret == 0;
    return ret;
}

/* The far process: counts, answers, reports. */
static void far_main(const struct hk_link_cfg *cfg, struct far_state *s)
{
    struct end e = {.state = s};
    struct hk_io_error err = {0};
    struct hk_reactor_stats rs;
    char path[64];
    int fd;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)holder);
    fd = open(path, O_RDONLY);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        _exit(3);
    close(fd);
    if (open_end(&e, cfg, &err) < 0) {
        memcpy(s->error, err.text, sizeof(s->error));
        s->ready = -1;
        _exit(2);
    }
    __atomic_store_n(&s->ready, 2, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&s->quit, __ATOMIC_RELAXED)) {
        hk_reactor_turn(e.reactor, 50 * MS);
        s->up = hk_link_is_up(e.link);
        s->cpu_ns = cpu_ns();
        hk_reactor_stats(e.reactor, &rs);
        s->sleeps = rs.sleeps;
        hk_link_stats(e.link, &s->stats);
    }
    close_end(&e);
    _exit(0);
}

static pid_t start_far(const struct hk_link_cfg *cfg, struct far_state *s)
{
    pid_t pid;

    memset(s, 0, sizeof(*s));
    fflush(stdout);
    pid = fork();
    if (pid == 0)
        far_main(cfg, s);
    for (int i = 0; i < 1000 && !__atomic_load_n(&s->ready, __ATOMIC_SEQ_CST); i++)
        usleep(5000);
    if (s->ready != 2) {
        printf("# far end: %s\n", s->error);
        CHECK(s->ready == 2);
    }
    return pid;
}

static void stop_far(pid_t pid, struct far_state *s)
{
    int status = -1;

    s->quit = 1;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Turns the near end until the condition holds; false after the time. */
#define UNTIL(e, ms, condition)                                        \
    ({                                                                 \
        uint64_t end_ns_ = hk_clock_mono_ns() + (ms)*MS;               \
        bool held_ = false;                                            \
        while (!(held_ = (condition)) && hk_clock_mono_ns() < end_ns_) \
            hk_reactor_turn((e)->reactor, 2 * MS);                     \
        held_;                                                         \
    })

/* ---- namespaces ---- */

static void make_namespaces(uint32_t mtu)
{
    uid_t uid = getuid();
    gid_t gid = getgid();
    char map[64];

    if (unshare(uid == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) != 0)
        skip_all("no network namespace of our own");
    if (uid != 0) {
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof(map), "0 %d 1", (int)uid);
        write_file("/proc/self/uid_map", map);
        snprintf(map, sizeof(map), "0 %d 1", (int)gid);
        write_file("/proc/self/gid_map", map);
    }
    holder = fork();
    if (holder == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWNET) != 0)
            _exit(1);
        for (;;)
            pause();
    }
    usleep(100000);
    if (run("ip link add va type veth peer name vb netns %d 2>/dev/null", (int)holder) != 0)
        skip_all("no veth pair (ip link add)");
    CHECK(run("ip addr add 10.77.0.1/24 dev va && ip link set lo up && "
              "ip link set va mtu %u up",
              mtu) == 0);
    CHECK(run("nsenter -t %d -n sh -c 'ip addr add 10.77.0.2/24 dev vb && ip link set lo up && "
              "ip link set vb mtu %u up'",
              (int)holder, mtu) == 0);
}

static struct hk_link_cfg near_cfg(enum hk_link_backend backend)
{
    return (struct hk_link_cfg){
        .backend = backend,
        .local_address = backend == HK_LINK_DPDK ? "10.77.0.11" : "10.77.0.1",
        .local_port = 7000,
        .peer_address = backend == HK_LINK_DPDK ? "10.77.0.12" : "10.77.0.2",
        .peer_port = 7001,
        .device = "va",
    };
}

static struct hk_link_cfg far_cfg(enum hk_link_backend backend)
{
    return (struct hk_link_cfg){
        .backend = backend,
        .local_address = backend == HK_LINK_DPDK ? "10.77.0.12" : "10.77.0.2",
        .local_port = 7001,
        .peer_address = backend == HK_LINK_DPDK ? "10.77.0.11" : "10.77.0.1",
        .peer_port = 7000,
        .device = "vb",
    };
}

static uint64_t snmp_value(const char *command)
{
    FILE *f = popen(command, "r");
    unsigned long long v = 0;

    if (f == NULL || fscanf(f, "%llu", &v) != 1)
        v = UINT64_MAX;
    if (f != NULL)
        pclose(f);
    return v;
}

/* ---- checks ---- */

static uint64_t far_good(const struct far_state *far)
{
    return __atomic_load_n(&far->good, __ATOMIC_ACQUIRE);
}

/* Sends count frames of all lengths in small steps and demands every one of them, once, whole. */
static void exchange(struct end *e, struct far_state *far, uint32_t count)
{
    uint32_t max = hk_link_body_max(e->link);
    uint64_t before = far->good, first = e->next_pn;

    for (uint32_t i = 0; i < count; i++) {
        CHECK(send_frame(e, SESSION_COUNT, (uint16_t)(1 + (i * 37) % max)) == 0);
        if (i % 32 == 31 && !UNTIL(e, 3000, far_good(far) == before + i + 1)) {
            struct hk_link_stats a = {0}, *b = &far->stats;

            hk_link_stats(e->link, &a);
            printf("# %u sent, %llu seen; near tx %llu errors %llu; far rx %llu foreign %llu\n",
                   i + 1, (unsigned long long)(far->good - before), (unsigned long long)a.frames_tx,
                   (unsigned long long)a.tx_errors, (unsigned long long)b->frames_rx,
                   (unsigned long long)b->rx_foreign);
            CHECK(far->good == before + i + 1);
        }
    }
    CHECK(UNTIL(e, 3000, far_good(far) == before + count));
    CHECK(far->wrong == 0);
    for (uint64_t pn = first; pn < e->next_pn; pn++) {
        if (far->seen[pn] != 1)
            printf("# packet %llu of %llu seen %u times\n", (unsigned long long)pn,
                   (unsigned long long)e->next_pn, far->seen[pn]);
        CHECK(far->seen[pn] == 1);
    }
}

static uint64_t rtt_median_ns(struct end *e, uint32_t rounds, uint16_t bytes, uint64_t *ret_p99)
{
    uint64_t *t = calloc(rounds, sizeof(*t));
    uint64_t p50;

    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t start = hk_clock_mono_ns(), pn = e->next_pn;

        CHECK(UNTIL(e, 2000, hk_link_has_room(e->link)));
        CHECK(send_frame(e, SESSION_ECHO, bytes) == 0);
        hk_link_flush(e->link);
        CHECK(UNTIL(e, 2000, e->echo_pn == pn));
        t[i] = hk_clock_mono_ns() - start;
    }
    for (uint32_t i = 1; i < rounds; i++) /* few, nearly sorted */
        for (uint32_t k = i; k > 0 && t[k] < t[k - 1]; k--) {
            uint64_t x = t[k];

            t[k] = t[k - 1];
            t[k - 1] = x;
        }
    p50 = t[rounds / 2];
    *ret_p99 = t[rounds * 99 / 100];
    free(t);
    return p50;
}

static void ping(struct end *e, const char *address, uint32_t bytes, bool expected)
{
    /* In a process of its own: we have to answer meanwhile. */
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        int ret = run("ping -n -q -c 2 -i 0.2 -W 1 -M do -s %u %s >/dev/null 2>&1", bytes, address);

        _exit(ret == 0 ? 0 : 1);
    }
    CHECK(UNTIL(e, 8000, waitpid(pid, &status, WNOHANG) == pid));
    if ((WEXITSTATUS(status) == 0) != expected)
        printf("# ping %s -s %u: %d\n", address, bytes, WEXITSTATUS(status));
    CHECK((WEXITSTATUS(status) == 0) == expected);
}

static void test_own_address(struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(HK_LINK_DPDK), other = far_cfg(HK_LINK_DPDK);
    struct far_state *near = calloc(1, sizeof(*near));
    struct end e = {.state = near};
    struct hk_io_error err = {0};
    struct hk_link_stats s;
    uint64_t p50, p99;
    pid_t pid;

    scenario = "own address";
    pid = start_far(&other, far);
    if (open_end(&e, &cfg, &err) < 0) {
        printf("# %s\n", err.text);
        CHECK(false);
    }
    printf("# %s\n", hk_link_text(e.link));
    CHECK(!hk_link_is_up(e.link) || far->up); /* nobody is asked before the first poll */
    CHECK(UNTIL(&e, 5000, hk_link_is_up(e.link) && far->up));
    exchange(&e, far, 4000);
    p50 = rtt_median_ns(&e, 400, 100, &p99);
    printf("# round trip of 100 bytes: p50 %llu us, p99 %llu us\n", (unsigned long long)p50 / 1000,
           (unsigned long long)p99 / 1000);
    scenario = "ping of a Linux neighbour";
    ping(&e, "10.77.0.12", 56, true);
    ping(&e, "10.77.0.12", 1472, true);
    ping(&e, "10.77.0.2", 56, true);   /* the kernel beside it still answers */
    ping(&e, "10.77.0.77", 56, false); /* and nobody answers for somebody else */
    CHECK(far->stats.icmp_rx >= 4);
    CHECK(far->stats.arp_rx >= 1);
    scenario = "address asked for: ours, once";
    CHECK(run("ip neigh show 10.77.0.12 dev va | grep -q lladdr") == 0);
    hk_link_stats(e.link, &s);
    CHECK(s.tx_errors == 0 && s.frames_rx == 400);
    printf("ok - frames, round trips, ping\n");

    scenario = "carrier lost and back";
    CHECK(run("ip link set va down") == 0);
    CHECK(UNTIL(&e, 2000, !hk_link_is_up(e.link)));
    CHECK(UNTIL(&e, 2000, !far->up)); /* veth: the far side loses carrier too */
    CHECK(run("ip link set va up") == 0);
    CHECK(UNTIL(&e, 5000, hk_link_is_up(e.link) && far->up));
    exchange(&e, far, 200);
    printf("ok - %s\n", scenario);
    close_end(&e);
    stop_far(pid, far);
    free(near);
}

/* With the interface's address: the kernel must not speak against us. */
static void test_shared_address(struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(HK_LINK_DPDK), other = far_cfg(HK_LINK_DPDK);
    /* Columns come and go with kernels: found by name. */
    const char *unreachable = "awk '/^Icmp:/ {for (i = 2; i <= NF; i++) {"
                              "if ($i == \"OutDestUnreachs\") c = i; "
                              "else if (c == i && $i ~ /^[0-9]+$/) print $i}}' /proc/net/snmp";
    struct far_state *near = calloc(1, sizeof(*near));
    struct end e = {.state = near};
    struct hk_io_error err = {0};
    uint64_t before;
    pid_t pid;
    int fd;

    scenario = "address shared with the kernel";
    cfg.local_address = NULL;
    other.peer_address = "10.77.0.1";
    pid = start_far(&other, far);
    CHECK(open_end(&e, &cfg, &err) == 0);
    CHECK(strstr(hk_link_text(e.link), "10.77.0.1:7000") != NULL);
    CHECK(UNTIL(&e, 5000, hk_link_is_up(e.link) && far->up));
    exchange(&e, far, 500);
    before = snmp_value(unreachable);
    (void)rtt_median_ns(&e, 200, 500, &(uint64_t){0});
    CHECK(snmp_value(unreachable) == before);
    /* The port is taken for everybody else. */
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(fd,
               (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET,
                                                        .sin_port = htons(7000),
                                                        .sin_addr.s_addr = htonl(0x0a4d0001)},
               sizeof(struct sockaddr_in)) != 0 &&
          errno == EADDRINUSE);
    close(fd);
    close_end(&e);
    /* Nobody guards the port now: the kernel complains about the same kind of packet. */
    CHECK(run("nsenter -t %d -n bash -c 'echo x >/dev/udp/10.77.0.1/7000'", (int)holder) == 0);
    usleep(200000);
    CHECK(snmp_value(unreachable) > before);
    printf("ok - %s\n", scenario);
    stop_far(pid, far);
    free(near);
}

/* The kernel is the judge of our headers and checksums, and we of its. */
static void test_against_the_kernel(struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(HK_LINK_UDP), other = far_cfg(HK_LINK_DPDK);
    struct far_state *near = calloc(1, sizeof(*near));
    struct end e = {.state = near};
    struct hk_io_error err = {0};
    uint64_t p99;
    pid_t pid;

    scenario = "UDP here, DPDK there";
    cfg.peer_address = "10.77.0.12";
    other.peer_address = "10.77.0.1";
    pid = start_far(&other, far);
    CHECK(open_end(&e, &cfg, &err) == 0);
    CHECK(UNTIL(&e, 5000, far->up));
    /* One by one, so that nothing crosses the veth as one large packet yet to be cut. */
    for (uint16_t bytes = 1; bytes < 1400; bytes += 7)
        (void)rtt_median_ns(&e, 1, bytes, &p99);
    close_end(&e);
    stop_far(pid, far);
    printf("ok - %s\n", scenario);
    free(near);
}

/* A link is given up and opened again, in one process. */
static void test_again(struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(HK_LINK_DPDK), other = far_cfg(HK_LINK_DPDK);
    struct far_state *near = calloc(1, sizeof(*near));
    struct hk_io_error err = {0};
    pid_t pid;

    scenario = "opened again";
    pid = start_far(&other, far);
    for (int i = 0; i < 5; i++) {
        struct end e = {.state = near};

        if (open_end(&e, &cfg, &err) != 0) {
            printf("# %s\n", err.text);
            CHECK(false);
        }
        CHECK(UNTIL(&e, 5000, hk_link_is_up(e.link) && far->up));
        memset(far->seen, 0, sizeof(far->seen));
        exchange(&e, far, 100);
        close_end(&e);
    }
    stop_far(pid, far);
    printf("ok - %s\n", scenario);
    free(near);
}

static void throw_junk(uint64_t rounds)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
    int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    uint64_t seed = 11;
    uint8_t p[1514];

    to.sll_ifindex = (int)if_nametoindex("va");
    CHECK(fd >= 0);
    for (uint64_t i = 0; i < rounds; i++) {
        size_t len = 14 + (size_t)(seed % 1400);

        for (size_t k = 0; k < sizeof(p); k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            p[k] = (uint8_t)(seed >> 56);
        }
        memset(p, 0xff, 6);
        p[12] = 8;
        p[13] = i % 2 ? 6 : 0;
        if (i % 2 == 0) { /* IPv4 to the link, with a header that lies */
            p[14] = (uint8_t)(0x40 | (i % 16));
            p[23] = i % 4 ? 17 : 1;
            memcpy(p + 30, "\x0a\x4d\x00\x0c", 4);
        } else { /* ARP about the link's address */
            memcpy(p + 14, "\x00\x01\x08\x00\x06\x04\x00\x01", 8);
            memcpy(p + 38, "\x0a\x4d\x00\x0c", 4);
            if (i % 3 == 0)
                len = 14 + i % 28;
        }
        (void)sendto(fd, p, len, 0, (struct sockaddr *)&to, sizeof(to));
        if (i % 64 == 0)
            usleep(1000);
    }
    close(fd);
}

static void test_junk(struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(HK_LINK_DPDK), other = far_cfg(HK_LINK_DPDK);
    struct far_state *near = calloc(1, sizeof(*near));
    struct end e = {.state = near};
    struct hk_io_error err = {0};
    pid_t pid;

    scenario = "junk";
    pid = start_far(&other, far);
    CHECK(open_end(&e, &cfg, &err) == 0);
    CHECK(UNTIL(&e, 5000, hk_link_is_up(e.link) && far->up));
    throw_junk(4000);
    CHECK(UNTIL(&e, 3000, far->stats.rx_foreign >= 1000));
    exchange(&e, far, 500);
    CHECK(far->up);
    close_end(&e);
    stop_far(pid, far);
    printf("ok - %s: %llu foreign packets\n", scenario, (unsigned long long)far->stats.rx_foreign);
    free(near);
}

static void test_jumbo(struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(HK_LINK_DPDK), other = far_cfg(HK_LINK_DPDK);
    struct far_state *near = calloc(1, sizeof(*near));
    struct end e = {.state = near};
    struct hk_io_error err = {0};
    pid_t pid;

    scenario = "jumbo frames";
    cfg.mtu = 9000;
    CHECK(open_end(&e, &cfg, &err) == -EINVAL);
    CHECK(strstr(err.text, "ip link set va mtu 9000") != NULL);
    CHECK(run("ip link set va mtu 9000 && nsenter -t %d -n ip link set vb mtu 9000", (int)holder) ==
          0);
    pid = start_far(&other, far); /* takes the interface's */
    CHECK(open_end(&e, &cfg, &err) == 0);
    CHECK(hk_link_body_max(e.link) == 9000 - 28 - 48);
    CHECK(UNTIL(&e, 5000, hk_link_is_up(e.link) && far->up));
    exchange(&e, far, 3000);
    close_end(&e);
    stop_far(pid, far);
    printf("ok - %s\n", scenario);
    free(near);
}

static void refused(struct hk_link_cfg cfg, int error, const char *word)
{
    struct end e = {0};
    struct hk_io_error err = {0};
    int ret = open_end(&e, &cfg, &err);

    if (ret != error || strstr(err.text, word) == NULL)
        printf("# %d (%s), expected %d: %s\n", ret, strerror(-ret), error, err.text);
    CHECK(ret == error && strstr(err.text, word) != NULL);
}

static void test_refusals(struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(HK_LINK_DPDK), c;

    scenario = "refusals";
    c = cfg, c.device = NULL;
    refused(c, -EINVAL, "needs a device");
    c = cfg, c.device = "nosuch0";
    refused(c, -ENODEV, "nosuch0");
    c = cfg, c.peer_address = "10.78.0.1";
    refused(c, -EINVAL, "gateway");
    c = cfg, c.peer_address = c.local_address;
    refused(c, -EINVAL, "own address is the peer's");
    c = cfg, c.local_address = NULL, c.device = "lo", c.peer_address = "10.77.0.12";
    refused(c, -EINVAL, "subnet");
    c = cfg, c.device = "net_nosuchdriver0,x=1";
    refused(c, -ENODEV, "does not take the device");
    printf("ok - %s\n", scenario);
}

/* ---- figures ---- */

static void bench_throughput(struct end *e, struct far_state *far, double seconds)
{
    uint32_t body = hk_link_body_max(e->link);
    int64_t window = (2 << 20) / (int64_t)body;
    uint64_t start = hk_clock_mono_ns();
    uint64_t end = start + (uint64_t)(seconds * 1e9), far_cpu = far->cpu_ns, cpu = cpu_ns();
    uint64_t good = far->good, first = e->next_pn, stuck = start, last = 0;
    int64_t given_up = 0;
    double took, gbit;

    while (hk_clock_mono_ns() < end) {
        int64_t in_flight = (int64_t)(e->next_pn - first - (far->good - good)) - given_up;

        for (; in_flight < window && hk_link_has_room(e->link); in_flight++)
            if (send_frame(e, SESSION_COUNT + 2, (uint16_t)body) != 0)
                break;
        hk_link_flush(e->link);
        hk_reactor_turn(e->reactor, 200000);
        if (far->good != last) {
            last = far->good;
            stuck = hk_clock_mono_ns();
        } else if (hk_clock_mono_ns() - stuck > 20 * MS) {
            given_up += in_flight; /* lost */
            stuck = hk_clock_mono_ns();
        }
    }
    took = (double)(hk_clock_mono_ns() - start) / 1e9;
    gbit = (double)(far->good - good) * body * 8 / took / 1e9;
    printf("  throughput %.2f Gbit/s, %.0f kframes/s, lost %.3f %%, cpu send %.2f receive %.2f\n",
           gbit, (double)(far->good - good) / took / 1e3,
           100.0 * (double)given_up / (double)(e->next_pn - first),
           (double)(cpu_ns() - cpu) / 1e9 / took, (double)(far->cpu_ns - far_cpu) / 1e9 / took);
}

static void bench(enum hk_link_backend backend, struct far_state *far)
{
    struct hk_link_cfg cfg = near_cfg(backend), other = far_cfg(backend);
    struct far_state *near = calloc(1, sizeof(*near));
    struct end e = {.state = near};
    struct hk_io_error err = {0};
    uint64_t p50, p99, cpu, far_cpu, start;
    pid_t pid;

    scenario = "bench";
    pid = start_far(&other, far);
    CHECK(open_end(&e, &cfg, &err) == 0);
    CHECK(UNTIL(&e, 5000, hk_link_is_up(e.link) && far->up));
    printf("%s\n", hk_link_text(e.link));
    for (int i = 0; i < 3; i++)
        bench_throughput(&e, far, 1.5);
    usleep(100000);
    p50 = rtt_median_ns(&e, 3000, 100, &p99);
    printf("  round trip, one after the other: p50 %.1f us, p99 %.1f us\n", (double)p50 / 1e3,
           (double)p99 / 1e3);
    (void)UNTIL(&e, 300, false);
    start = hk_clock_mono_ns();
    cpu = cpu_ns();
    far_cpu = far->cpu_ns;
    (void)UNTIL(&e, 2000, false);
    printf("  idle: cpu near %.3f far %.3f\n",
           (double)(cpu_ns() - cpu) / (double)(hk_clock_mono_ns() - start),
           (double)(far->cpu_ns - far_cpu) / (double)(hk_clock_mono_ns() - start));
    {
        uint64_t sum = 0, worst = 0;

        for (int i = 0; i < 200; i++) {
            uint64_t t0, pn = e.next_pn;

            (void)UNTIL(&e, 5, false);
            t0 = hk_clock_mono_ns();
            CHECK(send_frame(&e, SESSION_ECHO, 100) == 0);
            hk_link_flush(e.link);
            CHECK(UNTIL(&e, 2000, e.echo_pn == pn));
            t0 = hk_clock_mono_ns() - t0;
            sum += t0;
            worst = hk_max_u64(worst, t0);
        }
        printf("  round trip after 5 ms of rest: mean %.1f us, worst %.1f us\n",
               (double)sum / 200e3, (double)worst / 1e3);
    }
    close_end(&e);
    stop_far(pid, far);
    free(near);
}

/* In a process of its own: EAL lives once in each, and its memory must not be forked. */
static void in_process(void (*test)(struct far_state *far), struct far_state *far)
{
    pid_t pid;
    int status = -1;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        test(far);
        exit(0);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        printf("# ended with status %#x\n", (unsigned)status);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct far_state *far =
        mmap(NULL, sizeof(*far), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(100);
    if (argc == 4) {
        make_namespaces((uint32_t)atoi(argv[3]));
        bench(strcmp(argv[2], "udp") == 0 ? HK_LINK_UDP : HK_LINK_DPDK, far);
    } else {
        make_namespaces(1500);
        in_process(test_refusals, far);
        in_process(test_own_address, far);
        in_process(test_shared_address, far);
        in_process(test_against_the_kernel, far);
        in_process(test_again, far);
        in_process(test_junk, far);
        in_process(test_jumbo, far);
    }
    kill(holder, SIGKILL);
    return 0;
}
