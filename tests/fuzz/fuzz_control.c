/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control messages as they come from the other site and from operators. Input: mode byte, then
 * bytes. Mode 0: a site message; an accepted one encodes again and decodes to the same. Mode 1: a
 * stream cut into pieces, which must never be read past its end. Mode 2, 3: request and reply;
 * never more memory than the cap.
 */
#include "fuzz.h"

#include "replicator/daemon/rpc/rpc.h"

#include <string.h>

static void site_message(const uint8_t *data, size_t size)
{
    static uint8_t wire[HK_RPC_LENGTH_BYTES + HK_CONTROL_MESSAGE_MAX];
    static struct hk_ctl ctl, again;
    int n;

    memset(&ctl, 0x5a, sizeof(ctl));
    if (hk_rpc_ctl_decode(data, size, &ctl) != HK_RPC_OK) {
        HK_ASSERT(((uint8_t *)&ctl)[sizeof(ctl) - 1] == 0x5a); /* untouched */
        return;
    }
    n = hk_rpc_ctl_encode(&ctl, wire, sizeof(wire));
    HK_ASSERT(n > HK_RPC_LENGTH_BYTES);
    HK_ASSERT(hk_rpc_ctl_decode(wire + HK_RPC_LENGTH_BYTES, (size_t)n - HK_RPC_LENGTH_BYTES,
                                &again) == HK_RPC_OK);
    HK_ASSERT(memcmp(&ctl, &again, sizeof(ctl)) == 0);
}

static void stream(const uint8_t *data, size_t size)
{
    static struct hk_rpc_in in;
    const uint8_t *body;
    size_t bytes, room, take;

    in.bytes = 0;
    while (size > 0) {
        uint8_t *space = hk_rpc_space(&in, &room);

        if (room == 0)
            return;
        take = 1 + data[0] % 13;
        take = take < size ? take : size;
        take = take < room ? take : room;
        memcpy(space, data, take);
        in.bytes += take;
        data += take;
        size -= take;
        while (hk_rpc_peek(&in, &body, &bytes) == HK_RPC_OK) {
            HK_ASSERT(body + bytes <= in.buffer + in.bytes);
            hk_rpc_drop(&in);
        }
        if (hk_rpc_peek(&in, &body, &bytes) == HK_RPC_OVERSIZED)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Hk__Pb__Request *request;
    Hk__Pb__Reply *reply;

    if (size < 1 || size > 1 + HK_CONTROL_MESSAGE_MAX)
        return 0;
    switch (data[0] % 4) {
    case 0: site_message(data + 1, size - 1); break;
    case 1: stream(data + 1, size - 1); break;
    case 2:
        request = hk_rpc_request_unpack(data + 1, size - 1);
        hk_rpc_free(request ? &request->base : NULL);
        break;
    default:
        reply = hk_rpc_reply_unpack(data + 1, size - 1);
        hk_rpc_free(reply ? &reply->base : NULL);
        break;
    }
    return 0;
}
