/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's superblock on its two slots (proto/SPEC.md, superblocks). The owner changes the
 * struct that hk_super_store_get() gives and says hk_super_store_put(); what it put is durable once
 * hk_super_store_stored() has reached the ticket.
 *
 * Invariants
 * - A put takes a copy: what the owner changes afterwards is not written until the next put.
 * - One write is in flight. Puts that arrive meanwhile coalesce into the one after it, so tickets
 *   become durable in order, several at a time.
 * - A write goes to the slot that does not hold the newest durable state (sequence & 1), and the
 *   sequence rises by one a write; a torn write leaves the other slot whole.
 * - What start() found is flushed before it counts: the process before may have died with its write
 *   in a volatile cache, and what was once acted upon must not be taken back by a power cut.
 * - A failed read, write or flush is final (I11): state FAILED, no ticket ever becomes durable
 * again. A slot that can't be read may be the newer one, so one unreadable slot is a failure, too;
 * a slot that reads but does not check is what a torn write leaves, and the other one counts.
 *
 * Owned by one reactor thread; called by the group only. Nothing is called back.
 */
#ifndef HK_STORE_SUPER_STORE_H
#define HK_STORE_SUPER_STORE_H

#include "proto/super.h"
#include "replicator/store/disk.h"

enum hk_super_store_state {
    HK_SUPER_STORE_NEW = 0, /* init was called */
    HK_SUPER_STORE_READING,
    HK_SUPER_STORE_BLANK,   /* no metadata was ever created here: both slots all zeroes, or only a
                               piece of the very first write */
    HK_SUPER_STORE_INVALID, /* no valid slot, and not blank: never written to by us */
    HK_SUPER_STORE_READY,
    HK_SUPER_STORE_FAILED, /* final */
};

struct hk_super_store {
    enum hk_super_store_state state;
    int error;                    /* FAILED: -errno */
    enum hk_super_fault fault[2]; /* what start() found in each slot; READY, INVALID */
    bool in_doubt; /* READY: the slot beside is damaged, newer facts may be gone (SPEC.md §6.2) */
    /* private */
    struct hk_disk *disk;
    uint32_t file;
    uint8_t *slot[2];         /* HK_SUPER_BYTES each, 4096-aligned */
    struct hk_super *live;    /* the owner's */
    struct hk_super *pending; /* what the last put took */
    struct hk_super *durable;
    uint64_t sequence; /* of the last write that was begun */
    uint64_t ticket_put, ticket_flight, ticket_stored;
    unsigned reads_left;
    bool in_flight;
    struct hk_diskop op[2];
};

size_t hk_super_store_memory(void); /* arena bytes needed at most, alignment included */
/* file: HK_FILE_SUPER or HK_FILE_PRIMARY_MD. -ENOMEM: the arena is too small. */
int hk_super_store_init(struct hk_super_store *s, struct hk_disk *disk, uint32_t file,
                        struct hk_arena *arena);
/* NEW → READING → BLANK, INVALID, READY or FAILED. */
void hk_super_store_start(struct hk_super_store *s);
/* For every completed op with owner HK_OWNER_SUPER and this store's file. */
void hk_super_store_disk_done(struct hk_super_store *s, struct hk_diskop *op);

/* The struct to change; its sequence is the store's. Valid when READY (content) or BLANK (zeroes).
 */
struct hk_super *hk_super_store_get(struct hk_super_store *s);
/* What is durable; content as found or as last written. Valid when READY. */
const struct hk_super *hk_super_store_durable(const struct hk_super_store *s);
/*
 * Asks for the struct as it is now to be written. Returns a ticket > 0, rising with each call. On a
 * BLANK store the first put creates the metadata (state READY once it is durable). After a failure
 * the ticket is never reached.
 */
uint64_t hk_super_store_put(struct hk_super_store *s);
/* All tickets up to this one are durable. */
uint64_t hk_super_store_stored(const struct hk_super_store *s);
bool hk_super_store_busy(const struct hk_super_store *s); /* a write is in flight or waiting */

#endif
