/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary: wires the sender to the capture side. A session lives from WELCOME until it is
 * replaced by the next one, refused, said goodbye to, or its ring is gone. Losing the control
 * connection does not end it: frames go on as long as the standby takes them, so a line that heals
 * carries log at once. After T without an ack the control connection is given up, too, since a half
 * open one can't tell; the daemon connects again at its own pace and a new session follows.
 *
 * released: durable at the standby, or in the spool (spool_primary.c); the ring keeps the rest.
 */
#include "replicator/group/private.h"

#include <errno.h>

static struct hk_sender_cfg sender_cfg(const struct hk_group_cfg *cfg)
{
    struct hk_sender_cfg c = {
        .path_count = cfg->path_count,
        .rate_max_bytes_s = cfg->rate_max_bytes_s,
        .ping_interval_ns = hk_group_ping_interval_ns(cfg),
    };

    for (uint32_t i = 0; i < cfg->path_count; i++)
        c.frame_body_max[i] = cfg->frame_body_max[i];
    return c;
}

size_t hk_primary_memory(const struct hk_group_cfg *cfg)
{
    struct hk_sender_cfg c = sender_cfg(cfg);

    return sizeof(struct hk_primary) + 64 + hk_sender_memory(&c) + hk_primary_spool_memory(cfg);
}

int hk_primary_init(struct hk_group *g, struct hk_arena *arena)
{
    struct hk_sender_cfg c = sender_cfg(&g->cfg);
    struct hk_primary *p = hk_arena_take(arena, sizeof(*p), 64);
    int err;

    if (!p)
        return -ENOMEM;
    __builtin_memset(p, 0, sizeof(*p));
    p->state = HK_STATE_DETACHED;
    g->primary = p;
    hk_resync_init(&p->resync, g->now.mono_ns);
    err = hk_primary_spool_init(g, arena);
    return err ? err : hk_sender_init(&p->sender, &c, arena, g->now.mono_ns);
}

/* ---- session ---- */

/*
 * What a HELLO on its way does not know of is not sent before it is answered, else the standby
 * could have more than the HELLO says was ever produced, and ask for a compare of everything.
 */
static void tell_sender(struct hk_primary *p)
{
    if (!p->greeting)
        hk_sender_produced(&p->sender, p->produced);
}

static void end_session(struct hk_group *g, enum hk_refusal why)
{
    struct hk_primary *p = g->primary;

    p->greeting = false;
    hk_primary_resize_cut(g);
    hk_primary_resync_stop(g, false);
    if (!p->sender.running)
        return;
    hk_sender_stop(&p->sender);
    p->contact_lost = false;
    hk_group_notify(g, HK_NOTE_SESSION_DOWN, why, 0, 0, NULL);
}

static void close_control(struct hk_group *g)
{
    struct hk_primary *p = g->primary;

    if (!p->control_up)
        return;
    p->control_up = p->greeting = false;
    tell_sender(p);
    hk_primary_resize_cut(g);
    hk_group_queue(g, HK_ACT_CONTROL_CLOSE);
}

/*
 * The other side was promoted, or lives in a newer epoch: what is produced here is no part of the
 * group any more, and nothing here can tell what the group would lose.
 */
static void note_role(struct hk_group *g, enum hk_refusal why)
{
    struct hk_primary *p = g->primary;

    if (why != HK_REFUSE_OLDER_EPOCH && why != HK_REFUSE_PROMOTED && why != HK_REFUSE_DIVERGED)
        return;
    if (!p->role_lost)
        hk_group_notify(g, HK_NOTE_ROLE_LOST, why, p->durable, p->produced, NULL);
    p->role_lost = why;
}

/* A failover would lose more than the log lacks then, and nothing here can tell how much. */
static void note_copy(struct hk_group *g, enum hk_refusal why)
{
    if (why == HK_REFUSE_FULL_COMPARE || why == HK_REFUSE_LOST_DURABLE || why == HK_REFUSE_AHEAD)
        g->primary->copy_unknown = true;
}

/* The other side hears why, and the connection ends. */
void hk_primary_turn_away(struct hk_group *g, enum hk_refusal why, const uint64_t detail[2])
{
    hk_group_refuse(g, why, detail);
    note_role(g, why);
    note_copy(g, why);
    g->primary->control_up = false;
    end_session(g, why);
}

