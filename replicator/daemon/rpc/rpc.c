/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/daemon/rpc/rpc.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- framing ---- */

uint8_t *hk_rpc_space(struct hk_rpc_in *in, size_t *ret_bytes)
{
    *ret_bytes = sizeof(in->buffer) - in->bytes;
    return in->buffer + in->bytes;
}

static uint32_t length_of(const struct hk_rpc_in *in)
{
    uint32_t n;

    memcpy(&n, in->buffer, sizeof(n));
    return n;
}

enum hk_rpc_fault hk_rpc_peek(const struct hk_rpc_in *in, const uint8_t **ret_body,
                              size_t *ret_bytes)
{
    if (in->bytes < HK_RPC_LENGTH_BYTES)
        return HK_RPC_MORE;
    if (length_of(in) > HK_CONTROL_MESSAGE_MAX)
        return HK_RPC_OVERSIZED;
    if (in->bytes < HK_RPC_LENGTH_BYTES + (size_t)length_of(in))
        return HK_RPC_MORE;
    *ret_body = in->buffer + HK_RPC_LENGTH_BYTES;
    *ret_bytes = length_of(in);
    return HK_RPC_OK;
}

void hk_rpc_drop(struct hk_rpc_in *in)
{
    size_t n = HK_RPC_LENGTH_BYTES + (size_t)length_of(in);

    HK_ASSERT(n <= in->bytes);
    memmove(in->buffer, in->buffer + n, in->bytes - n);
    in->bytes -= n;
}

/* ---- the capped allocator ---- */

struct cap {
    ProtobufCAllocator allocator;
    size_t left;
};

static void *cap_alloc(void *data, size_t bytes)
{
    struct cap *c = data;

    if (bytes > c->left)
        return NULL;
    c->left -= bytes;
    return malloc(bytes);
}

static void cap_free(void *data, void *p)
{
    free(p);
}

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, const uint8_t *body,
                                size_t bytes)
{
    struct cap cap = {{cap_alloc, cap_free, NULL}, HK_RPC_UNPACK_MAX};

    cap.allocator.allocator_data = &cap;
    return protobuf_c_message_unpack(d, &cap.allocator, bytes, body);
}

void hk_rpc_free(ProtobufCMessage *m)
{
    struct cap cap = {{cap_alloc, cap_free, NULL}, 0};

    cap.allocator.allocator_data = &cap;
    if (m)
        protobuf_c_message_free_unpacked(m, &cap.allocator);
}

Hk__Pb__Request *hk_rpc_request_unpack(const uint8_t *body, size_t bytes)
{
    return (Hk__Pb__Request *)(void *)unpack(&hk__pb__request__descriptor, body, bytes);
}

Hk__Pb__Reply *hk_rpc_reply_unpack(const uint8_t *body, size_t bytes)
{
    return (Hk__Pb__Reply *)(void *)unpack(&hk__pb__reply__descriptor, body, bytes);
}

int hk_rpc_pack(const ProtobufCMessage *m, uint8_t *out, size_t max)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    uint32_t length = (uint32_t)n;

    if (n > HK_CONTROL_MESSAGE_MAX || n + HK_RPC_LENGTH_BYTES > max)
        return -ENOSPC;
    memcpy(out, &length, sizeof(length));
    protobuf_c_message_pack(m, out + HK_RPC_LENGTH_BYTES);
    return (int)(n + HK_RPC_LENGTH_BYTES);
}

/* ---- struct hk_ctl ↔ SiteMessage ---- */

static ProtobufCBinaryData uuid_out(const struct hk_uuid *u)
{
    return (ProtobufCBinaryData){sizeof(u->b), (uint8_t *)(uintptr_t)u->b};
}

static bool uuid_in(const ProtobufCBinaryData *d, struct hk_uuid *u)
{
    if (d->len != sizeof(u->b))
        return false;
    memcpy(u->b, d->data, sizeof(u->b));
    return true;
}

