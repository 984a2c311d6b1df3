/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a snapshot reads as the replica was when it was made, as long as it lives, whatever is
 * written, deleted or crashes meanwhile; a rollback gives back just that; damage is found; want of
 * room ends what is ordinary and stops what is not.
 * Method: copies of the replica are taken by hand when a snapshot counts, and everything the store
 * says is compared with them. Writers follow the rule (saved, then written); power cuts and kills
 * strike between any two completions of a disk with a volatile cache.
 */
#include "replicator/store/snapshot.h"

#include "memdisk.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { VOLUMES = 2, SLOTS = 4, BIG = (1 << 20) + 512, SMALL = 64 << 10, RANGES = 12 };

struct copy {
    uint32_t id;
    enum hk_snap_kind kind;
    uint8_t *bytes[VOLUMES];
};

struct range {
    uint32_t volume;
    uint64_t offset, bytes;
    uint8_t value;
};

struct site {
    struct memdisk disk;
    struct hk_snapshots s;
    uint8_t *memory;
    struct hk_snapshots_known known; /* as the superblock has it */
    uint64_t random, space_bytes;
    struct copy copy[SLOTS];
    uint32_t copy_count;
    struct range range[RANGES]; /* the batch that is being applied, again after a crash */
    uint32_t range_count;
    uint64_t enospc_after; /* this many chunks fit; 0: all */
    unsigned compared;
};

static const uint64_t volume_bytes[VOLUMES] = {BIG, SMALL};

static uint64_t draw(struct site *t, uint64_t below)
{
    return unit_random(&t->random) % below;
}

static void start(struct site *t)
{
    struct hk_snapshots_cfg cfg = {.disk = &t->disk.disk,
                                   .group_id = {{1}},
                                   .slot_count = SLOTS,
                                   .space_bytes = t->space_bytes,
                                   .volume_count = VOLUMES,
                                   .volume_bytes = {BIG, SMALL}};
    struct hk_arena arena = {.bytes = hk_snapshots_memory(&cfg)};

    free(t->memory);
    arena.base = t->memory = calloc(1, arena.bytes);
    assert_int_equal(hk_snapshots_init(&t->s, &cfg, &arena), 0);
    hk_snapshots_start(&t->s, &t->known);
}

static void site_init(struct site *t, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    t->random = seed;
    memdisk_init(&t->disk, seed);
    for (uint32_t v = 0; v < VOLUMES; v++)
        memdisk_add(&t->disk, HK_FILE_VOLUME0 + v, volume_bytes[v]);
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t file = HK_FILE_SNAPSHOT0 + i * HK_FILES_A_SNAPSHOT;

        memdisk_add(&t->disk, file, (1 + 2) * HK_PAGE_BYTES);
        for (uint32_t v = 0; v < VOLUMES; v++)
            memdisk_add(&t->disk, file + 1 + v, hk_round_up(volume_bytes[v], HK_PAGE_BYTES));
    }
    t->known = (struct hk_snapshots_known){.replica_id = {{2}}, .next = 1};
}

static void forget_copy(struct site *t, uint32_t i)
{
    for (uint32_t v = 0; v < VOLUMES; v++)
        free(t->copy[i].bytes[v]);
    t->copy[i] = t->copy[--t->copy_count];
}

static void site_free(struct site *t)
{
    while (t->copy_count > 0)
        forget_copy(t, 0);
    free(t->memory);
    memdisk_free(&t->disk);
}

static bool step(struct site *t)
{
    struct hk_diskop *op = memdisk_step(&t->disk);

    if (!op)
        return false;
    if (op->owner == HK_OWNER_SNAPSHOT)
        hk_snapshots_disk_done(&t->s, op);
    return true;
}

static void drain(struct site *t)
{
    while (step(t))
        ;
}

static void begin(struct site *t, uint64_t seed)
{
    site_init(t, seed);
    start(t);
    drain(t);
    assert_true(hk_snapshots_idle(&t->s));
}

