/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread's loop: sockets and queues. What verbs mean is in verbs.c. */
#include "replicator/daemon/control.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "replicator/io/clock.h"

/* What an epoll event belongs to: clients are TAG_CLIENT + index. */
enum { TAG_SIGNAL = 1, TAG_NODE, TAG_LISTENER, TAG_PEER_LISTENER, TAG_PEER, TAG_CLIENT };

static int watch(struct hk_control *c, int fd, uint32_t tag, uint32_t events)
{
    struct epoll_event e = {.events = events};

    e.data.u32 = tag;
    return epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

static void rewatch(struct hk_control *c, int fd, uint32_t tag, uint32_t events)
{
    struct epoll_event e = {.events = events};

    e.data.u32 = tag;
    epoll_ctl(c->epoll, EPOLL_CTL_MOD, fd, &e);
}

/* ---- operators ---- */

static void client_close(struct hk_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    if (client->pass_fd >= 0)
        close(client->pass_fd);
    if (client->request)
        hk_rpc_free(&client->request->base);
    free(client->out);
    memset(client, 0, sizeof(*client));
    client->fd = client->pass_fd = -1;
}

static uint32_t client_tag(const struct hk_control *c, const struct hk_client *client)
{
    return TAG_CLIENT + (uint32_t)(client - c->client);
}

static void client_accept(struct hk_control *c)
{
    int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred cred;
    socklen_t len = sizeof(cred);
    uint32_t i;

    if (fd < 0)
        return;
    for (i = 0; i < HK_CLIENTS_MAX && c->client[i].fd >= 0; i++)
        ;
    if (i == HK_CLIENTS_MAX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) ||
        watch(c, fd, TAG_CLIENT + i, EPOLLIN)) {
        close(fd);
        return;
    }
    c->client[i].fd = fd;
    c->client[i].uid = cred.uid;
    c->client[i].since_ns = hk_clock_mono_ns();
}

static ssize_t send_with_fd(struct hk_client *client)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {client->out + client->out_sent, client->out_bytes - client->out_sent};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (client->pass_fd >= 0) {
        struct cmsghdr *h;

        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        h = CMSG_FIRSTHDR(&msg);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), &client->pass_fd, sizeof(int));
    }
    return sendmsg(client->fd, &msg, MSG_NOSIGNAL);
}

static void client_send(struct hk_control *c, struct hk_client *client)
{
    while (client->out_sent < client->out_bytes) {
        ssize_t n = send_with_fd(client);

        if (n < 0 && errno == EAGAIN) {
            rewatch(c, client->fd, client_tag(c, client), EPOLLOUT);
            return;
        }
        if (n <= 0)
            break;
        if (client->pass_fd >= 0)
            close(client->pass_fd);
        client->pass_fd = -1;
        client->out_sent += (size_t)n;
    }
    client_close(client);
}

void hk_control_reply(struct hk_control *c, struct hk_client *client, const Hk__Pb__Reply *reply,
                      int fd)
{
    size_t room = HK_RPC_LENGTH_BYTES + HK_CONTROL_MESSAGE_MAX;
    int n;

    client->out = malloc(room);
    n = client->out ? hk_rpc_pack(&reply->base, client->out, room) : -ENOMEM;
    client->pass_fd = fd;
    if (n < 0) {
        client_close(client);
        return;
    }
    client->out_bytes = (size_t)n;
    client->stage = HK_CLIENT_REPLYING;
    client_send(c, client);
}

/* Every request is judged on a fresh status: the node is asked once for all who wait. */
static void ask_status(struct hk_control *c)
{
    struct hk_to_node *m;

    if (c->asked)
        return;
    m = hk_node_space(c->node);
    if (!m)
        return;
    m->kind = HK_TO_NODE_STATUS;
    m->status = &c->asked_status;
    c->asked = true;
    hk_node_post(c->node);
}

static void client_bad(struct hk_control *c, const struct hk_client *client, const char *what)
{
    c->local_bad++;
    hk_notice_add(c, "HKE7011W", 0, 0, 0, NULL,
                  "a local request of uid %u could not be understood (%s); nothing was changed",
                  client->uid, what);
}

