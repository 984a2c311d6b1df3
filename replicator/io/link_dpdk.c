/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/io/link_backend.h"
#include <errno.h>
int hk_link_dpdk_create(const struct hk_link_cfg *cfg, struct hk_link **ret_link,
                        struct hk_io_error *err)
{
    return hk_io_fail(err, -ENOTSUP, "this build has no DPDK link");
}