static void make(struct site *t, enum hk_snap_kind kind)
{
    struct hk_snapshot_ask ask = {.kind = kind,
                                  .id = t->known.next,
                                  .epoch_ordinal = 1,
                                  .lsn = 64ull * t->known.next,
                                  .name = "night"};

    if (kind == HK_SNAP_PIN)
        memset(ask.name, 0, sizeof(ask.name));
    assert_int_equal(hk_snapshots_make(&t->s, &ask), 0);
}

/* The superblock says so: from here on it counts. */
static void made(struct site *t, enum hk_snap_kind kind)
{
    struct copy *c = &t->copy[t->copy_count++];

    HK_ASSERT(t->copy_count <= SLOTS);
    *c = (struct copy){.id = t->known.next++, .kind = kind};
    for (uint32_t v = 0; v < VOLUMES; v++) {
        c->bytes[v] = malloc(volume_bytes[v]);
        memcpy(c->bytes[v], memdisk_file(&t->disk, HK_FILE_VOLUME0 + v)->cached, volume_bytes[v]);
    }
    if (kind == HK_SNAP_PIN) {
        t->known.pinned = true;
        t->known.pin_lsn = 64ull * c->id;
        t->known.pin_ordinal = 1;
        hk_snapshots_pinned(&t->s, t->known.pin_lsn, 1, t->known.next);
    }
}

static void make_now(struct site *t, enum hk_snap_kind kind)
{
    make(t, kind);
    drain(t);
    assert_int_equal(t->s.result, 0);
    made(t, kind);
}

static void draw_batch(struct site *t)
{
    t->range_count = 1 + (uint32_t)draw(t, RANGES);
    for (uint32_t i = 0; i < t->range_count; i++) {
        struct range *r = &t->range[i];
        uint64_t sectors;

        r->volume = (uint32_t)draw(t, VOLUMES);
        sectors = volume_bytes[r->volume] / 512;
        r->offset = 512 * draw(t, sectors);
        r->bytes = 512 * (1 + draw(t, 64));
        r->bytes = hk_min_u64(r->bytes, volume_bytes[r->volume] - r->offset);
        r->value = (uint8_t)(1 + draw(t, 250));
    }
}

static uint8_t buffer[64 * 512] __attribute__((aligned(4096)));

/* Says what it overwrites; false: cut off by `crash_in` completions. */
static bool save(struct site *t, uint64_t *crash_in)
{
    hk_snapshots_save_begin(&t->s);
    for (uint32_t i = 0; i < t->range_count; i++) {
        struct range r = t->range[i];

        while (r.bytes > 0) {
            uint64_t n = hk_snapshots_save(&t->s, r.volume, r.offset, r.bytes);

            r.offset += n;
            r.bytes -= n;
            if (r.bytes > 0 && ((*crash_in)-- == 0 || !step(t)))
                return false;
        }
    }
    hk_snapshots_save_all(&t->s);
    while (t->s.save != HK_SAVE_DONE || t->s.busy_save > 0) {
        if ((*crash_in)-- == 0 || !step(t))
            return false;
    }
    hk_snapshots_save_end(&t->s);
    return true;
}

static void flush(struct site *t)
{
    for (uint32_t v = 0; v < VOLUMES; v++) {
        struct hk_diskop op = {
            .kind = HK_DISK_FLUSH, .file = HK_FILE_VOLUME0 + v, .owner = HK_OWNER_APPLY};

        t->disk.disk.submit(&t->disk.disk, &op);
        drain(t);
    }
}

/* The applier's part; its writes tear like any others until they are flushed. */
static void overwrite(struct site *t)
{
    for (uint32_t i = 0; i < t->range_count; i++) {
        const struct range *r = &t->range[i];
        struct hk_diskop op = {.kind = HK_DISK_WRITE,
                               .file = HK_FILE_VOLUME0 + r->volume,
                               .offset = r->offset,
                               .bytes = r->bytes,
                               .iov = {{buffer, r->bytes}},
                               .iov_count = 1,
                               .owner = HK_OWNER_APPLY};

        memset(buffer, r->value, r->bytes);
        t->disk.disk.submit(&t->disk.disk, &op);
        drain(t);
    }
}

