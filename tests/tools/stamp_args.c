/* SPDX-License-Identifier: Apache-2.0 */
#include "args.h"
#include "content.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char hk_tool_name[] = "hk-stamp";

static const char usage[] =
    "usage: hk-stamp --log FILE [options] URI...\n"
    "  one NBD URI per volume of the group\n"
    "  --volume N=URI:OFF:LEN  the same by number, with the range that may be touched\n"
    "  --range OFF+LEN      bytes of every volume that this client may touch (default: all)\n"
    "  --range N:OFF+LEN    the same for one volume\n"
    "  --depth N            operations in flight over all volumes (16)\n"
    "  --seconds N, --ops N stop after (10 s, no limit)\n"
    "  --rate N             operations per second at most (no limit)\n"
    "  --block-min, --block-max BYTES  (4096, 65536)\n"
    "  --align BYTES        (4096)\n"
    "  --mix write=70,fua=8,zero=6,trim=4,flush=4,read=8   weights\n"
    "  --unique PERCENT     share of writes with unique contents (25)\n"
    "  --overlap PERCENT    share aimed at where something is in flight (20)\n"
    "  --reconnect SECONDS  how long to try when the server has gone (0: stop at once)\n"
    "  --drain SECONDS      how long to wait for answers at the end (10)\n"
    "  --control FIFO       reads commands: note NAME | rate N | stop; answers on standard output\n"
    "  --seed N\n";

static void set_range(struct writer *w, const char *text)
{
    uint32_t from = 0, to = HK_STAMPLOG_VOLUMES_MAX;
    uint64_t offset, length;
    char *rest;

    offset = hk_tool_number(text, &rest);
    if (*rest == ':') {
        if (offset >= HK_STAMPLOG_VOLUMES_MAX)
            hk_tool_die("no volume %" PRIu64, offset);
        from = (uint32_t)offset;
        to = from + 1;
        offset = hk_tool_number(rest + 1, &rest);
    }
    if (*rest != '+')
        hk_tool_die("\"%s\": expected [VOLUME:]OFFSET+LENGTH", text);
    length = hk_tool_number(rest + 1, NULL);
    for (uint32_t i = from; i < to; i++) {
        w->volumes[i].range_offset = offset;
        w->volumes[i].range_length = length;
    }
}

/* N=URI:OFF:LEN; volumes are numbered without holes, in any order. */
static void set_volume(struct writer *w, char *text)
{
    char *uri, *length, *offset;
    uint64_t n = hk_tool_number(text, &uri);

    length = strrchr(uri, ':');
    if (*uri != '=' || n >= HK_STAMPLOG_VOLUMES_MAX || length == NULL)
        hk_tool_die("--volume: expected N=URI:OFFSET:LENGTH");
    *length = 0;
    offset = strrchr(uri, ':');
    if (offset == NULL)
        hk_tool_die("--volume: expected N=URI:OFFSET:LENGTH");
    *offset = 0;
    w->volume_count += w->volumes[n].uri == NULL;
    w->volumes[n].uri = uri + 1;
    w->volumes[n].range_offset = hk_tool_number(offset + 1, NULL);
    w->volumes[n].range_length = hk_tool_number(length + 1, NULL);
}

