/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: decode(encode(x)) == x for whatever x is sound, and no single flipped bit of a header or a
 * frame goes unnoticed.
 * Method: seeded random sound structures (a failure names the round, and rounds repeat); bit flips
 * are exhaustive over records' headers and over whole frames.
 */
#include "unit.h"

#include "proto_samples.h"

#include <stdlib.h>

static uint64_t rng;

static uint64_t below(uint64_t limit)
{
    return unit_random(&rng) % limit;
}

static int setup(void **state)
{
    rng = 20261123;
    return 0;
}

/* A sound record of any type with random contents. */
static void random_record(struct hk_record *r, uint8_t *payload, uint64_t lsn, uint32_t prev_bytes,
                          uint64_t seed)
{
    struct sample_step step = {(uint8_t)(1 + below(HK_REC_RESIZE)), below(2), 0};
    uint8_t bytes[8192];

    if (step.type == HK_REC_GAP)
        prev_bytes = 0;
    sample_record(&step, lsn, below(1000), 1, prev_bytes, bytes);
    memcpy(r, bytes, sizeof(*r));
    memcpy(payload, bytes + sizeof(*r), r->payload_len);
    switch ((enum hk_record_type)step.type) {
    case HK_REC_WRITE:
    case HK_REC_BLOCK:
        r->length = r->payload_len = (uint32_t)(1 + below(HK_PAYLOAD_BYTES_MAX >> below(21)));
        unit_random_bytes(&rng, payload, r->payload_len);
        r->offset = below(1ull << 50);
        break;
    case HK_REC_VOID:
        r->payload_len = (uint32_t)below(8192);
        unit_random_bytes(&rng, payload, r->payload_len);
        break;
    case HK_REC_ZEROES:
    case HK_REC_DISCARD:
    case HK_REC_BAD_RANGE: r->length = (uint32_t)(1 + below(UINT32_MAX)); break;
    case HK_REC_JOIN:
    case HK_REC_LEAVE:
        r->payload_len = (uint32_t)below(4097);
        unit_random_bytes(&rng, payload, r->payload_len);
        break;
    case HK_REC_FLUSH:
    case HK_REC_MARK:
    case HK_REC_GAP:
    case HK_REC_RESYNC_BEGIN:
    case HK_REC_RESYNC_END:
    case HK_REC_RESIZE:
    case HK_REC_MODE: break;
    }
    r->time_ns = unit_random(&rng);
    r->flags = (uint8_t)below(2);
    sample_seal(r, payload, seed);
}

/* A stream of random records walks forward by LSN and back by prev_bytes, and only so. */
static void test_record_streams(void **state)
{
    enum { RECORDS = 40 };
    uint8_t *stream = malloc((size_t)RECORDS * HK_RECORD_BYTES_MAX);
    uint8_t *payload = malloc(HK_PAYLOAD_BYTES_MAX);
    uint64_t seed = sample_seed(ID_EPOCH1);

    assert_true(stream && payload);
    for (int round = 0; round < 8; round++) {
        uint64_t first = 64 + 64 * below(1ull << 40), at = 0;
        uint32_t prev = 0;
        struct hk_record r;

        for (int i = 0; i < RECORDS; i++) {
            random_record(&r, payload, first + at, prev, seed);
            prev = hk_record_bytes(r.payload_len);
            memcpy(stream + at, &r, sizeof(r));
            memcpy(stream + at + sizeof(r), payload, r.payload_len);
            at += prev;
        }
        at = 0;
        for (int i = 0; i < RECORDS; i++) {
            memcpy(&r, stream + at, sizeof(r));
            assert_int_equal(hk_record_check(&r, HK_LSN(first + at), 1, seed), HK_RECORD_OK);
            assert_int_equal(hk_record_check_payload(&r, stream + at + sizeof(r)), HK_RECORD_OK);
            assert_int_not_equal(hk_record_check(&r, HK_LSN(first + at + 64), 1, seed),
                                 HK_RECORD_OK);
            at = hk_record_end(&r).v - first;
        }
        at -= prev;
        while (at > 0) { /* back; a gap in mid-stream ends the walk, as it must */
            memcpy(&r, stream + at, sizeof(r));
            assert_int_equal(hk_record_check(&r, HK_LSN(first + at), 1, seed), HK_RECORD_OK);
            if (r.prev_bytes == 0)
                break;
            at -= r.prev_bytes;
        }
    }
    free(payload);
    free(stream);
}

