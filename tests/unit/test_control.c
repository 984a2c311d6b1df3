/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control messages: every kind survives encode and decode; truncated, oversized and damaged ones
 * are refused; a hostile one can't take more memory than the cap. The queue and the event log too.
 */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replicator/daemon/events.h"
#include "replicator/daemon/queue.h"
#include "replicator/daemon/rpc/rpc.h"

static uint64_t seed = 11;
static uint8_t wire[HK_RPC_LENGTH_BYTES + HK_CONTROL_MESSAGE_MAX];

static void fill_history(struct hk_history *h, uint32_t n)
{
    struct hk_uuid id;
    uint32_t i;

    memset(h, 0, sizeof(*h));
    for (i = 0; i < n; i++) {
        unit_random_bytes(&seed, &id, sizeof(id));
        assert_int_equal(
            hk_history_append(h, &id, HK_LSN_FIRST + i * HK_CEILING_STEP_BYTES,
                              i ? HK_LSN_FIRST + (i - 1) * HK_CEILING_STEP_BYTES + 64 : 0,
                              i ? HK_EPOCH_PROMOTE : HK_EPOCH_CREATE, i + 1),
            0);
    }
}

static void fill(struct hk_ctl *c, enum hk_ctl_type type, uint32_t epochs)
{
    memset(c, 0, sizeof(*c));
    c->type = type;
    switch (type) {
    case HK_CTL_HELLO:
        unit_random_bytes(&seed, &c->hello, offsetof(struct hk_hello, volume_count));
        c->hello.volume_count = HK_VOLUMES_MAX;
        unit_random_bytes(&seed, c->hello.volume_bytes, sizeof(c->hello.volume_bytes));
        unit_random_bytes(&seed, &c->hello.ring_id, sizeof(c->hello.ring_id));
        c->hello.ring_first_lsn = UINT64_MAX - 63;
        c->hello.stale_bytes = UINT64_MAX - 1;
        c->hello.all_stale = c->hello.closed = c->hello.map = true;
        fill_history(&c->hello.history, epochs);
        if (epochs)
            c->hello.epoch = *hk_history_last(&c->hello.history);
        break;
    case HK_CTL_WELCOME:
        unit_random_bytes(&seed, &c->welcome, offsetof(struct hk_welcome, super_flags));
        c->welcome.session = epochs == 16 ? 0 : c->welcome.session | 1;
        c->welcome.gap = epochs == 16 ? HK_REFUSE_AHEAD : 0;
        unit_random_bytes(&seed, c->welcome.compare_key, sizeof(c->welcome.compare_key));
        fill_history(&c->welcome.history, epochs);
        break;
    case HK_CTL_REFUSED:
        c->refused.reason = HK_REFUSE_AHEAD;
        c->refused.detail[0] = UINT64_MAX;
        break;
    case HK_CTL_FREEZE:
        c->freeze.op_id = 77;
        memset(c->freeze.name, 'n', HK_NAME_BYTES - 1);
        break;
    case HK_CTL_FREEZE_REPLY:
        c->freeze_reply.error = -EBUSY;
        c->freeze_reply.lsn = 4096;
        break;
    case HK_CTL_NOTICE:
        c->notice.id = 3;
        c->notice.arg[3] = 9;
        break;
    case HK_CTL_BYE: c->bye.reason = HK_REFUSE_PROMOTED; break;
    case HK_CTL_HASH_ASK:
        c->hash_ask = (struct hk_hash_ask){.request = 7, .pass = UINT32_MAX, .after = 1 << 20};
        c->hash_ask.volume = HK_VOLUMES_MAX - 1;
        c->hash_ask.offset = UINT64_MAX - 65535;
        c->hash_ask.bytes = HK_COMPARE_BLOCKS_MAX * HK_COMPARE_BLOCK_BYTES;
        break;
    case HK_CTL_HASHES:
        c->hashes.request = UINT64_MAX;
        c->hashes.error = epochs == 0 ? -EIO : 0;
        c->hashes.count = epochs / 4;
        unit_random_bytes(&seed, c->hashes.hash, epochs / 4 * HK_COMPARE_HASH_BYTES);
        break;
    case HK_CTL_RESIZED:
    case HK_CTL_RESIZE:
        c->resize.error = type == HK_CTL_RESIZED ? -ENOSPC : 0;
        c->resize.volume = HK_VOLUMES_MAX - 1;
        c->resize.bytes = 1ull << 50;
        break;
    }
}

