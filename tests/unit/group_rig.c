/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/group_rig.h"

#include "proto/dmap.h"

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct hk_epoch epoch1 = {
    .id = {{0xe1}}, .first_lsn = HK_LSN_FIRST, .ordinal = 1, .reason = HK_EPOCH_CREATE};

/* ---- the primary's log, as the ring reader would give it ---- */

static uint64_t time_at(struct hk_source *source, struct hk_lsn lsn)
{
    struct rig *r = HK_CONTAINER_OF(source, struct rig, source);
    struct hk_record rec;

    for (uint32_t i = 0; i < r->log.count; i++) {
        uint64_t first = i ? r->log.end[i - 1] : r->log.first;

        if (r->log.end[i] <= lsn.v || first >= r->produced)
            continue;
        memcpy(&rec, logmaker_at(&r->log, first), sizeof(rec));
        return rec.time_ns;
    }
    return 0;
}

static bool look(struct hk_source *source, struct hk_source_view *ret)
{
    struct rig *r = HK_CONTAINER_OF(source, struct rig, source);

    *ret =
        (struct hk_source_view){.contact_ns = r->taken_contact,
                                .state = r->capture_state,
                                .next = HK_LSN(r->ring_lost ? r->reported_durable : r->log.next)};
    return true;
}

static int gather(struct hk_source *source, struct hk_lsn lsn, uint32_t bytes, struct hk_iovec *iov,
                  int max)
{
    struct rig *r = HK_CONTAINER_OF(source, struct rig, source);

    assert_true(max > 0);
    if (lsn.v < r->log.first || lsn.v + bytes > r->produced)
        return -ERANGE;
    if (r->spool && (r->ring_lost || lsn.v < r->reported_released))
        return -ERANGE;
    iov[0] = (struct hk_iovec){r->log.bytes + (lsn.v - r->log.first), bytes};
    return 1;
}

static uint32_t fill(struct hk_source *source, uint64_t *ret_bytes)
{
    struct rig *r = HK_CONTAINER_OF(source, struct rig, source);

    *ret_bytes = r->ring_bytes;
    if (r->ring_lost)
        return 0;
    return (uint32_t)((r->produced - r->reported_released) * 1000 / r->ring_bytes);
}

/* ---- making ---- */

static void queue_init(struct rig_queue *q)
{
    q->frame = calloc(RIG_FRAMES, sizeof(*q->frame));
    assert_non_null(q->frame);
}

struct rig *rig_new(uint64_t seed)
{
    struct rig *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    r->seed = r->rnd = seed;
    r->now = (struct hk_now){5000 * RIG_MS, 1700000000000000000ull};
    logmaker_init(&r->log, &epoch1, 96 << 20);
    r->produced = r->log.first;
    memdisk_init(&r->disk, seed);
    memdisk_add(&r->disk, HK_FILE_SUPER, 2 * HK_SUPER_BYTES);
    memdisk_add(&r->disk, HK_FILE_PRIMARY_MD, hk_dmap_file_bytes(1));
    for (uint32_t i = 0; i < RIG_VOLUMES; i++)
        memdisk_add(&r->disk, HK_FILE_VOLUME0 + i, RIG_VOLUME_BYTES);
    for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++) {
        uint32_t file = HK_FILE_SNAPSHOT0 + i * HK_FILES_A_SNAPSHOT;

        memdisk_add(&r->disk, file, (1 + RIG_VOLUMES) * HK_PAGE_BYTES);
        for (uint32_t v = 0; v < RIG_VOLUMES; v++)
            memdisk_add(&r->disk, file + 1 + v, RIG_VOLUME_BYTES);
    }
    for (uint32_t i = 0; i < RIG_SEGMENTS; i++)
        memdisk_add(&r->disk, HK_FILE_SEGMENT0 + i, RIG_SEGMENT_BYTES);
    r->window = aligned_alloc(4096, RIG_WINDOW_BYTES);
    queue_init(&r->to_standby);
    queue_init(&r->to_primary);
    memdisk_init(&r->spool_disk, seed + 1);
    memdisk_add(&r->spool_disk, HK_FILE_SPOOL_DIR, MEMDISK_SECTOR);
    for (uint32_t i = 0; i < RIG_SPOOL_SEGMENTS; i++)
        memdisk_add(&r->spool_disk, HK_FILE_SPOOL_SEGMENT0 + i, RIG_SEGMENT_BYTES);
    r->spool_window = aligned_alloc(4096, RIG_SPOOL_WINDOW_BYTES);
    r->ring_bytes = 2 << 20;
    r->reported_released = r->log.first;
    r->source = (struct hk_source){gather, time_at, NULL, look, fill};
    r->takes_reports = true;
    r->insert_now = true;
    r->apply_lag_bytes_max = 64 << 20;
    r->capture_state = HK_STATE_REPLICATING;
    rig_format(r);
    return r;
}

