/* SPDX-License-Identifier: Apache-2.0 */
#include "solve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Points are positions with room for ties: an operation that must come after another one which
 * cannot be placed before position b gets b plus a few ticks. */
enum { TICKS_SHIFT = 20 };

enum { OUT = -1, OPEN = 0, IN = 1 };
enum { UNASSIGNED = -2, BASE = -1 };

struct group {
    const struct hk_solve_problem *p;
    const uint32_t *classes; /* indices into p->classes */
    uint32_t class_count;
    const uint32_t *ops; /* indices into p->ops */
    uint32_t op_count;
    uint64_t budget;
};

/* One node of the search; arrays are indexed like the whole problem, so that no mapping is needed.
 * Only the group's own entries are copied from level to level. */
struct node {
    int8_t *state;  /* per op */
    int64_t *point; /* per op: earliest possible point */
    int32_t *last;  /* per class: member index chosen, BASE or UNASSIGNED */
};

static void *need(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "solve: out of memory\n");
        abort();
    }
    return p;
}

static int64_t limit_of(const struct hk_solve_op *op)
{
    return op->end > (INT64_MAX >> TICKS_SHIFT) ? INT64_MAX : op->end << TICKS_SHIFT;
}

/* Least points under the choices made so far; false if some operation has no place left. */
static bool place(const struct group *g, struct node *n)
{
    const struct hk_solve_problem *p = g->p;
    bool moved = true;

    for (uint32_t i = 0; i < g->op_count; i++)
        n->point[g->ops[i]] = p->ops[g->ops[i]].begin << TICKS_SHIFT;
    for (uint32_t round = 0; moved; round++) {
        if (round > g->op_count)
            return false; /* still moving after a path through all of them: a cycle */
        moved = false;
        for (uint32_t i = 0; i < g->class_count; i++) {
            const struct hk_solve_class *c = &p->classes[g->classes[i]];
            int32_t last = n->last[g->classes[i]];
            const struct hk_solve_member *m = &p->members[c->first];
            uint32_t w;

            if (last < 0)
                continue;
            w = m[last].op;
            for (uint32_t k = 0; k < c->count; k++) {
                uint32_t o = m[k].op;

                if (o == w || n->state[o] != IN || n->point[w] > n->point[o])
                    continue;
                n->point[w] = n->point[o] + 1;
                moved = true;
                if (n->point[w] >= limit_of(&p->ops[w]))
                    return false;
            }
        }
    }
    return true;
}

static bool option_possible(const struct group *g, const struct node *n, uint32_t class, int32_t k)
{
    const struct hk_solve_problem *p = g->p;
    const struct hk_solve_class *c = &p->classes[class];
    const struct hk_solve_member *m = &p->members[c->first];

    if (k == BASE && !c->base_matches)
        return false;
    if (k >= 0 && (!m[k].matches || n->state[m[k].op] == OUT))
        return false;
    for (uint32_t i = 0; i < c->count; i++) {
        if (n->state[m[i].op] != IN || (int32_t)i == k)
            continue;
        if (k == BASE || n->point[m[i].op] >= limit_of(&p->ops[m[k].op]))
            return false;
    }
    return true;
}

static bool choose(const struct group *g, struct node *n, uint32_t class, int32_t k)
{
    const struct hk_solve_class *c = &g->p->classes[class];
    const struct hk_solve_member *m = &g->p->members[c->first];

    n->last[class] = k;
    if (k == BASE) {
        for (uint32_t i = 0; i < c->count; i++)
            n->state[m[i].op] = OUT;
        return true;
    }
    n->state[m[k].op] = IN;
    /* Whoever cannot come before the last writer did not take part at all. */
    for (uint32_t i = 0; i < c->count; i++) {
        const struct hk_solve_op *o = &g->p->ops[m[i].op];

        if (n->state[m[i].op] == OPEN && o->begin >= g->p->ops[m[k].op].end)
            n->state[m[i].op] = OUT;
    }
    return place(g, n);
}

static struct node node_new(const struct hk_solve_problem *p)
{
    return (struct node){
        .state = need(calloc(p->op_count + 1, sizeof(int8_t))),
        .point = need(calloc(p->op_count + 1, sizeof(int64_t))),
        .last = need(calloc(p->class_count + 1, sizeof(int32_t))),
    };
}

static void node_free(struct node *n)
{
    free(n->state);
    free(n->point);
    free(n->last);
}

static void node_copy(const struct group *g, struct node *to, const struct node *from)
{
    for (uint32_t i = 0; i < g->op_count; i++) {
        to->state[g->ops[i]] = from->state[g->ops[i]];
        to->point[g->ops[i]] = from->point[g->ops[i]];
    }
    for (uint32_t i = 0; i < g->class_count; i++)
        to->last[g->classes[i]] = from->last[g->classes[i]];
}

/* Assigns every class with one option left; returns the class with the fewest options, -1 if all
 * are assigned, -2 if there is a contradiction (in *ret_class). */
