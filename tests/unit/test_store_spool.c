/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the spool calls durable it gives back, byte for byte, through restarts, power cuts,
 * pieces left out and failing disks; and what it can't give back it says. Method: a log, of which a
 * "ring" holds what is not released; released follows the spool; a "standby" takes bytes only from
 * ring or spool window and compares them with the log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memdisk.h"
#include "replicator/store/spool.h"
#include "test_store_log.h"
#include "unit.h"

enum { SEGMENTS = 4, WINDOW = 2 * HK_SPOOL_WINDOW_BYTES };
#define SEGMENT_BYTES (hk_journal_segment_bytes_min() + 16 * HK_PAGE_BYTES)

struct lab {
    struct memdisk disk;
    struct store_log log;
    struct hk_spool spool;
    uint8_t *memory, *window;
    uint64_t standby, released, published;
    uint64_t random;
};

static int gather(void *arg, uint64_t lsn, uint32_t bytes, struct hk_iovec *iov, int max)
{
    struct lab *l = arg;

    assert_true(max >= 2);
    if (lsn < l->released || lsn + bytes > l->published)
        return -ERANGE;
    iov[0] = (struct hk_iovec){l->log.bytes + (lsn - l->log.base), bytes / 2};
    iov[1] = (struct hk_iovec){l->log.bytes + (lsn - l->log.base) + bytes / 2, bytes - bytes / 2};
    return 2;
}

static void start(struct lab *l)
{
    struct hk_spool_cfg cfg = {.disk = &l->disk.disk,
                               .group_id = {{1}},
                               .window = l->window,
                               .window_bytes = WINDOW,
                               .segment_bytes = SEGMENT_BYTES,
                               .segment_count = SEGMENTS,
                               .gather = gather,
                               .gather_arg = l};
    struct hk_arena arena = {.bytes = hk_spool_memory(&cfg)};

    free(l->memory);
    arena.base = l->memory = calloc(1, arena.bytes);
    memset(l->window, 0x5a, WINDOW);
    assert_int_equal(hk_spool_init(&l->spool, &cfg, &arena), 0);
    hk_spool_start(&l->spool, &l->log.history, &(struct hk_uuid){{7}});
}

static bool step(struct lab *l)
{
    struct hk_diskop *op = memdisk_step(&l->disk);

    if (!op)
        return false;
    assert_int_equal(op->owner, HK_OWNER_SPOOL);
    assert_true(op->file >= HK_FILE_SPOOL_SEGMENT0 || op->file == HK_FILE_SPOOL_DIR);
    hk_spool_disk_done(&l->spool, op);
    return true;
}

static void drain(struct lab *l)
{
    while (step(l))
        ;
}

static void setup(struct lab *l, uint64_t seed)
{
    memset(l, 0, sizeof(*l));
    l->random = seed;
    memdisk_init(&l->disk, seed);
    memdisk_add(&l->disk, HK_FILE_SPOOL_DIR, MEMDISK_SECTOR);
    for (uint32_t i = 0; i < SEGMENTS; i++)
        memdisk_add(&l->disk, HK_FILE_SPOOL_SEGMENT0 + i, SEGMENT_BYTES);
    store_log_init(&l->log, seed, 48 << 20, 2 << 20);
    l->window = aligned_alloc(HK_PAGE_BYTES, WINDOW);
    l->standby = l->released = l->published = l->log.base;
    start(l);
    drain(l);
    assert_int_equal(l->spool.state, HK_SPOOL_RUNNING);
}

static void end(struct lab *l)
{
    memdisk_free(&l->disk);
    store_log_free(&l->log);
    free(l->memory);
    free(l->window);
}

static void produce(struct lab *l, uint64_t bytes)
{
    uint64_t to = l->log.end + bytes;

    while (l->log.end < to) {
        uint32_t length = 512 * (uint32_t)(1 + unit_random(&l->random) % 64);

        if (unit_random(&l->random) % 32 == 0)
            length = HK_PAYLOAD_BYTES_MAX;
        store_log_add(&l->log, unit_random(&l->random) % 8 ? HK_REC_WRITE : HK_REC_ZEROES, 0, 0,
                      length, NULL);
    }
    l->published = l->log.end;
}

/* What the group does at each event: released follows what is durable here. */
static void turn(struct lab *l)
{
    struct hk_spool *sp = &l->spool;

    hk_spool_durable(sp, l->standby);
    hk_spool_write(sp, l->standby, l->released, l->published);
    if (hk_spool_first(sp) && hk_spool_first(sp) <= l->standby && hk_spool_end(sp) > l->released)
        l->released = hk_spool_end(sp);
    if (l->standby > l->released)
        l->released = l->standby;
}

static void write_all(struct lab *l)
{
    for (;;) {
        turn(l);
        if (hk_spool_end(&l->spool) >= l->published || l->spool.full || !step(l))
            break;
    }
    drain(l);
    turn(l);
}

