/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty map in words, and judged: what the next start of the primary would make of it. Reads
 * the file alone; no daemon, no plugin, and nothing is written.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "proto/dmap.h"
#include "proto/super.h"

enum { RANGES_MAX = 1000 }; /* listed; the counts are of all */

struct view {
    const struct hk_super *super;
    const uint8_t *bytes; /* of the file */
    uint64_t regions;
    uint32_t pages;
    struct hk_dmap_load *load;
    uint8_t *state; /* a region: what stands in a dump, by enum shown */
    uint64_t count[4];
};

enum shown { CLEAN, SPOOLED, HOT, STALE };
static const char *const shown_text[] = {"clean", "spooled", "hot", "stale"};

static void set_number(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void read_map(struct view *v)
{
    struct hk_dmap_id id = hk_dmap_id(&v->super->replica_id, &v->super->peer_replica_id);
    uint8_t packed[HK_DMAP_PAGE_STATES];

    hk_dmap_load_log(v->bytes + HK_DMAP_LOG_AT, &id, v->super->dmap_sequence, v->load);
    for (uint32_t p = 0; p < v->pages; p++) {
        uint64_t first = (uint64_t)p * HK_DMAP_PAGE_REGIONS;

        hk_dmap_load_map(v->bytes + hk_dmap_map_offset(p), &id, p, v->load, packed);
        for (uint64_t r = first; r < v->regions && r < first + HK_DMAP_PAGE_REGIONS; r++) {
            enum hk_dmap_state s = hk_dmap_state_get(packed, r - first);

            v->state[r] = s == HK_DMAP_STALE ? STALE : s == HK_DMAP_SPOOLED ? SPOOLED : CLEAN;
        }
    }
    hk_dmap_load_end(v->load);
}

/* Marks over the map; what is lost, or needs a full compare, is stale as a whole. */
static void merge(struct view *v)
{
    bool all = hk_dmap_is_lost(v->load->verdict) || (v->super->flags & HK_SF_FULL_COMPARE);

    for (uint32_t i = 0; i < HK_DMAP_SLOTS && !all; i++) {
        uint32_t entry = v->load->slot[i], region = hk_dmap_entry_region(entry);
        uint8_t mark = hk_dmap_entry_mark(entry) == HK_DMAP_MARK_STALE ? STALE : HOT;

        if (entry != 0 && region < v->regions && mark > v->state[region])
            v->state[region] = mark;
    }
    for (uint64_t r = 0; r < v->regions; r++) {
        if (all)
            v->state[r] = STALE;
        v->count[v->state[r]]++;
    }
}

/* Runs of regions that are not clean, a volume at a time, in bytes of the volume. */
static json_t *ranges_json(const struct view *v)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < v->super->volume_count; i++) {
        const struct hk_super_volume *vol = &v->super->volume[i];
        uint64_t count = hk_dmap_regions(vol->bytes, v->super->region_shift), end;

        for (uint64_t at = 0; at < count && json_array_size(list) < RANGES_MAX; at = end) {
            uint8_t state = v->state[vol->first_region + at];
            uint64_t offset = at << v->super->region_shift;
            json_t *o;

            for (end = at + 1; end < count && v->state[vol->first_region + end] == state;)
                end++;
            if (state == CLEAN)
                continue;
            o = json_object();
            json_object_set_new(o, "volume", json_string(vol->name));
            set_number(o, "offset", offset);
            set_number(o, "bytes", hk_min_u64(end << v->super->region_shift, vol->bytes) - offset);
            json_object_set_new(o, "state", json_string(shown_text[state]));
            json_array_append_new(list, o);
        }
    }
    return list;
}

static json_t *map_json(const struct view *v)
{
    const struct {
        const char *key;
        uint64_t n;
    } n[] = {{"region_bytes", 1ULL << v->super->region_shift},
             {"regions", v->regions},
             {"clean", v->count[CLEAN]},
             {"spooled", v->count[SPOOLED]},
             {"hot", v->count[HOT]},
             {"stale", v->count[STALE]},
             {"transaction", v->load->sequence},
             {"void_to", v->super->dmap_sequence},
             {"map_write", v->load->map_seen},
             {"relied", v->load->relied},
             {"relied_epoch", v->load->ordinal},
             {"torn_pages", v->load->map_torn + v->load->log_torn},
             {"damaged_sectors", v->load->map_rotten}};
    json_t *o = json_object();

    json_object_set_new(o, "verdict", json_string(hk_dmap_verdict_text(v->load->verdict)));
    for (size_t i = 0; i < HK_ARRAY_SIZE(n); i++)
        set_number(o, n[i].key, n[i].n);
    return o;
}

/* Damage first; then whether the superblock knows what the map says. */
static int judge(const struct view *v, const char *path)
{
    uint32_t flags = v->super->flags;

    if (hk_dmap_is_lost(v->load->verdict))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE7035E dirty map %s: %s; the next start compares everything", path,
                           hk_dmap_verdict_text(v->load->verdict));
    if (v->load->verdict == HK_DMAP_PARTLY)
        return hk_complain(
            HK_EXIT_REFUSED,
            "HKE7036E dirty map %s: %u sectors of the map are damaged; their regions "
            "are stale, and the next start writes them anew",
            path, v->load->map_rotten);
    if (v->count[STALE] > 0 && !(flags & (HK_SF_STALE | HK_SF_FULL_COMPARE)))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE7037E dirty map %s: %" PRIu64
                           " regions are stale, and the superblock does not know of any",
                           path, v->count[STALE]);
    return HK_EXIT_DONE;
}

static uint64_t regions_of(const struct hk_super *s)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < s->volume_count; i++)
        end = hk_max_u64(end, s->volume[i].first_region +
                                  hk_dmap_regions(hk_super_room(&s->volume[i]), s->region_shift));
    return end;
}

/* Reads superblock and map, as they are now; false: what was read is not sound. */
static bool look(struct view *v, struct hk_super *super)
{
    if (hk_super_pick(v->bytes, v->bytes + HK_SUPER_BYTES, super, NULL))
        return false;
    memset(v->count, 0, sizeof(v->count));
    read_map(v);
    merge(v);
    return v->load->verdict < HK_DMAP_PARTLY &&
           (v->count[STALE] == 0 || (super->flags & (HK_SF_STALE | HK_SF_FULL_COMPARE)));
}

int hk_dump_dmap(const struct hk_options *o, const char *path, const uint8_t *bytes, uint64_t size,
                 const struct hk_super *super, json_t *root)
{
    static struct hk_super now;
    struct view v = {.super = &now, .bytes = bytes};
    int r;

    if (super->role != HK_ROLE_PRIMARY || super->region_shift == 0)
        return HK_EXIT_DONE;
    now = *super;
    v.regions = regions_of(super);
    v.pages = hk_dmap_map_pages(v.regions);
    if (size < hk_dmap_file_bytes(v.regions))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE7035E dirty map %s: the file is too short: %" PRIu64 " of %" PRIu64
                           " bytes; the next start compares everything",
                           path, size, hk_dmap_file_bytes(v.regions));
    v.load = malloc(sizeof(*v.load));
    v.state = calloc(1, v.regions + 1);
    HK_ASSERT(v.load && v.state);
    /* A living primary writes it meanwhile: damage is what stays when one looks again. */
    for (int tries = 0; !look(&v, &now) && tries < 5; tries++)
        usleep(20000);
    json_object_set_new(root, "dirty_map", map_json(&v));
    if (!o->check)
        json_object_set_new(root, "ranges", ranges_json(&v));
    r = judge(&v, path);
    free(v.load);
    free(v.state);
    return r;
}
