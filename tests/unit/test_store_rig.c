/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store_rig.h"

#include "replicator/store/line.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void rig_init(struct rig *r, uint64_t seed, uint64_t segment_bytes)
{
    memset(r, 0, sizeof(*r));
    r->random = seed;
    r->segment_bytes = segment_bytes;
    memdisk_init(&r->disk, seed);
    memdisk_add(&r->disk, HK_FILE_JOURNAL_DIR, MEMDISK_SECTOR);
    for (uint32_t i = 0; i < RIG_SEGMENTS; i++)
        memdisk_add(&r->disk, HK_FILE_SEGMENT0 + i, segment_bytes);
    store_log_init(&r->log, seed, 48 << 20, RIG_WINDOW_BYTES);
    r->applied = r->log.base;
}

void rig_free(struct rig *r)
{
    memdisk_free(&r->disk);
    store_log_free(&r->log);
    free(r->memory);
}

static void configure(struct rig *r, struct hk_journal_cfg *cfg)
{
    *cfg = (struct hk_journal_cfg){.disk = &r->disk.disk,
                                   .group_id = {{1}},
                                   .replica_id = {{2}},
                                   .window = r->log.window,
                                   .window_bytes = r->log.window_bytes,
                                   .segment_bytes = r->segment_bytes,
                                   .segment_count = RIG_SEGMENTS};
}

void rig_start_at(struct rig *r, const struct hk_history *history, uint64_t applied)
{
    struct hk_journal_cfg cfg;
    struct hk_arena arena;

    configure(r, &cfg);
    free(r->memory);
    arena = (struct hk_arena){.bytes = hk_journal_memory(&cfg)};
    arena.base = r->memory = calloc(1, arena.bytes);
    assert_non_null(r->memory);
    assert_int_equal(hk_journal_init(&r->journal, &cfg, &arena), 0);
    assert_int_equal(hk_journal_reader_init(&r->journal, &r->reader, &arena), 0);
    r->window_low = UINT64_MAX;
    hk_journal_recover(&r->journal, history, applied);
}

void rig_start(struct rig *r)
{
    rig_start_at(r, &r->log.history, r->applied);
}

bool rig_step(struct rig *r)
{
    struct hk_diskop *op = memdisk_step(&r->disk);
    uint64_t before = hk_journal_durable(&r->journal);
    bool failed = r->journal.state == HK_JOURNAL_FAILED;

    if (!op)
        return false;
    if (op->owner == HK_OWNER_APPLY) {
        hk_apply_disk_done(r->apply, op);
        return true;
    }
    hk_journal_disk_done(&r->journal, op);
    if (failed)
        assert_int_equal(r->journal.state, HK_JOURNAL_FAILED);
    assert_true(hk_journal_durable(&r->journal) >= before);
    if (r->journal.state == HK_JOURNAL_RUNNING) {
        assert_true(hk_journal_durable(&r->journal) <= hk_journal_end(&r->journal));
        if (hk_journal_durable(&r->journal) > r->reported)
            r->reported = hk_journal_durable(&r->journal);
    } else if (r->journal.state == HK_JOURNAL_FAILED) {
        assert_int_equal(hk_journal_durable(&r->journal), before);
    }
    return true;
}

void rig_drain(struct rig *r)
{
    while (rig_step(r))
        ;
}

void rig_recover(struct rig *r)
{
    rig_start(r);
    rig_drain(r);
    assert_int_equal(r->journal.state, HK_JOURNAL_RUNNING);
}

static uint32_t random_length(struct rig *r)
{
    switch (unit_random(&r->random) % 16) {
    case 0: return 512 * (1 + (uint32_t)(unit_random(&r->random) % 400));
    case 1: return unit_random(&r->random) % 8 ? 65536 : HK_PAYLOAD_BYTES_MAX;
    default: return 512 * (1 + (uint32_t)(unit_random(&r->random) % 32));
    }
}

void rig_produce(struct rig *r, uint64_t bytes)
{
    uint64_t until = r->log.end + bytes;

    while (r->log.end < until) {
        uint32_t length = random_length(r);
        uint64_t offset = 512 * (unit_random(&r->random) % 4096);
        uint16_t volume = (uint16_t)(unit_random(&r->random) % 2);

        switch (unit_random(&r->random) % 12) {
        case 0: store_log_add(&r->log, HK_REC_FLUSH, volume, 0, 0, NULL); break;
        case 1: store_log_add(&r->log, HK_REC_ZEROES, volume, offset, length, NULL); break;
        case 2: store_log_add(&r->log, HK_REC_VOID, volume, offset, length, NULL); break;
        case 3: store_log_add(&r->log, HK_REC_MARK, 0, 0, 0, NULL); break;
        default: store_log_add(&r->log, HK_REC_WRITE, volume, offset, length, NULL); break;
        }
    }
}

int rig_append(struct rig *r, uint64_t bytes)
{
    uint64_t from = hk_journal_end(&r->journal), to;

    bytes = hk_min_u64(bytes, hk_journal_batch_bytes_max(&r->journal));
    if (from >= r->log.end)
        return -ENODATA;
    to = store_log_boundary(&r->log, from, from + bytes);
    if (to == from)
        to = hk_record_end(store_log_at(&r->log, from)).v;
    /* What is not durable yet must stay in the window. */
    if (to - hk_journal_durable(&r->journal) > r->log.window_bytes)
        return -EAGAIN;
    store_log_receive(&r->log, from, to);
    if (r->window_low == UINT64_MAX)
        r->window_low = from;
    if (to - r->window_low > r->log.window_bytes)
        r->window_low = to - r->log.window_bytes;
    return hk_journal_append(&r->journal, from, to - from);
}

int rig_append_wait(struct rig *r, uint64_t bytes)
{
    int result;

    while ((result = rig_append(r, bytes)) == -EAGAIN) {
        if (!rig_step(r))
            return -EDEADLK;
    }
    return result;
}

int rig_read_back(struct rig *r, uint64_t from)
{
    uint64_t lsn = from;

    for (;;) {
        int result;

        if (hk_line_seek(&r->log.history, lsn, &lsn) < 0)
            return 0;
        if (lsn >= hk_journal_durable(&r->journal))
            return 0;
        result = hk_journal_read(&r->journal, &r->reader, lsn);
        if (result == -EINPROGRESS) {
            if (!rig_step(r))
                return -EDEADLK;
            continue;
        }
        if (result != 0)
            return result;
        assert_int_equal(r->reader.first, lsn);
        assert_true(r->reader.end > lsn && r->reader.end <= hk_journal_durable(&r->journal));
        assert_int_equal(r->reader.ordinal, store_log_at(&r->log, lsn)->epoch);
        assert_memory_equal(r->reader.data, store_log_at(&r->log, lsn), r->reader.end - lsn);
        lsn = r->reader.end;
    }
}
