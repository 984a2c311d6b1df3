/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the judge exact?
 *
 * Goal: neither a legal image refused nor an illegal one accepted. Method: small random histories
 * (up to 7 operations on 6 sectors, few contents, any mixture of answered, unanswered and promised
 * ones) against brute force: every order of every downward closed set is applied, which gives the
 * set of all legal images. The judge must accept every one of them and refuse every other image
 * tried; those are near the legal ones, so that they are illegal for a subtle reason.
 *
 * The sequence is fixed by a seed; HK_SEED changes it and is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checker_rng.h"

#include "../tools/content.h"
#include "../tools/judge.h"

/* ---- 1: against brute force ---- */

enum { VOLUMES = 2, SECTORS = 3, CELLS = VOLUMES * SECTORS, SMALL_OPS_MAX = 7, TAGS = 4 };

struct image {
    uint64_t cell[CELLS];
};

struct brute {
    const struct hk_judge_op *ops;
    unsigned op_count;
    unsigned must_mask;
    struct image *images; /* all legal ones, each once */
    size_t image_count, image_room;
    struct {
        unsigned mask;
        struct image image;
    } * seen; /* states already expanded */
    size_t seen_count, seen_room;
};

static void brute_add(struct brute *b, const struct image *image)
{
    for (size_t i = 0; i < b->image_count; i++) {
        if (memcmp(&b->images[i], image, sizeof(*image)) == 0)
            return;
    }
    if (b->image_count == b->image_room) {
        b->image_room = b->image_room ? 2 * b->image_room : 64;
        b->images = realloc(b->images, b->image_room * sizeof(*b->images));
        assert_non_null(b->images);
    }
    b->images[b->image_count++] = *image;
}

static void brute_apply(const struct hk_judge_op *o, struct image *image)
{
    for (uint32_t i = 0; i < o->sector_count; i++)
        image->cell[o->volume * SECTORS + o->first_sector + i] =
            hk_content_tag(o->content, o->volume, o->first_sector + i);
}

/*
 * All orders: an operation may come next if nothing that must come before it is missing, and
 * nothing that it precedes is there already.
 */
static void brute_walk(struct brute *b, unsigned mask, const struct image *image)
{
    for (size_t i = 0; i < b->seen_count; i++) {
        if (b->seen[i].mask == mask && memcmp(&b->seen[i].image, image, sizeof(*image)) == 0)
            return;
    }
    if (b->seen_count == b->seen_room) {
        b->seen_room = b->seen_room ? 2 * b->seen_room : 256;
        b->seen = realloc(b->seen, b->seen_room * sizeof(*b->seen));
        assert_non_null(b->seen);
    }
    b->seen[b->seen_count].mask = mask;
    b->seen[b->seen_count++].image = *image;
    if ((mask & b->must_mask) == b->must_mask)
        brute_add(b, image);
    for (unsigned i = 0; i < b->op_count; i++) {
        bool ready = (mask & (1u << i)) == 0;

        for (unsigned k = 0; k < b->op_count && ready; k++) {
            bool in = (mask & (1u << k)) != 0;

            if (b->ops[k].end < b->ops[i].begin && !in && !b->ops[k].optional)
                ready = false;
            if (b->ops[i].end < b->ops[k].begin && in)
                ready = false;
        }
        if (ready) {
            struct image next = *image;

            brute_apply(&b->ops[i], &next);
            brute_walk(b, mask | (1u << i), &next);
        }
    }
}

static const uint64_t few_contents[TAGS] = {
    0,
    (uint64_t)HK_CONTENT_FILL << 56 | 0xaa,
    (uint64_t)HK_CONTENT_FILL << 56 | 0x55,
    (uint64_t)HK_CONTENT_MIX << 56 | 7,
};

/* Intervals by a random walk over submissions and ends. */
static unsigned small_history(struct hk_judge_op *ops)
{
    unsigned n = 1 + below(SMALL_OPS_MAX);
    unsigned submitted = 0;
    int64_t now = 1;

    memset(ops, 0, n * sizeof(*ops));
    while (submitted < n) {
        if (below(2)) {
            struct hk_judge_op *o = &ops[submitted];

            o->id = submitted;
            o->volume = (uint16_t)below(VOLUMES);
            o->first_sector = below(SECTORS);
            o->sector_count = 1 + below(SECTORS - (unsigned)o->first_sector);
            o->content = few_contents[below(TAGS)];
            if (below(5) == 0)
                o->content = hk_content_id(HK_CONTENT_UNIQUE, submitted + 1);
            o->begin = now++;
            o->end = HK_JUDGE_NEVER;
            o->optional = true;
            submitted++;
        } else {
            struct hk_judge_op *o = submitted ? &ops[below(submitted)] : NULL;

            if (o == NULL || o->end != HK_JUDGE_NEVER)
                continue;
            o->end = now++;
            o->optional = below(6) == 0;
            o->acked = !o->optional;
        }
    }
    return n;
}

static enum hk_verdict small_judge(const struct hk_judge_op *ops, unsigned n,
                                   const struct image *base, const struct image *image)
{
    struct hk_judge_volume v[VOLUMES];
    struct hk_judge_case c = {.ops = ops,
                              .op_count = n,
                              .volumes = v,
                              .volume_count = VOLUMES,
                              .cut_max = HK_JUDGE_NEVER};
    struct hk_judge_result r;

    for (unsigned i = 0; i < VOLUMES; i++)
        v[i] = (struct hk_judge_volume){.sector_count = SECTORS,
                                        .actual = &image->cell[i * SECTORS],
                                        .base = &base->cell[i * SECTORS]};
    hk_judge(&c, &r, NULL);
    return r.verdict;
}

