/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty map on the primary's metadata disk, read by a parser of its own from what a power cut
 * would leave, and what must hold of it:
 *
 * I1  At each write to an origin every region of it is durably marked, so that with the ring gone
 *     it would be compared; for an uncaptured write durably stale, so that it would be compared
 *     with the ring there, too. Or "full compare" is durable.
 * I2  A region that nothing durable calls dirty is equal on both sides, whatever a power cut on
 *     either leaves: what the origin's disk may hold is what the standby's durable log says.
 */
#include <string.h>

#include "proto/dmap.h"
#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

/* Until all is stale nothing is said of a primary whose disks were put back. */
enum { WINDOW = 8, SLOTS = 4096, REGIONS_MAX = 64, PAGES = HK_DMAP_LOG_PAGES };

/* What a region is to whoever finds the ring gone: of SPOOLED nothing, if the spool can be read. */
enum mark { CLEAN, SPOOLED, DIRTY };

struct sim_dmap {
    uint64_t seen;            /* durable changes of the metadata, + 1, at the last look */
    bool all_pages;           /* look at every page, not at those that were written */
    uint64_t sequence[PAGES]; /* of whole pages; 0: not whole */
    bool written[PAGES + 1];  /* the last one: the map */
    bool astray[PAGES + 1];   /* holds a whole sector that belongs elsewhere */
    uint32_t slot[SLOTS];
    uint8_t map[REGIONS_MAX];    /* enum hk_dmap_state */
    uint32_t map_ordinal;        /* epoch in which it was written */
    bool lost;                   /* the log can't be read: everything is stale */
    bool found_lost;             /* so it was when capture started, and has been since */
    uint8_t marked[REGIONS_MAX]; /* enum mark */
    uint8_t stale[REGIONS_MAX];
};

uint32_t dmap_regions(const struct sim *s)
{
    uint64_t bytes = (uint64_t)grow_capacity(s) * SIM_SECTOR;

    return SIM_VOLUMES * (uint32_t)((bytes + (1u << s->o.region_shift) - 1) >> s->o.region_shift);
}

uint32_t dmap_region_of(const struct sim *s, unsigned volume, uint64_t offset)
{
    return volume * (dmap_regions(s) / SIM_VOLUMES) + (uint32_t)(offset >> s->o.region_shift);
}

/* Of the one that begins there: a volume's last may be shorter. */
uint64_t dmap_region_bytes(const struct sim *s, uint64_t offset)
{
    return hk_min_u64(1ull << s->o.region_shift, (uint64_t)s->o.sectors * SIM_SECTOR - offset);
}

uint64_t dmap_file_bytes(const struct sim *s)
{
    return s->o.region_shift ? HK_DMAP_MAP_AT + HK_DMAP_PAGE_BYTES : HK_DMAP_LOG_AT + 65536;
}

/* What `hikae create-md` writes behind the superblocks. */
void dmap_create(struct sim *s, const struct hk_super *super)
{
    struct hk_dmap_id id = hk_dmap_id(&super->replica_id, &super->peer_replica_id);
    static const uint8_t clean[HK_DMAP_PAGE_STATES];
    struct hk_dmap_stamp stamp = {0};

    if (!s->o.region_shift)
        return;
    SIM_CHECK(s, "I16", dmap_regions(s) <= REGIONS_MAX, "too many regions for the simulator");
    s->dmap = sim_alloc(s, sizeof(*s->dmap));
    s->dmap->all_pages = true;
    for (stamp.sequence = 1; stamp.sequence <= HK_DMAP_LOG_PAGES; stamp.sequence++)
        hk_dmap_log_fill(&id, &stamp, s->md.cur + hk_dmap_log_offset(stamp.sequence));
    stamp = (struct hk_dmap_stamp){.sequence = 1};
    hk_dmap_map_build(&id, &stamp, 0, clean, s->md.cur + HK_DMAP_MAP_AT);
}

/* ---- the parser ---- */

void dmap_written(struct sim *s, uint64_t offset, uint64_t bytes)
{
    if (!s->dmap)
        return;
    for (uint64_t at = offset; at < offset + bytes; at += HK_DMAP_PAGE_BYTES)
        if (at >= HK_DMAP_LOG_AT)
            s->dmap->written[(at - HK_DMAP_LOG_AT) / HK_DMAP_PAGE_BYTES] = true;
}

void dmap_look_again(struct sim *s)
{
    if (s->dmap)
        s->dmap->all_pages = true;
}

static bool sector_whole(const struct sim *s, const struct hk_dmap_sector *x)
{
    uint64_t seed;

    memcpy(&seed, s->replica_id[0].b, 8);
    return x->hash == naive_xxh64((const uint8_t *)x + 8, 504, seed);
}

