/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deterministic simulator: a primary site (capture process, replicator, origin disks) and a
 * standby site (replicator, journal, replica disks) in one thread under a virtual clock. proto,
 * capture, core, store and group are the objects the daemon links; only io, client and the kernel
 * are replaced. One uint64_t seed decides everything; the same seed gives the same trace hash.
 *
 * A run: draw the options (a "swarm" of faults), run the workload under faults, stop the faults,
 * give the system 30 simulated seconds, then demand that everything has converged. What must hold
 * is judged by ref.c and naive.c, which know the formats' layout but share no code with the
 * product.
 */
#ifndef HK_SIM_H
#define HK_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "driver-glue/capture/capture.h"
#include "replicator/group/group.h"
#include "tests/sim/rng.h"

enum {
    SIM_VOLUMES = 2,
    SIM_SECTORS_MAX = 128, /* per volume, 512 bytes each */
    SIM_VALUES = 4,        /* distinct contents of a sector; value 0 is all zeros */
    SIM_SECTOR = 512,
    SIM_CLIENTS_MAX = 8,
    SIM_OP_BYTES_MAX = 32 << 10,
    SIM_SEGMENTS_MAX = 16,
    SIM_TRACE_KEEP = 400,
    SIM_FRAMES_KEPT = 64,  /* old frames an attacker (or a slow switch) may send again */
    SIM_SESSION_KEPT = 96, /* frames of one session, to be sent again as a whole */
    SIM_WALL_STEPS = 16,
    SIM_LATENT_MAX = 8,
    SIM_BLOCKS_MAX = 16, /* block records asked for and not answered */
    SIM_SNAPSHOTS_MAX = 3,
};

#define NS_US 1000ull
#define NS_MS 1000000ull
#define NS_S  1000000000ull

/* Everything that can go wrong; each seed draws a subset with rates (opts.c). */
enum sim_fault {
    F_LOSS,
    F_DUP,
    F_REORDER,
    F_CORRUPT,
    F_REPLAY_OLD,
    F_PARTITION_OUT, /* primary → standby only */
    F_PARTITION_BACK,
    F_PARTITION_BOTH,
    F_CONTROL_BREAK,
    F_TRUNCATE,
    F_CLOG,           /* a direction stands still, then delivers everything */
    F_MTU,            /* frames above the new size vanish; sometimes the site is told */
    F_REPLAY_SESSION, /* every frame kept of the session before this one, at once */
    F_RATE_COLLAPSE,
    F_KILL_REP,
    F_KILL_CAP,
    F_KILL_SBY,
    F_POWER_PRIMARY,
    F_POWER_SBY,
    F_NESTED,       /* a kill soon after a restart: crash during recovery */
    F_MID_ACTION,   /* the kill strikes between two actions of one event */
    F_TORN_BEGIN,   /* capture dies inside begin, before head is stored */
    F_TORN_PUBLISH, /* capture dies inside publish, before lsn is stored */
    F_PAUSE_REP,
    F_SUPERSEDED, /* a paused replicator is replaced, and wakes up later */
    F_STALE_WORD, /* … and what it says then is refused */
    F_PAUSE_CAP,
    F_PAUSE_SBY,
    F_DISK_SLOW,
    F_LOST_SECTORS, /* unflushed sectors that vanished at a power cut */
    F_TORN_WRITE,   /* a write in flight at a crash of which a part arrived */
    F_EIO_JOURNAL,
    F_EIO_REPLICA,
    F_EIO_SUPER,
    F_EIO_MD,
    F_EIO_ORIGIN,
    F_CLOCK_STEP,
    F_CLOCK_DRIFT,  /* drawn for the whole run */
    F_CLOCK_FREEZE, /* stands still, then jumps, or goes on from where it stood */
    F_CLEAN_STOP,
    F_RMW,             /* an application writes where it has read, and what depends on it */
    F_PROMOTED_WRITES, /* the application goes on at the promoted side */
    F_KILL_PROMOTED,
    F_OLD_RETURNS, /* the primary that was lost is switched on again */
    F_FREEZE,
    F_FREEZE_END,
    F_VERB_TWICE, /* the same verb again at once: freeze, its end, failover */
    F_RESTORED,   /* a whole frozen image was read piece by piece */
    F_STOP_VERB,  /* orderly end of a daemon */
    F_FAILOVER,
    F_MEM_FRAME,  /* a bit of log bytes flips before they are sealed */
    F_MEM_RELINK, /* … a whole record says that another one stands before it */
    F_EIO_STICKY, /* errors that stay until the faults stop */
    F_ENOSPC,
    F_JOURNAL_FULL, /* no segment was free: acks stop until there is room */
    F_SHORT_WRITE,
    F_SHORT_READ,
    F_LATENT, /* a sector that can't be read until it is written again */
    F_ROT_JOURNAL,
    F_ROT_SUPER,
    F_ROT_MD,
    F_ROT_REPLICA,
    F_ROT_ORIGIN,
    F_MISDIRECTED,
    F_LYING_FLUSH, /* said durable, and gone at a power cut */
    F_SLOT_ONE,    /* a superblock slot damaged while the node was down */
    F_SLOT_BOTH,
    F_REORDERED,        /* at a power cut a newer write survived and an older one vanished */
    F_TORN_4096,        /* like F_TORN_WRITE, in pages */
    F_ROLLBACK_SBY,     /* a node's disks are as they were some time ago */
    F_ROLLBACK_PRIMARY, /* metadata and origins */
    F_ROLLBACK_MD,
    F_ROLLBACK_ORIGIN,
    F_PIN_FULL, /* no room for a before-image: the applier stands */
    F_PINNED,
    F_PIN_IS_IMAGE,
    F_BACK_TO_PIN, /* a promotion during a resync */
    F_BEHIND,      /* an epoch by gap began */
    F_EIO_SPOOL,
    F_SHELTERED, /* a region rests on the spool; no fault */
    F_SPOOLED,   /* log was released because it is in the spool; no fault */
    F_RESIZE,    /* a volume has grown; no fault */
    F_PIN_NOSPC, /* the snapshots' file system is full for a while */
    F_EIO_SNAPSHOT,
    F_SHORT_SNAPSHOT,
    F_SHORT_SPOOL,
    F_ROT_SPOOL,
    F_KILL_BOTH, /* both sites at once, in a resync */
    F_INITIAL,   /* a run that began with unequal copies has become consistent */
    F_MEM_RING,  /* a bit of a payload flips in the ring: every copy that is sent is bad */
    F_FAULTS
};
extern const char *const sim_fault_name[F_FAULTS];

