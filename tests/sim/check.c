/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants, judged at the moments at which they could break, with the reference's eyes. */
#include <errno.h>
#include <string.h>

#include "proto/snapmap.h"
#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

/* ---- what is durable in the metadata of each side (decoded once a change) ---- */

/* A slot whose bytes are those of the last look needs no new hash. */
static bool look_at_slots(const struct sim_file *f, struct sim_super_cache *c)
{
    const struct hk_super *best = NULL;

    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *slot = f->good + (size_t)i * HK_SUPER_BYTES;
        const struct hk_super *super = (const void *)c->raw[i];

        if (memcmp(c->raw[i], slot, HK_SUPER_BYTES) != 0) {
            memcpy(c->raw[i], slot, HK_SUPER_BYTES);
            c->whole[i] = naive_super_slot(slot, i);
        }
        if (c->whole[i] && (!best || super->sequence > best->sequence))
            best = super;
    }
    if (best)
        c->super = *best;
    return best != NULL;
}

static const struct hk_super *durable_super(struct sim_file *f, struct sim_super_cache *c)
{
    if (c->seen != f->durable_changes + 1) {
        c->seen = f->durable_changes + 1;
        c->valid = look_at_slots(f, c);
    }
    return &c->super;
}

const struct hk_super *md_durable(struct sim *s)
{
    const struct hk_super *p = durable_super(&s->md, &s->md_cache);

    SIM_CHECK(s, "I12", s->md_cache.valid, "no valid superblock is durable at the primary");
    return p;
}

const struct hk_super *sby_durable(struct sim *s)
{
    const struct hk_super *p = durable_super(&s->super, &s->sby_cache);

    SIM_CHECK(s, "I12", s->sby_cache.valid, "no valid superblock is durable at the standby");
    return p;
}

/* ---- ring ---- */

static bool is_free(const struct sim *s, const struct ref_rec *r)
{
    return r->local_done && (r->dead || r->end <= s->cap.released);
}

void check_slot_free(struct sim *s, uint32_t rec)
{
    const struct ref_rec *old;

    if (rec < s->ref.rec_base + s->o.ring_slots)
        return;
    old = &s->ref.rec[rec - s->o.ring_slots];
    SIM_CHECK(s, "I5", is_free(s, old),
              "slot of LSN %llu was given again although it is not free (done %d, released %llu)",
              ULL(old->lsn), old->local_done, ULL(s->cap.released));
}

void check_payload_free(struct sim *s, const struct sim_op *op)
{
    const struct ref_rec *r = &s->ref.rec[op->rec], *old;
    uint64_t size = s->o.ring_payload, at = r->payload_pos % size, end = at + r->payload_len;

    /* What is free stays so. */
    while (s->ref.free_base < op->rec && is_free(s, &s->ref.rec[s->ref.free_base]))
        s->ref.free_base++;
    for (uint32_t i = op->rec; i-- > s->ref.free_base && i + s->o.ring_slots > op->rec;) {
        uint64_t was;

        old = &s->ref.rec[i];
        was = old->payload_pos % size;
        if (is_free(s, old) || old->payload_len == 0)
            continue;
        SIM_CHECK(s, "I5", was >= end || was + old->payload_len <= at,
                  "payload of LSN %llu is being written over by LSN %llu (done %d, released %llu)",
                  ULL(old->lsn), ULL(r->lsn), old->local_done, ULL(s->cap.released));
    }
}

/* ---- the origin ---- */

void check_overlap(struct sim *s, const struct sim_op *op)
{
    for (const struct sim_op *o = s->cap.ops.next; o != &s->cap.ops; o = o->next) {
        if (o == op || !o->in_origin || o->op.volume != op->op.volume || o->op.length == 0)
            continue;
        SIM_CHECK(s, "I4",
                  o->op.offset >= op->op.offset + op->op.length ||
                      op->op.offset >= o->op.offset + o->op.length,
                  "two overlapping writes are on their way to the origin (LSN %llu and %llu)",
                  ULL(o->op.lsn.v), ULL(op->op.lsn.v));
    }
}

/* Either slot may be all that is left: neither says clean once something is relied on. */
static bool clean_left(struct sim *s)
{
    if (s->cap.clean_seen == s->md.durable_changes + 1)
        return s->cap.clean_left;
    s->cap.clean_seen = s->md.durable_changes + 1;
    s->cap.clean_left = false;
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *slot = s->md.good + (size_t)i * HK_SUPER_BYTES;
        const struct hk_super *super = (const void *)slot;

        if (naive_super_slot(slot, i) && (super->flags & HK_SF_CLEAN))
            s->cap.clean_left = true;
    }
    return s->cap.clean_left;
}

