/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's replicator: hk_group in the role of a primary, a reader of the ring, the data link,
 * the control connection and the messages to the capture process. Events in, actions out.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

static uint32_t record_span(const struct hk_record *r)
{
    return 64 + ((r->payload_len + 63) & ~63u);
}

/* Follows the ring as far as it is published. */
static bool read_ring(struct sim *s)
{
    const struct hk_ring_producer *p = cap_producer(s);
    uint64_t before = s->rep.read_lsn;

    while (s->rep.read_idx < p->head) {
        const struct hk_record *r = cap_slot(s, s->rep.read_idx);

        if (r->lsn != s->rep.read_lsn)
            break;
        s->rep.read_lsn += record_span(r);
        s->rep.read_idx++;
    }
    return s->rep.read_lsn != before;
}

/* Slot of the record that covers lsn, among those that are held and were seen published. */
static int64_t slot_of(struct sim *s, uint64_t lsn)
{
    uint64_t lo = cap_producer(s)->tail, hi = s->rep.read_idx;

    if (!s->rep.attached || !s->cap.ring_there || lo >= hi || lsn < cap_side(s, lo)->lsn ||
        lsn >= s->rep.read_lsn)
        return -ERANGE;
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;

        if (cap_side(s, mid)->lsn <= lsn)
            lo = mid;
        else
            hi = mid;
    }
    return (int64_t)lo;
}

static int gather(struct hk_source *source, struct hk_lsn lsn, uint32_t bytes, struct hk_iovec *iov,
                  int max)
{
    struct sim *s = HK_CONTAINER_OF(source, struct sim, rep.source);
    int64_t slot = slot_of(s, lsn.v);
    uint64_t at = lsn.v;
    int n = 0;

    if (slot < 0 || lsn.v + bytes > s->rep.read_lsn)
        return -ERANGE;
    while (bytes) {
        struct hk_record *r = cap_slot(s, (uint64_t)slot);
        uint64_t off = at - r->lsn, take;
        uint8_t *from;

        if (n == max)
            return -ENOSPC;
        if (off < HK_RECORD_HEADER_BYTES) {
            from = (uint8_t *)r + off;
            take = HK_RECORD_HEADER_BYTES - off;
        } else {
            from = cap_payload(s, cap_side(s, (uint64_t)slot)->payload_pos) + off -
                   HK_RECORD_HEADER_BYTES;
            take = record_span(r) - off;
        }
        if (take > bytes)
            take = bytes;
        iov[n++] = (struct hk_iovec){from, take};
        at += take;
        bytes -= (uint32_t)take;
        if (at == r->lsn + record_span(r))
            slot++;
    }
    return n;
}

static uint64_t time_at(struct hk_source *source, struct hk_lsn lsn)
{
    struct sim *s = HK_CONTAINER_OF(source, struct sim, rep.source);
    int64_t slot;

    if (!s->rep.attached || !s->cap.ring_there || lsn.v >= s->rep.read_lsn)
        return 0;
    slot = slot_of(s, lsn.v);
    if (slot < 0) /* released meanwhile: the oldest that is held */
        return cap_producer(s)->tail < s->rep.read_idx ? cap_slot(s, cap_producer(s)->tail)->time_ns
                                                       : 0;
    return cap_slot(s, (uint64_t)slot)->time_ns;
}

static uint64_t index_at(struct hk_source *source, struct hk_lsn lsn)
{
    struct sim *s = HK_CONTAINER_OF(source, struct sim, rep.source);
    int64_t slot;

    if (!s->rep.attached || !s->cap.ring_there || lsn.v >= s->rep.read_lsn)
        return s->rep.read_idx;
    slot = slot_of(s, lsn.v);
    return slot < 0 ? cap_producer(s)->tail : (uint64_t)slot;
}

/* The published end as it is now, without following it. */
static struct hk_lsn produced_now(struct hk_source *source)
{
    struct sim *s = HK_CONTAINER_OF(source, struct sim, rep.source);
    uint64_t index = s->rep.read_idx, lsn = s->rep.read_lsn;

    if (!s->rep.attached || !s->cap.ring_there)
        return HK_LSN(0);
    while (index < cap_producer(s)->head && cap_slot(s, index)->lsn == lsn)
        lsn += record_span(cap_slot(s, index++));
    return HK_LSN(lsn);
}

/* The producer's page is memory: it can be looked at whether or not its writer lives. */
static bool look(struct hk_source *source, struct hk_source_view *ret)
{
    struct sim *s = HK_CONTAINER_OF(source, struct sim, rep.source);
    const struct hk_ring_producer *p = cap_producer(s);

    if (!s->rep.attached || !s->cap.ring_there)
        return false;
    *ret = (struct hk_source_view){p->contact_ns,   p->state, HK_LSN(p->next_lsn),
                                   p->last_time_ns, 0,        p->head};
    return true;
}

