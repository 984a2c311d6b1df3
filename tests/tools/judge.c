/* SPDX-License-Identifier: Apache-2.0 */
#include "judge.h"

#include "content.h"
#include "explain.h"
#include "solve.h"
#include "sweep.h"

#include <stdlib.h>
#include <string.h>

enum { BUDGET_DEFAULT = 200000, SOLVED_AFTER_SUCCESS_MAX = 256 };

static void *need(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "judge: out of memory\n");
        abort();
    }
    return p;
}

/* The contested sectors of one cut, sorted into classes (solve.h). */
struct builder {
    const struct hk_sweep *s;
    struct hk_solve_problem p;
    struct hk_solve_class *classes;
    uint32_t *class_sector; /* a sector that stands for the class */
    struct hk_solve_member *members;
    uint32_t member_count, member_room, class_room;
    uint32_t *table; /* open hash of class index + 1 */
    uint32_t table_size;
    int32_t *local;  /* per operation of the case: index in the problem, -1 */
    uint32_t *op_of; /* back again */
};

static uint32_t local_of(struct builder *b, uint32_t op)
{
    const struct hk_judge_op *o = &b->s->c->ops[op];

    if (b->local[op] < 0) {
        b->local[op] = (int32_t)b->p.op_count;
        b->op_of[b->p.op_count] = op;
        b->p.ops[b->p.op_count++] = (struct hk_solve_op){
            .begin = o->begin, .end = o->end, .in = b->s->state[op] == HK_SWEEP_CONTAINED};
    }
    return (uint32_t)b->local[op];
}

static bool same_class(const struct builder *b, const struct hk_solve_class *x,
                       const struct hk_solve_class *y)
{
    if (x->count != y->count || x->base_matches != y->base_matches)
        return false;
    for (uint32_t i = 0; i < x->count; i++) {
        const struct hk_solve_member *m = &b->members[x->first + i];
        const struct hk_solve_member *n = &b->members[y->first + i];

        if (m->op != n->op || m->matches != n->matches)
            return false;
    }
    return true;
}

static void add_sector(struct builder *b, uint32_t index)
{
    const struct hk_sweep_sector *x = &b->s->sectors[index];
    struct hk_solve_class c = {.first = b->member_count};
    uint64_t hash = 1469598103934665603u;
    uint32_t slot;

    c.base_matches = x->covered_begin < 0 && x->base == x->actual;
    for (int32_t n = x->head; n >= 0; n = b->s->nodes[n].next) {
        uint32_t op = b->s->nodes[n].op;

        if (b->member_count == b->member_room) {
            b->member_room = b->member_room ? b->member_room * 2 : 256;
            b->members = need(realloc(b->members, b->member_room * sizeof(*b->members)));
        }
        b->members[b->member_count] = (struct hk_solve_member){
            .op = local_of(b, op), .matches = hk_sweep_op_tag(b->s, op, index) == x->actual};
        hash = (hash ^ b->members[b->member_count].op) * 1099511628211u;
        hash = (hash ^ b->members[b->member_count].matches) * 1099511628211u;
        b->member_count++;
        c.count++;
    }
    for (slot = (uint32_t)(hash >> 20) & (b->table_size - 1); b->table[slot] != 0;
         slot = (slot + 1) & (b->table_size - 1)) {
        if (same_class(b, &c, &b->classes[b->table[slot] - 1])) {
            b->member_count = c.first;
            return;
        }
    }
    b->classes[b->p.class_count] = c;
    b->class_sector[b->p.class_count] = index;
    b->table[slot] = ++b->p.class_count;
}

static void build(struct builder *b, const struct hk_sweep *s, int32_t *local)
{
    uint32_t n = s->contested_count;

    *b = (struct builder){.s = s, .local = local, .table_size = 16};
    while (b->table_size < 2 * n)
        b->table_size *= 2;
    b->table = need(calloc(b->table_size, sizeof(*b->table)));
    b->classes = need(malloc((n + 1) * sizeof(*b->classes)));
    b->class_sector = need(malloc((n + 1) * sizeof(*b->class_sector)));
    b->p.ops = need(malloc((s->c->op_count + 1) * sizeof(*b->p.ops)));
    b->op_of = need(malloc((s->c->op_count + 1) * sizeof(*b->op_of)));
    for (uint32_t i = 0; i < n; i++)
        add_sector(b, s->contested[i]);
    b->p.classes = b->classes;
    b->p.members = b->members;
    b->p.budget = s->c->budget ? s->c->budget : BUDGET_DEFAULT;
}

static void demolish(struct builder *b)
{
    for (uint32_t i = 0; i < b->p.op_count; i++)
        b->local[b->op_of[i]] = -1;
    free(b->table);
    free(b->classes);
    free(b->class_sector);
    free(b->members);
    free(b->p.ops);
    free(b->op_of);
}

