/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/disk.h"

#include "proto/segment.h"
#include "tests/crash/crash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BIG_READ = 65536 };

static bool writes(const struct hk_diskop *op)
{
    return op->kind == HK_DISK_WRITE || op->kind == HK_DISK_WRITE_DSYNC ||
           op->kind == HK_DISK_PUNCH;
}

static void touch(struct cdisk_file *f, uint64_t offset, uint64_t bytes)
{
    if (offset + bytes > f->used)
        f->used = offset + bytes;
    if (!f->touched)
        return;
    for (uint64_t p = offset / HK_PAGE_BYTES; p <= (offset + bytes - 1) / HK_PAGE_BYTES; p++) {
        if (f->touched[p])
            continue;
        f->touched[p] = 1;
        f->touched_page[f->touched_count++] = (uint32_t)p;
    }
}

/* The op's bytes in one piece. */
static void gather(const struct hk_diskop *op, uint8_t *to)
{
    if (op->kind == HK_DISK_PUNCH) {
        memset(to, 0, op->bytes);
        return;
    }
    for (uint32_t i = 0; i < op->iov_count; i++) {
        memcpy(to, op->iov[i].base, op->iov[i].bytes);
        to += op->iov[i].bytes;
    }
}

static void keep(struct cdisk *d, const struct hk_diskop *op)
{
    struct cdisk_write *w;

    if (d->write_count == d->write_room) {
        d->write_room = d->write_room ? 2 * d->write_room : 64;
        d->write = realloc(d->write, d->write_room * sizeof(*d->write));
        HK_ASSERT(d->write);
    }
    w = &d->write[d->write_count++];
    *w = (struct cdisk_write){op->file, op->kind, op->offset, op->bytes, malloc(op->bytes)};
    HK_ASSERT(w->data);
    gather(op, w->data);
}

static void submit(struct hk_disk *disk, struct hk_diskop *op)
{
    struct cdisk *d = HK_CONTAINER_OF(disk, struct cdisk, disk);
    uint64_t sum = 0;

    HK_ASSERT(d->pending_count < CDISK_PENDING);
    if (op->kind == HK_DISK_READ || op->kind == HK_DISK_WRITE || op->kind == HK_DISK_WRITE_DSYNC) {
        const struct cdisk_file *f = cdisk_file(d, op->file);

        for (uint32_t i = 0; i < op->iov_count; i++)
            sum += op->iov[i].bytes;
        CRASH_CHECK(sum == op->bytes && op->offset + op->bytes <= f->bytes,
                    "an operation beyond the end of file %u", op->file);
    }
    if (d->logged && writes(op))
        keep(d, op);
    op->submit_ns = d->sequence;
    d->pending[d->pending_count++] = op;
}

void cdisk_init(struct cdisk *d)
{
    memset(d, 0, sizeof(*d));
    d->disk.submit = submit;
}

void cdisk_free(struct cdisk *d)
{
    for (uint32_t i = 0; i < d->file_count; i++) {
        free(d->file[i].cur);
        free(d->file[i].dur);
        free(d->file[i].mark_cur);
        free(d->file[i].mark_dur);
        free(d->file[i].touched);
        free(d->file[i].touched_page);
    }
    for (uint32_t i = 0; i < d->write_count; i++)
        free(d->write[i].data);
    free(d->write);
    free(d->loose);
    memset(d, 0, sizeof(*d));
}

void cdisk_add(struct cdisk *d, uint32_t file, uint64_t bytes)
{
    struct cdisk_file *f = &d->file[d->file_count++];

    HK_ASSERT(d->file_count <= CDISK_FILES && bytes % CDISK_SECTOR == 0);
    *f = (struct cdisk_file){.file = file, .bytes = bytes};
    f->cur = calloc(1, bytes);
    f->dur = calloc(1, bytes);
    HK_ASSERT(f->cur && f->dur);
}

struct cdisk_file *cdisk_file(struct cdisk *d, uint32_t file)
{
    for (uint32_t i = 0; i < d->file_count; i++) {
        if (d->file[i].file == file)
            return &d->file[i];
    }
    HK_ASSERT(!"a file that exists");
    return NULL;
}

