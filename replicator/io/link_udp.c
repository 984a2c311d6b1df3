/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel UDP through the reactor's io_uring: one connected socket, one multishot receive into
 * provided buffers, sends from a fixed pool. Runs of equal frames leave as one message that the
 * kernel cuts (UDP_SEGMENT) and may arrive joined again (UDP_GRO): the honest peer of the DPDK
 * link should not be slower than the kernel can.
 */
#include "replicator/io/link_backend.h"

#include "replicator/io/clock.h"
#include "replicator/io/reactor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    TX_FRAMES_DEFAULT = 1024,
    RX_FRAMES_DEFAULT = 4096,
    RX_FRAMES_PER_BUFFER = 32, /* how many frames one receive buffer is reckoned to hold */
    RX_BUFFERS_MIN = 16,
    RX_BUFFERS_MAX = 1024,
    RX_CONTROL_BYTES = CMSG_SPACE(sizeof(int)),
    RX_BUFFER_BYTES = 65536 + 128, /* the largest joined datagram, and what describes it */
    GSO_BYTES_MAX = 65507,
    SOCKET_BUFFER_BYTES = 16 << 20,
};

#define RX_RETRY_NS 10000000ull

struct udp_tx {
    struct hk_link_buf buf; /* first */
    struct udp_tx *next;
};

/* One sendmsg in flight: a run of frames. */
struct udp_msg {
    struct hk_completion completion;
    struct udp_link *link;
    struct udp_msg *next;
    struct msghdr hdr;
    struct iovec iov[HK_LINK_BURST];
    struct udp_tx *tx[HK_LINK_BURST];
    uint32_t count;
    bool segmented;
    char control[CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8)));
};

/* A filled receive buffer that was not consumed yet. */
struct udp_rx {
    uint16_t buffer;
    uint32_t offset, bytes, segment_bytes;
};

struct udp_link {
    struct hk_link link; /* first */
    struct hk_reactor *reactor;
    int fd;
    bool gso;
    int last_error; /* -errno of the last send, 0 if it went */
    uint32_t frame_bytes;

    uint8_t *tx_memory;
    size_t tx_memory_bytes;
    struct udp_tx *tx, *tx_free;
    struct udp_msg *msgs, *msgs_free;
    uint32_t tx_free_count, msgs_in_flight;

    struct hk_completion rx_completion;
    struct msghdr rx_hdr;
    bool rx_armed;
    uint64_t rx_retry_ns; /* not armed before, after an error that may stay */
    uint16_t rx_group;
    bool rx_registered;
    uint32_t rx_count; /* buffers, a power of two */
    uint8_t *rx_memory;
    struct io_uring_buf_ring *rx_ring;
    struct udp_rx *rx; /* rx_count of them, a ring: [rx_head, rx_tail) are filled */
    uint32_t rx_head, rx_tail, rx_given; /* [rx_given, rx_head): handed out, not given back */
};

static struct udp_link *of(struct hk_link *l)
{
    return HK_CONTAINER_OF(l, struct udp_link, link);
}

/* ---- transmit ---- */

static struct hk_link_buf *udp_tx_take(struct hk_link *l)
{
    struct udp_link *u = of(l);
    struct udp_tx *t = u->tx_free;

    if (t == NULL)
        return NULL;
    u->tx_free = t->next;
    u->tx_free_count--;
    return &t->buf;
}

static void udp_tx_drop(struct hk_link *l, struct hk_link_buf *b)
{
    struct udp_link *u = of(l);
    struct udp_tx *t = HK_CONTAINER_OF(b, struct udp_tx, buf);

    t->next = u->tx_free;
    u->tx_free = t;
    u->tx_free_count++;
}

static uint32_t udp_tx_room(const struct hk_link *l)
{
    return ((const struct udp_link *)(const void *)l)->tx_free_count;
}

static void udp_sent(struct hk_completion *c, int32_t result, uint32_t cqe_flags)
{
    struct udp_msg *m = HK_CONTAINER_OF(c, struct udp_msg, completion);
    struct udp_link *u = m->link;

    for (uint32_t i = 0; i < m->count; i++)
        udp_tx_drop(&u->link, &m->tx[i]->buf);
    m->next = u->msgs_free;
    u->msgs_free = m;
    u->msgs_in_flight--;
    u->last_error = result < 0 ? result : 0;
    if (result >= 0)
        return;
    u->link.stats.tx_errors += m->count;
    /* A device without checksum offload, or a path narrower than the frames: one by one then.
     * What did not go is lost like any frame and comes again. */
    if (m->segmented && (result == -EIO || result == -EINVAL || result == -EMSGSIZE))
        u->gso = false;
}

