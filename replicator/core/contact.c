/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/contact.h"

void hk_contact_reset(struct hk_contact *c, uint64_t patience_ns)
{
    c->every_ns = hk_max_u64(patience_ns * 2 / HK_CONTACT_ENTRIES, 1);
    c->count = c->head = 0;
}

static uint32_t place(const struct hk_contact *c, uint32_t i)
{
    return (c->head + i) % HK_CONTACT_ENTRIES;
}

void hk_contact_sent(struct hk_contact *c, uint64_t pn, uint64_t mono_ns, uint64_t real_ns)
{
    uint32_t at;

    if (c->count > 0) {
        at = place(c, c->count - 1);
        HK_ASSERT(pn > c->sent[at].packet_number);
        if (mono_ns < c->sent[at].mono_ns + c->every_ns)
            return;
    }
    if (c->count == HK_CONTACT_ENTRIES) {
        c->head = place(c, 1);
        c->count--;
    }
    at = place(c, c->count++);
    c->sent[at].packet_number = pn;
    c->sent[at].mono_ns = mono_ns;
    c->sent[at].real_ns = real_ns;
}

bool hk_contact_date(const struct hk_contact *c, uint64_t pn, uint64_t *ret_mono_ns,
                     uint64_t *ret_real_ns)
{
    for (uint32_t i = c->count; i-- > 0;) {
        uint32_t at = place(c, i);

        if (c->sent[at].packet_number <= pn) {
            *ret_mono_ns = c->sent[at].mono_ns;
            *ret_real_ns = c->sent[at].real_ns;
            return true;
        }
    }
    return false;
}
