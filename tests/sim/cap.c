/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capture process: what the NBD plugin does around the capture core, with every step an event
 * of its own so that a kill can fall between any two. The ring is memory that outlives the process
 * and is lost with the node; the metadata and the origins are disks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/dmap.h"
#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

struct hk_ring_producer *cap_producer(struct sim *s)
{
    return (void *)(s->cap.ring + HK_PAGE_BYTES);
}

static struct hk_ring_header *ring_header(struct sim *s)
{
    return (void *)s->cap.ring;
}

struct hk_record *cap_slot(struct sim *s, uint64_t index)
{
    struct hk_ring_header *h = ring_header(s);

    return (struct hk_record *)(void *)(s->cap.ring + h->slots_offset) +
           (index & (h->slot_count - 1));
}

struct hk_ring_side *cap_side(struct sim *s, uint64_t index)
{
    struct hk_ring_header *h = ring_header(s);

    return (struct hk_ring_side *)(void *)(s->cap.ring + h->sides_offset) +
           (index & (h->slot_count - 1));
}

uint8_t *cap_payload(struct sim *s, uint64_t pos)
{
    struct hk_ring_header *h = ring_header(s);

    return s->cap.ring + h->payload_offset + pos % h->payload_bytes;
}

static void cap_timer(struct sim *s, uint64_t a, void *p);

static uint64_t cpu(struct sim *s)
{
    return rng_below(&s->rng, 20 * NS_US);
}

/* ---- metadata ---- */

static void meta_written(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 0);

    s->cap.meta_busy = false;
    ref_epoch_look(s);
    sim_trace(s, "meta written, result %lld", (uint64_t)(int64_t)io->result, 0, 0);
    hk_capture_meta_done(s->cap.c, io->result, &now);
    s->cap.state_dirty = true;
    cap_pump(s);
}

static void start_meta(struct sim *s)
{
    struct hk_capture_meta m;
    struct hk_iovec iov;

    if (s->cap.meta_busy || !hk_capture_meta(s->cap.c, &m))
        return;
    s->cap.meta_busy = true;
    iov = (struct hk_iovec){(void *)(uintptr_t)m.data, m.bytes};
    sim_io_submit(s, &s->cap.proc, &s->md, HK_DISK_WRITE_DSYNC, m.offset, m.bytes, &iov, 1,
                  meta_written, NULL, 0);
}

/* ---- the pump: what every call may have set free ---- */

/* The superblock changes rarely, and is large: who is told the same gets the same copy. */
static const struct hk_super *super_to_tell(struct sim *s)
{
    const struct hk_super *super = &s->cap.status.super;

    if (!s->cap.told_super || memcmp(s->cap.told_super, super, sizeof(*super)) != 0) {
        s->cap.told_super = sim_alloc(s, sizeof(*super));
        *s->cap.told_super = *super;
    }
    return s->cap.told_super;
}

static void tell_way_back(const struct hk_capture_status *st, struct ipc_msg *m)
{
    m->in_sync = st->in_sync;
    m->closed = st->closed;
    m->stale_bytes = st->stale_bytes;
    m->tail = st->tail;
    m->tail_lsn = st->tail_lsn;
    m->epoch = hk_history_last(&st->super.history)->ordinal;
}

/*
 * I8: with on-overflow = block no write is let by because there is no room. Cut: the log ended for
 * another reason (lost ring, damaged copy, a standby that stands elsewhere).
 */
static void judge_overflow(struct sim *s, bool passed)
{
    const struct hk_capture_status *st = &s->cap.status;

    SIM_CHECK(s, "I8",
              s->o.overflow != HK_OVERFLOW_BLOCK || passed || !st->passing || s->cap.cut ||
                  st->copies_lost,
              "writes pass by uncaptured for want of room (%u wait), though on-overflow = block",
              st->waiting);
    if (!st->closed && !st->passing)
        s->cap.cut = false;
}

static void tell_state(struct sim *s)
{
    struct hk_capture_status *st = &s->cap.status;
    bool passed = st->passing;
    struct ipc_msg m = {0};

    hk_capture_status(s->cap.c, st);
    judge_overflow(s, passed);
    s->cap.state_dirty = false;
    s->cap.told_ns = s->now;
    s->cap.last_state = cap_producer(s)->state;
    m.conn = s->cap.conn;
    m.lease = s->cap.lease;
    m.state = st->state;
    m.released = st->released;
    m.acked = st->acked;
    m.durable = st->durable;
    m.produced = st->produced;
    tell_way_back(st, &m);
    m.super = super_to_tell(s);
    fifo_push(s, &s->c2r, rng_around(&s->rng, s->o.ipc_ns), &s->rep.proc, rep_ipc, IPC_STATE, &m,
              sizeof(m));
}

