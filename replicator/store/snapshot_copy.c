/* SPDX-License-Identifier: Apache-2.0 */
/* Out of snapshots: back into the replica, or to a reader. */
#include "proto/bug.h"
#include "replicator/store/snapshot_internal.h"

#include <errno.h>

/* ---- going back ---- */

enum { BACK_READ = 0, BACK_WRITE, BACK_FORGET, BACK_FLUSH };

/*
 * What was being saved when it came to this counts only as far as it is on the disk: the image is
 * read anew. A chunk without a durable bit was not overwritten.
 */
int hk_snapshots_rollback(struct hk_snapshots *s, uint32_t id)
{
    int slot = hk_snapshots_find(s, id);

    if (slot < 0)
        return slot;
    if (s->slot[slot].state != HK_SNAPSHOT_LIVE)
        return -EUCLEAN;
    if (s->job != HK_SNAPSHOTS_IDLE || !hk_snapshots_quiet(s))
        return -EBUSY;
    HK_ASSERT(hk_snap_newer(s, (uint32_t)slot) == HK_NO_SLOT);
    for (uint32_t i = 0; i < HK_SNAPSHOT_DEPTH; i++)
        s->op[i].waits_for_room = false;
    __builtin_memset(s->dirty, 0, (s->page_count / 64 + 1) * sizeof(uint64_t));
    s->run = HK_NO_SLOT;
    s->save = HK_SAVE_NONE;
    s->stuck = 0;
    s->rolled_back = s->rollback_total = 0;
    hk_snap_begin_load(s, 0);
    s->j.then = 1;
    return 0;
}

/* The next chunk of the volume at or after j.at that is kept; false: none. */
static bool seek(struct hk_snapshots *s)
{
    uint64_t chunks = hk_snap_chunks(s->cfg.volume_bytes[s->j.volume]);

    while (s->j.at < chunks) {
        const struct hk_snap_sector *x = hk_snap_image_sector(s, s->j.volume, s->j.at);
        uint64_t bit = s->j.at % HK_SNAP_SECTOR_CHUNKS;

        if (bit % 8 == 0 && x->bits[bit / 8] == 0)
            s->j.at += 8;
        else if (hk_snap_bit(x, s->j.at))
            return true;
        else
            s->j.at++;
    }
    return false;
}

static void read_run(struct hk_snapshots *s, struct hk_snapshot_op *o)
{
    uint64_t chunks = hk_snap_chunks(s->cfg.volume_bytes[s->j.volume]);

    o->volume = s->j.volume;
    o->chunk = s->j.at;
    o->slot = BACK_READ;
    for (o->count = 0; o->count < HK_SNAPSHOT_RUN_CHUNKS && s->j.at < chunks &&
                       hk_snap_kept(s, o->volume, s->j.at);
         s->j.at++)
        o->count++;
    hk_snap_submit(s, o, HK_USE_JOB, HK_DISK_READ, hk_snap_data_file(s->newest, o->volume),
                   o->chunk * HK_SNAP_CHUNK_BYTES, (uint64_t)o->count * HK_SNAP_CHUNK_BYTES,
                   o->buffer);
}

static void flush_replicas(struct hk_snapshots *s)
{
    struct hk_snapshot_op *o;

    while (s->j.run < s->cfg.volume_count && (o = hk_snap_take_op(s))) {
        o->slot = BACK_FLUSH;
        hk_snap_submit(s, o, HK_USE_JOB, HK_DISK_FLUSH, HK_FILE_VOLUME0 + (uint32_t)s->j.run, 0, 0,
                       NULL);
        s->j.run++;
    }
}

static void go_on(struct hk_snapshots *s)
{
    struct hk_snapshot_op *o;

    while (s->j.volume < s->cfg.volume_count && s->j.result == 0) {
        if (!seek(s)) {
            s->j.volume++;
            s->j.at = 0;
            continue;
        }
        o = hk_snap_take_op(s);
        if (!o)
            return;
        read_run(s, o);
    }
    if (s->busy_job == 0 && s->j.result == 0)
        flush_replicas(s);
    if (s->busy_job == 0)
        hk_snap_job_ends(s, s->j.result);
}

