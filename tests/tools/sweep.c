/* SPDX-License-Identifier: Apache-2.0 */
#include "sweep.h"

#include "content.h"

#include <stdlib.h>
#include <string.h>

static void *need(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "sweep: out of memory\n");
        abort();
    }
    return p;
}

void hk_sweep_locate(const struct hk_sweep *s, size_t index, uint32_t *ret_volume,
                     uint64_t *ret_sector)
{
    uint32_t v = 0;

    while (index >= s->volume_start[v + 1])
        v++;
    *ret_volume = v;
    *ret_sector = s->c->volumes[v].first_sector + (index - s->volume_start[v]);
}

uint64_t hk_sweep_op_tag(const struct hk_sweep *s, uint32_t op, size_t index)
{
    const struct hk_judge_op *o = &s->c->ops[op];
    uint64_t sector = s->c->volumes[o->volume].first_sector + (index - s->volume_start[o->volume]);

    return hk_content_tag(o->content, o->volume, sector);
}

static int32_t node_take(struct hk_sweep *s)
{
    int32_t n = s->node_free;

    if (n >= 0) {
        s->node_free = s->nodes[n].next;
        return n;
    }
    if (s->node_count == s->node_room) {
        s->node_room = s->node_room ? s->node_room * 2 : 1024;
        s->nodes = need(realloc(s->nodes, (size_t)s->node_room * sizeof(*s->nodes)));
    }
    return s->node_count++;
}

static void contest(struct hk_sweep *s, uint32_t index, bool contested)
{
    struct hk_sweep_sector *x = &s->sectors[index];

    if (contested && x->contested_at < 0) {
        x->contested_at = (int32_t)s->contested_count;
        s->contested[s->contested_count++] = index;
    } else if (!contested && x->contested_at >= 0) {
        uint32_t last = s->contested[--s->contested_count];

        s->contested[x->contested_at] = last;
        s->sectors[last].contested_at = x->contested_at;
        x->contested_at = -1;
    }
}

/* Drops who can no longer be last, and finds out whether anybody explains the content. */
static void refresh(struct hk_sweep *s, uint32_t index)
{
    struct hk_sweep_sector *x = &s->sectors[index];
    bool explained = x->covered_begin < 0 && x->base == x->actual;
    unsigned flying = 0, contained = 0;

    for (int32_t *link = &x->head; *link >= 0;) {
        int32_t n = *link;
        uint32_t op = s->nodes[n].op;

        if (s->c->ops[op].end <= x->covered_begin) {
            *link = s->nodes[n].next;
            s->nodes[n].next = s->node_free;
            s->node_free = n;
            continue;
        }
        if (s->state[op] == HK_SWEEP_FLYING)
            flying++;
        else
            contained++;
        if (!explained && hk_sweep_op_tag(s, op, index) == x->actual)
            explained = true;
        link = &s->nodes[n].next;
    }
    if (x->bad == explained) {
        x->bad = !explained;
        s->bad_count += explained ? (uint64_t)-1 : 1;
    }
    contest(s, index, flying > 0 || contained > 1);
}

enum change { SUBMITTED, CONTAINED };

static void touch(struct hk_sweep *s, uint32_t op, enum change change)
{
    const struct hk_judge_op *o = &s->c->ops[op];
    const struct hk_judge_volume *v = &s->c->volumes[o->volume];
    uint64_t from = o->first_sector > v->first_sector ? o->first_sector : v->first_sector;
    uint64_t to = o->first_sector + o->sector_count;
    uint64_t range_end = v->first_sector + v->sector_count;

    if (to > range_end)
        to = range_end;
    for (uint64_t sector = from; sector < to; sector++) {
        size_t index = s->volume_start[o->volume] + (sector - v->first_sector);
        struct hk_sweep_sector *x = &s->sectors[index];

        if (x->excluded)
            continue;
        if (change == SUBMITTED) {
            int32_t n = node_take(s);

            s->nodes[n] = (struct hk_sweep_node){.op = op, .next = x->head};
            x->head = n;
        }
        if (s->state[op] == HK_SWEEP_CONTAINED && o->begin > x->covered_begin)
            x->covered_begin = o->begin;
        refresh(s, (uint32_t)index);
    }
}