static void set_timer(struct sim *s)
{
    uint64_t at = hk_capture_deadline_ns(s->cap.c), coarse = s->now + s->o.contact_ns / 4;

    at = at == UINT64_MAX ? coarse : clk_wake_at(s, 0, at);
    if (at > coarse)
        at = coarse;
    if (at <= s->now)
        at = s->now + 1;
    clk_set_timer(s, &s->cap.proc, at, cap_timer);
}

static void cap_timer(struct sim *s, uint64_t a, void *p)
{
    struct hk_now now = sim_clock(s, 0);

    (void)p;
    if (!clk_timer_is_due(&s->cap.proc, a))
        return;
    hk_capture_tick(s->cap.c, &now);
    if (s->cap.sink && s->now - s->cap.told_ns > s->o.contact_ns / 4)
        s->cap.state_dirty = true;
    cap_pump(s);
}

void cap_pump(struct sim *s)
{
    struct hk_now now = sim_clock(s, 0);
    struct hk_op *op;
    enum hk_step step;
    uint32_t guard = 0, life = s->cap.proc.life;

    ref_scan(s);
    while ((op = hk_capture_next(s->cap.c, &step, &now))) {
        SIM_CHECK(s, "I16", ++guard < 10000, "capture hands out ops without end");
        ref_scan(s);
        cap_step(s, op->cookie, step);
        if (s->cap.proc.life != life)
            return;
    }
    start_meta(s);
    grow_seen(s);
    resync_pump(s);
    if (s->cap.sink && (s->cap.state_dirty || cap_producer(s)->state != s->cap.last_state))
        tell_state(s);
    set_timer(s);
    oper_maybe_die(s, &s->cap.proc);
}

/* ---- one op ---- */

static void wake_reader(struct sim *s)
{
    if (s->cap.wake_pending || !s->rep.proc.up || !s->rep.attached)
        return;
    s->cap.wake_pending = true;
    sim_at(s, s->now + rng_around(&s->rng, s->o.ipc_ns / 2), NULL, rep_wake, 0, NULL);
}

static void origin_done(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 0);
    struct sim_op *op = io->ctx;
    enum hk_step step;

    /* FUA of something that is no plain write: flush behind it. */
    if (io->result == 0 && (op->op.flags & HK_REC_FUA) && io->kind == HK_DISK_PUNCH) {
        sim_io_submit(s, &s->cap.proc, io->file, HK_DISK_FLUSH, 0, 0, NULL, 0, origin_done, op, 0);
        return;
    }
    op->in_origin = false;
    if (io->result)
        s->origin_suspect = s->origin_failed = true;
    check_origin_written(s, op, io->result);
    step = hk_capture_written(s->cap.c, &op->op, io->result, &now);
    ref_scan(s);
    cap_step(s, op, step);
    cap_pump(s);
}

static void submit_origin(struct sim *s, struct sim_op *op)
{
    struct sim_file *f = &s->origin[op->op.volume];
    struct hk_iovec iov;
    enum hk_disk_kind kind = HK_DISK_WRITE;

    check_origin_submit(s, op);
    op->in_origin = true;
    if (op->op.type == HK_REC_FLUSH) {
        sim_io_submit(s, &s->cap.proc, f, HK_DISK_FLUSH, 0, 0, NULL, 0, origin_done, op, 0);
        return;
    }
    if (op->op.type != HK_REC_WRITE) {
        sim_io_submit(s, &s->cap.proc, f, HK_DISK_PUNCH, op->op.offset, op->op.length, NULL, 0,
                      origin_done, op, 0);
        return;
    }
    if (op->op.flags & HK_REC_FUA)
        kind = HK_DISK_WRITE_DSYNC;
    iov.base = op->op.payload;
    iov.bytes = op->op.length;
    if (!op->op.payload) {
        op_fill(op, op->data);
        iov.base = op->data;
    }
    sim_io_submit(s, &s->cap.proc, f, kind, op->op.offset, op->op.length, &iov, 1, origin_done, op,
                  0);
}

