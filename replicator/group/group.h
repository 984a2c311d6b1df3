/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group on one site: the pure side as the daemon and the simulator see it. Events go in, actions
 * are pulled out; time and random come with them. It never calls out except hk_disk.submit (which
 * only queues) and hk_source.time_at. One reactor thread owns it.
 *
 * A group is a primary (core/sender, wires to the capture side) or a standby (core/receiver,
 * store/journal, store/apply, superblock). Rules that live here: report durable only after the
 * journal's write is durable; apply barriers; freeze; promotion; what may be said about loss.
 */
#ifndef HK_GROUP_GROUP_H
#define HK_GROUP_GROUP_H

#include "proto/frame.h"
#include "proto/record.h"
#include "proto/state.h"
#include "proto/super.h"
#include "replicator/core/ladder.h"
#include "replicator/core/resync.h"
#include "replicator/group/control.h"
#include "replicator/store/disk.h"
#include "replicator/store/spool.h"

/* Of the ring's producer page. contact_ns was read before state: it was taken in that state's past.
 */
struct hk_source_view {
    uint64_t contact_ns; /* newest contact taken from a REPORT, monotonic; 0 never */
    uint32_t state;      /* enum hk_group_state */
    struct hk_lsn next;  /* LSN the next record gets: above it nothing is even reserved */
    uint64_t newest_ns;  /* capture time of the newest record; 0: not known */
    uint64_t origin_lsn; /* oldest record that the origin has not got yet; 0: none */
    uint64_t head;       /* records of this ring that are at least reserved */
};

/* Ring or spool: where log bytes come from. The reactor gathers when it executes SEND. */
struct hk_source {
    /* Pieces of [lsn, lsn + bytes) in order; returns their number, or -ERANGE (not held any more),
     * -ENOSPC (more than max pieces). Pointers are valid until the LSNs are released. */
    int (*gather)(struct hk_source *, struct hk_lsn lsn, uint32_t bytes, struct hk_iovec *iov,
                  int max);
    /* Capture time of the first record that ends above lsn; 0 if there is none. */
    uint64_t (*time_at)(struct hk_source *, struct hk_lsn lsn);
    /* End of what is published at this very moment, without taking notice of it: what would be lost
     * is never less than that. NULL: the last PRODUCED event was just now. */
    struct hk_lsn (*produced)(struct hk_source *);
    /* What the capture side says at this very moment; false: it can't be read. NULL: the last
     * CAPTURE event is what counts, and an ack counts as seen when it was received. */
    bool (*look)(struct hk_source *, struct hk_source_view *ret);
    /* How much of its slots or payload holds what is not released, per mille; ret_bytes: log that
     * fits in for sure. NULL: never full. */
    uint32_t (*fill)(struct hk_source *, uint64_t *ret_bytes);
    /* How many records of this ring end at or below lsn; what is not held any more counts as if it
     * were the oldest that is. NULL: not known. */
    uint64_t (*index_at)(struct hk_source *, struct hk_lsn lsn);
};

struct hk_group_cfg {
    enum hk_super_role role;
    struct hk_uuid group_id, site_id, host_id;
    uint64_t config_hash;
    uint32_t volume_count;
    uint64_t volume_bytes[HK_VOLUMES_MAX]; /* when the group was made */
    uint64_t volume_max[HK_VOLUMES_MAX];   /* it may grow to so many; 0: not at all */
    char volume_name[HK_VOLUMES_MAX][HK_NAME_BYTES];
    uint64_t contact_timeout_ns;
    uint32_t path_count;
    uint32_t frame_body_max[HK_PATHS_MAX]; /* bytes a frame's body may have on this path */
    uint64_t rate_max_bytes_s;             /* pacing cap; 0: none */
    uint64_t seed;                         /* for session ids; from the caller's random source */
    /* primary */
    struct hk_source *source;
    /* standby: its disk, window and journal; primary: the spool's, segment_count 0: there is none
     * (store/spool.h says what its window must be) */
    struct hk_disk *disk;
    uint8_t *window;       /* window_bytes, 4096-aligned; power of two */
    uint64_t window_bytes; /* ≥ 4 × HK_RECORD_BYTES_MAX */
    uint64_t segment_bytes;
    uint32_t segment_count;        /* segment files that exist; HK_FILE_SEGMENT0 + i */
    uint64_t apply_bytes;          /* memory for one apply batch */
    uint64_t apply_lag_bytes_max;  /* bound of durable − applied */
    uint64_t journal_retain_bytes; /* applied journal kept for looking back, at most */
    uint32_t region_shift; /* of the map that a promotion writes; 0: none. Its file has the room */
    uint32_t snapshot_slots; /* files of so many snapshots exist (HK_FILE_SNAPSHOT0) */
    uint64_t snapshot_bytes; /* of before-images at most; 0: what the disk gives */
};

