/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/resync.h"

#include "proto/bug.h"

#include <errno.h>

#define NS_PER_S 1000000000ull

enum { RATE_SECONDS_MIN = 3, RATE_SECONDS = 30 };

void hk_resync_init(struct hk_resync *r, uint64_t now_ns)
{
    *r = (struct hk_resync){.running = false};
    hk_pace_init(&r->pace, now_ns);
}

/* ---- a session begins and ends ---- */

static void drop_ask(struct hk_resync_ask *a)
{
    a->used = false;
    a->hash_due = a->ask_due = false;
    a->unequal = a->asked = 0;
}

/* Whatever is known of it is forgotten; for the capture side it is still stale. */
static void drop_region(struct hk_resync *r, uint32_t index)
{
    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        if (r->ask[i].used && r->ask[i].region == index)
            drop_ask(&r->ask[i]);
    }
    r->region[index].state = HK_RS_FREE;
    r->region[index].open = 0;
}

void hk_resync_start(struct hk_resync *r, uint64_t now_ns)
{
    HK_ASSERT(!r->running);
    r->running = true;
    r->look_ns = now_ns;
    r->volume = 0;
    r->offset = 0;
    if (r->begun_ns == 0)
        r->begun_ns = hk_max_u64(now_ns, 1);
    hk_pace_forget(&r->pace);
}

void hk_resync_stop(struct hk_resync *r, bool capture_gone)
{
    for (uint32_t i = 0; i < HK_RESYNC_REGIONS; i++) {
        enum hk_resync_region_state was = r->region[i].state;

        drop_region(r, i);
        if (HK_BUG(resume_forgets_region) && was == HK_RS_COMPARING && !capture_gone)
            r->region[i].state = HK_RS_HEAL;
    }
    r->forgotten += r->looking;
    if (capture_gone)
        r->forgotten = 0;
    r->looking = false;
    r->running = false;
}

void hk_resync_over(struct hk_resync *r)
{
    r->total_bytes = r->begun_ns = r->compared_bytes = r->healed_bytes = 0;
    r->unequal_blocks = r->sent_bytes = r->unreadable_bytes = r->repeated = 0;
    r->healed_regions = 0;
    __builtin_memset(r->healed, 0, sizeof(r->healed));
}

void hk_resync_load(struct hk_resync *r, const struct hk_resync_load *l, uint64_t now_ns)
{
    r->load = *l;
    r->total_bytes = hk_max_u64(r->total_bytes, l->stale_bytes);
    hk_pace_observe(&r->pace, l->produced, l->durable, now_ns);
}

void hk_resync_pause(struct hk_resync *r, bool paused)
{
    r->paused = paused;
}

void hk_resync_throttle(struct hk_resync *r, uint64_t bytes_s)
{
    hk_pace_cap(&r->pace, bytes_s);
}

/* ---- answers ---- */

static bool is_taken_up(const struct hk_resync *r, uint32_t volume, uint64_t offset)
{
    for (uint32_t i = 0; i < HK_RESYNC_REGIONS; i++) {
        const struct hk_resync_region *g = &r->region[i];

        if (g->state != HK_RS_FREE && g->volume == volume && g->offset == offset)
            return true;
    }
    return false;
}

static struct hk_resync_region *free_region(struct hk_resync *r)
{
    for (uint32_t i = 0; i < HK_RESYNC_REGIONS; i++) {
        if (r->region[i].state == HK_RS_FREE)
            return &r->region[i];
    }
    return NULL;
}

void hk_resync_stale(struct hk_resync *r, bool found, uint32_t volume, uint64_t offset,
                     uint64_t bytes, uint64_t event, uint64_t after, uint64_t now_ns)
{
    struct hk_resync_region *g;

    if (r->forgotten > 0) {
        r->forgotten--;
        return;
    }
    if (!r->looking)
        return;
    r->looking = false;
    if (!found) {
        /* The end of a sweep. What is left is under compare, or busy for a moment. */
        r->volume = 0;
        r->offset = 0;
        r->look_ns = now_ns + HK_RESYNC_LOOK_NS;
        return;
    }
    r->volume = volume;
    r->offset = offset + bytes;
    g = free_region(r);
    if (!g || is_taken_up(r, volume, offset) || bytes == 0)
        return;
    *g = (struct hk_resync_region){
        .state = HK_RS_COMPARING,
        .volume = volume,
        .pass = ++r->pass,
        .offset = offset,
        .bytes = bytes,
        .event = event,
        .after = after,
    };
}

