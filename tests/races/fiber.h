/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that a seed schedules: each runs on a stack of its own within one real thread, and goes
 * on only when it is chosen. So a schedule is a function of its seed, thousands of them fit into
 * some seconds, and a run that failed is run again exactly. What is sequential in a processor stays
 * so: orders that only weak memory shows are ring_litmus's to find.
 *
 * Time is virtual: it creeps with every look at the clock, and jumps when everybody waits.
 */
#ifndef HK_RACES_FIBER_H
#define HK_RACES_FIBER_H

#include <stdbool.h>
#include <stdint.h>

enum { FIBERS_MAX = 24 };

/* Begins anew: no fiber, no time gone by. Whoever was there is forgotten where he stood. */
void fiber_reset(uint64_t seed);
/* Its number, or -1. */
int fiber_spawn(void *(*body)(void *), void *arg);
/* Runs until `over` says so, asked before every step; false: nobody can go on (a deadlock). */
bool fiber_run(bool (*over)(void));

/* For fibers; no-ops outside of them. */
void fiber_yield(void);
/* Until ready(arg), asked whenever somebody is chosen, or the time; false: it was the time. */
bool fiber_wait(bool (*ready)(void *), void *arg, uint64_t until_ns);
bool fiber_done(int fiber);
int fiber_self(void); /* -1: not a fiber */

uint64_t fiber_now_ns(void);
uint64_t fiber_random(void);
uint64_t fiber_steps(void);
uint64_t fiber_trace(void); /* a hash of who ran when */

#endif
