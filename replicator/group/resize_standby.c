/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room for volumes that grow. What lies behind a volume's end belongs to nobody: it is zeroed, the
 * file made long enough, both flushed, and then the superblock says so (room_bytes). Only then is
 * the primary answered, which admits nothing beyond the old end before. A hello of a primary whose
 * volumes are larger than what is here asks for the same, and so does a resize record of which a
 * damaged superblock knew nothing: what was written there is redone from the log.
 *
 * The record itself makes the size hold (standby_apply.c): bytes, with `applied`, in one write. In
 * a resync the pin keeps the size it was made with (prior_bytes), and a promotion goes back to it.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"

#include <errno.h>

/* ---- sizes ---- */

uint64_t hk_grow_max(const struct hk_group_cfg *cfg, uint32_t volume)
{
    return hk_max_u64(cfg->volume_max[volume], cfg->volume_bytes[volume]);
}

uint64_t hk_grow_room(const struct hk_group *g, uint32_t volume)
{
    return hk_super_room(&hk_super_store_durable(&g->standby->super)->volume[volume]);
}

/* What the superblock says of a volume is what this group could have written. */
bool hk_grow_super_ok(const struct hk_group *g, const struct hk_super *super)
{
    for (uint32_t v = 0; v < super->volume_count; v++) {
        uint64_t max = hk_grow_max(&g->cfg, v);

        if (g->cfg.volume_max[v] == 0 && super->volume[v].bytes != g->cfg.volume_bytes[v])
            return false;
        if (super->volume[v].bytes < g->cfg.volume_bytes[v] ||
            hk_super_room(&super->volume[v]) > max)
            return false;
    }
    return true;
}

/* Nothing is received for more than there may ever be, nor applied beyond what is there now. */
void hk_grow_bounds(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    for (uint32_t v = 0; v < g->cfg.volume_count; v++) {
        s->receiver.cfg.volume_bytes[v] = hk_grow_max(&g->cfg, v);
        s->apply.cfg.volume_bytes[v] = hk_grow_room(g, v);
    }
}

/* ---- the work ---- */

bool hk_grow_has(const struct hk_group *g, const uint64_t *bytes)
{
    for (uint32_t v = 0; v < g->cfg.volume_count; v++) {
        if (bytes[v] > hk_grow_room(g, v))
            return false;
    }
    return true;
}

/* -EFBIG: more than it may ever have. */
int hk_grow_ask(struct hk_group *g, const uint64_t *bytes)
{
    struct hk_grow *w = &g->standby->grow;

    for (uint32_t v = 0; v < g->cfg.volume_count; v++) {
        if (bytes[v] > hk_grow_max(&g->cfg, v))
            return -EFBIG;
    }
    if (!hk_super_is_current(hk_standby_super(g)))
        return -EOPNOTSUPP;
    for (uint32_t v = 0; v < g->cfg.volume_count; v++)
        w->want[v] = hk_max_u64(w->want[v], bytes[v]);
    w->error = 0;
    return 0;
}

static void submit(struct hk_group *g, enum hk_disk_kind kind)
{
    struct hk_grow *w = &g->standby->grow;
    bool range = kind != HK_DISK_FLUSH;

    w->op = (struct hk_diskop){.kind = kind,
                               .file = HK_FILE_VOLUME0 + w->volume,
                               .offset = range ? w->from : 0,
                               .bytes = range ? w->to - w->from : 0,
                               .owner = HK_OWNER_GROUP};
    w->busy = true;
    g->cfg.disk->submit(g->cfg.disk, &w->op);
}

/* What is punched has no room of its own any more, so a file gets it once more. */
static void next_op(struct hk_group *g)
{
    struct hk_grow *w = &g->standby->grow;

    switch (w->step) {
    case HK_GROW_NONE:
    case HK_GROW_STORE: return;
    case HK_GROW_TRY: submit(g, HK_DISK_ALLOC); return;
    case HK_GROW_PUNCH:
        if (!HK_BUG(grow_unzeroed)) {
            submit(g, HK_DISK_PUNCH);
            return;
        }
        w->step = HK_GROW_ALLOC;
        submit(g, HK_DISK_ALLOC);
        return;
    case HK_GROW_ALLOC: submit(g, HK_DISK_ALLOC); return;
    case HK_GROW_FLUSH: submit(g, HK_DISK_FLUSH); return;
    }
}

static void begin(struct hk_group *g)
{
    struct hk_grow *w = &g->standby->grow;

    for (uint32_t v = 0; v < g->cfg.volume_count; v++) {
        uint64_t room = hk_grow_room(g, v);

        if (w->want[v] <= room) {
            w->want[v] = 0;
            continue;
        }
        w->volume = v;
        w->from = room;
        w->to = w->want[v];
        w->step = HK_GROW_TRY;
        next_op(g);
        return;
    }
}

static void failed(struct hk_group *g, int error)
{
    struct hk_grow *w = &g->standby->grow;

    w->error = error;
    w->step = HK_GROW_NONE;
    __builtin_memset(w->want, 0, sizeof(w->want));
}