/* model: session.pml, HELLO_SENT */
void hk_primary_greet(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_hello *h = &p->hello;
    struct hk_ctl *c;

    if (!p->control_up || !p->attached || !p->have_super || p->super.history.count == 0)
        return;
    if (!hk_primary_spool_started(g))
        return; /* again when it is known what can be sent */
    *h = (struct hk_hello){
        .version_min = HK_CTL_VERSION_MIN,
        .version_max = HK_CTL_VERSION_MAX,
        .group_id = g->cfg.group_id,
        .site_id = g->cfg.site_id,
        .host_id = g->cfg.host_id,
        .replica_id = p->super.replica_id,
        .peer_replica_id = p->super.peer_replica_id,
        .config_hash = g->cfg.config_hash,
        .lease = p->lease,
        .released = hk_primary_sendable_from(p),
        .acked = p->acked,
        .durable = p->durable,
        .produced = p->produced,
        .ceiling = hk_max_u64(p->super.ceiling, p->produced),
        .mode = p->super.mode,
        .on_link_loss = p->super.on_link_loss,
        .contact_timeout_ns = g->cfg.contact_timeout_ns,
        .super_flags = p->super.flags,
        .volume_count = g->cfg.volume_count,
        .epoch = *hk_history_last(&p->super.history),
        .ring_id = p->super.ring_id,
        .ring_first_lsn = p->super.ring_first_lsn,
        .stale_bytes = p->stale_bytes,
        .map = p->super.region_shift != 0,
        .all_stale = p->told_all_stale,
        .closed = p->closed,
        .history = p->super.history,
    };
    hk_primary_sizes(g, h->volume_bytes);
    c = hk_group_say(g, HK_CTL_HELLO);
    c->hello = *h;
    p->greeting = true;
    p->greeting_ns = g->now.mono_ns;
}

/* After a lost ring the standby may have more than this side knows to have produced. */
static void note_marks(struct hk_primary *p, uint64_t acked, uint64_t durable)
{
    p->acked = hk_max_u64(p->acked, hk_min_u64(acked, p->produced));
    p->durable = hk_max_u64(p->durable, hk_min_u64(durable, p->produced));
}

/* model: contact.pml, SESSION_BEGUN */
static void begin_session(struct hk_group *g, const struct hk_welcome *w)
{
    struct hk_primary *p = g->primary;

    p->peer = *w;
    p->session_ns = g->now.mono_ns;
    p->session_produced = p->produced;
    p->session_lease = p->lease;
    p->session_epoch = p->hello.epoch.id;
    p->contact_lost = false;
    p->spool_cut_asked = false;
    p->told_all_stale = false;
    p->role_lost = HK_REFUSE_NONE;
    p->copy_unknown = false;
    p->seen_count = 0;
    __builtin_memset(p->ack_confirmed, 0, sizeof(p->ack_confirmed));
    g->last_refusal = HK_REFUSE_NONE;
    hk_sender_start(&p->sender, w->session, w->acked, w->durable, w->applied, w->window,
                    g->now.mono_ns);
    hk_sender_produced(&p->sender, p->produced);
    note_marks(p, w->acked, w->durable);
    p->report_wanted = true;
    if (hk_uuid_is_nil(&p->super.peer_replica_id)) {
        p->bind_wanted = true;
        p->bind_id = w->replica_id;
        p->super.peer_replica_id = w->replica_id;
    }
    hk_group_notify(g, HK_NOTE_SESSION_UP, w->session, 0, 0, NULL);
}

