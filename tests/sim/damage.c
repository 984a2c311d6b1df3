/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that do something else than what they were asked: errors (once, or from then on), transfers
 * cut short, no space, sectors that can't be read, writes that go astray, flushes that lie; and
 * what happens to bytes that nobody touches: rot, damaged superblock slots.
 *
 * Every file keeps beside what it durably holds (dur) what an honest disk would hold in its place
 * (good). The judges hold the product to `good`: what it said rests on what the disk promised.
 * Where the two differ a sector is hurt, until it is written again; budget.c says what that voids.
 */
#include <errno.h>
#include <string.h>

#include "proto/dmap.h"
#include "tests/sim/sim.h"

static uint8_t *at_sector(uint8_t *base, uint32_t sector)
{
    return base + (size_t)sector * SIM_SECTOR;
}

static bool differs(const struct sim_file *f, uint32_t sector)
{
    return f->head[sector] == NULL &&
           memcmp(at_sector(f->dur, sector), at_sector(f->good, sector), SIM_SECTOR) != 0;
}

void damage_hurt(struct sim *s, struct sim_file *f, uint32_t sector)
{
    if (memcmp(at_sector(f->dur, sector), at_sector(f->good, sector), SIM_SECTOR) == 0)
        return;
    s->damaged[1] |= 1u << f->kind;
    f->is_read[sector] = false;
    if (f->is_hurt[sector])
        return;
    f->is_hurt[sector] = true;
    f->hurt[f->hurt_count++] = sector;
}

/* Would a read return what an honest disk would not? */
bool damage_at(const struct sim_file *f, uint64_t offset, uint64_t bytes)
{
    if (f->hurt_count == 0)
        return false;
    for (uint64_t i = offset / SIM_SECTOR; i * SIM_SECTOR < offset + bytes; i++)
        if (f->is_hurt[i] && differs(f, (uint32_t)i))
            return true;
    return false;
}

/* A process has seen what the disk holds there instead. */
void damage_read(struct sim_file *f, uint64_t offset, uint64_t bytes)
{
    for (uint64_t i = offset / SIM_SECTOR; i * SIM_SECTOR < offset + bytes; i++)
        if (f->is_hurt[i] && differs(f, (uint32_t)i))
            f->is_read[i] = true;
}

/* What was seen is the truth; what came to harm since, or where nobody looked, is still hurt. */
void damage_accept_read(struct sim_file *f)
{
    for (uint32_t k = 0; k < f->hurt_count; k++) {
        uint32_t i = f->hurt[k];

        if (f->is_read[i] && differs(f, i))
            damage_accept(f, (uint64_t)i * SIM_SECTOR, SIM_SECTOR);
        f->is_read[i] = false;
    }
}

/* Healed ones leave the list on the way. */
bool damage_any(const struct sim_file *f)
{
    for (uint32_t i = 0; i < f->hurt_count; i++)
        if (differs(f, f->hurt[i]))
            return true;
    return false;
}

/* From here on what the disk holds is the truth there. */
void damage_accept(struct sim_file *f, uint64_t offset, uint64_t bytes)
{
    if (f->good != f->dur && bytes)
        memcpy(f->good + offset, f->dur + offset, bytes);
}

/* ---- where something strikes ---- */

static struct sim_file *file_of_class(struct sim *s, enum sim_class c)
{
    switch (c) {
    case C_ORIGIN: return &s->origin[rng_below(&s->rng_disk, SIM_VOLUMES)];
    case C_MD: return &s->md;
    case C_SUPER: return rng_below(&s->rng_disk, 8) && !s->sby.promoted ? &s->super : &s->pmd;
    case C_JOURNAL: return &s->segment[rng_below(&s->rng_disk, s->o.segment_count)];
    case C_REPLICA: return &s->replica[rng_below(&s->rng_disk, SIM_VOLUMES)];
    case C_SNAPSHOT:
        return &s->snapshot[rng_below(&s->rng_disk, s->o.snapshots)]
                           [rng_below(&s->rng_disk, 1 + SIM_VOLUMES)];
    case C_SPOOL: return &s->spool[rng_below(&s->rng_disk, s->o.spool_segments)];
    case C_CLASSES: break;
    }
    return &s->md;
}

