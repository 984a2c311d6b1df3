/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/daemon/rpo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/hash.h"
#include "proto/limits.h"

enum { LOOK_MS_MAX = 2000, SAVE_MS = 60000, HASH_DIGITS = 16 };
#define HOUR_NS 3600000000000ull

struct hk_rpo {
    int dir_fd;
    char name[HK_NAME_BYTES + 8], now_name[HK_NAME_BYTES + 8], new_name[HK_NAME_BYTES + 8];
    uint64_t damaged, lines;
    /* the look before */
    uint64_t last_ns, saved_ns; /* monotonic; last_ns 0: none */
    bool last_known;
    uint64_t last_lose_ns, last_lose_bytes;
    uint64_t present; /* the hour being filled, 0: none */
    char line[HK_RPO_LINE_MAX];
    struct hk_rpo_hour hour[HK_RPO_HOURS]; /* place: hour modulo */
};

static struct hk_rpo_hour *hour_at(struct hk_rpo *r, uint64_t hour)
{
    struct hk_rpo_hour *h = &r->hour[hour % HK_RPO_HOURS];

    if (h->hour != hour) {
        memset(h, 0, sizeof(*h));
        h->hour = hour;
    }
    return h;
}

size_t hk_rpo_format(const struct hk_rpo_hour *h, char ret[HK_RPO_LINE_MAX])
{
    int n = snprintf(ret, HK_RPO_LINE_MAX, "1 %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                     h->hour, h->unknown_ms, h->max_ns, h->max_bytes);

    for (uint32_t i = 0; i < HK_HISTOGRAM_BUCKETS; i++)
        if (h->ms[i])
            n += snprintf(ret + n, HK_RPO_LINE_MAX - (size_t)n, " %" PRIu32 ":%" PRIu32, i,
                          h->ms[i]);
    n += snprintf(ret + n, HK_RPO_LINE_MAX - (size_t)n, " %016" PRIx64 "\n",
                  hk_xxh64(ret, (size_t)n, 0));
    HK_ASSERT((size_t)n < HK_RPO_LINE_MAX);
    return (size_t)n;
}

/* Decimal digits up to `end`; -1: none, or too large. */
static int take_number(const char **p, const char *end, uint64_t *ret)
{
    const char *begin = *p;
    uint64_t v = 0;

    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
        uint64_t digit = (uint64_t)(**p - '0');

        if (v > (UINT64_MAX - digit) / 10)
            return -1;
        v = v * 10 + digit;
    }
    *ret = v;
    return *p > begin ? 0 : -1;
}

static bool take_space(const char **p, const char *end)
{
    return *p < end && *(*p)++ == ' ';
}

bool hk_rpo_parse(const char *line, size_t bytes, struct hk_rpo_hour *ret_hour)
{
    const char *p = line, *end;
    struct hk_rpo_hour h = {0};
    uint64_t version, bucket, ms, after = 0;
    char hash[HASH_DIGITS + 1];

    if (bytes < HASH_DIGITS + 3 || bytes > HK_RPO_LINE_MAX || line[bytes - 1] != '\n')
        return false;
    end = line + bytes - HASH_DIGITS - 2; /* the space before the hash */
    snprintf(hash, sizeof(hash), "%016" PRIx64, hk_xxh64(line, (size_t)(end - line), 0));
    if (*end != ' ' || memcmp(end + 1, hash, HASH_DIGITS) != 0)
        return false;
    if (take_number(&p, end, &version) || version != 1 || !take_space(&p, end) ||
        take_number(&p, end, &h.hour) || h.hour == 0 || h.hour > UINT64_MAX / HOUR_NS ||
        !take_space(&p, end) || take_number(&p, end, &h.unknown_ms) || !take_space(&p, end) ||
        take_number(&p, end, &h.max_ns) || !take_space(&p, end) ||
        take_number(&p, end, &h.max_bytes))
        return false;
    while (p < end) {
        if (!take_space(&p, end) || take_number(&p, end, &bucket) || bucket < after ||
            bucket >= HK_HISTOGRAM_BUCKETS || p >= end || *p++ != ':' ||
            take_number(&p, end, &ms) || ms == 0 || ms > UINT32_MAX)
            return false;
        h.ms[bucket] = (uint32_t)ms;
        after = bucket + 1;
    }
    if (h.unknown_ms > UINT32_MAX)
        return false;
    *ret_hour = h;
    return true;
}