static void every_message_survives(void **state)
{
    static struct hk_ctl in, out;
    int type, n;
    uint32_t epochs;

    for (type = HK_CTL_HELLO; type <= HK_CTL_RESIZED; type++)
        for (epochs = 0; epochs <= HK_HISTORY_EPOCHS_MAX; epochs += 16) {
            fill(&in, (enum hk_ctl_type)type, epochs);
            n = hk_rpc_ctl_encode(&in, wire, sizeof(wire));
            assert_true(n > HK_RPC_LENGTH_BYTES);
            memset(&out, 0xa5, sizeof(out));
            assert_int_equal(hk_rpc_ctl_decode(wire + 4, (size_t)n - 4, &out), HK_RPC_OK);
            assert_int_equal(out.type, in.type);
            switch (in.type) {
            case HK_CTL_HELLO: assert_memory_equal(&out.hello, &in.hello, sizeof(in.hello)); break;
            case HK_CTL_WELCOME:
                assert_memory_equal(&out.welcome, &in.welcome, sizeof(in.welcome));
                break;
            case HK_CTL_REFUSED:
                assert_memory_equal(&out.refused, &in.refused, sizeof(in.refused));
                break;
            case HK_CTL_FREEZE:
                assert_memory_equal(&out.freeze, &in.freeze, sizeof(in.freeze));
                break;
            case HK_CTL_FREEZE_REPLY:
                assert_memory_equal(&out.freeze_reply, &in.freeze_reply, sizeof(in.freeze_reply));
                break;
            case HK_CTL_NOTICE:
                assert_memory_equal(&out.notice, &in.notice, sizeof(in.notice));
                break;
            case HK_CTL_BYE: assert_int_equal(out.bye.reason, in.bye.reason); break;
            case HK_CTL_HASH_ASK:
                assert_memory_equal(&out.hash_ask, &in.hash_ask, sizeof(in.hash_ask));
                break;
            case HK_CTL_HASHES:
                assert_memory_equal(&out.hashes, &in.hashes, sizeof(in.hashes));
                break;
            case HK_CTL_RESIZE:
            case HK_CTL_RESIZED:
                assert_memory_equal(&out.resize, &in.resize, sizeof(in.resize));
                break;
            }
        }
}

/* No prefix of a HELLO is a HELLO: each misses a field or ends in the middle of one. */
static void truncated_ones_are_refused(void **state)
{
    static struct hk_ctl in, out;
    int n, i;

    fill(&in, HK_CTL_HELLO, 3);
    n = hk_rpc_ctl_encode(&in, wire, sizeof(wire)) - HK_RPC_LENGTH_BYTES;
    for (i = 0; i < n; i++)
        assert_int_equal(hk_rpc_ctl_decode(wire + 4, (size_t)i, &out), HK_RPC_MALFORMED);
}

/* Damaged bytes are refused or read as another sound message; never more, never a crash. */
static void damaged_ones_do_no_harm(void **state)
{
    static struct hk_ctl in, out;
    int n, i, refused = 0;

    fill(&in, HK_CTL_WELCOME, 5);
    n = hk_rpc_ctl_encode(&in, wire, sizeof(wire)) - HK_RPC_LENGTH_BYTES;
    for (i = 0; i < 20000; i++) {
        size_t at = unit_random(&seed) % (size_t)n;
        uint8_t was = wire[4 + at];

        wire[4 + at] ^= (uint8_t)(1u << unit_random(&seed) % 8);
        refused += hk_rpc_ctl_decode(wire + 4, (size_t)n, &out) != HK_RPC_OK;
        wire[4 + at] = was;
    }
    assert_true(refused > 1000);
}

static void impossible_values_are_refused(void **state)
{
    static struct hk_ctl in, out;
    int n;

    fill(&in, HK_CTL_REFUSED, 0);
    in.refused.reason = HK_REFUSALS;
    n = hk_rpc_ctl_encode(&in, wire, sizeof(wire));
    assert_int_equal(hk_rpc_ctl_decode(wire + 4, (size_t)n - 4, &out), HK_RPC_MALFORMED);
    fill(&in, HK_CTL_WELCOME, 1);
    in.welcome.session = 0;
    n = hk_rpc_ctl_encode(&in, wire, sizeof(wire));
    assert_int_equal(hk_rpc_ctl_decode(wire + 4, (size_t)n - 4, &out), HK_RPC_MALFORMED);
    fill(&in, HK_CTL_HELLO, 2);
    in.hello.history.epoch[1].ordinal = 1; /* the chain is broken */
    n = hk_rpc_ctl_encode(&in, wire, sizeof(wire));
    assert_int_equal(hk_rpc_ctl_decode(wire + 4, (size_t)n - 4, &out), HK_RPC_MALFORMED);
    assert_int_equal(hk_rpc_ctl_encode(&in, wire, 100), -ENOSPC);
}

