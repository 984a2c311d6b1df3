/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Log positions. An LSN is a byte position in a group's log; a reported LSN is a record boundary.
 */
#ifndef HK_PROTO_LSN_H
#define HK_PROTO_LSN_H

#include "proto/base.h"

/* Wrapped so that it is never mixed with lengths or volume offsets. 0 means "none". */
struct hk_lsn {
    uint64_t v;
};

#define HK_LSN(x) ((struct hk_lsn){(x)})

static inline int hk_lsn_cmp(struct hk_lsn a, struct hk_lsn b)
{
    return a.v < b.v ? -1 : a.v > b.v;
}

static inline struct hk_lsn hk_lsn_max(struct hk_lsn a, struct hk_lsn b)
{
    return a.v > b.v ? a : b;
}

static inline struct hk_lsn hk_lsn_min(struct hk_lsn a, struct hk_lsn b)
{
    return a.v < b.v ? a : b;
}

/* A position is complete only with its epoch: two forks may use the same LSN. */
struct hk_position {
    struct hk_uuid epoch_id;
    struct hk_lsn lsn;
};

/* The five watermarks of one stage view; each is the end of a record. */
struct hk_watermarks {
    struct hk_lsn produced; /* captured on the primary */
    struct hk_lsn sent;
    struct hk_lsn acked;   /* placed and checked in the standby's memory */
    struct hk_lsn durable; /* on the standby's stable journal */
    struct hk_lsn applied; /* in the replica and flushed */
};

#endif
