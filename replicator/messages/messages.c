/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/messages/messages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* "HKE", four digits, one letter. */
enum { ID_PREFIX = 3, ID_DIGITS = 4, ID_LENGTH = ID_PREFIX + ID_DIGITS + 1 };

static const struct hk_msg_info table[HK_MSG_COUNT] = {
#define HK_MSG(m, text, cause, system, operator, ja_text, ja_cause, ja_system, ja_operator) \
    [m] = {#m, (enum hk_msg_severity)(#m)[ID_LENGTH - 1],                                   \
           {text, cause, system, operator}, {ja_text, ja_cause, ja_system, ja_operator}},
#include "replicator/messages/messages.def"
#undef HK_MSG
};

const struct hk_msg_info *hk_msg_get(enum hk_msg msg)
{
    if ((unsigned)msg >= HK_MSG_COUNT)
        abort();
    return &table[msg];
}

int hk_msg_find(const char *id, enum hk_msg *ret_msg)
{
    size_t length;

    if (!strncasecmp(id, "HKE", ID_PREFIX))
        id += ID_PREFIX;
    length = strlen(id);
    if (strspn(id, "0123456789") != ID_DIGITS || length > ID_DIGITS + 1)
        return -EINVAL;
    if (length == ID_DIGITS + 1 && !strchr("IWEiwe", id[ID_DIGITS]))
        return -EINVAL;
    for (unsigned i = 0; i < HK_MSG_COUNT; i++)
        if (!strncasecmp(table[i].id + ID_PREFIX, id, length)) {
            *ret_msg = (enum hk_msg)i;
            return 0;
        }
    return -ENOENT;
}

const char *hk_msg_severity_text(enum hk_msg_severity severity)
{
    switch (severity) {
    case HK_MSG_INFORMATION: return "information";
    case HK_MSG_WARNING: return "warning";
    case HK_MSG_ERROR: return "error";
    }
    abort();
}
