/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deleting a snapshot. The oldest goes at once: header zeroed durably, files punched. Of any other
 * the chunks that the next older one lacks go there first, a page of the index at a time: copied,
 * flushed, marked, flushed; only then is their room given back. Cut off anywhere it is still DYING,
 * and reading through it finds each chunk in one of the two.
 */
#include "replicator/store/snapshot_internal.h"

#include <errno.h>

enum {
    DROP_DYING = 0, /* the header says so */
    DROP_OLDER,     /* page of the older one is read */
    DROP_OWN,
    DROP_COPY_READ,
    DROP_COPY_WRITE,
    DROP_FLUSH,
    DROP_BITS,
    DROP_BITS_FLUSH,
    DROP_PUNCH,
    DROP_HEADER,
    DROP_ALL,
};

#define OLDER_PAGE(s) ((s)->page + HK_PAGE_BYTES)
#define OWN_PAGE(s)   ((s)->page + 2 * HK_PAGE_BYTES)

enum { PAGE_CHUNKS = HK_SNAP_SECTOR_CHUNKS * HK_SNAP_PAGE_SECTORS };

static struct hk_snap_sector *sector(uint8_t *page, uint64_t chunk)
{
    uint64_t i = hk_snap_sector_of(chunk) % HK_SNAP_PAGE_SECTORS;

    return (struct hk_snap_sector *)(void *)(page + i * HK_SNAP_SECTOR_BYTES);
}

static void free_header(struct hk_snapshots *s)
{
    __builtin_memset(s->page, 0, HK_PAGE_BYTES);
    s->j.step = DROP_HEADER;
    hk_snap_job_io(s, HK_DISK_WRITE_DSYNC, hk_snap_index_file(s->j.slot), 0, HK_PAGE_BYTES,
                   s->page);
}

static void begin(struct hk_snapshots *s, uint32_t slot)
{
    s->job = HK_SNAPSHOTS_DROPPING;
    s->j.slot = slot;
    s->j.volume = 0;
    s->j.at = 0;
    s->j.result = 0;
}

int hk_snapshots_drop(struct hk_snapshots *s, uint32_t id)
{
    int slot = hk_snapshots_find(s, id);
    struct hk_snap_header *h = (void *)s->page;

    if (slot < 0)
        return slot;
    if (s->job != HK_SNAPSHOTS_IDLE || s->slot[slot].leases > 0)
        return -EBUSY;
    if ((uint32_t)slot == s->newest && s->save != HK_SAVE_NONE)
        return -EBUSY;
    begin(s, (uint32_t)slot);
    s->j.other =
        s->slot[slot].state == HK_SNAPSHOT_BROKEN ? HK_NO_SLOT : hk_snap_older(s, (uint32_t)slot);
    if (s->j.other == HK_NO_SLOT) {
        free_header(s);
        return 0;
    }
    s->j.step = DROP_DYING;
    s->slot[slot].state = HK_SNAPSHOT_DYING;
    s->slot[slot].header.dying = 1;
    hk_snap_header_seal(&s->slot[slot].header);
    __builtin_memset(s->page, 0, HK_PAGE_BYTES);
    *h = s->slot[slot].header;
    hk_snap_job_io(s, HK_DISK_WRITE_DSYNC, hk_snap_index_file(s->j.slot), 0, HK_PAGE_BYTES,
                   s->page);
    return 0;
}

bool hk_snap_end_oldest(struct hk_snapshots *s)
{
    uint32_t slot = hk_snap_newest(s);

    if (slot == HK_NO_SLOT)
        return false;
    while (hk_snap_older(s, slot) != HK_NO_SLOT)
        slot = hk_snap_older(s, slot);
    if (s->slot[slot].header.kind != HK_SNAP_MARK)
        return false;
    /* Whoever reads it is told: it has ended. What is under way for it must come to its end. */
    s->ended_count++;
    begin(s, slot);
    free_header(s);
    return true;
}

