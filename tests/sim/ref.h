/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the log should be (ref.c, epoch.c), and what the standby's disks truly hold of it (naive.c).
 * A part of sim.h, which includes it.
 */
#ifndef HK_SIM_REF_H
#define HK_SIM_REF_H

struct sim;
struct sim_file;

/* ---- ref.c: what the log should be ---- */
enum ref_state { REF_RESERVED = 1, REF_PUBLISHED, REF_VOID };
struct ref_rec {
    uint64_t lsn, end, offset, mask, payload_pos, at, published_at;
    uint32_t length, payload_len;
    uint16_t volume;
    uint8_t type, flags, v1, v2, state;
    bool local_done, acked, control;
    bool dead;            /* given, and no part of the log: its epoch ended before it */
    const uint8_t *bytes; /* BLOCK: what the origin held; else NULL */
    struct hk_record hdr; /* as published */
    uint8_t ctl[512];
};

struct ref_ver { /* one sector's history */
    uint64_t end;
    uint32_t rec;
    uint8_t value;
};

struct ref_sector {
    struct ref_ver *v;
    uint32_t count, room;
    uint32_t base; /* first version a read may still return */
};

enum { REF_EPOCHS_MAX = 512, REF_INTERVALS_MAX = 1024 };
struct ref_epoch { /* as the primary's durable metadata say */
    struct hk_uuid id;
    uint64_t seed, first_lsn, parent_end;
    uint32_t ordinal, reason;
};
struct ref_interval { /* consistent positions [from, to]; to 0: still open */
    uint64_t from, to;
};

struct ref {
    struct ref_rec *rec;
    uint32_t count, room, pub_count; /* records before pub_count are published or void */
    uint64_t slot_base;              /* rec[rec_base] lies in this slot of the present ring */
    uint32_t rec_base;
    uint32_t free_base; /* records of this ring before it are done and released */
    uint64_t first_lsn, next_lsn;
    uint64_t used_end; /* no LSN below it is ever given again */
    uint32_t epoch_count, interval_count;
    bool resync; /* between a resync-begin and its end */
    struct ref_epoch epoch[REF_EPOCHS_MAX];
    struct ref_interval interval[REF_INTERVALS_MAX];
    struct ref_sector sector[SIM_VOLUMES][SIM_SECTORS_MAX];
    uint64_t produced; /* end of the published prefix */
    /* Values (a bit each) that a tail of the journal held which rotted, and where it began. */
    uint8_t rotted[SIM_VOLUMES][SIM_SECTORS_MAX];
    uint64_t rotted_from;
    /* Ends of the bad-range records, and where the log was when a compare read it last. */
    uint64_t bad[SIM_VOLUMES][SIM_SECTORS_MAX], compared[SIM_VOLUMES][SIM_SECTORS_MAX];
};

/* ---- naive.c: what the standby's disks truly hold ---- */
struct naive_batch {
    uint64_t first, end;
    uint32_t seg;
    uint64_t at; /* offset of the batch header */
};
struct naive_journal {
    struct naive_batch *batch;
    uint32_t count, room;
    uint64_t durable; /* end of the contiguous whole batches in durable bytes */
    uint64_t next;    /* where the next one begins: there, or behind the hole to the next epoch */
    uint32_t seg;
    uint64_t at; /* where the next batch header should stand; 0: look for a segment */
};

/* ref.c */
void ref_reset(struct sim *s);
void ref_free(struct sim *s);
void ref_scan(struct sim *s);
void ref_published(struct sim *s, uint32_t rec, const struct hk_record *slot, const void *payload);
void ref_restarted(struct sim *s);
void ref_all_done(struct sim *s);
void ref_new_ring(struct sim *s);
void ref_rewind(struct sim *s, uint64_t lsn); /* what came after it was never so */
void ref_cut(struct sim *s, uint64_t lsn, uint64_t next);
const struct ref_rec *ref_find(const struct sim *s, uint64_t lsn); /* covering lsn */
uint8_t ref_value_at(const struct sim *s, unsigned vol, unsigned sector, uint64_t lsn);
/* Does the value occur at some prefix end in [from, to]? */
bool ref_value_between(const struct sim *s, unsigned vol, unsigned sector, uint8_t value,
                       uint64_t from, uint64_t to);
bool ref_is_boundary(const struct sim *s, uint64_t lsn);
void ref_check_log_bytes(struct sim *s, const char *check, uint64_t lsn, const uint8_t *bytes,
                         uint64_t len);
void ref_check_image(struct sim *s, const char *check, const struct sim_file *vol0, bool durable,
                     uint64_t lsn);
uint8_t ref_op_value(const struct ref_rec *r, unsigned sector);
/* A tail of the standby's journal rotted that may have been applied in part. */
void ref_rotted(struct sim *s, uint64_t applied, uint64_t from, uint64_t to);
/* A piece of it may be there until its records have come again, or a compare has ended. */
bool ref_is_rotted(const struct sim *s, unsigned vol, unsigned sector, int value, uint64_t lsn);
/* The origin could not be read there, and the log has not told since what it holds. */
bool ref_is_bad(const struct sim *s, unsigned vol, unsigned sector);
void ref_compare_reads(struct sim *s, unsigned vol, uint64_t offset, uint64_t bytes);
void ref_compare_ended(struct sim *s, unsigned vol, uint64_t offset, uint64_t bytes);

/* epoch.c: the reference's epochs, and where the log is a state that a power cut could have left */
void ref_epochs_reset(struct sim *s);
/* The standby stood at `at`, had no more than `durable`, and begins again at `next`. */
void ref_hole(struct sim *s, uint64_t at, uint64_t durable, uint64_t next);
void ref_epoch_look(struct sim *s); /* the metadata changed: has one begun? */
const struct ref_epoch *ref_epoch_at(const struct sim *s, uint64_t lsn);
uint64_t ref_norm(const struct sim *s, uint64_t lsn); /* a place in a hole is its parent's end */
uint64_t ref_records(const struct sim *s, uint64_t from, uint64_t to);
uint64_t ref_bytes(const struct sim *s, uint64_t from, uint64_t to); /* holes don't count */
uint64_t ref_floor(const struct sim *s, uint64_t lsn); /* newest consistent one up to it; 0 none */
bool ref_epoch_known(const struct sim *s, const struct hk_uuid *id);
bool ref_is_consistent(const struct sim *s, uint64_t lsn);
void ref_control(struct sim *s, const struct ref_rec *r);

#endif
