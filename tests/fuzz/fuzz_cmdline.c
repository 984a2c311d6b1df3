/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hikae's command line. Input: the arguments, each ended by a newline. The verbs themselves are
 * replaced by this file: nothing is asked and nothing is written.
 *
 * Oracle: a verb runs only with as many arguments as it takes and with options it takes, numbers
 * were numbers, a changing verb has an operation id; everything else ends with exit code 1.
 */
#include "fuzz.h"

#include "ctl/ctl.h"
#include "tests/fuzz/quiet.h"

#include <getopt.h>
#include <string.h>

enum { ARGS_MAX = 32, TEXT_MAX = 2048 };

int hk_ctl_main(int argc, char **argv); /* ctl/main.c, under this name */

static unsigned ran;

static int check(const struct hk_options *o, unsigned verb)
{
    const struct hk_verb_entry *v = &hk_verb_table[verb];

    ran++;
    HK_ASSERT(o->argc >= v->args_min && o->argc <= v->args_max);
    HK_ASSERT(!o->json || (v->options & HK_OPT_JSON));
    HK_ASSERT(!o->watch || (v->options & HK_OPT_WATCH));
    HK_ASSERT(!o->yes || (v->options & HK_OPT_YES));
    HK_ASSERT(!o->follow || (v->options & HK_OPT_FOLLOW));
    HK_ASSERT(!o->since || (v->options & HK_OPT_SINCE));
    HK_ASSERT(!o->end || (v->options & HK_OPT_END));
    HK_ASSERT(!o->force || (v->options & HK_OPT_FORCE));
    HK_ASSERT(!o->payload || (v->options & HK_OPT_PAYLOAD));
    HK_ASSERT((!o->volume && !o->to) || (v->options & HK_OPT_VOLUME_TO));
    if (v->options & HK_OPT_CHANGING)
        HK_ASSERT(o->op_id);
    else
        HK_ASSERT(!o->plan && !o->plan_id && !o->change && !o->op_id);
    for (int i = 0; i < o->argc; i++)
        HK_ASSERT(strlen(o->argv[i]) < TEXT_MAX);
    HK_ASSERT(o->group_file && o->site_file);
    return HK_EXIT_DONE;
}

static unsigned find(const char *name)
{
    for (unsigned i = 0; hk_verb_table[i].name; i++) {
        if (strcmp(hk_verb_table[i].name, name) == 0)
            return i;
    }
    HK_ASSERT(!"a verb of the table");
    return 0;
}

#define STUB(verb, name)                           \
    int hk_verb_##verb(const struct hk_options *o) \
    {                                              \
        return check(o, find(name));               \
    }
STUB(status, "status")
STUB(events, "events")
STUB(history, "history")
STUB(explain, "explain")
STUB(check_config, "check-config")
STUB(create_md, "create-md")
STUB(dump, "dump")
STUB(freeze, "freeze")
STUB(images, "images")
STUB(restore, "restore")
STUB(resize, "resize")
STUB(resync, "resync")
STUB(failover, "failover")
STUB(seed, "seed")
STUB(upgrade, "upgrade")

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[TEXT_MAX + 1];
    static char program[] = "hikae";
    char *argv[ARGS_MAX + 2] = {program}, *at = text, *end;
    struct quiet was;
    int argc = 1, rc;

    if (size > TEXT_MAX)
        return 0;
    memset(text, 0, sizeof(text));
    if (size > 0)
        memcpy(text, data, size);
    while (argc <= ARGS_MAX && (end = strchr(at, '\n'))) {
        *end = '\0';
        argv[argc++] = at;
        at = end + 1;
    }
    ran = 0;
    optind = 0;
    was = quiet_begin();
    rc = hk_ctl_main(argc, argv);
    quiet_end(was);
    HK_ASSERT(rc == HK_EXIT_DONE || rc == HK_EXIT_FAILED);
    HK_ASSERT(ran <= 1 && (rc == HK_EXIT_DONE || ran == 0));
    return 0;
}
