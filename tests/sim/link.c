/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data link (frames may be lost, repeated, overtaken, damaged; old ones may come back), the
 * control connection (reliable and ordered until it breaks), and ordered message queues between
 * processes of one site.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

/* Frames not in use, kept from run to run; and those that are, in a ring. */
static struct sim_frame *free_frames, in_use = {.next = &in_use, .prev = &in_use};

static struct sim_frame *frame_take(void)
{
    struct sim_frame *f = free_frames;

    if (f)
        free_frames = f->next;
    else if (!(f = malloc(sizeof(*f))))
        abort();
    f->next = in_use.next;
    f->prev = &in_use;
    f->next->prev = f;
    in_use.next = f;
    return f;
}

void link_forget(struct sim_frame *f)
{
    f->next->prev = f->prev;
    f->prev->next = f->next;
    f->next = free_frames;
    free_frames = f;
}

struct sim_frame *link_copy(const struct sim_frame *from)
{
    struct sim_frame *f = frame_take();
    size_t at = offsetof(struct sim_frame, bad);

    memcpy((uint8_t *)f + at, (const uint8_t *)from + at,
           offsetof(struct sim_frame, bytes) + from->len - at);
    return f;
}

void link_reset(struct sim *s)
{
    memset(s->dir, 0, sizeof(s->dir));
    /* Frames under way when a run ended belong to nobody any more. */
    while (in_use.next != &in_use)
        link_forget(in_use.next);
    fifo_clear(s, &s->r2c);
    fifo_clear(s, &s->c2r);
    fifo_clear(s, &s->conn.q[0]);
    fifo_clear(s, &s->conn.q[1]);
    s->conn.id = 0;
    s->conn.open = s->conn.up[0] = s->conn.up[1] = false;
}

bool link_room(const struct sim *s, unsigned dir)
{
    return s->dir[dir].tx_free_at <= s->now + 2 * NS_MS;
}

/* Damages a frame in flight. With struct passing the tag is taken to have caught it. */
static void corrupt(struct sim *s, struct sim_frame *f)
{
    struct sim_rng *r = &s->rng_link;

    sim_struck(s, F_CORRUPT);
    f->bad = true;
    if (!s->o.real_bytes)
        return;
    switch (rng_below(r, 4)) {
    case 0: rng_flip(r, f->bytes, f->len); break;
    case 1: {
        uint32_t at = (uint32_t)rng_below(r, f->len), n = (uint32_t)rng_range(r, 1, 64);

        for (; at < f->len && n; at++, n--)
            f->bytes[at] = (uint8_t)rng_next(r);
        break;
    }
    case 2: f->len = (uint32_t)rng_below(r, f->len); break; /* truncated */
    case 3: /* a bit of the length fields, or of the clear header */
        rng_flip(r, f->bytes, f->len < 32 ? f->len : 32);
        break;
    }
}

static void truncate_frame(struct sim *s, struct sim_frame *f)
{
    sim_struck(s, F_TRUNCATE);
    f->bad = true;
    if (s->o.real_bytes && f->len)
        f->len = (uint32_t)rng_below(&s->rng_link, f->len);
}

static void arrive(struct sim *s, uint64_t dir, void *p)
{
    struct sim_proc *to = dir == 0 ? &s->sby.proc : &s->rep.proc;
    struct sim_frame *f = p;

    if (to->up && to->paused_until > s->now) {
        sim_at(s, to->paused_until, NULL, arrive, dir, f);
        return;
    }
    s->st.frames++;
    if (dir == 0)
        sby_frame(s, f);
    else
        rep_frame(s, f);
    link_forget(f);
}

static void schedule(struct sim *s, unsigned dir, struct sim_frame *f, uint64_t at)
{
    if (at < s->dir[dir].clogged_until)
        at = s->dir[dir].clogged_until;
    at += s->o.delay_ns + rng_below(&s->rng_link, s->o.jitter_ns + 1);
    if (s->faults_on && rng_ppm(&s->rng_link, s->o.ppm[F_REORDER])) {
        sim_struck(s, F_REORDER);
        at += rng_below(&s->rng_link, 20 * (s->o.delay_ns + NS_MS));
    }
    sim_at(s, at, NULL, arrive, dir, f);
}

static void keep(struct sim *s, unsigned dir, const struct sim_frame *f)
{
    struct sim_dir *d = &s->dir[dir];
    uint32_t at = d->kept_at++ % SIM_FRAMES_KEPT;

    if (d->kept[at])
        link_forget(d->kept[at]);
    d->kept[at] = link_copy(f);
}

