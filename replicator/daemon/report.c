/* SPDX-License-Identifier: Apache-2.0 */
/* The status message: what the node and the capture side said, in the words a person reads. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replicator/daemon/control.h"

static const char *state_word(uint32_t state)
{
    switch ((enum hk_group_state)state) {
    case HK_STATE_INITIAL: return "initial";
    case HK_STATE_REPLICATING: return "replicating";
    case HK_STATE_SPOOLING: return "spooling";
    case HK_STATE_PACING: return "pacing";
    case HK_STATE_BLOCKED: return "blocked";
    case HK_STATE_DEGRADED: return "degraded";
    case HK_STATE_BEHIND: return "behind";
    case HK_STATE_RESYNC: return "resync";
    case HK_STATE_ORIGIN_FAILED: return "origin-failed";
    case HK_STATE_DETACHED: return "detached";
    }
    return "unknown";
}

const char *hk_report_state(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;

    if (g->role == HK_ROLE_PRIMARY && c->status.capture.ever)
        return c->status.capture.attached ? state_word(c->status.capture.state.state) : "detached";
    if (g->promoted)
        return "promoted";
    return state_word(g->state);
}

/* A string that lives in *s; "" when the room is used up. */
static char *keep(struct hk_status_text *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static char *keep(struct hk_status_text *s, const char *fmt, ...)
{
    char *at = s->text + s->used;
    size_t room = sizeof(s->text) - s->used;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(at, room, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= room)
        return s->text + sizeof(s->text) - 1;
    s->used += (size_t)n + 1;
    return at;
}

static char *keep_uuid(struct hk_status_text *s, const struct hk_uuid *u)
{
    char text[HK_UUID_TEXT];

    hk_uuid_format(u, text);
    return keep(s, "%s", text);
}

/* Lists are built one after the other in s->list. */
static void list_add(struct hk_status_text *s, char *text)
{
    if (s->list_used < HK_ARRAY_SIZE(s->list))
        s->list[s->list_used++] = text;
}

static void flag_list(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    uint32_t flags = g->super.flags;
    size_t from = s->list_used;

    if (g->role == HK_ROLE_PRIMARY && c->status.capture.ever)
        flags |= c->status.capture.state.super_flags;
    if (flags & HK_SF_FULL_COMPARE)
        list_add(s, keep(s, "full-compare-required"));
    if (flags & HK_SF_NOT_PROMOTABLE)
        list_add(s, keep(s, "not-promotable"));
    if (flags & HK_SF_ORIGIN_FAILED)
        list_add(s, keep(s, "origin-failed"));
    if (c->conf->lab_unencrypted)
        list_add(s, keep(s, "link-not-encrypted"));
    if (g->frozen)
        list_add(s, keep(s, "frozen"));
    if (g->role == HK_ROLE_STANDBY && !g->ready)
        list_add(s, keep(s, "recovering"));
    s->m.flags = s->list + from;
    s->m.n_flags = s->list_used - from;
}

/* CAUSE, NEXT and DO: only when it is not green. */
static void primary_advice(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_capture_view *v = &c->status.capture;
    const char *peer = c->conf->site[c->local->peer_index].name;
    const char *here = c->conf->site[c->local->site_index].name;
    size_t from = s->list_used;

    if (!v->attached)
        list_add(s, keep(s,
                         "HKE3002W the capture side is not there: no volume of this group is "
                         "served, or its socket %s can't be reached",
                         c->local->capture.socket));
    if (v->state.super_flags & HK_SF_FULL_COMPARE)
        list_add(s,
                 keep(s, "HKE3030E writes are not captured any more; a full compare is required"));
    if (g->session != HK_SESSION_UP && g->last_refusal)
        list_add(s, keep(s, "%s refused by or to %s: %s", hk_notice_refusal_id(g->last_refusal),
                         peer, hk_refusal_text(g->last_refusal)));
    else if (!g->contact)
        list_add(s, keep(s, "HKE2041E all paths to %s are silent", peer));
    if (v->attached && v->state.state == HK_STATE_BLOCKED)
        list_add(s, keep(s, "HKE3011E APPLICATION I/O STOPPED BY POLICY"));
    s->m.cause = s->list + from;
    s->m.n_cause = s->list_used - from;
    from = s->list_used;
    if (s->m.n_cause) {
        if (v->state.super_flags & HK_SF_FULL_COMPARE)
            list_add(s, keep(s, "the standby stays consistent at what is durable; new writes are "
                                "only here. The application is NOT stopped."));
        else if (g->on_link_loss == HK_LINK_LOSS_BLOCK)
            list_add(s, keep(s, "writes wait for the standby, without bound (on-link-loss block); "
                                "nothing is lost"));
        else
            list_add(s, keep(s, "the ring takes writes until it is full, then a full compare is "
                                "required. The application is NOT stopped."));
    }
    s->m.next = s->list + from;
    s->m.n_next = s->list_used - from;
    from = s->list_used;
    if (s->m.n_cause) {
        if (v->state.super_flags & HK_SF_FULL_COMPARE)
            list_add(s, keep(s, "1 keep the standby as it is  2 make the volumes equal, then "
                                "`hikae create-md --assume-equal` at both sites"));
        else
            list_add(s, keep(s,
                             "1 check the line and hikaed at %s  2 do NOT fail over unless %s is "
                             "lost  3 after repair: nothing, it resumes by itself",
                             peer, here));
    }
    s->m.do_ = s->list + from;
    s->m.n_do_ = s->list_used - from;
}

static void standby_advice(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const char *peer = c->conf->site[c->local->peer_index].name;
    size_t from = s->list_used;

    if (g->promoted)
        return;
    if (!g->ready)
        list_add(s, keep(s, "HKE4013I recovery of the journal is running"));
    if (g->super.flags & HK_SF_NOT_PROMOTABLE)
        list_add(s, keep(s, "HKE4023E a replica could not be written"));
    if (g->ready && !g->contact)
        list_add(s, keep(s, "HKE2041E all paths to %s are silent", peer));
    s->m.cause = s->list + from;
    s->m.n_cause = s->list_used - from;
    from = s->list_used;
    if (s->m.n_cause && g->ready)
        list_add(s, keep(s, "this standby keeps its last consistent state and waits for %s", peer));
    s->m.next = s->list + from;
    s->m.n_next = s->list_used - from;
    from = s->list_used;
    if (s->m.n_cause && g->ready)
        list_add(s, keep(s,
                         "1 find out whether %s is lost or only the line  2 only if it is lost: "
                         "`hikae failover %s`",
                         peer, c->conf->name));
    s->m.do_ = s->list + from;
    s->m.n_do_ = s->list_used - from;
}

static void path_list(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    uint32_t i;

    for (i = 0; i < g->path_count && i < HK_PATHS_MAX; i++) {
        Hk__Pb__PathStatus *p = &s->path[i];

        hk__pb__path_status__init(p);
        p->up = g->path[i].up;
        p->srtt_ns = g->path[i].srtt_ns;
        p->rate_bytes_s = g->path[i].rate_bytes_s;
        p->frames_tx = g->path[i].frames_tx;
        p->frames_rx = g->path[i].frames_rx;
        p->bytes_tx = g->path[i].bytes_tx;
        p->bytes_rx = g->path[i].bytes_rx;
        p->lost = g->path[i].lost;
        p->retransmitted = g->path[i].retransmitted;
        memcpy(s->bad[i], c->status.bad[i], sizeof(s->bad[i]));
        p->n_bad = HK_FRAME_FAULTS;
        p->bad = s->bad[i];
        p->backend = keep(s, "%s", c->status.link_text[i]);
        s->path_ptr[i] = p;
    }
    s->m.n_path = i;
    s->m.path = s->path_ptr;
}

static void volume_list(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    uint32_t i;

    for (i = 0; i < c->conf->volume_count; i++) {
        hk__pb__volume_status__init(&s->volume[i]);
        s->volume[i].name = (char *)(uintptr_t)c->conf->volume[i].name;
        s->volume[i].bytes = c->conf->volume[i].bytes;
        s->volume[i].state =
            keep(s, "%s",
                 g->super.flags & HK_SF_FULL_COMPARE                     ? "may differ"
                 : g->mark.durable.v == g->mark.produced.v && g->contact ? "equal"
                                                                         : "following");
        s->volume_ptr[i] = &s->volume[i];
    }
    s->m.n_volume = i;
    s->m.volume = s->volume_ptr;
}

static void fill_identity(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_epoch *last = hk_history_last(&g->super.history);
    char host[HK_NAME_BYTES] = "";

    gethostname(host, sizeof(host) - 1);
    s->m.schema = 1;
    s->m.group = keep(s, "%s", c->conf->name);
    s->m.group_id = keep_uuid(s, &c->conf->id);
    s->m.site = keep(s, "%s", c->local->site);
    s->m.host = keep(s, "%s", host);
    s->m.peer_site = keep(s, "%s", c->conf->site[c->local->peer_index].name);
    s->m.role = keep(s, "%s", g->role == HK_ROLE_PRIMARY ? "primary" : "standby");
    s->m.state = keep(s, "%s", hk_report_state(c));
    s->m.mode = keep(s, "%s",
                     c->conf->mode == HK_MODE_SYNC       ? "sync"
                     : c->conf->mode == HK_MODE_SEMISYNC ? "semisync"
                                                         : "async");
    s->m.on_link_loss =
        keep(s, "%s", c->conf->on_link_loss == HK_LINK_LOSS_BLOCK ? "block" : "continue");
    s->m.session = keep(s, "%s",
                        g->session == HK_SESSION_UP         ? "up"
                        : g->session == HK_SESSION_GREETING ? "greeting"
                                                            : "down");
    s->m.session_id = g->session_id;
    if (last) {
        s->m.epoch = last->ordinal;
        s->m.epoch_id = keep_uuid(s, &last->id);
    }
    s->m.last_refusal = keep(s, "%s", g->last_refusal ? hk_refusal_text(g->last_refusal) : "");
    s->m.config_equal = g->session == HK_SESSION_UP;
    s->m.promoted = g->promoted;
    s->m.loss_class = keep(s, "%s", hk_loss_class_text(g->loss_class));
}

static void fill_numbers(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_capture_view *v = &c->status.capture;

    s->m.in_sync = g->in_sync;
    s->m.ready = g->ready;
    s->m.produced = g->mark.produced.v;
    s->m.sent = g->mark.sent.v;
    s->m.acked = g->mark.acked.v;
    s->m.durable = g->mark.durable.v;
    s->m.applied = g->mark.applied.v;
    s->m.ceiling = g->ceiling.v;
    s->m.lose_known = g->lose_known;
    s->m.lose_bytes = g->lose_bytes;
    s->m.lose_ns = g->lose_ns;
    s->m.take_over_bytes = g->apply_lag_bytes;
    s->m.take_over_known = g->apply_rate_bytes_s > 0 || g->apply_lag_bytes == 0;
    if (g->apply_rate_bytes_s)
        s->m.take_over_ns = g->apply_lag_bytes * 1000 / (g->apply_rate_bytes_s / 1000000 + 1);
    s->m.state_since_ns = v->state.since_ns;
    s->m.now_ns = c->status.now_real_ns;
    s->m.contact = g->contact;
    s->m.contact_age_ns = g->contact_ns ? c->status.now_mono_ns - g->contact_ns : 0;
    s->m.contact_real_ns = g->contact_real_ns;
    s->m.contact_timeout_ns = c->conf->contact_timeout_ns;
    s->m.ring_used = v->state.payload_used;
    s->m.ring_total = v->state.payload_total;
    s->m.waiting = v->state.waiting;
    s->m.held = v->state.held;
    s->m.writes = v->state.writes;
    s->m.bytes = v->state.bytes;
    s->m.uncaptured = v->state.uncaptured;
    s->m.origin_errors = v->state.origin_errors;
    s->m.capture_attached = v->attached;
    s->m.journal_used = g->journal_used;
    s->m.journal_total = g->journal_total;
    s->m.freeze_name = keep(s, "%s", g->freeze_name);
    s->m.freeze_lsn = g->freeze_lsn.v;
    s->m.freeze_time_ns = g->super.freeze_time_ns;
    s->m.applying_frozen = g->frozen;
    s->m.bad_record = g->data_bad_record;
    s->m.out_of_window = g->data_out_of_window;
    s->m.other_session = g->frames_other_session;
    s->m.control_bad = g->control_bad + c->peer_bad;
    s->m.peer_flags = g->super_flags_peer;
}

void hk_report_status(struct hk_control *c, struct hk_status_text *s)
{
    memset(s, 0, sizeof(*s));
    hk__pb__status__init(&s->m);
    fill_identity(c, s);
    fill_numbers(c, s);
    flag_list(c, s);
    path_list(c, s);
    volume_list(c, s);
    if (c->status.group.role == HK_ROLE_PRIMARY)
        primary_advice(c, s);
    else
        standby_advice(c, s);
    s->m.alarms = (uint32_t)s->m.n_cause;
}
