/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hikae dump: every on-disk structure in words, without the daemon. What a file is, its own first
 * bytes tell. Never prints payload unless --payload asks for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/metadata.h"
#include "driver-glue/uapi/ring.h"
#include "proto/hash.h"
#include "proto/record.h"
#include "proto/segment.h"
#include "proto/super.h"

struct dump {
    const struct hk_options *o;
    const char *path;
    const uint8_t *bytes;
    uint64_t size;
    json_t *root;
};

static void set_number(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void set_text(json_t *o, const char *key, const char *v)
{
    json_object_set_new(o, key, json_string(v));
}

static void set_uuid(json_t *o, const char *key, const struct hk_uuid *u)
{
    char text[HK_UUID_TEXT];

    hk_uuid_format(u, text);
    set_text(o, key, text);
}

/* ---- superblocks ---- */

static json_t *flag_words(uint32_t flags)
{
    static const char *const word[] = {"clean",         "degraded",      "full-compare-required",
                                       "origin-failed", "promoted",      "promoting",
                                       "frozen",        "assumed-equal", "not-promotable",
                                       "in-doubt",      "stale",         "pinned",
                                       "resync",        "rolling-back",  "unreadable"};
    json_t *a = json_array();
    size_t i;

    for (i = 0; i < HK_ARRAY_SIZE(word); i++)
        if (flags & (1u << i))
            json_array_append_new(a, json_string(word[i]));
    return a;
}

static json_t *history_json(const struct hk_history *h)
{
    json_t *a = json_array(), *e;
    uint32_t i;

    for (i = 0; i < h->count && i < HK_HISTORY_EPOCHS_MAX; i++) {
        e = json_object();
        set_number(e, "ordinal", h->epoch[i].ordinal);
        set_uuid(e, "id", &h->epoch[i].id);
        set_uuid(e, "parent", &h->epoch[i].parent);
        set_number(e, "first_lsn", h->epoch[i].first_lsn);
        set_number(e, "parent_end", h->epoch[i].parent_end);
        set_number(e, "time_ns", h->epoch[i].time_ns);
        set_text(e, "reason", hk_epoch_reason_text(h->epoch[i].reason));
        json_array_append_new(a, e);
    }
    return a;
}

static void super_numbers(json_t *o, const struct hk_super *s)
{
    const struct {
        const char *key;
        uint64_t v;
    } n[] = {{"sequence", s->sequence},
             {"ceiling", s->ceiling},
             {"clean_lsn", s->clean_lsn},
             {"durable_known", s->durable_known},
             {"applied", s->applied},
             {"degraded_time_ns", s->degraded_time_ns},
             {"degraded_lsn", s->degraded_lsn},
             {"mode_lsn", s->mode_lsn},
             {"mode", s->mode},
             {"on_link_loss", s->on_link_loss},
             {"contact_timeout_ns", s->contact_timeout_ns},
             {"contact_time_ns", s->contact_time_ns},
             {"freeze_lsn", s->freeze_lsn},
             {"freeze_time_ns", s->freeze_time_ns},
             {"loss_class", s->loss_class},
             {"promote_lsn", s->promote_lsn},
             {"promote_time_ns", s->promote_time_ns},
             {"version", s->version},
             {"region_shift", s->region_shift},
             {"dmap_sequence", s->dmap_sequence},
             {"spooled_lsn", s->spooled_lsn},
             {"pin_lsn", s->pin_lsn},
             {"pin_epoch", s->pin_ordinal},
             {"snapshot_next", s->snapshot_next},
             {"epochs_dropped", s->history.dropped}};
    size_t i;

    for (i = 0; i < HK_ARRAY_SIZE(n); i++)
        set_number(o, n[i].key, n[i].v);
}

static json_t *super_json(const struct hk_super *s)
{
    json_t *o = json_object(), *a = json_array(), *v;
    uint32_t i;

    set_text(o, "role", s->role == HK_ROLE_PRIMARY ? "primary" : "standby");
    set_text(o, "group", s->group_name);
    set_uuid(o, "group_id", &s->group_id);
    set_uuid(o, "replica_id", &s->replica_id);
    set_uuid(o, "site_id", &s->site_id);
    set_uuid(o, "peer_replica_id", &s->peer_replica_id);
    json_object_set_new(o, "flags", flag_words(s->flags));
    super_numbers(o, s);
    if (*s->freeze_name)
        set_text(o, "freeze_name", s->freeze_name);
    for (i = 0; i < s->volume_count && i < HK_VOLUMES_MAX; i++) {
        v = json_object();
        set_text(v, "name", s->volume[i].name);
        set_number(v, "bytes", s->volume[i].bytes);
        if (s->volume[i].room_bytes)
            set_number(v, "room_bytes", s->volume[i].room_bytes);
        if (s->volume[i].prior_bytes)
            set_number(v, "prior_bytes", s->volume[i].prior_bytes);
        json_array_append_new(a, v);
    }
    json_object_set_new(o, "volumes", a);
    json_object_set_new(o, "history", history_json(&s->history));
    return o;
}

static const char *super_fault_id(enum hk_super_fault f)
{
    switch (f) {
    case HK_SUPER_BAD_VERSION: return "HKE7031E";
    case HK_SUPER_BAD_HASH: return "HKE7032E";
    case HK_SUPER_BAD_FIELD: return "HKE7033E";
    case HK_SUPER_OK:
    case HK_SUPER_BAD_MAGIC:
    case HK_SUPER_FAULTS: break;
    }
    return "HKE7034E";
}

static bool blank(const uint8_t *p, size_t bytes)
{
    return p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}

static int dump_super(struct dump *d)
{
    struct hk_super s;
    enum hk_super_fault fault[2];
    json_t *slots = json_array(), *o;
    int i, r;

    r = hk_super_pick(d->bytes, d->bytes + HK_SUPER_BYTES, &s, fault);
    for (i = 0; i < 2; i++) {
        o = json_object();
        set_text(o, "verdict", hk_super_fault_text(fault[i]));
        json_array_append_new(slots, o);
    }
    set_text(d->root, "structure", "superblocks");
    json_object_set_new(d->root, "slots", slots);
    if (r)
        return hk_complain(HK_EXIT_REFUSED,
                           "%s metadata %s: no valid superblock (slot 0: %s, slot 1: %s); keep the "
                           "file as it is",
                           super_fault_id(fault[0] == HK_SUPER_BAD_MAGIC ? fault[1] : fault[0]),
                           d->path, hk_super_fault_text(fault[0]), hk_super_fault_text(fault[1]));
    if (!d->o->check)
        json_object_set_new(d->root, "super", super_json(&s));
    for (i = 0; i < 2; i++)
        if (fault[i] != HK_SUPER_OK && !blank(d->bytes + i * HK_SUPER_BYTES, HK_SUPER_BYTES))
            r = hk_complain(HK_EXIT_REFUSED,
                            "%s metadata %s: slot %d: %s; the other slot is valid and counts, as "
                            "after a power cut in the middle of a write",
                            super_fault_id(fault[i]), d->path, i, hk_super_fault_text(fault[i]));
    i = hk_dump_dmap(d->o, d->path, d->bytes, d->size, &s, d->root);
    return r ? r : i;
}

/* ---- segments ---- */

/* payload NULL: not at hand. */
static json_t *record_json(const struct dump *d, const struct hk_record *r, const uint8_t *payload)
{
    json_t *o = json_object();
    char hex[65];
    uint32_t i;

    set_number(o, "lsn", r->lsn);
    set_text(o, "type", hk_record_type_text(r->type));
    set_number(o, "volume", r->volume);
    set_number(o, "offset", r->offset);
    set_number(o, "length", r->length);
    set_number(o, "payload_len", r->payload_len);
    set_number(o, "time_ns", r->time_ns);
    if (payload && r->type == HK_REC_MARK && r->payload_len >= sizeof(struct hk_mark)) {
        struct hk_mark m;

        memcpy(&m, payload, sizeof(m));
        m.name[HK_NAME_BYTES - 1] = 0;
        set_text(o, "mark", m.name);
    }
    if (payload && d->o->payload && r->payload_len) {
        for (i = 0; i < 32 && i < r->payload_len; i++)
            snprintf(hex + 2 * i, 3, "%02x", payload[i]);
        set_text(o, "payload", hex);
    }
    return o;
}

/* Walks a batch's records; returns their number, or stops at the first that is wrong and says so.
 */
static uint64_t dump_records(const struct dump *d, const struct hk_batch_header *h,
                             const uint8_t *pages, json_t *list, const char **ret_fault)
{
    const uint8_t *stream = pages + (h->first_lsn & (HK_PAGE_BYTES - 1));
    uint64_t at = 0, n = 0;

    while (at < h->bytes) {
        struct hk_record r;
        enum hk_record_fault f;

        memcpy(&r, stream + at, sizeof(r));
        f = hk_record_check(&r, HK_LSN(h->first_lsn + at), h->epoch_ordinal,
                            hk_epoch_seed(&h->epoch_id));
        if (f == HK_RECORD_OK && hk_record_bytes(r.payload_len) > h->bytes - at)
            f = HK_RECORD_BAD_LENGTH;
        if (f == HK_RECORD_OK && !hk_record_payload_ok(&r, stream + at + sizeof(r)))
            f = HK_RECORD_BAD_PAYLOAD;
        if (f != HK_RECORD_OK) {
            *ret_fault = hk_record_fault_text(f);
            return n;
        }
        json_array_append_new(list, record_json(d, &r, stream + at + sizeof(r)));
        at += hk_record_bytes(r.payload_len);
        n++;
    }
    return n;
}

static json_t *batch_json(const struct dump *d, const struct hk_batch_header *h, uint64_t at,
                          const char **ret_fault)
{
    json_t *o = json_object(), *records = json_array();
    const char *fault = NULL;

    set_number(o, "at", at);
    set_number(o, "first_lsn", h->first_lsn);
    set_number(o, "bytes", h->bytes);
    set_number(o, "durable", h->durable);
    dump_records(d, h, d->bytes + at + HK_BATCH_HEADER_BYTES, records, &fault);
    set_text(o, "verdict", fault ? fault : "ok");
    json_object_set_new(o, "records", records);
    if (fault)
        *ret_fault = fault;
    return o;
}

static const char *segment_fault_id(enum hk_segment_fault f)
{
    switch (f) {
    case HK_SEGMENT_BAD_FIELD: return "HKE7022E";
    case HK_SEGMENT_BAD_VERSION: return "HKE7023E";
    case HK_SEGMENT_BAD_HASH: return "HKE7024E";
    case HK_SEGMENT_FOREIGN: return "HKE7026W";
    case HK_SEGMENT_OK:
    case HK_SEGMENT_BAD_MAGIC:
    case HK_SEGMENT_FAULTS: break;
    }
    return "HKE7025E";
}

/* What follows the last sound batch: nothing, an older life of the file, or damage. */
static int segment_end(const struct dump *d, const struct hk_segment_header *h, uint64_t at,
                       enum hk_segment_fault f)
{
    if (d->size < h->segment_bytes)
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE7021E segment %s: truncated: %" PRIu64 " of %" PRIu64 " bytes",
                           d->path, d->size, h->segment_bytes);
    if (f == HK_SEGMENT_OK || f == HK_SEGMENT_BAD_MAGIC || f == HK_SEGMENT_FOREIGN)
        return HK_EXIT_DONE;
    return hk_complain(HK_EXIT_REFUSED,
                       "%s segment %s: offset %" PRIu64
                       ": %s; torn in a crash or corrupt, it can't "
                       "be told from this file alone; what precedes it is sound",
                       segment_fault_id(f), d->path, at, hk_segment_fault_text(f));
}