void check_origin_submit(struct sim *s, const struct sim_op *op)
{
    uint32_t flags = md_durable(s)->flags;

    SIM_CHECK(s, "I1", !(flags & HK_SF_CLEAN),
              "an op goes to the origin while the metadata says clean (LSN %llu)",
              ULL(op->op.lsn.v));
    SIM_CHECK(s, "I12", !clean_left(s),
              "an op goes to the origin while one superblock says clean (LSN %llu)",
              ULL(op->op.lsn.v));
    if (op->op.length)
        check_overlap(s, op);
    dmap_check_submit(s, op);
    if (s->cap.ring_was_lost && !s->dmap)
        SIM_CHECK(s, "I1", flags & HK_SF_FULL_COMPARE,
                  "the ring was lost, a write is submitted, and \"full compare\" is not durable");
    if (s->forked)
        return;
    if (!op->op.captured) {
        SIM_CHECK(s, "I1",
                  flags & (s->dmap ? HK_SF_FULL_COMPARE | HK_SF_STALE : HK_SF_FULL_COMPARE),
                  "an uncaptured write is submitted without a durable \"full compare\"");
        if (op->op.type != HK_REC_FLUSH)
            s->cap.uncaptured = true;
        return;
    }
    SIM_CHECK(s, "I5", op->rec != UINT32_MAX && s->ref.rec[op->rec].state == REF_PUBLISHED,
              "LSN %llu is submitted before it is published", ULL(op->op.lsn.v));
    SIM_CHECK(s, "I5",
              memcmp(cap_slot(s, op->op.slot), &s->ref.rec[op->rec].hdr, HK_RECORD_HEADER_BYTES) ==
                  0,
              "the slot of LSN %llu changed after it was published", ULL(op->op.lsn.v));
}

void check_origin_written(struct sim *s, const struct sim_op *op, int result)
{
    const struct sim_file *f = &s->origin[op->op.volume];
    unsigned first = (unsigned)(op->op.offset / SIM_SECTOR), n = op->op.length / SIM_SECTOR;

    if (op->rec != UINT32_MAX)
        s->ref.rec[op->rec].local_done = true;
    ((struct sim_op *)(uintptr_t)op)->local_ns = s->now;
    if (result)
        return;
    for (unsigned i = first; i < first + n; i++)
        SIM_CHECK(s, "I5",
                  damage_at(f, (uint64_t)i * SIM_SECTOR, SIM_SECTOR) ||
                      pattern_identify(f->cur + (size_t)i * SIM_SECTOR, op->op.volume, i) ==
                          op_value(op, i),
                  "the origin's sector %u of volume %u is not what LSN %llu wrote", i,
                  op->op.volume, ULL(op->op.lsn.v));
}

void check_redo(struct sim *s, const struct hk_redo *r)
{
    const struct ref_rec *rec = ref_find(s, r->record.lsn);

    if (s->forked)
        return;
    SIM_CHECK(s, "I7",
              rec && rec->state == REF_PUBLISHED &&
                  memcmp(&rec->hdr, &r->record, sizeof(rec->hdr)) == 0,
              "redo of LSN %llu is not what was published", ULL(r->record.lsn));
    SIM_CHECK(s, "I7", r->record.lsn > s->cap.redo_lsn, "redo goes back to LSN %llu",
              ULL(r->record.lsn));
    s->cap.redo_lsn = r->record.lsn;
}

void check_after_redo(struct sim *s)
{
    s->cap.redo_lsn = 0;
    if (s->forked || s->origin_suspect || s->cap.uncaptured || s->primary_dead ||
        md_durable(s)->flags & HK_SF_STALE)
        return;
    ref_check_image(s, "I7", s->origin, false, s->ref.next_lsn);
}

/*
 * Stopped clean, then without power: the origin must be what the log says, to the last byte (of
 * what the log tells: dmap_origin_told).
 */
void check_clean_origin(struct sim *s)
{
    if (s->cap.flush_result == 0 && !s->forked && !s->cap.uncaptured && !s->origin_failed &&
        !s->origin_ahead)
        ref_check_image(s, "I12", s->origin, true, s->ref.next_lsn);
}

