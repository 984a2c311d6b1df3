/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The dirty map at a start: its memory, and what the metadata file says of an earlier life. */
#include "driver-glue/capture/internal.h"

#include <errno.h>

/* Where the arrays lie in the caller's memory. */
struct layout {
    uint64_t log_page, map_page, load, hot, table, region, stale, kept, healing, pages, damaged;
    uint64_t spooled, sheltered, page_end, issued, issued_spooled, packed, bytes;
    uint64_t regions;
    uint32_t map_pages;
};

static uint64_t place(uint64_t *at, uint64_t bytes)
{
    uint64_t here = *at;

    *at = hk_round_up(here + bytes, 64);
    return here;
}

static bool make_layout(const struct hk_capture_cfg *cfg, struct layout *ret)
{
    uint64_t at = 0, regions = 0, bits, page_bits;

    if (cfg->region_shift < HK_REGION_SHIFT_MIN || cfg->region_shift > HK_REGION_SHIFT_MAX ||
        cfg->volume_count > HK_VOLUMES_MAX)
        return false;
    for (uint32_t v = 0; v < cfg->volume_count; v++)
        regions += hk_dmap_regions(hk_max_u64(cfg->volume_room[v], cfg->volume_bytes[v]),
                                   cfg->region_shift);
    if (regions == 0 || regions > HK_DMAP_REGIONS_MAX)
        return false;
    ret->regions = regions;
    ret->map_pages = hk_dmap_map_pages(regions);
    /* Whole pages, so that a page's words need no end of their own. */
    bits = (uint64_t)ret->map_pages * HK_DIRTY_PAGE_WORDS * 8;
    page_bits = ((uint64_t)ret->map_pages + 63) / 64 * 8;
    ret->log_page = place(&at, HK_DMAP_PAGE_BYTES);
    ret->map_page = place(&at, HK_DMAP_PAGE_BYTES);
    ret->load = place(&at, sizeof(struct hk_dmap_load));
    ret->hot = place(&at, HK_DMAP_SLOTS * sizeof(struct hk_hot));
    ret->table = place(&at, HK_DMAP_SLOTS * sizeof(uint32_t));
    ret->region = place(&at, regions * sizeof(struct hk_region));
    ret->stale = place(&at, bits);
    ret->kept = place(&at, bits);
    ret->healing = place(&at, bits);
    ret->pages = place(&at, page_bits);
    ret->damaged = place(&at, page_bits);
    ret->spooled = place(&at, bits);
    ret->sheltered = place(&at, bits);
    ret->page_end = place(&at, (uint64_t)ret->map_pages * 8);
    ret->issued = place(&at, HK_DIRTY_PAGE_WORDS * 8);
    ret->issued_spooled = place(&at, HK_DIRTY_PAGE_WORDS * 8);
    ret->packed = place(&at, HK_DMAP_PAGE_STATES);
    ret->bytes = at;
    return true;
}

size_t hk_capture_dirty_bytes(const struct hk_capture_cfg *cfg)
{
    struct layout l;

    return cfg->region_shift && make_layout(cfg, &l) ? l.bytes : 0;
}

/* A write of the largest payload fits, unless the caller has fewer slots and splits what is larger;
 * discards of large regions need no more. */
static uint32_t span_max(const struct hk_capture_cfg *cfg)
{
    uint64_t span = hk_max_u64(64, (HK_PAYLOAD_BYTES_MAX >> cfg->region_shift) + 1);

    return (uint32_t)(cfg->hot_regions_max ? hk_min_u64(span, cfg->hot_regions_max) : span);
}

uint32_t hk_capture_op_bytes_max(const struct hk_capture_cfg *cfg, uint64_t offset)
{
    uint64_t all = UINT32_MAX & ~511u, mask = (1ull << cfg->region_shift) - 1;

    if (!cfg->region_shift)
        return (uint32_t)all;
    return (uint32_t)hk_min_u64(all,
                                ((uint64_t)span_max(cfg) << cfg->region_shift) - (offset & mask));
}

