/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The application: a few clients on two small volumes, writing few distinct contents to few places,
 * so that writes overlap and contents come back. Some read and act on what they have read.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define ULL(x) ((unsigned long long)(x))

uint8_t op_value(const struct sim_op *op, unsigned sector)
{
    unsigned i = sector - (unsigned)(op->op.offset / SIM_SECTOR);

    if (op->op.type != HK_REC_WRITE)
        return 0;
    return op->mask >> (i & 63) & 1 ? op->v2 : op->v1;
}

void op_fill(const struct sim_op *op, uint8_t *to)
{
    unsigned first = (unsigned)(op->op.offset / SIM_SECTOR), n = op->op.length / SIM_SECTOR;

    for (unsigned i = 0; i < n; i++)
        memcpy(to + (size_t)i * SIM_SECTOR,
               pattern(op->op.volume, first + i, op_value(op, first + i)), SIM_SECTOR);
}

static void again(struct sim *s, struct sim_client *c, uint64_t delay)
{
    sim_at(s, s->now + delay, NULL, app_go, c->index, NULL);
}

static uint64_t think(struct sim *s)
{
    return rng_around(&s->rng_work, s->o.think_us * NS_US);
}

/* ---- reading ---- */

/* Before this version nothing may be read any more: it has been written completely. */
static uint32_t oldest_readable(struct sim *s, unsigned vol, unsigned sector)
{
    struct ref_sector *h = &s->ref.sector[vol][sector];

    for (uint32_t i = h->count; i-- > 0;)
        if (s->ref.rec[h->v[i].rec].local_done)
            return i + 1;
    return 0;
}

static void read_done(struct sim *s, struct sim_io *io)
{
    struct sim_client *c = io->ctx;
    const struct ref_sector *h;

    c->reading = false;
    s->st.reads++;
    for (unsigned k = 0; k < c->read_count && io->result == 0 && !s->origin_suspect; k++) {
        unsigned sector = c->read_sector + k;
        int got = pattern_identify(c->read_buffer + (size_t)k * SIM_SECTOR, c->read_volume, sector);
        uint32_t from = c->read_base[k];
        bool ok = from == 0 && got == 0;

        h = &s->ref.sector[c->read_volume][sector];
        /* base − 1 is the newest version that was complete before the read began. */
        for (uint32_t i = from ? from - 1 : 0; i < h->count && !ok; i++)
            ok = h->v[i].value == got;
        if (damage_at(&s->origin[c->read_volume], (uint64_t)sector * SIM_SECTOR, SIM_SECTOR))
            continue;
        SIM_CHECK(s, "I4", ok || s->cap.uncaptured,
                  "a read of volume %u sector %u returned %d, not what was written last",
                  c->read_volume, sector, got);
        if (got >= 0)
            c->read_value = (uint8_t)got;
    }
    again(s, c, think(s) / 4);
}

static void start_read(struct sim *s, struct sim_client *c)
{
    struct hk_iovec iov;

    c->read_volume = (uint32_t)rng_below(&s->rng_work, SIM_VOLUMES);
    c->read_sector = (uint32_t)rng_below(&s->rng_work, s->o.sectors);
    c->read_count = (uint32_t)rng_range(&s->rng_work, 1, 8);
    if (c->read_count > s->o.sectors - c->read_sector)
        c->read_count = s->o.sectors - c->read_sector;
    for (unsigned k = 0; k < c->read_count; k++)
        c->read_base[k] = oldest_readable(s, c->read_volume, c->read_sector + k);
    c->reading = true;
    iov = (struct hk_iovec){c->read_buffer, c->read_count * (size_t)SIM_SECTOR};
    sim_io_submit(s, &s->cap.proc, &s->origin[c->read_volume], HK_DISK_READ,
                  (uint64_t)c->read_sector * SIM_SECTOR, iov.bytes, &iov, 1, read_done, c, 0);
}

/* ---- writing ---- */

static uint8_t draw_value(struct sim *s)
{
    if (rng_below(&s->rng_work, 100) < s->o.zero_pct)
        return 0;
    return (uint8_t)rng_below(&s->rng_work, s->o.values);
}

