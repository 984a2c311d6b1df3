/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hk-stamp: a client that writes, remembers what it was told, and survives the storage.
 *
 * Drives N NBD exports (the volumes of one consistency group) with random overlapping operations of
 * repeating contents through libnbd, and keeps the stamp log (stamplog.h) that hk-check judges by.
 * One thread: every loop first writes the submit events to the file, then issues the requests, then
 * waits for answers. When the server dies, what was in flight stays unanswered; with --reconnect
 * the client goes on as soon as there is a server again.
 *
 * Exit codes: 0 done, 1 an i/o error on a live connection, 2 usage or trouble, 3 the server went
 * away and did not come back in time (the log is complete and can be judged).
 */
#include "stamp.h"
#include "content.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal;

static void on_signal(int sig)
{
    stop_signal = sig;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void append(struct writer *w, struct hk_stamp_event e)
{
    int r;

    e.time_ns = clock_ns(CLOCK_REALTIME);
    r = hk_stamplog_append(&w->log, &e);
    if (r < 0)
        hk_tool_die("stamp log: %s", strerror(-r));
}

static void flush_log(struct writer *w)
{
    int r = hk_stamplog_flush(&w->log);

    if (r < 0)
        hk_tool_die("stamp log: %s", strerror(-r));
}

/* ---- requests ---- */

static int on_complete(void *user, int *error)
{
    struct slot *s = user;

    s->answered = true;
    s->error = *error;
    return 1; /* libnbd retires the command */
}

static void fill_buffer(const struct slot *s)
{
    const struct hk_stamp_event *e = &s->submit;

    for (uint32_t i = 0; i < e->length; i += HK_SECTOR_BYTES) {
        uint64_t sector = (e->offset + i) / HK_SECTOR_BYTES;

        hk_content_fill(hk_content_tag(e->content, e->volume, sector), e->volume, sector,
                        s->buffer + i);
    }
}

static void issue(struct writer *w, struct slot *s)
{
    const struct hk_stamp_event *e = &s->submit;
    struct nbd_handle *nbd = w->volumes[e->volume].nbd;
    nbd_completion_callback done = {.callback = on_complete, .user_data = s};
    uint32_t fua = e->flags & HK_STAMP_FUA ? LIBNBD_CMD_FLAG_FUA : 0;
    int64_t r = -1;

    s->answered = false;
    switch ((enum hk_stamp_op)e->op) {
    case HK_STAMP_WRITE:
        fill_buffer(s);
        r = nbd_aio_pwrite(nbd, s->buffer, e->length, e->offset, done, fua);
        break;
    case HK_STAMP_ZERO: r = nbd_aio_zero(nbd, e->length, e->offset, done, fua); break;
    case HK_STAMP_TRIM: r = nbd_aio_trim(nbd, e->length, e->offset, done, fua); break;
    case HK_STAMP_FLUSH: r = nbd_aio_flush(nbd, done, 0); break;
    case HK_STAMP_READ: r = nbd_aio_pread(nbd, s->buffer, e->length, e->offset, done, 0); break;
    }
    if (r < 0) { /* not sent (the connection has just died); still: unanswered, not refused */
        s->answered = true;
        s->error = ENOTCONN;
    }
}

/* What a read returned, as runs of equal tags; a read is also a reason to write. */
static void record_read(struct writer *w, const struct slot *s)
{
    const struct hk_stamp_event *e = &s->submit;
    struct hk_stamp_event run = {
        .kind = HK_STAMP_READ_RUN, .op = HK_STAMP_READ, .volume = e->volume, .id = e->id};

    for (uint32_t i = 0; i < e->length; i += HK_SECTOR_BYTES) {
        uint64_t offset = e->offset + i;
        uint64_t tag = hk_content_recognise(s->buffer + i, e->volume, offset / HK_SECTOR_BYTES);

        if (run.length > 0 && tag != run.content) {
            append(w, run);
            run.length = 0;
        }
        if (run.length == 0) {
            run.offset = offset;
            run.content = tag;
        }
        run.length += HK_SECTOR_BYTES;
    }
    append(w, run);
    w->totals.reads++;
    if (!w->act && hk_stamp_chance(w, 50)) {
        w->act = true;
        w->act_volume = (uint16_t)((e->volume + 1u) % w->volume_count);
    }
}

static void retire(struct writer *w, struct slot *s)
{
    const struct hk_stamp_event *e = &s->submit;

    if (s->error == 0 && e->op == HK_STAMP_READ)
        record_read(w, s);
    if (s->error == 0)
        w->totals.acked++;
    else if (s->error == ENOTCONN || s->error == ESHUTDOWN)
        w->totals.unanswered++;
    else
        w->totals.errors++;
    if (s->error != 0 && s->error != ENOTCONN && s->error != ESHUTDOWN)
        fprintf(stderr, "hk-stamp: operation %" PRIu64 " on volume %u: %s\n", e->id, e->volume,
                strerror(s->error));
    append(w, (struct hk_stamp_event){.kind = HK_STAMP_COMPLETE,
                                      .op = e->op,
                                      .volume = e->volume,
                                      .id = e->id,
                                      .result = -s->error});
    s->used = false;
    w->in_flight--;
}

static void retire_all(struct writer *w)
{
    for (unsigned i = 0; i < w->depth; i++) {
        if (w->slots[i].used && w->slots[i].answered)
            retire(w, &w->slots[i]);
    }
}

/* ---- connections ---- */

static void connect_start(struct writer *w, struct volume *v)
{
    v->nbd = nbd_create();
    if (v->nbd == NULL)
        hk_tool_die("%s", nbd_get_error());
    nbd_set_strict_mode(v->nbd, 0);
    v->link = LINK_CONNECTING;
    v->retry_ns = now_ns() + 2 * SECOND_NS; /* a server that accepts and then says nothing */
    if (nbd_aio_connect_uri(v->nbd, v->uri) < 0) {
        nbd_close(v->nbd);
        v->nbd = NULL;
        v->link = LINK_DOWN;
        v->retry_ns = now_ns() + RECONNECT_PAUSE_NS;
    }
}

static void connect_done(struct writer *w, struct volume *v)
{
    int64_t size = nbd_get_size(v->nbd);

    if (size < 0)
        hk_tool_die("%s: %s", v->uri, nbd_get_error());
    if (v->declared && (uint64_t)size != v->size)
        hk_tool_die("%s: came back with another size", v->uri);
    v->size = (uint64_t)size;
    v->can_fua = nbd_can_fua(v->nbd) == 1;
    v->can_zero = nbd_can_zero(v->nbd) == 1;
    v->can_trim = nbd_can_trim(v->nbd) == 1;
    v->can_flush = nbd_can_flush(v->nbd) == 1;
    v->link = LINK_UP;
    w->gone_since_ns = 0;
    if (v->declared)
        append(w, (struct hk_stamp_event){.kind = HK_STAMP_CONNECT,
                                          .volume = (uint16_t)(v - w->volumes)});
}

/* The connection has died: its requests stay unanswered for ever. */
static void disconnected(struct writer *w, struct volume *v)
{
    uint16_t index = (uint16_t)(v - w->volumes);
    bool was_up = v->link == LINK_UP;
    uint64_t lost = 0;

    nbd_close(v->nbd);
    v->nbd = NULL;
    v->link = LINK_DOWN;
    v->retry_ns = now_ns() + RECONNECT_PAUSE_NS;
    if (!was_up)
        return;
    for (unsigned i = 0; i < w->depth; i++) {
        struct slot *s = &w->slots[i];

        if (!s->used || s->submit.volume != index)
            continue;
        lost += !s->answered || s->error == ENOTCONN;
        if (!s->answered) {
            s->answered = true;
            s->error = ENOTCONN;
        }
        retire(w, s);
    }
    append(w, (struct hk_stamp_event){.kind = HK_STAMP_DISCONNECT, .volume = index});
    w->totals.disconnects++;
    w->totals.disconnects_in_flight += lost > 0;
    w->totals.in_flight_last = lost;
    printf("disconnect volume %u in_flight %" PRIu64 "\n", index, lost);
    fflush(stdout);
    if (w->gone_since_ns == 0)
        w->gone_since_ns = now_ns();
}

static void tend_links(struct writer *w)
{
    for (uint32_t i = 0; i < w->volume_count; i++) {
        struct volume *v = &w->volumes[i];

        switch (v->link) {
        case LINK_DOWN:
            if (now_ns() >= v->retry_ns && (w->reconnect_ns > 0 || !v->declared) && !w->stopping)
                connect_start(w, v);
            break;
        case LINK_CONNECTING:
            if (nbd_aio_is_ready(v->nbd) == 1)
                connect_done(w, v);
            else if (nbd_aio_is_dead(v->nbd) == 1 || nbd_aio_is_closed(v->nbd) == 1 ||
                     now_ns() >= v->retry_ns)
                disconnected(w, v);
            break;
        case LINK_UP:
            if (nbd_aio_is_dead(v->nbd) == 1 || nbd_aio_is_closed(v->nbd) == 1)
                disconnected(w, v);
            break;
        }
    }
}

/* ---- the loop ---- */

/* Operations that the server has not answered, whether or not we have looked at the answers. */
static unsigned unanswered(const struct writer *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->depth; i++)
        n += w->slots[i].used && !w->slots[i].answered;
    return n;
}

