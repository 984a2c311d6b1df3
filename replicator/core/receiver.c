/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/receiver.h"

#include "proto/bug.h"

#include <errno.h>

/* Records start at multiples of 64 and the window is a power of two: a header never wraps. */
HK_STATIC_ASSERT(HK_RECORD_HEADER_BYTES == HK_RECORD_ALIGN, "headers do not wrap");

size_t hk_receiver_memory(const struct hk_receiver_cfg *cfg)
{
    return hk_ranges_memory(HK_RECEIVER_RANGES) + HK_PAYLOAD_BYTES_MAX + 64 +
           cfg->path_count * hk_ranges_memory(HK_RECEIVER_PN_RANGES);
}

int hk_receiver_init(struct hk_receiver *r, const struct hk_receiver_cfg *cfg,
                     struct hk_arena *arena)
{
    int err;

    if (cfg->path_count < 1 || cfg->path_count > HK_PATHS_MAX || !cfg->window ||
        cfg->volume_count > HK_VOLUMES_MAX)
        return -EINVAL;
    if ((cfg->window_bytes & (cfg->window_bytes - 1)) != 0 ||
        cfg->window_bytes < 4ull * HK_RECORD_BYTES_MAX)
        return -EINVAL;
    *r = (struct hk_receiver){.cfg = *cfg};
    r->scratch = hk_arena_take(arena, HK_PAYLOAD_BYTES_MAX, 64);
    if (!r->scratch)
        return -ENOMEM;
    err = hk_ranges_init(&r->placed, HK_RECEIVER_RANGES, arena);
    for (uint32_t i = 0; i < cfg->path_count && !err; i++)
        err = hk_ranges_init(&r->path[i].received, HK_RECEIVER_PN_RANGES, arena);
    return err;
}

static void forget_above_acked(struct hk_receiver *r)
{
    hk_ranges_reset(&r->placed);
    r->header_ok = false;
}

void hk_receiver_rebase(struct hk_receiver *r, uint64_t lsn, uint32_t prev_bytes)
{
    HK_ASSERT(!r->running && lsn % HK_RECORD_ALIGN == 0 && lsn >= r->acked);
    r->acked = r->floor = r->base = lsn;
    r->prev_bytes = prev_bytes;
    forget_above_acked(r);
}

void hk_receiver_start(struct hk_receiver *r, uint32_t session, const struct hk_epoch *epoch)
{
    HK_ASSERT(session != 0 && r->acked >= epoch->first_lsn);
    forget_above_acked(r);
    r->running = true;
    r->session = session;
    r->ordinal = epoch->ordinal;
    r->seed = hk_epoch_seed(&epoch->id);
    r->epoch_first = epoch->first_lsn;
    r->fault = HK_RECORD_OK;
    r->last_path = 0;
    for (uint32_t i = 0; i < r->cfg.path_count; i++) {
        struct hk_receiver_path *p = &r->path[i];

        hk_ranges_reset(&p->received);
        p->forgotten = p->newest = p->newest_ns = p->last_ping = 0;
        p->unacked_count = 0;
        p->ack_now = false;
        p->ack_pn = 1;
    }
}

void hk_receiver_stop(struct hk_receiver *r)
{
    r->running = false;
    r->session = 0;
    forget_above_acked(r);
}

void hk_receiver_set_floor(struct hk_receiver *r, uint64_t lsn)
{
    HK_ASSERT(lsn <= r->acked);
    r->floor = hk_max_u64(r->floor, lsn);
}

uint64_t hk_receiver_edge(const struct hk_receiver *r)
{
    return hk_round_down(r->floor, HK_PAGE_BYTES) + r->cfg.window_bytes;
}

uint64_t hk_receiver_intact_from(const struct hk_receiver *r)
{
    if (r->placed_max <= r->cfg.window_bytes)
        return r->base;
    return hk_max_u64(r->base, r->placed_max - r->cfg.window_bytes);
}

static uint8_t *at(const struct hk_receiver *r, uint64_t lsn)
{
    return r->cfg.window + (lsn & (r->cfg.window_bytes - 1));
}

/* Bytes from lsn to the window's end in memory. */
static uint64_t until_wrap(const struct hk_receiver *r, uint64_t lsn)
{
    return r->cfg.window_bytes - (lsn & (r->cfg.window_bytes - 1));
}

static void copy_in(struct hk_receiver *r, uint64_t lsn, const uint8_t *from, uint64_t bytes)
{
    uint64_t n = hk_min_u64(bytes, until_wrap(r, lsn));

    __builtin_memcpy(at(r, lsn), from, n);
    if (n < bytes)
        __builtin_memcpy(r->cfg.window, from + n, bytes - n);
}

