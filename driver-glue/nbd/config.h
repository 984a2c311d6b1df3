/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the plugin needs of group.conf and site.conf; everything else in them is the daemon's and is
 * checked by `hikae check-config`. Read once, then constant.
 */
#ifndef HK_NBD_CONFIG_H
#define HK_NBD_CONFIG_H

#include <limits.h>

#include "driver-glue/capture/capture.h"

enum { HK_NBD_TEXT_BYTES = 1024, HK_NBD_SOCKET_BYTES = 108 };

struct hk_nbd_volume {
    char name[HK_NAME_BYTES];
    uint64_t bytes;     /* as the metadata say, once they were read */
    uint64_t max_bytes; /* 0: it never grows */
    char origin[PATH_MAX];
};

struct hk_nbd_conf {
    char group_name[HK_NAME_BYTES];
    struct hk_uuid group_id;
    enum hk_mode mode;
    enum hk_link_loss on_link_loss;
    enum hk_overflow on_overflow;
    uint64_t contact_timeout_ns, pace_bound_ns;
    uint32_t volume_count;
    struct hk_nbd_volume volume[HK_VOLUMES_MAX];
    char socket[HK_NBD_SOCKET_BYTES];
    char ring[PATH_MAX], metadata[PATH_MAX];
    uint32_t ring_slots;
    uint64_t ring_payload_bytes;
    uint32_t reader_uid;
};

/* 0, or -1 with the whole text for a person in ret_text. */
int hk_nbd_conf_read(const char *group_path, const char *site_path, struct hk_nbd_conf *ret_conf,
                     char ret_text[HK_NBD_TEXT_BYTES]);

#endif
