/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: at every barrier and at the end the replicas hold exactly the log's prefix, durably,
 * whatever crashed before; a record that does not check is never written; a failed operation is
 * final. Method: a naive model applies the log record by record; random lives with crashes are
 * compared with it wherever apply says that the replica is a state of the log.
 */
#include "replicator/store/line.h"
#include "test_store_rig.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { VOLUMES = 2, VOLUME_BYTES = 3 << 20, APPLY_BYTES = 2 << 20 };
#define SEGMENT_BYTES (hk_journal_segment_bytes_min() + 16 * HK_PAGE_BYTES)

struct site {
    struct rig r;
    struct hk_apply apply;
    uint8_t *memory;
    uint8_t *model[VOLUMES];
    uint64_t model_lsn;
    uint64_t storing; /* being stored as applied: durable at any time */
    unsigned barriers, compared;
};

static void site_init(struct site *s, uint64_t seed)
{
    memset(s, 0, sizeof(*s));
    rig_init(&s->r, seed, SEGMENT_BYTES);
    s->r.apply = &s->apply;
    for (uint32_t v = 0; v < VOLUMES; v++) {
        memdisk_add(&s->r.disk, HK_FILE_VOLUME0 + v, VOLUME_BYTES);
        s->model[v] = calloc(1, VOLUME_BYTES);
    }
    s->model_lsn = s->r.log.base;
}

static void site_free(struct site *s)
{
    for (uint32_t v = 0; v < VOLUMES; v++)
        free(s->model[v]);
    free(s->memory);
    rig_free(&s->r);
}

/* The journal recovers, apply starts where the superblock says. */
static bool site_start(struct site *s)
{
    struct hk_apply_cfg cfg = {.disk = &s->r.disk.disk,
                               .journal = &s->r.journal,
                               .history = &s->r.log.history,
                               .window = s->r.log.window,
                               .window_bytes = s->r.log.window_bytes,
                               .apply_bytes = APPLY_BYTES,
                               .volume_count = VOLUMES,
                               .volume_bytes = {VOLUME_BYTES, VOLUME_BYTES}};
    struct hk_arena arena = {.bytes = hk_apply_memory(&cfg) + hk_journal_reader_memory()};

    free(s->memory);
    rig_start(&s->r);
    arena.base = s->memory = calloc(1, arena.bytes);
    assert_non_null(s->memory);
    assert_int_equal(hk_apply_init(&s->apply, &cfg, &arena), 0);
    rig_drain(&s->r);
    s->storing = 0;
    if (s->r.journal.state != HK_JOURNAL_RUNNING)
        return false;
    hk_apply_start(&s->apply, s->r.applied);
    return true;
}

static void model_record(struct site *s, const struct hk_record *rec)
{
    switch ((enum hk_record_type)rec->type) {
    case HK_REC_WRITE:
    case HK_REC_BLOCK: memcpy(s->model[rec->volume] + rec->offset, rec + 1, rec->length); return;
    case HK_REC_ZEROES:
    case HK_REC_DISCARD: memset(s->model[rec->volume] + rec->offset, 0, rec->length); return;
    case HK_REC_FLUSH:
    case HK_REC_MARK:
    case HK_REC_GAP:
    case HK_REC_VOID:
    case HK_REC_RESYNC_BEGIN:
    case HK_REC_RESYNC_END:
    case HK_REC_BAD_RANGE:
    case HK_REC_MODE:
    case HK_REC_JOIN:
    case HK_REC_LEAVE:
    case HK_REC_RESIZE: return;
    }
}

/* Are cached and durable contents of the replicas the log's prefix at `lsn`? */
static void compare(struct site *s, uint64_t lsn)
{
    assert_true(lsn >= s->model_lsn);
    for (;;) {
        hk_line_seek(&s->r.log.history, s->model_lsn, &s->model_lsn);
        if (s->model_lsn >= lsn)
            break;
        model_record(s, store_log_at(&s->r.log, s->model_lsn));
        s->model_lsn = hk_record_end(store_log_at(&s->r.log, s->model_lsn)).v;
    }
    for (uint32_t v = 0; v < VOLUMES; v++) {
        struct memdisk_file *f = memdisk_file(&s->r.disk, HK_FILE_VOLUME0 + v);

        assert_memory_equal(f->cached, s->model[v], VOLUME_BYTES);
        assert_memory_equal(f->durable, s->model[v], VOLUME_BYTES);
    }
    s->compared++;
}

