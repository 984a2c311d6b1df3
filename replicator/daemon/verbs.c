/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each request means. Looking verbs answer at once from the status that was fetched for them;
 * changing verbs become a struct hk_verb with an operation id, and the client waits for VERB_DONE.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "proto/hash.h"
#include "replicator/daemon/control.h"
#include "replicator/io/clock.h"

void hk_verb_say(struct hk_control *c, struct hk_client *client, int exit_code, const char *fmt,
                 ...)
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
        hk_verb_say(c, client, HK_VERB_EXIT_FAILED, "HKE8002E out of memory; try again");
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
    static struct hk_event_entry entry[EVENTS_IN_REPLY]; /* control thread only */
    Hk__Pb__Event event[EVENTS_IN_REPLY], *ptr[EVENTS_IN_REPLY];
    char op[EVENTS_IN_REPLY][24];
    uint64_t n = hk_max_u64(client->request->since, hk_events_oldest(c->events));
    Hk__Pb__Reply reply;
    uint32_t used = 0;

    hk__pb__reply__init(&reply);
    for (; n < hk_events_next(c->events) && used < EVENTS_IN_REPLY; n++) {
        const struct hk_event_entry *found = hk_events_get(c->events, n), *e = &entry[used];

        if (!found)
            continue;
        entry[used] = *found;
        hk__pb__event__init(&event[used]);
        event[used].number = e->number;
        event[used].time_ns = e->time_ns;
        event[used].id = (char *)(uintptr_t)e->id;
        event[used].text = (char *)(uintptr_t)e->text;
        event[used].group = (char *)(uintptr_t)c->conf->name;
        event[used].epoch = e->epoch;
        event[used].lsn = e->lsn;
        event[used].change = (char *)(uintptr_t)e->change;
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

/* A pin has the size of its position. */
static uint64_t image_bytes(const struct hk_control *c, uint32_t i)
{
    const struct hk_group_status *g = &c->status.group;

    if (g->freeze_of_pin && i < g->super.volume_count && g->super.volume[i].prior_bytes)
        return g->super.volume[i].prior_bytes;
    return hk_report_volume_bytes(c, i);
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
    image->epoch = g->freeze_of_pin ? g->super.pin_ordinal : last ? last->ordinal : 0;
    image->time_ns = g->super.freeze_time_ns;
    image->state = (char *)(uintptr_t)(g->freeze_of_pin ? "pin" : "frozen");
    for (i = 0; i < c->conf->volume_count; i++) {
        hk__pb__volume_status__init(&volume[i]);
        volume[i].name = (char *)(uintptr_t)c->conf->volume[i].name;
        volume[i].bytes = image_bytes(c, i);
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
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED,
                    "HKE5010W images are kept at the standby: ask there");
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
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED,
                    "HKE5010W images are kept at the standby: ask there");
    else if (!g->frozen || strcmp(g->freeze_name, name))
        hk_verb_say(
            c, client, HK_VERB_EXIT_REFUSED,
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
    reply->pin = c->status.group.freeze_of_pin;
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

/* The files an image is read from: the replica; of a pin also its index and its before-images. */
static void image_path(const struct hk_control *c, uint32_t part, uint32_t volume,
                       char ret[2 * PATH_MAX])
{
    const char *dir = c->local->standby.snapshots, *below = "";

    if (part == 0) {
        snprintf(ret, 2 * PATH_MAX, "%s", c->local->standby.replica[volume]);
        return;
    }
    if (!*dir) {
        dir = c->local->standby.journal;
        below = "/snapshots";
    }
    snprintf(ret, 2 * PATH_MAX, "%s%s/%d-%s", dir, below, c->status.group.pin_slot,
             part == 1 ? "index" : c->conf->volume[volume].name);
}

/* Passes a read-only descriptor of the replica; the reader asks image-check after every piece. */
static void verb_image_open(struct hk_control *c, struct hk_client *client)
{
    uint32_t part = client->request->part, v;
    char path[2 * PATH_MAX];
    Hk__Pb__Reply reply;
    int fd;

    if (!image_stands(c, client))
        return;
    if (part > 2 || (part && (!c->status.group.freeze_of_pin || c->status.group.pin_slot < 0))) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED, "HKE5011E image %s is no pin",
                    client->request->name);
        return;
    }
    for (v = 0; v < c->conf->volume_count; v++)
        if (!strcmp(c->conf->volume[v].name, client->request->volume))
            break;
    if (v == c->conf->volume_count) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED, "HKE5012E group %s has no volume \"%s\"",
                    c->conf->name, client->request->volume);
        return;
    }
    image_path(c, part, v, path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (fd < 0) {
        hk_verb_say(c, client, HK_VERB_EXIT_FAILED, "HKE5013E %s: can't be opened for reading: %s",
                    path, strerror(errno));
        return;
    }
    hk__pb__reply__init(&reply);
    fill_mark(c, &reply);
    reply.volume_bytes = image_bytes(c, v);
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

bool hk_verb_plan(struct hk_control *c, struct hk_client *client, const char *effects)
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
        hk_verb_say(
            c, client, HK_VERB_EXIT_REFUSED,
            "HKE1020E plan %s no longer holds: the group's state has changed since (now %s); "
            "nothing "
            "was done, plan anew",
            r->plan_id, id);
        return true;
    }
    return false;
}