/* What is not released, in slots or payload, whichever is fuller. */
static uint32_t fill(struct hk_source *source, uint64_t *ret_bytes)
{
    struct sim *s = HK_CONTAINER_OF(source, struct sim, rep.source);
    uint64_t slots = s->o.ring_slots, used, payload;
    int64_t first;

    *ret_bytes = hk_min_u64(s->o.ring_payload, slots * (HK_RECORD_HEADER_BYTES + SIM_SECTOR));
    if (!s->rep.attached || !s->cap.ring_there || s->rep.released >= s->rep.read_lsn)
        return 0;
    first = slot_of(s, s->rep.released);
    if (first < 0)
        return 0;
    used = s->rep.read_idx - (uint64_t)first;
    payload =
        cap_side(s, s->rep.read_idx - 1)->payload_pos - cap_side(s, (uint64_t)first)->payload_pos;
    return (uint32_t)hk_max_u64(used * 1000 / slots, payload * 1000 / s->o.ring_payload);
}

/* ---- actions ---- */

static void to_capture(struct sim *s, uint32_t kind, struct ipc_msg *m)
{
    if (!s->cap.proc.up)
        return;
    m->conn = s->rep.proc.life;
    m->by_ghost = s->ghost.runs;
    fifo_push(s, &s->r2c, rng_around(&s->rng, s->o.ipc_ns), &s->cap.proc, cap_ipc, kind, m,
              sizeof(*m));
}

static void act_send(struct sim *s, const struct hk_action *a)
{
    const struct hk_frame *h = &a->send.header;
    struct hk_iovec iov[64];
    uint32_t len = 0;
    int n;

    if (h->type != HK_FRAME_DATA) {
        link_send(s, 0, h, a->send.body);
        return;
    }
    n = hk_group_gather(s->rep.g, HK_LSN(h->lsn), h->span, iov, 64);
    if (n < 0) {
        struct hk_event e = {.type = HK_EV_RING_LOST};

        sim_trace(s, "gath of %llu fails: %lld", h->lsn, (uint64_t)(int64_t)n, 0);
        if (n == -ERANGE)
            hk_group_event(s->rep.g, &e,
                           &(struct hk_now){sim_clock(s, 0).mono_ns, sim_clock(s, 0).real_ns});
        return;
    }
    for (int i = 0; i < n; i++) {
        memcpy(s->scratch + len, iov[i].base, iov[i].bytes);
        len += (uint32_t)iov[i].bytes;
    }
    SIM_CHECK(s, "I5", len == h->span && h->body_len == h->span, "frame of %u bytes for span %u",
              len, h->span);
    if (s->forked)
        budget_forked_send(s);
    else if (!mem_is_rotten(s, h->lsn, h->lsn + len))
        ref_check_log_bytes(s, "I5", h->lsn, s->scratch, len);
    mem_frame(s, h->lsn, s->scratch, len);
    s->sent_end = hk_max_u64(s->sent_end, h->lsn + h->span);
    link_send(s, 0, h, s->scratch);
}

static void act_report(struct sim *s, const struct hk_action *a)
{
    struct ipc_msg m = {0};

    m.lease = s->rep.lease;
    m.released = a->report.released;
    s->rep.released = a->report.released.v;
    spool_judge(s, a->report.released.v, hk_max_u64(a->report.durable.v, budget_durable(s)));
    m.acked = a->report.acked;
    m.durable = a->report.durable;
    m.contact_ns = a->report.contact_ns;
    m.standby_flags = a->report.standby_flags;
    m.spool.room = a->report.spool_room;
    m.spool.first = a->report.spool_first;
    m.spool.end = a->report.spool_end;
    spool_judge(s, a->report.spool_end.v, hk_max_u64(a->report.durable.v, budget_durable(s)));
    to_capture(s, IPC_REPORT, &m);
}

static void note_refused(struct sim *s, const struct hk_action *a)
{
    uint64_t why = a->notify.arg[0];

    if (s->ghost.runs)
        return;
    if (a->notify.id == HK_NOTE_SESSION_UP)
        s->rep.copy_unknown = false;
    if (a->notify.id == HK_NOTE_REFUSED &&
        (why == HK_REFUSE_FULL_COMPARE || why == HK_REFUSE_LOST_DURABLE || why == HK_REFUSE_AHEAD))
        s->rep.copy_unknown = true;
}

