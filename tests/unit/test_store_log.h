/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's log as the store tests need it: records are made, kept in a linear copy, and laid
 * into a receive window as the receiver would. Contents come from few values, zeroes among them.
 */
#ifndef HK_TESTS_STORE_LOG_H
#define HK_TESTS_STORE_LOG_H

#include "proto/history.h"
#include "proto/record.h"

struct store_log {
    uint64_t random;
    struct hk_history history;
    uint8_t *bytes; /* log bytes [base, end); holes between epochs are zero */
    uint64_t base, end, bytes_max;
    uint64_t time_ns;
    uint32_t prev_bytes;
    uint8_t *window;
    uint64_t window_bytes;
};

void store_log_init(struct store_log *l, uint64_t seed, uint64_t bytes_max, uint64_t window_bytes);
void store_log_free(struct store_log *l);
/* A new epoch at first_lsn (≥ the log's end) with its gap record; the last one ends at parent_end,
 * and what it has behind that was lost. */
void store_log_epoch(struct store_log *l, uint64_t parent_end, uint64_t first_lsn);
/* payload NULL: as the type wants it, random. Returns the record's LSN. */
uint64_t store_log_add(struct store_log *l, uint8_t type, uint16_t volume, uint64_t offset,
                       uint32_t length, const void *payload);
const struct hk_record *store_log_at(const struct store_log *l, uint64_t lsn);
/* Lays [from, to) into the window. */
void store_log_receive(struct store_log *l, uint64_t from, uint64_t to);
/* End of the last whole record that ends at or below `lsn`, walking from the boundary `from`. */
uint64_t store_log_boundary(const struct store_log *l, uint64_t from, uint64_t lsn);

#endif
