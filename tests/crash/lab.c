/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/lab.h"

#include "tests/crash/crash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPS_MAX = 10000 };

void (*lab_on_step)(struct lab *l);
static uint64_t tally[HK_JOURNAL_VERDICTS];

static const struct hk_uuid group_id = {{1}}, replica_id = {{2}};

static void configure(const struct lab *l, struct hk_disk *disk, struct hk_journal_cfg *cfg)
{
    *cfg = (struct hk_journal_cfg){.disk = disk,
                                   .group_id = group_id,
                                   .replica_id = replica_id,
                                   .window = l->log.window,
                                   .window_bytes = l->log.window_bytes,
                                   .segment_bytes = l->segment_bytes,
                                   .segment_count = l->segments};
}

static uint8_t *pages(size_t bytes)
{
    uint8_t *p = aligned_alloc(HK_PAGE_BYTES, hk_round_up(bytes, HK_PAGE_BYTES));

    HK_ASSERT(p);
    memset(p, 0, bytes);
    return p;
}

static void start_life(struct lab *l)
{
    struct hk_journal_cfg cfg;
    struct hk_arena arena = {.base = l->memory, .bytes = l->again_bytes};

    configure(l, &l->disk.disk, &cfg);
    memset(l->memory, 0, l->again_bytes);
    HK_ASSERT(hk_journal_init(&l->journal, &cfg, &arena) == 0);
    hk_journal_recover(&l->journal, &l->log.history, l->applied);
    while (lab_step(l))
        ;
    HK_ASSERT(l->journal.state == HK_JOURNAL_RUNNING);
}

void lab_init(struct lab *l, uint64_t seed, uint32_t segments)
{
    struct hk_journal_cfg cfg;

    memset(l, 0, sizeof(*l));
    HK_ASSERT(segments <= LAB_SEGMENTS_MAX);
    l->segments = segments;
    l->segment_bytes = hk_journal_segment_bytes_min();
    store_log_init(&l->log, seed, 16 << 20, LAB_WINDOW_BYTES);
    cdisk_init(&l->disk);
    l->disk.cached = l->disk.logged = true;
    for (uint32_t i = 0; i < segments; i++)
        cdisk_add(&l->disk, HK_FILE_SEGMENT0 + i, l->segment_bytes);
    configure(l, &l->disk.disk, &cfg);
    l->again_bytes = hk_journal_memory(&cfg) + HK_PAGE_BYTES;
    l->memory = pages(l->again_bytes);
    l->again_memory = pages(l->again_bytes);
    l->applied = l->log.base;
    start_life(l);
    l->applied = l->reported = l->log.base;
}

void lab_free(struct lab *l)
{
    cdisk_free(&l->disk);
    if (l->img.file_count > 0)
        cdisk_free(&l->img);
    store_log_free(&l->log);
    free(l->write);
    free(l->memory);
    free(l->again_memory);
    memset(l, 0, sizeof(*l));
}

/* --- The life --- */

void lab_produce(struct lab *l, uint32_t payload)
{
    static uint8_t data[1 << 20];

    /* No byte of the log is what was there before: damage and absence are never the same by luck.
     * Zeroes where zeroes were have tests of their own. */
    for (uint32_t i = 0; i < payload; i++)
        data[i] = (uint8_t)(1 + crash_random(&l->log.random) % 255);
    store_log_add(&l->log, HK_REC_WRITE, 0, 0, payload, data);
}

/* Takes in what the journal has just submitted: the segment's header or a batch. */
static void note_write(struct lab *l, uint64_t first, uint64_t end)
{
    for (; l->seen < l->disk.write_count; l->seen++) {
        const struct cdisk_write *w = &l->disk.write[l->seen];
        struct lab_write *n;

        if (l->write_count == l->write_room) {
            l->write_room = l->write_room ? 2 * l->write_room : 64;
            l->write = realloc(l->write, l->write_room * sizeof(*l->write));
            HK_ASSERT(l->write);
        }
        n = &l->write[l->write_count++];
        *n = (struct lab_write){.header = w->offset == 0,
                                .slot = w->file - HK_FILE_SEGMENT0,
                                .offset = w->offset,
                                .bytes = w->data,
                                .file_bytes = w->bytes,
                                .epoch = l->log.history.count - 1,
                                .first = first,
                                .end = w->offset == 0 ? first : end,
                                .stamp = l->reported};
    }
}

