/* SPDX-License-Identifier: Apache-2.0 */
/* hikae explain: what a message means, from the one table that the code and the manual share. */
#include <errno.h>
#include <stdio.h>

#include "ctl/ctl.h"
#include "replicator/messages/messages.h"

static void print_message(const struct hk_options *o, const struct hk_msg_info *m)
{
    const struct hk_msg_words *w = o->ja ? &m->ja : &m->en;

    printf("%s (%s)\n  %s\n\n%s\n  %s\n%s\n  %s\n%s\n  %s\n", m->id,
           hk_msg_severity_text(m->severity), w->text, o->ja ? "原因" : "Cause", w->cause,
           o->ja ? "システムの動作" : "System action", w->system,
           o->ja ? "オペレーターの対処" : "Operator action", w->operator);
}

static json_t *message_json(const struct hk_options *o, const struct hk_msg_info *m)
{
    const struct hk_msg_words *w = o->ja ? &m->ja : &m->en;

    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s}", "schema", 1, "id", m->id, "severity",
                     hk_msg_severity_text(m->severity), "text", w->text, "cause", w->cause,
                     "system", w->system, "operator", w->operator);
}

static int explain_all(const struct hk_options *o)
{
    json_t *list = json_array();
    int i;

    for (i = 0; i < HK_MSG_COUNT; i++) {
        if (o->json) {
            json_array_append_new(list, message_json(o, hk_msg_get((enum hk_msg)i)));
            continue;
        }
        print_message(o, hk_msg_get((enum hk_msg)i));
        putchar('\n');
    }
    if (o->json)
        hk_print_json(list);
    else
        json_decref(list);
    return HK_EXIT_DONE;
}

int hk_verb_explain(const struct hk_options *o)
{
    enum hk_msg msg;
    int r;

    if (o->manual)
        return explain_all(o);
    if (o->argc == 0)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1032E expected `hikae explain ID`, such as HKE2041E, "
                           "or `hikae explain --manual`");
    r = hk_msg_find(o->argv[0], &msg);
    if (r)
        return hk_complain(
            HK_EXIT_FAILED, "HKE1039E \"%s\" %s; `hikae explain --manual` lists them", o->argv[0],
            r == -EINVAL ? "is no message id (such as HKE2041E)" : "is no message of this release");
    if (o->json)
        hk_print_json(message_json(o, hk_msg_get(msg)));
    else
        print_message(o, hk_msg_get(msg));
    return HK_EXIT_DONE;
}
