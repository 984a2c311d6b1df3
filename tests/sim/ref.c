/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference: a plain list of every record the capture side has reserved, and per sector the
 * list of values it went through. Images are computed from it by looking values up, never by the
 * product's code. It knows the layout of a record header and of the ring, nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define ULL(x) ((unsigned long long)(x))

void ref_reset(struct sim *s)
{
    for (int v = 0; v < SIM_VOLUMES; v++) {
        for (int i = 0; i < SIM_SECTORS_MAX; i++) {
            s->ref.sector[v][i].count = 0;
            s->ref.sector[v][i].base = 0;
        }
    }
    memset(s->ref.rotted, 0, sizeof(s->ref.rotted));
    s->ref.rotted_from = 0;
    memset(s->ref.bad, 0, sizeof(s->ref.bad));
    memset(s->ref.compared, 0, sizeof(s->ref.compared));
    s->ref.count = s->ref.pub_count = 0;
    s->ref.slot_base = s->ref.rec_base = s->ref.free_base = 0;
    s->ref.produced = s->ref.next_lsn = s->ref.first_lsn = HK_LSN_FIRST;
    ref_epochs_reset(s);
}

void ref_rotted(struct sim *s, uint64_t applied, uint64_t from, uint64_t to)
{
    struct ref *r = &s->ref;

    if (to <= from)
        return;
    if (r->rotted_from && ref_floor(s, applied) > r->rotted_from)
        memset(r->rotted, 0, sizeof(r->rotted));
    r->rotted_from = from;
    for (unsigned v = 0; v < SIM_VOLUMES; v++)
        for (unsigned i = 0; i < s->o.sectors; i++)
            for (uint32_t k = r->sector[v][i].count; k-- > 0;) {
                const struct ref_ver *ver = &r->sector[v][i].v[k];

                if (ver->end > from && ver->end <= to && ver->value < SIM_VALUES)
                    r->rotted[v][i] |= (uint8_t)(1u << ver->value);
            }
}

bool ref_is_rotted(const struct sim *s, unsigned vol, unsigned sector, int value, uint64_t lsn)
{
    return s->ref.rotted_from && value >= 0 && value < SIM_VALUES &&
           (s->ref.rotted[vol][sector] & 1u << value) && ref_floor(s, lsn) <= s->ref.rotted_from;
}

bool ref_is_bad(const struct sim *s, unsigned vol, unsigned sector)
{
    const struct ref_sector *h = &s->ref.sector[vol][sector];
    uint64_t bad = s->ref.bad[vol][sector];

    return bad && (h->count == 0 || h->v[h->count - 1].end <= bad);
}

void ref_compare_reads(struct sim *s, unsigned vol, uint64_t offset, uint64_t bytes)
{
    for (uint64_t i = offset / SIM_SECTOR; i < (offset + bytes) / SIM_SECTOR; i++)
        s->ref.compared[vol][i] = s->ref.next_lsn;
}

/* What was read once more, and not called bad again, is equal now. */
void ref_compare_ended(struct sim *s, unsigned vol, uint64_t offset, uint64_t bytes)
{
    for (uint64_t i = offset / SIM_SECTOR; i < (offset + bytes) / SIM_SECTOR; i++)
        if (s->ref.bad[vol][i] <= s->ref.compared[vol][i])
            s->ref.bad[vol][i] = 0;
}

static bool has_content(uint8_t type)
{
    return type == HK_REC_WRITE || type == HK_REC_ZEROES || type == HK_REC_DISCARD ||
           type == HK_REC_BLOCK;
}

uint8_t ref_op_value(const struct ref_rec *r, unsigned sector)
{
    unsigned i = sector - (unsigned)(r->offset / SIM_SECTOR);

    if (r->bytes) { /* 255: nothing that an application wrote */
        const uint8_t *sector_bytes = r->bytes + (size_t)i * SIM_SECTOR;

        return (uint8_t)pattern_identify(sector_bytes, r->volume, sector);
    }
    if (r->type != HK_REC_WRITE)
        return 0;
    return r->mask >> (i & 63) & 1 ? r->v2 : r->v1;
}

static void push_version(struct ref_sector *h, uint64_t end, uint32_t rec, uint8_t value)
{
    if (h->count == h->room) {
        h->room = h->room ? 2 * h->room : 64;
        h->v = realloc(h->v, h->room * sizeof(*h->v));
    }
    h->v[h->count++] = (struct ref_ver){end, rec, value};
}

