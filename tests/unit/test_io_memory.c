/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: arenas are zeroed, present and aligned; and once memory is sealed, the data path allocates
 * nothing. Method: malloc and its kin are wrapped at link time for everything of ours; while the
 * thread is sealed they abort. A link and a disk are driven hard under the seal.
 */
#include "tests/unit/unit.h"

#include "driver-glue/capture/capture.h"
#include "replicator/io/link.h"
#include "replicator/io/memory.h"
#include "replicator/io/reactor.h"
#include "replicator/io/uring_disk.h"
#include "tests/unit/io_frames.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);

static uint32_t caught;

static void look(void)
{
    caught += hk_memory_sealed();
}

void *__wrap_malloc(size_t bytes)
{
    look();
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    look();
    return __real_calloc(n, bytes);
}

void *__wrap_realloc(void *p, size_t bytes)
{
    look();
    return __real_realloc(p, bytes);
}

static void test_arena(void **state)
{
    struct hk_io_error err = {0};
    struct hk_arena a = {0};
    unsigned char present[1024];
    bool locked;

    assert_int_equal(hk_memory_arena(0, &a, NULL, &err), -EINVAL);
    assert_int_equal(hk_memory_arena(SIZE_MAX, &a, NULL, &err), -EINVAL);
    assert_int_equal(hk_memory_arena(1ull << 60, &a, NULL, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "MiB"));
    assert_null(a.base);
    assert_int_equal(hk_memory_arena(3 << 20, &a, &locked, &err), 0);
    assert_int_equal((uintptr_t)a.base % (2 << 20), 0);
    assert_true(a.bytes >= 3 << 20);
    assert_int_equal(mincore(a.base, a.bytes, present), 0);
    for (size_t i = 0; i < a.bytes / 4096; i++)
        assert_true(present[i] & 1);
    for (size_t i = 0; i < a.bytes; i++)
        assert_int_equal(a.base[i], 0);
    memset(a.base, 1, a.bytes);
    hk_memory_arena_free(&a);
    assert_null(a.base);
    hk_memory_arena_free(&a);
}

static void test_seal_is_seen(void **state)
{
    void *volatile p; /* or the compiler does without */

    caught = 0;
    p = malloc(10);
    free(p);
    assert_int_equal(caught, 0);
    hk_memory_seal();
    p = malloc(10);
    free(p);
    hk_memory_unseal();
    assert_int_equal(caught, 1); /* the oracle itself */
    assert_false(hk_memory_sealed());
}

static uint32_t received;

static void got_frame(void *arg, const struct hk_frame *hdr, const uint8_t *body)
{
    received += io_frame_right(hdr, body);
}

static void op_done(void *arg, struct hk_diskop *op)
{
    *(int *)arg += op->result == 0;
}

static void drive(struct hk_reactor *r, struct hk_link *l, struct hk_uring_disk *d, uint8_t *page)
{
    struct hk_disk *iface = hk_uring_disk_iface(d);
    struct hk_diskop op = {.kind = HK_DISK_WRITE_DSYNC,
                           .file = HK_FILE_VOLUME0,
                           .bytes = 4096,
                           .iov = {{page, 4096}},
                           .iov_count = 1};
    uint8_t body[512];
    int done = 0;

    for (uint64_t pn = 1; pn <= 3000; pn++) {
        struct hk_frame h = io_frame_header(0, pn, sizeof(body));
        struct hk_iovec iov = {body, sizeof(body)};

        io_frame_fill(body, pn, sizeof(body));
        while (hk_link_send(l, &h, &iov, 1) == -EAGAIN)
            hk_reactor_turn(r, 0);
        hk_link_flush(l);
        if (pn % 300 == 1)
            iface->submit(iface, &op);
        do {
            hk_reactor_turn(r, 100000);
            hk_uring_disk_poll(d, op_done, &done, 8);
            hk_link_poll(l, hk_reactor_now(r), got_frame, NULL, NULL, 64);
        } while ((uint64_t)done < pn / 300 || received + 200 < pn);
    }
    for (int i = 0; i < 100 && received < 3000; i++) {
        hk_reactor_turn(r, 1000000);
        hk_link_poll(l, hk_reactor_now(r), got_frame, NULL, NULL, 64);
    }
    assert_int_equal(done, 10);
}

/* The link talks to itself: its own port is its peer. */
static void test_data_path_allocates_nothing(void **state)
{
    struct hk_link_cfg cfg = {.backend = HK_LINK_UDP,
                              .local_address = "127.0.0.1",
                              .peer_address = "127.0.0.1",
                              .local_port = (uint16_t)(40000 + getpid() % 20000),
                              .mtu = 1500};
    struct hk_io_error err = {0};
    struct hk_uring_disk *d;
    struct hk_reactor *r;
    struct hk_link *l;
    char path[] = "/var/tmp/hk-sealed-XXXXXX";
    uint8_t *page = aligned_alloc(4096, 4096);
    int fd = mkostemp(path, O_DIRECT);

    assert_true(fd >= 0);
    unlink(path);
    memset(page, 1, 4096);
    cfg.peer_port = cfg.local_port;
    assert_int_equal(hk_reactor_create(&(struct hk_reactor_cfg){.cpu = -1}, &r, &err), 0);
    assert_int_equal(hk_link_create(&cfg, r, &l, &err), 0);
    assert_int_equal(hk_uring_disk_create(r, &(struct hk_uring_disk_cfg){0}, &d, &err), 0);
    assert_int_equal(hk_uring_disk_bind(d, HK_FILE_VOLUME0, fd, NULL), 0);
    caught = 0;
    hk_memory_seal();
    drive(r, l, d, page);
    hk_memory_unseal();
    assert_int_equal(caught, 0);
    assert_int_equal(received, 3000);
    hk_link_free(l);
    hk_uring_disk_free(d);
    hk_reactor_free(r);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_seal_is_seen),
        cmocka_unit_test(test_data_path_allocates_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
