/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every check of every parser of proto refuses what it is there to refuse, under its own
 * name, and leaves its outputs untouched. For proto this is "every error path by failing".
 * Method: tables. Each row damages one field of a sound structure (proto_samples.h), renews the
 * hashes where the check lies behind them, and names the fault that must come out. The unchanged
 * structure passes first, so that a row can't fail for a reason of its own. The number of rows is
 * printed and may only grow; every fault code of every enum must have been seen.
 *
 * Disk structures are in test_proto_faults_disk.c.
 */
#include "unit.h"

#include "proto_faults.h"
#include "proto_samples.h"

#include <errno.h>

/* One less row than this, and a check has lost its test. */
enum { POINTS_MIN = 359 };

#define U64_MAX UINT64_MAX

/* ---- records ---- */

static uint32_t record_faults_seen;

#define REC(field) FIELD(struct hk_record, field)

static const struct fault_row record_any[] = {
    {"magic", REC(magic), 0x31524b49, .expect = HK_RECORD_BAD_MAGIC},
    {"magic zero", REC(magic), 0, true, HK_RECORD_BAD_MAGIC},
    {"lsn without hash", REC(lsn), 8192, false, HK_RECORD_BAD_HASH},
    {"time without hash", REC(time_ns), 2, false, HK_RECORD_BAD_HASH},
    {"offset without hash", REC(offset), 1, false, HK_RECORD_BAD_HASH},
    {"length without hash", REC(length), 1, false, HK_RECORD_BAD_HASH},
    {"payload_len without hash", REC(payload_len), 7, false, HK_RECORD_BAD_HASH},
    {"epoch without hash", REC(epoch), 3, false, HK_RECORD_BAD_HASH},
    {"volume without hash", REC(volume), 9, false, HK_RECORD_BAD_HASH},
    {"type without hash", REC(type), 0, false, HK_RECORD_BAD_HASH},
    {"flags without hash", REC(flags), 0x80, false, HK_RECORD_BAD_HASH},
    {"prev_bytes without hash", REC(prev_bytes), 640, false, HK_RECORD_BAD_HASH},
    {"payload_hash without hash", REC(payload_hash), 12345, false, HK_RECORD_BAD_HASH},
    {"header_hash", REC(header_hash), 0, false, HK_RECORD_BAD_HASH},
    {"lsn elsewhere", REC(lsn), 8192, true, HK_RECORD_BAD_LSN},
    {"lsn zero", REC(lsn), 0, true, HK_RECORD_BAD_LSN},
    {"epoch after", REC(epoch), 2, true, HK_RECORD_BAD_EPOCH},
    {"epoch zero", REC(epoch), 0, true, HK_RECORD_BAD_EPOCH},
    {"type zero", REC(type), 0, true, HK_RECORD_BAD_TYPE},
    {"type beyond the last", REC(type), 16, true, HK_RECORD_BAD_TYPE},
    {"type 255", REC(type), 255, true, HK_RECORD_BAD_TYPE},
    {"flags next bit", REC(flags), 2, true, HK_RECORD_BAD_FLAGS},
    {"flags top bit", REC(flags), 0x80, true, HK_RECORD_BAD_FLAGS},
    {"payload over the limit", REC(payload_len), HK_PAYLOAD_BYTES_MAX + 1, true,
     HK_RECORD_BAD_LENGTH},
    {"payload 4 GiB - 1", REC(payload_len), UINT32_MAX, true, HK_RECORD_BAD_LENGTH},
    {"prev_bytes unaligned", REC(prev_bytes), 100, true, HK_RECORD_BAD_LENGTH},
    {"prev_bytes over the limit", REC(prev_bytes), HK_RECORD_BYTES_MAX + 64, true,
     HK_RECORD_BAD_LENGTH},
    {"prev_bytes before LSN 0", REC(prev_bytes), 4096 + 64, true, HK_RECORD_BAD_LENGTH},
    {"volume 64", REC(volume), HK_VOLUMES_MAX, true, HK_RECORD_BAD_VOLUME},
    {"volume 65535", REC(volume), 65535, true, HK_RECORD_BAD_VOLUME},
};

