/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* The numbers of SPEC.md, written down once more. */
#define SEGMENT_MAGIC "HAKISEG1"
#define BATCH_MAGIC   "HAKIBAT1"
enum {
    PAGE = 4096,
    HEADER_HASH_AT = 4088,
    RECORD_HEADER = 64,
    RECORD_MAGIC = 0x31524b48,
    PAYLOAD_MAX = 1048576,
    BATCH_BYTES_MAX = 4 << 20,
    VOLUMES_MAX = 64,
    FORMAT_VERSION = 1,
};

static uint64_t u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint32_t u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static bool all_zero(const uint8_t *p, uint64_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static uint64_t round_up(uint64_t v, uint64_t unit)
{
    return (v + unit - 1) / unit * unit;
}

const char *hk_walk_type_text(uint8_t type)
{
    static const char *const text[HK_WALK_TYPES] = {
        "?",    "write", "zeroes",       "discard", "flush",     "mark",
        "gap",  "void",  "resync-begin", "block",   "bad-range", "resync-end",
        "mode", "join",  "leave",        "resize"};

    return type < HK_WALK_TYPES ? text[type] : "?";
}

/* ---- segments ---- */

static bool hex_digits(const char *s, int n)
{
    for (int i = 0; i < n; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
    }
    return true;
}

/* OOOOOOOOOO-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx-LLLLLLLLLLLLLLLL.seg */
static bool looks_like_segment(const char *n)
{
    static const uint8_t groups[5] = {8, 4, 4, 4, 12};
    const char *p = n + 10;

    if (strlen(n) != 10 + 1 + 36 + 1 + 16 + 4 || strspn(n, "0123456789") != 10 || *p++ != '-')
        return false;
    for (int i = 0; i < 5; i++) {
        if (!hex_digits(p, groups[i]) || p[groups[i]] != '-')
            return false;
        p += groups[i] + 1;
    }
    return hex_digits(p, 16) && strcmp(p + 16, ".seg") == 0;
}

static void name_of(const struct hk_walk_segment *s, char *buf, size_t size)
{
    const uint8_t *e = s->epoch_id;

    snprintf(
        buf, size,
        "%010u-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x-%016" PRIx64
        ".seg",
        s->ordinal, e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7], e[8], e[9], e[10], e[11], e[12],
        e[13], e[14], e[15], s->first_lsn);
}

static const char *segment_fault(struct hk_walk_segment *s)
{
    const uint8_t *h = s->map;
    char name[96];

    if (s->map_bytes < 3 * PAGE)
        return "shorter than 12288 bytes";
    if (memcmp(h, SEGMENT_MAGIC, 8) != 0)
        return "BAD_MAGIC";
    if (u32(h + 8) != FORMAT_VERSION)
        return "BAD_VERSION";
    if (XXH64(h, HEADER_HASH_AT, u64(h + 32)) != u64(h + HEADER_HASH_AT))
        return "BAD_HASH";
    s->ordinal = u32(h + 12);
    memcpy(s->epoch_id, h + 32, 16);
    s->first_lsn = u64(h + 64);
    if (s->ordinal == 0 || all_zero(h + 16, 16) || all_zero(h + 32, 16) || all_zero(h + 48, 16) ||
        s->first_lsn == 0 || s->first_lsn % 64 != 0 || u64(h + 72) != s->map_bytes ||
        s->map_bytes % PAGE != 0 || !all_zero(h + 80, HEADER_HASH_AT - 80))
        return "BAD_FIELD";
    name_of(s, name, sizeof(name));
    return strcmp(name, s->name) == 0 ? NULL : "its name tells something else than its header";
}

static int map_segment(const char *directory, struct hk_walk_segment *s)
{
    char path[4096];
    struct stat st;
    void *map;
    int fd, r = 0;

    snprintf(path, sizeof(path), "%s/%s", directory, s->name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0) {
        r = -errno;
        goto out;
    }
    if (st.st_size == 0)
        goto out;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        r = -errno;
        goto out;
    }
    s->map = map;
    s->map_bytes = (uint64_t)st.st_size;
out:
    close(fd);
    return r;
}

static int by_place(const void *a, const void *b)
{
    return strcmp(((const struct hk_walk_segment *)a)->name,
                  ((const struct hk_walk_segment *)b)->name);
}

