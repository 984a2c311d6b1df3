/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event log: what happened, numbered without holes, appended to <state-dir>/events.log (one
 * JSON object a line), so that numbers go on after a restart. A file that has grown to its bound is
 * renamed to events.log.<number of its first event, 20 digits> and a new one begun; so many of them
 * are kept, then the oldest goes. The newest events are kept in memory too; older ones are read
 * back from the files, in order. A line that can't be written (disk full) is written later, as long
 * as it is in memory. Control thread only; the reactor never writes a file of its own
 * (replicator/ARCHITECTURE.md, "Reclaim").
 *
 * A crash at any point of a rotation loses nothing: the old file is on stable storage before it is
 * renamed, the name is one step, and without an events.log the next start begins one and goes on
 * with the number behind the newest file.
 */
#ifndef HK_DAEMON_EVENTS_H
#define HK_DAEMON_EVENTS_H

#include "proto/base.h"
#include "proto/limits.h"

enum {
    HK_EVENTS_KEPT = 1024, /* in memory */
    HK_EVENT_TEXT_BYTES = 768,
    HK_EVENTS_FILE_BYTES = 8 << 20, /* a file is rotated behind the event that reaches this */
    HK_EVENTS_FILES = 8,            /* rotated files that are kept */
};

struct hk_event_entry {
    uint64_t number;  /* from 1 */
    uint64_t time_ns; /* realtime */
    char id[12];      /* HKE####x */
    char text[HK_EVENT_TEXT_BYTES];
    uint32_t epoch;
    uint64_t lsn;
    uint64_t op_id;             /* 0: none */
    char change[HK_NAME_BYTES]; /* --change REF of the verb that caused it */
};

struct hk_events;

/*
 * -errno of opening or reading the file. A torn last line is cut off, damaged ones before it stay
 * and are passed over; both are said on stderr, the numbers of the latter are not used again.
 */
int hk_events_open(const char *state_dir, const char *group, struct hk_events **ret_events);
void hk_events_close(struct hk_events *e);
/* Numbers, stamps and stores the entry; a log that can't be written is said on stderr. */
void hk_events_add(struct hk_events *e, struct hk_event_entry *entry);
uint64_t hk_events_next(const struct hk_events *e);
/* Other bounds than the above, for tests: small files rotate soon. */
void hk_events_bounds(struct hk_events *e, uint64_t file_bytes, uint32_t files);
/* The entry with this number, from memory or from its file; NULL: damaged or gone. Valid until the
 * next call. */
const struct hk_event_entry *hk_events_get(struct hk_events *e, uint64_t number);
/* Puts what was written since the last call on stable storage. */
void hk_events_sync(struct hk_events *e);
/* Of the events that are still kept: what was before it went with its file. */
uint64_t hk_events_oldest(const struct hk_events *e);

#endif
