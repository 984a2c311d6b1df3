/* SPDX-License-Identifier: Apache-2.0 */
/* The core of capture_rig.h with a dirty map over a metadata file in memory; one a program. */
#ifndef HK_TESTS_MAP_RIG_H
#define HK_TESTS_MAP_RIG_H

#include "tests/unit/capture_rig.h"

#include "proto/dmap.h"

enum { SHIFT = 16, REGION = 1 << SHIFT, REGIONS = 2 * RIG_VOLUME_BYTES / REGION };

static struct rig r;
static uint8_t buffer[64 << 10] __attribute__((unused));

/* ---- a group with a map ---- */

static inline void make_map(void)
{
    static uint8_t packed[HK_DMAP_PAGE_STATES];
    struct hk_dmap_id id = hk_dmap_id(&r.super.replica_id, &r.super.peer_replica_id);

    for (uint64_t i = 1; i <= HK_DMAP_LOG_PAGES; i++) {
        struct hk_dmap_stamp stamp = {.sequence = i, .other = 1};

        hk_dmap_log_fill(&id, &stamp, r.metadata + hk_dmap_log_offset(i));
    }
    for (uint32_t i = 0; i < hk_dmap_map_pages(REGIONS); i++) {
        struct hk_dmap_stamp stamp = {.sequence = 1, .other = HK_DMAP_LOG_PAGES};

        hk_dmap_map_build(&id, &stamp, i, packed, r.metadata + hk_dmap_map_offset(i));
    }
    r.super.dmap_sequence = HK_DMAP_LOG_PAGES;
}

static inline void create(enum hk_link_loss policy)
{
    uint64_t file = hk_dmap_file_bytes(REGIONS);

    rig_alloc(&r);
    free(r.metadata);
    r.metadata = aligned_alloc(4096, file);
    assert_non_null(r.metadata);
    memset(r.metadata, 0, file);
    rig_create(&r);
    r.super.region_shift = SHIFT;
    r.super.volume[1].first_region = RIG_VOLUME_BYTES / REGION;
    make_map();
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    r.cfg.on_link_loss = policy;
    r.cfg.region_shift = SHIFT;
    r.cfg.dirty_memory = aligned_alloc(4096, hk_round_up(hk_capture_dirty_bytes(&r.cfg), 4096));
    r.cfg.dirty_pages_bytes = file - HK_DMAP_LOG_AT;
    r.cfg.dirty_pages = aligned_alloc(4096, r.cfg.dirty_pages_bytes);
    assert_non_null(r.cfg.dirty_memory);
    rig_new_ring(&r, 9);
}

static inline void settle(void)
{
    do {
        rig_meta(&r);
        if (hk_capture_wants_flush(r.c, &r.now))
            hk_capture_origins_flushed(r.c, 0, &r.now);
        hk_capture_tick(r.c, &r.now);
    } while (rig_meta_once(&r, 0));
    rig_read_super(&r);
}

static inline int start(enum hk_start how)
{
    union {
        const void *in;
        void *out;
    } pages = {.in = r.cfg.dirty_pages};

    memcpy(pages.out, r.metadata + HK_DMAP_LOG_AT, r.cfg.dirty_pages_bytes);
    return rig_init(&r, how);
}

static inline void up(enum hk_start how)
{
    struct hk_redo redo;

    assert_int_equal(start(how), 0);
    while (hk_capture_redo_next(r.c, &redo))
        hk_capture_redo_done(r.c, 0, &r.now);
    settle();
    rig_attach(&r);
}

static inline void meet_standby(void)
{
    struct hk_uuid peer = rig_uuid(99);

    assert_int_equal(hk_capture_bind_peer(r.c, r.lease, &peer), 0);
    settle();
}

static inline void live(enum hk_link_loss policy)
{
    create(policy);
    up(HK_START_NEW_RING);
    meet_standby();
    rig_drain(&r);
    settle();
}

/* A request for a block record of volume 0, read into `buffer`. */
static inline struct hk_op a_block(uint64_t offset)
{
    return (struct hk_op){
        .type = HK_REC_BLOCK, .offset = offset, .length = sizeof(buffer), .buffer = buffer};
}

static inline int teardown(void **state)
{
    union {
        const void *in;
        void *out;
    } pages = {.in = r.cfg.dirty_pages};

    (void)state;
    free(pages.out);
    free(r.cfg.dirty_memory);
    rig_free(&r);
    return 0;
}

#endif
