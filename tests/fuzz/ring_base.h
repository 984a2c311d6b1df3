/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sound ring made by the capture core, and damage to it, for targets that read rings. Each piece
 * of damage is six bytes: what, where (area, place u16), a value u16. Only what was touched is put
 * back for the next input.
 */
#ifndef HK_TESTS_FUZZ_RING_BASE_H
#define HK_TESTS_FUZZ_RING_BASE_H

#include "proto/hash.h"
#include "tests/fuzz/script.h"
#include "tests/unit/capture_rig.h"

enum ring_area { RING_HEADER, RING_PRODUCER, RING_SLOTS, RING_SIDES, RING_PAYLOAD, RING_AREAS };
enum ring_damage {
    RING_BYTE,
    RING_BIT,
    RING_WORD,       /* eight bytes of the input */
    RING_SMALL,      /* a u64 becomes the value */
    RING_ADD,        /* … or changes by it */
    RING_SEAL,       /* the ring header's hash is made good */
    RING_SEAL_SLOT,  /* a record's header hash is */
    RING_SEAL_BYTES, /* and its payload's */
    RING_DAMAGES
};

struct ring_base {
    uint8_t *sound, *bytes; /* ring as made, ring as damaged */
    uint64_t size;
    struct hk_super super; /* metadata that goes with it */
    uint32_t touched[256]; /* pages */
    unsigned touched_count;
};

/* Records of all sizes; some done, some published only, the last two reserved only. */
static inline void ring_base_make(struct ring_base *b)
{
    static struct hk_op op[12];
    struct rig r;
    uint64_t half;

    rig_start(&r);
    rig_up(&r);
    hk_capture_tick(r.c, &r.now);
    rig_drain(&r);
    for (unsigned i = 0; i < 12; i++) {
        op[i] = rig_write(i % 2, 8192 * i, i == 4 ? 1 << 19 : 512 * (1 + i % 9));
        if (i % 5 == 3)
            op[i].type = HK_REC_ZEROES;
        if (i % 5 == 1)
            op[i] = rig_flush(1);
        assert_int_equal(rig_begin(&r, &op[i]), HK_COPY);
        if (i < 10)
            rig_copy(&r, &op[i], (uint8_t)i);
        if (i < 5)
            rig_written(&r, &op[i], 0);
        if (i == 3) {
            half = rig_status(&r).produced.v;
            assert_int_equal(rig_report(&r, half, half, half), 0);
        }
    }
    rig_meta(&r);
    b->size = r.ring_bytes;
    b->super = r.super;
    b->sound = malloc(b->size);
    b->bytes = aligned_alloc(4096, b->size);
    HK_ASSERT(b->sound && b->bytes);
    memcpy(b->sound, r.ring, b->size);
    memcpy(b->bytes, r.ring, b->size);
    rig_free(&r);
}

static inline void ring_base_touch(struct ring_base *b, uint64_t at)
{
    uint32_t page = (uint32_t)(at / 4096);

    for (unsigned i = 0; i < b->touched_count; i++) {
        if (b->touched[i] == page)
            return;
    }
    HK_ASSERT(b->touched_count < HK_ARRAY_SIZE(b->touched));
    b->touched[b->touched_count++] = page;
}

static inline void ring_base_restore(struct ring_base *b)
{
    for (unsigned i = 0; i < b->touched_count; i++)
        memcpy(b->bytes + 4096ull * b->touched[i], b->sound + 4096ull * b->touched[i], 4096);
    b->touched_count = 0;
}

static inline void ring_base_seal_slot(struct ring_base *b, uint64_t index, bool payload)
{
    const struct hk_ring_header *h = (const void *)b->sound;
    struct hk_record *slot = (void *)(b->bytes + h->slots_offset + index % RIG_SLOTS * 64);
    const struct hk_ring_side *side =
        (const void *)(b->bytes + h->sides_offset + index % RIG_SLOTS * sizeof(*side));
    uint64_t place = side->payload_pos % h->payload_bytes;
    struct hk_uuid epoch = rig_uuid(4);

    ring_base_touch(b, h->slots_offset);
    slot->magic = HK_RECORD_MAGIC;
    if (payload && slot->payload_len <= h->payload_bytes - place)
        slot->payload_hash = hk_xxh64(b->bytes + h->payload_offset + place, slot->payload_len, 0);
    if (slot->payload_len == 0)
        slot->payload_hash = 0;
    slot->header_hash = hk_record_header_hash(slot, hk_epoch_seed(&epoch));
}

static inline void ring_base_seal(struct ring_base *b)
{
    struct hk_ring_header *h = (void *)b->bytes;

    ring_base_touch(b, 0);
    h->hash = hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0);
}

static inline void ring_base_damage(struct ring_base *b, struct script *s)
{
    const struct hk_ring_header *h = (const void *)b->sound;
    const uint64_t from[RING_AREAS] = {0, 4096, h->slots_offset, h->sides_offset,
                                       h->payload_offset};
    const uint64_t bytes[RING_AREAS] = {sizeof(*h), sizeof(struct hk_ring_producer), RIG_SLOTS * 64,
                                        RIG_SLOTS * sizeof(struct hk_ring_side), 65536};
    enum ring_damage what = script_u8(s) % RING_DAMAGES;
    uint8_t area = script_u8(s) % RING_AREAS;
    uint64_t at = from[area] + script_u16(s) % bytes[area];
    uint64_t word, value = script_u16(s);

    ring_base_touch(b, at);
    switch (what) {
    case RING_BYTE: b->bytes[at] = (uint8_t)value; return;
    case RING_BIT: b->bytes[at] ^= (uint8_t)(1 << value % 8); return;
    case RING_WORD:
    case RING_SMALL:
    case RING_ADD:
        at = hk_round_down(at, 8);
        memcpy(&word, b->bytes + at, 8);
        word = what == RING_WORD ? script_u64(s) : what == RING_SMALL ? value : word + value - 999;
        memcpy(b->bytes + at, &word, 8);
        return;
    case RING_SEAL: ring_base_seal(b); return;
    case RING_SEAL_SLOT: ring_base_seal_slot(b, value, false); return;
    case RING_SEAL_BYTES: ring_base_seal_slot(b, value, true); return;
    case RING_DAMAGES: return;
    }
}

#endif
