/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what proto says about sound data: sizes, barriers, names, kinship of histories, texts.
 * Method: tables with the boundaries of each rule of SPEC.md; texts are distinct, so that two
 * faults never read alike.
 */
#include "unit.h"

#include "proto_samples.h"

static void test_record_sizes(void **state)
{
    static const struct {
        uint32_t payload, bytes;
    } table[] = {{0, 64},
                 {1, 128},
                 {63, 128},
                 {64, 128},
                 {65, 192},
                 {4096, 4160},
                 {100, 192},
                 {HK_PAYLOAD_BYTES_MAX, HK_RECORD_BYTES_MAX},
                 {HK_PAYLOAD_BYTES_MAX - 1, HK_RECORD_BYTES_MAX}};

    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
        struct hk_record r = {.lsn = 1ull << 40, .payload_len = table[i].payload};

        assert_int_equal(hk_record_bytes(table[i].payload), table[i].bytes);
        assert_true(hk_record_end(&r).v == (1ull << 40) + table[i].bytes);
    }
}

/* ---- the ends of each range are inside it ---- */

static void seal_payload(struct hk_record *r, const void *payload, uint32_t bytes)
{
    r->magic = HK_RECORD_MAGIC;
    r->epoch = 1;
    r->payload_len = bytes;
    sample_seal(r, payload, sample_seed(ID_EPOCH1));
}

static void assert_record_sound(const struct hk_record *r, const void *payload)
{
    assert_int_equal(hk_record_check(r, HK_LSN(r->lsn), 1, sample_seed(ID_EPOCH1)), HK_RECORD_OK);
    assert_int_equal(hk_record_check_payload(r, payload), HK_RECORD_OK);
}

static void test_group_records_take_all_values(void **state)
{
    for (uint32_t mode = HK_MODE_ASYNC; mode <= HK_MODE_SYNC; mode++) {
        for (uint32_t loss = HK_LINK_LOSS_CONTINUE; loss <= HK_LINK_LOSS_BLOCK; loss++) {
            struct hk_mode_change m = {.mode = mode, .on_link_loss = loss, .contact_timeout_ns = 1};
            struct hk_record r = {.lsn = 8192, .type = HK_REC_MODE};

            seal_payload(&r, &m, sizeof(m));
            assert_record_sound(&r, &m);
        }
    }
    for (uint32_t reason = HK_EPOCH_PROMOTE; reason <= HK_EPOCH_GAP_ROLLBACK; reason++) {
        struct hk_gap g = {.from_epoch = sample_uuid(ID_EPOCH1),
                           .last_durable = 8192, /* everything was durable: no hole */
                           .new_start = 8192,
                           .reason = reason};
        struct hk_record r = {.lsn = 8192, .type = HK_REC_GAP};

        seal_payload(&r, &g, sizeof(g));
        assert_record_sound(&r, &g);
    }
    for (uint32_t kind = HK_MARK_PLAIN; kind <= HK_MARK_FREEZE; kind++) {
        struct hk_mark m = {.name = "m", .kind = kind};
        struct hk_record r = {.lsn = 8192, .type = HK_REC_MARK};

        seal_payload(&r, &m, sizeof(m));
        assert_record_sound(&r, &m);
    }
}

static void test_record_field_limits(void **state)
{
    struct hk_record r = {.lsn = 2 * HK_RECORD_BYTES_MAX,
                          .type = HK_REC_FLUSH,
                          .volume = HK_VOLUMES_MAX - 1,
                          .prev_bytes = HK_RECORD_BYTES_MAX};

    seal_payload(&r, NULL, 0);
    assert_record_sound(&r, NULL);
    r.flags = HK_REC_FUA;
    seal_payload(&r, NULL, 0);
    assert_record_sound(&r, NULL);
}

static void test_super_field_limits(void **state)
{
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(8)));
    static struct hk_super s, back;

    sample_super_standby(&s);
    s.clean_prev_bytes = HK_RECORD_BYTES_MAX;
    s.flags = (1 << 9) - 1;
    s.mode = HK_MODE_SYNC;
    s.on_link_loss = HK_LINK_LOSS_BLOCK;
    s.loss_class = HK_LOSS_UNKNOWN;
    s.interval[0].to = s.interval[0].from; /* one position, and the next of the same epoch */
    s.interval[1].from = s.interval[0].to;
    s.interval[1].epoch_ordinal = s.interval[0].epoch_ordinal;
    s.volume[0].bytes = 1;
    hk_super_encode(&s, slot);
    assert_int_equal(hk_super_decode(slot, &back), HK_SUPER_OK);
    assert_memory_equal(&back, &s, sizeof(s));
    s.mode = s.on_link_loss = s.loss_class = s.flags = 0;
    s.volume_count = s.interval_count = s.history.count = 0;
    hk_super_encode(&s, slot);
    assert_int_equal(hk_super_decode(slot, &back), HK_SUPER_OK);
    assert_int_equal(back.volume[0].bytes, 0); /* beyond the counts nothing is left */
}

