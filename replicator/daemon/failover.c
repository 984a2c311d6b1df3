/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The failover verb: what it may say before, the fence hook, what it states afterwards. The fence
 * runs as a process group of its own; once it is started the order goes on even if its client goes
 * away, because the old primary may be dead by then and somebody must serve.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "replicator/daemon/control.h"
#include "replicator/io/clock.h"

extern char **environ;

/* "14:08:57.110 JST" */
static const char *time_text(uint64_t real_ns, char ret[48])
{
    time_t t = (time_t)(real_ns / 1000000000u);
    char clock[24], zone[16];
    struct tm tm;

    localtime_r(&t, &tm);
    strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
    strftime(zone, sizeof(zone), "%Z", &tm);
    snprintf(ret, 48, "%s.%03u %s", clock, (unsigned)(real_ns / 1000000 % 1000), zone);
    return ret;
}

/* The class with its times filled in. */
static void loss_text(enum hk_loss_class class, uint64_t t0_ns, uint64_t timeout_ns, char ret[160])
{
    char t[48];

    if (class == HK_LOSS_ZERO_IF_FENCED && t0_ns)
        snprintf(ret, 160, "0 if the primary was fenced before %s (t0 + T)",
                 time_text(t0_ns + timeout_ns, t));
    else if (class == HK_LOSS_UNKNOWN && t0_ns)
        snprintf(ret, 160, "unknown since t0 = %s", time_text(t0_ns, t));
    else if (class == HK_LOSS_UNKNOWN)
        snprintf(ret, 160, "unknown: no contact was ever confirmed");
    else
        snprintf(ret, 160, "%s", hk_loss_class_text(class));
}

/* arg: position, class, ns taken, t0. */
void hk_failover_reply(const struct hk_control *c, const uint64_t arg[4], Hk__Pb__Reply *ret)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_epoch *last = hk_history_last(&g->super.history);

    ret->position = arg[0];
    ret->loss_class = (char *)(uintptr_t)hk_loss_class_text((uint32_t)arg[1]);
    ret->took_ns = arg[2];
    ret->t0_ns = arg[3];
    ret->torn_bytes = c->torn_bytes;
    ret->in_doubt = g->super.flags & HK_SF_IN_DOUBT;
    if (arg[1] == HK_LOSS_ZERO_IF_FENCED && arg[3])
        ret->fenced_before_ns = arg[3] + g->super.contact_timeout_ns;
    /* The status is of before the promotion, or of after it. */
    if (last)
        ret->position_epoch = g->promoted && last->ordinal > 1 ? last->ordinal - 1 : last->ordinal;
}

static void say_done(struct hk_control *c, struct hk_client *client)
{
    const struct hk_super *s = &c->status.group.super;
    const uint64_t arg[4] = {s->promote_lsn, s->loss_class, 0, s->contact_time_ns};
    Hk__Pb__Reply reply;

    hk__pb__reply__init(&reply);
    hk_failover_reply(c, arg, &reply);
    reply.already = true;
    hk_control_reply(c, client, &reply, -1);
}

/* Where it goes back to, if the resync that is under way does not end in what is here. */
static void pin_text(const struct hk_group_status *g, char *ret, size_t bytes)
{
    *ret = '\0';
    if (!g->inconsistent)
        return;
    if (!g->pinned || g->pin_broken)
        snprintf(ret, bytes,
                 "; A RESYNC HAS NOT ENDED, AND THERE IS NO STATE TO GO BACK TO: it will "
                 "be refused");
    else
        snprintf(
            ret, bytes,
            "; a resync has not ended: unless its end is here already, it goes back to the pin "
            "at LSN %#" PRIx64 ", and %" PRIu64 " bytes are copied",
            g->pin_lsn.v, g->rollback_bytes);
}

static void plan_effects(const struct hk_control *c, char *ret, size_t bytes)
{
    const struct hk_group_status *g = &c->status.group;
    char loss[160], pin[240];

    pin_text(g, pin, sizeof(pin));
    loss_text(hk_report_class(c), g->contact_real_ns, g->super.contact_timeout_ns, loss);
    snprintf(ret, bytes,
             "standby %s becomes primary at LSN %#" PRIx64 "; loss: %s%s; %" PRIu64
             " bytes are still to be applied%s; older epochs are refused from then on%s%s%s%s",
             c->local->site, g->mark.durable.v, loss,
             hk_report_class(c) == HK_LOSS_ZERO_IF_FENCED
                 ? " - if the fence command succeeds in time"
                 : "",
             g->apply_lag_bytes, pin,
             g->super.flags & HK_SF_IN_DOUBT
                 ? "; a superblock was found damaged and no primary met since (HKE4025W), so the "
                   "loss can't be stated better"
                 : "",
             g->frozen ? "; the frozen image ends" : "",
             *c->local->fence_command ? "; the fence command runs first"
                                      : "; there is no fence command: make sure that the old "
                                        "primary is off",
             g->contact ? "; IT IS ALIVE AND IN CONTACT: approval (--yes) is needed" : "");
}

