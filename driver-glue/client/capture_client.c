/* SPDX-License-Identifier: Apache-2.0 */
#include "driver-glue/client/capture_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FDS = 3, FD_RING = 0, FD_EVENT = 1, FD_HINT = 2 };

#define BACKOFF_NS_MIN   20000000ull
#define BACKOFF_NS_MAX   1000000000ull
#define HANDSHAKE_NS_MAX 5000000000ull

enum client_state { CLIENT_IDLE = 1, CLIENT_GREETING, CLIENT_ATTACHED, CLIENT_CLOSED };

struct hk_capture_client {
    struct sockaddr_un address;
    struct hk_uuid group_id;
    enum client_state state;
    int epoll_fd, socket_fd, event_fd;
    uint64_t retry_ns, backoff_ns, greeting_ns;
    uint64_t lease;

    void *ring, *old_ring;
    uint64_t ring_bytes, old_ring_bytes;
    struct hk_uuid ring_id;
    struct hk_ring_hint *hint;
    struct hk_ring_reader reader;
    bool has_reader;

    bool report_pending, went; /* went: DETACHED is to be told */
    struct hk_cap_ipc report;
    struct hk_cap_ipc in;
};

int hk_capture_client_create(const char *socket_path, const struct hk_uuid *group_id,
                             struct hk_capture_client **ret_client)
{
    struct hk_capture_client *c;

    if (strlen(socket_path) >= sizeof(c->address.sun_path))
        return -ENAMETOOLONG;
    c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->address.sun_family = AF_UNIX;
    strcpy(c->address.sun_path, socket_path);
    c->group_id = *group_id;
    c->state = CLIENT_IDLE;
    c->socket_fd = c->event_fd = -1;
    c->backoff_ns = BACKOFF_NS_MIN;
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll_fd < 0) {
        int rc = -errno;

        free(c);
        return rc;
    }
    *ret_client = c;
    return 0;
}

static void unmap(void **ring, uint64_t *bytes)
{
    if (*ring)
        munmap(*ring, *bytes);
    *ring = NULL;
    *bytes = 0;
}

/* The connection's things go, the ring stays. */
static void disconnect(struct hk_capture_client *c)
{
    if (c->socket_fd >= 0)
        close(c->socket_fd);
    if (c->event_fd >= 0)
        close(c->event_fd);
    c->socket_fd = c->event_fd = -1;
    if (c->hint)
        munmap(c->hint, HK_PAGE_BYTES);
    c->hint = NULL;
    c->lease = 0;
    c->report_pending = false;
}

void hk_capture_client_free(struct hk_capture_client *c)
{
    if (!c)
        return;
    hk_capture_client_detach(c, true);
    disconnect(c);
    unmap(&c->ring, &c->ring_bytes);
    unmap(&c->old_ring, &c->old_ring_bytes);
    close(c->epoll_fd);
    free(c);
}

int hk_capture_client_fd(const struct hk_capture_client *c)
{
    return c->epoll_fd;
}

uint64_t hk_capture_client_deadline_ns(const struct hk_capture_client *c)
{
    switch (c->state) {
    case CLIENT_IDLE: return c->retry_ns;
    case CLIENT_GREETING: return c->greeting_ns + HANDSHAKE_NS_MAX;
    case CLIENT_ATTACHED:
    case CLIENT_CLOSED: break;
    }
    return UINT64_MAX;
}

struct hk_ring_reader *hk_capture_client_reader(struct hk_capture_client *c)
{
    return c->has_reader ? &c->reader : NULL;
}

bool hk_capture_client_attached(const struct hk_capture_client *c)
{
    return c->state == CLIENT_ATTACHED;
}

uint64_t hk_capture_client_lease(const struct hk_capture_client *c)
{
    return c->lease;
}

