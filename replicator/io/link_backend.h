/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between link.c and its backends; nobody else includes this. link.c fills, seals, impairs, opens,
 * checks and counts frames; a backend owns buffers and brings them to and from the wire. The
 * backend's struct begins with struct hk_link.
 */
#ifndef HK_IO_LINK_BACKEND_H
#define HK_IO_LINK_BACKEND_H

#include "replicator/io/aead.h"
#include "replicator/io/impair.h"
#include "replicator/io/link.h"

enum {
    HK_LINK_BURST = 64,    /* frames sealed, sent, received, opened at once */
    HK_LINK_HELD_MAX = 32, /* frames the impairment holds back */
    HK_IP_UDP_BYTES = 28,  /* IPv4 without options, and UDP */
    HK_FRAME_OVERHEAD_BYTES = HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES,
};

/* A transmit buffer, embedded in the backend's own. */
struct hk_link_buf {
    uint8_t *frame;
    uint32_t bytes;
};

struct hk_link_ops {
    void (*free)(struct hk_link *l);
    /* Room for one frame of frame_bytes_max; NULL: none. Given back by tx_drop or tx_push. */
    struct hk_link_buf *(*tx_take)(struct hk_link *l);
    void (*tx_drop)(struct hk_link *l, struct hk_link_buf *b);
    void (*tx_push)(struct hk_link *l, struct hk_link_buf *const bufs[], uint32_t count);
    uint32_t (*tx_room)(const struct hk_link *l);
    /* Frames as they came; they stay readable until rx_done. Adds other work done. */
    uint32_t (*rx_burst)(struct hk_link *l, uint8_t *ret_frames[], uint32_t ret_bytes[],
                         uint32_t max, uint32_t *other_work);
    void (*rx_done)(struct hk_link *l);
    bool (*is_up)(const struct hk_link *l);
    uint64_t (*deadline_ns)(const struct hk_link *l);
    /* Fills in what only the device knows. */
    void (*device_stats)(const struct hk_link *l, struct hk_link_stats *s);
};

struct held_frame {
    struct hk_link_buf *buf;
    uint32_t frames_left;
    uint64_t until_ns;
};

struct hk_link {
    const struct hk_link_ops *ops;
    struct hk_aead *aead;
    uint8_t path;
    bool must_poll;
    uint32_t body_max;
    uint64_t now_ns; /* of the last poll */
    struct hk_link_buf *burst[HK_LINK_BURST];
    uint32_t burst_count;
    struct hk_impair impair;
    struct held_frame held[HK_LINK_HELD_MAX];
    uint32_t held_count;
    struct hk_link_stats stats;
    char text[192];
};

int hk_link_udp_create(const struct hk_link_cfg *cfg, struct hk_reactor *r,
                       struct hk_link **ret_link, struct hk_io_error *err);
int hk_link_dpdk_create(const struct hk_link_cfg *cfg, struct hk_reactor *r,
                        struct hk_link **ret_link, struct hk_io_error *err);

/* Frame bytes that fit an IP packet of `mtu` bytes. */
static inline uint32_t hk_link_body_max_of(uint32_t mtu)
{
    return (uint32_t)hk_min_u64(mtu - HK_IP_UDP_BYTES - HK_FRAME_OVERHEAD_BYTES, HK_FRAME_BODY_MAX);
}

/* An ack with all its ranges must fit, else a link would work until the day of losses. */
enum {
    HK_LINK_MTU_MIN = HK_IP_UDP_BYTES + HK_FRAME_OVERHEAD_BYTES + sizeof(struct hk_ack) +
                      HK_ACK_RANGES_MAX * sizeof(struct hk_pn_range),
};

#endif
