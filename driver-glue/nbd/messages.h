/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message ids the plugin says; their meaning is in replicator/messages (HKE1xxx configuration,
 * HKE3xxx capture). By the fence the plugin does not link the table. Each text says what happened,
 * what it means, and what to do.
 */
#ifndef HK_NBD_MESSAGES_H
#define HK_NBD_MESSAGES_H

#define HK_MSG_CONF_READ      "HKE1001E"
#define HK_MSG_CONF_SYNTAX    "HKE1002E"
#define HK_MSG_CONF_MISSING   "HKE1003E"
#define HK_MSG_CONF_TYPE      "HKE1004E"
#define HK_MSG_CONF_VALUE     "HKE1005E"
#define HK_MSG_CONF_TWICE     "HKE1007E"
#define HK_MSG_CONF_OVERFLOW  "HKE1014E"
#define HK_MSG_PACING         "HKE3010W"
#define HK_MSG_BLOCKED        "HKE3011E"
#define HK_MSG_FULL           "HKE3012E"
#define HK_MSG_DEGRADED       "HKE3020E"
#define HK_MSG_REPLICATING    "HKE3021I"
#define HK_MSG_BEHIND         "HKE3030E"
#define HK_MSG_RING_LOST      "HKE3031E"
#define HK_MSG_RESYNC         "HKE3032W"
#define HK_MSG_ORIGIN_FAILED  "HKE3040E"
#define HK_MSG_ORIGIN_OPEN    "HKE3050E"
#define HK_MSG_ORIGIN_SIZE    "HKE3051E"
#define HK_MSG_GROUP_BUSY     "HKE3052E"
#define HK_MSG_METADATA       "HKE3053E"
#define HK_MSG_RING_MAKE      "HKE3054E"
#define HK_MSG_RING_FOREIGN   "HKE3055E"
#define HK_MSG_REDO           "HKE3056I"
#define HK_MSG_REDO_FAILED    "HKE3057E"
#define HK_MSG_STOP_CLEAN     "HKE3058I"
#define HK_MSG_STOP_UNCLEAN   "HKE3059W"
#define HK_MSG_THREADS        "HKE3060W"
#define HK_MSG_METADATA_WRITE "HKE3061E"
#define HK_MSG_REFUSED        "HKE3062W"
#define HK_MSG_NO_EXPORT      "HKE3063E"
#define HK_MSG_BARRED         "HKE3064E"
#define HK_MSG_SERVICE        "HKE3065E"
#define HK_MSG_COPY_LOST      "HKE3066E"
#define HK_MSG_ORIGIN_SECTOR  "HKE3067E"

#endif
