/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: of the two slots of a superblock file the newest that was stored always survives a crash;
 * damage to either is noticed, the other one counts, and that newer facts may be gone is said
 * (proto/SPEC.md §6.2). Histories, intervals, freezes and promotions live in there.
 *
 * Method: a store goes through a standby's life: made up, meets its primary, applies, freezes, ends
 * the freeze, learns the mode, is promoted. While each write is under way, every byte-prefix of it
 * and every subset of its sectors is laid out; between them every bit of both slots is flipped and
 * every two sectors change places. A slot is whole if it is, byte by byte, one that was written
 * there; from that alone follows what must be read.
 */
#include "tests/crash/crash.h"
#include "tests/crash/disk.h"

#include "proto/record.h"
#include "replicator/store/super_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 9, OPS_MAX = 100, FILE_BYTES = 2 * HK_SUPER_BYTES };

static struct {
    struct cdisk disk, img;
    struct hk_super_store store, again;
    uint8_t *memory, *again_memory;
    uint64_t stored; /* sequence that was said to be stored */
    unsigned step;
    uint64_t ops;
} t;

static struct cdisk_choices choices;

static void open_store(struct hk_super_store *s, struct cdisk *d, uint8_t *memory)
{
    struct hk_arena arena = {.base = memory, .bytes = hk_super_store_memory()};

    memset(memory, 0, arena.bytes);
    HK_ASSERT(hk_super_store_init(s, &d->disk, HK_FILE_SUPER, &arena) == 0);
    hk_super_store_start(s);
}

/* --- The standby's life --- */

static void make_up(struct hk_super *s)
{
    memset(s, 0, sizeof(*s));
    s->role = HK_ROLE_STANDBY;
    s->flags = HK_SF_ASSUMED_EQUAL;
    s->group_id = (struct hk_uuid){{1}};
    s->replica_id = (struct hk_uuid){{2}};
    strcpy(s->group_name, "core");
    s->volume_count = 2;
    strcpy(s->volume[0].name, "data");
    strcpy(s->volume[1].name, "wal");
    s->volume[0].bytes = s->volume[1].bytes = 1 << 20;
}

static void change(struct hk_super *s, unsigned step)
{
    const struct hk_uuid id[2] = {{{0xe1}}, {{0xe2}}};

    switch (step) {
    case 0: make_up(s); break;
    case 1:
        HK_ASSERT(hk_history_append(&s->history, &id[0], HK_LSN_FIRST, 0, HK_EPOCH_CREATE, 1) == 0);
        s->interval[s->interval_count++] =
            (struct hk_interval){.from = HK_LSN_FIRST, .epoch_ordinal = 1};
        s->peer_replica_id = (struct hk_uuid){{3}};
        break;
    case 2: s->applied = 8192; break;
    case 3:
        s->flags |= HK_SF_FROZEN;
        s->applied = s->freeze_lsn = 65536;
        s->freeze_time_ns = 77;
        strcpy(s->freeze_name, "night");
        break;
    case 4:
        s->flags &= ~(uint32_t)HK_SF_FROZEN;
        s->freeze_lsn = s->freeze_time_ns = 0;
        memset(s->freeze_name, 0, sizeof(s->freeze_name));
        break;
    case 5:
        s->mode = HK_MODE_SYNC;
        s->on_link_loss = HK_LINK_LOSS_BLOCK;
        s->contact_timeout_ns = 5;
        s->mode_lsn = s->ceiling = 1 << 20;
        break;
    case 6:
        HK_ASSERT(
            hk_history_append(&s->history, &id[1], 1ull << 34, 1 << 20, HK_EPOCH_PROMOTE, 2) == 0);
        s->flags |= HK_SF_PROMOTING;
        s->loss_class = HK_LOSS_ZERO_PROVEN;
        s->promote_lsn = 1 << 20;
        break;
    case 7:
        s->flags = HK_SF_ASSUMED_EQUAL | HK_SF_PROMOTED;
        s->interval[0].to = 1 << 20;
        s->interval[s->interval_count++] =
            (struct hk_interval){.from = 1ull << 34, .epoch_ordinal = 2};
        break;
    case 8: s->contact_time_ns = 99; break;
    }
}

static void settle(void)
{
    struct hk_diskop *op;

    while ((op = cdisk_step(&t.disk)))
        hk_super_store_disk_done(&t.store, op);
    if (t.store.state == HK_SUPER_STORE_READY)
        t.stored = hk_super_store_durable(&t.store)->sequence;
}

