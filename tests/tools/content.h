/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stamping writer puts into a sector, and how the checker recognises it again.
 *
 * A content id names the bytes of a whole operation; a tag names the bytes of one 512-byte sector
 * at one place. Two sectors at the same place hold the same bytes exactly if their tags are equal,
 * so the judge works on tags alone. Most contents repeat between operations on purpose (zeros, a
 * few fill bytes, patterns that depend on the place but not on the operation): a checker that is
 * only ever shown unique contents can be right by accident.
 *
 * The top byte of an id or tag is its kind. Shared by writer, checker and their tests; no state.
 */
#ifndef HK_TOOLS_CONTENT_H
#define HK_TOOLS_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum { HK_SECTOR_BYTES = 512 };

enum hk_content_kind {
    HK_CONTENT_ZERO = 0x00,   /* value 0 */
    HK_CONTENT_FILL = 0x01,   /* one byte repeated, value 1..255 */
    HK_CONTENT_PLACE = 0x02,  /* pattern number; bytes depend on volume and sector */
    HK_CONTENT_UNIQUE = 0x03, /* serial number; also depends on volume and sector */
    HK_CONTENT_MIX = 0x04,   /* seed; each sector is zero, a fill or a place pattern. Never a tag */
    HK_CONTENT_OTHER = 0x0f, /* never an id: 56 bits of a hash over bytes nobody here wrote */
};

uint64_t hk_content_id(enum hk_content_kind kind, uint64_t value);

/* The tag that a sector gets when an operation with this content covers it. */
uint64_t hk_content_tag(uint64_t id, uint32_t volume, uint64_t sector);

/* Fills one sector with the bytes of a tag; the tag must not be of kind OTHER. */
void hk_content_fill(uint64_t tag, uint32_t volume, uint64_t sector, void *ret_sector);

/* The tag of the bytes found at this place; OTHER if they are nobody's. */
uint64_t hk_content_recognise(const void *bytes, uint32_t volume, uint64_t sector);

/* One line for people; buf_size of 96 is always enough. */
void hk_content_describe(uint64_t tag, char *buf, size_t buf_size);

#endif
