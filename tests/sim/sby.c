/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby: hk_group in the standby's role over disks that may lose what was not flushed. Every
 * claim it makes is remembered over its restarts and held against the disks and the reference.
 */
#include <errno.h>
#include <string.h>

#include "replicator/store/journal.h"
#include "tests/sim/world.h"

#define ULL(x) ((unsigned long long)(x))

static struct sim_file *file_of(struct sim *s, uint32_t file)
{
    if (file == HK_FILE_SUPER)
        return &s->super;
    if (file == HK_FILE_PRIMARY_MD)
        return &s->pmd;
    if (file == HK_FILE_JOURNAL_DIR)
        return &s->journal_dir;
    if (file == HK_FILE_SNAP_DIR)
        return &s->snapshot_dir;
    if (file >= HK_FILE_SNAPSHOT0 && file < HK_FILE_SEGMENT0) {
        uint32_t slot = (file - HK_FILE_SNAPSHOT0) / HK_FILES_A_SNAPSHOT;
        uint32_t part = (file - HK_FILE_SNAPSHOT0) % HK_FILES_A_SNAPSHOT;

        SIM_CHECK(s, "I16", slot < s->o.snapshots && part <= SIM_VOLUMES,
                  "no file %u of snapshot slot %u", part, slot);
        return &s->snapshot[slot][part];
    }
    if (file >= HK_FILE_SEGMENT0 && file < HK_FILE_SEGMENT0 + s->o.segment_count)
        return &s->segment[file - HK_FILE_SEGMENT0];
    if (file >= HK_FILE_VOLUME0 && file < HK_FILE_VOLUME0 + SIM_VOLUMES)
        return &s->replica[file - HK_FILE_VOLUME0];
    sim_fail(s, "I16", "disk op on file %u that does not exist", file);
}

static void disk_done(struct sim *s, struct sim_io *io)
{
    struct hk_event e = {.type = HK_EV_DISK_DONE};
    struct hk_diskop *op = io->ctx;

    op->result = io->result;
    e.disk = op;
    sby_event(s, &e);
}

static void disk_submit(struct hk_disk *disk, struct hk_diskop *op)
{
    struct sim *s = HK_CONTAINER_OF(disk, struct sim, sby.disk);

    check_disk_op(s, op);
    sim_io_submit(s, &s->sby.proc, file_of(s, op->file), op->kind, op->offset, op->bytes, op->iov,
                  op->kind <= HK_DISK_WRITE_DSYNC ? op->iov_count : 0, disk_done, op, 0);
}

/* ---- what it says ---- */

static void said(struct sim *s, uint64_t acked, uint64_t durable, uint64_t applied)
{
    acked = ref_norm(s, acked);
    durable = ref_norm(s, durable);
    applied = ref_norm(s, applied);
    SIM_CHECK(s, "I11", s->standby_suspect || durable <= s->nj.durable,
              "durable reported up to %llu, truly durable is %llu", ULL(durable),
              ULL(s->nj.durable));
    SIM_CHECK(s, "I18", applied <= durable && durable <= acked,
              "watermarks out of order: acked "
              "%llu durable %llu applied %llu",
              ULL(acked), ULL(durable), ULL(applied));
    SIM_CHECK(s, "I18", acked <= s->ref.produced, "acked up to %llu, produced is %llu", ULL(acked),
              ULL(s->ref.produced));
    if (acked > s->sby.life_acked)
        s->sby.life_acked = acked;
    if (acked > s->sby.said_acked)
        s->sby.said_acked = acked;
    if (durable > s->sby.said_durable)
        s->sby.said_durable = durable;
    if (applied > s->sby.said_applied)
        s->sby.said_applied = applied;
}

/* Only a disk that lost what it had promised makes a side forget it, once that has been read. */
bool sby_knows_promoted(struct sim *s)
{
    return s->sby.promoted && (!s->standby_suspect || (sby_durable(s)->flags & HK_SF_PROMOTED));
}

static void act_send(struct sim *s, const struct hk_action *a)
{
    struct hk_ack ack;

    SIM_CHECK(s, "I15", a->send.header.type != HK_FRAME_DATA, "the standby sends data");
    if (a->send.header.type == HK_FRAME_ACK) {
        memcpy(&ack, a->send.body, sizeof(ack));
        said(s, ack.acked, ack.durable, ack.applied);
        SIM_CHECK(s, "I13", !sby_knows_promoted(s), "a promoted side acknowledges data");
        s->sby.acks_sent++;
    }
    link_send(s, 1, &a->send.header, a->send.body);
}

