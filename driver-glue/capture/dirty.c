/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The life of a region: marked, active, quiet; stale, healed. */
#include "driver-glue/capture/internal.h"
#include "proto/bug.h"

#include <errno.h>

enum {
    DIRTY_IDLE_NS = 1000000000, /* no write for so long: quiet marks are taken off the disk */
    DIRTY_FLUSH_EVERY_NS = 20000000,
};

bool hk_dirty_on(const struct hk_capture *c)
{
    return c->dirty.on;
}

/* ---- slots ---- */

static void unlink_hot(struct hk_dirty *d, uint32_t slot)
{
    struct hk_hot *h = &d->hot[slot];
    struct hk_hot_ends *l = &d->list[h->list];

    if (h->prev)
        d->hot[h->prev - 1].next = h->next;
    else
        l->first = h->next;
    if (h->next)
        d->hot[h->next - 1].prev = h->prev;
    else
        l->last = h->prev;
    HK_ASSERT(l->count > 0);
    l->count--;
}

void hk_hot_move(struct hk_dirty *d, uint32_t slot, enum hk_hot_list to)
{
    struct hk_hot *h = &d->hot[slot];
    struct hk_hot_ends *l = &d->list[to];

    unlink_hot(d, slot);
    h->list = (uint8_t)to;
    h->next = 0;
    h->prev = l->last;
    if (l->last)
        d->hot[l->last - 1].next = (uint16_t)(slot + 1);
    else
        l->first = (uint16_t)(slot + 1);
    l->last = (uint16_t)(slot + 1);
    l->count++;
}

uint16_t hk_dirty_volume_of(const struct hk_dirty *d, uint32_t region)
{
    uint16_t v = 0;

    while (region >= d->first_region[v + 1])
        v++;
    return v;
}

uint64_t hk_dirty_region_bytes(const struct hk_capture *c, uint32_t region)
{
    const struct hk_dirty *d = &c->dirty;
    uint16_t v = hk_dirty_volume_of(d, region);
    uint64_t offset = (uint64_t)(region - d->first_region[v]) << d->shift;

    if (offset >= c->cfg.volume_bytes[v])
        return 0;
    return hk_min_u64(1ull << d->shift, c->cfg.volume_bytes[v] - offset);
}

/* First region of the op and the one behind its last. */
struct span {
    uint32_t from, to;
};

static struct span span_of(const struct hk_dirty *d, uint16_t volume, uint64_t offset,
                           uint64_t bytes)
{
    struct span s = {0, 0};

    if (bytes == 0)
        return s;
    s.from = d->first_region[volume] + (uint32_t)(offset >> d->shift);
    s.to = d->first_region[volume] + (uint32_t)((offset + bytes - 1) >> d->shift) + 1;
    return s;
}

static struct span op_span(const struct hk_dirty *d, const struct hk_op *op)
{
    return span_of(d, op->volume, op->offset, op->length);
}

/* Nobody needs the mark: neither a record nor an op, nor staleness that the map does not know. */
bool hk_dirty_may_give_away(const struct hk_dirty *d, uint32_t slot)
{
    uint32_t r = d->hot[slot].region;

    if (hk_bit(d->stale, r))
        return hk_bit(d->kept, r);
    return !hk_bit(d->spooled, r) || hk_bit(d->sheltered, r);
}

/* A slot for another region; HK_DIRTY_NONE: none to be had. */
static uint32_t take_slot(struct hk_dirty *d)
{
    uint32_t used = HK_DMAP_SLOTS - d->list[HK_HOT_FREE].count;
    uint16_t at;

    if (used < d->hot_max && d->list[HK_HOT_FREE].first)
        return d->list[HK_HOT_FREE].first - 1u;
    for (at = d->list[HK_HOT_IDLE].first; at; at = d->hot[at - 1].next) {
        if (!hk_dirty_may_give_away(d, at - 1u))
            continue;
        d->region[d->hot[at - 1].region].slot = 0;
        return at - 1u;
    }
    return HK_DIRTY_NONE;
}

