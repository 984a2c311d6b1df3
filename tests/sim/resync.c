/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a resync asks of the adaptors: block records that the capture process reads and writes,
 * questions between replicator and capture, hashes of pieces of the origins and the replicas. The
 * hash is a plain function of key, place and bytes: the simulator is about order, not about who
 * could forge it.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/sim.h"

#define ULL(x) ((unsigned long long)(x))

void resync_setup(struct sim *s)
{
    uint8_t *all = sim_pages_any(s, SIM_BLOCKS_MAX * HK_COMPARE_BLOCK_BYTES);

    for (int i = 0; i < SIM_BLOCKS_MAX; i++) {
        s->cap.block[i].op.data = all + (size_t)i * HK_COMPARE_BLOCK_BYTES;
        s->cap.block[i].op.rec = UINT32_MAX;
    }
}

/* ---- blocks ---- */

static void answer(struct sim *s, uint32_t kind, struct ipc_msg *m)
{
    if (!s->cap.sink)
        return;
    m->conn = s->cap.conn;
    fifo_push(s, &s->c2r, rng_around(&s->rng, s->o.ipc_ns), &s->rep.proc, rep_ipc, kind, m,
              sizeof(*m));
}

static struct sim_block *block_of(struct sim_op *op)
{
    return HK_CONTAINER_OF(op, struct sim_block, op);
}

void resync_block_done(struct sim *s, struct sim_op *op)
{
    struct sim_block *b = block_of(op);
    struct ipc_msg m = {.request = b->request, .error = op->op.result, .end = op->op.end};

    sim_trace(s, "blok done, request %llu result %lld end %llu", b->request,
              (uint64_t)(int64_t)op->op.result, op->op.end.v);
    app_off_the_list(s, op);
    b->busy = false;
    ref_scan(s);
    if (b->conn == s->cap.conn)
        answer(s, IPC_BLOCKED, &m);
}

static void origin_read(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 0);
    struct sim_op *op = io->ctx;

    op->in_origin = false;
    if (io->result)
        s->origin_unread = true;
    else
        sim_disk_direct(io);
    cap_step(s, op, hk_capture_read_done(s->cap.c, &op->op, io->result, &now));
    if (s->cap.proc.up)
        cap_pump(s);
}

void resync_read(struct sim *s, struct sim_op *op)
{
    struct hk_iovec iov = {op->op.buffer, op->op.length};

    check_overlap(s, op);
    op->in_origin = true;
    sim_io_submit(s, &s->cap.proc, &s->origin[op->op.volume], HK_DISK_READ, op->op.offset,
                  op->op.length, &iov, 1, origin_read, op, 0);
}

static void ask_block(struct sim *s, const struct ipc_msg *m)
{
    struct ipc_msg r = {.request = m->request, .error = -EAGAIN};
    struct sim_block *b = s->cap.block, *end = b + SIM_BLOCKS_MAX;

    while (b < end && b->busy)
        b++;
    if (b == end || s->cap.stopping || m->lease != s->cap.lease) {
        answer(s, IPC_BLOCKED, &r);
        return;
    }
    SIM_CHECK(s, "I16", m->bytes <= HK_COMPARE_BLOCK_BYTES && m->bytes > 0, "a block of %llu bytes",
              ULL(m->bytes));
    b->busy = true;
    b->request = m->request;
    b->conn = s->cap.conn;
    memset(&b->op.op, 0, sizeof(b->op.op));
    b->op.op.type = HK_REC_BLOCK;
    b->op.op.volume = m->volume;
    b->op.op.offset = m->offset;
    b->op.op.length = (uint32_t)m->bytes;
    b->op.op.buffer = b->op.data;
    b->op.client = NULL;
    b->op.floor_end = 0;
    b->op.in_origin = false;
    cap_submit(s, &b->op);
}

void resync_capture_gone(struct sim *s)
{
    for (int i = 0; i < SIM_BLOCKS_MAX; i++) {
        if (s->cap.block[i].op.begun)
            app_off_the_list(s, &s->cap.block[i].op);
        s->cap.block[i].busy = false;
    }
    s->cap.all_stale_asked = false;
}

/* ---- questions to the capture side ---- */

static void ask_return(struct sim *s, const struct ipc_msg *m)
{
    struct hk_now now = sim_clock(s, 0);
    struct ipc_msg r = {0};

    r.error = hk_capture_return(s->cap.c, m->lease, m->lsn, &now);
    sim_trace(s, "rtrn at %llu: %lld", m->lsn.v, (uint64_t)(int64_t)r.error, 0);
    if (r.error)
        answer(s, IPC_RETURNED, &r);
}