void rig_free(struct rig *r)
{
    memdisk_free(&r->disk);
    memdisk_free(&r->spool_disk);
    free(r->spool_window);
    logmaker_free(&r->log);
    free(r->to_standby.frame);
    free(r->to_primary.frame);
    free(r->window);
    free(r->memory[0]);
    free(r->memory[1]);
    free(r);
}

static void fill_super(struct hk_super *s, enum hk_super_role role)
{
    memset(s, 0, sizeof(*s));
    s->role = role;
    s->group_id = (struct hk_uuid){{9}};
    s->replica_id = (struct hk_uuid){{role == HK_ROLE_PRIMARY ? 1 : 2}};
    s->flags = HK_SF_ASSUMED_EQUAL;
    strcpy(s->group_name, "core");
    s->volume_count = RIG_VOLUMES;
    for (uint32_t i = 0; i < RIG_VOLUMES; i++) {
        s->volume[i].name[0] = (char)('a' + i);
        s->volume[i].bytes = RIG_VOLUME_BYTES;
    }
}

void rig_format(struct rig *r)
{
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(64)));
    struct hk_super *s = &r->super;

    memset(slot, 0, sizeof(slot));
    memdisk_poke(&r->disk, HK_FILE_SUPER, HK_SUPER_BYTES, slot, sizeof(slot));
    fill_super(s, HK_ROLE_STANDBY);
    hk_super_encode(s, slot);
    memdisk_poke(&r->disk, HK_FILE_SUPER, 0, slot, sizeof(slot));
    fill_super(s, HK_ROLE_PRIMARY);
    s->history.count = 1;
    s->history.epoch[0] = epoch1;
    s->ceiling = 1 << 30;
}

static void cfg_common(struct rig *r, struct hk_group_cfg *c, enum hk_super_role role)
{
    memset(c, 0, sizeof(*c));
    c->role = role;
    c->group_id = (struct hk_uuid){{9}};
    c->site_id = c->host_id = (struct hk_uuid){{role == HK_ROLE_PRIMARY ? 11 : 12}};
    c->config_hash = 42;
    c->volume_count = RIG_VOLUMES;
    for (uint32_t i = 0; i < RIG_VOLUMES; i++) {
        c->volume_bytes[i] = RIG_VOLUME_BYTES;
        c->volume_name[i][0] = (char)('a' + i);
    }
    if (r->grows_bytes) {
        c->volume_bytes[0] = RIG_VOLUME_BYTES - r->grows_bytes;
        c->volume_max[0] = RIG_VOLUME_BYTES;
    }
    c->contact_timeout_ns = RIG_T;
    c->path_count = 2;
    c->frame_body_max[0] = 1400;
    c->frame_body_max[1] = 8000;
    c->seed = unit_random(&r->rnd);
}

static struct hk_group *start(struct rig *r, const struct hk_group_cfg *c, void **memory)
{
    struct hk_arena a = {.bytes = hk_group_bytes(c)};
    struct hk_group *g = NULL;

    free(*memory);
    *memory = aligned_alloc(4096, hk_round_up(a.bytes, 4096));
    memset(*memory, 0, a.bytes);
    a.base = *memory;
    assert_int_equal(hk_group_init(c, &a, &r->now, &g), 0);
    return g;
}

