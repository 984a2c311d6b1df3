/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/packet.h"

#include <string.h>

enum {
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_ARP = 0x0806,
    ARP_REQUEST = 1,
    ARP_REPLY = 2,
    PROTO_ICMP = 1,
    PROTO_UDP = 17,
    ICMP_ECHO_REPLY = 0,
    ICMP_ECHO = 8,
    IP_DONT_FRAGMENT = 0x4000,
    IP_FRAGMENT_MASK = 0x3fff, /* more fragments, or an offset */
    IP_TTL = 64,
};

static const struct hk_mac broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t get_ip(const uint8_t *p)
{
    uint32_t ip;

    memcpy(&ip, p, sizeof(ip));
    return ip;
}

static uint32_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)sum;
}

/* Four lanes of 64 bits; the compiler makes of it what the machine has. */
typedef uint64_t lanes __attribute__((vector_size(32)));

/*
 * One's complement addition does not care in which width or byte order it is done (RFC 1071 §2):
 * the halves of 32 bits are added up in 64, which cannot overflow below 64 GiB.
 */
uint32_t hk_packet_sum(const void *bytes, size_t len, uint32_t sum)
{
    const uint8_t *p = bytes;
    lanes total = {sum}, v;
    uint64_t folded = 0;

    for (; len >= sizeof(v); p += sizeof(v), len -= sizeof(v)) {
        memcpy(&v, p, sizeof(v));
        total += (v & 0xffffffffu) + (v >> 32);
    }
    v = (lanes){0};
    memcpy(&v, p, len);
    total += (v & 0xffffffffu) + (v >> 32);
    for (int i = 0; i < 4; i++)
        folded += fold(total[i]);
    return fold(folded);
}

static void put_checksum(uint8_t *at, uint32_t sum)
{
    uint16_t c = (uint16_t)~sum;

    memcpy(at, &c, sizeof(c));
}

/* ---- parse ---- */

static bool mac_is_ours(const uint8_t *mac, const struct hk_packet_end *self)
{
    return memcmp(mac, self->mac.b, 6) == 0;
}

static enum hk_packet_kind parse_arp(const uint8_t *p, uint32_t len,
                                     const struct hk_packet_end *self, struct hk_packet *ret)
{
    uint16_t op;

    if (len < HK_ARP_PACKET_BYTES - HK_ETH_BYTES)
        return HK_PACKET_FOREIGN;
    if (get16(p) != 1 || get16(p + 2) != ETHERTYPE_IPV4 || p[4] != 6 || p[5] != 4)
        return HK_PACKET_FOREIGN;
    op = get16(p + 6);
    memcpy(ret->from.mac.b, p + 8, 6);
    ret->from.ip = get_ip(p + 14);
    /* A group address is nobody's, and our own is not somebody else's. */
    if ((ret->from.mac.b[0] & 1) || ret->from.ip == self->ip || get_ip(p + 24) != self->ip)
        return HK_PACKET_FOREIGN;
    if (op == ARP_REQUEST)
        return HK_PACKET_ARP_REQUEST;
    return op == ARP_REPLY && mac_is_ours(p + 18, self) ? HK_PACKET_ARP_REPLY : HK_PACKET_FOREIGN;
}

static enum hk_packet_kind parse_udp(const uint8_t *p, uint32_t at, uint32_t len,
                                     const struct hk_packet_end *self, struct hk_packet *ret)
{
    uint32_t udp_bytes;

    if (len < HK_UDP_BYTES)
        return HK_PACKET_FOREIGN;
    udp_bytes = get16(p + 4);
    if (udp_bytes < HK_UDP_BYTES || udp_bytes > len || get16(p + 2) != self->port)
        return HK_PACKET_FOREIGN;
    /* Its checksum is not looked at: the frame's own tag is stronger. */
    ret->from.port = get16(p);
    ret->payload_offset = at + HK_UDP_BYTES;
    ret->payload_bytes = udp_bytes - HK_UDP_BYTES;
    return HK_PACKET_UDP;
}

static enum hk_packet_kind parse_icmp(const uint8_t *p, uint32_t at, uint32_t len,
                                      struct hk_packet *ret)
{
    if (len < HK_ICMP_ECHO_BYTES || p[0] != ICMP_ECHO || p[1] != 0)
        return HK_PACKET_FOREIGN;
    if (hk_packet_sum(p, len, 0) != 0xffff)
        return HK_PACKET_FOREIGN;
    memcpy(&ret->icmp_id_seq, p + 4, 4);
    ret->payload_offset = at + HK_ICMP_ECHO_BYTES;
    ret->payload_bytes = len - HK_ICMP_ECHO_BYTES;
    return HK_PACKET_ICMP_ECHO;
}

static enum hk_packet_kind parse_ipv4(const uint8_t *p, uint32_t len,
                                      const struct hk_packet_end *self, struct hk_packet *ret)
{
    uint32_t header, total;

    if (len < HK_IPV4_BYTES || p[0] >> 4 != 4)
        return HK_PACKET_FOREIGN;
    header = (p[0] & 15u) * 4;
    total = get16(p + 2);
    if (header < HK_IPV4_BYTES || total < header || total > len)
        return HK_PACKET_FOREIGN;
    if ((get16(p + 6) & IP_FRAGMENT_MASK) != 0 || get_ip(p + 16) != self->ip)
        return HK_PACKET_FOREIGN;
    if (hk_packet_sum(p, header, 0) != 0xffff)
        return HK_PACKET_FOREIGN;
    ret->from.ip = get_ip(p + 12);
    if (p[9] == PROTO_UDP)
        return parse_udp(p + header, HK_ETH_BYTES + header, total - header, self, ret);
    if (p[9] == PROTO_ICMP)
        return parse_icmp(p + header, HK_ETH_BYTES + header, total - header, ret);
    return HK_PACKET_FOREIGN;
}