static void contain(struct hk_sweep *s, uint32_t op)
{
    const struct hk_judge_op *o = &s->c->ops[op];

    s->state[op] = HK_SWEEP_CONTAINED;
    s->contained_count++;
    if (o->acked) {
        s->acked_count++;
        s->acked_bytes += (uint64_t)o->sector_count * HK_SECTOR_BYTES;
    }
}

static void submit(struct hk_sweep *s, uint32_t op)
{
    s->state[op] = HK_SWEEP_FLYING;
    if (s->c->ops[op].must)
        contain(s, op);
    touch(s, op, SUBMITTED);
}

struct end_key {
    int64_t end;
    uint32_t op;
};

static int by_end(const void *a, const void *b)
{
    const struct end_key *x = a;
    const struct end_key *y = b;

    return x->end < y->end ? -1 : x->end > y->end;
}

static void collect_ends(struct hk_sweep *s)
{
    const struct hk_judge_case *c = s->c;
    struct end_key *keys = need(malloc((c->op_count + 1) * sizeof(*keys)));

    s->ends = need(malloc((c->op_count + 1) * sizeof(*s->ends)));
    for (size_t i = 0; i < c->op_count; i++) {
        const struct hk_judge_op *o = &c->ops[i];

        if (!o->optional && !o->must && o->end != HK_JUDGE_NEVER)
            keys[s->end_count++] = (struct end_key){o->end, (uint32_t)i};
    }
    qsort(keys, s->end_count, sizeof(*keys), by_end);
    for (size_t i = 0; i < s->end_count; i++)
        s->ends[i] = keys[i].op;
    free(keys);
}

void hk_sweep_init(struct hk_sweep *s, const struct hk_judge_case *c)
{
    *s = (struct hk_sweep){.c = c, .node_free = -1};
    s->volume_start = need(calloc(c->volume_count + 1, sizeof(*s->volume_start)));
    for (uint32_t v = 0; v < c->volume_count; v++)
        s->volume_start[v + 1] = s->volume_start[v] + c->volumes[v].sector_count;
    s->sector_count = s->volume_start[c->volume_count];
    s->sectors = need(calloc(s->sector_count + 1, sizeof(*s->sectors)));
    s->contested = need(malloc((s->sector_count + 1) * sizeof(*s->contested)));
    s->state = need(calloc(c->op_count + 1, sizeof(*s->state)));
    for (uint32_t v = 0; v < c->volume_count; v++) {
        const struct hk_judge_volume *vol = &c->volumes[v];

        for (uint64_t i = 0; i < vol->sector_count; i++) {
            s->sectors[s->volume_start[v] + i] = (struct hk_sweep_sector){
                .actual = vol->actual[i],
                .base = vol->base[i],
                .covered_begin = -1,
                .head = -1,
                .contested_at = -1,
                .excluded = vol->excluded != NULL && vol->excluded[i],
            };
        }
    }
    for (size_t i = 0; i < s->sector_count; i++) {
        s->sectors[i].bad = !s->sectors[i].excluded && s->sectors[i].base != s->sectors[i].actual;
        s->bad_count += s->sectors[i].bad;
    }
    collect_ends(s);
}

void hk_sweep_free(struct hk_sweep *s)
{
    free(s->volume_start);
    free(s->sectors);
    free(s->nodes);
    free(s->state);
    free(s->ends);
    free(s->contested);
}

/*
 * A cut lies just before the end that is processed next. If nothing was submitted since the last
 * cut that was tested, the same sets were to be had there with one more operation free to choose,
 * so only what follows a submission is worth a test.
 */
bool hk_sweep_next(struct hk_sweep *s, int64_t *ret_cut)
{
    const struct hk_judge_case *c = s->c;

    while (!s->done) {
        int64_t begin = s->begin_next < c->op_count ? c->ops[s->begin_next].begin : HK_JUDGE_NEVER;
        int64_t end =
            s->end_next < s->end_count ? c->ops[s->ends[s->end_next]].end : HK_JUDGE_NEVER;
        uint32_t op;

        if ((begin < end ? begin : end) >= c->cut_max) {
            s->done = true;
            *ret_cut = c->cut_max;
            return true;
        }
        if (begin < end) {
            submit(s, (uint32_t)s->begin_next++);
            s->submitted_since = true;
            continue;
        }
        if (s->submitted_since && end >= c->cut_min) {
            s->submitted_since = false;
            *ret_cut = end;
            return true;
        }
        op = s->ends[s->end_next++];
        contain(s, op);
        touch(s, op, CONTAINED);
    }
    return false;
}
