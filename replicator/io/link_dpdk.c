/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link on a DPDK port: a network card, or a virtual device over a kernel interface (af_packet).
 * Ethernet, IPv4 and UDP headers are ours. The port speaks for one IPv4 address:
 *
 *  - an address of its own (recommended): the kernel does not know it, so it neither answers for it
 *    nor complains about it. We answer ARP and ping. The interface's hardware address is used; if
 *    the kernel forwards packets, it would pass ours on, so then we use one of our own.
 *  - the interface's address, shared with the kernel: the kernel goes on answering ARP and ping; a
 *    guard socket keeps it from answering "port unreachable" to our frames.
 */
#include "replicator/io/link_backend.h"

#include "replicator/io/clock.h"
#include "replicator/io/doorbell.h"
#include "replicator/io/dpdk_eal.h"
#include "replicator/io/ifinfo.h"
#include "replicator/io/neighbour.h"
#include "replicator/io/reactor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TX_FRAMES_DEFAULT = 1024,
    RX_RING_BYTES = 32 << 20, /* of af_packet: what arrives while we are not running waits there */
    RX_RING_FRAMES_MAX = 8192,
    RX_RING_BLOCK_BYTES = 65536,
    RX_MBUFS_AF_PACKET = 512, /* the driver copies: only what we hold counts */
    RX_MBUFS_CARD = 8192,
    RX_DESCRIPTORS = 2048,
    TX_DESCRIPTORS = 1024,
    TPACKET_HEADER_BYTES = 128, /* more than the kernel puts before a packet in its ring */
    PREFIX_BITS_DEFAULT = 24,
};

#define CARRIER_CHECK_NS 200000000ull
/* Should the bell ever fail to ring, this is how late a frame may be seen. */
#define DOORBELL_SLEEP_NS_MAX 10000000ull

struct dpdk_tx { /* in the private area of an mbuf */
    struct hk_link_buf buf;
    struct rte_mbuf *mbuf;
};

struct dpdk_link {
    struct hk_link link; /* first */
    struct hk_reactor *reactor;
    uint16_t port;
    bool attached, started;
    struct rte_mempool *rx_pool, *tx_pool;
    struct hk_packet_end self, peer; /* peer.mac: of the next hop */
    struct hk_neighbour hop;
    bool shared; /* the kernel has our address too */
    bool announced;
    uint32_t packet_bytes_max;

    struct rte_mbuf *held[HK_LINK_BURST]; /* handed out by rx_burst */
    uint32_t held_count;
    struct rte_mbuf **pending; /* the device had no room yet; a ring, frames_max long */
    uint32_t pending_head, pending_count, frames_max;

    char iface[IFNAMSIZ]; /* "": no kernel interface below */
    bool carrier;
    uint64_t carrier_ns; /* looked at again by then */
    int control_fd, guard_fd, bell_fd;
    struct hk_poller bell_poller;
    bool bell_added;
};

static struct dpdk_link *of(struct hk_link *l)
{
    return HK_CONTAINER_OF(l, struct dpdk_link, link);
}

static const struct dpdk_link *of_const(const struct hk_link *l)
{
    return (const struct dpdk_link *)(const void *)l;
}

/* ---- transmit ---- */

static struct hk_link_buf *dpdk_tx_take(struct hk_link *l)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(of(l)->tx_pool);
    struct dpdk_tx *t;

    if (m == NULL)
        return NULL;
    t = rte_mbuf_to_priv(m);
    t->mbuf = m;
    t->buf.frame = rte_pktmbuf_mtod_offset(m, uint8_t *, HK_UDP_PACKET_HEADER_BYTES);
    return &t->buf;
}

static void dpdk_tx_drop(struct hk_link *l, struct hk_link_buf *b)
{
    rte_pktmbuf_free(HK_CONTAINER_OF(b, struct dpdk_tx, buf)->mbuf);
}

static uint32_t dpdk_tx_room(const struct hk_link *l)
{
    return rte_mempool_avail_count(of_const(l)->tx_pool);
}

