/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference's epochs: which LSNs belong to which run of the log, where a run ended, and which
 * positions are states that a power cut could have left (SPEC.md §5). Learnt from the primary's
 * durable metadata and from the control records, when a record of a new epoch stands in the ring.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define ULL(x) ((unsigned long long)(x))

static void take_epoch(struct sim *s, const struct hk_epoch *e)
{
    struct ref_epoch *n = &s->ref.epoch[s->ref.epoch_count++];

    n->id = e->id;
    n->first_lsn = e->first_lsn;
    n->parent_end = e->parent_end;
    n->ordinal = e->ordinal;
    n->reason = e->reason;
    memcpy(&n->seed, e->id.b, 8);
}

void ref_epochs_reset(struct sim *s)
{
    struct hk_epoch first = {.id = s->epoch_id, .first_lsn = HK_LSN_FIRST, .ordinal = 1};

    s->ref.epoch_count = 0;
    s->ref.interval_count = s->o.initial ? 0 : 1;
    s->ref.interval[0] = (struct ref_interval){HK_LSN_FIRST, 0};
    s->ref.resync = false;
    s->ref.used_end = HK_LSN_FIRST;
    take_epoch(s, &first);
}

const struct ref_epoch *ref_epoch_at(const struct sim *s, uint64_t lsn)
{
    uint32_t i = s->ref.epoch_count;

    while (i > 1 && s->ref.epoch[i - 1].first_lsn > lsn)
        i--;
    return &s->ref.epoch[i - 1];
}

bool ref_epoch_known(const struct sim *s, const struct hk_uuid *id)
{
    uint32_t i = 0;

    while (i < s->ref.epoch_count && memcmp(&s->ref.epoch[i].id, id, sizeof(*id)) != 0)
        i++;
    return i < s->ref.epoch_count;
}

uint64_t ref_norm(const struct sim *s, uint64_t lsn)
{
    for (uint32_t i = s->ref.epoch_count; i-- > 1;) {
        const struct ref_epoch *e = &s->ref.epoch[i];

        if (lsn <= e->first_lsn && lsn > e->parent_end)
            lsn = e->parent_end;
    }
    return lsn;
}

uint64_t ref_bytes(const struct sim *s, uint64_t from, uint64_t to)
{
    uint64_t bytes;

    from = ref_norm(s, from);
    to = ref_norm(s, to);
    if (to <= from)
        return 0;
    bytes = to - from;
    for (uint32_t i = 1; i < s->ref.epoch_count; i++) {
        const struct ref_epoch *e = &s->ref.epoch[i];

        if (e->parent_end >= from && e->first_lsn <= to)
            bytes -= e->first_lsn - e->parent_end;
    }
    return bytes;
}

uint64_t ref_records(const struct sim *s, uint64_t from, uint64_t to)
{
    uint64_t n = 0;

    from = ref_norm(s, from);
    to = ref_norm(s, to);
    for (uint32_t i = s->ref.count; i-- > 0 && s->ref.rec[i].end > from;)
        n += s->ref.rec[i].end <= to && !s->ref.rec[i].dead;
    return n;
}

uint64_t ref_floor(const struct sim *s, uint64_t lsn)
{
    lsn = ref_norm(s, lsn);
    for (uint32_t i = s->ref.interval_count; i-- > 0;) {
        const struct ref_interval *v = &s->ref.interval[i];

        if (v->from <= lsn)
            return v->to && v->to < lsn ? v->to : lsn;
    }
    return 0;
}

bool ref_is_consistent(const struct sim *s, uint64_t lsn)
{
    return ref_floor(s, lsn) == ref_norm(s, lsn);
}

static void close_interval(struct sim *s, uint64_t at)
{
    struct ref *r = &s->ref;

    while (r->interval_count && r->interval[r->interval_count - 1].from > at)
        r->interval_count--;
    if (r->interval_count == 0)
        return;
    if (!r->interval[r->interval_count - 1].to || r->interval[r->interval_count - 1].to > at)
        r->interval[r->interval_count - 1].to = at;
}

void ref_hole(struct sim *s, uint64_t at, uint64_t durable, uint64_t next)
{
    close_interval(s, at);
    /* What a compare finds equal is never sent: it is what the standby had, and not what was given
     * in the hole. */
    ref_cut(s, hk_max_u64(at, durable), next);
}

static const struct hk_epoch *newest(struct sim *s)
{
    const struct hk_history *h = &md_durable(s)->history;

    return &h->epoch[h->count - 1];
}

/* I12: whatever broke the run, no LSN is given twice, and the new one hangs on the old one's id. */
static void check_epoch(struct sim *s, const struct hk_epoch *e)
{
    const struct ref_epoch *last = &s->ref.epoch[s->ref.epoch_count - 1];
    uint64_t used;

    SIM_CHECK(s, "I12", s->ref.epoch_count < REF_EPOCHS_MAX, "too many epochs for this run");
    SIM_CHECK(s, "I12", memcmp(&e->parent, &last->id, 16) == 0 && e->ordinal == last->ordinal + 1,
              "epoch %u does not follow epoch %u", e->ordinal, last->ordinal);
    /* What a primary that was set back has forgotten, and nobody else has, may come again. */
    used =
        s->vanished & 1u << C_MD ? hk_min_u64(s->ref.used_end, budget_durable(s)) : s->ref.used_end;
    SIM_CHECK(s, "I12", e->first_lsn >= used,
              "epoch %u begins at LSN %llu, but LSNs were given up to %llu", e->ordinal,
              ULL(e->first_lsn), ULL(used));
    SIM_CHECK(s, "I12", e->parent_end <= e->first_lsn && e->parent_end >= last->first_lsn,
              "epoch %u: its parent, from %llu on, is said to end at %llu", e->ordinal,
              ULL(last->first_lsn), ULL(e->parent_end));
    SIM_CHECK(s, "I12", e->parent_end > s->ref.used_end || ref_is_boundary(s, e->parent_end),
              "epoch %u: its parent ends inside a record, at %llu", e->ordinal, ULL(e->parent_end));
}

