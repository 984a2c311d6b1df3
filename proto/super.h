/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Superblocks: the durable facts of one side. SPEC.md §6. Two slots of HK_SUPER_BYTES at offset 0
 * and HK_SUPER_BYTES of the metadata file; a write goes to slot (sequence & 1), the valid slot with
 * the highest sequence counts. Behind them lies the primary's dirty map (proto/dmap.h).
 *
 * Version 2 is written, or 3 where some volume can grow. Version 1 is read, and written back as
 * version 1 (SPEC.md §12.3): its new fields are zero and stay so. A fact that version 1 can't hold
 * is never put into one (hk_super_is_current); a primary of version 1 has no map and says
 * FULL_COMPARE instead.
 *
 * The primary's is owned by the capture side, the standby's by hikaed. A promoted standby writes a
 * primary superblock for its own capture side.
 */
#ifndef HK_PROTO_SUPER_H
#define HK_PROTO_SUPER_H

#include "proto/history.h"
#include "proto/limits.h"
#include "proto/lsn.h"

#define HK_SUPER_MAGIC 0x31505553494b4148ull /* "HAKISUP1" */
enum { HK_SUPER_VERSION = 2, HK_SUPER_VERSION_OLD = 1, HK_SUPER_VERSION_GROWS = 3 };
#define HK_DMAP_RESERVED_BYTES (16ULL << 20) /* behind the two slots, in version 1 */

enum hk_super_role { HK_ROLE_PRIMARY = 1, HK_ROLE_STANDBY = 2 };

enum hk_super_flags {
    HK_SF_CLEAN = 1 << 0,          /* primary: stopped cleanly at clean_lsn, nothing in flight */
    HK_SF_DEGRADED = 1 << 1,       /* primary: unreplicated acknowledgements possible since … */
    HK_SF_FULL_COMPARE = 1 << 2,   /* volumes may differ anywhere; only a full compare heals */
    HK_SF_ORIGIN_FAILED = 1 << 3,  /* primary: an origin operation failed */
    HK_SF_PROMOTED = 1 << 4,       /* standby: it was promoted, takes no more data */
    HK_SF_PROMOTING = 1 << 5,      /* standby: the new epoch is durable, draining goes on */
    HK_SF_FROZEN = 1 << 6,         /* standby: the applier stands at freeze_lsn */
    HK_SF_ASSUMED_EQUAL = 1 << 7,  /* created with --assume-equal */
    HK_SF_NOT_PROMOTABLE = 1 << 8, /* standby: a replica write or flush failed */
    HK_SF_IN_DOUBT = 1 << 9, /* standby: a slot was damaged at a start, no primary met since */
    /* Version 2. */
    HK_SF_STALE = 1 << 10,        /* primary: some region is stale, or may be */
    HK_SF_PINNED = 1 << 11,       /* standby: the state at pin_lsn is kept */
    HK_SF_RESYNC = 1 << 12,       /* standby: inside no consistent interval; promotion: the pin */
    HK_SF_ROLLING_BACK = 1 << 13, /* standby, PROMOTING: the pin's before-images go back */
    HK_SF_UNREADABLE = 1 << 14,   /* primary: a bad-range was put, not all was compared since */
};

struct hk_interval {
    uint64_t from, to; /* consistent positions [from, to]; to = 0: still open */
    uint32_t epoch_ordinal;
    uint32_t reserved;
};

struct hk_super_volume {
    char name[HK_NAME_BYTES];
    uint64_t bytes;
    uint64_t first_region; /* primary with a map: number of its first region, group-wide */
    /* Version 3. 0: as many as `bytes`. Primary: it may grow to so many; the map has place for
     * them. Standby: its replica is durably as large, zeroes behind `bytes`. */
    uint64_t room_bytes;
    uint64_t prior_bytes; /* standby, with HK_SF_PINNED: its size at the pin; 0: `bytes` */
};

