/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions, leases and lost memory (I6, I12): replicators that are replaced while they still run,
 * frames and acks of an older session, a standby whose disk went back to an older state, one that
 * was made anew, a primary that lost its ring.
 *
 * A record's content is the life of the primary that made it, so that a fork is seen. The link
 * loses, duplicates and reorders: one frame of each kind is in flight, is taken any number of times
 * and is replaced at any time.
 */
#ifndef N
#define N 3 /* LSNs */
#endif
#ifndef LEASES
#define LEASES 3
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 1 /* of the standby */
#endif
#ifndef SESSIONS
#define SESSIONS 3 /* numbers are random in truth, and never the same again */
#endif
#ifndef RING_LOSSES
#define RING_LOSSES 1 /* of the primary */
#endif
#ifndef PRIMARY_ROLLBACKS
#define PRIMARY_ROLLBACKS 1
#endif
#ifndef RESEEDS
#define RESEEDS 1
#endif

bit I6_stale_lease_is_refused = 1;
bit I12_loss_is_found_out = 1;
bit I12_forks_never_merge = 1;

typedef replicator_t { byte lease, session, durable };
typedef hello_t { byte lease, durable, produced, replica, ring, first; bit full_compare };
typedef welcome_t { byte lease, session, durable, replica };

/* capture */
byte lease, produced, durable_p, bound; /* bound: the replica that the metadata is relative to */
byte life = 1;
bit full_compare;
byte ring[N + 1];   /* content, 0: none */
byte ring_id = 1, ring_first; /* which ring, and what was produced before it */
byte saved;         /* an older state of the metadata: stopped clean at this position */
byte clean_starts, primary_rollbacks, ring_losses;
/* two replicators: the one that holds the lease, and one that does not know better */
replicator_t rep[2];
byte newest; /* index of the one attached last */
hello_t hello;     /* lease 0: none in flight */
welcome_t welcome; /* session 0: none */
byte data_session, data_lsn, data_content;
byte ack_session, ack_durable;
/* standby */
byte session, session_lease, sessions, durable_s;
byte replica = 1;
byte copy[N + 1];
bit told_full_compare; /* durable */
byte known_ring; /* of the primary it last welcomed; durable before the welcome */
byte rollbacks, reseeds;
/* The standby lost something that the primary's newest session does not rest on yet. */
bit unnoticed;
byte i;

#ifdef BUG_FULL_COMPARE_IGNORED
#define may_produce true
#define told_as_is true
#define refused_for_full_compare false
#else
#define may_produce (!full_compare)
#define told_as_is (!full_compare)
#define refused_for_full_compare (hello.full_compare || told_full_compare)
#endif
#define stale (rep[_pid - 1].lease != lease || session != welcome.session)
#define may_restart (lease < LEASES)
#define max(a, b) (a > b -> a : b)

inline forget_hello()
{
    hello.lease = 0;
    hello.durable = 0;
    hello.produced = 0;
    hello.replica = 0;
    hello.ring = 0;
    hello.first = 0;
    hello.full_compare = 0
}

inline forget_welcome()
{
    welcome.lease = 0;
    welcome.session = 0;
    welcome.durable = 0;
    welcome.replica = 0
}

inline lose_copies()
{
    i = durable_s + 1;
    do
    :: i <= N -> copy[i] = 0; i++
    :: else -> break
    od;
    i = 0
}

/* Content of this life's ring: what lies below its end, nothing above. */
inline cut_ring()
{
    i = produced + 1;
    do
    :: i <= N -> ring[i] = 0; i++
    :: else -> break
    od;
    i = 0
}

/* Another life of capture: the replicators it knew are detached. */
inline new_ring()
{
    ring_id++;
    ring_first = produced;
    lease++
}

/* Whoever meets the standby in a session has the same past as it. */
inline assert_same_past()
{
    i = 1;
    do
    :: i <= welcome.durable ->
        assert(I12_forks_never_merge && (stale || copy[i] == ring[i]));
        i++
    :: else -> break
    od;
    i = 0
}

active proctype capture()
{
end:
    do
    :: d_step {
        produced < N && may_produce ->
    RECORD_PRODUCED:
        produced++;
        ring[produced] = life
       }
    :: d_step {
        lease < LEASES ->
    ATTACHED: /* whoever was attached before is stale from here on, and may not know it */
        lease++;
        newest = 1 - newest;
        rep[newest].lease = lease;
        rep[newest].session = 0;
        rep[newest].durable = durable_p
       }
    :: d_step {
        clean_starts < 1 && !full_compare && produced > 0 && durable_p == produced && may_restart ->
    STARTED_CLEAN: /* in a new ring */
        clean_starts++;
        saved = produced;
        new_ring()
       }
#if PRIMARY_ROLLBACKS > 0
    :: d_step {
        primary_rollbacks < PRIMARY_ROLLBACKS && !full_compare && may_restart ->
    env_primary_rolled_back: /* to the metadata of an earlier clean stop: none of it says so */
        primary_rollbacks++;
        life++;
        produced = saved;
        durable_p = saved;
        new_ring();
        cut_ring()
       }
#endif
#if RING_LOSSES > 0
    :: d_step {
        ring_losses < RING_LOSSES ->
    RING_LOST: /* durable before the next life serves */
        ring_losses++;
        life++;
        full_compare = 1;
        produced = durable_p;
        lease = (lease < LEASES -> lease + 1 : lease);
        cut_ring()
       }
#endif
    od
}