enum hk_event_type {
    HK_EV_PRODUCED = 1, /* primary: the ring holds published records up to … */
    HK_EV_CAPTURE,      /* primary: attached, detached, or the capture side's state changed */
    HK_EV_FRAME_IN,     /* an opened frame (tag checked) */
    HK_EV_BAD_FRAME,    /* a frame that failed its checks; only counted */
    HK_EV_DISK_DONE,
    HK_EV_CONTROL_UP, /* a control connection stands (primary: connected; standby: accepted) */
    HK_EV_CONTROL_IN,
    HK_EV_CONTROL_DOWN,
    HK_EV_LINK,
    HK_EV_TIMER, /* the deadline has come (any event advances time as well) */
    HK_EV_VERB,
    HK_EV_INSERTED, /* primary: answer to INSERT */
    HK_EV_RING_LOST,
    HK_EV_STALE,      /* primary: answer to STALE_ASK */
    HK_EV_HASHED,     /* answer to HASH */
    HK_EV_BLOCK_DONE, /* primary: answer to BLOCK */
    HK_EV_HEALED,     /* primary: answer to HEAL */
    HK_EV_ALL_STALE,  /* primary: answer to STALE_ALL */
    HK_EV_RESIZED,    /* primary: RESIZE was refused; if not, a CAPTURE with the new size comes */
    HK_EV_RETURNED,   /* primary: RETURN was refused; if not, a CAPTURE with the new epoch comes */
};

enum hk_verb_kind {
    HK_VERB_FREEZE = 1, /* name */
    HK_VERB_FREEZE_END, /* name; the image is no longer needed: the applier goes on */
    HK_VERB_FAILOVER,   /* standby: promote; fence evidence in arg */
    HK_VERB_STOP,       /* orderly end of the daemon: flush, say BYE */
    HK_VERB_PAUSE,      /* primary: the compare of a resync stands still … */
    HK_VERB_RESUME,     /* … and goes on */
    HK_VERB_RESIZE,     /* primary: volume grows to bytes */
    HK_VERB_THROTTLE, /* primary: at most so many bytes a second (rate_bytes_s; 0: adapts alone) */
};

enum hk_verb_fence { HK_FENCE_NONE = 0, HK_FENCE_OK = 1, HK_FENCE_FAILED = 2 };

struct hk_verb {
    enum hk_verb_kind kind;
    uint64_t op_id;
    char name[HK_NAME_BYTES];
    uint32_t fence;           /* FAILOVER: enum hk_verb_fence */
    uint64_t fence_time_ns;   /* FAILOVER: realtime at which the fence was in force */
    struct hk_uuid new_epoch; /* FAILOVER: random id for the new epoch */
    uint64_t rate_bytes_s;    /* THROTTLE */
    bool or_pin;              /* FREEZE at a standby: while a resync runs its pin is as good, … */
    uint64_t wait_ns;         /* … once it has been waited for so long */
    uint32_t volume;          /* RESIZE */
    uint64_t bytes;           /* RESIZE: the new size */
};

