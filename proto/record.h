/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The record: 64 header bytes, then the payload, padded to 64. The same bytes are in the ring, on
 * the wire, in the spool and in the journal, addressed by LSN. SPEC.md §3; golden vectors hold it.
 */
#ifndef HK_PROTO_RECORD_H
#define HK_PROTO_RECORD_H

#include "proto/limits.h"
#include "proto/lsn.h"

#define HK_RECORD_MAGIC 0x31524b48u /* "HKR1" in memory order */

enum hk_record_type {
    HK_REC_WRITE = 1,
    HK_REC_ZEROES = 2,
    HK_REC_DISCARD = 3, /* reads as zeroes on both sides */
    HK_REC_FLUSH = 4,
    HK_REC_MARK = 5, /* payload: struct hk_mark */
    HK_REC_GAP = 6,  /* payload: struct hk_gap; opens every epoch but the first */
    HK_REC_VOID = 7, /* reserved but never submitted; same LSN and size, content without meaning */
    HK_REC_RESYNC_BEGIN = 8, /* payload: struct hk_resync_begin */
    HK_REC_BLOCK = 9,
    HK_REC_BAD_RANGE = 10,
    HK_REC_RESYNC_END = 11, /* payload: struct hk_resync_end */
    HK_REC_MODE = 12,       /* payload: struct hk_mode_change */
    HK_REC_JOIN = 13,
    HK_REC_LEAVE = 14,
    HK_REC_RESIZE = 15,
};

enum hk_record_flags {
    HK_REC_FUA = 1 << 0, /* the write carried FUA; informational, order is by LSN */
    HK_REC_FLAGS_KNOWN = HK_REC_FUA,
};

struct hk_record {
    uint64_t lsn;         /* own position; in the ring release-stored last = published */
    uint64_t time_ns;     /* capture time, strictly increasing in a group */
    uint64_t offset;      /* bytes on the volume */
    uint32_t length;      /* bytes covered on the volume */
    uint32_t payload_len; /* bytes that follow, ≤ HK_PAYLOAD_BYTES_MAX */
    uint32_t epoch;       /* ordinal in this line of history */
    uint16_t volume;
    uint8_t type; /* enum hk_record_type */
    uint8_t flags;
    uint32_t magic;
    uint32_t prev_bytes;   /* size of the record before in this epoch, 0 for the first */
    uint64_t payload_hash; /* XXH64, seed 0; 0 if no payload */
    uint64_t header_hash;  /* XXH64 of bytes 0–55, seed = first 8 bytes of the epoch id */
};

HK_STATIC_ASSERT(sizeof(struct hk_record) == HK_RECORD_HEADER_BYTES, "record header is 64 bytes");
HK_STATIC_ASSERT(offsetof(struct hk_record, length) == 24, "length at 24");
HK_STATIC_ASSERT(offsetof(struct hk_record, epoch) == 32, "epoch at 32");
HK_STATIC_ASSERT(offsetof(struct hk_record, type) == 38, "type at 38");
HK_STATIC_ASSERT(offsetof(struct hk_record, magic) == 40, "magic at 40");
HK_STATIC_ASSERT(offsetof(struct hk_record, payload_hash) == 48, "payload_hash at 48");
HK_STATIC_ASSERT(offsetof(struct hk_record, header_hash) == 56, "header_hash at 56");

/* Payload of a mark record. 128 bytes. */
struct hk_mark {
    char name[HK_NAME_BYTES]; /* hk_mark_name_ok */
    uint64_t op_id;           /* of the operation that asked for it */
    uint32_t kind;            /* enum hk_mark_kind */
    uint32_t reserved0;
    uint8_t reserved1[48];
};
HK_STATIC_ASSERT(sizeof(struct hk_mark) == 128, "mark payload is 128 bytes");

enum hk_mark_kind { HK_MARK_PLAIN = 0, HK_MARK_FREEZE = 1 };

/* Payload of a gap record. 64 bytes. */
struct hk_gap {
    struct hk_uuid from_epoch;
    uint64_t last_durable; /* last position of from_epoch known durable on the standby */
    uint64_t new_start;    /* = the gap record's own LSN */
    uint32_t reason;       /* enum hk_epoch_reason (history.h) */
    uint32_t reserved0;
    uint8_t reserved1[24];
};
HK_STATIC_ASSERT(sizeof(struct hk_gap) == 64, "gap payload is 64 bytes");

/* Why regions are stale. */
enum hk_resync_reason {
    HK_RESYNC_INITIAL = 1, /* there was no common state yet */
    HK_RESYNC_GAP = 2,     /* this epoch's gap says why */
    HK_RESYNC_ORIGIN = 3,  /* an origin operation failed */
    HK_RESYNC_ASKED = 4,   /* the standby, or a person, requires a full compare */
};

/* Payload of a resync-begin record. 64 bytes. From here on what is compared is compared in vain
 * only if it changed since. */
struct hk_resync_begin {
    uint64_t pass;        /* rises with each resync-begin of a group, from 1 */
    uint64_t stale_bytes; /* to be compared, as known now */
    uint32_t reason;      /* enum hk_resync_reason */
    uint32_t reserved0;
    uint8_t reserved1[40];
};
HK_STATIC_ASSERT(sizeof(struct hk_resync_begin) == 64, "resync-begin payload is 64 bytes");

