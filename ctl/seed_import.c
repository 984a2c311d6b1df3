/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hikae seed import: makes this standby's replicas from a seed. In this order: the manifest is
 * judged whole; piece by piece what the replica lacks is written, each only after its hash was
 * found right; all is flushed, read back from the medium and compared; a note of the seed; last the
 * superblock, in which the standby has the primary's first epoch and nothing of its log. Whatever
 * stops it before that leaves a standby that was never anybody's, and it is simply run again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/seed_io.h"
#include "proto/super.h"

struct import {
    const struct hk_options *o;
    const char *dir;
    const struct hk_local_conf *l;
    struct hk_seed seed;
    struct hk_super super;
    int md, from, to;
    uint64_t written_bytes, kept_bytes;
    uint8_t *buffer;
    uint8_t *written; /* a byte a piece */
    struct timespec at;
};

/* ---- may it be? ---- */

static int judge_standby(const struct import *m)
{
    const struct hk_super *s = &m->super;

    if (s->role == HK_ROLE_STANDBY && s->history.count == 0 && hk_super_is_current(s) &&
        !(s->flags & (uint32_t)~HK_SF_ASSUMED_EQUAL))
        return 0;
    return hk_complain(HK_EXIT_REFUSED,
                       "HKE3216E %s: this standby has a history already, and a seed would undo it; "
                       "make its metadata anew (hikae-create-md(8)) if that may be lost",
                       m->l->standby.metadata);
}

static int judge_seed(const struct import *m, const struct hk_group_conf *g)
{
    const struct hk_seed *s = &m->seed;
    char theirs[HK_UUID_TEXT], ours[HK_UUID_TEXT];

    hk_uuid_format(&s->group_id, theirs);
    hk_uuid_format(&g->id, ours);
    if (!hk_uuid_equal(&s->group_id, &g->id))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE3212E %s is a seed of the group %s (%s), this is %s (%s)", m->dir,
                           s->group_name, theirs, g->name, ours);
    if (hk_uuid_equal(&s->replica_id, &m->super.replica_id))
        return hk_complain(HK_EXIT_REFUSED, "HKE3212E %s is a seed of this very copy", m->dir);
    if (s->volume_count != g->volume_count)
        return hk_complain(HK_EXIT_REFUSED, "HKE3213E %s has %u volumes, group.conf has %u", m->dir,
                           s->volume_count, g->volume_count);
    for (uint32_t i = 0; i < s->volume_count; i++) {
        if (memcmp(s->volume[i].name, g->volume[i].name, HK_NAME_BYTES) ||
            s->volume[i].bytes != g->volume[i].bytes)
            return hk_complain(HK_EXIT_REFUSED,
                               "HKE3213E volume %u of %s is %s with %" PRIu64
                               " bytes, in group.conf %s with %" PRIu64,
                               i, m->dir, s->volume[i].name, s->volume[i].bytes, g->volume[i].name,
                               g->volume[i].bytes);
    }
    return 0;
}

/* Every image is there and as long as it should be, before the first byte is written. */
static int judge_images(const struct import *m)
{
    for (uint32_t v = 0; v < m->seed.volume_count; v++) {
        char path[PATH_MAX];
        struct stat st;

        snprintf(path, sizeof(path), "%s/%s.img", m->dir, m->seed.volume[v].name);
        if (stat(path, &st))
            return hk_complain(HK_EXIT_FAILED, "HKE3214E %s can't be opened: %s", path,
                               strerror(errno));
        if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->seed.volume[v].bytes)
            return hk_complain(HK_EXIT_REFUSED,
                               "HKE3214E %s has %" PRId64 " bytes, its volume %" PRIu64
                               ": it is cut off, or another one",
                               path, (int64_t)st.st_size, m->seed.volume[v].bytes);
    }
    return 0;
}

/* ---- one volume ---- */

static int replica_failed(const struct import *m, uint32_t v, const char *what, uint64_t offset)
{
    return hk_complain(HK_EXIT_FAILED,
                       "HKE3217E %s can't be %s at byte %" PRIu64
                       ": %s; the standby is not seeded, run it again",
                       m->l->standby.replica[v], what, offset, strerror(errno));
}

