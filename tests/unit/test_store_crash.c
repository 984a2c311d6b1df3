/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the journal reported durable is there after any crash, nothing that is not the log
 * is ever there, and a recovery that is cut off changes nothing.
 * Method: random lives on a disk whose cache loses and tears sectors. A life appends, switches
 * segments, moves applied, reads, begins epochs (also such that cut off what was not durable), and
 * ends in a power cut, in a kill that leaves writes in the cache, or in a kill with a power cut
 * during or after the next recovery. The log that was lost is sent again, cut into other batches,
 * over what is left of the old ones.
 */
#include "replicator/store/line.h"
#include "test_store_rig.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 250 };

struct tally {
    unsigned torn, clean, holes, epochs, interrupted, enospc;
};

static void live(struct rig *r, struct tally *t)
{
    uint64_t steps = unit_random(&r->random) % 150, batch = 1 + unit_random(&r->random) % 200000;

    /* The history is stored, the crash comes before the journal hears of it. */
    if (hk_history_last(&r->log.history)->ordinal != r->journal.ordinal)
        return;
    if (unit_random(&r->random) % 2)
        batch = 1 + unit_random(&r->random) % 6000;
    for (; steps > 0; steps--) {
        uint64_t durable = hk_journal_durable(&r->journal);

        switch (unit_random(&r->random) % 8) {
        case 0:
        case 1:
        case 2:
            if (hk_journal_end(&r->journal) == r->log.end)
                rig_produce(r, 50000);
            if (rig_append(r, 1 + unit_random(&r->random) % batch) == -ENOSPC)
                t->enospc++;
            break;
        case 3:
            if (durable > r->applied) {
                hk_line_seek(&r->log.history, r->applied, &r->applied);
                if (r->applied < durable)
                    r->applied = unit_random(&r->random) % 2
                                     ? durable
                                     : hk_record_end(store_log_at(&r->log, r->applied)).v;
                hk_journal_applied(&r->journal, hk_min_u64(r->applied, durable));
            }
            break;
        default: rig_step(r); break;
        }
    }
}

/* At rest, with everything that counts durable: the primary lost its ring and begins anew. */
static void maybe_epoch(struct rig *r, struct tally *t)
{
    const struct hk_epoch *e;
    uint64_t durable = hk_journal_durable(&r->journal);

    if (unit_random(&r->random) % 6 || !hk_journal_idle(&r->journal) ||
        hk_journal_end(&r->journal) != durable || r->log.history.count == HK_HISTORY_EPOCHS_MAX)
        return;
    if (durable < hk_history_last(&r->log.history)->first_lsn + 64)
        return;
    store_log_epoch(&r->log, durable, r->log.end + 64 * (unit_random(&r->random) % 1000));
    e = hk_history_last(&r->log.history);
    t->epochs++;
    if (unit_random(&r->random) % 2)
        assert_int_equal(hk_journal_begin_epoch(&r->journal, e->ordinal, &e->id, e->first_lsn), 0);
    if (r->applied == durable && unit_random(&r->random) % 2)
        r->applied = e->first_lsn;
}

static void crash(struct rig *r, struct tally *t)
{
    if (unit_random(&r->random) % 3 == 0)
        memdisk_kill(&r->disk);
    else
        memdisk_power_cut(&r->disk);
    while (unit_random(&r->random) % 3 == 0) {
        rig_start(r);
        for (uint64_t n = unit_random(&r->random) % 14; n > 0; n--)
            rig_step(r);
        assert_int_not_equal(r->journal.state, HK_JOURNAL_FAILED);
        memdisk_power_cut(&r->disk);
        t->interrupted++;
    }
}

