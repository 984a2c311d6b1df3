/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/races/standby.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t mono_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void standby_make(struct standby *s, const struct life_site *site)
{
    memset(s, 0, sizeof(*s));
    s->site = site;
}

void standby_free(struct standby *s)
{
    hk_capture_client_free(s->client);
    s->client = NULL;
}

const char *standby_meet(struct standby *s)
{
    hk_capture_client_free(s->client);
    s->client = NULL;
    if (hk_capture_client_create(s->site->conf.socket, &s->site->conf.group_id, &s->client))
        return "no client";
    return NULL;
}

bool standby_attached(const struct standby *s)
{
    return s->client && hk_capture_client_attached(s->client);
}

static const char *apply(struct standby *s, const struct hk_record *r, const uint8_t *payload)
{
    uint64_t word = 0;

    if (r->type > HK_REC_DISCARD)
        return NULL;
    if (r->volume >= VOLUMES || r->offset + r->length > VOLUME_BYTES)
        return "a record beyond its volume";
    if (r->type != HK_REC_WRITE) {
        memset(s->image[r->volume] + r->offset, 0, r->length);
        return NULL;
    }
    /* memmove: memcpy may be led elsewhere by the linker. */
    memmove(s->image[r->volume] + r->offset, payload, r->length);
    memcpy(&word, payload, 8);
    for (uint32_t at = 0; at < r->length; at += BLOCK) {
        if (word >= VERSIONS || !block_is(payload + at, word))
            return "a write of torn content";
    }
    s->lsn_of[word] = r->lsn;
    if (word && s->seen[word]++ > 0)
        return "a write was published twice";
    return NULL;
}

/* A record seen for the first time. */
static const char *take_new(struct standby *s, const struct hk_record *r, const uint8_t *payload)
{
    if (s->time_ns && r->time_ns <= s->time_ns)
        return "capture time went back";
    if (s->prev_bytes && r->prev_bytes != s->prev_bytes)
        return "prev_bytes is wrong";
    s->time_ns = r->time_ns;
    s->prev_bytes = hk_record_bytes(r->payload_len);
    s->kept[s->records % KEPT].lsn = r->lsn;
    s->kept[s->records % KEPT].hash = r->header_hash;
    s->records++;
    s->voids += r->type == HK_REC_VOID;
    return apply(s, r, payload);
}

/* One that was there before: what was published once never changes. */
static const char *take_again(struct standby *s, const struct hk_record *r)
{
    s->again++;
    for (unsigned i = 0; i < KEPT; i++) {
        if (s->kept[i].lsn == r->lsn)
            return s->kept[i].hash == r->header_hash ? NULL : "one LSN has two contents";
    }
    return s->records > KEPT ? NULL : "an LSN that was never there";
}

static const char *take(struct standby *s, struct hk_ring_reader *reader)
{
    struct hk_lsn produced, at = HK_LSN(s->at);
    const char *wrong = NULL;

    if (hk_ring_reader_poll(reader, UINT32_MAX, &produced) < 0)
        return "a record that cannot be";
    if (produced.v < s->lsn)
        return "the log ends before what was seen";
    while (at.v < produced.v && !wrong) {
        struct hk_record r;
        struct iovec iov[2] = {{0}};

        if (hk_ring_reader_header_at(reader, at, &r) || r.lsn != at.v)
            return "a hole in the log";
        if (r.payload_len &&
            (hk_ring_reader_gather(reader, HK_LSN(at.v + 64), r.payload_len, iov, 2) != 1 ||
             !hk_record_payload_ok(&r, iov[0].iov_base)))
            return "a payload that is not what was hashed";
        if (at.v < s->lsn)
            wrong = take_again(s, &r);
        else
            wrong = take_new(s, &r, iov[0].iov_base);
        at.v += hk_record_bytes(r.payload_len);
        s->at = at.v;
        s->lsn = hk_max_u64(s->lsn, at.v);
    }
    return wrong;
}

/* Where this life's ring begins, compared with what is known already. */
static const char *on_attached(struct standby *s, const struct hk_cap_ipc *m)
{
    s->flags = m->attached.super.flags;
    s->at = m->attached.tail_lsn;
    if (!s->lsn)
        s->lsn = s->at;
    if (s->at > s->lsn && !(s->flags & HK_SF_FULL_COMPARE))
        return "the log has a hole between two lives";
    return NULL;
}

static void report(struct standby *s, struct hk_ring_reader *reader)
{
    struct hk_lsn lsn = HK_LSN(s->lsn);

    if (s->lsn <= reader->tail_lsn)
        return;
    hk_ring_reader_release(reader, lsn);
    hk_capture_client_report(s->client, lsn, lsn, lsn, mono_ns(), 0);
}

const char *standby_poll(struct standby *s)
{
    struct hk_ring_reader *reader;
    const struct hk_cap_ipc *m;
    const char *wrong = NULL;
    enum hk_client_event e;
    struct hk_uuid peer;

    if (!s->client)
        return NULL;
    while (!wrong && (e = hk_capture_client_poll(s->client, mono_ns(), &m)) != HK_CLIENT_NONE) {
        if (e == HK_CLIENT_REFUSED)
            return "the plugin refused its replicator";
        if (e == HK_CLIENT_STATE)
            __atomic_store_n(&s->site->ledger->well,
                             m->state.super_flags & HK_SF_FULL_COMPARE ||
                                 !(m->state.super_flags & HK_SF_DEGRADED),
                             __ATOMIC_RELEASE);
        if (e != HK_CLIENT_ATTACHED && e != HK_CLIENT_RING_LOST)
            continue;
        wrong = on_attached(s, m);
        memset(&peer, 9, sizeof(peer));
        if (!s->mute)
            hk_capture_client_bind_peer(s->client, &peer);
    }
    reader = hk_capture_client_reader(s->client);
    if (wrong || !reader || s->mute || s->flags & HK_SF_FULL_COMPARE)
        return wrong;
    wrong = take(s, reader);
    if (!wrong && hk_capture_client_attached(s->client))
        report(s, reader);
    return wrong;
}

const char *standby_part(struct standby *s)
{
    struct hk_ring_reader *reader = s->client ? hk_capture_client_reader(s->client) : NULL;

    return reader && !(s->flags & HK_SF_FULL_COMPARE) ? take(s, reader) : NULL;
}
