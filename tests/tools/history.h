/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a stamp log to a case for the judge: pairs the events into operations with intervals,
 * decides which of them are promised durable, and judges what the client itself has read.
 *
 * A read is legal if every sector has the content of a write that can have been the last one
 * there at some moment between submission and completion of the read. If exactly one operation
 * explains a sector, that operation had happened by the time the read completed: its interval is
 * shortened to that, because the client may have acted on what it saw.
 */
#ifndef HK_TOOLS_HISTORY_H
#define HK_TOOLS_HISTORY_H

#include "judge.h"
#include "stamplog.h"

enum hk_promise {
    HK_PROMISE_NONE,    /* async: order only */
    HK_PROMISE_FLUSHED, /* what a completed flush of its volume covers, and completed FUA */
    HK_PROMISE_DURABLE, /* every acknowledged operation */
};

struct hk_history_options {
    enum hk_promise promise;
    bool unknown_ends; /* an unanswered op can't happen after its volume's next connect */
    bool check_reads;
    const char *at_least; /* note: what had completed before it is contained; NULL: no bound */
    const char *at_most;  /* note: what was submitted after it is not contained; NULL: no bound */
};

struct hk_history {
    struct hk_judge_op *ops;
    size_t op_count;
    int64_t cut_max;
    uint64_t acked_count;   /* all kinds of operation */
    uint64_t unknown_count; /* changing operations without an answer */
    uint64_t failed_count;  /* answered with an error on a live connection */
    uint64_t promised_count;
    uint64_t disconnect_count;
    uint64_t read_count;
    uint64_t read_sectors;
    uint64_t read_violations;
    uint64_t read_mixtures; /* sectors read while they were being written, bytes of neither */
    uint64_t seen_count;    /* operations whose interval a read shortened */
};

/* `volumes` gives ranges and base contents for the judgement of reads. 0, -EBADMSG (the log
 * contradicts itself), -ENOENT (a note that is not in the log); the reason goes to `report`. */
int hk_history_build(const struct hk_stamplog *log, const struct hk_judge_volume *volumes,
                     const struct hk_history_options *options, struct hk_history *ret_history,
                     FILE *report);
void hk_history_free(struct hk_history *h);

#endif
