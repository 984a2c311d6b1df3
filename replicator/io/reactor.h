/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reactor: one thread that turns. Each turn reads the clock once, hands out completions of its
 * one io_uring (disks, UDP links, wake-ups), calls every poller, and submits everything the pollers
 * queued in one system call. When a turn found nothing to do it backs off: it spins a little,
 * yields the processor for about the time an answer takes, then sleeps in the ring's wait until a
 * completion, a wake-up or the nearest deadline. A poller that cannot wake the ring (a card without
 * interrupts) bounds the sleep: it grows from 20 to 50 to 200 microseconds. So an idle site costs
 * little, and two sites share two cores.
 *
 * Created anywhere; from the first turn on, one thread owns it and everything attached to it. Only
 * hk_reactor_wake and hk_reactor_stop may be called by others. When the owner turns no more, what
 * is attached, and then the reactor, may be freed by any one thread.
 */
#ifndef HK_IO_REACTOR_H
#define HK_IO_REACTOR_H

#include "replicator/io/error.h"

struct hk_now;
struct hk_reactor;
struct io_uring;
struct io_uring_sqe;

struct hk_reactor_cfg {
    const char *name;      /* of the thread, ≤ 15 characters; NULL: left alone */
    int cpu;               /* the thread is pinned to; -1: not */
    uint32_t entries;      /* of the submission queue; 0: 1024 */
    uint32_t spin_turns;   /* idle turns before the first yield; 0: 8 */
    uint32_t awake_ns;     /* after the last work it only yields so long, then sleeps; 0: 50 µs */
    uint32_t sleep_ns_max; /* bound while a poller must be polled; 0: 200 µs */
};

struct hk_poller {
    const char *name;
    void *arg;
    /* Does what there is to do, bounded; returns how much it did: 0 lets the reactor back off. */
    uint32_t (*poll)(void *arg, const struct hk_now *now);
    /* Monotonic ns at which poll must be called again at the latest; NULL or UINT64_MAX: none. */
    uint64_t (*deadline_ns)(void *arg);
    /*
     * Called before a sleep: asks others for a wake-up, then looks again. true: something came
     * meanwhile, do not sleep. NULL: nothing to arm. after_sleep withdraws the request.
     */
    bool (*before_sleep)(void *arg);
    void (*after_sleep)(void *arg);
    /* Work may arrive without a completion, wake-up or deadline (a DPDK link). May change. */
    bool must_poll;
};

struct hk_reactor_stats {
    uint64_t turns, idle_turns, yields, sleeps;
    uint64_t sleep_ns; /* asleep in all */
    uint64_t completions, submits, wakes;
    uint64_t turn_ns_max; /* longest turn with work: a stall somebody else waited for */
};

/* -ENOSYS, -EPERM (io_uring switched off: the text names the sysctl), -ENOMEM. */
int hk_reactor_create(const struct hk_reactor_cfg *cfg, struct hk_reactor **ret_reactor,
                      struct hk_io_error *err);
void hk_reactor_free(struct hk_reactor *r); /* everything attached must be gone; accepts NULL */

enum { HK_REACTOR_POLLERS_MAX = 16, HK_REACTOR_FDS_MAX = 32 };

/* The poller stays where it is until removed. -ENOSPC. */
int hk_reactor_add(struct hk_reactor *r, struct hk_poller *p);
void hk_reactor_remove(struct hk_reactor *r, struct hk_poller *p);

/*
 * Calls `ready` on the reactor's thread whenever fd becomes readable (edge: `ready` reads until
 * EAGAIN). For an eventfd (`drain` true) the counter is read before the call. -ENOSPC, -EBADF.
 */
int hk_reactor_watch(struct hk_reactor *r, int fd, bool drain, void (*ready)(void *arg), void *arg);
/* No `ready` of this fd after it returns; the fd may be closed then. */
void hk_reactor_unwatch(struct hk_reactor *r, int fd);

/* Turns until hk_reactor_stop. Names and pins the thread, sets its timer slack to 1 µs. */
int hk_reactor_run(struct hk_reactor *r);
/* One turn, for tests and start-up; never sleeps longer than sleep_ns_max. Returns work done. */
uint32_t hk_reactor_turn(struct hk_reactor *r, uint64_t sleep_ns_max);
/* The clock as read in this turn. */
const struct hk_now *hk_reactor_now(const struct hk_reactor *r);

/* Any thread, any time: ends a sleep. Cheap when the reactor is awake. */
void hk_reactor_wake(struct hk_reactor *r);
void hk_reactor_stop(struct hk_reactor *r);
/* An eventfd that ends a sleep: to be written by another process. */
int hk_reactor_wake_fd(const struct hk_reactor *r);

void hk_reactor_stats(const struct hk_reactor *r, struct hk_reactor_stats *ret);

/* For io's own modules: one request on the ring, embedded in its owner. */
struct hk_completion {
    void (*done)(struct hk_completion *c, int32_t result, uint32_t cqe_flags);
};
/* This thread may submit: it owns the ring, or nobody does yet. */
bool hk_reactor_is_ours(const struct hk_reactor *r);
/* A `done` for requests whose result nobody needs. */
void hk_completion_ignore(struct hk_completion *c, int32_t result, uint32_t cqe_flags);
/*
 * A prepared-to-be-filled entry whose completion calls c->done. Submits what is queued if there is
 * no room, so it never fails. The user data is already set; the prep helpers keep it.
 */
struct io_uring_sqe *hk_reactor_sqe(struct hk_reactor *r, struct hk_completion *c);
struct io_uring *hk_reactor_ring(struct hk_reactor *r);
/* A number for a group of provided buffers that nobody else on this ring has. */
uint16_t hk_reactor_buffer_group(struct hk_reactor *r);
/*
 * For tearing down: hands out completions (everybody's) until `settled` says so. At most ten
 * seconds; then something that cannot be cancelled is broken, and so are we.
 */
void hk_reactor_settle(struct hk_reactor *r, bool (*settled)(const void *arg), const void *arg);

#endif
