/* SPDX-License-Identifier: Apache-2.0 */
/* hikaed: reads its configuration, makes the node, starts the reactor thread, runs control. */
#include <argp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "replicator/daemon/control.h"
#include "replicator/io/memory.h"

struct arguments {
    const char *group, *site;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;

    switch (key) {
    case 'g': a->group = arg; return 0;
    case 's': a->site = arg; return 0;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument \"%s\"", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"group", 'g', "FILE", 0, "group configuration (default /etc/hikae/group.conf)", 0},
    {"site", 's', "FILE", 0, "site configuration (default /etc/hikae/site.conf)", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const struct argp argp = {
    options,
    parse,
    NULL,
    "hikaed replicates one group: it ships the log from the capture side to the standby site, or "
    "receives, journals and applies it there.",
    NULL,
    NULL,
    NULL};

const char *argp_program_version = "hikaed 0.1.0";

static int run(const struct hk_group_conf *group, const struct hk_local_conf *local)
{
    struct hk_control *c = calloc(1, sizeof(*c));
    char error[HK_CONFIG_ERROR_BYTES];
    pthread_t reactor;
    int r = 1;

    if (!c || hk_events_open(local->state_dir, group->name, &c->events)) {
        fprintf(stderr,
                "hikaed: HKE8006E %s: the event log can't be opened; does the directory "
                "exist, may this user write there?\n",
                local->state_dir);
        free(c);
        return 1;
    }
    c->conf = group;
    c->local = local;
    if (hk_rpo_open(local->state_dir, group->name, &c->rpo))
        hk_notice_add(
            c, "HKE8010W", 0, 0, 0, NULL,
            "%s/%s.rpo: the history of what would be lost can't be read or written; going "
            "on without",
            local->state_dir, group->name);
    if (getrandom(&c->next_op, sizeof(c->next_op), 0) < 0)
        c->next_op = 1;
    if (hk_node_create(group, local, &c->node, error)) {
        fprintf(stderr, "hikaed: %s\n", error);
        goto out_events;
    }
    if (hk_control_open(c, error)) {
        fprintf(stderr, "hikaed: %s\n", error);
        goto out_node;
    }
    hk_notice_add(c, "HKE8007I", 0, 0, 0, NULL, "hikaed 0.1.0 serves group %s at site %s as %s",
                  group->name, local->site, local->primary ? "primary" : "standby");
    if (group->lab_unencrypted)
        hk_notice_add(
            c, "HKE2050W", 0, 0, 0, NULL,
            "the link is not encrypted (lab-unencrypted): use it only inside a laboratory");
    if (pthread_create(&reactor, NULL, hk_node_run, c->node)) {
        fprintf(stderr, "hikaed: HKE8003E the reactor thread can't be started\n");
        goto out_node;
    }
    r = hk_control_run(c);
    pthread_join(reactor, NULL);
    hk_notice_add(c, "HKE8008I", 0, 0, 0, NULL, "hikaed ends");
    hk_control_close(c);
out_node:
    hk_node_free(c->node);
out_events:
    hk_rpo_close(c->rpo);
    hk_events_close(c->events);
    free(c);
    return r;
}

int main(int argc, char **argv)
{
    struct arguments a = {"/etc/hikae/group.conf", "/etc/hikae/site.conf"};
    static struct hk_group_conf group;
    static struct hk_local_conf local;
    char error[HK_CONFIG_ERROR_BYTES];
    struct hk_io_error io_error;
    sigset_t set;

    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (hk_group_conf_read(a.group, &group, error) ||
        hk_local_conf_read(a.site, &group, &local, error)) {
        fprintf(stderr, "hikaed: %s\n", error);
        return 1;
    }
    /* Before any thread: all inherit the mask (signalfd) and the memory lock. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (hk_memory_lock(&io_error))
        fprintf(stderr, "hikaed: HKE8009W %s; going on without\n", io_error.text);
    return run(&group, &local);
}
