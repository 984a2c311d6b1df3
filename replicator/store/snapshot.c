/* SPDX-License-Identifier: Apache-2.0 */
/* What snapshots there are: found at the start, made, loaded. */
#include "replicator/store/snapshot.h"

#include "proto/bug.h"
#include "proto/hash.h"
#include "replicator/store/snapshot_internal.h"

#include <errno.h>

HK_STATIC_ASSERT(HK_FILE_SNAPSHOT0 + HK_SNAPSHOTS_MAX * HK_FILES_A_SNAPSHOT <= HK_FILE_SEGMENT0,
                 "file numbers do not overlap");
HK_STATIC_ASSERT(HK_FILE_VOLUME0 + HK_VOLUMES_MAX <= HK_FILE_SNAPSHOT0, "nor do these");

enum { PAGES = 3, LOAD_BYTES = 1 << 20 };

/* Steps of the jobs here. */
enum { START_FLUSH = 0, START_READ, START_CLEAN };
enum { MAKE_PUNCH = 0, MAKE_WRITE, MAKE_FLUSH, MAKE_HEADER };

static uint64_t pages_of_all(const struct hk_snapshots_cfg *cfg)
{
    uint64_t pages = 0;

    for (uint32_t v = 0; v < cfg->volume_count; v++)
        pages += hk_snap_pages(cfg->volume_bytes[v]);
    return pages;
}

size_t hk_snapshots_memory(const struct hk_snapshots_cfg *cfg)
{
    uint64_t pages = pages_of_all(cfg);

    if (cfg->slot_count == 0)
        return 0;
    return (pages + PAGES + 1) * HK_PAGE_BYTES + (pages / 64 + 1) * sizeof(uint64_t) + 64 +
           (size_t)(HK_SNAPSHOT_DEPTH + 1) * HK_SNAPSHOT_RUN_BYTES + HK_PAGE_BYTES;
}

int hk_snapshots_init(struct hk_snapshots *s, const struct hk_snapshots_cfg *cfg,
                      struct hk_arena *arena)
{
    uint8_t *buffers;

    if (!cfg->disk || cfg->slot_count > HK_SNAPSHOTS_MAX || cfg->volume_count > HK_VOLUMES_MAX)
        return -EINVAL;
    __builtin_memset(s, 0, sizeof(*s));
    s->cfg = *cfg;
    s->newest = s->run = HK_NO_SLOT;
    if (cfg->slot_count == 0)
        return 0;
    for (uint32_t v = 0; v < cfg->volume_count; v++) {
        s->page0[v] = s->page_count;
        s->page_count += hk_snap_pages(cfg->volume_bytes[v]);
    }
    s->image = hk_arena_take(arena, s->page_count * HK_PAGE_BYTES, HK_PAGE_BYTES);
    s->page = hk_arena_take(arena, PAGES * HK_PAGE_BYTES, HK_PAGE_BYTES);
    s->dirty = hk_arena_take(arena, (s->page_count / 64 + 1) * sizeof(uint64_t), 64);
    buffers = hk_arena_take(arena, (size_t)(HK_SNAPSHOT_DEPTH + 1) * HK_SNAPSHOT_RUN_BYTES,
                            HK_PAGE_BYTES);
    if (!s->image || !s->page || !s->dirty || !buffers)
        return -ENOMEM;
    for (uint32_t i = 0; i <= HK_SNAPSHOT_DEPTH; i++)
        s->op[i].buffer = buffers + (size_t)i * HK_SNAPSHOT_RUN_BYTES;
    return 0;
}

/* ---- operations ---- */

struct hk_snapshot_op *hk_snap_take_op(struct hk_snapshots *s)
{
    for (uint32_t i = 0; i < HK_SNAPSHOT_DEPTH; i++) {
        if (!s->op[i].busy && !s->op[i].waits_for_room && i != s->run)
            return &s->op[i];
    }
    return NULL;
}