struct hk_event {
    enum hk_event_type type;
    union {
        struct {
            struct hk_lsn produced;
        } produced;
        struct {
            bool attached;
            uint64_t lease;
            struct hk_lsn released, acked, durable, produced;
            uint32_t state; /* enum hk_group_state as capture sees it */
            const struct hk_super *super;
            uint64_t stale_bytes; /* regions the log does not mend */
            bool closed;          /* no LSN is given in this epoch any more: RETURN is awaited */
        } capture;
        struct {
            struct hk_frame header;
            const uint8_t *body; /* header.body_len bytes, valid during the call */
        } frame;
        struct {
            uint8_t path;
            enum hk_frame_fault fault;
        } bad_frame;
        struct hk_diskop *disk;
        const struct hk_ctl *control; /* valid during the call */
        struct {
            uint8_t path;
            bool up;
            uint32_t frame_body_max;
        } link;
        struct hk_verb verb;
        struct {
            uint64_t request;
            int error;
            struct hk_lsn lsn, end;
        } inserted;
        struct {
            bool found; /* else there is none at or behind what was asked for, just now */
            uint32_t volume;
            uint64_t offset, bytes; /* one region, cut at the volume's end */
            uint64_t event;         /* count of what made it stale */
            struct hk_lsn after;    /* a compare is good from here on */
        } stale;
        const struct hk_hashes *hashed; /* valid during the call */
        struct {
            uint64_t request;
            int error; /* 0; -EAGAIN: no room now; -EIO: unreadable, bad-range is in the log */
            struct hk_lsn end;
        } block_done;
        struct {
            uint64_t request;
            int error; /* 0; -EAGAIN: stale again since; else it was not done */
        } healed;
        struct {
            int error; /* ALL_STALE: 0 durable; RETURNED, RESIZED: never 0 */
        } done;
    };
};

enum hk_action_type {
    HK_ACT_SEND = 1, /* build, seal and send one frame */
    HK_ACT_CONTROL_OUT,
    HK_ACT_CONTROL_CLOSE,
    HK_ACT_REPORT,     /* primary: to the capture side */
    HK_ACT_INSERT,     /* primary: ask capture for a control record */
    HK_ACT_BIND_PEER,  /* primary: ask capture to bind the standby's replica id */
    HK_ACT_CHECK_COPY, /* primary: ask capture to look at its own copy of a record */
    HK_ACT_RETURN,     /* primary: ask capture for a new epoch; the parent ends at … */
    HK_ACT_STALE_ASK,  /* primary: the next stale region from … on */
    HK_ACT_HASH,       /* hash a piece of the origin (primary) or replica (standby) */
    HK_ACT_BLOCK,      /* primary: a block record of this range */
    HK_ACT_HEAL,       /* primary: the region was equal, or is mended by the log up to … */
    HK_ACT_STALE_ALL,  /* primary: every region becomes stale, and the log can't go on */
    HK_ACT_RESIZE,     /* primary: a volume grows; the standby is ready for it */
    HK_ACT_NOTIFY,     /* for people and the event log */
    HK_ACT_VERB_DONE,  /* answer to a verb */
    HK_ACT_FATAL,      /* fail-stop: storage lied; the daemon ends after saying so */
};