static void take_command(struct writer *w, char *line)
{
    if (strncmp(line, "note ", 5) == 0) {
        struct hk_stamp_event e = {.kind = HK_STAMP_NOTE};

        snprintf(e.name, sizeof(e.name), "%s", line + 5);
        append(w, e);
        flush_log(w);
        printf("noted %s in_flight %u\n", e.name, unanswered(w));
    } else if (strncmp(line, "rate ", 5) == 0) {
        w->rate = strtoull(line + 5, NULL, 10);
        w->rate_from_id = w->next_id;
        w->rate_since_ns = now_ns();
        printf("rate %" PRIu64 "\n", w->rate);
    } else if (strcmp(line, "stop") == 0) {
        w->stopping = true;
        printf("stopping\n");
    } else {
        printf("unknown command\n");
    }
    fflush(stdout);
}

static void take_control(struct writer *w)
{
    ssize_t n;
    char *end;

    if (w->control_fd < 0)
        return;
    n = read(w->control_fd, w->control + w->control_used, sizeof(w->control) - 1 - w->control_used);
    if (n <= 0)
        return;
    w->control_used += (size_t)n;
    w->control[w->control_used] = 0;
    while ((end = strchr(w->control, '\n')) != NULL) {
        *end = 0;
        take_command(w, w->control);
        w->control_used -= (size_t)(end + 1 - w->control);
        memmove(w->control, end + 1, w->control_used + 1);
    }
    if (w->control_used == sizeof(w->control) - 1)
        w->control_used = 0;
}