static bool batch(struct site *t, uint64_t crash_in)
{
    if (hk_snapshots_wants(&t->s) && !save(t, &crash_in))
        return false;
    overwrite(t);
    if (crash_in < 3)
        return false;
    flush(t);
    t->range_count = 0;
    return true;
}

static void crash(struct site *t)
{
    if (draw(t, 3) == 0)
        memdisk_kill(&t->disk);
    else
        memdisk_power_cut(&t->disk);
    start(t);
    drain(t);
    assert_true(hk_snapshots_idle(&t->s));
}

static uint8_t got[HK_SNAPSHOT_RUN_BYTES] __attribute__((aligned(4096)));

static int compare_one(struct site *t, const struct copy *c)
{
    for (uint32_t v = 0; v < VOLUMES; v++) {
        for (uint64_t at = 0; at < volume_bytes[v]; at += sizeof(got)) {
            uint32_t n = (uint32_t)hk_min_u64(sizeof(got), volume_bytes[v] - at);
            int r = hk_snapshots_read(&t->s, c->id, v, at, n, got);

            if (r != 0)
                return r;
            drain(t);
            if (t->s.result != 0)
                return t->s.result;
            assert_memory_equal(got, c->bytes[v] + at, n);
        }
    }
    t->compared++;
    return 0;
}

static void compare(struct site *t)
{
    for (uint32_t i = 0; i < t->copy_count; i++)
        assert_int_equal(compare_one(t, &t->copy[i]), 0);
}

static void drop_some(struct site *t, bool may_crash)
{
    uint32_t i = (uint32_t)draw(t, t->copy_count), id = t->copy[i].id;
    uint64_t crash_in = may_crash ? draw(t, 40) : UINT64_MAX;

    if (t->copy[i].kind == HK_SNAP_PIN) {
        t->known.pinned = false;
        hk_snapshots_unpinned(&t->s);
    }
    assert_int_equal(hk_snapshots_drop(&t->s, id), 0);
    /* From the first moment on it is nobody's; the others must never notice. */
    forget_copy(t, i);
    while (!hk_snapshots_idle(&t->s)) {
        if (crash_in-- == 0) {
            crash(t);
            break;
        }
        assert_true(step(t));
    }
    if (hk_snapshots_find(&t->s, id) >= 0 &&
        t->s.slot[hk_snapshots_find(&t->s, id)].state == HK_SNAPSHOT_DYING) {
        assert_int_equal(hk_snapshots_drop(&t->s, id), 0);
        drain(t);
        assert_int_equal(t->s.result, 0);
    }
    assert_true(hk_snapshots_idle(&t->s));
    /* Cut off before its header said so, an ordinary one is there again. */
    if (hk_snapshots_find(&t->s, id) >= 0) {
        assert_int_equal(hk_snapshots_drop(&t->s, id), 0);
        drain(t);
    }
    assert_int_equal(hk_snapshots_find(&t->s, id), -ENOENT);
}

static bool pinned(const struct site *t)
{
    return t->known.pinned;
}

static void one_life(struct site *t)
{
    for (int n = 0; n < 60; n++) {
        switch (draw(t, 8)) {
        case 0:
            if (t->copy_count == SLOTS || pinned(t))
                break;
            make_now(t, draw(t, 3) == 0 ? HK_SNAP_PIN : HK_SNAP_MARK);
            break;
        case 1:
            if (t->copy_count == 0 || draw(t, 2) == 0)
                break;
            drop_some(t, draw(t, 2) == 0);
            compare(t);
            break;
        case 2: /* made, and the superblock never heard of it */
            if (t->copy_count == SLOTS || pinned(t))
                break;
            make(t, HK_SNAP_MARK);
            for (uint64_t k = draw(t, 10); k > 0; k--)
                step(t);
            crash(t);
            assert_int_equal(hk_snapshots_find(&t->s, t->known.next), -ENOENT);
            compare(t);
            break;
        default:
            draw_batch(t);
            if (!batch(t, draw(t, 3) == 0 ? draw(t, 40) : 1000)) {
                crash(t);
                compare(t);
                /* Redone, as the journal would, with the images of before left alone. */
                while (!batch(t, draw(t, 2) ? draw(t, 3) : 1000)) {
                    crash(t);
                    compare(t);
                }
            }
            break;
        }
    }
    compare(t);
}

