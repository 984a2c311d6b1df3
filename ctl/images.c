/* SPDX-License-Identifier: Apache-2.0 */
/* hikae freeze, images, restore: an image is the replica standing exactly at a mark. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "ctl/ctl.h"

enum { PIECE_BYTES = 4 << 20 };

static uint64_t age_s(uint64_t time_ns)
{
    time_t now = time(NULL);

    return (uint64_t)now > time_ns / 1000000000u ? (uint64_t)now - time_ns / 1000000000u : 0;
}

int hk_verb_freeze(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    unsigned long seconds;
    Hk__Pb__Request r;
    char t[48], *end;
    int exit_code;

    hk_request_fill(o, o->end ? "freeze-end" : "freeze", &r);
    r.name = o->argv[0];
    if (o->or_pin) {
        seconds = strtoul(o->or_pin, &end, 10);
        if (o->end || end == o->or_pin || *end || seconds > 60)
            return hk_complain(HK_EXIT_FAILED,
                               "HKE1030E --or-pin: expected 0 to 60 seconds, and no --end");
        r.or_pin = true;
        r.wait_ns = seconds * 1000000000u;
    }
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (hk_print_plan(o, reply)) {
        hk_rpc_free(&reply->base);
        return HK_EXIT_DONE;
    }
    if (o->json)
        hk_print_json(json_pack(
            "{s:i, s:s, s:s, s:I, s:I, s:I}", "schema", 1, "name", o->argv[0], "state",
            o->end       ? "ended"
            : reply->pin ? "pin"
                         : "marked",
            "mark_lsn", (json_int_t)reply->mark_lsn, "mark_end", (json_int_t)reply->mark_end,
            "mark_time_ns", (json_int_t)reply->mark_time_ns));
    else if (o->end)
        printf("image %s is released; the standby applies again\n", o->argv[0]);
    else if (reply->pin)
        printf("image %s: the resync has not ended, so this is its pin, at LSN %#" PRIx64
               "\n  the state of %s: %" PRIu64 " s old\n",
               o->argv[0], reply->mark_lsn, hk_time_text(reply->mark_time_ns, true, t),
               age_s(reply->mark_time_ns));
    else
        printf("image %s: mark at LSN %#" PRIx64 ", taken %s\n", o->argv[0], reply->mark_lsn,
               reply->mark_time_ns ? hk_time_text(reply->mark_time_ns, true, t) : "now");
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}

static void print_image(const Hk__Pb__Image *image)
{
    char t[48], b[24];
    size_t i;

    printf("%-24s %-8s %#14" PRIx64 "  %s ", image->name, image->state, image->lsn,
           hk_time_text(image->time_ns, true, t));
    for (i = 0; i < image->n_volume; i++)
        printf(" %s (%s)", image->volume[i]->name, hk_bytes_text(image->volume[i]->bytes, b));
    putchar('\n');
}

static json_t *image_json(const Hk__Pb__Image *image)
{
    json_t *volumes = json_array();
    size_t i;

    for (i = 0; i < image->n_volume; i++)
        json_array_append_new(volumes, json_pack("{s:s, s:I}", "name", image->volume[i]->name,
                                                 "bytes", (json_int_t)image->volume[i]->bytes));
    return json_pack("{s:s, s:s, s:I, s:i, s:I, s:o}", "name", image->name, "state", image->state,
                     "lsn", (json_int_t)image->lsn, "epoch", (int)image->epoch, "time_ns",
                     (json_int_t)image->time_ns, "volumes", volumes);
}

int hk_verb_images(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;
    json_t *list;
    size_t i;

    hk_request_fill(o, "images", &r);
    if (o->argc)
        r.group = o->argv[0];
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (o->json) {
        list = json_array();
        for (i = 0; i < reply->n_image; i++)
            json_array_append_new(list, image_json(reply->image[i]));
        hk_print_json(json_pack("{s:i, s:o}", "schema", 1, "images", list));
    } else {
        if (reply->n_image)
            printf("IMAGE                    STATE               LSN  TAKEN\n");
        else
            printf("no image stands; `hikae freeze NAME` makes one\n");
        for (i = 0; i < reply->n_image; i++)
            print_image(reply->image[i]);
    }
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}

/* ---- restore ---- */

struct restore {
    const struct hk_options *o;
    int from, to;
    struct hk_pin_image *pin; /* NULL: the replica is the image */
    uint64_t bytes, done, zero_bytes;
    uint64_t mark_end;
    XXH3_state_t *hash;
    uint8_t *buffer;
    struct timespec begun;
    int last_percent;
};

static double elapsed_s(const struct restore *s)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - s->begun.tv_sec) + (double)(now.tv_nsec - s->begun.tv_nsec) / 1e9;
}

static void progress(struct restore *s)
{
    int percent = (int)(s->done * 100 / s->bytes);
    double t = elapsed_s(s);

    if (s->o->json || percent / 5 == s->last_percent / 5)
        return;
    s->last_percent = percent;
    fprintf(stderr, "  %3d %%  %.0f MB/s  about %.0f s left\n", percent,
            t > 0 ? (double)s->done / t / 1e6 : 0,
            s->done ? t * (double)(s->bytes - s->done) / (double)s->done : 0);
}

