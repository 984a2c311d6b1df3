/* SPDX-License-Identifier: Apache-2.0 */
/* From the pure side's notices to messages a person may see. One place, so that ids keep meaning.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "replicator/daemon/control.h"
#include "replicator/io/clock.h"
#include "replicator/store/journal.h"

void hk_notice_add(struct hk_control *c, const char *id, uint32_t epoch, uint64_t lsn,
                   uint64_t op_id, const char *change, const char *fmt, ...)
{
    struct hk_event_entry e;
    va_list ap;

    memset(&e, 0, sizeof(e));
    snprintf(e.id, sizeof(e.id), "%s", id);
    e.epoch = epoch;
    if (!epoch && c->status.group.super.history.count)
        e.epoch = hk_history_last(&c->status.group.super.history)->ordinal;
    e.lsn = lsn;
    e.op_id = op_id;
    if (change)
        snprintf(e.change, sizeof(e.change), "%s", change);
    va_start(ap, fmt);
    vsnprintf(e.text, sizeof(e.text), fmt, ap);
    va_end(ap);
    hk_events_add(c->events, &e);
    fprintf(stderr, "hikaed: %s %s: %s\n", e.id, c->conf->name, e.text);
}

const char *hk_notice_refusal_id(uint64_t reason)
{
    static const char *const ids[HK_REFUSALS] = {
        [HK_REFUSE_NONE] = "HKE2012E",         [HK_REFUSE_VERSION] = "HKE2013E",
        [HK_REFUSE_GROUP] = "HKE2014E",        [HK_REFUSE_CONFIG] = "HKE2015E",
        [HK_REFUSE_VOLUMES] = "HKE2016E",      [HK_REFUSE_REPLICA] = "HKE2017E",
        [HK_REFUSE_ROLE] = "HKE2018E",         [HK_REFUSE_OLDER_EPOCH] = "HKE2019E",
        [HK_REFUSE_DIVERGED] = "HKE2020E",     [HK_REFUSE_STRANGERS] = "HKE2021E",
        [HK_REFUSE_PROMOTED] = "HKE2022E",     [HK_REFUSE_FULL_COMPARE] = "HKE2023E",
        [HK_REFUSE_LOST_DURABLE] = "HKE2024E", [HK_REFUSE_AHEAD] = "HKE2025E",
        [HK_REFUSE_LEASE] = "HKE2026E",        [HK_REFUSE_RING] = "HKE2027E",
        [HK_REFUSE_BUSY] = "HKE2028W",         [HK_REFUSE_NOT_READY] = "HKE2029W",
        [HK_REFUSE_BAD_FRAME] = "HKE2030E",    [HK_REFUSE_MALFORMED] = "HKE2031E",
        [HK_REFUSE_COPY] = "HKE2032E",         [HK_REFUSE_EPOCH] = "HKE2011W",
    };

    return reason < HK_REFUSALS && ids[reason] ? ids[reason] : "HKE2012E";
}

static void freeze_ended(struct hk_control *c, const struct hk_from_node *m)
{
    static const char *const why[] = {"",
                                      "it was released",
                                      "the journal passed 80 %",
                                      "the backlog hit the RTO bound",
                                      "a failover runs",
                                      "a damaged superblock slot may have ended it"};
    uint64_t r = m->action.notify.arg[0];

    if (r == HK_FREEZE_RELEASED)
        hk_notice_add(c, "HKE5003I", m->epoch, m->lsn, 0, NULL,
                      "freeze %s has ended: it was released; the standby applies again",
                      m->action.notify.name);
    else
        hk_notice_add(c, "HKE5004W", m->epoch, m->lsn, 0, NULL,
                      "freeze %s was ended early: %s; a restore that was reading it fails and "
                      "must be repeated from a new freeze",
                      m->action.notify.name, r < HK_ARRAY_SIZE(why) ? why[r] : "unknown reason");
}

static void recovered(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;

    if (a[1] == HK_JOURNAL_CLEAN)
        hk_notice_add(c, "HKE4010I", m->epoch, a[0], 0, NULL,
                      "journal recovered, clean, up to LSN %#llx", (unsigned long long)a[0]);
    else if (a[1] == HK_JOURNAL_TORN) {
        c->torn_bytes = a[2];
        hk_notice_add(
            c, "HKE4011W", m->epoch, a[0], 0, NULL,
            "journal recovered up to LSN %#llx; behind it %llu bytes are torn or corrupt, it can't "
            "be told which; if they were only torn they had never been reported durable",
            (unsigned long long)a[0], (unsigned long long)a[2]);
    } else
        hk_notice_add(c, "HKE4012E", m->epoch, a[0], 0, NULL,
                      "the journal is corrupt at LSN %#llx, below what had been reported durable; "
                      "the daemon stops; keep the files and compare with the primary",
                      (unsigned long long)a[0]);
}

/* The primary tries again for ever: the same answer is said once, then counted for a while. */
static void refused(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;
    struct hk_repeat *r = &c->refusal;
    uint64_t now = hk_clock_mono_ns();
    char often[64] = "";

    if (r->said_ns && r->reason == a[0] && r->detail[0] == a[1] && r->detail[1] == a[2]) {
        r->count++;
        if (now - r->said_ns < HK_REPEAT_MS * 1000000ull)
            return;
        snprintf(often, sizeof(often), "; %llu times since this was said last",
                 (unsigned long long)r->count);
    }
    *r = (struct hk_repeat){.reason = a[0], .detail = {a[1], a[2]}, .said_ns = now};
    hk_notice_add(c, hk_notice_refusal_id(a[0]), m->epoch, m->lsn, 0, NULL,
                  "a session with site %s was refused: %s (%#llx, %#llx); nothing was changed at "
                  "either site%s",
                  c->conf->site[c->local->peer_index].name, hk_refusal_text((enum hk_refusal)a[0]),
                  (unsigned long long)a[1], (unsigned long long)a[2], often);
}

