/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An input read as a script: numbers from its start; what it does not have is zero. One number an
 * expression: compilers do not agree about the order of two.
 */
#ifndef HK_TESTS_FUZZ_SCRIPT_H
#define HK_TESTS_FUZZ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct script {
    const uint8_t *at, *end;
};

static inline bool script_left(const struct script *s)
{
    return s->at < s->end;
}

static inline uint8_t script_u8(struct script *s)
{
    return s->at < s->end ? *s->at++ : 0;
}

static inline uint16_t script_u16(struct script *s)
{
    uint16_t low = script_u8(s);

    return (uint16_t)(low | script_u8(s) << 8);
}

static inline uint32_t script_u32(struct script *s)
{
    uint32_t low = script_u16(s);

    return low | (uint32_t)script_u16(s) << 16;
}

static inline uint64_t script_u64(struct script *s)
{
    uint64_t low = script_u32(s);

    return low | (uint64_t)script_u32(s) << 32;
}

static inline void script_bytes(struct script *s, void *to, size_t bytes)
{
    uint8_t *b = to;

    for (size_t i = 0; i < bytes; i++)
        b[i] = script_u8(s);
}

/* Another value for one byte of something. */
static inline void script_patch(struct script *s, void *to, size_t bytes)
{
    size_t at = script_u16(s) % bytes;

    ((uint8_t *)to)[at] = script_u8(s);
}

/* A number near `base`: up to 127 below or 128 units above, or anything at all. */
static inline uint64_t script_near(struct script *s, uint64_t base, uint64_t unit)
{
    uint8_t v = script_u8(s);

    if (v == 0xff)
        return script_u64(s);
    return base + unit * (uint64_t)((int64_t)v - 127);
}

#endif
