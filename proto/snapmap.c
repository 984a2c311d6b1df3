/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/snapmap.h"

#include "proto/hash.h"
#include "proto/record.h"

static bool all_zero(const void *bytes, size_t count)
{
    const uint8_t *b = bytes;
    uint8_t any = 0;

    for (size_t i = 0; i < count; i++)
        any |= b[i];
    return any == 0;
}

static uint64_t header_hash(const struct hk_snap_header *h)
{
    return hk_xxh64(h, offsetof(struct hk_snap_header, hash), 0);
}

static bool fields_ok(const struct hk_snap_header *h)
{
    if (h->kind != HK_SNAP_PIN && h->kind != HK_SNAP_MARK)
        return false;
    if (h->kind == HK_SNAP_MARK ? !hk_mark_name_ok(h->name) : !all_zero(h->name, HK_NAME_BYTES))
        return false;
    if (h->id == 0 || h->epoch_ordinal == 0 || h->lsn == 0 || h->lsn % HK_RECORD_ALIGN != 0)
        return false;
    if (hk_uuid_is_nil(&h->group_id) || hk_uuid_is_nil(&h->replica_id))
        return false;
    return h->volume_count > 0 && h->volume_count <= HK_VOLUMES_MAX && h->dying <= 1 &&
           all_zero(h->reserved, sizeof(h->reserved));
}

void hk_snap_header_seal(struct hk_snap_header *h)
{
    h->magic = HK_SNAP_MAGIC;
    h->version = HK_SNAP_VERSION;
    HK_ASSERT(fields_ok(h));
    h->hash = header_hash(h);
}

enum hk_snap_fault hk_snap_header_check(const struct hk_snap_header *h)
{
    if (all_zero(h, sizeof(*h)))
        return HK_SNAP_NONE;
    if (h->magic != HK_SNAP_MAGIC)
        return HK_SNAP_BAD_MAGIC;
    if (h->version != HK_SNAP_VERSION)
        return HK_SNAP_BAD_VERSION;
    if (h->hash != header_hash(h))
        return HK_SNAP_BAD_HASH;
    return fields_ok(h) ? HK_SNAP_OK : HK_SNAP_BAD_FIELD;
}

uint64_t hk_snap_chunks(uint64_t volume_bytes)
{
    return volume_bytes / HK_SNAP_CHUNK_BYTES + (volume_bytes % HK_SNAP_CHUNK_BYTES != 0);
}

uint64_t hk_snap_pages(uint64_t volume_bytes)
{
    uint64_t a_page = (uint64_t)HK_SNAP_SECTOR_CHUNKS * HK_SNAP_PAGE_SECTORS;

    return hk_max_u64(1, (hk_snap_chunks(volume_bytes) + a_page - 1) / a_page);
}

static uint64_t sector_hash(const struct hk_snap_place *p, const struct hk_snap_sector *s)
{
    uint64_t seed;

    __builtin_memcpy(&seed, p->replica_id.b, sizeof(seed));
    return hk_xxh64((const uint8_t *)s + sizeof(s->hash), sizeof(*s) - sizeof(s->hash), seed);
}

static struct hk_snap_sector *sector_at(void *page, uint32_t i)
{
    return (struct hk_snap_sector *)(void *)((uint8_t *)page + (size_t)i * HK_SNAP_SECTOR_BYTES);
}

void hk_snap_page_make(const struct hk_snap_place *p, void *page)
{
    __builtin_memset(page, 0, HK_PAGE_BYTES);
    for (uint32_t i = 0; i < HK_SNAP_PAGE_SECTORS; i++) {
        struct hk_snap_sector *s = sector_at(page, i);

        s->id = p->id;
        s->volume = p->volume;
        s->index = p->page * HK_SNAP_PAGE_SECTORS + i;
    }
    hk_snap_page_seal(p, page);
}

void hk_snap_page_seal(const struct hk_snap_place *p, void *page)
{
    for (uint32_t i = 0; i < HK_SNAP_PAGE_SECTORS; i++) {
        struct hk_snap_sector *s = sector_at(page, i);

        HK_ASSERT(s->id == p->id && s->volume == p->volume);
        HK_ASSERT(s->index == p->page * HK_SNAP_PAGE_SECTORS + i);
        s->hash = sector_hash(p, s);
    }
}

/* No bit may stand for what lies beyond the volume's end. */
static bool bits_ok(const struct hk_snap_place *p, const struct hk_snap_sector *s,
                    uint32_t *ret_chunks)
{
    uint64_t first = s->index * HK_SNAP_SECTOR_CHUNKS, chunks = hk_snap_chunks(p->volume_bytes);
    uint32_t count = 0;

    for (uint32_t i = 0; i < HK_SNAP_BITS_BYTES; i++) {
        uint64_t left = chunks > first + i * 8ull ? chunks - first - i * 8ull : 0;

        if (left < 8 && s->bits[i] >> left)
            return false;
        count += (uint32_t)__builtin_popcount(s->bits[i]);
    }
    *ret_chunks += count;
    return true;
}

enum hk_snap_fault hk_snap_page_check(const struct hk_snap_place *p, const void *page,
                                      uint32_t *ret_chunks)
{
    uint32_t chunks = 0;

    for (uint32_t i = 0; i < HK_SNAP_PAGE_SECTORS; i++) {
        const struct hk_snap_sector *s =
            (const void *)((const uint8_t *)page + (size_t)i * HK_SNAP_SECTOR_BYTES);

        if (all_zero(s, sizeof(*s)))
            return HK_SNAP_NONE;
        if (s->hash != sector_hash(p, s))
            return HK_SNAP_BAD_HASH;
        if (s->id != p->id || s->volume != p->volume ||
            s->index != p->page * HK_SNAP_PAGE_SECTORS + i)
            return HK_SNAP_BAD_PLACE;
        if (s->reserved != 0 || !bits_ok(p, s, &chunks))
            return HK_SNAP_BAD_FIELD;
    }
    *ret_chunks = chunks;
    return HK_SNAP_OK;
}

const char *hk_snap_fault_text(enum hk_snap_fault f)
{
    switch (f) {
    case HK_SNAP_OK: return "ok";
    case HK_SNAP_NONE: return "nothing was ever written here";
    case HK_SNAP_BAD_MAGIC: return "no snapshot index magic";
    case HK_SNAP_BAD_VERSION: return "unknown snapshot index version";
    case HK_SNAP_BAD_HASH: return "snapshot index hash does not match";
    case HK_SNAP_BAD_PLACE: return "a piece of another snapshot, volume or place";
    case HK_SNAP_BAD_FIELD: return "a snapshot index field makes no sense";
    case HK_SNAP_FAULTS: break;
    }
    return "unknown fault";
}
