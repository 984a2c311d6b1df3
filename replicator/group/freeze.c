/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freeze: a mark in the log, and an applier that stands exactly behind it until the image is no
 * longer needed (I14). One at a time. The primary inserts the mark; the standby stores FROZEN in
 * one superblock write with applied = the mark's end, and clears it durably before the applier
 * moves on.
 *
 * While a resync runs no mark can be set. A standby that was asked for it takes its pin instead
 * (`or_pin`), once it has waited long enough: FROZEN beside RESYNC and PINNED. Such an image stands
 * in before-images and replica together; the applier goes on, but not past resync-end, which would
 * give the pin up.
 *
 * The verb is done when the standby says that it is frozen (arg[3] = 2); if that takes too
 * long, but the mark is durable there, it is done as well and says so (arg[3] = 1).
 */
#include "proto/bug.h"
#include "replicator/group/private.h"

#include <errno.h>

static void answer(struct hk_group *g, struct hk_freeze_ask *f, int error, uint64_t saw)
{
    uint64_t arg[4] = {f->lsn, f->end, f->time_ns, saw};
    struct hk_ctl *c;

    if (!f->by_peer) {
        hk_group_verb_done(g, f->op_id, error, 0, error ? NULL : arg);
    } else if (g->primary->control_up) {
        c = hk_group_say(g, HK_CTL_FREEZE_REPLY);
        c->freeze_reply.op_id = f->op_id;
        c->freeze_reply.error = error;
        c->freeze_reply.lsn = f->lsn;
        c->freeze_reply.end = f->end;
    }
    f->stage = HK_ASK_NONE;
}

static void begin_ask(struct hk_group *g, struct hk_freeze_ask *f, uint64_t op_id, const char *name,
                      bool by_peer)
{
    *f = (struct hk_freeze_ask){.op_id = op_id, .by_peer = by_peer, .begun_ns = g->now.mono_ns};
    __builtin_memcpy(f->name, name, HK_NAME_BYTES);
}

/* ---- primary ---- */

void hk_freeze_ask(struct hk_group *g, uint64_t op_id, const char *name, bool by_peer)
{
    struct hk_primary *p = g->primary;
    struct hk_freeze_ask refused;
    int error = 0;

    if (!hk_mark_name_ok(name))
        error = -EINVAL;
    else if (!p->attached || !p->sender.running)
        error = -ENOTCONN;
    else if (p->freeze.stage != HK_ASK_NONE || (p->sender.standby_flags & HK_ACK_FROZEN))
        error = -EBUSY;
    if (error) {
        begin_ask(g, &refused, op_id, name, by_peer);
        answer(g, &refused, error, 0);
        return;
    }
    begin_ask(g, &p->freeze, op_id, name, by_peer);
    p->freeze.stage = HK_ASK_INSERT;
}

/* A mark inside a resync would name no state that may be shown: it waits for the end, or gives up.
 */
static bool must_wait(const struct hk_group *g)
{
    return (g->primary->state == HK_STATE_RESYNC || g->primary->state == HK_STATE_BEHIND);
}

bool hk_freeze_next(struct hk_group *g, struct hk_action *ret)
{
    struct hk_freeze_ask *f = &g->primary->freeze;

    if (f->stage != HK_ASK_INSERT || g->now.mono_ns < f->retry_ns || must_wait(g))
        return false;
    f->stage = HK_ASK_INSERTING;
    f->request = ++g->primary->requests;
    ret->type = HK_ACT_INSERT;
    ret->insert.request = f->request;
    ret->insert.record_type = HK_REC_MARK;
    ret->insert.mark = (struct hk_mark){.op_id = f->op_id, .kind = HK_MARK_FREEZE};
    __builtin_memcpy(ret->insert.mark.name, f->name, HK_NAME_BYTES);
    return true;
}

void hk_freeze_inserted(struct hk_group *g, uint64_t request, int error, uint64_t lsn, uint64_t end)
{
    struct hk_freeze_ask *f = &g->primary->freeze;

    if (f->stage != HK_ASK_INSERTING || f->request != request)
        return;
    if (error == -EAGAIN) {
        f->stage = HK_ASK_INSERT;
        f->retry_ns = g->now.mono_ns + HK_GROUP_INSERT_RETRY_NS;
        return;
    }
    if (error) {
        answer(g, f, error, 0);
        return;
    }
    f->lsn = lsn;
    f->end = end;
    f->time_ns = g->cfg.source->time_at(g->cfg.source, HK_LSN(lsn));
    hk_group_notify(g, HK_NOTE_FREEZE_BEGUN, lsn, end, 0, f->name);
    if (f->by_peer)
        answer(g, f, 0, 0);
    else
        f->stage = HK_ASK_WAITING;
}

