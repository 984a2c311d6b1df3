/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a failover the application goes on at the promoted side: a capture process of its own, as
 * the plugin is started there, over the metadata that the promotion wrote and the replicas, while
 * the standby's daemon goes on beside it and the old primary may come back. There is one writable
 * side an epoch (I13): from now on nobody but this process writes the replicas, and what its
 * clients read is what they wrote.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

enum { CLIENTS = 3 };

struct client {
    struct sim_promoted *p;
    struct hk_op op;
    uint8_t value[SIM_SECTORS_MAX], *data, *read_buffer;
    struct vol_read read;
    uint64_t flush_step;
    bool busy;
};

struct sim_promoted {
    struct sim_proc proc;
    struct sim *s;
    struct hk_capture *c;
    uint8_t *ring, *memory;
    bool begun, ring_there, meta_busy, model_void;
    uint64_t ring_bytes, since_ns, writes;
    struct hk_super super;
    struct hk_redo redo;
    struct vol_model model;
    struct client client[CLIENTS];
};

struct sim_proc *promoted_proc(struct sim *s)
{
    return &s->promoted->proc;
}

static void step_on(struct sim *s, struct client *c, enum hk_step step);
static void pump(struct sim *s);
static void go(struct sim *s, uint64_t index, void *p);
static void start(struct sim *s, uint64_t a, void *p);

static void again(struct sim *s, struct client *c, uint64_t delay)
{
    struct sim_promoted *p = s->promoted;

    sim_at(s, s->now + delay, &p->proc, go, (uint64_t)(c - p->client), NULL);
}

/* ---- what must hold at each write of this side ---- */

static void check_may_write(struct sim *s, const struct hk_op *op)
{
    struct hk_super md;
    const struct hk_epoch *e;

    if (s->standby_suspect || s->no_super[1] || damage_at(&s->pmd, 0, s->pmd.bytes) ||
        damage_at(&s->super, 0, s->super.bytes))
        return;
    SIM_CHECK(s, "I13", sby_durable(s)->flags & HK_SF_PROMOTED,
              "the promoted side writes, but that it was promoted is not durable");
    SIM_CHECK(s, "I13", naive_super(&s->pmd, true, &md), "the promoted side has no metadata");
    e = &md.history.epoch[md.history.count - 1];
    SIM_CHECK(s, "I13",
              md.history.count >= 2 && e->reason == HK_EPOCH_PROMOTE &&
                  memcmp(&e->id, &s->epoch_id, 16) != 0 && e->parent_end == s->sby.promote_lsn,
              "the promoted side writes in an epoch of reason %u that begins at %llu", e->reason,
              ULL(e->first_lsn));
    SIM_CHECK(s, "I13",
              memcmp(&sby_durable(s)->history.epoch[md.history.count - 1].id, &e->id, 16) == 0,
              "the promoted side writes in an epoch that its own history does not end with");
    if (op->captured)
        SIM_CHECK(s, "I13", op->lsn.v >= e->first_lsn,
                  "the promoted side gives LSN %llu, its epoch begins at %llu", ULL(op->lsn.v),
                  ULL(e->first_lsn));
    else
        SIM_CHECK(s, "I1", md.flags & HK_SF_FULL_COMPARE,
                  "the promoted side writes uncaptured without a durable \"full compare\"");
    SIM_CHECK(s, "I1", !(md.flags & HK_SF_CLEAN), "the promoted side writes and is marked clean");
}

static bool judged(struct sim *s, unsigned vol, uint32_t sector)
{
    return !s->promoted->model_void &&
           !damage_at(&s->replica[vol], (uint64_t)sector * SIM_SECTOR, SIM_SECTOR);
}

/* ---- one op ---- */

