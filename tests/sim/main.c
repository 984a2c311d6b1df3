/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hk-sim: runs seeds until a number, a budget of seconds or the first violation is reached.
 *   --seeds N  --first X  --budget SECONDS  --seed X [--verbose]  --twice
 *   --each-percent: in run i a failover when i percent of a resync are through (1 to 100, in turn)
 *   --bugs: names of the seeded bugs in this program; --bug NAME: with that one, --until-found
 */
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim.h"

static struct sim sim;

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *self;

static void on_crash(int sig)
{
    char text[128];
    int n = snprintf(text, sizeof(text), "\nsignal %d at seed %llu: replay with %s --seed %llu\n",
                     sig, (unsigned long long)sim.seed, self, (unsigned long long)sim.seed);

    if (write(2, text, (size_t)n) < 0)
        _exit(3);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void print_failure(struct sim *s, uint32_t lines)
{
    uint64_t from = s->trace_at > lines ? s->trace_at - lines : 0;

    printf("VIOLATION seed %llu at %llu us, event %llu: %s\n", (unsigned long long)s->seed,
           (unsigned long long)(s->now / NS_US), (unsigned long long)s->events, s->failure);
    sim_opts_print(s, stdout);
    for (uint64_t i = from; i < s->trace_at && !s->verbose; i++)
        sim_trace_print(&s->trace[i % SIM_TRACE_KEEP]);
    printf("replay: %s --seed %llu --verbose%s\n", self, (unsigned long long)s->seed,
           s->each_percent ? " --each-percent" : "");
}

static void print_stats(const struct sim_stats *st, double seconds)
{
    unsigned never = 0;

    printf(
        "seeds %llu, events %llu (%.0f/s), simulated %.0f s, ops %llu (acknowledged %llu), reads "
        "%llu, frames %llu\n",
        (unsigned long long)st->seeds, (unsigned long long)st->events, (double)st->events / seconds,
        (double)st->sim_ns / 1e9, (unsigned long long)st->ops, (unsigned long long)st->acked,
        (unsigned long long)st->reads, (unsigned long long)st->frames);
    printf("crashes %llu, freezes %llu, promotions %llu, converged %llu (%llu of them by a "
           "resync), behind %llu; checks: power "
           "cuts %llu, images %llu, claims %llu\n",
           (unsigned long long)st->crashes, (unsigned long long)st->freezes,
           (unsigned long long)st->promotions, (unsigned long long)st->converged,
           (unsigned long long)st->healed, (unsigned long long)st->behind,
           (unsigned long long)st->deep_checks, (unsigned long long)st->image_checks,
           (unsigned long long)st->status_checks);
    printf("faults:");
    for (int i = 0; i < F_FAULTS; i++) {
        printf(" %s %llu", sim_fault_name[i], (unsigned long long)st->fault[i]);
        never += st->fault[i] == 0;
    }
    printf("\nfault kinds that never struck: %u\n", never);
}

struct args {
    uint64_t seeds, first, seed;
    double budget;
    bool one, verbose, twice, until_found, bugs, each_percent;
    const char *bug;
    uint32_t lines, failures_max;
};

static bool parse(struct args *a, int argc, char **argv)
{
    *a = (struct args){.seeds = 100, .first = 1, .lines = 60, .failures_max = 5};
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "0";

        if (!strcmp(argv[i], "--seeds"))
            a->seeds = strtoull(v, NULL, 0), i++;
        else if (!strcmp(argv[i], "--first"))
            a->first = strtoull(v, NULL, 0), i++;
        else if (!strcmp(argv[i], "--budget"))
            a->budget = (double)strtoull(v, NULL, 0), a->seeds = UINT64_MAX, i++;
        else if (!strcmp(argv[i], "--seed"))
            a->seed = strtoull(v, NULL, 0), a->one = true, i++;
        else if (!strcmp(argv[i], "--lines"))
            a->lines = (uint32_t)strtoull(v, NULL, 0), i++;
        else if (!strcmp(argv[i], "--max-failures"))
            a->failures_max = (uint32_t)strtoull(v, NULL, 0), i++;
        else if (!strcmp(argv[i], "--verbose"))
            a->verbose = true;
        else if (!strcmp(argv[i], "--twice"))
            a->twice = true;
        else if (!strcmp(argv[i], "--until-found"))
            a->until_found = true;
        else if (!strcmp(argv[i], "--each-percent"))
            a->each_percent = true;
        else if (!strcmp(argv[i], "--bugs"))
            a->bugs = true;
        else if (!strcmp(argv[i], "--bug"))
            a->bug = v, i++;
        else
            return false;
    }
    if (a->one) {
        a->first = a->seed;
        a->seeds = 1;
    }
    return true;
}

