/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One write's way in mode sync, on-link-loss = block: LSN below the ceiling, publish, origin,
 * link, window, journal with a volatile cache, durable, ack, completion (I1, I3, I9, I11, I12).
 *
 * LSNs are 1 to N, one a record. Several journal writes are in flight and complete in any order.
 * Dies: the capture process (its ring survives), the primary host (its ring does not), the
 * standby's daemon (its disk keeps the cache) and the standby host (anything unflushed survives or
 * vanishes, each by itself). The link loses, duplicates and reorders. When all faults have struck,
 * everything published must still become durable and complete: `quiet` looks at that.
 */
#ifndef N
#define N 3
#endif
#ifndef STANDBY_FAULTS
#define STANDBY_FAULTS 2
#endif
#ifndef PRIMARY_FAULTS
#define PRIMARY_FAULTS 2
#endif
#define STEP 2 /* of the ceiling */
/* With LOSSES the link stops losing frames after so many: then nothing may go round for ever. */
#ifdef LOSSES
byte losses;
#define may_lose (losses < LOSSES)
#define count_loss losses++
#else
#define may_lose true
#define count_loss skip
#endif

bit I1_never_missed = 1;
bit I3_journal_is_a_prefix = 1;
bit I5_published_before_submitted = 1;
bit I7_redone_before_served = 1;
bit I9_completed_is_durable = 1;
bit I11_reported_is_durable = 1;
bit I12_below_the_ceiling = 1;
bit I12_lsn_given_once = 1;
bit I16_everything_ends = 1;

/* ring */
#define RESERVED  1
#define PUBLISHED 2
/* the standby's copy */
#define PLACED  1 /* in the window */
#define WRITING 2 /* journal write in flight */
#define CACHED  3 /* written by a daemon that died: read back, but it may vanish */
#define STABLE  4

typedef record_t {
    byte ring, copy;
    bit given, voided, submitted, done, completed, sent
#ifdef BUG_LOSS_FORGOTTEN
    ; bit tried
#endif
};
record_t r[N + 1];

/* capture */
byte next = 1, durable_p;
bit up = 1, lost, redoing, passing, stopping, to_redo;
bit lacks; /* the origin holds what neither the standby nor a ring does */
byte ceiling = 1 + STEP, ceiling_fly; /* durable; asked for (0: nothing in flight) */
bit clean, clean_fly;                 /* CLEAN durable; its clearing is in flight */
byte clean_lsn;
bit full_compare; /* durable */
byte primary_faults;
/* standby */
bit running = 1;
byte reported, journal_end; /* last LSN reported durable, last one appended */
byte standby_faults;
byte k;

/* Some LSN for which it holds; not executable when there is none. */
#if N == 2
#define any(c) if :: c(1) -> k = 1 :: c(2) -> k = 2 fi
#else
#define any(c) if :: c(1) -> k = 1 :: c(2) -> k = 2 :: c(3) -> k = 3 fi
#endif
/* All of [1, i]: a reader stops at the first one that is not. */
#define upto(c, i)      (c(1) && (i < 2 || c(2)) && (i < 3 || c(N)))

#define serving         (up && !lost && !redoing)
#define reserved(i)     (serving && r[i].ring == RESERVED)
#define published(i)    (r[i].ring == PUBLISHED)
#ifdef BUG_SUBMITTED_UNPUBLISHED
#define may_submit(i)   (serving && r[i].ring != 0 && !r[i].voided && !r[i].submitted)
#else
#define may_submit(i)   (serving && r[i].ring == PUBLISHED && !r[i].voided && !r[i].submitted)
#endif
#define at_origin(i)    (serving && r[i].submitted && !r[i].done)
#ifdef BUG_COMPLETED_WHEN_PLACED
#define is_there(i)     (r[i].copy >= PLACED)
#else
#define is_there(i)     (durable_p >= i)
#endif
#define may_complete(i) (serving && r[i].done && !r[i].completed && !r[i].voided && is_there(i))
#define readable(i)     (published(i) || i <= durable_p)
#ifdef BUG_LOSS_FORGOTTEN
#define again(i)        (!r[i].tried)
#else
#define again(i)        true
#endif
#define wanted(i)       (published(i) && i > durable_p && upto(readable, i))
#define may_send(i)     (wanted(i) && !r[i].sent && again(i))
#define in_flight(i)    (r[i].sent && may_lose)
#define may_place(i)    (running && r[i].sent && r[i].copy == 0)
#define writing(i)      (running && r[i].copy == WRITING)
#define stable(i)       (r[i].copy == STABLE)
#define in_journal(i)   (r[i].copy >= WRITING)
#define over(i)         (r[i].done && (r[i].completed || r[i].voided))
#define settled(i)      (!published(i) || (stable(i) && over(i)))

