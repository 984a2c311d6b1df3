/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The index of a snapshot: a header page, then for each volume whole pages of presence bits, one
 * bit a chunk of 4 KiB. SPEC.md §8.7. The unit of truth is a sector of 512 bytes: each carries its
 * own hash and its place, so a write that was torn leaves whole old and whole new sectors, and bits
 * that rotted, strayed or belong to an earlier snapshot of the same files are told from good ones.
 * A sector of zeroes is no sector: an index is written whole before its snapshot counts.
 */
#ifndef HK_PROTO_SNAPMAP_H
#define HK_PROTO_SNAPMAP_H

#include "proto/limits.h"
#include "proto/lsn.h"

#define HK_SNAP_MAGIC 0x31504e534b4148ull /* "HAKSNP1" */

enum {
    HK_SNAP_VERSION = 1,
    HK_SNAP_CHUNK_BYTES = 4096,
    HK_SNAP_SECTOR_BYTES = 512,
    HK_SNAP_BITS_BYTES = 480,
    HK_SNAP_SECTOR_CHUNKS = HK_SNAP_BITS_BYTES * 8, /* 15 MiB of a volume */
    HK_SNAP_PAGE_SECTORS = HK_PAGE_BYTES / HK_SNAP_SECTOR_BYTES,
};

enum hk_snap_kind { HK_SNAP_PIN = 1, HK_SNAP_MARK = 2 };

/* The first sector of an index; the rest of its page is zero. All zeroes: no snapshot. */
struct hk_snap_header {
    uint64_t magic;
    uint32_t version;
    uint32_t kind; /* enum hk_snap_kind */
    uint32_t id;   /* rises by one a snapshot of this replica, never used again */
    uint32_t epoch_ordinal;
    uint64_t lsn;     /* the replica's state at this position */
    uint64_t time_ns; /* realtime */
    struct hk_uuid group_id, replica_id;
    char name[HK_NAME_BYTES];
    uint32_t volume_count;
    uint32_t dying;        /* 1: it is being deleted, its chunks go to the next older one */
    uint64_t volumes_hash; /* of the volumes' sizes in order */
    uint8_t reserved[352];
    uint64_t hash; /* XXH64 of bytes 0-503 */
};
HK_STATIC_ASSERT(sizeof(struct hk_snap_header) == HK_SNAP_SECTOR_BYTES, "one sector");

struct hk_snap_sector {
    uint64_t hash;   /* XXH64 of bytes 8-511, seed = first 8 bytes of the replica id */
    uint32_t id;     /* of the snapshot */
    uint32_t volume; /* index of the volume */
    uint64_t index;  /* which sector of the volume's; its first chunk is index * 3840 */
    uint64_t reserved;
    uint8_t bits[HK_SNAP_BITS_BYTES]; /* chunk c: bit c % 8 of byte c / 8; 1: it is kept here */
};
HK_STATIC_ASSERT(sizeof(struct hk_snap_sector) == HK_SNAP_SECTOR_BYTES, "one sector");
HK_STATIC_ASSERT(offsetof(struct hk_snap_sector, bits) == 32, "bits at 32");

enum hk_snap_fault {
    HK_SNAP_OK = 0,
    HK_SNAP_NONE, /* all zeroes */
    HK_SNAP_BAD_MAGIC,
    HK_SNAP_BAD_VERSION,
    HK_SNAP_BAD_HASH,
    HK_SNAP_BAD_PLACE, /* whole, but of another snapshot, volume or place */
    HK_SNAP_BAD_FIELD,
    HK_SNAP_FAULTS
};
const char *hk_snap_fault_text(enum hk_snap_fault f);

/* Fills magic, version and hash. */
void hk_snap_header_seal(struct hk_snap_header *h);
enum hk_snap_fault hk_snap_header_check(const struct hk_snap_header *h);

/* Chunks and index pages of a volume of so many bytes; at least one page. */
uint64_t hk_snap_chunks(uint64_t volume_bytes);
uint64_t hk_snap_pages(uint64_t volume_bytes);

/* What a page of the index has to be. */
struct hk_snap_place {
    uint32_t id, volume;
    uint64_t page; /* of the volume's */
    uint64_t volume_bytes;
    struct hk_uuid replica_id;
};
/* A page without a bit set: what an index begins with. */
void hk_snap_page_make(const struct hk_snap_place *p, void *page);
/* Hashes its sectors anew, after bits were set. */
void hk_snap_page_seal(const struct hk_snap_place *p, void *page);
/* Every sector of it: hash, place, no bit beyond the volume's end. ret_chunks: bits that are set.
 */
enum hk_snap_fault hk_snap_page_check(const struct hk_snap_place *p, const void *page,
                                      uint32_t *ret_chunks);

/* The sector of `chunk` within the volume's pages, and its bit. */
static inline uint64_t hk_snap_sector_of(uint64_t chunk)
{
    return chunk / HK_SNAP_SECTOR_CHUNKS;
}

static inline bool hk_snap_bit(const struct hk_snap_sector *s, uint64_t chunk)
{
    uint64_t bit = chunk % HK_SNAP_SECTOR_CHUNKS;

    return s->bits[bit / 8] >> (bit % 8) & 1;
}

static inline void hk_snap_bit_set(struct hk_snap_sector *s, uint64_t chunk)
{
    uint64_t bit = chunk % HK_SNAP_SECTOR_CHUNKS;

    s->bits[bit / 8] = (uint8_t)(s->bits[bit / 8] | 1u << (bit % 8));
}

#endif
