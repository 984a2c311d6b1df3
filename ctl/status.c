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

/* "2.110 ms", "85 us": what a line needs, to the point. */
static const char *short_text(uint64_t ns, char ret[24])
{
    if (ns >= 10000000000u)
        snprintf(ret, 24, "%" PRIu64 " s", ns / 1000000000u);
    else if (ns >= 1000000u)
        snprintf(ret, 24, "%" PRIu64 ".%" PRIu64 " ms", ns / 1000000u, ns / 100000u % 10);
    else
        snprintf(ret, 24, "%" PRIu64 " us", ns / 1000u);
    return ret;
}

static const char *age_text(uint64_t from_ns, uint64_t now_ns, char ret[32])
{
    uint64_t age = now_ns > from_ns ? (now_ns - from_ns) / 1000000000u : 0;

    if (age >= 86400)
        snprintf(ret, 32, "%" PRIu64 "d %" PRIu64 "h", age / 86400, age / 3600 % 24);
    else if (age >= 3600)
        snprintf(ret, 32, "%" PRIu64 "h %" PRIu64 "m", age / 3600, age / 60 % 60);
    else if (age >= 60)
        snprintf(ret, 32, "%" PRIu64 "m %" PRIu64 "s", age / 60, age % 60);
    else
        snprintf(ret, 32, "%" PRIu64 " s", age);
    return ret;
}

static bool is_standby(const Hk__Pb__Status *s)
{
    return !strcmp(s->role, "standby");
}

static const char *verdict_of(const Hk__Pb__Status *s)
{
    if (s->promoted)
        return "PROMOTED";
    if (s->role_lost)
        return "NOT THE PRIMARY ANY MORE";
    if (s->in_sync)
        return "IN SYNC";
    if (s->contact && strcmp(s->mode, "sync") && !strcmp(s->state, "replicating"))
        return is_standby(s) ? "FOLLOWING" : "REPLICATING";
    return "NOT IN SYNC";
}

/* The verdict. IN SYNC only when the daemon says that it may be said. */
static void print_verdict(const Hk__Pb__Status *s)
{
    const char *verdict = verdict_of(s), *state = s->state;
    char since[96] = "", t[48], age[32];

    if (s->in_sync || s->promoted || s->role_lost || !strcmp(verdict, "REPLICATING") ||
        !strcmp(verdict, "FOLLOWING"))
        state = "";
    else if (!strcmp(state, "no-contact"))
        state = "no contact";
    if (s->state_since_ns)
        snprintf(since, sizeof(since), "%ssince %s (%s)", *state ? " " : "",
                 hk_time_text(s->state_since_ns, false, t),
                 age_text(s->state_since_ns, s->now_ns, age));
    printf("%s  %s  %s%s   mode %s, on-link-loss %s   %s\n", s->group, verdict, state, since,
           s->mode, s->on_link_loss, hk_time_text(s->now_ns, true, t));
    if (s->stopped_since_ns)
        printf("      APPLICATION I/O STOPPED BY POLICY since %s (%s): %u writes wait\n",
               hk_moment_text(s->stopped_since_ns, false, t),
               age_text(s->stopped_since_ns, s->now_ns, age), s->held + s->waiting);
}

/* Where the number is no more than what fits into the bytes it says nothing that they don't. */
static const char *records_text(const Hk__Pb__Status *s, char ret[48])
{
    ret[0] = 0;
    if (s->lose_bytes && !s->lag_records_bound)
        snprintf(ret, 48, " / %llu records", (unsigned long long)s->lag_records);
    return ret;
}

