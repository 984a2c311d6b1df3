/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a process that must not wait for its own storage: locked, touched at start, zeroed. A
 * replicator that page-faulted to a disk it replicates would wait for itself (invariant I16;
 * replicator/ARCHITECTURE.md, "Reclaim").
 */
#ifndef HK_IO_MEMORY_H
#define HK_IO_MEMORY_H

#include "replicator/io/error.h"

/*
 * Locks all memory the process has and will have and marks it as part of the block layer's write
 * path (PR_SET_IO_FLUSHER). Call once, early, on the main thread: threads inherit the mark.
 * -EPERM, -ENOMEM: not permitted, or RLIMIT_MEMLOCK too small; the text says what to set. Nothing
 * is undone on failure: a caller that may run without (a lab) just goes on.
 */
int hk_memory_lock(struct hk_io_error *err);

/*
 * Maps `bytes` (rounded up to 2 MiB), huge pages asked for, every page present, zeroed. Locked if
 * the process is allowed to (ret_locked may be NULL). -ENOMEM, -EINVAL (0 bytes).
 */
int hk_memory_arena(size_t bytes, struct hk_arena *ret_arena, bool *ret_locked,
                    struct hk_io_error *err);
/* Accepts an arena that was never mapped (base NULL). */
void hk_memory_arena_free(struct hk_arena *arena);

/*
 * From now on the calling thread allocates nothing. The daemon's build only remembers it; unit
 * tests replace malloc by one that aborts while hk_memory_sealed() holds.
 */
void hk_memory_seal(void);
void hk_memory_unseal(void); /* orderly shutdown */
bool hk_memory_sealed(void);

#endif
