/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal and method as test_proto_faults.c, for what lies on disks: segment and batch headers,
 * segment names, histories, superblocks and the choice between two of them.
 */
#include "unit.h"

#include "proto_faults.h"
#include "proto_samples.h"

#include <errno.h>

/* One less row than this, and a check has lost its test. */
enum { POINTS_MIN = 200 };

#define BYTE(type, field, i) offsetof(type, field) + (i), 1

/* ---- segment and batch headers ---- */

#define SEG(field) FIELD(struct hk_segment_header, field)
#define BAT(field) FIELD(struct hk_batch_header, field)

static uint32_t segment_faults_seen;

static const struct fault_row segment_rows[] = {
    {"magic", SEG(magic), HK_BATCH_MAGIC, true, HK_SEGMENT_BAD_MAGIC},
    {"magic zero", SEG(magic), 0, true, HK_SEGMENT_BAD_MAGIC},
    {"version 0", SEG(version), 0, true, HK_SEGMENT_BAD_VERSION},
    {"version 2", SEG(version), 2, true, HK_SEGMENT_BAD_VERSION},
    {"hash", SEG(hash), 1, false, HK_SEGMENT_BAD_HASH},
    {"ordinal without hash", SEG(epoch_ordinal), 2, false, HK_SEGMENT_BAD_HASH},
    {"group without hash", BYTE(struct hk_segment_header, group_id, 3), 1, false,
     HK_SEGMENT_BAD_HASH},
    {"epoch (and so the seed) without hash", BYTE(struct hk_segment_header, epoch_id, 0), 1, false,
     HK_SEGMENT_BAD_HASH},
    {"replica without hash", BYTE(struct hk_segment_header, replica_id, 15), 1, false,
     HK_SEGMENT_BAD_HASH},
    {"first_lsn without hash", SEG(first_lsn), 8192, false, HK_SEGMENT_BAD_HASH},
    {"size without hash", SEG(segment_bytes), 65536, false, HK_SEGMENT_BAD_HASH},
    {"reserved without hash", BYTE(struct hk_segment_header, reserved, 7), 1, false,
     HK_SEGMENT_BAD_HASH},
    {"ordinal zero", SEG(epoch_ordinal), 0, true, HK_SEGMENT_BAD_FIELD},
    {"first_lsn zero", SEG(first_lsn), 0, true, HK_SEGMENT_BAD_FIELD},
    {"first_lsn unaligned", SEG(first_lsn), 4097, true, HK_SEGMENT_BAD_FIELD},
    {"size unaligned", SEG(segment_bytes), 32769, true, HK_SEGMENT_BAD_FIELD},
    {"size without room for a batch", SEG(segment_bytes), 8192, true, HK_SEGMENT_BAD_FIELD},
    {"size zero", SEG(segment_bytes), 0, true, HK_SEGMENT_BAD_FIELD},
    {"unknown flag", BYTE(struct hk_segment_header, flags, 0), 2, true, HK_SEGMENT_BAD_FIELD},
    {"reserved first", BYTE(struct hk_segment_header, reserved, 0), 1, true, HK_SEGMENT_BAD_FIELD},
    {"reserved last", BYTE(struct hk_segment_header, reserved, 3999), 1, true,
     HK_SEGMENT_BAD_FIELD},
};

static const struct fault_row batch_rows[] = {
    {"magic", BAT(magic), HK_SEGMENT_MAGIC, true, HK_SEGMENT_BAD_MAGIC},
    {"magic zero", BAT(magic), 0, true, HK_SEGMENT_BAD_MAGIC},
    {"version 0", BAT(version), 0, true, HK_SEGMENT_BAD_VERSION},
    {"version 2", BAT(version), 2, true, HK_SEGMENT_BAD_VERSION},
    {"hash", BAT(hash), 1, false, HK_SEGMENT_BAD_HASH},
    {"ordinal without hash", BAT(epoch_ordinal), 2, false, HK_SEGMENT_BAD_HASH},
    {"epoch without hash", BYTE(struct hk_batch_header, epoch_id, 9), 1, false,
     HK_SEGMENT_BAD_HASH},
    {"first_lsn without hash", BAT(first_lsn), 8192, false, HK_SEGMENT_BAD_HASH},
    {"bytes without hash", BAT(bytes), 64, false, HK_SEGMENT_BAD_HASH},
    {"durable without hash", BAT(durable), 64, false, HK_SEGMENT_BAD_HASH},
    {"data_hash without hash", BAT(data_hash), 1, false, HK_SEGMENT_BAD_HASH},
    {"reserved without hash", BYTE(struct hk_batch_header, reserved, 7), 1, false,
     HK_SEGMENT_BAD_HASH},
    {"ordinal zero", BAT(epoch_ordinal), 0, true, HK_SEGMENT_BAD_FIELD},
    {"first_lsn zero", BAT(first_lsn), 0, true, HK_SEGMENT_BAD_FIELD},
    {"first_lsn unaligned", BAT(first_lsn), 4100, true, HK_SEGMENT_BAD_FIELD},
    {"first_lsn at the end of LSNs", BAT(first_lsn), UINT64_MAX - HK_BATCH_BYTES_MAX + 1, true,
     HK_SEGMENT_BAD_FIELD},
    {"bytes zero", BAT(bytes), 0, true, HK_SEGMENT_BAD_FIELD},
    {"bytes unaligned", BAT(bytes), 100, true, HK_SEGMENT_BAD_FIELD},
    {"bytes over the limit", BAT(bytes), HK_BATCH_BYTES_MAX + 64, true, HK_SEGMENT_BAD_FIELD},
    {"durable beyond the batch", BAT(durable), HK_LSN_FIRST + 64, true, HK_SEGMENT_BAD_FIELD},
    {"durable unaligned", BAT(durable), 65, true, HK_SEGMENT_BAD_FIELD},
    {"reserved first", BYTE(struct hk_batch_header, reserved, 0), 1, true, HK_SEGMENT_BAD_FIELD},
    {"reserved last", BYTE(struct hk_batch_header, reserved, 4023), 1, true, HK_SEGMENT_BAD_FIELD},
};