void hk_snap_submit(struct hk_snapshots *s, struct hk_snapshot_op *o, enum hk_snapshot_use use,
                    enum hk_disk_kind kind, uint32_t file, uint64_t offset, uint64_t bytes,
                    void *buffer)
{
    HK_ASSERT(!o->busy && use != HK_USE_NONE);
    o->op = (struct hk_diskop){.kind = kind,
                               .file = file,
                               .offset = offset,
                               .bytes = bytes,
                               .owner = HK_OWNER_SNAPSHOT,
                               .tag = (uint32_t)(o - s->op)};
    if (buffer) {
        o->op.iov[0] = (struct hk_iovec){.base = buffer, .bytes = bytes};
        o->op.iov_count = 1;
    }
    o->use = (uint8_t)use;
    o->busy = true;
    o->waits_for_room = false;
    if (use == HK_USE_JOB)
        s->busy_job++;
    else
        s->busy_save++;
    s->cfg.disk->submit(s->cfg.disk, &o->op);
}

void hk_snap_job_io(struct hk_snapshots *s, enum hk_disk_kind kind, uint32_t file, uint64_t offset,
                    uint64_t bytes, void *buffer)
{
    hk_snap_submit(s, &s->op[HK_SNAPSHOT_DEPTH], HK_USE_JOB, kind, file, offset, bytes, buffer);
}

void hk_snap_job_ends(struct hk_snapshots *s, int result)
{
    HK_ASSERT(s->busy_job == 0 && s->job != HK_SNAPSHOTS_IDLE);
    s->job = HK_SNAPSHOTS_IDLE;
    s->result = result;
    if (s->stuck == -ENOSPC)
        hk_snap_end_oldest(s);
}

bool hk_snapshots_idle(const struct hk_snapshots *s)
{
    return s->job == HK_SNAPSHOTS_IDLE;
}

bool hk_snapshots_quiet(const struct hk_snapshots *s)
{
    return s->busy_job == 0 && s->busy_save == 0;
}

/* ---- places ---- */

struct hk_snap_place hk_snap_place(const struct hk_snapshots *s, uint32_t id, uint64_t page)
{
    uint32_t v = 0;

    while (v + 1 < s->cfg.volume_count && page >= s->page0[v + 1])
        v++;
    return (struct hk_snap_place){.id = id,
                                  .volume = v,
                                  .page = page - s->page0[v],
                                  .volume_bytes = s->cfg.volume_bytes[v],
                                  .replica_id = s->known.replica_id};
}

uint64_t hk_snap_page_of(const struct hk_snapshots *s, uint32_t volume, uint64_t chunk)
{
    return s->page0[volume] + hk_snap_sector_of(chunk) / HK_SNAP_PAGE_SECTORS;
}

struct hk_snap_sector *hk_snap_image_sector(const struct hk_snapshots *s, uint32_t volume,
                                            uint64_t chunk)
{
    uint8_t *pages = s->image + s->page0[volume] * HK_PAGE_BYTES;

    return (struct hk_snap_sector *)(void *)(pages +
                                             hk_snap_sector_of(chunk) * HK_SNAP_SECTOR_BYTES);
}

bool hk_snap_kept(const struct hk_snapshots *s, uint32_t volume, uint64_t chunk)
{
    return hk_snap_bit(hk_snap_image_sector(s, volume, chunk), chunk);
}

static bool in_chain(const struct hk_snapshot *x)
{
    return x->state == HK_SNAPSHOT_LIVE || x->state == HK_SNAPSHOT_DYING;
}

uint32_t hk_snap_newest(const struct hk_snapshots *s)
{
    uint32_t best = HK_NO_SLOT;

    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (in_chain(&s->slot[i]) &&
            (best == HK_NO_SLOT || s->slot[i].header.id > s->slot[best].header.id))
            best = i;
    }
    return best;
}

uint32_t hk_snap_newer(const struct hk_snapshots *s, uint32_t slot)
{
    uint32_t best = HK_NO_SLOT, id = s->slot[slot].header.id;

    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (in_chain(&s->slot[i]) && s->slot[i].header.id > id &&
            (best == HK_NO_SLOT || s->slot[i].header.id < s->slot[best].header.id))
            best = i;
    }
    return best;
}

uint32_t hk_snap_older(const struct hk_snapshots *s, uint32_t slot)
{
    uint32_t best = HK_NO_SLOT, id = s->slot[slot].header.id;

    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (in_chain(&s->slot[i]) && s->slot[i].header.id < id &&
            (best == HK_NO_SLOT || s->slot[i].header.id > s->slot[best].header.id))
            best = i;
    }
    return best;
}

int hk_snapshots_find(const struct hk_snapshots *s, uint32_t id)
{
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (s->slot[i].state != HK_SNAPSHOT_FREE && s->slot[i].header.id == id)
            return (int)i;
    }
    return -ENOENT;
}

