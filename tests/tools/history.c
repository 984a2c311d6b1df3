/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include "content.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void *need(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "history: out of memory\n");
        abort();
    }
    return p;
}

/* Any operation of the log, also flushes and reads; ids are dense, so they index the array. */
struct raw {
    const struct hk_stamp_event *submit;
    int64_t begin, end; /* end: HK_JUDGE_NEVER without a successful answer */
    int32_t result;
    bool answered;
    int64_t op; /* index in h->ops if it changes data, else -1 */
};

struct loading {
    const struct hk_stamplog *log;
    const struct hk_judge_volume *volumes;
    const struct hk_history_options *options;
    struct hk_history *h;
    struct raw *raw;
    uint64_t raw_count;
    FILE *report;
};

static bool changes(uint8_t op)
{
    return op == HK_STAMP_WRITE || op == HK_STAMP_ZERO || op == HK_STAMP_TRIM;
}

static int bad(const struct loading *l, size_t event, const char *what)
{
    if (l->report != NULL)
        fprintf(l->report, "stamp log: event %zu: %s\n", event, what);
    return -EBADMSG;
}

static int load_submit(struct loading *l, size_t i)
{
    const struct hk_stamp_event *e = &l->log->events[i];
    const struct hk_stamp_volume *v;
    struct raw *r;

    if (e->id != l->raw_count)
        return bad(l, i, "operation ids are not consecutive");
    if (e->volume >= l->log->header.volume_count || e->op < HK_STAMP_WRITE || e->op > HK_STAMP_READ)
        return bad(l, i, "no such volume or operation");
    v = &l->log->header.volume[e->volume];
    if (e->op != HK_STAMP_FLUSH &&
        (e->length == 0 || e->offset % HK_SECTOR_BYTES || e->length % HK_SECTOR_BYTES ||
         e->offset < v->range_offset || e->length > v->range_length ||
         e->offset - v->range_offset > v->range_length - e->length))
        return bad(l, i, "outside the volume's declared range");
    r = &l->raw[l->raw_count++];
    *r = (struct raw){.submit = e, .begin = (int64_t)i, .end = HK_JUDGE_NEVER, .op = -1};
    if (!changes(e->op))
        return 0;
    r->op = (int64_t)l->h->op_count;
    l->h->ops[l->h->op_count++] = (struct hk_judge_op){
        .id = e->id,
        .content = e->op == HK_STAMP_WRITE ? e->content : 0,
        .first_sector = e->offset / HK_SECTOR_BYTES,
        .sector_count = e->length / HK_SECTOR_BYTES,
        .volume = e->volume,
        .optional = true,
        .begin = (int64_t)i,
        .end = HK_JUDGE_NEVER,
    };
    return 0;
}

static int load_complete(struct loading *l, size_t i)
{
    const struct hk_stamp_event *e = &l->log->events[i];
    struct raw *r;

    if (e->id >= l->raw_count || l->raw[e->id].answered)
        return bad(l, i, "completes what was not submitted, or twice");
    r = &l->raw[e->id];
    r->answered = true;
    r->result = e->result;
    if (e->result != 0) {
        l->h->failed_count += e->result != -ENOTCONN && e->result != -ESHUTDOWN;
        return 0;
    }
    r->end = (int64_t)i;
    l->h->acked_count++;
    if (r->op >= 0) {
        l->h->ops[r->op].optional = false;
        l->h->ops[r->op].acked = true;
        l->h->ops[r->op].end = (int64_t)i;
    }
    return 0;
}

/* A new connection bounds what its volume's earlier unanswered operations can still do. */
static void load_connect(struct loading *l, size_t i, uint64_t *first_open)
{
    const struct hk_stamp_event *e = &l->log->events[i];

    for (uint64_t k = first_open[e->volume]; k < l->raw_count; k++) {
        struct raw *r = &l->raw[k];

        if (r->submit->volume == e->volume && r->op >= 0 && r->end == HK_JUDGE_NEVER)
            l->h->ops[r->op].end = (int64_t)i;
    }
    first_open[e->volume] = l->raw_count;
}

