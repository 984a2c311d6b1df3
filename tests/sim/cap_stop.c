/* SPDX-License-Identifier: Apache-2.0 */
/* The capture process's orderly stop, and the flushes of the origins that it and the core want. */
#include <string.h>

#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

static void stop_poll(struct sim *s, uint64_t a, void *p);

static void origin_flushed(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 0);

    if (io->result) {
        s->origin_suspect = s->origin_failed = true;
        s->cap.flush_result = io->result;
    }
    if (++s->cap.stop_flushed < SIM_VOLUMES)
        return;
    s->cap.flushing = false;
    hk_capture_origins_flushed(s->cap.c, s->cap.flush_result, &now);
    cap_pump(s);
}

void cap_flush_origins(struct sim *s)
{
    s->cap.flushing = true;
    s->cap.stop_flushed = 0;
    s->cap.flush_result = 0;
    for (int v = 0; v < SIM_VOLUMES; v++)
        sim_io_submit(s, &s->cap.proc, &s->origin[v], HK_DISK_FLUSH, 0, 0, NULL, 0, origin_flushed,
                      NULL, 0);
}

static void stop_reboot(struct sim *s)
{
    struct hk_super *now = &s->cap.super_read;
    bool ok = naive_super(&s->md, true, now);

    if (ok && (now->flags & HK_SF_CLEAN)) {
        SIM_CHECK(s, "I12", now->clean_lsn == s->ref.next_lsn || s->forked,
                  "clean stop at LSN %llu, the log ends at %llu", ULL(now->clean_lsn),
                  ULL(s->ref.next_lsn));
        sim_trace(s, "stop clean at %llu", now->clean_lsn, 0, 0);
        sim_struck(s, F_CLEAN_STOP);
        cap_power(s);
        check_clean_origin(s);
        rollback_clean_stop(s);
        sim_at(s, s->now + 200 * NS_MS, NULL, rep_start, 0, NULL);
        sim_at(s, s->now + 100 * NS_MS, NULL, cap_start, 0, NULL);
        return;
    }
    /* Stopped, not clean: the ring must be found again, so only the processes go. */
    cap_kill(s);
}

static void stop_poll(struct sim *s, uint64_t a, void *p)
{
    struct hk_now now = sim_clock(s, 0);
    bool stopped;

    (void)a;
    (void)p;
    if (s->now - s->cap.stop_since > 20 * NS_S) { /* the admin loses patience */
        cap_kill(s);
        return;
    }
    stopped = hk_capture_stop(s->cap.c, &now);
    if (!stopped && s->cap.in_flight == 0 && !s->cap.flushing && !s->cap.stop_flush) {
        s->cap.stop_flush = true;
        cap_flush_origins(s);
    }
    cap_pump(s);
    if (!s->cap.proc.up)
        return;
    if (stopped && !s->cap.meta_busy)
        stop_reboot(s);
    else
        sim_at(s, s->now + 2 * NS_MS, &s->cap.proc, stop_poll, 0, NULL);
}

void cap_clean_stop(struct sim *s)
{
    if (!s->cap.proc.up || !s->cap.serving || s->cap.stopping)
        return;
    sim_trace(s, "stop begins", 0, 0, 0);
    s->cap.stopping = true;
    s->cap.serving = false;
    s->cap.stop_flushed = s->cap.stop_error = 0;
    s->cap.stop_flush = false;
    s->cap.stop_since = s->now;
    stop_poll(s, 0, NULL);
}