static void session_notes(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;

    switch (m->action.notify.id) {
    case HK_NOTE_SESSION_UP:
        c->refusal = (struct hk_repeat){0};
        hk_notice_add(c, "HKE2010I", m->epoch, m->lsn, 0, NULL,
                      "session %#llx with site %s stands; the link is NOT ENCRYPTED "
                      "(lab-unencrypted)",
                      (unsigned long long)a[0], c->conf->site[c->local->peer_index].name);
        break;
    case HK_NOTE_SESSION_DOWN:
        hk_notice_add(c, "HKE2011W", m->epoch, m->lsn, 0, NULL,
                      "the session with site %s ended: %s",
                      c->conf->site[c->local->peer_index].name,
                      a[0] ? hk_refusal_text((enum hk_refusal)a[0]) : "the connection was lost");
        break;
    case HK_NOTE_REFUSED: refused(c, m); break;
    case HK_NOTE_CONTACT_LOST:
        hk_notice_add(c, "HKE2041E", m->epoch, m->lsn, 0, NULL,
                      "all paths to site %s are silent for longer than %llu ms",
                      c->conf->site[c->local->peer_index].name,
                      (unsigned long long)(c->conf->contact_timeout_ns / 1000000));
        break;
    case HK_NOTE_ROLE_LOST:
        hk_notice_add(c, "HKE6009E", m->epoch, a[1], 0, NULL,
                      "this site has lost its role: the group lives on at %s%s; what the log here "
                      "holds behind LSN %#llx, up to %#llx, may be only here: keep every "
                      "application stopped, and save this site's volumes",
                      c->conf->site[c->local->peer_index].name,
                      a[0] == HK_REFUSE_DIVERGED ? ", and both sides were written since" : "",
                      (unsigned long long)a[1], (unsigned long long)a[2]);
        break;
    case HK_NOTE_PATH_SUSPECT:
        hk_notice_add(c, "HKE2043E", m->epoch, a[0], 0, NULL,
                      "the record at LSN %#llx was refused %llu times by site %s as damaged, and "
                      "the copy here is whole: a path, or the memory of a host, changes bytes; it "
                      "is sent again",
                      (unsigned long long)a[0], (unsigned long long)a[1],
                      c->conf->site[c->local->peer_index].name);
        break;
    case HK_NOTE_CONTACT_BACK:
        hk_notice_add(c, "HKE2042I", m->epoch, m->lsn, 0, NULL, "site %s is heard again",
                      c->conf->site[c->local->peer_index].name);
        break;
    default: break;
    }
}

