/* SPDX-License-Identifier: Apache-2.0 */
/* hikae seed export: images of the origins, for a standby that the line would take too long for. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/seed_io.h"
#include "proto/super.h"

enum { SYNC_PIECES = 4 }; /* lines of the manifest follow what is stable */

struct export
{
    const struct hk_options *o;
    const char *dir;
    int dir_fd, from, to;
    FILE *partial;
    struct hk_seed seed;
    uint64_t begun, zero_bytes; /* pieces that an earlier run had done */
    uint8_t *buffer;
    struct timespec at;
};

static uint64_t realtime_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- where the log is ---- */

static bool daemon_answers(const struct hk_local_conf *l)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", l->socket);
    ok = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/*
 * The end of the log now, as the daemon says. Without one: where a clean stop left it, or the
 * ceiling, below which all that was ever written lies.
 */
static int position(const struct export *e, const struct hk_local_conf *l,
                    const struct hk_super *super, uint64_t *ret_lsn)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    *ret_lsn = super->flags & HK_SF_CLEAN ? super->clean_lsn : super->ceiling;
    if (!daemon_answers(l))
        return 0;
    hk_request_fill(e->o, "status", &r);
    exit_code = hk_ask(e->o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (reply->status && reply->status->produced)
        *ret_lsn = reply->status->produced;
    hk_rpc_free(&reply->base);
    return 0;
}

static const char *why_not(const struct hk_super *s)
{
    if (s->role != HK_ROLE_PRIMARY)
        return "it is not a primary's";
    if (!s->region_shift)
        return "it has no dirty map (region-bytes = 0)";
    if (!hk_uuid_is_nil(&s->peer_replica_id))
        return "it is relative to a standby that was met";
    if (hk_history_epochs(&s->history) != 1)
        return "its log was broken off since";
    if ((s->flags & HK_SF_FULL_COMPARE) || !(s->flags & HK_SF_ASSUMED_EQUAL) ||
        !(s->flags & HK_SF_STALE))
        return "it was not made with --seed";
    return NULL;
}

/* The metadata as it is now; the capture side may be writing it. */
static int look(const struct hk_local_conf *l, struct hk_super *ret)
{
    struct hk_metadata_place p;
    const char *why;
    int r;

    hk_metadata_place(l, &p);
    r = hk_seed_super(&p, O_RDONLY, NULL, ret);
    if (r)
        return r;
    why = why_not(ret);
    if (why)
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE3201E %s: nothing tells what is written after a seed: %s; begin "
                           "with `hikae create-md --seed` (hikae-seed(8))",
                           p.path, why);
    return 0;
}

/* ---- the directory ---- */

static int failed(const struct export *e, const char *file, const char *what)
{
    return hk_complain(HK_EXIT_FAILED, "HKE3202E %s/%s can't be %s: %s", e->dir, file, what,
                       strerror(errno));
}

static void fill(struct hk_seed *s, const struct hk_group_conf *g, const struct hk_super *super)
{
    s->group_id = super->group_id;
    memcpy(s->group_name, super->group_name, HK_NAME_BYTES);
    s->replica_id = super->replica_id;
    s->epoch = super->history.epoch[0];
    s->begin_ns = realtime_ns();
    s->piece_bytes = HK_SEED_PIECE;
    s->volume_count = g->volume_count;
    for (uint32_t i = 0; i < g->volume_count; i++) {
        memcpy(s->volume[i].name, g->volume[i].name, HK_NAME_BYTES);
        s->volume[i].bytes = g->volume[i].bytes;
    }
}

static bool same_seed(const struct hk_seed *a, const struct hk_seed *b)
{
    if (!hk_uuid_equal(&a->group_id, &b->group_id) ||
        !hk_uuid_equal(&a->replica_id, &b->replica_id) ||
        memcmp(&a->epoch, &b->epoch, sizeof(a->epoch)) || a->volume_count != b->volume_count)
        return false;
    for (uint32_t i = 0; i < a->volume_count; i++) {
        if (memcmp(a->volume[i].name, b->volume[i].name, HK_NAME_BYTES) ||
            a->volume[i].bytes != b->volume[i].bytes)
            return false;
    }
    return true;
}

/* What an earlier run left; a torn last line is cut off. */
static int take_up(struct export *e)
{
    struct hk_seed_fault fault = {0};
    struct hk_seed had;
    struct hk_seed_piece *more;
    int r = hk_seed_read(e->dir, HK_SEED_PARTIAL, true, &had, &fault);

    if (r)
        return r;
    if (!same_seed(&had, &e->seed)) {
        hk_seed_free(&had);
        return hk_complain(
            HK_EXIT_REFUSED,
            "HKE3203E %s holds the beginning of another seed (another group, or "
            "the metadata was made anew since); remove it, or name another directory",
            e->dir);
    }
    more = realloc(had.piece, hk_max_u64(had.pieces, 1) * sizeof(*more));
    if (!more) {
        hk_seed_free(&had);
        return hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    }
    had.piece = more;
    e->seed = had;
    e->begun = had.done;
    if (hk_seed_cut(e->dir_fd, HK_SEED_PARTIAL, had.text_bytes))
        return failed(e, HK_SEED_PARTIAL, "cut to its whole lines");
    return 0;
}

