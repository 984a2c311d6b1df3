/* SPDX-License-Identifier: Apache-2.0 */
/* Frames whose content follows from packet number and length, so that a receiver can judge them. */
#ifndef HK_TESTS_IO_FRAMES_H
#define HK_TESTS_IO_FRAMES_H

#include "proto/frame.h"

#include <string.h>

/* Byte i of the body of packet pn. */
static inline uint8_t io_frame_byte(uint64_t pn, uint32_t i)
{
    return (uint8_t)(pn * 31 + i * 7 + (i >> 8));
}

static inline struct hk_frame io_frame_header(uint8_t path, uint64_t pn, uint16_t body_len)
{
    return (struct hk_frame){
        .version = HK_FRAME_VERSION,
        .type = HK_FRAME_DATA,
        .path = path,
        .session = 77,
        .packet_number = pn,
        .lsn = 4096 + pn * 65536,
        .span = body_len,
        .body_len = body_len,
    };
}

static inline void io_frame_fill(uint8_t *body, uint64_t pn, uint32_t body_len)
{
    for (uint32_t i = 0; i < body_len; i++)
        body[i] = io_frame_byte(pn, i);
}

static inline bool io_frame_right(const struct hk_frame *h, const uint8_t *body)
{
    if (h->session != 77 || h->type != HK_FRAME_DATA || h->lsn != 4096 + h->packet_number * 65536)
        return false;
    for (uint32_t i = 0; i < h->body_len; i++)
        if (body[i] != io_frame_byte(h->packet_number, i))
            return false;
    return true;
}

#endif
