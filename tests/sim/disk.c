/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks with a volatile cache. A completed write is visible at once but durable only after a flush
 * that was submitted after its completion; WRITE_DSYNC is durable when done. At a power cut each
 * sector independently keeps any version it has had since it was last durable, so unflushed writes
 * survive, vanish, tear and reorder. A write in flight when its process dies arrives in parts.
 * After a failed flush the data may be gone although it still reads well.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

struct sim_ver {
    struct sim_ver *older;
    uint64_t seq;
    bool promised; /* the disk said that it is durable */
    uint8_t data[SIM_SECTOR];
};

static struct sim_ver *free_vers;
static struct sim_io *free_ios;

static struct sim_ver *ver_take(void)
{
    struct sim_ver *v = free_vers;

    if (!v) {
        struct sim_ver *many = malloc(256 * sizeof(*many));

        if (!many)
            abort();
        for (int i = 0; i < 256; i++) {
            many[i].older = free_vers;
            free_vers = &many[i];
        }
        v = free_vers;
    }
    free_vers = v->older;
    return v;
}

static void ver_give(struct sim_ver *v)
{
    v->older = free_vers;
    free_vers = v;
}

static void drop_chain(struct sim_ver *v)
{
    while (v) {
        struct sim_ver *older = v->older;

        ver_give(v);
        v = older;
    }
}

static void clean_sector(struct sim_file *f, uint32_t sector)
{
    uint32_t at = f->dirty_at[sector], last;

    if (at == 0)
        return;
    last = f->dirty[--f->dirty_count];
    f->dirty[at - 1] = last;
    f->dirty_at[last] = at;
    f->dirty_at[sector] = 0;
}

static void settle(struct sim_file *f, uint32_t sector, const uint8_t *data)
{
    memcpy(f->dur + (size_t)sector * SIM_SECTOR, data, SIM_SECTOR);
    if (f->good != f->dur)
        memcpy(f->good + (size_t)sector * SIM_SECTOR, data, SIM_SECTOR);
}

/* What lies beyond was never written, and need not be made zero again. */
static void use(struct sim_file *f, uint64_t end)
{
    if (f->used < end)
        f->used = end;
}

static void write_sector(struct sim *s, struct sim_file *f, uint32_t sector, const uint8_t *data,
                         enum sim_put put)
{
    use(f, (sector + 1ull) * SIM_SECTOR);
    memcpy(f->cur + (size_t)sector * SIM_SECTOR, data, SIM_SECTOR);
    if (put == PUT_DURABLE) {
        settle(f, sector, data);
        if (f->head[sector]) {
            drop_chain(f->head[sector]);
            f->head[sector] = NULL;
            clean_sector(f, sector);
        }
        return;
    }
    struct sim_ver *v = ver_take();

    v->older = f->head[sector];
    v->seq = ++s->disk_seq;
    v->promised = put == PUT_PROMISED;
    if (v->promised)
        memcpy(f->good + (size_t)sector * SIM_SECTOR, data, SIM_SECTOR);
    memcpy(v->data, data, SIM_SECTOR);
    f->head[sector] = v;
    if (f->dirty_at[sector] == 0) {
        f->dirty[f->dirty_count++] = sector;
        f->dirty_at[sector] = f->dirty_count;
    }
}

/* Everything up to seq becomes durable; or is said to; or, the flush having failed, never will. */
void sim_disk_flush(struct sim_file *f, uint64_t seq, enum sim_flush how)
{
    for (uint32_t i = f->dirty_count; i-- > 0;) {
        uint32_t sector = f->dirty[i];
        struct sim_ver **at = &f->head[sector];

        while (*at && (*at)->seq > seq)
            at = &(*at)->older;
        if (!*at)
            continue;
        if (how == FLUSH_LIE) {
            (*at)->promised = true;
            memcpy(f->good + (size_t)sector * SIM_SECTOR, (*at)->data, SIM_SECTOR);
            continue;
        }
        if (how == FLUSH_HONEST)
            settle(f, sector, (*at)->data);
        drop_chain(*at);
        *at = NULL;
        if (!f->head[sector])
            clean_sector(f, sector);
    }
}