struct hk_super {
    uint64_t magic;
    uint32_t version;
    uint32_t role;     /* enum hk_super_role */
    uint64_t sequence; /* slot = sequence & 1 */
    uint32_t flags;    /* enum hk_super_flags */
    uint32_t volume_count;
    struct hk_uuid group_id;
    struct hk_uuid replica_id; /* of this side's copy */
    struct hk_uuid site_id;
    struct hk_uuid peer_replica_id; /* the other copy this metadata is relative to; nil: not met */
    char group_name[HK_NAME_BYTES];
    uint64_t ceiling;            /* primary: LSNs below may be used; standby: last told */
    uint64_t clean_lsn;          /* primary, with HK_SF_CLEAN */
    uint64_t durable_known;      /* primary: durable on the standby when this was written */
    uint64_t applied;            /* standby: in the replica and flushed */
    uint64_t degraded_time_ns;   /* realtime, with HK_SF_DEGRADED */
    uint64_t degraded_lsn;       /* durable on the standby when it went degraded */
    uint64_t mode_lsn;           /* standby: newest mode record applied or replayed */
    uint32_t mode;               /* enum hk_mode that holds from mode_lsn */
    uint32_t on_link_loss;       /* enum hk_link_loss */
    uint64_t contact_timeout_ns; /* T, as told by the primary */
    uint64_t contact_time_ns;    /* standby: t0, realtime; see SPEC.md §9 */
    uint64_t freeze_lsn;         /* end of the mark record */
    uint64_t freeze_time_ns;     /* capture time of the mark */
    char freeze_name[HK_NAME_BYTES];
    uint32_t loss_class; /* standby after promotion: enum hk_loss_class */
    uint32_t interval_count;
    uint64_t promote_lsn; /* position the new epoch's parent ended at */
    uint64_t promote_time_ns;
    uint64_t clean_time_ns;    /* primary, with HK_SF_CLEAN: newest capture time given */
    uint32_t clean_prev_bytes; /* primary, with HK_SF_CLEAN: size of the epoch's last record */
    uint32_t region_shift;     /* primary: a region is 1 << this many bytes; 0: no map */
    struct hk_uuid ring_id;    /* primary: the ring in use since it was not clean; nil: none yet.
                                standby: the ring of the primary it last welcomed */
    uint64_t ring_first_lsn;   /* primary: where that ring's log began */
    uint64_t pin_lsn;          /* standby, with HK_SF_PINNED: the state kept; 0: none */
    uint32_t pin_ordinal;      /* epoch of pin_lsn */
    uint32_t snapshot_next;    /* standby: number of the next snapshot */
    uint64_t dmap_sequence;    /* primary: transactions of the activity log up to this are void */
    struct hk_interval interval[HK_INTERVALS_MAX];
    struct hk_history history;
    struct hk_super_volume volume[HK_VOLUMES_MAX];
    uint64_t spooled_lsn; /* primary: spooled regions rest on log of the newest epoch up to here */
};

enum hk_loss_class {
    HK_LOSS_NONE = 0,           /* not promoted */
    HK_LOSS_ZERO_PROVEN = 1,    /* "0, proven" */
    HK_LOSS_ZERO_IF_FENCED = 2, /* "0 if the primary was fenced before t0+T" */
    HK_LOSS_UNKNOWN = 3,        /* "unknown since t0" */
};

HK_STATIC_ASSERT(sizeof(struct hk_interval) == 24, "interval is 24 bytes");
HK_STATIC_ASSERT(sizeof(struct hk_super_volume) == 96, "volume entry is 96 bytes");
HK_STATIC_ASSERT(offsetof(struct hk_super, group_id) == 32, "group_id at 32");
HK_STATIC_ASSERT(offsetof(struct hk_super, ceiling) == 160, "ceiling at 160");
HK_STATIC_ASSERT(offsetof(struct hk_super, freeze_name) == 256, "freeze_name at 256");
HK_STATIC_ASSERT(offsetof(struct hk_super, ring_id) == 360, "ring_id at 360");
HK_STATIC_ASSERT(offsetof(struct hk_super, ring_first_lsn) == 376, "ring_first_lsn at 376");
HK_STATIC_ASSERT(offsetof(struct hk_super, region_shift) == 356, "region_shift at 356");
HK_STATIC_ASSERT(offsetof(struct hk_super, pin_lsn) == 384, "pin_lsn at 384");
HK_STATIC_ASSERT(offsetof(struct hk_super, dmap_sequence) == 400, "dmap_sequence at 400");
HK_STATIC_ASSERT(offsetof(struct hk_super, interval) == 408, "intervals at 408");
HK_STATIC_ASSERT(offsetof(struct hk_super, history) == 1944, "history at 1944");
HK_STATIC_ASSERT(offsetof(struct hk_super, volume) == 6048, "volumes at 6048");
HK_STATIC_ASSERT(offsetof(struct hk_super, spooled_lsn) == 12192, "spooled_lsn at 12192");
HK_STATIC_ASSERT(sizeof(struct hk_super) == 12200, "superblock fields end at 12200");
HK_STATIC_ASSERT(sizeof(struct hk_super) <= HK_SUPER_BYTES - 8, "fits its slot with the hash");

