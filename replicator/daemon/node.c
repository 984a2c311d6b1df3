/* SPDX-License-Identifier: Apache-2.0 */
/* The node: events in, actions out, nothing decided here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "replicator/daemon/node_private.h"

void hk_node_event(struct hk_node *n, const struct hk_event *e)
{
    hk_group_event(n->group, e, hk_reactor_now(n->reactor));
}

/* ---- to the control thread ---- */

/*
 * What the control thread can ask again, or what only a log misses, leaves room for what somebody
 * waits for: no such thing is taken on without room for it (run_actions, poll_control).
 */
struct hk_from_node *hk_node_tell(struct hk_node *n, enum hk_from_node_kind kind)
{
    bool may_be_lost = kind == HK_FROM_NODE_NOTIFY || kind == HK_FROM_NODE_CAPTURE;
    struct hk_from_node *m = NULL;

    if (hk_queue_room(&n->out) > (may_be_lost ? HK_NODE_OUT_RESERVE : 0))
        m = hk_queue_space(&n->out);
    if (m) {
        m->kind = kind;
        m->epoch = 0;
        m->lsn = 0;
    }
    return m;
}

void hk_node_told(struct hk_node *n)
{
    uint64_t one = 1;
    ssize_t written;

    hk_queue_put(&n->out);
    written = write(n->out_fd, &one, sizeof(one));
    (void)written; /* EAGAIN: the counter is full, so it is readable anyway */
}

static void tell_action(struct hk_node *n, enum hk_from_node_kind kind)
{
    struct hk_from_node *m = hk_node_tell(n, kind);

    if (!m) {
        fprintf(stderr, "hikaed: the control thread does not keep up; an action was dropped\n");
        return;
    }
    m->action = n->action;
    hk_node_told(n);
}

/* ---- from the control thread ---- */

static void fill_status(struct hk_node *n, struct hk_node_status *s)
{
    const struct hk_now *now = hk_reactor_now(n->reactor);
    struct hk_link_stats link;
    uint32_t i;

    hk_group_status(n->group, now, &s->group);
    s->capture = n->capture;
    s->now_real_ns = now->real_ns;
    s->now_mono_ns = now->mono_ns;
    hk_node_primary_status(n, s);
    for (i = 0; i < n->path_count; i++) {
        hk_link_stats(n->link[i], &link);
        memcpy(s->bad[i], link.bad, sizeof(link.bad));
        s->rx_foreign[i] = link.rx_foreign;
        snprintf(s->link_text[i], sizeof(s->link_text[i]), "%s", hk_link_text(n->link[i]));
        s->group.path[i].frames_tx = link.frames_tx;
        s->group.path[i].frames_rx = link.frames_rx;
        s->group.path[i].bytes_tx = link.bytes_tx;
        s->group.path[i].bytes_rx = link.bytes_rx;
    }
}

static void take_message(struct hk_node *n, const struct hk_to_node *m)
{
    struct hk_event *e = &n->event;

    memset(e, 0, sizeof(*e));
    switch (m->kind) {
    case HK_TO_NODE_CONTROL_UP:
        e->type = HK_EV_CONTROL_UP;
        hk_node_event(n, e);
        break;
    case HK_TO_NODE_CONTROL:
        e->type = HK_EV_CONTROL_IN;
        e->control = &m->control;
        hk_node_event(n, e);
        break;
    case HK_TO_NODE_CONTROL_DOWN:
        e->type = HK_EV_CONTROL_DOWN;
        hk_node_event(n, e);
        break;
    case HK_TO_NODE_VERB:
        e->type = HK_EV_VERB;
        e->verb = m->verb;
        hk_node_event(n, e);
        break;
    case HK_TO_NODE_STATUS:
        fill_status(n, m->status);
        if (hk_node_tell(n, HK_FROM_NODE_STATUS))
            hk_node_told(n);
        break;
    case HK_TO_NODE_STOP:
        n->stopping = true;
        hk_reactor_stop(n->reactor);
        break;
    }
}

static uint32_t poll_control(struct hk_node *n)
{
    struct hk_to_node *m;
    uint32_t work = 0;

    while (hk_queue_room(&n->out) > 0 && (m = hk_queue_peek(&n->in))) {
        take_message(n, m);
        hk_queue_take(&n->in);
        work++;
    }
    return work;
}

/* ---- links and disks ---- */

struct frame_arg {
    struct hk_node *node;
    uint8_t path;
};

static void on_frame(void *arg, const struct hk_frame *hdr, const uint8_t *body)
{
    struct frame_arg *a = arg;
    struct hk_event e = {.type = HK_EV_FRAME_IN};

    e.frame.header = *hdr;
    e.frame.body = body;
    hk_node_event(a->node, &e);
}

