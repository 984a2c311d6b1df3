/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When acks left this standby, so that the one the primary has confirmed can be dated: that is t0,
 * before which plus T the primary can't have stopped waiting for us (proto/SPEC.md §9).
 *
 * The primary gives up waiting T after the newest ack, but also T after the newest *progress* while
 * something is outstanding. So a confirmed ack counts with the time it left only when it had told
 * everything the primary had produced; else with the time its durable position was first told.
 *
 * Thousands of acks a second, and a round trip may be long: only one in `every_ns` is written down,
 * so an ack is dated at or before the moment it really left, never after. One thread.
 */
#ifndef HK_CORE_CONTACT_H
#define HK_CORE_CONTACT_H

#include "proto/base.h"
#include "proto/limits.h"

enum { HK_CONTACT_ENTRIES = 512 };

struct hk_contact_time {
    uint64_t mono_ns, real_ns; /* 0: never */
};

struct hk_contact_path {
    uint32_t count, head; /* ring: head is the oldest */
    struct {
        uint64_t packet_number, durable;
        struct hk_contact_time sent, progress;
    } ack[HK_CONTACT_ENTRIES];
};

struct hk_contact {
    uint64_t every_ns;
    uint64_t durable;                /* highest told so far in this session, on any path … */
    struct hk_contact_time progress; /* … and when it was told first */
    struct hk_contact_path path[HK_PATHS_MAX];
};

/* A session begins. every_ns is chosen so that the entries cover twice the patience. */
void hk_contact_reset(struct hk_contact *c, uint64_t durable, uint64_t patience_ns);
void hk_contact_sent(struct hk_contact *c, uint8_t path, uint64_t pn, uint64_t durable,
                     uint64_t mono_ns, uint64_t real_ns);
/*
 * The primary said, having produced so much: I have seen the ack `pn`. False when that dates
 * nothing (not known any more, or something was outstanding and no progress has been told yet).
 */
bool hk_contact_date(const struct hk_contact *c, uint8_t path, uint64_t pn, uint64_t produced,
                     struct hk_contact_time *ret);

#endif
