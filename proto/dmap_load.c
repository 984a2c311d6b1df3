/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Reading a whole dirty map: which pages are needed, and what their damage means. SPEC.md §6.11. */
#include "proto/dmap.h"

#include "proto/bug.h"

static const struct hk_dmap_page *log_page(const void *log, uint64_t sequence)
{
    return (const struct hk_dmap_page *)log + sequence % HK_DMAP_LOG_PAGES;
}

static enum hk_dmap_page_verdict check_log(const void *log, const struct hk_dmap_id *id,
                                           uint64_t sequence)
{
    return hk_dmap_page_check(log_page(log, sequence), id, HK_DMAP_LOG,
                              (uint32_t)(sequence % HK_DMAP_LOG_PAGES));
}

static bool base_ok(const struct hk_dmap_sector *s, const struct hk_dmap_id *id)
{
    return s->base == 0 || s->base == id->base;
}

static void note_relied(struct hk_dmap_load *l, const struct hk_dmap_id *id,
                        const struct hk_dmap_sector *s)
{
    if (!base_ok(s, id) || s->ordinal < l->ordinal ||
        (s->ordinal == l->ordinal && s->relied <= l->relied))
        return;
    l->ordinal = s->ordinal;
    l->relied = s->relied;
}

/*
 * The newest sequence that any whole sector names. A whole sector of another place proves that the
 * write which should be there is not: nothing is believed any more.
 */
static enum hk_dmap_verdict look_at_all(const void *log, const struct hk_dmap_id *id,
                                        struct hk_dmap_load *l)
{
    enum hk_dmap_verdict verdict = HK_DMAP_SOUND;
    bool blank = true;

    for (uint32_t page = 0; page < HK_DMAP_LOG_PAGES; page++) {
        for (uint32_t i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
            const struct hk_dmap_sector *s = &log_page(log, page)->sector[i];
            enum hk_dmap_fault f = hk_dmap_sector_check(s, id, HK_DMAP_LOG, page, i);

            blank = blank && f == HK_DMAP_SECTOR_BLANK;
            if (f == HK_DMAP_SECTOR_BAD_PLACE && !HK_BUG(dmap_astray))
                verdict = HK_DMAP_LOST_ASTRAY;
            if (f != HK_DMAP_SECTOR_WHOLE)
                continue;
            l->seen = hk_max_u64(l->seen, s->sequence);
            note_relied(l, id, s);
        }
    }
    if (l->seen == 0 && verdict == HK_DMAP_SOUND)
        verdict = blank ? HK_DMAP_LOST_BLANK : HK_DMAP_LOST;
    return verdict;
}

/* A page torn by the write of `sequence`: every sector is of it, or of the one a lap before. */
static bool torn_by(const void *log, const struct hk_dmap_id *id, uint64_t sequence)
{
    const struct hk_dmap_page *p = log_page(log, sequence);

    if (check_log(log, id, sequence) != HK_DMAP_PAGE_TORN)
        return false;
    for (uint32_t i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
        uint64_t had = p->sector[i].sequence;

        if (had != sequence && had + HK_DMAP_LOG_PAGES != sequence)
            return false;
    }
    return true;
}

/* The page holds this transaction, and all of it. */
static bool holds(const void *log, const struct hk_dmap_id *id, uint64_t sequence)
{
    return check_log(log, id, sequence) == HK_DMAP_PAGE_WHOLE &&
           log_page(log, sequence)->sector[0].sequence == sequence;
}

/*
 * Which transaction is the newest that was complete? Behind it must stand what a lap before left
 * there, or a torn page: anything else may have been a newer one that was relied on.
 */
static enum hk_dmap_verdict find_newest(const void *log, const struct hk_dmap_id *id,
                                        struct hk_dmap_load *l)
{
    l->sequence = l->seen;
    if (torn_by(log, id, l->seen)) {
        l->log_torn = 1;
        l->sequence--;
        return l->sequence > 0 ? HK_DMAP_TORN : HK_DMAP_LOST;
    }
    if (l->seen < HK_DMAP_LOG_PAGES ||
        (!holds(log, id, l->seen + 1 - HK_DMAP_LOG_PAGES) && !HK_BUG(dmap_tail)))
        return HK_DMAP_LOST;
    return HK_DMAP_SOUND;
}

/* Slots as the window leaves them, from `first` on; those never mentioned are empty. */
static enum hk_dmap_verdict read_window(const void *log, const struct hk_dmap_id *id,
                                        uint64_t first, struct hk_dmap_load *l)
{
    for (uint64_t at = first; at <= l->sequence; at++) {
        const struct hk_dmap_page *p = log_page(log, at);

        if (!holds(log, id, at))
            return HK_DMAP_LOST;
        if (!base_ok(&p->sector[0], id))
            return HK_DMAP_LOST_BASE;
        for (uint32_t i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
            const struct hk_dmap_sector *s = &p->sector[i];

            __builtin_memcpy(&l->slot[hk_dmap_slice(at, i)], s->log.slot, sizeof(s->log.slot));
            for (uint32_t k = 0; k < s->count; k++)
                l->slot[s->log.update[k].slot] = s->log.update[k].entry;
        }
    }
    return HK_DMAP_SOUND;
}

