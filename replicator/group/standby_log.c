/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's log: whole records go from the window into the journal, in batches; `reported` is
 * what may be called durable. It stops at a mode record until the superblock says what that record
 * means: a restarted standby must never know less about what was promised than the primary thinks
 * it knows (SPEC.md §9), and the primary changes its ways only when the record is reported durable.
 */
#include "replicator/group/private.h"

#include <errno.h>

/* model: promote.pml, MODE_SEEN */
void hk_standby_mode_seen(struct hk_group *g, uint64_t end, const struct hk_mode_change *m)
{
    struct hk_super *super = hk_standby_super(g);

    if (end <= super->mode_lsn)
        return;
    super->mode_lsn = end;
    super->mode = m->mode;
    super->on_link_loss = m->on_link_loss;
    super->contact_timeout_ns = m->contact_timeout_ns;
    hk_group_notify(g, HK_NOTE_MODE, m->mode, end, m->on_link_loss, NULL);
}

/* What begins or ends a resync, before it is applied. */
static void turn(struct hk_standby *s, const struct hk_record *r)
{
    s->turn_lsn = hk_record_end(r).v;
    s->turn_type = r->type;
}

void hk_standby_received(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t before = s->receiver.acked;
    struct hk_received rec;

    while (s->mode_count < HK_GROUP_MODES && hk_receiver_next_record(&s->receiver, &rec)) {
        if (rec.record.type == HK_REC_GAP || rec.record.type == HK_REC_RESYNC_BEGIN ||
            rec.record.type == HK_REC_RESYNC_END)
            turn(s, &rec.record);
        if (rec.record.type != HK_REC_MODE)
            continue;
        s->mode[s->mode_count].lsn = rec.record.lsn;
        s->mode[s->mode_count].end = hk_record_end(&rec.record).v;
        __builtin_memcpy(&s->mode[s->mode_count].change, rec.payload,
                         sizeof(struct hk_mode_change));
        s->mode_count++;
    }
    /* In semisync somebody's write waits for just this. */
    if (s->receiver.acked > before && hk_standby_super(g)->mode == HK_MODE_SEMISYNC)
        hk_receiver_ack_now(&s->receiver);
    if (s->receiver.fault == HK_RECORD_OK)
        return;
    hk_group_notify(g, HK_NOTE_BAD_RECORD, s->receiver.fault_lsn, s->receiver.fault, 0, NULL);
    s->receiver.fault = HK_RECORD_OK;
    s->bad_count = s->bad_lsn == s->receiver.fault_lsn ? s->bad_count + 1 : 1;
    s->bad_lsn = s->receiver.fault_lsn;
    hk_standby_end_session(g, HK_REFUSE_BAD_FRAME);
}

/* Is a batch worth its own write now? Alone it always is; under load larger ones are better. */
static bool worth_a_batch(const struct hk_group *g, uint64_t pending)
{
    const struct hk_standby *s = g->standby;

    return s->journal.slot_count < HK_GROUP_BATCHES_EAGER || pending >= HK_GROUP_BATCH_BYTES ||
           s->promotion != HK_PROMOTION_NONE || s->stopping;
}

/* durable − applied is bounded, because it is the time to take over. */
static bool applier_is_too_far(const struct hk_group *g, uint64_t end)
{
    const struct hk_standby *s = g->standby;
    const struct hk_history *h = &hk_standby_super(g)->history;

    if (s->replica_failed || s->promotion != HK_PROMOTION_NONE || h->count == 0)
        return false;
    return hk_lag_bytes(h, hk_max_u64(s->applied, h->epoch[0].first_lsn), end) >=
           hk_max_u64(g->cfg.apply_lag_bytes_max, HK_RECORD_BYTES_MAX);
}

static void journal_is_full(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->journal_full)
        return;
    s->journal_full = true;
    hk_receiver_ack_now(&s->receiver);
    hk_group_notify(g, HK_NOTE_JOURNAL_FULL, hk_journal_used(&s->journal),
                    hk_journal_total(&s->journal), 0, NULL);
}

static void append(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    for (;;) {
        uint64_t end = hk_journal_end(&s->journal), to;
        int err;

        if (s->receiver.acked <= end || applier_is_too_far(g, end) ||
            !worth_a_batch(g, s->receiver.acked - end) || !hk_journal_takes(&s->journal))
            return;
        to = hk_receiver_boundary(&s->receiver, end, end + hk_journal_batch_bytes_max(&s->journal));
        err = hk_journal_append(&s->journal, end, to - end);
        if (err == -ENOSPC)
            journal_is_full(g);
        if (err)
            return; /* -EAGAIN, or failed: the step sees it */
        if (s->journal_full) {
            s->journal_full = false;
            hk_group_notify(g, HK_NOTE_JOURNAL_ROOM, 0, 0, 0, NULL);
        }
    }
}

static void store_modes(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->mode_ticket && hk_standby_stored(g, s->mode_ticket)) {
        s->mode_ticket = 0;
        s->mode_count--;
        __builtin_memmove(&s->mode[0], &s->mode[1], s->mode_count * sizeof(s->mode[0]));
    }
    if (s->mode_ticket || s->mode_count == 0 || s->mode[0].end > hk_journal_durable(&s->journal))
        return;
    hk_standby_mode_seen(g, s->mode[0].end, &s->mode[0].change);
    s->mode_ticket = hk_standby_put(g);
}

/* model: sync.pml, DURABLE_REPORTED; promote.pml, DURABLE_REPORTED; contact.pml, STANDBY_DURABLE */
void hk_standby_log_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t durable, report;

    append(g);
    if (s->journal.state == HK_JOURNAL_FAILED) {
        hk_group_notify(g, HK_NOTE_JOURNAL_FAILED, (uint64_t)(int64_t)s->journal.error, 0, 0, NULL);
        hk_group_fatal(g, HK_NOTE_JOURNAL_FAILED, s->journal.error);
        return;
    }
    durable = hk_journal_durable(&s->journal);
    hk_receiver_set_floor(&s->receiver, durable);
    store_modes(g);
    report = s->mode_count ? hk_min_u64(durable, s->mode[0].lsn) : durable;
    if (report <= s->reported)
        return;
    s->reported = report;
    hk_receiver_ack_now(&s->receiver);
}