static void epoch_out(const struct hk_epoch *e, Hk__Pb__Epoch *m)
{
    hk__pb__epoch__init(m);
    m->id = uuid_out(&e->id);
    m->parent = uuid_out(&e->parent);
    m->first_lsn = e->first_lsn;
    m->parent_end = e->parent_end;
    m->time_ns = e->time_ns;
    m->ordinal = e->ordinal;
    m->reason = e->reason;
}

static bool epoch_in(const Hk__Pb__Epoch *m, struct hk_epoch *e)
{
    e->first_lsn = m->first_lsn;
    e->parent_end = m->parent_end;
    e->time_ns = m->time_ns;
    e->ordinal = m->ordinal;
    e->reason = m->reason;
    return uuid_in(&m->id, &e->id) && uuid_in(&m->parent, &e->parent);
}

struct epochs_out {
    Hk__Pb__Epoch message[HK_HISTORY_EPOCHS_MAX];
    Hk__Pb__Epoch *pointer[HK_HISTORY_EPOCHS_MAX];
};

static void history_out(const struct hk_history *h, struct epochs_out *o)
{
    uint32_t i;

    HK_ASSERT(h->count <= HK_HISTORY_EPOCHS_MAX);
    for (i = 0; i < h->count; i++) {
        epoch_out(&h->epoch[i], &o->message[i]);
        o->pointer[i] = &o->message[i];
    }
}

static bool history_in(size_t n, Hk__Pb__Epoch *const *m, struct hk_history *h)
{
    size_t i;

    if (n > HK_HISTORY_EPOCHS_MAX)
        return false;
    memset(h, 0, sizeof(*h));
    h->count = (uint32_t)n;
    for (i = 0; i < n; i++)
        if (!epoch_in(m[i], &h->epoch[i]))
            return false;
    /* The message has no field for it: the oldest ordinal says how many are not kept any more. */
    if (n > 0 && h->epoch[0].ordinal > 0)
        h->dropped = h->epoch[0].ordinal - 1;
    return n == 0 || hk_history_check(h) == 0;
}

static int hello_encode(const struct hk_hello *h, uint8_t *out, size_t max)
{
    struct epochs_out history;
    Hk__Pb__SiteMessage site;
    Hk__Pb__Hello m;
    Hk__Pb__Epoch epoch;

    hk__pb__site_message__init(&site);
    hk__pb__hello__init(&m);
    HK_ASSERT(h->volume_count <= HK_VOLUMES_MAX);
    m.version_min = h->version_min;
    m.version_max = h->version_max;
    m.group_id = uuid_out(&h->group_id);
    m.site_id = uuid_out(&h->site_id);
    m.host_id = uuid_out(&h->host_id);
    m.replica_id = uuid_out(&h->replica_id);
    m.peer_replica_id = uuid_out(&h->peer_replica_id);
    m.ring_id = uuid_out(&h->ring_id);
    m.ring_first_lsn = h->ring_first_lsn;
    m.stale_bytes = h->stale_bytes;
    m.all_stale = h->all_stale;
    m.map = h->map;
    m.closed = h->closed;
    m.config_hash = h->config_hash;
    m.lease = h->lease;
    m.released = h->released;
    m.acked = h->acked;
    m.durable = h->durable;
    m.produced = h->produced;
    m.ceiling = h->ceiling;
    m.mode = h->mode;
    m.on_link_loss = h->on_link_loss;
    m.contact_timeout_ns = h->contact_timeout_ns;
    m.super_flags = h->super_flags;
    m.n_volume_bytes = h->volume_count;
    m.volume_bytes = (uint64_t *)(uintptr_t)h->volume_bytes;
    epoch_out(&h->epoch, &epoch);
    m.epoch = &epoch;
    history_out(&h->history, &history);
    m.n_history = h->history.count;
    m.history = history.pointer;
    site.body_case = HK__PB__SITE_MESSAGE__BODY_HELLO;
    site.hello = &m;
    return hk_rpc_pack(&site.base, out, max);
}

