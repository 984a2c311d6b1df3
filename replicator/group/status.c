/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything a screen may say, and what it rests on. Where the truth is not known it is said to be
 * unknown (I18): a standby knows only what it was told, so it names a loss only while it can prove
 * 0.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"

static void fill_paths(const struct hk_group *g, struct hk_group_status *st)
{
    st->path_count = g->cfg.path_count;
    for (uint32_t i = 0; i < g->cfg.path_count; i++) {
        struct hk_path_status *p = &st->path[i];

        p->up = g->path_up[i];
        __builtin_memcpy(p->bad, g->bad[i], sizeof(p->bad));
        if (g->primary) {
            const struct hk_sender_path *s = &g->primary->sender.path[i];

            p->srtt_ns = s->recovery.srtt_ns;
            p->rate_bytes_s = s->controller.delivered_bytes_s;
            p->frames_tx = s->frames_tx;
            p->frames_rx = s->frames_rx;
            p->bytes_tx = s->bytes_tx;
            p->bytes_rx = s->bytes_rx;
            p->lost = s->recovery.packets_lost;
            p->retransmitted = s->retransmitted;
        } else {
            const struct hk_receiver_path *r = &g->standby->receiver.path[i];

            p->frames_tx = r->frames_tx;
            p->frames_rx = r->frames_rx;
            p->bytes_tx = r->bytes_tx;
            p->bytes_rx = r->bytes_rx;
        }
    }
}

static bool clean(uint32_t super_flags)
{
    return !(super_flags &
             (HK_SF_DEGRADED | HK_SF_FULL_COMPARE | HK_SF_ORIGIN_FAILED | HK_SF_NOT_PROMOTABLE |
              HK_SF_PROMOTED | HK_SF_PROMOTING | HK_SF_IN_DOUBT | HK_SF_STALE | HK_SF_RESYNC));
}

static uint32_t state_now(const struct hk_group *g)
{
    const struct hk_primary *p = g->primary;
    struct hk_source_view view;

    if (p->attached && g->cfg.source->look && g->cfg.source->look(g->cfg.source, &view))
        return view.state;
    return p->state;
}

static bool primary_in_sync(const struct hk_group *g, const struct hk_now *now)
{
    const struct hk_primary *p = g->primary;

    /* What was there when the session began includes the newest mode record and all before it. */
    return p->attached && state_now(g) == HK_STATE_REPLICATING && p->super.mode == HK_MODE_SYNC &&
           clean(p->super.flags) && p->stale_bytes == 0 && !p->closed &&
           hk_primary_contact(g, now) && p->durable >= p->session_produced &&
           !(p->sender.standby_flags & HK_ACK_NOT_PROMOTABLE);
}

static uint64_t produced_now(const struct hk_group *g)
{
    struct hk_source *source = g->cfg.source;
    uint64_t produced = g->primary->produced;

    return source->produced ? hk_max_u64(produced, source->produced(source).v) : produced;
}

/* Reserved ones too: they are waited for as well. */
static void lag_records(const struct hk_group *g, struct hk_group_status *st)
{
    const struct hk_primary *p = g->primary;
    struct hk_source *source = g->cfg.source;
    struct hk_source_view view = {.head = 0};
    uint64_t bound = st->lag_bytes / HK_RECORD_HEADER_BYTES, records = UINT64_MAX;

    if (st->lag_bytes == 0)
        return;
    if (p->attached && !p->source_gone && !p->closed && source->index_at && source->look &&
        source->look(source, &view)) {
        uint64_t at = HK_BUG(lag_records_from_acked) ? p->acked : p->durable;

        if (at >= p->released && at <= p->ring_end)
            records = view.head - hk_min_u64(source->index_at(source, HK_LSN(at)), view.head);
        else if (at < p->released)
            records = hk_lag_records(&p->index, at, view.head);
    }
    st->lag_records_bound = records >= bound;
    st->lag_records = hk_min_u64(records, bound);
}

static void primary_status(const struct hk_group *g, const struct hk_now *now,
                           struct hk_group_status *st)
{
    const struct hk_primary *p = g->primary;
    uint64_t produced = produced_now(g);
    uint32_t state = state_now(g);