/* One record, in pieces as frames would cut it; from the spool what the ring does not have. */
static bool feed_record(struct lab *l, uint64_t last)
{
    for (uint64_t at = l->standby; at < last;) {
        struct hk_iovec iov[2];
        uint64_t some = hk_min_u64(last - at, 1 + unit_random(&l->random) % 9000);
        int n;

        if (at >= l->released)
            break;
        hk_spool_prefetch(&l->spool, l->standby, l->released);
        some = hk_min_u64(some, l->spool.read_end > at ? l->spool.read_end - at : 0);
        n = some ? hk_spool_gather(&l->spool, at, (uint32_t)some, iov, 2) : 0;
        if (n <= 0) {
            if (l->spool.bad_lsn || !step(l))
                return false;
            continue;
        }
        for (int i = 0; i < n; at += iov[i++].bytes)
            assert_memory_equal(iov[i].base, l->log.bytes + (at - l->log.base), iov[i].bytes);
    }
    l->standby = last;
    return true;
}

/* The standby takes whole records, at least `bytes` if there are so many. False: it can't. */
static bool feed(struct lab *l, uint64_t bytes)
{
    uint64_t to = hk_min_u64(l->published, l->standby + bytes);

    while (l->standby < to) {
        const struct hk_record *r = store_log_at(&l->log, l->standby);

        if (!feed_record(l, hk_record_end(r).v))
            return false;
    }
    return true;
}

static void test_there_and_back(void **state)
{
    struct lab l;

    setup(&l, 1);
    produce(&l, 3 << 20);
    write_all(&l);
    assert_int_equal(l.released, l.published);
    assert_int_equal(hk_spool_first(&l.spool), l.log.base);
    assert_int_equal(hk_spool_end(&l.spool), l.published);
    /* Beyond the window's size, in steps as acks would come. */
    while (l.standby < l.published)
        assert_true(feed(&l, 1200000));
    assert_true(l.disk.read_count > 0);
    end(&l);
}

/* While the standby catches up the ring fills again: spool, then ring, no seam. */
static void test_seamless(void **state)
{
    struct lab l;

    setup(&l, 2);
    produce(&l, 2 << 20);
    write_all(&l);
    l.disk.shuffle = true;
    for (int i = 0; i < 60; i++) {
        produce(&l, 100000);
        if (i % 3)
            turn(&l);
        assert_true(feed(&l, 1400000));
        turn(&l);
    }
    assert_true(l.standby > l.log.base + (6 << 20));
    end(&l);
}

static void test_full_and_recycled(void **state)
{
    struct lab l;
    uint64_t held;

    setup(&l, 3);
    produce(&l, 8 << 20);
    write_all(&l);
    assert_true(l.spool.full);
    held = hk_spool_end(&l.spool);
    assert_true(held < l.published && l.released == held);
    assert_int_equal(hk_spool_used(&l.spool), hk_spool_total(&l.spool));
    assert_true(feed(&l, 3 << 20));
    write_all(&l);
    assert_true(hk_spool_end(&l.spool) > held);
    while (l.standby < l.published) {
        assert_true(feed(&l, 1 << 20));
        write_all(&l);
    }
    end(&l);
}

/* The standby caught up from the ring: what lies between is left out, and so it stays. */
static void test_left_out(void **state)
{
    struct lab l;
    uint64_t begun;

    setup(&l, 4);
    produce(&l, 400000);
    write_all(&l);
    assert_true(feed(&l, 1 << 20));
    produce(&l, 600000);
    l.standby = l.released = l.published; /* all from the ring */
    produce(&l, 500000);
    begun = l.standby;
    write_all(&l);
    assert_int_equal(hk_spool_first(&l.spool), begun);
    assert_int_equal(hk_spool_end(&l.spool), l.published);
    start(&l);
    assert_false(hk_spool_ready(&l.spool));
    drain(&l);
    assert_int_equal(l.spool.state, HK_SPOOL_RUNNING);
    assert_int_equal(hk_spool_first(&l.spool), begun);
    assert_int_equal(hk_spool_end(&l.spool), l.published);
    assert_true(feed(&l, 1 << 20));
    assert_int_equal(l.standby, l.published);
    end(&l);
}

/* Ring and memory are gone: the piece is found again, its times are no younger than the truth. */
static void test_survives(void **state)
{
    for (uint64_t seed = 10; seed < 40; seed++) {
        struct lab l;
        uint64_t at;

        setup(&l, seed);
        l.disk.shuffle = true;
        for (int i = 0; i < 12; i++) {
            produce(&l, 150000);
            turn(&l);
            for (uint64_t n = unit_random(&l.random) % 12; n > 0; n--)
                step(&l);
            if (unit_random(&l.random) % 3 == 0)
                feed(&l, 300000);
            turn(&l);
        }
        memdisk_power_cut(&l.disk);
        start(&l);
        drain(&l);
        assert_int_equal(l.spool.state, HK_SPOOL_RUNNING);
        if (l.standby < l.released) {
            assert_true(hk_spool_first(&l.spool) <= l.standby);
            assert_true(hk_spool_end(&l.spool) >= l.released);
            at = hk_spool_time_at(&l.spool, l.standby);
            assert_true(at > 0 && at <= store_log_at(&l.log, l.standby)->time_ns);
            l.released = l.published = hk_spool_end(&l.spool);
            while (l.standby < l.released)
                assert_true(feed(&l, 2 << 20));
        }
        end(&l);
    }
}

