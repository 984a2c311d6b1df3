/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's share of a resync: hashes pieces of its replicas when the primary asks.
 *
 * A piece is read only once everything up to the question's `after` is in the replica and flushed:
 * then each of its bytes either is written again later, in the order of the log, or has not changed
 * here since. What the applier writes meanwhile can only make a block look unequal that is not.
 * Questions wait in slots, as many as a primary may have open; those of a session that ended are
 * dropped, and a read that is still under way for one keeps its slot until it ends.
 */
#include "proto/bug.h"
#include "replicator/group/private.h"

#include <errno.h>

static struct hk_hash_slot *free_slot(struct hk_standby *s)
{
    for (uint32_t i = 0; i < HK_GROUP_HASH_SLOTS; i++) {
        if (!s->hash[i].used && !s->hash[i].reading)
            return &s->hash[i];
    }
    return NULL;
}

static bool ask_ok(const struct hk_group *g, const struct hk_hash_ask *a)
{
    uint64_t bytes;

    if (a->volume >= g->cfg.volume_count || a->bytes == 0 || a->bytes % 512 || a->offset % 512 ||
        a->bytes > HK_COMPARE_BLOCKS_MAX * HK_COMPARE_BLOCK_BYTES)
        return false;
    bytes = hk_grow_room(g, a->volume);
    return a->offset < bytes && a->bytes <= bytes - a->offset;
}

int hk_standby_hash_ask(struct hk_group *g, const struct hk_hash_ask *a)
{
    struct hk_standby *s = g->standby;
    struct hk_hash_slot *slot;
    uint32_t open = 0;

    if (s->session == 0)
        return 0; /* of a session that has just ended */
    for (uint32_t i = 0; i < HK_GROUP_HASH_SLOTS; i++)
        open += s->hash[i].used;
    slot = free_slot(s);
    if (!ask_ok(g, a) || open >= HK_COMPARE_ASKS_MAX || !slot)
        return -EINVAL;
    *slot = (struct hk_hash_slot){.used = true, .ask = *a};
    return 0;
}

void hk_standby_hash_drop(struct hk_standby *s)
{
    for (uint32_t i = 0; i < HK_GROUP_HASH_SLOTS; i++)
        s->hash[i].used = s->hash[i].answered = false;
}

/* May this piece be read now? */
static bool is_due(const struct hk_group *g, const struct hk_hash_slot *slot)
{
    const struct hk_standby *s = g->standby;

    if (!slot->used || slot->reading || slot->answered)
        return false;
    if (s->stage != HK_STAGE_READY || s->promotion != HK_PROMOTION_NONE)
        return false;
    return hk_apply_flushed(&s->apply) >= slot->ask.after || HK_BUG(compare_before_applied);
}

static uint32_t reads_under_way(const struct hk_standby *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < HK_GROUP_HASH_SLOTS; i++)
        n += s->hash[i].reading;
    return n;
}

/* model: resync.pml, REPLICA_HASHED */
static bool next_read(struct hk_group *g, struct hk_action *ret)
{
    struct hk_standby *s = g->standby;

    if (reads_under_way(s) >= HK_COMPARE_ASKS_MAX)
        return false;
    for (uint32_t i = 0; i < HK_GROUP_HASH_SLOTS; i++) {
        struct hk_hash_slot *slot = &s->hash[i];

        if (!is_due(g, slot))
            continue;
        slot->reading = true;
        slot->read_request = ++s->hash_requests;
        ret->type = HK_ACT_HASH;
        ret->hash.ask = slot->ask;
        ret->hash.ask.request = slot->read_request;
        __builtin_memcpy(ret->hash.key, s->compare_key, sizeof(ret->hash.key));
        return true;
    }
    return false;
}

void hk_standby_hashed(struct hk_group *g, const struct hk_hashes *h)
{
    struct hk_standby *s = g->standby;

    for (uint32_t i = 0; i < HK_GROUP_HASH_SLOTS; i++) {
        struct hk_hash_slot *slot = &s->hash[i];

        if (!slot->reading || slot->read_request != h->request)
            continue;
        slot->reading = false;
        slot->answered = slot->used;
        slot->answer = *h;
        slot->answer.request = slot->ask.request;
        return;
    }
}

static bool next_answer(struct hk_group *g, struct hk_action *ret)
{
    struct hk_standby *s = g->standby;

    for (uint32_t i = 0; i < HK_GROUP_HASH_SLOTS; i++) {
        struct hk_hash_slot *slot = &s->hash[i];

        if (!slot->answered)
            continue;
        slot->used = slot->answered = false;
        ret->type = HK_ACT_CONTROL_OUT;
        __builtin_memset(&ret->control, 0, sizeof(ret->control));
        ret->control.type = HK_CTL_HASHES;
        ret->control.hashes = slot->answer;
        return true;
    }
    return false;
}

bool hk_standby_hash_next(struct hk_group *g, struct hk_action *ret)
{
    const struct hk_standby *s = g->standby;

    return s->control_up && s->session != 0 && (next_answer(g, ret) || next_read(g, ret));
}

void hk_standby_new_key(struct hk_group *g)
{
    struct hk_standby *s = g->standby;

    for (uint32_t i = 0; i < sizeof(s->compare_key); i += 8) {
        uint64_t r = hk_group_random(g);

        __builtin_memcpy(&s->compare_key[i], &r, sizeof(r));
    }
}
