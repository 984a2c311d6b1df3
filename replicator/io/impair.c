/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/impair.h"

/* splitmix64 (Steele, Lea, Flood 2014): passes every seed, zero included. */
static uint64_t next(struct hk_impair *m)
{
    uint64_t z = m->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool chance(struct hk_impair *m, uint32_t ppm)
{
    return next(m) % 1000000u < ppm;
}

void hk_impair_init(struct hk_impair *m, const struct hk_impair_cfg *cfg)
{
    m->cfg = *cfg;
    m->state = cfg->seed;
}

bool hk_impair_active(const struct hk_impair *m)
{
    return m->cfg.loss_ppm != 0 || m->cfg.dup_ppm != 0 || m->cfg.reorder_ppm != 0 ||
           m->cfg.corrupt_ppm != 0;
}

void hk_impair_draw(struct hk_impair *m, uint32_t bits, struct hk_impair_verdict *ret)
{
    bool hold;

    HK_ASSERT(bits > 0);
    ret->lose = chance(m, m->cfg.loss_ppm);
    ret->duplicate = chance(m, m->cfg.dup_ppm);
    hold = chance(m, m->cfg.reorder_ppm);
    ret->hold_frames = (uint32_t)(next(m) % HK_IMPAIR_HOLD_FRAMES_MAX) + 1;
    if (!hold)
        ret->hold_frames = 0;
    ret->corrupt = chance(m, m->cfg.corrupt_ppm);
    ret->corrupt_bit = (uint32_t)(next(m) % bits);
}
