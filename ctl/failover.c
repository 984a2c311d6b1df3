/* SPDX-License-Identifier: Apache-2.0 */
/* hikae failover: promoting the standby alone. States a loss class and never more. */
#include <inttypes.h>
#include <stdio.h>

#include "ctl/ctl.h"

int hk_verb_failover(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    char t[48];
    int exit_code;

    hk_request_fill(o, "failover", &r);
    if (o->argc)
        r.group = o->argv[0];
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (hk_print_plan(o, reply)) {
        hk_rpc_free(&reply->base);
        return HK_EXIT_DONE;
    }
    if (o->json) {
        hk_print_json(json_pack("{s:i, s:s, s:I, s:s, s:I, s:I}", "schema", 1, "state", "promoted",
                                "position", (json_int_t)reply->position, "loss_class",
                                reply->loss_class, "took_ns", (json_int_t)reply->took_ns, "t0_ns",
                                (json_int_t)reply->t0_ns));
    } else {
        printf("PROMOTED at LSN %#" PRIx64 "\n  LOST           %s\n", reply->position,
               reply->loss_class);
        if (reply->t0_ns)
            printf("  LAST CONTACT   %s\n", hk_time_text(reply->t0_ns, true, t));
        printf("  TOOK           %" PRIu64 ".%03" PRIu64 " s\n"
               "The replicas may be written now. Older epochs are refused from here on.\n",
               reply->took_ns / 1000000000u, reply->took_ns / 1000000u % 1000);
    }
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}