static void take_welcome(struct hk_group *g, const struct hk_welcome *w)
{
    struct hk_primary *p = g->primary;
    uint64_t detail[2];
    enum hk_refusal why;
    bool sendable;

    if (!p->greeting) {
        hk_primary_turn_away(g, HK_REFUSE_MALFORMED, NULL);
        return;
    }
    p->greeting = false;
    why = hk_session_judge_welcome(&p->hello, w, p->produced, detail);
    if (why) {
        hk_primary_turn_away(g, why, detail);
        return;
    }
    if (p->hello.lease != p->lease || !p->attached ||
        !hk_uuid_equal(&p->hello.epoch.id, &hk_history_last(&p->super.history)->id)) {
        /* The capture side changed meanwhile: what was said is no longer true. */
        end_session(g, HK_REFUSE_LEASE);
        hk_primary_greet(g);
        return;
    }
    if (w->gap) {
        end_session(g, HK_REFUSE_NONE);
        hk_primary_gap(g, (enum hk_refusal)w->gap, w->durable);
        return;
    }
    sendable = hk_copy_sendable(g, w);
    p->cut_lsn = sendable ? 0 : w->bad_lsn;
    /* Closed: the session is only to say where the standby stands, when all it has is durable. */
    if (!sendable && !p->closed) {
        detail[0] = w->bad_lsn;
        detail[1] = w->bad_count;
        hk_primary_turn_away(g, HK_REFUSE_COPY, detail);
        return;
    }
    begin_session(g, w);
}

static void take_control(struct hk_group *g, const struct hk_ctl *c)
{
    struct hk_primary *p = g->primary;

    if (!p->control_up)
        return;
    switch (c->type) {
    case HK_CTL_WELCOME: take_welcome(g, &c->welcome); return;
    case HK_CTL_REFUSED:
        g->last_refusal = c->refused.reason < HK_REFUSALS ? (enum hk_refusal)c->refused.reason
                                                          : HK_REFUSE_MALFORMED;
        hk_group_notify(g, HK_NOTE_REFUSED, g->last_refusal, c->refused.detail[0],
                        c->refused.detail[1], NULL);
        note_role(g, g->last_refusal);
        note_copy(g, g->last_refusal);
        end_session(g, g->last_refusal);
        close_control(g);
        return;
    case HK_CTL_BYE:
        if (c->bye.reason < HK_REFUSALS)
            g->last_refusal = (enum hk_refusal)c->bye.reason;
        /* A farewell says what is meant; that it became so only a refusal can say. */
        end_session(g, g->last_refusal);
        close_control(g);
        return;
    case HK_CTL_FREEZE: hk_freeze_ask(g, c->freeze.op_id, c->freeze.name, true); return;
    case HK_CTL_NOTICE: return;
    case HK_CTL_HELLO: hk_primary_turn_away(g, HK_REFUSE_ROLE, NULL); break;
    case HK_CTL_FREEZE_REPLY:
    case HK_CTL_RESIZE:
    case HK_CTL_HASH_ASK: hk_primary_turn_away(g, HK_REFUSE_MALFORMED, NULL); break;
    case HK_CTL_HASHES: hk_primary_hashes(g, &c->hashes); return;
    case HK_CTL_RESIZED: hk_primary_resized(g, c); return;
    }
    g->control_bad++;
}

/* ---- the capture side ---- */

/* Acks whose contact capture has taken while it still waited for the standby may be told as seen.
 */
static void take_echo(struct hk_primary *p, uint64_t contact_ns, uint32_t state)
{
    uint32_t n = 0;

    p->echoes = true;
    while (n < p->seen_count && p->seen[n].contact_ns <= contact_ns) {
        if (state == HK_STATE_REPLICATING)
            __builtin_memcpy(p->ack_confirmed, p->seen[n].ack_seen, sizeof(p->ack_confirmed));
        n++;
    }
    __builtin_memmove(&p->seen[0], &p->seen[n], (p->seen_count - n) * sizeof(p->seen[0]));
    p->seen_count -= n;
}

