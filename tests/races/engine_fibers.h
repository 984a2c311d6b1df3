/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HK_RACES_ENGINE_FIBERS_H
#define HK_RACES_ENGINE_FIBERS_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

struct epoll_event;
struct iovec;
struct timespec;

/* How often each named step was passed (enum hk_at). */
extern uint64_t steps_at[];
/* Nobody waits for a condition: before a new row of fibers. */
void engine_fibers_reset(void);

/* The linker's names. */
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*body)(void *),
                          void *arg);
int __wrap_pthread_join(pthread_t t, void **ret);
int __wrap_pthread_timedjoin_np(pthread_t t, void **ret, const struct timespec *until);
int __wrap_pthread_setname_np(pthread_t t, const char *name);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *until);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_nanosleep(const struct timespec *pause, struct timespec *ret_left);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);
int __real_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);
void *__wrap_memcpy(void *to, const void *from, size_t bytes);
void *__real_memcpy(void *to, const void *from, size_t bytes);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes);
int __real_fallocate64(int fd, int mode, off_t offset, off_t bytes);

#endif
