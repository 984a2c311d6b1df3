/* SPDX-License-Identifier: Apache-2.0 */
/* hikae resync: how far the compare is, and its pace. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"

/* "0", "500k", "20M", "1G": bytes a second. */
static bool rate_of(const char *text, uint64_t *ret)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    unsigned shift = *end == 'k' || *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;

    if (end == text || *text == '-' || n > UINT32_MAX || (*end && (!shift || end[1])))
        return false;
    *ret = n << shift;
    return true;
}

static void print_progress(const Hk__Pb__Status *s)
{
    const Hk__Pb__Resync *r = s->resync;
    char left[24], total[24], rate[24], sent[24];

    if (strcmp(s->role, "primary")) {
        if (!s->inconsistent)
            printf("this standby is consistent; ask at %s\n", s->peer_site);
        else
            printf("inside a resync: a failover %s\n",
                   s->pinned ? "goes back to the state that is pinned"
                             : "is refused, there is no consistent state yet");
        return;
    }
    if (!s->dirty_bytes) {
        printf("nothing to compare: no region is stale\n");
        if (r && r->throttle_bytes_s)
            printf("limit %s/s\n", hk_bytes_text(r->throttle_bytes_s, rate));
        return;
    }
    printf("%s of %s left, %s\n", hk_bytes_text(s->dirty_bytes, left),
           hk_bytes_text(r ? r->total_bytes : s->dirty_bytes, total),
           !r || !r->running ? "waiting for a session"
           : r->paused       ? "PAUSED"
                             : "under compare");
    if (!r)
        return;
    printf("compared %s, %" PRIu64 " blocks differed, %s sent\n",
           hk_bytes_text(r->compared_bytes, total), r->unequal_blocks,
           hk_bytes_text(r->sent_bytes, sent));
    if (r->eta_ns)
        printf("about %" PRIu64 " s at %s/s\n", r->eta_ns / 1000000000u + 1,
               hk_bytes_text(r->rate_bytes_s, rate));
    else
        printf("time left not known\n");
}

static int show(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    hk_request_fill(o, "status", &r);
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (o->json)
        hk_print_json(hk_resync_json(reply->status));
    else
        print_progress(reply->status);
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}

json_t *hk_resync_json(const Hk__Pb__Status *s)
{
    static const Hk__Pb__Resync none = {0};
    const Hk__Pb__Resync *r = s->resync ? s->resync : &none;

    return json_pack(
        "{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "running",
        (int)r->running, "paused", (int)r->paused, "stale_bytes", (json_int_t)s->dirty_bytes,
        "total_bytes", (json_int_t)r->total_bytes, "compared_bytes", (json_int_t)r->compared_bytes,
        "unequal_blocks", (json_int_t)r->unequal_blocks, "sent_bytes", (json_int_t)r->sent_bytes,
        "unreadable_bytes", (json_int_t)r->unreadable_bytes, "repeated", (json_int_t)r->repeated,
        "rate_bytes_s", (json_int_t)r->rate_bytes_s, "limit_bytes_s", (json_int_t)r->limit_bytes_s,
        "throttle_bytes_s", (json_int_t)r->throttle_bytes_s, "eta_ns", (json_int_t)r->eta_ns);
}

int hk_verb_resync(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    if (o->pause + o->resume + (o->limit != NULL) > 1)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1030E --pause, --resume and --limit: one of them at a time");
    if (!o->pause && !o->resume && !o->limit)
        return show(o);
    hk_request_fill(o, "resync", &r);
    r.name = (char *)(uintptr_t)(o->pause ? "pause" : o->resume ? "resume" : "limit");
    if (o->limit && !rate_of(o->limit, &r.limit))
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1030E --limit: \"%s\" is no rate; expected bytes a second like "
                           "500k, 20M, 1G, or 0",
                           o->limit);
    r.limited = o->limit != NULL;
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (!hk_print_plan(o, reply) && !o->json)
        printf("resync: %s\n", o->pause    ? "paused"
                               : o->resume ? "goes on"
                               : r.limit   ? "limited"
                                           : "as fast as the application allows");
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}