void rig_start_primary(struct rig *r)
{
    struct hk_group_cfg c;

    cfg_common(r, &c, HK_ROLE_PRIMARY);
    c.source = &r->source;
    if (r->spool) {
        c.disk = &r->spool_disk.disk;
        c.window = r->spool_window;
        c.window_bytes = RIG_SPOOL_WINDOW_BYTES;
        c.segment_bytes = RIG_SEGMENT_BYTES;
        c.segment_count = RIG_SPOOL_SEGMENTS;
        memset(r->spool_window, 0xee, RIG_SPOOL_WINDOW_BYTES);
    }
    r->p = start(r, &c, &r->memory[0]);
    r->lease++;
    r->produced = r->log.next;
    rig_capture(r, r->capture_state);
}

void rig_start_standby(struct rig *r)
{
    struct hk_group_cfg c;

    cfg_common(r, &c, HK_ROLE_STANDBY);
    c.disk = &r->disk.disk;
    c.window = r->window;
    c.window_bytes = RIG_WINDOW_BYTES;
    c.segment_bytes = RIG_SEGMENT_BYTES;
    c.segment_count = RIG_SEGMENTS;
    c.apply_bytes = 4 << 20;
    c.apply_lag_bytes_max = r->apply_lag_bytes_max;
    c.region_shift = r->region_shift;
    c.snapshot_slots = RIG_SNAPSHOTS;
    c.snapshot_bytes = r->snapshot_bytes;
    memset(r->window, 0xee, RIG_WINDOW_BYTES);
    r->s = start(r, &c, &r->memory[1]);
}

static void event(struct rig *r, bool at_standby, const struct hk_event *e)
{
    struct hk_group *g = at_standby ? r->s : r->p;

    if (g)
        hk_group_event(g, e, &r->now);
}

static void control_breaks(struct rig *r)
{
    struct hk_event e = {.type = HK_EV_CONTROL_DOWN};

    r->control[0].count = r->control[1].count = 0;
    if (!r->control_up)
        return;
    r->control_up = false;
    event(r, false, &e);
    event(r, true, &e);
}

void rig_kill_primary(struct rig *r)
{
    r->p = NULL;
    memdisk_kill(&r->spool_disk);
    control_breaks(r);
}

void rig_kill_standby(struct rig *r, bool power)
{
    r->s = NULL;
    control_breaks(r);
    if (power)
        memdisk_power_cut(&r->disk);
    else
        memdisk_kill(&r->disk);
}

/* ---- the capture side ---- */

void rig_capture(struct rig *r, uint32_t state)
{
    struct hk_event e = {.type = HK_EV_CAPTURE};

    r->capture_state = state;
    e.capture.attached = state != HK_STATE_DETACHED;
    e.capture.lease = r->lease;
    e.capture.durable = HK_LSN(r->reported_durable);
    e.capture.released = HK_LSN(r->ring_lost ? r->reported_durable : r->reported_released);
    e.capture.closed = r->ring_lost;
    e.capture.acked = HK_LSN(r->reported_acked);
    e.capture.produced = HK_LSN(r->ring_lost ? r->reported_durable : r->produced);
    e.capture.state = state;
    e.capture.super = &r->super;
    event(r, false, &e);
}

void rig_produced(struct rig *r)
{
    struct hk_event e = {.type = HK_EV_PRODUCED};

    r->produced = r->log.next;
    e.produced.produced = HK_LSN(r->produced);
    event(r, false, &e);
}

void rig_write(struct rig *r, unsigned count)
{
    while (count--) {
        uint64_t x = unit_random(&r->rnd);
        uint32_t sectors = 1 + (uint32_t)(x >> 8) % 64;
        uint64_t at = (x >> 16) % (RIG_VOLUME_BYTES / 512 - sectors) * 512;
        uint16_t volume = x >> 60 & 1;

        switch (x % 10) {
        case 0: logmaker_add(&r->log, HK_REC_FLUSH, 0, 0, 0, NULL, 0); break;
        case 1: logmaker_add(&r->log, HK_REC_ZEROES, volume, at, sectors * 512, NULL, 0); break;
        case 2: logmaker_add(&r->log, HK_REC_DISCARD, volume, at, sectors * 512, NULL, 0); break;
        case 3: logmaker_add(&r->log, HK_REC_VOID, volume, at, 512, "void", 4); break;
        default: logmaker_write(&r->log, volume, at, sectors * 512, &r->rnd); break;
        }
    }
    rig_produced(r);
}