enum hk_packet_kind hk_packet_parse(const uint8_t *bytes, uint32_t len,
                                    const struct hk_packet_end *self, struct hk_packet *ret)
{
    const uint8_t *inner = bytes + HK_ETH_BYTES;

    *ret = (struct hk_packet){.kind = HK_PACKET_FOREIGN};
    if (len < HK_ETH_BYTES)
        return HK_PACKET_FOREIGN;
    memcpy(ret->from.mac.b, bytes + 6, 6);
    len -= HK_ETH_BYTES;
    if (get16(bytes + 12) == ETHERTYPE_ARP) {
        if (mac_is_ours(bytes, self) || memcmp(bytes, broadcast.b, 6) == 0)
            ret->kind = parse_arp(inner, len, self, ret);
    } else if (get16(bytes + 12) == ETHERTYPE_IPV4 && mac_is_ours(bytes, self)) {
        ret->kind = parse_ipv4(inner, len, self, ret);
    }
    return ret->kind;
}

/* ---- put ---- */

static void put_eth(uint8_t *p, const struct hk_mac *to, const struct hk_mac *from, uint32_t type)
{
    memcpy(p, to->b, 6);
    memcpy(p + 6, from->b, 6);
    put16(p + 12, type);
}

static void put_ipv4(uint8_t *p, uint32_t from, uint32_t to, uint8_t proto, uint32_t total)
{
    memset(p, 0, HK_IPV4_BYTES);
    p[0] = 0x45;
    put16(p + 2, total);
    put16(p + 6, IP_DONT_FRAGMENT);
    p[8] = IP_TTL;
    p[9] = proto;
    memcpy(p + 12, &from, 4);
    memcpy(p + 16, &to, 4);
    put_checksum(p + 10, hk_packet_sum(p, HK_IPV4_BYTES, 0));
}

void hk_packet_put_udp(uint8_t *packet, const struct hk_packet_end *from,
                       const struct hk_packet_end *to, uint16_t payload_bytes)
{
    uint8_t *ip = packet + HK_ETH_BYTES, *udp = ip + HK_IPV4_BYTES, pseudo[4] = {0, PROTO_UDP};
    uint32_t udp_bytes = HK_UDP_BYTES + (uint32_t)payload_bytes, sum;

    put_eth(packet, &to->mac, &from->mac, ETHERTYPE_IPV4);
    put_ipv4(ip, from->ip, to->ip, PROTO_UDP, HK_IPV4_BYTES + udp_bytes);
    put16(udp, from->port);
    put16(udp + 2, to->port);
    put16(udp + 4, udp_bytes);
    put16(udp + 6, 0);
    put16(pseudo + 2, udp_bytes);
    sum = hk_packet_sum(ip + 12, 8, 0); /* both addresses */
    sum = hk_packet_sum(pseudo, sizeof(pseudo), sum);
    sum = hk_packet_sum(udp, udp_bytes, sum);
    /* 0 would say "no checksum": the other zero of one's complement means the same value. */
    put_checksum(udp + 6, sum == 0xffff ? 0 : sum);
}

void hk_packet_put_arp(uint8_t *packet, bool reply, const struct hk_packet_end *from,
                       const struct hk_mac *to_mac, uint32_t to_ip)
{
    uint8_t *p = packet + HK_ETH_BYTES;

    HK_ASSERT(to_mac != NULL || !reply);
    put_eth(packet, to_mac != NULL ? to_mac : &broadcast, &from->mac, ETHERTYPE_ARP);
    put16(p, 1);
    put16(p + 2, ETHERTYPE_IPV4);
    p[4] = 6;
    p[5] = 4;
    put16(p + 6, reply ? ARP_REPLY : ARP_REQUEST);
    memcpy(p + 8, from->mac.b, 6);
    memcpy(p + 14, &from->ip, 4);
    memset(p + 18, 0, 6);
    if (reply)
        memcpy(p + 18, to_mac->b, 6);
    memcpy(p + 24, &to_ip, 4);
}

uint32_t hk_packet_put_echo_reply(uint8_t *packet, uint32_t max, const uint8_t *request,
                                  const struct hk_packet *p, const struct hk_packet_end *self)
{
    uint32_t icmp_bytes = HK_ICMP_ECHO_BYTES + p->payload_bytes;
    uint32_t total = HK_ETH_BYTES + HK_IPV4_BYTES + icmp_bytes;
    uint8_t *ip = packet + HK_ETH_BYTES, *icmp = ip + HK_IPV4_BYTES;

    HK_ASSERT(p->kind == HK_PACKET_ICMP_ECHO);
    if (total > max)
        return 0;
    put_eth(packet, &p->from.mac, &self->mac, ETHERTYPE_IPV4);
    put_ipv4(ip, self->ip, p->from.ip, PROTO_ICMP, HK_IPV4_BYTES + icmp_bytes);
    memset(icmp, 0, 4);
    icmp[0] = ICMP_ECHO_REPLY;
    memcpy(icmp + 4, &p->icmp_id_seq, 4);
    memcpy(icmp + HK_ICMP_ECHO_BYTES, request + p->payload_offset, p->payload_bytes);
    put_checksum(icmp + 2, hk_packet_sum(icmp, icmp_bytes, 0));
    return total;
}
