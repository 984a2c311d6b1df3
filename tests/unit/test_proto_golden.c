/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the bytes of every format are the ones of tests/golden/, for ever.
 * Method: the files were made from SPEC.md by a program that shares no code with the product. Here
 * the product's encoders must produce exactly these files from the same facts, and its decoders
 * must get the same facts back out of the files.
 */
#include "unit.h"

#include "proto_samples.h"

#include <stdio.h>
#include <stdlib.h>

static uint8_t file_bytes[65536];
static unsigned files_compared;

static size_t read_golden(const char *name)
{
    const char *dir = getenv("HK_TESTS_DIR");
    char path[4096];
    size_t bytes;
    FILE *f;

    assert_non_null(dir);
    assert_true(snprintf(path, sizeof(path), "%s/golden/%s", dir, name) < (int)sizeof(path));
    f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    bytes = fread(file_bytes, 1, sizeof(file_bytes), f);
    assert_true(feof(f));
    fclose(f);
    files_compared++;
    return bytes;
}

static void assert_golden(const char *name, const void *bytes, size_t count)
{
    assert_int_equal(read_golden(name), count);
    assert_memory_equal(file_bytes, bytes, count);
}

static void check_stream(unsigned epoch, uint64_t first_lsn, uint64_t seed)
{
    static uint8_t stream[SAMPLE_STREAM_MAX];
    const struct sample_step *steps = epoch == 1 ? sample_epoch1 : sample_epoch2;
    uint32_t count = epoch == 1 ? HK_ARRAY_SIZE(sample_epoch1) : HK_ARRAY_SIZE(sample_epoch2);
    uint32_t at[HK_ARRAY_SIZE(sample_epoch1) + 1];
    uint32_t prev = 0;

    sample_stream(epoch, first_lsn, stream, at);
    for (uint32_t i = 0; i < count; i++) {
        struct hk_record r;
        char name[64];

        snprintf(name, sizeof(name), "record_%u_%02u_%s.bin", epoch, i,
                 hk_record_type_text(steps[i].type));
        assert_golden(name, stream + at[i], at[i + 1] - at[i]);
        memcpy(&r, file_bytes, sizeof(r));
        assert_int_equal(hk_record_check(&r, HK_LSN(first_lsn + at[i]), epoch, seed), HK_RECORD_OK);
        assert_int_equal(hk_record_check_payload(&r, file_bytes + sizeof(r)), HK_RECORD_OK);
        assert_int_equal(r.type, steps[i].type);
        assert_int_equal(r.flags, steps[i].flags);
        assert_int_equal(r.prev_bytes, prev);
        assert_int_equal(hk_record_end(&r).v, first_lsn + at[i + 1]);
        prev = at[i + 1] - at[i];
    }
}

static void test_records(void **state)
{
    check_stream(1, HK_LSN_FIRST, sample_seed(ID_EPOCH1));
    check_stream(2, HK_CEILING_STEP_BYTES, sample_seed(ID_EPOCH2));
}

/* A frame's golden bytes, its header after opening, its body. */
static void check_frame(const char *name, const struct hk_frame *f, const void *body)
{
    static uint8_t bytes[HK_FRAME_HEADER_BYTES + HK_FRAME_BODY_MAX + HK_FRAME_TAG_BYTES];
    size_t count = sample_seal_frame(f, body, bytes);
    struct hk_frame back;

    assert_golden(name, bytes, count);
    assert_int_equal(hk_frame_check_clear(file_bytes, count), HK_FRAME_OK);
    assert_int_equal(hk_frame_open_plain(file_bytes, count), HK_FRAME_OK);
    assert_int_equal(hk_frame_decode(file_bytes, count, &back), HK_FRAME_OK);
    assert_memory_equal(&back, f, sizeof(*f));
    assert_memory_equal(file_bytes + HK_FRAME_HEADER_BYTES, body, f->body_len);
}

