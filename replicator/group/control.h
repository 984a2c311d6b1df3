/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two sites say to each other on the control connection, as fixed structs. The daemon encodes
 * them with protobuf-c (replicator/daemon/control.proto, SPEC.md §10); the simulator passes them as
 * they are. The primary connects and says HELLO first.
 */
#ifndef HK_GROUP_CONTROL_H
#define HK_GROUP_CONTROL_H

#include "proto/super.h"
#include "replicator/core/compare.h"
#include "replicator/core/handshake.h" /* enum hk_refusal, hk_hello, hk_welcome */

enum hk_ctl_type {
    HK_CTL_HELLO = 1,    /* primary → standby */
    HK_CTL_WELCOME,      /* standby → primary: the session exists from here on */
    HK_CTL_REFUSED,      /* either way, then the connection ends */
    HK_CTL_FREEZE,       /* standby → primary: an operator at the standby asks for a mark */
    HK_CTL_FREEZE_REPLY, /* primary → standby: LSN of the mark or an error */
    HK_CTL_NOTICE,       /* either way: a notice worth showing at the other site too */
    HK_CTL_BYE,          /* orderly end, with the reason */
    HK_CTL_HASH_ASK,     /* primary → standby: hash this of the replica once applied ≥ after */
    HK_CTL_HASHES,       /* standby → primary: the answer */
    HK_CTL_RESIZE,       /* primary → standby: make room, durably, for a volume of that size */
    HK_CTL_RESIZED,      /* standby → primary: the answer */
};

struct hk_ctl {
    enum hk_ctl_type type;
    union {
        struct hk_hello hello;
        struct hk_welcome welcome;
        struct {
            uint32_t reason;    /* enum hk_refusal */
            uint64_t detail[2]; /* e.g. the LSNs that contradict each other */
        } refused;
        struct {
            uint64_t op_id;
            char name[HK_NAME_BYTES];
        } freeze;
        struct {
            uint64_t op_id;
            int32_t error;
            uint32_t reserved;
            uint64_t lsn, end;
        } freeze_reply;
        struct {
            uint32_t id; /* enum hk_notice_id */
            uint64_t arg[4];
        } notice;
        struct {
            uint32_t reason; /* enum hk_refusal */
        } bye;
        struct hk_hash_ask hash_ask;
        struct hk_hashes hashes;
        struct {
            uint32_t volume;
            int32_t error; /* RESIZED: 0 or -errno */
            uint64_t bytes;
        } resize;
    };
};

#endif