static void test_random_lives(void **state)
{
    unsigned compared = 0;

    for (uint64_t seed = 1; seed <= 80; seed++) {
        struct site t;

        begin(&t, seed);
        t.disk.shuffle = true;
        one_life(&t);
        compared += t.compared;
        site_free(&t);
    }
    print_message("# %u snapshots compared\n", compared);
    assert_true(compared > 800);
}

/* Rolled back, cut off at any completion, and again, cut off again. */
static void test_rollback(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct site t;
        struct copy *pin;

        begin(&t, seed);
        t.disk.shuffle = true;
        draw_batch(&t);
        overwrite(&t);
        flush(&t);
        if (seed % 2)
            make_now(&t, HK_SNAP_MARK);
        make_now(&t, HK_SNAP_PIN);
        pin = &t.copy[t.copy_count - 1];
        for (int i = 0; i < 6; i++) {
            draw_batch(&t);
            if (!batch(&t, i == 5 ? draw(&t, 30) : 1000))
                break;
        }
        drain(&t);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(hk_snapshots_rollback(&t.s, pin->id), 0);
            for (uint64_t k = draw(&t, 60); k > 0; k--)
                step(&t);
            crash(&t);
        }
        assert_int_equal(hk_snapshots_rollback(&t.s, pin->id), 0);
        drain(&t);
        assert_int_equal(t.s.result, 0);
        assert_int_equal(t.s.rolled_back, t.s.rollback_total);
        for (uint32_t v = 0; v < VOLUMES; v++) {
            struct memdisk_file *f = memdisk_file(&t.disk, HK_FILE_VOLUME0 + v);

            assert_memory_equal(f->durable, pin->bytes[v], volume_bytes[v]);
        }
        compare(&t);
        site_free(&t);
    }
}

/* Every bit of the index is looked at: a changed one breaks the snapshot, and nothing else. */
static void test_damage(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct site t;
        uint64_t at;
        uint8_t b;

        begin(&t, seed);
        make_now(&t, HK_SNAP_MARK);
        draw_batch(&t);
        assert_true(batch(&t, 1000));
        make_now(&t, HK_SNAP_PIN);
        draw_batch(&t);
        assert_true(batch(&t, 1000));
        at = draw(&t, 3 * HK_PAGE_BYTES);
        if (at >= 512 && at < HK_PAGE_BYTES)
            at = draw(&t, 512);
        b = memdisk_file(&t.disk, HK_FILE_SNAPSHOT0 + HK_FILES_A_SNAPSHOT)->durable[at];
        b = (uint8_t)(b ^ 1u << draw(&t, 8));
        memdisk_poke(&t.disk, HK_FILE_SNAPSHOT0 + HK_FILES_A_SNAPSHOT, at, &b, 1);
        start(&t);
        drain(&t);
        assert_int_equal(hk_snapshots_pin(&t.s), -EUCLEAN);
        assert_int_equal(compare_one(&t, &t.copy[0]), -EUCLEAN);
        assert_int_equal(hk_snapshots_read(&t.s, t.copy[1].id, 0, 0, 4096, got),
                         at < 512 ? -ESTALE : -EUCLEAN);
        /* The applier goes on: there is nothing left to be kept. */
        assert_false(hk_snapshots_wants(&t.s));
        site_free(&t);
    }
}

/* The index of an older snapshot, from this same file or from beside it, is never taken for it. */
static void test_stray_pages(void **state)
{
    uint8_t page[HK_PAGE_BYTES];
    struct site t;

    begin(&t, 3);
    make_now(&t, HK_SNAP_MARK);
    memcpy(page, memdisk_file(&t.disk, HK_FILE_SNAPSHOT0)->durable + HK_PAGE_BYTES, sizeof(page));
    drop_some(&t, false);
    make_now(&t, HK_SNAP_PIN);
    draw_batch(&t);
    assert_true(batch(&t, 1000));
    memdisk_poke(&t.disk, HK_FILE_SNAPSHOT0, HK_PAGE_BYTES, page, sizeof(page));
    start(&t);
    drain(&t);
    assert_int_equal(hk_snapshots_pin(&t.s), -EUCLEAN);
    assert_int_equal(t.s.slot[0].fault, HK_SNAP_BAD_PLACE);
    site_free(&t);
}