/* The superblock's write has ended: applied is what was asked for. */
static void store(struct site *s)
{
    if (s->storing != 0) {
        s->r.applied = s->storing;
        hk_apply_stored(&s->apply, s->storing);
        hk_journal_applied(&s->r.journal, s->storing);
        s->storing = 0;
    }
    if (hk_apply_flushed(&s->apply) > s->r.applied)
        s->storing = hk_apply_flushed(&s->apply);
}

static void at_barrier(struct site *s)
{
    const struct hk_record *b = &s->apply.barrier;
    const struct hk_record *in_log = store_log_at(&s->r.log, b->lsn);

    assert_memory_equal(b, in_log, sizeof(*b));
    assert_memory_equal(s->apply.barrier_payload, in_log + 1, b->payload_len);
    assert_true(hk_apply_quiet(&s->apply));
    assert_int_equal(s->r.applied, b->lsn);
    assert_int_equal(hk_apply_flushed(&s->apply), b->lsn);
    assert_false(hk_apply_run(&s->apply, hk_journal_durable(&s->r.journal), UINT64_MAX));
    compare(s, b->lsn);
    s->barriers++;
}

static void pass_barrier(struct site *s)
{
    s->r.applied = hk_record_end(&s->apply.barrier).v;
    hk_apply_resume(&s->apply);
    hk_journal_applied(&s->r.journal, s->r.applied);
    s->storing = 0;
}

static bool run(struct site *s)
{
    uint64_t from = s->r.window_low;

    if (unit_random(&s->r.random) % 4 == 0)
        from = UINT64_MAX; /* the journal has it, too */
    return hk_apply_run(&s->apply, hk_journal_durable(&s->r.journal), from);
}

/* Goes on until all that is durable is applied, without new log. False: it failed. */
static bool settle(struct site *s)
{
    uint64_t idle = 0;

    while (idle < 3) {
        bool progress = run(s);

        progress |= rig_step(&s->r);
        progress |= s->storing != 0;
        store(s);
        if (s->apply.state == HK_APPLY_BARRIER) {
            at_barrier(s);
            pass_barrier(s);
            progress = true;
        }
        if (s->apply.state == HK_APPLY_REPLICA_FAILED || s->apply.state == HK_APPLY_CORRUPT)
            return false;
        idle = progress ? 0 : idle + 1;
    }
    return s->apply.state == HK_APPLY_IDLE;
}

static void live(struct site *s)
{
    for (uint64_t n = 100 + unit_random(&s->r.random) % 600; n > 0; n--) {
        switch (unit_random(&s->r.random) % 8) {
        case 0:
            if (hk_journal_end(&s->r.journal) == s->r.log.end)
                rig_produce(&s->r, 40000);
            rig_append(&s->r, 1 + unit_random(&s->r.random) % 60000);
            break;
        case 1:
        case 2: run(s); break;
        case 3: store(s); break;
        case 4:
            if (s->apply.state == HK_APPLY_BARRIER) {
                at_barrier(s);
                if (unit_random(&s->r.random) % 3 == 0)
                    pass_barrier(s);
            }
            break;
        default: rig_step(&s->r); break;
        }
        assert_int_not_equal(s->apply.state, HK_APPLY_CORRUPT);
        assert_int_not_equal(s->apply.state, HK_APPLY_REPLICA_FAILED);
    }
}