/* How many frames from the first on may go as one message: equal ones, the last may be shorter. */
static uint32_t run_length(const struct udp_link *u, struct hk_link_buf *const bufs[],
                           uint32_t count)
{
    uint32_t n = 1, bytes = bufs[0]->bytes;

    if (!u->gso)
        return 1;
    while (n < count && bufs[n]->bytes <= bufs[0]->bytes &&
           bytes + bufs[n]->bytes <= GSO_BYTES_MAX) {
        bytes += bufs[n]->bytes;
        n++;
        if (bufs[n - 1]->bytes < bufs[0]->bytes)
            break;
    }
    return n;
}

static void set_segment_bytes(struct udp_msg *m, uint16_t bytes)
{
    struct cmsghdr *c;

    m->hdr.msg_control = m->control;
    m->hdr.msg_controllen = sizeof(m->control);
    c = CMSG_FIRSTHDR(&m->hdr);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(bytes));
    memcpy(CMSG_DATA(c), &bytes, sizeof(bytes));
}

static void send_run(struct udp_link *u, struct hk_link_buf *const bufs[], uint32_t count)
{
    struct udp_msg *m = u->msgs_free;
    struct io_uring_sqe *sqe;

    /* There are as many messages as frames. */
    HK_ASSERT(m != NULL && count <= HK_LINK_BURST);
    u->msgs_free = m->next;
    u->msgs_in_flight++;
    m->count = count;
    m->segmented = count > 1;
    m->hdr = (struct msghdr){.msg_iov = m->iov, .msg_iovlen = count};
    for (uint32_t i = 0; i < count; i++) {
        m->tx[i] = HK_CONTAINER_OF(bufs[i], struct udp_tx, buf);
        m->iov[i] = (struct iovec){bufs[i]->frame, bufs[i]->bytes};
    }
    if (m->segmented)
        set_segment_bytes(m, (uint16_t)bufs[0]->bytes);
    sqe = hk_reactor_sqe(u->reactor, &m->completion);
    io_uring_prep_sendmsg(sqe, u->fd, &m->hdr, 0);
}

static void udp_tx_push(struct hk_link *l, struct hk_link_buf *const bufs[], uint32_t count)
{
    struct udp_link *u = of(l);

    for (uint32_t i = 0; i < count;) {
        uint32_t n = run_length(u, bufs + i, count - i);

        send_run(u, bufs + i, n);
        i += n;
    }
}

/* ---- receive ---- */

static void rx_arm(struct udp_link *u)
{
    struct io_uring_sqe *sqe = hk_reactor_sqe(u->reactor, &u->rx_completion);

    io_uring_prep_recvmsg_multishot(sqe, u->fd, &u->rx_hdr, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = u->rx_group;
    u->rx_armed = true;
}

static void rx_give_back(struct udp_link *u, uint16_t buffer)
{
    io_uring_buf_ring_add(u->rx_ring, u->rx_memory + (size_t)buffer * RX_BUFFER_BYTES,
                          RX_BUFFER_BYTES, buffer, io_uring_buf_ring_mask(u->rx_count), 0);
    io_uring_buf_ring_advance(u->rx_ring, 1);
}

static uint32_t segment_bytes_of(struct io_uring_recvmsg_out *out, struct msghdr *hdr)
{
    for (struct cmsghdr *c = io_uring_recvmsg_cmsg_firsthdr(out, hdr); c != NULL;
         c = io_uring_recvmsg_cmsg_nexthdr(out, hdr, c)) {
        int bytes;

        if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO)
            continue;
        memcpy(&bytes, CMSG_DATA(c), sizeof(bytes));
        return bytes > 0 ? (uint32_t)bytes : 0;
    }
    return 0;
}

