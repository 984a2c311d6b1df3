/* SPDX-License-Identifier: Apache-2.0 */
/* hikae history rpo: how much would have been lost, hour by hour and day by day. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/ctl.h"

/* "0.078", "412.0"; "unknown" when it was not known for long enough to say. */
static const char *seconds(uint64_t ns, char ret[24])
{
    if (ns == UINT64_MAX)
        return "unknown";
    snprintf(ret, 24, "%" PRIu64 ".%03" PRIu64, ns / 1000000000, ns / 1000000 % 1000);
    return ret;
}

static void print_rows(const char *title, Hk__Pb__RpoRow **row, size_t n)
{
    char t[48], a[24], b[24], c[24], d[24], e[24];

    printf(" %-16s  %9s %9s %9s %9s  %10s  %8s  %s\n", title, "p50 s", "p95 s", "p99 s", "max s",
           "max bytes", "UNKNOWN", "MEASURED");
    for (size_t i = 0; i < n; i++) {
        uint64_t span_ms = (row[i]->to_ns - row[i]->from_ns) / 1000000;
        uint64_t part = span_ms ? row[i]->measured_ms * 1000 / span_ms : 0;

        printf(" %-16.16s  %9s %9s %9s %9s  %10s  %6" PRIu64 " s  %3" PRIu64 ".%" PRIu64 " %%\n",
               hk_time_text(row[i]->from_ns, true, t), seconds(row[i]->p50_ns, a),
               seconds(row[i]->p95_ns, b), seconds(row[i]->p99_ns, c), seconds(row[i]->max_ns, d),
               hk_bytes_text(row[i]->max_bytes, e), row[i]->unknown_ms / 1000, part / 10,
               part % 10);
    }
    if (n == 0)
        printf(" nothing measured yet\n");
}

static json_t *known(uint64_t ns)
{
    return ns == UINT64_MAX ? json_null() : json_integer((json_int_t)ns);
}

static json_t *json_rows(Hk__Pb__RpoRow **row, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            list,
            json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:I}", "from_ns",
                      (json_int_t)row[i]->from_ns, "to_ns", (json_int_t)row[i]->to_ns,
                      "measured_ms", (json_int_t)row[i]->measured_ms, "unknown_ms",
                      (json_int_t)row[i]->unknown_ms, "p50_ns", known(row[i]->p50_ns), "p95_ns",
                      known(row[i]->p95_ns), "p99_ns", known(row[i]->p99_ns), "max_ns",
                      (json_int_t)row[i]->max_ns, "max_bytes", (json_int_t)row[i]->max_bytes));
    return list;
}

int hk_verb_history(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    if (strcmp(o->argv[0], "rpo"))
        return hk_complain(HK_EXIT_FAILED, "HKE1030E no history of \"%.80s\" is kept; try: rpo",
                           o->argv[0]);
    hk_request_fill(o, "history", &r);
    r.name = o->argv[0];
    if (o->argc > 1)
        r.group = o->argv[1];
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (o->json) {
        hk_print_json(json_pack("{s:i, s:o, s:o, s:I}", "schema", 1, "hours",
                                json_rows(reply->rpo_hour, reply->n_rpo_hour), "days",
                                json_rows(reply->rpo_day, reply->n_rpo_day), "damaged_lines",
                                (json_int_t)reply->rpo_damaged));
    } else {
        printf("What would have been lost if the primary had failed, as this site knew it.\n");
        print_rows("DAY", reply->rpo_day, reply->n_rpo_day);
        print_rows("HOUR", reply->rpo_hour, reply->n_rpo_hour);
        if (reply->rpo_damaged)
            printf(" %" PRIu64 " lines of the file are damaged and were passed over: their hours "
                   "are missing or end early\n",
                   reply->rpo_damaged);
    }
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}
