/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that lies: log bytes change where no tag of a frame covers them, before they are sealed or
 * after they were opened. Whatever comes of it, the damaged bytes must never reach the journal:
 * naive.c compares each batch there with what was published.
 */
#include <string.h>

#include "tests/sim/sim.h"

static void relink(struct sim *s, uint8_t *header)
{
    struct hk_record r;

    memcpy(&r, header, sizeof(r));
    r.prev_bytes = (uint32_t)rng_below(&s->rng_fault, 64) * 64;
    r.header_hash =
        naive_xxh64(&r, offsetof(struct hk_record, header_hash), ref_epoch_at(s, r.lsn)->seed);
    if (memcmp(header, &r, sizeof(r)) == 0)
        return;
    memcpy(header, &r, sizeof(r));
    s->memory_lied = true;
    sim_struck(s, F_MEM_RELINK);
    sim_trace(s, "memory: LSN %llu claims %llu bytes before it", r.lsn, r.prev_bytes, 0);
}

bool mem_is_rotten(const struct sim *s, uint64_t lsn, uint64_t end)
{
    return s->rotten_lsn && lsn < s->rotten_end && end > s->rotten_lsn;
}

/*
 * A payload in the ring that the origin has and the standby may still lack. One a run: what the
 * system makes of a second one is the same, and the reference need not guess which was met.
 */
void mem_ring(struct sim *s)
{
    uint64_t n, index;

    if (s->rotten_lsn || !s->cap.ring_there || !s->cap.proc.up)
        return;
    n = cap_producer(s)->head - cap_producer(s)->tail;
    for (uint64_t i = 0; i < n; i++) {
        struct hk_record *r;
        struct hk_ring_side *side;

        index = cap_producer(s)->head - 1 - i;
        r = cap_slot(s, index);
        side = cap_side(s, index);
        if (r->lsn != side->lsn || !side->done || r->type != HK_REC_WRITE)
            continue;
        cap_payload(s, side->payload_pos)[rng_below(&s->rng_fault, r->payload_len)] ^=
            (uint8_t)(1u << rng_below(&s->rng_fault, 8));
        s->rotten_lsn = r->lsn;
        s->rotten_end = r->lsn + hk_record_bytes(r->payload_len);
        s->memory_lied = true;
        sim_struck(s, F_MEM_RING);
        sim_trace(s, "memory: the copy of LSN %llu in the ring is damaged", r->lsn, 0, 0);
        return;
    }
}

/* A frame's body on its way into a frame, or out of it. */
void mem_frame(struct sim *s, uint64_t lsn, uint8_t *bytes, uint32_t len)
{
    const struct ref_rec *r;

    if (!s->faults_on)
        return;
    if (rng_ppm(&s->rng_fault, s->o.ppm[F_MEM_FRAME])) {
        rng_flip(&s->rng_fault, bytes, len);
        s->memory_lied = true;
        sim_struck(s, F_MEM_FRAME);
        sim_trace(s, "memory: a bit of [%llu, %llu) flips", lsn, lsn + len, 0);
    }
    if (!rng_ppm(&s->rng_fault, s->o.ppm[F_MEM_RELINK]))
        return;
    /* The first header that lies whole in it. */
    r = ref_find(s, lsn);
    if (r && r->lsn < lsn)
        r = ref_find(s, r->end);
    if (r && r->lsn - lsn + HK_RECORD_HEADER_BYTES <= len)
        relink(s, bytes + (r->lsn - lsn));
}
