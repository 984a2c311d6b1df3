/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Base of everything that handles bytes: asserts, little-endian access, ids, the arena.
 *
 * Three classes of errors (replicator/ARCHITECTURE.md, "Errors"): our own bug ends in HK_ASSERT,
 * which stays on in release builds; the world's faults are -errno; storage that lied is fail-stop.
 */
#ifndef HK_PROTO_BASE_H
#define HK_PROTO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The environment (daemon, plugin, simulator, kernel) defines what an assertion failure does. */
void hk_assert_fail(const char *expr, const char *file, int line) __attribute__((noreturn));

#define HK_ASSERT(e)                                \
    do {                                            \
        if (__builtin_expect(!(e), 0))              \
            hk_assert_fail(#e, __FILE__, __LINE__); \
    } while (0)

#define HK_STATIC_ASSERT(e, why)         _Static_assert(e, why)
#define HK_ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define HK_CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* 128-bit random identity (group, epoch, replica, site, host). All zeros means "none". */
struct hk_uuid {
    uint8_t b[16];
};

static inline bool hk_uuid_equal(const struct hk_uuid *a, const struct hk_uuid *b)
{
    return __builtin_memcmp(a->b, b->b, 16) == 0;
}

static inline bool hk_uuid_is_nil(const struct hk_uuid *a)
{
    static const struct hk_uuid nil;
    return hk_uuid_equal(a, &nil);
}

/* 36 characters and NUL, as in RFC 4122 text form. */
#define HK_UUID_TEXT 37
void hk_uuid_format(const struct hk_uuid *u, char ret_text[HK_UUID_TEXT]);
/* -EINVAL: not 8-4-4-4-12 hexadecimal digits. ret_u is untouched on failure. */
int hk_uuid_parse(const char *text, struct hk_uuid *ret_u);

/* The hosts we run on are little endian (x86-64, arm64); the formats are too. */
HK_STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are little endian");

static inline uint64_t hk_round_up(uint64_t v, uint64_t power_of_two)
{
    return (v + power_of_two - 1) & ~(power_of_two - 1);
}

static inline uint64_t hk_round_down(uint64_t v, uint64_t power_of_two)
{
    return v & ~(power_of_two - 1);
}

static inline uint64_t hk_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t hk_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/*
 * Memory for the pure side: carved once at init, never given back. The caller owns the block (the
 * daemon: locked pages; the simulator: one calloc). Zeroed by the owner.
 */
struct hk_arena {
    uint8_t *base;
    size_t bytes;
    size_t used;
};

/*
 * Returns zeroed memory aligned to `align` (a power of two), or NULL when the arena is exhausted.
 */
static inline void *hk_arena_take(struct hk_arena *a, size_t bytes, size_t align)
{
    size_t at =
        (((uintptr_t)a->base + a->used + align - 1) & ~(uintptr_t)(align - 1)) - (uintptr_t)a->base;

    if (at > a->bytes || bytes > a->bytes - at)
        return NULL;
    a->used = at + bytes;
    return a->base + at;
}

#endif
