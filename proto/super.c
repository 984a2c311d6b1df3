/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/super.h"

#include "proto/bug.h"
#include "proto/dmap.h"
#include "proto/hash.h"
#include "proto/record.h"

#include <errno.h>

enum {
    HASH_AT = HK_SUPER_BYTES - 8,
    FLAGS_KNOWN = HK_SF_CLEAN | HK_SF_DEGRADED | HK_SF_FULL_COMPARE | HK_SF_ORIGIN_FAILED |
                  HK_SF_PROMOTED | HK_SF_PROMOTING | HK_SF_FROZEN | HK_SF_ASSUMED_EQUAL |
                  HK_SF_NOT_PROMOTABLE | HK_SF_IN_DOUBT,
    FLAGS_V2 = HK_SF_STALE | HK_SF_PINNED | HK_SF_RESYNC | HK_SF_ROLLING_BACK | HK_SF_UNREADABLE,
};

static bool all_zero(const void *bytes, size_t count)
{
    const uint8_t *b = bytes;
    uint8_t any = 0;

    for (size_t i = 0; i < count; i++)
        any |= b[i];
    return any == 0;
}

static bool lsns_ok(const struct hk_super *s)
{
    uint64_t bits = s->ceiling | s->clean_lsn | s->durable_known | s->applied | s->degraded_lsn |
                    s->mode_lsn | s->freeze_lsn | s->promote_lsn | s->ring_first_lsn | s->pin_lsn |
                    s->spooled_lsn;

    return bits % HK_RECORD_ALIGN == 0;
}

static bool enums_ok(const struct hk_super *s)
{
    if (s->role != HK_ROLE_PRIMARY && s->role != HK_ROLE_STANDBY)
        return false;
    if (s->flags & ~(uint32_t)(FLAGS_KNOWN | FLAGS_V2))
        return false;
    /* 0: not told yet. */
    return s->mode <= HK_MODE_SYNC && s->on_link_loss <= HK_LINK_LOSS_BLOCK &&
           s->loss_class <= HK_LOSS_UNKNOWN;
}

/* Names are there, and the freeze's name exactly when it may be needed. */
static bool names_ok(const struct hk_super *s)
{
    if (!hk_mark_name_ok(s->group_name))
        return false;
    if (!(s->flags & HK_SF_FROZEN) && all_zero(s->freeze_name, sizeof(s->freeze_name)))
        return true;
    return hk_mark_name_ok(s->freeze_name);
}

/* Consistent intervals rise and do not overlap; only the last may be open. */
static bool intervals_ok(const struct hk_super *s)
{
    if (s->interval_count > HK_INTERVALS_MAX)
        return false;
    for (uint32_t i = 0; i < s->interval_count; i++) {
        const struct hk_interval *v = &s->interval[i];
        bool is_open = v->to == 0;

        if (v->epoch_ordinal == 0 || v->reserved != 0 || v->from == 0)
            return false;
        if (is_open ? i + 1 != s->interval_count : v->to < v->from)
            return false;
        if ((v->from | v->to) % HK_RECORD_ALIGN != 0)
            return false;
        if (i > 0 && (v->from < v[-1].to || v->epoch_ordinal < v[-1].epoch_ordinal))
            return false;
    }
    return true;
}

static bool volumes_ok(const struct hk_super *s)
{
    if (s->volume_count > HK_VOLUMES_MAX)
        return false;
    for (uint32_t i = 0; i < s->volume_count; i++) {
        const struct hk_super_volume *v = &s->volume[i];

        if (!hk_mark_name_ok(v->name) || v->bytes == 0 || hk_super_room(v) < v->bytes)
            return false;
        if (v->prior_bytes && (!(s->flags & HK_SF_PINNED) || v->prior_bytes > hk_super_room(v)))
            return false;
        for (uint32_t k = 0; k < i; k++) {
            if (__builtin_memcmp(v->name, s->volume[k].name, HK_NAME_BYTES) == 0)
                return false;
        }
    }
    return true;
}

/* A primary's volumes share one numbering of regions, and no two of them a region. */
static bool regions_ok(const struct hk_super *s)
{
    if (s->region_shift == 0) {
        for (uint32_t i = 0; i < s->volume_count; i++) {
            if (s->volume[i].first_region != 0)
                return false;
        }
        return s->dmap_sequence == 0 && s->spooled_lsn == 0;
    }
    if (s->role != HK_ROLE_PRIMARY || s->region_shift < HK_REGION_SHIFT_MIN ||
        s->region_shift > HK_REGION_SHIFT_MAX)
        return false;
    for (uint32_t i = 0; i < s->volume_count; i++) {
        uint64_t first = s->volume[i].first_region;
        uint64_t count = hk_dmap_regions(hk_super_room(&s->volume[i]), s->region_shift);

        if (first > HK_DMAP_REGIONS_MAX || count > HK_DMAP_REGIONS_MAX - first)
            return false;
        for (uint32_t k = 0; k < i; k++) {
            uint64_t other = s->volume[k].first_region;

            if (first < other + hk_dmap_regions(hk_super_room(&s->volume[k]), s->region_shift) &&
                other < first + count)
                return false;
        }
    }
    return true;
}

