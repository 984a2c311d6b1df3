/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an assertion failure does in a plain user-space program: say where, then abort. A library of
 * its own, so that an environment with its own idea (the simulator, the kernel) simply does not
 * link it.
 */
#include "proto/base.h"

#include <stdio.h>
#include <stdlib.h>

void hk_assert_fail(const char *expr, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
    abort();
}
