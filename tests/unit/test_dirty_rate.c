/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the dirty map costs: 4 KiB writes to random places of 4 TiB, 32 at a time, with 4096 hot
 * regions. Latencies are made up, but the count of metadata writes is the core's own. And that one
 * call does not look at all regions: the memory of one region, and the time of none.
 *
 * And what it is worth that marks wait for one another (driver-glue/nbd/company.h) when the
 * processor, not the disk, is what writers wait for.
 */
#include "driver-glue/nbd/company.h"
#include "tests/unit/dirty_rig.h"

enum { QUEUE = 32, WRITES = 40000, SLOTS = 1024 };
#define TIB (1ull << 40)
#define US  1000ull

struct load {
    struct rig r;
    struct hk_op op[QUEUE];
    enum { EMPTY, WAITS, COPIES, WRITES_IT, AWAY } stage[QUEUE];
    uint64_t at_ns[QUEUE]; /* when the stage ends */
    uint64_t meta_ns, flush_ns, report_ns, seed, done, meta_writes, flushes;
    bool meta_out, flush_out;
    struct hk_capture_meta meta;
    uint64_t away_ns; /* on the average between two writes of one writer */
    bool in_company;
    struct hk_company company;
    uint64_t hold_ns; /* marks wait until then; 0: none do */
};

static void on_step(struct load *l, unsigned i, enum hk_step step)
{
    switch (step) {
    case HK_COPY:
        l->stage[i] = COPIES;
        l->at_ns[i] = l->r.now.mono_ns + 2 * US;
        return;
    case HK_WAIT: l->stage[i] = WAITS; return;
    case HK_DONE:
        l->stage[i] = l->away_ns ? AWAY : EMPTY;
        l->at_ns[i] = l->r.now.mono_ns + l->away_ns / 2 + unit_random(&l->seed) % (l->away_ns + 1);
        l->done++;
        return;
    case HK_SUBMIT:
    case HK_META:
    case HK_FAIL:
    case HK_READ: break;
    }
    assert_true(false);
}

static void begin(struct load *l, unsigned i)
{
    l->op[i] = rig_write(0, unit_random(&l->seed) % (4 * TIB / 4096) * 4096, 4096);
    l->op[i].cookie = &l->op[i];
    on_step(l, i, hk_capture_begin(l->r.c, &l->op[i], &l->r.now));
}

static void advance(struct load *l, unsigned i)
{
    if (l->stage[i] == EMPTY || (l->stage[i] == AWAY && l->r.now.mono_ns >= l->at_ns[i])) {
        begin(l, i);
    } else if (l->stage[i] == COPIES && l->r.now.mono_ns >= l->at_ns[i]) {
        rig_copy(&l->r, &l->op[i], 1);
        l->stage[i] = WRITES_IT;
        l->at_ns[i] = l->r.now.mono_ns + (50 + unit_random(&l->seed) % 100) * US;
    } else if (l->stage[i] == WRITES_IT && l->r.now.mono_ns >= l->at_ns[i]) {
        on_step(l, i, rig_written(&l->r, &l->op[i], 0));
    }
}

/* As the plugin's metadata thread does. */
static bool fetch(struct load *l)
{
    struct hk_capture_meta_queue q = hk_capture_meta_queue(l->r.c);
    uint64_t wait_ns = hk_company_wait_ns(&l->company, q.marks);

    hk_company_seen(&l->company, q.ops);
    if (q.marks > 0 && wait_ns > 0 && l->in_company) {
        if (!l->hold_ns)
            l->hold_ns = l->r.now.mono_ns + wait_ns;
        if (l->r.now.mono_ns < l->hold_ns)
            return false;
    }
    l->hold_ns = 0;
    if (!hk_capture_meta(l->r.c, &l->meta)) {
        assert_int_equal(q.marks, 0);
        return false;
    }
    assert_true(q.marks > 0);
    hk_company_begins(&l->company, q.ops);
    return true;
}

static void pump(struct load *l)
{
    enum hk_step step;
    struct hk_op *op;

    while ((op = hk_capture_next(l->r.c, &step, &l->r.now)))
        on_step(l, (unsigned)(op - l->op), step);
    if (!l->meta_out && fetch(l)) {
        l->meta_out = true;
        l->meta_ns = l->r.now.mono_ns + 80 * US;
    } else if (l->meta_out && l->r.now.mono_ns >= l->meta_ns) {
        l->meta_out = false;
        l->meta_writes++;
        hk_company_ended(&l->company, 80 * US);
        memcpy(l->r.metadata + l->meta.offset, l->meta.data, l->meta.bytes);
        hk_capture_meta_done(l->r.c, 0, &l->r.now);
    }
    if (!l->flush_out && hk_capture_wants_flush(l->r.c, &l->r.now)) {
        l->flush_out = true;
        l->flush_ns = l->r.now.mono_ns + 2000 * US;
    } else if (l->flush_out && l->r.now.mono_ns >= l->flush_ns) {
        l->flush_out = false;
        l->flushes++;
        hk_capture_origins_flushed(l->r.c, 0, &l->r.now);
    }
}

