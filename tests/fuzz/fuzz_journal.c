/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole recovery of a standby: both superblock slots and all segments. Input: a life (appends,
 * flushes, applied, epochs, power cuts), END, then damage to the disk it left: bytes, pages gone,
 * moved or doubled, and headers made good again after that. Each piece of damage is eight bytes:
 * what, where (file, page, offset), a value.
 *
 * Oracle: recovery ends; done again, also after a power cut, it says the same; without damage
 * nothing reported durable is missing; all that it calls valid reads back, record by record with
 * sound hashes, and is the log as it was written unless the damage computed hashes of its own. A
 * journal that runs takes the rest of the log.
 */
#include "fuzz.h"

#include "proto/hash.h"
#include "replicator/store/line.h"
#include "replicator/store/super_store.h"
#include "tests/fuzz/script.h"
#include "tests/unit/test_store_rig.h"

#include <errno.h>
#include <stdlib.h>

HK_FUZZ_LARGE_MEMORY

enum { LIVE_MAX = 40, DAMAGE_MAX = 64, STEPS_MAX = 100000 };
enum live { APPEND, APPEND_LARGE, STEP, DRAIN, APPLIED, EPOCH, CUT, KILL, END, LIVES };
enum damage { BYTE, BIT, ZERO, MOVE, SEAL_SEGMENT, SEAL_BATCH, SEAL_RECORD, SEAL_SUPER, DAMAGES };

struct world {
    struct rig rig;
    uint64_t sequence; /* of the superblock */
    bool damaged, forged;
    struct hk_history history; /* as recovery found it */
    uint64_t applied;
};

struct verdict {
    enum hk_super_store_state super;
    enum hk_journal_state journal;
    struct hk_journal_result result;
};

static void store_super(struct world *w)
{
    static uint8_t slot[HK_SUPER_BYTES];
    static struct hk_super s;

    memset(&s, 0, sizeof(s));
    s.magic = HK_SUPER_MAGIC;
    s.version = HK_SUPER_VERSION;
    s.role = HK_ROLE_STANDBY;
    s.sequence = ++w->sequence;
    s.group_id.b[0] = 1;
    s.replica_id.b[0] = 2;
    s.site_id.b[0] = 3;
    strcpy(s.group_name, "core");
    s.volume_count = 1;
    strcpy(s.volume[0].name, "data");
    s.volume[0].bytes = 1 << 30;
    s.applied = w->rig.applied;
    s.history = w->rig.log.history;
    hk_super_encode(&s, slot);
    memdisk_poke(&w->rig.disk, HK_FILE_SUPER, (s.sequence & 1) * HK_SUPER_BYTES, slot,
                 sizeof(slot));
}

/* As the standby does it: the superblock says which history and what was applied. */
static bool recover_super(struct world *w, struct verdict *ret)
{
    static uint8_t memory[2 * (HK_SUPER_BYTES + HK_PAGE_BYTES) + 4 * sizeof(struct hk_super)];
    static struct hk_super_store store;
    struct hk_arena arena = {.base = memory, .bytes = sizeof(memory)};
    struct hk_diskop *op;

    memset(memory, 0, sizeof(memory));
    HK_ASSERT(hk_super_store_init(&store, &w->rig.disk.disk, HK_FILE_SUPER, &arena) == 0);
    hk_super_store_start(&store);
    while ((op = memdisk_step(&w->rig.disk)))
        hk_super_store_disk_done(&store, op);
    ret->super = store.state;
    HK_ASSERT(store.state == HK_SUPER_STORE_READY || store.state == HK_SUPER_STORE_BLANK ||
              store.state == HK_SUPER_STORE_INVALID);
    if (store.state != HK_SUPER_STORE_READY)
        return false;
    w->history = hk_super_store_durable(&store)->history;
    w->applied = hk_super_store_durable(&store)->applied;
    return true;
}