/* What happened, in the pure side's words; the daemon turns each into a message (HKE####). */
enum hk_notice_id {
    HK_NOTE_SESSION_UP = 1, /* arg0 session */
    HK_NOTE_SESSION_DOWN,   /* arg0 enum hk_refusal, 0: connection lost */
    HK_NOTE_REFUSED,        /* arg0 enum hk_refusal, arg1.. detail */
    HK_NOTE_CONTACT_LOST,   /* arg0 monotonic ns of the last contact */
    HK_NOTE_CONTACT_BACK,
    HK_NOTE_RECOVERED, /* journal: arg0 end LSN (CORRUPT: where), arg1 its verdict, arg2 bytes */
    HK_NOTE_JOURNAL_FULL,
    HK_NOTE_JOURNAL_ROOM,
    HK_NOTE_JOURNAL_FAILED,    /* arg0 -errno */
    HK_NOTE_REPLICA_FAILED,    /* arg0 volume, arg1 -errno: not promotable */
    HK_NOTE_SUPER_FAILED,      /* arg0 -errno */
    HK_NOTE_BAD_RECORD,        /* arg0 LSN, arg1 enum hk_record_fault */
    HK_NOTE_EPOCH,             /* arg0 ordinal, arg1 first LSN, arg2 reason */
    HK_NOTE_FREEZE_BEGUN,      /* primary: mark inserted; arg0 LSN, arg1 end; name */
    HK_NOTE_FROZEN,            /* standby: applied == M durably; arg0 end LSN; name */
    HK_NOTE_PIN_YIELDED,       /* standby: the pin is the image; arg0 its LSN, arg1 ns old; name */
    HK_NOTE_FREEZE_ENDED,      /* standby: arg0 enum hk_freeze_end; name */
    HK_NOTE_PROMOTION_STARTED, /* arg0 position, arg1 enum hk_loss_class */
    HK_NOTE_PROMOTED,          /* arg0 position, arg1 enum hk_loss_class, arg2 ns taken */
    HK_NOTE_MODE,              /* standby: arg0 enum hk_mode, arg1 LSN */
    HK_NOTE_PATH_SUSPECT,      /* primary: own copy good; arg0 LSN, arg1 times refused */
    HK_NOTE_IN_DOUBT,          /* standby: a superblock slot is damaged; newer facts may be gone */
    HK_NOTE_DOUBT_OVER,        /* standby: a primary was met that knows better */
    HK_NOTE_ROLE_LOST,         /* primary: arg0 enum hk_refusal, arg1 durable, arg2 produced here */
    HK_NOTE_GAP_NEEDED,        /* primary: all becomes stale; arg0 enum hk_refusal, why */
    HK_NOTE_RESYNC_STARTED,    /* primary: arg0 stale bytes */
    HK_NOTE_RESYNC_PROGRESS,   /* primary: arg0 percent, arg1 bytes left, arg2 ns left, 0 unknown */
    HK_NOTE_RESYNC_INTERRUPTED, /* primary: arg0 bytes left */
    HK_NOTE_RESYNC_ENDED,       /* primary: arg0 bytes compared, arg1 sent, arg2 ns */
    HK_NOTE_RESYNC_MISMATCH,    /* primary: arg0 unequal blocks, arg1 compared, arg2 unreadable */
    HK_NOTE_PINNED,             /* standby: arg0 position, arg1 epoch ordinal */
    HK_NOTE_PIN_FREED,          /* standby: the resync has ended; arg0 bytes given back */
    HK_NOTE_PIN_SPACE,          /* standby: no room, the applier stands; arg0 -errno, arg1 used */
    HK_NOTE_PIN_TIGHT,          /* standby: arg0 bytes are stale, arg1 bytes of room are left */
    HK_NOTE_PIN_ROOM,           /* standby: it goes on; arg0 used */
    HK_NOTE_PIN_BROKEN,         /* standby: the pin can't be read; arg0 position */
    HK_NOTE_ROLLBACK,           /* standby: a promotion goes back; arg0 position, arg1 bytes */
    HK_NOTE_ROLLED_BACK,        /* arg0 position, arg1 bytes, arg2 ns taken */
    HK_NOTE_SPOOL_RECOVERED,    /* primary: arg0 first, arg1 end, arg2 bytes lost beyond it */
    HK_NOTE_SPOOL_FAILED,       /* primary: arg0 -errno, arg1 1: what is in it can still be read */
    HK_NOTE_SPOOLING,           /* primary: arg0 bytes the standby lacks, arg1 used, arg2 total */
    HK_NOTE_SPOOLING_OVER,      /* … the ring alone is enough again */
    HK_NOTE_SPOOL_FULL,         /* primary: arg0 used, arg1 total */
    HK_NOTE_RESIZED,            /* arg0 volume, arg1 bytes */
    HK_NOTE_SPOOL_DAMAGED,      /* primary: arg0 LSN of a record that can't be read back */
    HK_NOTICES
};

