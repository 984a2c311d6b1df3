/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an outage over more regions than there are slots makes no writer wait as long as the spool
 * takes the log, and no crash forgets a region. Method: a map with 16 slots for 128 regions, a
 * standby that stands still and a spool that has whatever was produced. At every metadata write the
 * power may be cut: the file as it is then is read, and each region with log that the standby lacks
 * must read as hot, stale, or spooled with the superblock relying on the spool that far.
 */
#include "tests/unit/map_rig.h"

enum { SLOTS = 16 };

static uint64_t newest[REGIONS]; /* end of the newest record of each */
static uint64_t stands;          /* the standby */
static struct hk_dmap_load load;

static void read_back(struct hk_super *super, uint8_t *packed)
{
    struct hk_dmap_id id;

    assert_int_equal(hk_super_pick(r.metadata, r.metadata + HK_SUPER_BYTES, super, NULL), 0);
    id = hk_dmap_id(&super->replica_id, &super->peer_replica_id);
    hk_dmap_load_log(r.metadata + HK_DMAP_LOG_AT, &id, super->dmap_sequence, &load);
    hk_dmap_load_map(r.metadata + HK_DMAP_MAP_AT, &id, 0, &load, packed);
    assert_false(hk_dmap_is_lost(hk_dmap_load_end(&load)));
}

static bool is_hot(uint32_t region)
{
    for (uint32_t i = 0; i < HK_DMAP_SLOTS; i++) {
        if (load.slot[i] && hk_dmap_entry_region(load.slot[i]) == region)
            return true;
    }
    return false;
}

/* What a power cut would leave now. */
static void judge(void)
{
    uint8_t *packed = buffer;
    struct hk_super super;

    read_back(&super, packed);
    for (uint32_t i = 0; i < REGIONS; i++) {
        enum hk_dmap_state state = hk_dmap_state_get(packed, i);

        if (newest[i] <= stands || state == HK_DMAP_STALE || is_hot(i))
            continue;
        assert_int_equal(state, HK_DMAP_SPOOLED);
        assert_true(super.spooled_lsn >= newest[i]);
    }
}

static void metadata(void)
{
    do {
        while (rig_meta_once(&r, 0))
            judge();
        if (hk_capture_wants_flush(r.c, &r.now))
            hk_capture_origins_flushed(r.c, 0, &r.now);
        hk_capture_tick(r.c, &r.now);
    } while (rig_meta_once(&r, 0));
    judge();
}

static int spool_to(uint64_t end)
{
    struct hk_capture_spool spool = {.room = true, .first = HK_LSN(stands), .end = HK_LSN(end)};

    return hk_capture_spool(r.c, r.lease, &spool, &r.now);
}

static void begin(void)
{
    create(HK_LINK_LOSS_CONTINUE);
    r.cfg.mode = HK_MODE_ASYNC;
    r.cfg.hot_regions_max = SLOTS;
    up(HK_START_NEW_RING);
    rig_drain(&r);
    settle();
    memset(newest, 0, sizeof(newest));
    stands = rig_status(&r).durable.v;
}

/* One write of a region; the spool, if it works, has it at once, and the ring is free again. */
static bool write_region(uint32_t region, bool spooled)
{
    uint32_t a_volume = REGIONS / 2;
    struct hk_op op = rig_write((uint16_t)(region / a_volume), region % a_volume * REGION, 4096);
    enum hk_step step = rig_begin(&r, &op), got = 0;
    struct hk_op *next = NULL;
    uint64_t end;

    if (step == HK_WAIT) {
        metadata();
        next = hk_capture_next(r.c, &got, &r.now);
        if (!next) {
            assert_true(hk_capture_cancel(r.c, &op));
            return false;
        }
        assert_ptr_equal(next, &op);
        step = got;
    }
    assert_int_equal(step, HK_COPY);
    rig_copy(&r, &op, 1);
    newest[region] = op.end.v;
    assert_int_equal(rig_written(&r, &op, 0), HK_DONE);
    end = rig_status(&r).produced.v;
    if (spooled) {
        assert_int_equal(rig_report(&r, end, stands, stands), 0);
        assert_int_equal(spool_to(end), 0);
    }
    return true;
}