static void op_copied(struct sim *s, uint64_t a, void *p)
{
    struct sim_op *op = p;
    enum hk_step step;

    (void)a;
    step = hk_capture_copied(s->cap.c, &op->op);
    cap_step(s, op, step);
    cap_pump(s);
}

static void op_copy(struct sim *s, uint64_t a, void *p)
{
    struct sim_op *op = p;
    struct hk_record *slot = cap_slot(s, op->op.slot);
    uint64_t old_lsn = slot->lsn;

    (void)a;
    if (op->op.payload) {
        if (!s->forked)
            check_payload_free(s, op);
        if (op->op.type == HK_REC_BLOCK)
            memcpy(op->op.payload, op->op.buffer, op->op.length);
        else
            op_fill(op, op->op.payload);
    }
    hk_capture_publish(s->cap.c, &op->op);
    if (s->faults_on && rng_ppm(&s->rng_fault, s->o.ppm[F_TORN_PUBLISH])) {
        /* The last store of publish never happened. */
        slot->lsn = old_lsn;
        sim_struck(s, F_TORN_PUBLISH);
        cap_kill(s);
        return;
    }
    SIM_CHECK(s, "I5", s->forked || op->rec != UINT32_MAX, "an op was given no slot of the ring");
    if (!s->forked)
        ref_published(s, op->rec, slot, op->op.payload);
    wake_reader(s);
    sim_at(s, s->now + cpu(s), &s->cap.proc, op_copied, 0, op);
}

void cap_step(struct sim *s, struct sim_op *op, enum hk_step step)
{
    switch (step) {
    case HK_READ: resync_read(s, op); return;
    case HK_COPY: sim_at(s, s->now + cpu(s), &s->cap.proc, op_copy, 0, op); return;
    case HK_SUBMIT: submit_origin(s, op); return;
    case HK_DONE:
    case HK_FAIL:
        if (op->op.type == HK_REC_BLOCK) {
            resync_block_done(s, op);
            return;
        }
        check_completed(s, op, op->op.result);
        app_done(s, op, op->op.result);
        return;
    case HK_META:
    case HK_WAIT: return;
    }
    sim_fail(s, "I16", "capture answered %d", step);
}

/* Dies between the stores of a reservation and the one that commits it. */
static bool torn_begin(struct sim *s, struct sim_op *op, uint64_t head_before)
{
    struct hk_ring_producer *p = cap_producer(s);

    if (!s->faults_on || p->head != head_before + 1 || op->op.slot != head_before ||
        !rng_ppm(&s->rng_fault, s->o.ppm[F_TORN_BEGIN]))
        return false;
    p->head = head_before;
    sim_struck(s, F_TORN_BEGIN);
    cap_kill(s);
    return true;
}

void cap_submit(struct sim *s, struct sim_op *op)
{
    struct hk_now now = sim_clock(s, 0);
    uint64_t head = cap_producer(s)->head;
    enum hk_step step;

    op->rec = UINT32_MAX;
    op->op.lsn = HK_LSN(0);
    op->op.slot = UINT64_MAX;
    op->op.cookie = op;
    op->begun = true;
    op->next = s->cap.ops.next;
    op->prev = &s->cap.ops;
    op->next->prev = op;
    s->cap.ops.next = op;
    s->cap.in_flight++;
    step = hk_capture_begin(s->cap.c, &op->op, &now);
    if (step == HK_COPY && torn_begin(s, op, head))
        return;
    ref_scan(s);
    cap_step(s, op, step);
    if (s->cap.proc.up)
        cap_pump(s);
}

/* ---- messages from the replicator ---- */

