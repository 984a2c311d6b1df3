/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link: one path between two sites that carries frames, unreliably and in any order. Two
 * backends with the same frames: DPDK (the product) and kernel UDP through the reactor's io_uring
 * (debugging, emergencies, the honest peer in benchmarks).
 *
 * A frame is copied into a transmit buffer, sealed when the burst is flushed, and is gone then;
 * nothing is delivered unless it passed length, version, tag and field checks. What failed is
 * counted by kind and reported once per frame. Frame header and body are copied out of no buffer:
 * they lie in the receive buffer during the callback.
 *
 * Owned by the reactor's thread; memory is allocated at creation.
 */
#ifndef HK_IO_LINK_H
#define HK_IO_LINK_H

#include "proto/frame.h"
#include "replicator/io/error.h"
#include "replicator/store/disk.h" /* struct hk_iovec */

struct hk_aead;
struct hk_link;
struct hk_now;
struct hk_reactor;

enum hk_link_backend { HK_LINK_UDP = 1, HK_LINK_DPDK };

/*
 * Faults put in on purpose, on transmit, between seal and wire. Parts per million, drawn from a
 * seeded generator: same seed and same sends, same faults.
 */
struct hk_impair_cfg {
    uint32_t loss_ppm, dup_ppm, reorder_ppm, corrupt_ppm;
    uint64_t seed;
};

struct hk_link_cfg {
    enum hk_link_backend backend;
    uint8_t path;              /* index; frames that name another path are refused */
    const char *local_address; /* IPv4 text; DPDK: NULL takes the interface's own */
    uint16_t local_port;
    const char *peer_address;
    uint16_t peer_port;
    /*
     * UDP: NULL, or the interface to bind to. DPDK: a kernel interface ("eth1": taken through
     * af_packet), a PCI address ("0000:3b:00.0") or a whole device string ("net_...").
     */
    const char *device;
    const char *gateway; /* DPDK: next hop if the peer is not on the subnet; NULL: none */
    uint8_t prefix_bits; /* DPDK with local_address: its subnet; 0: 24 */
    uint32_t mtu;        /* IP packet bytes; 0: the interface's own, else 1500 */
    uint32_t tx_frames;  /* buffers; 0: 1024 */
    uint32_t rx_frames;  /* buffers; 0: 4096 */
    struct hk_impair_cfg impair;
    struct hk_aead *aead; /* NULL: plain */
};

/*
 * err explains to a person. Codes: -EINVAL (configuration), -EADDRINUSE, -EADDRNOTAVAIL, -ENODEV,
 * -EPERM, -ENOMEM, -ENOTSUP.
 */
int hk_link_create(const struct hk_link_cfg *cfg, struct hk_reactor *r, struct hk_link **ret_link,
                   struct hk_io_error *err);
void hk_link_free(struct hk_link *l); /* accepts NULL */

/*
 * Header and body (its pieces sum up to hdr->body_len) are copied. 0; -EAGAIN: no room now, come
 * again after a poll or flush; -EMSGSIZE: body above hk_link_body_max.
 */
int hk_link_send(struct hk_link *l, const struct hk_frame *hdr, const struct hk_iovec *body, int n);
bool hk_link_has_room(const struct hk_link *l);
/* Seals and hands the queued frames to the wire. Call once per turn after the sends. */
void hk_link_flush(struct hk_link *l);

typedef void (*hk_link_frame_fn)(void *arg, const struct hk_frame *hdr, const uint8_t *body);
typedef void (*hk_link_bad_fn)(void *arg, enum hk_frame_fault fault);

/*
 * Takes up to `budget` packets, opens and checks them; `frame` for the good, `bad` (may be NULL)
 * for the others. The callbacks may send. Returns packets taken plus other work done (ARP).
 */
uint32_t hk_link_poll(struct hk_link *l, const struct hk_now *now, hk_link_frame_fn frame,
                      hk_link_bad_fn bad, void *arg, uint32_t budget);

uint32_t hk_link_body_max(const struct hk_link *l);
/* Carrier is there and the peer's hardware address is known (UDP: the socket has no error). */
bool hk_link_is_up(const struct hk_link *l);
/* Frames can come without a completion on the ring: goes to hk_poller.must_poll. */
bool hk_link_must_poll(const struct hk_link *l);
/* When hk_link_poll wants to be called at the latest (ARP, held-back frames); UINT64_MAX: never. */
uint64_t hk_link_deadline_ns(const struct hk_link *l);

struct hk_link_stats {
    uint64_t frames_tx, bytes_tx; /* handed to the wire, frame bytes */
    uint64_t frames_rx, bytes_rx; /* good ones */
    uint64_t bad[HK_FRAME_FAULTS];
    uint64_t tx_full;    /* sends refused with -EAGAIN */
    uint64_t tx_errors;  /* the kernel or device did not take a frame: lost */
    uint64_t rx_missed;  /* dropped before us, as far as the device says */
    uint64_t rx_foreign; /* packets that were not for us: other protocol, port, sender */
    uint64_t lost, duplicated, reordered, corrupted; /* impairment */
    uint64_t arp_rx, arp_tx, icmp_rx;                /* DPDK */
};
void hk_link_stats(const struct hk_link *l, struct hk_link_stats *ret);
/* "dpdk net_af_packet on veth0, 10.0.0.1:7000 (02:…) > 10.0.0.2:7000, mtu 1500": for status. */
const char *hk_link_text(const struct hk_link *l);

#endif
