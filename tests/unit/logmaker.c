/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/logmaker.h"

#include "proto/hash.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

void logmaker_init(struct logmaker *m, const struct hk_epoch *epoch, uint64_t room)
{
    memset(m, 0, sizeof(*m));
    m->epoch = *epoch;
    m->first = m->next = epoch->first_lsn;
    m->room = room;
    m->bytes = calloc(1, room);
    m->time_ns = 1000000000;
    assert_non_null(m->bytes);
}

void logmaker_free(struct logmaker *m)
{
    free(m->bytes);
}

uint64_t logmaker_add(struct logmaker *m, uint8_t type, uint16_t volume, uint64_t offset,
                      uint32_t length, const void *payload, uint32_t bytes)
{
    struct hk_record r = {
        .lsn = m->next,
        .time_ns = m->time_ns += 1000,
        .offset = offset,
        .length = length,
        .payload_len = bytes,
        .epoch = m->epoch.ordinal,
        .volume = volume,
        .type = type,
        .magic = HK_RECORD_MAGIC,
        .prev_bytes = m->prev_bytes,
    };
    uint8_t *at = m->bytes + (m->next - m->first);

    assert_true(m->next - m->first + hk_record_bytes(bytes) <= m->room);
    assert_true(m->count < LOGMAKER_RECORDS);
    r.payload_hash = bytes ? hk_xxh64(payload, bytes, 0) : 0;
    r.header_hash = hk_record_header_hash(&r, hk_epoch_seed(&m->epoch.id));
    memcpy(at, &r, sizeof(r));
    if (bytes)
        memcpy(at + sizeof(r), payload, bytes);
    m->prev_bytes = hk_record_bytes(bytes);
    m->next += m->prev_bytes;
    m->end[m->count++] = m->next;
    return m->next;
}

uint64_t logmaker_write(struct logmaker *m, uint16_t volume, uint64_t offset, uint32_t length,
                        uint64_t *rnd)
{
    uint8_t *data = malloc(length);
    uint64_t end;

    assert_non_null(data);
    unit_random_bytes(rnd, data, length);
    end = logmaker_add(m, HK_REC_WRITE, volume, offset, length, data, length);
    free(data);
    return end;
}

uint64_t logmaker_mode(struct logmaker *m, enum hk_mode mode, enum hk_link_loss policy,
                       uint64_t timeout_ns)
{
    struct hk_mode_change c = {
        .mode = mode, .on_link_loss = policy, .contact_timeout_ns = timeout_ns};

    return logmaker_add(m, HK_REC_MODE, 0, 0, 0, &c, sizeof(c));
}

uint64_t logmaker_mark(struct logmaker *m, const char *name, enum hk_mark_kind kind)
{
    struct hk_mark mark = {.kind = kind, .op_id = 1};

    strncpy(mark.name, name, sizeof(mark.name) - 1);
    return logmaker_add(m, HK_REC_MARK, 0, 0, 0, &mark, sizeof(mark));
}

uint64_t logmaker_gap(struct logmaker *m, const struct hk_uuid *from, uint64_t last_durable)
{
    struct hk_gap gap = {.from_epoch = *from,
                         .last_durable = last_durable,
                         .new_start = m->next,
                         .reason = HK_EPOCH_PROMOTE};

    return logmaker_add(m, HK_REC_GAP, 0, 0, 0, &gap, sizeof(gap));
}

const uint8_t *logmaker_at(const struct logmaker *m, uint64_t lsn)
{
    assert_true(lsn >= m->first && lsn <= m->next);
    return m->bytes + (lsn - m->first);
}