static void begin_life(void)
{
    memset(&t, 0, sizeof(t));
    t.memory = aligned_alloc(HK_PAGE_BYTES, hk_round_up(hk_super_store_memory(), HK_PAGE_BYTES));
    t.again_memory =
        aligned_alloc(HK_PAGE_BYTES, hk_round_up(hk_super_store_memory(), HK_PAGE_BYTES));
    HK_ASSERT(t.memory && t.again_memory);
    cdisk_init(&t.disk);
    t.disk.cached = t.disk.logged = true;
    cdisk_add(&t.disk, HK_FILE_SUPER, FILE_BYTES);
    open_store(&t.store, &t.disk, t.memory);
    settle();
    HK_ASSERT(t.store.state == HK_SUPER_STORE_BLANK);
}

static void end_life(void)
{
    cdisk_free(&t.disk);
    if (t.img.file_count)
        cdisk_free(&t.img);
    free(t.memory);
    free(t.again_memory);
}

/* `look` while each write is under way, `after` when it is stored; either may be NULL. */
static void live(void (*look)(void), void (*after)(void))
{
    begin_life();
    for (t.step = 0; t.step < STEPS; t.step++) {
        change(hk_super_store_get(&t.store), t.step);
        hk_super_store_put(&t.store);
        if (look)
            look();
        settle();
        HK_ASSERT(t.stored == t.step + 1);
        if (after)
            after();
    }
    end_life();
}

/* --- The expectation, and the judge --- */

struct expect {
    enum hk_super_store_state state;
    const struct hk_super *super; /* READY */
    bool in_doubt;
};

static bool all_zero(const uint8_t *b)
{
    static const uint8_t zero[HK_SUPER_BYTES];

    return memcmp(b, zero, HK_SUPER_BYTES) == 0;
}

static const struct hk_super *whole(unsigned slot)
{
    const uint8_t *at = t.img.file[0].cur + (size_t)slot * HK_SUPER_BYTES;

    for (uint32_t i = 0; i < t.disk.write_count; i++) {
        const struct cdisk_write *w = &t.disk.write[i];

        if (w->offset == (uint64_t)slot * HK_SUPER_BYTES && memcmp(at, w->data, w->bytes) == 0)
            return (const void *)w->data;
    }
    return NULL;
}

static struct expect expect(void)
{
    const struct hk_super *s[2] = {whole(0), whole(1)};
    bool zero[2] = {all_zero(t.img.file[0].cur), all_zero(t.img.file[0].cur + HK_SUPER_BYTES)};

    if (s[0] && s[1])
        return (struct expect){HK_SUPER_STORE_READY, s[0]->sequence > s[1]->sequence ? s[0] : s[1],
                               false};
    if (s[0] || s[1]) {
        const struct hk_super *one = s[0] ? s[0] : s[1];

        return (struct expect){HK_SUPER_STORE_READY, one,
                               !(one->sequence == 1 && zero[s[0] ? 1 : 0])};
    }
    /* Nothing, or a piece of the very first write, which goes to slot 1. */
    return (struct expect){zero[0] ? HK_SUPER_STORE_BLANK : HK_SUPER_STORE_INVALID, NULL, false};
}

static bool step_again(void)
{
    struct hk_diskop *op = cdisk_step(&t.img);

    if (!op)
        return false;
    CRASH_CHECK(++t.ops < OPS_MAX, "it does not end");
    hk_super_store_disk_done(&t.again, op);
    return true;
}

static void read_again(void)
{
    t.ops = 0;
    open_store(&t.again, &t.img, t.again_memory);
    while (step_again())
        ;
}

static void judge(void)
{
    struct expect want = expect();

    read_again();
    CRASH_CHECK(t.again.state == want.state, "state %d, expected %d", t.again.state, want.state);
    if (want.state != HK_SUPER_STORE_READY)
        return;
    CRASH_CHECK(memcmp(hk_super_store_durable(&t.again), want.super, sizeof(*want.super)) == 0,
                "superblock %llu was read, expected %llu",
                ULL(hk_super_store_durable(&t.again)->sequence), ULL(want.super->sequence));
    CRASH_CHECK(t.again.in_doubt == want.in_doubt, "in doubt: %d, expected %d", t.again.in_doubt,
                want.in_doubt);
}

/* Where only a crash was at work: what was stored is there, or something newer. */
static void judge_crash(void)
{
    judge();
    if (t.stored == 0)
        return;
    CRASH_CHECK(t.again.state == HK_SUPER_STORE_READY, "state %d after a crash", t.again.state);
    CRASH_CHECK(hk_super_store_durable(&t.again)->sequence >= t.stored,
                "superblock %llu was stored, %llu is there", ULL(t.stored),
                ULL(hk_super_store_durable(&t.again)->sequence));
}

