/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a primary site: two small origins, metadata, and where its ring and socket are. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/races/life.h"

bool block_is(const uint8_t *block, uint64_t word)
{
    for (unsigned i = 0; i < BLOCK; i += 8) {
        if (memcmp(block + i, &word, 8) != 0)
            return false;
    }
    return true;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void make_file(const char *path, uint64_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        fail(path);
    close(fd);
}

static void make_metadata(const struct life_site *s)
{
    struct hk_super_create p = {
        .group_id = s->conf.group_id, .volume_count = VOLUMES, .assume_equal = true, .time_ns = 1};
    static uint8_t slot[HK_SUPER_BYTES];
    static struct hk_super super;
    int fd;

    memset(&p.site_id, 2, 16);
    memset(&p.replica_id, 3, 16);
    memset(&p.epoch_id, 4, 16);
    strcpy(p.group_name, "core");
    for (unsigned v = 0; v < VOLUMES; v++) {
        strcpy(p.volume[v].name, s->conf.volume[v].name);
        p.volume[v].bytes = VOLUME_BYTES;
    }
    if (hk_super_create(&p, &super))
        fail("superblock");
    hk_super_encode(&super, slot);
    make_file(s->conf.metadata, 2 * HK_SUPER_BYTES);
    fd = open(s->conf.metadata, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, slot, sizeof(slot), (off_t)(super.sequence & 1) * HK_SUPER_BYTES) < 0)
        fail(s->conf.metadata);
    close(fd);
}

void site_make(struct life_site *s)
{
    struct hk_nbd_conf *c = &s->conf;

    memset(s, 0, sizeof(*s));
    strcpy(s->dir, "/dev/shm/hikae-races-XXXXXX");
    if (!mkdtemp(s->dir))
        fail(s->dir);
    strcpy(c->group_name, "core");
    memset(&c->group_id, 1, 16);
    c->mode = HK_MODE_SYNC;
    c->on_link_loss = HK_LINK_LOSS_CONTINUE;
    c->volume_count = VOLUMES;
    for (unsigned v = 0; v < VOLUMES; v++) {
        snprintf(c->volume[v].name, sizeof(c->volume[v].name), "v%u", v);
        snprintf(c->volume[v].origin, sizeof(c->volume[v].origin), "%s/o%u", s->dir, v);
        c->volume[v].bytes = VOLUME_BYTES;
        make_file(c->volume[v].origin, VOLUME_BYTES);
    }
    snprintf(c->socket, sizeof(c->socket), "%s/cap", s->dir);
    snprintf(c->ring, sizeof(c->ring), "%s/ring", s->dir);
    snprintf(c->metadata, sizeof(c->metadata), "%s/md", s->dir);
    c->ring_slots = HK_RING_SLOTS_MIN;
    c->ring_payload_bytes = HK_RING_PAYLOAD_MIN;
    c->reader_uid = geteuid();
    make_metadata(s);
    s->ledger =
        mmap(NULL, sizeof(*s->ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->ledger == MAP_FAILED)
        fail("ledger");
}

void site_destroy(struct life_site *s)
{
    static const char *const names[] = {"o0", "o1", "cap", "ring", "ring.new", "ring.lost", "md"};
    char path[128];

    munmap(s->ledger, sizeof(*s->ledger));
    s->ledger = NULL;
    for (unsigned i = 0; i < HK_ARRAY_SIZE(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", s->dir, names[i]);
        unlink(path);
    }
    if (rmdir(s->dir))
        fail(s->dir);
}
