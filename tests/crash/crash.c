/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/crash.h"

#include "proto/base.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *kind;
    const char *what;
    uint64_t at[5];
    uint64_t cases;
    unsigned number;
    bool failed;
    struct timespec began;
} now;

static int kind_count;
static char **kinds;

void crash_arguments(int argc, char **argv)
{
    kind_count = argc - 1;
    kinds = argv + 1;
}

bool crash_wanted(const char *kind)
{
    for (int i = 0; i < kind_count; i++) {
        if (strcmp(kinds[i], kind) == 0)
            return true;
    }
    return kind_count <= 0;
}

static bool mode_is(const char *name)
{
    const char *mode = getenv("HK_TEST_MODE");

    return mode && strcmp(mode, name) == 0;
}

bool crash_full(void)
{
    return mode_is("full") || mode_is("whole");
}

uint64_t crash_sample(uint64_t every)
{
    return mode_is("full") ? every : 1;
}

uint64_t crash_stride(uint64_t every)
{
    return crash_full() ? 1 : every;
}

void crash_begin(const char *kind)
{
    now.kind = kind;
    now.cases = 0;
    clock_gettime(CLOCK_MONOTONIC, &now.began);
}

void crash_case(const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    now.what = what;
    now.at[0] = a;
    now.at[1] = b;
    now.at[2] = c;
    now.at[3] = now.at[4] = 0;
    now.cases++;
}

void crash_case_more(uint64_t d, uint64_t e)
{
    now.at[3] = d;
    now.at[4] = e;
}

uint64_t crash_cases(void)
{
    return now.cases;
}

/* What counts.tsv says of this kind in this mode; 0: nothing, which is a failure as well. */
static uint64_t committed(const char *kind)
{
    const char *path = getenv("HK_CRASH_COUNTS");
    char line[256], name[64];
    unsigned long long quick, full, whole, found = 0;
    FILE *f = path ? fopen(path, "re") : NULL;

    while (f && fgets(line, sizeof(line), f)) {
        int columns = sscanf(line, "%63s %llu %llu %llu", name, &quick, &full, &whole);

        if (columns < 3 || strcmp(name, kind) != 0)
            continue;
        found = crash_full() ? full : quick;
        if (columns == 4 && mode_is("whole"))
            found = whole;
    }
    if (f)
        fclose(f);
    return found;
}

/* A program with a seeded bug passes by failing. */
static const char *seeded_bug(void)
{
    return getenv("HK_CRASH_BUG");
}

void crash_end(void)
{
    uint64_t want = committed(now.kind);
    bool ok = want > 0 && now.cases >= want;
    struct timespec t;
    double s;

    if (seeded_bug())
        return;
    clock_gettime(CLOCK_MONOTONIC, &t);
    s = (double)(t.tv_sec - now.began.tv_sec) + (double)(t.tv_nsec - now.began.tv_nsec) / 1e9;
    printf("# %-28s %10llu recoveries, %llu committed, %.1f s\n", now.kind, ULL(now.cases),
           ULL(want), s);
    printf("%s %u - %s\n", ok ? "ok" : "not ok", ++now.number, now.kind);
    if (!ok)
        printf("# %s tried fewer recoveries than tests/crash/counts.tsv has committed\n", now.kind);
    fflush(stdout);
    now.failed |= !ok;
    now.kind = NULL;
}

int crash_finish(void)
{
    if (seeded_bug()) {
        printf("not ok 1 - %s\n1..1\n# it was not noticed\n", seeded_bug());
        return 1;
    }
    printf("1..%u\n", now.number);
    return now.failed || now.number == 0;
}

static void say_case(void)
{
    printf("# in %s: %s %llu %llu %llu %llu %llu, case %llu\n", now.kind ? now.kind : "none",
           now.what ? now.what : "", ULL(now.at[0]), ULL(now.at[1]), ULL(now.at[2]), ULL(now.at[3]),
           ULL(now.at[4]), ULL(now.cases));
    printf("%s %u - %s\n1..%u\n", seeded_bug() ? "ok" : "not ok", now.number + 1,
           seeded_bug() ? seeded_bug()
           : now.kind   ? now.kind
                        : "none",
           now.number + 1);
}

static _Noreturn void stop(void)
{
    fflush(stdout);
    if (seeded_bug())
        _exit(0);
    abort();
}

_Noreturn void crash_fail(const char *file, int line, const char *format, ...)
{
    va_list args;

    printf("# %s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    say_case();
    stop();
}

/* An assertion of the product is a finding like any other: damaged input must not reach one. */
void hk_assert_fail(const char *expr, const char *file, int line)
{
    printf("# %s:%d: assertion failed: %s\n", file, line, expr);
    say_case();
    stop();
}
