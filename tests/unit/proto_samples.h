/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sound examples of every structure of proto, for tests to compare with and to damage. The values
 * are those of tests/golden/make.py, which is written from SPEC.md and shares no code with this.
 */
#ifndef HK_TESTS_PROTO_SAMPLES_H
#define HK_TESTS_PROTO_SAMPLES_H

#include "proto/dmap.h"
#include "proto/frame.h"
#include "proto/hash.h"
#include "proto/record.h"
#include "proto/segment.h"
#include "proto/super.h"

#include <string.h>

/* Ids are n0 n1 n2 … nf. */
enum { ID_GROUP = 1, ID_EPOCH3 = 9, ID_EPOCH1 = 10, ID_EPOCH2 = 11, ID_PRIMARY = 12 };
enum { ID_STANDBY = 13, ID_SITE = 14, ID_RING = 15 };

#define SAMPLE_TIME_NS 1700000000000000000ull

static inline struct hk_uuid sample_uuid(unsigned n)
{
    struct hk_uuid u;

    for (unsigned i = 0; i < 16; i++)
        u.b[i] = (uint8_t)(n << 4 | i);
    return u;
}

static inline uint64_t sample_seed(unsigned n)
{
    struct hk_uuid u = sample_uuid(n);

    return hk_epoch_seed(&u);
}

/* Content that tells positions apart. */
static inline void sample_fill(void *bytes, size_t count, unsigned first)
{
    uint8_t *b = bytes;

    for (size_t i = 0; i < count; i++)
        b[i] = (uint8_t)(first + i * 7 + i / 251);
}

/* Both hashes, as publication computes them. */
static inline void sample_seal(struct hk_record *r, const void *payload, uint64_t epoch_seed)
{
    r->payload_hash = r->payload_len ? hk_xxh64(payload, r->payload_len, 0) : 0;
    r->header_hash = hk_record_header_hash(r, epoch_seed);
}

static inline void sample_name(char field[HK_NAME_BYTES], const char *name)
{
    memset(field, 0, HK_NAME_BYTES);
    memcpy(field, name, strlen(name));
}

/* Volume range and payload size of a type, and the payload itself (≤ 4096 bytes here). */
static inline void sample_content(struct hk_record *r, uint8_t payload[4096], bool is_freeze)
{
    struct hk_mark mark = {.op_id = 0x1122334455667788ull};
    struct hk_mode_change mode = {.mode = HK_MODE_SYNC,
                                  .on_link_loss = HK_LINK_LOSS_BLOCK,
                                  .contact_timeout_ns = 5000000000ull};
    struct hk_gap gap = {.from_epoch = sample_uuid(ID_EPOCH1),
                         .last_durable = 8960,
                         .new_start = r->lsn,
                         .reason = HK_EPOCH_PROMOTE};
    struct hk_resync_begin begin = {.pass = 3, .stale_bytes = 1 << 24, .reason = HK_RESYNC_ORIGIN};
    struct hk_resync_end end = {.pass = 3, .begin_lsn = HK_LSN_FIRST};
    struct hk_resize resize = {.bytes = {1ull << 40, 1 << 30}};

    switch ((enum hk_record_type)r->type) {
    case HK_REC_WRITE:
        r->length = r->payload_len = r->epoch == 1 ? 4096 : 512;
        sample_fill(payload, r->payload_len, 1);
        break;
    case HK_REC_BLOCK:
        r->length = r->payload_len = 512;
        sample_fill(payload, r->payload_len, 9);
        break;
    case HK_REC_VOID:
        r->length = 512;
        r->payload_len = 100; /* so that a payload's padding is seen */
        sample_fill(payload, r->payload_len, 7);
        break;
    case HK_REC_ZEROES: r->length = 65536; break;
    case HK_REC_DISCARD: r->length = 1 << 20; break;
    case HK_REC_BAD_RANGE: r->length = 4096; break;
    case HK_REC_MARK:
        sample_name(mark.name, is_freeze ? "nightly-2026.11.23" : "m");
        mark.kind = is_freeze ? HK_MARK_FREEZE : HK_MARK_PLAIN;
        r->payload_len = sizeof(mark);
        memcpy(payload, &mark, sizeof(mark));
        break;
    case HK_REC_GAP:
        r->payload_len = sizeof(gap);
        memcpy(payload, &gap, sizeof(gap));
        break;
    case HK_REC_MODE:
        r->payload_len = sizeof(mode);
        memcpy(payload, &mode, sizeof(mode));
        break;
    case HK_REC_RESYNC_BEGIN:
        r->payload_len = sizeof(begin);
        memcpy(payload, &begin, sizeof(begin));
        break;
    case HK_REC_RESYNC_END:
        r->payload_len = sizeof(end);
        memcpy(payload, &end, sizeof(end));
        break;
    case HK_REC_RESIZE:
        r->payload_len = sizeof(resize);
        memcpy(payload, &resize, sizeof(resize));
        break;
    case HK_REC_FLUSH:
    case HK_REC_JOIN:
    case HK_REC_LEAVE: break;
    }
    if (r->length > 0 || r->type == HK_REC_FLUSH) {
        uint64_t index = (r->time_ns - SAMPLE_TIME_NS) / 1000;

        r->volume = index & 1;
        r->offset = r->length > 0 ? index * 4096 : 0;
    }
}

