/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contact, degraded, and what a standby alone may say about loss (I9, I18).
 *
 * Mode sync, on-link-loss = continue. Capture and replicator are two processes: what the replicator
 * has seen counts only once capture has taken it. Time is in ticks, as ages that stop counting when
 * they no longer matter, so that time is not bounded. The two sites' clocks may drift apart by
 * DRIFT ticks. The link loses and delays: a frame not taken is
 * overwritten by a later one.
 *
 * A log position is a write, or the mode record that leads back from degraded (`mode_at`).
 */
#ifndef N
#define N 3 /* log positions */
#endif
#ifndef LIVES
#define LIVES 2 /* of the capture process */
#endif
#ifndef T
#define T 2 /* contact timeout, in ticks: so long after t0 the standby counts on the primary */
#endif
#ifndef DRIFT
#define DRIFT 1
#endif
#ifdef BUG_NO_DRIFT_MARGIN
#define PATIENCE T
#else
#define PATIENCE (T + DRIFT) /* of the primary, whose clock may be the faster one */
#endif

bit I9_degraded_before_alone = 1;
bit I9_completed_is_durable = 1;
bit I18_zero_if_fenced = 1;

mtype = { waiting, degrading, degraded, rejoin };
#define CLEARING 1
#define SETTING 2

/* An ack as the standby remembers it: what it told, how long ago it left, and how long ago the
 * durable position in it was told first. Ages of OLD are of no use, whatever they are. */
#define OLD T
typedef ack_t { bit valid; byte durable; byte sent; byte progress };

/* capture */
mtype stage = waiting;
byte produced, completed, durable_p, mode_at;
byte lives = 1;
bit want, dirty, disk; /* DEGRADED: wanted, not issued yet, durable */
byte fly;              /* the superblock write in flight */
bit passing;           /* the ring was lost: writes pass by, uncaptured */
byte age_contact, age_hold;
/* replicator */
bit session, took; /* took: capture has taken the contact that `seen` stands for */
byte rep_durable, age_heard;
ack_t seen;
/* on the link */
ack_t ack;
bit ping_valid, ping_replicating;
byte ping_produced;
byte ping_age = OLD; /* of the ack that it confirms, as the standby will date it */
/* standby */
byte durable_s, told;
byte age_progress = OLD; /* OLD: never */
byte age_t0 = OLD;
byte proof = N + 1; /* durable must reach it before t0 moves; N + 1: not now */
byte lead;          /* ticks that the primary's clock is ahead */

#define surely_set   (disk && fly != CLEARING)
#define surely_clear (!disk && fly != SETTING)
#ifdef BUG_STATE_TOLD_LATE
#define replicating ((stage == waiting || stage == degrading) && surely_clear)
#else
#ifdef BUG_CLEARED_IN_MEMORY
#define replicating (stage == waiting)
#else
#define replicating (stage == waiting && surely_clear)
#endif
#endif
#define next_write (completed + 1 + (completed + 1 == mode_at))
#define older(age, max) age = (age < max -> age + 1 : age)
#define younger(a, b) (a < b -> a : b)

inline forget(a)
{
    a.valid = 0;
    a.durable = 0;
    a.sent = 0;
    a.progress = 0;
}

inline copy(to, from)
{
    to.valid = from.valid;
    to.durable = from.durable;
    to.sent = from.sent;
    to.progress = from.progress;
}

/* How the standby will date the ack that a ping confirms: it knows what it had told in it. */
inline confirm(it_counts)
{
    if
    :: it_counts ->
#ifdef BUG_DATED_BY_SENDING
        ping_age = seen.sent
#else
        ping_age = (produced <= seen.durable -> seen.sent : seen.progress)
#endif
    :: else -> ping_age = OLD
    fi
}

inline take_ack()
{
    rep_durable = (ack.durable > rep_durable -> ack.durable : rep_durable);
    age_heard = 0;
    if
    :: copy(seen, ack); took = 0
    :: seen.valid /* the older one is kept: it has not been confirmed yet */
    fi
}

inline primary_ages()
{
    older(age_contact, PATIENCE);
    older(age_heard, PATIENCE);
    if
    :: durable_p < produced || passing -> older(age_hold, PATIENCE)
    :: else
    fi
}

inline ack_ages(a)
{
    if
    :: a.valid ->
        older(a.sent, OLD);
        older(a.progress, OLD)
    :: else
    fi
}

inline standby_ages()
{
    older(age_progress, OLD);
    older(age_t0, OLD);
    older(ping_age, OLD);
    ack_ages(ack);
    ack_ages(seen)
}

inline next_life()
{
    if
    :: fly != 0 -> disk = (fly == SETTING)
    :: true
    fi;
    fly = 0;
    dirty = 0;
    age_contact = 0;
    age_hold = 0;
    session = 0; /* another lease: the replicator says hello again */
    forget(seen);
    took = 0;
    lives++
}

