/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The ring: the log in memory on the primary, shared by capture (the only writer) and replicator
 * (read-only mapping). proto/SPEC.md §11.
 *
 *   page 0        struct hk_ring_header, written once at creation
 *   page 1        struct hk_ring_producer, written by the producer under the group's lock
 *   slots_offset  slot_count × struct hk_record   (descriptors; never user bytes)
 *   sides_offset  slot_count × struct hk_ring_side
 *   payload_offset payload_bytes of payload, 4 KiB-aligned contiguous pieces
 *
 * A slot index is a monotonic u64; its place is index & (slot_count − 1). Payload positions are
 * monotonic too; place = position % payload_bytes; a piece never wraps (the gap is skipped).
 *
 * Reservation, under the lock: the side (lsn, payload_pos, done = 0) and every header field but
 * lsn, payload_hash and header_hash are stored, then `head` is release-stored: the one commit
 * point. Publication: bytes 8–63 are stored with both hashes, then `lsn` is release-stored. A slot
 * counts as published only while slot.lsn == the LSN expected there (LSNs are never reused). The
 * side's `done` is release-stored after the origin's I/O has ended. A slot is free when done and
 * released ≥ its end; then `tail` moves.
 */
#ifndef HK_UAPI_RING_H
#define HK_UAPI_RING_H

#include "proto/bug.h"
#include "proto/hash.h"
#include "proto/record.h"

#define HK_RING_MAGIC 0x31474e52494b4148ull /* "HAKIRNG1" */
enum { HK_RING_VERSION = 1 };
#define HK_RING_SLOTS_DEFAULT   (64u << 10)
#define HK_RING_PAYLOAD_DEFAULT (256ull << 20)

struct hk_ring_header {
    uint64_t magic;
    uint32_t version;
    uint32_t slot_count;    /* a power of two */
    uint64_t payload_bytes; /* a multiple of 4096 */
    uint64_t slots_offset, sides_offset, payload_offset, total_bytes;
    struct hk_uuid group_id;
    struct hk_uuid ring_id; /* random, new with every creation: a lost ring is noticed */
    uint64_t hash;          /* XXH64 of the bytes before, seed 0 */
};

struct hk_ring_producer {
    struct hk_uuid epoch_id;
    uint64_t epoch_first_lsn;
    uint64_t epoch_head; /* slot index of the epoch's first record */
    uint32_t epoch_ordinal;
    uint32_t state;                    /* enum hk_group_state, informational */
    uint64_t head;                     /* slot index the next reservation gets */
    uint64_t tail;                     /* oldest slot that is not free */
    uint64_t next_lsn;                 /* informational: LSN the next record gets */
    uint64_t payload_head;             /* informational; redo derives it from the sides */
    uint64_t last_time_ns;             /* newest capture time given */
    uint64_t released, acked, durable; /* as last accepted from the replicator */
    uint64_t ceiling;
    uint64_t contact_ns; /* newest contact taken from a report, monotonic; stored before `state` */
    /* Of the newest superblock known to be durable. A successor that finds one slot damaged learns
     * here whether facts that were relied on are gone; 0: not told. */
    uint64_t super_sequence;
    uint32_t prev_bytes; /* of the record before the next one, when there is no slot to ask */
    uint32_t closed;     /* 1: the log was broken off; a successor must not go on in this epoch */
    uint64_t lease;      /* newest attach lease given out over this ring, 0: none */
    /* A bit a volume: some of its regions are stale, and the dirty map does not say so yet. */
    uint64_t lied;
};

struct hk_ring_side {
    uint64_t lsn;          /* reserved LSN */
    uint64_t payload_pos;  /* position of the payload; for no payload: payload_head then */
    uint32_t done;         /* 1: the origin's I/O has ended (or there was none) */
    uint32_t payload_span; /* bytes taken in the payload ring, skipped gap included */
    uint64_t reserved;
};
HK_STATIC_ASSERT(sizeof(struct hk_ring_side) == 32, "two sides a cache line");

/*
 * A page of its own, writable by the replicator and never trusted: only a hint whether a wake-up
 * (eventfd) is wanted. The worst a liar gets is a late wake-up of itself.
 */
