/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs, the options, and what all verbs share. */
#include "ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

const struct hk_verb_entry hk_verb_table[] = {
    {"status", "[GROUP]", 0, 1, HK_OPT_JSON | HK_OPT_WATCH,
     "show the verdict, what would be lost now, and what to do", hk_verb_status},
    {"events", "[GROUP]", 0, 1, HK_OPT_JSON | HK_OPT_SINCE | HK_OPT_FOLLOW,
     "list what happened, numbered without holes", hk_verb_events},
    {"history", "WHAT [GROUP]", 1, 2, HK_OPT_JSON,
     "show what would have been lost, by hour and day (rpo)", hk_verb_history},
    {"explain", "[ID]", 0, 1, HK_OPT_JSON | HK_OPT_JA | HK_OPT_MANUAL,
     "say what a message means and what to do", hk_verb_explain},
    {"check-config", "", 0, 0, HK_OPT_JSON, "check both configuration files", hk_verb_check_config},
    {"create-md", "", 0, 0, HK_OPT_JSON | HK_OPT_ASSUME_EQUAL | HK_OPT_FORCE | HK_OPT_SEED,
     "create this site's metadata: a history, a dirty map", hk_verb_create_md},
    {"seed", "export|import DIR", 2, 2, HK_OPT_JSON,
     "write images of the volumes to a directory, or make this standby from them", hk_verb_seed},
    {"upgrade", "show|commit", 1, 1, HK_OPT_JSON,
     "show the formats of this site's metadata, or move them to this release's", hk_verb_upgrade},
    {"dump", "FILE", 1, 1, HK_OPT_JSON | HK_OPT_PAYLOAD | HK_OPT_CHECK,
     "show an on-disk structure: metadata, segment, ring", hk_verb_dump},
    {"freeze", "NAME", 1, 1, HK_OPT_JSON | HK_OPT_CHANGING | HK_OPT_END,
     "stop the standby's applier exactly at a mark, or release it (--end)", hk_verb_freeze},
    {"images", "[GROUP]", 0, 1, HK_OPT_JSON, "list the images that can be read", hk_verb_images},
    {"restore", "NAME", 1, 1, HK_OPT_JSON | HK_OPT_VOLUME_TO,
     "copy a volume of a frozen image to a file", hk_verb_restore},
    {"resync", "[GROUP]", 0, 1, HK_OPT_JSON | HK_OPT_CHANGING | HK_OPT_RESYNC,
     "show how far a resync is, pause it, let it go on, bound it", hk_verb_resync},
    {"resize", "VOLUME SIZE", 2, 2, HK_OPT_JSON | HK_OPT_CHANGING,
     "make a volume larger at both sites, while it is in use", hk_verb_resize},
    {"failover", "[GROUP]", 0, 1, HK_OPT_JSON | HK_OPT_CHANGING | HK_OPT_YES,
     "promote the standby alone, because the primary is lost", hk_verb_failover},
    {NULL, NULL, 0, 0, 0, NULL, NULL},
};

struct option_entry {
    unsigned bit; /* 0: every verb */
    struct option o;
    const char *arg, *help;
};