static uint32_t block_bytes(const struct hk_resync_ask *a, uint32_t i)
{
    uint32_t at = i * HK_COMPARE_BLOCK_BYTES;

    HK_ASSERT(at < a->ask.bytes);
    return (uint32_t)hk_min_u64(a->ask.bytes - at, HK_COMPARE_BLOCK_BYTES);
}

static void finish_ask(struct hk_resync *r, struct hk_resync_ask *a)
{
    struct hk_resync_region *g = &r->region[a->region];

    if (a->unequal || a->asked)
        return;
    drop_ask(a);
    HK_ASSERT(g->open > 0);
    g->open--;
    if (g->open == 0 && g->asked == g->bytes)
        g->state = HK_RS_HEAL;
}

static bool same(const struct hk_resync_ask *a, uint32_t i)
{
    return a->local.error == 0 && a->remote.error == 0 &&
           __builtin_memcmp(a->local.hash[i], a->remote.hash[i], HK_COMPARE_HASH_BYTES) == 0;
}

/* What a side could not read counts as unequal: the block record, or bad-range, settles it. */
/* model: resync.pml, FOUND_UNEQUAL */
static void compare(struct hk_resync *r, struct hk_resync_ask *a)
{
    if (!a->have_local || !a->have_remote)
        return;
    for (uint32_t i = 0; i < hk_compare_blocks(a->ask.bytes); i++) {
        if (same(a, i))
            continue;
        a->unequal |= 1u << i;
        r->unequal_blocks++;
    }
    r->compared_bytes += a->ask.bytes;
    finish_ask(r, a);
}

static struct hk_resync_ask *ask_of(struct hk_resync *r, uint64_t request)
{
    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        if ((r->ask[i].used || r->ask[i].reading) && r->ask[i].ask.request == request)
            return &r->ask[i];
    }
    return NULL;
}

/* model: resync.pml, ORIGIN_HASHED */
void hk_resync_hashed(struct hk_resync *r, const struct hk_hashes *h)
{
    struct hk_resync_ask *a = ask_of(r, h->request);

    if (!a || !a->reading)
        return;
    a->reading = false;
    if (!a->used)
        return;
    HK_ASSERT(h->error || h->count == hk_compare_blocks(a->ask.bytes));
    a->local = *h;
    a->have_local = true;
    compare(r, a);
}

int hk_resync_answered(struct hk_resync *r, const struct hk_hashes *h)
{
    struct hk_resync_ask *a = ask_of(r, h->request);

    if (!a || !a->used || a->ask_due || a->have_remote)
        return 0; /* of an earlier session, or of a region that was dropped */
    if (!h->error && h->count != hk_compare_blocks(a->ask.bytes))
        return -EINVAL;
    a->remote = *h;
    a->have_remote = true;
    compare(r, a);
    return 0;
}

static void settle_block(struct hk_resync *r, struct hk_resync_ask *a, uint32_t i, int error,
                         uint64_t end, uint64_t now_ns)
{
    struct hk_resync_region *g = &r->region[a->region];

    a->asked &= ~(1u << i);
    switch (error) {
    case 0: r->sent_bytes += block_bytes(a, i); break;
    case -EIO: r->unreadable_bytes += block_bytes(a, i); break;
    case -EAGAIN:
        a->unequal |= 1u << i;
        a->retry_ns = now_ns + HK_RESYNC_RETRY_NS;
        return;
    default: /* no log goes on just now: the region comes round again */
        r->repeated++;
        drop_region(r, a->region);
        return;
    }
    g->end = hk_max_u64(g->end, end);
    finish_ask(r, a);
}

void hk_resync_block_done(struct hk_resync *r, uint64_t request, int error, uint64_t end,
                          uint64_t now_ns)
{
    for (uint32_t k = 0; k < HK_COMPARE_ASKS_MAX; k++) {
        struct hk_resync_ask *a = &r->ask[k];

        for (uint32_t i = 0; a->used && i < HK_COMPARE_BLOCKS_MAX; i++) {
            if (!(a->asked & 1u << i) || a->request[i] != request)
                continue;
            settle_block(r, a, i, error, end, now_ns);
            return;
        }
    }
}

static void note_healed(struct hk_resync *r, uint64_t bytes, uint64_t now_ns)
{
    uint64_t second = now_ns / NS_PER_S;
    uint32_t i = (uint32_t)(second % HK_RESYNC_RATE_SECONDS);

    if (r->healed[i].second != second) {
        r->healed[i].second = second;
        r->healed[i].bytes = 0;
    }
    r->healed[i].bytes += bytes;
    r->healed_bytes += bytes;
    r->healed_regions++;
}