static void unpin(struct hk_dirty *d, uint32_t r)
{
    uint32_t slot = d->region[r].slot - 1u;
    struct hk_hot *h = &d->hot[slot];

    HK_ASSERT(d->region[r].slot && h->pins > 0);
    if (--h->pins == 0 && h->list == HK_HOT_LOOSE && h->durable && !h->end)
        hk_hot_move(d, slot, HK_HOT_IDLE);
}

static void unpin_span(struct hk_dirty *d, struct span s)
{
    for (uint32_t r = s.from; r < s.to; r++)
        unpin(d, r);
}

static void pin_old(struct hk_dirty *d, uint32_t r)
{
    uint32_t slot = d->region[r].slot - 1u;

    d->hot[slot].pins++;
    if (d->hot[slot].list == HK_HOT_IDLE)
        hk_hot_move(d, slot, HK_HOT_LOOSE);
}

static bool pin_new(struct hk_dirty *d, uint32_t r, uint16_t volume)
{
    uint32_t slot = take_slot(d);
    struct hk_hot *h;

    if (slot == HK_DIRTY_NONE)
        return false;
    h = &d->hot[slot];
    h->region = r;
    h->volume = volume;
    h->pins = 1;
    h->end = h->need = 0;
    h->durable = false;
    d->region[r].slot = (uint16_t)(slot + 1);
    hk_hot_move(d, slot, HK_HOT_QUEUE);
    return true;
}

/* All of the op's regions, or none: two ops that wait for one another would wait for ever. */
static bool pin_span(struct hk_dirty *d, struct span s, uint16_t volume)
{
    uint32_t missing = 0, used = HK_DMAP_SLOTS - d->list[HK_HOT_FREE].count, r;

    for (r = s.from; r < s.to; r++) {
        if (d->region[r].slot)
            pin_old(d, r);
        else
            missing++;
    }
    if (missing == 0)
        return true;
    if (missing > d->hot_max - hk_min_u64(used, d->hot_max) + d->list[HK_HOT_IDLE].count) {
        for (r = s.from; r < s.to; r++) {
            if (d->region[r].slot)
                unpin(d, r);
        }
        return false;
    }
    for (r = s.from; r < s.to; r++) {
        if (!d->region[r].slot && !pin_new(d, r, volume))
            break;
    }
    if (r == s.to)
        return true;
    for (uint32_t back = s.from; back < s.to; back++) {
        if (d->region[back].slot)
            unpin(d, back);
    }
    return false;
}

/* ---- one op ---- */

/* Uncaptured: only what the map itself says, durably, lasts as long as it must. */
static enum hk_dirty_answer ready_uncaptured(struct hk_capture *c, struct hk_op *op)
{
    struct hk_dirty *d = &c->dirty;
    struct span s = op_span(d, op);
    bool ready = true;

    /* Not if it is about to go: what is decided then counts no more. */
    if ((c->want.flags & HK_SF_FULL_COMPARE) && hk_meta_surely_set(c, HK_SF_FULL_COMPARE))
        return HK_DIRTY_READY;
    for (uint32_t r = s.from; r < s.to; r++) {
        if (hk_bit(d->stale, r) && hk_bit(d->kept, r))
            continue;
        ready = false;
        if (!hk_bit(d->stale, r) || hk_bit(d->healing, r))
            hk_dirty_stale_region(c, r);
    }
    op->mark_wait = d->writes_done + 1;
    return ready ? HK_DIRTY_READY : HK_DIRTY_ASKED;
}

enum hk_dirty_answer hk_dirty_ready(struct hk_capture *c, struct hk_op *op)
{
    struct hk_dirty *d = &c->dirty;
    struct span s;

