/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hikae upgrade: the formats of this site's metadata, and moving them to this release's. Nothing
 * else ever moves one (SPEC.md §12.3): until then the release before can be gone back to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/metadata.h"
#include "proto/super.h"

struct file {
    const char *what;
    struct hk_metadata_place place;
    bool optional; /* made only by a promotion */
};

struct upgrade {
    const struct hk_options *o;
    const struct hk_group_conf *g;
    bool commit;
    json_t *list;
};

static int look(const struct file *f, int flags, int *ret_fd, struct hk_super *ret, bool *ret_whole)
{
    static uint8_t slots[2 * HK_SUPER_BYTES] __attribute__((aligned(8)));
    enum hk_super_fault fault[2];
    uint32_t version[2];
    ssize_t n;
    int rc;

    *ret_fd = open(f->place.path, flags | O_CLOEXEC);
    if (*ret_fd < 0)
        return -errno;
    n = pread(*ret_fd, slots, sizeof(slots), (off_t)hk_metadata_slots_at(*ret_fd, f->place.at_end));
    rc = n == (ssize_t)sizeof(slots) ? hk_super_pick(slots, slots + HK_SUPER_BYTES, ret, fault)
                                     : -EUCLEAN;
    /* Cut off between its two slots, it is done once more. */
    for (int i = 0; i < 2; i++)
        memcpy(&version[i], slots + i * HK_SUPER_BYTES + offsetof(struct hk_super, version), 4);
    *ret_whole = version[0] != HK_SUPER_VERSION_OLD && version[1] != HK_SUPER_VERSION_OLD;
    return rc;
}

/*
 * What version 1 could not say is what nobody knows: a primary that was stopped in order owes
 * nothing and begins with a clean map, one that requires a full compare with everything stale.
 */
static int convert(const struct upgrade *u, const struct file *f, struct hk_super *s)
{
    bool was_old = s->version == HK_SUPER_VERSION_OLD;

    s->version = HK_SUPER_VERSION;
    if (!was_old || s->role != HK_ROLE_PRIMARY || !u->g->region_shift)
        return 0;
    if (!(s->flags & (HK_SF_CLEAN | HK_SF_FULL_COMPARE)))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE1052E %s: the capture side was not stopped in order, and what is "
                           "under way is in its ring alone; start it, stop it in order, then "
                           "commit",
                           f->place.path);
    hk_super_number_regions(s, u->g->region_shift);
    return 0;
}

static int commit(const struct upgrade *u, const struct file *f, int fd, struct hk_super *s)
{
    int r;

    if (flock(fd, LOCK_EX | LOCK_NB))
        return hk_complain(HK_EXIT_REFUSED, "HKE1042E %s is in use; stop what uses it first",
                           f->place.path);
    r = convert(u, f, s);
    if (r)
        return r;
    return hk_metadata_rewrite(&f->place, fd, s);
}

static int one(const struct upgrade *u, const struct file *f)
{
    static struct hk_super s;
    uint32_t before;
    bool whole = false;
    int fd, r = look(f, u->commit ? O_RDWR : O_RDONLY, &fd, &s, &whole);

    if (r && f->optional && (r == -ENOENT || r == -ENODATA)) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    if (r) {
        if (fd >= 0)
            close(fd);
        return hk_complain(HK_EXIT_FAILED, "HKE1053E %s holds no sound superblock: %s",
                           f->place.path, strerror(-r));
    }
    before = whole ? s.version : HK_SUPER_VERSION_OLD;
    if (u->commit && before != HK_SUPER_VERSION)
        r = commit(u, f, fd, &s);
    close(fd);
    if (r)
        return r;
    json_array_append_new(u->list, json_pack("{s:s, s:s, s:i, s:i, s:i, s:b}", "file",
                                             f->place.path, "what", f->what, "version",
                                             (int)(u->commit ? HK_SUPER_VERSION : before), "before",
                                             (int)before, "newest", HK_SUPER_VERSION, "dirty_map",
                                             (int)(s.region_shift != 0)));
    if (!u->o->json)
        printf("%s: %s, version %u%s%s\n", f->place.path, f->what, before,
               before == HK_SUPER_VERSION ? ", the newest"
               : u->commit                ? ", moved to 2"
                                          : "; `hikae upgrade commit` moves it to 2",
               s.role != HK_ROLE_PRIMARY ? ""
               : s.region_shift          ? ", with a dirty map"
                                         : ", without a dirty map");
    return 0;
}

int hk_verb_upgrade(const struct hk_options *o)
{
    static struct hk_group_conf g;
    static struct hk_local_conf l;
    struct upgrade u = {.o = o, .g = &g, .commit = !strcmp(o->argv[0], "commit")};
    struct file file[2] = {{.what = "primary metadata"}};
    uint32_t count = 1, i;
    int r;

    if (!u.commit && strcmp(o->argv[0], "show"))
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1032E expected `hikae upgrade show` or `hikae upgrade commit`");
    r = hk_read_conf(o, &g, &l);
    if (r)
        return r;
    if (l.primary) {
        hk_metadata_place(&l, &file[0].place);
    } else {
        file[0] = (struct file){.what = "standby metadata", .place = {.path = l.standby.metadata}};
        file[1] = (struct file){.what = "primary metadata of a promotion",
                                .place = {.path = l.standby.primary_metadata},
                                .optional = true};
        count = 2;
    }
    u.list = json_array();
    for (i = 0; !r && i < count; i++)
        r = one(&u, &file[i]);
    if (!r && o->json)
        hk_print_json(json_pack("{s:i, s:s, s:O}", "schema", 1, "state",
                                u.commit ? "committed" : "shown", "files", u.list));
    json_decref(u.list);
    return r;
}