struct sim_opts {
    enum hk_mode mode;
    enum hk_link_loss policy;
    enum hk_overflow overflow;
    uint64_t contact_ns, pace_ns, run_ns;
    uint32_t clients, think_us, values, zero_pct, read_pct, flush_pct, big_pct, align_pct;
    uint32_t sectors;      /* per volume */
    uint32_t promote_pct;  /* a failover when so much of a resync is through; 0: not by that */
    uint32_t room_sectors; /* it may grow to so many; 0: not at all */
    uint32_t region_shift, hot_max; /* of the dirty map; 0: there is none */
    uint32_t snapshots;             /* slots of the snapshot store */
    uint64_t snapshot_bytes;        /* room for before-images */
    uint32_t ring_slots;
    uint64_t ring_payload, ceiling_step;
    uint64_t segment_bytes, apply_bytes, apply_lag_bytes, retain_bytes, window_bytes, rate_max;
    uint32_t segment_count, spool_segments, body_max, paths;
    bool real_bytes; /* frames go through encode, seal, open, decode */
    uint64_t delay_ns, jitter_ns, byte_ps, ipc_ns;
    uint64_t disk_ns[2]; /* primary's, standby's */
    uint64_t md_ns;      /* the primary's metadata */
    bool tear4k, damage; /* damage: some fault makes a disk hold other bytes than it promised */
    uint32_t short_pct;  /* of the errors: transfers cut short */
    uint32_t sticky_pct; /* of the errors: from now on always */
    uint32_t
        damage_classes;   /* bit per enum sim_class: what rot, latent errors, lies … may strike */
    bool flush_eio_dooms; /* after a failed flush the data is gone although it still reads well */
    uint32_t ppm[F_FAULTS];     /* chance at each occasion */
    uint64_t mean_ns[F_FAULTS]; /* mean interval of timed faults; 0: never */
    bool primary_returns;       /* after a power loss */
    bool speedy;                /* clients do not think */
    uint32_t rmw_pct;           /* of the sectors, where reads are followed by such writes */
    bool initial;         /* nothing was ever equal: the initial synchronisation comes first */
    bool deceived;        /* the failover comes after a slow loss and a clock set back */
    int32_t drift_ppm[2]; /* how much faster each site's clocks run */
};

struct sim;
struct sim_proc;
typedef void (*sim_fn)(struct sim *, uint64_t a, void *p);

/* A process: events for an older life are dropped, for a paused one put off. */
struct sim_proc {
    const char *name;
    uint8_t site; /* 0 primary, 1 standby */
    bool up, starting;
    uint32_t life;
    uint64_t paused_until, timer_at;
    uint32_t kill_in; /* dies after that many more actions; 0: not armed */
    uint64_t started_ns;
    struct sim_io *io; /* in flight */
};