static void on_bad_frame(void *arg, enum hk_frame_fault fault)
{
    struct frame_arg *a = arg;
    struct hk_event e = {.type = HK_EV_BAD_FRAME};

    e.bad_frame.path = a->path;
    e.bad_frame.fault = fault;
    hk_node_event(a->node, &e);
}

static void on_disk_done(void *arg, struct hk_diskop *op)
{
    struct hk_event e = {.type = HK_EV_DISK_DONE};

    e.disk = op;
    hk_node_event(arg, &e);
}

static uint32_t poll_links(struct hk_node *n, const struct hk_now *now)
{
    uint32_t i, work = 0;

    for (i = 0; i < n->path_count; i++) {
        struct frame_arg arg = {n, (uint8_t)i};
        bool up;

        work += hk_link_poll(n->link[i], now, on_frame, on_bad_frame, &arg, HK_NODE_LINK_BUDGET);
        up = hk_link_is_up(n->link[i]);
        if (up != n->link_up[i]) {
            struct hk_event e = {.type = HK_EV_LINK};

            n->link_up[i] = up;
            e.link.path = (uint8_t)i;
            e.link.up = up;
            e.link.frame_body_max = hk_link_body_max(n->link[i]);
            hk_node_event(n, &e);
        }
    }
    return work;
}

/* ---- actions ---- */

static void act_send(struct hk_node *n)
{
    const struct hk_frame *h = &n->action.send.header;
    struct hk_iovec body = {n->action.send.body, h->body_len};
    const struct hk_iovec *iov = &body;
    int pieces = 1;

    if (h->path >= n->path_count)
        return;
    if (h->type == HK_FRAME_DATA) {
        iov = n->iov;
        pieces = hk_node_primary_gather(n, HK_LSN(h->lsn), h->span);
        if (pieces == -ERANGE) {
            struct hk_event e = {.type = HK_EV_RING_LOST};

            hk_node_event(n, &e);
        }
        if (pieces < 0)
            return; /* not sent: recovery will find it missing */
    }
    /* Without room the frame is lost like any other; hk_group_next was told there was room. */
    hk_link_send(n->link[h->path], h, iov, pieces);
}

static void act_hash(struct hk_node *n)
{
    const struct hk_hash_ask *ask = &n->action.hash.ask;
    int fd = n->primary ? hk_node_primary_origin(n, ask->volume)
                        : hk_uring_disk_fd(n->disk, HK_FILE_VOLUME0 + ask->volume);

    hk_hasher_start(n->hasher, fd, ask, n->action.hash.key);
}

static void on_hashed(void *arg, const struct hk_hashes *h)
{
    struct hk_event e = {.type = HK_EV_HASHED};

    e.hashed = h;
    hk_node_event(arg, &e);
}

static void act(struct hk_node *n)
{
    switch (n->action.type) {
    case HK_ACT_SEND: act_send(n); break;
    case HK_ACT_REPORT:
    case HK_ACT_INSERT:
    case HK_ACT_BIND_PEER:
    case HK_ACT_CHECK_COPY:
    case HK_ACT_RETURN:
    case HK_ACT_STALE_ASK:
    case HK_ACT_BLOCK:
    case HK_ACT_HEAL:
    case HK_ACT_RESIZE:
    case HK_ACT_STALE_ALL: hk_node_primary_action(n, &n->action); break;
    case HK_ACT_HASH: act_hash(n); break;
    case HK_ACT_CONTROL_OUT: tell_action(n, HK_FROM_NODE_CONTROL); break;
    case HK_ACT_CONTROL_CLOSE: tell_action(n, HK_FROM_NODE_CONTROL_CLOSE); break;
    case HK_ACT_NOTIFY:
        if (n->action.notify.id == HK_NOTE_PROMOTED)
            hk_node_standby_let_go(n); /* before anybody is told that they may be written */
        tell_action(n, HK_FROM_NODE_NOTIFY);
        break;
    case HK_ACT_VERB_DONE: tell_action(n, HK_FROM_NODE_VERB_DONE); break;
    case HK_ACT_FATAL:
        tell_action(n, HK_FROM_NODE_FATAL);
        n->failed = true;
        hk_reactor_stop(n->reactor);
        break;
    }
}

static bool can_send(const struct hk_node *n)
{
    uint32_t i;

    for (i = 0; i < n->path_count; i++)
        if (!hk_link_has_room(n->link[i]))
            return false;
    return true;
}

static uint32_t run_actions(struct hk_node *n, const struct hk_now *now)
{
    uint32_t work = 0, i;

    while (!n->failed && work < HK_NODE_ACTIONS_MAX && hk_queue_room(&n->out) > 0 &&
           hk_group_next(n->group, now, can_send(n), &n->action)) {
        act(n);
        work++;
    }
    for (i = 0; i < n->path_count; i++)
        hk_link_flush(n->link[i]);
    return work;
}