static bool is_pin(const struct hk_snapshots *s, const struct hk_snap_header *h)
{
    return s->known.pinned && h->kind == HK_SNAP_PIN && h->lsn == s->known.pin_lsn &&
           h->epoch_ordinal == s->known.pin_ordinal;
}

int hk_snapshots_pin(const struct hk_snapshots *s)
{
    bool broken = false;

    if (!s->known.pinned)
        return -ENOENT;
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (in_chain(&s->slot[i]) && is_pin(s, &s->slot[i].header))
            return (int)i;
        broken = broken || s->slot[i].state == HK_SNAPSHOT_BROKEN;
    }
    return broken ? -EUCLEAN : -ENOENT;
}

/* It gives nothing any more, nor do those that are read through it. */
void hk_snap_broken(struct hk_snapshots *s, uint32_t slot, enum hk_snap_fault fault, int error)
{
    struct hk_snapshot *x = &s->slot[slot];

    x->state = HK_SNAPSHOT_BROKEN;
    x->fault = fault;
    x->error = error;
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        struct hk_snapshot *o = &s->slot[i];

        if (!in_chain(o) || is_pin(s, &o->header))
            continue;
        if (x->header.id == 0 || o->header.id < x->header.id) {
            o->state = HK_SNAPSHOT_BROKEN;
            o->fault = fault;
            o->error = error;
        }
    }
}

/* ---- loading an index into the image ---- */

static void load_next(struct hk_snapshots *s)
{
    uint64_t left = (s->page_count - s->j.at) * HK_PAGE_BYTES;

    s->j.run = hk_min_u64(left, LOAD_BYTES) / HK_PAGE_BYTES;
    hk_snap_job_io(s, HK_DISK_READ, hk_snap_index_file(s->j.slot), (1 + s->j.at) * HK_PAGE_BYTES,
                   s->j.run * HK_PAGE_BYTES, s->image + s->j.at * HK_PAGE_BYTES);
}

/* The oldest first, so that the image ends up as the newest's. */
static void load_slot(struct hk_snapshots *s, uint32_t slot)
{
    s->job = HK_SNAPSHOTS_LOADING;
    s->newest = HK_NO_SLOT;
    s->j.slot = slot;
    s->j.at = 0;
    s->slot[slot].chunks = 0;
    load_next(s);
}

static void loaded(struct hk_snapshots *s, uint32_t slot)
{
    uint32_t next;

    s->newest = s->slot[slot].state == HK_SNAPSHOT_BROKEN ? HK_NO_SLOT : slot;
    next = hk_snap_newer(s, slot);
    if (next != HK_NO_SLOT) {
        load_slot(s, next);
        return;
    }
    if (s->newest == HK_NO_SLOT && hk_snap_newest(s) != HK_NO_SLOT) {
        /* Only a pin can be left when something newer broke, and nothing is newer than a pin. */
        load_slot(s, hk_snap_newest(s));
        return;
    }
    if (s->j.then)
        hk_snap_rollback_loaded(s, s->j.result);
    else
        hk_snap_job_ends(s, s->j.result);
}

static void load_step(struct hk_snapshots *s, int result)
{
    struct hk_snapshot *x = &s->slot[s->j.slot];

    if (result != 0) {
        hk_snap_broken(s, s->j.slot, HK_SNAP_OK, result);
        loaded(s, s->j.slot);
        return;
    }
    for (uint64_t i = 0; i < s->j.run; i++) {
        struct hk_snap_place p = hk_snap_place(s, x->header.id, s->j.at + i);
        uint32_t chunks = 0;
        enum hk_snap_fault fault =
            hk_snap_page_check(&p, s->image + (s->j.at + i) * HK_PAGE_BYTES, &chunks);

        if (fault != HK_SNAP_OK && !HK_BUG(snapshot_damage_ignored)) {
            hk_snap_broken(s, s->j.slot, fault, -EUCLEAN);
            loaded(s, s->j.slot);
            return;
        }
        x->chunks += chunks;
    }
    s->j.at += s->j.run;
    if (s->j.at < s->page_count)
        load_next(s);
    else
        loaded(s, s->j.slot);
}