static int dump_batches(struct dump *d, const struct hk_segment_header *h, json_t *batches)
{
    uint64_t at = HK_SEGMENT_HEADER_BYTES, next = h->first_lsn;
    enum hk_segment_fault f = HK_SEGMENT_OK;
    const char *bad = NULL;
    struct hk_batch_header b;

    while (at + HK_BATCH_HEADER_BYTES <= d->size) {
        memcpy(&b, d->bytes + at, sizeof(b));
        f = hk_batch_header_check(&b, &h->epoch_id, next);
        if (f == HK_SEGMENT_OK &&
            hk_batch_page_bytes(b.first_lsn, b.bytes) > d->size - at - HK_BATCH_HEADER_BYTES)
            f = HK_SEGMENT_BAD_FIELD;
        if (f != HK_SEGMENT_OK)
            break;
        json_array_append_new(batches, batch_json(d, &b, at, &bad));
        if (bad)
            break;
        next = b.first_lsn + b.bytes;
        at += HK_BATCH_HEADER_BYTES + hk_batch_page_bytes(b.first_lsn, b.bytes);
    }
    set_number(d->root, "end_lsn", next);
    if (bad)
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE7024E segment %s: a record of the batch at offset %" PRIu64
                           " is damaged: %s; what precedes it is sound",
                           d->path, at, bad);
    return segment_end(d, h, at, f);
}