struct hk_ring_hint {
    uint32_t want_wakeup;
};

/*
 * Going to sleep and being woken. The reader wishes, looks once more at the slot it waits for, and
 * sleeps if nothing is there; the producer, after a publication, takes the wish and, if there was
 * one, wakes. Both read and write the word in one, so they are ordered: the reader was first and
 * its wish is seen, or it was later and sees the publication. A load instead would be done before
 * the publication is seen by others, on any processor.
 */
static inline void hk_ring_hint_wish(struct hk_ring_hint *hint)
{
    __atomic_exchange_n(&hint->want_wakeup, 1, __ATOMIC_SEQ_CST);
}

static inline void hk_ring_hint_unwish(struct hk_ring_hint *hint)
{
    __atomic_store_n(&hint->want_wakeup, 0, __ATOMIC_RELAXED);
}

static inline bool hk_ring_hint_take(struct hk_ring_hint *hint)
{
    uint32_t wish = HK_BUG(wish_loaded)
                        ? __atomic_load_n(&hint->want_wakeup, __ATOMIC_ACQUIRE)
                        : __atomic_fetch_or(&hint->want_wakeup, 0, __ATOMIC_SEQ_CST);

    return wish && __atomic_exchange_n(&hint->want_wakeup, 0, __ATOMIC_RELAXED);
}

/* Smallest and largest ring: one largest payload and the headroom of control records must fit. */
enum {
    HK_RING_SLOTS_MIN = 16,
    HK_RING_SLOTS_MAX = 1 << 24,
    HK_RING_PAYLOAD_MIN = HK_PAYLOAD_BYTES_MAX + 16 * HK_PAGE_BYTES,
};

/*
 * The words both sides look at: head, tail, a slot's lsn, a side's done. A release store here pairs
 * with the acquire load of the same word there.
 */
static inline uint64_t hk_ring_load_acquire(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void hk_ring_store_release(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Informational words of the producer page: never torn, ordered by nothing. */
static inline uint64_t hk_ring_load_relaxed(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void hk_ring_store_relaxed(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline uint64_t hk_ring_total_bytes(uint32_t slot_count, uint64_t payload_bytes)
{
    return 2 * HK_PAGE_BYTES +
           hk_round_up((uint64_t)slot_count * sizeof(struct hk_record), HK_PAGE_BYTES) +
           hk_round_up((uint64_t)slot_count * sizeof(struct hk_ring_side), HK_PAGE_BYTES) +
           payload_bytes;
}

/*
 * Is this the header of one of our rings, in a mapping of so many bytes? Everything it says follows
 * from its two sizes; after a yes no offset in it leads out of the mapping.
 */
static inline bool hk_ring_header_ok(const struct hk_ring_header *h, uint64_t mapped_bytes)
{
    uint64_t slot_bytes, side_bytes;

    if (mapped_bytes < 2 * HK_PAGE_BYTES || h->magic != HK_RING_MAGIC ||
        h->version != HK_RING_VERSION)
        return false;
    if (h->hash != hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0))
        return false;
    if (h->slot_count < HK_RING_SLOTS_MIN || h->slot_count > HK_RING_SLOTS_MAX ||
        (h->slot_count & (h->slot_count - 1)) != 0)
        return false;
    if (h->payload_bytes < HK_RING_PAYLOAD_MIN || h->payload_bytes % HK_PAGE_BYTES != 0 ||
        h->payload_bytes > mapped_bytes)
        return false;
    slot_bytes = hk_round_up((uint64_t)h->slot_count * sizeof(struct hk_record), HK_PAGE_BYTES);
    side_bytes = hk_round_up((uint64_t)h->slot_count * sizeof(struct hk_ring_side), HK_PAGE_BYTES);
    return h->slots_offset == 2 * HK_PAGE_BYTES &&
           h->sides_offset == h->slots_offset + slot_bytes &&
           h->payload_offset == h->sides_offset + side_bytes &&
           h->total_bytes == h->payload_offset + h->payload_bytes && h->total_bytes == mapped_bytes;
}

#endif
