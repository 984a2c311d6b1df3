/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet, ARP, IPv4, UDP and ICMP echo as far as a DPDK link needs them: bytes in, bytes out, no
 * device, no state, no allocation. Packets come from anybody on the segment, so every length is
 * checked against what was received, and nothing of a payload is believed here.
 *
 * IPv4 addresses are kept as they are on the wire (network order).
 */
#ifndef HK_IO_PACKET_H
#define HK_IO_PACKET_H

#include "proto/base.h"

enum {
    HK_ETH_BYTES = 14,
    HK_IPV4_BYTES = 20,
    HK_UDP_BYTES = 8,
    HK_UDP_PACKET_HEADER_BYTES = HK_ETH_BYTES + HK_IPV4_BYTES + HK_UDP_BYTES,
    HK_ARP_PACKET_BYTES = HK_ETH_BYTES + 28,
    HK_ICMP_ECHO_BYTES = 8,
};

struct hk_mac {
    uint8_t b[6];
};

/* One end of a link. */
struct hk_packet_end {
    struct hk_mac mac;
    uint32_t ip;   /* network order */
    uint16_t port; /* host order */
};

enum hk_packet_kind {
    HK_PACKET_FOREIGN = 0, /* not for us, or not whole */
    HK_PACKET_UDP,         /* to our address and port; the sender is yet to be judged */
    HK_PACKET_ARP_REQUEST, /* asks for our address */
    HK_PACKET_ARP_REPLY,   /* to us */
    HK_PACKET_ICMP_ECHO,   /* asks us to answer; checksum is right */
};

struct hk_packet {
    enum hk_packet_kind kind;
    struct hk_packet_end from; /* ARP: as it says itself; port 0 unless UDP */
    uint32_t payload_offset;   /* UDP: of the datagram; ICMP: of what follows the 8 header bytes */
    uint32_t payload_bytes;
    uint32_t icmp_id_seq; /* ICMP: as on the wire */
};

/* Fills *ret whatever comes; returns ret->kind. */
enum hk_packet_kind hk_packet_parse(const uint8_t *bytes, uint32_t len,
                                    const struct hk_packet_end *self, struct hk_packet *ret);

/*
 * Writes Ethernet, IPv4 (DF, TTL 64) and UDP headers, checksums included, into the 42 bytes before
 * the payload, which must be complete.
 */
void hk_packet_put_udp(uint8_t *packet, const struct hk_packet_end *from,
                       const struct hk_packet_end *to, uint16_t payload_bytes);

/* Requests go to everybody unless `to_mac` is given; a reply always needs it. 42 bytes. */
void hk_packet_put_arp(uint8_t *packet, bool reply, const struct hk_packet_end *from,
                       const struct hk_mac *to_mac, uint32_t to_ip);

/* The answer to the echo `p` parsed from `request`; returns its bytes, 0 if above max. */
uint32_t hk_packet_put_echo_reply(uint8_t *packet, uint32_t max, const uint8_t *request,
                                  const struct hk_packet *p, const struct hk_packet_end *self);

/* RFC 1071, folded, not inverted. `sum` starts with 0 or an earlier result. */
uint32_t hk_packet_sum(const void *bytes, size_t len, uint32_t sum);

#endif
