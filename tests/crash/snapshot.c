/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever a crash leaves of a snapshot's files and of the replica, the snapshot reads as the
 * replica was when it was made, and a rollback gives just that back; damage of its index is found
 * and said, never read over (proto/SPEC.md §6.5).
 *
 * Method: a life makes a pin, saves and overwrites in three batches, and rolls back. Between any
 * two completions of the disk what a cut may leave is laid out: all subsets of sectors where they
 * are few, else none, all, each alone, each missing, and draws. A new process reads the snapshot,
 * goes on with the batch that was under way, and rolls back. Then every bit and every two sectors
 * of the index are changed.
 */
#include "tests/crash/crash.h"
#include "tests/crash/disk.h"

#include "replicator/store/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    VOLUME_BYTES = 9 * 4096 + 512,
    INDEX_BYTES = 2 * HK_PAGE_BYTES,
    BATCHES = 3,
    SUBSETS_MAX = 256,
    DRAWS = 24,
};

struct range {
    uint64_t offset, bytes;
};

/* Whole chunks, a piece of one, two that share one, the volume's end. */
static const struct range batch[BATCHES][2] = {
    {{0, 8192}, {20480, 512}},
    {{4096, 8192}, {20992, 1024}},
    {{VOLUME_BYTES - 1024, 1024}, {0, 512}},
};

static struct {
    struct cdisk disk, img;
    struct hk_snapshots s, again;
    uint8_t *memory, *again_memory;
    struct hk_snapshots_known known;
    uint8_t before[VOLUME_BYTES]; /* what the pin has to show */
    unsigned under_way;           /* batch that is being applied; BATCHES: none */
    unsigned point;
    uint64_t random;
    void (*look)(void);
} t;

static struct cdisk_choices choices;
static uint8_t buffer[16384] __attribute__((aligned(4096)));

static void configure(struct hk_snapshots_cfg *c, struct cdisk *d)
{
    *c = (struct hk_snapshots_cfg){.disk = &d->disk,
                                   .group_id = {{1}},
                                   .slot_count = 1,
                                   .volume_count = 1,
                                   .volume_bytes = {VOLUME_BYTES}};
}

static void open_store(struct hk_snapshots *s, struct cdisk *d, uint8_t *memory)
{
    struct hk_snapshots_cfg c;
    struct hk_arena arena = {.base = memory};

    configure(&c, d);
    arena.bytes = hk_snapshots_memory(&c);
    memset(memory, 0, arena.bytes);
    HK_ASSERT(hk_snapshots_init(s, &c, &arena) == 0);
    hk_snapshots_start(s, &t.known);
}

static uint8_t *new_memory(void)
{
    struct hk_snapshots_cfg c;
    uint8_t *m;

    configure(&c, &t.disk);
    m = aligned_alloc(HK_PAGE_BYTES, hk_round_up(hk_snapshots_memory(&c), HK_PAGE_BYTES));
    HK_ASSERT(m);
    return m;
}

/* ---- running a store to its rest ---- */

static bool step(struct hk_snapshots *s, struct cdisk *d)
{
    struct hk_diskop *op;

    if (d == &t.disk && t.look && d->pending_count > 0) {
        t.point++;
        t.look();
    }
    op = cdisk_step(d);
    if (op && op->owner == HK_OWNER_SNAPSHOT)
        hk_snapshots_disk_done(s, op);
    return op != NULL;
}

static void drain(struct hk_snapshots *s, struct cdisk *d)
{
    for (unsigned n = 0; step(s, d); n++)
        CRASH_CHECK(n < 10000, "it does not end");
}

static void submit(struct cdisk *d, struct hk_diskop *op, enum hk_disk_kind kind, uint64_t offset,
                   uint64_t bytes)
{
    *op = (struct hk_diskop){.kind = kind,
                             .file = HK_FILE_VOLUME0,
                             .offset = offset,
                             .bytes = bytes,
                             .owner = HK_OWNER_APPLY};
    if (kind == HK_DISK_WRITE) {
        op->iov[0] = (struct hk_iovec){buffer, bytes};
        op->iov_count = 1;
    }
    d->disk.submit(&d->disk, op);
}

