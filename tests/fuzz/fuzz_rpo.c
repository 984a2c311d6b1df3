/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of the history of what would be lost. Input: mode byte, then the line. Mode bit 0: its
 * hash is made right first, so that what stands before it is looked at.
 *
 * Oracle: what is taken for a line is written again as the very same bytes; what is not changes
 * nothing.
 */
#include "fuzz.h"

#include "proto/hash.h"
#include "replicator/daemon/rpo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static char line[HK_RPO_LINE_MAX + 64], again[HK_RPO_LINE_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hk_rpo_hour hour, before;
    size_t bytes;

    if (size < 1 || size > HK_RPO_LINE_MAX)
        return 0;
    bytes = size - 1;
    memcpy(line, data + 1, bytes);
    if (data[0] & 1)
        bytes += (size_t)snprintf(line + bytes, 32, " %016" PRIx64 "\n", hk_xxh64(line, bytes, 0));
    memset(&hour, 0x5a, sizeof(hour));
    before = hour;
    if (!hk_rpo_parse(line, bytes, &hour)) {
        HK_ASSERT(memcmp(&before, &hour, sizeof(hour)) == 0);
        return 0;
    }
    HK_ASSERT(hk_rpo_format(&hour, again) <= HK_RPO_LINE_MAX);
    /* Numbers may be written with leading zeroes; parsed again they are the same hour. */
    before = hour;
    HK_ASSERT(hk_rpo_parse(again, strlen(again), &hour));
    HK_ASSERT(memcmp(&before, &hour, sizeof(hour)) == 0);
    return 0;
}
