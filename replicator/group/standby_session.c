/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's half of a session: judges a HELLO, makes durable what the session rests on,
 * welcomes; takes frames; answers with acks; dates the contact.
 *
 * A session ends when the next one begins, when a record in it was bad, at BYE, and at a promotion.
 * Losing the control connection does not end it: frames are judged by their session number alone.
 *
 * t0 (SPEC.md §9) is our own send time of the newest ack that the primary has confirmed, counted
 * only while the primary says that it honours its mode, and only once everything it had produced
 * when it first said so is durable here. What it acknowledged without us in between is thereby
 * never covered.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"

#include <errno.h>

static uint64_t patience_ns(const struct hk_group *g)
{
    uint64_t told = hk_standby_super(g)->contact_timeout_ns;

    return told ? told : g->cfg.contact_timeout_ns;
}

bool hk_standby_alive(const struct hk_group *g, uint64_t mono_ns)
{
    const struct hk_standby *s = g->standby;

    return s->session != 0 && mono_ns < s->heard_ns + g->cfg.contact_timeout_ns;
}

/* ---- the end of a session ---- */

static void stop_session(struct hk_group *g, enum hk_refusal why)
{
    struct hk_standby *s = g->standby;

    s->hello_pending = false;
    s->refusal_pending = false;
    s->proof_lsn = UINT64_MAX;
    hk_standby_hash_drop(s);
    if (s->session == 0)
        return;
    s->session = 0;
    hk_receiver_stop(&s->receiver);
    hk_group_notify(g, HK_NOTE_SESSION_DOWN, why, 0, 0, NULL);
}

static void close_control(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->control_up)
        hk_group_queue(g, HK_ACT_CONTROL_CLOSE);
    s->control_up = false;
}

void hk_standby_end_session(struct hk_group *g, enum hk_refusal why)
{
    struct hk_standby *s = g->standby;

    if (s->control_up)
        hk_group_say(g, HK_CTL_BYE)->bye.reason = why;
    g->last_refusal = why;
    stop_session(g, why);
    close_control(g);
}

/* ---- HELLO ---- */

static void turn_away(struct hk_group *g, enum hk_refusal why, const uint64_t detail[2])
{
    hk_group_refuse(g, why, detail);
    g->standby->control_up = false;
    g->standby->hello_pending = false;
    g->standby->refusal_pending = false;
}

/*
 * The primary passes writes by, or this side has less than it had reported: its copy may differ
 * anywhere from now on. Written down (I1, I12, I18).
 */
static void note_full_compare(struct hk_group *g)
{
    struct hk_super *super = hk_standby_super(g);

    if (super->flags & HK_SF_FULL_COMPARE)
        return;
    super->flags |= HK_SF_FULL_COMPARE;
    hk_standby_put(g);
}

static bool full_compare_stored(const struct hk_standby *s)
{
    return hk_super_store_durable(&s->super)->flags & HK_SF_FULL_COMPARE;
}

/* The history names an epoch that the journal has not begun yet. */
bool hk_standby_epoch_pending(const struct hk_group *g)
{
    const struct hk_epoch *last = hk_history_last(&hk_standby_super(g)->history);

    return g->standby->stage == HK_STAGE_READY && last &&
           g->standby->journal.ordinal < last->ordinal;
}

/*
 * Begins the journal of the epoch that the history ends with, once the superblock names it durably.
 * False: not yet.
 */
bool hk_standby_begin_epoch(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_epoch *e = hk_history_last(&hk_standby_super(g)->history);
    int err;

    if (hk_history_epochs(&hk_super_store_durable(&s->super)->history) != e->ordinal)
        return false;
    err = hk_journal_begin_epoch(&s->journal, e->ordinal, &e->id, e->first_lsn);
    if (err == -EAGAIN)
        return false;
    if (err) {
        hk_group_fatal(g, HK_NOTE_JOURNAL_FAILED, err);
        return false;
    }
    hk_receiver_rebase(&s->receiver, e->first_lsn, 0);
    s->reported = e->first_lsn;
    hk_group_notify(g, HK_NOTE_EPOCH, e->ordinal, e->first_lsn, e->reason, NULL);
    return true;
}

