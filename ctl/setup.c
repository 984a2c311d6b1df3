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
static int refuse_existing(const struct hk_options *o, const char *path)
{
    struct stat st;

    if (stat(path, &st) || o->force)
        return 0;
    return hk_complain(HK_EXIT_REFUSED,
                       "HKE1040E %s exists: it may hold the history of a living group; look with "
                       "`hikae dump %s`, and use --force only if that history may be lost",
                       path, path);
}

static int write_md(const char *path, struct hk_super *super)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r = 1;
    uint8_t *slot = calloc(1, HK_SUPER_BYTES);
    off_t size = 2 * HK_SUPER_BYTES + HK_DMAP_RESERVED_BYTES;

    if (fd < 0 || !slot) {
        r = hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", path, strerror(errno));
        goto out;
    }
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        r = hk_complain(HK_EXIT_REFUSED, "HKE1042E %s is in use; stop what uses it first", path);
        goto out;
    }
    hk_super_encode(super, slot);
    /* Both slots are emptied first: an older superblock must not win over the new one. */
    if (ftruncate(fd, 0) || ftruncate(fd, size) || posix_fallocate(fd, 0, size) ||
        pwrite(fd, slot, HK_SUPER_BYTES, (off_t)(super->sequence & 1) * HK_SUPER_BYTES) !=
            HK_SUPER_BYTES ||
        fsync(fd)) {
        r = hk_complain(HK_EXIT_FAILED, "HKE1041E %s can't be written: %s", path, strerror(errno));
        goto out;
    }
    r = 0;
out:
    free(slot);
    if (fd >= 0)
        close(fd);
    return r;
}

static int primary_md(const struct hk_options *o, const struct hk_group_conf *g,
                      const struct hk_local_conf *l)
{
    struct hk_super_create p = {.assume_equal = true};
    struct hk_super super;
    uint32_t i;
    int r = refuse_existing(o, l->capture.metadata);

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
    }
    if (!random_id(&p.replica_id) || !random_id(&p.epoch_id) || hk_super_create(&p, &super))
        return hk_complain(HK_EXIT_FAILED, "HKE1043E the primary's metadata can't be made up");
    r = write_md(l->capture.metadata, &super);
    if (!r && !o->json)
        printf("%s: primary metadata, epoch 1\n", l->capture.metadata);
    return r;
}

static int standby_md(const struct hk_options *o, const struct hk_group_conf *g,
                      const struct hk_local_conf *l)
{
    struct hk_super s;
    uint32_t i;
    int r = refuse_existing(o, l->standby.metadata);

    if (r)
        return r;
    memset(&s, 0, sizeof(s));
    s.magic = HK_SUPER_MAGIC;
    s.version = HK_SUPER_VERSION;
    s.role = HK_ROLE_STANDBY;
    s.sequence = 1;
    s.flags = HK_SF_ASSUMED_EQUAL;
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
    r = write_md(l->standby.metadata, &s);
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
    if (!o->assume_equal)
        return hk_complain(
            HK_EXIT_REFUSED,
            "HKE1044E the initial synchronisation is not there yet: make the volumes "
            "of both sites equal yourself (for example both empty) and say "
            "--assume-equal");
    r = l.primary ? primary_md(o, &g, &l) : standby_md(o, &g, &l);
    if (!r && o->json)
        hk_print_json(json_pack("{s:i, s:s, s:s}", "schema", 1, "role",
                                l.primary ? "primary" : "standby", "state", "created"));
    return r;
}