/* Hashes only: sealing would refuse (assert on) what is to be injected. */
static void reseal_page(void *page)
{
    struct hk_batch_header *b = page;
    uint64_t seed;

    if (b->magic == HK_BATCH_MAGIC) {
        seed = hk_epoch_seed(&b->epoch_id);
    } else {
        struct hk_segment_header *s = page;

        seed = hk_epoch_seed(&s->epoch_id);
    }
    b->hash = hk_xxh64(page, offsetof(struct hk_batch_header, hash), seed);
}

static void expect_segment(const struct hk_segment_header *h, enum hk_segment_fault expect)
{
    enum hk_segment_fault f = hk_segment_header_check(h);

    segment_faults_seen |= 1u << f;
    assert_int_equal(f, expect);
}

static void test_segment_header(void **state)
{
    struct hk_segment_header sound, h;

    sample_segment(&sound);
    expect_segment(&sound, HK_SEGMENT_OK);
    for (size_t i = 0; i < HK_ARRAY_SIZE(segment_rows); i++) {
        enum hk_segment_fault f;

        h = sound;
        fault_inject(&segment_rows[i], &h, reseal_page);
        f = hk_segment_header_check(&h);
        segment_faults_seen |= 1u << f;
        fault_expect(&segment_rows[i], (int)f);
    }
    for (int id = 0; id < 3; id++) {
        h = sound;
        memset(id == 0 ? &h.group_id : id == 1 ? &h.epoch_id : &h.replica_id, 0, 16);
        reseal_page(&h);
        fault_points++;
        expect_segment(&h, HK_SEGMENT_BAD_FIELD);
    }
    h = sound;
    h.segment_bytes = 12288; /* the smallest: header, batch header, a page */
    reseal_page(&h);
    expect_segment(&h, HK_SEGMENT_OK);
}

static void test_batch_header(void **state)
{
    struct hk_uuid epoch = sample_uuid(ID_EPOCH1), other = sample_uuid(ID_EPOCH2);
    struct hk_batch_header sound, h;
    static uint8_t data[4096];

    sample_batch(&sound, HK_LSN_FIRST, sizeof(data), 0, data);
    assert_int_equal(hk_batch_header_check(&sound, &epoch, HK_LSN_FIRST), HK_SEGMENT_OK);
    assert_int_equal(hk_batch_header_check(&sound, NULL, 0), HK_SEGMENT_OK);
    for (size_t i = 0; i < HK_ARRAY_SIZE(batch_rows); i++) {
        enum hk_segment_fault f;

        h = sound;
        fault_inject(&batch_rows[i], &h, reseal_page);
        f = hk_batch_header_check(&h, NULL, 0);
        segment_faults_seen |= 1u << f;
        fault_expect(&batch_rows[i], (int)f);
    }
    h = sound;
    memset(&h.epoch_id, 0, 16);
    reseal_page(&h);
    assert_int_equal(hk_batch_header_check(&h, NULL, 0), HK_SEGMENT_BAD_FIELD);
    /* Whole, but not what stands here: a leftover. */
    assert_int_equal(hk_batch_header_check(&sound, &other, HK_LSN_FIRST), HK_SEGMENT_FOREIGN);
    assert_int_equal(hk_batch_header_check(&sound, &epoch, 8192), HK_SEGMENT_FOREIGN);
    assert_int_equal(hk_batch_header_check(&sound, NULL, 64), HK_SEGMENT_FOREIGN);
    segment_faults_seen |= 1u << HK_SEGMENT_FOREIGN;
    fault_points += 4;
    /* The limits themselves are inside. */
    h = sound;
    h.bytes = HK_BATCH_BYTES_MAX;
    h.durable = h.first_lsn;
    reseal_page(&h);
    assert_int_equal(hk_batch_header_check(&h, &epoch, HK_LSN_FIRST), HK_SEGMENT_OK);
}