static int dump_segment(struct dump *d)
{
    struct hk_segment_header h;
    enum hk_segment_fault f;
    json_t *batches;

    if (d->size < sizeof(h))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE7021E segment %s: truncated: %" PRIu64 " bytes hold no header",
                           d->path, d->size);
    memcpy(&h, d->bytes, sizeof(h));
    f = hk_segment_header_check(&h);
    batches = json_array();
    set_text(d->root, "structure", "segment");
    set_text(d->root, "verdict", hk_segment_fault_text(f));
    json_object_set_new(d->root, "batches", batches);
    if (f != HK_SEGMENT_OK)
        return hk_complain(HK_EXIT_REFUSED, "%s segment %s: %s", segment_fault_id(f), d->path,
                           hk_segment_fault_text(f));
    set_number(d->root, "epoch", h.epoch_ordinal);
    set_uuid(d->root, "epoch_id", &h.epoch_id);
    set_uuid(d->root, "group_id", &h.group_id);
    set_uuid(d->root, "replica_id", &h.replica_id);
    set_number(d->root, "first_lsn", h.first_lsn);
    return dump_batches(d, &h, batches);
}

/* ---- the ring ---- */

static int dump_ring(struct dump *d)
{
    const struct hk_ring_header *h = (const void *)d->bytes;
    const struct hk_ring_producer *p = (const void *)(d->bytes + HK_PAGE_BYTES);
    json_t *records = json_array();
    uint64_t i;

    set_text(d->root, "structure", "ring");
    json_object_set_new(d->root, "records", records);
    if (h->version != HK_RING_VERSION || h->total_bytes > d->size ||
        h->hash != hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0) ||
        h->slots_offset > d->size || h->slot_count == 0 ||
        h->slot_count > (d->size - h->slots_offset) / sizeof(struct hk_record) ||
        (h->slot_count & (h->slot_count - 1)))
        return hk_complain(HK_EXIT_REFUSED,
                           "HKE1047E %s: the ring's header is damaged or of another "
                           "version",
                           d->path);
    set_uuid(d->root, "group_id", &h->group_id);
    set_uuid(d->root, "ring_id", &h->ring_id);
    set_uuid(d->root, "epoch_id", &p->epoch_id);
    set_number(d->root, "epoch", p->epoch_ordinal);
    set_number(d->root, "head", p->head);
    set_number(d->root, "tail", p->tail);
    set_number(d->root, "next_lsn", p->next_lsn);
    set_number(d->root, "released", p->released);
    set_number(d->root, "acked", p->acked);
    set_number(d->root, "durable", p->durable);
    for (i = p->tail; i < p->head && i - p->tail < h->slot_count; i++) {
        struct hk_record r;

        memcpy(&r, d->bytes + h->slots_offset + (i & (h->slot_count - 1)) * sizeof(r), sizeof(r));
        json_array_append_new(records, record_json(d, &r, NULL));
    }
    return HK_EXIT_DONE;
}