/* ---- clock.c: one oscillator a site, a monotonic and a wall clock on it ---- */
struct
    sim_wall { /* the wall clock read true + base while true was in [from, the next one's from) */
    uint64_t from;
    int64_t base;
};
struct sim_clk {
    int32_t ppm; /* how much faster than true time */
    uint64_t mono_base;
    uint64_t stopped_at, stopped_until, lost_ns; /* all clocks of the site stand still */
    bool ever_stood;
    bool keeps_loss;                  /* … and go on from there afterwards */
    uint64_t unfit_until, rash_until; /* of stops before the last one */
    struct sim_wall wall[SIM_WALL_STEPS];
    uint32_t wall_count;
};

/* ---- disk.c ---- */
enum sim_class { C_ORIGIN, C_MD, C_SUPER, C_JOURNAL, C_REPLICA, C_SNAPSHOT, C_SPOOL, C_CLASSES };
struct sim_ver;
struct sim_file {
    enum sim_class kind;
    uint8_t site;
    uint16_t volume;
    uint64_t bytes;
    uint64_t used;      /* no write of this run went beyond; bytes, where others write as well */
    uint8_t *cur, *dur; /* as read now; as a power cut would leave it without luck */
    uint8_t *good;  /* what an honest disk would hold instead of dur; dur itself in most seeds */
    uint32_t *hurt; /* sectors in which dur may differ from good */
    uint32_t hurt_count;
    bool *is_hurt; /* by sector: is it in that list */
    bool *is_read; /* by sector: a process has read the damage there */
    uint32_t latent[SIM_LATENT_MAX], latent_count; /* sectors that can't be read */
    uint32_t dead;                                 /* bit per enum hk_disk_kind: always fails */
    struct sim_ver **head; /* per sector: versions not yet durable, newest first */
    uint32_t *dirty, dirty_count, *dirty_at;
    uint64_t flush_failures;
    uint64_t durable_changes;
};

struct sim_io {
    uint32_t gen;
    bool busy;
    enum hk_disk_kind kind;
    struct sim_file *file;
    struct sim_proc *proc;
    uint64_t offset, bytes, seq;
    struct hk_iovec iov[4];
    uint32_t iov_count;
    int result;
    void (*done)(struct sim *, struct sim_io *);
    void *ctx;
    uint64_t a;
    struct sim_io *next, *prev;
};

#include "tests/sim/ref.h"

/* ---- app.c ---- */
enum sim_op_state { OP_IDLE, OP_ACTIVE };
struct sim_op {
    struct hk_op op;
    struct sim_client *client;
    uint64_t local_ns;                   /* when the origin had it */
    uint64_t mask, issued_ns, floor_end; /* floor: every op completed before had end ≤ this */
    uint8_t v1, v2;
    bool begun, in_origin;
    uint32_t rec;               /* index into ref, UINT32_MAX: none */
    struct sim_op *next, *prev; /* in the capture process's list, while begun */
    uint8_t *data;              /* passing (uncaptured): the caller's bytes */
};
struct sim_client {
    uint32_t index;
    struct sim_op op;
    bool busy, reading;
    uint32_t act_on; /* what was read last: the next write depends on it */
    bool rmw;        /* … and goes to the same place */
    uint64_t flush_step;
    uint8_t read_value, *read_buffer;
    uint32_t read_volume, read_sector, read_count;
    uint32_t read_base[8];
};

/* ---- link.c ---- */
struct sim_frame {
    struct sim_frame *next, *prev;
    bool bad;
    uint8_t path;
    uint32_t len;
    struct hk_frame hdr;
    uint8_t bytes[HK_FRAME_HEADER_BYTES + HK_FRAME_BODY_MAX + HK_FRAME_TAG_BYTES];
};
struct sim_dir {
    uint64_t tx_free_at, down_until, clogged_until, slow_until;
    uint32_t slow_by, mtu; /* mtu: bodies above it vanish; 0: none do */
    uint32_t session, session_count[2];
    struct sim_frame *session_kept[2][SIM_SESSION_KEPT]; /* 0 the present one, 1 the one before */
    struct sim_frame *kept[SIM_FRAMES_KEPT];
    uint32_t kept_at;
};
struct sim_msg {
    struct sim_msg *next;
    uint64_t at;
    uint32_t kind;
    void *body;
};
struct sim_fifo {
    struct sim_msg *first, *last;
    uint64_t last_at, gen;
};
struct sim_conn {
    uint32_t id;
    bool up[2];           /* as each side sees it */
    bool open, by_ghost;  /* by_ghost: it is the superseded replicator that called */
    struct sim_fifo q[2]; /* towards standby (0), towards primary (1) */
};

/* ---- cap.c, rep.c, sby.c ---- */
struct sim_block { /* a block record that the replicator asked for */
    struct sim_op op;
    uint64_t request;
    uint32_t conn;
    bool busy;
};