static void one_seed(uint64_t seed, unsigned *barriers, unsigned *compared)
{
    struct site s;

    site_init(&s, seed);
    s.r.disk.shuffle = true;
    assert_true(site_start(&s));
    for (int round = 0; round < 25; round++) {
        uint64_t durable;

        if (s.r.log.end - s.r.log.base > s.r.log.bytes_max - (8 << 20))
            break;
        live(&s);
        /* A write of the superblock that was under way may have arrived. */
        if (s.storing != 0 && unit_random(&s.r.random) % 2)
            s.r.applied = s.storing;
        if (unit_random(&s.r.random) % 3 == 0)
            memdisk_kill(&s.r.disk);
        else
            memdisk_power_cut(&s.r.disk);
        assert_true(site_start(&s));
        if (round % 3 == 0) {
            assert_true(settle(&s));
            compare(&s, hk_apply_flushed(&s.apply));
            assert_int_equal(hk_apply_flushed(&s.apply), hk_journal_durable(&s.r.journal));
        }
        durable = hk_journal_durable(&s.r.journal);
        if (round % 5 == 4 && hk_journal_idle(&s.r.journal) && s.r.log.history.count < 60 &&
            durable > hk_history_last(&s.r.log.history)->first_lsn) {
            store_log_epoch(&s.r.log, durable, s.r.log.end + 64000);
            assert_int_equal(hk_journal_begin_epoch(&s.r.journal, s.r.log.history.count,
                                                    &hk_history_last(&s.r.log.history)->id,
                                                    hk_history_last(&s.r.log.history)->first_lsn),
                             0);
        }
    }
    *barriers += s.barriers;
    *compared += s.compared;
    site_free(&s);
}

static void test_random_lives(void **state)
{
    unsigned barriers = 0, compared = 0;

    for (uint64_t seed = 1; seed <= 3; seed++)
        one_seed(seed, &barriers, &compared);
    print_message("# barriers %u, comparisons %u\n", barriers, compared);
    assert_true(barriers > 300 && compared > 300);
}

/* --- Case by case --- */

static void begin(struct site *s)
{
    site_init(s, 5);
    assert_true(site_start(s));
}

static void journal_all(struct site *s)
{
    while (rig_append_wait(&s->r, 60000) == 0)
        ;
    rig_drain(&s->r);
    assert_int_equal(hk_journal_durable(&s->r.journal), s->r.log.end);
}

static uint8_t *pattern(uint8_t v)
{
    static uint8_t bytes[65536];

    memset(bytes, v, sizeof(bytes));
    return bytes;
}

/* Neighbours become one operation, what is overwritten later is never written. */
static void test_coalesces(void **state)
{
    struct site s;

    begin(&s);
    for (uint64_t i = 0; i < 16; i++)
        store_log_add(&s.r.log, HK_REC_WRITE, 0, i * 4096, 4096, pattern((uint8_t)(i + 1)));
    for (int i = 0; i < 3; i++)
        store_log_add(&s.r.log, HK_REC_WRITE, 1, 8192, 4096, pattern((uint8_t)(i + 1)));
    store_log_add(&s.r.log, HK_REC_ZEROES, 1, 0, 4096, NULL);
    store_log_add(&s.r.log, HK_REC_DISCARD, 1, 4096, 4096, NULL);
    journal_all(&s);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    assert_int_equal(s.apply.state, HK_APPLY_WRITING);
    assert_int_equal(s.r.disk.pending_count, 3);
    assert_int_equal(s.r.disk.pending[0]->bytes, 65536);
    assert_int_equal(s.r.disk.pending[0]->iov_count, 1);
    assert_int_equal(s.r.disk.pending[1]->kind, HK_DISK_PUNCH);
    assert_int_equal(s.r.disk.pending[1]->bytes, 8192);
    assert_int_equal(s.r.disk.pending[2]->bytes, 4096);
    assert_int_equal(s.apply.written_bytes, 65536 + 4096);
    assert_int_equal(s.apply.punched_bytes, 8192);
    /* Nothing is said before both volumes are flushed. */
    for (int i = 0; i < 4; i++) {
        assert_true(rig_step(&s.r));
        assert_int_equal(hk_apply_flushed(&s.apply), s.r.log.base);
    }
    assert_int_equal(s.apply.state, HK_APPLY_FLUSHING);
    assert_true(rig_step(&s.r));
    assert_int_equal(hk_apply_flushed(&s.apply), s.r.log.end);
    compare(&s, s.r.log.end);
    site_free(&s);
}

