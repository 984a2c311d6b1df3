/* SPDX-License-Identifier: Apache-2.0 */
/* hikae status: line 1 is the verdict in words; loss and take-over stand together. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "proto/frame.h"

static const char *seconds_text(uint64_t ns, char ret[24])
{
    snprintf(ret, 24, "%" PRIu64 ".%03" PRIu64, ns / 1000000000u, ns / 1000000u % 1000);
    return ret;
}

static void since_text(const Hk__Pb__Status *s, char ret[96])
{
    uint64_t age =
        s->now_ns > s->state_since_ns ? (s->now_ns - s->state_since_ns) / 1000000000u : 0;
    char t[48];

    if (!s->state_since_ns) {
        ret[0] = 0;
        return;
    }
    hk_time_text(s->state_since_ns, false, t);
    if (age >= 86400)
        snprintf(ret, 96, "  since %s (%" PRIu64 "d %" PRIu64 "h)", t, age / 86400,
                 age / 3600 % 24);
    else if (age >= 3600)
        snprintf(ret, 96, "  since %s (%" PRIu64 "h %" PRIu64 "m)", t, age / 3600, age / 60 % 60);
    else
        snprintf(ret, 96, "  since %s (%" PRIu64 " s)", t, age);
}

/* The verdict. IN SYNC only when the daemon says that it may be said. */
static void print_verdict(const Hk__Pb__Status *s)
{
    char since[96], t[48];
    const char *verdict = s->in_sync ? "IN SYNC" : "NOT IN SYNC";

    since_text(s, since);
    if (s->promoted)
        verdict = "PROMOTED";
    else if (!s->in_sync && !strcmp(s->role, "standby") && s->contact)
        verdict = "FOLLOWING";
    else if (!s->in_sync && strcmp(s->mode, "sync") && !strcmp(s->state, "replicating"))
        verdict = "REPLICATING";
    printf("%s  %s  %s%s   mode %s, on-link-loss %s   %s\n", s->group, verdict,
           s->in_sync ? "" : s->state, since, s->mode, s->on_link_loss,
           hk_time_text(s->now_ns, true, t));
}

static void print_loss(const Hk__Pb__Status *s)
{
    char lose[160], take[64], b[24], sec[24], t[48];

    if (s->promoted)
        snprintf(lose, sizeof(lose), "LOST AT FAILOVER %s", s->loss_class);
    else if (s->lose_known)
        snprintf(lose, sizeof(lose), "LOSE NOW %s / %s s (if the primary failed at this moment)",
                 hk_bytes_text(s->lose_bytes, b), seconds_text(s->lose_ns, sec));
    else if (s->contact_real_ns)
        snprintf(lose, sizeof(lose), "LOSE NOW UNKNOWN: in contact until %s, %s may have continued",
                 hk_time_text(s->contact_real_ns, false, t),
                 !strcmp(s->role, "standby") ? s->peer_site : s->site);
    else
        snprintf(lose, sizeof(lose), "LOSE NOW UNKNOWN");
    if (s->take_over_known)
        snprintf(take, sizeof(take), "%s s", seconds_text(s->take_over_ns, sec));
    else
        snprintf(take, sizeof(take), "%s to apply, rate not yet measured",
                 hk_bytes_text(s->take_over_bytes, b));
    printf("      %s   TAKE OVER NOW %s   alarms %u\n", lose, take, s->alarms);
}

static void print_sites(const Hk__Pb__Status *s)
{
    bool primary = !strcmp(s->role, "primary");
    const char *arrow = !strcmp(s->session, "up") && s->contact ? "====>" : "--X->";

    printf("      %s %s %s %s %s %s  epoch %u   %s\n", primary ? s->site : s->peer_site,
           primary ? s->host : "", s->promoted ? "(old PRIMARY)" : "PRIMARY", arrow,
           primary ? s->peer_site : s->site, s->promoted ? "PRIMARY" : "STANDBY", s->epoch,
           s->config_equal ? "config equal" : "config not compared (no session)");
}

static void print_stage(const Hk__Pb__Status *s, const char *name, uint64_t lsn)
{
    uint64_t behind = s->produced > lsn ? s->produced - lsn : 0;
    char at[40], b[24];

    printf(" %-9s %-20s %10s\n", name, lsn ? hk_lsn_text(s->epoch, lsn, at) : "-",
           strcmp(name, "produced") ? hk_bytes_text(behind, b) : "-");
}