bool lab_step(struct lab *l)
{
    uint64_t before = hk_journal_end(&l->journal);
    struct hk_diskop *op;

    if (lab_on_step)
        lab_on_step(l);
    op = cdisk_step(&l->disk);
    if (!op)
        return false;
    hk_journal_disk_done(&l->journal, op);
    note_write(l, before, before);
    if (l->journal.state == HK_JOURNAL_RUNNING)
        l->reported = hk_max_u64(l->reported, hk_journal_durable(&l->journal));
    return true;
}

void lab_append(struct lab *l)
{
    lab_append_to(l, l->log.end);
}

void lab_append_to(struct lab *l, uint64_t to)
{
    uint64_t from = hk_journal_end(&l->journal);
    int r;

    /* The page that the batch begins in is repeated at its head. */
    store_log_receive(&l->log, hk_max_u64(l->log.base, hk_round_down(from, HK_PAGE_BYTES)), to);
    while ((r = hk_journal_append(&l->journal, from, to - from)) == -EAGAIN) {
        note_write(l, from, to);
        HK_ASSERT(lab_step(l));
    }
    HK_ASSERT(r == 0);
    note_write(l, from, to);
}

void lab_drain(struct lab *l)
{
    while (lab_step(l))
        ;
    HK_ASSERT(l->reported == hk_journal_end(&l->journal));
}

void lab_restart(struct lab *l, const struct cdisk_choices *c, uint64_t n)
{
    l->disk.pending_count = 0;
    l->disk.loose_count = 0;
    for (uint32_t i = 0; i < l->disk.file_count; i++)
        memcpy(l->disk.file[i].cur, l->disk.file[i].dur, l->disk.file[i].bytes);
    cdisk_lay(&l->disk, c, n);
    start_life(l);
}

void lab_applied(struct lab *l)
{
    l->applied = hk_journal_durable(&l->journal);
    hk_journal_applied(&l->journal, l->applied);
}

void lab_epoch(struct lab *l, uint64_t first_lsn)
{
    const struct hk_epoch *e;

    lab_drain(l);
    store_log_epoch(&l->log, hk_journal_durable(&l->journal), first_lsn);
    e = hk_history_last(&l->log.history);
    HK_ASSERT(hk_journal_begin_epoch(&l->journal, e->ordinal, &e->id, e->first_lsn) == 0);
}

void lab_photograph(struct lab *l)
{
    cdisk_photograph(&l->img, &l->disk);
}

/* --- The recovery --- */

void lab_recover_start(struct lab *l)
{
    struct hk_journal_cfg cfg;
    struct hk_arena arena = {.base = l->again_memory, .bytes = l->again_bytes};
    uint8_t *scan = l->again.scan;

    /* All but the scan buffer, which recovery only reads from: megabytes, many thousand times. */
    if (scan) {
        memset(l->again_memory, 0, (size_t)(scan - l->again_memory));
        scan += HK_JOURNAL_READ_BYTES;
        memset(scan, 0, (size_t)(l->again_memory + l->again_bytes - scan));
    }
    configure(l, &l->img.disk, &cfg);
    HK_ASSERT(hk_journal_init(&l->again, &cfg, &arena) == 0);
    HK_ASSERT(hk_journal_reader_init(&l->again, &l->reader, &arena) == 0);
    l->ops = 0;
    hk_journal_recover(&l->again, &l->log.history, l->applied);
}

bool lab_recover_step(struct lab *l)
{
    struct hk_diskop *op = cdisk_step(&l->img);

    if (!op)
        return false;
    l->ops++;
    CRASH_CHECK(l->ops < OPS_MAX, "recovery does not end");
    hk_journal_disk_done(&l->again, op);
    return true;
}

