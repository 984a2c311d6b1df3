/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the journal's writing, reading and verdicts, case by case. Method: a disk in memory; damage
 * is poked into known places and the verdict compared with what that place allows to say.
 */
#include "test_store_rig.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES (hk_journal_segment_bytes_min() + 16 * HK_PAGE_BYTES)

static void setup(struct rig *r, uint64_t seed)
{
    rig_init(r, seed, SEGMENT_BYTES);
    rig_recover(r);
}

static void test_empty(void **state)
{
    struct rig r;

    setup(&r, 1);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CLEAN);
    assert_int_equal(hk_journal_durable(&r.journal), r.log.base);
    assert_int_equal(hk_journal_used(&r.journal), 0);
    assert_int_equal(hk_journal_oldest(&r.journal), r.log.base);
    assert_int_equal(hk_journal_read(&r.journal, &r.reader, r.log.base), -ENODATA);
    rig_free(&r);
}

static void test_prefix_is_durable(void **state)
{
    struct rig r;
    struct hk_diskop *op[4];
    uint64_t end[4], first;

    setup(&r, 2);
    rig_produce(&r, 400000);
    assert_int_equal(rig_append(&r, 20000), -EAGAIN); /* a segment is taken first */
    rig_drain(&r);
    first = hk_journal_durable(&r.journal);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rig_append(&r, 20000), 0);
        end[i] = hk_journal_end(&r.journal);
        op[i] = r.disk.pending[i];
    }
    /* Completed out of order: only the contiguous prefix counts. */
    for (int i = 3; i >= 1; i--) {
        op[i]->result = 0;
        hk_journal_disk_done(&r.journal, op[i]);
        assert_int_equal(hk_journal_durable(&r.journal), first);
    }
    op[0]->result = 0;
    hk_journal_disk_done(&r.journal, op[0]);
    assert_int_equal(hk_journal_durable(&r.journal), end[3]);
    assert_true(hk_journal_idle(&r.journal));
    rig_free(&r);
}

static void test_inflight_is_bounded(void **state)
{
    struct rig r;
    int n = 0;

    setup(&r, 3);
    rig_produce(&r, 400000);
    rig_append(&r, 4096);
    rig_drain(&r);
    while (rig_append(&r, 4096) == 0)
        n++;
    assert_int_equal(n, HK_JOURNAL_INFLIGHT);
    assert_int_equal(rig_append(&r, 4096), -EAGAIN);
    assert_true(rig_step(&r));
    assert_int_equal(rig_append(&r, 4096), 0);
    rig_drain(&r);
    assert_int_equal(rig_read_back(&r, r.log.base), 0);
    rig_free(&r);
}

/* Nothing in a new segment counts before its name is durable. */
static void test_name_before_durable(void **state)
{
    struct rig r;
    char name[HK_SEGMENT_NAME_BYTES];
    uint64_t first;

    setup(&r, 4);
    rig_produce(&r, 100000);
    assert_int_equal(rig_append(&r, 8192), -EAGAIN);
    assert_true(rig_step(&r)); /* header */
    assert_int_equal(rig_append(&r, 8192), 0);
    first = hk_journal_durable(&r.journal);
    assert_int_equal(r.disk.pending_count, 2);
    r.disk.pending[1]->result = 0; /* the batch, while the rename is under way */
    hk_journal_disk_done(&r.journal, r.disk.pending[1]);
    r.disk.pending_count = 1;
    assert_int_equal(hk_journal_durable(&r.journal), first);
    assert_true(rig_step(&r)); /* rename */
    assert_int_equal(hk_journal_durable(&r.journal), first);
    assert_true(rig_step(&r)); /* directory */
    assert_int_equal(hk_journal_durable(&r.journal), hk_journal_end(&r.journal));
    hk_segment_name(1, &r.log.history.epoch[0].id, first, name);
    assert_string_equal(memdisk_file(&r.disk, HK_FILE_SEGMENT0)->name_durable, name);
    rig_free(&r);
}

