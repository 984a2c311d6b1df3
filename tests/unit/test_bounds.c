/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever is set up once at the start (I16) refuses a configuration beyond any of its bounds
 * and an arena that is too small, and what says a value in words has words for any value. Method:
 * one sound configuration each and a table of what spoils it; arenas of every size below the need.
 */
#include "unit.h"

#include "memdisk.h"
#include "proto/frame.h"
#include "proto/super.h"
#include "replicator/core/receiver.h"
#include "replicator/core/sender.h"
#include "replicator/core/session.h"
#include "replicator/group/group.h"
#include "replicator/store/apply.h"
#include "replicator/store/super_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_BYTES = 8 << 20 };

static struct memdisk disk;
static uint8_t *window;
static struct hk_source source;
static struct hk_receiver_cfg receiver_cfg;
static struct hk_journal_cfg journal_cfg;
static struct hk_apply_cfg apply_cfg;
static struct hk_group_cfg group_cfg[2];
static struct hk_journal journal;
static const struct hk_now now = {1000000000, 1000000000};

/* Each runs its init in an arena and returns what that said. */
static int receiver(struct hk_arena *a)
{
    static struct hk_receiver r;

    return hk_receiver_init(&r, &receiver_cfg, a);
}

static int sender(struct hk_arena *a)
{
    static struct hk_sender s;
    const struct hk_sender_cfg c = {.path_count = 2, .ping_interval_ns = 1};

    return hk_sender_init(&s, &c, a, 1);
}

static int journal_only(struct hk_arena *a)
{
    return hk_journal_init(&journal, &journal_cfg, a);
}

static int journal_and_readers(struct hk_arena *a)
{
    static struct hk_journal_reader r[HK_JOURNAL_READERS];
    int rc = journal_only(a);

    for (unsigned i = 0; rc == 0 && i < HK_JOURNAL_READERS; i++)
        rc = hk_journal_reader_init(&journal, &r[i], a);
    return rc;
}

static int apply(struct hk_arena *a)
{
    static struct hk_apply v;
    int rc = journal_only(a);

    return rc ? rc : hk_apply_init(&v, &apply_cfg, a);
}

static int super_store(struct hk_arena *a)
{
    static struct hk_super_store s;

    return hk_super_store_init(&s, &disk.disk, HK_FILE_SUPER, a);
}

static int primary(struct hk_arena *a)
{
    struct hk_group *g;

    return hk_group_init(&group_cfg[0], a, &now, &g);
}

static int standby(struct hk_arena *a)
{
    struct hk_group *g;

    disk.pending_count = 0;
    return hk_group_init(&group_cfg[1], a, &now, &g);
}

static void setup_groups(void)
{
    for (int i = 0; i < 2; i++) {
        struct hk_group_cfg *c = &group_cfg[i];

        *c = (struct hk_group_cfg){.role = i ? HK_ROLE_STANDBY : HK_ROLE_PRIMARY,
                                   .group_id = {{9}},
                                   .volume_count = 1,
                                   .volume_bytes = {1 << 20},
                                   .contact_timeout_ns = 1000000000,
                                   .path_count = 1,
                                   .frame_body_max = {1400}};
    }
    group_cfg[0].source = &source;
    group_cfg[1].disk = &disk.disk;
    group_cfg[1].window = window;
    group_cfg[1].window_bytes = WINDOW_BYTES;
    group_cfg[1].segment_bytes = journal_cfg.segment_bytes;
    group_cfg[1].segment_count = 2;
    group_cfg[1].apply_bytes = 4 << 20;
}

static int setup(void **state)
{
    static const struct hk_history history;

    (void)state;
    memdisk_init(&disk, 1);
    memdisk_add(&disk, HK_FILE_SUPER, 2 * HK_SUPER_BYTES);
    window = aligned_alloc(4096, WINDOW_BYTES);
    receiver_cfg = (struct hk_receiver_cfg){.window = window,
                                            .window_bytes = WINDOW_BYTES,
                                            .path_count = 2,
                                            .volume_count = 1,
                                            .volume_bytes = {1 << 20}};
    journal_cfg = (struct hk_journal_cfg){.disk = &disk.disk,
                                          .group_id = {{9}},
                                          .window = window,
                                          .window_bytes = WINDOW_BYTES,
                                          .segment_bytes = hk_journal_segment_bytes_min(),
                                          .segment_count = 2};
    apply_cfg = (struct hk_apply_cfg){.disk = &disk.disk,
                                      .journal = &journal,
                                      .history = &history,
                                      .window = window,
                                      .window_bytes = WINDOW_BYTES,
                                      .apply_bytes = HK_APPLY_BYTES_MIN,
                                      .volume_count = 1};
    setup_groups();
    return window ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    memdisk_free(&disk);
    free(window);
    return 0;
}

