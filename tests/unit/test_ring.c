/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left when the producer dies. A script of ops is run; after every single step the ring's
 * bytes and the metadata are copied, a new producer is started on the copy, and it must find: the
 * ring sound; every reserved but unpublished slot a void of the same LSN and size; every published
 * but not done one to redo, in LSN order; the log to go on without a hole; and the reader to see
 * all of it. Then damage: whatever is not one of our rings is refused and left as it was.
 */
#include "tests/unit/capture_rig.h"

#include "driver-glue/client/ring_reader.h"
#include "proto/hash.h"

#include <stdio.h>

/* The log as the naive reader has it: walked by hand, header by header. */
static void check_log(const struct rig *r, const struct hk_epoch *epoch, uint64_t first_slot,
                      uint64_t first_lsn, uint64_t head)
{
    struct hk_ring_reader reader;
    struct hk_lsn produced;
    struct hk_record record, before = {0};
    uint64_t lsn = first_lsn;

    assert_int_equal(hk_ring_reader_init(&reader, r->ring, r->ring_bytes, &r->super.group_id, epoch,
                                         first_slot, first_lsn),
                     0);
    assert_int_equal(hk_ring_reader_poll(&reader, UINT32_MAX, &produced), head - first_slot);
    while (lsn < produced.v) {
        assert_int_equal(hk_ring_reader_header_at(&reader, HK_LSN(lsn), &record), 0);
        assert_int_equal(record.lsn, lsn);
        if (before.lsn) {
            assert_true(record.time_ns > before.time_ns);
            assert_int_equal(record.prev_bytes, hk_record_bytes(before.payload_len));
        }
        before = record;
        lsn += hk_record_bytes(record.payload_len);
    }
    assert_int_equal(lsn, produced.v);
}