struct sample_step {
    uint8_t type;
    bool is_freeze;
    uint8_t flags;
};

/* Two epochs: every type but gap in the first; gap and a FUA write in the second. */
static const struct sample_step sample_epoch1[] = {
    {HK_REC_MODE, false, 0},    {HK_REC_WRITE, false, 0},     {HK_REC_ZEROES, false, 0},
    {HK_REC_DISCARD, false, 0}, {HK_REC_FLUSH, false, 0},     {HK_REC_MARK, false, 0},
    {HK_REC_MARK, true, 0},     {HK_REC_VOID, false, 0},      {HK_REC_RESYNC_BEGIN, false, 0},
    {HK_REC_BLOCK, false, 0},   {HK_REC_BAD_RANGE, false, 0}, {HK_REC_RESYNC_END, false, 0},
    {HK_REC_JOIN, false, 0},    {HK_REC_LEAVE, false, 0},     {HK_REC_RESIZE, false, 0},
};
static const struct sample_step sample_epoch2[] = {
    {HK_REC_GAP, false, 0},
    {HK_REC_WRITE, false, HK_REC_FUA},
};
#define SAMPLE_STREAM_MAX 16384

/* One record with its payload and padding at `at`; returns its size in the log. */
static inline uint32_t sample_record(const struct sample_step *step, uint64_t lsn, uint64_t index,
                                     unsigned epoch, uint32_t prev_bytes, uint8_t *at)
{
    struct hk_record r = {.lsn = lsn,
                          .time_ns = SAMPLE_TIME_NS + index * 1000,
                          .epoch = epoch,
                          .type = step->type,
                          .flags = step->flags,
                          .magic = HK_RECORD_MAGIC,
                          .prev_bytes = prev_bytes};
    uint8_t payload[4096];
    uint32_t bytes;

    sample_content(&r, payload, step->is_freeze);
    bytes = hk_record_bytes(r.payload_len);
    sample_seal(&r, payload, sample_seed(epoch == 1 ? ID_EPOCH1 : ID_EPOCH2));
    memset(at, 0, bytes);
    memcpy(at, &r, sizeof(r));
    memcpy(at + sizeof(r), payload, r.payload_len);
    return bytes;
}

/* The whole stream of an epoch; ret_at[i] = offset of record i, ret_at[count] = the end. */
static inline uint32_t sample_stream(unsigned epoch, uint64_t first_lsn, uint8_t *stream,
                                     uint32_t ret_at[HK_ARRAY_SIZE(sample_epoch1) + 1])
{
    const struct sample_step *steps = epoch == 1 ? sample_epoch1 : sample_epoch2;
    uint32_t count = epoch == 1 ? HK_ARRAY_SIZE(sample_epoch1) : HK_ARRAY_SIZE(sample_epoch2);
    uint32_t at = 0, prev = 0;

    for (uint32_t i = 0; i < count; i++) {
        ret_at[i] = at;
        prev = sample_record(&steps[i], first_lsn + at, i, epoch, prev, stream + at);
        at += prev;
    }
    ret_at[count] = at;
    return at;
}

static inline void sample_history(struct hk_history *h)
{
    struct hk_uuid e1 = sample_uuid(ID_EPOCH1), e2 = sample_uuid(ID_EPOCH2);
    struct hk_uuid e3 = sample_uuid(ID_EPOCH3);

    memset(h, 0, sizeof(*h));
    hk_history_append(h, &e1, HK_LSN_FIRST, 0, HK_EPOCH_CREATE, SAMPLE_TIME_NS);
    hk_history_append(h, &e2, HK_CEILING_STEP_BYTES, 10112, HK_EPOCH_PROMOTE, SAMPLE_TIME_NS + 1);
    hk_history_append(h, &e3, 2 * HK_CEILING_STEP_BYTES, HK_CEILING_STEP_BYTES + 704,
                      HK_EPOCH_GAP_CRASH, SAMPLE_TIME_NS + 2);
}