static void add_segment(struct hk_walk *w, const char *directory, const char *name)
{
    struct hk_walk_segment s = {0};
    const char *fault = "cannot be read";

    snprintf(s.name, sizeof(s.name), "%s", name);
    if (map_segment(directory, &s) < 0 || (fault = segment_fault(&s)) != NULL) {
        /* Allocated in advance and not yet in use: no header at all. */
        if (s.map_bytes >= PAGE && all_zero(s.map, PAGE))
            fault = NULL;
        if (fault != NULL) {
            fprintf(w->report, "segment %s: %s\n", name, fault);
            w->bad_segments++;
        }
        if (s.map != NULL)
            munmap((void *)(uintptr_t)s.map, s.map_bytes);
        return;
    }
    w->segments = realloc(w->segments, (w->segment_count + 1) * sizeof(s));
    if (w->segments == NULL)
        abort();
    w->segments[w->segment_count++] = s;
}

int hk_walk_open(struct hk_walk *w, const char *directory)
{
    struct dirent *d;
    DIR *dir = opendir(directory);

    if (dir == NULL)
        return -errno;
    while ((d = readdir(dir)) != NULL) {
        if (looks_like_segment(d->d_name))
            add_segment(w, directory, d->d_name);
    }
    closedir(dir);
    if (w->segment_count == 0)
        return -ENOENT;
    for (size_t i = 1; i < w->segment_count; i++) {
        if (memcmp(w->segments[i].map + 16, w->segments[0].map + 16, 16) == 0 &&
            memcmp(w->segments[i].map + 48, w->segments[0].map + 48, 16) == 0)
            continue;
        fprintf(w->report, "segment %s: of another group or replica\n", w->segments[i].name);
        w->bad_segments++;
    }
    qsort(w->segments, w->segment_count, sizeof(*w->segments), by_place);
    return 0;
}

void hk_walk_close(struct hk_walk *w)
{
    for (size_t i = 0; i < w->segment_count; i++)
        munmap((void *)(uintptr_t)w->segments[i].map, w->segments[i].map_bytes);
    free(w->segments);
    w->segments = NULL;
    w->segment_count = 0;
}

/* ---- records ---- */

