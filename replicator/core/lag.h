/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far behind, in bytes and in time, and how fast the applier goes. Integers; where the truth is
 * not known the figure errs on the large side (I18). One thread.
 */
#ifndef HK_CORE_LAG_H
#define HK_CORE_LAG_H

#include "proto/history.h"

/* Log bytes between two positions of one line of history; the holes between epochs hold no log. */
uint64_t hk_lag_bytes(const struct hk_history *h, uint64_t from, uint64_t to);
/* The position so many log bytes before `to`; 0: that is before what the history still knows. */
uint64_t hk_lag_before(const struct hk_history *h, uint64_t to, uint64_t bytes);

/*
 * Age of the oldest record that is not durable. Capture times are realtime, which may be set back:
 * so an age is taken from the wall clock at its most advanced, and the monotonic time since which
 * that record is known to be the oldest is the floor. Everything that had been produced at past[0]
 * has become durable since, so the record is no older than that: this is the ceiling. While stamps
 * are ahead of the wall clock (it was set back, and they never go back) the ceiling alone counts.
 * The newest stamp tells, too: when such a record becomes the oldest the clock may have caught up.
 */
struct hk_lag_age {
    uint64_t time_ns;   /* capture time of that record, 0: none */
    uint64_t since_ns;  /* monotonic: since when it has been the oldest */
    uint64_t offset_ns; /* largest realtime − monotonic that was seen */
    uint64_t begun_ns;  /* monotonic: the first look */
    uint64_t ahead_ns;  /* monotonic: when a stamp of the future was seen last; 0: never */
    struct {
        uint64_t lsn, mono_ns; /* produced then; 0: never */
    } past[2];
};
/* At any event: what the clocks show. */
void hk_lag_age_clock(struct hk_lag_age *a, uint64_t mono_ns, uint64_t real_ns);
/* Is it time to note what is produced now? Then: nothing is even reserved above `produced`, and
 * the newest stamp is newest_ns (0: not known). */
bool hk_lag_age_wants(const struct hk_lag_age *a, uint64_t durable);
void hk_lag_age_note(struct hk_lag_age *a, uint64_t produced, uint64_t newest_ns, uint64_t mono_ns);
void hk_lag_age_set(struct hk_lag_age *a, uint64_t time_ns, uint64_t mono_ns);
uint64_t hk_lag_age_ns(const struct hk_lag_age *a, uint64_t mono_ns, uint64_t real_ns);

/* Bytes a second while there was something to do. */
struct hk_lag_rate {
    uint64_t bytes_s; /* 0: not known yet */
    uint64_t busy_ns, busy_bytes, last_ns, last_bytes;
    bool was_busy;
};
/* total_bytes: done so far; busy: there is more to do from now on. */
void hk_lag_rate_update(struct hk_lag_rate *r, uint64_t total_bytes, bool busy, uint64_t mono_ns);

/*
 * How many records lie behind a position that the ring does not hold any more: what their number
 * was at some positions. Between two of them the lower one counts, so it may be more, never less.
 */
enum { HK_LAG_INDEX_MAX = 256 };
struct hk_lag_index {
    uint32_t count;
    uint64_t step; /* what is nearer to the one before is not kept */
    struct {
        uint64_t lsn, index; /* records that end at or below lsn, of this ring */
    } at[HK_LAG_INDEX_MAX];
};
void hk_lag_index_reset(struct hk_lag_index *x);
/* Rising positions; others are ignored. */
void hk_lag_index_note(struct hk_lag_index *x, uint64_t lsn, uint64_t index);
/* No smaller than the number of records from lsn on, when there are `head` in all. */
uint64_t hk_lag_records(const struct hk_lag_index *x, uint64_t lsn, uint64_t head);

#endif
