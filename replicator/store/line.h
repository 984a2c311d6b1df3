/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a position stands on a line of history. LSNs rise along the line; between a parent's end
 * and the next epoch's first LSN is a hole that holds no log. Pure functions over hk_history.
 */
#ifndef HK_STORE_LINE_H
#define HK_STORE_LINE_H

#include "proto/history.h"

/*
 * The epoch that the next log byte at or after `lsn` belongs to, as an index into h->epoch; -1 for
 * an empty history. ret_lsn: that byte's position, which is `lsn` or, when `lsn` is at a parent's
 * end or in the hole behind it, the next epoch's first LSN. An LSN below the first epoch moves up.
 */
int hk_line_seek(const struct hk_history *h, uint64_t lsn, uint64_t *ret_lsn);
/* Where the epoch with this index ends on this line; UINT64_MAX for the last one. */
uint64_t hk_line_epoch_end(const struct hk_history *h, uint32_t index);

#endif
