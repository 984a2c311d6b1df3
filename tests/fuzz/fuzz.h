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

#endif
