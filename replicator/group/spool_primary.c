/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's spool and ladder: when log goes to the spool, what may be released from the ring
 * because it is durable there, and what the sender finds where.
 *
 * Log is released once it is durable at the standby, or in the spool while the ring is more than
 * half full: until then it is sent from memory. What is below `released` comes from the spool's
 * window, what is above from the ring. With a lost ring the spool is all there is: it is sent to
 * its end, in a session of the epoch that the ring had, before the way back is asked for.
 *
 * A record that the spool can't give back is a damaged copy (copy.c): the log is cut there, the
 * capture side makes stale what was on its way, and RETURN names the standby's position.
 */
#include "replicator/group/private.h"

#include <errno.h>

static int gather_ring(void *arg, uint64_t lsn, uint32_t bytes, struct hk_iovec *iov, int max)
{
    struct hk_source *source = arg;

    return source->gather(source, HK_LSN(lsn), bytes, iov, max);
}

static struct hk_spool_cfg spool_cfg(const struct hk_group_cfg *cfg)
{
    return (struct hk_spool_cfg){.disk = cfg->disk,
                                 .group_id = cfg->group_id,
                                 .window = cfg->window,
                                 .window_bytes = cfg->window_bytes,
                                 .segment_bytes = cfg->segment_bytes,
                                 .segment_count = cfg->segment_count,
                                 .gather = gather_ring,
                                 .gather_arg = cfg->source};
}

size_t hk_primary_spool_memory(const struct hk_group_cfg *cfg)
{
    struct hk_spool_cfg c = spool_cfg(cfg);

    return hk_spool_memory(&c);
}

int hk_primary_spool_init(struct hk_group *g, struct hk_arena *arena)
{
    struct hk_spool_cfg c = spool_cfg(&g->cfg);

    return hk_spool_init(&g->primary->spool, &c, arena);
}

/* ---- what is where ---- */

/* The ring has lost what the spool still has. */
static bool ring_is_short(const struct hk_primary *p)
{
    return p->ring_end < hk_spool_end(&p->spool);
}

static uint64_t ring_from(const struct hk_primary *p)
{
    return ring_is_short(p) ? UINT64_MAX : p->released;
}

uint64_t hk_primary_sendable_from(const struct hk_primary *p)
{
    uint64_t first = hk_spool_first(&p->spool);

    if (first == 0 || ring_is_short(p) || hk_spool_end(&p->spool) < p->released)
        return p->released;
    return hk_min_u64(first, p->released);
}

/* Where the spool ends, when there is more in it than the ring knows of; else 0. */
uint64_t hk_primary_spool_tail(const struct hk_primary *p)
{
    if (!p->closed || !p->sender.running || !ring_is_short(p) ||
        p->sender.acked < hk_spool_first(&p->spool))
        return 0;
    return hk_spool_end(&p->spool);
}

int hk_group_gather(struct hk_group *g, struct hk_lsn lsn, uint32_t bytes, struct hk_iovec *iov,
                    int max)
{
    const struct hk_primary *p = g->primary;

    if (lsn.v < ring_from(p))
        return hk_spool_gather(&p->spool, lsn.v, bytes, iov, max);
    return g->cfg.source->gather(g->cfg.source, lsn, bytes, iov, max);
}

/* Never later than the truth: what is not known is very long ago. */
uint64_t hk_primary_time_at(const struct hk_group *g, uint64_t lsn)
{
    const struct hk_primary *p = g->primary;
    uint64_t time_ns;

    if (lsn >= p->released)
        return g->cfg.source->time_at(g->cfg.source, HK_LSN(lsn));
    time_ns = hk_spool_time_at(&p->spool, lsn);
    return time_ns ? time_ns : 1;
}

/* ---- at each event ---- */

static uint64_t standby_durable(const struct hk_primary *p)
{
    return p->sender.running ? hk_max_u64(p->durable, p->sender.durable) : p->durable;
}

static void climb(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_ladder_input in = {
        .spool = hk_spool_writable(&p->spool),
        .away = !p->sender.running || p->contact_lost,
        .produced = p->produced,
        .durable = p->durable,
        .paced = p->state == HK_STATE_PACING || p->state == HK_STATE_BLOCKED,
        .behind = p->state == HK_STATE_BEHIND,
        .mono_ns = g->now.mono_ns,
    };

    if (g->cfg.source->fill && p->attached && !p->source_gone)
        in.fill_permille = g->cfg.source->fill(g->cfg.source, &in.ring_bytes);
    p->fill_permille = in.fill_permille;
    hk_ladder_update(&p->ladder, &in);
}

static void say_state(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    const struct hk_spool *sp = &p->spool;

    if (sp->state != p->spool_said) {
        if (sp->state == HK_SPOOL_RUNNING)
            hk_group_notify(g, HK_NOTE_SPOOL_RECOVERED, hk_spool_first(sp), hk_spool_end(sp),
                            sp->journal.result.lost_bytes, NULL);
        if (sp->state == HK_SPOOL_READ_ONLY || sp->state == HK_SPOOL_FAILED)
            hk_group_notify(g, HK_NOTE_SPOOL_FAILED, (uint64_t)(int64_t)sp->error,
                            sp->state == HK_SPOOL_READ_ONLY, 0, NULL);
    }
    p->spool_said = sp->state;
    if (p->ladder.spooling != p->spooling_said)
        hk_group_notify(g, p->ladder.spooling ? HK_NOTE_SPOOLING : HK_NOTE_SPOOLING_OVER,
                        p->produced - hk_min_u64(p->durable, p->produced), hk_spool_used(sp),
                        hk_spool_total(sp), NULL);
    p->spooling_said = p->ladder.spooling;
    if (sp->full && !p->spool_full_said)
        hk_group_notify(g, HK_NOTE_SPOOL_FULL, hk_spool_used(sp), hk_spool_total(sp), 0, NULL);
    p->spool_full_said = sp->full;
}