/* A sector of one of the newest batches, of a segment's header, or just any. */
static uint32_t journal_sector(struct sim *s, struct sim_file **ret)
{
    const struct naive_journal *j = &s->nj;
    const struct naive_batch *b;
    uint64_t back, pages;

    if (j->count == 0 || rng_below(&s->rng_disk, 12) == 0)
        return (uint32_t)rng_below(&s->rng_disk, 8);
    back = rng_below(&s->rng_disk, 3) ? rng_below(&s->rng_disk, 24) : 0;
    b = &j->batch[j->count - 1 - (back < j->count ? back : j->count - 1)];
    *ret = &s->segment[b->seg];
    pages = ((b->end + 4095) & ~4095ull) - (b->first & ~4095ull);
    if (rng_below(&s->rng_disk, 3) == 0) /* its header */
        return (uint32_t)(b->at / SIM_SECTOR + rng_below(&s->rng_disk, 8));
    return (uint32_t)((b->at + 4096 + rng_below(&s->rng_disk, pages)) / SIM_SECTOR);
}

static uint32_t newest_slot(const struct sim_file *f)
{
    struct hk_super super;

    return naive_super(f, true, &super) ? (uint32_t)(super.sequence & 1) : 0;
}

static uint32_t slot_sector(struct sim *s, const struct sim_file *f)
{
    uint32_t slot = newest_slot(f), in = HK_SUPER_BYTES / SIM_SECTOR;

    if (rng_below(&s->rng_disk, 3) == 0)
        slot ^= 1;
    /* Most of a slot is zeroes that the hash covers; the facts are in its first sectors. */
    return slot * in + (uint32_t)(rng_below(&s->rng_disk, 2) ? rng_below(&s->rng_disk, 4)
                                                             : rng_below(&s->rng_disk, in));
}

/* UINT32_MAX: nothing to strike at this moment. */
static uint32_t target(struct sim *s, enum sim_class c, struct sim_file **ret)
{
    struct sim_file *f = file_of_class(s, c);
    uint32_t sector;

    if (c == C_JOURNAL)
        sector = journal_sector(s, &f);
    else if (c == C_MD || c == C_SUPER)
        sector = slot_sector(s, f);
    else
        sector = (uint32_t)rng_below(&s->rng_disk, f->bytes / SIM_SECTOR);
    *ret = f;
    return f->head[sector] ? UINT32_MAX : sector;
}

static enum sim_class draw_class(struct sim *s)
{
    enum sim_class c;

    do {
        c = (enum sim_class)rng_below(&s->rng_disk, C_CLASSES);
    } while (!(s->o.damage_classes & 1u << c));
    return c;
}

/* ---- bytes that change by themselves ---- */

static void change_bytes(struct sim *s, struct sim_file *f, uint32_t sector)
{
    uint8_t *b = at_sector(f->dur, sector);
    uint32_t at;

    switch (rng_below(&s->rng_disk, 4)) {
    case 0: rng_flip(&s->rng_disk, b, SIM_SECTOR); break;
    case 1:
        at = (uint32_t)rng_below(&s->rng_disk, SIM_SECTOR);
        b[at] ^= (uint8_t)rng_range(&s->rng_disk, 1, 255);
        break;
    case 2: memset(b, 0, SIM_SECTOR); break;
    case 3:
        for (int i = 0; i < SIM_SECTOR; i++)
            b[i] = (uint8_t)rng_next(&s->rng_disk);
        break;
    }
    memcpy(at_sector(f->cur, sector), b, SIM_SECTOR);
    damage_hurt(s, f, sector);
}