/* Byte `off` of the op's buffers; a sector never straddles two of them here, but it may. */
static const uint8_t *sector_bytes(const struct sim_io *io, uint64_t off, uint8_t tmp[SIM_SECTOR])
{
    uint32_t i = 0;
    size_t got = 0;

    while (off >= io->iov[i].bytes)
        off -= io->iov[i++].bytes;
    if (io->iov[i].bytes - off >= SIM_SECTOR)
        return (const uint8_t *)io->iov[i].base + off;
    while (got < SIM_SECTOR) {
        size_t n = io->iov[i].bytes - off;

        if (n > SIM_SECTOR - got)
            n = SIM_SECTOR - got;
        memcpy(tmp + got, (const uint8_t *)io->iov[i].base + off, n);
        got += n;
        off = 0;
        i++;
    }
    return tmp;
}

static const uint8_t zero_sector[SIM_SECTOR];

static bool is_write(enum hk_disk_kind k)
{
    return k == HK_DISK_WRITE || k == HK_DISK_WRITE_DSYNC || k == HK_DISK_PUNCH;
}

/* The common case: a durable write into a file with nothing volatile. */
static void write_through(struct sim_io *io)
{
    uint64_t at = io->offset;

    for (uint32_t i = 0; i < io->iov_count; i++) {
        memcpy(io->file->cur + at, io->iov[i].base, io->iov[i].bytes);
        memcpy(io->file->dur + at, io->iov[i].base, io->iov[i].bytes);
        if (io->file->good != io->file->dur)
            memcpy(io->file->good + at, io->iov[i].base, io->iov[i].bytes);
        at += io->iov[i].bytes;
    }
    use(io->file, at);
}

/* part_ppm: chance of each sector (or page) to arrive. */
void sim_disk_write(struct sim *s, struct sim_io *io, enum sim_put put, uint32_t part_ppm)
{
    uint8_t tmp[SIM_SECTOR];
    uint32_t arrived = 0, count = (uint32_t)(io->bytes / SIM_SECTOR);
    bool arrives = true;

    if (put == PUT_DURABLE && part_ppm == SIM_ALL_PPM && io->file->dirty_count == 0 &&
        io->kind != HK_DISK_PUNCH) {
        write_through(io);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *data = zero_sector;

        if (part_ppm < SIM_ALL_PPM && (!s->o.tear4k || (io->offset / SIM_SECTOR + i) % 8 == 0))
            arrives = rng_ppm(&s->rng_disk, part_ppm);
        if (!arrives)
            continue;
        if (io->kind != HK_DISK_PUNCH)
            data = sector_bytes(io, (uint64_t)i * SIM_SECTOR, tmp);
        write_sector(s, io->file, (uint32_t)(io->offset / SIM_SECTOR) + i, data, put);
        arrived++;
    }
    if (arrived && arrived < count)
        sim_struck(s, s->o.tear4k ? F_TORN_4096 : F_TORN_WRITE);
}

/* Past the cache of the node: what a failed flush took with it is not there. */
void sim_disk_direct(const struct sim_io *io)
{
    uint8_t *to = io->iov[0].base;

    for (uint64_t at = 0; at < io->bytes; at += SIM_SECTOR) {
        uint64_t sector = (io->offset + at) / SIM_SECTOR;
        const uint8_t *data = io->file->dur + sector * SIM_SECTOR;

        memcpy(to + at, io->file->head[sector] ? io->file->head[sector]->data : data, SIM_SECTOR);
    }
}

int sim_disk_may_hold(const struct sim_file *f, uint32_t sector, uint8_t *ret_values, int max)
{
    const uint8_t *data = f->good + (size_t)sector * SIM_SECTOR;
    int n = 0;

    ret_values[n++] = (uint8_t)pattern_identify(data, f->volume, sector);
    /* What it has promised is what an honest disk holds; older versions don't come back. */
    for (const struct sim_ver *v = f->head[sector]; v && n < max && !v->promised; v = v->older)
        ret_values[n++] = (uint8_t)pattern_identify(v->data, f->volume, sector);
    return n;
}

void sim_disk_fill(struct sim_io *io, uint64_t bytes)
{
    uint64_t at = io->offset;

    for (uint32_t i = 0; i < io->iov_count && bytes; i++) {
        uint64_t n = hk_min_u64(io->iov[i].bytes, bytes);

        memcpy(io->iov[i].base, io->file->cur + at, n);
        at += n;
        bytes -= n;
    }
}