static bool name_ok(const uint8_t *p)
{
    size_t n = strnlen((const char *)p, 64);

    if (n == 0 || n == 64 || !all_zero(p + n, 64 - n))
        return false;
    return strspn((const char *)p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789._-") == n;
}

static bool lengths_ok(const struct hk_walk_record *r)
{
    switch ((enum hk_walk_type)r->type) {
    case HK_WALK_WRITE:
    case HK_WALK_BLOCK: return r->length > 0 && r->payload_len == r->length;
    case HK_WALK_ZEROES:
    case HK_WALK_DISCARD:
    case HK_WALK_BAD_RANGE: return r->length > 0 && r->payload_len == 0;
    case HK_WALK_FLUSH: return r->length == 0 && r->payload_len == 0;
    case HK_WALK_MARK: return r->length == 0 && r->payload_len == 128;
    case HK_WALK_GAP:
    case HK_WALK_MODE: return r->length == 0 && r->payload_len == 64;
    case HK_WALK_VOID: return true;
    case HK_WALK_RESYNC_BEGIN:
    case HK_WALK_RESYNC_END:
    case HK_WALK_JOIN:
    case HK_WALK_LEAVE:
    case HK_WALK_RESIZE: return r->length == 0 && r->payload_len <= 4096;
    case HK_WALK_TYPES: break;
    }
    return false;
}

static bool content_ok(const struct hk_walk_record *r)
{
    const uint8_t *p = r->payload;

    if (r->type == HK_WALK_MARK)
        return name_ok(p) && u32(p + 72) <= 1 && all_zero(p + 76, 52);
    if (r->type == HK_WALK_GAP)
        return !all_zero(p, 16) && u64(p + 16) <= u64(p + 24) && u64(p + 24) == r->lsn &&
               u32(p + 32) >= 2 && u32(p + 32) <= 6 && all_zero(p + 36, 28);
    if (r->type == HK_WALK_MODE)
        return u32(p) >= 1 && u32(p) <= 3 && u32(p + 4) >= 1 && u32(p + 4) <= 2 && u64(p + 8) > 0 &&
               all_zero(p + 16, 48);
    return true;
}

struct place {
    const struct hk_walk_segment *s;
    uint64_t expected;
    uint32_t prev_bytes;
    bool prev_known;
};

/* SPEC §3.2 in its order; `room` is what the batch still holds. */
static const char *record_fault(const uint8_t *h, uint64_t room, const struct place *at,
                                struct hk_walk_record *ret)
{
    struct hk_walk_record r;

    if (room < RECORD_HEADER)
        return "no room for a header";
    if (u32(h + 40) != RECORD_MAGIC)
        return "BAD_MAGIC";
    if (XXH64(h, 56, u64(at->s->epoch_id)) != u64(h + 56))
        return "BAD_HASH";
    r = (struct hk_walk_record){.lsn = u64(h),
                                .time_ns = u64(h + 8),
                                .offset = u64(h + 16),
                                .length = u32(h + 24),
                                .payload_len = u32(h + 28),
                                .epoch = u32(h + 32),
                                .volume = (uint16_t)(h[36] | h[37] << 8),
                                .type = h[38],
                                .flags = h[39],
                                .prev_bytes = u32(h + 44),
                                .payload_hash = u64(h + 48),
                                .payload = h + RECORD_HEADER};
    if (r.lsn != at->expected || r.lsn == 0 || r.lsn % 64 != 0)
        return "BAD_LSN";
    if (r.epoch != at->s->ordinal)
        return "BAD_EPOCH";
    if (r.type == 0 || r.type >= HK_WALK_TYPES)
        return "BAD_TYPE";
    if (r.flags & ~1u)
        return "BAD_FLAGS";
    if (r.payload_len > PAYLOAD_MAX || !lengths_ok(&r) || r.offset + r.length < r.offset ||
        r.prev_bytes % 64 != 0 || r.prev_bytes > PAYLOAD_MAX + RECORD_HEADER ||
        r.prev_bytes > r.lsn || (r.type == HK_WALK_GAP && r.prev_bytes != 0))
        return "BAD_LENGTH";
    if (at->prev_known && r.prev_bytes != at->prev_bytes)
        return "BAD_PREV (prev_bytes is not the size of the record before)";
    if (r.volume >= VOLUMES_MAX)
        return "BAD_VOLUME";
    r.end = r.lsn + round_up(RECORD_HEADER + r.payload_len, 64);
    if (r.end - r.lsn > room)
        return "reaches beyond its batch";
    if (r.payload_hash != (r.payload_len ? XXH64(r.payload, r.payload_len, 0) : 0))
        return "BAD_PAYLOAD";
    if (!content_ok(&r))
        return "BAD_CONTENT";
    *ret = r;
    return NULL;
}

/* ---- batches ---- */

struct batch {
    uint64_t first, bytes, durable;
    const uint8_t *stream; /* where `first` stands */
    uint64_t disk_bytes;   /* header and pages */
};

/* A whole batch header at this place of the segment, of whatever epoch and LSN? */
static const char *header_fault(const struct hk_walk_segment *s, uint64_t position,
                                struct batch *ret)
{
    const uint8_t *h = s->map + position;
    struct batch b;

    if (position + 2 * PAGE > s->map_bytes)
        return "no room";
    if (memcmp(h, BATCH_MAGIC, 8) != 0)
        return "BAD_MAGIC";
    if (u32(h + 8) != FORMAT_VERSION)
        return "BAD_VERSION";
    if (XXH64(h, HEADER_HASH_AT, u64(h + 16)) != u64(h + HEADER_HASH_AT))
        return "BAD_HASH";
    b = (struct batch){.first = u64(h + 32), .bytes = u64(h + 40), .durable = u64(h + 48)};
    if (u32(h + 12) == 0 || all_zero(h + 16, 16) || b.first == 0 || b.first % 64 != 0 ||
        b.bytes == 0 || b.bytes > BATCH_BYTES_MAX || b.bytes % 64 != 0 || b.durable > b.first ||
        b.durable % 64 != 0 || !all_zero(h + 64, HEADER_HASH_AT - 64))
        return "BAD_FIELD";
    b.disk_bytes = PAGE + round_up(b.first + b.bytes, PAGE) - b.first / PAGE * PAGE;
    b.stream = h + PAGE + b.first % PAGE;
    *ret = b;
    return NULL;
}

static bool same_epoch(const struct hk_walk_segment *s, uint64_t position)
{
    return memcmp(s->map + position + 16, s->epoch_id, 16) == 0 &&
           u32(s->map + position + 12) == s->ordinal;
}

struct visitor {
    bool (*visit)(void *user, const struct hk_walk_record *r);
    void *user;
    uint64_t last_time_ns;
};

/* All records of the batch, checked before the first one is shown. */
static const char *batch_fault(const struct batch *b, const struct place *at)
{
    struct place p = *at;
    uint64_t done = 0;

    if (XXH64(b->stream, b->bytes, u64(at->s->epoch_id)) !=
        u64(b->stream - b->first % PAGE - PAGE + 56))
        return "data hash";
    while (done < b->bytes) {
        struct hk_walk_record r;
        const char *fault = record_fault(b->stream + done, b->bytes - done, &p, &r);

        if (fault != NULL)
            return fault;
        done += r.end - r.lsn;
        p.expected = r.end;
        p.prev_bytes = (uint32_t)(r.end - r.lsn);
        p.prev_known = true;
    }
    return NULL;
}

static void show_batch(struct hk_walk *w, const struct batch *b, struct place *at,
                       struct visitor *v)
{
    for (uint64_t done = 0; done < b->bytes && !w->stopped;) {
        struct hk_walk_record r;
        uint64_t tail;

        if (record_fault(b->stream + done, b->bytes - done, at, &r) != NULL)
            abort(); /* batch_fault has just accepted it */
        tail = RECORD_HEADER + r.payload_len;
        if (!all_zero(b->stream + done + tail, r.end - r.lsn - tail))
            w->padding_faults++;
        if (r.time_ns <= v->last_time_ns && w->time_faults++ == 0)
            fprintf(w->report, "record %" PRIu64 ": its time is not after the one before\n", r.lsn);
        v->last_time_ns = r.time_ns;
        w->records[r.type]++;
        done += r.end - r.lsn;
        at->expected = r.end;
        at->prev_bytes = (uint32_t)(r.end - r.lsn);
        at->prev_known = true;
        w->stopped = v->visit(v->user, &r);
    }
}

/* ---- the walk ---- */

static bool known_epoch(const struct hk_walk *w, const uint8_t *id)
{
    for (size_t i = 0; i < w->segment_count; i++)
        if (memcmp(w->segments[i].epoch_id, id, 16) == 0)
            return true;
    return false;
}

/*
 * Does a later epoch begin in this segment, whose gap says that it follows the walk's? Or one whose
 * gap names an epoch of which nothing ever came here: it began and ended between two sessions.
 */
static bool follows(const struct hk_walk *w, const struct hk_walk_segment *s,
                    const struct place *at)
{
    struct place p = {.s = s, .expected = s->first_lsn};
    struct hk_walk_record r;
    struct batch b;

    if (s->walked || s->ordinal <= at->s->ordinal || s->first_lsn < at->expected ||
        header_fault(s, PAGE, &b) != NULL || !same_epoch(s, PAGE) ||
        PAGE + b.disk_bytes > s->map_bytes || record_fault(b.stream, b.bytes, &p, &r) != NULL ||
        r.type != HK_WALK_GAP)
        return false;
    if (s->ordinal == at->s->ordinal + 1)
        return memcmp(r.payload, at->s->epoch_id, 16) == 0;
    return !known_epoch(w, r.payload);
}

/* The segment that goes on at this place: the same epoch at this LSN, or the next epoch. */
static struct hk_walk_segment *next_segment(struct hk_walk *w, const struct place *at)
{
    struct hk_walk_segment *best = NULL;

    for (size_t i = 0; i < w->segment_count; i++) {
        struct hk_walk_segment *s = &w->segments[i];

        if (!s->walked && memcmp(s->epoch_id, at->s->epoch_id, 16) == 0 &&
            s->first_lsn == at->expected)
            return s;
    }
    for (size_t i = 0; i < w->segment_count; i++) {
        struct hk_walk_segment *s = &w->segments[i];

        if (follows(w, s, at) && (best == NULL || s->ordinal < best->ordinal))
            best = s;
    }
    return best;
}

struct behind {
    uint64_t furthest; /* end of the furthest whole batch of this epoch at or behind E */
    bool any;
};

/* Whole batch headers at every page boundary: all known epochs' for S, this epoch's for N. */
static void scan(struct hk_walk *w, const struct hk_walk_segment *s, uint64_t from,
                 const struct place *at, struct behind *ret)
{
    for (uint64_t p = from; p + 2 * PAGE <= s->map_bytes; p += PAGE) {
        struct batch b;

        if (header_fault(s, p, &b) != NULL || !known_epoch(w, s->map + p + 16))
            continue;
        if (b.durable > w->stamped)
            w->stamped = b.durable;
        if (memcmp(s->map + p + 16, at->s->epoch_id, 16) != 0 || b.first < at->expected ||
            (s == at->s && p == from))
            continue; /* another epoch's, older, or the damaged one itself */
        ret->any = true;
        if (b.first + b.bytes > ret->furthest)
            ret->furthest = b.first + b.bytes;
    }
}

/* Does anything at E claim to be the batch that belongs there, damaged or not? Its size, else 0. */
static uint64_t claimed(const struct place *at, uint64_t position)
{
    const uint8_t *h = at->s->map + position;
    uint64_t bytes;

    if (position + 2 * PAGE > at->s->map_bytes || memcmp(h + 16, at->s->epoch_id, 16) != 0 ||
        u64(h + 32) != at->expected)
        return 0;
    bytes = u64(h + 40);
    return bytes < 64 || bytes > BATCH_BYTES_MAX ? 64 : bytes;
}

static void conclude(struct hk_walk *w, const struct place *at, uint64_t position,
                     const char *batch_says)
{
    uint64_t claim = claimed(at, position);
    struct behind behind = {0};
    const char *header;
    struct batch b;

    scan(w, at->s, position, at, &behind);
    for (size_t i = 0; i < w->segment_count; i++) {
        const struct hk_walk_segment *s = &w->segments[i];

        if (s->walked || s->first_lsn <= at->expected)
            continue;
        scan(w, s, PAGE, at, &behind);
        if (s->first_lsn > w->stamped)
            w->stamped = s->first_lsn; /* it was opened because everything before was stable */
    }
    if (w->applied > w->stamped)
        w->stamped = w->applied;
    if (w->end < w->stamped)
        w->verdict = HK_WALK_CORRUPT;
    else if (claim == 0 && !behind.any)
        w->verdict = HK_WALK_CLEAN;
    else
        w->verdict = HK_WALK_TORN;
    if (w->verdict == HK_WALK_CLEAN)
        return;
    w->torn_bytes = behind.any ? behind.furthest - w->end : claim;
    header = header_fault(at->s, position, &b);
    fprintf(w->report, "the walk ends at LSN %" PRIu64 ", segment %s, byte %" PRIu64 ": %s\n",
            w->end, at->s->name, position,
            header       ? header
            : batch_says ? batch_says
                         : "leftover");
}

void hk_walk_run(struct hk_walk *w, bool (*visit)(void *user, const struct hk_walk_record *r),
                 void *user)
{
    struct visitor v = {.visit = visit, .user = user};
    struct place at = {.s = &w->segments[0], .expected = w->segments[0].first_lsn};
    uint64_t position = PAGE;

    w->segments[0].walked = true;
    w->begin = at.expected;
    w->epochs = 1;
    for (;;) {
        const char *fault = NULL;
        struct hk_walk_segment *next;
        struct batch b;

        if (header_fault(at.s, position, &b) == NULL && same_epoch(at.s, position) &&
            b.first == at.expected) {
            fault = position + b.disk_bytes > at.s->map_bytes ? "its pages lie beyond the segment"
                                                              : batch_fault(&b, &at);
            if (fault == NULL) {
                if (b.durable > w->stamped)
                    w->stamped = b.durable;
                show_batch(w, &b, &at, &v);
                w->batches++;
                position += b.disk_bytes;
                w->end = at.expected;
                w->ordinal = at.s->ordinal;
                if (w->stopped)
                    return;
                continue;
            }
        }
        w->end = at.expected;
        w->ordinal = at.s->ordinal;
        next = next_segment(w, &at);
        if (next == NULL || fault != NULL) {
            conclude(w, &at, position, fault);
            return;
        }
        next->walked = true;
        if (next->ordinal != at.s->ordinal) {
            w->epochs++;
            at.prev_bytes = 0;
            at.prev_known = true;
        }
        at.s = next;
        at.expected = next->first_lsn;
        position = PAGE;
    }
}
