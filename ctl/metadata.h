/* SPDX-License-Identifier: Apache-2.0 */
/* Where a site's metadata is, and making it. A file, a device, or the end of the first origin. */
#ifndef HK_CTL_METADATA_H
#define HK_CTL_METADATA_H

#include <stdbool.h>
#include <stdint.h>

struct hk_local_conf;
struct hk_super;

struct hk_metadata_place {
    const char *path;
    bool at_end; /* of the origin `path` */
};

/* The primary's, as site.conf says. */
void hk_metadata_place(const struct hk_local_conf *l, struct hk_metadata_place *ret);
/* Offset of the two slots. */
uint64_t hk_metadata_slots_at(int fd, bool at_end);
/* Is there metadata already? A file that exists may be, a device only if it is not blank, the end
 * of an origin only if a slot is whole. */
bool hk_metadata_there(const struct hk_metadata_place *p);
/* New metadata, whole and flushed: 0 or the exit code. */
int hk_metadata_write(const struct hk_metadata_place *p, struct hk_super *super, bool force);

/* In the present version, both slots; with region_shift a map, clean or (FULL_COMPARE) all stale.
 * 0 or the exit code. */
int hk_metadata_rewrite(const struct hk_metadata_place *p, int fd, struct hk_super *super);

/* May its last `bytes` be taken? 0, or the exit code after saying who needs them. */
int hk_metadata_end_judge(const struct hk_metadata_place *p, int fd, const struct hk_super *s,
                          uint64_t bytes, bool force);
/* As in a file of its own; the caller frees. 0 or -errno. */
int hk_metadata_end_load(const char *path, uint8_t **ret_bytes, uint64_t *ret_size);

#endif
