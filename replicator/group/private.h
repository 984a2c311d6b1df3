/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a group, shared by the files of this folder and by nobody else. Events change state
 * and queue what people and the other site must hear; everything else is asked for when pulled.
 */
#ifndef HK_GROUP_PRIVATE_H
#define HK_GROUP_PRIVATE_H

#include "replicator/core/contact.h"
#include "replicator/core/ladder.h"
#include "replicator/core/lag.h"
#include "replicator/core/receiver.h"
#include "replicator/core/sender.h"
#include "replicator/core/session.h"
#include "replicator/group/group.h"
#include "replicator/store/apply.h"
#include "replicator/store/journal.h"
#include "replicator/store/snapshot.h"
#include "replicator/store/spool.h"
#include "replicator/store/super_store.h"

enum {
    HK_GROUP_ACTIONS = 160, /* queued at once; the last ones are kept free of notices … */
    HK_GROUP_ACTIONS_RESERVE = 96,
    HK_GROUP_ACTIONS_SAY = 32,      /* … and these of what the other site made us say */
    HK_GROUP_MODES = 16,            /* mode records received whose meaning is not stored yet */
    HK_GROUP_SEEN = 32,             /* reports whose contact the capture side has not echoed yet */
    HK_GROUP_APPLY_STEPS = 2,       /* pieces of apply work at one event; none at a frame */
    HK_GROUP_BATCHES_EAGER = 2,     /* journal batches begun whatever their size … */
    HK_GROUP_BATCH_BYTES = 1 << 19, /* … beyond them only from this size on */
    HK_GROUP_JOURNAL_PERCENT = 80,  /* a freeze ends when the journal is that full */
    /* Questions of this session, and reads still under way for those of the one before. */
    HK_GROUP_HASH_SLOTS = 2 * HK_COMPARE_ASKS_MAX,
};
#define HK_GROUP_PING_NS_MAX        200000000ull
#define HK_GROUP_FREEZE_PATIENCE_NS 60000000000ull
#define HK_GROUP_INSERT_RETRY_NS    20000000ull
#define HK_GROUP_RETURN_RETRY_NS    250000000ull
#define HK_GROUP_STALL_LOOK_NS      250000000ull

/* A freeze asked for at the primary, or relayed by the standby. */
struct hk_freeze_ask {
    enum { HK_ASK_NONE = 0, HK_ASK_INSERT, HK_ASK_INSERTING, HK_ASK_WAITING } stage;
    bool by_peer; /* answered with FREEZE_REPLY, else with VERB_DONE */
    uint64_t op_id, request;
    char name[HK_NAME_BYTES];
    uint64_t lsn, end, time_ns;
    uint64_t begun_ns, retry_ns;
    bool or_pin; /* INSERT: waits here for the end of a resync; INSERTING: the pin is being taken */
    uint64_t wait_ns;
};

/* From a log that was cut off to a new epoch (resync_primary.c). */
struct hk_way_back {
    enum hk_refusal gap; /* why the standby can't go on from where it stands; 0: it can */
    uint64_t gap_lsn;    /* … which is here */
    bool stale_all_due;  /* STALE_ALL is to be said … */
    bool all_stale;      /* … and was answered: durable */
    uint64_t retry_ns;   /* RETURN, not before */
    uint64_t asked_lsn;  /* RETURN was asked with … */
};

/* A volume that grows (resize_primary.c). */
struct hk_primary_grow {
    enum {
        HK_PGROW_NONE = 0,
        HK_PGROW_STANDBY, /* it makes room */
        HK_PGROW_ASK,     /* it has; the capture side is to be asked */
        HK_PGROW_CAPTURE, /* … and was */
    } step;
    uint32_t volume;
    uint64_t op_id, bytes, lease;
};

struct hk_primary {
    bool attached;
    uint64_t lease;
    bool have_super;
    struct hk_super super;   /* as capture told last */
    struct hk_uuid epoch_id; /* … its last epoch */
    uint32_t state;          /* enum hk_group_state, capture's */
    uint64_t produced, released, acked, durable;
    bool source_gone;        /* the ring can't be read until capture is attached again */
    uint64_t ring_end;       /* of what the ring holds, as told */
    uint64_t ring_end_found; /* …, when this life of the capture side was met */
    uint64_t released_found; /* … */
    bool spool_unjudged;     /* what the spool holds was not yet held against that */
    struct hk_spool spool;
    struct hk_lag_index index; /* records below what was released */
    struct hk_ladder ladder;
    uint32_t fill_permille;
    enum hk_spool_state spool_said; /* to people */
    bool spooling_said, spool_full_said;
    bool spool_cut_asked; /* in this session */
    struct hk_stall stall;
    uint64_t stall_look_ns;