/* Position, epoch and flag of a pin come and go together; only a promotion rolls back. */
static bool pin_ok(const struct hk_super *s)
{
    bool pinned = s->flags & HK_SF_PINNED;

    if (pinned != (s->pin_lsn != 0) || pinned != (s->pin_ordinal != 0))
        return false;
    return (s->flags & HK_SF_PROMOTING) || !(s->flags & HK_SF_ROLLING_BACK);
}

/* Can some volume grow, or has it grown? */
static bool grows(const struct hk_super *s)
{
    for (uint32_t i = 0; i < s->volume_count; i++) {
        if (s->volume[i].room_bytes | s->volume[i].prior_bytes)
            return true;
    }
    return false;
}

static uint32_t version_of(const struct hk_super *s)
{
    if (!hk_super_is_current(s))
        return HK_SUPER_VERSION_OLD;
    return grows(s) ? HK_SUPER_VERSION_GROWS : HK_SUPER_VERSION;
}

/* Does it say nothing that version 1 can't? */
static bool fits_old(const struct hk_super *s)
{
    return !grows(s) && (s->flags & FLAGS_V2) == 0 && s->region_shift == 0 && s->pin_lsn == 0 &&
           s->pin_ordinal == 0 && s->snapshot_next == 0 && s->dmap_sequence == 0 &&
           s->spooled_lsn == 0 && s->history.dropped == 0;
}

/* What both the writer and the reader demand (SPEC.md §6.2), tails not included. */
static bool fields_ok(const struct hk_super *s)
{
    if (hk_uuid_is_nil(&s->group_id) || hk_uuid_is_nil(&s->replica_id))
        return false;
    if (!enums_ok(s) || !names_ok(s) || !lsns_ok(s) || !intervals_ok(s) || !volumes_ok(s))
        return false;
    if (s->clean_prev_bytes % HK_RECORD_ALIGN != 0 || s->clean_prev_bytes > HK_RECORD_BYTES_MAX)
        return false;
    if (!regions_ok(s) || !pin_ok(s) || (!hk_super_is_current(s) && !fits_old(s)))
        return false;
    return hk_history_check(&s->history) == 0;
}

/* Table entries beyond their counts are zero on disk, so that equal facts are equal bytes. */
static bool tails_zero(const struct hk_super *s)
{
    return all_zero(&s->interval[s->interval_count],
                    (HK_INTERVALS_MAX - s->interval_count) * sizeof(s->interval[0])) &&
           all_zero(&s->history.epoch[s->history.count],
                    (HK_HISTORY_EPOCHS_MAX - s->history.count) * sizeof(s->history.epoch[0])) &&
           all_zero(&s->volume[s->volume_count],
                    (HK_VOLUMES_MAX - s->volume_count) * sizeof(s->volume[0]));
}

static void zero_tails(struct hk_super *s)
{
    __builtin_memset(&s->interval[s->interval_count], 0,
                     (HK_INTERVALS_MAX - s->interval_count) * sizeof(s->interval[0]));
    __builtin_memset(&s->history.epoch[s->history.count], 0,
                     (HK_HISTORY_EPOCHS_MAX - s->history.count) * sizeof(s->history.epoch[0]));
    __builtin_memset(&s->volume[s->volume_count], 0,
                     (HK_VOLUMES_MAX - s->volume_count) * sizeof(s->volume[0]));
}

/* A super is 12 KiB, too much for a kernel stack: slots are worked on in place, so they align. */
static void assert_aligned(const void *slot)
{
    HK_ASSERT((uintptr_t)slot % _Alignof(struct hk_super) == 0);
}

static uint64_t read_hash(const void *slot)
{
    uint64_t hash;

    __builtin_memcpy(&hash, (const uint8_t *)slot + HASH_AT, sizeof(hash));
    return hash;
}

void hk_super_encode(const struct hk_super *s, void *slot)
{
    struct hk_super *on_disk = slot;
    uint64_t hash;

    assert_aligned(slot);
    HK_ASSERT(fields_ok(s));
    __builtin_memset((uint8_t *)slot + sizeof(*s), 0, HK_SUPER_BYTES - sizeof(*s));
    __builtin_memcpy(slot, s, sizeof(*s));
    on_disk->magic = HK_SUPER_MAGIC;
    on_disk->version = version_of(s);
    zero_tails(on_disk);
    hash = hk_xxh64(slot, HASH_AT, 0);
    __builtin_memcpy((uint8_t *)slot + HASH_AT, &hash, sizeof(hash));
}

