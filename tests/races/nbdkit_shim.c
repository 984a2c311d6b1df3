/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/races/nbdkit_shim.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static bool quit;

void shim_quit(void)
{
    __atomic_store_n(&quit, true, __ATOMIC_RELEASE);
}

void shim_again(void)
{
    __atomic_store_n(&quit, false, __ATOMIC_RELEASE);
}

static __attribute__((format(printf, 1, 0))) void say(const char *fs, va_list args)
{
    if (!getenv("HK_RACES_SAY"))
        return;
    fputs("# ", stdout);
    vprintf(fs, args);
    putchar('\n');
}

__attribute__((format(printf, 1, 2))) void nbdkit_error(const char *fs, ...)
{
    va_list args;

    va_start(args, fs);
    say(fs, args);
    va_end(args);
}

__attribute__((format(printf, 1, 2))) void nbdkit_debug(const char *fs, ...)
{
    va_list args;

    va_start(args, fs);
    say(fs, args);
    va_end(args);
}

int nbdkit_nanosleep(unsigned seconds, unsigned nanoseconds)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    while (!__atomic_load_n(&quit, __ATOMIC_ACQUIRE))
        nanosleep(&pause, NULL);
    errno = ESHUTDOWN;
    return -1;
}