static int begin_anew(struct export *e)
{
    FILE *f;

    e->seed.piece = hk_seed_count(&e->seed) ? NULL : calloc(e->seed.pieces, sizeof(*e->seed.piece));
    if (!e->seed.piece)
        return hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    f = hk_seed_create(e->dir_fd, HK_SEED_PARTIAL ".new");
    if (!f)
        return failed(e, HK_SEED_PARTIAL, "created");
    hk_seed_print_head(&e->seed, f);
    if (hk_seed_close(f) ||
        renameat(e->dir_fd, HK_SEED_PARTIAL ".new", e->dir_fd, HK_SEED_PARTIAL) || fsync(e->dir_fd))
        return failed(e, HK_SEED_PARTIAL, "written");
    return 0;
}

static int open_dir(struct export *e)
{
    struct stat st;
    int fd;

    if (mkdir(e->dir, 0700) && errno != EEXIST)
        return hk_complain(HK_EXIT_FAILED, "HKE3202E %s can't be created: %s", e->dir,
                           strerror(errno));
    e->dir_fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (e->dir_fd < 0 || flock(e->dir_fd, LOCK_EX | LOCK_NB))
        return hk_complain(HK_EXIT_FAILED, "HKE3202E %s can't be opened, or is in use: %s", e->dir,
                           strerror(errno));
    if (fstatat(e->dir_fd, HK_SEED_MANIFEST, &st, 0) == 0)
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE3203E %s holds a finished seed; name another directory", e->dir);
    if (fstatat(e->dir_fd, HK_SEED_PARTIAL, &st, 0) == 0) {
        int r = take_up(e);

        if (r)
            return r;
    } else {
        int r = begin_anew(e);

        if (r)
            return r;
    }
    fd = openat(e->dir_fd, HK_SEED_PARTIAL, O_WRONLY | O_APPEND | O_CLOEXEC);
    e->partial = fd >= 0 ? fdopen(fd, "a") : NULL;
    return e->partial ? 0 : failed(e, HK_SEED_PARTIAL, "opened");
}

/* ---- copying ---- */

static void progress(const struct export *e, uint64_t piece)
{
    hk_seed_progress(e->o, &e->at, "exported", piece + 1, e->begun, &e->seed);
}

/* Lines of pieces [from, to) go out behind the pieces themselves. */
static int note(struct export *e, uint64_t from, uint64_t to)
{
    if (fdatasync(e->to))
        return failed(e, e->seed.volume[hk_seed_volume_of(&e->seed, from)].name, "flushed");
    for (uint64_t i = from; i < to; i++)
        hk_seed_print_piece(&e->seed, i, e->partial);
    if (fflush(e->partial) || fdatasync(fileno(e->partial)))
        return failed(e, HK_SEED_PARTIAL, "written");
    return 0;
}

static int copy_piece(struct export *e, uint64_t i, const char *origin)
{
    uint64_t offset = hk_seed_piece_offset(&e->seed, i), bytes = hk_seed_piece_bytes(&e->seed, i);

    if (hk_seed_read_at(e->from, e->buffer, bytes, offset))
        return hk_complain(HK_EXIT_FAILED, "HKE3204E %s can't be read at byte %" PRIu64 ": %s",
                           origin, offset, strerror(errno));
    hk_seed_piece_of(e->buffer, bytes, &e->seed.piece[i]);
    if (e->seed.piece[i].zero) {
        e->zero_bytes += bytes;
        return 0;
    }
    if (hk_seed_write_at(e->to, e->buffer, bytes, offset))
        return failed(e, e->seed.volume[hk_seed_volume_of(&e->seed, i)].name, "written");
    return 0;
}

