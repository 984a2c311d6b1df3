/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/error.h"

#include <stdarg.h>
#include <stdio.h>

int hk_io_fail(struct hk_io_error *err, int error, const char *format, ...)
{
    va_list ap;

    HK_ASSERT(error < 0);
    if (err != NULL) {
        err->error = error;
        va_start(ap, format);
        vsnprintf(err->text, sizeof(err->text), format, ap);
        va_end(ap);
    }
    return error;
}