void lab_recover_result(const struct lab *l, struct lab_verdict *ret)
{
    const struct hk_journal_result *r = &l->again.result;

    *ret = (struct lab_verdict){.state = l->again.state, .verdict = r->verdict};
    CRASH_CHECK(ret->state == HK_JOURNAL_RUNNING || ret->state == HK_JOURNAL_FAILED,
                "recovery stands still in state %d", ret->state);
    if (ret->state == HK_JOURNAL_FAILED) {
        CRASH_CHECK(l->again.error < 0 &&
                        (r->verdict == HK_JOURNAL_CORRUPT || r->verdict == HK_JOURNAL_FOREIGN ||
                         r->verdict == HK_JOURNAL_UNREADABLE),
                    "failed with %d and verdict %d", l->again.error, r->verdict);
        return;
    }
    CRASH_CHECK(hk_journal_durable(&l->again) == r->end && hk_journal_end(&l->again) == r->end,
                "the journal runs elsewhere than recovery said");
    CRASH_CHECK((r->verdict == HK_JOURNAL_TORN) == (r->lost_bytes > 0),
                "verdict %d with %llu bytes lost", r->verdict, ULL(r->lost_bytes));
    ret->end = r->end;
    ret->lost = r->lost_bytes;
}

void lab_recover(struct lab *l, struct lab_verdict *ret)
{
    lab_recover_start(l);
    while (lab_recover_step(l))
        ;
    lab_recover_result(l, ret);
}

void lab_read_back(struct lab *l)
{
    const struct hk_history *h = &l->log.history;
    uint64_t lsn = l->applied, end = hk_journal_durable(&l->again);
    uint32_t epoch = 0;
    int r;

    while (lsn < end) {
        while (epoch + 1 < h->count && lsn >= h->epoch[epoch + 1].parent_end) {
            epoch++;
            lsn = hk_max_u64(lsn, h->epoch[epoch].first_lsn);
        }
        if (lsn >= end)
            return;
        while ((r = hk_journal_read(&l->again, &l->reader, lsn)) == -EINPROGRESS)
            CRASH_CHECK(lab_recover_step(l), "a read that does not end");
        CRASH_CHECK(r == 0, "reading LSN %llu back: %d", ULL(lsn), r);
        CRASH_CHECK(l->reader.first == lsn && l->reader.end > lsn && l->reader.end <= end,
                    "asked for %llu, got %llu to %llu", ULL(lsn), ULL(l->reader.first),
                    ULL(l->reader.end));
        CRASH_CHECK(memcmp(l->reader.data, store_log_at(&l->log, lsn), l->reader.end - lsn) == 0,
                    "LSN %llu to %llu are not the log", ULL(lsn), ULL(l->reader.end));
        lsn = l->reader.end;
    }
}

void lab_judge(struct lab *l, struct lab_verdict *ret)
{
    struct lab_verdict want, got;

    lab_expect(l, &l->img, &want);
    lab_recover(l, &got);
    CRASH_CHECK(got.verdict == want.verdict && got.state == want.state,
                "verdict %d (%s), expected %d (%s); end %llu, expected %llu", got.verdict,
                hk_journal_verdict_text(got.verdict), want.verdict,
                hk_journal_verdict_text(want.verdict), ULL(got.end), ULL(want.end));
    tally[got.verdict]++;
    CRASH_CHECK(got.end == want.end && got.lost == want.lost,
                "end %llu and %llu bytes lost, expected %llu and %llu", ULL(got.end), ULL(got.lost),
                ULL(want.end), ULL(want.lost));
    if (ret)
        *ret = got;
}

void lab_judge_crash(struct lab *l, struct lab_verdict *ret)
{
    struct lab_verdict v;

    lab_judge(l, &v);
    CRASH_CHECK(v.state == HK_JOURNAL_RUNNING, "what a crash left is called %s",
                hk_journal_verdict_text(v.verdict));
    CRASH_CHECK(v.end >= l->reported, "reported %llu, recovered %llu", ULL(l->reported),
                ULL(v.end));
    if (ret)
        *ret = v;
}

void lab_print_tally(const char *kind)
{
    printf("# %-28s clean %llu, torn %llu, corrupt %llu\n", kind, ULL(tally[HK_JOURNAL_CLEAN]),
           ULL(tally[HK_JOURNAL_TORN]), ULL(tally[HK_JOURNAL_CORRUPT]));
    memset(tally, 0, sizeof(tally));
}