static void test_batch_pages(void **state)
{
    static const struct {
        uint64_t first, bytes, pages;
    } table[] = {
        {4096, 4096, 4096},       {4096, 64, 4096},
        {4096, 4160, 8192},       {8128, 64, 4096},
        {8128, 128, 8192},        {8960, 1152, 4096},
        {64, 4032, 4096},         {64, 4096, 8192},
        {8192, 4 << 20, 4 << 20}, {8128, 4 << 20, (4 << 20) + 4096},
    };

    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++)
        assert_int_equal(hk_batch_page_bytes(table[i].first, table[i].bytes), table[i].pages);
}

static void test_barriers(void **state)
{
    static const uint8_t barriers[] = {HK_REC_MARK,       HK_REC_GAP,  HK_REC_RESYNC_BEGIN,
                                       HK_REC_RESYNC_END, HK_REC_JOIN, HK_REC_LEAVE,
                                       HK_REC_RESIZE,     HK_REC_MODE};

    for (unsigned type = 0; type < 256; type++) {
        bool expected = memchr(barriers, (int)type, sizeof(barriers)) != NULL;

        assert_int_equal(hk_record_is_barrier((uint8_t)type), expected);
    }
}

static void test_names(void **state)
{
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    char name[HK_NAME_BYTES];

    for (int c = 1; c < 256; c++) {
        memset(name, 0, sizeof(name));
        name[0] = (char)c;
        assert_int_equal(hk_mark_name_ok(name), strchr(good, c) != NULL && c != '.' && c != '-');
        name[1] = name[0];
        name[0] = 'x';
        assert_int_equal(hk_mark_name_ok(name), strchr(good, c) != NULL);
    }
    for (size_t len = 0; len <= HK_NAME_BYTES; len++) {
        memset(name, 0, sizeof(name));
        memset(name, 'x', len);
        assert_int_equal(hk_mark_name_ok(name), len >= 1 && len <= 63);
    }
    for (size_t at = 2; at < HK_NAME_BYTES; at++) { /* something behind the end of the text */
        memset(name, 0, sizeof(name));
        name[0] = 'x';
        name[at] = 'y';
        assert_false(hk_mark_name_ok(name));
    }
}

/* ---- kinship ---- */

/* `count` epochs; from `fork_at` on they carry ids of line `line`. */
static void make_history(struct hk_history *h, uint32_t count, uint32_t fork_at, uint8_t line)
{
    memset(h, 0, sizeof(*h));
    for (uint32_t i = 0; i < count; i++) {
        struct hk_uuid id = sample_uuid(2);

        id.b[0] = (uint8_t)(i + 1);
        id.b[1] = i >= fork_at ? line : 0;
        assert_int_equal(hk_history_append(h, &id, 4096 * (i + 1), 4096 * i,
                                           i ? HK_EPOCH_PROMOTE : HK_EPOCH_CREATE, i),
                         0);
    }
}

static void test_kinship(void **state)
{
    static const struct {
        uint32_t a_count, b_count, fork_at;
        enum hk_kinship expect;
        uint32_t common;
    } table[] = {
        {0, 0, 9, HK_KIN_EQUAL, 0},        {3, 3, 9, HK_KIN_EQUAL, 3},
        {64, 64, 99, HK_KIN_EQUAL, 64},    {0, 1, 9, HK_KIN_BEHIND, 0},
        {2, 3, 9, HK_KIN_BEHIND, 2},       {1, 0, 9, HK_KIN_AHEAD, 0},
        {3, 2, 9, HK_KIN_AHEAD, 2},        {3, 3, 2, HK_KIN_DIVERGED, 2},
        {3, 5, 2, HK_KIN_DIVERGED, 2},     {5, 3, 1, HK_KIN_DIVERGED, 1},
        {1, 1, 0, HK_KIN_STRANGERS, 0},    {4, 2, 0, HK_KIN_STRANGERS, 0},
        {64, 64, 63, HK_KIN_DIVERGED, 63},
    };

    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
        static struct hk_history a, b;
        uint32_t common = 99;

        make_history(&a, table[i].a_count, table[i].fork_at, 1);
        make_history(&b, table[i].b_count, table[i].fork_at, 2);
        if (hk_history_compare(&a, &b, &common) != table[i].expect || common != table[i].common)
            fail_msg("kinship row %zu", i);
    }
}

/* What lies behind a count is not part of a history, though it be equal. */
static void test_kinship_ends_at_the_count(void **state)
{
    static struct hk_history a, b;
    uint32_t common;

    make_history(&a, 5, 9, 0);
    b = a;
    b.count = 3;
    assert_int_equal(hk_history_compare(&a, &b, &common), HK_KIN_AHEAD);
    assert_int_equal(common, 3);
    assert_int_equal(hk_history_compare(&b, &a, &common), HK_KIN_BEHIND);
    assert_int_equal(common, 3);
    a.count = 3;
    assert_int_equal(hk_history_compare(&a, &b, &common), HK_KIN_EQUAL);
    assert_int_equal(common, 3);
}

