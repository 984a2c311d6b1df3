/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/daemon/events.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 64, DIGITS = 20 };

static const char log_name[] = "events.log";

struct log_file {
    uint64_t first; /* number of its first event */
    int fd;         /* -1: not opened yet */
    bool indexed;
    off_t *at; /* where each event stands, by number − first; -1: damaged */
    size_t at_room;
};

struct hk_events {
    int dir_fd;
    bool complained, unsynced;
    char group[HK_NAME_BYTES];
    uint64_t next, saved; /* saved: all below stand in a file */
    uint64_t file_bytes;
    uint32_t files_kept;
    struct log_file file[FILES_MAX + 1]; /* oldest first; the last is written to */
    uint32_t file_count;
    off_t end; /* of the last file: whole lines only */
    struct hk_event_entry kept[HK_EVENTS_KEPT], read;
};

static struct log_file *current(struct hk_events *e)
{
    return &e->file[e->file_count - 1];
}

static void keep(struct hk_events *e, const struct hk_event_entry *entry)
{
    e->kept[entry->number % HK_EVENTS_KEPT] = *entry;
}

/* Entry `number` stands at `offset`; the numbers passed over are damaged. */
static bool note_at(struct log_file *f, uint64_t number, off_t offset)
{
    size_t room = f->at_room;
    uint64_t n;
    off_t *at;

    if (number - f->first >= room) {
        room = (size_t)(number - f->first) + 1024;
        at = realloc(f->at, room * sizeof(*at));
        if (!at)
            return false;
        for (n = f->at_room; n < room; n++)
            at[n] = -1;
        f->at = at;
        f->at_room = room;
    }
    f->at[number - f->first] = offset;
    return true;
}

static void text_in(const json_t *o, const char *key, char *out, size_t max)
{
    const char *text = json_string_value(json_object_get(o, key));

    snprintf(out, max, "%s", text ? text : "");
}