static void take_hello(struct hk_group *g, const struct hk_hello *h)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);
    struct hk_session_standby me = {
        .super = super,
        .ready = s->stage == HK_STAGE_PROMOTED ||
                 (s->stage == HK_STAGE_READY && s->promotion == HK_PROMOTION_NONE),
        .group_id = g->cfg.group_id,
        .config_hash = g->cfg.config_hash,
        .volume_count = g->cfg.volume_count,
        .volume_bytes = g->cfg.volume_bytes,
        .volume_max = g->cfg.volume_max,
        .acked = hk_max_u64(s->receiver.acked, s->reported),
        .durable = s->reported,
        .alive = hk_standby_alive(g, g->now.mono_ns),
        .alive_host = s->session_host,
        .alive_lease = s->session_lease,
        .gap_lease = s->gap_lease,
    };
    bool change;

    if (hk_standby_epoch_pending(g))
        me.acked = me.durable = hk_history_last(&super->history)->first_lsn;
    hk_session_judge_hello(&me, h, &s->verdict);
    if (s->verdict.full_compare)
        note_full_compare(g);
    if (s->verdict.refusal) {
        /* What it found out about itself is stored before it is said: no crash forgets it. */
        s->refusal_pending = s->verdict.full_compare && !full_compare_stored(s);
        if (!s->refusal_pending)
            turn_away(g, s->verdict.refusal, s->verdict.detail);
        return;
    }
    s->refusal_pending = false;
    s->grow.error = 0;
    /* Its word replaces the old session's from here on. */
    stop_session(g, HK_REFUSE_NONE);
    s->history_before = super->history;
    if (s->verdict.gap) {
        /* Said when all that came is durable: the primary's history will say that it ended there.
         */
        s->hello = *h;
        s->hello_pending = true;
        s->adopt_due = false;
        return;
    }
    change = s->verdict.adopt || !hk_uuid_equal(&super->peer_replica_id, &h->replica_id) ||
             !hk_uuid_equal(&super->ring_id, &h->ring_id);
    super->peer_replica_id = h->replica_id;
    super->ring_id = h->ring_id;
    /* It requires no full compare, and nothing is missing that it had been told is durable. */
    if (super->flags & HK_SF_IN_DOUBT)
        hk_group_notify(g, HK_NOTE_DOUBT_OVER, 0, 0, 0, NULL);
    change = change || (super->flags & HK_SF_IN_DOUBT);
    super->flags &= ~(uint32_t)HK_SF_IN_DOUBT;
    s->log_in_doubt = false;
    s->told_ceiling = hk_max_u64(s->told_ceiling, h->ceiling);
    s->hello = *h;
    s->hello_pending = true;
    s->adopt_due = s->verdict.adopt;
    /* What a HELLO before this one changed may still be on its way to the disk. */
    if (s->verdict.adopt)
        hk_standby_session_step(g);
    else if (change)
        s->hello_ticket = hk_standby_put(g);
}

/*
 * Takes over the primary's history, durably, before the first record of its last epoch is taken.
 * Where log is missing in between (everything is stale at the primary), what is here must have been
 * applied first: it would not be found any more on the new line.
 */
/* model: resync.pml, HOLE_CROSSED */
static bool adopt(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);
    const struct hk_hello *h = &s->hello;
    bool equal = super->history.count == 0 && (super->flags & HK_SF_ASSUMED_EQUAL) &&
                 !h->all_stale && !(h->super_flags & (HK_SF_FULL_COMPARE | HK_SF_STALE));

    if (s->verdict.rebase && !hk_standby_drained(g))
        return false;
    if (s->verdict.rebase)
        hk_standby_apply_rebase(g, s->verdict.start_lsn);
    super->history = h->history;
    /* Equal by declaration; a copy that was never equal has no consistent state yet. */
    if (equal)
        hk_standby_open_interval(super, s->verdict.start_lsn, h->epoch.ordinal);
    s->adopt_due = false;
    s->hello_ticket = hk_standby_put(g);
    return true;
}

static void say_welcome(struct hk_group *g, struct hk_welcome *w)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);

    *w = (struct hk_welcome){
        .version = HK_CTL_VERSION_MAX,
        .session = s->session,
        .site_id = g->cfg.site_id,
        .host_id = g->cfg.host_id,
        .replica_id = super->replica_id,
        .config_hash = g->cfg.config_hash,
        .acked = s->receiver.acked,
        .durable = s->reported,
        .applied = hk_min_u64(s->applied, s->reported),
        .window = hk_receiver_edge(&s->receiver),
        .bad_lsn = s->bad_lsn,
        .bad_count = s->bad_lsn == s->receiver.acked ? s->bad_count : 0,
        .super_flags = super->flags,
        .history = s->history_before,
    };
    __builtin_memcpy(w->compare_key, s->compare_key, sizeof(w->compare_key));
}