void hk_freeze_step(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_freeze_ask *f = &p->freeze;
    bool durable = f->stage == HK_ASK_WAITING && p->durable >= f->end;
    bool frozen = p->sender.standby_flags & HK_ACK_FROZEN;

    if (f->stage == HK_ASK_NONE)
        return;
    if (durable && frozen && p->sender.applied >= f->end)
        answer(g, f, 0, HK_FREEZE_SAW_FROZEN);
    else if (durable && p->sender.applied > f->end)
        answer(g, f, -ECANCELED, 0); /* frozen and ended, and nobody here saw it stand */
    else if (g->now.mono_ns >= f->begun_ns + HK_GROUP_FREEZE_PATIENCE_NS)
        answer(g, f, durable ? 0 : -ETIMEDOUT, HK_FREEZE_SAW_DURABLE);
}

static uint64_t ask_deadline_ns(const struct hk_freeze_ask *f)
{
    if (f->stage == HK_ASK_NONE)
        return UINT64_MAX;
    if (f->stage == HK_ASK_INSERT)
        return f->retry_ns;
    return f->begun_ns + HK_GROUP_FREEZE_PATIENCE_NS;
}

uint64_t hk_freeze_deadline_ns(const struct hk_group *g)
{
    const struct hk_freeze_ask *f = &g->primary->freeze;

    return f->stage == HK_ASK_INSERT && (!g->primary->attached || must_wait(g))
               ? f->begun_ns + HK_GROUP_FREEZE_PATIENCE_NS
               : ask_deadline_ns(f);
}

/* ---- standby: asked for here ---- */

bool hk_standby_frozen(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;

    return (s->freeze_ending && !HK_BUG(freeze_ends_early)) ||
           (hk_standby_super(g)->flags & HK_SF_FROZEN);
}

/* The image is the pin: what the applier does now is none of it. */
bool hk_freeze_of_pin(const struct hk_group *g)
{
    const uint32_t both = HK_SF_FROZEN | HK_SF_RESYNC;

    return (hk_standby_super(g)->flags & both) == both;
}

/* Must the applier stand? */
bool hk_freeze_holds(const struct hk_group *g)
{
    return hk_standby_frozen(g) && !hk_freeze_of_pin(g);
}

/*
 * May a piece of the replica be taken for the image now? Durably frozen, and not ending for want of
 * a superblock that may have said that it had ended: then the applier may have moved on long ago.
 */
/* model: freeze.pml, STILL_FROZEN */
bool hk_freeze_stands(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;

    if (s->freeze_ending && s->freeze_end_why == HK_FREEZE_IN_DOUBT)
        return false;
    return hk_super_store_durable(&s->super)->flags & HK_SF_FROZEN;
}

static void relay(struct hk_group *g)
{
    struct hk_freeze_ask *f = &g->standby->freeze;
    struct hk_ctl *c;

    f->stage = HK_ASK_WAITING;
    f->begun_ns = g->now.mono_ns;
    c = hk_group_say(g, HK_CTL_FREEZE);
    c->freeze.op_id = f->op_id;
    __builtin_memcpy(c->freeze.name, f->name, HK_NAME_BYTES);
}

void hk_freeze_verb(struct hk_group *g, const struct hk_verb *v)
{
    struct hk_standby *s = g->standby;
    int error = 0;

    if (!hk_mark_name_ok(v->name))
        error = -EINVAL;
    else if (s->stage == HK_STAGE_PROMOTED || s->promotion != HK_PROMOTION_NONE)
        error = -EROFS;
    else if (s->stage != HK_STAGE_READY)
        error = -EAGAIN;
    else if (s->replica_failed)
        error = -EIO;
    else if (hk_standby_frozen(g) || s->freeze.stage != HK_ASK_NONE)
        error = -EBUSY;
    else if (!v->or_pin && (!s->control_up || s->session == 0))
        error = -ENOTCONN;
    if (error) {
        hk_group_verb_done(g, v->op_id, error, 0, NULL);
        return;
    }
    begin_ask(g, &s->freeze, v->op_id, v->name, false);
    s->freeze.or_pin = v->or_pin;
    s->freeze.wait_ns = hk_min_u64(v->wait_ns, HK_GROUP_FREEZE_PATIENCE_NS);
    if (v->or_pin)
        s->freeze.stage = HK_ASK_INSERT;
    else
        relay(g);
}