static void set_memory(struct hk_dirty *d, uint8_t *m, const struct layout *l)
{
    __builtin_memset(m, 0, l->bytes);
    d->log_page = m + l->log_page;
    d->map_page = m + l->map_page;
    d->load = (void *)(m + l->load);
    d->hot = (void *)(m + l->hot);
    d->table = (void *)(m + l->table);
    d->region = (void *)(m + l->region);
    d->stale = (void *)(m + l->stale);
    d->kept = (void *)(m + l->kept);
    d->healing = (void *)(m + l->healing);
    d->pages = (void *)(m + l->pages);
    d->damaged = (void *)(m + l->damaged);
    d->spooled = (void *)(m + l->spooled);
    d->sheltered = (void *)(m + l->sheltered);
    d->page_end = (void *)(m + l->page_end);
    d->spool_next = UINT64_MAX;
    d->issued = (void *)(m + l->issued);
    d->issued_spooled = (void *)(m + l->issued_spooled);
    d->packed = m + l->packed;
    d->regions = (uint32_t)l->regions;
    d->map_pages = l->map_pages;
}

static int set_geometry(struct hk_capture *c)
{
    const struct hk_capture_cfg *cfg = &c->cfg;
    struct hk_dirty *d = &c->dirty;
    struct layout l;
    uint32_t first = 0;

    if (!hk_super_is_current(&c->super) || c->super.region_shift != cfg->region_shift ||
        !make_layout(cfg, &l) || !cfg->dirty_memory || !cfg->dirty_pages)
        return -EINVAL;
    if (cfg->dirty_pages_bytes < HK_DMAP_LOG_BYTES + (uint64_t)l.map_pages * HK_DMAP_PAGE_BYTES)
        return -EINVAL;
    HK_ASSERT((uintptr_t)cfg->dirty_memory % HK_PAGE_BYTES == 0);
    set_memory(d, cfg->dirty_memory, &l);
    d->shift = cfg->region_shift;
    d->span = span_max(cfg);
    d->hot_max = cfg->hot_regions_max ? cfg->hot_regions_max : HK_HOT_REGIONS_MAX;
    if (d->hot_max < d->span || d->hot_max > HK_HOT_REGIONS_MAX)
        return -EINVAL;
    for (uint32_t v = 0; v < cfg->volume_count; v++) {
        if (c->super.volume[v].first_region != first)
            return -EINVAL;
        d->first_region[v] = first;
        first += (uint32_t)hk_dmap_regions(hk_max_u64(cfg->volume_room[v], cfg->volume_bytes[v]),
                                           d->shift);
    }
    for (uint32_t v = cfg->volume_count; v <= HK_VOLUMES_MAX; v++)
        d->first_region[v] = first;
    return 0;
}

static void all_free(struct hk_dirty *d)
{
    for (uint32_t i = 0; i < HK_DMAP_SLOTS; i++) {
        d->hot[i].region = HK_DIRTY_NONE;
        d->hot[i].list = HK_HOT_FREE;
        d->hot[i].prev = (uint16_t)i;
        d->hot[i].next = (uint16_t)(i + 1 < HK_DMAP_SLOTS ? i + 2 : 0);
    }
    d->list[HK_HOT_FREE] =
        (struct hk_hot_ends){.first = 1, .last = HK_DMAP_SLOTS, .count = HK_DMAP_SLOTS};
}

/*
 * The spool counts for the newest epoch alone, and what was made stale in memory may not have come
 * to the map before the process died.
 */
static bool spool_counts(const struct hk_capture *c, const uint8_t *page, uint32_t i)
{
    const struct hk_dmap_sector *s =
        &((const struct hk_dmap_page *)(const void *)page)->sector[i / HK_DMAP_SECTOR_REGIONS];

    return c->super.spooled_lsn && s->ordinal == c->epoch_ordinal;
}

static void read_region(struct hk_capture *c, uint32_t r, bool spooled, bool whole)
{
    struct hk_dirty *d = &c->dirty;

    if (spooled && !(c->producer->lied >> hk_dirty_volume_of(d, r) & 1)) {
        hk_dirty_spool_found(c, r, whole);
        return;
    }
    /* Of a page that is whole, it stands there durably; else it is to be written. */
    if (whole && !spooled)
        hk_bit_set(d->kept, r);
    hk_dirty_stale_region(c, r);
}