static int copy_volume(struct export *e, uint32_t v, const char *origin)
{
    uint64_t end =
        v + 1 < e->seed.volume_count ? e->seed.volume[v + 1].first_piece : e->seed.pieces;
    uint64_t i = hk_max_u64(e->seed.done, e->seed.volume[v].first_piece), noted = i;
    char file[HK_NAME_BYTES + 8];
    int r = 0;

    if (i >= end)
        return 0;
    snprintf(file, sizeof(file), "%s.img", e->seed.volume[v].name);
    e->from = hk_seed_open(origin, O_RDONLY, false);
    if (e->from < 0)
        return hk_complain(HK_EXIT_FAILED, "HKE3204E %s can't be opened: %s", origin,
                           strerror(errno));
    e->to = openat(e->dir_fd, file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    /* From here on holes: where zeroes stood nothing is written, and an earlier run may have left
     * bytes there that its manifest does not know of. */
    if (e->to < 0 || ftruncate(e->to, (off_t)hk_seed_piece_offset(&e->seed, i)) ||
        ftruncate(e->to, (off_t)e->seed.volume[v].bytes) || fsync(e->dir_fd))
        return failed(e, file, "created");
    for (; !r && i < end; i++) {
        r = copy_piece(e, i, origin);
        if (!r && (i + 1 == end || i + 1 - noted == SYNC_PIECES)) {
            r = note(e, noted, i + 1);
            noted = i + 1;
        }
        if (!r)
            progress(e, i);
    }
    if (!r)
        e->seed.done = end;
    close(e->to);
    close(e->from);
    e->to = e->from = -1;
    return r;
}

static int finish(struct export *e)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes), *out;
    int r = 0;

    if (!f)
        return hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    hk_seed_print_head(&e->seed, f);
    for (uint64_t i = 0; i < e->seed.pieces; i++)
        hk_seed_print_piece(&e->seed, i, f);
    hk_seed_print_tail(&e->seed, f);
    if (fclose(f)) {
        free(text);
        return hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    }
    out = hk_seed_create(e->dir_fd, HK_SEED_MANIFEST ".new");
    if (out) {
        fwrite(text, 1, bytes, out);
        hk_seed_print_hash(text, bytes, out);
    }
    if (!out || hk_seed_close(out) ||
        renameat(e->dir_fd, HK_SEED_MANIFEST ".new", e->dir_fd, HK_SEED_MANIFEST) ||
        fsync(e->dir_fd))
        r = failed(e, HK_SEED_MANIFEST, "written");
    if (!r)
        unlinkat(e->dir_fd, HK_SEED_PARTIAL, 0);
    free(text);
    return r;
}

static void say(const struct export *e)
{
    const struct hk_seed *s = &e->seed;
    uint64_t bytes = 0;
    char b[24], z[24];

    for (uint32_t i = 0; i < s->volume_count; i++)
        bytes += s->volume[i].bytes;
    if (e->o->json) {
        hk_print_json(json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "schema", 1,
                                "state", "exported", "directory", e->dir, "bytes",
                                (json_int_t)bytes, "zero_bytes", (json_int_t)e->zero_bytes,
                                "resumed_pieces", (json_int_t)e->begun, "tracked_from_lsn",
                                (json_int_t)s->epoch.first_lsn, "begin_lsn",
                                (json_int_t)s->begin_lsn, "end_lsn", (json_int_t)s->end_lsn));
        return;
    }
    printf("%s: seed of %u volumes, %s (%s of zeroes not stored)\n", e->dir, s->volume_count,
           hk_bytes_text(bytes, b), hk_bytes_text(e->zero_bytes, z));
    printf("  copied between LSN %#" PRIx64 " and %#" PRIx64 "; written since %#" PRIx64
           ": kept in the log and the dirty map\n"
           "  it is plain data: encrypt the medium\n",
           s->begin_lsn, s->end_lsn, s->epoch.first_lsn);
}

int hk_seed_export(const struct hk_options *o, const char *dir)
{
    static struct hk_group_conf g;
    static struct hk_local_conf l;
    static struct hk_super before, after;
    struct export e = {.o = o, .dir = dir, .dir_fd = -1, .from = -1, .to = -1};
    int r = hk_read_conf(o, &g, &l);

    if (!r && !l.capture.present)
        r = hk_complain(HK_EXIT_REFUSED, "HKE3201E site.conf has no `capture`: a seed is exported "
                                         "at the primary");
    if (!r)
        r = look(&l, &before);
    if (r)
        return r;
    clock_gettime(CLOCK_MONOTONIC, &e.at);
    fill(&e.seed, &g, &before);
    e.buffer = aligned_alloc(4096, HK_SEED_PIECE);
    r = e.buffer ? position(&e, &l, &before, &e.seed.begin_lsn)
                 : hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    if (!r)
        r = open_dir(&e);
    for (uint32_t v = 0; !r && v < e.seed.volume_count; v++)
        r = copy_volume(&e, v, l.capture.origin[v]);
    /* Was the map relative to this seed all the time? */
    if (!r)
        r = look(&l, &after);
    if (!r && !hk_uuid_equal(&after.history.epoch[0].id, &e.seed.epoch.id))
        r = hk_complain(HK_EXIT_REFUSED, "HKE3201E the metadata was made anew meanwhile: this seed "
                                         "is worth nothing, remove it");
    if (!r)
        r = position(&e, &l, &after, &e.seed.end_lsn);
    e.seed.end_lsn = hk_max_u64(e.seed.end_lsn, e.seed.begin_lsn);
    e.seed.end_ns = realtime_ns();
    if (!r)
        r = finish(&e);
    if (!r)
        say(&e);
    if (e.partial)
        fclose(e.partial);
    if (e.dir_fd >= 0)
        close(e.dir_fd);
    hk_seed_free(&e.seed);
    free(e.buffer);
    return r;
}

int hk_verb_seed(const struct hk_options *o)
{
    if (!strcmp(o->argv[0], "export"))
        return hk_seed_export(o, o->argv[1]);
    if (!strcmp(o->argv[0], "import"))
        return hk_seed_import(o, o->argv[1]);
    return hk_complain(HK_EXIT_FAILED, "HKE1032E expected `hikae seed export DIR` or `hikae seed "
                                       "import DIR`");
}
