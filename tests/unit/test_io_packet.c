/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: packets are built as the RFCs say and hostile ones are never read beyond their end nor
 * taken for ours. Method: known bytes, a second and naive checksum, every truncation and many
 * random changes of good packets in a buffer that ends where the packet ends (sanitizers watch it);
 * the resolver with a clock of our own.
 */
#include "tests/unit/unit.h"

#include "replicator/io/neighbour.h"
#include "replicator/io/packet.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static const struct hk_packet_end us = {{{2, 0, 0, 0, 0, 0xaa}}, 0x0c004d0a, 7001};
static const struct hk_packet_end peer = {{{2, 0, 0, 0, 0, 0xbb}}, 0x0b004d0a, 7000};

/* RFC 1071, read literally. */
static uint16_t naive_sum(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void test_sum(void **state)
{
    uint8_t bytes[3000];
    uint64_t seed = 5;

    unit_random_bytes(&seed, bytes, sizeof(bytes));
    for (size_t len = 0; len < 200; len++)
        for (size_t at = 0; at < 9; at++)
            assert_int_equal(htons((uint16_t)hk_packet_sum(bytes + at, len, 0)),
                             naive_sum(bytes + at, len, 0));
    memset(bytes, 0xff, sizeof(bytes)); /* every carry there can be */
    assert_int_equal(hk_packet_sum(bytes, sizeof(bytes), 0xffff), 0xffff);
    assert_int_equal(hk_packet_sum(bytes, 0, 0), 0);
}

static uint32_t udp_checksum_residue(const uint8_t *packet, uint32_t udp_bytes)
{
    uint8_t pseudo[12];

    memcpy(pseudo, packet + 26, 8);
    pseudo[8] = 0;
    pseudo[9] = 17;
    pseudo[10] = (uint8_t)(udp_bytes >> 8);
    pseudo[11] = (uint8_t)udp_bytes;
    return naive_sum(packet + 34, udp_bytes, naive_sum(pseudo, 12, 0));
}

static void test_udp_out_and_in(void **state)
{
    static const uint8_t head[] = {2, 0, 0,    0, 0, 0xaa, 2, 0, 0,    0, 0,  0xbb,
                                   8, 0, 0x45, 0, 0, 0,    0, 0, 0x40, 0, 64, 17};
    uint8_t packet[HK_UDP_PACKET_HEADER_BYTES + 1500];
    uint64_t seed = 9;

    for (uint16_t len = 0; len < 1500; len++) {
        struct hk_packet p;
        uint32_t total = HK_UDP_PACKET_HEADER_BYTES + (uint32_t)len;

        unit_random_bytes(&seed, packet + HK_UDP_PACKET_HEADER_BYTES, len);
        hk_packet_put_udp(packet, &peer, &us, len);
        assert_int_equal(packet[16] << 8 | packet[17], 28 + len);
        assert_int_equal(naive_sum(packet + 14, 20, 0), 0xffff);
        assert_int_equal(udp_checksum_residue(packet, 8u + len), 0xffff);
        assert_false(packet[40] == 0 && packet[41] == 0);
        packet[16] = packet[17] = 0;
        assert_memory_equal(packet, head, sizeof(head));
        hk_packet_put_udp(packet, &peer, &us, len);
        assert_int_equal(hk_packet_parse(packet, total, &us, &p), HK_PACKET_UDP);
        assert_int_equal(p.from.ip, peer.ip);
        assert_int_equal(p.from.port, 7000);
        assert_memory_equal(&p.from.mac, &peer.mac, 6);
        assert_int_equal(p.payload_offset, HK_UDP_PACKET_HEADER_BYTES);
        assert_int_equal(p.payload_bytes, len);
    }
}

/* A payload whose sum is such that the checksum would be 0, which means "none". */
static void test_udp_checksum_zero(void **state)
{
    uint8_t packet[HK_UDP_PACKET_HEADER_BYTES + 2] = {0};
    uint32_t zeroes = 0;

    for (uint32_t v = 0; v < 65536; v++) {
        packet[42] = (uint8_t)(v >> 8);
        packet[43] = (uint8_t)v;
        hk_packet_put_udp(packet, &peer, &us, 2);
        zeroes += packet[40] == 0 && packet[41] == 0;
        if (packet[40] == 0xff && packet[41] == 0xff)
            assert_int_equal(udp_checksum_residue(packet, 10), 0xffff);
    }
    assert_int_equal(zeroes, 0);
}

static void test_arp(void **state)
{
    static const uint8_t expected[] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,  0,  0, 0,  0, 0xbb, 8, 6, 0, 1, 8,  0,  6, 4, 0, 1,
        2,    0,    0,    0,    0,    0xbb, 10, 77, 0, 11, 0, 0,    0, 0, 0, 0, 10, 77, 0, 12};
    uint8_t packet[HK_ARP_PACKET_BYTES];
    struct hk_packet p;

    hk_packet_put_arp(packet, false, &peer, NULL, us.ip);
    assert_int_equal(sizeof(expected), sizeof(packet));
    assert_memory_equal(packet, expected, sizeof(expected));
    assert_int_equal(hk_packet_parse(packet, sizeof(packet), &us, &p), HK_PACKET_ARP_REQUEST);
    assert_int_equal(p.from.ip, peer.ip);
    assert_memory_equal(&p.from.mac, &peer.mac, 6);
    hk_packet_put_arp(packet, true, &peer, &us.mac, us.ip);
    assert_int_equal(hk_packet_parse(packet, sizeof(packet), &us, &p), HK_PACKET_ARP_REPLY);
    assert_int_equal(p.from.ip, peer.ip);
    /* For another address; from a group address; from somebody who says he is us. */
    hk_packet_put_arp(packet, false, &peer, NULL, us.ip + 1);
    assert_int_equal(hk_packet_parse(packet, sizeof(packet), &us, &p), HK_PACKET_FOREIGN);
    hk_packet_put_arp(packet, true, &peer, &us.mac, us.ip);
    packet[22] |= 1;
    assert_int_equal(hk_packet_parse(packet, sizeof(packet), &us, &p), HK_PACKET_FOREIGN);
    hk_packet_put_arp(packet, false, &us, NULL, us.ip);
    assert_int_equal(hk_packet_parse(packet, sizeof(packet), &us, &p), HK_PACKET_FOREIGN);
}

