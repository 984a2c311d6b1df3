/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hk-replay: rebuilds volume images from a standby's journal, independently of the product, and
 * compares them with replicas or restored images. See journal_walk.h for where it takes the format
 * from. Exit codes: 0 equal (or nothing to compare), 1 different, position not found, or damage
 * below what had been reported durable; 2 usage or trouble.
 */
#include "args.h"
#include "journal_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

const char hk_tool_name[] = "hk-replay";

enum { EXIT_EQUAL, EXIT_DIFFERENT, EXIT_TROUBLE = HK_TOOL_TROUBLE };
enum { VOLUMES_MAX = 64, BLOCK = 4096 };

static const char usage[] =
    "usage: hk-replay --journal DIR [--to-end | --to-lsn L | --to-mark NAME] [options]\n"
    "  --volume N=SIZE:FILE   build volume N's image in FILE (replaced)\n"
    "  --base N=FILE          start from this content, not from zeros\n"
    "  --compare N=FILE       the image must equal the first SIZE bytes of FILE\n"
    "  --from-lsn L           the base is the state at L: records below it are not applied\n"
    "  --applied L            a superblock's applied position (counts for the verdict)\n"
    "  --list                 print every record\n";

struct volume {
    bool used;
    uint64_t size;
    const char *out, *base, *compare;
    uint8_t *image;
    uint64_t touched;
};

struct replay {
    const char *journal, *mark;
    uint64_t to_lsn, from_lsn, applied;
    bool list;
    struct volume volumes[VOLUMES_MAX];
    bool found, from_seen;
    uint64_t position, applied_records, outside;
    uint64_t time_ns;
};

static struct volume *volume_of(struct replay *p, char *text, char **ret_rest)
{
    uint64_t n = hk_tool_number(text, ret_rest);

    if (n >= VOLUMES_MAX || **ret_rest != '=')
        hk_tool_die("\"%s\": expected VOLUME=...", text);
    ++*ret_rest;
    return &p->volumes[n];
}

/* ---- images ---- */

static void copy_base(const struct volume *v)
{
    int fd = open(v->base, O_RDONLY | O_CLOEXEC);
    uint64_t done = 0;

    if (fd < 0)
        hk_tool_die("%s: %s", v->base, strerror(errno));
    while (done < v->size) {
        ssize_t n = pread(fd, v->image + done, v->size - done, (off_t)done);

        if (n < 0)
            hk_tool_die("%s: %s", v->base, strerror(errno));
        if (n == 0)
            hk_tool_die("%s: shorter than the volume", v->base);
        done += (uint64_t)n;
    }
    close(fd);
}