static const struct option_entry option_table[] = {
    {0,
     {"group", required_argument, NULL, 'g'},
     "FILE",
     "group configuration (default /etc/hikae/group.conf)"},
    {0,
     {"site", required_argument, NULL, 's'},
     "FILE",
     "site configuration (default /etc/hikae/site.conf)"},
    {0,
     {"socket", required_argument, NULL, 'S'},
     "PATH",
     "the daemon's socket (default: the one of the site configuration)"},
    {HK_OPT_JSON, {"json", no_argument, NULL, 'j'}, NULL, "print JSON, schema 1"},
    {HK_OPT_WATCH, {"watch", no_argument, NULL, 'w'}, NULL, "again each second, until stopped"},
    {HK_OPT_CHANGING,
     {"plan", no_argument, NULL, 'p'},
     NULL,
     "print the effects and a plan id, change nothing"},
    {HK_OPT_CHANGING,
     {"plan-id", required_argument, NULL, 'P'},
     "ID",
     "run only if nothing has changed since that plan"},
    {HK_OPT_CHANGING,
     {"change", required_argument, NULL, 'c'},
     "REF",
     "change reference for the event log"},
    {HK_OPT_CHANGING,
     {"op-id", required_argument, NULL, 'o'},
     "HEX",
     "operation id (default: random)"},
    {HK_OPT_YES, {"yes", no_argument, NULL, 'y'}, NULL, "consent to what would ask for approval"},
    {HK_OPT_SINCE, {"since", required_argument, NULL, 'n'}, "N", "from event number N"},
    {HK_OPT_FOLLOW, {"follow", no_argument, NULL, 'f'}, NULL, "go on as events happen"},
    {HK_OPT_VOLUME_TO,
     {"volume", required_argument, NULL, 'v'},
     "VOLUME",
     "which volume of the image"},
    {HK_OPT_VOLUME_TO,
     {"to", required_argument, NULL, 't'},
     "FILE",
     "where to write it; must not exist"},
    {HK_OPT_END, {"end", no_argument, NULL, 'e'}, NULL, "release the image: the applier goes on"},
    {HK_OPT_END,
     {"or-pin", required_argument, NULL, 'I'},
     "SECONDS",
     "at the standby: if a resync has not ended by then, its pin is the image"},
    {HK_OPT_RESYNC,
     {"pause", no_argument, NULL, 'z'},
     NULL,
     "the compare stands still; what was begun is finished"},
    {HK_OPT_RESYNC, {"resume", no_argument, NULL, 'r'}, NULL, "it goes on"},
    {HK_OPT_RESYNC,
     {"limit", required_argument, NULL, 'l'},
     "RATE",
     "at most so many bytes a second (500k, 20M, 1G); 0: as the application allows"},
    {HK_OPT_ASSUME_EQUAL,
     {"assume-equal", no_argument, NULL, 'E'},
     NULL,
     "the volumes of both sites hold the same bytes: on your word"},
    {HK_OPT_SEED,
     {"seed", no_argument, NULL, 'd'},
     NULL,
     "keep track from here on of what is written after a seed (hikae-seed(8))"},
    {HK_OPT_FORCE, {"force", no_argument, NULL, 'F'}, NULL, "replace metadata that exists"},
    {HK_OPT_JA, {"ja", no_argument, NULL, 'J'}, NULL, "in Japanese"},
    {HK_OPT_MANUAL, {"manual", no_argument, NULL, 'm'}, NULL, "the whole message manual"},
    {HK_OPT_PAYLOAD,
     {"payload", no_argument, NULL, 'b'},
     NULL,
     "with the first bytes of payloads (customers' data)"},
    {HK_OPT_CHECK, {"check", no_argument, NULL, 'k'}, NULL, "only judge it: verdicts and counts"},
    {0, {"help", no_argument, NULL, 'h'}, NULL, "this text"},
};

/* ---- help ---- */

static int usage(void)
{
    const struct hk_verb_entry *v;

    printf("Usage: hikae VERB [OPTIONS] [ARGUMENTS]\n\n"
           "Real-time block replication to a disaster-recovery site.\n\nVerbs:\n");
    for (v = hk_verb_table; v->name; v++)
        printf("  %-14s%-10s %s\n", v->name, v->args, v->help);
    printf("\n`hikae VERB --help` for a verb's options; hikae-VERB(8) for its manual page.\n"
           "Exit codes: 0 done, 1 failed, 2 refused or warning, 3 needs approval, 4 outcome "
           "unknown.\n");
    return HK_EXIT_DONE;
}

static int verb_help(const struct hk_verb_entry *v)
{
    char name[48];
    size_t i;

    printf("Usage: hikae %s [OPTIONS]%s%s\n\n%c%s.\n\nOptions:\n", v->name, *v->args ? " " : "",
           v->args, v->help[0] - 'a' + 'A', v->help + 1);
    for (i = 0; i < HK_ARRAY_SIZE(option_table); i++) {
        const struct option_entry *e = &option_table[i];

        if (e->bit && !(v->options & e->bit))
            continue;
        snprintf(name, sizeof(name), "--%s%s%s", e->o.name, e->arg ? "=" : "",
                 e->arg ? e->arg : "");
        printf("  %-20s %s\n", name, e->help);
    }
    return HK_EXIT_DONE;
}

/* ---- options ---- */

static bool number(const char *text, int base, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, base);
    return !errno && *text && !*end && *text != '-';
}