static void store_notes(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;

    switch (m->action.notify.id) {
    case HK_NOTE_JOURNAL_FULL:
        hk_notice_add(
            c, "HKE4020W", m->epoch, m->lsn, 0, NULL,
            "the journal is full: acknowledgements stop, the primary's policy acts; is the "
            "replica slow, or a freeze standing?");
        break;
    case HK_NOTE_JOURNAL_ROOM:
        hk_notice_add(c, "HKE4021I", m->epoch, m->lsn, 0, NULL, "the journal has room again");
        break;
    case HK_NOTE_JOURNAL_FAILED:
        hk_notice_add(c, "HKE4022E", m->epoch, m->lsn, 0, NULL,
                      "writing the journal failed (%s); a failed write is final: the daemon stops, "
                      "nothing more is acknowledged; check the disk before starting it again",
                      strerror((int)-(int64_t)a[0]));
        break;
    case HK_NOTE_REPLICA_FAILED:
        hk_notice_add(c, "HKE4023E", m->epoch, m->lsn, 0, NULL,
                      "volume %s: writing the replica failed (%s); the journal goes on, but this "
                      "standby can NOT be promoted until the replica is repaired",
                      a[0] < c->conf->volume_count ? c->conf->volume[a[0]].name : "?",
                      strerror((int)-(int64_t)a[1]));
        break;
    case HK_NOTE_SUPER_FAILED:
        hk_notice_add(c, "HKE4024E", m->epoch, m->lsn, 0, NULL,
                      "writing the metadata failed (%s); the daemon stops, nothing more is "
                      "acknowledged",
                      strerror((int)-(int64_t)a[0]));
        break;
    case HK_NOTE_BAD_RECORD:
        if (a[1] == HK_RECORD_BAD_PREV) {
            hk_notice_add(c, "HKE7016E", m->epoch, a[0], 0, NULL,
                          "the record at LSN %#llx does not follow the one before it; the session "
                          "is made anew and the record sent again",
                          (unsigned long long)a[0]);
            break;
        }
        hk_notice_add(
            c, "HKE7010E", m->epoch, a[0], 0, NULL,
            "a record at LSN %#llx is bad although its frame was good: %s; the session is "
            "made anew and the record sent again",
            (unsigned long long)a[0], hk_record_fault_text((enum hk_record_fault)a[1]));
        break;
    case HK_NOTE_IN_DOUBT:
        hk_notice_add(
            c, "HKE4025W", m->epoch, m->lsn, 0, NULL,
            "one of the two superblocks of the standby is damaged, by a write cut off or "
            "by the disk: newer facts may be gone; the data is whole up to LSN %#llx, but "
            "until %s is met again no failover states a better loss than \"unknown\"",
            (unsigned long long)m->lsn, c->conf->site[c->local->peer_index].name);
        break;
    case HK_NOTE_DOUBT_OVER:
        hk_notice_add(c, "HKE4026I", m->epoch, m->lsn, 0, NULL,
                      "site %s was met: what the damaged superblock may have held is known again",
                      c->conf->site[c->local->peer_index].name);
        break;
    case HK_NOTE_EPOCH:
        hk_notice_add(c, "HKE4030I", (uint32_t)a[0], a[1], 0, NULL,
                      "epoch %llu begins at LSN %#llx (%s)", (unsigned long long)a[0],
                      (unsigned long long)a[1], hk_epoch_reason_text((uint32_t)a[2]));
        break;
    case HK_NOTE_MODE:
        hk_notice_add(c, "HKE4031I", m->epoch, a[1], 0, NULL,
                      "the primary is in mode %s from LSN %#llx",
                      a[0] == HK_MODE_SYNC       ? "sync"
                      : a[0] == HK_MODE_SEMISYNC ? "semisync"
                                                 : "async",
                      (unsigned long long)a[1]);
        break;
    default: break;
    }
}