static bool recover(struct world *w, struct verdict *ret)
{
    unsigned steps = 0;

    memset(ret, 0, sizeof(*ret));
    if (!recover_super(w, ret))
        return false;
    rig_start_at(&w->rig, &w->history, w->applied);
    while (rig_step(&w->rig))
        HK_ASSERT(++steps < STEPS_MAX);
    ret->journal = w->rig.journal.state;
    ret->result = w->rig.journal.result;
    HK_ASSERT(ret->journal == HK_JOURNAL_RUNNING || ret->journal == HK_JOURNAL_FAILED);
    HK_ASSERT(ret->journal == HK_JOURNAL_FAILED || ret->result.verdict <= HK_JOURNAL_TORN);
    HK_ASSERT(hk_journal_verdict_text(ret->result.verdict)[0]);
    return ret->journal == HK_JOURNAL_RUNNING;
}

static void same(const struct verdict *a, const struct verdict *b)
{
    HK_ASSERT(a->super == b->super && a->journal == b->journal);
    HK_ASSERT(a->result.verdict == b->result.verdict && a->result.error == b->result.error);
    HK_ASSERT(a->result.end == b->result.end && a->result.lost_bytes == b->result.lost_bytes);
    HK_ASSERT(a->result.stamp == b->result.stamp && a->result.bad_lsn == b->result.bad_lsn);
}

static void check_records(const struct hk_journal_reader *r, const struct hk_history *h)
{
    const struct hk_epoch *e = NULL;
    uint64_t at = r->first;

    for (uint32_t i = 0; i < h->count; i++)
        e = h->epoch[i].ordinal == r->ordinal ? &h->epoch[i] : e;
    HK_ASSERT(e);
    while (at < r->end) {
        struct hk_record v;

        memcpy(&v, r->data + (at - r->first), sizeof(v));
        HK_ASSERT(hk_record_check(&v, HK_LSN(at), e->ordinal, hk_epoch_seed(&e->id)) ==
                  HK_RECORD_OK);
        HK_ASSERT(hk_record_end(&v).v <= r->end);
        HK_ASSERT(hk_record_check_payload(&v, r->data + (at - r->first) + sizeof(v)) ==
                  HK_RECORD_OK);
        at = hk_record_end(&v).v;
    }
}

static void check_content(struct world *w)
{
    struct rig *r = &w->rig;
    uint64_t lsn = w->applied;
    int rc;

    for (;;) {
        if (hk_line_seek(&w->history, lsn, &lsn) < 0 || lsn >= hk_journal_durable(&r->journal))
            return;
        rc = hk_journal_read(&r->journal, &r->reader, lsn);
        if (rc == -EINPROGRESS) {
            HK_ASSERT(rig_step(r));
            continue;
        }
        HK_ASSERT(rc == 0 && r->reader.first == lsn && r->reader.end > lsn);
        check_records(&r->reader, &w->history);
        if (!w->forged) {
            HK_ASSERT(lsn >= r->log.base && r->reader.end <= r->log.end);
            HK_ASSERT(memcmp(r->reader.data, store_log_at(&r->log, lsn), r->reader.end - lsn) == 0);
        }
        lsn = r->reader.end;
    }
}

/* false: nothing was to be added. */
static bool go_on(struct world *w)
{
    struct rig *r = &w->rig;

    if (w->forged || r->log.history.count != w->history.count ||
        hk_journal_end(&r->journal) > r->log.end)
        return false;
    r->applied = hk_journal_durable(&r->journal);
    hk_journal_applied(&r->journal, r->applied);
    rig_produce(r, 20000);
    while (hk_journal_end(&r->journal) < r->log.end)
        HK_ASSERT(rig_append_wait(r, 30000) == 0);
    rig_drain(r);
    store_super(w);
    HK_ASSERT(hk_journal_durable(&r->journal) == r->log.end);
    return true;
}

