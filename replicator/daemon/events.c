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
    bool complained;
    char group[HK_NAME_BYTES];
    uint64_t next;
    struct hk_event_entry kept[HK_EVENTS_KEPT];
};

static void keep(struct hk_events *e, const struct hk_event_entry *entry)
{
    e->kept[entry->number % HK_EVENTS_KEPT] = *entry;
    e->next = entry->number + 1;
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

/* One line of the file back into memory; false: not one of ours. */
static bool recall(struct hk_events *e, const char *line)
{
    json_t *o = json_loads(line, 0, NULL);
    struct hk_event_entry entry;

    if (!json_is_object(o) || number_in(o, "number") == 0) {
        json_decref(o);
        return false;
    }
    memset(&entry, 0, sizeof(entry));
    entry.number = number_in(o, "number");
    entry.time_ns = number_in(o, "time_ns");
    entry.epoch = (uint32_t)number_in(o, "epoch");
    entry.lsn = number_in(o, "lsn");
    entry.op_id = number_in(o, "operation");
    text_in(o, "id", entry.id, sizeof(entry.id));
    text_in(o, "text", entry.text, sizeof(entry.text));
    text_in(o, "change", entry.change, sizeof(entry.change));
    json_decref(o);
    keep(e, &entry);
    return true;
}

/* Reads the file from its start; returns the length of its sound part. */
static off_t recall_all(struct hk_events *e, FILE *f)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    off_t good = 0;

    while ((n = getline(&line, &room, f)) > 0) {
        if (line[n - 1] != '\n' || !recall(e, line))
            break;
        good += n;
    }
    free(line);
    return good;
}

int hk_events_open(const char *state_dir, const char *group, struct hk_events **ret_events)
{
    struct hk_events *e = calloc(1, sizeof(*e));
    char path[4096];
    struct stat st;
    off_t good = 0;
    int error;
    FILE *f;

    if (!e)
        return -ENOMEM;
    snprintf(path, sizeof(path), "%s/events.log", state_dir);
    snprintf(e->group, sizeof(e->group), "%s", group);
    e->next = 1;
    e->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (e->fd < 0)
        goto err_open;
    f = fopen(path, "re");
    if (f) {
        good = recall_all(e, f);
        fclose(f);
    }
    if (fstat(e->fd, &st) == 0 && st.st_size > good) {
        fprintf(stderr, "hikaed: %s: the last %lld bytes are damaged and were cut off\n", path,
                (long long)(st.st_size - good));
        if (ftruncate(e->fd, good) < 0)
            goto err_truncate;
    }
    *ret_events = e;
    return 0;

err_truncate:
    error = -errno;
    close(e->fd);
    free(e);
    return error;
err_open:
    error = -errno;
    free(e);
    return error;
}

void hk_events_close(struct hk_events *e)
{
    if (!e)
        return;
    close(e->fd);
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

static bool append(int fd, const char *line)
{
    size_t n = strlen(line);
    char *whole = malloc(n + 1);
    bool ok;

    if (!whole)
        return false;
    memcpy(whole, line, n);
    whole[n] = '\n';
    /* One write, so that a kill leaves a whole line or a tail that the next start cuts off. */
    ok = write(fd, whole, n + 1) == (ssize_t)(n + 1);
    free(whole);
    return ok;
}

void hk_events_add(struct hk_events *e, struct hk_event_entry *entry)
{
    struct timespec ts;
    char *line;

    clock_gettime(CLOCK_REALTIME, &ts);
    entry->number = e->next;
    entry->time_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    keep(e, entry);
    line = line_of(e, entry);
    if ((!line || !append(e->fd, line)) && !e->complained) {
        e->complained = true;
        fprintf(stderr, "hikaed: the event log can't be written (%s); events are in memory only\n",
                strerror(errno));
    }
    free(line);
}

uint64_t hk_events_next(const struct hk_events *e)
{
    return e->next;
}

uint64_t hk_events_oldest(const struct hk_events *e)
{
    return e->next > HK_EVENTS_KEPT ? e->next - HK_EVENTS_KEPT : 1;
}

const struct hk_event_entry *hk_events_get(const struct hk_events *e, uint64_t number)
{
    const struct hk_event_entry *entry = &e->kept[number % HK_EVENTS_KEPT];

    return number && entry->number == number ? entry : NULL;
}
