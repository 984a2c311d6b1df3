/* SPDX-License-Identifier: Apache-2.0 */
#include "explain.h"

#include "content.h"
#include "sweep.h"

#include <inttypes.h>

enum { OPS_SHOWN_MAX = 8 };

static void run_to(struct hk_sweep *s, const struct hk_judge_case *c, int64_t want)
{
    int64_t cut;

    hk_sweep_init(s, c);
    while (hk_sweep_next(s, &cut) && cut != want)
        ;
}

static void print_cut(const struct hk_judge_case *c, int64_t cut, FILE *f)
{
    if (cut >= c->cut_max)
        fprintf(f, "the end of the judged history");
    else
        fprintf(f, "event %" PRId64, cut);
}

static void print_op(const struct hk_sweep *s, uint32_t op, size_t index, FILE *f)
{
    const struct hk_judge_op *o = &s->c->ops[op];
    const char *fate = o->must ? "promised durable" : o->acked ? "acknowledged" : "unanswered";
    char content[96];

    hk_content_describe(hk_sweep_op_tag(s, op, index), content, sizeof(content));
    fprintf(f, "      op %" PRIu64 ": %s here; sectors %" PRIu64 "+%u; submitted at event %" PRId64,
            o->id, content, o->first_sector, o->sector_count, o->begin);
    if (o->end == HK_JUDGE_NEVER)
        fprintf(f, ", never certain; %s", fate);
    else
        fprintf(f, ", certain at event %" PRId64 "; %s", o->end, fate);
    if (s->state[op] == HK_SWEEP_CONTAINED)
        fprintf(f, "; contained at this cut\n");
    else
        fprintf(f, "; %s\n", s->state[op] == HK_SWEEP_FLYING ? "in flight" : "after this cut");
}

static bool covers(const struct hk_judge_op *o, uint32_t volume, uint64_t sector)
{
    return o->volume == volume && sector >= o->first_sector &&
           sector < o->first_sector + o->sector_count;
}

/* Where the bytes found came from, if anybody ever wrote them there. */
static void print_origin(const struct hk_sweep *s, size_t index, FILE *f)
{
    const struct hk_sweep_sector *x = &s->sectors[index];
    const struct hk_judge_case *c = s->c;
    uint32_t volume;
    uint64_t sector;

    hk_sweep_locate(s, index, &volume, &sector);
    for (size_t i = c->op_count; i-- > 0;) {
        if (!covers(&c->ops[i], volume, sector) ||
            hk_sweep_op_tag(s, (uint32_t)i, index) != x->actual)
            continue;
        fprintf(f, "    the last operation that would have left what is there:\n");
        print_op(s, (uint32_t)i, index, f);
        return;
    }
    fprintf(f, "    no operation of the history leaves that%s\n",
            x->base == x->actual ? "; it is the initial content" : ", nor was it there initially");
}

static void print_sector(const struct hk_sweep *s, size_t index, FILE *f)
{
    const struct hk_sweep_sector *x = &s->sectors[index];
    unsigned shown = 0;
    char content[96];
    uint32_t volume;
    uint64_t sector;

    hk_sweep_locate(s, index, &volume, &sector);
    hk_content_describe(x->actual, content, sizeof(content));
    fprintf(f, "  volume %u sector %" PRIu64 " (byte %" PRIu64 "): there is %s\n", volume, sector,
            sector * HK_SECTOR_BYTES, content);
    if (x->covered_begin < 0) {
        hk_content_describe(x->base, content, sizeof(content));
        fprintf(f, "    could be: the initial content, %s\n", content);
    }
    if (x->head >= 0)
        fprintf(f, "    could be last here:\n");
    for (int32_t n = x->head; n >= 0 && shown < OPS_SHOWN_MAX; n = s->nodes[n].next, shown++)
        print_op(s, s->nodes[n].op, index, f);
    print_origin(s, index, f);
}

static size_t first_bad(const struct hk_sweep *s)
{
    size_t i = 0;

    while (i < s->sector_count && !s->sectors[i].bad)
        i++;
    return i;
}

/* Among the cuts that explain sector `index`, the one that explains most of the rest. */
static bool best_cut_for(const struct hk_judge_case *c, size_t index, int64_t *ret_cut)
{
    uint64_t best = UINT64_MAX;
    struct hk_sweep s;
    int64_t cut;

    hk_sweep_init(&s, c);
    while (hk_sweep_next(&s, &cut)) {
        if (!s.sectors[index].bad && s.bad_count <= best) {
            best = s.bad_count;
            *ret_cut = cut;
        }
    }
    hk_sweep_free(&s);
    return best != UINT64_MAX;
}

static void explain_bad(const struct hk_judge_case *c, const struct hk_explain *why, FILE *f)
{
    struct hk_sweep s;
    int64_t other;
    size_t first;

    run_to(&s, c, why->best_cut);
    first = first_bad(&s);
    fprintf(f, "VIOLATION: at the cut that explains most (");
    print_cut(c, why->best_cut, f);
    fprintf(f, "), %" PRIu64 " sectors are not explained; the first:\n", why->best_bad_count);
    print_sector(&s, first, f);
    hk_sweep_free(&s);
    if (!best_cut_for(c, first, &other)) {
        fprintf(f, "  no permitted cut explains this sector at all\n");
        return;
    }
    fprintf(f, "  it would be legal at another cut (");
    print_cut(c, other, f);
    fprintf(f, "), but there this one is not:\n");
    run_to(&s, c, other);
    print_sector(&s, first_bad(&s), f);
    hk_sweep_free(&s);
}

static void explain_unsolved(const struct hk_judge_case *c, const struct hk_explain *why, FILE *f)
{
    const struct hk_sweep_sector *x;
    unsigned shown = 0;
    struct hk_sweep s;

    run_to(&s, c, why->unsolved_cut);
    x = &s.sectors[why->unsolved_sector];
    fprintf(f, "VIOLATION: at the cut ");
    print_cut(c, why->unsolved_cut, f);
    fprintf(f, " every sector can be explained by itself, but not all by one order of whole\n"
               "  operations: one is torn, or two are in different orders in different places\n");
    print_sector(&s, why->unsolved_sector, f);
    fprintf(f, "  contested by the same operations:\n");
    for (uint32_t i = 0; i < s.contested_count && shown < OPS_SHOWN_MAX; i++) {
        uint32_t index = s.contested[i];
        bool shares = false;

        for (int32_t n = s.sectors[index].head; n >= 0; n = s.nodes[n].next) {
            for (int32_t m = x->head; m >= 0; m = s.nodes[m].next)
                shares |= s.nodes[n].op == s.nodes[m].op;
        }
        if (!shares || index == why->unsolved_sector || (i > 0 && s.contested[i - 1] + 1 == index))
            continue;
        print_sector(&s, index, f);
        shown++;
    }
    hk_sweep_free(&s);
}

void hk_explain(const struct hk_judge_case *c, const struct hk_explain *why, FILE *report)
{
    if (why->best_bad_count > 0)
        explain_bad(c, why, report);
    else
        explain_unsolved(c, why, report);
}
