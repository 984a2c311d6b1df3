/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of frozen images, as `hikae restore` is one: a process of its own that reads a piece of
 * the replica and then asks the standby whether the image still stands. A piece read before a
 * positive answer belongs to the image (I14), whatever failed or was started anew meanwhile.
 */
#include <string.h>

#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

enum { PIECE = 8 };

struct sim_image {
    struct sim_proc proc;
    bool active;
    char name[HK_NAME_BYTES];
    uint64_t lsn;
    bool of_pin;
    uint32_t volume, sector, patience;
    uint8_t *buffer;
};

struct sim_proc *image_proc(struct sim *s)
{
    return &s->image->proc;
}

static void next_piece(struct sim *s);

static void compare(struct sim *s, const struct sim_image *m)
{
    if (s->standby_suspect || s->loss_found || s->forked || m->lsn < s->freeze_void)
        return;
    for (uint32_t i = 0; i < PIECE; i++) {
        uint32_t sector = m->sector + i;
        int got = pattern_identify(m->buffer + (size_t)i * SIM_SECTOR, m->volume, sector);
        int want = ref_value_at(s, m->volume, sector, m->lsn);

        if (damage_at(&s->replica[m->volume], (uint64_t)sector * SIM_SECTOR, SIM_SECTOR))
            continue;
        SIM_CHECK(s, "I14", got == want,
                  "a restore of the image at LSN %llu reads %d from volume %u sector %u, it is %d",
                  ULL(m->lsn), got, m->volume, sector, want);
    }
}

/* The answer of a daemon that is down or stands still has to be waited for. */
static void ask(struct sim *s, uint64_t a, void *p)
{
    struct sim_image *m = s->image;
    struct hk_group_status *st = &s->status;
    struct hk_now now = sim_clock(s, 1);

    (void)a;
    (void)p;
    if (!s->sby.proc.up || s->sby.proc.paused_until >= s->now) {
        m->active = m->patience-- > 0;
        if (m->active)
            sim_at(s, s->now + 20 * NS_MS, NULL, ask, 0, NULL);
        return;
    }
    hk_group_status(s->sby.g, &now, st);
    if (!st->ready) {
        sim_at(s, s->now + 5 * NS_MS, NULL, ask, 0, NULL);
        return;
    }
    m->active = st->frozen && st->freeze_lsn.v == m->lsn &&
                memcmp(st->freeze_name, m->name, HK_NAME_BYTES) == 0;
    if (!m->active)
        return;
    compare(s, m);
    s->st.image_checks++;
    m->sector += PIECE;
    if (m->sector >= grow_at(s, m->volume, m->lsn)) {
        m->sector = 0;
        m->volume++;
    }
    if (m->volume < SIM_VOLUMES) {
        next_piece(s);
        return;
    }
    m->active = false;
    sim_struck(s, F_RESTORED);
}

/* Of a pin: the replica was read first, now the bits are tested. False: there is no such pin. */
static bool before_images(struct sim *s)
{
    struct sim_image *m = s->image;
    int slot = check_pin_slot(s);

    if (slot < 0 || s->snapshot[slot][0].hurt_count || s->snapshot[slot][1 + m->volume].hurt_count)
        return false;
    for (uint32_t i = 0; i < PIECE; i++) {
        uint8_t *to = m->buffer + (size_t)i * SIM_SECTOR;
        const uint8_t *from = check_pin_sector(s, slot, m->volume, m->sector + i, to);

        if (from != to)
            memcpy(to, from, SIM_SECTOR);
    }
    return true;
}

static void piece_read(struct sim *s, struct sim_io *io)
{
    if (io->result) {
        s->image->active = false;
        return;
    }
    if (s->image->of_pin && !before_images(s)) {
        s->image->active = false;
        return;
    }
    sim_at(s, s->now + rng_around(&s->rng_world, s->o.ipc_ns), NULL, ask, 0, NULL);
}

static void next_piece(struct sim *s)
{
    struct sim_image *m = s->image;
    struct hk_iovec iov = {m->buffer, (size_t)PIECE * SIM_SECTOR};

    m->patience = 50;
    sim_io_submit(s, &m->proc, &s->replica[m->volume], HK_DISK_READ,
                  (uint64_t)m->sector * SIM_SECTOR, iov.bytes, &iov, 1, piece_read, NULL, 0);
}

void image_strike(struct sim *s)
{
    struct sim_image *m = s->image;

    if (m->active || !s->sby.frozen || s->sby.promoted)
        return;
    m->active = true;
    memcpy(m->name, s->sby.freeze_name, HK_NAME_BYTES);
    m->lsn = s->sby.freeze_lsn;
    m->of_pin = s->sby.freeze_of_pin;
    m->volume = m->sector = 0;
    next_piece(s);
}

void image_setup(struct sim *s)
{
    s->image = sim_alloc(s, sizeof(*s->image));
    s->image->proc.name = "restore";
    s->image->proc.site = 1;
    s->image->proc.up = true;
    s->image->buffer = sim_pages(s, PIECE * SIM_SECTOR);
}