void check_capture_started(struct sim *s, enum hk_start start, const struct hk_super *super)
{
    struct hk_capture_status *st = &s->cap.status;
    const struct hk_epoch *epoch = &super->history.epoch[super->history.count - 1];

    s->cap.redo_lsn = 0;
    dmap_started(s);
    /* Killed between the superblock that names a new epoch and its gap: no LSN of it was given. */
    s->cap.ring_was_lost =
        s->cap.facts_lost || (start == HK_START_NEW_RING && !(super->flags & HK_SF_CLEAN) &&
                              super->ceiling > epoch->first_lsn);
    hk_capture_status(s->cap.c, st);
    SIM_CHECK(s, "I1",
              start != HK_START_NEW_RING || epoch->reason < HK_EPOCH_GAP_BEHIND ||
                  (super->flags & HK_SF_CLEAN) || st->resync,
              "the ring was lost in an epoch begun by a gap, and nothing is said to be stale");
    if (start == HK_START_NEW_RING) {
        s->cap.released = s->ref.next_lsn;
        if (!st->passing && !st->barred && s->ref.count)
            budget_primary_began(s, st->produced.v);
        if (s->dmap) /* what it had been told since is not written down */
            s->cap.durable_taken = hk_min_u64(s->cap.durable_taken, dmap_relied(s, super));
    }
    if (!s->cap.ring_was_lost)
        return;
    SIM_CHECK(s, "I1", st->passing || st->barred,
              "the ring%s lost after an unclean stop and capture goes on as if nothing were",
              s->cap.facts_lost ? " or the newest metadata was" : " was");
    SIM_CHECK(s, "I18", !st->in_sync && st->state != HK_STATE_REPLICATING,
              "the ring was lost and the state is %d", st->state);
}

/* ---- completion: I9 ---- */

static void remember_unreplicated(struct sim *s, uint64_t end)
{
    if (s->lost_count == s->lost_room) {
        size_t room = s->lost_room ? 2 * s->lost_room : 1024;
        struct sim_lost *more = sim_alloc(s, room * sizeof(*more));

        if (s->lost_count)
            memcpy(more, s->lost, s->lost_count * sizeof(*more));
        sim_free(s, s->lost);
        s->lost = more;
        s->lost_room = (uint32_t)room;
    }
    s->lost[s->lost_count++] = (struct sim_lost){s->now, end, clk_rash_until(s, 0) != 0};
    s->rash_until = hk_max_u64(s->rash_until, clk_rash_until(s, 0));
}

/*
 * Whoever saw "0 if fenced before t0+T" may fence until then: the claim stands that long. And the
 * class that a promoted side has stated holds for ever after.
 */
static void check_against_stated(struct sim *s, uint64_t end)
{
    bool rash = clk_rash_until(s, 0);

    SIM_CHECK(s, "I18",
              s->now >= s->sby.claim_limit || clk_ever_stood(s, 1) || rash || s->standby_suspect,
              "the standby showed \"0 if fenced before t0+T\", and an op ending at %llu is "
              "acknowledged alone %llu us before that",
              ULL(end), ULL((s->sby.claim_limit - s->now) / NS_US));
    if (!s->sby.promoted || end <= s->sby.promote_lsn)
        return;
    SIM_CHECK(s, "I18", s->sby.loss_class != HK_LOSS_ZERO_PROVEN,
              "\"0, proven\" was stated at %llu, and an op ending at %llu is acknowledged",
              ULL(s->sby.promote_lsn), ULL(end));
    SIM_CHECK(s, "I18",
              s->sby.loss_class != HK_LOSS_ZERO_IF_FENCED || s->now >= s->sby.fence_limit ||
                  clk_ever_stood(s, 1) || rash,
              "\"0 if fenced before t0+T\" was stated, and an op ending at %llu is acknowledged "
              "%llu us before that",
              ULL(end), ULL((s->sby.fence_limit - s->now) / NS_US));
}

/*
 * I16: under `continue` nobody waits for the standby beyond a bound, however slowly it makes
 * progress: the pace bound, then T during which it may still count on us, then the time to make
 * "degraded" durable.
 */
static void check_wait(struct sim *s, const struct sim_op *op)
{
    uint64_t wait = s->now - op->local_ns;
    uint64_t disks = s->o.ppm[F_DISK_SLOW] ? 4 * NS_S : 64 * s->o.md_ns + 100 * NS_MS;
    uint64_t bound = 2 * s->o.contact_ns + s->o.pace_ns + disks;

    if (s->o.policy != HK_LINK_LOSS_CONTINUE || clk_ever_stood(s, 0) || s->md_error ||
        op->local_ns < s->cap.stood_ns || s->cap.stopping)
        return;
    SIM_CHECK(s, "I16", wait <= bound,
              "an op ending at %llu waited %llu ms for the standby, the bound is %llu ms",
              ULL(op->op.end.v), ULL(wait / NS_MS), ULL(bound / NS_MS));
}