static bool hello_decode(const Hk__Pb__Hello *m, struct hk_hello *h)
{
    size_t i;

    h->version_min = m->version_min;
    h->version_max = m->version_max;
    h->config_hash = m->config_hash;
    h->lease = m->lease;
    h->released = m->released;
    h->acked = m->acked;
    h->durable = m->durable;
    h->produced = m->produced;
    h->ceiling = m->ceiling;
    h->ring_first_lsn = m->ring_first_lsn;
    h->stale_bytes = m->stale_bytes;
    h->all_stale = m->all_stale;
    h->map = m->map;
    h->closed = m->closed;
    h->mode = m->mode;
    h->on_link_loss = m->on_link_loss;
    h->contact_timeout_ns = m->contact_timeout_ns;
    h->super_flags = m->super_flags;
    if (m->n_volume_bytes > HK_VOLUMES_MAX || !m->epoch || !epoch_in(m->epoch, &h->epoch))
        return false;
    h->volume_count = (uint32_t)m->n_volume_bytes;
    for (i = 0; i < m->n_volume_bytes; i++)
        h->volume_bytes[i] = m->volume_bytes[i];
    return uuid_in(&m->group_id, &h->group_id) && uuid_in(&m->site_id, &h->site_id) &&
           uuid_in(&m->host_id, &h->host_id) && uuid_in(&m->replica_id, &h->replica_id) &&
           uuid_in(&m->peer_replica_id, &h->peer_replica_id) && uuid_in(&m->ring_id, &h->ring_id) &&
           history_in(m->n_history, m->history, &h->history);
}

static int welcome_encode(const struct hk_welcome *w, uint8_t *out, size_t max)
{
    struct epochs_out history;
    Hk__Pb__SiteMessage site;
    Hk__Pb__Welcome m;

    hk__pb__site_message__init(&site);
    hk__pb__welcome__init(&m);
    m.version = w->version;
    m.session = w->session;
    m.site_id = uuid_out(&w->site_id);
    m.host_id = uuid_out(&w->host_id);
    m.replica_id = uuid_out(&w->replica_id);
    m.config_hash = w->config_hash;
    m.acked = w->acked;
    m.durable = w->durable;
    m.applied = w->applied;
    m.window = w->window;
    m.super_flags = w->super_flags;
    m.bad_lsn = w->bad_lsn;
    m.bad_count = w->bad_count;
    m.gap = w->gap;
    m.compare_key =
        (ProtobufCBinaryData){sizeof(w->compare_key), (uint8_t *)(uintptr_t)w->compare_key};
    history_out(&w->history, &history);
    m.n_history = w->history.count;
    m.history = history.pointer;
    site.body_case = HK__PB__SITE_MESSAGE__BODY_WELCOME;
    site.welcome = &m;
    return hk_rpc_pack(&site.base, out, max);
}

static bool welcome_decode(const Hk__Pb__Welcome *m, struct hk_welcome *w)
{
    w->version = m->version;
    w->session = m->session;
    w->config_hash = m->config_hash;
    w->acked = m->acked;
    w->durable = m->durable;
    w->applied = m->applied;
    w->window = m->window;
    w->super_flags = m->super_flags;
    w->bad_lsn = m->bad_lsn;
    w->bad_count = m->bad_count;
    w->gap = m->gap;
    if (m->compare_key.len != sizeof(w->compare_key))
        return false;
    memcpy(w->compare_key, m->compare_key.data, sizeof(w->compare_key));
    return (m->session != 0) == (m->gap == HK_REFUSE_NONE) && m->gap < HK_REFUSALS &&
           uuid_in(&m->site_id, &w->site_id) && uuid_in(&m->host_id, &w->host_id) &&
           uuid_in(&m->replica_id, &w->replica_id) &&
           history_in(m->n_history, m->history, &w->history);
}

static int hash_ask_encode(const struct hk_hash_ask *a, uint8_t *out, size_t max)
{
    Hk__Pb__SiteMessage site;
    Hk__Pb__HashAsk m;

    hk__pb__site_message__init(&site);
    hk__pb__hash_ask__init(&m);
    m.request = a->request;
    m.pass = a->pass;
    m.volume = a->volume;
    m.offset = a->offset;
    m.bytes = a->bytes;
    m.after = a->after;
    site.body_case = HK__PB__SITE_MESSAGE__BODY_HASH_ASK;
    site.hash_ask = &m;
    return hk_rpc_pack(&site.base, out, max);
}

