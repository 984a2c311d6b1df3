/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of damage: a row overwrites one field of a sound structure and names the fault that a
 * parser must find. Every row counts; the count is printed and compared with a committed minimum.
 */
#ifndef HK_TESTS_PROTO_FAULTS_H
#define HK_TESTS_PROTO_FAULTS_H

#include "unit.h"

#include <stdbool.h>
#include <string.h>

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)

struct fault_row {
    const char *what;
    size_t at;
    size_t size; /* 1, 2, 4 or 8 */
    uint64_t value;
    bool reseal; /* renew the hashes afterwards: the check lies behind them */
    int expect;
};

static unsigned fault_points;

static inline void fault_inject(const struct fault_row *row, void *bytes, void (*reseal)(void *))
{
    uint8_t *at = (uint8_t *)bytes + row->at;

    /*
     * Little endian: the low bytes are the value. A row that changes nothing would prove nothing.
     */
    if (memcmp(at, &row->value, row->size) == 0)
        fail_msg("row '%s' changes nothing", row->what);
    memcpy(at, &row->value, row->size);
    if (row->reseal && reseal)
        reseal(bytes);
    fault_points++;
}

static inline void fault_expect(const struct fault_row *row, int got)
{
    if (got != row->expect)
        fail_msg("row '%s': fault %d, expected %d", row->what, got, row->expect);
}

#endif
