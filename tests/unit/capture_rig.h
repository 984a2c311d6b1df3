/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A capture core on a small ring, with a metadata file of two slots in memory and a clock that
 * moves when told to. Shared by the capture and ring tests.
 */
#ifndef HK_TESTS_CAPTURE_RIG_H
#define HK_TESTS_CAPTURE_RIG_H

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver-glue/capture/capture.h"

enum { RIG_SLOTS = 16, RIG_VOLUME_BYTES = 1 << 22, RIG_MS = 1000000 };
#define RIG_SECOND (1000ull * RIG_MS)
/* T, and how long the core waits until T has passed by any clock. */
#define RIG_T        (5 * RIG_SECOND)
#define RIG_PATIENCE (RIG_T + RIG_T / HK_CLOCK_DRIFT_PART + 1)
#define RIG_PAYLOAD  ((uint64_t)HK_RING_PAYLOAD_MIN)

struct rig {
    struct hk_capture *c;
    struct hk_capture_cfg cfg;
    void *ring;
    uint64_t ring_bytes;
    struct hk_super super; /* as last read from the metadata */
    uint8_t *metadata;     /* two slots */
    struct hk_now now;
    uint64_t lease;
    unsigned meta_writes;
};

static inline struct hk_uuid rig_uuid(uint8_t tag)
{
    struct hk_uuid u;

    memset(&u, tag, sizeof(u));
    return u;
}

static inline void rig_alloc(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    r->ring_bytes = hk_ring_total_bytes(RIG_SLOTS, RIG_PAYLOAD);
    r->ring = aligned_alloc(4096, r->ring_bytes);
    r->metadata = aligned_alloc(4096, 2 * HK_SUPER_BYTES);
    r->c = aligned_alloc(4096, hk_round_up(hk_capture_bytes(), 4096));
    assert_non_null(r->ring);
    assert_non_null(r->metadata);
    assert_non_null(r->c);
    memset(r->ring, 0, r->ring_bytes);
    memset(r->metadata, 0, 2 * HK_SUPER_BYTES);
    r->now = (struct hk_now){.mono_ns = 1000 * RIG_SECOND, .real_ns = 5000 * RIG_SECOND};
}

static inline void rig_free(struct rig *r)
{
    free(r->ring);
    free(r->metadata);
    free(r->c);
}

static inline void rig_new_ring(struct rig *r, uint8_t tag)
{
    struct hk_uuid group = rig_uuid(1), id = rig_uuid(tag);

    memset(r->ring, 0, r->ring_bytes);
    assert_int_equal(hk_ring_format(r->ring, r->ring_bytes, RIG_SLOTS, RIG_PAYLOAD, &group, &id),
                     0);
}

static inline void rig_create(struct rig *r)
{
    struct hk_super_create p = {.group_id = rig_uuid(1),
                                .site_id = rig_uuid(2),
                                .replica_id = rig_uuid(3),
                                .epoch_id = rig_uuid(4),
                                .group_name = "core",
                                .time_ns = 1,
                                .volume_count = 2,
                                .assume_equal = true};

    strcpy(p.volume[0].name, "data");
    strcpy(p.volume[1].name, "wal");
    p.volume[0].bytes = p.volume[1].bytes = RIG_VOLUME_BYTES;
    assert_int_equal(hk_super_create(&p, &r->super), 0);
    hk_super_encode(&r->super, r->metadata + HK_SUPER_BYTES);
    r->cfg = (struct hk_capture_cfg){.mode = HK_MODE_SYNC,
                                     .on_link_loss = HK_LINK_LOSS_CONTINUE,
                                     .contact_timeout_ns = RIG_T,
                                     .pace_bound_ns = 30 * RIG_SECOND,
                                     .volume_count = 2,
                                     .volume_bytes = {RIG_VOLUME_BYTES, RIG_VOLUME_BYTES}};
}

/* What a restart would read. */
static inline void rig_read_super(struct rig *r)
{
    assert_int_equal(hk_super_pick(r->metadata, r->metadata + HK_SUPER_BYTES, &r->super, NULL), 0);
}

static inline int rig_init(struct rig *r, enum hk_start start)
{
    rig_read_super(r);
    r->cfg.super_in_doubt = hk_super_in_doubt(r->metadata, r->metadata + HK_SUPER_BYTES);
    return hk_capture_init(r->c, &r->cfg, r->ring, start, &r->super, &r->now);
}