/* ---- the poller ---- */

static uint32_t node_poll(void *arg, const struct hk_now *now)
{
    struct hk_node *n = arg;
    uint32_t work = poll_control(n);

    if (n->primary)
        work += hk_node_primary_poll(n, now);
    work += poll_links(n, now);
    if (n->disk)
        work += hk_uring_disk_poll(n->disk, on_disk_done, n, 256);
    work += hk_hasher_poll(n->hasher, on_hashed, n);
    if (work == 0 && hk_group_deadline_ns(n->group) <= now->mono_ns) {
        struct hk_event e = {.type = HK_EV_TIMER};

        hk_node_event(n, &e);
        work++;
    }
    return work + run_actions(n, now);
}

static uint64_t node_deadline(void *arg)
{
    struct hk_node *n = arg;
    uint64_t deadline = hk_group_deadline_ns(n->group);
    uint32_t i;

    for (i = 0; i < n->path_count; i++)
        deadline = hk_min_u64(deadline, hk_link_deadline_ns(n->link[i]));
    if (n->primary)
        deadline = hk_min_u64(deadline, hk_node_primary_deadline_ns(n));
    return deadline;
}

static bool node_before_sleep(void *arg)
{
    struct hk_node *n = arg;

    return hk_queue_peek(&n->in) || (n->primary && hk_node_primary_before_sleep(n));
}

static void node_after_sleep(void *arg)
{
    struct hk_node *n = arg;

    if (n->primary)
        hk_node_primary_after_sleep(n);
}

/* ---- making one ---- */

static int open_links(struct hk_node *n, char *error)
{
    const struct hk_site_conf *here = &n->conf->site[n->local->site_index];
    const struct hk_site_conf *there = &n->conf->site[n->local->peer_index];
    char own[HK_ADDRESS_BYTES], peer[HK_ADDRESS_BYTES];
    struct hk_io_error err;
    uint32_t i;

    n->path_count = here->path_count;
    for (i = 0; i < n->path_count; i++) {
        struct hk_link_cfg cfg = {
            .backend = n->local->link.backend == HK_BACKEND_DPDK ? HK_LINK_DPDK : HK_LINK_UDP,
            .path = (uint8_t)i,
            .local_address = own,
            .peer_address = peer,
            .device =
                n->local->link.backend == HK_BACKEND_DPDK ? n->local->link.interface[i] : NULL,
            .mtu = n->local->link.mtu,
            .impair = {n->local->link.loss_ppm, n->local->link.dup_ppm, n->local->link.reorder_ppm,
                       n->local->link.corrupt_ppm, n->local->link.impair_seed},
        };

        hk_address_split(here->path[i], own, sizeof(own), &cfg.local_port);
        hk_address_split(there->path[i], peer, sizeof(peer), &cfg.peer_port);
        if (hk_link_create(&cfg, n->reactor, &n->link[i], &err)) {
            snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE2001E path %u: %s", i, err.text);
            return 1;
        }
        n->cfg.frame_body_max[i] = hk_link_body_max(n->link[i]);
    }
    n->cfg.path_count = n->path_count;
    return 0;
}

static void fill_cfg(struct hk_node *n)
{
    struct hk_group_cfg *c = &n->cfg;
    uint32_t i;

    c->role = n->local->primary ? HK_ROLE_PRIMARY : HK_ROLE_STANDBY;
    c->group_id = n->conf->id;
    c->site_id = n->conf->site[n->local->site_index].id;
    c->host_id = n->local->host_id;
    c->config_hash = n->conf->hash;
    c->volume_count = n->conf->volume_count;
    for (i = 0; i < c->volume_count; i++) {
        c->volume_bytes[i] = n->conf->volume[i].bytes;
        c->volume_max[i] = n->conf->volume[i].max_bytes;
        memcpy(c->volume_name[i], n->conf->volume[i].name, HK_NAME_BYTES);
    }
    c->contact_timeout_ns = n->conf->contact_timeout_ns;
    c->rate_max_bytes_s = n->local->link.rate_max_bytes_s;
    if (getrandom(&c->seed, sizeof(c->seed), 0) != (ssize_t)sizeof(c->seed))
        c->seed = hk_clock_mono_ns();
}

static int make_group(struct hk_node *n, char *error)
{
    struct hk_io_error err;
    struct hk_now now;
    int r;

    if (hk_memory_arena(hk_group_bytes(&n->cfg), &n->arena, NULL, &err)) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8002E %s", err.text);
        return 1;
    }
    hk_clock_now(&now);
    r = hk_group_init(&n->cfg, &n->arena, &now, &n->group);
    if (r) {
        snprintf(error, HK_CONFIG_ERROR_BYTES,
                 "HKE8001E group %s cannot be set up from its configuration: %s", n->conf->name,
                 strerror(-r));
        return 1;
    }
    return 0;
}