/* Full; nothing is recycled before `applied` allows; then oldest first, retention or not. */
static void test_full_and_recycled(void **state)
{
    struct rig r;
    uint64_t oldest, second;
    int result;

    setup(&r, 5);
    rig_produce(&r, 6 << 20);
    while ((result = rig_append_wait(&r, 60000)) == 0)
        ;
    assert_int_equal(result, -ENOSPC);
    rig_drain(&r);
    assert_int_equal(r.journal.live_count, RIG_SEGMENTS);
    assert_int_equal(hk_journal_used(&r.journal), hk_journal_total(&r.journal));
    oldest = hk_journal_oldest(&r.journal);
    assert_int_equal(oldest, r.log.base);
    second = r.journal.segment[r.journal.order[1]].first_lsn;

    /* One record short of the segment's end is not enough. */
    hk_journal_applied(&r.journal, store_log_boundary(&r.log, oldest, second - 64));
    assert_int_equal(rig_append_wait(&r, 60000), -ENOSPC);
    hk_journal_applied(&r.journal, second);
    hk_journal_retain(&r.journal, r.log.base);
    assert_int_equal(rig_append_wait(&r, 60000), 0);
    rig_drain(&r);
    assert_int_equal(r.journal.recycled_count, 1);
    assert_int_equal(r.journal.retention_cut_count, 1);
    assert_int_equal(hk_journal_oldest(&r.journal), second);
    assert_int_equal(hk_journal_read(&r.journal, &r.reader, r.log.base), -ERANGE);
    assert_int_equal(rig_read_back(&r, second), 0);
    assert_true(hk_journal_used(&r.journal) < hk_journal_total(&r.journal));

    r.applied = second;
    rig_recover(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CLEAN);
    assert_int_equal(hk_journal_durable(&r.journal), r.reported);
    assert_int_equal(rig_read_back(&r, second), 0);
    rig_free(&r);
}

/* Below the retention bound a segment is taken again before a blank one is. */
static void test_retention_prefers(void **state)
{
    struct rig r;

    setup(&r, 6);
    rig_produce(&r, 4 << 20);
    while (r.journal.live_count < 2)
        assert_int_equal(rig_append_wait(&r, 60000), 0);
    rig_drain(&r);
    hk_journal_applied(&r.journal, hk_journal_durable(&r.journal));
    hk_journal_retain(&r.journal, hk_journal_durable(&r.journal));
    while (r.journal.recycled_count == 0)
        assert_int_equal(rig_append_wait(&r, 60000), 0);
    assert_int_equal(r.journal.live_count, 2);
    assert_int_equal(r.journal.retention_cut_count, 0);
    rig_free(&r);
}

/* Reading from the middle, in both directions, with and without a scan having been there. */
static void test_read_anywhere(void **state)
{
    struct rig r;

    setup(&r, 7);
    rig_produce(&r, 3 << 20);
    while (rig_append_wait(&r, 1 + unit_random(&r.random) % 30000) == 0)
        ;
    rig_drain(&r);
    r.applied = hk_journal_durable(&r.journal);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 200; i++) {
            uint64_t lsn = r.log.base + unit_random(&r.random) % (r.log.end - r.log.base);
            int result;

            lsn = store_log_boundary(&r.log, r.log.base, lsn);
            while ((result = hk_journal_read(&r.journal, &r.reader, lsn)) == -EINPROGRESS)
                rig_step(&r);
            assert_int_equal(result, 0);
            assert_int_equal(r.reader.first, lsn);
            assert_memory_equal(r.reader.data, store_log_at(&r.log, lsn), r.reader.end - lsn);
        }
        rig_recover(&r); /* scans only the newest segment */
    }
    rig_free(&r);
}

/* The largest batch, begun between two known positions: found again however the buffer lies. */
static void test_read_large_behind_small(void **state)
{
    struct rig r;
    int reads = 0, result;

    rig_init(&r, 8, 12 << 20);
    store_log_free(&r.log);
    store_log_init(&r.log, 8, 16 << 20, 8 << 20);
    r.applied = r.log.base;
    rig_recover(&r);
    rig_produce(&r, 6 << 20);
    assert_int_equal(rig_append_wait(&r, 20000), 0);
    assert_int_equal(rig_append_wait(&r, HK_BATCH_BYTES_MAX), 0);
    rig_drain(&r);
    for (uint64_t lsn = r.log.base; lsn < hk_journal_durable(&r.journal); lsn = r.reader.end) {
        while ((result = hk_journal_read(&r.journal, &r.reader, lsn)) == -EINPROGRESS &&
               ++reads < 9)
            rig_step(&r);
        assert_int_equal(result, 0);
    }
    rig_free(&r);
}

/* --- Verdicts --- */

enum { BATCHES = 5 };

struct laid {
    uint64_t offset[BATCHES + 1], lsn[BATCHES + 1];
};