static void add_versions(struct sim *s, uint32_t index)
{
    const struct ref_rec *r = &s->ref.rec[index];
    unsigned first = (unsigned)(r->offset / SIM_SECTOR), n = r->length / SIM_SECTOR;

    for (unsigned i = first; i < first + n; i++)
        push_version(&s->ref.sector[r->volume][i], r->end, index, ref_op_value(r, i));
}

static void remove_versions(struct sim *s, uint32_t index)
{
    const struct ref_rec *r = &s->ref.rec[index];
    unsigned first = (unsigned)(r->offset / SIM_SECTOR), n = r->length / SIM_SECTOR;

    for (unsigned i = first; i < first + n; i++) {
        struct ref_sector *h = &s->ref.sector[r->volume][i];

        for (uint32_t k = h->count; k-- > 0;) {
            if (h->v[k].rec == index) {
                memmove(&h->v[k], &h->v[k + 1], (h->count - k - 1) * sizeof(*h->v));
                h->count--;
                break;
            }
        }
    }
}

static struct ref_rec *new_rec(struct sim *s)
{
    if (s->ref.count == s->ref.room) {
        s->ref.room = s->ref.room ? 2 * s->ref.room : 4096;
        s->ref.rec = realloc(s->ref.rec, s->ref.room * sizeof(*s->ref.rec));
    }
    memset(&s->ref.rec[s->ref.count], 0, sizeof(struct ref_rec));
    return &s->ref.rec[s->ref.count++];
}

static struct sim_op *owner_of(struct sim *s, uint64_t slot, uint64_t lsn)
{
    for (struct sim_op *op = s->cap.ops.next; op != &s->cap.ops; op = op->next)
        if (op->op.lsn.v == lsn && op->op.slot == slot && op->rec == UINT32_MAX)
            return op;
    return NULL;
}

static void advance_produced(struct sim *s)
{
    struct ref *r = &s->ref;

    while (r->pub_count < r->count && r->rec[r->pub_count].state != REF_RESERVED)
        r->produced = r->rec[r->pub_count++].end;
}

static void from_op(struct sim *s, struct ref_rec *r, struct sim_op *op)
{
    r->type = op->op.type;
    r->flags = op->op.flags;
    r->volume = op->op.volume;
    r->offset = op->op.offset;
    r->length = op->op.length;
    r->payload_len = op->op.type == HK_REC_WRITE || op->op.type == HK_REC_BLOCK ? op->op.length : 0;
    if (op->op.type == HK_REC_BLOCK) {
        uint8_t *bytes = sim_alloc(s, op->op.length);

        memcpy(bytes, op->data, op->op.length);
        r->bytes = bytes;
        r->local_done = true;
    }
    r->v1 = op->v1;
    r->v2 = op->v2;
    r->mask = op->mask;
    op->rec = s->ref.count - 1;
    SIM_CHECK(s, "I3", r->lsn >= op->floor_end,
              "op got LSN %llu although an op that had completed before ends at %llu", ULL(r->lsn),
              ULL(op->floor_end));
}

static void from_control(struct sim *s, struct ref_rec *r, const struct hk_record *slot,
                         const uint8_t *payload)
{
    SIM_CHECK(s, "I5", slot->lsn == r->lsn, "a control record at %llu is not published",
              ULL(r->lsn));
    SIM_CHECK(s, "I5",
              slot->type == HK_REC_MARK || slot->type == HK_REC_MODE || slot->type == HK_REC_GAP ||
                  slot->type == HK_REC_RESYNC_BEGIN || slot->type == HK_REC_RESYNC_END ||
                  slot->type == HK_REC_RESIZE || slot->type == HK_REC_BAD_RANGE,
              "slot at LSN %llu of type %u belongs to nobody", ULL(r->lsn), slot->type);
    SIM_CHECK(s, "I5", slot->payload_len <= sizeof(r->ctl), "control record too long");
    r->control = true;
    r->local_done = true;
    r->type = slot->type;
    r->payload_len = slot->payload_len;
    r->volume = slot->volume;
    r->offset = slot->offset;
    r->length = slot->length;
    memcpy(r->ctl, payload, slot->payload_len);
}