/* model: sync.pml, RECORD_PLACED; promote.pml, RECORD_PLACED */
static int place(struct hk_receiver *r, const struct hk_frame *f, const uint8_t *body)
{
    uint64_t first = hk_max_u64(f->lsn, r->acked), end = f->lsn + f->span;
    struct hk_range gap;
    int err;

    if (f->lsn < r->epoch_first || end < f->lsn)
        return -EINVAL;
    if (end > hk_receiver_edge(r)) {
        r->out_of_window++;
        return -ERANGE;
    }
    if (first >= end)
        return 0;
    for (uint64_t v = first; hk_ranges_gap(&r->placed, v, end, &gap); v = gap.end)
        copy_in(r, gap.first, body + (gap.first - f->lsn), gap.end - gap.first);
    r->placed_max = hk_max_u64(r->placed_max, end);
    err = hk_ranges_add(&r->placed, first, end);
    if (err)
        r->no_room++; /* copied, but not counted as placed: it comes again */
    return err;
}

int hk_receiver_frame(struct hk_receiver *r, const struct hk_frame *f, const uint8_t *body,
                      uint64_t now_ns)
{
    struct hk_receiver_path *p;
    uint64_t pn = f->packet_number, forgotten;
    int err;

    HK_ASSERT(r->running && f->session == r->session);
    if (f->path >= r->cfg.path_count || pn == 0 || pn == UINT64_MAX)
        return -EINVAL;
    p = &r->path[f->path];
    p->frames_rx++;
    p->bytes_rx += f->body_len + HK_FRAME_HEADER_BYTES + HK_FRAME_TAG_BYTES;
    if (pn < p->forgotten || hk_ranges_contains(&p->received, pn, pn + 1)) {
        p->duplicates++;
        return -EEXIST;
    }
    err = f->type == HK_FRAME_DATA ? place(r, f, body) : 0;
    if (err)
        return err;
    forgotten = hk_ranges_add_forget(&p->received, pn, pn + 1);
    p->forgotten = hk_max_u64(p->forgotten, forgotten);
    if (p->unacked_count++ == 0)
        p->unacked_since_ns = now_ns;
    if (pn > p->newest) {
        p->newest = pn;
        p->newest_ns = now_ns;
    }
    if (f->type == HK_FRAME_PING) {
        p->last_ping = hk_max_u64(p->last_ping, pn);
        p->ack_now = true;
    }
    r->last_path = f->path;
    return 0;
}

/* What only the receiver can know beyond hk_record_check: the group's volumes, the epoch's start.
 */
static enum hk_record_fault check_place(const struct hk_receiver *r, const struct hk_record *h)
{
    bool opens = h->lsn == r->epoch_first && r->ordinal > 1;

    if (opens != (h->type == HK_REC_GAP))
        return HK_RECORD_BAD_TYPE;
    switch ((enum hk_record_type)h->type) {
    case HK_REC_FLUSH:
    case HK_REC_MARK:
    case HK_REC_GAP:
    case HK_REC_VOID:
    case HK_REC_RESYNC_BEGIN:
    case HK_REC_RESYNC_END:
    case HK_REC_RESIZE:
    case HK_REC_MODE: return HK_RECORD_OK;
    /* No primary of this version says these, and nothing here would know what to do with them. */
    case HK_REC_JOIN:
    case HK_REC_LEAVE: return HK_RECORD_BAD_TYPE;
    case HK_REC_WRITE:
    case HK_REC_ZEROES:
    case HK_REC_DISCARD:
    case HK_REC_BLOCK:
    case HK_REC_BAD_RANGE: break;
    }
    if (h->volume >= r->cfg.volume_count)
        return HK_RECORD_BAD_VOLUME;
    if (h->offset > r->cfg.volume_bytes[h->volume] ||
        h->length > r->cfg.volume_bytes[h->volume] - h->offset)
        return HK_RECORD_BAD_LENGTH;
    return (h->offset | h->length) % 512 ? HK_RECORD_BAD_LENGTH : HK_RECORD_OK;
}

static const void *payload_of(const struct hk_receiver *r, const struct hk_record *h)
{
    uint64_t lsn = h->lsn + HK_RECORD_HEADER_BYTES;
    uint64_t n = until_wrap(r, lsn);

    if (h->payload_len == 0)
        return NULL;
    if (n >= h->payload_len)
        return at(r, lsn);
    __builtin_memcpy(r->scratch, at(r, lsn), n);
    __builtin_memcpy(r->scratch + n, r->cfg.window, h->payload_len - n);
    return r->scratch;
}

static bool fail(struct hk_receiver *r, enum hk_record_fault fault)
{
    r->fault = fault;
    r->fault_lsn = r->acked;
    r->bad_records++;
    r->bad_chain += fault == HK_RECORD_BAD_PREV;
    return false;
}