static void welcome(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_welcome *w;

    do {
        s->session = (uint32_t)hk_group_random(g);
    } while (s->session == 0);
    s->hello_pending = false;
    s->session_host = s->hello.host_id;
    s->session_lease = s->hello.lease;
    s->heard_ns = g->now.mono_ns;
    s->contact_lost = false;
    s->told_produced = s->hello.produced;
    s->told_state = HK_STATE_INITIAL;
    s->proof_lsn = UINT64_MAX;
    g->last_refusal = HK_REFUSE_NONE;
    hk_contact_reset(&s->contact, s->reported, patience_ns(g));
    hk_receiver_start(&s->receiver, s->session, &s->hello.epoch);
    hk_standby_new_key(g);
    w = &hk_group_say(g, HK_CTL_WELCOME)->welcome;
    say_welcome(g, w);
    hk_group_notify(g, HK_NOTE_SESSION_UP, s->session, 0, 0, NULL);
}

/* No session: where this side stands, and why the log can't go on from here. */
static void welcome_gap(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_welcome *w = &hk_group_say(g, HK_CTL_WELCOME)->welcome;

    s->hello_pending = false;
    s->gap_lease = s->hello.lease;
    g->last_refusal = s->verdict.gap;
    say_welcome(g, w);
    w->gap = s->verdict.gap;
}

/* The log of this primary speaks of volumes that are larger than what is here. */
static void make_room(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t detail[2] = {s->grow.volume, s->grow.to};

    if (s->grow.error || hk_grow_ask(g, s->hello.volume_bytes) != 0)
        turn_away(g, HK_REFUSE_VOLUMES, detail);
}

void hk_standby_session_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->refusal_pending && full_compare_stored(s))
        turn_away(g, s->verdict.refusal, s->verdict.detail);
    if (s->hello_pending && s->verdict.gap) {
        if (s->reported == s->receiver.acked && hk_journal_idle(&s->journal) &&
            (!s->verdict.full_compare || full_compare_stored(s)))
            welcome_gap(g);
        return;
    }
    if (s->hello_pending && !hk_grow_has(g, s->hello.volume_bytes)) {
        make_room(g);
        return;
    }
    if (!s->hello_pending || (s->adopt_due && !adopt(g)) || !hk_standby_stored(g, s->hello_ticket))
        return;
    if (hk_standby_epoch_pending(g) && !hk_standby_begin_epoch(g))
        return;
    welcome(g);
}

void hk_standby_control(struct hk_group *g, const struct hk_ctl *c)
{
    struct hk_standby *s = g->standby;

    if (!s->control_up)
        return;
    switch (c->type) {
    case HK_CTL_HELLO:
        if (s->super.state == HK_SUPER_STORE_READY)
            take_hello(g, &c->hello);
        else
            turn_away(g, HK_REFUSE_NOT_READY, NULL);
        return;
    case HK_CTL_REFUSED: /* the primary did not like our welcome */
        g->last_refusal = c->refused.reason < HK_REFUSALS ? (enum hk_refusal)c->refused.reason
                                                          : HK_REFUSE_MALFORMED;
        hk_group_notify(g, HK_NOTE_REFUSED, g->last_refusal, c->refused.detail[0],
                        c->refused.detail[1], NULL);
        if (g->last_refusal == HK_REFUSE_LOST_DURABLE && s->super.state == HK_SUPER_STORE_READY)
            note_full_compare(g);
        stop_session(g, g->last_refusal);
        close_control(g);
        return;
    case HK_CTL_BYE:
        stop_session(g, c->bye.reason < HK_REFUSALS ? (enum hk_refusal)c->bye.reason
                                                    : HK_REFUSE_MALFORMED);
        close_control(g);
        return;
    case HK_CTL_FREEZE_REPLY: hk_freeze_reply(g, c); return;
    case HK_CTL_NOTICE: return;
    case HK_CTL_HASH_ASK:
        if (hk_standby_hash_ask(g, &c->hash_ask) == 0)
            return;
        turn_away(g, HK_REFUSE_MALFORMED, NULL);
        break;
    case HK_CTL_RESIZE: hk_grow_control(g, c); return;
    case HK_CTL_RESIZED:
    case HK_CTL_HASHES:
    case HK_CTL_WELCOME:
    case HK_CTL_FREEZE: turn_away(g, HK_REFUSE_MALFORMED, NULL); break;
    }
    g->control_bad++;
}

