/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Block records: what the origin holds, read under the range lock, for one that may differ. */
#include "driver-glue/capture/internal.h"

#include <errno.h>

enum hk_step hk_capture_read_done(struct hk_capture *c, struct hk_op *op, int result,
                                  const struct hk_now *now)
{
    (void)c;
    (void)result;
    (void)now;
    op->result = -ESHUTDOWN;
    return HK_FAIL;
}
