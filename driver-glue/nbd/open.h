/* SPDX-License-Identifier: Apache-2.0 */
/* Between engine.c and open.c. One thread, before the engine has threads and after they ended. */
#ifndef HK_NBD_OPEN_H
#define HK_NBD_OPEN_H

#include "driver-glue/nbd/engine.h"

/* Metadata, origins, ring, redo. Says why not and returns -1; let_go cleans up in any case. */
int hk_engine_take_hold(struct hk_engine *e);
void hk_engine_let_go(struct hk_engine *e);
/* Writes one superblock slot durably. 0 or -errno. */
int hk_engine_write_meta(const struct hk_engine *e, const struct hk_capture_meta *m);

#endif