/* One segment with a few batches, each durable before the next. */
static void lay(struct rig *r, struct laid *l)
{
    setup(r, 8);
    rig_produce(r, 300000);
    rig_append(r, 1);
    rig_drain(r);
    for (int i = 0; i < BATCHES; i++) {
        l->offset[i] = r->journal.offset;
        l->lsn[i] = hk_journal_end(&r->journal);
        assert_int_equal(rig_append_wait(r, 30000), 0);
        rig_drain(r);
    }
    l->offset[BATCHES] = r->journal.offset;
    l->lsn[BATCHES] = hk_journal_end(&r->journal);
}

static void flip(struct rig *r, uint32_t slot, uint64_t offset)
{
    uint8_t v = memdisk_file(&r->disk, HK_FILE_SEGMENT0 + slot)->cached[offset] ^ 0x40;

    memdisk_poke(&r->disk, HK_FILE_SEGMENT0 + slot, offset, &v, 1);
}

static void recover_any(struct rig *r)
{
    rig_start(r);
    rig_drain(r);
}

static void expect_corrupt(struct rig *r, uint64_t lsn)
{
    assert_int_equal(r->journal.state, HK_JOURNAL_FAILED);
    assert_int_equal(r->journal.result.verdict, HK_JOURNAL_CORRUPT);
    assert_int_equal(r->journal.error, -EUCLEAN);
    assert_int_equal(r->journal.result.bad_lsn, lsn);
}

static void expect_end(struct rig *r, enum hk_journal_verdict verdict, uint64_t end, uint64_t lost)
{
    assert_int_equal(r->journal.state, HK_JOURNAL_RUNNING);
    assert_int_equal(r->journal.result.verdict, verdict);
    assert_int_equal(r->journal.result.end, end);
    assert_int_equal(r->journal.result.lost_bytes, lost);
    assert_int_equal(hk_journal_durable(&r->journal), end);
}

/* Every field of every batch header but the last, and its data: below a later stamp. */
static void test_damage_below_the_stamp(void **state)
{
    struct rig r;
    struct laid l;

    lay(&r, &l);
    for (int b = 0; b < BATCHES - 1; b++) {
        uint64_t data = l.offset[b] + HK_BATCH_HEADER_BYTES + l.lsn[b] % HK_PAGE_BYTES;
        uint64_t at[] = {0,
                         8,
                         12,
                         16,
                         31,
                         32,
                         40,
                         48,
                         56,
                         1000,
                         4088,
                         data - l.offset[b],
                         data - l.offset[b] + l.lsn[b + 1] - l.lsn[b] - 1};

        for (size_t i = 0; i < HK_ARRAY_SIZE(at); i++) {
            flip(&r, 0, l.offset[b] + at[i]);
            recover_any(&r);
            expect_corrupt(&r, l.lsn[b]);
            flip(&r, 0, l.offset[b] + at[i]);
        }
    }
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, l.lsn[BATCHES], 0);
    rig_free(&r);
}

/* The last batch: nothing proves that it was reported. Torn or corrupt, and how much. */
static void test_damage_beyond_the_stamp(void **state)
{
    struct rig r;
    struct laid l;
    uint64_t last, bytes;
    /* Flipped here, the page does not even look like the batch expected. */
    const uint64_t unknown[] = {16, 31, 32, 39};
    const uint64_t torn[] = {0, 7, 8, 12, 48, 56, 1000, 4088};

    lay(&r, &l);
    last = l.offset[BATCHES - 1];
    bytes = l.lsn[BATCHES] - l.lsn[BATCHES - 1];
    for (size_t i = 0; i < HK_ARRAY_SIZE(unknown); i++) {
        flip(&r, 0, last + unknown[i]);
        recover_any(&r);
        expect_end(&r, HK_JOURNAL_CLEAN, l.lsn[BATCHES - 1], 0);
        flip(&r, 0, last + unknown[i]);
    }
    for (size_t i = 0; i < HK_ARRAY_SIZE(torn); i++) {
        flip(&r, 0, last + torn[i]);
        recover_any(&r);
        expect_end(&r, HK_JOURNAL_TORN, l.lsn[BATCHES - 1], bytes);
        flip(&r, 0, last + torn[i]);
    }
    for (uint64_t i = 0; i < bytes; i += 1 + bytes / 50) {
        uint64_t at = last + HK_BATCH_HEADER_BYTES + l.lsn[BATCHES - 1] % HK_PAGE_BYTES + i;

        flip(&r, 0, at);
        recover_any(&r);
        expect_end(&r, HK_JOURNAL_TORN, l.lsn[BATCHES - 1], bytes);
        assert_int_equal(r.journal.result.segment_fault, HK_SEGMENT_BAD_HASH);
        flip(&r, 0, at);
    }
    rig_free(&r);
}

