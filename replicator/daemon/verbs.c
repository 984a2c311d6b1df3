/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each request means. Looking verbs answer at once from the status that was fetched for them;
 * changing verbs become a struct hk_verb with an operation id, and the client waits for VERB_DONE.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/hash.h"
#include "replicator/daemon/control.h"
#include "replicator/io/clock.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_REFUSED = 2, EXIT_APPROVAL = 3, EXIT_UNKNOWN = 4 };

static void say(struct hk_control *c, struct hk_client *client, int exit_code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void say(struct hk_control *c, struct hk_client *client, int exit_code, const char *fmt, ...)
{
    Hk__Pb__Reply reply;
    char text[HK_EVENT_TEXT_BYTES], *lines = text;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    hk__pb__reply__init(&reply);
    reply.exit_code = (uint32_t)exit_code;
    reply.n_text = 1;
    reply.text = &lines;
    reply.op_id = client->op_id;
    hk_control_reply(c, client, &reply, -1);
}

/* ---- looking ---- */

static void verb_status(struct hk_control *c, struct hk_client *client)
{
    struct hk_status_text *s = malloc(sizeof(*s));
    Hk__Pb__Reply reply;

    if (!s) {
        say(c, client, EXIT_FAILED, "HKE8002E out of memory; try again");
        return;
    }
    hk_report_status(c, s);
    hk__pb__reply__init(&reply);
    reply.status = &s->m;
    hk_control_reply(c, client, &reply, -1);
    free(s);
}

enum { EVENTS_IN_REPLY = 64 };

static void verb_events(struct hk_control *c, struct hk_client *client)
{
    Hk__Pb__Event event[EVENTS_IN_REPLY], *ptr[EVENTS_IN_REPLY];
    char op[EVENTS_IN_REPLY][24];
    uint64_t n = hk_max_u64(client->request->since, hk_events_oldest(c->events));
    Hk__Pb__Reply reply;
    uint32_t used = 0;

    hk__pb__reply__init(&reply);
    for (; n < hk_events_next(c->events) && used < EVENTS_IN_REPLY; n++) {
        const struct hk_event_entry *e = hk_events_get(c->events, n);

        if (!e)
            continue;
        hk__pb__event__init(&event[used]);
        event[used].number = e->number;
        event[used].time_ns = e->time_ns;
        event[used].id = (char *)(uintptr_t)e->id;
        event[used].text = (char *)(uintptr_t)e->text;
        event[used].group = (char *)(uintptr_t)c->conf->name;
        event[used].epoch = e->epoch;
        event[used].lsn = e->lsn;
        snprintf(op[used], sizeof(op[used]), "%016" PRIx64, e->op_id);
        if (e->op_id)
            event[used].operation = op[used];
        ptr[used] = &event[used];
        used++;
    }
    reply.n_event = used;
    reply.event = ptr;
    reply.next_event = n;
    hk_control_reply(c, client, &reply, -1);
}

static void fill_image(struct hk_control *c, Hk__Pb__Image *image, Hk__Pb__VolumeStatus *volume,
                       Hk__Pb__VolumeStatus **ptr)
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_epoch *last = hk_history_last(&g->super.history);
    uint32_t i;

    hk__pb__image__init(image);
    image->name = (char *)(uintptr_t)g->freeze_name;
    image->lsn = g->freeze_lsn.v;
    image->epoch = last ? last->ordinal : 0;
    image->time_ns = g->super.freeze_time_ns;
    image->state = (char *)(uintptr_t) "frozen";
    for (i = 0; i < c->conf->volume_count; i++) {
        hk__pb__volume_status__init(&volume[i]);
        volume[i].name = (char *)(uintptr_t)c->conf->volume[i].name;
        volume[i].bytes = c->conf->volume[i].bytes;
        ptr[i] = &volume[i];
    }
    image->n_volume = i;
    image->volume = ptr;
}

static void verb_images(struct hk_control *c, struct hk_client *client)
{
    Hk__Pb__VolumeStatus volume[HK_VOLUMES_MAX], *ptr[HK_VOLUMES_MAX];
    Hk__Pb__Image image, *images = &image;
    Hk__Pb__Reply reply;

    hk__pb__reply__init(&reply);
    if (c->status.group.role == HK_ROLE_PRIMARY) {
        say(c, client, EXIT_REFUSED, "HKE5010W images are kept at the standby: ask there");
        return;
    }
    if (c->status.group.frozen) {
        fill_image(c, &image, volume, ptr);
        reply.n_image = 1;
        reply.image = &images;
    }
    hk_control_reply(c, client, &reply, -1);
}

