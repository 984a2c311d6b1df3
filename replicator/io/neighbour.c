/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/neighbour.h"

void hk_neighbour_init(struct hk_neighbour *n, uint32_t ip, uint64_t now_ns)
{
    *n = (struct hk_neighbour){.ip = ip, .next_ns = now_ns};
}

bool hk_neighbour_due(struct hk_neighbour *n, uint64_t now_ns, bool *ret_unicast,
                      struct hk_mac *ret_mac)
{
    if (now_ns < n->next_ns)
        return false;
    if (n->known && n->tries >= HK_NEIGHBOUR_TRIES_MAX) {
        n->known = false;
        n->tries = 0;
    }
    /* The last refreshes go to everybody: the address may have moved to another machine. */
    *ret_unicast = n->known && n->tries < 2;
    *ret_mac = n->mac;
    n->tries += n->tries < UINT32_MAX;
    n->next_ns = now_ns + (!n->known && n->tries < 8 ? HK_NEIGHBOUR_FIRST_NS << (n->tries / 2)
                                                     : HK_NEIGHBOUR_RETRY_NS);
    return true;
}

bool hk_neighbour_learn(struct hk_neighbour *n, uint32_t ip, const struct hk_mac *mac,
                        uint64_t now_ns)
{
    if (ip != n->ip)
        return false;
    n->mac = *mac;
    n->known = true;
    n->tries = 0;
    n->next_ns = now_ns + HK_NEIGHBOUR_FRESH_NS;
    return true;
}