static void test_depth_is_bounded(void **state)
{
    struct site s;

    begin(&s);
    for (uint64_t i = 0; i < 200; i++)
        store_log_add(&s.r.log, HK_REC_WRITE, 0, i * 8192, 512, pattern(1));
    journal_all(&s);
    hk_apply_run(&s.apply, s.r.log.end, s.r.window_low);
    assert_int_equal(s.r.disk.pending_count, HK_APPLY_DEPTH);
    assert_true(settle(&s));
    compare(&s, s.r.log.end);
    site_free(&s);
}

/* Stops where it is told to, at a record's end at or below. */
static void test_limit(void **state)
{
    struct site s;
    uint64_t second, third;

    begin(&s);
    store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(1));
    second = store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(2));
    third = store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(3));
    journal_all(&s);
    assert_false(hk_apply_run(&s.apply, second - 64, s.r.window_low));
    assert_int_equal(s.apply.state, HK_APPLY_IDLE);
    assert_false(hk_apply_run(&s.apply, third, UINT64_MAX));
    rig_drain(&s.r);
    assert_false(hk_apply_run(&s.apply, third, UINT64_MAX));
    rig_drain(&s.r);
    assert_int_equal(hk_apply_flushed(&s.apply), third);
    compare(&s, third);
    assert_true(settle(&s));
    compare(&s, s.r.log.end);
    site_free(&s);
}

/* The log goes on while apply stands at a mark; nothing passes it. */
static void test_stands_at_a_mark(void **state)
{
    struct site s;
    uint64_t mark;

    begin(&s);
    store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(1));
    mark = store_log_add(&s.r.log, HK_REC_MARK, 0, 0, 0, NULL);
    store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(2));
    journal_all(&s);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    rig_drain(&s.r);
    assert_int_equal(s.apply.state, HK_APPLY_STORING);
    assert_int_equal(hk_apply_flushed(&s.apply), mark);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    hk_apply_stored(&s.apply, s.r.log.base);
    assert_int_equal(s.apply.state, HK_APPLY_STORING);
    s.r.applied = mark;
    hk_apply_stored(&s.apply, mark);
    assert_int_equal(s.apply.state, HK_APPLY_BARRIER);
    assert_string_equal(((struct hk_mark *)(void *)s.apply.barrier_payload)->name, "night");
    at_barrier(&s);
    /* After a crash it stands there again. */
    memdisk_power_cut(&s.r.disk);
    assert_true(site_start(&s));
    assert_false(hk_apply_run(&s.apply, s.r.log.end, UINT64_MAX));
    rig_drain(&s.r);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, UINT64_MAX));
    assert_int_equal(s.apply.state, HK_APPLY_BARRIER);
    at_barrier(&s);
    pass_barrier(&s);
    assert_true(settle(&s));
    compare(&s, s.r.log.end);
    site_free(&s);
}

/* A good record, then a bad one in the same batch: neither is written. */
static void expect_corrupt(uint8_t type, uint16_t volume, uint64_t offset, uint32_t length,
                           enum hk_record_fault fault)
{
    struct site s;
    uint64_t bad;

    begin(&s);
    store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(1));
    bad = store_log_add(&s.r.log, type, volume, offset, length, NULL);
    journal_all(&s);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    assert_int_equal(s.apply.state, HK_APPLY_CORRUPT);
    assert_int_equal(s.apply.bad_lsn, bad);
    assert_int_equal(s.apply.record_fault, fault);
    assert_int_equal(s.r.disk.pending_count, 0);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    compare(&s, s.r.log.base);
    site_free(&s);
}