    bool control_up;
    bool greeting; /* HELLO is out */
    uint64_t greeting_ns;
    struct hk_hello hello;
    struct hk_welcome peer; /* of the session that stands or stood last */
    struct hk_sender sender;
    uint64_t session_ns;       /* since when, monotonic */
    uint64_t session_produced; /* produced when it began */
    uint64_t session_lease;
    struct hk_uuid session_epoch;
    uint64_t contact_ns; /* newest ack in any session, 0 never */
    bool contact_lost;   /* said so */
    uint64_t closed_ns;  /* control was given up for silence */

    struct {
        uint64_t released, acked, durable, contact_ns;
        uint32_t flags;
        bool spool_room;
        uint64_t spool_end;
    } reported;
    bool report_wanted;
    bool bind_wanted;
    struct hk_uuid bind_id;
    bool check_wanted;  /* the capture side is to look at its copy of … */
    uint64_t check_lsn; /* … this record, the last one found damaged */
    uint64_t own_copy_bad, own_copy_good;
    enum hk_refusal role_lost; /* the other side lives in an epoch that we are not in */
    bool copy_unknown;         /* the copies may differ anywhere; until the next session */
    /* contact that capture has not echoed yet, with the acks it stands for */
    struct {
        uint64_t contact_ns, ack_seen[HK_PATHS_MAX];
    } seen[HK_GROUP_SEEN];
    uint32_t seen_count;
    uint64_t ack_confirmed[HK_PATHS_MAX];
    bool echoes; /* capture tells contact_ns */

    struct hk_freeze_ask freeze;
    struct hk_primary_grow grow;
    uint64_t requests;

    /* resync */
    bool closed;          /* capture gives no LSN in this epoch any more */
    uint64_t stale_bytes; /* as capture told */
    uint64_t cut_lsn;     /* where the own copy is damaged: the log ends there; 0: nowhere */
    struct hk_way_back back;
    bool told_all_stale; /* the next HELLO says so */
    struct hk_resync resync;
    bool resync_said; /* its begin */
    uint32_t resync_tenth;
    uint64_t resync_unequal;

    struct hk_lag_age oldest; /* record that is not durable */
    uint64_t oldest_of;       /* durable when it was looked for */
};

enum hk_stage {
    HK_STAGE_SUPER = 0, /* reading the superblock */
    HK_STAGE_JOURNAL,   /* recovering the journal */
    HK_STAGE_ROLLBACK,  /* a promotion to the pin goes on: the journal is void */
    HK_STAGE_REDO,      /* applying what the journal holds */
    HK_STAGE_READY,
    HK_STAGE_PROMOTED, /* was promoted: takes nothing any more */
};

/* Steps of a promotion; what must be durable before the next stands in promote.c. */
enum hk_promotion {
    HK_PROMOTION_NONE = 0,
    HK_PROMOTION_UNFREEZE,
    HK_PROMOTION_JOURNAL,
    HK_PROMOTION_CATCH_UP,
    HK_PROMOTION_EPOCH,
    HK_PROMOTION_DRAIN,
    HK_PROMOTION_ROLLBACK,
    HK_PROMOTION_ROLLED,
    HK_PROMOTION_PRIMARY_READ,
    HK_PROMOTION_PRIMARY_MAP,
    HK_PROMOTION_PRIMARY_WRITE,
    HK_PROMOTION_FINISH,
    HK_PROMOTION_DONE,
};

/* What the standby does with the barrier that apply stands at. */
enum hk_barrier {
    HK_BARRIER_NONE = 0,
    HK_BARRIER_PINNING,
    HK_BARRIER_GROWING, /* a replica is made long enough */
    HK_BARRIER_STORING,
    HK_BARRIER_FROZEN
};

/* The map that a promotion writes for the capture side (primary_map.c). */
enum { HK_GROUP_MAP_BYTES = 64 << 10 };
struct hk_map_write {
    uint8_t *buffer; /* HK_GROUP_MAP_BYTES; NULL: this site has no map */
    uint32_t page;   /* the next one */
    bool busy, flushed;
    struct hk_diskop op;
};