bool hk_snapshots_give_up(struct hk_snapshots *s)
{
    if (!s->stuck || s->job != HK_SNAPSHOTS_IDLE || s->newest == HK_NO_SLOT || s->busy_save > 0 ||
        hk_snap_older(s, s->newest) != HK_NO_SLOT)
        return false;
    s->stuck = -ENOSPC;
    begin(s, s->newest);
    free_header(s);
    return true;
}

/* ---- a page's worth of chunks ---- */

static void next_page(struct hk_snapshots *s)
{
    if (s->j.at == s->page_count) {
        free_header(s);
        return;
    }
    s->j.step = DROP_OLDER;
    hk_snap_job_io(s, HK_DISK_READ, hk_snap_index_file(s->j.other), (1 + s->j.at) * HK_PAGE_BYTES,
                   HK_PAGE_BYTES, OLDER_PAGE(s));
}

static uint64_t first_chunk(const struct hk_snapshots *s)
{
    return hk_snap_place(s, 1, s->j.at).page * PAGE_CHUNKS;
}

static uint64_t end_chunk(const struct hk_snapshots *s)
{
    struct hk_snap_place p = hk_snap_place(s, 1, s->j.at);

    return hk_min_u64(first_chunk(s) + PAGE_CHUNKS, hk_snap_chunks(p.volume_bytes));
}

static bool lacks(struct hk_snapshots *s, uint64_t chunk)
{
    return hk_snap_bit(sector(OWN_PAGE(s), chunk), chunk) &&
           !hk_snap_bit(sector(OLDER_PAGE(s), chunk), chunk);
}

/* The next run of chunks that the older one lacks, from j.run on; false: none is left. */
static bool copy_next(struct hk_snapshots *s)
{
    struct hk_snap_place p = hk_snap_place(s, 1, s->j.at);
    uint64_t c = s->j.run, end = end_chunk(s);
    struct hk_snapshot_op *o = &s->op[HK_SNAPSHOT_DEPTH];

    while (c < end && !lacks(s, c))
        c++;
    if (c == end)
        return false;
    o->chunk = c;
    for (o->count = 0; c < end && lacks(s, c) && o->count < HK_SNAPSHOT_RUN_CHUNKS; c++)
        o->count++;
    s->j.run = c;
    s->j.step = DROP_COPY_READ;
    hk_snap_job_io(s, HK_DISK_READ, hk_snap_data_file(s->j.slot, p.volume),
                   o->chunk * HK_SNAP_CHUNK_BYTES, (uint64_t)o->count * HK_SNAP_CHUNK_BYTES,
                   o->buffer);
    return true;
}

static void copied(struct hk_snapshots *s)
{
    struct hk_snap_place p = hk_snap_place(s, 1, s->j.at);

    if (copy_next(s))
        return;
    if (!s->j.copied) { /* nothing of this page had to be copied */
        s->j.at++;
        next_page(s);
        return;
    }
    s->j.step = DROP_FLUSH;
    hk_snap_job_io(s, HK_DISK_FLUSH, hk_snap_data_file(s->j.other, p.volume), 0, 0, NULL);
}

static void write_page(struct hk_snapshots *s)
{
    struct hk_snap_place p = hk_snap_place(s, s->slot[s->j.other].header.id, s->j.at);

    for (uint64_t c = first_chunk(s); c < end_chunk(s); c++) {
        if (!lacks(s, c))
            continue;
        hk_snap_bit_set(sector(OLDER_PAGE(s), c), c);
        s->slot[s->j.other].chunks++;
    }
    hk_snap_page_seal(&p, OLDER_PAGE(s));
    s->j.step = DROP_BITS;
    hk_snap_job_io(s, HK_DISK_WRITE, hk_snap_index_file(s->j.other), (1 + s->j.at) * HK_PAGE_BYTES,
                   HK_PAGE_BYTES, OLDER_PAGE(s));
}

static void punch_page(struct hk_snapshots *s)
{
    struct hk_snap_place p = hk_snap_place(s, 1, s->j.at);
    uint64_t first = first_chunk(s), end = end_chunk(s);

    s->j.step = DROP_PUNCH;
    hk_snap_job_io(s, HK_DISK_PUNCH, hk_snap_data_file(s->j.slot, p.volume),
                   first * HK_SNAP_CHUNK_BYTES, (end - first) * HK_SNAP_CHUNK_BYTES, NULL);
}