/* Several in flight, an earlier one lost: the later ones are counted, and never taken. */
static void test_hole(void **state)
{
    struct rig r;
    uint64_t first, offset, end;
    uint8_t zeroes[HK_PAGE_BYTES] = {0};

    setup(&r, 9);
    rig_produce(&r, 300000);
    assert_int_equal(rig_append_wait(&r, 20000), 0);
    rig_drain(&r);
    first = hk_journal_end(&r.journal);
    offset = r.journal.offset;
    for (int i = 0; i < 4; i++)
        assert_int_equal(rig_append(&r, 20000), 0);
    end = hk_journal_end(&r.journal);
    rig_drain(&r);
    memdisk_poke(&r.disk, HK_FILE_SEGMENT0, offset, zeroes, sizeof(zeroes));
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_TORN, first, end - first);
    /* The log is sent again, cut otherwise; what the chain then meets must be the log. */
    while (rig_append_wait(&r, 7000) == 0)
        ;
    rig_drain(&r);
    assert_int_equal(rig_read_back(&r, r.log.base), 0);
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, r.log.end, 0);
    rig_free(&r);
}

/* Promotion where the hole is: what lies behind it stays unreachable, even if the hole heals. */
static void test_hole_and_promotion(void **state)
{
    struct rig r;
    uint64_t first, offset, new_first;
    uint8_t zeroes[HK_PAGE_BYTES] = {0}, saved[HK_PAGE_BYTES];

    setup(&r, 10);
    rig_produce(&r, 300000);
    assert_int_equal(rig_append_wait(&r, 20000), 0);
    rig_drain(&r);
    first = hk_journal_end(&r.journal);
    offset = r.journal.offset;
    for (int i = 0; i < 4; i++)
        assert_int_equal(rig_append(&r, 20000), 0);
    rig_drain(&r);
    memcpy(saved, memdisk_file(&r.disk, HK_FILE_SEGMENT0)->cached + offset, sizeof(saved));
    memdisk_poke(&r.disk, HK_FILE_SEGMENT0, offset, zeroes, sizeof(zeroes));
    recover_any(&r);
    assert_int_equal(r.journal.result.end, first);
    new_first = hk_round_up(r.log.end, 1 << 20);
    store_log_epoch(&r.log, first, new_first);
    memdisk_poke(&r.disk, HK_FILE_SEGMENT0, offset, saved, sizeof(saved));
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, new_first, 0);
    assert_int_equal(rig_append_wait(&r, 20000), 0);
    rig_drain(&r);
    assert_int_equal(rig_read_back(&r, r.log.base), 0);
    assert_int_equal(hk_journal_read(&r.journal, &r.reader, first), -ERANGE);
    rig_free(&r);
}

/* A whole journal of three segments over two epochs; segment i's file is slot i. */
static void lay_segments(struct rig *r)
{
    setup(r, 11);
    rig_produce(r, 2 << 20);
    while (r->journal.live_count < 2)
        assert_int_equal(rig_append_wait(r, 40000), 0);
    while (rig_append_wait(r, 40000) == 0)
        ;
    rig_drain(r);
    assert_int_equal(hk_journal_durable(&r->journal), r->log.end);
    store_log_epoch(&r->log, r->log.end, r->log.end + 128000);
    assert_int_equal(hk_journal_begin_epoch(&r->journal, 2, &r->log.history.epoch[1].id,
                                            r->log.history.epoch[1].first_lsn),
                     0);
    rig_produce(r, 100000);
    while (rig_append_wait(r, 40000) == 0)
        ;
    rig_drain(r);
    assert_int_equal(rig_read_back(r, r->log.base), 0);
}

