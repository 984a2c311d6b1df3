/* SPDX-License-Identifier: Apache-2.0 */
/* The primary's half of a node: the capture client and the ring reader. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver-glue/client/capture_client.h"
#include "replicator/daemon/latency.h"
#include "replicator/daemon/node_private.h"

HK_STATIC_ASSERT(sizeof(struct iovec) == sizeof(struct hk_iovec) &&
                     offsetof(struct iovec, iov_len) == offsetof(struct hk_iovec, bytes),
                 "one layout for pieces of memory");

enum { RECORDS_A_TURN = 256 };

struct hk_node_primary {
    struct hk_capture_client *client;
    struct hk_source source;
    struct hk_super super; /* as the capture side told last */
    struct hk_lsn produced;
    bool readable;              /* the client's descriptor became readable */
    bool stop_wanted;           /* the capture side stops: detach once everything is durable */
    bool state_awaited;         /* attached, and not told yet how things stand */
    bool closed;                /* no LSN is given in this epoch any more */
    bool origin_said;           /* that one can't be read */
    int origin[HK_VOLUMES_MAX]; /* read-only, O_DIRECT where there is such a thing; -1: not open */
    uint64_t drained_ns;        /* when nothing more was found in the ring, monotonic */
    struct hk_latency latency;
};

static struct hk_ring_reader *reader_of(struct hk_node_primary *p)
{
    return hk_capture_client_reader(p->client);
}

/* ---- struct hk_source ---- */

static int source_gather(struct hk_source *s, struct hk_lsn lsn, uint32_t bytes,
                         struct hk_iovec *iov, int max)
{
    struct hk_node_primary *p = HK_CONTAINER_OF(s, struct hk_node_primary, source);
    struct hk_ring_reader *r = reader_of(p);

    return r ? hk_ring_reader_gather(r, lsn, bytes, (struct iovec *)(void *)iov, max) : -ERANGE;
}

static uint64_t source_time_at(struct hk_source *s, struct hk_lsn lsn)
{
    struct hk_node_primary *p = HK_CONTAINER_OF(s, struct hk_node_primary, source);
    struct hk_ring_reader *r = reader_of(p);

    return r ? hk_ring_reader_time_at(r, lsn) : 0;
}

static uint64_t source_index_at(struct hk_source *s, struct hk_lsn lsn)
{
    struct hk_node_primary *p = HK_CONTAINER_OF(s, struct hk_node_primary, source);
    struct hk_ring_reader *r = reader_of(p);

    return r ? hk_ring_reader_index_at(r, lsn) : 0;
}

static struct hk_lsn source_produced(struct hk_source *s)
{
    struct hk_node_primary *p = HK_CONTAINER_OF(s, struct hk_node_primary, source);
    struct hk_ring_reader *r = reader_of(p), look;
    struct hk_lsn produced = HK_LSN(0);

    if (!r)
        return produced;
    look = *r; /* a look ahead: the reader itself goes on where it stood */
    hk_ring_reader_poll(&look, UINT32_MAX, &produced);
    return produced;
}

static bool source_look(struct hk_source *s, struct hk_source_view *ret)
{
    struct hk_node_primary *p = HK_CONTAINER_OF(s, struct hk_node_primary, source);
    struct hk_ring_reader *r = reader_of(p);
    const struct hk_ring_producer *page;

    if (!r)
        return false;
    page = (const void *)((const uint8_t *)r->header + HK_PAGE_BYTES);
    ret->contact_ns = hk_ring_load_acquire(&page->contact_ns);
    ret->state = __atomic_load_n(&page->state, __ATOMIC_ACQUIRE);
    ret->next = HK_LSN(hk_ring_load_acquire(&page->next_lsn));
    ret->newest_ns = __atomic_load_n(&page->last_time_ns, __ATOMIC_RELAXED);
    ret->head = hk_ring_load_acquire(&page->head);
    ret->origin_lsn = hk_ring_reader_undone(r, hk_ring_load_acquire(&page->tail),
                                            hk_ring_load_acquire(&page->head));
    return true;
}

