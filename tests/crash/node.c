/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/node.h"

#include "proto/frame.h"
#include "replicator/group/private.h" /* where its large buffers are */
#include "tests/crash/crash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { APPLY_BYTES = 2 << 20, OPS_MAX = 5000, ACTIONS_MAX = 10000 };
#define T (1000000000ull)

static const struct hk_uuid group_id = {{9}}, primary_id = {{1}}, standby_id = {{2}};

static void configure(const struct node *n, struct hk_group_cfg *c)
{
    *c = (struct hk_group_cfg){.role = HK_ROLE_STANDBY,
                               .group_id = group_id,
                               .site_id = {{12}},
                               .host_id = {{12}},
                               .config_hash = 42,
                               .volume_count = 1,
                               .volume_bytes = {NODE_VOLUME_BYTES},
                               .volume_name = {"a"},
                               .contact_timeout_ns = T,
                               .path_count = 1,
                               .frame_body_max = {HK_FRAME_BODY_MAX},
                               .seed = 7,
                               .disk = &n->disk->disk,
                               .window = n->window,
                               .window_bytes = NODE_WINDOW_BYTES,
                               .segment_bytes = hk_round_up(HK_RECORD_BYTES_MAX, 4096) + 3 * 4096,
                               .segment_count = NODE_SEGMENTS,
                               .apply_bytes = APPLY_BYTES,
                               .apply_lag_bytes_max = 64 << 20,
                               .snapshot_slots = 1};
}

