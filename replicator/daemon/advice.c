/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CAUSE, NEXT and DO of the status screen: whenever it is not green, and only then. Each cause
 * begins with its message id; what a person has to do about a refusal is what the message manual
 * says.
 */
#include <stdio.h>
#include <string.h>

#include "replicator/daemon/control.h"
#include "replicator/messages/messages.h"

static const char *peer_of(const struct hk_control *c)
{
    return c->conf->site[c->local->peer_index].name;
}

static void add(struct hk_status_text *s, const char *text)
{
    hk_report_list(s, hk_report_keep(s, "%s", text));
}

static uint32_t flags_of(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;
    uint32_t flags = g->super.flags;

    if (g->role == HK_ROLE_PRIMARY && c->status.capture.ever)
        flags |= c->status.capture.state.super_flags;
    return flags;
}

/* The other side said no, or we did: that, and not the silence that follows, is the cause. */
static bool refused(const struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;

    return g->session == HK_SESSION_DOWN && g->last_refusal &&
           g->last_refusal != HK_REFUSE_NOT_READY && !g->promoted;
}

static bool older_here(const struct hk_control *c)
{
    return c->status.group.role_lost != HK_REFUSE_NONE;
}

/* ---- CAUSE ---- */

static void refusal_cause(struct hk_control *c, struct hk_status_text *s)
{
    enum hk_refusal r = c->status.group.last_refusal;

    hk_report_list(s, hk_report_keep(s, "%s no session with %s: %s", hk_notice_refusal_id(r),
                                     peer_of(c), hk_refusal_text(r)));
}

/* Which stage has work and stands still; the first of them holds up the others. */
static void stall_cause(struct hk_control *c, struct hk_status_text *s)
{
    enum hk_stall_stage stage = c->status.group.stalled;

    if (c->status.group.role == HK_ROLE_PRIMARY && stage)
        hk_report_list(
            s, hk_report_keep(s,
                              "HKE4057W %s stands still although it has work, for "
                              "longer than %llu s",
                              hk_stall_text(stage),
                              (unsigned long long)(c->conf->contact_timeout_ns / 1000000000u)));
}

static bool has_map(const struct hk_control *c)
{
    return c->status.group.super.region_shift != 0;
}

static void stale_cause(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_resync_status *r = &c->status.group.resync;
    unsigned long long left = c->status.capture.state.stale_bytes >> 10;

    if (left == 0 || !c->status.capture.attached)
        return;
    if (r->paused)
        hk_report_list(s, hk_report_keep(s,
                                         "HKE3108I resync is paused by an operator: %llu KiB "
                                         "may differ",
                                         left));
    else if (r->running)
        hk_report_list(
            s, hk_report_keep(s, "HKE3101I resync is under way: %llu KiB may differ", left));
    else
        hk_report_list(s, hk_report_keep(s,
                                         "HKE3103W resync waits for a session: %llu KiB may "
                                         "differ",
                                         left));
}

static void primary_causes(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_capture_view *v = &c->status.capture;
    uint32_t flags = flags_of(c);

    if (!v->attached)
        hk_report_list(s, hk_report_keep(s,
                                         "HKE3002W the capture side is not there: no volume of "
                                         "this group is served, or its socket %s can't be reached",
                                         c->local->capture.socket));
    if (flags & HK_SF_ORIGIN_FAILED)
        add(s, "HKE3040E an origin refused a write or flush; the application was told");
    if ((flags & HK_SF_FULL_COMPARE) && !has_map(c))
        add(s, "HKE3030E writes are not captured any more; a full compare is required");
    else if (v->attached && v->state.state == HK_STATE_BEHIND)
        add(s, "HKE3030E behind: writes are not captured, their regions are noted");
    stale_cause(c, s);
    stall_cause(c, s);
    if (older_here(c))
        hk_report_list(s, hk_report_keep(s,
                                         "HKE6009E %s was promoted and lives in a newer epoch: "
                                         "this site is the OLD primary%s",
                                         peer_of(c),
                                         g->role_lost == HK_REFUSE_DIVERGED
                                             ? ", and both sides were written since"
                                             : ""));
    else if (refused(c))
        refusal_cause(c, s);
    else if (!g->contact && v->attached)
        hk_report_list(s, hk_report_keep(s, "HKE2041E all paths to %s are silent", peer_of(c)));
    if (hk_report_stopped_since(c))
        add(s, c->conf->on_link_loss == HK_LINK_LOSS_BLOCK
                   ? "HKE3011E APPLICATION I/O STOPPED BY POLICY (on-link-loss = block)"
                   : "HKE3012E APPLICATION I/O STOPPED BY POLICY (on-overflow = block): ring and "
                     "spool are full");
    else if (v->attached && v->state.state == HK_STATE_PACING && g->contact)
        add(s, "HKE3010W writes wait for room: the link or the standby is slower than the "
               "application");
    if (v->attached && v->state.state == HK_STATE_DEGRADED)
        add(s, "HKE3020E degraded: writes are acknowledged without the standby");
}