static void test_record_every_bit(void **state)
{
    uint8_t *payload = malloc(HK_PAYLOAD_BYTES_MAX);
    uint64_t seed = sample_seed(ID_EPOCH1);

    for (int round = 0; round < 50; round++) {
        struct hk_record r;
        uint8_t bytes[sizeof(r)];

        random_record(&r, payload, 8192 + 4096, 0, seed);
        for (unsigned bit = 0; bit < 8 * sizeof(r); bit++) {
            memcpy(bytes, &r, sizeof(r));
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(hk_record_check((const struct hk_record *)(const void *)bytes,
                                                 HK_LSN(r.lsn), 1, seed),
                                 HK_RECORD_OK);
        }
        if (r.payload_len > 0) {
            payload[below(r.payload_len)] ^= (uint8_t)(1u << below(8));
            assert_int_equal(hk_record_check_payload(&r, payload), HK_RECORD_BAD_PAYLOAD);
        }
    }
    free(payload);
}

static void test_frames(void **state)
{
    static uint8_t bytes[HK_FRAME_HEADER_BYTES + HK_FRAME_BODY_MAX + HK_FRAME_TAG_BYTES];
    static uint8_t body[HK_FRAME_BODY_MAX];

    for (int round = 0; round < 400; round++) {
        struct hk_frame f = sample_frame(HK_FRAME_DATA, 1 + below(1ull << 60),
                                         (uint16_t)(1 + below(HK_FRAME_BODY_MAX >> below(14))));
        struct hk_frame back;
        size_t len;

        f.key_phase = (uint8_t)below(256);
        f.path = (uint8_t)below(HK_PATHS_MAX);
        f.session = (uint32_t)unit_random(&rng);
        f.packet_number = 1 + below(UINT64_MAX - 1);
        unit_random_bytes(&rng, body, f.body_len);
        len = sample_seal_frame(&f, body, bytes);
        assert_int_equal(hk_frame_check_clear(bytes, len), HK_FRAME_OK);
        assert_int_equal(hk_frame_open_plain(bytes, len), HK_FRAME_OK);
        assert_int_equal(hk_frame_decode(bytes, len, &back), HK_FRAME_OK);
        assert_memory_equal(&back, &f, sizeof(f));
        assert_memory_equal(bytes + HK_FRAME_HEADER_BYTES, body, f.body_len);
    }
}

