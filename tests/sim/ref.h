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
    struct hk_record hdr; /* as published */
    uint8_t ctl[128];
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

struct ref {
    struct ref_rec *rec;
    uint32_t count, room, pub_count; /* records before pub_count are published or void */
    uint64_t slot_base;              /* rec[rec_base] lies in this slot of the present ring */
    uint32_t rec_base;
    uint32_t free_base; /* records of this ring before it are done and released */
    uint64_t first_lsn, next_lsn;
    uint64_t epoch_seed;
    uint32_t epoch_ordinal;
    struct ref_sector sector[SIM_VOLUMES][SIM_SECTORS_MAX];
    uint64_t produced; /* end of the published prefix */
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

#endif
