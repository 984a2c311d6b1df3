/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May these two sides have a session, and where does it begin? Pure functions over what the other
 * side says and what this side has durably written down (I12, I13). Nothing is changed here.
 *
 * Refusals are looked for in a fixed order: first who it is, then what it is, then whose history,
 * then where it stands, so that the reason named is the most useful one.
 */
#ifndef HK_CORE_SESSION_H
#define HK_CORE_SESSION_H

#include "replicator/core/handshake.h"

/* The standby, when a HELLO came. */
struct hk_session_standby {
    const struct hk_super *super; /* durable */
    bool ready;                   /* recovery is through */
    struct hk_uuid group_id;
    uint64_t config_hash;
    uint32_t volume_count;
    const uint64_t *volume_bytes, *volume_max; /* max 0: the size never changes; NULL: of none */
    uint64_t acked, durable;   /* checked in memory, durable in the journal; 0: nothing ever */
    bool alive;                /* a session stands and was heard within T … */
    struct hk_uuid alive_host; /* … with this host … */
    uint64_t alive_lease;      /* … under this lease */
    uint64_t gap_lease; /* who was told last that the log can't go on: an older one's word that all
                           is stale is of before that; 0: nobody */
};

struct hk_session_verdict {
    enum hk_refusal refusal;
    uint64_t detail[2];
    bool full_compare;  /* refused, and the primary's word that this copy may differ is to
                                       be written down */
    bool adopt;         /* the primary's history is longer: take it over, then begin its
                                       last epoch at start_lsn */
    uint64_t start_lsn; /* adopt: acked and durable stand there from then on */
    bool rebase; /* adopt: log is missing before it, which a compare of everything makes good; what
                    is here must have been applied first */
    enum hk_refusal gap; /* no session yet: why the log can't go on from here. The primary has to
                            make everything stale and to begin a new epoch */
};

void hk_session_judge_hello(const struct hk_session_standby *me, const struct hk_hello *h,
                            struct hk_session_verdict *ret);

/* The primary, when a WELCOME came as the answer to `hello`. */
enum hk_refusal hk_session_judge_welcome(const struct hk_hello *hello, const struct hk_welcome *w,
                                         uint64_t produced, uint64_t ret_detail[2]);

/* Is this hello sound in itself? */
bool hk_hello_ok(const struct hk_hello *h);

#endif
