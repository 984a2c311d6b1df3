/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/group/private.h"

#include <errno.h>

static size_t member(size_t bytes)
{
    return bytes + 64;
}

size_t hk_group_bytes(const struct hk_group_cfg *cfg)
{
    size_t bytes =
        member(sizeof(struct hk_group)) + member(HK_GROUP_ACTIONS * sizeof(struct hk_action));

    if (cfg->role == HK_ROLE_PRIMARY)
        return bytes + hk_primary_memory(cfg);
    return bytes + hk_standby_memory(cfg);
}

static bool cfg_ok(const struct hk_group_cfg *c)
{
    if (c->role != HK_ROLE_PRIMARY && c->role != HK_ROLE_STANDBY)
        return false;
    if (hk_uuid_is_nil(&c->group_id) || c->volume_count < 1 || c->volume_count > HK_VOLUMES_MAX)
        return false;
    if (c->path_count < 1 || c->path_count > HK_PATHS_MAX || c->contact_timeout_ns < 8)
        return false;
    for (uint32_t i = 0; i < c->path_count; i++) {
        if (c->frame_body_max[i] < 64 || c->frame_body_max[i] > HK_FRAME_BODY_MAX)
            return false;
    }
    if (c->role == HK_ROLE_PRIMARY)
        return c->source && (c->segment_count == 0 || (c->disk && c->window));
    return c->disk && c->window;
}

int hk_group_init(const struct hk_group_cfg *cfg, struct hk_arena *arena, const struct hk_now *now,
                  struct hk_group **ret_group)
{
    struct hk_group *g;
    int err;

    if (!cfg_ok(cfg))
        return -EINVAL;
    g = hk_arena_take(arena, sizeof(*g), 64);
    if (!g)
        return -ENOMEM;
    __builtin_memset(g, 0, sizeof(*g));
    g->cfg = *cfg;
    g->now = *now;
    g->random = cfg->seed;
    for (uint32_t i = 0; i < cfg->path_count; i++)
        g->path_up[i] = true;
    g->action = hk_arena_take(arena, HK_GROUP_ACTIONS * sizeof(*g->action), 64);
    if (!g->action)
        return -ENOMEM;
    err = cfg->role == HK_ROLE_PRIMARY ? hk_primary_init(g, arena) : hk_standby_init(g, arena);
    if (err)
        return err;
    *ret_group = g;
    return 0;
}

uint64_t hk_group_random(struct hk_group *g)
{
    uint64_t z = g->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t hk_group_ping_interval_ns(const struct hk_group_cfg *cfg)
{
    return hk_min_u64(cfg->contact_timeout_ns / 8, HK_GROUP_PING_NS_MAX);
}

/* ---- what is queued ---- */

struct hk_action *hk_group_queue(struct hk_group *g, enum hk_action_type type)
{
    struct hk_action *a;

    /* Whoever brings events pulls actions in between, so what must not be lost always fits. */
    HK_ASSERT(g->action_count < HK_GROUP_ACTIONS);
    a = &g->action[(g->action_head + g->action_count++) % HK_GROUP_ACTIONS];
    __builtin_memset(a, 0, sizeof(*a));
    a->type = type;
    return a;
}

struct hk_ctl *hk_group_say(struct hk_group *g, enum hk_ctl_type type)
{
    struct hk_action *a = &g->spill;

    /* A peer that asks faster than it is answered loses answers, nothing else. */
    if (g->action_count < HK_GROUP_ACTIONS - HK_GROUP_ACTIONS_SAY)
        a = hk_group_queue(g, HK_ACT_CONTROL_OUT);
    a->control.type = type;
    return &a->control;
}

void hk_group_notify(struct hk_group *g, enum hk_notice_id id, uint64_t a0, uint64_t a1,
                     uint64_t a2, const char *name)
{
    struct hk_action *a;

    if (g->action_count >= HK_GROUP_ACTIONS - HK_GROUP_ACTIONS_RESERVE) {
        g->notices_dropped++;
        return;
    }
    a = hk_group_queue(g, HK_ACT_NOTIFY);
    a->notify.id = id;
    a->notify.arg[0] = a0;
    a->notify.arg[1] = a1;
    a->notify.arg[2] = a2;
    if (name)
        __builtin_memcpy(a->notify.name, name, HK_NAME_BYTES);
}

void hk_group_verb_done(struct hk_group *g, uint64_t op_id, int error, uint32_t reason,
                        const uint64_t arg[4])
{
    struct hk_action *a = hk_group_queue(g, HK_ACT_VERB_DONE);

    a->verb_done.op_id = op_id;
    a->verb_done.error = error;
    a->verb_done.reason = reason;
    if (arg)
        __builtin_memcpy(a->verb_done.arg, arg, sizeof(a->verb_done.arg));
}

void hk_group_fatal(struct hk_group *g, enum hk_notice_id why, int error)
{
    struct hk_action *a;

    if (g->failed)
        return;
    g->failed = true;
    a = hk_group_queue(g, HK_ACT_FATAL);
    a->fatal.error = error ? error : -EIO;
    a->fatal.why = why;
}

void hk_group_refuse(struct hk_group *g, enum hk_refusal why, const uint64_t detail[2])
{
    struct hk_ctl *c = hk_group_say(g, HK_CTL_REFUSED);

    c->refused.reason = why;
    if (detail) {
        c->refused.detail[0] = detail[0];
        c->refused.detail[1] = detail[1];
    }
    g->last_refusal = why;
    hk_group_queue(g, HK_ACT_CONTROL_CLOSE);
    hk_group_notify(g, HK_NOTE_REFUSED, why, detail ? detail[0] : 0, detail ? detail[1] : 0, NULL);
}

/* ---- in and out ---- */

static void bad_frame(struct hk_group *g, uint8_t path, enum hk_frame_fault fault)
{
    if (path < HK_PATHS_MAX && fault < HK_FRAME_FAULTS)
        g->bad[path][fault]++;
}

void hk_group_event(struct hk_group *g, const struct hk_event *e, const struct hk_now *now)
{
    g->now = *now;
    if (e->type == HK_EV_BAD_FRAME)
        bad_frame(g, e->bad_frame.path, e->bad_frame.fault);
    if (g->failed)
        return;
    if (e->type == HK_EV_LINK && e->link.path < g->cfg.path_count)
        g->path_up[e->link.path] = e->link.up;
    if (g->primary)
        hk_primary_event(g, e);
    else
        hk_standby_event(g, e);
}

bool hk_group_next(struct hk_group *g, const struct hk_now *now, bool can_send,
                   struct hk_action *ret)
{
    g->now = *now;
    g->no_room = !can_send;
    if (g->action_count > 0) {
        *ret = g->action[g->action_head];
        g->action_head = (g->action_head + 1) % HK_GROUP_ACTIONS;
        g->action_count--;
        return true;
    }
    if (g->failed)
        return false;
    return g->primary ? hk_primary_next(g, can_send, ret) : hk_standby_next(g, can_send, ret);
}

uint64_t hk_group_deadline_ns(const struct hk_group *g)
{
    if (g->action_count > 0)
        return g->now.mono_ns;
    if (g->failed)
        return UINT64_MAX;
    return g->primary ? hk_primary_deadline_ns(g) : hk_standby_deadline_ns(g);
}
