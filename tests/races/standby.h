/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of a life: a replicator and standby in one, in the parent process, so that they
 * outlive every life. Follows the ring through the product's client and reader, checks each record,
 * keeps its hash by LSN (what was published once never changes), applies it to images in memory,
 * and only then reports it durable.
 */
#ifndef HK_RACES_STANDBY_H
#define HK_RACES_STANDBY_H

#include "driver-glue/client/capture_client.h"
#include "tests/races/life.h"

enum { KEPT = 1 << 12 };

struct standby {
    const struct life_site *site;
    struct hk_capture_client *client;
    uint64_t lsn; /* applied up to here; 0: nothing seen yet */
    uint64_t at;  /* looked at up to here, in this connection */
    uint64_t time_ns;
    uint32_t prev_bytes;
    struct {
        uint64_t lsn, hash;
    } kept[KEPT];
    uint8_t image[VOLUMES][VOLUME_BYTES];
    uint64_t lsn_of[VERSIONS]; /* of the write of that content */
    uint8_t seen[VERSIONS];    /* how often a write of that content was in the log */
    bool mute;                 /* attached, but it takes and reports nothing */
    unsigned records, voids, again;
    uint32_t flags; /* of the superblock told at the last attach */
};

void standby_make(struct standby *s, const struct life_site *site);
/* A new connection to a life that serves. */
const char *standby_meet(struct standby *s);
/* One look: events, records, report. NULL, or what is wrong with what was seen. */
const char *standby_poll(struct standby *s);
bool standby_attached(const struct standby *s);
/* The life is dead: what it had published, and nobody had looked at, is taken from its ring. */
const char *standby_part(struct standby *s);
void standby_free(struct standby *s);

#endif