/* ---- in words ---- */

static void print_words(const json_t *v, int depth);

static void print_member(const char *key, const json_t *v, int depth)
{
    printf("%*s%s: ", depth * 2, "", key);
    if (json_is_string(v))
        printf("%s\n", json_string_value(v));
    else if (json_is_integer(v))
        printf("%" PRId64 " (%#" PRIx64 ")\n", (int64_t)json_integer_value(v),
               (uint64_t)json_integer_value(v));
    else {
        putchar('\n');
        print_words(v, depth + 1);
    }
}

static void print_words(const json_t *v, int depth)
{
    const json_t *e;
    const char *key;
    size_t i;

    if (json_is_object(v)) {
        json_object_foreach((json_t *)(uintptr_t)v, key, e) print_member(key, e, depth);
        return;
    }
    json_array_foreach(v, i, e)
    {
        char name[24];

        snprintf(name, sizeof(name), "%zu", i);
        print_member(name, e, depth);
    }
}

/* ---- which is it ---- */

static int dump_any(struct dump *d)
{
    uint64_t magic[2] = {0, 0};

    if (d->size >= 8)
        memcpy(&magic[0], d->bytes, 8);
    if (magic[0] == HK_SEGMENT_MAGIC)
        return dump_segment(d);
    if (d->size < 2 * HK_SUPER_BYTES)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1048E %s: %" PRIu64 " bytes are too few for any "
                           "structure of Hikae",
                           d->path, d->size);
    memcpy(&magic[1], d->bytes + HK_SUPER_BYTES, 8);
    if (magic[0] == HK_RING_MAGIC)
        return dump_ring(d);
    if (magic[0] == HK_SUPER_MAGIC || magic[1] == HK_SUPER_MAGIC)
        return dump_super(d);
    return hk_complain(HK_EXIT_REFUSED,
                       "HKE1049E %s is none of Hikae's structures (metadata, "
                       "segment, ring), or its beginning is damaged",
                       d->path);
}

