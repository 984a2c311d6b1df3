/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby: reads its superblock, recovers its journal, redoes what the journal holds, and then
 * takes sessions. After each event one pump runs every part a bounded step further; what waits for
 * a disk goes on when its completion comes in as an event.
 */
#include "replicator/group/private.h"
#include "replicator/store/line.h"

#include <errno.h>

static struct hk_receiver_cfg receiver_cfg(const struct hk_group_cfg *cfg)
{
    struct hk_receiver_cfg c = {
        .window = cfg->window,
        .window_bytes = cfg->window_bytes,
        .path_count = cfg->path_count,
        .volume_count = cfg->volume_count,
    };

    __builtin_memcpy(c.volume_bytes, cfg->volume_bytes, sizeof(c.volume_bytes));
    return c;
}

static struct hk_journal_cfg journal_cfg(const struct hk_group_cfg *cfg)
{
    return (struct hk_journal_cfg){
        .disk = cfg->disk,
        .group_id = cfg->group_id,
        .window = cfg->window,
        .window_bytes = cfg->window_bytes,
        .segment_bytes = cfg->segment_bytes,
        .segment_count = cfg->segment_count,
    };
}

static struct hk_apply_cfg apply_cfg(const struct hk_group_cfg *cfg)
{
    struct hk_apply_cfg c = {
        .disk = cfg->disk,
        .window = cfg->window,
        .window_bytes = cfg->window_bytes,
        .apply_bytes = cfg->apply_bytes,
        .volume_count = cfg->volume_count,
    };

    __builtin_memcpy(c.volume_bytes, cfg->volume_bytes, sizeof(c.volume_bytes));
    return c;
}

size_t hk_standby_memory(const struct hk_group_cfg *cfg)
{
    struct hk_receiver_cfg rc = receiver_cfg(cfg);
    struct hk_journal_cfg jc = journal_cfg(cfg);
    struct hk_apply_cfg ac = apply_cfg(cfg);
    struct hk_snapshots_cfg sc = hk_pin_snapshots_cfg(cfg);

    return sizeof(struct hk_standby) + 2 * hk_super_store_memory() + hk_receiver_memory(&rc) +
           hk_journal_memory(&jc) + hk_journal_reader_memory() + hk_apply_memory(&ac) +
           hk_snapshots_memory(&sc) + 8 * HK_PAGE_BYTES +
           (cfg->region_shift ? HK_GROUP_MAP_BYTES : 0);
}

int hk_standby_init(struct hk_group *g, struct hk_arena *arena)
{
    struct hk_receiver_cfg rc = receiver_cfg(&g->cfg);
    struct hk_journal_cfg jc = journal_cfg(&g->cfg);
    struct hk_apply_cfg ac = apply_cfg(&g->cfg);
    struct hk_snapshots_cfg sc = hk_pin_snapshots_cfg(&g->cfg);
    struct hk_standby *s = hk_arena_take(arena, sizeof(*s), 64);
    int err;

    if (!s)
        return -ENOMEM;
    __builtin_memset(s, 0, sizeof(*s));
    g->standby = s;
    s->proof_lsn = UINT64_MAX;
    err = hk_receiver_init(&s->receiver, &rc, arena);
    if (!err)
        err = hk_super_store_init(&s->super, g->cfg.disk, HK_FILE_SUPER, arena);
    if (!err)
        err = hk_super_store_init(&s->primary_md, g->cfg.disk, HK_FILE_PRIMARY_MD, arena);
    if (!err)
        err = hk_journal_init(&s->journal, &jc, arena);
    if (!err)
        err = hk_snapshots_init(&s->snapshots, &sc, arena);
    if (!err && g->cfg.region_shift) {
        s->map_write.buffer = hk_arena_take(arena, HK_GROUP_MAP_BYTES, HK_PAGE_BYTES);
        err = s->map_write.buffer ? 0 : -ENOMEM;
    }
    if (err)
        return err;
    ac.journal = &s->journal;
    ac.snapshots = &s->snapshots;
    ac.history = &s->super.live->history; /* read before apply starts */
    err = hk_apply_init(&s->apply, &ac, arena);
    if (!err)
        hk_super_store_start(&s->super);
    return err;
}

/* ---- superblock ---- */

struct hk_super *hk_standby_super(const struct hk_group *g)
{
    return hk_super_store_get(&g->standby->super);
}

