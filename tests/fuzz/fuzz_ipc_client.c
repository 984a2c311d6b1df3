/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicator's connection with a capture side that says anything: datagrams of any type and
 * length with any number of descriptors, rings and hint pages that are damaged, short or not there.
 * Input: a sequence of messages, closed connections, verbs of the replicator, time.
 *
 * Oracle: the client believes a ring only after its check, what it hands out lies within the
 * mapping, it never blocks and keeps no descriptor that is not its own.
 */
#include "fuzz.h"

#include "driver-glue/client/capture_client.h"
#include "tests/fuzz/ring_base.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { OPS_MAX = 60, FDS_MAX = 8 };
enum op { ATTACHED, MESSAGE, RAW, CLOSE, POLL, REPORT, INSERT, PEER, DETACH, ARM, READ, TIME, OPS };

static struct ring_base base;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener = -1, ring_fd, hint_fd;

struct world {
    struct hk_capture_client *c;
    int peer; /* the capture side's end; -1: none */
    uint64_t now_ns;
};

static void remove_socket(void)
{
    unlink(address.sun_path);
}

static void once(void)
{
    snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/hikae-fuzz-%d.sock", (int)getpid());
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    HK_ASSERT(listener >= 0);
    HK_ASSERT(bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0);
    HK_ASSERT(listen(listener, 4) == 0);
    atexit(remove_socket);
    ring_base_make(&base);
    ring_fd = memfd_create("ring", 0);
    hint_fd = memfd_create("hint", 0);
    HK_ASSERT(ring_fd >= 0 && hint_fd >= 0);
    HK_ASSERT(pwrite(ring_fd, base.bytes, base.size, 0) == (ssize_t)base.size);
    HK_ASSERT(ftruncate(hint_fd, HK_PAGE_BYTES) == 0);
}

static unsigned open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned count = 0;

    while (d && readdir(d))
        count++;
    closedir(d);
    return count;
}

static void write_ring(void)
{
    for (unsigned i = 0; i < base.touched_count; i++) {
        off_t at = (off_t)base.touched[i] * 4096;

        HK_ASSERT(pwrite(ring_fd, base.bytes + at, 4096, at) == 4096);
    }
}