void check_completed(struct sim *s, struct sim_op *op, int result)
{
    uint32_t flags = md_durable(s)->flags;
    uint64_t reached =
        ref_floor(s, s->o.mode == HK_MODE_SEMISYNC ? s->sby.said_acked : budget_durable(s));
    bool captured = op->op.captured && op->rec != UINT32_MAX;
    uint64_t end = captured ? op->op.end.v : UINT64_MAX;

    if (s->forked)
        return;
    if (result) {
        SIM_CHECK(s, "I9", s->origin_suspect || s->md_error || s->cap.stopping,
                  "an op ends with %d although neither origin nor metadata failed", result);
        return;
    }
    if (op->op.type == HK_REC_FLUSH && !captured)
        return;
    s->st.acked++;
    if (captured) {
        check_wait(s, op);
        s->ref.rec[op->rec].acked = true;
        if (end > s->local_done_end)
            s->local_done_end = end;
    }
    if (s->o.mode != HK_MODE_ASYNC && end > reached && !s->standby_suspect) {
        SIM_CHECK(s, "I9", s->o.policy == HK_LINK_LOSS_CONTINUE,
                  "policy block, and an op ending at %llu is acknowledged; reached is %llu",
                  ULL(end), ULL(reached));
        SIM_CHECK(s, "I9", flags & HK_SF_DEGRADED,
                  "an op ending at %llu is acknowledged unreplicated (%llu) and \"degraded\" is "
                  "not durable",
                  ULL(end), ULL(reached));
    }
    if (!captured) {
        if (!s->passing_acked || s->passing_end <= ref_floor(s, s->nj.durable))
            s->passing_since_ns = s->now;
        s->passing_acked = true;
        s->passing_end = s->ref.next_lsn + 1;
    }
    if (captured && end > s->acked_end)
        s->acked_end = end;
    if (end <= ref_floor(s, s->nj.durable)) {
        if (end > s->sync_acked_end)
            s->sync_acked_end = end;
        return;
    }
    if (end <= budget_durable(s)) { /* was there, and the standby's disks lost it since */
        s->lost_end = hk_max_u64(s->lost_end, end);
        return;
    }
    /* What was not captured is there when a resync that begins later has ended. */
    remember_unreplicated(s, captured ? end : s->ref.next_lsn + 1);
    sim_trace(s, "lost acknowledged end %llu, durable %llu", end, s->nj.durable, 0);
    check_against_stated(s, end);
}

void check_report(struct sim *s, const struct ipc_msg *m)
{
    if (s->standby_suspect)
        return;
    SIM_CHECK(s, "I11", ref_norm(s, m->durable.v) <= budget_durable(s),
              "the replicator reports durable %llu, truly durable is %llu", ULL(m->durable.v),
              ULL(s->nj.durable));
    SIM_CHECK(s, "I11", ref_norm(s, m->acked.v) <= hk_max_u64(s->sby.said_acked, HK_LSN_FIRST),
              "the replicator reports acked %llu, the standby said %llu", ULL(m->acked.v),
              ULL(s->sby.said_acked));
    SIM_CHECK(s, "I5",
              ref_norm(s, m->released.v) <= budget_durable(s) || m->released.v <= HK_LSN_FIRST ||
                  s->o.spool_segments, /* then spool_judge() has looked */
              "released %llu is not durable on the standby (%llu)", ULL(m->released.v),
              ULL(s->nj.durable));
}

/* ---- the attach lease: a fenced replicator's session dies, and it gets no other (I6, I13) ---- */

void check_hello(struct sim *s, uint64_t lease)
{
    struct hk_group_status *st = &s->status;
    struct hk_now now = sim_clock(s, 1);

    s->sby.hello_lease = lease;
    s->sby.hello_is_older = false;
    if (!s->sby.proc.up)
        return;
    hk_group_status(s->sby.g, &now, st);
    s->sby.hello_is_older =
        st->session == HK_SESSION_UP && st->contact && lease < s->sby.session_lease;
}

void check_welcome(struct sim *s)
{
    SIM_CHECK(s, "I13", !s->sby.hello_is_older,
              "a replicator with lease %llu is welcomed; the session of lease %llu is alive",
              ULL(s->sby.hello_lease), ULL(s->sby.session_lease));
    SIM_CHECK(s, "I12",
              s->standby_suspect || s->sby.hello_lease != s->cap.lease ||
                  hk_uuid_equal(&sby_durable(s)->ring_id, &s->cap.lease_ring),
              "a welcome, and the ring of the primary is not durable here");
    s->sby.session_lease = s->sby.hello_lease;
}

/* ---- the standby's disks ---- */

