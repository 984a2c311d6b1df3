/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: frames cross a link whole or not at all, whatever the network does to them, and everything
 * that is refused is counted by kind. Method: two UDP links on loopback in one process, each with a
 * reactor of its own; hand-made packets come from a plain socket bound to the peer's address.
 */
#include "tests/unit/unit.h"

#include "driver-glue/capture/capture.h"
#include "replicator/io/link.h"
#include "replicator/io/link_backend.h"
#include "replicator/io/reactor.h"
#include "tests/unit/io_frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATH = 2, SEEN_MAX = 20000 };

struct end {
    struct hk_reactor *reactor;
    struct hk_link *link;
    uint64_t next_pn;
    uint32_t good, wrong, out_of_order;
    uint64_t last_pn;
    uint32_t bad[HK_FRAME_FAULTS];
    uint8_t seen[SEEN_MAX];
};

struct pair {
    struct end a, b;
    uint16_t port_a, port_b;
};

static uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static struct hk_link_cfg config(uint16_t local, uint16_t peer)
{
    return (struct hk_link_cfg){
        .backend = HK_LINK_UDP,
        .path = PATH,
        .local_address = "127.0.0.1",
        .local_port = local,
        .peer_address = "127.0.0.1",
        .peer_port = peer,
        .mtu = 1500,
    };
}

static void open_end(struct end *e, const struct hk_link_cfg *cfg)
{
    struct hk_io_error err = {0};

    memset(e, 0, sizeof(*e));
    e->next_pn = 1;
    assert_int_equal(hk_reactor_create(&(struct hk_reactor_cfg){.cpu = -1}, &e->reactor, &err), 0);
    if (hk_link_create(cfg, e->reactor, &e->link, &err) != 0)
        fail_msg("%s", err.text);
}

static void close_end(struct end *e)
{
    hk_link_free(e->link);
    hk_reactor_free(e->reactor);
}

static struct pair *open_pair(const struct hk_impair_cfg *impair_a, uint32_t mtu)
{
    struct pair *p = calloc(1, sizeof(*p));
    struct hk_link_cfg cfg;

    p->port_a = free_port();
    do
        p->port_b = free_port();
    while (p->port_b == p->port_a);
    cfg = config(p->port_a, p->port_b);
    cfg.mtu = mtu;
    if (impair_a != NULL)
        cfg.impair = *impair_a;
    open_end(&p->a, &cfg);
    cfg = config(p->port_b, p->port_a);
    cfg.mtu = mtu;
    open_end(&p->b, &cfg);
    return p;
}

static void close_pair(struct pair *p)
{
    close_end(&p->a);
    close_end(&p->b);
    free(p);
}

static void got_frame(void *arg, const struct hk_frame *hdr, const uint8_t *body)
{
    struct end *e = arg;

    e->good++;
    e->wrong += !io_frame_right(hdr, body);
    e->out_of_order += hdr->packet_number < e->last_pn;
    e->last_pn = hdr->packet_number;
    if (hdr->packet_number < SEEN_MAX)
        e->seen[hdr->packet_number]++;
}

static void got_bad(void *arg, enum hk_frame_fault fault)
{
    struct end *e = arg;

    e->bad[fault]++;
}

static uint32_t turn(struct end *e)
{
    hk_link_flush(e->link);
    hk_reactor_turn(e->reactor, 200000);
    return hk_link_poll(e->link, hk_reactor_now(e->reactor), got_frame, got_bad, e, 256);
}

/* Until both ends have been quiet for a while. */
static void settle(struct pair *p)
{
    for (int quiet = 0; quiet < 20;)
        quiet = turn(&p->a) + turn(&p->b) == 0 ? quiet + 1 : 0;
}

static int send_one(struct end *e, uint16_t body_len)
{
    uint8_t body[HK_FRAME_BODY_MAX];
    struct hk_frame h = io_frame_header(PATH, e->next_pn, body_len);
    struct hk_iovec iov[3] = {{body, body_len / 3u},
                              {body + body_len / 3u, 0},
                              {body + body_len / 3u, body_len - body_len / 3u}};
    int ret;

    io_frame_fill(body, e->next_pn, body_len);
    ret = hk_link_send(e->link, &h, iov, 3);
    if (ret == 0)
        e->next_pn++;
    return ret;
}

static void send_paced(struct pair *p, struct end *e, uint16_t body_len)
{
    while (send_one(e, body_len) == -EAGAIN) {
        turn(&p->a);
        turn(&p->b);
    }
}

