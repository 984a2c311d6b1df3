/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the standby's disks truly hold, read by a parser of its own from the bytes that a power cut
 * would leave: the newest valid superblock, the contiguous chain of whole batches, the replicas.
 * Uses the formats' struct layouts and the hash library, no code of the product.
 */
#include <stdlib.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/segment.h"
#include "tests/sim/sim.h"

#define ULL(x) ((unsigned long long)(x))

uint64_t naive_xxh64(const void *p, size_t bytes, uint64_t seed)
{
    return XXH64(p, bytes, seed);
}

/* Whole, and where it belongs: one that a disk put into the other place says nothing. */
bool naive_super_slot(const uint8_t *slot, unsigned i)
{
    const struct hk_super *c = (const void *)slot;
    uint64_t hash;

    memcpy(&hash, slot + HK_SUPER_BYTES - 8, 8);
    return c->magic == HK_SUPER_MAGIC && (c->sequence & 1) == i &&
           hash == XXH64(slot, HK_SUPER_BYTES - 8, 0);
}

bool naive_super(const struct sim_file *f, bool durable, struct hk_super *ret)
{
    const uint8_t *base = durable ? f->good : f->cur;
    const struct hk_super *best = NULL;

    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *slot = base + (size_t)i * HK_SUPER_BYTES;
        const struct hk_super *c = (const void *)slot;

        if (!naive_super_slot(slot, i))
            continue;
        if (!best || c->sequence > best->sequence)
            best = c;
    }
    if (best)
        *ret = *best;
    return best != NULL;
}

/* One slot is whole, and beside it lies what is neither whole nor as blank as before its first use.
 */
bool naive_in_doubt(const uint8_t *slots)
{
    bool whole[2] = {naive_super_slot(slots, 0), naive_super_slot(slots + HK_SUPER_BYTES, 1)};
    const uint8_t *other = slots + (whole[0] ? HK_SUPER_BYTES : 0);
    const struct hk_super *one = (const void *)(slots + (whole[0] ? 0 : HK_SUPER_BYTES));
    uint8_t any = 0;

    if (whole[0] == whole[1])
        return false;
    for (size_t i = 0; i < HK_SUPER_BYTES; i++)
        any |= other[i];
    return any || one->sequence > 1;
}

void naive_reset(struct sim *s)
{
    s->nj.count = 0;
    s->nj.durable = s->nj.next = HK_LSN_FIRST;
    s->nj.seg = 0;
    s->nj.at = 0;
}

static uint64_t seed_of(const struct hk_uuid *u)
{
    uint64_t v;

    memcpy(&v, u->b, 8);
    return v;
}

/* A whole segment header of the epoch that its LSN belongs to. */
static bool segment_ok(const struct sim *s, const struct sim_file *f, uint64_t *ret_first)
{
    const struct hk_segment_header *h = (const void *)f->good;

    if (h->magic != HK_SEGMENT_MAGIC ||
        memcmp(&h->epoch_id, &ref_epoch_at(s, h->first_lsn)->id, 16) != 0 ||
        memcmp(&h->group_id, &s->group_id, 16) != 0)
        return false;
    if (h->hash != XXH64(h, 4088, seed_of(&h->epoch_id)))
        return false;
    *ret_first = h->first_lsn;
    return true;
}

/* What a header says before its hash is looked at, which is dear. */
static bool begins_at(const struct sim_file *f, uint64_t lsn)
{
    return ((const struct hk_segment_header *)(const void *)f->good)->first_lsn == lsn;
}