static bool frozen_on_disk(struct sim *s)
{
    return s->sby.frozen && !s->no_super[1] && (sby_durable(s)->flags & HK_SF_FROZEN);
}

void check_disk_op(struct sim *s, const struct hk_diskop *op)
{
    bool replica = op->file >= HK_FILE_VOLUME0 && op->file < HK_FILE_VOLUME0 + SIM_VOLUMES;

    if (op->file == HK_FILE_PRIMARY_MD && op->kind <= HK_DISK_WRITE_DSYNC &&
        op->kind != HK_DISK_READ && !s->standby_suspect && !s->no_super[1])
        SIM_CHECK(s, "I13", sby_durable(s)->flags & (HK_SF_PROMOTING | HK_SF_PROMOTED),
                  "a primary's metadata is made here before the new epoch is durable");
    if (!replica || op->kind == HK_DISK_READ || op->kind == HK_DISK_FLUSH)
        return;
    SIM_CHECK(s, "I13", !s->sby.promoted || s->standby_suspect,
              "the standby's daemon writes the replica after the promotion");
    /* A pin's image lies in before-images as well: the replica may go on under it. And what lies
     * behind the image's end is made ready for a volume that grows. */
    SIM_CHECK(
        s, "I14",
        !frozen_on_disk(s) || s->sby.freeze_of_pin ||
            (op->owner == HK_OWNER_GROUP &&
             op->offset / SIM_SECTOR >= grow_at(s, op->file - HK_FILE_VOLUME0, s->sby.freeze_lsn)),
        "the replica is written while the freeze at LSN %llu stands", ULL(s->sby.freeze_lsn));
}

void check_replica_write(struct sim *s, const struct sim_io *io)
{
    const struct sim_file *f = io->file;
    unsigned first = (unsigned)(io->offset / SIM_SECTOR), n = (unsigned)(io->bytes / SIM_SECTOR);
    uint64_t applied, pin = sby_durable(s)->pin_lsn;
    bool back = s->sby.rolling;

    if (io->result || s->standby_suspect || s->sby.promoted)
        return;
    applied = ref_norm(s, sby_durable(s)->applied);
    for (unsigned i = first; i < first + n; i++) {
        int got = pattern_identify(f->cur + (size_t)i * SIM_SECTOR, f->volume, i);

        if (damage_at(f, (uint64_t)i * SIM_SECTOR, SIM_SECTOR))
            continue;
        if (back) {
            /* What rotted before it was saved comes back like that. */
            if (s->sby.rot_saved && got < 0) {
                s->standby_suspect = true;
                return;
            }
            SIM_CHECK(s, "I10",
                      (uint8_t)got == ref_value_at(s, f->volume, i, pin) ||
                          ref_is_rotted(s, f->volume, i, got, pin),
                      "going back to the pin at %llu wrote %d to volume %u sector %u", ULL(pin),
                      got, f->volume, i);
            continue;
        }
        SIM_CHECK(s, "I10",
                  ref_value_between(s, f->volume, i, (uint8_t)got, applied, s->nj.durable),
                  "apply wrote %d to volume %u sector %u, which no durable record above applied "
                  "(%llu to %llu) holds",
                  got, f->volume, i, ULL(applied), ULL(s->nj.durable));
    }
}

void check_standby_starts(struct sim *s)
{
    if (s->sby.frozen && !frozen_on_disk(s))
        s->sby.frozen = false;
    if (s->sby.promoted)
        SIM_CHECK(s, "I13", s->standby_suspect || (sby_durable(s)->flags & HK_SF_PROMOTED),
                  "the promotion is not durable");
    else if (sby_durable(s)->flags & HK_SF_PROMOTED) /* killed before it could say so */
        check_promoted(s, sby_durable(s)->promote_lsn, sby_durable(s)->loss_class);
}

/* ---- freeze: I14 ---- */

/*
 * Where the pin's files are: the slot whose header, as it can be read now, is a pin's of that
 * position. -1: none, or the header is damaged.
 */
int check_pin_slot(struct sim *s)
{
    const struct hk_super *super = sby_durable(s);

    for (int i = 0; i < SIM_SNAPSHOTS_MAX; i++) {
        struct hk_snap_header h;

        if (!s->snapshot[i][0].cur)
            continue;
        memcpy(&h, s->snapshot[i][0].cur, sizeof(h));
        if (h.magic == HK_SNAP_MAGIC && h.kind == HK_SNAP_PIN && h.id < super->snapshot_next &&
            h.lsn == super->pin_lsn && h.epoch_ordinal == super->pin_ordinal)
            return i;
    }
    return -1;
}

