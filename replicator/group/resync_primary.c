/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's share of a resync: when the log is cut off, the way back to it (RETURN); while
 * regions are stale, the engine's steps as actions (core/resync).
 *
 * RETURN is asked for when the capture side has closed the epoch, a session of it stands, and the
 * standby's durable has reached the end of what can be sent. Where that is, after a lost ring, only
 * the standby knows. A standby that can't go on from where it stands (hk_welcome.gap) has no
 * session: first everything becomes stale here, durably, then RETURN names its position; the HELLO
 * of the new epoch says that this was done.
 *
 * The compare runs only in a session whose control connection stands: a question that is lost with
 * the connection is lost with the engine's state, and both begin again with the next session.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"

#include <errno.h>

/* ---- the way back ---- */

/* The standby can't go on from where it stands: everything may differ. */
void hk_primary_gap(struct hk_group *g, enum hk_refusal why, uint64_t standby_lsn)
{
    struct hk_way_back *w = &g->primary->back;

    g->primary->told_all_stale = false; /* this side's word was not enough */
    if (w->gap) { /* said before, on a connection that broke; no region was healed since */
        w->gap_lsn = standby_lsn;
        return;
    }
    *w = (struct hk_way_back){.gap = why, .gap_lsn = standby_lsn, .stale_all_due = true};
    hk_group_notify(g, HK_NOTE_GAP_NEEDED, why, standby_lsn, g->primary->durable, NULL);
}

/* The session of the closed epoch has carried all that it can. */
static bool is_drained(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;
    const struct hk_sender *s = &p->sender;
    struct hk_source *source = g->cfg.source;
    struct hk_source_view view = {.next = HK_LSN(0)};

    if (!s->running || s->durable < s->next || s->contact_ns == 0 ||
        !hk_uuid_equal(&p->session_epoch, &hk_history_last(&p->super.history)->id))
        return false;
    if (p->cut_lsn && p->cut_lsn == s->next)
        return true; /* what comes next here is damaged: nobody will ever send it */
    if (s->next < hk_primary_spool_tail(p))
        return false;
    if (s->next < p->produced || (source->produced && source->produced(source).v > s->next))
        return false;
    return !(source->look && source->look(source, &view)) || view.next.v <= s->next;
}

/* Where the parent ends, if RETURN is to be asked for now; 0: not now. */
static uint64_t return_wanted(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;

    if (!p->attached || !p->have_super || p->super.history.count == 0)
        return 0;
    if (p->back.gap)
        return p->back.all_stale ? hk_max_u64(p->back.gap_lsn, HK_RECORD_ALIGN) : 0;
    return p->closed && (is_drained(g) || HK_BUG(gap_before_tail)) ? p->sender.durable : 0;
}

/* model: resync.pml, RETURNED */
static bool next_return(struct hk_group *g, struct hk_action *ret)
{
    struct hk_primary *p = g->primary;
    uint64_t lsn;

    if (g->now.mono_ns < p->back.retry_ns)
        return false;
    if (p->back.stale_all_due && p->attached) {
        p->back.stale_all_due = false;
        ret->type = HK_ACT_STALE_ALL;
        return true;
    }
    lsn = return_wanted(g);
    if (lsn == 0)
        return false;
    p->back.retry_ns = g->now.mono_ns + HK_GROUP_RETURN_RETRY_NS;
    p->back.asked_lsn = lsn;
    ret->type = HK_ACT_RETURN;
    ret->parent_end = HK_LSN(lsn);
    return true;
}

static void returned(struct hk_group *g, int error)
{
    struct hk_primary *p = g->primary;

    /* The ring is whole, and the standby has more than was ever in it. */
    if (error == -ERANGE && !p->back.gap && p->sender.running &&
        p->sender.durable == p->back.asked_lsn)
        hk_primary_gap(g, HK_REFUSE_AHEAD, p->sender.durable);
}

void hk_primary_new_epoch(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    const struct hk_epoch *e = hk_history_last(&p->super.history);

    hk_group_notify(g, HK_NOTE_EPOCH, e->ordinal, e->first_lsn, e->reason, NULL);
    p->told_all_stale = p->back.gap && p->back.all_stale;
    p->back = (struct hk_way_back){.gap = HK_REFUSE_NONE};
    p->cut_lsn = 0;
}

