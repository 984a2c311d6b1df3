/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Every bound of the product that is not a matter of configuration, with its unit in its name. */
#ifndef HK_PROTO_LIMITS_H
#define HK_PROTO_LIMITS_H

enum {
    HK_RECORD_ALIGN = 64, /* records start at multiples of this LSN */
    HK_RECORD_HEADER_BYTES = 64,
    HK_PAYLOAD_BYTES_MAX = 1 << 20, /* one record's payload */
    HK_PAGE_BYTES = 4096,           /* unit of journal I/O and of payload slots */
    HK_FRAME_HEADER_BYTES = 32,
    HK_FRAME_CLEAR_BYTES = 16, /* of the header; the AEAD's associated data */
    HK_FRAME_TAG_BYTES = 16,
    HK_FRAME_BODY_MAX = 16384 - 64, /* whole frame ≤ 16 KiB less link headers */
    HK_VOLUMES_MAX = 64,            /* per group */
    HK_NAME_BYTES = 64,             /* group, volume, mark names, with NUL */
    HK_HISTORY_EPOCHS_MAX = 64,     /* kept in one superblock */
    HK_INTERVALS_MAX = 64,          /* consistent intervals kept in one superblock */
    HK_SUPER_BYTES = 16384,         /* one superblock slot; there are two */
    HK_REGION_SHIFT_MIN = 12,       /* unit of the dirty map: 4 KiB (tests) to 1 GiB */
    HK_REGION_SHIFT_MAX = 30,
    HK_REGION_SHIFT_DEFAULT = 22,
    HK_HOT_REGIONS_MAX = 4096, /* marked in the activity log at one time */
    HK_SEGMENT_HEADER_BYTES = 4096,
    HK_BATCH_HEADER_BYTES = 4096,
    HK_BATCH_BYTES_MAX = 4 << 20, /* stream bytes in one journal batch */
    HK_ACK_RANGES_MAX = 32,
    HK_PATHS_MAX = 4,
    HK_CONTROL_MESSAGE_MAX = 1 << 16, /* one control message on the wire */
    HK_COMPARE_BLOCK_BYTES = 1 << 16, /* what a resync compares and sends at once */
    HK_COMPARE_HASH_BYTES = 16,
    HK_COMPARE_BLOCKS_MAX = 16, /* in one question */
    HK_COMPARE_ASKS_MAX = 8,    /* questions without an answer */
    HK_COMPARE_KEY_BYTES = 32,
};

#define HK_LSN_FIRST                  4096ULL /* of a group's first epoch; LSN 0 is never used */
#define HK_CEILING_STEP_BYTES         (16ULL << 30) /* SPEC.md §6: moved ahead in these steps */
#define HK_SEGMENT_BYTES_DEFAULT      (64ULL << 20)
#define HK_CONTACT_TIMEOUT_NS_DEFAULT 5000000000ULL /* T */
/* The clocks of two sites differ in speed by less than one part in so many. */
#define HK_CLOCK_DRIFT_PART        512
#define HK_PACE_BOUND_NS_DEFAULT   30000000000ULL
#define HK_APPLY_LAG_BYTES_DEFAULT (1ULL << 30) /* bound of durable − applied (RTO) */

#endif