/* How FREEZE is done: arg[3] of its VERB_DONE. */
enum hk_freeze_saw { HK_FREEZE_SAW_DURABLE = 1, HK_FREEZE_SAW_FROZEN, HK_FREEZE_SAW_PIN };

enum hk_freeze_end {
    HK_FREEZE_RELEASED = 1, /* the operator has what he wanted */
    HK_FREEZE_JOURNAL_FULL, /* the journal passed 80 % */
    HK_FREEZE_RTO_BOUND,    /* durable − applied hit its bound */
    HK_FREEZE_FAILOVER,
    HK_FREEZE_IN_DOUBT, /* a damaged superblock slot may have said that it had ended */
};

struct hk_action {
    enum hk_action_type type;
    union {
        struct {
            struct hk_frame header; /* complete; DATA bodies are gathered from the source */
            /* ACK and PING: the body is here */
            uint8_t body[sizeof(struct hk_ack) + HK_ACK_RANGES_MAX * sizeof(struct hk_pn_range)];
        } send;
        struct hk_ctl control;
        struct {
            struct hk_lsn released, acked, durable;
            uint64_t contact_ns;
            uint32_t standby_flags;
            bool spool_room;                      /* the spool takes what the ring can't hold */
            struct hk_lsn spool_first, spool_end; /* durable in it; both 0: nothing */
        } report;
        struct {
            uint64_t request;
            uint8_t record_type;
            struct hk_mark mark;
        } insert;
        struct hk_uuid peer_replica_id;
        struct hk_lsn check_lsn;
        struct hk_lsn parent_end; /* RETURN */
        struct {
            uint32_t volume;
            uint64_t offset;
        } stale_ask;
        struct {
            uint32_t volume;
            uint64_t bytes;
        } resize;
        struct {
            struct hk_hash_ask ask;
            uint8_t key[HK_COMPARE_KEY_BYTES];
        } hash;
        struct {
            uint64_t request;
            uint32_t volume;
            uint64_t offset;
            uint32_t bytes;
        } block;
        struct {
            uint64_t request;
            uint32_t volume;
            uint64_t offset, event;
            struct hk_lsn end;
        } heal;
        struct {
            enum hk_notice_id id;
            uint64_t arg[4];
            char name[HK_NAME_BYTES];
        } notify;
        struct {
            uint64_t op_id;
            int error;       /* 0 or -errno */
            uint32_t reason; /* enum hk_refusal or hk_freeze_end, 0 if none */
            uint64_t arg[4]; /* FREEZE: mark lsn, end, capture time; FAILOVER: position,
                                loss class, ns taken, t0 realtime */
        } verb_done;
        struct {
            int error;
            enum hk_notice_id why;
        } fatal;
    };
};

struct hk_group;

/*
 * Primary: the log bytes of a SEND, from wherever they are held. As hk_source.gather; the pieces
 * are valid until the next event.
 */
int hk_group_gather(struct hk_group *g, struct hk_lsn lsn, uint32_t bytes, struct hk_iovec *iov,
                    int max);

size_t hk_group_bytes(const struct hk_group_cfg *cfg); /* arena bytes needed, struct included */

/*
 * Carves everything out of the arena. A standby starts its recovery by submitting disk reads; verbs
 * and sessions are refused (NOT_READY) until it is through. -EINVAL, -ENOMEM.
 */
int hk_group_init(const struct hk_group_cfg *cfg, struct hk_arena *arena, const struct hk_now *now,
                  struct hk_group **ret_group);
void hk_group_event(struct hk_group *g, const struct hk_event *e, const struct hk_now *now);
/* The next thing to do; false when there is nothing. can_send: the link has room for a frame now.
 */
bool hk_group_next(struct hk_group *g, const struct hk_now *now, bool can_send,
                   struct hk_action *ret);
uint64_t hk_group_deadline_ns(const struct hk_group *g); /* monotonic; UINT64_MAX: none */

enum hk_session_state { HK_SESSION_DOWN = 0, HK_SESSION_GREETING, HK_SESSION_UP };