static void standby_causes(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;

    if (!g->ready) {
        add(s, "HKE4013I recovery of the journal is running");
        return;
    }
    if (g->super.flags & HK_SF_PROMOTING)
        add(s, "HKE6001I a promotion is under way");
    if (g->super.flags & HK_SF_NOT_PROMOTABLE)
        add(s, "HKE4023E a replica could not be written: NOT promotable");
    if (g->super.flags & HK_SF_FULL_COMPARE)
        add(s, "HKE2023E a full compare is required: the primary writes what is not here");
    if (g->inconsistent && g->pinned)
        add(s, "HKE3101I inside a resync: a failover goes back to the state that is pinned");
    else if (g->inconsistent)
        add(s, "HKE3101I the first synchronisation is under way: there is nothing to fail over to "
               "yet");
    if (g->pin_stands)
        hk_report_list(s, hk_report_keep(s,
                                         "HKE4042E before-images can't be stored (%s): nothing is "
                                         "applied until they can",
                                         strerror(-g->pin_stands)));
    if (g->journal_full)
        add(s, "HKE4020W the journal is full: nothing more is acknowledged until it has room");
    if (g->super.flags & HK_SF_IN_DOUBT)
        add(s, "HKE4025W a superblock was found damaged: newer facts may be gone, so a loss is "
               "stated as \"unknown\" and no better");
    if (refused(c))
        refusal_cause(c, s);
    else if (!g->contact && !(g->super.flags & HK_SF_PROMOTING))
        hk_report_list(s, hk_report_keep(s, "HKE2041E all paths to %s are silent", peer_of(c)));
    else if (g->state == HK_STATE_DEGRADED)
        hk_report_list(s, hk_report_keep(s,
                                         "HKE3020E %s is degraded: it acknowledges writes "
                                         "without this standby",
                                         peer_of(c)));
}

/* After a promotion: only what is wrong now. */
static void promoted_causes(struct hk_control *c, struct hk_status_text *s)
{
    enum hk_refusal r = c->status.group.last_refusal;

    if (r == HK_REFUSE_OLDER_EPOCH || r == HK_REFUSE_DIVERGED || r == HK_REFUSE_STRANGERS)
        hk_report_list(s, hk_report_keep(s, "%s the old primary %s came back and was refused: %s",
                                         hk_notice_refusal_id(r), peer_of(c), hk_refusal_text(r)));
}

/* ---- NEXT ---- */

static void primary_next(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    bool block = g->on_link_loss == HK_LINK_LOSS_BLOCK;

    if (older_here(c))
        add(s, block ? "nothing written here from now on reaches the group; writes wait, without "
                       "bound (on-link-loss = block)"
                     : "nothing written here from now on reaches the group");
    else if ((flags_of(c) & HK_SF_FULL_COMPARE) && !has_map(c))
        add(s, "the standby stays consistent at what is durable; new writes are only here. "
               "The application is NOT stopped.");
    else if (c->status.group.resync.running)
        add(s, "both sites compare; what differs is sent; then in sync by itself. Until then a "
               "failover means the standby's state before the resync.");
    else if (c->status.capture.attached && (flags_of(c) & HK_SF_STALE))
        add(s, "the standby keeps its last consistent state; when it is there again the regions "
               "written meanwhile are compared. The application is NOT stopped.");
    else if (!c->status.capture.attached)
        add(s, "the volumes are served again as soon as the capture side is started; what was "
               "acknowledged is in its ring and at the standby");
    else if (block)
        add(s, "writes wait for the standby, without bound (on-link-loss = block); what was "
               "acknowledged is not lost");
    else if (c->conf->on_overflow == HK_OVERFLOW_BLOCK)
        add(s, "ring and spool take writes until they are full, then writes wait, without bound "
               "(on-overflow = block); what was acknowledged is not lost");
    else
        add(s, has_map(c) ? "the ring takes writes until it is full, then BEHIND: they are not "
                            "captured, their regions are compared later. The application is NOT "
                            "stopped."
                          : "the ring takes writes until it is full, then BEHIND: they are not "
                            "captured and a full compare is required. The application is NOT "
                            "stopped.");
}