/* A whole record that was not written behind the one before it: nothing of its batch is written. */
static void test_out_of_line(void **state)
{
    struct hk_record *rec;
    struct site s;
    uint64_t bad;

    (void)state;
    begin(&s);
    store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(1));
    bad = store_log_add(&s.r.log, HK_REC_WRITE, 0, 4096, 4096, pattern(2));
    rec = (struct hk_record *)(uintptr_t)store_log_at(&s.r.log, bad);
    rec->prev_bytes -= 64;
    rec->header_hash =
        hk_record_header_hash(rec, hk_epoch_seed(&hk_history_last(&s.r.log.history)->id));
    journal_all(&s);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    assert_int_equal(s.apply.state, HK_APPLY_CORRUPT);
    assert_int_equal(s.apply.record_fault, HK_RECORD_BAD_PREV);
    assert_int_equal(s.apply.bad_lsn, bad);
    assert_int_equal(s.apply.written_bytes, 0);
    site_free(&s);
}

static void test_out_of_bounds(void **state)
{
    expect_corrupt(HK_REC_WRITE, VOLUMES, 0, 512, HK_RECORD_BAD_VOLUME);
    expect_corrupt(HK_REC_WRITE, 1, VOLUME_BYTES, 512, HK_RECORD_BAD_LENGTH);
    expect_corrupt(HK_REC_WRITE, 1, VOLUME_BYTES - 512, 1024, HK_RECORD_BAD_LENGTH);
    expect_corrupt(HK_REC_WRITE, 1, UINT64_MAX - 1023, 512, HK_RECORD_BAD_LENGTH);
    expect_corrupt(HK_REC_ZEROES, 1, 0, VOLUME_BYTES + 512, HK_RECORD_BAD_LENGTH);
    expect_corrupt(HK_REC_WRITE, 1, 100, 512, HK_RECORD_BAD_LENGTH);
    expect_corrupt(HK_REC_DISCARD, 1, 512, 100, HK_RECORD_BAD_LENGTH);
}

/* Memory went bad between the journal and apply: the payload's hash tells. */
static void test_window_damage(void **state)
{
    struct site s;
    uint64_t bad;

    begin(&s);
    store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 4096, pattern(1));
    bad = store_log_add(&s.r.log, HK_REC_WRITE, 0, 4096, 4096, pattern(2));
    journal_all(&s);
    s.r.log.window[(bad + 64 + 1000) & (s.r.log.window_bytes - 1)] ^= 1;
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    assert_int_equal(s.apply.state, HK_APPLY_CORRUPT);
    assert_int_equal(s.apply.bad_lsn, bad);
    assert_int_equal(s.apply.record_fault, HK_RECORD_BAD_PAYLOAD);
    compare(&s, s.r.log.base);
    site_free(&s);

    begin(&s);
    bad = store_log_add(&s.r.log, HK_REC_WRITE, 0, 4096, 4096, pattern(2));
    journal_all(&s);
    s.r.log.window[(bad + 17) & (s.r.log.window_bytes - 1)] ^= 1;
    assert_false(hk_apply_run(&s.apply, s.r.log.end, s.r.window_low));
    assert_int_equal(s.apply.record_fault, HK_RECORD_BAD_HASH);
    site_free(&s);
}

/* The journal's copy went bad after it was durable: read for apply, found out there. */
static void test_journal_damage(void **state)
{
    struct site s;
    uint8_t v = 0x5a;

    begin(&s);
    store_log_add(&s.r.log, HK_REC_WRITE, 0, 0, 65536, pattern(1));
    journal_all(&s);
    memdisk_poke(&s.r.disk, HK_FILE_SEGMENT0, 3 * HK_PAGE_BYTES + 100, &v, 1);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, UINT64_MAX));
    rig_drain(&s.r);
    assert_false(hk_apply_run(&s.apply, s.r.log.end, UINT64_MAX));
    assert_int_equal(s.apply.state, HK_APPLY_CORRUPT);
    assert_int_equal(s.apply.record_fault, HK_RECORD_OK);
    assert_int_equal(s.apply.error, -EUCLEAN);
    compare(&s, s.r.log.base);
    site_free(&s);
}