struct hk_hash_slot {
    bool used, reading, answered;
    uint64_t read_request; /* our own: those of two sessions may be equal */
    struct hk_hash_ask ask;
    struct hk_hashes answer;
};

/* Replicas that grow (resize_standby.c), one at a time. */
struct hk_grow {
    enum {
        HK_GROW_NONE = 0,
        HK_GROW_TRY, /* is there room at all? */
        HK_GROW_PUNCH,
        HK_GROW_ALLOC,
        HK_GROW_FLUSH,
        HK_GROW_STORE,
    } step;
    uint64_t want[HK_VOLUMES_MAX]; /* 0, or what it should have room for */
    uint32_t volume;               /* of the step, and what of it */
    uint64_t from, to, ticket;
    bool busy; /* op is under way */
    struct hk_diskop op;
    int error;  /* of the last try; 0 since it was asked again */
    bool asked; /* the primary waits for the answer */
    uint32_t asked_volume;
    uint64_t asked_bytes;
};

struct hk_standby {
    enum hk_stage stage;
    struct hk_super_store super, primary_md;
    struct hk_journal journal;
    struct hk_apply apply;
    struct hk_receiver receiver;
    struct hk_contact contact;

    /* durable, and what may be said about it */
    uint64_t journal_from; /* end of what was appended */
    uint64_t reported;     /* durable as reported: never past an unstored mode record */
    struct {
        uint64_t lsn, end;
        struct hk_mode_change change;
    } mode[HK_GROUP_MODES]; /* received, not yet stored; oldest first */
    uint32_t mode_count;
    uint64_t mode_ticket;       /* superblock write that stores mode[0]; 0: not asked for */
    uint64_t mode_unsure_until; /* recovered log above applied may hold mode records: till here */
    bool journal_full;
    bool log_in_doubt; /* "torn or corrupt, can't tell", and no primary met since */

    /* apply */
    uint64_t applied_ticket, applied_put; /* superblock write that carries this `applied` */
    uint64_t applied;                     /* durably stored */
    enum hk_barrier barrier;
    uint64_t barrier_ticket;
    bool apply_more;          /* work is left for the next call */
    unsigned apply_budget;    /* pieces of work that this event may still do */
    uint64_t apply_looked_to; /* durable when it was last looked for work */
    bool replica_failed;
    struct hk_lag_rate apply_rate;
    uint64_t turn_lsn; /* end of the newest gap, resync-begin or -end that is here */
    uint8_t turn_type;

    /* pin */
    struct hk_snapshots snapshots;
    struct hk_snapshot_ask pin_ask; /* of the barrier that waits for it */
    bool pin_making;
    bool pin_broken;  /* PINNED, and what it should be is not there */
    bool pin_release; /* some snapshot may be of no use any more */
    int pin_error;    /* why there is none yet; said */
    int pin_stuck;    /* why no before-image can be stored; said */
    uint64_t pin_retry_ns;
    bool pin_given_up; /* by a promotion that needs none */
    uint64_t pin_late; /* HK_BUG(pin_after_first_block) */

    /* freeze */
    bool freeze_ending; /* FROZEN is being cleared; then the applier goes on */
    enum hk_freeze_end freeze_end_why;
    uint64_t freeze_end_ticket, freeze_end_op;
    char freeze_end_name[HK_NAME_BYTES];
    struct hk_freeze_ask freeze; /* asked for here, relayed to the primary */
    uint64_t freeze_pin_ticket;  /* the pin is the image, in the superblock */

    /* session */
    bool control_up;
    uint32_t session; /* 0: none */
    struct hk_uuid session_host;
    uint64_t session_lease;
    uint64_t gap_lease; /* whom this side told last that the log can't go on from here */
    uint64_t bad_lsn;   /* the record refused last … */
    uint32_t bad_count; /* … so many times on end */
    uint64_t heard_ns;  /* newest frame of any session, monotonic; 0 never */
    bool contact_lost;
    bool hello_pending;   /* accepted; the superblock or the journal is not ready yet */
    bool refusal_pending; /* refused, and what this side found out about itself is not stored yet */
    uint64_t hello_ticket;
    bool adopt_due; /* the primary's history is to be taken over, once nothing is in the way */
    struct hk_hello hello;
    struct hk_session_verdict verdict;
    struct hk_history history_before;
    uint64_t told_ceiling, told_produced;
    uint32_t told_state; /* enum hk_group_state of the primary */
    uint64_t
        told_oldest_age_ns; /* age of its oldest record that was not durable, when it said so */
    uint64_t full_compare_ticket;