/* ---- segment names ---- */

static const char sound_name[] =
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg";

static const char *const bad_names[] = {
    "",
    ".",
    "..",
    "super",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.se",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.segx",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.SEG",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.tmp",
    "0000000007-A0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-000000040000104A.seg",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-000000040000104g.seg",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001041.seg",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000000000000.seg",
    "0000000007-00000000-0000-0000-0000-000000000000-0000000400001040.seg",
    "0000000007-a0a1a2a3_a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "0000000007_a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf_0000000400001040.seg",
    "0000000000-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "4294967296-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "9999999999-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "000000000a-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "00000000 7-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "+000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0000000400001040.seg",
    "0000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-0x00000400001040.seg",
    "000000007-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf-00000000400001040.seg",
};

static void test_segment_names(void **state)
{
    struct hk_uuid id, epoch = sample_uuid(ID_EPOCH1);
    uint32_t ordinal = 123;
    uint64_t lsn = 456;
    char text[HK_SEGMENT_NAME_BYTES];

    assert_int_equal(hk_segment_name_parse(sound_name, &ordinal, &id, &lsn), 0);
    assert_int_equal(ordinal, 7);
    assert_true(lsn == 0x400001040);
    assert_true(hk_uuid_equal(&id, &epoch));
    hk_segment_name(7, &epoch, 0x400001040, text);
    assert_string_equal(text, sound_name);
    for (size_t i = 0; i < HK_ARRAY_SIZE(bad_names); i++) {
        if (hk_segment_name_parse(bad_names[i], &ordinal, &id, &lsn) != -EINVAL)
            fail_msg("'%s' was accepted", bad_names[i]);
        fault_points++;
    }
    assert_int_equal(ordinal, 7);
    assert_true(lsn == 0x400001040);
    assert_true(hk_uuid_equal(&id, &epoch));
    hk_segment_name(UINT32_MAX, &epoch, UINT64_MAX - 63, text);
    assert_int_equal(hk_segment_name_parse(text, &ordinal, &id, &lsn), 0);
    assert_true(ordinal == UINT32_MAX && lsn == UINT64_MAX - 63);
}

/* ---- histories ---- */

#define HIS(field) FIELD(struct hk_history, field)
#define EP(i, field) \
    offsetof(struct hk_history, epoch[i].field), sizeof(((struct hk_epoch *)0)->field)
#define EPB(i, field) offsetof(struct hk_history, epoch[i].field), 1

static const struct fault_row history_rows[] = {
    {"count over the limit", HIS(count), HK_HISTORY_EPOCHS_MAX + 1, true, -E2BIG},
    {"count 4 Gi - 1", HIS(count), UINT32_MAX, true, -E2BIG},
    {"count one more than there are", HIS(count), 4, true, -EINVAL},
    {"dropped, but the oldest is the first", HIS(dropped), 1, true, -EINVAL},
    {"dropped 4 Gi - 1", HIS(dropped), UINT32_MAX, true, -EINVAL},
    {"first: ordinal 2", EP(0, ordinal), 2, true, -EINVAL},
    {"first: ordinal 0", EP(0, ordinal), 0, true, -EINVAL},
    {"first: reason promote", EP(0, reason), HK_EPOCH_PROMOTE, true, -EINVAL},
    {"first: with a parent", EPB(0, parent), 1, true, -EINVAL},
    {"first: with a parent's end", EP(0, parent_end), 64, true, -EINVAL},
    {"first: LSN 0", EP(0, first_lsn), 0, true, -EINVAL},
    {"first: LSN unaligned", EP(0, first_lsn), 4095, true, -EINVAL},
    {"next: reason none", EP(1, reason), 0, true, -EINVAL},
    {"next: reason create", EP(1, reason), HK_EPOCH_CREATE, true, -EINVAL},
    {"next: reason beyond the last", EP(1, reason), 7, true, -EINVAL},
    {"next: ordinal not risen", EP(1, ordinal), 1, true, -EINVAL},
    {"next: ordinal skipped", EP(1, ordinal), 3, true, -EINVAL},
    {"next: parent is another", EPB(1, parent), 1, true, -EINVAL},
    {"next: parent ends before it began", EP(1, parent_end), HK_LSN_FIRST - 64, true, -EINVAL},
    {"next: parent ends behind the start", EP(1, parent_end), HK_CEILING_STEP_BYTES + 64, true,
     -EINVAL},
    {"next: parent's end unaligned", EP(1, parent_end), 8961, true, -EINVAL},
    {"next: starts before the parent's end", EP(1, first_lsn), 10048, true, -EINVAL},
    {"next: LSN unaligned", EP(1, first_lsn), HK_CEILING_STEP_BYTES + 1, true, -EINVAL},
    {"last: parent is another", EPB(2, parent), 1, true, -EINVAL},
    {"last: ordinal", EP(2, ordinal), 2, true, -EINVAL},
};