/* Of the reader's own view: what it has not released, in slots or payload. */
static uint32_t source_fill(struct hk_source *s, uint64_t *ret_bytes)
{
    struct hk_node_primary *p = HK_CONTAINER_OF(s, struct hk_node_primary, source);
    const struct hk_ring_reader *r = reader_of(p);
    uint64_t slots, payload;

    *ret_bytes = 0;
    if (!r)
        return 0;
    slots = r->slot_mask + 1;
    *ret_bytes = hk_min_u64(r->payload_bytes, slots * (HK_RECORD_HEADER_BYTES + 512));
    if (r->tail >= r->next)
        return 0;
    payload = r->sides[(r->next - 1) & r->slot_mask].payload_pos -
              r->sides[r->tail & r->slot_mask].payload_pos;
    return (uint32_t)hk_max_u64((r->next - r->tail) * 1000 / slots,
                                payload * 1000 / r->payload_bytes);
}

int hk_node_primary_gather(struct hk_node *n, struct hk_lsn lsn, uint32_t bytes)
{
    return hk_group_gather(n->group, lsn, bytes, n->iov, HK_NODE_IOV_MAX);
}

/* ---- what the capture side says ---- */

static void tell_capture(struct hk_node *n)
{
    struct hk_from_node *m = hk_node_tell(n, HK_FROM_NODE_CAPTURE);

    if (!m)
        return;
    m->capture = n->capture;
    hk_node_told(n);
}

static void capture_event(struct hk_node *n)
{
    struct hk_node_primary *p = n->primary;
    struct hk_event e = {.type = HK_EV_CAPTURE};

    if (p->state_awaited)
        return;
    e.capture.attached = n->capture.attached;
    e.capture.lease = n->capture.lease;
    e.capture.released = HK_LSN(n->capture.state.released);
    e.capture.acked = HK_LSN(n->capture.state.acked);
    e.capture.durable = HK_LSN(n->capture.state.durable);
    e.capture.produced = p->produced;
    e.capture.state = n->capture.state.state;
    e.capture.super = &p->super;
    e.capture.stale_bytes = n->capture.state.stale_bytes;
    e.capture.closed = p->closed;
    hk_node_event(n, &e);
}

static void attached(struct hk_node *n, const struct hk_cap_ipc *m, bool ring_lost)
{
    struct hk_node_primary *p = n->primary;

    if (ring_lost) {
        struct hk_event e = {.type = HK_EV_RING_LOST};

        hk_node_event(n, &e);
    }
    p->super = m->attached.super;
    p->stop_wanted = false;
    hk_latency_forget(&p->latency);
    n->capture.attached = true;
    n->capture.ever = true;
    n->capture.lease = m->lease;
    n->capture.state.released = m->attached.released;
    n->capture.state.acked = m->attached.acked;
    n->capture.state.durable = m->attached.durable;
    n->capture.state.super_flags = p->super.flags;
    p->produced = HK_LSN(m->attached.tail_lsn);
    hk_ring_reader_poll(reader_of(p), UINT32_MAX, &p->produced);
    n->capture.state.produced = p->produced.v;
    /* Is the log closed, is anything stale? The first STATE says so, at once; nothing is said to
     * the other site before. */
    p->state_awaited = true;
    tell_capture(n);
}

static void detached(struct hk_node *n)
{
    struct hk_node_primary *p = n->primary;

    n->capture.attached = false;
    n->capture.lease = 0;
    p->state_awaited = false;
    p->closed = false;
    n->capture.state.stale_bytes = 0;
    capture_event(n);
    tell_capture(n);
}

