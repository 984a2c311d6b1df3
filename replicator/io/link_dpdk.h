/* SPDX-License-Identifier: Apache-2.0 */
/* Between link_dpdk.c (running) and link_dpdk_open.c (its beginning and end); nobody else's. */
#ifndef HK_IO_LINK_DPDK_H
#define HK_IO_LINK_DPDK_H

#include "replicator/io/link_backend.h"
#include "replicator/io/neighbour.h"
#include "replicator/io/packet.h"
#include "replicator/io/reactor.h"

#include <net/if.h>

struct rte_mbuf;
struct rte_mempool;

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

    char device[192];     /* as configured */
    char iface[IFNAMSIZ]; /* "": no kernel interface below */
    bool carrier;
    uint64_t carrier_ns; /* looked at again by then */
    int control_fd, guard_fd, bell_fd;
    struct hk_poller bell_poller;
    bool bell_added;
};

extern const struct hk_link_ops hk_link_dpdk_ops;

bool hk_link_dpdk_carrier(const struct dpdk_link *d);
/* Lets the reactor sleep until the bell rings. */
int hk_link_dpdk_hang_bell(struct dpdk_link *d, struct hk_io_error *err);
void hk_link_dpdk_release(struct dpdk_link *d);

#endif