void hk_resync_healed(struct hk_resync *r, uint64_t request, int error, uint64_t now_ns)
{
    for (uint32_t i = 0; i < HK_RESYNC_REGIONS; i++) {
        struct hk_resync_region *g = &r->region[i];

        if (g->state != HK_RS_HEALING || g->request != request)
            continue;
        g->state = HK_RS_FREE;
        if (error == 0)
            note_healed(r, g->bytes, now_ns);
        else
            r->repeated++;
        return;
    }
}

/* ---- steps ---- */

static bool next_heal(struct hk_resync *r, struct hk_resync_step *ret)
{
    for (uint32_t i = 0; i < HK_RESYNC_REGIONS; i++) {
        struct hk_resync_region *g = &r->region[i];

        if (g->state != HK_RS_HEAL)
            continue;
        g->state = HK_RS_HEALING;
        g->request = ++r->request;
        *ret = (struct hk_resync_step){
            .kind = HK_RSTEP_HEAL,
            .request = g->request,
            .volume = g->volume,
            .offset = g->offset,
            .event = g->event,
            .end = hk_max_u64(g->end, g->after),
        };
        return true;
    }
    return false;
}

/* More log than a moment's worth is on its way: nothing is added to it. */
static bool log_is_long(const struct hk_resync *r)
{
    uint64_t most = hk_max_u64(HK_RESYNC_LAG_BYTES, hk_pace_rate(&r->pace) / 16);

    return r->load.produced > r->load.durable && r->load.produced - r->load.durable > most;
}

static bool applier_is_far(const struct hk_resync *r)
{
    return r->load.durable > r->load.applied &&
           r->load.durable - r->load.applied > HK_RESYNC_BACKLOG_BYTES;
}

static uint32_t blocks_out(const struct hk_resync *r)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++)
        n += (uint32_t)__builtin_popcount(r->ask[i].asked);
    return n;
}

static bool next_block(struct hk_resync *r, uint64_t now_ns, struct hk_resync_step *ret)
{
    if (blocks_out(r) >= HK_RESYNC_BLOCKS || log_is_long(r))
        return false;
    for (uint32_t k = 0; k < HK_COMPARE_ASKS_MAX; k++) {
        struct hk_resync_ask *a = &r->ask[k];
        uint32_t i;

        if (!a->used || a->unequal == 0 || now_ns < a->retry_ns)
            continue;
        i = (uint32_t)__builtin_ctz(a->unequal);
        a->unequal &= ~(1u << i);
        a->asked |= 1u << i;
        a->request[i] = ++r->request;
        hk_pace_charge(&r->pace, block_bytes(a, i));
        *ret = (struct hk_resync_step){
            .kind = HK_RSTEP_BLOCK,
            .request = a->request[i],
            .volume = a->ask.volume,
            .offset = a->ask.offset + (uint64_t)i * HK_COMPARE_BLOCK_BYTES,
            .bytes = block_bytes(a, i),
        };
        return true;
    }
    return false;
}

static bool next_of_asks(struct hk_resync *r, struct hk_resync_step *ret)
{
    for (uint32_t k = 0; k < HK_COMPARE_ASKS_MAX; k++) {
        struct hk_resync_ask *a = &r->ask[k];

        if (!a->used || !(a->ask_due || a->hash_due))
            continue;
        ret->kind = a->ask_due ? HK_RSTEP_ASK : HK_RSTEP_HASH;
        if (a->ask_due) {
            a->ask_due = false;
        } else {
            a->hash_due = false;
            a->reading = true;
        }
        ret->ask = a->ask;
        return true;
    }
    return false;
}

static struct hk_resync_ask *free_ask(struct hk_resync *r)
{
    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        if (!r->ask[i].used && !r->ask[i].reading)
            return &r->ask[i];
    }
    return NULL;
}

/* The region with questions left to put, if one may be put as far as slots go. */
static int region_to_ask(struct hk_resync *r)
{
    if (r->paused || log_is_long(r) || applier_is_far(r) || !free_ask(r))
        return -1;
    for (uint32_t i = 0; i < HK_RESYNC_REGIONS; i++) {
        if (r->region[i].state == HK_RS_COMPARING && r->region[i].asked < r->region[i].bytes)
            return (int)i;
    }
    return -1;
}