/* What was ordered, until it is done: the client may be gone by then. */
struct hk_order *hk_order_of(struct hk_control *c, uint64_t op_id)
{
    uint32_t i;

    for (i = 0; i < HK_ARRAY_SIZE(c->order); i++)
        if (op_id && c->order[i].op_id == op_id)
            return &c->order[i];
    return NULL;
}

bool hk_order_failover(const struct hk_control *c)
{
    uint32_t i;

    for (i = 0; i < HK_ARRAY_SIZE(c->order); i++)
        if (c->order[i].op_id && c->order[i].kind == HK_VERB_FAILOVER)
            return true;
    return false;
}

struct hk_client *hk_order_client(struct hk_control *c, uint64_t op_id)
{
    uint32_t i;

    for (i = 0; i < HK_CLIENTS_MAX; i++)
        if (op_id && c->client[i].fd >= 0 && c->client[i].op_id == op_id &&
            c->client[i].stage == HK_CLIENT_WAITING)
            return &c->client[i];
    return NULL;
}

/* Begins an operation: its start entry. NULL: the client has been told why not. */
struct hk_order *hk_order_begin(struct hk_control *c, struct hk_client *client,
                                enum hk_verb_kind kind)
{
    const Hk__Pb__Request *r = client->request;
    uint64_t op_id = r->op_id ? r->op_id : ++c->next_op;
    struct hk_order *o = NULL;
    uint32_t i;

    if (hk_order_of(c, op_id)) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED,
                    "HKE1027W operation %016" PRIx64 " is under way already", op_id);
        return NULL;
    }
    for (i = 0; i < HK_ARRAY_SIZE(c->order) && !o; i++)
        o = c->order[i].op_id ? NULL : &c->order[i];
    if (!o) {
        hk_verb_say(c, client, HK_VERB_EXIT_FAILED,
                    "HKE8005E the daemon is too busy to take the order; try again");
        return NULL;
    }
    memset(o, 0, sizeof(*o));
    client->op_id = o->op_id = op_id;
    o->kind = kind;
    snprintf(o->verb, sizeof(o->verb), "%s", r->verb);
    snprintf(o->name, sizeof(o->name), "%s", r->name);
    snprintf(o->change, sizeof(o->change), "%s", r->change_ref);
    o->yes = r->yes;
    o->or_pin = r->or_pin;
    o->wait_ns = r->wait_ns;
    hk_notice_add(c, "HKE1021I", 0, 0, op_id, o->change,
                  "operation %016" PRIx64 ": %s%s%s asked for by uid %u", op_id, o->verb,
                  *o->name ? " " : "", o->name, client->uid);
    return o;
}

