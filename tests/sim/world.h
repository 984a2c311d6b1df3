/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world around the replication: what a correct disk may return (volume.c), the side that was
 * promoted and its application (promoted.c), a reader of frozen images (image.c).
 */
#ifndef HK_SIM_WORLD_H
#define HK_SIM_WORLD_H

#include "tests/sim/sim.h"

/* ---- volume.c: sets of contents, one bit per value ---- */
struct vol_sector {
    uint8_t may;    /* what a read may return while nothing is being written here */
    uint8_t group;  /* values of the writes that overlap in time, until the last of them ends */
    uint8_t medium; /* what may be found here after a power cut */
    uint8_t in_flight, failed;
    uint64_t changed; /* of the model's steps: the last begin or end of a write */
};
struct vol_read {
    struct vol_read *next;
    bool active;
    uint16_t volume;
    uint32_t first, count;
    uint8_t may[8];
};
struct vol_model {
    struct vol_sector sector[SIM_VOLUMES][SIM_SECTORS_MAX];
    struct vol_read *reads;
    uint64_t step;
};
void vol_write_begins(struct vol_model *m, unsigned vol, uint32_t first, uint32_t n,
                      const uint8_t *values);
void vol_write_ends(struct vol_model *m, unsigned vol, uint32_t first, uint32_t n, bool ok,
                    bool fua);
void vol_flush_ended(struct vol_model *m, unsigned vol, uint64_t begun_step);
void vol_read_begins(struct vol_model *m, struct vol_read *r, unsigned vol, uint32_t first,
                     uint32_t n);
void vol_read_ends(struct vol_model *m, struct vol_read *r);
void vol_cut_short(struct vol_model *m); /* the process died: whatever is under way ends somehow */
void vol_power_lost(struct vol_model *m);
void vol_learn(struct sim *s, struct vol_model *m, const struct sim_file *vol0);

/* ---- promoted.c ---- */
void promoted_setup(struct sim *s);
void promoted_begins(struct sim *s); /* the standby has said that it is promoted */
void promoted_power(struct sim *s);
void promoted_forgotten(struct sim *s); /* by the standby's superblocks */
void promoted_check_end(struct sim *s);
struct sim_proc *promoted_proc(struct sim *s);

/* ---- image.c ---- */
void image_setup(struct sim *s);
void image_strike(struct sim *s);
struct sim_proc *image_proc(struct sim *s);

/* sby.c */
bool sby_knows_promoted(struct sim *s);

/* rollback.c: snapshots of a node's disks, and their return */
void rollback_strike(struct sim *s, enum sim_fault kind);
void rollback_clean_stop(struct sim *s);

/* spool.c */
void spool_cfg(struct sim *s, struct hk_group_cfg *c);
void spool_judge(struct sim *s, uint64_t released, uint64_t durable);

#endif