static enum sim_fault rot_fault(enum sim_class c)
{
    switch (c) {
    case C_ORIGIN: return F_ROT_ORIGIN;
    case C_MD: return F_ROT_MD;
    case C_SUPER: return F_ROT_SUPER;
    case C_JOURNAL: return F_ROT_JOURNAL;
    case C_REPLICA: return F_ROT_REPLICA;
    case C_SNAPSHOT: break;
    case C_SPOOL: return F_ROT_SPOOL;
    case C_CLASSES: break;
    }
    return F_FAULTS;
}

static void rot(struct sim *s, enum sim_class c)
{
    struct sim_file *f;
    uint32_t sector = target(s, c, &f);

    if (sector == UINT32_MAX)
        return;
    change_bytes(s, f, sector);
    if (c == C_SPOOL)
        s->spool_error = true;
    sim_struck(s, rot_fault(c));
    sim_trace(s, "rot  class %llu sector %llu seg %llu", c, sector,
              c == C_JOURNAL ? (uint64_t)(f - s->segment) : f->volume);
}

static void make_latent(struct sim *s)
{
    struct sim_file *f;
    enum sim_class c = draw_class(s);
    uint32_t sector = target(s, c, &f);

    if (sector == UINT32_MAX || f->latent_count == SIM_LATENT_MAX)
        return;
    f->latent[f->latent_count++] = sector;
    sim_trace(s, "late class %llu sector %llu", c, sector, 0);
}

void damage_strike(struct sim *s, enum sim_fault kind)
{
    switch (kind) {
    case F_ROT_JOURNAL: rot(s, C_JOURNAL); break;
    case F_ROT_SUPER: rot(s, C_SUPER); break;
    case F_ROT_MD: rot(s, C_MD); break;
    case F_ROT_REPLICA: rot(s, C_REPLICA); break;
    case F_ROT_ORIGIN: rot(s, C_ORIGIN); break;
    case F_LATENT: make_latent(s); break;
    case F_ROT_SPOOL: rot(s, C_SPOOL); break;
    case F_PIN_NOSPC: s->pin_nospc_until = s->now + rng_range(&s->rng_disk, 20, 400) * NS_MS; break;
    default: break;
    }
}

/* While a node is down its superblocks come to harm: the newest slot, the other one, or both. */
static void damage_slot(struct sim *s, struct sim_file *f, uint32_t slot)
{
    uint32_t in = HK_SUPER_BYTES / SIM_SECTOR, at = slot * in, n = in;

    if (rng_below(&s->rng_disk, 2)) {
        at += (uint32_t)rng_below(&s->rng_disk, 16);
        n = 1;
    }
    for (uint32_t i = at; i < at + n; i++)
        change_bytes(s, f, i);
}

void damage_power_cut(struct sim *s, unsigned site)
{
    struct sim_file *f = site == 0 ? &s->md : &s->super;
    uint32_t slot = newest_slot(f) ^ (rng_below(&s->rng_disk, 4) == 0);

    if (!s->faults_on || !(s->o.damage_classes & 1u << f->kind))
        return;
    if (rng_ppm(&s->rng_disk, s->o.ppm[F_SLOT_ONE])) {
        damage_slot(s, f, slot);
        sim_struck(s, F_SLOT_ONE);
    } else if (rng_ppm(&s->rng_disk, s->o.ppm[F_SLOT_BOTH])) {
        damage_slot(s, f, 0);
        damage_slot(s, f, 1);
        sim_struck(s, F_SLOT_BOTH);
    } else {
        return;
    }
    sim_trace(s, "slot damaged at site %llu (newest %llu)", site, slot, 0);
}

/* ---- operations that go wrong ---- */

static bool is_write(enum hk_disk_kind k)
{
    return k == HK_DISK_WRITE || k == HK_DISK_WRITE_DSYNC || k == HK_DISK_PUNCH;
}