static void state_told(struct hk_node *n, const struct hk_cap_ipc *m)
{
    struct hk_node_primary *p = n->primary;
    bool changed = n->capture.state.state != m->state.state ||
                   n->capture.state.super_flags != m->state.super_flags;

    n->capture.state = m->state;
    p->closed = m->flags & HK_IPC_FLAG_CLOSED;
    p->state_awaited = false;
    p->super.flags = m->state.super_flags;
    p->super.ceiling = m->state.ceiling;
    p->super.degraded_lsn = m->state.degraded_lsn;
    capture_event(n);
    if (changed)
        tell_capture(n);
}

static void inserted(struct hk_node *n, const struct hk_cap_ipc *m)
{
    struct hk_event e = {.type = HK_EV_INSERTED};

    e.inserted.request = m->inserted.request;
    e.inserted.error = m->inserted.error;
    e.inserted.lsn = HK_LSN(m->inserted.lsn);
    e.inserted.end = HK_LSN(m->inserted.end);
    hk_node_event(n, &e);
}

/* A new epoch: the reader stands at its first record, which is where everything begins anew. */
static void epoch_told(struct hk_node *n, const struct hk_cap_ipc *m)
{
    struct hk_node_primary *p = n->primary;
    const struct hk_epoch *before = hk_history_last(&p->super.history);
    const struct hk_epoch *now = hk_history_last(&m->epoch.super.history);

    if (before && now && !hk_uuid_equal(&before->id, &now->id)) {
        uint64_t first = m->epoch.tail_lsn;

        n->capture.state.released = n->capture.state.acked = n->capture.state.durable = first;
        p->produced = HK_LSN(first);
        hk_ring_reader_poll(reader_of(p), UINT32_MAX, &p->produced);
        n->capture.state.produced = p->produced.v;
        p->closed = false;
        hk_latency_forget(&p->latency);
    }
    p->super = m->epoch.super;
    capture_event(n);
}

static void resync_told(struct hk_node *n, const struct hk_cap_ipc *m)
{
    struct hk_event e = {0};

    switch ((enum hk_cap_ipc_type)m->type) {
    case HK_IPC_STALE:
        e.type = HK_EV_STALE;
        e.stale.found = m->stale.error == 0;
        e.stale.volume = m->stale.volume;
        e.stale.offset = m->stale.offset;
        e.stale.bytes = m->stale.bytes;
        e.stale.event = m->stale.event;
        e.stale.after = HK_LSN(m->stale.after);
        break;
    case HK_IPC_BLOCKED:
        e.type = HK_EV_BLOCK_DONE;
        e.block_done.request = m->blocked.request;
        e.block_done.error = m->blocked.error;
        e.block_done.end = HK_LSN(m->blocked.end);
        break;
    case HK_IPC_HEALED:
        e.type = HK_EV_HEALED;
        e.healed.request = m->healed.request;
        e.healed.error = m->healed.error;
        break;
    case HK_IPC_ALL_STALE: e.type = HK_EV_ALL_STALE; break;
    case HK_IPC_RESIZED:
        e.type = HK_EV_RESIZED;
        e.done.error = m->resize.error;
        break;
    case HK_IPC_RETURNED:
        e.type = HK_EV_RETURNED;
        e.done.error = m->returned.error;
        break;
    default: return;
    }
    hk_node_event(n, &e);
}

