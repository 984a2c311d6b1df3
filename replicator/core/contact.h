/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When acks left this standby, so that the one the primary has confirmed can be dated: that is t0,
 * from which the primary's patience T runs at the earliest (proto/SPEC.md §9).
 *
 * Thousands of acks a second, and a round trip may be long: only one in `every_ns` is written down,
 * so an ack is dated at or before the moment it really left, never after. One thread.
 */
#ifndef HK_CORE_CONTACT_H
#define HK_CORE_CONTACT_H

#include "proto/base.h"

enum { HK_CONTACT_ENTRIES = 512 };

struct hk_contact {
    uint64_t every_ns;
    uint32_t count, head; /* ring: head is the oldest */
    struct {
        uint64_t packet_number, mono_ns, real_ns;
    } sent[HK_CONTACT_ENTRIES];
};

/* every_ns: so that HK_CONTACT_ENTRIES of them cover twice the patience. */
void hk_contact_reset(struct hk_contact *c, uint64_t patience_ns);
void hk_contact_sent(struct hk_contact *c, uint64_t pn, uint64_t mono_ns, uint64_t real_ns);
/* A time at or before the one ack `pn` left at; false if that is not known any more. */
bool hk_contact_date(const struct hk_contact *c, uint64_t pn, uint64_t *ret_mono_ns,
                     uint64_t *ret_real_ns);

#endif