static void client_done(struct sim *s, struct client *c, int result)
{
    uint32_t first = (uint32_t)(c->op.offset / SIM_SECTOR), n = c->op.length / SIM_SECTOR;

    if (c->op.type == HK_REC_FLUSH) {
        if (result == 0)
            vol_flush_ended(&s->promoted->model, c->op.volume, c->flush_step);
    } else {
        vol_write_ends(&s->promoted->model, c->op.volume, first, n, result == 0,
                       c->op.flags & HK_REC_FUA);
        s->promoted->writes++;
    }
    c->busy = false;
    again(s, c, rng_around(&s->rng_world, s->o.think_us * NS_US));
}

static void origin_done(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 1);
    struct client *c = io->ctx;

    if (io->result == 0 && (c->op.flags & HK_REC_FUA) && io->kind == HK_DISK_PUNCH) {
        sim_io_submit(s, &s->promoted->proc, io->file, HK_DISK_FLUSH, 0, 0, NULL, 0, origin_done, c,
                      0);
        return;
    }
    if (io->result)
        s->promoted->model_void = true; /* its flush may have taken anything with it */
    step_on(s, c, hk_capture_written(s->promoted->c, &c->op, io->result ? -EIO : 0, &now));
    pump(s);
}

static void fill(struct client *c, uint8_t *to)
{
    uint32_t first = (uint32_t)(c->op.offset / SIM_SECTOR);

    for (uint32_t i = 0; i < c->op.length / SIM_SECTOR; i++)
        memcpy(to + (size_t)i * SIM_SECTOR, pattern(c->op.volume, first + i, c->value[i]),
               SIM_SECTOR);
}

static void submit(struct sim *s, struct client *c)
{
    struct sim_file *f = &s->replica[c->op.volume];
    enum hk_disk_kind kind = HK_DISK_WRITE;
    struct hk_iovec iov = {c->op.payload, c->op.length};

    check_may_write(s, &c->op);
    if (c->op.type == HK_REC_FLUSH)
        kind = HK_DISK_FLUSH;
    else if (c->op.type != HK_REC_WRITE)
        kind = HK_DISK_PUNCH;
    else if (c->op.flags & HK_REC_FUA)
        kind = HK_DISK_WRITE_DSYNC;
    if (c->op.type == HK_REC_WRITE && !c->op.payload) {
        fill(c, c->data);
        iov.base = c->data;
    }
    sim_io_submit(s, &s->promoted->proc, f, kind, c->op.offset,
                  kind == HK_DISK_FLUSH ? 0 : c->op.length, &iov,
                  kind == HK_DISK_WRITE || kind == HK_DISK_WRITE_DSYNC, origin_done, c, 0);
}

static void step_on(struct sim *s, struct client *c, enum hk_step step)
{
    switch (step) {
    case HK_COPY:
        if (c->op.payload)
            fill(c, c->op.payload);
        hk_capture_publish(s->promoted->c, &c->op);
        step_on(s, c, hk_capture_copied(s->promoted->c, &c->op));
        return;
    case HK_SUBMIT: submit(s, c); return;
    case HK_DONE:
    case HK_FAIL:
        SIM_CHECK(s, "I9", c->op.result == 0 || s->promoted->model_void || s->st_eio,
                  "an op of the promoted side ends with %d and no disk failed", c->op.result);
        client_done(s, c, c->op.result);
        return;
    case HK_META:
    case HK_READ:
    case HK_WAIT: return;
    }
}

static void meta_written(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 1);

    s->promoted->meta_busy = false;
    /* A part of a write is none here. */
    hk_capture_meta_done(s->promoted->c, io->result ? -EIO : 0, &now);
    pump(s);
}

static void tick(struct sim *s, uint64_t at, void *p)
{
    struct hk_now now = sim_clock(s, 1);

    (void)p;
    if (at != s->promoted->proc.timer_at)
        return;
    s->promoted->proc.timer_at = 0;
    hk_capture_tick(s->promoted->c, &now);
    pump(s);
}

