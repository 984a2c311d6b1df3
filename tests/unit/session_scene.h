/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sound situation at a handshake: a standby and the HELLO of its primary. Tests of the session
 * spoil one thing in it.
 */
#ifndef HK_TESTS_UNIT_SESSION_SCENE_H
#define HK_TESTS_UNIT_SESSION_SCENE_H

#include "replicator/core/session.h"

#include <string.h>

struct scene {
    struct hk_super super; /* the standby's */
    struct hk_session_standby me;
    struct hk_hello h;
    uint64_t volume_bytes[2];
};

static struct hk_uuid id(uint8_t n)
{
    return (struct hk_uuid){{n, 1}};
}

static void history_of(struct hk_history *h, unsigned epochs)
{
    const struct hk_uuid a = id(40), b = id(41), c = id(42);

    memset(h, 0, sizeof(*h));
    if (epochs >= 1)
        assert_int_equal(hk_history_append(h, &a, HK_LSN_FIRST, 0, HK_EPOCH_CREATE, 1), 0);
    if (epochs >= 2)
        assert_int_equal(hk_history_append(h, &b, 1 << 20, 65536, HK_EPOCH_GAP_BEHIND, 2), 0);
    if (epochs >= 3)
        assert_int_equal(hk_history_append(h, &c, 2 << 20, (1 << 20) + 64, HK_EPOCH_GAP_BEHIND, 3),
                         0);
}

static void hello_epochs(struct hk_hello *h, unsigned epochs)
{
    history_of(&h->history, epochs);
    h->epoch = *hk_history_last(&h->history);
}

static void scene_init(struct scene *s)
{
    memset(s, 0, sizeof(*s));
    s->volume_bytes[0] = 1 << 20;
    s->volume_bytes[1] = 2 << 20;
    s->super.role = HK_ROLE_STANDBY;
    s->super.replica_id = id(2);
    s->super.peer_replica_id = id(1);
    history_of(&s->super.history, 1);
    s->me = (struct hk_session_standby){
        .super = &s->super,
        .ready = true,
        .group_id = id(9),
        .config_hash = 77,
        .volume_count = 2,
        .volume_bytes = s->volume_bytes,
        .acked = 65536,
        .durable = 65536,
    };
    s->h = (struct hk_hello){
        .version_min = 1,
        .version_max = 3,
        .group_id = id(9),
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
        .volume_bytes = {1 << 20, 2 << 20},
    };
    hello_epochs(&s->h, 1);
}

#endif