/* Chooses, records, and only then issues. */
static void submit_some(struct writer *w)
{
    unsigned chosen[DEPTH_MAX];
    unsigned count = 0;
    uint64_t due = UINT64_MAX;

    if (w->rate > 0) {
        uint64_t elapsed_us = (now_ns() - w->rate_since_ns) / 1000;

        due = w->rate_from_id + elapsed_us * w->rate / 1000000 + 1;
    }
    for (unsigned i = 0; i < w->depth; i++) {
        struct slot *s = &w->slots[i];

        if (s->used || w->next_id >= w->ops_max || w->next_id >= due)
            continue;
        if (!hk_stamp_pick(w, s))
            break;
        append(w, s->submit);
        chosen[count++] = i;
    }
    flush_log(w);
    for (unsigned i = 0; i < count; i++) {
        struct slot *s = &w->slots[chosen[i]];

        s->used = true;
        w->in_flight++;
        w->totals.submitted++;
        issue(w, s);
    }
}

static void wait_some(struct writer *w, int timeout_ms)
{
    struct pollfd fds[HK_STAMPLOG_VOLUMES_MAX + 1];
    struct volume *of[HK_STAMPLOG_VOLUMES_MAX];
    unsigned n = 0;

    for (uint32_t i = 0; i < w->volume_count; i++) {
        struct volume *v = &w->volumes[i];
        unsigned direction;

        if (v->nbd == NULL || nbd_aio_get_fd(v->nbd) < 0)
            continue;
        direction = nbd_aio_get_direction(v->nbd);
        of[n] = v;
        fds[n++] = (struct pollfd){
            .fd = nbd_aio_get_fd(v->nbd),
            .events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                              (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0))};
    }
    if (w->control_fd >= 0)
        fds[n] = (struct pollfd){.fd = w->control_fd, .events = POLLIN};
    poll(fds, n + (w->control_fd >= 0), timeout_ms);
    for (unsigned i = 0; i < n; i++) {
        unsigned direction = nbd_aio_get_direction(of[i]->nbd);

        if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) &&
            (direction & LIBNBD_AIO_DIRECTION_READ))
            nbd_aio_notify_read(of[i]->nbd);
        else if ((fds[i].revents & (POLLOUT | POLLERR)) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
            nbd_aio_notify_write(of[i]->nbd);
    }
}

static bool any_link(const struct writer *w)
{
    for (uint32_t i = 0; i < w->volume_count; i++) {
        if (w->volumes[i].link == LINK_UP)
            return true;
    }
    return false;
}

static bool step(struct writer *w)
{
    uint64_t now;

    take_control(w);
    tend_links(w);
    retire_all(w);
    now = now_ns();
    if (stop_signal || now >= w->deadline_ns || w->next_id >= w->ops_max)
        w->stopping = true;
    if (!w->stopping && w->gone_since_ns != 0 && now - w->gone_since_ns > w->reconnect_ns)
        return false;
    if (w->stopping)
        return w->in_flight > 0 && any_link(w);
    submit_some(w);
    wait_some(w, w->rate > 0 || w->in_flight < w->depth ? 1 : 50);
    return true;
}

