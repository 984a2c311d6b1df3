/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Promotion, and an old primary that comes back (I9, I10, I12, I13, I18).
 *
 * A is the primary of epoch 1. It is not fenced and goes on as its mode allows: mode sync or
 * semisync with on-link-loss = block until its record MODE_AT says otherwise and the standby has
 * stored that. B is the standby; an operator promotes it at any time, again if need be. B's daemon
 * and host die at any moment: a superblock write in flight has happened or not, unflushed bytes of
 * the replica are there or not. Once B's primary metadata exist, its capture side may write.
 */
#ifndef N
#define N 3 /* records of epoch 1 */
#endif
#ifndef CRASHES
#define CRASHES 2 /* of B */
#endif
#ifndef MODE_AT
#define MODE_AT 2 /* the record that ends sync, block */
#endif

bit I9_acknowledged_is_taken_over = 1;
bit I10_replica_is_the_log = 1;
bit I11_reported_is_kept = 1;
bit I12_forks_never_merge = 1;
bit I13_older_epoch_is_refused = 1;
bit I13_epoch_durable_before_write = 1;
bit I13_no_redo_over_the_new_epoch = 1;
bit I16_promotion_ends = 1;
bit I18_zero_proven = 1;

#define PROMOTING 1
#define PROMOTED  2
typedef super_t { bit second, free; byte state, applied, position; bit zero_proven };
mtype = { none, journal, epoch, stored, drain, metadata, finish, done };

/* A, the old primary */
byte produced, completed, durable_a; /* what it was told, and waits for */
bit session_a, turned_away, semisync;
/* B, the standby: its memory */
bit up = 1, ready = 1, session_b;
byte acked, journalled, reported, cached; /* cached: applied in this life, not flushed */
mtype promotion = none;
bit storing; /* an applied mode record waits for the superblock */
/* B's disk */
byte flushed; /* of the replica */
super_t want, fly, disk;
bit dirty, flying, md, md_flying;
byte own;  /* records of epoch 2 in the replica */
byte crashes;
bit forgot; /* B crashed with acknowledged records in memory alone */

inline take_super(to, from)
{
    to.second = from.second;
    to.free = from.free;
    to.state = from.state;
    to.applied = from.applied;
    to.position = from.position;
    to.zero_proven = from.zero_proven
}

#define free_a  (durable_a >= MODE_AT) /* A waits for nobody any more */
#define lost_to_promotion (completed > disk.position)

inline judge_claim()
{
    assert(I18_zero_proven && !(disk.second && disk.zero_proven && lost_to_promotion));
    assert(I9_acknowledged_is_taken_over &&
           !(disk.second && !free_a && !forgot && lost_to_promotion))
}

active proctype old_primary()
{
end:
    do
    :: d_step { produced < N -> RECORD_PRODUCED: produced++ }
    :: d_step {
        completed < produced && (completed + 1 <= durable_a || free_a) ->
    WRITE_COMPLETED:
        completed++;
        judge_claim()
       }
    :: d_step {
        session_a && durable_a < (semisync -> acked : reported) && session_b && up ->
    ACK_TAKEN:
        durable_a = (semisync -> acked : reported)
       }
    :: d_step {
        !(session_a && session_b) && up && ready && !turned_away ->
    RETURNS: /* hello, and the standby's judgement of it */
        if
#ifndef BUG_KINSHIP_UNCHECKED
        :: want.second -> /* our epoch is the older one: after that it asks no more */
            session_a = 0;
            turned_away = disk.second
#endif
#ifndef BUG_HELLO_WHILE_PROMOTING
        :: promotion != none && !want.second -> session_a = 0
#endif
        :: else ->
            if
            :: durable_a > acked && semisync == 0 -> session_a = 0 /* it lost what it reported */
            :: else ->
                session_a = 1;
                session_b = 1;
                assert(I13_older_epoch_is_refused && !disk.second && promotion == none)
            fi
        fi
       }
    od
}