    st->session = p->sender.running ? HK_SESSION_UP
                  : p->greeting     ? HK_SESSION_GREETING
                                    : HK_SESSION_DOWN;
    st->session_id = p->sender.session;
    st->state = (enum hk_group_state)state;
    st->ready = p->attached;
    st->mark.produced = HK_LSN(produced);
    st->mark.sent = HK_LSN(p->sender.running ? p->sender.next : p->acked);
    st->mark.acked = HK_LSN(p->acked);
    st->mark.durable = HK_LSN(p->durable);
    st->mark.applied = HK_LSN(p->sender.applied);
    st->window = HK_LSN(p->sender.window);
    st->ceiling = HK_LSN(p->super.ceiling);
    st->contact_ns = p->contact_ns;
    st->contact = hk_primary_contact(g, now);
    st->in_sync = primary_in_sync(g, now);
    st->super = p->super;
    st->mode = (enum hk_mode)p->super.mode;
    st->on_link_loss = (enum hk_link_loss)p->super.on_link_loss;
    st->super_flags_peer = p->peer.super_flags;
    st->own_copy_bad = p->own_copy_bad;
    st->own_copy_good = p->own_copy_good;
    /* Writes that pass by, or that nobody watches, are not in the log: their number is not known.
     * Nor is what a group would lose that lives on elsewhere, or whose copies may differ: while a
     * region is stale a promotion means the pin. */
    st->role_lost = p->role_lost;
    st->lose_known = p->attached && state != HK_STATE_BEHIND &&
                     (!p->role_lost || HK_BUG(role_kept)) && !p->copy_unknown &&
                     p->stale_bytes == 0 && !p->closed &&
                     !(p->super.flags & (HK_SF_FULL_COMPARE | HK_SF_ORIGIN_FAILED | HK_SF_STALE));
    hk_resync_status(&p->resync, now->mono_ns, &st->resync);
    st->lag_bytes =
        hk_lag_bytes(&p->super.history, HK_BUG(lag_from_acked) ? p->acked : p->durable, produced);
    st->lag_ns = hk_lag_age_ns(&p->oldest, now->mono_ns, now->real_ns);
    if (st->lag_bytes > 0 && st->lag_ns == 0)
        st->lag_ns = 1; /* published just now */
    lag_records(g, st);
    if (!st->in_sync) {
        st->lose_bytes = st->lag_bytes;
        st->lose_ns = st->lag_ns;
    }
    st->apply_lag_bytes =
        hk_lag_bytes(&p->super.history, hk_min_u64(p->sender.applied, p->durable), p->durable);
    st->frozen = p->sender.running && (p->sender.standby_flags & HK_ACK_FROZEN);
    st->ladder = p->ladder.step;
    st->spool = p->spool.state;
    st->spool_used = hk_spool_used(&p->spool);
    st->spool_total = hk_spool_total(&p->spool);
    st->spool_lsn_bytes = p->released > p->durable ? p->released - p->durable : 0;
    st->ring_permille = p->fill_permille;
    st->stalled = hk_stall_which(&p->stall, g->cfg.contact_timeout_ns, now->mono_ns);
    if (st->state == HK_STATE_REPLICATING && st->ladder == HK_LADDER_SPOOL)
        st->state = HK_STATE_SPOOLING;
}

bool hk_status_standby_in_sync(const struct hk_group *g, const struct hk_now *now)
{
    const struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_super_store_durable(&s->super);

    return s->stage == HK_STAGE_READY && s->promotion == HK_PROMOTION_NONE && s->session != 0 &&
           super->mode == HK_MODE_SYNC && s->mode_count == 0 &&
           s->applied >= s->mode_unsure_until && s->applied >= s->turn_lsn &&
           s->told_state == HK_STATE_REPLICATING && s->reported >= s->proof_lsn &&
           clean(super->flags | hk_standby_super(g)->flags) && s->t0.mono_ns != 0 &&
           now->mono_ns < s->t0.mono_ns + super->contact_timeout_ns;
}

static enum hk_group_state standby_state(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;

    if (s->session != 0 && s->told_state >= HK_STATE_INITIAL && s->told_state <= HK_STATE_DETACHED)
        return (enum hk_group_state)s->told_state;
    return s->stage >= HK_STAGE_READY && hk_standby_super(g)->history.count > 0 ? HK_STATE_DETACHED
                                                                                : HK_STATE_INITIAL;
}

static enum hk_loss_class class_now(const struct hk_group *g, const struct hk_now *now)
{
    const struct hk_standby *s = g->standby;
    struct hk_verb fenced_now = {.fence = HK_FENCE_OK, .fence_time_ns = now->real_ns};

    if (s->stage != HK_STAGE_READY || s->promotion >= HK_PROMOTION_EPOCH)
        return (enum hk_loss_class)hk_standby_super(g)->loss_class;
    return hk_promote_class(g, &fenced_now);
}

static void pin_status(const struct hk_group *g, const struct hk_super *super,
                       struct hk_group_status *st)
{
    const struct hk_standby *s = g->standby;
    int slot = hk_snapshots_pin(&s->snapshots);

