/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever a crash leaves of the primary's metadata (super slots, ceiling, epoch, degraded,
 * full compare, clean), the next capture process never gives an LSN a second content, never forgets
 * that it acknowledged alone or passed writes by, and does not cry wolf after a clean stop.
 *
 * Method: all sequences of up to four events (writes, acks, silence, a full ring, contact again, a
 * clean stop, a killed process with and without its ring) for three policies, on the capture core
 * with its own reading and writing of the metadata. While each metadata write is under way, and
 * after each event, every state that a cut or a kill may leave, and either slot damaged, is taken
 * over by a new process: with the ring as it was, or without it. The truth is kept by this file:
 * what was handed out, what was acknowledged, what the standby had.
 */
#include "tests/crash/crash.h"
#include "tests/crash/disk.h"

#include "driver-glue/capture/capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 32,
    OPS = 220,
    WRITE_BYTES = 4096,
    RING_COPY = 1 << 20, /* of the ring's payload no script uses more */
    FILE_BYTES = 2 * HK_SUPER_BYTES,
    META_MAX = 200,
};
#define SECOND 1000000000ull
#define T      (5 * SECOND)

static const char alphabet[] = "WBASPCXKLE";

/* A process over a metadata file and a ring. */
struct side {
    struct cdisk *disk;
    struct hk_capture *c;
    uint8_t *ring;
    struct hk_diskop op;
    uint64_t lease;
    struct hk_op ops[OPS];
    uint32_t used;
};

static struct {
    struct hk_capture_cfg cfg;
    struct cdisk disk, img;
    struct side live, next;
    uint64_t ring_bytes;
    struct hk_now now;
    uint8_t ring_tag;
    const char *script;
    unsigned policy, event;
    /* the truth */
    uint64_t handed;  /* end of the last LSN given out */
    uint64_t acked;   /* highest end of what was acknowledged to the application */
    uint64_t standby; /* what the standby has durably */
    bool alone;       /* something was acknowledged that was not even captured */
    bool clean;       /* the clean superblock was stored, and nothing happened since */
    bool surely_full; /* full compare was stored */
    bool fail_next;   /* the next metadata write fails, and may have arrived or not */
    bool ring_known;  /* the superblock that names the ring was stored */
} w;

static struct cdisk_choices choices;

static struct hk_uuid uuid(uint8_t tag)
{
    struct hk_uuid u;

    memset(&u, tag, sizeof(u));
    return u;
}

/* --- A process --- */

static void new_ring(struct side *s)
{
    struct hk_uuid group = uuid(1), id = uuid(++w.ring_tag);

    memset(s->ring, 0, RING_COPY);
    if (w.ring_tag == 255)
        w.ring_tag = 20;
    HK_ASSERT(hk_ring_format(s->ring, w.ring_bytes, SLOTS, HK_RING_PAYLOAD_MIN, &group, &id) == 0);
}

/* As the plugin opens it: read both slots, flush, then believe. */
static int start(struct side *s, bool keep_ring, bool *ret_doubt, bool *ret_kept)
{
    static uint8_t slots[FILE_BYTES] __attribute__((aligned(4096)));
    struct hk_diskop read = {.kind = HK_DISK_READ,
                             .file = HK_FILE_PRIMARY_MD,
                             .bytes = FILE_BYTES,
                             .iov = {{slots, FILE_BYTES}},
                             .iov_count = 1};
    struct hk_diskop flush = {.kind = HK_DISK_FLUSH, .file = HK_FILE_PRIMARY_MD};
    struct hk_capture_cfg cfg = w.cfg;
    struct hk_super super;
    int rc;

    s->used = 0;
    s->disk->disk.submit(&s->disk->disk, &read);
    cdisk_step(s->disk);
    s->disk->disk.submit(&s->disk->disk, &flush);
    cdisk_step(s->disk);
    rc = hk_super_pick(slots, slots + HK_SUPER_BYTES, &super, NULL);
    if (rc)
        return rc;
    cfg.super_in_doubt = *ret_doubt = hk_super_in_doubt(slots, slots + HK_SUPER_BYTES);
    *ret_kept = keep_ring && hk_ring_check(s->ring, w.ring_bytes, &super.group_id, &super) == 0;
    if (!*ret_kept)
        new_ring(s);
    rc = hk_capture_init(s->c, &cfg, s->ring, *ret_kept ? HK_START_OLD_RING : HK_START_NEW_RING,
                         &super, &w.now);
    CRASH_CHECK(rc == 0, "the capture core refuses its own superblock: %d", rc);
    return 0;
}

