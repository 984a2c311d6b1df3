/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the hashes that two sites compare are AES-256-GMAC as SPEC.md §10.9 says, whatever way the
 * bytes come in; what can't be read is an error, not a hash. Method: files of known content, read
 * through a real reactor; each hash against one made here with OpenSSL's EVP_MAC, a way of its own.
 */
#include "tests/unit/unit.h"

#include "replicator/io/hasher.h"
#include "replicator/io/reactor.h"
#include "replicator/io/uring_disk.h"
#include "tests/unit/below.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES = (3 << 16) + 1536 };

static struct hk_reactor *reactor;
static struct hk_hasher *hasher;
static struct hk_hashes got[HK_COMPARE_ASKS_MAX];
static uint32_t got_count;

static void done(void *arg, const struct hk_hashes *h)
{
    (void)arg;
    got[got_count++] = *h;
}

static void run(uint32_t want)
{
    for (int i = 0; i < 2000 && got_count < want; i++) {
        hk_reactor_turn(reactor, 1000000);
        hk_hasher_poll(hasher, done, NULL);
    }
    assert_int_equal(got_count, want);
    assert_int_equal(hk_hasher_in_flight(hasher), 0);
}

static void expected(const uint8_t *key, const struct hk_hash_ask *a, uint64_t offset,
                     const uint8_t *bytes, size_t n, uint8_t ret[16])
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "GMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    char cipher[] = "AES-256-GCM";
    uint8_t nonce[12];
    uint64_t sector = offset / 512;
    OSSL_PARAM params[3];
    size_t out = 0;

    for (int i = 0; i < 4; i++)
        nonce[i] = (uint8_t)(a->pass >> 8 * i);
    nonce[4] = (uint8_t)a->volume;
    nonce[5] = 0;
    for (int i = 0; i < 6; i++)
        nonce[6 + i] = (uint8_t)(sector >> 8 * i);
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, nonce, sizeof(nonce));
    params[2] = OSSL_PARAM_construct_end();
    assert_int_equal(EVP_MAC_init(ctx, key, 32, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, bytes, n), 1);
    assert_int_equal(EVP_MAC_final(ctx, ret, &out, 16), 1);
    assert_int_equal(out, 16);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
}

static int file_of(const uint8_t *bytes)
{
    char path[] = "/tmp/hikae-hasher-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, bytes, FILE_BYTES), FILE_BYTES);
    return fd;
}

static void hashes_are_gmac(void **state)
{
    static uint8_t bytes[FILE_BYTES], key[2][HK_COMPARE_KEY_BYTES];
    struct hk_hash_ask ask = {.pass = 0x01020304, .volume = 7, .after = 64};
    uint64_t rnd = 5;
    uint8_t want[16];
    int fd;

    (void)state;
    unit_random_bytes(&rnd, bytes, sizeof(bytes));
    unit_random_bytes(&rnd, key, sizeof(key));
    fd = file_of(bytes);
    got_count = 0;
    /* As many as may be open, with two keys in turn: one piece, then another, of one file. */
    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        ask.request = 100 + i;
        ask.offset = i % 2 ? 4096 : 0;
        ask.bytes = (uint32_t)(FILE_BYTES - ask.offset);
        hk_hasher_start(hasher, fd, &ask, key[i % 2]);
    }
    run(HK_COMPARE_ASKS_MAX);
    for (uint32_t i = 0; i < got_count; i++) {
        uint64_t from = (got[i].request - 100) % 2 ? 4096 : 0;

        assert_int_equal(got[i].error, 0);
        assert_int_equal(got[i].count, from ? 3 : 4);
        for (uint32_t b = 0; b < got[i].count; b++) {
            uint64_t at = from + (uint64_t)b * HK_COMPARE_BLOCK_BYTES;
            size_t n = hk_min_u64(FILE_BYTES - at, HK_COMPARE_BLOCK_BYTES);

            expected(key[(got[i].request - 100) % 2], &ask, at, bytes + at, n, want);
            assert_memory_equal(got[i].hash[b], want, 16);
        }
    }
    close(fd);
}

