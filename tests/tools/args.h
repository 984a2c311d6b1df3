/* SPDX-License-Identifier: Apache-2.0 */
/* What the tools' command lines have in common. Each program names itself in hk_tool_name. */
#ifndef HK_TOOLS_ARGS_H
#define HK_TOOLS_ARGS_H

#include <stdint.h>

enum { HK_TOOL_TROUBLE = 2 }; /* exit status: nothing could be judged */

extern const char hk_tool_name[];

/* Says why on stderr and ends the program. */
__attribute__((format(printf, 1, 2), noreturn)) void hk_tool_die(const char *format, ...);
/* end NULL: the whole text must be a number; else where it stops. */
uint64_t hk_tool_number(const char *text, char **end);

#endif
