/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty map, gap, resync and pin (I1, I2, I10, I12, I16, I18).
 *
 * One region of one block. The primary captures writes, goes behind and comes back with `gap`,
 * loses its ring, and suffers origin errors; the region is marked before a write, stale by what the
 * log does not mend, compared and healed. The standby pins at the first gap or resync-begin, saves
 * the before-image, may die at any moment, and may be promoted at any moment. A record is one
 * position and one byte: its type, and for a write or block its content.
 */
#ifndef WRITES
#define WRITES 2 /* captured */
#endif
#ifndef PASSES
#define PASSES 2 /* uncaptured */
#endif
#ifndef BEHINDS
#define BEHINDS 2
#endif
#ifndef RING_LOSSES
#define RING_LOSSES 0
#endif
#ifndef ERRORS
#define ERRORS 0 /* of the origin */
#endif
#ifndef CRASHES
#define CRASHES 1 /* of the standby */
#endif
#ifndef BREAKS
#define BREAKS 0 /* of the session, while a compare is under way */
#endif
#define N 24

bit I1_never_missed = 1;
bit I2_clean_is_equal = 1;
bit I10_pin_is_consistent = 1;
bit I10_promoted_is_consistent = 1;
bit I16_resync_ends = 1;
bit I18_no_further_back = 1;

/* Records: content 0 or 1 of a write or block, or … */
#define LOST  2 /* went with the ring; the standby has the next epoch's gap behind it */
#define GAP   3
#define BEGIN 4
#define END   5
#define is_content(r) (r < LOST)
#define NOT_CONSISTENT 7
#define NONE 0
#define SET 1
#define CLEAR 2

/* ---- primary ---- */
byte rec[N];
byte img[N]; /* for the judge: the block at this prefix of the log, or NOT_CONSISTENT */
byte produced;
bit origin, consistent = 1;
bit passing, begun;
bit writing, passed, write_value; /* one write holds the range: captured, or not */
bit hot, stale;
byte end_lsn, since, begin_lsn, event;
bit marked;   /* durable */
byte meta;    /* transaction in flight */
byte known;   /* durable at the standby, as reported */
byte writes, passes, behinds, ring_losses, errors;
/* compare */
mtype = { idle, asked, unequal };
mtype compare = idle;
byte compare_event, breaks;
byte after;
bit hashed_here, hashed_there, hash_here, hash_there;
/* ---- standby: memory, then disk ---- */
bit up = 1, replica, written;
bit promoting;
byte durable;
bit flushed;             /* content of the replica after a power cut */
byte applied, pin_lsn;   /* superblock */
bit in_resync, pinned, rolling_back, promoted;
byte position;
bit saved, before;       /* the pin's before-image */
byte crashes, said;
byte i;
bit redone;