/* Bytes of one sector of the pin's state: its chunk's before-image if there is one. */
const uint8_t *check_pin_sector(struct sim *s, int slot, uint32_t volume, uint32_t sector,
                                const uint8_t *replica)
{
    uint64_t at = (uint64_t)sector * SIM_SECTOR, chunk = at / 4096;
    /* A page of bits a volume: sectors of 512 with 32 bytes of header and 3,840 bits. */
    const uint8_t *page = s->snapshot[slot][0].cur + (1 + volume) * 4096;
    uint8_t byte = page[chunk / 3840 * 512 + 32 + chunk % 3840 / 8];

    return byte >> (chunk % 8) & 1 ? s->snapshot[slot][1 + volume].cur + at : replica;
}

static void check_pin_image(struct sim *s)
{
    int slot = check_pin_slot(s);

    if (slot < 0 || s->loss_found || s->forked)
        return;
    s->st.image_checks++;
    for (unsigned v = 0; v < SIM_VOLUMES; v++) {
        if (s->snapshot[slot][0].hurt_count || s->snapshot[slot][1 + v].hurt_count)
            continue;
        for (unsigned i = 0; i < s->o.sectors; i++) {
            const uint8_t *replica = s->replica[v].cur + (size_t)i * SIM_SECTOR;
            int got = pattern_identify(check_pin_sector(s, slot, v, i, replica), v, i);
            int want = ref_value_at(s, v, i, s->sby.freeze_lsn);

            if (damage_at(&s->replica[v], (uint64_t)i * SIM_SECTOR, SIM_SECTOR))
                continue;
            SIM_CHECK(s, "I14", got == want || (got < 0 && want == 255),
                      "the pin that is an image at LSN %llu: volume %u sector %u holds %d, should "
                      "hold %d",
                      ULL(s->sby.freeze_lsn), v, i, got, want);
        }
    }
}

void check_frozen_image(struct sim *s, const char *when)
{
    if (!frozen_on_disk(s) || s->standby_suspect || s->sby.freeze_lsn < s->freeze_void)
        return;
    (void)when;
    if (s->sby.freeze_of_pin) {
        check_pin_image(s);
        return;
    }
    ref_check_image(s, "I14", s->replica, false, s->sby.freeze_lsn);
    ref_check_image(s, "I14", s->replica, true, s->sby.freeze_lsn);
}

static void frozen_begins(struct sim *s, uint64_t lsn, const char *name, bool of_pin)
{
    s->sby.frozen = true;
    s->sby.freeze_of_pin = of_pin;
    s->sby.freeze_lsn = lsn;
    memcpy(s->sby.freeze_name, name, HK_NAME_BYTES);
    SIM_CHECK(s, "I14", s->standby_suspect || frozen_on_disk(s), "frozen, but not durably");
    s->st.freezes++;
    check_frozen_image(s, "when it began");
}

void check_frozen_begins(struct sim *s, uint64_t lsn, const char *name)
{
    const struct ref_rec *r = lsn > HK_LSN_FIRST ? ref_find(s, lsn - 1) : NULL;

    SIM_CHECK(s, "I14",
              r && r->end == lsn && r->type == HK_REC_MARK &&
                  strncmp((const char *)r->ctl, name, HK_NAME_BYTES) == 0,
              "frozen at LSN %llu, where no mark \"%s\" ends", ULL(lsn), name);
    frozen_begins(s, lsn, name, false);
}

/* The image is the pin: nothing else than what the superblock says, durably. */
void check_pin_is_image(struct sim *s, uint64_t lsn, const char *name)
{
    const struct hk_super *super = sby_durable(s);

    SIM_CHECK(s, "I14",
              s->standby_suspect ||
                  ((super->flags & HK_SF_PINNED) && (super->flags & HK_SF_RESYNC) &&
                   super->pin_lsn == lsn && super->freeze_lsn == lsn),
              "the pin at LSN %llu is said to be an image, and is not the pin", ULL(lsn));
    sim_struck(s, F_PIN_IS_IMAGE);
    frozen_begins(s, lsn, name, true);
}

void check_frozen_ends(struct sim *s)
{
    SIM_CHECK(s, "I14", !frozen_on_disk(s), "a freeze has ended, but not durably");
    if (s->sby.frozen && s->sby.freeze_of_pin && !s->standby_suspect &&
        s->sby.freeze_lsn >= s->freeze_void)
        check_pin_image(s);
    else if (s->sby.frozen && !s->standby_suspect && s->sby.freeze_lsn >= s->freeze_void)
        ref_check_image(s, "I14", s->replica, false, s->sby.freeze_lsn);
    s->sby.frozen = false;
}