static bool submit_meta(struct side *s)
{
    struct hk_capture_meta m;

    if (!hk_capture_meta(s->c, &m))
        return false;
    s->op = (struct hk_diskop){.kind = HK_DISK_WRITE_DSYNC,
                               .file = HK_FILE_PRIMARY_MD,
                               .offset = m.offset,
                               .bytes = m.bytes,
                               .iov = {{(void *)(uintptr_t)m.data, m.bytes}},
                               .iov_count = 1};
    s->disk->disk.submit(&s->disk->disk, &s->op);
    return true;
}

static void finish_meta(struct side *s)
{
    struct hk_diskop *op = cdisk_step(s->disk);

    HK_ASSERT(op == &s->op);
    hk_capture_meta_done(s->c, op->result, &w.now);
}

/* What a cut at this moment leaves for sure. */
static const struct hk_super *durable_super(const struct side *s)
{
    static uint8_t slots[FILE_BYTES] __attribute__((aligned(4096)));
    static struct hk_super super;

    memcpy(slots, s->disk->file[0].dur, FILE_BYTES);
    CRASH_CHECK(hk_super_pick(slots, slots + HK_SUPER_BYTES, &super, NULL) == 0,
                "no superblock is durable");
    return &super;
}

static uint64_t durable_flags(const struct side *s)
{
    return durable_super(s)->flags;
}

static void redo(struct side *s)
{
    struct hk_redo r;

    while (hk_capture_redo_next(s->c, &r))
        hk_capture_redo_done(s->c, 0, &w.now);
}

static void completed(const struct hk_op *op)
{
    if (op->type == HK_REC_FLUSH)
        return;
    if (!op->captured)
        w.alone = true;
    else
        w.acked = hk_max_u64(w.acked, op->end.v);
}

static void take(struct side *s, struct hk_op *op, enum hk_step step, bool live)
{
    for (;;) {
        switch (step) {
        case HK_WAIT: return;
        case HK_COPY:
            if (live) {
                CRASH_CHECK(op->lsn.v >= w.handed, "LSN %llu was handed out before, up to %llu",
                            ULL(op->lsn.v), ULL(w.handed));
                CRASH_CHECK(op->end.v <= durable_super(s)->ceiling,
                            "LSN %llu is handed out, and the durable ceiling is %llu",
                            ULL(op->lsn.v), ULL(durable_super(s)->ceiling));
                w.handed = op->end.v;
            }
            memset(op->payload, 7, op->length);
            hk_capture_publish(s->c, op);
            step = hk_capture_copied(s->c, op);
            break;
        case HK_SUBMIT: step = hk_capture_written(s->c, op, 0, &w.now); break;
        case HK_DONE:
            if (live)
                completed(op);
            return;
        case HK_FAIL:
        case HK_META:
        case HK_READ: return;
        }
    }
}

static struct hk_op *begin_write(struct side *s, bool live)
{
    struct hk_op *op = &s->ops[s->used++];

    HK_ASSERT(s->used <= OPS);
    *op = (struct hk_op){
        .type = HK_REC_WRITE, .volume = 0, .offset = (s->used % 3) * 2048, .length = WRITE_BYTES};
    take(s, op, hk_capture_begin(s->c, op, &w.now), live);
    return op;
}

static void next_ops(struct side *s, bool live)
{
    enum hk_step step;
    struct hk_op *op;

    while ((op = hk_capture_next(s->c, &step, &w.now)))
        take(s, op, step, live);
}

/* --- Taking over --- */

static void copy_ring(void)
{
    memcpy(w.next.ring, w.live.ring, RING_COPY);
}

