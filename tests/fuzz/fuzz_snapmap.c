/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Indexes of snapshots. Input: mode byte, then: mode 0 the page itself (what is missing is zero);
 * mode 1 a list of patches {offset u16, byte} on a sound page of bits; mode 2 the same on a sound
 * header. Bit 2: the hashes are made good; bits 3-4: size of the volume. Oracle: a page that checks
 * has each sector whole and in its place, judged byte by byte, no bit beyond the volume's end, and
 * as many chunks as were counted; sealed again it is the same. A header that checks does so sealed
 * again. Nothing that is changed without its hash checks.
 */
#include "fuzz.h"

#include "proto/hash.h"
#include "proto/snapmap.h"

#include <string.h>

static const uint64_t sizes[4] = {512, 15 << 20, (15 << 20) + 512, 121ull << 20};
static uint8_t page[HK_PAGE_BYTES] __attribute__((aligned(8)));
static uint8_t again[HK_PAGE_BYTES] __attribute__((aligned(8)));
static uint8_t sound[HK_PAGE_BYTES] __attribute__((aligned(8)));

static struct hk_snap_place place_of(uint8_t mode)
{
    return (struct hk_snap_place){.id = 7,
                                  .volume = 1,
                                  .page = mode >> 5 & 1,
                                  .volume_bytes = sizes[mode >> 3 & 3],
                                  .replica_id = {{2, 3, 5, 7, 11}}};
}

static uint64_t hash_of(const struct hk_snap_place *p, const uint8_t *s)
{
    uint64_t seed;

    memcpy(&seed, p->replica_id.b, 8);
    return hk_xxh64(s + 8, HK_SNAP_SECTOR_BYTES - 8, seed);
}

static void make(uint8_t mode, const struct hk_snap_place *p)
{
    memset(sound, 0, sizeof(sound));
    if ((mode & 3) == 1) {
        hk_snap_page_make(p, sound);
    } else if ((mode & 3) == 2) {
        struct hk_snap_header *h = (void *)sound;

        h->kind = HK_SNAP_PIN;
        h->id = 7;
        h->epoch_ordinal = 1;
        h->lsn = 4096;
        h->group_id.b[0] = h->replica_id.b[0] = 1;
        h->volume_count = 2;
        hk_snap_header_seal(h);
    }
}

static void load(uint8_t mode, const struct hk_snap_place *p, const uint8_t *data, size_t size)
{
    make(mode, p);
    memcpy(page, sound, sizeof(page));
    if ((mode & 3) == 0)
        memcpy(page, data, hk_min_u64(size, sizeof(page)));
    else
        for (size_t i = 0; i + 3 <= size; i += 3)
            page[(data[i] | data[i + 1] << 8) % HK_PAGE_BYTES] = data[i + 2];
    if (!(mode & 4))
        return;
    for (uint32_t s = 0; s < HK_SNAP_PAGE_SECTORS && (mode & 3) != 2; s++) {
        uint64_t hash = hash_of(p, page + s * HK_SNAP_SECTOR_BYTES);

        memcpy(page + s * HK_SNAP_SECTOR_BYTES, &hash, 8);
    }
    if ((mode & 3) == 2) {
        uint64_t hash = hk_xxh64(page, HK_SNAP_SECTOR_BYTES - 8, 0);

        memcpy(page + HK_SNAP_SECTOR_BYTES - 8, &hash, 8);
    }
}

/* Chunks of a page that is right in every respect, counted the slow way. */
static uint32_t count_chunks(const struct hk_snap_place *p)
{
    uint32_t count = 0;

    for (uint64_t i = 0; i < (uint64_t)HK_SNAP_PAGE_SECTORS * HK_SNAP_SECTOR_CHUNKS; i++) {
        uint64_t chunk = p->page * HK_SNAP_PAGE_SECTORS * HK_SNAP_SECTOR_CHUNKS + i;
        const uint8_t *s = page + i / HK_SNAP_SECTOR_CHUNKS * HK_SNAP_SECTOR_BYTES;
        uint64_t bit = i % HK_SNAP_SECTOR_CHUNKS;

        if (!(s[32 + bit / 8] >> bit % 8 & 1))
            continue;
        HK_ASSERT(chunk * HK_SNAP_CHUNK_BYTES < p->volume_bytes);
        count++;
    }
    return count;
}

static void check_page(const struct hk_snap_place *p, uint8_t mode)
{
    uint32_t chunks = 0x5a5a;
    enum hk_snap_fault fault = hk_snap_page_check(p, page, &chunks);

    HK_ASSERT(hk_snap_fault_text(fault)[0]);
    if (fault != HK_SNAP_OK) {
        HK_ASSERT(chunks == 0x5a5a);
        return;
    }
    for (uint32_t i = 0; i < HK_SNAP_PAGE_SECTORS; i++) {
        struct hk_snap_sector s;

        memcpy(&s, page + (size_t)i * HK_SNAP_SECTOR_BYTES, sizeof(s));
        HK_ASSERT(s.hash == hash_of(p, page + (size_t)i * HK_SNAP_SECTOR_BYTES));
        HK_ASSERT(s.id == p->id && s.volume == p->volume && s.reserved == 0);
        HK_ASSERT(s.index == p->page * HK_SNAP_PAGE_SECTORS + i);
    }
    HK_ASSERT(count_chunks(p) == chunks);
    memcpy(again, page, sizeof(again));
    hk_snap_page_seal(p, again);
    HK_ASSERT(memcmp(again, page, sizeof(again)) == 0);
    /* Changed, and nobody made the hash good: it can't have been accepted. */
    if ((mode & 7) == 1)
        HK_ASSERT(memcmp(page, sound, sizeof(page)) == 0);
}

static void check_header(uint8_t mode)
{
    struct hk_snap_header h;
    enum hk_snap_fault fault;

    memcpy(&h, page, sizeof(h));
    fault = hk_snap_header_check(&h);
    if (fault != HK_SNAP_OK)
        return;
    HK_ASSERT(h.id > 0 && h.lsn > 0 && h.volume_count > 0 && h.volume_count <= HK_VOLUMES_MAX);
    hk_snap_header_seal(&h);
    HK_ASSERT(memcmp(&h, page, sizeof(h)) == 0);
    if ((mode & 7) == 2)
        HK_ASSERT(memcmp(page, sound, sizeof(h)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hk_snap_place p;

    if (size < 1)
        return 0;
    p = place_of(data[0]);
    load(data[0], &p, data + 1, size - 1);
    check_page(&p, data[0]);
    check_header(data[0]);
    return 0;
}