/* Every length, both ways: a run of equal frames, then a shorter one, is how they are joined. */
static void test_both_ways(void **state)
{
    struct pair *p = open_pair(NULL, 1500);
    uint32_t max = hk_link_body_max(p->a.link);
    struct hk_link_stats s;
    uint64_t seed = 3;

    assert_int_equal(max, 1500 - 28 - 48);
    for (uint32_t len = 1; len <= max; len++) {
        send_paced(p, &p->a, (uint16_t)len);
        send_paced(p, &p->b, (uint16_t)(unit_random(&seed) % 4 ? max : len));
        if (len % 128 == 0)
            settle(p);
    }
    settle(p);
    assert_int_equal(p->b.good, max);
    assert_int_equal(p->a.good, max);
    assert_int_equal(p->a.wrong + p->b.wrong, 0);
    for (uint32_t pn = 1; pn <= max; pn++) {
        assert_int_equal(p->a.seen[pn], 1);
        assert_int_equal(p->b.seen[pn], 1);
    }
    hk_link_stats(p->a.link, &s);
    assert_int_equal(s.frames_tx, max);
    assert_int_equal(s.frames_rx, max);
    assert_int_equal(s.bytes_tx, max * 48ull + max * (max + 1ull) / 2);
    for (int i = 0; i < HK_FRAME_FAULTS; i++)
        assert_int_equal(s.bad[i], 0);
    assert_int_equal(s.tx_errors, 0);
    assert_true(hk_link_is_up(p->a.link));
    assert_false(hk_link_must_poll(p->a.link));
    close_pair(p);
}

static void test_jumbo(void **state)
{
    struct pair *p = open_pair(NULL, 9000);
    uint16_t max = (uint16_t)hk_link_body_max(p->a.link);

    assert_int_equal(max, 9000 - 28 - 48);
    for (int i = 0; i < 100; i++)
        send_paced(p, &p->a, i % 10 == 9 ? 100 : max);
    settle(p);
    assert_int_equal(p->b.good, 100);
    assert_int_equal(p->b.wrong, 0);
    close_pair(p);
}

static void test_room(void **state)
{
    struct pair *p = open_pair(NULL, 1500);
    struct hk_link_stats s;
    uint32_t sent = 0;

    while (send_one(&p->a, 200) == 0)
        sent++;
    assert_int_equal(sent, 1024);
    assert_false(hk_link_has_room(p->a.link));
    assert_int_equal(send_one(&p->a, 200), -EAGAIN);
    settle(p);
    assert_true(hk_link_has_room(p->a.link));
    assert_int_equal(send_one(&p->a, 200), 0);
    settle(p);
    assert_int_equal(p->b.good, sent + 1);
    hk_link_stats(p->a.link, &s);
    assert_int_equal(s.tx_full, 2);
    assert_int_equal(send_one(&p->a, (uint16_t)(hk_link_body_max(p->a.link) + 1)), -EMSGSIZE);
    close_pair(p);
}

/* ---- hand-made packets ---- */

static size_t sealed(uint8_t *bytes, struct hk_frame h)
{
    memcpy(bytes, &h, sizeof(h));
    io_frame_fill(bytes + sizeof(h), h.packet_number, h.body_len);
    hk_frame_seal_plain(bytes, h.body_len);
    return HK_FRAME_OVERHEAD_BYTES + h.body_len;
}

static int plain_socket(uint16_t local, uint16_t peer)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    a.sin_port = htons(local);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    a.sin_port = htons(peer);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void throw_bytes(int fd, const uint8_t *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, 0), (ssize_t)len);
}

static void expect(struct end *e, uint32_t good, enum hk_frame_fault fault, uint32_t count)
{
    struct hk_link_stats s;

    for (int i = 0; i < 50 && (e->bad[fault] < count || e->good < good); i++)
        turn(e);
    hk_link_stats(e->link, &s);
    assert_int_equal(e->bad[fault], count);
    assert_int_equal(s.bad[fault], count);
    assert_int_equal(e->good, good);
}

