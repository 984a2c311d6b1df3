/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a power cut may keep any of the sectors that were not yet stable, in any combination, and
 * may come again and again while recovery is at work; nothing reported durable is ever lost, and
 * nothing that was written by nobody is ever found.
 *
 * Method: short lives with little in flight. At each point between two completions, all subsets of
 * the sectors that a cut may keep are laid out (2^k of them), recovered and compared with the
 * expectation. Nested: a process that was killed leaves writes in the disk's cache; recoveries on
 * it are cut off or killed after each of their operations, three deep, with every subset each time.
 * What a recovery that came to its end had found must be there after all that follows.
 */
#include "tests/crash/crash.h"
#include "tests/crash/lab.h"

#include <errno.h>
#include <string.h>

static struct cdisk_choices choices;

/* --- The lives --- */

/* The journal's very first segment and batch: header, name, one batch. */
static void life_first(struct lab *l)
{
    lab_produce(l, 512);
    lab_append(l);
    lab_drain(l);
}

/* Three small batches in flight over blank pages. */
static void life_three(struct lab *l)
{
    lab_produce(l, 512);
    lab_append(l);
    lab_drain(l);
    for (int i = 0; i < 3; i++) {
        lab_produce(l, 512);
        lab_append(l);
    }
    lab_drain(l);
}

/* One batch of a page and more. */
static void life_page(struct lab *l)
{
    lab_produce(l, 4096);
    lab_append(l);
    lab_drain(l);
    lab_produce(l, 4096);
    lab_produce(l, 512);
    lab_append(l);
    lab_drain(l);
}

/* A new epoch in a new segment, two batches in flight there. */
static void life_epoch(struct lab *l)
{
    lab_produce(l, 512);
    lab_append(l);
    lab_drain(l);
    lab_epoch(l, l->log.end + 64 * 100);
    for (int i = 0; i < 2; i++) {
        lab_produce(l, 512);
        lab_append(l);
    }
    lab_drain(l);
}

/* Two segments taken in turn: the second epoch's header goes over a file with a past. */
static void life_recycled(struct lab *l)
{
    for (int i = 0; i < 3; i++) {
        lab_produce(l, 512);
        lab_append(l);
        lab_drain(l);
        lab_applied(l);
        lab_epoch(l, l->log.end + 64 * 100);
    }
    for (int i = 0; i < 2; i++) {
        lab_produce(l, 512);
        lab_append(l);
    }
    lab_drain(l);
}

/* Cut off behind a hole (the last batch of three came, the first did not), sent again otherwise. */
static void life_hole(struct lab *l)
{
    void (*look)(struct lab *) = lab_on_step;
    uint64_t ends[4] = {0}, from;

    lab_on_step = NULL;
    lab_produce(l, 512);
    lab_append(l);
    lab_drain(l);
    from = l->log.end;
    for (int i = 0; i < 4; i++) {
        lab_produce(l, i == 1 ? 1024 : 512);
        ends[i] = l->log.end;
        if (i < 3)
            lab_append(l);
    }
    cdisk_collect(&l->disk, &choices);
    for (uint32_t i = 0; i < choices.count; i++) {
        struct cdisk_choice *o = &choices.choice[i];

        /* Only what lies behind the first of the three comes. */
        if ((uint64_t)o->sector * CDISK_SECTOR < l->write[l->write_count - 2].offset)
            choices.choice[i--] = choices.choice[--choices.count];
    }
    lab_restart(l, &choices, cdisk_states(&choices) - 1);
    HK_ASSERT(hk_journal_end(&l->journal) == from && from == l->reported);
    lab_on_step = look;
    lab_append_to(l, ends[0]);
    lab_append_to(l, ends[2]);
    lab_append_to(l, ends[3]);
    lab_drain(l);
}

struct life {
    const char *name;
    void (*run)(struct lab *);
    uint32_t segments;
};

static const struct life lives[] = {
    {"first", life_first, 2}, {"three", life_three, 2},       {"page", life_page, 2},
    {"epoch", life_epoch, 2}, {"recycled", life_recycled, 2}, {"hole", life_hole, 2},
};

static const struct life *living;
static unsigned points;

static void live(const struct life *life, void (*look)(struct lab *), bool last_first)
{
    struct lab l;

    living = life;
    points = 0;
    lab_on_step = NULL;
    lab_init(&l, 21, life->segments);
    l.disk.last_first = last_first;
    lab_on_step = look;
    life->run(&l);
    look(&l);
    lab_on_step = NULL;
    lab_free(&l);
}