static void act_control(struct sim *s, const struct hk_ctl *m)
{
    if (m->type == HK_CTL_WELCOME && m->welcome.session == 0) { /* the log can't go on from here */
        sim_trace(s, "wgap standby asks for a new epoch: %llu, it stands at %llu", m->welcome.gap,
                  m->welcome.durable, 0);
        said(s, m->welcome.acked, m->welcome.durable, m->welcome.applied);
        budget_met(s);
        s->sby.gap_asked = true;
        s->sby.gap_lsn = hk_max_u64(ref_norm(s, m->welcome.applied), HK_LSN_FIRST);
    } else if (m->type == HK_CTL_WELCOME) {
        check_welcome(s);
        SIM_CHECK(s, "I13", !sby_knows_promoted(s), "a promoted side welcomes the old primary");
        SIM_CHECK(s, "I11",
                  ref_norm(s, m->welcome.durable) >= s->sby.said_durable || s->standby_suspect,
                  "after a restart durable is %llu, %llu had been reported",
                  ULL(m->welcome.durable), ULL(s->sby.said_durable));
        SIM_CHECK(s, "I12",
                  ref_norm(s, m->welcome.durable) >= ref_norm(s, s->cap.durable_taken) ||
                      s->standby_suspect || s->sby.hello_lease != s->cap.lease,
                  "welcomes with durable %llu, the primary had been told %llu",
                  ULL(m->welcome.durable), ULL(s->cap.durable_taken));
        if (s->sby.hello_lease == s->cap.lease)
            budget_met(s);
        s->welcome_acked = m->welcome.acked;
        said(s, m->welcome.acked, m->welcome.durable, m->welcome.applied);
    }
    if (m->type == HK_CTL_REFUSED) {
        if (m->refused.reason == HK_REFUSE_LOST_DURABLE)
            budget_met(s);
        sim_trace(s, "refu standby refuses: %llu (%llu, %llu)", m->refused.reason,
                  m->refused.detail[0], m->refused.detail[1]);
    }
    conn_send(s, 1, m);
}

/* The data may be gone for good: an operator has to look, it does not come back by itself. */
static void stays_down(struct sim *s)
{
    s->sby.fatal = true;
    s->standby_suspect = true;
    s->stood_still = true;
}

static void fatal(struct sim *s, const struct hk_action *a)
{
    sim_trace(s, "fatal at the standby: error %lld why %llu", (uint64_t)(int64_t)a->fatal.error,
              a->fatal.why, 0);
    SIM_CHECK(s, "I11", s->st_eio || s->standby_suspect || budget_explains_standby(s),
              "the standby gave up without a fault of its disks: error %d, notice %d",
              a->fatal.error, a->fatal.why);
    s->sby.fatal = true;
    if (budget_explains_standby(s)) {
        s->stood_still = true;
        s->sby.deaths++;
    }
    if (s->o.flush_eio_dooms)
        stays_down(s);
    sby_kill(s);
}