/* ---- promotion: I13, I18 ---- */

void check_class(struct sim *s, uint64_t position, uint32_t loss_class, uint64_t limit,
                 const char *where)
{
    if ((loss_class != HK_LOSS_ZERO_PROVEN && loss_class != HK_LOSS_ZERO_IF_FENCED) ||
        s->class_void)
        return;
    if (loss_class == HK_LOSS_ZERO_IF_FENCED && clk_ever_stood(s, 1))
        return;
    SIM_CHECK(
        s, "I18", s->lost_end <= position,
        "%s: class %u is stated at %llu, but an op ending at %llu was acknowledged and is lost",
        where, loss_class, ULL(position), ULL(s->lost_end));
    for (uint32_t i = s->lost_count; i-- > 0;) {
        const struct sim_lost *l = &s->lost[i];

        if (l->end <= position)
            continue;
        if (loss_class == HK_LOSS_ZERO_IF_FENCED && (l->at >= limit || l->rash))
            continue;
        sim_fail(s, "I18",
                 "%s: class %u (limit %llu us) is stated at %llu, but an op ending at %llu was "
                 "acknowledged at %llu us",
                 where, loss_class, ULL(limit / NS_US), ULL(position), ULL(l->end),
                 ULL(l->at / NS_US));
    }
}

/* Standby's realtime as the simulator's time. */
static uint64_t from_real(const struct sim *s, uint64_t real_ns)
{
    return clk_true_time(s, 1, real_ns);
}

void check_promoted(struct sim *s, uint64_t position, uint32_t loss_class)
{
    const struct hk_super *super = sby_durable(s);
    struct hk_super *pmd = &s->pmd_super;
    const struct hk_epoch *e;

    s->st.promotions++;
    s->sby.promoted = true;
    s->sby.promoted_at = s->now;
    s->sby.promote_lsn = position;
    s->sby.loss_class = loss_class;
    s->sby.fence_limit = from_real(s, super->contact_time_ns) + super->contact_timeout_ns;
    s->sby.frozen = false;
    if (s->standby_suspect || s->sby.not_promotable)
        return;
    SIM_CHECK(s, "I13", super->flags & HK_SF_PROMOTED, "promoted, but not durably");
    SIM_CHECK(s, "I10", s->ref.interval_count > 0,
              "promoted, and the initial synchronisation has never ended");
    SIM_CHECK(s, "I13", super->loss_class == loss_class && super->promote_lsn == position,
              "position or class in the superblock differ from what was said");
    SIM_CHECK(s, "I10", ref_is_consistent(s, position),
              "promoted at %llu, in no consistent interval; the last before it ends at %llu",
              ULL(position), ULL(ref_floor(s, position)));
    SIM_CHECK(s, "I11", position >= ref_floor(s, s->sby.said_durable) || s->sby.pin_full,
              "promoted at %llu, durable had been reported up to %llu", ULL(position),
              ULL(s->sby.said_durable));
    SIM_CHECK(s, "I9", position >= ref_floor(s, s->sby.life_acked) || s->sby.pin_full,
              "promoted at %llu, this process had acknowledged %llu", ULL(position),
              ULL(s->sby.life_acked));
    SIM_CHECK(s, "I9", position >= s->sync_acked_end || s->sby.pin_full,
              "promoted at %llu, an op ending at %llu was acknowledged as replicated",
              ULL(position), ULL(s->sync_acked_end));
    SIM_CHECK(s, "I3", ref_is_boundary(s, position), "promoted inside a record, at %llu",
              ULL(position));
    ref_check_image(s, "I10", s->replica, false, position);
    ref_check_image(s, "I10", s->replica, true, position);
    /* Stated only on evidence that the fence was in time; here the evidence is always true. */
    check_class(s, position, loss_class, UINT64_MAX, "promotion");
    SIM_CHECK(s, "I13", naive_super(&s->pmd, true, pmd) && pmd->history.count >= 2,
              "promoted, but the new epoch's metadata is not durable");
    e = &pmd->history.epoch[pmd->history.count - 1];
    SIM_CHECK(s, "I13",
              e->reason == HK_EPOCH_PROMOTE && e->parent_end == position &&
                  e->first_lsn >= position && memcmp(&e->parent, &e[-1].id, 16) == 0 &&
                  ref_epoch_known(s, &e->parent),
              "the new epoch says reason %u, parent end %llu, first LSN %llu", e->reason,
              ULL(e->parent_end), ULL(e->first_lsn));
    grow_check_standby(s, "promotion");
    for (unsigned v = 0; v < SIM_VOLUMES; v++)
        SIM_CHECK(s, "I13",
                  s->vanished || s->forked ||
                      pmd->volume[v].bytes == (uint64_t)grow_at(s, v, position) * SIM_SECTOR,
                  "promoted at %llu, where volume %u has %u sectors, with %llu bytes",
                  ULL(position), v, grow_at(s, v, position), ULL(pmd->volume[v].bytes));
    promoted_begins(s);
}