/* A standby that has everything and a replicator that says so. */
static void attend(struct side *s)
{
    struct hk_capture_status st;

    hk_capture_tick(s->c, &w.now);
    hk_capture_status(s->c, &st);
    HK_ASSERT(hk_capture_report(s->c, s->lease, st.produced, st.produced, st.produced,
                                w.now.mono_ns, &w.now) == 0);
}

static void pump(struct side *s)
{
    for (int i = 0; i < META_MAX; i++) {
        next_ops(s, false);
        if (!submit_meta(s))
            return;
        finish_meta(s);
    }
    CRASH_CHECK(false, "metadata is written without end");
}

/*
 * The next process on img. `damaged`: a slot was, so doubt is right; else it was a crash alone.
 */
static void take_over(bool keep_ring, bool damaged)
{
    struct side *s = &w.next;
    struct hk_capture_status st;
    struct hk_op *op;
    bool doubt = false, kept = false, unreplicated, block;
    struct hk_now then = w.now;
    int rc;

    if (keep_ring)
        copy_ring();
    rc = start(s, keep_ring, &doubt, &kept);
    if (rc) {
        CRASH_CHECK(damaged, "a crash left no superblock: %d", rc);
        return;
    }
    CRASH_CHECK(!keep_ring || kept || damaged || !w.ring_known,
                "the ring that survived is not believed");
    unreplicated = w.acked > w.standby || w.alone;
    block = w.cfg.on_link_loss == HK_LINK_LOSS_BLOCK;
    redo(s);
    pump(s);
    hk_capture_status(s->c, &st);
    CRASH_CHECK(!unreplicated || !st.in_sync, "in sync, and the standby lacks what was said");
    if (unreplicated && w.cfg.mode != HK_MODE_ASYNC)
        CRASH_CHECK(durable_flags(s) & (HK_SF_DEGRADED | HK_SF_FULL_COMPARE),
                    "what was acknowledged alone is forgotten");
    if (w.alone || w.surely_full)
        CRASH_CHECK(durable_flags(s) & HK_SF_FULL_COMPARE, "full compare required is forgotten");
    if (!kept && w.handed && !w.clean)
        CRASH_CHECK((durable_flags(s) & HK_SF_FULL_COMPARE) || st.barred ||
                        (st.produced.v >= w.handed && w.standby >= w.handed),
                    "the ring is lost with LSNs up to %llu, and nobody minds", ULL(w.handed));
    if (w.clean && !damaged && !w.surely_full)
        CRASH_CHECK(!(durable_flags(s) & HK_SF_FULL_COMPARE), "a full compare after a clean stop");
    /* It is allowed to go on: what would it hand out? */
    s->lease = hk_capture_attach(s->c, &w.now);
    attend(s);
    pump(s);
    w.now.mono_ns += 2 * T;
    w.now.real_ns += 2 * T;
    attend(s);
    pump(s);
    op = begin_write(s, false);
    pump(s);
    if (op->captured)
        CRASH_CHECK(op->lsn.v >= w.handed, "LSN %llu has a second content: handed out to %llu",
                    ULL(op->lsn.v), ULL(w.handed));
    else
        CRASH_CHECK(block || !op->result, "a write failed: %d", op->result);
    hk_capture_status(s->c, &st);
    if (st.uncaptured)
        CRASH_CHECK(durable_flags(s) & HK_SF_FULL_COMPARE, "a write passes by, unmarked");
    w.now = then;
}

static void photograph(void)
{
    cdisk_photograph(&w.img, &w.disk);
    w.next.disk = &w.img;
}

static void say(const char *what, uint64_t n, bool kept)
{
    crash_case(w.script, w.policy, w.event, n);
    crash_case_more(kept, (uint64_t)(unsigned char)*what);
}

