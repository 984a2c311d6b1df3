/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"
#include "stamp.h"

static uint64_t rng(struct writer *w)
{
    uint64_t x = (w->rng += 0x9e3779b97f4a7c15u);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t below(struct writer *w, uint64_t n)
{
    return rng(w) % n;
}

bool hk_stamp_chance(struct writer *w, unsigned percent)
{
    return below(w, 100) < percent;
}

static uint32_t pick_length(struct writer *w)
{
    uint32_t steps = (w->block_max - w->block_min) / w->align + 1;
    uint64_t step = below(w, steps);

    if (below(w, 3) != 0) /* most are small, as a database's are */
        step = below(w, step + 1);
    return w->block_min + (uint32_t)step * w->align;
}

static void pick_place(struct writer *w, struct hk_stamp_event *e)
{
    const struct volume *v = &w->volumes[e->volume];
    uint64_t places;

    e->length = pick_length(w);
    if (e->length > v->range_length)
        e->length = (uint32_t)(v->range_length / w->align * w->align);
    places = (v->range_length - e->length) / w->align + 1;
    e->offset = v->range_offset + below(w, places) * w->align;
    if (!hk_stamp_chance(w, w->overlap_percent))
        return;
    for (unsigned tries = 0; tries < 8; tries++) {
        const struct hk_stamp_event *other = &w->slots[below(w, w->depth)].submit;
        uint64_t shift = below(w, 4) * w->align;

        if (other->volume != e->volume || other->length == 0)
            continue;
        e->offset =
            other->offset >= v->range_offset + shift ? other->offset - shift : other->offset;
        if (hk_stamp_chance(w, 50))
            e->length = other->length;
        if (e->offset + e->length > v->range_offset + v->range_length)
            e->offset = v->range_offset + v->range_length - e->length;
        return;
    }
}

static uint64_t pick_content(struct writer *w, uint64_t id)
{
    static const uint8_t fills[] = {0xaa, 0x55, 0xff, 0x01};

    if (hk_stamp_chance(w, w->unique_percent))
        return hk_content_id(HK_CONTENT_UNIQUE, id + 1);
    switch (below(w, 8)) {
    case 0:
    case 1: return 0;
    case 2:
    case 3: return hk_content_id(HK_CONTENT_FILL, fills[below(w, sizeof(fills))]);
    case 4: return hk_content_id(HK_CONTENT_PLACE, below(w, 3));
    }
    return hk_content_id(HK_CONTENT_MIX, below(w, 4));
}

static enum mix pick_kind(struct writer *w, const struct volume *v)
{
    uint64_t n = below(w, w->weight_sum);
    unsigned kind = 0;

    while (n >= w->weights[kind])
        n -= w->weights[kind++];
    if ((kind == MIX_FUA && !v->can_fua) || (kind == MIX_ZERO && !v->can_zero) ||
        (kind == MIX_TRIM && !v->can_trim) || (kind == MIX_FLUSH && !v->can_flush))
        return MIX_WRITE;
    return (enum mix)kind;
}

bool hk_stamp_pick(struct writer *w, struct slot *s)
{
    struct hk_stamp_event *e = &s->submit;
    uint16_t volume = (uint16_t)below(w, w->volume_count);
    bool act = w->act && w->volumes[w->act_volume].link == LINK_UP;
    enum mix kind;

    if (act)
        volume = w->act_volume;
    for (uint32_t i = 0; w->volumes[volume].link != LINK_UP; i++) {
        if (i == w->volume_count)
            return false;
        volume = (uint16_t)((volume + 1u) % w->volume_count);
    }
    *e = (struct hk_stamp_event){.kind = HK_STAMP_SUBMIT, .volume = volume, .id = w->next_id};
    kind = act ? MIX_WRITE : pick_kind(w, &w->volumes[volume]);
    if (kind != MIX_FLUSH)
        pick_place(w, e);
    switch (kind) {
    case MIX_WRITE: e->op = HK_STAMP_WRITE; break;
    case MIX_FUA:
        e->op = HK_STAMP_WRITE;
        e->flags = HK_STAMP_FUA;
        break;
    case MIX_ZERO: e->op = HK_STAMP_ZERO; break;
    case MIX_TRIM: e->op = HK_STAMP_TRIM; break;
    case MIX_FLUSH: e->op = HK_STAMP_FLUSH; break;
    case MIX_READ: e->op = HK_STAMP_READ; break;
    case MIX_COUNT: break;
    }
    if (e->op == HK_STAMP_WRITE)
        e->content =
            act ? hk_content_id(HK_CONTENT_UNIQUE, w->next_id + 1) : pick_content(w, w->next_id);
    if (act) {
        w->act = false;
        w->totals.dependent++;
    }
    w->next_id++;
    return true;
}