/* For a resync: what only the capture side knows, or may do. */
static void ask_capture(struct sim *s, const struct hk_action *a)
{
    struct ipc_msg m = {.lease = s->rep.lease};
    uint32_t kind = resync_ask_of(a, &m);

    to_capture(s, kind, &m);
}

static void act(struct sim *s, const struct hk_action *a)
{
    struct ipc_msg m = {0};

    switch (a->type) {
    case HK_ACT_SEND: act_send(s, a); break;
    case HK_ACT_CONTROL_OUT: conn_send(s, 0, &a->control); break;
    case HK_ACT_CONTROL_CLOSE: conn_close(s, 0); break;
    case HK_ACT_REPORT: act_report(s, a); break;
    case HK_ACT_INSERT:
        m.lease = s->rep.lease;
        m.request = a->insert.request;
        m.record_type = a->insert.record_type;
        m.mark = a->insert.mark;
        to_capture(s, IPC_INSERT, &m);
        break;
    case HK_ACT_BIND_PEER:
        m.lease = s->rep.lease;
        m.replica_id = a->peer_replica_id;
        to_capture(s, IPC_PEER, &m);
        break;
    case HK_ACT_CHECK_COPY:
        SIM_CHECK(s, "I18", s->spool_error || mem_is_rotten(s, a->check_lsn.v, a->check_lsn.v + 64),
                  "the copy of LSN %llu is whole and is called damaged", ULL(a->check_lsn.v));
        m.lease = s->rep.lease;
        m.lsn = a->check_lsn;
        to_capture(s, IPC_CHECK_COPY, &m);
        break;
    case HK_ACT_RETURN:
    case HK_ACT_STALE_ASK:
    case HK_ACT_BLOCK:
    case HK_ACT_HEAL:
    case HK_ACT_RESIZE:
    case HK_ACT_STALE_ALL: ask_capture(s, a); break;
    case HK_ACT_HASH: resync_hash(s, 0, a); break;
    case HK_ACT_NOTIFY:
        note_refused(s, a);
        if (a->notify.id == HK_NOTE_PATH_SUSPECT)
            SIM_CHECK(s, "I18", !mem_is_rotten(s, a->notify.arg[0], a->notify.arg[0] + 64),
                      "the copy of LSN %llu is damaged and is called whole", ULL(a->notify.arg[0]));
        sim_trace(s, "note primary %llu (%llu, %llu)", a->notify.id, a->notify.arg[0],
                  a->notify.arg[1]);
        break;
    case HK_ACT_VERB_DONE:
        sim_trace(s, "verb done at primary, error %lld", (uint64_t)(int64_t)a->verb_done.error, 0,
                  0);
        grow_verb_done(s, a);
        if (a->verb_done.op_id == s->rep.stop_op && s->rep.stop_op && !s->ghost.runs)
            rep_kill(s);
        break;
    case HK_ACT_FATAL: sim_fail(s, "I11", "the primary's replicator gave up: %d", a->fatal.error);
    }
}

static void rep_timer(struct sim *s, uint64_t a, void *p)
{
    struct hk_event e = {.type = HK_EV_TIMER};

    (void)p;
    if (clk_timer_is_due(&s->rep.proc, a))
        rep_event(s, &e);
}

static void set_timer(struct sim *s)
{
    uint64_t at = hk_group_deadline_ns(s->rep.g);

    if (at == UINT64_MAX || s->ghost.runs)
        return;
    clk_set_timer(s, &s->rep.proc, clk_wake_at(s, 0, at), rep_timer);
}

static void room_again(struct sim *s, uint64_t a, void *p)
{
    s->rep.want_room = false;
    rep_pump(s, a, p);
}

void rep_pump(struct sim *s, uint64_t a, void *p)
{
    struct hk_now now = sim_clock(s, 0);
    uint32_t guard = 0, life = s->rep.proc.life;
    bool room = true;

    (void)a;
    (void)p;
    while (hk_group_next(s->rep.g, &now, (room = link_room(s, 0)), &s->rep.action)) {
        SIM_CHECK(s, "I16", ++guard < 20000, "the primary's group acts without end (type %d)",
                  s->rep.action.type);
        act(s, &s->rep.action);
        if (!s->ghost.runs)
            oper_maybe_die(s, &s->rep.proc);
        if (s->rep.proc.life != life)
            return;
    }
    if (s->ghost.runs)
        return;
    if (!room && !s->rep.want_room) {
        s->rep.want_room = true;
        sim_at(s, s->dir[0].tx_free_at, &s->rep.proc, room_again, 0, NULL);
    }
    set_timer(s);
}