/* The image with the asked name stands right now; otherwise the client has been told why not. */
static bool image_stands(struct hk_control *c, struct hk_client *client)
{
    const struct hk_group_status *g = &c->status.group;
    const char *name = client->request->name;

    if (g->role == HK_ROLE_PRIMARY)
        say(c, client, EXIT_REFUSED, "HKE5010W images are kept at the standby: ask there");
    else if (!g->frozen || strcmp(g->freeze_name, name))
        say(c, client, EXIT_REFUSED,
            "HKE5011E image %s does not stand (any more): it was never frozen here, or it was "
            "ended; "
            "see `hikae images` and `hikae events`; what was read of it must not be used",
            name);
    else
        return true;
    return false;
}

static void fill_mark(const struct hk_control *c, Hk__Pb__Reply *reply)
{
    reply->mark_end = c->status.group.freeze_lsn.v;
    reply->mark_time_ns = c->status.group.super.freeze_time_ns;
}

static void verb_image_check(struct hk_control *c, struct hk_client *client)
{
    Hk__Pb__Reply reply;

    if (!image_stands(c, client))
        return;
    hk__pb__reply__init(&reply);
    fill_mark(c, &reply);
    hk_control_reply(c, client, &reply, -1);
}

/* Passes a read-only descriptor of the replica; the reader asks image-check after every piece. */
static void verb_image_open(struct hk_control *c, struct hk_client *client)
{
    Hk__Pb__Reply reply;
    uint32_t v;
    int fd;

    if (!image_stands(c, client))
        return;
    for (v = 0; v < c->conf->volume_count; v++)
        if (!strcmp(c->conf->volume[v].name, client->request->volume))
            break;
    if (v == c->conf->volume_count) {
        say(c, client, EXIT_REFUSED, "HKE5012E group %s has no volume \"%s\"", c->conf->name,
            client->request->volume);
        return;
    }
    fd = open(c->local->standby.replica[v], O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (fd < 0) {
        say(c, client, EXIT_FAILED, "HKE5013E %s: the replica can't be opened for reading: %s",
            c->local->standby.replica[v], strerror(errno));
        return;
    }
    hk__pb__reply__init(&reply);
    fill_mark(c, &reply);
    reply.volume_bytes = c->conf->volume[v].bytes;
    hk_control_reply(c, client, &reply, fd);
}

/* ---- changing ---- */

/*
 * A plan id names the facts that a plan rests on: verb, name, role, state, epoch, freeze, contact.
 * It runs only if they are the same then.
 */
static void plan_id_of(const struct hk_control *c, const Hk__Pb__Request *r, char ret_id[20])
{
    const struct hk_group_status *g = &c->status.group;
    const struct hk_epoch *last = hk_history_last(&g->super.history);
    char facts[512];

    snprintf(facts, sizeof(facts), "%s|%s|%d|%s|%u|%d|%s|%d|%d|%d", r->verb, r->name, (int)g->role,
             hk_report_state(c), last ? last->ordinal : 0, g->frozen, g->freeze_name, g->contact,
             g->promoted, (int)g->loss_class);
    snprintf(ret_id, 20, "%016" PRIx64, hk_xxh64(facts, strlen(facts), 3));
}

static bool plan_first(struct hk_control *c, struct hk_client *client, const char *effects)
{
    const Hk__Pb__Request *r = client->request;
    char id[20], text[HK_EVENT_TEXT_BYTES], *lines = text;
    Hk__Pb__Reply reply;

    plan_id_of(c, r, id);
    if (r->plan) {
        hk__pb__reply__init(&reply);
        snprintf(text, sizeof(text), "%s", effects);
        reply.n_text = 1;
        reply.text = &lines;
        reply.plan_id = id;
        hk_control_reply(c, client, &reply, -1);
        return true;
    }
    if (*r->plan_id && strcmp(r->plan_id, id)) {
        say(c, client, EXIT_REFUSED,
            "HKE1020E plan %s no longer holds: the group's state has changed since (now %s); "
            "nothing "
            "was done, plan anew",
            r->plan_id, id);
        return true;
    }
    return false;
}

static bool op_pending(const struct hk_control *c, const char *verb)
{
    uint32_t i;

    for (i = 0; i < HK_CLIENTS_MAX; i++)
        if (c->client[i].fd >= 0 && c->client[i].op_id && c->client[i].request &&
            !strcmp(c->client[i].request->verb, verb))
            return true;
    return false;
}

static void post(struct hk_control *c, struct hk_client *client, enum hk_verb_kind kind,
                 uint32_t fence)
{
    const Hk__Pb__Request *r = client->request;
    struct hk_verb verb;
    struct hk_now now;

    memset(&verb, 0, sizeof(verb));
    client->op_id = r->op_id ? r->op_id : ++c->next_op;
    verb.kind = kind;
    verb.op_id = client->op_id;
    snprintf(verb.name, sizeof(verb.name), "%s", r->name);
    verb.fence = fence;
    hk_clock_now(&now);
    verb.fence_time_ns = now.real_ns;
    if (getrandom(&verb.new_epoch, sizeof(verb.new_epoch), 0) != (ssize_t)sizeof(verb.new_epoch))
        abort();
    hk_notice_add(c, "HKE1021I", 0, 0, client->op_id, r->change_ref,
                  "operation %016" PRIx64 ": %s %s asked for by uid %u", client->op_id, r->verb,
                  r->name, client->uid);
    if (!hk_control_post_verb(c, &verb))
        say(c, client, EXIT_FAILED, "HKE8005E the daemon is too busy to take the order; try again");
}

static void verb_freeze(struct hk_control *c, struct hk_client *client)
{
    char name[HK_NAME_BYTES] = {0};

    snprintf(name, sizeof(name), "%s", client->request->name);
    if (strlen(client->request->name) >= HK_NAME_BYTES || !hk_mark_name_ok(name))
        say(c, client, EXIT_REFUSED,
            "HKE5014E \"%.80s\" is no name for an image: 1 to 63 of letters, digits, '.', '_', '-'",
            client->request->name);
    else if (!plan_first(
                 c, client,
                 "a mark is set in the log; the standby's applier stops exactly there until "
                 "the image is released; replication goes on"))
        post(c, client, HK_VERB_FREEZE, 0);
}

static void verb_freeze_end(struct hk_control *c, struct hk_client *client)
{
    if (image_stands(c, client) &&
        !plan_first(c, client, "the frozen image ends; the standby's applier goes on"))
        post(c, client, HK_VERB_FREEZE_END, 0);
}

/* The fence hook: its end is waited for in the loop; failover goes on with its result. */
static void fence_start(struct hk_control *c, struct hk_client *client)
{
    pid_t pid = fork();

    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execl("/bin/sh", "sh", "-c", c->local->fence_command, (char *)NULL);
        _exit(127);
    }
    if (pid < 0) {
        say(c, client, EXIT_FAILED, "HKE6003E the fence command can't be started: %s",
            strerror(errno));
        return;
    }
    c->fence.pid = pid;
    c->fence.deadline_ns = hk_clock_mono_ns() + HK_FENCE_TIMEOUT_MS * 1000000ull;
    c->fence.client = (uint32_t)(client - c->client);
}