/* After the read: is it still the same image? Only then what was read counts. */
static int still_stands(struct restore *s)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;

    hk_request_fill(s->o, "image-check", &r);
    r.name = s->o->argv[0];
    exit_code = hk_ask(s->o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (reply->mark_end != s->mark_end)
        exit_code = hk_complain(HK_EXIT_REFUSED,
                                "HKE5011E image %s is another one now (it was ended and frozen "
                                "anew); begin again",
                                s->o->argv[0]);
    hk_rpc_free(&reply->base);
    return exit_code;
}

static bool all_zero(const uint8_t *p, size_t bytes)
{
    return p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}

static int copy_piece(struct restore *s)
{
    size_t want = (size_t)hk_min_u64(PIECE_BYTES, s->bytes - s->done);
    ssize_t n = pread(s->from, s->buffer, want, (off_t)s->done);
    int exit_code;

    if (n != (ssize_t)want)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE5017E reading the image failed at byte %" PRIu64 ": %s", s->done,
                           n < 0 ? strerror(errno) : "it ends too early");
    exit_code = s->pin ? hk_pin_image_read(s->pin, s->done, want, s->buffer) : 0;
    if (!exit_code)
        exit_code = still_stands(s);
    if (exit_code)
        return hk_complain(
            exit_code, "HKE5005E restore of %s aborted at byte %" PRIu64 "; nothing is left of it",
            s->o->argv[0], s->done);
    XXH3_128bits_update(s->hash, s->buffer, want);
    if (all_zero(s->buffer, want))
        s->zero_bytes += want;
    else if (pwrite(s->to, s->buffer, want, (off_t)s->done) != (ssize_t)want)
        return hk_complain(HK_EXIT_FAILED, "HKE5016E %s: writing failed at byte %" PRIu64 ": %s",
                           s->o->to, s->done, strerror(errno));
    s->done += want;
    progress(s);
    return 0;
}

static int copy_all(struct restore *s)
{
    XXH128_canonical_t canonical;
    char hash[33], b[24];
    int exit_code = 0;
    size_t i;

    XXH3_128bits_reset(s->hash);
    while (!exit_code && s->done < s->bytes)
        exit_code = copy_piece(s);
    if (exit_code)
        return exit_code;
    if (ftruncate(s->to, (off_t)s->bytes) || fsync(s->to))
        return hk_complain(HK_EXIT_FAILED, "HKE5016E %s: %s", s->o->to, strerror(errno));
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(s->hash));
    for (i = 0; i < sizeof(canonical.digest); i++)
        snprintf(hash + 2 * i, 3, "%02x", canonical.digest[i]);
    if (s->o->json)
        hk_print_json(json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:s}", "schema", 1, "name",
                                s->o->argv[0], "volume", s->o->volume, "file", s->o->to, "bytes",
                                (json_int_t)s->bytes, "zero_bytes", (json_int_t)s->zero_bytes,
                                "mark_end", (json_int_t)s->mark_end, "xxh3_128", hash));
    else
        printf("restored %s of image %s to %s: %s in %.1f s\n  xxh3-128 %s\n  mark ends at LSN "
               "%#" PRIx64 "\n",
               s->o->volume, s->o->argv[0], s->o->to, hk_bytes_text(s->bytes, b), elapsed_s(s),
               hash, s->mark_end);
    return HK_EXIT_DONE;
}

static int restore_open(struct restore *s)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    int exit_code;
    bool pin;

    hk_request_fill(s->o, "image-open", &r);
    r.name = s->o->argv[0];
    exit_code = hk_ask(s->o, &r, &reply, &s->from);
    if (exit_code)
        return exit_code;
    s->bytes = reply->volume_bytes;
    s->mark_end = reply->mark_end;
    pin = reply->pin;
    hk_rpc_free(&reply->base);
    exit_code = pin ? hk_pin_image_open(s->o, &s->pin) : 0;
    if (exit_code)
        return exit_code;
    if (s->from < 0 || !s->bytes)
        return hk_complain(HK_EXIT_FAILED, "HKE5017E the daemon gave no descriptor of the image");
    s->to = open(s->o->to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (s->to < 0)
        return hk_complain(HK_EXIT_FAILED, "HKE5016E %s can't be created: %s", s->o->to,
                           strerror(errno));
    return 0;
}

int hk_verb_restore(const struct hk_options *o)
{
    struct restore s = {.o = o, .from = -1, .to = -1, .last_percent = -5};
    int exit_code;

    if (!o->volume || !o->to)
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1032E expected `hikae restore NAME --volume VOLUME --to FILE`");
    clock_gettime(CLOCK_MONOTONIC, &s.begun);
    s.hash = XXH3_createState();
    s.buffer = aligned_alloc(4096, PIECE_BYTES);
    exit_code = s.hash && s.buffer ? restore_open(&s)
                                   : hk_complain(HK_EXIT_FAILED, "HKE8002E out of memory");
    if (!exit_code)
        exit_code = copy_all(&s);
    if (exit_code && s.to >= 0)
        unlink(o->to); /* half an image must not be taken for one */
    if (s.from >= 0)
        close(s.from);
    if (s.to >= 0)
        close(s.to);
    hk_pin_image_close(s.pin);
    free(s.buffer);
    XXH3_freeState(s.hash);
    return exit_code;
}