/* A whole batch at `at` that begins at `first`; compares its bytes with the reference. */
static bool batch_ok(struct sim *s, const struct sim_file *f, uint64_t at, uint64_t first,
                     uint64_t *ret_end, uint64_t *ret_next)
{
    const struct hk_batch_header *h = (const void *)(f->good + at);
    const uint8_t *data;
    uint64_t pages;

    if (at + HK_BATCH_HEADER_BYTES > f->bytes || h->magic != HK_BATCH_MAGIC ||
        h->first_lsn != first || memcmp(&h->epoch_id, &ref_epoch_at(s, first)->id, 16) != 0)
        return false;
    if (h->hash != XXH64(h, 4088, seed_of(&h->epoch_id)) || h->bytes == 0 ||
        h->bytes > HK_BATCH_BYTES_MAX)
        return false;
    pages = ((first + h->bytes + 4095) & ~4095ull) - (first & ~4095ull);
    if (at + 4096 + pages > f->bytes)
        return false;
    data = f->good + at + 4096 + (first & 4095);
    if (h->data_hash != XXH64(data, h->bytes, seed_of(&h->epoch_id)))
        return false;
    ref_check_log_bytes(s, "I5", first, data, h->bytes);
    SIM_CHECK(s, "I11", h->durable <= s->nj.durable || s->nj.durable < first,
              "batch at LSN %llu carries durable stamp %llu beyond what is durable (%llu)",
              ULL(first), ULL(h->durable), ULL(s->nj.durable));
    *ret_end = first + h->bytes;
    *ret_next = at + 4096 + pages;
    return true;
}

/*
 * The segment that begins at `lsn`, if there is one. Its header was written once all below was
 * durable, so the chain goes on there and nowhere else: what follows in the segment before is left
 * over from an earlier life, whose batches were cut otherwise, even if it is whole and fits.
 */
static uint32_t segment_from(const struct sim *s, uint64_t lsn)
{
    uint64_t first;

    for (uint32_t i = 0; i < s->o.segment_count; i++)
        if (begins_at(&s->segment[i], lsn) && segment_ok(s, &s->segment[i], &first))
            return i;
    return UINT32_MAX;
}

/*
 * Where the chain goes on behind `end`: there, or at the first LSN of an epoch whose parent ended
 * there. Moves *at to it, and returns its segment; UINT32_MAX: in the same segment, if at all.
 */
static uint32_t follows(const struct sim *s, uint64_t end, uint64_t *at)
{
    uint32_t seg = segment_from(s, end);

    for (uint32_t i = s->ref.epoch_count; i-- > 1 && s->ref.epoch[i].first_lsn >= end;) {
        uint64_t first = s->ref.epoch[i].first_lsn;
        uint32_t there;

        if (ref_norm(s, first) > ref_norm(s, end))
            continue;
        there = segment_from(s, first);
        if (there == UINT32_MAX)
            continue;
        *at = first;
        return there;
    }
    *at = end;
    return seg;
}

static bool advance(struct sim *s)
{
    struct naive_journal *j = &s->nj;
    uint32_t seg = follows(s, j->durable, &j->next);
    uint64_t end = 0, next = 0;

    if (seg != UINT32_MAX) {
        j->seg = seg;
        j->at = HK_SEGMENT_HEADER_BYTES;
    }
    if (!j->at || !batch_ok(s, &s->segment[j->seg], j->at, j->next, &end, &next))
        return false;
    if (j->count == j->room) {
        j->room = j->room ? 2 * j->room : 1024;
        j->batch = realloc(j->batch, j->room * sizeof(*j->batch));
    }
    j->batch[j->count++] = (struct naive_batch){j->next, end, j->seg, j->at};
    j->durable = end;
    j->at = next;
    return true;
}

/*
 * A write reached [offset, offset + bytes) of a segment. Old batches behind a hole may be whole and
 * fit the chain; what is written over one of them replaces it.
 */
void naive_segment_written(struct sim *s, const struct sim_file *f, uint64_t offset, uint64_t bytes)
{
    struct naive_journal *j = &s->nj;
    uint32_t seg = (uint32_t)(f - s->segment);

    while (j->count) {
        const struct naive_batch *b = &j->batch[j->count - 1];

        if (b->seg != seg || b->at < offset || b->at >= offset + bytes)
            break;
        j->count--;
        j->durable = ref_norm(s, b->first);
        j->seg = b->seg;
        j->at = b->at;
    }
    naive_segment_changed(s);
}