void hk_grow_disk_done(struct hk_group *g, struct hk_diskop *op)
{
    struct hk_grow *w = &g->standby->grow;

    HK_ASSERT(w->busy && op == &w->op);
    w->busy = false;
    if (op->result < 0) {
        failed(g, op->result);
        return;
    }
    switch (w->step) {
    case HK_GROW_TRY: w->step = HK_GROW_PUNCH; break;
    case HK_GROW_PUNCH: w->step = HK_GROW_ALLOC; break;
    case HK_GROW_ALLOC: w->step = HK_GROW_FLUSH; break;
    case HK_GROW_FLUSH:
        hk_standby_super(g)->volume[w->volume].room_bytes = w->to;
        w->ticket = hk_standby_put(g);
        w->step = HK_GROW_STORE;
        break;
    case HK_GROW_STORE:
    case HK_GROW_NONE: HK_ASSERT(!"no operation in this step");
    }
    next_op(g);
}

/* ---- who asked ---- */

static void answer(struct hk_group *g, int error)
{
    struct hk_grow *w = &g->standby->grow;
    struct hk_ctl *c;

    w->asked = false;
    if (!g->standby->control_up)
        return;
    c = hk_group_say(g, HK_CTL_RESIZED);
    c->resize.volume = w->asked_volume;
    c->resize.bytes = w->asked_bytes;
    c->resize.error = error;
}

void hk_grow_control(struct hk_group *g, const struct hk_ctl *c)
{
    struct hk_standby *s = g->standby;
    uint64_t bytes[HK_VOLUMES_MAX] = {0};
    int error = 0;

    s->grow.asked_volume = c->resize.volume;
    s->grow.asked_bytes = c->resize.bytes;
    if (c->resize.volume >= g->cfg.volume_count || c->resize.bytes % HK_PAGE_BYTES)
        error = -EINVAL;
    else if (s->session == 0 || s->stage != HK_STAGE_READY || s->promotion != HK_PROMOTION_NONE)
        error = -EAGAIN; /* the primary may not know yet that its session has ended */
    else
        bytes[c->resize.volume] = c->resize.bytes;
    if (!error)
        error = hk_grow_ask(g, bytes);
    if (error)
        answer(g, error);
    else
        s->grow.asked = true;
}

void hk_grow_step(struct hk_group *g)
{
    struct hk_standby *s = g->standby;
    struct hk_grow *w = &s->grow;

    if (w->step == HK_GROW_STORE && hk_standby_stored(g, w->ticket)) {
        w->step = HK_GROW_NONE;
        hk_grow_bounds(g);
    }
    if (w->step == HK_GROW_NONE && !w->busy)
        begin(g);
    if (w->asked && w->error)
        answer(g, w->error);
    else if (w->asked &&
             (hk_grow_room(g, w->asked_volume) >= w->asked_bytes || HK_BUG(grow_answered_early)))
        answer(g, 0);
}

/* ---- the record ---- */

/* Before it is applied. 0; -EINPROGRESS; else why there is no room. */
int hk_grow_barrier(struct hk_group *g, const void *payload)
{
    struct hk_standby *s = g->standby;
    struct hk_resize sizes;
    int error;

    __builtin_memcpy(&sizes, payload, sizeof(sizes));
    if (hk_grow_has(g, sizes.bytes))
        return 0;
    if (s->grow.error)
        return s->grow.error;
    error = hk_grow_ask(g, sizes.bytes);
    return error ? error : -EINPROGRESS;
}

/* Into the superblock, together with `applied`. */
void hk_grow_take(struct hk_group *g, const void *payload)
{
    struct hk_super *super = hk_standby_super(g);
    struct hk_resize sizes;

    __builtin_memcpy(&sizes, payload, sizeof(sizes));
    for (uint32_t v = 0; v < super->volume_count; v++) {
        struct hk_super_volume *vol = &super->volume[v];

        if (sizes.bytes[v] == vol->bytes || HK_BUG(size_not_applied))
            continue;
        if ((super->flags & HK_SF_PINNED) && vol->prior_bytes == 0 && !HK_BUG(pin_forgets_size))
            vol->prior_bytes = vol->bytes;
        /* Smaller: metadata were set back. What was behind may hold anything by now. */
        if (sizes.bytes[v] < vol->bytes && vol->room_bytes)
            vol->room_bytes = hk_max_u64(sizes.bytes[v], vol->prior_bytes);
        vol->bytes = sizes.bytes[v];
        hk_group_notify(g, HK_NOTE_RESIZED, v, vol->bytes, 0, NULL);
    }
}

/* The pin is none any more, or is taken anew: it has the sizes of this moment. */
void hk_grow_forget_pin(struct hk_super *super)
{
    for (uint32_t v = 0; v < super->volume_count; v++)
        super->volume[v].prior_bytes = 0;
}

void hk_grow_back_to_pin(struct hk_super *super)
{
    for (uint32_t v = 0; v < super->volume_count; v++) {
        if (super->volume[v].prior_bytes)
            super->volume[v].bytes = super->volume[v].prior_bytes;
    }
    hk_grow_forget_pin(super);
}