static bool page_ok(struct hk_snapshots *s, uint32_t slot, const uint8_t *page)
{
    struct hk_snap_place p = hk_snap_place(s, s->slot[slot].header.id, s->j.at);
    uint32_t chunks;
    enum hk_snap_fault fault = hk_snap_page_check(&p, page, &chunks);

    if (fault != HK_SNAP_OK)
        hk_snap_broken(s, slot, fault, -EUCLEAN);
    return fault == HK_SNAP_OK;
}

/* ---- the course of it ---- */

static void freed(struct hk_snapshots *s)
{
    bool was_newest = s->j.slot == s->newest;

    s->slot[s->j.slot] = (struct hk_snapshot){.state = HK_SNAPSHOT_FREE};
    if (!was_newest) {
        hk_snap_job_ends(s, s->j.result);
        hk_snapshots_retry(s);
        return;
    }
    hk_snap_begin_load(s, s->j.result);
    if (hk_snapshots_idle(s))
        hk_snapshots_retry(s);
}

static void header_is_zero(struct hk_snapshots *s)
{
    uint32_t v = s->j.volume++;

    s->j.step = DROP_ALL;
    if (v == s->cfg.volume_count) {
        freed(s);
        return;
    }
    hk_snap_job_io(s, HK_DISK_PUNCH, hk_snap_data_file(s->j.slot, v), 0, hk_snap_file_bytes(s, v),
                   NULL);
}

static void page_is_here(struct hk_snapshots *s, bool own)
{
    if (!page_ok(s, own ? s->j.slot : s->j.other, own ? OWN_PAGE(s) : OLDER_PAGE(s))) {
        hk_snap_job_ends(s, -EUCLEAN);
        return;
    }
    if (!own) {
        s->j.step = DROP_OWN;
        hk_snap_job_io(s, HK_DISK_READ, hk_snap_index_file(s->j.slot),
                       (1 + s->j.at) * HK_PAGE_BYTES, HK_PAGE_BYTES, OWN_PAGE(s));
        return;
    }
    s->j.run = first_chunk(s);
    s->j.copied = false;
    copied(s);
}

void hk_snap_drop_step(struct hk_snapshots *s, struct hk_snapshot_op *o, int result)
{
    struct hk_snap_place p = hk_snap_place(s, 1, hk_min_u64(s->j.at, s->page_count - 1));

    /* A hole that can't be punched costs room, nothing else. */
    if (result != 0 && s->j.step != DROP_PUNCH && s->j.step != DROP_ALL) {
        hk_snap_job_ends(s, result);
        return;
    }
    switch (s->j.step) {
    case DROP_DYING: next_page(s); return;
    case DROP_OLDER: page_is_here(s, false); return;
    case DROP_OWN: page_is_here(s, true); return;
    case DROP_COPY_READ:
        s->j.step = DROP_COPY_WRITE;
        s->j.copied = true; /* something of this page is copied */
        hk_snap_job_io(s, HK_DISK_WRITE, hk_snap_data_file(s->j.other, p.volume),
                       o->chunk * HK_SNAP_CHUNK_BYTES, (uint64_t)o->count * HK_SNAP_CHUNK_BYTES,
                       o->buffer);
        return;
    case DROP_COPY_WRITE: copied(s); return;
    case DROP_FLUSH: write_page(s); return;
    case DROP_BITS:
        s->j.step = DROP_BITS_FLUSH;
        hk_snap_job_io(s, HK_DISK_FLUSH, hk_snap_index_file(s->j.other), 0, 0, NULL);
        return;
    case DROP_BITS_FLUSH: punch_page(s); return;
    case DROP_PUNCH:
        s->j.at++;
        next_page(s);
        return;
    case DROP_HEADER:
    case DROP_ALL: header_is_zero(s); return;
    }
}