/* A segment now begins where the chain went on with what an earlier life had left. */
static void drop_leftovers(struct sim *s)
{
    struct naive_journal *j = &s->nj;

    for (uint32_t i = 0; i < s->o.segment_count; i++) {
        const struct hk_segment_header *h = (const void *)s->segment[i].good;
        uint32_t lo = 0, hi = j->count;
        uint64_t first;

        while (lo < hi) {
            uint32_t mid = lo + (hi - lo) / 2;

            if (j->batch[mid].first < h->first_lsn)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo == j->count || j->batch[lo].first != h->first_lsn ||
            (j->batch[lo].seg == i && j->batch[lo].at == HK_SEGMENT_HEADER_BYTES) ||
            !segment_ok(s, &s->segment[i], &first))
            continue;
        j->count = lo;
        j->durable = ref_norm(s, first);
        j->seg = i;
        j->at = HK_SEGMENT_HEADER_BYTES;
    }
}

void naive_segment_changed(struct sim *s)
{
    drop_leftovers(s);
    while (advance(s))
        sim_trace(s, "truly durable %llu", s->nj.durable, 0, 0);
}

/* The journal went on at `lsn` after a restart: what lay beyond may be overwritten. */
void naive_truncate(struct sim *s, uint64_t lsn)
{
    struct naive_journal *j = &s->nj;

    while (j->count && j->batch[j->count - 1].end > lsn) {
        j->count--;
        j->durable = ref_norm(s, j->batch[j->count].first);
        j->seg = j->batch[j->count].seg;
        j->at = j->batch[j->count].at;
    }
    naive_segment_changed(s);
}

/*
 * A flush, or a power cut, has decided what stays of the writes of a process that was killed. They
 * may lie over batches that an earlier life had left, were whole and fit, and that nobody was told
 * of: those are read again. What was reported is never written over before it is applied.
 */
void naive_look_again(struct sim *s)
{
    naive_truncate(s, hk_max_u64(s->sby.said_durable, sby_durable(s)->applied));
}

/* It began again behind a hole, and no compare begun there has ended at or before `applied`. */
static bool behind_hole(const struct sim *s, uint64_t applied)
{
    return s->sby.hole_from && ref_floor(s, applied) <= s->sby.hole_from;
}

/*
 * Where it stood when it adopted: what it held when it asked has been applied since, which takes
 * long where a frozen image stood in the way. It says so by the interval that it closes.
 */
static uint64_t stood_at(struct sim *s)
{
    const struct hk_super *super = sby_durable(s);
    uint64_t to = 0;

    if (super->interval_count)
        to = ref_norm(s, super->interval[super->interval_count - 1].to);
    return to > s->sby.gap_lsn && to <= s->nj.durable ? to : s->sby.gap_lsn;
}

/*
 * It said that the log can't go on from where it stands, and that was before the epoch that ends
 * now: nothing of the log below the new one is asked of it any more, since everything is stale.
 * That holds for a line that the primary began because log is missing. What a promotion begins goes
 * on from where this journal ends; what was asked of a superseded primary may stand unanswered.
 */
void naive_adopted(struct sim *s, uint64_t first_lsn, enum hk_epoch_reason reason)
{
    const struct ref_epoch *e = ref_epoch_at(s, first_lsn);
    struct naive_journal *j = &s->nj;
    uint64_t stood;
    bool whole = e > s->ref.epoch && e->first_lsn == first_lsn && e->parent_end > e[-1].first_lsn;

    if (!s->sby.gap_asked || reason < HK_EPOCH_GAP_BEHIND)
        return;
    s->sby.gap_asked = false;
    if (s->forked || !s->dmap || whole || ref_norm(s, first_lsn) <= j->durable)
        return;
    SIM_CHECK(s, "I2", dmap_all_stale(s),
              "the standby, at %llu, begins again at %llu, and not everything is stale",
              ULL(j->durable), ULL(first_lsn));
    /* A hole behind a hole, and no compare ended between: what it holds is still of the first. */
    stood = stood_at(s);
    if (!behind_hole(s, stood))
        s->sby.hole_from = stood;
    ref_hole(s, stood, j->durable, first_lsn);
    j->count = 0;
    j->at = 0;
    j->durable = ref_norm(s, first_lsn);
    naive_segment_changed(s);
}

