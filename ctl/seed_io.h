/* SPDX-License-Identifier: Apache-2.0 */
/* What export and import of a seed share: files, progress, the superblock. One thread. */
#ifndef HK_CTL_SEED_IO_H
#define HK_CTL_SEED_IO_H

#include <time.h>

#include "ctl/ctl.h"
#include "ctl/metadata.h"
#include "ctl/seed.h"

struct hk_super;

/* The manifest, or the beginning of one; 0, or the exit code after saying what is wrong. */
int hk_seed_read(const char *dir, const char *file, bool partial, struct hk_seed *ret_seed,
                 struct hk_seed_fault *fault);
/* A file for writing from the beginning; NULL: errno. */
FILE *hk_seed_create(int dir_fd, const char *file);
int hk_seed_close(FILE *f); /* flushed to the medium; 0 or -1 */
int hk_seed_cut(int dir_fd, const char *file, uint64_t bytes);
/* A volume's image, origin or replica: O_DIRECT if there is such a thing; exclusive: nobody else
 * may hold it. -1: errno. */
int hk_seed_open(const char *path, int flags, bool exclusive);
/* Whole pieces; what O_DIRECT can't take at the end goes through the cache. 0 or -1 with errno. */
int hk_seed_read_at(int fd, void *data, uint64_t bytes, uint64_t offset);
int hk_seed_write_at(int fd, const void *data, uint64_t bytes, uint64_t offset);
void hk_seed_progress(const struct hk_options *o, const struct timespec *begun, const char *what,
                      uint64_t done, uint64_t before, const struct hk_seed *s);
/* The newest superblock of a metadata file; ret_fd: it stays open, flocked. 0 or the exit code. */
int hk_seed_super(const struct hk_metadata_place *p, int flags, int *ret_fd, struct hk_super *ret);

int hk_seed_export(const struct hk_options *o, const char *dir);
int hk_seed_import(const struct hk_options *o, const char *dir);

#endif