static inline void sample_segment(struct hk_segment_header *h)
{
    memset(h, 0, sizeof(*h));
    h->epoch_ordinal = 1;
    h->group_id = sample_uuid(ID_GROUP);
    h->epoch_id = sample_uuid(ID_EPOCH1);
    h->replica_id = sample_uuid(ID_STANDBY);
    h->first_lsn = HK_LSN_FIRST;
    h->segment_bytes = 32768;
    hk_segment_header_seal(h);
}

static inline void sample_batch(struct hk_batch_header *h, uint64_t first_lsn, uint64_t bytes,
                                uint64_t durable, const uint8_t *data)
{
    memset(h, 0, sizeof(*h));
    h->epoch_ordinal = 1;
    h->epoch_id = sample_uuid(ID_EPOCH1);
    h->first_lsn = first_lsn;
    h->bytes = bytes;
    h->durable = durable;
    h->data_hash = hk_xxh64(data, bytes, sample_seed(ID_EPOCH1));
    hk_batch_header_seal(h);
}

static inline void sample_super_common(struct hk_super *s)
{
    memset(s, 0, sizeof(*s));
    s->group_id = sample_uuid(ID_GROUP);
    s->site_id = sample_uuid(ID_SITE);
    sample_name(s->group_name, "core");
    s->mode = HK_MODE_SYNC;
    s->on_link_loss = HK_LINK_LOSS_BLOCK;
    s->contact_timeout_ns = 5000000000ull;
    sample_history(&s->history);
    s->volume_count = 2;
    sample_name(s->volume[0].name, "data");
    s->volume[0].bytes = 1ull << 40;
    sample_name(s->volume[1].name, "wal");
    s->volume[1].bytes = 256ull << 20;
}

static inline void sample_super_primary(struct hk_super *s)
{
    sample_super_common(s);
    s->magic = HK_SUPER_MAGIC;
    s->version = HK_SUPER_VERSION_OLD; /* tests/golden/ keeps them for ever */
    s->role = HK_ROLE_PRIMARY;
    s->sequence = 6;
    s->flags = HK_SF_CLEAN | HK_SF_ASSUMED_EQUAL;
    s->replica_id = sample_uuid(ID_PRIMARY);
    s->peer_replica_id = sample_uuid(ID_STANDBY);
    s->ceiling = 3 * HK_CEILING_STEP_BYTES;
    s->clean_lsn = 2 * HK_CEILING_STEP_BYTES + 4224;
    s->durable_known = 2 * HK_CEILING_STEP_BYTES + 128;
    s->clean_time_ns = SAMPLE_TIME_NS + 9;
    s->clean_prev_bytes = 4160;
    s->ring_id = sample_uuid(ID_RING);
}

static inline void sample_super_standby(struct hk_super *s)
{
    sample_super_common(s);
    s->magic = HK_SUPER_MAGIC;
    s->version = HK_SUPER_VERSION_OLD; /* tests/golden/ keeps them for ever */
    s->role = HK_ROLE_STANDBY;
    s->sequence = 7;
    s->flags = HK_SF_PROMOTED | HK_SF_FROZEN;
    s->replica_id = sample_uuid(ID_STANDBY);
    s->peer_replica_id = sample_uuid(ID_PRIMARY);
    s->ceiling = 3 * HK_CEILING_STEP_BYTES;
    s->applied = 2 * HK_CEILING_STEP_BYTES + 128;
    s->mode_lsn = HK_LSN_FIRST;
    s->contact_time_ns = SAMPLE_TIME_NS + 3;
    s->freeze_lsn = 8960;
    s->freeze_time_ns = SAMPLE_TIME_NS + 6000;
    sample_name(s->freeze_name, "nightly-2026.11.23");
    s->loss_class = HK_LOSS_ZERO_IF_FENCED;
    s->promote_lsn = 10112;
    s->promote_time_ns = SAMPLE_TIME_NS + 4;
    s->interval_count = 2;
    s->interval[0] = (struct hk_interval){HK_LSN_FIRST, 10112, 1, 0};
    s->interval[1] = (struct hk_interval){HK_CEILING_STEP_BYTES, 0, 2, 0};
}

