/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before-images: replica → sparse file, flush, bits, flush; a batch of the applier at a time. In
 * the image a bit is set when its copy begins, so that a chunk is taken once; on the disk it is
 * written when all copies are durable.
 */
#include "proto/bug.h"
#include "replicator/store/snapshot_internal.h"

#include <errno.h>

bool hk_snapshots_wants(const struct hk_snapshots *s)
{
    return s->newest != HK_NO_SLOT || s->job != HK_SNAPSHOTS_IDLE;
}

void hk_snapshots_save_begin(struct hk_snapshots *s)
{
    HK_ASSERT(s->save == HK_SAVE_NONE && s->busy_save == 0 && s->run == HK_NO_SLOT);
    s->save = HK_SAVE_COPYING;
    s->save_all = false;
    s->volumes_touched = 0;
}

/* While the newest is being deleted, made or read in, it takes nothing. */
static bool takes(const struct hk_snapshots *s)
{
    switch (s->job) {
    case HK_SNAPSHOTS_IDLE: return true;
    case HK_SNAPSHOTS_STARTING:
    case HK_SNAPSHOTS_MAKING:
    case HK_SNAPSHOTS_LOADING:
    case HK_SNAPSHOTS_ROLLING_BACK: return false;
    case HK_SNAPSHOTS_DROPPING: return s->j.slot != s->newest;
    case HK_SNAPSHOTS_READING: return true;
    }
    return false;
}

static void mark(struct hk_snapshots *s, uint32_t volume, uint64_t chunk)
{
    uint64_t page = hk_snap_page_of(s, volume, chunk);

    hk_snap_bit_set(hk_snap_image_sector(s, volume, chunk), chunk);
    s->dirty[page / 64] |= 1ull << (page % 64);
    s->slot[s->newest].chunks++;
    s->saved_chunks++;
}

/* ---- copies ---- */

static void submit_run(struct hk_snapshots *s)
{
    struct hk_snapshot_op *o;
    uint64_t offset, bytes;

    if (s->run == HK_NO_SLOT)
        return;
    o = &s->op[s->run];
    s->run = HK_NO_SLOT;
    offset = o->chunk * HK_SNAP_CHUNK_BYTES;
    bytes = hk_min_u64((uint64_t)o->count * HK_SNAP_CHUNK_BYTES,
                       s->cfg.volume_bytes[o->volume] - offset);
    __builtin_memset(o->buffer + hk_round_down(bytes - 1, HK_SNAP_CHUNK_BYTES), 0,
                     HK_SNAP_CHUNK_BYTES);
    s->volumes_touched |= 1ull << o->volume;
    hk_snap_submit(s, o, HK_USE_BEFORE_READ, HK_DISK_READ, HK_FILE_VOLUME0 + o->volume, offset,
                   bytes, o->buffer);
}

static void write_run(struct hk_snapshots *s, struct hk_snapshot_op *o)
{
    hk_snap_submit(s, o, HK_USE_BEFORE_WRITE, HK_DISK_WRITE,
                   hk_snap_data_file(s->newest, o->volume), o->chunk * HK_SNAP_CHUNK_BYTES,
                   (uint64_t)o->count * HK_SNAP_CHUNK_BYTES, o->buffer);
}

static void no_room(struct hk_snapshots *s)
{
    if (s->stuck != 0 && s->stuck != -ENOSPC)
        return;
    s->stuck = -ENOSPC;
    if (hk_snapshots_idle(s))
        hk_snap_end_oldest(s);
}

/* Takes the chunk into the run that grows, or begins one. False: not now. */
static bool grow(struct hk_snapshots *s, uint32_t volume, uint64_t chunk)
{
    struct hk_snapshot_op *o = s->run != HK_NO_SLOT ? &s->op[s->run] : NULL;

    if (hk_snapshots_room(s) == 0) {
        submit_run(s);
        no_room(s);
        return false;
    }
    if (!o || o->volume != volume || o->chunk + o->count != chunk ||
        o->count == HK_SNAPSHOT_RUN_CHUNKS) {
        submit_run(s);
        o = hk_snap_take_op(s);
        if (!o)
            return false;
        o->volume = volume;
        o->chunk = chunk;
        o->count = 0;
        s->run = (uint32_t)(o - s->op);
    }
    o->count++;
    mark(s, volume, chunk);
    return true;
}

