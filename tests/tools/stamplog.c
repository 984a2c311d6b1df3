/* SPDX-License-Identifier: Apache-2.0 */
#include "stamplog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = {'H', 'K', 'S', 'T', 'A', 'M', 'P', '1'};

static int write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int read_all(int fd, void *data, size_t len)
{
    char *p = data;

    while (len > 0) {
        ssize_t n = read(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int hk_stamplog_create(struct hk_stamplog_writer *w, const char *path,
                       const struct hk_stamp_header *header)
{
    char page[HK_STAMPLOG_HEADER_BYTES] = {0};
    struct hk_stamp_header h = *header;
    int r;

    memcpy(h.magic, magic, sizeof(magic));
    memcpy(page, &h, sizeof(h));
    w->used = 0;
    w->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (w->fd < 0)
        return -errno;
    r = write_all(w->fd, page, sizeof(page));
    if (r < 0)
        close(w->fd);
    return r;
}

int hk_stamplog_flush(struct hk_stamplog_writer *w)
{
    int r = write_all(w->fd, w->buf, w->used * sizeof(w->buf[0]));

    w->used = 0;
    return r;
}

int hk_stamplog_append(struct hk_stamplog_writer *w, const struct hk_stamp_event *event)
{
    w->buf[w->used++] = *event;
    return w->used == sizeof(w->buf) / sizeof(w->buf[0]) ? hk_stamplog_flush(w) : 0;
}

int hk_stamplog_close(struct hk_stamplog_writer *w)
{
    int r = hk_stamplog_flush(w);

    if (close(w->fd) < 0 && r == 0)
        r = -errno;
    return r;
}

static bool header_ok(const struct hk_stamp_header *h)
{
    if (memcmp(h->magic, magic, sizeof(magic)) != 0)
        return false;
    if (h->volume_count == 0 || h->volume_count > HK_STAMPLOG_VOLUMES_MAX)
        return false;
    for (uint32_t i = 0; i < h->volume_count; i++) {
        const struct hk_stamp_volume *v = &h->volume[i];

        if (v->size_bytes % 512 || v->range_offset % 512 || v->range_length % 512)
            return false;
        if (v->range_offset > v->size_bytes || v->range_length > v->size_bytes - v->range_offset)
            return false;
        if (memchr(v->name, 0, sizeof(v->name)) == NULL)
            return false;
    }
    return true;
}

int hk_stamplog_read(const char *path, struct hk_stamplog *ret_log)
{
    struct hk_stamplog log = {0};
    char page[HK_STAMPLOG_HEADER_BYTES];
    struct stat st;
    size_t bytes;
    int fd, r;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = fstat(fd, &st) < 0 ? -errno : read_all(fd, page, sizeof(page));
    if (r < 0)
        goto out_close;
    memcpy(&log.header, page, sizeof(log.header));
    r = -EBADMSG;
    if (!header_ok(&log.header))
        goto out_close;
    bytes = (size_t)st.st_size - sizeof(page);
    log.event_count = bytes / sizeof(log.events[0]);
    log.torn_tail = bytes % sizeof(log.events[0]) != 0;
    log.events = calloc(log.event_count + 1, sizeof(log.events[0]));
    r = -ENOMEM;
    if (log.events == NULL)
        goto out_close;
    r = read_all(fd, log.events, log.event_count * sizeof(log.events[0]));
    if (r < 0) {
        free(log.events);
        goto out_close;
    }
    *ret_log = log;
out_close:
    close(fd);
    return r;
}

void hk_stamplog_free(struct hk_stamplog *log)
{
    free(log->events);
    log->events = NULL;
}
