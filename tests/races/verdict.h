/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program that also exists with a bug compiled in tells what it found: a failed CHECK is a
 * failure; but with the bug's name in HK_EXPECT_BUG it is what was to be shown, and its absence is
 * the failure. Any thread may fail; the first one ends the process.
 */
#ifndef HK_RACES_VERDICT_H
#define HK_RACES_VERDICT_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define VERDICT_BUG  (getenv("HK_EXPECT_BUG") != NULL)
#define VERDICT_NAME (VERDICT_BUG ? getenv("HK_EXPECT_BUG") : "")

/* What is to be done before a failed CHECK ends the process, so that nothing stays behind. */
static void (*verdict_clean_up)(void) __attribute__((unused));

/* Whether it was said, by this process or by one it forked: they share the page. */
static int *verdict_said;

__attribute__((constructor)) static inline void verdict_begin(void)
{
    verdict_said =
        mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verdict_said == MAP_FAILED)
        abort();
}

__attribute__((format(printf, 1, 2), noreturn)) static inline void verdict(const char *fs, ...)
{
    char what[512], line[768];
    va_list args;
    int bytes;

    va_start(args, fs);
    vsnprintf(what, sizeof(what), fs, args);
    va_end(args);
    bytes =
        snprintf(line, sizeof(line), "%s%s%s%s\n1..1\n", VERDICT_BUG ? "ok 1 - " : "not ok 1 - ",
                 VERDICT_NAME, VERDICT_BUG ? " is noticed: " : "", what);
    /* The first one says it, and nothing of stdio, in which a sanitizer may find the next thing. */
    if (__atomic_exchange_n(verdict_said, 1, __ATOMIC_RELAXED))
        sleep(5);
    else if (write(1, line, (size_t)bytes) < 0)
        _exit(2);
    if (verdict_clean_up)
        verdict_clean_up();
    _exit(VERDICT_BUG ? 0 : 1);
}

/* The end of a program in which no CHECK failed. */
static inline int verdict_end(const char *what)
{
    if (__atomic_load_n(verdict_said, __ATOMIC_RELAXED))
        return VERDICT_BUG ? 0 : 1;
    if (VERDICT_BUG)
        printf("not ok 1 - %s was not noticed\n1..1\n", VERDICT_NAME);
    else
        printf("ok 1 - %s\n1..1\n", what);
    return VERDICT_BUG ? 1 : 0;
}

#define CHECK(condition, ...)     \
    do {                          \
        if (!(condition))         \
            verdict(__VA_ARGS__); \
    } while (0)

#endif