static uint64_t number_in(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

static bool parse(const char *line, struct hk_event_entry *ret)
{
    json_t *o = json_loads(line, 0, NULL);

    if (!json_is_object(o) || number_in(o, "number") == 0) {
        json_decref(o);
        return false;
    }
    memset(ret, 0, sizeof(*ret));
    ret->number = number_in(o, "number");
    ret->time_ns = number_in(o, "time_ns");
    ret->epoch = (uint32_t)number_in(o, "epoch");
    ret->lsn = number_in(o, "lsn");
    ret->op_id = number_in(o, "operation");
    text_in(o, "id", ret->id, sizeof(ret->id));
    text_in(o, "text", ret->text, sizeof(ret->text));
    text_in(o, "change", ret->change, sizeof(ret->change));
    json_decref(o);
    return true;
}

/* What a walk through a file found. */
struct walk {
    uint64_t next, damaged; /* number expected; damaged lines */
    off_t end;              /* of the last whole line */
};

/* Reads a file from its start, up to its last whole line. */
static void walk_file(struct hk_events *e, struct log_file *f, FILE *in, struct walk *w)
{
    struct hk_event_entry entry;
    uint64_t trail = 0;
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    while ((n = getline(&line, &room, in)) > 0 && line[n - 1] == '\n') {
        /* A number far ahead is damage as well; each line carries one. */
        if (parse(line, &entry) && entry.number >= w->next &&
            entry.number <= w->next + trail + 4096 && note_at(f, entry.number, w->end)) {
            if (entry.number + HK_EVENTS_KEPT > e->next)
                keep(e, &entry);
            w->next = entry.number + 1;
            trail = 0;
        } else {
            w->damaged++;
            trail++;
        }
        w->end += n;
    }
    w->next += trail;
    free(line);
}

static const char *name_of(const struct hk_events *e, const struct log_file *f, char ret[64])
{
    if (f == &e->file[e->file_count - 1])
        snprintf(ret, 64, "%s", log_name);
    else
        snprintf(ret, 64, "%s.%0*llu", log_name, DIGITS, (unsigned long long)f->first);
    return ret;
}

/* Opens a file and learns where its events stand. */
static int index_file(struct hk_events *e, struct log_file *f, struct walk *w)
{
    char name[64];
    FILE *in;
    int fd;

    *w = (struct walk){.next = f->first};
    name_of(e, f, name);
    if (f->fd < 0)
        f->fd = openat(e->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    fd = f->fd < 0 ? -1 : openat(e->dir_fd, name, O_RDONLY | O_CLOEXEC);
    in = fd < 0 ? NULL : fdopen(fd, "r");
    if (!in) {
        if (fd >= 0)
            close(fd);
        return -errno;
    }
    walk_file(e, f, in, w);
    fclose(in);
    f->indexed = true;
    if (w->damaged)
        fprintf(stderr, "hikaed: %s: %llu lines are damaged; they are passed over\n", name,
                (unsigned long long)w->damaged);
    return 0;
}

/* ---- opening ---- */

static int by_first(const void *a, const void *b)
{
    const struct log_file *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* The rotated files that are there, by their names. */
static int find_rotated(struct hk_events *e)
{
    const size_t prefix = sizeof(log_name); /* with the dot */
    int fd = openat(e->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *d;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return -errno;
    }
    while ((d = readdir(dir))) {
        const char *digits = d->d_name + prefix;

        if (strncmp(d->d_name, log_name, prefix - 1) || d->d_name[prefix - 1] != '.' ||
            strlen(digits) != DIGITS || strspn(digits, "0123456789") != DIGITS)
            continue;
        if (e->file_count == FILES_MAX)
            continue; /* more than was ever kept: left alone */
        e->file[e->file_count++] = (struct log_file){.first = strtoull(digits, NULL, 10), .fd = -1};
    }
    closedir(dir);
    qsort(e->file, e->file_count, sizeof(e->file[0]), by_first);
    return 0;
}

static int recall(struct hk_events *e)
{
    struct walk w = {.next = 1};
    struct stat st;
    int error = find_rotated(e);

    e->file[e->file_count++] = (struct log_file){.fd = -1};
    /* The number behind the newest rotated file, should the one after it be empty or missing. */
    if (!error && e->file_count > 1)
        error = index_file(e, &e->file[e->file_count - 2], &w);
    if (error)
        return error;
    e->next = current(e)->first = w.next;
    error = index_file(e, current(e), &w);
    if (error)
        return error;
    e->end = w.end;
    e->next = e->saved = w.next;
    if (fstat(current(e)->fd, &st))
        return -errno;
    if (st.st_size == e->end)
        return 0;
    fprintf(stderr, "hikaed: %s: the last %lld bytes are damaged and were cut off\n", log_name,
            (long long)(st.st_size - e->end));
    return ftruncate(current(e)->fd, e->end) ? -errno : 0;
}

int hk_events_open(const char *state_dir, const char *group, struct hk_events **ret_events)
{
    struct hk_events *e = calloc(1, sizeof(*e));
    int error;

    if (!e)
        return -ENOMEM;
    hk_events_bounds(e, HK_EVENTS_FILE_BYTES, HK_EVENTS_FILES);
    snprintf(e->group, sizeof(e->group), "%s", group);
    e->next = e->saved = 1;
    e->dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    error = e->dir_fd < 0 ? -errno : recall(e);
    if (error) {
        hk_events_close(e);
        return error;
    }
    *ret_events = e;
    return 0;
}

void hk_events_bounds(struct hk_events *e, uint64_t file_bytes, uint32_t files)
{
    e->file_bytes = file_bytes;
    e->files_kept = files < FILES_MAX ? files : FILES_MAX;
}

static void close_file(struct log_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->at);
}

void hk_events_close(struct hk_events *e)
{
    if (!e)
        return;
    if (e->file_count)
        hk_events_sync(e);
    for (uint32_t i = 0; i < e->file_count; i++)
        close_file(&e->file[i]);
    if (e->dir_fd >= 0)
        close(e->dir_fd);
    free(e);
}

/* ---- rotation ---- */

static void drop_oldest(struct hk_events *e)
{
    char name[64];

    while (e->file_count - 1 > e->files_kept) {
        if (unlinkat(e->dir_fd, name_of(e, &e->file[0], name), 0) && errno != ENOENT)
            return;
        close_file(&e->file[0]);
        e->file_count--;
        memmove(&e->file[0], &e->file[1], e->file_count * sizeof(e->file[0]));
    }
}

/*
 * The full file gets the name of its first event, and a new one begins. If it can't be done now the
 * file grows on, and it is tried again with the next event.
 */
static void rotate(struct hk_events *e)
{
    struct log_file *old = current(e);
    char name[64];
    int fd;

    if (e->end < (off_t)e->file_bytes || e->file_count > FILES_MAX)
        return;
    snprintf(name, sizeof(name), "%s.%0*llu", log_name, DIGITS, (unsigned long long)old->first);
    if (fdatasync(old->fd) || renameat(e->dir_fd, log_name, e->dir_fd, name))
        return;
    fd = openat(e->dir_fd, log_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0) { /* as it was: what is written must be found under one of the two names */
        if (renameat(e->dir_fd, name, e->dir_fd, log_name))
            fprintf(stderr, "hikaed: %s can't be named back to %s: %s\n", name, log_name,
                    strerror(errno));
        return;
    }
    fsync(e->dir_fd);
    e->file[e->file_count++] = (struct log_file){.first = e->saved, .fd = fd, .indexed = true};
    e->end = 0;
    drop_oldest(e);
}

/* ---- adding ---- */

static char *line_of(const struct hk_events *e, const struct hk_event_entry *entry)
{
    json_t *o = json_pack("{s:I, s:I, s:s, s:s, s:i, s:I, s:I, s:s, s:s}", "number",
                          (json_int_t)entry->number, "time_ns", (json_int_t)entry->time_ns, "id",
                          entry->id, "group", e->group, "epoch", (int)entry->epoch, "lsn",
                          (json_int_t)entry->lsn, "operation", (json_int_t)entry->op_id, "change",
                          entry->change, "text", entry->text);
    char *line = json_dumps(o, JSON_COMPACT);

    json_decref(o);
    return line;
}

/* Whole lines or nothing: half a line is taken back, so that the next one begins a line. */
static bool append(struct hk_events *e, const struct hk_event_entry *entry)
{
    struct log_file *f = current(e);
    char *line = line_of(e, entry);
    size_t n = line ? strlen(line) : 0;
    char *whole = line ? malloc(n + 1) : NULL;
    bool ok = false;

    if (whole) {
        memcpy(whole, line, n);
        whole[n++] = '\n';
        ok = note_at(f, entry->number, e->end) && pwrite(f->fd, whole, n, e->end) == (ssize_t)n;
        if (ok)
            e->end += (off_t)n;
        else if (ftruncate(f->fd, e->end))
            ok = false; /* the next start cuts it off */
    }
    free(whole);
    free(line);
    return ok;
}

/* Everything that is not in the file yet and still in memory. */
static bool save(struct hk_events *e)
{
    uint64_t n = hk_max_u64(e->saved, e->next > HK_EVENTS_KEPT ? e->next - HK_EVENTS_KEPT : 1);

    for (; n < e->next; n++) {
        if (!append(e, &e->kept[n % HK_EVENTS_KEPT]))
            return false;
        e->saved = n + 1;
        e->unsynced = true;
        rotate(e);
    }
    return true;
}

void hk_events_add(struct hk_events *e, struct hk_event_entry *entry)
{
    struct timespec ts;
    bool ok;

    clock_gettime(CLOCK_REALTIME, &ts);
    entry->number = e->next;
    entry->time_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    keep(e, entry);
    e->next++;
    ok = save(e);
    if (!ok && !e->complained)
        fprintf(stderr,
                "hikaed: the event log can't be written (%s); events are in memory, and "
                "written as soon as it can\n",
                strerror(errno));
    e->complained = !ok;
}

void hk_events_sync(struct hk_events *e)
{
    if (current(e)->fd < 0 || !save(e) || !e->unsynced)
        return;
    e->unsynced = fdatasync(current(e)->fd) != 0;
}

uint64_t hk_events_next(const struct hk_events *e)
{
    return e->next;
}

uint64_t hk_events_oldest(const struct hk_events *e)
{
    return e->file[0].first;
}

/* The file that this event stands in, its index at hand; NULL: none. */
static struct log_file *file_of(struct hk_events *e, uint64_t number)
{
    uint32_t i = e->file_count;
    struct walk w;

    while (i > 0 && e->file[i - 1].first > number)
        i--;
    if (i == 0 || (!e->file[i - 1].indexed && index_file(e, &e->file[i - 1], &w)))
        return NULL;
    return &e->file[i - 1];
}

const struct hk_event_entry *hk_events_get(struct hk_events *e, uint64_t number)
{
    const struct hk_event_entry *entry = &e->kept[number % HK_EVENTS_KEPT];
    struct log_file *f;
    char line[8192];
    char *end;
    ssize_t n;

    if (!number || number >= e->next)
        return NULL;
    if (entry->number == number)
        return entry;
    f = file_of(e, number);
    if (!f || number - f->first >= f->at_room || f->at[number - f->first] < 0)
        return NULL;
    n = pread(f->fd, line, sizeof(line) - 1, f->at[number - f->first]);
    if (n <= 0)
        return NULL;
    line[n] = 0;
    end = strchr(line, '\n');
    if (!end)
        return NULL;
    *end = 0;
    return parse(line, &e->read) && e->read.number == number ? &e->read : NULL;
}