static void verb_failover(struct hk_control *c, struct hk_client *client)
{
    const struct hk_group_status *g = &c->status.group;
    char effects[600];

    if (g->role == HK_ROLE_PRIMARY) {
        say(c, client, EXIT_REFUSED, "HKE6004W this site is the primary already");
        return;
    }
    snprintf(effects, sizeof(effects),
             "standby %s becomes primary at LSN %#" PRIx64 "; loss: %s; %" PRIu64
             " bytes are still to be applied; older epochs are refused from then on%s",
             c->local->site, g->mark.durable.v, hk_loss_class_text(g->loss_class),
             g->apply_lag_bytes, g->frozen ? "; the frozen image ends" : "");
    if (plan_first(c, client, effects))
        return;
    if (g->contact && !client->request->yes) {
        say(c, client, EXIT_APPROVAL,
            "HKE6005W the primary at %s is alive and in contact: a failover now makes two writable "
            "sides unless it is stopped first; repeat with --yes if that is certain",
            c->conf->site[c->local->peer_index].name);
        return;
    }
    if (c->fence.pid || op_pending(c, "failover")) {
        say(c, client, EXIT_REFUSED, "HKE6006W a failover is under way already");
        return;
    }
    if (*c->local->fence_command)
        fence_start(c, client);
    else
        post(c, client, HK_VERB_FAILOVER, HK_FENCE_NONE);
}

