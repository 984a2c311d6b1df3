/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replicator without a link: attaches to a capture side, checks every record, applies it to image
 * files if asked to, and reports. It keeps nothing in memory that a kill -9 could lose: an image is
 * written before the report that lets the ring forget.
 *
 *   cap_consumer --socket S --group UUID [--image N=FILE]… [--delay-us U] [--no-ack] [--mark NAME]
 *                [--resync]
 *   cap_consumer --create-md FILE --group UUID --name GROUP --volume NAME=BYTES… [--map]
 *
 * --delay-us: what was seen is reported so much later (a link's round trip). --no-ack: nothing is
 * ever reported, only contact. --resync: it leads a closed log back, and asks for a block of every
 * stale region (of --map, 64 KiB each) without comparing it. Also used by the benchmark
 * "capture null".
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "driver-glue/capture/capture.h"
#include "driver-glue/client/capture_client.h"
#include "proto/dmap.h"

enum { BATCH = 4096, DELAYS_MAX = 65536 };

struct consumer {
    struct hk_capture_client *client;
    int image[HK_VOLUMES_MAX];
    bool has_image, no_ack;
    uint64_t delay_ns;
    const char *mark;
    bool resync, asking; /* asking: one region is under way */
    struct hk_cap_ipc state, region;
    uint64_t applied, reported, report_ns; /* LSN, LSN, time of the last report */
    uint64_t records, bytes, wakeups, attaches;
    struct {
        uint64_t at_ns, lsn;
    } delayed[DELAYS_MAX];
    uint64_t delayed_head, delayed_tail;
};

static volatile sig_atomic_t ended;

static void on_signal(int signal_number)
{
    ended = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what, int error)
{
    fprintf(stderr, "cap_consumer: %s: %s\n", what, strerror(error));
    exit(1);
}

static void put(int fd, const void *data, size_t bytes, uint64_t offset)
{
    if (pwrite(fd, data, bytes, (off_t)offset) != (ssize_t)bytes)
        die("image", errno);
}

static void apply(struct consumer *c, const struct hk_record *r, const void *payload)
{
    static const uint8_t zeroes[1 << 16];
    int fd = c->image[r->volume];

    if (fd < 0)
        return;
    if (r->type == HK_REC_WRITE || r->type == HK_REC_BLOCK)
        put(fd, payload, r->length, r->offset);
    if (r->type != HK_REC_ZEROES && r->type != HK_REC_DISCARD)
        return;
    for (uint32_t done = 0; done < r->length; done += sizeof(zeroes)) {
        uint32_t some = r->length - done;

        put(fd, zeroes, some < sizeof(zeroes) ? some : sizeof(zeroes), r->offset + done);
    }
}

/* Every new record, in order: checked as a standby would check it. */
static bool take(struct consumer *c)
{
    struct hk_ring_reader *reader = hk_capture_client_reader(c->client);
    struct hk_lsn produced = HK_LSN(0);
    struct hk_record r;
    struct iovec iov[4];
    int n;

    if (!reader)
        return false;
    n = hk_ring_reader_poll(reader, BATCH, &produced);
    if (n < 0)
        die("ring", -n);
    if (c->applied < reader->tail_lsn)
        c->applied = reader->tail_lsn;
    while (c->applied < produced.v) {
        const uint8_t *payload = NULL;

        n = hk_ring_reader_header_at(reader, HK_LSN(c->applied), &r);
        if (n < 0)
            die("header", -n);
        if (r.lsn != c->applied)
            die("log has a hole", EUCLEAN);
        if (r.payload_len) {
            n = hk_ring_reader_gather(reader, HK_LSN(r.lsn + HK_RECORD_HEADER_BYTES), r.payload_len,
                                      iov, 4);
            if (n != 1)
                die("gather", EUCLEAN);
            payload = iov[0].iov_base;
            if (c->has_image && !hk_record_payload_ok(&r, payload))
                die("payload hash", EBADMSG);
        }
        if (c->has_image)
            apply(c, &r, payload);
        c->applied += hk_record_bytes(r.payload_len);
        c->records++;
        c->bytes += r.payload_len;
    }
    return c->applied > c->reported;
}

/* What may be reported now: everything, or what is old enough. */
static uint64_t ripe(struct consumer *c, uint64_t at_ns)
{
    uint64_t lsn = c->reported;

    if (!c->delay_ns)
        return c->applied;
    if (c->delayed_head - c->delayed_tail < DELAYS_MAX &&
        (c->delayed_head == c->delayed_tail ||
         c->delayed[(c->delayed_head - 1) % DELAYS_MAX].lsn < c->applied)) {
        c->delayed[c->delayed_head % DELAYS_MAX].at_ns = at_ns + c->delay_ns;
        c->delayed[c->delayed_head++ % DELAYS_MAX].lsn = c->applied;
    }
    while (c->delayed_tail < c->delayed_head &&
           c->delayed[c->delayed_tail % DELAYS_MAX].at_ns <= at_ns)
        lsn = c->delayed[c->delayed_tail++ % DELAYS_MAX].lsn;
    return lsn;
}

static void report(struct consumer *c, uint64_t at_ns)
{
    struct hk_ring_reader *reader = hk_capture_client_reader(c->client);
    uint64_t lsn = c->no_ack ? 0 : ripe(c, at_ns);

    if (!hk_capture_client_attached(c->client))
        return;
    if (lsn <= c->reported && at_ns - c->report_ns < 200000000)
        return;
    if (lsn > c->reported)
        c->reported = lsn;
    c->report_ns = at_ns;
    hk_ring_reader_release(reader, HK_LSN(lsn));
    hk_capture_client_report(c->client, HK_LSN(lsn), HK_LSN(lsn), HK_LSN(lsn), at_ns, 0);
}

static void on_attached(struct consumer *c, const struct hk_cap_ipc *m)
{
    struct hk_mark mark = {.kind = HK_MARK_PLAIN};

    c->attaches++;
    c->applied = m->attached.tail_lsn;
    c->reported = 0;
    c->delayed_head = c->delayed_tail = 0;
    printf("attached tail %" PRIu64 " lsn %" PRIu64 "\n", m->attached.tail, m->attached.tail_lsn);
    fflush(stdout);
    if (!c->mark)
        return;
    strncpy(mark.name, c->mark, sizeof(mark.name) - 1);
    hk_capture_client_insert(c->client, 1, &mark);
}

/* Where the log was broken off it goes on behind what is here. */
static void lead_back(struct consumer *c)
{
    const struct hk_cap_ipc *m = &c->state;

    if (!c->resync || !hk_capture_client_attached(c->client))
        return;
    if ((m->flags & HK_IPC_FLAG_CLOSED) && c->applied == m->state.produced &&
        c->applied == m->state.durable)
        hk_capture_client_return(c->client, HK_LSN(c->applied));
    if (!c->asking && (m->flags & HK_IPC_FLAG_RESYNC) && m->state.resync_at)
        c->asking = hk_capture_client_stale_ask(c->client, 0, 0) == 0;
}

static void on_epoch(struct consumer *c, const struct hk_cap_ipc *m)
{
    const struct hk_epoch *epoch = hk_history_last(&m->epoch.super.history);

    printf("super mode %u policy %u\n", m->epoch.super.mode, m->epoch.super.on_link_loss);
    if (c->applied < epoch->first_lsn) {
        c->applied = m->epoch.tail_lsn;
        c->reported = 0;
        c->delayed_head = c->delayed_tail = 0;
        printf("epoch %u lsn %" PRIu64 "\n", epoch->ordinal, c->applied);
    }
    fflush(stdout);
}

static void on_stale(struct consumer *c, const struct hk_cap_ipc *m)
{
    c->asking = m->stale.error == 0;
    c->region = *m;
    if (c->asking)
        hk_capture_client_block(c->client, 7, m->stale.volume, m->stale.offset,
                                (uint32_t)m->stale.bytes);
}

static void on_blocked(struct consumer *c, const struct hk_cap_ipc *m)
{
    const struct hk_cap_ipc *r = &c->region;

    c->asking = m->blocked.error == 0;
    if (c->asking)
        hk_capture_client_heal(c->client, 8, r->stale.volume, r->stale.offset, r->stale.event,
                               HK_LSN(m->blocked.end));
}

static void events(struct consumer *c)
{
    const struct hk_cap_ipc *m;
    enum hk_client_event e;

    while ((e = hk_capture_client_poll(c->client, now_ns(), &m)) != HK_CLIENT_NONE) {
        switch (e) {
        case HK_CLIENT_RING_LOST:
            printf("ring lost\n");
            on_attached(c, m);
            break;
        case HK_CLIENT_ATTACHED:
            c->asking = false;
            on_attached(c, m);
            if (c->resync) /* whoever was never met can't end a resync */
                hk_capture_client_bind_peer(c->client, &(struct hk_uuid){{0x5b}});
            break;
        case HK_CLIENT_INSERTED:
            printf("inserted %d lsn %" PRIu64 "\n", m->inserted.error, m->inserted.lsn);
            fflush(stdout);
            break;
        case HK_CLIENT_REFUSED:
            printf("refused %d reason %u\n", m->refused.error, m->refused.reason);
            fflush(stdout);
            break;
        case HK_CLIENT_STATE:
            c->state = *m;
            if (getenv("CAP_CONSUMER_STATE")) {
                printf("state %u flags %x super %x durable %" PRIu64 "\n", m->state.state, m->flags,
                       m->state.super_flags, m->state.durable);
                fflush(stdout);
            }
            break;
        case HK_CLIENT_STALE: on_stale(c, m); break;
        case HK_CLIENT_BLOCKED: on_blocked(c, m); break;
        case HK_CLIENT_HEALED: c->asking = false; break;
        case HK_CLIENT_ALL_STALE:
        case HK_CLIENT_RETURNED:
        case HK_CLIENT_RESIZED: break;
        case HK_CLIENT_DETACHED:
            printf("detached\n");
            fflush(stdout);
            break;
        case HK_CLIENT_EPOCH: on_epoch(c, m); break;
        case HK_CLIENT_STOP:
        case HK_CLIENT_NONE: break;
        }
    }
}

static void run(struct consumer *c)
{
    struct pollfd p = {.fd = hk_capture_client_fd(c->client), .events = POLLIN};
    unsigned idle = 0;

    while (!ended) {
        bool work;

        events(c);
        work = take(c);
        report(c, now_ns());
        lead_back(c);
        idle = work ? 0 : idle + 1;
        if (idle < 64)
            continue;
        if (!hk_capture_client_arm(c->client)) {
            int wait_ms = c->delay_ns ? 1 : 50;

            c->wakeups += poll(&p, 1, wait_ms) > 0;
        }
        hk_capture_client_disarm(c->client);
    }
    printf("records %" PRIu64 " bytes %" PRIu64 " attaches %" PRIu64 "\n", c->records, c->bytes,
           c->attaches);
}

static void put_map(int fd, struct hk_super *super)
{
    static uint8_t page[HK_DMAP_PAGE_BYTES] __attribute__((aligned(8)));
    static const uint8_t packed[HK_DMAP_PAGE_STATES];
    struct hk_dmap_id id = hk_dmap_id(&super->replica_id, &super->peer_replica_id);
    uint64_t regions = 0;

    for (uint32_t i = 0; i < super->volume_count; i++)
        regions += hk_dmap_regions(super->volume[i].bytes, super->region_shift);
    for (uint64_t i = 1; i <= HK_DMAP_LOG_PAGES; i++) {
        hk_dmap_log_fill(&id, &(struct hk_dmap_stamp){.sequence = i, .other = 1}, page);
        put(fd, page, sizeof(page), hk_dmap_log_offset(i));
    }
    for (uint32_t i = 0; i < hk_dmap_map_pages(regions); i++) {
        hk_dmap_map_build(&id, &(struct hk_dmap_stamp){.sequence = 1, .other = HK_DMAP_LOG_PAGES},
                          i, packed, page);
        put(fd, page, sizeof(page), hk_dmap_map_offset(i));
    }
    super->dmap_sequence = HK_DMAP_LOG_PAGES;
}

static int create_md(const char *path, struct hk_super_create *p)
{
    struct hk_super *super = malloc(sizeof(*super));
    uint8_t *slots = aligned_alloc(4096, 2 * HK_SUPER_BYTES);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc;

    if (!super || !slots || fd < 0)
        die(path, errno);
    memset(slots, 0, 2 * HK_SUPER_BYTES);
    if (getrandom(&p->site_id, 16, 0) != 16 || getrandom(&p->replica_id, 16, 0) != 16 ||
        getrandom(&p->epoch_id, 16, 0) != 16)
        die("random", EIO);
    p->assume_equal = true;
    p->time_ns = (uint64_t)time(NULL) * 1000000000u;
    rc = hk_super_create(p, super);
    if (rc)
        die("create-md", -rc);
    if (ftruncate(fd, (off_t)(2 * HK_SUPER_BYTES + HK_DMAP_RESERVED_BYTES)) < 0)
        die(path, errno);
    if (p->region_shift)
        put_map(fd, super);
    hk_super_encode(super, slots + (super->sequence & 1) * HK_SUPER_BYTES);
    put(fd, slots, 2 * HK_SUPER_BYTES, 0);
    if (fsync(fd) < 0)
        die(path, errno);
    close(fd);
    free(super);
    free(slots);
    return 0;
}

/* "name=value": the value, with the name cut off. */
static char *split(char *text)
{
    char *at = strchr(text, '=');

    if (!at)
        die(text, EINVAL);
    *at = '\0';
    return at + 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", 1, NULL, 's'},    {"group", 1, NULL, 'g'},  {"image", 1, NULL, 'i'},
        {"delay-us", 1, NULL, 'd'},  {"no-ack", 0, NULL, 'n'}, {"mark", 1, NULL, 'm'},
        {"create-md", 1, NULL, 'c'}, {"name", 1, NULL, 'N'},   {"volume", 1, NULL, 'v'},
        {"map", 0, NULL, 'M'},       {"resync", 0, NULL, 'r'}, {NULL, 0, NULL, 0}};
    static struct consumer c;
    static struct hk_super_create create;
    const char *socket_path = NULL, *md = NULL;
    struct sigaction sa = {.sa_handler = on_signal};
    char *value;
    int opt, rc;

    for (unsigned i = 0; i < HK_VOLUMES_MAX; i++)
        c.image[i] = -1;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) > 0) {
        switch (opt) {
        case 's': socket_path = optarg; break;
        case 'g':
            if (hk_uuid_parse(optarg, &create.group_id))
                die(optarg, EINVAL);
            break;
        case 'i':
            value = split(optarg);
            c.image[atoi(optarg) % HK_VOLUMES_MAX] = open(value, O_RDWR | O_CLOEXEC);
            if (c.image[atoi(optarg) % HK_VOLUMES_MAX] < 0)
                die(value, errno);
            c.has_image = true;
            break;
        case 'd': c.delay_ns = strtoull(optarg, NULL, 0) * 1000; break;
        case 'n': c.no_ack = true; break;
        case 'r': c.resync = true; break;
        case 'M': create.region_shift = 16; break;
        case 'm': c.mark = optarg; break;
        case 'c': md = optarg; break;
        case 'N': strncpy(create.group_name, optarg, HK_NAME_BYTES - 1); break;
        case 'v':
            value = split(optarg);
            strncpy(create.volume[create.volume_count].name, optarg, HK_NAME_BYTES - 1);
            create.volume[create.volume_count++].bytes = strtoull(value, NULL, 0);
            break;
        default: return 2;
        }
    }
    if (md)
        return create_md(md, &create);
    if (!socket_path || hk_uuid_is_nil(&create.group_id))
        return 2;
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    rc = hk_capture_client_create(socket_path, &create.group_id, &c.client);
    if (rc)
        die("client", -rc);
    run(&c);
    hk_capture_client_free(c.client);
    return 0;
}