    if (!d->on || op->length == 0 || HK_BUG(mark_late))
        return HK_DIRTY_READY;
    if (op->mark_wait > d->writes_done)
        return HK_DIRTY_ASKED;
    if (c->passing)
        return ready_uncaptured(c, op);
    s = op_span(d, op);
    if (!op->pinned && !pin_span(d, s, op->volume))
        return HK_DIRTY_FULL;
    op->pinned = true;
    for (uint32_t r = s.from; r < s.to; r++) {
        if (d->hot[d->region[r].slot - 1].durable)
            continue;
        op->mark_wait = d->writes_done + 1;
        return HK_DIRTY_ASKED;
    }
    op->mark_wait = 0;
    return HK_DIRTY_READY;
}

void hk_dirty_took(struct hk_capture *c, struct hk_op *op)
{
    struct hk_dirty *d = &c->dirty;
    struct span s = op_span(d, op);

    if (!d->on)
        return;
    d->takes++;
    op->mark_wait = 0;
    if (op->type == HK_REC_FLUSH) {
        op->flush = ++d->flush[op->volume].started;
        return;
    }
    if (HK_BUG(mark_late) && op->captured)
        op->pinned = op->pinned || pin_span(d, s, op->volume);
    if (!op->captured) {
        hk_dirty_drop(c, op);
        for (uint32_t r = s.from; r < s.to; r++) {
            hk_dirty_stale_region(c, r);
            d->region[r].uncaptured++;
        }
        return;
    }
    if (!op->pinned)
        return;
    for (uint32_t r = s.from; r < s.to; r++) {
        uint32_t slot = d->region[r].slot - 1u;

        d->hot[slot].end = op->end.v;
        /* With mark_late it may not even be written: it stays where its transaction finds it. */
        if (d->hot[slot].durable)
            hk_hot_move(d, slot, HK_HOT_ACTIVE);
    }
}

static void note_flushed(struct hk_capture *c, uint16_t volume)
{
    struct hk_flushes *f = &c->dirty.flush[volume];
    uint64_t oldest = f->own ? f->own : UINT64_MAX;

    for (const struct hk_op *o = c->range[volume]; o; o = o->range.next) {
        if (o->type == HK_REC_FLUSH && o->flush)
            oldest = hk_min_u64(oldest, o->flush);
    }
    f->flushed = hk_max_u64(f->flushed, hk_min_u64(f->good, oldest - 1));
}

/*
 * What it should have made stable may be lost, and no later flush will say so: whatever of this
 * volume was written and not flushed by an earlier one.
 */
static void flush_failed(struct hk_capture *c, uint16_t volume)
{
    struct hk_dirty *d = &c->dirty;

    if (HK_BUG(flush_redeems))
        return;
    for (uint32_t i = 0; i < HK_DMAP_SLOTS; i++) {
        if (d->hot[i].list != HK_HOT_FREE && d->hot[i].volume == volume && d->hot[i].end)
            hk_dirty_stale_region(c, d->hot[i].region);
    }
    for (uint32_t i = d->heal_count; i-- > 0;) {
        if (d->heal[i].volume == volume)
            hk_dirty_stale_region(c, d->heal[i].region);
    }
}

void hk_dirty_done(struct hk_capture *c, struct hk_op *op, int result)
{
    struct hk_dirty *d = &c->dirty;
    struct span s = op_span(d, op);

    if (!d->on)
        return;
    if (op->type == HK_REC_FLUSH) {
        uint64_t number = op->flush;

        op->flush = 0;
        if (result < 0)
            flush_failed(c, op->volume);
        else
            d->flush[op->volume].good = hk_max_u64(d->flush[op->volume].good, number);
        note_flushed(c, op->volume);
        return;
    }
    /* There may have been a flush in it, and what that should have made stable is lost as well. */
    if (result < 0 && (op->flags & HK_REC_FUA))
        flush_failed(c, op->volume);
    for (uint32_t r = s.from; r < s.to; r++) {
        if (!op->captured) {
            HK_ASSERT(d->region[r].uncaptured > 0);
            d->region[r].uncaptured--;
        }
        /* A compare that ran beside it has seen who knows what. */
        if (!op->captured || result < 0)
            hk_dirty_stale_region(c, r);
        if (op->pinned) {
            d->hot[d->region[r].slot - 1].need = d->flush[op->volume].started + 1;
            unpin(d, r);
        }
    }
    op->pinned = false;
}