/* A superblock write in flight when its writer dies has happened, or not. */
inline super_at_rest()
{
    if
    :: ceiling_fly != 0 -> ceiling = ceiling_fly
    :: true
    fi;
    if
    :: clean_fly -> clean = 0
    :: true
    fi;
    ceiling_fly = 0;
    clean_fly = 0
}

active proctype capture()
{
end:
    do
    :: d_step {
        serving && !passing && !stopping && next <= N &&
#ifndef BUG_CLEAN_KEPT
        !clean && !clean_fly &&
#endif
#ifdef BUG_CEILING_EARLY
        (next < ceiling || next < ceiling_fly) ->
#else
        next < ceiling ->
#endif
    LSN_RESERVED:
        assert(I12_lsn_given_once && !r[next].given);
        assert(I7_redone_before_served && !to_redo);
        r[next].given = 1;
        r[next].ring = RESERVED;
        next++
       }
    :: atomic {
        any(reserved);
    RECORD_PUBLISHED:
        r[k].ring = PUBLISHED;
        k = 0
       }
    :: atomic {
        any(may_submit);
    SUBMITTED_TO_ORIGIN:
        assert(I5_published_before_submitted && published(k));
        r[k].submitted = 1;
        k = 0
       }
    :: atomic {
        any(at_origin);
    ORIGIN_DONE:
        r[k].done = 1;
        k = 0
       }
    :: atomic {
        any(may_complete);
    WRITE_COMPLETED:
        r[k].completed = 1;
        assert(I9_completed_is_durable && upto(stable, k));
        k = 0
       }
    :: d_step {
        serving && !passing && !stopping && ceiling_fly == 0 && ceiling <= N &&
        next + 1 >= ceiling ->
    CEILING_ISSUED:
        ceiling_fly = ceiling + STEP
       }
    :: d_step {
        up && ceiling_fly != 0 ->
    CEILING_DURABLE:
        ceiling = ceiling_fly;
        ceiling_fly = 0
       }
    /* ---- the end of a life, and the next one ---- */
    :: d_step {
        serving && !passing && !stopping && primary_faults < PRIMARY_FAULTS && !clean &&
        next > 1 && durable_p == next - 1 && r[next - 1].done && ceiling_fly == 0 ->
    STOPPED_CLEAN: /* every origin flushed; then, durably: clean at this LSN */
        primary_faults++;
        clean = 1;
        clean_lsn = next;
        stopping = 1;
        up = 0
       }
    :: atomic {
        up && primary_faults < PRIMARY_FAULTS ->
    env_capture_killed:
        primary_faults++;
        super_at_rest();
        up = 0;
        passing = 0;
        redoing = !lost
       }
    :: atomic {
        primary_faults < PRIMARY_FAULTS ->
    env_power_lost: /* the ring is gone; the log beyond what was sent with it */
        primary_faults++;
        super_at_rest();
        up = 0;
        lost = 1;
        passing = 0;
        stopping = 0;
        redoing = 0;
        to_redo = 0;
        for (k : 1 .. N) {
            assert(I12_below_the_ceiling && (!r[k].given || k < ceiling));
            lacks = lacks || (r[k].submitted && !stable(k));
            r[k].ring = 0;
            r[k].sent = 0
        }
        k = 0
       }
    :: d_step {
        !up && !lost && redoing ->
    RING_FOUND: /* reserved but unpublished: void; they were never submitted */
        up = 1;
        clean_fly = clean;
        for (k : 1 .. N) {
            if
            :: r[k].ring == RESERVED ->
                assert(I1_never_missed && !r[k].submitted);
                r[k].ring = PUBLISHED;
                r[k].voided = 1;
                r[k].done = 1
            :: r[k].ring == PUBLISHED && !r[k].done -> to_redo = 1
            :: else
            fi
        }
        k = 0
       }
    :: d_step {
        up && redoing ->
    REDONE: /* published but not done, in LSN order, before anything is served */
        redoing = 0;
#ifndef BUG_REDO_FORGOTTEN
        to_redo = 0;
        for (k : 1 .. N) {
            if
            :: r[k].ring == PUBLISHED && !r[k].done -> r[k].submitted = 1; r[k].done = 1
            :: else
            fi
        }
#endif
        k = 0
       }
    :: d_step {
        !up && !redoing && clean ->
    STARTED_CLEAN: /* it goes on behind its clean end, in a new ring */
        up = 1;
        lost = 0;
        stopping = 0;
        next = clean_lsn;
        durable_p = clean_lsn - 1;
        clean_fly = 1;
        for (k : 1 .. N) {
            r[k].ring = 0;
            r[k].sent = 0
        }
        k = 0
       }
    :: d_step {
        up && clean_fly ->
    CLEAN_CLEARED:
        clean = 0;
        clean_fly = 0
       }
    :: d_step {
        !up && !redoing && lost && !clean && !full_compare ->
    RING_LOST_NOTED: /* what is on the origin and nowhere else is not known any more */
        full_compare = 1
       }
    :: d_step {
#ifdef BUG_PASSED_UNNOTED
        !up && !redoing && lost && !clean ->
#else
        !up && !redoing && lost && !clean && full_compare ->
#endif
    PASSING:
        assert(I1_never_missed && full_compare);
        up = 1;
        passing = 1
       }
    od
}

