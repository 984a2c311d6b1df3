/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the superblock store calls stored survives every power cut, and nothing is called
 * stored that need not. Method: a disk in memory that loses and tears what was not made durable,
 * and that fails the i-th operation for every i.
 */
#include "memdisk.h"
#include "replicator/store/super_store.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct memdisk disk;
    struct hk_super_store store;
    uint8_t *memory;
};

static void fill(struct hk_super *s)
{
    memset(s, 0, sizeof(*s));
    s->role = HK_ROLE_STANDBY;
    memset(s->group_id.b, 1, 16);
    memset(s->replica_id.b, 2, 16);
    strcpy(s->group_name, "bank");
}

/* A process starts on the disk as it is. */
static void start(struct fixture *f)
{
    struct hk_arena arena;

    free(f->memory);
    f->memory = calloc(1, hk_super_store_memory());
    arena = (struct hk_arena){.base = f->memory, .bytes = hk_super_store_memory()};
    assert_int_equal(hk_super_store_init(&f->store, &f->disk.disk, HK_FILE_SUPER, &arena), 0);
    hk_super_store_start(&f->store);
}

static bool step(struct fixture *f)
{
    struct hk_diskop *op = memdisk_step(&f->disk);

    if (op)
        hk_super_store_disk_done(&f->store, op);
    return op != NULL;
}

static void drain(struct fixture *f)
{
    while (step(f))
        ;
}

static void setup(struct fixture *f, uint64_t seed)
{
    memset(f, 0, sizeof(*f));
    memdisk_init(&f->disk, seed);
    memdisk_add(&f->disk, HK_FILE_SUPER, 2 * HK_SUPER_BYTES);
    start(f);
}

static void teardown(struct fixture *f)
{
    memdisk_free(&f->disk);
    free(f->memory);
}

static void create(struct fixture *f)
{
    drain(f);
    assert_int_equal(f->store.state, HK_SUPER_STORE_BLANK);
    fill(hk_super_store_get(&f->store));
    assert_int_equal(hk_super_store_put(&f->store), 1);
    drain(f);
    assert_int_equal(f->store.state, HK_SUPER_STORE_READY);
}

static void test_blank_then_created(void **state)
{
    struct fixture f;

    setup(&f, 1);
    create(&f);
    assert_int_equal(hk_super_store_stored(&f.store), 1);
    start(&f);
    assert_int_equal(f.store.state, HK_SUPER_STORE_READING);
    drain(&f);
    assert_int_equal(f.store.state, HK_SUPER_STORE_READY);
    assert_string_equal(hk_super_store_get(&f.store)->group_name, "bank");
    assert_int_equal(hk_super_store_durable(&f.store)->sequence, 1);
    teardown(&f);
}

static void test_puts_coalesce(void **state)
{
    struct fixture f;
    uint64_t writes;

    setup(&f, 2);
    create(&f);
    writes = f.disk.done_count;
    for (uint64_t i = 1; i <= 5; i++) {
        hk_super_store_get(&f.store)->applied = i * 64;
        assert_int_equal(hk_super_store_put(&f.store), 1 + i);
    }
    assert_true(hk_super_store_busy(&f.store));
    /* What is changed after the last put is not written by it. */
    hk_super_store_get(&f.store)->applied = 64000;
    assert_true(step(&f));
    assert_int_equal(hk_super_store_stored(&f.store), 2);
    assert_int_equal(hk_super_store_durable(&f.store)->applied, 64);
    assert_true(step(&f));
    assert_int_equal(hk_super_store_stored(&f.store), 6);
    assert_int_equal(hk_super_store_durable(&f.store)->applied, 5 * 64);
    assert_false(hk_super_store_busy(&f.store));
    assert_int_equal(f.disk.done_count - writes, 2);
    teardown(&f);
}

