/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that grow: the operator who asks for it, what the capture process does around the core,
 * and the judge. What a volume may become is there from the start on both sides' disks and holds
 * anything but zeroes behind the volume's end. The sizes of the reference are those of the resize
 * records as they stand in the ring; nothing beyond them may be in the log, shown, or promoted.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

enum { RECORDS_MAX = 4096 };

struct sim_grow {
    struct {
        uint64_t lsn, end;
        uint32_t rec, sectors[SIM_VOLUMES];
    } said[RECORDS_MAX]; /* by the log */
    uint32_t said_count;
    uint32_t now[SIM_VOLUMES]; /* as the capture side admits them */
    uint64_t op_id;            /* of the verb that is open; 0: none */
    uint32_t volume, wanted;
    /* the capture process's work */
    bool busy;
    uint16_t job_volume;
    uint64_t job_bytes, job_lease;
};

uint32_t grow_capacity(const struct sim *s)
{
    return s->o.room_sectors ? s->o.room_sectors : s->o.sectors;
}

uint32_t grow_now(const struct sim *s, unsigned volume)
{
    return s->grow->now[volume];
}

uint32_t grow_at(const struct sim *s, unsigned volume, uint64_t lsn)
{
    const struct sim_grow *w = s->grow;

    for (uint32_t i = w->said_count; i-- > 0;) {
        uint32_t rec = w->said[i].rec;

        if (w->said[i].end > lsn || rec >= s->ref.count || s->ref.rec[rec].dead ||
            s->ref.rec[rec].lsn != w->said[i].lsn)
            continue;
        return w->said[i].sectors[volume];
    }
    return s->o.sectors;
}

/* ---- the judge ---- */

/* A resize record stands in the ring. */
void grow_record(struct sim *s, uint32_t rec)
{
    const struct ref_rec *r = &s->ref.rec[rec];
    const struct hk_super *there = sby_durable(s);
    struct sim_grow *w = s->grow;
    struct hk_resize sizes;

    while (w->said_count && w->said[w->said_count - 1].rec >= rec)
        w->said_count--;
    SIM_CHECK(s, "I16", w->said_count < RECORDS_MAX, "too many resize records for a run");
    memcpy(&sizes, r->ctl, sizeof(sizes));
    w->said[w->said_count].lsn = r->lsn;
    w->said[w->said_count].end = r->end;
    w->said[w->said_count].rec = rec;
    for (unsigned v = 0; v < SIM_VOLUMES; v++) {
        uint64_t bytes = sizes.bytes[v], room = hk_super_room(&there->volume[v]);

        SIM_CHECK(s, "I1", bytes == md_durable(s)->volume[v].bytes,
                  "the log says that volume %u has %llu bytes, the metadata durably say %llu", v,
                  ULL(bytes), ULL(md_durable(s)->volume[v].bytes));
        SIM_CHECK(s, "I10",
                  s->standby_suspect || s->no_super[1] || s->vanished || s->sby.promoted ||
                      bytes <= room || bytes <= (uint64_t)w->now[v] * SIM_SECTOR,
                  "volume %u grows to %llu bytes, the standby durably has room for %llu", v,
                  ULL(bytes), ULL(room));
        w->said[w->said_count].sectors[v] = (uint32_t)(bytes / SIM_SECTOR);
    }
    w->said_count++;
}

void grow_check_op(struct sim *s, const struct ref_rec *r)
{
    uint64_t bytes = (uint64_t)grow_at(s, r->volume, r->lsn) * SIM_SECTOR;

    SIM_CHECK(
        s, "I3", r->offset + r->length <= bytes,
        "a record at LSN %llu reaches to %llu of volume %u, which the log says has %llu bytes",
        ULL(r->lsn), ULL(r->offset + r->length), r->volume, ULL(bytes));
}

/* Do the standby's durable sizes go with its durable position? */
void grow_check_standby(struct sim *s, const char *when)
{
    const struct hk_super *super = sby_durable(s);
    uint64_t lsn =
        super->flags & (HK_SF_PROMOTING | HK_SF_PROMOTED) ? super->promote_lsn : super->applied;

    if (s->standby_suspect || s->no_super[1] || s->sby.hole_from || s->forked || s->vanished ||
        (super->flags & HK_SF_PROMOTING) || lsn == 0)
        return;
    for (unsigned v = 0; v < SIM_VOLUMES; v++)
        SIM_CHECK(s, "I10",
                  super->volume[v].bytes == (uint64_t)grow_at(s, v, ref_norm(s, lsn)) * SIM_SECTOR,
                  "%s: at LSN %llu volume %u has %u sectors, the standby durably says %llu", when,
                  ULL(lsn), v, grow_at(s, v, ref_norm(s, lsn)),
                  ULL(super->volume[v].bytes / SIM_SECTOR));
}

/* ---- the capture process ---- */

/* What the core admits now; what is new reads as zeroes, and did so durably before. */
void grow_seen(struct sim *s)
{
    for (unsigned v = 0; v < SIM_VOLUMES; v++) {
        uint32_t sectors = (uint32_t)(hk_capture_volume_bytes(s->cap.c, (uint16_t)v) / SIM_SECTOR);

        for (uint32_t i = s->grow->now[v]; i < sectors; i++)
            s->volumes->sector[v][i] = (struct vol_sector){.may = 1, .medium = 1};
        if (sectors != s->grow->now[v])
            sim_trace(s, "size of volume %llu: %llu sectors", v, sectors, 0);
        s->grow->now[v] = sectors;
    }
}

