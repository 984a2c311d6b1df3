/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message table: constant data made from messages.def, and the look-ups behind `hikae explain`
 * and the message manual. Any thread may call; nothing here allocates, changes or fails halfway.
 */
#ifndef HK_MESSAGES_MESSAGES_H
#define HK_MESSAGES_MESSAGES_H

/* HKE1001E, …: in ascending order of the id, so that the enumeration is also the sort order. */
enum hk_msg {
#define HK_MSG(id, ...) id,
#include "replicator/messages/messages.def"
#undef HK_MSG
    HK_MSG_COUNT
};

enum hk_msg_severity { HK_MSG_INFORMATION = 'I', HK_MSG_WARNING = 'W', HK_MSG_ERROR = 'E' };

struct hk_msg_words {
    const char *text;     /* with {names} where the one who says it fills in */
    const char *cause;    /* why it is said */
    const char *system;   /* what Hikae does about it */
    const char *operator; /* what the reader has to do */
};

struct hk_msg_info {
    const char *id; /* "HKE2041E" */
    enum hk_msg_severity severity;
    struct hk_msg_words en, ja;
};

/* Never NULL; msg is one of the enumeration, anything else is our bug and aborts. */
const struct hk_msg_info *hk_msg_get(enum hk_msg msg);

/*
 * From what a person types: "HKE2041E", "hke2041e", "HKE2041" or "2041". -EINVAL: this is no
 * message id; -ENOENT: there is no such message (a wrong severity letter counts as that).
 */
int hk_msg_find(const char *id, enum hk_msg *ret_msg);

/* "information", "warning", "error". */
const char *hk_msg_severity_text(enum hk_msg_severity severity);

#endif