/* Connects everything once, so that the header can name sizes and ranges. */
static void open_all(struct writer *w, uint64_t seconds)
{
    uint64_t limit = now_ns() + seconds * SECOND_NS;

    for (uint32_t i = 0; i < w->volume_count; i++) {
        struct volume *v = &w->volumes[i];

        while (v->link != LINK_UP) {
            if (now_ns() > limit || stop_signal)
                hk_tool_die("%s: cannot connect: %s", v->uri,
                            nbd_get_error() ? nbd_get_error() : "");
            tend_links(w);
            wait_some(w, 20);
        }
    }
}

static void declare(struct writer *w, const char *path, uint64_t seed)
{
    struct hk_stamp_header h = {.volume_count = w->volume_count, .seed = seed};
    int r;

    for (uint32_t i = 0; i < w->volume_count; i++) {
        struct volume *v = &w->volumes[i];

        if (v->range_length == 0 && v->range_offset < v->size)
            v->range_length = v->size - v->range_offset;
        v->range_length = v->range_length / w->align * w->align;
        if (v->range_offset % w->align || v->range_length < w->block_min ||
            v->range_offset > v->size || v->range_length > v->size - v->range_offset)
            hk_tool_die("%s: the range does not fit its %" PRIu64 " bytes", v->uri, v->size);
        snprintf(h.volume[i].name, sizeof(h.volume[i].name), "%s", v->uri);
        h.volume[i].size_bytes = v->size / HK_SECTOR_BYTES * HK_SECTOR_BYTES;
        h.volume[i].range_offset = v->range_offset;
        h.volume[i].range_length = v->range_length;
        v->declared = true;
    }
    r = hk_stamplog_create(&w->log, path, &h);
    if (r < 0)
        hk_tool_die("%s: %s", path, strerror(-r));
}

static int summary(struct writer *w, bool gone)
{
    const struct totals *t = &w->totals;
    double seconds = (double)(now_ns() - w->started_ns) / 1e9;

    printf("submitted %" PRIu64 " acked %" PRIu64 " errors %" PRIu64 " unanswered %" PRIu64
           " reads %" PRIu64 " dependent %" PRIu64 " seconds %.1f\n",
           t->submitted, t->acked, t->errors, t->unanswered, t->reads, t->dependent, seconds);
    printf("disconnects %" PRIu64 " with_in_flight %" PRIu64 " in_flight_last %" PRIu64 "\n",
           t->disconnects, t->disconnects_in_flight, t->in_flight_last);
    if (t->errors > 0)
        return EXIT_IO_ERROR;
    return gone ? EXIT_GONE : EXIT_DONE;
}

int main(int argc, char **argv)
{
    static struct writer w = {.depth = 16,
                              .ops_max = UINT64_MAX,
                              .block_min = 4096,
                              .block_max = 65536,
                              .align = 4096,
                              .unique_percent = 25,
                              .overlap_percent = 20,
                              .control_fd = -1,
                              .deadline_ns = UINT64_MAX};
    struct sigaction action = {.sa_handler = on_signal};
    struct arguments a;
    uint64_t drain_until;
    bool gone;

    w.drain_ns = 10 * SECOND_NS;
    hk_stamp_parse(&w, &a, argc, argv);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < w.depth; i++) {
        w.slots[i].buffer = calloc(1, BLOCK_MAX_LIMIT);
        if (w.slots[i].buffer == NULL)
            hk_tool_die("out of memory");
    }
    open_all(&w, w.reconnect_ns / SECOND_NS + 10);
    declare(&w, a.log, a.seed);
    printf("seed %" PRIu64 " volumes %u\n", a.seed, w.volume_count);
    fflush(stdout);
    w.started_ns = now_ns();
    w.rate_since_ns = w.started_ns;
    w.deadline_ns = w.started_ns + a.seconds * SECOND_NS;
    while (!w.stopping && step(&w))
        ;
    gone = !w.stopping;
    drain_until = now_ns() + w.drain_ns;
    while (w.stopping && stop_signal != SIGINT && step(&w) && now_ns() < drain_until)
        wait_some(&w, 20);
    /* What is still open now is in flight for ever; the judge takes it so. */
    w.totals.unanswered += w.in_flight;
    for (uint32_t i = 0; i < w.volume_count; i++)
        nbd_close(w.volumes[i].nbd);
    if (hk_stamplog_close(&w.log) < 0)
        hk_tool_die("stamp log: %s", strerror(errno));
    for (unsigned i = 0; i < w.depth; i++)
        free(w.slots[i].buffer);
    return summary(&w, gone);
}