static void client_read(struct hk_control *c, struct hk_client *client)
{
    enum hk_rpc_fault fault;
    const uint8_t *body;
    uint8_t *space;
    size_t room, bytes;
    ssize_t n;

    space = hk_rpc_space(&client->in, &room);
    n = room ? read(client->fd, space, room) : 0;
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (client->stage == HK_CLIENT_READING && client->in.bytes)
            client_bad(c, client, "truncated");
        client_close(client);
        return;
    }
    if (client->stage != HK_CLIENT_READING)
        return; /* more than one request is not part of the dialogue */
    client->in.bytes += (size_t)n;
    fault = hk_rpc_peek(&client->in, &body, &bytes);
    if (fault == HK_RPC_MORE)
        return;
    client->request = fault == HK_RPC_OK ? hk_rpc_request_unpack(body, bytes) : NULL;
    if (!client->request) {
        client_bad(c, client, fault == HK_RPC_OVERSIZED ? "oversized" : "malformed");
        client_close(client);
        return;
    }
    client->stage = HK_CLIENT_ASKING;
    ask_status(c);
}

static void client_event(struct hk_control *c, struct hk_client *client, uint32_t events)
{
    if (client->fd < 0)
        return;
    if (client->stage == HK_CLIENT_REPLYING)
        client_send(c, client);
    else
        client_read(c, client);
}

/* Once a second at most: other looks at the status are an operator's. */
static void rpo_look(struct hk_control *c)
{
    const struct hk_group_status *g = &c->status.group;
    struct hk_now now = {.mono_ns = c->status.now_mono_ns, .real_ns = c->status.now_real_ns};

    if (c->rpo && now.mono_ns >= c->rpo_ns && g->ready && !g->promoted) {
        c->rpo_ns = now.mono_ns + HK_COUNT_MS * 500000ull;
        hk_rpo_look(c->rpo, g->lose_known, g->lose_ns, g->lose_bytes, &now);
    }
}

static void status_arrived(struct hk_control *c)
{
    uint32_t i;

    c->asked = false;
    c->status = c->asked_status;
    hk_notice_bad_frames(c);
    hk_report_watch(c);
    rpo_look(c);
    for (i = 0; i < HK_CLIENTS_MAX; i++)
        if (c->client[i].fd >= 0 && c->client[i].stage == HK_CLIENT_ASKING) {
            c->client[i].stage = HK_CLIENT_WAITING;
            hk_verbs_handle(c, &c->client[i]);
        }
}

/* ---- the other site ---- */

static bool post(struct hk_control *c, enum hk_to_node_kind kind)
{
    struct hk_to_node *m = hk_node_space(c->node);

    if (!m)
        return false;
    m->kind = kind;
    hk_node_post(c->node);
    return true;
}

/* What the node must hear is owed until its queue takes it: a connection nobody knows of would
 * stand unused for ever, and a stop would not be one. */
static void pay_node(struct hk_control *c)
{
    if (c->owe_stop)
        c->owe_stop = !post(c, HK_TO_NODE_STOP);
    if (c->owe_down)
        c->owe_down = !post(c, HK_TO_NODE_CONTROL_DOWN);
    if (c->owe_up && !c->owe_down)
        c->owe_up = !post(c, HK_TO_NODE_CONTROL_UP);
}

static void tell_up(struct hk_control *c)
{
    c->owe_up = true;
    pay_node(c);
}

static void tell_down(struct hk_control *c)
{
    if (c->owe_up)
        c->owe_up = false; /* it never heard of this one */
    else
        c->owe_down = true;
    pay_node(c);
}

static void peer_close(struct hk_control *c)
{
    bool told = c->peer >= 0 && !c->peer_connecting;

    if (c->peer >= 0)
        close(c->peer);
    c->peer = -1;
    c->peer_connecting = false;
    c->peer_in.bytes = 0;
    c->peer_out_bytes = 0;
    c->peer_retry_ns = hk_clock_mono_ns() + HK_PEER_RETRY_MS * 1000000ull;
    if (told)
        tell_down(c);
}