static void unlink_io(struct sim_io *io)
{
    *(io->prev ? &io->prev->next : &io->proc->io) = io->next;
    if (io->next)
        io->next->prev = io->prev;
}

static void io_give(struct sim_io *io)
{
    io->gen++;
    io->busy = false;
    io->next = free_ios;
    free_ios = io;
}

static void told(struct sim *s, uint64_t a, void *p)
{
    struct sim_io *io = p;
    struct sim_io copy;

    if (!io->busy || io->gen != a)
        return;
    unlink_io(io);
    copy = *io;
    io_give(io);
    copy.done(s, &copy);
}

static void complete(struct sim *s, uint64_t a, void *p)
{
    struct sim_io *io = p;

    if (!io->busy || io->gen != a)
        return;
    damage_perform(s, io);
    if (io->file == &s->md && is_write(io->kind))
        dmap_written(s, io->offset, io->bytes);
    if (io->file == &s->md && io->kind == HK_DISK_FLUSH)
        dmap_look_again(s);
    if (io->file->kind == C_JOURNAL && io->kind != HK_DISK_READ)
        naive_segment_written(s, io->file, io->offset, io->bytes);
    if (io->file->kind == C_JOURNAL && io->kind == HK_DISK_FLUSH)
        naive_look_again(s);
    if (io->file->kind == C_REPLICA && is_write(io->kind))
        check_replica_write(s, io);
    if (io->proc->paused_until > s->now)
        sim_at(s, io->proc->paused_until, io->proc, told, a, io);
    else
        told(s, a, io);
}

void sim_io_submit(struct sim *s, struct sim_proc *proc, struct sim_file *f, enum hk_disk_kind kind,
                   uint64_t offset, uint64_t bytes, const struct hk_iovec *iov, uint32_t iov_count,
                   void (*done)(struct sim *, struct sim_io *), void *ctx, uint64_t a)
{
    struct sim_io *io = free_ios;
    uint64_t delay = rng_around(&s->rng_disk, f->kind == C_MD ? s->o.md_ns : s->o.disk_ns[f->site]);

    if (io)
        free_ios = io->next;
    else if (!(io = calloc(1, sizeof(*io))))
        abort();
    if (kind <= HK_DISK_WRITE_DSYNC || kind == HK_DISK_PUNCH) {
        bool sectors = f->kind == C_REPLICA || f->kind == C_ORIGIN || f->kind == C_SNAPSHOT;
        uint64_t unit = sectors ? 512 : 4096;

        SIM_CHECK(s, "I16",
                  offset % unit == 0 && bytes % unit == 0 && bytes > 0 && offset <= f->bytes &&
                      bytes <= f->bytes - offset,
                  "disk op %d outside its file or unaligned: class %d [%llu, +%llu)", kind, f->kind,
                  (unsigned long long)offset, (unsigned long long)bytes);
    }
    io->busy = true;
    io->kind = kind;
    io->file = f;
    io->proc = proc;
    io->offset = offset;
    io->bytes = bytes;
    io->seq = s->disk_seq;
    io->iov_count = iov_count;
    if (iov_count)
        memcpy(io->iov, iov, iov_count * sizeof(*iov));
    io->result = 0;
    io->done = done;
    io->ctx = ctx;
    io->a = a;
    io->prev = NULL;
    io->next = proc->io;
    if (io->next)
        io->next->prev = io;
    proc->io = io;
    if (s->faults_on && rng_ppm(&s->rng_disk, s->o.ppm[F_DISK_SLOW])) {
        sim_struck(s, F_DISK_SLOW);
        delay *= rng_range(&s->rng_disk, 10, 1000);
        if (delay > 3 * NS_S)
            delay = 3 * NS_S;
    }
    sim_at(s, s->now + delay, NULL, complete, io->gen, io);
}