static uint32_t put_echo(uint8_t *packet, uint32_t payload)
{
    uint8_t *icmp = packet + 34;
    uint16_t sum;

    /* The IPv4 header of a UDP packet of the same length, made one of ICMP. */
    hk_packet_put_udp(packet, &peer, &us, (uint16_t)payload);
    packet[23] = 1;
    packet[24] = packet[25] = 0;
    sum = (uint16_t)~naive_sum(packet + 14, 20, 0);
    packet[24] = (uint8_t)(sum >> 8);
    packet[25] = (uint8_t)sum;
    memcpy(icmp, "\x08\x00\x00\x00\x12\x34\x00\x05", 8);
    for (uint32_t i = 0; i < payload; i++)
        icmp[8 + i] = (uint8_t)i;
    sum = (uint16_t)~naive_sum(icmp, 8 + payload, 0);
    icmp[2] = (uint8_t)(sum >> 8);
    icmp[3] = (uint8_t)sum;
    return 42 + payload;
}

static void test_echo(void **state)
{
    uint8_t packet[2000], reply[2000];
    struct hk_packet p;

    for (uint32_t payload = 0; payload < 1400; payload += 37) {
        uint32_t bytes = put_echo(packet, payload), got;

        assert_int_equal(hk_packet_parse(packet, bytes, &us, &p), HK_PACKET_ICMP_ECHO);
        got = hk_packet_put_echo_reply(reply, sizeof(reply), packet, &p, &us);
        assert_int_equal(got, bytes);
        assert_memory_equal(reply, peer.mac.b, 6);
        assert_memory_equal(reply + 26, &us.ip, 4);
        assert_memory_equal(reply + 30, &peer.ip, 4);
        assert_int_equal(reply[34], 0);
        assert_memory_equal(reply + 38, packet + 38, 4 + payload);
        assert_int_equal(naive_sum(reply + 14, 20, 0), 0xffff);
        assert_int_equal(naive_sum(reply + 34, 8 + payload, 0), 0xffff);
        assert_int_equal(hk_packet_put_echo_reply(reply, bytes - 1, packet, &p, &us), 0);
        packet[36] ^= 1;
        assert_int_equal(hk_packet_parse(packet, bytes, &us, &p), HK_PACKET_FOREIGN);
    }
}

static enum hk_packet_kind parse_change(uint32_t at, uint8_t value)
{
    uint8_t packet[HK_UDP_PACKET_HEADER_BYTES + 20] = {0};
    struct hk_packet p;
    uint16_t sum;

    hk_packet_put_udp(packet, &peer, &us, 20);
    packet[at] = value;
    packet[24] = packet[25] = 0;
    sum = (uint16_t)~naive_sum(packet + 14, 20, 0);
    packet[24] = (uint8_t)(sum >> 8);
    packet[25] = (uint8_t)sum;
    return hk_packet_parse(packet, sizeof(packet), &us, &p);
}