/* length and payload_len per type, as SPEC.md §3.3 has them. */
static const struct {
    uint8_t type;
    uint32_t length, payload_len;
    bool ok;
} record_lengths[] = {
    {HK_REC_WRITE, 1, 1, true},
    {HK_REC_WRITE, HK_PAYLOAD_BYTES_MAX, HK_PAYLOAD_BYTES_MAX, true},
    {HK_REC_WRITE, 0, 0, false},
    {HK_REC_WRITE, 512, 0, false},
    {HK_REC_WRITE, 512, 511, false},
    {HK_REC_WRITE, 512, 513, false},
    {HK_REC_WRITE, HK_PAYLOAD_BYTES_MAX + 1, HK_PAYLOAD_BYTES_MAX + 1, false},
    {HK_REC_BLOCK, 512, 512, true},
    {HK_REC_BLOCK, 0, 0, false},
    {HK_REC_BLOCK, 512, 0, false},
    {HK_REC_ZEROES, 1, 0, true},
    {HK_REC_ZEROES, UINT32_MAX, 0, true},
    {HK_REC_ZEROES, 0, 0, false},
    {HK_REC_ZEROES, 512, 512, false},
    {HK_REC_DISCARD, 512, 0, true},
    {HK_REC_DISCARD, 0, 0, false},
    {HK_REC_DISCARD, 512, 1, false},
    {HK_REC_BAD_RANGE, 512, 0, true},
    {HK_REC_BAD_RANGE, 0, 0, false},
    {HK_REC_BAD_RANGE, 512, 64, false},
    {HK_REC_FLUSH, 0, 0, true},
    {HK_REC_FLUSH, 1, 0, false},
    {HK_REC_FLUSH, 0, 1, false},
    {HK_REC_MARK, 0, 128, true},
    {HK_REC_MARK, 0, 127, false},
    {HK_REC_MARK, 0, 129, false},
    {HK_REC_MARK, 128, 128, false},
    {HK_REC_GAP, 0, 64, true},
    {HK_REC_GAP, 0, 0, false},
    {HK_REC_GAP, 0, 128, false},
    {HK_REC_GAP, 1, 64, false},
    {HK_REC_MODE, 0, 64, true},
    {HK_REC_MODE, 0, 63, false},
    {HK_REC_MODE, 0, 65, false},
    {HK_REC_MODE, 1, 64, false},
    {HK_REC_VOID, 0, 0, true},
    {HK_REC_VOID, 77, 4096, true},
    {HK_REC_VOID, 0, HK_PAYLOAD_BYTES_MAX, true},
    {HK_REC_VOID, 0, HK_PAYLOAD_BYTES_MAX + 1, false},
    {HK_REC_RESYNC_BEGIN, 0, 64, true},
    {HK_REC_RESYNC_BEGIN, 0, 63, false},
    {HK_REC_RESYNC_BEGIN, 0, 65, false},
    {HK_REC_RESYNC_BEGIN, 1, 64, false},
    {HK_REC_RESYNC_END, 0, 64, true},
    {HK_REC_RESYNC_END, 0, 0, false},
    {HK_REC_RESYNC_END, 0, 128, false},
    {HK_REC_RESYNC_END, 1, 64, false},
    {HK_REC_JOIN, 0, 4096, true},
    {HK_REC_JOIN, 0, 4097, false},
    {HK_REC_JOIN, 1, 0, false},
    {HK_REC_LEAVE, 0, 4096, true},
    {HK_REC_LEAVE, 0, 4097, false},
    {HK_REC_LEAVE, 1, 0, false},
    {HK_REC_RESIZE, 0, 512, true},
    {HK_REC_RESIZE, 0, 0, false},
    {HK_REC_RESIZE, 0, 504, false},
    {HK_REC_RESIZE, 1, 512, false},
};

static enum hk_record_fault check_record(const struct hk_record *r, uint64_t expected)
{
    enum hk_record_fault f = hk_record_check(r, HK_LSN(expected), 1, sample_seed(ID_EPOCH1));

    record_faults_seen |= 1u << f;
    return f;
}

static struct hk_record plain_record(uint8_t type, uint32_t length, uint32_t payload_len)
{
    return (struct hk_record){.lsn = HK_LSN_FIRST,
                              .time_ns = 1,
                              .length = length,
                              .payload_len = payload_len,
                              .epoch = 1,
                              .type = type,
                              .magic = HK_RECORD_MAGIC};
}

static void reseal_record(void *bytes)
{
    struct hk_record *r = bytes;

    r->header_hash = hk_record_header_hash(r, sample_seed(ID_EPOCH1));
}

static void test_record_fields(void **state)
{
    struct hk_record sound = plain_record(HK_REC_WRITE, 4096, 4096);

    sound.payload_hash = 99;
    reseal_record(&sound);
    assert_int_equal(check_record(&sound, HK_LSN_FIRST), HK_RECORD_OK);
    for (size_t i = 0; i < HK_ARRAY_SIZE(record_any); i++) {
        struct hk_record r = sound;

        fault_inject(&record_any[i], &r, reseal_record);
        fault_expect(&record_any[i], check_record(&r, HK_LSN_FIRST));
    }
}

