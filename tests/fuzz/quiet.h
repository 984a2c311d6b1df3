/* SPDX-License-Identifier: Apache-2.0 */
/* Standard output for nobody while the code under test prints; and files that are an input. */
#ifndef HK_TESTS_FUZZ_QUIET_H
#define HK_TESTS_FUZZ_QUIET_H

#include "proto/base.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct quiet {
    FILE *out, *err;
};

static inline struct quiet quiet_begin(void)
{
    static FILE *nobody;
    struct quiet was = {stdout, stderr};

    if (!nobody)
        nobody = fopen("/dev/null", "w");
    HK_ASSERT(nobody);
    stdout = stderr = nobody;
    return was;
}

static inline void quiet_end(struct quiet was)
{
    stdout = was.out;
    stderr = was.err;
}

/* A file in memory with this content; `which` tells several apart. Its name under /proc. */
static inline const char *quiet_file(unsigned which, const void *bytes, size_t size)
{
    static char path[4][32];
    static int fd[4];

    HK_ASSERT(which < 4);
    if (!path[which][0]) {
        fd[which] = memfd_create("input", 0);
        HK_ASSERT(fd[which] >= 0);
        snprintf(path[which], sizeof(path[which]), "/proc/self/fd/%d", fd[which]);
    }
    HK_ASSERT(ftruncate(fd[which], 0) == 0);
    HK_ASSERT(pwrite(fd[which], bytes, size, 0) == (ssize_t)size);
    return path[which];
}

#endif