static void print_lists(const Hk__Pb__Status *s)
{
    size_t i;

    for (i = 0; i < s->n_next; i++)
        printf(" %-9s %s\n", i ? "" : "NEXT", s->next[i]);
    for (i = 0; i < s->n_cause; i++)
        printf(" %-9s %s\n", i ? "" : "CAUSE", s->cause[i]);
    for (i = 0; i < s->n_do_; i++)
        printf(" %-9s %s\n", i ? "" : "DO", s->do_[i]);
}

static void print_paths(const Hk__Pb__Status *s)
{
    char sec[24];
    size_t i, k;

    for (i = 0; i < s->n_path; i++) {
        const Hk__Pb__PathStatus *p = s->path[i];
        uint64_t bad = 0;

        for (k = 0; k < p->n_bad; k++)
            bad += p->bad[k];
        printf(" %-9s %c %s %s s  sent %" PRIu64 " received %" PRIu64 " lost %" PRIu64
               " bad %" PRIu64 "   %s\n",
               i ? "" : "LINKS", (char)('a' + i), p->up ? "up" : "DOWN",
               seconds_text(p->srtt_ns, sec), p->frames_tx, p->frames_rx, p->lost, bad, p->backend);
    }
}

static void print_buffers(const Hk__Pb__Status *s)
{
    char used[24], total[24];

    if (s->ring_total)
        printf(" %-9s ring %" PRIu64 "%% of %s   waiting %u   held %u\n", "BUFFERS",
               s->ring_used * 100 / s->ring_total, hk_bytes_text(s->ring_total, total), s->waiting,
               s->held);
    if (s->journal_total)
        printf(" %-9s journal %s of %s\n", "BUFFERS", hk_bytes_text(s->journal_used, used),
               hk_bytes_text(s->journal_total, total));
    if (s->uncaptured || s->origin_errors)
        printf(" %-9s uncaptured writes %" PRIu64 "   origin errors %" PRIu64 "\n", "",
               s->uncaptured, s->origin_errors);
}

static void print_screen(const Hk__Pb__Status *s)
{
    char size[24], t[48];
    size_t i;

    print_verdict(s);
    print_loss(s);
    print_sites(s);
    printf(" STAGE     LSN                      BEHIND\n");
    print_stage(s, "produced", s->produced);
    print_stage(s, "acked", s->acked);
    print_stage(s, "durable", s->durable);
    print_stage(s, "applied", s->applied);
    printf(" VOLUME    SIZE       STATE\n");
    for (i = 0; i < s->n_volume; i++)
        printf(" %-9s %-10s %s\n", s->volume[i]->name, hk_bytes_text(s->volume[i]->bytes, size),
               s->volume[i]->state);
    print_paths(s);
    print_buffers(s);
    if (*s->freeze_name)
        printf(" %-9s %s at %#" PRIx64 " of %s\n", "FROZEN", s->freeze_name, s->freeze_lsn,
               hk_time_text(s->freeze_time_ns, true, t));
    for (i = 0; i < s->n_flags; i++)
        printf("%s%s%s", i ? ", " : " FLAGS     ", s->flags[i], i + 1 == s->n_flags ? "\n" : "");
    print_lists(s);
}

/* ---- JSON ---- */

static json_t *string_list(size_t n, char **list)
{
    json_t *a = json_array();
    size_t i;

    for (i = 0; i < n; i++)
        json_array_append_new(a, json_string(list[i]));
    return a;
}

static json_t *path_json(const Hk__Pb__PathStatus *p)
{
    json_t *bad = json_object();
    size_t i;

    for (i = 1; i < p->n_bad && i < HK_FRAME_FAULTS; i++)
        json_object_set_new(bad, hk_frame_fault_text((enum hk_frame_fault)i),
                            json_integer((json_int_t)p->bad[i]));
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:o}", "up", (int)p->up,
                     "srtt_ns", (json_int_t)p->srtt_ns, "frames_tx", (json_int_t)p->frames_tx,
                     "frames_rx", (json_int_t)p->frames_rx, "bytes_tx", (json_int_t)p->bytes_tx,
                     "bytes_rx", (json_int_t)p->bytes_rx, "lost", (json_int_t)p->lost,
                     "retransmitted", (json_int_t)p->retransmitted, "link", p->backend,
                     "bad_frames", bad);
}

