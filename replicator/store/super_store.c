/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/store/super_store.h"

#include "proto/bug.h"

#include <errno.h>

enum { TAG_READ0 = 0, TAG_READ1 = 1, TAG_FLUSH, TAG_WRITE };

size_t hk_super_store_memory(void)
{
    return 2 * (HK_SUPER_BYTES + (size_t)HK_PAGE_BYTES) + 3 * (sizeof(struct hk_super) + 64);
}

int hk_super_store_init(struct hk_super_store *s, struct hk_disk *disk, uint32_t file,
                        struct hk_arena *arena)
{
    HK_ASSERT(disk);
    __builtin_memset(s, 0, sizeof(*s));
    s->disk = disk;
    s->file = file;
    for (unsigned i = 0; i < 2; i++) {
        s->slot[i] = hk_arena_take(arena, HK_SUPER_BYTES, HK_PAGE_BYTES);
        if (!s->slot[i])
            return -ENOMEM;
    }
    s->live = hk_arena_take(arena, sizeof(*s->live), _Alignof(struct hk_super));
    s->pending = hk_arena_take(arena, sizeof(*s->pending), _Alignof(struct hk_super));
    s->durable = hk_arena_take(arena, sizeof(*s->durable), _Alignof(struct hk_super));
    if (!s->live || !s->pending || !s->durable)
        return -ENOMEM;
    return 0;
}

static void submit(struct hk_super_store *s, unsigned op, enum hk_disk_kind kind, uint32_t tag,
                   unsigned slot)
{
    struct hk_diskop *d = &s->op[op];

    HK_ASSERT(slot < 2);
    *d = (struct hk_diskop){.kind = kind, .file = s->file, .owner = HK_OWNER_SUPER, .tag = tag};
    if (kind != HK_DISK_FLUSH) {
        d->offset = (uint64_t)slot * HK_SUPER_BYTES;
        d->bytes = HK_SUPER_BYTES;
        d->iov[0] = (struct hk_iovec){.base = s->slot[slot], .bytes = HK_SUPER_BYTES};
        d->iov_count = 1;
    }
    s->disk->submit(s->disk, d);
}

void hk_super_store_start(struct hk_super_store *s)
{
    HK_ASSERT(s->state == HK_SUPER_STORE_NEW);
    s->state = HK_SUPER_STORE_READING;
    s->reads_left = 2;
    submit(s, 0, HK_DISK_READ, TAG_READ0, 0);
    submit(s, 1, HK_DISK_READ, TAG_READ1, 1);
}

static void fail(struct hk_super_store *s, int error)
{
    HK_ASSERT(error < 0);
    if (s->state == HK_SUPER_STORE_FAILED)
        return;
    s->state = HK_SUPER_STORE_FAILED;
    s->error = error;
}

/*
 * The first write ever goes to slot 1. If it was cut off, slot 0 is as blank as it was made and
 * slot 1 holds a piece: nothing was ever stored here, or slot 0 would hold something.
 */
static bool first_write_was_torn(const struct hk_super_store *s)
{
    uint8_t any = 0;

    for (size_t i = 0; i < HK_SUPER_BYTES; i++)
        any |= s->slot[0][i];
    return any == 0;
}

/* Both slots are read and flushed: choose. */
static void pick(struct hk_super_store *s)
{
    int r = hk_super_pick(s->slot[0], s->slot[1], s->durable, s->fault);

    if (r == -EUCLEAN && first_write_was_torn(s))
        r = -ENODATA;

    switch (r) {
    case 0:
        s->in_doubt = hk_super_in_doubt(s->slot[0], s->slot[1]);
        s->sequence = s->durable->sequence;
        *s->live = *s->durable;
        s->state = HK_SUPER_STORE_READY;
        return;
    case -ENODATA: s->state = HK_SUPER_STORE_BLANK; return;
    }
    HK_ASSERT(r == -EUCLEAN);
    s->state = HK_SUPER_STORE_INVALID;
}

/* Writes what the newest put took, unless a write is in flight already. */
/* model: promote.pml, SUPER_ISSUED; freeze.pml, SUPER_ISSUED */
static void write_next(struct hk_super_store *s)
{
    unsigned slot;

    if (s->in_flight || s->ticket_flight == s->ticket_put)
        return;
    s->sequence++;
    slot = (unsigned)(s->sequence & 1);
    s->pending->sequence = s->sequence;
    hk_super_encode(s->pending, s->slot[slot]);
    s->ticket_flight = s->ticket_put;
    s->in_flight = true;
    submit(s, 0, HK_BUG(super_plain) ? HK_DISK_WRITE : HK_DISK_WRITE_DSYNC, TAG_WRITE, slot);
}

/* model: promote.pml, SUPER_DURABLE; freeze.pml, SUPER_DURABLE */
static void write_done(struct hk_super_store *s)
{
    const void *slot = s->slot[s->sequence & 1];

    HK_ASSERT(s->in_flight);
    HK_ASSERT(s->ticket_stored < s->ticket_flight);
    s->in_flight = false;
    /* From the very bytes that were written: encode and decode check one another. */
    HK_ASSERT(hk_super_decode(slot, s->durable) == HK_SUPER_OK);
    HK_ASSERT(s->durable->sequence == s->sequence);
    s->live->sequence = s->sequence;
    s->ticket_stored = s->ticket_flight;
    s->state = HK_SUPER_STORE_READY;
    write_next(s);
}

static void read_done(struct hk_super_store *s)
{
    HK_ASSERT(s->reads_left > 0);
    if (--s->reads_left > 0)
        return;
    if (HK_BUG(super_unflushed))
        pick(s);
    else
        submit(s, 0, HK_DISK_FLUSH, TAG_FLUSH, 0);
}

void hk_super_store_disk_done(struct hk_super_store *s, struct hk_diskop *op)
{
    HK_ASSERT(op == &s->op[0] || op == &s->op[1]);
    HK_ASSERT(op->owner == HK_OWNER_SUPER);
    if (op->result != 0)
        fail(s, op->result < 0 ? op->result : -EIO);
    if (s->state == HK_SUPER_STORE_FAILED)
        return;
    switch (op->tag) {
    case TAG_READ0:
    case TAG_READ1: read_done(s); return;
    case TAG_FLUSH: pick(s); return;
    case TAG_WRITE: write_done(s); return;
    }
    HK_ASSERT(!"a tag of ours");
}

static bool usable(const struct hk_super_store *s)
{
    return s->state == HK_SUPER_STORE_READY || s->state == HK_SUPER_STORE_BLANK ||
           s->state == HK_SUPER_STORE_FAILED;
}

struct hk_super *hk_super_store_get(struct hk_super_store *s)
{
    HK_ASSERT(usable(s));
    return s->live;
}

const struct hk_super *hk_super_store_durable(const struct hk_super_store *s)
{
    HK_ASSERT(s->state == HK_SUPER_STORE_READY || s->state == HK_SUPER_STORE_FAILED);
    return s->durable;
}

uint64_t hk_super_store_put(struct hk_super_store *s)
{
    HK_ASSERT(usable(s));
    s->ticket_put++;
    if (s->state == HK_SUPER_STORE_FAILED)
        return s->ticket_put;
    *s->pending = *s->live;
    write_next(s);
    return s->ticket_put;
}

uint64_t hk_super_store_stored(const struct hk_super_store *s)
{
    return s->ticket_stored;
}

bool hk_super_store_busy(const struct hk_super_store *s)
{
    return s->state != HK_SUPER_STORE_FAILED && s->ticket_stored != s->ticket_put;
}