static void read_map(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;
    const uint8_t *map = (const uint8_t *)c->cfg.dirty_pages + HK_DMAP_LOG_BYTES;

    for (uint32_t page = 0; page < d->map_pages; page++) {
        uint32_t first = page * HK_DMAP_PAGE_REGIONS;
        const uint8_t *at = map + (size_t)page * HK_DMAP_PAGE_BYTES;
        enum hk_dmap_page_verdict v =
            hk_dmap_load_map(at, &(struct hk_dmap_id){.own = d->id.own, .base = d->id.base}, page,
                             d->load, d->packed);

        for (uint32_t i = 0; i < HK_DMAP_PAGE_REGIONS && first + i < d->regions; i++) {
            enum hk_dmap_state state = hk_dmap_state_get(d->packed, i);
            bool spooled = state == HK_DMAP_SPOOLED && spool_counts(c, at, i);

            if (state == HK_DMAP_CLEAN)
                continue;
            read_region(c, first + i, spooled,
                        v == HK_DMAP_PAGE_WHOLE && (spooled || state == HK_DMAP_STALE));
        }
        if (v == HK_DMAP_PAGE_WHOLE)
            continue;
        hk_bit_set(d->damaged, page);
        d->damaged_count++;
        hk_dirty_page_dirty(d, page);
    }
}

/* Marks of an earlier life; false: they contradict one another. */
/* model: resync.pml, HOT_IS_STALE */
static bool read_marks(struct hk_capture *c, bool ring_lost, uint64_t lied)
{
    struct hk_dirty *d = &c->dirty;

    for (uint32_t i = 0; i < HK_DMAP_SLOTS; i++) {
        uint32_t entry = d->load->slot[i], r = hk_dmap_entry_region(entry);
        struct hk_hot *h = &d->hot[i];

        d->table[i] = entry;
        if (entry == 0)
            continue;
        if (r >= d->regions || d->region[r].slot)
            return false;
        h->region = r;
        h->volume = hk_dirty_volume_of(d, r);
        h->durable = true;
        d->region[r].slot = (uint16_t)(i + 1);
        if (!ring_lost) {
            h->end = c->next_lsn;
            h->need = 1;
        }
        hk_hot_move(d, i, ring_lost ? HK_HOT_IDLE : HK_HOT_ACTIVE);
        if (ring_lost || hk_dmap_entry_mark(entry) == HK_DMAP_MARK_STALE || lied >> h->volume & 1)
            hk_dirty_stale_region(c, r);
    }
    return true;
}

/* Nothing it says can be believed: it is begun anew, under "everything may differ". */
static void begin_anew(struct hk_capture *c)
{
    struct hk_dirty *d = &c->dirty;

    __builtin_memset(d->table, 0, HK_DMAP_SLOTS * sizeof(*d->table));
    for (uint32_t r = 0; r < d->regions; r++)
        d->region[r].slot = 0;
    __builtin_memset(d->list, 0, sizeof(d->list));
    all_free(d);
    d->sequence = d->load->seen;
    d->fill_left = HK_DMAP_LOG_PAGES;
    for (uint32_t page = 0; page < d->map_pages; page++) {
        if (!hk_bit(d->damaged, page)) {
            hk_bit_set(d->damaged, page);
            d->damaged_count++;
        }
        hk_dirty_page_dirty(d, page);
    }
    hk_meta_set(c, HK_SF_FULL_COMPARE);
}

int hk_dirty_init(struct hk_capture *c, bool ring_lost)
{
    struct hk_dirty *d = &c->dirty;
    uint64_t lied = c->producer->lied;
    bool lost;
    int rc;

    if (!c->cfg.region_shift)
        return 0;
    rc = set_geometry(c);
    if (rc)
        return rc;
    d->on = true;
    d->id = hk_dmap_id(&c->super.replica_id, &c->super.peer_replica_id);
    all_free(d);
    hk_dmap_load_log(c->cfg.dirty_pages, &d->id, c->super.dmap_sequence, d->load);
    read_map(c);
    lost = hk_dmap_is_lost(hk_dmap_load_end(d->load));
    d->sequence = d->load->sequence;
    d->map_sequence = hk_max_u64(d->load->map_seen, d->load->map_sequence);
    d->map_named = d->damaged_count ? d->load->map_sequence : d->map_sequence;
    d->relied = d->load->relied;
    if (lost || !read_marks(c, ring_lost, lied))
        begin_anew(c);
    c->want.durable_known = hk_max_u64(c->want.durable_known, d->relied);
    c->super.durable_known = hk_max_u64(c->super.durable_known, d->relied);
    return 0;
}
