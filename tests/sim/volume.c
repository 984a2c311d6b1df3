/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a correct disk may return, whatever lies between it and the application: a read returns the
 * value of the last completed write or of one that overlaps it in time; after a kill, of one that
 * was under way; after a power cut, of any write since the last flush. Knows nothing of the log.
 */
#include <string.h>

#include "tests/sim/world.h"

static uint8_t now_readable(const struct vol_sector *v)
{
    return v->in_flight ? v->may | v->group : v->may;
}

void vol_write_begins(struct vol_model *m, unsigned vol, uint32_t first, uint32_t n,
                      const uint8_t *values)
{
    m->step++;
    for (uint32_t i = 0; i < n; i++) {
        struct vol_sector *v = &m->sector[vol][first + i];
        uint8_t bit = (uint8_t)(1u << values[i]);

        v->group = v->in_flight++ ? v->group | bit : bit;
        v->medium |= bit;
        v->changed = m->step;
        for (struct vol_read *r = m->reads; r; r = r->next)
            if (r->volume == vol && first + i >= r->first && first + i < r->first + r->count)
                r->may[first + i - r->first] |= bit;
    }
}

void vol_write_ends(struct vol_model *m, unsigned vol, uint32_t first, uint32_t n, bool ok,
                    bool fua)
{
    m->step++;
    for (uint32_t i = first; i < first + n; i++) {
        struct vol_sector *v = &m->sector[vol][i];
        bool alone = (v->group & (v->group - 1)) == 0;

        v->changed = m->step;
        v->failed |= !ok;
        if (--v->in_flight)
            continue;
        v->may = v->failed ? v->may | v->group : v->group;
        if (fua && alone && !v->failed)
            v->medium = v->may;
        v->failed = 0;
    }
}

/* Everything that had completed when the flush began is on the medium. */
void vol_flush_ended(struct vol_model *m, unsigned vol, uint64_t begun_step)
{
    for (uint32_t i = 0; i < SIM_SECTORS_MAX; i++) {
        struct vol_sector *v = &m->sector[vol][i];

        if (v->in_flight == 0 && v->changed <= begun_step)
            v->medium = v->may;
    }
}

void vol_read_begins(struct vol_model *m, struct vol_read *r, unsigned vol, uint32_t first,
                     uint32_t n)
{
    *r = (struct vol_read){m->reads, true, (uint16_t)vol, first, n, {0}};
    for (uint32_t i = 0; i < n; i++)
        r->may[i] = now_readable(&m->sector[vol][first + i]);
    m->reads = r;
}

void vol_read_ends(struct vol_model *m, struct vol_read *r)
{
    struct vol_read **at = &m->reads;

    if (!r->active)
        return;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->active = false;
}

static void settle(struct vol_model *m, bool power)
{
    m->step++;
    for (int vol = 0; vol < SIM_VOLUMES; vol++)
        for (uint32_t i = 0; i < SIM_SECTORS_MAX; i++) {
            struct vol_sector *v = &m->sector[vol][i];

            if (v->in_flight) {
                v->may |= v->group;
                v->changed = m->step;
            }
            v->in_flight = v->failed = 0;
            if (power)
                v->may = v->medium;
        }
    while (m->reads)
        vol_read_ends(m, m->reads);
}

void vol_cut_short(struct vol_model *m)
{
    settle(m, false);
}

void vol_power_lost(struct vol_model *m)
{
    settle(m, true);
}

/* From what is there now. */
void vol_learn(struct sim *s, struct vol_model *m, const struct sim_file *vol0)
{
    memset(m, 0, sizeof(*m));
    for (unsigned vol = 0; vol < SIM_VOLUMES; vol++)
        for (uint32_t i = 0; i < grow_capacity(s); i++) {
            int got = pattern_identify(vol0[vol].cur + (size_t)i * SIM_SECTOR, vol, i);
            int dur = pattern_identify(vol0[vol].dur + (size_t)i * SIM_SECTOR, vol, i);
            struct vol_sector *v = &m->sector[vol][i];

            v->may = got < 0 ? 0xff : (uint8_t)(1u << got);
            v->medium = v->may | (dur < 0 ? 0xff : (uint8_t)(1u << dur));
        }
}
