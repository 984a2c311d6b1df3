/* SPDX-License-Identifier: Apache-2.0 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver-glue/nbd/messages.h"
#include "driver-glue/nbd/service.h"
#include "driver-glue/uapi/capture_ipc.h"

enum { PEERS_MAX = 4, TICK_MS_MAX = 100, STATE_EVERY_NS = 1000000000 };

struct peer {
    int fd;         /* -1: free */
    uint64_t lease; /* 0: has not attached */
    bool told_stop;
    bool all_stale; /* it asked for STALE_ALL and waits for the answer */
};

struct hk_service {
    struct hk_engine *e;
    int listen_fd, epoll_fd;
    pthread_t thread;
    bool started, end; /* end: under the engine's lock */
    struct peer peer[PEERS_MAX];
    struct hk_cap_ipc in, out;
    enum hk_group_state sent_state;
    uint64_t sent_ns;
    unsigned sent_flags;
    /* Mode, policy and T of the superblock told last. */
    uint32_t told_mode, told_on_link_loss, told_ordinal;
    uint64_t told_timeout_ns, told_sizes;
};

static int watch(const struct hk_service *s, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int hk_service_open(struct hk_engine *e, struct hk_service **ret_service)
{
    struct hk_service *s = calloc(1, sizeof(*s));
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (!s)
        return -1;
    s->e = e;
    s->epoll_fd = -1;
    for (unsigned i = 0; i < PEERS_MAX; i++)
        s->peer[i].fd = -1;
    strcpy(address.sun_path, e->conf.socket);
    s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->listen_fd < 0)
        goto fail;
    /* The group's lock is ours, so what stands there was left by a dead one. */
    unlink(e->conf.socket);
    if (bind(s->listen_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(e->conf.socket, 0660) < 0 || listen(s->listen_fd, PEERS_MAX) < 0)
        goto fail;
    if (chown(e->conf.socket, e->conf.reader_uid, (gid_t)-1) < 0)
        nbdkit_debug("%s: chown to uid %u: %m", e->conf.socket, e->conf.reader_uid);
    *ret_service = s;
    return 0;
fail:
    nbdkit_error(HK_MSG_SERVICE " %s: the socket for the replicator cannot be made: %m; nothing is "
                                "served; correct socket in site.conf",
                 e->conf.socket);
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    free(s);
    return -1;
}

/* Never blocks. A peer that does not read loses states, and its connection if it must not. */
static int send_out(struct hk_service *s, const struct peer *p, enum hk_cap_ipc_type type)
{
    s->out.magic = HK_CAP_IPC_MAGIC;
    s->out.type = (uint16_t)type;
    s->out.lease = p->lease;
    if (send(p->fd, &s->out, hk_cap_ipc_bytes(s->out.type), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return -errno;
    return 0;
}

static struct hk_cap_ipc *fresh_out(struct hk_service *s)
{
    memset(&s->out, 0, sizeof(s->out));
    return &s->out;
}

/* Under the engine's lock. */
static void drop(struct hk_service *s, struct peer *p, const struct hk_now *now)
{
    if (p->lease)
        hk_capture_detach(s->e->capture, p->lease, now);
    close(p->fd);
    *p = (struct peer){.fd = -1};
    hk_engine_pump(s->e, now);
}

static void refuse(struct hk_service *s, const struct peer *p, int error,
                   enum hk_cap_refusal reason)
{
    struct hk_cap_ipc *m = fresh_out(s);

    m->refused.error = error;
    m->refused.reason = reason;
    send_out(s, p, HK_IPC_REFUSED);
}

/* Volumes only grow. */
static uint64_t sizes_of(const struct hk_super *super)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < super->volume_count; i++)
        sum += super->volume[i].bytes;
    return sum;
}

static bool super_is_told(const struct hk_service *s, const struct hk_super *super)
{
    return s->told_ordinal == hk_history_last(&super->history)->ordinal &&
           s->told_mode == super->mode && s->told_on_link_loss == super->on_link_loss &&
           s->told_timeout_ns == super->contact_timeout_ns && s->told_sizes == sizes_of(super);
}

static void super_told(struct hk_service *s, const struct hk_super *super)
{
    s->told_ordinal = hk_history_last(&super->history)->ordinal;
    s->told_mode = super->mode;
    s->told_on_link_loss = super->on_link_loss;
    s->told_timeout_ns = super->contact_timeout_ns;
    s->told_sizes = sizes_of(super);
}

static int send_attached(struct hk_service *s, const struct peer *p)
{
    const int fds[3] = {s->e->ring_read_fd, s->e->event_fd, s->e->hint_fd};
    union {
        char bytes[CMSG_SPACE(sizeof(fds))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct hk_cap_ipc *m = fresh_out(s);
    struct iovec iov = {m, hk_cap_ipc_bytes(HK_IPC_ATTACHED)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    struct hk_capture_status st;

    hk_capture_status(s->e->capture, &st);
    m->magic = HK_CAP_IPC_MAGIC;
    m->type = HK_IPC_ATTACHED;
    m->lease = p->lease;
    m->attached.ring_id = s->e->ring_id;
    m->attached.tail = st.tail;
    m->attached.tail_lsn = st.tail_lsn.v;
    m->attached.released = st.released.v;
    m->attached.acked = st.acked.v;
    m->attached.durable = st.durable.v;
    m->attached.super = st.super;
    super_told(s, &st.super);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(h), fds, sizeof(fds));
    return sendmsg(p->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* 0, or -1: the peer is to be dropped. All of these under the engine's lock. */
static int on_attach(struct hk_service *s, struct peer *p, const struct hk_now *now)
{
    enum hk_cap_refusal why = HK_CAP_REFUSE_OTHER;

    if (!hk_uuid_equal(&s->in.attach.group_id, &s->e->conf.group_id))
        why = HK_CAP_REFUSE_GROUP;
    else if (s->in.attach.version != HK_CAP_IPC_VERSION)
        why = HK_CAP_REFUSE_VERSION;
    else if (p->lease)
        why = HK_CAP_REFUSE_MESSAGE;
    if (why) {
        nbdkit_error(HK_MSG_REFUSED " group %s: a replicator (process %u) was refused: %s; nothing "
                                    "changed; correct its configuration or version",
                     s->e->conf.group_name, s->in.attach.pid,
                     why == HK_CAP_REFUSE_GROUP     ? "it is for another group"
                     : why == HK_CAP_REFUSE_VERSION ? "it speaks another version"
                                                    : "it attached twice");
        refuse(s, p, -EPROTO, why);
        return -1;
    }
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (s->peer[i].fd >= 0 && s->peer[i].lease) {
            refuse(s, &s->peer[i], -ESTALE, HK_CAP_REFUSE_STALE);
            drop(s, &s->peer[i], now);
        }
    }
    p->lease = hk_capture_attach(s->e->capture, now);
    s->sent_ns = 0;
    return send_attached(s, p);
}

static int on_report(struct hk_service *s, const struct peer *p, const struct hk_now *now)
{
    int rc = hk_capture_report(s->e->capture, s->in.lease, HK_LSN(s->in.report.released),
                               HK_LSN(s->in.report.acked), HK_LSN(s->in.report.durable),
                               s->in.report.contact_ns, now);
    struct hk_capture_spool spool = {.room = s->in.report.flags & HK_IPC_REPORT_SPOOL_ROOM,
                                     .first = HK_LSN(s->in.report.spool_first),
                                     .end = HK_LSN(s->in.report.spool_end)};

    /* Behind the watermarks: what they set free is no reason to go behind. */
    if (rc == 0)
        rc = hk_capture_spool(s->e->capture, s->in.lease, &spool, now);
    if (rc) {
        nbdkit_error(HK_MSG_REFUSED " group %s: the replicator reported what cannot be (%s); its "
                                    "connection ends, nothing it said was believed",
                     s->e->conf.group_name, rc == -ESTALE ? "a lease of another" : "positions");
        refuse(s, p, rc, rc == -ESTALE ? HK_CAP_REFUSE_STALE : HK_CAP_REFUSE_RANGE);
    }
    return rc;
}

static int on_insert(struct hk_service *s, const struct peer *p, const struct hk_now *now)
{
    struct hk_cap_ipc *m = fresh_out(s);
    struct hk_lsn lsn = HK_LSN(0), end = HK_LSN(0);
    struct hk_mark mark = s->in.insert.mark;

    m->inserted.error = hk_capture_insert(s->e->capture, s->in.lease, s->in.insert.record_type,
                                          &mark, sizeof(mark), now, &lsn, &end);
    m->inserted.request = s->in.insert.request;
    m->inserted.lsn = lsn.v;
    m->inserted.end = end.v;
    return send_out(s, p, HK_IPC_INSERTED);
}

static int on_peer(struct hk_service *s, const struct peer *p)
{
    int rc = hk_capture_bind_peer(s->e->capture, s->in.lease, &s->in.peer.replica_id);

    if (rc == -EEXIST) {
        nbdkit_error(HK_MSG_REFUSED
                     " group %s: another standby than the one this metadata is bound "
                     "to was met; it is not believed; create the group anew if the "
                     "standby was replaced",
                     s->e->conf.group_name);
        refuse(s, p, rc, HK_CAP_REFUSE_PEER);
    }
    return rc == -ESTALE ? rc : 0;
}

static int on_check_copy(struct hk_service *s, const struct hk_now *now)
{
    struct hk_lsn lsn = HK_LSN(s->in.check_copy.lsn);
    int rc = hk_capture_check_copy(s->e->capture, s->in.lease, lsn, now);

    if (rc == -EUCLEAN)
        nbdkit_error(HK_MSG_COPY_LOST
                     " group %s: the record at LSN %#llx is damaged in the memory of the ring; "
                     "the standby can't have it: a full compare is required; examine this host's "
                     "memory, and what was written last on the volumes",
                     s->e->conf.group_name, (unsigned long long)lsn.v);
    return rc == -ESTALE ? rc : 0;
}

/* What cannot be is not believed; it asks again as long as the log is closed. */
static int on_return(struct hk_service *s, const struct peer *p, const struct hk_now *now)
{
    struct hk_lsn at = HK_LSN(s->in.ret.parent_end);
    int rc = hk_capture_return(s->e->capture, s->in.lease, at, now);

    if (rc == 0)
        return 0;
    fresh_out(s)->returned.error = rc;
    return send_out(s, p, HK_IPC_RETURNED);
}

static int on_stale_ask(struct hk_service *s, const struct peer *p)
{
    struct hk_cap_ipc *m = fresh_out(s);
    struct hk_capture_stale stale = {0};

    m->stale.error = hk_capture_stale_next(s->e->capture, s->in.stale_ask.volume,
                                           s->in.stale_ask.offset, &stale);
    m->stale.volume = stale.volume;
    m->stale.offset = stale.offset;
    m->stale.bytes = stale.bytes;
    m->stale.event = stale.event;
    m->stale.after = stale.after.v;
    return send_out(s, p, HK_IPC_STALE);
}

static int on_block(struct hk_service *s, const struct peer *p)
{
    struct hk_block_job job = {.request = s->in.block.request,
                               .lease = p->lease,
                               .volume = s->in.block.volume,
                               .offset = s->in.block.offset,
                               .bytes = s->in.block.bytes};
    int rc = hk_blocks_ask(&s->e->blocks, &job);

    if (rc == 0)
        return 0;
    fresh_out(s)->blocked.request = job.request;
    s->out.blocked.error = rc;
    return send_out(s, p, HK_IPC_BLOCKED);
}

static int on_heal(struct hk_service *s, const struct peer *p, const struct hk_now *now)
{
    struct hk_cap_ipc *m = fresh_out(s);

    m->healed.error =
        hk_capture_heal(s->e->capture, s->in.lease, s->in.heal.volume, s->in.heal.offset,
                        s->in.heal.event, HK_LSN(s->in.heal.end), now);
    m->healed.request = s->in.heal.request;
    return send_out(s, p, HK_IPC_HEALED);
}

static int on_resize(struct hk_service *s, const struct peer *p)
{
    int rc = hk_grow_begin(s->e, p->lease, s->in.resize.volume, s->in.resize.bytes);

    if (rc == 0 || rc == -EALREADY)
        return 0;
    fresh_out(s)->resize.error = rc;
    return send_out(s, p, HK_IPC_RESIZED);
}

static int on_message(struct hk_service *s, struct peer *p, const struct hk_now *now)
{
    if (s->in.type != HK_IPC_ATTACH && (!p->lease || s->in.lease != p->lease)) {
        refuse(s, p, -ESTALE, HK_CAP_REFUSE_STALE);
        return -1;
    }
    switch ((enum hk_cap_ipc_type)s->in.type) {
    case HK_IPC_ATTACH: return on_attach(s, p, now);
    case HK_IPC_REPORT: return on_report(s, p, now);
    case HK_IPC_INSERT: return on_insert(s, p, now);
    case HK_IPC_PEER: return on_peer(s, p);
    case HK_IPC_CHECK_COPY: return on_check_copy(s, now);
    case HK_IPC_RETURN: return on_return(s, p, now);
    case HK_IPC_STALE_ASK: return on_stale_ask(s, p);
    case HK_IPC_BLOCK: return on_block(s, p);
    case HK_IPC_HEAL: return on_heal(s, p, now);
    case HK_IPC_STALE_ALL:
        p->all_stale = true;
        return hk_capture_stale_all(s->e->capture, s->in.lease, now);
    case HK_IPC_RESIZE: return on_resize(s, p);
    case HK_IPC_DETACH: return -1;
    case HK_IPC_ATTACHED:
    case HK_IPC_REFUSED:
    case HK_IPC_INSERTED:
    case HK_IPC_STATE:
    case HK_IPC_STOP:
    case HK_IPC_STALE:
    case HK_IPC_BLOCKED:
    case HK_IPC_HEALED:
    case HK_IPC_ALL_STALE:
    case HK_IPC_RETURNED:
    case HK_IPC_RESIZED:
    case HK_IPC_EPOCH: break;
    }
    refuse(s, p, -EPROTO, HK_CAP_REFUSE_MESSAGE);
    return -1;
}

static bool whole(const struct hk_cap_ipc *m, ssize_t bytes)
{
    return bytes >= (ssize_t)offsetof(struct hk_cap_ipc, attach) && m->magic == HK_CAP_IPC_MAGIC &&
           bytes == (ssize_t)hk_cap_ipc_bytes(m->type);
}

/* Everything a peer has sent, at most so much at once that others get their turn. */
static void read_peer(struct hk_service *s, struct peer *p)
{
    struct hk_now now;

    for (unsigned i = 0; i < 64; i++) {
        ssize_t n = recv(p->fd, &s->in, sizeof(s->in), MSG_DONTWAIT);
        int rc = 0;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        hk_engine_now(&now);
        pthread_mutex_lock(&s->e->lock);
        if (!whole(&s->in, n))
            rc = -1;
        else
            rc = on_message(s, p, &now);
        hk_engine_pump(s->e, &now);
        if (rc)
            drop(s, p, &now);
        pthread_mutex_unlock(&s->e->lock);
        if (rc)
            return;
    }
}

static void accept_peer(struct hk_service *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t bytes = sizeof(who);
    struct peer *p = NULL;

    if (fd < 0)
        return;
    for (unsigned i = 0; i < PEERS_MAX && !p; i++)
        p = s->peer[i].fd < 0 ? &s->peer[i] : NULL;
    /* Whoever came and never attached makes room. */
    for (unsigned i = 0; i < PEERS_MAX && !p; i++) {
        if (s->peer[i].lease)
            continue;
        p = &s->peer[i];
        close(p->fd);
        p->fd = -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) < 0 ||
        (who.uid != s->e->conf.reader_uid && who.uid != 0 && who.uid != geteuid())) {
        nbdkit_error(HK_MSG_REFUSED " group %s: uid %d may not read this group's ring; set "
                                    "reader-uid in site.conf if it should",
                     s->e->conf.group_name, (int)who.uid);
        p = NULL;
    }
    if (!p || watch(s, fd) < 0) {
        close(fd);
        return;
    }
    *p = (struct peer){.fd = fd};
}

static void fill_state(struct hk_service *s, const struct hk_capture_status *st)
{
    struct hk_cap_ipc *m = fresh_out(s);

    m->flags =
        (uint16_t)((st->in_sync ? HK_IPC_FLAG_IN_SYNC : 0) |
                   (st->passing ? HK_IPC_FLAG_PASSING : 0) | (st->barred ? HK_IPC_FLAG_BARRED : 0) |
                   (st->closed ? HK_IPC_FLAG_CLOSED : 0) | (st->resync ? HK_IPC_FLAG_RESYNC : 0) |
                   (s->e->stopping ? HK_IPC_FLAG_STOPPING : 0));
    m->state.state = st->state;
    m->state.super_flags = st->super.flags;
    m->state.produced = st->produced.v;
    m->state.ceiling = st->ceiling.v;
    m->state.released = st->released.v;
    m->state.acked = st->acked.v;
    m->state.durable = st->durable.v;
    m->state.since_ns = st->state_since_ns;
    m->state.slots_used = st->slots_used;
    m->state.slots_total = st->slots_total;
    m->state.payload_used = st->payload_used;
    m->state.payload_total = st->payload_total;
    m->state.waiting = st->waiting;
    m->state.held = st->held;
    m->state.writes = st->writes;
    m->state.bytes = st->bytes;
    m->state.uncaptured = st->uncaptured;
    m->state.origin_errors = st->origin_errors;
    m->state.degraded_lsn = st->super.degraded_lsn;
    m->state.stale_bytes = st->stale_bytes;
    m->state.resync_at = st->resync_at.v;
    m->state.resync_pass = st->resync_pass;
    m->state.active_regions = st->regions_active;
    m->state.hot_regions = st->regions_hot;
    m->state.bad_ranges = st->bad_ranges;
}

/*
 * A weaker mode holds from the moment the standby has stored it: a replicator that went on
 * believing the stronger one would call it in sync.
 */
static bool tell_super(struct hk_service *s, const struct hk_capture_status *st)
{
    const struct hk_super *super = &st->super;
    bool told = true;

    if (super_is_told(s, super))
        return true;
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (s->peer[i].fd < 0 || !s->peer[i].lease)
            continue;
        fresh_out(s)->epoch.super = *super;
        s->out.epoch.tail = st->tail;
        s->out.epoch.tail_lsn = st->tail_lsn.v;
        told = send_out(s, &s->peer[i], HK_IPC_EPOCH) == 0 && told;
    }
    if (told)
        super_told(s, super);
    return told;
}

/* On change, and each second. Under the engine's lock. */
static void tell_state(struct hk_service *s, const struct hk_now *now)
{
    struct hk_capture_status st;

    hk_capture_status(s->e->capture, &st);
    /* Positions of a new epoch mean nothing to who does not know of it. */
    if (!tell_super(s, &st))
        return;
    fill_state(s, &st);
    if (st.state == s->sent_state && s->out.flags == s->sent_flags && s->sent_ns &&
        now->mono_ns - s->sent_ns < STATE_EVERY_NS)
        return;
    s->sent_state = st.state;
    s->sent_flags = s->out.flags;
    s->sent_ns = now->mono_ns;
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (s->peer[i].fd >= 0 && s->peer[i].lease)
            send_out(s, &s->peer[i], HK_IPC_STATE);
    }
}

/* Whoever said that everything is stale hears when that is durable. */
static void tell_all_stale(struct hk_service *s)
{
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &s->peer[i];

        if (p->fd < 0 || !p->lease || !p->all_stale || !hk_capture_all_stale(s->e->capture))
            continue;
        fresh_out(s);
        p->all_stale = send_out(s, p, HK_IPC_ALL_STALE) != 0;
    }
}

