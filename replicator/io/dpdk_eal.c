/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/dpdk_eal.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum mode { MODE_OFF = 0, MODE_VIRTUAL, MODE_PCI, MODE_BROKEN };

static enum mode mode;

bool hk_dpdk_is_pci(const char *device)
{
    const char *p = device;
    int digits[4] = {0};

    for (int field = 0; field < 4; field++) {
        while (isxdigit((unsigned char)*p)) {
            digits[field]++;
            p++;
        }
        if (field < 3 && *p++ != (field < 2 ? ':' : '.'))
            return false;
    }
    return *p == '\0' && digits[0] == 4 && digits[1] == 2 && digits[2] == 2 && digits[3] == 1;
}

static int first_cpu(const cpu_set_t *cpus)
{
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((size_t)i, cpus))
            return i;
    return 0;
}

static int init(const char *pci, int cpu)
{
    char cpu_text[16], memory[16], prefix[48], name[] = "hikae", log[] = "--log-level=*:error";
    char l[] = "-l", m[] = "-m", a[] = "-a", va[] = "--iova-mode=va", tm[] = "--no-telemetry";
    char no_huge[] = "--no-huge", no_pci[] = "--no-pci", no_shconf[] = "--no-shconf";
    char in_memory[] = "--in-memory", device[32];
    char *virtual_args[] = {name,      l,       cpu_text, log, va,     tm,  prefix,
                            no_shconf, no_huge, no_pci,   m,   memory, NULL};
    char *pci_args[] = {name, l, cpu_text, log, va, tm, prefix, in_memory, a, device, NULL};

    snprintf(cpu_text, sizeof(cpu_text), "%d", cpu);
    snprintf(memory, sizeof(memory), "%d", HK_DPDK_MEMORY_MIB);
    snprintf(prefix, sizeof(prefix), "--file-prefix=hikae-%d", (int)getpid());
    snprintf(device, sizeof(device), "%s", pci != NULL ? pci : "");
    return pci != NULL ? rte_eal_init(HK_ARRAY_SIZE(pci_args) - 1, pci_args)
                       : rte_eal_init(HK_ARRAY_SIZE(virtual_args) - 1, virtual_args);
}

int hk_dpdk_start(const char *pci, struct hk_io_error *err)
{
    enum mode wanted = pci != NULL ? MODE_PCI : MODE_VIRTUAL;
    cpu_set_t before;
    int ret, e;

    if (mode == wanted)
        return 0;
    if (mode == MODE_BROKEN)
        return hk_io_fail(err, -EIO, "DPDK failed to start before: restart the process");
    if (mode != MODE_OFF)
        return hk_io_fail(err, -ENOTSUP,
                          "links on PCI devices and on kernel interfaces cannot be "
                          "mixed in one process");
    if (pthread_getaffinity_np(pthread_self(), sizeof(before), &before) != 0)
        CPU_ZERO(&before);
    ret = init(pci, first_cpu(&before));
    e = rte_errno;
    if (CPU_COUNT(&before) > 0)
        (void)pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
    if (ret < 0) {
        mode = MODE_BROKEN;
        return hk_io_fail(err, e > 0 ? -e : -EIO, "DPDK cannot start (rte_eal_init): %s%s",
                          rte_strerror(e),
                          pci != NULL ? "; are huge pages reserved and is the device bound to "
                                        "vfio-pci?"
                                      : "");
    }
    mode = wanted;
    return 0;
}

static int find_port(const char *name, uint16_t *ret_port)
{
    return rte_eth_dev_get_port_by_name(name, ret_port);
}

int hk_dpdk_attach(const char *device, uint16_t *ret_port, struct hk_io_error *err)
{
    const char *args = strchr(device, ',');
    char name[64];
    int ret;

    snprintf(name, sizeof(name), "%.*s", args != NULL ? (int)(args - device) : 63, device);
    ret = rte_eal_hotplug_add(hk_dpdk_is_pci(name) ? "pci" : "vdev", name,
                              args != NULL ? args + 1 : "");
    /* A PCI device named at start is there already. */
    if (ret < 0 && ret != -EEXIST)
        return hk_io_fail(err, ret == -EPERM || ret == -EACCES || ret == -ENOMEM ? ret : -ENODEV,
                          "DPDK does not take the device \"%s\"; check that it exists, that "
                          "CAP_NET_RAW and CAP_NET_ADMIN are held, and that RLIMIT_MEMLOCK has "
                          "room for its rings",
                          device);
    if (find_port(name, ret_port) != 0)
        return hk_io_fail(err, -ENODEV, "the device \"%s\" is no network port", device);
    return 0;
}

void hk_dpdk_detach(uint16_t port)
{
    struct rte_eth_dev_info info;
    struct rte_device *device = NULL;

    if (rte_eth_dev_info_get(port, &info) == 0)
        device = info.device;
    (void)rte_eth_dev_close(port);
    if (device != NULL)
        (void)rte_dev_remove(device);
}