    struct hk_grow grow;

    /* resync */
    struct hk_hash_slot hash[HK_GROUP_HASH_SLOTS];
    uint64_t hash_requests;
    uint8_t compare_key[HK_COMPARE_KEY_BYTES];

    /* t0 (SPEC.md §9) */
    uint64_t proof_lsn;        /* durable must reach it before t0 moves; UINT64_MAX: not now */
    struct hk_contact_time t0; /* mono 0: of an earlier life, or none */
    uint64_t t0_stored_ns;     /* monotonic: when it was last put */

    /* promotion */
    enum hk_promotion promotion;
    uint64_t promotion_ticket, promotion_ns;
    bool promotion_resumed; /* goes on after a restart */
    bool going_back;        /* to rollback_lsn, which is not the end of the log */
    bool rollback_begun;
    uint64_t rollback_lsn, rollback_ns;
    uint32_t rollback_ordinal;
    struct hk_map_write map_write;
    struct hk_verb failover; /* op_id 0: nobody waits for the answer */
    uint64_t stop_op;
    bool stopping;
    uint64_t stop_ticket;
};

struct hk_group {
    struct hk_group_cfg cfg;
    struct hk_now now;
    uint64_t random;
    struct hk_action *action; /* ring of HK_GROUP_ACTIONS */
    uint32_t action_head, action_count;
    uint64_t notices_dropped;
    struct hk_action spill; /* where a control message goes for which there is no room */
    bool failed;            /* FATAL was said: nothing more is done */
    bool no_room; /* the link takes no frame now: what is due waits for it, not for time */
    enum hk_refusal last_refusal;
    uint64_t other_session, control_bad;
    uint64_t bad[HK_PATHS_MAX][HK_FRAME_FAULTS];
    bool path_up[HK_PATHS_MAX];
    struct hk_primary *primary; /* one of the two */
    struct hk_standby *standby;
};

/* group.c */
struct hk_action *hk_group_queue(struct hk_group *g, enum hk_action_type type);
struct hk_ctl *hk_group_say(struct hk_group *g, enum hk_ctl_type type);
void hk_group_notify(struct hk_group *g, enum hk_notice_id id, uint64_t a0, uint64_t a1,
                     uint64_t a2, const char *name);
void hk_group_verb_done(struct hk_group *g, uint64_t op_id, int error, uint32_t reason,
                        const uint64_t arg[4]);
void hk_group_fatal(struct hk_group *g, enum hk_notice_id why, int error);
void hk_group_refuse(struct hk_group *g, enum hk_refusal why, const uint64_t detail[2]);
uint64_t hk_group_random(struct hk_group *g);
uint64_t hk_group_ping_interval_ns(const struct hk_group_cfg *cfg);