static void on_attach(struct sim *s, uint32_t conn)
{
    struct hk_now now = sim_clock(s, 0);
    struct hk_capture_status *st = &s->cap.status;
    struct ipc_msg m = {0};

    s->cap.lease = hk_capture_attach(s->cap.c, &now);
    SIM_CHECK(s, "I6",
              s->cap.lease > s->cap.lease_before ||
                  !hk_uuid_equal(&s->cap.lease_ring, &ring_header(s)->ring_id),
              "attach lease %llu after %llu over the same ring", (unsigned long long)s->cap.lease,
              (unsigned long long)s->cap.lease_before);
    s->cap.lease_before = s->cap.lease;
    s->cap.lease_ring = ring_header(s)->ring_id;
    s->cap.sink = true;
    s->cap.conn = conn;
    hk_capture_status(s->cap.c, st);
    m.conn = s->cap.conn;
    m.lease = s->cap.lease;
    m.state = st->state;
    m.ring_id = ring_header(s)->ring_id;
    tell_way_back(st, &m);
    m.released = st->released;
    m.acked = st->acked;
    m.durable = st->durable;
    m.produced = st->produced;
    m.super = super_to_tell(s);
    sim_trace(s, "attached, lease %llu tail %llu at %llu", m.lease, m.tail, m.tail_lsn.v);
    fifo_push(s, &s->c2r, rng_around(&s->rng, s->o.ipc_ns), &s->rep.proc, rep_ipc, IPC_ATTACHED, &m,
              sizeof(m));
}

/* I6: whoever was replaced is not listened to, whatever he says. */
static void check_lease(struct sim *s, const struct ipc_msg *m, bool stale, int rc)
{
    SIM_CHECK(s, "I6", !stale || rc == -ESTALE,
              "a replicator with the stale lease %llu is obeyed (%d); the newest is %llu",
              ULL(m->lease), rc, ULL(s->cap.lease));
    if (stale && m->by_ghost)
        sim_struck(s, F_STALE_WORD);
}

static void on_report(struct sim *s, const struct ipc_msg *m)
{
    struct hk_now now = sim_clock(s, 0);
    bool stale;
    int rc;

    check_report(s, m);
    stale = m->lease != s->cap.lease || !s->cap.sink;
    rc = hk_capture_report(s->cap.c, m->lease, m->released, m->acked, m->durable, m->contact_ns,
                           &now);
    SIM_CHECK(s, "I6", rc == 0 || rc == -ESTALE,
              "report refused with %d (released %llu acked %llu durable %llu)", rc,
              ULL(m->released.v), ULL(m->acked.v), ULL(m->durable.v));
    check_lease(s, m, stale, rc);
    if (rc == 0)
        hk_capture_spool(s->cap.c, m->lease, &m->spool, &now);
    if (rc == 0 && m->released.v > s->cap.released)
        s->cap.released = m->released.v;
    if (rc == 0 && m->durable.v > s->cap.durable_taken)
        s->cap.durable_taken = m->durable.v;
    if (s->now - s->cap.told_ns > s->o.contact_ns / 8)
        s->cap.state_dirty = true;
}

static void on_insert(struct sim *s, const struct ipc_msg *m)
{
    struct hk_now now = sim_clock(s, 0);
    struct ipc_msg r = {0};

    r.conn = s->cap.conn;
    r.request = m->request;
    r.error = hk_capture_insert(s->cap.c, m->lease, m->record_type, &m->mark, sizeof(m->mark), &now,
                                &r.lsn, &r.end);
    check_lease(s, m, m->lease != s->cap.lease || !s->cap.sink, r.error);
    if (r.error == 0) {
        ref_scan(s);
        wake_reader(s);
        sim_trace(s, "mark inserted at %llu, end %llu", r.lsn.v, r.end.v, 0);
    }
    fifo_push(s, &s->c2r, rng_around(&s->rng, s->o.ipc_ns), &s->rep.proc, rep_ipc, IPC_INSERTED, &r,
              sizeof(r));
}

void cap_ipc(struct sim *s, uint64_t gen, void *p)
{
    struct hk_now now = sim_clock(s, 0);
    struct sim_msg *msg = fifo_pop(&s->r2c, gen);
    const struct ipc_msg *m;
    int rc;

    (void)p;
    if (!msg)
        return;
    m = msg->body;
    switch (msg->kind) {
    case IPC_ATTACH: on_attach(s, m->conn); break;
    case IPC_REPORT: on_report(s, m); break;
    case IPC_INSERT: on_insert(s, m); break;
    case IPC_PEER:
        rc = hk_capture_bind_peer(s->cap.c, m->lease, &m->replica_id);
        check_lease(s, m, m->lease != s->cap.lease || !s->cap.sink, rc);
        SIM_CHECK(s, "I12", rc != -EEXIST, "another standby is bound although there is only one");
        break;
    case IPC_CHECK_COPY:
        rc = hk_capture_check_copy(s->cap.c, m->lease, m->lsn, &now);
        SIM_CHECK(s, "I18", rc != 0 || !mem_is_rotten(s, m->lsn.v, m->lsn.v + 64),
                  "capture calls its damaged copy of LSN %llu whole", ULL(m->lsn.v));
        break;
    case IPC_CLOSED:
        if (m->conn != s->cap.conn)
            break;
        s->cap.sink = false;
        hk_capture_detach(s->cap.c, s->cap.lease, &now);
        break;
    default: resync_ask(s, msg->kind, m); break;
    }
    sim_free(s, msg);
    cap_pump(s);
}

