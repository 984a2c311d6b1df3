/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's own random numbers: xoshiro256** seeded by splitmix64. Integers only. */
#ifndef HK_SIM_RNG_H
#define HK_SIM_RNG_H

#include <stdbool.h>
#include <stdint.h>

/*
 * With SIM_FED (the fuzzer's build) the first draws of a stream are bytes of the fuzzer's input,
 * one each: a schedule that it can change piece by piece. Afterwards the seed decides, as ever.
 */
#ifdef SIM_FED
struct sim_feed {
    const uint8_t *at;
    uint32_t left, stride;
};
enum { SIM_STREAMS = 16 };
extern struct sim_feed sim_feed[SIM_STREAMS];
#endif

struct sim_rng {
    uint64_t s[4];
#ifdef SIM_FED
    struct sim_feed feed;
#endif
};

static inline uint64_t rng_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline void rng_seed(struct sim_rng *r, uint64_t seed, uint64_t stream)
{
    uint64_t x = seed ^ rng_mix(stream);

    for (int i = 0; i < 4; i++)
        r->s[i] = x = rng_mix(x + (uint64_t)i);
#ifdef SIM_FED
    r->feed = sim_feed[stream % SIM_STREAMS];
#endif
}

static inline uint64_t rng_rotl(uint64_t v, int k)
{
    return (v << k) | (v >> (64 - k));
}

static inline uint64_t rng_next(struct sim_rng *r)
{
    uint64_t ret = rng_rotl(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rng_rotl(r->s[3], 45);
#ifdef SIM_FED
    if (r->feed.left > 0) {
        uint8_t v = *r->feed.at;

        r->feed.left--;
        r->feed.at += r->feed.stride;
        /* The ends are the ends: with 0 every chance that is one strikes. */
        return v == 0 ? 0 : v == 255 ? UINT64_MAX : (uint64_t)v << 56 | ret >> 8;
    }
#endif
    return ret;
}

/* [0, n), n > 0. The bias of a 64-bit product is of no interest here. */
static inline uint64_t rng_below(struct sim_rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

/* [lo, hi], both included. */
static inline uint64_t rng_range(struct sim_rng *r, uint64_t lo, uint64_t hi)
{
    return lo + rng_below(r, hi - lo + 1);
}

static inline bool rng_ppm(struct sim_rng *r, uint32_t ppm)
{
    return ppm != 0 && rng_below(r, 1000000) < ppm;
}

/* A bit somewhere is not as it was. One draw an expression: operands have no order. */
static inline void rng_flip(struct sim_rng *r, uint8_t *bytes, uint64_t n)
{
    uint64_t at = rng_below(r, n);

    bytes[at] ^= (uint8_t)(1u << rng_below(r, 8));
}

/* [lo, hi], times a power of two below 2^n. */
static inline uint64_t rng_scaled(struct sim_rng *r, uint64_t lo, uint64_t hi, uint32_t n)
{
    uint64_t v = rng_range(r, lo, hi);

    return v << rng_below(r, n);
}

/*
 * Around `mean`, with a tail like an exponential's and no floating point: a random power of two of
 * the mean (1/2 of the draws), else uniform in [0, 2 × mean).
 */
static inline uint64_t rng_around(struct sim_rng *r, uint64_t mean)
{
    uint64_t v = rng_next(r);

    if (mean == 0)
        return 0;
    if (v & 1)
        return rng_below(r, 2 * mean);
    return rng_below(r, mean) << __builtin_ctzll((v >> 1) | 16);
}

#endif
