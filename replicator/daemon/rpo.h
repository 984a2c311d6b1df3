/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would have been lost, hour by hour: the history behind `hikae history rpo`. Once a second
 * the control thread says what status would show as LOSE NOW in seconds (age of the oldest write
 * that only this site has) and in bytes; each hour keeps how long it was how much, as a histogram
 * of whole numbers.
 *
 * Never less than the truth: between two looks the larger of both counts; a percentile is the upper
 * edge of its bucket, at most 1/16 above; time that nobody looked (daemon down, machine asleep) is
 * "not measured" and time in which the loss was unknown counts as worse than any figure.
 *
 * Files in the state directory: GROUP.rpo, a line an hour that is over; GROUP.rpo.now, the present
 * hour, replaced each minute. Each line carries its hash; a damaged one is passed over and counted.
 * Control thread only.
 */
#ifndef HK_DAEMON_RPO_H
#define HK_DAEMON_RPO_H

#include "proto/state.h"
#include "replicator/daemon/latency.h" /* the buckets */

enum { HK_RPO_HOURS = 24 * 35, HK_RPO_LINE_MAX = 24576 };
#define HK_RPO_UNKNOWN UINT64_MAX

struct hk_rpo_hour {
    uint64_t hour; /* hours since 1970-01-01 UTC; 0: free */
    uint64_t unknown_ms;
    uint64_t max_ns, max_bytes; /* of what was known */
    uint32_t ms[HK_HISTOGRAM_BUCKETS];
};

struct hk_rpo_row {          /* one hour, or one day of local time */
    uint64_t from_ns, to_ns; /* realtime */
    uint64_t measured_ms, unknown_ms;
    uint64_t p50_ns, p95_ns, p99_ns; /* HK_RPO_UNKNOWN: not known for long enough to say */
    uint64_t max_ns, max_bytes;
};

/* A line of the file, with its newline; returns its length, at most HK_RPO_LINE_MAX. */
size_t hk_rpo_format(const struct hk_rpo_hour *h, char ret[HK_RPO_LINE_MAX]);
/* false: not a whole line of ours; *ret_hour is then unchanged. */
bool hk_rpo_parse(const char *line, size_t bytes, struct hk_rpo_hour *ret_hour);

struct hk_rpo;
/* 0 or -errno. A file that is not there begins empty. */
int hk_rpo_open(const char *dir, const char *group, struct hk_rpo **ret_rpo);
void hk_rpo_close(struct hk_rpo *r); /* saves the present hour */
/* known false: how much would be lost is not known. */
void hk_rpo_look(struct hk_rpo *r, bool known, uint64_t lose_ns, uint64_t lose_bytes,
                 const struct hk_now *now);
/* Newest first, those with anything measured only; returns their number. */
size_t hk_rpo_hours(const struct hk_rpo *r, struct hk_rpo_row *rows, size_t max);
size_t hk_rpo_days(const struct hk_rpo *r, struct hk_rpo_row *rows, size_t max);
uint64_t hk_rpo_damaged(const struct hk_rpo *r); /* lines passed over at the start */

#endif
