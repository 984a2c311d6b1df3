/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever a crash or damage leaves of a journal, recovery's verdict is the one that the
 * bytes allow: nothing reported durable is lost, damage below the last durable stamp is corruption,
 * beyond it "torn or corrupt, N bytes, can't tell", and what was never written is clean.
 *
 * Method: a life writes a journal of more than 256 KiB. Then, again and again: its state at one
 * point (every byte-prefix of what was written, every flipped bit, every two sectors swapped) is
 * laid out on a second disk, recovered, and the verdict compared with what lab_expect() makes of
 * the list of writes.
 */
#include "tests/crash/crash.h"
#include "tests/crash/lab.h"

#include <stdlib.h>
#include <string.h>

enum { READ_BACK_EVERY = 61, AGAIN_EVERY = 7 };

/* Judges; now and then recovers once more, which must say the same, and reads everything back. */
static void judge(struct lab *l, struct lab_verdict *ret)
{
    struct lab_verdict v, again;

    lab_judge(l, &v);
    if (v.state == HK_JOURNAL_RUNNING && crash_cases() % AGAIN_EVERY == 0) {
        lab_recover(l, &again);
        CRASH_CHECK(memcmp(&v, &again, sizeof(v)) == 0, "a second recovery says otherwise");
    }
    if (v.state == HK_JOURNAL_RUNNING && crash_cases() % READ_BACK_EVERY == 0)
        lab_read_back(l);
    if (ret)
        *ret = v;
}

/*
 * A journal of at least 256 KiB in one segment. Up to three batches are in flight, so stamps lag
 * behind; the log's zeroes are rare, its lengths of all sorts.
 */
static void write_large(struct lab *l, uint64_t bytes)
{
    for (uint64_t n = 0; l->log.end - l->log.base < bytes; n++) {
        static const uint32_t length[] = {512, 4096, 12288, 1024, 8192, 24576, 512, 3584};

        lab_produce(l, length[n % HK_ARRAY_SIZE(length)]);
        if (n % 3 == 2) {
            lab_produce(l, 512);
            lab_append(l);
        }
        while (l->journal.slot_count > 2)
            lab_step(l);
    }
    if (hk_journal_end(&l->journal) < l->log.end)
        lab_append(l);
    lab_drain(l);
}

/* Puts the first `n` bytes of all that the life wrote, in the order of submission. */
struct playback {
    uint32_t write;  /* the one that is being laid */
    uint64_t within; /* bytes of it that are */
};

static bool play_byte(struct lab *l, struct playback *p)
{
    const struct lab_write *w;

    while (p->write < l->write_count && p->within == l->write[p->write].file_bytes) {
        p->write++;
        p->within = 0;
    }
    if (p->write == l->write_count)
        return false;
    w = &l->write[p->write];
    cdisk_poke(&l->img, HK_FILE_SEGMENT0 + w->slot, w->offset + p->within, w->bytes + p->within, 1);
    p->within++;
    return true;
}

/* All that was whole is durable, may have been reported, and must be there. */
static void check_prefix(struct lab *l, const struct playback *p)
{
    const struct lab_write *w = &l->write[p->write];
    bool whole = p->within == w->file_bytes;
    struct lab_verdict v;
    uint64_t reported = l->log.base;

    for (uint32_t i = 0; i < p->write + whole; i++)
        reported = hk_max_u64(reported, l->write[i].end);
    judge(l, &v);
    CRASH_CHECK(v.state == HK_JOURNAL_RUNNING, "a torn tail is called %s",
                hk_journal_verdict_text(v.verdict));
    CRASH_CHECK(v.end >= reported, "reported %llu, recovered %llu", ULL(reported), ULL(v.end));
    CRASH_CHECK(!whole || v.verdict == HK_JOURNAL_CLEAN, "nothing is torn here");
}