static void replay(struct sim *s, unsigned dir)
{
    struct sim_frame *f = s->dir[dir].kept[rng_below(&s->rng_link, SIM_FRAMES_KEPT)];

    if (!f)
        return;
    sim_struck(s, F_REPLAY_OLD);
    schedule(s, dir, link_copy(f), s->now);
}

/* A copy of something sent before sets out again. */
void link_again(struct sim *s, unsigned dir, const struct sim_frame *f)
{
    schedule(s, dir, link_copy(f), s->now);
}

void link_send(struct sim *s, unsigned dir, const struct hk_frame *hdr, const uint8_t *body)
{
    struct sim_dir *d = &s->dir[dir];
    struct sim_frame *f;
    uint64_t at;

    SIM_CHECK(s, "I16", hdr->body_len <= HK_FRAME_BODY_MAX, "frame body of %u bytes",
              hdr->body_len);
    at = d->tx_free_at > s->now ? d->tx_free_at : s->now;
    d->tx_free_at = at + (hdr->body_len + 64u) * NS_S /
                             (s->o.byte_ps / (d->slow_until > s->now ? d->slow_by : 1));
    SIM_CHECK(s, "I16",
              s->ghost.runs || hdr->type != HK_FRAME_DATA ||
                  hdr->body_len <= s->path_max[hdr->path],
              "a data frame of %u bytes on a path that was said to take %u", hdr->body_len,
              s->path_max[hdr->path]);
    if (d->down_until > s->now || !weather_fits(s, dir, hdr->body_len))
        return;
    if (s->faults_on && s->o.ppm[F_REPLAY_OLD]) {
        if (rng_ppm(&s->rng_link, s->o.ppm[F_REPLAY_OLD]))
            replay(s, dir);
    }
    if (s->faults_on && rng_ppm(&s->rng_link, s->o.ppm[F_LOSS])) {
        sim_struck(s, F_LOSS);
        return;
    }
    f = frame_take();
    f->bad = false;
    f->path = hdr->path;
    f->hdr = *hdr;
    f->len = HK_FRAME_HEADER_BYTES + hdr->body_len + HK_FRAME_TAG_BYTES;
    memcpy(f->bytes, hdr, sizeof(*hdr));
    memcpy(f->bytes + HK_FRAME_HEADER_BYTES, body, hdr->body_len);
    if (s->o.real_bytes)
        hk_frame_seal_plain(f->bytes, hdr->body_len);
    if (s->o.ppm[F_REPLAY_OLD] && rng_below(&s->rng_link, 8) == 0)
        keep(s, dir, f);
    if (s->o.mean_ns[F_REPLAY_SESSION])
        weather_keep_session(s, dir, f);
    if (s->faults_on && rng_ppm(&s->rng_link, s->o.ppm[F_DUP])) {
        sim_struck(s, F_DUP);
        schedule(s, dir, link_copy(f), at);
    }
    if (s->faults_on && rng_ppm(&s->rng_link, s->o.ppm[F_CORRUPT]))
        corrupt(s, f);
    if (s->faults_on && rng_ppm(&s->rng_link, s->o.ppm[F_TRUNCATE]))
        truncate_frame(s, f);
    schedule(s, dir, f, at);
}

/*
 * What the receiving io layer does with a frame: check, open, decode. Fills the event; the frame's
 * bytes stay valid during the call only.
 */
bool link_open(struct sim *s, struct sim_frame *f, struct hk_event *e)
{
    enum hk_frame_fault fault;
    struct hk_frame hdr;

    if (s->o.real_bytes) {
        fault = hk_frame_check_clear(f->bytes, f->len);
        if (fault == HK_FRAME_OK)
            fault = hk_frame_open_plain(f->bytes, f->len);
        if (fault == HK_FRAME_OK)
            fault = hk_frame_decode(f->bytes, f->len, &hdr);
        SIM_CHECK(s, "I15",
                  !f->bad || fault != HK_FRAME_OK || memcmp(&hdr, &f->hdr, sizeof(hdr)) == 0,
                  "a damaged frame was accepted");
    } else {
        fault = f->bad ? HK_FRAME_BAD_TAG : HK_FRAME_OK;
        hdr = f->hdr;
    }
    if (fault != HK_FRAME_OK) {
        e->type = HK_EV_BAD_FRAME;
        e->bad_frame.path = f->path;
        e->bad_frame.fault = fault;
        return false;
    }
    e->type = HK_EV_FRAME_IN;
    e->frame.header = hdr;
    e->frame.body = f->bytes + HK_FRAME_HEADER_BYTES;
    return true;
}