/* ---- the fence ---- */

static int spawn_fence(const char *command, pid_t *ret_pid)
{
    char sh[] = "sh", dash_c[] = "-c";
    char *const argv[] = {sh, dash_c, (char *)(uintptr_t)command, NULL};
    posix_spawnattr_t attr;
    sigset_t none, pipe_default;
    int r = posix_spawnattr_init(&attr);

    if (r)
        return r;
    sigemptyset(&none);
    sigemptyset(&pipe_default);
    sigaddset(&pipe_default, SIGPIPE);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &pipe_default);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    r = posix_spawn(ret_pid, "/bin/sh", NULL, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    return r;
}

static void fence_failed(struct hk_control *c, struct hk_order *o, const char *how)
{
    struct hk_client *client = hk_order_client(c, o->op_id);
    bool yes = o->yes;

    hk_notice_add(c, "HKE6003E", 0, 0, o->op_id, o->change,
                  "the fence command failed (%s): the old primary may still be writing%s", how,
                  yes ? "; the promotion goes on without a fence, as consented"
                      : "; nothing was changed");
    if (yes) {
        hk_order_post(c, o, HK_FENCE_FAILED);
        return;
    }
    hk_order_end(c, o, 0, "the fence command failed");
    if (client)
        hk_verb_say(c, client, HK_VERB_EXIT_APPROVAL,
                    "HKE6003E the fence command failed (%s); nothing was changed; shut the old "
                    "primary off by other means, then repeat with --yes to promote without a fence",
                    how);
}

static void fence_start(struct hk_control *c, struct hk_order *o)
{
    pid_t pid;
    int r = spawn_fence(c->local->fence_command, &pid);

    if (r) {
        fence_failed(c, o, strerror(r));
        return;
    }
    c->fence.pid = pid;
    c->fence.op_id = o->op_id;
    c->fence.deadline_ns = hk_clock_mono_ns() + HK_FENCE_TIMEOUT_MS * 1000000ull;
}

void hk_verbs_fence_poll(struct hk_control *c)
{
    struct hk_order *o;
    char how[64];
    int status = 0;
    pid_t r;

    if (!c->fence.pid)
        return;
    r = waitpid(c->fence.pid, &status, WNOHANG);
    if (r == 0 && hk_clock_mono_ns() < c->fence.deadline_ns)
        return;
    snprintf(how, sizeof(how), "no end within %d s, killed", HK_FENCE_TIMEOUT_MS / 1000);
    if (r == 0) {
        kill(-c->fence.pid, SIGKILL);
        waitpid(c->fence.pid, &status, 0);
        status = -1;
    } else if (WIFEXITED(status)) {
        snprintf(how, sizeof(how), "exit status %d", WEXITSTATUS(status));
    } else {
        snprintf(how, sizeof(how), "killed by signal %d", WTERMSIG(status));
    }
    c->fence.pid = 0;
    o = hk_order_of(c, c->fence.op_id);
    if (!o)
        return;
    if (status) {
        fence_failed(c, o, how);
        return;
    }
    hk_notice_add(c, "HKE6007I", 0, 0, o->op_id, o->change, "the fence command succeeded (%s): %s",
                  how, c->local->fence_command);
    hk_order_post(c, o, HK_FENCE_OK);
}

/* ---- the verb ---- */

void hk_verb_failover(struct hk_control *c, struct hk_client *client)
{
    const struct hk_group_status *g = &c->status.group;
    struct hk_order *o;
    char effects[700];

    if (g->role == HK_ROLE_PRIMARY) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED, "HKE6004W this site is the primary already");
        return;
    }
    if (g->promoted) {
        say_done(c, client); /* no second fence, no second epoch: what was done stands */
        return;
    }
    plan_effects(c, effects, sizeof(effects));
    if (hk_verb_plan(c, client, effects))
        return;
    if (g->contact && !client->request->yes) {
        hk_verb_say(c, client, HK_VERB_EXIT_APPROVAL,
                    "HKE6005W the primary at %s is alive and in contact: a failover now makes two "
                    "writable sides unless it is stopped first; repeat with --yes if that is "
                    "certain",
                    c->conf->site[c->local->peer_index].name);
        return;
    }
    if (c->fence.pid || hk_order_failover(c)) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED, "HKE6006W a failover is under way already");
        return;
    }
    o = hk_order_begin(c, client, HK_VERB_FAILOVER);
    if (!o)
        return;
    /* A promotion that goes on after a restart had its fence. */
    if (*c->local->fence_command && !(g->super.flags & HK_SF_PROMOTING))
        fence_start(c, o);
    else
        hk_order_post(c, o, HK_FENCE_NONE);
}
