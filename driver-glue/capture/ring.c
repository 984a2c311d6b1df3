/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The ring's bytes: format, check, reserve, publish, free, and what a new producer finds. */
#include "driver-glue/capture/internal.h"
#include "proto/at.h"
#include "proto/bug.h"
#include "proto/hash.h"

#include <errno.h>

int hk_ring_format(void *ring, uint64_t total_bytes, uint32_t slot_count, uint64_t payload_bytes,
                   const struct hk_uuid *group_id, const struct hk_uuid *ring_id)
{
    struct hk_ring_header *h = ring;

    if (slot_count < HK_RING_SLOTS_MIN || slot_count > HK_RING_SLOTS_MAX ||
        (slot_count & (slot_count - 1)) != 0)
        return -EINVAL;
    if (payload_bytes < HK_RING_PAYLOAD_MIN || payload_bytes % HK_PAGE_BYTES != 0 ||
        payload_bytes > UINT64_MAX / 4)
        return -EINVAL;
    if (total_bytes != hk_ring_total_bytes(slot_count, payload_bytes))
        return -EINVAL;
    __builtin_memset(ring, 0, 2 * HK_PAGE_BYTES);
    h->magic = HK_RING_MAGIC;
    h->version = HK_RING_VERSION;
    h->slot_count = slot_count;
    h->payload_bytes = payload_bytes;
    h->slots_offset = 2 * HK_PAGE_BYTES;
    h->sides_offset = h->slots_offset +
                      hk_round_up((uint64_t)slot_count * sizeof(struct hk_record), HK_PAGE_BYTES);
    h->payload_offset =
        h->sides_offset +
        hk_round_up((uint64_t)slot_count * sizeof(struct hk_ring_side), HK_PAGE_BYTES);
    h->total_bytes = total_bytes;
    h->group_id = *group_id;
    h->ring_id = *ring_id;
    h->hash = hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0);
    HK_ASSERT(h->payload_offset + payload_bytes == total_bytes);
    return 0;
}

/* A ring under examination: where the walk stands. */
struct walk {
    const struct hk_ring_header *header;
    const struct hk_super *super;
    const struct hk_record *slots;
    const struct hk_ring_side *sides;
    const uint8_t *payload;
    uint64_t mask;
    uint32_t ordinal;
    uint64_t seed;
    uint64_t lsn;         /* the next record's; 0: any */
    uint64_t payload_pos; /* not below */
    uint64_t payload_first;
};

static bool is_data(uint8_t type)
{
    return type == HK_REC_WRITE || type == HK_REC_ZEROES || type == HK_REC_DISCARD;
}

static bool on_volume(const struct walk *w, const struct hk_record *r)
{
    uint64_t bytes;

    if (!is_data(r->type) && r->type != HK_REC_FLUSH)
        return true;
    if (r->volume >= w->super->volume_count)
        return false;
    bytes = w->super->volume[r->volume].bytes;
    return r->offset <= bytes && r->length <= bytes - r->offset;
}

static bool piece_ok(const struct walk *w, const struct hk_record *r, const struct hk_ring_side *s)
{
    uint64_t place = s->payload_pos % w->header->payload_bytes;

    if (s->payload_pos % HK_PAGE_BYTES != 0 || s->payload_pos < w->payload_pos)
        return false;
    if (r->payload_len > HK_PAYLOAD_BYTES_MAX || place + r->payload_len > w->header->payload_bytes)
        return false;
    return s->payload_pos + r->payload_len - w->payload_first <= w->header->payload_bytes;
}

static bool slot_ok(struct walk *w, uint64_t index)
{
    const struct hk_ring_side *s = &w->sides[index & w->mask];
    const struct hk_record *r = &w->slots[index & w->mask];
    bool published = r->lsn == s->lsn;

    if (w->lsn == 0) {
        w->lsn = s->lsn;
        w->payload_pos = w->payload_first = s->payload_pos;
    }
    if (s->lsn == 0 || s->lsn != w->lsn || s->done > 1 || (s->done && !published))
        return false;
    if (!piece_ok(w, r, s))
        return false;
    if (published) {
        if (hk_record_check(r, HK_LSN(w->lsn), w->ordinal, w->seed) != HK_RECORD_OK ||
            !on_volume(w, r))
            return false;
        if (!s->done &&
            !hk_record_payload_ok(r, w->payload + s->payload_pos % w->header->payload_bytes))
            return false;
    } else if (r->magic != HK_RECORD_MAGIC || r->epoch != w->ordinal) {
        return false;
    }
    w->lsn += hk_record_bytes(r->payload_len);
    w->payload_pos = s->payload_pos + hk_round_up(r->payload_len, HK_PAGE_BYTES);
    return true;
}