/* --- Loose sectors --- */

static void add_loose(struct cdisk *d, uint16_t file, uint32_t sector, const uint8_t *data)
{
    struct cdisk_loose *l;

    if (d->loose_count == d->loose_room) {
        d->loose_room = d->loose_room ? 2 * d->loose_room : 64;
        d->loose = realloc(d->loose, d->loose_room * sizeof(*d->loose));
        HK_ASSERT(d->loose);
    }
    l = &d->loose[d->loose_count++];
    *l = (struct cdisk_loose){.file = file, .sector = sector, .sequence = d->sequence};
    memcpy(l->data, data, CDISK_SECTOR);
}

static void drop_loose(struct cdisk *d, uint16_t file, uint64_t from, uint64_t to)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < d->loose_count; i++) {
        const struct cdisk_loose *l = &d->loose[i];

        if (l->file == file && l->sector >= from && l->sector < to)
            continue;
        d->loose[kept++] = d->loose[i];
    }
    d->loose_count = kept;
}

/* Everything of this file that had completed before the flush was submitted. */
static void settle(struct cdisk *d, uint16_t file, uint64_t sequence)
{
    struct cdisk_file *f = &d->file[file];
    uint32_t kept = 0;

    for (uint32_t i = 0; i < d->loose_count; i++) {
        const struct cdisk_loose *l = &d->loose[i];

        if (l->file != file || l->sequence > sequence) {
            d->loose[kept++] = d->loose[i];
            continue;
        }
        memcpy(f->dur + (uint64_t)l->sector * CDISK_SECTOR, l->data, CDISK_SECTOR);
        touch(f, (uint64_t)l->sector * CDISK_SECTOR, CDISK_SECTOR);
    }
    d->loose_count = kept;
}

static void put(struct cdisk *d, const struct hk_diskop *op, bool durable)
{
    struct cdisk_file *f = cdisk_file(d, op->file);
    uint16_t file = (uint16_t)(f - d->file);
    uint64_t from = op->offset / CDISK_SECTOR, to = (op->offset + op->bytes) / CDISK_SECTOR;

    d->sequence++;
    gather(op, f->cur + op->offset);
    touch(f, op->offset, op->bytes);
    if (durable || !d->cached) {
        if (d->loose_count > 0)
            drop_loose(d, file, from, to);
        memcpy(f->dur + op->offset, f->cur + op->offset, op->bytes);
        return;
    }
    for (uint64_t s = from; s < to; s++)
        add_loose(d, file, (uint32_t)s, f->cur + s * CDISK_SECTOR);
}

/*
 * A recovery's large reads go to one buffer over and over, mostly zeroes behind the log: those are
 * not written again.
 */
static void get(struct cdisk *d, const struct hk_diskop *op)
{
    const struct cdisk_file *f = cdisk_file(d, op->file);
    uint8_t *base = op->iov[0].base;
    uint64_t used = f->used > op->offset ? hk_min_u64(f->used - op->offset, op->bytes) : 0;
    uint64_t at = op->offset;

    d->read_count++;
    if (op->iov_count == 1 && op->bytes >= BIG_READ) {
        uint64_t dirty = op->bytes;

        if (d->read_base == base && d->read_bytes >= op->bytes)
            dirty = hk_min_u64(d->read_used, op->bytes);
        memcpy(base, f->cur + at, used);
        if (dirty > used)
            memset(base + used, 0, dirty - used);
        if (d->read_base != base || op->bytes >= d->read_bytes) {
            d->read_bytes = op->bytes;
            d->read_used = used;
        } else {
            d->read_used = hk_max_u64(used, d->read_used > op->bytes ? d->read_used : 0);
        }
        d->read_base = base;
        return;
    }
    if (base == d->read_base)
        d->read_used = hk_max_u64(d->read_used, op->bytes);
    for (uint32_t i = 0; i < op->iov_count; i++) {
        memcpy(op->iov[i].base, f->cur + at, op->iov[i].bytes);
        at += op->iov[i].bytes;
    }
}

