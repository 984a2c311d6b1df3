/* SPDX-License-Identifier: Apache-2.0 */
/* What both backends share: filling, sealing, impairing, opening, checking, counting. */
#include "replicator/io/link_backend.h"

#include "proto/state.h"

#include <errno.h>
#include <string.h>

/* A frame the impairment holds back goes out by then, even if nothing else does. */
#define HOLD_NS_MAX 2000000u

int hk_link_create(const struct hk_link_cfg *cfg, struct hk_reactor *r, struct hk_link **ret_link,
                   struct hk_io_error *err)
{
    struct hk_link *l = NULL;
    int ret = -EINVAL;

    if (cfg->path >= HK_PATHS_MAX)
        return hk_io_fail(err, -EINVAL, "path %u: there are at most %d paths", cfg->path,
                          HK_PATHS_MAX);
    if (cfg->mtu != 0 && (cfg->mtu < HK_LINK_MTU_MIN || cfg->mtu > 65535))
        return hk_io_fail(err, -EINVAL, "mtu %u: expected %d to 65535", cfg->mtu, HK_LINK_MTU_MIN);
    if (cfg->peer_address == NULL || cfg->peer_port == 0 || cfg->local_port == 0)
        return hk_io_fail(err, -EINVAL, "a link needs the peer's address and both ports");
    switch (cfg->backend) {
    case HK_LINK_UDP: ret = hk_link_udp_create(cfg, r, &l, err); break;
    case HK_LINK_DPDK: ret = hk_link_dpdk_create(cfg, r, &l, err); break;
    }
    if (ret < 0)
        return ret;
    HK_ASSERT(l != NULL && l->body_max > 0);
    l->path = cfg->path;
    l->aead = cfg->aead != NULL ? cfg->aead : hk_aead_plain();
    hk_impair_init(&l->impair, &cfg->impair);
    *ret_link = l;
    return 0;
}

void hk_link_free(struct hk_link *l)
{
    if (l == NULL)
        return;
    for (uint32_t i = 0; i < l->burst_count; i++)
        l->ops->tx_drop(l, l->burst[i]);
    for (uint32_t i = 0; i < l->held_count; i++)
        l->ops->tx_drop(l, l->held[i].buf);
    l->burst_count = l->held_count = 0;
    l->ops->free(l);
}

/* ---- transmit ---- */

