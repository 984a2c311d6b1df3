/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new capture process over the ring an old one left behind. Input: mode byte, then damage
 * (ring_base.h). Mode bits 0 to 2 change the superblock that goes with it.
 *
 * Oracle: the ring is refused, or everything that follows works: redo hands out only what lies
 * within the ring and on a volume, in LSN order, all of the log can be read and released, new
 * records are taken, the ring is sound for the next successor. Without damage it is not refused.
 */
#include "fuzz.h"

#include "tests/fuzz/ring_base.h"

HK_FUZZ_LARGE_MEMORY

static struct ring_base base;

static void redo_all(struct rig *r)
{
    const struct hk_ring_header *h = (const void *)base.bytes;
    const uint8_t *payload = base.bytes + h->payload_offset, *at;
    struct hk_redo redo;
    uint64_t lsn = 0;

    while (hk_capture_redo_next(r->c, &redo)) {
        HK_ASSERT(!hk_capture_serving(r->c));
        HK_ASSERT(redo.record.lsn > lsn);
        lsn = redo.record.lsn;
        HK_ASSERT(redo.record.type == HK_REC_FLUSH || redo.record.volume < 2);
        if (redo.record.type != HK_REC_FLUSH)
            HK_ASSERT(redo.record.offset + redo.record.length <= RIG_VOLUME_BYTES);
        if (redo.payload) {
            at = redo.payload;
            HK_ASSERT(at >= payload && at + redo.record.payload_len <= payload + h->payload_bytes);
            HK_ASSERT(hk_record_payload_ok(&redo.record, redo.payload));
        }
        hk_capture_redo_done(r->c, 0, &r->now);
    }
}

static void settle(struct rig *r)
{
    struct hk_capture_meta m;
    enum hk_step step;

    for (unsigned i = 0; i < 50; i++) {
        while (hk_capture_next(r->c, &step, &r->now))
            HK_ASSERT(step == HK_DONE || step == HK_FAIL);
        if (!hk_capture_meta(r->c, &m))
            return;
        HK_ASSERT(hk_super_decode(m.data, &r->super) == HK_SUPER_OK);
        hk_capture_meta_done(r->c, 0, &r->now);
    }
    HK_ASSERT(!"metadata comes to rest");
}

static void report_all(struct rig *r)
{
    struct hk_capture_status st = rig_status(r);

    HK_ASSERT(hk_capture_report(r->c, r->lease, st.produced, st.produced, st.produced,
                                r->now.mono_ns, &r->now) == 0);
    settle(r);
}

/* It works like any other: one record of each kind goes through. */
static void go_on(struct rig *r)
{
    struct hk_op op;
    enum hk_step step;

    for (unsigned i = 0; i < 40; i++) {
        op = rig_write(1, 4096 * i, i % 8 ? 4096 : 1 << 19);
        step = hk_capture_begin(r->c, &op, &r->now);
        HK_ASSERT(step == HK_COPY || step == HK_SUBMIT || step == HK_WAIT);
        if (step == HK_WAIT) {
            HK_ASSERT(hk_capture_cancel(r->c, &op));
        } else {
            if (step == HK_COPY)
                rig_copy(r, &op, 1);
            step = hk_capture_written(r->c, &op, 0, &r->now);
            HK_ASSERT(step == HK_DONE || step == HK_WAIT);
            if (step == HK_WAIT && !rig_status(r).passing)
                report_all(r);
        }
        rig_pass(r, 50 * (uint64_t)RIG_MS);
        report_all(r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script s = {data, data + size};
    struct hk_uuid group = rig_uuid(1);
    static struct rig r;
    bool sound = true;
    uint8_t mode = script_u8(&s);
    int rc;

    if (!base.size) {
        ring_base_make(&base);
        rig_alloc(&r);
        rig_create(&r);
    }
    ring_base_restore(&base);
    r.super = base.super;
    r.now = (struct hk_now){.mono_ns = 3000 * RIG_SECOND, .real_ns = 9000 * RIG_SECOND};
    if (mode & 1)
        r.super.flags |= HK_SF_CLEAN, r.super.clean_lsn = HK_LSN_FIRST;
    if (mode & 2)
        r.super.flags |= HK_SF_DEGRADED;
    r.cfg.super_in_doubt = mode & 4;
    while (script_left(&s) && base.touched_count < 200) {
        ring_base_damage(&base, &s);
        sound = false;
    }
    rc = hk_ring_check(base.bytes, base.size, &group, &r.super);
    HK_ASSERT(rc == 0 || rc == -EUCLEAN || rc == -ESTALE);
    HK_ASSERT(rc == 0 || !sound || (mode & 1));
    if (rc)
        return 0;
    /* From here on it writes anywhere. */
    for (uint32_t page = 0; page < 4; page++)
        ring_base_touch(&base, 4096ull * page);
    rc = hk_capture_init(r.c, &r.cfg, base.bytes, HK_START_OLD_RING, &r.super, &r.now);
    HK_ASSERT(rc == 0);
    redo_all(&r);
    settle(&r);
    r.lease = hk_capture_attach(r.c, &r.now);
    report_all(&r);
    if (!rig_status(&r).passing && !rig_status(&r).barred)
        go_on(&r);
    settle(&r);
    HK_ASSERT(hk_ring_check(base.bytes, base.size, &group, &r.super) == 0);
    memcpy(base.bytes, base.sound, base.size);
    return 0;
}
