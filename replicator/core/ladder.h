/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overflow ladder of a primary (I8): where log that the standby lacks is kept, and what happens
 * when there is no room: ring → spool → pace → behind. And which stage stands still although it has
 * work.
 *
 * A step up is taken when there is need, a step back only with headroom *and* when what is not
 * durable at the standby shrank to it, which needs a drain rate above the arrival rate. No timer
 * alone moves it: with arrival and drain alike it stays where it is.
 *
 * pace and behind are the capture core's (driver-glue/capture/policy.c); here they are only told.
 *
 * Owned by the primary's group; one thread; time is an argument.
 */
#ifndef HK_CORE_LADDER_H
#define HK_CORE_LADDER_H

#include "proto/base.h"

enum hk_ladder_step { HK_LADDER_RING = 0, HK_LADDER_SPOOL, HK_LADDER_PACE, HK_LADDER_BEHIND };

enum {
    HK_LADDER_ON_PERMILLE = 500,  /* the ring is so full: the spool takes over … */
    HK_LADDER_OFF_PERMILLE = 250, /* … until ring and lag are down to this part of the ring … */
    HK_LADDER_CALM_RINGS = 4,     /* … and stayed so while this many rings of log were drained */
};
#define HK_LADDER_CALM_NS 10000000000ull /* … or, where less comes, for so long */

/* Parts through which a write's record goes; the first that stands still is the cause. */
enum hk_stall_stage {
    HK_STALLED_NONE = 0,
    HK_STALLED_RING,    /* the capture side gives nothing on, or takes no report */
    HK_STALLED_LINK,    /* sent, and nothing comes back */
    HK_STALLED_JOURNAL, /* received there, not durable */
    HK_STALLED_APPLY,   /* durable there, not applied */
    HK_STALLED_ORIGIN,  /* published, and the origin does not end a write */
    HK_STALL_STAGES
};

struct hk_ladder_input {
    bool spool;             /* there is one that can be written */
    bool away;              /* no session, or no contact */
    uint32_t fill_permille; /* of the ring: what is not released */
    uint64_t ring_bytes;    /* log bytes that it holds for sure */
    uint64_t produced, durable;
    bool paced, behind; /* as the capture side says */
    uint64_t mono_ns;
};

struct hk_ladder {
    enum hk_ladder_step step;
    bool spooling;
    uint64_t changes; /* of spooling, ever */
    bool calm;        /* there is headroom: since then, and durable was then … */
    uint64_t calm_ns, calm_durable;
};

void hk_ladder_update(struct hk_ladder *l, const struct hk_ladder_input *in);

/* What each stage has done and has to do; positions only grow. */
struct hk_stall_input {
    bool attached;
    bool session; /* there is one, and its other end is heard: what it does not say is not so */
    uint64_t reserved;                /* LSN the next record gets */
    uint64_t produced;                /* published */
    uint64_t acked, durable, applied; /* at the standby */
    /* Contact that the capture side was told of, and the newest of it that it has taken. */
    uint64_t reported_ns, taken_ns;
    uint64_t origin_lsn; /* oldest record that the origin has not got yet; 0: none */
};

struct hk_stall {
    struct hk_stall_watch {
        uint64_t done, since_ns; /* since when it stands there with work; 0: it has none */
    } stage[HK_STALL_STAGES], reports;
};

void hk_stall_update(struct hk_stall *s, const struct hk_stall_input *in, uint64_t mono_ns);
/* The first stage without progress for at least patience_ns. */
enum hk_stall_stage hk_stall_which(const struct hk_stall *s, uint64_t patience_ns,
                                   uint64_t mono_ns);
const char *hk_stall_text(enum hk_stall_stage stage);

#endif