/* Every state that a cut leaves, without the ring; both that a kill leaves, with it and without. */
static void look(void)
{
    uint64_t states;

    cdisk_collect(&w.disk, &choices);
    states = cdisk_states(&choices);
    HK_ASSERT(states <= 1 << 12);
    photograph();
    for (uint64_t n = 0; n < states; n++) {
        say("cut", n, false);
        cdisk_lay(&w.img, &choices, n);
        take_over(false, false);
        cdisk_reset(&w.img);
    }
    for (uint64_t mask = 0; mask < (w.disk.pending_count ? 2 : 1); mask++) {
        for (unsigned kept = 0; kept < 2; kept++) {
            say("kill", mask, kept);
            cdisk_die(&w.img, &w.disk, mask);
            take_over(kept, false);
            cdisk_reset(&w.img);
        }
    }
    for (unsigned slot = 0; slot < 2; slot++) {
        for (unsigned kept = 0; kept < 2; kept++) {
            say("damage", slot, kept);
            cdisk_flip(&w.img, HK_FILE_PRIMARY_MD, slot * HK_SUPER_BYTES + 200, 4);
            take_over(kept, true);
            cdisk_reset(&w.img);
        }
    }
}

/* --- The script --- */

static void pass(uint64_t ns)
{
    w.now.mono_ns += ns;
    w.now.real_ns += ns;
    hk_capture_tick(w.live.c, &w.now);
}

/* EIO: all, some or nothing of it has reached the disk, and its cache holds it still. */
static void fail_meta(void)
{
    w.live.op.kind = HK_DISK_WRITE;
    HK_ASSERT(cdisk_step(&w.disk) == &w.live.op);
    hk_capture_meta_done(w.live.c, -EIO, &w.now);
}

static void settle(void)
{
    for (int i = 0; i < META_MAX; i++) {
        next_ops(&w.live, true);
        if (!submit_meta(&w.live)) {
            look();
            return;
        }
        look();
        if (w.fail_next) {
            w.fail_next = false;
            fail_meta();
            pass(SECOND);
            continue;
        }
        finish_meta(&w.live);
        w.ring_known = true;
        w.surely_full |= (durable_flags(&w.live) & HK_SF_FULL_COMPARE) != 0;
        w.clean = (durable_flags(&w.live) & HK_SF_CLEAN) != 0;
    }
    CRASH_CHECK(false, "metadata is written without end");
}

static void ack(void)
{
    struct hk_capture_status st;

    hk_capture_tick(w.live.c, &w.now);
    hk_capture_status(w.live.c, &st);
    w.standby = hk_max_u64(w.standby, st.produced.v);
    HK_ASSERT(hk_capture_report(w.live.c, w.live.lease, st.produced, st.produced, st.produced,
                                w.now.mono_ns, &w.now) == 0);
}

static void life(bool keep_ring)
{
    bool doubt, kept;

    w.clean = false;
    w.ring_known = keep_ring;
    HK_ASSERT(start(&w.live, keep_ring, &doubt, &kept) == 0);
    CRASH_CHECK(!doubt && kept == keep_ring, "a whole file is doubted");
    redo(&w.live);
    settle();
    w.live.lease = hk_capture_attach(w.live.c, &w.now);
    settle();
}

static void stop(void)
{
    ack();
    settle();
    hk_capture_stop(w.live.c, &w.now);
    settle();
    hk_capture_origins_flushed(w.live.c, 0, &w.now);
    settle();
    if (!hk_capture_stop(w.live.c, &w.now))
        pass(2 * T);
    hk_capture_stop(w.live.c, &w.now);
    settle();
}

static void event(char e)
{
    switch (e) {
    case 'W': begin_write(&w.live, true); break;
    case 'B':
        /* More than a step of the ceiling, and its write takes long. */
        for (int i = 0; i < 20; i++) {
            begin_write(&w.live, true);
            if (w.disk.pending_count == 0)
                submit_meta(&w.live);
        }
        if (w.disk.pending_count > 0) {
            look();
            finish_meta(&w.live);
        }
        break;
    case 'A': ack(); break;
    case 'S': pass(T + SECOND); break;
    case 'P':
        for (int i = 0; i < SLOTS + 2; i++)
            begin_write(&w.live, true);
        settle();
        pass(T + SECOND);
        settle();
        pass(40 * SECOND);
        break;
    case 'C':
        ack();
        settle();
        pass(SECOND / 10);
        ack();
        settle();
        ack();
        break;
    case 'X':
        stop();
        life(!(durable_flags(&w.live) & HK_SF_CLEAN));
        return;
    case 'E': w.fail_next = true; return;
    case 'K': life(true); return;
    case 'L': life(false); return;
    }
    settle();
}