void rep_event(struct sim *s, const struct hk_event *e)
{
    struct hk_now now = sim_clock(s, 0);

    if (!s->rep.proc.up)
        return;
    hk_group_event(s->rep.g, e, &now);
    rep_pump(s, 0, NULL);
}

/* ---- what comes in ---- */

void rep_wake(struct sim *s, uint64_t a, void *p)
{
    struct hk_event e = {.type = HK_EV_PRODUCED};

    (void)a;
    (void)p;
    s->cap.wake_pending = false;
    if (!s->rep.proc.up || !s->rep.attached || !read_ring(s))
        return;
    e.produced.produced = HK_LSN(s->rep.read_lsn);
    rep_event(s, &e);
}

void rep_frame(struct sim *s, struct sim_frame *f)
{
    if (!ghost_frame(s, f) && s->rep.proc.up)
        rep_take_frame(s, f);
}

void rep_take_frame(struct sim *s, struct sim_frame *f)
{
    struct hk_event e = {0};

    if (link_open(s, f, &e) && e.frame.header.type == HK_FRAME_ACK) {
        struct hk_ack ack;

        memcpy(&ack, e.frame.body, sizeof(ack));
        sim_trace(s, "ackd %llu durable %llu applied %llu", ack.acked, ack.durable, ack.applied);
    }
    rep_event(s, &e);
}

static void capture_event(struct sim *s, const struct ipc_msg *m, bool attached)
{
    struct hk_event e = {.type = HK_EV_CAPTURE};

    e.capture.attached = attached;
    if (attached) {
        e.capture.lease = s->rep.lease;
        e.capture.released = m->released;
        e.capture.acked = m->acked;
        e.capture.durable = m->durable;
        e.capture.produced = HK_LSN(s->rep.read_lsn);
        e.capture.state = m->state;
        e.capture.super = m->super;
        e.capture.stale_bytes = m->stale_bytes;
        e.capture.closed = m->closed;
    }
    rep_event(s, &e);
}

static void try_attach(struct sim *s, uint64_t a, void *p)
{
    struct ipc_msg m = {0};

    (void)a;
    (void)p;
    if (s->rep.attached)
        return;
    /* The capture process that was asked is gone, and the connection with it. */
    if (s->rep.attaching && s->rep.asked_life != s->cap.proc.life)
        s->rep.attaching = false;
    if (s->cap.proc.up && !s->rep.attaching) {
        s->rep.attaching = true;
        s->rep.asked_life = s->cap.proc.life;
        to_capture(s, IPC_ATTACH, &m);
    }
    sim_at(s, s->now + 20 * NS_MS + rng_below(&s->rng, 20 * NS_MS), &s->rep.proc, try_attach, 0,
           NULL);
}

static void on_attached(struct sim *s, const struct ipc_msg *m)
{
    struct hk_event e = {.type = HK_EV_RING_LOST};

    if (!hk_uuid_is_nil(&s->rep.ring_id) && !hk_uuid_equal(&s->rep.ring_id, &m->ring_id))
        rep_event(s, &e);
    if (!s->rep.proc.up)
        return;
    s->rep.ring_id = m->ring_id;
    s->rep.lease = m->lease;
    s->rep.attached = true;
    s->rep.attaching = false;
    s->rep.read_idx = m->tail;
    s->rep.read_lsn = m->tail_lsn.v;
    s->rep.released = m->released.v;
    s->rep.epoch = m->epoch;
    read_ring(s);
    capture_event(s, m, true);
}

/* Of an epoch that is over nothing is in the ring any more. */
static void on_state(struct sim *s, const struct ipc_msg *m)
{
    if (!s->rep.attached)
        return;
    if (m->epoch != s->rep.epoch) {
        s->rep.epoch = m->epoch;
        s->rep.read_idx = m->tail;
        s->rep.read_lsn = m->tail_lsn.v;
        s->rep.released = m->released.v;
    }
    read_ring(s);
    capture_event(s, m, true);
}

