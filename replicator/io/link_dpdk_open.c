/* SPDX-License-Identifier: Apache-2.0 */
/* Making and unmaking a DPDK link; what it is: link_dpdk.c. */
#include "replicator/io/link_dpdk.h"

#include "replicator/io/doorbell.h"
#include "replicator/io/dpdk_eal.h"
#include "replicator/io/ifinfo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TX_FRAMES_DEFAULT = 1024,
    RX_RING_BYTES = 32 << 20, /* of af_packet: what arrives while we are not running waits there */
    RX_RING_FRAMES_MAX = 8192,
    RX_RING_FRAMES_MIN = 256,
    RX_RING_BLOCK_BYTES = 65536,
    RX_MBUFS_AF_PACKET = 512, /* the driver copies: only what we hold counts */
    RX_MBUFS_CARD = 8192,
    RX_DESCRIPTORS = 2048,
    TX_DESCRIPTORS = 1024,
    TPACKET_HEADER_BYTES = 128, /* more than the kernel puts before a packet in its ring */
    PREFIX_BITS_DEFAULT = 24,
};

/* ---- life ---- */

void hk_link_dpdk_release(struct dpdk_link *d)
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

/* Whether the process may lock so much more; without touching it. */
static bool may_lock(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    bool ok;

    if (p == MAP_FAILED)
        return false;
    ok = mlock2(p, bytes, MLOCK_ONFAULT) == 0;
    munmap(p, bytes);
    return ok;
}

/* The driver locks both its rings. A smaller one loses frames in a burst; none is no link. */
static uint32_t ring_frames(uint32_t frame)
{
    uint32_t count = (uint32_t)hk_min_u64(RX_RING_BYTES / frame, RX_RING_FRAMES_MAX);

    while (count > RX_RING_FRAMES_MIN && !may_lock(2 * (size_t)count * frame))
        count /= 2;
    return count;
}

/* The device string DPDK is given. framesz must be a power of two for every packet to fit. */
static void device_string(const struct dpdk_link *d, char *ret, size_t max, uint32_t *ret_room)
{
    static uint32_t number;
    uint32_t frame = 2048, count, block;

    while (frame < d->packet_bytes_max + TPACKET_HEADER_BYTES)
        frame *= 2;
    *ret_room = frame;
    if (d->iface[0] == '\0' || strncmp(d->device, "net_", 4) == 0) {
        snprintf(ret, max, "%s", d->device);
        /* Whatever frame size it names. */
        if (strstr(d->device, "framesz=") != NULL)
            *ret_room = (uint32_t)hk_min_u64(
                hk_max_u64(frame, strtoul(strstr(d->device, "framesz=") + 8, NULL, 10)),
                65536 - 256);
        return;
    }
    count = ring_frames(frame);
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

    /*
     * A stack, without a cache per lcore: what was given back last is taken first and still lies
     * in the processor's cache, where a ring would go round through all the memory.
     */
    snprintf(name, sizeof(name), "hk-rx-%u", number);
    d->rx_pool = rte_pktmbuf_pool_create_by_ops(name, card ? RX_MBUFS_CARD : RX_MBUFS_AF_PACKET, 0,
                                                0, (uint16_t)(room + RTE_PKTMBUF_HEADROOM),
                                                SOCKET_ID_ANY, "stack");
    snprintf(name, sizeof(name), "hk-tx-%u", number++);
    d->tx_pool = rte_pktmbuf_pool_create_by_ops(
        name, d->frames_max, 0, RTE_ALIGN(sizeof(struct dpdk_tx), RTE_MBUF_PRIV_ALIGN),
        (uint16_t)(hk_round_up(d->packet_bytes_max, 64) + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY,
        "stack");
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
    snprintf(d->link.text, sizeof(d->link.text), "dpdk %s%.80s, %s:%u > %s:%u, mtu %u",
             d->iface[0] != '\0' ? "af_packet on " : "", d->iface[0] != '\0' ? d->iface : d->device,
             own, cfg->local_port, cfg->peer_address, cfg->peer_port, mtu);
}

/* Everything that can be refused before a device is touched. */
static int plan(struct dpdk_link *d, const struct hk_link_cfg *cfg, struct hk_ifinfo *info,
                uint32_t *ret_mtu, struct hk_io_error *err)
{
    uint8_t bits = 0;
    int ret;

    if (strlen(cfg->device) >= sizeof(d->device))
        return hk_io_fail(err, -EINVAL, "device \"%.40s…\": at most %zu characters", cfg->device,
                          sizeof(d->device) - 1);
    snprintf(d->device, sizeof(d->device), "%s", cfg->device);
    find_iface(cfg->device, d->iface);
    ret = learn_addresses(d, cfg, info, &bits, err);
    if (ret == 0)
        ret = choose_hop(d, cfg, info, bits, err);
    if (ret == 0)
        ret = choose_mtu(cfg, info, d, ret_mtu, err);
    if (ret == 0)
        describe(d, cfg, *ret_mtu);
    return ret;
}

/* The bell before the port: doorbell.h says why. */
static int open_port(struct dpdk_link *d, const struct hk_ifinfo *info, uint32_t mtu,
                     struct hk_io_error *err)
{
    bool card = hk_dpdk_is_pci(d->device);
    char device[sizeof(d->device) + 128];
    uint32_t room;
    int ret;

    ret = hk_dpdk_start(card ? d->device : NULL, err);
    if (ret == 0)
        ret = open_sockets(d, info, err);
    if (ret < 0)
        return ret;
    device_string(d, device, sizeof(device), &room);
    ret = hk_dpdk_attach(device, &d->port, err);
    if (ret < 0)
        return ret;
    d->attached = true;
    ret = make_pools(d, room, card, err);
    if (ret == 0)
        ret = start_port(d, mtu, err);
    if (ret == 0)
        ret = choose_mac(d, info, err);
    if (ret == 0 && d->bell_fd >= 0)
        ret = hk_link_dpdk_hang_bell(d, err);
    return ret;
}

int hk_link_dpdk_create(const struct hk_link_cfg *cfg, struct hk_reactor *r,
                        struct hk_link **ret_link, struct hk_io_error *err)
{
    struct hk_ifinfo info = {0};
    struct dpdk_link *d;
    uint32_t mtu = 0;
    int ret;

    if (cfg->device == NULL)
        return hk_io_fail(err, -EINVAL,
                          "a DPDK link needs a device: an interface, a PCI address "
                          "or a device string");
    d = calloc(1, sizeof(*d));
    if (d == NULL)
        return hk_io_fail(err, -ENOMEM, "no memory for a link");
    d->link.ops = &hk_link_dpdk_ops;
    d->reactor = r;
    d->control_fd = d->guard_fd = d->bell_fd = -1;
    d->frames_max = cfg->tx_frames ? cfg->tx_frames : TX_FRAMES_DEFAULT;
    ret = plan(d, cfg, &info, &mtu, err);
    if (ret == 0)
        ret = open_port(d, &info, mtu, err);
    if (ret < 0) {
        hk_link_dpdk_release(d);
        return ret;
    }
    d->link.must_poll = d->bell_fd < 0;
    d->carrier = hk_link_dpdk_carrier(d);
    *ret_link = &d->link;
    return 0;
}