void hk_verbs_fence_poll(struct hk_control *c)
{
    struct hk_client *client = &c->client[c->fence.client];
    int status = 0;
    pid_t r;

    if (!c->fence.pid)
        return;
    r = waitpid(c->fence.pid, &status, WNOHANG);
    if (r == 0 && hk_clock_mono_ns() < c->fence.deadline_ns)
        return;
    if (r == 0) {
        kill(c->fence.pid, SIGKILL);
        waitpid(c->fence.pid, &status, 0);
        status = -1;
    }
    c->fence.pid = 0;
    if (client->fd < 0 || !client->request)
        return;
    if (status == 0) {
        hk_notice_add(c, "HKE6007I", 0, 0, client->request->op_id, client->request->change_ref,
                      "the fence command succeeded");
        post(c, client, HK_VERB_FAILOVER, HK_FENCE_OK);
    } else {
        hk_notice_add(c, "HKE6003E", 0, 0, client->request->op_id, client->request->change_ref,
                      "the fence command failed (status %d): the old primary may still be writing",
                      status);
        if (client->request->yes)
            post(c, client, HK_VERB_FAILOVER, HK_FENCE_FAILED);
        else
            say(c, client, EXIT_APPROVAL,
                "HKE6003E the fence command failed; nothing was changed; repeat with --yes to "
                "promote without a fence");
    }
}

/* ---- the table ---- */

static const struct {
    const char *verb;
    void (*handle)(struct hk_control *c, struct hk_client *client);
} verbs[] = {
    {"status", verb_status},         {"events", verb_events},           {"images", verb_images},
    {"image-open", verb_image_open}, {"image-check", verb_image_check}, {"freeze", verb_freeze},
    {"freeze-end", verb_freeze_end}, {"failover", verb_failover},
};

void hk_verbs_handle(struct hk_control *c, struct hk_client *client)
{
    const Hk__Pb__Request *r = client->request;
    size_t i;

    if (r->version != 1) {
        say(c, client, EXIT_FAILED,
            "HKE1022E the command speaks version %u of the control dialogue, this daemon version "
            "1; "
            "use the tools of one release",
            r->version);
        return;
    }
    if (*r->group && strcmp(r->group, c->conf->name)) {
        say(c, client, EXIT_FAILED, "HKE1023E this daemon serves group %s, not \"%.80s\"",
            c->conf->name, r->group);
        return;
    }
    for (i = 0; i < HK_ARRAY_SIZE(verbs); i++)
        if (!strcmp(verbs[i].verb, r->verb)) {
            verbs[i].handle(c, client);
            return;
        }
    say(c, client, EXIT_FAILED, "HKE1024E this daemon knows no verb \"%.80s\"", r->verb);
}

/* The id under which a verb's refusal is said. */
static const char *refusal_id(const struct hk_client *client, const struct hk_action *a)
{
    if (client && client->request && !strcmp(client->request->verb, "freeze") &&
        a->verb_done.error == -EBUSY)
        return "HKE5015W";
    if (client && client->request && !strcmp(client->request->verb, "failover"))
        return "HKE6008E";
    return "HKE1026W";
}

static const char *why_not(const struct hk_action *a)
{
    if (a->verb_done.reason)
        return hk_refusal_text((enum hk_refusal)a->verb_done.reason);
    return strerror(a->verb_done.error < 0 ? -a->verb_done.error : a->verb_done.error);
}

void hk_verbs_done(struct hk_control *c, const struct hk_action *a)
{
    struct hk_client *client = NULL;
    Hk__Pb__Reply reply;
    uint32_t i;

    for (i = 0; i < HK_CLIENTS_MAX; i++)
        if (c->client[i].fd >= 0 && c->client[i].op_id == a->verb_done.op_id)
            client = &c->client[i];
    hk_notice_add(c, a->verb_done.error ? "HKE1026W" : "HKE1025I", 0, a->verb_done.arg[0],
                  a->verb_done.op_id, NULL, "operation %016" PRIx64 " %s%s", a->verb_done.op_id,
                  a->verb_done.error ? "was refused or failed: " : "is done",
                  a->verb_done.error ? why_not(a) : "");
    if (!client || !client->request || client->stage != HK_CLIENT_WAITING)
        return;
    if (a->verb_done.error) {
        say(c, client, EXIT_REFUSED, "%s %s was refused or failed: %s; see `hikae events`",
            refusal_id(client, a), client->request->verb, why_not(a));
        return;
    }
    hk__pb__reply__init(&reply);
    reply.op_id = a->verb_done.op_id;
    if (!strcmp(client->request->verb, "failover")) {
        reply.position = a->verb_done.arg[0];
        reply.loss_class = (char *)(uintptr_t)hk_loss_class_text((uint32_t)a->verb_done.arg[1]);
        reply.took_ns = a->verb_done.arg[2];
        reply.t0_ns = a->verb_done.arg[3];
    } else {
        reply.mark_lsn = a->verb_done.arg[0];
        reply.mark_end = a->verb_done.arg[1];
        reply.mark_time_ns = a->verb_done.arg[2];
    }
    hk_control_reply(c, client, &reply, -1);
}
