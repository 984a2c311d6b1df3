/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Messages between the capture side and the replicator, one per SEQPACKET datagram (NBD plugin).
 * The capture side validates every field (I6): nothing said here can move a watermark back,
 * complete beyond what was produced, or act under a stale lease.
 */
#ifndef HK_UAPI_CAPTURE_IPC_H
#define HK_UAPI_CAPTURE_IPC_H

#include "proto/record.h"
#include "proto/super.h"

#define HK_CAP_IPC_MAGIC 0x31495048u /* "HPI1" */

enum hk_cap_ipc_type {
    HK_IPC_ATTACH = 1, /* r → c: take the attach lease (an older holder is cut off) */
    HK_IPC_ATTACHED =
        2, /* c → r: lease, positions, super; fds: ring (O_RDONLY), eventfd, hint page */
    HK_IPC_REFUSED = 3,  /* c → r: errno and message id */
    HK_IPC_REPORT = 4,   /* r → c: watermarks and contact */
    HK_IPC_INSERT = 5,   /* r → c: insert a control record (mark) */
    HK_IPC_INSERTED = 6, /* c → r: its LSN, or an errno */
    HK_IPC_STATE = 7,  /* c → r: state, flags, watermarks, counters; on change and each second */
    HK_IPC_DETACH = 8, /* r → c: give the lease back in order */
    HK_IPC_STOP = 9,   /* c → r: clean stop is under way: drain, then DETACH */
    /* c → r: history, mode, policy, T or a size changed (super follows). A new epoch has its first
     * record at `tail`; of the old one nothing is in the ring any more. */
    HK_IPC_EPOCH = 10,
    HK_IPC_PEER = 11,       /* r → c: replica id of the standby met, to be bound durably */
    HK_IPC_CHECK_COPY = 12, /* r → c: the standby refused this record twice: look at the own copy */
    HK_IPC_RETURN = 13, /* r → c: all of the closed epoch is sent, the standby's durable is … */
    HK_IPC_STALE_ASK = 14, /* r → c: the next stale region from here on? */
    HK_IPC_STALE = 15,     /* c → r: it, or an errno */
    HK_IPC_BLOCK = 16,     /* r → c: put a block record of this range into the log */
    HK_IPC_BLOCKED = 17,   /* c → r: its end, or an errno */
    HK_IPC_HEAL = 18,      /* r → c: this region is equal now, by what the log holds up to … */
    HK_IPC_HEALED = 19,    /* c → r: 0 or an errno */
    HK_IPC_STALE_ALL = 20, /* r → c: the standby may differ anywhere, and the log can't go on */
    HK_IPC_ALL_STALE = 21, /* c → r: that is durable now: ask for RETURN */
    HK_IPC_RETURNED = 22,  /* c → r: RETURN was refused; if it was not, EPOCH follows */
    HK_IPC_RESIZE = 23,    /* r → c: the standby is ready: this volume grows */
    HK_IPC_RESIZED = 24, /* c → r: RESIZE was refused; if it was not, EPOCH tells the new size */
};

enum hk_cap_ipc_flags {
    HK_IPC_FLAG_IN_SYNC = 1 << 0,  /* STATE: mode sync is honoured for every acknowledged write */
    HK_IPC_FLAG_PASSING = 1 << 1,  /* STATE: writes are not captured */
    HK_IPC_FLAG_STOPPING = 1 << 2, /* STATE: clean stop under way */
    HK_IPC_FLAG_BARRED = 1 << 3,   /* STATE: the application waits for the resync (block) */
    HK_IPC_FLAG_CLOSED = 1 << 4,   /* STATE: no LSNs any more in this epoch; RETURN is awaited */
    HK_IPC_FLAG_RESYNC = 1 << 5, /* STATE: there are stale regions, or resync-end is not durable */
};

/* REPORT.flags */
enum hk_cap_ipc_report_flags {
    HK_IPC_REPORT_SPOOL_ROOM = 1 << 0, /* the spool takes what the ring can't hold */
};

enum { HK_CAP_IPC_VERSION = 3, HK_CAP_IPC_BLOCK_BYTES_MAX = 64 << 10 };

/* REFUSED.reason: which check said no. */
enum hk_cap_refusal {
    HK_CAP_REFUSE_OTHER = 0,
    HK_CAP_REFUSE_GROUP = 1, /* another group's replicator */
    HK_CAP_REFUSE_VERSION = 2,
    HK_CAP_REFUSE_STALE = 3,   /* a newer lease is out */
    HK_CAP_REFUSE_PEER = 4,    /* another standby is bound */
    HK_CAP_REFUSE_MESSAGE = 5, /* malformed */
    HK_CAP_REFUSE_STOPPING = 6,
    HK_CAP_REFUSE_RANGE = 7, /* watermarks that cannot be */
};