void naive_free(struct sim *s)
{
    free(s->nj.batch);
    memset(&s->nj, 0, sizeof(s->nj));
}

/* End of the chain that a recovery from `applied` would find in the durable bytes. */
static uint64_t chain_end(struct sim *s, uint64_t applied)
{
    uint64_t at = 4096, pos = 0, found = 0, first, end, next;
    uint32_t seg = UINT32_MAX;

    for (uint32_t i = 0; i < s->o.segment_count; i++) {
        if (segment_ok(s, &s->segment[i], &first) && ref_norm(s, first) <= applied &&
            (seg == UINT32_MAX || first > pos)) {
            seg = i;
            pos = first;
        }
    }
    if (seg == UINT32_MAX)
        return applied;
    while (batch_ok(s, &s->segment[seg], at, pos, &end, &next)) {
        uint32_t there = follows(s, end, &pos);

        found = end;
        at = there == UINT32_MAX ? next : HK_SEGMENT_HEADER_BYTES;
        seg = there == UINT32_MAX ? seg : there;
    }
    return hk_max_u64(found, applied);
}

static void check_replicas(struct sim *s, uint64_t from, uint64_t to, const char *when)
{
    for (unsigned v = 0; v < SIM_VOLUMES; v++) {
        for (unsigned i = 0; i < grow_at(s, v, from); i++) {
            int got = pattern_identify(s->replica[v].good + (size_t)i * SIM_SECTOR, v, i);

            SIM_CHECK(s, "I10",
                      ref_value_between(s, v, i, (uint8_t)got, from, to) ||
                          ref_is_rotted(s, v, i, got, from),
                      "%s: replica + journal is no state of the log: volume %u sector %u durably "
                      "holds %d, which occurs nowhere in [%llu, %llu]",
                      when, v, i, got, ULL(from), ULL(to));
        }
    }
}

/* If the standby lost power at this very moment, would everything it has said still be true? */
void naive_power_cut_now(struct sim *s, const char *when)
{
    struct hk_super super;
    uint64_t applied, end;

    if (s->standby_suspect || s->sby.promoting || s->sby.promoted || s->no_super[1] ||
        s->sby.deaths)
        return;
    s->st.deep_checks++;
    SIM_CHECK(s, "I12", naive_super(&s->super, true, &super), "%s: no valid superblock is durable",
              when);
    if (super.flags & (HK_SF_PROMOTING | HK_SF_PROMOTED))
        return;
    /* Never equal yet: the replica holds what it held before there was any log. */
    if (s->o.initial && super.interval_count == 0)
        return;
    applied = super.applied ? ref_norm(s, super.applied) : HK_LSN_FIRST;
    end = chain_end(s, applied);
    SIM_CHECK(s, "I11", end >= s->sby.said_durable,
              "%s: durable was reported up to %llu, a power cut would leave %llu (applied %llu)",
              when, ULL(s->sby.said_durable), ULL(end), ULL(applied));
    if (s->sby.said_applied > applied)
        applied = s->sby.said_applied;
    /* Behind a hole the replicas are what they were before it, until a compare has ended. */
    if (behind_hole(s, applied))
        applied = hk_min_u64(applied, s->sby.hole_from);
    /* A batch that rotted after it had been durable may have been applied in part: nothing durable
     * says how far. Until the same records have come again the replicas hold some of them. */
    check_replicas(s, applied, hk_max_u64(end, s->ahead_end), when);
    grow_check_standby(s, when);
}