void hk_dirty_redo_failed(struct hk_capture *c, const struct hk_record *r)
{
    if (!c->dirty.on)
        return;
    if (r->type == HK_REC_FLUSH || (r->flags & HK_REC_FUA))
        flush_failed(c, r->volume);
    if (r->type != HK_REC_FLUSH)
        hk_dirty_stale_range(c, r->volume, r->offset, r->length);
}

void hk_dirty_drop(struct hk_capture *c, struct hk_op *op)
{
    if (c->dirty.on && op->pinned)
        unpin_span(&c->dirty, op_span(&c->dirty, op));
    op->pinned = false;
    op->mark_wait = 0;
}

bool hk_dirty_told(const struct hk_capture *c, const struct hk_op *op)
{
    const struct hk_dirty *d = &c->dirty;
    struct span s = op_span(d, op);

    if (!d->on)
        return true;
    if (op->type == HK_REC_FLUSH) {
        s.from = d->first_region[op->volume];
        s.to = d->first_region[op->volume + 1];
    }
    for (uint32_t r = s.from; r < s.to; r++) {
        if (hk_bit(d->stale, r) && !hk_bit(d->kept, r))
            return false;
    }
    return true;
}

/* ---- flushes of the caller's own ---- */

static bool first_waits_for_flush(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;
    const struct hk_hot *h;

    if (!d->list[HK_HOT_ACTIVE].first)
        return false;
    h = &d->hot[d->list[HK_HOT_ACTIVE].first - 1];
    return h->pins == 0 && h->end <= hk_dirty_kept_to(c) && h->need > d->flush[h->volume].flushed;
}

bool hk_dirty_waits_for_standby(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;

    return d->list[HK_HOT_ACTIVE].first &&
           d->hot[d->list[HK_HOT_ACTIVE].first - 1].end > hk_dirty_kept_to(c);
}

static bool heals_wait_for_flush(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;

    for (uint32_t i = 0; i < d->heal_count; i++) {
        if (d->heal[i].end <= c->durable && d->heal[i].need > d->flush[d->heal[i].volume].flushed)
            return true;
    }
    return false;
}

/* Fewer than a quarter of the slots could be given away. */
static bool pressed(const struct hk_dirty *d)
{
    uint64_t used = HK_DMAP_SLOTS - d->list[HK_HOT_FREE].count;

    return used - d->list[HK_HOT_IDLE].count > d->hot_max - d->hot_max / 4;
}

static bool is_idle(const struct hk_dirty *d, uint64_t mono_ns)
{
    return d->takes == d->takes_seen && hk_elapsed_ns(mono_ns, d->busy_ns) >= DIRTY_IDLE_NS;
}

static bool may_flush(const struct hk_capture *c)
{
    return c->redo_next >= c->redo_end && !c->stopped;
}

static bool needs_flush(const struct hk_capture *c, const struct hk_now *now)
{
    const struct hk_dirty *d = &c->dirty;

    if (!d->on || d->flush_out || !may_flush(c))
        return false;
    if (first_waits_for_flush(c) && (pressed(d) || is_idle(d, now->mono_ns)))
        return true;
    return hk_elapsed_ns(now->mono_ns, d->flushed_ns) >= DIRTY_FLUSH_EVERY_NS &&
           heals_wait_for_flush(c);
}

bool hk_dirty_wants_flush(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_dirty *d = &c->dirty;

    if (!d->want_flush || !needs_flush(c, now))
        return false;
    d->want_flush = false;
    d->flush_out = true;
    d->flushed_ns = now->mono_ns;
    for (uint32_t v = 0; v < c->cfg.volume_count; v++)
        d->flush[v].own = ++d->flush[v].started;
    return true;
}