/* The same seed gives the same trace. */
static bool same_twice(struct sim *s, uint64_t seed)
{
    uint64_t hash = s->trace_hash, events = s->events;
    bool ok;

    s->strict = true;
    ok = sim_run(s, seed, false);
    s->strict = false;

    if (s->trace_hash == hash && s->events == events)
        return ok;
    snprintf(s->failure, sizeof(s->failure),
             "determinism: trace hash %016llx with %llu events, then %016llx with %llu",
             (unsigned long long)hash, (unsigned long long)events,
             (unsigned long long)s->trace_hash, (unsigned long long)s->events);
    return false;
}

/* Mutants: how many seeds until some check notices. */
static int until_found(const struct args *a)
{
    for (uint64_t i = 0; i < a->seeds; i++) {
        if (sim_run(&sim, a->first + i, false))
            continue;
        printf("found after %llu seeds (%llu events): %.150s\n", (unsigned long long)i + 1,
               (unsigned long long)sim.st.events, sim.failure);
        return 0;
    }
    printf("not found in %llu seeds\n", (unsigned long long)a->seeds);
    return 1;
}

int main(int argc, char **argv)
{
    uint64_t passed = 0, failed = 0, hash = 0;
    struct args a;
    double start;

    self = argv[0];
    if (!parse(&a, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--seeds N | --budget SECONDS | --seed X [--verbose]] "
                "[--first X] [--twice] [--until-found] [--max-failures N] [--lines N] [--bugs] "
                "[--bug NAME] [--each-percent]\n",
                argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGSEGV, on_crash);
    signal(SIGFPE, on_crash);
    signal(SIGABRT, on_crash);
    signal(SIGTERM, on_crash); /* of who lost patience: which seed does not end? */
    /* What a run gives back the next one takes: the kernel need not see it. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    pattern_init();
    start = now_s();
    if (a.bugs) {
        sim_bugs_print(stdout);
        return 0;
    }
    if (a.bug && !sim_bug_on(a.bug)) {
        fprintf(stderr, "%s: no seeded bug here is called %s\n", self, a.bug);
        return 2;
    }
    if (a.until_found)
        return until_found(&a);
    for (uint64_t i = 0; i < a.seeds; i++) {
        bool ok;

        sim.each_percent = a.each_percent ? (uint32_t)((a.first + i - 1) % 100) + 1 : 0;
        ok = sim_run(&sim, a.first + i, a.verbose);
        if (ok && a.twice)
            ok = same_twice(&sim, a.first + i);
        hash = rng_mix(hash ^ sim.trace_hash);
        passed += ok;
        failed += !ok;
        if (!ok)
            print_failure(&sim, a.lines);
        if (failed >= a.failures_max || (a.budget > 0 && now_s() - start > a.budget))
            break;
    }
    print_stats(&sim.st, now_s() - start + 1e-9);
    printf("trace hash %016llx\n", (unsigned long long)hash);
    printf("sim: %llu passed, %llu failed\n", (unsigned long long)passed,
           (unsigned long long)failed);
    return failed != 0;
}