/* What was in sync is only claimed up to t0, and only where the mode promised it. */
static void lose_text(const Hk__Pb__Status *s, char ret[240])
{
    char b[24], sec[24], n[48], t[48], loss[160];
    bool sync = !strcmp(s->mode, "sync");

    if (s->promoted)
        snprintf(ret, 240, "LOST AT FAILOVER %s",
                 hk_loss_text(s->loss_class, s->contact_real_ns, s->fenced_before_ns, loss));
    else if (s->lose_known)
        snprintf(ret, 240, "LOSE NOW %s / %s s%s%s", hk_bytes_text(s->lose_bytes, b),
                 seconds_text(s->lose_ns, sec), records_text(s, n),
                 s->lose_bytes && !s->contact ? " (rising)" : "");
    else if (is_standby(s) && s->contact_real_ns)
        snprintf(ret, 240, "LOSE NOW UNKNOWN: %s until %s, %s may have continued",
                 sync ? "in sync" : "in contact", hk_moment_text(s->contact_real_ns, false, t),
                 s->peer_site);
    else if (is_standby(s))
        snprintf(ret, 240, "LOSE NOW UNKNOWN: nothing was confirmed by %s yet", s->peer_site);
    else if (s->role_lost)
        snprintf(ret, 240,
                 "LOSE NOW: ask %s, the group lives there; what is written here is lost to it",
                 s->peer_site);
    else if (!s->capture_attached)
        snprintf(ret, 240, "LOSE NOW UNKNOWN: the capture side is not there");
    else
        snprintf(ret, 240, "LOSE NOW UNKNOWN: writes pass uncaptured, at least %s",
                 hk_bytes_text(s->lose_bytes, b));
}

static void print_loss(const Hk__Pb__Status *s)
{
    const char *primary = is_standby(s) ? s->peer_site : s->site;
    char lose[240], take[80], b[24], sec[24];

    lose_text(s, lose);
    if (s->promoted || s->role_lost)
        snprintf(take, sizeof(take), "TAKEN OVER");
    else if (s->take_over_known)
        snprintf(take, sizeof(take), "TAKE OVER NOW %s s", seconds_text(s->take_over_ns, sec));
    else if (!s->applied)
        snprintf(take, sizeof(take), "TAKE OVER NOW UNKNOWN");
    else
        snprintf(take, sizeof(take), "TAKE OVER NOW %s to apply, rate not yet measured",
                 hk_bytes_text(s->take_over_bytes, b));
    printf("      %s", lose);
    if (s->lose_known && !s->promoted)
        printf(" (if %s failed at this moment)", primary);
    printf("   %s   alarms %u\n", take, s->alarms);
}

static void print_sites(const Hk__Pb__Status *s)
{
    bool standby = is_standby(s);
    const char *arrow = !strcmp(s->session, "up") && s->contact ? "====>" : "--X->";
    const char *config = !strcmp(s->config, "equal")     ? "config equal"
                         : !strcmp(s->config, "differs") ? "CONFIG DIFFERS"
                                                         : "config not compared (no session)";

    printf("      %s%s%s %s %s %s%s%s %s  epoch %u   %s\n", standby ? s->peer_site : s->site,
           standby ? "" : " ", standby ? "" : s->host,
           s->promoted || s->role_lost ? "OLD PRIMARY" : "PRIMARY", arrow,
           standby ? s->site : s->peer_site, standby ? " " : "", standby ? s->host : "",
           s->promoted || s->role_lost ? "PRIMARY" : "STANDBY", s->epoch, config);
    if (*s->last_refusal && !s->config_equal && (!s->promoted || s->alarms))
        printf("      last refusal: %s\n", s->last_refusal);
}

struct stage {
    const char *name;
    uint64_t lsn, rate;
    bool seconds; /* the age of its oldest missing record is measured: lag_ns */
    uint64_t p50_ns, p99_ns;
};

/* "2.11", "0.07"; "-" where nothing was measured. */
static const char *millis_text(uint64_t ns, char ret[24])
{
    if (ns)
        snprintf(ret, 24, "%" PRIu64 ".%02" PRIu64, ns / 1000000u, ns / 10000u % 100);
    else
        snprintf(ret, 24, "-");
    return ret;
}