/* Number of the transaction that stands whole in this page; 0: none does. */
static uint64_t read_page(const struct sim *s, uint32_t page)
{
    const struct hk_dmap_page *p =
        (const void *)(s->md.good + HK_DMAP_LOG_AT + (uint64_t)page * HK_DMAP_PAGE_BYTES);

    for (unsigned i = 0; i < 8; i++) {
        const struct hk_dmap_sector *x = &p->sector[i];

        if (!sector_whole(s, x) || x->kind != HK_DMAP_LOG || x->place != page || x->index != i ||
            x->sequence != p->sector[0].sequence || x->page_hash != p->sector[0].page_hash)
            return 0;
    }
    return p->sector[0].sequence;
}

static bool page_astray(const struct sim *s, enum hk_dmap_kind kind, uint32_t page)
{
    uint64_t at =
        kind == HK_DMAP_LOG ? HK_DMAP_LOG_AT + (uint64_t)page * HK_DMAP_PAGE_BYTES : HK_DMAP_MAP_AT;
    const struct hk_dmap_page *p = (const void *)(s->md.good + at);

    for (unsigned i = 0; i < 8; i++) {
        const struct hk_dmap_sector *x = &p->sector[i];

        if ((x->kind != kind || x->place != page || x->index != i ||
             (kind == HK_DMAP_LOG && x->sequence % PAGES != page)) &&
            sector_whole(s, x))
            return true;
    }
    return false;
}

/*
 * Behind the newest transaction stands the oldest, or a power cut's mixture of that and the next
 * one; anything else may have been a newer one.
 */
static bool behind_is_sound(const struct sim *s, uint64_t newest)
{
    uint32_t page = (newest + 1) % PAGES;
    const struct hk_dmap_page *p =
        (const void *)(s->md.good + HK_DMAP_LOG_AT + (uint64_t)page * HK_DMAP_PAGE_BYTES);

    for (unsigned i = 0; i < 8; i++) {
        const struct hk_dmap_sector *x = &p->sector[i];

        if (!sector_whole(s, x) || (x->sequence != newest + 1 && x->sequence + PAGES != newest + 1))
            return false;
    }
    return true;
}

static bool any_astray(const struct sim_dmap *d)
{
    for (uint32_t i = 0; i <= PAGES; i++)
        if (d->astray[i])
            return true;
    return false;
}

static void read_map(const struct sim *s)
{
    const struct hk_dmap_page *p = (const void *)(s->md.good + HK_DMAP_MAP_AT);
    bool whole = sector_whole(s, &p->sector[0]);

    s->dmap->map_ordinal = whole ? p->sector[0].ordinal : 0;
    /* No more regions than one sector holds. */
    for (uint32_t r = 0; r < REGIONS_MAX; r++)
        s->dmap->map[r] =
            whole ? p->sector[0].state[r / 4] >> r % 4 * 2 & 3 : (uint8_t)HK_DMAP_STALE;
}

static void apply(struct sim_dmap *d, const struct hk_dmap_page *p, uint64_t sequence)
{
    for (unsigned i = 0; i < 8; i++) {
        const struct hk_dmap_sector *x = &p->sector[i];

        memcpy(&d->slot[(sequence % WINDOW * 8 + i) * 64], x->log.slot, sizeof(x->log.slot));
    }
    for (unsigned i = 0; i < 8; i++)
        for (unsigned k = 0; k < p->sector[i].count; k++)
            d->slot[p->sector[i].log.update[k].slot] = p->sector[i].log.update[k].entry;
}

/* The slots, as the newest transactions behind `voided` say. */
static void read_log(const struct sim *s, uint64_t voided)
{
    struct sim_dmap *d = s->dmap;
    uint64_t newest = 0;

    for (uint32_t i = 0; i < PAGES; i++)
        newest = hk_max_u64(newest, d->sequence[i]);
    memset(d->slot, 0, sizeof(d->slot));
    /* What went astray is missing where it belongs: the next reader believes nothing, SPEC 6.11. */
    d->lost = newest < voided || any_astray(d) || !behind_is_sound(s, newest);
    for (uint64_t t = newest < WINDOW ? 1 : newest - WINDOW + 1; t <= newest; t++) {
        uint32_t page = t % PAGES;

        if (t <= voided)
            continue;
        if (d->sequence[page] != t) {
            d->lost = true;
            return;
        }
        apply(d, (const void *)(s->md.good + HK_DMAP_LOG_AT + page * (uint64_t)4096), t);
    }
}