static void peer_up(struct hk_control *c)
{
    int one = 1, timeout_ms = (int)(c->conf->contact_timeout_ns / 1000000);

    setsockopt(c->peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(c->peer, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
    setsockopt(c->peer, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(c->peer, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof(one));
    setsockopt(c->peer, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one));
    c->peer_connecting = false;
    rewatch(c, c->peer, TAG_PEER, EPOLLIN);
    tell_up(c);
}

static int address_of(const char *text, struct sockaddr_in *ret)
{
    char host[HK_ADDRESS_BYTES];
    uint16_t port;

    if (hk_address_split(text, host, sizeof(host), &port))
        return -EINVAL;
    memset(ret, 0, sizeof(*ret));
    ret->sin_family = AF_INET;
    ret->sin_port = htons(port);
    inet_pton(AF_INET, host, &ret->sin_addr);
    return 0;
}

static void peer_connect(struct hk_control *c)
{
    struct sockaddr_in own, other;

    c->peer_retry_ns = hk_clock_mono_ns() + HK_PEER_RETRY_MS * 1000000ull;
    address_of(c->conf->site[c->local->site_index].control, &own);
    address_of(c->conf->site[c->local->peer_index].control, &other);
    own.sin_port = 0;
    c->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->peer < 0)
        return;
    c->peer_connecting = true;
    if (bind(c->peer, (struct sockaddr *)&own, sizeof(own)) ||
        (connect(c->peer, (struct sockaddr *)&other, sizeof(other)) && errno != EINPROGRESS) ||
        watch(c, c->peer, TAG_PEER, EPOLLOUT))
        peer_close(c);
}

/* Counted each time, said once a minute: it is somebody else who sets the pace. */
static void stranger(struct hk_control *c, const struct sockaddr_in *from)
{
    char host[INET_ADDRSTRLEN] = "?";
    uint64_t now = hk_clock_mono_ns();

    c->strangers++;
    if (c->stranger_ns && now - c->stranger_ns < 60000000000)
        return;
    inet_ntop(AF_INET, &from->sin_addr, host, sizeof(host));
    hk_notice_add(c, "HKE7015W", 0, 0, 0, NULL,
                  "a control connection from %s, which is not the other site's address, was closed "
                  "unread (%llu so far)",
                  host, (unsigned long long)c->strangers);
    c->stranger_ns = now;
}

/* A new connection takes the place of the old: after a link cut the old one is half open. */
static void peer_accept(struct hk_control *c)
{
    struct sockaddr_in from, other;
    socklen_t len = sizeof(from);
    int fd =
        accept4(c->peer_listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    address_of(c->conf->site[c->local->peer_index].control, &other);
    if (from.sin_addr.s_addr != other.sin_addr.s_addr) {
        stranger(c, &from);
        close(fd); /* nothing is told to strangers */
        return;
    }
    peer_close(c);
    c->peer = fd;
    if (watch(c, fd, TAG_PEER, EPOLLIN))
        peer_close(c);
    else
        peer_up(c);
}

static void peer_bad(struct hk_control *c, const char *what, const char *id)
{
    c->peer_bad++;
    hk_notice_add(
        c, id, 0, 0, 0, NULL,
        "a control message of the other site is %s; the connection was closed and is made "
        "again, no data is lost",
        what);
    peer_close(c);
}

/* Whole messages go to the node, as many as it takes; the rest when it has room again. */
static void peer_take(struct hk_control *c)
{
    enum hk_rpc_fault fault;
    struct hk_to_node *m;
    const uint8_t *body;
    size_t bytes;

    if (c->peer < 0 || c->owe_up || c->owe_down)
        return;
    while ((fault = hk_rpc_peek(&c->peer_in, &body, &bytes)) == HK_RPC_OK) {
        m = hk_node_space(c->node);
        if (!m)
            return;
        m->kind = HK_TO_NODE_CONTROL;
        if (hk_rpc_ctl_decode(body, bytes, &m->control)) {
            peer_bad(c, "malformed", "HKE7013W");
            return;
        }
        hk_node_post(c->node);
        hk_rpc_drop(&c->peer_in);
    }
    if (fault == HK_RPC_OVERSIZED)
        peer_bad(c, "oversized", "HKE7012W");
}

static void peer_read(struct hk_control *c)
{
    uint8_t *space;
    size_t room;
    ssize_t n;

    space = hk_rpc_space(&c->peer_in, &room);
    if (room == 0)
        return; /* until the node takes what is here */
    n = read(c->peer, space, room);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (c->peer_in.bytes)
            peer_bad(c, "truncated", "HKE7014W");
        else
            peer_close(c);
        return;
    }
    c->peer_in.bytes += (size_t)n;
    peer_take(c);
}

static void peer_flush(struct hk_control *c)
{
    ssize_t n;

    if (c->peer < 0 || c->peer_connecting || !c->peer_out_bytes)
        return;
    n = send(c->peer, c->peer_out, c->peer_out_bytes, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN)
        n = 0;
    if (n < 0) {
        peer_close(c);
        return;
    }
    memmove(c->peer_out, c->peer_out + n, c->peer_out_bytes - (size_t)n);
    c->peer_out_bytes -= (size_t)n;
    rewatch(c, c->peer, TAG_PEER, EPOLLIN | (c->peer_out_bytes ? EPOLLOUT : 0));
}

static void peer_send(struct hk_control *c, const struct hk_ctl *ctl)
{
    int n;

    if (c->peer < 0 || c->peer_connecting)
        return;
    n = hk_rpc_ctl_encode(ctl, c->peer_out + c->peer_out_bytes,
                          sizeof(c->peer_out) - c->peer_out_bytes);
    if (n < 0) {
        peer_close(c); /* the other side reads nothing: begin anew */
        return;
    }
    c->peer_out_bytes += (size_t)n;
    peer_flush(c);
}

static void peer_event(struct hk_control *c, uint32_t events)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if (c->peer < 0)
        return;
    if (c->peer_connecting) {
        getsockopt(c->peer, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error)
            peer_close(c);
        else
            peer_up(c);
        return;
    }
    if (events & EPOLLOUT)
        peer_flush(c);
    if (c->peer >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        peer_read(c);
}

/* ---- the node ---- */

static void node_message(struct hk_control *c, const struct hk_from_node *m)
{
    switch (m->kind) {
    case HK_FROM_NODE_CONTROL: peer_send(c, &m->action.control); break;
    case HK_FROM_NODE_CONTROL_CLOSE:
        peer_flush(c);
        peer_close(c);
        break;
    case HK_FROM_NODE_NOTIFY: hk_notice_event(c, m); break;
    case HK_FROM_NODE_VERB_DONE: hk_verbs_done(c, &m->action); break;
    case HK_FROM_NODE_STATUS: status_arrived(c); break;
    case HK_FROM_NODE_CAPTURE:
        hk_notice_capture(c, &c->capture, &m->capture);
        c->capture = m->capture;
        break;
    case HK_FROM_NODE_FATAL:
        c->fatal = true;
        c->exit_code = 1;
        hk_notice_event(c, m);
        break;
    case HK_FROM_NODE_STOPPED: c->stop = true; break;
    }
}

static void node_event(struct hk_control *c)
{
    struct hk_from_node *m;
    uint64_t count;
    ssize_t n = read(hk_node_event_fd(c->node), &count, sizeof(count));

    (void)n;
    while ((m = hk_node_peek(c->node))) {
        node_message(c, m);
        hk_node_take(c->node);
    }
}

bool hk_control_post_verb(struct hk_control *c, const struct hk_verb *verb)
{
    struct hk_to_node *m = hk_node_space(c->node);

    if (!m)
        return false;
    m->kind = HK_TO_NODE_VERB;
    m->verb = *verb;
    hk_node_post(c->node);
    return true;
}

/* ---- the loop ---- */

static void timers(struct hk_control *c)
{
    uint64_t now = hk_clock_mono_ns();
    uint32_t i;

    pay_node(c);
    if (c->peer >= 0 && !c->peer_connecting && c->peer_in.bytes)
        peer_take(c);
    if (c->local->primary && c->peer < 0 && now >= c->peer_retry_ns)
        peer_connect(c);
    for (i = 0; i < HK_CLIENTS_MAX; i++) {
        struct hk_client *client = &c->client[i];

        if (client->fd < 0)
            continue;
        if (client->stage == HK_CLIENT_ASKING)
            ask_status(c);
        if (now - client->since_ns >
            (client->stage == HK_CLIENT_READING ? HK_READING_MS : HK_REQUEST_TIMEOUT_MS) *
                1000000ull)
            client_close(client);
    }
    hk_verbs_fence_poll(c);
    if (now >= c->count_ns) {
        c->count_ns = now + HK_COUNT_MS * 1000000ull;
        hk_events_sync(c->events);
        ask_status(c);
    }
}

static void dispatch(struct hk_control *c, const struct epoll_event *e)
{
    switch (e->data.u32) {
    case TAG_SIGNAL:
        c->owe_stop = true;
        pay_node(c);
        break;
    case TAG_NODE: node_event(c); break;
    case TAG_LISTENER: client_accept(c); break;
    case TAG_PEER_LISTENER: peer_accept(c); break;
    case TAG_PEER: peer_event(c, e->events); break;
    default: client_event(c, &c->client[e->data.u32 - TAG_CLIENT], e->events); break;
    }
}

int hk_control_run(struct hk_control *c)
{
    struct epoll_event events[32];
    int i, n;

    while (!c->stop) {
        n = epoll_wait(c->epoll, events, 32, 100);
        for (i = 0; i < n; i++)
            dispatch(c, &events[i]);
        timers(c);
    }
    return c->exit_code;
}

static int listen_local(struct hk_control *c, char *error)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(addr.sun_path, c->local->socket, sizeof(addr.sun_path));
    /* Somebody who answers there is a living daemon; a leftover of a dead one is removed. */
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
        snprintf(error, HK_CONFIG_ERROR_BYTES,
                 "HKE1010E %s: another hikaed serves this socket; stop it first", c->local->socket);
        close(fd);
        return 1;
    }
    unlink(c->local->socket);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 16) ||
        chmod(c->local->socket, 0660) || watch(c, fd, TAG_LISTENER, EPOLLIN)) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE1011E %s: cannot listen there: %s",
                 c->local->socket, strerror(errno));
        if (fd >= 0)
            close(fd);
        return 1;
    }
    c->listener = fd;
    return 0;
}