struct hk_path_status {
    bool up;
    uint64_t srtt_ns, rate_bytes_s;
    uint64_t frames_tx, frames_rx, bytes_tx, bytes_rx, lost, retransmitted;
    uint64_t bad[HK_FRAME_FAULTS]; /* frames refused, by enum hk_frame_fault */
};

/* Everything a screen may say, with what it rests on. Never says less loss than there may be (I18).
 */
struct hk_group_status {
    enum hk_super_role role;
    enum hk_group_state state;
    enum hk_session_state session;
    uint32_t session_id;
    bool ready;   /* standby: recovery is through */
    bool in_sync; /* may "IN SYNC" be said right now */
    enum hk_refusal last_refusal;
    enum hk_refusal role_lost; /* primary: the group lives on without this side; why it knows */
    struct hk_watermarks mark; /* on the standby: produced as last told by the primary */
    struct hk_lsn window, ceiling;
    uint64_t contact_ns;      /* monotonic: newest ack (primary) or frame (standby), 0 never */
    uint64_t contact_real_ns; /* standby: t0, realtime */
    bool contact;             /* within T */
    bool lose_known;          /* lose_* are exact or an upper bound; false: UNKNOWN since t0 */
    uint64_t lose_bytes, lose_ns;
    /* produced − durable, and the age of its oldest record: also in sync, where nothing of it has
     * been acknowledged. On the standby as last told. */
    uint64_t lag_bytes, lag_ns;
    /* Primary: how many records that is; an upper bound where the log is not in the ring any more.
     * lag_records_bound: nothing better is known than how many fit into the bytes. */
    uint64_t lag_records;
    bool lag_records_bound;
    uint64_t apply_lag_bytes;    /* durable − applied: take over now */
    uint64_t apply_rate_bytes_s; /* measured, 0 unknown */
    /* Standby: inside no consistent interval; a promotion goes back to the pin, if there is one. */
    bool inconsistent, pinned, pin_broken;
    struct hk_lsn pin_lsn;
    uint64_t pin_time_ns;    /* realtime when it was made; 0 not known */
    int pin_slot;            /* where the pin's files are; < 0: there is none */
    bool freeze_of_pin;      /* the image that stands is the pin: read through its before-images */
    int pin_stands;          /* the applier stands for want of room: -errno; 0 */
    bool journal_full;       /* nothing more is acknowledged until there is room */
    uint64_t rollback_bytes; /* that a promotion would copy back now; part of take over now */
    uint64_t rollback_done_bytes;
    uint64_t snapshot_used, snapshot_room; /* bytes of before-images; UINT64_MAX: no bound */
    uint64_t bad_ranges; /* that the origin could not read, seen since the daemon started */
    uint64_t journal_used, journal_total; /* used: what can't be recycled */
    uint64_t journal_held;                /* … and what is kept of the past as well */
    uint64_t data_bad_record; /* of them, the next: whole, but not behind the record before */
    uint64_t own_copy_bad, own_copy_good; /* primary: looked at since the standby refused it */
    uint64_t data_bad_chain, data_out_of_window, frames_other_session, control_bad;
    uint32_t path_count;
    struct hk_path_status path[HK_PATHS_MAX];
    struct hk_super super; /* standby: as stored; primary: as capture told */
    enum hk_mode mode;
    enum hk_link_loss on_link_loss;
    uint32_t super_flags_peer;
    bool frozen;
    char freeze_name[HK_NAME_BYTES];
    struct hk_lsn freeze_lsn;
    bool promoted;
    enum hk_loss_class loss_class; /* what failover could state now, or stated */
    struct hk_resync_status resync;
    /* primary: the ladder */
    enum hk_ladder_step ladder;
    enum hk_spool_state spool;
    uint64_t spool_used, spool_total, spool_lsn_bytes; /* lsn_bytes: log that only it holds */
    uint32_t ring_permille;
    enum hk_stall_stage stalled; /* has work, and did not move for T */
};
void hk_group_status(const struct hk_group *g, const struct hk_now *now,
                     struct hk_group_status *ret);

#endif