static int watch(struct hk_capture_client *c, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int send_message(struct hk_capture_client *c, struct hk_cap_ipc *m,
                        enum hk_cap_ipc_type type)
{
    m->magic = HK_CAP_IPC_MAGIC;
    m->type = (uint16_t)type;
    m->lease = c->lease;
    if (send(c->socket_fd, m, hk_cap_ipc_bytes(m->type), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    return 0;
}

/* Back to idle; the next attempt later each time, up to a second. */
static void lose(struct hk_capture_client *c, uint64_t now_ns)
{
    c->went = c->went || c->state == CLIENT_ATTACHED;
    disconnect(c);
    if (c->state == CLIENT_CLOSED)
        return;
    c->state = CLIENT_IDLE;
    c->retry_ns = now_ns + c->backoff_ns;
    c->backoff_ns = hk_min_u64(2 * c->backoff_ns, BACKOFF_NS_MAX);
}

static void try_connect(struct hk_capture_client *c, uint64_t now_ns)
{
    struct hk_cap_ipc attach = {.attach = {.group_id = c->group_id,
                                           .version = HK_CAP_IPC_VERSION,
                                           .pid = (uint32_t)getpid()}};

    c->socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->socket_fd < 0 ||
        connect(c->socket_fd, (const struct sockaddr *)&c->address, sizeof(c->address)) < 0 ||
        watch(c, c->socket_fd) < 0 || send_message(c, &attach, HK_IPC_ATTACH) < 0) {
        lose(c, now_ns);
        return;
    }
    c->state = CLIENT_GREETING;
    c->greeting_ns = now_ns;
}

/* One datagram and its descriptors. 1, 0 (none there), -errno. */
static int receive(struct hk_capture_client *c, int ret_fds[FDS], int *ret_fd_count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {&c->in, sizeof(c->in)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       /* Not CMSG_SPACE: its padding would be room for a fourth descriptor. */
                       .msg_controllen = CMSG_LEN(sizeof(int) * FDS)};
    ssize_t got = recvmsg(c->socket_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    *ret_fd_count = 0;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        *ret_fd_count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        HK_ASSERT(*ret_fd_count <= FDS);
        memcpy(ret_fds, CMSG_DATA(h), sizeof(int) * (size_t)*ret_fd_count);
    }
    /* An empty datagram is taken for the end as well, and may bring descriptors all the same. */
    if (got == 0)
        return -ECONNRESET;
    if ((size_t)got < offsetof(struct hk_cap_ipc, attach) || c->in.magic != HK_CAP_IPC_MAGIC ||
        got != hk_cap_ipc_bytes(c->in.type) || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return -EPROTO;
    return 1;
}

static void close_all(const int *fds, int count)
{
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

/* Maps what was sent. The same ring as before keeps its place in memory: pieces handed out stay. */
static int map_ring(struct hk_capture_client *c, int fd, bool *ret_lost)
{
    bool same = c->ring && hk_uuid_equal(&c->ring_id, &c->in.attached.ring_id);
    struct stat st;
    void *ring;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < 2 * HK_PAGE_BYTES)
        return -EUCLEAN;
    if (same && c->ring_bytes == (uint64_t)st.st_size) {
        *ret_lost = false;
        return 0;
    }
    ring = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (ring == MAP_FAILED)
        return -errno;
    *ret_lost = c->ring != NULL;
    c->has_reader = false;
    unmap(&c->old_ring, &c->old_ring_bytes);
    c->old_ring = c->ring;
    c->old_ring_bytes = c->ring_bytes;
    c->ring = ring;
    c->ring_bytes = (uint64_t)st.st_size;
    c->ring_id = c->in.attached.ring_id;
    return 0;
}

static int map_hint(struct hk_capture_client *c, int fd)
{
    struct stat st;
    void *page;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < HK_PAGE_BYTES)
        return -EPROTO;
    page = mmap(NULL, HK_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    c->hint = page;
    return 0;
}

/* Takes over the descriptors in any case. */
static int take_attached(struct hk_capture_client *c, int fds[FDS], bool *ret_lost)
{
    const struct hk_super *super = &c->in.attached.super;
    const struct hk_epoch *epoch = hk_history_last(&super->history);
    struct hk_lsn produced;
    int rc = -EPROTO;

    c->event_fd = fds[FD_EVENT];
    if (hk_history_check(&super->history) || !epoch ||
        !hk_uuid_equal(&super->group_id, &c->group_id))
        goto out;
    rc = map_ring(c, fds[FD_RING], ret_lost);
    if (rc)
        goto out;
    rc = map_hint(c, fds[FD_HINT]);
    if (rc)
        goto out;
    rc = hk_ring_reader_init(&c->reader, c->ring, c->ring_bytes, &c->group_id, epoch,
                             c->in.attached.tail, c->in.attached.tail_lsn);
    if (rc)
        goto out;
    /* Whoever gathers from the part seen before must find it again at once. */
    rc = hk_ring_reader_poll(&c->reader, UINT32_MAX, &produced);
    if (rc < 0)
        goto out;
    c->has_reader = true;
    c->lease = c->in.lease;
    rc = watch(c, c->event_fd);
out:
    close(fds[FD_RING]);
    close(fds[FD_HINT]);
    return rc;
}

static enum hk_client_event greeted(struct hk_capture_client *c, int fds[FDS], int fd_count,
                                    uint64_t now_ns)
{
    bool lost = false;

    if (c->in.type == HK_IPC_ATTACHED && fd_count == FDS) {
        if (take_attached(c, fds, &lost) == 0) {
            c->state = CLIENT_ATTACHED;
            c->backoff_ns = BACKOFF_NS_MIN;
            return lost ? HK_CLIENT_RING_LOST : HK_CLIENT_ATTACHED;
        }
        lose(c, now_ns);
        return HK_CLIENT_NONE;
    }
    close_all(fds, fd_count);
    lose(c, now_ns);
    return c->in.type == HK_IPC_REFUSED ? HK_CLIENT_REFUSED : HK_CLIENT_NONE;
}

/*
 * A new epoch begins in the same ring: of the old one nothing is in it any more, so the reader goes
 * on at the new one's first record. Mode and policy alone leave it where it is.
 */
static enum hk_client_event follow_epoch(struct hk_capture_client *c, uint64_t now_ns)
{
    const struct hk_super *super = &c->in.epoch.super;
    const struct hk_epoch *epoch = hk_history_last(&super->history);
    struct hk_lsn produced;

    if (hk_history_check(&super->history) || !epoch ||
        !hk_uuid_equal(&super->group_id, &c->group_id))
        goto lost;
    if (epoch->ordinal == c->reader.epoch_ordinal &&
        hk_epoch_seed(&epoch->id) == c->reader.epoch_seed)
        return HK_CLIENT_EPOCH;
    if (hk_ring_reader_init(&c->reader, c->ring, c->ring_bytes, &c->group_id, epoch,
                            c->in.epoch.tail, c->in.epoch.tail_lsn) ||
        hk_ring_reader_poll(&c->reader, UINT32_MAX, &produced) < 0)
        goto lost;
    return HK_CLIENT_EPOCH;
lost:
    c->has_reader = false;
    lose(c, now_ns);
    return HK_CLIENT_NONE;
}

/* A message while attached; NONE: nothing the caller should know. */
static enum hk_client_event message(struct hk_capture_client *c, uint64_t now_ns)
{
    switch ((enum hk_cap_ipc_type)c->in.type) {
    case HK_IPC_STATE: return HK_CLIENT_STATE;
    case HK_IPC_INSERTED: return HK_CLIENT_INSERTED;
    case HK_IPC_EPOCH: return follow_epoch(c, now_ns);
    case HK_IPC_STALE: return HK_CLIENT_STALE;
    case HK_IPC_BLOCKED: return HK_CLIENT_BLOCKED;
    case HK_IPC_HEALED: return HK_CLIENT_HEALED;
    case HK_IPC_ALL_STALE: return HK_CLIENT_ALL_STALE;
    case HK_IPC_RETURNED: return HK_CLIENT_RETURNED;
    case HK_IPC_RESIZED: return HK_CLIENT_RESIZED;
    case HK_IPC_STOP: return HK_CLIENT_STOP;
    case HK_IPC_REFUSED: return HK_CLIENT_REFUSED;
    case HK_IPC_ATTACH:
    case HK_IPC_ATTACHED:
    case HK_IPC_REPORT:
    case HK_IPC_INSERT:
    case HK_IPC_DETACH:
    case HK_IPC_PEER:
    case HK_IPC_CHECK_COPY:
    case HK_IPC_RETURN:
    case HK_IPC_STALE_ASK:
    case HK_IPC_BLOCK:
    case HK_IPC_HEAL:
    case HK_IPC_RESIZE:
    case HK_IPC_STALE_ALL: break;
    }
    lose(c, now_ns); /* not something the capture side says now */
    return HK_CLIENT_NONE;
}

static void drain_event(struct hk_capture_client *c)
{
    uint64_t count;

    if (c->event_fd >= 0 && read(c->event_fd, &count, sizeof(count)) < 0)
        return;
}

static void flush_report(struct hk_capture_client *c, uint64_t now_ns)
{
    int rc;

    if (!c->report_pending)
        return;
    rc = send_message(c, &c->report, HK_IPC_REPORT);
    if (rc == -EAGAIN)
        return;
    c->report_pending = false;
    if (rc)
        lose(c, now_ns);
}

static enum hk_client_event step(struct hk_capture_client *c, uint64_t now_ns, bool *ret_again)
{
    enum hk_client_event event = HK_CLIENT_NONE;
    int fds[FDS] = {-1, -1, -1}, fd_count, rc;

    *ret_again = false;
    if (c->state == CLIENT_IDLE && now_ns >= c->retry_ns)
        try_connect(c, now_ns);
    if (c->state != CLIENT_GREETING && c->state != CLIENT_ATTACHED)
        return HK_CLIENT_NONE;
    rc = receive(c, fds, &fd_count);
    if (rc > 0) {
        *ret_again = true;
        if (c->state == CLIENT_GREETING)
            return greeted(c, fds, fd_count, now_ns);
        close_all(fds, fd_count);
        event = message(c, now_ns);
    } else if (rc < 0) {
        close_all(fds, fd_count);
        lose(c, now_ns);
    } else if (c->state == CLIENT_GREETING && now_ns - c->greeting_ns >= HANDSHAKE_NS_MAX) {
        lose(c, now_ns);
    }
    return event;
}

enum hk_client_event hk_capture_client_poll(struct hk_capture_client *c, uint64_t now_mono_ns,
                                            const struct hk_cap_ipc **ret_message)
{
    enum hk_client_event event = HK_CLIENT_NONE;
    bool again = true;

    unmap(&c->old_ring, &c->old_ring_bytes);
    drain_event(c);
    flush_report(c, now_mono_ns);
    while (event == HK_CLIENT_NONE && again && !c->went)
        event = step(c, now_mono_ns, &again);
    if (event == HK_CLIENT_NONE && c->went) {
        c->went = false;
        return HK_CLIENT_DETACHED;
    }
    if (ret_message)
        *ret_message = &c->in;
    return event;
}

int hk_capture_client_report(struct hk_capture_client *c, struct hk_lsn released,
                             struct hk_lsn acked, struct hk_lsn durable, uint64_t contact_ns,
                             uint32_t standby_flags)
{
    int rc;

    if (c->state != CLIENT_ATTACHED)
        return -ENOTCONN;
    c->report.report.released = released.v;
    c->report.report.acked = acked.v;
    c->report.report.durable = durable.v;
    c->report.report.contact_ns = contact_ns;
    c->report.report.standby_flags = standby_flags;
    rc = send_message(c, &c->report, HK_IPC_REPORT);
    c->report_pending = rc == -EAGAIN;
    /* Any other failure is found by the next poll as well. */
    return 0;
}

void hk_capture_client_spool(struct hk_capture_client *c, bool room, struct hk_lsn first,
                             struct hk_lsn end)
{
    c->report.report.flags = room ? HK_IPC_REPORT_SPOOL_ROOM : 0;
    c->report.report.spool_first = first.v;
    c->report.report.spool_end = end.v;
}

static int send_attached(struct hk_capture_client *c, struct hk_cap_ipc *m,
                         enum hk_cap_ipc_type type)
{
    if (c->state != CLIENT_ATTACHED)
        return -ENOTCONN;
    return send_message(c, m, type) == 0 ? 0 : -EAGAIN;
}

int hk_capture_client_insert(struct hk_capture_client *c, uint64_t request,
                             const struct hk_mark *mark)
{
    struct hk_cap_ipc m = {
        .insert = {.request = request, .record_type = HK_REC_MARK, .mark = *mark}};

    return send_attached(c, &m, HK_IPC_INSERT);
}

int hk_capture_client_bind_peer(struct hk_capture_client *c, const struct hk_uuid *replica_id)
{
    struct hk_cap_ipc m = {.peer = {.replica_id = *replica_id}};

    return send_attached(c, &m, HK_IPC_PEER);
}

int hk_capture_client_check_copy(struct hk_capture_client *c, struct hk_lsn lsn)
{
    struct hk_cap_ipc m = {.check_copy = {.lsn = lsn.v}};

    return send_attached(c, &m, HK_IPC_CHECK_COPY);
}

int hk_capture_client_return(struct hk_capture_client *c, struct hk_lsn parent_end)
{
    struct hk_cap_ipc m = {.ret = {.parent_end = parent_end.v}};

    return send_attached(c, &m, HK_IPC_RETURN);
}

int hk_capture_client_stale_ask(struct hk_capture_client *c, uint16_t volume, uint64_t offset)
{
    struct hk_cap_ipc m = {.stale_ask = {.volume = volume, .offset = offset}};

    return send_attached(c, &m, HK_IPC_STALE_ASK);
}

int hk_capture_client_block(struct hk_capture_client *c, uint64_t request, uint16_t volume,
                            uint64_t offset, uint32_t bytes)
{
    struct hk_cap_ipc m = {
        .block = {.request = request, .volume = volume, .offset = offset, .bytes = bytes}};

    return send_attached(c, &m, HK_IPC_BLOCK);
}

int hk_capture_client_heal(struct hk_capture_client *c, uint64_t request, uint16_t volume,
                           uint64_t offset, uint64_t event, struct hk_lsn end)
{
    struct hk_cap_ipc m = {
        .heal = {
            .request = request, .volume = volume, .offset = offset, .event = event, .end = end.v}};

    return send_attached(c, &m, HK_IPC_HEAL);
}

int hk_capture_client_stale_all(struct hk_capture_client *c)
{
    struct hk_cap_ipc m = {.lease = 0};

    return send_attached(c, &m, HK_IPC_STALE_ALL);
}

int hk_capture_client_resize(struct hk_capture_client *c, uint16_t volume, uint64_t bytes)
{
    struct hk_cap_ipc m = {.resize = {.volume = volume, .bytes = bytes}};

    return send_attached(c, &m, HK_IPC_RESIZE);
}

void hk_capture_client_detach(struct hk_capture_client *c, bool for_good)
{
    struct hk_cap_ipc m = {0};

    if (c->state == CLIENT_ATTACHED)
        send_message(c, &m, HK_IPC_DETACH);
    if (for_good) {
        c->went = c->went || c->state == CLIENT_ATTACHED;
        c->state = CLIENT_CLOSED;
        disconnect(c);
    } else if (c->state == CLIENT_ATTACHED) {
        /* The next poll finds the connection gone. */
        shutdown(c->socket_fd, SHUT_RDWR);
    }
}

bool hk_capture_client_arm(struct hk_capture_client *c)
{
    const struct hk_record *slot;

    if (!c->hint || !c->has_reader)
        return false;
    hk_ring_hint_wish(c->hint);
    slot = &c->reader.slots[c->reader.next & c->reader.slot_mask];
    return c->reader.next - c->reader.tail <= c->reader.slot_mask &&
           hk_ring_load_acquire(&slot->lsn) == c->reader.next_lsn;
}

void hk_capture_client_disarm(struct hk_capture_client *c)
{
    if (c->hint)
        hk_ring_hint_unwish(c->hint);
}