int hk_ring_check(const void *ring, uint64_t mapped_bytes, const struct hk_uuid *group_id,
                  const struct hk_super *super)
{
    const struct hk_ring_header *h = ring;
    const struct hk_ring_producer *p = (const void *)((const uint8_t *)ring + HK_PAGE_BYTES);
    const struct hk_epoch *epoch = hk_history_last(&super->history);
    struct walk w = {.header = h, .super = super};
    uint64_t next_lsn;

    if (!hk_ring_header_ok(h, mapped_bytes) || !epoch)
        return -EUCLEAN;
    if (!hk_uuid_equal(&h->group_id, group_id) || !hk_uuid_equal(&p->epoch_id, &epoch->id) ||
        p->epoch_ordinal != epoch->ordinal)
        return -ESTALE;
    if (!(super->flags & HK_SF_CLEAN) && !hk_uuid_is_nil(&super->ring_id) &&
        !hk_uuid_equal(&super->ring_id, &h->ring_id))
        return -ESTALE;
    w.slots = (const void *)((const uint8_t *)ring + h->slots_offset);
    w.sides = (const void *)((const uint8_t *)ring + h->sides_offset);
    w.payload = (const uint8_t *)ring + h->payload_offset;
    w.mask = h->slot_count - 1;
    w.ordinal = epoch->ordinal;
    w.seed = hk_epoch_seed(&epoch->id);
    if (p->tail > p->head || p->head - p->tail > h->slot_count || p->epoch_head > p->tail)
        return -EUCLEAN;
    /* The last slot freed still tells where the log goes on. */
    if (p->tail == p->head && p->head > p->epoch_head && !slot_ok(&w, p->head - 1))
        return -EUCLEAN;
    for (uint64_t i = p->tail; i < p->head; i++) {
        if (!slot_ok(&w, i))
            return -EUCLEAN;
    }
    next_lsn = p->head > p->epoch_head ? w.lsn : p->next_lsn;
    if (next_lsn < epoch->first_lsn || next_lsn > hk_max_u64(super->ceiling, epoch->first_lsn))
        return -EUCLEAN;
    if (p->released > next_lsn || p->acked > next_lsn || p->durable > p->acked)
        return -EUCLEAN;
    /* They go into the superblock, which holds no such positions. */
    if ((p->released | p->acked | p->durable | next_lsn) % HK_RECORD_ALIGN != 0)
        return -EUCLEAN;
    if (p->closed > 1)
        return -EUCLEAN;
    if (p->prev_bytes % HK_RECORD_ALIGN != 0 || p->prev_bytes > HK_RECORD_BYTES_MAX)
        return -EUCLEAN;
    if (p->lease > INT64_MAX)
        return -EUCLEAN;
    if ((super->flags & HK_SF_CLEAN) && next_lsn != super->clean_lsn)
        return -ESTALE;
    return 0;
}

void hk_capture_map_ring(struct hk_capture *c, void *ring)
{
    uint8_t *base = ring;

    c->header = ring;
    c->producer = (void *)(base + HK_PAGE_BYTES);
    c->slots = (void *)(base + c->header->slots_offset);
    c->sides = (void *)(base + c->header->sides_offset);
    c->payload = base + c->header->payload_offset;
    c->slot_count = c->header->slot_count;
    c->slot_mask = c->slot_count - 1;
    c->payload_bytes = c->header->payload_bytes;
}

/* Bytes skipped so that a piece does not wrap. */
static uint64_t gap_before(const struct hk_capture *c, uint32_t payload_len)
{
    uint64_t place = c->payload_head % c->payload_bytes;

    if (payload_len == 0 || place + hk_round_up(payload_len, HK_PAGE_BYTES) <= c->payload_bytes)
        return 0;
    return c->payload_bytes - place;
}

bool hk_capture_room(const struct hk_capture *c, uint32_t payload_len, bool control)
{
    uint64_t slots = c->slot_count - c->credit.slots - (control ? 0 : HK_CAPTURE_CONTROL_SLOTS);
    uint64_t bytes =
        c->payload_bytes - c->credit.payload_bytes - (control ? 0 : HK_CAPTURE_CONTROL_BYTES);
    uint64_t piece = hk_round_up(payload_len, HK_PAGE_BYTES);
    uint64_t used = c->payload_head - c->payload_tail;

    HK_ASSERT(used <= c->payload_bytes);
    HK_ASSERT(c->head - c->tail <= c->slot_count);
    if (c->head - c->tail >= slots)
        return false;
    if (payload_len == 0)
        return true;
    /* Nothing lies before the gap of an empty ring, so it costs nothing. */
    if (used == 0)
        return piece <= bytes;
    return used + gap_before(c, payload_len) + piece <= bytes;
}