/* What the device did not take before goes first; then the new ones; the rest waits. */
static void transmit(struct dpdk_link *d, struct rte_mbuf **mbufs, uint32_t count)
{
    while (d->pending_count > 0) {
        uint32_t n = (uint32_t)hk_min_u64(d->pending_count, d->frames_max - d->pending_head);
        uint32_t sent = rte_eth_tx_burst(d->port, 0, d->pending + d->pending_head,
                                         (uint16_t)hk_min_u64(n, HK_LINK_BURST));

        if (sent == 0)
            break;
        d->pending_head = (d->pending_head + sent) % d->frames_max;
        d->pending_count -= sent;
    }
    if (d->pending_count == 0 && count > 0) {
        uint32_t sent = rte_eth_tx_burst(d->port, 0, mbufs, (uint16_t)count);

        mbufs += sent;
        count -= sent;
    }
    for (uint32_t i = 0; i < count; i++) {
        /* As many places as the pool has buffers. */
        HK_ASSERT(d->pending_count < d->frames_max);
        d->pending[(d->pending_head + d->pending_count++) % d->frames_max] = mbufs[i];
    }
}

static void dpdk_tx_push(struct hk_link *l, struct hk_link_buf *const bufs[], uint32_t count)
{
    struct dpdk_link *d = of(l);
    struct rte_mbuf *mbufs[HK_LINK_BURST];

    HK_ASSERT(count <= HK_LINK_BURST);
    for (uint32_t i = 0; i < count; i++) {
        struct rte_mbuf *m = HK_CONTAINER_OF(bufs[i], struct dpdk_tx, buf)->mbuf;

        mbufs[i] = m;
        hk_packet_put_udp(rte_pktmbuf_mtod(m, uint8_t *), &d->self, &d->peer,
                          (uint16_t)bufs[i]->bytes);
        m->data_len = (uint16_t)(HK_UDP_PACKET_HEADER_BYTES + bufs[i]->bytes);
        m->pkt_len = m->data_len;
    }
    /* Nobody to send to: lost, like any frame on a path that is down. */
    if (!d->hop.known) {
        d->link.stats.tx_errors += count;
        rte_pktmbuf_free_bulk(mbufs, count);
        return;
    }
    transmit(d, mbufs, count);
}

static struct rte_mbuf *control_mbuf(struct dpdk_link *d)
{
    return rte_pktmbuf_alloc(d->tx_pool);
}

static void send_control(struct dpdk_link *d, struct rte_mbuf *m, uint32_t bytes)
{
    m->data_len = (uint16_t)bytes;
    m->pkt_len = bytes;
    transmit(d, &m, 1);
}

static void send_arp(struct dpdk_link *d, bool reply, const struct hk_mac *to_mac, uint32_t to_ip)
{
    struct rte_mbuf *m = control_mbuf(d);

    if (m == NULL)
        return;
    hk_packet_put_arp(rte_pktmbuf_mtod(m, uint8_t *), reply, &d->self, to_mac, to_ip);
    d->link.stats.arp_tx++;
    send_control(d, m, HK_ARP_PACKET_BYTES);
}

/* ---- receive ---- */

static void learn(struct dpdk_link *d, const struct hk_packet *p)
{
    if (hk_neighbour_learn(&d->hop, p->from.ip, &p->from.mac, d->link.now_ns))
        d->peer.mac = p->from.mac;
}

static void answer_echo(struct dpdk_link *d, const uint8_t *request, const struct hk_packet *p)
{
    struct rte_mbuf *m = control_mbuf(d);
    uint32_t bytes;

    if (m == NULL)
        return;
    bytes = hk_packet_put_echo_reply(rte_pktmbuf_mtod(m, uint8_t *), d->packet_bytes_max, request,
                                     p, &d->self);
    if (bytes == 0) {
        rte_pktmbuf_free(m);
        return;
    }
    send_control(d, m, bytes);
}