static void notice(struct sim *s, const struct hk_action *a)
{
    const uint64_t *arg = a->notify.arg;

    sim_trace(s, "note standby %llu (%llu, %llu)", a->notify.id, arg[0], arg[1]);
    switch (a->notify.id) {
    case HK_NOTE_EPOCH: naive_adopted(s, arg[1], (enum hk_epoch_reason)arg[2]); break;
    case HK_NOTE_FROZEN: check_frozen_begins(s, arg[0], a->notify.name); break;
    case HK_NOTE_PIN_YIELDED: check_pin_is_image(s, arg[0], a->notify.name); break;
    case HK_NOTE_FREEZE_ENDED: check_frozen_ends(s); break;
    case HK_NOTE_PROMOTION_STARTED: s->sby.promoting = true; break;
    case HK_NOTE_PROMOTED: check_promoted(s, arg[0], (uint32_t)arg[1]); break;
    case HK_NOTE_RECOVERED:
        if (arg[1] == HK_JOURNAL_CORRUPT) {
            SIM_CHECK(s, "I11", budget_explains_standby(s) || s->standby_suspect,
                      "corrupt at %llu, and nothing was damaged", ULL(arg[0]));
            break;
        }
        SIM_CHECK(s, "I11", budget_recovered(s, arg[0]) || s->standby_suspect,
                  "recovery ends at %llu, durable had been reported up to %llu", ULL(arg[0]),
                  ULL(s->sby.said_durable));
        SIM_CHECK(s, "I12",
                  arg[0] <= HK_LSN_FIRST || ref_is_boundary(s, arg[0]) || s->sby.promoted ||
                      s->sby.promoting,
                  "recovery ends inside a record, at %llu", ULL(arg[0]));
        if (arg[0] && !s->sby.promoted && !s->sby.promoting)
            naive_truncate(s, arg[0]);
        break;
    case HK_NOTE_JOURNAL_FAILED:
    case HK_NOTE_SUPER_FAILED:
    case HK_NOTE_REPLICA_FAILED:
        SIM_CHECK(s, "I11", s->st_eio || budget_explains_standby(s),
                  "notice %d without a fault of the disks", a->notify.id);
        s->sby.not_promotable = true;
        break;
    case HK_NOTE_JOURNAL_FULL: sim_struck(s, F_JOURNAL_FULL); break;
    case HK_NOTE_PINNED:
        sim_struck(s, F_PINNED);
        oper_pinned(s);
        SIM_CHECK(s, "I10", ref_is_consistent(s, arg[0]) || s->standby_suspect,
                  "pinned at %llu, in no consistent interval", ULL(arg[0]));
        break;
    case HK_NOTE_ROLLBACK: /* a promotion in a resync: and it may die of it */
        sim_struck(s, F_BACK_TO_PIN);
        s->sby.rolling = s->sby.rolled = true;
        if (s->faults_on && rng_below(&s->rng_fault, 2))
            s->sby.proc.kill_in = (uint32_t)rng_range(&s->rng_fault, 1, 30);
        break;
    case HK_NOTE_PIN_SPACE:
        sim_struck(s, F_PIN_FULL);
        s->sby.pin_full = true;
        break;
    case HK_NOTE_PIN_ROOM: s->sby.pin_full = false; break;
    case HK_NOTE_BAD_RECORD:
        /* Without a fault in it the journal could not be read back: it stops, as after damage. */
        SIM_CHECK(s, "I15",
                  s->memory_lied || budget_explains_standby(s) ||
                      (s->st_eio && arg[1] == HK_RECORD_OK),
                  "a bad record at LSN %llu (fault %llu) came out of good frames", ULL(arg[0]),
                  ULL(arg[1]));
        break;
    default: break;
    }
}

static void verb_done(struct sim *s, const struct hk_action *a)
{
    sim_trace(s, "verb done at standby, error %lld reason %llu",
              (uint64_t)(int64_t)a->verb_done.error, a->verb_done.reason, 0);
    if (a->verb_done.op_id == s->sby.stop_op && s->sby.stop_op) {
        s->sby.stop_op = 0;
        sby_kill(s);
        return;
    }
    if (a->verb_done.op_id == s->sby.failover_again && a->verb_done.error == 0)
        check_failover_said(s, a->verb_done.arg);
    if (a->verb_done.op_id == s->sby.failover_op) {
        s->sby.failover_op = 0;
        if (a->verb_done.error == 0)
            check_failover_said(s, a->verb_done.arg);
        else
            s->sby.failover_refused++;
    }
}

static void act(struct sim *s, const struct hk_action *a)
{
    switch (a->type) {
    case HK_ACT_SEND: act_send(s, a); break;
    case HK_ACT_CONTROL_OUT: act_control(s, &a->control); break;
    case HK_ACT_CONTROL_CLOSE: conn_close(s, 1); break;
    case HK_ACT_REPORT:
    case HK_ACT_INSERT:
    case HK_ACT_BIND_PEER:
    case HK_ACT_RETURN:
    case HK_ACT_STALE_ASK:
    case HK_ACT_BLOCK:
    case HK_ACT_HEAL:
    case HK_ACT_RESIZE:
    case HK_ACT_STALE_ALL:
    case HK_ACT_CHECK_COPY: sim_fail(s, "I16", "a standby has no capture side (%d)", a->type);
    case HK_ACT_HASH: resync_hash(s, 1, a); break;
    case HK_ACT_NOTIFY: notice(s, a); break;
    case HK_ACT_VERB_DONE: verb_done(s, a); break;
    case HK_ACT_FATAL: fatal(s, a); break;
    }
}

/* ---- driving it ---- */

