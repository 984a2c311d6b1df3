/* SPDX-License-Identifier: Apache-2.0 */
/* The status message: what the node and the capture side said, in the words a person reads. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replicator/core/lag.h"
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

uint64_t hk_report_contact_lost(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;

    if (g->contact || !g->contact_ns || g->contact_ns > c->status.now_mono_ns)
        return 0;
    return c->status.now_real_ns - (c->status.now_mono_ns - g->contact_ns);
}

const char *hk_report_state(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;
    uint32_t state = g->state;

    if (g->promoted)
        return "promoted";
    if (g->super.flags & HK_SF_PROMOTING)
        return "promoting";
    if (g->role_lost)
        return "superseded";
    if (g->role == HK_ROLE_PRIMARY && c->status.capture.ever) {
        if (!c->status.capture.attached)
            return "detached";
        state = c->status.capture.state.state;
    }
    /* Nobody writes, so the capture side has not noticed; or the last word of a silent primary. */
    if (!g->contact && (state == HK_STATE_REPLICATING ||
                        (g->role == HK_ROLE_STANDBY && g->ready && state != HK_STATE_INITIAL)))
        return "no-contact";
    return state_word(state);
}

uint64_t hk_report_stopped_since(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_capture_view *v = &c->status.capture;
    uint64_t lost = hk_report_contact_lost(c);

    if (g->role != HK_ROLE_PRIMARY || !v->attached)
        return 0;
    if (g->on_link_loss != HK_LINK_LOSS_BLOCK && v->state.state != HK_STATE_BLOCKED)
        return 0;
    if (v->state.state != HK_STATE_BLOCKED &&
        !(v->state.state == HK_STATE_PACING && v->state.held > 0 && !g->contact))
        return 0;
    return lost && lost < v->state.since_ns ? lost : v->state.since_ns;
}

enum hk_loss_class hk_report_class(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;

    /* The group supposes a fence at this moment; without a command there will be none. */
    if (!g->promoted && g->loss_class == HK_LOSS_ZERO_IF_FENCED && !*c->local->fence_command)
        return HK_LOSS_UNKNOWN;
    return g->loss_class;
}

/* Log bytes a second between two looks; the hole between two epochs is no log. */
static uint64_t rate(const struct hk_history *h, struct hk_lsn from, struct hk_lsn to, uint64_t ns)
{
    return to.v > from.v ? hk_lag_bytes(h, from.v, to.v) * 1000 / (ns / 1000000) : 0;
}

static void watch_rates(struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;
    struct hk_watch *w = &c->watch;
    uint64_t now = c->status.now_mono_ns, passed = now - w->mono_ns;
    bool before = w->mono_ns && w->mark.produced.v && w->mark.applied.v;

    if (w->mono_ns && passed < 900000000)
        return;
    w->known = before && passed < 10000000000 && g->super.history.count > 0;
    if (w->known) {
        w->produced_s = rate(&g->super.history, w->mark.produced, g->mark.produced, passed);
        w->acked_s = rate(&g->super.history, w->mark.acked, g->mark.acked, passed);
        w->durable_s = rate(&g->super.history, w->mark.durable, g->mark.durable, passed);
        w->applied_s = rate(&g->super.history, w->mark.applied, g->mark.applied, passed);
    }
    w->mono_ns = now;
    w->mark = g->mark;
}

void hk_report_watch(struct hk_control *c)
{
    struct hk_watch *w = &c->watch;
    char verdict[40];

    watch_rates(c);
    snprintf(verdict, sizeof(verdict), "%s%s", hk_report_state(c),
             c->status.group.in_sync ? ", in sync" : "");
    if (!strcmp(verdict, w->verdict))
        return;
    memcpy(w->verdict, verdict, sizeof(w->verdict));
    w->since_ns = c->status.now_real_ns;
}

/* Since when the verdict holds: never earlier than it is known to. */
static uint64_t state_since(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_capture_view *v = &c->status.capture;
    uint64_t lost = hk_report_contact_lost(c);

    if (g->promoted || (g->super.flags & HK_SF_PROMOTING))
        return g->super.promote_time_ns;
    if (!strcmp(hk_report_state(c), "no-contact"))
        return lost ? lost : c->watch.since_ns;
    if (g->role == HK_ROLE_PRIMARY && v->attached && v->state.state != HK_STATE_REPLICATING)
        return v->state.since_ns;
    return hk_max_u64(c->watch.since_ns, g->role == HK_ROLE_PRIMARY ? v->state.since_ns : 0);
}

