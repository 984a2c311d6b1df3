/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration of one group: group.conf (identical at both sites, its hash is compared in the
 * handshake) and site.conf (local). Read once at start with libconfig; every error names file,
 * line, key, what was found and what was expected (HKE1xxx). Pure data afterwards, owned by main.
 */
#ifndef HK_DAEMON_CONFIG_H
#define HK_DAEMON_CONFIG_H

#include <limits.h>

#include "proto/limits.h"
#include "proto/record.h"
#include "proto/state.h"

enum { HK_CONFIG_SITES_MAX = 2, HK_ADDRESS_BYTES = 64, HK_CONFIG_ERROR_BYTES = 1024 };

struct hk_site_conf {
    char name[HK_NAME_BYTES];
    struct hk_uuid id;
    char control[HK_ADDRESS_BYTES]; /* "address:port" of the control connection */
    uint32_t path_count;
    char path[HK_PATHS_MAX][HK_ADDRESS_BYTES]; /* "address:port" of the data plane */
};

struct hk_volume_conf {
    char name[HK_NAME_BYTES];
    uint64_t bytes;     /* when the group is created */
    uint64_t max_bytes; /* it may grow to so many; 0: not at all */
};

struct hk_group_conf {
    char name[HK_NAME_BYTES];
    struct hk_uuid id;
    enum hk_mode mode;
    enum hk_link_loss on_link_loss;
    enum hk_overflow on_overflow;
    uint64_t contact_timeout_ns, pace_bound_ns;
    uint32_t region_shift; /* of the dirty map that create-md makes; 0: none */
    bool lab_unencrypted;
    uint32_t volume_count;
    struct hk_volume_conf volume[HK_VOLUMES_MAX];
    uint32_t site_count;
    struct hk_site_conf site[HK_CONFIG_SITES_MAX];
    uint64_t hash; /* of the parsed meaning, so that comments and spacing don't matter */
};

enum hk_conf_backend { HK_BACKEND_UDP = 1, HK_BACKEND_DPDK = 2 };

struct hk_local_conf {
    char site[HK_NAME_BYTES];
    uint32_t site_index, peer_index; /* into group.site */
    struct hk_uuid host_id;
    bool primary;             /* the role at first start */
    char socket[108];         /* local control socket */
    char state_dir[PATH_MAX]; /* events and evidence */
    uint32_t volume_count;
    struct {
        char socket[108], ring[PATH_MAX], metadata[PATH_MAX];
        uint32_t ring_slots;
        uint64_t ring_payload;
        int64_t reader_uid;
        char origin[HK_VOLUMES_MAX][PATH_MAX]; /* by the group's volume index; "" none */
        bool present;
    } capture;
    struct {
        char metadata[PATH_MAX], journal[PATH_MAX], primary_metadata[PATH_MAX];
        char snapshots[PATH_MAX]; /* directory of before-images; "": in the journal's */
        uint64_t snapshot_bytes;  /* of before-images, at most; 0: what the disk gives */
        uint64_t journal_bytes, segment_bytes, window_bytes, apply_bytes, apply_lag_bytes;
        char replica[HK_VOLUMES_MAX][PATH_MAX];
        bool present;
    } standby;
    struct {
        char directory[PATH_MAX];
        uint32_t segments;
        uint64_t segment_bytes;
        bool present;
    } spool;
    struct {
        enum hk_conf_backend backend;
        char interface[HK_PATHS_MAX][HK_NAME_BYTES];
        uint32_t interface_count;
        uint32_t mtu;
        uint32_t dpdk_memory_mib;
        uint64_t rate_max_bytes_s;
        uint32_t loss_ppm, dup_ppm, reorder_ppm, corrupt_ppm;
        uint64_t impair_seed;
    } link;
    char fence_command[PATH_MAX];
};

/*
 * Read one file each. 0, or the exit code 1 with the whole human text (id, file, line, key, what
 * was expected, what to do) in error. Outputs are untouched on failure.
 */
int hk_group_conf_read(const char *path, struct hk_group_conf *ret_conf,
                       char error[HK_CONFIG_ERROR_BYTES]);
int hk_local_conf_read(const char *path, const struct hk_group_conf *group,
                       struct hk_local_conf *ret_conf, char error[HK_CONFIG_ERROR_BYTES]);
/* "10.0.0.1:7700" → address text and port; -EINVAL. */
int hk_address_split(const char *text, char *ret_host, size_t host_bytes, uint16_t *ret_port);

#endif
