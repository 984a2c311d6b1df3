/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the plugin's objects that the linker leads past us (-Wl,--wrap). The names with 64 are
 * what the headers make of pwrite, pwritev2 and fallocate.
 */
#ifndef HK_RACES_WRAPS_H
#define HK_RACES_WRAPS_H

#include <stddef.h>
#include <sys/types.h>

#include "driver-glue/capture/capture.h"

struct iovec;

void *__wrap_memcpy(void *to, const void *from, size_t bytes);
void *__real_memcpy(void *to, const void *from, size_t bytes);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes);
int __real_fallocate64(int fd, int mode, off_t offset, off_t bytes);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __real_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
int __wrap_hk_capture_init(struct hk_capture *c, const struct hk_capture_cfg *cfg, void *ring,
                           enum hk_start start, const struct hk_super *super,
                           const struct hk_now *now);
int __real_hk_capture_init(struct hk_capture *c, const struct hk_capture_cfg *cfg, void *ring,
                           enum hk_start start, const struct hk_super *super,
                           const struct hk_now *now);

#endif