struct hk_cap_ipc {
    uint32_t magic;
    uint16_t type; /* enum hk_cap_ipc_type */
    uint16_t flags;
    uint64_t lease; /* 0 in ATTACH and REFUSED */
    union {
        struct {
            struct hk_uuid group_id;
            uint32_t version;
            uint32_t pid;
        } attach;
        struct {
            struct hk_uuid ring_id;
            uint64_t tail; /* slot index to read from: the oldest that is not released */
            uint64_t tail_lsn;
            uint64_t released, acked, durable;
            struct hk_super super;
        } attached;
        struct {
            int32_t error;   /* -errno */
            uint32_t reason; /* 0, or an enum of the sender's */
        } refused;
        struct {
            uint64_t released, acked, durable;
            uint64_t contact_ns; /* CLOCK_MONOTONIC of the newest ack from the standby, 0 never */
            uint32_t standby_flags; /* enum hk_ack_flags */
            uint32_t flags;         /* enum hk_cap_ipc_report_flags */
            /* Log that is durable in the spool; both 0: none. */
            uint64_t spool_first, spool_end;
        } report;
        struct {
            uint64_t request;
            uint8_t record_type; /* HK_REC_MARK only, for now */
            uint8_t reserved[7];
            struct hk_mark mark;
        } insert;
        struct {
            uint64_t request;
            uint64_t lsn, end;
            int32_t error;
            uint32_t reserved;
        } inserted;
        struct {
            uint32_t state;       /* enum hk_group_state */
            uint32_t super_flags; /* enum hk_super_flags */
            uint64_t produced, ceiling;
            uint64_t released, acked, durable;
            uint64_t since_ns; /* realtime of the last state change */
            uint32_t slots_used, slots_total;
            uint64_t payload_used, payload_total;
            uint32_t waiting;       /* writes waiting for room */
            uint32_t held;          /* writes waiting for the standby */
            uint64_t writes, bytes; /* captured since start */
            uint64_t uncaptured;    /* writes passed without capture */
            uint64_t origin_errors;
            uint64_t degraded_lsn;
            uint64_t stale_bytes;
            uint64_t resync_at;   /* end of the open resync-begin, 0: none */
            uint64_t resync_pass; /* of the newest resync-begin */
            uint32_t active_regions, hot_regions;
            uint64_t bad_ranges; /* blocks of origins that could not be read */
        } state;
        struct {
            uint64_t tail, tail_lsn; /* as in ATTACHED */
            struct hk_super super;
        } epoch;
        struct {
            struct hk_uuid replica_id;
        } peer;
        struct {
            uint64_t lsn;
        } check_copy;
        struct {
            uint64_t parent_end;
        } ret;
        struct {
            uint64_t offset;
            uint16_t volume;
            uint16_t reserved[3];
        } stale_ask;
        struct {
            uint64_t offset, bytes, event, after;
            int32_t error; /* -ENOENT: none from there on; -EAGAIN: no resync is open */
            uint16_t volume;
            uint16_t reserved;
        } stale;
        struct {
            uint64_t request;
            uint64_t offset;
            uint32_t bytes; /* ≤ HK_CAP_IPC_BLOCK_BYTES_MAX */
            uint16_t volume;
            uint16_t reserved;
        } block;
        struct {
            uint64_t request;
            uint64_t end;  /* of the block or bad-range record */
            int32_t error; /* -EIO: unreadable, the log says so; -ESHUTDOWN, -ESTALE, -EAGAIN */
            uint32_t reserved;
        } blocked;
        struct {
            uint64_t request;
            uint64_t offset, event, end;
            uint16_t volume;
            uint16_t reserved[3];
        } heal;
        struct {
            uint64_t request;
            int32_t error; /* -EAGAIN: it became stale again, or not now */
            uint32_t reserved;
        } healed;
        struct {
            int32_t error;
            uint32_t reserved;
        } returned;
        struct {
            uint64_t bytes;
            int32_t error; /* RESIZED: -errno */
            uint16_t volume;
            uint16_t reserved;
        } resize;
    };
};

/* Bytes of a datagram of this type; 0: no such type. A receiver demands exactly so many. */
static inline uint32_t hk_cap_ipc_bytes(uint16_t type)
{
    const uint32_t head = offsetof(struct hk_cap_ipc, attach);
    const struct hk_cap_ipc *m = NULL;

    switch ((enum hk_cap_ipc_type)type) {
    case HK_IPC_ATTACH: return head + sizeof(m->attach);
    case HK_IPC_ATTACHED: return head + sizeof(m->attached);
    case HK_IPC_REFUSED: return head + sizeof(m->refused);
    case HK_IPC_REPORT: return head + sizeof(m->report);
    case HK_IPC_INSERT: return head + sizeof(m->insert);
    case HK_IPC_INSERTED: return head + sizeof(m->inserted);
    case HK_IPC_STATE: return head + sizeof(m->state);
    case HK_IPC_DETACH:
    case HK_IPC_STOP: return head;
    case HK_IPC_EPOCH: return head + sizeof(m->epoch);
    case HK_IPC_PEER: return head + sizeof(m->peer);
    case HK_IPC_CHECK_COPY: return head + sizeof(m->check_copy);
    case HK_IPC_RETURN: return head + sizeof(m->ret);
    case HK_IPC_STALE_ASK: return head + sizeof(m->stale_ask);
    case HK_IPC_STALE: return head + sizeof(m->stale);
    case HK_IPC_BLOCK: return head + sizeof(m->block);
    case HK_IPC_BLOCKED: return head + sizeof(m->blocked);
    case HK_IPC_HEAL: return head + sizeof(m->heal);
    case HK_IPC_HEALED: return head + sizeof(m->healed);
    case HK_IPC_STALE_ALL:
    case HK_IPC_ALL_STALE: return head;
    case HK_IPC_RETURNED: return head + sizeof(m->returned);
    case HK_IPC_RESIZE:
    case HK_IPC_RESIZED: return head + sizeof(m->resize);
    }
    return 0;
}

#endif
