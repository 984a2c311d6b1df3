/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: packets are found lost when RFC 9002 says so, never twice, never when acknowledged; probes
 * back off; random loss below the tolerated share does not shrink the window, congestion does.
 */
#include "tests/unit/unit.h"

#include "replicator/core/controller.h"

#include <errno.h>
#include <stdlib.h>

#define MS 1000000ull

static struct hk_recovery *make(void)
{
    struct hk_recovery *r = calloc(1, sizeof(*r));
    struct hk_arena a = {.bytes = hk_recovery_memory()};

    a.base = calloc(1, a.bytes);
    assert_int_equal(hk_recovery_init(r, &a), 0);
    return r;
}

static void destroy(struct hk_recovery *r)
{
    free(r->sent);
    free(r);
}

static struct hk_ack_result ack(struct hk_recovery *r, uint64_t first, uint64_t last, uint64_t now)
{
    struct hk_pn_range range = {first, last};
    struct hk_ack_result res;

    assert_int_equal(hk_recovery_on_ack(r, &range, 1, 0, now, &res), 0);
    return res;
}

static void packet_threshold(void **state)
{
    struct hk_recovery *r = make();
    struct hk_sent lost;

    (void)state;
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(hk_recovery_sent(r, 1000 * (i + 1), 100, 150, 5 * MS), i + 1);
    /* 4 is acknowledged: 1 is three behind, 2 and 3 are not. */
    assert_int_equal(ack(r, 4, 4, 6 * MS).lost_packets, 1);
    assert_true(hk_recovery_next_lost(r, &lost));
    assert_int_equal(lost.lsn, 1000);
    assert_false(hk_recovery_next_lost(r, &lost));
    assert_int_equal(r->in_flight_bytes, 4 * 150);
    /* 2 was lost below what is taken already: the cursor goes back. */
    assert_int_equal(ack(r, 5, 5, 6 * MS).lost_packets, 1);
    assert_true(hk_recovery_next_lost(r, &lost));
    assert_int_equal(lost.packet_number, 2);
    /* An ack for what was already lost changes nothing. */
    assert_int_equal(ack(r, 1, 2, 7 * MS).acked_packets, 0);
    destroy(r);
}

static void time_threshold_and_probe(void **state)
{
    struct hk_recovery *r = make();
    struct hk_ack_result res;
    struct hk_sent lost;
    uint64_t at;

    (void)state;
    hk_recovery_sent(r, 64, 64, 100, 0);
    hk_recovery_sent(r, 128, 64, 100, 0);
    ack(r, 2, 2, 8 * MS); /* srtt 8 ms: 1 counts as lost 9 ms after it left */
    assert_int_equal(r->srtt_ns, 8 * MS);
    assert_int_equal(hk_recovery_deadline_ns(r), 9 * MS);
    assert_false(hk_recovery_on_timeout(r, 9 * MS - 1, &res));
    assert_false(hk_recovery_next_lost(r, &lost));
    assert_false(hk_recovery_on_timeout(r, 9 * MS, &res));
    assert_int_equal(res.lost_packets, 1);
    assert_true(hk_recovery_next_lost(r, &lost));
    assert_int_equal(hk_recovery_deadline_ns(r), UINT64_MAX);

    hk_recovery_sent(r, 64, 64, 100, 10 * MS);
    at = hk_recovery_deadline_ns(r);
    assert_true(at > 10 * MS + 8 * MS && at < 100 * MS);
    assert_true(hk_recovery_on_timeout(r, at, &res));
    assert_true(hk_recovery_deadline_ns(r) - 10 * MS == 2 * (at - 10 * MS)); /* backs off */
    ack(r, 3, 3, at + MS);
    assert_int_equal(r->pto_count, 0);
    destroy(r);
}

static void impossible_ack(void **state)
{
    struct hk_recovery *r = make();
    struct hk_pn_range range = {1, 2};
    struct hk_ack_result res;

    (void)state;
    hk_recovery_sent(r, 64, 64, 100, 0);
    assert_int_equal(hk_recovery_on_ack(r, &range, 1, 0, 1, &res), -EINVAL);
    assert_int_equal(r->in_flight_bytes, 100);
    destroy(r);
}

/* Hours of pings on a silent path push out what was in flight, and every range comes back once. */
static void full_table(void **state)
{
    struct hk_recovery *r = make();
    uint64_t data = 0, back = 0;
    struct hk_sent lost;

    (void)state;
    while (hk_recovery_room(r))
        hk_recovery_sent(r, 64 * ++data, 64, 100, 0);
    for (int i = 0; i < 3 * HK_RECOVERY_PACKETS; i++) {
        hk_recovery_make_room(r);
        while (hk_recovery_next_lost(r, &lost))
            assert_int_equal(lost.lsn, 64 * ++back);
        hk_recovery_sent(r, 0, 0, 100, 1);
    }
    assert_int_equal(back, data);
    hk_recovery_abandon(r);
    assert_int_equal(r->in_flight_bytes, 0);
    destroy(r);
}