/* Every byte-prefix, or every so many in a journal of several segments. */
static void prefixes(const char *kind, uint64_t bytes, uint64_t stride)
{
    struct lab l;
    struct playback p = {0};
    uint64_t n = 0, near = crash_full() ? 64 : 2;

    if (!crash_wanted(kind))
        return;
    crash_begin(kind);
    lab_init(&l, 11, 3);
    write_large(&l, bytes);
    lab_photograph(&l);
    for (uint32_t i = 0; i < l.img.file_count; i++) {
        memset(l.img.file[i].cur, 0, l.img.file[i].bytes);
        memset(l.img.file[i].dur, 0, l.img.file[i].bytes);
    }
    cdisk_mark(&l.img);
    do {
        bool edge = p.within < near || p.within + near > l.write[p.write].file_bytes;

        if (n++ % stride != 0 && !edge)
            continue;
        crash_case("bytes written", n - 1, p.write, p.within);
        check_prefix(&l, &p);
    } while (play_byte(&l, &p));
    lab_print_tally(kind);
    crash_end();
    lab_free(&l);
}

/* --- Flipped bits --- */

static void flip(struct lab *l, uint32_t slot, uint64_t offset, unsigned bit)
{
    crash_case("slot, byte, bit", slot, offset, bit);
    cdisk_flip(&l->img, HK_FILE_SEGMENT0 + slot, offset, (uint8_t)(1u << bit));
    judge(l, NULL);
    cdisk_flip(&l->img, HK_FILE_SEGMENT0 + slot, offset, (uint8_t)(1u << bit));
}

/* Two segments, three in flight, an epoch's end among them: all that headers come in. */
static void write_varied(struct lab *l)
{
    lab_produce(l, 512);
    lab_append(l);
    lab_drain(l);
    for (int i = 0; i < 4; i++) {
        lab_produce(l, 4096);
        lab_produce(l, 512);
        lab_append(l);
    }
    lab_drain(l);
    lab_epoch(l, l->log.end + 64 * 1000);
    for (int i = 0; i < 3; i++) {
        lab_produce(l, 1024);
        lab_append(l);
        if (i == 0)
            lab_drain(l);
    }
    lab_drain(l);
}

/* Every bit of the headers of one write: segment or batch, and its records. */
static void flip_write(struct lab *l, const struct lab_write *w, uint64_t stride)
{
    uint64_t data = w->offset + HK_BATCH_HEADER_BYTES + w->first % HK_PAGE_BYTES;
    static uint64_t n;

    for (uint64_t at = 0; at < HK_PAGE_BYTES; at++) {
        bool field = at < 80 || at >= 4088;

        for (unsigned bit = 0; bit < 8; bit++) {
            if (field || n++ % stride == 0)
                flip(l, w->slot, w->offset + at, bit);
        }
    }
    if (w->header)
        return;
    for (uint64_t r = w->first; r < w->end; r = hk_record_end(store_log_at(&l->log, r)).v) {
        for (uint64_t at = 0; at < 8 * HK_RECORD_HEADER_BYTES; at++) {
            if (n++ % (stride > 1 ? stride / 8 : 1) == 0)
                flip(l, w->slot, data + (r - w->first) + at / 8, at % 8);
        }
    }
}

/*
 * Every bit of every segment, batch and record header, wherever it lies; then again with `applied`
 * inside the first segment, at its end and in the second epoch: damage below it counts as well.
 */
static void header_flips(uint64_t stride)
{
    struct lab l;
    uint64_t ends[16];
    uint32_t count = 0;

    if (!crash_wanted("flip_headers"))
        return;
    crash_begin("flip_headers");
    lab_init(&l, 13, 3);
    write_varied(&l);
    lab_photograph(&l);
    for (uint32_t i = 0; i < l.write_count; i++) {
        if (!l.write[i].header && count < HK_ARRAY_SIZE(ends))
            ends[count++] = l.write[i].end;
    }
    for (uint32_t pass = 0; pass <= count; pass += crash_full() ? 1 : count) {
        l.applied = pass == 0 ? l.log.base : ends[pass - 1];
        for (uint32_t i = 0; i < l.write_count; i++)
            flip_write(&l, &l.write[i], pass == 0 ? stride : 64);
    }
    lab_print_tally("flip_headers");
    crash_end();
    lab_free(&l);
}