active proctype capture()
{
end:
    do
    :: d_step {
        produced < N && stage != rejoin && !passing ->
    WRITE_RESERVED:
        produced++
       }
    :: d_step {
        next_write <= produced && next_write <= durable_p && !passing ->
    WRITE_COMPLETED:
        completed = next_write;
        assert(I9_completed_is_durable && completed <= durable_s)
       }
    :: d_step {
        next_write <= produced && next_write > durable_p && !passing &&
#ifdef BUG_DEGRADED_EARLY
        (stage == degraded || stage == degrading) ->
#else
        stage == degraded ->
#endif
    WRITE_COMPLETED_ALONE:
        completed = next_write;
        assert(I9_degraded_before_alone && (completed <= durable_s || surely_set));
        assert(I18_zero_if_fenced && (completed <= durable_s || age_t0 >= T))
       }
    :: d_step {
        (stage == waiting || stage == rejoin) && durable_p < produced &&
        (age_hold >= PATIENCE || age_contact >= PATIENCE) ->
    DEGRADE_DECIDED:
        stage = degrading;
        dirty = (want -> dirty : 1);
        want = 1
       }
    :: d_step {
        dirty && fly == 0 ->
    META_ISSUED:
        fly = (want -> SETTING : CLEARING);
        dirty = 0
       }
    :: d_step {
        fly != 0 ->
    META_DURABLE:
        disk = (fly == SETTING);
        fly = 0
       }
    :: d_step {
        stage == degrading && surely_set ->
    DEGRADED_DURABLE:
        stage = degraded
       }
    :: d_step {
        stage == degraded && produced < N && !passing ->
    REJOIN_PUT:
        produced++;
        mode_at = produced;
        age_hold = 0;
        stage = rejoin
       }
    :: d_step {
        stage == rejoin && durable_p >= mode_at ->
    REJOIN_STORED:
        stage = waiting;
        dirty = (want -> 1 : dirty);
        want = 0
       }
    :: atomic {
        lives < LIVES && !passing ->
    CAPTURE_RESTARTED: /* the ring survives; what is read of the metadata is flushed first */
        next_life();
        want = disk;
        stage = (disk -> degraded : waiting)
       }
    :: atomic {
        lives < LIVES && !passing ->
    RING_LOST: /* full compare required, and degraded: both durable before anything passes */
        next_life();
        passing = 1;
        dirty = !disk;
        want = 1;
        stage = degrading
       }
    :: d_step {
        passing && surely_set &&
#ifdef BUG_PASSES_AT_ONCE
        true ->
#else
        age_hold >= PATIENCE ->
#endif
    PASSED_ALONE: /* the standby may have heard of the earlier life a moment ago */
        completed = N + 1;
        assert(I9_degraded_before_alone && surely_set);
        assert(I18_zero_if_fenced && age_t0 >= T)
       }
    od
}

active proctype replicator()
{
end:
    do
    :: d_step {
        !session && !passing -> /* with full compare required it is refused */
    SESSION_BEGUN: /* frames of the old one are not taken any more */
        session = 1;
        forget(ack);
        ping_valid = 0;
        ping_replicating = 0;
        ping_produced = 0;
        ping_age = OLD;
        told = durable_s;
        age_progress = OLD;
        proof = N + 1
       }
#ifdef ACK_DELAY
    :: atomic { session && ack.valid -> ACK_TAKEN: take_ack(); forget(ack) }
#endif
    :: d_step {
        session && (rep_durable > durable_p || age_heard < age_contact || (seen.valid && !took)) ->
    REPORT_TAKEN:
        age_hold = (rep_durable > durable_p -> 0 : age_hold);
        durable_p = (rep_durable > durable_p -> rep_durable : durable_p);
        age_contact = (age_heard < age_contact -> age_heard : age_contact);
        took = seen.valid
       }
    :: d_step {
        session ->
    PING_SENT: /* the look at capture's page is part of it */
        ping_valid = 1;
        ping_produced = produced;
        ping_replicating = replicating;
#ifdef BUG_CONFIRM_UNTAKEN
        confirm(seen.valid)
#else
        confirm(seen.valid && took && replicating)
#endif
       }
    od
}

active proctype standby()
{
end:
    do
    :: d_step {
        session && durable_s < produced ->
    STANDBY_DURABLE:
        durable_s++
       }
    :: atomic {
        session ->
    ACK_SENT:
        age_progress = (durable_s > told -> 0 : age_progress);
        told = durable_s;
        ack.valid = 1;
        ack.durable = durable_s;
        ack.sent = 0;
        ack.progress = age_progress;
#ifndef ACK_DELAY
        /* An ack that arrives late makes the primary wait longer, nothing else. */
        if
        :: take_ack()
        :: true /* lost */
        fi;
        forget(ack)
#endif
       }
    :: d_step {
        ping_valid ->
    CONTACT_DATED:
        if
        :: !ping_replicating -> proof = N + 1
        :: else ->
            proof = (proof == N + 1 -> ping_produced : proof);
#ifdef BUG_T0_BY_RECEIPT
            age_t0 = 0
#else
#ifdef BUG_NO_PROOF
            age_t0 = younger(age_t0, ping_age)
#else
            age_t0 = (durable_s >= proof -> younger(age_t0, ping_age) : age_t0)
#endif
#endif
        fi;
        ping_valid = 0;
        ping_replicating = 0;
        ping_produced = 0;
        ping_age = OLD;
        assert(I18_zero_if_fenced && (completed <= durable_s || age_t0 >= T))
       }
    od
}

active proctype clocks()
{
end:
    do
#if DRIFT == 0
    :: d_step { true -> env_tick: primary_ages(); standby_ages() }
#else
    :: d_step { lead < DRIFT -> env_primary_tick: lead++; primary_ages() }
    :: d_step { lead > 0 -> env_standby_tick: lead--; standby_ages() }
#endif
    od
}