active proctype standby()
{
    if
    :: semisync = 0
    :: semisync = 1
    fi;
end:
    do
    :: d_step {
        up && ready && session_a && session_b && acked < produced ->
    RECORD_PLACED:
        acked++;
        assert(I12_forks_never_merge && !want.second && promotion == none)
       }
    :: d_step { up && journalled < acked -> JOURNAL_DURABLE: journalled++ }
    :: d_step {
        up && !storing && reported < journalled &&
#ifdef BUG_MODE_REPORTED_UNSTORED
        true ->
#else
        (reported + 1 != MODE_AT || disk.free) ->
#endif
    DURABLE_REPORTED: /* never past a mode record that the superblock does not know */
        reported++
       }
    :: d_step {
        up && journalled >= MODE_AT && !want.free && ready ->
    MODE_SEEN:
        want.free = 1;
        dirty = 1
       }
    /* ---- superblock ---- */
    :: d_step {
        up && dirty && !flying ->
    SUPER_ISSUED:
        take_super(fly, want);
        flying = 1;
        dirty = 0
       }
    :: d_step {
        up && flying ->
    SUPER_DURABLE:
        take_super(disk, fly);
        flying = 0;
        judge_claim()
       }
    /* ---- apply ---- */
    :: d_step {
        up && cached < reported && !storing ->
    APPLIED:
        assert(I13_no_redo_over_the_new_epoch && own == 0);
        cached++;
        if
        :: cached == MODE_AT && !disk.free -> want.free = 1; dirty = 1; storing = 1
        :: else
        fi
       }
    :: d_step { up && storing && disk.free -> MODE_STORED: storing = 0 }
    :: d_step { up && flushed < cached -> REPLICA_FLUSHED: flushed = cached }
    :: d_step {
        up && want.applied < cached && cached <= flushed && !storing ->
    APPLIED_PUT:
        want.applied = cached;
        dirty = 1
       }
    :: d_step { up && !ready && cached >= reported && !storing -> REDONE: ready = 1 }
    /* ---- promotion ---- */
    :: d_step {
        up && ready && promotion == none ->
    FAILOVER_ORDERED:
        promotion = journal;
#ifndef BUG_SESSION_KEPT
        session_b = 0
#endif
       }
    :: d_step {
        up && promotion == journal &&
#ifdef BUG_MEMORY_FORGOTTEN
        true ->
#else
        journalled == acked && reported == journalled ->
#endif
    EVERYTHING_JOURNALLED:
        promotion = epoch
       }
    :: d_step {
        up && promotion == epoch ->
    EPOCH_PUT: /* epoch, where its parent ended, PROMOTING and the loss class: one write */
        want.second = 1;
        want.state = PROMOTING;
        want.position = reported;
        want.zero_proven = !semisync && !disk.free && !want.free;
        dirty = 1;
        promotion = stored
       }
    :: d_step {
        up && promotion == stored &&
#ifdef BUG_EPOCH_NOT_AWAITED
        true ->
#else
        disk.second ->
#endif
    NEW_EPOCH_DURABLE:
        promotion = drain
       }
    :: d_step {
        up && promotion == drain &&
#ifdef BUG_UNDRAINED
        true ->
#else
#ifdef BUG_APPLIED_NOT_STORED
        cached >= want.position && flushed >= cached ->
#else
        cached >= want.position && disk.applied >= want.position ->
#endif
#endif
    DRAINED:
        md_flying = !md;
        promotion = metadata
       }
    :: d_step { up && md_flying -> PRIMARY_MD_DURABLE: md = 1; md_flying = 0 }
    :: d_step {
        up && promotion == metadata && md ->
    PROMOTED_PUT:
        want.state = PROMOTED;
        want.applied = (want.applied < want.position -> want.position : want.applied);
        dirty = 1;
        promotion = finish
       }
    :: d_step {
        up && promotion == finish && disk.state == PROMOTED ->
    PROMOTION_DONE:
        promotion = done
       }
    /* ---- dying, and what the next life finds ---- */
    :: atomic {
        up && crashes < CRASHES && promotion != done ->
    env_standby_died:
        crashes++;
        up = 0;
        session_b = 0;
        forgot = forgot || (semisync && acked > journalled);
        if
        :: flying -> take_super(disk, fly)
        :: true
        fi;
        if
        :: md_flying -> md = 1
        :: true
        fi;
        flying = 0;
        dirty = 0;
        md_flying = 0;
        do
        :: cached > flushed -> cached--
        :: break
        od;
        flushed = (cached > flushed -> cached : flushed);
        take_super(fly, disk);
        assert(I11_reported_is_kept && journalled >= reported);
        judge_claim()
       }
    :: d_step {
        !up ->
    STANDBY_RECOVERED: /* the journal to its end; redo from what is stored as applied */
        up = 1;
        take_super(want, disk);
        acked = journalled;
        reported = journalled;
        cached = disk.applied;
        storing = 0;
        if
        :: disk.state == PROMOTED -> promotion = done; ready = 1
        :: disk.state == PROMOTING -> promotion = drain; ready = 0
        :: else -> promotion = none; ready = 0
        fi
       }
    od
}

/* B's capture side: started by whoever sees its metadata, as early as they exist. */
active proctype new_primary()
{
end:
    do
    :: d_step {
        md && own < 1 ->
    FIRST_WRITE:
        own++;
        assert(I13_epoch_durable_before_write && disk.second);
        assert(I10_replica_is_the_log && flushed == disk.position)
       }
    od
}

active proctype quiet()
{
    timeout ->
env_everything_settled:
    assert(I16_promotion_ends && up && (promotion == none || (promotion == done && own == 1)))
}