static void capture_changed(struct hk_group *g, const struct hk_event *e)
{
    struct hk_primary *p = g->primary;
    bool other_lease, other_epoch;

    p->attached = e->capture.attached;
    p->state = p->attached ? e->capture.state : HK_STATE_DETACHED;
    if (!p->attached) {
        p->seen_count = 0;
        p->back = (struct hk_way_back){.gap = HK_REFUSE_NONE};
        hk_primary_resync_stop(g, true);
        return;
    }
    p->closed = e->capture.closed;
    p->stale_bytes = e->capture.stale_bytes;
    p->source_gone = false;
    if (e->capture.super) {
        struct hk_uuid bound = p->super.peer_replica_id;

        p->super = *e->capture.super;
        p->have_super = true;
        /* Not yet told back: the binding is under way. Another life does not know of it. */
        if (hk_uuid_is_nil(&p->super.peer_replica_id) && p->lease == e->capture.lease)
            p->super.peer_replica_id = bound;
    }
    if (!p->have_super || p->super.history.count == 0)
        return;
    other_lease = p->lease != e->capture.lease;
    other_epoch = !hk_uuid_equal(&p->epoch_id, &hk_history_last(&p->super.history)->id);
    if (other_lease || other_epoch) {
        /* Another life of the capture side: its word is what counts, and the standby hears it. */
        p->lease = e->capture.lease;
        p->released = p->released_found = e->capture.released.v;
        p->acked = e->capture.acked.v;
        p->durable = e->capture.durable.v;
        p->produced = p->ring_end = p->ring_end_found = e->capture.produced.v;
        p->spool_unjudged = true;
        hk_lag_index_reset(&p->index);
        __builtin_memset(&p->reported, 0, sizeof(p->reported));
        p->report_wanted = false;
        p->bind_wanted = false;
        if (other_lease) {
            p->told_all_stale = false; /* under another lease regions may have been healed */
            p->back = (struct hk_way_back){.gap = HK_REFUSE_NONE};
            hk_primary_resync_stop(g, true);
        }
        if (other_epoch && !hk_uuid_is_nil(&p->epoch_id))
            hk_primary_new_epoch(g);
        p->epoch_id = hk_history_last(&p->super.history)->id;
        end_session(g, other_lease ? HK_REFUSE_LEASE : HK_REFUSE_EPOCH);
        hk_primary_spool_started(g);
        p->sender.produced = p->produced;
        hk_primary_greet(g);
    }
    p->released = hk_max_u64(p->released, e->capture.released.v);
    p->acked = hk_max_u64(p->acked, e->capture.acked.v);
    p->durable = hk_max_u64(p->durable, e->capture.durable.v);
    p->produced = hk_max_u64(p->produced, e->capture.produced.v);
    p->ring_end = hk_max_u64(p->ring_end, e->capture.produced.v);
    tell_sender(p);
}

static void ring_lost(struct hk_group *g)
{
    struct hk_primary *p = g->primary;

    /* Without a capture side the ring may just not be readable: wait for its return. */
    p->source_gone = true;
    if (!p->attached)
        return;
    if (p->control_up && p->sender.running)
        hk_group_say(g, HK_CTL_BYE)->bye.reason = HK_REFUSE_RING;
    end_session(g, HK_REFUSE_RING);
    close_control(g);
}

/* ---- frames ---- */

/* model: contact.pml, ACK_TAKEN; session.pml, ACK_TAKEN; promote.pml, ACK_TAKEN */
static void take_frame(struct hk_group *g, const struct hk_frame *f, const uint8_t *body)
{
    struct hk_primary *p = g->primary;
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX];
    struct hk_ack ack;
    uint64_t acked, durable;
    int err;

    if (!p->sender.running || f->session != p->sender.session) {
        g->other_session++;
        return;
    }
    if (f->path >= g->cfg.path_count || f->type != HK_FRAME_ACK ||
        hk_ack_decode(body, f->body_len, &ack, ranges) != 0) {
        g->bad[f->path % HK_PATHS_MAX][HK_FRAME_BAD_FIELD]++;
        return;
    }
    err = hk_sender_on_ack(&p->sender, f->path, f->packet_number,
                           HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES + f->body_len, &ack, ranges,
                           g->now.mono_ns);
    if (err == -EINVAL) {
        g->bad[f->path][HK_FRAME_BAD_FIELD]++;
        return;
    }
    acked = p->acked;
    durable = p->durable;
    note_marks(p, p->sender.acked, p->sender.durable);
    if (p->durable > durable || p->acked > acked)
        p->report_wanted = true;
    if (p->sender.standby_flags != p->reported.flags)
        p->report_wanted = true;
    if (err == 0) {
        p->contact_ns = g->now.mono_ns;
        if (p->contact_lost)
            hk_group_notify(g, HK_NOTE_CONTACT_BACK, 0, 0, 0, NULL);
        p->contact_lost = false;
    }
}