static void judge(struct sim *s, const struct hk_super *super)
{
    struct sim_dmap *d = s->dmap;
    bool all = d->lost || (super->flags & HK_SF_FULL_COMPARE);
    bool counts = super->spooled_lsn && super->history.count &&
                  super->history.epoch[super->history.count - 1].ordinal == d->map_ordinal;
    uint32_t n = dmap_regions(s);

    for (uint32_t r = 0; r < n; r++) {
        d->stale[r] =
            all || d->map[r] == HK_DMAP_STALE || (d->map[r] == HK_DMAP_SPOOLED && !counts);
        d->marked[r] = d->stale[r] ? DIRTY : d->map[r] == HK_DMAP_SPOOLED ? SPOOLED : CLEAN;
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t r = d->slot[i] & ((1u << 30) - 1), mark = d->slot[i] >> 30;

        if (!mark || r >= n)
            continue;
        d->marked[r] = DIRTY;
        d->stale[r] = d->stale[r] || mark == HK_DMAP_MARK_STALE;
    }
}

static void check_clean(struct sim *s, const uint8_t *was_marked);

/* There is room for more regions than the volumes have; what lies behind an end is nobody's. */
static bool every_stale(const struct sim *s)
{
    uint32_t a_volume = dmap_regions(s) / SIM_VOLUMES;

    for (uint32_t r = 0; r < dmap_regions(s); r++) {
        uint64_t offset = (uint64_t)(r % a_volume) << s->o.region_shift;

        if (!s->dmap->stale[r] && offset < (uint64_t)grow_now(s, r / a_volume) * SIM_SECTOR)
            return false;
    }
    return true;
}

/* Whatever went wrong before: it will all be compared. */
static void see_all_stale(struct sim *s)
{
    if (every_stale(s))
        s->origin_void = false;
}

static struct sim_dmap *look(struct sim *s)
{
    struct sim_dmap *d = s->dmap;
    const struct hk_super *super = md_durable(s);
    uint8_t was[REGIONS_MAX];

    if (d->seen == s->md.durable_changes + 1)
        return d;
    d->seen = s->md.durable_changes + 1;
    memcpy(was, d->marked, sizeof(was));
    for (uint32_t i = 0; i < PAGES; i++) {
        if (d->all_pages || d->written[i]) {
            d->sequence[i] = read_page(s, i);
            d->astray[i] = page_astray(s, HK_DMAP_LOG, i);
        }
        d->written[i] = false;
    }
    d->astray[PAGES] = page_astray(s, HK_DMAP_MAP, 0);
    read_map(s);
    d->all_pages = false;
    read_log(s, super->dmap_sequence);
    d->found_lost = d->found_lost && d->lost;
    judge(s, super);
    see_all_stale(s);
    check_clean(s, was);
    return d;
}

/* ---- what must hold ---- */

/* Is it certain what the standby's durable log says, and that nothing voids it? */
static bool judged(const struct sim *s)
{
    return s->dmap && !s->forked && !s->over && !s->primary_gone && !s->standby_suspect &&
           !s->no_super[0] && !s->no_super[1] && !s->sby.promoted && !s->sby.promoting &&
           !s->origin_void && s->nj.durable >= s->was_durable && !s->memory_lied;
}

/*
 * A page that was never written as promised shows itself when its turn comes to be the oldest:
 * whoever reads then compares everything; who runs meanwhile can't know.
 */
void dmap_started(struct sim *s)
{
    if (s->dmap)
        s->dmap->found_lost = look(s)->lost;
}

void dmap_check_submit(struct sim *s, const struct sim_op *op)
{
    uint64_t first, last;
    struct sim_dmap *d;

    if (!judged(s) || op->op.type == HK_REC_FLUSH)
        return;
    d = look(s);
    SIM_CHECK(s, "I1", !d->found_lost || md_durable(s)->flags & HK_SF_FULL_COMPARE,
              "a write goes to volume %u (LSN %llu), the activity log can't be believed, and "
              "\"full compare\" is not durable",
              op->op.volume, ULL(op->op.lsn.v));
    first = dmap_region_of(s, op->op.volume, op->op.offset);
    last = dmap_region_of(s, op->op.volume, op->op.offset + op->op.length - 1);
    for (uint64_t r = first; r <= last; r++) {
        SIM_CHECK(s, "I1", d->marked[r] == DIRTY,
                  "a write goes to region %llu (LSN %llu), which is not durably marked", ULL(r),
                  ULL(op->op.lsn.v));
        SIM_CHECK(s, "I1", op->op.captured || d->stale[r],
                  "an uncaptured write goes to region %llu, which is not durably stale", ULL(r));
    }
}

