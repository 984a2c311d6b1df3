/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam where frames are sealed before they leave and opened before they are believed (I15).
 * A frame lies contiguous: header (32) | body | tag (16); seal and open work in place. They take
 * bursts, because a crypto device works in bursts. Cipher 0 seals with a hash: it finds accidents,
 * not attackers, and is allowed only with `lab-unencrypted`.
 *
 * Owned by the reactor thread of the link that uses it.
 */
#ifndef HK_IO_AEAD_H
#define HK_IO_AEAD_H

#include "proto/frame.h"

struct hk_aead;

struct hk_aead_ops {
    uint8_t cipher;   /* 0: plain */
    const char *name; /* for status */
    bool encrypts;
    /* Body lengths are those in the headers. */
    void (*seal)(struct hk_aead *a, uint8_t *const frames[], uint32_t count);
    /* ret_fault[i]: HK_FRAME_OK, HK_FRAME_SHORT, HK_FRAME_BAD_LENGTH or HK_FRAME_BAD_TAG. */
    void (*open)(struct hk_aead *a, uint8_t *const frames[], const uint32_t bytes[], uint32_t count,
                 enum hk_frame_fault ret_fault[]);
};

struct hk_aead {
    const struct hk_aead_ops *ops;
};

/* Cipher 0. Stateless, shared by everybody, never freed. */
struct hk_aead *hk_aead_plain(void);

#endif
