/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/store/spool.h"

#include "proto/bug.h"
#include "proto/hash.h"

#include <errno.h>

enum { READ_TRIES = 2 };

static struct hk_journal_cfg journal_cfg(const struct hk_spool_cfg *c)
{
    return (struct hk_journal_cfg){.disk = c->disk,
                                   .group_id = c->group_id,
                                   .window = c->window,
                                   .window_bytes = c->window_bytes / 2,
                                   .segment_bytes = c->segment_bytes,
                                   .segment_count = c->segment_count,
                                   .spool = true};
}

size_t hk_spool_memory(const struct hk_spool_cfg *cfg)
{
    struct hk_journal_cfg c = journal_cfg(cfg);

    return cfg->segment_count ? hk_journal_memory(&c) : 0;
}

static void note_time(struct hk_spool *sp, uint64_t lsn, uint64_t time_ns)
{
    uint32_t n = 0;

    if (sp->time_count == HK_SPOOL_TIMES) {
        /* Every second one goes: an older time stands for what was known more exactly. */
        for (uint32_t i = 0; i < sp->time_count; i += 2)
            sp->time[n++] = sp->time[i];
        sp->time_count = n;
    }
    sp->time[sp->time_count].lsn = lsn;
    sp->time[sp->time_count++].time_ns = time_ns;
}

static void found(void *arg, uint64_t first_lsn, uint64_t time_ns)
{
    note_time(arg, first_lsn, time_ns);
}

int hk_spool_init(struct hk_spool *sp, const struct hk_spool_cfg *cfg, struct hk_arena *arena)
{
    struct hk_journal_cfg c = journal_cfg(cfg);
    int err;

    __builtin_memset(sp, 0, sizeof(*sp));
    if (cfg->segment_count == 0)
        return 0;
    if (cfg->window_bytes < 2 * HK_SPOOL_WINDOW_BYTES || !cfg->gather)
        return -EINVAL;
    sp->cfg = *cfg;
    sp->half_bytes = cfg->window_bytes / 2;
    c.found = found;
    c.found_arg = sp;
    err = hk_journal_init(&sp->journal, &c, arena);
    if (err == 0)
        err = hk_journal_reader_init(&sp->journal, &sp->reader, arena);
    if (err == 0)
        sp->state = HK_SPOOL_NEW;
    return err;
}

/* ---- epochs, recovery ---- */

static void hold_nothing(struct hk_spool *sp)
{
    sp->first = sp->copied = sp->read_first = sp->read_end = 0;
    sp->bad_lsn = sp->copy_bad_lsn = 0;
    sp->time_count = 0;
    sp->full = false;
}

static void failed(struct hk_spool *sp)
{
    sp->error = sp->journal.error;
    if (sp->state == HK_SPOOL_RECOVERING) {
        hold_nothing(sp);
        sp->state = HK_SPOOL_FAILED;
    } else if (sp->state == HK_SPOOL_RUNNING) {
        sp->state = HK_SPOOL_READ_ONLY;
    }
}

/* A new epoch begins in the journal as soon as nothing of the old one is in flight. */
static void begin_epoch(struct hk_spool *sp)
{
    int rc;

    if (!sp->epoch_due || sp->state != HK_SPOOL_RUNNING || sp->reader.busy)
        return;
    rc =
        hk_journal_begin_epoch(&sp->journal, sp->epoch.ordinal, &sp->epoch.id, sp->epoch.first_lsn);
    if (rc == -EAGAIN)
        return;
    if (rc) {
        /* It holds LSNs above what this epoch begins with: files of another life of this site. */
        sp->state = HK_SPOOL_FAILED;
        sp->error = rc;
    }
    sp->epoch_due = false;
    hold_nothing(sp);
}

