/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/daemon/events.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct hk_events {
    int fd;
    bool complained, unsynced;
    char group[HK_NAME_BYTES];
    uint64_t next, saved; /* saved: all below stand in the file */
    off_t end;            /* of the file: whole lines only */
    off_t *at;            /* where each entry stands in the file, by number − 1; -1: damaged */
    size_t at_room;
    struct hk_event_entry kept[HK_EVENTS_KEPT], read;
};

static void keep(struct hk_events *e, const struct hk_event_entry *entry)
{
    e->kept[entry->number % HK_EVENTS_KEPT] = *entry;
    e->next = entry->number + 1;
}

/* Entry `number` stands at `offset`; the numbers passed over are damaged. */
static bool note_at(struct hk_events *e, uint64_t number, off_t offset)
{
    size_t room = e->at_room;
    uint64_t n;
    off_t *at;

    if (number > room) {
        room = (size_t)number + 1024;
        at = realloc(e->at, room * sizeof(*at));
        if (!at)
            return false;
        for (n = e->at_room; n < room; n++)
            at[n] = -1;
        e->at = at;
        e->at_room = room;
    }
    e->at[number - 1] = offset;
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

/* Reads the file from its start, up to its last whole line; returns how many lines are damaged. */
static uint64_t recall_all(struct hk_events *e, FILE *f)
{
    struct hk_event_entry entry;
    uint64_t damaged = 0, trail = 0;
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    while ((n = getline(&line, &room, f)) > 0 && line[n - 1] == '\n') {
        /* A number far ahead is damage as well; each line carries one. */
        if (parse(line, &entry) && entry.number >= e->next &&
            entry.number <= e->next + trail + 4096 && note_at(e, entry.number, e->end)) {
            keep(e, &entry);
            trail = 0;
        } else {
            damaged++;
            trail++;
        }
        e->end += n;
    }
    e->next += trail;
    e->saved = e->next;
    free(line);
    return damaged;
}

static int recall(struct hk_events *e, const char *path)
{
    FILE *f = fopen(path, "re");
    uint64_t damaged;
    struct stat st;

    if (!f)
        return -errno;
    damaged = recall_all(e, f);
    fclose(f);
    if (damaged)
        fprintf(stderr, "hikaed: %s: %llu lines are damaged; they are passed over\n", path,
                (unsigned long long)damaged);
    if (fstat(e->fd, &st))
        return -errno;
    if (st.st_size == e->end)
        return 0;
    fprintf(stderr, "hikaed: %s: the last %lld bytes are damaged and were cut off\n", path,
            (long long)(st.st_size - e->end));
    return ftruncate(e->fd, e->end) ? -errno : 0;
}

int hk_events_open(const char *state_dir, const char *group, struct hk_events **ret_events)
{
    struct hk_events *e = calloc(1, sizeof(*e));
    char path[4096];
    int error;

    if (!e)
        return -ENOMEM;
    snprintf(path, sizeof(path), "%s/events.log", state_dir);
    snprintf(e->group, sizeof(e->group), "%s", group);
    e->next = e->saved = 1;
    e->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    error = e->fd < 0 ? -errno : recall(e, path);
    if (error) {
        hk_events_close(e);
        return error;
    }
    *ret_events = e;
    return 0;
}

void hk_events_close(struct hk_events *e)
{
    if (!e)
        return;
    hk_events_sync(e);
    if (e->fd >= 0)
        close(e->fd);
    free(e->at);
    free(e);
}

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
    char *line = line_of(e, entry);
    size_t n = line ? strlen(line) : 0;
    char *whole = line ? malloc(n + 1) : NULL;
    bool ok = false;

    if (whole) {
        memcpy(whole, line, n);
        whole[n++] = '\n';
        ok = note_at(e, entry->number, e->end) && pwrite(e->fd, whole, n, e->end) == (ssize_t)n;
        if (ok)
            e->end += (off_t)n;
        else if (ftruncate(e->fd, e->end))
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
    if (e->fd < 0 || !save(e) || !e->unsynced)
        return;
    e->unsynced = fdatasync(e->fd) != 0;
}

uint64_t hk_events_next(const struct hk_events *e)
{
    return e->next;
}

uint64_t hk_events_oldest(const struct hk_events *e)
{
    (void)e;
    return 1;
}

const struct hk_event_entry *hk_events_get(struct hk_events *e, uint64_t number)
{
    const struct hk_event_entry *entry = &e->kept[number % HK_EVENTS_KEPT];
    char line[8192];
    char *end;
    ssize_t n;

    if (!number || number >= e->next)
        return NULL;
    if (entry->number == number)
        return entry;
    if (number > e->at_room || e->at[number - 1] < 0)
        return NULL;
    n = pread(e->fd, line, sizeof(line) - 1, e->at[number - 1]);
    if (n <= 0)
        return NULL;
    line[n] = 0;
    end = strchr(line, '\n');
    if (!end)
        return NULL;
    *end = 0;
    return parse(line, &e->read) && e->read.number == number ? &e->read : NULL;
}