/* ---- time ---- */

static uint64_t silent_since(const struct hk_primary *p)
{
    return hk_max_u64(p->sender.contact_ns, p->session_ns);
}

bool hk_primary_contact(const struct hk_group *g, const struct hk_now *now)
{
    const struct hk_primary *p = g->primary;

    return p->sender.running && p->sender.contact_ns != 0 &&
           now->mono_ns < p->sender.contact_ns + g->cfg.contact_timeout_ns;
}

/* model: session.pml, SESSION_GIVEN_UP */
static void watch_contact(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    uint64_t patience = g->cfg.contact_timeout_ns;

    if (p->greeting && g->now.mono_ns >= p->greeting_ns + patience)
        close_control(g);
    if (!p->sender.running || g->now.mono_ns < silent_since(p) + patience)
        return;
    if (!p->contact_lost) {
        p->contact_lost = true;
        hk_group_notify(g, HK_NOTE_CONTACT_LOST, p->contact_ns, 0, 0, NULL);
        close_control(g);
    }
}

/* The ring is asked only when the answer may have changed. */
static void watch_oldest(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_source *source = g->cfg.source;
    struct hk_source_view view = {0};

    hk_lag_age_clock(&p->oldest, g->now.mono_ns, g->now.real_ns);
    if (p->attached && hk_lag_age_wants(&p->oldest, p->durable) && source->look &&
        source->look(source, &view))
        hk_lag_age_note(&p->oldest, hk_max_u64(view.next.v, p->produced), view.newest_ns,
                        g->now.mono_ns);
    if (p->durable >= p->produced)
        hk_lag_age_set(&p->oldest, 0, g->now.mono_ns);
    else if (p->oldest.time_ns == 0 || p->oldest_of != p->durable)
        hk_lag_age_set(&p->oldest, hk_primary_time_at(g, p->durable), g->now.mono_ns);
    p->oldest_of = p->durable;
}

static void disk_done(struct hk_group *g, struct hk_diskop *op)
{
    struct hk_primary *p = g->primary;
    bool ready = hk_spool_ready(&p->spool);

    HK_ASSERT(op->owner == HK_OWNER_SPOOL);
    hk_spool_disk_done(&p->spool, op);
    if (!ready && hk_spool_ready(&p->spool) && !p->sender.running && !p->greeting)
        hk_primary_greet(g);
}

void hk_primary_event(struct hk_group *g, const struct hk_event *e)
{
    struct hk_primary *p = g->primary;

    switch (e->type) {
    case HK_EV_PRODUCED:
        p->produced = hk_max_u64(p->produced, e->produced.produced.v);
        p->ring_end = hk_max_u64(p->ring_end, e->produced.produced.v);
        tell_sender(p);
        break;
    case HK_EV_CAPTURE:
        capture_changed(g, e);
        hk_primary_resize_look(g);
        break;
    case HK_EV_FRAME_IN: take_frame(g, &e->frame.header, e->frame.body); break;
    case HK_EV_CONTROL_UP:
        p->control_up = true;
        p->greeting = false;
        hk_primary_greet(g);
        break;
    case HK_EV_CONTROL_IN: take_control(g, e->control); break;
    case HK_EV_CONTROL_DOWN:
        p->control_up = p->greeting = false;
        tell_sender(p); /* an older session goes on without it */
        hk_primary_resize_cut(g);
        hk_primary_resync_stop(g, false);
        break;
    case HK_EV_LINK:
        if (e->link.path < g->cfg.path_count)
            hk_sender_link(&p->sender, e->link.path, e->link.up, e->link.frame_body_max,
                           g->now.mono_ns);
        break;
    case HK_EV_VERB:
        switch (e->verb.kind) {
        case HK_VERB_FREEZE: hk_freeze_ask(g, e->verb.op_id, e->verb.name, false); break;
        case HK_VERB_PAUSE:
        case HK_VERB_RESUME:
        case HK_VERB_THROTTLE: hk_primary_resync_verb(g, &e->verb); break;
        case HK_VERB_RESIZE: hk_primary_resize_verb(g, &e->verb); break;
        case HK_VERB_FREEZE_END:
        case HK_VERB_FAILOVER: hk_group_verb_done(g, e->verb.op_id, -EOPNOTSUPP, 0, NULL); break;
        case HK_VERB_STOP:
            if (p->control_up)
                hk_group_say(g, HK_CTL_BYE)->bye.reason = HK_REFUSE_NONE;
            end_session(g, HK_REFUSE_NONE);
            close_control(g);
            hk_group_verb_done(g, e->verb.op_id, 0, 0, NULL);
            break;
        }
        break;
    case HK_EV_INSERTED:
        hk_freeze_inserted(g, e->inserted.request, e->inserted.error, e->inserted.lsn.v,
                           e->inserted.end.v);
        break;
    case HK_EV_RING_LOST: ring_lost(g); break;
    case HK_EV_STALE:
    case HK_EV_HASHED:
    case HK_EV_BLOCK_DONE:
    case HK_EV_HEALED:
    case HK_EV_ALL_STALE:
    case HK_EV_RETURNED: hk_primary_resync_event(g, e); break;
    case HK_EV_RESIZED: hk_primary_resize_refused(g, e->done.error); break;
    case HK_EV_DISK_DONE: disk_done(g, e->disk); break;
    case HK_EV_BAD_FRAME:
    case HK_EV_TIMER: break;
    }
    hk_sender_tick(&p->sender, g->now.mono_ns);
    watch_contact(g);
    hk_primary_spool_step(g);
    hk_primary_stall_step(g);
    hk_primary_resync_step(g);
    hk_freeze_step(g);
    watch_oldest(g);
}

