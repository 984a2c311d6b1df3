/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel knows about an interface (rtnetlink): read once, at the creation of a link. */
#ifndef HK_IO_IFINFO_H
#define HK_IO_IFINFO_H

#include "replicator/io/error.h"
#include "replicator/io/packet.h"

struct hk_ifinfo {
    int index;
    struct hk_mac mac;
    uint32_t mtu;
    bool running;
    bool forwards; /* IPv4 forwarding is on: the kernel would pass on what is not its own */
    bool has_address;
    uint32_t ip; /* the first IPv4 address, network order */
    uint8_t prefix_bits;
    bool ip_is_local; /* `wanted_ip` is one of the kernel's own, on any interface */
    bool has_gateway; /* towards `peer_ip`, through this interface */
    uint32_t gateway;
    bool has_neighbour; /* of the gateway, else of peer_ip */
    struct hk_mac neighbour;
};

/* -ENODEV, -ENOMEM, -EIO. wanted_ip 0: none. */
int hk_ifinfo_read(const char *name, uint32_t wanted_ip, uint32_t peer_ip, struct hk_ifinfo *ret,
                   struct hk_io_error *err);

/* a and b share their first `bits` bits (network order). */
bool hk_ip_same_subnet(uint32_t a, uint32_t b, uint8_t bits);

#endif
