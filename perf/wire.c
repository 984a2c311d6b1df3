/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PORT = 7799,
    HEADERS = 14 + 20 + 8,
    MESSAGE_BYTES_MAX = 64000, /* of one segmented send */
    RING_BYTES = 8 << 20,
    BLOCK_BYTES = 1 << 16,
    SOCKET_BYTES = 8 << 20,
    WAIT_MS = 1000,
};

struct hk_wire_pair {
    struct hk_wire cfg;
    int home, fd[2];
    uint8_t headers[HEADERS];
    uint8_t *ring[2]; /* transmit of fd[0], receive of fd[1] */
    uint32_t slot_bytes, slots, at[2];
    uint8_t *in;
};

static int enter(const struct hk_wire *cfg, int side)
{
    char path[128];
    int fd, r;

    if (!cfg->netns[side])
        return 0;
    snprintf(path, sizeof(path), "/run/netns/%s", cfg->netns[side]);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = setns(fd, CLONE_NEWNET) ? -errno : 0;
    close(fd);
    return r;
}

static struct sockaddr_in address_of(const struct hk_wire *cfg, int side)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(PORT + side))};

    a.sin_addr.s_addr = inet_addr(cfg->address[side]);
    return a;
}

/* ---- UDP ---- */

static int open_udp(struct hk_wire_pair *p, int side)
{
    struct sockaddr_in own = address_of(&p->cfg, side), peer = address_of(&p->cfg, !side);
    int bytes = SOCKET_BYTES, one = 1;

    p->fd[side] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (p->fd[side] < 0)
        return -errno;
    setsockopt(p->fd[side], SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    setsockopt(p->fd[side], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    setsockopt(p->fd[side], SOL_UDP, UDP_GRO, &one, sizeof(one));
    if (bind(p->fd[side], (struct sockaddr *)&own, sizeof(own)) ||
        connect(p->fd[side], (struct sockaddr *)&peer, sizeof(peer)))
        return -errno;
    return 0;
}

static int send_segments(struct hk_wire_pair *p, const uint8_t *frames, uint32_t stride, uint32_t n)
{
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov[HK_WIRE_BURST];
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
    uint16_t segment = (uint16_t)p->cfg.frame_bytes;
    struct cmsghdr *c;

    for (uint32_t i = 0; i < n; i++)
        iov[i] = (struct iovec){(void *)(uintptr_t)(frames + (size_t)i * stride), segment};
    if (n > 1) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(segment));
        memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    }
    return sendmsg(p->fd[0], &m, 0) == (ssize_t)n * segment ? 0 : -errno;
}

static int burst_udp(struct hk_wire_pair *p, const uint8_t *frames, uint32_t stride, uint32_t count)
{
    uint32_t most = MESSAGE_BYTES_MAX / p->cfg.frame_bytes, sent, n;
    uint64_t expected = (uint64_t)count * p->cfg.frame_bytes, got = 0;
    ssize_t r;
    int err;

    for (sent = 0; sent < count; sent += n) {
        n = count - sent < most ? count - sent : most;
        err = send_segments(p, frames + (size_t)sent * stride, stride, n);
        if (err)
            return err;
    }
    while (got < expected) {
        struct pollfd w = {p->fd[1], POLLIN, 0};

        r = recv(p->fd[1], p->in, 65536, MSG_DONTWAIT);
        if (r > 0)
            got += (uint64_t)r;
        else if (poll(&w, 1, WAIT_MS) <= 0)
            return -ETIMEDOUT;
    }
    return 0;
}

/* ---- AF_PACKET ---- */