static void test_history(void **state)
{
    struct hk_history sound, h;

    sample_history(&sound);
    assert_int_equal(hk_history_check(&sound), 0);
    for (size_t i = 0; i < HK_ARRAY_SIZE(history_rows); i++) {
        h = sound;
        fault_inject(&history_rows[i], &h, NULL);
        fault_expect(&history_rows[i], hk_history_check(&h));
    }
    h = sound;
    memset(&h.epoch[2].id, 0, 16);
    assert_int_equal(hk_history_check(&h), -EINVAL);
    h = sound;
    h.epoch[2].id = h.epoch[0].id; /* one id twice */
    assert_int_equal(hk_history_check(&h), -EINVAL);
    fault_points += 2;
}

static void test_history_append(void **state)
{
    struct hk_uuid a = sample_uuid(1), b = sample_uuid(2), nil = {{0}};
    struct hk_history h = {.count = 0}, before;
    static const struct {
        uint64_t first_lsn, parent_end;
        enum hk_epoch_reason reason;
    } bad[] = {
        {4096, 4096, HK_EPOCH_CREATE},  /* a second creation */
        {4096, 4032, HK_EPOCH_PROMOTE}, /* the parent ends before it began */
        {8192, 8256, HK_EPOCH_PROMOTE}, /* the parent ends behind the start */
        {8200, 8192, HK_EPOCH_PROMOTE}, /* unaligned start */
        {8192, 4100, HK_EPOCH_PROMOTE}, /* unaligned end */
        {8192, 4096, (enum hk_epoch_reason)7},
    };

    /* The first: creation and nothing else. */
    before = h;
    assert_int_equal(hk_history_append(&h, &a, 4096, 0, HK_EPOCH_PROMOTE, 1), -EINVAL);
    assert_int_equal(hk_history_append(&h, &a, 4096, 64, HK_EPOCH_CREATE, 1), -EINVAL);
    assert_int_equal(hk_history_append(&h, &a, 0, 0, HK_EPOCH_CREATE, 1), -EINVAL);
    assert_int_equal(hk_history_append(&h, &nil, 4096, 0, HK_EPOCH_CREATE, 1), -EINVAL);
    assert_memory_equal(&h, &before, sizeof(h));
    assert_int_equal(hk_history_append(&h, &a, 4096, 0, HK_EPOCH_CREATE, 1), 0);
    before = h;
    for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++) {
        assert_int_equal(
            hk_history_append(&h, &b, bad[i].first_lsn, bad[i].parent_end, bad[i].reason, 2),
            -EINVAL);
        assert_memory_equal(&h, &before, sizeof(h));
    }
    assert_int_equal(hk_history_append(&h, &a, 8192, 4096, HK_EPOCH_PROMOTE, 2), -EINVAL);
    assert_memory_equal(&h, &before, sizeof(h));
    fault_points += 5 + HK_ARRAY_SIZE(bad);

    /* Up to the brim, then no further. An epoch in which nothing was written may be left again. */
    for (uint32_t i = 1; i < HK_HISTORY_EPOCHS_MAX; i++) {
        struct hk_uuid id = sample_uuid(3);

        id.b[0] = (uint8_t)i;
        assert_int_equal(hk_history_append(&h, &id, 4096, 4096, HK_EPOCH_GAP_CRASH, i), 0);
        assert_int_equal(h.epoch[i].ordinal, i + 1);
        assert_true(hk_uuid_equal(&h.epoch[i].parent, &h.epoch[i - 1].id));
    }
    /* Full: what does not fit changes nothing, what does drops the oldest. */
    before = h;
    assert_int_equal(hk_history_append(&h, &h.epoch[5].id, 8192, 4096, HK_EPOCH_PROMOTE, 2),
                     -EINVAL);
    assert_memory_equal(&h, &before, sizeof(h));
    fault_points++;
    assert_int_equal(hk_history_append(&h, &b, 8192, 4096, HK_EPOCH_PROMOTE, 2), 0);
    assert_int_equal(h.count, HK_HISTORY_EPOCHS_MAX);
    assert_int_equal(h.dropped, 1);
    assert_memory_equal(&h.epoch[0], &before.epoch[1], 63 * sizeof(h.epoch[0]));
    assert_int_equal(h.epoch[63].ordinal, 65);
    assert_int_equal(hk_history_check(&h), 0);
}

/* ---- superblocks ---- */

#define SUP(field)  FIELD(struct hk_super, field)
#define SUPB(field) offsetof(struct hk_super, field), 1

static uint32_t super_faults_seen;