static void apply(struct hk_snapshots *s, struct cdisk *d, unsigned b)
{
    static struct hk_diskop op[3];

    if (hk_snapshots_wants(s)) {
        hk_snapshots_save_begin(s);
        for (unsigned i = 0; i < 2; i++)
            HK_ASSERT(hk_snapshots_save(s, 0, batch[b][i].offset, batch[b][i].bytes) ==
                      batch[b][i].bytes);
        hk_snapshots_save_all(s);
        drain(s, d);
        CRASH_CHECK(s->save == HK_SAVE_DONE, "saving stands at %d", s->save);
        hk_snapshots_save_end(s);
    }
    memset(buffer, (int)(0xa0 + b), sizeof(buffer));
    for (unsigned i = 0; i < 2; i++)
        submit(d, &op[i], HK_DISK_WRITE, batch[b][i].offset, batch[b][i].bytes);
    drain(s, d);
    submit(d, &op[2], HK_DISK_FLUSH, 0, 0);
    drain(s, d);
}

/* ---- the judge ---- */

static void compare(const uint8_t *got, uint64_t at, uint64_t bytes, const char *what)
{
    for (uint64_t i = 0; i < bytes; i++)
        CRASH_CHECK(got[i] == t.before[at + i], "%s: byte %llu is %#x, it was %#x", what,
                    ULL(at + i), got[i], t.before[at + i]);
}

/* Reads all of it; false: it says that it is damaged. */
static bool read_pin(void)
{
    for (uint64_t at = 0; at < VOLUME_BYTES; at += sizeof(buffer)) {
        uint32_t n = (uint32_t)hk_min_u64(sizeof(buffer), VOLUME_BYTES - at);
        int r = hk_snapshots_read(&t.again, 1, 0, at, n, buffer);

        if (r == 0) {
            drain(&t.again, &t.img);
            r = t.again.result;
        }
        if (r == -EUCLEAN || r == -ESTALE)
            return false;
        CRASH_CHECK(r == 0, "reading it says %d", r);
        compare(buffer, at, n, "read");
    }
    return true;
}

static void roll_back(void)
{
    CRASH_CHECK(hk_snapshots_rollback(&t.again, 1) == 0, "no rollback");
    drain(&t.again, &t.img);
    CRASH_CHECK(t.again.result == 0, "rolled back: %d", t.again.result);
    compare(cdisk_file(&t.img, HK_FILE_VOLUME0)->cur, 0, VOLUME_BYTES, "rolled back");
}

static void read_again(void)
{
    open_store(&t.again, &t.img, t.again_memory);
    drain(&t.again, &t.img);
    CRASH_CHECK(hk_snapshots_idle(&t.again), "the start does not end");
}

static void judge_crash(void)
{
    read_again();
    if (!t.known.pinned) {
        CRASH_CHECK(hk_snapshots_find(&t.again, 1) == -ENOENT, "it counts, and was never stored");
        CRASH_CHECK(!hk_snapshots_wants(&t.again), "it takes before-images");
        return;
    }
    CRASH_CHECK(hk_snapshots_pin(&t.again) == 0, "the pin: %d", hk_snapshots_pin(&t.again));
    CRASH_CHECK(read_pin(), "damaged after a crash");
    if (t.under_way < BATCHES) {
        apply(&t.again, &t.img, t.under_way);
        CRASH_CHECK(read_pin(), "damaged when it went on");
    }
    roll_back();
}

/* ---- what is laid out ---- */

static void lay(const uint8_t *pick, uint64_t a, uint64_t b)
{
    crash_case("point", t.point, a, b);
    cdisk_lay_picks(&t.img, &choices, pick);
    judge_crash();
    cdisk_reset(&t.img);
}