static void push(struct hk_link *l, struct hk_link_buf *const bufs[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        l->stats.bytes_tx += bufs[i]->bytes;
    l->stats.frames_tx += count;
    l->ops->tx_push(l, bufs, count);
}

static void release_held(struct hk_link *l, bool one_passed)
{
    for (uint32_t i = 0; i < l->held_count;) {
        struct held_frame *h = &l->held[i];

        h->frames_left -= one_passed;
        if (h->frames_left > 0 && h->until_ns > l->now_ns) {
            i++;
            continue;
        }
        push(l, &h->buf, 1);
        *h = l->held[--l->held_count];
    }
}

static void impair_one(struct hk_link *l, struct hk_link_buf *b)
{
    struct hk_impair_verdict v;
    struct hk_link_buf *copy;

    hk_impair_draw(&l->impair, b->bytes * 8, &v);
    if (v.lose) {
        l->stats.lost++;
        l->ops->tx_drop(l, b);
        return;
    }
    if (v.duplicate && (copy = l->ops->tx_take(l)) != NULL) {
        memcpy(copy->frame, b->frame, b->bytes);
        copy->bytes = b->bytes;
        l->stats.duplicated++;
        push(l, &copy, 1);
    }
    if (v.corrupt) {
        l->stats.corrupted++;
        b->frame[v.corrupt_bit / 8] ^= (uint8_t)(1u << v.corrupt_bit % 8);
    }
    if (v.hold_frames > 0 && l->held_count < HK_LINK_HELD_MAX) {
        l->stats.reordered++;
        l->held[l->held_count++] = (struct held_frame){b, v.hold_frames, l->now_ns + HOLD_NS_MAX};
        return;
    }
    push(l, &b, 1);
    release_held(l, true);
}

void hk_link_flush(struct hk_link *l)
{
    uint8_t *frames[HK_LINK_BURST];
    uint32_t n = l->burst_count;

    if (n > 0) {
        for (uint32_t i = 0; i < n; i++)
            frames[i] = l->burst[i]->frame;
        l->aead->ops->seal(l->aead, frames, n);
        l->burst_count = 0;
    }
    if (!hk_impair_active(&l->impair)) {
        if (n > 0)
            push(l, l->burst, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        impair_one(l, l->burst[i]);
    release_held(l, false);
}

int hk_link_send(struct hk_link *l, const struct hk_frame *hdr, const struct hk_iovec *body, int n)
{
    struct hk_link_buf *b;
    uint8_t *p;

    if (hdr->body_len > l->body_max)
        return -EMSGSIZE;
    HK_ASSERT(hdr->path == l->path && hdr->packet_number > 0);
    b = l->ops->tx_take(l);
    if (b == NULL) {
        l->stats.tx_full++;
        return -EAGAIN;
    }
    memcpy(b->frame, hdr, sizeof(*hdr));
    p = b->frame + sizeof(*hdr);
    for (int i = 0; i < n; i++) {
        HK_ASSERT(body[i].bytes <= hdr->body_len - (size_t)(p - b->frame - (int)sizeof(*hdr)));
        memcpy(p, body[i].base, body[i].bytes);
        p += body[i].bytes;
    }
    HK_ASSERT(p == b->frame + sizeof(*hdr) + hdr->body_len);
    b->bytes = HK_FRAME_OVERHEAD_BYTES + hdr->body_len;
    l->burst[l->burst_count++] = b;
    if (l->burst_count == HK_LINK_BURST)
        hk_link_flush(l);
    return 0;
}

bool hk_link_has_room(const struct hk_link *l)
{
    return l->ops->tx_room(l) > 0;
}

/* ---- receive ---- */

/* Takes out what is refused before anything is decrypted; returns what is left. */
static uint32_t screen(struct hk_link *l, uint8_t *frames[], uint32_t bytes[], uint32_t n,
                       hk_link_bad_fn bad, void *arg)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        enum hk_frame_fault f = hk_frame_check_clear(frames[i], bytes[i]);

        if (f != HK_FRAME_OK) {
            l->stats.bad[f]++;
            if (bad != NULL)
                bad(arg, f);
            continue;
        }
        frames[kept] = frames[i];
        bytes[kept++] = bytes[i];
    }
    return kept;
}

static enum hk_frame_fault accept_one(struct hk_link *l, const uint8_t *frame, uint32_t bytes,
                                      struct hk_frame *ret_hdr)
{
    enum hk_frame_fault f = hk_frame_decode(frame, bytes, ret_hdr);

    if (f == HK_FRAME_OK && ret_hdr->path != l->path)
        f = HK_FRAME_BAD_FIELD;
    return f;
}

static void deliver(struct hk_link *l, uint8_t *frames[], uint32_t bytes[], uint32_t n,
                    hk_link_frame_fn frame, hk_link_bad_fn bad, void *arg)
{
    enum hk_frame_fault fault[HK_LINK_BURST];

    l->aead->ops->open(l->aead, frames, bytes, n, fault);
    for (uint32_t i = 0; i < n; i++) {
        struct hk_frame hdr;

        if (fault[i] == HK_FRAME_OK)
            fault[i] = accept_one(l, frames[i], bytes[i], &hdr);
        if (fault[i] == HK_FRAME_OK) {
            l->stats.frames_rx++;
            l->stats.bytes_rx += bytes[i];
            frame(arg, &hdr, frames[i] + HK_FRAME_HEADER_BYTES);
            continue;
        }
        HK_ASSERT(fault[i] < HK_FRAME_FAULTS);
        l->stats.bad[fault[i]]++;
        if (bad != NULL)
            bad(arg, fault[i]);
    }
}

uint32_t hk_link_poll(struct hk_link *l, const struct hk_now *now, hk_link_frame_fn frame,
                      hk_link_bad_fn bad, void *arg, uint32_t budget)
{
    uint8_t *frames[HK_LINK_BURST];
    uint32_t bytes[HK_LINK_BURST], taken = 0, other = 0;

    l->now_ns = now->mono_ns;
    while (taken < budget) {
        uint32_t want = (uint32_t)hk_min_u64(budget - taken, HK_LINK_BURST);
        uint32_t n = l->ops->rx_burst(l, frames, bytes, want, &other);

        if (n == 0)
            break;
        taken += n;
        n = screen(l, frames, bytes, n, bad, arg);
        if (n > 0)
            deliver(l, frames, bytes, n, frame, bad, arg);
        l->ops->rx_done(l);
    }
    if (l->held_count > 0)
        release_held(l, false);
    return taken + other;
}

/* ---- what it is ---- */

uint32_t hk_link_body_max(const struct hk_link *l)
{
    return l->body_max;
}

bool hk_link_is_up(const struct hk_link *l)
{
    return l->ops->is_up(l);
}

bool hk_link_must_poll(const struct hk_link *l)
{
    return l->must_poll;
}

uint64_t hk_link_deadline_ns(const struct hk_link *l)
{
    uint64_t until = l->ops->deadline_ns(l);

    for (uint32_t i = 0; i < l->held_count; i++)
        until = hk_min_u64(until, l->held[i].until_ns);
    return until;
}

void hk_link_stats(const struct hk_link *l, struct hk_link_stats *ret)
{
    struct hk_link_stats s = l->stats;

    l->ops->device_stats(l, &s);
    *ret = s;
}

const char *hk_link_text(const struct hk_link *l)
{
    return l->text;
}
