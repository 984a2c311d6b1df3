/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DPDK's environment, once per process, and ports made of device strings. With virtual devices it
 * runs without huge pages and keeps away from the PCI bus; with a PCI address it takes exactly
 * that device. Threads and memory of EAL's own are few: one lcore, no telemetry, no files.
 */
#ifndef HK_IO_DPDK_EAL_H
#define HK_IO_DPDK_EAL_H

#include "replicator/io/error.h"

enum { HK_DPDK_MEMORY_MIB = 256 }; /* virtual devices: all packet buffers of the process */

/*
 * pci: "0000:3b:00.0", or NULL for virtual devices only. Later calls only check that the mode is
 * the same (-ENOTSUP). Keeps the caller's CPU affinity, which EAL would change.
 */
int hk_dpdk_start(const char *pci, struct hk_io_error *err);

/* Attaches `device` ("net_af_packet0,iface=veth0,…" or a PCI address). -ENODEV, -EPERM. */
int hk_dpdk_attach(const char *device, uint16_t *ret_port, struct hk_io_error *err);
/* The port must be stopped. */
void hk_dpdk_detach(uint16_t port);

bool hk_dpdk_is_pci(const char *device);

#endif