/* Right already, by an earlier run or because both are new. */
static int has_it(struct import *m, uint32_t v, uint64_t i, bool *ret)
{
    uint64_t bytes = hk_seed_piece_bytes(&m->seed, i), at = hk_seed_piece_offset(&m->seed, i);
    struct hk_seed_piece p;

    if (hk_seed_read_at(m->to, m->buffer, bytes, at))
        return replica_failed(m, v, "read", at);
    hk_seed_piece_of(m->buffer, bytes, &p);
    *ret = hk_seed_piece_equal(&p, &m->seed.piece[i]);
    return 0;
}

static int put_piece(struct import *m, uint32_t v, uint64_t i)
{
    uint64_t bytes = hk_seed_piece_bytes(&m->seed, i), at = hk_seed_piece_offset(&m->seed, i);
    struct hk_seed_piece p;

    /* Of a zero piece nothing was stored; what stands there now must still be a hole. */
    if (hk_seed_read_at(m->from, m->buffer, bytes, at))
        return hk_complain(HK_EXIT_FAILED,
                           "HKE3214E %s/%s.img can't be read at byte %" PRIu64 ": %s", m->dir,
                           m->seed.volume[v].name, at, strerror(errno));
    hk_seed_piece_of(m->buffer, bytes, &p);
    if (!hk_seed_piece_equal(&p, &m->seed.piece[i]))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE3215E %s/%s.img, %" PRIu64 " bytes from byte %" PRIu64
                           ": not what the manifest says; something was changed, or the medium "
                           "is bad",
                           m->dir, m->seed.volume[v].name, bytes, at);
    if (hk_seed_write_at(m->to, m->buffer, bytes, at))
        return replica_failed(m, v, "written", at);
    m->written[i] = 1;
    m->written_bytes += bytes;
    return 0;
}

static int one_piece(struct import *m, uint32_t v, uint64_t i)
{
    bool has = false;
    int r = has_it(m, v, i, &has);

    if (r)
        return r;
    if (!has)
        return put_piece(m, v, i);
    m->kept_bytes += hk_seed_piece_bytes(&m->seed, i);
    return 0;
}

/* What was written is read back from the medium: it is the only copy there will be. */
static int verify(struct import *m, uint32_t v, uint64_t first, uint64_t end)
{
    if (fsync(m->to))
        return replica_failed(m, v, "flushed", 0);
    posix_fadvise(m->to, 0, 0, POSIX_FADV_DONTNEED);
    for (uint64_t i = first; i < end; i++) {
        bool has = false;
        int r = m->written[i] ? has_it(m, v, i, &has) : 0;

        if (r)
            return r;
        if (m->written[i] && !has)
            return hk_complain(HK_EXIT_FAILED,
                               "HKE3218E %s does not hold what was written at byte %" PRIu64
                               "; examine the disk",
                               m->l->standby.replica[v], hk_seed_piece_offset(&m->seed, i));
    }
    return 0;
}

static int import_volume(struct import *m, uint32_t v)
{
    uint64_t first = m->seed.volume[v].first_piece;
    uint64_t end =
        v + 1 < m->seed.volume_count ? m->seed.volume[v + 1].first_piece : m->seed.pieces;
    char path[PATH_MAX];
    off_t size;
    int r = 0;

    snprintf(path, sizeof(path), "%s/%s.img", m->dir, m->seed.volume[v].name);
    m->from = hk_seed_open(path, O_RDONLY, false);
    if (m->from < 0)
        return hk_complain(HK_EXIT_FAILED, "HKE3214E %s can't be opened: %s", path,
                           strerror(errno));
    m->to = hk_seed_open(m->l->standby.replica[v], O_RDWR, true);
    if (m->to < 0)
        return replica_failed(m, v, "opened", 0);
    size = lseek(m->to, 0, SEEK_END);
    if (size < 0 || (uint64_t)size != m->seed.volume[v].bytes)
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE3213E the replica %s has %" PRId64 " bytes, its volume %" PRIu64,
                           m->l->standby.replica[v], (int64_t)size, m->seed.volume[v].bytes);
    for (uint64_t i = first; !r && i < end; i++) {
        r = one_piece(m, v, i);
        if (!r)
            hk_seed_progress(m->o, &m->at, "imported", i + 1, 0, &m->seed);
    }
    if (!r)
        r = verify(m, v, first, end);
    close(m->from);
    close(m->to);
    m->from = m->to = -1;
    return r;
}