/* ---- link and control ---- */

static void send(struct rig *r, const struct hk_action *a, struct rig_queue *q)
{
    struct rig_frame *f;
    const struct hk_frame *h = &a->send.header;

    if (r->cut || unit_random(&r->rnd) % 100 < r->loss)
        return;
    assert_true(q->count < RIG_FRAMES);
    f = &q->frame[(q->head + q->count++) % RIG_FRAMES];
    f->at = r->now.mono_ns + RIG_MS;
    f->header = *h;
    if (h->type == HK_FRAME_DATA) {
        struct hk_iovec iov[2];
        int n = hk_group_gather(r->p, HK_LSN(h->lsn), h->span, iov, 2);
        uint32_t at = 0;

        assert_true(h->lsn + h->span <= r->produced && h->body_len == h->span);
        assert_true(n > 0); /* the pure side never asks for what is not there */
        for (int i = 0; i < n; at += (uint32_t)iov[i++].bytes)
            memcpy(f->body + at, iov[i].base, iov[i].bytes);
        assert_int_equal(at, h->span);
        assert_memory_equal(f->body, logmaker_at(&r->log, h->lsn), h->span);
        if (r->flip_lsn >= h->lsn && r->flip_lsn < h->lsn + h->span)
            f->body[r->flip_lsn - h->lsn] ^= 1;
    } else {
        memcpy(f->body, a->send.body, h->body_len);
    }
}

static bool deliver(struct rig *r, struct rig_queue *q, bool to_standby)
{
    struct rig_frame *f = &q->frame[q->head];
    struct hk_event e = {.type = HK_EV_FRAME_IN};

    if (q->count == 0 || f->at > r->now.mono_ns)
        return false;
    e.frame.header = f->header;
    e.frame.body = f->body;
    q->head = (q->head + 1) % RIG_FRAMES;
    q->count--;
    event(r, to_standby, &e);
    return true;
}

static bool deliver_control(struct rig *r, bool to_standby)
{
    struct rig_controls *c = &r->control[to_standby ? 0 : 1];
    struct hk_event e = {.type = HK_EV_CONTROL_IN};
    static struct hk_ctl m;

    if (c->count == 0)
        return false;
    m = c->m[0];
    memmove(&c->m[0], &c->m[1], --c->count * sizeof(m));
    e.control = &m;
    event(r, to_standby, &e);
    return true;
}

static bool connect_control(struct rig *r)
{
    struct hk_event e = {.type = HK_EV_CONTROL_UP};

    if (r->control_up || r->control_off || r->cut || !r->p || !r->s)
        return false;
    r->control_up = true;
    event(r, true, &e);
    event(r, false, &e);
    return true;
}

static void insert(struct rig *r, const struct hk_action *a)
{
    struct hk_event e = {.type = HK_EV_INSERTED};

    r->insert = *a;
    if (!r->insert_now)
        return;
    e.inserted.request = a->insert.request;
    e.inserted.lsn = HK_LSN(r->log.next);
    logmaker_add(&r->log, HK_REC_MARK, 0, 0, 0, &a->insert.mark, sizeof(a->insert.mark));
    e.inserted.end = HK_LSN(r->log.next);
    rig_produced(r);
    event(r, false, &e);
}

static void report(struct rig *r, const struct hk_action *a)
{
    /* What the capture core would not take is a bug of the group's. */
    assert_true(a->report.acked.v <= r->produced && a->report.released.v <= r->produced);
    assert_true(a->report.durable.v <= a->report.acked.v);
    assert_true(a->report.durable.v >= r->reported_durable);
    r->reported_durable = a->report.durable.v;
    assert_true(a->report.released.v >= r->reported_released || r->ring_lost);
    r->reported_released = hk_max_u64(r->reported_released, a->report.released.v);
    r->reported_acked = hk_max_u64(r->reported_acked, a->report.acked.v);
    r->reported_contact = a->report.contact_ns;
    r->reported_flags = a->report.standby_flags;
    if (r->takes_reports)
        r->taken_contact = a->report.contact_ns;
}