static void draw_range(struct sim *s, struct sim_op *op)
{
    uint32_t max = s->o.sectors, n = (uint32_t)rng_range(&s->rng_work, 1, 8), at;

    if (rng_below(&s->rng_work, 100) < s->o.big_pct)
        n = (uint32_t)rng_range(&s->rng_work, 1, op->op.type == HK_REC_WRITE ? 64 : max);
    if (n > max)
        n = max;
    at = (uint32_t)rng_below(&s->rng_work, max - n + 1);
    if (rng_below(&s->rng_work, 100) < s->o.align_pct) {
        n = (n + 7) / 8 * 8;
        if (n > max)
            n = max;
        at = at / 8 * 8;
        if (at + n > max)
            at = max - n;
    }
    op->op.offset = (uint64_t)at * SIM_SECTOR;
    op->op.length = n * SIM_SECTOR;
}

static void draw_op(struct sim *s, struct sim_client *c, struct sim_op *op)
{
    uint64_t kind = rng_below(&s->rng_work, 100);

    memset(&op->op, 0, sizeof(op->op));
    op->op.volume = (uint16_t)rng_below(&s->rng_work, SIM_VOLUMES);
    op->op.type = HK_REC_WRITE;
    if (kind < s->o.flush_pct)
        op->op.type = HK_REC_FLUSH;
    else if (kind < s->o.flush_pct + 8)
        op->op.type = HK_REC_ZEROES;
    else if (kind < s->o.flush_pct + 14)
        op->op.type = HK_REC_DISCARD;
    if (op->op.type == HK_REC_FLUSH)
        return;
    draw_range(s, op);
    op->v1 = draw_value(s);
    op->v2 = draw_value(s);
    /* Acts on what it has read: a later state of the volume depends on an earlier one. */
    if (c->act_on && rng_below(&s->rng_work, 3) == 0)
        op->v1 = (uint8_t)((c->read_value + 1) % s->o.values);
    op->mask = rng_next(&s->rng_work);
    if (rng_below(&s->rng_work, 10) == 0)
        op->op.flags = HK_REC_FUA;
}

void app_go(struct sim *s, uint64_t index, void *p)
{
    struct sim_client *c = &s->client[index];

    (void)p;
    if (s->quiet)
        return;
    if (!s->cap.proc.up || !s->cap.serving || s->cap.proc.paused_until > s->now) {
        again(s, c, 5 * NS_MS + rng_below(&s->rng_work, 5 * NS_MS));
        return;
    }
    if (rng_below(&s->rng_work, 100) < s->o.read_pct) {
        c->act_on = 1;
        start_read(s, c);
        return;
    }
    draw_op(s, c, &c->op);
    c->busy = true;
    c->op.client = c;
    c->op.issued_ns = s->now;
    c->op.floor_end = s->local_done_end;
    c->op.in_origin = false;
    s->st.ops++;
    cap_submit(s, &c->op);
}

static void off_the_list(struct sim *s, struct sim_op *op)
{
    op->next->prev = op->prev;
    op->prev->next = op->next;
    op->begun = false;
    s->cap.in_flight--;
}

void app_done(struct sim *s, struct sim_op *op, int result)
{
    (void)result;
    off_the_list(s, op);
    op->client->busy = false;
    again(s, op->client, s->o.speedy ? 1 : think(s));
}

/* The capture process is gone: what was under way may have happened or not. */
void app_all_lost(struct sim *s)
{
    for (uint32_t i = 0; i < s->o.clients; i++) {
        struct sim_client *c = &s->client[i];
        bool was = c->busy || c->reading;

        if (c->op.begun)
            off_the_list(s, &c->op);
        c->busy = c->reading = false;
        if (was)
            again(s, c, 10 * NS_MS);
    }
}

/* The origin lost its cache: anything since the last flush may be read again. */
void app_power_lost(struct sim *s)
{
    for (int v = 0; v < SIM_VOLUMES; v++)
        for (uint32_t i = 0; i < s->o.sectors; i++) {
            struct ref_sector *h = &s->ref.sector[v][i];
            int got = pattern_identify(s->origin[v].dur + (size_t)i * SIM_SECTOR, (unsigned)v, i);

            if (h->count == 0 || h->v[h->count - 1].value == got)
                continue;
            /* No longer the log's image: the reads' oracle ends here. */
            s->origin_suspect = true;
        }
}

void app_setup(struct sim *s)
{
    memset(s->client, 0, sizeof(s->client));
    for (uint32_t i = 0; i < s->o.clients; i++) {
        s->client[i].index = i;
        s->client[i].op.data = sim_pages(s, SIM_OP_BYTES_MAX);
        s->client[i].read_buffer = sim_pages(s, 8 * SIM_SECTOR);
        again(s, &s->client[i], rng_below(&s->rng_work, 20 * NS_MS));
    }
}
