/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stamp log: the client's own record of what it asked for and what it was told.
 *
 * A file of one 4096-byte header and 48-byte events, little endian, append only. The order of the
 * events is the order in which this client saw them, with two promises that the judge stands on:
 * a submit event is in the file before the request leaves the client, and a complete event is
 * appended after the answer has arrived. So "complete of A stands before submit of B" means that
 * A really had completed before B was submitted. Loss of trailing events (the client itself was
 * killed) only makes the judge more lenient, never wrong.
 *
 * One writer, single-threaded. All functions return 0 or -errno.
 */
#ifndef HK_TOOLS_STAMPLOG_H
#define HK_TOOLS_STAMPLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HK_STAMPLOG_VOLUMES_MAX = 32, HK_STAMPLOG_HEADER_BYTES = 4096 };

enum hk_stamp_kind {
    HK_STAMP_SUBMIT = 1,   /* op, volume, flags, id, offset, length, content */
    HK_STAMP_COMPLETE = 2, /* id, result: 0 or -errno. Not 0 means "may or may not have happened" */
    HK_STAMP_READ_RUN = 3, /* id of a read, before its complete: offset, length, content = tag */
    HK_STAMP_DISCONNECT = 4, /* volume: its connection died; what was in flight stays unknown */
    HK_STAMP_CONNECT = 5,    /* volume: connected (again) */
    HK_STAMP_NOTE = 6,       /* name: a moment the harness wants to refer to */
};

enum hk_stamp_op {
    HK_STAMP_WRITE = 1,
    HK_STAMP_ZERO = 2,
    HK_STAMP_TRIM = 3,
    HK_STAMP_FLUSH = 4,
    HK_STAMP_READ = 5,
};

enum { HK_STAMP_FUA = 1, HK_STAMP_NAME_BYTES = 24 };

struct hk_stamp_event {
    uint8_t kind;
    uint8_t op;
    uint16_t volume;
    uint32_t flags;
    uint64_t id;
    union {
        struct {
            uint64_t offset;
            uint64_t content;
            uint32_t length;
            int32_t result;
        };
        char name[HK_STAMP_NAME_BYTES];
    };
    uint64_t time_ns; /* CLOCK_REALTIME, for people only: the judge uses the order */
};
_Static_assert(sizeof(struct hk_stamp_event) == 48, "the event is 48 bytes on disk");

struct hk_stamp_volume {
    char name[64];
    uint64_t size_bytes;
    uint64_t range_offset; /* the writer touches this range only */
    uint64_t range_length;
};

struct hk_stamp_header {
    char magic[8]; /* "HKSTAMP1" */
    uint32_t volume_count;
    uint32_t pad;
    uint64_t seed;
    struct hk_stamp_volume volume[HK_STAMPLOG_VOLUMES_MAX];
};
_Static_assert(sizeof(struct hk_stamp_header) <= HK_STAMPLOG_HEADER_BYTES, "header fits");

struct hk_stamplog_writer {
    int fd;
    size_t used;
    struct hk_stamp_event buf[1024];
};

int hk_stamplog_create(struct hk_stamplog_writer *w, const char *path,
                       const struct hk_stamp_header *header);
int hk_stamplog_append(struct hk_stamplog_writer *w, const struct hk_stamp_event *event);
int hk_stamplog_flush(struct hk_stamplog_writer *w);
int hk_stamplog_close(struct hk_stamplog_writer *w);

struct hk_stamplog {
    struct hk_stamp_header header;
    struct hk_stamp_event *events;
    size_t event_count;
    bool torn_tail; /* the last event was incomplete and has been left out */
};

int hk_stamplog_read(const char *path, struct hk_stamplog *ret_log);
void hk_stamplog_free(struct hk_stamplog *log);

#endif