static void many(void)
{
    static uint8_t pick[CDISK_CHOICES];
    uint64_t stride = crash_stride(5);

    for (unsigned all = 0; all < 2; all++) {
        for (uint32_t i = 0; i <= choices.count; i++) {
            if (i < choices.count && (i + t.point) % stride != 0)
                continue;
            for (uint32_t k = 0; k < choices.count; k++)
                pick[k] = (uint8_t)((k == i) != all);
            lay(pick, all, i);
        }
    }
    for (unsigned n = 0; n < (crash_full() ? 400u : DRAWS / 4u); n++) {
        for (uint32_t k = 0; k < choices.count; k++)
            pick[k] = (uint8_t)(crash_random(&t.random) % (choices.choice[k].version_count + 1ull));
        lay(pick, 2, n);
    }
}

static void subsets(void)
{
    uint64_t states;

    cdisk_collect(&t.disk, &choices);
    states = cdisk_states(&choices);
    cdisk_photograph(&t.img, &t.disk);
    if (states > SUBSETS_MAX) {
        many();
        return;
    }
    for (uint64_t n = 0; n < states; n++) {
        crash_case("point, subset", t.point, n, 0);
        cdisk_lay(&t.img, &choices, n);
        judge_crash();
        cdisk_reset(&t.img);
    }
}

/* Power goes in the rollback of whoever came after a first cut: what is left is laid out again. */
static void nested(void)
{
    static struct cdisk_choices here;
    uint64_t stride = crash_stride(7);

    if (!here.data)
        cdisk_choices_init(&here);
    if (!t.known.pinned || t.point % stride != 0)
        return;
    cdisk_photograph(&t.img, &t.disk);
    for (unsigned ops = 1;; ops++) {
        bool ended = false;

        for (unsigned mode = 0; mode < 3; mode++) {
            crash_case("point, operations, mode", t.point, ops, mode);
            cdisk_reset(&t.img);
            cdisk_die(&t.img, &t.disk, mode == 1 ? UINT64_MAX : 0);
            read_again();
            HK_ASSERT(hk_snapshots_rollback(&t.again, 1) == 0);
            for (unsigned n = 0; n < ops && !ended; n++)
                ended = !step(&t.again, &t.img);
            cdisk_collect(&t.img, &here);
            t.img.pending_count = 0;
            cdisk_cut(&t.img, &here, mode == 2 ? crash_random(&t.random) % cdisk_states(&here) : 0);
            judge_crash();
        }
        if (ended)
            break;
    }
    cdisk_reset(&t.img);
}

static void damaged(void)
{
    read_again();
    if (hk_snapshots_pin(&t.again) >= 0) {
        /* Then it says the very same. */
        CRASH_CHECK(read_pin(), "sound at the start, and then not");
        roll_back();
        return;
    }
    CRASH_CHECK(!read_pin(), "it is damaged, and is read all the same");
    CRASH_CHECK(hk_snapshots_rollback(&t.again, 1) != 0, "it is damaged, and rolls back");
}

static void flips(void)
{
    uint64_t stride = crash_stride(37), found = 0;

    cdisk_photograph(&t.img, &t.disk);
    for (uint64_t at = 0; at < 8ull * INDEX_BYTES; at += stride) {
        crash_case("bit", t.point, at / 8, at % 8);
        cdisk_flip(&t.img, HK_FILE_SNAPSHOT0, at / 8, (uint8_t)(1u << at % 8));
        damaged();
        found += hk_snapshots_pin(&t.again) < 0;
        /* Of the header's page only its first sector says anything. */
        CRASH_CHECK((hk_snapshots_pin(&t.again) < 0) == (at / 8 < 512 || at / 8 >= HK_PAGE_BYTES),
                    "byte %llu: %d", ULL(at / 8), hk_snapshots_pin(&t.again));
        cdisk_reset(&t.img);
    }
    CRASH_CHECK(found > 0, "nothing was found");
}