struct hk_diskop *cdisk_step(struct cdisk *d)
{
    struct hk_diskop *op;
    uint64_t n;

    if (d->pending_count == 0)
        return NULL;
    d->pending_count--;
    if (d->last_first) {
        op = d->pending[d->pending_count];
    } else {
        op = d->pending[0];
        memmove(&d->pending[0], &d->pending[1], d->pending_count * sizeof(op));
    }
    n = ++d->done_count;
    op->result = 0;
    if (d->fail_at != 0 && (n == d->fail_at || (d->fail_forever && n > d->fail_at))) {
        op->result = -EIO;
        d->failed_file = op->file;
        return op;
    }
    if (op->kind == HK_DISK_READ) {
        get(d, op);
    } else if (op->kind == HK_DISK_FLUSH) {
        d->flush_count++;
        settle(d, (uint16_t)(cdisk_file(d, op->file) - d->file), op->submit_ns);
    } else if (writes(op)) {
        put(d, op, op->kind == HK_DISK_WRITE_DSYNC);
    }
    return op;
}

void cdisk_poke(struct cdisk *d, uint32_t file, uint64_t offset, const void *data, uint64_t bytes)
{
    struct cdisk_file *f = cdisk_file(d, file);

    HK_ASSERT(offset + bytes <= f->bytes);
    memcpy(f->cur + offset, data, bytes);
    memcpy(f->dur + offset, data, bytes);
    touch(f, offset, bytes);
}

void cdisk_flip(struct cdisk *d, uint32_t file, uint64_t offset, uint8_t bits)
{
    uint8_t v = cdisk_file(d, file)->cur[offset] ^ bits;

    cdisk_poke(d, file, offset, &v, 1);
}

/* --- Marks and copies --- */

static uint8_t *duplicate(const uint8_t *from, uint64_t bytes)
{
    uint8_t *to = malloc(bytes);

    HK_ASSERT(to);
    memcpy(to, from, bytes);
    return to;
}

void cdisk_mark(struct cdisk *d)
{
    HK_ASSERT(d->pending_count == 0 && d->loose_count == 0);
    for (uint32_t i = 0; i < d->file_count; i++) {
        struct cdisk_file *f = &d->file[i];
        uint64_t pages = f->bytes / HK_PAGE_BYTES + 1;

        free(f->mark_cur);
        free(f->mark_dur);
        free(f->touched);
        free(f->touched_page);
        f->mark_cur = duplicate(f->cur, f->bytes);
        f->mark_dur = duplicate(f->dur, f->bytes);
        f->touched = calloc(pages, 1);
        f->touched_page = calloc(pages, sizeof(*f->touched_page));
        HK_ASSERT(f->touched && f->touched_page);
        f->touched_count = 0;
        f->mark_used = f->used;
    }
}

void cdisk_reset(struct cdisk *d)
{
    d->pending_count = 0;
    d->loose_count = 0;
    d->done_count = 0;
    d->fail_at = 0;
    d->fail_forever = false;
    for (uint32_t i = 0; i < d->file_count; i++) {
        struct cdisk_file *f = &d->file[i];

        for (uint32_t k = 0; k < f->touched_count; k++) {
            uint64_t at = (uint64_t)f->touched_page[k] * HK_PAGE_BYTES;
            uint64_t n = hk_min_u64(HK_PAGE_BYTES, f->bytes - at);

            memcpy(f->cur + at, f->mark_cur + at, n);
            memcpy(f->dur + at, f->mark_dur + at, n);
            f->touched[f->touched_page[k]] = 0;
        }
        f->touched_count = 0;
        f->used = f->mark_used;
    }
}