/* Random losses and acks: each packet ends exactly once, and in-flight bytes are their sum. */
static void every_packet_ends_once(void **state)
{
    struct hk_recovery *r = make();
    uint64_t rnd = 11, now = 0, sent = 0, acked = 0, lost = 0;
    struct hk_ack_result res;
    struct hk_sent p;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        now += unit_random(&rnd) % MS;
        if (unit_random(&rnd) % 2 && hk_recovery_room(r)) {
            hk_recovery_sent(r, ++sent * 64, 64, 10, now);
        } else if (sent > 0) {
            uint64_t pn = 1 + unit_random(&rnd) % sent;

            if (sent - pn < 50)
                acked += ack(r, pn, pn, now).acked_packets;
        }
        hk_recovery_on_timeout(r, now, &res);
        while (hk_recovery_next_lost(r, &p))
            lost++;
    }
    assert_int_equal(acked, r->packets_acked);
    assert_int_equal(r->in_flight_bytes, 10 * (sent - acked - lost));
    assert_true(lost > 100 && acked > 100);
    destroy(r);
}

/* A pipe of fixed rate and delay with `percent` random loss; returns the window after a while. */
static uint64_t run_pipe(unsigned percent, uint64_t bytes_s, uint64_t delay_ns, uint64_t queue_max)
{
    struct hk_recovery *r = make();
    struct hk_controller c;
    struct {
        uint64_t pn, at;
    } pipe[4096];
    uint32_t head = 0, tail = 0;
    uint64_t now = 0, free_at = 0, rnd = 5, window;
    struct hk_ack_result res;
    struct hk_sent p;

    hk_controller_init(&c, 0, now);
    for (int step = 0; step < 400000 && now < 20000 * MS; step++) {
        while (hk_recovery_room(r) && hk_controller_may_send(&c, r->in_flight_bytes, 16000, now)) {
            uint64_t pn = hk_recovery_sent(r, 64, 16000, 16000, now);

            hk_controller_sent(&c, 16000);
            free_at = hk_max_u64(free_at, now) + 16000ull * 1000000000 / bytes_s;
            if (free_at - now > queue_max || unit_random(&rnd) % 100 < percent) {
                free_at -= 16000ull * 1000000000 / bytes_s;
                continue;
            }
            if (tail - head == 4096)
                continue;
            pipe[tail % 4096].pn = pn;
            pipe[tail++ % 4096].at = free_at + delay_ns;
        }
        now += MS / 10;
        while (head != tail && pipe[head % 4096].at <= now) {
            res = ack(r, pipe[head % 4096].pn, pipe[head % 4096].pn, now);
            head++;
            hk_controller_on_ack(&c, r, &res, now);
        }
        hk_recovery_on_timeout(r, now, &res);
        while (hk_recovery_next_lost(r, &p))
            ;
    }
    window = c.window_bytes;
    destroy(r);
    return window;
}

static void window_fits_the_pipe(void **state)
{
    uint64_t bdp = 100000000ull * 40 / 1000; /* 100 MB/s × 40 ms */

    (void)state;
    assert_true(run_pipe(0, 100000000, 40 * MS, 40 * MS) >= bdp * 7 / 10);
    /* One percent lost at random costs little. */
    assert_true(run_pipe(1, 100000000, 40 * MS, 40 * MS) >= bdp * 6 / 10);
    /* A tenth of the line: the window follows it down. */
    assert_true(run_pipe(0, 10000000, 40 * MS, 40 * MS) <= bdp / 10 * 4);
}

static void rate_cap(void **state)
{
    struct hk_controller c;
    uint64_t now = 0, sent = 0;

    (void)state;
    hk_controller_init(&c, 1000000, now);
    for (; now < 2000 * MS; now += MS) {
        while (hk_controller_may_send(&c, 0, 1000, now)) {
            hk_controller_sent(&c, 1000);
            sent += 1000;
        }
        assert_true(hk_controller_ready_ns(&c, 1000) > now);
        assert_true(hk_controller_ready_ns(&c, 1000) <= now + 2 * MS);
    }
    assert_true(sent >= 1950000 && sent <= 2000000 + 4 * 17000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packet_threshold),
        cmocka_unit_test(time_threshold_and_probe),
        cmocka_unit_test(impossible_ack),
        cmocka_unit_test(full_table),
        cmocka_unit_test(every_packet_ends_once),
        cmocka_unit_test(window_fits_the_pipe),
        cmocka_unit_test(rate_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