/* Enough is enough; with less it says so. Each size from the need down, in ever larger steps. */
static void fits_exactly(int (*init)(struct hk_arena *), size_t need)
{
    uint8_t *block = aligned_alloc(4096, hk_round_up(need, 4096));
    struct hk_arena a = {.base = block, .bytes = need};
    size_t used;

    assert_non_null(block);
    memset(block, 0, need);
    assert_int_equal(init(&a), 0);
    used = a.used;
    assert_true(used <= need);
    for (size_t less = 1; less <= used; less += 1 + less / 64) {
        a = (struct hk_arena){.base = block, .bytes = used - less};
        memset(block, 0, 4096);
        assert_int_equal(init(&a), -ENOMEM);
    }
    a = (struct hk_arena){.base = block, .bytes = 0};
    assert_int_equal(init(&a), -ENOMEM);
    free(block);
}

static void test_memory(void **state)
{
    const struct hk_sender_cfg c = {.path_count = 2};
    size_t bytes = hk_journal_memory(&journal_cfg);

    (void)state;
    fits_exactly(receiver, hk_receiver_memory(&receiver_cfg));
    fits_exactly(sender, hk_sender_memory(&c));
    fits_exactly(super_store, hk_super_store_memory());
    fits_exactly(journal_only, bytes);
    fits_exactly(journal_and_readers, bytes + HK_JOURNAL_READERS * hk_journal_reader_memory());
    fits_exactly(apply, bytes + hk_apply_memory(&apply_cfg) + hk_journal_reader_memory());
    fits_exactly(primary, hk_group_bytes(&group_cfg[0]));
    fits_exactly(standby, hk_group_bytes(&group_cfg[1]));
}

static void test_too_many_readers(void **state)
{
    static uint8_t memory[32 << 20] __attribute__((aligned(4096)));
    static struct hk_journal_reader r;
    struct hk_arena a = {.base = memory, .bytes = sizeof(memory)};

    (void)state;
    assert_int_equal(journal_and_readers(&a), 0);
    assert_int_equal(hk_journal_reader_init(&journal, &r, &a), -ENOSPC);
}

/* The lvalue is spoilt, what is to be refused is refused, the lvalue is as before. */
#define REFUSED(init, lvalue, bad)                                          \
    do {                                                                    \
        __typeof__(lvalue) was = (lvalue);                                  \
        struct hk_arena arena = {.base = memory, .bytes = sizeof(memory)};  \
        (lvalue) = (bad);                                                   \
        assert_int_equal(init(&arena), -EINVAL);                            \
        (lvalue) = was;                                                     \
        arena = (struct hk_arena){.base = memory, .bytes = sizeof(memory)}; \
        assert_int_equal(init(&arena), 0);                                  \
    } while (0)

static uint8_t memory[48 << 20] __attribute__((aligned(4096)));

static void test_receiver_bounds(void **state)
{
    (void)state;
    REFUSED(receiver, receiver_cfg.path_count, 0);
    REFUSED(receiver, receiver_cfg.path_count, HK_PATHS_MAX + 1);
    REFUSED(receiver, receiver_cfg.window, NULL);
    REFUSED(receiver, receiver_cfg.volume_count, HK_VOLUMES_MAX + 1);
    REFUSED(receiver, receiver_cfg.window_bytes, WINDOW_BYTES - 4096);
    REFUSED(receiver, receiver_cfg.window_bytes, 4 << 20);
}