/* Two sides that tell one epoch differently are not relatives (SPEC.md §5.4). */
static void test_kinship_needs_whole_entries(void **state)
{
    static struct hk_history a, b;
    uint32_t common;

    make_history(&a, 3, 9, 0);
    for (int field = 0; field < 4; field++) {
        b = a;
        if (field == 0)
            b.epoch[2].parent_end += 64;
        else if (field == 1)
            b.epoch[2].first_lsn += 64;
        else if (field == 2)
            b.epoch[2].reason = HK_EPOCH_SWITCHOVER;
        else
            b.epoch[2].time_ns++;
        assert_int_equal(hk_history_compare(&a, &b, &common), HK_KIN_DIVERGED);
        assert_int_equal(common, 2);
    }
}

static void test_history_lookup(void **state)
{
    static struct hk_history h;
    struct hk_uuid other = sample_uuid(7);

    make_history(&h, 0, 0, 0);
    assert_null(hk_history_last(&h));
    assert_null(hk_history_find(&h, &other));
    make_history(&h, 5, 9, 0);
    assert_ptr_equal(hk_history_last(&h), &h.epoch[4]);
    for (int i = 0; i < 5; i++)
        assert_ptr_equal(hk_history_find(&h, &h.epoch[i].id), &h.epoch[i]);
    assert_null(hk_history_find(&h, &other));
    h.count = 4; /* what lies behind the count is not there */
    other = h.epoch[4].id;
    assert_null(hk_history_find(&h, &other));
}

/* ---- texts ---- */

static const char *record_fault(unsigned i)
{
    return hk_record_fault_text((enum hk_record_fault)i);
}

static const char *frame_fault(unsigned i)
{
    return hk_frame_fault_text((enum hk_frame_fault)i);
}

static const char *segment_fault(unsigned i)
{
    return hk_segment_fault_text((enum hk_segment_fault)i);
}

static const char *super_fault(unsigned i)
{
    return hk_super_fault_text((enum hk_super_fault)i);
}

static const char *record_type(unsigned i)
{
    return hk_record_type_text((uint8_t)(i + 1));
}

static const char *epoch_reason(unsigned i)
{
    return hk_epoch_reason_text(i + 1);
}

static const char *loss_class(unsigned i)
{
    return hk_loss_class_text(i);
}

static void check_texts(const char *(*text)(unsigned), unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_true(strlen(text(i)) > 0);
        assert_int_not_equal(strncmp(text(i), "unknown fault", 13), 0);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(text(i), text(k));
    }
    assert_int_equal(strncmp(text(count), "unknown", 7), 0);
}

static void test_texts(void **state)
{
    check_texts(record_fault, HK_RECORD_FAULTS);
    check_texts(frame_fault, HK_FRAME_FAULTS);
    check_texts(segment_fault, HK_SEGMENT_FAULTS);
    check_texts(super_fault, HK_SUPER_FAULTS);
    check_texts(record_type, HK_REC_RESIZE);
    check_texts(epoch_reason, HK_EPOCH_GAP_ROLLBACK);
    check_texts(loss_class, HK_LOSS_UNKNOWN + 1);
    /* Values from outside the enums: read from a disk or a line, then printed. */
    assert_string_equal(hk_record_type_text(0), "unknown");
    assert_string_equal(hk_record_type_text(255), "unknown");
    assert_string_equal(hk_epoch_reason_text(0), "unknown");
    assert_string_equal(hk_epoch_reason_text(UINT32_MAX), "unknown");
    assert_string_equal(hk_loss_class_text(UINT32_MAX), "unknown class");
    assert_string_equal(hk_record_fault_text((enum hk_record_fault)200), "unknown fault");
    assert_string_equal(hk_record_type_text(HK_REC_GAP), "gap");
    assert_string_equal(hk_epoch_reason_text(HK_EPOCH_GAP_BEHIND), "gap-behind");
    assert_string_equal(hk_loss_class_text(HK_LOSS_ZERO_PROVEN), "0, proven");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_sizes),
        cmocka_unit_test(test_group_records_take_all_values),
        cmocka_unit_test(test_record_field_limits),
        cmocka_unit_test(test_super_field_limits),
        cmocka_unit_test(test_batch_pages),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_kinship),
        cmocka_unit_test(test_kinship_ends_at_the_count),
        cmocka_unit_test(test_kinship_needs_whole_entries),
        cmocka_unit_test(test_history_lookup),
        cmocka_unit_test(test_texts),
    };

    return cmocka_run_group_tests_name("proto_rules", tests, NULL, NULL);
}