/* ---- what stays ---- */

/* Where this copy came from, for who asks later: beside the superblock, which says how far. */
static int leave_note(const struct import *m)
{
    char path[PATH_MAX + 8];
    int fd;
    FILE *f;

    snprintf(path, sizeof(path), "%s/seed", m->l->standby.journal);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f) {
        hk_seed_print_head(&m->seed, f);
        hk_seed_print_tail(&m->seed, f);
    }
    if (!f || hk_seed_close(f))
        return hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", path,
                           strerror(errno));
    return 0;
}

/*
 * As a standby that has taken over the primary's history and got nothing of its log yet: it is in
 * no consistent state, so it refuses promotion, until the end of a resync is applied.
 */
static int store(struct import *m)
{
    static uint8_t slot[HK_SUPER_BYTES];
    struct hk_super *s = &m->super;

    s->flags = 0;
    s->sequence++;
    s->peer_replica_id = m->seed.replica_id;
    s->history = (struct hk_history){.count = 1, .epoch = {m->seed.epoch}};
    hk_super_encode(s, slot);
    if (pwrite(m->md, slot, sizeof(slot), (off_t)((s->sequence & 1) * HK_SUPER_BYTES)) !=
            (ssize_t)sizeof(slot) ||
        fsync(m->md))
        return hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s",
                           m->l->standby.metadata, strerror(errno));
    return 0;
}

static void say(const struct import *m)
{
    char w[24], k[24];

    if (m->o->json)
        hk_print_json(
            json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:I}", "schema", 1, "state", "imported",
                      "directory", m->dir, "written_bytes", (json_int_t)m->written_bytes,
                      "kept_bytes", (json_int_t)m->kept_bytes, "begin_lsn",
                      (json_int_t)m->seed.begin_lsn, "end_lsn", (json_int_t)m->seed.end_lsn));
    else
        printf("seeded from %s: %s written and read back, %s were right already\n"
               "  what the primary wrote since follows over the line; until then promotion is "
               "refused\n",
               m->dir, hk_bytes_text(m->written_bytes, w), hk_bytes_text(m->kept_bytes, k));
}

static int run(struct import *m, const struct hk_group_conf *g)
{
    struct hk_seed_fault fault = {0};
    struct hk_metadata_place p = {.path = m->l->standby.metadata};
    int r = hk_seed_super(&p, O_RDWR, &m->md, &m->super);

    if (!r)
        r = judge_standby(m);
    if (!r)
        r = hk_seed_read(m->dir, HK_SEED_MANIFEST, false, &m->seed, &fault);
    if (!r)
        r = judge_seed(m, g);
    if (!r)
        r = judge_images(m);
    if (r)
        return r;
    m->buffer = aligned_alloc(4096, hk_max_u64(m->seed.piece_bytes, 4096));
    m->written = calloc(m->seed.pieces, 1);
    if (!m->buffer || !m->written)
        return hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    for (uint32_t v = 0; !r && v < m->seed.volume_count; v++)
        r = import_volume(m, v);
    if (!r)
        r = leave_note(m);
    return r ? r : store(m);
}

int hk_seed_import(const struct hk_options *o, const char *dir)
{
    static struct hk_group_conf g;
    static struct hk_local_conf l;
    struct import m = {.o = o, .dir = dir, .l = &l, .md = -1, .from = -1, .to = -1};
    int r = hk_read_conf(o, &g, &l);

    if (!r && !l.standby.present)
        r = hk_complain(HK_EXIT_REFUSED, "HKE3216E site.conf has no `standby`: a seed is imported "
                                         "at the standby");
    if (r)
        return r;
    clock_gettime(CLOCK_MONOTONIC, &m.at);
    r = run(&m, &g);
    if (!r)
        say(&m);
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? m.md : i == 1 ? m.from : m.to;

        if (fd >= 0)
            close(fd);
    }
    hk_seed_free(&m.seed);
    free(m.buffer);
    free(m.written);
    return r;
}