enum hk_super_fault {
    HK_SUPER_OK = 0,
    HK_SUPER_BAD_MAGIC,
    HK_SUPER_BAD_VERSION,
    HK_SUPER_BAD_HASH,
    HK_SUPER_BAD_FIELD,
    HK_SUPER_FAULTS
};
const char *hk_super_fault_text(enum hk_super_fault f);

/* How large the volume may become (primary), or what its replica holds (standby). */
static inline uint64_t hk_super_room(const struct hk_super_volume *v)
{
    return v->room_bytes ? v->room_bytes : v->bytes;
}

/* May version 2's fields and flags be used? Not in what was read as version 1 (SPEC.md §12.3). */
static inline bool hk_super_is_current(const struct hk_super *s)
{
    return s->version != HK_SUPER_VERSION_OLD;
}
/*
 * Encodes into a slot of HK_SUPER_BYTES; hash in its last 8 bytes. Sequence is taken from s, and so
 * is version 1; any other becomes the lowest that can say it.
 */
void hk_super_encode(const struct hk_super *s, void *slot);
enum hk_super_fault hk_super_decode(const void *slot, struct hk_super *ret_s);
/*
 * The newest valid of two slots. 0; -ENODATA both blank (all zero magic); -EUCLEAN none valid.
 * ret_fault[i] tells each slot's verdict (may be NULL).
 */
int hk_super_pick(const void *slot0, const void *slot1, struct hk_super *ret_s,
                  enum hk_super_fault ret_fault[2]);
/*
 * Beside the slot that was picked, does the other one hold something that is neither whole nor
 * blank? Then a write was torn (nothing relied on it), or newer facts that were relied on are gone,
 * and the slots alone can't tell which. Only the very first superblock has a blank one beside it.
 * Meaningful when hk_super_pick returned 0.
 */
bool hk_super_in_doubt(const void *slot0, const void *slot1);
const char *hk_loss_class_text(uint32_t c);
/*
 * A new epoch at the end of the history. A full history forgets its oldest epoch, but a version 1
 * can't: -ENOSPC. Else as hk_history_append.
 */
int hk_super_append_epoch(struct hk_super *s, const struct hk_uuid *id, uint64_t first_lsn,
                          uint64_t parent_end, enum hk_epoch_reason reason, uint64_t time_ns);

/*
 * A fresh primary superblock: what `hikae create-md` writes. Mode and policy come at first start.
 */
struct hk_super_create {
    struct hk_uuid group_id, site_id, replica_id, epoch_id;
    char group_name[HK_NAME_BYTES];
    uint64_t time_ns; /* realtime */
    uint32_t volume_count;
    struct hk_super_volume volume[HK_VOLUMES_MAX]; /* name, bytes, room_bytes */
    uint32_t region_shift;                         /* 0: no map */
    bool assume_equal;
    bool seed; /* equal to a seed that is still to be made (SPEC.md §6.13); needs regions */
};
/*
 * -EINVAL: nil ids, a seed without regions, no volume, a bad name, a size that is no multiple of
 * 512 (of 4096 for one that can grow, and so is its room), room below its size, a bad region size;
 * -E2BIG: more regions than a map can hold. Volumes get their first_region.
 */
int hk_super_create(const struct hk_super_create *p, struct hk_super *ret_super);
/* A map with an empty log (hk_dmap_log_fill): volume behind volume, no region between them. */
void hk_super_number_regions(struct hk_super *s, uint32_t shift);

#endif
