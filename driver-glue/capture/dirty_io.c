/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the dirty map writes: transactions of the activity log, pages of the map. One of them is on
 * its way at a time; one that failed is repeated with the same bytes, since nobody knows what the
 * disk holds of it.
 */
#include "driver-glue/capture/internal.h"

static void stamp(struct hk_capture *c, struct hk_dmap_stamp *ret, struct hk_dmap_id *ret_id)
{
    /* Only a durable binding is named: another one would make the map one of nobody's. */
    *ret_id = hk_dmap_id(&c->super.replica_id, &c->super.peer_replica_id);
    ret->relied = c->dirty.relied;
    ret->ordinal = c->epoch_ordinal;
}

static void add_update(struct hk_dirty *d, uint32_t slot, uint32_t entry)
{
    d->table[slot] = entry;
    d->update[d->update_count++] = (struct hk_dmap_update){.slot = slot, .entry = entry};
    hk_hot_move(d, slot, HK_HOT_LOOSE);
}

/* model: resync.pml, MARK_ISSUED */
static void add_marks(struct hk_dirty *d)
{
    while (d->list[HK_HOT_QUEUE].first && d->update_count < HK_DMAP_PAGE_UPDATES) {
        uint32_t slot = d->list[HK_HOT_QUEUE].first - 1u;

        add_update(d, slot, hk_dmap_entry_make(d->hot[slot].region, HK_DMAP_MARK_HOT));
    }
}

/*
 * Quiet regions, once the group is idle. From here on the region has no mark in memory: a write to
 * it asks for a new one, which can only come in a later transaction.
 */
/* model: resync.pml, CLEAR_ISSUED */
static void add_clears(struct hk_dirty *d)
{
    uint16_t at = d->list[HK_HOT_IDLE].first, next;

    for (; at && d->update_count < HK_DMAP_PAGE_UPDATES; at = next) {
        uint32_t slot = at - 1u, r = d->hot[slot].region;

        next = d->hot[slot].next;
        if (!hk_dirty_may_give_away(d, slot))
            continue;
        d->region[r].slot = 0;
        d->hot[slot].region = HK_DIRTY_NONE;
        d->hot[slot].durable = false;
        add_update(d, slot, 0);
    }
}

static void build_log(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;
    struct hk_dmap_stamp s = {.sequence = ++d->sequence, .other = d->map_named};
    struct hk_dmap_id id;

    stamp(c, &s, &id);
    d->update_count = 0;
    if (d->fill_left > 0) {
        hk_dmap_log_fill(&id, &s, d->log_page);
    } else {
        add_marks(d);
        if (d->trim)
            add_clears(d);
        hk_dmap_log_build(&id, &s, d->table, d->update, d->update_count, d->log_page);
    }
    d->log_out = true;
}

/* A damaged page first: until none is left no transaction may name what was written since. */
static uint32_t choose_page(struct hk_dirty *d)
{
    const uint64_t *bits = d->damaged_count > 0 ? d->damaged : d->pages;

    do
        d->cursor = (d->cursor + 1) % d->map_pages;
    while (!hk_bit(bits, d->cursor));
    return d->cursor;
}

static void build_map(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;
    uint32_t page = choose_page(d), first = page * HK_DMAP_PAGE_REGIONS;
    uint32_t count = (uint32_t)hk_min_u64(HK_DMAP_PAGE_REGIONS, d->regions - first);
    struct hk_dmap_stamp s = {.sequence = ++d->map_sequence, .other = d->sequence};
    struct hk_dmap_id id;

    stamp(c, &s, &id);
    __builtin_memset(d->packed, 0, HK_DMAP_PAGE_STATES);
    for (uint32_t w = 0; w < HK_DIRTY_PAGE_WORDS && w * 64 < count; w++) {
        uint64_t left = d->stale[first / 64 + w], spooled = d->spooled[first / 64 + w] & ~left;

        d->issued[w] = left;
        d->issued_spooled[w] = left | spooled;
        d->sheltered[first / 64 + w] &= left | spooled;
        /* A bit that is being taken away counts for nothing any more, whatever becomes of it. */
        d->kept[first / 64 + w] &= left;
        for (; left; left &= left - 1)
            hk_dmap_state_set(d->packed, w * 64 + (uint32_t)__builtin_ctzll(left), HK_DMAP_STALE);
        for (; spooled; spooled &= spooled - 1)
            hk_dmap_state_set(d->packed, w * 64 + (uint32_t)__builtin_ctzll(spooled),
                              HK_DMAP_SPOOLED);
    }
    hk_dmap_map_build(&id, &s, page, d->packed, d->map_page);
    if (hk_bit(d->pages, page)) {
        hk_bit_clear(d->pages, page);
        d->pages_count--;
    }
    d->map_place = page;
    d->map_out = true;
}