static void pump(struct sim *s)
{
    struct sim_promoted *p = s->promoted;
    struct hk_now now = sim_clock(s, 1);
    struct hk_capture_meta m;
    struct hk_iovec iov;
    enum hk_step step;
    struct hk_op *op;

    while ((op = hk_capture_next(p->c, &step, &now)))
        step_on(s, op->cookie, step);
    if (!p->meta_busy && hk_capture_meta(p->c, &m)) {
        p->meta_busy = true;
        iov = (struct hk_iovec){(void *)(uintptr_t)m.data, m.bytes};
        sim_io_submit(s, &p->proc, &s->pmd, HK_DISK_WRITE_DSYNC, m.offset, m.bytes, &iov, 1,
                      meta_written, NULL, 0);
    }
    if (p->proc.timer_at <= s->now) {
        p->proc.timer_at = s->now + s->o.contact_ns / 4;
        sim_at(s, p->proc.timer_at, &p->proc, tick, p->proc.timer_at, NULL);
    }
}

static void read_done(struct sim *s, struct sim_io *io)
{
    struct client *c = io->ctx;

    for (uint32_t i = 0; i < c->read.count && io->result == 0; i++) {
        uint32_t sector = c->read.first + i;
        int got = pattern_identify(c->read_buffer + (size_t)i * SIM_SECTOR, c->read.volume, sector);

        SIM_CHECK(s, "I13",
                  !judged(s, c->read.volume, sector) || (got >= 0 && c->read.may[i] >> got & 1),
                  "the promoted side reads %d from volume %u sector %u, which nobody wrote there "
                  "(may be: mask %x)",
                  got, c->read.volume, sector, c->read.may[i]);
        if (got >= 0)
            c->value[0] = (uint8_t)got;
    }
    vol_read_ends(&s->promoted->model, &c->read);
    c->busy = false;
    again(s, c, 1 + rng_around(&s->rng_world, s->o.think_us * NS_US / 2));
}

/* Sectors that each of its volumes has. */
static uint32_t smallest(const struct sim *s)
{
    const struct hk_super_volume *v = s->promoted->super.volume;

    return (uint32_t)(hk_min_u64(v[0].bytes, v[1].bytes) / SIM_SECTOR);
}

static void begin_read(struct sim *s, struct client *c)
{
    uint32_t all = smallest(s), first = (uint32_t)rng_below(&s->rng_world, all);
    uint32_t n = (uint32_t)hk_min_u64(rng_range(&s->rng_world, 1, 8), all - first);
    unsigned vol = (unsigned)rng_below(&s->rng_world, SIM_VOLUMES);
    struct hk_iovec iov = {c->read_buffer, n * (size_t)SIM_SECTOR};

    vol_read_begins(&s->promoted->model, &c->read, vol, first, n);
    sim_io_submit(s, &s->promoted->proc, &s->replica[vol], HK_DISK_READ,
                  (uint64_t)first * SIM_SECTOR, iov.bytes, &iov, 1, read_done, c, 0);
}

static void draw_op(struct sim *s, struct client *c)
{
    static const uint8_t type[] = {HK_REC_WRITE,  HK_REC_WRITE,   HK_REC_WRITE,
                                   HK_REC_ZEROES, HK_REC_DISCARD, HK_REC_FLUSH};
    uint32_t all = smallest(s), first = (uint32_t)rng_below(&s->rng_world, all), n;
    uint8_t was = c->value[0];

    memset(&c->op, 0, sizeof(c->op));
    c->op.type = type[rng_below(&s->rng_world, HK_ARRAY_SIZE(type))];
    c->op.volume = (uint16_t)rng_below(&s->rng_world, SIM_VOLUMES);
    c->op.cookie = c;
    if (c->op.type == HK_REC_FLUSH)
        return;
    n = (uint32_t)hk_min_u64(rng_range(&s->rng_world, 1, 16), all - first);
    c->op.offset = (uint64_t)first * SIM_SECTOR;
    c->op.length = n * SIM_SECTOR;
    if (rng_below(&s->rng_world, 6) == 0)
        c->op.flags = HK_REC_FUA;
    for (uint32_t i = 0; i < n; i++)
        c->value[i] = c->op.type == HK_REC_WRITE
                          ? (uint8_t)((was + 1 + rng_below(&s->rng_world, 2)) % s->o.values)
                          : 0;
}