static enum sim_fault eio_kind(const struct sim_file *f)
{
    switch (f->kind) {
    case C_ORIGIN: return F_EIO_ORIGIN;
    case C_MD: return F_EIO_MD;
    case C_SUPER: return F_EIO_SUPER;
    case C_JOURNAL: return F_EIO_JOURNAL;
    case C_REPLICA: return F_EIO_REPLICA;
    case C_SNAPSHOT: return F_EIO_SNAPSHOT;
    case C_SPOOL: return F_EIO_SPOOL;
    case C_CLASSES: break;
    }
    return F_FAULTS;
}

static void fail(struct sim *s, struct sim_io *io, int result)
{
    io->result = result;
    if (io->file->site == 1)
        s->st_eio = true;
    if (io->file->kind == C_MD)
        s->md_error = true;
    sim_trace(s, "eio %llu kind %llu at %llu", io->file->kind, io->kind, io->offset);
}

/* Some of it may have arrived. A failed flush may take the data with it. */
static void fail_io(struct sim *s, struct sim_io *io, int error)
{
    fail(s, io, error);
    if (is_write(io->kind) && error == -EIO)
        sim_disk_write(s, io, PUT_VOLATILE, (uint32_t)rng_below(&s->rng_disk, SIM_ALL_PPM + 1));
    if (io->kind != HK_DISK_FLUSH)
        return;
    io->file->flush_failures++;
    if (!s->o.flush_eio_dooms)
        return;
    sim_disk_flush(io->file, io->seq, FLUSH_DOOMED);
    if (io->proc == &s->sby.proc && (io->file->kind == C_JOURNAL || io->file->kind == C_SUPER))
        s->sby.doomed = true;
}

static void trim(struct sim_io *io, uint64_t bytes)
{
    uint32_t i = 0;

    io->bytes = bytes;
    for (; bytes > io->iov[i].bytes; i++)
        bytes -= io->iov[i].bytes;
    io->iov[i].bytes = bytes;
    io->iov_count = i + 1;
}

/* The first sectors only. Below the standby's seam that is a count, elsewhere io makes it -EIO. */
static bool cut_short(struct sim *s, struct sim_io *io)
{
    uint64_t count = io->bytes / SIM_SECTOR, whole = io->bytes, n;
    struct sim_io part = *io;

    if ((io->kind != HK_DISK_READ && io->kind != HK_DISK_WRITE &&
         io->kind != HK_DISK_WRITE_DSYNC) ||
        count < 2)
        return false;
    n = rng_range(&s->rng_disk, 1, count - 1);
    trim(&part, n * SIM_SECTOR);
    fail(s, io, io->proc == &s->sby.proc && whole < INT32_MAX ? (int)part.bytes : -EIO);
    if (io->kind == HK_DISK_READ) {
        sim_disk_fill(io, part.bytes);
        sim_struck(s, F_SHORT_READ);
        return true;
    }
    sim_disk_write(s, &part, io->kind == HK_DISK_WRITE ? PUT_VOLATILE : PUT_DURABLE, SIM_ALL_PPM);
    sim_struck(s, F_SHORT_WRITE);
    return true;
}

static void make_sticky(struct sim *s, struct sim_file *f)
{
    static const uint32_t reads = 1u << HK_DISK_READ,
                          writes = 1u << HK_DISK_WRITE | 1u << HK_DISK_WRITE_DSYNC |
                                   1u << HK_DISK_PUNCH | 1u << HK_DISK_FLUSH;

    switch (rng_below(&s->rng_disk, 3)) {
    case 0: f->dead |= reads; break;
    case 1: f->dead |= writes; break;
    default: f->dead |= reads | writes; break;
    }
}

/* An error drawn for this operation: once, from now on, or a part of it done. */
static void some_error(struct sim *s, struct sim_io *io)
{
    if (rng_below(&s->rng_disk, 100) < s->o.sticky_pct)
        make_sticky(s, io->file);
    if (rng_below(&s->rng_disk, 100) < s->o.short_pct && cut_short(s, io))
        return;
    sim_struck(s, eio_kind(io->file));
    fail_io(s, io, -EIO);
}