int hk_node_create(const struct hk_group_conf *group, const struct hk_local_conf *local,
                   struct hk_node **ret_node, char error[HK_CONFIG_ERROR_BYTES])
{
    struct hk_reactor_cfg rcfg = {.name = "hk-reactor", .cpu = -1};
    struct hk_node *n = calloc(1, sizeof(*n));
    struct hk_io_error err;
    uint32_t i;

    if (!n) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8002E out of memory");
        return 1;
    }
    n->conf = group;
    n->local = local;
    n->out_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (n->out_fd < 0 || hk_queue_init(&n->in, 64, sizeof(struct hk_to_node)) ||
        hk_queue_init(&n->out, HK_NODE_OUT_SLOTS, sizeof(struct hk_from_node))) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8002E out of memory or descriptors");
        goto err_node;
    }
    fill_cfg(n);
    if (hk_reactor_create(&rcfg, &n->reactor, &err)) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8003E %s", err.text);
        goto err_node;
    }
    if (hk_hasher_create(n->reactor, &n->hasher, &err)) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8003E %s", err.text);
        goto err_node;
    }
    if (local->primary ? hk_node_primary_open(n, error) : hk_node_standby_open(n, error))
        goto err_node;
    if (open_links(n, error) || make_group(n, error))
        goto err_node;
    n->poller = (struct hk_poller){.name = "node",
                                   .arg = n,
                                   .poll = node_poll,
                                   .deadline_ns = node_deadline,
                                   .before_sleep = node_before_sleep,
                                   .after_sleep = node_after_sleep};
    for (i = 0; i < n->path_count; i++)
        n->poller.must_poll |= hk_link_must_poll(n->link[i]);
    hk_reactor_add(n->reactor, &n->poller);
    *ret_node = n;
    return 0;

err_node:
    hk_node_free(n);
    return 1;
}

void hk_node_free(struct hk_node *n)
{
    uint32_t i;

    if (!n)
        return;
    hk_node_primary_free(n);
    for (i = 0; i < HK_PATHS_MAX; i++)
        hk_link_free(n->link[i]);
    if (!n->failed)
        hk_hasher_free(n->hasher);
    /* After a fatal error requests may still be in flight: the process ends, the kernel cleans. */
    if (n->disk && hk_uring_disk_in_flight(n->disk) == 0)
        hk_uring_disk_free(n->disk);
    if (n->reactor && !n->failed) {
        hk_reactor_remove(n->reactor, &n->poller);
        hk_reactor_free(n->reactor);
    }
    if (!n->failed) {
        hk_memory_arena_free(&n->arena);
        hk_memory_arena_free(&n->window);
    }
    if (n->out_fd >= 0)
        close(n->out_fd);
    hk_queue_fini(&n->in);
    hk_queue_fini(&n->out);
    free(n);
}

/* Lets the group finish what is in flight, so that an orderly stop leaves nothing torn. Bounded. */
static void wind_down(struct hk_node *n)
{
    struct hk_event e = {.type = HK_EV_VERB};
    uint64_t end = hk_clock_mono_ns() + 2000000000u;

    e.verb.kind = HK_VERB_STOP;
    hk_node_event(n, &e);
    do
        hk_reactor_turn(n->reactor, 1000000);
    while (n->disk && hk_uring_disk_in_flight(n->disk) && hk_clock_mono_ns() < end);
    hk_reactor_turn(n->reactor, 1000000);
}

void *hk_node_run(void *node)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    struct hk_node *n = node;

    hk_memory_seal();
    hk_reactor_run(n->reactor);
    if (!n->failed)
        wind_down(n);
    hk_memory_unseal();
    /* The control thread ends only on this word. */
    while (!hk_node_tell(n, HK_FROM_NODE_STOPPED))
        nanosleep(&pause, NULL);
    hk_node_told(n);
    return NULL;
}

/* ---- the control thread's side ---- */

struct hk_to_node *hk_node_space(struct hk_node *n)
{
    return hk_queue_space(&n->in);
}

void hk_node_post(struct hk_node *n)
{
    hk_queue_put(&n->in);
    hk_reactor_wake(n->reactor);
}

struct hk_from_node *hk_node_peek(struct hk_node *n)
{
    return hk_queue_peek(&n->out);
}

void hk_node_take(struct hk_node *n)
{
    hk_queue_take(&n->out);
}

int hk_node_event_fd(const struct hk_node *n)
{
    return n->out_fd;
}