uint64_t hk_standby_put(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_super *super = hk_standby_super(g);

    super->ceiling = hk_max_u64(super->ceiling, s->told_ceiling);
    if (s->t0.mono_ns) {
        super->contact_time_ns = s->t0.real_ns;
        s->t0_stored_ns = s->t0.mono_ns;
    }
    return hk_super_store_put(&s->super);
}

bool hk_standby_stored(const struct hk_group *g, uint64_t ticket)
{
    return hk_super_store_stored(&g->standby->super) >= ticket;
}

static bool super_is_ours(const struct hk_group *g, const struct hk_super *super)
{
    if (super->role != HK_ROLE_STANDBY || !hk_uuid_equal(&super->group_id, &g->cfg.group_id))
        return false;
    if (super->volume_count != g->cfg.volume_count)
        return false;
    return hk_grow_super_ok(g, super);
}

/* ---- from start to ready ---- */

/*
 * The newest superblock may be gone. What it may have said about loss is unknown until a primary is
 * met; and an image it had released must not be called frozen.
 */
/* model: freeze.pml, IN_DOUBT */
static void newer_facts_may_be_gone(struct hk_group *g)
{
    hk_standby_super(g)->flags |= HK_SF_IN_DOUBT;
    hk_group_notify(g, HK_NOTE_IN_DOUBT, 0, 0, 0, NULL);
    if (hk_standby_super(g)->flags & HK_SF_FROZEN)
        hk_freeze_end(g, HK_FREEZE_IN_DOUBT, 0);
    else
        hk_standby_put(g);
}

/* model: freeze.pml, STANDBY_STARTED */
static void super_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super;

    switch (s->super.state) {
    case HK_SUPER_STORE_NEW:
    case HK_SUPER_STORE_READING: return;
    case HK_SUPER_STORE_BLANK:
        hk_group_notify(g, HK_NOTE_SUPER_FAILED, (uint64_t)(int64_t)-ENODATA, 0, 0, NULL);
        hk_group_fatal(g, HK_NOTE_SUPER_FAILED, -ENODATA);
        return;
    case HK_SUPER_STORE_INVALID:
        hk_group_notify(g, HK_NOTE_SUPER_FAILED, (uint64_t)(int64_t)-EUCLEAN, 0, 0, NULL);
        hk_group_fatal(g, HK_NOTE_SUPER_FAILED, -EUCLEAN);
        return;
    case HK_SUPER_STORE_FAILED: return; /* seen by the pump */
    case HK_SUPER_STORE_READY: break;
    }
    super = hk_standby_super(g);
    if (!super_is_ours(g, super)) {
        hk_group_notify(g, HK_NOTE_SUPER_FAILED, (uint64_t)(int64_t)-EMEDIUMTYPE, 0, 0, NULL);
        hk_group_fatal(g, HK_NOTE_SUPER_FAILED, -EMEDIUMTYPE);
        return;
    }
    hk_grow_bounds(g);
    s->told_ceiling = super->ceiling;
    s->replica_failed = super->flags & HK_SF_NOT_PROMOTABLE;
    s->applied = s->applied_put = super->applied;
    if (super->flags & HK_SF_PROMOTED) {
        s->reported = super->promote_lsn;
        s->stage = HK_STAGE_PROMOTED;
        return;
    }
    if (s->super.in_doubt)
        newer_facts_may_be_gone(g);
    hk_pin_start(g);
    if (super->flags & HK_SF_ROLLING_BACK) {
        hk_rollback_resume(g);
        return;
    }
    s->journal.cfg.replica_id = super->replica_id;
    hk_journal_recover(&s->journal, &super->history, super->applied);
    s->stage = HK_STAGE_JOURNAL;
}

/* model: promote.pml, STANDBY_RECOVERED */
static void journal_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    const struct hk_super *super = hk_standby_super(g);
    uint64_t end;

    if (s->journal.state == HK_JOURNAL_RECOVERING || !hk_pin_started(g))
        return;
    end = s->journal.result.end;
    if (s->journal.state == HK_JOURNAL_FAILED) {
        if (s->journal.result.verdict == HK_JOURNAL_CORRUPT)
            hk_group_notify(g, HK_NOTE_RECOVERED, s->journal.result.bad_lsn, HK_JOURNAL_CORRUPT, 0,
                            NULL);
        hk_group_notify(g, HK_NOTE_JOURNAL_FAILED, (uint64_t)(int64_t)s->journal.error,
                        s->journal.result.verdict, s->journal.result.bad_lsn, NULL);
        hk_group_fatal(g, HK_NOTE_JOURNAL_FAILED, s->journal.error);
        return;
    }
    hk_group_notify(g, HK_NOTE_RECOVERED, end, s->journal.result.verdict,
                    s->journal.result.lost_bytes, NULL);
    hk_receiver_rebase(&s->receiver, end, s->journal.result.prev_bytes);
    s->reported = end;
    s->log_in_doubt = s->journal.result.verdict == HK_JOURNAL_TORN;
    s->turn_lsn = s->journal.result.turn_lsn;
    s->turn_type = s->journal.result.turn_type;
    hk_journal_retain(&s->journal,
                      hk_lag_before(&super->history, super->applied, g->cfg.journal_retain_bytes));
    s->pin_release = true; /* of the life before, if there is any */
    hk_apply_start(&s->apply, super->applied);
    s->stage = HK_STAGE_REDO;
    if (super->flags & HK_SF_PROMOTING)
        hk_promote_resume(g);
}

