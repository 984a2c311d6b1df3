/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/aead.h"

static void plain_seal(struct hk_aead *a, uint8_t *const frames[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint16_t body_len;

        __builtin_memcpy(&body_len, frames[i] + offsetof(struct hk_frame, body_len),
                         sizeof(body_len));
        hk_frame_seal_plain(frames[i], body_len);
    }
}

static void plain_open(struct hk_aead *a, uint8_t *const frames[], const uint32_t bytes[],
                       uint32_t count, enum hk_frame_fault ret_fault[])
{
    for (uint32_t i = 0; i < count; i++)
        ret_fault[i] = hk_frame_open_plain(frames[i], bytes[i]);
}

struct hk_aead *hk_aead_plain(void)
{
    static const struct hk_aead_ops ops = {
        .cipher = 0,
        .name = "plain",
        .encrypts = false,
        .seal = plain_seal,
        .open = plain_open,
    };
    static struct hk_aead plain = {.ops = &ops};

    return &plain;
}
