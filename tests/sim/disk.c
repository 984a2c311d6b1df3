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

#include "tests/sim/sim.h"

struct sim_ver {
    struct sim_ver *older;
    uint64_t seq;
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

static void write_sector(struct sim *s, struct sim_file *f, uint32_t sector, const uint8_t *data,
                         bool durable)
{
    memcpy(f->cur + (size_t)sector * SIM_SECTOR, data, SIM_SECTOR);
    if (durable) {
        memcpy(f->dur + (size_t)sector * SIM_SECTOR, data, SIM_SECTOR);
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
    memcpy(v->data, data, SIM_SECTOR);
    f->head[sector] = v;
    if (f->dirty_at[sector] == 0) {
        f->dirty[f->dirty_count++] = sector;
        f->dirty_at[sector] = f->dirty_count;
    }
}

/* Everything up to seq becomes durable; or, after a failed flush of an evil disk, never will. */
static void flush_upto(struct sim_file *f, uint64_t seq, bool doomed)
{
    for (uint32_t i = f->dirty_count; i-- > 0;) {
        uint32_t sector = f->dirty[i];
        struct sim_ver **at = &f->head[sector];

        while (*at && (*at)->seq > seq)
            at = &(*at)->older;
        if (!*at)
            continue;
        if (!doomed)
            memcpy(f->dur + (size_t)sector * SIM_SECTOR, (*at)->data, SIM_SECTOR);
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
        at += io->iov[i].bytes;
    }
}

/* part_ppm: chance of each sector to arrive; 1000000 for all of them. */
static void do_write(struct sim *s, struct sim_io *io, bool durable, uint32_t part_ppm)
{
    uint8_t tmp[SIM_SECTOR];
    uint32_t arrived = 0, count = (uint32_t)(io->bytes / SIM_SECTOR);

    if (durable && part_ppm == 1000000 && io->file->dirty_count == 0) {
        write_through(io);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *data = zero_sector;

        if (part_ppm < 1000000 && !rng_ppm(&s->rng_disk, part_ppm))
            continue;
        if (io->kind != HK_DISK_PUNCH)
            data = sector_bytes(io, (uint64_t)i * SIM_SECTOR, tmp);
        write_sector(s, io->file, (uint32_t)(io->offset / SIM_SECTOR) + i, data, durable);
        arrived++;
    }
    if (arrived && arrived < count)
        sim_struck(s, F_TORN_WRITE);
}

static void do_read(struct sim_io *io)
{
    uint64_t at = io->offset;

    for (uint32_t i = 0; i < io->iov_count; i++) {
        memcpy(io->iov[i].base, io->file->cur + at, io->iov[i].bytes);
        at += io->iov[i].bytes;
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

static enum sim_fault eio_kind(const struct sim_file *f)
{
    switch (f->kind) {
    case C_ORIGIN: return F_EIO_ORIGIN;
    case C_MD: return F_EIO_MD;
    case C_SUPER: return F_EIO_SUPER;
    case C_JOURNAL: return F_EIO_JOURNAL;
    case C_REPLICA: return F_EIO_REPLICA;
    case C_CLASSES: break;
    }
    abort();
}

static void perform(struct sim *s, struct sim_io *io)
{
    struct sim_file *f = io->file;

    switch (io->kind) {
    case HK_DISK_READ: do_read(io); break;
    case HK_DISK_WRITE:
    case HK_DISK_PUNCH: do_write(s, io, false, 1000000); break;
    case HK_DISK_WRITE_DSYNC:
        do_write(s, io, true, 1000000);
        f->durable_changes++;
        break;
    case HK_DISK_FLUSH:
        flush_upto(f, io->seq, false);
        f->durable_changes++;
        break;
    /* Names are for people: recovery goes by the headers. */
    case HK_DISK_RENAME:
    case HK_DISK_CREATE:
    case HK_DISK_ALLOC:
    case HK_DISK_UNLINK:
    case HK_DISK_SYNC_DIR: break;
    }
}

static void fail_io(struct sim *s, struct sim_io *io)
{
    io->result = -EIO;
    if (io->file->site == 1)
        s->st_eio = true;
    sim_struck(s, eio_kind(io->file));
    if (is_write(io->kind))
        do_write(s, io, false, (uint32_t)rng_below(&s->rng_disk, 1000001));
    if (io->kind == HK_DISK_FLUSH) {
        io->file->flush_failures++;
        if (s->o.flush_eio_dooms)
            flush_upto(io->file, io->seq, true);
    }
    sim_trace(s, "eio %llu kind %llu at %llu", io->file->kind, io->kind, io->offset);
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
    if (s->faults_on && io->kind != HK_DISK_SYNC_DIR && io->kind != HK_DISK_RENAME &&
        rng_ppm(&s->rng_disk, s->o.ppm[eio_kind(io->file)]))
        fail_io(s, io);
    else
        perform(s, io);
    if (io->file->kind == C_JOURNAL && io->kind != HK_DISK_READ)
        naive_segment_written(s, io->file, io->offset, io->bytes);
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
        uint64_t unit = f->kind == C_REPLICA || f->kind == C_ORIGIN ? 512 : 4096;

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

            do_write(s, io, false,
                     all == 0   ? 0
                     : all == 1 ? 1000000
                                : (uint32_t)rng_below(&s->rng_disk, 1000000));
        }
        unlink_io(io);
        io_give(io);
    }
}

static void cut_file(struct sim *s, struct sim_file *f)
{
    uint32_t mode = (uint32_t)rng_below(&s->rng_disk, 4);
    uint64_t lost = 0;

    while (f->dirty_count) {
        uint32_t sector = f->dirty[f->dirty_count - 1], n = 0;
        struct sim_ver *v;
        uint64_t pick;

        for (v = f->head[sector]; v; v = v->older)
            n++;
        pick = rng_below(&s->rng_disk, n + 1); /* 0: newest … n: none of them */
        if (mode == 0)
            pick = n;
        else if (mode == 1)
            pick = 0;
        else if (s->o.tear4k)
            pick = rng_mix(sector / 8 + s->disk_seq) % (n + 1);
        lost += pick > 0;
        for (v = f->head[sector]; v && pick > 0; pick--)
            v = v->older;
        if (v)
            memcpy(f->dur + (size_t)sector * SIM_SECTOR, v->data, SIM_SECTOR);
        drop_chain(f->head[sector]);
        f->head[sector] = NULL;
        clean_sector(f, sector);
    }
    s->st.fault[F_LOST_SECTORS] += lost;
    memcpy(f->cur, f->dur, f->bytes);
    f->durable_changes++;
}

static void for_each_file(struct sim *s, unsigned site, void (*fn)(struct sim *, struct sim_file *))
{
    if (site == 0) {
        for (int v = 0; v < SIM_VOLUMES; v++)
            fn(s, &s->origin[v]);
        fn(s, &s->md);
        return;
    }
    fn(s, &s->super);
    fn(s, &s->pmd);
    fn(s, &s->journal_dir);
    for (int v = 0; v < SIM_VOLUMES; v++)
        fn(s, &s->replica[v]);
    for (uint32_t i = 0; i < s->o.segment_count; i++)
        fn(s, &s->segment[i]);
}

void sim_power_cut(struct sim *s, unsigned site)
{
    for_each_file(s, site, cut_file);
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
    f->head = sim_alloc(s, sectors * sizeof(*f->head));
    f->dirty = sim_alloc(s, sectors * sizeof(*f->dirty));
    f->dirty_at = sim_alloc(s, sectors * sizeof(*f->dirty_at));
}

void sim_disk_setup(struct sim *s)
{
    uint64_t vol = (uint64_t)s->o.sectors * SIM_SECTOR;

    s->disk_seq = 0;
    for (uint16_t v = 0; v < SIM_VOLUMES; v++) {
        make_file(s, &s->origin[v], C_ORIGIN, 0, v, vol);
        make_file(s, &s->replica[v], C_REPLICA, 1, v, vol);
    }
    make_file(s, &s->md, C_MD, 0, 0, 2 * HK_SUPER_BYTES + 65536);
    make_file(s, &s->super, C_SUPER, 1, 0, 2 * HK_SUPER_BYTES + 65536);
    make_file(s, &s->journal_dir, C_JOURNAL, 1, 0, 4096);
    make_file(s, &s->pmd, C_SUPER, 1, 0, 2 * HK_SUPER_BYTES + 65536);
    for (uint32_t i = 0; i < s->o.segment_count; i++)
        make_file(s, &s->segment[i], C_JOURNAL, 1, 0, s->o.segment_bytes);
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
}

void sim_disk_forget(struct sim *s)
{
    struct sim_proc *procs[] = {&s->cap.proc, &s->rep.proc, &s->sby.proc};

    for_each_file(s, 0, forget_file);
    for_each_file(s, 1, forget_file);
    for (int i = 0; i < 3; i++) {
        while (procs[i]->io) {
            struct sim_io *io = procs[i]->io;

            unlink_io(io);
            io_give(io);
        }
    }
}