/* ---- what is pulled ---- */

static uint64_t contact_step_ns(const struct hk_group *g)
{
    return hk_group_ping_interval_ns(&g->cfg) / 2;
}

/* The capture side learns of contact, too: an old one counts as a lost one there. */
static bool contact_worth_a_report(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;

    return p->contact_ns >= p->reported.contact_ns + contact_step_ns(g);
}

/* Spaced out, so that the entries reach over the time until capture answers; the oldest count. */
static void remember_seen(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    uint64_t step = g->cfg.contact_timeout_ns / (2 * HK_GROUP_SEEN);
    uint32_t n = p->seen_count;

    if (n == HK_GROUP_SEEN || p->sender.contact_ns == 0)
        return;
    if (n > 0 && p->sender.contact_ns < p->seen[n - 1].contact_ns + step)
        return;
    p->seen[n].contact_ns = p->sender.contact_ns;
    for (uint32_t i = 0; i < HK_PATHS_MAX; i++)
        p->seen[n].ack_seen[i] = p->sender.path[i].ack_seen;
    p->seen_count++;
}

static bool next_report(struct hk_group *g, struct hk_action *ret)
{
    struct hk_primary *p = g->primary;

    if (!p->attached || !(p->report_wanted || contact_worth_a_report(g)))
        return false;
    p->report_wanted = false;
    p->released = hk_max_u64(p->released, p->durable);
    p->released = hk_max_u64(p->released, hk_primary_spool_release(p));
    /* While the ring still has it. */
    if (g->cfg.source->index_at && !p->source_gone && p->released <= p->ring_end)
        hk_lag_index_note(&p->index, p->released,
                          g->cfg.source->index_at(g->cfg.source, HK_LSN(p->released)));
    p->reported.released = p->released;
    p->reported.acked = p->acked;
    p->reported.durable = p->durable;
    p->reported.contact_ns = p->contact_ns;
    p->reported.flags = p->sender.running ? p->sender.standby_flags : 0;
    ret->type = HK_ACT_REPORT;
    ret->report.released = HK_LSN(p->released);
    ret->report.acked = HK_LSN(p->acked);
    ret->report.durable = HK_LSN(p->durable);
    ret->report.contact_ns = p->contact_ns;
    ret->report.standby_flags = p->reported.flags;
    p->reported.spool_room = hk_primary_spool_room(p);
    ret->report.spool_room = p->reported.spool_room;
    p->reported.spool_end = hk_primary_spool_kept(p);
    ret->report.spool_end = HK_LSN(p->reported.spool_end);
    if (p->reported.spool_end)
        ret->report.spool_first = HK_LSN(hk_spool_first(&p->spool));
    if (p->sender.running)
        remember_seen(g);
    return true;
}