/* ---- standby: the pin in place of a mark ---- */

/* As far as this side knows: a mark would only wait at the primary. */
static bool mark_must_wait(const struct hk_standby *s, const struct hk_super *super)
{
    return !s->control_up || s->session == 0 || (super->flags & HK_SF_RESYNC) ||
           s->barrier == HK_BARRIER_PINNING || s->told_state == HK_STATE_BEHIND ||
           s->told_state == HK_STATE_RESYNC;
}

/* 0: being stored. */
static int take_pin(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);
    const uint32_t both = HK_SF_PINNED | HK_SF_RESYNC;
    int slot = hk_snapshots_pin(&s->snapshots);

    if (s->promotion != HK_PROMOTION_NONE || s->stage != HK_STAGE_READY)
        return -EROFS;
    if (!(super->flags & HK_SF_RESYNC))
        return s->session == 0 ? -ENOTCONN : -ETIMEDOUT;
    if ((super->flags & both) != both || slot < 0)
        return -ENODATA;
    super->flags |= HK_SF_FROZEN;
    super->freeze_lsn = super->pin_lsn;
    super->freeze_time_ns = s->snapshots.slot[slot].header.time_ns;
    __builtin_memcpy(super->freeze_name, s->freeze.name, HK_NAME_BYTES);
    s->freeze.lsn = s->freeze.end = super->freeze_lsn;
    s->freeze.time_ns = super->freeze_time_ns;
    s->freeze.stage = HK_ASK_INSERTING;
    s->freeze_pin_ticket = hk_standby_put(g);
    return 0;
}

static void say_pin_is_image(struct hk_group *g, const struct hk_super *super)
{
    uint64_t now_ns = g->now.real_ns, taken_ns = super->freeze_time_ns;

    hk_group_notify(g, HK_NOTE_PIN_YIELDED, super->freeze_lsn,
                    now_ns > taken_ns ? now_ns - taken_ns : 0, 0, super->freeze_name);
}

static void pin_taken(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!hk_standby_stored(g, s->freeze_pin_ticket))
        return;
    if (!hk_freeze_of_pin(g) || s->freeze_ending) { /* it had to end before it was said to stand */
        answer(g, &s->freeze, -ECANCELED, 0);
        return;
    }
    hk_receiver_ack_now(&s->receiver);
    say_pin_is_image(g, hk_standby_super(g));
    answer(g, &s->freeze, 0, HK_FREEZE_SAW_PIN);
}

static void wait_or_take_pin(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    int error;

    if (s->barrier == HK_BARRIER_STORING)
        return; /* it may be the pin that comes or goes */
    if (!mark_must_wait(s, hk_standby_super(g))) {
        relay(g);
        return;
    }
    if (g->now.mono_ns < s->freeze.begun_ns + s->freeze.wait_ns)
        return;
    error = take_pin(g);
    if (error)
        answer(g, &s->freeze, error, 0);
}

/* The life before may have died between storing it and saying so: whoever waits is told now. */
void hk_freeze_say_again(struct hk_group *g)
{
    const struct hk_super *super = hk_super_store_durable(&g->standby->super);

    if (!(super->flags & HK_SF_FROZEN) || g->standby->freeze_ending)
        return;
    if (super->flags & HK_SF_RESYNC)
        say_pin_is_image(g, super);
    else if (g->standby->barrier == HK_BARRIER_NONE)
        hk_group_notify(g, HK_NOTE_FROZEN, super->freeze_lsn, 0, 0, super->freeze_name);
}

void hk_freeze_reply(struct hk_group *g, const struct hk_ctl *c)
{
    struct hk_freeze_ask *f = &g->standby->freeze;

    if (f->stage != HK_ASK_WAITING || f->op_id != c->freeze_reply.op_id)
        return;
    if (c->freeze_reply.error) {
        answer(g, f, c->freeze_reply.error, 0);
        return;
    }
    f->lsn = c->freeze_reply.lsn;
    f->end = c->freeze_reply.end;
}

void hk_freeze_reached(struct hk_group *g, uint64_t end, const char *name)
{
    struct hk_freeze_ask *f = &g->standby->freeze;

    if (f->stage != HK_ASK_WAITING || __builtin_memcmp(f->name, name, HK_NAME_BYTES) != 0)
        return;
    f->lsn = end - hk_record_bytes(sizeof(struct hk_mark));
    f->end = end;
    f->time_ns = hk_standby_super(g)->freeze_time_ns;
    answer(g, f, 0, HK_FREEZE_SAW_FROZEN);
}