static void judge(struct world *w)
{
    struct verdict first, again;
    bool runs = recover(w, &first);

    HK_ASSERT(w->damaged || (runs && first.result.end >= w->rig.reported));
    if (runs)
        check_content(w);
    memdisk_power_cut(&w->rig.disk);
    recover(w, &again);
    same(&first, &again);
    if (!runs || !go_on(w))
        return;
    HK_ASSERT(recover(w, &again) && again.result.end == w->rig.log.end);
    check_content(w);
}

static void begin_epoch(struct world *w)
{
    struct rig *r = &w->rig;
    uint64_t durable = hk_journal_durable(&r->journal);
    const struct hk_epoch *e;

    rig_drain(r);
    durable = hk_journal_durable(&r->journal);
    if (r->log.history.count > 6 || hk_journal_end(&r->journal) != durable ||
        durable < hk_history_last(&r->log.history)->first_lsn + 64)
        return;
    store_log_epoch(&r->log, durable, r->log.end + 4096);
    e = hk_history_last(&r->log.history);
    store_super(w);
    HK_ASSERT(hk_journal_begin_epoch(&r->journal, e->ordinal, &e->id, e->first_lsn) == 0);
}

static void live_once(struct world *w, enum live what)
{
    struct rig *r = &w->rig;
    struct verdict v;

    switch (what) {
    case APPEND:
    case APPEND_LARGE:
        if (hk_journal_end(&r->journal) == r->log.end)
            rig_produce(r, what == APPEND ? 6000 : 400000);
        rig_append(r, what == APPEND ? 5000 : 300000);
        break;
    case STEP: rig_step(r); break;
    case DRAIN: rig_drain(r); break;
    case APPLIED:
        r->applied = hk_max_u64(r->applied, hk_journal_durable(&r->journal));
        store_super(w);
        hk_journal_applied(&r->journal, r->applied);
        break;
    case EPOCH: begin_epoch(w); break;
    case CUT:
    case KILL:
        if (what == CUT)
            memdisk_power_cut(&r->disk);
        else
            memdisk_kill(&r->disk);
        HK_ASSERT(recover(w, &v) && v.result.end >= r->reported);
        break;
    case END:
    case LIVES: break;
    }
}

static void live(struct world *w, struct script *s)
{
    unsigned count = 0;

    while (script_left(s) && count++ < LIVE_MAX) {
        enum live what = script_u8(s) % LIVES;

        if (what == END || w->rig.log.end - w->rig.log.base > 8 << 20)
            break;
        live_once(w, what);
    }
    memdisk_power_cut(&w->rig.disk);
}

static void seal_record(struct world *w, uint8_t *file, uint64_t bytes, uint64_t at, uint8_t which)
{
    const struct hk_history *h = &w->rig.log.history;
    struct hk_record r;

    at = hk_round_down(at, HK_RECORD_ALIGN);
    memcpy(&r, file + at, sizeof(r));
    r.magic = HK_RECORD_MAGIC;
    r.payload_hash = 0;
    if (r.payload_len > 0 && r.payload_len <= bytes - at - sizeof(r))
        r.payload_hash = hk_xxh64(file + at + sizeof(r), r.payload_len, 0);
    r.header_hash = hk_record_header_hash(&r, hk_epoch_seed(&h->epoch[which % h->count].id));
    memcpy(file + at, &r, sizeof(r));
}

/* hk_segment_header_seal and hk_batch_header_seal would insist on sound fields. */
static void seal_page(uint8_t *page, uint64_t magic, const struct hk_uuid *epoch_id)
{
    uint32_t version = HK_SEGMENT_VERSION;
    uint64_t hash;

    memcpy(page, &magic, 8);
    memcpy(page + 8, &version, 4);
    hash = hk_xxh64(page, HK_PAGE_BYTES - 8, hk_epoch_seed(epoch_id));
    memcpy(page + HK_PAGE_BYTES - 8, &hash, 8);
}

static void seal_segment(uint8_t *page)
{
    struct hk_segment_header *h = (void *)page;

    seal_page(page, HK_SEGMENT_MAGIC, &h->epoch_id);
}