/* "-" stands where nothing is measured. */
static void print_stage(const Hk__Pb__Status *s, const struct stage *g)
{
    uint64_t behind = s->produced > g->lsn ? s->produced - g->lsn : 0;
    /* A promoted side's positions belong to the epoch that its own one goes on from. */
    uint32_t epoch = s->promoted && s->epoch > 1 ? s->epoch - 1 : s->epoch;
    char at[40], b[24], sec[24], p50[24], p99[24], rate[32] = "-";
    /* A standby knows its lag only while it hears the primary. */
    bool lag = g->seconds && g->lsn && !s->promoted && (s->contact || !is_standby(s));
    bool first = !strcmp(g->name, "produced");

    if (s->rate_known && g->lsn && !s->promoted)
        snprintf(rate, sizeof(rate), "%" PRIu64 ".%" PRIu64, g->rate / 1000000u,
                 g->rate / 100000u % 10);
    printf(" %-9s %-18s %10s %11s %8s %7s %10s\n", g->name,
           g->lsn ? hk_lsn_text(epoch, g->lsn, at) : "-",
           first || !g->lsn ? "-" : hk_bytes_text(behind, b),
           lag ? seconds_text(s->lag_ns, sec) : "-", millis_text(g->p50_ns, p50),
           millis_text(g->p99_ns, p99), rate);
}

static void print_stages(const Hk__Pb__Status *s)
{
    const struct stage stages[] = {
        {"produced", s->produced, s->rate_produced, false, 0, 0},
        {"acked", s->acked, s->rate_acked, false, s->acked_p50_ns, s->acked_p99_ns},
        {"durable", s->durable, s->rate_durable, true, s->durable_p50_ns, s->durable_p99_ns},
        {"applied", s->applied, s->rate_applied, false, 0, 0}};
    char age[24];
    size_t i;

    printf(" STAGE     LSN                    BEHIND     SECONDS   p50 ms  p99 ms  RATE MB/s\n");
    for (i = 0; i < HK_ARRAY_SIZE(stages); i++)
        print_stage(s, &stages[i]);
    if (!s->promoted && s->learnt_known)
        printf("           %s as %s told %s ago\n",
               is_standby(s) ? "produced" : "acked, durable, applied", s->peer_site,
               short_text(s->learnt_age_ns, age));
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
        uint64_t bad = 0, loss; /* loss: in 1/1000 of a percent */

        for (k = 0; k < p->n_bad; k++)
            bad += p->bad[k];
        loss = p->frames_tx ? p->lost * 100000 / p->frames_tx : 0;
        printf(" %-9s %c %s  rtt %s  loss %" PRIu64 ".%03" PRIu64 "%%  sent %" PRIu64
               " received %" PRIu64 " lost %" PRIu64 " bad %" PRIu64 "   %s\n",
               i ? "" : "LINKS", (char)('a' + i), p->up ? "up" : "DOWN",
               p->srtt_ns ? short_text(p->srtt_ns, sec) : "-", loss / 1000, loss % 1000,
               p->frames_tx, p->frames_rx, p->lost, bad, p->backend);
    }
}

/* How long it would last is a figure of what is written now, and said only while that is known. */
static void print_spool(const Hk__Pb__Status *s)
{
    uint64_t left = s->spool_total - (s->spool_used < s->spool_total ? s->spool_used : 0);
    char total[24];

    printf("spool %" PRIu64 "%% of %s", s->spool_used * 100 / s->spool_total,
           hk_bytes_text(s->spool_total, total));
    if (s->rate_known && s->rate_produced)
        printf(" = %" PRIu64 " min at the rate of now", left / s->rate_produced / 60);
    printf(" (%s)\n", s->spool_state);
}