static void test_journal_bounds(void **state)
{
    const struct hk_uuid nil = {{0}};

    (void)state;
    REFUSED(journal_only, journal_cfg.disk, NULL);
    REFUSED(journal_only, journal_cfg.window, NULL);
    REFUSED(journal_only, journal_cfg.group_id, nil);
    REFUSED(journal_only, journal_cfg.window_bytes, WINDOW_BYTES + 4096);
    REFUSED(journal_only, journal_cfg.window_bytes, 1 << 20);
    REFUSED(journal_only, journal_cfg.segment_bytes, journal_cfg.segment_bytes + 512);
    REFUSED(journal_only, journal_cfg.segment_bytes, journal_cfg.segment_bytes - 4096);
    REFUSED(journal_only, journal_cfg.segment_count, 1);
    REFUSED(journal_only, journal_cfg.segment_count, UINT32_MAX - HK_FILE_SEGMENT0);
    REFUSED(apply, apply_cfg.disk, NULL);
    REFUSED(apply, apply_cfg.journal, NULL);
    REFUSED(apply, apply_cfg.history, NULL);
    REFUSED(apply, apply_cfg.window, NULL);
    REFUSED(apply, apply_cfg.window_bytes, WINDOW_BYTES + 4096);
    REFUSED(apply, apply_cfg.window_bytes, 2048);
    REFUSED(apply, apply_cfg.apply_bytes, HK_APPLY_BYTES_MIN - 4096);
    REFUSED(apply, apply_cfg.apply_bytes, HK_APPLY_BYTES_MIN + 512);
    REFUSED(apply, apply_cfg.volume_count, HK_VOLUMES_MAX + 1);
}

static void test_group_bounds(void **state)
{
    const struct hk_uuid nil = {{0}};
    const uint32_t max = HK_FRAME_BODY_MAX;

    (void)state;
    REFUSED(primary, group_cfg[0].role, (enum hk_super_role)3);
    REFUSED(primary, group_cfg[0].group_id, nil);
    REFUSED(primary, group_cfg[0].volume_count, 0);
    REFUSED(primary, group_cfg[0].volume_count, HK_VOLUMES_MAX + 1);
    REFUSED(primary, group_cfg[0].path_count, 0);
    REFUSED(primary, group_cfg[0].path_count, HK_PATHS_MAX + 1);
    REFUSED(primary, group_cfg[0].contact_timeout_ns, 7);
    REFUSED(primary, group_cfg[0].frame_body_max[0], 63);
    REFUSED(primary, group_cfg[0].frame_body_max[0], max + 1);
    REFUSED(primary, group_cfg[0].source, NULL);
    REFUSED(standby, group_cfg[1].disk, NULL);
    REFUSED(standby, group_cfg[1].window, NULL);
    REFUSED(standby, group_cfg[1].window_bytes, 1 << 20);
    REFUSED(standby, group_cfg[1].segment_count, 1);
    REFUSED(standby, group_cfg[1].apply_bytes, 4096);
}

/* Known values have words of their own, anything else has some, too. */
#define WORDS(text, type, first, count)                                \
    do {                                                               \
        for (unsigned i = (first); i < (first) + (count); i++) {       \
            assert_true(*text((type)i));                               \
            for (unsigned k = (first); k < i; k++)                     \
                assert_string_not_equal(text((type)i), text((type)k)); \
        }                                                              \
        assert_true(*text((type)((first) + (count))));                 \
        assert_true(*text((type)200));                                 \
    } while (0)

static void test_words(void **state)
{
    (void)state;
    WORDS(hk_frame_fault_text, enum hk_frame_fault, 0, HK_FRAME_FAULTS);
    WORDS(hk_record_fault_text, enum hk_record_fault, 0, HK_RECORD_FAULTS);
    WORDS(hk_segment_fault_text, enum hk_segment_fault, 0, HK_SEGMENT_FAULTS);
    WORDS(hk_super_fault_text, enum hk_super_fault, 0, HK_SUPER_FAULTS);
    WORDS(hk_refusal_text, enum hk_refusal, 0, HK_REFUSALS);
    WORDS(hk_journal_verdict_text, enum hk_journal_verdict, 0, HK_JOURNAL_VERDICTS);
    WORDS(hk_apply_state_text, enum hk_apply_state, 0, HK_APPLY_CORRUPT + 1);
    WORDS(hk_record_type_text, uint8_t, 1, 15);
    WORDS(hk_epoch_reason_text, uint32_t, 1, 6);
    WORDS(hk_loss_class_text, uint32_t, 0, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),          cmocka_unit_test(test_too_many_readers),
        cmocka_unit_test(test_receiver_bounds), cmocka_unit_test(test_journal_bounds),
        cmocka_unit_test(test_group_bounds),    cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