/* A header that was durable and is not itself any more: found out by the batches under it. */
static void test_segment_header_damage(void **state)
{
    const uint64_t at[] = {0, 8, 12, 16, 32, 48, 64, 72, 500, 4090};
    struct rig r;
    uint32_t count;

    lay_segments(&r);
    count = r.journal.live_count;
    assert_true(count >= 3);
    for (uint32_t s = 0; s < count; s++) {
        for (size_t i = 0; i < HK_ARRAY_SIZE(at); i++) {
            flip(&r, s, at[i]);
            recover_any(&r);
            assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CORRUPT);
            assert_int_equal(r.journal.state, HK_JOURNAL_FAILED);
            flip(&r, s, at[i]);
        }
    }
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, r.log.end, 0);
    /* Once applied has passed, an old segment's damage is no obstacle any more. */
    r.applied = r.log.end;
    flip(&r, 0, 64);
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, r.log.end, 0);
    rig_free(&r);
}

/* The end of a segment that has successors is proven durable, whatever the stamps say. */
static void test_segment_tail_damage(void **state)
{
    struct rig r;
    struct hk_journal_segment *s;

    lay_segments(&r);
    s = &r.journal.segment[r.journal.order[0]];
    flip(&r, r.journal.order[0], s->end_offset - HK_PAGE_BYTES);
    recover_any(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CORRUPT);
    rig_free(&r);
}

static void test_missing(void **state)
{
    struct rig r;
    uint64_t last_durable;
    struct hk_history shorter;
    static const uint8_t blank[2 * HK_PAGE_BYTES];

    lay_segments(&r);
    last_durable = r.log.end;
    /* applied above what the journal has */
    r.applied = last_durable + 64;
    recover_any(&r);
    expect_corrupt(&r, last_durable + 64);
    /* applied not at a record boundary */
    r.applied = r.log.history.epoch[1].first_lsn + 64;
    recover_any(&r);
    expect_corrupt(&r, r.applied);
    /* an epoch that the superblock does not know */
    shorter = r.log.history;
    shorter.count = 1;
    memset(&shorter.epoch[1], 0, sizeof(shorter.epoch[1]));
    rig_start_at(&r, &shorter, r.log.base);
    rig_drain(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_FOREIGN);
    assert_int_equal(r.journal.error, -EMEDIUMTYPE);
    shorter.count = 0;
    memset(&shorter, 0, sizeof(shorter));
    rig_start_at(&r, &shorter, 0);
    rig_drain(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_FOREIGN);
    /* a later epoch that the journal has no byte of, although this one is not complete */
    r.applied = r.log.base;
    store_log_epoch(&r.log, r.log.end, r.log.end + 6400);
    for (uint32_t i = 0; i < RIG_SEGMENTS; i++) {
        const struct hk_segment_header *h =
            (const void *)memdisk_file(&r.disk, HK_FILE_SEGMENT0 + i)->cached;

        if (h->epoch_ordinal == 2)
            memdisk_poke(&r.disk, HK_FILE_SEGMENT0 + i, 0, blank, sizeof(blank));
    }
    recover_any(&r);
    expect_corrupt(&r, r.log.history.epoch[1].first_lsn);
    /* files replaced by blank ones while something had been applied */
    rig_free(&r);
    setup(&r, 12);
    rig_produce(&r, 10000);
    r.applied = r.log.end;
    recover_any(&r);
    expect_corrupt(&r, r.log.end);
    rig_free(&r);
}

static void reseal(struct rig *r, uint32_t slot, void (*change)(struct hk_segment_header *))
{
    static struct hk_segment_header h;

    memcpy(&h, memdisk_file(&r->disk, HK_FILE_SEGMENT0 + slot)->cached, sizeof(h));
    change(&h);
    hk_segment_header_seal(&h);
    memdisk_poke(&r->disk, HK_FILE_SEGMENT0 + slot, 0, &h, sizeof(h));
}

static void other_group(struct hk_segment_header *h)
{
    h->group_id.b[3] ^= 1;
}

static void other_replica(struct hk_segment_header *h)
{
    h->replica_id.b[3] ^= 1;
}

static void other_size(struct hk_segment_header *h)
{
    h->segment_bytes += HK_PAGE_BYTES;
}

static void other_ordinal(struct hk_segment_header *h)
{
    h->epoch_ordinal += 1;
}

static void beyond_its_epoch(struct hk_segment_header *h)
{
    h->first_lsn += 1ull << 40;
}