static void rx_filled(struct udp_link *u, uint16_t buffer, int32_t result)
{
    uint8_t *base = u->rx_memory + (size_t)buffer * RX_BUFFER_BYTES;
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(base, result, &u->rx_hdr);
    struct udp_rx *r;
    uint32_t bytes;

    if (out == NULL || (out->flags & MSG_TRUNC)) {
        u->link.stats.rx_foreign++;
        rx_give_back(u, buffer);
        return;
    }
    bytes = io_uring_recvmsg_payload_length(out, result, &u->rx_hdr);
    HK_ASSERT(u->rx_tail - u->rx_given < u->rx_count);
    r = &u->rx[u->rx_tail++ & (u->rx_count - 1)];
    *r = (struct udp_rx){
        .buffer = buffer,
        .offset = (uint32_t)((uint8_t *)io_uring_recvmsg_payload(out, &u->rx_hdr) - base),
        .bytes = bytes,
        .segment_bytes = segment_bytes_of(out, &u->rx_hdr),
    };
    if (r->segment_bytes == 0)
        r->segment_bytes = bytes;
}

static void udp_received(struct hk_completion *c, int32_t result, uint32_t cqe_flags)
{
    struct udp_link *u = HK_CONTAINER_OF(c, struct udp_link, rx_completion);

    if (cqe_flags & IORING_CQE_F_BUFFER) {
        uint16_t buffer = (uint16_t)(cqe_flags >> IORING_CQE_BUFFER_SHIFT);

        HK_ASSERT(buffer < u->rx_count);
        if (result >= 0)
            rx_filled(u, buffer, result);
        else
            rx_give_back(u, buffer);
    }
    if (cqe_flags & IORING_CQE_F_MORE)
        return;
    /* Ended; the next poll arms it again. No buffers and errors left by ICMP messages are part of
     * life, one each; any other may stay, and must not keep the reactor turning. */
    u->rx_armed = false;
    if (result < 0 && result != -ENOBUFS && result != -ECONNREFUSED && result != -ECANCELED)
        u->rx_retry_ns = hk_clock_mono_ns() + RX_RETRY_NS;
}

static uint32_t udp_rx_burst(struct hk_link *l, uint8_t *ret_frames[], uint32_t ret_bytes[],
                             uint32_t max, uint32_t *other_work)
{
    struct udp_link *u = of(l);
    uint32_t n = 0;

    while (n < max && u->rx_head != u->rx_tail) {
        struct udp_rx *r = &u->rx[u->rx_head & (u->rx_count - 1)];
        uint32_t piece = (uint32_t)hk_min_u64(r->bytes, r->segment_bytes);

        ret_frames[n] = u->rx_memory + (size_t)r->buffer * RX_BUFFER_BYTES + r->offset;
        ret_bytes[n++] = piece;
        r->offset += piece;
        r->bytes -= piece;
        if (r->bytes == 0)
            u->rx_head++;
    }
    if (!u->rx_armed && n == 0 && u->rx_retry_ns <= l->now_ns)
        rx_arm(u);
    return n;
}

static void udp_rx_done(struct hk_link *l)
{
    struct udp_link *u = of(l);

    while (u->rx_given != u->rx_head)
        rx_give_back(u, u->rx[u->rx_given++ & (u->rx_count - 1)].buffer);
    if (!u->rx_armed && u->rx_retry_ns <= l->now_ns)
        rx_arm(u);
}

/* ---- what it is ---- */

static bool udp_is_up(const struct hk_link *l)
{
    const struct udp_link *u = (const void *)l;

    /* A refused port says that nobody listens yet: the path itself works. */
    return u->last_error == 0 || u->last_error == -ECONNREFUSED;
}

static uint64_t udp_deadline_ns(const struct hk_link *l)
{
    const struct udp_link *u = (const void *)l;

    return u->rx_armed ? UINT64_MAX : u->rx_retry_ns;
}

