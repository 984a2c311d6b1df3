/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event log: what happened, numbered without holes, kept in memory for `events` and appended to
 * <state-dir>/events.log (one JSON object a line), so that numbers go on after a restart. Control
 * thread only; the reactor never writes a file of its own (replicator/ARCHITECTURE.md, "Reclaim").
 */
#ifndef HK_DAEMON_EVENTS_H
#define HK_DAEMON_EVENTS_H

#include "proto/base.h"
#include "proto/limits.h"

enum { HK_EVENTS_KEPT = 1024, HK_EVENT_TEXT_BYTES = 768 };

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

/* -errno of opening or reading the file; a damaged last line is cut off and said on stderr. */
int hk_events_open(const char *state_dir, const char *group, struct hk_events **ret_events);
void hk_events_close(struct hk_events *e);
/* Numbers, stamps and stores the entry; a log that can't be written is said on stderr once. */
void hk_events_add(struct hk_events *e, struct hk_event_entry *entry);
uint64_t hk_events_next(const struct hk_events *e);
/* The entry with this number if it is still in memory. */
const struct hk_event_entry *hk_events_get(const struct hk_events *e, uint64_t number);
uint64_t hk_events_oldest(const struct hk_events *e);

#endif