static void test_frames_data(void **state)
{
    static const struct {
        uint64_t lsn;
        uint16_t bytes;
    } cut[] = {{4100, 1}, {4096, 200}, {4200, 1000}, {4224, 4160}};
    static uint8_t stream[SAMPLE_STREAM_MAX];
    uint32_t at[HK_ARRAY_SIZE(sample_epoch1) + 1];

    sample_stream(1, HK_LSN_FIRST, stream, at);
    for (size_t i = 0; i < HK_ARRAY_SIZE(cut); i++) {
        struct hk_frame f = sample_frame(HK_FRAME_DATA, cut[i].lsn, cut[i].bytes);
        char name[64];

        snprintf(name, sizeof(name), "frame_data_%u.bin", (unsigned)cut[i].bytes);
        check_frame(name, &f, stream + (cut[i].lsn - HK_LSN_FIRST));
    }
}

static void test_frames_ack(void **state)
{
    static const uint16_t counts[] = {0, 1, HK_ACK_RANGES_MAX};

    for (size_t i = 0; i < HK_ARRAY_SIZE(counts); i++) {
        struct hk_pn_range ranges[HK_ACK_RANGES_MAX], back_ranges[HK_ACK_RANGES_MAX];
        struct hk_ack a = sample_ack(counts[i]), back;
        struct hk_frame f;
        uint8_t body[1024];
        char name[64];
        int bytes;

        sample_ranges(ranges);
        bytes = hk_ack_encode(&a, ranges, body, sizeof(body));
        assert_int_equal(bytes, 48 + 16 * counts[i]);
        f = sample_frame(HK_FRAME_ACK, 0, (uint16_t)bytes);
        snprintf(name, sizeof(name), "frame_ack_%u.bin", (unsigned)counts[i]);
        check_frame(name, &f, body);
        assert_int_equal(
            hk_ack_decode(file_bytes + HK_FRAME_HEADER_BYTES, (size_t)bytes, &back, back_ranges),
            0);
        assert_memory_equal(&back, &a, sizeof(a));
        assert_memory_equal(back_ranges, ranges, counts[i] * sizeof(ranges[0]));
    }
}

static void test_frame_ping(void **state)
{
    struct hk_frame f = sample_frame(HK_FRAME_PING, 0, sizeof(struct hk_ping));
    struct hk_ping p = sample_ping(), back;
    uint8_t body[sizeof(p)];

    assert_int_equal(hk_ping_encode(&p, body, sizeof(body)), sizeof(p));
    check_frame("frame_ping.bin", &f, body);
    assert_int_equal(hk_ping_decode(file_bytes + HK_FRAME_HEADER_BYTES, sizeof(p), &back), 0);
    assert_memory_equal(&back, &p, sizeof(p));
}

static void test_history(void **state)
{
    struct hk_history h, back;

    sample_history(&h);
    assert_golden("history.bin", &h, sizeof(h));
    memcpy(&back, file_bytes, sizeof(back));
    assert_int_equal(hk_history_check(&back), 0);
    assert_int_equal(back.count, 3);
}

