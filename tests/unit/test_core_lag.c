/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the lag in records is never less than the truth, and exact where it can be. Method: a log
 * of records of random sizes; positions are noted at random, more of them than are kept; then each
 * record's end is asked for.
 */
#include "replicator/core/lag.h"
#include "unit.h"

enum { RECORDS = 5000 };

static uint64_t end_of[RECORDS + 1];

static void never_less_than_the_truth(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        static struct hk_lag_index x;
        uint64_t random = seed, exact = 0;

        hk_lag_index_reset(&x);
        assert_true(hk_lag_records(&x, 64, 10) == UINT64_MAX);
        end_of[0] = 4096;
        for (uint32_t i = 1; i <= RECORDS; i++) {
            end_of[i] = end_of[i - 1] + 64 * (1 + unit_random(&random) % 70);
            if (i > 100 && unit_random(&random) % (seed % 3 ? 4 : 40) == 0)
                hk_lag_index_note(&x, end_of[i], i);
        }
        /* What does not rise is not taken. */
        hk_lag_index_note(&x, end_of[50], 50);
        hk_lag_index_note(&x, end_of[RECORDS] + 64, 3);
        assert_true(x.count <= HK_LAG_INDEX_MAX);
        for (uint32_t i = 0; i <= RECORDS; i++) {
            uint64_t n = hk_lag_records(&x, end_of[i], RECORDS);

            assert_true(n >= RECORDS - i);
            exact += n == RECORDS - i;
            /* No further off than the next position that is kept. */
            assert_true(end_of[i] < x.at[0].lsn || n - (RECORDS - i) < RECORDS / 8);
        }
        assert_true(exact >= x.count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_less_than_the_truth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
