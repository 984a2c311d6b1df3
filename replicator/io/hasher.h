/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyed hashes of pieces of a volume, for the compare of a resync: AES-256-GMAC over each block of
 * 64 KiB, nonce = pass (4) ‖ volume (2) ‖ offset / 512 (6). A block is read through the reactor's
 * ring and hashed when it has come, one at a time for each piece, so the reactor never waits and is
 * never kept longer than one block takes.
 *
 * The medium is read, not the page cache: after a failed flush the cache shows what the medium
 * lost. So descriptors are O_DIRECT where the file system has it; elsewhere a piece's clean pages
 * are dropped before it is read.
 *
 * Not a plain hash: a tenant who writes a volume could choose two blocks that collide.
 *
 * Owned by the reactor's thread. Memory is taken at creation.
 */
#ifndef HK_IO_HASHER_H
#define HK_IO_HASHER_H

#include "replicator/core/compare.h"
#include "replicator/io/error.h"

struct hk_hasher;
struct hk_reactor;

/* -ENOMEM; -ENOSYS: this OpenSSL has no AES-256-GCM. */
int hk_hasher_create(struct hk_reactor *r, struct hk_hasher **ret_hasher, struct hk_io_error *err);
/* Waits for what is under way. Accepts NULL. */
void hk_hasher_free(struct hk_hasher *h);

/* At most HK_COMPARE_ASKS_MAX pieces at once, or it is a bug. fd: stays open until it is done; the
 * piece begins at a multiple of HK_PAGE_BYTES if it is O_DIRECT. */
void hk_hasher_start(struct hk_hasher *h, int fd, const struct hk_hash_ask *ask,
                     const uint8_t key[HK_COMPARE_KEY_BYTES]);
/* Hands out what has ended; `done` may start another. Returns how many. */
uint32_t hk_hasher_poll(struct hk_hasher *h, void (*done)(void *arg, const struct hk_hashes *r),
                        void *arg);
uint32_t hk_hasher_in_flight(const struct hk_hasher *h); /* started, not handed out */

#endif
