/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event log as a crash or a bad disk leaves it. Input: mode byte, then the file. Mode bit 0:
 * entries that were really written come first, so that damage follows something sound.
 *
 * Oracle: it opens; an entry has the number it is asked for; what is added is there, with the next
 * number, also after the file was opened again; numbers of sound entries are not given twice.
 */
#include "fuzz.h"

#include "replicator/daemon/events.h"
#include "tests/fuzz/quiet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static char dir[] = "/tmp/hikae-fuzz-XXXXXX", path[64];

static void remove_all(void)
{
    unlink(path);
    rmdir(dir);
}

static void append(const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    HK_ASSERT(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

static struct hk_events *reopen(void)
{
    struct hk_events *e = NULL;
    struct quiet was = quiet_begin();
    int rc = hk_events_open(dir, "core", &e);

    quiet_end(was);
    HK_ASSERT(rc == 0 && e && hk_events_next(e) > 0);
    return e;
}

static uint64_t add(struct hk_events *e, const char *text)
{
    struct hk_event_entry entry = {.id = "HKE0001I", .epoch = 1, .lsn = 4096};

    strcpy(entry.text, text);
    hk_events_add(e, &entry);
    return entry.number;
}

static void look(struct hk_events *e)
{
    uint64_t next = hk_events_next(e), from = next > 50 ? next - 50 : 0;

    for (uint64_t n = from; n <= next; n++) {
        const struct hk_event_entry *entry = hk_events_get(e, n);

        HK_ASSERT(!entry || (entry->number == n && n > 0 && n < next));
        if (entry)
            HK_ASSERT(memchr(entry->text, 0, sizeof(entry->text)) &&
                      memchr(entry->id, 0, sizeof(entry->id)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hk_event_entry *entry;
    struct hk_events *e;
    uint64_t number, sound = 0;

    if (size < 1 || size > 8192)
        return 0;
    if (!path[0]) {
        HK_ASSERT(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/events.log", dir);
        atexit(remove_all);
    }
    unlink(path);
    if (data[0] & 1) {
        e = reopen();
        add(e, "before");
        sound = add(e, "before \"it\"\n");
        hk_events_close(e);
    }
    append(data + 1, size - 1);
    e = reopen();
    look(e);
    number = add(e, "after");
    HK_ASSERT(number > sound && number + 1 == hk_events_next(e));
    look(e);
    hk_events_close(e);
    e = reopen();
    HK_ASSERT(hk_events_next(e) == number + 1);
    entry = hk_events_get(e, number);
    HK_ASSERT(entry && strcmp(entry->text, "after") == 0);
    if (sound) {
        entry = hk_events_get(e, sound);
        HK_ASSERT(entry && strcmp(entry->text, "before \"it\"\n") == 0);
    }
    hk_events_close(e);
    return 0;
}
