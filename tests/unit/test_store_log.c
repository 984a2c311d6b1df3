/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store_log.h"

#include "proto/hash.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void new_id(struct store_log *l, struct hk_uuid *id)
{
    unit_random_bytes(&l->random, id->b, sizeof(id->b));
}

void store_log_init(struct store_log *l, uint64_t seed, uint64_t bytes_max, uint64_t window_bytes)
{
    struct hk_uuid id;

    memset(l, 0, sizeof(*l));
    l->random = seed;
    l->bytes = calloc(1, bytes_max);
    l->bytes_max = bytes_max;
    l->window = aligned_alloc(HK_PAGE_BYTES, window_bytes);
    l->window_bytes = window_bytes;
    HK_ASSERT(l->bytes && l->window);
    memset(l->window, 0xee, window_bytes);
    l->base = HK_LSN_FIRST + 64 * (unit_random(&l->random) % 100);
    l->end = l->base;
    new_id(l, &id);
    HK_ASSERT(hk_history_append(&l->history, &id, l->base, 0, HK_EPOCH_CREATE, 1) == 0);
}

void store_log_free(struct store_log *l)
{
    free(l->bytes);
    free(l->window);
    memset(l, 0, sizeof(*l));
}

static void fill(struct store_log *l, uint8_t *payload, uint32_t bytes)
{
    static const uint8_t value[] = {0, 0, 0x11, 0x22, 0x33};

    for (uint32_t at = 0; at < bytes; at += 512) {
        uint8_t v = value[unit_random(&l->random) % sizeof(value)];

        memset(payload + at, v, bytes - at < 512 ? bytes - at : 512);
    }
}

/* Payloads that mean something, or random ones. */
static uint32_t make_payload(struct store_log *l, const struct hk_record *r, uint8_t *payload)
{
    struct hk_mark mark = {.op_id = r->lsn};
    struct hk_gap gap = {.new_start = r->lsn, .reason = HK_EPOCH_GAP_CRASH};
    struct hk_mode_change mode = {
        .mode = HK_MODE_SYNC, .on_link_loss = HK_LINK_LOSS_BLOCK, .contact_timeout_ns = 5};

    switch ((enum hk_record_type)r->type) {
    case HK_REC_WRITE:
    case HK_REC_BLOCK:
    case HK_REC_VOID: fill(l, payload, r->length); return r->length;
    case HK_REC_MARK:
        strcpy(mark.name, "night");
        memcpy(payload, &mark, sizeof(mark));
        return sizeof(mark);
    case HK_REC_GAP:
        gap.from_epoch = hk_history_last(&l->history)->parent;
        memcpy(payload, &gap, sizeof(gap));
        return sizeof(gap);
    case HK_REC_MODE: memcpy(payload, &mode, sizeof(mode)); return sizeof(mode);
    case HK_REC_ZEROES:
    case HK_REC_DISCARD:
    case HK_REC_BAD_RANGE:
    case HK_REC_FLUSH:
    case HK_REC_RESYNC_BEGIN:
    case HK_REC_RESYNC_END:
    case HK_REC_JOIN:
    case HK_REC_LEAVE:
    case HK_REC_RESIZE: return 0;
    }
    return 0;
}

uint64_t store_log_add(struct store_log *l, uint8_t type, uint16_t volume, uint64_t offset,
                       uint32_t length, const void *payload)
{
    const struct hk_epoch *e = hk_history_last(&l->history);
    uint8_t *at = l->bytes + (l->end - l->base);
    struct hk_record *r = (struct hk_record *)(void *)at;
    uint32_t bytes;

    HK_ASSERT(l->end - l->base + HK_RECORD_BYTES_MAX <= l->bytes_max);
    *r = (struct hk_record){.lsn = l->end,
                            .time_ns = ++l->time_ns,
                            .offset = offset,
                            .length = length,
                            .epoch = e->ordinal,
                            .volume = volume,
                            .type = type,
                            .magic = HK_RECORD_MAGIC,
                            .prev_bytes = l->prev_bytes};
    if (payload) {
        memcpy(at + sizeof(*r), payload, length);
        r->payload_len = length;
    } else {
        r->payload_len = make_payload(l, r, at + sizeof(*r));
    }
    if (r->payload_len > 0)
        r->payload_hash = hk_xxh64(at + sizeof(*r), r->payload_len, 0);
    r->header_hash = hk_record_header_hash(r, hk_epoch_seed(&e->id));
    bytes = hk_record_bytes(r->payload_len);
    l->prev_bytes = bytes;
    l->end += bytes;
    return r->lsn;
}

void store_log_epoch(struct store_log *l, uint64_t parent_end, uint64_t first_lsn)
{
    struct hk_uuid id;

    HK_ASSERT(parent_end <= l->end && first_lsn >= l->end);
    new_id(l, &id);
    HK_ASSERT(hk_history_append(&l->history, &id, first_lsn, parent_end, HK_EPOCH_GAP_CRASH, 2) ==
              0);
    l->end = first_lsn;
    l->prev_bytes = 0;
    store_log_add(l, HK_REC_GAP, 0, 0, 0, NULL);
}

const struct hk_record *store_log_at(const struct store_log *l, uint64_t lsn)
{
    HK_ASSERT(lsn >= l->base && lsn < l->end);
    return (const struct hk_record *)(const void *)(l->bytes + (lsn - l->base));
}

void store_log_receive(struct store_log *l, uint64_t from, uint64_t to)
{
    HK_ASSERT(from >= l->base && to <= l->end);
    for (uint64_t lsn = from; lsn < to;) {
        uint64_t at = lsn & (l->window_bytes - 1);
        uint64_t n = hk_min_u64(to - lsn, l->window_bytes - at);

        memcpy(l->window + at, l->bytes + (lsn - l->base), n);
        lsn += n;
    }
}

uint64_t store_log_boundary(const struct store_log *l, uint64_t from, uint64_t lsn)
{
    while (from < l->end && hk_record_end(store_log_at(l, from)).v <= lsn)
        from = hk_record_end(store_log_at(l, from)).v;
    return from;
}