static int take_option(struct hk_options *o, int key)
{
    switch (key) {
    case 'g': o->group_file = optarg; return 0;
    case 's': o->site_file = optarg; return 0;
    case 'S': o->socket = optarg; return 0;
    case 'j': o->json = true; return 0;
    case 'w': o->watch = true; return 0;
    case 'p': o->plan = true; return 0;
    case 'P': o->plan_id = optarg; return 0;
    case 'c': o->change = optarg; return 0;
    case 'y': o->yes = true; return 0;
    case 'f': o->follow = true; return 0;
    case 'v': o->volume = optarg; return 0;
    case 't': o->to = optarg; return 0;
    case 'e': o->end = true; return 0;
    case 'E': o->assume_equal = true; return 0;
    case 'F': o->force = true; return 0;
    case 'd': o->seed = true; return 0;
    case 'J': o->ja = true; return 0;
    case 'm': o->manual = true; return 0;
    case 'b': o->payload = true; return 0;
    case 'k': o->check = true; return 0;
    case 'z': o->pause = true; return 0;
    case 'r': o->resume = true; return 0;
    case 'l': o->limit = optarg; return 0;
    case 'I': o->or_pin = optarg; return 0;
    case 'n':
        return number(optarg, 10, &o->since)
                   ? 0
                   : hk_complain(HK_EXIT_FAILED, "HKE1030E --since: \"%s\" is no event number",
                                 optarg);
    case 'o':
        return number(optarg, 16, &o->op_id) && o->op_id
                   ? 0
                   : hk_complain(HK_EXIT_FAILED,
                                 "HKE1030E --op-id: \"%s\" is no hexadecimal number above 0",
                                 optarg);
    default: return HK_EXIT_FAILED;
    }
}

static int run_verb(const struct hk_verb_entry *v, int argc, char **argv)
{
    struct option longs[HK_ARRAY_SIZE(option_table) + 1];
    struct hk_options o = {.group_file = "/etc/hikae/group.conf",
                           .site_file = "/etc/hikae/site.conf"};
    size_t i, n = 0;
    int key, r;

    memset(longs, 0, sizeof(longs));
    for (i = 0; i < HK_ARRAY_SIZE(option_table); i++)
        if (!option_table[i].bit || (v->options & option_table[i].bit))
            longs[n++] = option_table[i].o;
    opterr = 0;
    while ((key = getopt_long(argc, argv, "g:s:h", longs, NULL)) != -1) {
        if (key == 'h')
            return verb_help(v);
        if (key == '?')
            return hk_complain(HK_EXIT_FAILED,
                               "HKE1031E %s: \"%s\" is no option of this verb, or lacks its value; "
                               "see `hikae %s --help`",
                               v->name, argv[optind - 1], v->name);
        r = take_option(&o, key);
        if (r)
            return r;
    }
    o.argc = argc - optind;
    o.argv = argv + optind;
    if (o.argc < v->args_min || o.argc > v->args_max)
        return hk_complain(HK_EXIT_FAILED, "HKE1032E expected `hikae %s %s`; see `hikae %s --help`",
                           v->name, v->args, v->name);
    if ((v->options & HK_OPT_CHANGING) && !o.op_id &&
        getrandom(&o.op_id, sizeof(o.op_id), 0) != (ssize_t)sizeof(o.op_id))
        return hk_complain(HK_EXIT_FAILED, "HKE1033E no random number for the operation id");
    return v->run(&o);
}

int main(int argc, char **argv)
{
    const struct hk_verb_entry *v;

    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        !strcmp(argv[1], "help"))
        return usage();
    if (!strcmp(argv[1], "--version")) {
        printf("hikae 0.1.0\n");
        return HK_EXIT_DONE;
    }
    for (v = hk_verb_table; v->name; v++)
        if (!strcmp(v->name, argv[1]))
            return run_verb(v, argc - 1, argv + 1);
    return hk_complain(HK_EXIT_FAILED, "HKE1034E \"%s\" is no verb; `hikae --help` lists them",
                       argv[1]);
}

/* ---- what all verbs share ---- */

int hk_complain(int exit_code, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "hikae: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return exit_code;
}

int hk_read_conf(const struct hk_options *o, struct hk_group_conf *g, struct hk_local_conf *l)
{
    char error[HK_CONFIG_ERROR_BYTES];

    if (hk_group_conf_read(o->group_file, g, error) ||
        hk_local_conf_read(o->site_file, g, l, error))
        return hk_complain(HK_EXIT_FAILED, "%s", error);
    return 0;
}

int hk_socket_of(const struct hk_options *o, char ret_path[108])
{
    static struct hk_group_conf group;
    static struct hk_local_conf local;
    const char *path = o->socket;
    int r;

    if (!path) {
        r = hk_read_conf(o, &group, &local);
        if (r)
            return r;
        path = local.socket;
    }
    if (strlen(path) >= 108)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1035E %s: a socket's path has at most 107 characters", path);
    strcpy(ret_path, path);
    return 0;
}