/* Of who asked and is gone nobody wants to know. */
static void tell_blocked(struct hk_service *s)
{
    const struct hk_block_job *job;

    while ((job = hk_blocks_answer(&s->e->blocks))) {
        for (unsigned i = 0; i < PEERS_MAX; i++) {
            struct peer *p = &s->peer[i];

            if (p->fd < 0 || !p->lease || p->lease != job->lease)
                continue;
            fresh_out(s)->blocked.request = job->request;
            s->out.blocked.end = job->end;
            s->out.blocked.error = job->error;
            if (send_out(s, p, HK_IPC_BLOCKED) == -EAGAIN)
                return;
        }
        hk_blocks_told(&s->e->blocks);
    }
}

/* What became of it the new size says; only that there is none has to be told. */
static void tell_resized(struct hk_service *s)
{
    struct hk_grow_job job;

    if (!hk_grow_answer(s->e, &job))
        return;
    for (unsigned i = 0; i < PEERS_MAX && job.error; i++) {
        struct peer *p = &s->peer[i];

        if (p->fd < 0 || !p->lease || p->lease != job.lease)
            continue;
        fresh_out(s)->resize.error = job.error;
        send_out(s, p, HK_IPC_RESIZED);
    }
}

static void tell_stop(struct hk_service *s)
{
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &s->peer[i];

        if (p->fd < 0 || !p->lease || p->told_stop)
            continue;
        fresh_out(s);
        p->told_stop = send_out(s, p, HK_IPC_STOP) == 0;
    }
}