void hk_snap_rollback_loaded(struct hk_snapshots *s, int result)
{
    s->job = HK_SNAPSHOTS_ROLLING_BACK;
    s->j.then = 0;
    s->j.result = result;
    if (s->newest == HK_NO_SLOT) {
        hk_snap_job_ends(s, -EUCLEAN);
        return;
    }
    s->rollback_total = s->slot[s->newest].chunks * HK_SNAP_CHUNK_BYTES;
    s->j.volume = 0;
    s->j.at = s->j.run = 0;
    go_on(s);
}

/* model: resync.pml, ROLLED_BACK */
void hk_snap_rollback_step(struct hk_snapshots *s, struct hk_snapshot_op *o, int result)
{
    uint64_t offset = o->chunk * HK_SNAP_CHUNK_BYTES;
    uint64_t bytes = (uint64_t)o->count * HK_SNAP_CHUNK_BYTES;

    if (result != 0)
        s->j.result = result;
    if (o->slot == BACK_FLUSH) {
        flush_replicas(s);
        if (s->busy_job == 0)
            hk_snap_job_ends(s, s->j.result);
        return;
    }
    if (s->j.result == 0 && o->slot == BACK_READ) {
        o->slot = BACK_WRITE;
        hk_snap_submit(s, o, HK_USE_JOB, HK_DISK_WRITE, HK_FILE_VOLUME0 + o->volume, offset,
                       hk_min_u64(bytes, s->cfg.volume_bytes[o->volume] - offset), o->buffer);
        return;
    }
    if (o->slot == BACK_WRITE) {
        s->rolled_back += bytes;
        if (HK_BUG(rollback_not_idempotent)) {
            o->slot = BACK_FORGET;
            hk_snap_submit(s, o, HK_USE_JOB, HK_DISK_PUNCH, hk_snap_data_file(s->newest, o->volume),
                           offset, bytes, NULL);
            return;
        }
    }
    go_on(s);
}

/* ---- readers ---- */

enum { LOOK_REPLICA = 0, LOOK_INDEX, LOOK_CHUNK };

int hk_snapshots_lease(struct hk_snapshots *s, uint32_t id)
{
    int slot = hk_snapshots_find(s, id);

    if (slot < 0)
        return slot;
    if (s->slot[slot].state != HK_SNAPSHOT_LIVE)
        return s->slot[slot].state == HK_SNAPSHOT_BROKEN ? -EUCLEAN : -ESTALE;
    s->slot[slot].leases++;
    return 0;
}

void hk_snapshots_release(struct hk_snapshots *s, uint32_t id)
{
    int slot = hk_snapshots_find(s, id);

    if (slot >= 0 && s->slot[slot].leases > 0)
        s->slot[slot].leases--;
}

int hk_snapshots_read(struct hk_snapshots *s, uint32_t id, uint32_t volume, uint64_t offset,
                      uint32_t bytes, uint8_t *to)
{
    int slot = hk_snapshots_find(s, id);

    if (slot < 0)
        return -ESTALE;
    if (s->slot[slot].state != HK_SNAPSHOT_LIVE)
        return s->slot[slot].state == HK_SNAPSHOT_BROKEN ? -EUCLEAN : -ESTALE;
    if (s->job != HK_SNAPSHOTS_IDLE)
        return -EBUSY;
    if (volume >= s->cfg.volume_count || offset % HK_SNAP_CHUNK_BYTES != 0 || bytes == 0 ||
        bytes > HK_SNAPSHOT_RUN_BYTES || offset > s->cfg.volume_bytes[volume] ||
        bytes > s->cfg.volume_bytes[volume] - offset)
        return -EINVAL;
    if (hk_snap_page_of(s, volume, offset / HK_SNAP_CHUNK_BYTES) !=
        hk_snap_page_of(s, volume, (offset + bytes - 1) / HK_SNAP_CHUNK_BYTES))
        return -EINVAL;
    s->job = HK_SNAPSHOTS_READING;
    s->j.slot = (uint32_t)slot;
    s->j.volume = volume;
    s->j.offset = offset;
    s->j.bytes = bytes;
    s->j.to = to;
    s->j.found = 0;
    s->j.step = LOOK_REPLICA;
    hk_snap_job_io(s, HK_DISK_READ, HK_FILE_VOLUME0 + volume, offset, bytes, to);
    return 0;
}