/* Starts a successor on copies and judges what it finds. */
static void successor(const struct rig *old)
{
    struct rig r;
    struct hk_redo redo;
    struct hk_op op = rig_write(0, 0, 4096);
    const struct hk_ring_producer *p = rig_producer(old);
    const struct hk_ring_header *h = old->ring;
    const struct hk_ring_side *sides = (const void *)((uint8_t *)old->ring + h->sides_offset);
    uint64_t redone = 0, expected = 0, last_redo = 0;
    struct hk_capture_status s;

    rig_alloc(&r);
    memcpy(r.ring, old->ring, old->ring_bytes);
    memcpy(r.metadata, old->metadata, 2 * HK_SUPER_BYTES);
    r.cfg = old->cfg;
    r.now = old->now;
    r.now.real_ns -= 50 * RIG_SECOND;
    rig_read_super(&r);
    assert_int_equal(hk_ring_check(r.ring, r.ring_bytes, &r.super.group_id, &r.super), 0);
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    for (uint64_t i = p->tail; i < p->head; i++) {
        const struct hk_record *was = rig_slot(old, i), *is = rig_slot(&r, i);
        bool published = was->lsn == sides[i % RIG_SLOTS].lsn;
        bool data = was->type <= HK_REC_FLUSH;

        assert_int_equal(is->lsn, sides[i % RIG_SLOTS].lsn);
        assert_int_equal(is->payload_len, was->payload_len);
        assert_int_equal(is->type, published ? was->type : HK_REC_VOID);
        expected += published && data && !sides[i % RIG_SLOTS].done;
    }
    if (expected > 0)
        assert_false(hk_capture_serving(r.c));
    while (hk_capture_redo_next(r.c, &redo)) {
        assert_true(redo.record.lsn > last_redo);
        assert_true(hk_record_payload_ok(&redo.record, redo.payload));
        last_redo = redo.record.lsn;
        redone++;
        hk_capture_redo_done(r.c, 0, &r.now);
    }
    assert_int_equal(redone, expected);
    assert_true(hk_capture_serving(r.c));
    rig_meta(&r);
    rig_attach(&r);
    assert_true(r.lease > old->lease); /* though the clock was set back */
    s = rig_status(&r);
    check_log(&r, hk_history_last(&r.super.history), s.tail, s.tail_lsn.v, rig_producer(&r)->head);
    rig_drain(&r);
    s = rig_status(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    assert_int_equal(op.lsn.v, s.produced.v);
    rig_copy(&r, &op, 9);
    assert_int_equal(hk_capture_written(r.c, &op, 0, &r.now), HK_DONE);
    rig_drain(&r);
    assert_int_equal(rig_status(&r).slots_used, 0);
    rig_free(&r);
}

static void test_death_at_every_step(void **state)
{
    struct rig r;
    struct hk_op op[6];
    uint64_t seed = 7;
    unsigned stage[6] = {0}, deaths = 0;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    for (unsigned round = 0; round < 250; round++) {
        unsigned i = (unsigned)(unit_random(&seed) % 6);
        enum hk_step step;

        r.now.real_ns += 1000;
        switch (stage[i]) {
        case 0:
            op[i] = rig_write(0, i * (1 << 19), 512 * (1 + (uint32_t)(unit_random(&seed) % 600)));
            if (unit_random(&seed) % 4 == 0)
                op[i].type = HK_REC_ZEROES;
            if (unit_random(&seed) % 8 == 0)
                op[i] = rig_flush(1);
            step = rig_begin(&r, &op[i]);
            if (step == HK_WAIT)
                assert_true(hk_capture_cancel(r.c, &op[i]));
            else
                stage[i] = 1;
            break;
        case 1:
            rig_copy(&r, &op[i], (uint8_t)round);
            stage[i] = 2;
            break;
        default: assert_int_equal(rig_written(&r, &op[i], 0), HK_DONE); stage[i] = 0;
        }
        if (unit_random(&seed) % 8 == 0)
            rig_drain(&r);
        rig_meta(&r);
        successor(&r);
        deaths++;
    }
    printf("# %u deaths, log at LSN %llu\n", deaths, (unsigned long long)rig_status(&r).produced.v);
    rig_free(&r);
}

/* The successor dies too, at each of its redo steps: nothing is redone out of order or lost. */
static void test_death_during_redo(void **state)
{
    struct rig r;
    struct hk_op op[5];
    struct hk_redo redo;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    for (unsigned i = 0; i < 5; i++) {
        op[i] = rig_write(0, i * 8192, 4096);
        assert_int_equal(rig_begin(&r, &op[i]), HK_COPY);
        if (i != 2)
            rig_copy(&r, &op[i], (uint8_t)(i + 1));
    }
    for (unsigned i = 0; i < 5; i++) {
        if (i == 2)
            continue;
        assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
        assert_true(hk_capture_redo_next(r.c, &redo));
        assert_int_equal(redo.record.lsn, op[i].lsn.v);
        assert_int_equal(((const uint8_t *)redo.payload)[4095], i + 1);
        assert_true(hk_capture_redo_next(r.c, &redo)); /* asking twice changes nothing */
        hk_capture_redo_done(r.c, 0, &r.now);
    }
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    assert_false(hk_capture_redo_next(r.c, &redo));
    rig_free(&r);
}

static void test_redo_blocks_new_ops_and_reports_errors(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096), later = rig_write(0, 0, 4096);
    struct hk_redo redo;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    assert_int_equal(rig_begin(&r, &op), HK_COPY);
    rig_copy(&r, &op, 1);
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    rig_meta(&r);
    assert_int_equal(rig_begin(&r, &later), HK_WAIT);
    rig_expect_next(&r, NULL, 0);
    assert_true(hk_capture_redo_next(r.c, &redo));
    hk_capture_redo_done(r.c, -EIO, &r.now);
    rig_expect_next(&r, &later, HK_COPY);
    rig_meta(&r);
    assert_true(r.super.flags & HK_SF_ORIGIN_FAILED);
    assert_int_equal(rig_status(&r).state, HK_STATE_ORIGIN_FAILED);
    rig_free(&r);
}

/* Under `block` a client must not read what only this side has. */
static void test_block_serves_after_ack(void **state)
{
    struct rig r;
    struct hk_op op = rig_write(0, 0, 4096);

    rig_start(&r);
    r.cfg.on_link_loss = HK_LINK_LOSS_BLOCK;
    rig_up(&r);
    rig_drain(&r);
    assert_int_equal(rig_run(&r, &op), HK_WAIT);
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    rig_meta(&r);
    assert_false(hk_capture_serving(r.c));
    rig_attach(&r);
    assert_int_equal(rig_report(&r, op.end.v, op.end.v, op.lsn.v), 0);
    assert_false(hk_capture_serving(r.c));
    assert_int_equal(rig_report(&r, op.end.v, op.end.v, op.end.v), 0);
    assert_true(hk_capture_serving(r.c));
    rig_free(&r);
}

