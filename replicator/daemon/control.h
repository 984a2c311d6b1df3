/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread: local operator connections, the connection to the other site, timers, the
 * event log. Everything here may allocate and wait; the reactor never waits for it.
 */
#ifndef HK_DAEMON_CONTROL_H
#define HK_DAEMON_CONTROL_H

#include "replicator/daemon/events.h"
#include "replicator/daemon/node.h"
#include "replicator/daemon/rpc/rpc.h"

enum {
    HK_CLIENTS_MAX = 32,
    HK_PEER_RETRY_MS = 500,
    HK_REQUEST_TIMEOUT_MS = 600000,
    HK_FENCE_TIMEOUT_MS = 30000,
    HK_COUNT_MS = 5000, /* how often refused input is looked at */
};

/* One operator connection: one request, one reply, then it is closed. */
struct hk_client {
    int fd; /* -1: free */
    uint32_t uid;
    uint64_t since_ns;
    enum { HK_CLIENT_READING = 0, HK_CLIENT_ASKING, HK_CLIENT_WAITING, HK_CLIENT_REPLYING } stage;
    Hk__Pb__Request *request;
    uint64_t op_id; /* of the verb it waits for */
    struct hk_rpc_in in;
    uint8_t *out;
    size_t out_bytes, out_sent;
    int pass_fd; /* descriptor to send with the first byte, or -1 */
};

struct hk_fence {
    int pid; /* 0: none runs */
    uint64_t deadline_ns;
    uint32_t client;
};

struct hk_control {
    const struct hk_group_conf *conf;
    const struct hk_local_conf *local;
    struct hk_node *node;
    struct hk_events *events;
    int epoll, listener, peer_listener, signals;
    struct hk_client client[HK_CLIENTS_MAX];
    /* the other site */
    int peer; /* -1: none */
    bool peer_connecting;
    uint64_t peer_retry_ns;
    struct hk_rpc_in peer_in;
    uint8_t peer_out[1 << 18];
    size_t peer_out_bytes;
    uint64_t count_ns; /* monotonic: next look at the counters */
    uint64_t bad_said[HK_FRAME_FAULTS];
    uint64_t peer_bad; /* control messages refused */
    /* status asked of the node */
    bool asked;
    struct hk_node_status status;
    struct hk_capture_view capture; /* last told */
    struct hk_fence fence;
    uint64_t next_op;
    bool stop, fatal;
    int exit_code;
};

/* Opens sockets; 0 or 1 with text. */
int hk_control_open(struct hk_control *c, char error[HK_CONFIG_ERROR_BYTES]);
/* Runs until SIGTERM, SIGINT or a fatal error of the node; returns the exit code. */
int hk_control_run(struct hk_control *c);
void hk_control_close(struct hk_control *c);

/* verbs.c: a request whose status has arrived. Replies at once, or leaves the client waiting. */
void hk_verbs_handle(struct hk_control *c, struct hk_client *client);
void hk_verbs_done(struct hk_control *c, const struct hk_action *a);
void hk_verbs_fence_poll(struct hk_control *c);
/* control.c: packs and sends; the client is closed after the last byte. fd may be -1. */
void hk_control_reply(struct hk_control *c, struct hk_client *client, const Hk__Pb__Reply *reply,
                      int fd);
/* false: the node's queue is full. */
bool hk_control_post_verb(struct hk_control *c, const struct hk_verb *verb);

/* report.c: the status message from what the node said. Strings live in *s or are constants. */
struct hk_status_text {
    Hk__Pb__Status m;
    char text[4096];
    size_t used;
    char *list[64];
    size_t list_used;
    Hk__Pb__PathStatus path[HK_PATHS_MAX];
    Hk__Pb__PathStatus *path_ptr[HK_PATHS_MAX];
    uint64_t bad[HK_PATHS_MAX][HK_FRAME_FAULTS];
    Hk__Pb__VolumeStatus volume[HK_VOLUMES_MAX];
    Hk__Pb__VolumeStatus *volume_ptr[HK_VOLUMES_MAX];
};
void hk_report_status(struct hk_control *c, struct hk_status_text *s);
/* The state a person should read, from both the group's and the capture side's view. */
const char *hk_report_state(const struct hk_control *c);

/* notices.c: what the pure side noticed, as a numbered event with a message id. */
void hk_notice_event(struct hk_control *c, const struct hk_from_node *m);
/* Refused frames since the last look, one message a kind: from c->status. */
void hk_notice_bad_frames(struct hk_control *c);
/* The message id of a refusal (enum hk_refusal). */
const char *hk_notice_refusal_id(uint64_t reason);
void hk_notice_capture(struct hk_control *c, const struct hk_capture_view *before,
                       const struct hk_capture_view *after);
/* Adds an event; id is a message id, the rest a format of its parameters. */
void hk_notice_add(struct hk_control *c, const char *id, uint32_t epoch, uint64_t lsn,
                   uint64_t op_id, const char *change, const char *fmt, ...)
    __attribute__((format(printf, 7, 8)));

#endif