static void udp_device_stats(const struct hk_link *l, struct hk_link_stats *s)
{
    const struct udp_link *u = (const void *)l;
    uint32_t info[SK_MEMINFO_VARS];
    socklen_t len = sizeof(info);

    if (getsockopt(u->fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 && len == sizeof(info))
        s->rx_missed = info[SK_MEMINFO_DROPS];
}

/* ---- life ---- */

static bool udp_settled(const void *arg)
{
    const struct udp_link *u = arg;

    return u->msgs_in_flight == 0 && !u->rx_armed;
}

static void udp_release(struct udp_link *u)
{
    if (u->rx_registered)
        io_uring_unregister_buf_ring(hk_reactor_ring(u->reactor), u->rx_group);
    if (u->rx_memory != NULL)
        munmap(u->rx_memory, (size_t)u->rx_count * RX_BUFFER_BYTES);
    if (u->rx_ring != NULL)
        munmap(u->rx_ring, u->rx_count * sizeof(struct io_uring_buf));
    if (u->tx_memory != NULL)
        munmap(u->tx_memory, u->tx_memory_bytes);
    if (u->fd >= 0)
        close(u->fd);
    free(u->rx);
    free(u->tx);
    free(u->msgs);
    free(u);
}

static void udp_free(struct hk_link *l)
{
    static struct hk_completion ignored = {hk_completion_ignore};
    struct udp_link *u = of(l);

    /* Not our ring any more: its thread is gone, and requests touch memory only in its context. */
    if (hk_reactor_is_ours(u->reactor) && (u->rx_armed || u->msgs_in_flight > 0)) {
        struct io_uring_sqe *sqe;

        sqe = hk_reactor_sqe(u->reactor, &ignored);
        io_uring_prep_cancel_fd(sqe, u->fd, IORING_ASYNC_CANCEL_ALL);
        hk_reactor_settle(u->reactor, udp_settled, u);
    }
    udp_release(u);
}

static const struct hk_link_ops udp_ops = {
    .free = udp_free,
    .tx_take = udp_tx_take,
    .tx_drop = udp_tx_drop,
    .tx_push = udp_tx_push,
    .tx_room = udp_tx_room,
    .rx_burst = udp_rx_burst,
    .rx_done = udp_rx_done,
    .is_up = udp_is_up,
    .deadline_ns = udp_deadline_ns,
    .device_stats = udp_device_stats,
};

static int parse(const char *what, const char *text, uint16_t port, struct sockaddr_in *ret,
                 struct hk_io_error *err)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (text != NULL && inet_pton(AF_INET, text, &a.sin_addr) != 1)
        return hk_io_fail(err, -EINVAL,
                          "%s address \"%s\": expected an IPv4 address like "
                          "192.0.2.1",
                          what, text);
    *ret = a;
    return 0;
}

/* Forced if we may, else as large as the sysctl allows: smaller ones only mean more losses. */
static void set_buffers(int fd)
{
    int bytes = SOCKET_BUFFER_BYTES;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static int open_socket(struct udp_link *u, const struct hk_link_cfg *cfg, struct hk_io_error *err)
{
    struct sockaddr_in local, peer;
    int one = 1, ret;

    ret = parse("local", cfg->local_address, cfg->local_port, &local, err);
    if (ret == 0)
        ret = parse("peer", cfg->peer_address, cfg->peer_port, &peer, err);
    if (ret < 0)
        return ret;
    u->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (u->fd < 0)
        return hk_io_fail(err, -errno, "cannot make a UDP socket: %s", strerror(errno));
    if (cfg->device != NULL && setsockopt(u->fd, SOL_SOCKET, SO_BINDTODEVICE, cfg->device,
                                          (socklen_t)strlen(cfg->device) + 1) != 0)
        return hk_io_fail(err, -errno, "cannot bind to the interface %s: %s", cfg->device,
                          strerror(errno));
    if (bind(u->fd, (struct sockaddr *)&local, sizeof(local)) != 0)
        return hk_io_fail(err, -errno, "cannot bind to %s:%u: %s%s",
                          cfg->local_address != NULL ? cfg->local_address : "*", cfg->local_port,
                          strerror(errno),
                          errno == EADDRNOTAVAIL ? "; no interface has this address" : "");
    if (connect(u->fd, (struct sockaddr *)&peer, sizeof(peer)) != 0)
        return hk_io_fail(err, -errno, "no way to %s: %s; see `ip route get %s`", cfg->peer_address,
                          strerror(errno), cfg->peer_address);
    set_buffers(u->fd);
    (void)setsockopt(u->fd, SOL_UDP, UDP_GRO, &one, sizeof(one));
    u->gso = true;
    return 0;
}

static uint32_t socket_mtu(int fd)
{
    socklen_t len = sizeof(int);
    int mtu = 0;

    if (getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len) != 0 || mtu < HK_LINK_MTU_MIN)
        return 1500;
    return (uint32_t)hk_min_u64((uint32_t)mtu, 65535);
}

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                   -1, 0);

    return p != MAP_FAILED ? p : NULL;
}

