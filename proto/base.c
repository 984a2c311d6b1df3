/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/base.h"

#include <errno.h>

/* Positions of the four dashes of the text form. */
static bool is_dash_at(int i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

void hk_uuid_format(const struct hk_uuid *u, char ret_text[HK_UUID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    int nibble = 0;

    for (int i = 0; i < HK_UUID_TEXT - 1; i++) {
        if (is_dash_at(i)) {
            ret_text[i] = '-';
            continue;
        }
        ret_text[i] = digits[nibble % 2 ? u->b[nibble / 2] & 15 : u->b[nibble / 2] >> 4];
        nibble++;
    }
    ret_text[HK_UUID_TEXT - 1] = '\0';
    HK_ASSERT(nibble == 32);
}

int hk_uuid_parse(const char *text, struct hk_uuid *ret_u)
{
    struct hk_uuid u = {{0}};
    int nibble = 0;

    /* A NUL is neither dash nor digit, so a short text ends the loop before its end is passed. */
    for (int i = 0; i < HK_UUID_TEXT - 1; i++) {
        int v;

        if (is_dash_at(i)) {
            if (text[i] != '-')
                return -EINVAL;
            continue;
        }
        v = hex_value(text[i]);
        if (v < 0)
            return -EINVAL;
        u.b[nibble / 2] = (uint8_t)(u.b[nibble / 2] << 4 | v);
        nibble++;
    }
    if (text[HK_UUID_TEXT - 1] != '\0')
        return -EINVAL;
    *ret_u = u;
    return 0;
}