void hk_capture_reserve(struct hk_capture *c, const struct hk_reserve *r, uint64_t real_ns,
                        struct hk_reserved *ret)
{
    uint64_t index = c->head;
    struct hk_record *slot = &c->slots[index & c->slot_mask];
    struct hk_ring_side *side = &c->sides[index & c->slot_mask];
    uint64_t gap = gap_before(c, r->payload_len);
    uint64_t piece = hk_round_up(r->payload_len, HK_PAGE_BYTES);
    uint32_t bytes = hk_record_bytes(r->payload_len);

    HK_ASSERT(c->head - c->tail < c->slot_count);
    HK_ASSERT(c->next_lsn + bytes <= c->super.ceiling);
    HK_ASSERT(!c->passing);
    if (c->payload_head == c->payload_tail)
        c->payload_tail = c->payload_head + gap;
    c->last_time_ns = hk_max_u64(c->last_time_ns + 1, real_ns);

    if (HK_BUG(head_first))
        hk_ring_store_release(&c->producer->head, index + 1);
    HK_AT(reserving);
    side->lsn = c->next_lsn;
    side->payload_pos = c->payload_head + gap;
    __atomic_store_n(&side->done, 0, __ATOMIC_RELAXED);
    side->payload_span = (uint32_t)(gap + piece);
    slot->time_ns = c->last_time_ns;
    slot->offset = r->offset;
    slot->length = r->length;
    slot->payload_len = r->payload_len;
    slot->epoch = c->epoch_ordinal;
    slot->volume = r->volume;
    slot->type = r->type;
    slot->flags = r->flags;
    slot->magic = HK_RECORD_MAGIC;
    slot->prev_bytes = c->prev_bytes;

    ret->slot = index;
    ret->lsn = c->next_lsn;
    ret->end = c->next_lsn + bytes;
    ret->payload = r->payload_len ? c->payload + side->payload_pos % c->payload_bytes : NULL;
    if (r->payload_len)
        c->payload_head += gap + piece;
    HK_ASSERT(c->payload_head - c->payload_tail <= c->payload_bytes);
    c->prev_bytes = bytes;
    c->next_lsn = ret->end;
    c->head = index + 1;
    HK_AT(described);
    /* The commit point: from here on the record exists, if only as a void one. Pairs with whoever
     * takes over the ring. */
    hk_ring_store_release(&c->producer->head, c->head);
    HK_AT(reserved);
    hk_ring_store_relaxed(&c->producer->next_lsn, c->next_lsn);
    hk_ring_store_relaxed(&c->producer->payload_head, c->payload_head);
    hk_ring_store_relaxed(&c->producer->last_time_ns, c->last_time_ns);
}

void hk_capture_publish_slot(const struct hk_capture *c, uint64_t index, uint64_t lsn,
                             const void *payload)
{
    struct hk_record *slot = &c->slots[index & c->slot_mask];
    struct hk_record r = *slot;

    if (!HK_BUG(publish_early))
        r.lsn = lsn;
    r.payload_hash = r.payload_len ? hk_xxh64(payload, r.payload_len, 0) : 0;
    r.header_hash = hk_record_header_hash(&r, c->epoch_seed);
    if (HK_BUG(lsn_first))
        hk_ring_store_release(&slot->lsn, lsn);
    HK_AT(hashed);
    __builtin_memcpy((uint8_t *)slot + 8, (const uint8_t *)&r + 8, sizeof(r) - 8);
    /* Pairs with the reader's acquire load: who sees the LSN sees header and payload. */
    HK_AT(headed);
    if (HK_BUG(lsn_relaxed))
        hk_ring_store_relaxed(&slot->lsn, lsn);
    else
        hk_ring_store_release(&slot->lsn, lsn);
    HK_AT(published);
}

void hk_capture_mark_done(struct hk_capture *c, uint64_t index)
{
    HK_ASSERT(index >= c->tail && index < c->head);
    __atomic_store_n(&c->sides[index & c->slot_mask].done, 1, __ATOMIC_RELEASE);
    HK_AT(done);
}

void hk_capture_advance_published(struct hk_capture *c)
{
    while (c->published < c->head) {
        const struct hk_record *slot = &c->slots[c->published & c->slot_mask];
        uint64_t lsn = c->sides[c->published & c->slot_mask].lsn;

        /* Pairs with publish: the payload length below is the published one. */
        if (hk_ring_load_acquire(&slot->lsn) != lsn)
            break;
        c->produced = lsn + hk_record_bytes(slot->payload_len);
        c->published++;
    }
    HK_ASSERT(c->produced <= c->next_lsn);
}

