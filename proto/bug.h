/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Seeded bugs: HK_BUG(name) is 0 in every product build and costs nothing. A program that wants to
 * be broken gets it in one of two ways:
 * - compiled with -DHK_BUG_name=1: that one bug is in that file;
 * - compiled with -DHK_BUGS_AT_RUN_TIME: every bug is in, switched off, and each place is listed in
 *   the section hk_bugs, so that the program finds them by name (tests/sim/bugs.c) and one build
 *   tries them all.
 * The simulator must notice every one of them (tests/sim/mutants.tsv).
 */
#ifndef HK_PROTO_BUG_H
#define HK_PROTO_BUG_H

#ifdef HK_BUGS_AT_RUN_TIME

struct hk_bug_point {
    const char *name;
    int on;
};

/* The section holds pointers: their distance is their size, whatever the linker aligns. */
#define HK_BUG(bug)                                                     \
    (__extension__({                                                    \
        static struct hk_bug_point hk_bug_point_ = {#bug, 0};           \
        static struct hk_bug_point *const hk_bug_listed_                \
            __attribute__((section("hk_bugs"), used)) = &hk_bug_point_; \
        hk_bug_point_.on;                                               \
    }))

#else

#define HK_BUG_ARG_1                        0,
#define HK_BUG_SECOND(ignored, second, ...) second
#define HK_BUG_PICK(one_or_junk)            HK_BUG_SECOND(one_or_junk 1, 0, 0)
#define HK_BUG_JOIN(value)                  HK_BUG_PICK(HK_BUG_ARG_##value)
#define HK_BUG_VALUE(value)                 HK_BUG_JOIN(value)
#define HK_BUG(name)                        HK_BUG_VALUE(HK_BUG_##name)

#endif

#endif
