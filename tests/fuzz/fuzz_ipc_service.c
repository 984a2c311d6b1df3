/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plugin's service under replicators that say anything (I6): attach, reports, inserts, ids,
 * datagrams of any type and length, several connections, stale leases, peers that never read.
 * Input: a sequence of those, with writes and time in between. The service's own code is included,
 * so that a message reaches it without a thread.
 *
 * Oracle: watermarks never go back nor beyond what was produced, only the newest lease does
 * anything, every answer is a whole message, and no descriptor stays open.
 */
#include "driver-glue/nbd/blocks.c"
#include "driver-glue/nbd/service.c"
#include "fuzz.h"
#include "tests/fuzz/script.h"
#include "tests/unit/capture_rig.h"

HK_FUZZ_LARGE_MEMORY

enum { OPS_MAX = 150, HELD_MAX = 64 };
enum op { CONNECT, ATTACH, REPORT, INSERT, PEER, DETACH, RAW, CUT, WRITE, TIME, STOP, TELL, OPS };

struct world {
    struct rig rig;
    struct hk_engine e;
    struct hk_service s;
    int end[PEERS_MAX]; /* the replicators' ends */
    struct hk_op held[HELD_MAX];
    unsigned held_count;
    uint64_t lease; /* newest given */
};

static struct world w;

void nbdkit_error(const char *format, ...)
{
    HK_ASSERT(strstr(format, "HKE"));
}

void nbdkit_debug(const char *format, ...)
{
    HK_ASSERT(format);
}

void hk_engine_now(struct hk_now *ret_now)
{
    *ret_now = w.rig.now;
}

void hk_engine_kick(const struct hk_engine *e)
{
    HK_ASSERT(e == &w.e);
}

int hk_engine_block(struct hk_engine *e, uint16_t volume, uint64_t offset, uint32_t length,
                    void *buffer, uint64_t *ret_end)
{
    HK_ASSERT(!"no block thread runs here");
    return -EIO;
}

/* No thread that zeroes runs here: the core is asked at once. */
int hk_grow_begin(struct hk_engine *e, uint64_t lease, uint16_t volume, uint64_t bytes)
{
    int rc = hk_capture_may_resize(e->capture, lease, volume, bytes);

    return rc ? rc : hk_capture_resize(e->capture, lease, volume, bytes, &w.rig.now);
}

bool hk_grow_answer(struct hk_engine *e, struct hk_grow_job *ret)
{
    return false;
}

void hk_engine_pump(struct hk_engine *e, const struct hk_now *now)
{
    enum hk_step step;

    while (hk_capture_next(e->capture, &step, now))
        HK_ASSERT(step == HK_DONE || step == HK_FAIL);
    while (rig_meta_once(&w.rig, 0))
        continue;
}

static void watermarks(uint64_t mark[3], struct hk_capture_status *st)
{
    hk_capture_status(w.rig.c, st);
    mark[0] = st->released.v;
    mark[1] = st->acked.v;
    mark[2] = st->durable.v;
}

static void drain(int fd)
{
    static struct hk_cap_ipc m;
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 3)];
        struct cmsghdr align;
    } control;
    int fds[3];
    ssize_t n;

    for (;;) {
        struct iovec iov = {&m, sizeof(m)};
        struct msghdr h = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof(control.bytes)};

        n = recvmsg(fd, &h, MSG_DONTWAIT);
        if (n <= 0)
            return;
        HK_ASSERT(m.magic == HK_CAP_IPC_MAGIC && n == (ssize_t)hk_cap_ipc_bytes(m.type));
        if (m.type != HK_IPC_ATTACHED)
            continue;
        HK_ASSERT(m.lease > w.lease);
        w.lease = m.lease;
        HK_ASSERT(h.msg_controllen > 0);
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(fds));
        for (unsigned i = 0; i < 3; i++)
            close(fds[i]);
    }
}

static void hear(unsigned i)
{
    struct hk_capture_status before, after;
    uint64_t a[3], b[3];

    watermarks(a, &before);
    if (w.s.peer[i].fd >= 0)
        read_peer(&w.s, &w.s.peer[i]);
    watermarks(b, &after);
    for (unsigned k = 0; k < 3; k++)
        HK_ASSERT(b[k] >= a[k] && b[k] <= after.produced.v);
    HK_ASSERT(b[2] <= b[1]);
    for (unsigned k = 0; k < PEERS_MAX; k++) {
        if (w.end[k] >= 0)
            drain(w.end[k]);
        if (w.s.peer[k].fd < 0 && w.end[k] >= 0) {
            close(w.end[k]);
            w.end[k] = -1;
        }
    }
}

static void connect_one(unsigned i)
{
    int pair[2];

    if (w.s.peer[i].fd >= 0)
        return;
    HK_ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    w.s.peer[i] = (struct peer){.fd = pair[0]};
    w.end[i] = pair[1];
}

