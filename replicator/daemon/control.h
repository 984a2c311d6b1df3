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
#include "replicator/daemon/rpo.h"

enum {
    HK_CLIENTS_MAX = 32,
    HK_PEER_RETRY_MS = 500,
    HK_REQUEST_TIMEOUT_MS = 600000,
    HK_FENCE_TIMEOUT_MS = 30000,
    HK_COUNT_MS = 1000,    /* how often refused input, rates and states are looked at */
    HK_READING_MS = 10000, /* a local client says what it wants within that time */
    HK_REPEAT_MS = 600000, /* a refusal that repeats is said again after that time */
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

/* The fence hook of a failover under way. */
struct hk_fence {
    int pid; /* 0: none runs; also its process group */
    uint64_t deadline_ns;
    uint64_t op_id;
};

/* A changing verb from its start entry to its end entry; its client may go away meanwhile. */
struct hk_order {
    uint64_t op_id; /* 0: free */
    enum hk_verb_kind kind;
    uint64_t rate_bytes_s; /* THROTTLE */
    bool or_pin;           /* FREEZE */
    uint64_t wait_ns;
    uint32_t volume; /* RESIZE */
    uint64_t bytes;
    bool yes;
    char verb[16], name[HK_NAME_BYTES], change[HK_NAME_BYTES];
};

/* Positions a moment ago, for the rates, and since when the verdict has been what it is. */
struct hk_watch {
    uint64_t mono_ns, since_ns; /* since_ns: realtime */
    struct hk_watermarks mark;
    bool known;
    uint64_t produced_s, acked_s, durable_s, applied_s; /* bytes of log a second */
    char verdict[40];
};

/* A refusal that repeats with every attempt to connect: said once, then counted. */
struct hk_repeat {
    uint64_t reason, detail[2];
    uint64_t said_ns; /* monotonic; 0: none */
    uint64_t count;
};

struct hk_control {
    const struct hk_group_conf *conf;
    const struct hk_local_conf *local;
    struct hk_node *node;
    struct hk_events *events;
    struct hk_rpo *rpo; /* NULL: its files can't be used */
    int epoll, listener, peer_listener, signals;
    struct hk_client client[HK_CLIENTS_MAX];
    /* the other site */
    int peer; /* -1: none */
    bool peer_connecting;
    uint64_t peer_retry_ns;
    bool owe_up, owe_down, owe_stop; /* the node has not been told yet */
    struct hk_rpc_in peer_in;
    uint8_t peer_out[1 << 18];
    size_t peer_out_bytes;
    uint64_t torn_bytes; /* of this life's recovery: torn or corrupt, can't tell */
    uint64_t count_ns;   /* monotonic: next look at the counters */
    uint64_t rpo_ns;     /* monotonic: next look at what would be lost */
    uint64_t bad_said[HK_FRAME_FAULTS];
    uint64_t peer_bad;  /* control messages refused */
    uint64_t local_bad; /* local requests refused */
    uint64_t strangers;
    uint64_t stranger_ns; /* monotonic: when the last one was said */
    struct hk_repeat refusal;
    struct hk_watch watch;
    /* What was asked of the node: its own to fill while `asked`. Whoever wants to know something of
     * the status at any other moment (a notice, an answer) looks at the last one that arrived. */
    bool asked;
    struct hk_node_status asked_status;
    struct hk_node_status status;
    struct hk_capture_view capture; /* last told */
    struct hk_fence fence;
    struct hk_order order[HK_CLIENTS_MAX];
    uint64_t next_op;
    bool stop, fatal;
    int exit_code;
};

/* Opens sockets; 0 or 1 with text. */
int hk_control_open(struct hk_control *c, char error[HK_CONFIG_ERROR_BYTES]);
/* Runs until SIGTERM, SIGINT or a fatal error of the node; returns the exit code. */
int hk_control_run(struct hk_control *c);
void hk_control_close(struct hk_control *c);

enum hk_verb_exit {
    HK_VERB_EXIT_DONE = 0,
    HK_VERB_EXIT_FAILED,
    HK_VERB_EXIT_REFUSED,
    HK_VERB_EXIT_APPROVAL,
    HK_VERB_EXIT_UNKNOWN,
};

/* verbs.c: a request whose status has arrived. Replies at once, or leaves the client waiting. */
void hk_verbs_handle(struct hk_control *c, struct hk_client *client);
void hk_verbs_done(struct hk_control *c, const struct hk_action *a);
void hk_verb_say(struct hk_control *c, struct hk_client *client, int exit_code, const char *fmt,
                 ...) __attribute__((format(printf, 4, 5)));
/* --plan was asked for, or --plan-id does not hold: the client has its answer. */
bool hk_verb_plan(struct hk_control *c, struct hk_client *client, const char *effects);
/* Orders: begin (start entry; NULL: the client has been told why not), post, end (end entry). */
struct hk_order *hk_order_begin(struct hk_control *c, struct hk_client *client,
                                enum hk_verb_kind kind);
void hk_order_post(struct hk_control *c, struct hk_order *o, enum hk_verb_fence fence);
void hk_order_end(struct hk_control *c, struct hk_order *o, uint64_t lsn, const char *why);
struct hk_order *hk_order_of(struct hk_control *c, uint64_t op_id);
struct hk_client *hk_order_client(struct hk_control *c, uint64_t op_id); /* who waits, or NULL */
bool hk_order_failover(const struct hk_control *c);                      /* one is under way */

/* failover.c */
void hk_verb_failover(struct hk_control *c, struct hk_client *client);
void hk_verbs_fence_poll(struct hk_control *c);
/* arg as in VERB_DONE. */
void hk_failover_reply(const struct hk_control *c, const uint64_t arg[4], Hk__Pb__Reply *ret);
/* control.c: packs and sends; the client is closed after the last byte. fd may be -1. */
void hk_control_reply(struct hk_control *c, struct hk_client *client, const Hk__Pb__Reply *reply,
                      int fd);
/* false: the node's queue is full. */
bool hk_control_post_verb(struct hk_control *c, const struct hk_verb *verb);

uint64_t hk_report_volume_bytes(const struct hk_control *c, uint32_t i);
/* report.c: the status message from what the node said. Strings live in *s or are constants. */
struct hk_status_text {
    Hk__Pb__Status m;
    char text[8192];
    size_t used;
    char *list[64];
    size_t list_used;
    Hk__Pb__Resync resync;
    Hk__Pb__PathStatus path[HK_PATHS_MAX];
    Hk__Pb__PathStatus *path_ptr[HK_PATHS_MAX];
    uint64_t bad[HK_PATHS_MAX][HK_FRAME_FAULTS];
    Hk__Pb__VolumeStatus volume[HK_VOLUMES_MAX];
    Hk__Pb__VolumeStatus *volume_ptr[HK_VOLUMES_MAX];
};
void hk_report_status(struct hk_control *c, struct hk_status_text *s);
/* Takes notice of rates and of a changed verdict; after every status that arrived. */
void hk_report_watch(struct hk_control *c);
/* advice.c: CAUSE, NEXT and DO, whenever it is not green. */
void hk_advice(struct hk_control *c, struct hk_status_text *s);
/* Helpers of both: a string that lives in *s ("" when its room is used up), a list being built. */
char *hk_report_keep(struct hk_status_text *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void hk_report_list(struct hk_status_text *s, char *text);
/* Realtime since when the application's writes wait for the standby by policy; 0: they do not. */
uint64_t hk_report_stopped_since(const struct hk_control *c);
/* Realtime since when the other site is silent; 0: it is not, or was never heard. */
uint64_t hk_report_contact_lost(const struct hk_control *c);
/* What failover could state with the fence that is configured here (I18: never more). */
enum hk_loss_class hk_report_class(const struct hk_control *c);
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