/* Its end entry, and the order is forgotten. */
void hk_order_end(struct hk_control *c, struct hk_order *o, uint64_t lsn, const char *why)
{
    hk_notice_add(c, why ? "HKE1026W" : "HKE1025I", 0, lsn, o->op_id, o->change,
                  "operation %016" PRIx64 ": %s%s%s %s%s", o->op_id, o->verb, *o->name ? " " : "",
                  o->name, why ? "was refused or failed: " : "is done", why ? why : "");
    o->op_id = 0;
}

void hk_order_post(struct hk_control *c, struct hk_order *o, enum hk_verb_fence fence)
{
    struct hk_client *client = hk_order_client(c, o->op_id);
    struct hk_verb verb;
    struct hk_now now;

    memset(&verb, 0, sizeof(verb));
    verb.kind = o->kind;
    verb.op_id = o->op_id;
    snprintf(verb.name, sizeof(verb.name), "%s", o->name);
    verb.fence = fence;
    verb.rate_bytes_s = o->rate_bytes_s;
    verb.or_pin = o->or_pin;
    verb.wait_ns = o->wait_ns;
    verb.volume = o->volume;
    verb.bytes = o->bytes;
    hk_clock_now(&now);
    verb.fence_time_ns = now.real_ns;
    if (getrandom(&verb.new_epoch, sizeof(verb.new_epoch), 0) != (ssize_t)sizeof(verb.new_epoch))
        abort();
    if (hk_control_post_verb(c, &verb))
        return;
    hk_order_end(c, o, 0, "the daemon is too busy to take the order");
    if (client)
        hk_verb_say(c, client, HK_VERB_EXIT_FAILED,
                    "HKE8005E the daemon is too busy to take the order; try again");
}

static void order(struct hk_control *c, struct hk_client *client, enum hk_verb_kind kind)
{
    struct hk_order *o = hk_order_begin(c, client, kind);

    if (o)
        hk_order_post(c, o, HK_FENCE_NONE);
}

static void verb_freeze(struct hk_control *c, struct hk_client *client)
{
    char name[HK_NAME_BYTES] = {0};

    snprintf(name, sizeof(name), "%s", client->request->name);
    if (strlen(client->request->name) >= HK_NAME_BYTES || !hk_mark_name_ok(name))
        hk_verb_say(
            c, client, HK_VERB_EXIT_REFUSED,
            "HKE5014E \"%.80s\" is no name for an image: 1 to 63 of letters, digits, '.', '_', '-'",
            client->request->name);
    else if (client->request->or_pin && c->status.group.role == HK_ROLE_PRIMARY)
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED,
                    "HKE5010W the pin is kept at the standby: give --or-pin there");
    else if (!hk_verb_plan(
                 c, client,
                 client->request->or_pin && c->status.group.inconsistent
                     ? "a resync is under way: if it has not ended in time the pin, the state "
                       "before "
                       "it, becomes the image; until that is released the end of the resync is not "
                       "applied"
                     : "a mark is set in the log; the standby's applier stops exactly there until "
                       "the image is released; replication goes on"))
        order(c, client, HK_VERB_FREEZE);
}

static void verb_freeze_end(struct hk_control *c, struct hk_client *client)
{
    if (image_stands(c, client) &&
        !hk_verb_plan(c, client, "the frozen image ends; the standby's applier goes on"))
        order(c, client, HK_VERB_FREEZE_END);
}

/* name: pause | resume | limit. Held by the node until it is changed. */
static void verb_resync(struct hk_control *c, struct hk_client *client)
{
    const Hk__Pb__Request *r = client->request;
    struct hk_order *o;

    if (c->status.group.role != HK_ROLE_PRIMARY) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED,
                    "HKE3109W resync is run at the primary: give the command at %s",
                    c->conf->site[c->local->peer_index].name);
        return;
    }
    if (hk_verb_plan(c, client,
                     "the compare of a resync is paused, goes on, or is bounded; what "
                     "the application writes is replicated as ever"))
        return;
    o = hk_order_begin(c, client,
                       r->limited                  ? HK_VERB_THROTTLE
                       : !strcmp(r->name, "pause") ? HK_VERB_PAUSE
                                                   : HK_VERB_RESUME);
    if (!o)
        return;
    o->rate_bytes_s = r->limit;
    if (r->limited && r->limit)
        hk_notice_add(c, "HKE3108I", 0, 0, o->op_id, o->change,
                      "resync: at most %" PRIu64 " bytes a second from now on", r->limit);
    else
        hk_notice_add(c, "HKE3108I", 0, 0, o->op_id, o->change, "resync: %s",
                      r->limited                 ? "as fast as the application allows"
                      : o->kind == HK_VERB_PAUSE ? "paused by an operator"
                                                 : "goes on");
    hk_order_post(c, o, HK_FENCE_NONE);
}

