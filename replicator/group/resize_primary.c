/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume grows, as the primary's operator asked: first the standby makes room and answers when
 * that is durable, then the capture side is asked; the verb is answered when the size holds there.
 * What is cut off in between changes no size: room that nobody uses does no harm. Only when the
 * capture side goes away after it was asked is the outcome unknown; status shows it.
 */
#include "replicator/group/private.h"

#include <errno.h>

static uint64_t size_now(const struct hk_group *g, uint32_t volume)
{
    return g->primary->super.volume[volume].bytes;
}

/* What the log may speak of in this session. */
void hk_primary_sizes(const struct hk_group *g, uint64_t ret_bytes[HK_VOLUMES_MAX])
{
    for (uint32_t v = 0; v < g->cfg.volume_count; v++)
        ret_bytes[v] = g->cfg.volume_max[v] ? size_now(g, v) : g->cfg.volume_bytes[v];
}

static void done(struct hk_group *g, int error)
{
    struct hk_primary_grow *w = &g->primary->grow;

    if (w->step == HK_PGROW_NONE)
        return;
    w->step = HK_PGROW_NONE;
    if (error == 0)
        hk_group_notify(g, HK_NOTE_RESIZED, w->volume, w->bytes, 0, NULL);
    hk_group_verb_done(g, w->op_id, error, 0, NULL);
}

static int may_begin(const struct hk_group *g, const struct hk_verb *v)
{
    const struct hk_primary *p = g->primary;

    if (p->grow.step != HK_PGROW_NONE)
        return -EBUSY;
    if (!p->attached || !p->have_super || p->source_gone)
        return -ENOTCONN;
    if (v->volume >= g->cfg.volume_count || v->volume >= p->super.volume_count)
        return -ENOENT;
    if (v->bytes == 0 || v->bytes % HK_PAGE_BYTES != 0)
        return -EINVAL;
    if (v->bytes < size_now(g, v->volume))
        return -EPERM;
    if (v->bytes > hk_max_u64(g->cfg.volume_max[v->volume], size_now(g, v->volume)))
        return -EFBIG;
    if (v->bytes == size_now(g, v->volume))
        return 0;
    if (!p->sender.running || !p->control_up || p->greeting || p->contact_lost)
        return -ENOTCONN;
    if (p->closed || p->stale_bytes || (p->super.flags & (HK_SF_STALE | HK_SF_FULL_COMPARE)))
        return -EAGAIN;
    return 0;
}

void hk_primary_resize_verb(struct hk_group *g, const struct hk_verb *v)
{
    struct hk_primary *p = g->primary;
    int error = may_begin(g, v);
    struct hk_ctl *c;

    if (error || v->bytes == size_now(g, v->volume)) {
        hk_group_verb_done(g, v->op_id, error, 0, NULL);
        return;
    }
    p->grow = (struct hk_primary_grow){
        .step = HK_PGROW_STANDBY, .op_id = v->op_id, .volume = v->volume, .bytes = v->bytes};
    c = hk_group_say(g, HK_CTL_RESIZE);
    c->resize.volume = v->volume;
    c->resize.bytes = v->bytes;
}

/* The standby's word; one that nobody waits for any more is no harm. */
void hk_primary_resized(struct hk_group *g, const struct hk_ctl *c)
{
    struct hk_primary_grow *w = &g->primary->grow;

    if (w->step != HK_PGROW_STANDBY || c->resize.volume != w->volume || c->resize.bytes != w->bytes)
        return;
    if (c->resize.error) {
        done(g, c->resize.error < 0 && c->resize.error > -4096 ? c->resize.error : -EPROTO);
        return;
    }
    w->step = HK_PGROW_ASK;
}

/* The connection over which the standby would answer is gone. */
void hk_primary_resize_cut(struct hk_group *g)
{
    if (g->primary->grow.step == HK_PGROW_STANDBY)
        done(g, -ECONNRESET);
}

bool hk_primary_resize_next(struct hk_group *g, struct hk_action *ret)
{
    struct hk_primary *p = g->primary;

    if (p->grow.step != HK_PGROW_ASK || !p->attached)
        return false;
    p->grow.step = HK_PGROW_CAPTURE;
    p->grow.lease = p->lease;
    ret->type = HK_ACT_RESIZE;
    ret->resize.volume = p->grow.volume;
    ret->resize.bytes = p->grow.bytes;
    return true;
}

void hk_primary_resize_refused(struct hk_group *g, int error)
{
    if (g->primary->grow.step == HK_PGROW_CAPTURE)
        done(g, error < 0 ? error : -EPROTO);
}

/* What the capture side says has changed. */
void hk_primary_resize_look(struct hk_group *g)
{
    struct hk_primary *p = g->primary;
    struct hk_primary_grow *w = &p->grow;

    if (w->step == HK_PGROW_ASK && !p->attached)
        done(g, -ENOTCONN);
    if (w->step != HK_PGROW_CAPTURE)
        return;
    if (p->attached && p->have_super && size_now(g, w->volume) == w->bytes)
        done(g, 0);
    else if (!p->attached || p->lease != w->lease)
        done(g, -ECONNABORTED); /* it may or may not come about */
}
