/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much may be under way on one path, and how fast it leaves: a window and a token bucket.
 *
 * Slow start until the queue grows or loss says stop; then a steady climb, an eighth of the window
 * a round while the window is really used. Random loss must not collapse it, so only a round that
 * lost more than 2 % brings it down, gently, and never below what that very round delivered.
 *
 * Behind this interface a better one can take its place. Integers only. Owned by the sender.
 */
#ifndef HK_CORE_CONTROLLER_H
#define HK_CORE_CONTROLLER_H

#include "proto/limits.h"
#include "replicator/core/recovery.h"

enum {
    HK_WINDOW_BYTES_MIN = 4 * 16384,
    HK_WINDOW_BYTES_INITIAL = 10 * 16384,
    HK_WINDOW_BYTES_MAX = 1 << 30,
    HK_LOSS_TOLERATED_PERCENT = 2,
};

struct hk_controller {
    uint64_t window_bytes;
    bool slow_start;
    uint64_t rate_max_bytes_s; /* cap, 0: none */
    uint64_t rate_bytes_s;     /* of the token bucket, 0: not paced (no round-trip time yet) */
    uint64_t tokens, token_fraction, token_ns;
    /* the round under way */
    uint64_t round_end_pn; /* ends when this one is acknowledged or passed */
    uint64_t round_start_ns;
    uint64_t round_acked_bytes, round_lost_bytes;
    bool round_limited;         /* the window was what held us back */
    uint64_t delivered_bytes_s; /* of the last round */
};

void hk_controller_init(struct hk_controller *c, uint64_t rate_max_bytes_s, uint64_t now_ns);
/* May a packet of this size leave now? */
bool hk_controller_may_send(struct hk_controller *c, uint64_t in_flight_bytes, uint32_t bytes,
                            uint64_t now_ns);
void hk_controller_sent(struct hk_controller *c, uint32_t bytes);
void hk_controller_on_ack(struct hk_controller *c, const struct hk_recovery *r,
                          const struct hk_ack_result *res, uint64_t now_ns);
/* When the bucket will hold `bytes`; 0 if it does, or if the window is what is in the way. */
uint64_t hk_controller_ready_ns(const struct hk_controller *c, uint32_t bytes);

#endif