static void answer(struct sim *s, int error)
{
    struct ipc_msg r = {.error = error, .conn = s->cap.conn};

    s->grow->busy = false;
    if (s->cap.sink && error)
        fifo_push(s, &s->c2r, rng_around(&s->rng, s->o.ipc_ns), &s->rep.proc, rep_ipc, IPC_RESIZED,
                  &r, sizeof(r));
}

static void flushed(struct sim *s, struct sim_io *io)
{
    struct hk_now now = sim_clock(s, 0);
    struct sim_grow *w = s->grow;
    int rc = io->result;

    if (rc)
        s->origin_suspect = s->origin_failed = true;
    else
        rc = hk_capture_resize(s->cap.c, w->job_lease, w->job_volume, w->job_bytes, &now);
    sim_trace(s, "grow volume %llu to %llu: %lld", w->job_volume, w->job_bytes,
              (uint64_t)(int64_t)rc);
    answer(s, rc);
    cap_pump(s);
}

static void zeroed(struct sim *s, struct sim_io *io)
{
    if (io->result) {
        s->origin_suspect = s->origin_failed = true;
        answer(s, io->result);
        cap_pump(s);
        return;
    }
    sim_io_submit(s, &s->cap.proc, io->file, HK_DISK_FLUSH, 0, 0, NULL, 0, flushed, NULL, 0);
}

void grow_ask(struct sim *s, const struct ipc_msg *m)
{
    struct sim_grow *w = s->grow;
    int rc = w->busy ? -EBUSY : hk_capture_may_resize(s->cap.c, m->lease, m->volume, m->bytes);
    uint64_t from;

    if (rc) {
        bool busy = w->busy;

        if (rc != -EALREADY)
            answer(s, rc);
        w->busy = busy;
        return;
    }
    w->busy = true;
    w->job_lease = m->lease;
    w->job_volume = m->volume;
    w->job_bytes = m->bytes;
    from = hk_capture_volume_bytes(s->cap.c, m->volume);
    sim_io_submit(s, &s->cap.proc, &s->origin[m->volume], HK_DISK_PUNCH, from, m->bytes - from,
                  NULL, 0, zeroed, NULL, 0);
}

void grow_capture_gone(struct sim *s)
{
    s->grow->busy = false;
}

/* ---- the operator ---- */

void grow_strike(struct sim *s)
{
    struct hk_event e = {.type = HK_EV_VERB};
    struct sim_grow *w = s->grow;
    unsigned v = (unsigned)rng_below(&s->rng_world, SIM_VOLUMES);
    uint32_t left = grow_capacity(s) - w->now[v], by = 8 * (uint32_t)rng_range(&s->rng_world, 1, 4);

    if (!s->rep.proc.up || left == 0)
        return;
    w->volume = v;
    w->wanted = w->now[v] + (uint32_t)hk_min_u64(by, left);
    w->op_id = ++s->op_ids;
    e.verb.kind = HK_VERB_RESIZE;
    e.verb.op_id = w->op_id;
    e.verb.volume = v;
    e.verb.bytes = (uint64_t)w->wanted * SIM_SECTOR;
    sim_trace(s, "verb resize of volume %llu to %llu sectors", v, w->wanted, 0);
    rep_event(s, &e);
}

void grow_verb_done(struct sim *s, const struct hk_action *a)
{
    struct sim_grow *w = s->grow;

    if (a->verb_done.op_id != w->op_id || w->op_id == 0)
        return;
    w->op_id = 0;
    if (a->verb_done.error)
        return;
    sim_struck(s, F_RESIZE);
    SIM_CHECK(s, "I18", w->now[w->volume] >= w->wanted || s->vanished || s->forked,
              "volume %u is said to have grown to %u sectors, it has %u", w->volume, w->wanted,
              w->now[w->volume]);
    SIM_CHECK(s, "I18",
              s->standby_suspect || s->no_super[1] || s->vanished || s->sby.promoted ||
                  hk_super_room(&sby_durable(s)->volume[w->volume]) >=
                      (uint64_t)w->wanted * SIM_SECTOR,
              "volume %u is said to have grown, the standby durably has no room for it", w->volume);
}

void grow_fill(struct sim *s, struct sim_file *f)
{
    for (uint32_t i = s->o.sectors; i < grow_capacity(s); i++) {
        const uint8_t *junk = pattern(f->volume, i, (uint8_t)(1 + i % (SIM_VALUES - 1)));

        memcpy(f->cur + (size_t)i * SIM_SECTOR, junk, SIM_SECTOR);
        memcpy(f->dur + (size_t)i * SIM_SECTOR, junk, SIM_SECTOR);
        memcpy(f->good + (size_t)i * SIM_SECTOR, junk, SIM_SECTOR);
    }
}

void grow_setup(struct sim *s)
{
    s->grow = sim_alloc(s, sizeof(*s->grow));
    for (unsigned v = 0; v < SIM_VOLUMES; v++)
        s->grow->now[v] = s->o.sectors;
}
