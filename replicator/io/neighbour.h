/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has the next hop's IPv4 address: asks, caches, refreshes. Pure: time is an argument, the
 * caller sends what is due. A known address stays in use while it is being refreshed; when nobody
 * answers for long it is forgotten, and the path is down.
 */
#ifndef HK_IO_NEIGHBOUR_H
#define HK_IO_NEIGHBOUR_H

#include "replicator/io/packet.h"

#define HK_NEIGHBOUR_FRESH_NS 30000000000ull /* then it is asked again */
#define HK_NEIGHBOUR_RETRY_NS 1000000000ull
#define HK_NEIGHBOUR_FIRST_NS 50000000ull /* between the first tries */
enum { HK_NEIGHBOUR_TRIES_MAX = 5 };      /* unanswered refreshes until it is forgotten */

struct hk_neighbour {
    uint32_t ip;
    bool known;
    struct hk_mac mac;
    uint64_t next_ns; /* when to ask (again) */
    uint32_t tries;   /* asked since the last answer */
};

void hk_neighbour_init(struct hk_neighbour *n, uint32_t ip, uint64_t now_ns);
/* true: send a request now, to ret_mac if *ret_unicast, else to everybody. */
bool hk_neighbour_due(struct hk_neighbour *n, uint64_t now_ns, bool *ret_unicast,
                      struct hk_mac *ret_mac);
/* Somebody said he has `ip`. true if that is our next hop. */
bool hk_neighbour_learn(struct hk_neighbour *n, uint32_t ip, const struct hk_mac *mac,
                        uint64_t now_ns);

#endif