static const struct fault_row super_rows[] = {
    {"magic", SUP(magic), HK_SEGMENT_MAGIC, true, HK_SUPER_BAD_MAGIC},
    {"magic zero", SUP(magic), 0, true, HK_SUPER_BAD_MAGIC},
    {"version 0", SUP(version), 0, true, HK_SUPER_BAD_VERSION},
    {"version 3 of what grows not", SUP(version), 3, true, HK_SUPER_BAD_FIELD},
    {"version 4", SUP(version), 4, true, HK_SUPER_BAD_VERSION},
    {"ceiling without hash", SUP(ceiling), 64, false, HK_SUPER_BAD_HASH},
    {"flags without hash", SUP(flags), 0, false, HK_SUPER_BAD_HASH},
    {"hash", HK_SUPER_BYTES - 8, 8, 5, false, HK_SUPER_BAD_HASH},
    {"byte before the hash without hash", HK_SUPER_BYTES - 9, 1, 5, false, HK_SUPER_BAD_HASH},
    {"role 0", SUP(role), 0, true, HK_SUPER_BAD_FIELD},
    {"role 3", SUP(role), 3, true, HK_SUPER_BAD_FIELD},
    {"a flag of version 2", SUP(flags), HK_SF_STALE, true, HK_SUPER_BAD_FIELD},
    {"flags next bit", SUP(flags), 1 << 15, true, HK_SUPER_BAD_FIELD},
    {"flags top bit", SUP(flags), 1u << 31, true, HK_SUPER_BAD_FIELD},
    {"mode", SUP(mode), 4, true, HK_SUPER_BAD_FIELD},
    {"on_link_loss", SUP(on_link_loss), 3, true, HK_SUPER_BAD_FIELD},
    {"loss_class", SUP(loss_class), 4, true, HK_SUPER_BAD_FIELD},
    {"group name empty", SUPB(group_name), 0, true, HK_SUPER_BAD_FIELD},
    {"group name with slash", SUPB(group_name), '/', true, HK_SUPER_BAD_FIELD},
    {"group name, byte behind", SUPB(group_name[63]), 'x', true, HK_SUPER_BAD_FIELD},
    {"freeze name bad", SUPB(freeze_name[1]), ' ', true, HK_SUPER_BAD_FIELD},
    {"freeze name, byte behind", SUPB(freeze_name[63]), 'x', true, HK_SUPER_BAD_FIELD},
    {"ceiling unaligned", SUP(ceiling), 1, true, HK_SUPER_BAD_FIELD},
    {"clean_lsn unaligned", SUP(clean_lsn), 2, true, HK_SUPER_BAD_FIELD},
    {"durable_known unaligned", SUP(durable_known), 4, true, HK_SUPER_BAD_FIELD},
    {"applied unaligned", SUP(applied), 8, true, HK_SUPER_BAD_FIELD},
    {"degraded_lsn unaligned", SUP(degraded_lsn), 16, true, HK_SUPER_BAD_FIELD},
    {"mode_lsn unaligned", SUP(mode_lsn), 32, true, HK_SUPER_BAD_FIELD},
    {"freeze_lsn unaligned", SUP(freeze_lsn), 63, true, HK_SUPER_BAD_FIELD},
    {"promote_lsn unaligned", SUP(promote_lsn), 65, true, HK_SUPER_BAD_FIELD},
    {"clean_prev_bytes unaligned", SUP(clean_prev_bytes), 65, true, HK_SUPER_BAD_FIELD},
    {"clean_prev_bytes over the limit", SUP(clean_prev_bytes), HK_RECORD_BYTES_MAX + 64, true,
     HK_SUPER_BAD_FIELD},
    {"region_shift of version 2", SUP(region_shift), 22, true, HK_SUPER_BAD_FIELD},
    {"pin_lsn of version 2", SUP(pin_lsn), 4096, true, HK_SUPER_BAD_FIELD},
    {"pin_ordinal of version 2", SUP(pin_ordinal), 1, true, HK_SUPER_BAD_FIELD},
    {"snapshot_next of version 2", SUP(snapshot_next), 1, true, HK_SUPER_BAD_FIELD},
    {"spooled_lsn of version 2", SUP(spooled_lsn), 64, true, HK_SUPER_BAD_FIELD},
    {"dmap_sequence of version 2", SUP(dmap_sequence), 1, true, HK_SUPER_BAD_FIELD},
    {"interval_count over the limit", SUP(interval_count), 65, true, HK_SUPER_BAD_FIELD},
    {"interval_count 4 Gi - 1", SUP(interval_count), UINT32_MAX, true, HK_SUPER_BAD_FIELD},
    {"interval_count too small: a tail", SUP(interval_count), 1, true, HK_SUPER_BAD_FIELD},
    {"interval_count too large", SUP(interval_count), 3, true, HK_SUPER_BAD_FIELD},
    {"interval from zero", SUP(interval[0].from), 0, true, HK_SUPER_BAD_FIELD},
    {"interval from unaligned", SUP(interval[0].from), 4097, true, HK_SUPER_BAD_FIELD},
    {"interval to unaligned", SUP(interval[0].to), 10113, true, HK_SUPER_BAD_FIELD},
    {"interval backwards", SUP(interval[0].to), 4032, true, HK_SUPER_BAD_FIELD},
    {"interval open before the last", SUP(interval[0].to), 0, true, HK_SUPER_BAD_FIELD},
    {"interval without epoch", SUP(interval[0].epoch_ordinal), 0, true, HK_SUPER_BAD_FIELD},
    {"interval of an earlier epoch", SUP(interval[0].epoch_ordinal), 3, true, HK_SUPER_BAD_FIELD},
    {"interval reserved", SUP(interval[1].reserved), 1, true, HK_SUPER_BAD_FIELD},
    {"interval overlaps", SUP(interval[1].from), 10048, true, HK_SUPER_BAD_FIELD},
    {"interval behind the last", SUP(interval[63].from), 64, true, HK_SUPER_BAD_FIELD},
    {"history count over the limit", SUP(history.count), 65, true, HK_SUPER_BAD_FIELD},
    {"history count too small: a tail", SUP(history.count), 2, true, HK_SUPER_BAD_FIELD},
    {"history chain", SUPB(history.epoch[1].parent), 1, true, HK_SUPER_BAD_FIELD},
    {"history behind the last", SUP(history.epoch[63].reason), 1, true, HK_SUPER_BAD_FIELD},
    {"volume_count over the limit", SUP(volume_count), 65, true, HK_SUPER_BAD_FIELD},
    {"volume_count 4 Gi - 1", SUP(volume_count), UINT32_MAX, true, HK_SUPER_BAD_FIELD},
    {"volume_count too small: a tail", SUP(volume_count), 1, true, HK_SUPER_BAD_FIELD},
    {"volume_count too large", SUP(volume_count), 3, true, HK_SUPER_BAD_FIELD},
    {"volume name empty", SUPB(volume[0].name), 0, true, HK_SUPER_BAD_FIELD},
    {"volume name, byte behind", SUPB(volume[1].name[63]), 'x', true, HK_SUPER_BAD_FIELD},
    {"volume of nothing", SUP(volume[1].bytes), 0, true, HK_SUPER_BAD_FIELD},
    {"volume first_region of version 2", SUP(volume[0].first_region), 1, true, HK_SUPER_BAD_FIELD},
    {"volume room of version 3", SUP(volume[0].room_bytes), 1ull << 41, true, HK_SUPER_BAD_FIELD},
    {"volume room below its size", SUP(volume[0].room_bytes), 4096, true, HK_SUPER_BAD_FIELD},
    {"volume prior of version 3", SUP(volume[1].prior_bytes), 4096, true, HK_SUPER_BAD_FIELD},
    {"volume behind the last", SUP(volume[63].prior_bytes), 1, true, HK_SUPER_BAD_FIELD},
    {"byte behind the fields", sizeof(struct hk_super), 1, 1, true, HK_SUPER_BAD_FIELD},
    {"last byte before the hash", HK_SUPER_BYTES - 9, 1, 1, true, HK_SUPER_BAD_FIELD},
};

