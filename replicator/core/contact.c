/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/contact.h"

void hk_contact_reset(struct hk_contact *c, uint64_t durable, uint64_t patience_ns)
{
    c->every_ns = hk_max_u64(patience_ns * 2 / HK_CONTACT_ENTRIES, 1);
    c->durable = durable;
    c->progress = (struct hk_contact_time){0, 0};
    for (int i = 0; i < HK_PATHS_MAX; i++)
        c->path[i].count = c->path[i].head = 0;
}

static uint32_t place(const struct hk_contact_path *p, uint32_t i)
{
    return (p->head + i) % HK_CONTACT_ENTRIES;
}

void hk_contact_sent(struct hk_contact *c, uint8_t path, uint64_t pn, uint64_t durable,
                     uint64_t mono_ns, uint64_t real_ns)
{
    struct hk_contact_path *p = &c->path[path];
    uint32_t at;

    HK_ASSERT(path < HK_PATHS_MAX && durable >= c->durable);
    if (durable > c->durable) {
        c->durable = durable;
        c->progress = (struct hk_contact_time){mono_ns, real_ns};
    }
    if (p->count > 0) {
        at = place(p, p->count - 1);
        HK_ASSERT(pn > p->ack[at].packet_number);
        if (mono_ns < p->ack[at].sent.mono_ns + c->every_ns)
            return;
    }
    if (p->count == HK_CONTACT_ENTRIES) {
        p->head = place(p, 1);
        p->count--;
    }
    at = place(p, p->count++);
    p->ack[at].packet_number = pn;
    p->ack[at].durable = durable;
    p->ack[at].sent = (struct hk_contact_time){mono_ns, real_ns};
    p->ack[at].progress = c->progress;
}

bool hk_contact_date(const struct hk_contact *c, uint8_t path, uint64_t pn, uint64_t produced,
                     struct hk_contact_time *ret)
{
    const struct hk_contact_path *p = &c->path[path];

    HK_ASSERT(path < HK_PATHS_MAX);
    for (uint32_t i = p->count; i-- > 0;) {
        uint32_t at = place(p, i);

        if (p->ack[at].packet_number > pn)
            continue;
        *ret = produced <= p->ack[at].durable ? p->ack[at].sent : p->ack[at].progress;
        return ret->mono_ns != 0;
    }
    return false;
}