/* What it asks for must be a legal piece; whether the volume has it the group judges. */
static bool hash_ask_decode(const Hk__Pb__HashAsk *m, struct hk_hash_ask *a)
{
    a->request = m->request;
    a->pass = m->pass;
    a->volume = m->volume;
    a->offset = m->offset;
    a->bytes = m->bytes;
    a->after = m->after;
    return m->volume < HK_VOLUMES_MAX && m->offset % 512 == 0 && m->bytes > 0 &&
           m->bytes <= HK_COMPARE_BLOCKS_MAX * HK_COMPARE_BLOCK_BYTES && m->bytes % 512 == 0;
}

static int hashes_encode(const struct hk_hashes *h, uint8_t *out, size_t max)
{
    Hk__Pb__SiteMessage site;
    Hk__Pb__Hashes m;

    HK_ASSERT(h->count <= HK_COMPARE_BLOCKS_MAX);
    hk__pb__site_message__init(&site);
    hk__pb__hashes__init(&m);
    m.request = h->request;
    m.error = h->error;
    m.hash = (ProtobufCBinaryData){(size_t)h->count * HK_COMPARE_HASH_BYTES,
                                   (uint8_t *)(uintptr_t)h->hash};
    site.body_case = HK__PB__SITE_MESSAGE__BODY_HASHES;
    site.hashes = &m;
    return hk_rpc_pack(&site.base, out, max);
}

static bool hashes_decode(const Hk__Pb__Hashes *m, struct hk_hashes *h)
{
    if (m->hash.len % HK_COMPARE_HASH_BYTES != 0 || m->hash.len > sizeof(h->hash) || m->error > 0)
        return false;
    h->request = m->request;
    h->error = m->error;
    h->count = (uint32_t)(m->hash.len / HK_COMPARE_HASH_BYTES);
    if (m->hash.len > 0)
        memcpy(h->hash, m->hash.data, m->hash.len);
    return (h->count > 0) == (h->error == 0);
}

static int resize_encode(const struct hk_ctl *ctl, uint8_t *out, size_t max)
{
    Hk__Pb__SiteMessage site;
    Hk__Pb__Resize m;

    hk__pb__site_message__init(&site);
    hk__pb__resize__init(&m);
    m.volume = ctl->resize.volume;
    m.bytes = ctl->resize.bytes;
    m.error = ctl->resize.error;
    if (ctl->type == HK_CTL_RESIZE) {
        site.body_case = HK__PB__SITE_MESSAGE__BODY_RESIZE;
        site.resize = &m;
    } else {
        site.body_case = HK__PB__SITE_MESSAGE__BODY_RESIZED;
        site.resized = &m;
    }
    return hk_rpc_pack(&site.base, out, max);
}

static bool resize_decode(const Hk__Pb__Resize *m, struct hk_ctl *c)
{
    c->resize.volume = m->volume;
    c->resize.bytes = m->bytes;
    c->resize.error = m->error;
    return m->volume < HK_VOLUMES_MAX && m->bytes > 0 && m->bytes % HK_PAGE_BYTES == 0 &&
           m->error <= 0;
}