static void test_foreign(void **state)
{
    void (*const change[])(struct hk_segment_header *) = {other_group, other_replica, other_size,
                                                          other_ordinal};
    struct rig r;

    lay_segments(&r);
    for (size_t i = 0; i < HK_ARRAY_SIZE(change); i++) {
        struct memdisk_file *f = memdisk_file(&r.disk, HK_FILE_SEGMENT0);
        uint8_t saved[HK_PAGE_BYTES];

        memcpy(saved, f->cached, sizeof(saved));
        reseal(&r, 0, change[i]);
        recover_any(&r);
        assert_int_equal(r.journal.state, HK_JOURNAL_FAILED);
        assert_int_equal(r.journal.result.verdict, HK_JOURNAL_FOREIGN);
        assert_int_equal(r.journal.result.bad_slot, 0);
        memdisk_poke(&r.disk, HK_FILE_SEGMENT0, 0, saved, sizeof(saved));
    }
    reseal(&r, 0, beyond_its_epoch);
    recover_any(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CORRUPT);
    rig_free(&r);
}

/* Read back: what had been durable and is no longer is said so, never handed out. */
static void test_read_damage(void **state)
{
    struct rig r;
    struct laid l;

    lay(&r, &l);
    flip(&r, 0, l.offset[2] + HK_BATCH_HEADER_BYTES + HK_PAGE_BYTES + 77);
    assert_int_equal(rig_read_back(&r, l.lsn[0]), -EUCLEAN);
    flip(&r, 0, l.offset[2] + HK_BATCH_HEADER_BYTES + HK_PAGE_BYTES + 77);
    r.reader.bytes = 0;
    assert_int_equal(rig_read_back(&r, l.lsn[0]), 0);
    r.reader.segment = UINT32_MAX;
    flip(&r, 0, l.offset[2] + 33);
    assert_int_equal(rig_read_back(&r, l.lsn[0]), -EUCLEAN);
    rig_free(&r);
}

/* The header of an empty segment taken at the very end of an epoch is no obstacle. */
static void test_empty_segment_at_epoch_end(void **state)
{
    struct rig r;
    uint64_t end, last_page;
    uint32_t full;

    setup(&r, 13);
    rig_produce(&r, 3 << 20);
    assert_int_equal(rig_append_wait(&r, 40000), 0);
    while (!r.journal.want_segment) {
        int result = rig_append(&r, 40000);

        assert_true(result == 0 || result == -EAGAIN);
        if (!r.journal.want_segment)
            rig_step(&r);
    }
    rig_drain(&r);
    /* The segment is there, the batch that wanted it is not. */
    assert_int_equal(r.journal.offset, HK_SEGMENT_HEADER_BYTES);
    end = hk_journal_durable(&r.journal);
    memdisk_power_cut(&r.disk);
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, end, 0);
    assert_int_equal(r.journal.offset, HK_SEGMENT_HEADER_BYTES);
    /* Empty as it is, it proves that what is before it was durable: no stamp says so yet. */
    full = r.journal.order[r.journal.live_count - 2];
    last_page = r.journal.segment[full].end_offset - HK_PAGE_BYTES;
    flip(&r, full, last_page);
    recover_any(&r);
    assert_int_equal(r.journal.result.verdict, HK_JOURNAL_CORRUPT);
    flip(&r, full, last_page);
    store_log_epoch(&r.log, end, hk_round_up(r.log.end, 4096));
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, r.log.history.epoch[1].first_lsn, 0);
    assert_int_equal(rig_append_wait(&r, 40000), 0);
    rig_drain(&r);
    assert_int_equal(hk_journal_durable(&r.journal), r.log.end);
    recover_any(&r);
    expect_end(&r, HK_JOURNAL_CLEAN, r.log.end, 0);
    assert_int_equal(rig_read_back(&r, r.log.base), 0);
    rig_free(&r);
}

static void test_begin_epoch(void **state)
{
    struct rig r;
    struct hk_uuid id = {{9}}, nil = {{0}};

    setup(&r, 14);
    rig_produce(&r, 100000);
    assert_int_equal(rig_append_wait(&r, 20000), 0);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 2, &id, 1 << 20), -EAGAIN);
    rig_drain(&r);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 1, &id, 1 << 20), -EINVAL);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 2, &nil, 1 << 20), -EINVAL);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 2, &id, r.log.base), -EINVAL);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 2, &id, (1 << 20) + 1), -EINVAL);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 2, &id, 1 << 20), 0);
    assert_int_equal(hk_journal_begin_epoch(&r.journal, 2, &id, 1 << 20), 0);
    assert_int_equal(hk_journal_durable(&r.journal), 1 << 20);
    rig_free(&r);
}