    st->inconsistent = super->flags & HK_SF_RESYNC;
    st->pinned = super->flags & HK_SF_PINNED;
    st->pin_lsn = HK_LSN(super->pin_lsn);
    st->pin_broken = s->pin_broken;
    st->pin_slot = slot;
    st->freeze_of_pin = (super->flags & HK_SF_FROZEN) && (super->flags & HK_SF_RESYNC);
    st->pin_stands = s->snapshots.stuck ? s->snapshots.stuck : s->pin_error;
    if (slot >= 0)
        st->pin_time_ns = s->snapshots.slot[slot].header.time_ns;
    st->rollback_bytes = hk_snapshots_rollback_bytes(&s->snapshots);
    st->rollback_done_bytes = s->snapshots.rolled_back;
    st->snapshot_used = hk_snapshots_used(&s->snapshots);
    st->snapshot_room = hk_snapshots_room(&s->snapshots);
    st->bad_ranges = s->apply.bad_range_count;
}

static void standby_status(const struct hk_group *g, const struct hk_now *now,
                           struct hk_group_status *st)
{
    const struct hk_standby *s = g->standby;
    const struct hk_super *super;

    st->state = HK_STATE_INITIAL;
    if (s->super.state != HK_SUPER_STORE_READY)
        return;
    super = hk_super_store_durable(&s->super);
    st->session = s->session         ? HK_SESSION_UP
                  : s->hello_pending ? HK_SESSION_GREETING
                                     : HK_SESSION_DOWN;
    st->session_id = s->session;
    st->ready = s->stage >= HK_STAGE_READY;
    st->state = standby_state(g);
    st->mark.durable = HK_LSN(s->reported);
    st->mark.acked = HK_LSN(hk_max_u64(s->receiver.acked, s->reported));
    st->mark.produced = HK_LSN(hk_max_u64(s->told_produced, st->mark.acked.v));
    st->mark.sent = st->mark.acked;
    st->mark.applied = HK_LSN(hk_min_u64(s->applied, s->reported));
    st->window = HK_LSN(hk_receiver_edge(&s->receiver));
    st->ceiling = HK_LSN(hk_max_u64(super->ceiling, s->told_ceiling));
    st->contact_ns = s->heard_ns;
    st->contact_real_ns = s->t0.mono_ns ? s->t0.real_ns : super->contact_time_ns;
    st->contact = hk_standby_alive(g, now->mono_ns);
    st->in_sync = hk_status_standby_in_sync(g, now);
    /* Everything acknowledged is here, or it is not known: the last word heard is not the last one.
     */
    st->lose_known = st->in_sync;
    st->lag_bytes = hk_lag_bytes(&super->history, s->reported, st->mark.produced.v);
    /* How many records that is only the primary knows: as many as fit. */
    st->lag_records = st->lag_bytes / HK_RECORD_HEADER_BYTES;
    st->lag_records_bound = st->lag_records > 0;
    st->lag_ns = st->lag_bytes ? s->told_oldest_age_ns : 0;
    if (st->lag_bytes && s->heard_ns && now->mono_ns > s->heard_ns)
        st->lag_ns += now->mono_ns - s->heard_ns;
    if (!st->in_sync) {
        st->lose_bytes = st->lag_bytes;
        st->lose_ns = s->told_oldest_age_ns;
        if (s->heard_ns && now->mono_ns > s->heard_ns)
            st->lose_ns += now->mono_ns - s->heard_ns;
    }
    st->apply_lag_bytes = hk_standby_lag_bytes(g);
    st->apply_rate_bytes_s = s->apply_rate.bytes_s;
    pin_status(g, super, st);
    st->super = *super;
    st->mode = (enum hk_mode)super->mode;
    st->on_link_loss = (enum hk_link_loss)super->on_link_loss;
    st->super_flags_peer = s->session ? s->hello.super_flags : 0;
    st->frozen = hk_freeze_stands(g);
    __builtin_memcpy(st->freeze_name, super->freeze_name, HK_NAME_BYTES);
    st->freeze_lsn = HK_LSN(super->freeze_lsn);
    st->promoted = super->flags & HK_SF_PROMOTED;
    st->loss_class = class_now(g, now);
    st->data_bad_record = s->receiver.bad_records;
    st->data_bad_chain = s->receiver.bad_chain;
    st->data_out_of_window = s->receiver.out_of_window;
    if (s->stage == HK_STAGE_REDO || s->stage == HK_STAGE_READY) {
        st->journal_used = hk_journal_used(&s->journal);
        st->journal_total = hk_journal_total(&s->journal);
        st->journal_held = hk_journal_held(&s->journal);
        st->journal_full = s->journal_full;
    }
}

void hk_group_status(const struct hk_group *g, const struct hk_now *now,
                     struct hk_group_status *ret)
{
    __builtin_memset(ret, 0, sizeof(*ret));
    ret->role = g->cfg.role;
    ret->last_refusal = g->last_refusal;
    ret->frames_other_session = g->other_session;
    ret->control_bad = g->control_bad;
    fill_paths(g, ret);
    if (g->primary)
        primary_status(g, now, ret);
    else
        standby_status(g, now, ret);
}
