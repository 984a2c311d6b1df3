/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The independent expectation: proto/SPEC.md §7.4 over the list of what was written. "Whole" means
 * that the very bytes that were written stand there. Straight and slow; no hash, no header parsed.
 */
#include "tests/crash/crash.h"
#include "tests/crash/lab.h"

#include <string.h>

enum { SEEN_MAX = 4096 };

/* A whole batch header, and where it stands: not always where it was written. */
struct seen {
    const struct lab_write *w;
    uint32_t slot;
    uint64_t offset;
};

struct view {
    const struct lab *l;
    const struct cdisk *img;
    uint32_t live[LAB_SEGMENTS_MAX]; /* indices into l->write of whole segment headers, in order */
    uint32_t live_count;
    bool is_live[LAB_SEGMENTS_MAX];
    struct seen *seen;
    uint32_t seen_count;
    uint64_t stamp;    /* highest of all whole batch headers */
    uint64_t astray;   /* first LSN of the newest whole batch at the head of a file without its
                          own segment header, 0: none */
    uint64_t far_file; /* end of the farthest whole batch header in such a file */
};

static const uint8_t *at(const struct view *v, uint32_t slot, uint64_t offset)
{
    return v->img->file[slot].cur + offset;
}

static bool header_whole(const struct view *v, const struct lab_write *w)
{
    return memcmp(at(v, w->slot, w->offset), w->bytes, HK_PAGE_BYTES) == 0;
}

/* The batch's own bytes: what shares its first and last page has no meaning. */
static bool batch_whole(const struct view *v, const struct lab_write *w)
{
    uint64_t skip = HK_BATCH_HEADER_BYTES + w->first % HK_PAGE_BYTES;

    return header_whole(v, w) &&
           memcmp(at(v, w->slot, w->offset + skip), w->bytes + skip, w->end - w->first) == 0;
}

static bool precedes(const struct lab_write *a, const struct lab_write *b)
{
    return a->epoch != b->epoch ? a->epoch < b->epoch : a->first < b->first;
}

/* Is it the batch that the file's own header says it begins with? */
static bool announced(const struct view *v, const struct seen *s)
{
    for (uint32_t i = 0; i < v->live_count; i++) {
        const struct lab_write *h = &v->l->write[v->live[i]];

        if (h->slot == s->slot)
            return h->epoch == s->w->epoch && h->first == s->w->first;
    }
    return false;
}

static void find_in_place(struct view *v)
{
    for (uint32_t i = 0; i < v->l->write_count; i++) {
        const struct lab_write *w = &v->l->write[i];

        if (!w->header && header_whole(v, w))
            v->seen[v->seen_count++] = (struct seen){w, w->slot, w->offset};
    }
}

static void find_moved(struct view *v)
{
    for (uint32_t slot = 0; slot < v->l->segments; slot++) {
        for (uint64_t p = 0; p < v->img->file[slot].used; p += HK_PAGE_BYTES) {
            for (uint32_t i = 0; i < v->l->write_count; i++) {
                const struct lab_write *w = &v->l->write[i];

                if (!w->header && memcmp(at(v, slot, p), w->bytes, HK_PAGE_BYTES) == 0)
                    v->seen[v->seen_count++] = (struct seen){w, slot, p};
            }
        }
    }
}

static void take_note(struct view *v, const struct seen *s)
{
    static const uint8_t blank[HK_PAGE_BYTES];

    /* A file whose header was never written is not searched beyond its first batch. */
    if (!v->is_live[s->slot] && s->offset != HK_SEGMENT_HEADER_BYTES &&
        memcmp(at(v, s->slot, 0), blank, sizeof(blank)) == 0)
        return;
    if (v->is_live[s->slot] && s->offset == HK_SEGMENT_HEADER_BYTES && !announced(v, s))
        v->astray = hk_max_u64(v->astray, s->w->first);
    v->stamp = hk_max_u64(v->stamp, s->w->stamp);
    if (v->is_live[s->slot])
        return;
    if (s->offset == HK_SEGMENT_HEADER_BYTES)
        v->astray = hk_max_u64(v->astray, s->w->first);
    if (s->w->epoch + 1 == v->l->log.history.count)
        v->far_file = hk_max_u64(v->far_file, s->w->end);
}

static void look(struct view *v)
{
    const struct lab *l = v->l;

    for (uint32_t i = 0; i < l->write_count; i++) {
        const struct lab_write *w = &l->write[i];
        uint32_t k;

        if (!w->header || v->is_live[w->slot] || !header_whole(v, w))
            continue;
        v->is_live[w->slot] = true;
        for (k = v->live_count++; k > 0 && precedes(w, &l->write[v->live[k - 1]]); k--)
            v->live[k] = v->live[k - 1];
        v->live[k] = i;
    }
    if (l->moved)
        find_moved(v);
    else
        find_in_place(v);
    for (uint32_t i = 0; i < v->seen_count; i++)
        take_note(v, &v->seen[i]);
}

