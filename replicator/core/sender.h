/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending half of a session on the primary: which log range leaves now, on which path. What was
 * lost goes first, then new log up to min(produced, the standby's window). It never sees log bytes:
 * a frame names its range and the reactor gathers it.
 *
 * Invariants
 * - Watermarks only move forward; nothing at or above `next` is ever believed to have arrived.
 * - Nothing below `acked` is sent again; everything in [acked, next) is under way, lost and queued,
 *   or received. So a lost frame costs time, never data.
 * - Only what is held is sent: the ring from ring_from on, and a window of the spool. A frame lies
 *   in one of them. Whatever was sent from the window stays there until it is acknowledged.
 * - An ack counts as contact only when it is newer than every ack before it on its path.
 *
 * Owned by the primary's group; one thread. Time is an argument.
 */
#ifndef HK_CORE_SENDER_H
#define HK_CORE_SENDER_H

#include "replicator/core/controller.h"
#include "replicator/core/ranges.h"
#include "replicator/core/recovery.h"

enum {
    HK_SENDER_LOST_RANGES = 1024, /* queued for sending again; beyond it ranges are joined */
    HK_FRAME_WIRE_BYTES = HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES + 42, /* without the body */
};

struct hk_sender_cfg {
    uint32_t path_count;
    uint32_t frame_body_max[HK_PATHS_MAX];
    uint64_t rate_max_bytes_s;
    uint64_t ping_interval_ns;
};

struct hk_sender_path {
    struct hk_recovery recovery;
    struct hk_controller controller;
    bool up;
    bool ping_now, probe; /* probe: one data frame may leave in spite of the window */
    uint32_t body_max;
    uint64_t pinged_ns;
    uint64_t ack_seen; /* packet number of the newest ack */
    uint64_t frames_tx, bytes_tx, frames_rx, bytes_rx, retransmitted;
};

struct hk_sender {
    struct hk_sender_cfg cfg;
    bool running;
    bool held; /* log can't be gathered for now: only pings leave */
    uint32_t session;
    uint64_t produced, next, acked, durable, applied, window;
    uint64_t ring_from;            /* the ring holds all from here to produced */
    uint64_t spool_from, spool_to; /* … and the spool's window this, for what lies below */
    uint16_t standby_flags;        /* enum hk_ack_flags */
    uint64_t contact_ns;           /* receipt of the newest ack, 0: none in this session */
    uint64_t acks_refused;         /* acks that said what can't be */
    uint32_t turn;                 /* path to ask first */
    struct hk_ranges lost;
    struct hk_sender_path path[HK_PATHS_MAX];
};

size_t hk_sender_memory(const struct hk_sender_cfg *cfg);
int hk_sender_init(struct hk_sender *s, const struct hk_sender_cfg *cfg, struct hk_arena *arena,
                   uint64_t now_ns); /* -ENOMEM */

/* A session begins: the standby holds everything below acked, takes data below window. */
void hk_sender_start(struct hk_sender *s, uint32_t session, uint64_t acked, uint64_t durable,
                     uint64_t applied, uint64_t window, uint64_t now_ns);
void hk_sender_stop(struct hk_sender *s);
void hk_sender_produced(struct hk_sender *s, uint64_t produced);
/* Where log can be taken from now; kept over sessions. As long as it is not said: all is held. */
void hk_sender_held(struct hk_sender *s, uint64_t ring_from, uint64_t spool_from,
                    uint64_t spool_to);
void hk_sender_link(struct hk_sender *s, uint8_t path, bool up, uint32_t body_max, uint64_t now_ns);

/*
 * An ack with packet number pn came in on a path of this session. 0; -EALREADY older than one seen
 * before (its ranges count, its contact does not); -EINVAL it says what can't be (nothing changed).
 */
int hk_sender_on_ack(struct hk_sender *s, uint8_t path, uint64_t pn, uint32_t bytes,
                     const struct hk_ack *ack, const struct hk_pn_range *ranges, uint64_t now_ns);

/* Deadlines that have come. Called before hk_sender_next. */
void hk_sender_tick(struct hk_sender *s, uint64_t now_ns);
/* The next frame: DATA with its range, or a PING whose body the caller makes. False: nothing now.
 */
bool hk_sender_next(struct hk_sender *s, uint64_t now_ns, struct hk_frame *ret);
uint64_t hk_sender_deadline_ns(const struct hk_sender *s); /* UINT64_MAX: none */
/* Ask the standby for an ack on every path, at once. */
void hk_sender_ping(struct hk_sender *s);

#endif
