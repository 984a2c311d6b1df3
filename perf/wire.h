/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's part of a link, alone: frames of one size from one network namespace to another over
 * the interface wan0, by one thread, in the way the link's backend sends them. Nothing of the
 * product is in it, so it is what any user of that kernel interface pays at least.
 */
#ifndef HK_PERF_WIRE_H
#define HK_PERF_WIRE_H

#include <stdbool.h>
#include <stdint.h>

struct hk_wire {
    const char *netns[2];   /* names under /run/netns; NULL: here, over loopback (UDP alone) */
    const char *address[2]; /* IPv4 of wan0 */
    bool packet;            /* AF_PACKET rings instead of UDP with segmentation offload */
    uint32_t frame_bytes;   /* UDP payload */
};

struct hk_wire_pair;

/* -errno. */
int hk_wire_open(const struct hk_wire *cfg, struct hk_wire_pair **ret_pair);
/* One burst of frames, each frame_bytes at `stride` distance, out and in again; -errno. */
int hk_wire_burst(struct hk_wire_pair *p, const uint8_t *frames, uint32_t stride, uint32_t count);
void hk_wire_close(struct hk_wire_pair *p);

enum { HK_WIRE_BURST = 32 };

#endif
