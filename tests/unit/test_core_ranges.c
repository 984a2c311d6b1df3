/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the interval set is exactly a set. Method: random adds, trims and takes next to a naive
 * array of flags, all questions compared after each step; then each of the three ways of being
 * full.
 */
#include "tests/unit/unit.h"

#include "replicator/core/ranges.h"

#include <errno.h>
#include <string.h>

enum { SPAN = 400, MAX = 40 };

struct fixture {
    struct hk_ranges s;
    uint8_t memory[MAX * sizeof(struct hk_range) + 64];
    bool naive[SPAN + 1];
};

static void setup(struct fixture *f, uint32_t max)
{
    struct hk_arena a = {.base = f->memory, .bytes = sizeof(f->memory)};

    memset(f->naive, 0, sizeof(f->naive));
    assert_int_equal(hk_ranges_init(&f->s, max, &a), 0);
}

static void check(const struct fixture *f)
{
    uint64_t last_end = 0;

    for (uint32_t i = 0; i < f->s.count; i++) {
        assert_true(f->s.r[i].first < f->s.r[i].end);
        assert_true(i == 0 || f->s.r[i].first > last_end);
        last_end = f->s.r[i].end;
    }
    assert_true(f->s.count <= f->s.max);
    for (uint64_t v = 0; v < SPAN; v++)
        assert_int_equal(hk_ranges_contains(&f->s, v, v + 1), f->naive[v]);
}

static void check_questions(const struct fixture *f, uint64_t first, uint64_t end)
{
    struct hk_range gap;
    uint64_t v = first, gap_end, at = first;

    while (v < end && f->naive[v])
        v++;
    for (gap_end = v; gap_end < end && !f->naive[gap_end];)
        gap_end++;
    assert_int_equal(hk_ranges_gap(&f->s, first, end, &gap), v < end);
    if (v < end) {
        assert_int_equal(gap.first, v);
        assert_int_equal(gap.end, gap_end);
    }
    while (at < SPAN && f->naive[at])
        at++;
    assert_int_equal(hk_ranges_end_at(&f->s, first), at);
}

static void like_a_naive_set(void **state)
{
    struct fixture f;
    uint64_t rnd = 7;

    (void)state;
    for (int round = 0; round < 60; round++) {
        setup(&f, MAX);
        for (int step = 0; step < 60; step++) {
            uint64_t first = unit_random(&rnd) % SPAN;
            uint64_t end = first + 1 + unit_random(&rnd) % (SPAN - first < 20 ? SPAN - first : 20);
            uint64_t below = unit_random(&rnd) % 40;
            struct hk_range r;

            switch (unit_random(&rnd) % 8) {
            case 0:
                hk_ranges_trim_below(&f.s, below);
                memset(f.naive, 0, below);
                break;
            case 1:
                if (hk_ranges_take_lowest(&f.s, 7, &r)) {
                    assert_true(r.end - r.first <= 7);
                    for (uint64_t v = 0; v < r.end; v++) {
                        assert_int_equal(f.naive[v], v >= r.first);
                        f.naive[v] = false;
                    }
                }
                break;
            default:
                if (hk_ranges_add(&f.s, first, end) == 0)
                    memset(f.naive + first, 1, end - first);
                break;
            }
            check(&f);
            check_questions(&f, first, end);
        }
    }
}

static void full_refuses(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 3);
    for (uint64_t v = 10; v <= 30; v += 10)
        assert_int_equal(hk_ranges_add(&f.s, v, v + 2), 0);
    assert_int_equal(hk_ranges_add(&f.s, 50, 51), -ENOSPC);
    assert_false(hk_ranges_contains(&f.s, 50, 51));
    assert_int_equal(hk_ranges_add(&f.s, 12, 14), 0); /* touches: needs no room */
    assert_true(hk_ranges_contains(&f.s, 10, 14));
}

static void full_forgets_the_lowest(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 3);
    for (uint64_t v = 10; v <= 30; v += 10)
        assert_int_equal(hk_ranges_add_forget(&f.s, v, v + 2), 0);
    assert_int_equal(hk_ranges_add_forget(&f.s, 25, 26), 12);
    assert_false(hk_ranges_contains(&f.s, 10, 11));
    assert_true(hk_ranges_contains(&f.s, 20, 22));
    assert_true(hk_ranges_contains(&f.s, 25, 26));
    assert_true(hk_ranges_contains(&f.s, 30, 32));
    assert_int_equal(hk_ranges_add_forget(&f.s, 5, 6), 6); /* lower than all: it goes itself */
    assert_int_equal(f.s.count, 3);
}

static void full_covers(void **state)
{
    uint64_t rnd = 3;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct fixture f;

        setup(&f, 2 + unit_random(&rnd) % 5);
        for (int step = 0; step < 30; step++) {
            uint64_t first = unit_random(&rnd) % (SPAN - 3);

            hk_ranges_add_cover(&f.s, first, first + 2);
            memset(f.naive + first, 1, 2);
            assert_true(f.s.count <= f.s.max);
            for (uint64_t v = 0; v < SPAN; v++) /* never less than what was put in */
                assert_true(!f.naive[v] || hk_ranges_contains(&f.s, v, v + 1));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_a_naive_set),
        cmocka_unit_test(full_refuses),
        cmocka_unit_test(full_forgets_the_lowest),
        cmocka_unit_test(full_covers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