static void go(struct sim *s, uint64_t index, void *unused)
{
    struct sim_promoted *p = s->promoted;
    struct client *c = &p->client[index];
    struct hk_now now = sim_clock(s, 1);

    (void)unused;
    if (c->busy || s->quiet)
        return;
    if (!hk_capture_serving(p->c)) {
        again(s, c, 5 * NS_MS);
        return;
    }
    c->busy = true;
    if (rng_below(&s->rng_world, 3) == 0) {
        begin_read(s, c);
        return;
    }
    draw_op(s, c);
    c->flush_step = p->model.step;
    if (c->op.type != HK_REC_FLUSH)
        vol_write_begins(&p->model, c->op.volume, (uint32_t)(c->op.offset / SIM_SECTOR),
                         c->op.length / SIM_SECTOR, c->value);
    step_on(s, c, hk_capture_begin(p->c, &c->op, &now));
    pump(s);
}

/* ---- life and death ---- */

static void redo(struct sim *s)
{
    struct hk_now now = sim_clock(s, 1);

    while (hk_capture_redo_next(s->promoted->c, &s->promoted->redo))
        hk_capture_redo_done(s->promoted->c, 0, &now);
}

static void metadata_read(struct sim *s, struct sim_io *io)
{
    struct sim_promoted *p = s->promoted;
    struct hk_now now = sim_clock(s, 1);
    enum hk_start from = HK_START_OLD_RING;
    struct hk_capture_cfg cfg;
    struct hk_uuid id;
    int rc;

    p->proc.starting = false;
    if (io->result || hk_super_pick(s->pmd.cur, s->pmd.cur + HK_SUPER_BYTES, &p->super, NULL))
        return;
    if (!p->ring_there || hk_ring_check(p->ring, p->ring_bytes, &s->group_id, &p->super) != 0) {
        for (int i = 0; i < 16; i++)
            id.b[i] = (uint8_t)rng_next(&s->rng_world);
        memset(p->ring, 0, p->ring_bytes);
        hk_ring_format(p->ring, p->ring_bytes, s->o.ring_slots, s->o.ring_payload, &s->group_id,
                       &id);
        p->ring_there = true;
        from = HK_START_NEW_RING;
    }
    cap_cfg(s, &cfg, s->pmd.cur, &p->super);
    p->c = (void *)p->memory;
    rc = hk_capture_init(p->c, &cfg, p->ring, from, &p->super, &now);
    SIM_CHECK(s, "I13", rc == 0, "capture does not start at the promoted side: %d", rc);
    p->proc.up = true;
    p->proc.timer_at = 0;
    p->meta_busy = false;
    sim_trace(s, "prom capture starts at the promoted side, ring %llu flags %llx", from,
              p->super.flags, 0);
    redo(s);
    pump(s);
    for (int i = 0; i < CLIENTS; i++)
        again(s, &p->client[i], rng_below(&s->rng_world, 5 * NS_MS));
    if (rng_below(&s->rng_world, 3) == 0)
        sim_at(s, s->now + rng_below(&s->rng_world, 500 * NS_MS), &p->proc, start, 1, NULL);
}

static void gone(struct sim *s)
{
    struct sim_promoted *p = s->promoted;

    p->proc.life++;
    p->proc.up = p->proc.starting = false;
    sim_io_abandon(s, &p->proc);
    for (int i = 0; i < CLIENTS; i++)
        p->client[i].busy = false;
}