/*
 * A ping is the standby's proof: it says what the capture side does at this moment, and calls an
 * ack seen only if the capture side has taken its contact while it still waited for the standby.
 * produced includes what is only reserved, since that is waited for as well.
 */
static struct hk_source_view look(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_source_view view = {.state = p->state, .next = HK_LSN(p->produced)};

    if (p->attached && g->cfg.source->look && g->cfg.source->look(g->cfg.source, &view))
        take_echo(p, view.contact_ns, view.state);
    view.next.v = hk_max_u64(view.next.v, hk_max_u64(p->produced, hk_primary_spool_tail(p)));
    return view;
}

/* The standby takes the difference of two stamps: it must be the age also after a clock was set. */
static uint64_t oldest_time_ns(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;
    uint64_t age_ns = hk_lag_age_ns(&p->oldest, g->now.mono_ns, g->now.real_ns);

    if (p->durable < p->produced && age_ns < g->now.real_ns)
        return g->now.real_ns - age_ns;
    return hk_primary_time_at(g, p->durable);
}

/* model: contact.pml, PING_SENT */
static void make_ping(struct hk_group *g, struct hk_action *ret)
{
    struct hk_primary *p = g->primary;
    struct hk_source_view view = look(g);
    uint8_t path = ret->send.header.path;
    struct hk_ping ping = {
        .produced = view.next.v,
        .oldest_time_ns = oldest_time_ns(g),
        .now_ns = g->now.real_ns,
        .ack_seen = p->echoes ? p->ack_confirmed[path] : p->sender.path[path].ack_seen,
        .ceiling = hk_max_u64(p->super.ceiling, view.next.v),
        .state = view.state,
    };
    int bytes = hk_ping_encode(&ping, ret->send.body, sizeof(ret->send.body));

    HK_ASSERT(bytes == ret->send.header.body_len);
}

static bool next_frame(struct hk_group *g, struct hk_action *ret)
{
    struct hk_primary *p = g->primary;

    hk_sender_held(&p->sender, p->sender.ring_from == UINT64_MAX ? UINT64_MAX : p->released,
                   p->sender.spool_from, p->sender.spool_to);
    p->sender.held = p->source_gone || (p->cut_lsn && p->cut_lsn == p->sender.acked);
    if (!hk_sender_next(&p->sender, g->now.mono_ns, &ret->send.header))
        return false;
    ret->type = HK_ACT_SEND;
    if (ret->send.header.type == HK_FRAME_PING)
        make_ping(g, ret);
    return true;
}

bool hk_primary_next(struct hk_group *g, bool can_send, struct hk_action *ret)
{
    struct hk_primary *p = g->primary;

    if (next_report(g, ret))
        return true;
    if (p->bind_wanted && p->attached) {
        p->bind_wanted = false;
        ret->type = HK_ACT_BIND_PEER;
        ret->peer_replica_id = p->bind_id;
        return true;
    }
    if (p->check_wanted && p->attached) {
        p->check_wanted = false;
        ret->type = HK_ACT_CHECK_COPY;
        ret->check_lsn = HK_LSN(p->check_lsn);
        return true;
    }
    if (p->attached && hk_freeze_next(g, ret))
        return true;
    if (hk_primary_resize_next(g, ret))
        return true;
    if (can_send && next_frame(g, ret))
        return true;
    return hk_primary_resync_next(g, ret);
}

uint64_t hk_primary_deadline_ns(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;
    uint64_t at = g->no_room ? UINT64_MAX : hk_sender_deadline_ns(&p->sender);

    if (p->sender.running && !p->contact_lost)
        at = hk_min_u64(at, silent_since(p) + g->cfg.contact_timeout_ns);
    if (p->greeting)
        at = hk_min_u64(at, p->greeting_ns + g->cfg.contact_timeout_ns);
    at = hk_min_u64(at, hk_primary_resync_deadline_ns(g));
    return hk_min_u64(at, hk_freeze_deadline_ns(g));
}