static bool wants_log(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;

    /* What a damaged log said is gone: "everything is stale" is durable before the next. */
    if (d->fill_left > 0)
        return hk_meta_surely_set(c, HK_SF_FULL_COMPARE);
    return d->list[HK_HOT_QUEUE].count > 0 || (d->trim && d->pages_count == 0);
}

uint32_t hk_dirty_meta_marks(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;

    if (!d->on || !hk_meta_started(c))
        return 0;
    /* Also one that failed and is repeated: who waits for it has waited long enough. */
    if (d->log_out || d->map_out || d->pages_count > 0)
        return UINT32_MAX;
    if (!wants_log(c))
        return 0;
    return d->fill_left > 0 || d->trim ? UINT32_MAX : d->list[HK_HOT_QUEUE].count;
}

bool hk_dirty_meta(struct hk_capture *c, struct hk_capture_meta *ret)
{
    struct hk_dirty *d = &c->dirty;
    bool map;

    if (!d->on || !hk_meta_started(c))
        return false;
    if (!d->log_out && !d->map_out) {
        map = d->pages_count > 0;
        /* Damaged pages of the map before any transaction; else by turns. */
        if (wants_log(c) && !(map && (d->log_last || d->damaged_count > 0)))
            build_log(c);
        else if (map)
            build_map(c);
        else
            return false;
    }
    d->log_last = d->log_out;
    ret->data = d->log_out ? d->log_page : d->map_page;
    ret->bytes = HK_DMAP_PAGE_BYTES;
    ret->offset = d->log_out ? hk_dmap_log_offset(d->sequence) : hk_dmap_map_offset(d->map_place);
    return true;
}

/* model: resync.pml, MARK_DURABLE, CLEAR_DURABLE */
static void log_durable(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;

    for (uint32_t i = 0; i < d->update_count; i++) {
        struct hk_hot *h = &d->hot[d->update[i].slot];

        if (d->update[i].entry == 0) {
            hk_hot_move(d, d->update[i].slot, HK_HOT_FREE);
            continue;
        }
        h->durable = true;
        if (h->end)
            hk_hot_move(d, d->update[i].slot, HK_HOT_ACTIVE);
        else if (h->pins == 0)
            hk_hot_move(d, d->update[i].slot, HK_HOT_IDLE);
    }
    if (d->fill_left > 0 && --d->fill_left == 0) {
        c->want.dmap_sequence = d->sequence;
        c->meta_dirty = true;
    }
    d->log_out = false;
    d->log_writes++;
}

static void map_durable(struct hk_dirty *d)
{
    for (uint32_t w = 0; w < HK_DIRTY_PAGE_WORDS; w++) {
        uint32_t at = d->map_place * HK_DIRTY_PAGE_WORDS + w;

        if (at * 64 >= d->regions)
            break;
        d->kept[at] |= d->issued[w];
        d->sheltered[at] |= d->issued_spooled[w];
    }
    if (hk_bit(d->damaged, d->map_place)) {
        hk_bit_clear(d->damaged, d->map_place);
        d->damaged_count--;
    }
    if (d->damaged_count == 0)
        d->map_named = d->map_sequence;
    d->map_out = false;
    d->map_writes++;
}

void hk_dirty_meta_done(struct hk_capture *c, int result)
{
    struct hk_dirty *d = &c->dirty;

    HK_ASSERT(d->log_out != d->map_out);
    if (result < 0)
        return;
    d->writes_done++;
    if (d->log_out)
        log_durable(c);
    else
        map_durable(d);
}