uint64_t hk_snapshots_save(struct hk_snapshots *s, uint32_t volume, uint64_t offset, uint64_t bytes)
{
    uint64_t chunk = offset / HK_SNAP_CHUNK_BYTES;
    uint64_t last = (offset + bytes - 1) / HK_SNAP_CHUNK_BYTES;

    HK_ASSERT(!s->save_all && bytes > 0 && volume < s->cfg.volume_count);
    if (s->save == HK_SAVE_DONE || (takes(s) && s->newest == HK_NO_SLOT))
        return bytes; /* nobody wants them any more */
    if (s->save != HK_SAVE_COPYING || s->stuck || !takes(s))
        return 0;
    for (; chunk <= last; chunk++) {
        if (hk_snap_kept(s, volume, chunk)) {
            s->skipped_chunks++;
            continue;
        }
        if (!grow(s, volume, chunk))
            return chunk * HK_SNAP_CHUNK_BYTES > offset ? chunk * HK_SNAP_CHUNK_BYTES - offset : 0;
    }
    return bytes;
}

/* ---- the course of a save ---- */

static bool waits_for_room(const struct hk_snapshots *s)
{
    for (uint32_t i = 0; i < HK_SNAPSHOT_DEPTH; i++) {
        if (s->op[i].waits_for_room)
            return true;
    }
    return false;
}

static void flush_data(struct hk_snapshots *s)
{
    struct hk_snapshot_op *o;

    while (s->volumes_touched != 0 && (o = hk_snap_take_op(s))) {
        uint32_t v = (uint32_t)__builtin_ctzll(s->volumes_touched);

        s->volumes_touched &= s->volumes_touched - 1;
        hk_snap_submit(s, o, HK_USE_BEFORE_FLUSH, HK_DISK_FLUSH, hk_snap_data_file(s->newest, v), 0,
                       0, NULL);
    }
}

static bool write_bits(struct hk_snapshots *s)
{
    uint64_t words = s->page_count / 64 + 1;
    bool any = false;

    for (uint64_t w = 0; w < words; w++) {
        while (s->dirty[w] != 0) {
            uint64_t page = w * 64 + (uint64_t)__builtin_ctzll(s->dirty[w]);
            struct hk_snapshot_op *o = hk_snap_take_op(s);
            struct hk_snap_place p;

            if (!o)
                return true;
            p = hk_snap_place(s, s->slot[s->newest].header.id, page);
            s->dirty[w] &= s->dirty[w] - 1;
            hk_snap_page_seal(&p, s->image + page * HK_PAGE_BYTES);
            hk_snap_submit(s, o, HK_USE_BIT_WRITE, HK_DISK_WRITE, hk_snap_index_file(s->newest),
                           (1 + page) * HK_PAGE_BYTES, HK_PAGE_BYTES,
                           s->image + page * HK_PAGE_BYTES);
            any = true;
        }
    }
    return any;
}

static void seal_bits(struct hk_snapshots *s)
{
    s->save = HK_SAVE_SEALING;
    hk_snap_submit(s, hk_snap_take_op(s), HK_USE_BIT_FLUSH, HK_DISK_FLUSH,
                   hk_snap_index_file(s->newest), 0, 0, NULL);
}

static bool anything_dirty(const struct hk_snapshots *s)
{
    for (uint64_t w = 0; w < s->page_count / 64 + 1; w++) {
        if (s->dirty[w] != 0)
            return true;
    }
    return false;
}

static void mark_all(struct hk_snapshots *s)
{
    s->save = HK_SAVE_MARKING;
    if (!write_bits(s))
        s->save = HK_SAVE_DONE;
}

