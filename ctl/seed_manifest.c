/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of a seed: comes from a medium, so nothing in it is believed. */
#include "ctl/seed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "proto/hash.h"
#include "proto/record.h"

enum { WORDS_MAX = 4, PIECE_LINE_MIN = sizeof("0 0 zero\n") - 1 };
enum { PIECE_BYTES_MIN = 4096 };
#define PIECE_BYTES_MAX (1ull << 30)

/* ---- geometry ---- */

int hk_seed_count(struct hk_seed *s)
{
    uint64_t n = 0;

    if (s->piece_bytes < PIECE_BYTES_MIN || s->piece_bytes > PIECE_BYTES_MAX ||
        (s->piece_bytes & (s->piece_bytes - 1)))
        return -EINVAL;
    for (uint32_t i = 0; i < s->volume_count; i++) {
        s->volume[i].first_piece = n;
        n += s->volume[i].bytes / s->piece_bytes + (s->volume[i].bytes % s->piece_bytes != 0);
    }
    s->pieces = n;
    return n ? 0 : -EINVAL;
}

uint32_t hk_seed_volume_of(const struct hk_seed *s, uint64_t piece)
{
    uint32_t v = 0;

    HK_ASSERT(piece < s->pieces);
    while (v + 1 < s->volume_count && piece >= s->volume[v + 1].first_piece)
        v++;
    return v;
}

uint64_t hk_seed_piece_offset(const struct hk_seed *s, uint64_t piece)
{
    return (piece - s->volume[hk_seed_volume_of(s, piece)].first_piece) * s->piece_bytes;
}

uint64_t hk_seed_piece_bytes(const struct hk_seed *s, uint64_t piece)
{
    uint64_t bytes = s->volume[hk_seed_volume_of(s, piece)].bytes;

    return hk_min_u64(s->piece_bytes, bytes - hk_seed_piece_offset(s, piece));
}

void hk_seed_piece_of(const void *data, size_t bytes, struct hk_seed_piece *ret)
{
    const uint8_t *p = data;
    struct hk_hash128 h;

    memset(ret, 0, sizeof(*ret));
    ret->zero = p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
    if (ret->zero)
        return;
    h = hk_xxh3_128(data, bytes);
    for (int i = 0; i < 8; i++) {
        ret->hash[i] = (uint8_t)(h.hi >> (56 - 8 * i));
        ret->hash[8 + i] = (uint8_t)(h.lo >> (56 - 8 * i));
    }
}