void rep_ipc(struct sim *s, uint64_t gen, void *p)
{
    struct sim_msg *msg = fifo_pop(&s->c2r, gen);
    struct hk_event e = {0};
    const struct ipc_msg *m;

    (void)p;
    if (!msg)
        return;
    m = msg->body;
    sim_trace(s, "ipc. to replicator: %llu, state %llu flags %llx", msg->kind, m->state,
              m->super ? m->super->flags : 0);
    if (m->conn != s->rep.proc.life) {
        sim_free(s, msg);
        return;
    }
    switch (msg->kind) {
    case IPC_ATTACHED: on_attached(s, m); break;
    case IPC_STATE: on_state(s, m); break;
    case IPC_INSERTED:
        e.type = HK_EV_INSERTED;
        e.inserted.request = m->request;
        e.inserted.error = m->error;
        e.inserted.lsn = m->lsn;
        e.inserted.end = m->end;
        rep_event(s, &e);
        break;
    case IPC_CLOSED:
        if (s->rep.attached) {
            s->rep.attached = false;
            capture_event(s, NULL, false);
        }
        s->rep.attaching = false;
        if (s->rep.proc.up)
            sim_at(s, s->now + 5 * NS_MS, &s->rep.proc, try_attach, 0, NULL);
        break;
    default: resync_answer(s, msg->kind, m); break;
    }
    sim_free(s, msg);
}

/* ---- life and death ---- */

static void fill_cfg(struct sim *s, struct hk_group_cfg *c)
{
    memset(c, 0, sizeof(*c));
    sim_group_cfg(s, c, 0);
    c->role = HK_ROLE_PRIMARY;
    c->source = &s->rep.source;
    spool_cfg(s, c);
}

void rep_start(struct sim *s, uint64_t a, void *p)
{
    struct hk_now now = sim_clock(s, 0);
    struct hk_event e = {.type = HK_EV_LINK};
    struct hk_group_cfg cfg;
    struct hk_arena arena;
    int rc;

    (void)a;
    (void)p;
    if (s->rep.proc.up || s->primary_gone)
        return;
    s->rep.proc.up = true;
    s->rep.proc.started_ns = s->now;
    s->rep.proc.timer_at = 0;
    s->rep.attached = s->rep.attaching = s->rep.want_room = s->rep.copy_unknown = false;
    memset(&s->rep.ring_id, 0, sizeof(s->rep.ring_id));
    s->rep.source = (struct hk_source){gather, time_at, produced_now, look, fill, index_at};
    fill_cfg(s, &cfg);
    for (uint32_t i = 0; i < s->o.paths; i++)
        s->path_max[i] = cfg.frame_body_max[i];
    if (s->rep.memory_bytes == 0) {
        s->rep.memory_bytes = hk_group_bytes(&cfg);
        s->rep.memory = sim_pages(s, s->rep.memory_bytes);
    }
    arena = (struct hk_arena){s->rep.memory, s->rep.memory_bytes, 0};
    rc = hk_group_init(&cfg, &arena, &now, &s->rep.g);
    SIM_CHECK(s, "I16", rc == 0, "primary group init: %d", rc);
    sim_trace(s, "repl starts", 0, 0, 0);
    for (uint32_t i = 0; i < s->o.paths; i++) {
        e.link.path = (uint8_t)i;
        e.link.up = true;
        e.link.frame_body_max = s->path_max[i];
        rep_event(s, &e);
    }
    if (!s->rep.proc.up)
        return;
    try_attach(s, 0, NULL);
    conn_try(s, 0, NULL);
    oper_started(s, &s->rep.proc);
}

/* quietly: the node is without power. */
void rep_gone(struct sim *s, bool quietly)
{
    s->rep.proc.life++;
    s->rep.proc.up = false;
    s->rep.proc.kill_in = 0;
    s->rep.proc.paused_until = 0;
    s->rep.attached = s->rep.attaching = false;
    fifo_clear(s, &s->c2r);
    resync_hashes_gone(s, 0);
    sim_io_abandon(s, &s->rep.proc);
    conn_died(s, 0, quietly);
    sim_pages_forget(s->rep.memory, s->rep.memory_bytes);
    if (quietly)
        ghost_gone(s);
    s->st.crashes++;
}

void rep_kill(struct sim *s)
{
    struct ipc_msg closed = {.conn = s->rep.proc.life};

    if (!s->rep.proc.up)
        return;
    sim_trace(s, "kill replicator", 0, 0, 0);
    rep_gone(s, false);
    /* What it had sent is still read; then the capture side sees the end of the connection. */
    if (s->cap.proc.up)
        fifo_push(s, &s->r2c, s->o.ipc_ns, &s->cap.proc, cap_ipc, IPC_CLOSED, &closed,
                  sizeof(closed));
    sim_at(s, s->now + NS_MS + rng_around(&s->rng_fault, 200 * NS_MS), NULL, rep_start, 0, NULL);
}

void rep_setup(struct sim *s)
{
    memset(&s->rep, 0, sizeof(s->rep));
    s->rep.proc.name = "replicator";
    s->spool_error = false;
    s->spool_window = NULL;
    if (s->o.spool_segments)
        s->spool_window = sim_pages_any(s, 2 * HK_SPOOL_WINDOW_BYTES);
}