static void reseal_slot(void *slot)
{
    uint64_t hash = hk_xxh64(slot, HK_SUPER_BYTES - 8, 0);

    memcpy((uint8_t *)slot + HK_SUPER_BYTES - 8, &hash, 8);
}

static uint8_t slot_sound[HK_SUPER_BYTES] __attribute__((aligned(8)));
static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(8)));

static enum hk_super_fault decode(const void *bytes)
{
    static struct hk_super out, untouched;
    enum hk_super_fault f;

    memset(&out, 0x5a, sizeof(out));
    memset(&untouched, 0x5a, sizeof(untouched));
    f = hk_super_decode(bytes, &out);
    if (f != HK_SUPER_OK)
        assert_memory_equal(&out, &untouched, sizeof(out));
    super_faults_seen |= 1u << f;
    return f;
}

static void test_super_fields(void **state)
{
    struct hk_super s;

    sample_super_standby(&s);
    hk_super_encode(&s, slot_sound);
    assert_int_equal(decode(slot_sound), HK_SUPER_OK);
    for (size_t i = 0; i < HK_ARRAY_SIZE(super_rows); i++) {
        memcpy(slot, slot_sound, sizeof(slot));
        fault_inject(&super_rows[i], slot, reseal_slot);
        fault_expect(&super_rows[i], (int)decode(slot));
    }
}

static void refused_after(void (*damage)(struct hk_super *))
{
    struct hk_super *s = (struct hk_super *)(void *)slot;

    memcpy(slot, slot_sound, sizeof(slot));
    damage(s);
    reseal_slot(slot);
    fault_points++;
    assert_int_equal(decode(slot), HK_SUPER_BAD_FIELD);
}

static void no_group(struct hk_super *s)
{
    memset(&s->group_id, 0, 16);
}

static void no_replica(struct hk_super *s)
{
    memset(&s->replica_id, 0, 16);
}

