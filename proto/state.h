/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Words that every part shares and that are no bytes on a disk or wire of their own: the states of
 * a group (the screens use them too) and the time, which pure code only ever gets as an argument.
 */
#ifndef HK_PROTO_STATE_H
#define HK_PROTO_STATE_H

#include "proto/base.h"

/* States of a group as capture knows them; replicator/group and the screens use the same words. */
enum hk_group_state {
    HK_STATE_INITIAL = 1,
    HK_STATE_REPLICATING,
    HK_STATE_SPOOLING,
    HK_STATE_PACING,   /* ring full, writers wait, bounded */
    HK_STATE_BLOCKED,  /* writers wait by policy, unbounded */
    HK_STATE_DEGRADED, /* mode sync/semisync not honoured */
    HK_STATE_BEHIND,   /* not captured; full compare required */
    HK_STATE_RESYNC,
    HK_STATE_ORIGIN_FAILED,
    HK_STATE_DETACHED, /* no replicator */
};

/*
 * What happens at a full ring, and a full spool if there is one. Whatever is asked for, a group
 * that may not go on without its standby (on-link-loss = block) never goes behind.
 */
enum hk_overflow {
    HK_OVERFLOW_PACE = 1, /* writers wait, each for a bounded time; then behind */
    HK_OVERFLOW_BLOCK,    /* they wait without bound */
    HK_OVERFLOW_BEHIND,   /* they do not wait longer than mode sync or semisync needs for itself */
};

/* Time as pure code gets it. */
struct hk_now {
    uint64_t mono_ns; /* durations, deadlines */
    uint64_t real_ns; /* capture times, what people read */
};

#endif
