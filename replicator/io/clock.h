/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clocks of the machine, read once per turn of a reactor and handed down as an argument.
 * Any thread. Through the vDSO: no system call on the machines we run on.
 */
#ifndef HK_IO_CLOCK_H
#define HK_IO_CLOCK_H

#include "proto/base.h"

struct hk_now; /* proto/state.h */

void hk_clock_now(struct hk_now *ret_now);
uint64_t hk_clock_mono_ns(void);

#endif