static uint32_t chunks_asked(const struct hk_snapshots *s)
{
    return (uint32_t)((s->j.bytes + HK_SNAP_CHUNK_BYTES - 1) / HK_SNAP_CHUNK_BYTES);
}

static bool kept_by(const struct hk_snapshots *s, uint64_t chunk)
{
    const uint8_t *page = s->page + HK_PAGE_BYTES;
    uint64_t i = hk_snap_sector_of(chunk) % HK_SNAP_PAGE_SECTORS;

    if (s->j.slot == s->newest)
        return hk_snap_kept(s, s->j.volume, chunk);
    return hk_snap_bit((const void *)(page + i * HK_SNAP_SECTOR_BYTES), chunk);
}

static void look(struct hk_snapshots *s);

/* The next chunk that this snapshot keeps and none before it did; then the next newer snapshot. */
static void take_chunks(struct hk_snapshots *s)
{
    uint64_t first = s->j.offset / HK_SNAP_CHUNK_BYTES;

    for (uint32_t i = 0; i < chunks_asked(s); i++) {
        if (s->j.found >> i & 1 || !kept_by(s, first + i))
            continue;
        s->j.found |= 1u << i;
        s->j.at = i;
        s->j.step = LOOK_CHUNK;
        hk_snap_job_io(s, HK_DISK_READ, hk_snap_data_file(s->j.slot, s->j.volume),
                       (first + i) * HK_SNAP_CHUNK_BYTES, HK_SNAP_CHUNK_BYTES,
                       s->op[HK_SNAPSHOT_DEPTH].buffer);
        return;
    }
    s->j.slot = hk_snap_newer(s, s->j.slot);
    if (s->j.slot == HK_NO_SLOT)
        hk_snap_job_ends(s, 0);
    else
        look(s);
}

static void look(struct hk_snapshots *s)
{
    uint64_t page = hk_snap_page_of(s, s->j.volume, s->j.offset / HK_SNAP_CHUNK_BYTES);

    if (s->j.slot == s->newest) {
        take_chunks(s);
        return;
    }
    s->j.step = LOOK_INDEX;
    hk_snap_job_io(s, HK_DISK_READ, hk_snap_index_file(s->j.slot), (1 + page) * HK_PAGE_BYTES,
                   HK_PAGE_BYTES, s->page + HK_PAGE_BYTES);
}

static void index_read(struct hk_snapshots *s)
{
    uint64_t page = hk_snap_page_of(s, s->j.volume, s->j.offset / HK_SNAP_CHUNK_BYTES);
    struct hk_snap_place p = hk_snap_place(s, s->slot[s->j.slot].header.id, page);
    enum hk_snap_fault fault;
    uint32_t chunks;

    fault = hk_snap_page_check(&p, s->page + HK_PAGE_BYTES, &chunks);
    if (fault != HK_SNAP_OK) {
        hk_snap_broken(s, s->j.slot, fault, -EUCLEAN);
        hk_snap_job_ends(s, -EUCLEAN);
        return;
    }
    take_chunks(s);
}

void hk_snap_read_step(struct hk_snapshots *s, struct hk_snapshot_op *o, int result)
{
    if (result != 0) {
        hk_snap_job_ends(s, result);
        return;
    }
    switch (s->j.step) {
    case LOOK_REPLICA: look(s); return;
    case LOOK_INDEX: index_read(s); return;
    case LOOK_CHUNK:
        __builtin_memcpy(
            s->j.to + s->j.at * HK_SNAP_CHUNK_BYTES, o->buffer,
            hk_min_u64(HK_SNAP_CHUNK_BYTES, s->j.bytes - s->j.at * HK_SNAP_CHUNK_BYTES));
        take_chunks(s);
        return;
    }
}