/* A sound message of the type, with its lease and a few bytes as the input says. */
static void say(struct script *s, unsigned i, enum hk_cap_ipc_type type, struct hk_cap_ipc *m)
{
    uint8_t how = script_u8(s);
    uint32_t bytes = hk_cap_ipc_bytes((uint16_t)type);

    m->magic = HK_CAP_IPC_MAGIC;
    m->type = (uint16_t)type;
    m->lease = how & 1 ? script_u8(s) : type == HK_IPC_ATTACH ? 0 : w.s.peer[i].lease;
    for (unsigned n = how >> 1 & 3; n > 0; n--)
        script_patch(s, m, bytes);
    if ((how >> 4) == 15)
        bytes -= 1 + script_u8(s) % 8;
    if (w.end[i] >= 0 && send(w.end[i], m, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return;
    hear(i);
}

static void message(struct script *s, unsigned i, enum op op)
{
    struct hk_capture_status st;
    struct hk_cap_ipc m;

    memset(&m, 0, sizeof(m));
    hk_capture_status(w.rig.c, &st);
    switch (op) {
    case ATTACH:
        m.attach.group_id = w.e.conf.group_id;
        m.attach.version = HK_CAP_IPC_VERSION;
        say(s, i, HK_IPC_ATTACH, &m);
        return;
    case REPORT:
        m.report.released = script_near(s, st.produced.v, 64);
        m.report.acked = script_near(s, st.produced.v, 64);
        m.report.durable = script_near(s, m.report.acked, 64);
        m.report.contact_ns = script_near(s, w.rig.now.mono_ns, RIG_MS);
        say(s, i, HK_IPC_REPORT, &m);
        return;
    case INSERT:
        m.insert.record_type = HK_REC_MARK;
        strcpy(m.insert.mark.name, "night");
        say(s, i, HK_IPC_INSERT, &m);
        return;
    case PEER:
        m.peer.replica_id = rig_uuid(20 + script_u8(s) % 2);
        say(s, i, HK_IPC_PEER, &m);
        return;
    case DETACH: say(s, i, HK_IPC_DETACH, &m); return;
    case RAW: say(s, i, (enum hk_cap_ipc_type)(1 + script_u8(s) % 11), &m); return;
    case CONNECT:
    case CUT:
    case WRITE:
    case TIME:
    case STOP:
    case TELL:
    case OPS: return;
    }
}

static void write_one(struct script *s)
{
    struct hk_op *op;
    enum hk_step step;

    if (w.held_count == HELD_MAX)
        return;
    op = &w.held[w.held_count];
    *op = rig_write(script_u8(s) % 2, 0, 4096);
    op->offset = script_u8(s) * 4096u;
    step = hk_capture_begin(w.rig.c, op, &w.rig.now);
    if (step == HK_WAIT) {
        HK_ASSERT(hk_capture_cancel(w.rig.c, op));
        return;
    }
    if (step == HK_COPY)
        rig_copy(&w.rig, op, 1);
    if (step == HK_FAIL)
        return;
    if (hk_capture_written(w.rig.c, op, 0, &w.rig.now) == HK_WAIT)
        w.held_count++;
    hk_engine_pump(&w.e, &w.rig.now);
}

static void step(struct script *s)
{
    enum op op = script_u8(s) % OPS;
    unsigned i = script_u8(s) % PEERS_MAX;

    switch (op) {
    case CONNECT: connect_one(i); return;
    case ATTACH:
    case REPORT:
    case INSERT:
    case PEER:
    case DETACH:
    case RAW: message(s, i, op); return;
    case CUT:
        if (w.end[i] >= 0)
            shutdown(w.end[i], SHUT_RDWR);
        hear(i);
        return;
    case WRITE: write_one(s); return;
    case TIME: rig_pass(&w.rig, (uint64_t)script_u16(s) * RIG_MS / 4); return;
    case STOP: w.e.stopping = script_u8(s) & 1; return;
    case TELL:
        turn(&w.s);
        for (unsigned k = 0; k < PEERS_MAX; k++) {
            if (w.end[k] >= 0)
                drain(w.end[k]);
        }
        return;
    case OPS: return;
    }
}

static void setup(void)
{
    static bool done;

    if (!done) {
        rig_alloc(&w.rig);
        pthread_mutex_init(&w.e.lock, NULL);
        w.e.ring_read_fd = w.e.event_fd = w.e.hint_fd = dup(0);
        w.e.conf.group_id = rig_uuid(1);
        strcpy(w.e.conf.group_name, "core");
        done = true;
    }
    memset(w.rig.ring, 0, 2 * HK_PAGE_BYTES + 2 * 4096);
    memset(w.rig.metadata, 0, 2 * HK_SUPER_BYTES);
    w.rig.now = (struct hk_now){.mono_ns = 1000 * RIG_SECOND, .real_ns = 5000 * RIG_SECOND};
    rig_create(&w.rig);
    rig_new_ring(&w.rig, 9);
    HK_ASSERT(rig_init(&w.rig, HK_START_NEW_RING) == 0);
    w.e.capture = w.rig.c;
    w.e.stopping = false;
    memset(&w.s, 0, sizeof(w.s));
    w.s.e = &w.e;
    w.held_count = 0;
    w.lease = 0;
    for (unsigned i = 0; i < PEERS_MAX; i++)
        w.s.peer[i].fd = w.end[i] = -1;
    hk_engine_pump(&w.e, &w.rig.now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script s = {data, data + size};

    setup();
    connect_one(0);
    for (unsigned i = 0; script_left(&s) && i < OPS_MAX; i++)
        step(&s);
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (w.s.peer[i].fd >= 0)
            close(w.s.peer[i].fd);
        if (w.end[i] >= 0)
            close(w.end[i]);
    }
    return 0;
}