static bool hits_latent(const struct sim_io *io)
{
    for (uint32_t i = 0; i < io->file->latent_count; i++) {
        uint64_t at = (uint64_t)io->file->latent[i] * SIM_SECTOR;

        if (at >= io->offset && at < io->offset + io->bytes)
            return true;
    }
    return false;
}

static void heal_latent(struct sim_io *io)
{
    struct sim_file *f = io->file;

    for (uint32_t i = f->latent_count; i-- > 0;) {
        uint64_t at = (uint64_t)f->latent[i] * SIM_SECTOR;

        if (at >= io->offset && at < io->offset + io->bytes)
            f->latent[i] = f->latent[--f->latent_count];
    }
}

static bool all_clean(const struct sim_file *f, uint64_t offset, uint64_t bytes)
{
    for (uint64_t i = offset / SIM_SECTOR; i * SIM_SECTOR < offset + bytes; i++)
        if (f->head[i])
            return false;
    return true;
}

/* Where the write goes instead: the other slot, a place near by, anywhere. */
static uint64_t elsewhere(struct sim *s, const struct sim_io *io)
{
    const struct sim_file *f = io->file;
    uint64_t unit = f->kind == C_REPLICA || f->kind == C_ORIGIN ? SIM_SECTOR : 4096;
    uint64_t span = f->bytes;

    if ((f->kind == C_MD || f->kind == C_SUPER) && io->offset < HK_DMAP_LOG_AT)
        return io->offset ^ HK_SUPER_BYTES;
    if (f->kind == C_JOURNAL && rng_below(&s->rng_disk, 2))
        span = hk_min_u64(span, io->offset + io->bytes + 65536);
    if (span <= io->bytes)
        return io->offset;
    return rng_below(&s->rng_disk, (span - io->bytes) / unit + 1) * unit;
}

/* Completes well; the bytes are in another place, durably. */
static bool misdirect(struct sim *s, struct sim_io *io)
{
    struct sim_file *f = io->file;
    struct sim_io astray = *io;
    uint64_t to;

    if (!is_write(io->kind) || io->kind == HK_DISK_PUNCH || !(s->o.damage_classes & 1u << f->kind))
        return false;
    to = elsewhere(s, io);
    if ((to < io->offset + io->bytes && io->offset < to + io->bytes) ||
        !all_clean(f, io->offset, io->bytes) || !all_clean(f, to, io->bytes))
        return false;
    for (uint64_t i = 0, at = 0; i < io->iov_count; at += io->iov[i++].bytes) {
        memcpy(f->good + io->offset + at, io->iov[i].base, io->iov[i].bytes);
        memcpy(f->dur + to + at, io->iov[i].base, io->iov[i].bytes);
        memcpy(f->cur + to + at, io->iov[i].base, io->iov[i].bytes);
    }
    for (uint64_t at = 0; at < io->bytes; at += SIM_SECTOR) {
        damage_hurt(s, f, (uint32_t)((io->offset + at) / SIM_SECTOR));
        damage_hurt(s, f, (uint32_t)((to + at) / SIM_SECTOR));
    }
    astray.offset = to;
    heal_latent(&astray);
    s->vanished |= 1u << f->kind;
    f->durable_changes++;
    sim_struck(s, F_MISDIRECTED);
    sim_trace(s, "astr class %llu write for %llu went to %llu", f->kind, io->offset, to);
    return true;
}