/* A gap record that was reserved only still opens its epoch. */
static void test_unpublished_gap_is_made_again(void **state)
{
    struct rig r;
    struct hk_uuid id = rig_uuid(5);
    struct hk_record *slot;
    const struct hk_ring_header *h;

    rig_start(&r);
    assert_int_equal(hk_history_append(&r.super.history, &id, 1 << 20, 8192, HK_EPOCH_PROMOTE, 2),
                     0);
    r.super.ceiling = 1 << 20;
    r.super.flags = 0;
    hk_super_encode(&r.super, r.metadata + HK_SUPER_BYTES);
    rig_up(&r);
    h = r.ring;
    /* As if it had died between reserving and publishing its very first record. */
    slot = (void *)((uint8_t *)r.ring + h->slots_offset);
    slot->lsn = slot->payload_hash = slot->header_hash = 0;
    ((struct hk_ring_producer *)(void *)((uint8_t *)r.ring + HK_PAGE_BYTES))->head = 1;
    ((struct hk_ring_side *)(void *)((uint8_t *)r.ring + h->sides_offset))->done = 0;
    memset((uint8_t *)r.ring + h->payload_offset, 0xee, 4096);
    assert_int_equal(rig_init(&r, HK_START_OLD_RING), 0);
    assert_int_equal(rig_slot(&r, 0)->type, HK_REC_GAP);
    assert_int_equal(
        hk_record_check_payload(rig_slot(&r, 0), (uint8_t *)r.ring + h->payload_offset),
        HK_RECORD_OK);
    rig_free(&r);
}

static void test_format_refuses(void **state)
{
    struct hk_uuid id = rig_uuid(1);
    void *ring = calloc(1, hk_ring_total_bytes(RIG_SLOTS, RIG_PAYLOAD));
    static const struct {
        uint64_t total_extra;
        uint32_t slots;
        uint64_t payload;
    } bad[] = {
        {0, 8, RIG_PAYLOAD},        {0, 17, RIG_PAYLOAD},         {0, 0, RIG_PAYLOAD},
        {0, RIG_SLOTS, 4096},       {64, RIG_SLOTS, RIG_PAYLOAD}, {0, RIG_SLOTS, RIG_PAYLOAD + 512},
        {0, 1u << 31, RIG_PAYLOAD},
    };

    for (unsigned i = 0; i < HK_ARRAY_SIZE(bad); i++) {
        uint64_t total = hk_ring_total_bytes(bad[i].slots, bad[i].payload) + bad[i].total_extra;

        assert_int_equal(hk_ring_format(ring, total, bad[i].slots, bad[i].payload, &id, &id),
                         -EINVAL);
    }
    free(ring);
}

