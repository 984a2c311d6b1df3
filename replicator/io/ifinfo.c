/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/ifinfo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool hk_ip_same_subnet(uint32_t a, uint32_t b, uint8_t bits)
{
    uint32_t mask = bits == 0 ? 0 : htonl(~0u << (32 - (bits > 32 ? 32 : bits)));

    return ((a ^ b) & mask) == 0;
}

static int read_link(struct nl_sock *nl, const char *name, struct hk_ifinfo *ret,
                     struct hk_io_error *err)
{
    struct rtnl_link *link = NULL;
    struct nl_addr *mac;
    int ret_nl = rtnl_link_get_kernel(nl, 0, name, &link);

    if (ret_nl < 0)
        return hk_io_fail(err, -ENODEV, "no interface %s here: %s", name, nl_geterror(ret_nl));
    ret->index = rtnl_link_get_ifindex(link);
    ret->mtu = rtnl_link_get_mtu(link);
    ret->running = (rtnl_link_get_flags(link) & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
    mac = rtnl_link_get_addr(link);
    if (mac != NULL && nl_addr_get_len(mac) == 6)
        memcpy(ret->mac.b, nl_addr_get_binary_addr(mac), 6);
    rtnl_link_put(link);
    return 0;
}

static bool ip_of(struct nl_addr *a, uint32_t *ret_ip)
{
    if (a == NULL || nl_addr_get_family(a) != AF_INET || nl_addr_get_len(a) != 4)
        return false;
    memcpy(ret_ip, nl_addr_get_binary_addr(a), 4);
    return true;
}

static int read_addresses(struct nl_sock *nl, uint32_t wanted_ip, struct hk_ifinfo *ret)
{
    struct nl_cache *cache;

    if (rtnl_addr_alloc_cache(nl, &cache) < 0)
        return -EIO;
    for (struct nl_object *o = nl_cache_get_first(cache); o != NULL; o = nl_cache_get_next(o)) {
        struct rtnl_addr *a = (struct rtnl_addr *)o;
        uint32_t ip;

        if (!ip_of(rtnl_addr_get_local(a), &ip))
            continue;
        if (wanted_ip != 0 && ip == wanted_ip)
            ret->ip_is_local = true;
        if (ret->has_address || rtnl_addr_get_ifindex(a) != ret->index)
            continue;
        ret->has_address = true;
        ret->ip = ip;
        ret->prefix_bits = (uint8_t)rtnl_addr_get_prefixlen(a);
    }
    nl_cache_free(cache);
    return 0;
}

/* The longest route to the peer through this interface; on-link routes have no gateway. */
static int read_gateway(struct nl_sock *nl, uint32_t peer_ip, struct hk_ifinfo *ret)
{
    struct nl_cache *cache;
    int best = -1;

    if (rtnl_route_alloc_cache(nl, AF_INET, 0, &cache) < 0)
        return -EIO;
    for (struct nl_object *o = nl_cache_get_first(cache); o != NULL; o = nl_cache_get_next(o)) {
        struct rtnl_route *r = (struct rtnl_route *)o;
        struct nl_addr *to = rtnl_route_get_dst(r);
        struct rtnl_nexthop *hop = rtnl_route_nexthop_n(r, 0);
        int bits = to != NULL ? (int)nl_addr_get_prefixlen(to) : 0;
        uint32_t ip = 0;

        if (rtnl_route_get_table(r) != RT_TABLE_MAIN || hop == NULL || bits <= best ||
            rtnl_route_nh_get_ifindex(hop) != ret->index)
            continue;
        if (bits > 0 && (!ip_of(to, &ip) || !hk_ip_same_subnet(ip, peer_ip, (uint8_t)bits)))
            continue;
        best = bits;
        ret->has_gateway = ip_of(rtnl_route_nh_get_gateway(hop), &ret->gateway);
    }
    nl_cache_free(cache);
    return 0;
}

static int read_neighbour(struct nl_sock *nl, uint32_t ip, struct hk_ifinfo *ret)
{
    struct nl_cache *cache;

    if (rtnl_neigh_alloc_cache(nl, &cache) < 0)
        return -EIO;
    for (struct nl_object *o = nl_cache_get_first(cache); o != NULL; o = nl_cache_get_next(o)) {
        struct rtnl_neigh *n = (struct rtnl_neigh *)o;
        struct nl_addr *mac = rtnl_neigh_get_lladdr(n);
        uint32_t other;

        if (rtnl_neigh_get_ifindex(n) != ret->index || mac == NULL || nl_addr_get_len(mac) != 6 ||
            !ip_of(rtnl_neigh_get_dst(n), &other) || other != ip)
            continue;
        memcpy(ret->neighbour.b, nl_addr_get_binary_addr(mac), 6);
        ret->has_neighbour = true;
    }
    nl_cache_free(cache);
    return 0;
}

static bool forwards(const char *name)
{
    char path[96], value = '0';
    int fd;

    snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/forwarding", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (read(fd, &value, 1) != 1)
        value = '0';
    close(fd);
    return value == '1';
}

int hk_ifinfo_read(const char *name, uint32_t wanted_ip, uint32_t peer_ip, struct hk_ifinfo *ret,
                   struct hk_io_error *err)
{
    struct hk_ifinfo info = {0};
    struct nl_sock *nl = nl_socket_alloc();
    int e;

    if (nl == NULL)
        return hk_io_fail(err, -ENOMEM, "no memory for a netlink socket");
    if (nl_connect(nl, NETLINK_ROUTE) < 0) {
        e = hk_io_fail(err, -EIO, "cannot ask the kernel about %s (rtnetlink)", name);
        goto out;
    }
    e = read_link(nl, name, &info, err);
    if (e < 0)
        goto out;
    if (read_addresses(nl, wanted_ip, &info) < 0 || read_gateway(nl, peer_ip, &info) < 0 ||
        read_neighbour(nl, info.has_gateway ? info.gateway : peer_ip, &info) < 0) {
        e = hk_io_fail(err, -EIO, "cannot read addresses, routes and neighbours of %s", name);
        goto out;
    }
    info.forwards = forwards(name);
    *ret = info;
out:
    nl_socket_free(nl);
    return e;
}
