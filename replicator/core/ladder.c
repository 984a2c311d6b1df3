/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/core/ladder.h"

/* The ring alone could hold what the standby lacks, with room to spare, and goes on to. */
static bool is_over(struct hk_ladder *l, const struct hk_ladder_input *in, uint64_t lag)
{
    bool calm = !in->away && in->fill_permille < HK_LADDER_OFF_PERMILLE &&
                lag < in->ring_bytes / 1000 * HK_LADDER_OFF_PERMILLE;

    if (calm && !l->calm) {
        l->calm_ns = in->mono_ns;
        l->calm_durable = in->durable;
    }
    l->calm = calm;
    return calm && (in->durable - l->calm_durable >= HK_LADDER_CALM_RINGS * in->ring_bytes ||
                    in->mono_ns - l->calm_ns >= HK_LADDER_CALM_NS);
}

static bool wants_spool(struct hk_ladder *l, const struct hk_ladder_input *in)
{
    uint64_t lag = in->produced - hk_min_u64(in->durable, in->produced);

    if (!in->spool)
        return false;
    if (l->spooling)
        return !is_over(l, in, lag);
    l->calm = false;
    return lag > 0 && (in->away || in->fill_permille >= HK_LADDER_ON_PERMILLE);
}

void hk_ladder_update(struct hk_ladder *l, const struct hk_ladder_input *in)
{
    bool spooling = wants_spool(l, in);

    l->changes += spooling != l->spooling;
    l->spooling = spooling;
    l->step = in->behind  ? HK_LADDER_BEHIND
              : in->paced ? HK_LADDER_PACE
              : spooling  ? HK_LADDER_SPOOL
                          : HK_LADDER_RING;
}

/* A stage with work that does not move is timed from when it was last seen to move. */
static void watch(struct hk_stall_watch *w, bool work, uint64_t done, uint64_t mono_ns)
{
    if (!work)
        w->since_ns = 0;
    else if (w->since_ns == 0 || done != w->done)
        w->since_ns = hk_max_u64(mono_ns, 1);
    w->done = done;
}

void hk_stall_update(struct hk_stall *s, const struct hk_stall_input *in, uint64_t mono_ns)
{
    struct hk_stall_watch *w = s->stage;

    watch(&w[HK_STALLED_RING], in->attached && in->reserved > in->produced, in->produced, mono_ns);
    watch(&s->reports, in->attached && in->reported_ns > in->taken_ns, in->taken_ns, mono_ns);
    /* Of a site that is not heard nobody knows which of its stages stands. */
    watch(&w[HK_STALLED_LINK],
          in->produced > in->acked || (!in->session && in->produced > in->durable), in->acked,
          mono_ns);
    watch(&w[HK_STALLED_JOURNAL], in->session && in->acked > in->durable, in->durable, mono_ns);
    watch(&w[HK_STALLED_APPLY], in->session && in->durable > in->applied, in->applied, mono_ns);
    watch(&w[HK_STALLED_ORIGIN], in->attached && in->origin_lsn != 0, in->origin_lsn, mono_ns);
}

static bool stands(const struct hk_stall_watch *w, uint64_t patience_ns, uint64_t mono_ns)
{
    return w->since_ns && mono_ns >= w->since_ns && mono_ns - w->since_ns >= patience_ns;
}

/* A capture process that stands still leaves origin and log alike undone: it comes first. */
enum hk_stall_stage hk_stall_which(const struct hk_stall *s, uint64_t patience_ns, uint64_t mono_ns)
{
    static const enum hk_stall_stage order[] = {
        HK_STALLED_RING, HK_STALLED_ORIGIN, HK_STALLED_JOURNAL, HK_STALLED_LINK, HK_STALLED_APPLY};

    if (stands(&s->reports, patience_ns, mono_ns))
        return HK_STALLED_RING;
    for (uint32_t i = 0; i < HK_ARRAY_SIZE(order); i++) {
        if (stands(&s->stage[order[i]], patience_ns, mono_ns))
            return order[i];
    }
    return HK_STALLED_NONE;
}

const char *hk_stall_text(enum hk_stall_stage stage)
{
    switch (stage) {
    case HK_STALLED_NONE: return "none";
    case HK_STALLED_RING: return "ring";
    case HK_STALLED_LINK: return "link";
    case HK_STALLED_JOURNAL: return "journal";
    case HK_STALLED_APPLY: return "apply";
    case HK_STALLED_ORIGIN: return "origin";
    case HK_STALL_STAGES: break;
    }
    return "unknown";
}
