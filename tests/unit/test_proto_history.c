/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a history that forgets its oldest epochs still tells kin from stranger, and never takes a
 * fork for the same line. Method: lines of up to 200 epochs that fork anywhere are compared by a
 * naive model that forgets nothing, and by the product with what 64 entries keep.
 */
#include "unit.h"

#include "proto/super.h"
#include "proto_samples.h"

#include <errno.h>

enum { LINE_MAX = 200 };

/* Epoch `ordinal` of fork `fork`: the same bytes wherever it is made. */
static void append(struct hk_history *h, uint32_t ordinal, uint32_t fork)
{
    struct hk_uuid id = sample_uuid(7);
    uint64_t first = HK_LSN_FIRST * ordinal;

    memcpy(id.b, &ordinal, 4);
    memcpy(id.b + 4, &fork, 4);
    assert_int_equal(hk_history_append(h, &id, first, ordinal > 1 ? first : 0,
                                       ordinal > 1 ? HK_EPOCH_GAP_CRASH : HK_EPOCH_CREATE, ordinal),
                     0);
    assert_int_equal(hk_history_check(h), 0);
    assert_int_equal(hk_history_epochs(h), ordinal);
}

/* `count` epochs, from ordinal `forked` + 1 on those of fork 1. */
static void line(struct hk_history *h, uint32_t count, uint32_t forked)
{
    memset(h, 0, sizeof(*h));
    for (uint32_t i = 1; i <= count; i++)
        append(h, i, i > forked);
}

static enum hk_kinship naive(uint32_t a, uint32_t b, uint32_t forked)
{
    if (a <= forked || b <= forked)
        return a == b ? HK_KIN_EQUAL : a < b ? HK_KIN_BEHIND : HK_KIN_AHEAD;
    return forked > 0 ? HK_KIN_DIVERGED : HK_KIN_STRANGERS;
}

static uint32_t dropped(uint32_t count)
{
    return count > HK_HISTORY_EPOCHS_MAX ? count - HK_HISTORY_EPOCHS_MAX : 0;
}

/* What can still be told: an ordinal that both keep, or one side's last as the other's parent. */
static bool visible(uint32_t a, uint32_t b)
{
    uint32_t lowest = dropped(a) > dropped(b) ? dropped(a) : dropped(b);

    return (a >= lowest && b >= lowest) || a == 0 || b == 0;
}

static void judge(uint32_t a_count, uint32_t b_count, uint32_t forked)
{
    static struct hk_history a, b;
    enum hk_kinship want = naive(a_count, b_count, forked), got;
    uint32_t lowest = dropped(a_count) > dropped(b_count) ? dropped(a_count) : dropped(b_count);
    uint32_t common;

    line(&a, a_count, a_count);
    line(&b, b_count, forked);
    got = hk_history_compare(&a, &b, &common);
    if (!visible(a_count, b_count))
        assert_int_equal(got, HK_KIN_STRANGERS);
    else if (want == HK_KIN_DIVERGED && forked < lowest)
        assert_int_equal(got, HK_KIN_STRANGERS); /* the fork itself is forgotten on one side */
    else
        assert_int_equal(got, want);
    if (got == HK_KIN_EQUAL || got == HK_KIN_BEHIND)
        assert_int_equal(common, a_count);
    if (got == HK_KIN_DIVERGED)
        assert_int_equal(common, forked);
}

static void test_kinship(void **state)
{
    static const uint32_t counts[] = {0, 1, 2, 63, 64, 65, 66, 127, 128, 129, 130, LINE_MAX};

    for (size_t i = 0; i < HK_ARRAY_SIZE(counts); i++)
        for (size_t k = 0; k < HK_ARRAY_SIZE(counts); k++)
            for (size_t f = 0; f < HK_ARRAY_SIZE(counts); f++)
                judge(counts[i], counts[k], counts[f]);
    for (uint32_t round = 0; round < 2000; round++)
        judge(round * 7919u % LINE_MAX, round * 104729u % LINE_MAX, round * 1299709u % LINE_MAX);
}

static void test_at_and_reach(void **state)
{
    static struct hk_history h;

    line(&h, 100, 100);
    assert_int_equal(h.dropped, 36);
    assert_null(hk_history_at(&h, 0));
    assert_null(hk_history_at(&h, 36));
    assert_null(hk_history_at(&h, 101));
    for (uint32_t i = 37; i <= 100; i++)
        assert_int_equal(hk_history_at(&h, i)->ordinal, i);
    /* The oldest kept begins where its parent ended: below nobody knows how the log goes on. */
    assert_true(hk_history_reaches(&h, HK_LSN_FIRST * 37));
    assert_false(hk_history_reaches(&h, HK_LSN_FIRST * 37 - 64));
    line(&h, 64, 64);
    assert_true(hk_history_reaches(&h, 64));
}

/* A dropped front is no licence: everything else is checked as before. */
static void test_trimmed_check(void **state)
{
    static struct hk_history h, sound;

    line(&sound, 70, 70);
#define BROKEN(change)                                   \
    do {                                                 \
        h = sound;                                       \
        change;                                          \
        assert_int_equal(hk_history_check(&h), -EINVAL); \
    } while (0)
    BROKEN(h.dropped++);
    BROKEN(h.dropped--);
    BROKEN(h.dropped = 0);
    BROKEN(h.epoch[0].ordinal++);
    BROKEN(h.epoch[0].reason = HK_EPOCH_CREATE);
    BROKEN(memset(&h.epoch[0].parent, 0, 16));
    BROKEN(h.epoch[0].parent = h.epoch[0].id);
    BROKEN(h.epoch[0].parent_end = h.epoch[0].first_lsn + 64);
    BROKEN(h.epoch[0].parent_end += 1);
    BROKEN(h.count = 0);
#undef BROKEN
    assert_int_equal(hk_history_check(&sound), 0);
}

/* Version 1 can't say that an epoch was dropped, so a full one takes no more. */
static void test_old_superblock(void **state)
{
    static struct hk_super s;
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(8)));
    struct hk_uuid id = sample_uuid(9);

    sample_super_primary(&s);
    line(&s.history, 64, 64);
    assert_false(hk_super_is_current(&s));
    assert_int_equal(
        hk_super_append_epoch(&s, &id, 1 << 20, 64 * HK_LSN_FIRST, HK_EPOCH_GAP_CRASH, 1), -ENOSPC);
    hk_super_encode(&s, slot);
    assert_int_equal(hk_super_decode(slot, &s), HK_SUPER_OK);
    assert_int_equal(s.version, HK_SUPER_VERSION_OLD);
    s.version = HK_SUPER_VERSION;
    assert_int_equal(
        hk_super_append_epoch(&s, &id, 1 << 20, 64 * HK_LSN_FIRST, HK_EPOCH_GAP_CRASH, 1), 0);
    hk_super_encode(&s, slot);
    assert_int_equal(hk_super_decode(slot, &s), HK_SUPER_OK);
    assert_int_equal(s.history.dropped, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinship),
        cmocka_unit_test(test_at_and_reach),
        cmocka_unit_test(test_trimmed_check),
        cmocka_unit_test(test_old_superblock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
