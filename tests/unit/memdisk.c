/* SPDX-License-Identifier: Apache-2.0 */
#include "memdisk.h"

#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void check_transfer(const struct hk_diskop *op, const struct memdisk_file *f)
{
    bool volume = op->file >= HK_FILE_VOLUME0 && op->file < HK_FILE_VOLUME0 + HK_VOLUMES_MAX;
    uint64_t align = volume ? MEMDISK_SECTOR : HK_PAGE_BYTES, sum = 0;

    HK_ASSERT(op->iov_count >= 1 && op->iov_count <= HK_ARRAY_SIZE(op->iov));
    HK_ASSERT(op->offset % align == 0 && op->bytes % align == 0 && op->bytes > 0);
    HK_ASSERT(op->offset <= f->bytes && op->bytes <= f->bytes - op->offset);
    for (uint32_t i = 0; i < op->iov_count; i++) {
        HK_ASSERT((uintptr_t)op->iov[i].base % HK_PAGE_BYTES == 0);
        HK_ASSERT(op->iov[i].bytes > 0 && op->iov[i].bytes % MEMDISK_SECTOR == 0);
        sum += op->iov[i].bytes;
    }
    HK_ASSERT(sum == op->bytes);
}

static void check(struct memdisk *d, const struct hk_diskop *op)
{
    struct memdisk_file *f;

    switch (op->kind) {
    case HK_DISK_READ:
    case HK_DISK_WRITE:
    case HK_DISK_WRITE_DSYNC: check_transfer(op, memdisk_file(d, op->file)); return;
    case HK_DISK_PUNCH:
        f = memdisk_file(d, op->file);
        HK_ASSERT(op->offset % MEMDISK_SECTOR == 0 && op->bytes % MEMDISK_SECTOR == 0);
        HK_ASSERT(op->bytes > 0 && op->offset + op->bytes <= f->bytes);
        return;
    case HK_DISK_FLUSH: memdisk_file(d, op->file); return;
    case HK_DISK_RENAME:
        memdisk_file(d, op->file);
        HK_ASSERT(op->name && strlen(op->name) < HK_SEGMENT_NAME_BYTES);
        return;
    case HK_DISK_SYNC_DIR:
        HK_ASSERT(op->file == HK_FILE_JOURNAL_DIR || op->file == HK_FILE_SPOOL_DIR);
        return;
    case HK_DISK_CREATE:
    case HK_DISK_ALLOC:
    case HK_DISK_UNLINK: break;
    }
    HK_ASSERT(!"the store does not do that");
}

static void submit(struct hk_disk *disk, struct hk_diskop *op)
{
    struct memdisk *d = HK_CONTAINER_OF(disk, struct memdisk, disk);

    check(d, op);
    HK_ASSERT(d->pending_count < MEMDISK_PENDING);
    for (uint32_t i = 0; i < d->pending_count; i++)
        HK_ASSERT(d->pending[i] != op);
    op->submit_ns = d->write_count;
    d->pending[d->pending_count++] = op;
}

void memdisk_init(struct memdisk *d, uint64_t seed)
{
    memset(d, 0, sizeof(*d));
    d->disk.submit = submit;
    d->random = seed;
}

void memdisk_free(struct memdisk *d)
{
    for (uint32_t i = 0; i < d->file_count; i++) {
        free(d->file[i].cached);
        free(d->file[i].durable);
        free(d->file[i].dirty);
    }
    memset(d, 0, sizeof(*d));
}

void memdisk_add(struct memdisk *d, uint32_t file, uint64_t bytes)
{
    struct memdisk_file *f = &d->file[d->file_count];

    HK_ASSERT(d->file_count < MEMDISK_FILES && bytes % MEMDISK_SECTOR == 0);
    d->file_count++;
    f->file = file;
    f->bytes = bytes;
    f->cached = calloc(1, bytes);
    f->durable = calloc(1, bytes);
    f->dirty = calloc(bytes / MEMDISK_SECTOR, sizeof(*f->dirty));
    HK_ASSERT(f->cached && f->durable && f->dirty);
}

struct memdisk_file *memdisk_file(struct memdisk *d, uint32_t file)
{
    for (uint32_t i = 0; i < d->file_count; i++) {
        if (d->file[i].file == file)
            return &d->file[i];
    }
    HK_ASSERT(!"a file that exists");
    return NULL;
}

static void settle_sector(struct memdisk_file *f, uint64_t sector)
{
    memcpy(f->durable + sector * MEMDISK_SECTOR, f->cached + sector * MEMDISK_SECTOR,
           MEMDISK_SECTOR);
    f->dirty[sector] = 0;
}

/* Puts the op's sectors into the cache; with `some`, any subset of them. */
static void put(struct memdisk *d, const struct hk_diskop *op, bool some)
{
    struct memdisk_file *f = memdisk_file(d, op->file);
    uint64_t at = op->offset, sequence = ++d->write_count;

    for (uint32_t i = 0; i < (op->kind == HK_DISK_PUNCH ? 1 : op->iov_count); i++) {
        uint64_t bytes = op->kind == HK_DISK_PUNCH ? op->bytes : op->iov[i].bytes;

        for (uint64_t k = 0; k < bytes; k += MEMDISK_SECTOR, at += MEMDISK_SECTOR) {
            if (some && unit_random(&d->random) % 2)
                continue;
            if (op->kind == HK_DISK_PUNCH)
                memset(f->cached + at, 0, MEMDISK_SECTOR);
            else
                memcpy(f->cached + at, (uint8_t *)op->iov[i].base + k, MEMDISK_SECTOR);
            f->dirty[at / MEMDISK_SECTOR] = sequence;
        }
    }
    HK_ASSERT(at == op->offset + op->bytes);
}