/* model: promote.pml, REDONE */
static void redo_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    uint64_t lsn;

    if (!s->replica_failed && !hk_standby_frozen(g) && !hk_pin_stands(g)) {
        const struct hk_history *h = &hk_standby_super(g)->history;

        if (s->apply.state != HK_APPLY_IDLE || s->barrier != HK_BARRIER_NONE)
            return;
        if (hk_line_seek(h, hk_apply_flushed(&s->apply), &lsn) >= 0 && lsn < s->reported)
            return;
    }
    /* What is not redone may hold mode records that the superblock does not know. */
    if (s->applied < s->reported && (s->replica_failed || hk_standby_frozen(g) || hk_pin_stands(g)))
        s->mode_unsure_until = s->reported;
    s->stage = HK_STAGE_READY;
    hk_freeze_say_again(g);
}

/* ---- the pump ---- */

static void watch_contact(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->session == 0 || s->contact_lost || hk_standby_alive(g, g->now.mono_ns))
        return;
    s->contact_lost = true;
    hk_group_notify(g, HK_NOTE_CONTACT_LOST, s->heard_ns, 0, 0, NULL);
    if (s->t0.mono_ns > s->t0_stored_ns)
        hk_standby_put(g);
}

/* t0 is stored now and then; an older one only claims less. */
static void store_t0(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->stage == HK_STAGE_READY &&
        s->t0.mono_ns > s->t0_stored_ns + g->cfg.contact_timeout_ns / 2)
        hk_standby_put(g);
}

static void stop_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (!s->stopping || g->failed)
        return;
    if (s->stage >= HK_STAGE_REDO && s->stage != HK_STAGE_PROMOTED &&
        !(hk_journal_idle(&s->journal) && hk_apply_quiet(&s->apply) &&
          hk_snapshots_quiet(&s->snapshots) && !s->grow.busy))
        return;
    if (s->stop_ticket == 0 && s->super.state == HK_SUPER_STORE_READY)
        s->stop_ticket = hk_standby_put(g);
    if (!hk_standby_stored(g, s->stop_ticket))
        return;
    s->stopping = false;
    hk_group_verb_done(g, s->stop_op, 0, 0, NULL);
}

static void steps(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    if (s->stage == HK_STAGE_SUPER)
        super_step(g);
    if (s->stage == HK_STAGE_JOURNAL && !g->failed)
        journal_step(g);
    if (s->stage == HK_STAGE_ROLLBACK || s->going_back) {
        if (!g->failed && s->stage != HK_STAGE_PROMOTED)
            hk_promote_step(g);
    } else if ((s->stage == HK_STAGE_REDO || s->stage == HK_STAGE_READY) && !g->failed) {
        hk_standby_received(g);
        hk_standby_log_step(g);
        hk_grow_step(g);
        hk_standby_apply_step(g);
        hk_freeze_standby_step(g);
        if (s->stage == HK_STAGE_REDO && !g->failed)
            redo_step(g);
        hk_promote_step(g);
    }
    if (!g->failed)
        hk_standby_session_step(g);
}

void hk_standby_pump(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    /* Twice: what a later step frees (room in the journal, say) an earlier one takes at once. */
    for (int i = 0; i < 2 && !g->failed; i++)
        steps(g);
    if (s->super.state == HK_SUPER_STORE_FAILED || s->primary_md.state == HK_SUPER_STORE_FAILED) {
        int error = s->super.state == HK_SUPER_STORE_FAILED ? s->super.error : s->primary_md.error;

        hk_group_notify(g, HK_NOTE_SUPER_FAILED, (uint64_t)(int64_t)error, 0, 0, NULL);
        hk_group_fatal(g, HK_NOTE_SUPER_FAILED, error);
    }
    if (g->failed)
        return;
    watch_contact(g);
    store_t0(g);
    stop_step(g);
}