static int load_events(struct loading *l)
{
    uint64_t first_open[HK_STAMPLOG_VOLUMES_MAX] = {0};

    for (size_t i = 0; i < l->log->event_count; i++) {
        const struct hk_stamp_event *e = &l->log->events[i];
        int r = 0;

        switch ((enum hk_stamp_kind)e->kind) {
        case HK_STAMP_SUBMIT: r = load_submit(l, i); break;
        case HK_STAMP_COMPLETE: r = load_complete(l, i); break;
        case HK_STAMP_CONNECT:
            if (e->volume >= l->log->header.volume_count)
                return bad(l, i, "no such volume");
            if (l->options->unknown_ends)
                load_connect(l, i, first_open);
            break;
        case HK_STAMP_DISCONNECT: l->h->disconnect_count++; break;
        case HK_STAMP_READ_RUN:
            if (e->id >= l->raw_count || l->raw[e->id].submit->op != HK_STAMP_READ)
                return bad(l, i, "content of what is not a read");
            break;
        case HK_STAMP_NOTE: break;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int find_note(const struct loading *l, const char *name, int64_t *ret_position)
{
    for (size_t i = 0; i < l->log->event_count; i++) {
        const struct hk_stamp_event *e = &l->log->events[i];

        if (e->kind == HK_STAMP_NOTE && strncmp(e->name, name, sizeof(e->name)) == 0) {
            *ret_position = (int64_t)i;
            return 0;
        }
    }
    if (l->report != NULL)
        fprintf(l->report, "stamp log: there is no note \"%s\"\n", name);
    return -ENOENT;
}

/* Promises count up to the moment that the image is known to be from: what was acknowledged before
 * that. What had only been seen by a read until then is bound by order alone. */
static void promise(struct loading *l, int64_t before)
{
    struct hk_history *h = l->h;
    int64_t flushed[HK_STAMPLOG_VOLUMES_MAX] = {0};

    for (uint64_t k = 0; k < l->raw_count; k++) {
        const struct raw *r = &l->raw[k];

        if (r->submit->op == HK_STAMP_FLUSH && r->end < before &&
            r->begin > flushed[r->submit->volume])
            flushed[r->submit->volume] = r->begin;
    }
    for (uint64_t k = 0; k < l->raw_count; k++) {
        const struct raw *r = &l->raw[k];
        bool must = false;

        if (r->op < 0 || r->end >= before)
            continue;
        switch (l->options->promise) {
        case HK_PROMISE_NONE: must = l->options->at_least != NULL; break;
        case HK_PROMISE_FLUSHED:
            must = (r->submit->flags & HK_STAMP_FUA) != 0 || r->end < flushed[r->submit->volume] ||
                   l->options->at_least != NULL;
            break;
        case HK_PROMISE_DURABLE: must = true; break;
        }
        h->ops[r->op].must = must;
        h->promised_count += must;
    }
}

/* ---- reads ---- */

struct entry {
    uint32_t op;
    int32_t next;
};

struct reading {
    struct loading *l;
    size_t volume_start[HK_STAMPLOG_VOLUMES_MAX + 1];
    int32_t *head; /* per sector: writes that an outstanding or later read can still see */
    struct entry *entries;
    int32_t entry_count, entry_room, entry_free;
    struct hk_judge_op *told; /* the operations as their answers left them, not as reads saw them */
    uint64_t *outstanding;    /* ids of reads without an answer yet */
    size_t outstanding_count;
    uint64_t oldest; /* reads before this id have been answered */
};

static int64_t low_water(const struct reading *g, int64_t now)
{
    int64_t low = now;

    for (size_t i = 0; i < g->outstanding_count; i++) {
        int64_t begin = g->l->raw[g->outstanding[i]].begin;

        if (begin < low)
            low = begin;
    }
    return low;
}

/* The latest begin among writes here that had certainly happened before `position`. */
static int64_t overwritten_until(const struct reading *g, int32_t head, int64_t position)
{
    int64_t begin = -1;

    for (int32_t n = head; n >= 0; n = g->entries[n].next) {
        const struct hk_judge_op *o = &g->told[g->entries[n].op];

        if (!o->optional && o->end < position && o->begin > begin)
            begin = o->begin;
    }
    return begin;
}

static int32_t entry_take(struct reading *g)
{
    int32_t n = g->entry_free;

    if (n >= 0) {
        g->entry_free = g->entries[n].next;
        return n;
    }
    if (g->entry_count == g->entry_room) {
        g->entry_room = g->entry_room ? g->entry_room * 2 : 1024;
        g->entries = need(realloc(g->entries, (size_t)g->entry_room * sizeof(*g->entries)));
    }
    return g->entry_count++;
}

static void read_add(struct reading *g, uint32_t op, int64_t now)
{
    const struct hk_judge_op *o = &g->l->h->ops[op];
    const struct hk_judge_volume *v = &g->l->volumes[o->volume];
    int64_t low = low_water(g, now);

    for (uint32_t i = 0; i < o->sector_count; i++) {
        int32_t *head =
            &g->head[g->volume_start[o->volume] + o->first_sector + i - v->first_sector];
        int64_t gone = overwritten_until(g, *head, low);
        int32_t n;

        for (int32_t *link = head; *link >= 0;) {
            n = *link;
            if (g->told[g->entries[n].op].end > gone) {
                link = &g->entries[n].next;
                continue;
            }
            *link = g->entries[n].next;
            g->entries[n].next = g->entry_free;
            g->entry_free = n;
        }
        n = entry_take(g);
        g->entries[n] = (struct entry){.op = op, .next = *head};
        *head = n;
    }
}

static void report_read(const struct reading *g, const struct raw *r, uint64_t sector, uint64_t tag,
                        int32_t head)
{
    struct loading *l = g->l;
    char content[96];

    if (l->report == NULL || l->h->read_violations > 3)
        return;
    hk_content_describe(tag, content, sizeof(content));
    fprintf(l->report,
            "READ VIOLATION: read %" PRIu64 " (events %" PRId64 "..%" PRId64
            ") of volume %u sector %" PRIu64 " got %s; writes it could have seen:\n",
            r->submit->id, r->begin, r->end, r->submit->volume, sector, content);
    for (int32_t n = head; n >= 0; n = g->entries[n].next) {
        const struct hk_judge_op *o = &l->h->ops[g->entries[n].op];

        hk_content_describe(hk_content_tag(o->content, o->volume, sector), content,
                            sizeof(content));
        fprintf(l->report, "      op %" PRIu64 ": %s, submitted at event %" PRId64 "%s\n", o->id,
                content, o->begin, o->acked ? "" : ", unanswered");
    }
}

/*
 * One sector of a read: legal? And if only one write explains it, that write has happened: from the
 * order's point of view it is over. For later reads it is not, until it is answered: a read may see
 * one part of an operation in flight and the next read not yet another part; and inside a sector
 * that is being written a read may find a mixture.
 */
static void read_sector(struct reading *g, const struct raw *r, uint64_t sector, uint64_t tag)
{
    struct hk_history *h = g->l->h;
    uint16_t volume = r->submit->volume;
    const struct hk_judge_volume *v = &g->l->volumes[volume];
    int32_t head = g->head[g->volume_start[volume] + sector - v->first_sector];
    int64_t gone = overwritten_until(g, head, r->begin);
    bool base = gone < 0 && v->base[sector - v->first_sector] == tag;
    bool being_written = false;
    unsigned matches = 0;
    uint32_t only = 0;

    for (int32_t n = head; n >= 0; n = g->entries[n].next) {
        const struct hk_judge_op *o = &g->told[g->entries[n].op];

        being_written |= o->end > r->begin;
        if (o->end <= gone || hk_content_tag(o->content, volume, sector) != tag)
            continue;
        matches++;
        only = g->entries[n].op;
    }
    h->read_sectors++;
    if (matches == 0 && !base && being_written && tag >> 56 == HK_CONTENT_OTHER) {
        h->read_mixtures++;
    } else if (matches == 0 && !base) {
        h->read_violations++;
        report_read(g, r, sector, tag, head);
    }
    if (matches == 1 && !base && (h->ops[only].optional || r->end < h->ops[only].end)) {
        if (r->end < h->ops[only].end)
            h->ops[only].end = r->end;
        h->ops[only].optional = false;
        h->seen_count++;
    }
}

static void read_run(struct reading *g, const struct hk_stamp_event *e)
{
    const struct raw *r = &g->l->raw[e->id];
    const struct hk_judge_volume *v = &g->l->volumes[r->submit->volume];

    if (r->end == HK_JUDGE_NEVER)
        return;
    for (uint32_t i = 0; i < e->length / HK_SECTOR_BYTES; i++) {
        uint64_t sector = e->offset / HK_SECTOR_BYTES + i;

        if (sector < v->first_sector || sector >= v->first_sector + v->sector_count)
            continue;
        if (v->excluded == NULL || !v->excluded[sector - v->first_sector])
            read_sector(g, r, sector, e->content);
    }
}

static void read_outstanding_remove(struct reading *g, uint64_t id)
{
    for (size_t i = 0; i < g->outstanding_count; i++) {
        if (g->outstanding[i] == id) {
            g->outstanding[i] = g->outstanding[--g->outstanding_count];
            return;
        }
    }
}

static void check_reads(struct loading *l)
{
    struct reading g = {.l = l, .entry_free = -1};

    for (uint32_t v = 0; v < l->log->header.volume_count; v++)
        g.volume_start[v + 1] = g.volume_start[v] + l->volumes[v].sector_count;
    size_t sectors = g.volume_start[l->log->header.volume_count];

    g.head = need(malloc((sectors + 1) * sizeof(*g.head)));
    memset(g.head, 0xff, (sectors + 1) * sizeof(*g.head));
    g.told = need(malloc((l->h->op_count + 1) * sizeof(*g.told)));
    memcpy(g.told, l->h->ops, l->h->op_count * sizeof(*g.told));
    g.outstanding = need(malloc((l->raw_count + 1) * sizeof(*g.outstanding)));
    for (size_t i = 0; i < l->log->event_count; i++) {
        const struct hk_stamp_event *e = &l->log->events[i];

        if (e->kind == HK_STAMP_SUBMIT && e->op == HK_STAMP_READ) {
            /* A read that never got an answer constrains nothing. */
            if (l->raw[e->id].end != HK_JUDGE_NEVER)
                g.outstanding[g.outstanding_count++] = e->id;
        } else if (e->kind == HK_STAMP_SUBMIT && l->raw[e->id].op >= 0) {
            read_add(&g, (uint32_t)l->raw[e->id].op, (int64_t)i);
        } else if (e->kind == HK_STAMP_READ_RUN) {
            read_run(&g, e);
        } else if (e->kind == HK_STAMP_COMPLETE && l->raw[e->id].submit->op == HK_STAMP_READ) {
            l->h->read_count += e->result == 0;
            read_outstanding_remove(&g, e->id);
        }
    }
    free(g.head);
    free(g.entries);
    free(g.outstanding);
    free(g.told);
}

int hk_history_build(const struct hk_stamplog *log, const struct hk_judge_volume *volumes,
                     const struct hk_history_options *options, struct hk_history *ret_history,
                     FILE *report)
{
    struct hk_history h = {.cut_max = HK_JUDGE_NEVER};
    struct loading l = {
        .log = log, .volumes = volumes, .options = options, .h = &h, .report = report};
    int64_t promised_before = HK_JUDGE_NEVER;
    int r;

    h.ops = need(calloc(log->event_count + 1, sizeof(*h.ops)));
    l.raw = need(calloc(log->event_count + 1, sizeof(*l.raw)));
    r = load_events(&l);
    if (r == 0 && options->at_most != NULL)
        r = find_note(&l, options->at_most, &h.cut_max);
    if (r == 0 && options->at_least != NULL)
        r = find_note(&l, options->at_least, &promised_before);
    if (r < 0)
        goto out;
    if (options->at_least == NULL && options->at_most != NULL)
        promised_before = 0;
    promise(&l, promised_before);
    if (options->check_reads)
        check_reads(&l);
    for (size_t i = 0; i < h.op_count; i++)
        h.unknown_count += !h.ops[i].acked;
out:
    free(l.raw);
    if (r < 0)
        free(h.ops);
    else
        *ret_history = h;
    return r;
}

void hk_history_free(struct hk_history *h)
{
    free(h->ops);
    h->ops = NULL;
}
