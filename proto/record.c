/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
#include "proto/record.h"

#include "proto/hash.h"
#include "proto/history.h"

/* Payloads of join and leave are not fixed yet; no version will need more. */
enum { HK_CONTROL_PAYLOAD_MAX = 4096 };

uint64_t hk_record_header_hash(const struct hk_record *r, uint64_t epoch_seed)
{
    return hk_xxh64(r, offsetof(struct hk_record, header_hash), epoch_seed);
}

/* SPEC.md §3.3: what each type says about `length` and `payload_len`. */
static bool lengths_ok(const struct hk_record *r)
{
    if (r->payload_len > HK_PAYLOAD_BYTES_MAX)
        return false;
    if (r->offset > UINT64_MAX - r->length)
        return false;
    switch ((enum hk_record_type)r->type) {
    case HK_REC_WRITE:
    case HK_REC_BLOCK: return r->length > 0 && r->payload_len == r->length;
    case HK_REC_ZEROES:
    case HK_REC_DISCARD:
    case HK_REC_BAD_RANGE: return r->length > 0 && r->payload_len == 0;
    case HK_REC_FLUSH: return r->length == 0 && r->payload_len == 0;
    case HK_REC_MARK: return r->length == 0 && r->payload_len == sizeof(struct hk_mark);
    case HK_REC_GAP: return r->length == 0 && r->payload_len == sizeof(struct hk_gap);
    case HK_REC_MODE: return r->length == 0 && r->payload_len == sizeof(struct hk_mode_change);
    case HK_REC_RESYNC_BEGIN:
        return r->length == 0 && r->payload_len == sizeof(struct hk_resync_begin);
    case HK_REC_RESYNC_END: return r->length == 0 && r->payload_len == sizeof(struct hk_resync_end);
    case HK_REC_VOID: return true;
    case HK_REC_JOIN:
    case HK_REC_LEAVE: return r->length == 0 && r->payload_len <= HK_CONTROL_PAYLOAD_MAX;
    case HK_REC_RESIZE:
        return r->offset == 0 && r->length == 0 && r->payload_len == sizeof(struct hk_resize);
    }
    return false;
}

/* SPEC.md §3.2: the size of the record before, as far as it can be judged without it. */
static bool prev_bytes_ok(const struct hk_record *r)
{
    if (r->prev_bytes % HK_RECORD_ALIGN != 0 || r->prev_bytes > HK_RECORD_BYTES_MAX)
        return false;
    if (r->prev_bytes > r->lsn)
        return false;
    return r->type != HK_REC_GAP || r->prev_bytes == 0;
}

static bool lsn_ok(const struct hk_record *r, struct hk_lsn expected)
{
    if (r->lsn != expected.v || r->lsn == 0 || r->lsn % HK_RECORD_ALIGN != 0)
        return false;
    return r->lsn <= UINT64_MAX - HK_RECORD_BYTES_MAX;
}

enum hk_record_fault hk_record_check(const struct hk_record *r, struct hk_lsn expected,
                                     uint32_t epoch_ordinal, uint64_t epoch_seed)
{
    if (r->magic != HK_RECORD_MAGIC)
        return HK_RECORD_BAD_MAGIC;
    if (r->header_hash != hk_record_header_hash(r, epoch_seed))
        return HK_RECORD_BAD_HASH;
    if (!lsn_ok(r, expected))
        return HK_RECORD_BAD_LSN;
    if (r->epoch != epoch_ordinal || r->epoch == 0)
        return HK_RECORD_BAD_EPOCH;
    if (r->type < HK_REC_WRITE || r->type > HK_REC_RESIZE)
        return HK_RECORD_BAD_TYPE;
    if (r->flags & ~HK_REC_FLAGS_KNOWN)
        return HK_RECORD_BAD_FLAGS;
    if (!lengths_ok(r) || !prev_bytes_ok(r))
        return HK_RECORD_BAD_LENGTH;
    if (r->volume >= HK_VOLUMES_MAX)
        return HK_RECORD_BAD_VOLUME;
    if (r->payload_len == 0 && r->payload_hash != 0)
        return HK_RECORD_BAD_PAYLOAD;
    return HK_RECORD_OK;
}

bool hk_record_payload_ok(const struct hk_record *r, const void *payload)
{
    HK_ASSERT(r->payload_len <= HK_PAYLOAD_BYTES_MAX);
    if (r->payload_len == 0)
        return r->payload_hash == 0;
    return r->payload_hash == hk_xxh64(payload, r->payload_len, 0);
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
    uint8_t any = 0;

    for (size_t i = 0; i < count; i++)
        any |= bytes[i];
    return any == 0;
}

static bool mark_ok(const void *payload)
{
    struct hk_mark m;

    __builtin_memcpy(&m, payload, sizeof(m));
    return hk_mark_name_ok(m.name) && (m.kind == HK_MARK_PLAIN || m.kind == HK_MARK_FREEZE) &&
           m.reserved0 == 0 && all_zero(m.reserved1, sizeof(m.reserved1));
}

static bool gap_ok(const struct hk_record *r, const void *payload)
{
    struct hk_gap g;

    __builtin_memcpy(&g, payload, sizeof(g));
    if (hk_uuid_is_nil(&g.from_epoch) || g.new_start != r->lsn || g.last_durable > g.new_start)
        return false;
    if (g.last_durable % HK_RECORD_ALIGN != 0)
        return false;
    return g.reason >= HK_EPOCH_PROMOTE && g.reason <= HK_EPOCH_GAP_ROLLBACK && g.reserved0 == 0 &&
           all_zero(g.reserved1, sizeof(g.reserved1));
}

