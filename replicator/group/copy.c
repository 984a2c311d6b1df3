/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record that the standby refuses although its frames were good is sent again; when it is refused
 * a second time the primary looks at its own copy (SPEC.md §4.4). Damaged: nobody can ever send it,
 * the capture side makes "full compare required" durable, and no session begins. Whole: a path or
 * one of the hosts' memories changes bytes where no tag covers them; that is said, and it is sent
 * again, as often as it takes.
 */
#include "proto/bug.h"
#include "proto/hash.h"
#include "replicator/group/private.h"

#include <errno.h>

/* Log bytes into one piece of memory. 0, or what the source says. */
static int gather_into(struct hk_source *source, uint64_t lsn, uint8_t *to, uint32_t bytes)
{
    struct hk_iovec iov[2];
    int n = source->gather(source, HK_LSN(lsn), bytes, iov, HK_ARRAY_SIZE(iov));

    for (int i = 0; i < n; i++) {
        __builtin_memcpy(to, iov[i].base, iov[i].bytes);
        to += iov[i].bytes;
    }
    return n < 0 ? n : 0;
}

static int check_payload(struct hk_source *source, const struct hk_record *r)
{
    uint64_t lsn = r->lsn + HK_RECORD_HEADER_BYTES, hash = 0;
    struct hk_iovec iov[2];
    int n;

    if (r->payload_len == 0)
        return 0;
    n = source->gather(source, HK_LSN(lsn), r->payload_len, iov, HK_ARRAY_SIZE(iov));
    if (n < 0)
        return n;
    if (n == 1)
        hash = hk_xxh64(iov[0].base, iov[0].bytes, 0);
    else
        hash = hk_xxh64_2(iov[0].base, iov[0].bytes, iov[1].base, iov[1].bytes, 0);
    return hash == r->payload_hash ? 0 : -EUCLEAN;
}

/* 0: as it was published; -EUCLEAN: it is not; -ERANGE: not held (any more). */
static int own_copy(struct hk_group *g, uint64_t lsn)
{
    const struct hk_epoch *e = hk_history_last(&g->primary->super.history);
    struct hk_source *source = g->cfg.source;
    struct hk_record r;
    int rc = gather_into(source, lsn, (uint8_t *)&r, sizeof(r));

    if (rc)
        return rc;
    if (hk_record_check(&r, HK_LSN(lsn), e->ordinal, hk_epoch_seed(&e->id)) != HK_RECORD_OK)
        return -EUCLEAN;
    return check_payload(source, &r);
}

bool hk_copy_sendable(struct hk_group *g, const struct hk_welcome *w)
{
    struct hk_primary *p = g->primary;
    int rc;

    if (w->bad_count < 2 || w->bad_lsn != w->acked || p->source_gone || HK_BUG(own_copy_trusted))
        return true;
    rc = own_copy(g, w->bad_lsn);
    if (rc == 0) {
        p->own_copy_good++;
        hk_group_notify(g, HK_NOTE_PATH_SUSPECT, w->bad_lsn, w->bad_count, 0, NULL);
    }
    if (rc != -EUCLEAN)
        return true;
    p->own_copy_bad += p->check_lsn != w->bad_lsn;
    p->check_lsn = w->bad_lsn;
    p->check_wanted = true;
    return false;
}