static void set_mix(struct writer *w, char *text)
{
    static const char *const names[MIX_COUNT] = {"write", "fua", "zero", "trim", "flush", "read"};
    char *save = NULL;

    memset(w->weights, 0, sizeof(w->weights));
    for (char *part = strtok_r(text, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char *value = strchr(part, '=');
        unsigned i = 0;

        if (value == NULL)
            hk_tool_die("--mix: expected NAME=WEIGHT");
        *value++ = 0;
        while (i < MIX_COUNT && strcmp(names[i], part) != 0)
            i++;
        if (i == MIX_COUNT)
            hk_tool_die("--mix: no such operation: %s", part);
        w->weights[i] = (unsigned)hk_tool_number(value, NULL);
    }
}

enum {
    OPT_LOG = 1,
    OPT_RANGE,
    OPT_DEPTH,
    OPT_SECONDS,
    OPT_OPS,
    OPT_RATE,
    OPT_MIN,
    OPT_MAX,
    OPT_ALIGN,
    OPT_MIX,
    OPT_UNIQUE,
    OPT_OVERLAP,
    OPT_RECONNECT,
    OPT_DRAIN,
    OPT_CONTROL,
    OPT_SEED,
    OPT_VOLUME,
    OPT_HELP
};

static const struct option options[] = {
    {"log", required_argument, NULL, OPT_LOG},
    {"range", required_argument, NULL, OPT_RANGE},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"ops", required_argument, NULL, OPT_OPS},
    {"rate", required_argument, NULL, OPT_RATE},
    {"block-min", required_argument, NULL, OPT_MIN},
    {"block-max", required_argument, NULL, OPT_MAX},
    {"align", required_argument, NULL, OPT_ALIGN},
    {"mix", required_argument, NULL, OPT_MIX},
    {"unique", required_argument, NULL, OPT_UNIQUE},
    {"overlap", required_argument, NULL, OPT_OVERLAP},
    {"reconnect", required_argument, NULL, OPT_RECONNECT},
    {"drain", required_argument, NULL, OPT_DRAIN},
    {"control", required_argument, NULL, OPT_CONTROL},
    {"seed", required_argument, NULL, OPT_SEED},
    {"volume", required_argument, NULL, OPT_VOLUME},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static void take_option(struct writer *w, struct arguments *a, int c)
{
    switch (c) {
    case OPT_LOG: a->log = optarg; return;
    case OPT_RANGE: set_range(w, optarg); return;
    case OPT_DEPTH: w->depth = (unsigned)hk_tool_number(optarg, NULL); return;
    case OPT_SECONDS: a->seconds = hk_tool_number(optarg, NULL); return;
    case OPT_OPS: w->ops_max = hk_tool_number(optarg, NULL); return;
    case OPT_RATE: w->rate = hk_tool_number(optarg, NULL); return;
    case OPT_MIN: w->block_min = (uint32_t)hk_tool_number(optarg, NULL); return;
    case OPT_MAX: w->block_max = (uint32_t)hk_tool_number(optarg, NULL); return;
    case OPT_ALIGN: w->align = (uint32_t)hk_tool_number(optarg, NULL); return;
    case OPT_MIX: set_mix(w, optarg); return;
    case OPT_UNIQUE: w->unique_percent = (unsigned)hk_tool_number(optarg, NULL); return;
    case OPT_OVERLAP: w->overlap_percent = (unsigned)hk_tool_number(optarg, NULL); return;
    case OPT_RECONNECT: w->reconnect_ns = hk_tool_number(optarg, NULL) * SECOND_NS; return;
    case OPT_DRAIN: w->drain_ns = hk_tool_number(optarg, NULL) * SECOND_NS; return;
    case OPT_CONTROL:
        w->control_fd = open(optarg, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (w->control_fd < 0)
            hk_tool_die("%s: %s", optarg, strerror(errno));
        return;
    case OPT_VOLUME: set_volume(w, optarg); return;
    case OPT_SEED: a->seed = hk_tool_number(optarg, NULL); return;
    case OPT_HELP: fputs(usage, stdout); exit(EXIT_DONE);
    }
    fputs(usage, stderr);
    exit(EXIT_TROUBLE);
}

void hk_stamp_parse(struct writer *w, struct arguments *a, int argc, char **argv)
{
    static const unsigned weights[MIX_COUNT] = {70, 8, 6, 4, 4, 8};
    int c;

    memcpy(w->weights, weights, sizeof(weights));
    *a = (struct arguments){.seconds = 10, .seed = (uint64_t)time(NULL) * 1000003};
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
        take_option(w, a, c);
    for (; optind < argc; optind++) {
        if (w->volume_count == HK_STAMPLOG_VOLUMES_MAX)
            hk_tool_die("too many volumes");
        w->volumes[w->volume_count++].uri = argv[optind];
    }
    for (unsigned i = 0; i < MIX_COUNT; i++)
        w->weight_sum += w->weights[i];
    for (uint32_t i = 0; i < w->volume_count; i++) {
        if (w->volumes[i].uri == NULL)
            hk_tool_die("--volume: numbers without holes, from 0");
    }
    if (a->log == NULL || w->volume_count == 0)
        hk_tool_die("--log and at least one URI are needed (--help)");
    if (w->depth == 0 || w->depth > DEPTH_MAX || w->weight_sum == 0)
        hk_tool_die("--depth 1..%d, and some weight in --mix", DEPTH_MAX);
    if (w->align == 0 || w->align % HK_SECTOR_BYTES || w->block_min == 0 ||
        w->block_min % w->align || w->block_max % w->align || w->block_min > w->block_max ||
        w->block_max > BLOCK_MAX_LIMIT)
        hk_tool_die("--align: a multiple of 512; block sizes: multiples of it, at most 1 MiB");
    w->rng = a->seed;
}
