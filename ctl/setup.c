/* SPDX-License-Identifier: Apache-2.0 */
/* hikae check-config and create-md: what is done before a daemon runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/metadata.h"
#include "proto/super.h"

int hk_verb_check_config(const struct hk_options *o)
{
    static struct hk_group_conf g;
    static struct hk_local_conf l;
    int r = hk_read_conf(o, &g, &l);

    if (r)
        return r;
    if (o->json)
        hk_print_json(json_pack("{s:i, s:s, s:s, s:s, s:i}", "schema", 1, "group", g.name, "site",
                                l.site, "role", l.primary ? "primary" : "standby", "volumes",
                                (int)g.volume_count));
    else
        printf("group %s: %u volumes, site %s as %s, hash %016llx: no errors\n"
               "  the link is NOT ENCRYPTED (lab-unencrypted): only for a laboratory\n",
               g.name, g.volume_count, l.site, l.primary ? "primary" : "standby",
               (unsigned long long)g.hash);
    return HK_EXIT_DONE;
}

/* ---- create-md ---- */

static uint64_t realtime_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool random_id(struct hk_uuid *u)
{
    return getrandom(u, sizeof(*u), 0) == (ssize_t)sizeof(*u);
}

/* Metadata that is there is somebody's history: it is only replaced with --force. */
static int refuse_existing(const struct hk_options *o, const struct hk_metadata_place *p)
{
    const char *path = p->path;

    if (o->force || !hk_metadata_there(p))
        return 0;
    return hk_complain(HK_EXIT_REFUSED,
                       "HKE1040E %s exists: it may hold the history of a living group; look with "
                       "`hikae dump %s`, and use --force only if that history may be lost",
                       path, path);
}

static int primary_md(const struct hk_options *o, const struct hk_group_conf *g,
                      const struct hk_local_conf *l)
{
    struct hk_super_create p = {
        .assume_equal = o->assume_equal, .seed = o->seed, .region_shift = g->region_shift};
    struct hk_super super;
    uint32_t i;
    struct hk_metadata_place place;
    int r;

    hk_metadata_place(l, &place);
    r = refuse_existing(o, &place);
    if (r)
        return r;
    p.group_id = g->id;
    p.site_id = g->site[l->site_index].id;
    memcpy(p.group_name, g->name, HK_NAME_BYTES);
    p.time_ns = realtime_ns();
    p.volume_count = g->volume_count;
    for (i = 0; i < g->volume_count; i++) {
        memcpy(p.volume[i].name, g->volume[i].name, HK_NAME_BYTES);
        p.volume[i].bytes = g->volume[i].bytes;
        p.volume[i].room_bytes = g->volume[i].max_bytes;
    }
    if (!random_id(&p.replica_id) || !random_id(&p.epoch_id) || hk_super_create(&p, &super))
        return hk_complain(HK_EXIT_FAILED, "HKE1043E the primary's metadata can't be made up");
    r = hk_metadata_write(&place, &super, o->force);
    if (!r && !o->json)
        printf("%s%s: primary metadata, epoch 1, %s\n", place.path,
               place.at_end ? ", at its end" : "",
               !super.region_shift ? "no dirty map"
               : o->assume_equal   ? "every region equal on your word"
               : o->seed           ? "every region equal to the seed that is to be exported"
                                   : "every region to be compared");
    return r;
}

static int standby_md(const struct hk_options *o, const struct hk_group_conf *g,
                      const struct hk_local_conf *l)
{
    struct hk_super s;
    uint32_t i;
    struct hk_metadata_place place = {.path = l->standby.metadata};
    int r = refuse_existing(o, &place);

    if (r)
        return r;
    memset(&s, 0, sizeof(s));
    s.magic = HK_SUPER_MAGIC;
    s.version = HK_SUPER_VERSION;
    s.role = HK_ROLE_STANDBY;
    s.sequence = 1;
    s.flags = o->assume_equal ? HK_SF_ASSUMED_EQUAL : 0;
    s.group_id = g->id;
    s.site_id = g->site[l->site_index].id;
    memcpy(s.group_name, g->name, HK_NAME_BYTES);
    s.volume_count = g->volume_count;
    for (i = 0; i < g->volume_count; i++) {
        memcpy(s.volume[i].name, g->volume[i].name, HK_NAME_BYTES);
        s.volume[i].bytes = g->volume[i].bytes;
    }
    if (!random_id(&s.replica_id))
        return hk_complain(HK_EXIT_FAILED, "HKE1043E no random number for the replica's id");
    r = hk_metadata_write(&place, &s, false);
    if (!r && !o->json)
        printf("%s: standby metadata, no history yet\n", l->standby.metadata);
    return r;
}

int hk_verb_create_md(const struct hk_options *o)
{
    static struct hk_group_conf g;
    static struct hk_local_conf l;
    int r = hk_read_conf(o, &g, &l);

    if (r)
        return r;
    if (o->seed && (!l.primary || o->assume_equal || g.region_shift == 0))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE1045E --seed is for a primary with a dirty map (region-bytes), and "
                           "goes without --assume-equal; the standby's metadata needs no option");
    if (!o->assume_equal && g.region_shift == 0)
        return hk_complain(
            HK_EXIT_REFUSED,
            "HKE1044E region-bytes is 0: without a dirty map there is no initial synchronisation; "
            "make the volumes of both sites equal yourself (for example both empty) and say "
            "--assume-equal");
    r = l.primary ? primary_md(o, &g, &l) : standby_md(o, &g, &l);
    if (!r && o->json)
        hk_print_json(json_pack("{s:i, s:s, s:s}", "schema", 1, "role",
                                l.primary ? "primary" : "standby", "state", "created"));
    return r;
}