static void pin_notes(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;

    switch (m->action.notify.id) {
    case HK_NOTE_PINNED:
        hk_notice_add(c, "HKE4040I", m->epoch, a[0], 0, NULL,
                      "a resync begins: the standby's state at LSN %#llx (epoch %llu) is pinned; a "
                      "failover before its end goes back to it",
                      (unsigned long long)a[0], (unsigned long long)a[1]);
        break;
    case HK_NOTE_PIN_FREED:
        hk_notice_add(c, "HKE4041I", m->epoch, m->lsn, 0, NULL,
                      "the pin is given up, the replica is a consistent state again; %llu bytes "
                      "of before-images are freed",
                      (unsigned long long)a[0]);
        break;
    case HK_NOTE_PIN_SPACE:
        hk_notice_add(c, "HKE4042E", m->epoch, m->lsn, 0, NULL,
                      "before-images can't be stored (%s), %llu bytes are; the standby stands "
                      "still until there is room in the snapshots directory",
                      strerror((int)-(int64_t)a[0]), (unsigned long long)a[1]);
        break;
    case HK_NOTE_PIN_TIGHT:
        hk_notice_add(c, "HKE4047W", m->epoch, m->lsn, 0, NULL,
                      "%llu bytes are to be compared, and %llu bytes of before-images fit: if more "
                      "than that differs, the standby will stand still until there is room",
                      (unsigned long long)a[0], (unsigned long long)a[1]);
        break;
    case HK_NOTE_PIN_ROOM:
        hk_notice_add(c, "HKE4043I", m->epoch, m->lsn, 0, NULL,
                      "before-images can be stored again: the standby goes on");
        break;
    case HK_NOTE_PIN_BROKEN:
        hk_notice_add(c, "HKE4044E", m->epoch, a[0], 0, NULL,
                      "the pin at LSN %#llx is damaged or gone: until the resync has ended there "
                      "is no state that a failover could go back to, and it is refused",
                      (unsigned long long)a[0]);
        break;
    case HK_NOTE_ROLLBACK:
        hk_notice_add(c, "HKE4045I", m->epoch, a[0], 0, NULL,
                      "the failover goes back to the pin at LSN %#llx: %llu bytes are copied",
                      (unsigned long long)a[0], (unsigned long long)a[1]);
        break;
    case HK_NOTE_ROLLED_BACK:
        hk_notice_add(c, "HKE4046I", m->epoch, a[0], 0, NULL,
                      "the replica is back at LSN %#llx: %llu bytes in %llu ms",
                      (unsigned long long)a[0], (unsigned long long)a[1],
                      (unsigned long long)(a[2] / 1000000));
        break;
    default: break;
    }
}

static const char *mib_text(uint64_t bytes, char ret[32])
{
    if (bytes >= 10ull << 20)
        snprintf(ret, 32, "%llu MiB", (unsigned long long)(bytes >> 20));
    else
        snprintf(ret, 32, "%llu KiB", (unsigned long long)((bytes + 1023) >> 10));
    return ret;
}

static void resync_progress(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;
    char left[64] = "", b[32];

    if (a[2])
        snprintf(left, sizeof(left), ", about %llu s at the rate of the last half minute",
                 (unsigned long long)(a[2] / 1000000000u + 1));
    hk_notice_add(c, "HKE3102I", m->epoch, m->lsn, 0, NULL, "resync: %llu %% done, %s left%s",
                  (unsigned long long)a[0], mib_text(a[1], b), left);
}

