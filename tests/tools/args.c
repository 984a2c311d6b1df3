/* SPDX-License-Identifier: Apache-2.0 */
#include "args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void hk_tool_die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fprintf(stderr, "%s: ", hk_tool_name);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(HK_TOOL_TROUBLE);
}

uint64_t hk_tool_number(const char *text, char **end)
{
    char *mine = NULL;
    char **stop = end != NULL ? end : &mine;
    uint64_t value;

    errno = 0;
    value = strtoull(text, stop, 0);
    if (errno != 0 || *stop == text || (end == NULL && **stop != 0))
        hk_tool_die("\"%s\" is not a number", text);
    return value;
}