static int show(struct dump *d)
{
    int r;

    d->root = json_pack("{s:i, s:s}", "schema", 1, "file", d->path);
    r = dump_any(d);
    if (d->o->json)
        hk_print_json(d->root);
    else {
        print_words(d->root, 0);
        json_decref(d->root);
    }
    return r;
}

/* `hikae dump end`: the metadata at the end of the origin that site.conf names first. */
static int dump_end(const struct hk_options *o)
{
    static struct hk_group_conf g;
    static struct hk_local_conf l;
    struct dump d = {.o = o};
    uint8_t *bytes = NULL;
    int r = hk_read_conf(o, &g, &l);

    if (r)
        return r;
    d.path = l.capture.origin[0];
    r = hk_metadata_end_load(d.path, &bytes, &d.size);
    if (r)
        return hk_complain(HK_EXIT_FAILED, "HKE1050E %s can't be read: %s", d.path, strerror(-r));
    d.bytes = bytes;
    r = show(&d);
    free(bytes);
    return r;
}

int hk_verb_dump(const struct hk_options *o)
{
    struct dump d = {.o = o, .path = o->argv[0]};
    int fd = open(d.path, O_RDONLY | O_CLOEXEC), r;
    struct stat st;
    void *map;

    if (fd < 0 && errno == ENOENT && strcmp(d.path, "end") == 0)
        return dump_end(o);
    if (fd < 0 || fstat(fd, &st))
        return hk_complain(HK_EXIT_FAILED, "HKE1050E %s can't be read: %s", d.path,
                           strerror(errno));
    d.size = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode)) {
        off_t end = lseek(fd, 0, SEEK_END);

        d.size = end > 0 ? (uint64_t)end : 0;
    }
    map = d.size ? mmap(NULL, d.size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (map == MAP_FAILED)
        return hk_complain(HK_EXIT_FAILED, "HKE1050E %s can't be read: %s", d.path,
                           d.size ? strerror(errno) : "it is empty");
    d.bytes = map;
    r = show(&d);
    munmap(map, d.size);
    return r;
}
