/* SPDX-License-Identifier: Apache-2.0 */
/* What node.c and its two halves share. Reactor thread only. */
#ifndef HK_DAEMON_NODE_PRIVATE_H
#define HK_DAEMON_NODE_PRIVATE_H

#include "replicator/daemon/node.h"
#include "replicator/io/clock.h"
#include "replicator/io/hasher.h"
#include "replicator/io/link.h"
#include "replicator/io/memory.h"
#include "replicator/io/reactor.h"
#include "replicator/io/uring_disk.h"

struct hk_node_primary;

enum { HK_NODE_IOV_MAX = 1024, HK_NODE_LINK_BUDGET = 64, HK_NODE_ACTIONS_MAX = 512 };
enum { HK_NODE_SPOOL_WINDOW_BYTES = 16 << 20 }; /* the writer's half and the sender's */
enum { HK_NODE_OUT_SLOTS = 256, HK_NODE_OUT_RESERVE = 64 };

struct hk_node {
    const struct hk_group_conf *conf;
    const struct hk_local_conf *local;
    struct hk_reactor *reactor;
    struct hk_poller poller;
    struct hk_link *link[HK_PATHS_MAX];
    bool link_up[HK_PATHS_MAX];
    uint32_t path_count;
    struct hk_uring_disk *disk;      /* standby's; primary's: of the spool, NULL without one */
    struct hk_hasher *hasher;        /* of origins or replicas, for the compare of a resync */
    struct hk_node_primary *primary; /* primary */
    struct hk_capture_view capture;
    struct hk_arena arena, window;
    struct hk_group_cfg cfg;
    struct hk_group *group;
    struct hk_queue in, out;
    int out_fd;
    bool stopping, failed;
    struct hk_action action; /* too large for the stack of every turn */
    struct hk_event event;
    struct hk_iovec iov[HK_NODE_IOV_MAX];
};

/* Gives an event to the group, with the turn's clock. */
void hk_node_event(struct hk_node *n, const struct hk_event *e);
/* Space in the queue to the control thread. NULL: full; only what the control thread can ask again,
 * and notices, may then be dropped. */
struct hk_from_node *hk_node_tell(struct hk_node *n, enum hk_from_node_kind kind);
void hk_node_told(struct hk_node *n);

/* Standby: memory, files, window. 0 or 1 with error text. */
int hk_node_standby_open(struct hk_node *n, char error[HK_CONFIG_ERROR_BYTES]);
/* Promoted: the replicas and the primary's metadata belong to this site's capture side now. */
void hk_node_standby_let_go(struct hk_node *n);

/* Primary: the spool's files and window, if it is configured. 0 or 1 with error text. */
int hk_node_spool_open(struct hk_node *n, char error[HK_CONFIG_ERROR_BYTES]);

/* Primary: the capture client and ring reader. */
int hk_node_primary_open(struct hk_node *n, char error[HK_CONFIG_ERROR_BYTES]);
void hk_node_primary_free(struct hk_node *n);
uint32_t hk_node_primary_poll(struct hk_node *n, const struct hk_now *now);
/* REPORT, INSERT, BIND_PEER and whatever else the capture side is asked for. */
void hk_node_primary_action(struct hk_node *n, const struct hk_action *a);
/* The origin to be compared: a descriptor, or -errno. */
int hk_node_primary_origin(struct hk_node *n, uint32_t volume);
/* Pieces of a DATA frame; number or -errno. */
int hk_node_primary_gather(struct hk_node *n, struct hk_lsn lsn, uint32_t bytes);
bool hk_node_primary_before_sleep(struct hk_node *n);
void hk_node_primary_after_sleep(struct hk_node *n);
uint64_t hk_node_primary_deadline_ns(const struct hk_node *n);
/* The figures of a status that only the primary measures. */
void hk_node_primary_status(const struct hk_node *n, struct hk_node_status *s);

#endif