static int64_t propagate(const struct group *g, struct node *n, uint32_t *ret_class)
{
    for (;;) {
        int64_t best = -1;
        uint32_t best_count = UINT32_MAX;
        bool assigned = false;

        for (uint32_t i = 0; i < g->class_count; i++) {
            uint32_t class = g->classes[i];
            uint32_t count = 0;
            int32_t only = UNASSIGNED;

            if (n->last[class] != UNASSIGNED)
                continue;
            for (int32_t k = BASE; k < (int32_t)g->p->classes[class].count; k++) {
                if (option_possible(g, n, class, k)) {
                    count++;
                    only = k;
                }
            }
            if (count == 0 || (count == 1 && !choose(g, n, class, only))) {
                *ret_class = class;
                return -2;
            }
            assigned |= count == 1;
            if (count > 1 && count < best_count) {
                best_count = count;
                best = class;
            }
        }
        if (!assigned)
            return best;
    }
}

static enum hk_solved search(struct group *g, struct node *n, uint32_t *ret_class)
{
    int64_t class = propagate(g, n, ret_class);
    enum hk_solved r = HK_SOLVED_NO;
    struct node next;

    if (class == -1)
        return HK_SOLVED_YES;
    if (class == -2)
        return HK_SOLVED_NO;
    next = node_new(g->p);
    /* First what is contained anyway, then what would have to be added. */
    for (int pass = 0; pass < 2; pass++) {
        const struct hk_solve_class *c = &g->p->classes[class];

        for (int32_t k = BASE; k < (int32_t)c->count; k++) {
            bool sure = k == BASE || n->state[g->p->members[c->first + (uint32_t)k].op] == IN;

            if (sure != (pass == 0) || !option_possible(g, n, (uint32_t) class, k))
                continue;
            if (g->budget == 0) {
                *ret_class = (uint32_t) class;
                r = HK_SOLVED_GAVE_UP;
                goto out;
            }
            g->budget--;
            node_copy(g, &next, n);
            if (!choose(g, &next, (uint32_t) class, k)) {
                *ret_class = (uint32_t) class;
                continue;
            }
            r = search(g, &next, ret_class);
            if (r == HK_SOLVED_YES)
                node_copy(g, n, &next);
            if (r != HK_SOLVED_NO)
                goto out;
        }
    }
out:
    node_free(&next);
    return r;
}

static uint32_t find(uint32_t *parent, uint32_t i)
{
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

struct keyed {
    uint32_t root;
    uint32_t index;
};

static int by_root(const void *a, const void *b)
{
    const struct keyed *x = a;
    const struct keyed *y = b;

    if (x->root != y->root)
        return x->root < y->root ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Operations that share a class form a group; each group is searched by itself. */
static void group_all(const struct hk_solve_problem *p, struct keyed *ops, struct keyed *classes)
{
    uint32_t *parent = need(malloc((p->op_count + 1) * sizeof(*parent)));

    for (uint32_t i = 0; i < p->op_count; i++)
        parent[i] = i;
    for (uint32_t i = 0; i < p->class_count; i++) {
        const struct hk_solve_class *c = &p->classes[i];

        for (uint32_t k = 1; k < c->count; k++)
            parent[find(parent, p->members[c->first].op)] =
                find(parent, p->members[c->first + k].op);
    }
    for (uint32_t i = 0; i < p->op_count; i++)
        ops[i] = (struct keyed){find(parent, i), i};
    for (uint32_t i = 0; i < p->class_count; i++)
        classes[i] = (struct keyed){find(parent, p->members[p->classes[i].first].op), i};
    qsort(ops, p->op_count, sizeof(*ops), by_root);
    qsort(classes, p->class_count, sizeof(*classes), by_root);
    free(parent);
}

enum hk_solved hk_solve(struct hk_solve_problem *p, uint32_t *ret_class, uint32_t *ret_group_max)
{
    struct keyed *ops = need(malloc((p->op_count + 1) * sizeof(*ops)));
    struct keyed *classes = need(malloc((p->class_count + 1) * sizeof(*classes)));
    uint32_t *op_index = need(malloc((p->op_count + 1) * sizeof(*op_index)));
    uint32_t *class_index = need(malloc((p->class_count + 1) * sizeof(*class_index)));
    struct node n = node_new(p);
    enum hk_solved r = HK_SOLVED_YES;
    uint32_t o = 0, c = 0;

    group_all(p, ops, classes);
    for (uint32_t i = 0; i < p->op_count; i++) {
        op_index[i] = ops[i].index;
        n.state[i] = p->ops[i].in ? IN : OPEN;
    }
    for (uint32_t i = 0; i < p->class_count; i++) {
        class_index[i] = classes[i].index;
        n.last[i] = UNASSIGNED;
    }
    while (c < p->class_count && r == HK_SOLVED_YES) {
        struct group g = {.p = p, .budget = p->budget};
        uint32_t root = classes[c].root;

        while (ops[o].root != root)
            o++;
        g.ops = &op_index[o];
        g.classes = &class_index[c];
        while (o + g.op_count < p->op_count && ops[o + g.op_count].root == root)
            g.op_count++;
        while (c + g.class_count < p->class_count && classes[c + g.class_count].root == root)
            g.class_count++;
        if (g.op_count > *ret_group_max)
            *ret_group_max = g.op_count;
        c += g.class_count;
        if (place(&g, &n))
            r = search(&g, &n, ret_class);
    }
    for (uint32_t i = 0; i < p->op_count; i++)
        p->ops[i].ret_in = n.state[i] == IN;
    node_free(&n);
    free(class_index);
    free(op_index);
    free(classes);
    free(ops);
    return r;
}