/* The process is dead: what it had in flight arrives or not, sector by sector. */
void sim_io_abandon(struct sim *s, struct sim_proc *proc)
{
    while (proc->io) {
        struct sim_io *io = proc->io;

        /* Requests given to the kernel mostly go through. */
        if (is_write(io->kind)) {
            uint32_t all = (uint32_t)rng_below(&s->rng_disk, 3);

            sim_disk_write(s, io, PUT_VOLATILE,
                           all == 0   ? 0
                           : all == 1 ? SIM_ALL_PPM
                                      : (uint32_t)rng_below(&s->rng_disk, SIM_ALL_PPM));
        }
        unlink_io(io);
        io_give(io);
    }
}

/* What of a sector's versions is left: 0 the newest … n none of them. */
static uint64_t draw_survivor(struct sim *s, uint32_t sector, uint32_t n, uint32_t mode)
{
    uint64_t pick = rng_below(&s->rng_disk, n + 1);

    if (mode == 0)
        return n;
    if (mode == 1)
        return 0;
    return s->o.tear4k ? rng_mix(sector / 8 + s->disk_seq) % (n + 1) : pick;
}

/* Version `pick` of the sector is what it durably holds; an honest disk keeps what it promised. */
static void survive(struct sim *s, struct sim_file *f, uint32_t sector, uint64_t pick)
{
    bool promised = false;
    struct sim_ver *v = f->head[sector];

    for (; v && pick > 0; pick--) {
        promised = promised || v->promised;
        v = v->older;
    }
    if (v)
        memcpy(f->dur + (size_t)sector * SIM_SECTOR, v->data, SIM_SECTOR);
    if (promised)
        damage_hurt(s, f, sector);
    else if (v && f->good != f->dur)
        memcpy(f->good + (size_t)sector * SIM_SECTOR, v->data, SIM_SECTOR);
    drop_chain(f->head[sector]);
    f->head[sector] = NULL;
    clean_sector(f, sector);
}

static void cut_file(struct sim *s, struct sim_file *f)
{
    uint32_t mode = (uint32_t)rng_below(&s->rng_disk, 4);
    uint64_t lost = 0, oldest_lost = UINT64_MAX, newest_kept = 0, hurt = f->hurt_count;

    while (f->dirty_count) {
        uint32_t sector = f->dirty[f->dirty_count - 1], n = 0;
        struct sim_ver *v;
        uint64_t pick;

        for (v = f->head[sector]; v; v = v->older)
            n++;
        pick = draw_survivor(s, sector, n, mode);
        if (pick > 0 && f->head[sector]->seq < oldest_lost)
            oldest_lost = f->head[sector]->seq;
        if (pick == 0 && f->head[sector]->seq > newest_kept)
            newest_kept = f->head[sector]->seq;
        lost += pick > 0;
        survive(s, f, sector, pick);
    }
    s->st.fault[F_LOST_SECTORS] += lost;
    s->st.fault[F_REORDERED] += oldest_lost < newest_kept;
    s->st.fault[F_LYING_FLUSH] += f->hurt_count > hurt;
    memcpy(f->cur, f->dur, f->used);
    f->durable_changes++;
    if (f == &s->md)
        dmap_look_again(s);
}

void sim_disk_each(struct sim *s, unsigned site, void (*fn)(struct sim *, struct sim_file *))
{
    if (site == 0) {
        for (int v = 0; v < SIM_VOLUMES; v++)
            fn(s, &s->origin[v]);
        fn(s, &s->md);
        fn(s, &s->spool_dir);
        for (uint32_t i = 0; i < s->o.spool_segments; i++)
            fn(s, &s->spool[i]);
        return;
    }
    fn(s, &s->super);
    fn(s, &s->pmd);
    fn(s, &s->journal_dir);
    for (int v = 0; v < SIM_VOLUMES; v++)
        fn(s, &s->replica[v]);
    for (uint32_t i = 0; i < s->o.segment_count; i++)
        fn(s, &s->segment[i]);
    fn(s, &s->snapshot_dir);
    for (uint32_t i = 0; i < s->o.snapshots; i++)
        for (int v = 0; v <= SIM_VOLUMES; v++)
            fn(s, &s->snapshot[i][v]);
}

void sim_power_cut(struct sim *s, unsigned site)
{
    sim_disk_each(s, site, cut_file);
    damage_power_cut(s, site);
}