static void sby_timer(struct sim *s, uint64_t a, void *p)
{
    struct hk_event e = {.type = HK_EV_TIMER};

    (void)p;
    if (clk_timer_is_due(&s->sby.proc, a))
        sby_event(s, &e);
}

static void set_timer(struct sim *s)
{
    uint64_t at = hk_group_deadline_ns(s->sby.g);

    if (at == UINT64_MAX)
        return;
    clk_set_timer(s, &s->sby.proc, clk_wake_at(s, 1, at), sby_timer);
}

static void room_again(struct sim *s, uint64_t a, void *p)
{
    s->sby.want_room = false;
    sby_pump(s, a, p);
}

/* A life before was killed while it wrote that: its successor finds it, and has nothing to say. */
static void look_if_promoted(struct sim *s)
{
    struct hk_now now = sim_clock(s, 1);

    if (!s->sby.promoting || s->sby.promoted)
        return;
    hk_group_status(s->sby.g, &now, &s->status);
    if (s->status.promoted)
        check_promoted(s, sby_durable(s)->promote_lsn, sby_durable(s)->loss_class);
}

void sby_pump(struct sim *s, uint64_t a, void *p)
{
    struct hk_now now = sim_clock(s, 1);
    uint32_t guard = 0, life = s->sby.proc.life;
    bool room = true;

    (void)a;
    (void)p;
    while (hk_group_next(s->sby.g, &now, (room = link_room(s, 1)), &s->sby.action)) {
        SIM_CHECK(s, "I16", ++guard < 20000, "the standby's group acts without end (type %d)",
                  s->sby.action.type);
        act(s, &s->sby.action);
        if (s->sby.proc.life != life)
            return;
        oper_maybe_die(s, &s->sby.proc);
        if (s->sby.proc.life != life)
            return;
    }
    look_if_promoted(s);
    if (!room && !s->sby.want_room) {
        s->sby.want_room = true;
        sim_at(s, s->dir[1].tx_free_at, &s->sby.proc, room_again, 0, NULL);
    }
    set_timer(s);
}

void sby_event(struct sim *s, const struct hk_event *e)
{
    struct hk_now now = sim_clock(s, 1);

    if (!s->sby.proc.up)
        return;
    hk_group_event(s->sby.g, e, &now);
    sby_pump(s, 0, NULL);
}

void sby_frame(struct sim *s, struct sim_frame *f)
{
    struct hk_event e = {0};

    if (!s->sby.proc.up)
        return;
    link_open(s, f, &e);
    sby_event(s, &e);
}

/* ---- life and death ---- */

void sim_group_cfg(struct sim *s, struct hk_group_cfg *c, unsigned site)
{
    c->group_id = s->group_id;
    c->site_id = s->site_id[site];
    c->host_id = s->host_id[site];
    c->config_hash = 4711;
    c->volume_count = SIM_VOLUMES;
    for (int v = 0; v < SIM_VOLUMES; v++) {
        c->volume_bytes[v] = (uint64_t)s->o.sectors * SIM_SECTOR;
        c->volume_max[v] = (uint64_t)s->o.room_sectors * SIM_SECTOR;
        snprintf(c->volume_name[v], HK_NAME_BYTES, "vol%d", v);
    }
    c->contact_timeout_ns = s->o.contact_ns;
    c->path_count = s->o.paths;
    for (uint32_t i = 0; i < s->o.paths; i++)
        c->frame_body_max[i] = s->body_max;
    c->rate_max_bytes_s = s->o.rate_max;
    c->seed = rng_next(&s->rng);
}

static void fill_cfg(struct sim *s, struct hk_group_cfg *c)
{
    memset(c, 0, sizeof(*c));
    sim_group_cfg(s, c, 1);
    c->role = HK_ROLE_STANDBY;
    c->disk = &s->sby.disk;
    c->window = s->sby.window;
    c->window_bytes = s->o.window_bytes;
    c->segment_bytes = s->o.segment_bytes;
    c->segment_count = s->o.segment_count;
    c->apply_bytes = s->o.apply_bytes;
    c->apply_lag_bytes_max = s->o.apply_lag_bytes;
    c->journal_retain_bytes = s->o.retain_bytes;
    c->snapshot_slots = s->o.snapshots;
    c->snapshot_bytes = s->o.snapshot_bytes;
}