void hk_dirty_flushed(struct hk_capture *c, int result)
{
    struct hk_dirty *d = &c->dirty;

    if (!d->on)
        return;
    /* Unasked: it covers what had ended before it began, so it counts only when nothing has begun
     * since. */
    if (!d->flush_out && c->in_flight > 0 && result == 0)
        return;
    for (uint16_t v = 0; v < c->cfg.volume_count; v++) {
        uint64_t number = d->flush_out ? d->flush[v].own : ++d->flush[v].started;

        d->flush[v].own = 0;
        if (result < 0)
            flush_failed(c, v);
        else
            d->flush[v].good = hk_max_u64(d->flush[v].good, number);
        note_flushed(c, v);
    }
    d->flush_out = false;
}

/* ---- staleness ---- */

void hk_dirty_page_dirty(struct hk_dirty *d, uint32_t page)
{
    if (hk_bit(d->pages, page))
        return;
    hk_bit_set(d->pages, page);
    d->pages_count++;
}

static void forget_heal(struct hk_dirty *d, uint32_t r)
{
    if (!hk_bit(d->healing, r))
        return;
    hk_bit_clear(d->healing, r);
    for (uint32_t i = 0; i < d->heal_count; i++) {
        if (d->heal[i].region != r)
            continue;
        d->heal[i] = d->heal[--d->heal_count];
        return;
    }
}

/* model: resync.pml, HOT_IS_STALE, ORIGIN_FAILED */
void hk_dirty_stale_region(struct hk_capture *c, uint32_t r)
{
    struct hk_dirty *d = &c->dirty;

    if (hk_dirty_region_bytes(c, r) == 0)
        return; /* the volume has not grown so far */
    d->region[r].event++;
    d->region[r].since = c->next_lsn;
    d->events++;
    if (hk_bit(d->healing, r) && !HK_BUG(heal_ignores_event))
        forget_heal(d, r);
    if (!hk_bit(d->stale, r)) {
        hk_bit_set(d->stale, r);
        d->stale_count++;
        d->stale_bytes += hk_dirty_region_bytes(c, r);
        hk_meta_set(c, HK_SF_STALE);
    }
    if (hk_bit(d->kept, r))
        return;
    /* A successor that finds the ring must not take it for active only. */
    c->producer->lied |= 1ull << hk_dirty_volume_of(d, r);
    hk_dirty_page_dirty(d, r / HK_DMAP_PAGE_REGIONS);
}

void hk_dirty_stale_range(struct hk_capture *c, uint16_t volume, uint64_t offset, uint64_t bytes)
{
    struct span s = span_of(&c->dirty, volume, offset, bytes);

    for (uint32_t r = s.from; c->dirty.on && r < s.to; r++)
        hk_dirty_stale_region(c, r);
}

void hk_dirty_stale_hot(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;

    for (uint32_t i = 0; d->on && i < HK_DMAP_SLOTS; i++) {
        if (d->hot[i].region != HK_DIRTY_NONE) /* none: its emptying is on its way */
            hk_dirty_stale_region(c, d->hot[i].region);
    }
}

/* The region that held the old end holds more now. */
void hk_dirty_grown(struct hk_capture *c, uint16_t volume, uint64_t bytes)
{
    struct hk_dirty *d = &c->dirty;
    uint64_t old = c->cfg.volume_bytes[volume];
    uint32_t r;

    HK_ASSERT(bytes >= old);
    r = d->on ? d->first_region[volume] + (uint32_t)((old - 1) >> d->shift) : 0;
    if (d->on && hk_bit(d->stale, r))
        d->stale_bytes -= hk_dirty_region_bytes(c, r);
    c->cfg.volume_bytes[volume] = bytes;
    if (d->on && hk_bit(d->stale, r))
        d->stale_bytes += hk_dirty_region_bytes(c, r);
}

void hk_dirty_stale_all(struct hk_capture *c)
{
    for (uint32_t r = 0; c->dirty.on && r < c->dirty.regions; r++)
        hk_dirty_stale_region(c, r);
}