/* An outage over every region, twice: nobody waits. */
static void outage(void)
{
    for (uint32_t k = 0; k < 2 * REGIONS; k++)
        assert_true(write_region(k * 37 % REGIONS, true));
    metadata();
    assert_int_equal(rig_status(&r).state, HK_STATE_REPLICATING);
    assert_true(rig_status(&r).regions_spooled > REGIONS - SLOTS);
    assert_true(rig_status(&r).regions_hot <= SLOTS);
    assert_int_equal(rig_status(&r).regions_stale, 0);
}

static void nobody_waits(void **state)
{
    begin();
    outage();
    /* The standby comes back and gets all of it: nothing is left. */
    rig_drain(&r);
    stands = rig_status(&r).durable.v;
    metadata();
    assert_int_equal(rig_status(&r).regions_spooled, 0);
    assert_int_equal(rig_status(&r).regions_stale, 0);
    rig_pass(&r, 2 * RIG_SECOND);
    metadata();
    assert_int_equal(rig_status(&r).regions_hot, 0);
}

/* Without a spool sixteen regions are all there is. */
static void without_a_spool_they_wait(void **state)
{
    uint32_t k = 0;

    begin();
    while (k < REGIONS && write_region(k, false))
        k++;
    assert_true(k >= 8 && k <= SLOTS);
    /* It is told of at last: on it goes. */
    assert_int_equal(spool_to(rig_status(&r).produced.v), 0);
    metadata();
    assert_int_equal(rig_report(&r, rig_status(&r).produced.v, stands, stands), 0);
    assert_true(write_region(k, true));
}

/* What can't be is not believed: it must not free a slot. */
static void what_cannot_be_is_not_taken(void **state)
{
    uint32_t k = 0;
    struct hk_capture_spool spool;

    begin();
    while (k < REGIONS && write_region(k, false))
        k++;
    spool = (struct hk_capture_spool){.first = HK_LSN(stands + 64), .end = rig_status(&r).produced};
    assert_int_equal(hk_capture_spool(r.c, r.lease, &spool, &r.now), 0);
    metadata();
    spool = (struct hk_capture_spool){.first = HK_LSN(stands),
                                      .end = HK_LSN(rig_status(&r).produced.v + 64)};
    assert_int_equal(hk_capture_spool(r.c, r.lease, &spool, &r.now), 0);
    metadata();
    assert_int_equal(hk_capture_spool(r.c, r.lease + 1, &spool, &r.now), -ESTALE);
    assert_int_equal(rig_status(&r).regions_spooled, 0);
}

/* ---- crashes ---- */

static void ring_survives(void **state)
{
    uint32_t spooled;

    begin();
    outage();
    spooled = rig_status(&r).regions_spooled;
    up(HK_START_OLD_RING);
    assert_int_equal(rig_status(&r).regions_spooled, spooled);
    assert_int_equal(rig_status(&r).regions_stale, 0);
    rig_drain(&r);
    stands = rig_status(&r).durable.v;
    settle();
    assert_int_equal(rig_status(&r).regions_spooled, 0);
}

/* Power is cut; the new epoch begins where the standby got to with what the spool had. */
static void lose_power(void)
{
    rig_new_ring(&r, 10);
    up(HK_START_NEW_RING);
}

static void come_back_at(uint64_t lsn)
{
    struct hk_uuid id = rig_uuid(77);

    assert_int_equal(hk_capture_offer_epoch(r.c, &id), 0);
    assert_int_equal(hk_capture_return(r.c, r.lease, HK_LSN(lsn), &r.now), 0);
}