/* Content of a standby that has applied everything up to `to`. */
inline redo(to)
{
    redone = replica;
    i = applied + 1;
    do
    :: i <= to ->
        if
        :: is_content(rec[i]) -> redone = rec[i]
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

inline append(what)
{
    produced++;
    assert(produced < N);
    rec[produced] = what;
    if
    :: !consistent -> img[produced] = NOT_CONSISTENT
    :: consistent && is_content(what) -> img[produced] = what
    :: else -> img[produced] = img[produced - 1]
    fi
}

inline close_interval()
{
    consistent = 0
}

/* The log alone makes equal what is not stale. */
inline judge_clean()
{
    redo(produced);
    assert(I2_clean_is_equal && (promoting || stale || writing || passed || redone == origin));
    redone = 0
}

inline forget_compare()
{
    compare = idle;
    compare_event = 0;
    after = 0;
    hashed_here = 0;
    hashed_there = 0;
    hash_here = 0;
    hash_there = 0
}

inline make_stale()
{
    stale = 1;
    event++;
    since = produced
}

#ifdef BUG_MARK_BEING_CLEARED
#define durably_marked marked
#else
#define durably_marked (marked && meta != CLEAR)
#endif
#ifdef BUG_WRITTEN_UNMARKED
#define may_write true
#else
#define may_write durably_marked
#endif

active proctype primary()
{
end:
    do
    /* ---- marks ---- */
    :: d_step {
        !marked && meta == NONE && (passing -> passes < PASSES : writes < WRITES) ->
    MARK_ISSUED:
        meta = SET
       }
    :: d_step {
        marked && meta == NONE && !hot && !stale && !writing && !passed ->
    CLEAR_ISSUED: /* names the durable position that it relies on */
        meta = CLEAR
       }
    :: d_step { meta == SET -> MARK_DURABLE: marked = 1; meta = NONE }
    :: d_step { meta == CLEAR -> CLEAR_DURABLE: marked = 0; meta = NONE }
    /* ---- writes ---- */
    :: atomic {
        !passing && may_write && !writing && !passed && writes < WRITES ->
    WRITE_CAPTURED:
        writes++;
        if
        :: write_value = 0
        :: write_value = 1
        fi;
        d_step {
            writing = 1;
            append(write_value);
            hot = 1;
            end_lsn = produced
        }
       }
    :: atomic {
        passing && may_write && !writing && !passed && passes < PASSES ->
    WRITE_PASSED:
        passes++;
        if
        :: write_value = 0
        :: write_value = 1
        fi;
        d_step { passed = 1; make_stale() }
       }
    :: d_step {
        writing || passed ->
    ORIGIN_WRITTEN:
        origin = write_value;
        writing = 0;
        passed = 0;
        write_value = 0;
        judge_clean()
       }
    :: atomic {
        writing && errors < ERRORS ->
    ORIGIN_FAILED:
        errors++;
        if
        :: origin = write_value
        :: true
        fi;
        d_step {
            writing = 0;
            write_value = 0;
#ifndef BUG_ERROR_IGNORED
            make_stale();
#endif
            judge_clean()
        }
       }
    /* ---- behind, and back ---- */
    :: d_step {
        !passing && behinds < BEHINDS ->
    WENT_BEHIND:
        behinds++;
        passing = 1;
        begun = 0;
        forget_compare()
       }
    :: d_step {
        passing && durable == produced && !promoting ->
    RETURNED: /* the old epoch is wholly there; capture goes on in a new one */
        passing = 0;
        close_interval();
        append(GAP)
       }
    :: d_step {
        !passing && !begun && (!consistent || stale) &&
#ifdef BUG_BEGUN_TOO_EARLY
        true ->
#else
        !passed ->
#endif
    RESYNC_BEGUN: /* every uncaptured write has ended */
        close_interval();
        append(BEGIN);
        begin_lsn = produced;
        begun = 1
       }
    :: d_step {
        begun && !stale && compare == idle ->
    RESYNC_ENDED:
        judge_clean();
        redo(produced);
        append(END);
        img[produced] = redone;
        redone = 0;
        consistent = 1;
        begun = 0;
        begin_lsn = 0
       }
    /* ---- acks ---- */
    :: d_step {
        known < durable && !promoting ->
    ACK_TAKEN:
        known = durable
       }
    :: d_step {
        hot && known >= end_lsn && !writing ->
    ACTIVE_CLEARED:
        hot = 0;
        end_lsn = 0;
#ifdef BUG_ACK_CLEARS_STALE
        stale = 0;
#endif
        judge_clean()
       }
    /* ---- compare ---- */
    :: d_step {
        begun && stale && compare == idle && !promoting ->
    COMPARE_ASKED:
        compare = asked;
        compare_event = event;
        after = (begin_lsn > since -> begin_lsn : since)
       }
    :: d_step {
        compare == asked && !hashed_here ->
    ORIGIN_HASHED:
        hashed_here = 1;
        hash_here = origin
       }
    :: d_step {
        compare == asked && hashed_here && hashed_there && hash_here == hash_there ->
    EQUAL_HEALED: /* only if nothing made it stale again */
        if
#ifdef BUG_EVENT_UNCHECKED
        :: true ->
#else
        :: event == compare_event ->
#endif
            stale = 0;
            hot = 1;
            end_lsn = (end_lsn > after -> end_lsn : after)
#ifndef BUG_EVENT_UNCHECKED
        :: else
#endif
        fi;
        forget_compare();
        judge_clean()
       }
    :: d_step {
        compare == asked && hashed_here && hashed_there && hash_here != hash_there ->
    FOUND_UNEQUAL:
        compare = unequal
       }
    :: d_step {
        compare == unequal &&
#ifdef BUG_BLOCK_UNLOCKED
        true ->
#else
        !writing && !passed ->
#endif
    BLOCK_HEALED:
        /* read under the range lock; LSN given before that is released */
#ifdef BUG_BLOCK_UNLOCKED
        append(hash_here);
#else
        append(origin);
#endif
        if
        :: event == compare_event ->
            stale = 0;
            hot = 1;
            end_lsn = produced
        :: else
        fi;
        forget_compare();
        judge_clean()
       }
    :: d_step {
        compare != idle && breaks < BREAKS ->
    env_session_broke:
        breaks++;
        forget_compare()
       }
    /* ---- the ring is lost ---- */
    :: atomic {
        ring_losses < RING_LOSSES && !promoting ->
    env_ring_lost:
        ring_losses++;
        if
        :: writing || passed -> origin = write_value
        :: true
        fi;
        if
        :: meta == SET -> marked = 1
        :: meta == CLEAR -> marked = 0
        :: true
        fi;
        d_step {
            writing = 0;
            passed = 0;
            write_value = 0;
            meta = NONE;
            passing = 1;
            begun = 0;
            hot = 0;
            end_lsn = 0;
            known = durable;
            forget_compare();
            i = durable + 1;
            do
            :: i <= produced ->
                rec[i] = LOST;
                img[i] = img[i - 1];
                i++
            :: else -> break
            od;
            i = 0;
            consistent = (img[produced] != NOT_CONSISTENT);
            stale = 0
        };
    HOT_IS_STALE: /* what is marked, and nothing else */
        d_step {
            if
            :: marked -> make_stale()
            :: else
            fi;
            redo(durable);
            assert(I1_never_missed && (stale || redone == origin));
            redone = 0
        }
       }
    od
}

#define next_rec rec[applied + 1]
#define may_apply (up && !promoted && !rolling_back && position == 0 && applied < durable)

inline judge_promoted()
{
    assert(I10_promoted_is_consistent && img[position] != NOT_CONSISTENT &&
           flushed == img[position])
}

/* The furthest consistent position of what is durable here. */
inline furthest()
{
    said = durable;
    do
    :: img[said] == NOT_CONSISTENT -> said--
    :: else -> break
    od;
    i = 0
}

active proctype standby()
{
end:
    do
    :: d_step {
        up && durable < produced && !promoting ->
    RECORD_DURABLE:
        durable++
       }
    /* ---- apply ---- */
    :: d_step {
        may_apply && next_rec == LOST ->
    HOLE_CROSSED:
        applied++
       }
    :: d_step {
        may_apply && (next_rec == GAP || next_rec == BEGIN) && (in_resync || !saved) ->
    PINNED:
        /* the first of them pins, in the write that says RESYNC; the others find it so */
        if
#ifdef BUG_PINNED_AGAIN
        :: next_rec == GAP || !in_resync ->
            saved = 0;
#else
        :: !in_resync ->
#endif
            in_resync = 1;
            pinned = 1;
            pin_lsn = applied;
            assert(I10_pin_is_consistent && img[pin_lsn] != NOT_CONSISTENT)
        :: else
        fi;
        applied++
       }
    :: d_step {
        may_apply && next_rec == END && pinned ->
    INTERVAL_OPENED:
        /* RESYNC and PINNED go in one write; then the pin's space */
        in_resync = 0;
        pinned = 0;
        pin_lsn = 0;
        applied++
       }
    :: d_step {
        up && saved && !pinned ->
    PIN_FREED:
        saved = 0;
        before = 0
       }
    :: d_step {
        may_apply && is_content(next_rec) && pinned && !saved && !written ->
    BEFORE_IMAGE_SAVED:
        saved = 1;
        before = replica
       }
    :: d_step {
        may_apply && is_content(next_rec) && !written &&
#ifdef BUG_OVERWRITTEN_UNSAVED
        true ->
#else
        (!pinned || saved) ->
#endif
    REPLICA_WRITTEN:
        replica = next_rec;
        written = 1
       }
    :: d_step {
        may_apply && written ->
    APPLIED_STORED: /* the replica was flushed before */
        flushed = replica;
        written = 0;
        applied++
       }
    /* ---- compare ---- */
    :: d_step {
        up && compare == asked && !hashed_there && !written && !promoting &&
#ifdef BUG_HASHED_EARLY
        true ->
#else
        applied >= after ->
#endif
    REPLICA_HASHED:
        hashed_there = 1;
        hash_there = replica
       }
    /* ---- promotion ---- */
    :: d_step {
        up && !promoting ->
    PROMOTION_ORDERED:
        promoting = 1;
        furthest()
       }
    :: d_step {
        up && promoting && position == 0 && !promoted &&
#ifdef BUG_DECIDED_EARLY
        true ->
#else
        applied == durable ->
#endif
    PROMOTION_DURABLE:
        /* once all is applied: is this a consistent state, or is it the pin's? */
#ifdef BUG_RESYNC_PROMOTED
        position = durable + 1;
#else
        position = (in_resync -> pin_lsn : applied) + 1; /* + 1: never 0 here */
        rolling_back = in_resync;
#endif
        written = 0
       }
    :: d_step {
        up && rolling_back && saved && replica != before ->
    ROLLED_BACK: /* again and again, after each crash */
        replica = before
       }
    :: d_step {
        up && position != 0 && !promoted &&
#ifdef BUG_OPENED_BEFORE_ROLLBACK
        true ->
#else
        (!rolling_back || !saved || replica == before) ->
#endif
    OPENED:
        flushed = replica;
        position--;
        assert(I18_no_further_back && position >= said);
        judge_promoted();
        rolling_back = 0;
        promoted = 1;
        up = 0
       }
    /* ---- dying ---- */
    :: atomic {
        up && crashes < CRASHES ->
    env_standby_died:
        crashes++;
        written = 0;
        if
        :: flushed = replica
        :: replica = flushed
        fi;
        if
        :: position == 0 -> promoting = 0; said = 0
        :: else
        fi;
        forget_compare()
       }
    od
}

active proctype quiet()
{
    timeout ->
env_everything_settled:
    assert(I16_resync_ends && (promoted || promoting ||
           (!stale && !hot && !passing && !begun && !in_resync && !saved && !marked &&
            replica == origin && applied == produced)))
}
