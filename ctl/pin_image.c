/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a pin: replica and before-images together are the image (proto/SPEC.md §8.7). The applier
 * writes the replica meanwhile, each chunk only after its before-image and the bit that says so are
 * durable. So the replica is read first and the bits are tested then; where one is set the
 * before-image counts. A page of the index may be met in the middle of a write: it is read again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "proto/snapmap.h"

enum { TRIES = 200, PAUSE_US = 1000, PAGE_CHUNKS = HK_SNAP_PAGE_SECTORS * HK_SNAP_SECTOR_CHUNKS };

struct hk_pin_image {
    int index, data;
    uint64_t first_page; /* of this volume, in the index */
    uint64_t kept;       /* bytes taken from before-images */
    struct hk_snap_place place;
    uint8_t *page;
};

static int open_part(const struct hk_options *o, uint32_t part, int *ret_fd)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    hk_request_fill(o, "image-open", &r);
    r.name = o->argv[0];
    r.part = part;
    exit_code = hk_ask(o, &r, &reply, ret_fd);
    if (exit_code)
        return exit_code;
    hk_rpc_free(&reply->base);
    return *ret_fd >= 0 ? 0 : hk_complain(HK_EXIT_FAILED, "HKE5017E no descriptor of the image");
}

/* Which snapshot the index is of, and where this volume's pages lie in it. */
static int read_header(struct hk_pin_image *p, const struct hk_group_conf *g, const char *volume)
{
    struct hk_snap_header h;
    uint32_t v;

    if (pread(p->index, p->page, HK_PAGE_BYTES, 0) != HK_PAGE_BYTES)
        return hk_complain(HK_EXIT_FAILED, "HKE5017E reading the pin's index failed: %s",
                           strerror(errno));
    memcpy(&h, p->page, sizeof(h));
    if (hk_snap_header_check(&h) || h.kind != HK_SNAP_PIN)
        return hk_complain(HK_EXIT_REFUSED, "HKE5011E the pin is gone");
    p->first_page = 1;
    for (v = 0; v < g->volume_count && strcmp(g->volume[v].name, volume); v++)
        p->first_page += hk_snap_pages(g->volume[v].bytes);
    if (v == g->volume_count)
        return hk_complain(HK_EXIT_REFUSED, "HKE5012E group %s has no volume \"%s\"", g->name,
                           volume);
    p->place = (struct hk_snap_place){
        .id = h.id, .volume = v, .volume_bytes = g->volume[v].bytes, .replica_id = h.replica_id};
    return 0;
}

int hk_pin_image_open(const struct hk_options *o, struct hk_pin_image **ret)
{
    struct hk_pin_image *p = calloc(1, sizeof(*p));
    struct hk_group_conf *g = calloc(1, sizeof(*g));
    struct hk_local_conf *l = calloc(1, sizeof(*l));
    int exit_code;

    if (!p || !g || !l)
        abort();
    p->index = p->data = -1;
    p->page = aligned_alloc(HK_PAGE_BYTES, HK_PAGE_BYTES);
    if (!p->page)
        abort();
    exit_code = hk_read_conf(o, g, l);
    if (!exit_code)
        exit_code = open_part(o, 1, &p->index);
    if (!exit_code)
        exit_code = open_part(o, 2, &p->data);
    if (!exit_code)
        exit_code = read_header(p, g, o->volume);
    free(g);
    free(l);
    if (exit_code)
        hk_pin_image_close(p);
    else
        *ret = p;
    return exit_code;
}

void hk_pin_image_close(struct hk_pin_image *p)
{
    if (!p)
        return;
    if (p->index >= 0)
        close(p->index);
    if (p->data >= 0)
        close(p->data);
    free(p->page);
    free(p);
}

static int read_page(struct hk_pin_image *p, uint64_t page)
{
    off_t at = (off_t)((p->first_page + page) * HK_PAGE_BYTES);
    enum hk_snap_fault fault = HK_SNAP_NONE;
    uint32_t chunks;

    p->place.page = page;
    for (int i = 0; i < TRIES; i++) {
        if (pread(p->index, p->page, HK_PAGE_BYTES, at) != HK_PAGE_BYTES)
            return hk_complain(HK_EXIT_FAILED, "HKE5017E reading the pin's index failed: %s",
                               strerror(errno));
        fault = hk_snap_page_check(&p->place, p->page, &chunks);
        if (fault == HK_SNAP_OK)
            return 0;
        usleep(PAUSE_US);
    }
    return hk_complain(HK_EXIT_FAILED, "HKE5017E the pin's index: %s", hk_snap_fault_text(fault));
}

static bool kept(const struct hk_pin_image *p, uint64_t chunk)
{
    uint64_t in_page = chunk - p->place.page * PAGE_CHUNKS;
    struct hk_snap_sector sector;

    memcpy(&sector, p->page + hk_snap_sector_of(in_page) * HK_SNAP_SECTOR_BYTES, sizeof(sector));
    return hk_snap_bit(&sector, chunk);
}

int hk_pin_image_read(struct hk_pin_image *p, uint64_t offset, size_t bytes, uint8_t *buffer)
{
    uint64_t first = offset / HK_SNAP_CHUNK_BYTES, page = UINT64_MAX;
    uint64_t end = (offset + bytes + HK_SNAP_CHUNK_BYTES - 1) / HK_SNAP_CHUNK_BYTES;

    for (uint64_t c = first; c < end; c++) {
        uint64_t at = c * HK_SNAP_CHUNK_BYTES;
        size_t want = (size_t)hk_min_u64(HK_SNAP_CHUNK_BYTES, offset + bytes - at);
        int exit_code;

        if (c / PAGE_CHUNKS != page) {
            page = c / PAGE_CHUNKS;
            exit_code = read_page(p, page);
            if (exit_code)
                return exit_code;
        }
        if (!kept(p, c))
            continue;
        if (pread(p->data, buffer + (at - offset), want, (off_t)at) != (ssize_t)want)
            return hk_complain(HK_EXIT_FAILED,
                               "HKE5017E reading a before-image at byte %" PRIu64 " failed: %s", at,
                               strerror(errno));
        p->kept += want;
    }
    return 0;
}
