/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame of the fuzz targets. Each target is one file with LLVMFuzzerTestOneInput: libFuzzer drives
 * it with -Dfuzz=true, main.c replays the corpus otherwise. A broken oracle ends in HK_ASSERT.
 *
 * Hashes would hide everything behind them from a fuzzer, so most targets take a first byte that
 * says whether the bytes are taken as they are or get their hashes renewed first.
 */
#ifndef HK_TESTS_FUZZ_H
#define HK_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * For targets that need megabytes for every input: with libFuzzer the address sanitizer spends more
 * time marking them than all else together. Replay marks them.
 */
#ifdef HK_FUZZING
#define HK_FUZZ_LARGE_MEMORY                         \
    const char *__asan_default_options(void);        \
    const char *__asan_default_options(void)         \
    {                                                \
        return "poison_heap=0:quarantine_size_mb=0"; \
    }
#else
#define HK_FUZZ_LARGE_MEMORY
#endif

#endif
