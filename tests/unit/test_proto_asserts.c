/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what encoders demand of their callers is demanded in every build: our own bug stops here,
 * before wrong bytes reach a disk or a line.
 * Method: this program brings its own hk_assert_fail, which jumps back; each misuse must get there.
 */
#include "unit.h"

#include "proto_samples.h"

#include <stdio.h>
#include <stdlib.h>

static jmp_buf back;
static bool is_expected;

void hk_assert_fail(const char *expr, const char *file, int line)
{
    if (!is_expected) {
        fprintf(stderr, "%s:%d: %s\n", file, line, expr);
        abort();
    }
    is_expected = false;
    longjmp(back, 1);
}

#define ASSERT_DIES(call)                    \
    do {                                     \
        is_expected = true;                  \
        if (setjmp(back) == 0) {             \
            call;                            \
            is_expected = false;             \
            fail_msg("%s came back", #call); \
        }                                    \
    } while (0)

static void test_segment_seal(void **state)
{
    struct hk_segment_header sound, h;

    sample_segment(&sound);
    h = sound;
    hk_segment_header_seal(&h);
    assert_memory_equal(&h, &sound, sizeof(h));
    h.first_lsn = 0;
    ASSERT_DIES(hk_segment_header_seal(&h));
    h = sound;
    memset(&h.replica_id, 0, 16);
    ASSERT_DIES(hk_segment_header_seal(&h));
    h = sound;
    h.segment_bytes = 4096;
    ASSERT_DIES(hk_segment_header_seal(&h));
    h = sound;
    h.reserved[100] = 1;
    ASSERT_DIES(hk_segment_header_seal(&h));
}

static void test_batch_seal(void **state)
{
    struct hk_batch_header sound, h;
    static uint8_t data[64];

    sample_batch(&sound, HK_LSN_FIRST, sizeof(data), 0, data);
    h = sound;
    h.bytes = 0;
    ASSERT_DIES(hk_batch_header_seal(&h));
    h = sound;
    h.bytes = HK_BATCH_BYTES_MAX + 64;
    ASSERT_DIES(hk_batch_header_seal(&h));
    h = sound;
    h.durable = h.first_lsn + 64; /* a stamp can't name what comes with it */
    ASSERT_DIES(hk_batch_header_seal(&h));
}

static void test_super_encode(void **state)
{
    static uint8_t slot[HK_SUPER_BYTES + 8] __attribute__((aligned(8)));
    struct hk_super sound, s;

    sample_super_primary(&sound);
    hk_super_encode(&sound, slot);
    ASSERT_DIES(hk_super_encode(&sound, slot + 1));
    ASSERT_DIES(hk_super_decode(slot + 1, &s));
    s = sound;
    s.role = 0;
    ASSERT_DIES(hk_super_encode(&s, slot));
    s = sound;
    s.volume_count = HK_VOLUMES_MAX + 1;
    ASSERT_DIES(hk_super_encode(&s, slot));
    s = sound;
    s.history.epoch[1].ordinal = 9;
    ASSERT_DIES(hk_super_encode(&s, slot));
}

static void test_frame_seal(void **state)
{
    static uint8_t bytes[65536 + 64];
    struct hk_frame f = sample_frame(HK_FRAME_DATA, 4096, 100);

    memcpy(bytes, &f, sizeof(f));
    hk_frame_seal_plain(bytes, 100);
    ASSERT_DIES(hk_frame_seal_plain(bytes, 99));
    f.body_len = HK_FRAME_BODY_MAX + 1;
    memcpy(bytes, &f, sizeof(f));
    ASSERT_DIES(hk_frame_seal_plain(bytes, HK_FRAME_BODY_MAX + 1));
}

static void test_counts_are_never_trusted(void **state)
{
    static struct hk_history h = {.count = HK_HISTORY_EPOCHS_MAX + 1}, sound;
    struct hk_uuid id = sample_uuid(1);
    struct hk_record r = {.payload_len = HK_PAYLOAD_BYTES_MAX + 1};
    uint32_t common;

    ASSERT_DIES(hk_history_append(&h, &id, 4096, 0, HK_EPOCH_CREATE, 0));
    ASSERT_DIES(hk_history_find(&h, &id));
    ASSERT_DIES(hk_history_compare(&h, &sound, &common));
    ASSERT_DIES(hk_history_compare(&sound, &h, &common));
    ASSERT_DIES(hk_record_payload_ok(&r, &r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_seal),
        cmocka_unit_test(test_batch_seal),
        cmocka_unit_test(test_super_encode),
        cmocka_unit_test(test_frame_seal),
        cmocka_unit_test(test_counts_are_never_trusted),
    };

    return cmocka_run_group_tests_name("proto_asserts", tests, NULL, NULL);
}