static void test_not_ours(void **state)
{
    assert_int_equal(parse_change(22, 3), HK_PACKET_UDP); /* another TTL is none of our business */
    assert_int_equal(parse_change(0, 0x44), HK_PACKET_FOREIGN);  /* to another machine */
    assert_int_equal(parse_change(13, 0xdd), HK_PACKET_FOREIGN); /* IPv6 */
    assert_int_equal(parse_change(14, 0x65), HK_PACKET_FOREIGN); /* version 6 */
    assert_int_equal(parse_change(14, 0x44), HK_PACKET_FOREIGN); /* header of 16 bytes */
    assert_int_equal(parse_change(14, 0x4f), HK_PACKET_FOREIGN); /* header sum over more bytes */
    assert_int_equal(parse_change(16, 0xff), HK_PACKET_FOREIGN); /* longer than the packet */
    assert_int_equal(parse_change(17, 19), HK_PACKET_FOREIGN);   /* shorter than its header */
    assert_int_equal(parse_change(20, 0x20), HK_PACKET_FOREIGN); /* more fragments */
    assert_int_equal(parse_change(21, 1), HK_PACKET_FOREIGN);    /* a later fragment */
    assert_int_equal(parse_change(23, 6), HK_PACKET_FOREIGN);    /* TCP */
    assert_int_equal(parse_change(33, 13), HK_PACKET_FOREIGN);   /* another address */
    assert_int_equal(parse_change(37, 0), HK_PACKET_FOREIGN);    /* another port */
    assert_int_equal(parse_change(39, 7), HK_PACKET_FOREIGN);    /* UDP shorter than its header */
    assert_int_equal(parse_change(39, 29), HK_PACKET_FOREIGN);   /* UDP longer than IP says */
}

/* Whatever comes: inside the packet, or foreign. */
static void parse_exactly(const uint8_t *bytes, uint32_t len)
{
    uint8_t *copy = malloc(len), reply[4096];
    struct hk_packet p;

    if (len > 0)
        memcpy(copy, bytes, len);
    switch (hk_packet_parse(copy, len, &us, &p)) {
    case HK_PACKET_ICMP_ECHO:
        hk_packet_put_echo_reply(reply, sizeof(reply), copy, &p, &us);
        __attribute__((fallthrough));
    case HK_PACKET_UDP:
        assert_true(p.payload_offset <= len && p.payload_bytes <= len - p.payload_offset);
        break;
    case HK_PACKET_FOREIGN:
    case HK_PACKET_ARP_REQUEST:
    case HK_PACKET_ARP_REPLY: break;
    }
    free(copy);
}

static void test_hostile(void **state)
{
    uint8_t good[3][200], bytes[200];
    uint32_t len[3];
    uint64_t seed = 77;

    memset(good, 0, sizeof(good));
    hk_packet_put_udp(good[0], &peer, &us, 100);
    len[0] = 142;
    hk_packet_put_arp(good[1], false, &peer, NULL, us.ip);
    len[1] = 42;
    len[2] = put_echo(good[2], 56);
    for (uint32_t kind = 0; kind < 3; kind++)
        for (uint32_t cut = 0; cut <= len[kind]; cut++)
            parse_exactly(good[kind], cut);
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t kind = i % 3, changes = 1 + (uint32_t)(unit_random(&seed) % 4);

        memcpy(bytes, good[kind], sizeof(bytes));
        while (changes-- > 0)
            bytes[unit_random(&seed) % len[kind]] = (uint8_t)unit_random(&seed);
        parse_exactly(bytes, len[kind] - (uint32_t)(unit_random(&seed) % 3));
    }
}

static void test_neighbour(void **state)
{
    struct hk_neighbour n;
    struct hk_mac mac, one = {{2, 1, 1, 1, 1, 1}}, two = {{2, 2, 2, 2, 2, 2}};
    uint64_t now = 1000, asked = 0;
    bool unicast;

    hk_neighbour_init(&n, 42, now);
    /* Nobody answers: fast at first, then once a second, for ever. */
    for (; now < 1000 + 10 * HK_NEIGHBOUR_RETRY_NS; now += 1000000)
        if (hk_neighbour_due(&n, now, &unicast, &mac)) {
            assert_false(unicast);
            asked++;
        }
    assert_in_range(asked, 12, 20);
    assert_false(n.known);
    assert_false(hk_neighbour_learn(&n, 43, &one, now));
    assert_false(n.known);
    assert_true(hk_neighbour_learn(&n, 42, &one, now));
    assert_true(n.known);
    assert_false(hk_neighbour_due(&n, now + HK_NEIGHBOUR_FRESH_NS - 1, &unicast, &mac));
    /* Stale: asked him, then everybody; in use meanwhile. */
    now += HK_NEIGHBOUR_FRESH_NS;
    assert_true(hk_neighbour_due(&n, now, &unicast, &mac));
    assert_true(unicast && n.known && mac.b[1] == 1);
    for (int i = 1; i < HK_NEIGHBOUR_TRIES_MAX; i++) {
        assert_true(hk_neighbour_due(&n, now += HK_NEIGHBOUR_RETRY_NS, &unicast, &mac));
        assert_true(n.known);
        assert_int_equal(unicast, i < 2);
    }
    assert_true(hk_neighbour_due(&n, now += HK_NEIGHBOUR_RETRY_NS, &unicast, &mac));
    assert_false(n.known);
    assert_false(unicast);
    /* He comes back as another machine. */
    assert_true(hk_neighbour_learn(&n, 42, &two, now));
    assert_true(n.known && n.mac.b[1] == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_udp_out_and_in),
        cmocka_unit_test(test_udp_checksum_zero),
        cmocka_unit_test(test_arp),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_not_ours),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_neighbour),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