void check_failover_said(struct sim *s, const uint64_t arg[4])
{
    SIM_CHECK(s, "I18",
              s->sby.promoted && arg[0] == s->sby.promote_lsn && arg[1] == s->sby.loss_class,
              "failover answers position %llu class %llu", ULL(arg[0]), ULL(arg[1]));
}

void check_after_event(struct sim *s)
{
    if ((s->events & 63) == 0)
        check_status(s);
    if ((s->events & 2047) == 0) {
        naive_power_cut_now(s, "now");
        dmap_check(s);
        check_frozen_image(s, "now and then");
    }
}

/* ---- the end: everything has converged ---- */

/*
 * What can never be sent is known to be missing: on stable storage, at the primary, or at the
 * standby, which then takes nothing before a full compare, and asks for nothing (I1). With a
 * replica that failed the standby takes no more than its bound, says so, and asks for nothing: the
 * record is not sent, not looked at, and not acknowledged under `block`.
 */
static void check_hole(struct sim *s)
{
    if (s->sby.not_promotable && s->o.policy == HK_LINK_LOSS_BLOCK)
        return;
    if (!s->rotten_lsn || s->rotten_end <= s->nj.durable || s->primary_dead || s->primary_gone ||
        s->sby.promoted || s->sby.promoting || s->stood_still || s->standby_suspect ||
        s->loss_found || s->forked || s->no_super[0] || s->no_super[1])
        return;
    SIM_CHECK(s, "I1", (md_durable(s)->flags | sby_durable(s)->flags) & HK_SF_FULL_COMPARE,
              "the only copy of LSN %llu is damaged, the standby lacks it, and nothing durable "
              "says so",
              ULL(s->rotten_lsn));
}

void check_end(struct sim *s)
{
    uint32_t flags;

    if (s->no_super[0] || s->no_super[1] || s->forked || s->over)
        return;
    flags = md_durable(s)->flags;
    naive_power_cut_now(s, "at the end");
    promoted_check_end(s);
    if (s->sby.failover_wanted && !s->sby.promoted)
        SIM_CHECK(s, "liveness",
                  s->stood_still || s->standby_suspect || s->sby.failover_refused ||
                      s->sby.not_promotable,
                  "a failover was asked for and never ended");
    if (s->dmap) {
        heal_check_end(s);
        return;
    }
    check_hole(s);
    if (s->sby.promoted || s->sby.promoting || s->primary_dead || s->stood_still ||
        s->standby_suspect || s->sby.not_promotable || s->origin_suspect || s->loss_found)
        return;
    if (flags & HK_SF_FULL_COMPARE) {
        s->st.behind++;
        return;
    }
    SIM_CHECK(s, "liveness", s->cap.proc.up && s->rep.proc.up && s->sby.proc.up,
              "a process is down at the end");
    SIM_CHECK(s, "liveness", s->cap.in_flight == 0, "%u ops never ended", s->cap.in_flight);
    SIM_CHECK(s, "liveness", s->nj.durable == s->ref.produced,
              "30 s after the faults stopped durable is %llu, produced %llu", ULL(s->nj.durable),
              ULL(s->ref.produced));
    SIM_CHECK(s, "liveness", ref_norm(s, sby_durable(s)->applied) == s->ref.produced,
              "30 s after the faults stopped applied is %llu, produced %llu",
              ULL(sby_durable(s)->applied), ULL(s->ref.produced));
    ref_check_image(s, "I10", s->replica, true, s->ref.produced);
    ref_check_image(s, "I5", s->origin, false, s->ref.produced);
    SIM_CHECK(s, "liveness", !(flags & HK_SF_DEGRADED), "still degraded 30 s after the faults");
    hk_group_status(s->rep.g, &(struct hk_now){sim_clock(s, 0).mono_ns, sim_clock(s, 0).real_ns},
                    &s->status);
    SIM_CHECK(s, "liveness", s->status.session == HK_SESSION_UP, "no session at the end");
    SIM_CHECK(s, "liveness", s->o.mode != HK_MODE_SYNC || s->status.in_sync,
              "mode sync, everything is durable, and the primary is not in sync");
    s->st.converged++;
}