char *hk_report_keep(struct hk_status_text *s, const char *fmt, ...)
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
    return hk_report_keep(s, "%s", text);
}

/* Lists are built one after the other in s->list. */
void hk_report_list(struct hk_status_text *s, char *text)
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
        hk_report_list(s, hk_report_keep(s, "full-compare-required"));
    if (flags & HK_SF_NOT_PROMOTABLE)
        hk_report_list(s, hk_report_keep(s, "not-promotable"));
    if (flags & HK_SF_IN_DOUBT)
        hk_report_list(s, hk_report_keep(s, "in-doubt"));
    if (flags & HK_SF_ORIGIN_FAILED)
        hk_report_list(s, hk_report_keep(s, "origin-failed"));
    if (g->inconsistent)
        hk_report_list(s, hk_report_keep(s, g->pinned ? "pinned" : "no-consistent-state"));
    if (c->conf->lab_unencrypted)
        hk_report_list(s, hk_report_keep(s, "link-not-encrypted"));
    if (g->frozen)
        hk_report_list(s, hk_report_keep(s, "frozen"));
    if (g->role == HK_ROLE_STANDBY && !g->ready)
        hk_report_list(s, hk_report_keep(s, "recovering"));
    s->m.flags = s->list + from;
    s->m.n_flags = s->list_used - from;
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
        p->backend = hk_report_keep(s, "%s", c->status.link_text[i]);
        s->path_ptr[i] = p;
    }
    s->m.n_path = i;
    s->m.path = s->path_ptr;
}

static const char *volume_state(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;

    if (g->promoted)
        return "promoted";
    if (g->role_lost)
        return "of an old epoch";
    if (g->super.flags & HK_SF_FULL_COMPARE)
        return "may differ";
    if (g->role == HK_ROLE_PRIMARY && c->status.capture.state.stale_bytes)
        return g->resync.running ? "being compared" : "may differ";
    if (g->inconsistent)
        return g->pinned ? "pinned" : "not consistent";
    if (!g->contact)
        return g->role == HK_ROLE_STANDBY ? "as of last contact" : "standby unknown";
    return g->mark.durable.v == g->mark.produced.v ? "equal" : "following";
}

/* Today's, as far as it is known. */
uint64_t hk_report_volume_bytes(const struct hk_control *c, uint32_t i)
{
    const struct hk_super *super = &c->status.group.super;

    return i < super->volume_count ? super->volume[i].bytes : c->conf->volume[i].bytes;
}