static bool take_event(struct hk_node *n, uint64_t now_ns)
{
    struct hk_node_primary *p = n->primary;
    const struct hk_cap_ipc *m = NULL;

    switch (hk_capture_client_poll(p->client, now_ns, &m)) {
    case HK_CLIENT_NONE: return false;
    case HK_CLIENT_ATTACHED: attached(n, m, false); return true;
    case HK_CLIENT_RING_LOST: attached(n, m, true); return true;
    case HK_CLIENT_DETACHED: detached(n); return true;
    case HK_CLIENT_REFUSED:
        fprintf(stderr,
                "hikaed: HKE3003E the capture side refused this replicator: %s (reason %u); "
                "tried again\n",
                strerror(-m->refused.error), m->refused.reason);
        return true;
    case HK_CLIENT_STATE: state_told(n, m); return true;
    case HK_CLIENT_INSERTED: inserted(n, m); return true;
    case HK_CLIENT_EPOCH: epoch_told(n, m); return true;
    case HK_CLIENT_STALE:
    case HK_CLIENT_BLOCKED:
    case HK_CLIENT_HEALED:
    case HK_CLIENT_ALL_STALE:
    case HK_CLIENT_RESIZED:
    case HK_CLIENT_RETURNED: resync_told(n, m); return true;
    case HK_CLIENT_STOP: p->stop_wanted = true; return true;
    }
    return false;
}

/*
 * The oldest of the records just found, by its capture time; but not before the ring was last seen
 * without it, since the wall clock may have been set in between.
 */
static void follow(struct hk_node_primary *p, struct hk_lsn lsn, const struct hk_now *now)
{
    struct hk_record r;
    uint64_t age_ns;

    if (hk_ring_reader_header_at(reader_of(p), lsn, &r))
        return;
    age_ns = now->real_ns > r.time_ns ? now->real_ns - r.time_ns : 0;
    age_ns = hk_min_u64(age_ns, now->mono_ns - hk_min_u64(p->drained_ns, now->mono_ns));
    hk_latency_captured(&p->latency, hk_record_end(&r).v, now->mono_ns - age_ns);
}

static uint32_t poll_ring(struct hk_node *n, const struct hk_now *now)
{
    struct hk_node_primary *p = n->primary;
    struct hk_ring_reader *r = reader_of(p);
    struct hk_event e = {.type = HK_EV_PRODUCED};
    struct hk_lsn produced;
    int found;

    if (!r || !n->capture.attached)
        return 0;
    produced = p->produced;
    found = hk_ring_reader_poll(r, RECORDS_A_TURN, &produced);
    if (found < 0) {
        fprintf(stderr,
                "hikaed: HKE3004E the ring holds a record that cannot be; attaching anew\n");
        hk_capture_client_detach(p->client, false);
        return 1;
    }
    if (produced.v != p->produced.v)
        follow(p, p->produced, now);
    if (found < RECORDS_A_TURN)
        p->drained_ns = now->mono_ns;
    if (produced.v == p->produced.v)
        return 0;
    p->produced = produced;
    n->capture.state.produced = produced.v;
    e.produced.produced = produced;
    hk_node_event(n, &e);
    return (uint32_t)found;
}

uint32_t hk_node_primary_poll(struct hk_node *n, const struct hk_now *now)
{
    struct hk_node_primary *p = n->primary;
    uint32_t work = 0;

    if (p->readable || now->mono_ns >= hk_capture_client_deadline_ns(p->client)) {
        p->readable = false;
        while (take_event(n, now->mono_ns))
            work++;
    }
    return work + poll_ring(n, now);
}

/* ---- actions ---- */

static void act_report(struct hk_node *n, const struct hk_action *a)
{
    struct hk_node_primary *p = n->primary;
    struct hk_ring_reader *r = reader_of(p);
    uint64_t now_ns = hk_clock_mono_ns();

    if (!r || !n->capture.attached)
        return;
    hk_ring_reader_release(r, a->report.released);
    hk_latency_reached(&p->latency, HK_LATENCY_ACKED, a->report.acked.v, now_ns);
    hk_latency_reached(&p->latency, HK_LATENCY_DURABLE, a->report.durable.v, now_ns);
    n->capture.state.released = a->report.released.v;
    n->capture.state.acked = a->report.acked.v;
    n->capture.state.durable = a->report.durable.v;
    hk_capture_client_spool(p->client, a->report.spool_room, a->report.spool_first,
                            a->report.spool_end);
    hk_capture_client_report(p->client, a->report.released, a->report.acked, a->report.durable,
                             a->report.contact_ns, a->report.standby_flags);
    if (p->stop_wanted && a->report.durable.v >= p->produced.v)
        hk_capture_client_detach(p->client, false);
}