void cdisk_follow(struct cdisk *img, const struct cdisk *from, bool start_over)
{
    for (uint32_t i = 0; i < from->file_count; i++) {
        const struct cdisk_file *f = &from->file[i];
        struct cdisk_file *t = &img->file[i];

        HK_ASSERT(t->touched_count == 0);
        for (uint32_t k = 0; k < f->touched_count; k++) {
            uint64_t at = (uint64_t)f->touched_page[k] * HK_PAGE_BYTES;
            uint64_t n = hk_min_u64(HK_PAGE_BYTES, f->bytes - at);
            const uint8_t *page = (start_over ? f->mark_dur : f->dur) + at;

            memcpy(t->cur + at, page, n);
            memcpy(t->dur + at, page, n);
            memcpy(t->mark_cur + at, page, n);
            memcpy(t->mark_dur + at, page, n);
        }
        t->used = t->mark_used = start_over ? f->mark_used : f->used;
    }
}

void cdisk_copy(struct cdisk *to, const struct cdisk *from)
{
    cdisk_init(to);
    to->cached = from->cached;
    to->sequence = from->sequence;
    for (uint32_t i = 0; i < from->file_count; i++) {
        const struct cdisk_file *f = &from->file[i];

        cdisk_add(to, f->file, f->bytes);
        memcpy(to->file[i].cur, f->cur, f->bytes);
        memcpy(to->file[i].dur, f->dur, f->bytes);
        to->file[i].used = f->used;
    }
    for (uint32_t i = 0; i < from->loose_count; i++) {
        add_loose(to, from->loose[i].file, from->loose[i].sector, from->loose[i].data);
        to->loose[i].sequence = from->loose[i].sequence;
    }
}

void cdisk_photograph(struct cdisk *img, const struct cdisk *from)
{
    if (img->file_count > 0)
        cdisk_free(img);
    cdisk_copy(img, from);
    img->loose_count = 0;
    for (uint32_t i = 0; i < img->file_count; i++)
        memcpy(img->file[i].cur, img->file[i].dur, img->file[i].bytes);
    img->cached = true;
    cdisk_mark(img);
}

/* --- What a crash may leave --- */

void cdisk_choices_init(struct cdisk_choices *c)
{
    memset(c, 0, sizeof(*c));
    c->data = malloc(sizeof(*c->data) * CDISK_CHOICES);
    HK_ASSERT(c->data);
}

void cdisk_choices_free(struct cdisk_choices *c)
{
    free(c->data);
    c->data = NULL;
}

static void offer(const struct cdisk *d, struct cdisk_choices *c, uint16_t file, uint32_t sector,
                  const uint8_t *data)
{
    const uint8_t *durable = d->file[file].dur + (uint64_t)sector * CDISK_SECTOR;
    struct cdisk_choice *o = NULL;

    if (memcmp(durable, data, CDISK_SECTOR) == 0)
        return;
    for (uint32_t i = 0; i < c->count && !o; i++) {
        if (c->choice[i].file == file && c->choice[i].sector == sector)
            o = &c->choice[i];
    }
    HK_ASSERT(c->count < CDISK_CHOICES && c->data_count < CDISK_CHOICES);
    /* A sector's versions lie together; one that comes late moves the whole list to the end. */
    if (o) {
        for (uint32_t i = 0; i < o->version_count; i++) {
            if (memcmp(c->data[o->version + i], data, CDISK_SECTOR) == 0)
                return;
        }
        HK_ASSERT(c->data_count + o->version_count < CDISK_CHOICES);
        memmove(c->data[c->data_count], c->data[o->version],
                (size_t)o->version_count * CDISK_SECTOR);
        o->version = c->data_count;
        c->data_count += o->version_count;
    } else {
        o = &c->choice[c->count++];
        *o = (struct cdisk_choice){.file = file, .sector = sector, .version = c->data_count};
    }
    o->version_count++;
    memcpy(c->data[c->data_count++], data, CDISK_SECTOR);
}

