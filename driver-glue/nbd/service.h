/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread that serves the replicator over a SEQPACKET socket (uapi/capture_ipc.h) and moves the
 * core's time. A newcomer with a right to it takes the lease; the one before is cut off.
 */
#ifndef HK_NBD_SERVICE_H
#define HK_NBD_SERVICE_H

#include "driver-glue/nbd/engine.h"

/* Binds the socket (before the fork, so that errors are seen). Says why not and returns -1. */
int hk_service_open(struct hk_engine *e, struct hk_service **ret_service);
int hk_service_start(struct hk_service *s);
/* Ends the thread and cuts everybody off. */
void hk_service_stop(struct hk_service *s);
void hk_service_free(struct hk_service *s);

#endif
