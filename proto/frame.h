/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The frame: what travels between sites on the data plane. SPEC.md §4. 16 bytes in clear (the
 * AEAD's associated data), 16 encrypted header bytes, body, 16-byte tag. Self-contained: it takes
 * any path, any order, any number of times. Cipher 0 (lab-unencrypted): tag = XXH3-128 of header
 * and body.
 */
#ifndef HK_PROTO_FRAME_H
#define HK_PROTO_FRAME_H

#include "proto/limits.h"
#include "proto/lsn.h"

enum { HK_FRAME_VERSION = 1 };

enum hk_frame_type {
    HK_FRAME_DATA = 1, /* body: log bytes [lsn, lsn + span) */
    HK_FRAME_ACK = 2,  /* body: struct hk_ack + ranges; standby → primary */
    HK_FRAME_PING = 3, /* body: struct hk_ping; primary → standby; elicits an ack at once */
};

struct hk_frame {
    uint8_t version;
    uint8_t type; /* enum hk_frame_type */
    uint8_t key_phase;
    uint8_t path;
    uint32_t session;
    uint64_t packet_number; /* per path and direction, from 1, never reused in a session */
    /* encrypted from here */
    uint64_t lsn;  /* of the first log byte (DATA), else 0 */
    uint32_t span; /* log bytes covered (= body_len unless compressed); 0 unless DATA */
    uint16_t body_len;
    uint16_t flags;
};
HK_STATIC_ASSERT(sizeof(struct hk_frame) == HK_FRAME_HEADER_BYTES, "frame header is 32 bytes");
HK_STATIC_ASSERT(offsetof(struct hk_frame, lsn) == HK_FRAME_CLEAR_BYTES, "16 bytes in clear");

struct hk_pn_range {
    uint64_t first, last; /* both received */
};

/* Body of an ACK: this, then range_count ranges of packet numbers, newest first, disjoint. */
struct hk_ack {
    uint64_t acked, durable, applied;
    uint64_t window;      /* LSN up to which the standby takes data */
    uint64_t last_ping;   /* packet number of the newest ping received, 0 if none */
    uint32_t delay_us;    /* since the newest packet acknowledged here was received */
    uint16_t range_count; /* ≤ HK_ACK_RANGES_MAX */
    uint16_t flags;       /* enum hk_ack_flags */
};
HK_STATIC_ASSERT(sizeof(struct hk_ack) == 48, "ack is 48 bytes");

enum hk_ack_flags {
    HK_ACK_NOT_PROMOTABLE = 1 << 0,
    HK_ACK_JOURNAL_FULL = 1 << 1,
    HK_ACK_FROZEN = 1 << 2,
};

/* Body of a PING: keeps T running on both sides and tells the standby what lies ahead. */
struct hk_ping {
    uint64_t produced;       /* primary's newest published LSN */
    uint64_t oldest_time_ns; /* capture time of the first record not durable, 0 if none */
    uint64_t now_ns;         /* primary's realtime clock, for display only */
    uint64_t ack_seen;       /* packet number of the newest ack the primary received on this path */
    uint64_t ceiling;        /* LSNs below may be used */
    uint32_t state;          /* enum hk_group_state of the primary */
    uint32_t flags;
};
HK_STATIC_ASSERT(sizeof(struct hk_ping) == 48, "ping is 48 bytes");

enum hk_frame_fault {
    HK_FRAME_OK = 0,
    HK_FRAME_SHORT, /* fewer bytes than header and tag */
    HK_FRAME_BAD_VERSION,
    HK_FRAME_BAD_TYPE,
    HK_FRAME_BAD_LENGTH, /* body_len, span or range_count disagree with the bytes received */
    HK_FRAME_BAD_TAG,
    HK_FRAME_BAD_SESSION,
    HK_FRAME_BAD_FIELD, /* packet number 0, path out of range, unknown flags */
    HK_FRAME_FAULTS
};
const char *hk_frame_fault_text(enum hk_frame_fault f);

/* What may be said before the tag is checked: length and version. */
enum hk_frame_fault hk_frame_check_clear(const void *bytes, size_t len);
/*
 * After opening: type, body_len and span against `len` = header + body + tag.
 * Copies the header to *ret_f; ret_f untouched on a fault.
 */
enum hk_frame_fault hk_frame_decode(const void *bytes, size_t len, struct hk_frame *ret_f);

/* Cipher 0. Writes the tag behind the body; frame bytes are header|body|tag, contiguous. */
void hk_frame_seal_plain(void *bytes, uint16_t body_len);
/* HK_FRAME_OK, HK_FRAME_SHORT, HK_FRAME_BAD_LENGTH or HK_FRAME_BAD_TAG. */
enum hk_frame_fault hk_frame_open_plain(const void *bytes, size_t len);

/* Returns body bytes, or -EINVAL (range_count > max, ranges not newest-first and disjoint). */
int hk_ack_encode(const struct hk_ack *a, const struct hk_pn_range *ranges, void *body, size_t max);
int hk_ack_decode(const void *body, size_t len, struct hk_ack *ret_a,
                  struct hk_pn_range ret_ranges[HK_ACK_RANGES_MAX]);
int hk_ping_encode(const struct hk_ping *p, void *body, size_t max);
int hk_ping_decode(const void *body, size_t len, struct hk_ping *ret_p);

#endif