void hk_spool_start(struct hk_spool *sp, const struct hk_history *history,
                    const struct hk_uuid *replica_id)
{
    const struct hk_epoch *e = hk_history_last(history);

    HK_ASSERT(e);
    if (sp->state == HK_SPOOL_NEW) {
        sp->state = HK_SPOOL_RECOVERING;
        sp->epoch = *e;
        sp->journal.cfg.replica_id = *replica_id;
        hk_journal_recover(&sp->journal, history, e->first_lsn);
        if (sp->journal.state == HK_JOURNAL_FAILED)
            failed(sp);
        return;
    }
    if (sp->state == HK_SPOOL_NONE || hk_uuid_equal(&sp->epoch.id, &e->id))
        return;
    sp->epoch = *e;
    sp->epoch_due = true;
    hold_nothing(sp);
    begin_epoch(sp);
}

static void recovered(struct hk_spool *sp)
{
    const struct hk_journal *j = &sp->journal;

    sp->state = HK_SPOOL_RUNNING;
    if (j->result.begin < j->durable)
        sp->first = j->result.begin;
    else
        sp->time_count = 0;
}

void hk_spool_disk_done(struct hk_spool *sp, struct hk_diskop *op)
{
    HK_ASSERT(sp->state != HK_SPOOL_NONE);
    hk_journal_disk_done(&sp->journal, op);
    if (sp->journal.state == HK_JOURNAL_FAILED)
        failed(sp);
    else if (sp->state == HK_SPOOL_RECOVERING && sp->journal.state == HK_JOURNAL_RUNNING)
        recovered(sp);
    begin_epoch(sp);
}

void hk_spool_forget(struct hk_spool *sp)
{
    if (sp->state != HK_SPOOL_RUNNING)
        return;
    hold_nothing(sp);
    sp->state = HK_SPOOL_FAILED;
    sp->error = -ESTALE;
}

/* ---- what is held ---- */

bool hk_spool_ready(const struct hk_spool *sp)
{
    return sp->state != HK_SPOOL_NEW && sp->state != HK_SPOOL_RECOVERING;
}

bool hk_spool_writable(const struct hk_spool *sp)
{
    return sp->state == HK_SPOOL_RUNNING && !sp->epoch_due;
}

uint64_t hk_spool_first(const struct hk_spool *sp)
{
    return sp->first;
}

uint64_t hk_spool_end(const struct hk_spool *sp)
{
    if (sp->first == 0)
        return 0;
    return HK_BUG(release_before_spool_durable) ? hk_journal_end(&sp->journal)
                                                : hk_journal_durable(&sp->journal);
}

uint64_t hk_spool_appended(const struct hk_spool *sp)
{
    return sp->first ? hk_journal_end(&sp->journal) : 0;
}

uint64_t hk_spool_used(const struct hk_spool *sp)
{
    return sp->first ? hk_journal_used(&sp->journal) : 0;
}

uint64_t hk_spool_total(const struct hk_spool *sp)
{
    return sp->state == HK_SPOOL_NONE ? 0 : hk_journal_total(&sp->journal);
}

void hk_spool_durable(struct hk_spool *sp, uint64_t lsn)
{
    uint32_t n = 0;

    if (sp->first == 0)
        return;
    hk_journal_applied(&sp->journal, hk_min_u64(lsn, sp->journal.durable));
    while (n + 1 < sp->time_count && sp->time[n + 1].lsn <= lsn)
        n++;
    if (n == 0)
        return;
    sp->time_count -= n;
    __builtin_memmove(&sp->time[0], &sp->time[n], sp->time_count * sizeof(sp->time[0]));
}

uint64_t hk_spool_time_at(const struct hk_spool *sp, uint64_t lsn)
{
    uint64_t time_ns = 0;

    if (sp->first == 0 || lsn >= hk_journal_end(&sp->journal))
        return 0;
    for (uint32_t i = 0; i < sp->time_count && (i == 0 || sp->time[i].lsn <= lsn); i++)
        time_ns = sp->time[i].time_ns;
    return time_ns;
}

/* ---- writing ---- */

static uint8_t *write_at(const struct hk_spool *sp, uint64_t lsn)
{
    return sp->cfg.window + (lsn & (sp->half_bytes - 1));
}

