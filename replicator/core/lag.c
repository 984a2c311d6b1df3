/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/lag.h"

#define RATE_SPAN_NS 500000000ull
#define NS_PER_S     1000000000ull

uint64_t hk_lag_bytes(const struct hk_history *h, uint64_t from, uint64_t to)
{
    uint64_t bytes;

    if (to <= from)
        return 0;
    bytes = to - from;
    for (uint32_t i = 1; i < h->count; i++) {
        uint64_t first = hk_max_u64(h->epoch[i].parent_end, from);
        uint64_t end = hk_min_u64(h->epoch[i].first_lsn, to);

        if (first < end)
            bytes -= end - first;
    }
    return bytes;
}

uint64_t hk_lag_before(const struct hk_history *h, uint64_t to, uint64_t bytes)
{
    for (uint32_t i = h->count; i-- > 0;) {
        const struct hk_epoch *e = &h->epoch[i];

        if (to > e->first_lsn) {
            if (to - e->first_lsn >= bytes)
                return to - bytes;
            bytes -= to - e->first_lsn;
        }
        to = hk_min_u64(to, e->parent_end);
    }
    return 0;
}

static uint64_t offset_of(uint64_t mono_ns, uint64_t real_ns)
{
    return real_ns > mono_ns ? real_ns - mono_ns : 0;
}

void hk_lag_age_clock(struct hk_lag_age *a, uint64_t mono_ns, uint64_t real_ns)
{
    a->offset_ns = hk_max_u64(a->offset_ns, offset_of(mono_ns, real_ns));
    if (a->begun_ns == 0)
        a->begun_ns = mono_ns;
}

bool hk_lag_age_wants(const struct hk_lag_age *a, uint64_t durable)
{
    return a->past[1].mono_ns == 0 || durable >= a->past[1].lsn;
}

static void look_at_stamp(struct hk_lag_age *a, uint64_t time_ns, uint64_t mono_ns)
{
    if (time_ns > mono_ns + a->offset_ns && a->offset_ns)
        a->ahead_ns = mono_ns;
}

void hk_lag_age_note(struct hk_lag_age *a, uint64_t produced, uint64_t newest_ns, uint64_t mono_ns)
{
    a->past[0] = a->past[1];
    a->past[1].lsn = produced;
    a->past[1].mono_ns = mono_ns;
    look_at_stamp(a, newest_ns, mono_ns);
}

void hk_lag_age_set(struct hk_lag_age *a, uint64_t time_ns, uint64_t mono_ns)
{
    if (time_ns == a->time_ns)
        return;
    a->time_ns = time_ns;
    a->since_ns = mono_ns;
    look_at_stamp(a, time_ns, mono_ns);
}

uint64_t hk_lag_age_ns(const struct hk_lag_age *a, uint64_t mono_ns, uint64_t real_ns)
{
    uint64_t by_mono, by_real, latest_ns, ceiling_ns;

    if (a->time_ns == 0)
        return 0;
    latest_ns = mono_ns + hk_max_u64(a->offset_ns, offset_of(mono_ns, real_ns));
    by_mono = mono_ns > a->since_ns ? mono_ns - a->since_ns : 0;
    by_real = latest_ns > a->time_ns ? latest_ns - a->time_ns : 0;
    ceiling_ns = hk_max_u64(a->past[0].mono_ns, a->begun_ns);
    if (a->ahead_ns && a->ahead_ns >= a->past[0].mono_ns)
        /* Without a note what was found at the start may be older than that. */
        by_real = hk_max_u64(a->past[0].mono_ns ? 0 : by_real, mono_ns - ceiling_ns);
    else if (a->past[0].mono_ns)
        by_real = hk_min_u64(by_real, mono_ns - ceiling_ns);
    return hk_max_u64(hk_max_u64(by_mono, by_real), 1);
}

void hk_lag_rate_update(struct hk_lag_rate *r, uint64_t total_bytes, bool busy, uint64_t mono_ns)
{
    if (r->was_busy && mono_ns > r->last_ns && total_bytes >= r->last_bytes) {
        r->busy_ns += mono_ns - r->last_ns;
        r->busy_bytes += total_bytes - r->last_bytes;
    }
    r->was_busy = busy;
    r->last_ns = mono_ns;
    r->last_bytes = total_bytes;
    if (r->busy_ns >= RATE_SPAN_NS) {
        uint64_t now = (uint64_t)((unsigned __int128)r->busy_bytes * NS_PER_S / r->busy_ns);

        r->bytes_s = r->bytes_s ? (3 * r->bytes_s + now) / 4 : now;
        r->busy_ns = r->busy_bytes = 0;
    }
}

/* ---- in records ---- */

void hk_lag_index_reset(struct hk_lag_index *x)
{
    x->count = 0;
    x->step = 0;
}

void hk_lag_index_note(struct hk_lag_index *x, uint64_t lsn, uint64_t index)
{
    if (x->count > 0 &&
        (lsn <= x->at[x->count - 1].lsn + x->step || index < x->at[x->count - 1].index))
        return;
    if (x->count == HK_LAG_INDEX_MAX) {
        /* Coarser, over the same range. */
        for (uint32_t i = 0; i < HK_LAG_INDEX_MAX / 2; i++)
            x->at[i] = x->at[2 * i];
        x->count = HK_LAG_INDEX_MAX / 2;
        x->step = (x->at[x->count - 1].lsn - x->at[0].lsn) / x->count;
    }
    x->at[x->count].lsn = lsn;
    x->at[x->count++].index = index;
}

uint64_t hk_lag_records(const struct hk_lag_index *x, uint64_t lsn, uint64_t head)
{
    uint32_t lo = 0, hi = x->count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (x->at[mid].lsn <= lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo > 0)
        return head - hk_min_u64(x->at[lo - 1].index, head);
    /* Before all that is known: as if each of those were as short as a record can be. */
    if (x->count > 0)
        return head - hk_min_u64(x->at[0].index, head) +
               (x->at[0].lsn - lsn) / HK_RECORD_HEADER_BYTES;
    return UINT64_MAX;
}