static int make_tx(struct udp_link *u, uint32_t count)
{
    u->tx_memory_bytes = (size_t)count * u->frame_bytes;
    u->tx_memory = map(u->tx_memory_bytes);
    u->tx = calloc(count, sizeof(*u->tx));
    u->msgs = calloc(count, sizeof(*u->msgs));
    if (u->tx_memory == NULL || u->tx == NULL || u->msgs == NULL)
        return -ENOMEM;
    for (uint32_t i = count; i-- > 0;) {
        u->tx[i].buf.frame = u->tx_memory + (size_t)i * u->frame_bytes;
        udp_tx_drop(&u->link, &u->tx[i].buf);
        u->msgs[i].completion.done = udp_sent;
        u->msgs[i].link = u;
        u->msgs[i].next = u->msgs_free;
        u->msgs_free = &u->msgs[i];
    }
    return 0;
}

static int make_rx(struct udp_link *u, uint32_t frames)
{
    struct io_uring_buf_reg reg = {0};
    uint64_t wanted = frames / RX_FRAMES_PER_BUFFER;
    int ret;

    u->rx_count = RX_BUFFERS_MIN;
    while (u->rx_count < wanted && u->rx_count < RX_BUFFERS_MAX)
        u->rx_count *= 2;
    u->rx_memory = map((size_t)u->rx_count * RX_BUFFER_BYTES);
    u->rx_ring = map(u->rx_count * sizeof(struct io_uring_buf));
    u->rx = calloc(u->rx_count, sizeof(*u->rx));
    if (u->rx_memory == NULL || u->rx_ring == NULL || u->rx == NULL)
        return -ENOMEM;
    u->rx_group = hk_reactor_buffer_group(u->reactor);
    reg.ring_addr = (uintptr_t)u->rx_ring;
    reg.ring_entries = u->rx_count;
    reg.bgid = u->rx_group;
    ret = io_uring_register_buf_ring(hk_reactor_ring(u->reactor), &reg, 0);
    if (ret < 0)
        return ret;
    u->rx_registered = true;
    io_uring_buf_ring_init(u->rx_ring);
    for (uint32_t i = 0; i < u->rx_count; i++)
        rx_give_back(u, (uint16_t)i);
    u->rx_completion.done = udp_received;
    u->rx_hdr = (struct msghdr){.msg_controllen = RX_CONTROL_BYTES};
    return 0;
}

int hk_link_udp_create(const struct hk_link_cfg *cfg, struct hk_reactor *r,
                       struct hk_link **ret_link, struct hk_io_error *err)
{
    struct udp_link *u = calloc(1, sizeof(*u));
    uint32_t mtu;
    int ret;

    if (u == NULL)
        return hk_io_fail(err, -ENOMEM, "no memory for a link");
    u->link.ops = &udp_ops;
    u->reactor = r;
    u->fd = -1;
    ret = open_socket(u, cfg, err);
    if (ret < 0)
        goto err_release;
    mtu = cfg->mtu ? cfg->mtu : socket_mtu(u->fd);
    u->link.body_max = hk_link_body_max_of(mtu);
    u->frame_bytes = (uint32_t)hk_round_up(u->link.body_max + HK_FRAME_OVERHEAD_BYTES, 64);
    ret = make_tx(u, cfg->tx_frames ? cfg->tx_frames : TX_FRAMES_DEFAULT);
    if (ret == 0)
        ret = make_rx(u, cfg->rx_frames ? cfg->rx_frames : RX_FRAMES_DEFAULT);
    if (ret < 0) {
        hk_io_fail(err, ret, "no buffers for the link to %s: %s", cfg->peer_address,
                   strerror(-ret));
        goto err_release;
    }
    rx_arm(u);
    snprintf(u->link.text, sizeof(u->link.text), "udp%s%s, %s:%u > %s:%u, mtu %u",
             cfg->device != NULL ? " on " : "", cfg->device != NULL ? cfg->device : "",
             cfg->local_address != NULL ? cfg->local_address : "*", cfg->local_port,
             cfg->peer_address, cfg->peer_port, mtu);
    *ret_link = &u->link;
    return 0;

err_release:
    udp_release(u);
    return ret;
}