static void test_bad_frames_by_kind(void **state)
{
    uint16_t port = free_port(), peer = free_port();
    struct hk_link_cfg cfg = config(port, peer);
    uint8_t bytes[HK_FRAME_OVERHEAD_BYTES + HK_FRAME_BODY_MAX + 64];
    struct hk_frame good = io_frame_header(PATH, 9, 100), h;
    struct end *e = calloc(1, sizeof(*e));
    size_t len;
    int fd;

    open_end(e, &cfg);
    fd = plain_socket(peer, port);
    len = sealed(bytes, good);
    throw_bytes(fd, bytes, len);
    expect(e, 1, HK_FRAME_OK, 0);
    for (size_t cut = 0; cut < HK_FRAME_OVERHEAD_BYTES; cut++) /* the empty datagram too */
        throw_bytes(fd, bytes, cut);
    expect(e, 1, HK_FRAME_SHORT, HK_FRAME_OVERHEAD_BYTES);
    throw_bytes(fd, bytes, len - 1);
    throw_bytes(fd, bytes, sizeof(bytes));
    expect(e, 1, HK_FRAME_BAD_LENGTH, 2);
    bytes[offsetof(struct hk_frame, version)]++;
    throw_bytes(fd, bytes, len);
    expect(e, 1, HK_FRAME_BAD_VERSION, 1);
    len = sealed(bytes, good);
    bytes[40] ^= 4;
    throw_bytes(fd, bytes, len);
    bytes[40] ^= 4;
    bytes[8] ^= 1; /* of the clear part: not secret, yet bound */
    throw_bytes(fd, bytes, len);
    expect(e, 1, HK_FRAME_BAD_TAG, 2);
    h = good, h.type = 9;
    throw_bytes(fd, bytes, sealed(bytes, h));
    expect(e, 1, HK_FRAME_BAD_TYPE, 1);
    h = good, h.packet_number = 0;
    throw_bytes(fd, bytes, sealed(bytes, h));
    h = good, h.path = PATH + 1;
    throw_bytes(fd, bytes, sealed(bytes, h));
    expect(e, 1, HK_FRAME_BAD_FIELD, 2);
    h = good, h.span = 99;
    throw_bytes(fd, bytes, sealed(bytes, h));
    expect(e, 1, HK_FRAME_BAD_LENGTH, 3);
    throw_bytes(fd, bytes, sealed(bytes, good));
    expect(e, 2, HK_FRAME_OK, 0);
    assert_int_equal(e->wrong, 0);
    close(fd);
    close_end(e);
    free(e);
}

static void test_other_senders_are_not_heard(void **state)
{
    uint16_t port = free_port(), peer = free_port();
    struct hk_link_cfg cfg = config(port, peer);
    uint8_t bytes[256];
    struct end *e = calloc(1, sizeof(*e));
    int fd = plain_socket(0, port);

    open_end(e, &cfg);
    throw_bytes(fd, bytes, sealed(bytes, io_frame_header(PATH, 9, 100)));
    for (int i = 0; i < 50; i++)
        turn(e);
    assert_int_equal(e->good, 0);
    close(fd);
    close_end(e);
    free(e);
}

/* Nobody listens: the ICMP errors that come back must not end reception. */
static void test_peer_comes_later(void **state)
{
    uint16_t port = free_port(), peer = free_port();
    struct hk_link_cfg cfg = config(port, peer);
    struct end *e = calloc(1, sizeof(*e)), *late = calloc(1, sizeof(*late));

    open_end(e, &cfg);
    for (int i = 0; i < 20; i++) {
        send_one(e, 50);
        turn(e);
    }
    cfg = config(peer, port);
    open_end(late, &cfg);
    for (int i = 0; i < 20; i++) {
        send_one(e, 50);
        send_one(late, 50);
        turn(e);
        turn(late);
    }
    for (int i = 0; i < 50; i++)
        turn(e), turn(late);
    assert_true(late->good >= 19);
    assert_int_equal(e->good, 20);
    close_end(e);
    close_end(late);
    free(e);
    free(late);
}

/* ---- impairment ---- */

struct outcome {
    struct hk_link_stats tx, rx;
    uint32_t good, out_of_order;
};

static void impaired_run(const struct hk_impair_cfg *cfg, struct outcome *ret)
{
    struct pair *p = open_pair(cfg, 1500);
    uint64_t bad = 0;

    for (int i = 0; i < 10000; i++) {
        send_paced(p, &p->a, (uint16_t)(1 + i % 700));
        if (i % 100 == 0)
            settle(p);
    }
    /* What is held back must come by itself. */
    settle(p);
    hk_link_stats(p->a.link, &ret->tx);
    hk_link_stats(p->b.link, &ret->rx);
    ret->good = p->b.good;
    ret->out_of_order = p->b.out_of_order;
    assert_int_equal(p->b.wrong, 0);
    assert_int_equal(hk_link_deadline_ns(p->a.link), UINT64_MAX);
    for (int i = 0; i < HK_FRAME_FAULTS; i++) {
        assert_int_equal(p->b.bad[i], ret->rx.bad[i]);
        bad += ret->rx.bad[i];
    }
    assert_int_equal(ret->tx.frames_tx, 10000 - ret->tx.lost + ret->tx.duplicated);
    /* Every frame sent is accounted for: good, or refused as one that was corrupted. */
    assert_int_equal(ret->good + bad, ret->tx.frames_tx);
    assert_int_equal(bad, ret->tx.corrupted);
    close_pair(p);
}