void link_cut(struct sim *s, unsigned dir, uint64_t for_ns)
{
    if (s->dir[dir].down_until < s->now + for_ns)
        s->dir[dir].down_until = s->now + for_ns;
    sim_trace(s, "cut  direction %llu for %llu ms", dir, for_ns / NS_MS, 0);
}

/* ---- ordered queues ---- */

void fifo_push(struct sim *s, struct sim_fifo *q, uint64_t delay, struct sim_proc *to, sim_fn fn,
               uint32_t kind, const void *body, size_t bytes)
{
    struct sim_msg *m = sim_alloc(s, sizeof(*m) + bytes);

    m->kind = kind;
    m->at = s->now + delay;
    if (m->at < q->last_at)
        m->at = q->last_at;
    q->last_at = m->at;
    if (bytes)
        memcpy(m + 1, body, bytes);
    m->body = m + 1;
    if (q->last)
        q->last->next = m;
    else
        q->first = m;
    q->last = m;
    sim_at(s, m->at, to, fn, q->gen, NULL);
}

/* The oldest message; NULL when the event belongs to what was cleared meanwhile. */
struct sim_msg *fifo_pop(struct sim_fifo *q, uint64_t gen)
{
    struct sim_msg *m = q->first;

    if (gen != q->gen || !m)
        return NULL;
    q->first = m->next;
    if (!q->first)
        q->last = NULL;
    return m;
}

void fifo_clear(struct sim *s, struct sim_fifo *q)
{
    q->gen++;
    while (q->first) {
        struct sim_msg *m = q->first;

        q->first = m->next;
        sim_free(s, m);
    }
    q->last = NULL;
    q->last_at = 0;
}

/* ---- the control connection ---- */

enum { MSG_UP = 1, MSG_CONTROL, MSG_DOWN };

static void conn_deliver(struct sim *s, unsigned to_site, uint64_t gen)
{
    struct sim_fifo *q = &s->conn.q[to_site == 1 ? 0 : 1];
    struct sim_dir *d = &s->dir[to_site == 1 ? 0 : 1];
    uint64_t stuck = d->down_until > d->clogged_until ? d->down_until : d->clogged_until;
    struct hk_event e = {0};
    struct sim_msg *m;

    if (gen != q->gen || !q->first)
        return;
    /* TCP waits a partition out; only a break is learnt without the other side. */
    if (stuck > s->now && q->first->kind == MSG_CONTROL) {
        sim_at(s, stuck + NS_MS, to_site ? &s->sby.proc : &s->rep.proc,
               to_site ? conn_to_standby : conn_to_primary, gen, NULL);
        return;
    }
    m = fifo_pop(q, gen);
    if (m->kind == MSG_UP) {
        if (s->conn.up[to_site]) { /* the old one had not been noticed to be dead */
            e.type = HK_EV_CONTROL_DOWN;
            if (to_site)
                sby_event(s, &e);
            else if (!s->conn.by_ghost)
                rep_event(s, &e);
        }
        s->conn.up[to_site] = true;
        e.type = HK_EV_CONTROL_UP;
    } else if (m->kind == MSG_DOWN) {
        if (!s->conn.up[to_site]) {
            sim_free(s, m);
            return;
        }
        s->conn.up[to_site] = false;
        e.type = HK_EV_CONTROL_DOWN;
    } else {
        if (!s->conn.up[to_site]) {
            sim_free(s, m);
            return;
        }
        e.type = HK_EV_CONTROL_IN;
        e.control = m->body;
    }
    sim_trace(s, "control event %llu at site %llu (%llu)", e.type, to_site,
              e.type == HK_EV_CONTROL_IN ? e.control->type : 0);
    if (to_site && e.type == HK_EV_CONTROL_IN && e.control->type == HK_CTL_HELLO)
        check_hello(s, e.control->hello.lease);
    if (to_site)
        sby_event(s, &e);
    else if (s->conn.by_ghost)
        ghost_control(s, &e);
    else
        rep_event(s, &e);
    /* The handler may have died and cleared the queue, but this message was taken off before. */
    sim_free(s, m);
}

void conn_to_standby(struct sim *s, uint64_t gen, void *p)
{
    (void)p;
    conn_deliver(s, 1, gen);
}

void conn_to_primary(struct sim *s, uint64_t gen, void *p)
{
    (void)p;
    conn_deliver(s, 0, gen);
}