static void test_frame_every_bit(void **state)
{
    static const uint16_t sizes[] = {1, 64, 96, 97, 200, 209, 300};

    for (size_t i = 0; i < HK_ARRAY_SIZE(sizes); i++) {
        struct hk_frame f = sample_frame(HK_FRAME_DATA, 4096, sizes[i]);
        uint8_t body[512], bytes[512];
        size_t len;

        unit_random_bytes(&rng, body, sizes[i]);
        len = sample_seal_frame(&f, body, bytes);
        for (size_t bit = 0; bit < 8 * len; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(hk_frame_open_plain(bytes, len), HK_FRAME_OK);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(hk_frame_open_plain(bytes, len), HK_FRAME_OK);
    }
}

static void test_acks(void **state)
{
    for (int round = 0; round < 2000; round++) {
        struct hk_pn_range ranges[HK_ACK_RANGES_MAX], back_ranges[HK_ACK_RANGES_MAX];
        struct hk_ack a = {.range_count = (uint16_t)below(HK_ACK_RANGES_MAX + 1)}, back;
        uint64_t top = UINT64_MAX - below(1000);
        uint8_t body[1024];
        int bytes;

        a.applied = below(1ull << 62);
        a.durable = a.applied + below(1ull << 30);
        a.acked = a.durable + below(1ull << 30);
        a.window = unit_random(&rng);
        a.last_ping = unit_random(&rng);
        a.delay_us = (uint32_t)unit_random(&rng);
        a.flags = (uint16_t)below(8);
        for (unsigned i = 0; i < a.range_count; i++) {
            ranges[i].last = top - below(1000);
            ranges[i].first = ranges[i].last - below(1000);
            top = ranges[i].first - 1;
        }
        bytes = hk_ack_encode(&a, ranges, body, sizeof(body));
        assert_int_equal(bytes, 48 + 16 * a.range_count);
        assert_int_equal(hk_ack_decode(body, (size_t)bytes, &back, back_ranges), 0);
        assert_memory_equal(&back, &a, sizeof(a));
        assert_memory_equal(back_ranges, ranges, a.range_count * sizeof(ranges[0]));
    }
}

static void test_pings(void **state)
{
    for (int round = 0; round < 2000; round++) {
        struct hk_ping p, back;
        uint8_t body[sizeof(p)];

        unit_random_bytes(&rng, &p, sizeof(p));
        if (p.produced > p.ceiling)
            p.ceiling = p.produced;
        assert_int_equal(hk_ping_encode(&p, body, sizeof(body)), sizeof(p));
        assert_int_equal(hk_ping_decode(body, sizeof(p), &back), 0);
        assert_memory_equal(&back, &p, sizeof(p));
    }
}

static void random_name(char field[HK_NAME_BYTES])
{
    static const char alphabet[] = "abcxyzABCXYZ0189._-";
    size_t len = 1 + below(HK_NAME_BYTES - 1);

    memset(field, 0, HK_NAME_BYTES);
    for (size_t i = 0; i < len; i++)
        field[i] = alphabet[below(sizeof(alphabet) - 1 - (i ? 0 : 3))]; /* first: no mark */
}

static void random_history(struct hk_history *h)
{
    uint32_t count = (uint32_t)below(2 * HK_HISTORY_EPOCHS_MAX);
    uint64_t first = 64 * (1 + below(1000));

    memset(h, 0, sizeof(*h));
    for (uint32_t i = 0; i < count; i++) {
        uint64_t end = first + 64 * below(1u << 20);
        struct hk_uuid id;

        unit_random_bytes(&rng, &id, sizeof(id));
        if (i > 0)
            first = end + 64 * below(1u << 20);
        assert_int_equal(hk_history_append(h, &id, first, i ? end : 0,
                                           i ? HK_EPOCH_PROMOTE + below(5) : HK_EPOCH_CREATE,
                                           unit_random(&rng)),
                         0);
        assert_int_equal(hk_history_check(h), 0);
    }
}

static void random_super(struct hk_super *s)
{
    uint64_t at = 64;

    sample_super_standby(s);
    s->role = (uint32_t)(1 + below(2));
    s->sequence = unit_random(&rng);
    s->flags = (uint32_t)below(512);
    unit_random_bytes(&rng, &s->group_id, 64); /* the four ids; nil has a chance of 2^-128 */
    random_name(s->group_name);
    random_name(s->freeze_name);
    s->ceiling = unit_random(&rng) & ~63ull;
    s->clean_lsn = unit_random(&rng) & ~63ull;
    s->applied = unit_random(&rng) & ~63ull;
    s->mode = (uint32_t)below(4);
    s->on_link_loss = (uint32_t)below(3);
    s->loss_class = (uint32_t)below(4);
    s->clean_prev_bytes = (uint32_t)(64 * below(HK_RECORD_BYTES_MAX / 64 + 1));
    random_history(&s->history);
    s->version = s->history.dropped || below(2) ? HK_SUPER_VERSION : HK_SUPER_VERSION_OLD;
    memset(s->interval, 0, sizeof(s->interval));
    s->interval_count = (uint32_t)below(HK_INTERVALS_MAX + 1);
    for (uint32_t i = 0; i < s->interval_count; i++) {
        s->interval[i].from = at += 64 * below(1u << 20);
        s->interval[i].to = at += 64 * below(1u << 20);
        s->interval[i].epoch_ordinal = 1 + i / 3;
    }
    if (s->interval_count > 0 && below(2))
        s->interval[s->interval_count - 1].to = 0;
    memset(s->volume, 0, sizeof(s->volume));
    s->volume_count = (uint32_t)below(HK_VOLUMES_MAX + 1);
    for (uint32_t i = 0; i < s->volume_count; i++) {
        random_name(s->volume[i].name);
        s->volume[i].name[0] = (char)('A' + i % 26); /* unique by its first two characters */
        s->volume[i].name[1] = (char)('A' + i / 26);
        s->volume[i].bytes = 1 + below(1ull << 50);
    }
}

static void test_supers(void **state)
{
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(8)));
    static uint8_t again[HK_SUPER_BYTES] __attribute__((aligned(8)));

    for (int round = 0; round < 300; round++) {
        static struct hk_super s, back;

        random_super(&s);
        hk_super_encode(&s, slot);
        assert_int_equal(hk_super_decode(slot, &back), HK_SUPER_OK);
        assert_memory_equal(&back, &s, sizeof(s));
        /* What lies behind the counts in memory does not reach the disk. */
        if (s.volume_count < HK_VOLUMES_MAX)
            s.volume[HK_VOLUMES_MAX - 1].bytes = 77;
        if (s.interval_count < HK_INTERVALS_MAX)
            s.interval[HK_INTERVALS_MAX - 1].to = 77;
        if (s.history.count < HK_HISTORY_EPOCHS_MAX)
            s.history.epoch[HK_HISTORY_EPOCHS_MAX - 1].time_ns = 77;
        memset(again, 0xff, sizeof(again));
        hk_super_encode(&s, again);
        assert_memory_equal(again, slot, sizeof(slot));
    }
}