static void perform(struct sim *s, struct sim_io *io, bool lies)
{
    struct sim_file *f = io->file;

    switch (io->kind) {
    case HK_DISK_READ:
        sim_disk_fill(io, io->bytes);
        budget_read(s, io);
        break;
    case HK_DISK_WRITE:
    case HK_DISK_PUNCH: sim_disk_write(s, io, PUT_VOLATILE, SIM_ALL_PPM); break;
    case HK_DISK_WRITE_DSYNC:
        sim_disk_write(s, io, lies ? PUT_PROMISED : PUT_DURABLE, SIM_ALL_PPM);
        f->durable_changes++;
        break;
    case HK_DISK_FLUSH:
        sim_disk_flush(f, io->seq, lies ? FLUSH_LIE : FLUSH_HONEST);
        f->durable_changes++;
        break;
    /* Names are for people: recovery goes by the headers. */
    case HK_DISK_RENAME:
    case HK_DISK_CREATE:
    case HK_DISK_ALLOC:
    case HK_DISK_UNLINK:
    case HK_DISK_SYNC_DIR: break;
    }
    if (f->latent_count && is_write(io->kind))
        heal_latent(io);
    if (lies)
        s->vanished |= 1u << f->kind;
}

/* Faults that only the files of snapshots and spool have. */
static bool own_fault(struct sim *s, struct sim_io *io)
{
    struct sim_file *f = io->file;
    enum sim_fault cut = f->kind == C_SPOOL ? F_SHORT_SPOOL : F_SHORT_SNAPSHOT;
    bool index = f->bytes == (1 + SIM_VOLUMES) * HK_PAGE_BYTES;

    if (f->kind != C_SNAPSHOT && f->kind != C_SPOOL)
        return false;
    if (f->kind == C_SNAPSHOT && s->now < s->pin_nospc_until && io->kind == HK_DISK_WRITE &&
        !index) {
        sim_struck(s, F_PIN_NOSPC);
        fail_io(s, io, -ENOSPC);
        return true;
    }
    if (!rng_ppm(&s->rng_disk, s->o.ppm[cut]) || !cut_short(s, io))
        return false;
    sim_struck(s, cut);
    return true;
}

void damage_perform(struct sim *s, struct sim_io *io)
{
    struct sim_file *f = io->file;
    bool about_data = io->kind != HK_DISK_SYNC_DIR && io->kind != HK_DISK_RENAME;
    bool lies = false;

    if (about_data && f->latent_count && io->kind == HK_DISK_READ && hits_latent(io)) {
        sim_struck(s, F_LATENT);
        s->damaged[0] |= 1u << f->kind;
        fail_io(s, io, -EIO);
        return;
    }
    if (s->faults_on) {
        if (f->dead & 1u << io->kind) {
            sim_struck(s, F_EIO_STICKY);
            fail_io(s, io, -EIO);
            return;
        }
        if (own_fault(s, io))
            return;
        if (about_data && rng_ppm(&s->rng_disk, s->o.ppm[eio_kind(f)])) {
            some_error(s, io);
            return;
        }
        /* An index is written whole before it counts: room for it is there. */
        if (is_write(io->kind) &&
            (f->kind != C_SNAPSHOT || f->bytes != (1 + SIM_VOLUMES) * HK_PAGE_BYTES) &&
            s->o.ppm[F_ENOSPC] && rng_ppm(&s->rng_disk, s->o.ppm[F_ENOSPC])) {
            sim_struck(s, F_ENOSPC);
            fail_io(s, io, -ENOSPC);
            return;
        }
        if (s->o.damage && f->kind != C_SPOOL && rng_ppm(&s->rng_disk, s->o.ppm[F_MISDIRECTED]) &&
            misdirect(s, io))
            return;
        lies = s->o.damage && (io->kind == HK_DISK_WRITE_DSYNC || io->kind == HK_DISK_FLUSH) &&
               (s->o.damage_classes & 1u << f->kind) &&
               rng_ppm(&s->rng_disk, s->o.ppm[F_LYING_FLUSH]);
    }
    perform(s, io, lies);
}

static void revive(struct sim *s, struct sim_file *f)
{
    (void)s;
    f->dead = 0;
}

/* Cables are plugged in again; what the media have lost stays lost. */
void damage_stops(struct sim *s)
{
    sim_disk_each(s, 0, revive);
    sim_disk_each(s, 1, revive);
}