static void check_header(struct sim *s, const struct ref_rec *r, const struct hk_record *h,
                         const uint8_t *payload)
{
    uint64_t seed = ref_epoch_at(s, r->lsn)->seed;

    SIM_CHECK(s, "I5",
              h->lsn == r->lsn && h->type == r->type && h->length == r->length &&
                  h->payload_len == r->payload_len && h->offset == r->offset &&
                  h->volume == r->volume && h->magic == HK_RECORD_MAGIC,
              "header at LSN %llu does not say what was written", ULL(r->lsn));
    SIM_CHECK(s, "I5", h->header_hash == naive_xxh64(h, 56, seed), "header hash wrong at LSN %llu",
              ULL(r->lsn));
    SIM_CHECK(s, "I5",
              h->payload_hash == (r->payload_len ? naive_xxh64(payload, r->payload_len, 0) : 0),
              "payload hash wrong at LSN %llu", ULL(r->lsn));
    if (r != s->ref.rec && r[-1].state != 0 && r[-1].state != REF_RESERVED &&
        r[-1].hdr.epoch == h->epoch)
        SIM_CHECK(s, "I3", h->time_ns > r[-1].hdr.time_ns, "capture time stands still at LSN %llu",
                  ULL(r->lsn));
}

/* Every slot that was reserved since the last look becomes a record here, in ring order. */
void ref_scan(struct sim *s)
{
    uint64_t head = cap_producer(s)->head;
    struct ref *ref = &s->ref;

    while (!s->forked) {
        uint64_t idx = ref->count - ref->rec_base + ref->slot_base;
        const struct hk_ring_side *side;
        const struct hk_record *slot;
        struct ref_rec *r;
        struct sim_op *op;

        if (idx >= head)
            break;
        side = cap_side(s, idx);
        slot = cap_slot(s, idx);
        SIM_CHECK(s, "I3", side->lsn == ref->next_lsn, "record at LSN %llu, expected %llu",
                  ULL(side->lsn), ULL(ref->next_lsn));
        SIM_CHECK(s, "I12", side->lsn < md_durable(s)->ceiling,
                  "LSN %llu handed out at or above the durable ceiling %llu", ULL(side->lsn),
                  ULL(md_durable(s)->ceiling));
        r = new_rec(s);
        r->lsn = side->lsn;
        r->at = s->now;
        r->payload_pos = side->payload_pos;
        check_slot_free(s, ref->count - 1);
        op = owner_of(s, idx, side->lsn);
        if (op)
            from_op(s, r, op);
        else
            from_control(s, r, slot, cap_payload(s, side->payload_pos));
        r->end = r->lsn + 64 + ((r->payload_len + 63) & ~63u);
        if (op && has_content(r->type)) {
            grow_check_op(s, r);
            add_versions(s, ref->count - 1);
        }
        r->state = REF_RESERVED;
        ref->next_lsn = r->end;
        ref->used_end = hk_max_u64(ref->used_end, r->end);
        if (!op) {
            ref_published(s, ref->count - 1, slot, r->ctl);
            ref_control(s, r);
            if (r->type == HK_REC_RESIZE)
                grow_record(s, ref->count - 1);
        }
        sim_trace(s, "reserve lsn %llu type %llu slot %llu", r->lsn, r->type, idx);
    }
}

void ref_published(struct sim *s, uint32_t rec, const struct hk_record *slot, const void *payload)
{
    struct ref_rec *r = &s->ref.rec[rec];

    check_header(s, r, slot, payload);
    r->hdr = *slot;
    r->state = REF_PUBLISHED;
    r->published_at = s->now;
    advance_produced(s);
}

static void make_void(struct sim *s, uint32_t index)
{
    struct ref_rec *r = &s->ref.rec[index];

    if (has_content(r->type))
        remove_versions(s, index);
    r->type = HK_REC_VOID;
    r->state = REF_VOID;
    r->local_done = true;
    sim_trace(s, "void lsn %llu", r->lsn, 0, 0);
}

