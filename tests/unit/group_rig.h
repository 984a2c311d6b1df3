/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two groups in one thread: a primary over a log made by hand (no capture core: its side of the
 * events is played by the test), a standby over disks in memory, a link that may lose frames, one
 * control connection. Time moves only when nothing else can happen.
 */
#ifndef HK_TESTS_GROUP_RIG_H
#define HK_TESTS_GROUP_RIG_H

#include "replicator/group/group.h"
#include "tests/unit/logmaker.h"
#include "tests/unit/memdisk.h"

#define RIG_MS 1000000ull
#define RIG_T  (1000 * RIG_MS) /* contact timeout */

enum {
    RIG_VOLUMES = 2,
    RIG_VOLUME_BYTES = 1 << 20,
    RIG_SEGMENTS = 6,
    RIG_SEGMENT_BYTES = 4 << 20,
    RIG_WINDOW_BYTES = 8 << 20,
    RIG_SPOOL_SEGMENTS = 5,
    RIG_SPOOL_WINDOW_BYTES = 2 * HK_SPOOL_WINDOW_BYTES,
    RIG_FRAMES = 8192,
    RIG_CONTROLS = 32,
    RIG_SNAPSHOTS = 2,
    RIG_NOTES = 512,
};

struct rig_frame {
    uint64_t at;
    struct hk_frame header;
    uint8_t body[HK_FRAME_BODY_MAX];
};

struct rig_queue { /* of frames, by arrival */
    struct rig_frame *frame;
    uint32_t head, count;
};

struct rig_controls {
    struct hk_ctl m[RIG_CONTROLS];
    uint32_t count;
};

struct rig_note {
    bool at_standby;
    enum hk_notice_id id;
    uint64_t arg[4];
    char name[HK_NAME_BYTES];
};

struct rig {
    struct hk_now now;
    uint64_t rnd, seed;
    struct logmaker log;
    struct memdisk disk;
    /* The primary's spool, and a ring that holds ring_bytes from what was released on. */
    bool spool, spool_stuck; /* stuck: nothing of its disk completes */
    struct memdisk spool_disk;
    uint8_t *spool_window;
    uint64_t ring_bytes, reported_released;
    bool ring_lost;    /* with all that was in it: the capture side gives no LSN any more */
    uint64_t returned; /* RETURN, the last one; 0: none */
    uint8_t *window;
    void *memory[2];
    struct hk_group *p, *s; /* NULL: down */
    struct hk_source source;
    struct hk_super super; /* of the primary */
    uint64_t lease, capture_contact, produced;
    uint32_t capture_state;
    bool takes_reports;     /* the capture side takes the contact in a report … */
    uint64_t taken_contact; /* … and its page says so */
    struct rig_queue to_standby, to_primary;
    struct rig_controls control[2]; /* to the standby, to the primary */
    bool control_up, control_off;   /* off: no connection can be made */
    unsigned loss;                  /* percent */
    bool cut;
    bool disk_stuck;          /* nothing completes */
    uint64_t grows_bytes;     /* volume 0 is configured that much smaller than it may become */
    uint32_t region_shift;    /* of the map that a promotion writes; 0: none */
    unsigned disk_steps_left; /* so many completions more, then it is stuck; 0: no limit */
    uint32_t fail_file;       /* ops on this file fail, 0: none */
    uint64_t apply_lag_bytes_max;
    uint64_t snapshot_bytes; /* of before-images; 0: no bound */
    struct rig_note note[RIG_NOTES];
    uint32_t notes;
    /* what came of verbs and to the capture side, last ones */
    bool done;
    struct hk_action verb_done;
    uint64_t reported_durable, reported_acked, reported_contact;
    uint32_t reported_flags;
    struct hk_uuid bound;
    uint64_t flip_lsn;       /* this byte of the log changes on its way, each time; 0: none */
    uint64_t checked_lsn;    /* CHECK_COPY, the last one; 0: none */
    bool insert_now;         /* INSERT is answered at once */
    struct hk_action insert; /* the last one asked for */
    int fatal;               /* error of the standby's FATAL, 0: none */
    uint64_t acks, out_of_order;
};

struct rig *rig_new(uint64_t seed);
void rig_free(struct rig *r);
/* A fresh standby's superblock, and a primary's that knows nobody yet. */
void rig_format(struct rig *r);
void rig_start_primary(struct rig *r);
void rig_start_standby(struct rig *r);
void rig_kill_primary(struct rig *r);
void rig_kill_standby(struct rig *r, bool power);

/* The log goes on: its end becomes known as produced. */
void rig_produced(struct rig *r);
void rig_capture(struct rig *r, uint32_t state); /* a CAPTURE event with what is known now */
void rig_write(struct rig *r, unsigned count);   /* random records */

/* Everything that can happen without time passing, and then time, for so long. */
void rig_settle(struct rig *r);
void rig_run(struct rig *r, uint64_t ns);
bool rig_until(struct rig *r, bool (*f)(struct rig *), uint64_t ns);

void rig_verb(struct rig *r, bool at_standby, const struct hk_verb *v);
const struct rig_note *rig_find_note(const struct rig *r, bool at_standby, enum hk_notice_id id);
void rig_forget_notes(struct rig *r);
void rig_status(struct rig *r, bool at_standby, struct hk_group_status *ret);
/* The replica must be the log's prefix up to here. durable: as a power cut would leave it. */
void rig_check_replica(struct rig *r, uint64_t lsn, bool durable);
void rig_durable_super(struct rig *r, uint32_t file, struct hk_super *ret);

#endif