/* A pin stops the writer until there is room; nothing is overwritten meanwhile. */
static void test_no_room_for_a_pin(void **state)
{
    struct site t;
    uint64_t left = UINT64_MAX;

    begin(&t, 4);
    t.s.cfg.space_bytes = 4 * HK_SNAP_CHUNK_BYTES;
    make_now(&t, HK_SNAP_PIN);
    t.range[0] = (struct range){0, 0, 32 * 512, 7};
    t.range[1] = (struct range){1, 0, 8 * 512, 7};
    t.range_count = 2;
    assert_false(save(&t, &left));
    assert_int_equal(t.s.stuck, -ENOSPC);
    assert_int_equal(hk_snapshots_used(&t.s), 4 * HK_SNAP_CHUNK_BYTES);
    assert_int_equal(hk_snapshots_room(&t.s), 0);
    hk_snapshots_retry(&t.s);
    assert_int_equal(hk_snapshots_save(&t.s, 1, 0, 8 * 512), 0);
    assert_int_equal(t.s.stuck, -ENOSPC);
    /* The operator makes room. */
    t.s.cfg.space_bytes = 64 * HK_SNAP_CHUNK_BYTES;
    hk_snapshots_retry(&t.s);
    assert_int_equal(t.s.stuck, 0);
    assert_int_equal(hk_snapshots_save(&t.s, 1, 0, 8 * 512), 8 * 512);
    hk_snapshots_save_all(&t.s);
    drain(&t);
    assert_int_equal(t.s.save, HK_SAVE_DONE);
    hk_snapshots_save_end(&t.s);
    overwrite(&t);
    compare(&t);
    site_free(&t);
}

/* Ordinary ones end, the oldest first; the last of them too. A pin outlives them. */
static void test_no_room_ends_ordinary_ones(void **state)
{
    struct site t;
    uint64_t left = UINT64_MAX;

    begin(&t, 5);
    t.s.cfg.space_bytes = 6 * HK_SNAP_CHUNK_BYTES;
    make_now(&t, HK_SNAP_MARK);
    t.range[0] = (struct range){0, 0, 4 * 4096, 7};
    t.range_count = 1;
    assert_true(batch(&t, 1000));
    make_now(&t, HK_SNAP_PIN);
    t.range[0] = (struct range){0, 0, 5 * 4096, 9};
    t.range_count = 1;
    assert_true(save(&t, &left));
    assert_int_equal(t.s.ended_count, 1);
    assert_int_equal(hk_snapshots_find(&t.s, 1), -ENOENT);
    forget_copy(&t, 0);
    overwrite(&t);
    compare(&t);
    site_free(&t);

    begin(&t, 6);
    t.s.cfg.space_bytes = 2 * HK_SNAP_CHUNK_BYTES;
    make_now(&t, HK_SNAP_MARK);
    assert_int_equal(hk_snapshots_lease(&t.s, 1), 0);
    t.range[0] = (struct range){0, 0, 4 * 4096, 7};
    t.range_count = 1;
    left = UINT64_MAX;
    assert_true(save(&t, &left));
    assert_int_equal(t.s.ended_count, 1);
    assert_false(hk_snapshots_wants(&t.s));
    assert_int_equal(hk_snapshots_read(&t.s, 1, 0, 0, 4096, got), -ESTALE);
    hk_snapshots_release(&t.s, 1);
    overwrite(&t);
    /* It stays ended after a crash. */
    memdisk_power_cut(&t.disk);
    start(&t);
    drain(&t);
    assert_int_equal(hk_snapshots_find(&t.s, 1), -ENOENT);
    site_free(&t);
}