void hk_snap_begin_load(struct hk_snapshots *s, int result)
{
    uint32_t oldest = hk_snap_newest(s);

    s->j.result = result;
    s->j.then = 0;
    s->newest = HK_NO_SLOT;
    if (oldest == HK_NO_SLOT) {
        hk_snap_job_ends(s, result);
        return;
    }
    /* In the course of things only the newest has changed; at the start each is looked at. */
    while (!s->j.loaded && hk_snap_older(s, oldest) != HK_NO_SLOT)
        oldest = hk_snap_older(s, oldest);
    s->j.loaded = true;
    load_slot(s, oldest);
}

/* ---- the start ---- */

/*
 * What a process before wrote may still be in a cache: it counts only when it is durable, or a
 * power cut could take back a bit that was relied on, or bring back what has ended.
 */
static void look_at_slot(struct hk_snapshots *s)
{
    s->j.step = HK_BUG(snapshot_trusts_cache) ? START_READ : START_FLUSH;
    if (s->j.step == START_FLUSH)
        hk_snap_job_io(s, HK_DISK_FLUSH, hk_snap_index_file(s->j.slot), 0, 0, NULL);
    else
        hk_snap_job_io(s, HK_DISK_READ, hk_snap_index_file(s->j.slot), 0, HK_PAGE_BYTES, s->page);
}

void hk_snapshots_start(struct hk_snapshots *s, const struct hk_snapshots_known *known)
{
    HK_ASSERT(s->job == HK_SNAPSHOTS_IDLE && s->newest == HK_NO_SLOT);
    s->known = *known;
    if (s->cfg.slot_count == 0)
        return;
    s->job = HK_SNAPSHOTS_STARTING;
    s->j.slot = 0;
    look_at_slot(s);
}

static uint64_t volumes_hash(const struct hk_snapshots *s)
{
    return hk_xxh64(s->cfg.volume_bytes, s->cfg.volume_count * sizeof(s->cfg.volume_bytes[0]), 0);
}

static enum hk_snap_fault judge_header(const struct hk_snapshots *s, const struct hk_snap_header *h)
{
    enum hk_snap_fault fault = hk_snap_header_check(h);

    if (fault != HK_SNAP_OK)
        return fault;
    if (!hk_uuid_equal(&h->group_id, &s->cfg.group_id) ||
        !hk_uuid_equal(&h->replica_id, &s->known.replica_id) ||
        h->volume_count != s->cfg.volume_count || h->volumes_hash != volumes_hash(s))
        return HK_SNAP_BAD_PLACE;
    return HK_SNAP_OK;
}

/*
 * Made in a life that did not come to the superblock's write: it never counted. A pin that is none
 * any more goes as well, but not before it gave to older ones what they read through it.
 */
static bool counts(struct hk_snapshots *s, uint32_t slot)
{
    struct hk_snapshot *x = &s->slot[slot];

    if (x->header.id >= s->known.next)
        return false;
    if (x->header.kind != HK_SNAP_PIN || is_pin(s, &x->header))
        return true;
    x->state = HK_SNAPSHOT_DYING;
    return hk_snap_older(s, slot) != HK_NO_SLOT;
}

static void header_read(struct hk_snapshots *s, int result)
{
    struct hk_snapshot *x = &s->slot[s->j.slot];
    const struct hk_snap_header *h = (const void *)s->page;
    enum hk_snap_fault fault = result ? HK_SNAP_OK : judge_header(s, h);

    *x = (struct hk_snapshot){.state = HK_SNAPSHOT_FREE};
    if (result == 0 && fault == HK_SNAP_NONE)
        return;
    if (result != 0 || fault != HK_SNAP_OK) {
        x->state = HK_SNAPSHOT_BROKEN;
        x->fault = fault;
        x->error = result ? result : -EUCLEAN;
        return;
    }
    x->header = *h;
    x->state = h->dying ? HK_SNAPSHOT_DYING : HK_SNAPSHOT_LIVE;
}

/* Gives back what does not count, one after the other; then the indexes are read. */
static void clean(struct hk_snapshots *s)
{
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (!in_chain(&s->slot[i]) || counts(s, i))
            continue;
        s->j.slot = i;
        s->j.volume = 0;
        s->slot[i].state = HK_SNAPSHOT_FREE;
        __builtin_memset(s->page, 0, HK_PAGE_BYTES);
        hk_snap_job_io(s, HK_DISK_WRITE_DSYNC, hk_snap_index_file(i), 0, HK_PAGE_BYTES, s->page);
        return;
    }
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (s->slot[i].state == HK_SNAPSHOT_BROKEN)
            hk_snap_broken(s, i, s->slot[i].fault, s->slot[i].error);
    }
    hk_snap_begin_load(s, 0);
}