/* ---- the compare ---- */

static bool may_compare(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;

    return p->sender.running && p->control_up && !p->greeting && !p->closed && p->attached &&
           p->stale_bytes > 0 && !p->back.gap && !p->contact_lost &&
           hk_uuid_equal(&p->session_epoch, &hk_history_last(&p->super.history)->id);
}

static void say_progress(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_resync_status st;
    uint32_t tenth;

    hk_resync_status(&p->resync, g->now.mono_ns, &st);
    if (st.total_bytes == 0)
        return;
    tenth = (uint32_t)((unsigned __int128)(st.total_bytes - st.stale_bytes) * 10 / st.total_bytes);
    if (tenth <= p->resync_tenth)
        return;
    p->resync_tenth = tenth;
    hk_group_notify(g, HK_NOTE_RESYNC_PROGRESS, tenth * 10, st.stale_bytes, st.eta_ns, NULL);
    if (st.unequal_blocks > p->resync_unequal)
        hk_group_notify(g, HK_NOTE_RESYNC_MISMATCH, st.unequal_blocks, st.compared_bytes,
                        st.unreadable_bytes, NULL);
    p->resync_unequal = st.unequal_blocks;
}

static void compare_begins(struct hk_group *g)
{
    struct hk_primary *p = g->primary;

    hk_resync_start(&p->resync, g->now.mono_ns);
    if (p->resync_said)
        return;
    p->resync_said = true;
    p->resync_tenth = 0;
    p->resync_unequal = 0;
    hk_group_notify(g, HK_NOTE_RESYNC_STARTED, p->stale_bytes, 0, 0, NULL);
}

static void resync_is_over(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_resync_status st;

    hk_resync_status(&p->resync, g->now.mono_ns, &st);
    if (st.unequal_blocks > p->resync_unequal)
        hk_group_notify(g, HK_NOTE_RESYNC_MISMATCH, st.unequal_blocks, st.compared_bytes,
                        st.unreadable_bytes, NULL);
    hk_group_notify(g, HK_NOTE_RESYNC_ENDED, st.compared_bytes, st.sent_bytes,
                    g->now.mono_ns - hk_min_u64(st.begun_ns, g->now.mono_ns), NULL);
    hk_resync_over(&p->resync);
    p->resync_said = false;
}

void hk_primary_resync_stop(struct hk_group *g, bool capture_gone)
{
    struct hk_primary *p = g->primary;

    if (p->resync.running && p->stale_bytes > 0)
        hk_group_notify(g, HK_NOTE_RESYNC_INTERRUPTED, p->stale_bytes, 0, 0, NULL);
    if (p->resync.running || capture_gone)
        hk_resync_stop(&p->resync, capture_gone);
}

void hk_primary_resync_step(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_resync_load load = {
        .produced = p->sender.running ? hk_max_u64(p->produced, p->sender.next) : p->produced,
        .durable = p->sender.running ? p->sender.durable : p->durable,
        .applied = p->sender.running ? p->sender.applied : p->durable,
        .stale_bytes = p->stale_bytes,
    };

    hk_resync_load(&p->resync, &load, g->now.mono_ns);
    if (!may_compare(g))
        hk_primary_resync_stop(g, false);
    else if (!p->resync.running)
        compare_begins(g);
    if (p->resync.running)
        say_progress(g);
    if (p->resync_said && p->stale_bytes == 0 && p->attached && !p->closed)
        resync_is_over(g);
}