static void standby_next(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;

    if (!g->ready || (g->super.flags & HK_SF_PROMOTING))
        add(s, "it goes on by itself");
    else
        hk_report_list(s, hk_report_keep(s,
                                         "this standby keeps its last consistent state and waits "
                                         "for %s",
                                         peer_of(c)));
}

/* ---- DO ---- */

static void manual_action(struct hk_control *c, struct hk_status_text *s)
{
    const char *id = hk_notice_refusal_id(c->status.group.last_refusal);
    enum hk_msg msg;

    if (hk_msg_find(id, &msg) == 0)
        hk_report_list(
            s, hk_report_keep(s, "1 %s (hikae explain %s)", hk_msg_get(msg)->en.operator, id));
}

static void primary_do(struct hk_control *c, struct hk_status_text *s)
{
    if (older_here(c)) {
        hk_report_list(s, hk_report_keep(s,
                                         "1 keep every application stopped here: the group "
                                         "lives at %s",
                                         peer_of(c)));
        add(s,
            "2 save this site's volumes and metadata as they are, if something is missing there");
        return;
    }
    if (c->status.group.resync.running) {
        add(s, c->status.group.resync.paused
                   ? "1 let it go on when the time is right: `hikae resync --resume`"
                   : "1 nothing: it ends by itself; `hikae resync --limit` bounds its rate");
        return;
    }
    if ((flags_of(c) & HK_SF_FULL_COMPARE) && !has_map(c)) {
        add(s, "1 keep the standby as it is until both sites are equal again");
        add(s, "2 stop the application, make the volumes equal, then `hikae create-md "
               "--assume-equal --force` at both sites");
        return;
    }
    if (refused(c)) {
        manual_action(c, s);
        return;
    }
    if (!c->status.capture.attached) {
        add(s, "1 start the capture side (nbdkit with the Hikae plugin), look at its log");
        return;
    }
    hk_report_list(s, hk_report_keep(s, "1 check the line and hikaed at %s", peer_of(c)));
    hk_report_list(s, hk_report_keep(s, "2 do NOT fail over unless %s is lost", c->local->site));
    add(s, "3 after repair: nothing, it resumes by itself");
}

static void standby_do(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;

    if (!g->ready || (g->super.flags & HK_SF_PROMOTING)) {
        add(s, "1 nothing; look again");
        return;
    }
    if (refused(c)) {
        manual_action(c, s);
        return;
    }
    if (g->super.flags & HK_SF_IN_DOUBT)
        hk_report_list(s, hk_report_keep(s,
                                         "0 let %s connect: the doubt about the metadata then ends "
                                         "by itself (hikae explain HKE4025W)",
                                         peer_of(c)));
    if (g->pin_stands)
        add(s, "0 give the snapshots directory room, or raise snapshot-mib and start hikaed again; "
               "the pin is not given up by itself (hikae explain HKE4042E)");
    if (g->contact) {
        hk_report_list(s, hk_report_keep(s, "1 look at `hikae status` at %s", peer_of(c)));
        return;
    }
    hk_report_list(s,
                   hk_report_keep(s, "1 find out whether %s is lost or only the line", peer_of(c)));
    hk_report_list(s, hk_report_keep(s,
                                     "2 only if it is lost: `hikae failover %s` (it would state "
                                     "the loss as: %s)",
                                     c->conf->name, hk_loss_class_text(hk_report_class(c))));
}

static void promoted_do(struct hk_control *c, struct hk_status_text *s)
{
    hk_report_list(s, hk_report_keep(s, "1 keep every application stopped at %s", peer_of(c)));
    add(s, "2 stop its hikaed; its volumes are the state before the failover, and what only they "
           "hold is not here");
}

void hk_advice(struct hk_control *c, struct hk_status_text *s)
{
    const struct hk_group_status *g = &c->status.group;
    bool primary = g->role == HK_ROLE_PRIMARY;
    size_t from = s->list_used;

    if (g->promoted)
        promoted_causes(c, s);
    else if (primary)
        primary_causes(c, s);
    else
        standby_causes(c, s);
    s->m.cause = s->list + from;
    s->m.n_cause = s->list_used - from;
    from = s->list_used;
    if (s->m.n_cause && !g->promoted)
        (primary ? primary_next : standby_next)(c, s);
    s->m.next = s->list + from;
    s->m.n_next = s->list_used - from;
    from = s->list_used;
    if (s->m.n_cause)
        (g->promoted ? promoted_do : primary ? primary_do : standby_do)(c, s);
    s->m.do_ = s->list + from;
    s->m.n_do_ = s->list_used - from;
}