/* ---- life and death ---- */

static void serve_now(struct sim *s, uint64_t a, void *p)
{
    (void)a;
    (void)p;
    if (!hk_capture_serving(s->cap.c)) {
        sim_at(s, s->now + 5 * NS_MS, &s->cap.proc, serve_now, 0, NULL);
        return;
    }
    s->cap.serving = true;
    sim_trace(s, "capture serves", 0, 0, 0);
}

static void redo_written(struct sim *s, struct sim_io *io);

static void redo_go(struct sim *s, uint64_t a, void *p)
{
    struct hk_redo *r = &s->cap.redo;
    struct hk_iovec iov;
    enum hk_disk_kind kind = HK_DISK_WRITE;

    (void)a;
    (void)p;
    if (!hk_capture_redo_next(s->cap.c, r)) {
        s->cap.redoing = false;
        ref_all_done(s);
        check_after_redo(s);
        serve_now(s, 0, NULL);
        cap_pump(s);
        return;
    }
    sim_trace(s, "redo lsn %llu type %llu", r->record.lsn, r->record.type, 0);
    check_redo(s, r);
    iov.base = (void *)(uintptr_t)r->payload;
    iov.bytes = r->record.length;
    if (r->record.type == HK_REC_FLUSH)
        kind = HK_DISK_FLUSH;
    else if (r->record.type != HK_REC_WRITE)
        kind = HK_DISK_PUNCH;
    sim_io_submit(s, &s->cap.proc, &s->origin[r->record.volume], kind, r->record.offset,
                  kind == HK_DISK_FLUSH ? 0 : r->record.length, &iov, kind == HK_DISK_WRITE,
                  redo_written, NULL, 0);
}

static void redo_written(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 0);

    if (io->result)
        s->origin_suspect = s->origin_failed = true;
    hk_capture_redo_done(s->cap.c, io->result, &now);
    cap_pump(s);
    if (s->cap.proc.up)
        redo_go(s, 0, NULL);
}

/* Of a capture side at either site; slots: the two superblocks it was read from. */
/* super: of these the one that counts. */
void cap_cfg(struct sim *s, struct hk_capture_cfg *c, const uint8_t *slots,
             const struct hk_super *super)
{
    memset(c, 0, sizeof(*c));
    c->mode = s->o.mode;
    c->on_link_loss = s->o.policy;
    c->on_overflow = s->o.overflow;
    c->contact_timeout_ns = s->o.contact_ns;
    c->pace_bound_ns = s->o.pace_ns;
    c->volume_count = SIM_VOLUMES;
    for (int v = 0; v < SIM_VOLUMES; v++) {
        c->volume_bytes[v] = super->volume[v].bytes;
        c->volume_room[v] = super->volume[v].room_bytes;
    }
    c->ceiling_step_bytes = s->o.ceiling_step;
    c->super_in_doubt = hk_super_in_doubt(slots, slots + HK_SUPER_BYTES);
    if (!super->region_shift || slots != s->cap.slots)
        return;
    c->region_shift = super->region_shift;
    c->hot_regions_max = s->o.hot_max;
    c->dirty_pages = slots + HK_DMAP_LOG_AT;
    c->dirty_pages_bytes = s->md.bytes - HK_DMAP_LOG_AT;
    if (!s->cap.dirty_memory) {
        s->cap.dirty_bytes = hk_capture_dirty_bytes(c);
        s->cap.dirty_memory = sim_pages(s, s->cap.dirty_bytes);
    }
    memset(s->cap.dirty_memory, 0x5a, s->cap.dirty_bytes);
    c->dirty_memory = s->cap.dirty_memory;
}