static void test_bad_configuration(void **state)
{
    static struct hk_apply a;
    static struct hk_journal journal;
    static uint8_t window[4096];
    struct memdisk disk;
    struct hk_history history = {0};
    struct hk_arena arena = {0};
    const struct hk_apply_cfg good = {.disk = &disk.disk,
                                      .journal = &journal,
                                      .history = &history,
                                      .window = window,
                                      .window_bytes = 4096,
                                      .apply_bytes = HK_APPLY_BYTES_MIN,
                                      .volume_count = 1};
    struct hk_apply_cfg bad[6];

    for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++)
        bad[i] = good;
    bad[0].disk = NULL;
    bad[1].history = NULL;
    bad[2].window_bytes = 4097;
    bad[3].apply_bytes -= HK_PAGE_BYTES;
    bad[4].apply_bytes += 1;
    bad[5].volume_count = HK_VOLUMES_MAX + 1;
    for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++)
        assert_int_equal(hk_apply_init(&a, &bad[i], &arena), -EINVAL);
    assert_int_equal(hk_apply_init(&a, &good, &arena), -ENOMEM);
}

/* --- Every operation fails once --- */

static void whole_life(struct site *s)
{
    if (!site_start(s))
        return;
    while (rig_append_wait(&s->r, 100000) == 0) {
        if (!settle(s))
            break;
    }
    if (s->apply.state == HK_APPLY_CORRUPT || s->r.journal.state == HK_JOURNAL_FAILED)
        return;
    /* With a failed replica the journal goes on. */
    if (s->apply.state == HK_APPLY_REPLICA_FAILED) {
        uint64_t flushed = hk_apply_flushed(&s->apply);
        int r = rig_append_wait(&s->r, 100000);

        assert_true(r == 0 || r == -ENODATA);
        rig_drain(&s->r);
        assert_false(hk_apply_run(&s->apply, hk_journal_durable(&s->r.journal), UINT64_MAX));
        assert_int_equal(hk_apply_flushed(&s->apply), flushed);
        assert_true(hk_apply_quiet(&s->apply));
    }
}

static unsigned inject(bool for_ever)
{
    unsigned points = 0, replica = 0;

    for (uint64_t i = 1;; i++) {
        struct site s;
        uint64_t failed;

        site_init(&s, 21);
        rig_produce(&s.r, 500000);
        s.r.disk.fail_at = i;
        s.r.disk.fail_forever = for_ever;
        whole_life(&s);
        failed = s.r.disk.failed_count;
        if (s.apply.state == HK_APPLY_REPLICA_FAILED) {
            replica++;
            assert_int_equal(s.apply.error, -EIO);
            assert_true(s.apply.failed_volume < VOLUMES);
        }
        /* A read ahead that failed may turn out not to be needed: the window has it. */
        if (failed > s.r.disk.failed_reads)
            assert_true(s.apply.state == HK_APPLY_REPLICA_FAILED ||
                        s.apply.state == HK_APPLY_CORRUPT ||
                        s.r.journal.state == HK_JOURNAL_FAILED);
        s.r.disk.fail_at = 0;
        memdisk_power_cut(&s.r.disk);
        assert_true(site_start(&s));
        assert_true(settle(&s));
        compare(&s, hk_journal_durable(&s.r.journal));
        site_free(&s);
        if (failed == 0)
            break;
        points++;
    }
    assert_true(replica >= 20);
    return points;
}

static void test_every_op_fails(void **state)
{
    unsigned once = inject(false), for_ever = inject(true);

    print_message("# injected points: %u\n", once + for_ever);
    assert_true(once >= 50 && for_ever >= 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coalesces),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_stands_at_a_mark),
        cmocka_unit_test(test_out_of_line),
        cmocka_unit_test(test_out_of_bounds),
        cmocka_unit_test(test_window_damage),
        cmocka_unit_test(test_journal_damage),
        cmocka_unit_test(test_bad_configuration),
        cmocka_unit_test(test_random_lives),
        cmocka_unit_test(test_every_op_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