/* One word damaged at a time. */
static void test_check_refuses(void **state)
{
    struct rig r;
    struct hk_op op[3], last;
    uint8_t *image, *before;
    struct hk_ring_producer *p;
    struct hk_record *slots;
    struct hk_ring_side *sides;
    struct hk_super super;
    const struct hk_ring_header *h;
    struct hk_uuid other = rig_uuid(77);

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    for (unsigned i = 0; i < 3; i++) {
        op[i] = rig_write(0, i * 8192, 8192);
        assert_int_equal(rig_begin(&r, &op[i]), HK_COPY);
        rig_copy(&r, &op[i], 1);
    }
    last = rig_write(1, 0, 512);
    assert_int_equal(rig_begin(&r, &last), HK_COPY);
    image = r.ring;
    before = malloc(r.ring_bytes);
    memcpy(before, image, r.ring_bytes);
    h = r.ring;
    p = (void *)(image + HK_PAGE_BYTES);
    slots = (void *)(image + h->slots_offset);
    sides = (void *)(image + h->sides_offset);
#define REFUSED(damage, with)                                                                  \
    do {                                                                                       \
        super = r.super;                                                                       \
        damage;                                                                                \
        assert_int_equal(hk_ring_check(image, r.ring_bytes, &r.super.group_id, &super), with); \
        memcpy(image, before, r.ring_bytes);                                                   \
        assert_int_equal(hk_ring_check(image, r.ring_bytes, &r.super.group_id, &r.super), 0);  \
    } while (0)
    REFUSED(image[0] ^= 1, -EUCLEAN);
    REFUSED(image[12] ^= 1, -EUCLEAN);
    REFUSED(image[60] ^= 1, -EUCLEAN);
    REFUSED(p->epoch_ordinal++, -ESTALE);
    REFUSED(p->epoch_id.b[3] ^= 1, -ESTALE);
    REFUSED(p->head += RIG_SLOTS, -EUCLEAN);
    REFUSED(p->head++, -EUCLEAN);
    REFUSED(p->tail = p->head + 1, -EUCLEAN);
    REFUSED(p->released = last.end.v + 64, -EUCLEAN);
    REFUSED(p->durable = p->acked + 64, -EUCLEAN);
    REFUSED(slots[1].offset ^= 512, -EUCLEAN);
    REFUSED(slots[2].payload_len += 64, -EUCLEAN);
    REFUSED(slots[4].magic ^= 1, -EUCLEAN);
    REFUSED(sides[2].lsn += 64, -EUCLEAN);
    REFUSED(sides[2].payload_pos += 1, -EUCLEAN);
    REFUSED(sides[3].payload_pos = 0, -EUCLEAN);
    REFUSED(sides[3].payload_pos += RIG_PAYLOAD, -EUCLEAN);
    REFUSED(sides[4].done = 1, -EUCLEAN); /* done, but never published */
    REFUSED(sides[3].done = 2, -EUCLEAN);
    REFUSED(image[h->payload_offset + sides[1].payload_pos + 5] ^= 1, -EUCLEAN);
    REFUSED(super.ceiling = op[1].end.v, -EUCLEAN);
    REFUSED(super.ring_id = other, -ESTALE);
    REFUSED((super.flags |= HK_SF_CLEAN, super.clean_lsn = last.lsn.v), -ESTALE);
    REFUSED(super.volume[0].bytes = 4096, -EUCLEAN);
#undef REFUSED
    assert_int_equal(hk_ring_check(image, r.ring_bytes, &other, &r.super), -ESTALE);
    assert_int_equal(hk_ring_check(image, r.ring_bytes - 4096, &r.super.group_id, &r.super),
                     -EUCLEAN);
    assert_int_equal(hk_ring_check(image, 4096, &r.super.group_id, &r.super), -EUCLEAN);
    free(before);
    rig_free(&r);
}

static uint64_t undone(const struct rig *r, struct hk_ring_reader *reader)
{
    return hk_ring_reader_undone(reader, rig_producer(r)->tail, rig_producer(r)->head);
}