static void note(struct rig *r, bool at_standby, const struct hk_action *a)
{
    struct rig_note *n = &r->note[r->notes % RIG_NOTES];

    r->notes++;
    n->at_standby = at_standby;
    n->id = a->notify.id;
    memcpy(n->arg, a->notify.arg, sizeof(n->arg));
    memcpy(n->name, a->notify.name, sizeof(n->name));
}

static bool act(struct rig *r, bool at_standby)
{
    struct hk_group *g = at_standby ? r->s : r->p;
    static struct hk_action a;
    struct rig_controls *c = &r->control[at_standby ? 1 : 0];

    if (!g || !hk_group_next(g, &r->now, true, &a))
        return false;
    switch (a.type) {
    case HK_ACT_SEND:
        r->acks += at_standby;
        send(r, &a, at_standby ? &r->to_primary : &r->to_standby);
        break;
    case HK_ACT_CONTROL_OUT:
        if (!r->control_up)
            break;
        assert_true(c->count < RIG_CONTROLS);
        c->m[c->count++] = a.control;
        break;
    case HK_ACT_CONTROL_CLOSE:
        while (deliver_control(r, !at_standby)) /* what was said is still heard */
            ;
        control_breaks(r);
        r->now.mono_ns += 1; /* and the next attempt is later */
        break;
    case HK_ACT_REPORT: report(r, &a); break;
    case HK_ACT_INSERT: insert(r, &a); break;
    case HK_ACT_BIND_PEER:
        r->bound = a.peer_replica_id;
        r->super.peer_replica_id = a.peer_replica_id;
        break;
    case HK_ACT_CHECK_COPY:
        r->checked_lsn = a.check_lsn.v;
        r->control_off = true; /* the daemon does not connect again at once */
        break;
    case HK_ACT_RETURN: r->returned = a.parent_end.v; break;
    case HK_ACT_STALE_ASK:
    case HK_ACT_HASH:
    case HK_ACT_BLOCK:
    case HK_ACT_HEAL:
    case HK_ACT_RESIZE:
    case HK_ACT_STALE_ALL: break;
    case HK_ACT_NOTIFY: note(r, at_standby, &a); break;
    case HK_ACT_VERB_DONE:
        r->done = true;
        r->verb_done = a;
        break;
    case HK_ACT_FATAL:
        assert_true(at_standby);
        r->fatal = a.fatal.error;
        break;
    }
    return true;
}

static bool spool_step(struct rig *r)
{
    struct hk_event e = {.type = HK_EV_DISK_DONE};

    if (!r->p || r->spool_stuck || !(e.disk = memdisk_step(&r->spool_disk)))
        return false;
    event(r, false, &e);
    return true;
}

static bool disk_step(struct rig *r)
{
    struct hk_event e = {.type = HK_EV_DISK_DONE};

    if (r->disk_stuck || !r->s)
        return false;
    if (r->disk_steps_left == 1)
        return false;
    e.disk = memdisk_step(&r->disk);
    if (!e.disk)
        return false;
    if (r->disk_steps_left)
        r->disk_steps_left--;
    if (r->fail_file && e.disk->file == r->fail_file)
        e.disk->result = -EIO;
    event(r, true, &e);
    return true;
}

static bool timers(struct rig *r)
{
    struct hk_event e = {.type = HK_EV_TIMER};
    bool any = false;

    for (int i = 0; i < 2; i++) {
        struct hk_group *g = i ? r->s : r->p;

        if (g && hk_group_deadline_ns(g) <= r->now.mono_ns) {
            event(r, i, &e);
            any = true;
        }
    }
    return any;
}

