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
    r.header_hash = naive_xxh64(&r, offsetof(struct hk_record, header_hash), s->ref.epoch_seed);
    if (memcmp(header, &r, sizeof(r)) == 0)
        return;
    memcpy(header, &r, sizeof(r));
    s->memory_lied = true;
    sim_struck(s, F_MEM_RELINK);
    sim_trace(s, "memory: LSN %llu claims %llu bytes before it", r.lsn, r.prev_bytes, 0);
}

/* A frame's body on its way into a frame, or out of it. */
void mem_frame(struct sim *s, uint64_t lsn, uint8_t *bytes, uint32_t len)
{
    const struct ref_rec *r;

    if (!s->faults_on)
        return;
    if (rng_ppm(&s->rng_fault, s->o.ppm[F_MEM_FRAME])) {
        bytes[rng_below(&s->rng_fault, len)] ^= (uint8_t)(1u << rng_below(&s->rng_fault, 8));
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
