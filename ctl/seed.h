/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seed: images of a group's volumes in a directory, to be carried to the standby by other means
 * than the line, with a manifest that says of which group, from which position on, and what each
 * piece hashes to. SPEC.md §6.13.
 *
 * It is an image of no one moment: the volumes were written while they were copied. What makes it
 * honest is the primary's dirty map, which is relative to it (create-md --seed): whatever was
 * written since that metadata was made is in the log or stale, and comes after the import.
 *
 * The manifest is text, one fact a line, in one order; what parses prints as the same bytes. While
 * the copy is made its beginning grows under another name, a line for each piece that is stable.
 */
#ifndef HK_CTL_SEED_H
#define HK_CTL_SEED_H

#include <stdio.h>

#include "proto/history.h"

#define HK_SEED_MANIFEST "manifest"
#define HK_SEED_PARTIAL  "manifest.partial"
#define HK_SEED_PIECE    (16u << 20)
enum { HK_SEED_HEX = 33 };

struct hk_seed_piece {
    uint8_t hash[16]; /* XXH3-128, canonical */
    bool zero;        /* nothing but zeroes: a hole, without a hash */
};

struct hk_seed {
    struct hk_uuid group_id, replica_id; /* of the primary */
    char group_name[HK_NAME_BYTES];
    struct hk_epoch epoch;                         /* the only one: it begins where the map does */
    uint64_t begin_lsn, begin_ns, end_lsn, end_ns; /* of the copying; realtime */
    uint64_t piece_bytes;
    uint32_t volume_count;
    struct {
        char name[HK_NAME_BYTES];
        uint64_t bytes;
        uint64_t first_piece; /* in piece[] */
    } volume[HK_VOLUMES_MAX];
    uint64_t pieces, done;       /* of all volumes; `done` < pieces only of a partial one */
    struct hk_seed_piece *piece; /* of a partial one: room for `done` */
    uint64_t text_bytes;         /* of a partial one: whole lines; what follows is torn */
};

struct hk_seed_fault {
    uint32_t line; /* from 1 */
    char text[128];
};

/*
 * 0; -EINVAL with what is wrong where; -ENOMEM. ret_seed is untouched on failure. `partial`: the
 * pieces may end anywhere, and the last line may be torn.
 */
int hk_seed_parse(const char *text, size_t bytes, bool partial, struct hk_seed *ret_seed,
                  struct hk_seed_fault *fault);
void hk_seed_free(struct hk_seed *s);
/* Sets first_piece and pieces from volumes and piece size. -EINVAL: sizes that can't be. */
int hk_seed_count(struct hk_seed *s);
/* Everything before the pieces; the line of one piece; what stands behind them, but the hash. */
void hk_seed_print_head(const struct hk_seed *s, FILE *f);
void hk_seed_print_piece(const struct hk_seed *s, uint64_t piece, FILE *f);
void hk_seed_print_tail(const struct hk_seed *s, FILE *f);
void hk_seed_print_hash(const void *text, size_t bytes, FILE *f);

uint32_t hk_seed_volume_of(const struct hk_seed *s, uint64_t piece);
uint64_t hk_seed_piece_offset(const struct hk_seed *s, uint64_t piece);
uint64_t hk_seed_piece_bytes(const struct hk_seed *s, uint64_t piece);
/* What the manifest must say of these bytes. */
void hk_seed_piece_of(const void *data, size_t bytes, struct hk_seed_piece *ret);
bool hk_seed_piece_equal(const struct hk_seed_piece *a, const struct hk_seed_piece *b);

#endif