void rig_settle(struct rig *r)
{
    for (int guard = 0;; guard++) {
        bool any = false;

        assert_true(guard < 2000000);
        while (act(r, false) || act(r, true))
            any = true;
        any |= deliver(r, &r->to_standby, true);
        any |= deliver(r, &r->to_primary, false);
        any |= deliver_control(r, true);
        any |= deliver_control(r, false);
        any |= disk_step(r);
        any |= spool_step(r);
        if (any)
            continue;
        if (!timers(r) && !connect_control(r))
            return;
        while (act(r, false) || act(r, true))
            ;
        if (guard % 16 == 0) /* a deadline that stays in the past must not stop the clock */
            return;
    }
}

static void next_moment(struct rig *r, uint64_t end)
{
    uint64_t at = end, step;

    for (int i = 0; i < 2; i++) {
        const struct rig_queue *q = i ? &r->to_primary : &r->to_standby;
        const struct hk_group *g = i ? r->s : r->p;

        if (q->count)
            at = hk_min_u64(at, q->frame[q->head].at);
        if (g)
            at = hk_min_u64(at, hk_group_deadline_ns(g));
    }
    step = at > r->now.mono_ns ? at - r->now.mono_ns : 1000;
    r->now.mono_ns += step;
    r->now.real_ns += step;
}

void rig_run(struct rig *r, uint64_t ns)
{
    uint64_t end = r->now.mono_ns + ns;

    rig_settle(r);
    while (r->now.mono_ns < end) {
        next_moment(r, end);
        rig_settle(r);
    }
}

bool rig_until(struct rig *r, bool (*f)(struct rig *), uint64_t ns)
{
    uint64_t end = r->now.mono_ns + ns;

    rig_settle(r);
    while (!f(r)) {
        if (r->now.mono_ns >= end)
            return false;
        next_moment(r, end);
        rig_settle(r);
    }
    return true;
}

/* ---- questions ---- */

void rig_verb(struct rig *r, bool at_standby, const struct hk_verb *v)
{
    struct hk_event e = {.type = HK_EV_VERB};

    r->done = false;
    e.verb = *v;
    event(r, at_standby, &e);
}

const struct rig_note *rig_find_note(const struct rig *r, bool at_standby, enum hk_notice_id id)
{
    for (uint32_t i = r->notes < RIG_NOTES ? r->notes : RIG_NOTES; i-- > 0;) {
        if (r->note[i].id == id && r->note[i].at_standby == at_standby)
            return &r->note[i];
    }
    return NULL;
}

void rig_forget_notes(struct rig *r)
{
    r->notes = 0;
}

void rig_status(struct rig *r, bool at_standby, struct hk_group_status *ret)
{
    hk_group_status(at_standby ? r->s : r->p, &r->now, ret);
}

void rig_check_replica(struct rig *r, uint64_t lsn, bool durable)
{
    uint8_t *want = calloc(RIG_VOLUMES, RIG_VOLUME_BYTES);
    struct hk_record h;

    for (uint64_t at = r->log.first; at < lsn; at = hk_record_end(&h).v) {
        uint8_t *to;

        memcpy(&h, logmaker_at(&r->log, at), sizeof(h));
        assert_true(hk_record_end(&h).v <= lsn);
        to = want + (uint64_t)h.volume * RIG_VOLUME_BYTES + h.offset;
        if (h.type == HK_REC_WRITE || h.type == HK_REC_BLOCK)
            memcpy(to, logmaker_at(&r->log, at + 64), h.length);
        if (h.type == HK_REC_ZEROES || h.type == HK_REC_DISCARD)
            memset(to, 0, h.length);
    }
    for (uint32_t v = 0; v < RIG_VOLUMES; v++) {
        struct memdisk_file *f = memdisk_file(&r->disk, HK_FILE_VOLUME0 + v);

        assert_memory_equal(durable ? f->durable : f->cached, want + (uint64_t)v * RIG_VOLUME_BYTES,
                            RIG_VOLUME_BYTES);
    }
    free(want);
}

void rig_durable_super(struct rig *r, uint32_t file, struct hk_super *ret)
{
    struct memdisk_file *f = memdisk_file(&r->disk, file);
    static uint8_t slot[2][HK_SUPER_BYTES] __attribute__((aligned(64)));

    memcpy(slot, f->durable, sizeof(slot));
    assert_int_equal(hk_super_pick(slot[0], slot[1], ret, NULL), 0);
}
