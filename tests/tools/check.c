/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hk-check: judges volume images against the client's own record (stamp log).
 *
 * Knows nothing of the product: libc and xxhash only. What it decides is written in judge.h, what
 * it takes from the log in history.h. Exit codes: 0 legal, 1 violation, 2 usage or i/o trouble,
 * 3 undecided (search budget exceeded).
 */
#include "args.h"
#include "content.h"
#include "history.h"
#include "judge.h"
#include "stamplog.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char hk_tool_name[] = "hk-check";

enum { EXIT_LEGAL, EXIT_ILLEGAL, EXIT_TROUBLE = HK_TOOL_TROUBLE, EXIT_UNDECIDED };
enum { EXCLUDES_MAX = 64, CHUNK_BYTES = 1 << 20 };

static const char usage[] =
    "usage: hk-check --log FILE [options] IMAGE...\n"
    "  one image per volume, in the order of the log (hk-check --log FILE --show lists them)\n"
    "  --volume N=FILE[:OFF:LEN]   the same by number; judge only LEN bytes from OFF\n"
    "  --mode async|semisync|sync  what was promised: sync = every acknowledged operation is\n"
    "                              contained; async, semisync = order only   (default sync)\n"
    "  --acked durable|flushed|none  the promise by itself, instead of --mode\n"
    "  --base-zero                 the volumes were zeros before (default)\n"
    "  --base N=FILE               volume N's content before\n"
    "  --exclude-range N:OFF+LEN   bytes of volume N that are not judged\n"
    "  --only-volume N             judge this volume alone; give its image only\n"
    "  --at-least NOTE             what was acknowledged before it is contained\n"
    "  --at-most NOTE              what was submitted after this note is not contained\n"
    "  --unknown-end never|connect how long an unanswered operation may still happen (never)\n"
    "  --torn-ok                   operations need not be contained as a whole\n"
    "  --no-reads                  do not judge what the client has read\n"
    "  --budget STEPS              search steps per group of operations\n"
    "  --show                      print the log's volumes and figures, judge nothing\n";

struct range {
    uint32_t volume;
    uint64_t offset, length;
};

struct arguments {
    const char *log;
    const char *base[HK_STAMPLOG_VOLUMES_MAX];
    const char *images[HK_STAMPLOG_VOLUMES_MAX];
    uint32_t image_count;
    struct range only[HK_STAMPLOG_VOLUMES_MAX]; /* length 0: the whole range */
    struct range excludes[EXCLUDES_MAX];
    unsigned exclude_count;
    int only_volume; /* -1: all */
    bool torn_ok, show;
    uint64_t budget;
    struct hk_history_options history;
};

static uint32_t volume_number(const char *text, char separator, char **ret_rest)
{
    uint64_t n = hk_tool_number(text, ret_rest);

    if (n >= HK_STAMPLOG_VOLUMES_MAX || **ret_rest != separator)
        hk_tool_die("\"%s\": expected VOLUME%c...", text, separator);
    ++*ret_rest;
    return (uint32_t)n;
}

static void exclude(struct arguments *a, const char *text)
{
    struct range *r = &a->excludes[a->exclude_count];
    char *rest;

    if (a->exclude_count++ == EXCLUDES_MAX)
        hk_tool_die("too many --exclude-range");
    r->volume = volume_number(text, ':', &rest);
    r->offset = hk_tool_number(rest, &rest);
    if (*rest != '+')
        hk_tool_die("\"%s\": expected VOLUME:OFFSET+LENGTH", text);
    r->length = hk_tool_number(rest + 1, NULL);
}

/* N=FILE[:OFF:LEN]; a file name may contain colons of its own. */
static void set_image(struct arguments *a, char *text)
{
    char *rest, *length, *offset;
    uint32_t n = volume_number(text, '=', &rest);

    a->image_count += a->images[n] == NULL;
    a->images[n] = rest;
    length = strrchr(rest, ':');
    if (length == NULL || strspn(length + 1, "0123456789") != strlen(length + 1))
        return;
    *length = 0;
    offset = strrchr(rest, ':');
    if (offset == NULL || strspn(offset + 1, "0123456789") != strlen(offset + 1))
        hk_tool_die("--volume: expected N=FILE[:OFFSET:LENGTH]");
    *offset = 0;
    a->only[n] =
        (struct range){n, hk_tool_number(offset + 1, NULL), hk_tool_number(length + 1, NULL)};
}