/*
 * A primary that was set back, and gave LSNs a second content since, is told where the standby
 * stands: everything is stale before its new epoch begins. What it had given is in no reference.
 */
static void forked_returns(struct sim *s, const struct hk_epoch *e)
{
    if (e->reason < HK_EPOCH_GAP_BEHIND || e->first_lsn <= s->fork_lsn)
        return;
    SIM_CHECK(s, "I12", !s->dmap || dmap_all_stale(s),
              "the primary had been rolled back to %llu, its new epoch %u begins, and not "
              "everything is stale",
              ULL(s->fork_lsn), e->ordinal);
    s->over = true;
}

/*
 * A primary that was set back to before its newest epochs begins others in their place. If nobody
 * has anything of those they never were; else this is a fork.
 */
static void forget_epochs(struct sim *s, const struct hk_epoch *e)
{
    struct ref *r = &s->ref;
    uint32_t k = r->epoch_count;

    while (k > 1 && r->epoch[k - 1].ordinal >= e->ordinal)
        k--;
    if (k == r->epoch_count || r->epoch[k].ordinal != e->ordinal || !(s->vanished & 1u << C_MD) ||
        memcmp(&r->epoch[k].id, &e->id, sizeof(e->id)) == 0)
        return;
    if (s->sent_end > r->epoch[k].first_lsn) {
        s->forked = true;
        s->fork_lsn = r->epoch[k].parent_end;
        return;
    }
    ref_rewind(s, r->epoch[k].first_lsn);
    r->epoch_count = k;
}

/* The metadata have been written: does an epoch begin? Nothing is given in the old one any more. */
void ref_epoch_look(struct sim *s)
{
    const struct hk_epoch *e = newest(s);
    struct ref *r = &s->ref;

    if (!s->forked)
        forget_epochs(s, e);
    if (s->forked)
        forked_returns(s, e);
    if (s->forked || e->ordinal <= r->epoch[r->epoch_count - 1].ordinal)
        return;
    check_epoch(s, e);
    sim_trace(s, "epoc %llu begins at %llu, parent's end %llu", e->ordinal, e->first_lsn,
              e->parent_end);
    take_epoch(s, e);
    sim_struck(s, F_BEHIND);
    if (e->first_lsn < r->used_end) { /* of what was forgotten nothing is in the ring */
        ref_rewind(s, e->parent_end);
        budget_given_again(s, e->first_lsn);
    }
    ref_cut(s, e->parent_end, e->first_lsn);
    r->used_end = e->first_lsn;
    if (s->vanished & 1u << C_MD) /* nobody remembers what it had given */
        app_forgotten(s, e->first_lsn);
    s->cap.durable_taken = hk_min_u64(s->cap.durable_taken, e->parent_end);
    close_interval(s, ref_norm(s, e->parent_end));
    r->resync = false;
    r->next_lsn = e->first_lsn;
}

/* A compare is good from resync-begin on: whatever is written behind it has a record. */
static bool uncaptured_at_origin(const struct sim *s)
{
    for (const struct sim_op *op = s->cap.ops.next; op != &s->cap.ops; op = op->next) {
        if (op->in_origin && !op->op.captured && op->op.length > 0 && op->op.type != HK_REC_BLOCK)
            return true;
    }
    return false;
}

void ref_control(struct sim *s, const struct ref_rec *r)
{
    const struct ref_epoch *e = ref_epoch_at(s, r->lsn);
    struct ref *ref = &s->ref;

    SIM_CHECK(s, "I12", r->type != HK_REC_GAP || r->lsn == e->first_lsn,
              "a gap at LSN %llu, the epoch begins at %llu", ULL(r->lsn), ULL(e->first_lsn));
    if (r->lsn == e->first_lsn && e->reason >= HK_EPOCH_GAP_BEHIND)
        SIM_CHECK(s, "I12", r->type == HK_REC_GAP, "epoch %u does not open with a gap", e->ordinal);
    if (r->type == HK_REC_RESYNC_BEGIN) {
        SIM_CHECK(s, "I2", s->forked || !uncaptured_at_origin(s),
                  "a resync begins at LSN %llu while an uncaptured write is at the origin",
                  ULL(r->lsn));
        close_interval(s, r->lsn);
        ref->resync = true;
        s->heals = 0;
        s->heals_due = s->dmap ? dmap_count_stale(s) : 0;
    }
    if (r->type == HK_REC_BAD_RANGE) {
        SIM_CHECK(s, "I2", s->origin_unread,
                  "a bad-range record at LSN %llu, and every block could be read", ULL(r->lsn));
        for (uint64_t i = 0; i < r->length / SIM_SECTOR; i++)
            ref->bad[r->volume][r->offset / SIM_SECTOR + i] = r->end;
    }
    if (r->type == HK_REC_RESYNC_END) {
        SIM_CHECK(s, "I10", ref->resync, "a resync-end at LSN %llu without a begin", ULL(r->lsn));
        SIM_CHECK(s, "I16", ref->interval_count < REF_INTERVALS_MAX, "too many resyncs for a run");
        ref->interval[ref->interval_count++] = (struct ref_interval){r->end, 0};
        ref->resync = false;
    }
    sim_trace(s, "ctrl record type %llu at %llu, end %llu", r->type, r->lsn, r->end);
}