/* Any piece of the log, gathered, is the log: compared with a copy made record by record. */
static void test_reader_gathers(void **state)
{
    struct rig r;
    struct hk_ring_reader reader;
    struct hk_lsn produced, start = HK_LSN(0);
    struct hk_mark mark = {.name = "m"};
    uint8_t *log = calloc(1, 4 << 20);
    uint64_t bytes = 0, seed = 3;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    rig_drain(&r);
    start = rig_status(&r).produced;
    assert_int_equal(hk_ring_reader_init(&reader, r.ring, r.ring_bytes, &r.super.group_id,
                                         hk_history_last(&r.super.history), rig_status(&r).tail,
                                         start.v),
                     0);
    assert_int_equal(hk_ring_reader_time_at(&reader, start), 0);
    for (unsigned i = 0; i < 10; i++) {
        struct hk_op op = rig_write(0, i * 4096, 512 * (1 + (uint32_t)(unit_random(&seed) % 100)));
        struct hk_lsn lsn, end;

        if (i == 5) {
            assert_int_equal(hk_capture_insert(r.c, r.lease, HK_REC_MARK, &mark, sizeof(mark),
                                               &r.now, &lsn, &end),
                             0);
            memcpy(log + bytes, rig_slot(&r, rig_producer(&r)->head - 1), 64);
            memcpy(log + bytes + 64, &mark, sizeof(mark));
            bytes += 192;
        }
        if (i == 7)
            op.type = HK_REC_ZEROES;
        assert_int_equal(rig_begin(&r, &op), HK_COPY);
        if (op.payload)
            unit_random_bytes(&seed, op.payload, op.length);
        assert_int_equal(undone(&r, &reader), 0); /* the origin was not asked yet */
        hk_capture_publish(r.c, &op);
        hk_capture_copied(r.c, &op);
        assert_int_equal(undone(&r, &reader), op.lsn.v);
        assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
        memcpy(log + bytes, rig_slot(&r, op.slot), 64);
        if (op.payload)
            memcpy(log + bytes + 64, op.payload, op.length);
        bytes += op.end.v - op.lsn.v;
        assert_int_equal(undone(&r, &reader), 0);
    }
    assert_int_equal(hk_ring_reader_poll(&reader, 4, &produced), 4);
    assert_int_equal(hk_ring_reader_poll(&reader, 100, &produced), 7);
    assert_int_equal(hk_ring_reader_poll(&reader, 100, &produced), 0);
    assert_int_equal(produced.v, start.v + bytes);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t from = unit_random(&seed) % bytes;
        uint32_t len = (uint32_t)(unit_random(&seed) % 20000) + 1;
        struct iovec iov[40];
        uint64_t at = from;
        int n;

        len = (uint32_t)hk_min_u64(len, bytes - from);
        n = hk_ring_reader_gather(&reader, HK_LSN(start.v + from), len, iov, 40);
        assert_true(n > 0);
        for (int k = 0; k < n; k++) {
            assert_memory_equal(iov[k].iov_base, log + at, iov[k].iov_len);
            at += iov[k].iov_len;
        }
        assert_int_equal(at - from, len);
        assert_int_equal(hk_ring_reader_gather(&reader, HK_LSN(start.v + from), len, iov, n - 1),
                         -ENOSPC);
    }
    struct iovec iov[4];
    assert_int_equal(hk_ring_reader_gather(&reader, produced, 1, iov, 4), -ERANGE);
    assert_int_equal(hk_ring_reader_gather(&reader, HK_LSN(start.v - 64), 64, iov, 4), -ERANGE);
    assert_int_equal(hk_ring_reader_gather(&reader, HK_LSN(produced.v - 64), 65, iov, 4), -ERANGE);
    assert_int_equal(hk_ring_reader_time_at(&reader, start), rig_slot(&r, 1)->time_ns);
    assert_int_equal(hk_ring_reader_time_at(&reader, HK_LSN(start.v + 64)),
                     rig_slot(&r, 1)->time_ns);
    assert_int_equal(hk_ring_reader_time_at(&reader, HK_LSN(0)), rig_slot(&r, 1)->time_ns);
    assert_int_equal(hk_ring_reader_time_at(&reader, produced), 0);
    hk_ring_reader_release(&reader, HK_LSN(rig_slot(&r, 2)->lsn + 32));
    assert_int_equal(hk_ring_reader_gather(&reader, start, 64, iov, 4), -ERANGE);
    assert_int_equal(hk_ring_reader_time_at(&reader, start), rig_slot(&r, 2)->time_ns);
    assert_int_equal(hk_ring_reader_gather(&reader, HK_LSN(rig_slot(&r, 2)->lsn), 64, iov, 4), 1);
    free(log);
    rig_free(&r);
}

/*
 * A replicator that comes anew while an old origin write drags on: it is told to begin where
 * nothing is released, for the slots before that are overwritten as soon as that write ends.
 */