/* Payload of a resync-end record. 64 bytes. */
struct hk_resync_end {
    uint64_t pass;      /* of the newest resync-begin */
    uint64_t begin_lsn; /* where that record stands */
    uint8_t reserved[48];
};
HK_STATIC_ASSERT(sizeof(struct hk_resync_end) == 64, "resync-end payload is 64 bytes");

enum hk_mode { HK_MODE_ASYNC = 1, HK_MODE_SEMISYNC = 2, HK_MODE_SYNC = 3 };
enum hk_link_loss { HK_LINK_LOSS_CONTINUE = 1, HK_LINK_LOSS_BLOCK = 2 };

/*
 * Payload of a mode record. 64 bytes. From this record on every completion waits as `mode` says;
 * what the standby may claim about loss rests on it (SPEC.md §9).
 */
struct hk_mode_change {
    uint32_t mode;               /* enum hk_mode */
    uint32_t on_link_loss;       /* enum hk_link_loss */
    uint64_t contact_timeout_ns; /* T */
    uint8_t reserved[48];
};
HK_STATIC_ASSERT(sizeof(struct hk_mode_change) == 64, "mode payload is 64 bytes");

/*
 * Payload of a resize record. 512 bytes: the sizes of all volumes from here on, whether they
 * changed or not. What a volume has grown by reads as zeroes on both sides. In a group in which
 * some volume can grow each life of a producer and each epoch says the sizes again.
 */
struct hk_resize {
    uint64_t bytes[HK_VOLUMES_MAX]; /* multiples of 512; 0: no such volume */
};
HK_STATIC_ASSERT(sizeof(struct hk_resize) == 512, "resize payload is 512 bytes");

/* Bytes a record covers in the log: header + payload, rounded up to 64. */
static inline uint32_t hk_record_bytes(uint32_t payload_len)
{
    return (uint32_t)hk_round_up((uint64_t)HK_RECORD_HEADER_BYTES + payload_len, HK_RECORD_ALIGN);
}

#define HK_RECORD_BYTES_MAX (HK_RECORD_HEADER_BYTES + HK_PAYLOAD_BYTES_MAX)

static inline struct hk_lsn hk_record_end(const struct hk_record *r)
{
    return HK_LSN(r->lsn + hk_record_bytes(r->payload_len));
}

/* First 8 bytes of the epoch id, the seed of header hashes. */
static inline uint64_t hk_epoch_seed(const struct hk_uuid *epoch_id)
{
    uint64_t seed;

    __builtin_memcpy(&seed, epoch_id->b, 8);
    return seed;
}

uint64_t hk_record_header_hash(const struct hk_record *r, uint64_t epoch_seed);

enum hk_record_fault {
    HK_RECORD_OK = 0,
    HK_RECORD_BAD_MAGIC,
    HK_RECORD_BAD_LSN,  /* not the expected position */
    HK_RECORD_BAD_HASH, /* header hash */
    HK_RECORD_BAD_EPOCH,
    HK_RECORD_BAD_TYPE,
    HK_RECORD_BAD_LENGTH,  /* payload_len > max, or length/payload_len disagree with the type */
    HK_RECORD_BAD_VOLUME,  /* ≥ HK_VOLUMES_MAX */
    HK_RECORD_BAD_PAYLOAD, /* payload hash */
    HK_RECORD_BAD_FLAGS,   /* a flag this version does not know */
    HK_RECORD_BAD_CONTENT, /* payload of a control record breaks its rules (SPEC.md §3.4) */
    HK_RECORD_BAD_PREV,    /* prev_bytes is not the size of the record before (SPEC.md §3.2) */
    HK_RECORD_FAULTS
};

/*
 * Everything a header alone can tell. `expected` is where the record must stand. The order of
 * checks is magic, hash, LSN, epoch, then meaning, so that the fault named is the most useful one.
 */
enum hk_record_fault hk_record_check(const struct hk_record *r, struct hk_lsn expected,
                                     uint32_t epoch_ordinal, uint64_t epoch_seed);
/*
 * For whoever walks records: is this the one that was written behind the one just left? prev_bytes
 * is that one's size, 0 at the epoch's first LSN, HK_PREV_UNKNOWN where the walk began in the
 * middle. HK_RECORD_OK or HK_RECORD_BAD_PREV.
 */
#define HK_PREV_UNKNOWN UINT32_MAX
static inline enum hk_record_fault hk_record_follows(const struct hk_record *r, uint32_t prev_bytes)
{
    return prev_bytes == HK_PREV_UNKNOWN || r->prev_bytes == prev_bytes ? HK_RECORD_OK
                                                                        : HK_RECORD_BAD_PREV;
}
bool hk_record_payload_ok(const struct hk_record *r, const void *payload);
/*
 * For a header that hk_record_check accepted: the payload's hash, then what a mark, gap, mode,
 * resync-begin, resync-end or resize record says. HK_RECORD_OK, HK_RECORD_BAD_PAYLOAD or
 * HK_RECORD_BAD_CONTENT.
 */
enum hk_record_fault hk_record_check_payload(const struct hk_record *r, const void *payload);
const char *hk_record_fault_text(enum hk_record_fault f);
const char *hk_record_type_text(uint8_t type);
/*
 * Does this type end an apply batch (SPEC.md §8)? mark gap resync-begin/end resize join leave mode
 */
bool hk_record_is_barrier(uint8_t type);
/*
 * A legal name (of a mark, group or volume): 1–63 characters of [A-Za-z0-9._-], the first neither
 * dot nor dash, zeroes behind.
 */
bool hk_mark_name_ok(const char name[HK_NAME_BYTES]);

#endif