static void resync_notes(struct hk_control *c, const struct hk_from_node *m)
{
    const char *there = c->conf->site[c->local->peer_index].name;
    const uint64_t *a = m->action.notify.arg;
    char b[32], b2[32], bad[64] = "";

    switch (m->action.notify.id) {
    case HK_NOTE_RESYNC_STARTED:
        hk_notice_add(c, "HKE3101I", m->epoch, m->lsn, 0, NULL,
                      "resync has begun: %s may differ and are compared with %s; it keeps its last "
                      "consistent state meanwhile",
                      mib_text(a[0], b), there);
        break;
    case HK_NOTE_RESYNC_PROGRESS: resync_progress(c, m); break;
    case HK_NOTE_RESYNC_INTERRUPTED:
        hk_notice_add(c, "HKE3103W", m->epoch, m->lsn, 0, NULL,
                      "resync was interrupted with %s left; it goes on with the next session",
                      mib_text(a[0], b));
        break;
    case HK_NOTE_RESYNC_ENDED:
        hk_notice_add(c, "HKE3104I", m->epoch, m->lsn, 0, NULL,
                      "every region was compared, %s in %llu s; %s differed and were sent",
                      mib_text(a[0], b), (unsigned long long)(a[2] / 1000000000u),
                      mib_text(a[1], b2));
        break;
    case HK_NOTE_RESYNC_MISMATCH:
        if (a[2])
            snprintf(bad, sizeof(bad), "; %s of the origins can't be read", mib_text(a[2], b2));
        hk_notice_add(c, "HKE3105W", m->epoch, m->lsn, 0, NULL,
                      "resync found %llu blocks of 64 KiB that differ, of %s compared%s",
                      (unsigned long long)a[0], mib_text(a[1], b), bad);
        break;
    case HK_NOTE_GAP_NEEDED:
        hk_notice_add(c, "HKE3106W", m->epoch, a[1], 0, NULL,
                      "%s can't go on from LSN %#llx (%s): everything is compared, in a new epoch "
                      "of the log",
                      there, (unsigned long long)a[1], hk_refusal_text((enum hk_refusal)a[0]));
        break;
    default: break;
    }
}

static void spool_notes(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;
    char b[32], b2[32], b3[32];

    switch (m->action.notify.id) {
    case HK_NOTE_SPOOL_RECOVERED:
        if (a[1] > a[0])
            hk_notice_add(c, "HKE4051I", m->epoch, a[1], 0, NULL,
                          "the spool holds %s of log, to LSN %#llx; it is sent first",
                          mib_text(a[1] - a[0], b), (unsigned long long)a[1]);
        break;
    case HK_NOTE_SPOOL_FAILED:
        hk_notice_add(c, "HKE4052E", m->epoch, m->lsn, 0, NULL,
                      "the spool is off: %s; the ring alone is used; %s",
                      strerror((int)-(int64_t)a[0]),
                      a[1] ? "what it holds is still sent" : "nothing of it can be sent");
        break;
    case HK_NOTE_SPOOLING:
        hk_notice_add(c, "HKE4053W", m->epoch, m->lsn, 0, NULL,
                      "log goes to the spool: the other site lacks %s; %s of %s are used",
                      mib_text(a[0], b), mib_text(a[1], b2), mib_text(a[2], b3));
        break;
    case HK_NOTE_SPOOLING_OVER:
        hk_notice_add(c, "HKE4054I", m->epoch, m->lsn, 0, NULL,
                      "the spool is not needed any more: the ring is enough again");
        break;
    case HK_NOTE_SPOOL_FULL:
        hk_notice_add(c, "HKE4055W", m->epoch, m->lsn, 0, NULL,
                      "the spool is full (%s of %s): the ring fills, then the policy acts",
                      mib_text(a[0], b), mib_text(a[1], b2));
        break;
    case HK_NOTE_RESIZED:
        hk_notice_add(c, "HKE3120I", m->epoch, m->lsn, 0, NULL,
                      "volume %s has %llu bytes from now on",
                      a[0] < c->conf->volume_count ? c->conf->volume[a[0]].name : "?",
                      (unsigned long long)a[1]);
        break;
    case HK_NOTE_SPOOL_DAMAGED:
        hk_notice_add(c, "HKE4056E", m->epoch, a[0], 0, NULL,
                      "the spool can't give back the record at LSN %#llx: what was on its way is "
                      "compared, in a new epoch of the log",
                      (unsigned long long)a[0]);
        break;
    default: break;
    }
}

