/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a site judges when the other one says HELLO or WELCOME. Input: mode byte, then patches
 * {offset u16, byte} on a sound message; mode bit 1: the message is taken as bytes of the input;
 * bits 2 to 6:
 * what this side knows.
 *
 * Oracle: a session is only had with the same group, configuration and volumes, with whom this side
 * is bound to, in an epoch this side does not contradict, and from where the standby stands; the
 * message that was judged sound survives the codec; asked again, the verdict is the same.
 */
#include "fuzz.h"

#include "proto/record.h"
#include "replicator/core/session.h"
#include "replicator/daemon/rpc/rpc.h"

#include <string.h>

static struct hk_super super;
static struct hk_hello hello;
static struct hk_welcome welcome;
static struct hk_session_standby me;

static struct hk_uuid id(uint8_t n)
{
    return (struct hk_uuid){{n, 1}};
}

static void history_of(struct hk_history *h, unsigned epochs)
{
    const struct hk_uuid a = id(40), b = id(41), c = id(42);

    memset(h, 0, sizeof(*h));
    if (epochs >= 1)
        HK_ASSERT(hk_history_append(h, &a, HK_LSN_FIRST, 0, HK_EPOCH_CREATE, 1) == 0);
    if (epochs >= 2)
        HK_ASSERT(hk_history_append(h, &b, 1 << 20, 65536, HK_EPOCH_GAP_BEHIND, 2) == 0);
    if (epochs >= 3)
        HK_ASSERT(hk_history_append(h, &c, 2 << 20, (1 << 20) + 64, HK_EPOCH_PROMOTE, 3) == 0);
}

static void sound(uint8_t mode)
{
    static const uint64_t volume_bytes[] = {1 << 20, 2 << 20};

    memset(&super, 0, sizeof(super));
    memset(&hello, 0, sizeof(hello));
    memset(&welcome, 0, sizeof(welcome));
    super.role = HK_ROLE_STANDBY;
    super.replica_id = id(2);
    super.flags = mode & 64 ? HK_SF_ASSUMED_EQUAL : 0;
    if (!(mode & 16))
        super.peer_replica_id = id(1);
    history_of(&super.history, mode >> 2 & 3);
    me = (struct hk_session_standby){.super = &super,
                                     .ready = true,
                                     .group_id = id(9),
                                     .config_hash = 77,
                                     .volume_count = 2,
                                     .volume_bytes = volume_bytes,
                                     .acked = super.history.count ? 65536 : 0,
                                     .durable = super.history.count ? 65536 : 0};
    hello = (struct hk_hello){.version_min = 1,
                              .version_max = 3,
                              .group_id = id(9),
                              .site_id = id(3),
                              .host_id = id(5),
                              .replica_id = id(1),
                              .peer_replica_id = id(2),
                              .config_hash = 77,
                              .lease = 3,
                              .released = 65536,
                              .acked = 65536,
                              .durable = 65536,
                              .produced = 131072,
                              .ceiling = 1 << 30,
                              .mode = HK_MODE_SYNC,
                              .on_link_loss = HK_LINK_LOSS_BLOCK,
                              .contact_timeout_ns = 1,
                              .volume_count = 2,
                              .volume_bytes = {1 << 20, 2 << 20}};
    history_of(&hello.history, 1 + (mode >> 5 & 1));
    hello.epoch = *hk_history_last(&hello.history);
    welcome = (struct hk_welcome){.version = 1,
                                  .session = 7,
                                  .site_id = id(4),
                                  .host_id = id(6),
                                  .replica_id = id(2),
                                  .config_hash = 77,
                                  .acked = 65536,
                                  .durable = 65536,
                                  .applied = 4096,
                                  .window = 1 << 20};
    history_of(&welcome.history, mode >> 2 & 3);
}

static void patch(void *to, size_t bytes, const uint8_t *data, size_t size)
{
    uint8_t *b = to;

    for (size_t i = 0; i + 3 <= size; i += 3)
        b[(data[i] | data[i + 1] << 8) % bytes] ^= data[i + 2];
}

/* A bool of the wire is 0 or 1, whatever was patched. */
static void settle_bools(void)
{
    uint8_t *const b[] = {(uint8_t *)&hello.map, (uint8_t *)&hello.all_stale,
                          (uint8_t *)&hello.closed};

    for (size_t i = 0; i < HK_ARRAY_SIZE(b); i++)
        *b[i] &= 1;
}