static void open_image(struct volume *v)
{
    int fd = open(v->out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || ftruncate(fd, (off_t)v->size) < 0)
        hk_tool_die("%s: %s", v->out, strerror(errno));
    v->image = mmap(NULL, v->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (v->image == MAP_FAILED)
        hk_tool_die("%s: %s", v->out, strerror(errno));
    close(fd);
    if (v->base != NULL)
        copy_base(v);
}

static void apply(struct replay *p, const struct hk_walk_record *r)
{
    struct volume *v = &p->volumes[r->volume];

    p->applied_records++;
    if (!v->used)
        return;
    if (r->offset > v->size || r->length > v->size - r->offset) {
        p->outside++;
        fprintf(stderr, "hk-replay: record %" PRIu64 " lies outside volume %u\n", r->lsn,
                r->volume);
        return;
    }
    if (r->type == HK_WALK_WRITE || r->type == HK_WALK_BLOCK) {
        memcpy(v->image + r->offset, r->payload, r->length);
    } else if (r->length > 0) {
        memset(v->image + r->offset, 0, r->length);
    }
    v->touched += r->length;
}

static bool visit(void *user, const struct hk_walk_record *r)
{
    struct replay *p = user;

    if (p->list)
        printf("%" PRIu64 " %s volume %u offset %" PRIu64 " length %u epoch %u time %" PRIu64
               "%s%.63s\n",
               r->lsn, hk_walk_type_text(r->type), r->volume, r->offset, r->length, r->epoch,
               r->time_ns, r->type == HK_WALK_MARK ? " name " : "",
               r->type == HK_WALK_MARK ? (const char *)r->payload : "");
    if (p->to_lsn != 0 && r->lsn >= p->to_lsn) {
        p->found = r->lsn == p->to_lsn;
        return true;
    }
    if (r->lsn == p->from_lsn)
        p->from_seen = true;
    if (r->lsn >= p->from_lsn) {
        switch ((enum hk_walk_type)r->type) {
        case HK_WALK_WRITE:
        case HK_WALK_BLOCK:
        case HK_WALK_ZEROES:
        case HK_WALK_DISCARD: apply(p, r); break;
        case HK_WALK_BAD_RANGE:
        case HK_WALK_JOIN:
        case HK_WALK_LEAVE:
        case HK_WALK_RESIZE:
            fprintf(stderr,
                    "hk-replay: record %" PRIu64 ": %s changes what can't be replayed here\n",
                    r->lsn, hk_walk_type_text(r->type));
            p->outside++;
            break;
        case HK_WALK_FLUSH:
        case HK_WALK_MARK:
        case HK_WALK_GAP:
        case HK_WALK_VOID:
        case HK_WALK_RESYNC_BEGIN:
        case HK_WALK_RESYNC_END:
        case HK_WALK_MODE:
        case HK_WALK_TYPES: break;
        }
    }
    p->position = r->end;
    p->time_ns = r->time_ns;
    if (r->end == p->to_lsn)
        p->found = true;
    if (p->mark != NULL && r->type == HK_WALK_MARK &&
        strcmp(p->mark, (const char *)r->payload) == 0)
        p->found = true;
    return p->found;
}

/* ---- results ---- */

static bool compare(unsigned n, const struct volume *v)
{
    uint8_t *chunk = malloc(1 << 20);
    uint64_t different = 0, first = 0;
    int fd = open(v->compare, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || chunk == NULL)
        hk_tool_die("%s: %s", v->compare, strerror(errno));
    for (uint64_t done = 0; done < v->size;) {
        uint64_t want = v->size - done < 1 << 20 ? v->size - done : 1 << 20;
        ssize_t got = pread(fd, chunk, want, (off_t)done);

        if (got < 0)
            hk_tool_die("%s: %s", v->compare, strerror(errno));
        if (got == 0) {
            printf("volume %u: %s ends at byte %" PRIu64 "\n", n, v->compare, done);
            different++;
            break;
        }
        for (uint64_t i = 0; i < (uint64_t)got; i += BLOCK) {
            uint64_t len = (uint64_t)got - i < BLOCK ? (uint64_t)got - i : BLOCK;

            if (memcmp(chunk + i, v->image + done + i, len) == 0)
                continue;
            if (different++ == 0)
                first = done + i;
        }
        done += (uint64_t)got;
    }
    close(fd);
    free(chunk);
    if (different > 0)
        printf("volume %u: DIFFERS from %s in %" PRIu64
               " blocks of 4096, the first at byte %" PRIu64 "\n",
               n, v->compare, different, first);
    else
        printf("volume %u: equals %s\n", n, v->compare);
    return different == 0;
}

static void print_hash(unsigned n, const struct replay *p, const struct volume *v)
{
    XXH128_canonical_t canonical; /* the spelling of xxhsum */

    XXH128_canonicalFromHash(&canonical, XXH3_128bits(v->image, v->size));
    printf("volume %u: position %" PRIu64 ", %" PRIu64 " bytes, %" PRIu64
           " changed by records, XXH3-128 ",
           n, p->position, v->size, v->touched);
    for (unsigned i = 0; i < sizeof(canonical.digest); i++)
        printf("%02x", canonical.digest[i]);
    printf("\n");
}

static int result(struct replay *p, const struct hk_walk *w)
{
    static const char *const verdicts[] = {"clean", "torn or corrupt, can't tell", "CORRUPT"};
    int code = EXIT_EQUAL;

    printf("journal: %zu segments, LSN %" PRIu64 " to %" PRIu64 "%s, epoch %u, %" PRIu64
           " epochs, %" PRIu64 " batches, stamped durable %" PRIu64 "\n",
           w->segment_count, w->begin, w->end, w->stopped ? " (stopped there)" : "", w->ordinal,
           w->epochs, w->batches, w->stamped);
    printf("records:");
    for (uint8_t t = 1; t < HK_WALK_TYPES; t++) {
        if (w->records[t] > 0)
            printf(" %s %" PRIu64, hk_walk_type_text(t), w->records[t]);
    }
    printf("\n");
    if (!w->stopped)
        printf("end: %s, %" PRIu64 " bytes\n", verdicts[w->verdict], w->torn_bytes);
    if (w->padding_faults > 0)
        printf("padding: %" PRIu64 " records are not followed by zeroes\n", w->padding_faults);
    if ((p->to_lsn != 0 || p->mark != NULL) && !p->found) {
        printf("position: NOT FOUND\n");
        code = EXIT_DIFFERENT;
    }
    if (p->from_lsn > w->begin && !p->from_seen && p->from_lsn != w->end) {
        printf("position: --from-lsn is no record boundary of this journal\n");
        code = EXIT_DIFFERENT;
    }
    if ((!w->stopped && w->verdict == HK_WALK_CORRUPT) || w->bad_segments > 0 || p->outside > 0 ||
        w->padding_faults > 0 || w->time_faults > 0)
        code = EXIT_DIFFERENT;
    printf("position: %" PRIu64 " time %" PRIu64 "\n", p->position, p->time_ns);
    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        struct volume *v = &p->volumes[i];

        if (!v->used)
            continue;
        print_hash(i, p, v);
        if (v->compare != NULL && !compare(i, v))
            code = EXIT_DIFFERENT;
        munmap(v->image, v->size);
    }
    return code;
}