/* a: it is killed first. */
static void start(struct sim *s, uint64_t a, void *unused)
{
    struct sim_promoted *p = s->promoted;

    (void)unused;
    if (a && p->proc.up) {
        sim_trace(s, "kill capture of the promoted side", 0, 0, 0);
        sim_struck(s, F_KILL_PROMOTED);
        gone(s);
        vol_cut_short(&p->model);
    }
    if (p->proc.up || p->proc.starting)
        return;
    p->proc.starting = true;
    sim_io_submit(s, &p->proc, &s->pmd, HK_DISK_FLUSH, 0, 0, NULL, 0, metadata_read, NULL, 0);
}

/* The old primary, fenced or lost, is switched on again. */
static void old_returns(struct sim *s, uint64_t a, void *p)
{
    (void)a;
    (void)p;
    if (!s->primary_gone || s->forked)
        return;
    sim_struck(s, F_OLD_RETURNS);
    sim_trace(s, "old. the lost primary returns", 0, 0, 0);
    s->primary_gone = false;
    cap_start(s, 0, NULL);
    rep_start(s, 0, NULL);
}

void promoted_begins(struct sim *s)
{
    struct sim_promoted *p = s->promoted;

    if (p->begun || s->standby_suspect || s->sby.not_promotable || s->no_super[1])
        return;
    p->begun = true;
    p->since_ns = s->now;
    if (rng_below(&s->rng_world, 2))
        sim_at(s, s->now + rng_below(&s->rng_world, 2 * NS_S), NULL, old_returns, 0, NULL);
    if (rng_below(&s->rng_world, 5) == 0)
        return;
    vol_learn(s, &p->model, s->replica);
    sim_struck(s, F_PROMOTED_WRITES);
    sim_at(s, s->now + rng_below(&s->rng_world, 500 * NS_MS), NULL, start, 0, NULL);
}

/* The site's node loses power: the standby's daemon is dealt with elsewhere. */
void promoted_power(struct sim *s)
{
    struct sim_promoted *p = s->promoted;
    bool was = p->proc.up || p->proc.starting;

    if (!p->begun)
        return;
    gone(s);
    vol_power_lost(&p->model);
    if (s->vanished & 1u << C_REPLICA) /* what its flushes had promised */
        p->model_void = true;
    p->ring_there = false;
    if (was)
        sim_at(s, s->now + rng_below(&s->rng_world, 300 * NS_MS), NULL, start, 0, NULL);
}

/* The standby's daemon lost the superblock that says so: it may write the replicas, too. */
void promoted_forgotten(struct sim *s)
{
    s->promoted->model_void = true;
}

/* What is on the replicas in the end is this side's alone. */
void promoted_check_end(struct sim *s)
{
    struct sim_promoted *p = s->promoted;

    if (!p->begun || !p->writes || s->standby_suspect)
        return;
    for (unsigned v = 0; v < SIM_VOLUMES; v++)
        for (uint32_t i = 0; i < p->super.volume[v].bytes / SIM_SECTOR; i++) {
            const struct vol_sector *m = &p->model.sector[v][i];
            int got = pattern_identify(s->replica[v].cur + (size_t)i * SIM_SECTOR, v, i);
            unsigned may = m->in_flight ? m->may | m->group : m->may;

            SIM_CHECK(s, "I13", !judged(s, v, i) || (got >= 0 && may >> got & 1),
                      "the promoted side's volume %u sector %u ends as %d, which nobody there "
                      "wrote (mask %x)",
                      v, i, got, may);
        }
}

void promoted_setup(struct sim *s)
{
    struct sim_promoted *p = sim_alloc(s, sizeof(*p));

    s->promoted = p;
    p->proc.name = "promoted";
    p->proc.site = 1;
    p->ring_bytes = hk_ring_total_bytes(s->o.ring_slots, s->o.ring_payload);
    p->ring = sim_pages(s, p->ring_bytes);
    p->memory = sim_pages(s, hk_capture_bytes());
    for (int i = 0; i < CLIENTS; i++) {
        p->client[i].data = sim_pages(s, 16 * SIM_SECTOR);
        p->client[i].read_buffer = sim_pages(s, 8 * SIM_SECTOR);
    }
}
