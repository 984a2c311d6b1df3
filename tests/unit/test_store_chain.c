/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: recovery takes a record only if it was written behind the one before it, and knows the size
 * of the last one, so that the receiver can go on checking. Method: whole records in whole batches,
 * all hashes right, one of which names another size for its predecessor.
 */
#include "unit.h"

#include "test_store_rig.h"

enum { SEGMENT_BYTES = 4 << 20 };

static void expect(const struct rig *r, enum hk_journal_verdict verdict, uint64_t end,
                   uint32_t prev_bytes)
{
    assert_int_equal(r->journal.state, HK_JOURNAL_RUNNING);
    assert_int_equal(r->journal.result.verdict, verdict);
    assert_int_equal(r->journal.result.end, end);
    assert_int_equal(r->journal.result.prev_bytes, prev_bytes);
}

static void test_record_out_of_line(void **state)
{
    static const uint8_t payload[512];

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct hk_record *rec;
        uint64_t at[4];
        struct rig r;

        rig_init(&r, 12, SEGMENT_BYTES);
        rig_recover(&r);
        for (int i = 0; i < 4; i++)
            at[i] = store_log_add(&r.log, HK_REC_WRITE, 0, 512u * (unsigned)i, 512, payload);
        rec = (struct hk_record *)(uintptr_t)store_log_at(&r.log, at[k]);
        rec->prev_bytes += k < 3 ? 64 : 0;
        rec->header_hash =
            hk_record_header_hash(rec, hk_epoch_seed(&hk_history_last(&r.log.history)->id));
        /* Two batches of two records each: the fault at a batch's head, and inside one. */
        while (rig_append_wait(&r, 1152) == 0)
            rig_drain(&r);
        rig_start(&r);
        rig_drain(&r);
        if (k == 3) {
            expect(&r, HK_JOURNAL_CLEAN, r.log.end, 576);
        } else if (k == 2) { /* in the last batch: nothing proves that it was reported */
            expect(&r, HK_JOURNAL_TORN, at[2], 576);
            assert_int_equal(r.journal.result.lost_bytes, 1152);
        } else {
            assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CORRUPT);
            assert_int_equal(r.journal.result.bad_lsn, at[0]);
        }
        assert_int_equal(r.journal.result.record_fault, k < 3 ? HK_RECORD_BAD_PREV : HK_RECORD_OK);
        rig_free(&r);
    }
}

/* A new epoch begins a new chain; a walk that starts in the middle does not know its beginning. */
static void test_beginnings(void **state)
{
    static const uint8_t payload[512];
    uint64_t applied;
    struct rig r;

    (void)state;
    rig_init(&r, 13, SEGMENT_BYTES);
    rig_recover(&r);
    assert_int_equal(r.journal.result.prev_bytes, 0);
    store_log_add(&r.log, HK_REC_WRITE, 0, 0, 512, payload);
    applied = r.log.end;
    while (rig_append_wait(&r, 1152) == 0)
        rig_drain(&r);
    store_log_epoch(&r.log, applied, hk_round_up(applied, 1 << 20));
    rig_start_at(&r, &r.log.history, applied);
    rig_drain(&r);
    expect(&r, HK_JOURNAL_CLEAN, hk_history_last(&r.log.history)->first_lsn, 0);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_out_of_line),
        cmocka_unit_test(test_beginnings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
