/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: recovery believes no more than what is proven, also when every hash around it is right, and
 * a disk that transfers less than asked for is an error, never a success. Method: a journal whose
 * batch headers or records are spoilt and sealed again; completions with a positive result.
 */
#include "unit.h"

#include "proto/hash.h"
#include "replicator/store/super_store.h"
#include "test_store_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_BYTES = 2 << 20, RECORDS = 3 };

/* One segment, one batch of three records of 576 bytes each; the rest is zeroes. */
static void written(struct rig *r, uint64_t at[RECORDS])
{
    static const uint8_t payload[512];

    rig_init(r, 12, SEGMENT_BYTES);
    rig_recover(r);
    for (int i = 0; i < RECORDS; i++)
        at[i] = store_log_add(&r->log, HK_REC_WRITE, 0, 512u * (unsigned)i, 512, payload);
    assert_int_equal(rig_append_wait(r, 4096), 0);
    rig_drain(r);
}

static uint8_t *file(struct rig *r)
{
    return memdisk_file(&r->disk, HK_FILE_SEGMENT0)->cached;
}

static struct hk_batch_header *batch(struct rig *r)
{
    return (void *)(file(r) + HK_SEGMENT_HEADER_BYTES);
}

static struct hk_record *record(struct rig *r, uint64_t lsn)
{
    uint64_t first = batch(r)->first_lsn;

    return (void *)(file(r) + HK_SEGMENT_HEADER_BYTES + HK_BATCH_HEADER_BYTES +
                    first % HK_PAGE_BYTES + (lsn - first));
}

/* Both hashes of the batch, for what it now says. */
static void seal(struct rig *r)
{
    struct hk_batch_header *h = batch(r);
    uint64_t seed = hk_epoch_seed(&h->epoch_id);

    h->data_hash = hk_xxh64(record(r, h->first_lsn), h->bytes, seed);
    h->hash = hk_xxh64(h, offsetof(struct hk_batch_header, hash), seed);
}

static void seal_record(struct hk_record *v, const struct rig *r)
{
    v->header_hash = hk_record_header_hash(v, hk_epoch_seed(&r->log.history.epoch[0].id));
}

static void bad_magic(struct hk_record *v)
{
    v->magic++;
}
static void too_long(struct hk_record *v)
{
    v->length = v->payload_len = 4096;
}
static void bad_payload(struct hk_record *v)
{
    v->payload_hash++;
}
static void bad_type(struct hk_record *v)
{
    v->type = 99;
}

static void test_records(void **state)
{
    static const struct {
        void (*spoil)(struct hk_record *);
        enum hk_record_fault fault;
    } row[] = {{bad_magic, HK_RECORD_BAD_MAGIC},
               {too_long, HK_RECORD_BAD_LENGTH},
               {bad_payload, HK_RECORD_BAD_PAYLOAD},
               {bad_type, HK_RECORD_BAD_TYPE}};

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(row); i++) {
        uint64_t at[RECORDS];
        struct rig r;

        written(&r, at);
        row[i].spoil(record(&r, at[1]));
        seal_record(record(&r, at[1]), &r);
        seal(&r);
        rig_recover(&r);
        assert_int_equal(r.journal.result.verdict, HK_JOURNAL_TORN);
        assert_int_equal(r.journal.result.record_fault, row[i].fault);
        assert_int_equal(r.journal.result.end, at[0]);
        rig_free(&r);
    }
}

static void other_ordinal(struct hk_batch_header *h)
{
    h->epoch_ordinal++;
}
static void beyond_the_file(struct hk_batch_header *h)
{
    h->bytes = HK_BATCH_BYTES_MAX;
}

static void test_batches(void **state)
{
    void (*const row[])(struct hk_batch_header *) = {other_ordinal, beyond_the_file};

    (void)state;
    for (size_t i = 0; i < HK_ARRAY_SIZE(row); i++) {
        uint64_t at[RECORDS];
        struct rig r;

        written(&r, at);
        row[i](batch(&r));
        batch(&r)->hash = hk_xxh64(batch(&r), offsetof(struct hk_batch_header, hash),
                                   hk_epoch_seed(&batch(&r)->epoch_id));
        rig_recover(&r);
        assert_int_equal(r.journal.result.verdict, HK_JOURNAL_TORN);
        assert_int_equal(r.journal.result.segment_fault, HK_SEGMENT_BAD_FIELD);
        assert_int_equal(r.journal.result.end, at[0]);
        rig_free(&r);
    }
}

/* A whole batch of an epoch that nobody knows, behind the end: an earlier life, no loss of ours. */
static void test_stranger_behind_the_end(void **state)
{
    uint64_t at[RECORDS];
    struct hk_batch_header *h;
    struct rig r;

    (void)state;
    written(&r, at);
    h = (void *)(file(&r) + SEGMENT_BYTES - HK_PAGE_BYTES);
    *h = *batch(&r);
    h->epoch_id.b[3] ^= 1;
    h->durable = h->first_lsn = r.log.end + (64 << 10);
    hk_batch_header_seal(h);
    rig_recover(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CLEAN);
    assert_int_equal(r.journal.result.end, r.log.end);
    rig_free(&r);
}