static void seal_batch(uint8_t *file, uint64_t bytes, uint64_t page)
{
    struct hk_batch_header *h = (void *)(file + page);
    uint64_t data = page + HK_BATCH_HEADER_BYTES + h->first_lsn % HK_PAGE_BYTES;

    if (data < bytes && h->bytes <= bytes - data)
        h->data_hash = hk_xxh64(file + data, h->bytes, hk_epoch_seed(&h->epoch_id));
    seal_page(file + page, HK_BATCH_MAGIC, &h->epoch_id);
}

static void seal_super(uint8_t *file, uint64_t bytes, uint64_t page)
{
    uint8_t *slot = file + page / HK_SUPER_BYTES * HK_SUPER_BYTES;
    uint64_t hash;

    if ((uint64_t)(slot - file) + HK_SUPER_BYTES > bytes)
        return;
    hash = hk_xxh64(slot, HK_SUPER_BYTES - 8, 0);
    memcpy(slot + HK_SUPER_BYTES - 8, &hash, 8);
}

static struct memdisk_file *file_of(struct world *w, uint8_t which)
{
    uint32_t file = HK_FILE_SUPER;

    which %= RIG_SEGMENTS + 1;
    if (which < RIG_SEGMENTS)
        file = HK_FILE_SEGMENT0 + (uint32_t)which;
    return memdisk_file(&w->rig.disk, file);
}

static void damage(struct world *w, struct script *s)
{
    enum damage what = script_u8(s) % DAMAGES;
    struct memdisk_file *f = file_of(w, script_u8(s)), *from;
    uint64_t page = script_u16(s) % (f->bytes / HK_PAGE_BYTES) * HK_PAGE_BYTES;
    uint64_t at = page + script_u16(s) % HK_PAGE_BYTES;
    uint8_t value = script_u8(s), other = script_u8(s);

    w->damaged = true;
    switch (what) {
    case BYTE: f->cached[at] = value; break;
    case BIT: f->cached[at] ^= (uint8_t)(1 << value % 8); break;
    case ZERO: memset(f->cached + page, 0, HK_PAGE_BYTES); break;
    case MOVE:
        from = file_of(w, other);
        memcpy(f->cached + page,
               from->cached + (at + value) % (from->bytes / HK_PAGE_BYTES) * HK_PAGE_BYTES,
               HK_PAGE_BYTES);
        break;
    case SEAL_SEGMENT: seal_segment(f->cached + page); break;
    case SEAL_BATCH: seal_batch(f->cached, f->bytes, page); break;
    case SEAL_RECORD: seal_record(w, f->cached, f->bytes, at, value); break;
    case SEAL_SUPER: seal_super(f->cached, f->bytes, page); break;
    case DAMAGES: break;
    }
    w->forged = w->forged || what >= SEAL_SEGMENT;
    /* Whatever was touched lies in this page or, sealing, in this slot: it is on the disk now. */
    page = hk_round_down(page, HK_SUPER_BYTES);
    memcpy(f->durable + page, f->cached + page, hk_min_u64(HK_SUPER_BYTES, f->bytes - page));
}

static void damage_all(struct world *w, struct script *s)
{
    for (unsigned i = 0; script_left(s) && i < DAMAGE_MAX; i++)
        damage(w, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct script s = {data, data + size};
    struct verdict v;

    if (size < 1)
        return 0;
    memset(&w, 0, sizeof(w));
    rig_init(&w.rig, script_u8(&s), hk_journal_segment_bytes_min());
    memdisk_add(&w.rig.disk, HK_FILE_SUPER, 2 * HK_SUPER_BYTES);
    w.rig.disk.shuffle = true;
    store_super(&w);
    HK_ASSERT(recover(&w, &v) && v.journal == HK_JOURNAL_RUNNING);
    live(&w, &s);
    damage_all(&w, &s);
    judge(&w);
    rig_free(&w.rig);
    return 0;
}
