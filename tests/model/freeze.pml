/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freeze: a mark in the log and an applier that stands behind it (I10, I14).
 *
 * The log is durable in the journal: 1 writes block 0, 2 is the mark, 3 writes block 0 again, 4
 * writes block 1. The image is block 0 as of 1, block 1 as it always was. The replica and the
 * superblock have volatile caches: at a power cut each unflushed block is there or not. The
 * superblock has two slots, and the newer one may be damaged once ("in doubt").
 *
 * A reader reads a block and then asks whether the image still stands; it keeps what it read only
 * if the answer is yes.
 */
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef DAMAGES
#define DAMAGES 1
#endif
#define LAST 4
#define MARK 2
#define block_of(p)  (p == 4)
#define image_of(b)  (b == 0 -> 1 : 0)

bit I10_redo_finds_what_it_needs = 1;
bit I14_frozen_is_the_prefix = 1;
bit I14_kept_is_the_prefix = 1;
bit I14_ended_before_the_fact = 1;
bit I16_everything_applied = 1;

typedef super_t { bit frozen; byte applied };
super_t want, fly, disk, older; /* older: the other slot */
bit dirty, flying, damaged, torn;
byte cached[2], flushed[2]; /* the replica: last position written to each block */
byte position;    /* applied, not necessarily flushed */
bit up = 1, storing, standing, ending, doubt;
byte crashes, damages;
/* the reader */
bit reading, block;
byte piece;

#define both_flushed (cached[0] == flushed[0] && cached[1] == flushed[1])
#ifdef BUG_DOUBT_SAID_FROZEN
#define stands disk.frozen
#else
#define stands (disk.frozen && !(ending && doubt))
#endif

inline take_super(to, from)
{
    to.frozen = from.frozen;
    to.applied = from.applied
}

inline end_freeze()
{
    want.frozen = 0;
    ending = 1;
    dirty = 1
}

/* What would be shown now, and what a power cut would leave. */
inline judge_image()
{
    assert(I14_frozen_is_the_prefix && (!stands || !up || (cached[0] == 1 && cached[1] == 0)));
    assert(I10_redo_finds_what_it_needs &&
           (disk.applied < 1 || flushed[0] == 1 || flushed[0] == 3) &&
           (disk.applied < 3 || flushed[0] == 3) && (disk.applied < 4 || flushed[1] == 4))
}

active proctype standby()
{
end:
    do
    :: d_step {
        up && !storing && !standing && position < LAST && position + 1 != MARK &&
#ifdef BUG_ENDS_EARLY
        true ->
#else
        !ending ->
#endif
    APPLIED: /* written to the replica; a batch never goes on behind a mark */
        position++;
        cached[block_of(position)] = position;
        judge_image()
       }
    :: d_step {
        up && !both_flushed ->
    REPLICA_FLUSHED:
        flushed[0] = cached[0];
        flushed[1] = cached[1]
       }
    :: d_step {
        up && !storing && both_flushed && want.applied < position ->
    APPLIED_PUT:
        want.applied = position;
        dirty = 1
       }
    :: d_step {
        up && !storing && !standing && !ending && position + 1 == MARK &&
#ifdef BUG_FROZEN_UNFLUSHED
        true ->
#else
        both_flushed && want.applied == position && !dirty && !flying ->
#endif
    MARK_REACHED: /* FROZEN and applied = the mark's end: one write */
        want.frozen = 1;
        want.applied = MARK;
        dirty = 1;
        storing = 1
       }
    :: d_step {
        up && storing && disk.frozen && disk.applied == MARK ->
    FROZEN_DURABLE:
        position = MARK;
        storing = 0;
        standing = 1;
        judge_image()
       }
#ifdef BUG_APPLIED_PAST_MARK
    :: d_step {
        up && standing && position < LAST ->
        position++;
        cached[block_of(position)] = position;
        judge_image()
       }
#endif
    :: d_step {
        up && standing && !ending && want.frozen ->
    FREEZE_END_PUT:
        end_freeze()
       }
    :: d_step {
        up && ending &&
#ifdef BUG_ENDS_EARLY
        true ->
#else
        !disk.frozen && !dirty && !flying ->
#endif
    FREEZE_ENDED: /* durably: only now the applier goes on */
        assert(I14_ended_before_the_fact && !disk.frozen);
        ending = 0;
        standing = 0;
        doubt = 0
       }
    :: d_step {
        up && dirty && !flying ->
    SUPER_ISSUED:
        take_super(fly, want);
        flying = 1;
        dirty = 0
       }
    :: d_step {
        up && flying ->
    SUPER_DURABLE: /* into the slot that does not hold the newest state */
        take_super(older, disk);
        take_super(disk, fly);
        flying = 0;
        damaged = 0;
        torn = 0;
        judge_image()
       }
    /* ---- dying, and what the next life finds ---- */
    :: atomic {
        up && crashes < CRASHES ->
    env_standby_died: /* of the replica's unflushed blocks each is there or not */
        crashes++;
        up = 0;
        if
        :: flying -> take_super(older, disk); take_super(disk, fly); damaged = 0; torn = 0
        :: flying -> torn = 1 /* nobody can tell it from damage */
        :: true
        fi;
        if
        :: flushed[0] = cached[0]
        :: true
        fi;
        if
        :: flushed[1] = cached[1]
        :: true
        fi;
        cached[0] = flushed[0];
        cached[1] = flushed[1];
        flying = 0;
        dirty = 0;
        take_super(fly, older);
        storing = 0;
        standing = 0;
        ending = 0;
        doubt = 0
       }
    :: d_step {
        !up && damages < DAMAGES && !torn ->
    env_slot_damaged: /* the newer one: what it said was relied on */
        damages++;
        damaged = 1
       }
    :: d_step {
        !up ->
    STANDBY_STARTED:
        up = 1;
        if
        :: damaged -> take_super(disk, older) /* the next write goes to the damaged slot */
        :: else
        fi;
        take_super(want, disk);
        position = disk.applied;
        standing = disk.frozen;
        doubt = damaged || torn;
        if
#ifndef BUG_DOUBT_IGNORED
        :: doubt && disk.frozen ->
    IN_DOUBT: /* it may have been ended, and the applier gone on */
            end_freeze()
#endif
        :: else -> doubt = 0
        fi;
        judge_image()
       }
    od
}

active proctype reader()
{
end:
    do
    :: atomic {
        up && !reading && stands ->
    env_piece_read:
        reading = 1;
        if
        :: block = 0
        :: block = 1
        fi;
        piece = cached[block]
       }
    :: d_step {
        reading && up ->
    STILL_FROZEN:
        assert(I14_kept_is_the_prefix && (!stands || piece == image_of(block)));
        reading = 0;
        block = 0;
        piece = 0
       }
    od
}

active proctype quiet()
{
    timeout ->
env_everything_applied:
    assert(I16_everything_applied && up && position == LAST && disk.applied == LAST)
}