/*
 * Its slot may still wait for the origin, but no reader may count on it. Only of a published record
 * is the header looked at: until then it is being written, without the lock.
 */
static bool is_released(const struct hk_capture *c, uint64_t index)
{
    const struct hk_ring_side *side = &c->sides[index & c->slot_mask];
    const struct hk_record *slot = &c->slots[index & c->slot_mask];

    if (c->over)
        return true;
    if (side->lsn >= c->released)
        return false;
    return side->lsn + hk_record_bytes(slot->payload_len) <= c->released;
}

void hk_capture_advance_tail(struct hk_capture *c)
{
    uint64_t before = c->tail;

    c->unreleased = hk_max_u64(c->unreleased, c->tail);
    while (c->unreleased < c->head && is_released(c, c->unreleased))
        c->unreleased++;
    while (c->tail < c->head) {
        const struct hk_ring_side *side = &c->sides[c->tail & c->slot_mask];
        const struct hk_record *slot = &c->slots[c->tail & c->slot_mask];

        if ((!__atomic_load_n(&side->done, __ATOMIC_RELAXED) && !HK_BUG(slot_too_soon)) ||
            !is_released(c, c->tail))
            break;
        if (slot->type == HK_REC_MARK) {
            HK_ASSERT(c->marks > 0);
            c->marks--;
        }
        c->tail++;
    }
    if (c->tail == before)
        return;
    c->payload_tail =
        c->tail < c->head ? c->sides[c->tail & c->slot_mask].payload_pos : c->payload_head;
    HK_ASSERT(c->payload_tail <= c->payload_head);
    HK_AT(freeing);
    hk_ring_store_release(&c->producer->tail, c->tail);
    HK_AT(freed);
}

/*
 * Reserved but never published: the origin was never written. The position is kept, the content
 * goes: half a copy is nobody's data.
 */
static void make_void(struct hk_capture *c, uint64_t index)
{
    struct hk_record *slot = &c->slots[index & c->slot_mask];
    struct hk_ring_side *side = &c->sides[index & c->slot_mask];
    uint8_t *payload = c->payload + side->payload_pos % c->payload_bytes;

    if (slot->type == HK_REC_GAP && slot->payload_len == sizeof(struct hk_gap)) {
        /* Its content follows from the history, and an epoch must open with it. */
        hk_control_gap_payload(c, side->lsn, (struct hk_gap *)(void *)payload);
    } else if (!HK_BUG(void_kept)) {
        slot->type = HK_REC_VOID;
        slot->flags = 0;
        slot->volume = 0;
        slot->offset = 0;
        slot->length = 0;
        __builtin_memset(payload, 0, slot->payload_len);
    }
    HK_AT(voiding);
    hk_capture_publish_slot(c, index, side->lsn, payload);
    HK_AT(voided);
    __atomic_store_n(&side->done, 1, __ATOMIC_RELEASE);
}

/* model: sync.pml, RING_FOUND */
void hk_capture_load_ring(struct hk_capture *c)
{
    const struct hk_ring_producer *p = c->producer;

    c->head = p->head;
    c->tail = p->tail;
    c->epoch_head = p->epoch_head;
    c->next_lsn = p->next_lsn;
    c->last_time_ns = p->last_time_ns;
    c->payload_head = hk_round_up(p->payload_head, HK_PAGE_BYTES);
    c->prev_bytes = p->prev_bytes;
    c->lease = p->lease;
    if (c->head > c->epoch_head) {
        const struct hk_record *slot = &c->slots[(c->head - 1) & c->slot_mask];
        const struct hk_ring_side *side = &c->sides[(c->head - 1) & c->slot_mask];

        c->prev_bytes = hk_record_bytes(slot->payload_len);
        c->next_lsn = side->lsn + c->prev_bytes;
        c->last_time_ns = hk_max_u64(c->last_time_ns, slot->time_ns);
        c->payload_head = side->payload_pos + hk_round_up(slot->payload_len, HK_PAGE_BYTES);
    }
    c->payload_tail =
        c->tail < c->head ? c->sides[c->tail & c->slot_mask].payload_pos : c->payload_head;
    for (uint64_t i = c->tail; i < c->head; i++) {
        const struct hk_record *slot = &c->slots[i & c->slot_mask];

        if (slot->lsn != c->sides[i & c->slot_mask].lsn)
            make_void(c, i);
        if (slot->type == HK_REC_MARK)
            c->marks++;
    }
    c->published = c->head;
    c->produced = c->next_lsn;
    c->released = p->released;
    c->acked = p->acked;
    c->durable = p->durable;
    c->redo_next = c->tail;
    c->redo_end = c->head;
}