static void create(void)
{
    struct hk_super_create p = {.group_id = uuid(1),
                                .site_id = uuid(2),
                                .replica_id = uuid(3),
                                .epoch_id = uuid(4),
                                .group_name = "core",
                                .time_ns = 1,
                                .volume_count = 1,
                                .volume[0] = {.name = "data", .bytes = 1 << 20},
                                .assume_equal = true};
    static uint8_t slots[FILE_BYTES] __attribute__((aligned(4096)));
    static struct hk_super super;

    memset(slots, 0, sizeof(slots));
    HK_ASSERT(hk_super_create(&p, &super) == 0);
    hk_super_encode(&super, slots + (super.sequence & 1) * HK_SUPER_BYTES);
    cdisk_poke(&w.disk, HK_FILE_PRIMARY_MD, 0, slots, FILE_BYTES);
}

static void run(const char *script, unsigned policy)
{
    static const struct {
        enum hk_mode mode;
        enum hk_link_loss loss;
    } policies[] = {{HK_MODE_SYNC, HK_LINK_LOSS_CONTINUE},
                    {HK_MODE_SYNC, HK_LINK_LOSS_BLOCK},
                    {HK_MODE_ASYNC, HK_LINK_LOSS_CONTINUE}};

    w.cfg = (struct hk_capture_cfg){.mode = policies[policy].mode,
                                    .on_link_loss = policies[policy].loss,
                                    .contact_timeout_ns = T,
                                    .pace_bound_ns = 30 * SECOND,
                                    .volume_count = 1,
                                    .volume_bytes = {1 << 20},
                                    .ceiling_step_bytes = 64 << 10};
    w.now = (struct hk_now){.mono_ns = 1000 * SECOND, .real_ns = 5000 * SECOND};
    w.script = script;
    w.policy = policy;
    w.event = 0;
    w.handed = w.acked = w.standby = 0;
    w.alone = w.clean = w.surely_full = w.fail_next = false;
    w.disk.pending_count = w.disk.loose_count = 0;
    create();
    life(false);
    for (w.event = 1; script[w.event - 1]; w.event++)
        event(script[w.event - 1]);
}

static void all_scripts(unsigned length, uint64_t stride)
{
    char script[8] = {0};
    unsigned at[8] = {0};
    uint64_t n = 0;

    for (;;) {
        unsigned i;

        for (i = 0; i < length; i++)
            script[i] = alphabet[at[i]];
        for (unsigned policy = 0; policy < 3; policy++) {
            if (n++ % stride == 0)
                run(script, policy);
        }
        for (i = 0; i < length && ++at[i] == sizeof(alphabet) - 1; i++)
            at[i] = 0;
        if (i == length)
            return;
    }
}

static void prepare(struct side *s)
{
    s->ring = aligned_alloc(HK_PAGE_BYTES, hk_round_up(w.ring_bytes, HK_PAGE_BYTES));
    s->c = aligned_alloc(HK_PAGE_BYTES, hk_round_up(hk_capture_bytes(), HK_PAGE_BYTES));
    HK_ASSERT(s->ring && s->c);
    memset(s->ring, 0, w.ring_bytes);
}

int main(int argc, char **argv)
{
    crash_arguments(argc, argv);
    cdisk_choices_init(&choices);
    cdisk_init(&w.disk);
    w.disk.cached = true;
    cdisk_add(&w.disk, HK_FILE_PRIMARY_MD, FILE_BYTES);
    w.ring_bytes = hk_ring_total_bytes(SLOTS, HK_RING_PAYLOAD_MIN);
    w.ring_tag = 20;
    prepare(&w.live);
    prepare(&w.next);
    w.live.disk = &w.disk;
    if (crash_wanted("capture_scripts")) {
        crash_begin("capture_scripts");
        all_scripts(1, 1);
        all_scripts(2, crash_stride(7));
        all_scripts(3, crash_stride(149));
        if (crash_full())
            all_scripts(4, 41);
        crash_end();
    }
    cdisk_free(&w.disk);
    cdisk_free(&w.img);
    free(w.live.ring);
    free(w.live.c);
    free(w.next.ring);
    free(w.next.c);
    cdisk_choices_free(&choices);
    return crash_finish();
}