/* volume, limit: its new size in bytes. */
static void verb_resize(struct hk_control *c, struct hk_client *client)
{
    const Hk__Pb__Request *r = client->request;
    struct hk_order *o;
    uint32_t v = 0;

    if (c->status.group.role != HK_ROLE_PRIMARY) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED,
                    "HKE3122W a volume is resized at the primary: give the command at %s",
                    c->conf->site[c->local->peer_index].name);
        return;
    }
    while (v < c->conf->volume_count && strcmp(c->conf->volume[v].name, r->volume))
        v++;
    if (v == c->conf->volume_count) {
        hk_verb_say(c, client, HK_VERB_EXIT_REFUSED, "HKE5012E group %s has no volume \"%s\"",
                    c->conf->name, r->volume);
        return;
    }
    if (hk_verb_plan(c, client,
                     "the standby makes its replica larger, durably; then the primary zeroes what "
                     "is new of its origin and takes writes there; clients see the new size when "
                     "they connect again; it can't be made smaller"))
        return;
    o = hk_order_begin(c, client, HK_VERB_RESIZE);
    if (!o)
        return;
    o->volume = v;
    o->bytes = r->limit;
    hk_order_post(c, o, HK_FENCE_NONE);
}

static void rpo_rows(const struct hk_rpo_row *rows, size_t n, Hk__Pb__RpoRow *pb,
                     Hk__Pb__RpoRow **ptr)
{
    for (size_t i = 0; i < n; i++) {
        hk__pb__rpo_row__init(&pb[i]);
        pb[i].from_ns = rows[i].from_ns;
        pb[i].to_ns = rows[i].to_ns;
        pb[i].measured_ms = rows[i].measured_ms;
        pb[i].unknown_ms = rows[i].unknown_ms;
        pb[i].p50_ns = rows[i].p50_ns;
        pb[i].p95_ns = rows[i].p95_ns;
        pb[i].p99_ns = rows[i].p99_ns;
        pb[i].max_ns = rows[i].max_ns;
        pb[i].max_bytes = rows[i].max_bytes;
        ptr[i] = &pb[i];
    }
}

enum { RPO_ROWS = 48 };

static void verb_history(struct hk_control *c, struct hk_client *client)
{
    Hk__Pb__RpoRow pb[2 * RPO_ROWS], *ptr[2 * RPO_ROWS];
    struct hk_rpo_row rows[RPO_ROWS];
    Hk__Pb__Reply reply;

    if (strcmp(client->request->name, "rpo")) {
        hk_verb_say(c, client, HK_VERB_EXIT_FAILED,
                    "HKE1024E this daemon keeps no history of \"%.80s\"; it does of: rpo",
                    client->request->name);
        return;
    }
    if (!c->rpo) {
        hk_verb_say(c, client, HK_VERB_EXIT_FAILED,
                    "HKE8010W %s/%s.rpo: the history of what would be lost can't be read or "
                    "written; going on without",
                    c->local->state_dir, c->conf->name);
        return;
    }
    hk__pb__reply__init(&reply);
    reply.rpo_hour = ptr;
    reply.n_rpo_hour = hk_rpo_hours(c->rpo, rows, RPO_ROWS);
    rpo_rows(rows, reply.n_rpo_hour, pb, reply.rpo_hour);
    reply.rpo_day = ptr + RPO_ROWS;
    reply.n_rpo_day = hk_rpo_days(c->rpo, rows, RPO_ROWS);
    rpo_rows(rows, reply.n_rpo_day, pb + RPO_ROWS, reply.rpo_day);
    reply.rpo_damaged = hk_rpo_damaged(c->rpo);
    hk_control_reply(c, client, &reply, -1);
}