/* --- What is laid out --- */

static void prefixes(void)
{
    const struct cdisk_write *w = &t.disk.write[t.disk.write_count - 1];
    uint64_t stride = crash_stride(53);

    cdisk_photograph(&t.img, &t.disk);
    for (uint64_t n = 0; n <= w->bytes; n++) {
        if (n > 0)
            cdisk_poke(&t.img, w->file, w->offset + n - 1, w->data + n - 1, 1);
        if (n % stride != 0 && n != w->bytes)
            continue;
        crash_case("write, bytes", t.step, n, 0);
        judge_crash();
    }
}

static void subsets(void)
{
    uint64_t states;

    cdisk_collect(&t.disk, &choices);
    states = cdisk_states(&choices);
    HK_ASSERT(states <= 1 << 16);
    cdisk_photograph(&t.img, &t.disk);
    for (uint64_t n = 0; n < states; n++) {
        crash_case("write, subset", t.step, n, 0);
        cdisk_lay(&t.img, &choices, n);
        judge_crash();
        cdisk_reset(&t.img);
    }
}

static void flips(void)
{
    uint64_t n = 0, stride = crash_stride(101);

    if (t.step != 0 && t.step != 1 && t.step != 3 && t.step != 6)
        return;
    cdisk_photograph(&t.img, &t.disk);
    for (uint64_t at = 0; at < 8ull * FILE_BYTES; at++) {
        if (n++ % stride != 0)
            continue;
        crash_case("write, byte, bit", t.step, at / 8, at % 8);
        cdisk_flip(&t.img, HK_FILE_SUPER, at / 8, (uint8_t)(1u << at % 8));
        judge();
        cdisk_flip(&t.img, HK_FILE_SUPER, at / 8, (uint8_t)(1u << at % 8));
    }
}

static void swaps(void)
{
    static uint8_t hold[2][HK_SUPER_BYTES];

    cdisk_photograph(&t.img, &t.disk);
    for (uint64_t bytes = 512; bytes <= HK_SUPER_BYTES; bytes *= bytes == 512 ? 8 : 4) {
        for (uint64_t a = 0; a < FILE_BYTES / bytes; a++) {
            for (uint64_t b = a + 1; b < FILE_BYTES / bytes; b++) {
                memcpy(hold[0], t.img.file[0].cur + a * bytes, bytes);
                memcpy(hold[1], t.img.file[0].cur + b * bytes, bytes);
                if (memcmp(hold[0], hold[1], bytes) == 0)
                    continue;
                crash_case("write, sectors", t.step, a, b);
                cdisk_poke(&t.img, HK_FILE_SUPER, a * bytes, hold[1], bytes);
                cdisk_poke(&t.img, HK_FILE_SUPER, b * bytes, hold[0], bytes);
                judge();
                cdisk_reset(&t.img);
            }
        }
    }
}

/*
 * The process is killed with its write in the disk's cache; the next ones are cut off or killed
 * while they read, three deep. What one of them took for stored must stay.
 */
static void descend(unsigned depth, uint64_t promised)
{
    static struct cdisk_choices here[3];
    struct cdisk before;

    if (depth == 3)
        return;
    if (!here[depth].data)
        cdisk_choices_init(&here[depth]);
    cdisk_copy(&before, &t.img);
    for (uint64_t ops = 0;; ops++) {
        uint64_t states = 1, promise = promised;
        bool ended = false;

        for (uint64_t state = 0; state <= states; state++) {
            cdisk_free(&t.img);
            cdisk_copy(&t.img, &before);
            t.ops = 0;
            open_store(&t.again, &t.img, t.again_memory);
            while (t.ops < ops && !ended)
                ended = !step_again();
            if (ended)
                break;
            if (t.again.state == HK_SUPER_STORE_READY)
                promise = hk_max_u64(promised, hk_super_store_durable(&t.again)->sequence);
            t.img.pending_count = 0;
            /* state 0: killed; the others: the power went. */
            if (state > 0) {
                struct cdisk_file *f = &t.img.file[0];

                cdisk_collect(&t.img, &here[depth]);
                states = cdisk_states(&here[depth]);
                t.img.loose_count = 0;
                memcpy(f->cur, f->dur, FILE_BYTES);
                cdisk_lay(&t.img, &here[depth], state - 1);
            }
            descend(depth + 1, promise);
            crash_case("write, depth, ops", t.step, depth, ops);
            crash_case_more(state, 0);
            judge();
            CRASH_CHECK(promise == 0 || (t.again.state == HK_SUPER_STORE_READY &&
                                         hk_super_store_durable(&t.again)->sequence >= promise),
                        "superblock %llu was relied on, and is gone", ULL(promise));
        }
        if (ended)
            break;
    }
    cdisk_free(&t.img);
    cdisk_copy(&t.img, &before);
    cdisk_free(&before);
}

