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
#include "replicator/io/link_dpdk.h"

#include "proto/state.h"
#include "replicator/io/clock.h"
#include "replicator/io/doorbell.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define CARRIER_CHECK_NS 200000000ull
/* Should the bell ever fail to ring, this is how late a frame may be seen. */
#define DOORBELL_SLEEP_NS_MAX 10000000ull

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

bool hk_link_dpdk_carrier(const struct dpdk_link *d)
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

        d->carrier = hk_link_dpdk_carrier(d);
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

int hk_link_dpdk_hang_bell(struct dpdk_link *d, struct hk_io_error *err)
{
    int ret = hk_reactor_watch(d->reactor, d->bell_fd, false, NULL, NULL);

    d->bell_poller = (struct hk_poller){
        .name = "doorbell",
        .arg = d,
        .poll = bell_poll,
        .deadline_ns = bell_deadline_ns,
        .before_sleep = bell_before_sleep,
    };
    if (ret == 0) {
        ret = hk_reactor_add(d->reactor, &d->bell_poller);
        if (ret < 0)
            hk_reactor_unwatch(d->reactor, d->bell_fd);
    }
    if (ret < 0)
        return hk_io_fail(err, ret, "too many links on one reactor");
    d->bell_added = true;
    return 0;
}

static void dpdk_free(struct hk_link *l)
{
    hk_link_dpdk_release(of(l));
}

const struct hk_link_ops hk_link_dpdk_ops = {
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