static int listen_peer(struct hk_control *c, char *error)
{
    const char *text = c->conf->site[c->local->site_index].control;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in addr;

    address_of(text, &addr);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 4) ||
        watch(c, fd, TAG_PEER_LISTENER, EPOLLIN)) {
        snprintf(
            error, HK_CONFIG_ERROR_BYTES,
            "HKE2002E %s: cannot listen for the other site: %s; is the address on an interface "
            "of this host?",
            text, strerror(errno));
        if (fd >= 0)
            close(fd);
        return 1;
    }
    c->peer_listener = fd;
    return 0;
}

int hk_control_open(struct hk_control *c, char error[HK_CONFIG_ERROR_BYTES])
{
    sigset_t set;
    uint32_t i;

    for (i = 0; i < HK_CLIENTS_MAX; i++)
        c->client[i].fd = c->client[i].pass_fd = -1;
    c->peer = c->listener = c->peer_listener = -1;
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (c->epoll < 0 || c->signals < 0 || watch(c, c->signals, TAG_SIGNAL, EPOLLIN | EPOLLET) ||
        watch(c, hk_node_event_fd(c->node), TAG_NODE, EPOLLIN)) {
        snprintf(error, HK_CONFIG_ERROR_BYTES, "HKE8003E control thread: %s", strerror(errno));
        return 1;
    }
    if (listen_local(c, error))
        return 1;
    return c->local->primary ? 0 : listen_peer(c, error);
}

void hk_control_close(struct hk_control *c)
{
    uint32_t i;

    for (i = 0; i < HK_CLIENTS_MAX; i++)
        client_close(&c->client[i]);
    if (c->peer >= 0)
        close(c->peer);
    if (c->listener >= 0) {
        close(c->listener);
        unlink(c->local->socket);
    }
    if (c->peer_listener >= 0)
        close(c->peer_listener);
    close(c->signals);
    close(c->epoll);
}
