/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The application: a few clients on two small volumes, writing few distinct contents to few places,
 * so that writes overlap and contents come back. Some read and act on what they have read.
 */
#include <string.h>

#include "tests/sim/world.h"

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

/*
 * What was read is what a correct disk returns, whether or not anything of it was captured, also
 * after capture was killed or the site lost power.
 */
static void check_read(struct sim *s, const struct sim_client *c)
{
    const struct vol_read *r = &s->reads[c->index];

    if (s->vol_void || s->origin_failed || s->memory_lied)
        return;
    for (uint32_t k = 0; k < r->count; k++) {
        unsigned sector = r->first + k;
        int got = pattern_identify(c->read_buffer + (size_t)k * SIM_SECTOR, r->volume, sector);

        if (damage_at(&s->origin[r->volume], (uint64_t)sector * SIM_SECTOR, SIM_SECTOR))
            continue;
        SIM_CHECK(s, "I7", got >= 0 && r->may[k] >> got & 1,
                  "a read of volume %u sector %u returned %d; no correct disk would (mask %x)",
                  r->volume, sector, got, r->may[k]);
    }
}

static void read_done(struct sim *s, struct sim_io *io)
{
    struct sim_client *c = io->ctx;
    const struct ref_sector *h;

    c->reading = false;
    s->st.reads++;
    if (io->result == 0)
        check_read(s, c);
    vol_read_ends(s->volumes, &s->reads[c->index]);
    c->rmw = io->result == 0 && s->o.rmw_pct > c->read_sector % 100;
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
        SIM_CHECK(s, "I4", ok || s->cap.uncaptured || s->ref.epoch_count > 1,
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
    uint32_t size;

    c->read_volume = (uint32_t)rng_below(&s->rng_work, SIM_VOLUMES);
    size = grow_now(s, c->read_volume);
    c->read_sector = (uint32_t)rng_below(&s->rng_work, size);
    c->read_count = (uint32_t)rng_range(&s->rng_work, 1, 8);
    if (c->read_count > size - c->read_sector)
        c->read_count = size - c->read_sector;
    for (unsigned k = 0; k < c->read_count; k++)
        c->read_base[k] = oldest_readable(s, c->read_volume, c->read_sector + k);
    c->reading = true;
    vol_read_begins(s->volumes, &s->reads[c->index], c->read_volume, c->read_sector, c->read_count);
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
    uint32_t max = grow_now(s, op->op.volume), n = (uint32_t)rng_range(&s->rng_work, 1, 8), at;

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
    if (c->rmw) {
        c->rmw = false;
        sim_struck(s, F_RMW);
        op->op.type = HK_REC_WRITE;
        op->op.volume = (uint16_t)c->read_volume;
        op->op.offset = (uint64_t)c->read_sector * SIM_SECTOR;
        op->op.length = c->read_count * SIM_SECTOR;
        op->v1 = op->v2 = (uint8_t)((c->read_value + 1) % s->o.values);
        return;
    }
    draw_range(s, op);
    if (s->o.region_shift)
        op->op.length = (uint32_t)hk_min_u64(op->op.length,
                                             hk_capture_op_bytes_max(&s->cap.cfg, op->op.offset));
    op->v1 = draw_value(s);
    op->v2 = draw_value(s);
    /* Acts on what it has read: a later state of the volume depends on an earlier one. */
    if (c->act_on && rng_below(&s->rng_work, 3) == 0)
        op->v1 = (uint8_t)((c->read_value + 1) % s->o.values);
    op->mask = rng_next(&s->rng_work);
    if (rng_below(&s->rng_work, 10) == 0)
        op->op.flags = HK_REC_FUA;
}

static uint32_t op_first(const struct sim_op *op)
{
    return (uint32_t)(op->op.offset / SIM_SECTOR);
}

static void model_begins(struct sim *s, struct sim_client *c)
{
    uint8_t values[SIM_SECTORS_MAX];
    const struct sim_op *op = &c->op;

    c->flush_step = s->volumes->step;
    if (op->op.type == HK_REC_FLUSH)
        return;
    for (uint32_t i = 0; i < op->op.length / SIM_SECTOR; i++)
        values[i] = op_value(op, op_first(op) + i);
    vol_write_begins(s->volumes, op->op.volume, op_first(op), op->op.length / SIM_SECTOR, values);
}

static void model_ends(struct sim *s, const struct sim_op *op, int result)
{
    if (op->op.type != HK_REC_FLUSH)
        vol_write_ends(s->volumes, op->op.volume, op_first(op), op->op.length / SIM_SECTOR,
                       result == 0, op->op.flags & HK_REC_FUA);
    else if (result == 0)
        vol_flush_ended(s->volumes, op->op.volume, op->client->flush_step);
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
    model_begins(s, c);
    cap_submit(s, &c->op);
}

void app_off_the_list(struct sim *s, struct sim_op *op)
{
    op->next->prev = op->prev;
    op->prev->next = op->next;
    op->begun = false;
    s->cap.in_flight--;
}

void app_done(struct sim *s, struct sim_op *op, int result)
{
    model_ends(s, op, result);
    app_off_the_list(s, op);
    op->client->busy = false;
    again(s, op->client, s->o.speedy ? 1 : think(s));
}

/* The capture process is gone: what was under way may have happened or not. */
void app_all_lost(struct sim *s)
{
    vol_cut_short(s->volumes);
    for (uint32_t i = 0; i < s->o.clients; i++) {
        struct sim_client *c = &s->client[i];
        bool was = c->busy || c->reading;

        if (c->op.begun)
            app_off_the_list(s, &c->op);
        c->busy = c->reading = false;
        if (was)
            again(s, c, 10 * NS_MS);
    }
}

/* Nobody remembers that ops behind it had completed: what is under way need not come after them. */
void app_forgotten(struct sim *s, uint64_t lsn)
{
    s->local_done_end = hk_min_u64(s->local_done_end, lsn);
    for (uint32_t i = 0; i < s->o.clients; i++)
        s->client[i].op.floor_end = hk_min_u64(s->client[i].op.floor_end, lsn);
}

/* The origin lost its cache: anything since the last flush may be read again. */
void app_power_lost(struct sim *s)
{
    vol_power_lost(s->volumes);
    for (int v = 0; v < SIM_VOLUMES; v++)
        for (uint32_t i = 0; i < grow_now(s, (unsigned)v); i++) {
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
    s->volumes = sim_alloc(s, sizeof(*s->volumes));
    s->reads = sim_alloc(s, SIM_CLIENTS_MAX * sizeof(*s->reads));
    vol_learn(s, s->volumes, s->origin);
    for (uint32_t i = 0; i < s->o.clients; i++) {
        s->client[i].index = i;
        s->client[i].op.data = sim_pages(s, SIM_OP_BYTES_MAX);
        s->client[i].read_buffer = sim_pages(s, 8 * SIM_SECTOR);
        again(s, &s->client[i], rng_below(&s->rng_work, 20 * NS_MS));
    }
}