/* Every bit of the whole large journal, payloads and padding included. */
static void all_flips(uint64_t stride)
{
    struct lab l;
    uint64_t n = 0;

    if (!crash_wanted("flip_all"))
        return;
    crash_begin("flip_all");
    lab_init(&l, 11, 2);
    write_large(&l, (256 << 10) + 1);
    lab_photograph(&l);
    for (uint32_t slot = 0; slot < l.segments; slot++) {
        for (uint64_t at = 0; at < 8 * l.img.file[slot].used; at++) {
            if (n++ % stride == 0)
                flip(&l, slot, at / 8, at % 8);
        }
    }
    lab_print_tally("flip_all");
    crash_end();
    lab_free(&l);
}

/*
 * Two at once, where one hides the other: a segment's header and the header of its first batch.
 * What lies behind them must still not be taken for an empty file.
 */
static void paired_flips(void)
{
    struct lab l;

    if (!crash_wanted("flip_pairs"))
        return;
    crash_begin("flip_pairs");
    lab_init(&l, 13, 3);
    write_varied(&l);
    lab_photograph(&l);
    for (uint32_t i = 0; i < l.write_count; i++) {
        const struct lab_write *w = &l.write[i];
        uint32_t file = HK_FILE_SEGMENT0 + w->slot;

        for (uint64_t a = 0; w->header && a < HK_PAGE_BYTES; a += a == 88 ? 4000 : 4) {
            for (uint64_t b = 0; b < HK_PAGE_BYTES; b += b == 88 ? 4000 : 4) {
                crash_case("slot, bytes in both headers", w->slot, a, b);
                cdisk_flip(&l.img, file, a, 0x10);
                cdisk_flip(&l.img, file, HK_SEGMENT_HEADER_BYTES + b, 0x10);
                judge(&l, NULL);
                cdisk_reset(&l.img);
            }
        }
    }
    lab_print_tally("flip_pairs");
    crash_end();
    lab_free(&l);
}

/* --- Sectors that changed places --- */

static void swap(struct lab *l, uint64_t a, uint64_t b, uint64_t bytes)
{
    static uint8_t hold[2][HK_PAGE_BYTES];
    uint64_t per = l->img.file[0].used / bytes, at[2] = {a % per * bytes, b % per * bytes};
    uint32_t slot[2] = {(uint32_t)(a / per), (uint32_t)(b / per)};

    for (int i = 0; i < 2; i++)
        memcpy(hold[i], l->img.file[slot[i]].cur + at[i], bytes);
    if (memcmp(hold[0], hold[1], bytes) == 0)
        return;
    crash_case("sectors, of bytes", a, b, bytes);
    for (int i = 0; i < 2; i++)
        cdisk_poke(&l->img, HK_FILE_SEGMENT0 + slot[i], at[i], hold[1 - i], bytes);
    judge(l, NULL);
    cdisk_reset(&l->img);
}

static void swaps(uint64_t stride)
{
    struct lab l;
    uint64_t n = 0;

    if (!crash_wanted("swap_sectors"))
        return;
    crash_begin("swap_sectors");
    lab_init(&l, 14, 3);
    l.moved = true;
    write_varied(&l);
    lab_photograph(&l);
    for (uint64_t bytes = 512; bytes <= 4096; bytes *= 8) {
        uint64_t longest = 0, count;

        for (uint32_t i = 0; i < l.segments; i++)
            longest = hk_max_u64(longest, l.img.file[i].used);
        for (uint32_t i = 0; i < l.segments; i++)
            l.img.file[i].used = hk_round_up(longest, HK_PAGE_BYTES) + HK_PAGE_BYTES;
        cdisk_mark(&l.img);
        count = l.img.file[0].used / bytes * 2;
        for (uint64_t a = 0; a < count; a++) {
            for (uint64_t b = a + 1; b < count; b++) {
                if (n++ % stride == 0)
                    swap(&l, a, b, bytes);
            }
        }
    }
    lab_print_tally("swap_sectors");
    crash_end();
    lab_free(&l);
}

int main(int argc, char **argv)
{
    crash_arguments(argc, argv);
    prefixes("prefix_bytes", (256 << 10) + 1, crash_stride(67));
    prefixes("prefix_segments", 3 << 19, crash_full() ? 61 : 6007);
    header_flips(crash_stride(97));
    paired_flips();
    all_flips(crash_stride(1009) * crash_sample(5));
    swaps(crash_stride(41));
    return crash_finish();
}