/* primary.c */
size_t hk_primary_memory(const struct hk_group_cfg *cfg);
int hk_primary_init(struct hk_group *g, struct hk_arena *arena);
void hk_primary_event(struct hk_group *g, const struct hk_event *e);
bool hk_primary_next(struct hk_group *g, bool can_send, struct hk_action *ret);
uint64_t hk_primary_deadline_ns(const struct hk_group *g);
bool hk_primary_contact(const struct hk_group *g, const struct hk_now *now);
void hk_primary_greet(struct hk_group *g);
/* spool_primary.c */
size_t hk_primary_spool_memory(const struct hk_group_cfg *cfg);
int hk_primary_spool_init(struct hk_group *g, struct hk_arena *arena);
uint64_t hk_primary_sendable_from(const struct hk_primary *p);
uint64_t hk_primary_spool_tail(const struct hk_primary *p);
uint64_t hk_primary_time_at(const struct hk_group *g, uint64_t lsn);
bool hk_primary_spool_room(const struct hk_primary *p);
uint64_t hk_primary_spool_kept(const struct hk_primary *p);
uint64_t hk_primary_spool_release(const struct hk_primary *p);
/* The history is known. False: what can be sent is not, before recovery has ended. */
bool hk_primary_spool_started(struct hk_group *g);
void hk_primary_spool_step(struct hk_group *g);
void hk_primary_stall_step(struct hk_group *g);
/* resync_primary.c */
void hk_primary_gap(struct hk_group *g, enum hk_refusal why, uint64_t standby_lsn);
void hk_primary_new_epoch(struct hk_group *g);
void hk_primary_resync_stop(struct hk_group *g, bool capture_gone);
void hk_primary_resync_step(struct hk_group *g);
bool hk_primary_resync_next(struct hk_group *g, struct hk_action *ret);
void hk_primary_resync_event(struct hk_group *g, const struct hk_event *e);
void hk_primary_resync_verb(struct hk_group *g, const struct hk_verb *v);
void hk_primary_hashes(struct hk_group *g, const struct hk_hashes *h);
uint64_t hk_primary_resync_deadline_ns(const struct hk_group *g);
/* resize_primary.c */
void hk_primary_sizes(const struct hk_group *g, uint64_t ret_bytes[HK_VOLUMES_MAX]);
void hk_primary_resize_verb(struct hk_group *g, const struct hk_verb *v);
void hk_primary_resized(struct hk_group *g, const struct hk_ctl *c);
void hk_primary_resize_cut(struct hk_group *g);
bool hk_primary_resize_next(struct hk_group *g, struct hk_action *ret);
void hk_primary_resize_refused(struct hk_group *g, int error);
void hk_primary_resize_look(struct hk_group *g);
/* primary.c */
void hk_primary_turn_away(struct hk_group *g, enum hk_refusal why, const uint64_t detail[2]);
/* copy.c: may a session begin here, as far as the primary's own copy of the log goes? */
bool hk_copy_sendable(struct hk_group *g, const struct hk_welcome *w);
/* freeze.c: the primary's share */
void hk_freeze_ask(struct hk_group *g, uint64_t op_id, const char *name, bool by_peer);
void hk_freeze_inserted(struct hk_group *g, uint64_t request, int error, uint64_t lsn,
                        uint64_t end);
void hk_freeze_step(struct hk_group *g);
bool hk_freeze_next(struct hk_group *g, struct hk_action *ret);
uint64_t hk_freeze_deadline_ns(const struct hk_group *g);

/* standby.c */
size_t hk_standby_memory(const struct hk_group_cfg *cfg);
int hk_standby_init(struct hk_group *g, struct hk_arena *arena);
void hk_standby_event(struct hk_group *g, const struct hk_event *e);
bool hk_standby_next(struct hk_group *g, bool can_send, struct hk_action *ret);
uint64_t hk_standby_deadline_ns(const struct hk_group *g);
void hk_standby_pump(struct hk_group *g);
struct hk_super *hk_standby_super(const struct hk_group *g); /* to change, then put */
uint64_t hk_standby_put(struct hk_group *g);                 /* with t0 and ceiling; a ticket */
bool hk_standby_stored(const struct hk_group *g, uint64_t ticket);
bool hk_standby_frozen(const struct hk_group *g);
uint64_t hk_standby_lag_bytes(const struct hk_group *g);
/* standby_log.c: window → journal → durable */
void hk_standby_received(struct hk_group *g);
void hk_standby_log_step(struct hk_group *g);
void hk_standby_mode_seen(struct hk_group *g, uint64_t end, const struct hk_mode_change *m);
/* standby_apply.c */
void hk_standby_apply_step(struct hk_group *g);
/* Log is missing up to `lsn`, and a compare of everything makes it good: put with the new history.
 */