void cdisk_collect(const struct cdisk *d, struct cdisk_choices *ret)
{
    static uint8_t piece[8 << 20];

    ret->count = ret->data_count = 0;
    for (uint32_t i = 0; i < d->loose_count; i++)
        offer(d, ret, d->loose[i].file, d->loose[i].sector, d->loose[i].data);
    for (uint32_t i = 0; i < d->pending_count; i++) {
        const struct hk_diskop *op = d->pending[i];
        const struct cdisk_file *f;

        if (!writes(op))
            continue;
        HK_ASSERT(op->bytes <= sizeof(piece));
        f = cdisk_file((struct cdisk *)(uintptr_t)d, op->file);
        gather(op, piece);
        for (uint64_t at = 0; at < op->bytes; at += CDISK_SECTOR)
            offer(d, ret, (uint16_t)(f - d->file), (uint32_t)((op->offset + at) / CDISK_SECTOR),
                  piece + at);
    }
}

uint64_t cdisk_states(const struct cdisk_choices *c)
{
    uint64_t n = 1;

    for (uint32_t i = 0; i < c->count; i++) {
        if (n > UINT64_MAX / 4 / (c->choice[i].version_count + 1))
            return UINT64_MAX;
        n *= c->choice[i].version_count + 1;
    }
    return n;
}

static void lay_one(struct cdisk *to, const struct cdisk_choices *c, uint32_t i, uint64_t pick)
{
    const struct cdisk_choice *o = &c->choice[i];

    if (pick > 0)
        cdisk_poke(to, to->file[o->file].file, (uint64_t)o->sector * CDISK_SECTOR,
                   c->data[o->version + pick - 1], CDISK_SECTOR);
}

void cdisk_lay(struct cdisk *to, const struct cdisk_choices *c, uint64_t n)
{
    for (uint32_t i = 0; i < c->count; i++) {
        uint64_t base = c->choice[i].version_count + 1;

        lay_one(to, c, i, n % base);
        n /= base;
    }
    HK_ASSERT(n == 0);
}

void cdisk_lay_picks(struct cdisk *to, const struct cdisk_choices *c, const uint8_t *pick)
{
    for (uint32_t i = 0; i < c->count; i++)
        lay_one(to, c, i, pick[i]);
}

/* --- A process dies, the machine lives --- */

static void cache(struct cdisk *d, uint16_t file, uint32_t sector, const uint8_t *data)
{
    struct cdisk_file *f = &d->file[file];
    uint64_t offset = (uint64_t)sector * CDISK_SECTOR;

    memcpy(f->cur + offset, data, CDISK_SECTOR);
    touch(f, offset, CDISK_SECTOR);
    add_loose(d, file, sector, data);
}

void cdisk_die(struct cdisk *to, const struct cdisk *from, uint64_t mask)
{
    static uint8_t piece[8 << 20];

    HK_ASSERT(to->loose_count == 0 && to->pending_count == 0);
    to->sequence++;
    for (uint32_t i = 0; i < from->loose_count; i++)
        cache(to, from->loose[i].file, from->loose[i].sector, from->loose[i].data);
    for (uint32_t i = 0; i < from->pending_count; i++) {
        const struct hk_diskop *op = from->pending[i];
        uint16_t file;

        if (!writes(op) || !(mask >> i & 1))
            continue;
        HK_ASSERT(op->bytes <= sizeof(piece));
        file = (uint16_t)(cdisk_file(to, op->file) - to->file);
        gather(op, piece);
        for (uint64_t at = 0; at < op->bytes; at += CDISK_SECTOR)
            cache(to, file, (uint32_t)((op->offset + at) / CDISK_SECTOR), piece + at);
    }
}

void cdisk_cut(struct cdisk *d, const struct cdisk_choices *c, uint64_t n)
{
    d->pending_count = 0;
    d->loose_count = 0;
    for (uint32_t i = 0; i < d->file_count; i++) {
        struct cdisk_file *f = &d->file[i];

        for (uint32_t k = 0; k < f->touched_count; k++) {
            uint64_t at = (uint64_t)f->touched_page[k] * HK_PAGE_BYTES;

            memcpy(f->cur + at, f->dur + at, hk_min_u64(HK_PAGE_BYTES, f->bytes - at));
        }
    }
    cdisk_lay(d, c, n);
}
