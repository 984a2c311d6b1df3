/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hikae, the operator's command: one table of verbs, one file per noun. Exit codes: 0 done, 1
 * failed, 2 refused or warning, 3 needs approval, 4 outcome unknown. Everything a person reads is
 * made here;
 * `--json` prints objects with "schema": 1.
 */
#ifndef HK_CTL_CTL_H
#define HK_CTL_CTL_H

#include <jansson.h>

#include "replicator/daemon/config/config.h"
#include "replicator/daemon/rpc/rpc.h"

enum { HK_EXIT_DONE = 0, HK_EXIT_FAILED, HK_EXIT_REFUSED, HK_EXIT_APPROVAL, HK_EXIT_UNKNOWN };

/* Options by bit: which of them a verb takes. */
enum hk_option_bits {
    HK_OPT_JSON = 1 << 0,
    HK_OPT_WATCH = 1 << 1,
    HK_OPT_CHANGING = 1 << 2, /* --plan, --plan-id, --change, --op-id */
    HK_OPT_YES = 1 << 3,
    HK_OPT_SINCE = 1 << 4,
    HK_OPT_FOLLOW = 1 << 5,
    HK_OPT_VOLUME_TO = 1 << 6, /* --volume, --to, --keep */
    HK_OPT_END = 1 << 7,
    HK_OPT_ASSUME_EQUAL = 1 << 8,
    HK_OPT_ROLE = 1 << 9,
    HK_OPT_JA = 1 << 10,
    HK_OPT_MANUAL = 1 << 11,
    HK_OPT_PAYLOAD = 1 << 12,
    HK_OPT_FORCE = 1 << 13,
    HK_OPT_CHECK = 1 << 14,
    HK_OPT_RESYNC = 1 << 15, /* --pause, --resume, --limit */
    HK_OPT_SEED = 1 << 16,
};

struct hk_options {
    const char *group_file, *site_file, *socket;
    bool json, watch, plan, yes, follow, end, assume_equal, ja, keep, payload, force, manual, check;
    bool pause, resume, seed;
    const char *plan_id, *change, *volume, *to, *role, *limit, *or_pin;
    uint64_t op_id, since;
    int argc;
    char **argv; /* the arguments that are no options */
};

struct hk_verb_entry {
    const char *name;
    const char *args; /* "[GROUP]", "NAME" */
    int args_min, args_max;
    unsigned options; /* enum hk_option_bits */
    const char *help; /* one line */
    int (*run)(const struct hk_options *o);
};

extern const struct hk_verb_entry hk_verb_table[]; /* ends with a NULL name */

/* Prints "hikae: <text>" on stderr; returns exit_code. */
int hk_complain(int exit_code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Where the daemon's socket is: --socket, else site.conf's. 0 or an exit code. */
int hk_socket_of(const struct hk_options *o, char ret_path[108]);
/* A request with what the options say filled in. */
void hk_request_fill(const struct hk_options *o, const char *verb, Hk__Pb__Request *ret);
/* Sends it. 0 with a reply whose exit_code is 0; else its messages were printed and the exit code
 * is returned (a lost connection during a changing verb is HK_EXIT_UNKNOWN). */
int hk_ask(const struct hk_options *o, const Hk__Pb__Request *r, Hk__Pb__Reply **ret_reply,
           int *ret_fd);
/* A plan was asked for and is printed: true. */
bool hk_print_plan(const struct hk_options *o, const Hk__Pb__Reply *reply);
void hk_print_json(json_t *o); /* takes the reference */
/* "13.7 MiB", "0 B"; "184.2 MB/s" style for rates is hk_rate_text. */
const char *hk_bytes_text(uint64_t bytes, char ret[24]);
/* "11-20 02:11" style local time; full with zone when `full`. */
const char *hk_time_text(uint64_t real_ns, bool full, char ret[48]);
/* With milliseconds: "14:08:52.110", or "2026-11-23 14:08:52.110 JST" when `full`. */
const char *hk_moment_text(uint64_t real_ns, bool full, char ret[48]);
/* A class of loss with its times filled in; 0 where a time is not known. */
const char *hk_loss_text(const char *loss_class, uint64_t t0_ns, uint64_t fenced_before_ns,
                         char ret[160]);
const char *hk_lsn_text(uint32_t epoch, uint64_t lsn, char ret[40]);
/* Both configuration files, or the exit code after printing what is wrong. */
int hk_read_conf(const struct hk_options *o, struct hk_group_conf *g, struct hk_local_conf *l);

/* What `hikae dump` shows of a primary's dirty map (dump_dmap.c). */
struct hk_super;
int hk_dump_dmap(const struct hk_options *o, const char *path, const uint8_t *bytes, uint64_t size,
                 const struct hk_super *super, json_t *root);

/*
 * An image that is a pin (pin_image.c): what was read of the replica is replaced by the
 * before-images that the pin keeps of it. To be called after the replica was read, and believed
 * only if the image still stands afterwards. 0 or an exit code.
 */
struct hk_pin_image;
int hk_pin_image_open(const struct hk_options *o, struct hk_pin_image **ret);
int hk_pin_image_read(struct hk_pin_image *p, uint64_t offset, size_t bytes, uint8_t *buffer);
void hk_pin_image_close(struct hk_pin_image *p); /* NULL is nothing */

int hk_verb_status(const struct hk_options *o);
int hk_verb_events(const struct hk_options *o);
int hk_verb_history(const struct hk_options *o);
int hk_verb_explain(const struct hk_options *o);
int hk_verb_check_config(const struct hk_options *o);
int hk_verb_create_md(const struct hk_options *o);
int hk_verb_dump(const struct hk_options *o);
int hk_verb_freeze(const struct hk_options *o);
int hk_verb_images(const struct hk_options *o);
int hk_verb_restore(const struct hk_options *o);
int hk_verb_resync(const struct hk_options *o);
json_t *hk_resync_json(const Hk__Pb__Status *s);
int hk_verb_upgrade(const struct hk_options *o);
int hk_verb_seed(const struct hk_options *o);
int hk_verb_resize(const struct hk_options *o);
int hk_verb_failover(const struct hk_options *o);

#endif
