/* SPDX-License-Identifier: Apache-2.0 */
/* Who judges what is done and said. A part of sim.h, which includes it. */
#ifndef HK_SIM_JUDGE_H
#define HK_SIM_JUDGE_H

/* budget.c: which guarantees are void after what struck, and what must be noticed all the same */
void budget_print(const struct sim *s, FILE *out);
void budget_read(struct sim *s, const struct sim_io *io);
bool budget_recovered(struct sim *s, uint64_t end);
void budget_met(struct sim *s);
void budget_lost(struct sim *s, uint64_t end);
void budget_primary_began(struct sim *s, uint64_t at);
void budget_given_again(struct sim *s, uint64_t first_lsn);
void budget_forked_send(struct sim *s);
bool budget_explains_standby(const struct sim *s);
uint64_t budget_durable(const struct sim *s);

/* check.c */
const struct hk_super *md_durable(struct sim *s);
const struct hk_super *sby_durable(struct sim *s);
void check_after_event(struct sim *s);
void check_slot_free(struct sim *s, uint32_t rec);
void check_payload_free(struct sim *s, const struct sim_op *op);
void check_overlap(struct sim *s, const struct sim_op *op);
void check_origin_submit(struct sim *s, const struct sim_op *op);
void check_origin_written(struct sim *s, const struct sim_op *op, int result);
void check_redo(struct sim *s, const struct hk_redo *r);
void check_after_redo(struct sim *s);
void check_clean_origin(struct sim *s);
void check_capture_started(struct sim *s, enum hk_start start, const struct hk_super *super);
void check_completed(struct sim *s, struct sim_op *op, int result);
void check_report(struct sim *s, const struct ipc_msg *m);
void check_hello(struct sim *s, uint64_t lease);
void check_welcome(struct sim *s);
void check_disk_op(struct sim *s, const struct hk_diskop *op);
void check_replica_write(struct sim *s, const struct sim_io *io);
void check_standby_starts(struct sim *s);
void check_pin_is_image(struct sim *s, uint64_t lsn, const char *name);
int check_pin_slot(struct sim *s);
const uint8_t *check_pin_sector(struct sim *s, int slot, uint32_t volume, uint32_t sector,
                                const uint8_t *replica);
void check_frozen_begins(struct sim *s, uint64_t lsn, const char *name);
void check_frozen_ends(struct sim *s);
void check_frozen_image(struct sim *s, const char *when);
void check_promoted(struct sim *s, uint64_t position, uint32_t loss_class);
void check_class(struct sim *s, uint64_t position, uint32_t loss_class, uint64_t limit,
                 const char *where);
void check_failover_said(struct sim *s, const uint64_t arg[4]);
void check_status(struct sim *s);
void check_end(struct sim *s);

/* heal.c */
void heal_check_end(struct sim *s);

/* dmap.c: the dirty map on the primary's metadata disk, read by a parser of its own (I1, I2) */
void dmap_create(struct sim *s, const struct hk_super *super);
uint64_t dmap_file_bytes(const struct sim *s);
uint32_t dmap_regions(const struct sim *s);
uint64_t dmap_region_bytes(const struct sim *s, uint64_t offset);
uint32_t dmap_region_of(const struct sim *s, unsigned volume, uint64_t offset);
void dmap_written(struct sim *s, uint64_t offset, uint64_t bytes); /* durably */
void dmap_look_again(struct sim *s);
void dmap_started(struct sim *s); /* capture has read it */
void dmap_check_submit(struct sim *s, const struct sim_op *op);
void dmap_check(struct sim *s);
uint64_t dmap_relied(struct sim *s, const struct hk_super *super); /* the newest position */
bool dmap_any_stale(struct sim *s);
bool dmap_origin_told(struct sim *s, unsigned volume, uint32_t sector);
uint32_t dmap_count_stale(struct sim *s);
bool dmap_all_stale(struct sim *s);

/* grow.c: sizes, in sectors */
uint32_t grow_capacity(const struct sim *s);
uint32_t grow_now(const struct sim *s, unsigned volume);
uint32_t grow_at(const struct sim *s, unsigned volume, uint64_t lsn);
void grow_record(struct sim *s, uint32_t rec);
void grow_check_op(struct sim *s, const struct ref_rec *r);
void grow_check_standby(struct sim *s, const char *when);
void grow_seen(struct sim *s);
void grow_ask(struct sim *s, const struct ipc_msg *m);
void grow_capture_gone(struct sim *s);
void grow_strike(struct sim *s);
void grow_verb_done(struct sim *s, const struct hk_action *a);
void grow_fill(struct sim *s, struct sim_file *f);
void grow_setup(struct sim *s);

/* ghost.c */
void ghost_begin(struct sim *s);
bool ghost_frame(struct sim *s, struct sim_frame *f);
void ghost_control(struct sim *s, const struct hk_event *e);
void ghost_gone(struct sim *s);

/* memory.c */
void mem_frame(struct sim *s, uint64_t lsn, uint8_t *bytes, uint32_t len);
void mem_ring(struct sim *s);
bool mem_is_rotten(const struct sim *s, uint64_t lsn, uint64_t end);

#endif