bool hk_receiver_next_record(struct hk_receiver *r, struct hk_received *ret)
{
    uint64_t have = hk_ranges_end_at(&r->placed, r->acked);
    enum hk_record_fault fault;

    if (!r->running || r->fault != HK_RECORD_OK)
        return false;
    if (have - r->acked < HK_RECORD_HEADER_BYTES)
        return false;
    if (!r->header_ok) {
        __builtin_memcpy(&r->header, at(r, r->acked), sizeof(r->header));
        fault = hk_record_check(&r->header, HK_LSN(r->acked), r->ordinal, r->seed);
        if (fault == HK_RECORD_OK)
            fault = check_place(r, &r->header);
        if (fault == HK_RECORD_OK && !HK_BUG(chain_unchecked))
            fault = hk_record_follows(&r->header, r->prev_bytes);
        if (fault != HK_RECORD_OK)
            return fail(r, fault);
        r->header_ok = true;
    }
    if (have < hk_record_end(&r->header).v)
        return false;
    ret->record = r->header;
    ret->payload = payload_of(r, &r->header);
    fault = hk_record_check_payload(&r->header, ret->payload);
    if (fault != HK_RECORD_OK)
        return fail(r, fault);
    r->acked = hk_record_end(&r->header).v;
    r->prev_bytes = hk_record_bytes(r->header.payload_len);
    r->header_ok = false;
    hk_ranges_trim_below(&r->placed, r->acked);
    return true;
}

uint64_t hk_receiver_boundary(const struct hk_receiver *r, uint64_t from, uint64_t limit)
{
    uint64_t lsn = from;

    if (limit >= r->acked)
        return r->acked;
    for (;;) {
        struct hk_record h;
        uint64_t end;

        __builtin_memcpy(&h, at(r, lsn), sizeof(h));
        HK_ASSERT(h.magic == HK_RECORD_MAGIC && h.lsn == lsn);
        end = hk_record_end(&h).v;
        if (end > limit)
            return lsn;
        lsn = end;
    }
}

void hk_receiver_ack_now(struct hk_receiver *r)
{
    r->path[r->last_path].ack_now = true;
}

static bool due(const struct hk_receiver_path *p, uint64_t now_ns)
{
    return p->ack_now || p->unacked_count >= HK_ACK_EVERY_PACKETS ||
           (p->unacked_count > 0 && now_ns >= p->unacked_since_ns + HK_ACK_DELAY_MAX_NS);
}

bool hk_receiver_ack_due(const struct hk_receiver *r, uint64_t now_ns)
{
    for (uint32_t i = 0; r->running && i < r->cfg.path_count; i++) {
        if (due(&r->path[i], now_ns))
            return true;
    }
    return false;
}

static uint16_t newest_ranges(const struct hk_receiver_path *p, struct hk_pn_range *ret)
{
    uint32_t n = p->received.count < HK_ACK_RANGES_MAX ? p->received.count : HK_ACK_RANGES_MAX;

    for (uint32_t i = 0; i < n; i++) {
        const struct hk_range *v = &p->received.r[p->received.count - 1 - i];

        ret[i] = (struct hk_pn_range){v->first, v->end - 1};
    }
    return (uint16_t)n;
}

bool hk_receiver_next_ack(struct hk_receiver *r, uint64_t now_ns, struct hk_frame *ret_frame,
                          struct hk_ack *ret_ack, struct hk_pn_range ret_ranges[HK_ACK_RANGES_MAX])
{
    for (uint32_t i = 0; r->running && i < r->cfg.path_count; i++) {
        struct hk_receiver_path *p = &r->path[i];

        if (!due(p, now_ns))
            continue;
        *ret_ack = (struct hk_ack){
            .acked = r->acked,
            .window = hk_receiver_edge(r),
            .last_ping = p->last_ping,
            .delay_us = (uint32_t)hk_min_u64((now_ns - p->newest_ns) / 1000, UINT32_MAX),
            .range_count = newest_ranges(p, ret_ranges),
        };
        *ret_frame = (struct hk_frame){
            .version = HK_FRAME_VERSION,
            .type = HK_FRAME_ACK,
            .path = (uint8_t)i,
            .session = r->session,
            .packet_number = p->ack_pn++,
        };
        p->ack_now = false;
        p->unacked_count = 0;
        p->frames_tx++;
        return true;
    }
    return false;
}

uint64_t hk_receiver_deadline_ns(const struct hk_receiver *r)
{
    uint64_t at_ns = UINT64_MAX;

    for (uint32_t i = 0; r->running && i < r->cfg.path_count; i++) {
        const struct hk_receiver_path *p = &r->path[i];

        if (p->ack_now || p->unacked_count >= HK_ACK_EVERY_PACKETS)
            return 0;
        if (p->unacked_count > 0)
            at_ns = hk_min_u64(at_ns, p->unacked_since_ns + HK_ACK_DELAY_MAX_NS);
    }
    return at_ns;
}
