/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loss detection and round-trip time over the packet numbers of one path, after RFC 9002: packet
 * threshold 3, time threshold 9/8, probe timeout with back-off. A lost packet is never sent again;
 * its log range travels under a new number, so an ack is never ambiguous.
 *
 * Invariants: packet numbers rise by one a packet and are never reused in a session; a packet is in
 * flight, acknowledged or lost, and leaves "in flight" exactly once. The table is a ring: when it
 * is full its oldest packet counts as lost, which costs a retransmission and nothing else.
 *
 * Owned by the sender; one thread. Nothing is called back: lost packets are taken one by one.
 */
#ifndef HK_CORE_RECOVERY_H
#define HK_CORE_RECOVERY_H

#include "proto/frame.h"

enum {
    HK_RECOVERY_PACKETS = 16384, /* remembered at once; a power of two */
    HK_RECOVERY_RESERVE = 256,   /* of them kept for pings, so that a stuck path still probes */
    HK_RECOVERY_PACKET_THRESHOLD = 3,
    HK_RECOVERY_PTO_SHIFT_MAX = 6,
};
#define HK_RECOVERY_GRANULARITY_NS 1000000ull
#define HK_RECOVERY_RTT_INITIAL_NS 100000000ull
/* The receiver may hold an ack back that long (receiver.h); part of the probe timeout. */
#define HK_RECOVERY_ACK_DELAY_NS 1000000ull

enum hk_sent_state { HK_SENT_NONE = 0, HK_SENT_IN_FLIGHT, HK_SENT_ACKED, HK_SENT_LOST };

struct hk_sent {
    uint64_t packet_number;
    uint64_t lsn; /* log range it carried; span 0: a ping */
    uint64_t sent_ns;
    uint32_t span;
    uint32_t bytes; /* on the wire, for the controller */
    uint8_t state;  /* enum hk_sent_state */
    bool untaken;   /* lost, and not yet taken by hk_recovery_next_lost */
};

struct hk_recovery {
    struct hk_sent *sent;   /* HK_RECOVERY_PACKETS, by packet number */
    uint64_t next_pn;       /* from 1 */
    uint64_t oldest;        /* no packet below is in flight */
    uint64_t largest_acked; /* 0: none */
    uint64_t in_flight_bytes;
    uint64_t srtt_ns, rttvar_ns, min_rtt_ns, latest_rtt_ns; /* srtt 0: no sample yet */
    uint64_t last_sent_ns;
    uint64_t loss_time_ns; /* when the next one counts as lost by time; 0: none */
    uint32_t pto_count;
    uint64_t lost_cursor; /* lowest packet number that may be lost and untaken */
    uint64_t untaken_count;
    uint64_t packets_lost, packets_acked;
};

struct hk_ack_result {
    uint64_t acked_bytes, acked_packets, lost_bytes, lost_packets;
    uint64_t newest_acked; /* packet number, 0 if nothing new */
    bool rtt_sampled;
};

static inline size_t hk_recovery_memory(void)
{
    return HK_RECOVERY_PACKETS * sizeof(struct hk_sent) + _Alignof(struct hk_sent);
}

int hk_recovery_init(struct hk_recovery *r, struct hk_arena *arena); /* -ENOMEM */
/* A new session: packet numbers start again; the path's round-trip time is kept as a first guess.
 */
void hk_recovery_reset(struct hk_recovery *r);

/* May a data packet be remembered now? */
bool hk_recovery_room(const struct hk_recovery *r);
/*
 * For pings, which go on for hours on a silent path: when the table is full, its oldest packet
 * counts as lost. The caller takes all lost packets before it sends.
 */
void hk_recovery_make_room(struct hk_recovery *r);
/* Takes the next packet number for a packet that leaves now. There is room. */
uint64_t hk_recovery_sent(struct hk_recovery *r, uint64_t lsn, uint32_t span, uint32_t bytes,
                          uint64_t now_ns);
/*
 * Packet numbers acknowledged, newest first. 0; -EINVAL: a number that was never sent (nothing is
 * changed). Packets found lost on the way wait for hk_recovery_next_lost.
 */
int hk_recovery_on_ack(struct hk_recovery *r, const struct hk_pn_range *ranges, uint32_t count,
                       uint64_t delay_ns, uint64_t now_ns, struct hk_ack_result *ret);
/* The deadline has come: marks what is lost by time, or backs off; true: send a probe now. */
bool hk_recovery_on_timeout(struct hk_recovery *r, uint64_t now_ns, struct hk_ack_result *ret);
uint64_t hk_recovery_deadline_ns(const struct hk_recovery *r); /* UINT64_MAX: none */
/* The path went away: everything in flight on it is lost. */
void hk_recovery_abandon(struct hk_recovery *r);
/* Next lost packet that carried log bytes; false when none. */
bool hk_recovery_next_lost(struct hk_recovery *r, struct hk_sent *ret);

static inline uint64_t hk_recovery_rtt_ns(const struct hk_recovery *r)
{
    return r->srtt_ns ? r->srtt_ns : HK_RECOVERY_RTT_INITIAL_NS;
}

#endif