static enum hk_super_fault check_slot(const void *slot)
{
    const struct hk_super *s = slot;

    assert_aligned(slot);
    if (s->magic != HK_SUPER_MAGIC)
        return HK_SUPER_BAD_MAGIC;
    if (s->version < HK_SUPER_VERSION_OLD || s->version > HK_SUPER_VERSION_GROWS)
        return HK_SUPER_BAD_VERSION;
    if (read_hash(slot) != hk_xxh64(slot, HASH_AT, 0))
        return HK_SUPER_BAD_HASH;
    if (!fields_ok(s) || !tails_zero(s) || s->version != version_of(s))
        return HK_SUPER_BAD_FIELD;
    if (!all_zero((const uint8_t *)slot + sizeof(*s), HASH_AT - sizeof(*s)))
        return HK_SUPER_BAD_FIELD;
    return HK_SUPER_OK;
}

enum hk_super_fault hk_super_decode(const void *slot, struct hk_super *ret_s)
{
    enum hk_super_fault fault = check_slot(slot);

    if (fault == HK_SUPER_OK)
        __builtin_memcpy(ret_s, slot, sizeof(*ret_s));
    return fault;
}

int hk_super_pick(const void *slot0, const void *slot1, struct hk_super *ret_s,
                  enum hk_super_fault ret_fault[2])
{
    const struct hk_super *slot[2] = {slot0, slot1};
    const struct hk_super *newest = NULL;
    enum hk_super_fault fault[2];

    for (unsigned i = 0; i < 2; i++) {
        fault[i] = check_slot(slot[i]);
        /* A whole superblock in the wrong slot is a write that went astray. */
        if (fault[i] == HK_SUPER_OK && (slot[i]->sequence & 1) != i)
            fault[i] = HK_SUPER_BAD_FIELD;
        if (fault[i] == HK_SUPER_OK && (!newest || slot[i]->sequence > newest->sequence))
            newest = slot[i];
    }
    if (ret_fault) {
        ret_fault[0] = fault[0];
        ret_fault[1] = fault[1];
    }
    if (newest) {
        __builtin_memcpy(ret_s, newest, sizeof(*ret_s));
        return 0;
    }
    if (all_zero(slot0, HK_SUPER_BYTES) && all_zero(slot1, HK_SUPER_BYTES))
        return -ENODATA;
    return -EUCLEAN;
}

static bool slot_whole(const struct hk_super *s, unsigned i)
{
    return check_slot(s) == HK_SUPER_OK && (s->sequence & 1) == i;
}

bool hk_super_in_doubt(const void *slot0, const void *slot1)
{
    const struct hk_super *slot[2] = {slot0, slot1};
    bool whole[2] = {slot_whole(slot[0], 0), slot_whole(slot[1], 1)};
    unsigned other = whole[0] ? 1 : 0;

    if (HK_BUG(doubt_ignored) || whole[0] == whole[1])
        return false;
    return slot[1 - other]->sequence > 1 || !all_zero(slot[other], HK_SUPER_BYTES);
}

int hk_super_append_epoch(struct hk_super *s, const struct hk_uuid *id, uint64_t first_lsn,
                          uint64_t parent_end, enum hk_epoch_reason reason, uint64_t time_ns)
{
    if (!hk_super_is_current(s) && s->history.count == HK_HISTORY_EPOCHS_MAX)
        return -ENOSPC;
    return hk_history_append(&s->history, id, first_lsn, parent_end, reason, time_ns);
}

const char *hk_super_fault_text(enum hk_super_fault f)
{
    switch (f) {
    case HK_SUPER_OK: return "ok";
    case HK_SUPER_BAD_MAGIC: return "no superblock magic";
    case HK_SUPER_BAD_VERSION: return "unknown superblock version";
    case HK_SUPER_BAD_HASH: return "superblock hash does not match";
    case HK_SUPER_BAD_FIELD: return "a superblock field makes no sense";
    case HK_SUPER_FAULTS: break;
    }
    return "unknown fault";
}

const char *hk_loss_class_text(uint32_t c)
{
    static const char *const text[] = {
        [HK_LOSS_NONE] = "not promoted",
        [HK_LOSS_ZERO_PROVEN] = "0, proven",
        [HK_LOSS_ZERO_IF_FENCED] = "0 if the primary was fenced before t0+T",
        [HK_LOSS_UNKNOWN] = "unknown since t0",
    };

    return c < HK_ARRAY_SIZE(text) ? text[c] : "unknown class";
}