static bool brute_has(const struct brute *b, const struct image *image)
{
    for (size_t i = 0; i < b->image_count; i++) {
        if (memcmp(&b->images[i], image, sizeof(*image)) == 0)
            return true;
    }
    return false;
}

/* A random image near a legal one, so that it is illegal for a subtle reason when it is. */
static struct image small_variation(const struct brute *b, const struct image *base)
{
    struct image image = b->image_count ? b->images[below((unsigned)b->image_count)] : *base;
    unsigned changes = 1 + below(3);

    for (unsigned i = 0; i < changes; i++) {
        unsigned cell = below(CELLS);
        const struct hk_judge_op *o = &b->ops[below(b->op_count)];
        uint64_t content = below(2) ? o->content : few_contents[below(TAGS)];

        image.cell[cell] = hk_content_tag(content, cell / SECTORS, cell % SECTORS);
    }
    return image;
}

static void test_brute_force(void **state)
{
    enum { HISTORIES = 12000, VARIATIONS = 24 };
    uint64_t legal = 0, illegal = 0;

    for (unsigned h = 0; h < HISTORIES; h++) {
        struct hk_judge_op ops[SMALL_OPS_MAX];
        struct image base = {0};
        struct brute b = {.ops = ops, .op_count = small_history(ops)};
        unsigned promise = below(3);

        for (unsigned i = 0; i < b.op_count; i++) {
            ops[i].must = ops[i].acked && (promise == 0 || (promise == 1 && below(4) == 0));
            b.must_mask |= ops[i].must ? 1u << i : 0;
        }
        for (unsigned i = 0; i < CELLS && below(2); i++)
            base.cell[i] = few_contents[1];
        brute_walk(&b, 0, &base);
        for (size_t i = 0; i < b.image_count; i++, legal++)
            assert_int_equal(small_judge(ops, b.op_count, &base, &b.images[i]),
                             HK_VERDICT_CONSISTENT);
        for (unsigned i = 0; i < VARIATIONS; i++) {
            struct image image = small_variation(&b, &base);
            bool ok = brute_has(&b, &image);

            legal += ok;
            illegal += !ok;
            assert_int_equal(small_judge(ops, b.op_count, &base, &image),
                             ok ? HK_VERDICT_CONSISTENT : HK_VERDICT_VIOLATION);
        }
        free(b.images);
        free(b.seen);
    }
    print_message("brute force: %u histories, %llu legal images accepted, %llu illegal refused\n",
                  (unsigned)HISTORIES, (unsigned long long)legal, (unsigned long long)illegal);
    assert_true(legal > HISTORIES);
    assert_true(illegal > HISTORIES);
}

/* Two operations in flight together on the same two sectors: either may be last, but the same one
 * on both; and a third one that ends before the second begins forces the order. */
static void test_order_inverted(void **state)
{
    uint64_t a = few_contents[1], b = few_contents[2];
    struct hk_judge_op ops[3] = {
        {.id = 0, .content = a, .sector_count = 2, .begin = 1, .end = 3, .acked = true},
        {.id = 1, .content = b, .sector_count = 2, .begin = 2, .end = 4, .acked = true},
        {.id = 2, .content = a, .first_sector = 2, .sector_count = 1, .begin = 5, .end = 6},
    };
    struct image base = {{0}};
    struct image same = {{a, a, a}}, mixed = {{a, b, a}}, without_first = {{0, 0, a}};

    assert_int_equal(small_judge(ops, 3, &base, &same), HK_VERDICT_CONSISTENT);
    assert_int_equal(small_judge(ops, 3, &base, &mixed), HK_VERDICT_VIOLATION);
    assert_int_equal(small_judge(ops, 3, &base, &without_first), HK_VERDICT_VIOLATION);
    ops[1].begin = 7; /* now strictly after: only b can be last if it is contained at all */
    ops[1].end = 8;
    ops[1].must = true;
    struct hk_judge_op sorted[3] = {ops[0], ops[2], ops[1]};

    assert_int_equal(small_judge(sorted, 3, &base, &same), HK_VERDICT_VIOLATION);
    assert_int_equal(small_judge(sorted, 3, &base, &(struct image){{b, b, a}}),
                     HK_VERDICT_CONSISTENT);
}

static void test_content(void **state)
{
    unsigned char bytes[HK_SECTOR_BYTES];

    for (unsigned i = 0; i < 20000; i++) {
        enum hk_content_kind kind = (enum hk_content_kind)below(5);
        uint64_t sector = rng() >> 20;
        uint32_t volume = below(32);
        uint64_t tag = hk_content_tag(hk_content_id(kind, rng()), volume, sector);

        hk_content_fill(tag, volume, sector, bytes);
        assert_true(hk_content_recognise(bytes, volume, sector) == tag);
        if (tag >> 56 >= HK_CONTENT_PLACE) /* the same bytes elsewhere are foreign */
            assert_true(hk_content_recognise(bytes, volume, sector + 1) >> 56 == HK_CONTENT_OTHER);
        bytes[below(HK_SECTOR_BYTES)] ^= 1u << below(8);
        assert_true(hk_content_recognise(bytes, volume, sector) >> 56 == HK_CONTENT_OTHER);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_order_inverted),
        cmocka_unit_test(test_brute_force),
    };

    if (getenv("HK_SEED") != NULL)
        rng_state = strtoull(getenv("HK_SEED"), NULL, 0);
    print_message("HK_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