/* "So many bytes instead of all": of the journal's writes, of its recovery, of a reader. */
static void test_short_transfers(void **state)
{
    uint64_t at[RECORDS];
    struct hk_diskop *op;
    struct rig r;

    (void)state;
    written(&r, at);
    store_log_add(&r.log, HK_REC_FLUSH, 0, 0, 0, NULL);
    assert_int_equal(rig_append_wait(&r, 4096), 0);
    op = memdisk_step(&r.disk);
    op->result = 512;
    hk_journal_disk_done(&r.journal, op);
    assert_int_equal(r.journal.state, HK_JOURNAL_FAILED);
    assert_int_equal(r.journal.error, -EIO);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 2, &r.log.history.epoch[0].id, 1 << 20),
                     -EIO);
    /* Whoever asks is to be told the error. */
    assert_true(hk_journal_takes(&r.journal));
    rig_start(&r);
    op = memdisk_step(&r.disk);
    op->result = 512;
    hk_journal_disk_done(&r.journal, op);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_UNREADABLE);
    assert_int_equal(r.journal.error, -EIO);
    rig_recover(&r);
    assert_int_equal(hk_journal_read(&r.journal, &r.reader, at[0]), -EINPROGRESS);
    op = memdisk_step(&r.disk);
    op->result = 512;
    hk_journal_disk_done(&r.journal, op);
    assert_int_equal(hk_journal_read(&r.journal, &r.reader, at[0]), -EIO);
    rig_free(&r);
}

/* A segment that recovery can't hold at once, ended in a batch that lies across two reads. */
static void test_large_segment(void **state)
{
    uint64_t end;
    struct rig r;

    (void)state;
    rig_init(&r, 5, 12 << 20);
    rig_recover(&r);
    for (int i = 0; i < 9; i++) {
        store_log_add(&r.log, HK_REC_WRITE, 0, 0, HK_PAYLOAD_BYTES_MAX - 512u * (unsigned)i, NULL);
        assert_int_equal(rig_append_wait(&r, HK_RECORD_BYTES_MAX), 0);
        rig_drain(&r);
    }
    end = r.log.end;
    rig_recover(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CLEAN);
    assert_int_equal(r.journal.result.end, end);
    assert_int_equal(rig_read_back(&r, r.log.base), 0);
    rig_free(&r);
}

static void test_short_replica(void **state)
{
    struct hk_apply *a = calloc(1, sizeof(*a));
    struct hk_arena arena;
    struct hk_diskop *op;
    uint64_t at[RECORDS];
    struct hk_apply_cfg cfg;
    struct rig r;

    (void)state;
    written(&r, at);
    memdisk_add(&r.disk, HK_FILE_VOLUME0, 1 << 20);
    cfg = (struct hk_apply_cfg){.disk = &r.disk.disk,
                                .journal = &r.journal,
                                .history = &r.log.history,
                                .window = r.log.window,
                                .window_bytes = r.log.window_bytes,
                                .apply_bytes = HK_APPLY_BYTES_MIN,
                                .volume_count = 1,
                                .volume_bytes = {1 << 20}};
    arena = (struct hk_arena){.bytes = hk_apply_memory(&cfg) + hk_journal_reader_memory()};
    arena.base = aligned_alloc(HK_PAGE_BYTES, hk_round_up(arena.bytes, HK_PAGE_BYTES));
    assert_non_null(a);
    assert_non_null(arena.base);
    memset(arena.base, 0, arena.bytes);
    assert_int_equal(hk_apply_init(a, &cfg, &arena), 0);
    hk_apply_start(a, at[0]);
    while (hk_apply_run(a, r.log.end, at[0]))
        continue;
    op = memdisk_step(&r.disk);
    assert_int_equal(op->owner, HK_OWNER_APPLY);
    op->result = 512;
    hk_apply_disk_done(a, op);
    assert_int_equal(a->state, HK_APPLY_REPLICA_FAILED);
    assert_int_equal(a->error, -EIO);
    assert_int_equal(hk_apply_flushed(a), at[0]);
    r.apply = a;
    rig_drain(&r);
    rig_free(&r);
    free(arena.base);
    free(a);
}

static void test_short_super(void **state)
{
    static uint8_t memory[128 << 10] __attribute__((aligned(4096)));
    static struct hk_super_store s;
    struct hk_arena a = {.base = memory, .bytes = sizeof(memory)};
    struct memdisk d;
    struct hk_diskop *op;

    (void)state;
    memdisk_init(&d, 1);
    memdisk_add(&d, HK_FILE_SUPER, 2 * HK_SUPER_BYTES);
    assert_int_equal(hk_super_store_init(&s, &d.disk, HK_FILE_SUPER, &a), 0);
    hk_super_store_start(&s);
    op = memdisk_step(&d);
    op->result = 4096;
    hk_super_store_disk_done(&s, op);
    assert_int_equal(s.state, HK_SUPER_STORE_FAILED);
    assert_int_equal(s.error, -EIO);
    /* The other read comes home to a store that has failed already. */
    op = memdisk_step(&d);
    op->result = -ENODEV;
    hk_super_store_disk_done(&s, op);
    assert_int_equal(s.error, -EIO);
    hk_super_store_put(&s);
    assert_false(hk_super_store_busy(&s));
    assert_int_equal(hk_super_store_stored(&s), 0);
    memdisk_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_stranger_behind_the_end),
        cmocka_unit_test(test_short_transfers),
        cmocka_unit_test(test_large_segment),
        cmocka_unit_test(test_short_replica),
        cmocka_unit_test(test_short_super),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
