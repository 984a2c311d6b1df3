/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving half of a session on the standby: places log bytes into the window (a ring
 * addressed by LSN modulo its size), walks the records in LSN order, and says which acks are due.
 *
 * Invariants
 * - `acked` moves only to the end of a record whose header, payload and content checked out, and
 *   that says it was written behind the record before it.
 * - Nothing at or above the window's edge is placed: edge = round_down(floor, 4096) + window_bytes,
 *   where the owner's floor is the lowest LSN it may still read from the window (the page that
 * holds it included: the journal repeats a partial page). Such frames are dropped and counted.
 * - A packet number is acknowledged only when its bytes are placed (or were there before), so a
 *   dropped frame is found lost and sent again.
 * - Bytes that are in the window are never written over: duplicates are harmless.
 * - A bad record inside valid frames is a fault: nothing more is taken until a new session.
 * - A new session keeps what is below acked and forgets what was placed above it.
 *
 * Owned by the standby's group; one thread. Nothing is called back: records are pulled.
 */
#ifndef HK_CORE_RECEIVER_H
#define HK_CORE_RECEIVER_H

#include "proto/frame.h"
#include "proto/history.h"
#include "proto/record.h"
#include "replicator/core/ranges.h"

enum {
    HK_RECEIVER_RANGES = 2048,   /* pieces of log above acked */
    HK_RECEIVER_PN_RANGES = 256, /* packet numbers received, per path */
    HK_ACK_EVERY_PACKETS = 2,    /* an ack is due after so many packets … */
};
#define HK_ACK_DELAY_MAX_NS 1000000ull /* … or that long after the first of them */

struct hk_receiver_cfg {
    uint8_t *window;
    uint64_t window_bytes; /* a power of two, ≥ 4 × HK_RECORD_BYTES_MAX */
    uint32_t path_count;
    uint32_t volume_count;
    uint64_t volume_bytes[HK_VOLUMES_MAX];
};

struct hk_receiver_path {
    struct hk_ranges received;  /* packet numbers */
    uint64_t forgotten;         /* packet numbers below can't be told from duplicates */
    uint64_t newest, newest_ns; /* packet number, receipt */
    uint32_t unacked_count;
    uint64_t unacked_since_ns;
    bool ack_now;
    uint64_t last_ping; /* packet number of the newest ping */
    uint64_t ack_pn;    /* of the next ack */
    uint64_t frames_rx, bytes_rx, frames_tx, bytes_tx, duplicates;
};

struct hk_receiver {
    struct hk_receiver_cfg cfg;
    bool running;
    uint32_t session;
    uint32_t ordinal; /* of the session's epoch */
    uint64_t seed;
    uint64_t epoch_first;
    uint64_t acked, floor;
    uint32_t prev_bytes;     /* of the record that ends at acked; HK_PREV_UNKNOWN */
    uint64_t base;           /* where this process began to fill the window */
    uint64_t placed_max;     /* end of the highest byte ever written into it */
    struct hk_ranges placed; /* above acked */
    bool header_ok;          /* `header` stands at acked and was checked */
    struct hk_record header;
    uint8_t *scratch;           /* a payload that wraps around the window's end */
    enum hk_record_fault fault; /* why the session has to end */
    uint64_t fault_lsn;
    uint8_t last_path;
    uint64_t out_of_window, bad_records, no_room;
    uint64_t bad_chain; /* of the bad records: they were whole, but did not follow */
    struct hk_receiver_path path[HK_PATHS_MAX];
};

/* A record just checked; acked is its end. */
struct hk_received {
    struct hk_record record;
    const void *payload; /* valid until the next call; NULL if none */
};

size_t hk_receiver_memory(const struct hk_receiver_cfg *cfg);
/* -EINVAL: the window breaks a bound given above. -ENOMEM. */
int hk_receiver_init(struct hk_receiver *r, const struct hk_receiver_cfg *cfg,
                     struct hk_arena *arena);

/*
 * Where the log stands: after recovery, and at the start of a new epoch. prev_bytes: size of the
 * record that ends there, 0 at an epoch's first LSN, HK_PREV_UNKNOWN.
 */
void hk_receiver_rebase(struct hk_receiver *r, uint64_t lsn, uint32_t prev_bytes);
void hk_receiver_start(struct hk_receiver *r, uint32_t session, const struct hk_epoch *epoch);
void hk_receiver_stop(struct hk_receiver *r);

/* The lowest LSN anybody will still read from the window. Never goes back. */
void hk_receiver_set_floor(struct hk_receiver *r, uint64_t lsn);
uint64_t hk_receiver_edge(const struct hk_receiver *r);

/* From here to acked the window holds the log: below it was never here, or was written over. */
uint64_t hk_receiver_intact_from(const struct hk_receiver *r);

/*
 * A DATA or PING frame of this session. 0: new (a DATA frame's bytes are placed); -EEXIST: its
 * packet number was seen before; -ERANGE: outside the window; -ENOSPC: too many pieces; -EINVAL:
 * before the epoch, or a path that is none. The frame is acknowledged only after 0.
 */
int hk_receiver_frame(struct hk_receiver *r, const struct hk_frame *f, const uint8_t *body,
                      uint64_t now_ns);
/* The next whole record, checked; false: none yet, or a fault (see fault). */
bool hk_receiver_next_record(struct hk_receiver *r, struct hk_received *ret);
/* Ends of whole records: the largest one ≤ limit reachable from `from` (a boundary ≤ acked). */
uint64_t hk_receiver_boundary(const struct hk_receiver *r, uint64_t from, uint64_t limit);

/* An ack should leave at once, on the path heard last. */
void hk_receiver_ack_now(struct hk_receiver *r);
bool hk_receiver_ack_due(const struct hk_receiver *r, uint64_t now_ns);
/*
 * The next ack due: header (complete but for body_len) and the fields this side knows: acked,
 * window, last_ping, delay_us, ranges. The owner adds durable, applied and flags. False: none is
 * due.
 */
bool hk_receiver_next_ack(struct hk_receiver *r, uint64_t now_ns, struct hk_frame *ret_frame,
                          struct hk_ack *ret_ack, struct hk_pn_range ret_ranges[HK_ACK_RANGES_MAX]);
uint64_t hk_receiver_deadline_ns(const struct hk_receiver *r); /* UINT64_MAX: none */

#endif