static const struct lab_write *whole_batch_at(const struct view *v, uint32_t slot, uint64_t offset,
                                              uint32_t epoch, uint64_t lsn)
{
    for (uint32_t i = 0; i < v->l->write_count; i++) {
        const struct lab_write *w = &v->l->write[i];

        if (!w->header && w->slot == slot && w->offset == offset && w->epoch == epoch &&
            w->first == lsn && batch_whole(v, w))
            return w;
    }
    return NULL;
}

/* End of what is seen behind the end of the chain, in its segment. */
static uint64_t far_end(const struct view *v, uint32_t slot, uint64_t offset, uint32_t epoch,
                        uint64_t end)
{
    const struct hk_uuid *id = &v->l->log.history.epoch[epoch].id;
    uint64_t far = end, bytes;

    for (uint32_t i = 0; i < v->seen_count; i++) {
        const struct seen *s = &v->seen[i];

        if (s->slot == slot && s->offset >= offset && s->w->epoch == epoch && s->w->first >= end)
            far = hk_max_u64(far, s->w->end);
    }
    if (offset + HK_BATCH_HEADER_BYTES > v->l->segment_bytes)
        return far;
    /* Damaged, but it tells its epoch and where it begins. */
    if (memcmp(at(v, slot, offset + 16), id->b, 16) != 0 ||
        memcmp(at(v, slot, offset + 32), &end, 8) != 0)
        return far;
    memcpy(&bytes, at(v, slot, offset + 40), 8);
    if (bytes == 0 || bytes > HK_BATCH_BYTES_MAX || bytes % HK_RECORD_ALIGN != 0)
        bytes = HK_RECORD_ALIGN;
    return hk_max_u64(far, end + bytes);
}

static void corrupt(struct lab_verdict *ret)
{
    *ret = (struct lab_verdict){.state = HK_JOURNAL_FAILED, .verdict = HK_JOURNAL_CORRUPT};
}

static uint64_t epoch_end(const struct hk_history *h, uint32_t epoch)
{
    return epoch + 1 < h->count ? h->epoch[epoch + 1].parent_end : UINT64_MAX;
}

/* Over ends of epochs: the position that the next byte has. */
static void cross(const struct hk_history *h, uint32_t *epoch, uint64_t *lsn)
{
    while (*lsn >= epoch_end(h, *epoch)) {
        ++*epoch;
        *lsn = hk_max_u64(*lsn, h->epoch[*epoch].first_lsn);
    }
}

void lab_expect(const struct lab *l, const struct cdisk *img, struct lab_verdict *ret)
{
    const struct hk_history *h = &l->log.history;
    static struct seen seen[SEEN_MAX];
    struct view v = {.l = l, .img = img, .seen = seen};
    uint32_t epoch = 0, next = 0, slot = UINT32_MAX;
    uint64_t lsn = l->applied, applied, offset = 0, limit = UINT64_MAX, far;
    bool applied_passed = false;

    look(&v);
    cross(h, &epoch, &lsn);
    applied = lsn;
    /* The newest segment that begins at or below it; without one, the epoch's first LSN. */
    lsn = h->epoch[epoch].first_lsn;
    while (next < v.live_count && l->write[v.live[next]].epoch < epoch)
        next++;
    for (uint32_t i = next; i < v.live_count; i++) {
        const struct lab_write *w = &l->write[v.live[i]];

        if (w->epoch == epoch && (w->first <= applied || i == next)) {
            next = i;
            lsn = w->first;
        }
    }
    if (lsn > applied) {
        corrupt(ret);
        return;
    }
    for (;;) {
        const struct lab_write *w;

        applied_passed |= lsn == applied;
        if (slot != UINT32_MAX && lsn != limit) {
            w = whole_batch_at(&v, slot, offset, epoch, lsn);
            if (w) {
                for (uint64_t r = w->first; r < w->end;
                     r = hk_record_end(store_log_at(&l->log, r)).v)
                    applied_passed |= r == applied;
                lsn = w->end;
                offset += w->file_bytes;
                if (lsn > limit) {
                    corrupt(ret);
                    return;
                }
                continue;
            }
            if (limit != UINT64_MAX) {
                corrupt(ret);
                return;
            }
            break;
        }
        cross(h, &epoch, &lsn);
        applied_passed |= lsn == applied;
        if (next == v.live_count) {
            if (epoch + 1 < h->count) {
                corrupt(ret);
                return;
            }
            break;
        }
        w = &l->write[v.live[next++]];
        if (w->epoch != epoch || w->first != lsn) {
            corrupt(ret);
            return;
        }
        slot = w->slot;
        offset = HK_SEGMENT_HEADER_BYTES;
        limit = epoch_end(h, epoch);
        if (next < v.live_count && l->write[v.live[next]].epoch == epoch)
            limit = l->write[v.live[next]].first;
    }
    if (!applied_passed || v.stamp > lsn || (v.astray != 0 && v.astray >= lsn)) {
        corrupt(ret);
        return;
    }
    far = slot == UINT32_MAX ? lsn : far_end(&v, slot, offset, epoch, lsn);
    far = hk_max_u64(far, v.far_file);
    *ret = (struct lab_verdict){.state = HK_JOURNAL_RUNNING,
                                .verdict = far > lsn ? HK_JOURNAL_TORN : HK_JOURNAL_CLEAN,
                                .end = lsn,
                                .lost = far - lsn};
}
