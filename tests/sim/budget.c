/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The budget of faults: which guarantee a fault voids, of which object, and what still holds. The
 * judges compare with what an honest disk would hold (damage.c), so a fault voids nothing until a
 * process has read what it left behind; then only what is named here.
 */
#include <string.h>

#include "proto/segment.h"
#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

static const struct {
    enum sim_fault fault;
    const char *object, *holds, *is_void;
} table[] = {
    {F_ROT_JOURNAL, "journal",
     "nothing of it is applied; damage below the last stamp stops the standby; a loss class "
     "that counts it",
     "that the standby still has it"},
    {F_ROT_SUPER, "standby's superblock",
     "one slot: in doubt, a worse class, a freeze ends declared; both: it stops",
     "liveness after both; facts of the newest slot"},
    {F_ROT_MD, "primary's metadata",
     "one slot: no LSN twice, full compare, no \"in sync\"; both: it stops",
     "liveness after both; convergence (full compare)"},
    {F_ROT_REPLICA, "replica", "everything but the equality of that sector",
     "equality of that sector until it is written"},
    {F_ROT_SPOOL, "spool", "no byte of it is sent; what was in it is stale, and compared",
     "log that the standby lacks"},
    {F_ROT_ORIGIN, "origin", "everything but reads of that sector",
     "reads of that sector until it is written"},
    {F_LATENT, "what can't be read",
     "never taken for the end of the journal or for a blank slot: it stops", "liveness there"},
    {F_MISDIRECTED, "both places of the write",
     "as rot at both places; what is found in the wrong place is not believed",
     "durable of what went astray; the class, unless something shows it"},
    {F_LYING_FLUSH, "what it promised",
     "no wrong bytes; who had been told more notices at the handshake",
     "durable after a power cut; the standby's class until it meets its primary; of its "
     "superblock: a freeze found again, that it was promoted"},
    {F_ROLLBACK_SBY, "standby's node",
     "it is found out by a primary that had been told more; no false class after that",
     "what it had; its class until it meets its primary"},
    {F_ROLLBACK_PRIMARY, "primary's metadata and origins",
     "no second content of an LSN reaches a standby that has the first; no \"in sync\"",
     "what the primary had; convergence"},
    {F_ROLLBACK_MD, "primary's metadata", "as above", "as above; reads"},
    {F_ROLLBACK_ORIGIN, "origins alone", "everything but reads and equality of the origin",
     "equality of origin and standby: there is no fingerprint yet"},
    {F_SLOT_ONE, "one slot", "as rot of that slot", "facts of the newest slot"},
    {F_SLOT_BOTH, "both slots", "it stops and says so", "liveness there"},
};

void budget_print(const struct sim *s, FILE *out)
{
    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
        enum sim_fault f = table[i].fault;

        if (s->o.ppm[f] || s->o.mean_ns[f])
            fprintf(out, "  budget, %s of %s: holds: %s; void: %s\n", sim_fault_name[f],
                    table[i].object, table[i].holds, table[i].is_void);
    }
}

/* ---- damage is read ---- */

static bool struck(const struct sim *s, enum sim_class c)
{
    return s->damaged[0] & 1u << c;
}

/* What the newest superblock said and the one that is left does not: no longer held against it. */
static void super_fell_back(struct sim *s)
{
    const struct hk_super *super = sby_durable(s);

    if (super->applied < s->sby.said_applied)
        s->sby.said_applied = super->applied;
    if (!(super->flags & HK_SF_FROZEN))
        s->sby.frozen = false;
    if (s->sby.promoted && !(super->flags & HK_SF_PROMOTED)) {
        s->standby_suspect = true; /* a side that forgot that it was promoted */
        promoted_forgotten(s);
    }
    if (!(super->flags & (HK_SF_PROMOTING | HK_SF_PROMOTED))) {
        s->sby.promoting = false;
        if (s->sby.rolled) /* and went back to the pin: a part of the replicas may be there */
            s->standby_suspect = true;
    }
    if (super->history.count == 0 && s->sby.said_durable <= HK_LSN_FIRST)
        s->sby.said_durable = 0;
    if (s->vanished & 1u << C_SUPER) { /* more than one step back: the replica may be ahead */
        s->class_void = true;
        s->freeze_void = hk_max_u64(s->freeze_void, budget_durable(s));
    }
}