/* After every cut: at least what was stored, at most what was put. */
static void test_power_cuts(void **state)
{
    struct fixture f;
    uint64_t random = 3, put = 0, stored = 0;

    setup(&f, 3);
    create(&f);
    for (int round = 0; round < 400; round++) {
        for (uint64_t n = unit_random(&random) % 12; n > 0; n--) {
            if (unit_random(&random) % 2) {
                hk_super_store_get(&f.store)->applied = (put = put + 64);
                hk_super_store_put(&f.store);
            } else {
                step(&f);
            }
        }
        stored = hk_super_store_durable(&f.store)->applied;
        if (unit_random(&random) % 3)
            memdisk_power_cut(&f.disk);
        else
            memdisk_kill(&f.disk);
        start(&f);
        /* A start that is cut off changes nothing, but what it said must hold. */
        for (uint64_t n = unit_random(&random) % 4; n > 0; n--)
            step(&f);
        if (f.store.state == HK_SUPER_STORE_READY)
            stored = hk_super_store_durable(&f.store)->applied;
        memdisk_power_cut(&f.disk);
        start(&f);
        drain(&f);
        assert_int_equal(f.store.state, HK_SUPER_STORE_READY);
        assert_true(hk_super_store_durable(&f.store)->applied >= stored);
        assert_true(hk_super_store_durable(&f.store)->applied <= put);
        put = hk_super_store_durable(&f.store)->applied;
    }
    teardown(&f);
}

static void test_garbage_is_not_blank(void **state)
{
    struct fixture f;

    setup(&f, 4);
    memdisk_poke(&f.disk, HK_FILE_SUPER, 12345, "x", 1);
    drain(&f);
    assert_int_equal(f.store.state, HK_SUPER_STORE_INVALID);
    teardown(&f);
}

/* The case runs with operation i failing, for every i, once and for ever. */
static unsigned inject(bool for_ever)
{
    unsigned points = 0;

    for (uint64_t i = 1;; i++) {
        struct fixture f;
        uint64_t stored = 0, want = 0;

        setup(&f, i);
        f.disk.fail_at = i;
        f.disk.fail_forever = for_ever;
        drain(&f);
        if (f.store.state == HK_SUPER_STORE_BLANK) {
            fill(hk_super_store_get(&f.store));
            for (uint64_t k = 1; k <= 6; k++) {
                hk_super_store_get(&f.store)->applied = k * 64;
                want = hk_super_store_put(&f.store);
                if (k % 2)
                    drain(&f);
                if (f.store.state == HK_SUPER_STORE_FAILED)
                    assert_true(hk_super_store_stored(&f.store) < want);
            }
            drain(&f);
            stored = hk_super_store_durable(&f.store)->applied;
        }
        if (f.disk.failed_count == 0) {
            assert_int_equal(f.store.state, HK_SUPER_STORE_READY);
            assert_int_equal(stored, 6 * 64);
            teardown(&f);
            return points;
        }
        points++;
        assert_int_equal(f.store.state, HK_SUPER_STORE_FAILED);
        assert_int_equal(f.store.error, -EIO);
        assert_int_equal(f.disk.pending_count, 0);
        assert_true(want == 0 || hk_super_store_stored(&f.store) < want);
        f.disk.fail_at = 0;
        memdisk_power_cut(&f.disk);
        start(&f);
        drain(&f);
        if (stored > 0) {
            assert_int_equal(f.store.state, HK_SUPER_STORE_READY);
            assert_true(hk_super_store_durable(&f.store)->applied >= stored);
        }
        teardown(&f);
    }
}

static void test_every_op_fails(void **state)
{
    unsigned once = inject(false), for_ever = inject(true);

    print_message("# injected points: %u\n", once + for_ever);
    assert_true(once >= 8 && for_ever >= 8);
}

static void test_arena_too_small(void **state)
{
    struct memdisk disk;
    struct hk_super_store store;
    static uint8_t memory[65536];

    memdisk_init(&disk, 1);
    for (size_t bytes = 0; bytes < sizeof(memory); bytes += 4096) {
        struct hk_arena arena = {.base = memory, .bytes = bytes};
        int r = hk_super_store_init(&store, &disk.disk, HK_FILE_SUPER, &arena);

        assert_true(r == -ENOMEM || bytes > 3 * HK_SUPER_BYTES);
    }
    memdisk_free(&disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blank_then_created), cmocka_unit_test(test_puts_coalesce),
        cmocka_unit_test(test_power_cuts),         cmocka_unit_test(test_garbage_is_not_blank),
        cmocka_unit_test(test_every_op_fails),     cmocka_unit_test(test_arena_too_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