struct sim_hash { /* a piece of an origin or a replica that is being read */
    struct hk_hash_ask ask;
    uint8_t key[HK_COMPARE_KEY_BYTES];
    uint8_t *buffer;
    bool busy;
};

struct sim_cap {
    struct sim_proc proc;
    struct hk_capture *c;
    uint8_t *ring, *memory, *slots; /* slots: of the metadata, as read */
    uint64_t ring_bytes;
    bool ring_there, serving, redoing, stopping, meta_busy;
    uint64_t clean_seen; /* durable changes of the metadata, + 1, when it was last looked … */
    bool clean_left;     /* … whether a slot of it says clean */
    bool facts_lost;     /* this life found a slot damaged, and no witness that nothing was in it */
    bool ring_was_lost;  /* this life began with a new ring and an unclean super */
    bool uncaptured;     /* some write passed without capture, ever */
    bool wake_pending, sink /* a replicator is attached */, state_dirty;
    uint64_t lease, released, durable_taken; /* highest that were accepted */
    uint64_t lease_before;                   /* given out last, by whichever life, over … */
    struct hk_uuid lease_ring;
    uint32_t conn;     /* whom the lease was given to */
    struct sim_op ops; /* list head of those begun */
    uint32_t in_flight, last_state, stop_flushed;
    int stop_error;                                   /* of their flush before a clean stop */
    uint64_t told_ns, stop_since, redo_lsn, stood_ns; /* stood: paused until then, ever */
    bool flushing;
    int flush_result;
    struct hk_redo redo;
    struct hk_capture_status status;
    struct hk_super *told_super; /* the last one that was told */
    bool cut;                    /* the log ended for another reason than want of room */
    struct hk_super super_read;
    struct sim_block block[SIM_BLOCKS_MAX];
    bool all_stale_asked, stop_flush;
    struct hk_capture_cfg cfg;
    uint8_t *dirty_memory;
    size_t dirty_bytes;
};

struct sim_rep {
    struct sim_proc proc;
    struct hk_group *g;
    struct hk_source source;
    struct hk_disk disk; /* of the spool */
    struct hk_action action;
    uint8_t *memory;
    size_t memory_bytes;
    uint64_t lease;
    bool attached, attaching, want_room, copy_unknown; /* refused: the copies may differ */
    uint32_t asked_life;
    uint64_t read_idx, read_lsn, released, stop_op;
    uint32_t epoch;         /* ordinal that it reads */
    struct sim_hash *hash;  /* HK_COMPARE_ASKS_MAX */
    struct hk_uuid ring_id; /* of the last attachment in this life */
};

/* A replicator that was replaced while it stood still, and does not know it. */
struct sim_ghost {
    struct sim_rep rep;
    uint32_t session; /* of its own link */
    bool awake, runs; /* runs: it stands in the place of s->rep at this moment */
    struct hk_uuid ring_id;
};

struct sim_sby {
    struct sim_proc proc;
    struct hk_group *g;
    struct hk_disk disk;
    struct sim_hash *hash; /* HK_COMPARE_ASKS_MAX */
    struct hk_action action;
    uint8_t *window, *memory;
    size_t memory_bytes;
    bool want_room, fatal;
    bool doomed;     /* a failed flush took data along that still reads well */
    uint32_t deaths; /* by damage: it stays down after some */
    /* claims, kept over restarts: what was said cannot be unsaid */
    uint64_t said_durable, said_applied, said_acked, acks_sent;
    uint64_t hello_lease, session_lease; /* of the last HELLO; of the session that stands */
    bool hello_is_older;                 /* … than that of a session that is alive */
    uint64_t life_acked;                 /* said by this process: in its memory at least */
    bool frozen;
    uint64_t freeze_lsn;
    bool freeze_of_pin; /* the image is the pin: replica and before-images together */
    char freeze_name[HK_NAME_BYTES];
    bool promoting, promoted, not_promotable;
    uint64_t gap_lsn;   /* where it stood when it said that the log can't go on from there */
    uint64_t hole_from; /* 0, or where it stood when it began again behind a hole */
    bool gap_asked;     /* it said that the log can't go on from where it stands */
    bool pin_full;      /* what stands behind in the journal can't be applied */
    bool rot_saved;     /* damage of a replica was read while it was pinned */
    bool rolled;        /* it began to go back to a pin, ever */
    bool rolling;       /* this process writes before-images back; the applier has ended */
    uint64_t promote_lsn, fence_limit, promoted_at;
    uint64_t heard_late;  /* until then the primary may hear what was said long before */
    uint64_t claim_limit; /* latest t0 + T that was shown with "0 if fenced before" */
    uint32_t loss_class, failover_refused;
    uint64_t failover_op, failover_again, stop_op;
    bool failover_wanted;
};

struct sim_lost { /* an acknowledgement that was not durable on the standby */
    uint64_t at, end;
    bool rash; /* clk_rash_until() */
};