/* model: resync.pml, COMPARE_ASKED */
static bool put_question(struct hk_resync *r, uint64_t now_ns)
{
    int index = region_to_ask(r);
    struct hk_resync_region *g = index < 0 ? NULL : &r->region[index];
    struct hk_resync_ask *a = free_ask(r);
    uint64_t bytes;

    if (!g)
        return false;
    bytes =
        hk_min_u64(g->bytes - g->asked, (uint64_t)HK_COMPARE_BLOCKS_MAX * HK_COMPARE_BLOCK_BYTES);
    if (!hk_pace_take(&r->pace, bytes, now_ns))
        return false;
    *a = (struct hk_resync_ask){.used = true, .hash_due = true, .ask_due = true};
    a->region = (uint32_t)index;
    a->ask = (struct hk_hash_ask){
        .request = ++r->request,
        .pass = g->pass,
        .volume = g->volume,
        .offset = g->offset + g->asked,
        .bytes = (uint32_t)bytes,
        .after = g->after,
    };
    g->asked += bytes;
    g->open++;
    return true;
}

static bool wants_to_look(struct hk_resync *r)
{
    return !r->looking && !r->paused && r->load.stale_bytes > 0 && free_region(r) != NULL;
}

bool hk_resync_next(struct hk_resync *r, uint64_t now_ns, struct hk_resync_step *ret)
{
    if (!r->running)
        return false;
    if (next_heal(r, ret) || next_block(r, now_ns, ret) || next_of_asks(r, ret))
        return true;
    if (put_question(r, now_ns))
        return next_of_asks(r, ret);
    if (!wants_to_look(r) || now_ns < r->look_ns)
        return false;
    r->looking = true;
    *ret = (struct hk_resync_step){
        .kind = HK_RSTEP_STALE_ASK, .volume = r->volume, .offset = r->offset};
    return true;
}

uint64_t hk_resync_deadline_ns(const struct hk_resync *r)
{
    struct hk_resync *w = (struct hk_resync *)(uintptr_t)r; /* only looked at */
    uint64_t at = UINT64_MAX;

    if (!r->running)
        return at;
    if (region_to_ask(w) >= 0)
        at = hk_min_u64(at, hk_pace_ready_ns(&r->pace));
    if (wants_to_look(w))
        at = hk_min_u64(at, r->look_ns);
    for (uint32_t i = 0; i < HK_COMPARE_ASKS_MAX; i++) {
        if (r->ask[i].used && r->ask[i].unequal && !log_is_long(r) &&
            blocks_out(r) < HK_RESYNC_BLOCKS)
            at = hk_min_u64(at, r->ask[i].retry_ns);
    }
    return at;
}

/* ---- figures ---- */

static uint64_t rate(const struct hk_resync *r, uint64_t now_ns)
{
    uint64_t second = now_ns / NS_PER_S, bytes = 0, span_ns;

    if (r->begun_ns == 0 || now_ns < r->begun_ns + RATE_SECONDS_MIN * NS_PER_S)
        return 0;
    for (uint32_t i = 0; i < HK_RESYNC_RATE_SECONDS; i++) {
        if (r->healed[i].second + RATE_SECONDS > second)
            bytes += r->healed[i].bytes;
    }
    span_ns = hk_min_u64(now_ns - r->begun_ns, RATE_SECONDS * NS_PER_S);
    return (uint64_t)((unsigned __int128)bytes * NS_PER_S / span_ns);
}

void hk_resync_status(const struct hk_resync *r, uint64_t now_ns, struct hk_resync_status *ret)
{
    uint64_t bytes_s = rate(r, now_ns);

    *ret = (struct hk_resync_status){
        .running = r->running,
        .paused = r->paused,
        .stale_bytes = r->load.stale_bytes,
        .total_bytes = r->total_bytes,
        .compared_bytes = r->compared_bytes,
        .unequal_blocks = r->unequal_blocks,
        .sent_bytes = r->sent_bytes,
        .unreadable_bytes = r->unreadable_bytes,
        .repeated = r->repeated,
        .rate_bytes_s = bytes_s,
        .limit_bytes_s = hk_pace_rate(&r->pace),
        .throttle_bytes_s = r->pace.cap_bytes_s,
        .begun_ns = r->begun_ns,
    };
    /* Paused, or without a session, nothing is coming nearer. */
    if (bytes_s && r->running && !r->paused)
        ret->eta_ns = (uint64_t)((unsigned __int128)r->load.stale_bytes * NS_PER_S / bytes_s);
}