active [2] proctype replicator()
{
end:
    do
    :: d_step {
        rep[_pid - 1].lease != 0 && rep[_pid - 1].session == 0 && hello.lease == 0 &&
        welcome.lease != rep[_pid - 1].lease ->
    HELLO_SENT:
        hello.lease = rep[_pid - 1].lease;
        hello.durable = rep[_pid - 1].durable;
        hello.produced = produced;
        hello.replica = bound;
        hello.ring = ring_id;
        hello.first = ring_first;
        hello.full_compare = full_compare
       }
    :: d_step {
        welcome.session != 0 && welcome.lease == rep[_pid - 1].lease &&
        rep[_pid - 1].session == 0 ->
    WELCOME_JUDGED: /* by the primary: the same questions as its hello was asked */
        if
        ::
#ifndef BUG_LOST_DURABLE_UNCHECKED
           welcome.durable >= rep[_pid - 1].durable &&
#endif
           welcome.durable <= produced && (bound == 0 || welcome.replica == bound) && told_as_is ->
            assert_same_past();
            rep[_pid - 1].session = welcome.session;
            rep[_pid - 1].durable = max(rep[_pid - 1].durable, welcome.durable);
            bound = (rep[_pid - 1].lease == lease -> welcome.replica : bound);
            unnoticed = (rep[_pid - 1].lease == lease && session == welcome.session ->
                         0 : unnoticed)
        :: else
        fi;
        forget_welcome()
       }
    :: d_step {
        rep[_pid - 1].session != 0 ->
    SESSION_GIVEN_UP: /* silence, or the connection is gone: it says hello again */
        rep[_pid - 1].session = 0
       }
    :: atomic {
        rep[_pid - 1].session != 0 && rep[_pid - 1].durable < produced ->
    DATA_SENT:
        data_session = rep[_pid - 1].session;
        if
        :: data_lsn = rep[_pid - 1].durable + 1
        :: rep[_pid - 1].durable + 2 <= produced -> data_lsn = rep[_pid - 1].durable + 2
        fi;
        data_content = ring[data_lsn]
       }
    :: d_step {
        ack_session != 0 && rep[_pid - 1].session != 0 &&
#ifdef BUG_ACK_OF_ANY_SESSION
        true ->
#else
        ack_session == rep[_pid - 1].session ->
#endif
    ACK_TAKEN: /* again and again: it may be a duplicate */
        rep[_pid - 1].durable = max(rep[_pid - 1].durable, ack_durable)
       }
    :: d_step {
        rep[_pid - 1].durable > durable_p && rep[_pid - 1].durable <= produced &&
#ifdef BUG_STALE_LEASE
        true ->
#else
        rep[_pid - 1].lease == lease ->
#endif
    REPORT_TAKEN:
        assert(I6_stale_lease_is_refused && rep[_pid - 1].lease == lease);
        durable_p = rep[_pid - 1].durable;
        assert(I12_loss_is_found_out && (unnoticed || durable_p <= durable_s))
       }
    od
}

active proctype standby()
{
end:
    do
    :: d_step {
        hello.lease != 0 ->
    HELLO_JUDGED:
        if
        :: hello.full_compare -> told_full_compare = 1
#ifndef BUG_LOST_DURABLE_UNCHECKED
        :: durable_s < hello.durable -> told_full_compare = 1 /* it has lost what it reported */
#endif
        :: else
        fi;
        if
        :: !refused_for_full_compare && sessions < SESSIONS &&
           (hello.replica == 0 || hello.replica == replica) &&
#ifndef BUG_LOST_DURABLE_UNCHECKED
           durable_s >= hello.durable &&
#endif
           durable_s <= hello.produced &&
#ifndef BUG_RING_UNCHECKED
           (known_ring == 0 || known_ring == hello.ring || durable_s <= hello.first) &&
#endif
           (session == 0 || hello.lease >= session_lease) && welcome.session == 0 ->
            sessions++;
            session = sessions;
            session_lease = hello.lease;
            known_ring = hello.ring;
            welcome.lease = hello.lease;
            welcome.session = session;
            welcome.durable = durable_s;
            welcome.replica = replica
        :: else
        fi;
        forget_hello()
       }
    :: d_step {
        session != 0 && data_lsn == durable_s + 1 &&
        data_session == session ->
    DATA_TAKEN: /* placed, journalled, durable: sync.pml has the steps between */
        durable_s++;
        copy[durable_s] = data_content
       }
    :: d_step {
        session != 0 ->
    ACK_SENT:
        ack_session = session;
        ack_durable = durable_s
       }
    :: atomic {
        rollbacks < ROLLBACKS && durable_s > 0 ->
    env_standby_rolled_back: /* its disks are those of an earlier day; its memory is gone */
        rollbacks++;
        session = 0;
        unnoticed = 1;
        if
        :: durable_s = durable_s - 1
        :: durable_s = 0
        fi;
        lose_copies()
       }
    :: d_step {
        reseeds < RESEEDS ->
    env_standby_made_anew: /* another replica id, an empty log */
        reseeds++;
        session = 0;
        unnoticed = 1;
        replica++;
        known_ring = 0;
        durable_s = 0;
        lose_copies()
       }
    od
}