static uint8_t *read_at(const struct hk_spool *sp, uint64_t lsn)
{
    return sp->cfg.window + sp->half_bytes + (lsn & (sp->half_bytes - 1));
}

/* Into one half of the window, wherever it wraps. */
static void put(const struct hk_spool *sp, uint8_t *(*at)(const struct hk_spool *, uint64_t),
                uint64_t lsn, const uint8_t *from, uint64_t bytes)
{
    uint64_t some = hk_min_u64(bytes, sp->half_bytes - (lsn & (sp->half_bytes - 1)));

    __builtin_memcpy(at(sp, lsn), from, some);
    __builtin_memcpy(at(sp, lsn + some), from + some, bytes - some);
}

static bool payload_ok(const struct hk_spool *sp, uint8_t *(*at)(const struct hk_spool *, uint64_t),
                       const struct hk_record *r)
{
    uint64_t lsn = r->lsn + HK_RECORD_HEADER_BYTES;
    uint64_t some = hk_min_u64(r->payload_len, sp->half_bytes - (lsn & (sp->half_bytes - 1)));

    return r->payload_len == 0 ||
           r->payload_hash ==
               hk_xxh64_2(at(sp, lsn), some, at(sp, lsn + some), r->payload_len - some, 0);
}

/* One record from the ring: 0, -EAGAIN no room, -EUCLEAN its copy is damaged, or gather's error. */
static int copy_record(struct hk_spool *sp, uint64_t to)
{
    uint64_t lsn = sp->copied, room, bytes;
    struct hk_iovec iov[8];
    struct hk_record r;
    int n = sp->cfg.gather(sp->cfg.gather_arg, lsn, sizeof(r), iov, 8);

    if (n < 0)
        return n;
    for (uint64_t at = 0, i = 0; at < sizeof(r); at += iov[i++].bytes)
        __builtin_memcpy((uint8_t *)&r + at, iov[i].base, iov[i].bytes);
    if (hk_record_check(&r, HK_LSN(lsn), sp->epoch.ordinal, hk_epoch_seed(&sp->epoch.id)) !=
        HK_RECORD_OK)
        return -EUCLEAN;
    bytes = hk_record_bytes(r.payload_len);
    room = sp->half_bytes - (lsn - hk_round_down(sp->journal.durable, HK_PAGE_BYTES));
    if (bytes > to - lsn || bytes > room)
        return -EAGAIN;
    n = sp->cfg.gather(sp->cfg.gather_arg, lsn, (uint32_t)bytes, iov, 8);
    if (n < 0)
        return n;
    for (int i = 0; i < n; lsn += iov[i++].bytes)
        put(sp, write_at, lsn, iov[i].base, iov[i].bytes);
    if (!payload_ok(sp, write_at, &r))
        return -EUCLEAN;
    if (sp->copied == hk_journal_end(&sp->journal))
        note_time(sp, sp->copied, r.time_ns);
    sp->copied = lsn;
    return 0;
}

/* Copies as much as one batch takes. */
static void fill(struct hk_spool *sp, uint64_t to)
{
    uint64_t most = hk_journal_end(&sp->journal) + hk_journal_batch_bytes_max(&sp->journal);
    int rc = 0;

    if (sp->copy_bad_lsn && sp->copy_bad_lsn == sp->copied)
        return;
    while (rc == 0 && sp->copied < hk_min_u64(to, most))
        rc = copy_record(sp, hk_min_u64(to, most));
    if (rc == -EUCLEAN)
        sp->copy_bad_lsn = sp->copied;
}

/* Where the next byte is written; false: nothing can be, just now. */
static bool begin_piece(struct hk_spool *sp, uint64_t standby, uint64_t ring_from)
{
    uint64_t end = hk_journal_end(&sp->journal);

    if (sp->first && end >= standby)
        return end >= ring_from;
    /* The standby is ahead of what is held, or nothing is: begin anew where it stands. */
    if (standby < ring_from || standby < end)
        return false;
    if (standby > end && hk_journal_skip(&sp->journal, standby) != 0)
        return false;
    hold_nothing(sp);
    sp->first = sp->copied = standby;
    return true;
}