/* true: it is a frame of the peer's, keep it. */
static bool take_packet(struct dpdk_link *d, const uint8_t *bytes, uint32_t len,
                        struct hk_packet *ret)
{
    switch (hk_packet_parse(bytes, len, &d->self, ret)) {
    case HK_PACKET_UDP:
        if (ret->from.ip == d->peer.ip && ret->from.port == d->peer.port)
            return true;
        d->link.stats.rx_foreign++;
        return false;
    case HK_PACKET_ARP_REQUEST:
        d->link.stats.arp_rx++;
        learn(d, ret);
        if (!d->shared)
            send_arp(d, true, &ret->from.mac, ret->from.ip);
        return false;
    case HK_PACKET_ARP_REPLY:
        d->link.stats.arp_rx++;
        learn(d, ret);
        return false;
    case HK_PACKET_ICMP_ECHO:
        d->link.stats.icmp_rx++;
        if (!d->shared)
            answer_echo(d, bytes, ret);
        return false;
    case HK_PACKET_FOREIGN: d->link.stats.rx_foreign++; return false;
    }
    return false;
}

static bool look_at_carrier(struct dpdk_link *d)
{
    struct rte_eth_link state = {0};
    struct ifreq r = {0};

    if (d->iface[0] == '\0')
        return rte_eth_link_get_nowait(d->port, &state) == 0 && state.link_status;
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", d->iface);
    if (ioctl(d->control_fd, SIOCGIFFLAGS, &r) != 0)
        return false;
    return (r.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

/*
 * The peer may be another machine now, and switches have forgotten us. A packet socket whose
 * interface was down fails the next send, whatever it is, and takes it along with the one after:
 * a request that may be lost goes first.
 */
static void carrier_back(struct dpdk_link *d)
{
    send_arp(d, false, NULL, d->hop.ip);
    d->announced = false;
    d->hop.next_ns = d->link.now_ns;
}

/* What time brings: who are we, who is the next hop, is the cable in. */
static void housekeeping(struct dpdk_link *d)
{
    struct hk_mac mac;
    bool unicast;

    if (d->link.now_ns >= d->carrier_ns) {
        bool before = d->carrier;

        d->carrier = look_at_carrier(d);
        d->carrier_ns = d->link.now_ns + CARRIER_CHECK_NS;
        if (d->carrier && !before)
            carrier_back(d);
    }
    if (!d->announced && d->carrier) {
        d->announced = true;
        if (!d->shared)
            send_arp(d, false, NULL, d->self.ip);
    }
    if (d->carrier && hk_neighbour_due(&d->hop, d->link.now_ns, &unicast, &mac))
        send_arp(d, false, unicast ? &mac : NULL, d->hop.ip);
}

static uint32_t dpdk_rx_burst(struct hk_link *l, uint8_t *ret_frames[], uint32_t ret_bytes[],
                              uint32_t max, uint32_t *other_work)
{
    struct dpdk_link *d = of(l);
    struct rte_mbuf *mbufs[HK_LINK_BURST];
    uint32_t kept = 0, n;

    HK_ASSERT(max <= HK_LINK_BURST && d->held_count == 0);
    housekeeping(d);
    if (d->pending_count > 0)
        transmit(d, NULL, 0);
    n = rte_eth_rx_burst(d->port, 0, mbufs, (uint16_t)max);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *bytes = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
        struct hk_packet p;

        /* In pieces it can only be larger than any frame of ours. */
        if (mbufs[i]->nb_segs != 1 || !take_packet(d, bytes, mbufs[i]->data_len, &p)) {
            d->link.stats.rx_foreign += mbufs[i]->nb_segs != 1;
            rte_pktmbuf_free(mbufs[i]);
            *other_work += 1;
            continue;
        }
        ret_frames[kept] = bytes + p.payload_offset;
        ret_bytes[kept] = p.payload_bytes;
        d->held[kept++] = mbufs[i];
    }
    d->held_count = kept;
    return kept;
}

static void dpdk_rx_done(struct hk_link *l)
{
    struct dpdk_link *d = of(l);

    rte_pktmbuf_free_bulk(d->held, d->held_count);
    d->held_count = 0;
}

/* ---- what it is ---- */

static bool dpdk_is_up(const struct hk_link *l)
{
    return of_const(l)->carrier && of_const(l)->hop.known;
}

static uint64_t dpdk_deadline_ns(const struct hk_link *l)
{
    const struct dpdk_link *d = of_const(l);

    return hk_min_u64(d->carrier_ns, d->carrier ? d->hop.next_ns : UINT64_MAX);
}

static void dpdk_device_stats(const struct hk_link *l, struct hk_link_stats *s)
{
    struct rte_eth_stats e;

    if (rte_eth_stats_get(of_const(l)->port, &e) != 0)
        return;
    s->rx_missed = e.imissed + e.rx_nombuf;
    s->tx_errors += e.oerrors;
}

/* ---- the bell ---- */

static uint32_t bell_poll(void *arg, const struct hk_now *now)
{
    return 0;
}

static bool bell_before_sleep(void *arg)
{
    struct dpdk_link *d = arg;

    return hk_doorbell_drain(d->bell_fd);
}

static uint64_t bell_deadline_ns(void *arg)
{
    return hk_clock_mono_ns() + DOORBELL_SLEEP_NS_MAX;
}

static int hang_bell(struct dpdk_link *d, struct hk_io_error *err)
{
    int ret = hk_reactor_watch(d->reactor, d->bell_fd, false, NULL, NULL);

    d->bell_poller = (struct hk_poller){
        .name = "doorbell",
        .arg = d,
        .poll = bell_poll,
        .deadline_ns = bell_deadline_ns,
        .before_sleep = bell_before_sleep,
    };
    if (ret == 0)
        ret = hk_reactor_add(d->reactor, &d->bell_poller);
    if (ret < 0)
        return hk_io_fail(err, ret, "too many links on one reactor");
    d->bell_added = true;
    return 0;
}

/* ---- life ---- */

static void dpdk_release(struct dpdk_link *d)
{
    if (d->bell_added) {
        hk_reactor_remove(d->reactor, &d->bell_poller);
        hk_reactor_unwatch(d->reactor, d->bell_fd);
    }
    for (; d->pending_count > 0; d->pending_count--)
        rte_pktmbuf_free(d->pending[(d->pending_head + d->pending_count - 1) % d->frames_max]);
    if (d->started)
        (void)rte_eth_dev_stop(d->port);
    if (d->attached)
        hk_dpdk_detach(d->port);
    rte_mempool_free(d->rx_pool);
    rte_mempool_free(d->tx_pool);
    if (d->bell_fd >= 0)
        close(d->bell_fd);
    if (d->guard_fd >= 0)
        close(d->guard_fd);
    if (d->control_fd >= 0)
        close(d->control_fd);
    free(d->pending);
    free(d);
}

static void dpdk_free(struct hk_link *l)
{
    dpdk_release(of(l));
}

static const struct hk_link_ops dpdk_ops = {
    .free = dpdk_free,
    .tx_take = dpdk_tx_take,
    .tx_drop = dpdk_tx_drop,
    .tx_push = dpdk_tx_push,
    .tx_room = dpdk_tx_room,
    .rx_burst = dpdk_rx_burst,
    .rx_done = dpdk_rx_done,
    .is_up = dpdk_is_up,
    .deadline_ns = dpdk_deadline_ns,
    .device_stats = dpdk_device_stats,
};

static int parse_ip(const char *what, const char *text, uint32_t *ret, struct hk_io_error *err)
{
    struct in_addr a;

    if (inet_pton(AF_INET, text, &a) != 1 || a.s_addr == 0)
        return hk_io_fail(err, -EINVAL,
                          "%s address \"%s\": expected an IPv4 address like "
                          "192.0.2.1",
                          what, text);
    *ret = a.s_addr;
    return 0;
}

/* The kernel interface a device string speaks of, "" if none. */
static void find_iface(const char *device, char ret_iface[IFNAMSIZ])
{
    const char *p;

    ret_iface[0] = '\0';
    if (hk_dpdk_is_pci(device))
        return;
    if (strncmp(device, "net_", 4) != 0) {
        snprintf(ret_iface, IFNAMSIZ, "%s", device);
        return;
    }
    p = strstr(device, "iface=");
    if (strncmp(device, "net_af_packet", 13) == 0 && p != NULL)
        snprintf(ret_iface, IFNAMSIZ, "%.*s", (int)strcspn(p + 6, ","), p + 6);
}

static int learn_addresses(struct dpdk_link *d, const struct hk_link_cfg *cfg,
                           struct hk_ifinfo *info, uint8_t *ret_bits, struct hk_io_error *err)
{
    uint32_t own = 0;
    int ret;

    ret = parse_ip("peer", cfg->peer_address, &d->peer.ip, err);
    if (ret == 0 && cfg->local_address != NULL)
        ret = parse_ip("local", cfg->local_address, &own, err);
    if (ret == 0 && d->iface[0] != '\0')
        ret = hk_ifinfo_read(d->iface, own, d->peer.ip, info, err);
    if (ret < 0)
        return ret;
    if (own == 0 && !info->has_address)
        return hk_io_fail(err, -EADDRNOTAVAIL,
                          "%s has no IPv4 address: configure one for the "
                          "link, on the interface's subnet",
                          cfg->device);
    d->self.ip = own != 0 ? own : info->ip;
    d->shared = own == 0 || info->ip_is_local;
    d->self.port = cfg->local_port;
    d->peer.port = cfg->peer_port;
    if (own == 0)
        *ret_bits = info->prefix_bits;
    else
        *ret_bits = cfg->prefix_bits ? cfg->prefix_bits : PREFIX_BITS_DEFAULT;
    return 0;
}

static int choose_hop(struct dpdk_link *d, const struct hk_link_cfg *cfg,
                      const struct hk_ifinfo *info, uint8_t bits, struct hk_io_error *err)
{
    uint32_t hop = d->peer.ip;
    int ret;

    if (d->self.ip == d->peer.ip)
        return hk_io_fail(err, -EINVAL, "the link's own address is the peer's: %s",
                          cfg->peer_address);
    if (!hk_ip_same_subnet(d->self.ip, d->peer.ip, bits)) {
        if (cfg->gateway != NULL) {
            ret = parse_ip("gateway", cfg->gateway, &hop, err);
            if (ret < 0)
                return ret;
        } else if (info->has_gateway) {
            hop = info->gateway;
        } else {
            return hk_io_fail(err, -EINVAL,
                              "%s is not on the link's subnet (/%u) and no gateway "
                              "is configured",
                              cfg->peer_address, bits);
        }
    }
    hk_neighbour_init(&d->hop, hop, 0);
    if (info->has_neighbour && hop == (info->has_gateway ? info->gateway : d->peer.ip)) {
        /* What the kernel knows is good enough to begin with; ours is asked for anyway. */
        hk_neighbour_learn(&d->hop, hop, &info->neighbour, 0);
        d->peer.mac = info->neighbour;
        d->hop.next_ns = 0;
    }
    return 0;
}

static int choose_mtu(const struct hk_link_cfg *cfg, const struct hk_ifinfo *info,
                      struct dpdk_link *d, uint32_t *ret_mtu, struct hk_io_error *err)
{
    uint32_t mtu = cfg->mtu ? cfg->mtu : info->mtu ? info->mtu : 1500;

    if (info->mtu != 0 && mtu > info->mtu)
        return hk_io_fail(err, -EINVAL,
                          "mtu %u: %s has %u; run `ip link set %s mtu %u` or "
                          "configure less",
                          mtu, d->iface, info->mtu, d->iface, mtu);
    if (mtu < HK_LINK_MTU_MIN)
        return hk_io_fail(err, -EINVAL, "mtu %u of %s: a link needs %d", mtu, d->iface,
                          HK_LINK_MTU_MIN);
    d->link.body_max = hk_link_body_max_of(mtu);
    d->packet_bytes_max = HK_UDP_PACKET_HEADER_BYTES + HK_FRAME_OVERHEAD_BYTES + d->link.body_max;
    *ret_mtu = mtu;
    return 0;
}

/* The device string DPDK is given. framesz must be a power of two for every packet to fit. */
static void device_string(const struct dpdk_link *d, const char *device, char *ret, size_t max,
                          uint32_t *ret_room)
{
    static uint32_t number;
    uint32_t frame = 2048, count, block;

    while (frame < d->packet_bytes_max + TPACKET_HEADER_BYTES)
        frame *= 2;
    *ret_room = frame;
    if (d->iface[0] == '\0' || strncmp(device, "net_", 4) == 0) {
        snprintf(ret, max, "%s", device);
        /* Whatever frame size it names. */
        if (strstr(device, "framesz=") != NULL)
            *ret_room = (uint32_t)hk_min_u64(
                hk_max_u64(frame, strtoul(strstr(device, "framesz=") + 8, NULL, 10)), 65536 - 256);
        return;
    }
    count = (uint32_t)hk_min_u64(RX_RING_BYTES / frame, RX_RING_FRAMES_MAX);
    block = (uint32_t)hk_max_u64(frame, RX_RING_BLOCK_BYTES);
    snprintf(ret, max,
             "net_af_packet_hk%u,iface=%s,qpairs=1,blocksz=%u,framesz=%u,framecnt=%u,"
             "qdisc_bypass=0",
             number++, d->iface, block, frame, count);
}

static int make_pools(struct dpdk_link *d, uint32_t room, bool card, struct hk_io_error *err)
{
    static uint32_t number;
    char name[RTE_MEMPOOL_NAMESIZE];

    /* One thread takes and gives, so the simplest ring will do, without a cache per lcore. */
    snprintf(name, sizeof(name), "hk-rx-%u", number);
    d->rx_pool = rte_pktmbuf_pool_create_by_ops(name, card ? RX_MBUFS_CARD : RX_MBUFS_AF_PACKET, 0,
                                                0, (uint16_t)(room + RTE_PKTMBUF_HEADROOM),
                                                SOCKET_ID_ANY, "ring_sp_sc");
    snprintf(name, sizeof(name), "hk-tx-%u", number++);
    d->tx_pool = rte_pktmbuf_pool_create_by_ops(
        name, d->frames_max, 0, RTE_ALIGN(sizeof(struct dpdk_tx), RTE_MBUF_PRIV_ALIGN),
        (uint16_t)(hk_round_up(d->packet_bytes_max, 64) + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY,
        "ring_sp_sc");
    d->pending = calloc(d->frames_max, sizeof(*d->pending));
    if (d->rx_pool == NULL || d->tx_pool == NULL || d->pending == NULL)
        return hk_io_fail(err, -ENOMEM,
                          "no packet buffers for %s: %s; fewer or smaller frames, or "
                          "fewer links, fit",
                          d->link.text, rte_strerror(rte_errno));
    return 0;
}

static int start_port(struct dpdk_link *d, uint32_t mtu, struct hk_io_error *err)
{
    struct rte_eth_conf conf = {0};
    struct rte_eth_dev_info info;
    uint16_t rx_count = RX_DESCRIPTORS, tx_count = TX_DESCRIPTORS;
    int ret = rte_eth_dev_info_get(d->port, &info);

    if (ret < 0)
        goto err_port;
    /* af_packet says 1514 whatever its interface can do: there the kernel's MTU counts. */
    if (d->iface[0] == '\0' && mtu > 1500 && info.max_mtu >= mtu)
        conf.rxmode.mtu = mtu;
    ret = rte_eth_dev_configure(d->port, 1, 1, &conf);
    if (ret == 0)
        ret = rte_eth_dev_adjust_nb_rx_tx_desc(d->port, &rx_count, &tx_count);
    if (ret == 0)
        ret = rte_eth_rx_queue_setup(d->port, 0, rx_count, SOCKET_ID_ANY, NULL, d->rx_pool);
    if (ret == 0)
        ret = rte_eth_tx_queue_setup(d->port, 0, tx_count, SOCKET_ID_ANY, NULL);
    if (ret == 0)
        ret = rte_eth_dev_start(d->port);
    if (ret == 0) {
        d->started = true;
        return 0;
    }
err_port:
    return hk_io_fail(err, ret == -1 ? -EIO : ret, "cannot start the port of %s: %s", d->link.text,
                      rte_strerror(-ret));
}

static int choose_mac(struct dpdk_link *d, const struct hk_ifinfo *info, struct hk_io_error *err)
{
    struct rte_ether_addr mac;
    int ret = rte_eth_macaddr_get(d->port, &mac);

    if (ret < 0)
        return hk_io_fail(err, ret, "%s has no hardware address", d->link.text);
    memcpy(d->self.mac.b, mac.addr_bytes, 6);
    if (d->shared || !info->forwards)
        return 0;
    /* Locally administered, derived from the interface's, and different from it. */
    d->self.mac.b[0] = (uint8_t)((d->self.mac.b[0] | 2) ^ 0x48);
    ret = rte_eth_promiscuous_enable(d->port);
    if (ret < 0)
        return hk_io_fail(err, ret,
                          "%s forwards IPv4, so the link needs a hardware address of "
                          "its own, and the interface does not go promiscuous",
                          d->iface);
    return 0;
}

static int open_sockets(struct dpdk_link *d, const struct hk_ifinfo *info, struct hk_io_error *err)
{
    int ret = 0;

    d->control_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (d->control_fd < 0)
        return hk_io_fail(err, -errno, "cannot make a socket: %s", strerror(errno));
    if (d->shared)
        ret = hk_port_guard_open(d->self.ip, d->self.port, &d->guard_fd, err);
    if (ret == 0 && d->iface[0] != '\0' && d->reactor != NULL)
        ret = hk_doorbell_open(info->index, d->self.ip, &d->bell_fd, err);
    return ret;
}

static void describe(struct dpdk_link *d, const struct hk_link_cfg *cfg, uint32_t mtu)
{
    char own[INET_ADDRSTRLEN] = "";

    inet_ntop(AF_INET, &d->self.ip, own, sizeof(own));
    snprintf(d->link.text, sizeof(d->link.text), "dpdk %s%s, %s:%u > %s:%u, mtu %u",
             d->iface[0] != '\0' ? "af_packet on " : "",
             d->iface[0] != '\0' ? d->iface : cfg->device, own, cfg->local_port, cfg->peer_address,
             cfg->peer_port, mtu);
}

int hk_link_dpdk_create(const struct hk_link_cfg *cfg, struct hk_reactor *r,
                        struct hk_link **ret_link, struct hk_io_error *err)
{
    struct hk_ifinfo info = {0};
    struct dpdk_link *d;
    uint32_t mtu = 0, room;
    char device[256];
    uint8_t bits = 0;
    bool card;
    int ret;

    if (cfg->device == NULL)
        return hk_io_fail(err, -EINVAL,
                          "a DPDK link needs a device: an interface, a PCI address "
                          "or a device string");
    d = calloc(1, sizeof(*d));
    if (d == NULL)
        return hk_io_fail(err, -ENOMEM, "no memory for a link");
    d->link.ops = &dpdk_ops;
    d->reactor = r;
    d->control_fd = d->guard_fd = d->bell_fd = -1;
    d->frames_max = cfg->tx_frames ? cfg->tx_frames : TX_FRAMES_DEFAULT;
    card = hk_dpdk_is_pci(cfg->device);
    find_iface(cfg->device, d->iface);
    if ((ret = learn_addresses(d, cfg, &info, &bits, err)) < 0 ||
        (ret = choose_hop(d, cfg, &info, bits, err)) < 0 ||
        (ret = choose_mtu(cfg, &info, d, &mtu, err)) < 0)
        goto err_release;
    describe(d, cfg, mtu);
    if ((ret = hk_dpdk_start(card ? cfg->device : NULL, err)) < 0 ||
        (ret = open_sockets(d, &info, err)) < 0)
        goto err_release;
    device_string(d, cfg->device, device, sizeof(device), &room);
    ret = hk_dpdk_attach(device, &d->port, err);
    if (ret < 0)
        goto err_release;
    d->attached = true;
    if ((ret = make_pools(d, room, card, err)) < 0 || (ret = start_port(d, mtu, err)) < 0 ||
        (ret = choose_mac(d, &info, err)) < 0)
        goto err_release;
    if (d->bell_fd >= 0 && (ret = hang_bell(d, err)) < 0)
        goto err_release;
    d->link.must_poll = d->bell_fd < 0;
    d->carrier = look_at_carrier(d);
    *ret_link = &d->link;
    return 0;

err_release:
    dpdk_release(d);
    return ret;
}