static void start_step(struct hk_snapshots *s, int result)
{
    if (s->j.step == START_FLUSH && result == 0) {
        s->j.step = START_READ;
        hk_snap_job_io(s, HK_DISK_READ, hk_snap_index_file(s->j.slot), 0, HK_PAGE_BYTES, s->page);
        return;
    }
    if (s->j.step != START_CLEAN) {
        header_read(s, result);
        if (++s->j.slot < s->cfg.slot_count) {
            look_at_slot(s);
            return;
        }
        s->j.step = START_CLEAN;
    } else if (result != 0) {
        s->slot[s->j.slot].state = HK_SNAPSHOT_BROKEN;
        s->slot[s->j.slot].error = result;
    } else if (s->j.volume < s->cfg.volume_count) {
        uint32_t v = s->j.volume++;

        hk_snap_job_io(s, HK_DISK_PUNCH, hk_snap_data_file(s->j.slot, v), 0,
                       hk_snap_file_bytes(s, v), NULL);
        return;
    }
    clean(s);
}

/* ---- making one ---- */

static uint32_t choose_slot(const struct hk_snapshots *s)
{
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (s->slot[i].state == HK_SNAPSHOT_FREE)
            return i;
    }
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (s->slot[i].state == HK_SNAPSHOT_BROKEN && s->slot[i].leases == 0)
            return i;
    }
    return HK_NO_SLOT;
}

int hk_snapshots_make(struct hk_snapshots *s, const struct hk_snapshot_ask *ask)
{
    uint32_t slot = choose_slot(s);

    if (s->job != HK_SNAPSHOTS_IDLE || s->save != HK_SAVE_NONE)
        return -EBUSY;
    if (slot == HK_NO_SLOT)
        return -ENOSPC;
    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (s->slot[i].state != HK_SNAPSHOT_FREE && s->slot[i].header.id >= ask->id)
            return -EEXIST;
    }
    s->slot[slot] = (struct hk_snapshot){.state = HK_SNAPSHOT_FREE};
    s->job = HK_SNAPSHOTS_MAKING;
    s->newest = HK_NO_SLOT;
    s->j.ask = *ask;
    s->j.slot = slot;
    s->j.step = MAKE_PUNCH;
    s->j.volume = 1;
    hk_snap_job_io(s, HK_DISK_PUNCH, hk_snap_data_file(slot, 0), 0, hk_snap_file_bytes(s, 0), NULL);
    return 0;
}

static void make_pages(struct hk_snapshots *s)
{
    for (uint64_t i = 0; i < s->page_count; i++) {
        struct hk_snap_place p = hk_snap_place(s, s->j.ask.id, i);

        hk_snap_page_make(&p, s->image + i * HK_PAGE_BYTES);
    }
}

static void make_write(struct hk_snapshots *s)
{
    uint64_t left = (s->page_count - s->j.at) * HK_PAGE_BYTES;

    s->j.run = hk_min_u64(left, LOAD_BYTES) / HK_PAGE_BYTES;
    hk_snap_job_io(s, HK_DISK_WRITE, hk_snap_index_file(s->j.slot), (1 + s->j.at) * HK_PAGE_BYTES,
                   s->j.run * HK_PAGE_BYTES, s->image + s->j.at * HK_PAGE_BYTES);
    s->j.at += s->j.run;
}

static void make_header(struct hk_snapshots *s)
{
    struct hk_snap_header *h = (void *)s->page;

    __builtin_memset(s->page, 0, HK_PAGE_BYTES);
    h->kind = s->j.ask.kind;
    h->id = s->j.ask.id;
    h->epoch_ordinal = s->j.ask.epoch_ordinal;
    h->lsn = s->j.ask.lsn;
    h->time_ns = s->j.ask.time_ns;
    h->group_id = s->cfg.group_id;
    h->replica_id = s->known.replica_id;
    if (s->j.ask.kind == HK_SNAP_MARK)
        __builtin_memcpy(h->name, s->j.ask.name, HK_NAME_BYTES);
    h->volume_count = s->cfg.volume_count;
    h->volumes_hash = volumes_hash(s);
    hk_snap_header_seal(h);
    s->slot[s->j.slot].header = *h;
    hk_snap_job_io(s, HK_DISK_WRITE_DSYNC, hk_snap_index_file(s->j.slot), 0, HK_PAGE_BYTES,
                   s->page);
}