static void test_bad_configuration(void **state)
{
    struct memdisk disk;
    struct hk_journal j;
    static uint8_t window[4096];
    struct hk_arena arena = {0};
    const struct hk_journal_cfg good = {.disk = &disk.disk,
                                        .group_id = {{1}},
                                        .replica_id = {{2}},
                                        .window = window,
                                        .window_bytes = 2 << 20,
                                        .segment_bytes = hk_journal_segment_bytes_min(),
                                        .segment_count = 2};
    struct hk_journal_cfg bad[8];

    for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++)
        bad[i] = good;
    bad[0].disk = NULL;
    bad[1].window = NULL;
    bad[2].window_bytes = 3 << 20;
    bad[3].window_bytes = 1 << 20;
    bad[4].segment_bytes -= HK_PAGE_BYTES;
    bad[5].segment_bytes += 1;
    bad[6].segment_count = 1;
    bad[7].group_id.b[0] = 0;
    for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++)
        assert_int_equal(hk_journal_init(&j, &bad[i], &arena), -EINVAL);
    assert_int_equal(hk_journal_init(&j, &good, &arena), -ENOMEM);
}

/* --- Every operation fails once --- */

/* Appends, segments, an epoch, a restart, reading back: whatever the journal ever does. */
static void whole_life(struct rig *r)
{
    rig_start(r);
    rig_drain(r);
    for (int i = 0; i < 30 && r->journal.state == HK_JOURNAL_RUNNING; i++) {
        if (rig_append_wait(r, 100000) != 0)
            break;
        if (i % 4 == 0)
            rig_drain(r);
        if (i % 8 == 7 && r->journal.state == HK_JOURNAL_RUNNING) {
            r->applied = hk_journal_durable(&r->journal);
            hk_journal_applied(&r->journal, r->applied);
        }
    }
    rig_drain(r);
    if (r->journal.state != HK_JOURNAL_RUNNING)
        return;
    if (rig_read_back(r, hk_journal_oldest(&r->journal)) != 0)
        return;
    rig_start(r);
    rig_drain(r);
    if (r->journal.state != HK_JOURNAL_RUNNING)
        return;
    rig_append_wait(r, 100000);
    rig_drain(r);
}

static unsigned inject(bool for_ever)
{
    unsigned points = 0;

    for (uint64_t i = 1;; i++) {
        struct rig r;
        uint64_t failed;

        rig_init(&r, 15, SEGMENT_BYTES);
        rig_produce(&r, 4 << 20);
        r.disk.fail_at = i;
        r.disk.fail_forever = for_ever;
        whole_life(&r);
        failed = r.disk.failed_count;
        if (failed == 0)
            assert_int_equal(r.journal.state, HK_JOURNAL_RUNNING);
        else if (r.journal.state == HK_JOURNAL_FAILED)
            assert_int_equal(r.journal.error, -EIO);
        r.disk.fail_at = 0;
        memdisk_power_cut(&r.disk);
        recover_any(&r);
        assert_int_equal(r.journal.state, HK_JOURNAL_RUNNING);
        assert_true(hk_journal_durable(&r.journal) >= r.reported);
        assert_int_equal(rig_read_back(&r, r.applied), 0);
        rig_free(&r);
        if (failed == 0)
            return points;
        points++;
    }
}

static void test_every_op_fails(void **state)
{
    unsigned once = inject(false), for_ever = inject(true);

    print_message("# injected points: %u\n", once + for_ever);
    assert_true(once >= 60 && for_ever >= 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_prefix_is_durable),
        cmocka_unit_test(test_inflight_is_bounded),
        cmocka_unit_test(test_name_before_durable),
        cmocka_unit_test(test_full_and_recycled),
        cmocka_unit_test(test_retention_prefers),
        cmocka_unit_test(test_read_anywhere),
        cmocka_unit_test(test_read_large_behind_small),
        cmocka_unit_test(test_damage_below_the_stamp),
        cmocka_unit_test(test_damage_beyond_the_stamp),
        cmocka_unit_test(test_hole),
        cmocka_unit_test(test_hole_and_promotion),
        cmocka_unit_test(test_segment_header_damage),
        cmocka_unit_test(test_segment_tail_damage),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_read_damage),
        cmocka_unit_test(test_empty_segment_at_epoch_end),
        cmocka_unit_test(test_begin_epoch),
        cmocka_unit_test(test_bad_configuration),
        cmocka_unit_test(test_every_op_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
