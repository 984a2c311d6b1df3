/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets as they come from anybody on the segment. Input: mode byte, then the packet. Mode bit 0:
 * the destination is made ours, so that more gets behind the first checks. Oracle: whatever comes,
 * a payload that is announced lies within the packet; an echo's answer is not longer than the
 * request and fits; a UDP packet we put parses to what was put.
 */
#include "fuzz.h"

#include "replicator/io/packet.h"

#include <string.h>

static const struct hk_packet_end self = {{{2, 0, 0, 0, 0, 1}}, 0x0100000a, 7701};

static void round_trip(const uint8_t *payload, size_t bytes)
{
    static uint8_t packet[HK_UDP_PACKET_HEADER_BYTES + 9000];
    static const struct hk_packet_end from = {{{2, 0, 0, 0, 0, 2}}, 0x0200000a, 7702};
    struct hk_packet p;

    memcpy(packet + HK_UDP_PACKET_HEADER_BYTES, payload, bytes);
    hk_packet_put_udp(packet, &from, &self, (uint16_t)bytes);
    HK_ASSERT(hk_packet_parse(packet, (uint32_t)(HK_UDP_PACKET_HEADER_BYTES + bytes), &self, &p) ==
              HK_PACKET_UDP);
    HK_ASSERT(p.payload_bytes == bytes && p.from.ip == from.ip && p.from.port == from.port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[16384], answer[16384];
    struct hk_packet p;
    uint32_t len, n;

    if (size < 1 || size - 1 > sizeof(bytes))
        return 0;
    len = (uint32_t)size - 1;
    memcpy(bytes, data + 1, len);
    if ((data[0] & 1) && len >= 34) {
        memcpy(bytes, self.mac.b, 6);
        memcpy(bytes + 30, &self.ip, 4);
    }
    switch (hk_packet_parse(bytes, len, &self, &p)) {
    case HK_PACKET_UDP:
        HK_ASSERT(p.payload_offset <= len && p.payload_bytes <= len - p.payload_offset);
        break;
    case HK_PACKET_ICMP_ECHO:
        HK_ASSERT(p.payload_offset <= len && p.payload_bytes <= len - p.payload_offset);
        n = hk_packet_put_echo_reply(answer, sizeof(answer), bytes, &p, &self);
        HK_ASSERT(n <= sizeof(answer) && n <= len + HK_ETH_BYTES);
        break;
    case HK_PACKET_FOREIGN:
    case HK_PACKET_ARP_REQUEST:
    case HK_PACKET_ARP_REPLY: break;
    }
    if (len <= 8972)
        round_trip(data + 1, len);
    return 0;
}