/* ---- the table ---- */

static const struct {
    const char *verb;
    void (*handle)(struct hk_control *c, struct hk_client *client);
} verbs[] = {
    {"status", verb_status},           {"events", verb_events},
    {"images", verb_images},           {"image-open", verb_image_open},
    {"image-check", verb_image_check}, {"freeze", verb_freeze},
    {"resync", verb_resync},           {"freeze-end", verb_freeze_end},
    {"failover", hk_verb_failover},    {"history", verb_history},
    {"resize", verb_resize},
};

void hk_verbs_handle(struct hk_control *c, struct hk_client *client)
{
    const Hk__Pb__Request *r = client->request;
    size_t i;

    if (r->version != 1) {
        hk_verb_say(
            c, client, HK_VERB_EXIT_FAILED,
            "HKE1022E the command speaks version %u of the control dialogue, this daemon version "
            "1; "
            "use the tools of one release",
            r->version);
        return;
    }
    if (*r->group && strcmp(r->group, c->conf->name)) {
        hk_verb_say(c, client, HK_VERB_EXIT_FAILED,
                    "HKE1023E this daemon serves group %s, not \"%.80s\"", c->conf->name, r->group);
        return;
    }
    for (i = 0; i < HK_ARRAY_SIZE(verbs); i++)
        if (!strcmp(verbs[i].verb, r->verb)) {
            verbs[i].handle(c, client);
            return;
        }
    hk_verb_say(c, client, HK_VERB_EXIT_FAILED, "HKE1024E this daemon knows no verb \"%.80s\"",
                r->verb);
}

/* ---- done ---- */

static const struct {
    enum hk_verb_kind kind;
    int error;
    const char *id, *why;
} refusals[] = {
    {HK_VERB_FREEZE, -EBUSY, "HKE5015W",
     "a freeze stands or is being made: see `hikae images` at the standby, release that one first"},
    {HK_VERB_FREEZE, -ENOTCONN, "HKE1026W",
     "there is no session with the other site, and a mark would not reach the standby"},
    {HK_VERB_FREEZE, -ECANCELED, "HKE5004W",
     "it was reached and ended at once: see `hikae events` at the standby"},
    {HK_VERB_FREEZE, -ETIMEDOUT, "HKE1026W",
     "the mark is set, but was not durable at the standby within 60 s; look there before "
     "repeating"},
    {HK_VERB_FREEZE, -ESHUTDOWN, "HKE1026W",
     "writes are not captured now: there is no log to mark"},
    {HK_VERB_FREEZE, -ENODATA, "HKE1026W",
     "a resync has not ended, and there is no sound pin that could be the image"},
    {HK_VERB_FREEZE, -EROFS, "HKE1026W", "this site was promoted: there is no standby to freeze"},
    {HK_VERB_FREEZE, -EAGAIN, "HKE1026W", "recovery is still running"},
    {HK_VERB_FREEZE, -EIO, "HKE1026W", "a replica could not be written, see HKE4023E"},
    {HK_VERB_FREEZE_END, -ENOENT, "HKE5011E", "no freeze of this name stands"},
    {HK_VERB_FREEZE_END, -EBUSY, "HKE1026W", "it is being ended already"},
    {HK_VERB_FREEZE_END, -EAGAIN, "HKE1026W", "recovery is still running"},
    {HK_VERB_RESIZE, -EPERM, "HKE3121W",
     "a volume is never made smaller: what the application still uses of it would be gone at both "
     "sites"},
    {HK_VERB_RESIZE, -EFBIG, "HKE3121W",
     "its max-size in group.conf is below that; it is fixed when the metadata are created"},
    {HK_VERB_RESIZE, -EINVAL, "HKE3121W", "the size must be a multiple of 4096 bytes"},
    {HK_VERB_RESIZE, -EOPNOTSUPP, "HKE3121W",
     "the primary's metadata lie at the end of that origin, or the standby's are of version 1"},
    {HK_VERB_RESIZE, -EBUSY, "HKE3121W", "a volume is being resized already; try again"},
    {HK_VERB_RESIZE, -ENOTCONN, "HKE3121W",
     "the standby has to make room first, and there is no session with it, or no capture side"},
    {HK_VERB_RESIZE, -EAGAIN, "HKE3121W",
     "copies may differ, a resync has to end first; or the standby is starting"},
    {HK_VERB_RESIZE, -ENOSPC, "HKE3121W",
     "there is not enough room: make the origin here and the replica at the standby at least that "
     "large, see the events of both sites"},
    {HK_VERB_RESIZE, -ECONNRESET, "HKE3121W",
     "the session broke before the standby had answered: nothing was changed; try again"},
    {HK_VERB_RESIZE, -ECONNABORTED, "HKE3121W",
     "the capture side went away meanwhile: the outcome is unknown; look with `hikae status`"},
    {HK_VERB_FAILOVER, -EAGAIN, "HKE6008E", "recovery of the journal is still running; try again"},
    {HK_VERB_FAILOVER, -EBUSY, "HKE6006W", "a failover is under way already"},
    {HK_VERB_FAILOVER, -EIO, "HKE6008E", "a replica could not be written, see HKE4023E"},
    {HK_VERB_FAILOVER, -ENODATA, "HKE6008E",
     "it never was a consistent copy: it met no primary, or the first synchronisation has not "
     "ended"},
    {HK_VERB_FAILOVER, -EUCLEAN, "HKE6008E",
     "a resync has not ended, and the pin it could go back to is damaged, see HKE4044E"},
    {HK_VERB_FAILOVER, -EOPNOTSUPP, "HKE6008E",
     "the log ends inside a resync, and metadata of version 1 can hold no pin"},
    {HK_VERB_FAILOVER, -ENOSPC, "HKE6008E", "the group's history is full of epochs"},
};

