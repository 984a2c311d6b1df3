/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: overlap resolution gives each byte once, from the newest range that covers it, in order.
 * Method: random ranges against a naive map of bytes; few offsets, so that edges meet often.
 */
#include "replicator/store/extent.h"
#include "replicator/store/line.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 64, SPAN = 96, VOLUMES = 3 };

static void run_case(struct hk_extents *x, uint64_t *random)
{
    static uint8_t source[COUNT_MAX][SPAN];
    int owner[VOLUMES][SPAN], seen[VOLUMES][SPAN];
    struct hk_extent_piece p, last = {0};
    uint32_t n = (uint32_t)(unit_random(random) % COUNT_MAX) + 1;
    bool first = true;

    memset(owner, -1, sizeof(owner));
    memset(seen, -1, sizeof(seen));
    hk_extents_reset(x);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t volume = (uint32_t)(unit_random(random) % VOLUMES);
        uint64_t offset = unit_random(random) % (SPAN - 1);
        uint64_t bytes = 1 + unit_random(random) % (SPAN - offset);
        bool zero = unit_random(random) % 4 == 0;

        if (unit_random(random) % 2 && bytes > 8)
            bytes = 1 + unit_random(random) % 8;
        hk_extents_add(x, volume, offset, bytes, zero ? NULL : source[i]);
        for (uint64_t k = 0; k < bytes; k++)
            owner[volume][offset + k] = (int)i;
    }
    hk_extents_sort(x);
    while (hk_extents_next(x, &p)) {
        assert_true(p.bytes > 0);
        if (!first)
            assert_true(p.volume > last.volume ||
                        (p.volume == last.volume && p.offset >= last.offset + last.bytes));
        for (uint64_t k = 0; k < p.bytes; k++) {
            int i = owner[p.volume][p.offset + k];

            assert_true(i >= 0);
            assert_int_equal(seen[p.volume][p.offset + k], -1);
            seen[p.volume][p.offset + k] = i;
            if (x->extent[i].data)
                assert_ptr_equal(p.data + k, source[i] + (p.offset + k - x->extent[i].offset));
            else
                assert_null(p.data);
        }
        last = p;
        first = false;
    }
    assert_memory_equal(owner, seen, sizeof(owner));
    assert_false(hk_extents_next(x, &p));
}

static void test_against_naive(void **state)
{
    size_t bytes = hk_extents_memory(COUNT_MAX);
    uint8_t *memory = calloc(1, bytes);
    struct hk_arena arena = {.base = memory, .bytes = bytes};
    struct hk_extents x;
    uint64_t random = 7;

    assert_int_equal(hk_extents_init(&x, COUNT_MAX, &arena), 0);
    for (int i = 0; i < 3000; i++)
        run_case(&x, &random);
    free(memory);
}

static void test_no_memory(void **state)
{
    uint8_t memory[256];
    struct hk_arena arena = {.base = memory, .bytes = sizeof(memory)};
    struct hk_extents x;

    assert_int_equal(hk_extents_init(&x, COUNT_MAX, &arena), -ENOMEM);
}

static void test_line(void **state)
{
    struct hk_history h = {0};
    struct hk_uuid a = {{1}}, b = {{2}}, c = {{3}};
    uint64_t lsn = 77;

    assert_int_equal(hk_line_seek(&h, 64, &lsn), -1);
    assert_int_equal(lsn, 77);
    assert_int_equal(hk_history_append(&h, &a, 4096, 0, HK_EPOCH_CREATE, 1), 0);
    assert_int_equal(hk_line_epoch_end(&h, 0), UINT64_MAX);
    assert_int_equal(hk_line_seek(&h, 0, &lsn), 0);
    assert_int_equal(lsn, 4096);
    /* b has no bytes: it ended where it began. */
    assert_int_equal(hk_history_append(&h, &b, 16384, 8192, HK_EPOCH_GAP_CRASH, 1), 0);
    assert_int_equal(hk_history_append(&h, &c, 32768, 16384, HK_EPOCH_PROMOTE, 1), 0);
    assert_int_equal(hk_line_epoch_end(&h, 0), 8192);
    assert_int_equal(hk_line_epoch_end(&h, 1), 16384);
    assert_int_equal(hk_line_seek(&h, 8128, &lsn), 0);
    assert_int_equal(lsn, 8128);
    assert_int_equal(hk_line_seek(&h, 8192, &lsn), 2);
    assert_int_equal(lsn, 32768);
    assert_int_equal(hk_line_seek(&h, 16384, &lsn), 2);
    assert_int_equal(lsn, 32768);
    assert_int_equal(hk_line_seek(&h, 99968, &lsn), 2);
    assert_int_equal(lsn, 99968);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_naive),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