static inline bool rig_meta_once(struct rig *r, int result)
{
    struct hk_capture_meta m;

    if (!hk_capture_meta(r->c, &m))
        return false;
    if (result == 0) {
        memcpy(r->metadata + m.offset, m.data, m.bytes);
        r->meta_writes++;
    }
    hk_capture_meta_done(r->c, result, &r->now);
    return true;
}

static inline void rig_meta(struct rig *r)
{
    while (rig_meta_once(r, 0))
        continue;
    rig_read_super(r);
}

static inline void rig_attach(struct rig *r)
{
    r->lease = hk_capture_attach(r->c, &r->now);
}

/* The whole start of a healthy group: metadata written, replicator attached. */
static inline void rig_start(struct rig *r)
{
    rig_alloc(r);
    rig_create(r);
    rig_new_ring(r, 9);
}

static inline void rig_up(struct rig *r)
{
    assert_int_equal(rig_init(r, HK_START_NEW_RING), 0);
    rig_meta(r);
    rig_attach(r);
}

static inline struct hk_capture_status rig_status(struct rig *r)
{
    struct hk_capture_status s;

    hk_capture_status(r->c, &s);
    return s;
}

static inline int rig_report(struct rig *r, uint64_t released, uint64_t acked, uint64_t durable)
{
    return hk_capture_report(r->c, r->lease, HK_LSN(released), HK_LSN(acked), HK_LSN(durable),
                             r->now.mono_ns, &r->now);
}

/* The standby has everything. */
static inline void rig_drain(struct rig *r)
{
    uint64_t lsn;

    hk_capture_tick(r->c, &r->now);
    lsn = rig_status(r).produced.v;
    assert_int_equal(rig_report(r, lsn, lsn, lsn), 0);
}

/* A new group that serves, and whose standby has everything. */
static inline void rig_live(struct rig *r)
{
    rig_start(r);
    rig_up(r);
    rig_drain(r);
}

static inline void rig_pass(struct rig *r, uint64_t ns)
{
    r->now.mono_ns += ns;
    r->now.real_ns += ns;
    hk_capture_tick(r->c, &r->now);
}

static inline struct hk_op rig_write(uint16_t volume, uint64_t offset, uint32_t length)
{
    return (struct hk_op){
        .type = HK_REC_WRITE, .volume = volume, .offset = offset, .length = length};
}

static inline struct hk_op rig_flush(uint16_t volume)
{
    return (struct hk_op){.type = HK_REC_FLUSH, .volume = volume};
}

static inline enum hk_step rig_begin(struct rig *r, struct hk_op *op)
{
    return hk_capture_begin(r->c, op, &r->now);
}

/* From HK_COPY to HK_SUBMIT. */
static inline void rig_copy(struct rig *r, struct hk_op *op, uint8_t fill)
{
    if (op->payload)
        memset(op->payload, fill, op->length);
    hk_capture_publish(r->c, op);
    assert_int_equal(hk_capture_copied(r->c, op), HK_SUBMIT);
}

static inline enum hk_step rig_written(struct rig *r, struct hk_op *op, int result)
{
    return hk_capture_written(r->c, op, result, &r->now);
}

/* begin, copy, write the origin; returns what written() said. */
static inline enum hk_step rig_run(struct rig *r, struct hk_op *op)
{
    assert_int_equal(rig_begin(r, op), HK_COPY);
    rig_copy(r, op, 0x5a);
    return rig_written(r, op, 0);
}

static inline void rig_expect_next(struct rig *r, struct hk_op *op, enum hk_step step)
{
    enum hk_step got = 0;

    assert_ptr_equal(hk_capture_next(r->c, &got, &r->now), op);
    if (op)
        assert_int_equal(got, step);
}

/* Small writes until the ring takes no more; how many it took. */
static inline unsigned rig_fill(struct rig *r, struct hk_op *op, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        op[i] = rig_write(1, i * 4096, 4096);
        if (rig_begin(r, &op[i]) == HK_WAIT)
            return i;
        rig_copy(r, &op[i], 1);
        rig_written(r, &op[i], 0);
    }
    return count;
}

static inline const struct hk_record *rig_slot(const struct rig *r, uint64_t index)
{
    const struct hk_ring_header *h = r->ring;
    const struct hk_record *slots = (const void *)((const uint8_t *)r->ring + h->slots_offset);

    return &slots[index & (h->slot_count - 1)];
}

static inline const struct hk_ring_producer *rig_producer(const struct rig *r)
{
    return (const void *)((const uint8_t *)r->ring + HK_PAGE_BYTES);
}

#endif