/* Its own copy is all there was, and it is damaged. */
static void cut_at_damage(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    uint64_t bad = p->spool.bad_lsn;

    if (!p->sender.running || bad == 0 || bad < p->sender.acked || bad >= ring_from(p))
        return;
    p->cut_lsn = bad;
    if (p->spool_cut_asked)
        return;
    p->spool_cut_asked = true;
    p->own_copy_bad++;
    p->check_lsn = bad;
    p->check_wanted = true;
    hk_group_notify(g, HK_NOTE_SPOOL_DAMAGED, bad, p->released, 0, NULL);
}

/* How far the ring may be given back. */
uint64_t hk_primary_spool_release(const struct hk_primary *p)
{
    const struct hk_spool *sp = &p->spool;
    uint64_t end = hk_spool_end(sp), first = hk_spool_first(sp);

    if (end == 0 || first > p->durable || p->closed || ring_is_short(p) ||
        p->fill_permille < HK_LADDER_ON_PERMILLE)
        return 0;
    return sp->bad_lsn ? hk_min_u64(end, sp->bad_lsn) : end;
}

/* Does it take what the ring can't hold? */
bool hk_primary_spool_room(const struct hk_primary *p)
{
    return p->attached && !p->closed && hk_spool_writable(&p->spool) && !p->spool.full &&
           !ring_is_short(p);
}

/* What the standby lacks and the spool has, durably, ends there; 0: nothing that could be told. */
uint64_t hk_primary_spool_kept(const struct hk_primary *p)
{
    const struct hk_spool *sp = &p->spool;
    uint64_t end = hk_spool_end(sp);

    if (!p->attached || p->closed || p->spool_unjudged || !hk_spool_ready(sp) || ring_is_short(p) ||
        hk_spool_first(sp) > p->durable || end <= p->durable)
        return 0;
    return sp->bad_lsn ? hk_min_u64(end, sp->bad_lsn) : end;
}

/* Worth a report of its own: some batches came to it, or it has all there is. */
static bool kept_is_news(const struct hk_primary *p)
{
    uint64_t kept = hk_primary_spool_kept(p), told = p->reported.spool_end;

    return kept > told && (kept - told >= HK_SPOOL_BATCH_BYTES || kept == p->ring_end);
}

bool hk_primary_spool_started(struct hk_group *g)
{
    struct hk_primary *p = g->primary;

    hk_spool_start(&p->spool, &p->super.history, &p->super.replica_id);
    return hk_spool_ready(&p->spool);
}

/*
 * Nothing was ever given back of this ring, so it has all its log, and the spool nothing that is
 * needed; but what it holds of these LSNs may be of a ring that metadata set back have forgotten.
 */
static bool of_another_ring(const struct hk_primary *p)
{
    uint64_t first = p->super.ring_first_lsn;

    return p->released_found == first && p->durable >= first && p->super.spooled_lsn <= first &&
           hk_spool_end(&p->spool) > first;
}

void hk_primary_spool_step(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_spool *sp = &p->spool;

    if (sp->state == HK_SPOOL_NONE || !hk_spool_ready(sp)) {
        climb(g);
        return;
    }
    /* LSNs that this epoch has not given out yet: files from a later state of this site. */
    if (p->attached && !p->closed && !p->source_gone &&
        (ring_is_short(p) ||
         (p->spool_unjudged && (p->ring_end_found < hk_spool_end(sp) || of_another_ring(p)))))
        hk_spool_forget(sp);
    if (p->attached)
        p->spool_unjudged = false;
    hk_spool_durable(sp, standby_durable(p));
    climb(g);
    if (p->attached && !p->source_gone && p->ladder.spooling && !ring_is_short(p))
        hk_spool_write(sp, p->durable, p->released, p->ring_end);
    if (p->sender.running) {
        hk_spool_prefetch(sp, p->sender.acked, ring_from(p));
        if (!p->greeting)
            hk_sender_produced(&p->sender, hk_primary_spool_tail(p));
    }
    hk_sender_held(&p->sender, ring_from(p), sp->read_first, sp->read_end);
    cut_at_damage(g);
    if (hk_primary_spool_release(p) > p->released ||
        hk_primary_spool_room(p) != p->reported.spool_room || kept_is_news(p))
        p->report_wanted = true;
    say_state(g);
}

/* ---- which stage stands still ---- */

void hk_primary_stall_step(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_source *source = g->cfg.source;
    struct hk_source_view view = {.next = HK_LSN(p->produced)};
    struct hk_stall_input in = {
        .attached = p->attached,
        .session = p->sender.running && hk_primary_contact(g, &g->now),
        .produced = p->produced,
        .acked = p->acked,
        .durable = p->sender.running ? p->sender.durable : p->durable,
        .applied = p->sender.running ? p->sender.applied : 0,
    };

    if (g->now.mono_ns < p->stall_look_ns)
        return;
    p->stall_look_ns = g->now.mono_ns + HK_GROUP_STALL_LOOK_NS;
    if (p->attached && source->look && source->look(source, &view)) {
        in.reported_ns = p->reported.contact_ns;
        in.taken_ns = view.contact_ns;
        in.origin_lsn = view.origin_lsn;
    }
    in.reserved = view.next.v;
    hk_stall_update(&p->stall, &in, g->now.mono_ns);
}