static void get(struct memdisk *d, const struct hk_diskop *op)
{
    struct memdisk_file *f = memdisk_file(d, op->file);
    uint64_t at = op->offset;

    for (uint32_t i = 0; i < op->iov_count; i++) {
        memcpy(op->iov[i].base, f->cached + at, op->iov[i].bytes);
        at += op->iov[i].bytes;
    }
}

static void sync_names(struct memdisk *d)
{
    for (uint32_t i = 0; i < d->file_count; i++)
        memcpy(d->file[i].name_durable, d->file[i].name, HK_SEGMENT_NAME_BYTES);
}

static void perform(struct memdisk *d, struct hk_diskop *op)
{
    struct memdisk_file *f;

    switch (op->kind) {
    case HK_DISK_READ:
        d->read_count++;
        get(d, op);
        return;
    case HK_DISK_PUNCH:
        d->punch_count++;
        put(d, op, false);
        return;
    case HK_DISK_WRITE: put(d, op, false); return;
    case HK_DISK_WRITE_DSYNC:
        put(d, op, false);
        d->written_bytes += op->bytes;
        f = memdisk_file(d, op->file);
        for (uint64_t at = op->offset; at < op->offset + op->bytes; at += MEMDISK_SECTOR)
            settle_sector(f, at / MEMDISK_SECTOR);
        return;
    case HK_DISK_FLUSH:
        d->flush_count++;
        f = memdisk_file(d, op->file);
        for (uint64_t i = 0; i < f->bytes / MEMDISK_SECTOR; i++) {
            if (f->dirty[i] != 0 && f->dirty[i] <= op->submit_ns)
                settle_sector(f, i);
        }
        return;
    case HK_DISK_RENAME: strcpy(memdisk_file(d, op->file)->name, op->name); return;
    case HK_DISK_SYNC_DIR: sync_names(d); return;
    case HK_DISK_CREATE:
    case HK_DISK_ALLOC:
    case HK_DISK_UNLINK: break;
    }
    HK_ASSERT(!"checked at submit");
}

static bool writes(const struct hk_diskop *op)
{
    return op->kind == HK_DISK_WRITE || op->kind == HK_DISK_WRITE_DSYNC ||
           op->kind == HK_DISK_PUNCH;
}

static struct hk_diskop *take(struct memdisk *d, uint32_t i)
{
    struct hk_diskop *op = d->pending[i];

    d->pending_count--;
    memmove(&d->pending[i], &d->pending[i + 1], (d->pending_count - i) * sizeof(op));
    return op;
}

struct hk_diskop *memdisk_step(struct memdisk *d)
{
    struct hk_diskop *op;
    uint64_t n;

    if (d->pending_count == 0)
        return NULL;
    op = take(d, d->shuffle ? (uint32_t)(unit_random(&d->random) % d->pending_count) : 0);
    n = ++d->done_count;
    if (d->fail_at != 0 && (n == d->fail_at || (d->fail_forever && n > d->fail_at))) {
        d->failed_count++;
        d->failed_reads += op->kind == HK_DISK_READ;
        if (writes(op))
            put(d, op, true);
        op->result = -EIO;
        return op;
    }
    perform(d, op);
    op->result = 0;
    return op;
}

void memdisk_poke(struct memdisk *d, uint32_t file, uint64_t offset, const void *data, size_t bytes)
{
    struct memdisk_file *f = memdisk_file(d, file);

    HK_ASSERT(offset + bytes <= f->bytes);
    memcpy(f->cached + offset, data, bytes);
    memcpy(f->durable + offset, data, bytes);
}

void memdisk_power_cut(struct memdisk *d)
{
    while (d->pending_count > 0) {
        struct hk_diskop *op = take(d, (uint32_t)(unit_random(&d->random) % d->pending_count));

        if (writes(op))
            put(d, op, unit_random(&d->random) % 4 != 0);
        else if (op->kind == HK_DISK_RENAME)
            strcpy(memdisk_file(d, op->file)->name, op->name);
    }
    for (uint32_t i = 0; i < d->file_count; i++) {
        struct memdisk_file *f = &d->file[i];
        /* Now all of it, now none, now any half: rare outcomes are tried as often as the usual. */
        uint64_t odds = unit_random(&d->random) % 4;

        for (uint64_t s = 0; s < f->bytes / MEMDISK_SECTOR; s++) {
            if (f->dirty[s] == 0)
                continue;
            if (odds == 3 || (odds != 0 && unit_random(&d->random) % 2))
                settle_sector(f, s);
        }
        memcpy(f->cached, f->durable, f->bytes);
        memset(f->dirty, 0, f->bytes / MEMDISK_SECTOR * sizeof(*f->dirty));
        if (unit_random(&d->random) % 2)
            memcpy(f->name_durable, f->name, sizeof(f->name));
        memcpy(f->name, f->name_durable, sizeof(f->name));
    }
}

void memdisk_kill(struct memdisk *d)
{
    while (d->pending_count > 0) {
        struct hk_diskop *op = take(d, (uint32_t)(unit_random(&d->random) % d->pending_count));

        /* Without the completion a DSYNC write may have reached the cache and no further. */
        if (writes(op) && unit_random(&d->random) % 2)
            put(d, op, false);
        else if (op->kind == HK_DISK_RENAME && unit_random(&d->random) % 2)
            strcpy(memdisk_file(d, op->file)->name, op->name);
    }
}
