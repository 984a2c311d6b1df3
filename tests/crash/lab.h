/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal under examination: a life that wrote it (batches, segments, epochs; what it reported
 * durable and when), a second disk on which damaged versions of it are laid out, a recovery that is
 * run there again and again, and what that recovery had to say.
 *
 * The expectation is computed from the list of writes and the text of proto/SPEC.md §7.4 alone: a
 * batch is whole if the bytes written are there, byte by byte. It shares no code with recovery, and
 * does not look at a hash.
 */
#ifndef HK_TESTS_CRASH_LAB_H
#define HK_TESTS_CRASH_LAB_H

#include "replicator/store/journal.h"
#include "tests/crash/disk.h"
#include "tests/unit/test_store_log.h"

enum { LAB_WINDOW_BYTES = 2 << 20, LAB_SEGMENTS_MAX = 4 };

/* A segment header or a batch, as it was written. */
struct lab_write {
    bool header;
    uint32_t slot;
    uint64_t offset;
    const uint8_t *bytes; /* as many as went to the disk */
    uint64_t file_bytes;
    uint32_t epoch; /* index into the history */
    uint64_t first, end;
    uint64_t stamp; /* what had been reported when it was submitted */
};

struct lab {
    uint32_t segments;
    uint64_t segment_bytes;
    struct store_log log;
    struct cdisk disk; /* of the life */
    struct hk_journal journal;
    uint8_t *memory;
    struct lab_write *write;
    uint32_t write_count, write_room;
    uint32_t seen; /* of disk.write */
    uint64_t reported, applied;
    /* the laboratory */
    struct cdisk img;
    struct hk_journal again;
    struct hk_journal_reader reader;
    uint8_t *again_memory;
    size_t again_bytes;
    bool moved;   /* headers may stand where they were not written */
    uint64_t ops; /* that the last recovery took */
};

struct lab_verdict {
    enum hk_journal_state state;
    enum hk_journal_verdict verdict;
    uint64_t end, lost;
};

void lab_init(struct lab *l, uint64_t seed, uint32_t segments);
void lab_free(struct lab *l);
/* A write of so many bytes of data; batches are cut by lab_append. */
void lab_produce(struct lab *l, uint32_t payload);
/* All that was produced and not appended, as one batch; completes writes until it is taken. */
void lab_append(struct lab *l);
/* The same up to LSN `to`, a record's end. */
void lab_append_to(struct lab *l, uint64_t to);
/* What is asked for at every chance to crash: between any two completions. NULL: nothing. */
extern void (*lab_on_step)(struct lab *l);
/* Completes everything and reports it. */
void lab_drain(struct lab *l);
bool lab_step(struct lab *l);
/* `applied` was stored: moved to what is durable. */
void lab_applied(struct lab *l);
/* The parent ends at `durable`; the journal goes on at first_lsn. */
void lab_epoch(struct lab *l, uint64_t first_lsn);
/* Power goes, this state is left, and a new life begins on it: recovers, and reports what it found.
 */
void lab_restart(struct lab *l, const struct cdisk_choices *c, uint64_t n);
/* Gives img the disk of now (durable contents) and marks it. */
void lab_photograph(struct lab *l);

void lab_recover(struct lab *l, struct lab_verdict *ret);
/* Starts it only; lab_recover_step: one completion, false: it has come to its end. */
void lab_recover_start(struct lab *l);
bool lab_recover_step(struct lab *l);
void lab_recover_result(const struct lab *l, struct lab_verdict *ret);
/* The bytes [applied, end) that the recovered journal gives back are the log. */
void lab_read_back(struct lab *l);

void lab_expect(const struct lab *l, const struct cdisk *img, struct lab_verdict *ret);
/* Recovers and compares with the expectation. ret may be NULL. */
void lab_judge(struct lab *l, struct lab_verdict *ret);
/* The same where only a crash was at work: no corruption, and all that was reported is there. */
void lab_judge_crash(struct lab *l, struct lab_verdict *ret);
/* How often each verdict was given, in words. */
void lab_print_tally(const char *kind);

#endif