enum {
    OPT_JOURNAL = 1,
    OPT_END,
    OPT_LSN,
    OPT_MARK,
    OPT_VOLUME,
    OPT_BASE,
    OPT_COMPARE,
    OPT_FROM,
    OPT_APPLIED,
    OPT_LIST,
    OPT_HELP
};

static const struct option options[] = {
    {"journal", required_argument, NULL, OPT_JOURNAL},
    {"to-end", no_argument, NULL, OPT_END},
    {"to-lsn", required_argument, NULL, OPT_LSN},
    {"to-mark", required_argument, NULL, OPT_MARK},
    {"volume", required_argument, NULL, OPT_VOLUME},
    {"base", required_argument, NULL, OPT_BASE},
    {"compare", required_argument, NULL, OPT_COMPARE},
    {"from-lsn", required_argument, NULL, OPT_FROM},
    {"applied", required_argument, NULL, OPT_APPLIED},
    {"list", no_argument, NULL, OPT_LIST},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static void take_option(struct replay *p, int c)
{
    struct volume *v;
    char *rest;

    switch (c) {
    case OPT_JOURNAL: p->journal = optarg; return;
    case OPT_END: return;
    case OPT_LSN: p->to_lsn = hk_tool_number(optarg, NULL); return;
    case OPT_MARK: p->mark = optarg; return;
    case OPT_VOLUME:
        v = volume_of(p, optarg, &rest);
        v->size = hk_tool_number(rest, &rest);
        if (*rest != ':' || v->size == 0)
            hk_tool_die("--volume: expected VOLUME=SIZE:FILE");
        v->out = rest + 1;
        v->used = true;
        return;
    case OPT_BASE:
        v = volume_of(p, optarg, &rest);
        v->base = rest;
        return;
    case OPT_COMPARE:
        v = volume_of(p, optarg, &rest);
        v->compare = rest;
        return;
    case OPT_FROM: p->from_lsn = hk_tool_number(optarg, NULL); return;
    case OPT_APPLIED: p->applied = hk_tool_number(optarg, NULL); return;
    case OPT_LIST: p->list = true; return;
    case OPT_HELP: fputs(usage, stdout); exit(EXIT_EQUAL);
    }
    fputs(usage, stderr);
    exit(EXIT_TROUBLE);
}

int main(int argc, char **argv)
{
    static struct replay p;
    struct hk_walk w = {.report = stderr};
    int c, r;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
        take_option(&p, c);
    if (p.journal == NULL || optind != argc || (p.to_lsn != 0 && p.mark != NULL)) {
        fputs(usage, stderr);
        return EXIT_TROUBLE;
    }
    r = hk_walk_open(&w, p.journal);
    if (r < 0)
        hk_tool_die("%s: %s", p.journal, r == -ENOENT ? "no segments there" : strerror(-r));
    /* An image from zeros needs the log from its very beginning. */
    if (w.segments[0].first_lsn > 4096 && p.from_lsn < w.segments[0].first_lsn)
        hk_tool_die("the journal begins at LSN %" PRIu64
                    ": give the state there with --base and --from-lsn",
                    w.segments[0].first_lsn);
    for (unsigned i = 0; i < VOLUMES_MAX; i++) {
        struct volume *v = &p.volumes[i];

        if (!v->used && (v->base != NULL || v->compare != NULL))
            hk_tool_die("volume %u: --base and --compare need --volume", i);
        if (v->used)
            open_image(v);
    }
    w.applied = p.applied;
    hk_walk_run(&w, visit, &p);
    r = result(&p, &w);
    hk_walk_close(&w);
    return r;
}