static void new_ring(struct sim *s)
{
    struct hk_uuid id;
    int rc;

    for (int i = 0; i < 16; i++)
        id.b[i] = (uint8_t)rng_next(&s->rng);
    memset(s->cap.ring, 0, s->cap.ring_bytes);
    rc = hk_ring_format(s->cap.ring, s->cap.ring_bytes, s->o.ring_slots, s->o.ring_payload,
                        &s->group_id, &id);
    SIM_CHECK(s, "I16", rc == 0, "ring format: %d", rc);
    s->cap.ring_there = true;
    ref_new_ring(s);
}

/*
 * Killed between the superblock that names a new epoch and its gap: the ring holds the epoch
 * before, which ended where the superblock says, and of the new one no LSN was given.
 */
static bool ring_is_over(struct sim *s, const struct hk_super *super)
{
    const struct hk_epoch *e = &super->history.epoch[super->history.count - 1];

    return e->reason >= HK_EPOCH_GAP_BEHIND && !(super->flags & HK_SF_CLEAN) &&
           super->ceiling == e->first_lsn && cap_producer(s)->epoch_ordinal + 1 == e->ordinal;
}

/* A ring that survived its process must be taken; only a start that never got going may lose it. */
static enum hk_start choose_ring(struct sim *s, const struct hk_super *super)
{
    int rc;

    if (s->cap.ring_there) {
        rc = hk_ring_check(s->cap.ring, s->cap.ring_bytes, &s->group_id, super);
        if (rc == 0)
            return HK_START_OLD_RING;
        /* One that never held a record is no loss. */
        SIM_CHECK(s, "I7",
                  s->ref.count == s->ref.rec_base || ring_is_over(s, super) ||
                      s->damaged[0] & 1u << C_MD,
                  "the ring survived but is refused (%d)", rc);
        s->primary_dead =
            s->primary_dead || (s->ref.count > s->ref.rec_base && !ring_is_over(s, super));
    }
    new_ring(s);
    return HK_START_NEW_RING;
}

/* The metadata was read and flushed: what a killed process had in flight counts only from now on.
 */
static void metadata_read(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 0);
    struct hk_capture_cfg *cfg = &s->cap.cfg;
    struct hk_super *super = &s->cap.super_read;
    enum hk_start start;
    int rc;

    s->cap.proc.starting = false;
    if (io->result && s->md.latent_count) {
        /* Nobody knows what the slot said: people have to look. */
        s->stood_still = s->primary_gone = true;
        return;
    }
    if (io->result) {
        sim_at(s, s->now + 10 * NS_MS, NULL, cap_start, 0, NULL);
        return;
    }
    rc = hk_super_pick(s->cap.slots, s->cap.slots + HK_SUPER_BYTES, super, NULL);
    if (!s->no_super[0])
        ref_epoch_look(s);
    if (s->no_super[0])
        s->primary_gone = true;
    SIM_CHECK(s, "I12", rc == 0 || s->primary_gone,
              "no valid superblock in the primary's metadata (%d)", rc);
    if (rc)
        return;
    start = choose_ring(s, super);
    s->cap.facts_lost =
        naive_in_doubt(s->cap.slots) && !(super->flags & HK_SF_CLEAN) && super->sequence > 1 &&
        (start == HK_START_NEW_RING || cap_producer(s)->super_sequence != super->sequence);
    cap_cfg(s, cfg, s->cap.slots, super);
    s->cap.c = (void *)s->cap.memory;
    memset(s->cap.memory, 0xa5, hk_capture_bytes());
    s->cap.proc.up = true;
    s->cap.proc.started_ns = s->now;
    s->cap.proc.timer_at = 0;
    s->cap.meta_busy = s->cap.serving = s->cap.sink = s->cap.stopping = false;
    s->cap.flushing = false;
    s->cap.in_flight = 0;
    s->cap.ops.next = s->cap.ops.prev = &s->cap.ops;
    sim_trace(s, "capt starts, ring %llu (1 new, 2 old), flags %llx", start, super->flags, 0);
    rc = hk_capture_init(s->cap.c, cfg, s->cap.ring, start, super, &now);
    s->cap.cut = true; /* until the log is seen to flow */
    SIM_CHECK(s, "I7", rc == 0, "capture does not start: %d", rc);
    if (start == HK_START_OLD_RING)
        ref_restarted(s);
    check_capture_started(s, start, super);
    s->cap.redoing = true;
    cap_pump(s);
    if (s->cap.proc.up)
        sim_at(s, s->now, &s->cap.proc, redo_go, 0, NULL);
    s->cap.wake_pending = false;
    oper_started(s, &s->cap.proc);
}