static void print_buffers(const Hk__Pb__Status *s)
{
    char used[24], held[24], total[24];

    if (s->ring_total)
        printf(" %-9s ring %" PRIu64 "%% of %s   waiting %u   held %u   ", "BUFFERS",
               s->ring_used * 100 / s->ring_total, hk_bytes_text(s->ring_total, total), s->waiting,
               s->held);
    if (s->ring_total && s->spool_total)
        print_spool(s);
    else if (s->ring_total)
        printf("no spool\n");
    if (s->journal_total)
        printf(" %-9s journal holds %s, in use %s = %" PRIu64 "%% of %s\n", "BUFFERS",
               hk_bytes_text(s->journal_held, held), hk_bytes_text(s->journal_used, used),
               s->journal_used * 100 / s->journal_total, hk_bytes_text(s->journal_total, total));
    if (s->uncaptured || s->origin_errors)
        printf(" %-9s uncaptured writes %" PRIu64 "   origin errors %" PRIu64 "\n", "",
               s->uncaptured, s->origin_errors);
}

static void print_refused(const Hk__Pb__Status *s)
{
    if (s->bad_record + s->out_of_window + s->other_session + s->control_bad + s->local_bad +
        s->strangers)
        printf(" %-9s records %" PRIu64 " (chain %" PRIu64 ")  out of window %" PRIu64
               "  other session %" PRIu64 "  control %" PRIu64 "  strangers %" PRIu64
               "  local %" PRIu64 "\n",
               "REFUSED", s->bad_record, s->bad_chain, s->out_of_window, s->other_session,
               s->control_bad, s->strangers, s->local_bad);
}

/* What the standby refused although its frames were good: where was it damaged? */
static void print_memory(const Hk__Pb__Status *s)
{
    if (s->own_copy_bad + s->own_copy_good)
        printf(" %-9s refused by the standby: damaged here %" PRIu64 "   whole here %" PRIu64 "\n",
               "MEMORY", s->own_copy_bad, s->own_copy_good);
}

static void print_frozen(const Hk__Pb__Status *s)
{
    char t[48], at[40];

    if (*s->freeze_name)
        printf(" %-9s %s at %s, taken %s\n", "FROZEN", s->freeze_name,
               hk_lsn_text(s->epoch, s->freeze_lsn, at), hk_time_text(s->freeze_time_ns, true, t));
    else if (s->applying_frozen)
        printf(" %-9s the standby stands at a mark; see `hikae images` there\n", "FROZEN");
}

/* How far, and what a failover would mean meanwhile. */
static void print_resync(const Hk__Pb__Status *s)
{
    const Hk__Pb__Resync *r = s->resync;
    char left[24], total[24], rate[24], at[40], t[48], b[24], age[32];

    if (s->pinned)
        printf(" %-9s %s of %s (%s ago): a failover goes back there, %s to copy\n", "PINNED",
               hk_lsn_text(s->pin_epoch, s->pin_lsn, at), hk_time_text(s->pin_time_ns, false, t),
               age_text(s->pin_time_ns, s->now_ns, age), hk_bytes_text(s->pin_bytes, b));
    else if (s->inconsistent)
        printf(" %-9s no consistent state yet: a failover is refused\n", "PINNED");
    if (!r || !s->dirty_bytes)
        return;
    printf(" %-9s %s of %s left%s", "RESYNC", hk_bytes_text(s->dirty_bytes, left),
           hk_bytes_text(r->total_bytes, total),
           !r->running ? ", waits for a session"
           : r->paused ? ", PAUSED"
                       : "");
    if (r->rate_bytes_s)
        printf("   %s/s", hk_bytes_text(r->rate_bytes_s, rate));
    if (r->eta_ns)
        printf("   about %" PRIu64 " s left\n", r->eta_ns / 1000000000u + 1);
    else
        printf("   time left not known\n");
    printf(" %-9s %" PRIu64 " blocks differed, %s sent   %" PRIu64 " regions again", "",
           r->unequal_blocks, hk_bytes_text(r->sent_bytes, b), r->repeated);
    if (r->unreadable_bytes)
        printf("   UNREADABLE %s", hk_bytes_text(r->unreadable_bytes, b));
    printf("\n");
}