void hk_notice_event(struct hk_control *c, const struct hk_from_node *m)
{
    const uint64_t *a = m->action.notify.arg;

    if (m->kind == HK_FROM_NODE_FATAL) {
        hk_notice_add(
            c, "HKE8004E", m->epoch, m->lsn, 0, NULL,
            "the daemon stops to protect the data (%s); what was acknowledged stays; see "
            "the message before this one",
            strerror(m->action.fatal.error < 0 ? -m->action.fatal.error : m->action.fatal.error));
        return;
    }
    switch (m->action.notify.id) {
    case HK_NOTE_RECOVERED: recovered(c, m); return;
    case HK_NOTE_FREEZE_BEGUN:
        hk_notice_add(c, "HKE5001I", m->epoch, a[0], 0, NULL, "freeze %s: mark set at LSN %#llx",
                      m->action.notify.name, (unsigned long long)a[0]);
        return;
    case HK_NOTE_FROZEN:
        hk_notice_add(c, "HKE5002I", m->epoch, a[0], 0, NULL,
                      "freeze %s: the replica stands exactly at its mark (LSN %#llx); read it with "
                      "`hikae restore %s`",
                      m->action.notify.name, (unsigned long long)a[0], m->action.notify.name);
        return;
    case HK_NOTE_PIN_YIELDED:
        hk_notice_add(
            c, "HKE5018I", m->epoch, a[0], 0, NULL,
            "freeze %s: a resync had not ended, so the pin is the image: the state at LSN "
            "%#llx, %llu s old; read it with `hikae restore %s`",
            m->action.notify.name, (unsigned long long)a[0],
            (unsigned long long)(a[1] / 1000000000u), m->action.notify.name);
        return;
    case HK_NOTE_FREEZE_ENDED: freeze_ended(c, m); return;
    case HK_NOTE_PROMOTION_STARTED:
        hk_notice_add(
            c, "HKE6001I", m->epoch, a[0], 0, NULL,
            "promotion has begun at LSN %#llx, loss: %s; older epochs are refused from now "
            "on",
            (unsigned long long)a[0], hk_loss_class_text((uint32_t)a[1]));
        return;
    case HK_NOTE_PROMOTED:
        hk_notice_add(c, "HKE6002I", m->epoch, a[0], 0, NULL,
                      "promoted at LSN %#llx after %llu ms, loss: %s; the replicas may be written",
                      (unsigned long long)a[0], (unsigned long long)(a[2] / 1000000),
                      hk_loss_class_text((uint32_t)a[1]));
        return;
    default:
        session_notes(c, m);
        store_notes(c, m);
        resync_notes(c, m);
        spool_notes(c, m);
        pin_notes(c, m);
        return;
    }
}