static void flush_metadata(struct sim *s, struct sim_io *io)
{
    if (io->result) {
        metadata_read(s, io);
        return;
    }
    sim_io_submit(s, &s->cap.proc, &s->md, HK_DISK_FLUSH, 0, 0, NULL, 0, metadata_read, NULL, 0);
}

void cap_start(struct sim *s, uint64_t a, void *p)
{
    struct hk_iovec iov = {s->cap.slots, s->o.region_shift ? s->md.bytes : HK_DMAP_LOG_AT};

    (void)a;
    (void)p;
    if (s->cap.proc.up || s->cap.proc.starting || s->primary_gone)
        return;
    s->cap.proc.starting = true;
    sim_io_submit(s, &s->cap.proc, &s->md, HK_DISK_READ, 0, iov.bytes, &iov, 1, flush_metadata,
                  NULL, 0);
}

static void cap_gone(struct sim *s)
{
    s->cap.proc.life++;
    s->cap.proc.up = s->cap.proc.starting = false;
    s->cap.proc.kill_in = 0;
    s->cap.proc.paused_until = 0;
    s->cap.serving = s->cap.redoing = false;
    sim_io_abandon(s, &s->cap.proc);
    fifo_clear(s, &s->r2c);
    resync_capture_gone(s);
    grow_capture_gone(s);
    app_all_lost(s);
    s->st.crashes++;
}

void cap_kill(struct sim *s)
{
    struct ipc_msg closed = {.conn = s->cap.conn};

    if (!s->cap.proc.up)
        return;
    sim_trace(s, "kill capture", 0, 0, 0);
    cap_gone(s);
    if (s->cap.sink)
        fifo_push(s, &s->c2r, s->o.ipc_ns, &s->rep.proc, rep_ipc, IPC_CLOSED, &closed,
                  sizeof(closed));
    s->cap.sink = false;
    sim_at(s, s->now + NS_MS + rng_around(&s->rng_fault, 100 * NS_MS), NULL, cap_start, 0, NULL);
}

/* Power loss of the primary's node: both processes and the ring. */
void cap_power(struct sim *s)
{
    sim_trace(s, "powr primary loses power", 0, 0, 0);
    if (s->rep.proc.up)
        rep_gone(s, true);
    cap_gone(s);
    s->cap.ring_there = false;
    sim_power_cut(s, 0);
    clk_reboot(s, 0, 1ull << 40);
    app_power_lost(s);
}

void cap_setup(struct sim *s)
{
    struct hk_super_create c = {0};
    struct hk_super *super = &s->cap.super_read;
    int rc;

    memset(&s->cap, 0, sizeof(s->cap));
    s->cap.proc.name = "capture";
    s->cap.ops.next = s->cap.ops.prev = &s->cap.ops;
    s->cap.ring_bytes = hk_ring_total_bytes(s->o.ring_slots, s->o.ring_payload);
    s->cap.ring = sim_pages(s, s->cap.ring_bytes);
    s->cap.memory = sim_pages(s, hk_capture_bytes());
    s->cap.slots = sim_pages(s, s->md.bytes);
    c.group_id = s->group_id;
    c.site_id = s->site_id[0];
    c.replica_id = s->replica_id[0];
    c.epoch_id = s->epoch_id;
    strcpy(c.group_name, "core");
    c.time_ns = sim_clock(s, 0).real_ns;
    c.volume_count = SIM_VOLUMES;
    c.assume_equal = !s->o.initial;
    c.region_shift = s->o.region_shift;
    for (int v = 0; v < SIM_VOLUMES; v++) {
        snprintf(c.volume[v].name, sizeof(c.volume[v].name), "vol%d", v);
        c.volume[v].bytes = (uint64_t)s->o.sectors * SIM_SECTOR;
        c.volume[v].room_bytes = (uint64_t)s->o.room_sectors * SIM_SECTOR;
    }
    rc = hk_super_create(&c, super);
    SIM_CHECK(s, "I12", rc == 0, "create-md: %d", rc);
    hk_super_encode(super, s->md.cur + (super->sequence & 1) * HK_SUPER_BYTES);
    dmap_create(s, super);
    memcpy(s->md.dur, s->md.cur, s->md.bytes);
    memcpy(s->md.good, s->md.cur, s->md.bytes);
    s->md.durable_changes++;
}
