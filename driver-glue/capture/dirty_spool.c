/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Regions whose records are in the replicator's spool. Once those are durable there, and the origin
 * was flushed behind the last write, a `spooled` bit in the map does what the region's slot did, so
 * that an outage over any number of regions needs no more slots than what is under way.
 *
 * The superblock says how far the spool is relied on (`spooled_lsn`, of the newest epoch): a slot
 * is given up when both, that and the bit, are durable. If log up to there never reaches the
 * standby the region is stale: whoever returns from a lost ring, or a damaged spool, decides by the
 * standby's position. A bit of another epoch is read as stale (dirty_start.c).
 *
 * Bits are cleared a page of the map at a time, when the standby has all that any of them stands
 * for. A bit that stays too long costs nothing while the spool can be read.
 */
#include "driver-glue/capture/internal.h"
#include "proto/bug.h"

static uint32_t page_of(uint32_t region)
{
    return region / HK_DMAP_PAGE_REGIONS;
}

/* How far log may be taken for kept: durable at the standby, or in the spool. */
static uint64_t kept_to(const struct hk_capture *c)
{
    uint64_t spooled = HK_BUG(spooled_before_durable) ? c->produced : c->dirty.spool_to;

    return c->closed || c->dirty.spool_to == 0 ? c->durable : hk_max_u64(c->durable, spooled);
}

uint64_t hk_dirty_kept_to(const struct hk_capture *c)
{
    return kept_to(c);
}

void hk_dirty_spool_told(struct hk_capture *c, uint64_t first, uint64_t end)
{
    bool good = first && first <= c->durable && end <= c->produced && end >= first &&
                (first | end) % HK_RECORD_ALIGN == 0 && !c->closed && !c->returning;

    if (c->dirty.on)
        c->dirty.spool_to = good ? end : 0;
}

void hk_dirty_spool_found(struct hk_capture *c, uint32_t region, bool whole)
{
    struct hk_dirty *d = &c->dirty;

    hk_bit_set(d->spooled, region);
    if (whole)
        hk_bit_set(d->sheltered, region);
    d->spooled_count++;
    d->page_end[page_of(region)] = c->super.spooled_lsn;
    d->spool_next = c->super.spooled_lsn;
}

/* ---- bits ---- */

static void set_bit(struct hk_capture *c, uint32_t slot)
{
    struct hk_dirty *d = &c->dirty;
    uint32_t r = d->hot[slot].region, page = page_of(r);

    if (!hk_bit(d->spooled, r)) {
        hk_bit_set(d->spooled, r);
        d->spooled_count++;
        hk_dirty_page_dirty(d, page);
    }
    d->page_end[page] = hk_max_u64(d->page_end[page], d->hot[slot].end);
    d->spool_next = hk_min_u64(d->spool_next, d->page_end[page]);
    if (d->hot[slot].end > c->want.spooled_lsn) {
        c->want.spooled_lsn = kept_to(c);
        c->meta_dirty = true;
    }
}

/* All bits of a page; of those that the standby will not get, the regions are stale instead. */
static void drop_page(struct hk_capture *c, uint32_t page, bool stale)
{
    struct hk_dirty *d = &c->dirty;

    for (uint32_t w = page * HK_DIRTY_PAGE_WORDS; w < (page + 1) * HK_DIRTY_PAGE_WORDS; w++) {
        for (uint64_t left = d->spooled[w]; left; left &= left - 1) {
            if (stale)
                hk_dirty_stale_region(c, w * 64 + (uint32_t)__builtin_ctzll(left));
            d->spooled_count--;
        }
        d->spooled[w] = 0;
    }
    d->page_end[page] = 0;
    hk_dirty_page_dirty(d, page);
}

static void find_next(struct hk_dirty *d)
{
    d->spool_next = UINT64_MAX;
    for (uint32_t page = 0; page < d->map_pages; page++) {
        if (d->page_end[page])
            d->spool_next = hk_min_u64(d->spool_next, d->page_end[page]);
    }
}

void hk_dirty_spool_end(struct hk_capture *c, uint64_t standby)
{
    struct hk_dirty *d = &c->dirty;

    for (uint32_t page = 0; d->on && page < d->map_pages; page++) {
        bool lacks = d->page_end[page] > standby && !HK_BUG(spooled_unread);

        if (d->page_end[page] == 0)
            continue;
        if (!lacks)
            d->relied = hk_max_u64(d->relied, hk_min_u64(d->page_end[page], standby));
        drop_page(c, page, lacks);
    }
    if (d->on) {
        find_next(d);
        d->spool_to = 0;
        c->want.spooled_lsn = 0;
    }
}

void hk_dirty_stale_spooled(struct hk_capture *c, uint64_t from)
{
    struct hk_dirty *d = &c->dirty;

    for (uint32_t page = 0; d->on && page < d->map_pages; page++) {
        if (d->page_end[page] > from)
            drop_page(c, page, true);
    }
    if (d->on) {
        find_next(d);
        d->spool_to = 0;
    }
}

/* ---- as part of a step ---- */

static void clear_durable(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;

    if (d->spooled_count == 0 || c->durable < d->spool_next)
        return;
    for (uint32_t page = 0; page < d->map_pages; page++) {
        if (d->page_end[page] == 0 || d->page_end[page] > c->durable)
            continue;
        d->relied = hk_max_u64(d->relied, d->page_end[page]);
        drop_page(c, page, false);
    }
    find_next(d);
}

/* Both are durable: what the map says, and how far the spool is relied on. */
static bool is_sheltered(const struct hk_capture *c, const struct hk_hot *h)
{
    return hk_bit(c->dirty.spooled, h->region) && hk_bit(c->dirty.sheltered, h->region) &&
           h->end <= c->super.spooled_lsn;
}

/* Something has changed that a slot may have waited for. */
static bool worth_a_look(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;
    uint64_t seen = d->spool_to + d->writes_done + c->super.sequence;

    for (uint32_t v = 0; v < c->cfg.volume_count; v++)
        seen += d->flush[v].flushed;
    if (seen == d->spool_seen)
        return false;
    d->spool_seen = seen;
    return true;
}

/* The ACTIVE list is in the order of its ends. */
void hk_dirty_spool_step(struct hk_capture *c, bool pressed)
{
    struct hk_dirty *d = &c->dirty;
    uint64_t to = kept_to(c);
    uint16_t next;

    clear_durable(c);
    if (!pressed || to <= c->durable || !worth_a_look(c))
        return;
    for (uint16_t at = d->list[HK_HOT_ACTIVE].first; at; at = next) {
        struct hk_hot *h = &d->hot[at - 1];

        next = h->next;
        if (h->end > to)
            return;
        if (h->pins > 0 || h->need > d->flush[h->volume].flushed)
            continue;
        set_bit(c, at - 1u);
        if (!is_sheltered(c, h))
            continue;
        h->end = 0;
        hk_hot_move(d, at - 1u, HK_HOT_IDLE);
    }
}
