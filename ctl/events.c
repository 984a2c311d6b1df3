/* SPDX-License-Identifier: Apache-2.0 */
/* hikae events: numbered without holes, also over restarts; a gap would be a damaged log. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/ctl.h"

static void print_event(const struct hk_options *o, const Hk__Pb__Event *e)
{
    char t[48];

    if (o->json) {
        json_t *j =
            json_pack("{s:i, s:I, s:I, s:s, s:s, s:i, s:I, s:s, s:s, s:s}", "schema", 1, "number",
                      (json_int_t)e->number, "time_ns", (json_int_t)e->time_ns, "id", e->id,
                      "group", e->group, "epoch", (int)e->epoch, "lsn", (json_int_t)e->lsn,
                      "operation", e->operation, "change", e->change, "text", e->text);

        json_dumpf(j, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(j);
        return;
    }
    printf("%6" PRIu64 "  %s  %s  %s%s%s%s\n", e->number, hk_time_text(e->time_ns, true, t), e->id,
           e->text, *e->change ? " [" : "", e->change, *e->change ? "]" : "");
}

int hk_verb_events(const struct hk_options *o)
{
    uint64_t since = o->since, before;
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;
    size_t i;

    for (;;) {
        hk_request_fill(o, "events", &r);
        if (o->argc)
            r.group = o->argv[0];
        r.since = since;
        exit_code = hk_ask(o, &r, &reply, NULL);
        if (exit_code)
            return exit_code;
        for (i = 0; i < reply->n_event; i++)
            print_event(o, reply->event[i]);
        before = since;
        since = reply->next_event;
        i = reply->n_event;
        hk_rpc_free(&reply->base);
        fflush(stdout);
        if (i == 0 && !o->follow)
            return HK_EXIT_DONE;
        if (i == 0 || since == before)
            usleep(200000);
    }
}