static void make_file(struct sim *s, struct sim_file *f, enum sim_class kind, uint8_t site,
                      uint16_t volume, uint64_t bytes)
{
    uint32_t sectors = (uint32_t)(bytes / SIM_SECTOR);

    memset(f, 0, sizeof(*f));
    f->kind = kind;
    f->site = site;
    f->volume = volume;
    f->bytes = bytes;
    f->cur = sim_pages(s, bytes);
    f->dur = sim_pages(s, bytes);
    f->good = f->dur;
    /* Superblocks are also put there by hand, and damage strikes anywhere. */
    f->used = (kind == C_JOURNAL || kind == C_SPOOL) && !s->o.damage ? 0 : bytes;
    if (s->o.damage) {
        f->good = sim_pages(s, bytes);
        f->hurt = sim_alloc(s, sectors * sizeof(*f->hurt));
        f->is_hurt = sim_alloc(s, sectors * sizeof(*f->is_hurt));
        f->is_read = sim_alloc(s, sectors * sizeof(*f->is_read));
    }
    f->head = sim_alloc(s, sectors * sizeof(*f->head));
    f->dirty = sim_alloc(s, sectors * sizeof(*f->dirty));
    f->dirty_at = sim_alloc(s, sectors * sizeof(*f->dirty_at));
}

void sim_disk_setup(struct sim *s)
{
    uint64_t vol = (uint64_t)grow_capacity(s) * SIM_SECTOR;

    s->disk_seq = 0;
    for (uint16_t v = 0; v < SIM_VOLUMES; v++) {
        make_file(s, &s->origin[v], C_ORIGIN, 0, v, vol);
        make_file(s, &s->replica[v], C_REPLICA, 1, v, vol);
        grow_fill(s, &s->origin[v]);
        grow_fill(s, &s->replica[v]);
    }
    make_file(s, &s->md, C_MD, 0, 0, dmap_file_bytes(s));
    make_file(s, &s->spool_dir, C_SPOOL, 0, 0, 4096);
    for (uint32_t i = 0; i < s->o.spool_segments; i++)
        make_file(s, &s->spool[i], C_SPOOL, 0, 0, s->o.segment_bytes);
    make_file(s, &s->super, C_SUPER, 1, 0, 2 * HK_SUPER_BYTES + 65536);
    make_file(s, &s->journal_dir, C_JOURNAL, 1, 0, 4096);
    make_file(s, &s->pmd, C_SUPER, 1, 0, 2 * HK_SUPER_BYTES + 65536);
    for (uint32_t i = 0; i < s->o.segment_count; i++)
        make_file(s, &s->segment[i], C_JOURNAL, 1, 0, s->o.segment_bytes);
    make_file(s, &s->snapshot_dir, C_SNAPSHOT, 1, 0, 4096);
    for (uint32_t i = 0; i < s->o.snapshots; i++) {
        make_file(s, &s->snapshot[i][0], C_SNAPSHOT, 1, 0, (1 + SIM_VOLUMES) * HK_PAGE_BYTES);
        for (uint16_t v = 0; v < SIM_VOLUMES; v++)
            make_file(s, &s->snapshot[i][1 + v], C_SNAPSHOT, 1, v, hk_round_up(vol, HK_PAGE_BYTES));
    }
}

/* Gives pooled versions back when a run ends in the middle of things. */
static void forget_file(struct sim *s, struct sim_file *f)
{
    (void)s;
    while (f->head && f->dirty_count) {
        uint32_t sector = f->dirty[f->dirty_count - 1];

        drop_chain(f->head[sector]);
        f->head[sector] = NULL;
        clean_sector(f, sector);
    }
    if (f->cur) {
        sim_pages_touched(f->cur, f->used);
        sim_pages_touched(f->dur, f->used);
    }
}

void sim_disk_forget(struct sim *s)
{
    struct sim_proc *procs[] = {&s->cap.proc, &s->rep.proc, &s->sby.proc, promoted_proc(s),
                                image_proc(s)};

    sim_disk_each(s, 0, forget_file);
    sim_disk_each(s, 1, forget_file);
    for (int i = 0; i < 5; i++) {
        while (procs[i]->io) {
            struct sim_io *io = procs[i]->io;

            unlink_io(io);
            io_give(io);
        }
    }
}
