/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two sites say to each other on the control connection, as fixed structs. The daemon encodes
 * them with protobuf-c (replicator/daemon/control.proto, SPEC.md §10); the simulator passes them as
 * they are. The primary connects and says HELLO first.
 */
#ifndef HK_GROUP_CONTROL_H
#define HK_GROUP_CONTROL_H

#include "proto/super.h"

enum { HK_CTL_VERSION_MIN = 1, HK_CTL_VERSION_MAX = 1 };

enum hk_ctl_type {
    HK_CTL_HELLO = 1,   /* primary → standby */
    HK_CTL_WELCOME,     /* standby → primary: the session exists from here on */
    HK_CTL_REFUSED,     /* either way, then the connection ends */
    HK_CTL_FREEZE,      /* standby → primary: an operator at the standby asks for a mark */
    HK_CTL_FREEZE_REPLY,/* primary → standby: LSN of the mark or an error */
    HK_CTL_NOTICE,      /* either way: a notice worth showing at the other site too */
    HK_CTL_BYE,         /* orderly end, with the reason */
};

/* Why a session is refused or ended. The daemon maps each to a message id. */
enum hk_refusal {
    HK_REFUSE_NONE = 0,
    HK_REFUSE_VERSION,         /* no common version */
    HK_REFUSE_GROUP,           /* another group id */
    HK_REFUSE_CONFIG,          /* group.conf differs (hash) */
    HK_REFUSE_VOLUMES,         /* number or sizes differ */
    HK_REFUSE_REPLICA,         /* another replica than this metadata is relative to */
    HK_REFUSE_ROLE,            /* both say primary, or both standby */
    HK_REFUSE_OLDER_EPOCH,     /* the caller's history is a proper prefix of ours */
    HK_REFUSE_DIVERGED,        /* fork: both sides wrote after it */
    HK_REFUSE_STRANGERS,       /* no common epoch */
    HK_REFUSE_PROMOTED,        /* this side was promoted */
    HK_REFUSE_FULL_COMPARE,    /* full compare required; resync is needed and not there yet */
    HK_REFUSE_LOST_DURABLE,    /* standby has less than it had reported durable */
    HK_REFUSE_AHEAD,           /* standby has more than the primary's ceiling or produced */
    HK_REFUSE_LEASE,           /* another replicator holds the attach lease */
    HK_REFUSE_RING,            /* the ring no longer holds what the standby needs */
    HK_REFUSE_BUSY,            /* a session with another primary process is alive */
    HK_REFUSE_NOT_READY,       /* recovery is still running */
    HK_REFUSE_BAD_FRAME,       /* a bad payload hash inside a valid frame ended the session */
    HK_REFUSE_MALFORMED,       /* a control message out of place */
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
    uint32_t super_flags;           /* the primary's enum hk_super_flags */
    uint32_t volume_count;
    uint64_t volume_bytes[HK_VOLUMES_MAX];
    struct hk_epoch epoch;          /* the session's epoch; its parent_end is in it */
    struct hk_history history;
};

struct hk_welcome {
    uint32_t version;
    uint32_t session;               /* random, non-zero: frames of other sessions are dropped */
    struct hk_uuid site_id, host_id, replica_id;
    uint64_t config_hash;
    uint64_t acked, durable, applied, window;
    uint32_t super_flags;           /* the standby's */
    struct hk_history history;      /* the standby's, before it took over the primary's */
};

struct hk_ctl {
    enum hk_ctl_type type;
    union {
        struct hk_hello hello;
        struct hk_welcome welcome;
        struct {
            uint32_t reason;        /* enum hk_refusal */
            uint64_t detail[2];     /* e.g. the LSNs that contradict each other */
        } refused;
        struct {
            uint64_t op_id;
            char name[HK_NAME_BYTES];
        } freeze;
        struct {
            uint64_t op_id;
            int32_t error;
            uint32_t reserved;
            uint64_t lsn, end;
        } freeze_reply;
        struct {
            uint32_t id;            /* enum hk_notice_id */
            uint64_t arg[4];
        } notice;
        struct {
            uint32_t reason;        /* enum hk_refusal */
        } bye;
    };
};

#endif