static void test_segment(void **state)
{
    static uint8_t stream[SAMPLE_STREAM_MAX], want[32768];
    uint32_t at[HK_ARRAY_SIZE(sample_epoch1) + 1];
    uint32_t end = sample_stream(1, HK_LSN_FIRST, stream, at), cut = at[7];
    struct hk_uuid epoch = sample_uuid(ID_EPOCH1);
    struct hk_segment_header seg;
    struct hk_batch_header batch[2];
    uint8_t *p = want;

    memset(stream + end, 0, sizeof(stream) - end);
    sample_segment(&seg);
    sample_batch(&batch[0], HK_LSN_FIRST, cut, 0, stream);
    sample_batch(&batch[1], HK_LSN_FIRST + cut, end - cut, HK_LSN_FIRST + cut, stream + cut);
    memcpy(p, &seg, sizeof(seg));
    p += sizeof(seg);
    memcpy(p, &batch[0], sizeof(batch[0]));
    p += sizeof(batch[0]);
    assert_int_equal(hk_batch_page_bytes(HK_LSN_FIRST, cut), 8192);
    memcpy(p, stream, cut); /* the rest of its last page is zero in the example */
    p += 8192;
    memcpy(p, &batch[1], sizeof(batch[1]));
    p += sizeof(batch[1]);
    assert_int_equal(hk_batch_page_bytes(HK_LSN_FIRST + cut, end - cut), 4096);
    memcpy(p, stream + 4096, end - 4096);
    assert_golden("segment.bin", want, sizeof(want));

    memcpy(&seg, file_bytes, sizeof(seg));
    assert_int_equal(hk_segment_header_check(&seg), HK_SEGMENT_OK);
    memcpy(&batch[0], file_bytes + 4096, 4096);
    assert_int_equal(hk_batch_header_check(&batch[0], &epoch, seg.first_lsn), HK_SEGMENT_OK);
    memcpy(&batch[1], file_bytes + 4096 + 4096 + 8192, 4096);
    assert_int_equal(hk_batch_header_check(&batch[1], &epoch, HK_LSN_FIRST + cut), HK_SEGMENT_OK);
    assert_int_equal(batch[1].durable, HK_LSN_FIRST + cut);
}

static void check_super(const char *name, const struct hk_super *s)
{
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(8)));
    struct hk_super back;

    hk_super_encode(s, slot);
    assert_golden(name, slot, sizeof(slot));
    memcpy(slot, file_bytes, sizeof(slot));
    assert_int_equal(hk_super_decode(slot, &back), HK_SUPER_OK);
    assert_memory_equal(&back, s, sizeof(*s));
}

static void test_supers(void **state)
{
    struct hk_super s;

    sample_super_primary(&s);
    check_super("super_primary.bin", &s);
    sample_super_standby(&s);
    check_super("super_standby.bin", &s);
    sample_super_primary_2(&s);
    check_super("super_primary_2.bin", &s);
    sample_super_standby_2(&s);
    check_super("super_standby_2.bin", &s);
    sample_super_primary_3(&s);
    check_super("super_primary_3.bin", &s);
    sample_super_standby_3(&s);
    check_super("super_standby_3.bin", &s);
    assert_golden("history_dropped.bin", &s.history, sizeof(s.history));
}

static void test_dmap_log(void **state)
{
    static uint8_t page[HK_DMAP_PAGE_BYTES] __attribute__((aligned(8)));
    struct hk_uuid own = sample_uuid(ID_PRIMARY), peer = sample_uuid(ID_STANDBY);
    struct hk_dmap_id id = hk_dmap_id(&own, &peer);
    struct hk_dmap_stamp stamp = {
        .sequence = 1003, .relied = HK_CEILING_STEP_BYTES + 704, .other = 77, .ordinal = 2};
    static uint32_t slot[HK_DMAP_SLOTS];
    struct hk_dmap_update update[30];

    for (uint32_t k = 0; k < HK_DMAP_SLOTS; k++)
        slot[k] = hk_dmap_entry_make(3 * k, k % 7 == 0   ? HK_DMAP_EMPTY
                                            : k % 5 == 0 ? HK_DMAP_MARK_STALE
                                                         : HK_DMAP_MARK_HOT);
    for (uint32_t n = 1; n <= 30; n++)
        update[n - 1] = (struct hk_dmap_update){.slot = 5 * n, .entry = slot[5 * n]};
    hk_dmap_log_build(&id, &stamp, slot, update, 30, page);
    assert_golden("dmap_log.bin", page, sizeof(page));
    memcpy(page, file_bytes, sizeof(page));
    assert_int_equal(hk_dmap_page_check(page, &id, HK_DMAP_LOG, 1003 % 256), HK_DMAP_PAGE_WHOLE);
    assert_int_equal(hk_dmap_page_check(page, &id, HK_DMAP_LOG, 1002 % 256), HK_DMAP_PAGE_ASTRAY);
}