static void send_with(struct world *w, const void *bytes, size_t size, const int *fds,
                      unsigned count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec iov = {(void *)(uintptr_t)bytes, size};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *h;

    if (count > 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(h), fds, sizeof(int) * count);
    }
    if (w->peer >= 0 && sendmsg(w->peer, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return;
}

/* A sound ATTACHED with a ring of this group, then damaged as the input says. */
static void attached(struct world *w, struct script *s)
{
    static struct hk_cap_ipc m;
    const struct hk_ring_header *h = (const void *)base.sound;
    const struct hk_ring_producer *p = (const void *)(base.sound + HK_PAGE_BYTES);
    const struct hk_ring_side *sides = (const void *)(base.sound + h->sides_offset);
    uint8_t how = script_u8(s);
    int event = eventfd(0, EFD_NONBLOCK), fds[FDS_MAX];
    unsigned count = how & 1 ? script_u8(s) % (FDS_MAX + 1) : 3;

    for (unsigned i = 0; i < FDS_MAX; i++)
        fds[i] = i == 0 ? ring_fd : i == 1 ? event : hint_fd;
    if (how & 2)
        fds[0] = event;
    memset(&m, 0, sizeof(m));
    m.magic = HK_CAP_IPC_MAGIC;
    m.type = HK_IPC_ATTACHED;
    m.lease = 1 + script_u8(s);
    m.attached.ring_id = h->ring_id;
    m.attached.tail = p->tail;
    m.attached.tail_lsn = sides[p->tail % RIG_SLOTS].lsn;
    m.attached.super = base.super;
    if (how & 4)
        m.attached.ring_id.b[0] = script_u8(s);
    if (how & 8) {
        m.attached.tail = script_near(s, m.attached.tail, 1);
        m.attached.tail_lsn = script_near(s, m.attached.tail_lsn, 64);
    }
    for (unsigned i = how >> 4 & 3; i > 0; i--)
        script_patch(s, &m, sizeof(m));
    for (unsigned i = how >> 6; i > 0; i--)
        ring_base_damage(&base, s);
    write_ring();
    send_with(w, &m, hk_cap_ipc_bytes(HK_IPC_ATTACHED), fds, count);
    close(event);
}

static void message(struct world *w, struct script *s)
{
    static struct {
        struct hk_cap_ipc m;
        uint8_t one_more;
    } u;
    struct hk_cap_ipc *m = &u.m;
    uint32_t bytes;
    int fds[FDS_MAX];

    memset(&u, 0, sizeof(u));
    m->magic = HK_CAP_IPC_MAGIC;
    m->type = script_u8(s) % 13;
    m->flags = script_u8(s);
    m->lease = script_u8(s);
    bytes = hk_cap_ipc_bytes(m->type);
    for (unsigned i = script_u8(s) % 4; i > 0; i--)
        script_patch(s, m, bytes + 1);
    for (unsigned i = 0; i < FDS_MAX; i++)
        fds[i] = hint_fd;
    bytes += script_u8(s) % 16 == 15;
    send_with(w, m, bytes, fds, script_u8(s) % 16 == 15 ? 4 : 0);
}

static void poll_once(struct world *w)
{
    const struct hk_cap_ipc *m = NULL;
    enum hk_client_event e = hk_capture_client_poll(w->c, w->now_ns, &m);

    if (w->peer < 0)
        w->peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    switch (e) {
    case HK_CLIENT_NONE:
    case HK_CLIENT_DETACHED: return;
    case HK_CLIENT_ATTACHED:
    case HK_CLIENT_RING_LOST:
        HK_ASSERT(hk_capture_client_attached(w->c) && hk_capture_client_reader(w->c));
        HK_ASSERT(hk_history_check(&m->attached.super.history) == 0);
        break;
    case HK_CLIENT_REFUSED:
    case HK_CLIENT_STATE:
    case HK_CLIENT_INSERTED:
    case HK_CLIENT_EPOCH:
    case HK_CLIENT_STALE:
    case HK_CLIENT_BLOCKED:
    case HK_CLIENT_HEALED:
    case HK_CLIENT_ALL_STALE:
    case HK_CLIENT_RETURNED:
    case HK_CLIENT_RESIZED:
    case HK_CLIENT_STOP: break;
    }
    HK_ASSERT(m->magic == HK_CAP_IPC_MAGIC && hk_cap_ipc_bytes(m->type) > 0);
}

static void read_ring(struct world *w, struct script *s)
{
    struct hk_ring_reader *r = hk_capture_client_reader(w->c);
    struct iovec iov[8];
    struct hk_lsn produced;
    uint64_t lsn;
    uint8_t sum = 0;
    int n;

    if (!r || hk_ring_reader_poll(r, 100, &produced) < 0)
        return;
    lsn = script_near(s, r->tail_lsn, 64);
    n = hk_ring_reader_gather(r, HK_LSN(lsn), script_u16(s), iov, 8);
    for (int i = 0; i < n; i++) {
        for (size_t k = 0; k < iov[i].iov_len; k += 512)
            sum = (uint8_t)(sum + ((const uint8_t *)iov[i].iov_base)[k]);
    }
    hk_ring_reader_release(r, HK_LSN(r->tail_lsn + sum % 2 * 64));
}

static void drain_peer(struct world *w)
{
    static struct hk_cap_ipc m;
    ssize_t n;

    while (w->peer >= 0 && (n = recv(w->peer, &m, sizeof(m), MSG_DONTWAIT)) > 0)
        HK_ASSERT(m.magic == HK_CAP_IPC_MAGIC && n == (ssize_t)hk_cap_ipc_bytes(m.type));
}

static void step(struct world *w, struct script *s)
{
    struct hk_uuid id = {{1}};
    struct hk_mark mark = {.name = "m"};
    uint8_t raw[64];

    switch ((enum op)(script_u8(s) % OPS)) {
    case ATTACHED: attached(w, s); break;
    case MESSAGE: message(w, s); break;
    case RAW:
        script_bytes(s, raw, sizeof(raw));
        send_with(w, raw, raw[0] % sizeof(raw), NULL, 0);
        break;
    case CLOSE:
        if (w->peer >= 0)
            close(w->peer);
        w->peer = -1;
        break;
    case POLL: poll_once(w); break;
    case REPORT: hk_capture_client_report(w->c, HK_LSN(1), HK_LSN(2), HK_LSN(3), 4, 0); break;
    case INSERT: hk_capture_client_insert(w->c, 1, &mark); break;
    case PEER: hk_capture_client_bind_peer(w->c, &id); break;
    case DETACH: hk_capture_client_detach(w->c, script_u8(s) == 1); break;
    case ARM:
        hk_capture_client_arm(w->c);
        hk_capture_client_disarm(w->c);
        break;
    case READ: read_ring(w, s); break;
    case TIME: w->now_ns += (uint64_t)script_u8(s) * 100000000; break;
    case OPS: break;
    }
    HK_ASSERT(hk_capture_client_deadline_ns(w->c) > 0);
    drain_peer(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.peer = -1, .now_ns = 1000000000};
    struct script s = {data, data + size};
    struct hk_uuid group = rig_uuid(1);
    unsigned before, touched;

    if (listener < 0)
        once();
    before = open_descriptors();
    ring_base_restore(&base);
    HK_ASSERT(hk_capture_client_create(address.sun_path, &group, &w.c) == 0);
    poll_once(&w);
    for (unsigned i = 0; script_left(&s) && i < OPS_MAX; i++)
        step(&w, &s);
    poll_once(&w);
    hk_capture_client_free(w.c);
    if (w.peer >= 0)
        close(w.peer);
    while ((w.peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
        close(w.peer);
    touched = base.touched_count;
    ring_base_restore(&base);
    base.touched_count = touched;
    write_ring();
    base.touched_count = 0;
    HK_ASSERT(open_descriptors() == before);
    return 0;
}