active proctype link()
{
end:
    do
    :: atomic {
        any(may_send);
    SENT:
        r[k].sent = 1;
#ifdef BUG_LOSS_FORGOTTEN
        r[k].tried = 1;
#endif
        k = 0
       }
    :: atomic {
        any(in_flight);
    env_frame_lost: /* or a duplicate's end */
        r[k].sent = 0;
        count_loss;
        k = 0
       }
    od
}

active proctype standby()
{
end:
    do
    :: atomic {
        any(may_place);
    RECORD_PLACED: /* the frame may stay on the way: a duplicate */
        r[k].copy = PLACED;
        k = 0
       }
    :: d_step {
        running && journal_end < N && r[journal_end + 1].copy == PLACED ->
    JOURNAL_SUBMITTED:
        journal_end++;
        r[journal_end].copy = WRITING;
        assert(I3_journal_is_a_prefix && upto(in_journal, journal_end))
       }
#ifdef BUG_JOURNAL_OUT_OF_ORDER
    :: d_step {
        running && journal_end + 1 < N && r[journal_end + 2].copy == PLACED ->
        journal_end = journal_end + 2;
        r[journal_end].copy = WRITING;
        assert(I3_journal_is_a_prefix && upto(in_journal, journal_end))
       }
#endif
    :: atomic {
        any(writing);
    JOURNAL_WRITTEN: /* one durable write: it is stable when it completes */
#ifdef BUG_PLAIN_WRITE
        r[k].copy = CACHED;
#else
        r[k].copy = STABLE;
#endif
        k = 0
       }
    :: d_step {
        running && reported < N &&
#ifdef BUG_DURABLE_GAP
        ((reported + 1 < N && r[reported + 2].copy >= STABLE) || r[reported + 1].copy == STABLE) ->
#else
#ifdef BUG_ACK_BEFORE_FLUSH
        r[reported + 1].copy >= WRITING ->
#else
#ifdef BUG_PLAIN_WRITE
        r[reported + 1].copy >= CACHED ->
#else
        r[reported + 1].copy == STABLE ->
#endif
#endif
#endif
    DURABLE_REPORTED: /* the contiguous prefix of completed batches, no more */
        reported++;
        assert(I11_reported_is_durable && upto(stable, reported))
       }
    :: d_step {
        running && durable_p < reported && reported < next && up ->
    ACK_TAKEN: /* late, twice or overtaken: watermarks never move back */
        durable_p = reported
       }
    :: atomic {
        running && standby_faults < STANDBY_FAULTS ->
    env_standby_killed:
        standby_faults++;
        running = 0;
        for (k : 1 .. N) {
            if
            :: r[k].copy == WRITING -> r[k].copy = CACHED
            :: r[k].copy == WRITING || r[k].copy == PLACED -> r[k].copy = 0
            :: r[k].copy != WRITING && r[k].copy != PLACED
            fi
        }
        k = 0
       }
    :: atomic {
        standby_faults < STANDBY_FAULTS ->
    env_standby_power_lost:
        standby_faults++;
        running = 0;
        for (k : 1 .. N) {
            if
            :: r[k].copy == WRITING || r[k].copy == CACHED -> r[k].copy = STABLE
            :: r[k].copy != STABLE -> r[k].copy = 0
            :: r[k].copy == STABLE
            fi;
            assert(I11_reported_is_durable && (k > reported || stable(k)))
        }
        k = 0
       }
    :: d_step {
        !running ->
    JOURNAL_RECOVERED: /* what was read is flushed before it counts; behind a hole is nothing */
        running = 1;
        journal_end = 0;
        for (k : 1 .. N) {
            if
            :: journal_end == k - 1 && r[k].copy >= CACHED ->
                journal_end = k;
#ifndef BUG_RECOVERY_TRUSTS_CACHE
                r[k].copy = STABLE
#endif
            :: else -> r[k].copy = 0
            fi
        }
        reported = journal_end;
        k = 0;
        assert(I11_reported_is_durable && (reported == 0 || upto(stable, reported)))
       }
    od
}

/* Nothing more can happen: then everything that could become durable has, and has completed. */
active proctype quiet()
{
    timeout ->
env_everything_settled:
    assert(I16_everything_ends && up && running && !redoing);
    assert(I16_everything_ends && (passing || next == N + 1));
    assert(I16_everything_ends && settled(1) && settled(2) && settled(N));
    assert(I1_never_missed && (full_compare || !lacks))
}