/* The capture process came back with the old ring: what was not published must be void now. */
void ref_restarted(struct sim *s)
{
    if (s->forked)
        return;
    for (uint32_t i = s->ref.pub_count; i < s->ref.count; i++) {
        struct ref_rec *r = &s->ref.rec[i];
        const struct hk_record *slot = cap_slot(s, i - s->ref.rec_base + s->ref.slot_base);

        if (r->state == REF_PUBLISHED) {
            SIM_CHECK(s, "I7", memcmp(&r->hdr, slot, sizeof(*slot)) == 0,
                      "a published record at LSN %llu changed over a restart", ULL(r->lsn));
            continue;
        }
        if (r->state != REF_RESERVED)
            continue;
        SIM_CHECK(s, "I7", slot->lsn == r->lsn && slot->type == HK_REC_VOID,
                  "unpublished LSN %llu is not void after a restart (lsn %llu type %u)",
                  ULL(r->lsn), ULL(slot->lsn), slot->type);
        SIM_CHECK(s, "I7", slot->payload_len == r->payload_len, "void at LSN %llu has another size",
                  ULL(r->lsn));
        make_void(s, i);
        r->hdr = *slot;
    }
    advance_produced(s);
}

/* After a redo every published record is on the origin. */
void ref_all_done(struct sim *s)
{
    for (uint32_t i = s->ref.rec_base; i < s->ref.count; i++)
        if (s->ref.rec[i].state == REF_PUBLISHED)
            s->ref.rec[i].local_done = true;
}

/* What was only reserved went with the old ring; it never reached anything. */
void ref_new_ring(struct sim *s)
{
    for (uint32_t i = s->ref.pub_count; i < s->ref.count; i++)
        if (s->ref.rec[i].state == REF_RESERVED)
            make_void(s, i);
    advance_produced(s);
    s->ref.slot_base = 0;
    s->ref.rec_base = s->ref.free_base = s->ref.count;
}

/* The node that made them was rolled back, and nobody else has them. */
void ref_rewind(struct sim *s, uint64_t lsn)
{
    struct ref *r = &s->ref;

    while (r->count && r->rec[r->count - 1].lsn >= lsn) {
        if (has_content(r->rec[r->count - 1].type))
            remove_versions(s, r->count - 1);
        r->count--;
    }
    for (int v = 0; v < SIM_VOLUMES; v++)
        for (int i = 0; i < SIM_SECTORS_MAX; i++)
            if (r->bad[v][i] > lsn)
                r->bad[v][i] = 0;
    r->pub_count = hk_min_u64(r->pub_count, r->count);
    r->rec_base = r->count;
    r->next_lsn = r->produced = lsn;
}

/* Nobody goes on between the two any more: what was given there reaches nobody. */
void ref_cut(struct sim *s, uint64_t lsn, uint64_t next)
{
    for (uint32_t i = s->ref.count; i-- > 0 && s->ref.rec[i].end > lsn;) {
        if (s->ref.rec[i].dead || s->ref.rec[i].lsn >= next)
            continue;
        if (has_content(s->ref.rec[i].type))
            remove_versions(s, i);
        s->ref.rec[i].dead = true;
    }
}

const struct ref_rec *ref_find(const struct sim *s, uint64_t lsn)
{
    uint32_t lo = 0, hi = s->ref.count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (s->ref.rec[mid].end <= lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == s->ref.count || s->ref.rec[lo].lsn > lsn)
        return NULL;
    return &s->ref.rec[lo];
}

bool ref_is_boundary(const struct sim *s, uint64_t lsn)
{
    const struct ref_rec *r = ref_find(s, lsn);

    if (r)
        return r->lsn == lsn;
    r = lsn > HK_LSN_FIRST ? ref_find(s, lsn - 1) : NULL;
    return (r && r->end == lsn) || lsn == s->ref.next_lsn || ref_norm(s, lsn) != lsn ||
           lsn == ref_epoch_at(s, lsn)->first_lsn; /* nothing was ever given in it */
}

