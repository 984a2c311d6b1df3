/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device whose medium can be changed below its page cache: a loop device over a file. Who reads
 * through the cache sees what it read before; who reads the medium sees the file. So a page that a
 * failed flush lost looks: the cache holds what was written, the medium what was there before.
 */
#ifndef HK_TESTS_UNIT_BELOW_H
#define HK_TESTS_UNIT_BELOW_H

#include "tests/unit/unit.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct below {
    char path[32]; /* of the device; it goes when the last descriptor is closed */
    int device, file;
};

/* Skips the test, with the reason, where there is no loop device to be had. */
static inline void below_open(struct below *b, uint64_t bytes)
{
    char file[] = "/var/tmp/hikae-below-XXXXXX";
    struct loop_config cfg = {.info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number = -1;

    b->file = mkstemp(file);
    assert_true(b->file >= 0);
    unlink(file);
    assert_int_equal(ftruncate(b->file, (off_t)bytes), 0);
    cfg.fd = (uint32_t)b->file;
    b->device = -1;
    /* Somebody else may take the free one first. */
    for (int i = 0; i < 20 && control >= 0 && b->device < 0; i++) {
        number = ioctl(control, LOOP_CTL_GET_FREE);
        snprintf(b->path, sizeof(b->path), "/dev/loop%d", number);
        b->device = open(b->path, O_RDWR | O_CLOEXEC);
        if (b->device >= 0 && ioctl(b->device, LOOP_CONFIGURE, &cfg)) {
            close(b->device);
            b->device = -1;
        }
    }
    if (control >= 0)
        close(control);
    if (b->device < 0) {
        close(b->file);
        print_message("no loop device is to be had (needs root and the driver)\n");
        skip();
    }
}

/* `bytes` at `offset` are in the cache as they were, and on the medium as `data` says. */
static inline void below_change(struct below *b, const void *data, size_t bytes, uint64_t offset)
{
    uint8_t *before = malloc(bytes), *after = malloc(bytes);

    assert_true(before && after);
    assert_int_equal(pread(b->device, before, bytes, (off_t)offset), bytes);
    assert_int_equal(pwrite(b->file, data, bytes, (off_t)offset), bytes);
    assert_int_equal(pread(b->device, after, bytes, (off_t)offset), bytes);
    assert_memory_equal(before, after, bytes); /* the premise: the cache does not know */
    assert_memory_not_equal(data, after, bytes);
    free(before);
    free(after);
}

static inline void below_close(struct below *b)
{
    close(b->device);
    close(b->file);
}

#endif