void sby_start(struct sim *s, uint64_t a, void *p)
{
    struct hk_now now = sim_clock(s, 1);
    struct hk_event e = {.type = HK_EV_LINK};
    struct hk_group_cfg cfg;
    struct hk_arena arena;
    int rc;

    (void)a;
    (void)p;
    if (s->sby.proc.up || (s->sby.fatal && s->standby_suspect) || s->sby.deaths > 2)
        return;
    s->sby.proc.up = true;
    s->sby.proc.started_ns = s->now;
    s->sby.proc.timer_at = 0;
    s->sby.want_room = false;
    s->sby.failover_op = 0;
    s->sby.life_acked = 0;
    s->sby.rolling = false;
    s->sby.disk.submit = disk_submit;
    check_standby_starts(s);
    if (naive_super(&s->super, false, &s->pmd_super) && (s->pmd_super.flags & HK_SF_PROMOTING))
        s->sby.promoting = true;
    fill_cfg(s, &cfg);
    if (s->sby.memory_bytes == 0) {
        s->sby.memory_bytes = hk_group_bytes(&cfg);
        s->sby.memory = sim_pages(s, s->sby.memory_bytes);
    }
    arena = (struct hk_arena){s->sby.memory, s->sby.memory_bytes, 0};
    sim_trace(s, "stby starts", 0, 0, 0);
    rc = hk_group_init(&cfg, &arena, &now, &s->sby.g);
    SIM_CHECK(s, "I16", rc == 0, "standby group init: %d", rc);
    sby_pump(s, 0, NULL);
    for (uint32_t i = 0; i < s->o.paths; i++) {
        e.link.path = (uint8_t)i;
        e.link.up = true;
        e.link.frame_body_max = s->body_max;
        sby_event(s, &e);
    }
    oper_started(s, &s->sby.proc);
}

static void gone(struct sim *s, bool quietly)
{
    s->sby.proc.life++;
    s->sby.proc.up = false;
    s->sby.proc.kill_in = 0;
    s->sby.proc.paused_until = 0;
    resync_hashes_gone(s, 1);
    sim_io_abandon(s, &s->sby.proc);
    conn_died(s, 1, quietly);
    sim_pages_forget(s->sby.memory, s->sby.memory_bytes);
    s->st.crashes++;
}

static void restart_later(struct sim *s)
{
    sim_at(s, s->now + NS_MS + rng_around(&s->rng_fault, 300 * NS_MS), NULL, sby_start, 0, NULL);
}

void sby_kill(struct sim *s)
{
    if (!s->sby.proc.up)
        return;
    sim_trace(s, "kill standby", 0, 0, 0);
    /* Killed before it could say that a flush failed: its successor finds all of it in the cache,
     * and a flush that succeeds. */
    if (s->sby.doomed)
        stays_down(s);
    gone(s, false);
    restart_later(s);
}

void sby_power(struct sim *s)
{
    sim_trace(s, "powr standby loses power", 0, 0, 0);
    naive_power_cut_now(s, "power cut");
    if (s->sby.proc.up)
        gone(s, true);
    promoted_power(s);
    sim_power_cut(s, 1);
    s->sby.doomed = false; /* what is gone is seen to be gone */
    clk_reboot(s, 1, 1ull << 41);
    naive_look_again(s);
    restart_later(s);
}

void sby_setup(struct sim *s)
{
    struct hk_super *super = &s->cap.super_read;

    memset(&s->sby, 0, sizeof(s->sby));
    s->sby.proc.name = "standby";
    s->sby.proc.site = 1;
    s->sby.window = sim_pages_any(s, s->o.window_bytes);
    s->sby.said_durable = s->sby.said_applied = s->sby.said_acked = 0;
    sim_standby_super(s, super);
    hk_super_encode(super, s->super.cur + (super->sequence & 1) * HK_SUPER_BYTES);
    memcpy(s->super.dur, s->super.cur, s->super.bytes);
    memcpy(s->super.good, s->super.cur, s->super.bytes);
    for (unsigned v = 0; s->o.initial && v < SIM_VOLUMES; v++) {
        struct sim_file *f = &s->replica[v];

        for (unsigned i = 0; i < s->o.sectors; i++)
            memcpy(f->cur + (size_t)i * SIM_SECTOR,
                   pattern(v, i, (uint8_t)rng_below(&s->rng, SIM_VALUES)), SIM_SECTOR);
        memcpy(f->dur, f->cur, f->bytes);
        memcpy(f->good, f->cur, f->bytes);
    }
}