static void frozen_without_name(struct hk_super *s)
{
    memset(s->freeze_name, 0, HK_NAME_BYTES);
}

static void same_volume_twice(struct hk_super *s)
{
    s->volume[1] = s->volume[0];
}

static void test_super_combinations(void **state)
{
    struct hk_super s, *on_disk = (struct hk_super *)(void *)slot;

    sample_super_standby(&s);
    hk_super_encode(&s, slot_sound);
    refused_after(no_group);
    refused_after(no_replica);
    refused_after(frozen_without_name);
    refused_after(same_volume_twice);

    /* Not frozen: a former freeze's name may stay, and need not. A bad name may not. */
    memcpy(slot, slot_sound, sizeof(slot));
    on_disk->flags &= ~(uint32_t)HK_SF_FROZEN;
    reseal_slot(slot);
    assert_int_equal(decode(slot), HK_SUPER_OK);
    memset(on_disk->freeze_name, 0, HK_NAME_BYTES);
    reseal_slot(slot);
    assert_int_equal(decode(slot), HK_SUPER_OK);
    on_disk->freeze_name[0] = '/';
    reseal_slot(slot);
    fault_points++;
    assert_int_equal(decode(slot), HK_SUPER_BAD_FIELD);

    /* Touching intervals do not overlap. */
    memcpy(slot, slot_sound, sizeof(slot));
    on_disk->interval[1].from = on_disk->interval[0].to;
    reseal_slot(slot);
    assert_int_equal(decode(slot), HK_SUPER_OK);
}

static void test_super_every_byte_is_hashed(void **state)
{
    struct hk_super s;

    sample_super_primary(&s);
    hk_super_encode(&s, slot_sound);
    memcpy(slot, slot_sound, sizeof(slot));
    for (size_t i = 0; i < HK_SUPER_BYTES; i += i < 512 || i > HK_SUPER_BYTES - 64 ? 1 : 97) {
        slot[i] ^= 0x10;
        assert_int_not_equal(decode(slot), HK_SUPER_OK);
        slot[i] ^= 0x10;
    }
    assert_int_equal(decode(slot), HK_SUPER_OK);
}

static void test_super_pick(void **state)
{
    static uint8_t even[HK_SUPER_BYTES] __attribute__((aligned(8)));
    static uint8_t odd[HK_SUPER_BYTES] __attribute__((aligned(8)));
    static uint8_t blank[HK_SUPER_BYTES] __attribute__((aligned(8)));
    static uint8_t broken[HK_SUPER_BYTES] __attribute__((aligned(8)));
    enum hk_super_fault fault[2];
    struct hk_super s, out;

    sample_super_primary(&s);
    s.sequence = 6;
    hk_super_encode(&s, even);
    s.sequence = 7;
    hk_super_encode(&s, odd);
    memcpy(broken, even, sizeof(broken));
    broken[300] ^= 1;

    assert_int_equal(hk_super_pick(even, odd, &out, fault), 0);
    assert_int_equal(out.sequence, 7);
    assert_true(fault[0] == HK_SUPER_OK && fault[1] == HK_SUPER_OK);
    s.sequence = 8;
    hk_super_encode(&s, even);
    assert_int_equal(hk_super_pick(even, odd, &out, NULL), 0);
    assert_int_equal(out.sequence, 8);

    assert_int_equal(hk_super_pick(broken, odd, &out, fault), 0); /* a torn write */
    assert_int_equal(out.sequence, 7);
    assert_true(fault[0] == HK_SUPER_BAD_HASH && fault[1] == HK_SUPER_OK);
    assert_int_equal(hk_super_pick(even, blank, &out, fault), 0); /* the first write ever */
    assert_int_equal(out.sequence, 8);
    assert_true(fault[0] == HK_SUPER_OK && fault[1] == HK_SUPER_BAD_MAGIC);

    /* Astray: whole, but in the slot of the other parity. */
    assert_int_equal(hk_super_pick(odd, even, &out, fault), -EUCLEAN);
    assert_true(fault[0] == HK_SUPER_BAD_FIELD && fault[1] == HK_SUPER_BAD_FIELD);
    assert_int_equal(hk_super_pick(even, even, &out, fault), 0);
    assert_true(fault[0] == HK_SUPER_OK && fault[1] == HK_SUPER_BAD_FIELD);

    memset(&out, 0x5a, sizeof(out));
    s = out;
    assert_int_equal(hk_super_pick(blank, blank, &out, fault), -ENODATA);
    assert_int_equal(hk_super_pick(broken, blank, &out, fault), -EUCLEAN);
    assert_int_equal(hk_super_pick(blank, broken, &out, fault), -EUCLEAN);
    /* No magic, but not blank: something was there. */
    memset(broken, 0, 8);
    assert_int_equal(hk_super_pick(broken, blank, &out, fault), -EUCLEAN);
    assert_int_equal(hk_super_pick(blank, broken, &out, fault), -EUCLEAN);
    assert_memory_equal(&out, &s, sizeof(out));
    fault_points += 8;
}

