/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node: one group on this site, on its reactor thread. Owns the reactor, the links, the disks or
 * the capture client, and the struct hk_group; carries events to it and its actions out. Nothing
 * here decides about data. The control thread talks to it through two queues.
 */
#ifndef HK_DAEMON_NODE_H
#define HK_DAEMON_NODE_H

#include "driver-glue/uapi/capture_ipc.h"
#include "replicator/daemon/config/config.h"
#include "replicator/daemon/queue.h"
#include "replicator/group/group.h"

enum hk_to_node_kind {
    HK_TO_NODE_CONTROL_UP = 1,
    HK_TO_NODE_CONTROL,
    HK_TO_NODE_CONTROL_DOWN,
    HK_TO_NODE_VERB,
    HK_TO_NODE_STATUS, /* fill *status, answer HK_FROM_NODE_STATUS */
    HK_TO_NODE_STOP,
};

struct hk_capture_view { /* what the capture side said last */
    bool attached, ever;
    uint64_t lease;
    __typeof__(((struct hk_cap_ipc *)0)->state) state;
};

struct hk_node_status {
    struct hk_group_status group;
    struct hk_capture_view capture;
    uint64_t bad[HK_PATHS_MAX][HK_FRAME_FAULTS]; /* frames the link refused */
    uint64_t rx_foreign[HK_PATHS_MAX];
    char link_text[HK_PATHS_MAX][192];
    uint64_t acked_p50_ns, acked_p99_ns; /* primary: time to an acknowledgement; 0: none lately */
    uint64_t durable_p50_ns, durable_p99_ns;
    uint64_t now_real_ns, now_mono_ns;
};

struct hk_to_node {
    enum hk_to_node_kind kind;
    union {
        struct hk_ctl control;
        struct hk_verb verb;
        struct hk_node_status *status;
    };
};

enum hk_from_node_kind {
    HK_FROM_NODE_CONTROL = 1,
    HK_FROM_NODE_CONTROL_CLOSE,
    HK_FROM_NODE_NOTIFY,
    HK_FROM_NODE_VERB_DONE,
    HK_FROM_NODE_STATUS,
    HK_FROM_NODE_FATAL,
    HK_FROM_NODE_CAPTURE, /* the capture side came, went or changed state */
    HK_FROM_NODE_STOPPED,
};

struct hk_from_node {
    enum hk_from_node_kind kind;
    uint32_t epoch; /* ordinal and durable LSN at that time, for the event log */
    uint64_t lsn;
    union {
        struct hk_action action; /* CONTROL, NOTIFY, VERB_DONE, FATAL */
        struct hk_capture_view capture;
    };
};

struct hk_node;

/*
 * Opens everything (synchronously, with progress on stderr for long work). 0, or 1 with a human
 * text in error (id first).
 */
int hk_node_create(const struct hk_group_conf *group, const struct hk_local_conf *local,
                   struct hk_node **ret_node, char error[HK_CONFIG_ERROR_BYTES]);
void hk_node_free(struct hk_node *n);
/* The reactor thread's body; returns after HK_TO_NODE_STOP or a fatal error. */
void *hk_node_run(void *node);

/* Control thread only. */
struct hk_to_node *hk_node_space(struct hk_node *n); /* NULL: full */
void hk_node_post(struct hk_node *n);
struct hk_from_node *hk_node_peek(struct hk_node *n);
void hk_node_take(struct hk_node *n);
int hk_node_event_fd(const struct hk_node *n); /* readable when something can be taken */

#endif