static char *text(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

void hk_request_fill(const struct hk_options *o, const char *verb, Hk__Pb__Request *ret)
{
    hk__pb__request__init(ret);
    ret->version = 1;
    ret->verb = text(verb);
    ret->op_id = o->op_id;
    ret->plan = o->plan;
    ret->plan_id = text(o->plan_id);
    ret->change_ref = text(o->change);
    ret->volume = text(o->volume);
    ret->since = o->since;
    ret->yes = o->yes;
}

static int no_answer(const char *path, const Hk__Pb__Request *r, int error)
{
    bool sent =
        error != -ENOENT && error != -ECONNREFUSED && error != -EACCES && error != -ENAMETOOLONG;

    if (sent && r->op_id)
        return hk_complain(HK_EXIT_UNKNOWN,
                           "HKE1036E the outcome is unknown: the daemon at %s did not answer (%s); "
                           "look with `hikae events` for operation %016" PRIx64 " before repeating",
                           path, strerror(-error), r->op_id);
    return hk_complain(
        HK_EXIT_FAILED,
        "HKE1037E the daemon at %s can't be reached (%s): start hikaed, and read its "
        "log for why it ended; data is not affected by this",
        path, strerror(-error));
}

int hk_ask(const struct hk_options *o, const Hk__Pb__Request *r, Hk__Pb__Reply **ret_reply,
           int *ret_fd)
{
    Hk__Pb__Reply *reply = NULL;
    char path[108];
    int exit_code = hk_socket_of(o, path), error;
    size_t i;

    if (exit_code)
        return exit_code;
    error = hk_rpc_call(path, r, r->op_id ? 600000 : 10000, &reply, ret_fd);
    if (error)
        return no_answer(path, r, error);
    if (reply->exit_code) {
        exit_code = (int)reply->exit_code;
        for (i = 0; i < reply->n_text; i++)
            hk_complain(exit_code, "%s", reply->text[i]);
        hk_rpc_free(&reply->base);
        return exit_code;
    }
    *ret_reply = reply;
    return 0;
}

bool hk_print_plan(const struct hk_options *o, const Hk__Pb__Reply *reply)
{
    if (!o->plan)
        return false;
    if (o->json)
        hk_print_json(json_pack("{s:i, s:s, s:s}", "schema", 1, "plan_id", reply->plan_id,
                                "effects", reply->n_text ? reply->text[0] : ""));
    else
        printf("PLAN %s\n  %s\nNothing was changed. To run exactly this: --plan-id %s\n",
               reply->plan_id, reply->n_text ? reply->text[0] : "", reply->plan_id);
    return true;
}

void hk_print_json(json_t *o)
{
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

const char *hk_bytes_text(uint64_t bytes, char ret[24])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    uint64_t whole = bytes, rest = 0;
    int u = 0;

    while (whole >= 1024) {
        rest = whole % 1024;
        whole /= 1024;
        u++;
    }
    if (u == 0)
        snprintf(ret, 24, "%" PRIu64 " B", whole);
    else
        snprintf(ret, 24, "%" PRIu64 ".%" PRIu64 " %s", whole, rest * 10 / 1024, unit[u]);
    return ret;
}

const char *hk_time_text(uint64_t real_ns, bool full, char ret[48])
{
    time_t t = (time_t)(real_ns / 1000000000u);
    struct tm tm;

    localtime_r(&t, &tm);
    strftime(ret, 48, full ? "%Y-%m-%d %H:%M:%S %Z" : "%m-%d %H:%M:%S", &tm);
    return ret;
}

const char *hk_moment_text(uint64_t real_ns, bool full, char ret[48])
{
    time_t t = (time_t)(real_ns / 1000000000u);
    char day[16] = "", clock[16], zone[16] = "";
    struct tm tm;

    localtime_r(&t, &tm);
    strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
    if (full) {
        strftime(day, sizeof(day), "%Y-%m-%d ", &tm);
        strftime(zone, sizeof(zone), " %Z", &tm);
    }
    snprintf(ret, 48, "%s%s.%03u%s", day, clock, (unsigned)(real_ns / 1000000u % 1000), zone);
    return ret;
}

const char *hk_loss_text(const char *loss_class, uint64_t t0_ns, uint64_t fenced_before_ns,
                         char ret[160])
{
    char t[48];

    if (fenced_before_ns)
        snprintf(ret, 160, "0 if the primary was fenced before %s (t0 + T)",
                 hk_moment_text(fenced_before_ns, true, t));
    else if (!strncmp(loss_class, "unknown", 7) && t0_ns)
        snprintf(ret, 160, "unknown since t0 = %s", hk_moment_text(t0_ns, true, t));
    else if (!strncmp(loss_class, "unknown", 7))
        snprintf(ret, 160, "unknown: no contact was ever confirmed");
    else
        snprintf(ret, 160, "%s", loss_class);
    return ret;
}

const char *hk_lsn_text(uint32_t epoch, uint64_t lsn, char ret[40])
{
    snprintf(ret, 40, "%#x:%011" PRIx64, epoch, lsn);
    return ret;
}