/* A stream is cut into messages whatever the pieces it comes in. */
static void the_stream_is_cut(void **state)
{
    static struct hk_rpc_in in;
    static struct hk_ctl ctl;
    const uint8_t *body;
    size_t bytes, room;
    uint32_t huge = HK_CONTROL_MESSAGE_MAX + 1;
    int n, i, whole = 0;

    fill(&ctl, HK_CTL_BYE, 0);
    n = hk_rpc_ctl_encode(&ctl, wire, sizeof(wire));
    memset(&in, 0, sizeof(in));
    for (i = 0; i < 3 * n; i++) {
        *hk_rpc_space(&in, &room) = wire[i % n];
        assert_true(room > 0);
        in.bytes++;
        while (hk_rpc_peek(&in, &body, &bytes) == HK_RPC_OK) {
            assert_int_equal(bytes, n - 4);
            hk_rpc_drop(&in);
            whole++;
        }
    }
    assert_int_equal(whole, 3);
    assert_int_equal(in.bytes, 0);
    memcpy(in.buffer, &huge, 4);
    in.bytes = 4;
    assert_int_equal(hk_rpc_peek(&in, &body, &bytes), HK_RPC_OVERSIZED);
}

/* 60,000 empty sub-messages in 64 KiB would take megabytes: the cap refuses. */
static void memory_is_capped(void **state)
{
    static uint8_t bomb[HK_CONTROL_MESSAGE_MAX];
    size_t i;

    for (i = 0; i + 1 < sizeof(bomb); i += 2) {
        bomb[i] = 5 << 3 | 2; /* Reply.event, length-delimited */
        bomb[i + 1] = 0;
    }
    assert_null(hk_rpc_reply_unpack(bomb, sizeof(bomb)));
}

static void the_queue_keeps_order(void **state)
{
    struct hk_queue q;
    uint64_t *item, put = 0, taken = 0;
    int i;

    assert_int_equal(hk_queue_init(&q, 3, 8), -EINVAL);
    assert_int_equal(hk_queue_init(&q, 4, sizeof(uint64_t)), 0);
    assert_null(hk_queue_peek(&q));
    for (i = 0; i < 1000; i++) {
        if (unit_random(&seed) & 1) {
            item = hk_queue_space(&q);
            assert_int_equal(item == NULL, put - taken == 4);
            assert_int_equal(hk_queue_room(&q), 4 - (put - taken));
            if (item) {
                *item = put++;
                hk_queue_put(&q);
            }
        } else {
            item = hk_queue_peek(&q);
            assert_int_equal(item == NULL, put == taken);
            if (item) {
                assert_true(*item == taken++);
                hk_queue_take(&q);
            }
        }
    }
    hk_queue_fini(&q);
}

/* Numbers go on after a restart; a torn last line is cut off and leaves no hole. */
static void events_are_numbered_without_holes(void **state)
{
    char dir[] = "/tmp/hk-events-XXXXXX", path[64];
    struct hk_event_entry e = {.id = "HKE1021I", .text = "quote \" and newline \n", .op_id = 5};
    struct hk_events *events;
    FILE *f;
    int i;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/events.log", dir);
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    for (i = 0; i < HK_EVENTS_KEPT + 10; i++)
        hk_events_add(events, &e);
    assert_true(hk_events_next(events) == HK_EVENTS_KEPT + 11);
    /* Also those that memory has forgotten. */
    assert_true(hk_events_oldest(events) == 1);
    assert_null(hk_events_get(events, 0));
    assert_true(hk_events_get(events, 10)->number == 10);
    assert_string_equal(hk_events_get(events, 1)->text, e.text);
    assert_true(hk_events_get(events, 11)->number == 11);
    assert_null(hk_events_get(events, HK_EVENTS_KEPT + 11));
    hk_events_close(events);
    f = fopen(path, "a");
    assert_non_null(f);
    fputs("{\"number\": 99999, \"te", f);
    fclose(f);
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    assert_true(hk_events_next(events) == HK_EVENTS_KEPT + 11);
    assert_string_equal(hk_events_get(events, 500)->text, e.text);
    assert_true(hk_events_get(events, 500)->op_id == 5);
    hk_events_add(events, &e);
    hk_events_close(events);
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    assert_true(hk_events_next(events) == HK_EVENTS_KEPT + 12);
    hk_events_close(events);
    /* A line damaged in the middle costs that line, neither those behind it nor its number. */
    f = fopen(path, "r+");
    assert_non_null(f);
    fputs("xxxx", f);
    fclose(f);
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    assert_true(hk_events_next(events) == HK_EVENTS_KEPT + 12);
    assert_null(hk_events_get(events, 1));
    assert_true(hk_events_get(events, 2)->number == 2);
    hk_events_close(events);
    unlink(path);
    rmdir(dir);
}

