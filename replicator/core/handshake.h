/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session's two sides tell each other before it exists, and why one may refuse. Fixed
 * structs; replicator/group/control.h wraps them into control messages. SPEC.md §10.
 */
#ifndef HK_CORE_HANDSHAKE_H
#define HK_CORE_HANDSHAKE_H

#include "proto/super.h"

enum { HK_CTL_VERSION_MIN = 1, HK_CTL_VERSION_MAX = 1 };

/* Why a session is refused or ended. The daemon maps each to a message id. */
enum hk_refusal {
    HK_REFUSE_NONE = 0,
    HK_REFUSE_VERSION,      /* no common version */
    HK_REFUSE_GROUP,        /* another group id */
    HK_REFUSE_CONFIG,       /* group.conf differs (hash) */
    HK_REFUSE_VOLUMES,      /* number or sizes differ */
    HK_REFUSE_REPLICA,      /* another replica than this metadata is relative to */
    HK_REFUSE_ROLE,         /* both say primary, or both standby */
    HK_REFUSE_OLDER_EPOCH,  /* the caller's history is a proper prefix of ours */
    HK_REFUSE_DIVERGED,     /* fork: both sides wrote after it */
    HK_REFUSE_STRANGERS,    /* no common epoch */
    HK_REFUSE_PROMOTED,     /* this side was promoted */
    HK_REFUSE_FULL_COMPARE, /* full compare required; resync is needed and not there yet */
    HK_REFUSE_LOST_DURABLE, /* standby has less than it had reported durable */
    HK_REFUSE_AHEAD,        /* standby has more than the primary's ceiling or produced */
    HK_REFUSE_LEASE,        /* another replicator holds the attach lease */
    HK_REFUSE_RING,         /* the ring no longer holds what the standby needs */
    HK_REFUSE_BUSY,         /* a session with another primary process is alive */
    HK_REFUSE_NOT_READY,    /* recovery is still running */
    HK_REFUSE_BAD_FRAME,    /* a bad payload hash inside a valid frame ended the session */
    HK_REFUSE_MALFORMED,    /* a control message out of place */
    HK_REFUSE_COPY,         /* the primary's own copy of what comes next is damaged */
    HK_REFUSE_EPOCH,        /* the log goes on in a new epoch: no refusal, the session's end */
    HK_REFUSALS
};
const char *hk_refusal_text(enum hk_refusal r);

struct hk_hello {
    uint32_t version_min, version_max;
    struct hk_uuid group_id, site_id, host_id, replica_id;
    struct hk_uuid peer_replica_id; /* nil: no standby met yet */
    uint64_t config_hash;
    uint64_t lease;
    uint64_t released, acked, durable, produced, ceiling;
    uint32_t mode, on_link_loss;
    uint64_t contact_timeout_ns;
    uint32_t super_flags; /* the primary's enum hk_super_flags */
    uint32_t volume_count;
    uint64_t volume_bytes[HK_VOLUMES_MAX];
    struct hk_epoch epoch; /* the session's epoch; its parent_end is in it */
    struct hk_uuid ring_id;
    uint64_t ring_first_lsn; /* everything below was durable on the standby when it began */
    uint64_t stale_bytes;    /* of regions that may differ and that the log does not mend */
    bool map;                /* a dirty map is there: what is stale can be healed */
    /* The standby said why its copy can't go on (hk_welcome.gap), and since then all regions of
     * this side have durably become stale, and the epoch is a new one. */
    bool all_stale;
    /* No LSN is given in this epoch any more, and the ring may be gone: the standby may stand
     * anywhere up to the ceiling. */
    bool closed;
    struct hk_history history;
};

struct hk_welcome {
    uint32_t version;
    uint32_t session; /* random, non-zero: frames of other sessions are dropped */
    struct hk_uuid site_id, host_id, replica_id;
    uint64_t config_hash;
    uint64_t acked, durable, applied, window;
    uint64_t bad_lsn;     /* a record that was refused, although its frames were good … */
    uint32_t bad_count;   /* … so many times on end; 0: none */
    uint32_t super_flags; /* the standby's */
    /* Not a session yet (session 0): the log can't go on from where this standby stands, for this
     * reason (enum hk_refusal). All must become stale, a new epoch begin; then HELLO again. */
    uint32_t gap;
    uint8_t compare_key[HK_COMPARE_KEY_BYTES]; /* of this session's hashes */
    struct hk_history history; /* the standby's, before it took over the primary's */
};

#endif