/* ---- events ---- */

static void disk_done(struct hk_group *g, struct hk_diskop *op)
{
    struct hk_standby *s = g->standby;

    switch ((enum hk_disk_owner)op->owner) {
    case HK_OWNER_SUPER:
        hk_super_store_disk_done(op->file == HK_FILE_SUPER ? &s->super : &s->primary_md, op);
        break;
    case HK_OWNER_JOURNAL: hk_journal_disk_done(&s->journal, op); break;
    case HK_OWNER_APPLY: hk_apply_disk_done(&s->apply, op); break;
    case HK_OWNER_SNAPSHOT:
        hk_snapshots_disk_done(&s->snapshots, op);
        hk_apply_saving(&s->apply);
        break;
    case HK_OWNER_GROUP:
        if (op == &s->grow.op)
            hk_grow_disk_done(g, op);
        else
            hk_primary_map_done(g, op);
        break;
    case HK_OWNER_SPOOL: HK_ASSERT(!"operations that a standby does not have"); break;
    }
}

static void verb(struct hk_group *g, const struct hk_verb *v)
{
    struct hk_standby *s = g->standby;

    switch (v->kind) {
    case HK_VERB_FREEZE: hk_freeze_verb(g, v); break;
    case HK_VERB_FREEZE_END: hk_freeze_end_verb(g, v); break;
    case HK_VERB_FAILOVER: hk_promote_verb(g, v); break;
    case HK_VERB_STOP:
        hk_standby_end_session(g, HK_REFUSE_NONE);
        s->stopping = true;
        s->stop_op = v->op_id;
        break;
    case HK_VERB_PAUSE:
    case HK_VERB_RESUME:
    case HK_VERB_RESIZE:
    case HK_VERB_THROTTLE: hk_group_verb_done(g, v->op_id, -EOPNOTSUPP, 0, NULL); break;
    }
}

void hk_standby_event(struct hk_group *g, const struct hk_event *e)
{
    struct hk_standby *s = g->standby;

    s->apply_budget = e->type == HK_EV_FRAME_IN ? 0 : HK_GROUP_APPLY_STEPS;
    switch (e->type) {
    case HK_EV_FRAME_IN: hk_standby_frame(g, &e->frame.header, e->frame.body); break;
    case HK_EV_DISK_DONE: disk_done(g, e->disk); break;
    case HK_EV_CONTROL_UP:
        s->control_up = true;
        s->hello_pending = s->refusal_pending = s->grow.asked = false;
        hk_standby_hash_drop(s);
        break;
    case HK_EV_CONTROL_IN: hk_standby_control(g, e->control); break;
    case HK_EV_CONTROL_DOWN:
        s->control_up = s->hello_pending = s->refusal_pending = s->grow.asked = false;
        hk_standby_hash_drop(s);
        break;
    case HK_EV_VERB: verb(g, &e->verb); break;
    case HK_EV_HASHED: hk_standby_hashed(g, e->hashed); break;
    case HK_EV_STALE:
    case HK_EV_BLOCK_DONE:
    case HK_EV_HEALED:
    case HK_EV_ALL_STALE:
    case HK_EV_RETURNED:
    case HK_EV_RESIZED:
    case HK_EV_PRODUCED:
    case HK_EV_CAPTURE:
    case HK_EV_INSERTED:
    case HK_EV_RING_LOST:
    case HK_EV_BAD_FRAME:
    case HK_EV_LINK:
    case HK_EV_TIMER: break;
    }
    hk_standby_pump(g);
}

bool hk_standby_next(struct hk_group *g, bool can_send, struct hk_action *ret)
{
    return (can_send && hk_standby_next_ack(g, ret)) || hk_standby_hash_next(g, ret);
}

uint64_t hk_standby_deadline_ns(const struct hk_group *g)
{
    const struct hk_standby *s = g->standby;
    uint64_t at = g->no_room ? UINT64_MAX : hk_receiver_deadline_ns(&s->receiver);

    /* Nobody takes a step of the applier any more where the replicas go back, or one failed. */
    if (s->apply_more && !s->going_back && !s->replica_failed)
        return g->now.mono_ns;
    if (s->session && !s->contact_lost)
        at = hk_min_u64(at, s->heard_ns + g->cfg.contact_timeout_ns);
    at = hk_min_u64(at, hk_pin_deadline_ns(g));
    return hk_min_u64(at, hk_freeze_standby_deadline_ns(g));
}