static inline struct hk_frame sample_frame(uint8_t type, uint64_t lsn, uint16_t body_len)
{
    return (struct hk_frame){.version = HK_FRAME_VERSION,
                             .type = type,
                             .path = 1,
                             .session = 0xcafe1234,
                             .packet_number = 0x0102030405060708ull,
                             .lsn = lsn,
                             .span = type == HK_FRAME_DATA ? body_len : 0,
                             .body_len = body_len};
}

static inline struct hk_ack sample_ack(uint16_t range_count)
{
    return (struct hk_ack){.acked = 10112,
                           .durable = 8960,
                           .applied = HK_LSN_FIRST,
                           .window = 1 << 28,
                           .last_ping = 77,
                           .delay_us = 250,
                           .range_count = range_count,
                           .flags = HK_ACK_FROZEN};
}

/* Newest first: range i is [1000 - 10 i, 1005 - 10 i]. */
static inline void sample_ranges(struct hk_pn_range ranges[HK_ACK_RANGES_MAX])
{
    for (unsigned i = 0; i < HK_ACK_RANGES_MAX; i++)
        ranges[i] = (struct hk_pn_range){1000 - 10 * i, 1005 - 10 * i};
}

static inline struct hk_ping sample_ping(void)
{
    return (struct hk_ping){.produced = 10112,
                            .oldest_time_ns = SAMPLE_TIME_NS + 7000,
                            .now_ns = SAMPLE_TIME_NS + 1000000000,
                            .ack_seen = 41,
                            .ceiling = HK_CEILING_STEP_BYTES,
                            .state = 2,
                            .flags = 0};
}

/* Header, body, tag of cipher 0; returns the frame's bytes. */
static inline size_t sample_seal_frame(const struct hk_frame *f, const void *body, uint8_t *bytes)
{
    memcpy(bytes, f, sizeof(*f));
    memcpy(bytes + sizeof(*f), body, f->body_len);
    hk_frame_seal_plain(bytes, f->body_len);
    return HK_FRAME_HEADER_BYTES + f->body_len + HK_FRAME_TAG_BYTES;
}

/* Version 2: a primary with a dirty map, a standby in a resync that forgot its oldest epoch. */
static inline void sample_super_primary_2(struct hk_super *s)
{
    sample_super_primary(s);
    s->version = HK_SUPER_VERSION;
    s->sequence = 8;
    s->flags = HK_SF_DEGRADED | HK_SF_STALE;
    s->clean_lsn = s->clean_time_ns = s->clean_prev_bytes = 0;
    s->region_shift = 22;
    s->dmap_sequence = 995;
    s->volume[1].first_region = 262144;
}

static inline void sample_super_standby_2(struct hk_super *s)
{
    struct hk_epoch *e = s->history.epoch;

    sample_super_standby(s);
    s->version = HK_SUPER_VERSION;
    s->sequence = 9;
    s->flags = HK_SF_PINNED | HK_SF_RESYNC;
    s->contact_time_ns = s->freeze_lsn = s->freeze_time_ns = s->loss_class = 0;
    s->promote_lsn = s->promote_time_ns = 0;
    memset(s->freeze_name, 0, sizeof(s->freeze_name));
    s->pin_lsn = HK_CEILING_STEP_BYTES + 704;
    s->pin_ordinal = 2;
    s->snapshot_next = 5;
    memset(s->interval, 0, sizeof(s->interval));
    s->interval_count = 1;
    s->interval[0] = (struct hk_interval){
        .from = HK_CEILING_STEP_BYTES, .to = HK_CEILING_STEP_BYTES + 704, .epoch_ordinal = 2};
    memmove(e, e + 1, 2 * sizeof(*e));
    memset(e + 2, 0, sizeof(*e));
    s->history.count = 2;
    s->history.dropped = 1;
}

/* Version 3: a volume that may grow, and one that has grown since the pin. */
static inline void sample_super_primary_3(struct hk_super *s)
{
    sample_super_primary_2(s);
    s->version = HK_SUPER_VERSION_GROWS;
    s->sequence = 10;
    s->volume[1].room_bytes = 1 << 30;
}

static inline void sample_super_standby_3(struct hk_super *s)
{
    sample_super_standby_2(s);
    s->version = HK_SUPER_VERSION_GROWS;
    s->sequence = 11;
    s->volume[1].room_bytes = 1 << 30;
    s->volume[1].prior_bytes = 128 << 20;
}

#endif
