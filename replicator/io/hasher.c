/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/hasher.h"

#include "replicator/io/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { NONCE_BYTES = 12, REPEATS_MAX = 1000 };
enum { DROP_BYTES = 4 << 20 }; /* a folio of the cache goes as a whole, or not at all */

enum job_state { JOB_FREE = 0, JOB_READING, JOB_DONE };

struct job {
    struct hk_completion completion;
    struct hk_hasher *hasher;
    enum job_state state;
    int fd;
    struct hk_hash_ask ask;
    uint8_t key[HK_COMPARE_KEY_BYTES];
    uint32_t done_bytes;  /* hashed, whole blocks */
    uint32_t block_bytes; /* of this block, so much has been read */
    uint32_t repeats;
    uint8_t *buffer;
    struct hk_hashes result;
};

struct hk_hasher {
    struct hk_reactor *reactor;
    EVP_CIPHER_CTX *gmac;
    uint8_t key[HK_COMPARE_KEY_BYTES]; /* that gmac holds */
    uint8_t *buffers;
    struct job job[HK_COMPARE_ASKS_MAX];
};

/* ---- hashing ---- */

static void make_nonce(const struct hk_hash_ask *a, uint32_t at, uint8_t nonce[NONCE_BYTES])
{
    uint64_t sector = (a->offset + at) / 512;

    memcpy(nonce, &a->pass, 4);
    nonce[4] = (uint8_t)a->volume;
    nonce[5] = (uint8_t)(a->volume >> 8);
    memcpy(nonce + 6, &sector, 6);
}

static bool use_key(struct hk_hasher *h, const uint8_t *key)
{
    if (memcmp(h->key, key, sizeof(h->key)) == 0)
        return true;
    memcpy(h->key, key, sizeof(h->key));
    return EVP_EncryptInit_ex(h->gmac, NULL, NULL, key, NULL) == 1;
}

/* GMAC: everything is associated data, nothing is encrypted. */
static bool hash_block(struct hk_hasher *h, struct job *j, uint32_t bytes, uint8_t *ret)
{
    uint8_t nonce[NONCE_BYTES], none[16];
    int n;

    make_nonce(&j->ask, j->done_bytes, nonce);
    return use_key(h, j->key) && EVP_EncryptInit_ex(h->gmac, NULL, NULL, NULL, nonce) == 1 &&
           EVP_EncryptUpdate(h->gmac, NULL, &n, j->buffer, (int)bytes) == 1 &&
           EVP_EncryptFinal_ex(h->gmac, none, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(h->gmac, EVP_CTRL_GCM_GET_TAG, HK_COMPARE_HASH_BYTES, ret) == 1;
}

/* ---- one piece ---- */

static uint32_t this_block(const struct job *j)
{
    return (uint32_t)hk_min_u64(j->ask.bytes - j->done_bytes, HK_COMPARE_BLOCK_BYTES);
}

/* Whole pages from whole pages: O_DIRECT takes nothing else, and the buffer has the room. */
static void issue(struct job *j)
{
    struct io_uring_sqe *sqe = hk_reactor_sqe(j->hasher->reactor, &j->completion);
    uint32_t left = this_block(j) - j->block_bytes;

    HK_ASSERT(j->block_bytes % HK_PAGE_BYTES == 0);
    io_uring_prep_read(sqe, j->fd, j->buffer + j->block_bytes,
                       (uint32_t)hk_round_up(left, HK_PAGE_BYTES),
                       j->ask.offset + j->done_bytes + j->block_bytes);
}

static void end(struct job *j, int error)
{
    j->state = JOB_DONE;
    j->result.error = error;
    if (error)
        j->result.count = 0;
}

static void read_done(struct hk_completion *c, int32_t result, uint32_t cqe_flags)
{
    struct job *j = HK_CONTAINER_OF(c, struct job, completion);
    uint32_t bytes = this_block(j);

    if ((result == -EINTR || result == -EAGAIN) && j->repeats++ < REPEATS_MAX) {
        issue(j);
        return;
    }
    if (result < 0) {
        end(j, result);
        return;
    }
    /* What lies behind the volume's end in the last page is read, and not looked at. */
    if (j->block_bytes + (uint32_t)result < bytes) {
        uint32_t before = j->block_bytes;

        j->block_bytes = (before + (uint32_t)result) / HK_PAGE_BYTES * HK_PAGE_BYTES;
        if (j->block_bytes > before)
            issue(j);
        else
            end(j, -EIO); /* the volume is shorter than it should be */
        return;
    }
    if (!hash_block(j->hasher, j, bytes, j->result.hash[j->result.count])) {
        end(j, -EIO);
        return;
    }
    j->result.count++;
    j->done_bytes += bytes;
    j->block_bytes = 0;
    if (j->done_bytes == j->ask.bytes)
        end(j, 0);
    else
        issue(j);
}

/*
 * A descriptor without O_DIRECT: its file system has none. Pages that a failed flush left behind
 * are clean by the cache's word, and wrong: they are dropped first. Those to be written stay.
 */
static void drop_cached(int fd, const struct hk_hash_ask *ask)
{
    int flags = fcntl(fd, F_GETFL);
    uint64_t from = ask->offset / DROP_BYTES * DROP_BYTES;
    uint64_t to = hk_round_up(ask->offset + ask->bytes, DROP_BYTES);

    if (flags >= 0 && !(flags & O_DIRECT))
        posix_fadvise(fd, (off_t)from, (off_t)(to - from), POSIX_FADV_DONTNEED);
}

void hk_hasher_start(struct hk_hasher *h, int fd, const struct hk_hash_ask *ask,
                     const uint8_t key[HK_COMPARE_KEY_BYTES])
{
    struct job *j = NULL;

    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX && !j; i++) {
        if (h->job[i].state == JOB_FREE)
            j = &h->job[i];
    }
    HK_ASSERT(j && ask->bytes > 0 && hk_compare_blocks(ask->bytes) <= HK_COMPARE_BLOCKS_MAX);
    j->state = JOB_READING;
    j->fd = fd;
    j->ask = *ask;
    memcpy(j->key, key, sizeof(j->key));
    j->done_bytes = j->block_bytes = j->repeats = 0;
    j->result = (struct hk_hashes){.request = ask->request};
    if (fd < 0) {
        end(j, fd);
        return;
    }
    drop_cached(fd, ask);
    issue(j);
}