int hk_rpc_ctl_encode(const struct hk_ctl *ctl, uint8_t *out, size_t max)
{
    Hk__Pb__SiteMessage site;
    Hk__Pb__Refused refused;
    Hk__Pb__Freeze freeze;
    Hk__Pb__FreezeReply reply;
    Hk__Pb__Notice notice;
    Hk__Pb__Bye bye;

    hk__pb__site_message__init(&site);
    hk__pb__refused__init(&refused);
    hk__pb__freeze__init(&freeze);
    hk__pb__freeze_reply__init(&reply);
    hk__pb__notice__init(&notice);
    hk__pb__bye__init(&bye);
    switch (ctl->type) {
    case HK_CTL_HELLO: return hello_encode(&ctl->hello, out, max);
    case HK_CTL_WELCOME: return welcome_encode(&ctl->welcome, out, max);
    case HK_CTL_HASH_ASK: return hash_ask_encode(&ctl->hash_ask, out, max);
    case HK_CTL_HASHES: return hashes_encode(&ctl->hashes, out, max);
    case HK_CTL_RESIZE:
    case HK_CTL_RESIZED: return resize_encode(ctl, out, max);
    case HK_CTL_REFUSED:
        refused.reason = ctl->refused.reason;
        refused.n_detail = 2;
        refused.detail = (uint64_t *)(uintptr_t)ctl->refused.detail;
        site.body_case = HK__PB__SITE_MESSAGE__BODY_REFUSED;
        site.refused = &refused;
        break;
    case HK_CTL_FREEZE:
        freeze.op_id = ctl->freeze.op_id;
        freeze.name = (char *)(uintptr_t)ctl->freeze.name;
        site.body_case = HK__PB__SITE_MESSAGE__BODY_FREEZE;
        site.freeze = &freeze;
        break;
    case HK_CTL_FREEZE_REPLY:
        reply.op_id = ctl->freeze_reply.op_id;
        reply.error = ctl->freeze_reply.error;
        reply.lsn = ctl->freeze_reply.lsn;
        reply.end = ctl->freeze_reply.end;
        site.body_case = HK__PB__SITE_MESSAGE__BODY_FREEZE_REPLY;
        site.freeze_reply = &reply;
        break;
    case HK_CTL_NOTICE:
        notice.id = ctl->notice.id;
        notice.n_arg = HK_ARRAY_SIZE(ctl->notice.arg);
        notice.arg = (uint64_t *)(uintptr_t)ctl->notice.arg;
        site.body_case = HK__PB__SITE_MESSAGE__BODY_NOTICE;
        site.notice = &notice;
        break;
    case HK_CTL_BYE:
        bye.reason = ctl->bye.reason;
        site.body_case = HK__PB__SITE_MESSAGE__BODY_BYE;
        site.bye = &bye;
        break;
    }
    return hk_rpc_pack(&site.base, out, max);
}

static bool ctl_in(const Hk__Pb__SiteMessage *m, struct hk_ctl *c)
{
    size_t i;

    switch (m->body_case) {
    case HK__PB__SITE_MESSAGE__BODY_HELLO:
        c->type = HK_CTL_HELLO;
        return hello_decode(m->hello, &c->hello);
    case HK__PB__SITE_MESSAGE__BODY_WELCOME:
        c->type = HK_CTL_WELCOME;
        return welcome_decode(m->welcome, &c->welcome);
    case HK__PB__SITE_MESSAGE__BODY_REFUSED:
        c->type = HK_CTL_REFUSED;
        c->refused.reason = m->refused->reason;
        for (i = 0; i < m->refused->n_detail && i < 2; i++)
            c->refused.detail[i] = m->refused->detail[i];
        return m->refused->reason > 0 && m->refused->reason < HK_REFUSALS;
    case HK__PB__SITE_MESSAGE__BODY_FREEZE:
        c->type = HK_CTL_FREEZE;
        c->freeze.op_id = m->freeze->op_id;
        if (strlen(m->freeze->name) >= sizeof(c->freeze.name))
            return false;
        strcpy(c->freeze.name, m->freeze->name);
        return true;
    case HK__PB__SITE_MESSAGE__BODY_FREEZE_REPLY:
        c->type = HK_CTL_FREEZE_REPLY;
        c->freeze_reply.op_id = m->freeze_reply->op_id;
        c->freeze_reply.error = m->freeze_reply->error;
        c->freeze_reply.lsn = m->freeze_reply->lsn;
        c->freeze_reply.end = m->freeze_reply->end;
        return m->freeze_reply->error <= 0;
    case HK__PB__SITE_MESSAGE__BODY_NOTICE:
        c->type = HK_CTL_NOTICE;
        c->notice.id = m->notice->id;
        for (i = 0; i < m->notice->n_arg && i < HK_ARRAY_SIZE(c->notice.arg); i++)
            c->notice.arg[i] = m->notice->arg[i];
        return true;
    case HK__PB__SITE_MESSAGE__BODY_BYE:
        c->type = HK_CTL_BYE;
        c->bye.reason = m->bye->reason;
        return m->bye->reason < HK_REFUSALS;
    case HK__PB__SITE_MESSAGE__BODY_HASH_ASK:
        c->type = HK_CTL_HASH_ASK;
        return hash_ask_decode(m->hash_ask, &c->hash_ask);
    case HK__PB__SITE_MESSAGE__BODY_HASHES:
        c->type = HK_CTL_HASHES;
        return hashes_decode(m->hashes, &c->hashes);
    case HK__PB__SITE_MESSAGE__BODY_RESIZE:
        c->type = HK_CTL_RESIZE;
        return resize_decode(m->resize, c);
    case HK__PB__SITE_MESSAGE__BODY_RESIZED:
        c->type = HK_CTL_RESIZED;
        return resize_decode(m->resized, c);
    case HK__PB__SITE_MESSAGE__BODY__NOT_SET:
    case _HK__PB__SITE_MESSAGE__BODY__CASE_IS_INT_SIZE: break;
    }
    return false;
}