/* ---- frames ---- */

/* model: contact.pml, CONTACT_DATED */
static void date_contact(struct hk_group *g, uint8_t path, const struct hk_ping *ping)
{
    struct hk_standby *s = g->standby;
    struct hk_contact_time t;

    if (ping->state != HK_STATE_REPLICATING) {
        s->proof_lsn = UINT64_MAX;
        return;
    }
    if (HK_BUG(t0_by_receipt)) {
        s->t0 = (struct hk_contact_time){g->now.mono_ns, g->now.real_ns};
        return;
    }
    if (s->proof_lsn == UINT64_MAX)
        s->proof_lsn = ping->produced;
    if (s->reported < s->proof_lsn || ping->ack_seen >= s->receiver.path[path].ack_pn)
        return;
    if (hk_contact_date(&s->contact, path, ping->ack_seen, ping->produced, &t) &&
        t.mono_ns > s->t0.mono_ns)
        s->t0 = t;
}

static void take_ping(struct hk_group *g, const struct hk_frame *f, const uint8_t *body)
{
    struct hk_standby *s = g->standby;
    struct hk_ping ping;

    if (hk_ping_decode(body, f->body_len, &ping) != 0) {
        g->bad[f->path][HK_FRAME_BAD_FIELD]++;
        return;
    }
    /* Overtaken by a newer one on its path: what it says is no longer so. */
    if (f->packet_number < s->receiver.path[f->path].last_ping)
        return;
    s->told_produced = hk_max_u64(s->told_produced, ping.produced);
    s->told_ceiling = hk_max_u64(s->told_ceiling, ping.ceiling);
    s->told_state = ping.state;
    s->told_oldest_age_ns = 0;
    if (ping.oldest_time_ns)
        s->told_oldest_age_ns =
            ping.now_ns > ping.oldest_time_ns ? ping.now_ns - ping.oldest_time_ns : 1;
    /* Without a map nothing tells where the copies differ. */
    if (ping.state == HK_STATE_BEHIND && !s->hello.map)
        note_full_compare(g);
    date_contact(g, f->path, &ping);
}

/* model: session.pml, DATA_TAKEN */
void hk_standby_frame(struct hk_group *g, const struct hk_frame *f, const uint8_t *body)
{
    struct hk_standby *s = g->standby;
    int err;

    if (s->session == 0 || (f->session != s->session && !HK_BUG(old_session))) {
        g->other_session++;
        return;
    }
    if (f->path >= g->cfg.path_count || f->type == HK_FRAME_ACK) {
        g->bad[f->path % HK_PATHS_MAX][HK_FRAME_BAD_FIELD]++;
        return;
    }
    err = hk_receiver_frame(&s->receiver, f, body, g->now.mono_ns);
    if (err)
        return;
    s->heard_ns = g->now.mono_ns;
    if (s->contact_lost)
        hk_group_notify(g, HK_NOTE_CONTACT_BACK, 0, 0, 0, NULL);
    s->contact_lost = false;
    if (f->type == HK_FRAME_PING)
        take_ping(g, f, body);
}

/* model: contact.pml, ACK_SENT; session.pml, ACK_SENT */
bool hk_standby_next_ack(struct hk_group *g, struct hk_action *ret)
{
    struct hk_standby *s = g->standby;
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX];
    struct hk_ack ack;
    int bytes;

    if (s->session == 0 ||
        !hk_receiver_next_ack(&s->receiver, g->now.mono_ns, &ret->send.header, &ack, ranges))
        return false;
    ack.durable = s->reported;
    ack.applied = hk_min_u64(s->applied, s->reported);
    ack.flags = (s->replica_failed ? HK_ACK_NOT_PROMOTABLE : 0) |
                (s->journal_full ? HK_ACK_JOURNAL_FULL : 0) |
                (hk_freeze_stands(g) ? HK_ACK_FROZEN : 0);
    bytes = hk_ack_encode(&ack, ranges, ret->send.body, sizeof(ret->send.body));
    HK_ASSERT(bytes > 0);
    ret->type = HK_ACT_SEND;
    ret->send.header.body_len = (uint16_t)bytes;
    hk_contact_sent(&s->contact, ret->send.header.path, ret->send.header.packet_number, s->reported,
                    g->now.mono_ns, g->now.real_ns);
    return true;
}
