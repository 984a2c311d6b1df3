/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of stories about epochs on the core of map_rig.h. */
#ifndef HK_TESTS_MAP_STEPS_H
#define HK_TESTS_MAP_STEPS_H

#include "tests/unit/map_rig.h"

/* Until it is at the origin; false: it waits for something else than metadata. */
static inline bool submit(struct hk_op *op)
{
    enum hk_step step = rig_begin(&r, op);

    for (int i = 0; step == HK_WAIT && i < 20; i++) {
        struct hk_op *other;

        settle();
        other = hk_capture_next(r.c, &step, &r.now);
        if (!other)
            step = HK_WAIT;
        else
            assert_ptr_equal(other, op);
    }
    if (step == HK_WAIT)
        return false;
    if (step == HK_COPY)
        rig_copy(&r, op, 0x5a);
    else
        assert_int_equal(step, HK_SUBMIT);
    return true;
}

static inline void run(struct hk_op *op)
{
    assert_true(submit(op));
    assert_int_not_equal(rig_written(&r, op, 0), HK_FAIL);
}

static inline void drain(void)
{
    struct hk_op *op;
    enum hk_step step;

    for (int i = 0; i < 4; i++) {
        rig_drain(&r);
        while ((op = hk_capture_next(r.c, &step, &r.now)))
            assert_int_equal(step, HK_DONE);
        settle();
    }
}

static inline struct hk_record newest(unsigned back)
{
    return *rig_slot(&r, rig_producer(&r)->head - 1 - back);
}

static inline const struct hk_epoch *epoch_now(void)
{
    return hk_history_last(&r.super.history);
}

static inline void offer(uint8_t tag)
{
    struct hk_uuid id = rig_uuid(tag);

    assert_true(hk_capture_wants_epoch(r.c));
    assert_int_equal(hk_capture_offer_epoch(r.c, &id), 0);
}

static inline int go_back(uint64_t at)
{
    return hk_capture_return(r.c, r.lease, HK_LSN(at), &r.now);
}

#endif