static void ask_stale(struct sim *s, const struct ipc_msg *m)
{
    struct hk_capture_stale stale = {0};
    struct ipc_msg r = {0};

    r.error = hk_capture_stale_next(s->cap.c, m->volume, m->offset, &stale);
    r.volume = stale.volume;
    r.offset = stale.offset;
    r.bytes = stale.bytes;
    r.event = stale.event;
    r.lsn = stale.after;
    if (r.error == 0)
        sim_trace(s, "stal volume %llu offset %llu after %llu", r.volume, r.offset, r.lsn.v);
    answer(s, IPC_STALE, &r);
}

static void fail_over(struct sim *s, uint64_t a, void *p)
{
    (void)a;
    (void)p;
    if (s->faults_on)
        oper_failover(s);
}

/*
 * Somebody decides in the middle of a resync that the primary is lost. An event of its own: it may
 * take the power from the very process that is being asked (seed 160).
 */
static void promote_in_time(struct sim *s)
{
    s->heals++;
    if (s->o.promote_pct && s->heals * 100 >= s->o.promote_pct * s->heals_due)
        sim_at(s, s->now, NULL, fail_over, 0, NULL);
}

static void ask_heal(struct sim *s, const struct ipc_msg *m)
{
    struct hk_now now = sim_clock(s, 0);
    struct ipc_msg r = {.request = m->request};

    r.error = hk_capture_heal(s->cap.c, m->lease, m->volume, m->offset, m->event, m->end, &now);
    sim_trace(s, "heal volume %llu offset %llu: %lld", m->volume, m->offset,
              (uint64_t)(int64_t)r.error);
    if (r.error == 0)
        ref_compare_ended(s, m->volume, m->offset, dmap_region_bytes(s, m->offset));
    answer(s, IPC_HEALED, &r);
    if (r.error == 0)
        promote_in_time(s);
}

void resync_ask(struct sim *s, uint32_t kind, const struct ipc_msg *m)
{
    struct hk_now now = sim_clock(s, 0);

    if (m->lease != s->cap.lease || !s->cap.sink)
        return;
    switch (kind) {
    case IPC_RETURN: ask_return(s, m); break;
    case IPC_STALE_ASK: ask_stale(s, m); break;
    case IPC_BLOCK: ask_block(s, m); break;
    case IPC_HEAL: ask_heal(s, m); break;
    case IPC_RESIZE: grow_ask(s, m); break;
    case IPC_STALE_ALL:
        s->cap.cut = true;
        s->cap.all_stale_asked = true;
        hk_capture_stale_all(s->cap.c, m->lease, &now);
        break;
    default: sim_fail(s, "I16", "capture is asked %u", kind);
    }
}

/* What the capture core wants of its caller, and what the replicator waits to hear. */
void resync_pump(struct sim *s)
{
    struct hk_now now = sim_clock(s, 0);
    struct ipc_msg m = {0};
    struct hk_uuid id;

    if (hk_capture_wants_epoch(s->cap.c)) {
        for (int i = 0; i < 16; i++)
            id.b[i] = (uint8_t)(rng_next(&s->rng) | (i == 0));
        hk_capture_offer_epoch(s->cap.c, &id);
    }
    if (!s->cap.flushing && hk_capture_wants_flush(s->cap.c, &now))
        cap_flush_origins(s);
    if (s->cap.all_stale_asked && hk_capture_all_stale(s->cap.c)) {
        s->cap.all_stale_asked = false;
        answer(s, IPC_ALL_STALE, &m);
    }
}

/* ---- the replicator's questions and what it hears ---- */

uint32_t resync_ask_of(const struct hk_action *a, struct ipc_msg *m)
{
    switch ((int)a->type) {
    case HK_ACT_RETURN: m->lsn = a->parent_end; return IPC_RETURN;
    case HK_ACT_STALE_ASK:
        m->volume = (uint16_t)a->stale_ask.volume;
        m->offset = a->stale_ask.offset;
        return IPC_STALE_ASK;
    case HK_ACT_BLOCK:
        m->request = a->block.request;
        m->volume = (uint16_t)a->block.volume;
        m->offset = a->block.offset;
        m->bytes = a->block.bytes;
        return IPC_BLOCK;
    case HK_ACT_HEAL:
        m->request = a->heal.request;
        m->volume = (uint16_t)a->heal.volume;
        m->offset = a->heal.offset;
        m->event = a->heal.event;
        m->end = a->heal.end;
        return IPC_HEAL;
    case HK_ACT_RESIZE:
        m->volume = (uint16_t)a->resize.volume;
        m->bytes = a->resize.bytes;
        return IPC_RESIZE;
    default: return IPC_STALE_ALL;
    }
}

static void hear_stale(struct hk_event *e, const struct ipc_msg *m)
{
    e->type = HK_EV_STALE;
    e->stale.found = m->error == 0;
    e->stale.volume = m->volume;
    e->stale.offset = m->offset;
    e->stale.bytes = m->bytes;
    e->stale.event = m->event;
    e->stale.after = m->lsn;
}

