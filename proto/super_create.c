/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The superblock of a group's first primary. */
#include "proto/dmap.h"
#include "proto/record.h"
#include "proto/super.h"

#include <errno.h>

static int check_regions(const struct hk_super_create *p)
{
    uint64_t left = HK_DMAP_REGIONS_MAX;

    if (p->region_shift == 0)
        return 0;
    if (p->region_shift < HK_REGION_SHIFT_MIN || p->region_shift > HK_REGION_SHIFT_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < p->volume_count; i++) {
        uint64_t count = hk_dmap_regions(hk_super_room(&p->volume[i]), p->region_shift);

        if (count > left)
            return -E2BIG;
        left -= count;
    }
    return 0;
}

/* Volume behind volume, with room for what they may become. */
void hk_super_number_regions(struct hk_super *s, uint32_t shift)
{
    uint64_t next = 0;

    if (shift == 0)
        return;
    s->region_shift = shift;
    for (uint32_t i = 0; i < s->volume_count; i++) {
        s->volume[i].first_region = next;
        next += hk_dmap_regions(hk_super_room(&s->volume[i]), shift);
    }
    s->dmap_sequence = HK_DMAP_LOG_PAGES; /* hk_dmap_log_fill */
}

int hk_super_create(const struct hk_super_create *p, struct hk_super *ret_super)
{
    struct hk_history *history = &ret_super->history;
    int err;

    if (hk_uuid_is_nil(&p->group_id) || hk_uuid_is_nil(&p->site_id) ||
        hk_uuid_is_nil(&p->replica_id) || hk_uuid_is_nil(&p->epoch_id))
        return -EINVAL;
    if (p->volume_count == 0 || p->volume_count > HK_VOLUMES_MAX || !hk_mark_name_ok(p->group_name))
        return -EINVAL;
    for (uint32_t i = 0; i < p->volume_count; i++) {
        if (!hk_mark_name_ok(p->volume[i].name) || p->volume[i].bytes == 0 ||
            p->volume[i].bytes % 512 != 0)
            return -EINVAL;
        /* A chunk of a snapshot never reaches over the end of one that grows. */
        if (p->volume[i].room_bytes && (p->volume[i].room_bytes < p->volume[i].bytes ||
                                        (p->volume[i].bytes | p->volume[i].room_bytes) % 4096 != 0))
            return -EINVAL;
        for (uint32_t k = 0; k < i; k++) {
            if (__builtin_memcmp(p->volume[i].name, p->volume[k].name, HK_NAME_BYTES) == 0)
                return -EINVAL;
        }
    }
    if (p->seed && p->region_shift == 0)
        return -EINVAL;
    err = check_regions(p);
    if (err)
        return err;
    __builtin_memset(ret_super, 0, sizeof(*ret_super));
    ret_super->magic = HK_SUPER_MAGIC;
    ret_super->version = HK_SUPER_VERSION;
    ret_super->role = HK_ROLE_PRIMARY;
    ret_super->sequence = 1;
    ret_super->flags =
        HK_SF_CLEAN | (p->assume_equal || p->seed ? HK_SF_ASSUMED_EQUAL : HK_SF_FULL_COMPARE);
    /* A resync without a stale region: its end is where the seed's copy becomes consistent. */
    ret_super->flags |= p->seed ? HK_SF_STALE : 0;
    ret_super->group_id = p->group_id;
    ret_super->site_id = p->site_id;
    ret_super->replica_id = p->replica_id;
    __builtin_memcpy(ret_super->group_name, p->group_name, HK_NAME_BYTES);
    ret_super->ceiling = HK_LSN_FIRST;
    ret_super->clean_lsn = HK_LSN_FIRST;
    ret_super->volume_count = p->volume_count;
    for (uint32_t i = 0; i < p->volume_count; i++) {
        __builtin_memcpy(ret_super->volume[i].name, p->volume[i].name, HK_NAME_BYTES);
        ret_super->volume[i].bytes = p->volume[i].bytes;
        ret_super->volume[i].room_bytes = p->volume[i].room_bytes;
    }
    hk_super_number_regions(ret_super, p->region_shift);
    return hk_history_append(history, &p->epoch_id, HK_LSN_FIRST, 0, HK_EPOCH_CREATE, p->time_ns);
}