static void test_record_lengths(void **state)
{
    for (size_t i = 0; i < HK_ARRAY_SIZE(record_lengths); i++) {
        struct hk_record r = plain_record(record_lengths[i].type, record_lengths[i].length,
                                          record_lengths[i].payload_len);
        enum hk_record_fault expect = record_lengths[i].ok ? HK_RECORD_OK : HK_RECORD_BAD_LENGTH;

        reseal_record(&r);
        if (!record_lengths[i].ok)
            fault_points++;
        if (check_record(&r, HK_LSN_FIRST) != expect)
            fail_msg("record_lengths[%zu] (%s)", i, hk_record_type_text(r.type));
    }
}

static void test_record_positions(void **state)
{
    static const struct {
        uint64_t lsn;
        bool ok;
    } at[] = {
        {64, true},
        {U64_MAX - HK_RECORD_BYTES_MAX - 63, true}, /* the highest multiple of 64 that fits */
        {U64_MAX - HK_RECORD_BYTES_MAX + 1, false},
        {U64_MAX - 63, false},
        {0, false},
        {1, false},
        {4096 + 32, false},
        {4096 + 63, false},
    };

    for (size_t i = 0; i < HK_ARRAY_SIZE(at); i++) {
        struct hk_record r = plain_record(HK_REC_FLUSH, 0, 0);

        r.lsn = at[i].lsn;
        reseal_record(&r);
        if (!at[i].ok)
            fault_points++;
        assert_int_equal(check_record(&r, at[i].lsn), at[i].ok ? HK_RECORD_OK : HK_RECORD_BAD_LSN);
    }
}

static void test_record_ranges(void **state)
{
    struct hk_record r = plain_record(HK_REC_ZEROES, 512, 0);

    r.offset = U64_MAX - 512;
    reseal_record(&r);
    assert_int_equal(check_record(&r, HK_LSN_FIRST), HK_RECORD_OK);
    r.offset = U64_MAX - 511;
    reseal_record(&r);
    fault_points++;
    assert_int_equal(check_record(&r, HK_LSN_FIRST), HK_RECORD_BAD_LENGTH);

    /* A gap opens its epoch, so nothing can stand before it. */
    r = plain_record(HK_REC_GAP, 0, 64);
    r.prev_bytes = 64;
    reseal_record(&r);
    fault_points++;
    assert_int_equal(check_record(&r, HK_LSN_FIRST), HK_RECORD_BAD_LENGTH);

    r = plain_record(HK_REC_FLUSH, 0, 0);
    r.prev_bytes = HK_LSN_FIRST; /* the record before may begin at LSN 0, not before it */
    reseal_record(&r);
    assert_int_equal(check_record(&r, HK_LSN_FIRST), HK_RECORD_OK);
    r.payload_hash = 1;
    reseal_record(&r);
    fault_points++;
    assert_int_equal(check_record(&r, HK_LSN_FIRST), HK_RECORD_BAD_PAYLOAD);

    /* The same header under another epoch id, though the ordinal is the same. */
    r = plain_record(HK_REC_FLUSH, 0, 0);
    reseal_record(&r);
    fault_points++;
    assert_int_equal(hk_record_check(&r, HK_LSN(HK_LSN_FIRST), 1, sample_seed(ID_EPOCH2)),
                     HK_RECORD_BAD_HASH);
    /* An expectation of ordinal 0 is never met. */
    r.epoch = 0;
    reseal_record(&r);
    fault_points++;
    assert_int_equal(hk_record_check(&r, HK_LSN(HK_LSN_FIRST), 0, sample_seed(ID_EPOCH1)),
                     HK_RECORD_BAD_EPOCH);
}

/* ---- payloads of group records ---- */

enum { PAYLOAD_LSN = 16384 };

#define MARK(field)          FIELD(struct hk_mark, field)
#define GAP(field)           FIELD(struct hk_gap, field)
#define MODE(field)          FIELD(struct hk_mode_change, field)
#define BEGIN(field)         FIELD(struct hk_resync_begin, field)
#define END(field)           FIELD(struct hk_resync_end, field)
#define BYTE(type, field, i) offsetof(type, field) + (i), 1