void resync_answer(struct sim *s, uint32_t kind, const struct ipc_msg *m)
{
    struct hk_event e = {0};

    switch (kind) {
    case IPC_STALE: hear_stale(&e, m); break;
    case IPC_BLOCKED:
        e.type = HK_EV_BLOCK_DONE;
        e.block_done.request = m->request;
        e.block_done.error = m->error;
        e.block_done.end = m->end;
        break;
    case IPC_HEALED:
        e.type = HK_EV_HEALED;
        e.healed.request = m->request;
        e.healed.error = m->error;
        break;
    case IPC_ALL_STALE: e.type = HK_EV_ALL_STALE; break;
    case IPC_RESIZED:
        e.type = HK_EV_RESIZED;
        e.done.error = m->error;
        break;
    case IPC_RETURNED:
        e.type = HK_EV_RETURNED;
        e.done.error = m->error;
        break;
    default: sim_fail(s, "I16", "the replicator hears %u", kind);
    }
    rep_event(s, &e);
}

/* ---- hashes ---- */

static void hash_of(const struct sim_hash *h, struct hk_hashes *ret)
{
    uint64_t key, left = h->ask.bytes, at = 0;

    memcpy(&key, h->key, sizeof(key));
    for (ret->count = 0; left; ret->count++) {
        uint64_t n = hk_min_u64(left, HK_COMPARE_BLOCK_BYTES);
        uint64_t seed = key ^ rng_mix(((uint64_t)h->ask.volume << 48) + h->ask.offset + at);

        for (int i = 0; i < 2; i++) {
            uint64_t part = naive_xxh64(h->buffer + at, n, seed + (uint64_t)i);

            memcpy(ret->hash[ret->count] + 8 * i, &part, 8);
        }
        at += n;
        left -= n;
    }
}

static void hashed(struct sim *s, struct sim_io *io)
{
    struct sim_hash *h = io->ctx;
    struct hk_hashes *answer_to = &s->hashes;
    struct hk_event e = {.type = HK_EV_HASHED, .hashed = answer_to};

    memset(answer_to, 0, sizeof(*answer_to));
    answer_to->request = h->ask.request;
    answer_to->error = io->result;
    if (io->result == 0) {
        sim_disk_direct(io);
        hash_of(h, answer_to);
    }
    h->busy = false;
    sim_trace(s, "hash volume %llu offset %llu, site %llu", h->ask.volume, h->ask.offset,
              io->proc->site);
    if (io->proc->site)
        sby_event(s, &e);
    else
        rep_event(s, &e);
}

void resync_hashes_gone(struct sim *s, unsigned site)
{
    struct sim_hash *h = site ? s->sby.hash : s->rep.hash;

    for (int i = 0; h && i < HK_COMPARE_ASKS_MAX; i++)
        h[i].busy = false;
    if (site == 0)
        sim_io_abandon(s, &s->rep.proc);
}

void resync_hash(struct sim *s, unsigned site, const struct hk_action *a)
{
    struct sim_hash **pool = site ? &s->sby.hash : &s->rep.hash, *h;
    const struct hk_hash_ask *ask = &a->hash.ask;
    struct sim_file *f;
    struct hk_iovec iov;
    int i = 0;

    if (site == 0 && s->ghost.runs)
        return; /* it does not live long enough */
    if (!*pool) {
        uint8_t *all = sim_pages_any(s, HK_COMPARE_ASKS_MAX * HK_COMPARE_BLOCK_BYTES);

        *pool = sim_alloc(s, HK_COMPARE_ASKS_MAX * sizeof(**pool));
        for (int k = 0; k < HK_COMPARE_ASKS_MAX; k++)
            (*pool)[k].buffer = all + (size_t)k * HK_COMPARE_BLOCK_BYTES;
    }
    while (i < HK_COMPARE_ASKS_MAX && (*pool)[i].busy)
        i++;
    SIM_CHECK(s, "I16", i < HK_COMPARE_ASKS_MAX, "more than %d hashes at a time at site %u",
              HK_COMPARE_ASKS_MAX, site);
    SIM_CHECK(s, "I16",
              ask->bytes && ask->bytes <= HK_COMPARE_BLOCK_BYTES && ask->volume < SIM_VOLUMES,
              "a hash of %u bytes of volume %u", ask->bytes, ask->volume);
    h = &(*pool)[i];
    h->busy = true;
    h->ask = *ask;
    memcpy(h->key, a->hash.key, sizeof(h->key));
    iov = (struct hk_iovec){h->buffer, ask->bytes};
    if (site == 0)
        ref_compare_reads(s, ask->volume, ask->offset, ask->bytes);
    f = site ? &s->replica[ask->volume] : &s->origin[ask->volume];
    sim_io_submit(s, site ? &s->sby.proc : &s->rep.proc, f, HK_DISK_READ, ask->offset, ask->bytes,
                  &iov, 1, hashed, h, 0);
}