static void test_impairment(void **state)
{
    static const struct hk_impair_cfg cfg = {
        .loss_ppm = 20000, .dup_ppm = 30000, .reorder_ppm = 50000, .corrupt_ppm = 40000, .seed = 5};
    struct outcome *one = calloc(1, sizeof(*one)), *two = calloc(1, sizeof(*two));

    impaired_run(&cfg, one);
    assert_in_range(one->tx.lost, 140, 260);
    assert_in_range(one->tx.duplicated, 220, 380);
    assert_in_range(one->tx.reordered, 400, 600);
    assert_in_range(one->tx.corrupted, 300, 500);
    assert_true(one->out_of_order > 200);
    assert_true(one->rx.bad[HK_FRAME_BAD_TAG] > 200);
    assert_true(one->rx.bad[HK_FRAME_BAD_LENGTH] > 0);
    impaired_run(&cfg, two); /* the same seed: the same faults */
    assert_int_equal(one->tx.lost, two->tx.lost);
    assert_int_equal(one->tx.duplicated, two->tx.duplicated);
    assert_int_equal(one->tx.reordered, two->tx.reordered);
    assert_int_equal(one->tx.corrupted, two->tx.corrupted);
    assert_int_equal(one->good, two->good);
    assert_memory_equal(one->rx.bad, two->rx.bad, sizeof(one->rx.bad));
    free(one);
    free(two);
}

/* ---- refusals ---- */

static void refuse(struct hk_link_cfg cfg, int error, const char *word)
{
    struct hk_io_error err = {0};
    struct hk_reactor *r = NULL;
    struct hk_link *l = (void *)1;

    assert_int_equal(hk_reactor_create(&(struct hk_reactor_cfg){.cpu = -1}, &r, &err), 0);
    assert_int_equal(hk_link_create(&cfg, r, &l, &err), error);
    assert_ptr_equal(l, (void *)1);
    assert_int_equal(err.error, error);
    if (strstr(err.text, word) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
    hk_reactor_free(r);
}

static void test_refusals(void **state)
{
    struct hk_link_cfg cfg = config(free_port(), 7001), c;
    int fd = plain_socket(cfg.local_port, 7001);

    refuse(cfg, -EADDRINUSE, "127.0.0.1:");
    close(fd);
    c = cfg, c.local_address = "127.0.0.1.5";
    refuse(c, -EINVAL, "127.0.0.1.5");
    c = cfg, c.peer_address = "osaka";
    refuse(c, -EINVAL, "peer address \"osaka\"");
    c = cfg, c.local_address = "192.0.2.77";
    refuse(c, -EADDRNOTAVAIL, "no interface has this address");
    c = cfg, c.device = "nosuch0";
    refuse(c, -ENODEV, "nosuch0");
    c = cfg, c.mtu = 100;
    refuse(c, -EINVAL, "mtu 100");
    c = cfg, c.path = HK_PATHS_MAX;
    refuse(c, -EINVAL, "path");
    c = cfg, c.peer_port = 0;
    refuse(c, -EINVAL, "ports");
}

/* With sends queued, frames held back, receives armed and data waiting. */
static void test_free_in_full_flight(void **state)
{
    static const struct hk_impair_cfg cfg = {.reorder_ppm = 500000, .seed = 1};
    struct pair *p = open_pair(&cfg, 1500);

    for (int i = 0; i < 300; i++)
        send_one(&p->a, 1000);
    hk_link_flush(p->a.link);
    for (int i = 0; i < 10; i++)
        send_one(&p->a, 1000);
    close_pair(p);
}

static void *run_reactor(void *arg)
{
    return (void *)(intptr_t)hk_reactor_run(arg);
}

/* Opened by one thread, run by another that ends, freed by the first: what a daemon does. */
static void test_freed_by_another_thread(void **state)
{
    struct pair *p = open_pair(NULL, 1500);
    int fds[2];
    pthread_t t;
    void *ret;

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(hk_reactor_watch(p->a.reactor, fds[0], false, NULL, NULL), 0);
    for (int i = 0; i < 100; i++)
        send_one(&p->a, 1000);
    hk_link_flush(p->a.link);
    assert_int_equal(pthread_create(&t, NULL, run_reactor, p->a.reactor), 0);
    for (int i = 0; i < 2000 && p->b.good < 100; i++)
        turn(&p->b);
    assert_int_equal(p->b.good, 100);
    hk_reactor_stop(p->a.reactor);
    pthread_join(t, &ret);
    assert_null(ret);
    hk_reactor_unwatch(p->a.reactor, fds[0]);
    close(fds[0]);
    close(fds[1]);
    close_pair(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_jumbo),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_bad_frames_by_kind),
        cmocka_unit_test(test_other_senders_are_not_heard),
        cmocka_unit_test(test_peer_comes_later),
        cmocka_unit_test(test_impairment),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_free_in_full_flight),
        cmocka_unit_test(test_freed_by_another_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