/* ---- standby: the end of a freeze ---- */

/* model: freeze.pml, FREEZE_END_PUT */
void hk_freeze_end(struct hk_group *g, enum hk_freeze_end why, uint64_t op_id)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);

    HK_ASSERT(!s->freeze_ending && (super->flags & HK_SF_FROZEN));
    s->freeze_ending = true;
    s->freeze_end_why = why;
    s->freeze_end_op = op_id;
    __builtin_memcpy(s->freeze_end_name, super->freeze_name, HK_NAME_BYTES);
    super->flags &= ~(uint32_t)HK_SF_FROZEN;
    super->freeze_lsn = super->freeze_time_ns = 0;
    __builtin_memset(super->freeze_name, 0, HK_NAME_BYTES);
    s->freeze_end_ticket = hk_standby_put(g);
}

void hk_freeze_end_verb(struct hk_group *g, const struct hk_verb *v)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super;

    if (s->stage < HK_STAGE_READY) {
        hk_group_verb_done(g, v->op_id, -EAGAIN, 0, NULL);
        return;
    }
    super = hk_standby_super(g);
    if (s->freeze_ending)
        hk_group_verb_done(g, v->op_id, -EBUSY, 0, NULL);
    else if (!(super->flags & HK_SF_FROZEN) || s->barrier == HK_BARRIER_STORING ||
             __builtin_memcmp(super->freeze_name, v->name, HK_NAME_BYTES) != 0)
        hk_group_verb_done(g, v->op_id, -ENOENT, 0, NULL);
    else
        hk_freeze_end(g, HK_FREEZE_RELEASED, v->op_id);
}

/* model: freeze.pml, FREEZE_ENDED */
static void freeze_ended(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    s->freeze_ending = false;
    hk_receiver_ack_now(&s->receiver);
    hk_group_notify(g, HK_NOTE_FREEZE_ENDED, s->freeze_end_why, 0, 0, s->freeze_end_name);
    if (s->freeze_end_op)
        hk_group_verb_done(g, s->freeze_end_op, 0, s->freeze_end_why, NULL);
    s->freeze_end_op = 0;
    if (s->barrier == HK_BARRIER_FROZEN) {
        s->barrier = HK_BARRIER_NONE;
        hk_apply_resume(&s->apply);
    }
}

/* Room and the time to take over come before an image. */
static void end_if_needed(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t used = hk_journal_used(&s->journal), total = hk_journal_total(&s->journal);

    if (s->stage != HK_STAGE_READY || s->barrier == HK_BARRIER_STORING)
        return;
    if (used >= total / 100 * HK_GROUP_JOURNAL_PERCENT || s->journal_full)
        hk_freeze_end(g, HK_FREEZE_JOURNAL_FULL, 0);
    else if (hk_standby_lag_bytes(g) >= g->cfg.apply_lag_bytes_max)
        hk_freeze_end(g, HK_FREEZE_RTO_BOUND, 0);
}

/* No mark comes any more, and nobody takes a step here from now on: whoever waits is told. */
void hk_freeze_promoting(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->freeze.stage != HK_ASK_NONE)
        answer(g, &s->freeze, -EROFS, 0);
}

void hk_freeze_standby_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->freeze.stage == HK_ASK_INSERT)
        wait_or_take_pin(g);
    else if (s->freeze.stage == HK_ASK_INSERTING)
        pin_taken(g);
    else if (s->freeze.stage == HK_ASK_WAITING &&
             g->now.mono_ns >= s->freeze.begun_ns + HK_GROUP_FREEZE_PATIENCE_NS)
        answer(g, &s->freeze, -ETIMEDOUT, 0);
    if (s->freeze_ending) {
        if (hk_standby_stored(g, s->freeze_end_ticket))
            freeze_ended(g);
    } else if (hk_standby_super(g)->flags & HK_SF_FROZEN) {
        end_if_needed(g);
    }
}

uint64_t hk_freeze_standby_deadline_ns(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;

    if (s->freeze.stage == HK_ASK_INSERTING ||
        (s->freeze.stage == HK_ASK_INSERT && s->barrier == HK_BARRIER_STORING))
        return UINT64_MAX; /* the disk's answer is an event */
    if (s->freeze.stage == HK_ASK_INSERT)
        return s->freeze.begun_ns + s->freeze.wait_ns;
    return ask_deadline_ns(&s->freeze);
}