static void words_json(const Hk__Pb__Status *s, json_t *o)
{
    const struct {
        const char *key, *value;
    } words[] = {{"group", s->group},
                 {"group_id", s->group_id},
                 {"site", s->site},
                 {"host", s->host},
                 {"peer_site", s->peer_site},
                 {"role", s->role},
                 {"state", s->state},
                 {"mode", s->mode},
                 {"on_link_loss", s->on_link_loss},
                 {"session", s->session},
                 {"epoch_id", s->epoch_id},
                 {"loss_class", s->loss_class},
                 {"last_refusal", s->last_refusal},
                 {"freeze_name", s->freeze_name}};
    const struct {
        const char *key;
        int value;
    } bools[] = {{"in_sync", s->in_sync},
                 {"ready", s->ready},
                 {"contact", s->contact},
                 {"lose_known", s->lose_known},
                 {"promoted", s->promoted},
                 {"capture_attached", s->capture_attached},
                 {"config_equal", s->config_equal},
                 {"frozen", s->applying_frozen},
                 {"take_over_known", s->take_over_known}};
    size_t i;

    for (i = 0; i < HK_ARRAY_SIZE(words); i++)
        json_object_set_new(o, words[i].key, json_string(words[i].value));
    for (i = 0; i < HK_ARRAY_SIZE(bools); i++)
        json_object_set_new(o, bools[i].key, json_boolean(bools[i].value));
}

static void numbers_json(const Hk__Pb__Status *s, json_t *o)
{
    const struct {
        const char *key;
        uint64_t value;
    } n[] = {{"epoch", s->epoch},
             {"session_id", s->session_id},
             {"produced", s->produced},
             {"sent", s->sent},
             {"acked", s->acked},
             {"durable", s->durable},
             {"applied", s->applied},
             {"ceiling", s->ceiling},
             {"lose_bytes", s->lose_bytes},
             {"lose_ns", s->lose_ns},
             {"take_over_bytes", s->take_over_bytes},
             {"take_over_ns", s->take_over_ns},
             {"state_since_ns", s->state_since_ns},
             {"now_ns", s->now_ns},
             {"contact_age_ns", s->contact_age_ns},
             {"contact_real_ns", s->contact_real_ns},
             {"contact_timeout_ns", s->contact_timeout_ns},
             {"ring_used", s->ring_used},
             {"ring_total", s->ring_total},
             {"journal_used", s->journal_used},
             {"journal_total", s->journal_total},
             {"waiting", s->waiting},
             {"held", s->held},
             {"writes", s->writes},
             {"bytes", s->bytes},
             {"uncaptured", s->uncaptured},
             {"origin_errors", s->origin_errors},
             {"freeze_lsn", s->freeze_lsn},
             {"freeze_time_ns", s->freeze_time_ns},
             {"bad_record", s->bad_record},
             {"out_of_window", s->out_of_window},
             {"other_session", s->other_session},
             {"control_bad", s->control_bad},
             {"alarms", s->alarms}};
    size_t i;

    for (i = 0; i < HK_ARRAY_SIZE(n); i++)
        json_object_set_new(o, n[i].key, json_integer((json_int_t)n[i].value));
}

static json_t *status_json(const Hk__Pb__Status *s)
{
    json_t *o = json_pack("{s:i}", "schema", 1), *a = json_array();
    size_t i;

    words_json(s, o);
    numbers_json(s, o);
    for (i = 0; i < s->n_path; i++)
        json_array_append_new(a, path_json(s->path[i]));
    json_object_set_new(o, "paths", a);
    a = json_array();
    for (i = 0; i < s->n_volume; i++)
        json_array_append_new(a, json_pack("{s:s, s:I, s:s}", "name", s->volume[i]->name, "bytes",
                                           (json_int_t)s->volume[i]->bytes, "state",
                                           s->volume[i]->state));
    json_object_set_new(o, "volumes", a);
    json_object_set_new(o, "flags", string_list(s->n_flags, s->flags));
    json_object_set_new(o, "cause", string_list(s->n_cause, s->cause));
    json_object_set_new(o, "next", string_list(s->n_next, s->next));
    json_object_set_new(o, "do", string_list(s->n_do_, s->do_));
    return o;
}

static int show_once(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    hk_request_fill(o, "status", &r);
    if (o->argc)
        r.group = o->argv[0];
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (!reply->status) {
        hk_rpc_free(&reply->base);
        return hk_complain(HK_EXIT_FAILED, "HKE1038E the daemon answered without a status");
    }
    if (o->json)
        hk_print_json(status_json(reply->status));
    else
        print_screen(reply->status);
    exit_code = reply->status->alarms ? HK_EXIT_REFUSED : HK_EXIT_DONE;
    hk_rpc_free(&reply->base);
    return exit_code;
}

int hk_verb_status(const struct hk_options *o)
{
    int r = show_once(o);

    while (o->watch) {
        fflush(stdout);
        sleep(1);
        if (!o->json && isatty(STDOUT_FILENO))
            printf("\033[H\033[2J");
        r = show_once(o);
    }
    return r;
}