/* "-": not measured, or not built yet; what is not there is never shown as a good value. */
static void print_volumes(const Hk__Pb__Status *s)
{
    char size[24], dirty[24] = "-";
    size_t i;

    /* One figure for the group; 0 is 0 for each. */
    if (s->map_known && (s->n_volume == 1 || s->dirty_bytes == 0))
        hk_bytes_text(s->dirty_bytes, dirty);
    else if (s->map_known)
        snprintf(dirty, sizeof(dirty), "see RESYNC");
    printf(" VOLUME    SIZE       DIRTY      ORIGIN p99  REPLICA p99  LAST VERIFY  STATE\n");
    for (i = 0; i < s->n_volume; i++)
        printf(" %-9s %-10s %-10s %-11s %-12s %-12s %s\n", s->volume[i]->name,
               hk_bytes_text(s->volume[i]->bytes, size), dirty, "-", "-", "-", s->volume[i]->state);
}

static void print_not_built(void)
{
    printf(" %-9s not built yet: no points in time; what was frozen can be restored\n", "GO BACK");
    printf(" %-9s not built yet: nothing is sealed or kept offline\n", "OFFLINE");
}

static void print_screen(const Hk__Pb__Status *s)
{
    size_t i;

    print_verdict(s);
    print_loss(s);
    print_sites(s);
    print_stages(s);
    print_volumes(s);
    print_paths(s);
    print_buffers(s);
    print_refused(s);
    print_memory(s);
    print_frozen(s);
    print_resync(s);
    print_not_built();
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
                 {"on_overflow", s->on_overflow},
                 {"session", s->session},
                 {"epoch_id", s->epoch_id},
                 {"loss_class", s->loss_class},
                 {"ladder", s->ladder},
                 {"stalled", s->stalled},
                 {"spool_state", s->spool_state},
                 {"last_refusal", s->last_refusal},
                 {"freeze_name", s->freeze_name},
                 {"config", s->config}};
    const struct {
        const char *key;
        int value;
    } bools[] = {{"in_sync", s->in_sync},
                 {"ready", s->ready},
                 {"contact", s->contact},
                 {"lag_records_bound", s->lag_records_bound},
                 {"lose_known", s->lose_known},
                 {"promoted", s->promoted},
                 {"inconsistent", s->inconsistent},
                 {"pinned", s->pinned},
                 {"dirty_known", s->map_known},
                 {"role_lost", s->role_lost},
                 {"capture_attached", s->capture_attached},
                 {"config_equal", s->config_equal},
                 {"frozen", s->applying_frozen},
                 {"take_over_known", s->take_over_known},
                 {"learnt_known", s->learnt_known},
                 {"rate_known", s->rate_known}};
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
             {"dirty_bytes", s->dirty_bytes},
             {"pin_lsn", s->pin_lsn},
             {"pin_epoch", s->pin_epoch},
             {"pin_time_ns", s->pin_time_ns},
             {"pin_bytes", s->pin_bytes},
             {"spool_used", s->spool_used},
             {"spool_total", s->spool_total},
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
             {"bad_chain", s->bad_chain},
             {"own_copy_bad", s->own_copy_bad},
             {"own_copy_good", s->own_copy_good},
             {"out_of_window", s->out_of_window},
             {"other_session", s->other_session},
             {"control_bad", s->control_bad},
             {"local_bad", s->local_bad},
             {"strangers", s->strangers},
             {"lag_bytes", s->lag_bytes},
             {"lag_records", s->lag_records},
             {"lag_ns", s->lag_ns},
             {"journal_held", s->journal_held},
             {"learnt_age_ns", s->learnt_age_ns},
             {"contact_lost_ns", s->contact_lost_ns},
             {"stopped_since_ns", s->stopped_since_ns},
             {"fenced_before_ns", s->fenced_before_ns},
             {"rate_produced", s->rate_produced},
             {"rate_acked", s->rate_acked},
             {"rate_durable", s->rate_durable},
             {"rate_applied", s->rate_applied},
             {"acked_p50_ns", s->acked_p50_ns},
             {"acked_p99_ns", s->acked_p99_ns},
             {"durable_p50_ns", s->durable_p50_ns},
             {"durable_p99_ns", s->durable_p99_ns},
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
    json_object_set_new(o, "resync", hk_resync_json(s));
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