static void all_lives(void (*look)(struct lab *))
{
    for (size_t i = 0; i < HK_ARRAY_SIZE(lives); i++) {
        live(&lives[i], look, false);
        live(&lives[i], look, true);
    }
}

/* --- Every subset of what is not stable --- */

enum { SUBSETS_MAX = 1 << 16 };

static void subsets_here(struct lab *l)
{
    uint64_t states, stride = crash_stride(67), random = 5;

    points++;
    cdisk_collect(&l->disk, &choices);
    states = cdisk_states(&choices);
    lab_photograph(l);
    for (uint64_t i = 0; i < hk_min_u64(states, SUBSETS_MAX); i++) {
        uint64_t n = states <= SUBSETS_MAX ? i : crash_random(&random) % states;

        if (i % stride != 0 && i + 1 != states)
            continue;
        crash_case(living->name, points, choices.count, n);
        cdisk_lay(&l->img, &choices, n);
        lab_judge_crash(l, NULL);
        if (crash_cases() % 5 == 0)
            lab_read_back(l);
        cdisk_reset(&l->img);
    }
}

/* One sector torn inside, at 64-byte steps, the others there, away, or there up to it. */
static void torn_here(struct lab *l)
{
    static uint8_t pick[CDISK_CHOICES], torn[CDISK_SECTOR];
    uint64_t n = 0, stride = crash_stride(17);

    points++;
    cdisk_collect(&l->disk, &choices);
    lab_photograph(l);
    for (uint32_t i = 0; i < choices.count; i++) {
        const struct cdisk_choice *o = &choices.choice[i];

        for (uint32_t at = 1; at < CDISK_SECTOR; at += at < 63 ? 62 : at == 63 ? 1 : 64) {
            for (unsigned others = 0; others < 3; others++) {
                if (n++ % stride != 0)
                    continue;
                for (uint32_t k = 0; k < choices.count; k++)
                    pick[k] = others == 2 || (others == 1 && k < i);
                pick[i] = 0;
                crash_case(living->name, points, i, at);
                crash_case_more(others, 0);
                cdisk_lay_picks(&l->img, &choices, pick);
                memcpy(torn, l->img.file[o->file].cur + (uint64_t)o->sector * CDISK_SECTOR,
                       CDISK_SECTOR);
                memcpy(torn, choices.data[o->version], at);
                cdisk_poke(&l->img, l->img.file[o->file].file, (uint64_t)o->sector * CDISK_SECTOR,
                           torn, CDISK_SECTOR);
                lab_judge_crash(l, NULL);
                cdisk_reset(&l->img);
            }
        }
    }
}

/* --- Crashes in recovery --- */

enum { DEPTH = 3 };

struct level {
    uint64_t ops;   /* completions before the crash */
    bool kill;      /* the process only; else the power */
    uint64_t state; /* POWER: what is left */
};

/*
 * Runs the recoveries of `path`, each cut off as it says, then one to its end. ret_states: of the
 * last cut. False: a recovery ended before it was cut off as late as that.
 */
static bool run_path(struct lab *l, uint64_t mask, const struct level *path, unsigned depth,
                     uint64_t *ret_states)
{
    static struct cdisk_choices here;
    uint64_t promised = l->reported;
    struct lab_verdict v;

    if (!here.data)
        cdisk_choices_init(&here);
    cdisk_reset(&l->img);
    cdisk_die(&l->img, &l->disk, mask);
    for (unsigned i = 0; i < depth; i++) {
        bool ended = false;

        lab_recover_start(l);
        for (uint64_t n = 0; n < path[i].ops && !ended; n++)
            ended = !lab_recover_step(l);
        if (ended)
            return false;
        CRASH_CHECK(l->again.state != HK_JOURNAL_FAILED, "a recovery failed on what a crash left");
        if (l->again.state == HK_JOURNAL_RUNNING)
            promised = hk_max_u64(promised, hk_journal_durable(&l->again));
        l->img.pending_count = 0;
        if (path[i].kill)
            continue;
        cdisk_collect(&l->img, &here);
        *ret_states = cdisk_states(&here);
        HK_ASSERT(path[i].state < *ret_states);
        cdisk_cut(&l->img, &here, path[i].state);
    }
    lab_recover(l, &v);
    CRASH_CHECK(v.state == HK_JOURNAL_RUNNING && v.verdict != HK_JOURNAL_CORRUPT,
                "after crashes in recovery: %s", hk_journal_verdict_text(v.verdict));
    CRASH_CHECK(v.end >= promised, "promised %llu, recovered %llu", ULL(promised), ULL(v.end));
    return true;
}