static void set_promise(struct arguments *a, const char *text)
{
    if (strcmp(text, "durable") == 0 || strcmp(text, "sync") == 0)
        a->history.promise = HK_PROMISE_DURABLE;
    else if (strcmp(text, "flushed") == 0)
        a->history.promise = HK_PROMISE_FLUSHED;
    else if (strcmp(text, "none") == 0 || strcmp(text, "async") == 0 ||
             strcmp(text, "semisync") == 0)
        a->history.promise = HK_PROMISE_NONE;
    else
        hk_tool_die("no such mode or promise: %s", text);
}

enum {
    OPT_LOG = 1,
    OPT_MODE,
    OPT_BASE_ZERO,
    OPT_BASE,
    OPT_EXCLUDE,
    OPT_ONLY,
    OPT_LEAST,
    OPT_MOST,
    OPT_UNKNOWN,
    OPT_TORN,
    OPT_NO_READS,
    OPT_BUDGET,
    OPT_SHOW,
    OPT_VOLUME,
    OPT_HELP
};

static const struct option options[] = {
    {"log", required_argument, NULL, OPT_LOG},
    {"mode", required_argument, NULL, OPT_MODE},
    {"acked", required_argument, NULL, OPT_MODE},
    {"base-zero", no_argument, NULL, OPT_BASE_ZERO},
    {"base", required_argument, NULL, OPT_BASE},
    {"exclude-range", required_argument, NULL, OPT_EXCLUDE},
    {"only-volume", required_argument, NULL, OPT_ONLY},
    {"at-least", required_argument, NULL, OPT_LEAST},
    {"at-most", required_argument, NULL, OPT_MOST},
    {"unknown-end", required_argument, NULL, OPT_UNKNOWN},
    {"torn-ok", no_argument, NULL, OPT_TORN},
    {"no-reads", no_argument, NULL, OPT_NO_READS},
    {"budget", required_argument, NULL, OPT_BUDGET},
    {"show", no_argument, NULL, OPT_SHOW},
    {"volume", required_argument, NULL, OPT_VOLUME},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static void take_option(struct arguments *a, int c)
{
    char *rest;
    uint32_t n;

    switch (c) {
    case OPT_LOG: a->log = optarg; return;
    case OPT_MODE: set_promise(a, optarg); return;
    case OPT_BASE_ZERO: memset(a->base, 0, sizeof(a->base)); return;
    case OPT_BASE:
        n = volume_number(optarg, '=', &rest);
        a->base[n] = rest;
        return;
    case OPT_EXCLUDE: exclude(a, optarg); return;
    case OPT_ONLY:
        a->only_volume = (int)(hk_tool_number(optarg, NULL) % HK_STAMPLOG_VOLUMES_MAX);
        return;
    case OPT_LEAST: a->history.at_least = optarg; return;
    case OPT_MOST: a->history.at_most = optarg; return;
    case OPT_UNKNOWN:
        if (strcmp(optarg, "never") != 0 && strcmp(optarg, "connect") != 0)
            hk_tool_die("--unknown-end is never or connect");
        a->history.unknown_ends = optarg[0] == 'c';
        return;
    case OPT_TORN: a->torn_ok = true; return;
    case OPT_NO_READS: a->history.check_reads = false; return;
    case OPT_BUDGET: a->budget = hk_tool_number(optarg, NULL); return;
    case OPT_SHOW: a->show = true; return;
    case OPT_VOLUME: set_image(a, optarg); return;
    case OPT_HELP: fputs(usage, stdout); exit(EXIT_LEGAL);
    }
    fputs(usage, stderr);
    exit(EXIT_TROUBLE);
}

static void parse(struct arguments *a, int argc, char **argv)
{
    int c;

    *a = (struct arguments){.only_volume = -1};
    a->history = (struct hk_history_options){.promise = HK_PROMISE_DURABLE, .check_reads = true};
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
        take_option(a, c);
    for (; optind < argc; optind++) {
        if (a->image_count == HK_STAMPLOG_VOLUMES_MAX)
            hk_tool_die("too many images");
        a->images[a->image_count++] = argv[optind];
    }
    if (a->log == NULL)
        hk_tool_die("--log is missing (--help)");
}

/* The tags of a file's sectors; what lies beyond its end is missing, not zero. */
static uint64_t *load_tags(const char *path, uint32_t volume, const struct hk_stamp_volume *v)
{
    uint64_t count = v->range_length / HK_SECTOR_BYTES;
    uint64_t *tags = malloc((count + 1) * sizeof(*tags));
    unsigned char *chunk = malloc(CHUNK_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        hk_tool_die("%s: %s", path, strerror(errno));
    if (tags == NULL || chunk == NULL)
        hk_tool_die("out of memory");
    for (uint64_t done = 0; done < v->range_length;) {
        uint64_t left = v->range_length - done;
        ssize_t n = pread(fd, chunk, left < CHUNK_BYTES ? left : CHUNK_BYTES,
                          (off_t)(v->range_offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            hk_tool_die("%s: %s", path, strerror(errno));
        n -= n % HK_SECTOR_BYTES;
        if (n == 0)
            hk_tool_die("%s: ends at byte %" PRIu64 ", before the volume's range does", path,
                        v->range_offset + done);
        for (ssize_t i = 0; i < n; i += HK_SECTOR_BYTES) {
            uint64_t at = done + (uint64_t)i;

            tags[at / HK_SECTOR_BYTES] =
                hk_content_recognise(chunk + i, volume, (v->range_offset + at) / HK_SECTOR_BYTES);
        }
        done += (uint64_t)n;
    }
    close(fd);
    free(chunk);
    return tags;
}

static bool *load_excluded(const struct arguments *a, uint32_t volume,
                           const struct hk_judge_volume *v)
{
    bool *excluded = calloc(v->sector_count + 1, sizeof(*excluded));

    if (excluded == NULL)
        hk_tool_die("out of memory");
    if (a->only_volume >= 0 && (uint32_t)a->only_volume != volume)
        memset(excluded, 1, v->sector_count);
    for (uint64_t s = 0; s < v->sector_count && a->only[volume].length > 0; s++) {
        uint64_t byte = (v->first_sector + s) * HK_SECTOR_BYTES;

        if (byte < a->only[volume].offset ||
            byte - a->only[volume].offset >= a->only[volume].length)
            excluded[s] = true;
    }
    for (unsigned i = 0; i < a->exclude_count; i++) {
        const struct range *r = &a->excludes[i];
        uint64_t end = (r->offset + r->length + HK_SECTOR_BYTES - 1) / HK_SECTOR_BYTES;

        if (r->volume != volume)
            continue;
        for (uint64_t s = r->offset / HK_SECTOR_BYTES; s < end; s++) {
            if (s >= v->first_sector && s < v->first_sector + v->sector_count)
                excluded[s - v->first_sector] = true;
        }
    }
    return excluded;
}

/* Owns the arrays for the lifetime of the program. */
static void load_volume(const struct arguments *a, const struct hk_stamplog *log, uint32_t n,
                        struct hk_judge_volume *ret)
{
    const struct hk_stamp_volume *v = &log->header.volume[n];
    uint64_t count = v->range_length / HK_SECTOR_BYTES;
    const char *image = a->images[a->only_volume >= 0 ? 0 : n];
    uint64_t *base = a->base[n] ? load_tags(a->base[n], n, v) : calloc(count + 1, sizeof(*base));
    bool here = a->only_volume < 0 || (uint32_t)a->only_volume == n;

    if (base == NULL)
        hk_tool_die("out of memory");
    *ret = (struct hk_judge_volume){
        .first_sector = v->range_offset / HK_SECTOR_BYTES,
        .sector_count = count,
        .base = base,
        .actual = here && !a->show ? load_tags(image, n, v) : base,
    };
    ret->excluded = load_excluded(a, n, ret);
}

static void print_history(const struct hk_stamplog *log, const struct hk_history *h)
{
    for (uint32_t i = 0; i < log->header.volume_count; i++) {
        const struct hk_stamp_volume *v = &log->header.volume[i];

        printf("volume %u: %s, %" PRIu64 " bytes, stamped %" PRIu64 "+%" PRIu64 "\n", i, v->name,
               v->size_bytes, v->range_offset, v->range_length);
    }
    printf("history: %zu events, %zu changing operations, %" PRIu64 " acknowledged in all, %" PRIu64
           " changing without an answer, %" PRIu64 " failed, %" PRIu64 " promised durable, %" PRIu64
           " disconnects%s\n",
           log->event_count, h->op_count, h->acked_count, h->unknown_count, h->failed_count,
           h->promised_count, h->disconnect_count, log->torn_tail ? ", torn tail" : "");
    printf("reads: %" PRIu64 " reads, %" PRIu64 " sectors, %" PRIu64 " violations, %" PRIu64
           " mixtures under way, %" PRIu64 " operations seen in flight\n",
           h->read_count, h->read_sectors, h->read_violations, h->read_mixtures, h->seen_count);
}

static void print_cut(const char *before, int64_t cut, const char *after)
{
    if (cut == HK_JUDGE_NEVER)
        printf("%sthe end%s", before, after);
    else
        printf("%sevent %" PRId64 "%s", before, cut, after);
}

static int print_verdict(const struct hk_history *h, const struct hk_judge_result *r)
{
    printf("judged: %" PRIu64 " sectors, %" PRIu64 " cuts tested, %" PRIu64
           " solved, largest group %" PRIu64 " operations\n",
           r->sectors_judged, r->cuts_tested, r->cuts_solved, r->group_ops_max);
    if (r->verdict == HK_VERDICT_CONSISTENT) {
        print_cut("cut: explained from ", r->cut_first, " (earliest found)");
        print_cut(" to ", r->cut_last, "\n");
        printf("lost: at least %" PRIu64 " (%" PRIu64 " bytes), at most %" PRIu64 " (%" PRIu64
               " bytes) of %" PRIu64 " acknowledged changing operations\n",
               r->loss_least.acked_count, r->loss_least.acked_bytes, r->loss_most.acked_count,
               r->loss_most.acked_bytes, r->acked_count);
    }
    if (h->read_violations > 0 || r->verdict == HK_VERDICT_VIOLATION) {
        printf("verdict: VIOLATION\n");
        return EXIT_ILLEGAL;
    }
    if (r->verdict == HK_VERDICT_UNDECIDED) {
        printf("verdict: UNDECIDED (raise --budget)\n");
        return EXIT_UNDECIDED;
    }
    printf("verdict: CONSISTENT\n");
    return EXIT_LEGAL;
}

int main(int argc, char **argv)
{
    struct hk_judge_volume volumes[HK_STAMPLOG_VOLUMES_MAX];
    struct hk_judge_result result;
    struct hk_judge_case c;
    struct arguments a;
    struct hk_stamplog log;
    struct hk_history h;
    int r;

    parse(&a, argc, argv);
    r = hk_stamplog_read(a.log, &log);
    if (r < 0)
        hk_tool_die("%s: %s", a.log, r == -EBADMSG ? "not a stamp log" : strerror(-r));
    if (!a.show && a.image_count != (a.only_volume >= 0 ? 1 : log.header.volume_count))
        hk_tool_die("the log has %u volumes, %u images were given", log.header.volume_count,
                    a.image_count);
    if (a.only_volume >= (int)log.header.volume_count)
        hk_tool_die("the log has %u volumes", log.header.volume_count);
    for (uint32_t i = 0; i < log.header.volume_count; i++)
        load_volume(&a, &log, i, &volumes[i]);
    r = hk_history_build(&log, volumes, &a.history, &h, stderr);
    if (r < 0)
        return EXIT_TROUBLE;
    print_history(&log, &h);
    if (a.show)
        return EXIT_LEGAL;
    fflush(stdout);
    c = (struct hk_judge_case){
        .ops = h.ops,
        .op_count = h.op_count,
        .volumes = volumes,
        .volume_count = log.header.volume_count,
        .cut_max = h.cut_max,
        .torn_ok = a.torn_ok,
        .budget = a.budget,
    };
    hk_judge(&c, &result, stdout);
    r = print_verdict(&h, &result);
    for (uint32_t i = 0; i < log.header.volume_count; i++) {
        if (volumes[i].actual != volumes[i].base)
            free((void *)(uintptr_t)volumes[i].actual);
        free((void *)(uintptr_t)volumes[i].base);
        free((void *)(uintptr_t)volumes[i].excluded);
    }
    hk_history_free(&h);
    hk_stamplog_free(&log);
    return r;
}