void hk_notice_capture(struct hk_control *c, const struct hk_capture_view *before,
                       const struct hk_capture_view *after)
{
    uint64_t lsn = after->state.durable;

    if (before->attached != after->attached) {
        if (after->attached)
            hk_notice_add(c, "HKE3001I", 0, lsn, 0, NULL,
                          "attached to the capture side; its ring holds LSN %#llx to %#llx",
                          (unsigned long long)after->state.released,
                          (unsigned long long)after->state.produced);
        else
            hk_notice_add(
                c, "HKE3002W", 0, lsn, 0, NULL,
                "the capture side is gone; it is tried again; written data is in its ring");
    }
    if (before->state.state == after->state.state)
        return;
    switch ((enum hk_group_state)after->state.state) {
    case HK_STATE_PACING:
        hk_notice_add(c, "HKE3010W", 0, lsn, 0, NULL,
                      "writes wait: %s; what was acknowledged is not lost",
                      after->state.held > 0 && c->conf->on_link_loss == HK_LINK_LOSS_BLOCK
                          ? "the standby does not answer, and on-link-loss = block"
                          : "the ring is full, the link or the standby is slower than the "
                            "application");
        break;
    case HK_STATE_BLOCKED:
        if (c->conf->on_link_loss != HK_LINK_LOSS_BLOCK) {
            hk_notice_add(c, "HKE3012E", 0, lsn, 0, NULL,
                          "APPLICATION I/O STOPPED BY POLICY (on-overflow = block): ring and spool "
                          "are full; writes wait until there is room again; nothing is lost");
            break;
        }
        hk_notice_add(c, "HKE3011E", 0, lsn, 0, NULL,
                      "APPLICATION I/O STOPPED BY POLICY (on-link-loss = block): writes wait until "
                      "the standby is there again; nothing is lost");
        break;
    case HK_STATE_DEGRADED:
        hk_notice_add(c, "HKE3020E", 0, lsn, 0, NULL,
                      "degraded: writes are acknowledged without the standby since LSN %#llx",
                      (unsigned long long)after->state.degraded_lsn);
        break;
    case HK_STATE_BEHIND:
        hk_notice_add(c, "HKE3030E", 0, lsn, 0, NULL,
                      "behind: writes are no longer captured, their regions are noted and will be "
                      "compared; the standby stays consistent at LSN %#llx",
                      (unsigned long long)lsn);
        break;
    case HK_STATE_ORIGIN_FAILED:
        hk_notice_add(
            c, "HKE3040E", 0, lsn, 0, NULL,
            "an origin refused a write or flush (%llu so far): the application was told; a "
            "full compare is required",
            (unsigned long long)after->state.origin_errors);
        break;
    case HK_STATE_REPLICATING:
        if (before->ever)
            hk_notice_add(c, "HKE3021I", 0, lsn, 0, NULL, "replicating");
        break;
    case HK_STATE_INITIAL:
    case HK_STATE_SPOOLING:
    case HK_STATE_RESYNC:
    case HK_STATE_DETACHED: break;
    }
}

void hk_notice_bad_frames(struct hk_control *c)
{
    static const char *const id[HK_FRAME_FAULTS] = {
        [HK_FRAME_SHORT] = "HKE7001W",       [HK_FRAME_BAD_LENGTH] = "HKE7002W",
        [HK_FRAME_BAD_VERSION] = "HKE7003W", [HK_FRAME_BAD_TAG] = "HKE7004W",
        [HK_FRAME_BAD_TYPE] = "HKE7005W",    [HK_FRAME_BAD_SESSION] = "HKE7006W",
    };
    uint64_t count;
    uint32_t path;
    int f;

    for (f = HK_FRAME_SHORT; f < HK_FRAME_FAULTS; f++) {
        count = f == HK_FRAME_BAD_SESSION ? c->status.group.frames_other_session : 0;
        for (path = 0; path < HK_PATHS_MAX; path++)
            count += c->status.bad[path][f];
        if (count > c->bad_said[f] && id[f])
            hk_notice_add(
                c, id[f], 0, 0, 0, NULL,
                "%llu frames were refused (%s), %llu since the start; what they carried is "
                "sent again, no data is lost",
                (unsigned long long)(count - c->bad_said[f]),
                hk_frame_fault_text((enum hk_frame_fault)f), (unsigned long long)count);
        c->bad_said[f] = count;
    }
}