static void descend(struct lab *l, uint64_t mask, struct level *path, unsigned depth,
                    unsigned deepest, uint64_t stride)
{
    static uint64_t turn;

    if (depth == deepest)
        return;
    for (path[depth].ops = 0;; path[depth].ops++) {
        uint64_t states = 1;

        path[depth].kill = true;
        path[depth].state = 0;
        crash_case(living->name, points, depth, path[0].ops);
        crash_case_more(path[1].ops, path[2].ops);
        if (!run_path(l, mask, path, depth + 1, &states))
            return;
        if (turn++ % stride == 0)
            descend(l, mask, path, depth + 1, deepest, stride);
        path[depth].kill = false;
        for (; path[depth].state < states; path[depth].state++) {
            if (path[depth].state > 0 && turn++ % stride != 0)
                continue;
            crash_case(living->name, points, depth, path[0].ops);
            crash_case_more(path[1].ops, path[2].ops);
            HK_ASSERT(run_path(l, mask, path, depth + 1, &states));
            if (turn % stride == 0)
                descend(l, mask, path, depth + 1, deepest, stride);
        }
    }
}

/* Every way in which the pending writes reached the cache. Three deep where little is loose. */
static void nested_here(struct lab *l)
{
    struct level path[DEPTH] = {{0}};
    uint32_t writes = 0;

    points++;
    cdisk_collect(&l->disk, &choices);
    for (uint32_t i = 0; i < l->disk.pending_count; i++)
        writes += l->disk.pending[i]->kind == HK_DISK_WRITE_DSYNC;
    if (choices.count == 0 || choices.count > 8 || writes > 2)
        return;
    lab_photograph(l);
    for (uint64_t mask = 0; mask < 1ull << l->disk.pending_count; mask++)
        descend(l, mask, path, 0, choices.count <= 3 ? DEPTH : DEPTH - 1, crash_stride(47));
}

/* --- Operations that fail in recovery --- */

static void failing_here(struct lab *l)
{
    struct lab_verdict clean, v;

    points++;
    cdisk_collect(&l->disk, &choices);
    lab_photograph(l);
    for (uint64_t state = 0; state < 2; state++) {
        cdisk_reset(&l->img);
        cdisk_die(&l->img, &l->disk, state ? UINT64_MAX : 0);
        lab_recover(l, &clean);
        for (uint64_t at = 1; at <= l->ops; at++) {
            uint64_t ops = l->ops;

            for (unsigned forever = 0; forever < 2; forever++) {
                crash_case(living->name, points, at, forever);
                crash_case_more(state, 0);
                cdisk_reset(&l->img);
                cdisk_die(&l->img, &l->disk, state ? UINT64_MAX : 0);
                l->img.fail_at = at;
                l->img.fail_forever = forever;
                lab_recover(l, &v);
                CRASH_CHECK(v.state == HK_JOURNAL_FAILED && v.verdict == HK_JOURNAL_UNREADABLE &&
                                l->again.error == -EIO,
                            "an operation failed, and recovery says %s",
                            hk_journal_verdict_text(v.verdict));
                /* The disk is well again, the next process starts over. */
                l->img.fail_at = 0;
                lab_recover(l, &v);
                CRASH_CHECK(memcmp(&v, &clean, sizeof(v)) == 0, "it says otherwise than before");
                CRASH_CHECK(v.end >= l->reported, "reported %llu, recovered %llu", ULL(l->reported),
                            ULL(v.end));
                l->ops = ops;
            }
        }
    }
}

static void kind(const char *name, void (*look)(struct lab *))
{
    if (!crash_wanted(name))
        return;
    crash_begin(name);
    all_lives(look);
    lab_print_tally(name);
    crash_end();
}

int main(int argc, char **argv)
{
    crash_arguments(argc, argv);
    cdisk_choices_init(&choices);
    kind("subsets", subsets_here);
    kind("torn_sectors", torn_here);
    kind("nested", nested_here);
    kind("failing_io", failing_here);
    cdisk_choices_free(&choices);
    return crash_finish();
}
