/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as fault schedule: a short run of the whole simulated system in which the input takes the
 * place of the simulator's random numbers as long as it lasts. Input: seed u16, number of bytes for
 * the options, those bytes (mode, sizes, which faults, their rates), then the draws of faults,
 * applications, link and disks in turn, one byte each.
 *
 * Oracle: every check of the simulator, convergence at the end included.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { STREAM_OPTIONS = 1, STREAM_FAULT = 3, STREAMS_FED = 4 };

struct sim_feed sim_feed[SIM_STREAMS];

static void feed(const uint8_t *data, size_t size)
{
    uint32_t options = data[2] < size - 3 ? data[2] : (uint32_t)(size - 3);

    memset(sim_feed, 0, sizeof(sim_feed));
    sim_feed[STREAM_OPTIONS] = (struct sim_feed){data + 3, options, 1};
    data += 3 + options;
    size -= 3 + options;
    for (uint32_t i = 0; i < STREAMS_FED; i++)
        sim_feed[STREAM_FAULT + i] = (struct sim_feed){
            data + i, (uint32_t)(size + STREAMS_FED - 1 - i) / STREAMS_FED, STREAMS_FED};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sim sim;
    static bool ready;

    if (size < 3)
        return 0;
    if (!ready)
        pattern_init();
    ready = true;
    feed(data, size);
    if (sim_run(&sim, (uint64_t)(data[0] | data[1] << 8), false))
        return 0;
    fprintf(stderr, "VIOLATION at %llu us, event %llu: %s\n", (unsigned long long)(sim.now / NS_US),
            (unsigned long long)sim.events, sim.failure);
    sim_opts_print(&sim, stderr);
    abort();
}
