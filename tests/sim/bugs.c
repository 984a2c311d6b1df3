/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeded bugs of this program, found by name (proto/bug.h). A build without HK_BUGS_AT_RUN_TIME has
 * none, and then no name is known.
 */
#include <string.h>

#include "proto/bug.h"
#include "tests/sim/sim.h"

#ifdef HK_BUGS_AT_RUN_TIME

/* Made by the linker: the places of all files, one after the other. */
extern struct hk_bug_point *const __start_hk_bugs[], *const __stop_hk_bugs[];

bool sim_bug_on(const char *name)
{
    bool found = false;

    for (struct hk_bug_point *const *p = __start_hk_bugs; p < __stop_hk_bugs; p++) {
        if (strcmp((*p)->name, name) != 0)
            continue;
        (*p)->on = 1;
        found = true;
    }
    return found;
}

/* Each name once, though a bug may be in several places. */
void sim_bugs_print(FILE *out)
{
    for (struct hk_bug_point *const *p = __start_hk_bugs; p < __stop_hk_bugs; p++) {
        struct hk_bug_point *const *first = __start_hk_bugs;

        while (strcmp((*first)->name, (*p)->name) != 0)
            first++;
        if (first == p)
            fprintf(out, "%s\n", (*p)->name);
    }
}

#else

bool sim_bug_on(const char *name)
{
    (void)name;
    return false;
}

void sim_bugs_print(FILE *out)
{
    (void)out;
}

#endif