/* model: resync.pml, BEFORE_IMAGE_SAVED */
static void step(struct hk_snapshots *s)
{
    if (s->stuck)
        return;
    switch (s->save) {
    case HK_SAVE_NONE:
    case HK_SAVE_DONE:
    case HK_SAVE_REPLICA_FAILED: return;
    case HK_SAVE_COPYING:
        if (!s->save_all || s->busy_save > 0 || waits_for_room(s))
            return;
        if (HK_BUG(before_image_unflushed)) {
            mark_all(s);
            return;
        }
        s->save = HK_SAVE_FLUSHING;
        flush_data(s);
        if (s->busy_save == 0)
            mark_all(s);
        return;
    case HK_SAVE_FLUSHING:
        flush_data(s);
        if (s->busy_save == 0)
            mark_all(s);
        return;
    case HK_SAVE_MARKING:
        if (!write_bits(s) && s->busy_save == 0)
            seal_bits(s);
        return;
    case HK_SAVE_SEALING:
        HK_ASSERT(s->busy_save == 0 && !anything_dirty(s));
        s->save = HK_SAVE_DONE;
        return;
    }
}

void hk_snapshots_save_all(struct hk_snapshots *s)
{
    HK_ASSERT(!s->save_all);
    if (s->save == HK_SAVE_DONE)
        return;
    submit_run(s);
    if (HK_BUG(bit_before_image) && !s->stuck)
        write_bits(s);
    s->save_all = true;
    step(s);
}

void hk_snapshots_save_end(struct hk_snapshots *s)
{
    HK_ASSERT(s->save == HK_SAVE_DONE && s->busy_save == 0);
    s->save = HK_SAVE_NONE;
    s->save_all = false;
}

/* The last snapshot ended for want of room: what is under way is for nobody. */
static void forget(struct hk_snapshots *s)
{
    for (uint32_t i = 0; i < HK_SNAPSHOT_DEPTH; i++)
        s->op[i].waits_for_room = false;
    __builtin_memset(s->dirty, 0, (s->page_count / 64 + 1) * sizeof(uint64_t));
    s->run = HK_NO_SLOT;
    s->stuck = 0;
    if (s->save == HK_SAVE_COPYING)
        s->save = HK_SAVE_DONE;
}

void hk_snapshots_retry(struct hk_snapshots *s)
{
    if (s->stuck != -ENOSPC || !hk_snapshots_idle(s))
        return;
    if (s->newest == HK_NO_SLOT) {
        forget(s);
        return;
    }
    s->stuck = 0;
    for (uint32_t i = 0; i < HK_SNAPSHOT_DEPTH; i++) {
        if (s->op[i].waits_for_room)
            write_run(s, &s->op[i]);
    }
    step(s);
}

static void save_failed(struct hk_snapshots *s, int error)
{
    if (s->stuck == 0 || s->stuck == -ENOSPC)
        s->stuck = error;
}

void hk_snap_save_done(struct hk_snapshots *s, struct hk_snapshot_op *o)
{
    int result = o->op.result > 0 ? -EIO : o->op.result;

    switch ((enum hk_snapshot_use)o->use) {
    case HK_USE_BEFORE_READ:
        if (result != 0) {
            s->save = HK_SAVE_REPLICA_FAILED;
            s->save_volume = o->volume;
            s->save_error = result;
        } else if (s->stuck == -ENOSPC) {
            o->waits_for_room = true;
        } else if (!s->stuck && s->save == HK_SAVE_COPYING) {
            write_run(s, o);
        }
        break;
    case HK_USE_BEFORE_WRITE:
        if (result == -ENOSPC || result == -EDQUOT) {
            o->waits_for_room = true;
            no_room(s);
        } else if (result != 0) {
            save_failed(s, result);
        }
        break;
    case HK_USE_BEFORE_FLUSH:
    case HK_USE_BIT_WRITE:
    case HK_USE_BIT_FLUSH:
        /* Room for the index was taken when it was made: no error of theirs is for want of room. */
        if (result != 0)
            save_failed(s, result == -ENOSPC ? -EIO : result);
        break;
    case HK_USE_NONE:
    case HK_USE_JOB: HK_ASSERT(!"of the saving"); break;
    }
    step(s);
}
