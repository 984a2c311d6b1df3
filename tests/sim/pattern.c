/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of sectors: few distinct values, zeros among them, so that a sector often goes back to
 * what it was (A-B-A). A value other than 0 also says where it belongs, so that bytes that went
 * astray are noticed.
 */
#include <string.h>

#include "tests/sim/sim.h"

static uint8_t table[SIM_VOLUMES][SIM_SECTORS_MAX][SIM_VALUES][SIM_SECTOR];

void pattern_init(void)
{
    for (unsigned vol = 0; vol < SIM_VOLUMES; vol++)
        for (unsigned sec = 0; sec < SIM_SECTORS_MAX; sec++)
            for (unsigned v = 1; v < SIM_VALUES; v++)
                for (unsigned w = 0; w < SIM_SECTOR / 8; w++) {
                    uint64_t word = (uint64_t)v << 56 | (uint64_t)vol << 48 | (uint64_t)sec << 32 |
                                    (uint64_t)w << 16 | 0x4b48;

                    memcpy(&table[vol][sec][v][8 * w], &word, 8);
                }
}

const uint8_t *pattern(unsigned vol, unsigned sector, uint8_t value)
{
    return table[vol][sector][value];
}

int pattern_identify(const uint8_t *bytes, unsigned vol, unsigned sector)
{
    uint8_t v = bytes[7];

    if (v >= SIM_VALUES || memcmp(bytes, table[vol][sector][v], SIM_SECTOR) != 0)
        return -1;
    return v;
}
