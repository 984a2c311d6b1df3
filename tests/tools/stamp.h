/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of hk-stamp: stamp.c is the loop, its requests and connections; stamp_pick.c decides
 * what is done next; stamp_args.c reads the command line. One thread, one struct writer.
 */
#ifndef HK_TOOLS_STAMP_H
#define HK_TOOLS_STAMP_H

#include "args.h"
#include "stamplog.h"

#include <libnbd.h>

enum { EXIT_DONE, EXIT_IO_ERROR, EXIT_TROUBLE = HK_TOOL_TROUBLE, EXIT_GONE };
enum { DEPTH_MAX = 256, BLOCK_MAX_LIMIT = 1 << 20, RECONNECT_PAUSE_NS = 50 * 1000 * 1000 };
#define SECOND_NS UINT64_C(1000000000)

enum mix { MIX_WRITE, MIX_FUA, MIX_ZERO, MIX_TRIM, MIX_FLUSH, MIX_READ, MIX_COUNT };

struct slot {
    bool used;
    bool answered; /* by the completion callback; retired in the main loop */
    int error;
    struct hk_stamp_event submit;
    unsigned char *buffer;
};

enum link { LINK_DOWN, LINK_CONNECTING, LINK_UP };

struct volume {
    const char *uri;
    struct nbd_handle *nbd;
    enum link link;
    bool declared; /* the log's header names it: from now on the size must stay */
    uint64_t size, range_offset, range_length;
    uint64_t retry_ns;
    bool can_fua, can_zero, can_trim, can_flush;
};

struct totals {
    uint64_t submitted, acked, errors, unanswered, reads, dependent;
    uint64_t disconnects, disconnects_in_flight, in_flight_last;
};

struct writer {
    struct volume volumes[HK_STAMPLOG_VOLUMES_MAX];
    uint32_t volume_count;
    struct slot slots[DEPTH_MAX];
    unsigned depth, in_flight;
    struct hk_stamplog_writer log;
    unsigned weights[MIX_COUNT], weight_sum;
    uint32_t block_min, block_max, align;
    unsigned unique_percent, overlap_percent;
    uint64_t next_id, ops_max;
    uint64_t rate, rate_from_id, rate_since_ns; /* operations a second since then; 0: no limit */
    uint64_t started_ns, deadline_ns, reconnect_ns, drain_ns, gone_since_ns;
    uint64_t rng;
    bool stopping;
    struct totals totals;
    /* What a read made this client do next: a unique write to another volume. */
    bool act;
    uint16_t act_volume;
    int control_fd;
    char control[256];
    size_t control_used;
};

struct arguments {
    const char *log;
    uint64_t seconds, seed;
};

void hk_stamp_parse(struct writer *w, struct arguments *a, int argc, char **argv);

/* Fills the submit event of a free slot; false if no volume is connected. */
bool hk_stamp_pick(struct writer *w, struct slot *s);

bool hk_stamp_chance(struct writer *w, unsigned percent);

#endif
