/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicator's read-only view of a ring: the published prefix of the log as addressable bytes.
 *
 * It trusts nothing it reads: headers are checked once when they are first seen (hash, LSN,
 * epoch, lengths) and every address is bounded by the mapping each time it is made. What the
 * producer may overwrite is only what was released, so pieces handed out stay valid until
 * hk_ring_reader_release() and the report that follows it.
 *
 * One thread owns a reader. The mapping must outlive it.
 */
#ifndef HK_CLIENT_RING_READER_H
#define HK_CLIENT_RING_READER_H

#include <sys/uio.h>

#include "driver-glue/uapi/ring.h"
#include "proto/history.h"

struct hk_ring_reader {
    const struct hk_ring_header *header;
    const struct hk_record *slots;
    const struct hk_ring_side *sides;
    const uint8_t *payload;
    uint64_t slot_mask;
    uint64_t payload_bytes;
    uint32_t epoch_ordinal;
    uint64_t epoch_seed;
    uint64_t tail, next; /* slot indexes: oldest not released, first not seen yet */
    uint64_t tail_lsn, next_lsn;
    uint64_t hint; /* slot index of the last gather: reading is sequential */
    uint64_t done; /* slot index: the origin has everything before */
};

/*
 * `tail` and `tail_lsn` are where the capture side says the oldest record stands. -EUCLEAN: not one
 * of our rings, or sizes beyond the mapping; -ESTALE: another group's.
 */
int hk_ring_reader_init(struct hk_ring_reader *r, const void *ring, uint64_t mapped_bytes,
                        const struct hk_uuid *group_id, const struct hk_epoch *epoch, uint64_t tail,
                        uint64_t tail_lsn);

/*
 * Looks at up to `records_max` new records. Returns how many were published since, or -EUCLEAN: a
 * record that cannot be (the ring must be given up). ret_produced: end of the published prefix.
 */
int hk_ring_reader_poll(struct hk_ring_reader *r, uint32_t records_max,
                        struct hk_lsn *ret_produced);

/*
 * Pieces of the log bytes [lsn, lsn + bytes), in order: headers from the slots, payloads from the
 * payload ring, padding from a line of zeroes. Returns their number, -ERANGE (released already, or
 * not published yet), -ENOSPC (more than `max` pieces), -EUCLEAN.
 */
int hk_ring_reader_gather(struct hk_ring_reader *r, struct hk_lsn lsn, uint32_t bytes,
                          struct iovec *iov, int max);

/* Capture time of the first record that ends above lsn; 0 if there is none. */
uint64_t hk_ring_reader_index_at(const struct hk_ring_reader *r, struct hk_lsn lsn);
uint64_t hk_ring_reader_time_at(const struct hk_ring_reader *r, struct hk_lsn lsn);

/* The header of the record that covers lsn; -ERANGE when it is not here. */
int hk_ring_reader_header_at(const struct hk_ring_reader *r, struct hk_lsn lsn,
                             struct hk_record *ret_record);

/*
 * LSN of the oldest record whose write the origin has not ended, 0: none. tail and head as the
 * capture side's page says; of a liar nothing but a wrong answer comes.
 */
uint64_t hk_ring_reader_undone(struct hk_ring_reader *r, uint64_t tail, uint64_t head);

/* Forgets every record that ends at or below lsn. To be called before it is reported released. */
void hk_ring_reader_release(struct hk_ring_reader *r, struct hk_lsn lsn);

#endif