static void test_dmap_map(void **state)
{
    static uint8_t page[HK_DMAP_PAGE_BYTES] __attribute__((aligned(8)));
    static uint8_t packed[HK_DMAP_PAGE_STATES], back[HK_DMAP_PAGE_STATES];
    struct hk_uuid own = sample_uuid(ID_PRIMARY), peer = sample_uuid(ID_STANDBY);
    struct hk_dmap_id id = hk_dmap_id(&own, &peer);
    struct hk_dmap_stamp stamp = {
        .sequence = 78, .relied = HK_CEILING_STEP_BYTES + 704, .other = 1003, .ordinal = 2};
    static struct hk_dmap_load load;

    for (uint32_t n = 0; n < HK_DMAP_PAGE_REGIONS; n++)
        hk_dmap_state_set(packed, n,
                          n % 11 == 0  ? HK_DMAP_STALE
                          : n % 6 == 0 ? HK_DMAP_SPOOLED
                                       : HK_DMAP_CLEAN);
    hk_dmap_map_build(&id, &stamp, 2, packed, page);
    assert_golden("dmap_map.bin", page, sizeof(page));
    memcpy(page, file_bytes, sizeof(page));
    load.sequence = 1003;
    assert_int_equal(hk_dmap_load_map(page, &id, 2, &load, back), HK_DMAP_PAGE_WHOLE);
    assert_memory_equal(back, packed, sizeof(packed));
    assert_int_equal(load.map_seen, 78);
    assert_int_equal(load.relied, HK_CEILING_STEP_BYTES + 704);
    assert_int_equal(load.ordinal, 2);
}

/* Bitmaps of one bit a region, as the capture core keeps them, and the packed form. */
static void test_dmap_pack(void **state)
{
    static uint64_t stale[HK_DMAP_PAGE_REGIONS / 64], spooled[HK_DMAP_PAGE_REGIONS / 64];
    static uint64_t again[2][HK_DMAP_PAGE_REGIONS / 64];
    static uint8_t packed[HK_DMAP_PAGE_STATES];

    for (uint32_t n = 0; n < HK_DMAP_PAGE_REGIONS; n++) {
        stale[n / 64] |= (uint64_t)(n % 11 == 0) << n % 64;
        spooled[n / 64] |= (uint64_t)(n % 6 == 0) << n % 64;
    }
    hk_dmap_pack(stale, spooled, packed);
    for (uint32_t n = 0; n < HK_DMAP_PAGE_REGIONS; n++)
        assert_int_equal(hk_dmap_state_get(packed, n), n % 11 == 0  ? HK_DMAP_STALE
                                                       : n % 6 == 0 ? HK_DMAP_SPOOLED
                                                                    : HK_DMAP_CLEAN);
    memset(again, 0xff, sizeof(again));
    hk_dmap_unpack(packed, again[0], again[1]);
    assert_memory_equal(again[0], stale, sizeof(stale));
    for (uint32_t i = 0; i < HK_ARRAY_SIZE(stale); i++)
        assert_true(again[1][i] == (spooled[i] & ~stale[i]));
}

/* make.py --check refuses surplus files; here none may be left without a look. */
static void test_all_files_seen(void **state)
{
    print_message("# golden files compared: %u\n", files_compared);
    assert_int_equal(files_compared, 36);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),        cmocka_unit_test(test_frames_data),
        cmocka_unit_test(test_frames_ack),     cmocka_unit_test(test_frame_ping),
        cmocka_unit_test(test_history),        cmocka_unit_test(test_segment),
        cmocka_unit_test(test_supers),         cmocka_unit_test(test_dmap_log),
        cmocka_unit_test(test_dmap_map),       cmocka_unit_test(test_dmap_pack),
        cmocka_unit_test(test_all_files_seen),
    };

    return cmocka_run_group_tests_name("proto_golden", tests, NULL, NULL);
}