static void test_reader_begins_at_what_is_kept(void **state)
{
    struct rig r;
    struct hk_ring_reader reader;
    struct hk_capture_status s;
    struct hk_op slow = rig_write(0, 0, 4096), op[RIG_SLOTS];
    struct hk_lsn produced;
    unsigned fitted;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    rig_drain(&r);
    assert_int_equal(rig_begin(&r, &slow), HK_COPY);
    rig_copy(&r, &slow, 1);
    rig_fill(&r, op, 4);
    rig_drain(&r); /* all of it is released, nothing is free */
    rig_attach(&r);
    s = rig_status(&r);
    assert_int_equal(s.slots_used, 5);
    assert_int_equal(s.tail_lsn.v, s.produced.v);
    assert_int_equal(s.tail, rig_producer(&r)->head);
    assert_int_equal(rig_written(&r, &slow, 0), HK_DONE);
    fitted = rig_fill(&r, op, RIG_SLOTS); /* over the slots that were released */
    assert_int_equal(hk_ring_reader_init(&reader, r.ring, r.ring_bytes, &r.super.group_id,
                                         hk_history_last(&r.super.history), s.tail, s.tail_lsn.v),
                     0);
    assert_true(fitted > 5);
    assert_int_equal(hk_ring_reader_poll(&reader, UINT32_MAX, &produced), fitted);
    hk_capture_cancel(r.c, &op[fitted]);
    rig_free(&r);
}

/* The reader does not believe the producer either. */
static void test_reader_distrusts(void **state)
{
    struct rig r;
    struct hk_ring_reader reader;
    struct hk_lsn produced = HK_LSN(1);
    struct hk_op op = rig_write(0, 0, 4096);
    const struct hk_epoch *epoch;
    struct hk_ring_header *h;
    struct hk_record *slot;
    struct hk_ring_side *side;
    struct hk_uuid other = rig_uuid(99);
    const uint64_t first = HK_LSN_FIRST;

    rig_start(&r);
    r.cfg.mode = HK_MODE_ASYNC;
    rig_up(&r);
    assert_int_equal(rig_run(&r, &op), HK_DONE);
    epoch = hk_history_last(&r.super.history);
    h = r.ring;
    slot = (void *)((uint8_t *)r.ring + h->slots_offset);
    side = (void *)((uint8_t *)r.ring + h->sides_offset);
#define INIT(bytes, group) hk_ring_reader_init(&reader, r.ring, bytes, group, epoch, 0, first)
    assert_int_equal(INIT(r.ring_bytes - 4096, &r.super.group_id), -EUCLEAN);
    assert_int_equal(INIT(16, &r.super.group_id), -EUCLEAN);
    assert_int_equal(INIT(r.ring_bytes, &other), -ESTALE);
    h->payload_bytes += 4096;
    h->hash = hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0);
    assert_int_equal(INIT(r.ring_bytes, &r.super.group_id), -EUCLEAN);
    h->payload_bytes -= 4096;
    h->hash = hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0);
    /* A header that is right but for a payload ring that ends within a page. */
    h->payload_bytes -= 512;
    h->total_bytes -= 512;
    h->hash = hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0);
    assert_int_equal(INIT(r.ring_bytes - 512, &r.super.group_id), -EUCLEAN);
    h->payload_bytes += 512;
    h->total_bytes += 512;
    h->hash = hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0);
    /* A header that was changed, even with everything else in place. */
    slot[1].length ^= 512;
    assert_int_equal(INIT(r.ring_bytes, &r.super.group_id), 0);
    assert_int_equal(hk_ring_reader_poll(&reader, 1, &produced), 1);
    assert_int_equal(hk_ring_reader_poll(&reader, 9, &produced), -EUCLEAN);
    slot[1].length ^= 512;
    assert_int_equal(hk_ring_reader_poll(&reader, 9, &produced), 1);
    /* A piece that reaches beyond the ring. */
    assert_int_equal(INIT(r.ring_bytes, &r.super.group_id), 0);
    side[1].payload_pos = RIG_PAYLOAD - 512;
    assert_int_equal(hk_ring_reader_poll(&reader, 9, &produced), -EUCLEAN);
#undef INIT
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_death_at_every_step),
        cmocka_unit_test(test_death_during_redo),
        cmocka_unit_test(test_redo_blocks_new_ops_and_reports_errors),
        cmocka_unit_test(test_block_serves_after_ack),
        cmocka_unit_test(test_unpublished_gap_is_made_again),
        cmocka_unit_test(test_format_refuses),
        cmocka_unit_test(test_check_refuses),
        cmocka_unit_test(test_reader_gathers),
        cmocka_unit_test(test_reader_begins_at_what_is_kept),
        cmocka_unit_test(test_reader_distrusts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