uint32_t hk_dirty_stale(const struct hk_capture *c)
{
    return c->dirty.stale_count;
}

bool hk_dirty_none_is_equal(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;

    return d->stale_count == d->regions && d->heal_count == 0;
}

uint64_t hk_dirty_stale_bytes(const struct hk_capture *c)
{
    return c->dirty.stale_bytes;
}

/* ---- compare and heal ---- */

static uint32_t next_stale(const struct hk_dirty *d, uint32_t r)
{
    while (r < d->regions) {
        uint64_t word = (d->stale[r / 64] & ~d->healing[r / 64]) >> r % 64;

        if (word == 0) {
            r = (r / 64 + 1) * 64;
            continue;
        }
        r += (uint32_t)__builtin_ctzll(word);
        if (d->region[r].uncaptured == 0)
            return r;
        r++;
    }
    return HK_DIRTY_NONE;
}

bool hk_dirty_next(const struct hk_capture *c, uint16_t volume, uint64_t offset,
                   struct hk_stale *ret)
{
    const struct hk_dirty *d = &c->dirty;
    uint32_t r;

    if (!d->on || volume >= c->cfg.volume_count || d->stale_count == 0)
        return false;
    offset = hk_min_u64(offset, c->cfg.volume_bytes[volume]);
    r = d->first_region[volume] + (uint32_t)((offset + (1ull << d->shift) - 1) >> d->shift);
    r = next_stale(d, r);
    if (r == HK_DIRTY_NONE)
        return false;
    ret->volume = hk_dirty_volume_of(d, r);
    ret->offset = (uint64_t)(r - d->first_region[ret->volume]) << d->shift;
    ret->bytes = hk_dirty_region_bytes(c, r);
    ret->event = d->region[r].event;
    ret->after = d->region[r].since;
    return true;
}

int hk_dirty_heal(struct hk_capture *c, uint16_t volume, uint64_t offset, uint32_t event,
                  uint64_t end)
{
    struct hk_dirty *d = &c->dirty;
    uint32_t r;

    if (!d->on || volume >= c->cfg.volume_count || offset & ((1ull << d->shift) - 1) ||
        offset >= c->cfg.volume_bytes[volume])
        return -EINVAL;
    r = d->first_region[volume] + (uint32_t)(offset >> d->shift);
    if (!hk_bit(d->stale, r) || hk_bit(d->healing, r))
        return hk_bit(d->stale, r) && d->region[r].event != event ? -EAGAIN : 0;
    if ((d->region[r].event != event && !HK_BUG(heal_ignores_event)) ||
        d->region[r].uncaptured > 0 || d->heal_count == HK_DIRTY_HEALS_MAX)
        return -EAGAIN;
    d->heal[d->heal_count++] = (struct hk_heal){
        .end = end, .need = d->flush[volume].started + 1, .region = r, .volume = volume};
    hk_bit_set(d->healing, r);
    return 0;
}

static void unstale(struct hk_capture *c, uint32_t r)
{
    struct hk_dirty *d = &c->dirty;

    if (!hk_bit(d->stale, r))
        return;
    hk_bit_clear(d->stale, r);
    d->stale_count--;
    d->stale_bytes -= hk_dirty_region_bytes(c, r);
    hk_dirty_page_dirty(d, r / HK_DMAP_PAGE_REGIONS);
}

/* model: resync.pml, EQUAL_HEALED */
static void finish_heals(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;

    for (uint32_t i = d->heal_count; i-- > 0;) {
        struct hk_heal *h = &d->heal[i];

        if (h->end > c->durable || h->need > d->flush[h->volume].flushed)
            continue;
        d->relied = hk_max_u64(d->relied, h->end);
        hk_bit_clear(d->healing, h->region);
        unstale(c, h->region);
        *h = d->heal[--d->heal_count];
    }
}

/* ---- what follows ---- */

