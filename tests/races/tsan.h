/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For programs that also run under ThreadSanitizer: UNDER_TSAN, and what a report of it means. To
 * be included once in a program.
 */
#ifndef HK_RACES_TSAN_H
#define HK_RACES_TSAN_H

#include "tests/races/verdict.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#if UNDER_TSAN
/* A report is what a bug is to lead to; without one the exit status says it (66). */
void __tsan_on_report(void *report);

void __tsan_on_report(void *report)
{
    if (VERDICT_BUG)
        verdict("ThreadSanitizer reports a race");
}
#endif

#endif