static void accept_super(struct sim *s, const struct sim_io *io)
{
    struct sim_file *f = io->file;
    uint8_t *keep = sim_alloc(s, io->bytes);
    struct hk_super super;
    bool found;

    memcpy(keep, f->good + io->offset, io->bytes);
    damage_accept(f, io->offset, io->bytes);
    f->durable_changes++;
    if (f == &s->md)
        dmap_look_again(s);
    /* Set back, like a whole disk: what it calls clean may be of before the newest marks. */
    if (f == &s->md && s->vanished & 1u << C_MD)
        s->origin_void = true;
    /* What a killed process had in flight may have torn the other slot in the disk's cache: then
     * whoever reads finds none, too. */
    found = naive_super(f, false, &super);
    if ((naive_super(f, true, &super) && found) || f == &s->pmd) {
        if (f == &s->super)
            super_fell_back(s);
        sim_free(s, keep);
        return;
    }
    memcpy(f->good + io->offset, keep, io->bytes);
    sim_free(s, keep);
    /* Or it left a whole one there, newer than this: that will be made durable before it counts. */
    if (found)
        return;
    /* No slot is left: the site must say so and stand still. */
    s->stood_still = true;
    s->no_super[f->site] = true;
    sim_trace(s, "void no superblock is left at site %llu", f->site, 0, 0);
}

void budget_read(struct sim *s, const struct sim_io *io)
{
    struct sim_file *f = io->file;

    if (!damage_at(f, io->offset, io->bytes))
        return;
    s->damaged[0] |= 1u << f->kind;
    if (f->kind == C_REPLICA && sby_durable(s)->flags & HK_SF_PINNED)
        s->sby.rot_saved = true;
    damage_read(f, io->offset, io->bytes);
    sim_trace(s, "read of damage, class %llu at %llu", f->kind, io->offset, 0);
    if (f->kind == C_SUPER || f->kind == C_MD)
        accept_super(s, io);
}

/* ---- the standby has recovered less than it had said ---- */

/*
 * The stamp of a whole batch header that the disk still holds; 0: it does not. Under a header from
 * an earlier life of the file nobody looks for it: only a disk that lied leaves it there.
 */
static uint64_t stamp_left(struct sim *s, const struct naive_batch *b)
{
    const struct sim_file *f = &s->segment[b->seg];
    const struct hk_batch_header *h = (const void *)(f->dur + b->at);
    uint64_t seed;

    if ((s->vanished & 1u << C_JOURNAL) && memcmp(f->dur, f->good, HK_SEGMENT_HEADER_BYTES) != 0)
        return 0;
    memcpy(&seed, ref_epoch_at(s, b->first)->id.b, 8);
    if (h->magic != HK_BATCH_MAGIC || h->first_lsn != b->first ||
        memcmp(&h->epoch_id, &ref_epoch_at(s, b->first)->id, 16) != 0 ||
        h->hash != naive_xxh64(h, 4088, seed))
        return 0;
    return h->durable;
}

/* Whatever proves that more was reported durable than is found makes it corruption. */
static void check_verdict(struct sim *s, uint64_t end)
{
    for (uint32_t i = s->nj.count; i-- > 0 && s->nj.batch[i].end > end;) {
        uint64_t stamp = s->nj.batch[i].at ? stamp_left(s, &s->nj.batch[i]) : 0;

        SIM_CHECK(s, "I11", stamp <= end,
                  "recovery ends at %llu as if the rest were torn; a batch at %llu is stamped %llu",
                  ULL(end), ULL(s->nj.batch[i].first), ULL(stamp));
    }
    SIM_CHECK(s, "I11", sby_durable(s)->applied <= end, "recovery ends at %llu, applied is %llu",
              ULL(end), ULL(sby_durable(s)->applied));
}

static void acked_is_lost(struct sim *s, uint64_t end)
{
    if (s->sync_acked_end <= end)
        return;
    s->lost_end = hk_max_u64(s->lost_end, s->sync_acked_end);
    s->sync_acked_end = end;
}

void budget_lost(struct sim *s, uint64_t end)
{
    s->was_durable = hk_max_u64(s->was_durable, hk_max_u64(s->nj.durable, s->sby.said_durable));
    s->loss_found = true;
    s->ahead_end = hk_max_u64(s->ahead_end, s->was_durable);
    acked_is_lost(s, end);
    /* An empty log may not even have been begun then. */
    end = end > HK_LSN_FIRST ? end : 0;
    s->sby.said_durable = hk_min_u64(s->sby.said_durable, end);
    s->sby.said_applied = hk_min_u64(s->sby.said_applied, end);
    if (s->vanished & (1u << C_JOURNAL | 1u << C_SUPER))
        s->class_void = true;
    sim_trace(s, "lost the standby ends at %llu, class void %llu", end, s->class_void, 0);
}