/* What is contained and lost if this cut is the explanation. */
static void account(const struct hk_sweep *s, const struct builder *b,
                    const struct hk_judge_result *totals, struct hk_judge_loss *ret_loss)
{
    uint64_t contained = s->contained_count;
    uint64_t acked = s->acked_count;
    uint64_t bytes = s->acked_bytes;

    for (uint32_t i = 0; b != NULL && i < b->p.op_count; i++) {
        const struct hk_judge_op *o = &s->c->ops[b->op_of[i]];

        if (b->p.ops[i].in || !b->p.ops[i].ret_in)
            continue;
        contained++;
        acked += o->acked;
        bytes += o->acked ? (uint64_t)o->sector_count * HK_SECTOR_BYTES : 0;
    }
    ret_loss->contained_count = contained;
    ret_loss->acked_count = totals->acked_count - acked;
    ret_loss->acked_bytes = totals->acked_bytes - bytes;
}

struct judging {
    struct hk_judge_result *ret;
    int32_t *local;
    bool consistent;
    uint64_t solved_after_success;
    struct hk_explain why;
};

static enum hk_solved test_cut(struct judging *j, const struct hk_sweep *s, int64_t cut)
{
    struct hk_judge_loss loss;
    struct builder b;
    uint32_t class = 0, group_max = 0;
    enum hk_solved r = HK_SOLVED_YES;

    if (s->c->torn_ok) {
        account(s, NULL, j->ret, &loss);
    } else {
        build(&b, s, j->local);
        r = hk_solve(&b.p, &class, &group_max);
        account(s, &b, j->ret, &loss);
        if (r != HK_SOLVED_YES) {
            j->why.unsolved_cut = cut;
            j->why.unsolved_sector = b.class_sector[class];
        }
        demolish(&b);
    }
    if (group_max > j->ret->group_ops_max)
        j->ret->group_ops_max = group_max;
    j->ret->cuts_solved++;
    if (r != HK_SOLVED_YES)
        return r;
    if (!j->consistent) {
        j->ret->cut_first = cut;
        j->ret->loss_most = loss;
    }
    j->ret->cut_last = cut;
    j->ret->loss_least = loss;
    j->consistent = true;
    return r;
}

static void totals(const struct hk_judge_case *c, struct hk_judge_result *ret)
{
    for (size_t i = 0; i < c->op_count; i++) {
        ret->acked_count += c->ops[i].acked;
        ret->acked_bytes +=
            c->ops[i].acked ? (uint64_t)c->ops[i].sector_count * HK_SECTOR_BYTES : 0;
    }
}

void hk_judge(const struct hk_judge_case *given, struct hk_judge_result *ret_result, FILE *report)
{
    struct hk_judge_case bounded = *given;
    const struct hk_judge_case *c = &bounded;
    struct judging j = {.ret = ret_result, .why = {.best_bad_count = UINT64_MAX}};
    bool gave_up = false;
    struct hk_sweep s;
    int64_t cut;

    *ret_result = (struct hk_judge_result){0};
    totals(c, ret_result);
    /* A cut before the submission of something that must be contained is no candidate. */
    for (size_t i = 0; i < c->op_count; i++) {
        if (c->ops[i].must && c->ops[i].begin >= bounded.cut_min)
            bounded.cut_min = c->ops[i].begin + 1;
    }
    j.local = need(malloc((c->op_count + 1) * sizeof(*j.local)));
    memset(j.local, 0xff, (c->op_count + 1) * sizeof(*j.local));
    hk_sweep_init(&s, c);
    for (size_t i = 0; i < s.sector_count; i++)
        ret_result->sectors_judged += !s.sectors[i].excluded;
    while (hk_sweep_next(&s, &cut)) {
        ret_result->cuts_tested++;
        if (s.bad_count <= j.why.best_bad_count) {
            j.why.best_bad_count = s.bad_count;
            j.why.best_cut = cut;
        }
        if (s.bad_count != 0)
            continue;
        if (j.consistent && j.solved_after_success++ >= SOLVED_AFTER_SUCCESS_MAX)
            continue;
        if (test_cut(&j, &s, cut) == HK_SOLVED_GAVE_UP)
            gave_up = true;
    }
    hk_sweep_free(&s);
    free(j.local);
    ret_result->verdict = HK_VERDICT_VIOLATION;
    if (j.consistent)
        ret_result->verdict = HK_VERDICT_CONSISTENT;
    else if (gave_up)
        ret_result->verdict = HK_VERDICT_UNDECIDED;
    if (report != NULL && !j.consistent)
        hk_explain(c, &j.why, report);
}