/* One byte, the pass, the volume or the place: each changes the hash. */
static void everything_counts(void **state)
{
    static uint8_t bytes[FILE_BYTES], key[HK_COMPARE_KEY_BYTES] = {1};
    struct hk_hash_ask ask[5] = {{.request = 1, .bytes = 65536}};
    int fd;

    (void)state;
    for (int i = 1; i < 5; i++)
        ask[i] = ask[0];
    ask[1].pass = 1;
    ask[2].volume = 1;
    ask[3].offset = 65536; /* zeroes, too */
    fd = file_of(bytes);
    for (uint32_t i = 0; i < 5; i++) {
        got_count = 0;
        if (i == 4)
            assert_int_equal(pwrite(fd, "x", 1, 65535), 1);
        hk_hasher_start(hasher, fd, &ask[i], key);
        run(1);
        memcpy(bytes + 16 * i, got[0].hash[0], 16);
        for (uint32_t k = 0; k < i; k++)
            assert_memory_not_equal(bytes + 16 * k, bytes + 16 * i, 16);
    }
    close(fd);
}

static void errors_are_no_hashes(void **state)
{
    static uint8_t bytes[FILE_BYTES], key[HK_COMPARE_KEY_BYTES];
    struct hk_hash_ask ask = {.request = 9, .bytes = 65536, .offset = 3 << 16};
    int fd = file_of(bytes), wrong = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)state;
    got_count = 0;
    hk_hasher_start(hasher, fd, &ask, key); /* it ends before the block does */
    hk_hasher_start(hasher, -ENOENT, &ask, key);
    hk_hasher_start(hasher, wrong, &ask, key);
    run(3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(got[i].error == -EIO || got[i].error == -ENOENT || got[i].error == -EBADF);
        assert_int_equal(got[i].count, 0);
        assert_int_equal(got[i].request, 9);
    }
    close(fd);
    close(wrong);
}

/* What a failed flush lost still reads as written in the cache: the hash must be the medium's. */
static void the_medium_is_hashed(void **state)
{
    static uint8_t bytes[2 * 65536], key[HK_COMPARE_KEY_BYTES] = {3};
    struct hk_hash_ask ask = {.request = 4, .pass = 9, .bytes = sizeof(bytes) - 512};
    uint64_t rnd = 77;
    uint8_t want[16];
    struct below b;
    bool direct = false;
    int fd = -1;

    (void)state;
    below_open(&b, sizeof(bytes));
    unit_random_bytes(&rnd, bytes, sizeof(bytes));
    below_change(&b, bytes, sizeof(bytes), 0);
    assert_int_equal(hk_disk_open_beside(b.path, &fd, &direct), 0);
    assert_true(direct);
    for (int round = 0; round < 2; round++) {
        got_count = 0;
        hk_hasher_start(hasher, fd, &ask, key);
        run(1);
        assert_int_equal(got[0].error, 0);
        assert_int_equal(got[0].count, 2);
        expected(key, &ask, 0, bytes, 65536, want);
        assert_memory_equal(got[0].hash[0], want, 16);
        expected(key, &ask, 65536, bytes + 65536, 65536 - 512, want);
        assert_memory_equal(got[0].hash[1], want, 16);
        /* Again through a descriptor that has no O_DIRECT: clean pages are dropped first. */
        close(fd);
        fd = open(b.path, O_RDONLY | O_CLOEXEC);
        unit_random_bytes(&rnd, bytes, sizeof(bytes));
        assert_int_equal(pwrite(b.file, bytes, sizeof(bytes), 0), sizeof(bytes));
    }
    close(fd);
    below_close(&b);
}

static int setup(void **state)
{
    struct hk_reactor_cfg cfg = {.cpu = -1};
    struct hk_io_error err;

    (void)state;
    assert_int_equal(hk_reactor_create(&cfg, &reactor, &err), 0);
    assert_int_equal(hk_hasher_create(reactor, &hasher, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hk_hasher_free(hasher);
    hk_reactor_free(reactor);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_gmac),
        cmocka_unit_test(everything_counts),
        cmocka_unit_test(errors_are_no_hashes),
        cmocka_unit_test(the_medium_is_hashed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