/* Never under a reader. */
static void test_lease(void **state)
{
    struct site t;

    begin(&t, 7);
    make_now(&t, HK_SNAP_MARK);
    assert_int_equal(hk_snapshots_lease(&t.s, 1), 0);
    assert_int_equal(hk_snapshots_lease(&t.s, 1), 0);
    assert_int_equal(hk_snapshots_drop(&t.s, 1), -EBUSY);
    hk_snapshots_release(&t.s, 1);
    assert_int_equal(hk_snapshots_drop(&t.s, 1), -EBUSY);
    hk_snapshots_release(&t.s, 1);
    assert_int_equal(hk_snapshots_lease(&t.s, 9), -ENOENT);
    assert_int_equal(hk_snapshots_drop(&t.s, 9), -ENOENT);
    assert_int_equal(hk_snapshots_drop(&t.s, 1), 0);
    drain(&t);
    assert_int_equal(hk_snapshots_lease(&t.s, 1), -ENOENT);
    site_free(&t);
}

/* What the i-th operation's failure does: never a wrong byte, never an overwrite unsaved. */
static void test_failing_operations(void **state)
{
    unsigned stuck = 0, failed = 0;

    for (uint64_t i = 1; i < 60; i++) {
        uint64_t left = UINT64_MAX;
        struct site t;

        begin(&t, i);
        make_now(&t, HK_SNAP_PIN);
        draw_batch(&t);
        t.disk.fail_at = t.disk.done_count + i;
        if (save(&t, &left)) {
            site_free(&t);
            continue;
        }
        stuck += t.s.stuck == -EIO;
        failed += t.s.save == HK_SAVE_REPLICA_FAILED;
        assert_true(t.s.stuck == -EIO || t.s.save == HK_SAVE_REPLICA_FAILED);
        hk_snapshots_retry(&t.s);
        drain(&t);
        assert_int_not_equal(t.s.save, HK_SAVE_DONE);
        /* The next process saves it anew. */
        crash(&t);
        compare(&t);
        assert_true(batch(&t, 1000));
        compare(&t);
        site_free(&t);
    }
    assert_true(stuck > 5 && failed > 2);
}

static void test_making_fails(void **state)
{
    for (uint64_t i = 1; i <= 6; i++) {
        struct site t;

        begin(&t, i);
        make_now(&t, HK_SNAP_MARK);
        draw_batch(&t);
        assert_true(batch(&t, 1000));
        t.disk.fail_at = t.disk.done_count + i;
        make(&t, HK_SNAP_PIN);
        drain(&t);
        if (t.s.result == 0) {
            assert_int_equal(i, 6);
            site_free(&t);
            break;
        }
        assert_int_equal(t.s.result, -EIO);
        /* The one before takes the before-images as if nothing had been. */
        assert_true(hk_snapshots_wants(&t.s));
        draw_batch(&t);
        assert_true(batch(&t, 1000));
        compare(&t);
        site_free(&t);
    }
}

/* Two ordinary ones and a pin, each with before-images. */
static void three(struct site *t, uint64_t seed)
{
    begin(t, seed);
    for (int i = 0; i < 3; i++) {
        make_now(t, i == 2 ? HK_SNAP_PIN : HK_SNAP_MARK);
        draw_batch(t);
        assert_true(batch(t, 1000));
    }
}

static int begin_job(struct site *t, int job)
{
    switch (job) {
    case 0: return hk_snapshots_rollback(&t->s, t->copy[2].id);
    case 1: return hk_snapshots_drop(&t->s, t->copy[1].id); /* hands its chunks on */
    case 2: return hk_snapshots_read(&t->s, t->copy[0].id, 0, 0, sizeof(got), got);
    default: start(t); return 0;
    }
}

/*
 * A job's i-th operation fails: it says so, or it did not matter; nobody is told a wrong byte, now
 * or by the next process, and a second try of the same does what the first should have.
 */