/* ---- creating one ---- */

static struct hk_super_create creation;

static void creation_refused(void)
{
    static struct hk_super out, untouched;

    memset(&out, 0x5a, sizeof(out));
    memset(&untouched, 0x5a, sizeof(untouched));
    assert_int_equal(hk_super_create(&creation, &out), -EINVAL);
    assert_memory_equal(&out, &untouched, sizeof(out));
    fault_points++;
}

static void creation_sound(void)
{
    memset(&creation, 0, sizeof(creation));
    creation.group_id = sample_uuid(ID_GROUP);
    creation.site_id = sample_uuid(ID_SITE);
    creation.replica_id = sample_uuid(ID_PRIMARY);
    creation.epoch_id = sample_uuid(ID_EPOCH1);
    sample_name(creation.group_name, "core");
    creation.time_ns = 5;
    creation.volume_count = 2;
    sample_name(creation.volume[0].name, "data");
    creation.volume[0].bytes = 512;
    sample_name(creation.volume[1].name, "wal");
    creation.volume[1].bytes = 1 << 20;
    creation.volume[1].prior_bytes = 77; /* of no concern, and not to reach the disk */
}

static void test_super_create_refuses(void **state)
{
    struct hk_uuid *const ids[] = {&creation.group_id, &creation.site_id, &creation.replica_id,
                                   &creation.epoch_id};

    for (size_t i = 0; i < HK_ARRAY_SIZE(ids); i++) {
        creation_sound();
        memset(ids[i], 0, 16);
        creation_refused();
    }
    creation_sound();
    creation.volume_count = 0;
    creation_refused();
    creation.volume_count = HK_VOLUMES_MAX + 1;
    creation_refused();
    creation_sound();
    creation.group_name[0] = '.';
    creation_refused();
    creation_sound();
    creation.volume[1].name[1] = '/';
    creation_refused();
    creation_sound();
    creation.volume[1].bytes = 0;
    creation_refused();
    creation.volume[1].bytes = 513;
    creation_refused();
    creation_sound();
    creation.volume[1] = creation.volume[0];
    creation_refused();
}

static void test_super_create(void **state)
{
    struct hk_super s, back;

    for (int equal = 0; equal < 2; equal++) {
        creation_sound();
        creation.assume_equal = equal;
        assert_int_equal(hk_super_create(&creation, &s), 0);
        assert_int_equal(s.role, HK_ROLE_PRIMARY);
        /* Whoever did not say the volumes are equal gets no benefit of the doubt (I18). */
        assert_int_equal(s.flags, HK_SF_CLEAN | (equal ? HK_SF_ASSUMED_EQUAL : HK_SF_FULL_COMPARE));
        assert_true(s.ceiling == HK_LSN_FIRST && s.clean_lsn == HK_LSN_FIRST);
        assert_int_equal(s.history.count, 1);
        assert_int_equal(s.history.epoch[0].reason, HK_EPOCH_CREATE);
        assert_true(s.history.epoch[0].first_lsn == HK_LSN_FIRST);
        hk_super_encode(&s, slot);
        assert_int_equal(hk_super_decode(slot, &back), HK_SUPER_OK);
        assert_memory_equal(&back, &s, sizeof(s));
    }
    /* Relative to a seed: clean, and inside a resync until a standby has come of it. */
    creation_sound();
    creation.seed = true;
    creation.region_shift = 0;
    creation_refused();
    creation.region_shift = 16;
    assert_int_equal(hk_super_create(&creation, &s), 0);
    assert_int_equal(s.flags, HK_SF_CLEAN | HK_SF_ASSUMED_EQUAL | HK_SF_STALE);
    hk_super_encode(&s, slot);
    assert_int_equal(hk_super_decode(slot, &back), HK_SUPER_OK);
}

static void test_every_fault_seen(void **state)
{
    assert_int_equal(segment_faults_seen, (1u << HK_SEGMENT_FAULTS) - 1);
    assert_int_equal(super_faults_seen, (1u << HK_SUPER_FAULTS) - 1);
    print_message("# injected points: %u (at least %u)\n", fault_points, (unsigned)POINTS_MIN);
    assert_true(fault_points >= POINTS_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_header),
        cmocka_unit_test(test_batch_header),
        cmocka_unit_test(test_segment_names),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_history_append),
        cmocka_unit_test(test_super_fields),
        cmocka_unit_test(test_super_combinations),
        cmocka_unit_test(test_super_every_byte_is_hashed),
        cmocka_unit_test(test_super_pick),
        cmocka_unit_test(test_super_create_refuses),
        cmocka_unit_test(test_super_create),
        cmocka_unit_test(test_every_fault_seen),
    };

    return cmocka_run_group_tests_name("proto_faults_disk", tests, NULL, NULL);
}