/* Later lines of an hour replace earlier ones. ret_last: the hour of the last line. */
static int load(struct hk_rpo *r, const char *name, uint64_t *ret_last)
{
    int fd = openat(r->dir_fd, name, O_RDONLY | O_CLOEXEC);
    struct hk_rpo_hour h;
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    FILE *in;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    in = fdopen(fd, "re");
    if (!in) {
        close(fd);
        return -ENOMEM;
    }
    while ((n = getline(&line, &room, in)) > 0) {
        r->lines++;
        if (!hk_rpo_parse(line, (size_t)n, &h)) {
            r->damaged++;
        } else if (r->hour[h.hour % HK_RPO_HOURS].hour <= h.hour) {
            r->hour[h.hour % HK_RPO_HOURS] = h;
            *ret_last = h.hour;
        }
    }
    free(line);
    fclose(in);
    return 0;
}

static int write_whole(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, data, bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EIO;
        data += n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* `only` 0: all that is kept. The old file stays whole until the new one is. */
static int replace(struct hk_rpo *r, const char *name, uint64_t only)
{
    int fd = openat(r->dir_fd, r->new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    int rc = fd < 0 ? -errno : 0;

    for (uint32_t i = 0; rc == 0 && i < HK_RPO_HOURS; i++)
        if (r->hour[i].hour && (!only || r->hour[i].hour == only))
            rc = write_whole(fd, r->line, hk_rpo_format(&r->hour[i], r->line));
    if (rc == 0 && fdatasync(fd))
        rc = -errno;
    if (fd >= 0)
        close(fd);
    if (rc == 0 && renameat(r->dir_fd, r->new_name, r->dir_fd, name))
        rc = -errno;
    return rc;
}

static void append(struct hk_rpo *r, uint64_t hour)
{
    int fd = openat(r->dir_fd, r->name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

    if (fd < 0)
        return;
    if (write_whole(fd, r->line, hk_rpo_format(hour_at(r, hour), r->line)) == 0)
        fdatasync(fd);
    close(fd);
}

int hk_rpo_open(const char *dir, const char *group, struct hk_rpo **ret_rpo)
{
    struct hk_rpo *r = calloc(1, sizeof(*r));
    int rc = 0;

    if (!r)
        return -ENOMEM;
    snprintf(r->name, sizeof(r->name), "%.63s.rpo", group);
    snprintf(r->now_name, sizeof(r->now_name), "%.63s.rpo.now", group);
    snprintf(r->new_name, sizeof(r->new_name), "%.63s.rpo.new", group);
    r->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir_fd < 0)
        rc = -errno;
    if (rc == 0)
        rc = load(r, r->name, &r->present);
    if (rc == 0)
        rc = load(r, r->now_name, &r->present);
    if (rc == 0 && r->lines > 2 * HK_RPO_HOURS)
        rc = replace(r, r->name, 0);
    if (rc) {
        if (r->dir_fd >= 0)
            close(r->dir_fd);
        free(r);
        return rc;
    }
    *ret_rpo = r;
    return 0;
}

void hk_rpo_close(struct hk_rpo *r)
{
    if (!r)
        return;
    if (r->present)
        replace(r, r->now_name, r->present);
    close(r->dir_fd);
    free(r);
}

/* The hour that ends goes to the file of those that are over; a full disk costs history alone. */
static void turn(struct hk_rpo *r, uint64_t hour, uint64_t mono_ns)
{
    if (r->present && r->present != hour) {
        append(r, r->present);
        r->saved_ns = 0;
    }
    r->present = hour;
    if (mono_ns - r->saved_ns >= SAVE_MS * 1000000ull || r->saved_ns == 0) {
        replace(r, r->now_name, hour);
        r->saved_ns = mono_ns;
    }
}

void hk_rpo_look(struct hk_rpo *r, bool known, uint64_t lose_ns, uint64_t lose_bytes,
                 const struct hk_now *now)
{
    uint64_t worst_ns = hk_max_u64(lose_ns, r->last_lose_ns);
    bool both = known && r->last_known, first = r->last_ns == 0;
    uint64_t ms = (now->mono_ns - r->last_ns) / 1000000;
    struct hk_rpo_hour *h = hour_at(r, now->real_ns / HOUR_NS);

    if (r->last_known && !first && ms <= LOOK_MS_MAX)
        h->max_ns = hk_max_u64(h->max_ns, worst_ns);
    r->last_known = known;
    r->last_lose_ns = lose_ns;
    r->last_ns = hk_max_u64(now->mono_ns, 1);
    if (known) {
        h->max_ns = hk_max_u64(h->max_ns, lose_ns);
        h->max_bytes = hk_max_u64(h->max_bytes, lose_bytes);
    }
    /* The first look, or the first after a long silence, stands for the moment alone. */
    if (first || ms > LOOK_MS_MAX)
        ms = 1;
    if (both)
        h->ms[hk_histogram_bucket(worst_ns)] += (uint32_t)ms;
    else
        h->unknown_ms += ms;
    turn(r, h->hour, now->mono_ns);
}

/* The smallest figure that was not exceeded for so much of the time; unknown is worse than any. */
static uint64_t at(const struct hk_rpo_hour *h, uint64_t known_ms, uint32_t per_mille)
{
    uint64_t total = known_ms + h->unknown_ms, want = (total * per_mille + 999) / 1000, seen = 0;

    for (uint32_t i = 0; i < HK_HISTOGRAM_BUCKETS; i++) {
        seen += h->ms[i];
        if (seen >= want)
            return hk_min_u64(hk_histogram_edge(i), h->max_ns);
    }
    return HK_RPO_UNKNOWN;
}

static void row_of(const struct hk_rpo_hour *h, uint64_t from_ns, uint64_t to_ns,
                   struct hk_rpo_row *ret)
{
    uint64_t known_ms = 0;

    for (uint32_t i = 0; i < HK_HISTOGRAM_BUCKETS; i++)
        known_ms += h->ms[i];
    *ret = (struct hk_rpo_row){.from_ns = from_ns,
                               .to_ns = to_ns,
                               .measured_ms = known_ms + h->unknown_ms,
                               .unknown_ms = h->unknown_ms,
                               .p50_ns = at(h, known_ms, 500),
                               .p95_ns = at(h, known_ms, 950),
                               .p99_ns = at(h, known_ms, 990),
                               .max_ns = h->max_ns,
                               .max_bytes = h->max_bytes};
}

static uint64_t newest(const struct hk_rpo *r)
{
    uint64_t hour = 0;

    for (uint32_t i = 0; i < HK_RPO_HOURS; i++)
        hour = hk_max_u64(hour, r->hour[i].hour);
    return hour;
}

/* NULL: nothing was measured in it. */
static const struct hk_rpo_hour *measured(const struct hk_rpo *r, uint64_t hour)
{
    const struct hk_rpo_hour *h = &r->hour[hour % HK_RPO_HOURS];

    return hour && h->hour == hour ? h : NULL;
}

size_t hk_rpo_hours(const struct hk_rpo *r, struct hk_rpo_row *rows, size_t max)
{
    uint64_t last = newest(r), hour = last;
    size_t n = 0;

    for (; hour && last - hour < HK_RPO_HOURS && n < max; hour--) {
        const struct hk_rpo_hour *h = measured(r, hour);

        if (h)
            row_of(h, hour * HOUR_NS, (hour + 1) * HOUR_NS, &rows[n++]);
    }
    return n;
}

static int day_of(uint64_t hour)
{
    time_t t = (time_t)(hour * 3600);
    struct tm tm;

    localtime_r(&t, &tm);
    return tm.tm_year * 366 + tm.tm_yday;
}

static void merge(struct hk_rpo_hour *day, const struct hk_rpo_hour *h)
{
    day->unknown_ms += h->unknown_ms;
    day->max_ns = hk_max_u64(day->max_ns, h->max_ns);
    day->max_bytes = hk_max_u64(day->max_bytes, h->max_bytes);
    for (uint32_t i = 0; i < HK_HISTOGRAM_BUCKETS; i++)
        day->ms[i] += h->ms[i];
}

size_t hk_rpo_days(const struct hk_rpo *r, struct hk_rpo_row *rows, size_t max)
{
    uint64_t last = newest(r), hour = last;
    struct hk_rpo_hour day;
    size_t n = 0;

    while (hour && last - hour < HK_RPO_HOURS && n < max) {
        uint64_t end = hour + 1;
        int this_day = day_of(hour);
        bool any = false;

        memset(&day, 0, sizeof(day));
        for (; hour && last - hour < HK_RPO_HOURS && day_of(hour) == this_day; hour--) {
            const struct hk_rpo_hour *h = measured(r, hour);

            any = any || h;
            if (h)
                merge(&day, h);
        }
        if (any)
            row_of(&day, (hour + 1) * HOUR_NS, end * HOUR_NS, &rows[n++]);
    }
    return n;
}

uint64_t hk_rpo_damaged(const struct hk_rpo *r)
{
    return r->damaged;
}