static void volume_list(struct hk_control *c, struct hk_status_text *s)
{
    uint32_t i;

    for (i = 0; i < c->conf->volume_count; i++) {
        hk__pb__volume_status__init(&s->volume[i]);
        s->volume[i].name = (char *)(uintptr_t)c->conf->volume[i].name;
        s->volume[i].bytes = hk_report_volume_bytes(c, i);
        s->volume[i].state = hk_report_keep(s, "%s", volume_state(c));
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
    s->m.group = hk_report_keep(s, "%s", c->conf->name);
    s->m.group_id = keep_uuid(s, &c->conf->id);
    s->m.site = hk_report_keep(s, "%s", c->local->site);
    s->m.host = hk_report_keep(s, "%s", host);
    s->m.peer_site = hk_report_keep(s, "%s", c->conf->site[c->local->peer_index].name);
    s->m.role = hk_report_keep(s, "%s", g->role == HK_ROLE_PRIMARY ? "primary" : "standby");
    s->m.state = hk_report_keep(s, "%s", hk_report_state(c));
    s->m.mode = hk_report_keep(s, "%s",
                               c->conf->mode == HK_MODE_SYNC       ? "sync"
                               : c->conf->mode == HK_MODE_SEMISYNC ? "semisync"
                                                                   : "async");
    s->m.on_link_loss =
        hk_report_keep(s, "%s", c->conf->on_link_loss == HK_LINK_LOSS_BLOCK ? "block" : "continue");
    s->m.on_overflow = hk_report_keep(s, "%s",
                                      c->conf->on_overflow == HK_OVERFLOW_BLOCK    ? "block"
                                      : c->conf->on_overflow == HK_OVERFLOW_BEHIND ? "behind"
                                                                                   : "pace");
    s->m.session = hk_report_keep(s, "%s",
                                  g->session == HK_SESSION_UP         ? "up"
                                  : g->session == HK_SESSION_GREETING ? "greeting"
                                                                      : "down");
    s->m.session_id = g->session_id;
    if (last) {
        s->m.epoch = last->ordinal;
        s->m.epoch_id = keep_uuid(s, &last->id);
    }
    s->m.last_refusal =
        hk_report_keep(s, "%s", g->last_refusal ? hk_refusal_text(g->last_refusal) : "");
    s->m.config_equal = g->session == HK_SESSION_UP;
    s->m.config = hk_report_keep(s, "%s",
                                 s->m.config_equal                     ? "equal"
                                 : g->last_refusal == HK_REFUSE_CONFIG ? "differs"
                                                                       : "unknown");
    s->m.promoted = g->promoted;
    s->m.role_lost = g->role_lost != HK_REFUSE_NONE;
    s->m.loss_class = hk_report_keep(s, "%s", hk_loss_class_text(hk_report_class(c)));
}

static void fill_positions(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_watch *w = &c->watch;

    s->m.produced = g->mark.produced.v;
    s->m.sent = g->mark.sent.v;
    s->m.acked = g->mark.acked.v;
    s->m.durable = g->mark.durable.v;
    s->m.applied = g->mark.applied.v;
    s->m.ceiling = g->ceiling.v;
    s->m.rate_known = w->known;
    s->m.rate_produced = w->produced_s;
    s->m.rate_acked = w->acked_s;
    s->m.rate_durable = w->durable_s;
    s->m.rate_applied = w->applied_s;
    s->m.acked_p50_ns = c->status.acked_p50_ns;
    s->m.acked_p99_ns = c->status.acked_p99_ns;
    s->m.durable_p50_ns = c->status.durable_p50_ns;
    s->m.durable_p99_ns = c->status.durable_p99_ns;
    s->m.lose_known = g->lose_known;
    s->m.lose_bytes = g->lose_bytes;
    s->m.lose_ns = g->lose_ns;
    s->m.lag_bytes = g->lag_bytes;
    s->m.lag_records = g->lag_records;
    s->m.lag_records_bound = g->lag_records_bound;
    s->m.lag_ns = g->lag_ns;
    /* Inside a resync: what is still to be applied may end it, else the pin's bytes go back. */
    s->m.take_over_bytes = g->apply_lag_bytes + g->rollback_bytes;
    s->m.take_over_known = g->mark.applied.v > 0 &&
                           (!g->inconsistent || (g->pinned && !g->pin_broken)) &&
                           (g->apply_rate_bytes_s > 0 || s->m.take_over_bytes == 0);
    if (g->apply_rate_bytes_s)
        s->m.take_over_ns = s->m.take_over_bytes * 1000 / (g->apply_rate_bytes_s / 1000000 + 1);
}

static void fill_times(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;

    s->m.state_since_ns = state_since(c);
    s->m.now_ns = c->status.now_real_ns;
    s->m.contact = g->contact;
    s->m.contact_age_ns = g->contact_ns ? c->status.now_mono_ns - g->contact_ns : 0;
    s->m.contact_real_ns = g->contact_real_ns;
    s->m.contact_timeout_ns = c->conf->contact_timeout_ns;
    s->m.contact_lost_ns = hk_report_contact_lost(c);
    s->m.stopped_since_ns = hk_report_stopped_since(c);
    s->m.learnt_known = g->contact_ns != 0;
    s->m.learnt_age_ns = s->m.contact_age_ns;
    if (hk_report_class(c) == HK_LOSS_ZERO_IF_FENCED && g->contact_real_ns)
        s->m.fenced_before_ns = g->contact_real_ns + g->super.contact_timeout_ns;
}

static void fill_spool(struct hk_status_text *s, const struct hk_group_status *g)
{
    static const char *const ladder[] = {"ring", "spool", "pace", "behind"};
    static const char *const state[] = {"none",    "recovering", "recovering",
                                        "running", "read-only",  "failed"};
    bool primary = g->role == HK_ROLE_PRIMARY;

    s->m.ladder = hk_report_keep(s, "%s", primary ? ladder[g->ladder] : "");
    s->m.stalled = hk_report_keep(s, "%s", primary && g->stalled ? hk_stall_text(g->stalled) : "");
    s->m.spool_state = hk_report_keep(s, "%s", primary ? state[g->spool] : "");
    s->m.spool_used = g->spool_used;
    s->m.spool_total = g->spool_total;
}

static void fill_buffers(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_capture_view *v = &c->status.capture;

    s->m.ring_used = v->state.payload_used;
    s->m.ring_total = v->state.payload_total;
    s->m.waiting = v->state.waiting;
    s->m.held = v->state.held;
    s->m.writes = v->state.writes;
    s->m.bytes = v->state.bytes;
    s->m.uncaptured = v->state.uncaptured;
    s->m.origin_errors = v->state.origin_errors;
    s->m.capture_attached = v->attached;
    fill_spool(s, g);
    s->m.journal_used = g->journal_used;
    s->m.journal_held = g->journal_held;
    s->m.journal_total = g->journal_total;
    s->m.freeze_name = hk_report_keep(s, "%s", g->freeze_name);
    s->m.freeze_lsn = g->freeze_lsn.v;
    s->m.freeze_time_ns = g->super.freeze_time_ns;
    s->m.applying_frozen = g->frozen;
    s->m.bad_record = g->data_bad_record;
    s->m.bad_chain = g->data_bad_chain;
    s->m.own_copy_bad = g->own_copy_bad;
    s->m.own_copy_good = g->own_copy_good;
    s->m.out_of_window = g->data_out_of_window;
    s->m.other_session = g->frames_other_session;
    s->m.control_bad = g->control_bad + c->peer_bad;
    s->m.local_bad = c->local_bad;
    s->m.strangers = c->strangers;
    s->m.peer_flags = g->super_flags_peer;
}

static void fill_resync(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_resync_status *r = &g->resync;
    const struct hk_capture_view *v = &c->status.capture;

    s->m.inconsistent = g->inconsistent;
    s->m.pinned = g->pinned;
    s->m.pin_lsn = g->pin_lsn.v;
    s->m.pin_epoch = g->super.pin_ordinal;
    s->m.pin_time_ns = g->pin_time_ns;
    s->m.pin_bytes = g->rollback_bytes;
    if (g->role != HK_ROLE_PRIMARY || !v->attached || g->super.region_shift == 0)
        return;
    s->m.map_known = true;
    s->m.dirty_bytes = v->state.stale_bytes;
    if (v->state.stale_bytes == 0 && !r->running && !r->paused && !r->throttle_bytes_s)
        return;
    hk__pb__resync__init(&s->resync);
    s->m.resync = &s->resync;
    s->resync.running = r->running;
    s->resync.paused = r->paused;
    s->resync.stale_bytes = v->state.stale_bytes;
    s->resync.total_bytes = hk_max_u64(r->total_bytes, v->state.stale_bytes);
    s->resync.compared_bytes = r->compared_bytes;
    s->resync.unequal_blocks = r->unequal_blocks;
    s->resync.sent_bytes = r->sent_bytes;
    s->resync.unreadable_bytes = r->unreadable_bytes;
    s->resync.repeated = r->repeated;
    s->resync.rate_bytes_s = r->rate_bytes_s;
    s->resync.limit_bytes_s = r->limit_bytes_s;
    s->resync.throttle_bytes_s = r->throttle_bytes_s;
    s->resync.eta_ns = r->eta_ns;
}

void hk_report_status(struct hk_control *c, struct hk_status_text *s)
{
    memset(s, 0, sizeof(*s));
    hk__pb__status__init(&s->m);
    fill_identity(c, s);
    s->m.in_sync = c->status.group.in_sync;
    s->m.ready = c->status.group.ready;
    fill_positions(c, s);
    fill_times(c, s);
    fill_buffers(c, s);
    fill_resync(c, s);
    flag_list(c, s);
    path_list(c, s);
    volume_list(c, s);
    hk_advice(c, s);
    s->m.alarms = (uint32_t)s->m.n_cause;
}