static void nested(void)
{
    static const uint64_t mask[2] = {0, 1};

    if (t.step > 1 && !crash_full())
        return;
    for (int i = 0; i < 2; i++) {
        cdisk_photograph(&t.img, &t.disk);
        cdisk_die(&t.img, &t.disk, mask[i]);
        descend(0, t.stored);
    }
}

/* Any read or flush that fails is final: nothing is known, nothing is written. */
static void failing(void)
{
    cdisk_photograph(&t.img, &t.disk);
    for (uint64_t at = 1; at <= 3; at++) {
        for (unsigned forever = 0; forever < 2; forever++) {
            crash_case("write, operation", t.step, at, forever);
            cdisk_reset(&t.img);
            t.img.fail_at = at;
            t.img.fail_forever = forever;
            read_again();
            CRASH_CHECK(t.again.state == HK_SUPER_STORE_FAILED && t.again.error == -EIO,
                        "an operation failed, and the state is %d", t.again.state);
            t.img.fail_at = 0;
            judge_crash();
        }
    }
}

/*
 * The file that create-md makes for a primary: blank, then one superblock. Whoever opens it finds
 * that, or nothing, or a file to refuse; never anything else.
 */
static void created(void)
{
    struct hk_super_create p = {.group_id = {{1}},
                                .site_id = {{2}},
                                .replica_id = {{3}},
                                .epoch_id = {{4}},
                                .group_name = "core",
                                .time_ns = 1,
                                .volume_count = 1,
                                .volume[0] = {.name = "data", .bytes = 1 << 20},
                                .assume_equal = true};
    static uint8_t file[FILE_BYTES] __attribute__((aligned(4096))),
        slot[HK_SUPER_BYTES] __attribute__((aligned(4096)));
    static struct hk_super made, found;
    uint64_t stride = crash_stride(23);
    unsigned index;
    int r;

    HK_ASSERT(hk_super_create(&p, &made) == 0);
    hk_super_encode(&made, slot);
    index = (unsigned)(made.sequence & 1);
    for (uint64_t n = 0; n <= HK_SUPER_BYTES; n += n + stride > HK_SUPER_BYTES ? 1 : stride) {
        bool whole, none;

        crash_case("bytes", n, 0, 0);
        memset(file, 0, sizeof(file));
        memcpy(file + index * HK_SUPER_BYTES, slot, n);
        whole = memcmp(file + index * HK_SUPER_BYTES, slot, HK_SUPER_BYTES) == 0;
        none = n == 0;
        r = hk_super_pick(file, file + HK_SUPER_BYTES, &found, NULL);
        CRASH_CHECK(r == (whole ? 0 : none ? -ENODATA : -EUCLEAN), "it says %d", r);
        CRASH_CHECK(!whole || memcmp(&found, slot, sizeof(found)) == 0, "it is another one");
        CRASH_CHECK(!whole || !hk_super_in_doubt(file, file + HK_SUPER_BYTES), "it is doubted");
    }
    memset(file, 0, sizeof(file));
    memcpy(file + index * HK_SUPER_BYTES, slot, HK_SUPER_BYTES);
    for (uint64_t at = 0; at < 8ull * FILE_BYTES; at += stride) {
        bool own = at / 8 / HK_SUPER_BYTES == index;

        crash_case("byte, bit", at / 8, at % 8, 1);
        file[at / 8] ^= (uint8_t)(1u << at % 8);
        r = hk_super_pick(file, file + HK_SUPER_BYTES, &found, NULL);
        CRASH_CHECK(r == (own ? -EUCLEAN : 0), "it says %d", r);
        CRASH_CHECK(own || hk_super_in_doubt(file, file + HK_SUPER_BYTES), "it is not doubted");
        file[at / 8] ^= (uint8_t)(1u << at % 8);
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
    kind("super_prefix", prefixes, NULL);
    kind("super_subsets", subsets, NULL);
    kind("super_flips", NULL, flips);
    kind("super_swaps", NULL, swaps);
    kind("super_nested", nested, NULL);
    kind("super_failing_io", NULL, failing);
    if (crash_wanted("super_create")) {
        crash_begin("super_create");
        created();
        crash_end();
    }
    cdisk_choices_free(&choices);
    return crash_finish();
}