static void make_step(struct hk_snapshots *s, int result)
{
    if (result != 0) {
        hk_snap_begin_load(s, result);
        return;
    }
    switch (s->j.step) {
    case MAKE_PUNCH:
        if (s->j.volume < s->cfg.volume_count) {
            uint32_t v = s->j.volume++;

            hk_snap_job_io(s, HK_DISK_PUNCH, hk_snap_data_file(s->j.slot, v), 0,
                           hk_snap_file_bytes(s, v), NULL);
            return;
        }
        make_pages(s);
        s->j.at = 0;
        s->j.step = MAKE_WRITE;
        make_write(s);
        return;
    case MAKE_WRITE:
        if (s->j.at < s->page_count) {
            make_write(s);
            return;
        }
        s->j.step = MAKE_FLUSH;
        hk_snap_job_io(s, HK_DISK_FLUSH, hk_snap_index_file(s->j.slot), 0, 0, NULL);
        return;
    case MAKE_FLUSH:
        s->j.step = MAKE_HEADER;
        make_header(s);
        return;
    }
    s->slot[s->j.slot].state = HK_SNAPSHOT_LIVE;
    s->newest = s->j.slot;
    s->j.loaded = true;
    hk_snap_job_ends(s, 0);
}

void hk_snapshots_pinned(struct hk_snapshots *s, uint64_t lsn, uint32_t ordinal, uint32_t next)
{
    s->known.pinned = true;
    s->known.pin_lsn = lsn;
    s->known.pin_ordinal = ordinal;
    s->known.next = next;
}

void hk_snapshots_unpinned(struct hk_snapshots *s)
{
    s->known.pinned = false;
}

/* ---- completions ---- */

static void job_done(struct hk_snapshots *s, struct hk_snapshot_op *o, int result)
{
    switch (s->job) {
    case HK_SNAPSHOTS_IDLE: HK_ASSERT(!"an operation of no job"); return;
    case HK_SNAPSHOTS_STARTING: start_step(s, result); return;
    case HK_SNAPSHOTS_MAKING: make_step(s, result); return;
    case HK_SNAPSHOTS_LOADING: load_step(s, result); return;
    case HK_SNAPSHOTS_DROPPING: hk_snap_drop_step(s, o, result); return;
    case HK_SNAPSHOTS_ROLLING_BACK: hk_snap_rollback_step(s, o, result); return;
    case HK_SNAPSHOTS_READING: hk_snap_read_step(s, o, result); return;
    }
}

void hk_snapshots_disk_done(struct hk_snapshots *s, struct hk_diskop *op)
{
    struct hk_snapshot_op *o = &s->op[op->tag];

    HK_ASSERT(op->owner == HK_OWNER_SNAPSHOT && op->tag <= HK_SNAPSHOT_DEPTH);
    HK_ASSERT(op == &o->op && o->busy);
    o->busy = false;
    if (o->use == HK_USE_JOB) {
        HK_ASSERT(s->busy_job > 0);
        s->busy_job--;
        job_done(s, o, op->result > 0 ? -EIO : op->result);
        return;
    }
    HK_ASSERT(s->busy_save > 0);
    s->busy_save--;
    hk_snap_save_done(s, o);
}

/* ---- space ---- */

uint64_t hk_snapshots_used(const struct hk_snapshots *s)
{
    uint64_t chunks = 0;

    for (uint32_t i = 0; i < s->cfg.slot_count; i++) {
        if (in_chain(&s->slot[i]))
            chunks += s->slot[i].chunks;
    }
    return chunks * HK_SNAP_CHUNK_BYTES;
}

uint64_t hk_snapshots_room(const struct hk_snapshots *s)
{
    uint64_t used = hk_snapshots_used(s);

    if (s->cfg.slot_count == 0)
        return 0;
    if (s->cfg.space_bytes == 0)
        return UINT64_MAX;
    return s->cfg.space_bytes > used ? s->cfg.space_bytes - used : 0;
}

uint64_t hk_snapshots_rollback_bytes(const struct hk_snapshots *s)
{
    int slot = hk_snapshots_pin(s);

    return slot < 0 ? 0 : s->slot[slot].chunks * HK_SNAP_CHUNK_BYTES;
}