static const struct fault_row mark_rows[] = {
    {"name empty", BYTE(struct hk_mark, name, 0), 0, true, HK_RECORD_BAD_CONTENT},
    {"name with slash", BYTE(struct hk_mark, name, 0), '/', true, HK_RECORD_BAD_CONTENT},
    {"name with space", BYTE(struct hk_mark, name, 1), ' ', true, HK_RECORD_BAD_CONTENT},
    {"byte behind the name", BYTE(struct hk_mark, name, 63), 'x', true, HK_RECORD_BAD_CONTENT},
    {"kind 2", MARK(kind), 2, true, HK_RECORD_BAD_CONTENT},
    {"reserved0", MARK(reserved0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved1 first", BYTE(struct hk_mark, reserved1, 0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved1 last", BYTE(struct hk_mark, reserved1, 47), 1, true, HK_RECORD_BAD_CONTENT},
    {"payload hash", BYTE(struct hk_mark, name, 0), 'x', false, HK_RECORD_BAD_PAYLOAD},
};

static const struct fault_row gap_rows[] = {
    {"last_durable beyond the start", GAP(last_durable), PAYLOAD_LSN + 64, true,
     HK_RECORD_BAD_CONTENT},
    {"last_durable unaligned", GAP(last_durable), 65, true, HK_RECORD_BAD_CONTENT},
    {"new_start elsewhere", GAP(new_start), PAYLOAD_LSN + 64, true, HK_RECORD_BAD_CONTENT},
    {"reason none", GAP(reason), 0, true, HK_RECORD_BAD_CONTENT},
    {"reason create", GAP(reason), HK_EPOCH_CREATE, true, HK_RECORD_BAD_CONTENT},
    {"reason beyond the last", GAP(reason), 7, true, HK_RECORD_BAD_CONTENT},
    {"reserved0", GAP(reserved0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved1 first", BYTE(struct hk_gap, reserved1, 0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved1 last", BYTE(struct hk_gap, reserved1, 23), 1, true, HK_RECORD_BAD_CONTENT},
    {"payload hash", GAP(reason), 3, false, HK_RECORD_BAD_PAYLOAD},
};

static const struct fault_row mode_rows[] = {
    {"mode none", MODE(mode), 0, true, HK_RECORD_BAD_CONTENT},
    {"mode beyond the last", MODE(mode), 4, true, HK_RECORD_BAD_CONTENT},
    {"on_link_loss none", MODE(on_link_loss), 0, true, HK_RECORD_BAD_CONTENT},
    {"on_link_loss beyond the last", MODE(on_link_loss), 3, true, HK_RECORD_BAD_CONTENT},
    {"T zero", MODE(contact_timeout_ns), 0, true, HK_RECORD_BAD_CONTENT},
    {"reserved first", BYTE(struct hk_mode_change, reserved, 0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved last", BYTE(struct hk_mode_change, reserved, 47), 1, true, HK_RECORD_BAD_CONTENT},
    {"payload hash", MODE(mode), 1, false, HK_RECORD_BAD_PAYLOAD},
};

static const struct fault_row begin_rows[] = {
    {"pass 0", BEGIN(pass), 0, true, HK_RECORD_BAD_CONTENT},
    {"reason none", BEGIN(reason), 0, true, HK_RECORD_BAD_CONTENT},
    {"reason beyond the last", BEGIN(reason), HK_RESYNC_ASKED + 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved0", BEGIN(reserved0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved1 first", BYTE(struct hk_resync_begin, reserved1, 0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved1 last", BYTE(struct hk_resync_begin, reserved1, 39), 1, true, HK_RECORD_BAD_CONTENT},
    {"payload hash", BEGIN(pass), 4, false, HK_RECORD_BAD_PAYLOAD},
};

static const struct fault_row end_rows[] = {
    {"pass 0", END(pass), 0, true, HK_RECORD_BAD_CONTENT},
    {"begins nowhere", END(begin_lsn), 0, true, HK_RECORD_BAD_CONTENT},
    {"begins at its own end", END(begin_lsn), PAYLOAD_LSN, true, HK_RECORD_BAD_CONTENT},
    {"begins between records", END(begin_lsn), HK_LSN_FIRST + 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved first", BYTE(struct hk_resync_end, reserved, 0), 1, true, HK_RECORD_BAD_CONTENT},
    {"reserved last", BYTE(struct hk_resync_end, reserved, 47), 1, true, HK_RECORD_BAD_CONTENT},
    {"payload hash", END(pass), 4, false, HK_RECORD_BAD_PAYLOAD},
};

static void check_payload_rows(uint8_t type, const struct fault_row *rows, size_t count)
{
    const struct sample_step step = {type, false, 0};
    uint8_t sound[256], damaged[256];
    struct hk_record r;

    sample_record(&step, PAYLOAD_LSN, 0, 1, 0, sound);
    memcpy(&r, sound, sizeof(r));
    assert_int_equal(hk_record_check_payload(&r, sound + sizeof(r)), HK_RECORD_OK);
    for (size_t i = 0; i < count; i++) {
        enum hk_record_fault f;

        memcpy(damaged, sound, sizeof(damaged));
        memcpy(&r, sound, sizeof(r));
        fault_inject(&rows[i], damaged + sizeof(r), NULL);
        if (rows[i].reseal)
            r.payload_hash = hk_xxh64(damaged + sizeof(r), r.payload_len, 0);
        f = hk_record_check_payload(&r, damaged + sizeof(r));
        record_faults_seen |= 1u << f;
        fault_expect(&rows[i], (int)f);
    }
}

static void test_record_payloads(void **state)
{
    uint8_t sound[256];
    const struct sample_step gap = {HK_REC_GAP, false, 0};
    const struct sample_step flush = {HK_REC_FLUSH, false, 0};
    struct hk_record r;

    check_payload_rows(HK_REC_MARK, mark_rows, HK_ARRAY_SIZE(mark_rows));
    check_payload_rows(HK_REC_GAP, gap_rows, HK_ARRAY_SIZE(gap_rows));
    check_payload_rows(HK_REC_MODE, mode_rows, HK_ARRAY_SIZE(mode_rows));
    check_payload_rows(HK_REC_RESYNC_BEGIN, begin_rows, HK_ARRAY_SIZE(begin_rows));
    check_payload_rows(HK_REC_RESYNC_END, end_rows, HK_ARRAY_SIZE(end_rows));

    sample_record(&gap, PAYLOAD_LSN, 0, 1, 0, sound);
    memcpy(&r, sound, sizeof(r));
    memset(sound + sizeof(r), 0, sizeof(struct hk_uuid)); /* from no epoch at all */
    r.payload_hash = hk_xxh64(sound + sizeof(r), r.payload_len, 0);
    fault_points++;
    assert_int_equal(hk_record_check_payload(&r, sound + sizeof(r)), HK_RECORD_BAD_CONTENT);

    sample_record(&flush, PAYLOAD_LSN, 0, 1, 0, sound);
    memcpy(&r, sound, sizeof(r));
    assert_int_equal(hk_record_check_payload(&r, NULL), HK_RECORD_OK);
    r.payload_hash = 5;
    fault_points++;
    assert_int_equal(hk_record_check_payload(&r, NULL), HK_RECORD_BAD_PAYLOAD);
}

/* ---- frames ---- */

#define FRAME(field) FIELD(struct hk_frame, field)

static uint32_t frame_faults_seen;

static const struct fault_row data_rows[] = {
    {"version 0", FRAME(version), 0, true, HK_FRAME_BAD_VERSION},
    {"version 2", FRAME(version), 2, true, HK_FRAME_BAD_VERSION},
    {"type 0", FRAME(type), 0, true, HK_FRAME_BAD_TYPE},
    {"type 4", FRAME(type), 4, true, HK_FRAME_BAD_TYPE},
    {"type 255", FRAME(type), 255, true, HK_FRAME_BAD_TYPE},
    {"data at LSN 0", FRAME(lsn), 0, true, HK_FRAME_BAD_LENGTH},
    {"data around the end of LSNs", FRAME(lsn), U64_MAX - 255, true, HK_FRAME_BAD_LENGTH},
    {"span smaller", FRAME(span), 255, true, HK_FRAME_BAD_LENGTH},
    {"span larger", FRAME(span), 257, true, HK_FRAME_BAD_LENGTH},
    {"span zero", FRAME(span), 0, true, HK_FRAME_BAD_LENGTH},
    {"body_len smaller", FRAME(body_len), 255, false, HK_FRAME_BAD_LENGTH},
    {"body_len larger", FRAME(body_len), 257, false, HK_FRAME_BAD_LENGTH},
    {"body_len over the limit", FRAME(body_len), 65535, false, HK_FRAME_BAD_LENGTH},
    {"packet number 0", FRAME(packet_number), 0, true, HK_FRAME_BAD_FIELD},
    {"path 4", FRAME(path), 4, true, HK_FRAME_BAD_FIELD},
    {"path 255", FRAME(path), 255, true, HK_FRAME_BAD_FIELD},
    {"flags", FRAME(flags), 1, true, HK_FRAME_BAD_FIELD},
    {"flags top bit", FRAME(flags), 0x8000, true, HK_FRAME_BAD_FIELD},
    {"tag: header", FRAME(session), 1, false, HK_FRAME_BAD_TAG},
    {"tag: key phase", FRAME(key_phase), 1, false, HK_FRAME_BAD_TAG},
    {"tag: packet number", FRAME(packet_number), 9, false, HK_FRAME_BAD_TAG},
    {"tag: first body byte", 32, 1, 0xee, false, HK_FRAME_BAD_TAG},
    {"tag: last body byte", 32 + 255, 1, 0xee, false, HK_FRAME_BAD_TAG},
    {"tag: its first byte", 32 + 256, 1, 0xee, false, HK_FRAME_BAD_TAG},
    {"tag: its last byte", 32 + 256 + 15, 1, 0xee, false, HK_FRAME_BAD_TAG},
};

static const struct fault_row ack_frame_rows[] = {
    {"ack with an LSN", FRAME(lsn), 64, true, HK_FRAME_BAD_LENGTH},
    {"ack with a span", FRAME(span), 1, true, HK_FRAME_BAD_LENGTH},
    {"ack with a range too few", 32 + offsetof(struct hk_ack, range_count), 2, 1, true,
     HK_FRAME_BAD_LENGTH},
    {"ack with a range too many", 32 + offsetof(struct hk_ack, range_count), 2, 3, true,
     HK_FRAME_BAD_LENGTH},
    {"ack with 65535 ranges", 32 + offsetof(struct hk_ack, range_count), 2, 65535, true,
     HK_FRAME_BAD_LENGTH},
};

static const struct fault_row ping_frame_rows[] = {
    {"ping with an LSN", FRAME(lsn), 64, true, HK_FRAME_BAD_LENGTH},
    {"ping with a span", FRAME(span), 1, true, HK_FRAME_BAD_LENGTH},
    {"ping called data", FRAME(type), HK_FRAME_DATA, true, HK_FRAME_BAD_LENGTH},
};

static uint8_t frame_bytes[HK_FRAME_HEADER_BYTES + HK_FRAME_BODY_MAX + HK_FRAME_TAG_BYTES + 64];

static void reseal_frame(void *bytes)
{
    struct hk_frame f;

    memcpy(&f, bytes, sizeof(f));
    hk_frame_seal_plain(bytes, f.body_len);
}

/* As a receiver goes: clear part, tag, header. The first fault is the verdict. */
static enum hk_frame_fault receive(const void *bytes, size_t len)
{
    struct hk_frame out, untouched;
    enum hk_frame_fault f;

    memset(&out, 0x5a, sizeof(out));
    untouched = out;
    f = hk_frame_check_clear(bytes, len);
    if (f == HK_FRAME_OK)
        f = hk_frame_open_plain(bytes, len);
    if (f == HK_FRAME_OK)
        f = hk_frame_decode(bytes, len, &out);
    if (f != HK_FRAME_OK)
        assert_memory_equal(&out, &untouched, sizeof(out));
    frame_faults_seen |= 1u << f;
    return f;
}

static void check_frame_rows(const void *sound, size_t len, const struct fault_row *rows,
                             size_t count)
{
    assert_int_equal(receive(sound, len), HK_FRAME_OK);
    for (size_t i = 0; i < count; i++) {
        uint8_t damaged[1024];

        assert_true(len <= sizeof(damaged));
        memcpy(damaged, sound, len);
        fault_inject(&rows[i], damaged, reseal_frame);
        fault_expect(&rows[i], (int)receive(damaged, len));
    }
}

static void test_frame_fields(void **state)
{
    struct hk_frame f = sample_frame(HK_FRAME_DATA, 4100, 256);
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX];
    struct hk_ack a = sample_ack(2);
    struct hk_ping p = sample_ping();
    uint8_t body[256];

    sample_fill(body, sizeof(body), 3);
    check_frame_rows(frame_bytes, sample_seal_frame(&f, body, frame_bytes), data_rows,
                     HK_ARRAY_SIZE(data_rows));
    sample_ranges(ranges);
    f = sample_frame(HK_FRAME_ACK, 0, (uint16_t)hk_ack_encode(&a, ranges, body, sizeof(body)));
    check_frame_rows(frame_bytes, sample_seal_frame(&f, body, frame_bytes), ack_frame_rows,
                     HK_ARRAY_SIZE(ack_frame_rows));
    f = sample_frame(HK_FRAME_PING, 0, (uint16_t)hk_ping_encode(&p, body, sizeof(body)));
    check_frame_rows(frame_bytes, sample_seal_frame(&f, body, frame_bytes), ping_frame_rows,
                     HK_ARRAY_SIZE(ping_frame_rows));
}

static void test_frame_lengths(void **state)
{
    struct hk_frame f = sample_frame(HK_FRAME_DATA, 4096, HK_FRAME_BODY_MAX);
    static uint8_t body[HK_FRAME_BODY_MAX];
    struct hk_frame out;
    size_t len;

    len = sample_seal_frame(&f, body, frame_bytes);
    assert_int_equal(receive(frame_bytes, len), HK_FRAME_OK);
    for (size_t cut = 0; cut < HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES; cut++) {
        fault_points++;
        assert_int_equal(receive(frame_bytes, cut), HK_FRAME_SHORT);
        assert_int_equal(hk_frame_open_plain(frame_bytes, cut), HK_FRAME_SHORT);
        assert_int_equal(hk_frame_decode(frame_bytes, cut, &out), HK_FRAME_SHORT);
    }
    for (size_t cut = 48; cut < len; cut += 61) {
        assert_int_equal(receive(frame_bytes, cut), HK_FRAME_BAD_LENGTH);
        assert_int_equal(hk_frame_decode(frame_bytes, cut, &out), HK_FRAME_BAD_LENGTH);
    }
    assert_int_equal(receive(frame_bytes, len - 1), HK_FRAME_BAD_LENGTH);
    assert_int_equal(receive(frame_bytes, len + 1), HK_FRAME_BAD_LENGTH);
    assert_int_equal(hk_frame_open_plain(frame_bytes, len + 1), HK_FRAME_BAD_LENGTH);
    fault_points += 4;

    /* The last LSN there is may be covered, nothing beyond. */
    f = sample_frame(HK_FRAME_DATA, U64_MAX - 100, 100);
    len = sample_seal_frame(&f, body, frame_bytes);
    assert_int_equal(receive(frame_bytes, len), HK_FRAME_OK);
    f = sample_frame(HK_FRAME_DATA, U64_MAX - 99, 100);
    len = sample_seal_frame(&f, body, frame_bytes);
    assert_int_equal(receive(frame_bytes, len), HK_FRAME_BAD_LENGTH);
    fault_points++;

    /* A body of nothing is no data; without ranges an ack is at its shortest. */
    f = sample_frame(HK_FRAME_DATA, 4096, 0);
    len = sample_seal_frame(&f, body, frame_bytes);
    assert_int_equal(len, 48);
    assert_int_equal(receive(frame_bytes, len), HK_FRAME_BAD_LENGTH);
    f = sample_frame(HK_FRAME_ACK, 0, 47);
    len = sample_seal_frame(&f, body, frame_bytes);
    assert_int_equal(receive(frame_bytes, len), HK_FRAME_BAD_LENGTH);
    f = sample_frame(HK_FRAME_PING, 0, 49);
    len = sample_seal_frame(&f, body, frame_bytes);
    assert_int_equal(receive(frame_bytes, len), HK_FRAME_BAD_LENGTH);
    fault_points += 3;
}

/* ---- acks and pings ---- */

static void ack_refused(const struct hk_ack *a, const struct hk_pn_range *ranges)
{
    struct hk_pn_range out_ranges[HK_ACK_RANGES_MAX], clean_ranges[HK_ACK_RANGES_MAX];
    uint8_t body[1024], before[1024];
    struct hk_ack out, untouched;
    size_t len = sizeof(*a) + a->range_count * sizeof(*ranges);

    memset(body, 0x5a, sizeof(body));
    memcpy(before, body, sizeof(body));
    assert_int_equal(hk_ack_encode(a, ranges, body, sizeof(body)), -EINVAL);
    assert_memory_equal(body, before, sizeof(body));
    if (a->range_count > HK_ACK_RANGES_MAX)
        len = sizeof(body);
    memcpy(body, a, sizeof(*a));
    memcpy(body + sizeof(*a), ranges, (len - sizeof(*a)) & ~(size_t)15);
    memset(&out, 0x5a, sizeof(out));
    memset(out_ranges, 0x5a, sizeof(out_ranges));
    untouched = out;
    memcpy(clean_ranges, out_ranges, sizeof(out_ranges));
    assert_int_equal(hk_ack_decode(body, len, &out, out_ranges), -EINVAL);
    assert_memory_equal(&out, &untouched, sizeof(out));
    assert_memory_equal(out_ranges, clean_ranges, sizeof(out_ranges));
    fault_points += 2;
}

static void test_ack_faults(void **state)
{
    struct hk_pn_range sound[64], ranges[64];
    struct hk_ack a;
    uint8_t body[1024];

    memset(sound, 0, sizeof(sound));
    sample_ranges(sound);
    memcpy(ranges, sound, sizeof(ranges));

    a = sample_ack(HK_ACK_RANGES_MAX + 1);
    ack_refused(&a, ranges);
    a = sample_ack(1);
    a.flags = HK_ACK_FROZEN << 1;
    ack_refused(&a, ranges);
    a = sample_ack(1);
    a.applied = a.durable + 64;
    ack_refused(&a, ranges);
    a = sample_ack(1);
    a.durable = a.acked + 64;
    ack_refused(&a, ranges);
    a = sample_ack(2);
    ranges[1].first = 0; /* packet numbers begin at 1 */
    ack_refused(&a, ranges);
    ranges[1] = (struct hk_pn_range){12, 11};
    ack_refused(&a, ranges);
    ranges[1] = (struct hk_pn_range){990, 1000}; /* touches the newer one */
    ack_refused(&a, ranges);
    ranges[1] = (struct hk_pn_range){2000, 2001}; /* newer behind older */
    ack_refused(&a, ranges);
    ranges[1] = (struct hk_pn_range){990, 999}; /* a neighbour is disjoint */
    assert_int_equal(hk_ack_encode(&a, ranges, body, sizeof(body)), 48 + 32);

    a.applied = a.durable = a.acked; /* all caught up */
    assert_int_equal(hk_ack_encode(&a, ranges, body, sizeof(body)), 48 + 32);

    /* Room: one byte too little. */
    a = sample_ack(2);
    assert_int_equal(hk_ack_encode(&a, sound, body, 48 + 31), -EINVAL);
    a = sample_ack(0);
    assert_int_equal(hk_ack_encode(&a, NULL, body, 47), -EINVAL);
    assert_int_equal(hk_ack_encode(&a, NULL, body, 48), 48);
    fault_points += 2;
}

static void test_ack_body_lengths(void **state)
{
    struct hk_pn_range ranges[HK_ACK_RANGES_MAX], out_ranges[HK_ACK_RANGES_MAX];
    struct hk_ack a = sample_ack(2), out;
    uint8_t body[128];
    int len;

    sample_ranges(ranges);
    len = hk_ack_encode(&a, ranges, body, sizeof(body));
    assert_int_equal(len, 80);
    for (size_t n = 0; n <= sizeof(body); n++) {
        int expect = n == (size_t)len ? 0 : -EINVAL;

        if (expect)
            fault_points++;
        assert_int_equal(hk_ack_decode(body, n, &out, out_ranges), expect);
    }
}

static void test_ping_faults(void **state)
{
    struct hk_ping p = sample_ping(), out, untouched;
    uint8_t body[64];

    memset(&out, 0x5a, sizeof(out));
    untouched = out;
    assert_int_equal(hk_ping_encode(&p, body, 47), -EINVAL);
    assert_int_equal(hk_ping_encode(&p, body, sizeof(body)), 48);
    assert_int_equal(hk_ping_decode(body, 47, &out), -EINVAL);
    assert_int_equal(hk_ping_decode(body, 49, &out), -EINVAL);
    p.produced = p.ceiling + 1;
    assert_int_equal(hk_ping_encode(&p, body, sizeof(body)), -EINVAL);
    memcpy(body, &p, sizeof(p));
    assert_int_equal(hk_ping_decode(body, 48, &out), -EINVAL);
    assert_memory_equal(&out, &untouched, sizeof(out));
    p.produced = p.ceiling;
    assert_int_equal(hk_ping_encode(&p, body, sizeof(body)), 48);
    fault_points += 5;
}

/* What only a walk can tell: the record does not stand behind the one before it. */
static void test_out_of_line(void **state)
{
    struct hk_record r = {.prev_bytes = 576};

    assert_int_equal(hk_record_follows(&r, 576), HK_RECORD_OK);
    assert_int_equal(hk_record_follows(&r, HK_PREV_UNKNOWN), HK_RECORD_OK);
    assert_int_equal(hk_record_follows(&r, 0), HK_RECORD_BAD_PREV);
    assert_int_equal(hk_record_follows(&r, 640), HK_RECORD_BAD_PREV);
    record_faults_seen |= 1u << HK_RECORD_BAD_PREV;
    fault_points += 2;
}

/* ---- the count ---- */

static void test_every_fault_seen(void **state)
{
    uint32_t all_records = (1u << HK_RECORD_FAULTS) - 1;
    /* BAD_SESSION is the group's verdict: proto does not know which session is the present one. */
    uint32_t all_frames = ((1u << HK_FRAME_FAULTS) - 1) & ~(1u << HK_FRAME_BAD_SESSION);

    assert_int_equal(record_faults_seen, all_records);
    assert_int_equal(frame_faults_seen, all_frames);
    print_message("# injected points: %u (at least %u)\n", fault_points, (unsigned)POINTS_MIN);
    assert_true(fault_points >= POINTS_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_fields),    cmocka_unit_test(test_record_lengths),
        cmocka_unit_test(test_record_positions), cmocka_unit_test(test_record_ranges),
        cmocka_unit_test(test_record_payloads),  cmocka_unit_test(test_frame_fields),
        cmocka_unit_test(test_frame_lengths),    cmocka_unit_test(test_ack_faults),
        cmocka_unit_test(test_ack_body_lengths), cmocka_unit_test(test_ping_faults),
        cmocka_unit_test(test_out_of_line),      cmocka_unit_test(test_every_fault_seen),
    };

    return cmocka_run_group_tests_name("proto_faults", tests, NULL, NULL);
}