static bool next_step(struct hk_group *g, struct hk_action *ret)
{
    struct hk_primary *p = g->primary;
    struct hk_resync_step step;

    if (!hk_resync_next(&p->resync, g->now.mono_ns, &step))
        return false;
    switch (step.kind) {
    case HK_RSTEP_STALE_ASK:
        ret->type = HK_ACT_STALE_ASK;
        ret->stale_ask.volume = step.volume;
        ret->stale_ask.offset = step.offset;
        break;
    case HK_RSTEP_HASH:
        ret->type = HK_ACT_HASH;
        ret->hash.ask = step.ask;
        __builtin_memcpy(ret->hash.key, p->peer.compare_key, sizeof(ret->hash.key));
        break;
    case HK_RSTEP_ASK:
        ret->type = HK_ACT_CONTROL_OUT;
        __builtin_memset(&ret->control, 0, sizeof(ret->control));
        ret->control.type = HK_CTL_HASH_ASK;
        ret->control.hash_ask = step.ask;
        break;
    case HK_RSTEP_BLOCK:
        ret->type = HK_ACT_BLOCK;
        ret->block.request = step.request;
        ret->block.volume = step.volume;
        ret->block.offset = step.offset;
        ret->block.bytes = step.bytes;
        break;
    case HK_RSTEP_HEAL:
        ret->type = HK_ACT_HEAL;
        ret->heal.request = step.request;
        ret->heal.volume = step.volume;
        ret->heal.offset = step.offset;
        ret->heal.event = step.event;
        ret->heal.end = HK_LSN(step.end);
        break;
    }
    return true;
}

bool hk_primary_resync_next(struct hk_group *g, struct hk_action *ret)
{
    return next_return(g, ret) || (may_compare(g) && next_step(g, ret));
}

void hk_primary_resync_event(struct hk_group *g, const struct hk_event *e)
{
    struct hk_primary *p = g->primary;
    struct hk_resync *r = &p->resync;
    uint64_t now_ns = g->now.mono_ns;

    switch (e->type) {
    case HK_EV_STALE:
        hk_resync_stale(r, e->stale.found, e->stale.volume, e->stale.offset, e->stale.bytes,
                        e->stale.event, e->stale.after.v, now_ns);
        break;
    case HK_EV_HASHED: hk_resync_hashed(r, e->hashed); break;
    case HK_EV_BLOCK_DONE:
        hk_resync_block_done(r, e->block_done.request, e->block_done.error, e->block_done.end.v,
                             now_ns);
        break;
    case HK_EV_HEALED: hk_resync_healed(r, e->healed.request, e->healed.error, now_ns); break;
    case HK_EV_ALL_STALE:
        p->back.all_stale = p->back.gap && e->done.error == 0;
        p->back.stale_all_due = p->back.gap && e->done.error != 0;
        if (p->back.stale_all_due)
            p->back.retry_ns = now_ns + HK_GROUP_RETURN_RETRY_NS;
        break;
    case HK_EV_RETURNED: returned(g, e->done.error); break;
    case HK_EV_PRODUCED:
    case HK_EV_CAPTURE:
    case HK_EV_FRAME_IN:
    case HK_EV_BAD_FRAME:
    case HK_EV_DISK_DONE:
    case HK_EV_CONTROL_UP:
    case HK_EV_CONTROL_IN:
    case HK_EV_CONTROL_DOWN:
    case HK_EV_LINK:
    case HK_EV_TIMER:
    case HK_EV_VERB:
    case HK_EV_INSERTED:
    case HK_EV_RESIZED:
    case HK_EV_RING_LOST: HK_ASSERT(!"no answer of a resync");
    }
}

void hk_primary_resync_verb(struct hk_group *g, const struct hk_verb *v)
{
    struct hk_resync *r = &g->primary->resync;

    if (v->kind == HK_VERB_THROTTLE)
        hk_resync_throttle(r, v->rate_bytes_s);
    else
        hk_resync_pause(r, v->kind == HK_VERB_PAUSE);
    hk_group_verb_done(g, v->op_id, 0, 0, NULL);
}

/* An answer from the other site: it may say anything. */
void hk_primary_hashes(struct hk_group *g, const struct hk_hashes *h)
{
    if (hk_resync_answered(&g->primary->resync, h) == 0)
        return;
    g->control_bad++;
    hk_primary_turn_away(g, HK_REFUSE_MALFORMED, NULL);
}

uint64_t hk_primary_resync_deadline_ns(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;
    uint64_t at = may_compare(g) ? hk_resync_deadline_ns(&p->resync) : UINT64_MAX;

    if ((p->back.stale_all_due && p->attached) || return_wanted(g))
        at = hk_min_u64(at, p->back.retry_ns);
    return at;
}
