/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packet socket beside a DPDK af_packet port, whose driver cannot wake anybody: it becomes
 * readable when a packet for us arrives, so that the reactor may sleep. It holds one packet at
 * most: while the reactor is awake nobody drains it, and what else arrives is dropped at once,
 * without a copy. Draining it is how one falls asleep: rung since the last time means look again.
 *
 * And the guard: a kernel UDP socket that takes everything sent to our address and port and
 * throws it away. With an address shared with the kernel, it keeps the kernel from answering "port
 * unreachable", and anybody else from using the port.
 */
#ifndef HK_IO_DOORBELL_H
#define HK_IO_DOORBELL_H

#include "replicator/io/error.h"

/*
 * Rings for ARP and for IPv4 to `ip` (network order). Open it before the port: the kernel delivers
 * to the newest socket first, so that the port has a packet before the bell rings. -EPERM and
 * what else socket() knows.
 */
int hk_doorbell_open(int if_index, uint32_t ip, int *ret_fd, struct hk_io_error *err);
/* true: it rang since the last call. */
bool hk_doorbell_drain(int fd);

int hk_port_guard_open(uint32_t ip, uint16_t port, int *ret_fd, struct hk_io_error *err);

#endif
