/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a resync may go beside an application: a token bucket whose rate follows what a record
 * takes to become durable. Application first: the time that a resync adds to that is held to about
 * HK_PACE_DELAY_NS, because a sync write completes then.
 *
 * One record at a time is timed, from its publication to its durability (one that is still under
 * way counts, too, once it takes long). The mean of an interval counts, since single records are
 * late for reasons of their own; the least mean of the last one to two windows is what it takes
 * anyway. More than the bound above that: the rate falls by a quarter. Else it rises by an eighth,
 * while the bucket is what held the resync back. A floor keeps it going: a resync that starves
 * leaves the standby at its pin.
 *
 * Until it has fallen for the first time it doubles instead, in shorter intervals, but only in such
 * as show what that does: one in which a record became durable, or nothing waits to.
 *
 * Integers only; time is an argument. Owned by the resync engine.
 */
#ifndef HK_CORE_PACE_H
#define HK_CORE_PACE_H

#include "proto/base.h"

#define HK_PACE_DELAY_NS    5000000ull     /* what a resync may add to a completion */
#define HK_PACE_INTERVAL_NS 100000000ull   /* between two changes of the rate */
#define HK_PACE_OPENING_NS  25000000ull    /* the same before the first fall */
#define HK_PACE_WINDOW_NS   30000000000ull /* of the least delay seen */
#define HK_PACE_RATE_MIN    (512ull << 10) /* bytes a second */
#define HK_PACE_RATE_START  (16ull << 20)
#define HK_PACE_RATE_MAX    (16ull << 30)

struct hk_pace {
    uint64_t rate_bytes_s;
    uint64_t cap_bytes_s; /* by the operator; 0: none */
    int64_t tokens;       /* below 0: what was taken in advance */
    uint64_t token_ns, token_fraction;
    bool limited;                 /* the bucket said no in this interval */
    bool opened;                  /* the rate has fallen once */
    uint64_t interval_ns;         /* when it began */
    uint64_t probe_lsn, probe_ns; /* the record being timed; 0: none */
    uint64_t least_ns[2];         /* of this window and the one before; UINT64_MAX: none seen */
    uint64_t window_ns;           /* when this one began */
    uint64_t sum_ns, count;       /* of what was timed in this interval */
    uint64_t slowed;              /* times the rate fell */
};

void hk_pace_init(struct hk_pace *p, uint64_t now_ns);
/* At any event: what is published, and what of it is durable. */
void hk_pace_observe(struct hk_pace *p, uint64_t produced, uint64_t durable, uint64_t now_ns);
/* The log goes on elsewhere: what was being timed will not be seen. */
void hk_pace_forget(struct hk_pace *p);
void hk_pace_cap(struct hk_pace *p, uint64_t bytes_s);
/* May something begin now? Then its cost is taken, in advance if need be. */
bool hk_pace_take(struct hk_pace *p, uint64_t bytes, uint64_t now_ns);
/* A cost that was not known in advance. */
void hk_pace_charge(struct hk_pace *p, uint64_t bytes);
uint64_t hk_pace_ready_ns(const struct hk_pace *p); /* when hk_pace_take may say yes */
uint64_t hk_pace_rate(const struct hk_pace *p);

#endif