static void set_up(struct load *l)
{
    struct hk_uuid group = rig_uuid(1), id = rig_uuid(9);
    struct hk_dmap_stamp s = {.sequence = 0};
    static uint8_t packed[HK_DMAP_PAGE_STATES];
    struct hk_super_create p = {.group_id = group,
                                .site_id = rig_uuid(2),
                                .replica_id = rig_uuid(3),
                                .epoch_id = rig_uuid(4),
                                .group_name = "core",
                                .time_ns = 1,
                                .volume_count = 1,
                                .region_shift = 22,
                                .assume_equal = true};
    uint64_t regions = 4 * TIB >> 22, bytes = hk_dmap_file_bytes(regions);
    struct rig *r = &l->r;
    struct hk_dmap_id dmap;

    rig_start(r);
    free(r->metadata);
    free(r->ring);
    r->metadata = calloc(1, bytes);
    r->ring_bytes = hk_ring_total_bytes(SLOTS, 16 << 20);
    r->ring = aligned_alloc(4096, r->ring_bytes);
    assert_true(r->metadata && r->ring);
    memset(r->ring, 0, r->ring_bytes);
    assert_int_equal(hk_ring_format(r->ring, r->ring_bytes, SLOTS, 16 << 20, &group, &id), 0);
    strcpy(p.volume[0].name, "data");
    p.volume[0].bytes = 4 * TIB;
    assert_int_equal(hk_super_create(&p, &r->super), 0);
    hk_super_encode(&r->super, r->metadata + HK_SUPER_BYTES);
    dmap = dirty_id(r);
    for (s.sequence = 1; s.sequence <= HK_DMAP_LOG_PAGES; s.sequence++)
        hk_dmap_log_fill(&dmap, &s, r->metadata + hk_dmap_log_offset(s.sequence));
    s.other = HK_DMAP_LOG_PAGES;
    for (uint32_t i = 0; i < hk_dmap_map_pages(regions); i++) {
        s.sequence = i + 1;
        hk_dmap_map_build(&dmap, &s, i, packed, r->metadata + hk_dmap_map_offset(i));
    }
    r->cfg.mode = HK_MODE_ASYNC;
    r->cfg.volume_count = 1;
    r->cfg.volume_bytes[0] = 4 * TIB;
    r->cfg.region_shift = 22;
    r->cfg.hot_regions_max = 4096;
    r->cfg.dirty_pages_bytes = bytes - HK_DMAP_LOG_AT;
    /* 1 Mi regions: at most 32 bytes each, and what the slots need. */
    assert_true(hk_capture_dirty_bytes(&r->cfg) < regions * 32 + (512 << 10));
    r->cfg.dirty_memory = aligned_alloc(4096, hk_round_up(hk_capture_dirty_bytes(&r->cfg), 4096));
    assert_non_null(r->cfg.dirty_memory);
    dirty_up(r, HK_START_NEW_RING);
    rig_drain(r);
}

static uint64_t per_mille(struct load *l)
{
    set_up(l);
    assert_int_equal(rig_status(&l->r).regions_stale, 0);
    /* Until the clearing runs as it will for ever. */
    while (l->done < WRITES) {
        if (l->done < WRITES / 4)
            l->meta_writes = 0;
        for (unsigned i = 0; i < QUEUE; i++)
            advance(l, i);
        pump(l);
        if (l->r.now.mono_ns >= l->report_ns) {
            l->report_ns = l->r.now.mono_ns + 500 * US;
            rig_drain(&l->r);
        }
        l->r.now.mono_ns += 5 * US;
        l->r.now.real_ns += 5 * US;
        assert_true(rig_status(&l->r).regions_hot <= 4096);
    }
    free(l->r.cfg.dirty_memory);
    rig_free(&l->r);
    return l->meta_writes * 1000 / (WRITES - WRITES / 4);
}

static void test_cold_random_writes(void **state)
{
    static struct load l;
    uint64_t n;

    (void)state;
    n = per_mille(&l);
    print_message("metadata writes per 1000 data writes: %llu, flushes %llu\n",
                  (unsigned long long)n, (unsigned long long)l.flushes);
    assert_true(n <= 100);
    assert_true(l.flushes > 0);
}

static void test_marks_wait_for_one_another(void **state)
{
    static struct load alone = {.away_ns = 100 * US},
                       company = {.away_ns = 100 * US, .in_company = true};
    uint64_t a = per_mille(&alone), b = per_mille(&company);

    (void)state;
    print_message("with busy writers: %llu, in company: %llu\n", (unsigned long long)a,
                  (unsigned long long)b);
    assert_true(a > 100);
    assert_true(b <= 90);
}

/* Whoever writes alone, or by turns with another, waits for nobody; nothing but marks waits. */
static void test_no_company_no_wait(void **state)
{
    struct hk_company c = {.took_ns = 100 * US};

    (void)state;
    hk_company_seen(&c, 1);
    assert_int_equal(hk_company_wait_ns(&c, 1), 0);
    hk_company_begins(&c, 1);
    hk_company_seen(&c, 2);
    assert_int_equal(hk_company_wait_ns(&c, 1), 0);
    hk_company_seen(&c, 8);
    assert_int_equal(hk_company_wait_ns(&c, 3), 100 * US);
    assert_int_equal(hk_company_wait_ns(&c, 4), 0);
    assert_int_equal(hk_company_wait_ns(&c, 0), 0);
    assert_int_equal(hk_company_wait_ns(&c, UINT32_MAX), 0);
    /* It is forgotten after two writes. */
    hk_company_begins(&c, 1);
    assert_int_equal(hk_company_wait_ns(&c, 3), 100 * US);
    hk_company_begins(&c, 1);
    assert_int_equal(hk_company_wait_ns(&c, 1), 0);
    hk_company_seen(&c, 8);
    hk_company_ended(&c, 50000 * US);
    assert_int_equal(hk_company_wait_ns(&c, 1), HK_COMPANY_NS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cold_random_writes),
                                       cmocka_unit_test(test_marks_wait_for_one_another),
                                       cmocka_unit_test(test_no_company_no_wait)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