static void act_insert(struct hk_node *n, const struct hk_action *a)
{
    struct hk_event e = {.type = HK_EV_INSERTED};
    int r = hk_capture_client_insert(n->primary->client, a->insert.request, &a->insert.mark);

    if (r == 0)
        return;
    e.inserted.request = a->insert.request;
    e.inserted.error = r;
    hk_node_event(n, &e);
}

static void block_failed(struct hk_node *n, const struct hk_action *a, int error)
{
    struct hk_event e = {.type = HK_EV_BLOCK_DONE};

    e.block_done.request = a->block.request;
    e.block_done.error = error;
    hk_node_event(n, &e);
}

static void heal_failed(struct hk_node *n, const struct hk_action *a, int error)
{
    struct hk_event e = {.type = HK_EV_HEALED};

    e.healed.request = a->heal.request;
    e.healed.error = error;
    hk_node_event(n, &e);
}

static void stale_ask_failed(struct hk_node *n)
{
    struct hk_event e = {.type = HK_EV_STALE}; /* none: it is asked again after a while */

    hk_node_event(n, &e);
}

static void stale_all_failed(struct hk_node *n, int error)
{
    struct hk_event e = {.type = HK_EV_ALL_STALE};

    e.done.error = error;
    hk_node_event(n, &e);
}

static void resize_failed(struct hk_node *n, int error)
{
    struct hk_event e = {.type = HK_EV_RESIZED};

    e.done.error = error;
    hk_node_event(n, &e);
}

/* What the socket does not take now is answered here; what is lost with it, by the detachment. */
static void act_resync(struct hk_node *n, const struct hk_action *a)
{
    struct hk_capture_client *c = n->primary->client;
    int r = 0;

    switch (a->type) {
    case HK_ACT_RETURN: hk_capture_client_return(c, a->parent_end); return; /* repeated anyway */
    case HK_ACT_STALE_ASK:
        r = hk_capture_client_stale_ask(c, (uint16_t)a->stale_ask.volume, a->stale_ask.offset);
        if (r)
            stale_ask_failed(n);
        return;
    case HK_ACT_BLOCK:
        r = hk_capture_client_block(c, a->block.request, (uint16_t)a->block.volume, a->block.offset,
                                    a->block.bytes);
        if (r)
            block_failed(n, a, r);
        return;
    case HK_ACT_HEAL:
        r = hk_capture_client_heal(c, a->heal.request, (uint16_t)a->heal.volume, a->heal.offset,
                                   a->heal.event, a->heal.end);
        if (r)
            heal_failed(n, a, r);
        return;
    case HK_ACT_RESIZE:
        r = hk_capture_client_resize(c, (uint16_t)a->resize.volume, a->resize.bytes);
        if (r)
            resize_failed(n, r);
        return;
    case HK_ACT_STALE_ALL:
        r = hk_capture_client_stale_all(c);
        if (r)
            stale_all_failed(n, r);
        return;
    default: return;
    }
}

void hk_node_primary_action(struct hk_node *n, const struct hk_action *a)
{
    if (!n->primary)
        return;
    if (a->type == HK_ACT_REPORT)
        act_report(n, a);
    else if (a->type == HK_ACT_INSERT)
        act_insert(n, a);
    else if (a->type == HK_ACT_CHECK_COPY)
        hk_capture_client_check_copy(n->primary->client, a->check_lsn);
    else if (a->type == HK_ACT_BIND_PEER)
        hk_capture_client_bind_peer(n->primary->client, &a->peer_replica_id);
    else
        act_resync(n, a);
}

