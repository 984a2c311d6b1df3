/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the crash tests share: counting, and stopping with the case at hand in words.
 *
 * Each program runs kinds of damage one after the other; a kind is one TAP case and its number of
 * recoveries. tests/crash/counts.tsv holds the numbers committed for quick and full, and for
 * whole where that is more: a kind that tries less fails, so that nobody makes the enumeration
 * smaller without saying so.
 */
#ifndef HK_TESTS_CRASH_H
#define HK_TESTS_CRASH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define ULL(x) ((unsigned long long)(x))

/* HK_TEST_MODE=full: everything but what crash_sample thins out; whole: that too; else a sample. */
bool crash_full(void);
/* `every` in quick mode, 1 in full. */
uint64_t crash_stride(uint64_t every);
/* For the few kinds that would take minutes each: `every` in full mode, 1 in quick and in whole. */
uint64_t crash_sample(uint64_t every);

/* The kinds named on the command line; none: all. */
void crash_arguments(int argc, char **argv);
bool crash_wanted(const char *kind);

/* A kind begins; name: lower case with underscores, as in counts.tsv. */
void crash_begin(const char *kind);
/* The kind passed, having tried so many recoveries in all. */
void crash_end(void);
int crash_finish(void); /* the exit status */

/* One more recovery; the case is what a failure prints. */
void crash_case(const char *what, uint64_t a, uint64_t b, uint64_t c);
void crash_case_more(uint64_t d, uint64_t e);
uint64_t crash_cases(void);
_Noreturn void crash_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define CRASH_CHECK(cond, ...)                           \
    do {                                                 \
        if (!(cond))                                     \
            crash_fail(__FILE__, __LINE__, __VA_ARGS__); \
    } while (0)

/* splitmix64, for what can't be exhausted: the same draws in every run. */
static inline uint64_t crash_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

#endif