uint32_t hk_hasher_poll(struct hk_hasher *h, void (*done)(void *arg, const struct hk_hashes *r),
                        void *arg)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        struct hk_hashes result;

        if (h->job[i].state != JOB_DONE)
            continue;
        result = h->job[i].result;
        h->job[i].state = JOB_FREE;
        done(arg, &result);
        n++;
    }
    return n;
}

uint32_t hk_hasher_in_flight(const struct hk_hasher *h)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++)
        n += h->job[i].state != JOB_FREE;
    return n;
}

/* ---- making and ending ---- */

int hk_hasher_create(struct hk_reactor *r, struct hk_hasher **ret_hasher, struct hk_io_error *err)
{
    struct hk_hasher *h = calloc(1, sizeof(*h));
    int error = -ENOMEM;

    if (!h)
        return hk_io_fail(err, -ENOMEM, "no memory to compare volumes with");
    h->reactor = r;
    h->buffers = aligned_alloc(4096, (size_t)HK_COMPARE_ASKS_MAX * HK_COMPARE_BLOCK_BYTES);
    h->gmac = EVP_CIPHER_CTX_new();
    if (!h->buffers || !h->gmac)
        goto err_hasher;
    error = -ENOSYS;
    if (EVP_EncryptInit_ex(h->gmac, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1 ||
        EVP_CIPHER_CTX_ctrl(h->gmac, EVP_CTRL_GCM_SET_IVLEN, NONCE_BYTES, NULL) != 1 ||
        EVP_EncryptInit_ex(h->gmac, NULL, NULL, h->key, NULL) != 1)
        goto err_hasher;
    memset(h->buffers, 0, (size_t)HK_COMPARE_ASKS_MAX * HK_COMPARE_BLOCK_BYTES);
    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        h->job[i].hasher = h;
        h->job[i].completion.done = read_done;
        h->job[i].buffer = h->buffers + (size_t)i * HK_COMPARE_BLOCK_BYTES;
    }
    *ret_hasher = h;
    return 0;

err_hasher:
    EVP_CIPHER_CTX_free(h->gmac);
    free(h->buffers);
    free(h);
    return hk_io_fail(err, error, "AES-256-GCM of OpenSSL is not to be had");
}

static bool settled(const void *arg)
{
    const struct hk_hasher *h = arg;

    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        if (h->job[i].state == JOB_READING)
            return false;
    }
    return true;
}

void hk_hasher_free(struct hk_hasher *h)
{
    if (!h)
        return;
    hk_reactor_settle(h->reactor, settled, h);
    EVP_CIPHER_CTX_free(h->gmac);
    free(h->buffers);
    free(h);
}
