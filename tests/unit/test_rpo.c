/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the history of what would be lost is never better than the truth: percentiles over the
 * whole time, unknown counts as worst, unmeasured time is no time, hours survive a restart and a
 * clock set back, damaged lines are passed over. Method: looks at chosen moments, files damaged by
 * hand, and a recount that keeps every millisecond.
 */
#include "tests/unit/unit.h"

#include "replicator/daemon/rpo.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define HOUR   (3600 * SECOND)

static char dir[] = "/tmp/hikae-rpo-XXXXXX";
static struct hk_now now;

static void look_for(struct hk_rpo *r, unsigned seconds, bool known, uint64_t lose_ns)
{
    for (unsigned i = 0; i < seconds; i++) {
        now.mono_ns += SECOND;
        now.real_ns += SECOND;
        hk_rpo_look(r, known, lose_ns, lose_ns / 10, &now);
    }
}

static void remove_files(void)
{
    static const char *const names[] = {"core.rpo", "core.rpo.now", "core.rpo.new"};

    for (size_t i = 0; i < HK_ARRAY_SIZE(names); i++) {
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
}

static struct hk_rpo *fresh(void)
{
    struct hk_rpo *r;

    remove_files();
    setenv("TZ", "UTC", 1);
    now.mono_ns = 50 * SECOND;
    now.real_ns = 480000 * HOUR; /* a whole hour, and midnight */
    assert_int_equal(hk_rpo_open(dir, "core", &r), 0);
    return r;
}

/* 900 s at 2 s, 54 at 10 s, 27 at 40 s, 19 unknown. */
static void test_percentiles(void **state)
{
    struct hk_rpo *r = fresh();
    struct hk_rpo_row row[4];

    (void)state;
    look_for(r, 900, true, 2 * SECOND);
    look_for(r, 54, true, 10 * SECOND);
    look_for(r, 27, true, 40 * SECOND);
    assert_int_equal(hk_rpo_hours(r, row, 4), 1);
    assert_true(row[0].p50_ns >= 2 * SECOND && row[0].p50_ns < 2 * SECOND * 17 / 16 + 1);
    assert_true(row[0].p95_ns >= 10 * SECOND && row[0].p95_ns < 10 * SECOND * 17 / 16 + 1);
    assert_int_equal(row[0].p99_ns, 40 * SECOND); /* the edge is not above what ever was */
    assert_int_equal(row[0].max_ns, 40 * SECOND);
    assert_int_equal(row[0].max_bytes, 4 * SECOND);
    assert_int_equal(row[0].measured_ms, 980001); /* the first look is a moment */
    assert_int_equal(row[0].unknown_ms, 1);
    look_for(r, 19, false, 0);
    assert_int_equal(hk_rpo_hours(r, row, 4), 1);
    assert_int_equal(row[0].p99_ns, HK_RPO_UNKNOWN);
    assert_true(row[0].p95_ns >= 10 * SECOND && row[0].p95_ns < 11 * SECOND);
    assert_int_equal(row[0].unknown_ms, 19001);
    assert_int_equal(row[0].max_ns, 40 * SECOND);
    hk_rpo_close(r);
}

/* Between two looks the larger counts, also over the turn of the hour. */
static void test_between_looks(void **state)
{
    struct hk_rpo *r = fresh();
    struct hk_rpo_row row[4];

    (void)state;
    now.real_ns += HOUR - 2 * SECOND;
    look_for(r, 1, true, 0);
    look_for(r, 1, true, 9 * SECOND); /* the new hour begins */
    look_for(r, 1, true, 0);
    assert_int_equal(hk_rpo_hours(r, row, 4), 2);
    assert_true(row[0].from_ns > row[1].from_ns);
    assert_int_equal(row[0].max_ns, 9 * SECOND);
    assert_int_equal(row[0].p50_ns, 9 * SECOND);
    now.real_ns += HOUR - 2 * SECOND;
    look_for(r, 1, true, 0); /* from here: worst of the look before is not in this hour's max */
    look_for(r, 1, true, 0);
    assert_int_equal(hk_rpo_hours(r, row, 4), 3);
    assert_int_equal(row[0].max_ns, 0);
    hk_rpo_close(r);
}

/* Time that nobody looked is not measured; nor does it count for either side of it. */
static void test_silence(void **state)
{
    struct hk_rpo *r = fresh();
    struct hk_rpo_row row[4];

    (void)state;
    look_for(r, 10, true, SECOND);
    now.mono_ns += 600 * SECOND;
    now.real_ns += 600 * SECOND;
    look_for(r, 10, true, SECOND);
    assert_int_equal(hk_rpo_hours(r, row, 4), 1);
    assert_true(row[0].measured_ms >= 18000 && row[0].measured_ms <= 20010);
    hk_rpo_close(r);
}

static void test_restart_and_days(void **state)
{
    struct hk_rpo *r = fresh();
    struct hk_rpo_row row[60], day[4];

    (void)state;
    for (unsigned h = 0; h < 50; h++) {
        look_for(r, 20, true, h * SECOND);
        now.mono_ns += HOUR - 20 * SECOND;
        now.real_ns += HOUR - 20 * SECOND;
    }
    hk_rpo_close(r);
    assert_int_equal(hk_rpo_open(dir, "core", &r), 0);
    assert_int_equal(hk_rpo_damaged(r), 0);
    assert_int_equal(hk_rpo_hours(r, row, 60), 50);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(row[i].max_ns, (49 - i) * SECOND);
    assert_int_equal(hk_rpo_days(r, day, 4), 3);
    assert_int_equal(day[0].to_ns - day[0].from_ns, 2 * HOUR);
    assert_int_equal(day[0].max_ns, 49 * SECOND);
    assert_int_equal(day[2].to_ns - day[2].from_ns, 24 * HOUR);
    assert_int_equal(day[2].max_ns, 23 * SECOND);
    assert_true(day[2].p50_ns >= 11 * SECOND && day[2].p50_ns <= 13 * SECOND);
    /* The clock goes back: what is measured then belongs to that hour, beside what it has. */
    now.real_ns -= 10 * HOUR;
    look_for(r, 5, true, 99 * SECOND);
    assert_int_equal(hk_rpo_hours(r, row, 60), 50);
    assert_int_equal(row[9].max_ns, 99 * SECOND);
    hk_rpo_close(r);
    assert_int_equal(hk_rpo_open(dir, "core", &r), 0);
    assert_int_equal(hk_rpo_hours(r, row, 60), 50);
    assert_int_equal(row[9].max_ns, 99 * SECOND);
    hk_rpo_close(r);
}

static void test_damage(void **state)
{
    struct hk_rpo *r = fresh();
    struct hk_rpo_row row[8];
    char path[128], byte = 0;
    int fd;

    (void)state;
    for (unsigned h = 0; h < 4; h++) {
        look_for(r, 20, true, (h + 1) * SECOND);
        now.mono_ns += HOUR - 20 * SECOND;
        now.real_ns += HOUR - 20 * SECOND;
    }
    hk_rpo_close(r);
    snprintf(path, sizeof(path), "%s/core.rpo", dir);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, &byte, 1, 4) == 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 4), 1);
    assert_true(lseek(fd, 0, SEEK_END) > 0 && write(fd, "1 480", 5) == 5); /* torn */
    close(fd);
    assert_int_equal(hk_rpo_open(dir, "core", &r), 0);
    assert_int_equal(hk_rpo_damaged(r), 2);
    assert_int_equal(hk_rpo_hours(r, row, 8), 3);
    assert_int_equal(row[2].max_ns, 2 * SECOND);
    hk_rpo_close(r);
}

/* The largest line that can be. */
static void test_bounds(void **state)
{
    static struct hk_rpo_hour h, back;
    static char line[HK_RPO_LINE_MAX];
    size_t n;

    (void)state;
    h.hour = UINT64_MAX / HOUR;
    h.unknown_ms = UINT32_MAX;
    h.max_ns = h.max_bytes = UINT64_MAX;
    for (uint32_t i = 0; i < HK_HISTOGRAM_BUCKETS; i++)
        h.ms[i] = UINT32_MAX;
    n = hk_rpo_format(&h, line);
    assert_true(hk_rpo_parse(line, n, &back));
    assert_memory_equal(&h, &back, sizeof(h));
    line[n / 2] ^= 1;
    assert_false(hk_rpo_parse(line, n, &back));
    assert_int_not_equal(hk_rpo_open("/nonexistent/dir", "core", &(struct hk_rpo *){NULL}), 0);
}

static int leave(void **state)
{
    (void)state;
    remove_files();
    return rmdir(dir);
}

static int enter(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles), cmocka_unit_test(test_between_looks),
        cmocka_unit_test(test_silence),     cmocka_unit_test(test_restart_and_days),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