static void push_to(struct sim *s, unsigned site, uint64_t delay, uint32_t kind, const void *body,
                    size_t bytes)
{
    fifo_push(s, &s->conn.q[site == 1 ? 0 : 1], delay, site ? &s->sby.proc : &s->rep.proc,
              site ? conn_to_standby : conn_to_primary, kind, body, bytes);
}

static void conn_lost(struct sim *s, uint64_t a, void *p)
{
    struct hk_event e = {.type = HK_EV_CONTROL_DOWN};

    (void)a;
    (void)p;
    rep_event(s, &e);
}

/* The primary's daemon tries to connect for as long as it is not. */
void conn_try(struct sim *s, uint64_t a, void *p)
{
    uint64_t again = s->now + 30 * NS_MS + rng_below(&s->rng, 100 * NS_MS);

    (void)a;
    (void)p;
    if (!s->conn.up[0] && !s->conn.open && s->rep.proc.up && s->sby.proc.up &&
        s->dir[0].down_until <= s->now && s->dir[1].down_until <= s->now) {
        s->conn.open = true;
        s->conn.by_ghost = false;
        s->conn.id++;
        fifo_clear(s, &s->conn.q[0]);
        fifo_clear(s, &s->conn.q[1]);
        push_to(s, 1, s->o.delay_ns, MSG_UP, NULL, 0);
        push_to(s, 0, 2 * s->o.delay_ns, MSG_UP, NULL, 0);
    }
    sim_at(s, again, &s->rep.proc, conn_try, 0, NULL);
}

void conn_send(struct sim *s, unsigned from_site, const struct hk_ctl *m)
{
    if (!s->conn.open || !s->conn.up[from_site])
        return;
    if (from_site == 0 && s->ghost.runs != s->conn.by_ghost)
        return;
    push_to(s, !from_site, s->o.delay_ns + rng_below(&s->rng_link, s->o.jitter_ns + 1), MSG_CONTROL,
            m, sizeof(*m));
}

/* This side hangs up; it hears no more of it. What it had sent still arrives. */
void conn_close(struct sim *s, unsigned by_site)
{
    if (!s->conn.up[by_site] && !s->conn.open)
        return;
    if (by_site == 0 && s->ghost.runs != s->conn.by_ghost)
        return;
    s->conn.up[by_site] = false;
    s->conn.open = false;
    push_to(s, !by_site, s->o.delay_ns, MSG_DOWN, NULL, 0);
}

/* The superseded replicator calls: the standby takes the newest call for the only one. */
void conn_by_ghost(struct sim *s)
{
    if (!s->sby.proc.up || s->dir[0].down_until > s->now || s->dir[1].down_until > s->now)
        return;
    if (s->conn.up[0] && !s->conn.by_ghost)
        sim_at(s, s->now + s->o.delay_ns, &s->rep.proc, conn_lost, 0, NULL);
    s->conn.up[0] = false;
    s->conn.open = s->conn.by_ghost = true;
    s->conn.id++;
    fifo_clear(s, &s->conn.q[0]);
    fifo_clear(s, &s->conn.q[1]);
    push_to(s, 1, s->o.delay_ns, MSG_UP, NULL, 0);
    push_to(s, 0, 2 * s->o.delay_ns, MSG_UP, NULL, 0);
}

/* The connection breaks: each side learns it at its own time, what was under way is lost. */
void conn_break(struct sim *s)
{
    if (!s->conn.open)
        return;
    s->conn.open = false;
    for (unsigned site = 0; site < 2; site++) {
        fifo_clear(s, &s->conn.q[site == 1 ? 0 : 1]);
        push_to(s, site, rng_below(&s->rng_link, 2) ? 0 : rng_below(&s->rng_link, NS_S), MSG_DOWN,
                NULL, 0);
    }
}

/* A process with the connection died. quietly: its host is without power, nobody sends a FIN. */
void conn_died(struct sim *s, unsigned site, bool quietly)
{
    bool was = s->conn.up[site] || s->conn.open;

    if (site == 0 && s->ghost.runs != s->conn.by_ghost)
        return; /* it is not this one's connection */
    fifo_clear(s, &s->conn.q[site == 1 ? 0 : 1]);
    s->conn.up[site] = false;
    s->conn.open = false;
    if (was && s->conn.up[!site])
        push_to(s, !site, quietly ? rng_below(&s->rng_link, 4 * NS_S) : s->o.delay_ns, MSG_DOWN,
                NULL, 0);
}
