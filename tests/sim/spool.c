/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's spool: files beside its metadata, with a volatile cache and errors like any. What
 * judges: whenever the replicator releases log that the standby does not have durably, each byte of
 * it is in the spool's files as a power cut would leave them (spool_judge), found by a reader of
 * its own; and every frame is compared with the reference as ever, wherever its bytes came from.
 */
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

static struct sim_file *file_of(struct sim *s, uint32_t file)
{
    if (file == HK_FILE_SPOOL_DIR)
        return &s->spool_dir;
    SIM_CHECK(s, "I16",
              file >= HK_FILE_SPOOL_SEGMENT0 && file < HK_FILE_SPOOL_SEGMENT0 + s->o.spool_segments,
              "spool op on file %u that does not exist", file);
    return &s->spool[file - HK_FILE_SPOOL_SEGMENT0];
}

static void disk_done(struct sim *s, struct sim_io *io)
{
    struct hk_event e = {.type = HK_EV_DISK_DONE};
    struct hk_diskop *op = io->ctx;

    op->result = io->result;
    if (io->result)
        s->spool_error = true;
    e.disk = op;
    rep_event(s, &e);
}

static void disk_submit(struct hk_disk *disk, struct hk_diskop *op)
{
    struct sim *s = HK_CONTAINER_OF(disk, struct sim, rep.disk);

    sim_io_submit(s, &s->rep.proc, file_of(s, op->file), op->kind, op->offset, op->bytes, op->iov,
                  op->kind <= HK_DISK_WRITE_DSYNC ? op->iov_count : 0, disk_done, op, 0);
}

void spool_cfg(struct sim *s, struct hk_group_cfg *c)
{
    if (s->o.spool_segments == 0)
        return;
    s->rep.disk.submit = disk_submit;
    c->disk = &s->rep.disk;
    c->window = s->spool_window;
    c->window_bytes = 2 * HK_SPOOL_WINDOW_BYTES;
    c->segment_bytes = s->o.segment_bytes;
    c->segment_count = s->o.spool_segments;
}

/* Are all bytes of the batch there? One that a crash tore is nothing that anybody relies on. */
static bool is_whole(const struct sim_file *f, uint64_t off, const struct ref_epoch *e)
{
    const struct hk_batch_header *h = (const void *)(f->dur + off);
    uint64_t data = off + HK_BATCH_HEADER_BYTES + h->first_lsn % HK_PAGE_BYTES, seed;

    memcpy(&seed, e->id.b, 8);
    return data + h->bytes <= f->bytes && h->data_hash == XXH64(f->dur + data, h->bytes, seed);
}

/* Moves `at` on as far as this file's batches go from there; true if it did. */
static bool follow(struct sim *s, const struct sim_file *f, uint64_t released, uint64_t *at)
{
    const struct ref_epoch *e = ref_epoch_at(s, *at);
    uint64_t off = HK_SEGMENT_HEADER_BYTES, before = *at, next;

    memcpy(&next, f->dur + 64, 8); /* the header's first LSN */
    while (next <= *at && *at < released && off + HK_BATCH_HEADER_BYTES <= f->bytes) {
        uint64_t first, bytes;

        memcpy(&first, f->dur + off + 32, 8);
        memcpy(&bytes, f->dur + off + 40, 8);
        if (first != next || bytes == 0 || bytes > HK_BATCH_BYTES_MAX ||
            memcmp(f->dur + off, "HAKIBAT1", 8) != 0 || memcmp(f->dur + off + 16, e->id.b, 16) != 0)
            break;
        if (first <= *at && *at < first + bytes && !is_whole(f, off, e))
            break;
        off += HK_BATCH_HEADER_BYTES;
        if (first <= *at && *at < first + bytes) {
            if (!s->forked && !mem_is_rotten(s, *at, first + bytes))
                ref_check_log_bytes(s, "I5", *at,
                                    f->dur + off + first % HK_PAGE_BYTES + (*at - first),
                                    (uint32_t)(first + bytes - *at));
            *at = first + bytes;
        }
        off += hk_batch_page_bytes(first, bytes);
        next = first + bytes;
    }
    return *at != before;
}

/* The standby stands where the parent of the newest epoch ended: no log lies between. */
static uint64_t behind_the_gap(const struct sim *s, uint64_t durable)
{
    const struct ref_epoch *e = &s->ref.epoch[s->ref.epoch_count - 1];

    return durable < e->first_lsn && durable >= e->parent_end ? e->first_lsn : durable;
}

/* I1: what leaves the ring is on the standby's disk or in the spool's files. */
void spool_judge(struct sim *s, uint64_t released, uint64_t durable)
{
    uint64_t at = behind_the_gap(s, durable);
    bool moved = true;

    if (released <= durable || s->forked || s->spool_error)
        return;
    while (moved && at < released) {
        moved = false;
        for (uint32_t i = 0; i < s->o.spool_segments; i++)
            moved |= follow(s, &s->spool[i], released, &at);
    }
    SIM_CHECK(s, "I1", at >= released,
              "released up to %llu: the standby has %llu, and the spool only what is below %llu",
              ULL(released), ULL(durable), ULL(at));
    sim_struck(s, F_SPOOLED);
}