static void test_jobs_fail(void **state)
{
    unsigned failed[4] = {0};

    for (int job = 0; job < 4; job++) {
        for (uint64_t i = 1; i <= 24; i++) {
            struct site t;
            int again;

            three(&t, 100 + i);
            t.disk.fail_at = t.disk.done_count + i;
            assert_int_equal(begin_job(&t, job), 0);
            drain(&t);
            if (t.s.result != 0 || hk_snapshots_pin(&t.s) < 0)
                failed[job]++;
            t.disk.fail_at = 0;
            if (t.s.result == 0 && job == 2)
                assert_memory_equal(got, t.copy[0].bytes[0], sizeof(got));
            crash(&t);
            if (job == 1) {
                uint32_t id = t.copy[1].id;

                forget_copy(&t, 1); /* it may be there or not; the others are as they were */
                again = hk_snapshots_drop(&t.s, id);
                assert_true(again == 0 || again == -ENOENT);
                drain(&t);
            } else if (job == 0) {
                assert_int_equal(begin_job(&t, job), 0);
                drain(&t);
                assert_int_equal(t.s.result, 0);
                for (uint32_t v = 0; v < VOLUMES; v++)
                    assert_memory_equal(memdisk_file(&t.disk, HK_FILE_VOLUME0 + v)->durable,
                                        t.copy[2].bytes[v], volume_bytes[v]);
            }
            compare(&t);
            site_free(&t);
        }
    }
    print_message("# failed: %u rollbacks, %u deletions, %u reads, %u starts\n", failed[0],
                  failed[1], failed[2], failed[3]);
    for (int job = 0; job < 4; job++)
        assert_true(failed[job] > 2);
}

static void test_refusals(void **state)
{
    struct hk_snapshot_ask ask = {.kind = HK_SNAP_PIN, .id = 1, .epoch_ordinal = 1, .lsn = 64};
    struct hk_snapshots none;
    struct hk_snapshots_cfg cfg = {.slot_count = SLOTS};
    struct hk_arena arena = {0};
    struct site t;

    assert_int_equal(hk_snapshots_init(&none, &cfg, &arena), -EINVAL);
    begin(&t, 8);
    cfg = t.s.cfg;
    assert_int_equal(hk_snapshots_init(&none, &cfg, &arena), -ENOMEM);
    cfg.slot_count = 0;
    assert_int_equal(hk_snapshots_memory(&cfg), 0);
    assert_int_equal(hk_snapshots_init(&none, &cfg, &arena), 0);
    hk_snapshots_start(&none, &t.known);
    assert_true(hk_snapshots_idle(&none));
    assert_int_equal(hk_snapshots_make(&none, &ask), -ENOSPC);
    assert_int_equal(hk_snapshots_room(&none), 0);
    make_now(&t, HK_SNAP_MARK);
    assert_int_equal(hk_snapshots_make(&t.s, &ask), -EEXIST);
    make(&t, HK_SNAP_MARK);
    assert_int_equal(hk_snapshots_drop(&t.s, 1), -EBUSY);
    assert_int_equal(hk_snapshots_read(&t.s, 1, 0, 0, 4096, got), -EBUSY);
    drain(&t);
    assert_int_equal(hk_snapshots_read(&t.s, 1, 0, 512, 4096, got), -EINVAL);
    assert_int_equal(hk_snapshots_read(&t.s, 1, VOLUMES, 0, 4096, got), -EINVAL);
    assert_int_equal(hk_snapshots_read(&t.s, 1, 1, SMALL, 4096, got), -EINVAL);
    assert_int_equal(hk_snapshots_rollback(&t.s, 7), -ENOENT);
    assert_int_equal(hk_snapshots_pin(&t.s), -ENOENT);
    for (int f = 0; f <= HK_SNAP_FAULTS; f++)
        assert_true(hk_snap_fault_text((enum hk_snap_fault)f)[0] != '\0');
    site_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lives),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_stray_pages),
        cmocka_unit_test(test_no_room_for_a_pin),
        cmocka_unit_test(test_no_room_ends_ordinary_ones),
        cmocka_unit_test(test_lease),
        cmocka_unit_test(test_failing_operations),
        cmocka_unit_test(test_making_fails),
        cmocka_unit_test(test_jobs_fail),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests_name("store_snapshot", tests, NULL, NULL);
}