/* False: nothing explains that it ends below what had been said. */
bool budget_recovered(struct sim *s, uint64_t end)
{
    bool less = end < s->sby.said_durable;

    if (s->no_super[1])
        return false;
    if (!struck(s, C_JOURNAL))
        return !less;
    check_verdict(s, end);
    for (uint32_t i = 0; i < s->o.segment_count; i++)
        damage_accept_read(&s->segment[i]);
    ref_rotted(s, sby_durable(s)->applied, end, hk_max_u64(s->nj.durable, s->sby.said_durable));
    if (less)
        budget_lost(s, end);
    acked_is_lost(s, end); /* on the disk before anybody had been told so */
    return true;
}

bool budget_explains_standby(const struct sim *s)
{
    return struck(s, C_JOURNAL) || struck(s, C_SUPER);
}

/* What the primary may have been told before anything was lost. */
uint64_t budget_durable(const struct sim *s)
{
    return hk_max_u64(s->nj.durable, s->was_durable);
}

/* A primary was met, or turned away with the reason: now the standby knows what it lacks. */
void budget_met(struct sim *s)
{
    s->class_void = false;
}

/* ---- the primary goes on with a new ring, below where its log had come to ---- */

/*
 * What it had acknowledged alone beyond `at` nobody remembers, unless the standby was told that
 * writes pass by: then it goes on saying "unknown", and says so to the primary.
 */
static void acks_forgotten(struct sim *s, uint64_t at)
{
    uint32_t kept = 0;

    s->passing_acked = false;
    if (s->no_super[1] || sby_durable(s)->flags & HK_SF_FULL_COMPARE)
        return;
    for (uint32_t i = 0; i < s->lost_count; i++)
        if (s->lost[i].end <= at)
            s->lost[kept++] = s->lost[i];
    s->lost_count = kept;
}

/*
 * LSNs from `first_lsn` on are given a second time, in a new epoch: what had been acknowledged
 * alone behind it is missing until a compare that begins there has ended.
 */
void budget_given_again(struct sim *s, uint64_t first_lsn)
{
    for (uint32_t i = 0; i < s->lost_count; i++)
        s->lost[i].end = hk_min_u64(s->lost[i].end, first_lsn);
    s->passing_end = hk_min_u64(s->passing_end, first_lsn);
    s->acked_end = hk_min_u64(s->acked_end, first_lsn);
}

/* Only metadata that was rolled back, or never written although promised, explains that. */
void budget_primary_began(struct sim *s, uint64_t at)
{
    if (s->forked) { /* what it gave since is in no reference; set back once more it has less */
        s->fork_lsn = hk_min_u64(s->fork_lsn, at);
        return;
    }
    if (at == s->ref.next_lsn) { /* it may still have forgotten that writes pass by */
        if (s->vanished & 1u << C_MD)
            acks_forgotten(s, at);
        return;
    }
    SIM_CHECK(s, "I12", at < s->ref.next_lsn && s->vanished & 1u << C_MD,
              "goes on at LSN %llu, the log had come to %llu", ULL(at), ULL(s->ref.next_lsn));
    sim_trace(s, "fork the primary goes on at %llu; log %llu sent %llu", at, s->ref.next_lsn,
              s->sent_end);
    s->cap.durable_taken = hk_min_u64(s->cap.durable_taken, at);
    s->primary_dead = s->origin_suspect = s->origin_ahead = s->origin_void = true;
    if (s->sent_end <= at) {
        app_forgotten(s, at);
        s->acked_end = hk_min_u64(s->acked_end, at);
        ref_rewind(s, at);
        acks_forgotten(s, at);
        return;
    }
    s->forked = true;
    s->fork_lsn = at;
}

/* It sends log again: only to a standby that has nothing of what it has forgotten. */
void budget_forked_send(struct sim *s)
{
    SIM_CHECK(s, "I12", s->welcome_acked <= s->fork_lsn,
              "the primary had been rolled back to %llu and sends log to a standby that has %llu",
              ULL(s->fork_lsn), ULL(s->welcome_acked));
    s->over = true;
}