void node_init(struct node *n, struct cdisk *disk)
{
    struct hk_group_cfg c;

    memset(n, 0, sizeof(*n));
    n->disk = disk;
    n->window = aligned_alloc(HK_PAGE_BYTES, NODE_WINDOW_BYTES);
    HK_ASSERT(n->window);
    memset(n->window, 0xee, NODE_WINDOW_BYTES);
    configure(n, &c);
    n->memory_bytes = hk_round_up(hk_group_bytes(&c), HK_PAGE_BYTES);
    n->memory =
        mmap(NULL, n->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HK_ASSERT(n->memory != MAP_FAILED);
    n->now = (struct hk_now){.mono_ns = 5 * T, .real_ns = 1700000000 * T};
}

void node_free(struct node *n)
{
    munmap(n->memory, n->memory_bytes);
    free(n->window);
}

void node_format(struct cdisk *disk)
{
    static uint8_t slot[HK_SUPER_BYTES] __attribute__((aligned(4096)));
    static struct hk_super s;
    struct node nobody = {.disk = disk};
    struct hk_group_cfg c;

    configure(&nobody, &c);
    cdisk_add(disk, HK_FILE_SUPER, 2 * HK_SUPER_BYTES);
    cdisk_add(disk, HK_FILE_PRIMARY_MD, 2 * HK_SUPER_BYTES);
    cdisk_add(disk, HK_FILE_VOLUME0, NODE_VOLUME_BYTES);
    cdisk_add(disk, HK_FILE_SNAPSHOT0, 2 * HK_PAGE_BYTES);
    cdisk_add(disk, HK_FILE_SNAPSHOT0 + 1, NODE_VOLUME_BYTES);
    for (uint32_t i = 0; i < NODE_SEGMENTS; i++)
        cdisk_add(disk, HK_FILE_SEGMENT0 + i, c.segment_bytes);
    s.role = HK_ROLE_STANDBY;
    s.group_id = group_id;
    s.replica_id = standby_id;
    s.flags = HK_SF_ASSUMED_EQUAL;
    s.sequence = 1;
    strcpy(s.group_name, "core");
    s.volume_count = 1;
    s.volume[0].name[0] = 'a';
    s.volume[0].bytes = NODE_VOLUME_BYTES;
    hk_super_encode(&s, slot);
    cdisk_poke(disk, HK_FILE_SUPER, HK_SUPER_BYTES, slot, sizeof(slot));
}

/* --- What it says --- */

static void heard(struct node *n, const struct hk_action *a)
{
    struct node_said *s = &n->said;

    switch (a->notify.id) {
    case HK_NOTE_FROZEN: s->frozen_lsn = a->notify.arg[0]; break;
    case HK_NOTE_FREEZE_ENDED:
        s->ended_lsn = s->frozen_lsn;
        s->frozen_lsn = 0;
        s->in_doubt |= a->notify.arg[0] == HK_FREEZE_IN_DOUBT;
        break;
    case HK_NOTE_RECOVERED: s->verdict = (uint32_t)a->notify.arg[1]; break;
    case HK_NOTE_PROMOTION_STARTED: s->promoting = true; break;
    case HK_NOTE_PROMOTED: s->promoted = true; break;
    default: break;
    }
}

static void pull(struct node *n)
{
    static struct hk_action a;

    for (int i = 0; hk_group_next(n->g, &n->now, true, &a); i++) {
        CRASH_CHECK(i < ACTIONS_MAX, "actions without end");
        switch (a.type) {
        case HK_ACT_SEND:
            if (a.send.header.type == HK_FRAME_ACK) {
                struct hk_ack ack;

                memcpy(&ack, a.send.body, sizeof(ack));
                n->said.reported = hk_max_u64(n->said.reported, ack.durable);
            }
            break;
        case HK_ACT_CONTROL_OUT:
            if (a.control.type == HK_CTL_WELCOME)
                n->session = a.control.welcome.session;
            if (a.control.type == HK_CTL_REFUSED)
                n->refused = a.control.refused.reason;
            break;
        case HK_ACT_NOTIFY: heard(n, &a); break;
        case HK_ACT_FATAL: n->fatal = a.fatal.error ? a.fatal.error : -EIO; break;
        case HK_ACT_CONTROL_CLOSE:
        case HK_ACT_REPORT:
        case HK_ACT_INSERT:
        case HK_ACT_BIND_PEER:
        case HK_ACT_CHECK_COPY:
        case HK_ACT_RETURN:
        case HK_ACT_STALE_ASK:
        case HK_ACT_HASH:
        case HK_ACT_BLOCK:
        case HK_ACT_HEAL:
        case HK_ACT_RESIZE:
        case HK_ACT_STALE_ALL:
        case HK_ACT_VERB_DONE: break;
        }
    }
}

static void event(struct node *n, const struct hk_event *e)
{
    hk_group_event(n->g, e, &n->now);
    pull(n);
}

/* --- Its life --- */

/* Memory as a new process gets it, but for what is only read where it was written before. */
static void wipe(struct node *n)
{
    uint8_t *at = n->memory, *end = n->memory + n->memory_bytes;

    if (!n->g)
        return;
    /* In the order in which they were carved out. */
    for (size_t i = 0; i < HK_ARRAY_SIZE(n->large); i++) {
        HK_ASSERT(n->large[i].base >= at);
        memset(at, 0, (size_t)(n->large[i].base - at));
        at = n->large[i].base + n->large[i].bytes;
    }
    memset(at, 0, (size_t)(end - at));
}

static void note_large(struct node *n)
{
    const struct hk_standby *s = n->g->standby;
    uint8_t *apply = s->apply.memory;

    n->large[0] =
        (struct node_large){(uint8_t *)n->g->action, HK_GROUP_ACTIONS * sizeof(*n->g->action)};
    n->large[1] = (struct node_large){s->receiver.scratch, HK_PAYLOAD_BYTES_MAX};
    n->large[2] = (struct node_large){s->journal.scan, HK_JOURNAL_READ_BYTES};
    n->large[3] = (struct node_large){s->snapshots.op[0].buffer,
                                      (HK_SNAPSHOT_DEPTH + 1) * HK_SNAPSHOT_RUN_BYTES};
    /* The applier's: payloads, bounce pages, extents, to the end. */
    n->large[4] = (struct node_large){apply, n->memory_bytes - (size_t)(apply - n->memory)};
}

void node_boot(struct node *n)
{
    struct hk_arena arena = {.base = n->memory, .bytes = n->memory_bytes};
    struct hk_group_cfg c;

    wipe(n);
    memset(&n->said, 0, sizeof(n->said));
    n->session = n->refused = 0;
    n->packet = 0;
    n->fatal = 0;
    n->ops = 0;
    n->disk->pending_count = 0;
    configure(n, &c);
    HK_ASSERT(hk_group_init(&c, &arena, &n->now, &n->g) == 0);
    note_large(n);
    pull(n);
}

bool node_step(struct node *n)
{
    struct hk_event e = {.type = HK_EV_DISK_DONE};

    CRASH_CHECK(n->ops < OPS_MAX, "it does not come to rest");
    e.disk = cdisk_step(n->disk);
    if (!e.disk) {
        if (n->fatal || hk_group_deadline_ns(n->g) > n->now.mono_ns)
            return false;
        e.type = HK_EV_TIMER;
    }
    n->ops++;
    event(n, &e);
    return true;
}

void node_settle(struct node *n)
{
    while (node_step(n))
        ;
}

void node_greet(struct node *n, const struct store_log *log, uint64_t known_durable)
{
    static struct hk_ctl c;
    struct hk_hello *h = &c.hello;
    struct hk_event up = {.type = HK_EV_CONTROL_UP}, in = {.type = HK_EV_CONTROL_IN};
    struct hk_event down = {.type = HK_EV_CONTROL_DOWN};

    memset(&c, 0, sizeof(c));
    c.type = HK_CTL_HELLO;
    *h = (struct hk_hello){.version_min = HK_CTL_VERSION_MIN,
                           .version_max = HK_CTL_VERSION_MAX,
                           .group_id = group_id,
                           .site_id = {{11}},
                           .host_id = {{11}},
                           .replica_id = primary_id,
                           .config_hash = 42,
                           .lease = n->now.mono_ns,
                           .durable = known_durable,
                           .acked = known_durable,
                           .produced = log->end,
                           .ceiling = 1ull << 34,
                           .mode = HK_MODE_SYNC,
                           .on_link_loss = HK_LINK_LOSS_BLOCK,
                           .contact_timeout_ns = T,
                           .volume_count = 1,
                           .volume_bytes = {NODE_VOLUME_BYTES},
                           .epoch = *hk_history_last(&log->history),
                           .history = log->history};
    n->now.mono_ns += 1000;
    n->now.real_ns += 1000;
    n->session = 0;
    n->packet = 0;
    event(n, &down);
    event(n, &up);
    in.control = &c;
    event(n, &in);
}

void node_deliver(struct node *n, const struct store_log *log, uint64_t from, uint64_t to)
{
    struct hk_event e = {.type = HK_EV_FRAME_IN};

    while (from < to && n->session != 0) {
        uint64_t bytes = hk_min_u64(to - from, HK_FRAME_BODY_MAX);

        e.frame.header = (struct hk_frame){.version = 1,
                                           .type = HK_FRAME_DATA,
                                           .session = n->session,
                                           .packet_number = ++n->packet,
                                           .lsn = from,
                                           .span = (uint32_t)bytes,
                                           .body_len = (uint16_t)bytes};
        e.frame.body = log->bytes + (from - log->base);
        event(n, &e);
        from += bytes;
    }
}

void node_verb(struct node *n, enum hk_verb_kind kind, const char *name)
{
    struct hk_event e = {.type = HK_EV_VERB};

    e.verb.kind = kind;
    e.verb.op_id = 5;
    e.verb.new_epoch = (struct hk_uuid){{0xef}};
    if (name)
        strncpy(e.verb.name, name, sizeof(e.verb.name) - 1);
    event(n, &e);
}

void node_status(struct node *n, struct hk_group_status *ret)
{
    hk_group_status(n->g, &n->now, ret);
}
