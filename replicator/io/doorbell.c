/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/doorbell.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum { KEPT_BYTES = 14, RCVBUF_BYTES = 1 };

int hk_doorbell_open(int if_index, uint32_t ip, int *ret_fd, struct hk_io_error *err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 30),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(ip), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, KEPT_BYTES),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog prog = {.len = HK_ARRAY_SIZE(code), .filter = code};
    struct sockaddr_ll a = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = if_index,
    };
    int one = 1, bytes = RCVBUF_BYTES, fd;

    /* Protocol 0: deaf until the filter is in place and bind names the interface. */
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return hk_io_fail(err, -errno,
                          "cannot open a packet socket: %s; a DPDK link over a kernel "
                          "interface needs CAP_NET_RAW and CAP_NET_ADMIN",
                          strerror(errno));
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) != 0)
        goto err_close;
    (void)setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        goto err_close;
    *ret_fd = fd;
    return 0;

err_close:
    hk_io_fail(err, -errno, "cannot prepare a packet socket: %s", strerror(errno));
    close(fd);
    return err != NULL ? err->error : -EIO;
}

bool hk_doorbell_drain(int fd)
{
    uint8_t byte;
    bool rang = false;

    /* Bounded by the tiny receive buffer, and by us. */
    for (int i = 0; i < 64; i++) {
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        rang = true;
    }
    return rang;
}

int hk_port_guard_open(uint32_t ip, uint16_t port, int *ret_fd, struct hk_io_error *err)
{
    struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog prog = {.len = 1, .filter = &none};
    struct sockaddr_in a = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = ip,
    };
    char text[INET_ADDRSTRLEN] = "";
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    inet_ntop(AF_INET, &ip, text, sizeof(text));
    if (fd < 0)
        return hk_io_fail(err, -errno, "cannot make a UDP socket: %s", strerror(errno));
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) != 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        int error = -errno;

        close(fd);
        return hk_io_fail(err, error, "cannot reserve %s:%u: %s", text, port, strerror(-error));
    }
    *ret_fd = fd;
    return 0;
}
