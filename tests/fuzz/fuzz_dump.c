/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `hikae dump FILE`. Input: mode byte, then pieces {kind, page u8, offset u16, length u8, bytes} of
 * a file of up to 64 pages. Kinds put bytes, make a superblock slot, segment, batch, record or ring
 * header good, or put a sound superblock. Mode bits: JSON, payload, how large the file is.
 *
 * Oracle: it ends with one of its exit codes, and what it prints as JSON is JSON.
 */
#include "fuzz.h"

#include "ctl/ctl.h"
#include "driver-glue/uapi/ring.h"
#include "tests/fuzz/quiet.h"
#include "tests/fuzz/script.h"
#include "tests/fuzz/seal_page.h"
#include "tests/unit/proto_samples.h"

#include <stdarg.h>
#include <stdlib.h>

enum { PAGES = 64, PIECES_MAX = 40 };
enum kind {
    BYTES,
    SUPER,
    SEAL_SUPER,
    SEAL_SEGMENT,
    SEAL_BATCH,
    SEAL_RECORD,
    RING,
    SEAL_RING,
    KINDS
};

static uint8_t file[PAGES * HK_PAGE_BYTES] __attribute__((aligned(4096)));
static bool printed;

int hk_complain(int exit_code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    return exit_code;
}

/* No input is called "end". */
int hk_read_conf(const struct hk_options *o, struct hk_group_conf *g, struct hk_local_conf *l)
{
    (void)o;
    (void)g;
    (void)l;
    return HK_EXIT_FAILED;
}

void hk_print_json(json_t *o)
{
    char *text = json_dumps(o, JSON_INDENT(2));

    HK_ASSERT(text && json_is_object(o));
    free(text);
    json_decref(o);
    printed = true;
}

static void seal_batch(uint64_t at)
{
    struct hk_batch_header *h = (void *)(file + at);
    uint64_t data = at + HK_BATCH_HEADER_BYTES + h->first_lsn % HK_PAGE_BYTES;

    if (data < sizeof(file) && h->bytes <= sizeof(file) - data)
        h->data_hash = hk_xxh64(file + data, h->bytes, hk_epoch_seed(&h->epoch_id));
    seal_page((uint8_t *)h, HK_BATCH_MAGIC, offsetof(struct hk_batch_header, epoch_id));
}

static void seal_record(uint64_t at)
{
    struct hk_segment_header h;
    struct hk_record r;

    memcpy(&h, file, sizeof(h));
    at = hk_min_u64(hk_round_down(at, 64), sizeof(file) - sizeof(r));
    memcpy(&r, file + at, sizeof(r));
    r.magic = HK_RECORD_MAGIC;
    if (r.payload_len <= sizeof(file) - at - sizeof(r))
        r.payload_hash = r.payload_len ? hk_xxh64(file + at + sizeof(r), r.payload_len, 0) : 0;
    r.header_hash = hk_record_header_hash(&r, hk_epoch_seed(&h.epoch_id));
    memcpy(file + at, &r, sizeof(r));
}

static void piece(struct script *s)
{
    enum kind kind = script_u8(s) % KINDS;
    uint64_t page = script_u8(s) % PAGES * (uint64_t)HK_PAGE_BYTES, at;
    uint64_t slot = hk_round_down(page, HK_SUPER_BYTES), hash;
    static struct hk_super super;
    struct hk_ring_header *h = (void *)file;
    uint8_t length;

    at = page + script_u16(s) % HK_PAGE_BYTES;
    length = script_u8(s);
    switch (kind) {
    case BYTES: script_bytes(s, file + at, hk_min_u64(length, sizeof(file) - at)); break;
    case SUPER:
        if (length & 1)
            sample_super_primary(&super);
        else
            sample_super_standby(&super);
        hk_super_encode(&super, file + slot);
        break;
    case SEAL_SUPER:
        hash = hk_xxh64(file + slot, HK_SUPER_BYTES - 8, 0);
        memcpy(file + slot + HK_SUPER_BYTES - 8, &hash, 8);
        break;
    case SEAL_SEGMENT:
        seal_page(file + page, HK_SEGMENT_MAGIC, offsetof(struct hk_segment_header, epoch_id));
        break;
    case SEAL_BATCH: seal_batch(page); break;
    case SEAL_RECORD: seal_record(at); break;
    case RING:
        h->slot_count = 1u << length % 12;
        h->slots_offset = 2 * HK_PAGE_BYTES;
        h->total_bytes = sizeof(file);
        break;
    case SEAL_RING:
        h->magic = HK_RING_MAGIC;
        h->version = HK_RING_VERSION;
        h->hash = hk_xxh64(h, offsetof(struct hk_ring_header, hash), 0);
        break;
    case KINDS: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script s = {data, data + size};
    struct hk_options o = {.argc = 1};
    uint8_t mode = script_u8(&s);
    struct quiet was;
    char *path;
    int rc;

    memset(file, 0, sizeof(file));
    for (unsigned i = 0; script_left(&s) && i < PIECES_MAX; i++)
        piece(&s);
    path = (char *)(uintptr_t)quiet_file(0, file, mode & 4 ? sizeof(file) : (mode >> 3) * 2048u);
    o.argv = &path;
    o.json = mode & 1;
    o.payload = mode & 2;
    printed = false;
    was = quiet_begin();
    rc = hk_verb_dump(&o);
    quiet_end(was);
    HK_ASSERT(rc == HK_EXIT_DONE || rc == HK_EXIT_FAILED || rc == HK_EXIT_REFUSED);
    HK_ASSERT(!o.json || printed || rc == HK_EXIT_FAILED);
    return 0;
}
