/* SPDX-License-Identifier: Apache-2.0 */
/* hikae failover: promoting the standby alone. States a loss class and never more. */
#include <inttypes.h>
#include <stdio.h>

#include "ctl/ctl.h"

static void print_json(const Hk__Pb__Reply *r)
{
    char op[24];

    snprintf(op, sizeof(op), "%016" PRIx64, r->op_id);
    hk_print_json(json_pack(
        "{s:i, s:s, s:b, s:I, s:i, s:s, s:I, s:I, s:I, s:I, s:b, s:s}", "schema", 1, "state",
        "promoted", "already", (int)r->already, "position", (json_int_t)r->position,
        "position_epoch", (int)r->position_epoch, "loss_class", r->loss_class, "took_ns",
        (json_int_t)r->took_ns, "t0_ns", (json_int_t)r->t0_ns, "fenced_before_ns",
        (json_int_t)r->fenced_before_ns, "torn_bytes", (json_int_t)r->torn_bytes, "in_doubt",
        (int)r->in_doubt, "operation", r->already ? "" : op));
}

static void print_words(const Hk__Pb__Reply *r)
{
    char t[48], at[40], loss[160];

    printf("PROMOTED%s at %s\n", r->already ? " already, nothing was done now:" : "",
           hk_lsn_text(r->position_epoch, r->position, at));
    printf("  LOST           %s\n",
           hk_loss_text(r->loss_class, r->t0_ns, r->fenced_before_ns, loss));
    if (r->t0_ns)
        printf("  LAST CONTACT   %s\n", hk_moment_text(r->t0_ns, true, t));
    if (r->torn_bytes)
        printf("  JOURNAL        torn or corrupt behind it, %" PRIu64 " bytes, can't tell which\n",
               r->torn_bytes);
    if (r->in_doubt)
        printf("  METADATA       a superblock was found damaged and no primary met since: newer "
               "facts\n                 may be gone, the loss can't be stated better (HKE4025W)\n");
    if (!r->already)
        printf("  TOOK           %" PRIu64 ".%03" PRIu64 " s\n", r->took_ns / 1000000000u,
               r->took_ns / 1000000u % 1000);
    printf(
        "The replicas may be written now: hikaed has let go of them. Serve them with the Hikae\n"
        "plugin and `capture` set in site.conf (hikae-failover(8)). Older epochs are refused from\n"
        "here on; keep the old primary stopped.\n");
}

int hk_verb_failover(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    hk_request_fill(o, "failover", &r);
    if (o->argc)
        r.group = o->argv[0];
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    /* A promoted site has nothing left to plan: it answers with what was done. */
    if (*reply->plan_id && hk_print_plan(o, reply))
        ;
    else if (o->json)
        print_json(reply);
    else
        print_words(reply);
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}
