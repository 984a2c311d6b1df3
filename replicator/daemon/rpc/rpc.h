/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framing and codec of control messages. proto/SPEC.md §10: 4 bytes length, little endian, then one
 * protobuf message of at most HK_CONTROL_MESSAGE_MAX bytes. Unpacking uses a capped allocator: a
 * hostile message can't take more memory than HK_RPC_UNPACK_MAX. Any thread; no state of its own.
 */
#ifndef HK_DAEMON_RPC_H
#define HK_DAEMON_RPC_H

#include "control.pb-c.h"
#include "replicator/group/control.h"

enum { HK_RPC_UNPACK_MAX = 1 << 20, HK_RPC_LENGTH_BYTES = 4 };

/* A byte stream being cut into messages. */
struct hk_rpc_in {
    uint8_t buffer[HK_RPC_LENGTH_BYTES + HK_CONTROL_MESSAGE_MAX];
    size_t bytes;
};

enum hk_rpc_fault {
    HK_RPC_OK = 0,
    HK_RPC_MORE,      /* no whole message yet */
    HK_RPC_OVERSIZED, /* length above the maximum: the stream is lost, close it */
    HK_RPC_MALFORMED, /* not decodable, or a field missing, too long or out of range */
};

/* Where to read into and how much fits. */
uint8_t *hk_rpc_space(struct hk_rpc_in *in, size_t *ret_bytes);
/* The first whole message (not copied), HK_RPC_MORE or HK_RPC_OVERSIZED. */
enum hk_rpc_fault hk_rpc_peek(const struct hk_rpc_in *in, const uint8_t **ret_body,
                              size_t *ret_bytes);
void hk_rpc_drop(struct hk_rpc_in *in); /* the message peeked at */

/* hk_ctl → length + bytes in out; returns total bytes or -ENOSPC. */
int hk_rpc_ctl_encode(const struct hk_ctl *ctl, uint8_t *out, size_t max);
/* Body (without length). HK_RPC_OK or HK_RPC_MALFORMED; *ret_ctl is fully initialised on success.
 */
enum hk_rpc_fault hk_rpc_ctl_decode(const uint8_t *body, size_t bytes, struct hk_ctl *ret_ctl);

/* Requests and replies. Unpacked ones are freed with hk_rpc_free. */
int hk_rpc_pack(const ProtobufCMessage *m, uint8_t *out, size_t max);
Hk__Pb__Request *hk_rpc_request_unpack(const uint8_t *body, size_t bytes);
Hk__Pb__Reply *hk_rpc_reply_unpack(const uint8_t *body, size_t bytes);
void hk_rpc_free(ProtobufCMessage *m);

/*
 * One request to a daemon's local socket and its reply. 0, -errno (connect, I/O, -EPROTO).
 * ret_fd: a descriptor that came beside the reply, or -1; may be NULL. timeout_ms bounds the wait.
 */
int hk_rpc_call(const char *socket_path, const Hk__Pb__Request *request, int timeout_ms,
                Hk__Pb__Reply **ret_reply, int *ret_fd);

#endif
