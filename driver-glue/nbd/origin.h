/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device or file below a volume. Held exclusively (O_EXCL, or a lock on a file) while the
 * plugin lives. Any thread may call read, write, zero, flush.
 */
#ifndef HK_NBD_ORIGIN_H
#define HK_NBD_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hk_origin {
    int fd;
    int direct; /* for reading the medium; -1: no O_DIRECT here */
    bool is_device;
    uint64_t bytes;  /* of the device or file, ≥ the volume's */
    uint32_t sector; /* smallest piece the device takes; 512 for a file */
};

/* A variable, so that a test can play a device that is not there. */
extern uint32_t (*hk_origin_sector_bytes)(int fd, bool is_device);

/* -EBUSY: somebody else holds it; -errno. */
int hk_origin_open(const char *path, struct hk_origin *ret_origin);
/* false: a volume of so many bytes ends inside one of the device's sectors. */
bool hk_origin_holds(const struct hk_origin *o, uint64_t volume_bytes);
void hk_origin_close(struct hk_origin *o);

/* All 0 or -errno. */
int hk_origin_read(const struct hk_origin *o, void *data, size_t bytes, uint64_t offset);
/*
 * What the medium holds, not the cache: after a failed flush they differ. `data` is aligned to
 * 4096 and has room for whole pages, offset is a multiple of 4096.
 */
int hk_origin_read_medium(const struct hk_origin *o, void *data, size_t bytes, uint64_t offset);
int hk_origin_write(const struct hk_origin *o, const void *data, size_t bytes, uint64_t offset,
                    bool durable);
/* The range reads as zeroes afterwards; unmap: its space may be given back. */
int hk_origin_zero(const struct hk_origin *o, uint64_t bytes, uint64_t offset, bool unmap,
                   bool durable);
/* It has room for so many bytes: a file is made longer, a device has to be. -ENOSPC. */
int hk_origin_grow(struct hk_origin *o, uint64_t bytes);
/* A failed one takes out of the cache what is not written: reads see the medium. */
int hk_origin_flush(const struct hk_origin *o);
/* One record's operation (enum hk_record_type: write, zeroes, discard, flush), first time or
 * redone; any other type is our bug. `data` is only looked at for a write. */
int hk_origin_record(const struct hk_origin *o, uint8_t type, const void *data, uint32_t length,
                     uint64_t offset, bool durable);

#endif