/* Returns how long to sleep, in milliseconds; -1: end. */
static int turn(struct hk_service *s)
{
    struct hk_engine *e = s->e;
    uint64_t deadline_ns;
    struct hk_now now;
    int wait_ms = -1;

    hk_engine_now(&now);
    pthread_mutex_lock(&e->lock);
    hk_capture_tick(e->capture, &now);
    hk_engine_pump(e, &now);
    tell_state(s, &now);
    tell_all_stale(s);
    tell_blocked(s);
    tell_resized(s);
    if (e->stopping)
        tell_stop(s);
    if (!s->end) {
        deadline_ns = hk_capture_deadline_ns(e->capture);
        wait_ms = TICK_MS_MAX;
        if (deadline_ns < now.mono_ns + TICK_MS_MAX * 1000000ull)
            wait_ms =
                deadline_ns <= now.mono_ns ? 1 : (int)((deadline_ns - now.mono_ns) / 1000000) + 1;
    }
    pthread_mutex_unlock(&e->lock);
    return wait_ms;
}

static void *service_main(void *arg)
{
    struct hk_service *s = arg;
    struct epoll_event ev[8];
    uint64_t count;
    int wait_ms;

    pthread_setname_np(pthread_self(), "hk-service");
    while ((wait_ms = turn(s)) >= 0) {
        int n = epoll_wait(s->epoll_fd, ev, 8, wait_ms);

        for (int i = 0; i < n; i++) {
            if (ev[i].data.fd == s->listen_fd) {
                accept_peer(s);
            } else if (ev[i].data.fd == s->e->kick_fd) {
                if (read(s->e->kick_fd, &count, sizeof(count)) < 0)
                    continue;
            } else {
                for (unsigned k = 0; k < PEERS_MAX; k++) {
                    if (s->peer[k].fd == ev[i].data.fd)
                        read_peer(s, &s->peer[k]);
                }
            }
        }
    }
    return NULL;
}

int hk_service_start(struct hk_service *s)
{
    int rc;

    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0)
        return -errno;
    rc = watch(s, s->listen_fd);
    if (!rc)
        rc = watch(s, s->e->kick_fd);
    if (!rc)
        rc = -pthread_create(&s->thread, NULL, service_main, s);
    s->started = rc == 0;
    return rc;
}

void hk_service_stop(struct hk_service *s)
{
    const uint64_t one = 1;

    if (!s->started)
        return;
    pthread_mutex_lock(&s->e->lock);
    s->end = true;
    pthread_mutex_unlock(&s->e->lock);
    if (write(s->e->kick_fd, &one, sizeof(one)) < 0)
        nbdkit_debug("kick: %m");
    pthread_join(s->thread, NULL);
    s->started = false;
}

void hk_service_free(struct hk_service *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (s->peer[i].fd >= 0)
            close(s->peer[i].fd);
    }
    close(s->listen_fd);
    unlink(s->e->conf.socket);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    free(s);
}