void hk_spool_write(struct hk_spool *sp, uint64_t standby, uint64_t ring_from, uint64_t to)
{
    struct hk_journal *j = &sp->journal;

    if (!hk_spool_writable(sp) || !begin_piece(sp, standby, ring_from))
        return;
    sp->copied = hk_max_u64(sp->copied, hk_journal_end(j));
    while (hk_journal_takes(j)) {
        uint64_t bytes;
        int rc;

        fill(sp, to);
        bytes = sp->copied - hk_journal_end(j);
        if (bytes == 0 || (j->slot_count >= HK_SPOOL_EAGER && bytes < HK_SPOOL_BATCH_BYTES))
            return;
        rc = hk_journal_append(j, hk_journal_end(j), bytes);
        sp->full = rc == -ENOSPC;
        if (rc != 0)
            return;
    }
}

/* ---- reading ---- */

/* Whole records of [from, end) that were read, checked, into the window; how far that went. */
static uint64_t take(struct hk_spool *sp, const uint8_t *data, uint64_t from, uint64_t end)
{
    uint64_t seed = hk_epoch_seed(&sp->epoch.id), lsn = from;

    while (lsn < end) {
        const struct hk_record *r = (const void *)(data + (lsn - from));
        uint64_t bytes;

        if (hk_record_check(r, HK_LSN(lsn), sp->epoch.ordinal, seed) != HK_RECORD_OK)
            break;
        bytes = hk_record_bytes(r->payload_len);
        if (bytes > end - lsn)
            break;
        if (lsn + bytes - sp->read_first > sp->half_bytes)
            return lsn;
        if (!HK_BUG(spool_reads_stale_window))
            put(sp, read_at, lsn, (const uint8_t *)r, bytes);
        if (!hk_record_payload_ok(r, r + 1))
            break;
        lsn += bytes;
    }
    if (lsn < end)
        sp->bad_lsn = lsn;
    return lsn;
}

void hk_spool_prefetch(struct hk_spool *sp, uint64_t acked, uint64_t ring_from)
{
    uint64_t end = hk_spool_end(sp);

    if (end == 0 || sp->epoch_due || acked < sp->first)
        return;
    if (acked < sp->read_first || acked > sp->read_end)
        sp->read_end = acked;
    sp->read_first = acked;
    while (sp->read_end < hk_min_u64(end, ring_from) && sp->bad_lsn == 0 &&
           sp->read_end - sp->read_first <= sp->half_bytes / 2) {
        int rc = hk_journal_read(&sp->journal, &sp->reader, sp->read_end);
        uint64_t before = sp->read_end;

        if (rc == -EINPROGRESS)
            return;
        /* What the disk refuses may come at another try; what was read wrong stays wrong. */
        if (rc && rc != -EUCLEAN && sp->read_errors++ < READ_TRIES)
            continue;
        if (rc) {
            sp->bad_lsn = sp->read_end;
            return;
        }
        sp->read_errors = 0;
        sp->read_end = take(sp, sp->reader.data, sp->reader.first, sp->reader.end);
        if (sp->read_end == before)
            return;
    }
}

int hk_spool_gather(const struct hk_spool *sp, uint64_t lsn, uint32_t bytes, struct hk_iovec *iov,
                    int max)
{
    uint64_t some = hk_min_u64(bytes, sp->half_bytes - (lsn & (sp->half_bytes - 1)));

    if (sp->first == 0 || lsn < sp->read_first || lsn > sp->read_end || bytes > sp->read_end - lsn)
        return -ERANGE;
    if (max < (some < bytes ? 2 : 1))
        return -ENOSPC;
    iov[0] = (struct hk_iovec){read_at(sp, lsn), some};
    if (some < bytes)
        iov[1] = (struct hk_iovec){read_at(sp, lsn + some), bytes - some};
    return some < bytes ? 2 : 1;
}
