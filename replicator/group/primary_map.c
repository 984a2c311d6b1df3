/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty map that a promotion leaves to this site's capture side, behind the superblock that is
 * written after it: an empty activity log, and every region stale, since there is no other copy yet
 * that anything could be relative to. That covers whatever differs between the promoted state and
 * the most that any site ever had (SPEC.md §6.14). One write is under way at a time; when it is cut
 * off it is begun anew, because without a superblock none of it counts.
 */
#include "proto/dmap.h"
#include "replicator/group/private.h"

#include <errno.h>

enum { CHUNK_PAGES = HK_GROUP_MAP_BYTES / HK_DMAP_PAGE_BYTES };

/* As of the position that it is promoted at. */
static uint64_t volume_bytes(const struct hk_group *g, uint32_t i)
{
    return hk_standby_super(g)->volume[i].bytes;
}

static uint32_t pages_of(const struct hk_group *g)
{
    uint64_t regions = 0;

    for (uint32_t i = 0; i < g->cfg.volume_count; i++)
        regions += hk_dmap_regions(volume_bytes(g, i), g->cfg.region_shift);
    return HK_DMAP_LOG_PAGES + hk_dmap_map_pages(regions);
}

/* Page `at` of log and map as they follow one another in the file. */
static void build(const struct hk_group *g, const struct hk_dmap_id *id, uint32_t at, uint8_t *page)
{
    struct hk_dmap_stamp stamp = {.sequence = at ? at : HK_DMAP_LOG_PAGES};
    uint8_t packed[HK_DMAP_PAGE_STATES] = {0};
    uint64_t left = 0, place = at - HK_DMAP_LOG_PAGES;

    if (at < HK_DMAP_LOG_PAGES) {
        hk_dmap_log_fill(id, &stamp, page);
        return;
    }
    for (uint32_t i = 0; i < g->cfg.volume_count; i++)
        left += hk_dmap_regions(volume_bytes(g, i), g->cfg.region_shift);
    left = hk_min_u64(left - place * HK_DMAP_PAGE_REGIONS, HK_DMAP_PAGE_REGIONS);
    for (uint64_t r = 0; r < left; r++)
        hk_dmap_state_set(packed, r, HK_DMAP_STALE);
    stamp.sequence = place + 1;
    hk_dmap_map_build(id, &stamp, (uint32_t)place, packed, page);
}

static void submit(struct hk_group *g, enum hk_disk_kind kind, uint64_t offset, uint64_t bytes)
{
    struct hk_map_write *m = &g->standby->map_write;

    m->op = (struct hk_diskop){.kind = kind,
                               .file = HK_FILE_PRIMARY_MD,
                               .offset = offset,
                               .bytes = bytes,
                               .iov = {{m->buffer, bytes}},
                               .iov_count = bytes ? 1 : 0,
                               .owner = HK_OWNER_GROUP};
    m->busy = true;
    g->cfg.disk->submit(g->cfg.disk, &m->op);
}

/* 0: all of it is stable; -EINPROGRESS. */
int hk_primary_map_step(struct hk_group *g, const struct hk_super *md)
{
    struct hk_map_write *m = &g->standby->map_write;
    struct hk_dmap_id id = hk_dmap_id(&md->replica_id, &md->peer_replica_id);
    uint32_t pages = pages_of(g), n = 0;

    if (m->busy || g->failed)
        return -EINPROGRESS;
    if (m->flushed)
        return 0;
    if (m->page == pages) {
        submit(g, HK_DISK_FLUSH, 0, 0);
        return -EINPROGRESS;
    }
    for (; n < CHUNK_PAGES && m->page + n < pages; n++)
        build(g, &id, m->page + n, m->buffer + n * HK_DMAP_PAGE_BYTES);
    submit(g, HK_DISK_WRITE, HK_DMAP_LOG_AT + (uint64_t)m->page * HK_DMAP_PAGE_BYTES,
           (uint64_t)n * HK_DMAP_PAGE_BYTES);
    return -EINPROGRESS;
}

void hk_primary_map_done(struct hk_group *g, const struct hk_diskop *op)
{
    struct hk_map_write *m = &g->standby->map_write;

    HK_ASSERT(m->busy && op == &m->op);
    m->busy = false;
    if (op->result != 0) {
        hk_group_notify(g, HK_NOTE_SUPER_FAILED, (uint64_t)(int64_t)op->result, HK_FILE_PRIMARY_MD,
                        0, NULL);
        hk_group_fatal(g, HK_NOTE_SUPER_FAILED, op->result);
    } else if (op->kind == HK_DISK_FLUSH) {
        m->flushed = true;
    } else {
        m->page += (uint32_t)(op->bytes / HK_DMAP_PAGE_BYTES);
    }
}
