/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why something of the outside world could not be opened: for the caller a -errno, for a person one
 * precise text (object, what failed, why, what to do). Set only on failure.
 */
#ifndef HK_IO_ERROR_H
#define HK_IO_ERROR_H

#include "proto/base.h"

struct hk_io_error {
    int error; /* -errno */
    char text[320];
};

/* Returns `error` (negative), so that a caller can write `return hk_io_fail(err, -EIO, ...)`. */
int hk_io_fail(struct hk_io_error *err, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