struct sim_super_cache {
    uint64_t seen;
    bool valid;
    struct hk_super super;
    bool whole[2]; /* what naive_super_slot() said about raw */
    _Alignas(64) uint8_t raw[2][HK_SUPER_BYTES];
};

struct sim_snap;
struct sim_dmap;
struct sim_grow;
struct sim_trace {
    uint64_t at;
    const char *fmt;
    uint64_t a, b, c;
};

struct sim_stats {
    uint64_t seeds, events, ops, reads, frames, crashes, deep_checks, image_checks, freezes,
        promotions, sim_ns, fault[F_FAULTS], acked, status_checks, converged, behind, healed;
};

struct sim_due;
struct sim_event;

struct sim {
    uint64_t seed, now, trace_hash, events;
    struct sim_opts o;
    struct sim_rng rng, rng_fault, rng_work, rng_link, rng_disk, rng_world;
    bool verbose, faults_on, quiet;
    jmp_buf fail_to;
    char failure[512];
    struct sim_trace trace[SIM_TRACE_KEEP];
    uint64_t trace_at;
    uint32_t heap_count, heap_used;
    struct sim_file origin[SIM_VOLUMES], md;
    struct sim_file spool_dir, spool[SIM_SEGMENTS_MAX];
    uint8_t *spool_window;
    uint64_t pin_nospc_until;
    bool spool_error; /* an operation on the spool failed */
    struct sim_file super, pmd, journal_dir, replica[SIM_VOLUMES], segment[SIM_SEGMENTS_MAX];
    struct sim_file snapshot_dir, snapshot[SIM_SNAPSHOTS_MAX][1 + SIM_VOLUMES];
    uint64_t disk_seq;

    struct hk_uuid group_id, site_id[2], host_id[2], replica_id[2], epoch_id;
    struct sim_clk clk[2];
    uint32_t body_max, path_max[HK_PATHS_MAX]; /* of frames; as the sender was told by now */

    struct sim_cap cap;
    struct sim_rep rep;
    struct sim_ghost ghost;
    struct sim_promoted *promoted;
    struct sim_image *image;
    struct sim_dmap *dmap;
    struct sim_grow *grow;
    struct vol_model *volumes; /* what the primary's disks may return */
    struct vol_read *reads;    /* one a client */
    bool vol_void;             /* the origins were put back to an older state */
    struct sim_sby sby;
    struct sim_client client[SIM_CLIENTS_MAX];
    struct sim_dir dir[2];    /* 0 to the standby, 1 to the primary */
    struct sim_fifo r2c, c2r; /* replicator ↔ capture */
    struct sim_conn conn;
    uint64_t acked_end;      /* largest end of a completed captured op */
    uint64_t sync_acked_end; /* the same, of ops that were durable on the standby by then */
    uint64_t local_done_end; /* the same as acked_end, for the order of later ops */
    struct sim_lost *lost;
    uint32_t lost_count, lost_room;
    uint64_t passing_since_ns, rash_until; /* rash: some of those lost were, until then */
    uint64_t passing_end;          /* … and is there when a consistent position behind it is */
    bool passing_acked;            /* an uncaptured write was acknowledged */
    bool primary_dead;             /* its ring was lost: nothing more will be replicated */
    bool primary_gone;             /* it does not come back */
    uint64_t primary_gone_real_ns; /* as the standby's wall clock showed it then */
    bool origin_suspect;           /* an origin error happened: checks of its content are off */
    bool origin_failed;            /* an origin operation returned an error */
    bool origin_void;              /* what it holds was changed behind everybody's back */
    uint64_t origin_back_lsn;      /* … when the log had come to here, or behind the map's */
    bool origin_unread;            /* … of a read for a block */
    bool origin_ahead;             /* holds writes of a log that its metadata has forgotten */
    bool standby_suspect; /* budget: a fault voided what the standby's disks had promised */
    bool stood_still;     /* a component fail-stopped for good */
    bool st_eio;          /* the standby's disks returned an error */
    bool memory_lied;     /* log bytes were damaged where no tag covers them */
    bool md_error;        /* the primary's metadata did */
    /* budget.c */
    uint32_t damaged[2];  /* bit per enum sim_class: read by a process (0), struck at all (1) */
    uint32_t vanished;    /* bit per enum sim_class: durable data went without a trace */
    bool loss_found;      /* the standby has less than it had said */
    uint64_t ahead_end;   /* up to where its replicas may hold pieces of what it lost */
    bool no_super[2];     /* no valid superblock is left at that site */
    uint64_t freeze_void; /* below: the standby may find a mark again that its replica is beyond */
    bool class_void; /* and cannot know: what it says of loss is off until it meets a primary */
    uint64_t was_durable; /* truly durable there before that */
    uint64_t lost_end;    /* acknowledged as replicated, and lost */
    bool forked;          /* the primary goes on at fork_lsn, below where the log had come to */
    bool over;            /* and rightly so: from here on it is another log than the reference's */
    uint64_t fork_lsn, welcome_acked, sent_end;
    struct sim_snap *snap[2];
    uint64_t rotten_lsn, rotten_end; /* the record whose copy in the ring is damaged; 0: none */
    uint64_t op_ids;
    uint32_t heals, heals_due; /* of the present resync: regions so far, stale at its begin */
    uint8_t *scratch;
    struct sim_super_cache md_cache, sby_cache;
    struct hk_super pmd_super;
    struct hk_group_status status;
    struct hk_hashes hashes;