void hk_standby_apply_rebase(struct hk_group *g, uint64_t lsn);
/* Is all that is durable here in the replicas? */
bool hk_standby_drained(const struct hk_group *g);
void hk_standby_close_interval(struct hk_super *super, uint64_t to);
void hk_standby_open_interval(struct hk_super *super, uint64_t from, uint32_t ordinal);
/* pin.c */
struct hk_snapshots_cfg hk_pin_snapshots_cfg(const struct hk_group_cfg *cfg);
void hk_pin_start(struct hk_group *g);
bool hk_pin_started(struct hk_group *g);
bool hk_pin_ever_consistent(const struct hk_super *super);
bool hk_pin_wanted(const struct hk_group *g, const struct hk_record *r, const void *payload);
void hk_pin_begin(struct hk_group *g, const struct hk_record *r);
void hk_pin_failed(struct hk_group *g, int error);
void hk_pin_take(struct hk_group *g);
void hk_pin_resync_begins(struct hk_group *g, const struct hk_record *r);
void hk_pin_resync_ends(struct hk_group *g, const struct hk_record *r);
void hk_pin_preflight(struct hk_group *g, const void *payload);
void hk_pin_let_go(struct hk_group *g);
bool hk_pin_step(struct hk_group *g);
bool hk_pin_give_up(struct hk_group *g);
bool hk_pin_stands(const struct hk_group *g);
uint64_t hk_pin_deadline_ns(const struct hk_group *g);
/* standby_session.c */
void hk_standby_frame(struct hk_group *g, const struct hk_frame *f, const uint8_t *body);
void hk_standby_control(struct hk_group *g, const struct hk_ctl *c);
void hk_standby_session_step(struct hk_group *g);
void hk_standby_end_session(struct hk_group *g, enum hk_refusal why);
bool hk_standby_epoch_pending(const struct hk_group *g);
bool hk_standby_begin_epoch(struct hk_group *g);
bool hk_standby_next_ack(struct hk_group *g, struct hk_action *ret);
bool hk_standby_alive(const struct hk_group *g, uint64_t mono_ns);
/* resize_standby.c */
uint64_t hk_grow_max(const struct hk_group_cfg *cfg, uint32_t volume);
uint64_t hk_grow_room(const struct hk_group *g, uint32_t volume);
bool hk_grow_super_ok(const struct hk_group *g, const struct hk_super *super);
void hk_grow_bounds(struct hk_group *g);
bool hk_grow_has(const struct hk_group *g, const uint64_t *bytes);
int hk_grow_ask(struct hk_group *g, const uint64_t *bytes);
void hk_grow_disk_done(struct hk_group *g, struct hk_diskop *op);
void hk_grow_control(struct hk_group *g, const struct hk_ctl *c);
void hk_grow_step(struct hk_group *g);
int hk_grow_barrier(struct hk_group *g, const void *payload);
void hk_grow_take(struct hk_group *g, const void *payload);
void hk_grow_forget_pin(struct hk_super *super);
void hk_grow_back_to_pin(struct hk_super *super);
/* resync_standby.c */
int hk_standby_hash_ask(struct hk_group *g, const struct hk_hash_ask *a); /* -EINVAL */
void hk_standby_hash_drop(struct hk_standby *s);
void hk_standby_hashed(struct hk_group *g, const struct hk_hashes *h);
bool hk_standby_hash_next(struct hk_group *g, struct hk_action *ret);
void hk_standby_new_key(struct hk_group *g);
/* freeze.c: the standby's share */
void hk_freeze_verb(struct hk_group *g, const struct hk_verb *v);
void hk_freeze_end_verb(struct hk_group *g, const struct hk_verb *v);
void hk_freeze_reply(struct hk_group *g, const struct hk_ctl *c);
bool hk_freeze_stands(const struct hk_group *g);
bool hk_freeze_holds(const struct hk_group *g);
bool hk_freeze_of_pin(const struct hk_group *g);
void hk_freeze_say_again(struct hk_group *g);
void hk_freeze_end(struct hk_group *g, enum hk_freeze_end why, uint64_t op_id);
void hk_freeze_standby_step(struct hk_group *g);
void hk_freeze_promoting(struct hk_group *g);
void hk_freeze_reached(struct hk_group *g, uint64_t end, const char *name);
uint64_t hk_freeze_standby_deadline_ns(const struct hk_group *g);
/* promote.c */
void hk_promote_verb(struct hk_group *g, const struct hk_verb *v);
void hk_promote_resume(struct hk_group *g);
void hk_promote_step(struct hk_group *g);
/* primary_map.c */
int hk_primary_map_step(struct hk_group *g, const struct hk_super *md);
void hk_primary_map_done(struct hk_group *g, const struct hk_diskop *op);

/* rollback.c */
bool hk_rollback_must_look(const struct hk_group *g);
int hk_rollback_decide(struct hk_group *g);
void hk_rollback_fork(struct hk_group *g);
int hk_rollback_step(struct hk_group *g);
void hk_rollback_resume(struct hk_group *g);
enum hk_loss_class hk_promote_class(const struct hk_group *g, const struct hk_verb *v);
/* status.c */
bool hk_status_standby_in_sync(const struct hk_group *g, const struct hk_now *now);

#endif