/* The i-th operation fails: nothing counts that is not there, and all that counted is sent. */
static void test_every_failure(void **state)
{
    uint32_t read_only = 0, bad = 0;

    for (uint64_t i = 1; i < 60; i++) {
        struct lab l;

        setup(&l, 5);
        l.disk.fail_at = l.disk.done_count + i;
        l.disk.fail_forever = i % 2;
        for (int k = 0; k < 6; k++) {
            produce(&l, 300000);
            write_all(&l);
        }
        if (l.spool.state == HK_SPOOL_READ_ONLY) {
            uint64_t held = l.released;

            read_only++;
            produce(&l, 100000);
            write_all(&l);
            assert_int_equal(l.released, held);
        }
        l.disk.fail_at = i % 3 ? 0 : l.disk.done_count + 1;
        if (!feed(&l, 1 << 20)) {
            assert_true(l.spool.bad_lsn >= l.standby);
            bad++;
        }
        end(&l);
    }
    assert_true(read_only > 5 && bad > 5);
}

/* A record that rotted is never in the window; what lies before it is. */
static void test_rot(void **state)
{
    struct lab l;
    const struct hk_journal_segment *s;
    struct memdisk_file *f;
    uint8_t byte;
    uint64_t before;

    setup(&l, 6);
    produce(&l, 1 << 20);
    write_all(&l);
    before = l.standby;
    s = &l.spool.journal.segment[l.spool.journal.order[0]];
    f = memdisk_file(&l.disk, HK_FILE_SPOOL_SEGMENT0 + l.spool.journal.order[0]);
    byte = f->cached[s->end_offset - 5000] ^ 1;
    memdisk_poke(&l.disk, f->file, s->end_offset - 5000, &byte, 1);
    while (feed(&l, 64000) && l.standby < l.published)
        ;
    assert_true(l.spool.bad_lsn >= before && l.spool.bad_lsn < l.published);
    assert_true(l.standby <= l.spool.bad_lsn);
    end(&l);
}

/* A copy in the ring that went bad is not taken; all before it is. */
static void test_ring_copy_bad(void **state)
{
    struct lab l;
    uint64_t bad;

    setup(&l, 7);
    produce(&l, 200000);
    bad = store_log_add(&l.log, HK_REC_WRITE, 0, 0, 4096, NULL);
    l.log.bytes[bad - l.log.base + 64 + 100] ^= 4;
    produce(&l, 200000);
    write_all(&l);
    assert_int_equal(hk_spool_end(&l.spool), bad);
    assert_int_equal(l.spool.copy_bad_lsn, bad);
    end(&l);
}

/* A new epoch: nothing of the old one is held, now or after a restart. */
static void test_epoch(void **state)
{
    struct lab l;
    uint64_t at;

    setup(&l, 8);
    produce(&l, 900000);
    write_all(&l);
    at = l.log.end + (1 << 20);
    store_log_epoch(&l.log, store_log_boundary(&l.log, l.log.base, l.log.base + 300000), at);
    l.standby = l.released = at;
    l.published = l.log.end;
    hk_spool_start(&l.spool, &l.log.history, &(struct hk_uuid){{7}});
    assert_int_equal(hk_spool_end(&l.spool), 0);
    drain(&l);
    start(&l);
    drain(&l);
    assert_int_equal(l.spool.state, HK_SPOOL_RUNNING);
    assert_int_equal(hk_spool_end(&l.spool), 0);
    produce(&l, 500000);
    write_all(&l);
    assert_int_equal(hk_spool_first(&l.spool), at);
    assert_true(feed(&l, 1 << 20));
    assert_int_equal(l.standby, l.published);
    end(&l);
}

/* Files of another group: nothing is overwritten. */
static void test_foreign(void **state)
{
    struct lab l;

    setup(&l, 9);
    produce(&l, 300000);
    write_all(&l);
    l.log.history.epoch[0].id.b[3] ^= 1;
    start(&l);
    drain(&l);
    assert_int_equal(l.spool.state, HK_SPOOL_FAILED);
    assert_true(hk_spool_ready(&l.spool));
    assert_int_equal(hk_spool_end(&l.spool), 0);
    l.disk.written_bytes = 0;
    write_all(&l);
    assert_int_equal(l.disk.written_bytes, 0);
    end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_seamless),
        cmocka_unit_test(test_full_and_recycled),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_survives),
        cmocka_unit_test(test_every_failure),
        cmocka_unit_test(test_rot),
        cmocka_unit_test(test_ring_copy_bad),
        cmocka_unit_test(test_epoch),
        cmocka_unit_test(test_foreign),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