static int open_packet(struct hk_wire_pair *p, int side, uint8_t ret_mac[6])
{
    struct sockaddr_ll a = {.sll_family = AF_PACKET};
    struct tpacket_req q = {.tp_block_size = BLOCK_BYTES, .tp_frame_size = p->slot_bytes};
    struct ifreq ifr = {.ifr_name = "wan0"};
    int version = TPACKET_V2;

    p->fd[side] = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (p->fd[side] < 0 || ioctl(p->fd[side], SIOCGIFHWADDR, &ifr))
        return -errno;
    memcpy(ret_mac, ifr.ifr_hwaddr.sa_data, 6);
    a.sll_ifindex = (int)if_nametoindex("wan0");
    a.sll_protocol = side ? htons(ETH_P_IP) : 0; /* the sender wants nothing back */
    q.tp_block_nr = RING_BYTES / BLOCK_BYTES;
    q.tp_frame_nr = p->slots = RING_BYTES / p->slot_bytes;
    if (setsockopt(p->fd[side], SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
        setsockopt(p->fd[side], SOL_PACKET, side ? PACKET_RX_RING : PACKET_TX_RING, &q, sizeof(q)))
        return -errno;
    p->ring[side] = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd[side], 0);
    if (p->ring[side] == MAP_FAILED) {
        p->ring[side] = NULL;
        return -errno;
    }
    return bind(p->fd[side], (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
}

/* Addressed to the peer's card, and to an address beside the kernel's own, as a link's is. */
static void make_headers(struct hk_wire_pair *p, const uint8_t from[6], const uint8_t to[6])
{
    struct sockaddr_in own = address_of(&p->cfg, 0), peer = address_of(&p->cfg, 1);
    uint16_t ip_bytes = (uint16_t)(28 + p->cfg.frame_bytes), udp_bytes = ip_bytes - 20;
    uint8_t *h = p->headers, *ip = h + 14, *udp = ip + 20;
    uint32_t sum = 0, i;

    memcpy(h, to, 6);
    memcpy(h + 6, from, 6);
    h[12] = 8;
    ip[0] = 0x45;
    ip[2] = (uint8_t)(ip_bytes >> 8);
    ip[3] = (uint8_t)ip_bytes;
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    memcpy(ip + 12, &own.sin_addr, 4);
    memcpy(ip + 16, &peer.sin_addr, 4);
    ip[15] ^= 0x40;
    ip[19] ^= 0x40;
    for (i = 0; i < 20; i += 2)
        sum += (uint32_t)ip[i] << 8 | ip[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
    memcpy(udp, &own.sin_port, 2);
    memcpy(udp + 2, &peer.sin_port, 2);
    udp[4] = (uint8_t)(udp_bytes >> 8);
    udp[5] = (uint8_t)udp_bytes;
}

static struct tpacket2_hdr *slot(struct hk_wire_pair *p, int side)
{
    uint32_t per_block = BLOCK_BYTES / p->slot_bytes, i = p->at[side]++ % p->slots;

    return (void *)(p->ring[side] + (size_t)(i / per_block) * BLOCK_BYTES +
                    (size_t)(i % per_block) * p->slot_bytes);
}

static int burst_packet(struct hk_wire_pair *p, const uint8_t *frames, uint32_t stride,
                        uint32_t count)
{
    struct tpacket2_hdr *t;
    uint8_t *data;

    for (uint32_t i = 0; i < count; i++) {
        t = slot(p, 0);
        if (__atomic_load_n(&t->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE)
            return -EBUSY;
        data = (uint8_t *)t + TPACKET2_HDRLEN - sizeof(struct sockaddr_ll);
        memcpy(data, p->headers, HEADERS);
        memcpy(data + HEADERS, frames + (size_t)i * stride, p->cfg.frame_bytes);
        t->tp_len = HEADERS + p->cfg.frame_bytes;
        __atomic_store_n(&t->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
    }
    if (send(p->fd[0], NULL, 0, MSG_DONTWAIT) < 0)
        return -errno;
    for (uint32_t got = 0; got < count;) {
        struct pollfd w = {p->fd[1], POLLIN, 0};

        t = slot(p, 1);
        if (!(__atomic_load_n(&t->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
            p->at[1]--;
            if (poll(&w, 1, WAIT_MS) <= 0)
                return -ETIMEDOUT;
            continue;
        }
        memcpy(p->in, (uint8_t *)t + t->tp_mac, t->tp_snaplen);
        got += t->tp_snaplen == HEADERS + p->cfg.frame_bytes;
        __atomic_store_n(&t->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
    return 0;
}

/* ---- both ---- */

static int open_sides(struct hk_wire_pair *p)
{
    uint8_t mac[2][6] = {{0}};
    int side, r = 0;

    for (side = 0; side < 2 && !r; side++) {
        r = enter(&p->cfg, side);
        if (!r)
            r = p->cfg.packet ? open_packet(p, side, mac[side]) : open_udp(p, side);
    }
    if (p->home >= 0 && setns(p->home, CLONE_NEWNET) && !r)
        r = -errno;
    make_headers(p, mac[0], mac[1]);
    return r;
}

int hk_wire_open(const struct hk_wire *cfg, struct hk_wire_pair **ret_pair)
{
    struct hk_wire_pair *p = calloc(1, sizeof(*p));
    int r = -ENOMEM;

    if (!p)
        return r;
    p->cfg = *cfg;
    p->fd[0] = p->fd[1] = -1;
    p->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    p->in = malloc(1 << 16);
    for (p->slot_bytes = 2048; p->slot_bytes < cfg->frame_bytes + HEADERS + 128;)
        p->slot_bytes *= 2;
    if (p->in)
        r = open_sides(p);
    if (r) {
        hk_wire_close(p);
        return r;
    }
    *ret_pair = p;
    return 0;
}

int hk_wire_burst(struct hk_wire_pair *p, const uint8_t *frames, uint32_t stride, uint32_t count)
{
    if (p->cfg.packet)
        return burst_packet(p, frames, stride, count);
    return burst_udp(p, frames, stride, count);
}

void hk_wire_close(struct hk_wire_pair *p)
{
    for (int i = 0; i < 2; i++) {
        if (p->ring[i])
            munmap(p->ring[i], RING_BYTES);
        if (p->fd[i] >= 0)
            close(p->fd[i]);
    }
    if (p->home >= 0)
        close(p->home);
    free(p->in);
    free(p);
}