static void recover_and_judge(struct rig *r, struct tally *t)
{
    const struct hk_journal_result *v = &r->journal.result;
    uint64_t end, reported = r->reported;

    rig_recover(r);
    if (v->verdict == HK_JOURNAL_TORN)
        t->torn++;
    else
        t->clean++;
    assert_true(v->verdict == HK_JOURNAL_CLEAN || v->lost_bytes > 0);
    end = v->end;
    assert_true(end >= reported && end <= r->log.end);
    assert_true(end + v->lost_bytes <= r->log.end);
    assert_int_equal(rig_read_back(r, r->applied), 0);
    /* What it said must hold, whatever happens next. */
    memdisk_power_cut(&r->disk);
    rig_recover(r);
    assert_int_equal(r->journal.result.end, end);
    assert_int_equal(rig_read_back(r, r->applied), 0);
}

static void run(uint64_t seed, struct tally *t)
{
    struct rig r;

    rig_init(&r, seed, hk_journal_segment_bytes_min() + 8 * HK_PAGE_BYTES);
    r.disk.shuffle = true;
    rig_recover(&r);
    for (int round = 0; round < ROUNDS / 10; round++) {
        if (r.log.end - r.log.base > r.log.bytes_max - (8 << 20))
            break;
        live(&r, t);
        maybe_epoch(&r, t);
        live(&r, t);
        crash(&r, t);
        recover_and_judge(&r, t);
        maybe_epoch(&r, t);
    }
    rig_free(&r);
}

static void test_random_lives(void **state)
{
    struct tally t = {0};

    for (uint64_t seed = 1; seed <= 10; seed++)
        run(seed, &t);
    print_message("# clean %u, torn %u, epochs %u, interrupted recoveries %u, full %u\n", t.clean,
                  t.torn, t.epochs, t.interrupted, t.enospc);
    /* A test that met none of these would prove nothing. */
    assert_true(t.clean > 20 && t.torn > 20 && t.epochs > 15 && t.interrupted > 30);
}

/* Any prefix of the last batch's bytes on disk, sector by sector, and any single missing sector. */
static void test_every_prefix(void **state)
{
    struct rig r;
    uint64_t from, to, first, end;
    uint8_t *whole, *before;
    struct memdisk_file *f;

    rig_init(&r, 77, hk_journal_segment_bytes_min());
    rig_recover(&r);
    rig_produce(&r, 60000);
    assert_int_equal(rig_append_wait(&r, 8000), 0);
    rig_drain(&r);
    f = memdisk_file(&r.disk, HK_FILE_SEGMENT0);
    from = r.journal.offset;
    first = hk_journal_end(&r.journal);
    before = calloc(1, f->bytes);
    memcpy(before, f->cached, f->bytes);
    rig_produce(&r, 60000);
    assert_int_equal(rig_append_wait(&r, 30000), 0);
    rig_drain(&r);
    to = r.journal.offset;
    end = hk_journal_end(&r.journal);
    whole = calloc(1, f->bytes);
    memcpy(whole, f->cached, f->bytes);
    for (uint64_t at = from; at <= to; at += MEMDISK_SECTOR) {
        uint64_t all = HK_BATCH_HEADER_BYTES + first % HK_PAGE_BYTES + end - first;
        bool data_there;

        memdisk_poke(&r.disk, HK_FILE_SEGMENT0, from, before + from, to - from);
        memdisk_poke(&r.disk, HK_FILE_SEGMENT0, from, whole + from, at - from);
        /* What had been there before may happen to be the same. */
        data_there = memcmp(f->cached + from, whole + from, all) == 0;
        rig_recover(&r);
        assert_int_equal(r.journal.result.end, data_there ? end : first);
        if (!data_there && at > from)
            assert_int_equal(r.journal.result.verdict, HK_JOURNAL_TORN);
        assert_int_equal(rig_read_back(&r, r.log.base), 0);
        if (at == to)
            break;
        memdisk_poke(&r.disk, HK_FILE_SEGMENT0, from, whole + from, to - from);
        memdisk_poke(&r.disk, HK_FILE_SEGMENT0, at, before + at, MEMDISK_SECTOR);
        rig_recover(&r);
        assert_true(r.journal.result.end == first || r.journal.result.end == end);
        assert_int_equal(rig_read_back(&r, r.log.base), 0);
    }
    free(before);
    free(whole);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lives),
        cmocka_unit_test(test_every_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