static bool being_written(const struct sim *s, uint32_t region)
{
    for (const struct sim_op *o = s->cap.ops.next; o != &s->cap.ops; o = o->next)
        if (o->in_origin && o->op.length && o->op.type != HK_REC_BLOCK &&
            dmap_region_of(s, o->op.volume, o->op.offset) <= region &&
            dmap_region_of(s, o->op.volume, o->op.offset + o->op.length - 1) >= region)
            return true;
    return false;
}

/* Of a clean region the standby has all, of a spooled one what the spool is relied on for. */
static void check_sector(struct sim *s, uint32_t region, unsigned vol, uint32_t sector)
{
    bool spooled = s->dmap->marked[region] == SPOOLED;
    uint64_t has = hk_max_u64(s->nj.durable, spooled ? md_durable(s)->spooled_lsn : 0);
    const struct sim_file *f = &s->origin[vol];
    uint8_t may[8], want = ref_value_at(s, vol, sector, has);
    int n = sim_disk_may_hold(f, sector, may, 8);

    /* A compare takes a replica for what its damage has made of it. */
    if (damage_at(f, (uint64_t)sector * SIM_SECTOR, SIM_SECTOR) || ref_is_bad(s, vol, sector) ||
        damage_at(&s->replica[vol], (uint64_t)sector * SIM_SECTOR, SIM_SECTOR))
        return;
    for (int i = 0; i < n; i++)
        SIM_CHECK(s, "I2", may[i] == want,
                  "region %u is called %s: volume %u sector %u may hold %d after a power cut, "
                  "the log that the standby has or gets (%llu) says %d",
                  region, spooled ? "spooled" : "clean", vol, sector, (int8_t)may[i], ULL(has),
                  (int8_t)want);
}

static void check_region(struct sim *s, uint32_t region)
{
    uint32_t a_volume = dmap_regions(s) / SIM_VOLUMES, vol = region / a_volume;
    uint32_t first = (region % a_volume << s->o.region_shift) / SIM_SECTOR;
    uint32_t n = (1u << s->o.region_shift) / SIM_SECTOR;

    if (s->dmap->marked[region] == SPOOLED) {
        spool_judge(s, md_durable(s)->spooled_lsn, s->nj.durable);
        sim_struck(s, F_SHELTERED);
    }
    SIM_CHECK(
        s, "I1", !being_written(s, region),
        "region %u is called clean or spooled while a write of it is on its way to the origin",
        region);
    for (uint32_t i = first; i < first + n && i < grow_at(s, vol, s->nj.durable); i++)
        check_sector(s, region, vol, i);
}

/* Of regions that have become clean since `was`; NULL: of all. */
static void check_clean(struct sim *s, const uint8_t *was)
{
    uint32_t n = dmap_regions(s);

    if (!judged(s))
        return;
    for (uint32_t r = 0; r < n; r++)
        if (s->dmap->marked[r] != DIRTY && (!was || was[r] > s->dmap->marked[r]))
            check_region(s, r);
}

void dmap_check(struct sim *s)
{
    if (!judged(s) || !s->md_cache.seen)
        return;
    look(s);
    check_clean(s, NULL);
}

/* The newest durable position that the metadata rest on. */
uint64_t dmap_relied(struct sim *s, const struct hk_super *super)
{
    const struct sim_dmap *d = look(s);
    uint64_t relied = super->durable_known;

    for (uint32_t i = 0; i < PAGES; i++) {
        const struct hk_dmap_page *p =
            (const void *)(s->md.good + HK_DMAP_LOG_AT + (uint64_t)i * HK_DMAP_PAGE_BYTES);

        if (d->sequence[i])
            relied = hk_max_u64(relied, p->sector[0].relied);
    }
    return relied;
}

bool dmap_all_stale(struct sim *s)
{
    look(s);
    return every_stale(s);
}

uint32_t dmap_count_stale(struct sim *s)
{
    const struct sim_dmap *d = look(s);
    uint32_t n = 0;

    for (uint32_t r = 0; r < dmap_regions(s); r++)
        n += d->stale[r];
    return n;
}

bool dmap_any_stale(struct sim *s)
{
    return dmap_count_stale(s) > 0;
}

/*
 * Does the log tell what the origin holds there? Not of a region that is to be compared, nor of
 * what the log wrote before somebody set the origins back, or the metadata, which then know nothing
 * of what was written since: there is no fingerprint by which anybody could notice.
 */
bool dmap_origin_told(struct sim *s, unsigned volume, uint32_t sector)
{
    const struct ref_sector *h = &s->ref.sector[volume][sector];
    uint64_t at = (uint64_t)sector * SIM_SECTOR;

    if (s->origin_void && (h->count == 0 || h->v[h->count - 1].end <= s->origin_back_lsn))
        return false;
    if (!s->dmap)
        return true;
    return !look(s)->stale[dmap_region_of(s, volume, at)];
}