static void the_spool_delivers(void **state)
{
    uint32_t stale;

    begin();
    outage();
    lose_power();
    stale = rig_status(&r).regions_stale;
    assert_true(rig_status(&r).regions_spooled > REGIONS - SLOTS);
    assert_true(stale > 0 && stale <= SLOTS); /* what was hot */
    come_back_at(r.super.spooled_lsn);
    settle();
    assert_int_equal(rig_status(&r).regions_spooled, 0);
    assert_int_equal(rig_status(&r).regions_stale, stale);
    assert_true(r.super.spooled_lsn == 0);
}

/* A record less than what the bits rest on: all of them may differ. */
static void the_spool_is_gone(void **state)
{
    uint8_t *packed = buffer;
    struct hk_super super;

    begin();
    outage();
    lose_power();
    come_back_at(r.super.spooled_lsn - 64);
    /* The new epoch is durable and the map not yet: it must not read as spooled any more. */
    assert_true(rig_meta_once(&r, 0));
    read_back(&super, packed);
    assert_int_equal(super.history.count, 2);
    assert_true(super.spooled_lsn == 0);
    rig_new_ring(&r, 11);
    up(HK_START_NEW_RING);
    assert_int_equal(rig_status(&r).regions_spooled, 0);
    assert_true(rig_status(&r).regions_stale >= REGIONS - SLOTS);
}

static void nor_does_its_own_life_forget(void **state)
{
    begin();
    outage();
    lose_power();
    come_back_at(r.super.spooled_lsn - 64);
    settle();
    assert_int_equal(rig_status(&r).regions_spooled, 0);
    assert_true(rig_status(&r).regions_stale >= REGIONS - SLOTS);
}

static void a_record_cannot_be_read_back(void **state)
{
    begin();
    outage();
    assert_int_equal(hk_capture_check_copy(r.c, r.lease, HK_LSN(stands), &r.now), -EUCLEAN);
    settle();
    assert_int_equal(rig_status(&r).regions_spooled, 0);
    assert_int_equal(rig_status(&r).regions_stale, REGIONS);
}

/* A torn or rotten sector is as ever: what it said is stale. */
static void a_damaged_page_is_stale(void **state)
{
    begin();
    outage();
    r.metadata[HK_DMAP_MAP_AT + 100] ^= 1;
    lose_power();
    assert_int_equal(rig_status(&r).regions_spooled, 0);
    assert_int_equal(rig_status(&r).regions_stale, REGIONS);
}

/* In an epoch of its own the bits of the one before count for nothing. */
static void bits_of_another_epoch_are_stale(void **state)
{
    struct hk_super super;

    begin();
    outage();
    rig_read_super(&r);
    super = r.super;
    assert_int_equal(hk_super_append_epoch(&super, &(struct hk_uuid){{42}}, super.ceiling,
                                           super.spooled_lsn, HK_EPOCH_GAP_BEHIND, 1),
                     0);
    super.sequence++;
    super.ceiling = hk_history_last(&super.history)->first_lsn;
    hk_super_encode(&super, r.metadata + (super.sequence & 1) * HK_SUPER_BYTES);
    lose_power();
    assert_int_equal(rig_status(&r).regions_spooled, 0);
    assert_true(rig_status(&r).regions_stale >= REGIONS - SLOTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nobody_waits, teardown),
        cmocka_unit_test_teardown(without_a_spool_they_wait, teardown),
        cmocka_unit_test_teardown(what_cannot_be_is_not_taken, teardown),
        cmocka_unit_test_teardown(ring_survives, teardown),
        cmocka_unit_test_teardown(the_spool_delivers, teardown),
        cmocka_unit_test_teardown(the_spool_is_gone, teardown),
        cmocka_unit_test_teardown(nor_does_its_own_life_forget, teardown),
        cmocka_unit_test_teardown(a_record_cannot_be_read_back, teardown),
        cmocka_unit_test_teardown(a_damaged_page_is_stale, teardown),
        cmocka_unit_test_teardown(bits_of_another_epoch_are_stale, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