enum { ROTATE_BYTES = 4000, ROTATE_FILES = 3 };

static void remove_dir(const char *dir)
{
    DIR *d = opendir(dir);

    for (struct dirent *x; d && (x = readdir(d));)
        if (x->d_name[0] != '.')
            unlinkat(dirfd(d), x->d_name, 0);
    if (d)
        closedir(d);
    rmdir(dir);
}

static uint32_t files_in(const char *dir)
{
    DIR *d = opendir(dir);
    uint32_t n = 0;

    assert_non_null(d);
    for (struct dirent *x; (x = readdir(d));)
        n += !strncmp(x->d_name, "events.log", 10);
    closedir(d);
    return n;
}

/* All that is kept is there, in order, each once, with its own text. */
static void check_events(struct hk_events *events, uint64_t oldest_at_most, uint64_t next)
{
    char text[32];

    assert_true(hk_events_next(events) == next);
    assert_true(hk_events_oldest(events) <= oldest_at_most);
    for (uint64_t n = hk_events_oldest(events); n < next; n++) {
        const struct hk_event_entry *e = hk_events_get(events, n);

        snprintf(text, sizeof(text), "event %llu", (unsigned long long)n);
        assert_non_null(e);
        assert_true(e->number == n);
        assert_string_equal(e->text, text);
    }
}

static void add_events(struct hk_events *events, unsigned count)
{
    struct hk_event_entry e = {.id = "HKE1025I"};

    while (count-- > 0) {
        snprintf(e.text, sizeof(e.text), "event %llu", (unsigned long long)hk_events_next(events));
        hk_events_add(events, &e);
    }
}

static struct hk_events *open_small(const char *dir)
{
    struct hk_events *events;

    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    hk_events_bounds(events, ROTATE_BYTES, ROTATE_FILES);
    return events;
}

/* More than memory holds goes through several files; the past is bounded, and read in order. */
static void events_rotate(void **state)
{
    char dir[] = "/tmp/hk-events-XXXXXX", path[128];
    struct hk_events *events;
    uint64_t next, oldest;
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/events.log", dir);
    events = open_small(dir);
    add_events(events, 40);
    check_events(events, 1, 41);
    assert_true(hk_events_oldest(events) == 1);
    assert_true(files_in(dir) > 1 && files_in(dir) <= ROTATE_FILES + 1);
    add_events(events, HK_EVENTS_KEPT + 500);
    next = HK_EVENTS_KEPT + 541;
    assert_int_equal(files_in(dir), ROTATE_FILES + 1);
    oldest = hk_events_oldest(events);
    assert_true(oldest > 1 && oldest < next);
    assert_null(hk_events_get(events, 1));
    check_events(events, next, next);
    /* Another life: the same events, from the files alone. */
    hk_events_close(events);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < ROTATE_BYTES + 1024);
    events = open_small(dir);
    assert_true(hk_events_oldest(events) == oldest);
    check_events(events, oldest, next);
    hk_events_close(events);
    events = open_small(dir);
    add_events(events, 40);
    check_events(events, next, next + 40);
    hk_events_close(events);
    remove_dir(dir);
}

/* The moment between the two steps of a rotation, made by hand. */
static void events_survive_a_cut_rotation(void **state)
{
    char dir[] = "/tmp/hk-events-XXXXXX", path[128], rotated[128];
    struct hk_events *events;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/events.log", dir);
    snprintf(rotated, sizeof(rotated), "%s/events.log.%020d", dir, 1);
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    add_events(events, 10);
    hk_events_close(events);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    check_events(events, 1, 11);
    hk_events_close(events);
    /* Its number is not given again although the new file is empty. */
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    add_events(events, 5);
    check_events(events, 1, 16);
    hk_events_close(events);
    assert_int_equal(hk_events_open(dir, "core", &events), 0);
    check_events(events, 1, 16);
    assert_true(hk_events_oldest(events) == 1);
    hk_events_close(events);
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives),
        cmocka_unit_test(truncated_ones_are_refused),
        cmocka_unit_test(damaged_ones_do_no_harm),
        cmocka_unit_test(impossible_values_are_refused),
        cmocka_unit_test(the_stream_is_cut),
        cmocka_unit_test(memory_is_capped),
        cmocka_unit_test(the_queue_keeps_order),
        cmocka_unit_test(events_are_numbered_without_holes),
        cmocka_unit_test(events_rotate),
        cmocka_unit_test(events_survive_a_cut_rotation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