/* Nothing of it is under way any more. */
/* model: resync.pml, ACTIVE_CLEARED */
static void clear_active(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;

    while (d->list[HK_HOT_ACTIVE].first) {
        uint32_t slot = d->list[HK_HOT_ACTIVE].first - 1u;
        struct hk_hot *h = &d->hot[slot];

        if (h->pins > 0 || h->end > c->durable)
            return;
        if (h->need > d->flush[h->volume].flushed && !HK_BUG(clear_unflushed))
            return;
        if (HK_BUG(clear_on_ack_while_stale)) {
            forget_heal(d, h->region);
            unstale(c, h->region);
        }
        d->relied = hk_max_u64(d->relied, h->end);
        h->end = 0;
        hk_hot_move(d, slot, HK_HOT_IDLE);
    }
}

bool hk_dirty_settled(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;

    return d->pages_count == 0 && !d->map_out && d->fill_left == 0;
}

bool hk_dirty_quiet(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;

    return d->list[HK_HOT_ACTIVE].count == 0 && d->list[HK_HOT_QUEUE].count == 0 &&
           d->list[HK_HOT_LOOSE].count == 0 && !d->log_out;
}

uint64_t hk_dirty_sequence(const struct hk_capture *c)
{
    return c->dirty.sequence;
}

/* "Everything may differ" becomes a bit of each region; then the superblock need not say it. */
static void turn_full_compare(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;

    if (!(c->want.flags & HK_SF_FULL_COMPARE)) {
        d->everything_stale = false;
        return;
    }
    if (!d->everything_stale) {
        hk_dirty_stale_all(c);
        d->everything_stale = true;
    }
    if (hk_dirty_settled(c) && hk_meta_surely_set(c, HK_SF_STALE))
        hk_meta_clear(c, HK_SF_FULL_COMPARE);
}

void hk_dirty_step(struct hk_capture *c, const struct hk_now *now)
{
    struct hk_dirty *d = &c->dirty;

    if (!d->on)
        return;
    if (d->takes != d->takes_seen)
        d->busy_ns = now->mono_ns;
    d->takes_seen = d->takes;
    clear_active(c);
    hk_dirty_spool_step(c, pressed(d) || is_idle(d, now->mono_ns));
    finish_heals(c);
    turn_full_compare(c);
    if (c->producer->lied && hk_dirty_settled(c))
        c->producer->lied = 0;
    d->trim = is_idle(d, now->mono_ns) && d->list[HK_HOT_IDLE].count > 0;
    d->want_flush = needs_flush(c, now);
}

uint64_t hk_dirty_deadline_ns(const struct hk_capture *c)
{
    const struct hk_dirty *d = &c->dirty;
    uint64_t at = UINT64_MAX;

    if (!d->on)
        return at;
    /* What is due already is there to be fetched, and no reason to come again. */
    if (d->want_flush || d->flush_out || !may_flush(c))
        return at;
    if ((d->list[HK_HOT_IDLE].count > 0 && !d->trim) || first_waits_for_flush(c))
        at = d->busy_ns + DIRTY_IDLE_NS;
    if (heals_wait_for_flush(c))
        at = hk_min_u64(at, d->flushed_ns + DIRTY_FLUSH_EVERY_NS);
    return at;
}

void hk_dirty_status(const struct hk_capture *c, struct hk_dirty_status *ret)
{
    const struct hk_dirty *d = &c->dirty;

    __builtin_memset(ret, 0, sizeof(*ret));
    ret->on = d->on;
    if (!d->on)
        return;
    ret->region_shift = d->shift;
    ret->regions = d->regions;
    ret->hot_max = d->hot_max;
    ret->hot = HK_DMAP_SLOTS - d->list[HK_HOT_FREE].count;
    ret->active = ret->hot - d->list[HK_HOT_IDLE].count;
    ret->stale = d->stale_count;
    ret->spooled = d->spooled_count;
    ret->stale_bytes = d->stale_bytes;
    ret->log_writes = d->log_writes;
    ret->map_writes = d->map_writes;
    ret->events = d->events;
}