static void swaps(void)
{
    static uint8_t hold[2][CDISK_SECTOR];

    cdisk_photograph(&t.img, &t.disk);
    for (uint64_t a = 0; a < INDEX_BYTES / CDISK_SECTOR; a++) {
        for (uint64_t b = 0; b < INDEX_BYTES / CDISK_SECTOR; b++) {
            const uint8_t *cur = cdisk_file(&t.img, HK_FILE_SNAPSHOT0)->cur;

            memcpy(hold[0], cur + a * CDISK_SECTOR, CDISK_SECTOR);
            memcpy(hold[1], cur + b * CDISK_SECTOR, CDISK_SECTOR);
            if (a == b || memcmp(hold[0], hold[1], CDISK_SECTOR) == 0)
                continue;
            crash_case("sectors", t.point, a, b);
            cdisk_poke(&t.img, HK_FILE_SNAPSHOT0, a * CDISK_SECTOR, hold[1], CDISK_SECTOR);
            damaged(); /* a copy of it in the wrong place … */
            cdisk_poke(&t.img, HK_FILE_SNAPSHOT0, b * CDISK_SECTOR, hold[0], CDISK_SECTOR);
            damaged(); /* … and both changed places */
            cdisk_reset(&t.img);
        }
    }
}

/* ---- the life ---- */

static void begin_life(void)
{
    static struct hk_diskop op;

    memset(&t, 0, sizeof(t));
    t.random = 11;
    t.under_way = BATCHES;
    t.known = (struct hk_snapshots_known){.replica_id = {{2}}, .next = 1};
    cdisk_init(&t.disk);
    t.disk.cached = true;
    cdisk_add(&t.disk, HK_FILE_VOLUME0, VOLUME_BYTES);
    cdisk_add(&t.disk, HK_FILE_SNAPSHOT0, INDEX_BYTES);
    cdisk_add(&t.disk, HK_FILE_SNAPSHOT0 + 1, hk_round_up(VOLUME_BYTES, HK_PAGE_BYTES));
    for (unsigned i = 0; i < VOLUME_BYTES; i++)
        t.before[i] = (uint8_t)(1 + i / 512);
    cdisk_poke(&t.disk, HK_FILE_VOLUME0, 0, t.before, VOLUME_BYTES);
    t.memory = new_memory();
    t.again_memory = new_memory();
    open_store(&t.s, &t.disk, t.memory);
    drain(&t.s, &t.disk);
    submit(&t.disk, &op, HK_DISK_FLUSH, 0, 0);
    drain(&t.s, &t.disk);
}

static void end_life(void)
{
    cdisk_free(&t.disk);
    if (t.img.file_count)
        cdisk_free(&t.img);
    free(t.memory);
    free(t.again_memory);
}

/* `look` between any two completions, `after` when all is applied; either may be NULL. */
static void live(void (*look)(void), void (*after)(void))
{
    struct hk_snapshot_ask ask = {.kind = HK_SNAP_PIN, .id = 1, .epoch_ordinal = 1, .lsn = 4096};

    for (unsigned newest_first = 0; newest_first < 2; newest_first++) {
        begin_life();
        t.disk.last_first = newest_first;
        t.look = look;
        HK_ASSERT(hk_snapshots_make(&t.s, &ask) == 0);
        drain(&t.s, &t.disk);
        HK_ASSERT(t.s.result == 0);
        t.known.next = 2;
        t.known.pinned = true;
        t.known.pin_lsn = ask.lsn;
        t.known.pin_ordinal = 1;
        hk_snapshots_pinned(&t.s, ask.lsn, 1, 2);
        for (t.under_way = 0; t.under_way < BATCHES; t.under_way++)
            apply(&t.s, &t.disk, t.under_way);
        if (after)
            after();
        HK_ASSERT(hk_snapshots_rollback(&t.s, 1) == 0);
        drain(&t.s, &t.disk);
        HK_ASSERT(t.s.result == 0);
        end_life();
    }
}

static void kind(const char *name, void (*look)(void), void (*after)(void))
{
    if (!crash_wanted(name))
        return;
    crash_begin(name);
    live(look, after);
    crash_end();
}

int main(int argc, char **argv)
{
    crash_arguments(argc, argv);
    cdisk_choices_init(&choices);
    kind("snap_subsets", subsets, NULL);
    kind("snap_nested", nested, NULL);
    kind("snap_flips", NULL, flips);
    kind("snap_swaps", NULL, swaps);
    cdisk_choices_free(&choices);
    return crash_finish();
}