/* Number of versions with end ≤ lsn. */
static uint32_t versions_upto(const struct ref_sector *h, uint64_t lsn)
{
    uint32_t lo = 0, hi = h->count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (h->v[mid].end <= lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint8_t ref_value_at(const struct sim *s, unsigned vol, unsigned sector, uint64_t lsn)
{
    const struct ref_sector *h = &s->ref.sector[vol][sector];
    uint32_t n = versions_upto(h, lsn);

    return n ? h->v[n - 1].value : 0;
}

bool ref_value_between(const struct sim *s, unsigned vol, unsigned sector, uint8_t value,
                       uint64_t from, uint64_t to)
{
    const struct ref_sector *h = &s->ref.sector[vol][sector];
    uint32_t n = versions_upto(h, from);

    if ((n ? h->v[n - 1].value : 0) == value)
        return true;
    for (; n < h->count && h->v[n].end <= to; n++)
        if (h->v[n].value == value)
            return true;
    return false;
}

static void check_payload_bytes(struct sim *s, const char *check, const struct ref_rec *r,
                                uint64_t off, const uint8_t *bytes, uint64_t len)
{
    while (len) {
        unsigned sector = (unsigned)((r->offset + off) / SIM_SECTOR), in = off % SIM_SECTOR;
        uint64_t n = SIM_SECTOR - in < len ? SIM_SECTOR - in : len;
        const uint8_t *want =
            r->bytes ? r->bytes + off - in : pattern(r->volume, sector, ref_op_value(r, sector));

        SIM_CHECK(s, check, memcmp(bytes, want + in, n) == 0,
                  "payload bytes of LSN %llu (volume %u sector %u) are not what was written",
                  ULL(r->lsn), r->volume, sector);
        bytes += n;
        off += n;
        len -= n;
    }
}

/* One record's share of some log bytes. */
static void check_piece(struct sim *s, const char *check, const struct ref_rec *r, uint64_t off,
                        const uint8_t *bytes, uint64_t len)
{
    SIM_CHECK(s, check, r->state != REF_RESERVED, "LSN %llu was used before it was published",
              ULL(r->lsn));
    if (off < HK_RECORD_HEADER_BYTES) {
        uint64_t n = HK_RECORD_HEADER_BYTES - off < len ? HK_RECORD_HEADER_BYTES - off : len;

        SIM_CHECK(s, check, memcmp(bytes, (const uint8_t *)&r->hdr + off, n) == 0,
                  "header bytes of LSN %llu differ from the ring's", ULL(r->lsn));
        bytes += n;
        off += n;
        len -= n;
    }
    if (len == 0 || r->state == REF_VOID)
        return;
    off -= HK_RECORD_HEADER_BYTES;
    if (r->control)
        SIM_CHECK(s, check, memcmp(bytes, r->ctl + off, len) == 0,
                  "control payload of LSN %llu differs", ULL(r->lsn));
    else
        check_payload_bytes(s, check, r, off, bytes, len);
}

void ref_check_log_bytes(struct sim *s, const char *check, uint64_t lsn, const uint8_t *bytes,
                         uint64_t len)
{
    while (len) {
        const struct ref_rec *r = ref_find(s, lsn);
        uint64_t n;

        SIM_CHECK(s, check, r != NULL, "LSN %llu was never produced", ULL(lsn));
        n = r->end - lsn < len ? r->end - lsn : len;
        check_piece(s, check, r, lsn - r->lsn, bytes, n);
        lsn += n;
        bytes += n;
        len -= n;
    }
}

void ref_check_image(struct sim *s, const char *check, const struct sim_file *vol0, bool durable,
                     uint64_t lsn)
{
    s->st.image_checks++;
    for (unsigned v = 0; v < SIM_VOLUMES; v++) {
        const uint8_t *b = durable ? vol0[v].good : vol0[v].cur;

        for (unsigned i = 0; i < grow_at(s, v, lsn); i++) {
            int got = pattern_identify(b + (size_t)i * SIM_SECTOR, v, i);
            int want = ref_value_at(s, v, i, lsn);

            if (!durable && damage_at(&vol0[v], (uint64_t)i * SIM_SECTOR, SIM_SECTOR))
                continue;
            if (vol0 == s->origin && !dmap_origin_told(s, v, i))
                continue;
            /* Pieces of a tail that rotted after it was durable, and nothing else. */
            if (vol0 == s->replica && s->ahead_end > lsn && got >= 0 &&
                ref_value_between(s, v, i, (uint8_t)got, lsn, s->ahead_end))
                continue;
            if (vol0 == s->replica && ref_is_rotted(s, v, i, got, lsn))
                continue;
            SIM_CHECK(s, check, got == want || (got < 0 && want == 255),
                      "image%s differs from the log's prefix at LSN %llu: volume %u sector %u "
                      "holds %d, should hold %d",
                      durable ? " (durable)" : "", ULL(lsn), v, i, got, want);
        }
    }
}

void ref_free(struct sim *s)
{
    for (int v = 0; v < SIM_VOLUMES; v++)
        for (int i = 0; i < SIM_SECTORS_MAX; i++)
            free(s->ref.sector[v][i].v);
    free(s->ref.rec);
    memset(&s->ref, 0, sizeof(s->ref));
}