/* Opened when it is first asked for: the capture side may create it after this daemon started. */
int hk_node_primary_origin(struct hk_node *n, uint32_t volume)
{
    struct hk_node_primary *p = n->primary;
    const char *path;
    bool direct;
    int rc;

    if (volume >= n->conf->volume_count || !n->local->capture.origin[volume][0])
        return -ENOENT;
    if (p->origin[volume] >= 0)
        return p->origin[volume];
    path = n->local->capture.origin[volume];
    rc = hk_disk_open_beside(path, &p->origin[volume], &direct);
    if (rc && !p->origin_said) {
        p->origin_said = true;
        fprintf(stderr,
                "hikaed: HKE3107W the origin of volume %s, %s, can't be read for the compare: %s; "
                "every block of a stale region is sent\n",
                n->conf->volume[volume].name, path, strerror(-rc));
    } else if (!rc && !direct) {
        fprintf(stderr,
                "hikaed: HKE3111W the origin of volume %s, %s, has no O_DIRECT: the compare reads "
                "it through the page cache, whose clean pages are dropped first\n",
                n->conf->volume[volume].name, path);
    }
    return rc ? rc : p->origin[volume];
}

/* ---- sleeping, making, ending ---- */

bool hk_node_primary_before_sleep(struct hk_node *n)
{
    return n->capture.attached && hk_capture_client_arm(n->primary->client);
}

void hk_node_primary_after_sleep(struct hk_node *n)
{
    if (n->capture.attached)
        hk_capture_client_disarm(n->primary->client);
}

uint64_t hk_node_primary_deadline_ns(const struct hk_node *n)
{
    return hk_capture_client_deadline_ns(n->primary->client);
}

void hk_node_primary_status(const struct hk_node *n, struct hk_node_status *s)
{
    const struct hk_histogram *h;

    if (!n->primary)
        return;
    h = n->primary->latency.stage;
    s->acked_p50_ns = hk_histogram_at(&h[HK_LATENCY_ACKED], 500, s->now_mono_ns);
    s->acked_p99_ns = hk_histogram_at(&h[HK_LATENCY_ACKED], 990, s->now_mono_ns);
    s->durable_p50_ns = hk_histogram_at(&h[HK_LATENCY_DURABLE], 500, s->now_mono_ns);
    s->durable_p99_ns = hk_histogram_at(&h[HK_LATENCY_DURABLE], 990, s->now_mono_ns);
}

static void on_readable(void *arg)
{
    struct hk_node_primary *p = arg;

    p->readable = true;
}

int hk_node_primary_open(struct hk_node *n, char error[HK_CONFIG_ERROR_BYTES])
{
    struct hk_node_primary *p = calloc(1, sizeof(*p));
    int r = -ENOMEM;

    if (p)
        r = hk_capture_client_create(n->local->capture.socket, &n->conf->id, &p->client);
    if (!r)
        r = hk_reactor_watch(n->reactor, hk_capture_client_fd(p->client), false, on_readable, p);
    if (r) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8003E the client of the capture side at %s: %s",
                 n->local->capture.socket, strerror(-r));
        if (p)
            hk_capture_client_free(p->client);
        free(p);
        return 1;
    }
    for (uint32_t i = 0; i < HK_VOLUMES_MAX; i++)
        p->origin[i] = -1;
    p->readable = true;
    n->primary = p;
    if (hk_node_spool_open(n, error))
        return 1;
    p->source = (struct hk_source){source_gather, source_time_at, source_produced,
                                   source_look,   source_fill,    source_index_at};
    n->cfg.source = &p->source;
    return 0;
}

void hk_node_primary_free(struct hk_node *n)
{
    if (!n->primary)
        return;
    hk_reactor_unwatch(n->reactor, hk_capture_client_fd(n->primary->client));
    hk_capture_client_free(n->primary->client);
    for (uint32_t i = 0; i < HK_VOLUMES_MAX; i++)
        if (n->primary->origin[i] >= 0)
            close(n->primary->origin[i]);
    free(n->primary);
    n->primary = NULL;
}
