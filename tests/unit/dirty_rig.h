/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capture rig with a dirty map: 128 regions of 64 KiB in two volumes, 64 of them hot at most,
 * and a metadata file that an independent reader can be asked about.
 */
#ifndef HK_TESTS_DIRTY_RIG_H
#define HK_TESTS_DIRTY_RIG_H

#include "proto/dmap.h"
#include "tests/unit/capture_rig.h"

enum { DIRTY_SHIFT = 16, DIRTY_BYTES = 1 << DIRTY_SHIFT, DIRTY_HOT = 64 };
enum { DIRTY_REGIONS = 2 * (RIG_VOLUME_BYTES >> DIRTY_SHIFT) };

static inline struct hk_dmap_id dirty_id(const struct rig *r)
{
    return hk_dmap_id(&r->super.replica_id, &r->super.peer_replica_id);
}

/* As `hikae create-md` does. */
static inline void dirty_format(struct rig *r)
{
    struct hk_dmap_stamp s = {.sequence = 0};
    struct hk_dmap_id id = dirty_id(r);
    uint8_t packed[HK_DMAP_PAGE_STATES] = {0};

    for (s.sequence = 1; s.sequence <= HK_DMAP_LOG_PAGES; s.sequence++)
        hk_dmap_log_fill(&id, &s, r->metadata + hk_dmap_log_offset(s.sequence));
    s = (struct hk_dmap_stamp){.sequence = 1, .other = HK_DMAP_LOG_PAGES};
    hk_dmap_map_build(&id, &s, 0, packed, r->metadata + hk_dmap_map_offset(0));
}

static inline void dirty_create(struct rig *r)
{
    struct hk_super_create p = {.group_id = rig_uuid(1),
                                .site_id = rig_uuid(2),
                                .replica_id = rig_uuid(3),
                                .epoch_id = rig_uuid(4),
                                .group_name = "core",
                                .time_ns = 1,
                                .volume_count = 2,
                                .region_shift = DIRTY_SHIFT,
                                .assume_equal = true};
    uint64_t bytes = hk_dmap_file_bytes(DIRTY_REGIONS);

    rig_start(r);
    free(r->metadata);
    r->metadata = aligned_alloc(4096, bytes);
    assert_non_null(r->metadata);
    memset(r->metadata, 0, bytes);
    strcpy(p.volume[0].name, "data");
    strcpy(p.volume[1].name, "wal");
    p.volume[0].bytes = p.volume[1].bytes = RIG_VOLUME_BYTES;
    assert_int_equal(hk_super_create(&p, &r->super), 0);
    hk_super_encode(&r->super, r->metadata + HK_SUPER_BYTES);
    dirty_format(r);
    r->cfg.mode = HK_MODE_ASYNC;
    r->cfg.region_shift = DIRTY_SHIFT;
    r->cfg.hot_regions_max = DIRTY_HOT;
    r->cfg.dirty_pages_bytes = bytes - HK_DMAP_LOG_AT;
    r->cfg.dirty_memory = aligned_alloc(4096, hk_round_up(hk_capture_dirty_bytes(&r->cfg), 4096));
    assert_non_null(r->cfg.dirty_memory);
}

static inline void dirty_free(struct rig *r)
{
    free(r->cfg.dirty_memory);
    rig_free(r);
}

static inline int dirty_init(struct rig *r, enum hk_start start)
{
    r->cfg.dirty_pages = r->metadata + HK_DMAP_LOG_AT;
    return rig_init(r, start);
}

static inline void dirty_up(struct rig *r, enum hk_start start)
{
    assert_int_equal(dirty_init(r, start), 0);
    rig_meta(r);
    rig_attach(r);
}

/* A group that serves, and whose standby has everything. */
static inline void dirty_live(struct rig *r)
{
    dirty_create(r);
    dirty_up(r, HK_START_NEW_RING);
    rig_drain(r);
    rig_meta(r);
}

/* What a start after a power cut would find now. */
struct dirty_seen {
    struct hk_dmap_load load;
    uint8_t packed[HK_DMAP_PAGE_STATES];
    enum hk_dmap_verdict verdict;
    struct hk_super super;
};

static inline void dirty_look(const struct rig *r, struct dirty_seen *ret)
{
    struct hk_dmap_id id;

    assert_int_equal(hk_super_pick(r->metadata, r->metadata + HK_SUPER_BYTES, &ret->super, NULL),
                     0);
    id = hk_dmap_id(&ret->super.replica_id, &ret->super.peer_replica_id);
    hk_dmap_load_log(r->metadata + HK_DMAP_LOG_AT, &id, ret->super.dmap_sequence, &ret->load);
    hk_dmap_load_map(r->metadata + HK_DMAP_MAP_AT, &id, 0, &ret->load, ret->packed);
    ret->verdict = hk_dmap_load_end(&ret->load);
}

static inline bool dirty_seen_hot(const struct dirty_seen *s, uint32_t region)
{
    for (uint32_t i = 0; i < HK_DMAP_SLOTS; i++) {
        if (s->load.slot[i] && hk_dmap_entry_region(s->load.slot[i]) == region)
            return true;
    }
    return false;
}

static inline bool dirty_seen_stale(const struct dirty_seen *s, uint32_t region)
{
    return hk_dmap_is_lost(s->verdict) || (s->super.flags & HK_SF_FULL_COMPARE) ||
           hk_dmap_state_get(s->packed, region) == HK_DMAP_STALE;
}

static inline uint32_t dirty_region(uint16_t volume, uint64_t offset)
{
    return volume * (DIRTY_REGIONS / 2) + (uint32_t)(offset >> DIRTY_SHIFT);
}

/* I1: is the region marked, or stale, in what is durable? */
static inline bool dirty_marked(const struct rig *r, uint16_t volume, uint64_t offset)
{
    struct dirty_seen s;

    dirty_look(r, &s);
    return dirty_seen_stale(&s, dirty_region(volume, offset)) ||
           dirty_seen_hot(&s, dirty_region(volume, offset));
}

static inline struct hk_op dirty_write(uint16_t volume, uint32_t region)
{
    return rig_write(volume, (uint64_t)region << DIRTY_SHIFT, 4096);
}

/* One write from begin to its end, with whatever metadata it needs. */
static inline void dirty_run(struct rig *r, struct hk_op *op)
{
    enum hk_step step = rig_begin(r, op);

    if (step == HK_WAIT) {
        rig_meta(r);
        rig_expect_next(r, op, HK_COPY);
    } else {
        assert_int_equal(step, HK_COPY);
    }
    rig_copy(r, op, 0x5a);
    assert_true(dirty_marked(r, op->volume, op->offset));
    assert_int_equal(rig_written(r, op, 0), HK_DONE);
}

/* The replicator has read it all; the standby has it up to `durable`. */
static inline void dirty_read_to(struct rig *r, uint64_t durable)
{
    uint64_t lsn;

    hk_capture_tick(r->c, &r->now);
    lsn = rig_status(r).produced.v;
    assert_int_equal(rig_report(r, lsn, lsn, durable), 0);
}

/* If the core wants its origins flushed: done. */
static inline bool dirty_flush(struct rig *r, int result)
{
    if (!hk_capture_wants_flush(r->c, &r->now))
        return false;
    hk_capture_origins_flushed(r->c, result, &r->now);
    return true;
}

#endif