bool hk_seed_piece_equal(const struct hk_seed_piece *a, const struct hk_seed_piece *b)
{
    return a->zero == b->zero && memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

/* ---- writing ---- */

static const char *hex(const uint8_t hash[16], char ret[HK_SEED_HEX])
{
    for (int i = 0; i < 16; i++)
        snprintf(ret + 2 * i, 3, "%02x", hash[i]);
    return ret;
}

void hk_seed_print_head(const struct hk_seed *s, FILE *f)
{
    char id[HK_UUID_TEXT];

    hk_uuid_format(&s->group_id, id);
    fprintf(f, "hikae-seed 1\ngroup %s %s\n", id, s->group_name);
    hk_uuid_format(&s->replica_id, id);
    fprintf(f, "primary %s\n", id);
    hk_uuid_format(&s->epoch.id, id);
    fprintf(f, "epoch %s %" PRIu64 " %" PRIu64 "\n", id, s->epoch.first_lsn, s->epoch.time_ns);
    fprintf(f, "begin %" PRIu64 " %" PRIu64 "\n", s->begin_lsn, s->begin_ns);
    fprintf(f, "pieces %" PRIu64 "\n", s->piece_bytes);
    for (uint32_t i = 0; i < s->volume_count; i++)
        fprintf(f, "volume %s %" PRIu64 "\n", s->volume[i].name, s->volume[i].bytes);
}

void hk_seed_print_piece(const struct hk_seed *s, uint64_t piece, FILE *f)
{
    uint32_t v = hk_seed_volume_of(s, piece);
    char text[HK_SEED_HEX];

    fprintf(f, "%u %" PRIu64 " %s\n", v, piece - s->volume[v].first_piece,
            s->piece[piece].zero ? "zero" : hex(s->piece[piece].hash, text));
}

void hk_seed_print_tail(const struct hk_seed *s, FILE *f)
{
    fprintf(f, "end %" PRIu64 " %" PRIu64 "\n", s->end_lsn, s->end_ns);
}

void hk_seed_print_hash(const void *text, size_t bytes, FILE *f)
{
    struct hk_hash128 h = hk_xxh3_128(text, bytes);

    fprintf(f, "hash %016" PRIx64 "%016" PRIx64 "\n", h.hi, h.lo);
}

/* ---- reading ---- */

struct reader {
    const char *text, *end, *at;
    uint32_t line;
    char *word[WORDS_MAX]; /* into copy */
    unsigned words;
    char copy[256];
    struct hk_seed_fault *fault;
};

static int wrong(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int wrong(struct reader *r, const char *fmt, ...)
{
    va_list ap;

    r->fault->line = r->line;
    va_start(ap, fmt);
    vsnprintf(r->fault->text, sizeof(r->fault->text), fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* The next line in words, parted by single blanks. 0; -ENODATA: there is no whole line any more. */
static int next_line(struct reader *r)
{
    const char *stop = r->at < r->end ? memchr(r->at, '\n', (size_t)(r->end - r->at)) : NULL;
    size_t n;

    r->line++;
    if (!stop)
        return -ENODATA;
    n = (size_t)(stop - r->at);
    if (n == 0 || n >= sizeof(r->copy) || memchr(r->at, 0, n))
        return wrong(r, "is empty, too long, or no text");
    memcpy(r->copy, r->at, n);
    r->copy[n] = 0;
    r->at = stop + 1;
    r->words = 0;
    for (char *p = r->copy; p;) {
        char *blank = strchr(p, ' ');

        if (r->words == WORDS_MAX || *p == ' ' || *p == 0)
            return wrong(r, "has too many words or blanks");
        r->word[r->words++] = p;
        if (blank)
            *blank++ = 0;
        p = blank;
    }
    return 0;
}

/* A line that begins with this word and has so many behind it. */
static int expect(struct reader *r, const char *name, unsigned words)
{
    int rc = next_line(r);

    if (rc == -ENODATA)
        return wrong(r, "ends where \"%s\" is expected: the manifest is cut off", name);
    if (rc)
        return rc;
    if (strcmp(r->word[0], name) || r->words != words + 1)
        return wrong(r, "is not \"%s\" with %u words", name, words);
    return 0;
}

static bool number(const char *word, uint64_t *ret)
{
    uint64_t n = 0;

    if (!*word || (word[0] == '0' && word[1]))
        return false;
    for (; *word; word++) {
        unsigned digit = (unsigned)(*word - '0');

        if (*word < '0' || *word > '9' || n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *ret = n;
    return true;
}

static bool uuid(const char *word, struct hk_uuid *ret)
{
    char again[HK_UUID_TEXT];

    if (hk_uuid_parse(word, ret) || hk_uuid_is_nil(ret))
        return false;
    hk_uuid_format(ret, again);
    return strcmp(word, again) == 0;
}

static bool name(const char *word, char ret[HK_NAME_BYTES])
{
    size_t n = strlen(word);

    memset(ret, 0, HK_NAME_BYTES);
    if (n >= HK_NAME_BYTES)
        return false;
    memcpy(ret, word, n);
    return hk_mark_name_ok(ret);
}

static bool hash_word(const char *word, uint8_t ret[16])
{
    for (int i = 0; i < 32; i++) {
        char c = word[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (v < 0)
            return false;
        ret[i / 2] = (uint8_t)(i % 2 ? ret[i / 2] | v : v << 4);
    }
    return word[32] == 0;
}

static int read_position(struct reader *r, const char *what, uint64_t *lsn, uint64_t *time_ns)
{
    int rc = expect(r, what, 2);

    if (rc)
        return rc;
    if (!number(r->word[1], lsn) || !number(r->word[2], time_ns))
        return wrong(r, "has no position and time");
    return 0;
}

static int read_epoch(struct reader *r, struct hk_seed *s)
{
    struct hk_history h = {0};
    struct hk_uuid id;
    uint64_t lsn, time_ns;
    int rc = expect(r, "epoch", 3);

    if (rc)
        return rc;
    if (!uuid(r->word[1], &id) || !number(r->word[2], &lsn) || !number(r->word[3], &time_ns) ||
        hk_history_append(&h, &id, lsn, 0, HK_EPOCH_CREATE, time_ns))
        return wrong(r, "names no epoch that could be a group's first");
    s->epoch = h.epoch[0];
    return 0;
}

static int read_head(struct reader *r, struct hk_seed *s)
{
    uint64_t version;
    int rc = expect(r, "hikae-seed", 1);

    if (rc)
        return rc;
    if (!number(r->word[1], &version) || version != 1)
        return wrong(r, "is of version %.20s; this release reads 1", r->word[1]);
    rc = expect(r, "group", 2);
    if (rc)
        return rc;
    if (!uuid(r->word[1], &s->group_id) || !name(r->word[2], s->group_name))
        return wrong(r, "names no group");
    rc = expect(r, "primary", 1);
    if (rc)
        return rc;
    if (!uuid(r->word[1], &s->replica_id))
        return wrong(r, "names no replica");
    rc = read_epoch(r, s);
    if (!rc)
        rc = read_position(r, "begin", &s->begin_lsn, &s->begin_ns);
    if (!rc && s->begin_lsn < s->epoch.first_lsn)
        rc = wrong(r, "lies before the epoch");
    if (!rc)
        rc = expect(r, "pieces", 1);
    if (!rc && !number(r->word[1], &s->piece_bytes))
        rc = wrong(r, "has no size");
    return rc;
}

static int read_volume(struct reader *r, struct hk_seed *s)
{
    uint64_t bytes;
    char text[HK_NAME_BYTES];

    if (s->volume_count == HK_VOLUMES_MAX || r->words != 3 || !name(r->word[1], text) ||
        !number(r->word[2], &bytes) || bytes == 0 || bytes % 512 || bytes > 1ull << 60)
        return wrong(r, "is no volume, or one too many");
    for (uint32_t i = 0; i < s->volume_count; i++) {
        if (memcmp(s->volume[i].name, text, sizeof(text)) == 0)
            return wrong(r, "names a volume twice");
    }
    memcpy(s->volume[s->volume_count].name, text, sizeof(text));
    s->volume[s->volume_count++].bytes = bytes;
    return 0;
}

static int read_piece(struct reader *r, struct hk_seed *s)
{
    uint32_t v = hk_seed_volume_of(s, s->done);
    struct hk_seed_piece *p = &s->piece[s->done];
    uint64_t volume, index;

    if (r->words != 3 || !number(r->word[0], &volume) || !number(r->word[1], &index) ||
        volume != v || index != s->done - s->volume[v].first_piece)
        return wrong(r, "is not the piece that comes next");
    p->zero = strcmp(r->word[2], "zero") == 0;
    if (!p->zero && !hash_word(r->word[2], p->hash))
        return wrong(r, "has no hash");
    s->done++;
    return 0;
}

/* Volumes, then pieces: the line that is no volume any more is the first piece. */
static int read_body(struct reader *r, struct hk_seed *s, bool partial)
{
    int rc;

    while ((rc = next_line(r)) == 0 && strcmp(r->word[0], "volume") == 0) {
        rc = read_volume(r, s);
        if (rc)
            return rc;
        s->text_bytes = (uint64_t)(r->at - r->text);
    }
    if (rc && (rc != -ENODATA || !partial))
        return rc == -ENODATA ? wrong(r, "ends among the volumes: the manifest is cut off") : rc;
    if (hk_seed_count(s))
        return wrong(r, "has volumes and pieces of sizes that can't be");
    /* Memory for no more than the text can name. */
    if (!partial && s->pieces > (uint64_t)(r->end - r->text) / PIECE_LINE_MIN)
        return wrong(r, "ends among the pieces: the manifest is cut off");
    s->piece = calloc(hk_min_u64(s->pieces, (uint64_t)(r->end - r->text) / PIECE_LINE_MIN + 1),
                      sizeof(*s->piece));
    if (!s->piece)
        return -ENOMEM;
    while (rc == 0 && s->done < s->pieces) {
        rc = read_piece(r, s);
        if (rc)
            return rc;
        s->text_bytes = (uint64_t)(r->at - r->text);
        if (s->done < s->pieces)
            rc = next_line(r);
    }
    if (rc && (rc != -ENODATA || !partial))
        return rc == -ENODATA ? wrong(r, "ends among the pieces: the manifest is cut off") : rc;
    return 0;
}

static int read_tail(struct reader *r, struct hk_seed *s)
{
    const char *before;
    uint8_t hash[16];
    struct hk_hash128 h;
    int rc = read_position(r, "end", &s->end_lsn, &s->end_ns);

    if (rc)
        return rc;
    if (s->end_lsn < s->begin_lsn)
        return wrong(r, "lies before the begin");
    before = r->at;
    rc = expect(r, "hash", 1);
    if (rc)
        return rc;
    h = hk_xxh3_128(r->text, (size_t)(before - r->text));
    if (!hash_word(r->word[1], hash))
        return wrong(r, "has no hash");
    for (int i = 0; i < 8; i++) {
        if (hash[i] != (uint8_t)(h.hi >> (56 - 8 * i)) ||
            hash[8 + i] != (uint8_t)(h.lo >> (56 - 8 * i)))
            return wrong(r, "is not the hash of what stands before it: something was changed");
    }
    return r->at == r->end ? 0 : wrong(r, "is not the last line");
}

int hk_seed_parse(const char *text, size_t bytes, bool partial, struct hk_seed *ret_seed,
                  struct hk_seed_fault *fault)
{
    struct reader r = {.text = text, .end = text + bytes, .at = text, .fault = fault};
    struct hk_seed *s = calloc(1, sizeof(*s));
    int rc = s ? read_head(&r, s) : -ENOMEM;

    if (!rc)
        rc = read_body(&r, s, partial);
    if (!rc && !partial)
        rc = read_tail(&r, s);
    if (rc)
        hk_seed_free(s);
    else
        *ret_seed = *s;
    free(s);
    return rc;
}

void hk_seed_free(struct hk_seed *s)
{
    if (s)
        free(s->piece);
    if (s)
        s->piece = NULL;
}