static const char *refusal(const struct hk_order *o, const struct hk_action *a, const char **ret_id)
{
    int error = a->verb_done.error;
    size_t i;

    *ret_id = o->kind == HK_VERB_FAILOVER ? "HKE6008E" : "HKE1026W";
    for (i = 0; i < HK_ARRAY_SIZE(refusals); i++)
        if (refusals[i].kind == o->kind && refusals[i].error == error) {
            *ret_id = refusals[i].id;
            return refusals[i].why;
        }
    if (a->verb_done.reason)
        return hk_refusal_text((enum hk_refusal)a->verb_done.reason);
    return strerror(error < 0 ? -error : error);
}

void hk_verbs_done(struct hk_control *c, const struct hk_action *a)
{
    struct hk_client *client = hk_order_client(c, a->verb_done.op_id);
    struct hk_order *o = hk_order_of(c, a->verb_done.op_id), was;
    const char *why = NULL, *id = NULL;
    Hk__Pb__Reply reply;

    if (!o)
        return; /* the daemon's own: its end */
    if (a->verb_done.error)
        why = refusal(o, a, &id);
    was = *o;
    hk_order_end(c, o, a->verb_done.arg[0], why);
    if (!client)
        return;
    if (why) {
        hk_verb_say(c, client,
                    was.kind == HK_VERB_RESIZE && a->verb_done.error == -ECONNABORTED
                        ? HK_VERB_EXIT_UNKNOWN
                        : HK_VERB_EXIT_REFUSED,
                    "%s %s%s%s was refused or failed: %s", id, was.verb, *was.name ? " " : "",
                    was.name, why);
        return;
    }
    hk__pb__reply__init(&reply);
    reply.op_id = a->verb_done.op_id;
    if (was.kind == HK_VERB_FAILOVER) {
        hk_failover_reply(c, a->verb_done.arg, &reply);
    } else {
        reply.mark_lsn = a->verb_done.arg[0];
        reply.mark_end = a->verb_done.arg[1];
        reply.mark_time_ns = a->verb_done.arg[2];
        reply.pin = was.kind == HK_VERB_FREEZE && a->verb_done.arg[3] == HK_FREEZE_SAW_PIN;
    }
    hk_control_reply(c, client, &reply, -1);
}
