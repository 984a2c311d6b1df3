/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever a crash leaves of all that a standby keeps (journal, superblocks, history, freeze
 * declarations, replica, and the new primary's metadata in a promotion), the next process recovers
 * by itself to what it had said: nothing reported durable is lost, the replica is a prefix of the
 * log, a frozen image stands or its end is declared, a promotion that was begun ends.
 *
 * Method: all sequences of up to three events. At each point between two completions of the disk,
 * what a cut may leave is laid out: all subsets where they are few, else none, all, each alone,
 * each missing, and draws. A new process starts there, runs until it rests, and is compared with
 * what the first had said and with the log, replayed naively. Then once more (idempotent), cut off
 * in its own recovery (nested), or given the rest of the log.
 */
#include "tests/crash/crash.h"
#include "tests/crash/node.h"

#include "replicator/store/journal.h" /* verdicts */

#include "proto/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * W write, O overlapping write, Z zeroes, F flush and plain mark, I mark of a freeze, U its end, M
 * mode, S all that is under way completes and is acknowledged, R a segment is filled (and another
 * recycled, once all of it is applied), E a new epoch after a lost ring, P promotion; in stories: K
 * power goes, nothing of what is not stable is kept, and the life goes on.
 */
static const char alphabet[] = "WOZFIUMSREP";

enum { SCRIPT_MAX = 8, DRAWS = 12 };

static struct {
    struct cdisk disk, img, cut;
    struct node live, next;
    struct store_log log;
    uint64_t sent;
    const char *script;
    unsigned at, point;
    bool ending;   /* the image's end is being stored */
    bool promoted; /* a promotion was asked for */
    uint64_t mode_end;
    uint64_t random;
} w;

static struct cdisk_choices choices;

/* --- The log, and what it means --- */

static void add(uint8_t type, uint64_t offset, uint32_t length, const void *payload, uint32_t bytes)
{
    struct store_log *l = &w.log;
    const struct hk_epoch *e = hk_history_last(&l->history);
    uint8_t *at = l->bytes + (l->end - l->base);
    struct hk_record r = {.lsn = l->end,
                          .time_ns = ++l->time_ns,
                          .offset = offset,
                          .length = length,
                          .payload_len = bytes,
                          .epoch = e->ordinal,
                          .type = type,
                          .magic = HK_RECORD_MAGIC,
                          .prev_bytes = l->prev_bytes};

    HK_ASSERT(l->end - l->base + HK_RECORD_BYTES_MAX <= l->bytes_max);
    memset(at, 0, hk_record_bytes(bytes));
    if (payload) {
        memcpy(at + sizeof(r), payload, bytes);
        r.payload_hash = hk_xxh64(payload, bytes, 0);
    }
    r.header_hash = hk_record_header_hash(&r, hk_epoch_seed(&e->id));
    memcpy(at, &r, sizeof(r));
    l->prev_bytes = hk_record_bytes(bytes);
    l->end += l->prev_bytes;
}

static void add_write(uint64_t offset, uint32_t length)
{
    static uint8_t data[4096], tag;

    tag = tag % 250 + 1;
    memset(data, tag, sizeof(data));
    add(HK_REC_WRITE, offset, length, data, length);
}

/* The volume after all records below `lsn`, replayed in the plainest way. */
static const uint8_t *prefix(uint64_t lsn)
{
    static uint8_t volume[NODE_VOLUME_BYTES];
    const struct hk_history *h = &w.log.history;
    uint64_t at = w.log.base;
    uint32_t epoch = 0;

    memset(volume, 0, sizeof(volume));
    while (at < lsn) {
        struct hk_record r;

        if (epoch + 1 < h->count && at >= h->epoch[epoch + 1].parent_end) {
            epoch++;
            at = h->epoch[epoch].first_lsn;
            continue;
        }
        if (at >= w.log.end)
            break;
        memcpy(&r, w.log.bytes + (at - w.log.base), sizeof(r));
        if (r.type == HK_REC_WRITE)
            memcpy(volume + r.offset, w.log.bytes + (at - w.log.base) + sizeof(r), r.length);
        if (r.type == HK_REC_ZEROES)
            memset(volume + r.offset, 0, r.length);
        at += hk_record_bytes(r.payload_len);
    }
    return volume;
}

static void check_volume(struct cdisk *d, uint64_t lsn, const char *when)
{
    const struct cdisk_file *f = cdisk_file(d, HK_FILE_VOLUME0);
    const uint8_t *want = prefix(lsn);

    for (uint32_t i = 0; i < NODE_VOLUME_BYTES; i += CDISK_SECTOR) {
        CRASH_CHECK(memcmp(f->cur + i, want + i, CDISK_SECTOR) == 0,
                    "%s: sector %u of the replica holds %u, the log says %u at LSN %llu", when,
                    i / CDISK_SECTOR, f->cur[i], want[i], ULL(lsn));
    }
}

/* --- The next process --- */

static void check_freeze(const struct hk_group_status *st)
{
    const struct node_said *before = &w.live.said, *now = &w.next.said;

    if (st->frozen) {
        CRASH_CHECK(st->freeze_lsn.v != before->ended_lsn, "an image that has ended stands again");
        check_volume(w.next.disk, st->freeze_lsn.v, "frozen");
        return;
    }
    if (before->frozen_lsn == 0 || w.ending || before->promoting || w.promoted)
        return;
    /* For doubt an earlier one may have ended it, and was cut off before it could say so. */
    CRASH_CHECK(now->in_doubt || (st->super.flags & HK_SF_IN_DOUBT),
                "a frozen image is gone, and nobody said so");
}

/*
 * Behind the gap of a lost ring nothing is a consistent state: a promotion goes back to where the
 * epoch before it ended, unless nothing of the new epoch came.
 */
static uint64_t last_consistent(void)
{
    return w.log.history.count > 1 ? w.log.history.epoch[1].parent_end : UINT64_MAX;
}

static void check_promotion(const struct hk_group_status *st, uint64_t reported)
{
    uint64_t back = last_consistent(), at = st->super.promote_lsn;
    struct hk_super md;
    static uint8_t slots[2 * HK_SUPER_BYTES] __attribute__((aligned(4096)));

    CRASH_CHECK(at >= hk_min_u64(reported, back), "promoted at %llu, reported %llu", ULL(at),
                ULL(reported));
    CRASH_CHECK(at <= back || at == w.log.history.epoch[1].first_lsn,
                "promoted at %llu, nothing is consistent behind %llu", ULL(at), ULL(back));
    check_volume(w.next.disk, st->super.promote_lsn, "promoted");
    memcpy(slots, cdisk_file(w.next.disk, HK_FILE_PRIMARY_MD)->dur, sizeof(slots));
    CRASH_CHECK(hk_super_pick(slots, slots + HK_SUPER_BYTES, &md, NULL) == 0,
                "promoted without a primary's superblock");
    CRASH_CHECK(md.role == HK_ROLE_PRIMARY && (md.flags & HK_SF_FULL_COMPARE) &&
                    hk_history_last(&md.history)->first_lsn >= st->super.promote_lsn &&
                    hk_history_compare(&md.history, &st->super.history, &(uint32_t){0}) ==
                        HK_KIN_EQUAL,
                "the new primary's superblock is not of this promotion");
}

/* It has come to rest: is it what was said? */
static void judge(void)
{
    static struct hk_group_status st;
    uint64_t reported = w.live.said.reported;

    CRASH_CHECK(!w.next.fatal, "a crash alone, and it stops with %d", w.next.fatal);
    node_status(&w.next, &st);
    CRASH_CHECK(st.super.history.count >= w.live.said.ordinal ||
                    ((st.super.flags & (HK_SF_PROMOTING | HK_SF_PROMOTED)) &&
                     st.super.promote_lsn == last_consistent()),
                "an epoch is forgotten");
    if (st.promoted) {
        check_promotion(&st, reported);
        return;
    }
    CRASH_CHECK(st.ready, "it does not become ready");
    CRASH_CHECK(!w.live.said.promoting, "a promotion that was begun is forgotten");
    CRASH_CHECK(st.mark.durable.v >= reported, "reported %llu, recovered %llu", ULL(reported),
                ULL(st.mark.durable.v));
    check_freeze(&st);
    if (st.frozen)
        return;
    CRASH_CHECK(w.mode_end == 0 || w.mode_end > reported || st.super.mode_lsn >= w.mode_end,
                "the mode at %llu was reported, and is forgotten", ULL(w.mode_end));
    check_volume(w.next.disk, st.mark.durable.v, "redone");
}

/* The rest of the log comes: it is taken, and the replica ends where the log does. */
static void go_on(void)
{
    static struct hk_group_status st;

    node_status(&w.next, &st);
    if (st.promoted)
        return;
    if (st.frozen)
        node_verb(&w.next, HK_VERB_FREEZE_END, st.freeze_name);
    node_settle(&w.next);
    if (st.super.history.count > w.log.history.count)
        return;
    node_greet(&w.next, &w.log, w.live.said.reported);
    node_settle(&w.next);
    CRASH_CHECK(w.next.session, "after a crash alone the primary is refused: %u", w.next.refused);
    node_status(&w.next, &st);
    node_deliver(&w.next, &w.log, st.mark.durable.v, w.log.end);
    for (int i = 0; i < 4; i++) {
        node_settle(&w.next);
        node_status(&w.next, &st);
        if (st.frozen)
            node_verb(&w.next, HK_VERB_FREEZE_END, st.freeze_name);
    }
    CRASH_CHECK(!w.next.fatal && st.mark.durable.v == w.log.end, "%llu of %llu were taken",
                ULL(st.mark.durable.v), ULL(w.log.end));
    check_volume(w.next.disk, w.log.end, "at the end");
}

/* What it came to, so that a second time can be compared. */
static uint64_t fingerprint(void)
{
    static struct hk_group_status st;

    node_status(&w.next, &st);
    if (st.promoted)
        return ~st.super.promote_lsn;
    return st.mark.durable.v ^ st.super.applied << 1 ^ (uint64_t)st.frozen << 62 ^
           st.freeze_lsn.v << 20;
}

static void recover_and_judge(void)
{
    node_boot(&w.next);
    node_settle(&w.next);
    judge();
}

static void again(void)
{
    uint64_t before = fingerprint();

    recover_and_judge();
    CRASH_CHECK(fingerprint() == before, "a second recovery comes to another end");
}

/* --- Crash states --- */

/* So many states are tried one by one. */
static uint64_t few(void)
{
    return crash_full() ? 512 : 32;
}

static void pick_state(uint64_t n, uint64_t states, uint8_t *pick)
{
    for (uint32_t i = 0; i < choices.count; i++) {
        uint32_t versions = choices.choice[i].version_count;

        if (states <= few()) {
            pick[i] = (uint8_t)(n % (versions + 1));
            n /= versions + 1;
        } else if (n < 2) {
            pick[i] = n ? (uint8_t)versions : 0;
        } else if (n < 2 + 2ull * choices.count) {
            bool alone = n % 2;

            pick[i] = (i == (n - 2) / 2) == alone ? (uint8_t)versions : 0;
        } else {
            pick[i] = (uint8_t)(crash_random(&w.random) % (versions + 1));
        }
    }
}

static uint64_t state_count(uint64_t states)
{
    return states <= few() ? states : 2 + 2ull * choices.count + DRAWS;
}

static void say(uint64_t n, uint64_t how)
{
    crash_case(w.script, w.at, w.point, n);
    crash_case_more(choices.count, how);
}

/* Every so many of all cases in this mode. */
static bool turn(uint64_t every)
{
    return crash_cases() % every == 0;
}

/* Crashes in the recovery from this state: after `ops` of its operations, all or some is kept. */
static void nested(const uint8_t *pick, uint64_t n, unsigned depth)
{
    static struct cdisk_choices here;
    uint64_t ops, states;

    if (!here.data)
        cdisk_choices_init(&here);
    for (ops = 0;; ops++) {
        cdisk_reset(&w.img);
        cdisk_lay_picks(&w.img, &choices, pick);
        for (unsigned d = 0; d < depth; d++) {
            uint64_t k = d == 0 ? ops : crash_random(&w.random) % 40;

            node_boot(&w.next);
            for (; k > 0 && node_step(&w.next); k--)
                ;
            if (d == 0 && k > 0)
                return;
            CRASH_CHECK(!w.next.fatal, "a recovery fails on what a crash left: %d", w.next.fatal);
            cdisk_collect(&w.img, &here);
            states = cdisk_states(&here);
            cdisk_cut(&w.img, &here,
                      ops % 3 == 0   ? states - 1
                      : ops % 3 == 1 ? 0
                                     : crash_random(&w.random) % states);
        }
        say(n, 1000 * depth + ops);
        recover_and_judge();
    }
}

static bool nesting, failing, damaging;

static bool on_snapshot(uint32_t file)
{
    return file >= HK_FILE_SNAPSHOT0 && file < HK_FILE_SEGMENT0;
}

/*
 * Each operation of the next process fails, once and for ever, until it rests. Storage that fails
 * ends it or makes it not promotable; it never claims less than was reported, and the process after
 * that, on a disk that is well again, finds everything.
 */
static void fail_each(const uint8_t *pick, uint64_t n)
{
    static struct hk_group_status st;

    for (uint64_t at = 1;; at++) {
        uint64_t done = 0;

        for (unsigned forever = 0; forever < 2; forever++) {
            cdisk_reset(&w.img);
            cdisk_lay_picks(&w.img, &choices, pick);
            node_boot(&w.next);
            w.img.fail_at = at;
            w.img.fail_forever = forever;
            say(n, 2 * at + forever);
            node_settle(&w.next);
            done = w.img.done_count;
            node_status(&w.next, &st);
            /* A snapshot that can't be read is broken, and no reason to stop. */
            if (done >= at && !on_snapshot(w.img.failed_file))
                CRASH_CHECK(w.next.fatal || (st.super.flags & HK_SF_NOT_PROMOTABLE),
                            "operation %llu failed, and all is well", ULL(at));
            w.img.fail_at = 0;
            w.img.fail_forever = false;
            /* A replica that failed stays out until a person looks at it. */
            if (st.super.flags & HK_SF_NOT_PROMOTABLE) {
                CRASH_CHECK(w.next.fatal || st.mark.durable.v >= w.live.said.reported,
                            "the replica failed, and the log is lost as well");
                continue;
            }
            recover_and_judge();
        }
        if (done < at)
            return;
    }
}

/*
 * Is a superblock on its way that ends the image (for room, say)? Then its end may be durable
 * before it is said.
 */
static bool end_under_way(void)
{
    for (uint32_t i = 0; i < w.disk.pending_count; i++) {
        const struct hk_diskop *op = w.disk.pending[i];

        if (op->file == HK_FILE_SUPER && op->kind == HK_DISK_WRITE_DSYNC &&
            !(((const struct hk_super *)op->iov[0].base)->flags & HK_SF_FROZEN))
            return true;
    }
    return false;
}

static void look(void)
{
    static uint8_t pick[CDISK_CHOICES];
    uint64_t states;

    w.point++;
    if (damaging)
        return;
    cdisk_collect(&w.disk, &choices);
    states = cdisk_states(&choices);
    cdisk_follow(&w.img, &w.disk, false);
    w.ending = end_under_way();
    for (uint64_t n = 0; n < state_count(states); n++) {
        pick_state(n, states, pick);
        if (nesting || failing) {
            if (n < 2 && nesting)
                nested(pick, n, 1 + (unsigned)(w.point % 3));
            if (n < 2 && failing)
                fail_each(pick, n);
            cdisk_reset(&w.img);
            continue;
        }
        say(n, 0);
        cdisk_lay_picks(&w.img, &choices, pick);
        recover_and_judge();
        if (turn(5))
            again();
        else if (turn(7))
            go_on();
        cdisk_reset(&w.img);
    }
    if (w.live.said.frozen_lsn)
        check_volume(&w.disk, w.live.said.frozen_lsn, "while it is frozen");
}

/* --- Damage --- */

/*
 * Something rotted. It may stop; but if it goes on, what it shows is the log, what it lacks is said
 * to be in doubt, and nothing is a promise that was not kept knowingly.
 */
static void judge_damaged(bool super, bool both)
{
    static struct hk_group_status st;
    const struct node_said *now = &w.next.said;

    if (w.next.fatal)
        return;
    node_status(&w.next, &st);
    if (st.promoted) {
        check_volume(w.next.disk, st.super.promote_lsn, "promoted, and damaged");
        return;
    }
    CRASH_CHECK(st.ready, "it neither stops nor becomes ready");
    /*
     * Without the newest superblock and without the end of the journal nobody can know that the
     * replica was further, and redo may stop short of it. Both doubts are said; that is all.
     */
    if (!both)
        check_volume(w.next.disk, st.frozen ? st.freeze_lsn.v : st.mark.durable.v, "damaged");
    CRASH_CHECK(!super || (st.super.flags & HK_SF_IN_DOUBT), "a lost superblock is no matter");
    CRASH_CHECK(both || st.mark.durable.v >= w.live.said.reported ||
                    now->verdict == HK_JOURNAL_TORN,
                "reported %llu, recovered %llu, and the verdict is %u", ULL(w.live.said.reported),
                ULL(st.mark.durable.v), now->verdict);
    CRASH_CHECK(st.loss_class != HK_LOSS_ZERO_PROVEN || (!super && now->verdict == 0),
                "0, proven: of damaged facts");
}

static bool is_blank(const uint8_t *sector)
{
    static const uint8_t blank[CDISK_SECTOR];

    return memcmp(sector, blank, CDISK_SECTOR) == 0;
}

/* One byte, and unless `slot` is 2 that slot of the superblock as well: then older facts count. */
static void damage(uint32_t file, uint64_t at, unsigned slot)
{
    crash_case(w.script, w.at, file, at);
    crash_case_more(slot, 0);
    cdisk_flip(&w.img, file, at, 0x20);
    if (slot < 2)
        cdisk_flip(&w.img, HK_FILE_SUPER, slot * HK_SUPER_BYTES + 100, 0x20);
    node_boot(&w.next);
    node_settle(&w.next);
    judge_damaged(file == HK_FILE_SUPER || slot < 2, slot < 2);
    cdisk_reset(&w.img);
}

/* One byte of each sector that holds anything, in everything but the replica itself. */
static void damage_each(void)
{
    static const uint32_t files[] = {HK_FILE_SUPER, HK_FILE_PRIMARY_MD, HK_FILE_SEGMENT0,
                                     HK_FILE_SEGMENT0 + 1};
    uint64_t turn = 0;

    for (size_t i = 0; i < HK_ARRAY_SIZE(files); i++) {
        struct cdisk_file *f = cdisk_file(&w.img, files[i]);
        uint64_t used = f->used;

        for (uint64_t at = 0; at < used; at += CDISK_SECTOR) {
            if (is_blank(f->cur + at))
                continue;
            damage(files[i], at + turn++ * 37 % CDISK_SECTOR, 2);
            for (unsigned slot = 0; i > 0 && slot < 2 && turn % crash_stride(3) == 0; slot++)
                damage(files[i], at + turn % CDISK_SECTOR, slot);
        }
    }
}

/* --- The script --- */

static void settle(void)
{
    do {
        look();
    } while (node_step(&w.live));
    CRASH_CHECK(!w.live.fatal, "it stops with %d", w.live.fatal);
}

static void deliver(void)
{
    node_deliver(&w.live, &w.log, w.sent, w.log.end);
    w.sent = w.log.end;
}

static void new_epoch(void)
{
    struct hk_group_status st;

    settle();
    node_status(&w.live, &st);
    if (w.promoted || w.log.history.count > 2)
        return;
    store_log_epoch(&w.log, st.mark.durable.v, hk_round_up(w.log.end, 1 << 16));
    node_greet(&w.live, &w.log, st.mark.durable.v);
    settle();
    CRASH_CHECK(w.live.session, "a new epoch is refused: %u", w.live.refused);
    w.live.said.ordinal = w.log.history.count;
    w.sent = hk_history_last(&w.log.history)->first_lsn;
    deliver();
}

static void fill_segment(void)
{
    static uint8_t data[HK_PAYLOAD_BYTES_MAX];

    memset(data, 0x77, 512);
    add(HK_REC_VOID, 0, HK_PAYLOAD_BYTES_MAX, data, HK_PAYLOAD_BYTES_MAX);
    deliver();
}

static void restart(void)
{
    static const struct cdisk_choices nothing;
    struct node_said before = w.live.said;
    static struct hk_group_status st;

    cdisk_cut(&w.disk, &nothing, 0);
    node_boot(&w.live);
    w.live.said = before;
    settle();
    node_status(&w.live, &st);
    if (st.promoted)
        return;
    node_greet(&w.live, &w.log, before.reported);
    settle();
    CRASH_CHECK(w.live.session, "after a crash alone the primary is refused: %u", w.live.refused);
    node_status(&w.live, &st);
    w.sent = st.mark.durable.v;
    deliver();
}

static void event(char e)
{
    struct hk_mark mark = {.op_id = 1, .kind = HK_MARK_FREEZE, .name = "night"};
    struct hk_mode_change mode = {HK_MODE_SYNC, HK_LINK_LOSS_BLOCK, 1000000000};

    switch (e) {
    case 'W': add_write(0, 1024); break;
    case 'O': add_write(512, 1024); break;
    case 'Z': add(HK_REC_ZEROES, 1024, 1024, NULL, 0); break;
    case 'F':
        add(HK_REC_FLUSH, 0, 0, NULL, 0);
        mark.kind = HK_MARK_PLAIN;
        add(HK_REC_MARK, 0, 0, &mark, sizeof(mark));
        break;
    case 'I': add(HK_REC_MARK, 0, 0, &mark, sizeof(mark)); break;
    case 'M':
        add(HK_REC_MODE, 0, 0, &mode, sizeof(mode));
        w.mode_end = w.log.end;
        break;
    case 'U': node_verb(&w.live, HK_VERB_FREEZE_END, "night"); return;
    case 'S': settle(); return;
    case 'R': fill_segment(); return;
    case 'E': new_epoch(); return;
    case 'K': restart(); return;
    case 'P':
        w.promoted = true;
        node_verb(&w.live, HK_VERB_FAILOVER, NULL);
        return;
    }
    deliver();
}

static void run(const char *script)
{
    static struct hk_group_status st;

    cdisk_reset(&w.img);
    cdisk_follow(&w.img, &w.disk, true);
    cdisk_reset(&w.disk);
    store_log_free(&w.log);
    store_log_init(&w.log, 31, 8 << 20, 4096);
    w.script = script;
    w.at = w.point = 0;
    w.ending = w.promoted = false;
    w.mode_end = 0;
    w.random = 9;
    node_boot(&w.live);
    node_settle(&w.live);
    node_greet(&w.live, &w.log, 0);
    settle();
    CRASH_CHECK(w.live.session, "the first session is refused: %u", w.live.refused);
    w.live.said.ordinal = 1;
    w.sent = w.log.base;
    for (; script[w.at]; w.at++)
        event(script[w.at]);
    settle();
    node_status(&w.live, &st);
    if (!st.promoted && !st.frozen)
        check_volume(&w.disk, st.mark.durable.v, "at rest");
    if (damaging) {
        cdisk_follow(&w.img, &w.disk, false);
        damage_each();
    }
}

static void all_scripts(unsigned length, uint64_t stride)
{
    char script[SCRIPT_MAX] = {0};
    unsigned at[SCRIPT_MAX] = {0};
    uint64_t n = 0;

    for (;;) {
        unsigned i;

        for (i = 0; i < length; i++)
            script[i] = alphabet[at[i]];
        if (n++ % stride == 0) {
            w.disk.last_first = n % 2;
            run(script);
        }
        for (i = 0; i < length && ++at[i] == sizeof(alphabet) - 1; i++)
            at[i] = 0;
        if (i == length)
            return;
    }
}

/* Longer ones, where three events are not enough. */
static void stories(void)
{
    static const char *const story[] = {
        "WSISOSWSUS", "ISWUS",    "IWUOS",    "WIWSUOS",   "WSRSRSRS", "WRROS",  "ISRRWS",
        "MSWSMSP",    "WSISWP",   "WSEOSEWS", "WOZFSZWOS", "MESWSP",   "IEUSWS", "RSRWSEP",
        "WMOIZS",     "ZSISISUS", "WP",       "WOP",       "WSRRRS",   "RRRRS",  "IWSKUS",
        "WIWSKUOS",   "WSKOKZ",   "MSWKP",    "WEKWSKP",   "IRRRS",    "IWRRRS", "IIWSUSUS",
    };

    for (size_t i = 0; i < HK_ARRAY_SIZE(story); i++) {
        w.disk.last_first = i % 2;
        run(story[i]);
        if (crash_full()) {
            w.disk.last_first = !w.disk.last_first;
            run(story[i]);
        }
    }
}

int main(int argc, char **argv)
{
    crash_arguments(argc, argv);
    cdisk_choices_init(&choices);
    cdisk_init(&w.disk);
    w.disk.cached = true;
    node_format(&w.disk);
    cdisk_copy(&w.img, &w.disk);
    cdisk_mark(&w.disk);
    cdisk_mark(&w.img);
    node_init(&w.live, &w.disk);
    node_init(&w.next, &w.img);
    if (crash_wanted("group_scripts")) {
        crash_begin("group_scripts");
        all_scripts(1, 1);
        all_scripts(2, crash_stride(11));
        all_scripts(3, crash_stride(331));
        crash_end();
    }
    if (crash_wanted("group_stories")) {
        crash_begin("group_stories");
        stories();
        crash_end();
    }
    if (crash_wanted("group_nested")) {
        nesting = true;
        crash_begin("group_nested");
        all_scripts(1, crash_stride(3));
        all_scripts(2, crash_stride(37));
        crash_end();
        nesting = false;
    }
    if (crash_wanted("group_failing_io")) {
        failing = true;
        crash_begin("group_failing_io");
        all_scripts(1, crash_stride(4));
        all_scripts(2, crash_full() ? 5 : 61);
        crash_end();
        failing = false;
    }
    if (crash_wanted("group_damage")) {
        damaging = true;
        crash_begin("group_damage");
        all_scripts(1, 1);
        all_scripts(2, crash_stride(5));
        stories();
        if (crash_full())
            all_scripts(3, 1);
        crash_end();
    }
    cdisk_free(&w.disk);
    cdisk_free(&w.img);
    node_free(&w.live);
    node_free(&w.next);
    store_log_free(&w.log);
    cdisk_choices_free(&choices);
    return crash_finish();
}
