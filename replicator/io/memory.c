/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { HUGE_PAGE_BYTES = 2 << 20 };

static _Thread_local bool thread_sealed;

int hk_memory_lock(struct hk_io_error *err)
{
    struct rlimit limit = {0};

    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
        return hk_io_fail(err, -errno,
                          "cannot mark the process as part of the write path "
                          "(PR_SET_IO_FLUSHER): %s; it needs CAP_SYS_RESOURCE",
                          strerror(errno));
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        int error = -errno;

        getrlimit(RLIMIT_MEMLOCK, &limit);
        return hk_io_fail(err, error,
                          "cannot lock memory: %s; RLIMIT_MEMLOCK is %llu KiB: grant CAP_IPC_LOCK "
                          "or set LimitMEMLOCK=infinity in the unit",
                          strerror(-error), (unsigned long long)limit.rlim_cur / 1024);
    }
    return 0;
}

int hk_memory_arena(size_t bytes, struct hk_arena *ret_arena, bool *ret_locked,
                    struct hk_io_error *err)
{
    size_t size = hk_round_up(bytes, HUGE_PAGE_BYTES);
    size_t before, after;
    uint8_t *p, *base;
    bool locked;

    if (bytes == 0 || size < bytes || size > SIZE_MAX - HUGE_PAGE_BYTES)
        return hk_io_fail(err, -EINVAL, "an arena of %zu bytes makes no sense", bytes);
    /* Mapped without reservation of pages first: with MCL_FUTURE a plain map would be touched at
     * once, as small pages. PROT_NONE is not, so that the advice comes before the first touch. */
    p = mmap(NULL, size + HUGE_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
             -1, 0);
    if (p == MAP_FAILED)
        return hk_io_fail(err, -errno, "cannot map %zu MiB: %s", size >> 20, strerror(errno));
    before = (size_t)(-(uintptr_t)p & (HUGE_PAGE_BYTES - 1));
    after = HUGE_PAGE_BYTES - before;
    base = p + before;
    if (before > 0)
        munmap(p, before);
    if (after > 0)
        munmap(base + size, after);
    /* Advice only: without huge pages it is slower, not wrong. */
    (void)madvise(base, size, MADV_HUGEPAGE);
    (void)madvise(base, size, MADV_DONTDUMP);
    if (mprotect(base, size, PROT_READ | PROT_WRITE) != 0)
        goto err_unmap;
    /* Present first, whether or not it may be locked then. */
    if (madvise(base, size, MADV_POPULATE_WRITE) != 0)
        goto err_unmap;
    locked = mlock(base, size) == 0;
    *ret_arena = (struct hk_arena){.base = base, .bytes = size};
    if (ret_locked != NULL)
        *ret_locked = locked;
    return 0;

err_unmap:
    hk_io_fail(err, -errno,
               "cannot have %zu MiB of memory: %s; lower the memory settings of the "
               "group or add memory",
               size >> 20, strerror(errno));
    munmap(base, size);
    return err != NULL ? err->error : -ENOMEM;
}

void hk_memory_arena_free(struct hk_arena *arena)
{
    if (arena == NULL || arena->base == NULL)
        return;
    munmap(arena->base, arena->bytes);
    *arena = (struct hk_arena){0};
}

void hk_memory_seal(void)
{
    thread_sealed = true;
}

void hk_memory_unseal(void)
{
    thread_sealed = false;
}

bool hk_memory_sealed(void)
{
    return thread_sealed;
}