static bool mode_ok(const void *payload)
{
    struct hk_mode_change m;

    __builtin_memcpy(&m, payload, sizeof(m));
    return m.mode >= HK_MODE_ASYNC && m.mode <= HK_MODE_SYNC &&
           m.on_link_loss >= HK_LINK_LOSS_CONTINUE && m.on_link_loss <= HK_LINK_LOSS_BLOCK &&
           m.contact_timeout_ns > 0 && all_zero(m.reserved, sizeof(m.reserved));
}

static bool resync_begin_ok(const void *payload)
{
    struct hk_resync_begin b;

    __builtin_memcpy(&b, payload, sizeof(b));
    return b.pass > 0 && b.reason >= HK_RESYNC_INITIAL && b.reason <= HK_RESYNC_ASKED &&
           b.reserved0 == 0 && all_zero(b.reserved1, sizeof(b.reserved1));
}

static bool resync_end_ok(const struct hk_record *r, const void *payload)
{
    struct hk_resync_end e;

    __builtin_memcpy(&e, payload, sizeof(e));
    return e.pass > 0 && e.begin_lsn > 0 && e.begin_lsn < r->lsn &&
           e.begin_lsn % HK_RECORD_ALIGN == 0 && all_zero(e.reserved, sizeof(e.reserved));
}

static bool resize_ok(const void *payload)
{
    struct hk_resize z;
    uint64_t any = 0;

    __builtin_memcpy(&z, payload, sizeof(z));
    for (uint32_t v = 0; v < HK_VOLUMES_MAX; v++)
        any |= z.bytes[v];
    return any != 0 && any % 512 == 0;
}

enum hk_record_fault hk_record_check_payload(const struct hk_record *r, const void *payload)
{
    bool ok = true;

    if (!hk_record_payload_ok(r, payload))
        return HK_RECORD_BAD_PAYLOAD;
    if (r->type == HK_REC_MARK)
        ok = mark_ok(payload);
    else if (r->type == HK_REC_GAP)
        ok = gap_ok(r, payload);
    else if (r->type == HK_REC_MODE)
        ok = mode_ok(payload);
    else if (r->type == HK_REC_RESYNC_BEGIN)
        ok = resync_begin_ok(payload);
    else if (r->type == HK_REC_RESYNC_END)
        ok = resync_end_ok(r, payload);
    else if (r->type == HK_REC_RESIZE)
        ok = resize_ok(payload);
    return ok ? HK_RECORD_OK : HK_RECORD_BAD_CONTENT;
}

const char *hk_record_fault_text(enum hk_record_fault f)
{
    switch (f) {
    case HK_RECORD_OK: return "ok";
    case HK_RECORD_BAD_MAGIC: return "no record magic";
    case HK_RECORD_BAD_LSN: return "not the expected LSN";
    case HK_RECORD_BAD_HASH: return "header hash does not match";
    case HK_RECORD_BAD_EPOCH: return "record of another epoch";
    case HK_RECORD_BAD_TYPE: return "unknown record type";
    case HK_RECORD_BAD_LENGTH: return "lengths do not agree with the record type";
    case HK_RECORD_BAD_VOLUME: return "volume number out of range";
    case HK_RECORD_BAD_PAYLOAD: return "payload hash does not match";
    case HK_RECORD_BAD_FLAGS: return "unknown record flags";
    case HK_RECORD_BAD_CONTENT: return "control payload makes no sense";
    case HK_RECORD_BAD_PREV: return "does not follow the record before it";
    case HK_RECORD_FAULTS: break;
    }
    return "unknown fault";
}

const char *hk_record_type_text(uint8_t type)
{
    static const char *const text[] = {
        [HK_REC_WRITE] = "write",
        [HK_REC_ZEROES] = "zeroes",
        [HK_REC_DISCARD] = "discard",
        [HK_REC_FLUSH] = "flush",
        [HK_REC_MARK] = "mark",
        [HK_REC_GAP] = "gap",
        [HK_REC_VOID] = "void",
        [HK_REC_RESYNC_BEGIN] = "resync-begin",
        [HK_REC_BLOCK] = "block",
        [HK_REC_BAD_RANGE] = "bad-range",
        [HK_REC_RESYNC_END] = "resync-end",
        [HK_REC_MODE] = "mode",
        [HK_REC_JOIN] = "join",
        [HK_REC_LEAVE] = "leave",
        [HK_REC_RESIZE] = "resize",
    };

    if (type >= HK_ARRAY_SIZE(text) || !text[type])
        return "unknown";
    return text[type];
}

bool hk_record_is_barrier(uint8_t type)
{
    switch ((enum hk_record_type)type) {
    case HK_REC_MARK:
    case HK_REC_GAP:
    case HK_REC_RESYNC_BEGIN:
    case HK_REC_RESYNC_END:
    case HK_REC_MODE:
    case HK_REC_JOIN:
    case HK_REC_LEAVE:
    case HK_REC_RESIZE: return true;
    case HK_REC_WRITE:
    case HK_REC_ZEROES:
    case HK_REC_DISCARD:
    case HK_REC_FLUSH:
    case HK_REC_VOID:
    case HK_REC_BLOCK:
    case HK_REC_BAD_RANGE: return false;
    }
    return false;
}

static bool name_char_ok(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool hk_mark_name_ok(const char name[HK_NAME_BYTES])
{
    size_t len = 0;

    /* Never ".", ".." or an option: names become parts of paths and of command lines. */
    if (name[0] == '.' || name[0] == '-')
        return false;
    while (len < HK_NAME_BYTES && name_char_ok(name[len]))
        len++;
    if (len == 0 || len == HK_NAME_BYTES)
        return false;
    return all_zero((const uint8_t *)name + len, HK_NAME_BYTES - len);
}
