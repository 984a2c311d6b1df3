/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an origin whose sectors are larger than the end of its volume is refused before anything is
 * served. Method: a file plays the device; the sector size, which no file has, is put in through
 * the seam at its opening. And what is read for a block record is what the medium holds, whatever
 * the page cache says (below.h).
 */
#include "tests/unit/unit.h"

#include "driver-glue/nbd/origin.h"
#include "proto/base.h"
#include "tests/unit/below.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static uint32_t sector;

static uint32_t played(int fd, bool is_device)
{
    return sector;
}

static void test_sectors(void **state)
{
    static const struct {
        uint32_t sector;
        uint64_t bytes;
        bool holds;
    } table[] = {
        {512, 512, true},          {512, 4096 + 512, true}, {4096, 4096, true},
        {4096, 4096 + 512, false}, {4096, 3584, false},     {4096, 1 << 20, true},
        {8192, 4096, false},       {8192, (1 << 20), true},
    };
    uint32_t (*truly)(int fd, bool is_device) = hk_origin_sector_bytes;
    char path[] = "/var/tmp/hk-origin-XXXXXX";
    struct hk_origin o;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    close(fd);
    for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
        sector = table[i].sector;
        hk_origin_sector_bytes = played;
        assert_int_equal(hk_origin_open(path, &o), 0);
        assert_int_equal(o.sector, table[i].sector);
        assert_int_equal(hk_origin_holds(&o, table[i].bytes), table[i].holds);
        hk_origin_close(&o);
    }
    hk_origin_sector_bytes = truly;
    assert_int_equal(hk_origin_open(path, &o), 0);
    assert_int_equal(o.sector, 512);
    hk_origin_close(&o);
    unlink(path);
}

static void test_medium(void **state)
{
    enum { BYTES = 65536 };
    static uint8_t medium[BYTES];
    uint8_t *got = aligned_alloc(4096, BYTES);
    struct hk_origin o;
    uint64_t rnd = 6;
    struct below b;
    int direct;

    (void)state;
    assert_non_null(got);
    below_open(&b, BYTES);
    assert_int_equal(hk_origin_open(b.path, &o), 0);
    assert_true(o.direct >= 0);
    unit_random_bytes(&rnd, medium, BYTES);
    below_change(&b, medium, BYTES, 0);
    assert_int_equal(hk_origin_read_medium(&o, got, BYTES - 512, 0), 0);
    assert_memory_equal(got, medium, BYTES - 512);
    assert_int_equal(hk_origin_read_medium(&o, got, 4096, BYTES), -EIO);
    /* Without O_DIRECT the cache is told to forget. */
    unit_random_bytes(&rnd, medium, BYTES);
    assert_int_equal(pwrite(b.file, medium, BYTES, 0), BYTES);
    direct = o.direct;
    o.direct = -1;
    assert_int_equal(hk_origin_read_medium(&o, got, BYTES, 0), 0);
    assert_memory_equal(got, medium, BYTES);
    o.direct = direct;
    hk_origin_close(&o);
    assert_int_equal(o.direct, -1);
    below_close(&b);
    free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sectors),
        cmocka_unit_test(test_medium),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