    /* What is kept from run to run: memory and sums. sim_forget_run() clears all above. */
    struct sim_stats st;
    uint32_t each_percent; /* 0, or promote_pct of this run, whatever is drawn */
    bool strict;           /* memory is looked at closely: sim_pages(), sim_pages_any() */
    struct ref ref;
    struct naive_journal nj;
    struct sim_due *heap;
    struct sim_event *event; /* what the heap's entries stand for; as many */
    uint32_t heap_room;
};

/* sched.c */
void sim_at(struct sim *s, uint64_t at, struct sim_proc *proc, sim_fn fn, uint64_t a, void *p);
bool sim_step(struct sim *s);
uint64_t sim_next_at(const struct sim *s); /* UINT64_MAX: nothing is scheduled */
void sim_forget_run(struct sim *s);
void sim_trace(struct sim *s, const char *fmt, uint64_t a, uint64_t b, uint64_t c);
void sim_trace_print(const struct sim_trace *t);
void sim_fail(struct sim *s, const char *check, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
void *sim_alloc(struct sim *s, size_t bytes);
void sim_free(struct sim *s, void *p);
void sim_free_all(struct sim *s);
/* Zeroed, 4096-aligned, until the run ends. */
uint8_t *sim_pages(struct sim *s, size_t bytes);
/* The same, with contents that nobody may rely on: of older runs; 0xa5 in a strict run. */
uint8_t *sim_pages_any(struct sim *s, size_t bytes);
void sim_pages_forget(uint8_t *p, size_t bytes); /* zeroes again */
/* Only so much of a piece of sim_pages() was written, from its beginning on. */
void sim_pages_touched(const uint8_t *base, size_t bytes);
static inline void sim_struck(struct sim *s, enum sim_fault f)
{
    s->st.fault[f]++;
}
#define SIM_CHECK(s, name, cond, ...)       \
    do {                                    \
        if (__builtin_expect(!(cond), 0))   \
            sim_fail(s, name, __VA_ARGS__); \
    } while (0)

/* opts.c */
void sim_opts_draw(struct sim *s);
void sim_opts_print(const struct sim *s, FILE *out);

/* disk.c */
void sim_disk_setup(struct sim *s);
void sim_io_submit(struct sim *s, struct sim_proc *proc, struct sim_file *f, enum hk_disk_kind kind,
                   uint64_t offset, uint64_t bytes, const struct hk_iovec *iov, uint32_t iov_count,
                   void (*done)(struct sim *, struct sim_io *), void *ctx, uint64_t a);
void sim_io_abandon(struct sim *s, struct sim_proc *proc); /* the process dies */
void sim_power_cut(struct sim *s, unsigned site);
void sim_disk_forget(struct sim *s);
void sim_disk_each(struct sim *s, unsigned site, void (*fn)(struct sim *, struct sim_file *));
enum sim_put { PUT_VOLATILE, PUT_DURABLE, PUT_PROMISED /* called durable, and it is not */ };
enum sim_flush { FLUSH_HONEST, FLUSH_DOOMED /* what was volatile is gone */, FLUSH_LIE };
enum { SIM_ALL_PPM = 1000000 };
void sim_disk_write(struct sim *s, struct sim_io *io, enum sim_put put, uint32_t part_ppm);
void sim_disk_flush(struct sim_file *f, uint64_t seq, enum sim_flush how);
void sim_disk_direct(const struct sim_io *io); /* of a read with one buffer */
/* Every content that the sector may have after a power cut; how many, at most max. */
int sim_disk_may_hold(const struct sim_file *f, uint32_t sector, uint8_t *ret_values, int max);
void sim_disk_fill(struct sim_io *io, uint64_t bytes); /* a read's buffers, so far */

/* damage.c: what a disk does instead of what it was asked, and what it does unasked */
void damage_perform(struct sim *s, struct sim_io *io);
void damage_strike(struct sim *s, enum sim_fault kind);
void damage_power_cut(struct sim *s, unsigned site);
void damage_stops(struct sim *s);
void damage_hurt(struct sim *s, struct sim_file *f, uint32_t sector); /* dur and good part here */
bool damage_at(const struct sim_file *f, uint64_t offset, uint64_t bytes);
bool damage_any(const struct sim_file *f);
void damage_accept(struct sim_file *f, uint64_t offset, uint64_t bytes);
void damage_read(struct sim_file *f, uint64_t offset, uint64_t bytes);
void damage_accept_read(struct sim_file *f);

/* pattern.c */
void pattern_init(void);
const uint8_t *pattern(unsigned vol, unsigned sector, uint8_t value);
int pattern_identify(const uint8_t *bytes, unsigned vol, unsigned sector); /* −1: none of ours */

/* naive.c */
void naive_reset(struct sim *s);
void naive_free(struct sim *s);
void naive_segment_changed(struct sim *s);
void naive_segment_written(struct sim *s, const struct sim_file *f, uint64_t offset,
                           uint64_t bytes);
void naive_truncate(struct sim *s, uint64_t lsn);
void naive_look_again(struct sim *s);
void naive_adopted(struct sim *s, uint64_t first_lsn, enum hk_epoch_reason reason);
bool naive_in_doubt(const uint8_t *slots);
bool naive_super(const struct sim_file *f, bool durable, struct hk_super *ret);
bool naive_super_slot(const uint8_t *slot, unsigned i);
void naive_power_cut_now(struct sim *s, const char *when);
uint64_t naive_xxh64(const void *p, size_t bytes, uint64_t seed);

/* clock.c */
void clk_setup(struct sim *s);
struct hk_now sim_clock(const struct sim *s, unsigned site);
uint64_t clk_wake_at(const struct sim *s, unsigned site, uint64_t mono_ns);
void clk_set_timer(struct sim *s, struct sim_proc *p, uint64_t at, sim_fn fn);
bool clk_timer_is_due(struct sim_proc *p, uint64_t at); /* false: another one took its place */
uint64_t clk_true_time(const struct sim *s, unsigned site, uint64_t real_ns);
bool clk_stands(const struct sim *s, unsigned site);
bool clk_unfit(const struct sim *s, unsigned site);
uint64_t clk_rash_until(const struct sim *s, unsigned site);
bool clk_ever_stood(const struct sim *s, unsigned site);
void clk_reboot(struct sim *s, unsigned site, uint64_t floor);
void clk_step(struct sim *s, unsigned site, int64_t by_ns);
void clk_stop(struct sim *s, unsigned site, uint64_t for_ns, bool keeps_loss);
void clk_heal(struct sim *s);

/* weather.c */
void weather_strike(struct sim *s, enum sim_fault kind);
void weather_heal(struct sim *s);
void weather_keep_session(struct sim *s, unsigned dir, const struct sim_frame *f);
bool weather_fits(struct sim *s, unsigned dir, uint32_t body_len);

/* link.c */
void link_reset(struct sim *s);
bool link_room(const struct sim *s, unsigned dir);
void link_send(struct sim *s, unsigned dir, const struct hk_frame *hdr, const uint8_t *body);
bool link_open(struct sim *s, struct sim_frame *f, struct hk_event *e);
void link_cut(struct sim *s, unsigned dir, uint64_t for_ns);
void link_again(struct sim *s, unsigned dir, const struct sim_frame *f);
void link_forget(struct sim_frame *f);
struct sim_frame *link_copy(const struct sim_frame *from);
void fifo_push(struct sim *s, struct sim_fifo *q, uint64_t delay, struct sim_proc *to, sim_fn fn,
               uint32_t kind, const void *body, size_t bytes);
struct sim_msg *fifo_pop(struct sim_fifo *q, uint64_t gen);
void fifo_clear(struct sim *s, struct sim_fifo *q);
void conn_try(struct sim *s, uint64_t a, void *p);
void conn_to_standby(struct sim *s, uint64_t gen, void *p);
void conn_to_primary(struct sim *s, uint64_t gen, void *p);
void conn_send(struct sim *s, unsigned from_site, const struct hk_ctl *m);
void conn_close(struct sim *s, unsigned by_site);
void conn_break(struct sim *s);
void conn_by_ghost(struct sim *s);
void conn_died(struct sim *s, unsigned site, bool quietly);

/* cap.c */
enum {
    IPC_ATTACH = 1,
    IPC_ATTACHED,
    IPC_REPORT,
    IPC_INSERT,
    IPC_INSERTED,
    IPC_STATE,
    IPC_PEER,
    IPC_CHECK_COPY,
    IPC_CLOSED,
    IPC_RETURN,
    IPC_RETURNED,
    IPC_STALE_ASK,
    IPC_STALE,
    IPC_BLOCK,
    IPC_BLOCKED,
    IPC_HEAL,
    IPC_HEALED,
    IPC_STALE_ALL,
    IPC_ALL_STALE,
    IPC_RESIZE,
    IPC_RESIZED
};
struct ipc_msg {
    uint32_t conn; /* the replicator's life: one connection each */
    uint64_t lease;
    struct hk_lsn released, acked, durable, produced;
    uint64_t contact_ns, request, tail;
    struct hk_lsn tail_lsn, lsn, end;
    int error;
    bool in_sync, by_ghost;
    uint32_t state, standby_flags;
    struct hk_capture_spool spool;
    struct hk_uuid replica_id, ring_id;
    uint8_t record_type;
    struct hk_mark mark;
    bool closed;
    uint16_t volume;
    uint32_t epoch;
    uint64_t offset, bytes, event, stale_bytes;
    const struct hk_super *super; /* with a state: as it was then; stays until the run ends */
};
void cap_setup(struct sim *s);
void cap_step(struct sim *s, struct sim_op *op, enum hk_step step);
void cap_cfg(struct sim *s, struct hk_capture_cfg *c, const uint8_t *slots,
             const struct hk_super *super);
void cap_flush_origins(struct sim *s);
void cap_start(struct sim *s, uint64_t a, void *p);
void cap_kill(struct sim *s);
void cap_submit(struct sim *s, struct sim_op *op);
void cap_pump(struct sim *s);
void cap_clean_stop(struct sim *s);
void cap_ipc(struct sim *s, uint64_t a, void *p);
void cap_power(struct sim *s);
struct hk_ring_producer *cap_producer(struct sim *s);
struct hk_record *cap_slot(struct sim *s, uint64_t index);
struct hk_ring_side *cap_side(struct sim *s, uint64_t index);
uint8_t *cap_payload(struct sim *s, uint64_t pos);

/* app.c */
void app_setup(struct sim *s);
void app_go(struct sim *s, uint64_t index, void *p);
void app_done(struct sim *s, struct sim_op *op, int result);
void app_all_lost(struct sim *s);
void app_forgotten(struct sim *s, uint64_t lsn);
void app_power_lost(struct sim *s);
void app_off_the_list(struct sim *s, struct sim_op *op);
uint8_t op_value(const struct sim_op *op, unsigned sector);
void op_fill(const struct sim_op *op, uint8_t *to);

/* rep.c */
void rep_setup(struct sim *s);
void rep_start(struct sim *s, uint64_t a, void *p);
void rep_kill(struct sim *s);
void rep_gone(struct sim *s, bool quietly);
void rep_wake(struct sim *s, uint64_t a, void *p);
void rep_ipc(struct sim *s, uint64_t gen, void *p);
void rep_frame(struct sim *s, struct sim_frame *f);
void rep_event(struct sim *s, const struct hk_event *e);
void rep_pump(struct sim *s, uint64_t a, void *p);
void rep_take_frame(struct sim *s, struct sim_frame *f);

/* resync.c: what the adaptors do for a resync */
void resync_setup(struct sim *s);
void resync_capture_gone(struct sim *s);
void resync_ask(struct sim *s, uint32_t kind, const struct ipc_msg *m); /* at capture */
void resync_pump(struct sim *s);                                        /* after each call */
void resync_read(struct sim *s, struct sim_op *op);                     /* of the origin */
void resync_block_done(struct sim *s, struct sim_op *op);
uint32_t resync_ask_of(const struct hk_action *a, struct ipc_msg *m);
void resync_answer(struct sim *s, uint32_t kind, const struct ipc_msg *m);
void resync_hashes_gone(struct sim *s, unsigned site);
void resync_hash(struct sim *s, unsigned site, const struct hk_action *a);

/* sby.c */
void sby_setup(struct sim *s);
void sby_start(struct sim *s, uint64_t a, void *p);
void sby_kill(struct sim *s);
void sby_power(struct sim *s);
void sby_frame(struct sim *s, struct sim_frame *f);
void sby_event(struct sim *s, const struct hk_event *e);
void sby_pump(struct sim *s, uint64_t a, void *p);
void sim_group_cfg(struct sim *s, struct hk_group_cfg *c, unsigned site);

/* oper.c */
void oper_setup(struct sim *s);
void oper_stop_faults(struct sim *s);
void oper_failover(struct sim *s);
void oper_pinned(struct sim *s);
void oper_maybe_die(struct sim *s, struct sim_proc *p);
void oper_started(struct sim *s, struct sim_proc *p);

#include "tests/sim/judge.h"

/* bugs.c */
bool sim_bug_on(const char *name); /* false: no such bug in this program */
void sim_bugs_print(FILE *out);

/* run.c */
bool sim_run(struct sim *s, uint64_t seed, bool verbose); /* true: no violation */
void sim_standby_super(struct sim *s, struct hk_super *super);

#endif