enum hk_rpc_fault hk_rpc_ctl_decode(const uint8_t *body, size_t bytes, struct hk_ctl *ret_ctl)
{
    Hk__Pb__SiteMessage *m =
        (Hk__Pb__SiteMessage *)(void *)unpack(&hk__pb__site_message__descriptor, body, bytes);
    struct hk_ctl ctl;
    bool ok;

    if (!m)
        return HK_RPC_MALFORMED;
    memset(&ctl, 0, sizeof(ctl));
    ok = ctl_in(m, &ctl);
    hk_rpc_free(&m->base);
    if (!ok)
        return HK_RPC_MALFORMED;
    *ret_ctl = ctl;
    return HK_RPC_OK;
}

/* ---- the operator's side ---- */

static int connect_local(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, error;

    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    error = -errno;
    close(fd);
    return error;
}

static int send_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

        if (sent < 0)
            return -errno;
        bytes += sent;
        n -= (size_t)sent;
    }
    return 0;
}

/* One recvmsg; a descriptor that comes beside the bytes replaces *fd_out. */
static ssize_t receive(int fd, void *space, size_t bytes, int *fd_out)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {space, bytes};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        if (*fd_out >= 0)
            close(*fd_out);
        memcpy(fd_out, CMSG_DATA(c), sizeof(int));
    }
    return n;
}

int hk_rpc_call(const char *socket_path, const Hk__Pb__Request *request, int timeout_ms,
                Hk__Pb__Reply **ret_reply, int *ret_fd)
{
    struct hk_rpc_in *in = calloc(1, sizeof(*in));
    int fd = connect_local(socket_path), passed = -1, error = fd < 0 ? fd : 0, n;
    enum hk_rpc_fault fault = HK_RPC_MORE;
    const uint8_t *body = NULL;
    Hk__Pb__Reply *reply = NULL;
    size_t bytes = 0;

    if (!in)
        error = -ENOMEM;
    if (!error) {
        n = hk_rpc_pack(&request->base, in->buffer, sizeof(in->buffer));
        error = n < 0 ? n : send_all(fd, in->buffer, (size_t)n);
    }
    while (!error && fault == HK_RPC_MORE) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        size_t room;
        uint8_t *space = hk_rpc_space(in, &room);
        ssize_t got;

        if (poll(&p, 1, timeout_ms) <= 0) {
            error = -ETIMEDOUT;
            break;
        }
        got = receive(fd, space, room, &passed);
        if (got <= 0)
            error = got < 0 ? -errno : -EPROTO;
        else
            in->bytes += (size_t)got;
        fault = hk_rpc_peek(in, &body, &bytes);
    }
    if (!error && fault == HK_RPC_OK)
        reply = hk_rpc_reply_unpack(body, bytes);
    if (!error && !reply)
        error = -EPROTO;
    if (fd >= 0)
        close(fd);
    free(in);
    if (passed >= 0 && (error || !ret_fd))
        close(passed);
    if (error)
        return error;
    *ret_reply = reply;
    if (ret_fd)
        *ret_fd = passed;
    return 0;
}
