/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a log for tests: records of one epoch, one after another, in a flat buffer. */
#ifndef HK_TESTS_LOGMAKER_H
#define HK_TESTS_LOGMAKER_H

#include "proto/history.h"
#include "proto/record.h"

enum { LOGMAKER_RECORDS = 65536 };

struct logmaker {
    struct hk_epoch epoch;
    uint8_t *bytes; /* of LSN `first` */
    uint64_t first, next, room;
    uint64_t time_ns;
    uint32_t prev_bytes;
    uint32_t count;
    uint64_t end[LOGMAKER_RECORDS]; /* of each record */
};

void logmaker_init(struct logmaker *m, const struct hk_epoch *epoch, uint64_t room);
void logmaker_free(struct logmaker *m);
/* Any record; payload_len from the payload's bytes. Returns its end. */
uint64_t logmaker_add(struct logmaker *m, uint8_t type, uint16_t volume, uint64_t offset,
                      uint32_t length, const void *payload, uint32_t bytes);
uint64_t logmaker_write(struct logmaker *m, uint16_t volume, uint64_t offset, uint32_t length,
                        uint64_t *rnd);
uint64_t logmaker_mode(struct logmaker *m, enum hk_mode mode, enum hk_link_loss policy,
                       uint64_t timeout_ns);
uint64_t logmaker_mark(struct logmaker *m, const char *name, enum hk_mark_kind kind);
uint64_t logmaker_gap(struct logmaker *m, const struct hk_uuid *from, uint64_t last_durable);
const uint8_t *logmaker_at(const struct logmaker *m, uint64_t lsn);

#endif