void hk_dmap_load_log(const void *log, const struct hk_dmap_id *id, uint64_t void_to,
                      struct hk_dmap_load *ret)
{
    enum hk_dmap_verdict verdict;
    uint64_t first;

    __builtin_memset(ret, 0, sizeof(*ret));
    ret->verdict = look_at_all(log, id, ret);
    if (hk_dmap_is_lost(ret->verdict))
        return;
    ret->verdict = find_newest(log, id, ret);
    if (!hk_dmap_is_lost(ret->verdict) && ret->sequence < void_to)
        ret->verdict = HK_DMAP_LOST_OLDER;
    if (hk_dmap_is_lost(ret->verdict))
        return;
    /* Even of a void log the newest page must be there: it knows the newest map write. */
    if (!holds(log, id, ret->sequence)) {
        ret->verdict = HK_DMAP_LOST;
        return;
    }
    ret->map_sequence = log_page(log, ret->sequence)->sector[0].other;
    first = void_to + 1;
    if (ret->sequence >= HK_DMAP_WINDOW)
        first = hk_max_u64(first, ret->sequence - HK_DMAP_WINDOW + 1);
    verdict = read_window(log, id, first, ret);
    if (hk_dmap_is_lost(verdict))
        ret->verdict = verdict;
    for (uint32_t i = 0; i < HK_DMAP_SLOTS; i++)
        ret->marks += ret->slot[i] != 0;
}

/*
 * A page of the map of whole sectors from different writes: if the newest of them is newer than
 * all that the log knows to be durable, a power cut tore it, and each sector is as true as the log
 * beside it (rule 3). If not, that write was complete once, and the older sectors have lost it.
 */
enum hk_dmap_page_verdict hk_dmap_load_map(const void *page, const struct hk_dmap_id *id,
                                           uint32_t place, struct hk_dmap_load *l, uint8_t *packed)
{
    enum hk_dmap_page_verdict verdict = hk_dmap_page_check(page, id, HK_DMAP_MAP, place);
    const struct hk_dmap_page *p = page;
    bool whole[HK_DMAP_PAGE_SECTORS];
    uint64_t newest = 0;

    for (uint32_t i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
        const struct hk_dmap_sector *s = &p->sector[i];
        enum hk_dmap_fault f = hk_dmap_sector_check(s, id, HK_DMAP_MAP, place, i);

        whole[i] = f == HK_DMAP_SECTOR_WHOLE;
        if (f == HK_DMAP_SECTOR_BAD_PLACE && !hk_dmap_is_lost(l->verdict))
            l->verdict = HK_DMAP_LOST_ASTRAY;
        if (!whole[i])
            continue;
        newest = hk_max_u64(newest, s->sequence);
        note_relied(l, id, s);
        if (s->other > l->sequence && !hk_dmap_is_lost(l->verdict))
            l->verdict = HK_DMAP_LOST_OLDER;
    }
    l->map_seen = hk_max_u64(l->map_seen, newest);
    l->map_torn += verdict == HK_DMAP_PAGE_TORN;
    for (uint32_t i = 0; i < HK_DMAP_PAGE_SECTORS; i++) {
        const struct hk_dmap_sector *s = &p->sector[i];
        bool lost = s->sequence < newest && newest <= l->map_sequence && !HK_BUG(dmap_dropped);

        if (whole[i] && !lost && base_ok(s, id)) {
            __builtin_memcpy(packed + (size_t)i * HK_DMAP_SECTOR_STATES, s->state,
                             HK_DMAP_SECTOR_STATES);
            continue;
        }
        __builtin_memset(packed + (size_t)i * HK_DMAP_SECTOR_STATES,
                         HK_BUG(dmap_rot_clean) ? 0 : 0x55, HK_DMAP_SECTOR_STATES);
        l->map_rotten++;
        if (verdict == HK_DMAP_PAGE_WHOLE)
            verdict = HK_DMAP_PAGE_ROTTEN;
    }
    return verdict;
}

enum hk_dmap_verdict hk_dmap_load_end(struct hk_dmap_load *l)
{
    if (hk_dmap_is_lost(l->verdict))
        return l->verdict;
    /* A rotten sector may be the one that is missed here; its regions are stale anyway. */
    if (l->map_seen < l->map_sequence && l->map_rotten == 0)
        l->verdict = HK_DMAP_LOST_OLDER;
    else if (l->map_rotten > 0)
        l->verdict = HK_DMAP_PARTLY;
    else if (l->log_torn || l->map_torn > 0)
        l->verdict = HK_DMAP_TORN;
    return l->verdict;
}