static void through_codec(enum hk_ctl_type type)
{
    static uint8_t wire[HK_RPC_LENGTH_BYTES + HK_CONTROL_MESSAGE_MAX];
    static struct hk_ctl ctl, again;
    int n;

    memset(&ctl, 0, sizeof(ctl));
    ctl.type = type;
    if (type == HK_CTL_HELLO)
        ctl.hello = hello;
    else
        ctl.welcome = welcome;
    n = hk_rpc_ctl_encode(&ctl, wire, sizeof(wire));
    HK_ASSERT(n > HK_RPC_LENGTH_BYTES);
    HK_ASSERT(hk_rpc_ctl_decode(wire + HK_RPC_LENGTH_BYTES, (size_t)n - HK_RPC_LENGTH_BYTES,
                                &again) == HK_RPC_OK);
}

static void judge_hello(void)
{
    struct hk_session_verdict v, again;
    uint32_t common;

    hk_session_judge_hello(&me, &hello, &v);
    hk_session_judge_hello(&me, &hello, &again);
    HK_ASSERT(v.refusal == again.refusal && v.adopt == again.adopt);
    HK_ASSERT(v.refusal < HK_REFUSALS && hk_refusal_text(v.refusal)[0]);
    HK_ASSERT(!v.full_compare || v.refusal != HK_REFUSE_NONE);
    if (v.refusal != HK_REFUSE_NONE) {
        HK_ASSERT(!v.adopt);
        return;
    }
    HK_ASSERT(hk_hello_ok(&hello) && hk_history_check(&hello.history) == 0);
    HK_ASSERT(hk_uuid_equal(&hello.group_id, &me.group_id));
    HK_ASSERT(hello.config_hash == me.config_hash && hello.volume_count == 2);
    HK_ASSERT(memcmp(hello.volume_bytes, me.volume_bytes, 2 * sizeof(uint64_t)) == 0);
    HK_ASSERT(hk_uuid_is_nil(&super.peer_replica_id) ||
              hk_uuid_equal(&super.peer_replica_id, &hello.replica_id));
    HK_ASSERT(!hk_uuid_equal(&super.replica_id, &hello.replica_id) && hello.lease > 0);
    switch (hk_history_compare(&super.history, &hello.history, &common)) {
    case HK_KIN_EQUAL: HK_ASSERT(!v.adopt || super.history.count == 0); break;
    case HK_KIN_BEHIND: HK_ASSERT(v.adopt); break;
    case HK_KIN_AHEAD:
    case HK_KIN_DIVERGED:
    case HK_KIN_STRANGERS: HK_ASSERT(!"a history that contradicts"); break;
    }
    if (v.adopt)
        HK_ASSERT(v.start_lsn >= me.acked && v.start_lsn == hello.epoch.first_lsn &&
                  v.start_lsn % HK_RECORD_ALIGN == 0);
    HK_ASSERT(me.durable >= hello.durable || v.adopt);
    through_codec(HK_CTL_HELLO);
}

static void judge_welcome(void)
{
    uint64_t detail[2] = {0, 0};
    enum hk_refusal r = hk_session_judge_welcome(&hello, &welcome, hello.produced, detail);

    HK_ASSERT(r < HK_REFUSALS);
    if (r != HK_REFUSE_NONE)
        return;
    HK_ASSERT(welcome.session != 0 && welcome.config_hash == hello.config_hash);
    HK_ASSERT(welcome.durable <= welcome.acked && welcome.acked <= hello.produced);
    HK_ASSERT(welcome.applied <= welcome.durable);
    HK_ASSERT(welcome.durable >= hello.durable && welcome.acked >= hello.released);
    through_codec(HK_CTL_WELCOME);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hk_ctl ctl;

    if (size < 1 || size > 1 + HK_CONTROL_MESSAGE_MAX)
        return 0;
    sound(data[0]);
    if (data[0] & 2) {
        if (hk_rpc_ctl_decode(data + 1, size - 1, &ctl) != HK_RPC_OK)
            return 0;
        if (ctl.type == HK_CTL_HELLO)
            hello = ctl.hello;
        else if (ctl.type == HK_CTL_WELCOME)
            welcome = ctl.welcome;
    } else if (data[0] & 1) {
        patch(&hello, sizeof(hello), data + 1, size - 1);
        settle_bools();
    } else {
        patch(&welcome, sizeof(welcome), data + 1, size - 1);
    }
    judge_hello();
    if (hk_hello_ok(&hello))
        judge_welcome();
    return 0;
}