static void test_segment_names(void **state)
{
    for (int round = 0; round < 2000; round++) {
        uint32_t ordinal = (uint32_t)(1 + below(UINT32_MAX)), back_ordinal;
        uint64_t lsn = 64 * (1 + below(UINT64_MAX / 64)), back_lsn;
        char name[HK_SEGMENT_NAME_BYTES], next[HK_SEGMENT_NAME_BYTES];
        struct hk_uuid id, back_id;

        unit_random_bytes(&rng, &id, sizeof(id));
        hk_segment_name(ordinal, &id, lsn, name);
        assert_int_equal(hk_segment_name_parse(name, &back_ordinal, &back_id, &back_lsn), 0);
        assert_int_equal(back_ordinal, ordinal);
        assert_true(back_lsn == lsn && hk_uuid_equal(&back_id, &id));
        if (lsn < UINT64_MAX - 127) { /* names sort as positions do */
            hk_segment_name(ordinal, &id, lsn + 64, next);
            assert_true(strcmp(name, next) < 0);
        }
        if (ordinal < UINT32_MAX) {
            hk_segment_name(ordinal + 1, &id, 64, next);
            assert_true(strcmp(name, next) < 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_record_streams, setup),
        cmocka_unit_test_setup(test_record_every_bit, setup),
        cmocka_unit_test_setup(test_frames, setup),
        cmocka_unit_test_setup(test_frame_every_bit, setup),
        cmocka_unit_test_setup(test_acks, setup),
        cmocka_unit_test_setup(test_pings, setup),
        cmocka_unit_test_setup(test_supers, setup),
        cmocka_unit_test_setup(test_segment_names, setup),
    };

    return cmocka_run_group_tests_name("proto_property", tests, NULL, NULL);
}
