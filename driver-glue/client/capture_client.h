/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicator's connection to the capture side: attach lease, mapped ring, reports, inserted
 * marks, wake-ups. It never blocks: connecting, sending and receiving are tried, and tried again
 * with back-off when hk_capture_client_poll() is called at or after
 * hk_capture_client_deadline_ns(), or when the file descriptor becomes readable.
 *
 * The capture side may die and come back: the ring's mapping and the reader stay usable meanwhile,
 * and if it comes back with the same ring nothing is lost. With another ring the event is
 * RING_LOST, and the old mapping goes away at the next call of poll.
 *
 * One thread owns a client.
 */
#ifndef HK_CLIENT_CAPTURE_CLIENT_H
#define HK_CLIENT_CAPTURE_CLIENT_H

#include "driver-glue/client/ring_reader.h"
#include "driver-glue/uapi/capture_ipc.h"

struct hk_capture_client;

enum hk_client_event {
    HK_CLIENT_NONE = 0,
    HK_CLIENT_ATTACHED,  /* message: ATTACHED; the reader is at the ring's oldest record */
    HK_CLIENT_RING_LOST, /* as ATTACHED, but it is another ring than the one before */
    HK_CLIENT_DETACHED,  /* the capture side went, or took the lease away; message: none */
    HK_CLIENT_REFUSED,   /* message: REFUSED; retried with back-off */
    HK_CLIENT_STATE,     /* message: STATE */
    HK_CLIENT_INSERTED,  /* message: INSERTED */
    HK_CLIENT_EPOCH,     /* message: EPOCH; if it is a new one the reader is at its first record */
    HK_CLIENT_STALE,     /* message: STALE */
    HK_CLIENT_BLOCKED,   /* message: BLOCKED */
    HK_CLIENT_HEALED,    /* message: HEALED */
    HK_CLIENT_ALL_STALE, /* message: ALL_STALE */
    HK_CLIENT_RETURNED,  /* message: RETURNED, refused; else EPOCH tells of the new one */
    HK_CLIENT_RESIZED,   /* message: RESIZED, refused; else EPOCH tells of the new size */
    HK_CLIENT_STOP,      /* the capture side wants to stop: drain, then detach */
};

/* -ENOMEM, -EMFILE, -ENAMETOOLONG. */
int hk_capture_client_create(const char *socket_path, const struct hk_uuid *group_id,
                             struct hk_capture_client **ret_client);
/* Detaches in order if attached. Accepts NULL. */
void hk_capture_client_free(struct hk_capture_client *c);

/* Readable when poll has something to do; the same descriptor for the client's whole life. */
int hk_capture_client_fd(const struct hk_capture_client *c);
/* Monotonic ns at which poll wants to be called although nothing is readable. */
uint64_t hk_capture_client_deadline_ns(const struct hk_capture_client *c);

/*
 * One step. Call until it returns HK_CLIENT_NONE. ret_message (NULL: not wanted) stays valid until
 * the next call.
 */
enum hk_client_event hk_capture_client_poll(struct hk_capture_client *c, uint64_t now_mono_ns,
                                            const struct hk_cap_ipc **ret_message);

/* NULL until the first attach. */
struct hk_ring_reader *hk_capture_client_reader(struct hk_capture_client *c);
bool hk_capture_client_attached(const struct hk_capture_client *c);
uint64_t hk_capture_client_lease(const struct hk_capture_client *c);

/* The newest report wins; it is sent now or as soon as the socket takes it. -ENOTCONN. */
int hk_capture_client_report(struct hk_capture_client *c, struct hk_lsn released,
                             struct hk_lsn acked, struct hk_lsn durable, uint64_t contact_ns,
                             uint32_t standby_flags);
/* What the next reports say of the spool: does it take log, and [first, end) that is durable. */
void hk_capture_client_spool(struct hk_capture_client *c, bool room, struct hk_lsn first,
                             struct hk_lsn end);
/* Asks for a mark; the answer is HK_CLIENT_INSERTED with the same request. -ENOTCONN, -EAGAIN. */
int hk_capture_client_insert(struct hk_capture_client *c, uint64_t request,
                             const struct hk_mark *mark);
/* Binds the standby's replica id. -ENOTCONN, -EAGAIN. */
int hk_capture_client_bind_peer(struct hk_capture_client *c, const struct hk_uuid *replica_id);
/* The capture side looks at its copy of the record at lsn; its state tells. -ENOTCONN, -EAGAIN. */
int hk_capture_client_check_copy(struct hk_capture_client *c, struct hk_lsn lsn);
/* All of the closed epoch is with the standby, whose durable is parent_end. The answer is EPOCH, or
 * HK_CLIENT_RETURNED with an error. -ENOTCONN, -EAGAIN. */
int hk_capture_client_return(struct hk_capture_client *c, struct hk_lsn parent_end);
/* The answer is HK_CLIENT_STALE. -ENOTCONN, -EAGAIN. */
int hk_capture_client_stale_ask(struct hk_capture_client *c, uint16_t volume, uint64_t offset);
/* The answer is HK_CLIENT_BLOCKED with the same request. -ENOTCONN, -EAGAIN. */
int hk_capture_client_block(struct hk_capture_client *c, uint64_t request, uint16_t volume,
                            uint64_t offset, uint32_t bytes);
/* The answer is HK_CLIENT_HEALED with the same request. -ENOTCONN, -EAGAIN. */
int hk_capture_client_heal(struct hk_capture_client *c, uint64_t request, uint16_t volume,
                           uint64_t offset, uint64_t event, struct hk_lsn end);
/* The standby may differ anywhere and the log can't go on. The answer, when that is durable, is
 * HK_CLIENT_ALL_STALE. -ENOTCONN, -EAGAIN. */
int hk_capture_client_stale_all(struct hk_capture_client *c);
/* The standby has room for it: the volume grows. The answer is EPOCH, or HK_CLIENT_RESIZED with an
 * error. -ENOTCONN, -EAGAIN. */
int hk_capture_client_resize(struct hk_capture_client *c, uint16_t volume, uint64_t bytes);
/* Gives the lease back (after STOP, or at the end); poll then returns DETACHED, and reconnects
 * after the back-off unless `for_good`. */
void hk_capture_client_detach(struct hk_capture_client *c, bool for_good);

/*
 * Before sleeping on the descriptor: asks for a wake-up on the next publication, then looks again.
 * true: something was published meanwhile, do not sleep.
 */
bool hk_capture_client_arm(struct hk_capture_client *c);
void hk_capture_client_disarm(struct hk_capture_client *c);

#endif
